//! Sales from channels that another gateway keeps: an answer that is held, a charge that is booked when it is told.

use super::*;
use Advanced::{Done, Refused};

/// The claim numbered `n` as such a sale.
pub(in crate::store) fn sale(n: u64) -> Claim {
    let identifier = identifier(n).expect("given above");
    Claim { from_channel: Some(FromChannel { channel: ChannelId(wide(n + 7)), identifier }), ..claim(n) }
}

pub(in crate::store) fn answered(charge: Option<u64>, response: Option<StoredResponse>) -> Fact {
    let charge = charge.map(|charge| Amount::from_sompi(charge).unwrap());
    Fact::Answered { status: 201, charge, response }
}

pub(in crate::store) fn charged() -> Fact {
    Fact::Charged { receipt: b"a receipt".to_vec() }
}

pub(in crate::store) async fn an_answer_is_held_until_it_is_charged<S: Subject>() {
    let mut store = Checked::<S>::create().await;
    let held = store.fresh(&sale(1), NOW).await;
    store.done(&held, [answered(Some(5), Some(response("held")))], NOW).await;
    store = store.restart().await;
    let kept = store.payment(1).await.unwrap();
    let record = &kept.record;
    assert_eq!((record.state, record.submission, record.charged), (PaymentState::Pending, Submission::HandedOver, false));
    assert_eq!((record.charge.map(Amount::sompi), record.cost().sompi(), record.amount.sompi()), (Some(5), 5, 25_000_001));
    assert_eq!((record.from_channel.clone(), record.last_status, record.forwards), (sale(1).from_channel, Some(201), 1));
    assert_eq!(kept.response, Some(response("held")));
    assert_eq!(store.store().totals().await.unwrap(), Totals { pending: 1, ..Totals::default() });

    // The next one finds it, and charges it; a stranger's request finds it taken.
    let later = NOW.plus_millis(HOLD_MILLIS);
    let other = Claim { identity: identity(99), ..sale(1) };
    assert_eq!(store.claim(&other, later).await.0.name(), "OtherRequest");
    let again = store.resumed(&sale(1), later).await;
    assert_eq!(store.advance(&held, charged(), later).await, Advanced::Stale);
    store.done(&again, [charged()], later).await;
    store = store.restart().await;
    let record = store.record(1).await;
    assert_eq!((record.state, record.submission, record.charged), (PaymentState::Delivered, Submission::Own, true));
    assert_eq!((record.receipt.as_deref(), record.is_final), (Some(&b"a receipt"[..]), true));
    assert_eq!((record.settled_at, record.delivered_at), (Some(later), Some(later)));
    assert_eq!(store.store().totals().await.unwrap(), Totals { delivered: 1, charged_sompi: 5, ..Totals::default() });
    let (replayed, _) = store.claim(&sale(1), later).await;
    let Seen::Delivered(payment) = replayed else { panic!("{replayed:?}") };
    assert_eq!(payment.response, Some(response("held")));
    assert_eq!(store.sequences(query(Selection::Open)).await, [0; 0], "its money is followed elsewhere");
    // Told twice, it is booked once, by the first receipt.
    let told_again = Fact::Charged { receipt: b"another".to_vec() };
    store.done(&again, [told_again], later.plus_seconds(1)).await;
    assert_eq!(store.record(1).await, record);
}

pub(in crate::store) async fn what_cannot_be_held_is_charged_and_then_delivered<S: Subject>() {
    let store = Checked::<S>::create().await;
    let held = store.fresh(&sale(1), NOW).await;
    store.done(&held, [answered(None, None), charged()], NOW).await;
    let record = store.record(1).await;
    assert_eq!((record.state, record.cost().sompi(), record.forwards), (PaymentState::Settled, 25_000_001, 1));
    assert_eq!(record.entitled_until, Some(NOW.plus_seconds(ENTITLEMENT_SECONDS)));
    assert_eq!(store.store().totals().await.unwrap().owed_sompi, 25_000_001);
    // It broke off, and is forwarded again; the answer fits this time.
    store.done(&held, [Fact::Undelivered { status: Some(201) }], NOW).await;
    let again = store.resumed(&sale(1), NOW).await;
    store.done(&again, [Fact::Forwarding, delivered(Some(response("whole")))], NOW).await;
    assert_eq!(store.payment(1).await.unwrap().response, Some(response("whole")));
    assert_eq!(store.store().totals().await.unwrap(), Totals { delivered: 1, charged_sompi: 25_000_001, ..Totals::default() });
}

