//! The buyer's memory: every payment is durable here before its first byte is sent.
//!
//! Promises: [`Journal::record`] is one atomic step that refuses when the request already has an
//! open payment or an input is taken, also between processes; what it recorded survives a crash;
//! the file is readable by its owner only, because a payment header is worth its money until it
//! is delivered. It never forgets and never decides whether to pay again: [`super::paid`] does.
//!
//! Payments from channels are in the same file ([`channels`]), so that coins, too, are taken only once.
//!
//! Calls block for the duration of a disk write. What was written last lies in a log beside the file (`-wal`) while a process
//! has it open, and after a crash until the next one does: a copy takes both.

mod channels;
mod spending;

pub use channels::{Begun, Opening, Renewed};

use super::{
    policy::{Budget, Over},
    wallet::{WalletError, make_private_parent, refuse_open_mode, sync_parent},
};
use crate::protocol::{
    amount::Amount,
    ids::{Outpoint, PaymentIdentifier, RequestHash, TxId},
    network::Network,
    time::UnixMillis,
};
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, Transaction, TransactionBehavior, params, types::Type};
use std::{
    collections::HashSet,
    fs::OpenOptions,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// What a second process waits for the first one's write before it gives up.
const BUSY: Duration = Duration::from_secs(5);
/// The same for a new file, which has to become a log first; in pauses.
const SWITCHES: u32 = 500;
const SWITCH_PAUSE: Duration = Duration::from_millis(10);

/// Which request a payment is for, as the buyer sees it: `SHA-256(method, url, body hash)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestKey(pub [u8; 32]);

/// How far a payment got. Only ever moves away from [`State::Open`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Recorded; perhaps sent, perhaps moved. Resumed with the same header.
    Open,
    /// Settled by a verified receipt, the resource not received yet. Resumed with the same header.
    Settled,
    /// The resource came back.
    Delivered,
    /// Proven not to have moved, and replaced by a transaction that excludes it.
    Replaced,
    /// Paid, and the server no longer serves it (410).
    Lapsed,
}

impl State {
    const ALL: [Self; 5] = [Self::Open, Self::Settled, Self::Delivered, Self::Replaced, Self::Lapsed];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Settled => "settled",
            Self::Delivered => "delivered",
            Self::Replaced => "replaced",
            Self::Lapsed => "lapsed",
        }
    }
}

/// One payment, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub txid: TxId,
    pub key: RequestKey,
    pub method: String,
    pub url: String,
    /// The value of `PAYMENT-SIGNATURE`, sent again unchanged every time.
    pub header: String,
    /// Borsh of the signed transaction.
    pub transaction: Vec<u8>,
    pub inputs: Vec<Outpoint>,
    pub network: Network,
    pub amount: Amount,
    pub fee: Amount,
    pub pay_to: String,
    pub request_hash: RequestHash,
    /// Kept by a replacement, so that a server sees one purchase.
    pub identifier: Option<PaymentIdentifier>,
    pub created: UnixMillis,
    pub state: State,
    /// The last receipt, canonical JSON, success or not.
    pub receipt: Option<String>,
    /// The payment this one replaced.
    pub replaces: Option<TxId>,
}

/// What [`Journal::record`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Recorded {
    /// Durable. It may be sent.
    New,
    /// The request has this unresolved payment; nothing was written. Resume it.
    RequestOpen(Box<Entry>),
    /// Another payment holds this input; nothing was written. Choose again.
    InputTaken(Outpoint),
    /// It would cost more than the budget has left; nothing was written.
    OverBudget(Over),
    /// The payment to be replaced is not open any more, or this very transaction was replaced before; nothing was written.
    NotOpen,
}

