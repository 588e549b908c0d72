//! The channel part of the journal: vouchers before they leave, requests before they are sent, books after every fact.
//!
//! Promises, also between processes: a voucher lower than one that was signed for the same outpoint is never recorded; one
//! channel has at most one request in flight; a change that was made on top of older books is refused; coins of a channel's
//! transactions are not spent by any other payment while that transaction can still be accepted.

use super::{Journal, JournalError, ParsedState, millis, optional_text, parsed, spending};
use crate::{
    binding::escrow_v1::SignedVoucher,
    client::{
        channel::{
            account::Account,
            record::{Channel, ChannelTransaction, Event, Flight, FlightState, Phase, Purpose},
        },
        journal::RequestKey,
        policy::{Budget, Over},
    },
    protocol::{
        amount::Amount,
        ids::{ChannelId, Outpoint, PaymentIdentifier, SchnorrSignature, TxId},
        time::UnixMillis,
    },
};
use rusqlite::{Connection, OptionalExtension, Params, Row, Transaction, TransactionBehavior, params};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

pub(super) const SCHEMA: &str = "
    CREATE TABLE channels (
        id TEXT PRIMARY KEY, key_index INTEGER NOT NULL UNIQUE, config TEXT NOT NULL, server TEXT NOT NULL, phase TEXT NOT NULL, why TEXT,
        outpoint_txid TEXT NOT NULL, outpoint_index INTEGER NOT NULL, funding TEXT NOT NULL, charged TEXT NOT NULL, claimed TEXT NOT NULL,
        unknown TEXT NOT NULL, known_daa INTEGER NOT NULL, created_ms INTEGER NOT NULL, replaces TEXT, version INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE vouchers (
        channel TEXT NOT NULL REFERENCES channels (id), outpoint_txid TEXT NOT NULL, outpoint_index INTEGER NOT NULL,
        amount INTEGER NOT NULL, signature TEXT NOT NULL, PRIMARY KEY (channel, outpoint_txid, outpoint_index)
    ) STRICT;
    CREATE TABLE flights (
        channel TEXT NOT NULL REFERENCES channels (id), identifier TEXT NOT NULL, key BLOB NOT NULL, method TEXT NOT NULL, url TEXT NOT NULL,
        attempt TEXT NOT NULL, state TEXT NOT NULL, charge TEXT, receipt TEXT, created_ms INTEGER NOT NULL, PRIMARY KEY (channel, identifier)
    ) STRICT;
    CREATE UNIQUE INDEX one_in_flight ON flights (channel) WHERE state = 'sent';
    CREATE INDEX flights_by_key ON flights (key, state);
    CREATE TABLE channel_transactions (
        txid TEXT PRIMARY KEY, channel TEXT NOT NULL REFERENCES channels (id), purpose TEXT NOT NULL, tx BLOB NOT NULL, live INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE channel_inputs (
        txid TEXT NOT NULL REFERENCES channel_transactions (txid), outpoint_txid TEXT NOT NULL, outpoint_index INTEGER NOT NULL,
        PRIMARY KEY (txid, outpoint_txid, outpoint_index)
    ) STRICT;
    CREATE TABLE channel_moves (
        channel TEXT NOT NULL REFERENCES channels (id), outpoint_txid TEXT NOT NULL, outpoint_index INTEGER NOT NULL,
        PRIMARY KEY (channel, outpoint_txid, outpoint_index)
    ) STRICT;
    CREATE TABLE renewed_offers (
        channel TEXT NOT NULL REFERENCES channels (id), method TEXT NOT NULL, url TEXT NOT NULL, offer TEXT NOT NULL, resource TEXT NOT NULL,
        extensions TEXT NOT NULL, until_ms INTEGER NOT NULL, PRIMARY KEY (channel, method, url)
    ) STRICT;
    CREATE TABLE asked_first (method TEXT NOT NULL, url TEXT NOT NULL, PRIMARY KEY (method, url)) STRICT;
    CREATE TABLE channel_events (channel TEXT NOT NULL REFERENCES channels (id), at_ms INTEGER NOT NULL, words TEXT NOT NULL) STRICT;
    PRAGMA user_version = 2;
";

/// What [`Journal::begin_flight`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Begun {
    /// Durable. It may be sent.
    New,
    /// Another request of this channel is in flight; nothing was written.
    InFlight,
    /// A higher voucher was signed for this outpoint; nothing was written.
    Lower,
    /// The books changed meanwhile; nothing was written.
    Moved,
    /// Another payment holds this coin; nothing was written.
    InputTaken(Outpoint),
    /// The request could cost more than the budget has left; nothing was written.
    OverBudget(Over),
}

/// What [`Journal::open_channel`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Opening {
    /// Durable. The funding transaction may be sent.
    New,
    /// Another payment holds this coin; nothing was written.
    InputTaken(Outpoint),
    /// Another process took this key; nothing was written.
    KeyTaken,
    /// The opening to be replaced is none any more; nothing was written.
    NotReplaceable,
    /// The request could cost more than the budget has left; nothing was written.
    OverBudget(Over),
}

