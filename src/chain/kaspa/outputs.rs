//! The watched outputs of the tracker: what the utxo set says of them, and when their spend has to be looked for.
//!
//! Whether an output is unspent is asked of the node's utxo index, in batches: when it is first watched, after every connection,
//! after a notification names it, and all of them now and then. Notifications are only *hints* to ask: they overtake each other,
//! and the subscription is made in the background, so that one that is new is asked for a second time a moment later.
//! Who spent it is what the chain says (`tracker`): one that was known to be unspent and is gone is hunted for in the blocks
//! since, near the tail first, for the utxo set follows the virtual block and is ahead of the chain. One that nobody ever
//! knew is never hunted: strangers name outputs, and reading blocks is dear.

use super::{
    followed::{Followed, Held, Hunt, Place, Subject, Watched, What},
    tracker::Tracker,
};
use crate::{
    chain::{OutpointStatus, Utxo},
    protocol::ids::{BlockHash, Outpoint, TxId},
};
use kaspa_addresses::Address;
use std::{
    collections::{BTreeSet, HashMap},
    time::Instant,
};
use tokio::sync::watch;

/// Outputs asked for, and addresses subscribed to, in one question.
const BATCH: usize = 1_000;
/// Chain blocks behind the tail in which a spend is looked for first: what was unspent a moment ago was spent just now.
const NEAR: u64 = 30;
/// Chain blocks after the tail in which it is looked for before the search goes further back.
const NEXT: u64 = 3;
/// Chain blocks after the tail until the search is given up: a block with the spend may be merged that much later.
const AHEAD: u64 = 20;
/// DAA scores of branches differ a little.
const DAA_MARGIN: u64 = 100;

/// Outputs to be asked for, at this DAA score.
pub(super) struct Question {
    pub outpoints: Vec<Outpoint>,
    pub addresses: Vec<Address>,
    daa_score: u64,
}

/// Addresses whose changes are to be notified, and no longer.
#[derive(Default)]
pub(super) struct Subscriptions {
    pub start: Vec<Address>,
    pub stop: Vec<Address>,
}

/// What has to be asked and subscribed.
#[derive(Default)]
pub(super) struct Lists {
    to_ask: BTreeSet<Outpoint>,
    /// To be asked again: in the next round, and in the one after it.
    again: [BTreeSet<Outpoint>; 2],
    /// Hunted from a block that has to be found.
    to_trace: BTreeSet<Outpoint>,
    /// How many outputs are watched under each address.
    addresses: HashMap<Address, usize>,
    to_start: BTreeSet<Address>,
    to_stop: BTreeSet<Address>,
    /// The lowest position the tail had since the question under way was asked.
    pub(super) floor: u64,
}

impl Tracker {
    // ---- watching

    pub fn watch(
        &mut self,
        outpoint: Outpoint,
        address: Address,
        known_unspent: Option<u64>,
        now: Instant,
    ) -> watch::Receiver<OutpointStatus> {
        if let Some(entry) = self.followed.get_mut(&Subject::Output(outpoint))
            && let What::Output(watched) = &mut entry.what
        {
            if known_unspent > watched.known_unspent {
                watched.known_unspent = known_unspent;
                if matches!(watched.held, Held::Gone) && watched.hunt == Hunt::No {
                    watched.held = Held::Unasked;
                    self.outputs.to_ask.insert(outpoint);
                }
            }
            return watched.status.subscribe();
        }
        let (status, receiver) = watch::channel(OutpointStatus::Unknown);
        let lists = &mut self.outputs;
        lists.to_ask.insert(outpoint);
        lists.again[0].insert(outpoint);
        let users = lists.addresses.entry(address.clone()).or_default();
        *users += 1;
        if *users == 1 && !lists.to_stop.remove(&address) {
            lists.to_start.insert(address.clone());
        }
        let watched = Watched { address, status, held: Held::Unasked, known_unspent, unspent_at: None, hunt: Hunt::No };
        let entry = Followed {
            what: What::Output(Box::new(watched)),
            place: Place::Nowhere,
            since: now,
            scanned: self.tail_position(),
            suspect: false,
        };
        self.insert(Subject::Output(outpoint), entry);
        receiver
    }

    pub fn unwatch(&mut self, outpoint: &Outpoint) {
        let Some(entry) = self.forget(&Subject::Output(*outpoint)) else { return };
        let lists = &mut self.outputs;
        for list in lists.again.iter_mut().chain([&mut lists.to_ask, &mut lists.to_trace]) {
            list.remove(outpoint);
        }
        let Some(watched) = entry.watched() else { return };
        if let Some(users) = lists.addresses.get_mut(&watched.address) {
            *users -= 1;
            if *users == 0 {
                lists.addresses.remove(&watched.address);
                if !lists.to_start.remove(&watched.address) {
                    lists.to_stop.insert(watched.address.clone());
                }
            }
        }
    }

