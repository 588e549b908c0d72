//! `claim`: every outcome and their order.

use super::*;
use crate::protocol::limits;

/// What happened to a payment before the claim under test.
enum Before {
    Advance(Fact),
    Observe(ChainFact),
    Wait { millis: u64 },
}
use Before::{Advance, Observe, Wait};

const REVERSED: ChainFact = ChainFact::Reversed { by: TxId([9; 32]) };
const OWN: Fact = Fact::Submitted(Submission::Own);
const FOREIGN: Fact = Fact::Submitted(Submission::Foreign);
const ENTITLEMENT_MILLIS: u64 = ENTITLEMENT_SECONDS * 1_000;

/// Claims payment `n`, plays the story, claims again as `again` says: the outcome's name.
async fn after<S: Subject>(store: &Checked<S>, n: u64, story: Vec<Before>, again: Claim) -> String {
    let mut now = NOW;
    let held = store.fresh(&Claim { identifier: identifier(n), ..claim(n) }, now).await;
    for event in story {
        match event {
            Advance(fact) => store.done(&held, [fact], now).await,
            Observe(fact) => assert_eq!(store.observe(n, fact, now).await, Observed::Done),
            Wait { millis } => now = now.plus_millis(millis),
        }
    }
    store.claim(&again, now).await.0.name()
}

pub(in crate::store) async fn every_claim_has_its_outcome<S: Subject>() {
    let store = Checked::<S>::create().await;
    let other = |n: u64| Claim { identity: identity(n + 1_000), ..claim(n) };
    let other_late = |n: u64| Claim { late: true, ..other(n) };
    let second_transaction = |n: u64| Claim { key: key(n + 1_000), identifier: identifier(n), ..claim(n) };
    let for_another = |n: u64| Claim { identity: identity(n + 1_000), ..second_transaction(n) };
    let over = || Wait { millis: ENTITLEMENT_MILLIS + 1 };
    type Again<'a> = &'a dyn Fn(u64) -> Claim;
    let cases: Vec<(&str, Vec<Before>, Again<'_>, &str)> = vec![
        ("at once", vec![], &claim, "InFlight"),
        ("just before the hold ends", vec![Wait { millis: HOLD_MILLIS - 1 }], &claim, "InFlight"),
        ("when the hold ends", vec![Wait { millis: HOLD_MILLIS }], &claim, "Resumed"),
        ("long after the offer ended", vec![Wait { millis: OFFER_SECONDS * 100_000 }], &claim, "Resumed"),
        ("released", vec![Advance(Fact::Released)], &claim, "Resumed"),
        (
            "renewed",
            vec![Wait { millis: 4_000 }, Advance(Fact::Renewed { hold_millis: 5_000 }), Wait { millis: 4_999 }],
            &claim,
            "InFlight",
        ),
        ("undelivered", vec![Advance(settled()), Advance(Fact::Undelivered { status: Some(502) })], &claim, "Resumed"),
        ("by another request, held", vec![], &other, "InFlight"),
        ("by another request, nobody's yet", vec![Advance(Fact::Released)], &other, "Resumed"),
        ("by another request, a stranger's", vec![Advance(FOREIGN), Advance(Fact::Released)], &other, "Resumed"),
        ("by another request, a stranger's, offer over", vec![Advance(FOREIGN), Advance(Fact::Released), over()], &other, "Expired"),
        ("by another request, paid late", vec![Advance(FOREIGN), Advance(Fact::Released)], &other_late, "OtherRequest"),
        ("by another request, ours", vec![Advance(OWN), Advance(Fact::Released)], &other, "OtherRequest"),
        ("by another request, proven", vec![Advance(FOREIGN), Advance(Fact::Proven), Advance(Fact::Released)], &other, "OtherRequest"),
        ("by another request, delivered", vec![Advance(settled()), Advance(delivered(None))], &other, "OtherRequest"),
        ("delivered and kept", vec![Advance(settled()), Advance(delivered(Some(response("kept"))))], &claim, "Delivered"),
        ("kept, entitlement over", vec![Advance(settled()), Advance(delivered(Some(response("kept")))), over()], &claim, "Delivered"),
        ("delivered, not kept", vec![Advance(settled()), Advance(delivered(None))], &claim, "Redeliver"),
        ("not kept, entitlement over", vec![Advance(settled()), Advance(delivered(None)), over()], &claim, "Delivered"),
        ("settled, held", vec![Advance(settled())], &claim, "InFlight"),
        ("settled, at the end of the entitlement", vec![Advance(settled()), Wait { millis: ENTITLEMENT_MILLIS }], &claim, "Resumed"),
        ("settled, entitlement over", vec![Advance(settled()), over()], &claim, "EntitlementOver"),
        ("reversed while pending", vec![Observe(REVERSED)], &claim, "Reversed"),
        ("reversed after delivery", vec![Advance(settled()), Advance(delivered(None)), Observe(REVERSED)], &claim, "Reversed"),
        ("reversed, by another request", vec![Observe(REVERSED)], &other, "Reversed"),
        ("identifier, second transaction", vec![], &second_transaction, "IdentifierFirst"),
        ("identifier, first settled", vec![Advance(settled())], &second_transaction, "IdentifierFirst"),
        ("identifier, first delivered", vec![Advance(settled()), Advance(delivered(None))], &second_transaction, "IdentifierFirst"),
        ("identifier, first reversed", vec![Observe(REVERSED)], &second_transaction, "Fresh"),
        ("identifier, first rejected", vec![Advance(Fact::Rejected)], &second_transaction, "Fresh"),
        ("identifier, other request", vec![], &for_another, "IdentifierReused"),
        ("identifier, other request, reversed", vec![Observe(REVERSED)], &for_another, "IdentifierReused"),
        ("identifier, other request, rejected", vec![Advance(Fact::Rejected)], &for_another, "Fresh"),
        ("rejected", vec![Advance(Fact::Rejected)], &claim, "Fresh"),
        ("rejected, offer over", vec![Advance(Fact::Rejected), Wait { millis: OFFER_SECONDS * 1_000 + 1 }], &claim, "Expired"),
        ("rejected, offer ends now", vec![Advance(Fact::Rejected), Wait { millis: OFFER_SECONDS * 1_000 }], &claim, "Fresh"),
    ];
    for (n, (name, story, again, expect)) in (1..).zip(cases) {
        assert_eq!(after(&store, n, story, again(n)).await, expect, "{name}");
    }
}

