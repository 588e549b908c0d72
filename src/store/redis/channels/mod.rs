//! Channels in the Redis store.
//!
//! Promises: a paid request is two round trips. The lease is one script, which judges expiry by the server's clock and looks identifier and
//! offer up; it sends the record only when this process does not have it. The charge is judged over that record and written by one script
//! while revision and lease are still the same; else the record is read again and judged again. What is kept in memory ([`cache`]) is never
//! believed by the server.

mod cache;
mod lease;
mod moving;
mod open;
mod read;
mod write;

pub(super) use cache::Cache;

use super::{
    keys::names,
    link::{Effect, Scripts},
    names::Pointed,
    payments::in_time,
    write::Wrote,
    *,
};
use crate::{
    protocol::ids::{ChannelId, PaymentIdentifier, XOnlyKey},
    store::channels::{
        rules::{self, Advance, Hold, Sighted},
        *,
    },
};
use cache::Known;
use std::sync::Arc;

#[async_trait]
impl ChannelStore for RedisStore {
    async fn open_channel(&self, opening: &Opening, now: UnixMillis) -> Result<Opened, StoreError> {
        self.open_or_find(opening, now).await
    }

    async fn lease(&self, ask: &LeaseAsk, now: UnixMillis) -> Result<Leased, StoreError> {
        self.take_lease(ask, now).await
    }

    async fn advance_channel(&self, lease: &Lease, fact: ChannelFact, now: UnixMillis) -> Result<ChannelStep, StoreError> {
        let by = self.link.deadline();
        let place = self.keys.channel(&lease.channel);
        let held = |known: &Known| known.hold.as_ref().is_some_and(|hold| hold.fence == lease.fence);
        let mut remembered = self.cache.get(&lease.channel).filter(held);
        loop {
            let fresh = remembered.is_none();
            let known = match remembered.take() {
                Some(known) => known,
                None => match self.read_channel(&lease.channel, &place, by).await? {
                    Some(known) => known,
                    None => return Ok(ChannelStep::Stale),
                },
            };
            let advance = match rules::advance(&known.record, known.hold.as_ref(), lease.fence, &fact, now) {
                // A lease is durable, and everybody's, by itself: a stream's renewal is written nowhere else.
                Advance::Write(change) if matches!(fact, ChannelFact::Renewed { .. }) => Advance::Done(change.hold),
                advance => advance,
            };
            let step = match advance {
                // What this process remembers may be old; what it just read is not.
                Advance::Stale | Advance::Refused if !fresh => continue,
                Advance::Stale => return Ok(ChannelStep::Stale),
                Advance::Refused => return Ok(ChannelStep::Refused),
                Advance::Done(hold) => match self.change_lease(&place, lease.fence, hold.as_ref(), &fact, by).await? {
                    Wrote::Done => Some(self.cache.put(&lease.channel, Known { hold, ..known })),
                    _ => {
                        self.cache.forget(&lease.channel);
                        return Ok(ChannelStep::Stale);
                    }
                },
                Advance::Write(change) => {
                    if let Some(outpoint) = change.outpoint {
                        let name = self.keys.outpoint((change.record.config.network, outpoint));
                        if let Pointed::Elsewhere = self.point(&name, None, &change.record.id.0, true, by).await? {
                            return Ok(ChannelStep::Refused);
                        }
                    }
                    let response = if let ChannelFact::Committed(charge) = &fact { charge.response.as_ref() } else { None };
                    let next = self.next_revision();
                    let commit = self.changing(&place, &known, &next, &change, response).fenced(lease.fence);
                    match commit.send(self, place.shard, by).await {
                        Ok(Wrote::Done) => {
                            let known = Known { record: Arc::new(change.record), revision: next, hold: change.hold };
                            Some(self.cache.put(&lease.channel, known))
                        }
                        Ok(Wrote::Stale) => {
                            self.cache.forget(&lease.channel);
                            return Ok(ChannelStep::Stale);
                        }
                        Ok(Wrote::Conflict | Wrote::Late) => None,
                        Err(error) => {
                            self.cache.forget(&lease.channel);
                            return Err(error);
                        }
                    }
                }
            };
            if let Some(record) = step {
                return Ok(ChannelStep::Done(record));
            }
            in_time(by)?;
        }
    }

    async fn observe_channel(&self, id: &ChannelId, fact: ChannelSighting, now: UnixMillis) -> Result<Observed, StoreError> {
        let by = self.link.deadline();
        let place = self.keys.channel(id);
        loop {
            let Some(known) = self.read_channel(id, &place, by).await? else { return Ok(Observed::NotFound) };
            let sighted = rules::observe(&known.record, &fact, now);
            let wrote = match sighted.map_err(|error| StoreError::Corrupt(format!("channel {id}: {error}")))? {
                Sighted::Unchanged => {
                    self.cache.put(id, known);
                    return Ok(Observed::Unchanged);
                }
                Sighted::Save(after, rows) => self.save_sighting(&place, &known, *after, &rows, by).await?,
                Sighted::Remove => self.remove_channel(&place, &known, by).await?,
            };
            if wrote == Wrote::Done {
                return Ok(Observed::Done);
            }
            in_time(by)?;
        }
    }

    async fn channel(&self, id: &ChannelId) -> Result<Option<Arc<ChannelRecord>>, StoreError> {
        let found = self.read_channel(id, &self.keys.channel(id), self.link.deadline()).await?;
        Ok(found.map(|known| self.cache.put(id, known)))
    }

    async fn recent_channel(&self, id: &ChannelId) -> Result<Option<Arc<ChannelRecord>>, StoreError> {
        match self.cache.get(id) {
            Some(known) => Ok(Some(known.record)),
            None => self.channel(id).await,
        }
    }

    async fn channels(&self, query: &ChannelQuery) -> Result<Vec<Arc<ChannelRecord>>, StoreError> {
        self.list_channels(query).await
    }

    async fn charge(&self, channel: &ChannelId, identifier: &PaymentIdentifier) -> Result<Option<StoredCharge>, StoreError> {
        self.read_charge(channel, identifier).await
    }

    async fn charges(&self, channel: &ChannelId, after: u64, limit: u32) -> Result<Vec<ChargeRecord>, StoreError> {
        self.read_charges(channel, after, limit).await
    }

    async fn settled_moves(&self, channel: &ChannelId, after: u64, limit: u32) -> Result<Vec<SettledMove>, StoreError> {
        self.read_moves(channel, after, limit).await
    }

    async fn channel_totals(&self) -> Result<ChannelTotals, StoreError> {
        self.sums().await?.channels()
    }

    async fn add_server_key(&self, key: XOnlyKey) -> Result<bool, StoreError> {
        let added = self.single(names::SERVER_KEYS, &[b"SADD", &key.0], self.link.deadline()).await?;
        Ok(reply::number(added)? == 1)
    }
}