/// An offer that came with a receipt: good for one more request of the same method and URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewed {
    pub channel: ChannelId,
    pub method: String,
    pub url: String,
    pub offer: Value,
    pub resource: Option<Value>,
    pub extensions: Map<String, Value>,
    pub until: UnixMillis,
}

impl Journal {
    /// The first channel key that no channel of this journal has.
    pub fn next_channel_key(&self) -> Result<u32, JournalError> {
        let connection = self.lock();
        Ok(connection.query_row("SELECT COALESCE(MAX(key_index) + 1, 0) FROM channels", [], |row| row.get(0))?)
    }

    /// Records a new channel with its funding transaction and its first request, in one step.
    pub fn open_channel(
        &self,
        channel: &Channel,
        funding: &ChannelTransaction,
        first: &Flight,
        budget: &Budget,
    ) -> Result<Opening, JournalError> {
        self.write(|transaction| {
            let used = "SELECT EXISTS (SELECT 1 FROM channels WHERE key_index = ?1 OR id = ?2)";
            if transaction.query_row(used, params![channel.key_index, channel.id.to_string()], |row| row.get(0))? {
                return Ok(Err(Opening::KeyTaken));
            }
            if let Some(replaced) = &channel.replaces {
                let sql = "UPDATE channels SET phase = 'replaced', version = version + 1 WHERE id = ?1 AND phase = 'opening'";
                if transaction.execute(sql, [replaced.to_string()])? == 0 {
                    return Ok(Err(Opening::NotReplaceable));
                }
                let dead = "UPDATE channel_transactions SET live = 0 WHERE channel = ?1";
                transaction.execute(dead, [replaced.to_string()])?;
                let refused = "UPDATE flights SET state = 'refused' WHERE channel = ?1 AND state IN ('sent', 'given-up')";
                transaction.execute(refused, [replaced.to_string()])?;
                for flight in flights(transaction, "WHERE channel = ?1 AND state = 'refused'", [replaced.to_string()])? {
                    count(transaction, &flight)?;
                }
            }
            if let Some(over) = spending::exceeds(transaction, &purchase(first), budget)? {
                return Ok(Err(Opening::OverBudget(over)));
            }
            if let Some(taken) = taken(transaction, &funding.inputs)? {
                return Ok(Err(Opening::InputTaken(taken)));
            }
            insert_channel(transaction, channel)?;
            insert_transaction(transaction, funding)?;
            put_voucher(transaction, &channel.id, first.attempt.outpoint, &first.attempt.voucher)?;
            put_flight(transaction, first)?;
            Ok(Ok(Opening::New))
        })
    }

    /// Records a request, its voucher, the books with that voucher in them, and a top-up's transaction, before anything is sent.
    /// A row of the same identifier gets this attempt. A renewed offer for it is used up.
    pub fn begin_flight(
        &self,
        channel: &mut Channel,
        flight: &Flight,
        top_up: Option<&ChannelTransaction>,
        budget: &Budget,
    ) -> Result<Begun, JournalError> {
        let begun = self.write(|transaction| {
            if let Some(over) = spending::exceeds(transaction, &purchase(flight), budget)? {
                return Ok(Err(Begun::OverBudget(over)));
            }
            let other = "SELECT EXISTS (SELECT 1 FROM flights WHERE channel = ?1 AND state = 'sent' AND identifier <> ?2)";
            if transaction.query_row(other, params![flight.channel.to_string(), flight.identifier.as_str()], |row| row.get(0))? {
                return Ok(Err(Begun::InFlight));
            }
            if !update_channel(transaction, channel)? {
                return Ok(Err(Begun::Moved));
            }
            if !put_voucher(transaction, &channel.id, flight.attempt.outpoint, &flight.attempt.voucher)? {
                return Ok(Err(Begun::Lower));
            }
            if let Some(top_up) = top_up {
                // An earlier one of the same outpoint and coins excludes this one anyway: the lock on the coins passes on.
                for earlier in transactions(transaction, &channel.id)? {
                    if spends(&earlier) == spends(top_up) && earlier.inputs.iter().all(|input| top_up.inputs.contains(input)) {
                        bury(transaction, earlier.txid)?;
                    }
                }
                if let Some(taken) = taken(transaction, &top_up.inputs)? {
                    return Ok(Err(Begun::InputTaken(taken)));
                }
                insert_transaction(transaction, top_up)?;
            }
            put_flight(transaction, flight)?;
            let used = "DELETE FROM renewed_offers WHERE channel = ?1 AND method = ?2 AND url = ?3";
            transaction.execute(used, params![flight.channel.to_string(), flight.method, flight.url])?;
            Ok(Ok(Begun::New))
        })?;
        if begun == Begun::New {
            channel.version += 1;
        }
        Ok(begun)
    }

