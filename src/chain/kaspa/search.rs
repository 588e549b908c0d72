//! Looking back along the virtual chain: where to start from, and where an old transaction was accepted.
//!
//! The node has no index by transaction id. What lies on the kept chain is known at once; further
//! back there are two ways, tried in this order for what a submit or a lost checkpoint made suspect:
//! an unspent output tells the DAA score of its acceptance, as far back as the node keeps blocks;
//! when every output is spent, the last [`DEEP_BLUE`] of blue score are read. What is older *and*
//! spent stays unresolved: absence is never rejection. The spend of an output is looked for in the
//! transactions themselves, block by block, over the same stretch.

use super::{
    node::{BlockFacts, BlockTransaction, CallError, Node},
    shared::lock,
    tracker::{Scan, Tracker},
};
use crate::{
    chain::AcceptedTransaction,
    protocol::{
        acceptance::Acceptance,
        ids::{BlockHash, Outpoint, TxId},
        network::Network,
    },
};
use kaspa_consensus_core::tx::Transaction;
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
};

/// Blue score kept behind the sink at a start without checkpoint: about ten minutes of the public networks.
pub(super) const START_BLUE: u64 = 6_000;
/// Blue score read for transactions of which nothing is left unspent: about eighty minutes.
const DEEP_BLUE: u64 = 50_000;
/// Blocks looked at while stepping back; far more than a descent by levels needs.
const STEPS: usize = 400;

/// Which score a step back is measured by.
#[derive(Clone, Copy)]
enum Score {
    Blue(u64),
    Daa(u64),
}

/// The deepest block this node takes that is at most just beyond `blue` below the sink; at worst the sink.
pub(super) async fn block_behind_sink(node: &Node, blue: u64) -> Result<BlockHash, CallError> {
    let target = node.sink_blue_score().await?.saturating_sub(blue);
    step_back(node, Score::Blue(target)).await
}

/// Descends from the sink to a block below the target. Parents of higher proof-of-work levels lie
/// further back, so the way is short. Stops early where the node has pruned.
async fn step_back(node: &Node, target: Score) -> Result<BlockHash, CallError> {
    let below = |facts: &BlockFacts| match target {
        Score::Blue(score) => facts.blue_score <= score,
        Score::Daa(score) => facts.daa_score < score,
    };
    let sink = node.sink().await?;
    let mut facts = node.block(sink).await?;
    let mut way = vec![sink];
    let mut steps = 0;
    while !below(&facts) && steps < STEPS {
        let mut next = None;
        let mut seen = HashSet::new();
        for parent in facts.parents_by_level.iter().filter(|parent| seen.insert(**parent)) {
            steps += 1;
            let parent_facts = match node.block(*parent).await {
                Ok(parent_facts) => parent_facts,
                Err(CallError::Refused(_)) => break,
                Err(lost) => return Err(lost),
            };
            let beyond = below(&parent_facts);
            // One beyond the target is taken only when no step short of it is left.
            if !beyond || next.is_none() {
                next = Some((*parent, parent_facts));
            }
            if beyond {
                break;
            }
        }
        let Some((parent, parent_facts)) = next else { break };
        way.push(parent);
        facts = parent_facts;
    }
    while let Some(block) = way.pop() {
        if node.starts_from(block).await? {
            return Ok(block);
        }
    }
    Ok(sink)
}

/// Reads the chain from `start` until every wanted id is found or the chain ends.
async fn read_chain(node: &Node, start: BlockHash, wanted: &mut HashSet<TxId>) -> Result<HashMap<TxId, BlockHash>, CallError> {
    let mut found = HashMap::new();
    let mut cursor = start;
    while !wanted.is_empty() {
        let path = node.chain_from(cursor).await?;
        let Some((last, _)) = path.added.last() else { break };
        cursor = *last;
        for (block, ids) in &path.added {
            found.extend(ids.iter().filter(|txid| wanted.remove(txid)).map(|txid| (*txid, *block)));
        }
    }
    Ok(found)
}

