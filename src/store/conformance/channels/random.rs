//! Random sequences over few channels: the store answers like the model, step by step, across restarts; an accountant who knows
//! neither adds up what was acknowledged; and the books are audited all the while. `KAS402_SEED=n` repeats one sequence.

use super::*;
use crate::store::{conformance::random::seeds, memory::MemoryStore};
use rand::{Rng, rngs::StdRng, seq::SliceRandom};

const CHANNELS: u64 = 3;
const REQUESTS: u64 = 40;

pub(in crate::store) async fn random_channels_agree_with_the_model<S: Subject>() {
    for seed in seeds::<S>() {
        play::<S>(seed, S::RANDOM.1).await;
    }
}

/// A lease in the store and its twin in the model.
type Twins = (Lease, Lease, Purpose);

async fn play<S: Subject>(mut rng: StdRng, length: usize) {
    let mut books = Books::<S>::create().await;
    let model = MemoryStore::new(books.store().id());
    let mut now = NOW;
    let mut leases: Vec<Twins> = Vec::new();
    let mut charged: u128 = 0;
    for n in 0..CHANNELS {
        books.open(n).await;
        model.open_channel(&opening(n), NOW).await.unwrap();
    }
    for step in 0..length {
        now = now.plus_millis(*[0, 1, 900, 3_000, 30_000].choose(&mut rng).unwrap());
        match rng.gen_range(0..100) {
            0..5 => {
                let opening = any_opening(&mut rng);
                let (opened, expect) = (books.try_open(&opening, now).await, model.open_channel(&opening, now).await.unwrap());
                println!("{step}: {} {opening:?}", name(&opened));
                assert_eq!(format!("{opened:?}"), format!("{expect:?}"));
            }
            5..31 => {
                let ask = any_ask(&mut rng);
                let (leased, expect) = (books.try_lease(&ask, now).await, model.lease(&ask, now).await.unwrap());
                println!("{step}: {} {ask:?}", name(&leased));
                match (leased, expect) {
                    (Leased::Held(lease, record), Leased::Held(twin, expect)) => {
                        assert_eq!(record, expect);
                        leases.push((lease, twin, ask.purpose));
                    }
                    (leased, expect) => assert_eq!(format!("{leased:?}"), format!("{expect:?}")),
                }
            }
            31..74 => {
                if leases.is_empty() {
                    continue;
                }
                let place = rng.gen_range(0..leases.len());
                let (lease, twin, purpose) = &leases[place];
                let Some(record) = model.channel(lease.channel()).await.unwrap() else {
                    leases.remove(place);
                    continue;
                };
                let fact = any_fact(&mut rng, &record, purpose);
                let outcome = books.advance(lease, fact.clone(), now).await;
                println!("{step}: {} {fact:?}", name(&outcome));
                let expect = model.advance_channel(twin, fact.clone(), now).await.unwrap();
                assert_eq!(format!("{outcome:?}"), format!("{expect:?}"));
                let over = match &outcome {
                    ChannelStep::Done(_) => {
                        !matches!(fact, ChannelFact::Renewed { .. } | ChannelFact::Reserved(_) | ChannelFact::Metered { .. })
                    }
                    ChannelStep::Stale => true,
                    ChannelStep::Refused => false,
                };
                if let (ChannelFact::Committed(charge), ChannelStep::Done(_)) = (fact, outcome) {
                    charged += u128::from(charge.charge.sompi());
                }
                // Now and then it is tried again.
                if over && rng.gen_bool(0.9) {
                    leases.remove(place);
                }
            }
            74..96 => {
                let n = rng.gen_range(0..CHANNELS);
                let known = model.channel(&id(n)).await.unwrap();
                let sighting = any_sighting(&mut rng, known.as_deref());
                let observed = books.store().observe_channel(&id(n), sighting.clone(), now).await.unwrap();
                println!("{step}: {observed:?} {n} {sighting:?}");
                assert_eq!(observed, model.observe_channel(&id(n), sighting, now).await.unwrap());
                books.audit().await;
            }
            96..98 => {
                println!("{step}: restart");
                books = books.restart().await;
                if !S::LEASES_SURVIVE {
                    model.end_leases();
                }
            }
            _ => {
                println!("{step}: prune");
                let before = UnixMillis(now.0.saturating_sub(30_000));
                assert_eq!(books.store().prune(before).await.unwrap(), model.prune(before).await.unwrap());
            }
        }
        assert_eq!(books.store().channel_totals().await.unwrap().charged_sompi, charged);
        agree(&books, &model).await;
    }
}