    /// Records what became of a request, with the books that follow, the offer that came with it, and a word for the record.
    /// `false`: the books changed meanwhile and nothing was written.
    pub fn end_flight(
        &self,
        channel: &mut Channel,
        flight: &Flight,
        renewed: Option<&Renewed>,
        event: Option<&Event>,
    ) -> Result<bool, JournalError> {
        self.change(channel, event, |transaction| {
            put_flight(transaction, flight)?;
            let Some(Renewed { channel, method, url, offer, resource, extensions, until }) = renewed else { return Ok(()) };
            transaction.execute(
                "INSERT OR REPLACE INTO renewed_offers SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7
                    WHERE NOT EXISTS (SELECT 1 FROM asked_first WHERE method = ?2 AND url = ?3)",
                params![channel.to_string(), method, url, json(offer), json(resource), json(extensions), millis(*until)],
            )?;
            Ok(())
        })
    }

    /// From now on the price of this method and URL is asked for every time: it depends on more than these.
    pub fn ask_first(&self, method: &str, url: &str) -> Result<(), JournalError> {
        self.write(|transaction| {
            transaction.execute("INSERT OR IGNORE INTO asked_first VALUES (?1, ?2)", [method, url])?;
            transaction.execute("DELETE FROM renewed_offers WHERE method = ?1 AND url = ?2", [method, url])?;
            Ok(Ok(()))
        })
    }

    /// Records changed books or another phase. `false`: they changed meanwhile and nothing was written.
    pub fn save_channel(&self, channel: &mut Channel, event: Option<&Event>) -> Result<bool, JournalError> {
        self.change(channel, event, |_| Ok(()))
    }

    /// Records that the escrow moved on from `from`. Transactions of ours that spend it and are not the one that moved it are over.
    pub fn move_channel(&self, channel: &mut Channel, from: Outpoint, by: TxId, event: &Event) -> Result<bool, JournalError> {
        let id = channel.id;
        self.change(channel, Some(event), |transaction| {
            let sql = "INSERT OR IGNORE INTO channel_moves VALUES (?1, ?2, ?3)";
            transaction.execute(sql, params![id.to_string(), from.txid.to_string(), from.index])?;
            for ours in transactions(transaction, &id)? {
                if spends(&ours) == Some(from) && ours.txid != by {
                    bury(transaction, ours.txid)?;
                }
            }
            Ok(())
        })
    }

    /// Records a refund before it is sent, with the phase.
    pub fn begin_refund(&self, channel: &mut Channel, refund: &ChannelTransaction) -> Result<bool, JournalError> {
        self.change(channel, None, |transaction| insert_transaction(transaction, refund))
    }

    fn change(
        &self,
        channel: &mut Channel,
        event: Option<&Event>,
        more: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<bool, JournalError> {
        let changed = self.write(|transaction| {
            if !update_channel(transaction, channel)? {
                return Ok(Err(false));
            }
            more(transaction)?;
            if let Some(Event { at, words }) = event {
                let sql = "INSERT INTO channel_events VALUES (?1, ?2, ?3)";
                transaction.execute(sql, params![channel.id.to_string(), millis(*at), words])?;
            }
            Ok(Ok(true))
        })?;
        channel.version += u64::from(changed);
        Ok(changed)
    }

    /// One atomic step; an inner `Err` is an outcome that writes nothing.
    fn write<T>(&self, step: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<Result<T, T>>) -> Result<T, JournalError> {
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        match step(&transaction)? {
            Ok(done) => {
                transaction.commit()?;
                Ok(done)
            }
            Err(refused) => Ok(refused),
        }
    }

    pub fn channel(&self, id: &ChannelId) -> Result<Option<Channel>, JournalError> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        let found = transaction.query_row(&format!("{CHANNEL} WHERE c.id = ?1"), [id.to_string()], channel).optional()?;
        Ok(found)
    }

    /// Every channel, oldest first.
    pub fn channels(&self) -> Result<Vec<Channel>, JournalError> {
        let connection = self.lock();
        let mut statement = connection.prepare(&format!("{CHANNEL} ORDER BY c.rowid"))?;
        Ok(statement.query_map([], channel)?.collect::<Result<_, _>>()?)
    }

    /// The request of this channel that is in flight.
    pub fn in_flight(&self, id: &ChannelId) -> Result<Option<Flight>, JournalError> {
        let connection = self.lock();
        let sql = format!("{FLIGHT} WHERE channel = ?1 AND state = 'sent'");
        Ok(connection.query_row(&sql, [id.to_string()], flight).optional()?)
    }

    /// The newest payment of this request that is to be taken up again.
    pub fn open_flight(&self, key: &RequestKey) -> Result<Option<Flight>, JournalError> {
        let connection = self.lock();
        let sql = format!("{FLIGHT} WHERE key = ?1 AND state IN ('sent', 'given-up', 'undelivered') ORDER BY rowid DESC LIMIT 1");
        Ok(connection.query_row(&sql, params![key.0], flight).optional()?)
    }

    pub fn flight(&self, id: &ChannelId, identifier: &PaymentIdentifier) -> Result<Option<Flight>, JournalError> {
        let connection = self.lock();
        let sql = format!("{FLIGHT} WHERE channel = ?1 AND identifier = ?2");
        Ok(connection.query_row(&sql, params![id.to_string(), identifier.as_str()], flight).optional()?)
    }