    // ---- the utxo set

    /// Nothing is subscribed, and what was asked is lost.
    pub fn outputs_of_a_new_connection(&mut self) {
        let lists = &mut self.outputs;
        lists.to_stop.clear();
        lists.to_start = lists.addresses.keys().cloned().collect();
        for (subject, entry) in &self.followed {
            let (Subject::Output(outpoint), What::Output(watched)) = (subject, &entry.what) else { continue };
            if entry.place == Place::Nowhere {
                lists.to_ask.insert(*outpoint);
                lists.again[0].insert(*outpoint);
                if watched.hunt == Hunt::Trace {
                    lists.to_trace.insert(*outpoint);
                }
            }
        }
    }

    pub fn take_subscriptions(&mut self) -> Subscriptions {
        let lists = &mut self.outputs;
        let mut take = |list: fn(&mut Lists) -> &mut BTreeSet<Address>| {
            let mut taken = Vec::new();
            while taken.len() < BATCH
                && let Some(address) = list(lists).pop_first()
            {
                taken.push(address);
            }
            taken
        };
        Subscriptions { start: take(|lists| &mut lists.to_start), stop: take(|lists| &mut lists.to_stop) }
    }

    /// A notification names outputs that appeared or went.
    pub fn hint_outputs(&mut self, outpoints: impl IntoIterator<Item = Outpoint>) {
        let watched = outpoints.into_iter().filter(|outpoint| self.followed.contains_key(&Subject::Output(*outpoint)));
        self.outputs.to_ask.extend(watched);
    }

    /// A round of time: what became watched in the round before the last is asked for again.
    pub fn ask_again(&mut self) {
        let lists = &mut self.outputs;
        let [next, due] = &mut lists.again;
        lists.to_ask.append(due);
        std::mem::swap(next, due);
    }

    /// Everything is asked for again: a notification that was lost must not matter for long.
    pub fn ask_all(&mut self) {
        for (subject, entry) in &self.followed {
            if let Subject::Output(outpoint) = subject
                && entry.place == Place::Nowhere
            {
                self.outputs.to_ask.insert(*outpoint);
            }
        }
    }

    /// The next outputs to ask for; they are taken out of the list. One question at a time.
    pub fn take_question(&mut self, daa_score: u64) -> Option<Question> {
        let mut outpoints = Vec::new();
        while outpoints.len() < BATCH
            && let Some(outpoint) = self.outputs.to_ask.pop_first()
        {
            outpoints.push(outpoint);
        }
        let address = |outpoint: &Outpoint| self.followed.get(&Subject::Output(*outpoint))?.watched().map(|watched| &watched.address);
        let addresses: BTreeSet<_> = outpoints.iter().filter_map(address).cloned().collect();
        let addresses = addresses.into_iter().collect();
        self.outputs.floor = self.tail_position();
        (!outpoints.is_empty()).then_some(Question { outpoints, addresses, daa_score })
    }

    /// What the utxo set holds of them.
    pub fn answered(&mut self, question: Question, mut utxos: HashMap<Outpoint, Utxo>) {
        let (base, tail) = (self.base(), self.tail_position());
        for outpoint in question.outpoints {
            let Some(entry) = self.followed.get_mut(&Subject::Output(outpoint)) else { continue };
            let What::Output(watched) = &mut entry.what else { continue };
            if let Some(utxo) = utxos.remove(&outpoint) {
                let recent = question.daa_score.max(utxo.daa_score).saturating_sub(DAA_MARGIN);
                watched.known_unspent = watched.known_unspent.max(Some(recent));
                watched.unspent_at = Some(self.outputs.floor);
                watched.held = Held::There(utxo);
                watched.hunt = Hunt::No;
            } else if !matches!(watched.held, Held::Gone) {
                watched.held = Held::Gone;
                watched.hunt = match (watched.unspent_at, watched.known_unspent) {
                    (Some(unspent), _) if unspent + 1 >= base => {
                        entry.scanned = unspent.max(tail.saturating_sub(NEAR));
                        let back = (entry.scanned > unspent).then_some(unspent);
                        Hunt::Chain { until: tail + if back.is_some() { NEXT } else { AHEAD }, back }
                    }
                    (_, Some(_)) => Hunt::Trace,
                    (_, None) => Hunt::No,
                };
                if watched.hunt == Hunt::Trace {
                    self.outputs.to_trace.insert(outpoint);
                }
            }
            if !self.catching_up {
                entry.publish();
            }
        }
    }

