//! A Redis store moves, whole, and is never open twice.

use super::*;
use crate::store::{
    channels::*,
    conformance::*,
    embedded::EmbeddedStore,
    moving::{Item, Mark, MoveError, Moving, Named, Part, migrate, undo},
    sample_books::{self, items},
};
use std::path::PathBuf;

/// A file, filled or not, and a server or a prefix of the cluster.
struct Ends {
    directory: tempfile::TempDir,
    options: Options,
    _servers: Box<dyn std::any::Any + Send>,
}

impl Ends {
    fn single() -> Self {
        let server = Server::start(&SAFE);
        Self { directory: tempfile::tempdir().unwrap(), options: options(&server.url(), 1), _servers: Box::new(server) }
    }

    fn clustered() -> Self {
        let (cluster, prefix) = Cluster::shared();
        let options = Options { prefix, ..options(&cluster.url(), 1) };
        Self { directory: tempfile::tempdir().unwrap(), options, _servers: Box::new(cluster) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn file(&self, name: &str) -> EmbeddedStore {
        EmbeddedStore::open_moving(&self.path(name)).unwrap()
    }

    async fn filled_file(self) -> Self {
        let store = EmbeddedStore::open(&self.path("file"), StoreId([7; 16])).unwrap();
        sample_books::fill(&store).await;
        drop(store);
        assert!(RedisStore::create_arriving(&self.options, StoreId([7; 16]), "file").await.unwrap());
        self
    }

    async fn gateway(&self) -> Result<RedisStore, OpenError> {
        RedisStore::open(&self.options).await
    }

    /// Another process each time.
    async fn moving(&self, process: u8) -> RedisStore {
        RedisStore::open_moving(&Options { process: [process; 16], ..self.options.clone() }).await.unwrap().unwrap()
    }

    async fn to_redis(&self, process: u8) -> Result<(), MoveError> {
        let (from, to) = (self.file("file"), self.moving(process).await);
        migrate(Named { name: "file", store: &from }, Named { name: "redis", store: &to }, &|_, _| ()).await.map(drop)
    }

    async fn to_file(&self, name: &str) -> Result<(), MoveError> {
        let from = self.moving(90).await;
        if !self.path(name).exists() {
            EmbeddedStore::create_arriving(&self.path(name), from.id(), "redis").unwrap();
        }
        let to = self.file(name);
        migrate(Named { name: "redis", store: &from }, Named { name, store: &to }, &|_, _| ()).await.map(drop)
    }

    async fn refused(&self) -> String {
        match self.gateway().await {
            Err(OpenError::Store(error @ StoreError::Moved(_))) => error.to_string(),
            other => panic!("{other:?}"),
        }
    }
}

fn sorted(mut items: Vec<Item>) -> Vec<String> {
    items.sort_by_key(|item| format!("{item:?}"));
    items.iter().map(|item| format!("{item:?}")).collect()
}

async fn same(one: &dyn Moving, other: &dyn Moving) {
    for part in Part::ALL {
        assert_eq!(sorted(items(one, part, 1_000).await), sorted(items(other, part, 1_000).await), "{part:?}");
    }
    assert_eq!(one.totals().await.unwrap(), other.totals().await.unwrap());
    assert_eq!(one.channel_totals().await.unwrap(), other.channel_totals().await.unwrap());
    assert_eq!(one.checkpoint().await.unwrap(), other.checkpoint().await.unwrap());
    assert_eq!(one.id(), other.id());
}

async fn round_trip(ends: Ends) {
    let ends = ends.filled_file().await;
    assert!(ends.refused().await.contains("not complete"));
    ends.to_redis(2).await.unwrap();
    let from = ends.file("file");
    {
        let moved = ends.moving(3).await;
        same(&from, &moved).await;
        for part in Part::ALL {
            let whole = items(&moved, part, 1_000).await;
            for limit in [1, 2, 3, 7] {
                assert!(items(&moved, part, limit).await == whole, "{part:?} in pages of {limit}");
            }
        }
    }
    // Back again, as it came.
    ends.to_file("back").await.unwrap();
    assert!(ends.refused().await.contains("moved to back"));
    same(&from, &ends.file("back")).await;
    let whole = EmbeddedStore::open_read_only(&ends.path("back")).unwrap().check().await.unwrap();
    assert_eq!((whole.payments, whole.channels, whole.charges, whole.moves), (8, 4, 12, 2));
}

#[tokio::test]
async fn everything_moves_to_a_server_and_back() {
    round_trip(Ends::single()).await;
}

#[tokio::test]
async fn everything_moves_to_a_cluster_and_back() {
    round_trip(Ends::clustered()).await;
}

/// What never was in a file.
#[tokio::test]
async fn what_a_server_booked_moves_to_a_file() {
    for ends in [Ends::single(), Ends::clustered()] {
        let store = ends.gateway().await.unwrap();
        sample_books::fill(&store).await;
        drop(store);
        ends.to_file("file").await.unwrap();
        let from = ends.moving(4).await;
        let mut counts = Vec::new();
        for part in Part::ALL {
            counts.push(items(&from, part, 5).await.len());
        }
        assert_eq!(counts, [8, 4, 12, 2, 8, 1]);
        same(&from, &ends.file("file")).await;
        let payments = items(&ends.file("file"), Part::Payments, 100).await;
        let reversed = payments.iter().filter(|item| matches!(item, Item::Payment { reversed: Some((_, Some(_))), .. }));
        assert_eq!(reversed.count(), 1, "when and by what it was booked back");
        EmbeddedStore::open_read_only(&ends.path("file")).unwrap().check().await.unwrap();
    }
}

#[tokio::test]
async fn the_target_is_the_store_from_then_on() {
    let server = Server::start(&SAFE);
    let ends = Ends { directory: tempfile::tempdir().unwrap(), options: options(&server.url(), 1), _servers: Box::new(()) };
    let ends = ends.filled_file().await;
    ends.to_redis(2).await.unwrap();
    let to = ends.gateway().await.unwrap();
    sample_books::go_on(&to).await;
    assert_eq!(to.payment(&key(60)).await.unwrap().unwrap().record.sequence, 10);
    // The first gateway takes over the checkpoint that came along.
    let later = Checkpoint { blue_score: 1_000, ..to.checkpoint().await.unwrap().unwrap() };
    to.set_checkpoint(later).await.unwrap();
    assert_eq!(to.checkpoint().await.unwrap(), Some(later));
    Checked(Single { store: Arc::new(to), server, opened: 1 }).conserved().await;
}

#[tokio::test]
async fn the_source_sells_nothing_from_the_first_moment_on() {
    for ends in [Ends::single(), Ends::clustered()] {
        // A gateway that still runs, with a channel in its memory and a payment it holds.
        let running = ends.gateway().await.unwrap();
        sample_books::fill(&running).await;
        let held = seen(running.claim(&claim(20), NOW).await.unwrap()).1.unwrap();
        let Leased::Held(lease, record) = running.lease(&ask(1, request(30)), NOW).await.unwrap() else { panic!() };
        let from = ends.moving(5).await;
        from.set_mark(Some(Mark::Left { to: "to it".to_owned() })).await.unwrap();
        let moved = |error: StoreError| assert!(error.to_string().starts_with("store_moved: this store has moved to to it"), "{error}");
        moved(running.claim(&claim(21), NOW).await.unwrap_err());
        moved(running.advance(&held, settled(), NOW).await.unwrap_err());
        moved(running.observe(&key(1), ChainFact::Accepted(acceptance(70)), NOW).await.unwrap_err());
        moved(running.advance_channel(&lease, committed(&record, 30, 20, 10), NOW).await.unwrap_err());
        moved(running.advance_channel(&lease, ChannelFact::Released, NOW).await.unwrap_err());
        moved(running.lease(&ask(2, request(31)), NOW).await.unwrap_err());
        moved(running.open_channel(&opening(40), NOW).await.unwrap_err());
        moved(running.observe_channel(&id(4), ChannelSighting::Unfunded, NOW).await.unwrap_err());
        moved(running.add_server_key(crate::protocol::ids::XOnlyKey([8; 32])).await.unwrap_err());
        moved(running.set_checkpoint(running.checkpoint().await.unwrap().unwrap()).await.unwrap_err());
        moved(running.prune(UnixMillis(u64::MAX >> 16)).await.unwrap_err());
        ends.refused().await;
        // Who reads only, may.
        assert_eq!(RedisStore::open_reading(&ends.options).await.unwrap().totals().await.unwrap(), from.totals().await.unwrap());
        from.set_mark(None).await.unwrap();
        assert_eq!(running.advance(&held, settled(), NOW).await.unwrap(), Advanced::Done, "it was undone");
    }
}

#[tokio::test]
async fn a_move_that_was_cut_short_leaves_no_open_store_and_is_finished_or_undone() {
    for finish in [true, false] {
        let ends = Ends::single().filled_file().await;
        {
            // As far as the middle of the charges.
            let (from, to) = (ends.file("file"), ends.moving(2).await);
            from.set_mark(Some(Mark::Left { to: "redis".to_owned() })).await.unwrap();
            for (part, count) in [(Part::Payments, 8), (Part::Channels, 4), (Part::Charges, 5)] {
                let some: Vec<Item> = items(&from, part, 100).await.into_iter().take(count).collect();
                to.arrive(some).await.unwrap();
            }
        }
        assert!(ends.refused().await.contains("not complete"));
        assert!(matches!(EmbeddedStore::open(&ends.path("file"), StoreId([9; 16])), Err(StoreError::Moved(_))));
        if finish {
            ends.to_redis(3).await.unwrap();
            same(&ends.file("file"), &ends.moving(4).await).await;
            ends.gateway().await.unwrap();
        }
        let (from, to) = (ends.file("file"), ends.moving(5).await);
        let undone = undo(Named { name: "file", store: &from }, Some(Named { name: "redis", store: &to })).await;
        drop(from);
        match undone {
            Err(MoveError::Complete(_)) if finish => {}
            Ok(()) if !finish => {
                EmbeddedStore::open(&ends.path("file"), StoreId([9; 16])).unwrap();
                ends.refused().await;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn nothing_is_moved_into_a_store_that_has_something_or_is_another() {
    for ends in [Ends::single(), Ends::clustered()] {
        assert!(RedisStore::open_moving(&ends.options).await.unwrap().is_none());
        assert!(RedisStore::open_reading(&ends.options).await.is_err());
        EmbeddedStore::open(&ends.path("file"), StoreId([1; 16])).unwrap();
        let there = ends.gateway().await.unwrap();
        there.add_server_key(crate::protocol::ids::XOnlyKey([8; 32])).await.unwrap();
        assert!(!RedisStore::create_arriving(&ends.options, StoreId([1; 16]), "file").await.unwrap(), "a store is there");
        let refused = ends.to_redis(2).await;
        assert!(matches!(refused, Err(MoveError::NotEmpty(_))), "{refused:?}");
        EmbeddedStore::open(&ends.path("other"), StoreId([2; 16])).unwrap();
        let (from, to) = (ends.file("other"), ends.moving(3).await);
        let refused = migrate(Named { name: "other", store: &from }, Named { name: "redis", store: &to }, &|_, _| ()).await;
        assert!(matches!(refused, Err(MoveError::OtherStore(..))), "{refused:?}");
        assert_eq!(ends.file("file").mark().await.unwrap(), None, "it sells on");
        there.open_channel(&opening(1), NOW).await.unwrap();
    }
}
