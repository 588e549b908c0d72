//! 64 requests at once for one thing: exactly one gets it.

use super::*;
use std::collections::BTreeMap;

const RACERS: u64 = 64;

/// Runs all claims at once; how often each outcome came, and the holds.
async fn race<S: Subject>(store: &Checked<S>, claims: Vec<Claim>, now: UnixMillis) -> (BTreeMap<String, usize>, Vec<Held>) {
    let start = Arc::new(tokio::sync::Barrier::new(claims.len()));
    let tasks = claims.into_iter().map(|claim| {
        let (store, start) = (store.0.store().clone(), start.clone());
        tokio::spawn(async move {
            start.wait().await;
            seen(store.claim(&claim, now).await.unwrap())
        })
    });
    let (mut outcomes, mut holds) = (BTreeMap::new(), Vec::new());
    for task in tasks.collect::<Vec<_>>() {
        let (seen, held) = task.await.unwrap();
        *outcomes.entry(seen.name()).or_default() += 1;
        holds.extend(held);
    }
    store.conserved().await;
    (outcomes, holds)
}

fn expected<const N: usize>(outcomes: [(&str, usize); N]) -> BTreeMap<String, usize> {
    outcomes.into_iter().map(|(name, times)| (name.to_owned(), times)).collect()
}

pub(in crate::store) async fn one_of_64_requests_gets_a_payment<S: Subject>() {
    let store = Checked::<S>::create().await;
    let same = vec![claim(1); 64];
    assert_eq!(race(&store, same, NOW).await.0, expected([("Fresh", 1), ("InFlight", 63)]));
    let others = (0..RACERS).map(|n| Claim { identity: identity(n), ..claim(2) }).collect();
    assert_eq!(race(&store, others, NOW).await.0, expected([("Fresh", 1), ("InFlight", 63)]));
    assert_eq!(store.store().totals().await.unwrap().pending, 2);
}

pub(in crate::store) async fn one_of_64_transactions_gets_an_identifier<S: Subject>() {
    let store = Checked::<S>::create().await;
    let same = |n: u64| Claim { identity: identity(1), identifier: identifier(1), ..claim(100 + n) };
    assert_eq!(race(&store, (0..RACERS).map(same).collect(), NOW).await.0, expected([("Fresh", 1), ("IdentifierFirst", 63)]));
    let other = |n: u64| Claim { identity: identity(n), identifier: identifier(2), ..claim(200 + n) };
    assert_eq!(race(&store, (0..RACERS).map(other).collect(), NOW).await.0, expected([("Fresh", 1), ("IdentifierReused", 63)]));
}

pub(in crate::store) async fn one_of_64_takes_over_an_expired_hold<S: Subject>() {
    let store = Checked::<S>::create().await;
    let stale = store.fresh(&claim(1), NOW).await;
    let later = NOW.plus_millis(HOLD_MILLIS);
    let (outcomes, holds) = race(&store, vec![claim(1); 64], later).await;
    assert_eq!(outcomes, expected([("InFlight", 63), ("Resumed", 1)]));
    assert_eq!(store.advance(&stale, settled(), later).await, Advanced::Stale);
    store.done(&holds[0], [settled(), delivered(None)], later).await;
    let (outcomes, _) = race(&store, vec![claim(1); 64], later).await;
    assert_eq!(outcomes, expected([("InFlight", 63), ("Redeliver", 1)]));
}

pub(in crate::store) async fn concurrent_settlements_book_one_charge<S: Subject>() {
    let store = Checked::<S>::create().await;
    let held = Arc::new(store.fresh(&claim(1), NOW).await);
    let tasks = (0..RACERS).map(|n| {
        let (store, held) = (store.0.store().clone(), held.clone());
        tokio::spawn(async move {
            if n % 2 == 0 {
                assert_eq!(store.advance(&held, settled(), NOW).await.unwrap(), Advanced::Done);
            } else {
                store.observe(held.key(), ChainFact::Accepted(acceptance(n)), NOW).await.unwrap();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    store.conserved().await;
    assert_eq!(store.store().totals().await.unwrap().charged_sompi, 25_000_001);
}
