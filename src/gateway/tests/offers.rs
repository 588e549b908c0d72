//! Where, when and for what an offer is good (PROTOCOL section 3).

use super::{
    fakes::{Fault, Verb},
    pay::{Payment, new_coin},
    world::{Ask, DEAR, FINAL_DEPTH, OFFER_SECONDS, PRICE, World, sompi},
};
use crate::protocol::{limits::OFFER_CLOCK_GRACE_SECONDS, price::PriceRule, refusal::Code};
use http::Method;

/// The payment for one request is sent with another.
async fn moved(world: &World, payment: Payment, request: Ask) -> (super::world::Got, Payment) {
    let Payment { accepted, signed, .. } = payment;
    let payment = world.present(request, accepted, signed, &world.payer);
    (world.send(&payment.ask()).await, payment)
}

#[tokio::test(start_paused = true)]
async fn an_offer_is_good_on_its_route_host_and_store_only() {
    let world = World::new().await;
    for (from, to, code) in [
        (Ask::get("/paid"), Ask::get("/other"), Code::OfferOtherRoute),
        (Ask::get("/paid"), Ask::get("/paid").on("elsewhere.example"), Code::OfferOtherRoute),
        (Ask::get("/paid").on("elsewhere.example"), Ask::get("/paid"), Code::OfferOtherRoute),
    ] {
        let payment = world.pay(from).await;
        moved(&world, payment, to).await.0.refused(code);
    }
    let abroad = World::build(2, 10, |_| {}).await;
    let payment = abroad.pay(Ask::get("/paid")).await;
    moved(&world, payment, Ask::get("/paid")).await.0.refused(Code::OfferNotOurs);
    assert_eq!(world.chain.submits().len(), 0);
    // A query that sets no price does not bind an offer; the request hash does.
    let payment = world.pay(Ask::get("/paid")).await;
    let (got, payment) = moved(&world, payment, Ask::get("/paid?x=1")).await;
    got.served(payment.txid);
}

