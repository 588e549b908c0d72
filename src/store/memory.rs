//! The in-memory model.
//!
//! What every other store is compared with: plain maps behind one lock, nothing cached, sums folded anew from its
//! ledger each time. Loses everything with the process: tests only, never behind a gateway that sells.

mod channels;

use super::{
    rules::{self, Booking, ClaimStep, Effect, Entry, Next},
    *,
};
use crate::protocol::{amount::Amount, ids::PaymentIdentifier, network::Network};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// See the module.
#[derive(Debug)]
pub struct MemoryStore {
    id: StoreId,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    payments: BTreeMap<u64, Kept>,
    keys: HashMap<PaymentKey, u64>,
    identifiers: HashMap<(Network, PaymentIdentifier), u64>,
    ledger: Vec<(Booking, Amount)>,
    checkpoint: Option<Checkpoint>,
    channels: channels::Channels,
    /// Last ones given out.
    sequence: u64,
    fence: u64,
}

#[derive(Debug)]
struct Kept {
    entry: Entry,
    /// And when it was kept.
    response: Option<(UnixMillis, StoredResponse)>,
}

impl Kept {
    fn response(&self) -> Option<StoredResponse> {
        self.response.as_ref().map(|(_, response)| response.clone())
    }
}

impl MemoryStore {
    pub fn new(id: StoreId) -> Self {
        Self { id, state: Mutex::default() }
    }

    /// What a restart does to the leases of channels.
    #[cfg(test)]
    pub(in crate::store) fn end_leases(&self) {
        self.state().channels.end_leases();
    }

