//! Channels of the model: one map of records, every guard its own map, sums folded anew each time.

use super::MemoryStore;
use crate::{
    protocol::{
        ids::{ChannelId, PaymentIdentifier, XOnlyKey},
        time::UnixMillis,
    },
    store::{
        Observed, StoreError, StoredResponse,
        channels::{
            rules::{self, Advance, Change, Found, Hold, Open, Sighted, StreamLease},
            *,
        },
    },
};
use async_trait::async_trait;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

#[derive(Debug, Default)]
pub(super) struct Channels {
    channels: BTreeMap<u64, Kept>,
    ids: HashMap<ChannelId, u64>,
    outpoints: HashMap<OutpointKey, ChannelId>,
    scripts: HashMap<[u8; 32], ChannelId>,
    server_keys: HashSet<XOnlyKey>,
    /// Last ones given out.
    sequence: u64,
    fence: u64,
}

#[derive(Debug)]
struct Kept {
    record: Arc<ChannelRecord>,
    hold: Option<Hold>,
    stream: Option<StreamLease>,
    charges: Vec<StoredCharge>,
    moves: Vec<SettledMove>,
}

impl Kept {
    fn charge(&self, identifier: &PaymentIdentifier) -> Option<&StoredCharge> {
        self.charges.iter().find(|charge| charge.record.terms.identifier == *identifier)
    }

    fn uses(&self, nonce: &[u8; 16]) -> bool {
        self.charges.iter().any(|charge| charge.record.terms.nonce == *nonce)
    }

    fn settle(&mut self, row: SettledMove) {
        match self.moves.iter_mut().find(|known| known.txid == row.txid) {
            Some(known) => known.state = row.state,
            None => {
                let number = u64::try_from(self.moves.len()).unwrap_or(u64::MAX).saturating_add(1);
                self.moves.push(SettledMove { number, ..row });
            }
        }
    }
}

impl Channels {
    fn find(&self, id: &ChannelId) -> Option<&Kept> {
        self.channels.get(self.ids.get(id)?)
    }

    fn find_mut(&mut self, id: &ChannelId) -> Option<&mut Kept> {
        self.channels.get_mut(self.ids.get(id)?)
    }

    fn open(&mut self, opening: &Opening, now: UnixMillis) -> Opened {
        let (key, script) = ((opening.config.network, opening.outpoint), rules::script_key(&opening.config));
        let known = self.find(&opening.id).map(|kept| kept.record.clone());
        let found = Found { owner: self.outpoints.get(&key).copied(), known: known.as_deref(), script: self.scripts.get(&script).copied() };
        match (rules::open(opening, found, self.sequence + 1, now), known) {
            (Open::New(record), _) => {
                let record = Arc::new(*record);
                self.sequence = record.sequence;
                self.outpoints.insert(key, record.id);
                self.scripts.insert(script, record.id);
                self.ids.insert(record.id, record.sequence);
                let kept = Kept { record: record.clone(), hold: None, stream: None, charges: Vec::new(), moves: Vec::new() };
                self.channels.insert(record.sequence, kept);
                Opened::New(record)
            }
            (Open::Known, Some(record)) => Opened::Known(record),
            (Open::ScriptInUse, _) => Opened::ScriptInUse,
            (Open::OutpointInUse | Open::Known, _) => Opened::OutpointInUse,
        }
    }

    fn lease(&mut self, ask: &LeaseAsk, now: UnixMillis) -> Leased {
        let fence = self.fence + 1;
        let Some(kept) = self.find_mut(&ask.channel) else { return Leased::Unknown };
        if let Purpose::Request { identifier, nonce, identity } = &ask.purpose {
            if let Some(charge) = kept.charge(identifier) {
                return rules::charged_before(charge.clone(), identity);
            }
            if kept.uses(nonce) {
                return Leased::NonceReused;
            }
        }
        match rules::take(&kept.record, kept.hold.as_ref(), kept.stream, ask, fence, now) {
            Err(answer) => answer,
            Ok(hold) => {
                kept.hold = Some(hold);
                let record = kept.record.clone();
                self.fence = fence;
                Leased::Held(Lease { channel: ask.channel, fence }, record)
            }
        }
    }

    fn advance(&mut self, lease: &Lease, fact: &ChannelFact, now: UnixMillis) -> ChannelStep {
        let Some(kept) = self.find_mut(&lease.channel) else { return ChannelStep::Stale };
        match rules::advance(&kept.record, kept.hold.as_ref(), lease.fence, fact, now) {
            Advance::Stale => ChannelStep::Stale,
            Advance::Refused => ChannelStep::Refused,
            Advance::Done(hold) => {
                kept.hold = hold;
                ChannelStep::Done(kept.record.clone())
            }
            Advance::Write(change) => self.write(*change, response(fact)),
        }
    }

    fn write(&mut self, change: Change, response: Option<StoredResponse>) -> ChannelStep {
        let Change { record, charge, outpoint, stream, hold } = change;
        if let Some(outpoint) = outpoint
            && *self.outpoints.entry((record.config.network, outpoint)).or_insert(record.id) != record.id
        {
            return ChannelStep::Refused;
        }
        let Some(kept) = self.find_mut(&record.id) else { return ChannelStep::Stale };
        kept.charges.extend(charge.map(|charge| StoredCharge { record: *charge, response }));
        kept.record = Arc::new(record);
        kept.stream = stream.or(kept.stream);
        kept.hold = hold;
        ChannelStep::Done(kept.record.clone())
    }

