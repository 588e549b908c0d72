//! What of channels is in memory, and what a write costs.

use super::*;
use crate::store::{
    StoredResponse,
    channels::*,
    conformance::*,
    embedded::channels::{Cache, Limits},
};
use futures::FutureExt;
use group::stall;
use std::sync::mpsc;

/// Stops the reader until the sender is dropped.
fn stall_reader(store: &Arc<EmbeddedStore>) -> (mpsc::Sender<()>, tokio::task::JoinHandle<()>) {
    let (release, wait) = mpsc::channel::<()>();
    let (entered, inside) = mpsc::channel::<()>();
    let stalled = store.clone();
    let task = tokio::spawn(async move {
        let stop = stalled.reader.read(move |_| {
            drop(entered);
            let _ = wait.recv();
            Ok(())
        });
        stop.await.unwrap();
    });
    tokio::task::block_in_place(|| inside.recv()).unwrap_err();
    (release, task)
}

async fn held(store: &EmbeddedStore, n: u64, purpose: Purpose, now: UnixMillis) -> (Lease, Arc<ChannelRecord>) {
    match store.lease(&ask(n, purpose), now).await.unwrap() {
        Leased::Held(lease, record) => (lease, record),
        other => panic!("not held but {other:?}"),
    }
}

async fn with_limits(limits: Limits) -> Books<Embedded> {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(&directory.path().join("kas402.db"));
    store.channels = Cache::with_limits(limits);
    Books(Embedded { store: Arc::new(store), directory })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_in_use_asks_neither_disk_nor_thread() {
    let books = Books::<Embedded>::create().await;
    books.open(1).await;
    books.charge(1, 1, 500, 400).await;
    // After a restart the first request reads what the channel is and what it has used up; the second one reads nothing.
    let books = books.restart().await;
    let store = books.0.store();
    let (lease, _) = held(store, 1, request(2), NOW).await;
    store.advance_channel(&lease, ChannelFact::Released, NOW).await.unwrap();
    let (writer, stalled_writer) = stall(store);
    let (reader, stalled_reader) = stall_reader(store);
    for k in 3..6 {
        assert!(store.channel(&id(1)).now_or_never().unwrap().unwrap().is_some());
        let Leased::Held(lease, record) = store.lease(&ask(1, request(k)), NOW).now_or_never().unwrap().unwrap() else { panic!() };
        let busy = store.lease(&ask(1, request(k)), NOW).now_or_never().unwrap().unwrap();
        assert!(matches!(busy, Leased::Busy { same: true, .. }));
        let renewed = store.advance_channel(&lease, ChannelFact::Renewed { hold_millis: 9 }, NOW).now_or_never().unwrap().unwrap();
        assert!(matches!(renewed, ChannelStep::Done(_)));
        let refused = store.advance_channel(&lease, committed(&record, 9, 10, 10), NOW).now_or_never().unwrap().unwrap();
        assert!(matches!(refused, ChannelStep::Refused));
        let released = store.advance_channel(&lease, ChannelFact::Released, NOW).now_or_never().unwrap().unwrap();
        assert!(matches!(released, ChannelStep::Done(_)));
    }
    // A replay is answered from the disk, and what another step writes is not shown before it is there.
    assert!(store.lease(&ask(1, request(1)), NOW).now_or_never().is_none());
    drop((writer, reader));
    stalled_writer.await.unwrap().unwrap();
    stalled_reader.await.unwrap();
    let (lease, record) = held(store, 1, request(6), NOW).await;
    let (writer, stalled_writer) = stall(store);
    let mut charging = Box::pin(store.advance_channel(&lease, committed(&record, 6, 10, 10), NOW));
    assert!((&mut charging).now_or_never().is_none());
    assert_eq!(store.channel(&id(1)).now_or_never().unwrap().unwrap(), Some(record));
    assert!(store.lease(&ask(1, request(6)), NOW).now_or_never().is_none(), "whoever asks meanwhile gets its answer");
    drop(writer);
    stalled_writer.await.unwrap().unwrap();
    assert!(matches!(charging.await.unwrap(), ChannelStep::Done(_)));
    assert_eq!(store.channel(&id(1)).await.unwrap().unwrap().charges, 2);
}

#[tokio::test]
async fn a_charge_writes_one_row_and_its_answer() {
    let books = Books::<Embedded>::create().await;
    books.open(1).await;
    let store = books.0.store();
    let changes = || async {
        store
            .writer
            .run(|step| step.conn.query_row("SELECT total_changes()", [], |row| row.get::<_, u64>(0)).map_err(schema::explain))
            .await
    };
    for (what, response, expect) in [("with its answer", Some(response("answer")), 3), ("without", None, 2)] {
        let k = expect;
        let (lease, record) = held(store, 1, request(k), NOW).await;
        let before = changes().await.unwrap();
        let charge = Charge { response, ..charge(&record, k, 10, 10) };
        store.advance_channel(&lease, ChannelFact::Committed(Box::new(charge)), NOW).await.unwrap();
        // The charge, in the log, and the store's sums; the answer.
        assert_eq!(changes().await.unwrap() - before, expect, "{what}");
    }
}

#[tokio::test]
async fn a_charge_is_found_before_and_after_the_log_is_moved() {
    let mut books = Books::<Embedded>::create().await;
    for channel in 1..=3 {
        books.open(channel).await;
    }
    let rows = |books: &Books<Embedded>, table: &str| {
        books.0.tamper().query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, u64>(0)).unwrap()
    };
    let fold = |books: &Books<Embedded>| {
        let store = books.0.store().clone();
        async move { store.writer.run(|step| step.fold_charges()).await.unwrap() }
    };
    fold(&books).await;
    // Of the third channel all charges are moved, of the second none, of the first some.
    books.charge(3, 1, 10, 10).await;
    books.charge(1, 1, 10, 10).await;
    fold(&books).await;
    assert_eq!((rows(&books, "charge_log"), rows(&books, "charges"), rows(&books, "charge_keys")), (0, 2, 4));
    books.charge(1, 2, 10, 10).await;
    books.charge(2, 1, 10, 10).await;
    assert_eq!((rows(&books, "charge_log"), rows(&books, "charges"), rows(&books, "charge_keys")), (2, 2, 4));
    for moved in [false, true] {
        // A process that has nothing in memory reads what is there, and moves nothing.
        let other = EmbeddedStore::open_read_only(&books.0.path()).unwrap();
        let store = books.0.store();
        for (channel, charges) in [(1, 2), (2, 1), (3, 1)] {
            let record = other.channel(&id(channel)).await.unwrap().unwrap();
            assert_eq!((record.charges, record.parts.charged), (charges, sompi(10 * charges)), "{channel} {moved}");
            assert_eq!(record, *books.record(channel).await);
            let listed = other.charges(&id(channel), 0, 9).await.unwrap();
            assert_eq!(listed.iter().map(|charge| charge.number).collect::<Vec<_>>(), (1..=charges).collect::<Vec<_>>());
            for (k, charge) in (1..).zip(listed) {
                let found = other.charge(&id(channel), &charge.terms.identifier).await.unwrap().unwrap();
                assert_eq!(found.record, charge);
                assert!(matches!(store.lease(&ask(channel, request(k)), NOW).await.unwrap(), Leased::Replay(_)), "{channel} {k} {moved}");
                let Purpose::Request { identifier: _, nonce, identity } = request(k) else { panic!("a request") };
                let fresh = crate::protocol::ids::PaymentIdentifier::parse("an-identifier-of-nobody").unwrap();
                let again = Purpose::Request { identifier: fresh, nonce, identity };
                assert!(matches!(store.lease(&ask(channel, again), NOW).await.unwrap(), Leased::NonceReused), "{channel} {k} {moved}");
            }
        }
        drop(other);
        fold(&books).await;
    }
    assert_eq!((rows(&books, "charge_log"), rows(&books, "charges"), rows(&books, "charge_keys")), (0, 4, 8));
    books.audit().await;
    // The next start moves what the last process left, also after a crash.
    books.charge(2, 2, 10, 10).await;
    assert_eq!(rows(&books, "charge_log"), 1);
    books = books.restart().await;
    books.charge(2, 3, 10, 10).await;
    assert_eq!((rows(&books, "charge_log"), rows(&books, "charges")), (1, 5));
    books.audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_counts_although_its_caller_left() {
    let books = Books::<Embedded>::create().await;
    books.open(1).await;
    let store = books.0.store();
    let (lease, record) = held(store, 1, request(1), NOW).await;
    let (release, stalled) = stall(store);
    let mut leaving = Box::pin(store.advance_channel(&lease, committed(&record, 1, 10, 10), NOW));
    assert!((&mut leaving).now_or_never().is_none());
    drop(leaving);
    drop(release);
    stalled.await.unwrap().unwrap();
    assert!(matches!(store.lease(&ask(1, request(1)), NOW).await.unwrap(), Leased::Replay(_)));
    assert_eq!(books.record(1).await.parts.charged, sompi(10));
    books.charge(1, 2, 10, 10).await;
}

#[tokio::test]
async fn idle_channels_are_given_up_and_found_again() {
    let books = with_limits(Limits { channels: 4, prints: 1_000, channel_prints: 100 }).await;
    let store = books.0.store();
    books.open(1).await;
    let (kept, record) = held(store, 1, request(1), NOW).await;
    for n in 2..=20 {
        books.open(n).await;
        books.charge(n, 1, 100, 50).await;
        assert!(store.channels.size().0 <= 5, "{:?}", store.channels.size());
    }
    // The lease that lasts was never given up, and one that is over no longer keeps its channel.
    assert!(matches!(store.lease(&ask(1, request(2)), NOW).await.unwrap(), Leased::Busy { .. }));
    books.done(&kept, committed(&record, 1, 10, 10), NOW).await;
    for n in 2..=20 {
        assert!(matches!(books.try_lease(&ask(n, request(1)), NOW).await, Leased::Replay(_)));
        books.charge(n, 2, 100, 50).await;
    }
    let (over, record) = held(store, 1, request(3), NOW).await;
    let later = NOW.plus_millis(HOLD_MILLIS);
    for n in 2..=20 {
        let (lease, _) = held(store, n, request(3), later).await;
        store.advance_channel(&lease, ChannelFact::Released, later).await.unwrap();
    }
    assert!(matches!(store.advance_channel(&over, committed(&record, 3, 10, 10), later).await.unwrap(), ChannelStep::Stale));
    books.audit().await;
    // Ids of no channel leave nothing behind.
    let before = store.channels.size();
    for n in 100..200 {
        assert!(store.channel(&id(n)).await.unwrap().is_none());
        assert!(matches!(store.lease(&ask(n, request(1)), NOW).await.unwrap(), Leased::Unknown));
        let stolen = crate::store::channels::Opening { outpoint: outpoint(1), ..opening(n) };
        assert!(matches!(store.open_channel(&stolen, NOW).await.unwrap(), Opened::OutpointInUse));
    }
    assert!(store.channels.size().0 <= before.0);
}

#[tokio::test]
async fn fingerprints_are_bounded_and_counted() {
    let books = with_limits(Limits { channels: 100, prints: 40, channel_prints: 10 }).await;
    let store = books.0.store();
    for n in 1..=4 {
        books.open(n).await;
        for k in 1..=7 {
            books.charge(n, k, 20, 10).await;
            assert!(store.channels.size().1 <= 40, "{:?}", store.channels.size());
        }
        // More than is kept: looked up on the disk, with the same answers.
        for k in 1..=7 {
            assert!(matches!(books.try_lease(&ask(n, request(k)), NOW).await, Leased::Replay(_)));
            let other = Purpose::Request { identifier: identifier(50).unwrap(), nonce: nonce(k), identity: identity(50) };
            assert!(matches!(books.try_lease(&ask(n, other), NOW).await, Leased::NonceReused));
        }
    }
    let books = books.restart().await;
    for k in [1, 7] {
        assert!(matches!(books.try_lease(&ask(1, request(k)), NOW).await, Leased::Replay(_)));
    }
    let (lease, _) = books.lease(1, request(8), NOW).await;
    books.done(&lease, ChannelFact::Released, NOW).await;
    assert_eq!(books.0.store().channels.size().1, 14, "seven identifiers and seven offers of one channel");
}

#[tokio::test]
async fn a_second_process_makes_leases_worthless_and_charges_nothing_twice() {
    let books = Books::<Embedded>::create().await;
    books.open(1).await;
    books.charge(1, 1, 100, 50).await;
    let store = books.0.store();
    let second = open(&books.0.path());
    let (first_lease, first) = held(store, 1, request(2), NOW).await;
    let (second_lease, record) = held(&second, 1, request(2), NOW).await;
    assert_eq!(first, record, "leases are of one process");
    assert!(matches!(second.advance_channel(&second_lease, committed(&record, 2, 100, 70), NOW).await.unwrap(), ChannelStep::Done(_)));
    let step = store.advance_channel(&first_lease, committed(&first, 2, 100, 70), NOW).await.unwrap();
    assert!(matches!(step, ChannelStep::Stale), "{step:?}");
    let row = store.charge(&id(1), &identifier(2).unwrap()).await.unwrap().unwrap();
    assert_eq!((row.record.charged_after, store.channel(&id(1)).await.unwrap().unwrap().parts.charged), (sompi(120), sompi(120)));
    assert!(matches!(store.lease(&ask(1, request(2)), NOW).await.unwrap(), Leased::Replay(_)));
    books.audit().await;
    // A sighting is judged by what is there.
    let sighting = ChannelSighting::Funded { daa_score: 9 };
    assert_eq!(second.observe_channel(&id(1), sighting.clone(), NOW).await.unwrap(), Observed::Done);
    assert_eq!(store.observe_channel(&id(1), ChannelSighting::DepositFinal, NOW).await.unwrap(), Observed::Done);
    let record = books.record(1).await;
    assert_eq!((record.deposit.funded_daa, &record.deposit.transaction), (Some(9), &None));
    assert_eq!(second.observe_channel(&id(1), ChannelSighting::Unfunded, NOW).await.unwrap(), Observed::Done);
    // Also one that would say nothing new here.
    assert_eq!(store.observe_channel(&id(1), ChannelSighting::Funded { daa_score: 9 }, NOW).await.unwrap(), Observed::Done);
    // And so is a deposit that never was.
    books.open(2).await;
    assert_eq!(second.observe_channel(&id(2), sighting, NOW).await.unwrap(), Observed::Done);
    assert_eq!(store.observe_channel(&id(2), ChannelSighting::NeverFunded, NOW).await.unwrap(), Observed::Done);
    assert!(store.channel(&id(2)).await.unwrap().is_none());
    assert_eq!(second.observe_channel(&id(2), ChannelSighting::Unfunded, NOW).await.unwrap(), Observed::NotFound);
}

#[tokio::test]
async fn a_store_knows_whether_anybody_else_has_written() {
    let books = Books::<Embedded>::create().await;
    books.open(1).await;
    let alone = async |store: &EmbeddedStore| store.writer.run(|step| Ok(step.alone)).await.unwrap();
    // What it writes itself changes nothing, nor does the way of that to its tables and into the database.
    for k in 1..=150 {
        books.charge(1, k, 10, 10).await;
    }
    assert!(alone(books.0.store()).await);
    // So that there is nothing which the next process begins with.
    books.0.store().writer.run(|step| step.fold_charges()).await.unwrap();
    let reader = EmbeddedStore::open_read_only(&books.0.path()).unwrap();
    assert_eq!(reader.channel(&id(1)).await.unwrap().unwrap().charges, 150);
    let second = open(&books.0.path());
    assert!(alone(books.0.store()).await && alone(&second).await, "nobody has written yet");
    second.add_server_key(crate::protocol::ids::XOnlyKey([9; 32])).await.unwrap();
    assert!(!alone(books.0.store()).await, "what it has in memory may be from before that");
    assert!(alone(&second).await);
    drop(second);
    books.charge(1, 151, 10, 10).await;
    assert!(!alone(books.0.store()).await, "and still may be");
    books.audit().await;
}

#[tokio::test]
async fn a_second_process_leaves_a_running_stream_alone_and_posts_that_of_a_dead_one() {
    let books = Books::<Embedded>::create().await;
    books.open(1).await;
    let store = books.0.store();
    let (lease, record) = held(store, 1, request(1), NOW).await;
    books.done(&lease, reserved(&stream(&record, 1, 300)), NOW).await;
    let second = open(&books.0.path());
    let upkeep = LeaseAsk { holder: crate::store::HolderId([8; 16]), ..ask(1, Purpose::Upkeep) };
    for renewal in 1..=5 {
        // It has read the record before the renewal, and does not trust it.
        let now = NOW.plus_millis(renewal * (HOLD_MILLIS - 1));
        assert!(matches!(second.lease(&upkeep, now).await.unwrap(), Leased::Busy { .. }), "{renewal}");
        books.done(&lease, ChannelFact::Renewed { hold_millis: HOLD_MILLIS }, now).await;
        assert!(matches!(second.lease(&upkeep, now.plus_millis(1)).await.unwrap(), Leased::Busy { .. }), "{renewal}");
    }
    // No renewal came: of the two that think they have it, only one charges.
    let late = NOW.plus_millis(6 * HOLD_MILLIS);
    let Leased::Held(taken, stale) = second.lease(&upkeep, late).await.unwrap() else { panic!("its holder is dead") };
    let open = stale.stream.clone().unwrap();
    assert!(matches!(
        second.advance_channel(&taken, ChannelFact::Committed(Box::new(posted(&open, 150))), late).await.unwrap(),
        ChannelStep::Stale
    ));
    let Leased::Held(taken, _) = second.lease(&upkeep, late).await.unwrap() else { panic!("its holder is dead") };
    let post = ChannelFact::Committed(Box::new(posted(&open, 150)));
    assert!(matches!(second.advance_channel(&taken, post.clone(), late).await.unwrap(), ChannelStep::Done(_)));
    assert!(matches!(store.advance_channel(&lease, post, late).await.unwrap(), ChannelStep::Stale));
    let record = books.record(1).await;
    assert_eq!((record.charges, record.parts.charged, &record.stream), (1, sompi(150), &None));
    books.audit().await;
}

#[tokio::test]
async fn a_file_of_the_version_before_is_upgraded_with_all_that_is_in_it() {
    let books = Books::<Embedded>::create().await;
    books.open(1).await;
    books.charge(1, 1, 500, 400).await;
    let (lease, record) = held(books.0.store(), 1, request(2), NOW).await;
    let before = books.done(&lease, reserved(&stream(&record, 2, 300)), NOW).await;
    books.0.store().claim(&claim(1), NOW).await.unwrap();
    let Books(Embedded { store, directory }) = books;
    drop(Arc::into_inner(store).unwrap());
    // As version 1 left it.
    let path = directory.path().join("kas402.db");
    let version = |conn: &Connection| conn.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0)).unwrap();
    let conn = Connection::open(&path).unwrap();
    conn.execute_batch("DROP TABLE stream_leases; DROP TABLE charge_log; ALTER TABLE store DROP COLUMN moved; PRAGMA user_version = 1")
        .unwrap();
    drop(conn);
    let reader = EmbeddedStore::open_read_only(&path).unwrap();
    assert_eq!(reader.channel(&id(1)).await.unwrap().as_ref(), Some(&*before), "readers need no upgrade");
    drop(reader);
    assert_eq!(version(&Connection::open(&path).unwrap()), 1, "and make none");
    let books = Books(Embedded { store: Arc::new(open(&path)), directory });
    assert_eq!(version(&books.0.tamper()), 4);
    books.audit().await;
    assert_eq!(books.0.store().totals().await.unwrap().pending, 1);
    // Nobody said who runs the stream: it is posted at once.
    let (lease, record) = held(books.0.store(), 1, Purpose::Upkeep, NOW).await;
    assert_eq!(record, before);
    books.done(&lease, ChannelFact::Committed(Box::new(posted(record.stream.as_ref().unwrap(), 9))), NOW).await;
    let (lease, record) = held(books.0.store(), 1, request(3), NOW).await;
    books.done(&lease, reserved(&stream(&record, 3, 300)), NOW).await;
    let other = LeaseAsk { holder: crate::store::HolderId([8; 16]), ..ask(1, Purpose::Upkeep) };
    assert!(matches!(open(&books.0.path()).lease(&other, NOW).await.unwrap(), Leased::Busy { .. }));
}