/// Why the journal cannot be used. Without it nothing is paid.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error(transparent)]
    File(#[from] WalletError),
    #[error("the payment journal cannot be used: {0}")]
    Database(#[from] rusqlite::Error),
    #[error("the payment journal belongs to another version of kas402 (schema {0})")]
    Version(i64),
}

/// The journal of one wallet.
pub struct Journal {
    connection: Mutex<Connection>,
    /// `None`: in memory.
    path: Option<PathBuf>,
}

impl Journal {
    /// Opens or creates the journal, mode 0600.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let io = |source| WalletError::Io { path: path.to_owned(), source };
        make_private_parent(path).map_err(io)?;
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path).map_err(io)?;
        refuse_open_mode(&file, path)?;
        sync_parent(path).map_err(io)?;
        Self::with(Connection::open(path)?, Some(path.to_owned()))
    }

    /// For tests and one-off purchases whose caller accepts that a crash forgets them.
    pub fn in_memory() -> Result<Self, JournalError> {
        Self::with(Connection::open_in_memory()?, None)
    }

    /// The file, unless it is in memory.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    fn with(mut connection: Connection, path: Option<PathBuf>) -> Result<Self, JournalError> {
        connection.busy_timeout(BUSY)?;
        // A log takes one sync a commit, a rollback journal four, and every request of a channel has two commits.
        write_ahead(&connection)?;
        // A commit that returned is on disk. EXTRA also syncs the directory where a file system allows rollback journals only.
        connection.pragma_update(None, "synchronous", "EXTRA")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        match transaction.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))? {
            0 => {
                transaction.execute_batch(SCHEMA)?;
                transaction.execute_batch(channels::SCHEMA)?;
                transaction.execute_batch(spending::SCHEMA)?;
            }
            1 => {
                transaction.execute_batch(channels::SCHEMA)?;
                count_all(&transaction)?;
            }
            2 => count_all(&transaction)?,
            3 => {}
            other => return Err(JournalError::Version(other)),
        }
        transaction.commit()?;
        Ok(Self { connection: Mutex::new(connection), path })
    }

    /// Records a payment before it is sent. With `fresh` an open payment of the same request does not
    /// count; with `entry.replaces` that payment is closed and its inputs are freed in the same step.
    pub fn record(&self, entry: &Entry, fresh: bool, budget: &Budget) -> Result<Recorded, JournalError> {
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if let Some(replaced) = &entry.replaces {
            let closed = set_state(&transaction, replaced, State::Replaced, entry.created)?;
            if !closed {
                return Ok(Recorded::NotOpen);
            }
        }
        if !fresh && let Some(open) = unresolved(&transaction, &entry.key)? {
            return Ok(Recorded::RequestOpen(Box::new(open)));
        }
        if let Some(over) = spending::exceeds(&transaction, &purchase(entry), budget)? {
            return Ok(Recorded::OverBudget(over));
        }
        let locked = locked(&transaction)?;
        if let Some(taken) = entry.inputs.iter().find(|input| locked.contains(input)) {
            return Ok(Recorded::InputTaken(*taken));
        }
        if known(&transaction, &entry.txid)? {
            return Ok(Recorded::NotOpen);
        }
        insert(&transaction, entry)?;
        transaction.commit()?;
        Ok(Recorded::New)
    }

    /// Gives an open payment another header (a new offer for the same transaction). `false`: it is not open.
    pub fn renew(&self, entry: &Entry) -> Result<bool, JournalError> {
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let changed = transaction.execute(
            "UPDATE payments SET header = ?2, request_hash = ?3, tx = ?4 WHERE txid = ?1 AND state = 'open'",
            params![entry.txid.to_string(), entry.header, entry.request_hash.to_string(), entry.transaction],
        )?;
        transaction.commit()?;
        Ok(changed == 1)
    }

    /// The newest payment of this request that is neither delivered, replaced nor lapsed.
    pub fn unresolved(&self, key: &RequestKey) -> Result<Option<Entry>, JournalError> {
        let mut connection = self.lock();
        Ok(unresolved(&connection.transaction()?, key)?)
    }

    /// Inputs that this payment and all it replaced, directly and before, have in common. Whatever
    /// spends one of them excludes every one of those payments, not only the last.
    pub fn common_inputs(&self, entry: &Entry) -> Result<Vec<Outpoint>, JournalError> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        let mut common = entry.inputs.clone();
        let mut replaced = entry.replaces;
        while let Some(txid) = replaced {
            let before = inputs(&transaction, &txid)?;
            common.retain(|input| before.contains(input));
            let row = transaction.query_row(&format!("{SELECT} WHERE txid = ?1"), [txid.to_string()], self::entry).optional()?;
            replaced = row.and_then(|row| row.replaces);
        }
        Ok(common)
    }

    /// Inputs that no other payment may spend: those of every payment that was not replaced. A server
    /// that holds a signed transaction can send it at any time, so age frees nothing.
    pub fn locked(&self) -> Result<HashSet<Outpoint>, JournalError> {
        let mut connection = self.lock();
        Ok(locked(&connection.transaction()?)?)
    }

    /// Notes how far a payment got, and its last receipt. A delivered, replaced or lapsed payment stays so.
    pub fn update(&self, txid: &TxId, state: State, receipt: Option<&str>, now: UnixMillis) -> Result<(), JournalError> {
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if let Some(receipt) = receipt {
            transaction.execute("UPDATE payments SET receipt = ?2 WHERE txid = ?1", params![txid.to_string(), receipt])?;
        }
        set_state(&transaction, txid, state, now)?;
        transaction.commit()?;
        Ok(())
    }

    /// Every payment, newest first, at most `limit`.
    pub fn history(&self, limit: u32) -> Result<Vec<Entry>, JournalError> {
        let mut connection = self.lock();
        Ok(history(&connection.transaction()?, limit)?)
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic inside a call leaves a transaction that SQLite rolled back: the data is whole.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const SCHEMA: &str = "
    CREATE TABLE payments (
        txid TEXT PRIMARY KEY, key BLOB NOT NULL, method TEXT NOT NULL, url TEXT NOT NULL, header TEXT NOT NULL,
        tx BLOB NOT NULL, network TEXT NOT NULL, amount TEXT NOT NULL, fee TEXT NOT NULL, pay_to TEXT NOT NULL,
        request_hash TEXT NOT NULL, identifier TEXT, created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL,
        state TEXT NOT NULL, receipt TEXT, replaces TEXT
    ) STRICT;
    CREATE INDEX payments_by_key ON payments (key, state);
    CREATE TABLE inputs (
        txid TEXT NOT NULL REFERENCES payments (txid), position INTEGER NOT NULL, outpoint_txid TEXT NOT NULL, outpoint_index INTEGER NOT NULL,
        PRIMARY KEY (txid, position)
    ) STRICT;
";

const SELECT: &str = "SELECT txid, key, method, url, header, tx, network, amount, fee, pay_to, request_hash, identifier, created_ms,
    state, receipt, replaces FROM payments";

/// Keeps the journal as a write-ahead log.
fn write_ahead(connection: &Connection) -> rusqlite::Result<()> {
    for _ in 0..SWITCHES {
        match connection.pragma_update(None, "journal_mode", "WAL") {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                std::thread::sleep(SWITCH_PAUSE) // why: SQLite does not wait for another process that switches the same file
            }
            done => return done,
        }
    }
    connection.pragma_update(None, "journal_mode", "WAL")
}

