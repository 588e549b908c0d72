//! Opening the file: creation, schema version, connection settings, and what SQLite's errors mean.

use super::{
    codec::{self, Head},
    moving,
};
use crate::{protocol::ids::StoreId, store::StoreError};
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, config::DbConfig};
use std::{
    fs::{File, OpenOptions},
    io::ErrorKind,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::Duration,
};

/// The schema this program writes; newer ones are refused, older ones are upgraded by whoever opens the file for writing.
const SCHEMA_VERSION: i64 = 4;
/// What readers read: an upgrade only adds.
const OLDEST: i64 = 1;
/// "k402" in ASCII: marks the file as ours.
const APPLICATION_ID: i64 = 0x6b34_3032;
/// How long another process may hold the write lock before a verb answers unavailable.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// WAL pages after which SQLite itself checkpoints; the writer does it earlier, between two groups.
const WAL_BACKSTOP_PAGES: i64 = 16_384;
/// Memory for pages of the writer's: a full log of charges and, unless it is of thousands of channels, the pages that it is moved to, so that these are
/// not read again for that.
const CACHE_KIB: i64 = 16 * 1024;
/// Only a new file is switched to the write-ahead log, once.
const WAL_SWITCH_TRIES: u32 = 250;
const WAL_SWITCH_PAUSE: Duration = Duration::from_millis(20);
const STATEMENTS: usize = 64;
/// Largest file whose pages are looked at on every start.
const QUICK_CHECK_BYTES: u64 = 64 * 1024 * 1024;

/// `claims` and `identifiers` are written once; `progress` is small so that a step touches few pages, and is
/// indexed only while somebody still has to look at the payment. `code` and `open` repeat what the record says,
/// for listings alone.
const SCHEMA: &str = "
CREATE TABLE store (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    store_id BLOB NOT NULL,
    head BLOB NOT NULL,
    checkpoint BLOB
) STRICT;
CREATE TABLE claims (sequence INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, terms BLOB NOT NULL) STRICT;
CREATE TABLE progress (
    sequence INTEGER PRIMARY KEY,
    active INTEGER NOT NULL,
    code INTEGER NOT NULL,
    open INTEGER NOT NULL,
    record BLOB NOT NULL
) STRICT;
CREATE INDEX progress_active ON progress (sequence) WHERE active = 1;
CREATE TABLE identifiers (
    network INTEGER NOT NULL,
    identifier TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (network, identifier)
) STRICT, WITHOUT ROWID;
CREATE TABLE responses (sequence INTEGER PRIMARY KEY, delivered_at INTEGER NOT NULL, record BLOB NOT NULL) STRICT;
CREATE INDEX responses_age ON responses (delivered_at);
CREATE TABLE ledger (
    sequence INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('charge', 'reversed')),
    amount_sompi INTEGER NOT NULL,
    at_millis INTEGER NOT NULL,
    reversed_by BLOB,
    PRIMARY KEY (sequence, kind)
) STRICT, WITHOUT ROWID;
";

