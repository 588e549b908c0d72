//! The embedded store as either end of a move (`store::moving`).
//!
//! Its mark is a column of the store's one row. The writer looks at it in every group, so that a gateway that still runs over a
//! store that left is stopped by its next step, whatever it had in memory.

use super::{
    EmbeddedStore, channels as rows,
    codec::{self, Kind},
    lives::Life,
    read, schema,
    verbs::Step,
    writer::Writer,
};
use crate::{
    protocol::{
        ids::{ChannelId, StoreId, TxId, XOnlyKey},
        time::UnixMillis,
    },
    store::{
        HolderId, Query, Selection, StoreError,
        channels::{ChannelQuery, ChannelSelection, ChannelStore},
        embedded::{Cache, EmbeddedReader},
        moving::{Batch, Item, Mark, Moving, Part, Place, number, place},
        rules::{Entry, Hold},
    },
};
use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension};
use std::path::Path;

/// Charges and moves are listed by channel, this many channels at once.
const CHANNELS: u32 = 64;

impl EmbeddedStore {
    /// Opens an existing store past its mark, to move from or to it; never for serving. Blocking.
    pub fn open_moving(path: &Path) -> Result<Self, StoreError> {
        if !path.exists() {
            return Err(StoreError::Unavailable(format!("{}: there is no store", path.display())));
        }
        let (conn, id) = schema::open_moving(path)?;
        let life = Life::begin(path, || Ok(()))?;
        let reader = EmbeddedReader::open(path)?;
        Ok(Self { writer: Writer::start_moving(path.to_owned(), id, conn)?, reader, channels: Cache::default(), _life: life })
    }

    /// Makes a new store under the id of another one, marked from its beginning. Blocking.
    pub fn create_arriving(path: &Path, id: StoreId, from: &str) -> Result<(), StoreError> {
        if path.exists() {
            return Err(StoreError::Unavailable(format!("{}: there is a file already", path.display())));
        }
        schema::create_marked(path, id, &encode_mark(&Mark::Arriving { from: from.to_owned() }))
    }
}

/// Says why a marked store takes no steps.
pub(super) fn refuse_marked(conn: &Connection) -> Result<(), StoreError> {
    mark(conn)?.map_or(Ok(()), |mark| Err(mark.refusal()))
}

pub(super) fn mark(conn: &Connection) -> Result<Option<Mark>, StoreError> {
    let mut statement = conn.prepare_cached("SELECT moved FROM store WHERE one = 1").map_err(schema::explain)?;
    let bytes: Option<Vec<u8>> = statement.query_row([], |row| row.get(0)).map_err(schema::explain)?;
    bytes.map(|bytes| decode_mark(&bytes)).transpose()
}

fn encode_mark(mark: &Mark) -> Vec<u8> {
    let (left, name) = match mark {
        Mark::Left { to } => (true, to),
        Mark::Arriving { from } => (false, from),
    };
    codec::encode(Kind::Mark, &[], &(left, name.clone()))
}

fn decode_mark(bytes: &[u8]) -> Result<Mark, StoreError> {
    let (left, name): (bool, String) = codec::decode(Kind::Mark, &[], bytes, || "mark of a move".to_owned())?;
    Ok(if left { Mark::Left { to: name } } else { Mark::Arriving { from: name } })
}

#[async_trait]
impl Moving for EmbeddedStore {
    async fn mark(&self) -> Result<Option<Mark>, StoreError> {
        self.reader.read(mark).await
    }

    async fn set_mark(&self, mark: Option<Mark>) -> Result<(), StoreError> {
        let bytes = mark.as_ref().map(encode_mark);
        self.writer.run(move |step| step.execute("UPDATE store SET moved = ?1 WHERE one = 1", [&bytes]).map(drop)).await
    }

