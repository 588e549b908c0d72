//! Several gateways on one store: what one leaves behind, another takes up, and what one has, nobody else touches.

use super::{
    fakes::live,
    from_channels::buyer::{CEILING, ask, parts},
    world::{Ask, FINAL_DEPTH, HOLD, World, sompi},
};
use crate::{
    chain::sim::SimChain,
    gateway::channel::claim::{Unclaimed, Wanted},
    protocol::{
        charge::{ChargeRule, Meter, MeterSource, OnUnknown, UnitPrice},
        network::Network,
        refusal::Code,
    },
    store::channels::Phase,
};
use bytes::Bytes;
use std::time::Duration;

/// Two rounds: the first may have begun a moment too early.
const ROUNDS: Duration = HOLD.saturating_mul(12);

/// A shop, and another gateway on its store.
async fn pair() -> (World, World) {
    let one = World::new().await;
    let other = one.sibling(SimChain::new(Network::Simnet)).await;
    (one, other)
}

#[tokio::test(start_paused = true)]
async fn a_payment_of_a_dead_gateway_is_followed_and_sent_again_by_another() {
    let (mut one, other) = pair().await;
    one.chain.accept_at_once(false);
    let payment = one.pay(Ask::get("/paid")).await;
    one.send(&payment.ask()).await.pending(Code::SettlementPending, payment.txid);
    one.die();
    assert_eq!(other.chain.followed(), 0, "begun after its start");
    other.pass(ROUNDS).await;
    assert_eq!(other.chain.followed(), 1);
    // The network forgot it with the dead gateway's node.
    other.chain.down("disconnected");
    other.chain.up();
    assert_eq!(other.chain.submits(), [payment.txid]);
    other.chain.accept(payment.txid);
    other.until("noted", async || other.record(payment.txid).await.unwrap().acceptance.is_some()).await;
    other.send(&payment.ask()).await.served(payment.txid);
    other.chain.advance(FINAL_DEPTH);
    other.until("final", async || other.record(payment.txid).await.unwrap().is_final).await;
    assert_eq!((one.upstream.count(), other.upstream.count()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_payment_that_perhaps_was_never_sent_is_not_sent_by_another() {
    let (mut one, other) = pair().await;
    one.chain.hold_submits();
    let payment = one.pay(Ask::get("/paid")).await;
    let asked = one.spawn(&payment.ask());
    one.until("claimed", async || one.record(payment.txid).await.is_some()).await;
    one.die();
    asked.abort();
    other.pass(ROUNDS).await;
    other.chain.down("disconnected");
    other.chain.up();
    assert_eq!((other.chain.submits(), other.chain.followed()), (vec![], 1));
}

/// One claimer at a time: who has the channel's lease; then the claim itself keeps the other out.
#[tokio::test(start_paused = true)]
async fn of_two_gateways_that_claim_a_channel_at_once_one_builds_the_claim() {
    let one = World::channels(CEILING, ChargeRule::Fixed).await;
    let other = one.sibling(one.chain.clone()).await;
    let mut channel = one.open(&ask(), 1).await;
    for _ in 0..29 {
        one.buy(&mut channel, &ask()).await;
    }
    one.chain.accept_at_once(false);
    let id = channel.id();
    let claim = |world: &World| {
        let gateway = world.gateway.clone();
        tokio::spawn(async move { gateway.claim_channel(&id, Wanted::AnyFee).await })
    };
    let claims = [claim(&one), claim(&other)];
    let mut built = Vec::new();
    for claim in claims {
        match claim.await.unwrap() {
            Ok(claim) => built.push(claim.txid),
            Err(refused) => assert!(matches!(refused, Unclaimed::Busy | Unclaimed::Sent(_)), "{refused}"),
        }
    }
    let moves: Vec<_> = channel.record(&one).await.moves.iter().map(|step| step.txid).collect();
    assert_eq!((built.len(), &moves), (1, &built));
    one.chain.accept(built[0]);
    other.until("claimed", async || parts(channel.record(&other).await.parts.claimed) == channel.charged).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_a_dead_gateway_is_posted_by_another_and_a_running_one_is_not() {
    let meter = Meter {
        source: MeterSource::Json("/tokens".into()),
        price: UnitPrice { price: sompi(100), units: 1 },
        floor: sompi(1_000),
        on_unknown: OnUnknown::Ceiling,
    };
    let mut one = World::channels(CEILING, ChargeRule::Metered(meter)).await;
    // Of one network: the other one sees the same deposit.
    let other = one.sibling(one.chain.clone()).await;
    let channel = one.open(&ask(), 1).await;
    let (events, script) = live("text/event-stream");
    one.upstream.play([script]);
    let request = one.spawn(&one.voucher(&channel, &ask()).await.ask());
    events.send(Ok(Bytes::from_static(b"data: hello\n\n"))).await.unwrap();
    let mut got = request.await.unwrap();
    let mut stream = got.stream.take().unwrap();
    stream.recv().await.unwrap();
    other.pass(ROUNDS).await;
    let running = channel.record(&other).await;
    assert_eq!((running.phase(), running.charges), (Phase::Streaming, 1), "its holder renews");
    assert_eq!(other.gateway.channels.exposure.total(), u128::from(channel.charged + CEILING), "and the other counts it");
    one.die();
    other.pass(ROUNDS).await;
    let posted = channel.record(&other).await;
    assert_eq!((posted.phase(), parts(posted.parts.charged) - channel.charged), (Phase::Idle, CEILING));
    drop((events, stream));
}
