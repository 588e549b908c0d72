//! Requests whose cost is known at their end: reserved, metered, posted; also when their holder or their outpoint is gone.

use super::*;

pub(in crate::store) async fn a_stream_reserves_and_posts<S: Subject>() {
    let mut books = Books::<S>::create().await;
    books.open(1).await;
    books.charge(1, 1, 500, 400).await;
    let (lease, record) = books.lease(1, request(2), NOW).await;
    let streaming = stream(&record, 2, 300);
    let record = books.done(&lease, reserved(&streaming), NOW).await;
    let expect = Parts { funding: sompi(FUNDING), charged: sompi(400), reserved: sompi(300), signed: sompi(700), claimed: Amount::ZERO };
    assert_eq!((record.parts, record.stream.as_ref(), record.phase()), (expect, Some(&streaming), Phase::Streaming));
    assert_eq!((record.active(), record.exposure()), (sompi(400), sompi(700)));
    for (why, fact) in [
        ("a second stream", reserved(&stream(&record, 2, 100))),
        ("a claim while it runs", built(&step(&record, 50, 0))),
        ("a reading above the ceiling", ChannelFact::Metered { reading: sompi(301) }),
        ("a post above the ceiling", ChannelFact::Committed(Box::new(posted(&streaming, 301)))),
        ("a post from another C", ChannelFact::Committed(Box::new(Charge { charged_before: sompi(1), ..posted(&streaming, 9) }))),
        ("a post from another K", ChannelFact::Committed(Box::new(Charge { claimed: sompi(1), ..posted(&streaming, 9) }))),
        ("a post of another request", committed(&record, 3, 100, 100)),
    ] {
        books.refused(&lease, fact, why).await;
    }
    for reading in [0, 300, 120] {
        let record = books.done(&lease, ChannelFact::Metered { reading: sompi(reading) }, NOW).await;
        assert_eq!(record.stream.as_ref().and_then(|stream| stream.reading), Some(sompi(reading)));
    }
    books = books.restart().await;
    // The holder died with the process; whoever comes next posts what it left.
    let (lease, record) = books.lease(1, Purpose::Upkeep, NOW.plus_millis(HOLD_MILLIS)).await;
    let left = record.stream.clone().unwrap();
    assert_eq!(left, OpenStream { reading: Some(sompi(120)), ..streaming });
    books.refused(&lease, built(&step(&record, 50, 0)), "a claim of what a stream reserves").await;
    let record = books.done(&lease, ChannelFact::Committed(Box::new(posted(&left, 120))), NOW).await;
    assert_eq!((record.parts.charged, record.parts.reserved, record.parts.signed), (sompi(520), Amount::ZERO, sompi(700)));
    assert_eq!((record.phase(), record.stream.as_ref()), (Phase::Idle, None));
    let row = books.store().charge(&id(1), &named(2)).await.unwrap().unwrap().record;
    assert_eq!((row.number, row.charge, row.claimed, row.funding), (2, sompi(120), Amount::ZERO, sompi(FUNDING)));
    assert!(matches!(books.try_lease(&ask(1, request(2)), NOW).await, Leased::Replay(_)));
}

