//! The queries of channels: shared by the writer, inside its transaction, and by readers.

use super::codec::{self, ChannelBytes, OutpointBytes, UsedKey};
use crate::{
    protocol::{
        ids::{ChannelId, PaymentIdentifier},
        time::UnixMillis,
    },
    store::{
        HolderId, StoreError,
        channels::{rules::StreamLease, *},
        embedded::schema::explain,
    },
};
use rusqlite::{Connection, OptionalExtension, Params, Row, types::FromSql};

/// A channel and how often it was written: what the next write must find.
#[derive(Clone, Debug)]
pub(in crate::store::embedded) struct Versioned {
    pub record: ChannelRecord,
    pub revision: u64,
}

/// The accounts of a channel are those of its last charge in the log, when there is one.
macro_rules! channels {
    ($from:literal, $which:literal) => {
        concat!(
            "SELECT c.sequence, c.id, c.terms, coalesce(l.accounts, a.record), h.record, coalesce(l.revision, a.revision) ",
            $from,
            " LEFT JOIN charge_log l ON l.sequence = (SELECT max(sequence) FROM charge_log WHERE channel = c.sequence) ",
            $which
        )
    };
}

pub(in crate::store::embedded) fn channel(conn: &Connection, id: &ChannelId) -> Result<Option<Versioned>, StoreError> {
    let sql = channels!(
        "FROM channels c CROSS JOIN channel_accounts a ON a.sequence = c.sequence CROSS JOIN channel_chain h ON h.sequence = c.sequence",
        "WHERE c.id = ?1"
    );
    Ok(rows(conn, sql, [id.0], versioned)?.pop())
}

pub(in crate::store::embedded) fn channels(conn: &Connection, query: &ChannelQuery) -> Result<Vec<ChannelRecord>, StoreError> {
    let sql = match query.selection {
        ChannelSelection::All => channels!(
            "FROM channels c CROSS JOIN channel_accounts a ON a.sequence = c.sequence
             CROSS JOIN channel_chain h ON h.sequence = c.sequence",
            "WHERE c.sequence > ?1 ORDER BY c.sequence LIMIT ?2"
        ),
        ChannelSelection::Open => channels!(
            "FROM channel_chain h INDEXED BY channel_chain_open CROSS JOIN channels c ON c.sequence = h.sequence
             CROSS JOIN channel_accounts a ON a.sequence = h.sequence",
            "WHERE h.open = 1 AND h.sequence > ?1 ORDER BY h.sequence LIMIT ?2"
        ),
    };
    rows(conn, sql, (after(query.after), query.limit), |row| versioned(row).map(|found| found.record))
}

/// Whether there is anything in the log of charges.
pub(super) fn has_logged(conn: &Connection) -> Result<bool, StoreError> {
    Ok(one::<bool>(conn, "SELECT EXISTS (SELECT 1 FROM charge_log)", [])?.unwrap_or(false))
}

pub(in crate::store::embedded) fn revision(conn: &Connection, sequence: u64) -> Result<Option<u64>, StoreError> {
    let sql = "SELECT coalesce(
        (SELECT revision FROM charge_log WHERE channel = ?1 ORDER BY sequence DESC LIMIT 1),
        (SELECT revision FROM channel_accounts WHERE sequence = ?1))";
    Ok(one::<Option<u64>>(conn, sql, [sequence])?.flatten())
}

/// Who runs the stream of a channel, or ran its last one.
pub(in crate::store::embedded) fn stream_lease(conn: &Connection, sequence: u64) -> Result<Option<StreamLease>, StoreError> {
    let sql = "SELECT holder, until_millis FROM stream_leases WHERE sequence = ?1";
    let lease =
        |row: &Row<'_>| -> rusqlite::Result<_> { Ok(StreamLease { holder: HolderId(row.get(0)?), until: UnixMillis(row.get(1)?) }) };
    Ok(rows(conn, sql, [sequence], |row| lease(row).map_err(explain))?.pop())
}

