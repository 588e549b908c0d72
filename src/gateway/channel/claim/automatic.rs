//! The automatic claimer: knows of every channel when to look at it next, and claims what is due.
//!
//! One task, woken by charges, by stored facts of the chain, by the DAA score and by time; a channel in which nothing is owed costs nothing. It also
//! counts what is stuck and what is uneconomic, whether or not it may claim.

use super::{Judgement, Unclaimed, Wanted, judge};
use crate::{
    gateway::Gateway,
    protocol::{
        amount::Amount,
        ids::{ChannelId, TxId},
        time::UnixMillis,
    },
    store::channels::ChannelRecord,
};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::sync::Notify;

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

/// Somebody who waits for the end of a request.
pub(super) struct Waiting<'a> {
    claimer: &'a Claimer,
    channel: ChannelId,
    charged: Arc<Notify>,
}

impl Waiting<'_> {
    /// Ends with the next charge, or with one since the last call.
    pub async fn charged(&self) {
        self.charged.notified().await;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut agenda = self.claimer.lock();
        // The map's share and this one.
        if Arc::strong_count(&self.charged) <= 2 {
            agenda.waiting.remove(&self.channel);
        }
    }
}

impl Claimer {
    fn lock(&self) -> MutexGuard<'_, Agenda> {
        self.agenda.lock().expect("no panic while the agenda is locked")
    }

    pub(super) fn turn(&self, channel: ChannelId) -> Option<Turn<'_>> {
        self.lock().turns.insert(channel).then(|| Turn { claimer: self, channel })
    }

    pub(super) fn wait_for(&self, channel: ChannelId) -> Waiting<'_> {
        let charged = self.lock().waiting.entry(channel).or_default().clone();
        Waiting { claimer: self, channel, charged }
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
        let (now, policy) = (self.now(), self.claim_policy());
        let (judgement, look) = judge(record, self.tip().daa_score, now, &policy);
        let claimer = &self.channels.claimer;
        let mut agenda = claimer.lock();
        if let Some(waiting) = agenda.waiting.get(&record.id) {
            waiting.notify_one();
        }
        let owed = record.active();
        let over = |hesitation: &Hesitation| owed.is_zero() || owed >= hesitation.until_owed || judgement == Judgement::Closed;
        if agenda.hesitates.get(&record.id).is_some_and(over) {
            agenda.hesitates.remove(&record.id);
            self.count_uneconomic(&agenda);
        }
        let sent = if let Judgement::Sent { txid, stuck: true, .. } = judgement { Some(txid) } else { None };
        self.count_stuck(&mut agenda, record.id, sent);
        let entry = match judgement {
            // Whoever has the turn looks again.
            Judgement::Due(_) | Judgement::Sent { raise: Some(_), .. }
                if !policy.automatic || agenda.hesitates.contains_key(&record.id) || agenda.turns.contains(&record.id) =>
            {
                Entry::default()
            }
            Judgement::Due(_) | Judgement::Sent { raise: Some(_), .. } => Entry { at: Some(now), daa_score: None },
            _ => Entry { at: look.at, daa_score: look.daa_score },
        };
        if agenda.set(record.id, entry) {
            claimer.woken.notify_one();
        }
    }

    /// What the policy or the keys forbade may be allowed now.
    pub(in crate::gateway::channel) fn hesitate_no_longer(&self) {
        let mut agenda = self.channels.claimer.lock();
        agenda.hesitates.clear();
        self.count_uneconomic(&agenda);
    }

    /// Looks at channels when it is time, for ever.
    pub(in crate::gateway::channel) async fn claim_when_due(self: Arc<Self>) {
        let mut tip = self.chain.tip();
        loop {
            let (now, daa_score) = (self.now(), tip.borrow_and_update().daa_score);
            let (due, next) = {
                let mut agenda = self.channels.claimer.lock();
                (agenda.take_due(now, daa_score), agenda.by_time.first().map(|(at, _)| at.millis_since(now)))
            };
            for id in due {
                let gateway = self.clone();
                // One that waits for the end of a request keeps no other waiting.
                tokio::spawn(async move { gateway.look_at(&id).await });
            }
            let pause = next.map_or(CLOCK, |millis| Duration::from_millis(millis).min(CLOCK));
            tokio::select! {
                biased;
                () = self.channels.claimer.woken.notified() => {}
                changed = tip.changed() => if changed.is_err() {
                    return;
                },
                () = tokio::time::sleep(pause) => {} // why: the age of a charge has no other event
            }
        }
    }

    async fn look_at(self: &Arc<Self>, id: &ChannelId) {
        if self.claim_policy().automatic {
            match self.claim_channel(id, Wanted::Due).await {
                Err(Unclaimed::Busy | Unclaimed::Store(_)) => return self.look_again(id),
                Ok(_) => {}
                Err(Unclaimed::Sent(_) | Unclaimed::Unknown | Unclaimed::Closed | Unclaimed::Nothing) => {}
                Err(Unclaimed::Unfunded | Unclaimed::Uncovered | Unclaimed::NotYet) => {}
                Err(error @ (Unclaimed::Uneconomic(_) | Unclaimed::Stuck(..) | Unclaimed::NoKey(_) | Unclaimed::Rejected(_))) => {
                    self.give_up_for_now(id, &error).await
                }
                Err(error) => {
                    tracing::warn!(channel = %id, %error, "not claimed: tried again");
                    return self.look_again(id);
                }
            }
        }
        match self.ask(self.store.channel(id)).await {
            Ok(Some(record)) => self.consider_claim(&record),
            Ok(None) => {}
            Err(_) => self.look_again(id),
        }
    }

    fn look_again(&self, id: &ChannelId) {
        let at = self.now().plus_millis(RETRY_MILLIS);
        self.channels.claimer.lock().set(*id, Entry { at: Some(at), daa_score: None });
        self.channels.claimer.woken.notify_one();
    }

    async fn give_up_for_now(&self, id: &ChannelId, error: &Unclaimed) {
        let Ok(Some(record)) = self.ask(self.store.channel(id)).await else { return };
        let owed = record.active().sompi();
        let uneconomic = matches!(error, Unclaimed::Uneconomic(_));
        if uneconomic {
            tracing::warn!(channel = %id, owed_sompi = owed, %error, "a channel is not claimed");
        } else {
            tracing::error!(channel = %id, owed_sompi = owed, %error, "a channel cannot be claimed");
        }
        let mut agenda = self.channels.claimer.lock();
        agenda.hesitate(&record, uneconomic);
        self.count_uneconomic(&agenda);
    }

    fn count_uneconomic(&self, agenda: &Agenda) {
        let count = agenda.hesitates.values().filter(|hesitation| hesitation.uneconomic).count();
        self.metrics.claims_uneconomic.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    fn count_stuck(&self, agenda: &mut Agenda, channel: ChannelId, sent: Option<TxId>) {
        let news = if sent.is_some() { agenda.stuck.insert(channel) } else { agenda.stuck.remove(&channel) };
        if news {
            self.metrics.claims_stuck.set(i64::try_from(agenda.stuck.len()).unwrap_or(i64::MAX));
        }
        if let Some(txid) = sent.filter(|_| news) {
            tracing::error!(%channel, %txid, "a claim is not accepted for a long time");
        }
    }
}