#[tokio::test(start_paused = true)]
async fn a_cheap_quote_never_buys_a_dear_request() {
    let world = World::new().await;
    let chat = |model: &str| Ask::post("/chat", &format!(r#"{{"model":"{model}"}}"#));
    let header = |model: &str| Ask::get("/header").with("x-model", model);
    for (cheap, dear) in
        [(chat("small"), chat("large")), (header("small"), header("large")), (Ask::get("/method"), Ask::new(Method::POST, "/method"))]
    {
        let payment = world.pay(cheap.clone()).await;
        assert_eq!(payment.accepted["amount"], PRICE.to_string());
        assert_eq!(world.offer(&dear).await["amount"], DEAR.to_string());
        moved(&world, payment.clone(), dear.clone()).await.0.refused(Code::OfferOtherPrice);
        assert_eq!(world.upstream.count(), 0);
        world.send(&payment.ask()).await.served(payment.txid);
        world.upstream.take();
    }
    // The same input, written otherwise, is the same price.
    let payment = world.pay(chat("small")).await;
    let (got, payment) = moved(&world, payment, Ask::post("/chat", r#"{ "model": "small", "n": 1 }"#)).await;
    got.served(payment.txid);
}

#[tokio::test(start_paused = true)]
async fn an_offer_expires_for_what_was_never_seen() {
    let world = World::new().await;
    let (in_time, late) = (world.pay(Ask::get("/paid")).await, world.pay(Ask::get("/paid")).await);
    world.skip(OFFER_SECONDS + OFFER_CLOCK_GRACE_SECONDS);
    world.send(&in_time.ask()).await.served(in_time.txid);
    world.skip(1);
    world.send(&late.ask()).await.refused(Code::OfferExpired);
    assert!(world.record(late.txid).await.is_none());
    // A known payment never does.
    world.send(&in_time.ask()).await.served(in_time.txid);
    assert_eq!(world.upstream.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_paid_late_is_not_asked_to_pay_again() {
    for in_mempool in [true, false] {
        let world = World::new().await;
        let payment = world.pay(Ask::get("/paid")).await;
        world.chain.accept_at_once(!in_mempool);
        crate::chain::Chain::submit(&*world.chain, &payment.signed.transaction).await;
        world.skip(OFFER_SECONDS + OFFER_CLOCK_GRACE_SECONDS + 1);
        for _ in 0..2 {
            let got = world.send(&payment.ask()).await;
            got.refused(Code::PaidLate);
            assert_eq!(got.receipt().unwrap()["transaction"], payment.txid.to_string());
        }
        let record = world.record(payment.txid).await.unwrap();
        assert!(record.late && !record.charged);
        assert_eq!((world.upstream.count(), world.totals().await.pending), (0, 1), "listed as unresolved");
    }
}

/// Found by seed 6920 of the simulator: the record stayed open for ever.
#[tokio::test(start_paused = true)]
async fn who_paid_late_is_watched_to_the_end_although_the_store_failed_at_that_moment() {
    for (verb, faults) in [
        (Verb::Submitted, &[Fault::Before][..]),
        (Verb::Submitted, &[Fault::After]),
        (Verb::Submitted, &[Fault::Hang]),
        // The claim of a late payment is its second.
        (Verb::Claim, &[Fault::Good, Fault::After]),
    ] {
        let world = World::new().await;
        let payment = world.pay(Ask::get("/paid")).await;
        crate::chain::Chain::submit(&*world.chain, &payment.signed.transaction).await;
        world.skip(OFFER_SECONDS + OFFER_CLOCK_GRACE_SECONDS + 1);
        faults.iter().for_each(|fault| world.store.fail(verb, *fault));
        world.send(&payment.ask()).await.refused(Code::StoreUnavailable);
        world.send(&payment.ask()).await.refused(Code::PaidLate);
        world.until("noted", async || world.record(payment.txid).await.unwrap().acceptance.is_some()).await;
        world.chain.advance(FINAL_DEPTH);
        world.until("final", async || world.record(payment.txid).await.unwrap().is_final).await;
        assert!(world.record(payment.txid).await.unwrap().late, "{verb:?} {faults:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_pays_late_while_the_node_cannot_say_so() {
    let world = World::new().await;
    let payment = world.pay(Ask::get("/paid")).await;
    world.skip(OFFER_SECONDS + OFFER_CLOCK_GRACE_SECONDS + 1);
    world.chain.down("disconnected");
    world.send(&payment.ask()).await.refused(Code::NodeUnavailable);
    world.chain.up();
    world.send(&payment.ask()).await.refused(Code::OfferExpired);
}

#[tokio::test(start_paused = true)]
async fn offers_survive_the_rotation_of_their_key_until_it_ends() {
    let world = World::new().await;
    let end = world.now().plus_seconds(10);
    let (one, two, three) = (world.pay(Ask::get("/paid")).await, world.pay(Ask::get("/paid")).await, world.pay(Ask::get("/paid")).await);
    world.reload(|_| {}, &[("b", 8, None), ("a", 7, Some(end))]);
    world.send(&one.ask()).await.served(one.txid);
    let new = world.pay(Ask::get("/paid")).await;
    world.send(&new.ask()).await.served(new.txid);
    world.skip(11);
    world.send(&two.ask()).await.refused(Code::OfferKeyUnknown);
    world.reload(|_| {}, &[("b", 8, None)]);
    world.send(&three.ask()).await.refused(Code::OfferKeyUnknown);
    world.reload(|_| {}, &[("a", 9, None)]);
    world.send(&three.ask()).await.refused(Code::OfferNotOurs);
}

#[tokio::test(start_paused = true)]
async fn a_quote_is_honoured_after_the_price_was_changed() {
    let world = World::new().await;
    let payment = world.pay(Ask::get("/paid")).await;
    world.reload(|pricing| pricing.accepts[0].price = PriceRule::Fixed(sompi(DEAR)), &[("a", 7, None)]);
    world.send(&payment.ask()).await.served(payment.txid);
    let dear = world.pay_from(Ask::get("/paid"), new_coin()).await;
    assert_eq!(dear.accepted["amount"], DEAR.to_string());
    assert_eq!(world.totals().await.charged_sompi, u128::from(PRICE));
}
