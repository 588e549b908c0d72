//! The suite on a file, and what only a file can suffer.

mod crash;
mod faults;
mod files;
mod group;

use super::*;
use crate::store::conformance::{Damage, Subject, conformance};
use rusqlite::Connection;
use std::{path::PathBuf, sync::Arc};

pub(super) struct Embedded {
    store: Arc<EmbeddedStore>,
    directory: tempfile::TempDir,
}

impl Embedded {
    fn path(&self) -> PathBuf {
        self.directory.path().join("kas402.db")
    }

    /// A connection of nobody's: what another process could do to the file.
    fn tamper(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }
}

fn open(path: &Path) -> EmbeddedStore {
    EmbeddedStore::open(path, StoreId([1; 16])).unwrap()
}

impl Subject for Embedded {
    type Store = EmbeddedStore;
    const RANDOM: (u64, usize) = (12, 200);

    async fn create() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(open(&directory.path().join("kas402.db")));
        Self { store, directory }
    }

    fn store(&self) -> &Arc<EmbeddedStore> {
        &self.store
    }

    async fn restart(self) -> Self {
        let Self { store, directory } = self;
        drop(Arc::into_inner(store).expect("nobody else uses the store"));
        let store = Arc::new(open(&directory.path().join("kas402.db")));
        Self { store, directory }
    }

    async fn damage(&self, key: &PaymentKey, damage: Damage) -> bool {
        let conn = self.tamper();
        let find = "SELECT p.sequence, p.record FROM progress p JOIN claims c USING (sequence) WHERE c.key = ?1";
        let row = conn.query_row(find, [codec::key_bytes(key)], |row| Ok((row.get(0)?, row.get(1)?)));
        let (sequence, mut record): (u64, Vec<u8>) = row.unwrap();
        match damage {
            Damage::NewerVersion => record[0] += 1,
            Damage::FlippedBit => record[3] ^= 1,
        }
        conn.execute("UPDATE progress SET record = ?2 WHERE sequence = ?1", (sequence, record)).unwrap() == 1
    }
}

conformance!(Embedded);
