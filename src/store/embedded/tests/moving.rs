//! A store moves, whole, and is never open twice.

use super::*;
use crate::store::{
    Reading,
    channels::*,
    conformance::*,
    moving::{Item, Mark, MoveError, Moving, Named, Part, migrate, undo},
    sample_books::{self, items},
};

struct Pair {
    directory: tempfile::TempDir,
}

impl Pair {
    async fn filled() -> Self {
        let pair = Self { directory: tempfile::tempdir().unwrap() };
        let store = open(&pair.path("from"));
        sample_books::fill(&store).await;
        pair
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn arriving(&self) {
        EmbeddedStore::create_arriving(&self.path("to"), StoreId([1; 16]), "from").unwrap();
    }

    fn moving(&self, name: &str) -> EmbeddedStore {
        EmbeddedStore::open_moving(&self.path(name)).unwrap()
    }

    async fn migrate(&self) -> Result<(), MoveError> {
        let (from, to) = (self.moving("from"), self.moving("to"));
        migrate(Named { name: "from", store: &from }, Named { name: "to", store: &to }, &|_, _| ()).await.map(drop)
    }

    async fn undo(&self) -> Result<(), MoveError> {
        let (from, to) = (self.moving("from"), self.moving("to"));
        undo(Named { name: "from", store: &from }, Some(Named { name: "to", store: &to })).await
    }

    fn refused(&self, name: &str) -> String {
        match EmbeddedStore::open(&self.path(name), StoreId([9; 16])) {
            Err(error @ StoreError::Moved(_)) => error.to_string(),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn everything_moves_and_the_target_is_the_store_from_then_on() {
    let pair = Pair::filled().await;
    let before = pair.moving("from");
    let counts: Vec<usize> = {
        let mut counts = Vec::new();
        for part in Part::ALL {
            let whole = items(&before, part, 1_000).await;
            for limit in [1, 2, 3, 7] {
                assert!(items(&before, part, limit).await == whole, "{part:?} in pages of {limit}");
            }
            counts.push(whole.len());
        }
        counts
    };
    assert_eq!(counts, [8, 4, 12, 2, 8, 1]);
    drop(before);
    pair.arriving();
    pair.migrate().await.unwrap();

    let (from, to) = (pair.moving("from"), open(&pair.path("to")));
    assert_eq!((to.id(), to.mark().await.unwrap()), (StoreId([1; 16]), None));
    let whole = EmbeddedStore::open_read_only(&pair.path("to")).unwrap().check().await.unwrap();
    assert_eq!(whole, Whole { payments: 8, responses: 2 + 5, channels: 4, charges: 12, moves: 2 });
    for part in Part::ALL {
        assert!(items(&from, part, 1_000).await == items(&to, part, 1_000).await, "{part:?}");
    }
    assert_eq!(to.read_totals().await.unwrap(), from.read_totals().await.unwrap());
    assert_eq!(to.read_channel_totals().await.unwrap(), from.read_channel_totals().await.unwrap());
    assert_eq!(to.checkpoint().await.unwrap(), from.checkpoint().await.unwrap());
    sample_books::go_on(&to).await;
    let again = EmbeddedStore::open_moving(&pair.path("to")).unwrap();
    drop(to);
    Checked(Embedded { store: Arc::new(again), directory: tempfile::tempdir().unwrap() }).conserved().await;
}

#[tokio::test]
async fn the_source_sells_nothing_from_the_first_moment_on() {
    let pair = Pair::filled().await;
    // A gateway that still runs, with a channel in its memory and a payment it holds.
    let running = open(&pair.path("from"));
    let held = seen(running.claim(&claim(20), NOW).await.unwrap()).1.unwrap();
    let Leased::Held(lease, record) = running.lease(&ask(1, request(30)), NOW).await.unwrap() else { panic!() };
    pair.arriving();
    let from = pair.moving("from");
    from.set_mark(Some(Mark::Left { to: "to".to_owned() })).await.unwrap();
    let moved = |error: StoreError| assert!(error.to_string().starts_with("store_moved: "), "{error}");
    moved(running.claim(&claim(21), NOW).await.unwrap_err());
    moved(running.advance(&held, settled(), NOW).await.unwrap_err());
    moved(running.advance_channel(&lease, committed(&record, 30, 20, 10), NOW).await.unwrap_err());
    moved(running.open_channel(&opening(40), NOW).await.unwrap_err());
    drop(from);
    pair.migrate().await.unwrap();
    moved(running.observe(&key(1), ChainFact::TakenBack, NOW).await.unwrap_err());
    assert!(pair.refused("from").contains("moved to to"));
    assert!(matches!(pair.migrate().await, Err(MoveError::NotEmpty(_))), "once");
    // What the running one had held is as after its death.
    let to = open(&pair.path("to"));
    assert_eq!(seen(to.claim(&claim(20), NOW).await.unwrap()).0.name(), "Resumed");
    assert_eq!(to.channel(&id(1)).await.unwrap().unwrap(), record);
}

#[tokio::test]
async fn a_move_that_was_cut_short_leaves_no_open_store_and_is_finished_or_undone() {
    for finish in [true, false] {
        let pair = Pair::filled().await;
        pair.arriving();
        {
            // As far as the middle of the charges.
            let (from, to) = (pair.moving("from"), pair.moving("to"));
            from.set_mark(Some(Mark::Left { to: "to".to_owned() })).await.unwrap();
            for (part, count) in [(Part::Payments, 8), (Part::Channels, 4), (Part::Charges, 5)] {
                let some: Vec<Item> = items(&from, part, 100).await.into_iter().take(count).collect();
                to.arrive(some).await.unwrap();
            }
        }
        assert!(pair.refused("from").contains("moved to"));
        assert!(pair.refused("to").contains("not complete"));
        if finish {
            pair.migrate().await.unwrap();
            open(&pair.path("to"));
            assert!(matches!(pair.undo().await, Err(MoveError::Complete(_))));
            pair.refused("from");
        } else {
            pair.undo().await.unwrap();
            open(&pair.path("from"));
            pair.refused("to");
        }
    }
}

#[tokio::test]
async fn nothing_is_moved_into_a_store_that_has_something_or_is_another() {
    let pair = Pair::filled().await;
    let (_, other) = (open(&pair.path("to")), open(&pair.path("third")));
    other.add_server_key(crate::protocol::ids::XOnlyKey([8; 32])).await.unwrap();
    drop(other);
    let from = pair.moving("from");
    let third = pair.moving("third");
    let refused = migrate(Named { name: "from", store: &from }, Named { name: "third", store: &third }, &|_, _| ()).await;
    assert!(matches!(refused, Err(MoveError::NotEmpty(_))), "{refused:?}");
    drop(EmbeddedStore::open(&pair.path("fourth"), StoreId([4; 16])).unwrap());
    let fourth = pair.moving("fourth");
    let refused = migrate(Named { name: "from", store: &from }, Named { name: "fourth", store: &fourth }, &|_, _| ()).await;
    assert!(matches!(refused, Err(MoveError::OtherStore(..))), "{refused:?}");
    assert_eq!(from.mark().await.unwrap(), None, "it sells on");
    assert!(EmbeddedStore::create_arriving(&pair.path("to"), StoreId([1; 16]), "from").is_err(), "a file is there");
    assert!(EmbeddedStore::open_moving(&pair.path("none")).is_err());
    assert!(!pair.path("none").exists());
}

#[tokio::test]
async fn a_record_that_differs_after_the_move_keeps_both_stores_closed() {
    for spoil in [
        "INSERT INTO server_keys (key) VALUES (zeroblob(32))",
        "CREATE TRIGGER lose AFTER INSERT ON responses BEGIN DELETE FROM responses WHERE sequence = NEW.sequence; END",
        "CREATE TRIGGER lose AFTER INSERT ON ledger BEGIN UPDATE ledger SET at_millis = 0 WHERE kind = 'reversed'; END",
        "CREATE TRIGGER lose AFTER INSERT ON settled_moves BEGIN DELETE FROM settled_moves WHERE number = 1; END",
    ] {
        let pair = Pair::filled().await;
        pair.arriving();
        Connection::open(pair.path("to")).unwrap().execute_batch(spoil).unwrap();
        let differs = pair.migrate().await;
        assert!(matches!(differs, Err(MoveError::Differs { .. })), "{spoil}: {differs:?}");
        pair.refused("from");
        pair.refused("to");
    }
}

#[tokio::test]
async fn a_store_of_the_first_schema_is_read_as_it_is_and_upgraded_by_its_writer() {
    let pair = Pair::filled().await;
    let old = "ALTER TABLE store DROP COLUMN moved; DROP TABLE stream_leases; DROP TABLE charge_log; PRAGMA user_version = 1";
    Connection::open(pair.path("from")).unwrap().execute_batch(old).unwrap();
    let reader = EmbeddedStore::open_read_only(&pair.path("from")).unwrap();
    let totals = reader.totals().await.unwrap();
    assert_eq!(totals.delivered, 3);
    let store = open(&pair.path("from"));
    assert_eq!(seen(store.claim(&claim(60), NOW).await.unwrap()).0, Seen::Fresh);
    assert_eq!(store.totals().await.unwrap(), Totals { pending: totals.pending + 1, ..totals });
}
