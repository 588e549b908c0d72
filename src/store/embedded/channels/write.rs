//! The steps of channels as SQL, inside the transaction of their group.
//!
//! The rules were asked before, over the record in memory; what is written here finds that record on the disk or writes nothing
//! ([`Wrote::Conflict`]), for another process may have been there; a logged charge looks only where one has been. Called by the writer thread only.

use super::{
    codec::{self, OutpointBytes, UsedKey},
    read::{self, Versioned},
};
use crate::{
    protocol::{
        ids::{ChannelId, Outpoint, XOnlyKey},
        network::Network,
        time::UnixMillis,
    },
    store::{
        StoreError, StoredResponse,
        channels::{
            rules::{self, Found, Open, StreamLease},
            *,
        },
        embedded::{
            codec::network_code,
            verbs::{Step, column},
        },
    },
};

/// What one step writes, encoded before it waits for its turn.
#[derive(Debug)]
pub(super) struct Write {
    pub sequence: u64,
    /// Of the record that the step was judged by.
    pub revision: u64,
    pub accounts: Vec<u8>,
    chain: Option<(bool, Vec<u8>)>,
    charge: Option<ChargeWrite>,
    outpoint: Option<(u8, OutpointBytes, ChannelId)>,
    stream: Option<StreamLease>,
    settled: Vec<SettledMove>,
    /// No longer kept from others.
    script: Option<[u8; 32]>,
    pub sums: (ChannelTotals, ChannelTotals),
}

#[derive(Debug)]
pub(super) struct ChargeWrite {
    pub number: u64,
    pub at: UnixMillis,
    pub record: Vec<u8>,
    /// Of its identifier and of its offer.
    pub keys: [UsedKey; 2],
    pub response: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrote {
    Done,
    /// The record on the disk is another: nothing was written.
    Conflict,
    /// The outpoint belongs to another channel: nothing was written.
    OutpointInUse,
}

#[derive(Debug)]
pub(super) enum OpenedAs {
    New(Versioned),
    Known(Versioned),
    OutpointInUse,
    ScriptInUse,
}

impl ChargeWrite {
    fn of(charge: &ChargeRecord, response: Option<&StoredResponse>) -> Self {
        Self {
            number: charge.number,
            at: charge.at,
            record: codec::encode_charge(charge),
            keys: codec::keys_of(charge),
            response: response.map(|response| codec::encode_response(charge, response)),
        }
    }
}

impl Write {
    pub fn of(before: &ChannelRecord, revision: u64, after: &ChannelRecord) -> Self {
        let parts = |record: &ChannelRecord| (record.before, record.closure);
        let chain = before.deposit != after.deposit || before.moves != after.moves || parts(before) != parts(after);
        Self {
            sequence: before.sequence,
            revision,
            accounts: codec::encode_accounts(after),
            chain: chain.then(|| (rules::is_open(after), codec::encode_chain(after))),
            charge: None,
            outpoint: None,
            stream: None,
            settled: Vec::new(),
            script: (rules::is_open(before) && !rules::is_open(after)).then(|| rules::script_key(&after.config)),
            sums: (rules::contribution(before), rules::contribution(after)),
        }
    }

    pub fn with_charge(self, charge: &ChargeRecord, response: Option<&StoredResponse>) -> Self {
        Self { charge: Some(ChargeWrite::of(charge, response)), ..self }
    }

    pub fn with_outpoint(self, record: &ChannelRecord, outpoint: Outpoint) -> Self {
        Self { outpoint: Some((network_code(record.config.network), codec::outpoint_bytes(outpoint), record.id)), ..self }
    }

    pub fn with_stream(self, lease: StreamLease) -> Self {
        Self { stream: Some(lease), ..self }
    }

    pub fn with_settled(self, settled: Vec<SettledMove>) -> Self {
        Self { settled, ..self }
    }

    /// The charge, when nothing else but the accounts changes with it.
    fn plain_charge(&self) -> Option<&ChargeWrite> {
        let Self { chain: None, outpoint: None, stream: None, settled, script: None, charge, .. } = self else { return None };
        charge.as_ref().filter(|_| settled.is_empty())
    }

