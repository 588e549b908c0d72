//! The verbs as SQL, inside the transaction of their group.
//!
//! Every step here is undone as a whole when it fails, alone ([`Step::attempt`]) or with its group; the rules decide, this file finds and
//! writes. Called by the writer thread only.

use super::{
    codec::{self, Head},
    moving, read,
    schema::explain,
};
use crate::store::{
    Advanced, ChainFact, Checkpoint, Claim, ClaimOutcome, Fact, Observed, PaymentKey, PaymentRecord, Selection, StoreError, UnixMillis,
    rules::{self, Booking, ClaimStep, Effect, Entry, Next},
};
use rusqlite::Connection;

/// One open write transaction and the store's counters in it.
pub(super) struct Step<'c> {
    pub conn: &'c Connection,
    /// No other process has written since this one opened the store: what it knows of a record in memory is what is on the disk.
    pub(super) alone: bool,
    pub(super) head: Head,
    stored: Head,
}

/// What a claim found; a stored response still encoded, so that the writer thread need not decode it.
#[derive(Debug)]
pub(super) enum Claimed {
    Outcome(ClaimOutcome),
    Replay(Box<PaymentRecord>, Vec<u8>),
}

impl<'c> Step<'c> {
    /// Reads the counters anew: another process may have written since, or moved the store away.
    pub fn begin(conn: &'c Connection, moving: bool, alone: bool) -> Result<Self, StoreError> {
        if !moving {
            moving::refuse_marked(conn)?;
        }
        let stored = read::head(conn)?;
        Ok(Self { conn, alone, head: stored, stored })
    }

    /// Runs one verb so that a failure undoes it alone.
    pub fn attempt<T>(&mut self, mut verb: impl FnMut(&mut Self) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let before = self.head;
        self.execute("SAVEPOINT verb", ())?;
        let result = verb(self).and_then(|value| self.execute("RELEASE verb", ()).map(|_| value));
        // After some errors SQLite has rolled back everything by itself; the group sees that and ends.
        if result.is_err() && !self.conn.is_autocommit() {
            self.head = before;
            self.execute("ROLLBACK TO verb", ())?;
            self.execute("RELEASE verb", ())?;
        }
        result
    }

    /// Writes the counters, once for the whole group.
    pub fn finish(&mut self) -> Result<(), StoreError> {
        if self.head != self.stored {
            self.execute("UPDATE store SET head = ?1 WHERE one = 1", [codec::encode_head(&self.head)])?;
            self.stored = self.head;
        }
        Ok(())
    }

    pub fn claim(&mut self, claim: &Claim, now: UnixMillis) -> Result<Claimed, StoreError> {
        let known = read::entry(self.conn, &claim.key)?;
        let named = match &claim.identifier {
            Some(identifier) => read::named(self.conn, claim.key.network, identifier)?,
            None => None,
        };
        let next = Next { sequence: self.head.sequence + 1, fence: self.head.fence + 1 };
        Ok(Claimed::Outcome(match rules::claim(known, named, claim, next, now) {
            ClaimStep::Insert(entry, held) => {
                (self.head.sequence, self.head.fence) = (next.sequence, next.fence);
                self.insert(&entry)?;
                ClaimOutcome::Fresh(held)
            }
            ClaimStep::Replace { old, new, held } => {
                (self.head.sequence, self.head.fence) = (next.sequence, next.fence);
                self.free(&old)?;
                self.insert(&new)?;
                ClaimOutcome::Resumed(held, Box::new(new.record))
            }
            ClaimStep::Retake(entry, outcome) => {
                self.head.fence = next.fence;
                self.update(&entry)?;
                outcome
            }
            ClaimStep::Replay(record) => {
                let response = read::response(self.conn, record.sequence)?.unwrap_or_default();
                return Ok(Claimed::Replay(record, response));
            }
            ClaimStep::Answer(outcome) => outcome,
        }))
    }

    /// `response` is that of the fact, encoded.
    pub fn advance(
        &mut self,
        key: &PaymentKey,
        fence: u64,
        fact: &Fact,
        response: Option<&[u8]>,
        now: UnixMillis,
    ) -> Result<Advanced, StoreError> {
        let Some(mut entry) = read::entry(self.conn, key)? else {
            // Freed already: a repeated rejection has nothing left to do, everything else lost its payment.
            return Ok(if matches!(fact, Fact::Rejected) { Advanced::Done } else { Advanced::Stale });
        };
        let before = entry.record.clone();
        let (outcome, effect) = rules::advance(&mut entry, fence, fact, now);
        match effect {
            Effect::Nothing => {}
            Effect::Save => {
                self.update(&entry)?;
                self.book(&before, &entry.record, None, now)?;
                if let Some(response) = response {
                    self.keep_response(before.sequence, now, response)?;
                }
            }
            Effect::Free => self.free(&before)?,
        }
        Ok(outcome)
    }

    pub fn observe(&mut self, key: &PaymentKey, fact: &ChainFact, now: UnixMillis) -> Result<Observed, StoreError> {
        let Some(mut entry) = read::entry(self.conn, key)? else { return Ok(Observed::NotFound) };
        let before = entry.record.clone();
        let outcome = rules::observe(&mut entry.record, fact);
        if outcome == Observed::Done {
            let by = if let ChainFact::Reversed { by } = fact { Some(by.0) } else { None };
            self.update(&entry)?;
            self.book(&before, &entry.record, by, now)?;
        }
        Ok(outcome)
    }