    /// The requests of a channel, newest first.
    pub fn flights(&self, id: &ChannelId, limit: u32) -> Result<Vec<Flight>, JournalError> {
        Ok(flights(&self.lock(), "WHERE channel = ?1 ORDER BY rowid DESC LIMIT ?2", params![id.to_string(), limit])?)
    }

    /// The highest voucher that was ever signed for this outpoint.
    pub fn voucher(&self, id: &ChannelId, outpoint: Outpoint) -> Result<Option<SignedVoucher>, JournalError> {
        let connection = self.lock();
        let sql = "SELECT amount, signature FROM vouchers WHERE channel = ?1 AND outpoint_txid = ?2 AND outpoint_index = ?3";
        let found = connection.query_row(sql, params![id.to_string(), outpoint.txid.to_string(), outpoint.index], |row| {
            Ok(SignedVoucher { amount: whole(row, 0)?, signature: parsed(row, 1, str::parse::<SchnorrSignature>)? })
        });
        Ok(found.optional()?)
    }

    /// The renewed offers of this method and URL that live at `now`.
    pub fn renewed(&self, method: &str, url: &str, now: UnixMillis) -> Result<Vec<Renewed>, JournalError> {
        let connection = self.lock();
        let sql = "SELECT channel, method, url, offer, resource, extensions, until_ms FROM renewed_offers
            WHERE method = ?1 AND url = ?2 AND until_ms > ?3";
        let mut statement = connection.prepare(sql)?;
        let read = |row: &Row<'_>| {
            Ok(Renewed {
                channel: parsed(row, 0, str::parse)?,
                method: row.get(1)?,
                url: row.get(2)?,
                offer: from_json(row, 3)?,
                resource: from_json(row, 4)?,
                extensions: from_json(row, 5)?,
                until: UnixMillis(row.get::<_, i64>(6)?.try_into().unwrap_or_default()),
            })
        };
        Ok(statement.query_map(params![method, url, millis(now)], read)?.collect::<Result<_, _>>()?)
    }

    /// The transactions that this wallet signed for a channel, oldest first.
    pub fn channel_transactions(&self, id: &ChannelId) -> Result<Vec<ChannelTransaction>, JournalError> {
        let mut connection = self.lock();
        Ok(transactions(&connection.transaction()?, id)?)
    }

    /// Whether the escrow was once there and moved on.
    pub fn was_left(&self, id: &ChannelId, outpoint: Outpoint) -> Result<bool, JournalError> {
        let connection = self.lock();
        let sql = "SELECT EXISTS (SELECT 1 FROM channel_moves WHERE channel = ?1 AND outpoint_txid = ?2 AND outpoint_index = ?3)";
        Ok(connection.query_row(sql, params![id.to_string(), outpoint.txid.to_string(), outpoint.index], |row| row.get(0))?)
    }

    /// What was noted of a channel, oldest first.
    pub fn channel_events(&self, id: &ChannelId) -> Result<Vec<Event>, JournalError> {
        let connection = self.lock();
        let mut statement = connection.prepare("SELECT at_ms, words FROM channel_events WHERE channel = ?1 ORDER BY rowid")?;
        let read = |row: &Row<'_>| Ok(Event { at: UnixMillis(row.get::<_, i64>(0)?.try_into().unwrap_or_default()), words: row.get(1)? });
        Ok(statement.query_map([id.to_string()], read)?.collect::<Result<_, _>>()?)
    }
}

const CHANNEL: &str =
    "SELECT c.id, key_index, config, server, phase, why, c.outpoint_txid, c.outpoint_index, funding, charged, claimed, unknown,
    known_daa, created_ms, replaces, version, v.amount, v.signature FROM channels c
    LEFT JOIN vouchers v ON v.channel = c.id AND v.outpoint_txid = c.outpoint_txid AND v.outpoint_index = c.outpoint_index";

const FLIGHT: &str = "SELECT channel, identifier, key, method, url, attempt, state, charge, receipt, created_ms FROM flights";

fn insert_channel(transaction: &Transaction<'_>, channel: &Channel) -> rusqlite::Result<()> {
    let Channel { id, key_index, config, server, phase, why, account, known_daa, created, replaces, version } = channel;
    transaction.execute(
        "INSERT INTO channels VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
        params![
            id.to_string(),
            key_index,
            json(config),
            server,
            phase.as_str(),
            why,
            account.outpoint.txid.to_string(),
            account.outpoint.index,
            account.funding.to_string(),
            account.charged.to_string(),
            account.claimed.to_string(),
            account.unknown.to_string(),
            stored(*known_daa),
            millis(*created),
            replaces.map(|id| id.to_string()),
            stored(*version),
        ],
    )?;
    Ok(())
}

