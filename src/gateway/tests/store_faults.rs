//! The store fails at each step, before and after it took it: nothing is charged twice, nothing unpaid
//! is released, and the same header gets the resource in the end.

use super::{
    fakes::{Fault, Verb},
    world::{Ask, HOLD, PRICE, World},
};
use crate::protocol::refusal::Code;

const FAULTS: [Fault; 3] = [Fault::Before, Fault::After, Fault::Hang];

/// One fault, then the same header until it is served. Returns how often the upstream was asked.
async fn survives(verb: Verb, fault: Fault) -> usize {
    let world = World::new().await;
    let payment = world.pay(Ask::get("/paid")).await;
    world.store.fail(verb, fault);
    let mut tries = 0;
    loop {
        tries += 1;
        assert!(tries < 5, "{verb:?} {fault:?}");
        let charged = world.totals().await.charged_sompi;
        let got = world.send(&payment.ask()).await;
        let totals = world.totals().await;
        assert!(charged <= totals.charged_sompi && totals.charged_sompi <= u128::from(PRICE), "{verb:?} {fault:?}");
        assert!(world.upstream.count() == 0 || totals.charged_sompi == u128::from(PRICE), "{verb:?} {fault:?}: released unpaid");
        if got.status() == 200 {
            got.served(payment.txid);
            break;
        }
        assert_eq!(got.status(), 503, "{verb:?} {fault:?}");
        assert!(got.offers().is_none() && got.header("retry-after").is_some(), "{verb:?} {fault:?}");
        assert_eq!(got.receipt().unwrap()["transaction"], payment.txid.to_string(), "{verb:?} {fault:?}");
    }
    // Whatever was not recorded is recorded by now, or by the next presentation.
    world.skip(HOLD.as_secs() + 1);
    world.send(&payment.ask()).await.served(payment.txid);
    assert_eq!(world.totals().await.charged_sompi, u128::from(PRICE));
    assert_eq!(world.totals().await.delivered, 1);
    assert_eq!(world.chain.followed(), 1, "{verb:?} {fault:?}: followed once, by the watcher");
    world.upstream.count()
}

#[tokio::test(start_paused = true)]
async fn a_fault_before_the_forward_forwards_once() {
    for verb in [Verb::Claim, Verb::Submitted, Verb::Settled, Verb::Forwarding] {
        for fault in FAULTS {
            assert_eq!(survives(verb, fault).await, 1, "{verb:?} {fault:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_was_not_recorded_is_forwarded_at_most_once_more() {
    assert_eq!(survives(Verb::Delivered, Fault::Before).await, 2);
    assert_eq!(survives(Verb::Delivered, Fault::After).await, 1);
    assert_eq!(survives(Verb::Delivered, Fault::Hang).await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_settled_payment_that_cannot_be_forwarded_has_its_receipt() {
    for fault in [Fault::Before, Fault::After] {
        let world = World::new().await;
        world.store.fail(Verb::Forwarding, fault);
        let payment = world.pay(Ask::get("/paid")).await;
        let got = world.send(&payment.ask()).await;
        assert_eq!((got.status(), world.upstream.count()), (503, 0));
        got.receipted(payment.txid);
    }
}

#[tokio::test(start_paused = true)]
async fn a_submit_that_could_not_be_recorded_is_seen_through_all_the_same() {
    let world = World::new().await;
    world.chain.accept_at_once(false);
    world.store.fail(Verb::Submitted, Fault::Before);
    let payment = world.pay(Ask::get("/paid")).await;
    world.send(&payment.ask()).await.pending(Code::StoreUnavailable, payment.txid);
    // A retry that the node does not get does not end the watch.
    world.chain.on_submit([crate::chain::sim::OnSubmit::Answer(crate::chain::SubmitOutcome::Unavailable("lost".into()))]);
    world.send(&payment.ask()).await.refused(Code::NodeUnavailable);
    world.chain.accept(payment.txid);
    world.until("noted", async || world.record(payment.txid).await.unwrap().acceptance.is_some()).await;
}

#[tokio::test(start_paused = true)]
async fn a_hold_that_cannot_be_renewed_is_given_up_with_the_receipt() {
    let world = World::new().await;
    let payment = world.pay(Ask::get("/paid")).await;
    let bell = world.upstream.wait();
    let asked = world.spawn(&payment.ask());
    world.until("forwarded", async || world.upstream.count() == 1).await;
    world.store.down(true);
    let began = tokio::time::Instant::now();
    let got = asked.await.unwrap();
    assert_eq!(got.status(), 503);
    got.receipted(payment.txid);
    assert!(began.elapsed() <= HOLD, "given up before another may take it");
    bell.notify_one();
    world.store.down(false);
    world.skip(HOLD.as_secs());
    world.send(&payment.ask()).await.served(payment.txid);
}

#[tokio::test(start_paused = true)]
async fn one_missed_renewal_loses_nothing() {
    let world = World::new().await;
    let payment = world.pay(Ask::get("/paid")).await;
    for fault in FAULTS {
        world.store.fail(Verb::Renewed, fault);
    }
    let bell = world.upstream.wait();
    let asked = world.spawn(&payment.ask());
    world.until("forwarded", async || world.upstream.count() == 1).await;
    world.pass(HOLD / 2).await;
    bell.notify_one();
    asked.await.unwrap().served(payment.txid);
}

#[tokio::test(start_paused = true)]
async fn without_a_store_priced_routes_are_closed_and_free_ones_open() {
    let world = World::new().await;
    let payment = world.pay(Ask::get("/paid")).await;
    world.store.down(true);
    world.send(&payment.ask()).await.refused(Code::StoreUnavailable);
    world.send(&Ask::get("/paid")).await.refused(Code::StoreUnavailable);
    assert!(world.send(&Ask::get("/free")).await.free);
    assert!(world.gateway.readiness().is_err());
    world.store.down(false);
    world.send(&payment.ask()).await.served(payment.txid);
    assert!(world.gateway.readiness().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_works_again_opens_the_routes_by_itself() {
    let world = World::new().await;
    let payment = world.pay(Ask::get("/paid")).await;
    world.store.fail(Verb::Claim, Fault::Before);
    world.send(&payment.ask()).await.refused(Code::StoreUnavailable);
    world.send(&Ask::get("/paid")).await.refused(Code::StoreUnavailable);
    world.pass(HOLD).await;
    world.send(&Ask::get("/paid")).await.refused(Code::PaymentRequired);
}
