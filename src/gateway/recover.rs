//! After delivery and after a crash: every consumed payment is followed on the chain until it is
//! final or reversed (PROTOCOL section 4), and what a dead process left open is taken up again.

use super::{Gateway, follow::Follow};
use crate::{
    binding::exact_v1::decode,
    chain::TxStatus,
    store::{Acceptance, ChainFact, Observed, PaymentKey, PaymentRecord, Query, Selection, StoreError, Submission},
};
use kaspa_consensus_core::tx::Transaction;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::task::AbortHandle;

/// Records read at once.
const PAGE: u32 = 256;
/// How often the place to catch up from is made durable.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(5);
/// How long a store that failed is left alone before a fact of the chain is offered again.
const STORE_BACKOFF: Duration = Duration::from_secs(1);

/// The payments this process follows.
#[derive(Default)]
pub(super) struct Watched {
    tasks: Mutex<HashMap<PaymentKey, AbortHandle>>,
    /// The gateway itself, for the tasks; set by [`Gateway::recover`].
    pub(super) me: std::sync::OnceLock<std::sync::Weak<Gateway>>,
}

impl Gateway {
    /// Takes up everything that is not final, then keeps the checkpoint and the store's health
    /// current. Runs for the life of the process; call it once, before traffic.
    pub async fn recover(self: Arc<Self>) -> Result<(), StoreError> {
        let _ = self.watched.me.set(Arc::downgrade(&self));
        tokio::spawn(self.depths.clone().drive());
        self.take_up_payments().await?;
        self.recover_channels().await?;
        tokio::spawn(self.clone().keep_checkpoint());
        if self.store.is_shared() {
            tokio::spawn(self.clone().keep_up());
        }
        Ok(())
    }

    /// The gateway itself, for tasks; `None` before [`Gateway::recover`].
    pub(super) fn arc(&self) -> Option<Arc<Gateway>> {
        self.watched.me.get().and_then(std::sync::Weak::upgrade)
    }

    /// Follows every payment that is not final.
    pub(super) async fn take_up_payments(&self) -> Result<(), StoreError> {
        let mut after = 0;
        loop {
            let page = self.ask(self.store.payments(&Query { selection: Selection::Open, after, limit: PAGE })).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.sequence;
            page.iter().for_each(|record| self.take_up(record));
        }
    }

    pub(super) fn take_up(&self, record: &PaymentRecord) {
        if self.remote.get().is_some() || record.from_channel.is_some() {
            // Without a node, or a transaction, there is nothing to follow: who settled it does.
            return;
        }
        match decode::read_stored(&record.transaction) {
            // What was perhaps never sent is not sent on the presenter's behalf: the client's
            // retry does that, and learns whether somebody else was first.
            Ok(transaction) => self.watch(record.key, &transaction, record.acceptance, record.submission != Submission::None),
            Err(error) => tracing::error!(%error, txid = %record.key.txid, "stored transaction cannot be read"),
        }
    }

    /// Follows a payment until it is final; once per payment.
    pub(super) fn watch(&self, key: PaymentKey, transaction: &Transaction, known: Option<Acceptance>, resubmit: bool) {
        let Some(gateway) = self.arc() else {
            // Before `recover` there is no traffic and nothing to follow.
            return;
        };
        let follow = self.follows.follow(transaction, known, resubmit);
        let mut tasks = self.watched.tasks.lock().expect("no panic while the map is locked");
        if tasks.contains_key(&key) {
            // Followed already; this call has raised `resubmit`.
            return;
        }
        let gauge = Gauged::new(self.metrics.followed.clone());
        let task = tokio::spawn(async move {
            let _gauge = gauge;
            gateway.follow_to_the_end(key, follow, known).await;
            gateway.watched.tasks.lock().expect("no panic while the map is locked").remove(&key);
        });
        tasks.insert(key, task.abort_handle());
    }

    /// The claim was freed: there is nothing to follow any more.
    pub(super) fn unwatch(&self, key: &PaymentKey) {
        if let Some(task) = self.watched.tasks.lock().expect("no panic while the map is locked").remove(key) {
            task.abort();
        }
    }

