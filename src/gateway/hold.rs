//! A payment of the store while this process holds it: renewed until its last step.

use super::Gateway;
use crate::store::{Advanced, Fact, Held, StoreError};
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::time::{Instant, timeout_at};

/// See the module.
#[must_use]
pub(super) struct Hold {
    pub held: Held,
    /// It is being ended by its holder, so that its loss means nothing any more.
    over: AtomicBool,
}

/// How a hold was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// Another request holds the payment.
    Taken,
    /// Nobody can hold on to it.
    Closed,
    /// The store does not renew it.
    Store,
}

impl Hold {
    pub fn new(held: Held) -> Self {
        Self { held, over: AtomicBool::new(false) }
    }
}

impl Gateway {
    /// Renews a hold at a third of its length; ends only when it is lost, and says how.
    pub(super) async fn keep(&self, hold: &Hold) -> Lost {
        let hold_millis = self.limits.hold_millis();
        let mut renewed = Instant::now();
        let mut third = tokio::time::interval(self.limits.hold / 3);
        third.tick().await;
        loop {
            third.tick().await;
            let asked = Instant::now();
            let renewal = self.advance(&hold.held, Fact::Renewed { hold_millis });
            let answer = timeout_at(renewed + self.limits.hold, renewal).await;
            if hold.over.load(Ordering::Relaxed) {
                // The last step ended it, and the answer to it may still be on its way out.
                return std::future::pending().await;
            }
            match answer {
                Ok(Ok(Advanced::Done)) => renewed = asked,
                Ok(Ok(Advanced::Stale)) => return Lost::Taken,
                Ok(Ok(Advanced::Refused)) => return Lost::Closed,
                Ok(Err(_)) if renewed.elapsed() < self.limits.hold => {}
                Ok(Err(_)) | Err(_) => return Lost::Store,
            }
        }
    }

    pub(super) async fn advance(&self, held: &Held, fact: Fact) -> Result<Advanced, StoreError> {
        self.ask(self.store.advance(held, fact, self.now())).await
    }

    /// The last step of a hold.
    pub(super) async fn end(&self, hold: &Hold, fact: Fact) -> Result<Advanced, StoreError> {
        hold.over.store(true, Ordering::Relaxed);
        self.advance(&hold.held, fact).await
    }

    /// Ends the hold; when the store cannot, its expiry does.
    pub(super) async fn release(&self, hold: &Hold) {
        if let Err(error) = self.end(hold, Fact::Released).await {
            tracing::warn!(%error, txid = %hold.held.key().txid, "hold left to expire");
        }
    }
}