/// A charge touches one small row of `channel_accounts` and appends to the last three tables, by way of [`LOG_SCHEMA`]. `channels` is written once; what the
/// chain changes, with transactions in it, lies in `channel_chain`. `outpoints` is never deleted from. The charges of a channel lie together,
/// their answers in the order of time, so that a group of charges shares pages; a number in `charges.response` is never used twice.
const CHANNEL_SCHEMA: &str = "
CREATE TABLE channels (sequence INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, terms BLOB NOT NULL) STRICT;
CREATE TABLE channel_accounts (sequence INTEGER PRIMARY KEY, revision INTEGER NOT NULL, record BLOB NOT NULL) STRICT;
CREATE TABLE channel_chain (sequence INTEGER PRIMARY KEY, open INTEGER NOT NULL, record BLOB NOT NULL) STRICT;
CREATE INDEX channel_chain_open ON channel_chain (sequence) WHERE open = 1;
CREATE TABLE outpoints (
    network INTEGER NOT NULL,
    outpoint BLOB NOT NULL,
    channel BLOB NOT NULL,
    PRIMARY KEY (network, outpoint)
) STRICT, WITHOUT ROWID;
CREATE TABLE scripts (script BLOB PRIMARY KEY, channel BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE settled_moves (
    channel INTEGER NOT NULL,
    number INTEGER NOT NULL,
    txid BLOB NOT NULL,
    record BLOB NOT NULL,
    PRIMARY KEY (channel, number),
    UNIQUE (channel, txid)
) STRICT, WITHOUT ROWID;
CREATE TABLE server_keys (key BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE charges (
    channel INTEGER NOT NULL,
    number INTEGER NOT NULL,
    response INTEGER,
    record BLOB NOT NULL,
    PRIMARY KEY (channel, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE charge_keys (
    channel INTEGER NOT NULL,
    key BLOB NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (channel, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE charge_responses (sequence INTEGER PRIMARY KEY, at_millis INTEGER NOT NULL, record BLOB NOT NULL) STRICT;
CREATE INDEX charge_responses_age ON charge_responses (at_millis);
";

/// From version 1 to 2: who runs the stream of a channel. A row counts as long as its channel has a stream, and is replaced by the next one's.
const STREAM_SCHEMA: &str = "
CREATE TABLE stream_leases (sequence INTEGER PRIMARY KEY, holder BLOB NOT NULL, until_millis INTEGER NOT NULL) STRICT;
";

/// From version 2 to 3: charges that were not yet moved to their tables. The index keeps the rows of a channel together, in their order.
const LOG_SCHEMA: &str = "
CREATE TABLE charge_log (
    sequence INTEGER PRIMARY KEY,
    channel INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    number INTEGER NOT NULL,
    identifier_key BLOB NOT NULL,
    nonce_key BLOB NOT NULL,
    response INTEGER,
    accounts BLOB NOT NULL,
    charge BLOB NOT NULL
) STRICT;
CREATE INDEX charge_log_channel ON charge_log (channel);
";

/// From version 3 to 4: the mark of a store that left for another place, or is on its way.
const MARK_SCHEMA: &str = "
ALTER TABLE store ADD COLUMN moved BLOB;
";

/// Each with the version it leads to.
const UPGRADES: [(i64, &str); 3] = [(2, STREAM_SCHEMA), (3, LOG_SCHEMA), (4, MARK_SCHEMA)];

/// Opens the file for writing, creating it with mode 0600 when it is not there, and upgrading what an older program wrote.
pub(super) fn open_writer(path: &Path, new_store_id: StoreId) -> Result<(Connection, StoreId), StoreError> {
    create_file(path)?;
    let mut conn = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let id = configure_writer(&mut conn, new_store_id, None).map_err(|error| at(path, error))?;
    moving::refuse_marked(&conn).and_then(|()| quick_check(&conn, path)).map_err(|error| at(path, error))?;
    Ok((conn, id))
}

/// The tree of pages, where reading it takes no time to speak of; `kas402 store check` reads all of any file.
fn quick_check(conn: &Connection, path: &Path) -> Result<(), StoreError> {
    if std::fs::metadata(path).map_or(0, |file| file.len()) > QUICK_CHECK_BYTES {
        return Ok(());
    }
    let told: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(explain)?;
    if told == "ok" { Ok(()) } else { Err(damaged(&told)) }
}

/// Opens an existing store whatever its mark says.
pub(super) fn open_moving(path: &Path) -> Result<(Connection, StoreId), StoreError> {
    let mut conn = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let id = configure_existing(&mut conn).map_err(|error| at(path, error))?;
    Ok((conn, id))
}

/// Makes a store that is marked in the transaction that makes it.
pub(super) fn create_marked(path: &Path, id: StoreId, mark: &[u8]) -> Result<(), StoreError> {
    create_file(path)?;
    let mut conn = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    configure_writer(&mut conn, id, Some(mark)).map(drop).map_err(|error| at(path, error))
}

/// Opens an existing store again after a failure; never creates one and never takes another store's file for it.
pub(super) fn reopen_writer(path: &Path, id: StoreId) -> Result<Connection, StoreError> {
    let conn = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let found = check_version(&conn, SCHEMA_VERSION)
        .and_then(|()| tune_writer(&conn))
        .and_then(|()| store_id(&conn))
        .map_err(|error| at(path, error))?;
    if found == id { Ok(conn) } else { Err(StoreError::Unavailable(format!("{}: another store's file lies there now", path.display()))) }
}

/// Opens an existing store for reading only.
pub(super) fn open_reader(path: &Path) -> Result<(Connection, StoreId), StoreError> {
    let conn = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let id = check_version(&conn, OLDEST).and_then(|()| store_id(&conn)).map_err(|error| at(path, error))?;
    stand_in(&conn).map_err(|error| at(path, error))?;
    Ok((conn, id))
}

/// Readers upgrade nothing: what an older file lacks is empty for them, in memory.
fn stand_in(conn: &Connection) -> Result<(), StoreError> {
    if pragma(conn, "user_version")? < 3 {
        let schema = LOG_SCHEMA.replace("CREATE TABLE", "CREATE TEMP TABLE").replace("CREATE INDEX ", "CREATE INDEX temp.");
        conn.execute_batch(&schema).map_err(explain)?;
    }
    Ok(())
}

/// What an error of SQLite means when the step it belongs to was rolled back.
pub(super) fn explain(error: rusqlite::Error) -> StoreError {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType};
    let corrupt = match &error {
        FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..) => true,
        other => matches!(other.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)),
    };
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt) => damaged(&error.to_string()),
        _ if corrupt => StoreError::Corrupt(error.to_string()),
        Some(ErrorCode::CannotOpen) => {
            StoreError::Unavailable(format!("{error}: its folder must be there, writable, and not on a read-only disk"))
        }
        _ => StoreError::Unavailable(error.to_string()),
    }
}

fn damaged(what: &str) -> StoreError {
    StoreError::Corrupt(format!("the file is damaged ({what}): keep it, and restore a backup"))
}

fn at(path: &Path, error: StoreError) -> StoreError {
    let named = |why: String| format!("{}: {why}", path.display());
    match error {
        StoreError::Unavailable(why) => StoreError::Unavailable(named(why)),
        StoreError::Unknown(why) => StoreError::Unknown(named(why)),
        StoreError::Corrupt(why) => StoreError::Corrupt(named(why)),
        StoreError::Moved(why) => StoreError::Moved(named(why)),
    }
}

/// SQLite gives the WAL beside it the same mode.
fn create_file(path: &Path) -> Result<(), StoreError> {
    let unavailable = |error: std::io::Error| StoreError::Unavailable(format!("{}: {error}", path.display()));
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => {
            file.sync_all().map_err(unavailable)?;
            // The file's name must survive a power cut as well as its content.
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(parent).and_then(|directory| directory.sync_all()).map_err(unavailable)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(unavailable(error)),
    }
}

fn connect(path: &Path, mode: OpenFlags) -> Result<Connection, StoreError> {
    let conn = Connection::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(|error| at(path, explain(error)))?;
    conn.busy_timeout(BUSY_TIMEOUT)
        .and_then(|()| conn.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true))
        .and_then(|_| conn.pragma_update(None, "trusted_schema", false))
        .and_then(|()| conn.pragma_update(None, "cell_size_check", true))
        .map_err(|error| at(path, explain(error)))?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(conn)
}

