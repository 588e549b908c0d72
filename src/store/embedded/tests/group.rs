//! Group commit, counted and not timed.

use super::*;
use crate::store::conformance::*;
use futures::{FutureExt, future::join_all};
use std::sync::mpsc;

/// Stops the writer inside a transaction until the sender is dropped.
pub(super) fn stall(store: &Arc<EmbeddedStore>) -> (mpsc::Sender<()>, tokio::task::JoinHandle<Result<(), StoreError>>) {
    let (release, wait) = mpsc::channel::<()>();
    let (entered, inside) = mpsc::channel::<()>();
    let mut entered = Some(entered);
    let stalled = store.clone();
    let task = tokio::spawn(async move {
        stalled
            .writer
            .run(move |_| {
                drop(entered.take());
                let _ = wait.recv();
                Ok(())
            })
            .await
    });
    tokio::task::block_in_place(|| inside.recv()).unwrap_err();
    (release, task)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_verbs_that_wait_share_one_commit() {
    let subject = Embedded::create().await;
    let store = subject.store();
    let before = store.stats();
    let (release, stalled) = stall(store);
    let claims: Vec<_> = (0..64).map(claim).collect();
    let mut waiting = Box::pin(join_all(claims.iter().map(|claim| store.claim(claim, NOW))));
    assert!((&mut waiting).now_or_never().is_none());
    assert_eq!(store.writer.waiting(), 64, "every verb waits its turn");
    assert_eq!(store.stats(), before, "nothing is answered while the first group is open");
    drop(release);
    stalled.await.unwrap().unwrap();
    for outcome in waiting.await {
        assert_eq!(seen(outcome.unwrap()).0, Seen::Fresh);
    }
    let after = store.stats();
    assert_eq!((after.commits - before.commits, after.verbs - before.verbs), (2, 65));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verb_that_fails_spoils_no_other_of_its_group() {
    let subject = Embedded::create().await;
    let store = subject.store();
    let (release, stalled) = stall(store);
    let (first, last) = (claim(1), claim(2));
    let third = claim(3);
    let mut group = Box::pin(async {
        tokio::join!(
            store.claim(&first, NOW),
            store.writer.run(move |step| {
                // Writes, then fails: both the row and the sums must be undone.
                step.claim(&third, NOW)?;
                step.conn.execute_batch("INSERT INTO nowhere VALUES (1)").map_err(schema::explain)
            }),
            store.claim(&last, NOW),
        )
    });
    assert!((&mut group).now_or_never().is_none());
    assert_eq!(store.writer.waiting(), 3);
    drop(release);
    stalled.await.unwrap().unwrap();
    let (first, failed, last) = group.await;
    assert_eq!((seen(first.unwrap()).0, seen(last.unwrap()).0), (Seen::Fresh, Seen::Fresh));
    assert!(matches!(failed, Err(StoreError::Unavailable(_))), "{failed:?}");
    let sequences: Vec<u64> =
        store.payments(&query(crate::store::Selection::All)).await.unwrap().iter().map(|record| record.sequence).collect();
    assert_eq!(sequences, [1, 2], "the failed claim's number was given out again");
    Checked(subject).conserved().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_left_does_not_disturb_the_group() {
    let subject = Embedded::create().await;
    let store = subject.store();
    let (release, stalled) = stall(store);
    let (gone, stays) = (claim(1), claim(2));
    let mut leaving = Box::pin(store.claim(&gone, NOW));
    assert!((&mut leaving).now_or_never().is_none());
    drop(leaving);
    let staying = store.claim(&stays, NOW);
    drop(release);
    stalled.await.unwrap().unwrap();
    assert_eq!(seen(staying.await.unwrap()).0, Seen::Fresh);
    assert!(store.payment(&key(1)).await.unwrap().is_some(), "a verb that was queued runs");
}

#[tokio::test]
async fn closing_finishes_what_waits() {
    let subject = Embedded::create().await;
    let claims: Vec<_> = (0..10).map(claim).collect();
    let mut waiting = Box::pin(join_all(claims.iter().map(|claim| subject.store.claim(claim, NOW))));
    assert!((&mut waiting).now_or_never().is_none());
    drop(waiting);
    let subject = subject.restart().await;
    assert_eq!(subject.store.totals().await.unwrap().pending, 10);
}
