//! The Redis store as either end of a move (`store::moving`).
//!
//! Its mark lies in every shard, so that each script that writes finds it in its own slot, without another round trip: a gateway that still
//! runs is stopped by its next step, whatever it had in memory. Shard 0's is the one that counts: set first and removed last.

use super::{
    keys::names,
    link::{Effect, Scripts},
    write::Wrote,
    *,
};
use crate::{
    protocol::ids::{ChannelId, TxId, XOnlyKey},
    store::{
        channels::{ChannelQuery, ChannelSelection, ChannelStore, OutpointKey},
        codec::{self, Kind},
        moving::{Batch, Item, Mark, Moving, Part, Place, number, place},
    },
};
use futures::future::try_join_all;
use std::collections::BTreeMap;

/// Items on their way to the server at the same time.
const AT_ONCE: usize = 32;
/// Names read at once.
const SCAN: &[u8] = b"1000";
const STAMP: usize = 16;

/// When a charge was booked back, and by which transaction.
pub(super) type Reversal = (UnixMillis, Option<TxId>);

pub(super) fn encode_mark(mark: &Mark) -> Vec<u8> {
    match mark {
        Mark::Left { to } => format!("left {to}"),
        Mark::Arriving { from } => format!("arriving {from}"),
    }
    .into_bytes()
}

fn decode_mark(text: &str) -> Option<Mark> {
    let (word, name) = text.split_once(' ')?;
    match word {
        "left" => Some(Mark::Left { to: name.to_owned() }),
        "arriving" => Some(Mark::Arriving { from: name.to_owned() }),
        _ => None,
    }
}

/// What a script that found the mark answers.
pub(super) fn refusal(mark: &str) -> StoreError {
    decode_mark(mark).map_or_else(|| StoreError::Moved("this store has moved".to_owned()), |mark| mark.refusal())
}

pub(super) fn encode_reversal(key: &PaymentKey, (at, by): Reversal) -> Vec<u8> {
    codec::encode(Kind::Reversal, &codec::key_bytes(key), &(at.0, by.map(|by| by.0)))
}

#[async_trait]
impl Moving for RedisStore {
    async fn mark(&self) -> Result<Option<Mark>, StoreError> {
        let found = self.link.command("GET", &[&self.keys.of(0, names::MARK)], Effect::Read, self.link.deadline()).await?;
        let Some(text) = reply::maybe_bytes(found)? else { return Ok(None) };
        let mark = std::str::from_utf8(&text).ok().and_then(decode_mark);
        mark.map(Some).ok_or_else(|| StoreError::Corrupt("the mark of a move cannot be read".to_owned()))
    }

    async fn set_mark(&self, mark: Option<Mark>) -> Result<(), StoreError> {
        let text = mark.as_ref().map(encode_mark);
        let set = |shard| {
            let (key, text, by) = (self.keys.of(shard, names::MARK), text.clone(), self.link.deadline());
            async move {
                let effect = Effect::Durable(shard);
                let done = match text {
                    Some(text) => self.link.command("SET", &[&key, &text], effect, by).await,
                    None => self.link.command("DEL", &[&key], effect, by).await,
                };
                done.map(drop)
            }
        };
        if text.is_some() {
            set(0).await?;
        }
        try_join_all(self.keys.all().filter(|shard| *shard != 0).map(set)).await?;
        if text.is_none() {
            set(0).await?;
        }
        Ok(())
    }

    async fn items(&self, part: Part, after: Option<Place>, limit: u32) -> Result<Batch, StoreError> {
        match part {
            Part::Payments => self.payment_items(number(&after, 0), limit).await,
            Part::Channels => {
                let query = channels_after(number(&after, 0), limit);
                let found = ChannelStore::channels(self, &query).await?;
                let next = found.last().map(|last| place(&[last.sequence]));
                Ok(Batch { items: found.into_iter().map(Item::Channel).collect(), next })
            }
            Part::Charges | Part::Moves => self.row_items(part, after, limit).await,
            // A shard at once: the server lists names in no order, and some of them twice.
            Part::Outpoints => self.outpoint_items(number(&after, 0)).await,
            Part::ServerKeys => {
                let keys = self.keys.of(0, names::SERVER_KEYS);
                let found = reply::list(self.link.command("SMEMBERS", &[&keys], Effect::Read, self.link.deadline()).await?)?;
                let item = |key| {
                    let key = reply::bytes(key)?.try_into().map_err(|_| StoreError::Corrupt("a server key cannot be read".to_owned()))?;
                    Ok(Item::ServerKey(XOnlyKey(key)))
                };
                Ok(Batch { items: found.into_iter().map(item).collect::<Result<_, StoreError>>()?, next: None })
            }
        }
    }

