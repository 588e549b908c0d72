//! Several gateways over one store: what another one began and did not end is taken up here.
//!
//! Each gateway follows everything that is open, not only what it served: payments until they are final, channels until they are closed.
//! Following twice is harmless (sightings are idempotent, transactions are sent again byte for byte), a claim is built under the channel's lease and
//! once built keeps every other out by the record itself, and a stream is posted only under a lease that its holder let expire. So nobody has to
//! know which gateways live. Called by `recover` when the store is shared.

use super::Gateway;
use crate::{protocol::ids::ChannelId, store::StoreError};
use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

/// How long what a gateway left behind may stay unnoticed, in lengths of a hold: a minute. What a client waits for does not wait for it (the
/// next request takes a hold that is over, and posts a stream that it finds); transactions to be sent again and streams of clients who are gone
/// do. A round reads everything that is open, so oftener would cost more than it brings.
const EVERY_HOLDS: u32 = 6;

/// Streams of others whose end is waited for.
type Awaited = Arc<Mutex<HashSet<ChannelId>>>;

impl Gateway {
    /// Runs for the life of the process.
    pub(super) async fn keep_up(self: Arc<Self>) {
        let awaited = Awaited::default();
        let mut every = tokio::time::interval(self.limits.hold * EVERY_HOLDS);
        // `recover` has just done the first round.
        every.tick().await;
        loop {
            every.tick().await;
            // The error is logged and remembered; the next round tries again.
            let _ = self.take_up_all(&awaited).await;
        }
    }

    async fn take_up_all(self: &Arc<Self>, awaited: &Awaited) -> Result<(), StoreError> {
        self.take_up_payments().await?;
        self.each_open_channel(|record| {
            self.take_up_channel(record);
            self.channel_changed(record);
            if record.stream.is_some() {
                self.await_stream(record.id, awaited);
            }
        })
        .await
    }

    /// Once per stream: one that runs is renewed for as long as it takes.
    fn await_stream(self: &Arc<Self>, id: ChannelId, awaited: &Awaited) {
        if !awaited.lock().unwrap_or_else(PoisonError::into_inner).insert(id) {
            return;
        }
        let (gateway, awaited) = (self.clone(), awaited.clone());
        tokio::spawn(async move {
            gateway.post_stream_left_behind(&id).await;
            awaited.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        });
    }
}
