//! What the virtual chain says of the followed transactions and the watched outputs: the merge logic, without I/O.
//!
//! A tail of the virtual chain is kept as the node reported it (`apply`), with the ids each chain
//! block accepted, bounded in blocks and ids. Notifications are only *hints*: they name an accepting
//! block early, but may come late, twice or in another order, so a hint counts only after the node
//! confirmed that the block is on its virtual chain (`located`), and it is checked again if the chain
//! reported after it does not contain the block (`end_poll`).
//! Nothing is published while catching up; `caught_up` publishes everything at once.
//! `outputs` adds what the utxo set says of watched outputs. Used by `KaspaChain` under a mutex; every method is short and none waits.

use super::{
    super::TxStatus,
    followed::{Followed, Place, Sent, Subject, What},
    outputs::{self, Lists},
};
use crate::protocol::{
    acceptance::Acceptance,
    ids::{BlockHash, Outpoint, TxId},
};
use kaspa_consensus_core::tx::Transaction;
use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// Chain blocks kept.
const CHAIN_BLOCKS: usize = 20_000;
/// Accepted ids kept over all of them.
const ACCEPTED_IDS: usize = 200_000;
/// Chain blocks searched back for the conflict of a suspect.
const CONFLICT_LOOKBACK: u64 = 2_000;
/// Unseen for so long, the details of chain blocks are worth asking for.
const UNRESOLVED: Duration = Duration::from_secs(2);
/// Below this blue depth every node still has the block if it is on its virtual chain: the shortest pruning depth
/// of the public networks is above it.
const CERTAIN_DEPTH: u64 = 100_000;

/// What a block looks like to the node, as far as the tracker needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Located {
    OnChain {
        blue_score: u64,
        daa_score: u64,
    },
    OffChain,
    /// The node does not have the block.
    Missing {
        sink_blue_score: u64,
    },
}

struct ChainBlock {
    hash: BlockHash,
    ids: Vec<TxId>,
    since: Instant,
}

/// One chain block whose merged transactions are to be searched for conflicts.
#[derive(Clone, Debug)]
pub(super) struct Scan {
    pub position: u64,
    pub block: BlockHash,
    pub ids: Vec<TxId>,
}

#[derive(Default)]
pub(super) struct Tracker {
    chain: VecDeque<ChainBlock>,
    /// Position of the first kept chain block.
    base: u64,
    positions: HashMap<BlockHash, u64>,
    accepted: HashMap<TxId, BlockHash>,
    pub(super) followed: HashMap<Subject, Followed>,
    spends: HashMap<Outpoint, Vec<Subject>>,
    /// Blocks to be located.
    to_locate: BTreeSet<BlockHash>,
    /// Transactions to be searched behind the kept chain.
    to_search: BTreeSet<TxId>,
    /// Transactions taken back, to be sent again.
    to_resubmit: BTreeSet<TxId>,
    /// Hinted transactions, with the poll before which the hint came.
    hinted: HashMap<TxId, u64>,
    polls: u64,
    pub(super) catching_up: bool,
    pub(super) outputs: Lists,
}

impl Tracker {
    // ---- following

    pub fn follow(
        &mut self,
        transaction: &Transaction,
        known: Option<Acceptance>,
        resubmit: bool,
        now: Instant,
    ) -> watch::Receiver<TxStatus> {
        let txid = TxId::from(transaction.id());
        let subject = Subject::Transaction(txid);
        if let Some(entry) = self.followed.get_mut(&subject)
            && let What::Transaction(sent) = &mut entry.what
        {
            sent.resubmit |= resubmit;
            // The id does not cover signatures: what a stranger presented first may be forged, so the latest counts.
            if *sent.transaction != *transaction {
                sent.transaction = Arc::new(transaction.clone());
            }
            return sent.status.subscribe();
        }
        let place = known.map_or(Place::Nowhere, |acceptance| Place::At { acceptance, by: None });
        let (status, receiver) = watch::channel(known.map_or(TxStatus::Unseen, TxStatus::Accepted));
        let sent = Sent { transaction: Arc::new(transaction.clone()), resubmit, status };
        let entry = Followed { what: What::Transaction(sent), place, since: now, scanned: self.tail_position(), suspect: false };
        self.insert(subject, entry);
        match known {
            // Kept, and verified: the chain may have dropped the block while we were away.
            Some(acceptance) => _ = self.to_locate.insert(acceptance.block),
            None => {
                if let Some(block) = self.accepted.get(&txid).copied() {
                    self.name(subject, block, None);
                }
            }
        }
        receiver
    }

