//! Channels in the embedded store.
//!
//! Promises: of one channel one step at a time; a step is judged over the record as it is on the disk, which is kept in memory
//! ([`cache`]), and written by the writer thread in one transaction with its group. `channel` and `lease` of a channel in use, for an
//! identifier and an offer that were never seen, touch neither disk nor thread; all other answers come from the disk.

mod cache;
mod log;
mod read;
mod write;

pub(super) use cache::Cache;
#[cfg(test)]
pub(super) use cache::Limits;
pub(super) use codec::{UsedKey, keys_of, outpoint_bytes, outpoint_from_bytes};
pub(super) use read::{
    Versioned, channel, channels, charge, charges, end_stream_leases, is_used, owner, revision, script, settled_moves, stored_charges,
    stream_lease, used_keys,
};

use super::EmbeddedStore;
use crate::{
    protocol::{
        ids::{ChannelId, PaymentIdentifier, XOnlyKey},
        time::UnixMillis,
    },
    store::{
        Observed, StoreError, StoredResponse,
        channels::{
            rules::{self, Advance, Change, Sighted},
            *,
        },
        codec::channels as codec,
    },
};
use async_trait::async_trait;
use cache::{Cached, Taken};
use std::sync::Arc;
use write::{OpenedAs, Write, Wrote};

impl EmbeddedStore {
    /// The channel's turn with its record in it; `None` when there is no such channel.
    async fn turn(&self, id: &ChannelId) -> Result<Option<Taken>, StoreError> {
        let mut taken = self.channels.take(id).await;
        if taken.turn.cached.is_none() {
            let read = self.reader.versioned(id).await;
            match read {
                Ok(Some(read)) => drop(taken.put_read(read)),
                missing => {
                    // A lease of what cannot be read blocks it all the same.
                    if taken.turn.hold.is_none() || matches!(missing, Ok(None)) {
                        self.channels.retire(taken);
                    }
                    return missing.map(|_| None);
                }
            }
        }
        Ok(Some(taken))
    }

    /// Gives up the slot of what turned out not to be a channel.
    async fn tidy(&self, id: &ChannelId) {
        if self.channels.record(id).is_none() {
            let taken = self.channels.take(id).await;
            if taken.turn.cached.is_none() && taken.turn.hold.is_none() {
                self.channels.retire(taken);
            }
        }
    }

    /// Answers what was used before; `None` for what never was.
    async fn replay(&self, taken: &mut Taken, request: &Purpose) -> Result<Option<Leased>, StoreError> {
        let (Purpose::Request { identifier, nonce, identity }, Some(cached)) = (request, &mut taken.turn.cached) else { return Ok(None) };
        let sequence = cached.record.sequence;
        let used = match &mut cached.used {
            Some(used) => used,
            unread => {
                let limit = u32::try_from(self.channels.channel_prints()).unwrap_or(u32::MAX).saturating_add(1);
                unread.insert(self.channels.prints(&self.reader.used_keys(sequence, limit).await?))
            }
        };
        let [by_identifier, by_nonce] = [codec::identifier_key(identifier), codec::nonce_key(nonce)];
        if used.may_contain(&by_identifier)
            && let Some(charge) = self.reader.charge(&taken.id, identifier).await?
        {
            return Ok(Some(rules::charged_before(charge, identity)));
        }
        let reused = used.may_contain(&by_nonce) && self.reader.is_used(sequence, by_nonce).await?;
        Ok(reused.then_some(Leased::NonceReused))
    }