fn configure_writer(conn: &mut Connection, new_store_id: StoreId, mark: Option<&[u8]>) -> Result<StoreId, StoreError> {
    // First the check, so that a foreign or newer file is refused before anything is written to it.
    create_or_check(conn, new_store_id, mark)?;
    tune_writer(conn)?;
    store_id(conn)
}

fn configure_existing(conn: &mut Connection) -> Result<StoreId, StoreError> {
    check_version(conn, OLDEST)?;
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(explain)?;
    upgrade(&tx)?;
    tx.commit().map_err(explain)?;
    tune_writer(conn)?;
    store_id(conn)
}

fn create_or_check(conn: &mut Connection, new_store_id: StoreId, mark: Option<&[u8]>) -> Result<(), StoreError> {
    // IMMEDIATE: of two processes that create at once, the second waits and then finds the first one's store.
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(explain)?;
    if is_empty(&tx)? {
        tx.execute_batch(SCHEMA).and_then(|()| tx.execute_batch(CHANNEL_SCHEMA)).map_err(explain)?;
        let head = codec::encode_head(&Head::default());
        tx.execute("INSERT INTO store (one, store_id, head) VALUES (1, ?1, ?2)", (new_store_id.0, head)).map_err(explain)?;
        tx.pragma_update(None, "application_id", APPLICATION_ID).map_err(explain)?;
        tx.pragma_update(None, "user_version", OLDEST).map_err(explain)?;
        upgrade(&tx)?;
        tx.execute("UPDATE store SET moved = ?1 WHERE one = 1", [mark]).map_err(explain)?;
    }
    check_version(&tx, OLDEST)?;
    upgrade(&tx)?;
    tx.commit().map_err(explain)
}