    async fn arrive(&self, items: Vec<Item>) -> Result<(), StoreError> {
        let by = self.link.deadline();
        let stamp = format!("{:016}", self.server_millis(by).await?).into_bytes();
        let (mut payments, mut found, mut outpoints) = (Vec::new(), Vec::new(), Vec::new());
        let (mut charges, mut moves): (BTreeMap<ChannelId, Vec<_>>, BTreeMap<ChannelId, Vec<_>>) = Default::default();
        for item in items {
            match item {
                Item::Payment { record, response, reversed } => payments.push((record, response, reversed)),
                Item::Channel(record) => found.push(record),
                Item::Charge(charge) => charges.entry(charge.record.channel).or_default().push(*charge),
                Item::Move(row) => moves.entry(row.channel).or_default().push(row),
                Item::Outpoint { network, outpoint, channel } => outpoints.push(((network, outpoint), channel)),
                Item::ServerKey(key) => ChannelStore::add_server_key(self, key).await.map(drop)?,
            }
        }
        // Of two payments of one identifier the later one has it.
        payments.sort_by_key(|(record, ..)| record.sequence);
        for (record, ..) in &payments {
            self.name_payment(record, &stamp).await?;
        }
        for some in payments.chunks(AT_ONCE) {
            try_join_all(some.iter().map(|(record, response, reversed)| self.arrive_payment(record, response.as_ref(), *reversed))).await?;
        }
        for some in found.chunks(AT_ONCE) {
            try_join_all(some.iter().map(|record| self.arrive_channel(record, &stamp))).await?;
        }
        for (counter, last) in [
            (names::PAYMENT_COUNT, payments.iter().map(|(record, ..)| record.sequence).max()),
            (names::CHANNEL_COUNT, found.iter().map(|record| record.sequence).max()),
        ] {
            if let Some(last) = last {
                self.single(counter, &[b"RAISE", last.to_string().as_bytes()], self.link.deadline()).await?;
            }
        }
        for (id, rows) in charges {
            self.arrive_charges(&id, rows).await?;
        }
        for (id, rows) in moves {
            self.arrive_moves(&id, rows).await?;
        }
        for some in outpoints.chunks(AT_ONCE) {
            try_join_all(some.iter().map(|(at, channel)| self.arrive_outpoint(*at, channel, &stamp))).await?;
        }
        Ok(())
    }
}

pub(super) fn channels_after(after: u64, limit: u32) -> ChannelQuery {
    ChannelQuery { selection: ChannelSelection::All, after, limit }
}

impl RedisStore {
    async fn payment_items(&self, after: u64, limit: u32) -> Result<Batch, StoreError> {
        let records = self.list_payments(&Query { selection: Selection::All, after, limit }).await?;
        let next = records.last().map(|last| place(&[last.sequence]));
        let mut items = Vec::with_capacity(records.len());
        for some in records.chunks(AT_ONCE) {
            items.extend(try_join_all(some.iter().map(|record| self.payment_item(record))).await?);
        }
        Ok(Batch { items, next })
    }

    async fn payment_item(&self, record: &PaymentRecord) -> Result<Item, StoreError> {
        let (key, by) = (&record.key, self.link.deadline());
        let place = self.keys.payment(key);
        let responses = self.keys.of(place.shard, names::RESPONSES);
        let (response, booked): ([&[u8]; 2], [&[u8]; 2]) = ([&responses, &place.response], [&place.record, b"b"]);
        let read = |args| self.link.command("HGET", args, Effect::Read, by);
        let (response, booked) = tokio::try_join!(read(&response), read(&booked))?;
        let response = reply::maybe_bytes(response)?.map(|bytes| codec::decode_response(key, &bytes)).transpose()?;
        let booked = reply::maybe_bytes(booked)?.map(|bytes| {
            let name = || format!("reversal of payment {}", key.txid);
            let (at, by): (u64, Option<[u8; 32]>) = codec::decode(Kind::Reversal, &codec::key_bytes(key), &bytes, name)?;
            Ok::<_, StoreError>((UnixMillis(at), by.map(TxId)))
        });
        Ok(Item::Payment { record: Box::new(record.clone()), response, reversed: booked.transpose()? })
    }

