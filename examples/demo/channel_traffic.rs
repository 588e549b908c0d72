//! Many requests over one channel, one after another, each checked against what the API counted.

use crate::{
    buyer::{amount, get},
    channel_buyer::{ChannelBuyer, Purchase},
    channel_ledger::{ChannelLedger, plus},
    parts::Failure,
    shop::{CEILING, FLOOR, Shop, UNIT},
    show::{Screen, count, fine, per_second, seconds},
    weather::{Call, Weather},
};
use http::StatusCode;
use kas402::{client::channel::Want, protocol::amount::Amount};
use std::time::{Duration, Instant};

/// Who asks whom.
pub struct Traffic<'a> {
    pub screen: &'a Screen,
    pub shop: &'a Shop,
    pub weather: &'a mut Weather,
    pub buyer: &'a ChannelBuyer,
}

/// What many requests came to.
pub struct Sums {
    requests: u64,
    took: Duration,
    /// Of each request, as the buyer waited for it; of its last exchange alone.
    waited: Vec<Duration>,
    exchanged: Vec<Duration>,
    /// Offers that were asked for; all others came with a receipt.
    asked: u64,
    units: u64,
    charged: Amount,
}

/// The price of so many units by the configuration.
fn price(units: u64) -> Result<Amount, Failure> {
    let [unit, floor, ceiling] = [amount(UNIT)?, amount(FLOOR)?, amount(CEILING)?];
    let metered = unit.sompi().checked_mul(units).and_then(|sompi| Amount::from_sompi(sompi).ok());
    Ok(metered.map_or(ceiling, |metered| metered.clamp(floor, ceiling)))
}

impl Traffic<'_> {
    /// One request, booked.
    pub async fn buy(&mut self, city: &str, want: Want, ledger: &mut ChannelLedger) -> Result<(Purchase, Call), Failure> {
        let request = get(&format!("{}/v1/forecast/{city}", self.shop.origin))?;
        let purchase = self.buyer.buy(&request, want).await?;
        if purchase.reply.status != StatusCode::OK {
            return Err(self.shop.failure(format!(
                "answered {}: {}",
                purchase.reply.status,
                String::from_utf8_lossy(&purchase.reply.body)
            )));
        }
        let mut calls = self.weather.new_calls();
        let (Some(call), true) = (calls.pop(), calls.is_empty()) else {
            return Err(self.shop.failure(format!("the API was not called once for a request, but {} times", calls.len())));
        };
        let units = call.units.ok_or_else(|| Failure::new("weather API", "an answer without usage"))?;
        let expected = price(units)?;
        if purchase.amount != expected {
            let charged = purchase.amount;
            return Err(self.shop.failure(format!("charged {charged} sompi for {units} units, which cost {expected}")));
        }
        ledger.requests += 1;
        ledger.units += units;
        ledger.charged = plus(ledger.charged, purchase.amount);
        ledger.metered = plus(ledger.metered, expected);
        Ok((purchase, call))
    }

    /// Many of them; `shown` tells how far they are.
    pub async fn run(&mut self, requests: u64, shown: bool, ledger: &mut ChannelLedger) -> Result<Sums, Failure> {
        const CITIES: [&str; 5] = ["Berlin", "Lisbon", "Nairobi", "Osaka", "Quito"];
        let began = Instant::now();
        let (mut waited, mut exchanged, mut asked) = (Vec::new(), Vec::new(), 0);
        let (units, charged) = (ledger.units, ledger.charged);
        for (done, city) in (1..=requests).zip(CITIES.into_iter().cycle()) {
            let (purchase, _) = self.buy(city, Want::Pay, ledger).await?;
            waited.push(purchase.ended - purchase.began);
            exchanged.extend(purchase.sent.last().map(|sent| sent.took));
            asked += u64::from(purchase.sent.iter().any(|sent| !sent.paid));
            if shown && (done % 20 == 0 || done == requests) {
                self.screen.progress("requests", done, requests, began);
            }
        }
        let took = began.elapsed();
        waited.sort_unstable();
        exchanged.sort_unstable();
        let charged = ledger.charged.checked_sub(charged).expect("charges only grow");
        Ok(Sums { requests, took, waited, exchanged, asked, units: ledger.units - units, charged })
    }
}

impl Sums {
    pub fn charged(&self) -> Amount {
        self.charged
    }

    pub fn show(&self, screen: &Screen) -> Result<(), Failure> {
        let Self { requests, took, asked, units, charged, .. } = self;
        let signed = amount(CEILING)?.sompi().checked_mul(*requests).and_then(|sompi| Amount::from_sompi(sompi).ok());
        let signed = signed.ok_or_else(|| Failure::new("demo", "ceilings beyond any money"))?;
        let rate = per_second(*requests, *took);
        screen.fact("requests", format!("{} in {}: {rate}, one after another over one channel", count(*requests), seconds(*took)));
        let [median, late] = [50, 99].map(|percent| fine(at(&self.waited, percent)));
        screen.fact("latency", format!("median {median}, p99 {late}, as the buyer waits, two durable writes of its journal in it"));
        let [median, late] = [50, 99].map(|percent| fine(at(&self.exchanged, percent)));
        screen.fact("", format!("median {median}, p99 {late} of that over HTTP: gateway, its durable write, API"));
        screen.fact("offers", format!("{asked} asked for, {} came with the receipt before", count(requests - asked)));
        screen.fact("charged", format!("{} for {} units, by the receipts and by what the API counted", charged.to_kas(), count(*units)));
        screen.fact("ceilings", format!("{}: the most they could have cost, as signed for request by request", signed.to_kas()));
        Ok(())
    }
}

/// The value below which so many of a hundred lie.
fn at(sorted: &[Duration], percent: usize) -> Duration {
    let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(index).copied().unwrap_or_default()
}