/// Counts what was bought before there were budgets.
fn count_all(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch(spending::SCHEMA)?;
    for entry in history(transaction, u32::MAX)?.iter().filter(|entry| entry.state != State::Replaced) {
        spending::put(transaction, &purchase(entry))?;
    }
    channels::count_all(transaction)
}

fn purchase(entry: &Entry) -> spending::Purchase<'_> {
    spending::Purchase { id: entry.txid.to_string(), url: &entry.url, amount: entry.amount, at: entry.created }
}

fn history(transaction: &Transaction<'_>, limit: u32) -> rusqlite::Result<Vec<Entry>> {
    let mut statement = transaction.prepare(&format!("{SELECT} ORDER BY rowid DESC LIMIT ?1"))?;
    let mut entries = statement.query_map([limit], entry)?.collect::<Result<Vec<_>, _>>()?;
    for entry in &mut entries {
        entry.inputs = inputs(transaction, &entry.txid)?;
    }
    Ok(entries)
}

fn insert(transaction: &Transaction<'_>, entry: &Entry) -> rusqlite::Result<()> {
    let txid = entry.txid.to_string();
    transaction.execute(
        "INSERT INTO payments VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?13, ?14, ?15, ?16)",
        params![
            txid,
            entry.key.0,
            entry.method,
            entry.url,
            entry.header,
            entry.transaction,
            entry.network.as_str(),
            entry.amount.to_string(),
            entry.fee.to_string(),
            entry.pay_to,
            entry.request_hash.to_string(),
            entry.identifier.as_ref().map(PaymentIdentifier::as_str),
            millis(entry.created),
            entry.state.as_str(),
            entry.receipt,
            entry.replaces.map(|txid| txid.to_string()),
        ],
    )?;
    for (position, input) in entry.inputs.iter().enumerate() {
        transaction.execute("INSERT INTO inputs VALUES (?1, ?2, ?3, ?4)", params![txid, position, input.txid.to_string(), input.index])?;
    }
    spending::put(transaction, &purchase(entry))
}

fn known(transaction: &Transaction<'_>, txid: &TxId) -> rusqlite::Result<bool> {
    transaction.query_row("SELECT EXISTS (SELECT 1 FROM payments WHERE txid = ?1)", [txid.to_string()], |row| row.get(0))
}

