//! What the buyer is willing to lock up in channels. What one request may cost is [`SpendingPolicy`]'s.

use super::{error::ChannelError, offer::ChannelOffer};
use crate::{
    client::policy::{SpendingPolicy, Unwilling},
    protocol::amount::Amount,
};

/// Thirty days at ten blocks per second.
const MAX_LOCK_DAA: u64 = 30 * 24 * 3_600 * 10;

/// Bounds of deposits. A deposit is not spent but locked: what is not charged comes back after the timeout, not before.
#[derive(Clone, Debug)]
pub struct ChannelPolicy {
    /// What a request that finds no channel opens one with. `None` opens none.
    pub deposit: Option<Amount>,
    /// The most that all channels of the wallet may hold together.
    pub max_locked: Option<Amount>,
    /// The furthest timeout that is taken, DAA scores from now. A server that names a far one locks the money that long.
    pub max_lock_daa: u64,
    /// Pay from this channel and no other.
    pub only: Option<crate::protocol::ids::ChannelId>,
}

impl Default for ChannelPolicy {
    fn default() -> Self {
        Self { deposit: None, max_locked: None, max_lock_daa: MAX_LOCK_DAA, only: None }
    }
}

impl ChannelPolicy {
    /// Whether `deposit` may be locked under this offer, beside what is `locked` already.
    pub fn judge(&self, deposit: Amount, offer: &ChannelOffer, locked: Amount, now_daa: u64) -> Result<(), ChannelError> {
        if deposit < offer.min_deposit {
            return Err(ChannelError::BelowMinimum { deposit, least: offer.min_deposit });
        }
        self.within(deposit, locked)?;
        let lock = offer.refund_timeout_daa.checked_sub(now_daa).filter(|lock| *lock > 0);
        match lock {
            Some(lock) if lock <= self.max_lock_daa => Ok(()),
            _ => Err(ChannelError::Timeout { timeout_daa: offer.refund_timeout_daa, now_daa, max_lock_daa: self.max_lock_daa }),
        }
    }

    /// Whether so much more may be locked.
    pub fn within(&self, more: Amount, locked: Amount) -> Result<(), ChannelError> {
        let sum = locked.checked_add(more);
        match self.max_locked {
            Some(max) if sum.is_none_or(|sum| sum > max) => Err(ChannelError::LockedTooMuch { more, locked, max }),
            _ => Ok(()),
        }
    }
}

/// The cheapest offer whose ceiling may be paid, the server's order deciding among equals; else why none.
pub fn choose<'o>(policy: &SpendingPolicy, offers: &'o [ChannelOffer]) -> Result<&'o ChannelOffer, Vec<Unwilling>> {
    let mut reasons = Vec::new();
    let judge = |offer: &&ChannelOffer| policy.judge_terms(offer.network, &offer.pay_to, offer.ceiling);
    let willing = offers.iter().filter(|offer| judge(offer).map_err(|reason| reasons.push(reason)).is_ok());
    willing.min_by_key(|offer| offer.ceiling).ok_or(reasons)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::channel::offer::{self, tests::entry};

    fn kas(kas: u64) -> Amount {
        Amount::from_sompi(kas * 100_000_000).unwrap()
    }

    #[test]
    fn a_deposit_has_a_least_a_most_and_a_time() {
        let offer = offer::read(entry()).unwrap();
        let policy = ChannelPolicy { max_locked: Some(kas(20)), max_lock_daa: 100_000, ..ChannelPolicy::default() };
        for (deposit, locked, now_daa, expect) in [
            (kas(1), kas(0), 450_000, "ok"),
            (kas(10), kas(10), 400_000, "ok"),
            (Amount::from_sompi(99_999_999).unwrap(), kas(0), 450_000, "below"),
            (kas(10), kas(11), 450_000, "locked"),
            (kas(10), kas(0), 399_999, "timeout"),
            (kas(10), kas(0), 500_000, "timeout"),
            (kas(10), kas(0), 600_000, "timeout"),
        ] {
            let got = match policy.judge(deposit, &offer, locked, now_daa) {
                Ok(()) => "ok",
                Err(ChannelError::BelowMinimum { .. }) => "below",
                Err(ChannelError::LockedTooMuch { .. }) => "locked",
                Err(ChannelError::Timeout { .. }) => "timeout",
                Err(other) => panic!("{other}"),
            };
            assert_eq!(got, expect, "{deposit} {locked} {now_daa}");
        }
    }
}
