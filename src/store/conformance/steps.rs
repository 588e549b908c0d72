//! `advance`: every fact in every state.

use super::*;

/// A payment in a state that a table starts from.
#[derive(Clone, Copy, Debug)]
enum Start {
    Pending,
    SubmittedOwn,
    SubmittedForeign,
    HandedOver,
    Accepted,
    Settled,
    /// Delivered without a response and held again.
    Redelivered,
    Reversed,
    /// Settled, then the hold was ended.
    Released,
}

async fn start<S: Subject>(store: &Checked<S>, n: u64, start: Start) -> Held {
    let held = store.fresh(&claim(n), NOW).await;
    match start {
        Start::Pending => {}
        Start::SubmittedOwn => store.done(&held, [Fact::Submitted(Submission::Own)], NOW).await,
        Start::SubmittedForeign => store.done(&held, [Fact::Submitted(Submission::Foreign)], NOW).await,
        Start::HandedOver => store.done(&held, [Fact::Submitted(Submission::HandedOver)], NOW).await,
        Start::Accepted => assert_eq!(store.observe(n, ChainFact::Accepted(acceptance(1)), NOW).await, Observed::Done),
        Start::Settled => store.done(&held, [settled()], NOW).await,
        Start::Released => store.done(&held, [settled(), Fact::Released], NOW).await,
        Start::Reversed => assert_eq!(store.observe(n, ChainFact::Reversed { by: TxId([9; 32]) }, NOW).await, Observed::Done),
        Start::Redelivered => {
            store.done(&held, [settled(), Fact::Forwarding, delivered(None)], NOW).await;
            return store.claim(&claim(n), NOW).await.1.expect("redelivered");
        }
    }
    held
}

pub(in crate::store) async fn every_step_has_its_answer<S: Subject>() {
    use Advanced::{Done, Refused};
    use Start::*;
    let own = || Fact::Submitted(Submission::Own);
    let foreign = || Fact::Submitted(Submission::Foreign);
    let handed = || Fact::Submitted(Submission::HandedOver);
    let renewed = || Fact::Renewed { hold_millis: 9_000 };
    let undelivered = || Fact::Undelivered { status: Some(503) };
    let cases = [
        (Pending, own(), Done),
        (Pending, foreign(), Done),
        (Pending, Fact::Submitted(Submission::None), Refused),
        (SubmittedOwn, own(), Done),
        (SubmittedOwn, foreign(), Refused),
        (SubmittedForeign, foreign(), Done),
        (SubmittedForeign, own(), Refused),
        (SubmittedForeign, Fact::Submitted(Submission::None), Refused),
        (Pending, handed(), Done),
        (SubmittedOwn, handed(), Done),
        (SubmittedForeign, handed(), Done),
        (HandedOver, handed(), Done),
        (HandedOver, own(), Done),
        (HandedOver, foreign(), Done),
        (HandedOver, Fact::Submitted(Submission::None), Refused),
        (HandedOver, Fact::Rejected, Done),
        (Pending, Fact::Rejected, Done),
        (SubmittedOwn, Fact::Rejected, Refused),
        (SubmittedForeign, Fact::Rejected, Refused),
        (Accepted, Fact::Rejected, Refused),
        (Settled, Fact::Rejected, Refused),
        (Redelivered, Fact::Rejected, Refused),
        (Reversed, Fact::Rejected, Refused),
        (Pending, Fact::Proven, Done),
        (Settled, Fact::Proven, Done),
        (Reversed, Fact::Proven, Refused),
        (Pending, renewed(), Done),
        (Settled, renewed(), Done),
        (Redelivered, renewed(), Done),
        (Reversed, renewed(), Refused),
        (Released, renewed(), Refused),
        (Pending, settled(), Done),
        (Settled, settled(), Done),
        (Redelivered, settled(), Done),
        (Reversed, settled(), Refused),
        (Pending, Fact::Forwarding, Refused),
        (Settled, Fact::Forwarding, Done),
        (Redelivered, Fact::Forwarding, Done),
        (Reversed, Fact::Forwarding, Refused),
        (Released, Fact::Forwarding, Refused),
        (Pending, delivered(None), Refused),
        (Pending, delivered(Some(response("unpaid"))), Refused),
        (Settled, delivered(Some(response("paid"))), Done),
        (Redelivered, delivered(Some(response("paid"))), Done),
        (Reversed, delivered(Some(response("taken back"))), Refused),
        (Pending, undelivered(), Done),
        (Settled, undelivered(), Done),
        (Redelivered, undelivered(), Done),
        (Reversed, undelivered(), Done),
        (Pending, Fact::Released, Done),
        (Settled, Fact::Released, Done),
        (Reversed, Fact::Released, Done),
        (Released, Fact::Released, Done),
    ];
    let store = Checked::<S>::create().await;
    for (n, (state, fact, expect)) in (1..).zip(cases) {
        let held = start(&store, n, state).await;
        let before = store.payment(n).await;
        assert_eq!(store.advance(&held, fact.clone(), NOW).await, expect, "{fact:?} when {state:?}");
        if expect == Refused {
            assert_eq!(store.payment(n).await, before, "{fact:?} when {state:?} was refused and changed nothing");
        }
    }
}