    async fn items(&self, part: Part, after: Option<Place>, limit: u32) -> Result<Batch, StoreError> {
        match part {
            Part::Payments => self.payment_items(number(&after, 0), limit).await,
            Part::Channels => {
                let query = ChannelQuery { selection: ChannelSelection::All, after: number(&after, 0), limit };
                let channels = self.channels(&query).await?;
                let next = channels.last().map(|last| place(&[last.sequence]));
                Ok(Batch { items: channels.into_iter().map(Item::Channel).collect(), next })
            }
            Part::Charges | Part::Moves => self.rows_of_channels(part, number(&after, 0), number(&after, 1), limit).await,
            Part::Outpoints => self.reader.read(move |conn| outpoints(conn, after, limit)).await,
            Part::ServerKeys => {
                let keys = self.reader.read(|conn| all(conn, "SELECT key FROM server_keys", |row| row.get(0).map(XOnlyKey))).await?;
                Ok(Batch { items: keys.into_iter().map(Item::ServerKey).collect(), next: None })
            }
        }
    }

    async fn arrive(&self, items: Vec<Item>) -> Result<(), StoreError> {
        self.writer.run(move |step| items.iter().try_for_each(|item| step.arrive(item))).await
    }
}

impl EmbeddedStore {
    async fn payment_items(&self, after: u64, limit: u32) -> Result<Batch, StoreError> {
        self.reader
            .read(move |conn| {
                let records = read::payments(conn, &Query { selection: Selection::All, after, limit })?;
                let next = records.last().map(|last| place(&[last.sequence]));
                let item = |record: crate::store::PaymentRecord| {
                    let response = read::response(conn, record.sequence)?.map(|bytes| codec::decode_response(&record.key, &bytes));
                    let reversed = reversal(conn, record.sequence)?;
                    Ok(Item::Payment { record: Box::new(record), response: response.transpose()?, reversed })
                };
                Ok(Batch { items: records.into_iter().map(item).collect::<Result<_, StoreError>>()?, next })
            })
            .await
    }

    /// Of the channel of this sequence what comes after a number, then of the channels behind it.
    async fn rows_of_channels(&self, part: Part, mut sequence: u64, mut number: u64, limit: u32) -> Result<Batch, StoreError> {
        let query = ChannelQuery { selection: ChannelSelection::All, after: sequence.saturating_sub(1), limit: CHANNELS };
        let channels = self.reader.channels(&query).await?;
        let mut items = Vec::new();
        for channel in &channels {
            if channel.sequence != sequence {
                (sequence, number) = (channel.sequence, 0);
            }
            let left = limit.saturating_sub(u32::try_from(items.len()).unwrap_or(u32::MAX));
            let id = channel.id;
            let (found, last) = if part == Part::Moves {
                let found = self.reader.settled_moves(&id, number, left).await?;
                let last = found.last().map(|last| last.number);
                (found.into_iter().map(Item::Move).collect::<Vec<_>>(), last)
            } else {
                let found = self.reader.read(move |conn| rows::stored_charges(conn, &id, number, left)).await?;
                let last = found.last().map(|last| last.record.number);
                (found.into_iter().map(|charge| Item::Charge(Box::new(charge))).collect(), last)
            };
            let full = u32::try_from(found.len()).unwrap_or(u32::MAX) >= left;
            items.extend(found);
            if full {
                // There may be more of this channel.
                return Ok(Batch { items, next: Some(place(&[sequence, last.unwrap_or(number)])) });
            }
        }
        let next = channels.last().map(|last| place(&[last.sequence + 1, 0]));
        Ok(Batch { items, next })
    }
}