    /// What the channel has used up once this is written.
    pub fn keys(&self) -> impl Iterator<Item = UsedKey> {
        self.charge.iter().flat_map(|charge| charge.keys)
    }
}

impl Step<'_> {
    pub(super) fn write_channel(&mut self, write: &Write) -> Result<Wrote, StoreError> {
        if let Some(charge) = write.plain_charge() {
            return self.log_charge(write, charge);
        }
        self.fold_charges()?;
        if let Some((network, outpoint, id)) = &write.outpoint
            && read::owner(self.conn, *network, outpoint)?.is_some_and(|owner| owner != *id)
        {
            return Ok(Wrote::OutpointInUse);
        }
        let sql = "UPDATE channel_accounts SET revision = revision + 1, record = ?3 WHERE sequence = ?1 AND revision = ?2";
        if self.execute(sql, (write.sequence, write.revision, &write.accounts))? == 0 {
            return Ok(Wrote::Conflict);
        }
        if let Some((open, chain)) = &write.chain {
            self.execute("UPDATE channel_chain SET open = ?2, record = ?3 WHERE sequence = ?1", (write.sequence, open, chain))?;
        }
        if let Some((network, outpoint, id)) = &write.outpoint {
            self.set_outpoint(*network, outpoint, id)?;
        }
        if let Some(StreamLease { holder, until }) = write.stream {
            let sql = "INSERT OR REPLACE INTO stream_leases (sequence, holder, until_millis) VALUES (?1, ?2, ?3)";
            self.execute(sql, (write.sequence, holder.0, column(until.0)))?;
        }
        if let Some(script) = &write.script {
            self.execute("DELETE FROM scripts WHERE script = ?1", [script])?;
        }
        for row in &write.settled {
            self.settle(write.sequence, row)?;
        }
        if let Some(charge) = &write.charge {
            self.insert_charge(write.sequence, charge)?;
        }
        self.shift_channels(write.sums.0, write.sums.1)?;
        Ok(Wrote::Done)
    }

    fn insert_charge(&mut self, sequence: u64, charge: &ChargeWrite) -> Result<(), StoreError> {
        let response = self.insert_response(charge)?;
        self.execute(
            "INSERT INTO charges (channel, number, response, record) VALUES (?1, ?2, ?3, ?4)",
            (sequence, charge.number, response, &charge.record),
        )?;
        for key in charge.keys {
            // The lease looked before: a key that is there all the same is damage.
            let sql = "INSERT OR IGNORE INTO charge_keys (channel, key, number) VALUES (?1, ?2, ?3)";
            if self.execute(sql, (sequence, key, charge.number))? == 0 {
                return Err(StoreError::Corrupt(format!("channel number {sequence} charges an identifier or an offer for a second time")));
            }
        }
        Ok(())
    }

    /// The number of the stored answer, when there is one.
    pub(super) fn insert_response(&mut self, charge: &ChargeWrite) -> Result<Option<u64>, StoreError> {
        let Some(record) = &charge.response else { return Ok(None) };
        let response = self.head.response_sequence + 1;
        self.head.response_sequence = response;
        self.execute(
            "INSERT INTO charge_responses (sequence, at_millis, record) VALUES (?1, ?2, ?3)",
            (response, column(charge.at.0), record),
        )?;
        Ok(Some(response))
    }

    /// Inserts or replaces the row of a move; its number and its first moment stay.
    fn settle(&mut self, sequence: u64, row: &SettledMove) -> Result<(), StoreError> {
        let row = match read::settled_move(self.conn, sequence, row)? {
            Some(known) if known.state == row.state => return Ok(()),
            Some(known) => SettledMove { state: row.state, ..known },
            None => SettledMove { number: read::last_settled_number(self.conn, sequence)? + 1, ..row.clone() },
        };
        self.execute(
            "INSERT OR REPLACE INTO settled_moves (channel, number, txid, record) VALUES (?1, ?2, ?3, ?4)",
            (sequence, row.number, row.txid.0, codec::encode_settled(&row)),
        )
        .map(drop)
    }

    pub(super) fn open_channel(&mut self, opening: &Opening, now: UnixMillis) -> Result<OpenedAs, StoreError> {
        let (network, outpoint) = (network_code(opening.config.network), codec::outpoint_bytes(opening.outpoint));
        let script = rules::script_key(&opening.config);
        let known = read::channel(self.conn, &opening.id)?;
        let found = Found {
            owner: read::owner(self.conn, network, &outpoint)?,
            known: known.as_ref().map(|known| &known.record),
            script: read::script(self.conn, &script)?,
        };
        Ok(match (rules::open(opening, found, self.head.channel_sequence + 1, now), known) {
            (Open::New(record), _) => {
                self.head.channel_sequence = record.sequence;
                self.set_outpoint(network, &outpoint, &record.id)?;
                self.execute("INSERT INTO scripts (script, channel) VALUES (?1, ?2)", (script, record.id.0))?;
                self.insert_channel(&record)?;
                OpenedAs::New(Versioned { record: *record, revision: 0 })
            }
            (Open::Known, Some(known)) => OpenedAs::Known(known),
            (Open::ScriptInUse, _) => OpenedAs::ScriptInUse,
            (Open::OutpointInUse | Open::Known, _) => OpenedAs::OutpointInUse,
        })
    }

