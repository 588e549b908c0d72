//! `observe`, listings and the checkpoint.

use super::*;
use crate::protocol::amount::MAX_SOMPI;

const BY: TxId = TxId([9; 32]);

pub(in crate::store) async fn every_chain_fact_has_its_answer<S: Subject>() {
    use ChainFact::{Accepted, Final, Granted, Reversed, TakenBack};
    use Observed::{Done, Unchanged};
    use PaymentState::{Delivered, Pending, Settled};
    let accepted = |n| Accepted(acceptance(n));
    let granted = |seconds| Granted { until: NOW.plus_seconds(seconds) };
    let cases: [(PaymentState, Vec<(ChainFact, Observed)>); 9] = [
        (Pending, vec![(accepted(1), Done), (accepted(1), Unchanged), (accepted(2), Done), (TakenBack, Done), (TakenBack, Unchanged)]),
        (Pending, vec![(Final, Unchanged), (accepted(1), Done), (Final, Done), (Final, Unchanged)]),
        (Pending, vec![(accepted(1), Done), (Final, Done), (TakenBack, Unchanged), (accepted(2), Unchanged)]),
        (Pending, vec![(Reversed { by: BY }, Done), (Reversed { by: BY }, Unchanged), (accepted(1), Unchanged), (Final, Unchanged)]),
        (Pending, vec![(granted(1_000_000), Unchanged)]),
        (Settled, vec![(TakenBack, Done), (Reversed { by: BY }, Done), (Reversed { by: BY }, Unchanged), (TakenBack, Unchanged)]),
        (Settled, vec![(granted(1), Unchanged), (granted(1_000_000), Done), (granted(1_000_000), Unchanged), (granted(9), Unchanged)]),
        (Delivered, vec![(granted(1_000_000), Unchanged), (accepted(3), Done), (Final, Done), (Reversed { by: BY }, Done)]),
        (Delivered, vec![(Reversed { by: BY }, Done), (granted(1_000_000), Unchanged), (Reversed { by: BY }, Unchanged)]),
    ];
    let store = Checked::<S>::create().await;
    for (n, (state, facts)) in (1..).zip(cases) {
        let held = store.fresh(&claim(n), NOW).await;
        let story = match state {
            Settled => vec![settled()],
            Delivered => vec![settled(), delivered(None)],
            _ => vec![],
        };
        store.done(&held, story, NOW).await;
        for (fact, expect) in facts {
            let before = store.record(n).await;
            assert_eq!(store.observe(n, fact.clone(), NOW).await, expect, "{fact:?} of {before:?}");
            let after = store.record(n).await;
            assert_eq!(before == after, expect == Unchanged, "{fact:?} of {before:?}");
            match fact {
                Accepted(acceptance) if expect == Done => assert_eq!(after, PaymentRecord { acceptance: Some(acceptance), ..before }),
                TakenBack if expect == Done => assert_eq!(after, PaymentRecord { acceptance: None, ..before }),
                Final if expect == Done => assert_eq!(after, PaymentRecord { is_final: true, ..before }),
                Granted { until } if expect == Done => assert_eq!(after, PaymentRecord { entitled_until: Some(until), ..before }),
                Reversed { .. } => assert_eq!(after, PaymentRecord { state: PaymentState::Reversed, acceptance: None, ..before }),
                _ => {}
            }
        }
    }
    assert_eq!(store.observe(999, TakenBack, NOW).await, Observed::NotFound);
}

pub(in crate::store) async fn a_reversal_is_booked_once<S: Subject>() {
    let store = Checked::<S>::create().await;
    store.fresh(&claim(1), NOW).await;
    let settled_only = store.fresh(&claim(2), NOW).await;
    store.done(&settled_only, [settled()], NOW).await;
    let held = store.fresh(&claim(3), NOW).await;
    store.done(&held, [settled(), delivered(Some(response("gone")))], NOW).await;
    for _ in 0..2 {
        for n in 1..=3 {
            store.observe(n, ChainFact::Reversed { by: BY }, NOW).await;
        }
        let (charged, reversed) = (25_000_002 + 25_000_003, 25_000_002 + 25_000_003);
        let expect = Totals { reversed: 3, charged_sompi: charged, reversed_sompi: reversed, ..Totals::default() };
        assert_eq!(store.store().totals().await.unwrap(), expect, "the pending one had no charge to take back");
    }
    for fact in [settled(), delivered(None)] {
        assert_eq!(store.advance(&settled_only, fact, NOW).await, Advanced::Refused);
    }
}