    pub(super) fn insert(&mut self, subject: Subject, entry: Followed) {
        for input in inputs(&subject, &entry) {
            self.spends.entry(input).or_default().push(subject);
        }
        self.followed.insert(subject, entry);
    }

    pub(super) fn forget(&mut self, subject: &Subject) -> Option<Followed> {
        let entry = self.followed.remove(subject)?;
        for input in inputs(subject, &entry) {
            if let Some(spenders) = self.spends.get_mut(&input) {
                spenders.retain(|spender| spender != subject);
                if spenders.is_empty() {
                    self.spends.remove(&input);
                }
            }
        }
        Some(entry)
    }

    pub fn unfollow(&mut self, txid: &TxId) {
        self.forget(&Subject::Transaction(*txid));
        self.to_search.remove(txid);
        self.to_resubmit.remove(txid);
        self.hinted.remove(txid);
    }

    /// An input may be spent: look for the transaction and its conflicts further back, at once.
    pub fn suspect(&mut self, txid: &TxId) {
        let oldest = self.base.max(self.tail_position().saturating_sub(CONFLICT_LOOKBACK));
        if let Some(entry) = self.followed.get_mut(&Subject::Transaction(*txid))
            && entry.place == Place::Nowhere
        {
            if !entry.suspect {
                entry.scanned = entry.scanned.min(oldest);
            }
            entry.suspect = true;
            self.to_search.insert(*txid);
        }
    }

    /// Followed transactions that are to be sent again when a node comes back.
    pub fn unsent(&self) -> Vec<Arc<Transaction>> {
        let unseen = self.followed.values().filter(|entry| entry.place == Place::Nowhere).filter_map(Followed::sent);
        unseen.filter(|sent| sent.resubmit).map(|sent| sent.transaction.clone()).collect()
    }

    // ---- the chain

    /// Begins to catch up: nothing is published until [`Tracker::caught_up`].
    pub fn begin_catch_up(&mut self) {
        self.catching_up = true;
        self.hinted.clear();
        // Questions under way were lost with the connection, and another node may see it differently.
        for (subject, entry) in &self.followed {
            match (entry.place.block(), subject) {
                (Some(block), _) => _ = self.to_locate.insert(block),
                (None, Subject::Transaction(txid)) if entry.suspect => _ = self.to_search.insert(*txid),
                (None, _) => {}
            }
        }
        self.outputs_of_a_new_connection();
    }

    /// The place to continue from.
    pub fn tail(&self) -> Option<BlockHash> {
        self.chain.back().map(|block| block.hash)
    }

    /// The chain block `depth` chain blocks behind the tail, or the oldest one kept.
    pub fn behind_tail(&self, depth: usize) -> Option<BlockHash> {
        self.chain.get(self.chain.len().saturating_sub(depth + 1)).map(|block| block.hash)
    }

    /// The newest chain block that has been one for `age`.
    pub fn settled(&self, now: Instant, age: Duration) -> Option<BlockHash> {
        let old = |block: &&ChainBlock| now.saturating_duration_since(block.since) >= age;
        self.chain.iter().rev().find(old).map(|block| block.hash)
    }

    /// Starts over at `block`.
    pub fn restart_at(&mut self, block: BlockHash, now: Instant) {
        self.base = self.tail_position() + 1;
        self.chain.clear();
        self.positions.clear();
        self.accepted.clear();
        self.push(block, Vec::new(), now);
        self.trace_all_hunts();
    }

    /// The chain could not be continued without a gap: what is unresolved may lie in it.
    pub fn search_everything(&mut self) {
        for (subject, entry) in &self.followed {
            if let Subject::Transaction(txid) = subject
                && entry.place == Place::Nowhere
            {
                self.to_search.insert(*txid);
            }
        }
    }

