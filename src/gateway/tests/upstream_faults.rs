//! Paid, and the upstream fails: the receipt is sent and the payment stays good for its request.

use super::{
    fakes::{Script, answer},
    world::{Ask, OFFER_SECONDS, PRICE, World},
};
use crate::{
    gateway::upstream::UpstreamFailure,
    protocol::{limits::ENTITLEMENT_SECONDS, policy::ChargeOn, refusal::Code},
};

async fn later(script: Script, status: u16) {
    let world = World::new().await;
    world.upstream.play([script]);
    let payment = world.pay(Ask::get("/paid")).await;
    let got = world.send(&payment.ask()).await;
    assert_eq!(got.status(), status);
    got.receipted(payment.txid);
    assert!(got.offers().is_none());
    assert_eq!(world.totals().await.owed_sompi, u128::from(PRICE), "owed to the payer");
    world.skip(OFFER_SECONDS * 10);
    let key = world.upstream.take().headers["idempotency-key"].clone();
    world.send(&payment.ask()).await.served(payment.txid);
    assert_eq!(world.upstream.take().headers["idempotency-key"], key);
    let totals = world.totals().await;
    assert_eq!((totals.charged_sompi, totals.owed_sompi, world.chain.submits().len()), (u128::from(PRICE), 0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_failed_upstream_costs_the_payer_nothing_more() {
    later(Script::Fail(UpstreamFailure::Connect), 502).await;
    later(Script::Fail(UpstreamFailure::Broken), 502).await;
    later(Script::Fail(UpstreamFailure::Timeout), 504).await;
    later(answer(500, "oops"), 500).await;
    later(answer(503, "later"), 503).await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_says_when_to_come_back() {
    let world = World::new().await;
    world.upstream.play([Script::Fail(UpstreamFailure::Connect)]);
    let payment = world.pay(Ask::get("/paid")).await;
    assert_eq!(world.send(&payment.ask()).await.header("retry-after"), Some("1"));
}

#[tokio::test(start_paused = true)]
async fn what_counts_as_delivered_is_the_routes_choice() {
    for (charge_on, status, delivered) in [
        (ChargeOn::Below500, 404, true),
        (ChargeOn::Below500, 500, false),
        (ChargeOn::Success, 404, false),
        (ChargeOn::Success, 204, true),
        (ChargeOn::Any, 500, true),
    ] {
        let world = World::with(move |pricing| pricing.charge_on = charge_on).await;
        world.upstream.play([answer(status, "")]);
        let payment = world.pay(Ask::get("/paid")).await;
        let got = world.send(&payment.ask()).await;
        assert_eq!(got.status(), status);
        got.receipted(payment.txid);
        assert_eq!(world.totals().await.delivered == 1, delivered, "{charge_on:?} {status}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_entitlement_ends_and_is_told_by_its_receipt() {
    let world = World::new().await;
    world.upstream.play([answer(500, "")]);
    let payment = world.pay(Ask::get("/paid")).await;
    world.send(&payment.ask()).await;
    world.skip(ENTITLEMENT_SECONDS + 1);
    let got = world.send(&payment.ask()).await;
    assert_eq!((got.status(), world.upstream.count()), (410, 1));
    got.receipted(payment.txid);
    assert!(got.offers().is_none());
    assert_eq!(world.totals().await.owed_sompi, u128::from(PRICE), "listed as a liability");
}

#[tokio::test(start_paused = true)]
async fn who_left_before_the_forward_is_not_forwarded() {
    let world = World::new().await;
    world.chain.accept_at_once(false);
    let payment = world.pay(Ask::get("/paid")).await;
    let asked = world.spawn(&payment.ask());
    world.until_submitted(1).await;
    asked.abort();
    let _ = asked.await;
    world.chain.accept(payment.txid);
    world.until("settled", async || world.totals().await.settled == 1).await;
    world.send(&payment.ask()).await.served(payment.txid);
    assert_eq!((world.upstream.count(), world.totals().await.charged_sompi), (1, u128::from(PRICE)));
}

#[tokio::test(start_paused = true)]
async fn who_left_after_the_forward_finds_the_response_stored() {
    let world = World::new().await;
    let payment = world.pay(Ask::get("/paid")).await;
    let bell = world.upstream.wait();
    let asked = world.spawn(&payment.ask());
    world.until("forwarded", async || world.upstream.count() == 1).await;
    asked.abort();
    bell.notify_one();
    world.until("recorded", async || world.totals().await.delivered == 1).await;
    let got = world.send(&payment.ask()).await;
    got.served(payment.txid);
    assert_eq!((&got.answer.body[..], world.upstream.count()), (&b"served 1"[..], 1));
}

#[tokio::test(start_paused = true)]
async fn the_same_request_in_flight_is_told_to_wait() {
    let world = World::new().await;
    let payment = world.pay(Ask::get("/paid")).await;
    let bell = world.upstream.wait();
    let (one, two) = (world.spawn(&payment.ask()), world.spawn(&payment.ask()));
    let (one, two) = (async { one.await.unwrap() }, async { two.await.unwrap() });
    tokio::pin!(one, two);
    let (first, leader_waits) = tokio::select! {
        got = &mut one => (got, false),
        got = &mut two => (got, true),
    };
    first.refused(Code::InFlight);
    assert!(first.header("retry-after").is_some());
    bell.notify_one();
    if leader_waits { one.await } else { two.await }.served(payment.txid);
}
