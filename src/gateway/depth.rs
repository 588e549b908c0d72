//! Waiting until the sink's blue score reaches a value, for thousands of payments at the price of one task.

use crate::chain::Tip;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};
use tokio::sync::{oneshot, watch};

#[derive(Clone)]
pub(super) struct Depths {
    tip: watch::Receiver<Tip>,
    waiting: Arc<Mutex<BTreeMap<u64, Vec<oneshot::Sender<()>>>>>,
}

impl Depths {
    pub fn new(tip: watch::Receiver<Tip>) -> Self {
        Self { tip, waiting: Arc::default() }
    }

    pub fn tip(&self) -> Tip {
        *self.tip.borrow()
    }

    /// Ends when the chain has reached `blue_score` and is caught up.
    pub async fn reached(&self, blue_score: u64) {
        let reached = {
            let mut waiting = self.waiting.lock().expect("no panic while the map is locked");
            if self.tip.borrow().blue_score >= blue_score {
                return;
            }
            let (wake, reached) = oneshot::channel();
            waiting.entry(blue_score).or_default().push(wake);
            reached
        };
        if reached.await.is_err() {
            // The driver stopped: the process is going down, nothing becomes final any more.
            std::future::pending::<()>().await;
        }
    }

    /// Wakes whoever waits as the tip moves; runs until the chain goes away.
    pub async fn drive(self) {
        let mut tip = self.tip.clone();
        loop {
            let score = tip.borrow_and_update().blue_score;
            let due = {
                let mut waiting = self.waiting.lock().expect("no panic while the map is locked");
                let later = waiting.split_off(&score.saturating_add(1));
                std::mem::replace(&mut *waiting, later)
            };
            for wake in due.into_values().flatten() {
                // A waiter that gave up needs no waking.
                let _ = wake.send(());
            }
            if tip.changed().await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_waiter_wakes_when_its_score_is_reached_and_not_before() {
        let (tip, receiver) = watch::channel(Tip { daa_score: 0, blue_score: 5 });
        let depths = Depths::new(receiver);
        tokio::spawn(depths.clone().drive());
        depths.reached(5).await;
        let mut later = std::pin::pin!(depths.reached(7));
        assert!(futures::poll!(&mut later).is_pending());
        tip.send_modify(|tip| tip.blue_score = 6);
        tokio::task::yield_now().await;
        assert!(futures::poll!(&mut later).is_pending());
        tip.send_modify(|tip| tip.blue_score = 9);
        later.await;
    }
}
