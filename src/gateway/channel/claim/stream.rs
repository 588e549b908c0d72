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
    /// Posts the stream of a channel that nobody serves any more, whatever the store does meanwhile. Harmless when there is none.
    pub(in crate::gateway) async fn post_stream_left_behind(&self, id: &ChannelId) {
        loop {
            match self.post_stream(id).await {
                // Whoever holds it now posts it, or leaves it to the next claim.
                Ok(()) | Err(Unclaimed::Unknown | Unclaimed::Busy) => return,
                Err(Unclaimed::Store(StoreError::Unavailable(_) | StoreError::Unknown(_))) => tokio::time::sleep(STORE_BACKOFF).await, // backoff
                Err(error) => return tracing::error!(channel = %id, %error, "a stream that was left behind cannot be posted"),
            }
        }
    }

    async fn post_stream(&self, id: &ChannelId) -> Result<(), Unclaimed> {
        let (lease, record) = self.lease_for_upkeep(id).await?;
        if record.stream.is_some() {
            return self.post_left_behind(lease, &record).await;
        }
        self.ask(self.store.advance_channel(&lease, ChannelFact::Released, self.now())).await?;
        Ok(())
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