pub(in crate::store) async fn listings_select_and_page<S: Subject>() {
    let store = Checked::<S>::create().await;
    for n in 1..=12 {
        let held = store.fresh(&claim(n), NOW).await;
        let story = match n % 4 {
            1 => vec![],
            2 => vec![settled()],
            _ => vec![settled(), delivered(None)],
        };
        store.done(&held, story, NOW).await;
        if n % 4 == 0 {
            store.observe(n, ChainFact::Final, NOW).await;
        }
    }
    store.observe(5, ChainFact::Reversed { by: BY }, NOW).await;
    store.observe(2, ChainFact::Final, NOW).await;
    for (selection, expect) in [
        (Selection::All, vec![1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
        (Selection::Open, vec![1, 3, 6, 7, 9, 10, 11]),
        (Selection::Unresolved, vec![1, 9]),
        (Selection::Owed, vec![2, 6, 10]),
    ] {
        assert_eq!(store.sequences(query(selection)).await, expect, "{selection:?}");
        for limit in 1..=5 {
            let mut paged = Vec::new();
            loop {
                let page = store.sequences(Query { selection, after: paged.last().copied().unwrap_or(0), limit }).await;
                assert!(page.len() <= usize::try_from(limit).unwrap());
                if page.is_empty() {
                    break;
                }
                paged.extend(page);
            }
            assert_eq!(paged, expect, "{selection:?}, {limit} at a time");
        }
        assert_eq!(store.sequences(Query { selection, after: 0, limit: 0 }).await, [0; 0]);
        assert_eq!(store.sequences(Query { selection, after: u64::MAX, limit: 9 }).await, [0; 0]);
    }
}

pub(in crate::store) async fn a_checkpoint_is_replaced<S: Subject>() {
    let store = Checked::<S>::create().await;
    assert_eq!(store.store().checkpoint().await.unwrap(), None);
    for n in [3, 9, 5] {
        let checkpoint = Checkpoint { block: BlockHash([5; 32]), blue_score: n };
        store.store().set_checkpoint(checkpoint).await.unwrap();
        assert_eq!(store.store().checkpoint().await.unwrap(), Some(checkpoint));
    }
}

/// Every field comes back as it was, also at the ends of its range.
pub(in crate::store) async fn extreme_numbers_survive<S: Subject>() {
    let store = Checked::<S>::create().await;
    let largest = Claim {
        amount: Amount::from_sompi(MAX_SOMPI).unwrap(),
        transaction: vec![0xee; 60 * 1024],
        output_index: u32::MAX,
        offer_daa: u64::MAX,
        entitlement_seconds: u64::MAX,
        hold_millis: u64::MAX,
        accepted_until: UnixMillis(u64::MAX),
        finality: FinalityRule { level: Finality::Mempool, depth: u64::MAX },
        pay_to: String::new(),
        summary: "GET /ünïcode?\u{0}".to_owned(),
        identifier: identifier(1),
        ..claim(1)
    };
    let late = UnixMillis(u64::MAX - 1);
    let held = store.fresh(&largest, late).await;
    let acceptance = Acceptance { block: BlockHash([0xff; 32]), blue_score: u64::MAX, daa_score: u64::MAX };
    store.done(&held, [Fact::Settled { acceptance: Some(acceptance), payer: Some(String::new()) }], late).await;
    let large = StoredResponse { status: u16::MAX, headers: vec![(String::new(), Vec::new())], body: vec![7; 300_000].into() };
    store.done(&held, [Fact::Forwarding, Fact::Delivered { status: u16::MAX, response: Some(large.clone()) }], late).await;
    let expect = PaymentRecord {
        sequence: 1,
        key: largest.key,
        state: PaymentState::Delivered,
        transaction: largest.transaction,
        output_index: u32::MAX,
        from_channel: None,
        amount: largest.amount,
        charge: None,
        receipt: None,
        pay_to: largest.pay_to,
        route: largest.route,
        summary: largest.summary,
        identity: largest.identity,
        request_hash: largest.request_hash,
        identifier: largest.identifier,
        finality: largest.finality,
        offer_daa: u64::MAX,
        late: false,
        submission: Submission::None,
        proven: false,
        payer: Some(String::new()),
        acceptance: Some(acceptance),
        is_final: false,
        charged: true,
        claimed_at: late,
        settled_at: Some(late),
        delivered_at: Some(late),
        entitlement_seconds: u64::MAX,
        entitled_until: Some(UnixMillis(u64::MAX)),
        last_status: Some(u16::MAX),
        forwards: 1,
    };
    assert_eq!(store.payment(1).await, Some(StoredPayment { record: expect, response: Some(large) }));
    assert_eq!(store.store().prune(NOW).await.unwrap(), 0);

    // Ten of the largest amounts do not fit 64 bits.
    for n in 2..=10 {
        let held = store.fresh(&Claim { amount: Amount::from_sompi(MAX_SOMPI).unwrap(), ..claim(n) }, NOW).await;
        store.done(&held, [settled()], NOW).await;
    }
    assert_eq!(store.store().totals().await.unwrap().charged_sompi, 10 * u128::from(MAX_SOMPI));
}
