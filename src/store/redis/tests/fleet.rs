//! Two gateways on one store: leases, fences, round trips.

use super::*;
use crate::store::{channels::*, codec, conformance::*};

/// Two processes on one server.
struct Two {
    one: Arc<RedisStore>,
    other: Arc<RedisStore>,
    _server: Server,
}

async fn two() -> Two {
    let server = Server::start(&SAFE);
    let (first, second) = (options(&server.url(), 1), options(&server.url(), 2));
    let (one, other) = tokio::join!(RedisStore::open(&first), RedisStore::open(&second));
    let (one, other) = (Arc::new(one.unwrap()), Arc::new(other.unwrap()));
    assert_eq!(one.id(), other.id(), "drawn once, whoever comes first");
    Two { one, other, _server: server }
}

async fn held(store: &RedisStore, ask: &LeaseAsk, now: UnixMillis) -> (Lease, Arc<ChannelRecord>) {
    match store.lease(ask, now).await.unwrap() {
        Leased::Held(lease, record) => (lease, record),
        other => panic!("not held but {other:?}"),
    }
}

async fn charged(store: &RedisStore, k: u64) {
    let (lease, record) = held(store, &ask(1, request(k)), NOW).await;
    let step = store.advance_channel(&lease, committed(&record, k, 10, 10), NOW).await.unwrap();
    assert!(matches!(step, ChannelStep::Done(_)), "{step:?}");
}

#[tokio::test]
async fn a_paid_request_is_two_round_trips_whichever_gateway_served_the_one_before() {
    let Two { one, other, _server } = two().await;
    one.open_channel(&opening(1), NOW).await.unwrap();
    for store in [&one, &other, &one, &one, &other] {
        store.recent_channel(&id(1)).await.unwrap();
    }
    for k in 1..=20 {
        let store = if k % 3 == 0 { &one } else { &other };
        let before = store.commands();
        store.recent_channel(&id(1)).await.unwrap();
        charged(store, k).await;
        assert_eq!(store.commands() - before, 2, "request {k}");
    }
    assert_eq!(one.channel(&id(1)).await.unwrap().unwrap().charges, 20);
}

#[tokio::test]
async fn a_lease_that_another_gateway_took_over_commits_nothing() {
    let Two { one, other, _server } = two().await;
    one.open_channel(&opening(1), NOW).await.unwrap();
    let (stale, record) = held(&one, &ask(1, request(1)), NOW).await;
    let busy = other.lease(&ask(1, request(2)), NOW).await.unwrap();
    assert!(matches!(busy, Leased::Busy { until, same: false, .. } if until == NOW.plus_millis(HOLD_MILLIS)), "{busy:?}");
    let busy = other.lease(&ask(1, request(1)), NOW).await.unwrap();
    assert!(matches!(busy, Leased::Busy { same: true, .. }), "{busy:?}");
    // What each process remembers does not count: the server's lease does.
    let (mut stale, mut now) = (stale, NOW);
    for fact in [
        ChannelFact::Renewed { hold_millis: 1_000 },
        committed(&record, 1, 10, 10),
        reserved(&stream(&record, 1, 10)),
        built(&step(&record, 50, 0)),
        ChannelFact::Released,
    ] {
        now = now.plus_millis(HOLD_MILLIS);
        let (lease, _) = held(&other, &ask(1, request(2)), now).await;
        let step = one.advance_channel(&stale, fact.clone(), now).await.unwrap();
        assert!(matches!(step, ChannelStep::Stale), "{fact:?}: {step:?}");
        // Not even when the other has let it go and the record is the same again.
        assert!(matches!(other.advance_channel(&lease, ChannelFact::Released, now).await.unwrap(), ChannelStep::Done(_)));
        let step = one.advance_channel(&stale, fact.clone(), now).await.unwrap();
        assert!(matches!(step, ChannelStep::Stale), "{fact:?}: {step:?}");
        stale = held(&one, &ask(1, request(1)), now).await.0;
    }
    assert_eq!(other.charges(&id(1), 0, 9).await.unwrap(), []);
}

#[tokio::test]
async fn a_sighting_of_another_gateway_in_between_is_taken_into_account() {
    let Two { one, other, _server } = two().await;
    one.open_channel(&opening(1), NOW).await.unwrap();
    let (lease, record) = held(&one, &ask(1, request(1)), NOW).await;
    other.observe_channel(&id(1), ChannelSighting::Funded { daa_score: 77 }, NOW).await.unwrap();
    let ChannelStep::Done(after) = one.advance_channel(&lease, committed(&record, 1, 10, 10), NOW).await.unwrap() else { panic!() };
    assert_eq!((after.deposit.funded_daa, after.charges), (Some(77), 1));
    // A refund seen by the other in between: nothing is charged.
    let (lease, record) = held(&one, &ask(1, request(2)), NOW).await;
    other.observe_channel(&id(1), closed(record.outpoint), NOW).await.unwrap();
    let step = one.advance_channel(&lease, committed(&record, 2, 10, 10), NOW).await.unwrap();
    assert!(matches!(step, ChannelStep::Refused), "{step:?}");
    assert_eq!(other.channel_totals().await.unwrap().charged_sompi, 10);
}

