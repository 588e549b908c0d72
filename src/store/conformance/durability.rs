//! Restarts and damaged records.

use super::*;

pub(in crate::store) async fn everything_acknowledged_survives_a_restart<S: Subject>() {
    let mut store = Checked::<S>::create().await;
    let id = store.store().id();
    let checkpoint = Checkpoint { block: BlockHash([3; 32]), blue_score: 8 };
    store.store().set_checkpoint(checkpoint).await.unwrap();
    let story = [Fact::Submitted(Submission::Foreign), Fact::Proven, settled(), Fact::Forwarding, delivered(Some(response("kept")))];
    // Payment n has gone n steps; the hold of each goes on after the restart.
    let mut holds = Vec::new();
    for n in 0..=5 {
        let held = store.fresh(&Claim { identifier: identifier(n), ..claim(n) }, NOW).await;
        for fact in story.iter().take(usize::try_from(n).unwrap()) {
            store.done(&held, [fact.clone()], NOW).await;
            store = store.restart().await;
        }
        holds.push(held);
    }
    let mut before = Vec::new();
    for n in 0..=5 {
        before.push(store.payment(n).await.unwrap());
    }
    store = store.restart().await;
    assert_eq!(store.store().id(), id);
    assert_eq!(store.store().checkpoint().await.unwrap(), Some(checkpoint));
    for (n, before) in (0..).zip(before) {
        assert_eq!(store.payment(n).await, Some(before));
        let second = Claim { identifier: identifier(n), ..claim(n + 100) };
        assert_eq!(store.claim(&Claim { identity: identity(n), ..second }, NOW).await.0.name(), "IdentifierFirst");
    }
    for (n, held) in holds.iter().enumerate() {
        store.done(held, story.iter().skip(n).cloned(), NOW).await;
    }
    assert_eq!(store.store().totals().await.unwrap().delivered, 6);
    store.fresh(&claim(7), NOW).await;
    assert_eq!(store.record(7).await.sequence, 7, "counting goes on");
}

pub(in crate::store) async fn a_hold_survives_a_restart_until_it_expires<S: Subject>() {
    let store = Checked::<S>::create().await;
    let held = store.fresh(&claim(1), NOW).await;
    store.done(&held, [Fact::Renewed { hold_millis: 9_000 }], NOW).await;
    let store = store.restart().await;
    let until = NOW.plus_millis(9_000);
    assert_eq!(store.claim(&claim(1), until.plus_millis(0)).await.0.name(), "Resumed", "over at its end");
    let store = store.restart().await;
    let until = until.plus_millis(HOLD_MILLIS);
    assert_eq!(store.claim(&claim(1), UnixMillis(until.0 - 1)).await.0, Seen::InFlight(until), "the new one lasts");
    assert_eq!(store.advance(&held, Fact::Proven, NOW).await, Advanced::Stale);
}

pub(in crate::store) async fn a_damaged_record_is_refused_and_harms_no_other<S: Subject>() {
    for damage in [Damage::NewerVersion, Damage::FlippedBit] {
        let subject = Checked::<S>::create().await;
        let held = subject.fresh(&Claim { identifier: identifier(1), ..claim(1) }, NOW).await;
        let healthy = subject.fresh(&claim(2), NOW).await;
        if !subject.0.damage(&key(1), damage).await {
            return;
        }
        let store = subject.store();
        let corrupt = |error: StoreError| assert!(matches!(error, StoreError::Corrupt(_)), "{damage:?}: {error}");
        corrupt(store.claim(&claim(1), NOW).await.unwrap_err());
        corrupt(store.claim(&Claim { identifier: identifier(1), ..claim(3) }, NOW).await.unwrap_err());
        corrupt(store.advance(&held, settled(), NOW).await.unwrap_err());
        corrupt(store.observe(&key(1), ChainFact::TakenBack, NOW).await.unwrap_err());
        corrupt(store.payment(&key(1)).await.unwrap_err());
        corrupt(store.payments(&query(Selection::All)).await.unwrap_err());
        assert_eq!(store.advance(&healthy, settled(), NOW).await.unwrap(), Advanced::Done);
        assert_eq!(seen(store.claim(&claim(4), NOW).await.unwrap()).0, Seen::Fresh);
        assert!(store.payment(&key(3)).await.unwrap().is_none(), "the claim that met the damage left nothing");
    }
}
