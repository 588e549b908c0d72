//! Following the outputs and transactions of every channel that is not closed for good.
//!
//! One task for each channel, which sleeps on its active outpoint and wakes when the chain or the gateway says something; then the record
//! is compared with the chain (`facts`) and made to follow it. Nothing is polled, but what a mempool may have dropped is sent again now and
//! then. A fact is offered to the store until it is taken: the chain does not say a thing twice.

mod audit;
mod facts;
mod note;
mod view;

use super::super::{Gateway, flag::Flag};
use crate::{
    chain::SubmitOutcome,
    protocol::ids::{ChannelId, TxId},
    store::{
        Observed, StoreError,
        channels::{ChannelRecord, ChannelSighting, Move, MoveState},
    },
};
use kaspa_consensus_core::tx::Transaction;
use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, sleep_until, timeout},
};
use view::View;

/// How long a store that failed is left alone before a fact of the chain is offered again.
const STORE_BACKOFF: Duration = Duration::from_secs(1);

/// How long a request waits for the first look at its channel.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// Transactions of channels that are sent at the same time: after a restart there may be many.
const SUBMITS: usize = 32;

/// The channels that this process watches.
pub(in crate::gateway) struct Watchers {
    tasks: Mutex<HashMap<ChannelId, Watcher>>,
    submits: Semaphore,
}

impl Default for Watchers {
    fn default() -> Self {
        Self { tasks: Mutex::default(), submits: Semaphore::new(SUBMITS) }
    }
}

impl Watchers {
    fn lock(&self) -> MutexGuard<'_, HashMap<ChannelId, Watcher>> {
        self.tasks.lock().expect("no panic while the map is locked")
    }
}

struct Watcher {
    /// The record changed: the task looks again.
    pokes: watch::Sender<()>,
    /// The task stored a fact.
    stored: watch::Sender<()>,
    /// The chain has told of every output since this process watches the channel, the record says the same, and nothing was heard since.
    looked: Arc<Flag>,
    /// How often the chain said something.
    heard: u64,
}

/// What became of a claim or top-up that was built.
#[derive(Debug)]
pub(in crate::gateway) enum MoveEnd {
    /// Its continuation is the active outpoint.
    Accepted(Arc<ChannelRecord>),
    /// It cannot be accepted any more, as far as is known: dropped, or another spend of the escrow was faster.
    Gone(Option<Arc<ChannelRecord>>),
}

/// When a channel's task has to look again although nothing happened.
struct Appointments {
    /// Blue score at which something is final.
    final_at: Option<u64>,
    resend_at: Option<Instant>,
}

impl Gateway {
    /// Watches a channel, and takes note of what was just stored about it. Call it after an opening and after every built move, before
    /// the move is sent.
    pub(in crate::gateway) fn watch_channel(&self, record: &Arc<ChannelRecord>) {
        self.begin_watching(record, false);
    }

    /// Like [`Self::watch_channel`] after a restart: what is not accepted is sent.
    pub(in crate::gateway) fn take_up_channel(&self, record: &Arc<ChannelRecord>) {
        self.begin_watching(record, true);
    }

    /// A channel that this process may not watch yet (another gateway opened it, or the answer to its opening was lost), or of which the chain
    /// said something that the store was not told yet: it may be slow, and nothing is served meanwhile on a deposit or a claim that a reorg
    /// took. Ends when the record may be believed, and has to be read again if it was not at once; `false` when that takes too long.
    pub(in crate::gateway) async fn looked_at(&self, record: &Arc<ChannelRecord>) -> bool {
        let looked = self.channels.watchers.lock().get(&record.id).map(|watcher| watcher.looked.is_up());
        match looked {
            Some(true) => return true,
            // Nobody watches what is over for good.
            None if record.closure.is_some_and(|closure| closure.is_final) => return true,
            Some(false) => {}
            None => self.begin_watching(record, true),
        }
        let looked = self.channels.watchers.lock().get(&record.id).map(|watcher| watcher.looked.clone());
        match looked {
            Some(looked) => timeout(FIRST_LOOK, looked.wait()).await.is_ok(),
            None => true,
        }
    }

    /// A record that the store gives from now on may be believed for as long as this says the same: how often the chain said something so
    /// far. `None`: not even now.
    pub(in crate::gateway) fn has_looked(&self, id: &ChannelId) -> Option<u64> {
        match self.channels.watchers.lock().get(id) {
            Some(watcher) => watcher.looked.is_up().then_some(watcher.heard),
            // Nobody watches what is over for good.
            None => Some(0),
        }
    }

    fn set_looked(&self, id: &ChannelId, looked: bool) {
        if let Some(watcher) = self.channels.watchers.lock().get_mut(id) {
            watcher.heard += u64::from(!looked);
            watcher.looked.set(looked);
        }
    }