    fn observe(&mut self, id: &ChannelId, sighting: &ChannelSighting, now: UnixMillis) -> Result<Observed, StoreError> {
        let Some(kept) = self.find_mut(id) else { return Ok(Observed::NotFound) };
        let before = kept.record.clone();
        let sighted = rules::observe(&before, sighting, now);
        match sighted.map_err(|error| StoreError::Corrupt(format!("channel {id}: {error}")))? {
            Sighted::Unchanged => return Ok(Observed::Unchanged),
            Sighted::Save(after, rows) => {
                rows.into_iter().for_each(|row| kept.settle(row));
                kept.record = Arc::new(*after);
                if !rules::is_open(&kept.record) {
                    self.scripts.remove(&rules::script_key(&before.config));
                }
            }
            Sighted::Remove => {
                self.scripts.remove(&rules::script_key(&before.config));
                self.ids.remove(id);
                self.channels.remove(&before.sequence);
            }
        }
        Ok(Observed::Done)
    }

    fn totals(&self) -> ChannelTotals {
        self.channels.values().fold(ChannelTotals::default(), |sums, kept| {
            let more = rules::contribution(&kept.record);
            rules::shifted(sums, ChannelTotals::default(), more).expect("128 bits hold more amounts than memory does")
        })
    }

    /// Drops the responses of charges made before. Returns how many.
    pub fn prune(&mut self, before: UnixMillis) -> u64 {
        let charges = self.channels.values_mut().flat_map(|kept| &mut kept.charges);
        let old = charges.filter(|charge| charge.response.is_some() && charge.record.at < before);
        old.map(|charge| charge.response = None).fold(0, |dropped, ()| dropped + 1)
    }

    /// What a restart does to leases.
    #[cfg(test)]
    pub fn end_leases(&mut self) {
        self.channels.values_mut().for_each(|kept| kept.hold = None);
    }
}

fn response(fact: &ChannelFact) -> Option<StoredResponse> {
    if let ChannelFact::Committed(charge) = fact { charge.response.clone() } else { None }
}

fn page<T: Clone>(rows: &[T], after: u64, limit: u32) -> Vec<T> {
    let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    rows.iter().skip(size(after)).take(size(limit.into())).cloned().collect()
}

#[async_trait]
impl ChannelStore for MemoryStore {
    async fn open_channel(&self, opening: &Opening, now: UnixMillis) -> Result<Opened, StoreError> {
        Ok(self.state().channels.open(opening, now))
    }

    async fn lease(&self, ask: &LeaseAsk, now: UnixMillis) -> Result<Leased, StoreError> {
        Ok(self.state().channels.lease(ask, now))
    }

    async fn advance_channel(&self, lease: &Lease, fact: ChannelFact, now: UnixMillis) -> Result<ChannelStep, StoreError> {
        Ok(self.state().channels.advance(lease, &fact, now))
    }

    async fn observe_channel(&self, id: &ChannelId, fact: ChannelSighting, now: UnixMillis) -> Result<Observed, StoreError> {
        self.state().channels.observe(id, &fact, now)
    }

    async fn channel(&self, id: &ChannelId) -> Result<Option<Arc<ChannelRecord>>, StoreError> {
        Ok(self.state().channels.find(id).map(|kept| kept.record.clone()))
    }

    async fn channels(&self, query: &ChannelQuery) -> Result<Vec<Arc<ChannelRecord>>, StoreError> {
        let state = self.state();
        let later = state.channels.channels.range(query.after.saturating_add(1)..).map(|(_, kept)| &kept.record);
        let selected = later.filter(|record| rules::selects(query.selection, record));
        Ok(selected.take(usize::try_from(query.limit).unwrap_or(usize::MAX)).cloned().collect())
    }

    async fn charge(&self, channel: &ChannelId, identifier: &PaymentIdentifier) -> Result<Option<StoredCharge>, StoreError> {
        Ok(self.state().channels.find(channel).and_then(|kept| kept.charge(identifier)).cloned())
    }

    async fn charges(&self, channel: &ChannelId, after: u64, limit: u32) -> Result<Vec<ChargeRecord>, StoreError> {
        let state = self.state();
        let charges = state.channels.find(channel).map(|kept| page(&kept.charges, after, limit)).unwrap_or_default();
        Ok(charges.into_iter().map(|charge| charge.record).collect())
    }

    async fn settled_moves(&self, channel: &ChannelId, after: u64, limit: u32) -> Result<Vec<SettledMove>, StoreError> {
        Ok(self.state().channels.find(channel).map(|kept| page(&kept.moves, after, limit)).unwrap_or_default())
    }

    async fn channel_totals(&self) -> Result<ChannelTotals, StoreError> {
        Ok(self.state().channels.totals())
    }

    async fn add_server_key(&self, key: XOnlyKey) -> Result<bool, StoreError> {
        Ok(self.state().channels.server_keys.insert(key))
    }
}
