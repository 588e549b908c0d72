//! Metered answers, held and streamed: what they cost however they end.

use super::buyer::{Channel, ask, parts};
use crate::{
    gateway::{
        answer::StreamChunk,
        tests::{
            fakes::{Body, Script, live},
            world::{Ask, HOLD, World, sompi},
        },
        upstream::UpstreamFailure,
    },
    protocol::{
        charge::{ChargeRule, Meter, MeterSource, OnUnknown, UnitPrice},
        refusal::Code,
    },
    store::channels::Phase,
    wire::{header, headers},
};
use bytes::Bytes;
use serde_json::{Value, json};

const CEILING: u64 = 1_000_000;
const FLOOR: u64 = 1_000;

fn metered(source: MeterSource, on_unknown: OnUnknown) -> ChargeRule {
    ChargeRule::Metered(Meter { source, price: UnitPrice { price: sompi(100), units: 1 }, floor: sompi(FLOOR), on_unknown })
}

fn tokens(on_unknown: OnUnknown) -> ChargeRule {
    metered(MeterSource::Json("/usage/total_tokens".into()), on_unknown)
}

fn json_answer(body: &Value) -> Script {
    Script::Answer {
        status: 200,
        headers: vec![("content-type", "application/json")],
        body: Body::Whole(vec![Bytes::from(body.to_string())]),
    }
}

async fn opened(rule: ChargeRule) -> (World, Channel) {
    let world = World::channels(CEILING, rule).await;
    world.upstream.play([json_answer(&json!({"usage": {"total_tokens": 50}}))]);
    let channel = world.open(&ask(), 1).await;
    (world, channel)
}