    fn begin_watching(&self, record: &Arc<ChannelRecord>, taken_up: bool) {
        // Before `recover` there is no traffic and nothing to watch.
        let Some(gateway) = self.arc() else { return };
        self.note_escrow(record);
        let id = record.id;
        let mut watchers = self.channels.watchers.lock();
        if let Some(watcher) = watchers.get(&id) {
            watcher.pokes.send_replace(());
            return;
        }
        let watcher = Watcher { pokes: watch::Sender::new(()), stored: watch::Sender::new(()), looked: Arc::default(), heard: 0 };
        let pokes = watcher.pokes.subscribe();
        watchers.insert(id, watcher);
        tokio::spawn(async move { gateway.follow_channel(id, pokes, taken_up).await });
    }

    /// Ends when the move is accepted, durably, or when it cannot be any more; the caller sets the deadline.
    pub(in crate::gateway) async fn wait_move(&self, id: &ChannelId, txid: &TxId) -> Result<MoveEnd, StoreError> {
        loop {
            let stored = {
                let watchers = self.channels.watchers.lock();
                watchers.get(id).map(|watcher| watcher.stored.subscribe())
            };
            let record = self.ask(self.store.channel(id)).await?;
            let step = record.as_ref().and_then(|record| record.moves.iter().find(|step| step.txid == *txid));
            match (step.map(|step| step.state), stored) {
                (Some(MoveState::Accepted(_)), _) => {
                    return Ok(MoveEnd::Accepted(record.expect("its move was just read")));
                }
                (None, _) | (Some(_), None) => return Ok(MoveEnd::Gone(record)),
                // A watcher that ended has stored its last fact: read once more.
                (Some(MoveState::Built | MoveState::TakenBack), Some(mut stored)) => drop(stored.changed().await),
            }
        }
    }

    /// Tells of the next fact that is stored of a watched channel.
    pub(super) fn channel_stored(&self, id: &ChannelId) -> Option<watch::Receiver<()>> {
        let watchers = self.channels.watchers.tasks.lock().expect("no panic while the map is locked");
        watchers.get(id).map(|watcher| watcher.stored.subscribe())
    }

    async fn follow_channel(self: Arc<Self>, id: ChannelId, mut pokes: watch::Receiver<()>, taken_up: bool) {
        let mut view = View::new(taken_up);
        loop {
            pokes.borrow_and_update();
            // Boxed: a sleeping channel must not keep room for what it does awake.
            match Box::pin(self.attend(&id, &mut view)).await {
                Some(next) if view.is_idle() && next.final_at.is_none() => {
                    tokio::select! {
                        biased;
                        () = view.changed() => self.set_looked(&id, false),
                        _ = pokes.changed() => {}
                    }
                }
                Some(next) => Box::pin(self.wait(&id, &mut view, &mut pokes, next)).await,
                None => {
                    let mut watchers = self.channels.watchers.lock();
                    // A channel that never was may have been opened again meanwhile.
                    if !pokes.has_changed().unwrap_or(false) {
                        if let Some(over) = watchers.remove(&id) {
                            // There is nothing left to be told.
                            over.looked.set(true);
                        }
                        return;
                    }
                }
            }
        }
    }

    async fn wait(&self, id: &ChannelId, view: &mut View, pokes: &mut watch::Receiver<()>, next: Appointments) {
        let is_final = async {
            match next.final_at {
                Some(blue_score) => self.depths.reached(blue_score).await,
                None => std::future::pending().await,
            }
        };
        let resend = async {
            match next.resend_at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = view.changed() => self.set_looked(id, false),
            _ = pokes.changed() => {}
            () = is_final => {}
            () = resend => {}
        }
    }

    /// Stores whatever the chain says that the record does not know. `None`: there is nothing left to watch.
    async fn attend(&self, id: &ChannelId, view: &mut View) -> Option<Appointments> {
        loop {
            let record = self.read_channel(id).await?;
            if record.closure.is_some_and(|closure| closure.is_final) {
                return None;
            }
            let script = match self.script(&record) {
                Ok(script) => script,
                Err(error) => {
                    tracing::error!(channel = %id, %error, "a stored channel has no script");
                    return None;
                }
            };
            view.adjust(self, &record, &script);
            let news = facts::news(&record, &view.seen(self.tip(), self.now(), self.limits.final_depth));
            let knows = view.knows();
            let any = !news.facts.is_empty();
            let contradicted = news.facts.iter().any(takes_away);
            let (mut stored, mut heard) = (pin!(self.store_one_of(&record, news.facts)), false);
            let stored = loop {
                tokio::select! {
                    biased;
                    stored = &mut stored => break stored,
                    () = view.changed() => {
                        heard = true;
                        self.set_looked(id, false);
                    }
                }
            };
            if stored || heard {
                continue;
            }
            if any {
                let now = self.read_channel(id).await?;
                if now != record {
                    // Another gateway on this store was faster.
                    self.channel_changed(&now);
                    continue;
                }
            }
            if knows && !contradicted {
                self.set_looked(id, true);
            }
            let mut dropped = false;
            for (txid, transaction) in view.take_to_resend() {
                if is_outbid(&record, &txid) {
                    continue;
                }
                dropped |= matches!(self.submit_of(&record, &txid, &transaction).await, SubmitOutcome::Rejected(_));
            }
            if !dropped {
                return Some(Appointments { final_at: news.final_at, resend_at: view.resend_at() });
            }
        }
    }

