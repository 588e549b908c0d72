//! The suite on a file, and what only a file can suffer.

mod channels;
mod crash;
mod faults;
mod files;
mod group;
mod moving;
mod torn;

use super::*;
use crate::{
    protocol::ids::ChannelId,
    store::conformance::{ChannelPart, Damage, Subject, channel_conformance, conformance},
};
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

    fn beside(&self) -> Option<Box<dyn std::any::Any + Send>> {
        Some(Box::new(open(&self.path())))
    }

    async fn damage(&self, key: &PaymentKey, damage: Damage) -> bool {
        let conn = self.tamper();
        let find = "SELECT sequence FROM claims WHERE key = ?1";
        let sequence: u64 = conn.query_row(find, [codec::key_bytes(key)], |row| row.get(0)).unwrap();
        spoil(&conn, "progress", "record", &format!("sequence = {sequence}"), damage)
    }

    async fn damage_channel(&self, id: &ChannelId, part: ChannelPart, damage: Damage) -> bool {
        let conn = self.tamper();
        let sequence: u64 = conn.query_row("SELECT sequence FROM channels WHERE id = ?1", [id.0], |row| row.get(0)).unwrap();
        let response = format!(
            "sequence = (SELECT max(response) FROM (SELECT channel, response FROM charges UNION ALL SELECT channel, response FROM charge_log)
             WHERE channel = {sequence})"
        );
        let (of, last) = (format!("sequence = {sequence}"), format!("channel = {sequence} AND number = 1"));
        let latest = format!("sequence = (SELECT max(sequence) FROM charge_log WHERE channel = {sequence})");
        let logged = |row: &str| {
            let sql = format!("SELECT count(*) FROM charge_log WHERE {row}");
            conn.query_row(&sql, [], |row| row.get::<_, u64>(0)).unwrap() > 0
        };
        match part {
            ChannelPart::Accounts if logged(&latest) => spoil(&conn, "charge_log", "accounts", &latest, damage),
            ChannelPart::Charge if logged(&last) => spoil(&conn, "charge_log", "charge", &last, damage),
            ChannelPart::Terms => spoil(&conn, "channels", "terms", &of, damage),
            ChannelPart::Accounts => spoil(&conn, "channel_accounts", "record", &of, damage),
            ChannelPart::Chain => spoil(&conn, "channel_chain", "record", &of, damage),
            ChannelPart::Charge => spoil(&conn, "charges", "record", &last, damage),
            ChannelPart::Response => spoil(&conn, "charge_responses", "record", &response, damage),
            ChannelPart::Move => spoil(&conn, "settled_moves", "record", &last, damage),
        }
    }
}

fn spoil(conn: &Connection, table: &str, column: &str, row: &str, damage: Damage) -> bool {
    let mut record: Vec<u8> = conn.query_row(&format!("SELECT {column} FROM {table} WHERE {row}"), [], |row| row.get(0)).unwrap();
    match damage {
        Damage::NewerVersion => record[0] += 1,
        Damage::FlippedBit => record[3] ^= 1,
    }
    conn.execute(&format!("UPDATE {table} SET {column} = ?1 WHERE {row}"), [record]).unwrap() == 1
}

conformance!(Embedded);
channel_conformance!(Embedded);
