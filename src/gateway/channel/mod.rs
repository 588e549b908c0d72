//! Channels (PROTOCOL section 5): what the chain does to them, and the claims that bring their charges to the recipient.
//!
//! Promises: a record follows the chain, never the other way round; of one channel at most one claim is built at a time; nothing
//! signed is sent before it is durable, and nothing durable is forgotten before it is final. `watch` is the only
//! caller of `observe_channel`.

pub mod claim;
pub mod report;
mod scripts;
pub(super) mod watch;

use super::Gateway;
use crate::{
    binding::escrow_v1::{EscrowScript, config::ConfigError},
    store::{
        StoreError,
        channels::{ChannelQuery, ChannelRecord, ChannelSelection},
    },
};
use std::sync::Arc;

/// Records read at once.
const PAGE: u32 = 256;

/// What this process keeps about channels beside the store.
#[derive(Default)]
pub(super) struct Channels {
    scripts: scripts::Scripts,
    watchers: watch::Watchers,
    claimer: claim::Claimer,
}

impl Gateway {
    /// The escrow script of a channel, derived once.
    pub(in crate::gateway) fn script(&self, record: &ChannelRecord) -> Result<Arc<EscrowScript>, ConfigError> {
        self.channels.scripts.of(record)
    }

    /// Takes up every channel that is not closed for good. Called by `recover`, before traffic.
    pub(super) async fn recover_channels(self: &Arc<Self>) -> Result<(), StoreError> {
        let mut after = 0;
        loop {
            let query = ChannelQuery { selection: ChannelSelection::Open, after, limit: PAGE };
            let page = self.ask(self.store.channels(&query)).await?;
            let Some(last) = page.last() else { break };
            after = last.sequence;
            for record in page {
                self.take_up_channel(&record);
                self.channel_changed(&record);
                if record.stream.is_some() {
                    let (gateway, id) = (self.clone(), record.id);
                    tokio::spawn(async move { gateway.post_stream_left_behind(&id).await });
                }
            }
        }
        tokio::spawn(self.clone().claim_when_due());
        Ok(())
    }

    /// Another policy, or other keys: what was not to be claimed may be now.
    pub(super) async fn reconsider_channels(self: Arc<Self>) -> Result<(), StoreError> {
        self.hesitate_no_longer();
        let mut after = 0;
        loop {
            let query = ChannelQuery { selection: ChannelSelection::Open, after, limit: PAGE };
            let page = self.ask(self.store.channels(&query)).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.sequence;
            page.iter().for_each(|record| self.channel_changed(record));
        }
    }

    /// Keeps the gauges current. The error is logged and remembered.
    pub(super) async fn count_channels(&self) {
        if let Ok(totals) = self.ask(self.store.channel_totals()).await {
            self.metrics.channels_open.set(i64::try_from(totals.open).unwrap_or(i64::MAX));
            self.metrics.unclaimed_sompi.set(i64::try_from(totals.active_sompi).unwrap_or(i64::MAX));
        }
    }

    /// Something of a channel was stored. Cheap: called after every charge.
    pub(in crate::gateway) fn channel_changed(&self, record: &ChannelRecord) {
        self.consider_claim(record);
    }
}
