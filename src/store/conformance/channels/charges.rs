//! `Committed` of plain requests: what is charged, what is refused, what is kept.

use super::*;
use crate::protocol::amount::MAX_SOMPI;

pub(in crate::store) async fn a_charge_is_booked_with_its_answer<S: Subject>() {
    let books = Books::<S>::create().await;
    books.open(1).await;
    let (lease, record) = books.lease(1, request(1), NOW).await;
    let answer = Charge { response: Some(response("an answer")), status: 201, ..charge(&record, 1, 500, 400) };
    let later = NOW.plus_millis(30);
    let record = books.done(&lease, ChannelFact::Committed(Box::new(answer.clone())), later).await;
    let expect = Parts { funding: sompi(FUNDING), charged: sompi(400), signed: sompi(500), ..Parts::default() };
    assert_eq!((record.parts, record.voucher), (expect, Some(answer.terms.voucher)));
    assert_eq!((record.charges, record.unclaimed_since, record.last_charge_at), (1, Some(later), Some(later)));
    let row = ChargeRecord {
        number: 1,
        channel: id(1),
        commitment: answer.commitment,
        terms: answer.terms,
        charge: sompi(400),
        charged_after: sompi(400),
        claimed: Amount::ZERO,
        funding: sompi(FUNDING),
        status: 201,
        at: later,
    };
    let stored = StoredCharge { record: row.clone(), response: answer.response };
    assert_eq!(books.store().charge(&id(1), &named(1)).await.unwrap().as_ref(), Some(&stored));
    match books.try_lease(&ask(1, request(1)), NOW).await {
        Leased::Replay(replay) => assert_eq!(*replay, stored),
        other => panic!("{other:?}"),
    }
    // The next one: the ceiling is signed on top of what is owed, and one that fits what is signed signs no more.
    let record = books.charge(1, 2, 100, 100).await;
    assert_eq!((record.parts.charged, record.parts.signed), (sompi(500), sompi(500)));
    let record = books.charge(1, 3, 40, 0).await;
    assert_eq!((record.parts.charged, record.parts.signed, record.charges), (sompi(500), sompi(540), 3));
    assert_eq!((record.unclaimed_since, record.last_charge_at), (Some(later), Some(NOW)));
    let rows = books.store().charges(&id(1), 0, u32::MAX).await.unwrap();
    assert_eq!((rows.len(), &rows[0]), (3, &row));
    for (after, limit, expect) in [(0, 2, vec![1, 2]), (1, 9, vec![2, 3]), (3, 9, vec![]), (u64::MAX, 9, vec![]), (0, 0, vec![])] {
        let page = books.store().charges(&id(1), after, limit).await.unwrap();
        assert_eq!(page.iter().map(|row| row.number).collect::<Vec<_>>(), expect);
    }
    assert!(books.store().charge(&id(1), &named(9)).await.unwrap().is_none());
    assert!(books.store().charge(&id(9), &named(1)).await.unwrap().is_none());
    assert!(books.store().charges(&id(9), 0, 9).await.unwrap().is_empty());
}

pub(in crate::store) async fn what_is_not_authorised_is_not_charged<S: Subject>() {
    let books = Books::<S>::create().await;
    books.open(1).await;
    books.charge(1, 1, 500, 400).await;
    let (lease, record) = books.lease(1, request(2), NOW).await;
    type Change = Box<dyn Fn(&mut Charge)>;
    let cases: Vec<(&str, Change)> = vec![
        ("above the ceiling", Box::new(|charge| charge.charge = sompi(101))),
        ("a voucher below what is due", Box::new(|charge| charge.terms.voucher.amount = sompi(499))),
        ("a voucher above what is due", Box::new(|charge| charge.terms.voucher.amount = sompi(501))),
        ("another outpoint", Box::new(|charge| charge.terms.outpoint = outpoint(9))),
        ("computed from another C", Box::new(|charge| charge.charged_before = sompi(399))),
        ("computed from another K", Box::new(|charge| charge.claimed = sompi(1))),
        (
            "more than the escrow holds with its reserve",
            Box::new(|charge| {
                charge.terms.ceiling = sompi(FUNDING - 400 - RESERVE + 1);
                charge.terms.voucher.amount = sompi(FUNDING - RESERVE + 1);
            }),
        ),
        (
            "a sum beyond all amounts",
            Box::new(|charge| {
                charge.terms.ceiling = sompi(MAX_SOMPI);
                charge.terms.voucher.amount = sompi(MAX_SOMPI);
                charge.charge = sompi(MAX_SOMPI);
            }),
        ),
    ];
    for (why, change) in cases {
        let mut wrong = charge(&record, 2, 100, 100);
        change(&mut wrong);
        books.refused(&lease, ChannelFact::Committed(Box::new(wrong)), why).await;
    }
    // To the last sompi that a claim may pay out.
    let most = FUNDING - 400 - RESERVE;
    let record = books.done(&lease, committed(&record, 2, most, most), NOW).await;
    assert_eq!(record.parts.charged, sompi(FUNDING - RESERVE));
    let (lease, record) = books.lease(1, request(3), NOW).await;
    books.refused(&lease, committed(&record, 3, 1, 0), "nothing is left").await;
}