    /// Merges what the node said from [`Tracker::tail`] on.
    pub fn apply(&mut self, removed: &[BlockHash], added: Vec<(BlockHash, Vec<TxId>)>, now: Instant) {
        if removed.is_empty() && added.is_empty() {
            return;
        }
        let gone = self.remove(removed);
        for (block, ids) in added {
            if self.positions.contains_key(&block) {
                continue;
            }
            let ours: Vec<_> = ids.iter().copied().filter(|txid| self.followed.contains_key(&Subject::Transaction(*txid))).collect();
            self.push(block, ids, now);
            for txid in ours {
                let subject = Subject::Transaction(txid);
                self.name(subject, block, None);
                // Its bytes are known: no block has to be read to see what it spends.
                let spent: Vec<_> = self.followed.get(&subject).map(|entry| inputs(&subject, entry)).unwrap_or_default();
                self.spent(block, txid, spent);
            }
        }
        for (subject, by) in gone {
            self.lost(subject, by, None);
        }
        self.prune();
    }

    /// Takes blocks off the chain; returns what was placed in them, and by which spend.
    fn remove(&mut self, removed: &[BlockHash]) -> Vec<(Subject, Option<TxId>)> {
        if removed.is_empty() {
            return Vec::new();
        }
        let removed: HashSet<_> = removed.iter().copied().collect();
        while self.chain.back().is_some_and(|block| removed.contains(&block.hash)) {
            let block = self.chain.pop_back().expect("the loop's condition saw it");
            self.positions.remove(&block.hash);
            for txid in &block.ids {
                if self.accepted.get(txid) == Some(&block.hash) {
                    self.accepted.remove(txid);
                }
            }
        }
        let tail = self.tail_position();
        self.outputs.floor = self.outputs.floor.min(tail);
        let mut gone = Vec::new();
        for (subject, entry) in &mut self.followed {
            entry.scanned = entry.scanned.min(tail);
            if let What::Output(watched) = &mut entry.what {
                watched.unspent_at = watched.unspent_at.map(|position| position.min(tail));
            }
            if entry.place.block().is_some_and(|block| removed.contains(&block)) {
                gone.push((*subject, entry.place.by()));
                entry.place = Place::Nowhere;
            }
        }
        gone
    }

    /// It is not in `block` any more. It may have been accepted anew elsewhere on the kept chain, itself or what beat it;
    /// otherwise the loss is published. Returns whether it is lost.
    fn lost(&mut self, subject: Subject, by: Option<TxId>, block: Option<BlockHash>) -> bool {
        if self.followed.get(&subject).is_none_or(|entry| entry.place != Place::Nowhere) {
            return false;
        }
        let own = match subject {
            Subject::Transaction(txid) => Some((txid, None)),
            Subject::Output(_) => None,
        };
        for (txid, by) in own.into_iter().chain(by.map(|by| (by, Some(by)))) {
            if let Some(elsewhere) = self.accepted.get(&txid).copied().filter(|elsewhere| Some(*elsewhere) != block) {
                self.name(subject, elsewhere, by);
                return false;
            }
        }
        match subject {
            Subject::Transaction(txid) => self.taken_back(txid),
            Subject::Output(outpoint) => self.spend_taken_back(outpoint),
        }
        true
    }

    fn taken_back(&mut self, txid: TxId) {
        let Some(entry) = self.followed.get_mut(&Subject::Transaction(txid)) else { return };
        entry.suspect = true;
        if !self.catching_up {
            entry.publish();
        }
        if entry.sent().is_some_and(|sent| sent.resubmit) {
            self.to_resubmit.insert(txid);
        }
    }

    fn push(&mut self, hash: BlockHash, ids: Vec<TxId>, since: Instant) {
        for txid in &ids {
            self.accepted.insert(*txid, hash);
        }
        self.chain.push_back(ChainBlock { hash, ids, since });
        self.positions.insert(hash, self.tail_position());
    }

    fn prune(&mut self) {
        while self.chain.len() > CHAIN_BLOCKS || (self.accepted.len() > ACCEPTED_IDS && self.chain.len() > 1) {
            let Some(block) = self.chain.pop_front() else { return };
            self.base += 1;
            self.positions.remove(&block.hash);
            for txid in &block.ids {
                if self.accepted.get(txid) == Some(&block.hash) {
                    self.accepted.remove(txid);
                }
            }
        }
    }