/// Whether the books were still those that `channel` was made from.
fn update_channel(transaction: &Transaction<'_>, channel: &Channel) -> rusqlite::Result<bool> {
    let Account { outpoint, funding, charged, claimed, unknown, .. } = channel.account;
    let changed = transaction.execute(
        "UPDATE channels SET phase = ?3, why = ?4, outpoint_txid = ?5, outpoint_index = ?6, funding = ?7, charged = ?8, claimed = ?9,
            unknown = ?10, known_daa = ?11, version = version + 1 WHERE id = ?1 AND version = ?2",
        params![
            channel.id.to_string(),
            stored(channel.version),
            channel.phase.as_str(),
            channel.why,
            outpoint.txid.to_string(),
            outpoint.index,
            funding.to_string(),
            charged.to_string(),
            claimed.to_string(),
            unknown.to_string(),
            stored(channel.known_daa),
        ],
    )?;
    // A voucher that was learned from the server is kept like one that was signed here and now.
    if changed == 1
        && let Some(signed) = &channel.account.signed
    {
        put_voucher(transaction, &channel.id, outpoint, signed)?;
    }
    Ok(changed == 1)
}

/// Keeps the highest voucher of an outpoint. `false`: a higher one was signed before.
fn put_voucher(
    transaction: &Transaction<'_>,
    id: &ChannelId,
    Outpoint { txid, index }: Outpoint,
    SignedVoucher { amount, signature }: &SignedVoucher,
) -> rusqlite::Result<bool> {
    let changed = transaction.execute(
        "INSERT INTO vouchers VALUES (?1, ?2, ?3, ?4, ?5)
            ON CONFLICT (channel, outpoint_txid, outpoint_index) DO UPDATE SET amount = excluded.amount, signature = excluded.signature WHERE excluded.amount >= amount",
        params![id.to_string(), txid.to_string(), index, stored(amount.sompi()), signature.to_string()],
    )?;
    Ok(changed == 1)
}

fn put_flight(transaction: &Transaction<'_>, flight: &Flight) -> rusqlite::Result<()> {
    transaction.execute(
        "INSERT INTO flights VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
            ON CONFLICT (channel, identifier) DO UPDATE SET attempt = excluded.attempt, state = excluded.state, charge = excluded.charge, receipt = excluded.receipt",
        params![
            flight.channel.to_string(),
            flight.identifier.as_str(),
            flight.key.0,
            flight.method,
            flight.url,
            json(&flight.attempt),
            flight.state.as_str(),
            flight.charge.map(|charge| charge.to_string()),
            flight.receipt,
            millis(flight.created),
        ],
    )?;
    count(transaction, flight)
}

fn flights(connection: &Connection, which: &str, values: impl Params) -> rusqlite::Result<Vec<Flight>> {
    connection.prepare(&format!("{FLIGHT} {which}"))?.query_map(values, flight)?.collect()
}

/// Counts what was bought before there were budgets.
pub(super) fn count_all(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    flights(transaction, "", [])?.iter().try_for_each(|flight| count(transaction, flight))
}

/// What a request costs, or may yet cost.
fn count(transaction: &Transaction<'_>, flight: &Flight) -> rusqlite::Result<()> {
    let purchase = purchase(flight);
    match flight.state {
        FlightState::Refused => spending::remove(transaction, &purchase.id),
        _ => spending::put(transaction, &purchase),
    }
}

fn purchase(flight: &Flight) -> spending::Purchase<'_> {
    let Flight { channel, identifier, url, attempt, charge, created, .. } = flight;
    spending::Purchase { id: format!("{channel} {}", identifier.as_str()), url, amount: charge.unwrap_or(attempt.ceiling), at: *created }
}

/// The escrow output that a transaction of ours spends.
fn spends(ours: &ChannelTransaction) -> Option<Outpoint> {
    match ours.purpose {
        Purpose::Funding { .. } => None,
        Purpose::TopUp { from, .. } | Purpose::Refund { from, .. } => Some(from),
    }
}

/// It can never be accepted any more: its coins are free.
fn bury(transaction: &Transaction<'_>, txid: TxId) -> rusqlite::Result<usize> {
    transaction.execute("UPDATE channel_transactions SET live = 0 WHERE txid = ?1", [txid.to_string()])
}

fn insert_transaction(transaction: &Transaction<'_>, ours: &ChannelTransaction) -> rusqlite::Result<()> {
    let txid = ours.txid.to_string();
    transaction.execute(
        "INSERT INTO channel_transactions VALUES (?1, ?2, ?3, ?4, 1) ON CONFLICT (txid) DO UPDATE SET tx = excluded.tx, live = 1",
        params![txid, ours.channel.to_string(), json(&ours.purpose), ours.bytes],
    )?;
    for input in &ours.inputs {
        transaction
            .execute("INSERT OR IGNORE INTO channel_inputs VALUES (?1, ?2, ?3)", params![txid, input.txid.to_string(), input.index])?;
    }
    Ok(())
}

fn transactions(transaction: &Transaction<'_>, id: &ChannelId) -> rusqlite::Result<Vec<ChannelTransaction>> {
    let sql = "SELECT txid, channel, purpose, tx FROM channel_transactions WHERE channel = ?1 ORDER BY rowid";
    let read = |row: &Row<'_>| {
        Ok(ChannelTransaction {
            txid: parsed(row, 0, str::parse)?,
            channel: parsed(row, 1, str::parse)?,
            purpose: from_json(row, 2)?,
            bytes: row.get(3)?,
            inputs: Vec::new(),
        })
    };
    let mut found = transaction.prepare(sql)?.query_map([id.to_string()], read)?.collect::<Result<Vec<_>, _>>()?;
    for ours in &mut found {
        let mut statement =
            transaction.prepare("SELECT outpoint_txid, outpoint_index FROM channel_inputs WHERE txid = ?1 ORDER BY rowid")?;
        ours.inputs = statement.query_map([ours.txid.to_string()], super::outpoint)?.collect::<Result<_, _>>()?;
    }
    Ok(found)
}