    async fn outpoint_items(&self, shard: u64) -> Result<Batch, StoreError> {
        let Some(shard) = self.keys.all().find(|known| u64::from(*known) == shard) else { return Ok(Batch::default()) };
        let key = self.keys.of(shard, names::OUTPOINTS);
        let (mut found, mut cursor) = (BTreeMap::new(), b"0".to_vec());
        loop {
            let by = self.link.deadline();
            let mut parts = reply::Parts::of(self.link.command("HSCAN", &[&key, &cursor, b"COUNT", SCAN], Effect::Read, by).await?)?;
            cursor = reply::bytes(parts.next())?;
            let mut names = reply::list(parts.next())?.into_iter();
            while let (Some(name), Some(target)) = (names.next(), names.next()) {
                found.insert(reply::bytes(name)?, reply::bytes(target)?);
            }
            if cursor == b"0" {
                break;
            }
        }
        let item = |(name, target): (Vec<u8>, Vec<u8>)| {
            let read = || {
                let (code, outpoint) = name.split_first()?;
                let channel = target.first_chunk().filter(|id| target.len() == id.len() + STAMP)?;
                let (network, outpoint) = (codec::network_from(*code)?, codec::channels::outpoint_from_bytes(outpoint)?);
                Some(Item::Outpoint { network, outpoint, channel: ChannelId(*channel) })
            };
            read().ok_or_else(|| StoreError::Corrupt("an outpoint cannot be read".to_owned()))
        };
        let items = found.into_iter().map(item).collect::<Result<_, StoreError>>()?;
        Ok(Batch { items, next: Some(place(&[u64::from(shard) + 1])) })
    }

    async fn name_payment(&self, record: &PaymentRecord, stamp: &[u8]) -> Result<(), StoreError> {
        let Some(identifier) = &record.identifier else { return Ok(()) };
        let name = self.keys.identifier(record.key.network, identifier);
        let target = [codec::key_bytes(&record.key).as_slice(), stamp].concat();
        let effect = Effect::Durable(name.shard);
        self.link.command("HSET", &[&name.names, &name.name, &target], effect, self.link.deadline()).await.map(drop)
    }

    async fn arrive_payment(
        &self,
        record: &PaymentRecord,
        response: Option<&StoredResponse>,
        reversed: Option<Reversal>,
    ) -> Result<(), StoreError> {
        let place = self.keys.payment(&record.key);
        let mut commit = self.arriving(&place, record);
        if let Some(reversed) = reversed {
            commit.write("HSET", place.record.clone(), [b"b".to_vec(), encode_reversal(&record.key, reversed)]);
        }
        if let Some(response) = response {
            let at = record.delivered_at.unwrap_or(record.claimed_at);
            let encoded = codec::encode_response(&record.key, response);
            self.keep_response(&mut commit, place.shard, place.response.clone(), encoded, at);
        }
        arrived(commit.send(self, place.shard, self.link.deadline()).await?)
    }

    async fn arrive_outpoint(&self, at: OutpointKey, channel: &ChannelId, stamp: &[u8]) -> Result<(), StoreError> {
        let name = self.keys.outpoint(at);
        let target = [channel.0.as_slice(), stamp].concat();
        let effect = Effect::Durable(name.shard);
        self.link.command("HSETNX", &[&name.names, &name.name, &target], effect, self.link.deadline()).await.map(drop)
    }

    /// Makes a new store under the id of another one, marked from its beginning, on a server that is fit for it. Whether it was made.
    pub async fn create_arriving(options: &Options, id: StoreId, from: &str) -> Result<bool, OpenError> {
        let link = Link::new(options)?;
        let by = link.deadline();
        demands::examine(&link, options.durability, options.replicas, by).await?.map_err(OpenError::Unfit)?;
        let keys = Keys::new(&options.prefix, 1);
        let mark = encode_mark(&Mark::Arriving { from: from.to_owned() });
        let fields =
            [start::VERSION.as_bytes().to_vec(), options.shards.max(1).to_string().into_bytes(), hex::encode(id.0).into_bytes(), mark];
        let keys = [keys.of(0, names::STORE), keys.of(0, names::MARK)];
        let made = link.script(&Scripts::get().arriving, &keys, &fields, Effect::Durable(0), by).await?;
        Ok(reply::number(made)? == 1)
    }
}

/// What is there came with an earlier attempt.
fn arrived(wrote: Wrote) -> Result<(), StoreError> {
    match wrote {
        Wrote::Done | Wrote::Conflict => Ok(()),
        Wrote::Stale | Wrote::Late => Err(StoreError::Corrupt("a record that arrives is under a lease".to_owned())),
    }
}