#[tokio::test]
async fn who_is_alone_with_the_file_knows_that_every_stream_is_of_the_dead() {
    let books = Books::<Embedded>::create().await;
    books.open(1).await;
    let (lease, record) = held(books.0.store(), 1, request(1), NOW).await;
    books.done(&lease, reserved(&stream(&record, 1, 300)), NOW).await;
    let other = LeaseAsk { holder: crate::store::HolderId([8; 16]), ..ask(1, Purpose::Upkeep) };
    for others in [true, false] {
        let beside = others.then(|| open(&books.0.path()));
        // The process that ran the stream lives: nobody is alone.
        let next = open(&books.0.path());
        assert!(matches!(next.lease(&other, NOW).await.unwrap(), Leased::Busy { .. }), "{others}");
        drop((beside, next));
    }
    let books = books.restart().await;
    assert!(matches!(books.try_lease(&other, NOW).await, Leased::Held(..)), "its former life is over");
}

#[tokio::test]
async fn a_reader_sees_every_answered_step_of_a_channel() {
    let books = Books::<Embedded>::create().await;
    let reader = EmbeddedStore::open_read_only(&books.0.path()).unwrap();
    assert!(reader.channel(&id(1)).await.unwrap().is_none());
    books.open(1).await;
    let record = books.charge(1, 1, 100, 50).await;
    assert_eq!(reader.channel(&id(1)).await.unwrap().as_ref(), Some(&*record));
    let query = ChannelQuery { selection: ChannelSelection::Open, after: 0, limit: 9 };
    assert_eq!(reader.channels(&query).await.unwrap(), std::slice::from_ref(&record));
    assert_eq!(reader.charges(&id(1), 0, 9).await.unwrap().len(), 1);
    assert_eq!(reader.charge(&id(1), &identifier(1).unwrap()).await.unwrap().unwrap().record.charge, sompi(50));
    assert_eq!(reader.channel_totals().await.unwrap(), books.store().channel_totals().await.unwrap());
    books.build(1, 50, 0).await;
    books.sees(1, accepted(50)).await;
    assert_eq!(reader.settled_moves(&id(1), 0, 9).await.unwrap().len(), 1);
}