async fn agree<S: Subject>(books: &Books<S>, model: &MemoryStore) {
    let store = books.store();
    assert_eq!(store.channel_totals().await.unwrap(), model.channel_totals().await.unwrap());
    for selection in [ChannelSelection::All, ChannelSelection::Open] {
        let query = ChannelQuery { selection, after: 0, limit: u32::MAX };
        let records = store.channels(&query).await.unwrap();
        assert_eq!(records, model.channels(&query).await.unwrap());
        for ChannelRecord { id, .. } in records.iter().map(|record| &**record) {
            assert_eq!(store.charges(id, 0, 99).await.unwrap(), model.charges(id, 0, 99).await.unwrap());
            assert_eq!(store.settled_moves(id, 0, 99).await.unwrap(), model.settled_moves(id, 0, 99).await.unwrap());
            for row in model.charges(id, 0, 99).await.unwrap() {
                let named = &row.terms.identifier;
                assert_eq!(store.charge(id, named).await.unwrap(), model.charge(id, named).await.unwrap());
            }
        }
    }
}

fn any_opening(rng: &mut StdRng) -> Opening {
    let n = rng.gen_range(0..CHANNELS);
    let near = if rng.gen_bool(0.8) { n } else { rng.gen_range(0..CHANNELS) };
    let config = if rng.gen_bool(0.9) { config(n) } else { salted(n, 9) };
    opening_of(config, near)
}

fn any_ask(rng: &mut StdRng) -> LeaseAsk {
    let (n, k) = (rng.gen_range(0..CHANNELS), rng.gen_range(0..REQUESTS));
    let near = |rng: &mut StdRng| if rng.gen_bool(0.9) { k } else { rng.gen_range(0..REQUESTS) };
    let purpose = match rng.gen_range(0..4) {
        0 => Purpose::Upkeep,
        _ => Purpose::Request { identifier: named(near(rng)), nonce: nonce(near(rng)), identity: identity(near(rng)) },
    };
    LeaseAsk { hold_millis: rng.gen_range(0..6_000), ..ask(n, purpose) }
}

fn any_fact(rng: &mut StdRng, record: &ChannelRecord, purpose: &Purpose) -> ChannelFact {
    let ceiling = rng.gen_range(0..500);
    let amount = rng.gen_range(0..=ceiling + 1);
    let leased = |mut terms: ChargeTerms| {
        if let Purpose::Request { identifier, nonce, identity } = purpose {
            (terms.identifier, terms.nonce, terms.identity) = (identifier.clone(), *nonce, *identity);
        }
        terms
    };
    let k = rng.gen_range(0..REQUESTS);
    match (rng.gen_range(0..10), purpose, &record.stream) {
        (0, ..) => ChannelFact::Renewed { hold_millis: rng.gen_range(0..9_000) },
        (1, ..) => ChannelFact::Released,
        (2, ..) => ChannelFact::Metered { reading: sompi(amount) },
        (3..9, _, Some(stream)) => ChannelFact::Committed(Box::new(posted(stream, amount.min(stream.terms.ceiling.sompi() + 1)))),
        (3, ..) => {
            let stream = stream(record, k, ceiling);
            reserved(&OpenStream { terms: leased(stream.terms.clone()), ..stream })
        }
        (4..9, Purpose::Request { .. }, None) => {
            let charge = charge(record, k, ceiling, amount);
            let response = rng.gen_bool(0.4).then(|| response(&format!("answer {k}")));
            ChannelFact::Committed(Box::new(Charge { terms: leased(charge.terms.clone()), response, ..charge }))
        }
        _ => {
            let added = if rng.gen_bool(0.5) { rng.gen_range(1..9_000) } else { 0 };
            // A transaction's id names its content: each of them spends one outpoint of one channel.
            let spent = u64::from_be_bytes(record.outpoint.txid.0[24..].try_into().unwrap());
            let content = (spent.rotate_left(23) ^ record.parts.charged.sompi()).rotate_left(23) ^ added;
            built(&step(record, content.wrapping_mul(0x9e37_79b9_7f4a_7c15), added))
        }
    }
}

fn any_sighting(rng: &mut StdRng, record: Option<&ChannelRecord>) -> ChannelSighting {
    let moves = record.map(|record| record.moves.as_slice()).unwrap_or_default();
    let txid = moves.choose(rng).map_or_else(|| tx(9), |step| step.txid);
    let spent = moves.iter().flat_map(|step| [step.spends, step.continuation]).chain(record.map(|record| record.outpoint));
    let spent = spent.collect::<Vec<_>>().choose(rng).copied().unwrap_or(outpoint(0));
    match rng.gen_range(0..160) {
        0..56 => ChannelSighting::MoveAccepted { txid, acceptance: acceptance(rng.gen_range(0..2)) },
        56..80 => ChannelSighting::MoveTakenBack { txid },
        80..100 => ChannelSighting::MoveFinal { txid },
        100..116 => ChannelSighting::MoveDropped { txid },
        116..124 => ChannelSighting::Funded { daa_score: rng.gen_range(0..3) },
        124..128 => ChannelSighting::Unfunded,
        128..132 => ChannelSighting::DepositFinal,
        132..136 => ChannelSighting::NeverFunded,
        136..142 => closed(spent),
        142 => closed_for_good(spent),
        _ => ChannelSighting::Reopened,
    }
}
