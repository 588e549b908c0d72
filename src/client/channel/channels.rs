//! All channels of a wallet: its books, its keys, and where the chain says that the money is.

use super::{
    account::Lie,
    error::ChannelError,
    lock::{Held, Locks},
    policy::ChannelPolicy,
    record::{Channel, Event, Flight, Phase},
};
use crate::{
    binding::escrow_v1::{
        EscrowScript,
        spend::{SpendRules, reserve},
    },
    chain::Chain,
    client::{
        coins::CoinRules,
        error::Unpaid,
        journal::{Journal, JournalError},
        paid::Edge,
        policy::Patience,
        wallet::{ChannelKey, Wallet},
    },
    protocol::{
        amount::Amount,
        ids::{ChannelId, Outpoint},
    },
};
use std::{sync::Arc, time::Duration};

/// The channels of one wallet. Cheap to share.
pub struct Channels {
    pub(super) wallet: Arc<Wallet>,
    pub(super) journal: Arc<Journal>,
    /// Needed to open, to top up, to refund, and to follow a channel that moved on.
    pub(super) chain: Option<Arc<dyn Chain>>,
    pub(super) coin_rules: CoinRules,
    pub(super) spend_rules: SpendRules,
    pub(super) patience: Patience,
    locks: Locks,
}

/// A channel as `status` shows it.
#[derive(Clone, Debug)]
pub struct Standing {
    pub channel: Channel,
    pub in_flight: Option<Flight>,
    /// What a claim must leave in the escrow; it comes back with the refund.
    pub reserve: Option<Amount>,
    /// What further requests can be charged.
    pub spendable: Amount,
    /// `None` without a node.
    pub left: Option<TimeLeft>,
}

/// Until the refund is possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeLeft {
    pub now_daa: u64,
    /// Zero when it is.
    pub daa: u64,
    /// At the network's block rate.
    pub time: Duration,
}

impl Channels {
    pub fn new(
        wallet: Arc<Wallet>,
        journal: Arc<Journal>,
        chain: Option<Arc<dyn Chain>>,
        coin_rules: CoinRules,
        patience: Patience,
    ) -> Arc<Self> {
        let spend_rules = SpendRules::of(wallet.network());
        let locks = Locks::of(&journal);
        Arc::new(Self { wallet, journal, chain, coin_rules, spend_rules, patience, locks })
    }

    /// Every channel of the journal, oldest first.
    pub fn list(&self) -> Result<Vec<Channel>, ChannelError> {
        Ok(self.journal.channels()?)
    }

    pub fn get(&self, id: &ChannelId) -> Result<Channel, ChannelError> {
        self.journal.channel(id)?.ok_or(ChannelError::NotFound(*id))
    }

    /// What is known of a channel without asking anybody.
    pub fn standing(&self, channel: Channel) -> Result<Standing, ChannelError> {
        let reserve = reserve(&channel.script(), channel.account.funding, &self.spend_rules);
        let spendable = reserve.filter(|_| channel.phase.pays()).and_then(|reserve| channel.account.left().checked_sub(reserve));
        let left = self.chain.as_ref().filter(|chain| chain.health().borrow().ready).map(|chain| {
            let now_daa = chain.tip().borrow().daa_score;
            self.time_left(channel.config.refund_timeout_daa, now_daa)
        });
        let in_flight = self.journal.in_flight(&channel.id)?;
        Ok(Standing { in_flight, reserve, spendable: spendable.unwrap_or(Amount::ZERO), left, channel })
    }

    /// What the money of all channels is bounded by: the sum of what they hold.
    pub(super) fn locked(&self) -> Result<Amount, ChannelError> {
        let channels = self.journal.channels()?;
        let held = channels.iter().filter(|channel| channel.phase.holds_money()).map(|channel| channel.account.funding);
        // Real deposits never exceed the supply; if these did, nothing more would be locked.
        let most = Amount::from_sompi(crate::protocol::amount::MAX_SOMPI).expect("the maximum is an amount");
        Ok(held.fold(Amount::ZERO, |sum, funding| sum.checked_add(funding).unwrap_or(most)))
    }

    pub(super) fn within(&self, policy: &ChannelPolicy, more: Amount) -> Result<(), ChannelError> {
        policy.within(more, self.locked()?)
    }

    /// A block whose DAA score is greater than the timeout may hold the refund.
    pub(super) fn time_left(&self, timeout_daa: u64, now_daa: u64) -> TimeLeft {
        let daa = timeout_daa.saturating_add(1).saturating_sub(now_daa);
        TimeLeft { now_daa, daa, time: Duration::from_secs(daa.div_ceil(self.coin_rules.blocks_per_second.max(1))) }
    }

    pub(super) fn key(&self, channel: &Channel) -> ChannelKey {
        self.wallet.channel_key(channel.key_index)
    }

    /// The smallest continuation a claim must leave.
    pub(super) fn reserve(&self, channel: &Channel, script: &EscrowScript) -> Result<Amount, ChannelError> {
        let funding = channel.account.funding;
        reserve(script, funding, &self.spend_rules).ok_or(ChannelError::TooSmall(funding))
    }

    /// Waits until this channel is nobody else's.
    pub(super) async fn lock(&self, id: &ChannelId) -> Result<Held, ChannelError> {
        self.lock_name(&id.to_string()).await
    }

    pub(super) async fn lock_name(&self, name: &str) -> Result<Held, ChannelError> {
        match tokio::time::timeout(self.patience.total, self.locks.take(name)).await {
            Ok(held) => Ok(held?),
            Err(_) => Err(ChannelError::Busy(name.to_owned())),
        }
    }

    /// The lock, unless somebody uses the channel now.
    pub(super) fn try_lock(&self, id: &ChannelId) -> Result<Option<Held>, JournalError> {
        self.locks.try_take(&id.to_string())
    }

    /// The node, once it can be asked.
    pub(super) async fn ready(&self) -> Result<&Arc<dyn Chain>, ChannelError> {
        let chain = self.chain.as_ref().ok_or(Unpaid::NoNode)?;
        crate::client::paid::ready(chain.as_ref(), self.patience.total).await?;
        Ok(chain)
    }

    /// Writes changed books, which nobody else may have changed meanwhile.
    pub(super) fn save(&self, channel: &mut Channel, words: Option<String>, edge: &Edge<'_>) -> Result<(), ChannelError> {
        let event = words.map(|words| Event { at: (edge.now)(), words });
        match self.journal.save_channel(channel, event.as_ref())? {
            true => Ok(()),
            false => Err(ChannelError::Contended(channel.id)),
        }
    }

    /// The channel is of no more use to pay with; its rest comes back after the timeout.
    pub(super) fn retire(&self, channel: &mut Channel, phase: Phase, why: String, edge: &Edge<'_>) -> Result<(), ChannelError> {
        channel.phase = phase;
        channel.why = Some(why.clone());
        self.save(channel, Some(why), edge)
    }

    /// The server said what cannot be true.
    pub(super) fn dispute(&self, channel: &mut Channel, lie: Lie, edge: &Edge<'_>) -> ChannelError {
        match self.retire(channel, Phase::Disputed, lie.to_string(), edge) {
            Ok(()) => ChannelError::Wrong { channel: channel.id, lie },
            Err(error) => error,
        }
    }

    /// The coins that no payment of this wallet has taken, but for those to be freed.
    pub(super) fn locked_coins(&self, freed: &[Outpoint]) -> Result<std::collections::HashSet<Outpoint>, JournalError> {
        let mut locked = self.journal.locked()?;
        for outpoint in freed {
            locked.remove(outpoint);
        }
        Ok(locked)
    }
}
