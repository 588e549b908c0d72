//! The story of a channel: one deposit, many metered requests, claims, a top-up, a refund. Every claim that is printed is
//! checked first; after every event client, gateway and node must agree about the escrow.

use crate::{
    buyer::amount,
    channel_buyer::{ChannelBuyer, Purchase},
    channel_ledger::{ChannelLedger, plus},
    channel_traffic::Traffic,
    node::Node,
    parts::Failure,
    shop::{self, CEILING, Shop, UNIT},
    show::Screen,
    weather::Weather,
};
use http::StatusCode;
use kas402::{
    client::{channel::Want, wallet::Wallet},
    gateway::channel::report::{ChannelView, MoveView},
    protocol::{amount::Amount, ids::ChannelId, limits::DAA_PER_SECOND},
};
use std::time::Instant;

const DEPOSIT: &str = "10 KAS";
const ADDED: &str = "5 KAS";
/// The most the buyer lets lie in channels.
pub const MOST: &str = "20 KAS";
const REQUESTS: u64 = 1_000;
/// Between claims.
const SOME_REQUESTS: u64 = 25;
/// Characters of a channel's id that are enough to name it.
const SHORT: usize = 12;

/// Everybody in it.
pub struct ChannelStory<'a> {
    pub screen: &'a Screen,
    pub node: &'a Node,
    pub shop: &'a Shop,
    pub weather: &'a mut Weather,
    pub buyer: &'a ChannelBuyer,
    pub wallet: &'a Wallet,
    pub seller: &'a Wallet,
}