/// Where these transactions were accepted, as far as the node can tell.
pub(super) async fn find_accepted(
    node: &Node,
    network: Network,
    transactions: &[Arc<Transaction>],
) -> Result<HashMap<TxId, BlockHash>, CallError> {
    let mut wanted: HashSet<_> = transactions.iter().map(|transaction| transaction.id().into()).collect();
    let mut found = HashMap::new();
    for (txid, daa_score) in node.accepted_daa_scores(transactions, network).await? {
        let start = step_back(node, Score::Daa(daa_score)).await?;
        found.extend(read_chain(node, start, &mut HashSet::from([txid])).await?);
        wanted.remove(&txid);
    }
    if !wanted.is_empty() {
        let start = block_behind_sink(node, DEEP_BLUE).await?;
        found.extend(read_chain(node, start, &mut wanted).await?);
    }
    Ok(found)
}

/// The transactions a chain block accepted, of which `ids` are wanted: they are in the blocks it merged.
/// (`get_virtual_chain_from_block_v2` would tell in one call, but it fails as a whole when any transaction of the
/// stretch touches a non-standard script.)
async fn accepted_in(node: &Node, block: BlockHash, ids: &[TxId]) -> Result<Vec<BlockTransaction>, CallError> {
    let wanted: HashSet<_> = ids.iter().copied().collect();
    let mut found = HashMap::new();
    if !wanted.is_empty() {
        for merged in node.block(block).await?.merged {
            let transactions = match node.block_transactions(merged).await {
                Ok(transactions) => transactions,
                // Pruned: cannot be searched any more.
                Err(CallError::Refused(_)) => continue,
                Err(lost) => return Err(lost),
            };
            // One transaction may be in several of the blocks.
            found.extend(transactions.into_iter().filter(|tx| wanted.contains(&tx.txid)).map(|tx| (tx.txid, tx)));
            if found.len() == wanted.len() {
                break;
            }
        }
    }
    Ok(found.into_values().collect())
}

/// Searches one chain block for spends of what followed transactions spend, and of watched outputs.
pub(super) async fn scan_for_spends(node: &Node, tracker: &Mutex<Tracker>, scan: &Scan) -> Result<(), CallError> {
    let accepted = accepted_in(node, scan.block, &scan.ids).await?;
    let mut tracker = lock(tracker);
    for transaction in &accepted {
        tracker.spent(scan.block, transaction.txid, transaction.spends());
    }
    tracker.scanned(scan);
    Ok(())
}

/// Searches for the spends of these outputs, all unspent at `daa_score`, up to the beginning of the kept chain.
pub(super) async fn trace(node: &Node, tracker: &Mutex<Tracker>, daa_score: u64, outpoints: &[Outpoint]) -> Result<(), CallError> {
    let mut start = step_back(node, Score::Daa(daa_score)).await?;
    let deepest = node.sink_blue_score().await?.saturating_sub(DEEP_BLUE);
    if node.block(start).await?.blue_score < deepest {
        start = step_back(node, Score::Blue(deepest)).await?;
    }
    let mut cursor = start;
    while lock(tracker).position(&cursor).is_none() {
        let path = node.chain_from(cursor).await?;
        let Some((last, _)) = path.added.last() else { break };
        cursor = *last;
        for (block, ids) in &path.added {
            if lock(tracker).position(block).is_some() {
                break;
            }
            let accepted = match accepted_in(node, *block, ids).await {
                Ok(accepted) => accepted,
                Err(CallError::Refused(_)) => continue,
                Err(lost) => return Err(lost),
            };
            let mut tracker = lock(tracker);
            for transaction in &accepted {
                tracker.found_spend(*block, transaction.txid, transaction.spends());
            }
        }
    }
    lock(tracker).traced(outpoints, Some(start));
    Ok(())
}

/// What a transaction spent and made: in one call with the outputs it spent, or, where kaspad cannot, from the block's bytes.
pub(super) async fn accepted(
    node: &Node,
    txid: TxId,
    acceptance: &Acceptance,
    sink_blue_score: u64,
) -> Result<AcceptedTransaction, CallError> {
    let refused = match node.accepted_with_spent(txid, acceptance, sink_blue_score).await {
        Err(CallError::Refused(why)) => why,
        answer => return answer,
    };
    let found = accepted_in(node, acceptance.block, &[txid]).await?.into_iter().next();
    found.and_then(BlockTransaction::read).ok_or(CallError::Refused(refused))
}