#[tokio::test]
async fn a_payment_that_one_gateway_holds_is_in_flight_and_replayed_at_the_other() {
    let Two { one, other, _server } = two().await;
    let claim = Claim { identifier: identifier(1), ..claim(1) };
    let ClaimOutcome::Fresh(held) = one.claim(&claim, NOW).await.unwrap() else { panic!() };
    let (seen, _) = seen(other.claim(&claim, NOW).await.unwrap());
    assert_eq!(seen, Seen::InFlight(NOW.plus_millis(HOLD_MILLIS)));
    for fact in [settled(), Fact::Forwarding, delivered(Some(response("once")))] {
        assert_eq!(one.advance(&held, fact, NOW).await.unwrap(), Advanced::Done);
    }
    let ClaimOutcome::Delivered(stored) = other.claim(&claim, NOW).await.unwrap() else { panic!() };
    assert_eq!(stored.response, Some(response("once")));
}

/// The two race for the same things: each is got once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_gateways_racing_for_leases_and_claims_get_each_once() {
    let Two { one, other, _server } = two().await;
    one.open_channel(&opening(1), NOW).await.unwrap();
    for round in 0..20 {
        let racers = (0..16).map(|n| {
            let store = if n % 2 == 0 { one.clone() } else { other.clone() };
            tokio::spawn(async move {
                let leased = store.lease(&ask(1, request(round * 16 + n)), NOW).await.unwrap();
                let (_, fresh) = seen(store.claim(&claim(round), NOW).await.unwrap());
                let charged = match leased {
                    Leased::Held(lease, record) => {
                        let charge = committed(&record, round * 16 + n, 10, 10);
                        matches!(store.advance_channel(&lease, charge, NOW).await.unwrap(), ChannelStep::Done(_))
                    }
                    _ => false,
                };
                (charged, fresh.is_some())
            })
        });
        let (mut charges, mut claims) = (0, 0);
        for racer in racers.collect::<Vec<_>>() {
            let (charged, fresh) = racer.await.unwrap();
            charges += u64::from(charged);
            claims += u64::from(fresh);
        }
        assert!(charges >= 1 && claims == 1, "{charges} {claims}");
    }
    let record = one.channel(&id(1)).await.unwrap().unwrap();
    let rows = other.charges(&id(1), 0, 1_000).await.unwrap();
    assert_eq!(u64::try_from(rows.len()).unwrap(), record.charges);
    assert_eq!(record.parts.charged.sompi(), record.charges * 10);
}

#[tokio::test]
async fn leases_end_by_the_servers_clock_and_are_told_in_the_callers() {
    let server = Server::start(&SAFE);
    let by_server = |process| Options { lease_clock: LeaseClock::Server, ..options(&server.url(), process) };
    let one = RedisStore::open(&by_server(1)).await.unwrap();
    let other = RedisStore::open(&by_server(2)).await.unwrap();
    one.open_channel(&opening(1), NOW).await.unwrap();
    let short = |k| LeaseAsk { hold_millis: 300, ..ask(1, request(k)) };
    held(&one, &short(1), NOW).await;
    // The other's clock is years ahead: no lease ends by it, and what it is told is in its own time.
    let ahead = NOW.plus_seconds(100_000_000);
    let Leased::Busy { until, .. } = other.lease(&short(2), ahead).await.unwrap() else { panic!() };
    assert!(until > ahead && until <= ahead.plus_millis(300), "{until:?}");
    let long_claim = Claim { accepted_until: ahead.plus_seconds(60), hold_millis: 300, ..claim(1) };
    let ClaimOutcome::Fresh(_held) = one.claim(&long_claim, NOW).await.unwrap() else { panic!() };
    let ClaimOutcome::InFlight { until } = other.claim(&long_claim, ahead).await.unwrap() else { panic!() };
    assert!(until > ahead && until <= ahead.plus_millis(300), "{until:?}");
    tokio::time::sleep(Duration::from_millis(400)).await; // why: the clock under test is the server's
    held(&other, &short(2), NOW).await;
    assert_eq!(seen(other.claim(&long_claim, NOW).await.unwrap()).0.name(), "Resumed");
}

#[tokio::test]
async fn whoever_starts_follows_the_chain_from_the_last_of_the_others() {
    let Two { one, other, _server } = two().await;
    let at = |blue_score| Checkpoint { block: crate::protocol::ids::BlockHash([7; 32]), blue_score };
    one.set_checkpoint(at(90)).await.unwrap();
    other.set_checkpoint(at(100)).await.unwrap();
    let third = RedisStore::open(&options(&_server.url(), 3)).await.unwrap();
    assert_eq!(third.checkpoint().await.unwrap(), Some(at(90)), "what the one was still waiting for may lie after 90");
    one.set_checkpoint(at(95)).await.unwrap();
    assert_eq!(third.checkpoint().await.unwrap(), Some(at(95)));
    // A gateway that is gone for long is counted until one that started after it has caught up.
    let by = third.link.deadline();
    let key = third.keys.of(0, keys::names::CHECKPOINTS);
    let mut old = b"0000000000000001".to_vec();
    old.extend(codec::encode_checkpoint(&at(40)));
    third.link.command("HSET", &[&key, b"gone", &old], Effect::Note, by).await.unwrap();
    assert_eq!(third.checkpoint().await.unwrap(), Some(at(40)));
    third.set_checkpoint(at(97)).await.unwrap();
    assert_eq!(third.checkpoint().await.unwrap(), Some(at(95)));
}