    /// Stores the first fact that is none to the store yet; those after it may look different then.
    async fn store_one_of(&self, record: &ChannelRecord, facts: Vec<ChannelSighting>) -> bool {
        for fact in facts {
            if self.sight(record, fact).await == Observed::Done {
                return true;
            }
        }
        false
    }

    /// Tells the store what the chain says of a channel, and everybody who waits for it.
    pub(super) async fn sight(&self, record: &ChannelRecord, fact: ChannelSighting) -> Observed {
        let mut doubtful = false;
        let observed = loop {
            match self.ask(self.store.observe_channel(&record.id, fact.clone(), self.now())).await {
                // Stored by an attempt whose answer was lost.
                Ok(Observed::Unchanged) if doubtful => break Observed::Done,
                Ok(observed) => break observed,
                Err(_) => {
                    doubtful = true;
                    tokio::time::sleep(STORE_BACKOFF).await; // why: a store that failed says nothing when it works again
                }
            }
        };
        if observed == Observed::Done {
            let after = self.read_channel(&record.id).await;
            note::note(&self.metrics, record, after.as_deref(), &fact);
            if let Some(after) = &after {
                self.channel_changed(after);
                self.count_unconfirmed(after);
            }
            let watchers = self.channels.watchers.lock();
            if let Some(watcher) = watchers.get(&record.id) {
                watcher.stored.send_replace(());
            }
        }
        observed
    }

    /// Sends a move, or the deposit, of this channel. The network's proof that it can never be valid ends it: our own bytes do not change, so
    /// the proof holds whether or not they were sent before.
    pub(in crate::gateway) async fn submit_of(&self, record: &ChannelRecord, txid: &TxId, transaction: &Transaction) -> SubmitOutcome {
        let place = self.channels.watchers.submits.acquire().await;
        let outcome = if has_rivals(record, txid) { self.chain.replace(transaction).await } else { self.chain.submit(transaction).await };
        drop(place);
        match &outcome {
            SubmitOutcome::New | SubmitOutcome::Known => tracing::debug!(channel = %record.id, %txid, ?outcome, "sent"),
            SubmitOutcome::Unknown(reason) => tracing::warn!(channel = %record.id, %txid, reason, "sent, outcome unknown"),
            SubmitOutcome::Unavailable(reason) => tracing::debug!(channel = %record.id, %txid, reason, "not sent"),
            SubmitOutcome::Rejected(reason) => {
                tracing::error!(channel = %record.id, %txid, reason, "the network proves that this transaction can never be valid");
                if *txid == record.deposit.outpoint.txid && record.deposit.funded_daa.is_none() {
                    self.sight(record, ChannelSighting::NeverFunded).await;
                } else if record.moves.iter().any(|step| step.txid == *txid && step.state == MoveState::Built) {
                    self.sight(record, ChannelSighting::MoveDropped { txid: *txid }).await;
                }
            }
        }
        outcome
    }

    /// `None` when there is no such channel.
    async fn read_channel(&self, id: &ChannelId) -> Option<Arc<ChannelRecord>> {
        loop {
            match self.ask(self.store.channel(id)).await {
                Ok(record) => return record,
                Err(StoreError::Corrupt(_)) => return None,
                Err(_) => tokio::time::sleep(STORE_BACKOFF).await, // why: a store that failed says nothing when it works again
            }
        }
    }
}

/// What a record says of its money is less true than it was.
fn takes_away(fact: &ChannelSighting) -> bool {
    matches!(fact, ChannelSighting::Unfunded | ChannelSighting::MoveTakenBack { .. } | ChannelSighting::Closed(_))
}

/// Another claim of the same outpoint pays more: it is the one to be sent.
fn is_outbid(record: &ChannelRecord, txid: &TxId) -> bool {
    let Some(claim) = plain(record, txid) else { return false };
    record.moves.iter().any(|other| other.spends == claim.spends && other.added.is_zero() && other.fee > claim.fee)
}

/// A claim beside a top-up, or beside a claim that pays less: mempools may have the other.
fn has_rivals(record: &ChannelRecord, txid: &TxId) -> bool {
    plain(record, txid).is_some_and(|claim| record.rivals(claim).next().is_some())
}

fn plain<'r>(record: &'r ChannelRecord, txid: &TxId) -> Option<&'r Move> {
    record.moves.iter().find(|step| step.txid == *txid && step.added.is_zero())
}
