//! A stream that a dead process, or a lost lease, left behind is posted: what was metered, else what the route charges for the unknown.

use super::{super::super::Gateway, Unclaimed};
use crate::{
    binding::escrow_v1::hashes::Commitment,
    protocol::ids::ChannelId,
    store::{
        StoreError,
        channels::{ChannelFact, ChannelRecord, ChannelStep, Charge, Lease, OpenStream},
    },
};
use std::time::Duration;

/// How long a store that failed is left alone.
const STORE_BACKOFF: Duration = Duration::from_secs(1);

impl Gateway {
    /// Sees to it that the stream of a channel is posted once nobody runs it any more, whatever the store does meanwhile. Harmless when there
    /// is none. Another process may run it and end it, or die.
    pub(in crate::gateway) async fn post_stream_left_behind(&self, id: &ChannelId) {
        loop {
            match self.post_stream(id).await {
                Ok(true) | Err(Unclaimed::Unknown) => return,
                Ok(false) => {}
                Err(Unclaimed::Busy) => tokio::time::sleep(self.limits.hold).await, // why: whoever holds it renews, or ends, without telling
                Err(Unclaimed::Store(StoreError::Unavailable(_) | StoreError::Unknown(_))) => tokio::time::sleep(STORE_BACKOFF).await, // why: a store that failed says nothing when it works again
                Err(error) => return tracing::error!(channel = %id, %error, "a stream that was left behind cannot be posted"),
            }
        }
    }

    /// `true`: there is none.
    async fn post_stream(&self, id: &ChannelId) -> Result<bool, Unclaimed> {
        let (lease, record) = self.lease_for_upkeep(id).await?;
        if record.stream.is_some() {
            return self.post_left_behind(lease, &record).await.map(|()| false);
        }
        self.ask(self.store.advance_channel(&lease, ChannelFact::Released, self.now())).await?;
        Ok(true)
    }

    /// Ends the lease. The caller holds the channel, so nobody runs the stream any more.
    pub(in crate::gateway) async fn post_left_behind(&self, lease: Lease, record: &ChannelRecord) -> Result<(), Unclaimed> {
        let Some(stream) = &record.stream else { return Err(Unclaimed::Refused) };
        let charge = left_behind(record.id, stream).ok_or(Unclaimed::Refused)?;
        let (channel, sompi, metered) = (record.id, charge.charge.sompi(), stream.reading.is_some());
        match self.ask(self.store.advance_channel(&lease, ChannelFact::Committed(Box::new(charge)), self.now())).await? {
            ChannelStep::Done(record) => {
                tracing::warn!(%channel, charge_sompi = sompi, metered, "a stream was left behind: posted");
                self.channel_changed(&record);
                Ok(())
            }
            ChannelStep::Stale => Ok(()),
            ChannelStep::Refused => Err(Unclaimed::Refused),
        }
    }
}

/// The charge of a stream whose end nobody saw. `None` only when its sums overflow.
fn left_behind(channel: ChannelId, stream: &OpenStream) -> Option<Charge> {
    let OpenStream { terms, charged_before, claimed, reading, unknown, status, .. } = stream;
    let charge = reading.unwrap_or(*unknown).min(terms.ceiling);
    let commitment = Commitment {
        channel,
        request_hash: terms.request_hash,
        requirements_hash: terms.requirements_hash,
        outpoint: terms.outpoint,
        voucher: terms.voucher,
        charge,
        charged_before: *charged_before,
        charged_after: charged_before.checked_add(charge)?,
        claimed: *claimed,
    };
    Some(Charge {
        commitment: commitment.id(),
        terms: terms.clone(),
        charge,
        charged_before: *charged_before,
        claimed: *claimed,
        status: *status,
        response: None,
    })
}