    // ---- hunting

    /// The block of a published spend is gone, or was never on the chain.
    pub(super) fn spend_taken_back(&mut self, outpoint: Outpoint) {
        if let Some(entry) = self.followed.get_mut(&Subject::Output(outpoint))
            && let What::Output(watched) = &mut entry.what
        {
            watched.held = Held::Unasked;
            watched.hunt = Hunt::No;
            self.outputs.to_ask.insert(outpoint);
            if !self.catching_up {
                entry.publish();
            }
        }
    }

    /// The kept chain was begun anew: what is hunted may lie in the gap.
    pub(super) fn trace_all_hunts(&mut self) {
        for (subject, entry) in &mut self.followed {
            let (Subject::Output(outpoint), What::Output(watched)) = (subject, &mut entry.what) else { continue };
            if matches!(watched.hunt, Hunt::Chain { .. }) && watched.known_unspent.is_some() {
                watched.hunt = Hunt::Trace;
                self.outputs.to_trace.insert(*outpoint);
            }
        }
    }

    /// A hunt that has been everywhere on its way goes back, or ends.
    pub(super) fn end_hunts(&mut self) {
        let (base, tail, catching_up) = (self.base(), self.tail_position(), self.catching_up);
        for entry in self.followed.values_mut().filter(|entry| entry.place == Place::Nowhere) {
            let scanned = entry.scanned;
            let What::Output(watched) = &mut entry.what else { continue };
            match watched.hunt {
                Hunt::Chain { until, back } if scanned >= until => match back {
                    Some(unspent) => {
                        entry.scanned = unspent.max(base.saturating_sub(1));
                        watched.hunt = Hunt::Chain { until: tail + AHEAD, back: None };
                    }
                    None => {
                        watched.hunt = Hunt::No;
                        if !catching_up {
                            entry.publish();
                        }
                    }
                },
                Hunt::No | Hunt::Trace | Hunt::Chain { .. } => {}
            }
        }
    }

    /// Whether new chain blocks are to be searched at once.
    pub fn hunting(&self) -> bool {
        self.followed.values().any(hunted)
    }

    /// Outputs to trace, and the lowest DAA score at which one of them was unspent.
    pub fn take_to_trace(&mut self) -> Option<(u64, Vec<Outpoint>)> {
        let taken = std::mem::take(&mut self.outputs.to_trace);
        let tracing = |outpoint: &Outpoint| {
            let entry = self.followed.get(&Subject::Output(*outpoint))?;
            let watched = entry.watched().filter(|watched| entry.place == Place::Nowhere && watched.hunt == Hunt::Trace)?;
            Some((watched.known_unspent?, *outpoint))
        };
        let (scores, outpoints): (Vec<_>, Vec<_>) = taken.iter().filter_map(tracing).unzip();
        scores.into_iter().min().map(|score| (score, outpoints))
    }

    /// A search behind the kept chain found a spend; it counts once the block is located.
    pub fn found_spend(&mut self, block: BlockHash, by: TxId, inputs: impl IntoIterator<Item = Outpoint>) {
        for input in inputs {
            let subject = Subject::Output(input);
            if self.followed.get(&subject).is_some_and(|entry| entry.place == Place::Nowhere) {
                self.name(subject, block, Some(by));
            }
        }
    }

    /// Whatever lies behind the kept chain was searched: the hunt goes on on the kept chain, after `from` when that is on it.
    pub fn traced(&mut self, outpoints: &[Outpoint], from: Option<BlockHash>) {
        let (base, tail) = (self.base(), self.tail_position());
        let after = from.and_then(|block| self.position(&block)).unwrap_or(base.saturating_sub(1));
        for outpoint in outpoints {
            if let Some(entry) = self.followed.get_mut(&Subject::Output(*outpoint))
                && let What::Output(watched) = &mut entry.what
                && watched.hunt == Hunt::Trace
            {
                entry.scanned = after;
                watched.hunt = Hunt::Chain { until: tail + AHEAD, back: None };
            }
        }
    }
}

/// Chain blocks are to be searched for its spend.
pub(super) fn hunted(entry: &Followed) -> bool {
    entry.place == Place::Nowhere && entry.watched().is_some_and(|watched| matches!(watched.hunt, Hunt::Chain { .. }))
}

#[cfg(test)]
#[path = "outputs_tests.rs"]
mod tests;