/// Whether the payment was still unresolved, and now has this state.
fn set_state(transaction: &Transaction<'_>, txid: &TxId, state: State, now: UnixMillis) -> rusqlite::Result<bool> {
    let from = match state {
        State::Open | State::Replaced => "('open')",
        State::Settled | State::Delivered | State::Lapsed => "('open', 'settled')",
    };
    let changed = transaction.execute(
        &format!("UPDATE payments SET state = ?2, updated_ms = ?3 WHERE txid = ?1 AND state IN {from}"),
        params![txid.to_string(), state.as_str(), millis(now)],
    )?;
    if changed == 1 && state == State::Replaced {
        spending::remove(transaction, &txid.to_string())?;
    }
    Ok(changed == 1)
}

fn unresolved(transaction: &Transaction<'_>, key: &RequestKey) -> rusqlite::Result<Option<Entry>> {
    let sql = format!("{SELECT} WHERE key = ?1 AND state IN ('open', 'settled') ORDER BY rowid DESC LIMIT 1");
    let Some(mut found) = transaction.query_row(&sql, params![key.0], entry).optional()? else { return Ok(None) };
    found.inputs = inputs(transaction, &found.txid)?;
    Ok(Some(found))
}

fn locked(transaction: &Transaction<'_>) -> rusqlite::Result<HashSet<Outpoint>> {
    let mut statement = transaction.prepare(
        "SELECT outpoint_txid, outpoint_index FROM inputs JOIN payments USING (txid) WHERE state <> 'replaced'
            UNION SELECT outpoint_txid, outpoint_index FROM channel_inputs JOIN channel_transactions USING (txid) WHERE live",
    )?;
    statement.query_map([], outpoint)?.collect()
}

fn inputs(transaction: &Transaction<'_>, txid: &TxId) -> rusqlite::Result<Vec<Outpoint>> {
    let mut statement = transaction.prepare("SELECT outpoint_txid, outpoint_index FROM inputs WHERE txid = ?1 ORDER BY position")?;
    statement.query_map([txid.to_string()], outpoint)?.collect()
}

fn outpoint(row: &Row<'_>) -> rusqlite::Result<Outpoint> {
    Ok(Outpoint { txid: parsed(row, 0, str::parse)?, index: row.get(1)? })
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let amount = |text: &str| Amount::parse_wire(text);
    Ok(Entry {
        txid: parsed(row, 0, str::parse)?,
        key: RequestKey(row.get(1)?),
        method: row.get(2)?,
        url: row.get(3)?,
        header: row.get(4)?,
        transaction: row.get(5)?,
        inputs: Vec::new(),
        network: parsed(row, 6, str::parse)?,
        amount: parsed(row, 7, amount)?,
        fee: parsed(row, 8, amount)?,
        pay_to: row.get(9)?,
        request_hash: parsed(row, 10, str::parse)?,
        identifier: optional_text(row, 11)?.map(|_| parsed(row, 11, PaymentIdentifier::parse)).transpose()?,
        created: UnixMillis(row.get::<_, i64>(12)?.try_into().unwrap_or_default()),
        state: parsed(row, 13, |text| ParsedState(State::ALL, State::as_str).find(text))?,
        receipt: row.get(14)?,
        replaces: optional_text(row, 15)?.map(|_| parsed(row, 15, str::parse)).transpose()?,
    })
}

#[derive(Debug, thiserror::Error)]
#[error("not a state of a payment")]
struct UnknownState;

/// All states of a kind and their names in the file.
struct ParsedState<S, const N: usize>([S; N], fn(S) -> &'static str);

impl<S: Copy, const N: usize> ParsedState<S, N> {
    fn find(self, text: &str) -> Result<S, UnknownState> {
        self.0.into_iter().find(|state| (self.1)(*state) == text).ok_or(UnknownState)
    }
}

fn millis(at: UnixMillis) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX)
}