/// The claim fits several outcomes at once: the first of the order is answered.
pub(in crate::store) async fn outcomes_come_in_their_order<S: Subject>() {
    let store = Checked::<S>::create().await;
    // Payments 100 and 200 own their identifiers; 100 is presented with what belongs to 200.
    store.fresh(&Claim { identifier: identifier(200), ..claim(200) }, NOW).await;
    let late = NOW.plus_seconds(OFFER_SECONDS + 1);
    let stolen = Claim { identifier: identifier(200), ..claim(100) };
    let not_mine = Claim { identity: identity(300), ..stolen.clone() };

    assert_eq!(store.claim(&stolen, late).await.0.name(), "IdentifierReused", "before Expired");
    let same_request = Claim { identity: identity(200), ..stolen.clone() };
    assert_eq!(store.claim(&same_request, late).await.0.name(), "IdentifierFirst", "before Expired");

    let held = store.fresh(&claim(100), NOW).await;
    store.done(&held, [OWN], NOW).await;
    assert_eq!(store.claim(&not_mine, NOW).await.0, Seen::OtherRequest(store.record(100).await), "before IdentifierReused");
    assert_eq!(store.claim(&stolen, NOW).await.0, Seen::IdentifierReused(store.record(200).await), "before InFlight");
    store.done(&held, [settled(), delivered(Some(response("mine")))], NOW).await;
    assert_eq!(store.claim(&stolen, NOW).await.0.name(), "IdentifierReused", "before Delivered");
    let unknown_identifier = Claim { identifier: identifier(999), ..claim(100) };
    assert_eq!(store.claim(&unknown_identifier, NOW).await.0.name(), "Delivered", "a known payment ignores a new identifier");
    store.observe(100, REVERSED, NOW).await;
    assert_eq!(store.claim(&not_mine, NOW).await.0.name(), "Reversed", "before all others");

    let first_use = Claim { identifier: identifier(999), ..claim(400) };
    assert_eq!(store.claim(&first_use, NOW).await.0, Seen::Fresh, "the ignored identifier was not taken");
}

pub(in crate::store) async fn an_identifier_belongs_to_its_network<S: Subject>() {
    let store = Checked::<S>::create().await;
    let here = Claim { identifier: identifier(1), ..claim(1) };
    store.fresh(&here, NOW).await;
    for network in [Network::Mainnet, Network::Testnet10] {
        let there = Claim { key: PaymentKey { network, ..key(1) }, identity: identity(2), ..here.clone() };
        assert_eq!(store.claim(&there, NOW).await.0, Seen::Fresh, "the same txid and identifier on {network}");
    }
}