    /// A panic elsewhere leaves no half step behind: every verb writes after it decided.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn find(&self, key: &PaymentKey) -> Option<&Kept> {
        self.payments.get(self.keys.get(key)?)
    }

    fn save(&mut self, entry: Entry, response: Option<(UnixMillis, StoredResponse)>) {
        let Some(kept) = self.payments.get_mut(&entry.record.sequence) else { return };
        self.ledger.extend(rules::booking(&kept.entry.record, &entry.record).map(|booking| (booking, entry.record.cost())));
        kept.entry = entry;
        kept.response = response.or(kept.response.take());
    }

    fn insert(&mut self, entry: Entry) {
        let record = &entry.record;
        let sequence = record.sequence;
        self.keys.insert(record.key, sequence);
        if let Some(identifier) = &record.identifier {
            self.identifiers.insert((record.key.network, identifier.clone()), sequence);
        }
        self.payments.insert(sequence, Kept { entry, response: None });
    }

    fn free(&mut self, record: &PaymentRecord) {
        self.payments.remove(&record.sequence);
        self.keys.remove(&record.key);
        self.identifiers.retain(|_, sequence| *sequence != record.sequence);
    }

    fn claim(&mut self, claim: &Claim, now: UnixMillis) -> ClaimOutcome {
        let known = self.find(&claim.key).map(|kept| kept.entry.clone());
        let named = claim.identifier.clone().and_then(|identifier| self.identifiers.get(&(claim.key.network, identifier)));
        let named = named.and_then(|sequence| self.payments.get(sequence)).map(|kept| kept.entry.clone());
        let next = Next { sequence: self.sequence + 1, fence: self.fence + 1 };
        match rules::claim(known, named, claim, next, now) {
            ClaimStep::Insert(entry, held) => {
                (self.sequence, self.fence) = (next.sequence, next.fence);
                self.insert(*entry);
                ClaimOutcome::Fresh(held)
            }
            ClaimStep::Replace { old, new, held } => {
                (self.sequence, self.fence) = (next.sequence, next.fence);
                self.free(&old);
                let record = Box::new(new.record.clone());
                self.insert(*new);
                ClaimOutcome::Resumed(held, record)
            }
            ClaimStep::Retake(entry, outcome) => {
                self.fence = next.fence;
                self.save(*entry, None);
                outcome
            }
            ClaimStep::Replay(record) => {
                let response = self.find(&record.key).and_then(Kept::response);
                ClaimOutcome::Delivered(Box::new(StoredPayment { record: *record, response }))
            }
            ClaimStep::Answer(outcome) => outcome,
        }
    }

    fn advance(&mut self, hold: &Held, fact: Fact, now: UnixMillis) -> Advanced {
        let Some(kept) = self.find(&hold.key) else {
            return if matches!(fact, Fact::Rejected) { Advanced::Done } else { Advanced::Stale };
        };
        let mut entry = kept.entry.clone();
        let (outcome, effect) = rules::advance(&mut entry, hold.fence, &fact, now);
        match effect {
            Effect::Nothing => {}
            Effect::Save => self.save(entry, fact.response().map(|response| (now, response.clone()))),
            Effect::Free => self.free(&entry.record),
        }
        outcome
    }

    fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for (booking, amount) in &self.ledger {
            match booking {
                Booking::Charge => totals.charged_sompi += u128::from(amount.sompi()),
                Booking::Reversal => totals.reversed_sompi += u128::from(amount.sompi()),
            }
        }
        for Kept { entry: Entry { record, .. }, .. } in self.payments.values() {
            match record.state {
                PaymentState::Pending => totals.pending += 1,
                PaymentState::Settled => {
                    totals.settled += 1;
                    totals.owed_sompi += u128::from(record.cost().sompi());
                }
                PaymentState::Delivered => totals.delivered += 1,
                PaymentState::Reversed => totals.reversed += 1,
            }
        }
        totals
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn id(&self) -> StoreId {
        self.id
    }

    async fn claim(&self, claim: &Claim, now: UnixMillis) -> Result<ClaimOutcome, StoreError> {
        Ok(self.state().claim(claim, now))
    }

    async fn advance(&self, hold: &Held, fact: Fact, now: UnixMillis) -> Result<Advanced, StoreError> {
        Ok(self.state().advance(hold, fact, now))
    }

    async fn observe(&self, key: &PaymentKey, fact: ChainFact, _now: UnixMillis) -> Result<Observed, StoreError> {
        let mut state = self.state();
        let Some(kept) = state.find(key) else { return Ok(Observed::NotFound) };
        let mut entry = kept.entry.clone();
        let outcome = rules::observe(&mut entry.record, &fact);
        state.save(entry, None);
        Ok(outcome)
    }

    async fn payment(&self, key: &PaymentKey) -> Result<Option<StoredPayment>, StoreError> {
        let state = self.state();
        Ok(state.find(key).map(|kept| StoredPayment { record: kept.entry.record.clone(), response: kept.response() }))
    }

    async fn payments(&self, query: &Query) -> Result<Vec<PaymentRecord>, StoreError> {
        let state = self.state();
        let later = state.payments.values().map(|kept| &kept.entry.record).filter(|record| record.sequence > query.after);
        let selected = later.filter(|record| rules::selects(query.selection, record));
        Ok(selected.take(usize::try_from(query.limit).unwrap_or(usize::MAX)).cloned().collect())
    }

    async fn checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        Ok(self.state().checkpoint)
    }

    async fn set_checkpoint(&self, checkpoint: Checkpoint) -> Result<(), StoreError> {
        self.state().checkpoint = Some(checkpoint);
        Ok(())
    }

    async fn totals(&self) -> Result<Totals, StoreError> {
        Ok(self.state().totals())
    }

    async fn prune(&self, before: UnixMillis) -> Result<u64, StoreError> {
        let mut state = self.state();
        let mut dropped = state.channels.prune(before);
        for kept in state.payments.values_mut() {
            if kept.response.as_ref().is_some_and(|(at, _)| *at < before) {
                kept.response = None;
                kept.entry.response_kept = false;
                dropped += 1;
            }
        }
        Ok(dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::{Subject, channel_conformance, conformance};
    use std::sync::Arc;

    struct Memory(Arc<MemoryStore>);

    impl Subject for Memory {
        type Store = MemoryStore;
        const RANDOM: (u64, usize) = (50, 300);

        async fn create() -> Self {
            Self(Arc::new(MemoryStore::new(StoreId([1; 16]))))
        }

        fn store(&self) -> &Arc<MemoryStore> {
            &self.0
        }

        /// The model outlives its users; what survives is what the others must keep.
        async fn restart(self) -> Self {
            self.0.end_leases();
            self
        }
    }

    conformance!(Memory);
    channel_conformance!(Memory);
}
