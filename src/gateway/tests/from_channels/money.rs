//! What a channel is charged, and what sending things twice does.

use super::buyer::{CEILING, DEPOSIT, ask, batch_of, opened, parts};
use crate::{
    gateway::{
        tests::{
            fakes::{Script, answer},
            shop::from_channels,
            world::{Ask, HOLD, World},
        },
        upstream::UpstreamFailure,
    },
    protocol::{charge::ChargeRule, refusal::Code},
    store::channels::ChannelStore as _,
};

#[tokio::test(start_paused = true)]
async fn a_channel_opens_with_its_first_request_and_pays_the_next_ones() {
    let (world, mut channel) = opened().await;
    for number in 2..=5 {
        let got = world.buy(&mut channel, &ask()).await;
        assert_eq!(got.answer.body, format!("served {number}"));
        assert_eq!(channel.charged, number * CEILING);
    }
    let record = channel.record(&world).await;
    assert_eq!((parts(record.parts.charged), parts(record.parts.signed), record.charges), (5 * CEILING, 5 * CEILING, 5));
    assert_eq!(parts(record.parts.funding), DEPOSIT);
    let totals = world.store.channel_totals().await.unwrap();
    assert_eq!(
        (totals.open, totals.charges, totals.charged_sompi, totals.active_sompi),
        (1, 5, 5 * u128::from(CEILING), 5 * u128::from(CEILING))
    );
    assert_eq!(world.gateway.channels.exposure.total(), 5 * u128::from(CEILING));
}

