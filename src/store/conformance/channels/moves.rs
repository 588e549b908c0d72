//! Claims and top-ups from before their first submit to their finality.

use super::*;

pub(in crate::store) async fn a_claim_runs_its_course<S: Subject>() {
    let mut books = Books::<S>::create().await;
    books.open(1).await;
    let before = books.charge(1, 1, 500, 400).await;
    let (lease, record) = books.lease(1, Purpose::Upkeep, NOW).await;
    let claim = step(&record, 50, 0);
    let record = books.done(&lease, built(&claim), NOW).await;
    assert_eq!((record.phase(), &record.moves), (Phase::Claiming, &vec![claim.clone()]));
    assert_eq!(*record, ChannelRecord { moves: vec![claim.clone()], ..(*before).clone() }, "nothing moved yet");
    for sighting in [taken_back(50), is_final(50), accepted(51), taken_back(51), is_final(51), dropped(51)] {
        books.knows(1, sighting).await;
    }
    books = books.restart().await;
    let record = books.sees(1, accepted(50)).await;
    let expect = Parts { funding: sompi(FUNDING - 400), charged: sompi(400), claimed: sompi(400), ..Parts::default() };
    assert_eq!((record.phase(), record.parts), (Phase::Idle, expect));
    assert_eq!((record.outpoint, record.reserve), (claim.continuation, claim.reserve));
    assert_eq!((record.voucher, record.unclaimed_since, record.previous()), (None, None, Some(outpoint(1))));
    books.knows(1, accepted(50)).await;
    books.knows(1, dropped(50)).await;
    let mut row = SettledMove {
        number: 1,
        channel: id(1),
        txid: tx(50),
        spends: outpoint(1),
        continuation: claim.continuation,
        takes: sompi(400),
        fee: sompi(1),
        added: Amount::ZERO,
        state: SettledState::Accepted(acceptance(50)),
        at: NOW,
    };
    assert_eq!(books.store().settled_moves(&id(1), 0, 9).await.unwrap(), [row.clone()]);
    // Accepted again elsewhere on the chain.
    let moved = ChannelSighting::MoveAccepted { txid: tx(50), acceptance: acceptance(51) };
    books.sees(1, moved.clone()).await;
    books.knows(1, moved).await;
    // Served on over the continuation, claimed again, and then all of it final.
    let record = books.charge(1, 2, 100, 100).await;
    assert_eq!(record.unclaimed_since, Some(NOW));
    books.build(1, 60, 0).await;
    books.sees(1, accepted(60)).await;
    let record = books.sees(1, is_final(50)).await;
    assert_eq!(record.moves.iter().map(|step| step.txid).collect::<Vec<_>>(), [tx(60)]);
    assert_eq!(record.deposit.transaction, None, "final as well");
    books.knows(1, is_final(50)).await;
    books.knows(1, taken_back(50)).await;
    books = books.restart().await;
    let record = books.sees(1, is_final(60)).await;
    assert!(record.moves.is_empty());
    assert_eq!((record.previous(), record.parts.claimed, record.phase()), (Some(claim.continuation), sompi(500), Phase::Idle));
    row.state = SettledState::Final(acceptance(51));
    let rows = books.store().settled_moves(&id(1), 0, 9).await.unwrap();
    assert_eq!((rows.len(), &rows[0]), (2, &row));
    assert_eq!((rows[1].number, rows[1].takes, rows[1].state), (2, sompi(100), SettledState::Final(acceptance(60))));
    for (after, limit, expect) in [(0, 1, 1), (1, 9, 1), (2, 9, 0), (0, 0, 0), (u64::MAX, 1, 0)] {
        assert_eq!(books.store().settled_moves(&id(1), after, limit).await.unwrap().len(), expect);
    }
    assert!(books.store().settled_moves(&id(9), 0, 9).await.unwrap().is_empty());
}

pub(in crate::store) async fn a_top_up_adds_to_the_escrow<S: Subject>() {
    let books = Books::<S>::create().await;
    books.open(1).await;
    books.charge(1, 1, 500, 400).await;
    books.build(1, 50, 7_000).await;
    let record = books.sees(1, accepted(50)).await;
    assert_eq!((record.parts.funding, record.parts.claimed), (sompi(FUNDING - 400 + 7_000), sompi(400)));
    assert_eq!(books.store().settled_moves(&id(1), 0, 9).await.unwrap()[0].added, sompi(7_000));
    assert_eq!(books.store().channel_totals().await.unwrap().funded_sompi, u128::from(FUNDING - 400 + 7_000));
    books.sees(1, taken_back(50)).await;
    assert_eq!(books.record(1).await.parts.funding, sompi(FUNDING));
}