fn optional_text(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<String>> {
    row.get(column)
}

/// A text column through its own parser; a damaged journal is an error, never a default.
fn parsed<T, E: std::error::Error + Send + Sync + 'static>(
    row: &Row<'_>,
    column: usize,
    parse: impl Fn(&str) -> Result<T, E>,
) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    parse(&text).map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    pub(super) fn payment(n: u8, key: u8, inputs: &[u8]) -> Entry {
        Entry {
            txid: TxId([n; 32]),
            key: RequestKey([key; 32]),
            method: "GET".into(),
            url: "https://shop/x".into(),
            header: format!("header-{n}"),
            transaction: vec![n; 3],
            inputs: inputs.iter().map(|i| Outpoint { txid: TxId([*i; 32]), index: u32::from(*i) }).collect(),
            network: Network::Simnet,
            amount: Amount::from_sompi(5).unwrap(),
            fee: Amount::from_sompi(2).unwrap(),
            pay_to: "kaspasim:q".into(),
            request_hash: RequestHash([n; 32]),
            identifier: n.is_multiple_of(2).then(|| PaymentIdentifier::parse(&"i".repeat(16)).unwrap()),
            created: UnixMillis(7),
            state: State::Open,
            receipt: None,
            replaces: None,
        }
    }

    #[test]
    fn a_recorded_payment_survives_and_is_found_by_its_request() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.sqlite");
        let (one, two) = (payment(1, 1, &[1, 2]), payment(2, 2, &[3]));
        let journal = Journal::open(&path).unwrap();
        assert_eq!(journal.record(&one, false, &Budget::default()).unwrap(), Recorded::New);
        assert_eq!(journal.record(&two, false, &Budget::default()).unwrap(), Recorded::New);
        // Its log, too.
        let files: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(Result::unwrap).collect();
        assert!(files.len() > 1 && files.iter().all(|file| file.metadata().unwrap().permissions().mode() & 0o777 == 0o600), "{files:?}");
        drop(journal);
        let journal = Journal::open(&path).unwrap();
        assert_eq!(journal.unresolved(&one.key).unwrap(), Some(one.clone()));
        assert_eq!(journal.unresolved(&RequestKey([9; 32])).unwrap(), None);
        assert_eq!(journal.history(10).unwrap(), vec![two, one]);
    }

    #[test]
    fn one_request_has_one_open_payment_and_one_coin_one_payment() {
        let journal = Journal::in_memory().unwrap();
        let first = payment(1, 1, &[1]);
        assert_eq!(journal.record(&first, false, &Budget::default()).unwrap(), Recorded::New);
        assert_eq!(
            journal.record(&payment(2, 1, &[2]), false, &Budget::default()).unwrap(),
            Recorded::RequestOpen(Box::new(first.clone()))
        );
        assert_eq!(journal.record(&payment(3, 3, &[2, 1]), false, &Budget::default()).unwrap(), Recorded::InputTaken(first.inputs[0]));
        assert_eq!(journal.record(&payment(2, 1, &[2]), true, &Budget::default()).unwrap(), Recorded::New, "asked for on purpose");
    }

    #[test]
    fn only_an_unresolved_payment_changes_its_state() {
        for (path, expect_unresolved, expect_last) in [
            (vec![State::Settled], true, State::Settled),
            (vec![State::Settled, State::Delivered], false, State::Delivered),
            (vec![State::Delivered, State::Settled], false, State::Delivered),
            (vec![State::Lapsed, State::Delivered], false, State::Lapsed),
            (vec![State::Settled, State::Open], true, State::Settled),
        ] {
            let journal = Journal::in_memory().unwrap();
            let first = payment(1, 1, &[1]);
            assert_eq!(journal.record(&first, false, &Budget::default()).unwrap(), Recorded::New);
            for state in &path {
                journal.update(&first.txid, *state, Some("{}"), UnixMillis(8)).unwrap();
            }
            assert_eq!(journal.unresolved(&first.key).unwrap().is_some(), expect_unresolved, "{path:?}");
            let last = &journal.history(1).unwrap()[0];
            assert_eq!((last.state, last.receipt.as_deref()), (expect_last, Some("{}")));
            assert!(journal.locked().unwrap().contains(&first.inputs[0]), "a signed transaction can be sent at any time");
        }
    }

    #[test]
    fn a_replacement_closes_the_first_and_may_spend_its_coins() {
        let journal = Journal::in_memory().unwrap();
        let first = payment(1, 1, &[1, 2]);
        assert_eq!(journal.record(&first, false, &Budget::default()).unwrap(), Recorded::New);
        let second = Entry { replaces: Some(first.txid), ..payment(2, 1, &[2, 3]) };
        assert_eq!(journal.record(&second, false, &Budget::default()).unwrap(), Recorded::New);
        assert_eq!(journal.unresolved(&first.key).unwrap(), Some(second.clone()));
        assert_eq!(journal.locked().unwrap(), second.inputs.iter().copied().collect());
        let third = Entry { replaces: Some(first.txid), ..payment(3, 1, &[1]) };
        assert_eq!(journal.record(&third, false, &Budget::default()).unwrap(), Recorded::NotOpen, "replaced already");
        journal.update(&second.txid, State::Settled, None, UnixMillis(9)).unwrap();
        let fourth = Entry { replaces: Some(second.txid), ..payment(4, 1, &[2]) };
        assert_eq!(journal.record(&fourth, false, &Budget::default()).unwrap(), Recorded::NotOpen, "a settled payment is never replaced");
        assert_eq!(journal.unresolved(&first.key).unwrap().map(|e| e.state), Some(State::Settled), "the refusal wrote nothing");
    }

    #[test]
    fn an_open_payment_may_carry_its_transaction_under_another_offer() {
        let journal = Journal::in_memory().unwrap();
        let first = payment(1, 1, &[1]);
        assert_eq!(journal.record(&first, false, &Budget::default()).unwrap(), Recorded::New);
        let renewed = Entry { header: "newer".into(), request_hash: RequestHash([9; 32]), ..first.clone() };
        assert!(journal.renew(&renewed).unwrap());
        assert_eq!(journal.unresolved(&first.key).unwrap(), Some(renewed.clone()));
        journal.update(&first.txid, State::Settled, None, UnixMillis(9)).unwrap();
        assert!(!journal.renew(&renewed).unwrap(), "a settled payment keeps its header");
        // The chain of replacements has no cycles: what was replaced does not come back.
        let (a, b) = (payment(5, 5, &[5]), Entry { replaces: Some(TxId([5; 32])), ..payment(6, 5, &[5]) });
        assert_eq!(journal.record(&a, false, &Budget::default()).unwrap(), Recorded::New);
        assert_eq!(journal.record(&b, false, &Budget::default()).unwrap(), Recorded::New);
        assert_eq!(journal.record(&Entry { replaces: Some(b.txid), ..a }, true, &Budget::default()).unwrap(), Recorded::NotOpen);
    }

    #[test]
    fn a_line_of_replacements_has_one_coin_in_common() {
        let journal = Journal::in_memory().unwrap();
        let first = payment(1, 1, &[1, 2]);
        let second = Entry { replaces: Some(first.txid), ..payment(2, 1, &[4, 3, 2]) };
        let third = Entry { replaces: Some(second.txid), ..payment(3, 1, &[4, 2]) };
        for entry in [&first, &second, &third] {
            assert_eq!(journal.record(entry, true, &Budget::default()).unwrap(), Recorded::New);
        }
        for (entry, expect) in
            [(&first, vec![first.inputs[0], first.inputs[1]]), (&second, vec![first.inputs[1]]), (&third, vec![first.inputs[1]])]
        {
            assert_eq!(journal.common_inputs(entry).unwrap(), expect);
        }
    }

    #[test]
    fn two_processes_cannot_pay_for_one_request_twice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.sqlite");
        let (a, b) = (Journal::open(&path).unwrap(), Journal::open(&path).unwrap());
        let outcomes = std::thread::scope(|scope| {
            let one = scope.spawn(|| a.record(&payment(1, 1, &[1]), false, &Budget::default()).unwrap());
            let two = scope.spawn(|| b.record(&payment(2, 1, &[2]), false, &Budget::default()).unwrap());
            [one.join().unwrap(), two.join().unwrap()]
        });
        assert_eq!(outcomes.iter().filter(|outcome| **outcome == Recorded::New).count(), 1, "{outcomes:?}");
    }

    #[test]
    fn many_processes_may_begin_one_journal() {
        let dir = tempfile::tempdir().unwrap();
        for round in 0..20 {
            let path = dir.path().join(format!("journal-{round}.sqlite"));
            let at_once = std::sync::Barrier::new(8);
            std::thread::scope(|scope| {
                for n in 1..=8 {
                    let (path, at_once) = (&path, &at_once);
                    scope.spawn(move || {
                        at_once.wait();
                        Journal::open(path).unwrap().record(&payment(n, n, &[n]), false, &Budget::default()).unwrap()
                    });
                }
            });
            assert_eq!(Journal::open(&path).unwrap().history(10).unwrap().len(), 8);
        }
    }

    #[test]
    fn a_journal_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.sqlite");
        drop(Journal::open(&path).unwrap());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Journal::open(&path), Err(JournalError::File(WalletError::TooOpen { .. }))));
    }
}
