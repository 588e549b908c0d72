//! Payments: read, judged by [`rules`], written when nobody else wrote in between.

use super::{
    keys::{PaymentPlace, names},
    link::{Effect, History, Scripts},
    moving::encode_reversal,
    names::{Pointed, Pointer},
    write::{Commit, Wrote},
    *,
};
use crate::{
    protocol::ids::PaymentIdentifier,
    store::{
        codec,
        rules::{self, Booking, ClaimStep, Effect as Due, Entry, Next},
    },
};
use ::redis::Value;
use tokio::time::{Instant, sleep_until};

/// An identifier that somebody is about to use is looked at again so often.
const POLL: Duration = Duration::from_millis(5);
/// Responses dropped in one step, so that pruning never holds up payments.
const PRUNE_STEP: u64 = 256;

/// A payment's place as it was read.
struct Read {
    entry: Option<Entry>,
    /// Of the record that is there.
    revision: Option<Revision>,
    response: Option<Vec<u8>>,
    /// The last fence that was given out in the shard.
    fence: u64,
    shift: Shift,
    server_now: u64,
    history: History,
}

/// What an identifier points to.
#[derive(Default)]
struct Named {
    pointer: Option<Pointer>,
    entry: Option<Entry>,
    /// It points to nothing, and whoever set it may still write its payment.
    pending: bool,
}

impl RedisStore {
    pub(super) async fn claim_payment(&self, claim: &Claim, now: UnixMillis) -> Result<ClaimOutcome, StoreError> {
        let by = self.link.deadline();
        let place = self.keys.payment(&claim.key);
        loop {
            let (known, named) = tokio::try_join!(self.read(&claim.key, &place, false, now, by), self.named(claim, now, by))?;
            if named.pending {
                self.pause(by).await?;
                continue;
            }
            // A fence is above every one that this payment ever had: the shard's last one never falls.
            let next = Next { sequence: 0, fence: known.fence.saturating_add(1) };
            let outcome = match rules::claim(known.entry.clone(), named.entry, claim, next, now) {
                ClaimStep::Answer(outcome) => {
                    self.link.settled(place.shard, &known.history, by).await?;
                    Some(outcome)
                }
                ClaimStep::Replay(_) => match self.stored_payment(&claim.key).await? {
                    Some(stored) if stored.response.is_some() => {
                        self.link.settled(place.shard, &known.history, by).await?;
                        Some(ClaimOutcome::Delivered(Box::new(stored)))
                    }
                    // Pruned in between.
                    _ => None,
                },
                ClaimStep::Retake(entry, outcome) => {
                    let wrote = self.hold(&place, &known, &entry, None, by).await?;
                    (wrote == Wrote::Done).then_some(outcome)
                }
                ClaimStep::Insert(entry, held) => {
                    let wrote = self.insert(&place, &known, named.pointer.as_ref(), *entry, by).await?;
                    wrote.map(|_| ClaimOutcome::Fresh(held))
                }
                ClaimStep::Replace { old, new, held } => match self.insert(&place, &known, named.pointer.as_ref(), *new, by).await? {
                    None => None,
                    Some(record) => {
                        if old.identifier != record.identifier {
                            self.free_identifier(&old, &place, by).await?;
                        }
                        Some(ClaimOutcome::Resumed(held, Box::new(record)))
                    }
                },
            };
            if let Some(outcome) = outcome {
                return Ok(outcome);
            }
            in_time(by)?;
        }
    }

    /// The payment that the claim's identifier points to.
    async fn named(&self, claim: &Claim, now: UnixMillis, by: Instant) -> Result<Named, StoreError> {
        let Some(identifier) = &claim.identifier else { return Ok(Named::default()) };
        let Some(pointer) = self.pointer(&self.keys.identifier(claim.key.network, identifier), by).await? else {
            return Ok(Named::default());
        };
        let key = codec::key_from(pointer.target()).ok_or_else(|| StoreError::Corrupt("an identifier points to no payment".to_owned()))?;
        let read = self.read(&key, &self.keys.payment(&key), false, now, by).await?;
        let entry = read.entry.filter(|entry| entry.record.identifier.as_ref() == Some(identifier));
        // Our own name may be set again by anybody who claims the same payment under it.
        let pending = entry.is_none() && key != claim.key && !pointer.is_abandoned(read.server_now);
        Ok(Named { pointer: Some(pointer), entry, pending })
    }