pub(in crate::store) async fn a_move_takes_what_is_active_and_nothing_else<S: Subject>() {
    let books = Books::<S>::create().await;
    books.open(1).await;
    books.open(2).await;
    books.charge(1, 1, 500, 400).await;
    let (lease, record) = books.lease(1, Purpose::Upkeep, NOW).await;
    type Change<'a> = &'a dyn Fn(&mut Move);
    let cases: [(&str, Change<'_>); 18] = [
        ("another outpoint", &|step| step.spends = outpoint(9)),
        ("more than is active", &|step| step.takes = sompi(401)),
        ("less than is active", &|step| step.takes = sompi(399)),
        ("another voucher", &|step| step.voucher = voucher(sompi(500), 77)),
        ("a higher voucher", &|step| step.voucher.amount = sompi(501)),
        ("another holding", &|step| step.held = sompi(FUNDING + 1)),
        ("another reserve", &|step| step.spends_reserve = sompi(1)),
        ("a continuation that keeps less", &|step| step.funding = sompi(FUNDING - 401)),
        ("a continuation that keeps more", &|step| step.funding = sompi(FUNDING - 399)),
        ("a top-up that is not in its continuation", &|step| step.added = sompi(1)),
        ("a fee above what it takes", &|step| step.fee = sompi(401)),
        ("accepted from the start", &|step| step.state = MoveState::Accepted(acceptance(1))),
        ("taken back from the start", &|step| step.state = MoveState::TakenBack),
        ("an end of its own", &|step| step.aside.unclaimed_since = Some(NOW)),
        ("a voucher for the continuation of a claim", &|step| step.aside.voucher = Some(voucher(sompi(100), 7))),
        ("a continuation of another transaction", &|step| step.continuation.txid = tx(51)),
        ("a continuation that is its input", &|step| (step.txid, step.continuation) = (outpoint(1).txid, outpoint(1))),
        ("a continuation of another channel", &|step| (step.txid, step.continuation) = (outpoint(2).txid, outpoint(2))),
    ];
    for (why, change) in cases {
        let mut wrong = step(&record, 50, 0);
        change(&mut wrong);
        books.refused(&lease, built(&wrong), why).await;
    }
    let mut wrong = step(&record, 50, 7_000);
    wrong.aside.voucher = Some(voucher(wrong.funding, 7));
    books.refused(&lease, built(&wrong), "a voucher that leaves no claim of the continuation").await;
    books.done(&lease, built(&step(&record, 50, 0)), NOW).await;
}

/// A top-up that does not come must never block our claim.
pub(in crate::store) async fn whichever_of_two_moves_is_accepted_counts<S: Subject>() {
    let books = Books::<S>::create().await;
    for (n, (winner, loser)) in (1..).zip([(50, 60), (60, 50)]) {
        books.open(n).await;
        books.charge(n, 1, 500, 400).await;
        let [winner, loser] = [winner, loser].map(|m| m + n);
        books.build(n, 50 + n, 7_000).await;
        let record = books.build(n, 60 + n, 0).await;
        assert_eq!((record.phase(), record.next_moves().count()), (Phase::Claiming, 2));
        // Sent again because its answer was lost: the same, once.
        let again = books.build(n, 60 + n, 0).await;
        assert_eq!(again.moves, record.moves);
        let record = books.sees(n, accepted(winner)).await;
        assert_eq!((record.phase(), record.moves.len(), record.next_moves().count()), (Phase::Idle, 2, 0));
        assert_eq!(record.outpoint.txid, tx(winner));
        books.charge(n, 2, 100, 100).await;
        let record = books.sees(n, is_final(winner)).await;
        assert!(record.moves.is_empty(), "the other one can never be");
        for sighting in [accepted(loser), taken_back(winner), taken_back(loser), dropped(loser)] {
            books.knows(n, sighting).await;
        }
    }
}

pub(in crate::store) async fn a_dropped_move_leaves_the_channel_as_it_was<S: Subject>() {
    let mut books = Books::<S>::create().await;
    books.open(1).await;
    let before = books.charge(1, 1, 500, 400).await;
    books.build(1, 50, 7_000).await;
    books.build(1, 60, 0).await;
    let record = books.sees(1, dropped(50)).await;
    assert_eq!((record.phase(), record.moves.len()), (Phase::Claiming, 1));
    assert_eq!(*books.sees(1, dropped(60)).await, *before);
    books.knows(1, dropped(60)).await;
    assert!(books.store().settled_moves(&id(1), 0, 9).await.unwrap().is_empty());
    books = books.restart().await;
    books.charge(1, 2, 100, 100).await;
    // The very same transaction may be built again.
    books.build(1, 60, 0).await;
    books.sees(1, accepted(60)).await;
}
