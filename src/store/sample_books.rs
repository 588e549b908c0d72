//! A store with something of everything in it, for tests of what reads and moves whole stores.

use super::{
    channels::*,
    conformance::*,
    moving::{Batch, Item, Moving, Part},
    *,
};
use crate::protocol::ids::{BlockHash, CommitmentId, TxId, XOnlyKey};

/// Payments 1..=9 in every state (8 was freed and is not there), channels 1..=4 in every phase (5 never was), 12 charges.
pub(crate) async fn fill(store: &dyn Store) {
    payments(store).await;
    channels(store).await;
    store.set_checkpoint(Checkpoint { block: BlockHash([9; 32]), blue_score: 900 }).await.unwrap();
    store.add_server_key(XOnlyKey([2; 32])).await.unwrap();
}

/// A store that [`fill`] filled, moved or not, answers for what is in it, refuses what is used up, and sells on.
pub(crate) async fn go_on(store: &dyn Store) {
    for n in [3, 7] {
        let replayed = store.claim(&Claim { identifier: identifier(n), ..claim(n) }, NOW).await.unwrap();
        let ClaimOutcome::Delivered(stored) = replayed else { panic!("{n}: {replayed:?}") };
        assert!(stored.response.unwrap().body.starts_with(format!("answer {n}").as_bytes()));
    }
    // What must never be used again is used there as well.
    let reused = Claim { identifier: identifier(3), ..claim(50) };
    assert_eq!(seen(store.claim(&reused, NOW).await.unwrap()).0.name(), "IdentifierReused");
    let replay = store.lease(&ask(1, request(2)), NOW).await.unwrap();
    assert!(matches!(&replay, Leased::Replay(charge) if charge.response.is_some()), "{replay:?}");
    let stolen = Opening { outpoint: outpoint(5), ..opening(6) };
    assert!(matches!(store.open_channel(&stolen, NOW).await.unwrap(), Opened::OutpointInUse), "the outpoint of a channel that never was");
    let salted = Opening { outpoint: outpoint(77), ..opening_of(salted(1, 9), 77) };
    assert!(matches!(store.open_channel(&salted, NOW).await.unwrap(), Opened::ScriptInUse));
    // It goes on where the other one ended.
    assert_eq!(seen(store.claim(&claim(60), NOW).await.unwrap()).0, Seen::Fresh);
    let Leased::Held(lease, record) = store.lease(&ask(1, request(70)), NOW).await.unwrap() else { panic!() };
    assert!(matches!(store.advance_channel(&lease, committed(&record, 70, 20, 10), NOW).await.unwrap(), ChannelStep::Done(_)));
}

async fn payments(store: &dyn Store) {
    for n in 1..=9 {
        let claim = Claim { identifier: identifier(n), late: n == 6, ..claim(n) };
        let (_, held) = seen(store.claim(&claim, NOW.plus_seconds(n)).await.unwrap());
        let held = held.unwrap();
        let answer = |kept: bool| delivered(kept.then(|| response(&format!("answer {n} {}", "again and ".repeat(400)))));
        let facts = match n {
            2 | 5 => vec![settled()],
            3 => vec![Fact::Proven, settled(), Fact::Forwarding, answer(true)],
            4 => vec![settled(), Fact::Forwarding, answer(false)],
            7 => vec![Fact::Submitted(Submission::Own), settled(), Fact::Forwarding, answer(true)],
            8 => vec![Fact::Rejected],
            9 => vec![Fact::Submitted(Submission::Foreign)],
            1 => vec![Fact::Submitted(Submission::HandedOver)],
            _ => vec![],
        };
        for fact in facts {
            assert_eq!(store.advance(&held, fact, NOW.plus_seconds(n)).await.unwrap(), Advanced::Done);
        }
    }
    let seen = |n, fact| async move { assert_eq!(store.observe(&key(n), fact, NOW.plus_seconds(50)).await.unwrap(), Observed::Done) };
    seen(5, ChainFact::Reversed { by: TxId([5; 32]) }).await;
    seen(7, ChainFact::Final).await;
}