/// In no phase but idle is a request charged.
pub(in crate::store) async fn a_channel_that_is_not_idle_charges_nothing<S: Subject>() {
    let books = Books::<S>::create().await;
    for (n, phase) in (1..).zip([Phase::Claiming, Phase::TakenBack, Phase::Closed]) {
        books.open(n).await;
        books.charge(n, 1, 500, 400).await;
        let (lease, record) = books.lease(n, request(2), NOW).await;
        match phase {
            Phase::Closed => drop(books.sees(n, closed(outpoint(n))).await),
            _ => {
                books.done(&lease, ChannelFact::Released, NOW).await;
                books.build(n, 50 + n, 0).await;
            }
        }
        if phase == Phase::TakenBack {
            books.sees(n, accepted(50 + n)).await;
            books.sees(n, taken_back(50 + n)).await;
        }
        let lease = if phase == Phase::Closed { lease } else { books.lease(n, request(2), NOW).await.0 };
        assert_eq!(books.record(n).await.phase(), phase);
        books.refused(&lease, committed(&record, 2, 100, 100), &format!("{phase:?}")).await;
        books.refused(&lease, reserved(&stream(&record, 2, 100)), &format!("{phase:?}")).await;
        if phase != Phase::Claiming {
            books.refused(&lease, built(&step(&record, 70, 9)), &format!("a top-up of one that is {phase:?}")).await;
        }
        if phase == Phase::Closed {
            books.refused(&lease, built(&step(&record, 70, 0)), "a claim of what is gone").await;
        }
    }
}

pub(in crate::store) async fn answers_of_charges_are_kept_and_pruned<S: Subject>() {
    let mut books = Books::<S>::create().await;
    books.open(1).await;
    for k in 1..=6 {
        let (lease, record) = books.lease(1, request(k), NOW).await;
        let answer = (k != 3).then(|| response(&format!("answer {k}")));
        let answered = Charge { response: answer, ..charge(&record, k, 10, 10) };
        books.done(&lease, ChannelFact::Committed(Box::new(answered)), NOW.plus_millis(k)).await;
    }
    assert_eq!(books.store().prune(NOW.plus_millis(1)).await.unwrap(), 0);
    assert_eq!(books.store().prune(NOW.plus_millis(5)).await.unwrap(), 3, "1, 2 and 4");
    for again in [false, true] {
        for k in 1..=6 {
            let kept = books.store().charge(&id(1), &named(k)).await.unwrap().unwrap();
            assert_eq!(kept.response, (k >= 5).then(|| response(&format!("answer {k}"))), "{k}");
            match books.try_lease(&ask(1, request(k)), NOW).await {
                Leased::Replay(replay) => assert_eq!(*replay, kept),
                other => panic!("{other:?}"),
            }
        }
        if !again {
            books = books.restart().await;
        }
    }
    let (_, held) = seen(books.store().claim(&claim(1), NOW).await.unwrap());
    let held = held.unwrap();
    books.store().advance(&held, settled(), NOW).await.unwrap();
    books.store().advance(&held, delivered(Some(response("a payment's"))), NOW).await.unwrap();
    assert_eq!(books.store().prune(UnixMillis(u64::MAX)).await.unwrap(), 3, "5, 6 and the payment's");
    assert_eq!(books.store().charges(&id(1), 0, 9).await.unwrap().len(), 6, "the ledger stays");
}

/// Every field comes back as it was, also at the ends of its range.
pub(in crate::store) async fn extreme_charges_survive<S: Subject>() {
    let books = Books::<S>::create().await;
    let large = Opening {
        outpoint: Outpoint { txid: TxId([0xff; 32]), index: u32::MAX },
        funding: sompi(MAX_SOMPI),
        transaction: Some(vec![0xee; 60 * 1024]),
        funded_daa: Some(u64::MAX),
        ..opening_of(ChannelConfig { pay_to: String::new(), refund_timeout_daa: u64::MAX, ..config(1) }, 1)
    };
    let now = UnixMillis(u64::MAX - 1);
    let Opened::New(record) = books.try_open(&large, now).await else { panic!("not new") };
    let ask = LeaseAsk { channel: large.id, hold_millis: u64::MAX, ..ask(1, request(1)) };
    let Leased::Held(lease, _) = books.try_lease(&ask, now).await else { panic!("not held") };
    let most = MAX_SOMPI - RESERVE;
    let mut answered = charge(&record, 1, most, most);
    answered.terms.summary = "GET /ünïcode?\u{0}".to_owned();
    answered.terms.route = RouteId(String::new());
    answered.status = u16::MAX;
    answered.response =
        Some(StoredResponse { status: u16::MAX, headers: vec![(String::new(), Vec::new())], body: vec![7; 300_000].into() });
    let charged = books.done(&lease, ChannelFact::Committed(Box::new(answered.clone())), now).await;
    let books = books.restart().await;
    assert_eq!(books.record_of(&large.id).await, charged);
    assert_eq!(*charged, ChannelRecord { parts: charged.parts, ..(*charged).clone() });
    let kept = books.store().charge(&large.id, &named(1)).await.unwrap().unwrap();
    assert_eq!((kept.record.terms, kept.response, kept.record.at), (answered.terms, answered.response, now));
    // Ten of the largest do not fit 64 bits.
    for n in 2..=10 {
        let Opened::New(record) = books.try_open(&Opening { funding: sompi(MAX_SOMPI), ..opening(n) }, NOW).await else { panic!() };
        let (lease, _) = books.lease(n, request(1), NOW).await;
        books.done(&lease, committed(&record, 1, most, most), NOW).await;
    }
    assert_eq!(books.store().channel_totals().await.unwrap().charged_sompi, 10 * u128::from(most));
}
