//! What the gateway is owed now, and how much of that the operator allows (PROTOCOL section 5).
//!
//! Kept in memory, rebuilt from the store at start. A gateway counts what itself serves: over several gateways on one
//! store each has the limits for itself.

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
    /// Channels served before their money was deep enough, and the DAA score from which it is.
    shaky: HashMap<ChannelId, u64>,
}

/// What one channel adds.
struct Share {
    sompi: u64,
    payer: XOnlyKey,
    refund_address: Arc<str>,
}

/// Which limit a request would break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::gateway) enum Over {
    #[error("this channel would owe more than is allowed before it is claimed")]
    Channel,
    #[error("the channels of this key would owe more than is allowed")]
    Payer,
    #[error("the channels that refund to this address would owe more than is allowed")]
    RefundAddress,
    #[error("channels whose deposits are not confirmed would owe more than is allowed")]
    Unconfirmed,
    #[error("all channels together would owe more than is allowed")]
    Total,
}

impl Tally {
    /// Counts a channel as its record says, instead of what it counted before.
    pub fn set(&self, record: &ChannelRecord) {
        let sompi = if record.closure.is_some() { 0 } else { record.exposure().sompi() };
        self.sums().replace(record, sompi);
    }

    /// Counts a request of at most `ceiling` on top, or says which limit forbids it. [`Self::set`] ends it. `confirmed_at` is the
    /// DAA score from which the channel's money is deep enough; `None` when it is.
    pub fn admit(
        &self,
        record: &ChannelRecord,
        ceiling: Amount,
        limits: &Exposure,
        confirmed_at: Option<u64>,
        daa_score: u64,
    ) -> Result<(), Over> {
        let own = record.exposure().checked_add(ceiling).ok_or(Over::Channel)?.sompi();
        let mut sums = self.sums();
        let old = sums.channels.get(&record.id).map_or(0, |share| u128::from(share.sompi));
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
        sums.replace(record, own);
        Ok(())
    }

    /// Sompi over all channels.
    #[cfg(test)]
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
        others.filter_map(|id| channels.get(id)).map(|share| u128::from(share.sompi)).sum()
    }

    fn replace(&mut self, record: &ChannelRecord, sompi: u64) {
        // The charge of a whole ceiling, which was counted when it was admitted.
        if self.channels.get(&record.id).map_or(0, |share| share.sompi) == sompi {
            return;
        }
        let share = self.channels.remove(&record.id).unwrap_or_else(|| Share {
            sompi: 0,
            payer: record.config.client_public_key,
            refund_address: record.config.refund_address.as_str().into(),
        });
        let (less, more) = (u128::from(share.sompi), u128::from(sompi));
        move_sum(&mut self.payers, share.payer, less, more);
        move_sum(&mut self.refund_addresses, share.refund_address.clone(), less, more);
        self.total = self.total.saturating_sub(less).saturating_add(more);
        if sompi > 0 {
            self.channels.insert(record.id, Share { sompi, ..share });
        }
    }
}

/// Keys without a sum are forgotten: whoever pays once must not stay in memory for ever.
fn move_sum<K: Eq + Hash>(sums: &mut HashMap<K, u128>, key: K, less: u128, more: u128) {
    let sum = sums.get(&key).copied().unwrap_or(0).saturating_sub(less).saturating_add(more);
    if sum == 0 {
        sums.remove(&key);
    } else {
        sums.insert(key, sum);
    }
}