/// Whoever ran a stream is dead.
pub(in crate::store::embedded) fn end_stream_leases(conn: &Connection) -> Result<(), StoreError> {
    conn.execute("DELETE FROM stream_leases", []).map(drop).map_err(explain)
}

/// The channel an outpoint belongs to.
pub(in crate::store::embedded) fn owner(conn: &Connection, network: u8, outpoint: &OutpointBytes) -> Result<Option<ChannelId>, StoreError> {
    one(conn, "SELECT channel FROM outpoints WHERE network = ?1 AND outpoint = ?2", (network, outpoint)).map(|id| id.map(ChannelId))
}

/// The open channel that a script backs.
pub(in crate::store::embedded) fn script(conn: &Connection, script: &[u8; 32]) -> Result<Option<ChannelId>, StoreError> {
    one(conn, "SELECT channel FROM scripts WHERE script = ?1", [script]).map(|id| id.map(ChannelId))
}

/// What must not be used again in a channel, `limit` of it.
pub(in crate::store::embedded) fn used_keys(conn: &Connection, sequence: u64, limit: u32) -> Result<Vec<UsedKey>, StoreError> {
    let sql = "SELECT key FROM charge_keys WHERE channel = ?1 UNION ALL SELECT identifier_key FROM charge_log WHERE channel = ?1
               UNION ALL SELECT nonce_key FROM charge_log WHERE channel = ?1 LIMIT ?2";
    rows(conn, sql, (sequence, limit), |row| row.get(0).map_err(explain))
}

pub(in crate::store::embedded) fn is_used(conn: &Connection, sequence: u64, key: &UsedKey) -> Result<bool, StoreError> {
    let sql = "SELECT number FROM charge_keys WHERE channel = ?1 AND key = ?2
               UNION ALL SELECT number FROM charge_log WHERE channel = ?1 AND ?2 IN (identifier_key, nonce_key)";
    Ok(one::<u64>(conn, sql, (sequence, key))?.is_some())
}

pub(in crate::store::embedded) fn charge(
    conn: &Connection,
    id: &ChannelId,
    identifier: &PaymentIdentifier,
) -> Result<Option<StoredCharge>, StoreError> {
    let sql = "SELECT e.number, e.record, r.record FROM channels c CROSS JOIN charge_keys k ON k.channel = c.sequence
               CROSS JOIN charges e ON e.channel = c.sequence AND e.number = k.number
               LEFT JOIN charge_responses r ON r.sequence = e.response
               WHERE c.id = ?1 AND k.key = ?2
               UNION ALL
               SELECT l.number, l.charge, r.record FROM channels c CROSS JOIN charge_log l ON l.channel = c.sequence
               LEFT JOIN charge_responses r ON r.sequence = l.response
               WHERE c.id = ?1 AND l.identifier_key = ?2";
    let found = rows(conn, sql, (id.0, codec::identifier_key(identifier)), |row| stored(row, id))?;
    Ok(found.into_iter().find(|charge| charge.record.terms.identifier == *identifier))
}

pub(in crate::store::embedded) fn charges(
    conn: &Connection,
    id: &ChannelId,
    number: u64,
    limit: u32,
) -> Result<Vec<ChargeRecord>, StoreError> {
    let sql = "SELECT e.number, e.record FROM channels c CROSS JOIN charges e ON e.channel = c.sequence
               WHERE c.id = ?1 AND e.number > ?2
               UNION ALL SELECT l.number, l.charge FROM channels c CROSS JOIN charge_log l ON l.channel = c.sequence
               WHERE c.id = ?1 AND l.number > ?2 ORDER BY 1 LIMIT ?3";
    rows(conn, sql, (id.0, after(number), limit), |row| codec::decode_charge(*id, row.get(0).map_err(explain)?, bytes(row, 1)?))
}

