//! The file itself: creation, versions, a second process, the ledger rows.

use super::*;
use crate::store::conformance::*;
use std::os::unix::fs::PermissionsExt;

#[tokio::test]
async fn a_new_store_keeps_its_id_and_is_private() {
    let subject = Embedded::create().await;
    let mode = |name: &str| std::fs::metadata(subject.directory.path().join(name)).unwrap().permissions().mode() & 0o777;
    for name in ["kas402.db", "kas402.db-wal"] {
        assert_eq!(mode(name), 0o600, "{name}");
    }
    let again = EmbeddedStore::open(&subject.path(), StoreId([2; 16])).unwrap();
    assert_eq!(again.id(), StoreId([1; 16]), "drawn once");
}

#[test]
fn a_missing_directory_is_not_made() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("missing").join("kas402.db");
    assert!(matches!(EmbeddedStore::open(&path, StoreId([1; 16])), Err(StoreError::Unavailable(_))));
    assert!(!path.parent().unwrap().exists());
}

#[test]
fn foreign_and_newer_files_are_refused_untouched() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kas402.db");
    for (name, sql, expect) in [
        ("another program's", "CREATE TABLE theirs (x)", "not a kas402 store"),
        ("newer", "CREATE TABLE t (x); PRAGMA application_id = 0x6b343032; PRAGMA user_version = 5", "written by a newer kas402"),
    ] {
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        let before = std::fs::read(&path).unwrap();
        let error = EmbeddedStore::open(&path, StoreId([1; 16])).unwrap_err();
        assert!(matches!(&error, StoreError::Corrupt(why) if why.contains(expect)), "{name}: {error}");
        let error = EmbeddedStore::open_read_only(&path).unwrap_err();
        assert!(matches!(&error, StoreError::Corrupt(why) if why.contains(expect)), "{name}: {error}");
        assert_eq!(std::fs::read(&path).unwrap(), before, "{name}");
        std::fs::remove_file(&path).unwrap();
    }
    std::fs::write(&path, "this is a text file, and a long enough one to be read as a header of something else altogether").unwrap();
    assert!(matches!(EmbeddedStore::open(&path, StoreId([1; 16])), Err(StoreError::Corrupt(_))));
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(EmbeddedStore::open_read_only(&path), Err(StoreError::Unavailable(_))), "reading creates nothing");
    assert!(!path.exists());
}

#[test]
fn eight_processes_that_create_at_once_share_one_store() {
    for _ in 0..5 {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kas402.db");
        let start = Arc::new(std::sync::Barrier::new(8));
        let threads = (0..8u8).map(|n| {
            let (path, start) = (path.clone(), start.clone());
            std::thread::spawn(move || {
                start.wait();
                EmbeddedStore::open(&path, StoreId([n; 16])).unwrap()
            })
        });
        let stores: Vec<_> = threads.collect::<Vec<_>>().into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(stores.iter().all(|store| store.id() == stores[0].id()));
    }
}

#[tokio::test]
async fn two_writers_of_one_file_count_as_one() {
    let subject = Embedded::create().await;
    let second = open(&subject.path());
    for n in 0..20 {
        let store = if n % 2 == 0 { subject.store() } else { &second };
        let (seen, _) = seen(store.claim(&claim(n), NOW).await.unwrap());
        assert_eq!(seen, Seen::Fresh);
        let other = if n % 2 == 0 { &second } else { &**subject.store() };
        assert_eq!(other.payment(&key(n)).await.unwrap().unwrap().record.sequence, n + 1);
    }
    assert_eq!(second.totals().await.unwrap().pending, 20);
    Checked(subject).conserved().await;
}

#[tokio::test]
async fn a_reader_sees_every_answered_verb_at_once() {
    let subject = Embedded::create().await;
    let reader = EmbeddedStore::open_read_only(&subject.path()).unwrap();
    assert_eq!(reader.id(), subject.store.id());
    let checkpoint = Checkpoint { block: crate::protocol::ids::BlockHash([1; 32]), blue_score: 1 };
    subject.store.set_checkpoint(checkpoint).await.unwrap();
    assert_eq!(reader.checkpoint().await.unwrap(), Some(checkpoint));
    for n in 0..50 {
        let (_, held) = seen(subject.store.claim(&claim(n), NOW).await.unwrap());
        subject.store.advance(&held.unwrap(), settled(), NOW).await.unwrap();
        assert_eq!(reader.payment(&key(n)).await.unwrap().unwrap().record.state, crate::store::PaymentState::Settled);
        assert_eq!(reader.totals().await.unwrap().settled, n + 1);
    }
    assert_eq!(reader.payments(&query(crate::store::Selection::Owed)).await.unwrap().len(), 50);
}