/// Brings an older schema to [`SCHEMA_VERSION`], inside the caller's transaction.
fn upgrade(conn: &Connection) -> Result<(), StoreError> {
    let version = pragma(conn, "user_version")?;
    for (_, schema) in UPGRADES.iter().filter(|(to, _)| *to > version) {
        conn.execute_batch(schema).map_err(explain)?;
    }
    if version < SCHEMA_VERSION {
        conn.pragma_update(None, "user_version", SCHEMA_VERSION).map_err(explain)?;
    }
    Ok(())
}

fn tune_writer(conn: &Connection) -> Result<(), StoreError> {
    // SQLite falls back to reading without a word.
    if conn.is_readonly(rusqlite::MAIN_DB).map_err(explain)? {
        return Err(StoreError::Unavailable("the file is readonly, or its disk is".to_owned()));
    }
    let mode = write_ahead_log(conn).map_err(explain)?;
    if mode != "wal" {
        return Err(StoreError::Unavailable(format!("the file system does not support a write-ahead log (journal mode {mode})")));
    }
    // FULL: the log is synced before COMMIT returns.
    conn.pragma_update(None, "synchronous", "full").map_err(explain)?;
    conn.pragma_update(None, "cache_size", -CACHE_KIB).map_err(explain)?;
    conn.pragma_update(None, "wal_autocheckpoint", WAL_BACKSTOP_PAGES).map_err(explain)
}

fn write_ahead_log(conn: &Connection) -> rusqlite::Result<String> {
    let mut tries = 0;
    loop {
        match conn.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0)) {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && tries < WAL_SWITCH_TRIES => tries += 1,
            answer => return answer,
        }
        std::thread::sleep(WAL_SWITCH_PAUSE); // why: while another process switches too, SQLite answers busy at once, without its own waiting
    }
}

/// A new file, or one whose creation was cut short.
fn is_empty(conn: &Connection) -> Result<bool, StoreError> {
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(explain)?;
    Ok(tables == 0 && pragma(conn, "user_version")? == 0 && pragma(conn, "application_id")? == 0)
}

fn check_version(conn: &Connection, oldest: i64) -> Result<(), StoreError> {
    let (application, version) = (pragma(conn, "application_id")?, pragma(conn, "user_version")?);
    if application != APPLICATION_ID {
        Err(StoreError::Corrupt("not a kas402 store".to_owned()))
    } else if version > SCHEMA_VERSION {
        Err(StoreError::Corrupt(format!(
            "written by a newer kas402 (schema version {version}, this program knows {SCHEMA_VERSION}): run the newer program"
        )))
    } else if version < oldest {
        Err(StoreError::Corrupt(format!("schema version {version} is not one this program can use here (it writes {SCHEMA_VERSION})")))
    } else {
        Ok(())
    }
}

fn pragma(conn: &Connection, name: &str) -> Result<i64, StoreError> {
    conn.pragma_query_value(None, name, |row| row.get(0)).map_err(explain)
}

fn store_id(conn: &Connection) -> Result<StoreId, StoreError> {
    conn.query_row("SELECT store_id FROM store WHERE one = 1", [], |row| row.get(0)).map(StoreId).map_err(explain)
}
