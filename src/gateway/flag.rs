//! A flag that several wait for. They are woken in the order in which they came, so that one seed of the simulator is one run: a `watch` wakes
//! its waiters by chance.

use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

#[derive(Debug, Default)]
pub(super) struct Flag {
    up: AtomicBool,
    bell: Notify,
}

impl Flag {
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::SeqCst)
    }

    pub fn set(&self, up: bool) {
        self.up.store(up, Ordering::SeqCst);
        if up {
            self.bell.notify_waiters();
        }
    }

    /// Ends as soon as it is up.
    pub async fn wait(&self) {
        loop {
            // Made before the look: whoever raises it in between rings this one, too.
            let rung = self.bell.notified();
            if self.is_up() {
                return;
            }
            rung.await;
        }
    }
}