    /// Writes a new claim, its identifier first; `None` when somebody was quicker.
    async fn insert(
        &self,
        place: &PaymentPlace,
        known: &Read,
        seen: Option<&Pointer>,
        mut entry: Entry,
        by: Instant,
    ) -> Result<Option<PaymentRecord>, StoreError> {
        let until = match &entry.record.identifier {
            Some(identifier) => {
                let name = self.keys.identifier(entry.record.key.network, identifier);
                match self.point(&name, seen, &place.member, false, by).await? {
                    Pointed::Here { until } => Some(until),
                    Pointed::Elsewhere => return Ok(None),
                }
            }
            None => None,
        };
        entry.record.sequence = self.count(names::PAYMENT_COUNT, by).await?;
        let wrote = self.hold(place, known, &entry, until, by).await?;
        Ok((wrote == Wrote::Done).then_some(entry.record))
    }

    /// Writes a payment with a new hold.
    async fn hold(&self, place: &PaymentPlace, known: &Read, entry: &Entry, until: Option<u64>, by: Instant) -> Result<Wrote, StoreError> {
        let name = self.next_revision();
        let mut commit = self.saving(place, known, entry, &name);
        if let Some(until) = until {
            commit = commit.until(until);
        }
        let attempt = self.orphans.attempt(&place.record, &name);
        let wrote = commit.send(self, place.shard, by).await?;
        attempt.answered();
        Ok(wrote)
    }

    /// The whole payment, with what follows from it, for a place that is as it was read.
    fn saving(&self, place: &PaymentPlace, known: &Read, entry: &Entry, name: &Revision) -> Commit {
        let of = |name| self.keys.of(place.shard, name);
        let (before, after) = (known.entry.as_ref().map(|entry| &entry.record), &entry.record);
        let mut commit = Commit::new(place.record.clone(), known.revision.as_ref(), Some(name));
        let mut kept = entry.clone();
        kept.hold.until = kept.hold.until.map(|until| known.shift.to_server(until));
        let mut fields = vec![b"g".to_vec(), codec::encode_progress(&kept)];
        let sequence = after.sequence.to_string().into_bytes();
        if before.is_none_or(|before| before.sequence != after.sequence) {
            fields.extend([b"q".to_vec(), sequence.clone(), b"t".to_vec(), codec::encode_terms(after)]);
            commit.write("ZADD", of(names::PAYMENTS), [sequence.clone(), place.member.to_vec()]);
            commit.write("ZADD", of(names::ACTIVE), [sequence.clone(), place.member.to_vec()]);
        }
        commit.write("HSET", place.record.clone(), fields);
        match (before.is_some_and(rules::active), rules::active(after)) {
            (true, false) => commit.write("ZREM", of(names::ACTIVE), [place.member.to_vec()]),
            (false, true) => commit.write("ZADD", of(names::ACTIVE), [sequence, place.member.to_vec()]),
            _ => {}
        }
        if entry.hold.fence > known.fence {
            commit.write("RAISE", of(names::FENCE), [entry.hold.fence.to_string().into_bytes()]);
        }
        let sums = |record: Option<&PaymentRecord>| record.map(rules::contribution).unwrap_or_default();
        sums::move_payments(&mut commit, of(names::TOTALS), sums(before), sums(Some(after)));
        commit
    }

    /// A payment that comes from another store, where nothing is; nobody holds it.
    pub(super) fn arriving(&self, place: &PaymentPlace, record: &PaymentRecord) -> Commit {
        let hold = rules::Hold { fence: 0, holder: HolderId([0; 16]), until: None };
        let entry = Entry { record: record.clone(), hold, response_kept: false };
        let shift = Shift { ahead: 0, behind: 0 };
        let nothing = Read { entry: None, revision: None, response: None, fence: 0, shift, server_now: 0, history: History::default() };
        let mut commit = self.saving(place, &nothing, &entry, &self.next_revision());
        if !rules::active(record) {
            commit.write("ZREM", self.keys.of(place.shard, names::ACTIVE), [place.member.to_vec()]);
        }
        commit
    }