    pub fn set_checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        self.execute("UPDATE store SET checkpoint = ?1 WHERE one = 1", [codec::encode_checkpoint(checkpoint)]).map(drop)
    }

    /// Drops at most `limit` responses of payments, and as many of charges.
    pub fn prune(&mut self, before: UnixMillis, limit: u64) -> Result<(u64, u64), StoreError> {
        let drop = |sql| self.execute(sql, (column(before.0), limit)).map(|dropped| u64::try_from(dropped).unwrap_or(u64::MAX));
        let payments = "DELETE FROM responses WHERE sequence IN (SELECT sequence FROM responses WHERE delivered_at < ?1 LIMIT ?2)";
        let charges =
            "DELETE FROM charge_responses WHERE sequence IN (SELECT sequence FROM charge_responses WHERE at_millis < ?1 LIMIT ?2)";
        Ok((drop(payments)?, drop(charges)?))
    }

    pub(super) fn keep_response(&self, sequence: u64, at: UnixMillis, response: &[u8]) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO responses (sequence, delivered_at, record) VALUES (?1, ?2, ?3)";
        self.execute(sql, (sequence, column(at.0), response)).map(drop)
    }

    pub(super) fn insert(&mut self, entry: &Entry) -> Result<(), StoreError> {
        let record = &entry.record;
        let (sequence, key) = (record.sequence, codec::key_bytes(&record.key));
        self.execute("INSERT INTO claims (sequence, key, terms) VALUES (?1, ?2, ?3)", (sequence, key, codec::encode_terms(record)))?;
        self.execute(
            "INSERT INTO progress (sequence, active, code, open, record) VALUES (?1, ?2, ?3, ?4, ?5)",
            (
                sequence,
                rules::active(record),
                codec::state_code(record.state),
                rules::selects(Selection::Open, record),
                codec::encode_progress(entry),
            ),
        )?;
        if let Some(identifier) = &record.identifier {
            self.execute(
                "INSERT OR REPLACE INTO identifiers (network, identifier, sequence) VALUES (?1, ?2, ?3)",
                (codec::network_code(record.key.network), identifier.as_str(), sequence),
            )?;
        }
        self.shift(None, Some(record))
    }

    fn update(&mut self, entry: &Entry) -> Result<(), StoreError> {
        let record = &entry.record;
        let changed = self.execute(
            "UPDATE progress SET active = ?2, code = ?3, open = ?4, record = ?5 WHERE sequence = ?1",
            (
                record.sequence,
                rules::active(record),
                codec::state_code(record.state),
                rules::selects(Selection::Open, record),
                codec::encode_progress(entry),
            ),
        )?;
        if changed == 1 { Ok(()) } else { Err(StoreError::Corrupt(format!("payment {} has no progress row", record.sequence))) }
    }

    /// Moves the sums, and writes the ledger row when money moved.
    fn book(&mut self, before: &PaymentRecord, after: &PaymentRecord, by: Option<[u8; 32]>, now: UnixMillis) -> Result<(), StoreError> {
        self.shift(Some(before), Some(after))?;
        let kind = match rules::booking(before, after) {
            None => return Ok(()),
            Some(Booking::Charge) => "charge",
            Some(Booking::Reversal) => "reversed",
        };
        self.book_row(after, kind, now, by)
    }

    /// The primary key refuses a second row of a kind, whatever went wrong before.
    pub(super) fn book_row(&self, record: &PaymentRecord, kind: &str, at: UnixMillis, by: Option<[u8; 32]>) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO ledger (sequence, kind, amount_sompi, at_millis, reversed_by) VALUES (?1, ?2, ?3, ?4, ?5)",
            (record.sequence, kind, record.cost().sompi(), column(at.0), by),
        )
        .map(drop)
    }

    fn free(&mut self, record: &PaymentRecord) -> Result<(), StoreError> {
        self.execute("DELETE FROM claims WHERE sequence = ?1", [record.sequence])?;
        self.execute("DELETE FROM progress WHERE sequence = ?1", [record.sequence])?;
        if record.from_channel.is_some() {
            self.execute("DELETE FROM responses WHERE sequence = ?1", [record.sequence])?;
        }
        if let Some(identifier) = &record.identifier {
            self.execute(
                "DELETE FROM identifiers WHERE network = ?1 AND identifier = ?2 AND sequence = ?3",
                (codec::network_code(record.key.network), identifier.as_str(), record.sequence),
            )?;
        }
        self.shift(Some(record), None)
    }

    fn shift(&mut self, before: Option<&PaymentRecord>, after: Option<&PaymentRecord>) -> Result<(), StoreError> {
        let totals = rules::shifted(self.head.totals(), before, after);
        self.head.set_totals(totals.ok_or_else(|| StoreError::Corrupt("the store's sums do not cover its payments".to_owned()))?);
        Ok(())
    }

    pub(super) fn execute(&self, sql: &str, params: impl rusqlite::Params) -> Result<usize, StoreError> {
        self.conn.prepare_cached(sql).and_then(|mut statement| statement.execute(params)).map_err(explain)
    }
}

/// A moment as a column to compare by: SQLite's integers are signed, and the end of time stays the end of time.
pub(super) fn column(millis: u64) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX)
}