pub(in crate::store) async fn a_stale_hold_changes_nothing<S: Subject>() {
    let store = Checked::<S>::create().await;
    let stale = store.fresh(&claim(1), NOW).await;
    let later = NOW.plus_millis(HOLD_MILLIS);
    let holder = store.resumed(&claim(1), later).await;
    let before = store.payment(1).await;
    for fact in [
        Fact::Renewed { hold_millis: 1_000_000 },
        Fact::Submitted(Submission::Own),
        Fact::Rejected,
        Fact::Proven,
        settled(),
        Fact::Forwarding,
        delivered(Some(response("late"))),
        Fact::Undelivered { status: Some(500) },
        Fact::Released,
    ] {
        assert_eq!(store.advance(&stale, fact.clone(), later).await, Advanced::Stale, "{fact:?}");
        assert_eq!(store.payment(1).await, before, "{fact:?}");
    }
    assert_eq!(store.claim(&claim(1), later).await.0.name(), "InFlight", "the other hold lasts");
    store.done(&holder, [settled()], later).await;
}

/// What a holder repeats after an answer got lost.
pub(in crate::store) async fn an_ended_hold_reports_again_without_effect<S: Subject>() {
    let store = Checked::<S>::create().await;
    let held = store.fresh(&claim(1), NOW).await;
    store.done(&held, [Fact::Submitted(Submission::Own), settled(), Fact::Forwarding, delivered(Some(response("first")))], NOW).await;
    let before = store.payment(1).await;
    let later = NOW.plus_millis(1);
    for fact in [settled(), delivered(Some(response("second"))), delivered(None), Fact::Submitted(Submission::Own), Fact::Released] {
        assert_eq!(store.advance(&held, fact.clone(), later).await, Advanced::Done, "{fact:?}");
        assert_eq!(store.payment(1).await, before, "{fact:?}");
    }
    // A renewal that comes in late must not block the payment for the next one.
    let held = store.fresh(&claim(2), NOW).await;
    store.done(&held, [Fact::Released], NOW).await;
    assert_eq!(store.advance(&held, Fact::Renewed { hold_millis: 60_000 }, NOW).await, Advanced::Refused);
    store.resumed(&claim(2), NOW).await;
}

pub(in crate::store) async fn a_charge_is_booked_once<S: Subject>() {
    let store = Checked::<S>::create().await;
    let held = store.fresh(&claim(1), NOW).await;
    let at = NOW.plus_millis(10);
    store.done(&held, [settled(), settled()], at).await;
    store.done(&held, [Fact::Settled { acceptance: None, payer: None }], at.plus_millis(10)).await;
    let record = store.record(1).await;
    assert_eq!((record.state, record.charged), (PaymentState::Settled, true));
    assert_eq!((record.settled_at, record.entitled_until), (Some(at), Some(at.plus_seconds(ENTITLEMENT_SECONDS))));
    assert_eq!((record.acceptance, record.payer.as_deref()), (Some(acceptance(500)), Some("kaspasim:payer")));
    store.done(&held, [Fact::Undelivered { status: Some(502) }], at).await;
    let again = store.resumed(&claim(1), at).await;
    store.done(&again, [settled(), Fact::Forwarding, delivered(None), settled()], at).await;
    let totals = store.store().totals().await.unwrap();
    assert_eq!(totals, Totals { delivered: 1, charged_sompi: 25_000_001, ..Totals::default() });

    // Acceptance that the chain reported before is not lost when a settlement does not name it.
    let held = store.fresh(&claim(2), NOW).await;
    store.observe(2, ChainFact::Accepted(acceptance(3)), NOW).await;
    store.done(&held, [Fact::Settled { acceptance: None, payer: None }], NOW).await;
    assert_eq!(store.record(2).await.acceptance, Some(acceptance(3)));
}

pub(in crate::store) async fn a_response_is_kept_and_pruned<S: Subject>() {
    let store = Checked::<S>::create().await;
    for n in 1..=4 {
        let held = store.fresh(&claim(n), NOW).await;
        let kept = if n == 4 { None } else { Some(response(&format!("answer {n}"))) };
        store.done(&held, [settled(), Fact::Forwarding, delivered(kept)], NOW.plus_millis(n)).await;
    }
    let (seen, _) = store.claim(&claim(2), NOW).await;
    let Seen::Delivered(payment) = seen else { panic!("{seen:?}") };
    assert_eq!(payment.response, Some(response("answer 2")));
    assert_eq!(payment.record.delivered_at, Some(NOW.plus_millis(2)));
    assert_eq!(payment.record.last_status, Some(200));
    assert_eq!(store.payment(2).await, Some(payment));

    assert_eq!(store.store().prune(NOW.plus_millis(3)).await.unwrap(), 2, "1 and 2 were delivered before");
    assert_eq!(store.store().prune(NOW.plus_millis(3)).await.unwrap(), 0);
    store.conserved().await;
    for (n, response) in [(1, None), (2, None), (3, Some(response("answer 3"))), (4, None)] {
        let payment = store.payment(n).await.unwrap();
        assert_eq!((payment.record.state, payment.response), (PaymentState::Delivered, response), "payment {n}");
    }
    assert_eq!(store.claim(&claim(1), NOW).await.0.name(), "Redeliver", "a pruned response is fetched again while entitled");
    let other = Claim { identity: identity(99), ..claim(2) };
    assert_eq!(store.claim(&other, NOW).await.0.name(), "OtherRequest", "the transaction stays consumed");
    assert_eq!(store.sequences(query(Selection::All)).await, [1, 2, 3, 4]);
}