fn taken(transaction: &Transaction<'_>, inputs: &[Outpoint]) -> rusqlite::Result<Option<Outpoint>> {
    let locked = super::locked(transaction)?;
    Ok(inputs.iter().find(|input| locked.contains(input)).copied())
}

fn channel(row: &Row<'_>) -> rusqlite::Result<Channel> {
    let amount = |text: &str| Amount::parse_wire(text);
    let signed = match row.get_ref(16)? {
        rusqlite::types::ValueRef::Null => None,
        _ => Some(SignedVoucher { amount: whole(row, 16)?, signature: parsed(row, 17, str::parse)? }),
    };
    Ok(Channel {
        id: parsed(row, 0, str::parse)?,
        key_index: row.get(1)?,
        config: from_json(row, 2)?,
        server: row.get(3)?,
        phase: parsed(row, 4, |text| ParsedState(Phase::ALL, Phase::as_str).find(text))?,
        why: row.get(5)?,
        account: Account {
            outpoint: Outpoint { txid: parsed(row, 6, str::parse)?, index: row.get(7)? },
            funding: parsed(row, 8, amount)?,
            charged: parsed(row, 9, amount)?,
            claimed: parsed(row, 10, amount)?,
            signed,
            unknown: parsed(row, 11, amount)?,
        },
        known_daa: row.get::<_, i64>(12)?.try_into().unwrap_or_default(),
        created: UnixMillis(row.get::<_, i64>(13)?.try_into().unwrap_or_default()),
        replaces: optional_text(row, 14)?.map(|_| parsed(row, 14, str::parse)).transpose()?,
        version: row.get::<_, i64>(15)?.try_into().unwrap_or_default(),
    })
}

fn flight(row: &Row<'_>) -> rusqlite::Result<Flight> {
    Ok(Flight {
        channel: parsed(row, 0, str::parse)?,
        identifier: parsed(row, 1, PaymentIdentifier::parse)?,
        key: RequestKey(row.get(2)?),
        method: row.get(3)?,
        url: row.get(4)?,
        attempt: from_json(row, 5)?,
        state: parsed(row, 6, |text| ParsedState(FlightState::ALL, FlightState::as_str).find(text))?,
        charge: optional_text(row, 7)?.map(|_| parsed(row, 7, Amount::parse_wire)).transpose()?,
        receipt: row.get(8)?,
        created: UnixMillis(row.get::<_, i64>(9)?.try_into().unwrap_or_default()),
    })
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("records are JSON with string keys")
}

fn from_json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    parsed(row, column, |text| serde_json::from_str(text))
}

