//! The story: five requests and their money. Every claim that is printed is checked first.

use crate::{
    buyer::{Bought, Buyer, get},
    ledger::Ledger,
    node::Node,
    parts::Failure,
    shop::Shop,
    show::Screen,
    weather::Weather,
};
use http::StatusCode;
use kas402::{
    client::{
        challenge::{Challenge, Offer},
        exchange::{PaidRequest, Reply},
        receipt::Receipt,
        wallet::Wallet,
    },
    protocol::{offer::OfferToken, refusal::Code},
    runtime::clock,
    wire::headers,
};

/// Everybody in it.
pub struct Story<'a> {
    pub screen: &'a Screen,
    pub node: &'a Node,
    pub shop: &'a Shop,
    pub weather: &'a mut Weather,
    pub buyer: &'a Buyer,
    pub seller: &'a Wallet,
}

impl Story<'_> {
    pub async fn tell(&mut self) -> Result<(), Failure> {
        let berlin = get(&format!("{}/v1/weather/Berlin", self.shop.origin))?;
        let lisbon = get(&format!("{}/v1/weather/Lisbon", self.shop.origin))?;
        let cities = get(&format!("{}/v1/cities", self.shop.origin))?;
        let before = (self.node.balance(&self.buyer.wallet).await?, self.node.balance(self.seller).await?);

        self.unpaid(&berlin).await?;
        let bought = self.paid(&berlin).await?;
        self.again(&berlin, &bought).await?;
        self.elsewhere(&lisbon, &bought).await?;
        self.free(&cities).await?;

        let calls: Vec<String> = self.weather.new_calls().into_iter().map(|call| call.path).collect();
        let ledger = Ledger {
            buyer: (before.0, self.node.balance(&self.buyer.wallet).await?),
            seller: (before.1, self.node.balance(self.seller).await?),
            price: bought.payment.amount,
            fee: bought.payment.fee,
            book: self.shop.book().await?,
            // The paid request reached the API in chapter 2, where it was counted.
            calls: ["/v1/weather/Berlin".to_owned()].into_iter().chain(calls).collect(),
        };
        ledger.show(self.screen);
        ledger.check().map_err(|wrong| Failure::new("ledger", format!("it does not add up: {wrong}")))
    }

    async fn unpaid(&mut self, request: &PaidRequest) -> Result<(), Failure> {
        self.screen.step(1, "A request without a payment");
        self.screen.request(&format!("GET {}", request.url()));
        let (reply, took) = self.buyer.send(request, None).await?;
        self.expect(&reply, StatusCode::PAYMENT_REQUIRED)?;
        self.screen.answer(reply.status, took);
        let header = reply.headers.get(headers::PAYMENT_REQUIRED).ok_or_else(|| self.wrong("a 402 without PAYMENT-REQUIRED"))?;
        let challenge = Challenge::read(header.as_bytes()).map_err(|error| self.wrong(error))?;
        challenge.offers.iter().for_each(|offer| self.offer(offer));
        self.nothing_called()
    }

    fn offer(&self, offer: &Offer) {
        let token = offer.accepted.pointer("/extra/offer").and_then(|token| token.as_str()).unwrap_or_default();
        let seconds = OfferToken::parse(token).map_or(0, |token| token.expiry.saturating_sub(clock::now().seconds()));
        self.screen.fact("price", offer.amount.to_kas());
        self.screen.fact("pay to", offer.pay_to.to_string());
        self.screen.fact("network", offer.network.as_str());
        self.screen.fact("finality", offer.finality.map_or("not stated", |finality| finality.as_str()));
        self.screen.fact("expires in", format!("{seconds} s"));
    }

    async fn paid(&mut self, request: &PaidRequest) -> Result<Bought, Failure> {
        self.screen.step(2, "The same request, paid by the bundled buyer");
        self.screen.request(&format!("GET {}", request.url()));
        let bought = self.buyer.buy(request).await?;
        self.expect(&bought.reply, StatusCode::OK)?;
        let calls = self.weather.new_calls();
        let [call] = calls.as_slice() else { return Err(self.wrong(format!("the API was called {} times, not once", calls.len()))) };
        let receipt = &bought.receipt;
        self.screen.answer(bought.reply.status, bought.ended - bought.began);
        self.body(&bought.reply);
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "not stated".into());
        self.screen.fact("receipt", if receipt.success { "success" } else { "failure" });
        self.screen.fact("paid", format!("{}, and {} to the network", bought.payment.amount.to_kas(), bought.payment.fee.to_kas()));
        self.screen.fact("transaction", text(&receipt.transaction));
        self.screen.fact("finality", text(&receipt.finality));
        self.screen.fact("payer", text(&receipt.payer));
        self.screen.millis(bought.offered - bought.began, "the offer");
        self.screen.millis(bought.recorded - bought.offered, "coins chosen, signed, in the journal");
        self.screen.millis(call.at - bought.recorded, "sent, accepted by the network, booked");
        self.screen.millis(bought.ended - call.at, "forwarded, answered");
        self.screen.total(bought.ended - bought.began, "in all");
        Ok(bought)
    }

    async fn again(&mut self, request: &PaidRequest, bought: &Bought) -> Result<(), Failure> {
        self.screen.step(3, "The same payment once more");
        self.screen.request(&format!("GET {}  (the header of 2)", request.url()));
        let book = self.shop.book().await?;
        let (reply, took) = self.buyer.send(request, Some(&bought.payment.header)).await?;
        self.expect(&reply, StatusCode::OK)?;
        if reply.body != bought.reply.body || receipt(&reply) != Some(bought.receipt.clone()) {
            return Err(self.wrong("the answer is not the one of the first time"));
        }
        if self.shop.book().await? != book {
            return Err(self.wrong("it was charged again"));
        }
        self.nothing_called()?;
        self.screen.answer(reply.status, took);
        self.screen.note("the stored response, byte for byte; no charge, and the API was not called");
        Ok(())
    }

    async fn elsewhere(&mut self, request: &PaidRequest, bought: &Bought) -> Result<(), Failure> {
        self.screen.step(4, "The same payment for another resource");
        self.screen.request(&format!("GET {}  (the header of 2)", request.url()));
        let (reply, took) = self.buyer.send(request, Some(&bought.payment.header)).await?;
        self.expect(&reply, StatusCode::CONFLICT)?;
        if reply.headers.contains_key(headers::PAYMENT_REQUIRED) {
            return Err(self.wrong("an offer where money has moved"));
        }
        let reason = receipt(&reply).and_then(|receipt| receipt.reason).unwrap_or_default();
        let code = Code::ALL.iter().find(|code| code.as_str() == reason).ok_or_else(|| self.wrong(format!("no known code: {reason:?}")))?;
        self.nothing_called()?;
        self.screen.answer(reply.status, took);
        self.screen.fact("code", code.as_str());
        self.screen.fact("meaning", code.meaning());
        Ok(())
    }

    async fn free(&mut self, request: &PaidRequest) -> Result<(), Failure> {
        self.screen.step(5, "A free route next to it");
        self.screen.request(&format!("GET {}", request.url()));
        let (reply, took) = self.buyer.send(request, None).await?;
        self.expect(&reply, StatusCode::OK)?;
        self.screen.answer(reply.status, took);
        self.body(&reply);
        Ok(())
    }

    fn body(&self, reply: &Reply) {
        self.screen.line(format!("      {}", String::from_utf8_lossy(&reply.body)));
    }

    fn expect(&self, reply: &Reply, status: StatusCode) -> Result<(), Failure> {
        if reply.status == status {
            return Ok(());
        }
        let reason = receipt(reply).and_then(|receipt| receipt.reason).unwrap_or_default();
        let body = String::from_utf8_lossy(&reply.body).into_owned();
        Err(self.wrong(format!("answered {} instead of {status}: {reason} {body}", reply.status)))
    }

    fn nothing_called(&mut self) -> Result<(), Failure> {
        match self.weather.new_calls().first() {
            None => Ok(()),
            Some(call) => Err(self.wrong(format!("the API was called: {}", call.path))),
        }
    }

    fn wrong(&self, what: impl ToString) -> Failure {
        self.shop.failure(what)
    }
}

fn receipt(reply: &Reply) -> Option<Receipt> {
    Receipt::read(reply.headers.get(headers::PAYMENT_RESPONSE)?.as_bytes()).ok()
}