    async fn follow_to_the_end(&self, key: PaymentKey, mut follow: Follow, mut recorded: Option<Acceptance>) {
        let status = &mut follow.status;
        loop {
            let current = *status.borrow_and_update();
            let depth = match current {
                TxStatus::Accepted(acceptance) => {
                    if recorded != Some(acceptance) {
                        if self.observe_until_stored(&key, ChainFact::Accepted(acceptance)).await == Observed::NotFound {
                            return;
                        }
                        recorded = Some(acceptance);
                    }
                    Some(acceptance.blue_score)
                }
                TxStatus::Conflicted { acceptance, by } => {
                    self.note_taken_back(&key, &mut recorded).await;
                    tracing::warn!(txid = %key.txid, %by, "a conflicting transaction is accepted");
                    Some(acceptance.blue_score)
                }
                TxStatus::Unseen => {
                    self.note_taken_back(&key, &mut recorded).await;
                    None
                }
            };
            let Some(score) = depth else {
                if status.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let is_final = self.depths.reached(score.saturating_add(self.limits.final_depth));
            tokio::select! {
                biased;
                changed = status.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = is_final => {
                    self.close(&key, current).await;
                    return;
                }
            }
        }
    }

    async fn note_taken_back(&self, key: &PaymentKey, recorded: &mut Option<Acceptance>) {
        if recorded.take().is_some() {
            tracing::warn!(txid = %key.txid, "acceptance taken back by a reorg");
            self.observe_until_stored(key, ChainFact::TakenBack).await;
        }
    }

    /// The chain has decided for good.
    async fn close(&self, key: &PaymentKey, status: TxStatus) {
        match status {
            TxStatus::Accepted(_) => {
                self.observe_until_stored(key, ChainFact::Final).await;
            }
            TxStatus::Conflicted { by, .. } => {
                if self.observe_until_stored(key, ChainFact::Reversed { by }).await == Observed::Done
                    && let Some(record) = self.read_until_answered(key).await
                    && record.charged
                {
                    self.metrics.reversed.inc();
                    self.metrics.reversed_sompi.inc_by(record.amount.sompi());
                    tracing::error!(
                        txid = %key.txid, %by, amount_sompi = record.amount.sompi(), route = %record.route, delivered = record.delivered_at.is_some(),
                        "a charged payment was reversed by a conflicting spend"
                    );
                }
            }
            TxStatus::Unseen => {}
        }
    }

    /// The chain does not say a thing twice, so a store that fails is asked again until it takes it.
    async fn observe_until_stored(&self, key: &PaymentKey, fact: ChainFact) -> Observed {
        loop {
            match self.ask(self.store.observe(key, fact.clone(), self.now())).await {
                Ok(observed) => return observed,
                Err(_) => tokio::time::sleep(STORE_BACKOFF).await, // why: a store that failed says nothing when it works again
            }
        }
    }

    async fn read_until_answered(&self, key: &PaymentKey) -> Option<PaymentRecord> {
        loop {
            match self.ask(self.store.payment(key)).await {
                Ok(stored) => return stored.map(|stored| stored.record),
                Err(StoreError::Corrupt(_)) => return None,
                Err(_) => tokio::time::sleep(STORE_BACKOFF).await, // why: a store that failed says nothing when it works again
            }
        }
    }

    /// Also finds out that a failed store works again, so that priced routes open without a restart.
    async fn keep_checkpoint(self: Arc<Self>) {
        let mut every = tokio::time::interval(CHECKPOINT_EVERY);
        loop {
            every.tick().await;
            self.metrics.node_ready.set(i64::from(self.chain.health().borrow().ready));
            self.metrics.daa_score.set(i64::try_from(self.chain.tip().borrow().daa_score).unwrap_or(i64::MAX));
            // The error is logged and remembered; the next round tries again.
            let _ = self
                .ask(async {
                    match self.chain.checkpoint() {
                        Some(checkpoint) => self.store.set_checkpoint(checkpoint).await,
                        None => self.store.checkpoint().await.map(|_| ()),
                    }
                })
                .await;
            self.count_channels().await;
        }
    }
}

/// Counts as long as it lives.
struct Gauged(prometheus::IntGauge);

impl Gauged {
    fn new(gauge: prometheus::IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Gauged {
    fn drop(&mut self) {
        self.0.dec();
    }
}