    pub(super) async fn advance_payment(&self, hold: &Held, fact: Fact, now: UnixMillis) -> Result<Advanced, StoreError> {
        let by = self.link.deadline();
        let place = self.keys.payment(&hold.key);
        loop {
            let known = self.read(&hold.key, &place, false, now, by).await?;
            let Some(mut entry) = known.entry.clone() else {
                // Freed already: a repeated rejection has nothing left to do, everything else lost its payment.
                return Ok(if matches!(fact, Fact::Rejected) { Advanced::Done } else { Advanced::Stale });
            };
            let (outcome, due) = rules::advance(&mut entry, hold.fence, &fact, now);
            let wrote = match due {
                Due::Nothing => return Ok(outcome),
                Due::Save => {
                    let mut commit = self.saving(&place, &known, &entry, &self.next_revision());
                    if let Some(response) = fact.response() {
                        let encoded = codec::encode_response(&hold.key, response);
                        self.keep_response(&mut commit, place.shard, place.response.clone(), encoded, now);
                    }
                    commit.send(self, place.shard, by).await?
                }
                Due::Free => {
                    let wrote = self.free(&place, &known, by).await?;
                    if wrote == Wrote::Done {
                        self.free_identifier(&entry.record, &place, by).await?;
                    }
                    wrote
                }
            };
            if wrote == Wrote::Done {
                return Ok(outcome);
            }
            in_time(by)?;
        }
    }

    /// Adds a stored response to a write.
    pub(super) fn keep_response(&self, commit: &mut Commit, shard: u16, place: Vec<u8>, encoded: Vec<u8>, at: UnixMillis) {
        commit.write("HSET", self.keys.of(shard, names::RESPONSES), [place.clone(), encoded]);
        commit.write("ZADD", self.keys.of(shard, names::RESPONSE_TIMES), [at.0.to_string().into_bytes(), place]);
    }

    async fn free(&self, place: &PaymentPlace, known: &Read, by: Instant) -> Result<Wrote, StoreError> {
        let of = |name| self.keys.of(place.shard, name);
        let mut commit = Commit::new(place.record.clone(), known.revision.as_ref(), None);
        commit.write("DEL", place.record.clone(), []);
        for index in [names::PAYMENTS, names::ACTIVE] {
            commit.write("ZREM", of(index), [place.member.to_vec()]);
        }
        let before = known.entry.as_ref().map(|entry| rules::contribution(&entry.record)).unwrap_or_default();
        sums::move_payments(&mut commit, of(names::TOTALS), before, Totals::default());
        if known.entry.as_ref().is_some_and(|entry| entry.response_kept) {
            commit.write("HDEL", of(names::RESPONSES), [place.response.clone()]);
            commit.write("ZREM", of(names::RESPONSE_TIMES), [place.response.clone()]);
        }
        commit.send(self, place.shard, by).await
    }

    async fn free_identifier(&self, record: &PaymentRecord, place: &PaymentPlace, by: Instant) -> Result<(), StoreError> {
        let Some(identifier): Option<&PaymentIdentifier> = record.identifier.as_ref() else { return Ok(()) };
        self.unpoint(&self.keys.identifier(record.key.network, identifier), &place.member, by).await
    }

    pub(super) async fn observe_payment(&self, key: &PaymentKey, fact: &ChainFact, now: UnixMillis) -> Result<Observed, StoreError> {
        let by = self.link.deadline();
        let place = self.keys.payment(key);
        loop {
            let known = self.read(key, &place, false, now, by).await?;
            let Some(mut entry) = known.entry.clone() else { return Ok(Observed::NotFound) };
            let outcome = rules::observe(&mut entry.record, fact);
            if outcome != Observed::Done {
                return Ok(outcome);
            }
            let mut commit = self.saving(&place, &known, &entry, &self.next_revision());
            let booking = known.entry.as_ref().and_then(|before| rules::booking(&before.record, &entry.record));
            if let (Some(Booking::Reversal), ChainFact::Reversed { by }) = (booking, fact) {
                commit.write("HSET", place.record.clone(), [b"b".to_vec(), encode_reversal(key, (now, Some(*by)))]);
            }
            if commit.send(self, place.shard, by).await? == Wrote::Done {
                return Ok(outcome);
            }
            in_time(by)?;
        }
    }

    pub(super) async fn stored_payment(&self, key: &PaymentKey) -> Result<Option<StoredPayment>, StoreError> {
        let by = self.link.deadline();
        let read = self.read(key, &self.keys.payment(key), true, UnixMillis(0), by).await?;
        let Some(Entry { record, .. }) = read.entry else { return Ok(None) };
        let response = read.response.map(|bytes| codec::decode_response(key, &bytes)).transpose()?;
        Ok(Some(StoredPayment { record, response }))
    }

