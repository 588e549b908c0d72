//! A disk that is full, refuses writes, or comes back.

use super::*;
use crate::store::{channels::*, conformance::*};

/// Lets the database grow by at most `pages` more; a large number ends the shortage.
async fn room(store: &EmbeddedStore, pages: i64) {
    let limit = store.writer.run(move |step| {
        let count: i64 = step.conn.pragma_query_value(None, "page_count", |row| row.get(0)).map_err(schema::explain)?;
        let sql = format!("PRAGMA max_page_count = {}", count.saturating_add(pages));
        step.conn.query_row(&sql, [], |row| row.get::<_, i64>(0)).map_err(schema::explain)
    });
    limit.await.unwrap();
}

/// An answer of which compression leaves more than half.
fn large() -> String {
    (1..1_500u64).map(|n| format!("{:x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect()
}

#[tokio::test]
async fn a_full_disk_refuses_and_later_serves_again() {
    let subject = Checked(Embedded::create().await);
    let store = subject.store();
    let held = subject.fresh(&claim(0), NOW).await;
    room(store, 6).await;
    let (mut taken, mut refused) = (Vec::new(), Vec::new());
    for n in 1..=200 {
        let large = crate::store::Claim { transaction: vec![1; 3_000], ..claim(n) };
        match store.claim(&large, NOW).await {
            Ok(outcome) => taken.push((n, seen(outcome).1.unwrap())),
            Err(StoreError::Unavailable(why)) => refused.push((n, why)),
            Err(other) => panic!("{other}"),
        }
    }
    assert!(!taken.is_empty() && refused.len() > 100, "{} taken", taken.len());
    assert!(refused[0].1.contains("full"), "{}", refused[0].1);
    subject.conserved().await;
    for (n, _) in &refused {
        assert!(subject.payment(*n).await.is_none(), "{n} was refused and is not there");
    }
    for (n, _) in &taken {
        assert!(subject.payment(*n).await.is_some(), "{n} was acknowledged");
    }
    room(store, 1_000_000).await;
    assert_eq!(subject.advance(&held, settled(), NOW).await, Advanced::Done);
    for (n, _) in refused {
        subject.fresh(&claim(n), NOW).await;
    }
    subject.restart().await;
}

#[tokio::test]
async fn a_full_disk_charges_nothing_and_its_lease_may_try_again() {
    let books = Books(Embedded::create().await);
    let store = books.store();
    books.open(1).await;
    let before = books.charge(1, 1, 20, 10).await;
    room(store, 0).await;
    let (lease, record) = books.lease(1, request(2), NOW).await;
    let large = Charge { response: Some(response(&large())), ..charge(&record, 2, 20, 10) };
    let fact = ChannelFact::Committed(Box::new(large));
    for _ in 0..2 {
        let refused = store.advance_channel(&lease, fact.clone(), NOW).await;
        assert!(matches!(&refused, Err(StoreError::Unavailable(why)) if why.contains("full")), "{refused:?}");
        assert_eq!(books.record(1).await, before);
        assert!(matches!(books.try_lease(&ask(1, request(2)), NOW).await, Leased::Busy { same: true, .. }));
    }
    books.audit().await;
    room(store, 1_000_000).await;
    assert_eq!(books.done(&lease, fact, NOW).await.charges, 2);
    books.restart().await;
}

/// Where a limit on the size of files can be set from outside: the log then cannot grow, and COMMIT itself fails.
#[test]
fn a_commit_that_fails_is_in_doubt_and_the_writer_recovers() {
    limited("child_meets_the_limit");
}

#[test]
fn a_charge_in_doubt_blocks_its_channel_until_its_lease_ends() {
    limited("child_charges_until_the_limit");
}

/// Runs a test of this file in a process of its own whose files cannot grow.
fn limited(child: &str) {
    let child = format!("store::embedded::tests::faults::{child}");
    let directory = tempfile::tempdir().unwrap();
    let status = std::process::Command::new("sh")
        // Blocks of 512 bytes or 1 KiB, as the shell has it: either is beyond a new store and soon reached.
        .args(["-c", "trap '' XFSZ; ulimit -S -f 400; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args([&child, "--exact", "--nocapture"])
        .env(LIMITED, directory.path())
        .status()
        .unwrap();
    assert!(status.success());
}

const LIMITED: &str = "KAS402_TEST_LIMITED_DIRECTORY";

#[tokio::test]
async fn child_meets_the_limit() {
    let Ok(directory) = std::env::var(LIMITED) else { return };
    let path = Path::new(&directory).join("kas402.db");
    let store = open(&path);
    let large = |n| crate::store::Claim { transaction: vec![1; 20_000], ..claim(n) };
    let (mut taken, mut doubtful) = (Vec::new(), Vec::new());
    for n in 0..100 {
        match store.claim(&large(n), NOW).await {
            Ok(_) => taken.push(n),
            Err(StoreError::Unknown(_)) => doubtful.push(n),
            Err(other) => panic!("{other}"),
        }
    }
    assert!(!taken.is_empty() && !doubtful.is_empty(), "{} taken, {} in doubt", taken.len(), doubtful.len());
    for n in &taken {
        assert!(store.payment(&key(*n)).await.unwrap().is_some(), "{n} was acknowledged");
    }
    unlimit();
    for n in doubtful {
        let (seen, _) = seen(store.claim(&large(n), NOW).await.unwrap());
        assert!(matches!(seen, Seen::Fresh | Seen::InFlight(_)), "{n}: {seen:?}");
    }
    let subject = Checked(Embedded { store: Arc::new(store), directory: tempfile::tempdir().unwrap() });
    subject.conserved().await;
    assert_eq!(subject.store().totals().await.unwrap().pending, 100);
}

/// The disk has room again.
fn unlimit() {
    let unlimited = ["--pid", &std::process::id().to_string(), "--fsize=unlimited"];
    assert!(std::process::Command::new("prlimit").args(unlimited).status().unwrap().success());
}

#[tokio::test]
async fn child_charges_until_the_limit() {
    let Ok(directory) = std::env::var(LIMITED) else { return };
    let path = Path::new(&directory).join("kas402.db");
    let books = Books(Embedded { store: Arc::new(open(&path)), directory: tempfile::tempdir().unwrap() });
    let store = books.store();
    books.open(1).await;
    let (mut taken, mut doubt) = (0, None);
    for k in 1..100 {
        let Leased::Held(lease, record) = store.lease(&ask(1, request(k)), NOW).await.unwrap() else { panic!("{k}") };
        let large = Charge { response: Some(response(&large())), ..charge(&record, k, 20, 10) };
        match store.advance_channel(&lease, ChannelFact::Committed(Box::new(large.clone())), NOW).await {
            Ok(ChannelStep::Done(_)) => taken = k,
            Err(StoreError::Unknown(_)) => {
                doubt = Some((k, lease, large));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    let (k, lease, charge) = doubt.expect("the log cannot grow");
    assert!(taken > 0);
    // Until it is over the lease keeps others out; what is there is what the disk has.
    let busy = store.lease(&ask(1, request(200)), NOW.plus_millis(HOLD_MILLIS - 1)).await.unwrap();
    assert!(matches!(busy, Leased::Busy { ref record, .. } if record.charges == taken), "{busy:?}");
    let again = store.lease(&ask(1, request(k)), NOW).await.unwrap();
    assert!(matches!(again, Leased::Busy { same: true, .. }), "{again:?}");
    assert!(store.charge(&id(1), &identifier(k).unwrap()).await.unwrap().is_none());
    unlimit();
    // Sent again under the same lease, it counts once.
    let fact = ChannelFact::Committed(Box::new(charge));
    assert!(matches!(store.advance_channel(&lease, fact.clone(), NOW).await.unwrap(), ChannelStep::Done(_)));
    assert!(matches!(store.advance_channel(&lease, fact, NOW).await.unwrap(), ChannelStep::Stale));
    assert!(matches!(store.lease(&ask(1, request(k)), NOW).await.unwrap(), Leased::Replay(_)));
    books.charge(1, 300, 20, 10).await;
    let record = books.record(1).await;
    assert_eq!((record.charges, record.parts.charged), (taken + 2, sompi(10 * (taken + 2))));
}

#[tokio::test]
async fn a_file_that_vanished_is_not_replaced_by_an_empty_one() {
    let subject = Embedded::create().await;
    let path = subject.path();
    let id = subject.store.id();
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(schema::reopen_writer(&path, id), Err(StoreError::Unavailable(_))));
    assert!(!path.exists());
    drop(EmbeddedStore::open(&path, StoreId([9; 16])).unwrap());
    let error = schema::reopen_writer(&path, id).unwrap_err();
    assert!(error.to_string().contains("another store"), "{error}");
}

#[tokio::test]
async fn a_locked_file_answers_unavailable_and_serves_afterwards() {
    let subject = Embedded::create().await;
    let other = subject.tamper();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    subject.store.writer.run(|_| Ok(())).await.expect_err("another process holds the write lock");
    assert!(subject.store.payment(&key(1)).await.unwrap().is_none(), "reads go on");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(seen(subject.store.claim(&claim(1), NOW).await.unwrap()).0, Seen::Fresh);
}

/// Runs a test of this file in a process whose folder is a file system of its own, three megabytes large, that only it sees.
fn on_a_small_disk(child: &str) {
    let mounting = ["-rm", "true"];
    if !std::process::Command::new("unshare").args(mounting).status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: this machine lets nobody mount");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=3m none \"$2\" && exec \"$0\" \"$1\" --exact --nocapture";
    let status = std::process::Command::new("unshare")
        .args(["-rm", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .arg(format!("store::embedded::tests::faults::{child}"))
        .arg(directory.path())
        .env(DISK, directory.path())
        .status()
        .unwrap();
    assert!(status.success());
}

const DISK: &str = "KAS402_TEST_SMALL_DISK";

#[test]
fn a_disk_without_room_loses_nothing_and_serves_again_when_there_is_some() {
    on_a_small_disk("child_fills_its_disk");
}

#[tokio::test]
async fn child_fills_its_disk() {
    let Ok(disk) = std::env::var(DISK) else { return };
    let (path, ballast) = (Path::new(&disk).join("kas402.db"), Path::new(&disk).join("ballast"));
    std::fs::write(&ballast, vec![7; 1_500_000]).unwrap();
    let store = open(&path);
    let big = |n| crate::store::Claim { transaction: vec![1; 20_000], ..claim(n) };
    let (mut taken, mut refused) = (Vec::new(), 0);
    for n in 0..200 {
        match store.claim(&big(n), NOW).await {
            Ok(_) => taken.push(n),
            Err(StoreError::Unavailable(_) | StoreError::Unknown(_)) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(taken.len() > 5 && refused > 50, "{} taken, {refused} refused", taken.len());
    for n in &taken {
        assert!(store.payment(&key(*n)).await.unwrap().is_some(), "{n} was acknowledged");
    }
    drop(store);
    // A start on the full disk reads what is there, or says why not.
    match EmbeddedStore::open(&path, StoreId([1; 16])) {
        Ok(store) => assert!(store.payment(&key(taken[0])).await.unwrap().is_some()),
        Err(error) => assert!(matches!(error, StoreError::Unavailable(_)), "{error}"),
    }
    std::fs::remove_file(&ballast).unwrap();
    let store = open(&path);
    for n in &taken {
        assert!(store.payment(&key(*n)).await.unwrap().is_some(), "{n} was acknowledged");
    }
    assert_eq!(seen(store.claim(&claim(900), NOW).await.unwrap()).0, Seen::Fresh);
    Checked(Embedded { store: Arc::new(store), directory: tempfile::tempdir().unwrap() }).conserved().await;
    EmbeddedStore::open_read_only(&path).unwrap().check().await.unwrap();
}

#[test]
fn a_disk_that_cannot_be_written_is_refused_at_the_start_and_loses_nothing() {
    on_a_small_disk("child_meets_a_read_only_disk");
}

#[tokio::test]
async fn child_meets_a_read_only_disk() {
    let Ok(disk) = std::env::var(DISK) else { return };
    let path = Path::new(&disk).join("kas402.db");
    let store = open(&path);
    for n in 1..=5 {
        seen(store.claim(&claim(n), NOW).await.unwrap()).1.unwrap();
    }
    // One that was killed still has its log, and opening it would not have to write anything.
    let killed = Path::new(&disk).join("killed.db");
    for end in ["", "-wal"] {
        std::fs::copy(format!("{}{end}", path.display()), format!("{}{end}", killed.display())).unwrap();
    }
    drop(store);
    let remount = |mode: &str| {
        let done = std::process::Command::new("mount").args(["-o", &format!("remount,{mode}"), &disk]).status();
        assert!(done.unwrap().success(), "{mode}");
    };
    remount("ro");
    for path in [&path, &killed] {
        let refused = EmbeddedStore::open(path, StoreId([1; 16])).unwrap_err();
        assert!(matches!(&refused, StoreError::Unavailable(why) if why.contains("read")), "{refused}");
    }
    let missing = EmbeddedStore::open(&Path::new(&disk).join("new.db"), StoreId([1; 16])).unwrap_err();
    assert!(matches!(&missing, StoreError::Unavailable(why) if why.contains("Read-only")), "{missing}");
    remount("rw");
    for path in [&path, &killed] {
        let store = open(path);
        for n in 1..=5 {
            assert!(store.payment(&key(n)).await.unwrap().is_some());
        }
    }
    let store = open(&path);
    assert_eq!(seen(store.claim(&claim(6), NOW).await.unwrap()).0, Seen::Fresh);
}

#[tokio::test]
async fn a_store_that_turns_read_only_refuses_each_step_and_serves_again() {
    let subject = Checked(Embedded::create().await);
    let held = subject.fresh(&claim(1), NOW).await;
    let only = async |on: bool| {
        let sql = format!("PRAGMA query_only = {on}");
        subject.store().writer.run(move |step| step.conn.execute_batch(&sql).map_err(schema::explain)).await
    };
    only(true).await.unwrap();
    for _ in 0..2 {
        let refused = subject.store().advance(&held, settled(), NOW).await.unwrap_err();
        assert!(matches!(&refused, StoreError::Unavailable(why) if why.contains("readonly")), "{refused}");
    }
    assert!(!subject.record(1).await.charged);
    // As long as it lasts not even this step is taken.
    only(false).await.unwrap_err();
    let subject = subject.restart().await;
    assert_eq!(subject.advance(&held, settled(), NOW).await, Advanced::Done);
}
