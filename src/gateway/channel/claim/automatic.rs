//! The automatic claimer: knows of every channel when to look at it next, and claims what is due.
//!
//! One task, woken by charges, by stored facts of the chain, by the DAA score and by time; a channel in which nothing is owed costs nothing. It also
//! counts what is stuck and what is uneconomic, whether or not it may claim.

use super::{Judgement, Unclaimed, Wanted, judge};
use crate::{
    gateway::Gateway,
    protocol::{amount::Amount, ids::ChannelId, time::UnixMillis},
    store::channels::ChannelRecord,
};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::sync::{Notify, Semaphore};

/// Claims built at the same time.
const AT_ONCE: usize = 16;
/// The system's clock may jump, and timers do not notice: the time is read at least so often.
const CLOCK: Duration = Duration::from_secs(60);
/// After a failure that time may heal.
const RETRY_MILLIS: u64 = 5_000;

#[derive(Default)]
pub(in crate::gateway) struct Claimer {
    agenda: Mutex<Agenda>,
    /// The agenda's earliest entry changed.
    woken: Notify,
}

/// When to look at which channel.
#[derive(Default)]
struct Agenda {
    by_time: BTreeSet<(UnixMillis, ChannelId)>,
    by_daa: BTreeSet<(u64, ChannelId)>,
    entries: HashMap<ChannelId, Entry>,
    /// Claims that are being built by this process.
    turns: HashSet<ChannelId>,
    /// Who waits for the end of a request.
    waiting: HashMap<ChannelId, Arc<Notify>>,
    /// Channels of which the last claim was not worth it, and what must be owed before it is tried again.
    hesitates: HashMap<ChannelId, Hesitation>,
    stuck: HashSet<ChannelId>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Entry {
    at: Option<UnixMillis>,
    daa_score: Option<u64>,
}

#[derive(Clone, Copy)]
struct Hesitation {
    until_owed: Amount,
    uneconomic: bool,
}

/// The right to build a claim of a channel, alone.
pub(super) struct Turn<'a> {
    claimer: &'a Claimer,
    channel: ChannelId,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.claimer.lock().turns.remove(&self.channel);
    }
}

impl Claimer {
    fn lock(&self) -> MutexGuard<'_, Agenda> {
        self.agenda.lock().expect("no panic while the agenda is locked")
    }

    pub(super) fn turn(&self, channel: ChannelId) -> Option<Turn<'_>> {
        self.lock().turns.insert(channel).then_some(Turn { claimer: self, channel })
    }

    /// Notified when the channel's next charge is made, at the latest.
    pub(super) fn wait_for(&self, channel: ChannelId) -> Arc<Notify> {
        self.lock().waiting.entry(channel).or_default().clone()
    }
}

impl Agenda {
    /// Replaces the entry of a channel; `true` when it is not as it was.
    fn set(&mut self, id: ChannelId, entry: Entry) -> bool {
        let old = self.entries.get(&id).copied().unwrap_or_default();
        if old == entry {
            return false;
        }
        old.at.map(|at| self.by_time.remove(&(at, id)));
        old.daa_score.map(|daa_score| self.by_daa.remove(&(daa_score, id)));
        entry.at.map(|at| self.by_time.insert((at, id)));
        entry.daa_score.map(|daa_score| self.by_daa.insert((daa_score, id)));
        if entry == Entry::default() {
            self.entries.remove(&id);
        } else {
            self.entries.insert(id, entry);
        }
        true
    }

    /// Takes out what is to be looked at now.
    fn take_due(&mut self, now: UnixMillis, daa_score: u64) -> Vec<ChannelId> {
        let by_time = self.by_time.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| *id);
        let by_daa = self.by_daa.iter().take_while(|(at, _)| *at <= daa_score).map(|(_, id)| *id);
        let due: BTreeSet<ChannelId> = by_time.chain(by_daa).collect();
        for id in &due {
            self.set(*id, Entry::default());
        }
        due.into_iter().collect()
    }

    /// Not until more is owed: what was not worth it stays so.
    fn hesitate(&mut self, record: &ChannelRecord, uneconomic: bool) {
        let owed = record.active();
        // A quarter more; what cannot be more is never tried again.
        let until_owed =
            Amount::from_sompi(owed.sompi().saturating_add(owed.sompi() / 4).saturating_add(1)).unwrap_or(record.parts.funding);
        self.hesitates.insert(record.id, Hesitation { until_owed, uneconomic });
    }
}

