//! Counts requests that are being answered, so that a shutdown can wait for the last one.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::sync::Notify;

#[derive(Clone, Default)]
pub(super) struct InFlight(Arc<Shared>);

#[derive(Default)]
struct Shared {
    count: AtomicUsize,
    idle: Notify,
}

/// One request; counted until it is dropped.
pub(super) struct Counted(Arc<Shared>);

impl InFlight {
    pub(super) fn enter(&self) -> Counted {
        self.0.count.fetch_add(1, Ordering::AcqRel);
        Counted(self.0.clone())
    }

    /// Returns once no request is in flight.
    pub(super) async fn idle(&self) {
        loop {
            // Registered before the count is read, so that a request ending in between is not missed.
            let idle = self.0.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable();
            if self.0.count.load(Ordering::Acquire) == 0 {
                return;
            }
            idle.await;
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn idle_returns_when_the_last_request_ends() {
        let requests = InFlight::default();
        requests.idle().await;
        let (first, second) = (requests.enter(), requests.enter());
        let waiting = tokio::spawn({
            let requests = requests.clone();
            async move { requests.idle().await }
        });
        drop(first);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "one request is still running");
        drop(second);
        waiting.await.unwrap();
    }
}
