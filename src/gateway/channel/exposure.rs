//! What the gateway is owed now, and how much of that the operator allows (PROTOCOL section 5).
//!
//! Kept in memory, rebuilt from the store at start. A gateway counts what itself serves at once, and what others on its store
//! serve with every round over it (`gateway/fleet`): so much later it knows of their debts, and so much a limit may be overshot.

use crate::{
    protocol::{
        amount::Amount,
        ids::{ChannelId, XOnlyKey},
        policy::Exposure,
    },
    store::channels::ChannelRecord,
};
use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex},
};

/// Sums over all channels.
#[derive(Default)]
pub(in crate::gateway) struct Tally(Mutex<Sums>);

#[derive(Default)]
struct Sums {
    channels: HashMap<ChannelId, Share>,
    payers: HashMap<XOnlyKey, u128>,
    refund_addresses: HashMap<Arc<str>, u128>,
    total: u128,
    /// Given out so far.
    tickets: u64,
    /// The DAA score from which the money of a channel is deep enough; not of all for which it is.
    shaky: HashMap<ChannelId, u64>,
}

/// What one channel adds.
#[derive(Clone)]
struct Share {
    /// Charged and not claimed, by the latest record that was seen, and how many charges that had.
    active: u64,
    charges: u64,
    /// Of a stream, by the record.
    reserved: u64,
    /// The ceiling of the request that runs, and which that is.
    running: u64,
    ticket: u64,
    payer: XOnlyKey,
    refund_address: Arc<str>,
}

impl Share {
    /// A stream's reservation is the ceiling of its own request.
    fn sompi(&self) -> u64 {
        self.active.saturating_add(self.reserved.max(self.running))
    }

    fn read(&mut self, record: &ChannelRecord) {
        if record.closure.is_some() {
            (self.active, self.reserved, self.charges) = (0, 0, record.charges);
        } else if record.charges >= self.charges {
            (self.active, self.reserved, self.charges) = (record.active().sompi(), record.parts.reserved.sompi(), record.charges);
        }
    }

    fn end(&mut self, ticket: Ticket) {
        if self.ticket == ticket.0 {
            self.running = 0;
        }
    }
}

/// A request that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) struct Ticket(u64);

/// Which limit a request would break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::gateway) enum Over {
    #[error("this channel would owe more than is allowed before it is claimed")]
    Channel,
    #[error("the channels of this key would owe more than is allowed")]
    Payer,
    #[error("the channels that refund to this address would owe more than is allowed")]
    RefundAddress,
    #[error("channels whose money is not confirmed would owe more than is allowed")]
    Unconfirmed,
    #[error("all channels together would owe more than is allowed")]
    Total,
}

impl Tally {
    /// Counts a channel as its record says, beside a request that runs. A record that is older than what was seen says nothing.
    pub fn set(&self, record: &ChannelRecord) {
        self.sums().change(record, |share| share.read(record));
    }

