//! Channels and their rows as they leave and arrive with a move (`redis::moving`).

use super::{super::moving::channels_after, read::stored_charge, write::script_target, *};
use crate::store::{
    codec::channels as codec,
    moving::{Batch, Item, Part, Place, number, place},
    redis::{keys::ChannelPlace, write::Commit},
};

/// Channels whose rows are listed at once.
const CHANNELS: u32 = 64;
/// Rows that arrive are sent when there are so many bytes of them.
const SEND: usize = 1 << 20;

impl RedisStore {
    /// Rows of channels by their numbers. The place names a channel (its number, and its id: after a crash two may have one number) and the
    /// last row of it that was listed.
    pub(in crate::store::redis) async fn row_items(&self, part: Part, after: Option<Place>, limit: u32) -> Result<Batch, StoreError> {
        let id = after.as_deref().and_then(|bytes| bytes.get(16..)).and_then(|id| id.try_into().ok()).map_or([0; 32], |id: [u8; 32]| id);
        let (from, after) = ((number(&after, 0), id), number(&after, 1));
        let channels = self.list_channels(&channels_after(from.0.saturating_sub(1), CHANNELS)).await?;
        let all = channels.len() < usize::try_from(CHANNELS).unwrap_or(usize::MAX);
        let place_of = |record: &ChannelRecord, number| [place(&[record.sequence, number]), record.id.0.to_vec()].concat();
        let mut items = Vec::new();
        for record in channels.iter().filter(|record| (record.sequence, record.id.0) >= from) {
            let after = if (record.sequence, record.id.0) == from { after } else { 0 };
            let left = limit.saturating_sub(u32::try_from(items.len()).unwrap_or(u32::MAX));
            let found = match part {
                Part::Moves => self.read_moves(&record.id, after, left).await?.into_iter().map(Item::Move).collect(),
                _ => self.charge_items(&record.id, after, left).await?,
            };
            let listed = u64::try_from(found.len()).unwrap_or(u64::MAX);
            items.extend(found);
            if listed >= u64::from(left) {
                // There may be more of this channel.
                return Ok(Batch { items, next: Some(place_of(record, after.saturating_add(listed))) });
            }
        }
        let next = channels.last().filter(|_| !all).map(|last| place_of(last, u64::MAX));
        Ok(Batch { items, next })
    }

    async fn charge_items(&self, id: &ChannelId, after: u64, limit: u32) -> Result<Vec<Item>, StoreError> {
        let place = self.keys.channel(id);
        let rows = self.rows(&place.charges, after, limit).await?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let responses = self.keys.of(place.shard, names::RESPONSES);
        let places: Vec<_> = rows.iter().map(|(number, _)| place.response(*number)).collect();
        let fields: Vec<&[u8]> = std::iter::once(responses.as_slice()).chain(places.iter().map(Vec::as_slice)).collect();
        let kept = reply::list(self.link.command("HMGET", &fields, Effect::Read, self.link.deadline()).await?)?;
        let item = |((number, row), response)| {
            let charge = stored_charge(id, number, ::redis::Value::BulkString(row), response)?;
            Ok(Item::Charge(Box::new(charge)))
        };
        rows.into_iter().zip(kept).map(item).collect()
    }

    pub(in crate::store::redis) async fn arrive_channel(&self, record: &ChannelRecord, stamp: &[u8]) -> Result<(), StoreError> {
        let (place, by) = (self.keys.channel(&record.id), self.link.deadline());
        let mut commit = self.inserting(&place, &self.next_revision(), record);
        if rules::is_open(record) {
            let script = self.keys.script(&rules::script_key(&record.config));
            let target = [script_target(&record.id, record.deposit.outpoint).as_slice(), stamp].concat();
            let effect = Effect::Durable(script.shard);
            self.link.command("HSET", &[&script.names, &script.name, &target], effect, by).await?;
        } else {
            commit.write("ZREM", self.keys.of(place.shard, names::OPEN), [record.id.0.to_vec()]);
        }
        commit.send(self, place.shard, by).await.map(drop)
    }

    pub(in crate::store::redis) async fn arrive_charges(&self, id: &ChannelId, charges: Vec<StoredCharge>) -> Result<(), StoreError> {
        let place = self.keys.channel(id);
        let rows = charges.into_iter().map(|charge| (charge.record.number, charge)).collect();
        self.arrive_rows(id, &place, &place.charges, rows, |commit, StoredCharge { record, response }| {
            let number = record.number.to_string().into_bytes();
            for key in codec::keys_of(&record) {
                commit.write("ABSENT", place.used.clone(), [key.to_vec()]);
                commit.write("HSET", place.used.clone(), [key.to_vec(), number.clone()]);
            }
            commit.write("RPUSH", place.charges.clone(), [codec::encode_charge(&record)]);
            if let Some(response) = response {
                let encoded = codec::encode_response(&record, &response);
                self.keep_response(commit, place.shard, place.response(record.number), encoded, record.at);
            }
        })
        .await
    }

    pub(in crate::store::redis) async fn arrive_moves(&self, id: &ChannelId, moves: Vec<SettledMove>) -> Result<(), StoreError> {
        let place = self.keys.channel(id);
        let rows = moves.into_iter().map(|row| (row.number, row)).collect();
        self.arrive_rows(id, &place, &place.moves, rows, |commit, row| {
            commit.write("RPUSH", place.moves.clone(), [codec::encode_settled(&row)]);
            commit.write("HSET", place.move_numbers.clone(), [row.txid.0.to_vec(), row.number.to_string().into_bytes()]);
        })
        .await
    }

    /// Appends to a ledger what it has not yet, in the order of the numbers.
    async fn arrive_rows<T>(
        &self,
        id: &ChannelId,
        place: &ChannelPlace,
        ledger: &[u8],
        mut rows: Vec<(u64, T)>,
        append: impl Fn(&mut Commit, T) + Send,
    ) -> Result<(), StoreError>
    where
        T: Send,
    {
        let by = self.link.deadline();
        let early = || StoreError::Corrupt(format!("something of channel {id} arrives before its time"));
        let (record, length): ([&[u8]; 2], [&[u8]; 1]) = ([&place.record, b"r"], [ledger]);
        let read = |name, args| self.link.command(name, args, Effect::Read, by);
        let (revision, length) = tokio::try_join!(read("HGET", &record[..]), read("LLEN", &length[..]))?;
        let (mut revision, mut length) = (reply::maybe_bytes(revision)?.ok_or_else(early)?, reply::number(length)?);
        rows.sort_by_key(|(number, _)| *number);
        let mut rows = rows.into_iter().filter(|(number, _)| *number > length).collect::<Vec<_>>().into_iter().peekable();
        while rows.peek().is_some() {
            let next = self.next_revision();
            let mut commit = Commit::new(place.record.clone(), Some(&revision), Some(&next));
            commit.write("LENGTH", ledger.to_vec(), [length.to_string().into_bytes()]);
            while commit.bytes() < SEND
                && let Some((number, row)) = rows.next()
            {
                length = length.saturating_add(1);
                if number != length {
                    return Err(early());
                }
                append(&mut commit, row);
            }
            if commit.send(self, place.shard, self.link.deadline()).await? != Wrote::Done {
                return Err(StoreError::Unavailable("another move writes into the same store".to_owned()));
            }
            revision = next;
        }
        Ok(())
    }
}