    async fn read(
        &self,
        key: &PaymentKey,
        place: &PaymentPlace,
        with_response: bool,
        now: UnixMillis,
        by: Instant,
    ) -> Result<Read, StoreError> {
        let of = |name| self.keys.of(place.shard, name);
        let keys = [place.record.clone(), of(names::RESPONSES), of(names::FENCE)];
        let args = [place.response.clone(), if with_response { b"1".to_vec() } else { b"0".to_vec() }];
        let (answer, history) = self.link.script_in(&Scripts::get().payment, &keys, &args, Effect::Read, by).await?;
        let mut parts = reply::Parts::of(answer)?;
        let revision = reply::maybe_bytes(parts.next())?;
        let record = [parts.next(), parts.next(), parts.next()];
        let response_kept = reply::number(parts.next())? == 1;
        let response = reply::maybe_bytes(parts.next())?;
        let (fence, server_now) = (reply::number(parts.next())?, reply::number(parts.next())?);
        let shift = Shift::between(self.lease_clock, now, server_now);
        let entry = match &revision {
            None => None,
            Some(name) => {
                let mut entry = decoded(key, record, response_kept)?;
                entry.hold.until = entry.hold.until.map(|until| shift.to_caller(until));
                if self.orphans.contain(&place.record, name) {
                    // Nobody was ever given this hold.
                    entry.hold.until = None;
                }
                Some(entry)
            }
        };
        Ok(Read { entry, revision, response, fence, shift, server_now, history })
    }

    pub(super) async fn list_payments(&self, query: &Query) -> Result<Vec<PaymentRecord>, StoreError> {
        let index = if query.selection == Selection::All { names::PAYMENTS } else { names::ACTIVE };
        let selected = |record: &PaymentRecord| rules::selects(query.selection, record);
        let read = |member: Vec<u8>, by| async move {
            let key = codec::key_from(&member).ok_or_else(|| StoreError::Corrupt("an index names no payment".to_owned()))?;
            let place = self.keys.payment(&key);
            let found = self.link.command("HMGET", &[&place.record, b"r", b"q", b"t", b"g"], Effect::Read, by).await?;
            let mut parts = reply::Parts::of(found)?;
            // Freed since it was listed.
            if reply::maybe_bytes(parts.next())?.is_none() {
                return Ok(None);
            }
            let record = decoded(&key, [parts.next(), parts.next(), parts.next()], false)?.record;
            Ok(Some(record).filter(|record| selected(record)))
        };
        self.listed(index, names::PAYMENT_COUNT, query.after, query.limit, read).await
    }

    pub(super) async fn prune_responses(&self, before: UnixMillis) -> Result<u64, StoreError> {
        let mut dropped: u64 = 0;
        let args = [before.0.to_string().into_bytes(), PRUNE_STEP.to_string().into_bytes()];
        for shard in self.keys.all() {
            let keys = [self.keys.of(shard, names::RESPONSE_TIMES), self.keys.of(shard, names::RESPONSES), self.keys.guard(shard)];
            loop {
                let by = self.link.deadline();
                let answer = self.link.script(&Scripts::get().prune, &keys, &args, Effect::Note, by).await?;
                let step = reply::number(answer)?;
                dropped = dropped.saturating_add(step);
                if step < PRUNE_STEP {
                    break;
                }
            }
        }
        Ok(dropped)
    }

    async fn pause(&self, by: Instant) -> Result<(), StoreError> {
        let again = Instant::now() + POLL;
        if again >= by {
            return Err(StoreError::Unavailable("the identifier is being claimed by another request".to_owned()));
        }
        sleep_until(again).await; // why: whoever reserved it is another process, or this one a moment ago; neither tells
        Ok(())
    }
}

/// A step is judged again as long as there is time: each time it was not written, another one was.
pub(super) fn in_time(by: Instant) -> Result<(), StoreError> {
    if Instant::now() < by { Ok(()) } else { Err(StoreError::Unavailable("too many change this record".to_owned())) }
}

/// Sequence, terms, progress.
fn decoded(key: &PaymentKey, record: [Value; 3], response_kept: bool) -> Result<Entry, StoreError> {
    let missing = || StoreError::Corrupt(format!("payment {}: a part is missing", key.txid));
    let [sequence, terms, progress] = record;
    let part = |value| reply::maybe_bytes(value)?.ok_or_else(missing);
    let sequence = reply::parsed(&part(sequence)?)?;
    codec::decode_entry(sequence, &codec::key_bytes(key), &part(terms)?, &part(progress)?, response_kept)
}
