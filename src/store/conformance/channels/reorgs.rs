//! The record follows the chain, forth and back, in whatever order it is told.

use super::*;

/// A channel with two claims accepted one after the other and a charge after each; and the record after every step.
async fn two_deep<S: Subject>(books: &Books<S>, n: u64) -> [Arc<ChannelRecord>; 3] {
    books.open(n).await;
    let first = books.charge(n, 1, 500, 400).await;
    books.build(n, 50 + n, 0).await;
    books.sees(n, accepted(50 + n)).await;
    let second = books.charge(n, 2, 300, 90).await;
    books.build(n, 60 + n, 7_000).await;
    books.sees(n, accepted(60 + n)).await;
    let third = books.charge(n, 3, 200, 80).await;
    [first, second, third]
}

pub(in crate::store) async fn a_reorg_moves_the_accounts_back_and_forth<S: Subject>() {
    let mut books = Books::<S>::create().await;
    let [first, second, third] = two_deep(&books, 1).await;
    let accounts = |record: &ChannelRecord| (record.outpoint, record.reserve, record.voucher, record.parts.funding, record.parts.claimed);
    let back = books.sees(1, taken_back(61)).await;
    assert_eq!(accounts(&back), accounts(&second));
    assert_eq!((back.phase(), back.parts.charged, back.parts.signed), (Phase::TakenBack, sompi(570), sompi(300)));
    books.knows(1, taken_back(61)).await;
    let further = books.sees(1, taken_back(51)).await;
    assert_eq!(accounts(&further), accounts(&first));
    assert_eq!((further.phase(), further.active()), (Phase::TakenBack, sompi(570)));
    books = books.restart().await;
    let states = |rows: Vec<SettledMove>| rows.iter().map(|row| name(&row.state)).collect::<Vec<_>>();
    assert_eq!(states(books.store().settled_moves(&id(1), 0, 9).await.unwrap()), ["TakenBack", "TakenBack"]);
    assert_eq!(accounts(&*books.sees(1, accepted(51)).await), accounts(&second));
    assert_eq!(*books.sees(1, accepted(61)).await, *third, "as if nothing had been");
    assert_eq!(states(books.store().settled_moves(&id(1), 0, 9).await.unwrap()), ["Accepted", "Accepted"]);
    books.charge(1, 4, 10, 10).await;
}

/// Each move has its own watcher, and none waits for another.
pub(in crate::store) async fn sightings_may_come_in_any_order<S: Subject>() {
    let books = Books::<S>::create().await;
    type Story = Vec<ChannelSighting>;
    let again = |m| ChannelSighting::MoveAccepted { txid: tx(m), acceptance: acceptance(70) };
    let stories: [&dyn Fn(u64) -> Story; 6] = [
        &|n| vec![taken_back(50 + n), taken_back(60 + n), accepted(60 + n), accepted(50 + n)],
        &|n| vec![taken_back(50 + n), accepted(50 + n)],
        &|n| vec![taken_back(60 + n), taken_back(50 + n), accepted(50 + n), accepted(60 + n)],
        &|n| vec![taken_back(60 + n), accepted(60 + n), taken_back(50 + n), accepted(50 + n)],
        &|n| vec![taken_back(50 + n), taken_back(60 + n), again(60 + n), accepted(60 + n), again(50 + n), accepted(50 + n)],
        &|n| vec![closed(outpoint(n)), accepted(60 + n), accepted(50 + n)],
    ];
    for (n, story) in (1..).zip(stories) {
        let [.., third] = two_deep(&books, n).await;
        for sighting in story(n) {
            books.sees(n, sighting).await;
        }
        assert_eq!(*books.record(n).await, *third, "story {n}");
    }
}