impl Gateway {
    /// Decides when this channel is looked at next. Cheap: called after every charge.
    pub(in crate::gateway::channel) fn consider_claim(&self, record: &ChannelRecord) {
        let now = self.now();
        let (judgement, look) = judge(record, self.tip().daa_score, now, &self.claim_policy());
        let claimer = &self.channels.claimer;
        let mut agenda = claimer.lock();
        if let Some(waiting) = agenda.waiting.get(&record.id) {
            waiting.notify_one();
        }
        let owed = record.active();
        if agenda.hesitates.get(&record.id).is_some_and(|hesitation| owed.is_zero() || owed >= hesitation.until_owed) {
            agenda.hesitates.remove(&record.id);
        }
        let stuck = matches!(judgement, Judgement::Sent { stuck: true, .. });
        let news = if stuck { agenda.stuck.insert(record.id) } else { agenda.stuck.remove(&record.id) };
        if news {
            self.metrics.claims_stuck.set(i64::try_from(agenda.stuck.len()).unwrap_or(i64::MAX));
            if let Judgement::Sent { txid, .. } = judgement {
                tracing::error!(channel = %record.id, %txid, "a claim is not accepted for a long time");
            }
        }
        let entry = match judgement {
            Judgement::Due(_) if agenda.hesitates.contains_key(&record.id) => Entry::default(),
            Judgement::Due(_) => Entry { at: Some(now), daa_score: None },
            _ => Entry { at: look.at, daa_score: look.daa_score },
        };
        if agenda.set(record.id, entry) {
            claimer.woken.notify_one();
        }
    }

    /// Looks at channels when it is time, for ever.
    pub(in crate::gateway::channel) async fn claim_when_due(self: Arc<Self>) {
        let mut tip = self.chain.tip();
        let places = Arc::new(Semaphore::new(AT_ONCE));
        loop {
            let (now, daa_score) = (self.now(), tip.borrow_and_update().daa_score);
            let (due, next) = {
                let mut agenda = self.channels.claimer.lock();
                (agenda.take_due(now, daa_score), agenda.by_time.first().map(|(at, _)| at.millis_since(now)))
            };
            for id in due {
                let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
                let gateway = self.clone();
                tokio::spawn(async move {
                    gateway.look_at(&id).await;
                    drop(place);
                });
            }
            let pause = next.map_or(CLOCK, |millis| Duration::from_millis(millis).min(CLOCK));
            tokio::select! {
                () = self.channels.claimer.woken.notified() => {}
                changed = tip.changed() => if changed.is_err() {
                    return;
                },
                () = tokio::time::sleep(pause) => {} // why: the age of a charge has no other event
            }
        }
    }

    async fn look_at(self: &Arc<Self>, id: &ChannelId) {
        let record = match self.ask(self.store.channel(id)).await {
            Ok(Some(record)) => record,
            Ok(None) => return,
            Err(_) => return self.look_again(id),
        };
        let policy = self.claim_policy();
        let (judgement, _) = judge(&record, self.tip().daa_score, self.now(), &policy);
        if !policy.automatic || !matches!(judgement, Judgement::Due(_)) {
            // What is due stays so until somebody claims it or it changes.
            if !matches!(judgement, Judgement::Due(_)) {
                self.consider_claim(&record);
            }
            return;
        }
        match self.claim_channel(id, Wanted::Due).await {
            // The facts to come decide when it is looked at again.
            Ok(_) | Err(Unclaimed::Sent(_) | Unclaimed::Unknown | Unclaimed::Closed | Unclaimed::Nothing | Unclaimed::NotYet) => {}
            Err(Unclaimed::Busy | Unclaimed::Store(_)) => self.look_again(id),
            Err(error) => self.give_up_for_now(&record, &error),
        }
    }

    fn look_again(&self, id: &ChannelId) {
        let at = self.now().plus_millis(RETRY_MILLIS);
        self.channels.claimer.lock().set(*id, Entry { at: Some(at), daa_score: None });
        self.channels.claimer.woken.notify_one();
    }

    fn give_up_for_now(&self, record: &ChannelRecord, error: &Unclaimed) {
        let (channel, owed) = (record.id, record.active().sompi());
        let uneconomic = matches!(error, Unclaimed::Uneconomic(_));
        if uneconomic {
            tracing::warn!(%channel, owed_sompi = owed, %error, "a channel is not claimed");
        } else {
            tracing::error!(%channel, owed_sompi = owed, %error, "a channel cannot be claimed");
        }
        self.channels.claimer.lock().hesitate(record, uneconomic);
        self.count_uneconomic();
    }

    fn count_uneconomic(&self) {
        let count = self.channels.claimer.lock().hesitates.values().filter(|hesitation| hesitation.uneconomic).count();
        self.metrics.claims_uneconomic.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
