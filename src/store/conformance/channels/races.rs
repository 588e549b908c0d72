//! 64 at once for one thing: exactly one gets it.

use super::*;
use std::collections::BTreeMap;

const RACERS: u64 = 64;

/// Runs all at once; how often each answer came, and the answers.
async fn race<S: Subject, T, F>(books: &Books<S>, racer: impl Fn(Arc<S::Store>, u64) -> F) -> (BTreeMap<String, usize>, Vec<T>)
where
    T: std::fmt::Debug + Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let start = Arc::new(tokio::sync::Barrier::new(64));
    let tasks = (0..RACERS).map(|n| {
        let (start, racer) = (start.clone(), racer(books.0.store().clone(), n));
        tokio::spawn(async move {
            start.wait().await;
            racer.await
        })
    });
    let (mut counts, mut answers) = (BTreeMap::new(), Vec::new());
    for task in tasks.collect::<Vec<_>>() {
        let answer = task.await.unwrap();
        *counts.entry(name(&answer)).or_default() += 1;
        answers.push(answer);
    }
    books.audit().await;
    (counts, answers)
}

async fn opens(store: Arc<impl Store>, opening: Opening) -> Opened {
    store.open_channel(&opening, NOW).await.unwrap()
}

async fn leases(store: Arc<impl Store>, ask: LeaseAsk, now: UnixMillis) -> Leased {
    store.lease(&ask, now).await.unwrap()
}

fn times<const N: usize>(counts: [(&str, usize); N]) -> BTreeMap<String, usize> {
    counts.into_iter().map(|(name, times)| (name.to_owned(), times)).collect()
}

pub(in crate::store) async fn one_of_64_channels_gets_an_outpoint<S: Subject>() {
    let books = Books::<S>::create().await;
    let (counts, _) = race(&books, |store, n| opens(store, opening_of(config(100 + n), 1))).await;
    assert_eq!(counts, times([("New", 1), ("OutpointInUse", 63)]), "64 channels, one outpoint");
    let (counts, _) = race(&books, |store, n| opens(store, opening_of(salted(7, u8::try_from(n).unwrap()), 2))).await;
    assert_eq!(counts, times([("New", 1), ("OutpointInUse", 63)]), "64 salts, one outpoint");
    let (counts, _) = race(&books, |store, n| opens(store, opening_of(salted(8, u8::try_from(n).unwrap()), 100 + n))).await;
    assert_eq!(counts, times([("New", 1), ("ScriptInUse", 63)]), "64 outpoints, one script");
    let (counts, _) = race(&books, |store, n| opens(store, opening_of(config(9), 200 + n))).await;
    assert_eq!(counts, times([("New", 1), ("ScriptInUse", 63)]), "64 outpoints, one channel");
    let (counts, _) = race(&books, |store, _| opens(store, opening(10))).await;
    assert_eq!(counts, times([("Known", 63), ("New", 1)]), "one deposit, sent 64 times");
    assert_eq!(books.all().await.len(), 5);
}

pub(in crate::store) async fn one_of_64_requests_gets_a_lease<S: Subject>() {
    let mut books = Books::<S>::create().await;
    books.open(1).await;
    // Also of a channel that the store has to look up first.
    books = books.restart().await;
    let (counts, answers) = race(&books, |store, n| leases(store, ask(1, request(n)), NOW)).await;
    assert_eq!(counts, times([("Busy", 63), ("Held", 1)]));
    let (counts, _) = race(&books, |store, _| leases(store, ask(1, request(1)), NOW)).await;
    assert_eq!(counts, times([("Busy", 64)]));
    // Over: exactly one takes it, and what the first one does is stale.
    let later = NOW.plus_millis(HOLD_MILLIS);
    let (counts, next) = race(&books, |store, _| leases(store, ask(1, request(100)), later)).await;
    assert_eq!(counts, times([("Busy", 63), ("Held", 1)]));
    let held =
        |answers: Vec<Leased>| answers.into_iter().find_map(|answer| if let Leased::Held(lease, _) = answer { Some(lease) } else { None });
    let (stale, lease) = (held(answers).unwrap(), held(next).unwrap());
    assert!(matches!(books.advance(&stale, ChannelFact::Released, later).await, ChannelStep::Stale));
    let record = books.record(1).await;
    books.done(&lease, committed(&record, 100, 10, 10), later).await;
    // The same request 64 times more: its one answer.
    let (counts, _) = race(&books, |store, _| leases(store, ask(1, request(100)), later)).await;
    assert_eq!(counts, times([("Replay", 64)]));
    assert_eq!(books.record(1).await.charges, 1);
}

/// Each of 64 sends the same step under one lease, and sightings come in between.
pub(in crate::store) async fn one_lease_charges_once<S: Subject>() {
    let books = Books::<S>::create().await;
    books.open(1).await;
    let (lease, record) = books.lease(1, request(1), NOW).await;
    let lease = Arc::new(lease);
    let fact = committed(&record, 1, 10, 10);
    let (counts, _) = race(&books, |store, n| {
        let (lease, fact) = (lease.clone(), fact.clone());
        async move {
            if n % 4 == 1 {
                store.observe_channel(lease.channel(), ChannelSighting::Funded { daa_score: n }, NOW).await.unwrap();
            }
            store.advance_channel(&lease, fact, NOW).await.unwrap()
        }
    })
    .await;
    assert_eq!(counts, times([("Done", 1), ("Stale", 63)]));
    assert_eq!(books.record(1).await.charges, 1);
}

/// 16 channels served at once by 64 tasks, each channel in order, while claims run.
pub(in crate::store) async fn many_channels_are_served_at_once<S: Subject>() {
    let books = Books::<S>::create().await;
    for n in 1..=16 {
        books.open(n).await;
    }
    let (_, charged) = race(&books, |store, racer| async move {
        let mut charged = 0;
        for round in 0..6 {
            let n = 1 + (racer + round) % 16;
            if racer % 16 == 0 {
                claim_all(&*store, n, 1_000 + racer * 10 + round).await;
                continue;
            }
            // Unlike a gateway, which answers busy: until it is its turn.
            let k = 1 + racer * 100 + round;
            let (lease, record) = loop {
                match store.lease(&ask(n, request(k)), NOW).await.unwrap() {
                    Leased::Held(lease, record) => break (lease, record),
                    Leased::Busy { .. } => tokio::task::yield_now().await,
                    other => panic!("{other:?}"),
                }
            };
            match store.advance_channel(&lease, committed(&record, k, 20, k % 20), NOW).await.unwrap() {
                ChannelStep::Done(_) => charged += k % 20,
                // A claim is on its way.
                ChannelStep::Refused => {
                    store.advance_channel(&lease, ChannelFact::Released, NOW).await.unwrap();
                }
                ChannelStep::Stale => panic!("stale"),
            }
        }
        charged
    })
    .await;
    let total: u64 = charged.into_iter().sum();
    let totals = books.store().channel_totals().await.unwrap();
    assert_eq!(totals.charged_sompi, u128::from(total));
    assert!(totals.claimed_sompi > 0 && total > 0);
}

async fn claim_all(store: &impl Store, n: u64, m: u64) {
    if let Leased::Held(lease, record) = store.lease(&ask(n, Purpose::Upkeep), NOW).await.unwrap() {
        match store.advance_channel(&lease, built(&step(&record, m, 0)), NOW).await.unwrap() {
            ChannelStep::Done(_) => assert_eq!(store.observe_channel(&id(n), accepted(m), NOW).await.unwrap(), Observed::Done),
            _ => drop(store.advance_channel(&lease, ChannelFact::Released, NOW).await.unwrap()),
        }
    }
}