/// [`charges`] with what is kept of their answers.
pub(in crate::store::embedded) fn stored_charges(
    conn: &Connection,
    id: &ChannelId,
    number: u64,
    limit: u32,
) -> Result<Vec<StoredCharge>, StoreError> {
    let sql = "SELECT e.number, e.record, r.record FROM channels c CROSS JOIN charges e ON e.channel = c.sequence
               LEFT JOIN charge_responses r ON r.sequence = e.response
               WHERE c.id = ?1 AND e.number > ?2
               UNION ALL
               SELECT l.number, l.charge, r.record FROM channels c CROSS JOIN charge_log l ON l.channel = c.sequence
               LEFT JOIN charge_responses r ON r.sequence = l.response
               WHERE c.id = ?1 AND l.number > ?2 ORDER BY 1 LIMIT ?3";
    rows(conn, sql, (id.0, after(number), limit), |row| stored(row, id))
}

fn stored(row: &Row<'_>, id: &ChannelId) -> Result<StoredCharge, StoreError> {
    let number = row.get(0).map_err(explain)?;
    let record = codec::decode_charge(*id, number, bytes(row, 1)?)?;
    let response = row.get_ref(2).and_then(|value| Ok(value.as_blob_or_null()?)).map_err(explain)?;
    let response = response.map(|bytes| codec::decode_response(*id, number, bytes)).transpose()?;
    Ok(StoredCharge { record, response })
}

pub(in crate::store::embedded) fn settled_moves(
    conn: &Connection,
    id: &ChannelId,
    number: u64,
    limit: u32,
) -> Result<Vec<SettledMove>, StoreError> {
    let sql = "SELECT m.number, m.record FROM channels c CROSS JOIN settled_moves m ON m.channel = c.sequence
               WHERE c.id = ?1 AND m.number > ?2 ORDER BY m.number LIMIT ?3";
    rows(conn, sql, (id.0, after(number), limit), |row| settled(row, id))
}

/// One move that was accepted before.
pub(super) fn settled_move(conn: &Connection, sequence: u64, row: &SettledMove) -> Result<Option<SettledMove>, StoreError> {
    let sql = "SELECT number, record FROM settled_moves WHERE channel = ?1 AND txid = ?2";
    Ok(rows(conn, sql, (sequence, row.txid.0), |found| settled(found, &row.channel))?.pop())
}

pub(super) fn last_settled_number(conn: &Connection, sequence: u64) -> Result<u64, StoreError> {
    let last = one(conn, "SELECT number FROM settled_moves WHERE channel = ?1 ORDER BY number DESC LIMIT 1", [sequence])?;
    Ok(last.unwrap_or(0))
}

fn settled(row: &Row<'_>, id: &ChannelId) -> Result<SettledMove, StoreError> {
    codec::decode_settled(*id, row.get(0).map_err(explain)?, bytes(row, 1)?)
}

fn versioned(row: &Row<'_>) -> Result<Versioned, StoreError> {
    let id = ChannelId(row.get(1).map_err(explain)?);
    let parts = ChannelBytes { terms: bytes(row, 2)?, accounts: bytes(row, 3)?, chain: bytes(row, 4)? };
    let record = codec::decode_channel(row.get(0).map_err(explain)?, id, parts)?;
    Ok(Versioned { record, revision: row.get(5).map_err(explain)? })
}

fn bytes<'r>(row: &'r Row<'_>, column: usize) -> Result<&'r [u8], StoreError> {
    row.get_ref(column).and_then(|value| Ok(value.as_blob()?)).map_err(explain)
}

fn one<T: FromSql>(conn: &Connection, sql: &str, params: impl Params) -> Result<Option<T>, StoreError> {
    let mut statement = conn.prepare_cached(sql).map_err(explain)?;
    statement.query_row(params, |row| row.get(0)).optional().map_err(explain)
}

fn rows<T>(
    conn: &Connection,
    sql: &str,
    params: impl Params,
    decode: impl Fn(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut statement = conn.prepare_cached(sql).map_err(explain)?;
    let mut rows = statement.query(params).map_err(explain)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(explain)? {
        found.push(decode(row)?);
    }
    Ok(found)
}

/// SQLite's integers are signed; nothing is numbered beyond them.
fn after(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
