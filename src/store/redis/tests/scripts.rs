//! The guards of the scripts that no verb runs into by itself.

use super::{
    names::Pointed,
    write::{Commit, Wrote},
    *,
};
use crate::store::{channels::*, codec, conformance::*};

async fn store() -> (RedisStore, Server) {
    let server = Server::start(&SAFE);
    (RedisStore::open(&options(&server.url(), 1)).await.unwrap(), server)
}

#[tokio::test]
async fn a_record_is_not_written_after_its_reservation_is_over() {
    let (store, _server) = store().await;
    let by = store.link.deadline();
    let now = store.server_millis(by).await.unwrap();
    for (until, expect) in [(now - 1, Wrote::Late), (now + 60_000, Wrote::Done), (now - 1, Wrote::Conflict)] {
        let commit = Commit::new(store.keys.of(3, "record"), None, Some(&store.next_revision())).until(until);
        assert_eq!(commit.send(&store, 3, by).await.unwrap(), expect);
        let written = store.link.command("EXISTS", &[&store.keys.of(3, "record")], Effect::Read, by).await.unwrap();
        assert_eq!(reply::number(written).unwrap() == 1, expect != Wrote::Late);
    }
}

#[tokio::test]
async fn a_name_is_freed_by_whom_it_points_to_alone() {
    let (store, _server) = store().await;
    let by = store.link.deadline();
    let name = store.keys.script(&[9; 32]);
    assert!(matches!(store.point(&name, None, b"mine", false, by).await.unwrap(), Pointed::Here { .. }));
    assert!(matches!(store.point(&name, None, b"theirs", false, by).await.unwrap(), Pointed::Elsewhere));
    store.unpoint(&name, b"theirs", by).await.unwrap();
    let pointer = store.pointer(&name, by).await.unwrap().unwrap();
    assert_eq!(pointer.target(), b"mine");
    // What was seen may be taken over; what was set meanwhile may not.
    assert!(matches!(store.point(&name, Some(&pointer), b"theirs", false, by).await.unwrap(), Pointed::Here { .. }));
    assert!(matches!(store.point(&name, Some(&pointer), b"another", false, by).await.unwrap(), Pointed::Elsewhere));
    store.unpoint(&name, b"theirs", by).await.unwrap();
    assert_eq!(store.pointer(&name, by).await.unwrap(), None);
}

#[tokio::test]
async fn a_ledger_with_a_row_too_many_takes_no_other() {
    let (store, _server) = store().await;
    let by = store.link.deadline();
    let place = store.keys.channel(&id(1));
    store.open_channel(&opening(1), NOW).await.unwrap();
    let Leased::Held(lease, record) = store.lease(&ask(1, request(1)), NOW).await.unwrap() else { panic!("not held") };
    store.link.command("RPUSH", &[&place.charges, b"row"], Effect::Note, by).await.unwrap();
    let error = store.advance_channel(&lease, committed(&record, 1, 10, 10), NOW).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
    store.link.command("DEL", &[&place.charges], Effect::Note, by).await.unwrap();
    store.link.command("HSET", &[&place.used, &codec::channels::nonce_key(&nonce(1)), b"1"], Effect::Note, by).await.unwrap();
    let error = store.advance_channel(&lease, committed(&record, 1, 10, 10), NOW).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
    assert_eq!(store.channel(&id(1)).await.unwrap().unwrap(), record, "nothing was written");
    assert_eq!(store.channel_totals().await.unwrap().charges, 0);
}
