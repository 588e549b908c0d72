//! Selling from channels (`batch-settlement`, PROTOCOL section 5), what the chain does to them, and the claims that bring their
//! charges to the recipient.
//!
//! Promises: a request is served only under a lease and for a voucher that covers its ceiling; its charge is durable before its answer is
//! let out; a record follows the chain, never the other way round; of one channel at most one claim is built at a time; nothing
//! signed is sent before it is durable, and nothing durable is forgotten before it is final. One channel is served in order, thousands in
//! parallel.
//!
//! [`serve`] takes a request from its payload to a lease, [`deposit`] opens and tops up, [`deliver`] forwards and charges,
//! [`meter`] reads what an answer costs, [`exposure`] counts what is owed, [`correct`] says what a client may learn,
//! [`receipts`] answers for charges that are over, [`escrows`] knows what is no payment. [`watch`] follows outputs and moves and is the only caller of
//! `observe_channel`; [`claim`] claims.

pub mod claim;
mod correct;
pub(super) mod deliver;
mod deposit;
mod escrows;
pub(super) mod exposure;
pub(super) mod meter;
mod receipts;
pub mod report;
mod scripts;
pub(super) mod serve;
pub(super) mod sse;
pub(super) mod watch;

pub(in crate::gateway) use correct::state;
pub(in crate::gateway) use receipts::{ReceiptOf, asked, not_charged};

use super::{Gateway, flight::Flights, remote::channel::Elsewhere, respond::Refusal};
use crate::{
    binding::escrow_v1::{EscrowScript, config::ConfigError, spend::SpendRules},
    protocol::{
        ids::{ChannelId, PaymentIdentifier},
        network::Network,
        refusal::Code,
    },
    store::{
        StoreError,
        channels::{ChannelQuery, ChannelRecord, ChannelSelection},
    },
};
use std::sync::Arc;

/// Records read at once.
const PAGE: u32 = 256;

/// What this process keeps about channels beside the store; all of it can be made again.
pub(super) struct Channels {
    scripts: scripts::Scripts,
    escrows: escrows::Escrows,
    watchers: watch::Watchers,
    claimer: claim::Claimer,
    pub exposure: exposure::Tally,
    flights: Flights<(ChannelId, PaymentIdentifier)>,
    /// Of channels that another gateway keeps.
    pub elsewhere: Elsewhere,
    rules: SpendRules,
}

impl Channels {
    pub fn new(network: Network) -> Self {
        Self {
            scripts: scripts::Scripts::default(),
            escrows: escrows::Escrows::default(),
            watchers: watch::Watchers::default(),
            claimer: claim::Claimer::default(),
            exposure: exposure::Tally::default(),
            flights: Flights::default(),
            elsewhere: Elsewhere::default(),
            rules: SpendRules::of(network),
        }
    }
}

impl Gateway {
    /// The escrow script of a channel, derived once.
    pub(in crate::gateway) fn script(&self, record: &ChannelRecord) -> Result<Arc<EscrowScript>, ConfigError> {
        self.channels.scripts.of(record)
    }

    /// The same, for a request: what is damaged is refused.
    fn script_or_refuse(&self, record: &ChannelRecord) -> Result<Arc<EscrowScript>, Refusal> {
        self.script(record).map_err(|error| {
            tracing::error!(channel = %record.id, %error, "a stored channel has no script");
            Refusal::new(Code::StoreUnavailable, "")
        })
    }

    /// Takes up every channel that is not closed for good. Called by `recover`, before traffic.
    pub(super) async fn recover_channels(self: &Arc<Self>) -> Result<(), StoreError> {
        self.each_open_channel(|record| {
            self.take_up_channel(record);
            self.channel_changed(record);
            self.count_unconfirmed(record);
            if record.stream.is_some() {
                let (gateway, id) = (self.clone(), record.id);
                tokio::spawn(async move { gateway.post_stream_left_behind(&id).await });
            }
        })
        .await?;
        tokio::spawn(self.clone().claim_when_due());
        Ok(())
    }

    /// Another policy, or other keys: what was not to be claimed may be now.
    pub(super) async fn reconsider_channels(self: Arc<Self>) -> Result<(), StoreError> {
        self.hesitate_no_longer();
        self.each_open_channel(|record| {
            self.channel_changed(record);
            self.count_unconfirmed(record);
        })
        .await
    }

    /// In the order they were opened, a page at a time.
    pub(super) async fn each_open_channel(&self, mut visit: impl FnMut(&Arc<ChannelRecord>) + Send) -> Result<(), StoreError> {
        let mut after = 0;
        loop {
            let query = ChannelQuery { selection: ChannelSelection::Open, after, limit: PAGE };
            let page = self.ask(self.store.channels(&query)).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.sequence;
            page.iter().for_each(&mut visit);
        }
    }

    /// Keeps the gauges current. The error is logged and remembered.
    pub(super) async fn count_channels(&self) {
        if let Ok(totals) = self.ask(self.store.channel_totals()).await {
            self.metrics.channels_open.set(i64::try_from(totals.open).unwrap_or(i64::MAX));
            self.metrics.unclaimed_sompi.set(i64::try_from(totals.active_sompi).unwrap_or(i64::MAX));
            // Read a moment apart: a gauge, not an account.
            let reserved = self.channels.exposure.total().saturating_sub(totals.active_sompi);
            self.metrics.reserved_sompi.set(i64::try_from(reserved).unwrap_or(i64::MAX));
        }
    }

    /// The chain said something of a channel's money, or this process begins: what it owes counts as unconfirmed until that is deep enough.
    fn count_unconfirmed(&self, record: &ChannelRecord) {
        let policy = self.policy.load();
        let Some(rules) = policy.channels.as_ref().filter(|_| !record.exposure().is_zero()) else { return };
        self.channels.exposure.confirmed_at(&record.id, self.confirmed_at(record, rules).ok().flatten().unwrap_or(u64::MAX));
    }

    /// Something of a channel was stored. Cheap: called after every charge.
    pub(in crate::gateway) fn channel_changed(&self, record: &ChannelRecord) {
        self.channels.exposure.set(record);
        self.consider_claim(record);
    }
}
