//! Whether a file is a whole store: every page, every record, every index against its records, every sum.
//!
//! SQLite's pages carry no checksums, so a page that a failing disk or a bad copy spoilt is found where something disagrees: in the
//! tree of pages, in a record's own checksum, in an index that lacks what a record says, or in the sums. Reads one snapshot,
//! beside a running gateway if need be, and changes nothing. For `kas402 store check`, after a restore above all.

use super::{EmbeddedReader, channels as rows, codec, read, schema::explain};
use crate::{
    protocol::{amount::Amount, ids::ChannelId},
    store::{
        PaymentRecord, PaymentState, Query, Selection, StoreError, Totals,
        channels::{ChannelQuery, ChannelRecord, ChannelSelection, ChannelTotals, SettledState, StoredCharge, rules},
        rules as payment_rules,
    },
};
use rusqlite::{Connection, OptionalExtension};
use serde::Serialize;

/// Records read at once.
const PAGE: u32 = 256;

/// What was read and found whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Whole {
    pub payments: u64,
    pub responses: u64,
    pub channels: u64,
    pub charges: u64,
    pub moves: u64,
}

impl EmbeddedReader {
    /// Reads everything; the first fault is the error.
    pub async fn check(&self) -> Result<Whole, StoreError> {
        self.read(|conn| {
            let snapshot = conn.unchecked_transaction().map_err(explain)?;
            pages(&snapshot)?;
            let mut whole = Whole::default();
            let totals = payments(&snapshot, &mut whole)?;
            let channel_totals = channels(&snapshot, &mut whole)?;
            let head = read::head(&snapshot)?;
            if head.totals() != totals || head.channel_totals() != channel_totals {
                return Err(fault("the store's sums are not those of its records"));
            }
            Ok(whole)
        })
        .await
    }
}

fn fault(why: impl Into<String>) -> StoreError {
    StoreError::Corrupt(why.into())
}

fn pages(conn: &Connection) -> Result<(), StoreError> {
    let told: String = conn.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(explain)?;
    if told == "ok" { Ok(()) } else { Err(fault(told)) }
}

fn payments(conn: &Connection, whole: &mut Whole) -> Result<Totals, StoreError> {
    let (mut totals, mut after) = (Totals::default(), 0);
    loop {
        let page = read::payments(conn, &Query { selection: Selection::All, after, limit: PAGE })?;
        let Some(last) = page.last() else { return Ok(totals) };
        after = last.sequence;
        for record in &page {
            let summed = payment_rules::shifted(totals, None, Some(record));
            totals = summed.ok_or_else(|| fault("the payments' sum is beyond every limit"))?;
            whole.payments += 1;
            payment(conn, record, whole)?;
        }
    }
}

fn payment(conn: &Connection, record: &PaymentRecord, whole: &mut Whole) -> Result<(), StoreError> {
    let (key, sequence) = (&record.key, record.sequence);
    let name = |why: &str| fault(format!("payment {}: {why}", key.txid));
    if read::entry(conn, key)?.is_none_or(|entry| entry.record.sequence != sequence) {
        return Err(name("it is not found under its transaction"));
    }
    if let Some(identifier) = &record.identifier {
        let named = read::named(conn, key.network, identifier)?.filter(|named| named.record.identifier == record.identifier);
        // A reversed payment's identifier may be free, or another's.
        if named.is_none() && record.state != PaymentState::Reversed {
            return Err(name("its identifier is not kept"));
        }
    }
    if let Some(response) = read::response(conn, sequence)? {
        codec::decode_response(key, &response)?;
        whole.responses += 1;
    }
    let booked = |kind: &str| -> Result<Option<u64>, StoreError> {
        let sql = "SELECT amount_sompi FROM ledger WHERE sequence = ?1 AND kind = ?2";
        conn.query_row(sql, (sequence, kind), |row| row.get(0)).optional().map_err(explain)
    };
    let amount = Some(record.cost().sompi());
    let reversed = record.charged && record.state == PaymentState::Reversed;
    if booked("charge")? != amount.filter(|_| record.charged) || booked("reversed")? != amount.filter(|_| reversed) {
        return Err(name("its rows in the ledger are not what its state says"));
    }
    Ok(())
}