    /// Writes a step and, once it is durable, shows it. The turn goes with it: whoever waits for the answer may leave.
    async fn write<T: Send + 'static>(
        &self,
        mut taken: Taken,
        cached: Cached,
        after: Arc<ChannelRecord>,
        write: Arc<Write>,
        then: impl FnOnce(&mut Taken, Wrote, Arc<ChannelRecord>) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let done = {
            let write = write.clone();
            move |outcome: Result<Wrote, StoreError>| {
                let Cached { record: before, revision, mut used } = cached;
                let mut shown = before.clone();
                match &outcome {
                    Ok(Wrote::Done) => {
                        if let Some(used) = &mut used {
                            write.keys().for_each(|key| used.insert(&key));
                        }
                        shown = after;
                        taken.put(shown.clone(), revision + 1, used);
                    }
                    Ok(Wrote::Conflict) | Err(StoreError::Unknown(_)) => taken.forget(),
                    Ok(Wrote::OutpointInUse) | Err(_) => taken.put(before, revision, used),
                }
                outcome.map(|wrote| then(&mut taken, wrote, shown))
            }
        };
        self.writer.run_then(move |step| step.write_channel(&write), done).await
    }

    /// Encodes at once, so that nothing large waits for the disk.
    fn write_change(
        &self,
        taken: Taken,
        cached: Cached,
        change: Box<Change>,
        response: Option<StoredResponse>,
    ) -> impl Future<Output = Result<ChannelStep, StoreError>> {
        let Change { record, charge, outpoint, stream, hold } = *change;
        let record = Arc::new(record);
        let mut write = Write::of(&cached.record, cached.revision, &record);
        if let Some(charge) = charge {
            write = write.with_charge(&charge, response.as_ref());
        }
        if let Some(outpoint) = outpoint {
            write = write.with_outpoint(&record, outpoint);
        }
        if let Some(stream) = stream {
            write = write.with_stream(stream);
        }
        self.write(taken, cached, record, Arc::new(write), |taken, wrote, shown| match wrote {
            Wrote::Done => {
                taken.turn.hold = hold;
                ChannelStep::Done(shown)
            }
            Wrote::OutpointInUse => ChannelStep::Refused,
            // Another process serves this channel: this lease was worth nothing.
            Wrote::Conflict => {
                taken.turn.hold = None;
                ChannelStep::Stale
            }
        })
    }

    async fn remove(&self, mut taken: Taken, cached: Cached) -> Result<Wrote, StoreError> {
        let (record, revision) = (cached.record.clone(), cached.revision);
        let done = move |outcome: Result<Wrote, StoreError>| {
            match &outcome {
                Ok(_) | Err(StoreError::Unknown(_)) => taken.forget(),
                Err(_) => taken.put(cached.record, cached.revision, cached.used),
            }
            if matches!(outcome, Ok(Wrote::Done)) {
                taken.turn.hold = None;
            }
            outcome
        };
        self.writer.run_then(move |step| step.remove_channel(&record, revision), done).await
    }
}

#[async_trait]
impl ChannelStore for EmbeddedStore {
    async fn open_channel(&self, opening: &Opening, now: UnixMillis) -> Result<Opened, StoreError> {
        let mut taken = self.channels.take(&opening.id).await;
        let opening = opening.clone();
        let done = move |outcome: Result<OpenedAs, StoreError>| match outcome {
            Ok(OpenedAs::New(new)) => Ok(Opened::New(taken.put_read(new))),
            Ok(OpenedAs::Known(known)) => {
                // What is in memory knows more than what was read: the fingerprints.
                let same =
                    taken.turn.cached.as_ref().filter(|cached| cached.revision == known.revision).map(|cached| cached.record.clone());
                Ok(Opened::Known(same.unwrap_or_else(|| taken.put_read(known))))
            }
            Ok(OpenedAs::OutpointInUse) => Ok(Opened::OutpointInUse),
            Ok(OpenedAs::ScriptInUse) => Ok(Opened::ScriptInUse),
            Err(error) => {
                if matches!(error, StoreError::Unknown(_)) {
                    taken.forget();
                }
                Err(error)
            }
        };
        let id = opening.id;
        let opened = self.writer.run_then(move |step| step.open_channel(&opening, now), done).await;
        self.tidy(&id).await;
        opened
    }

    async fn lease(&self, ask: &LeaseAsk, now: UnixMillis) -> Result<Leased, StoreError> {
        self.channels.at(now);
        let Some(mut taken) = self.turn(&ask.channel).await? else { return Ok(Leased::Unknown) };
        if let Some(answer) = self.replay(&mut taken, &ask.purpose).await? {
            return Ok(answer);
        }
        let turn = &mut *taken.turn;
        let Some(Cached { record, .. }) = &turn.cached else { return Ok(Leased::Unknown) };
        // A stream that this process does not run may be run by another.
        let stream = match (&record.stream, &turn.hold) {
            (Some(_), hold) if !hold.as_ref().is_some_and(|hold| hold.live(now)) => self.reader.stream_lease(record.sequence).await?,
            _ => None,
        };
        let fence = self.channels.next_fence();
        Ok(match rules::take(record, turn.hold.as_ref(), stream, ask, fence, now) {
            Err(busy) => busy,
            Ok(hold) => {
                let record = record.clone();
                turn.hold = Some(hold);
                Leased::Held(Lease { channel: ask.channel, fence }, record)
            }
        })
    }