/// Money and scores are far below 2^63.
fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn whole(row: &Row<'_>, column: usize) -> rusqlite::Result<Amount> {
    let sompi: i64 = row.get(column)?;
    let amount = u64::try_from(sompi).ok().and_then(|sompi| Amount::from_sompi(sompi).ok());
    amount.ok_or(rusqlite::Error::IntegralValueOutOfRange(column, sompi))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        client::{
            channel::record::{Attempt, Kind},
            wallet::Wallet,
        },
        protocol::{
            ids::{RequestHash, Salt},
            network::Network,
            requirements::{Asset, TemplateId},
        },
    };
    use serde_json::json;

    fn amount(sompi: u64) -> Amount {
        Amount::from_sompi(sompi).unwrap()
    }

    fn outpoint(n: u8) -> Outpoint {
        Outpoint { txid: TxId([n; 32]), index: 1 }
    }

    fn voucher(sompi: u64) -> SignedVoucher {
        SignedVoucher { amount: amount(sompi), signature: SchnorrSignature([u8::try_from(sompi % 251).unwrap(); 64]) }
    }

    fn channel_of(n: u8) -> Channel {
        let wallet = Wallet::from_secret(Network::Simnet, &[7; 32]).unwrap();
        let config = crate::binding::escrow_v1::ChannelConfig {
            network: Network::Simnet,
            asset: Asset::Kas,
            template_id: TemplateId::EscrowV1,
            client_public_key: wallet.channel_key(n.into()).public_key(),
            server_public_key: wallet.public_key(),
            pay_to: wallet.address().to_string(),
            refund_address: wallet.address().to_string(),
            refund_timeout_daa: 500,
            salt: Salt([n; 32]),
        };
        Channel {
            id: config.channel_id(),
            key_index: n.into(),
            config,
            server: "https://shop".into(),
            phase: Phase::Opening,
            why: None,
            account: Account { signed: Some(voucher(10)), ..Account::opened(outpoint(n), amount(1_000)) },
            known_daa: 7,
            created: UnixMillis(8),
            replaces: None,
            version: 1,
        }
    }

    fn flight_of(channel: &Channel, name: char, sompi: u64) -> Flight {
        let account = channel.account;
        Flight {
            channel: channel.id,
            identifier: PaymentIdentifier::parse(&name.to_string().repeat(16)).unwrap(),
            key: RequestKey([u8::try_from(name).unwrap(); 32]),
            method: "GET".into(),
            url: "https://shop/x".into(),
            attempt: Attempt {
                kind: Kind::Voucher,
                header: format!("header-{name}"),
                accepted: json!({"a": 1}),
                resource: Some(json!({"url": "u"})),
                extensions: Map::new(),
                ceiling: amount(5),
                request_hash: RequestHash([1; 32]),
                requirements_hash: RequestHash([2; 32]),
                voucher: voucher(sompi),
                outpoint: account.outpoint,
                funding: account.funding,
                claimed: account.claimed,
                charged: account.charged,
            },
            state: FlightState::Sent,
            charge: None,
            receipt: None,
            created: UnixMillis(9),
        }
    }

    fn funding(channel: &Channel, txid: u8, inputs: &[u8]) -> ChannelTransaction {
        ChannelTransaction {
            txid: TxId([txid; 32]),
            channel: channel.id,
            purpose: Purpose::Funding { fee: amount(3) },
            bytes: vec![txid],
            inputs: inputs.iter().copied().map(outpoint).collect(),
        }
    }

    fn opened(journal: &Journal, n: u8) -> Channel {
        let channel = channel_of(n);
        assert_eq!(
            journal.open_channel(&channel, &funding(&channel, n, &[n + 100]), &flight_of(&channel, 'a', 10), &Budget::default()).unwrap(),
            Opening::New
        );
        channel
    }

    #[test]
    fn what_was_recorded_comes_back_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.sqlite");
        let journal = Journal::open(&path).unwrap();
        let channel = opened(&journal, 1);
        drop(journal);
        let journal = Journal::open(&path).unwrap();
        assert_eq!(journal.channels().unwrap().as_slice(), std::slice::from_ref(&channel));
        let first = flight_of(&channel, 'a', 10);
        assert_eq!(journal.in_flight(&channel.id).unwrap(), Some(first.clone()));
        assert_eq!(journal.open_flight(&first.key).unwrap(), Some(first.clone()));
        assert_eq!(journal.voucher(&channel.id, outpoint(1)).unwrap(), Some(voucher(10)));
        assert_eq!(journal.channel_transactions(&channel.id).unwrap(), [funding(&channel, 1, &[101])]);
        assert!(journal.locked().unwrap().contains(&outpoint(101)));
        assert_eq!(journal.next_channel_key().unwrap(), 2);
        let mut ended = channel.clone();
        ended.account.charged = amount(4);
        let charged = Flight { state: FlightState::Charged, charge: Some(amount(4)), receipt: Some("{}".into()), ..first };
        let renewed = Renewed {
            channel: channel.id,
            method: "GET".into(),
            url: "u".into(),
            offer: json!({"o": 1}),
            resource: None,
            extensions: Map::new(),
            until: UnixMillis(50),
        };
        let event = Event { at: UnixMillis(3), words: "it happened".into() };
        assert!(journal.end_flight(&mut ended, &charged, Some(&renewed), Some(&event)).unwrap());
        assert_eq!(journal.channel(&channel.id).unwrap(), Some(ended.clone()));
        assert_eq!((ended.version, journal.in_flight(&channel.id).unwrap()), (2, None));
        assert_eq!(journal.flights(&channel.id, 9).unwrap(), [charged]);
        assert_eq!(journal.channel_events(&channel.id).unwrap(), [event]);
        assert_eq!(journal.renewed("GET", "u", UnixMillis(49)).unwrap(), [renewed]);
        for (method, url, now) in [("GET", "u", 50), ("POST", "u", 1), ("GET", "v", 1)] {
            assert_eq!(journal.renewed(method, url, UnixMillis(now)).unwrap(), []);
        }
        journal.ask_first("GET", "u").unwrap();
        assert_eq!(journal.renewed("GET", "u", UnixMillis(1)).unwrap(), []);
    }

    #[test]
    fn a_lower_voucher_a_second_request_and_a_change_of_old_books_write_nothing() {
        let journal = Journal::in_memory().unwrap();
        let channel = opened(&journal, 1);
        let second = flight_of(&channel, 'b', 20);
        assert_eq!(journal.begin_flight(&mut channel.clone(), &second, None, &Budget::default()).unwrap(), Begun::InFlight);
        let mut books = channel.clone();
        let done = Flight { state: FlightState::Refused, ..flight_of(&channel, 'a', 10) };
        assert!(journal.end_flight(&mut books, &done, None, None).unwrap());
        assert_eq!(
            journal.begin_flight(&mut channel.clone(), &second, None, &Budget::default()).unwrap(),
            Begun::Moved,
            "on top of older books"
        );
        assert!(!journal.save_channel(&mut channel.clone(), None).unwrap());
        let lower = flight_of(&channel, 'c', 9);
        let mut low = books.clone();
        low.account.signed = Some(voucher(9));
        assert_eq!(journal.begin_flight(&mut low, &lower, None, &Budget::default()).unwrap(), Begun::Lower);
        assert_eq!((journal.in_flight(&channel.id).unwrap(), journal.channel(&channel.id).unwrap()), (None, Some(books.clone())));
        books.account.signed = Some(voucher(20));
        assert_eq!(journal.begin_flight(&mut books, &second, None, &Budget::default()).unwrap(), Begun::New);
        // The same identifier under another offer takes the place of its first attempt.
        let again = Flight { attempt: Attempt { header: "newer".into(), ..second.attempt.clone() }, ..second };
        assert_eq!(journal.begin_flight(&mut books, &again, None, &Budget::default()).unwrap(), Begun::New);
        assert_eq!(journal.in_flight(&channel.id).unwrap(), Some(again));
        assert_eq!(journal.channel(&channel.id).unwrap(), Some(books));
    }

    #[test]
    fn coins_are_taken_once_whatever_pays_with_them() {
        let journal = Journal::in_memory().unwrap();
        let channel = opened(&journal, 1);
        let other = channel_of(2);
        let first = flight_of(&other, 'b', 10);
        assert_eq!(
            journal.open_channel(&other, &funding(&other, 2, &[5, 101]), &first, &Budget::default()).unwrap(),
            Opening::InputTaken(outpoint(101))
        );
        let same_key = Channel { key_index: 1, ..other.clone() };
        assert_eq!(journal.open_channel(&same_key, &funding(&other, 2, &[5]), &first, &Budget::default()).unwrap(), Opening::KeyTaken);
        // What takes the place of an opening may spend its coins; what is open is not replaced.
        let replacing = Channel { replaces: Some(channel.id), ..other.clone() };
        assert_eq!(journal.open_channel(&replacing, &funding(&other, 2, &[101]), &first, &Budget::default()).unwrap(), Opening::New);
        assert_eq!(journal.channel(&channel.id).unwrap().unwrap().phase, Phase::Replaced);
        let third = Channel { replaces: Some(channel.id), ..channel_of(3) };
        let refused = journal.open_channel(&third, &funding(&third, 3, &[101]), &flight_of(&third, 'c', 10), &Budget::default()).unwrap();
        assert_eq!(refused, Opening::NotReplaceable);
    }

    #[test]
    fn a_top_up_holds_its_coin_until_the_escrow_moves_without_it() {
        let journal = Journal::in_memory().unwrap();
        let mut channel = opened(&journal, 1);
        let done = Flight { state: FlightState::Charged, ..flight_of(&channel, 'a', 10) };
        assert!(journal.end_flight(&mut channel, &done, None, None).unwrap());
        let top_up = |txid: u8, inputs: &[u8]| ChannelTransaction {
            purpose: Purpose::TopUp { from: outpoint(1), to: outpoint(txid), takes: amount(1), added: amount(2), funding: amount(3) },
            ..funding(&channel, txid, inputs)
        };
        let (first, same_coin, other_coin) = (top_up(11, &[50]), top_up(12, &[50]), top_up(13, &[51]));
        let mut books = channel.clone();
        let flight = flight_of(&channel, 'b', 10);
        for ours in [&first, &same_coin, &other_coin] {
            assert_eq!(journal.begin_flight(&mut books, &flight, Some(ours), &Budget::default()).unwrap(), Begun::New);
        }
        let stolen = ChannelTransaction { txid: TxId([14; 32]), ..funding(&channel, 14, &[51]) };
        assert_eq!(
            journal.begin_flight(&mut books.clone(), &flight, Some(&stolen), &Budget::default()).unwrap(),
            Begun::InputTaken(outpoint(51))
        );
        let mut locked: Vec<_> = journal.locked().unwrap().into_iter().collect();
        locked.sort();
        assert_eq!(locked, [outpoint(50), outpoint(51), outpoint(101)]);
        let event = Event { at: UnixMillis(1), words: "moved".into() };
        books.account.outpoint = outpoint(13);
        assert!(journal.move_channel(&mut books, outpoint(1), other_coin.txid, &event).unwrap());
        let locked = journal.locked().unwrap();
        assert!(!locked.contains(&outpoint(50)) && locked.contains(&outpoint(51)), "the one that was accepted has spent its coin");
        assert!(journal.was_left(&channel.id, outpoint(1)).unwrap() && !journal.was_left(&channel.id, outpoint(13)).unwrap());
    }

    #[test]
    fn a_journal_of_before_channels_is_taken_over_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.sqlite");
        drop(Journal::open(&path).unwrap());
        let connection = rusqlite::Connection::open(&path).unwrap();
        let tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT IN ('payments', 'inputs')";
        let names: Vec<String> = connection.prepare(tables).unwrap().query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        for name in names.iter().rev() {
            connection.execute_batch(&format!("DROP TABLE {name}")).unwrap();
        }
        connection.pragma_update(None, "user_version", 1).unwrap();
        drop(connection);
        let journal = Journal::open(&path).unwrap();
        opened(&journal, 1);
        assert_eq!(journal.history(9).unwrap(), []);
        drop(journal);
        assert_eq!(Journal::open(&path).unwrap().channels().unwrap().len(), 1);
    }
}