#[tokio::test(start_paused = true)]
async fn the_same_payment_twice_is_one_charge_and_one_upstream_call() {
    let (world, mut channel) = opened().await;
    let paying = world.voucher(&channel, &ask()).await;
    let first = world.send(&paying.ask()).await;
    channel.served(&first);
    let again = world.send(&paying.ask()).await;
    assert_eq!((again.status(), &again.answer.body), (200, &first.answer.body));
    assert_eq!(again.receipt().unwrap()["transaction"], first.receipt().unwrap()["transaction"]);
    assert_eq!(world.upstream.count(), 2);
    assert_eq!(parts(channel.record(&world).await.parts.charged), 2 * CEILING);
    // Long after its offer is over, too.
    world.skip(3_600);
    assert_eq!(world.send(&paying.ask()).await.answer.body, first.answer.body);

    world.send(&paying.clone().named("another-identifier").ask()).await.refused(Code::OfferReused);
    let other = world.voucher(&channel, &Ask::get("/other")).await;
    world.send(&other.named(paying.identifier.as_deref().unwrap()).ask()).await.refused(Code::IdentifierReused);
    assert_eq!(world.upstream.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_deposit_that_is_sent_again_gets_the_same_answer() {
    let world = World::channels(CEILING, ChargeRule::Fixed).await;
    let mut channel = world.channel(&ask(), 1, DEPOSIT).await;
    let paying = world.deposit(&channel, &ask()).await;
    let first = world.send(&paying.ask()).await;
    channel.served(&first);
    assert_eq!(first.receipt().unwrap()["extensions"]["kaspa"]["fundingAmount"], DEPOSIT.to_string());
    let again = world.send(&paying.ask()).await;
    assert_eq!((again.status(), &again.answer.body), (200, &first.answer.body));
    assert_eq!((world.upstream.count(), channel.record(&world).await.charges), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_same_payment_at_once_waits_for_the_first() {
    let (world, channel) = opened().await;
    let bell = world.upstream.wait();
    let paying = world.voucher(&channel, &ask()).await.ask();
    let requests: Vec<_> = (0..8).map(|_| world.spawn(&paying)).collect();
    world.until("upstream", async || world.upstream.count() == 2).await;
    bell.notify_one();
    for request in requests {
        assert_eq!(request.await.unwrap().answer.body, "served 2");
    }
    assert_eq!((world.upstream.count(), channel.record(&world).await.charges), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_channel_is_served_in_order_and_others_beside_it() {
    let (world, channel) = opened().await;
    let mut neighbour = world.open(&ask(), 2).await;
    let bell = world.upstream.wait();
    let slow = world.spawn(&world.voucher(&channel, &ask()).await.ask());
    world.until("upstream", async || world.upstream.count() == 3).await;
    let busy = world.send(&world.voucher(&channel, &ask()).await.ask()).await;
    busy.refused(Code::ChannelBusy);
    assert!(busy.header("retry-after").is_some());
    assert_eq!(batch_of(&busy)["extra"]["channelState"]["chargedCumulativeAmount"], CEILING.to_string());
    world.buy(&mut neighbour, &ask()).await;
    bell.notify_one();
    assert_eq!(slow.await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn an_upstream_failure_costs_nothing_and_leaves_the_voucher_good() {
    let (world, mut channel) = opened().await;
    for (script, status) in [
        (Script::Fail(UpstreamFailure::Connect), 502),
        (Script::Fail(UpstreamFailure::Broken), 502),
        (Script::Fail(UpstreamFailure::Timeout), 504),
        (answer(500, "sorry"), 500),
    ] {
        world.upstream.play([script]);
        let paying = world.voucher(&channel, &ask()).await;
        let got = world.send(&paying.ask()).await;
        assert_eq!(got.status(), status);
        let receipt = got.receipt().unwrap();
        assert_eq!((&receipt["success"], &receipt["extensions"]["kaspa"]["chargedAmount"]), (&false.into(), &"0".into()), "{receipt}");
        assert!(got.offers().is_none());
        let record = channel.record(&world).await;
        assert_eq!((parts(record.parts.charged), parts(record.parts.signed)), (channel.charged, channel.signed));
        // The very same header is served as soon as the upstream works.
        channel.served(&world.send(&paying.ask()).await);
        let charged = channel.charged;
        assert_eq!(world.gateway.channels.exposure.total(), u128::from(charged));
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_upstream_keeps_its_lease_and_a_lost_lease_commits_nothing() {
    let (world, mut channel) = opened().await;
    let bell = world.upstream.wait();
    let slow = world.spawn(&world.voucher(&channel, &ask()).await.ask());
    world.until("upstream", async || world.upstream.count() == 2).await;
    // Longer than a hold: renewed all the time.
    tokio::time::sleep(HOLD * 3).await; // why: the paused clock moves only so
    world.send(&world.voucher(&channel, &ask()).await.ask()).await.refused(Code::ChannelBusy);
    bell.notify_one();
    channel.served(&slow.await.unwrap());

    let bell = world.upstream.wait();
    let lost = world.spawn(&world.voucher(&channel, &ask()).await.ask());
    world.until("upstream", async || world.upstream.count() == 3).await;
    world.store.down(true);
    let got = lost.await.unwrap();
    got.refused(Code::LeaseLost);
    world.store.down(false);
    bell.notify_one();
    tokio::time::sleep(HOLD).await; // why: the lease expires by the paused clock
    let record = channel.record(&world).await;
    assert_eq!((record.charges, parts(record.parts.charged)), (2, 2 * CEILING));
    world.buy(&mut channel, &ask()).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_charged_is_never_offered_again_whatever_is_wrong_with_the_header_now() {
    let (world, mut channel) = opened().await;
    let paying = world.voucher(&channel, &ask()).await;
    channel.served(&world.send(&paying.ask()).await);
    // The key of its offer is retired; its channel has another outpoint than it names.
    world.reload(|pricing| from_channels(pricing, CEILING, ChargeRule::Fixed), &[("b", 8, None)]);
    world.send(&paying.ask()).await.refused(Code::Replay);
    let fresh = paying.clone().named(&super::buyer::new_identifier());
    world.send(&fresh.ask()).await.refused(Code::OfferKeyUnknown);
    assert_eq!(world.upstream.count(), 2);
}