pub(in crate::store) async fn a_stream_begins_as_its_record_stands<S: Subject>() {
    let books = Books::<S>::create().await;
    books.open(1).await;
    books.charge(1, 1, 500, 400).await;
    let (lease, record) = books.lease(1, request(2), NOW).await;
    type Change<'a> = &'a dyn Fn(&mut OpenStream);
    let cases: [(&str, Change<'_>); 8] = [
        ("another C", &|stream| stream.charged_before = sompi(399)),
        ("another K", &|stream| stream.claimed = sompi(1)),
        ("another funding", &|stream| stream.funding = sompi(1)),
        ("unknown above the ceiling", &|stream| stream.unknown = sompi(301)),
        ("a reading above the ceiling", &|stream| stream.reading = Some(sompi(301))),
        ("another outpoint", &|stream| stream.terms.outpoint = outpoint(9)),
        ("a voucher that is not due", &|stream| stream.terms.voucher.amount = sompi(701)),
        ("another request", &|stream| stream.terms.identifier = named(3)),
    ];
    for (why, change) in cases {
        let mut wrong = stream(&record, 2, 300);
        change(&mut wrong);
        books.refused(&lease, reserved(&wrong), why).await;
    }
    books.done(&lease, reserved(&stream(&record, 2, 300)), NOW).await;
}

pub(in crate::store) async fn a_stream_that_never_began_is_forgotten<S: Subject>() {
    let books = Books::<S>::create().await;
    books.open(1).await;
    let (lease, record) = books.lease(1, request(1), NOW).await;
    let streaming = stream(&record, 1, 300);
    books.done(&lease, reserved(&streaming), NOW).await;
    let record = books.done(&lease, ChannelFact::Released, NOW).await;
    assert_eq!((record.phase(), record.charges, record.active()), (Phase::Idle, 0, Amount::ZERO));
    assert_eq!((record.voucher, record.parts.signed), (Some(streaming.terms.voucher), sompi(300)), "what was signed stays signed");
    assert!(matches!(books.advance(&lease, ChannelFact::Released, NOW).await, ChannelStep::Stale));
    // The identifier and the offer are not used up.
    let record = books.charge(1, 1, 100, 100).await;
    assert_eq!(record.parts.signed, sompi(300));
    // What somebody else left running is not another's to forget.
    let (lease, record) = books.lease(1, request(2), NOW).await;
    let streaming = stream(&record, 2, 200);
    books.done(&lease, reserved(&streaming), NOW).await;
    for (purpose, late) in [(request(3), 1), (Purpose::Upkeep, 2)] {
        let (other, _) = books.lease(1, purpose, NOW.plus_millis(late * HOLD_MILLIS)).await;
        let record = books.done(&other, ChannelFact::Released, NOW.plus_millis(late * HOLD_MILLIS)).await;
        assert_eq!((record.stream.as_ref(), record.parts.reserved), (Some(&streaming), sompi(200)));
    }
}

/// What a stream cost is owed, whatever became of its outpoint.
pub(in crate::store) async fn a_stream_is_posted_whatever_the_chain_does<S: Subject>() {
    let books = Books::<S>::create().await;
    // Closed meanwhile.
    books.open(1).await;
    let (lease, record) = books.lease(1, request(1), NOW).await;
    let streaming = stream(&record, 1, 300);
    books.done(&lease, reserved(&streaming), NOW).await;
    books.sees(1, closed_for_good(outpoint(1))).await;
    let record = books.done(&lease, ChannelFact::Committed(Box::new(posted(&streaming, 200))), NOW).await;
    assert_eq!((record.phase(), record.parts.charged), (Phase::Closed, sompi(200)));
    assert_eq!(books.store().channel_totals().await.unwrap().lost_sompi, 200);

    // The claim before it was taken back: it is posted to the accounts that it was reserved in.
    for (n, again) in [(2, true), (3, false)] {
        books.open(n).await;
        let first = books.charge(n, 1, 500, 400).await;
        let claim = books.build(n, 50 + n, 0).await.moves[0].clone();
        books.sees(n, accepted(50 + n)).await;
        let (lease, record) = books.lease(n, request(2), NOW).await;
        let streaming = stream(&record, 2, 300);
        assert_eq!((streaming.claimed, streaming.funding), (sompi(400), sompi(FUNDING - 400)));
        let running = books.done(&lease, reserved(&streaming), NOW).await;
        let back = books.sees(n, taken_back(50 + n)).await;
        assert_eq!((back.phase(), back.outpoint, back.voucher), (Phase::TakenBack, outpoint(n), first.voucher));
        if again {
            assert_eq!(*books.sees(n, accepted(50 + n)).await, *running);
            books.sees(n, taken_back(50 + n)).await;
        }
        let now = NOW.plus_millis(77);
        let record = books.done(&lease, ChannelFact::Committed(Box::new(posted(&streaming, 200))), now).await;
        assert_eq!((record.phase(), record.active(), record.parts.reserved), (Phase::TakenBack, sompi(600), Amount::ZERO));
        let row = books.store().charge(&id(n), &named(2)).await.unwrap().unwrap().record;
        assert_eq!((row.claimed, row.funding, row.charged_after), (sompi(400), sompi(FUNDING - 400), sompi(600)));
        if again {
            let record = books.sees(n, accepted(50 + n)).await;
            assert_eq!((record.phase(), record.active(), record.unclaimed_since), (Phase::Idle, sompi(200), Some(now)));
            assert_eq!((record.outpoint, record.voucher), (claim.continuation, Some(streaming.terms.voucher)));
            books.build(n, 60, 0).await;
        } else {
            let record = books.sees(n, dropped(50 + n)).await;
            assert_eq!(record.phase(), Phase::TakenBack, "600 are owed, and the voucher of what the chain has covers 500");
            assert!(record.moves.is_empty());
        }
    }
}

/// A process that died while others live still has the channel of its stream until the last renewal is over.
pub(in crate::store) async fn a_running_stream_is_its_holders_alone<S: Subject>() {
    let mut books = Books::<S>::create().await;
    books.open(1).await;
    let (lease, record) = books.lease(1, request(1), NOW).await;
    let streaming = stream(&record, 1, 300);
    let other = |purpose| LeaseAsk { holder: HolderId([8; 16]), ..ask(1, purpose) };
    let later = |millis| NOW.plus_millis(millis);
    books.done(&lease, reserved(&streaming), later(1)).await;
    books.done(&lease, ChannelFact::Renewed { hold_millis: HOLD_MILLIS }, later(2_000)).await;
    let running = books.done(&lease, ChannelFact::Metered { reading: sompi(120) }, later(3_000)).await;
    let _beside = books.0.beside();
    books = books.restart().await;
    let ends = later(2_000 + HOLD_MILLIS);
    for (purpose, expect) in [(Purpose::Upkeep, false), (request(2), false), (request(1), true)] {
        for now in [NOW, later(HOLD_MILLIS), UnixMillis(ends.0 - 1)] {
            match books.try_lease(&other(purpose.clone()), now).await {
                Leased::Busy { until, same, record } => assert_eq!((until, same, record), (ends, expect, running.clone())),
                found => panic!("{purpose:?}: {found:?}"),
            }
        }
    }
    let Leased::Held(lease, record) = books.try_lease(&other(Purpose::Upkeep), ends).await else { panic!("its holder is dead") };
    assert_eq!(record, running);
    books.done(&lease, ChannelFact::Committed(Box::new(posted(record.stream.as_ref().unwrap(), 120))), ends).await;
    // What is over binds nobody, and a renewal without a stream is not remembered where leases are not.
    let Leased::Held(lease, record) = books.try_lease(&ask(1, request(2)), NOW).await else { panic!("no stream runs") };
    books.done(&lease, ChannelFact::Renewed { hold_millis: HOLD_MILLIS }, NOW).await;
    assert_eq!(books.record(1).await, record);
    let books = books.restart().await;
    let now = if S::LEASES_SURVIVE { later(HOLD_MILLIS) } else { NOW };
    assert!(matches!(books.try_lease(&other(request(3)), now).await, Leased::Held(..)));
}
