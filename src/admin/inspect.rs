//! What the admin listener may know of the gateway.

use crate::{
    chain::{Health, Tip},
    gateway::{
        Gateway,
        channel::report::{ChannelView, Outcome},
        ledger::{Cursor, Detail, Filter, Granted, Page},
        reconcile::{ReconcileError, Reconciled},
    },
    protocol::{
        ids::{ChannelId, TxId},
        network::Network,
    },
    store::{StoreError, Totals, channels::ChannelTotals},
};
use async_trait::async_trait;
use serde_json::{Value, json};

/// The inspected gateway. Reads only, but for [`Inspect::claim`], [`Inspect::grant`] and [`Inspect::reconcile`].
#[async_trait]
pub trait Inspect: Send + Sync + 'static {
    /// Whether priced routes can be sold now, and why not; cheap, never waits.
    fn readiness(&self) -> Result<(), String>;

    /// Prometheus text.
    fn metrics(&self) -> String;

    async fn status(&self) -> Status;

    /// Channels in the order of their openings, `limit` at a time, after a sequence.
    async fn channels(&self, open_only: bool, after: u64, limit: u32) -> Result<Vec<ChannelView>, StoreError>;

    async fn channel(&self, id: &ChannelId) -> Result<Option<ChannelView>, StoreError>;

    /// Claims what a channel owes, for an operator.
    async fn claim(&self, id: &ChannelId, any_fee: bool) -> Outcome;

    /// Payments and charges, at most `limit`, after a place in the list.
    async fn payments(&self, filter: &Filter, after: Cursor, limit: usize) -> Result<Page, StoreError>;

    /// The payment of this transaction, or the charge of this commitment.
    async fn payment(&self, id: TxId) -> Result<Option<Detail>, StoreError>;

    /// Makes a payment good for its request again.
    async fn grant(&self, txid: TxId, seconds: u64) -> Result<Granted, StoreError>;

    /// Compares some records with the chain, and books what the node proves when that is wanted.
    async fn reconcile(&self, after: Cursor, repair: bool) -> Result<Reconciled, ReconcileError>;
}

/// What `/status` says.
#[derive(Debug)]
pub struct Status {
    pub network: Network,
    pub readiness: Result<(), String>,
    pub node: Health,
    pub tip: Tip,
    pub totals: Result<Totals, StoreError>,
    pub channels: Result<ChannelTotals, StoreError>,
}

impl Status {
    /// For people and scripts; sums of money are decimal strings in sompi, as on the wire.
    pub fn json(&self) -> Value {
        let reasons = self.readiness.as_ref().err();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "network": self.network,
            "ready": self.readiness.is_ok(),
            "reasons": reasons.into_iter().collect::<Vec<_>>(),
            "node": {
                "ready": self.node.ready,
                "reason": self.node.reason,
                "serverVersion": self.node.server_version,
                "daaScore": self.tip.daa_score.to_string(),
                "blueScore": self.tip.blue_score.to_string(),
            },
            "payments": match &self.totals {
                Ok(totals) => json!({
                    "pending": totals.pending,
                    "settled": totals.settled,
                    "delivered": totals.delivered,
                    "reversed": totals.reversed,
                    "chargedSompi": totals.charged_sompi.to_string(),
                    "reversedSompi": totals.reversed_sompi.to_string(),
                    "owedSompi": totals.owed_sompi.to_string(),
                }),
                Err(error) => json!({ "error": error.to_string() }),
            },
            "channels": match &self.channels {
                Ok(totals) => json!({
                    "open": totals.open,
                    "closed": totals.closed,
                    "charges": totals.charges,
                    "chargedSompi": totals.charged_sompi.to_string(),
                    "claimedSompi": totals.claimed_sompi.to_string(),
                    "unclaimedSompi": totals.active_sompi.to_string(),
                    "lostSompi": totals.lost_sompi.to_string(),
                    "fundedSompi": totals.funded_sompi.to_string(),
                }),
                Err(error) => json!({ "error": error.to_string() }),
            },
        })
    }
}

#[async_trait]
impl Inspect for Gateway {
    fn readiness(&self) -> Result<(), String> {
        Gateway::readiness(self)
    }

    fn metrics(&self) -> String {
        Gateway::metrics(self).render()
    }

    async fn status(&self) -> Status {
        let chain = self.chain();
        let node = chain.health().borrow().clone();
        let tip = *chain.tip().borrow();
        let (totals, channels) = (self.store().totals().await, self.store().channel_totals().await);
        Status { network: chain.network(), readiness: Gateway::readiness(self), node, tip, totals, channels }
    }

    async fn channels(&self, open_only: bool, after: u64, limit: u32) -> Result<Vec<ChannelView>, StoreError> {
        self.channel_views(open_only, after, limit).await
    }

    async fn channel(&self, id: &ChannelId) -> Result<Option<ChannelView>, StoreError> {
        self.channel_view(id).await
    }

    async fn claim(&self, id: &ChannelId, any_fee: bool) -> Outcome {
        self.claim_by_hand(id, any_fee).await
    }

    async fn payments(&self, filter: &Filter, after: Cursor, limit: usize) -> Result<Page, StoreError> {
        self.ledger(filter, after, limit).await
    }

    async fn payment(&self, id: TxId) -> Result<Option<Detail>, StoreError> {
        self.ledger_entry(id).await
    }

    async fn grant(&self, txid: TxId, seconds: u64) -> Result<Granted, StoreError> {
        Gateway::grant(self, txid, seconds).await
    }

    async fn reconcile(&self, after: Cursor, repair: bool) -> Result<Reconciled, ReconcileError> {
        Gateway::reconcile(self, after, repair).await
    }
}
