//! No more payments at once than the operator allows.

use super::world::{Ask, World};
use crate::protocol::refusal::Code;

#[tokio::test(start_paused = true)]
async fn beyond_the_limit_nothing_is_claimed_or_sent() {
    let world = World::build(1, 1, |_| {}).await;
    let (one, two) = (world.pay(Ask::get("/paid?1")).await, world.pay(Ask::get("/paid?2")).await);
    let bell = world.upstream.wait();
    let first = world.spawn(&one.ask());
    world.until("forwarded", async || world.upstream.count() == 1).await;
    let got = world.send(&two.ask()).await;
    got.refused(Code::Overloaded);
    assert!(got.header("retry-after").is_some());
    assert!(world.record(two.txid).await.is_none());
    assert_eq!(world.chain.submits(), [one.txid]);
    bell.notify_one();
    first.await.unwrap().served(one.txid);
    world.send(&two.ask()).await.served(two.txid);
    // Every end gives its place back.
    for _ in 0..3 {
        world.send(&two.ask()).await.served(two.txid);
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_another_flight_needs_no_place() {
    let world = World::build(1, 1, |_| {}).await;
    let payment = world.pay(Ask::get("/paid")).await;
    let asks: Vec<_> = (0..5).map(|_| world.spawn(&payment.ask())).collect();
    for ask in asks {
        ask.await.unwrap().served(payment.txid);
    }
}