#[tokio::test]
async fn the_ledger_has_one_row_for_each_charge_and_each_reversal() {
    let subject = Embedded::create().await;
    let store = subject.store();
    for n in 1..=3 {
        let (_, held) = seen(store.claim(&claim(n), NOW).await.unwrap());
        let held = held.unwrap();
        for _ in 0..2 {
            store.advance(&held, settled(), NOW).await.unwrap();
        }
    }
    for n in [2, 2, 3] {
        store.observe(&key(n), ChainFact::Reversed { by: crate::protocol::ids::TxId([9; 32]) }, NOW).await.unwrap();
    }
    let conn = subject.tamper();
    let mut rows =
        conn.prepare("SELECT kind, sequence, amount_sompi, reversed_by IS NOT NULL FROM ledger ORDER BY kind, sequence").unwrap();
    let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))).unwrap();
    let rows: Vec<(String, u64, u64, bool)> = rows.map(Result::unwrap).collect();
    let row = |kind: &str, n: u64| (kind.to_owned(), n, 25_000_000 + n, kind == "reversed");
    assert_eq!(rows, [row("charge", 1), row("charge", 2), row("charge", 3), row("reversed", 2), row("reversed", 3)]);
}

#[tokio::test]
async fn a_damaged_response_is_refused() {
    let subject = Embedded::create().await;
    let store = subject.store();
    let (_, held) = seen(store.claim(&claim(1), NOW).await.unwrap());
    let held = held.unwrap();
    store.advance(&held, settled(), NOW).await.unwrap();
    store.advance(&held, delivered(Some(response("whole"))), NOW).await.unwrap();
    subject.tamper().execute("UPDATE responses SET record = substr(record, 1, length(record) - 1)", []).unwrap();
    assert!(matches!(store.claim(&claim(1), NOW).await, Err(StoreError::Corrupt(_))));
    assert!(matches!(store.payment(&key(1)).await, Err(StoreError::Corrupt(_))));
}

#[tokio::test]
async fn a_large_answer_lies_compressed_and_old_rows_are_read() {
    let subject = Embedded::create().await;
    let store = subject.store();
    let texts = ["short".to_owned(), "an answer that repeats itself ".repeat(2_000)];
    for (n, text) in (1..).zip(&texts) {
        let (_, held) = seen(store.claim(&claim(n), NOW).await.unwrap());
        let held = held.unwrap();
        store.advance(&held, settled(), NOW).await.unwrap();
        store.advance(&held, delivered(Some(response(text))), NOW).await.unwrap();
        assert_eq!(store.payment(&key(n)).await.unwrap().unwrap().response, Some(response(text)));
        assert_eq!(seen(store.claim(&claim(n), NOW).await.unwrap()).0.name(), "Delivered");
    }
    let row = |n: u64| {
        subject.tamper().query_row("SELECT record FROM responses WHERE sequence = ?1", [n], |row| row.get::<_, Vec<u8>>(0)).unwrap()
    };
    let (short, long) = (row(1), row(2));
    assert_eq!((short[0], long[0]), (1, 2), "each says how it is stored");
    assert!(long.len() * 20 < texts[1].len(), "{} bytes", long.len());
    // As every program before compression wrote it.
    let old =
        codec::encode(codec::Kind::Response, &codec::key_bytes(&key(2)), &(200u16, response("").headers, texts[1].as_bytes().to_vec()));
    subject.tamper().execute("UPDATE responses SET record = ?1 WHERE sequence = 2", [old]).unwrap();
    assert_eq!(store.payment(&key(2)).await.unwrap().unwrap().response, Some(response(&texts[1])));
    // A flag that is changed is damage, not another reading of the same bytes.
    for flag in [1, 3] {
        let spoilt = [&[flag], &long[1..]].concat();
        subject.tamper().execute("UPDATE responses SET record = ?1 WHERE sequence = 2", [spoilt]).unwrap();
        assert!(matches!(store.payment(&key(2)).await, Err(StoreError::Corrupt(_))), "{flag}");
    }
}

#[tokio::test]
async fn listings_walk_the_small_index() {
    let subject = Embedded::create().await;
    let plan = "EXPLAIN QUERY PLAN SELECT sequence FROM progress INDEXED BY progress_active
                WHERE active = 1 AND open = 1 AND sequence > 5 ORDER BY sequence LIMIT 10";
    let detail: String = subject.tamper().query_row(plan, [], |row| row.get(3)).unwrap();
    assert!(detail.contains("progress_active"), "{detail}");
}
