//! Clients that would be served for nothing, and strangers who would cost the gateway something.

use super::buyer::{CEILING, Channel, DEPOSIT, ask, batch_of, new_identifier, opened, parts};
use crate::{
    chain::{AcceptedInput, Chain as _, Output, sim::OnSubmit},
    gateway::{
        channel::claim::Wanted,
        tests::{
            fakes::{Fault, Verb, live},
            pay::new_coin,
            shop::{channel_rules, from_channels, payee},
            world::{FINAL_DEPTH, HOLD, World, sompi},
        },
        upstream::UpstreamFailure,
    },
    protocol::{
        charge::{ChargeRule, Meter, MeterSource, OnUnknown, UnitPrice},
        ids::Outpoint,
        policy::Exposure,
        refusal::Code,
    },
    store::{
        PaymentState,
        channels::{ChannelStore as _, Phase},
    },
};
use bytes::Bytes;
use kaspa_consensus_core::tx::ScriptPublicKey;
use std::time::Duration;
use tokio::{sync::mpsc, time::sleep};

type Events = mpsc::Sender<Result<Bytes, UpstreamFailure>>;

fn tokens() -> ChargeRule {
    let (source, price) = (MeterSource::Json("/tokens".into()), UnitPrice { price: sompi(100), units: 1 });
    ChargeRule::Metered(Meter { source, price, floor: sompi(0), on_unknown: OnUnknown::Ceiling })
}

fn event(text: &str) -> Result<Bytes, UpstreamFailure> {
    Ok(Bytes::from(format!("data: {text}\n\n")))
}