fn channels(conn: &Connection, whole: &mut Whole) -> Result<ChannelTotals, StoreError> {
    let (mut totals, mut after) = (ChannelTotals::default(), 0);
    loop {
        let page = rows::channels(conn, &ChannelQuery { selection: ChannelSelection::All, after, limit: PAGE })?;
        let Some(last) = page.last() else { return Ok(totals) };
        after = last.sequence;
        for record in &page {
            let summed = rules::shifted(totals, ChannelTotals::default(), rules::contribution(record));
            totals = summed.ok_or_else(|| fault("the channels' sum is beyond every limit"))?;
            whole.channels += 1;
            channel(conn, record, whole)?;
        }
    }
}

fn channel(conn: &Connection, record: &ChannelRecord, whole: &mut Whole) -> Result<(), StoreError> {
    let name = |why: &str| fault(format!("channel {}: {why}", record.id));
    if rows::channel(conn, &record.id)?.is_none_or(|found| found.record.sequence != record.sequence) {
        return Err(name("it is not found under its id"));
    }
    let network = codec::network_code(record.config.network);
    for outpoint in [record.outpoint, record.deposit.outpoint].into_iter().chain(record.moves.iter().map(|step| step.spends)) {
        if rows::owner(conn, network, &rows::outpoint_bytes(outpoint))? != Some(record.id) {
            return Err(name("an outpoint is not kept as its own"));
        }
    }
    if rules::is_open(record) && rows::script(conn, &rules::script_key(&record.config))? != Some(record.id) {
        return Err(name("its script is not kept as its own"));
    }
    let charged = charges(conn, record, whole)?;
    let claimed = moves(conn, &record.id, whole)?;
    if charged != Some(record.parts.charged) || claimed != Some(record.parts.claimed) {
        return Err(name("its accounts are not the sums of its charges and claims"));
    }
    Ok(())
}

/// The sum of the charges.
fn charges(conn: &Connection, record: &ChannelRecord, whole: &mut Whole) -> Result<Option<Amount>, StoreError> {
    let (mut sum, mut number) = (Some(Amount::ZERO), 0);
    loop {
        let page = rows::stored_charges(conn, &record.id, number, PAGE)?;
        if page.is_empty() {
            return if number == record.charges { Ok(sum) } else { Err(fault(format!("channel {}: charges are missing", record.id))) };
        }
        for StoredCharge { record: charge, response } in &page {
            let used = rows::keys_of(charge).into_iter().map(|key| rows::is_used(conn, record.sequence, &key));
            if charge.number != number + 1 || used.collect::<Result<Vec<bool>, _>>()?.contains(&false) {
                return Err(fault(format!("channel {}: charge {} is missing or not kept as used", record.id, number + 1)));
            }
            number = charge.number;
            sum = sum.and_then(|sum| sum.checked_add(charge.charge));
            whole.charges += 1;
            whole.responses += u64::from(response.is_some());
        }
    }
}

/// The sum of what accepted claims took.
fn moves(conn: &Connection, id: &ChannelId, whole: &mut Whole) -> Result<Option<Amount>, StoreError> {
    let (mut sum, mut number) = (Some(Amount::ZERO), 0);
    loop {
        let page = rows::settled_moves(conn, id, number, PAGE)?;
        let Some(last) = page.last() else { return Ok(sum) };
        number = last.number;
        for row in &page {
            whole.moves += 1;
            if row.state != SettledState::TakenBack {
                sum = sum.and_then(|sum| sum.checked_add(row.takes));
            }
        }
    }
}