    fn insert_channel(&mut self, record: &ChannelRecord) -> Result<(), StoreError> {
        let sequence = record.sequence;
        let terms = codec::encode_terms(record);
        self.execute("INSERT INTO channels (sequence, id, terms) VALUES (?1, ?2, ?3)", (sequence, record.id.0, terms))?;
        self.execute(
            "INSERT INTO channel_accounts (sequence, revision, record) VALUES (?1, 0, ?2)",
            (sequence, codec::encode_accounts(record)),
        )?;
        self.execute(
            "INSERT INTO channel_chain (sequence, open, record) VALUES (?1, ?2, ?3)",
            (sequence, rules::is_open(record), codec::encode_chain(record)),
        )?;
        self.shift_channels(ChannelTotals::default(), rules::contribution(record))
    }

    /// Forgets a channel that never was; its outpoint stays its own.
    pub(super) fn remove_channel(&mut self, record: &ChannelRecord, revision: u64) -> Result<Wrote, StoreError> {
        let sequence = record.sequence;
        self.fold_charges()?;
        if self.execute("DELETE FROM channel_accounts WHERE sequence = ?1 AND revision = ?2", (sequence, revision))? == 0 {
            return Ok(Wrote::Conflict);
        }
        self.execute("DELETE FROM channel_chain WHERE sequence = ?1", [sequence])?;
        self.execute("DELETE FROM channels WHERE sequence = ?1", [sequence])?;
        self.execute("DELETE FROM scripts WHERE script = ?1", [rules::script_key(&record.config)])?;
        self.shift_channels(rules::contribution(record), ChannelTotals::default())?;
        Ok(Wrote::Done)
    }

    /// A channel of another store, as it was there.
    pub(in crate::store::embedded) fn arrive_channel(&mut self, record: &ChannelRecord) -> Result<(), StoreError> {
        if rules::is_open(record) {
            let script = rules::script_key(&record.config);
            self.execute("INSERT INTO scripts (script, channel) VALUES (?1, ?2)", (script, record.id.0))?;
        }
        self.insert_channel(record)
    }

    pub(in crate::store::embedded) fn arrive_charge(&mut self, stored: &StoredCharge) -> Result<(), StoreError> {
        let StoredCharge { record, response } = stored;
        let sequence = self.arrived(&record.channel)?;
        if read::is_used(self.conn, sequence, &codec::identifier_key(&record.terms.identifier))? {
            return Ok(());
        }
        let charge = ChargeWrite::of(record, response.as_ref());
        self.insert_charge(sequence, &charge)
    }

    pub(in crate::store::embedded) fn arrive_move(&mut self, row: &SettledMove) -> Result<(), StoreError> {
        let sequence = self.arrived(&row.channel)?;
        self.execute(
            "INSERT OR REPLACE INTO settled_moves (channel, number, txid, record) VALUES (?1, ?2, ?3, ?4)",
            (sequence, row.number, row.txid.0, codec::encode_settled(row)),
        )
        .map(drop)
    }

    pub(in crate::store::embedded) fn arrive_outpoint(&mut self, network: Network, at: Outpoint, id: &ChannelId) -> Result<(), StoreError> {
        self.set_outpoint(network_code(network), &codec::outpoint_bytes(at), id)
    }

    fn arrived(&self, id: &ChannelId) -> Result<u64, StoreError> {
        let known = read::channel(self.conn, id)?.map(|known| known.record.sequence);
        known.ok_or_else(|| StoreError::Corrupt(format!("something of channel {id} arrives before the channel")))
    }

    pub(super) fn add_server_key(&mut self, key: XOnlyKey) -> Result<bool, StoreError> {
        Ok(self.execute("INSERT OR IGNORE INTO server_keys (key) VALUES (?1)", [key.0])? == 1)
    }

    /// Set once: an entry that is there is this channel's.
    fn set_outpoint(&mut self, network: u8, outpoint: &OutpointBytes, id: &ChannelId) -> Result<(), StoreError> {
        let sql = "INSERT OR IGNORE INTO outpoints (network, outpoint, channel) VALUES (?1, ?2, ?3)";
        self.execute(sql, (network, outpoint, id.0)).map(drop)
    }

    pub(super) fn shift_channels(&mut self, before: ChannelTotals, after: ChannelTotals) -> Result<(), StoreError> {
        let totals = rules::shifted(self.head.channel_totals(), before, after);
        let totals = totals.ok_or_else(|| StoreError::Corrupt("the store's sums do not cover its channels".to_owned()))?;
        self.head.set_channel_totals(totals);
        Ok(())
    }
}