pub(in crate::store) async fn a_reorg_may_prefer_the_other_move<S: Subject>() {
    let books = Books::<S>::create().await;
    for (n, told) in [(1, true), (2, false)] {
        books.open(n).await;
        books.charge(n, 1, 500, 400).await;
        books.build(n, 50 + n, 7_000).await;
        books.build(n, 60 + n, 0).await;
        let first = books.sees(n, accepted(50 + n)).await;
        if told {
            books.sees(n, taken_back(50 + n)).await;
        }
        let other = books.sees(n, accepted(60 + n)).await;
        assert_eq!((other.phase(), other.outpoint.txid), (Phase::Idle, tx(60 + n)));
        assert_eq!((other.parts.funding, other.parts.claimed), (sompi(FUNDING - 400), sompi(400)));
        books.knows(n, taken_back(50 + n)).await;
        // And back to the first.
        books.sees(n, taken_back(60 + n)).await;
        let back = books.sees(n, accepted(50 + n)).await;
        assert_eq!((back.phase(), back.outpoint, back.parts), (Phase::Idle, first.outpoint, first.parts));
        // What was charged over the first is covered by no voucher of the other: nothing is served until it returns.
        books.charge(n, 2, 300, 90).await;
        let stuck = books.sees(n, accepted(60 + n)).await;
        assert_eq!((stuck.phase(), stuck.active(), stuck.parts.signed), (Phase::TakenBack, sompi(90), Amount::ZERO));
        let (lease, record) = books.lease(n, request(3), NOW).await;
        books.refused(&lease, committed(&record, 3, 10, 10), "owed without a voucher").await;
        books.done(&lease, ChannelFact::Released, NOW).await;
        if told {
            let record = books.sees(n, accepted(50 + n)).await;
            assert_eq!((record.phase(), record.active(), record.parts.signed), (Phase::Idle, sompi(90), sompi(300)));
            books.charge(n, 4, 10, 10).await;
        } else {
            let record = books.sees(n, is_final(60 + n)).await;
            assert_eq!((record.phase(), record.moves.len()), (Phase::TakenBack, 0), "lost, and it shows");
        }
    }
}

/// Its client signed for its continuation when it was built: that pays for what was charged over the claim's, as far as it goes.
pub(in crate::store) async fn a_top_up_that_takes_the_place_of_a_claim_brings_its_own_voucher<S: Subject>() {
    let mut books = Books::<S>::create().await;
    for (n, signed, covered) in [(1, 200, 90), (2, 40, 40)] {
        books.open(n).await;
        books.charge(n, 1, 500, 400).await;
        let (lease, record) = books.lease(n, Purpose::Upkeep, NOW).await;
        let mut top_up = step(&record, 50 + n, 7_000);
        top_up.aside.voucher = Some(voucher(sompi(signed), 99));
        books.done(&lease, built(&top_up), NOW).await;
        books.build(n, 60 + n, 0).await;
        books.sees(n, accepted(60 + n)).await;
        let over_the_claim = books.charge(n, 2, 300, 90).await;
        books = books.restart().await;
        let other = books.sees(n, accepted(50 + n)).await;
        assert_eq!((other.voucher, other.parts.signed), (top_up.aside.voucher, sompi(signed)));
        assert_eq!((other.active(), other.claimable()), (sompi(90), sompi(covered)));
        // The voucher of either side comes and goes with it.
        let back = books.sees(n, accepted(60 + n)).await;
        assert_eq!((back.voucher, back.parts), (over_the_claim.voucher, over_the_claim.parts));
        books.sees(n, accepted(50 + n)).await;
        books.build(n, 70 + n, 0).await;
        let claimed = books.sees(n, accepted(70 + n)).await;
        assert_eq!((claimed.parts.claimed, claimed.active()), (sompi(400 + covered), sompi(90 - covered)));
    }
}

/// What a stream reserves is no better covered than what was charged.
pub(in crate::store) async fn a_stream_over_the_move_that_lost_is_posted_uncovered<S: Subject>() {
    let books = Books::<S>::create().await;
    books.open(1).await;
    books.charge(1, 1, 500, 400).await;
    books.build(1, 50, 7_000).await;
    books.build(1, 60, 0).await;
    books.sees(1, accepted(50)).await;
    let (lease, record) = books.lease(1, request(2), NOW).await;
    let streaming = stream(&record, 2, 300);
    books.done(&lease, reserved(&streaming), NOW).await;
    let other = books.sees(1, accepted(60)).await;
    assert_eq!((other.phase(), other.active(), other.parts.signed), (Phase::TakenBack, Amount::ZERO, Amount::ZERO));
    let posted = books.done(&lease, ChannelFact::Committed(Box::new(posted(&streaming, 120))), NOW).await;
    assert_eq!((posted.phase(), posted.active()), (Phase::TakenBack, sompi(120)));
    let back = books.sees(1, accepted(50)).await;
    assert_eq!((back.phase(), back.active(), back.parts.signed), (Phase::Idle, sompi(120), sompi(300)));
}

