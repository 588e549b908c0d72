//! `lease`: every outcome, their order, and what a lease is worth once it is over.

use super::*;

const NONCE: [u8; 16] = [0xee; 16];

/// Request `k` with what belongs to others.
fn mixed(identifier: u64, nonce_of: u64, identity_of: u64) -> Purpose {
    Purpose::Request { identifier: named(identifier), nonce: nonce(nonce_of), identity: identity(identity_of) }
}

pub(in crate::store) async fn every_lease_has_its_outcome<S: Subject>() {
    let books = Books::<S>::create().await;
    books.open(1).await;
    books.open(2).await;
    assert!(matches!(books.try_lease(&ask(3, request(1)), NOW).await, Leased::Unknown));
    assert!(matches!(books.try_lease(&ask(3, Purpose::Upkeep), NOW).await, Leased::Unknown));
    let charged = books.charge(1, 1, 500, 400).await;
    let StoredCharge { record: row, .. } = books.store().charge(&id(1), &named(1)).await.unwrap().unwrap();
    for held in [false, true] {
        let lease = if held { Some(books.lease(1, request(5), NOW).await) } else { None };
        for (what, purpose, expect) in [
            ("the same request", request(1), "Replay"),
            ("the same request under a renewed offer", mixed(1, 2, 1), "Replay"),
            ("another request under its identifier", mixed(1, 1, 2), "IdentifierReused"),
            ("another request and offer under its identifier", mixed(1, 2, 2), "IdentifierReused"),
            ("its offer under another identifier", mixed(2, 1, 1), "NonceReused"),
            ("its offer for another request", mixed(2, 1, 2), "NonceReused"),
        ] {
            let leased = books.try_lease(&ask(1, purpose), NOW).await;
            assert_eq!(name(&leased), expect, "{what}, held: {held}");
            if let Leased::Replay(charge) = leased {
                assert_eq!(charge.record, row);
            }
        }
        if let Some((lease, record)) = lease {
            assert_eq!(record, charged);
            for (purpose, same) in [(request(5), true), (mixed(5, 6, 7), true), (request(6), false), (Purpose::Upkeep, false)] {
                match books.try_lease(&ask(1, purpose.clone()), NOW.plus_millis(1)).await {
                    Leased::Busy { until, same: found, record } => {
                        assert_eq!((until, found, &record), (NOW.plus_millis(HOLD_MILLIS), same, &charged), "{purpose:?}");
                    }
                    other => panic!("{other:?}"),
                }
            }
            books.done(&lease, ChannelFact::Released, NOW).await;
        }
    }
    // Identifiers and offers belong to their channel.
    books.charge(2, 1, 10, 10).await;
    // Upkeep is nobody's request.
    let (lease, _) = books.lease(1, Purpose::Upkeep, NOW).await;
    for purpose in [Purpose::Upkeep, request(8)] {
        assert!(matches!(books.try_lease(&ask(1, purpose), NOW).await, Leased::Busy { same: false, .. }));
    }
    books.done(&lease, ChannelFact::Released, NOW).await;
    // A request that failed used nothing up.
    let (lease, record) = books.lease(1, request(5), NOW).await;
    books.done(&lease, committed(&record, 5, 10, 10), NOW).await;
}

pub(in crate::store) async fn a_lease_expires_and_is_taken_over_once<S: Subject>() {
    let books = Books::<S>::create().await;
    let record = books.open(1).await;
    let (first, _) = books.lease(1, request(1), NOW).await;
    let ends = NOW.plus_millis(HOLD_MILLIS);
    assert!(matches!(books.try_lease(&ask(1, request(2)), UnixMillis(ends.0 - 1)).await, Leased::Busy { .. }));
    // Renewed from the moment of the step, also when it is over and nobody else came.
    books.done(&first, ChannelFact::Renewed { hold_millis: 100 }, ends).await;
    assert!(
        matches!(books.try_lease(&ask(1, request(2)), ends.plus_millis(99)).await, Leased::Busy { until, .. } if until == ends.plus_millis(100))
    );
    let (second, _) = books.lease(1, request(2), ends.plus_millis(100)).await;
    let claim = step(&*books.charge_by(&second, &record, 2, ends.plus_millis(100)).await, 50, 0);
    let (third, record) = books.lease(1, request(3), ends.plus_millis(200)).await;
    for stale in [&first, &second] {
        for fact in [
            ChannelFact::Renewed { hold_millis: 1_000 },
            ChannelFact::Released,
            ChannelFact::Metered { reading: Amount::ZERO },
            committed(&record, 1, 10, 10),
            committed(&record, 3, 10, 10),
            reserved(&stream(&record, 1, 10)),
            built(&claim),
        ] {
            assert!(matches!(books.advance(stale, fact.clone(), ends).await, ChannelStep::Stale), "{fact:?}");
        }
    }
    assert_eq!(books.record(1).await, record);
    books.done(&third, committed(&record, 3, 10, 10), ends.plus_millis(100_000)).await;
}

