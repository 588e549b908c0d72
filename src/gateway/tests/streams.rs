//! Answers that pass as they arrive.

use super::{
    fakes::live,
    world::{Ask, HOLD, PRICE, REPLAY_LIMIT, World},
};
use crate::{
    gateway::{answer::StreamChunk, upstream::UpstreamFailure},
    protocol::limits::REDELIVERIES,
    store::PaymentState,
};

const EVENTS: &str = "text/event-stream; charset=utf-8";

#[tokio::test(start_paused = true)]
async fn an_event_passes_before_the_next_is_made() {
    let world = World::new().await;
    let (events, script) = live(EVENTS);
    world.upstream.play([script]);
    let payment = world.pay(Ask::get("/paid")).await;
    let mut got = world.send(&payment.ask()).await;
    got.served(payment.txid);
    for event in ["one\n\n", "two\n\n"] {
        events.send(Ok(event.into())).await.unwrap();
        let Some(StreamChunk::Data(data)) = got.stream.as_mut().unwrap().recv().await else { panic!("no event") };
        assert_eq!(data, event);
        assert_eq!(world.totals().await.delivered, 0);
    }
    drop(events);
    assert_eq!(got.drain().await, (String::new(), true));
    let again = world.send(&payment.ask()).await;
    again.served(payment.txid);
    assert_eq!((&again.answer.body[..], again.header("content-type")), (&b"one\n\ntwo\n\n"[..], Some(EVENTS)));
    assert_eq!(world.upstream.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_gets_the_whole_body() {
    let world = World::new().await;
    let (events, script) = live(EVENTS);
    world.upstream.play([script]);
    let payment = world.pay(Ask::get("/paid")).await;
    let mut got = world.send(&payment.ask()).await;
    for _ in 0..4 {
        events.send(Ok("12345678".into())).await.unwrap();
    }
    drop(events);
    world.pass(HOLD * 3).await;
    assert_eq!(got.drain().await, ("12345678".repeat(4), true));
}

#[tokio::test(start_paused = true)]
async fn a_long_body_streams_and_is_delivered_again_a_few_times() {
    let world = World::new().await;
    let whole = "x".repeat(REPLAY_LIMIT) + "y";
    let payment = world.pay(Ask::get("/paid")).await;
    for _ in 0..=REDELIVERIES {
        let (chunks, script) = live("text/plain");
        world.upstream.play([script]);
        chunks.send(Ok(whole[..REPLAY_LIMIT].to_owned().into())).await.unwrap();
        chunks.send(Ok(whole[REPLAY_LIMIT..].to_owned().into())).await.unwrap();
        drop(chunks);
        let mut got = world.send(&payment.ask()).await;
        got.served(payment.txid);
        assert_eq!(got.drain().await, (whole.clone(), true));
    }
    let got = world.send(&payment.ask()).await;
    assert_eq!(got.status(), 410);
    got.receipted(payment.txid);
    assert_eq!(world.upstream.count(), 1 + REDELIVERIES as usize);
    assert_eq!(world.totals().await.charged_sompi, u128::from(PRICE));
}

#[tokio::test(start_paused = true)]
async fn a_body_of_exactly_the_limit_is_kept() {
    let world = World::new().await;
    let payment = world.pay(Ask::get("/paid")).await;
    world.upstream.play([super::fakes::answer(200, &"x".repeat(REPLAY_LIMIT))]);
    for _ in 0..2 {
        let got = world.send(&payment.ask()).await;
        got.served(payment.txid);
        assert_eq!(got.answer.body.len(), REPLAY_LIMIT);
    }
    assert_eq!(world.upstream.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_off_never_looks_whole_and_stays_owed() {
    let world = World::new().await;
    let (events, script) = live(EVENTS);
    world.upstream.play([script]);
    let payment = world.pay(Ask::get("/paid")).await;
    let mut got = world.send(&payment.ask()).await;
    events.send(Ok("one\n\n".into())).await.unwrap();
    events.send(Err(UpstreamFailure::Broken)).await.unwrap();
    assert_eq!(got.drain().await, ("one\n\n".to_owned(), false));
    world.until("recorded", async || world.record(payment.txid).await.unwrap().last_status == Some(200)).await;
    assert_eq!(world.record(payment.txid).await.unwrap().state, PaymentState::Settled);
    world.send(&payment.ask()).await.served(payment.txid);
    assert_eq!(world.totals().await.charged_sompi, u128::from(PRICE));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_before_it_was_passed_is_a_failure() {
    let world = World::new().await;
    let (chunks, script) = live("text/plain");
    world.upstream.play([script]);
    chunks.send(Ok("half".into())).await.unwrap();
    chunks.send(Err(UpstreamFailure::Timeout)).await.unwrap();
    let payment = world.pay(Ask::get("/paid")).await;
    let got = world.send(&payment.ask()).await;
    assert_eq!(got.status(), 504);
    got.receipted(payment.txid);
}

#[tokio::test(start_paused = true)]
async fn who_leaves_a_stream_was_served_and_may_come_back() {
    let world = World::new().await;
    let (events, script) = live(EVENTS);
    world.upstream.play([script]);
    let payment = world.pay(Ask::get("/paid")).await;
    let got = world.send(&payment.ask()).await;
    drop(got);
    events.send(Ok("one\n\n".into())).await.unwrap();
    world.until("recorded", async || world.totals().await.delivered == 1).await;
    world.send(&payment.ask()).await.served(payment.txid);
    assert_eq!(world.upstream.count(), 2);
}