pub(in crate::store) async fn a_taken_back_move_can_be_gone_for_good<S: Subject>() {
    let books = Books::<S>::create().await;
    books.open(1).await;
    books.charge(1, 1, 500, 400).await;
    books.build(1, 50, 7_000).await;
    books.sees(1, accepted(50)).await;
    books.sees(1, taken_back(50)).await;
    // The client's coins of the top-up went elsewhere. The old voucher covers all: served on, and claimed without it.
    let record = books.sees(1, dropped(50)).await;
    assert_eq!((record.phase(), record.outpoint, record.parts.signed), (Phase::Idle, outpoint(1), sompi(500)));
    books.charge(1, 2, 50, 50).await;
    books.build(1, 60, 0).await;
    assert_eq!(books.sees(1, accepted(60)).await.parts.claimed, sompi(450));

    // With it goes what was built on it.
    two_deep(&books, 2).await;
    books.sees(2, taken_back(52)).await;
    books.sees(2, taken_back(62)).await;
    let record = books.sees(2, dropped(52)).await;
    assert!(record.moves.is_empty());
    assert_eq!((record.phase(), record.active(), record.parts.signed), (Phase::TakenBack, sompi(570), sompi(500)), "70 are not covered");
}

/// The voucher of what the chain has covers less than what is owed: that much is claimed, beside a top-up that may return and without one.
pub(in crate::store) async fn what_a_lost_top_up_leaves_is_claimed_as_far_as_its_voucher_goes<S: Subject>() {
    let mut books = Books::<S>::create().await;
    books.open(1).await;
    books.charge(1, 1, 500, 400).await;
    books.build(1, 50, 7_000).await;
    books.sees(1, accepted(50)).await;
    let over = books.charge(1, 2, 300, 290).await;
    let record = books.sees(1, taken_back(50)).await;
    assert_eq!((record.phase(), record.active(), record.claimable()), (Phase::TakenBack, sompi(690), sompi(500)));
    let (lease, _) = books.lease(1, Purpose::Upkeep, NOW).await;
    type Change<'a> = &'a dyn Fn(&mut Move);
    let cases: [(&str, Change<'_>); 3] = [
        ("all that is owed", &|step| (step.takes, step.funding) = (sompi(690), sompi(FUNDING - 690))),
        ("more than is covered", &|step| (step.takes, step.funding) = (sompi(501), sompi(FUNDING - 501))),
        ("another top-up", &|step| (step.added, step.funding) = (sompi(9), sompi(FUNDING - 500 + 9))),
    ];
    for (why, change) in cases {
        let mut wrong = step(&record, 60, 0);
        change(&mut wrong);
        books.refused(&lease, built(&wrong), why).await;
    }
    let record = books.done(&lease, built(&step(&record, 60, 0)), NOW).await;
    assert_eq!((record.phase(), record.next_moves().count(), record.moves[1].takes), (Phase::TakenBack, 2, sompi(500)));
    books = books.restart().await;
    // The top-up returns after all: nothing was taken twice.
    let back = books.sees(1, accepted(50)).await;
    assert_eq!((back.phase(), back.parts, back.voucher), (Phase::Idle, over.parts, over.voucher));
    books.sees(1, taken_back(50)).await;
    // The claim is faster, then the top-up again, then the claim for good.
    for again in [true, false] {
        let record = books.sees(1, accepted(60)).await;
        let expect = Parts { funding: sompi(FUNDING - 500), charged: sompi(690), claimed: sompi(500), ..Parts::default() };
        assert_eq!((record.phase(), record.parts, record.claimable()), (Phase::TakenBack, expect, Amount::ZERO));
        if again {
            assert_eq!(books.sees(1, accepted(50)).await.parts, over.parts);
        }
    }
    books.sees(1, taken_back(60)).await;
    let record = books.sees(1, dropped(50)).await;
    assert_eq!((record.moves.len(), record.claimable()), (1, sompi(500)));
    books.sees(1, accepted(60)).await;
    let (lease, record) = books.lease(1, Purpose::Upkeep, NOW).await;
    books.refused(&lease, built(&step(&record, 70, 0)), "no voucher covers the rest").await;
    let record = books.sees(1, is_final(60)).await;
    assert_eq!((record.phase(), record.active(), record.unclaimed_since), (Phase::TakenBack, sompi(190), Some(NOW)));
    books.sees(1, closed_for_good(record.outpoint)).await;
    let totals = books.store().channel_totals().await.unwrap();
    assert_eq!((totals.claimed_sompi, totals.lost_sompi, totals.active_sompi), (500, 190, 0));
}

pub(in crate::store) async fn a_refund_closes_at_once_and_a_reorg_reopens<S: Subject>() {
    use ChannelSighting::Reopened;
    let mut books = Books::<S>::create().await;
    books.open(1).await;
    let open = books.charge(1, 1, 500, 400).await;
    books.knows(1, Reopened).await;
    books.knows(1, closed(outpoint(9))).await;
    let gone = books.sees(1, closed(outpoint(1))).await;
    assert_eq!((gone.phase(), gone.closure), (Phase::Closed, Some(refund(outpoint(1)))));
    books.knows(1, closed(outpoint(1))).await;
    let ChannelTotals { active_sompi, lost_sompi, funded_sompi, .. } = books.store().channel_totals().await.unwrap();
    assert_eq!((active_sompi, lost_sompi, funded_sompi), (0, 400, 0));
    assert_eq!(*books.sees(1, Reopened).await, *open);
    books.charge(1, 2, 10, 10).await;
    books.sees(1, closed(outpoint(1))).await;
    books = books.restart().await;
    let record = books.sees(1, closed_for_good(outpoint(1))).await;
    assert_eq!(record.deposit.transaction, None);
    for sighting in [Reopened, closed(outpoint(1)), ChannelSighting::Funded { daa_score: 1 }, ChannelSighting::NeverFunded] {
        books.knows(1, sighting).await;
    }
}

pub(in crate::store) async fn a_refund_and_a_claim_exclude_each_other<S: Subject>() {
    let books = Books::<S>::create().await;
    // The refund first, then the chain prefers the claim.
    books.open(1).await;
    books.charge(1, 1, 500, 400).await;
    books.build(1, 51, 0).await;
    assert_eq!(books.sees(1, closed(outpoint(1))).await.phase(), Phase::Closed);
    let record = books.sees(1, accepted(51)).await;
    assert_eq!((record.phase(), record.parts.claimed, record.closure), (Phase::Idle, sompi(400), None));
    // And the refund again, which nobody announced as the claim's end: the claim is undone with it.
    let record = books.sees(1, closed(outpoint(1))).await;
    assert_eq!((record.phase(), record.parts.claimed, record.outpoint), (Phase::Closed, Amount::ZERO, outpoint(1)));
    assert_eq!(books.store().channel_totals().await.unwrap().lost_sompi, 400);
    books.knows(1, taken_back(51)).await;
    let record = books.sees(1, closed_for_good(outpoint(1))).await;
    assert!(record.moves.is_empty());
    assert_eq!(books.store().settled_moves(&id(1), 0, 9).await.unwrap()[0].state, SettledState::TakenBack);
    books.knows(1, accepted(51)).await;

    // A refund of the continuation: the claim before it stands, wherever it is accepted again.
    books.open(2).await;
    books.charge(2, 1, 500, 400).await;
    let continuation = books.build(2, 52, 0).await.moves[0].continuation;
    books.sees(2, accepted(52)).await;
    books.charge(2, 2, 100, 100).await;
    books.sees(2, closed(continuation)).await;
    let again = ChannelSighting::MoveAccepted { txid: tx(52), acceptance: acceptance(7) };
    let record = books.sees(2, again).await;
    assert_eq!((record.phase(), record.parts.claimed), (Phase::Closed, sompi(400)));
    // Taken back and accepted again, both still stand.
    books.sees(2, taken_back(52)).await;
    assert_eq!(books.sees(2, accepted(52)).await.phase(), Phase::Closed);
    books.sees(2, closed_for_good(continuation)).await;
    assert_eq!(books.store().settled_moves(&id(2), 0, 9).await.unwrap()[0].state, SettledState::Final(acceptance(52)));
    assert_eq!(books.store().channel_totals().await.unwrap().claimed_sompi, 400);
}
