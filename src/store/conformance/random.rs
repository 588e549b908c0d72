//! Random sequences: the store and the model must answer alike, step by step, across restarts.
//!
//! Few keys, requests and identifiers, so that everything collides. `KAS402_SEED=n` repeats one sequence.

use super::*;
use crate::store::memory::MemoryStore;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};

const PAYMENTS: u64 = 5;

pub(in crate::store) async fn random_sequences_agree_with_the_model<S: Subject>() {
    for seed in seeds::<S>() {
        play::<S>(seed, S::RANDOM.1).await;
    }
}

/// Each is shown by the test harness when a step fails.
pub(super) fn seeds<S: Subject>() -> impl Iterator<Item = StdRng> {
    let only: Option<u64> = std::env::var("KAS402_SEED").ok().map(|seed| seed.parse().expect("KAS402_SEED is a number"));
    let seeds = only.map_or(0..S::RANDOM.0, |seed| seed..seed + 1);
    seeds.inspect(|seed| println!("KAS402_SEED={seed}")).map(StdRng::seed_from_u64)
}

async fn play<S: Subject>(mut rng: StdRng, length: usize) {
    let mut store = Checked::<S>::create().await;
    let model = MemoryStore::new(store.store().id());
    let mut now = NOW;
    let mut holds: Vec<(Held, Held)> = Vec::new();
    let mut ledger = Ledger::default();
    for step in 0..length {
        now = now.plus_millis(*[0, 1, 900, 3_000, 30_000, 2_000_000].choose(&mut rng).unwrap());
        match rng.gen_range(0..100) {
            0..30 => {
                let claim = any_claim(&mut rng, now);
                let (seen, held) = store.claim(&claim, now).await;
                let (expect, model_held) = super::seen(model.claim(&claim, now).await.unwrap());
                println!("{step}: {} {:?} {claim:?}", now.0, seen.name());
                assert_eq!(seen, expect);
                holds.extend(held.zip(model_held));
            }
            30..80 => {
                let Some((held, model_held)) = holds.choose(&mut rng) else { continue };
                let fact = any_fact(&mut rng, step);
                let before = store.store().payment(held.key()).await.unwrap();
                let outcome = store.advance(held, fact.clone(), now).await;
                println!("{step}: {} {outcome:?} {held:?} {fact:?}", now.0);
                assert_eq!(outcome, model.advance(model_held, fact.clone(), now).await.unwrap());
                ledger.advanced(before, &fact, outcome);
            }
            80..96 => {
                let (n, fact) = (rng.gen_range(0..PAYMENTS), any_chain_fact(&mut rng, now));
                let before = store.payment(n).await;
                let outcome = store.observe(n, fact.clone(), now).await;
                println!("{step}: {} {outcome:?} {n} {fact:?}", now.0);
                assert_eq!(outcome, model.observe(&key(n), fact.clone(), now).await.unwrap());
                ledger.observed(before, &fact, outcome);
            }
            96..98 => {
                println!("{step}: {} restart", now.0);
                store = store.restart().await;
            }
            _ => {
                let before = UnixMillis(now.0 - 2_000_000);
                println!("{step}: {} prune", now.0);
                assert_eq!(store.store().prune(before).await.unwrap(), model.prune(before).await.unwrap());
            }
        }
        let totals = store.store().totals().await.unwrap();
        assert_eq!((totals.charged_sompi, totals.reversed_sompi), (ledger.charged, ledger.reversed));
        agree(store.store(), &model).await;
    }
}

async fn agree(store: &impl Store, model: &MemoryStore) {
    assert_eq!(store.totals().await.unwrap(), model.totals().await.unwrap());
    for n in 0..PAYMENTS {
        assert_eq!(store.payment(&key(n)).await.unwrap(), model.payment(&key(n)).await.unwrap());
    }
    for selection in [Selection::All, Selection::Open, Selection::Unresolved, Selection::Owed] {
        assert_eq!(store.payments(&query(selection)).await.unwrap(), model.payments(&query(selection)).await.unwrap(), "{selection:?}");
    }
}