#[tokio::test(start_paused = true)]
async fn a_held_answer_costs_what_it_says_within_floor_and_ceiling() {
    let (world, mut channel) = opened(tokens(OnUnknown::Ceiling)).await;
    assert_eq!(channel.charged, 5_000);
    for (body, charge) in [
        (json!({"usage": {"total_tokens": 123}}), 12_300),
        (json!({"usage": {"total_tokens": 1}}), FLOOR),
        (json!({"usage": {"total_tokens": 999_999_999}}), CEILING),
        (json!({"usage": {}}), CEILING),
    ] {
        world.upstream.play([json_answer(&body)]);
        let before = channel.charged;
        world.buy(&mut channel, &ask()).await;
        assert_eq!(channel.charged - before, charge, "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_its_meter_follows_the_policy() {
    let (world, mut channel) = opened(tokens(OnUnknown::Floor)).await;
    world.upstream.play([json_answer(&json!({}))]);
    let before = channel.charged;
    world.buy(&mut channel, &ask()).await;
    assert_eq!(channel.charged - before, FLOOR);

    let (world, mut channel) = opened(tokens(OnUnknown::Refuse)).await;
    world.upstream.play([json_answer(&json!({}))]);
    let got = world.send(&world.voucher(&channel, &ask()).await.ask()).await;
    got.refused(Code::UpstreamFailed);
    assert_eq!(parts(channel.record(&world).await.parts.charged), channel.charged);
    world.upstream.play([json_answer(&json!({"usage": {"total_tokens": 70}}))]);
    world.buy(&mut channel, &ask()).await;
}

fn event(text: &str) -> Result<Bytes, UpstreamFailure> {
    Ok(Bytes::from(format!("data: {text}\n\n")))
}

#[tokio::test(start_paused = true)]
async fn an_event_stream_flows_at_once_and_is_charged_by_its_last_usage() {
    let (world, mut channel) = opened(tokens(OnUnknown::Ceiling)).await;
    let before = channel.charged;
    let (events, script) = live("text/event-stream");
    world.upstream.play([script]);
    let paying = world.voucher(&channel, &ask()).await;
    let request = world.spawn(&paying.ask());
    events.send(event("hello")).await.unwrap();
    let mut got = request.await.unwrap();
    let receipt = got.receipt().unwrap();
    let kaspa = &receipt["extensions"]["kaspa"];
    assert_eq!((&receipt["transaction"], &kaspa["status"]), (&"".into(), &"provisional".into()));
    let url = kaspa["receiptUrl"].as_str().unwrap().strip_prefix("https://shop.example").unwrap().to_owned();
    let mut stream = got.stream.take().unwrap();
    let Some(StreamChunk::Data(first)) = stream.recv().await else { panic!("an event flows before the end") };
    assert_eq!(first, "data: hello\n\n");
    let record = channel.record(&world).await;
    assert_eq!((record.phase(), parts(record.parts.reserved)), (Phase::Streaming, CEILING));
    assert_eq!(world.gateway.channels.exposure.total(), u128::from(before + CEILING));
    // Nothing else is served meanwhile, and there is no receipt yet.
    world.send(&world.voucher(&channel, &ask()).await.ask()).await.refused(Code::ChannelBusy);
    assert_eq!(receipt_at(&world, &url).await.0, 404);

    events.send(event(r#"{"usage":{"total_tokens":40}}"#)).await.unwrap();
    events.send(event(r#"{"usage":{"total_tokens":321}}"#)).await.unwrap();
    drop(events);
    let (mut body, mut trailers) = (Vec::new(), None);
    while let Some(chunk) = stream.recv().await {
        match chunk {
            StreamChunk::Data(data) => body.extend_from_slice(&data),
            StreamChunk::End { trailers: told } => trailers = told,
        }
    }
    let body = String::from_utf8(body).unwrap();
    let last = body.trim_end().rsplit("\n\n").next().unwrap();
    let told: Value = serde_json::from_str(last.strip_prefix("event: payment-response\ndata: ").expect(last)).unwrap();
    let trailer = header::decode(trailers.unwrap()[headers::PAYMENT_RESPONSE].as_bytes()).unwrap();
    assert_eq!(told["transaction"], trailer["transaction"]);
    assert_eq!(channel.read(&told), 32_100);
    assert_eq!(channel.charged, before + 32_100);
    let (status, later) = receipt_at(&world, &url).await;
    assert_eq!((status, &later["transaction"]), (200, &told["transaction"]));
    // What was streamed is not kept: a repetition is told its receipt.
    let again = world.send(&paying.ask()).await;
    assert!(again.status() == 200 || again.status() == 410);
    assert_eq!(again.receipt().unwrap()["transaction"], told["transaction"]);
}

async fn receipt_at(world: &World, path: &str) -> (u16, Value) {
    let got = world.send(&Ask::get(path)).await;
    (got.status(), serde_json::from_slice(&got.answer.body).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_hang_up_is_charged_what_was_metered_and_a_break_what_was_sent() {
    for (source, ending, charge) in [
        (MeterSource::Json("/usage/total_tokens".into()), "left", 4_000),
        (MeterSource::Json("/usage/total_tokens".into()), "broke", 4_000),
        (MeterSource::Json("/none".into()), "left", CEILING),
        (MeterSource::Json("/none".into()), "broke", 0),
    ] {
        let world = World::channels(CEILING, metered(source, OnUnknown::Ceiling)).await;
        world.upstream.play([json_answer(&json!({"usage": {"total_tokens": 50}, "none": 50}))]);
        let channel = world.open(&ask(), 1).await;
        let (events, script) = live("text/event-stream");
        world.upstream.play([script]);
        let request = world.spawn(&world.voucher(&channel, &ask()).await.ask());
        events.send(event(r#"{"usage":{"total_tokens":40}}"#)).await.unwrap();
        let mut got = request.await.unwrap();
        let mut stream = got.stream.take().unwrap();
        assert!(stream.recv().await.is_some());
        if ending == "left" {
            drop(stream);
        } else {
            events.send(Err(UpstreamFailure::Broken)).await.unwrap();
            assert!(stream.recv().await.is_none(), "a broken stream never looks whole");
        }
        world.until("charged", async || channel.record(&world).await.charges == 2).await;
        let record = channel.record(&world).await;
        assert_eq!(parts(record.parts.charged) - channel.charged, charge, "{ending}");
        assert_eq!(world.gateway.channels.exposure.total(), u128::from(channel.charged + charge));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_a_dead_gateway_left_is_posted_by_its_last_reading() {
    let (mut world, mut channel) = opened(tokens(OnUnknown::Ceiling)).await;
    let (events, script) = live("text/event-stream");
    world.upstream.play([script]);
    let request = world.spawn(&world.voucher(&channel, &ask()).await.ask());
    events.send(event(r#"{"usage":{"total_tokens":40}}"#)).await.unwrap();
    let mut got = request.await.unwrap();
    let mut stream = got.stream.take().unwrap();
    stream.recv().await.unwrap();
    tokio::time::sleep(HOLD / 5).await; // why: readings are made durable by the clock
    events.send(event(r#"{"usage":{"total_tokens":60}}"#)).await.unwrap();
    stream.recv().await.unwrap();
    world.until("metered", async || channel.record(&world).await.stream.as_ref().is_some_and(|open| open.reading.is_some())).await;
    // The process dies: its store is gone for it, for good.
    world.die();
    drop((events, stream));
    world.restart().await;
    tokio::time::sleep(HOLD * 2).await; // why: a dead gateway's lease ends by the clock
    let got = world.send(&world.voucher(&channel, &ask()).await.ask()).await;
    got.refused(Code::VoucherAmount);
    let record = channel.record(&world).await;
    assert_eq!((record.phase(), parts(record.parts.charged) - channel.charged), (Phase::Idle, 6_000));
    channel.charged += 6_000;
    channel.signed = parts(record.parts.signed);
    world.buy(&mut channel, &ask()).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_may_still_run_elsewhere_is_posted_only_when_its_lease_is_over() {
    let (mut world, channel) = opened(tokens(OnUnknown::Ceiling)).await;
    let (events, script) = live("text/event-stream");
    world.upstream.play([script]);
    let request = world.spawn(&world.voucher(&channel, &ask()).await.ask());
    events.send(event("hello")).await.unwrap();
    let mut got = request.await.unwrap();
    let mut stream = got.stream.take().unwrap();
    stream.recv().await.unwrap();
    let began = world.now();
    tokio::time::sleep(HOLD * 5 / 2).await; // why: leases are renewed by the clock
    // Another process starts over the same store; it cannot know whether this one has died.
    world.die();
    world.restart().await;
    for _ in 0..4 {
        let record = channel.record(&world).await;
        assert_eq!((record.phase(), record.charges), (Phase::Streaming, 1));
        world.send(&world.voucher(&channel, &ask()).await.ask()).await.refused(Code::ChannelBusy);
        tokio::time::sleep(HOLD / 8).await; // why: a lease ends by the clock
    }
    assert!(world.now() > began.plus_millis(2 * u64::try_from(HOLD.as_millis()).unwrap()), "the reservation's own lease is long over");
    // Nobody asks for it.
    tokio::time::sleep(HOLD).await; // why: a lease ends by the clock
    let record = channel.record(&world).await;
    assert_eq!((record.phase(), parts(record.parts.charged) - channel.charged), (Phase::Idle, CEILING));
}