async fn channels(store: &dyn Store) {
    for n in 1..=5 {
        store.open_channel(&opening(n), NOW.plus_seconds(n)).await.unwrap();
    }
    let sight = |n, fact| async move { store.observe_channel(&id(n), fact, NOW.plus_seconds(60)).await.unwrap() };
    for n in 1..=4 {
        assert_eq!(sight(n, ChannelSighting::Funded { daa_score: 40 }).await, Observed::Done);
    }
    assert_eq!(sight(5, ChannelSighting::NeverFunded).await, Observed::Done);

    let lease = |n, purpose| async move {
        match store.lease(&ask(n, purpose), NOW).await.unwrap() {
            Leased::Held(lease, record) => (lease, record),
            other => panic!("{other:?}"),
        }
    };
    let charge = |n: u64, k: u64| async move {
        let (held, record) = lease(n, request(k)).await;
        let kept = k.is_multiple_of(2).then(|| response(&format!("charged {k} {}", "and more ".repeat(300))));
        // Of no other charge and no payment.
        let commitment = CommitmentId(tx(10_000 * n + k).0);
        let fact = ChannelFact::Committed(Box::new(Charge { commitment, response: kept, ..charge(&record, k, 20, 10) }));
        let done = store.advance_channel(&held, fact, NOW.plus_seconds(n + k)).await.unwrap();
        assert!(matches!(done, ChannelStep::Done(_)), "{done:?}");
    };
    let claim = |n: u64, m: u64, added: u64| async move {
        let (held, record) = lease(n, Purpose::Upkeep).await;
        let done = store.advance_channel(&held, built(&step(&record, m, added)), NOW.plus_seconds(30)).await.unwrap();
        assert!(matches!(done, ChannelStep::Done(_)), "{done:?}");
    };
    for k in 1..=4 {
        charge(1, k).await;
    }
    claim(1, 101, 0).await;
    assert_eq!(sight(1, accepted(101)).await, Observed::Done);
    assert_eq!(sight(1, ChannelSighting::MoveFinal { txid: tx(101) }).await, Observed::Done);
    for k in 5..=6 {
        charge(1, k).await;
    }
    claim(1, 102, 50).await;
    assert_eq!(sight(1, accepted(102)).await, Observed::Done);
    charge(1, 7).await;
    for k in 1..=2 {
        charge(2, k).await;
    }
    let closure = Closure { outpoint: outpoint(2), by: TxId([6; 32]), acceptance: acceptance(70), is_final: false };
    assert_eq!(sight(2, ChannelSighting::Closed(closure)).await, Observed::Done);
    for k in 1..=3 {
        charge(3, k).await;
    }
    claim(3, 301, 0).await;
    let (held, record) = lease(4, request(1)).await;
    let open = store.advance_channel(&held, reserved(&stream(&record, 1, 20)), NOW).await.unwrap();
    assert!(matches!(open, ChannelStep::Done(_)), "{open:?}");
}

/// Sales from channels that another gateway keeps: 21 with its answer held, 22 charged and delivered, 23 charged and owed.
pub(crate) async fn sales_elsewhere(store: &dyn Store) {
    for n in 21..=23 {
        let held = seen(store.claim(&sale(n), NOW.plus_seconds(n)).await.unwrap()).1.unwrap();
        let answer = (n < 23).then(|| response(&format!("held {n}")));
        let facts = [answered(Some(n), answer), charged()];
        for fact in facts.into_iter().take(if n == 21 { 1 } else { 2 }) {
            assert_eq!(store.advance(&held, fact, NOW.plus_seconds(n)).await.unwrap(), Advanced::Done);
        }
    }
}

/// So many pending payments.
pub(crate) async fn many_payments(store: &dyn Store, count: u64) {
    for n in 1..=count {
        assert!(seen(store.claim(&claim(n), NOW).await.unwrap()).1.is_some());
    }
}

/// A whole part of a store, in pages.
pub(crate) async fn items(store: &dyn Moving, part: Part, limit: u32) -> Vec<Item> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let Batch { items, next } = store.items(part, after, limit).await.unwrap();
        all.extend(items);
        match next {
            Some(next) => after = Some(next),
            None => return all,
        }
    }
}