/// The money as an accountant reads it off the answers, who knows neither store nor rules: whatever was pending and is
/// acknowledged as settled is a charge; whatever was charged and is acknowledged as reversed goes back.
#[derive(Default)]
struct Ledger {
    charged: u128,
    reversed: u128,
}

impl Ledger {
    fn advanced(&mut self, before: Option<StoredPayment>, fact: &Fact, outcome: Advanced) {
        if let (Some(StoredPayment { record, .. }), Fact::Settled { .. } | Fact::Charged { .. }, Advanced::Done) = (before, fact, outcome)
            && record.state == PaymentState::Pending
        {
            self.charged += u128::from(record.cost().sompi());
        }
    }

    fn observed(&mut self, before: Option<StoredPayment>, fact: &ChainFact, outcome: Observed) {
        if let (Some(StoredPayment { record, .. }), ChainFact::Reversed { .. }, Observed::Done) = (before, fact, outcome)
            && matches!(record.state, PaymentState::Settled | PaymentState::Delivered)
        {
            self.reversed += u128::from(record.cost().sompi());
        }
    }
}

fn any_claim(rng: &mut StdRng, now: UnixMillis) -> Claim {
    let n = rng.gen_range(0..PAYMENTS);
    // Mostly its own request and identifier, sometimes a neighbour's.
    let near = |rng: &mut StdRng| if rng.gen_bool(0.8) { n } else { rng.gen_range(0..PAYMENTS) };
    let (request, name) = (near(rng), near(rng));
    Claim {
        identity: identity(request),
        identifier: if rng.gen_bool(0.6) { identifier(name) } else { None },
        accepted_until: if rng.gen_bool(0.9) { now } else { UnixMillis(now.0 - 1) },
        entitlement_seconds: rng.gen_range(0..5_000),
        hold_millis: rng.gen_range(0..6_000),
        holder: HolderId([rng.r#gen(); 16]),
        // One of them is a sale from a channel.
        ..if n == 0 { sale(n) } else { claim(n) }
    }
}

fn any_fact(rng: &mut StdRng, step: usize) -> Fact {
    match rng.gen_range(0..18) {
        0 => Fact::Renewed { hold_millis: rng.gen_range(0..9_000) },
        1 => Fact::Submitted(*[Submission::None, Submission::Own, Submission::Foreign, Submission::HandedOver].choose(rng).unwrap()),
        2 => Fact::Rejected,
        3 => Fact::Proven,
        4..7 => Fact::Settled { acceptance: rng.gen_bool(0.7).then(|| acceptance(rng.gen_range(0..3))), payer: None },
        7..9 => Fact::Forwarding,
        9..12 => {
            let response = rng.gen_bool(0.4).then(|| response(&format!("answer of step {step}")));
            Fact::Delivered { status: rng.gen_range(200..500), response }
        }
        12 => Fact::Undelivered { status: rng.gen_bool(0.5).then_some(502) },
        13..15 => {
            let response = rng.gen_bool(0.7).then(|| response(&format!("held in step {step}")));
            answered(rng.gen_bool(0.6).then(|| rng.gen_range(0..26_000_000)), response)
        }
        15..17 => Fact::Charged { receipt: format!("told in step {step}").into_bytes() },
        _ => Fact::Released,
    }
}

fn any_chain_fact(rng: &mut StdRng, now: UnixMillis) -> ChainFact {
    match rng.gen_range(0..12) {
        0..5 => ChainFact::Accepted(acceptance(rng.gen_range(0..3))),
        5..7 => ChainFact::TakenBack,
        7..9 => ChainFact::Final,
        9..11 => ChainFact::Granted { until: now.plus_seconds(rng.gen_range(0..5_000)) },
        _ => ChainFact::Reversed { by: TxId([1; 32]) },
    }
}