pub(in crate::store) async fn a_sale_that_was_not_charged_leaves_nothing<S: Subject>() {
    let mut store = Checked::<S>::create().await;
    for facts in [vec![], vec![answered(Some(5), Some(response("dropped")))], vec![answered(None, None)]] {
        let named = |n: u64| Claim { identifier: identifier(9), ..sale(n) };
        let held = store.fresh(&named(1), NOW).await;
        store.done(&held, facts, NOW).await;
        let second = store.claim(&Claim { identity: identity(99), ..named(2) }, NOW).await.0;
        assert_eq!(second.name(), "IdentifierReused", "an offer is good for one sale");
        store.done(&held, [Fact::Rejected, Fact::Rejected], NOW).await;
        assert_eq!(store.payment(1).await, None);
        store = store.restart().await;
        // Another request may have the identifier and the offer now, and finds no answer of the first one.
        let other = Claim { identity: identity(99), ..named(1) };
        let held = store.fresh(&other, NOW).await;
        assert_eq!(store.payment(1).await.unwrap().response, None);
        store.done(&held, [Fact::Rejected], NOW).await;
    }
    assert_eq!(store.store().totals().await.unwrap(), Totals::default());
}

pub(in crate::store) async fn every_step_of_such_a_sale_has_its_answer<S: Subject>() {
    let store = Checked::<S>::create().await;
    let kept = || Some(response("kept"));
    let handed = || Fact::Submitted(Submission::HandedOver);
    for (n, (before, fact, expect)) in (1..).zip([
        (vec![], answered(None, kept()), Done),
        (vec![], answered(Some(25_000_001), kept()), Done),
        (vec![], answered(Some(0), kept()), Done),
        (vec![answered(None, kept())], answered(Some(1), kept()), Refused),
        (vec![answered(Some(1), kept())], Fact::Forwarding, Refused),
        (vec![answered(Some(1), kept())], delivered(kept()), Refused),
        (vec![answered(None, kept())], charged(), Done),
        (vec![answered(None, kept())], Fact::Rejected, Done),
        (vec![answered(None, kept()), Fact::Released], charged(), Done),
        (vec![Fact::Released], answered(None, kept()), Refused),
        (vec![handed()], answered(None, kept()), Refused),
        (vec![handed()], charged(), Done),
        (vec![], charged(), Refused),
        (vec![answered(None, kept()), charged()], answered(None, kept()), Refused),
        (vec![answered(None, kept()), charged()], charged(), Done),
        (vec![answered(None, None), charged()], delivered(kept()), Done),
        (vec![answered(None, None), charged()], Fact::Rejected, Refused),
    ]) {
        let held = store.fresh(&sale(n), NOW).await;
        store.done(&held, before, NOW).await;
        let stood = store.payment(n).await;
        assert_eq!(store.advance(&held, fact.clone(), NOW).await, expect, "case {n}: {fact:?}");
        if expect == Refused {
            assert_eq!(store.payment(n).await, stood, "case {n}: refused and changed nothing");
        }
    }
    // More than the ceiling, and what is no such sale.
    let held = store.fresh(&sale(100), NOW).await;
    assert_eq!(store.advance(&held, answered(Some(25_000_101), kept()), NOW).await, Refused);
    let held = store.fresh(&claim(101), NOW).await;
    for fact in [answered(None, kept()), charged()] {
        assert_eq!(store.advance(&held, fact, NOW).await, Refused);
    }
}
