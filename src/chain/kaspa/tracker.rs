//! What the virtual chain says of the followed transactions: the merge logic, without I/O.
//!
//! A tail of the virtual chain is kept as the node reported it (`apply`), with the ids each chain
//! block accepted, bounded in blocks and ids. Notifications are only *hints*: they name an accepting
//! block early, but may come late, twice or in another order, so a hint counts only after the node
//! confirmed that the block is on its virtual chain (`located`), and it is checked again if the chain
//! reported after it does not contain the block (`end_poll`).
//! Nothing is published while catching up; `caught_up` publishes everything at once.
//! Used by `KaspaChain` under a mutex; every method is short and none waits.

use super::super::TxStatus;
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

/// Where a followed transaction, or its conflict, was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Nowhere,
    /// In this block; its scores are not known yet. `by` is the conflicting transaction.
    Named {
        block: BlockHash,
        by: Option<TxId>,
    },
    At {
        acceptance: Acceptance,
        by: Option<TxId>,
    },
}

impl Place {
    fn block(&self) -> Option<BlockHash> {
        match self {
            Self::Nowhere => None,
            Self::Named { block, .. } => Some(*block),
            Self::At { acceptance, .. } => Some(acceptance.block),
        }
    }
}

struct Followed {
    transaction: Arc<Transaction>,
    resubmit: bool,
    status: watch::Sender<TxStatus>,
    place: Place,
    since: Instant,
    /// Conflicts are looked for in chain blocks after this position.
    scanned: u64,
    /// There is a reason to believe that an input is spent.
    suspect: bool,
}

impl Followed {
    /// What may be published; `None` while a block is named but not located.
    fn visible(&self) -> Option<TxStatus> {
        match self.place {
            Place::Nowhere => Some(TxStatus::Unseen),
            Place::Named { .. } => None,
            Place::At { acceptance, by: None } => Some(TxStatus::Accepted(acceptance)),
            Place::At { acceptance, by: Some(by) } => Some(TxStatus::Conflicted { by, acceptance }),
        }
    }