impl Step<'_> {
    fn arrive(&mut self, item: &Item) -> Result<(), StoreError> {
        match item {
            Item::Payment { record, response, reversed } => {
                if read::entry(self.conn, &record.key)?.is_some() {
                    return Ok(());
                }
                // Nobody holds it here; the first hold drawn is 1.
                let hold = Hold { fence: 0, holder: HolderId([0; 16]), until: None };
                let entry = Entry { record: (**record).clone(), hold, response_kept: response.is_some() };
                self.head.sequence = self.head.sequence.max(record.sequence);
                self.insert(&entry)?;
                if record.charged {
                    let at = record.settled_at.unwrap_or(record.claimed_at);
                    self.book_row(record, "charge", at, None)?;
                }
                if let Some((at, by)) = reversed {
                    self.book_row(record, "reversed", *at, by.map(|by| by.0))?;
                }
                if let Some(response) = response {
                    let at = record.delivered_at.unwrap_or(record.claimed_at);
                    self.keep_response(record.sequence, at, &codec::encode_response(&record.key, response))?;
                }
                Ok(())
            }
            Item::Channel(record) => {
                if rows::channel(self.conn, &record.id)?.is_some() {
                    return Ok(());
                }
                self.head.channel_sequence = self.head.channel_sequence.max(record.sequence);
                self.arrive_channel(record)
            }
            Item::Charge(charge) => self.arrive_charge(charge),
            Item::Move(row) => self.arrive_move(row),
            Item::Outpoint { network, outpoint, channel } => self.arrive_outpoint(*network, *outpoint, channel),
            Item::ServerKey(key) => self.execute("INSERT OR IGNORE INTO server_keys (key) VALUES (?1)", [key.0]).map(drop),
        }
    }
}

fn reversal(conn: &Connection, sequence: u64) -> Result<Option<(UnixMillis, Option<TxId>)>, StoreError> {
    let mut statement = conn
        .prepare_cached("SELECT at_millis, reversed_by FROM ledger WHERE sequence = ?1 AND kind = 'reversed'")
        .map_err(schema::explain)?;
    let row = statement.query_row([sequence], |row| Ok((UnixMillis(row.get(0)?), row.get::<_, Option<[u8; 32]>>(1)?.map(TxId))));
    row.optional().map_err(schema::explain)
}

fn outpoints(conn: &Connection, after: Option<Place>, limit: u32) -> Result<Batch, StoreError> {
    let sql = "SELECT network, outpoint, channel FROM outpoints WHERE (network, outpoint) > (?1, ?2) ORDER BY network, outpoint LIMIT ?3";
    let after = after.unwrap_or_else(|| vec![0]);
    let (network, outpoint) = after.split_first().map_or((0, &[][..]), |(network, outpoint)| (*network, outpoint));
    let mut statement = conn.prepare_cached(sql).map_err(schema::explain)?;
    let found = statement
        .query_map((network, outpoint, limit), |row| Ok((row.get::<_, u8>(0)?, row.get::<_, Vec<u8>>(1)?, row.get::<_, [u8; 32]>(2)?)))
        .and_then(Iterator::collect::<rusqlite::Result<Vec<_>>>)
        .map_err(schema::explain)?;
    let next = found.last().map(|(network, outpoint, _)| [&[*network], &outpoint[..]].concat());
    let item = |(code, bytes, channel): (u8, Vec<u8>, [u8; 32])| {
        let damaged = || StoreError::Corrupt("an outpoint cannot be read".to_owned());
        let network = codec::network_from(code).ok_or_else(damaged)?;
        let outpoint = rows::outpoint_from_bytes(&bytes).ok_or_else(damaged)?;
        Ok(Item::Outpoint { network, outpoint, channel: ChannelId(channel) })
    };
    Ok(Batch { items: found.into_iter().map(item).collect::<Result<_, StoreError>>()?, next })
}

fn all<T>(conn: &Connection, sql: &str, read: impl Fn(&rusqlite::Row<'_>) -> rusqlite::Result<T>) -> Result<Vec<T>, StoreError> {
    let mut statement = conn.prepare_cached(sql).map_err(schema::explain)?;
    statement.query_map([], |row| read(row)).and_then(Iterator::collect).map_err(schema::explain)
}