    /// Position of the last chain block; one before `base` when there is none.
    pub(super) fn tail_position(&self) -> u64 {
        (self.base + u64::try_from(self.chain.len()).expect("a bounded length")).saturating_sub(1)
    }

    pub(super) fn base(&self) -> u64 {
        self.base
    }

    pub(super) fn position(&self, block: &BlockHash) -> Option<u64> {
        self.positions.get(block).copied()
    }

    /// Everything the node had is merged: publishes what came of it.
    pub fn caught_up(&mut self) {
        self.catching_up = false;
        for entry in self.followed.values() {
            entry.publish();
        }
    }

    /// A published acceptance was taken off the chain and accepted anew in a block that is not located yet:
    /// what is published of it is no longer true.
    pub fn moving(&self) -> bool {
        self.followed.values().any(Followed::moving)
    }

    // ---- hints

    /// A notification names an accepting block. Returns whether it is of interest.
    pub fn hint(&mut self, block: BlockHash, ids: impl IntoIterator<Item = TxId>) -> bool {
        let mut interesting = false;
        for txid in ids {
            let subject = Subject::Transaction(txid);
            let Some(entry) = self.followed.get(&subject) else { continue };
            // One that is placed already moves only by what the chain itself reports.
            if entry.place == Place::Nowhere && !self.positions.contains_key(&block) {
                self.hinted.insert(txid, self.polls);
                self.name(subject, block, None);
                interesting = true;
            }
        }
        interesting
    }

    /// A question to the node about its chain begins; pass the answer to [`Tracker::end_poll`].
    pub fn begin_poll(&mut self) -> u64 {
        self.polls += 1;
        self.polls
    }

    /// The chain is merged up to a moment after `poll` began: hints older than that must be on it.
    pub fn end_poll(&mut self, poll: u64) {
        let due: Vec<_> = self.hinted.iter().filter(|(_, asked)| **asked < poll).map(|(txid, _)| *txid).collect();
        for txid in due {
            self.hinted.remove(&txid);
            if let Some(block) = self.followed.get(&Subject::Transaction(txid)).and_then(|entry| entry.place.block())
                && !self.positions.contains_key(&block)
            {
                self.hinted.insert(txid, self.polls);
                self.to_locate.insert(block);
            }
        }
    }

    pub(super) fn name(&mut self, subject: Subject, block: BlockHash, by: Option<TxId>) {
        let Some(entry) = self.followed.get_mut(&subject) else { return };
        if let Place::At { acceptance, by: old } = entry.place
            && acceptance.block == block
            && old == by
        {
            return;
        }
        entry.place = Place::Named { block, by };
        if let Subject::Transaction(txid) = subject {
            self.to_search.remove(&txid);
        }
        self.to_locate.insert(block);
    }

    // ---- blocks to locate

    pub fn take_to_locate(&mut self) -> Vec<BlockHash> {
        std::mem::take(&mut self.to_locate).into_iter().collect()
    }

    /// The node was not asked, or did not answer: ask again.
    pub fn locate_again(&mut self, block: BlockHash) {
        self.to_locate.insert(block);
    }

    pub fn located(&mut self, block: BlockHash, located: Located) {
        let mut gone = Vec::new();
        for (subject, entry) in self.followed.iter_mut().filter(|(_, entry)| entry.place.block() == Some(block)) {
            let by = entry.place.by();
            let off = match (located, entry.place) {
                (Located::OnChain { .. }, _) => false,
                (Located::OffChain, _) | (Located::Missing { .. }, Place::Named { .. } | Place::Nowhere) => true,
                // Older than what every node keeps: absence proves nothing.
                (Located::Missing { sink_blue_score }, Place::At { acceptance, .. }) => {
                    sink_blue_score.saturating_sub(acceptance.blue_score) < CERTAIN_DEPTH
                }
            };
            if off {
                entry.place = Place::Nowhere;
                gone.push((*subject, by));
            } else if let Located::OnChain { blue_score, daa_score } = located {
                entry.place = Place::At { acceptance: Acceptance { block, blue_score, daa_score }, by };
                entry.suspect = false;
                if !self.catching_up {
                    entry.publish();
                }
            }
        }
        for (subject, by) in gone {
            let lost = self.lost(subject, by, Some(block));
            if let Subject::Transaction(txid) = subject {
                self.hinted.remove(&txid);
                if lost {
                    self.to_search.insert(txid);
                }
            }
        }
    }