impl<S: Subject> Books<S> {
    async fn charge_by(&self, lease: &Lease, record: &ChannelRecord, k: u64, now: UnixMillis) -> Arc<ChannelRecord> {
        self.done(lease, committed(record, k, 10, 10), now).await
    }
}

/// Every step that ends a lease ends it at once, whatever time was left.
pub(in crate::store) async fn a_lease_ends_with_its_last_step<S: Subject>() {
    let books = Books::<S>::create().await;
    for n in 1..=4 {
        books.open(n).await;
        books.charge(n, 1, 100, 50).await;
        let (lease, record) = books.lease(n, request(2), NOW).await;
        let streaming = stream(&record, 2, 100);
        let last = match n {
            1 => ChannelFact::Released,
            2 => committed(&record, 2, 100, 100),
            3 => {
                books.done(&lease, reserved(&streaming), NOW).await;
                books.done(&lease, ChannelFact::Metered { reading: sompi(1) }, NOW).await;
                ChannelFact::Committed(Box::new(posted(&streaming, 7)))
            }
            _ => built(&step(&record, 50, 0)),
        };
        assert!(matches!(books.try_lease(&ask(n, request(3)), NOW).await, Leased::Busy { .. }), "{n}");
        books.done(&lease, last.clone(), NOW).await;
        assert!(matches!(books.advance(&lease, last, NOW).await, ChannelStep::Stale), "{n}");
        assert!(matches!(books.advance(&lease, ChannelFact::Renewed { hold_millis: 9 }, NOW).await, ChannelStep::Stale), "{n}");
        books.lease(n, request(3), NOW).await;
    }
}

/// A step that is refused leaves the lease as it was.
pub(in crate::store) async fn a_refused_step_keeps_its_lease<S: Subject>() {
    let books = Books::<S>::create().await;
    books.open(1).await;
    let (lease, record) = books.lease(1, request(1), NOW).await;
    for (why, fact) in [
        ("another request's charge", committed(&record, 2, 10, 10)),
        ("another request's stream", reserved(&stream(&record, 2, 10))),
        ("a reading without a stream", ChannelFact::Metered { reading: Amount::ZERO }),
        ("a claim of nothing", built(&step(&record, 50, 0))),
    ] {
        books.refused(&lease, fact, why).await;
        assert!(matches!(books.try_lease(&ask(1, request(1)), NOW).await, Leased::Busy { same: true, .. }), "{why}");
    }
    for change in
        [&(|terms: &mut ChargeTerms| terms.nonce = NONCE) as &dyn Fn(&mut ChargeTerms), &|terms| terms.identity = identity(9), &|terms| {
            terms.identifier = named(9)
        }]
    {
        let mut other = charge(&record, 1, 10, 10);
        change(&mut other.terms);
        books.refused(&lease, ChannelFact::Committed(Box::new(other)), "not what was leased").await;
    }
    let (upkeep, record) = {
        books.done(&lease, ChannelFact::Released, NOW).await;
        books.lease(1, Purpose::Upkeep, NOW).await
    };
    books.refused(&upkeep, committed(&record, 1, 10, 10), "upkeep charges nothing of its own").await;
    books.refused(&upkeep, reserved(&stream(&record, 1, 10)), "upkeep reserves nothing").await;
}