/// A channel that owes one ceiling, and a stream of its next request.
async fn streaming(rule: ChargeRule) -> (World, Channel, Events, crate::gateway::tests::world::Got) {
    let world = World::channels(CEILING, rule).await;
    let channel = world.open(&ask(), 1).await;
    let (events, script) = live("text/event-stream");
    world.upstream.play([script]);
    let request = world.spawn(&world.voucher(&channel, &ask()).await.ask());
    events.send(event("begun")).await.unwrap();
    let got = request.await.unwrap();
    (world, channel, events, got)
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_never_ends_does_not_keep_the_claim_away_until_the_refund() {
    for reads in [true, false] {
        let (world, channel, events, mut got) = streaming(tokens()).await;
        let mut stream = got.stream.take().unwrap();
        for _ in 0..if reads { 1 } else { 20 } {
            events.send(event(r#"{"tokens":40}"#)).await.unwrap();
        }
        sleep(Duration::from_millis(10)).await; // why: the paused clock lets everything run that can
        let tip = world.gateway.chain().tip().borrow().daa_score;
        let last_call = channel.config.refund_timeout_daa - channel_rules().refund_lead_daa / 2;
        world.chain.advance(last_call - tip - 1);
        sleep(Duration::from_millis(10)).await; // why: as above
        assert_eq!(channel.record(&world).await.phase(), Phase::Streaming);
        world.chain.advance(1);
        sleep(Duration::from_millis(10)).await; // why: as above
        let record = channel.record(&world).await;
        assert_eq!((record.phase(), parts(record.parts.charged) - channel.charged), (Phase::Idle, 4_000), "reads: {reads}");
        while stream.recv().await.is_some() {}
        drop(events);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_makes_the_api_give_up_by_reading_slowly_pays() {
    for (waits, charge) in [(Duration::from_secs(1), 0), (Duration::from_secs(6), CEILING)] {
        let (world, channel, events, mut got) = streaming(ChargeRule::Fixed).await;
        let mut stream = got.stream.take().unwrap();
        for _ in 0..10 {
            events.send(event("more")).await.unwrap();
        }
        sleep(waits).await; // why: what the client makes the API wait is time
        events.send(Err(UpstreamFailure::Broken)).await.unwrap();
        while stream.recv().await.is_some() {}
        world.until("charged", async || channel.record(&world).await.charges == 2).await;
        assert_eq!(parts(channel.record(&world).await.parts.charged) - channel.charged, charge, "{waits:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_end_could_not_be_charged_is_charged_without_its_client() {
    let (world, channel, events, mut got) = streaming(tokens()).await;
    world.store.fail(Verb::Committed, Fault::Before);
    events.send(event(r#"{"tokens":40}"#)).await.unwrap();
    drop(events);
    let mut stream = got.stream.take().unwrap();
    while stream.recv().await.is_some() {}
    // Nobody comes back to this channel.
    sleep(HOLD * 2).await; // why: the lease of the stream ends by the clock
    let record = channel.record(&world).await;
    assert_eq!((record.phase(), record.charges), (Phase::Idle, 2));
    assert_eq!(world.gateway.channels.exposure.total(), u128::from(record.active().sompi()));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_was_not_sent_is_not_charged_although_its_reservation_is_durable() {
    let (world, mut channel) = opened().await;
    let (_events, script) = live("text/event-stream");
    world.upstream.play([script]);
    world.store.fail(Verb::Reserved, Fault::After);
    world.send(&world.voucher(&channel, &ask()).await.ask()).await.refused(Code::StoreUnavailable);
    sleep(HOLD * 2).await; // why: whatever is left behind would be posted by now
    let record = channel.record(&world).await;
    assert_eq!((record.phase(), record.charges, parts(record.parts.charged)), (Phase::Idle, 1, channel.charged));
    channel.signed = parts(record.parts.signed);
    world.buy(&mut channel, &ask()).await;
}

/// A channel that was topped up, and what its client knew of it before.
async fn topped_up(world: &World) -> (Channel, Channel) {
    let mut channel = world.open(&ask(), 1).await;
    for _ in 0..29 {
        world.buy(&mut channel, &ask()).await;
    }
    world.chain.advance(2_000);
    let (transaction, continuation, funding) = channel.top_up(5_000_000_000);
    let payload = channel.deposit_payload(Some(&transaction), continuation, funding, CEILING);
    let got = world.send(&channel.with(&ask(), world.batch_offer(&ask()).await, &payload).ask()).await;
    let before = channel.clone();
    channel = Channel { outpoint: continuation, funding, claimed: channel.charged, ..channel };
    channel.served(&got);
    (before, channel)
}

#[tokio::test(start_paused = true)]
async fn what_a_claim_shows_everybody_does_not_buy_the_latest_voucher() {
    let world = World::channels(CEILING, ChargeRule::Fixed).await;
    let (before, channel) = topped_up(&world).await;
    // Whoever was away is told where the channel is, however long ago that was; not more.
    for is_final in [false, true] {
        if is_final {
            world.chain.advance(FINAL_DEPTH);
            world.until("final", async || channel.record(&world).await.moves.is_empty()).await;
        }
        // The voucher that the top-up published, by somebody who read it there.
        let accepted = world.batch_offer(&ask()).await;
        let got = world.send(&before.paying_exactly(&ask(), accepted, before.signed).ask()).await;
        got.refused(Code::VoucherStaleOutpoint);
        let extra = &batch_of(&got)["extra"];
        assert_eq!(extra["channelState"]["activeOutpoint"], serde_json::json!(channel.outpoint));
        assert_eq!((&extra["voucherState"]["amount"], extra["voucherState"].get("signature")), (&CEILING.to_string().into(), None));
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_over_a_shallow_top_up_does_not_make_it_deep() {
    let world = World::channels(CEILING, ChargeRule::Fixed).await;
    let (_, mut channel) = topped_up(&world).await;
    for _ in 0..29 {
        world.buy(&mut channel, &ask()).await;
    }
    let claim = world.gateway.claim_channel(&channel.id(), Wanted::AnyFee).await.unwrap();
    world.until("claimed", async || channel.record(&world).await.outpoint == claim.continuation_outpoint).await;
    channel = Channel { outpoint: claim.continuation_outpoint, claimed: channel.charged, signed: 0, ..channel };
    let rules = |confirmations| {
        world.reload_channels(move |rules| {
            rules.confirmations = confirmations;
            rules.exposure = Exposure { unconfirmed: sompi(0), ..Exposure::default() };
        });
    };
    rules(1_000);
    let paying = world.voucher(&channel, &ask()).await.ask();
    world.send(&paying).await.refused(Code::DepositNotConfirmed);
    rules(0);
    assert_eq!(world.send(&paying).await.status(), 200, "the same header");
}

/// A claim was accepted beside a top-up of the same output: a reorganisation may prefer that one, and what was charged over the claim's continuation
/// would have no voucher but the top-up's own.
#[tokio::test(start_paused = true)]
async fn a_claim_that_competes_with_a_top_up_counts_as_unconfirmed_until_it_is_deep() {
    let world = World::channels(CEILING, ChargeRule::Fixed).await;
    let mut channel = world.open(&ask(), 1).await;
    for _ in 0..29 {
        world.buy(&mut channel, &ask()).await;
    }
    world.chain.advance(2_000);
    world.chain.accept_at_once(false);
    let (transaction, continuation, funding) = channel.top_up(5_000_000_000);
    let payload = channel.deposit_payload(Some(&transaction), continuation, funding, CEILING);
    let header = channel.with(&ask(), world.batch_offer(&ask()).await, &payload).ask();
    world.send(&header).await.refused(Code::DepositNotConfirmed);
    let record = channel.record(&world).await;
    assert_eq!(record.moves[0].aside.voucher, Some(channel.sign(continuation, CEILING)), "what was signed for the top-up is kept");
    let claim = world.gateway.claim_channel(&channel.id(), Wanted::AnyFee).await.unwrap();
    world.chain.accept(claim.txid);
    world.until("claimed", async || channel.record(&world).await.outpoint == claim.continuation_outpoint).await;
    channel = Channel {
        outpoint: claim.continuation_outpoint,
        claimed: channel.charged,
        signed: 0,
        funding: channel.funding - parts(claim.takes),
        ..channel
    };
    let accepted_at = channel.record(&world).await.moves.iter().find_map(|step| match step.state {
        crate::store::channels::MoveState::Accepted(at) => Some(at.daa_score),
        _ => None,
    });
    world.reload_channels(|rules| {
        rules.confirmations = 50;
        rules.exposure = Exposure { unconfirmed: sompi(2 * CEILING), ..Exposure::default() };
    });
    for _ in 0..2 {
        world.buy(&mut channel, &ask()).await;
    }
    world.send(&world.voucher(&channel, &ask()).await.ask()).await.refused(Code::ExposureLimit);
    let daa_score = world.chain.tip().borrow().daa_score;
    world.chain.advance(accepted_at.unwrap() + 50 - daa_score);
    world.buy(&mut channel, &ask()).await;
}

#[tokio::test(start_paused = true)]
async fn a_deposit_is_for_the_recipient_of_its_offer_whatever_was_reloaded() {
    let world = World::channels(CEILING, ChargeRule::Fixed).await;
    let mut channel = world.channel(&ask(), 1, DEPOSIT).await;
    let paying = world.deposit(&channel, &ask()).await;
    let other = |pricing: &mut crate::protocol::policy::Pricing| {
        from_channels(pricing, CEILING, ChargeRule::Fixed);
        pricing.accepts[0].pay_to = payee(8);
    };
    world.reload(other, &[("a", 7, None)]);
    channel.served(&world.send(&paying.ask()).await);
}

#[tokio::test(start_paused = true)]
async fn a_deposit_that_never_comes_is_forgotten_and_opens_its_channel_when_it_does() {
    let world = World::channels(CEILING, ChargeRule::Fixed).await;
    let known = world.open(&ask(), 2).await;
    world.chain.accept_at_once(false);
    let mut channel = world.channel(&ask(), 1, DEPOSIT).await;
    world.chain.on_submit([OnSubmit::Answer(crate::chain::SubmitOutcome::Unknown("an orphan".into()))]);
    world.send(&world.deposit(&channel, &ask()).await.ask()).await.refused(Code::DepositNotConfirmed);
    world.skip(3_500);
    sleep(Duration::from_secs(31)).await; // why: it is sent again by the clock
    assert!(world.store.channel(&channel.id()).await.unwrap().is_some());
    world.skip(200);
    sleep(Duration::from_secs(31)).await; // why: as above
    assert!(world.store.channel(&channel.id()).await.unwrap().is_none());
    assert!(world.store.channel(&known.id()).await.unwrap().is_some());
    // Late, and it is good all the same.
    world.chain.accept(channel.outpoint.txid);
    let paying = world.deposit(&channel, &ask()).await.ask();
    channel.served(&world.send(&paying).await);
}

/// What a top-up or a claim pays was owed already: its transaction, public and paid to the same recipient, buys nothing else.
#[tokio::test(start_paused = true)]
async fn a_move_of_a_channel_is_no_exact_payment() {
    let (world, channel) = opened().await;
    // On a store that several share, another gateway may not have heard of the channel yet.
    let late = world.sibling(world.chain.clone()).await;
    let another = world.open(&ask(), 2).await;
    for (shop, channel) in [(&world, &channel), (&late, &channel), (&late, &another)] {
        for known_before in [false, true] {
            let accepted = world.exact_offer(&ask()).await;
            let signed = world.sign(&accepted, new_coin());
            let payment = world.present(ask(), accepted, signed, &world.payer).named(&new_identifier());
            let payment = payment.changed(|message| message["extensions"]["payment-identifier"]["info"]["required"] = true.into());
            let output = |script: &ScriptPublicKey| Some(Output { amount: sompi(1), script_public_key: script.clone(), covenant: false });
            let input = |outpoint, spent| AcceptedInput { outpoint, signature_script: Vec::new(), spent };
            let own = Outpoint { txid: payment.txid, index: 9 };
            world.chain.set_inputs(
                payment.txid,
                vec![
                    input(channel.outpoint, output(channel.script.script_public_key())),
                    // The client's own coin, by whose key it can prove what it likes.
                    input(own, output(&world.payer.script())),
                ],
            );
            if known_before {
                world.chain.submit(&payment.signed.transaction).await;
            }
            let before = shop.upstream.count();
            for _ in 0..2 {
                let got = shop.send(&payment.ask()).await;
                got.refused(Code::Replay);
                assert!(got.offers().is_none(), "its money has moved");
            }
            assert_eq!(shop.upstream.count(), before);
            assert_eq!(shop.record(payment.txid).await.unwrap().state, PaymentState::Pending);
        }
    }
}