    // ---- searching back

    /// Up to `most` transactions to look for behind the kept chain; they are taken out of the list.
    pub fn take_to_search(&mut self, most: usize) -> Vec<Arc<Transaction>> {
        let mut taken = Vec::new();
        while taken.len() < most {
            let Some(txid) = self.to_search.pop_first() else { break };
            taken.extend(self.unplaced(&txid));
        }
        taken
    }

    /// A search found the accepting block; it counts once the block is located.
    pub fn found(&mut self, txid: TxId, block: BlockHash) {
        if self.unplaced(&txid).is_some() {
            self.name(Subject::Transaction(txid), block, None);
        }
    }

    /// A followed transaction that is nowhere on the chain.
    fn unplaced(&self, txid: &TxId) -> Option<Arc<Transaction>> {
        let entry = self.followed.get(&Subject::Transaction(*txid)).filter(|entry| entry.place == Place::Nowhere)?;
        entry.sent().map(|sent| sent.transaction.clone())
    }

    pub fn take_to_resubmit(&mut self) -> Vec<Arc<Transaction>> {
        let wanted = std::mem::take(&mut self.to_resubmit);
        wanted.iter().filter_map(|txid| self.unplaced(txid)).collect()
    }

    // ---- spends

    /// The next chain blocks to search for spends: none unless a transaction is unresolved for a moment, or an output hunted for.
    pub fn scan_plan(&self, now: Instant, most: usize) -> Vec<Scan> {
        if self.catching_up {
            return Vec::new();
        }
        let due = |entry: &&Followed| match entry.what {
            What::Transaction(_) => {
                entry.place == Place::Nowhere && (entry.suspect || now.saturating_duration_since(entry.since) >= UNRESOLVED)
            }
            What::Output(_) => outputs::hunted(entry),
        };
        let Some(from) = self.followed.values().filter(due).map(|entry| entry.scanned).min() else { return Vec::new() };
        let first = (from + 1).max(self.base);
        let skip = usize::try_from(first - self.base).unwrap_or(usize::MAX);
        let blocks = self.chain.iter().zip(self.base..).skip(skip).take(most);
        blocks.map(|(block, position)| Scan { position, block: block.hash, ids: block.ids.clone() }).collect()
    }

    /// A transaction accepted in `block` spends `inputs`.
    pub fn spent(&mut self, block: BlockHash, by: TxId, inputs: impl IntoIterator<Item = Outpoint>) {
        if !self.positions.contains_key(&block) {
            return;
        }
        for input in inputs {
            let itself = Subject::Transaction(by);
            let losers: Vec<_> = self.spends.get(&input).into_iter().flatten().copied().filter(|subject| *subject != itself).collect();
            for subject in losers {
                if self.followed.get(&subject).is_some_and(|entry| entry.place == Place::Nowhere) {
                    self.name(subject, block, Some(by));
                }
            }
        }
    }

    /// The block at this position was searched, if it is still there.
    pub fn scanned(&mut self, scan: &Scan) {
        if self.positions.get(&scan.block) != Some(&scan.position) {
            return;
        }
        for entry in self.followed.values_mut() {
            // A gap below the kept chain cannot be searched any more.
            if entry.scanned + 1 == scan.position || entry.scanned < self.base {
                entry.scanned = scan.position;
            }
        }
        self.end_hunts();
    }
}

/// What it spends, or is the spend of.
fn inputs(subject: &Subject, entry: &Followed) -> Vec<Outpoint> {
    match (subject, &entry.what) {
        (Subject::Output(watched), _) => vec![*watched],
        (_, What::Transaction(sent)) => sent.transaction.inputs.iter().map(|input| outpoint(&input.previous_outpoint)).collect(),
        (_, What::Output(_)) => Vec::new(),
    }
}

pub(super) fn outpoint(outpoint: &kaspa_consensus_core::tx::TransactionOutpoint) -> Outpoint {
    Outpoint { txid: outpoint.transaction_id.into(), index: outpoint.index }
}

#[cfg(test)]
#[path = "tracker_tests.rs"]
pub(super) mod tests;