pub(in crate::store) async fn holds_expire_and_are_taken_over_once<S: Subject>() {
    let store = Checked::<S>::create().await;
    let first = store.fresh(&claim(1), NOW).await;
    let later = NOW.plus_millis(HOLD_MILLIS);
    store.done(&first, [Fact::Submitted(Submission::Own)], later.plus_millis(1)).await;
    assert_eq!(store.record(1).await.submission, Submission::Own, "an expired hold that nobody took is still good");

    let second = store.resumed(&claim(1), later).await;
    assert_eq!(store.claim(&claim(1), later).await.0, Seen::InFlight(later.plus_millis(HOLD_MILLIS)));
    assert_eq!(store.advance(&first, Fact::Proven, later).await, Advanced::Stale);
    assert_eq!(store.advance(&second, Fact::Proven, later).await, Advanced::Done);
}

/// A payment freed and claimed anew does not obey the hold of its earlier life.
pub(in crate::store) async fn a_hold_says_whose_it_is<S: Subject>() {
    let store = Checked::<S>::create().await;
    let first = store.fresh(&claim(1), NOW).await;
    store.done(&first, [Fact::Rejected], NOW).await;
    let second = store.fresh(&Claim { identity: identity(2), ..claim(1) }, NOW).await;
    for fact in [Fact::Rejected, settled(), Fact::Released, Fact::Renewed { hold_millis: 1 }] {
        assert_eq!(store.advance(&first, fact, NOW).await, Advanced::Stale);
    }
    assert_eq!(second.key(), &key(1));
    store.done(&second, [settled()], NOW).await;
}

pub(in crate::store) async fn redeliveries_are_limited<S: Subject>() {
    let store = Checked::<S>::create().await;
    let mut held = Some(store.fresh(&claim(1), NOW).await);
    store.done(held.as_ref().unwrap(), [settled()], NOW).await;
    let mut forwards = 0;
    while let Some(hold) = held {
        store.done(&hold, [Fact::Forwarding], NOW).await;
        forwards += 1;
        assert_eq!(store.record(1).await.forwards, forwards);
        let beside = if forwards < 1 + limits::REDELIVERIES { "InFlight" } else { "Delivered" };
        assert_eq!(store.claim(&claim(1), NOW).await.0.name(), beside, "one redelivery at a time, and nothing to wait for after the last");
        store.done(&hold, [delivered(None)], NOW).await;
        let (seen, again) = store.claim(&claim(1), NOW).await;
        assert_eq!(seen.name(), if again.is_some() { "Redeliver" } else { "Delivered" });
        held = again;
    }
    assert_eq!(forwards, 1 + limits::REDELIVERIES, "the first forward and its redeliveries");

    let held = store.fresh(&claim(2), NOW).await;
    store.done(&held, [settled(), Fact::Forwarding, delivered(None)], NOW).await;
    let (_, again) = store.claim(&claim(2), NOW).await;
    store.done(&again.unwrap(), [Fact::Forwarding, delivered(Some(response("small enough now")))], NOW).await;
    let (seen, _) = store.claim(&claim(2), NOW).await;
    assert!(matches!(seen, Seen::Delivered(StoredPayment { response: Some(kept), .. }) if kept == response("small enough now")));
}

pub(in crate::store) async fn an_entitlement_ends_and_is_granted_again<S: Subject>() {
    let store = Checked::<S>::create().await;
    let held = store.fresh(&claim(1), NOW).await;
    store.done(&held, [settled(), Fact::Undelivered { status: None }], NOW).await;
    let over = NOW.plus_seconds(ENTITLEMENT_SECONDS).plus_millis(1);
    assert_eq!(store.claim(&claim(1), over).await.0.name(), "EntitlementOver");
    let until = over.plus_seconds(10);
    assert_eq!(store.observe(1, ChainFact::Granted { until }, over).await, Observed::Done);
    let again = store.resumed(&claim(1), over).await;
    store.done(&again, [Fact::Forwarding, delivered(Some(response("at last")))], over).await;
    let totals = store.store().totals().await.unwrap();
    assert_eq!((totals.charged_sompi, totals.owed_sompi, totals.delivered), (25_000_001, 0, 1), "one charge for both entitlements");
}