    async fn advance_channel(&self, lease: &Lease, fact: ChannelFact, now: UnixMillis) -> Result<ChannelStep, StoreError> {
        self.channels.at(now);
        let Some(mut taken) = self.turn(&lease.channel).await? else { return Ok(ChannelStep::Stale) };
        let Some(cached) = taken.turn.cached.take() else { return Ok(ChannelStep::Stale) };
        match rules::advance(&cached.record, taken.turn.hold.as_ref(), lease.fence, &fact, now) {
            Advance::Write(change) => {
                let response = if let ChannelFact::Committed(charge) = fact { charge.response } else { None };
                self.write_change(taken, cached, change, response).await
            }
            unwritten => {
                let step = match unwritten {
                    Advance::Done(hold) => {
                        taken.turn.hold = hold;
                        ChannelStep::Done(cached.record.clone())
                    }
                    Advance::Refused => ChannelStep::Refused,
                    Advance::Stale | Advance::Write(_) => ChannelStep::Stale,
                };
                taken.turn.cached = Some(cached);
                Ok(step)
            }
        }
    }

    async fn observe_channel(&self, id: &ChannelId, fact: ChannelSighting, now: UnixMillis) -> Result<Observed, StoreError> {
        loop {
            let Some(mut taken) = self.turn(id).await? else { return Ok(Observed::NotFound) };
            let Some(cached) = taken.turn.cached.take() else { continue };
            let sighted = rules::observe(&cached.record, &fact, now);
            let wrote = match sighted {
                Ok(Sighted::Save(after, settled)) => {
                    let write = Arc::new(Write::of(&cached.record, cached.revision, &after).with_settled(settled));
                    self.write(taken, cached, Arc::from(after), write, |_, wrote, _| wrote).await?
                }
                Ok(Sighted::Remove) => self.remove(taken, cached).await?,
                unchanged => {
                    let revision = self.reader.revision(cached.record.sequence).await?;
                    if revision == Some(cached.revision) {
                        taken.turn.cached = Some(cached);
                        let observed = unchanged.map(|_| Observed::Unchanged);
                        return observed.map_err(|error| StoreError::Corrupt(format!("channel {id}: {error}")));
                    }
                    taken.forget();
                    drop(taken);
                    Wrote::Conflict
                }
            };
            self.tidy(id).await;
            // Another process was there in between: look again.
            if wrote != Wrote::Conflict {
                return Ok(Observed::Done);
            }
        }
    }

    async fn channel(&self, id: &ChannelId) -> Result<Option<Arc<ChannelRecord>>, StoreError> {
        if let Some(record) = self.channels.record(id) {
            return Ok(Some(record));
        }
        let taken = self.turn(id).await?;
        Ok(taken.and_then(|taken| taken.turn.cached.as_ref().map(|cached| cached.record.clone())))
    }

    /// In one step where it is in memory: every paid request asks.
    async fn recent_channel(&self, id: &ChannelId) -> Result<Option<Arc<ChannelRecord>>, StoreError> {
        match self.channels.record(id) {
            Some(record) => Ok(Some(record)),
            None => self.channel(id).await,
        }
    }

    async fn channels(&self, query: &ChannelQuery) -> Result<Vec<Arc<ChannelRecord>>, StoreError> {
        self.reader.channels(query).await
    }

    async fn charge(&self, channel: &ChannelId, identifier: &PaymentIdentifier) -> Result<Option<StoredCharge>, StoreError> {
        self.reader.charge(channel, identifier).await
    }

    async fn charges(&self, channel: &ChannelId, after: u64, limit: u32) -> Result<Vec<ChargeRecord>, StoreError> {
        self.reader.charges(channel, after, limit).await
    }

    async fn settled_moves(&self, channel: &ChannelId, after: u64, limit: u32) -> Result<Vec<SettledMove>, StoreError> {
        self.reader.settled_moves(channel, after, limit).await
    }

    async fn channel_totals(&self) -> Result<ChannelTotals, StoreError> {
        self.reader.channel_totals().await
    }

    async fn add_server_key(&self, key: XOnlyKey) -> Result<bool, StoreError> {
        self.writer.run(move |step| step.add_server_key(key)).await
    }
}