/// A hundred channels, 64 tasks, one charge after the other: `cargo test --release --workspace --lib charges_per_second -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn charges_per_second() {
    const TASKS: u64 = 64;
    const EACH: u64 = 2_000;
    let subject = Embedded::create().await;
    let store = subject.store();
    for n in 1..=TASKS {
        let opening = Opening { funding: sompi(1_000_000_000), ..opening(n) };
        assert!(matches!(store.open_channel(&opening, NOW).await.unwrap(), Opened::New(_)));
    }
    let answer = StoredResponse { body: vec![b'x'; 500].into(), ..response("") };
    let before = store.stats();
    let began = std::time::Instant::now();
    let tasks = (1..=TASKS).map(|n| {
        let (store, answer) = (store.clone(), answer.clone());
        tokio::spawn(async move {
            for k in 0..EACH {
                let (lease, record) = held(&store, n, request(k), NOW).await;
                let charge = Charge { response: Some(answer.clone()), ..charge(&record, k, 1_000, 900) };
                let step = store.advance_channel(&lease, ChannelFact::Committed(Box::new(charge)), NOW).await.unwrap();
                assert!(matches!(step, ChannelStep::Done(_)));
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let (took, after) = (began.elapsed(), store.stats());
    let (verbs, commits) = (after.verbs - before.verbs, after.commits - before.commits);
    println!("{verbs} charges in {commits} transactions, {took:?}: {:.0} charges/s", verbs as f64 / took.as_secs_f64());
    let path = subject.path();
    println!("{} bytes of database for each charge", std::fs::metadata(path).unwrap().len() / (TASKS * EACH));
}