    fn publish(&self) {
        if let Some(status) = self.visible() {
            self.status.send_if_modified(|old| std::mem::replace(old, status) != status);
        }
    }
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
    followed: HashMap<TxId, Followed>,
    spends: HashMap<Outpoint, Vec<TxId>>,
    /// Blocks to be located.
    to_locate: BTreeSet<BlockHash>,
    /// Transactions to be searched behind the kept chain.
    to_search: BTreeSet<TxId>,
    /// Transactions taken back, to be sent again.
    to_resubmit: BTreeSet<TxId>,
    /// Hinted transactions, with the poll before which the hint came.
    hinted: HashMap<TxId, u64>,
    polls: u64,
    catching_up: bool,
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
        let tail = self.tail_position();
        if let Some(entry) = self.followed.get_mut(&txid) {
            entry.resubmit |= resubmit;
            // The id does not cover signatures: what a stranger presented first may be forged, so the latest counts.
            if *entry.transaction != *transaction {
                entry.transaction = Arc::new(transaction.clone());
            }
            return entry.status.subscribe();
        }
        let place = known.map_or(Place::Nowhere, |acceptance| Place::At { acceptance, by: None });
        let status = known.map_or(TxStatus::Unseen, TxStatus::Accepted);
        let (sender, receiver) = watch::channel(status);
        for input in &transaction.inputs {
            self.spends.entry(outpoint(&input.previous_outpoint)).or_default().push(txid);
        }
        let entry = Followed {
            transaction: Arc::new(transaction.clone()),
            resubmit,
            status: sender,
            place,
            since: now,
            scanned: tail,
            suspect: false,
        };
        self.followed.insert(txid, entry);
        match known {
            // Kept, and verified: the chain may have dropped the block while we were away.
            Some(acceptance) => _ = self.to_locate.insert(acceptance.block),
            None => {
                if let Some(block) = self.accepted.get(&txid).copied() {
                    self.name(txid, block, None);
                }
            }
        }
        receiver
    }

    pub fn unfollow(&mut self, txid: &TxId) {
        let Some(entry) = self.followed.remove(txid) else { return };
        for input in &entry.transaction.inputs {
            let outpoint = outpoint(&input.previous_outpoint);
            if let Some(spenders) = self.spends.get_mut(&outpoint) {
                spenders.retain(|spender| spender != txid);
                if spenders.is_empty() {
                    self.spends.remove(&outpoint);
                }
            }
        }
        self.to_search.remove(txid);
        self.to_resubmit.remove(txid);
        self.hinted.remove(txid);
    }

    /// An input may be spent: look for the transaction and its conflicts further back, at once.
    pub fn suspect(&mut self, txid: &TxId) {
        let oldest = self.base.max(self.tail_position().saturating_sub(CONFLICT_LOOKBACK));
        if let Some(entry) = self.followed.get_mut(txid)
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
        let unseen = |entry: &&Followed| entry.resubmit && entry.place == Place::Nowhere;
        self.followed.values().filter(unseen).map(|entry| entry.transaction.clone()).collect()
    }

    // ---- the chain

    /// Begins to catch up: nothing is published until [`Tracker::caught_up`].
    pub fn begin_catch_up(&mut self) {
        self.catching_up = true;
        self.hinted.clear();
        // Questions under way were lost with the connection, and another node may see it differently.
        for (txid, entry) in &self.followed {
            match entry.place.block() {
                Some(block) => _ = self.to_locate.insert(block),
                None if entry.suspect => _ = self.to_search.insert(*txid),
                None => {}
            }
        }
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
    }

    /// The chain could not be continued without a gap: what is unresolved may lie in it.
    pub fn search_everything(&mut self) {
        let unseen = self.followed.iter().filter(|(_, entry)| entry.place == Place::Nowhere).map(|(txid, _)| *txid);
        self.to_search.extend(unseen);
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
            for txid in &ids {
                if self.followed.contains_key(txid) {
                    self.name(*txid, block, None);
                }
            }
            self.push(block, ids, now);
        }
        for txid in gone {
            self.taken_back(txid);
        }
        self.prune();
    }

    /// Takes blocks off the chain; returns the transactions that were accepted, or conflicted, in them.
    fn remove(&mut self, removed: &[BlockHash]) -> Vec<TxId> {
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
        let mut gone = Vec::new();
        for (txid, entry) in &mut self.followed {
            entry.scanned = entry.scanned.min(tail);
            if entry.place.block().is_some_and(|block| removed.contains(&block)) {
                entry.place = Place::Nowhere;
                gone.push(*txid);
            }
        }
        gone
    }

    /// Publishes the loss unless the same report accepted it anew.
    fn taken_back(&mut self, txid: TxId) {
        let Some(entry) = self.followed.get_mut(&txid) else { return };
        if entry.place != Place::Nowhere {
            return;
        }
        entry.suspect = true;
        if !self.catching_up {
            entry.publish();
        }
        if entry.resubmit {
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
    fn tail_position(&self) -> u64 {
        (self.base + u64::try_from(self.chain.len()).expect("a bounded length")).saturating_sub(1)
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
        self.followed.values().any(|entry| matches!(entry.place, Place::Named { .. }) && *entry.status.borrow() != TxStatus::Unseen)
    }

    // ---- hints

    /// A notification names an accepting block. Returns whether it is of interest.
    pub fn hint(&mut self, block: BlockHash, ids: impl IntoIterator<Item = TxId>) -> bool {
        let mut interesting = false;
        for txid in ids {
            let Some(entry) = self.followed.get(&txid) else { continue };
            // One that is placed already moves only by what the chain itself reports.
            if entry.place == Place::Nowhere && !self.positions.contains_key(&block) {
                self.hinted.insert(txid, self.polls);
                self.name(txid, block, None);
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
            if let Some(block) = self.followed.get(&txid).and_then(|entry| entry.place.block())
                && !self.positions.contains_key(&block)
            {
                self.hinted.insert(txid, self.polls);
                self.to_locate.insert(block);
            }
        }
    }

    fn name(&mut self, txid: TxId, block: BlockHash, by: Option<TxId>) {
        let Some(entry) = self.followed.get_mut(&txid) else { return };
        if let Place::At { acceptance, by: old } = entry.place
            && acceptance.block == block
            && old == by
        {
            return;
        }
        entry.place = Place::Named { block, by };
        self.to_search.remove(&txid);
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
        for (txid, entry) in self.followed.iter_mut().filter(|(_, entry)| entry.place.block() == Some(block)) {
            let by = match entry.place {
                Place::Nowhere => continue,
                Place::Named { by, .. } | Place::At { by, .. } => by,
            };
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
                gone.push(*txid);
            } else if let Located::OnChain { blue_score, daa_score } = located {
                entry.place = Place::At { acceptance: Acceptance { block, blue_score, daa_score }, by };
                entry.suspect = false;
                if !self.catching_up {
                    entry.publish();
                }
            }
        }
        for txid in gone {
            self.hinted.remove(&txid);
            // It may be accepted elsewhere on the kept chain.
            match self.accepted.get(&txid).copied().filter(|elsewhere| *elsewhere != block) {
                Some(elsewhere) => self.name(txid, elsewhere, None),
                None => {
                    self.taken_back(txid);
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
            taken.extend(self.followed.get(&txid).filter(|e| e.place == Place::Nowhere).map(|e| e.transaction.clone()));
        }
        taken
    }

    /// A search found the accepting block; it counts once the block is located.
    pub fn found(&mut self, txid: TxId, block: BlockHash) {
        if self.followed.get(&txid).is_some_and(|entry| entry.place == Place::Nowhere) {
            self.name(txid, block, None);
        }
    }

    pub fn take_to_resubmit(&mut self) -> Vec<Arc<Transaction>> {
        let wanted = std::mem::take(&mut self.to_resubmit);
        wanted
            .iter()
            .filter_map(|txid| self.followed.get(txid))
            .filter(|e| e.place == Place::Nowhere)
            .map(|e| e.transaction.clone())
            .collect()
    }

    // ---- conflicts

    /// The next chain blocks to search for conflicting spends: none unless something is unresolved for a moment.
    pub fn scan_plan(&self, now: Instant, most: usize) -> Vec<Scan> {
        if self.catching_up {
            return Vec::new();
        }
        let due = |entry: &&Followed| {
            entry.place == Place::Nowhere && (entry.suspect || now.saturating_duration_since(entry.since) >= UNRESOLVED)
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
            let losers: Vec<_> = self.spends.get(&input).into_iter().flatten().copied().filter(|txid| *txid != by).collect();
            for txid in losers {
                if self.followed.get(&txid).is_some_and(|entry| entry.place == Place::Nowhere) {
                    self.name(txid, block, Some(by));
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
    }
}

pub(super) fn outpoint(outpoint: &kaspa_consensus_core::tx::TransactionOutpoint) -> Outpoint {
    Outpoint { txid: outpoint.transaction_id.into(), index: outpoint.index }
}

#[cfg(test)]
#[path = "tracker_tests.rs"]
mod tests;
