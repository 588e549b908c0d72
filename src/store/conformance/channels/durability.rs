//! Restarts and damaged records.

use super::*;

pub(in crate::store) async fn every_step_of_a_channel_survives_a_restart<S: Subject>() {
    let mut books = Books::<S>::create().await;
    let mut record = books.open(1).await;
    for n in 1..=4 {
        // One step, then a restart, and the lease is gone with the process.
        let now = NOW.plus_millis(n * 2 * HOLD_MILLIS);
        let purpose = if n == 3 { Purpose::Upkeep } else { request(n) };
        let (lease, _) = books.lease(1, purpose, now).await;
        let fact = match n {
            1 => committed(&record, 1, 500, 400),
            2 => reserved(&stream(&record, 2, 300)),
            3 => ChannelFact::Committed(Box::new(posted(record.stream.as_ref().unwrap(), 150))),
            _ => {
                books.done(&lease, ChannelFact::Released, now).await;
                books.build(1, 50, 7_000).await;
                books.sees(1, accepted(50)).await;
                record = books.build_over(&*books.charge(1, 5, 30, 20).await, 51).await;
                books = books.restart().await;
                assert_eq!(books.record(1).await, record);
                break;
            }
        };
        record = books.done(&lease, fact, now).await;
        books = books.restart().await;
        assert_eq!(books.record(1).await, record, "step {n}");
        // Of the steps only a reservation keeps its lease; where leases survive, its holder may go on.
        if S::LEASES_SURVIVE && n == 2 {
            record = books.done(&lease, ChannelFact::Metered { reading: sompi(100) }, now).await;
        } else {
            assert!(matches!(books.advance(&lease, ChannelFact::Released, now).await, ChannelStep::Stale), "the process is another");
        }
    }
    assert_eq!((record.moves.len(), record.charges, record.phase()), (2, 3, Phase::Claiming));
    for k in [1, 2, 5] {
        assert_eq!(name(&books.try_lease(&ask(1, request(k)), NOW).await), "Replay");
        let fresh = Purpose::Request { identifier: named(k + 100), nonce: nonce(k), identity: identity(k) };
        assert_eq!(name(&books.try_lease(&ask(1, fresh), NOW).await), "NonceReused");
    }
    assert_eq!(name(&books.try_lease(&ask(1, request(3)), NOW).await), "Held", "upkeep used nothing up");
}

impl<S: Subject> Books<S> {
    async fn build_over(&self, record: &ChannelRecord, m: u64) -> Arc<ChannelRecord> {
        let (lease, _) = self.lease(1, Purpose::Upkeep, NOW).await;
        self.done(&lease, built(&step(record, m, 0)), NOW).await
    }
}

pub(in crate::store) async fn a_damaged_channel_is_refused_and_harms_no_other<S: Subject>() {
    for part in ChannelPart::ALL {
        for damage in [Damage::NewerVersion, Damage::FlippedBit] {
            let mut books = Books::<S>::create().await;
            for n in 1..=2 {
                books.open(n).await;
                let (lease, record) = books.lease(n, request(1), NOW).await;
                let answered = Charge { response: Some(response("kept")), ..charge(&record, 1, 500, 400) };
                books.done(&lease, ChannelFact::Committed(Box::new(answered)), NOW).await;
                books.build(n, 50 + n, 0).await;
                books.sees(n, accepted(50 + n)).await;
            }
            // A store may serve what it has read before, so nothing is read before the damage.
            books = Books(books.0.restart().await);
            if !books.0.damage_channel(&id(1), part, damage).await {
                return;
            }
            let store = books.store();
            let corrupt = |what: &str, error: Option<StoreError>| {
                assert!(matches!(error, Some(StoreError::Corrupt(_))), "{what}, {part:?}, {damage:?}: {error:?}");
            };
            let named = named(1);
            match part {
                ChannelPart::Terms | ChannelPart::Accounts | ChannelPart::Chain => {
                    corrupt("channel", store.channel(&id(1)).await.err());
                    corrupt("lease", store.lease(&ask(1, request(2)), NOW).await.err());
                    corrupt("observe", store.observe_channel(&id(1), taken_back(51), NOW).await.err());
                    corrupt("open", store.open_channel(&opening(1), NOW).await.err());
                    let query = ChannelQuery { selection: ChannelSelection::All, after: 0, limit: 9 };
                    corrupt("channels", store.channels(&query).await.err());
                }
                ChannelPart::Charge => {
                    corrupt("charge", store.charge(&id(1), &named).await.err());
                    corrupt("charges", store.charges(&id(1), 0, 9).await.err());
                    corrupt("replay", store.lease(&ask(1, request(1)), NOW).await.err());
                }
                ChannelPart::Response => {
                    corrupt("charge", store.charge(&id(1), &named).await.err());
                    corrupt("replay", store.lease(&ask(1, request(1)), NOW).await.err());
                }
                ChannelPart::Move => {
                    corrupt("moves", store.settled_moves(&id(1), 0, 9).await.err());
                    corrupt("observe", store.observe_channel(&id(1), taken_back(51), NOW).await.err());
                }
            }
            let Leased::Held(lease, record) = store.lease(&ask(2, request(2)), NOW).await.unwrap() else { panic!("not held") };
            let step = store.advance_channel(&lease, committed(&record, 2, 10, 10), NOW).await.unwrap();
            assert!(matches!(step, ChannelStep::Done(_)));
        }
    }
}
