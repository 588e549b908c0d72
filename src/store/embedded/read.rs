//! The queries: shared by the writer, inside its transaction, and by readers.

use super::{
    codec::{self, Head},
    schema::explain,
};
use crate::{
    protocol::{ids::PaymentIdentifier, network::Network},
    store::{Checkpoint, PaymentKey, PaymentRecord, Query, Selection, StoreError, StoredPayment, rules::Entry},
};
use rusqlite::{Connection, OptionalExtension, Params, Row};

/// A payment and whether its response is kept. `CROSS JOIN` fixes the order: first the claim, then its progress.
macro_rules! entries {
    ($rest:literal) => {
        concat!("SELECT c.sequence, c.key, c.terms, p.record, EXISTS (SELECT 1 FROM responses r WHERE r.sequence = c.sequence) ", $rest)
    };
}

pub(super) fn entry(conn: &Connection, key: &PaymentKey) -> Result<Option<Entry>, StoreError> {
    let sql = entries!("FROM claims c CROSS JOIN progress p ON p.sequence = c.sequence WHERE c.key = ?1");
    Ok(entries(conn, sql, [codec::key_bytes(key)])?.pop())
}

/// The payment an identifier points to.
pub(super) fn named(conn: &Connection, network: Network, identifier: &PaymentIdentifier) -> Result<Option<Entry>, StoreError> {
    let sql = entries!(
        "FROM identifiers i CROSS JOIN claims c ON c.sequence = i.sequence CROSS JOIN progress p ON p.sequence = c.sequence
         WHERE i.network = ?1 AND i.identifier = ?2"
    );
    Ok(entries(conn, sql, (codec::network_code(network), identifier.as_str()))?.pop())
}

pub(super) fn response(conn: &Connection, sequence: u64) -> Result<Option<Vec<u8>>, StoreError> {
    let mut statement = conn.prepare_cached("SELECT record FROM responses WHERE sequence = ?1").map_err(explain)?;
    statement.query_row([sequence], |row| row.get(0)).optional().map_err(explain)
}

pub(super) fn payment(conn: &Connection, key: &PaymentKey) -> Result<Option<StoredPayment>, StoreError> {
    // One snapshot for both: the response is deleted and written on its own.
    let snapshot = conn.unchecked_transaction().map_err(explain)?;
    let Some(Entry { record, response_kept, .. }) = entry(&snapshot, key)? else { return Ok(None) };
    let response = if response_kept { response(&snapshot, record.sequence)? } else { None };
    let response = response.map(|bytes| codec::decode_response(key, &bytes)).transpose()?;
    Ok(Some(StoredPayment { record, response }))
}

pub(super) fn payments(conn: &Connection, query: &Query) -> Result<Vec<PaymentRecord>, StoreError> {
    let sql = match query.selection {
        Selection::All => {
            entries!("FROM claims c CROSS JOIN progress p ON p.sequence = c.sequence WHERE c.sequence > ?1 ORDER BY c.sequence LIMIT ?2")
        }
        Selection::Open => entries!(
            "FROM progress p INDEXED BY progress_active CROSS JOIN claims c ON c.sequence = p.sequence
             WHERE p.active = 1 AND p.open = 1 AND p.sequence > ?1 ORDER BY p.sequence LIMIT ?2"
        ),
        // `code` as in `codec::state_code`.
        Selection::Unresolved => entries!(
            "FROM progress p INDEXED BY progress_active CROSS JOIN claims c ON c.sequence = p.sequence
             WHERE p.active = 1 AND p.code = 1 AND p.sequence > ?1 ORDER BY p.sequence LIMIT ?2"
        ),
        Selection::Owed => entries!(
            "FROM progress p INDEXED BY progress_active CROSS JOIN claims c ON c.sequence = p.sequence
             WHERE p.active = 1 AND p.code = 2 AND p.sequence > ?1 ORDER BY p.sequence LIMIT ?2"
        ),
    };
    let after = i64::try_from(query.after).unwrap_or(i64::MAX);
    Ok(entries(conn, sql, (after, query.limit))?.into_iter().map(|entry| entry.record).collect())
}

pub(super) fn head(conn: &Connection) -> Result<Head, StoreError> {
    let mut statement = conn.prepare_cached("SELECT head FROM store WHERE one = 1").map_err(explain)?;
    let bytes: Vec<u8> = statement.query_row([], |row| row.get(0)).map_err(explain)?;
    codec::decode_head(&bytes)
}

pub(super) fn checkpoint(conn: &Connection) -> Result<Option<Checkpoint>, StoreError> {
    let mut statement = conn.prepare_cached("SELECT checkpoint FROM store WHERE one = 1").map_err(explain)?;
    let bytes: Option<Vec<u8>> = statement.query_row([], |row| row.get(0)).map_err(explain)?;
    bytes.map(|bytes| codec::decode_checkpoint(&bytes)).transpose()
}

fn entries(conn: &Connection, sql: &str, params: impl Params) -> Result<Vec<Entry>, StoreError> {
    let mut statement = conn.prepare_cached(sql).map_err(explain)?;
    let mut rows = statement.query(params).map_err(explain)?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next().map_err(explain)? {
        entries.push(decode(row)?);
    }
    Ok(entries)
}

fn decode(row: &Row<'_>) -> Result<Entry, StoreError> {
    let bytes = |column: usize| row.get_ref(column).and_then(|value| Ok(value.as_blob()?)).map_err(explain);
    let sequence: u64 = row.get(0).map_err(explain)?;
    codec::decode_entry(sequence, bytes(1)?, bytes(2)?, bytes(3)?, row.get(4).map_err(explain)?)
}