    /// Counts a request of at most `ceiling`, or says which limit forbids it. [`Self::finish`] ends it. `confirmed_at` is the
    /// DAA score from which the channel's money is deep enough; `None` when it is.
    pub fn admit(
        &self,
        record: &ChannelRecord,
        ceiling: Amount,
        limits: &Exposure,
        confirmed_at: Option<u64>,
        daa_score: u64,
    ) -> Result<Ticket, Over> {
        let own = record.active().checked_add(ceiling).ok_or(Over::Channel)?.sompi();
        let mut sums = self.sums();
        let old = sums.channels.get(&record.id).map_or(0, |share| u128::from(share.sompi()));
        let with = |sum: Option<u128>| sum.unwrap_or(0).saturating_sub(old).saturating_add(own.into());
        let fits = |sum: u128, limit: Option<Amount>| limit.is_none_or(|limit| sum <= u128::from(limit.sompi()));
        if !fits(own.into(), limits.per_channel) {
            return Err(Over::Channel);
        }
        if !fits(with(sums.payers.get(&record.config.client_public_key).copied()), limits.per_payer) {
            return Err(Over::Payer);
        }
        if !fits(with(sums.refund_addresses.get(record.config.refund_address.as_str()).copied()), limits.per_refund_address) {
            return Err(Over::RefundAddress);
        }
        if !fits(with(Some(sums.total)), limits.total) {
            return Err(Over::Total);
        }
        if confirmed_at.is_some() && !fits(sums.unconfirmed(&record.id, daa_score).saturating_add(own.into()), Some(limits.unconfirmed)) {
            return Err(Over::Unconfirmed);
        }
        match confirmed_at {
            Some(score) => sums.shaky.insert(record.id, score),
            None => sums.shaky.remove(&record.id),
        };
        sums.tickets += 1;
        let ticket = sums.tickets;
        sums.change(record, |share| {
            (share.active, share.reserved, share.charges) = (record.active().sompi(), 0, record.charges);
            (share.running, share.ticket) = (ceiling.sompi(), ticket);
        });
        Ok(Ticket(ticket))
    }

    /// The request is over. Whoever was admitted after it is counted on.
    pub fn finish(&self, record: &ChannelRecord, ticket: Ticket) {
        self.sums().change(record, |share| share.end(ticket));
    }

    /// The same of one that was charged, with the record after that: what was counted for it becomes what is owed, in one step.
    pub fn charged(&self, record: &ChannelRecord, ticket: Ticket) {
        self.sums().change(record, |share| {
            share.end(ticket);
            share.read(record);
        });
    }

    /// What the chain says of a channel's money: deep enough from this DAA score on, `u64::MAX` while nobody knows.
    pub fn confirmed_at(&self, id: &ChannelId, daa_score: u64) {
        self.sums().shaky.insert(*id, daa_score);
    }

    /// Sompi over all channels.
    pub fn total(&self) -> u128 {
        self.sums().total
    }

    fn sums(&self) -> std::sync::MutexGuard<'_, Sums> {
        self.0.lock().expect("no panic while the sums are locked")
    }
}

impl Sums {
    /// Owed by other channels whose money is not deep enough at this score.
    fn unconfirmed(&mut self, without: &ChannelId, daa_score: u64) -> u128 {
        let channels = &self.channels;
        self.shaky.retain(|id, score| *score > daa_score && channels.contains_key(id));
        let others = self.shaky.keys().filter(|id| *id != without);
        others.filter_map(|id| channels.get(id)).map(|share| u128::from(share.sompi())).sum()
    }

    fn change(&mut self, record: &ChannelRecord, change: impl FnOnce(&mut Share)) {
        let share = self.channels.entry(record.id).or_insert_with(|| Share {
            active: 0,
            charges: 0,
            reserved: 0,
            running: 0,
            ticket: 0,
            payer: record.config.client_public_key,
            refund_address: record.config.refund_address.as_str().into(),
        });
        let less = u128::from(share.sompi());
        change(share);
        let more = u128::from(share.sompi());
        if less != more {
            move_sum(&mut self.payers, &share.payer, less, more);
            move_sum(&mut self.refund_addresses, &share.refund_address, less, more);
            self.total = self.total.saturating_sub(less).saturating_add(more);
        }
        if more == 0 {
            self.channels.remove(&record.id);
        }
    }
}

/// Keys without a sum are forgotten: whoever pays once must not stay in memory for ever.
fn move_sum<K: Clone + Eq + Hash>(sums: &mut HashMap<K, u128>, key: &K, less: u128, more: u128) {
    match sums.get_mut(key) {
        Some(sum) => {
            *sum = sum.saturating_sub(less).saturating_add(more);
            if *sum == 0 {
                sums.remove(key);
            }
        }
        None if more > less => {
            sums.insert(key.clone(), more - less);
        }
        None => {}
    }
}