/// A thief who presents a public transaction first blocks its payer for no longer than his own request takes.
pub(in crate::store) async fn an_unproven_claim_gives_way<S: Subject>() {
    let store = Checked::<S>::create().await;
    let thief = Claim { identifier: identifier(1), transaction: b"forged signature".to_vec(), ..claim(1) };
    let held = store.fresh(&thief, NOW).await;
    store.done(&held, [FOREIGN, Fact::Released], NOW).await;
    store.observe(1, ChainFact::Accepted(acceptance(9)), NOW).await;
    store.observe(1, ChainFact::Final, NOW).await;

    let payer = Claim { identity: identity(2), identifier: identifier(2), ..claim(1) };
    let proving = store.resumed(&payer, NOW).await;
    let record = store.record(1).await;
    assert_eq!((record.identity, &record.transaction), (payer.identity, &payer.transaction));
    let facts = (record.submission, record.acceptance, record.is_final);
    assert_eq!(facts, (Submission::Foreign, Some(acceptance(9)), true), "facts about the transaction stay");
    assert_eq!(store.advance(&held, settled(), NOW).await, Advanced::Stale, "the thief's hold is void");
    store.done(&proving, [Fact::Proven, settled(), delivered(Some(response("the payer's")))], NOW).await;
    assert_eq!(store.claim(&thief, NOW).await.0.name(), "OtherRequest");
    assert_eq!(store.claim(&Claim { identifier: identifier(1), ..claim(5) }, NOW).await.0, Seen::Fresh, "his identifier is free");
}

/// What another gateway was given to decide stays its presenter's until that one has said whose it is.
pub(in crate::store) async fn what_was_handed_over_gives_way_only_when_it_is_decided<S: Subject>() {
    let store = Checked::<S>::create().await;
    let stranger = Claim { identity: identity(2), ..claim(1) };
    let held = store.fresh(&claim(1), NOW).await;
    store.done(&held, [Fact::Submitted(Submission::HandedOver), Fact::Released], NOW).await;
    assert_eq!(store.claim(&stranger, NOW).await.0.name(), "OtherRequest");
    // Whatever the age of its offer: it is known.
    let late = NOW.plus_seconds(OFFER_SECONDS + 1);
    let held = store.resumed(&claim(1), late).await;
    store.done(&held, [FOREIGN, Fact::Released], late).await;
    store.resumed(&stranger, NOW).await;
}

pub(in crate::store) async fn a_late_payment_waits_for_a_grant<S: Subject>() {
    let store = Checked::<S>::create().await;
    let over = NOW.plus_seconds(OFFER_SECONDS + 1);
    assert_eq!(store.claim(&claim(1), over).await.0, Seen::Expired, "an expired offer claims nothing");
    let held = store.fresh(&Claim { late: true, ..claim(1) }, over).await;
    store.done(&held, [Fact::Submitted(Submission::Foreign), Fact::Released], over).await;
    assert_eq!(store.claim(&claim(1), over).await.0.name(), "Late", "recorded, and served to nobody");
    assert_eq!(store.sequences(query(Selection::Unresolved)).await, [1]);
    assert_eq!(store.observe(1, ChainFact::Granted { until: over }, over).await, Observed::Done);
    store.resumed(&claim(1), over).await;
}

pub(in crate::store) async fn an_identifier_is_free_again_after_a_reversal<S: Subject>() {
    let store = Checked::<S>::create().await;
    let pay = |n: u64| Claim { identity: identity(1), identifier: identifier(1), ..claim(n) };
    store.fresh(&pay(1), NOW).await;
    store.observe(1, REVERSED, NOW).await;
    let second = store.fresh(&pay(2), NOW).await;
    assert_eq!(store.claim(&pay(3), NOW).await.0, Seen::IdentifierFirst(store.record(2).await), "now the second one counts");
    assert_eq!(store.claim(&pay(1), NOW).await.0.name(), "Reversed");
    store.done(&second, [Fact::Rejected], NOW).await;
    store.fresh(&pay(3), NOW).await;
}

pub(in crate::store) async fn a_freed_claim_leaves_nothing_behind<S: Subject>() {
    let store = Checked::<S>::create().await;
    let named = Claim { identifier: identifier(1), ..claim(1) };
    let held = store.fresh(&named, NOW).await;
    store.done(&held, [Fact::Rejected], NOW).await;
    assert_eq!(store.payment(1).await, None);
    assert_eq!(store.sequences(query(Selection::All)).await, [0; 0]);
    assert_eq!(store.store().totals().await.unwrap(), Totals::default());
    assert_eq!(store.advance(&held, Fact::Rejected, NOW).await, Advanced::Done, "freeing twice is harmless");
    assert_eq!(store.advance(&held, Fact::Proven, NOW).await, Advanced::Stale);
    store.fresh(&named, NOW).await;
    assert_eq!(store.record(1).await.sequence, 2, "a sequence is never given out twice");
}