impl ChannelStory<'_> {
    pub async fn tell(&mut self) -> Result<(), Failure> {
        let mut ledger = ChannelLedger::begin(self.balances().await?);
        let id = self.open(&mut ledger).await?;
        self.use_it(&id, &mut ledger).await?;
        self.claim(&id, &mut ledger).await?;
        self.go_on(&id, &mut ledger).await?;
        self.top_up(&id, &mut ledger).await?;
        self.refund(&id, &mut ledger).await?;
        let ending = self.ending(&id, &ledger).await?;
        ledger.show(self.screen, &ending);
        ledger.check(&ending).map_err(|wrong| Failure::new("ledger of the channel", format!("it does not add up: {wrong}")))
    }

    async fn open(&mut self, ledger: &mut ChannelLedger) -> Result<ChannelId, Failure> {
        self.screen.step(6, "A channel: one deposit for many small requests");
        self.asked("Berlin");
        let want = Want::Open { deposit: amount(DEPOSIT)?, another: false };
        let (purchase, call) = self.traffic().buy("Berlin", want, ledger).await?;
        let Purchase { charge, steps, began, ended, .. } = &purchase;
        let (Some(offered), Some(signed), Some(fee)) = (steps.offered, steps.signed, steps.opening) else {
            return Err(self.wrong("the channel was not opened by this request"));
        };
        ledger.client_fees = plus(ledger.client_fees, fee);
        let id = charge.channel;
        self.agree(&id, "deposit", ledger).await?;
        let config = &charge.after.config;
        let left = self.buyer.standing(&id)?.left.ok_or_else(|| self.wrong("the buyer's node does not tell the time"))?;
        self.screen.fact("offer", format!("at most {CEILING} a request; its answer says how much: {UNIT} for one of /usage/units"));
        self.screen.fact("deposit", format!("{DEPOSIT}, and {} to the network", fee.to_kas()));
        self.screen.fact("channel", id.to_string());
        self.screen.fact("escrow", charge.after.script().address().to_string());
        self.screen.fact("refund", format!("after DAA score {}, in {} s", config.refund_timeout_daa, left.time.as_secs()));
        self.answered(&purchase);
        self.screen.millis(offered - *began, "the offer");
        self.screen.millis(signed - offered, "coins chosen, deposit and voucher signed, in the journal");
        self.screen.millis(call.at - signed, "sent, accepted by the network, confirmed, booked");
        self.screen.millis(*ended - call.at, "answered, metered, charged");
        self.screen.total(*ended - *began, "in all");
        Ok(id)
    }

    async fn use_it(&mut self, id: &ChannelId, ledger: &mut ChannelLedger) -> Result<(), Failure> {
        self.screen.step(7, "A thousand metered requests, and nothing on chain");
        self.asked("{city}");
        let before = self.shop.channel(id).await?.outpoint;
        let sums = self.traffic().run(REQUESTS, true, ledger).await?;
        if self.agree(id, "requests", ledger).await?.outpoint != before {
            return Err(self.wrong("the escrow moved meanwhile"));
        }
        sums.show(self.screen)
    }

    async fn claim(&mut self, id: &ChannelId, ledger: &mut ChannelLedger) -> Result<(), Failure> {
        self.screen.step(8, "The gateway claims what it is owed, all at once");
        let short = &id.to_string()[..SHORT];
        self.buyer.watch(id)?;
        let (owed, [_, seller]) = (self.shop.channel(id).await?.unclaimed, self.balances().await?);
        self.screen.request(&format!("kas402 claim {short}"));
        let began = Instant::now();
        let printed = self.shop.operate(&["claim", short]).await?;
        self.screen.quoted(printed.trim_end());
        let (step, view) = self.moved(id, ledger).await?;
        let took = began.elapsed();
        let payout = self.balances().await?[1].checked_sub(seller);
        if !printed.contains(&step.txid.to_string()) || step.takes != owed || payout != owed.checked_sub(step.fee) {
            return Err(self.wrong(format!("the claim is not what was owed, {owed} sompi: {step:?}, paid out {payout:?}")));
        }
        self.on_chain(id, &view).await?;
        self.claimed(&step, &view);
        self.screen.total(took, "until it is accepted by the network");
        Ok(())
    }

    async fn go_on(&mut self, id: &ChannelId, ledger: &mut ChannelLedger) -> Result<(), Failure> {
        self.screen.step(9, "The client goes on, over the continuation");
        self.asked("Berlin");
        let (purchase, _) = self.traffic().buy("Berlin", Want::Pay, ledger).await?;
        let (Some(code), Some(moved)) = (purchase.steps.corrected, &purchase.steps.moved) else {
            return Err(self.wrong("the client was not told that the escrow moved"));
        };
        let refused = purchase.sent.iter().find(|sent| sent.status == Some(StatusCode::PAYMENT_REQUIRED) && sent.paid);
        let refused = refused.ok_or_else(|| self.wrong("a voucher of the spent outpoint was not refused"))?;
        self.screen.answer(StatusCode::PAYMENT_REQUIRED, refused.took);
        self.agree(id, "claim", ledger).await?;
        self.screen.fact("code", code.as_str());
        self.screen.fact("the chain", format!("by the client's own node: {moved}"));
        self.screen.fact("", "no more than is owed by its own books, so a voucher for the new outpoint is signed");
        self.answered(&purchase);
        let sums = self.traffic().run(SOME_REQUESTS, false, ledger).await?;
        self.screen.note(&format!("and {SOME_REQUESTS} requests more, {}", sums.charged().to_kas()));
        self.agree(id, "continuation", ledger).await?;
        Ok(())
    }

    async fn top_up(&mut self, id: &ChannelId, ledger: &mut ChannelLedger) -> Result<(), Failure> {
        self.screen.step(10, "The client tops up");
        self.asked("Berlin");
        let owed = self.shop.channel(id).await?.unclaimed;
        let (purchase, call) = self.traffic().buy("Berlin", Want::TopUp(amount(ADDED)?), ledger).await?;
        let Purchase { steps, began, ended, .. } = &purchase;
        let (Some(signed), Some(added), Some((coin, fee))) = (steps.signed, steps.adding, steps.coin) else {
            return Err(self.wrong("this request topped nothing up"));
        };
        // What the coin's weight costs, and the coin itself.
        let weight = coin.checked_sub(added).ok_or_else(|| self.wrong("more was added than the coin brought"))?;
        ledger.client_fees = plus(ledger.client_fees, plus(weight, fee));
        let (step, view) = self.moved(id, ledger).await?;
        if step.added != added || step.takes != owed {
            return Err(self.wrong(format!("the top-up is not of {added} sompi, or did not settle {owed}: {step:?}")));
        }
        self.agree(id, "top-up", ledger).await?;
        self.screen.fact("transaction", step.txid.to_string());
        self.screen
            .fact("settles", format!("{}: {} for the seller, {} to the network", step.takes.to_kas(), paid_out(&step), step.fee.to_kas()));
        self.screen.fact("adds", format!("{}, and {} to the network", added.to_kas(), plus(weight, fee).to_kas()));
        self.screen.fact("escrow", format!("{} at {}", view.funding.to_kas(), view.outpoint));
        self.answered(&purchase);
        self.screen.millis(signed - *began, "a coin of that size made and ripe; top-up and voucher signed, in the journal");
        self.screen.millis(call.at - signed, "countersigned, sent, accepted by the network, confirmed, booked");
        self.screen.total(*ended - *began, "in all");
        let sums = self.traffic().run(SOME_REQUESTS, false, ledger).await?;
        self.screen.note(&format!("and {SOME_REQUESTS} requests more, {}", sums.charged().to_kas()));
        Ok(())
    }

    async fn refund(&mut self, id: &ChannelId, ledger: &mut ChannelLedger) -> Result<(), Failure> {
        self.screen.step(11, "The timeout: a last claim, then the client takes the rest back");
        let Err(early) = self.buyer.refund(id).await? else { return Err(self.wrong("the refund was possible before the timeout")) };
        let seconds = early.left_daa.div_ceil(DAA_PER_SECOND);
        self.screen.fact("too early", format!("the refund is for blocks after DAA score {}, in {seconds} s", early.timeout_daa));
        self.buyer.watch(id)?;
        let window = early.timeout_daa.saturating_sub(shop::CLAIM_BEFORE_SECONDS * DAA_PER_SECOND);
        self.mine_to(window, "the refund comes near").await?;
        let owed = self.shop.channel(id).await?;
        let (step, view) = self.moved(id, ledger).await?;
        self.screen.fact("last claim", format!("by the gateway itself, {} s before the refund", shop::CLAIM_BEFORE_SECONDS));
        self.claimed(&step, &view);
        if !view.unclaimed.is_zero() || view.claimed != view.charged || view.charged != owed.charged {
            return Err(self.wrong(format!("something is not claimed: {view:?}")));
        }
        // The client learns of a claim by its next request, or when it looks.
        self.buyer.look(id).await?;
        self.agree(id, "last claim", ledger).await?;

        self.mine_to(early.timeout_daa + 1, "it is time").await?;
        let [before, _] = self.balances().await?;
        let began = Instant::now();
        let refunded = self.take_back(id).await?;
        let took = began.elapsed();
        let [after, _] = self.balances().await?;
        if after.checked_sub(before) != Some(refunded.amount) || view.funding != plus(refunded.amount, refunded.fee) {
            return Err(self.wrong(format!("the rest of {} sompi did not come back: {refunded:?}", view.funding)));
        }
        ledger.client_fees = plus(ledger.client_fees, refunded.fee);
        self.shop.channel_once(id, "the gateway did not see the refund", |view| view.closure.is_some()).await?;
        self.agree(id, "refund", ledger).await?;
        self.screen.fact("refund", format!("{}, and {} to the network", refunded.amount.to_kas(), refunded.fee.to_kas()));
        self.screen.fact("transaction", refunded.txid.to_string());
        self.screen.total(took, "signed, in the journal, sent, accepted by the network");
        Ok(())
    }

    fn traffic(&mut self) -> Traffic<'_> {
        Traffic { screen: self.screen, shop: self.shop, weather: self.weather, buyer: self.buyer }
    }

    fn asked(&self, city: &str) {
        self.screen.request(&format!("GET {}/v1/forecast/{city}", self.shop.origin));
    }

    fn answered(&self, purchase: &Purchase) {
        self.screen.answer(purchase.reply.status, purchase.ended - purchase.began);
        self.screen.line(format!("      {}", String::from_utf8_lossy(&purchase.reply.body)));
        self.screen.fact("charged", format!("{} of at most {}", purchase.amount.to_kas(), purchase.charge.ceiling.to_kas()));
    }

    fn claimed(&self, step: &MoveView, view: &ChannelView) {
        self.screen.fact("transaction", step.txid.to_string());
        self.screen
            .fact("takes", format!("{}: {} for the seller, {} to the network", step.takes.to_kas(), paid_out(step), step.fee.to_kas()));
        self.screen.fact("goes on", format!("{} at {}", view.funding.to_kas(), view.outpoint));
    }

    pub fn wrong(&self, what: impl ToString) -> Failure {
        self.shop.failure(what)
    }
}

fn paid_out(step: &MoveView) -> String {
    step.takes.checked_sub(step.fee).map_or("nothing".to_owned(), Amount::to_kas)
}
