//! Blocks without proof of work: template, submit, next. The rate, and who mines, is a plan shared by all miners.

use std::sync::Arc;
use std::time::Duration;

use kaspa_addresses::Address;
use kaspa_rpc_core::{RpcRawBlock, SubmitBlockReport};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, warn};

use crate::error::{Error, Result};
use crate::node::Node;

/// Who mines how fast.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Blocks per second of each node. While the network is whole only the first entry counts.
    pub(crate) rates: Vec<f64>,
    /// Which nodes run.
    pub(crate) running: Vec<bool>,
    /// Whether the nodes are cut from each other.
    pub(crate) partitioned: bool,
    /// Nobody mines by rate while the network is being changed.
    pub(crate) held: bool,
}

impl Plan {
    /// A whole network of `nodes` stopped nodes.
    pub(crate) fn new(nodes: usize, rate: f64) -> Self {
        let mut rates = vec![0.0; nodes];
        rates[0] = rate;
        Self { rates, running: vec![false; nodes], partitioned: false, held: true }
    }

    /// The node that works for a whole network: the first that runs.
    pub(crate) fn leader(&self) -> Option<usize> {
        self.running.iter().position(|running| *running)
    }

    /// The rate that tests asked for, whether or not mining is held at the moment.
    pub(crate) fn wanted_rate(&self, node: usize) -> f64 {
        match (self.running[node], self.partitioned) {
            (false, _) => 0.0,
            (true, true) => self.rates[node],
            (true, false) if self.leader() == Some(node) => self.rates[0],
            (true, false) => 0.0,
        }
    }

    fn rate_now(&self, node: usize) -> f64 {
        if self.held { 0.0 } else { self.wanted_rate(node) }
    }
}

/// Mines one block on `node` and hands it to the `others` at the same time.
async fn mine_block(node: &Node, others: &[Node], payout: &Address, serial: &mut u64) -> Result<()> {
    *serial += 1;
    // Node and serial number make the coinbase unique, so that nodes of a partition never mine the same block.
    let tag = format!("kas402-devnet {} {serial}", node.index);
    let block = {
        let rpc = node.rpc().await?;
        let block = rpc.get_block_template(payout.clone(), tag.into_bytes()).await?.block;
        submit(node.index, &rpc, block.clone()).await?;
        block
    };
    for other in others {
        submit(other.index, &*other.rpc().await?, block.clone()).await?;
    }
    Ok(())
}

async fn submit(index: usize, rpc: &kaspa_rpc_core::api::rpc::DynRpcService, block: RpcRawBlock) -> Result<()> {
    match rpc.submit_block(block, false).await?.report {
        SubmitBlockReport::Success => Ok(()),
        SubmitBlockReport::Reject(reason) => Err(Error::BlockRejected { index, reason }),
    }
}

/// Mines `blocks` on one node. Blocks of other callers on the same node come before or after, never between.
pub(crate) async fn mine(node: &Node, payout: &Address, blocks: u64) -> Result<()> {
    let mut turn = node.mining_turn.lock().await;
    for _ in 0..blocks {
        mine_block(node, &[], payout, &mut turn).await?;
    }
    Ok(())
}

/// Mines `blocks` on the first node and gives each to every other node directly, which is faster than relay.
pub(crate) async fn mine_on_all(nodes: &[Node], payout: &Address, blocks: u64) -> Result<()> {
    let Some((first, others)) = nodes.split_first() else { return Ok(()) };
    let mut turn = first.mining_turn.lock().await;
    for _ in 0..blocks {
        mine_block(first, others, payout, &mut turn).await?;
    }
    Ok(())
}

/// Mines on node `index` by the plan until the plan is dropped.
pub(crate) fn spawn(nodes: Arc<[Node]>, index: usize, payout: Address, mut plan: watch::Receiver<Plan>) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            let rate = plan.borrow_and_update().rate_now(index);
            if rate <= 0.0 {
                if plan.changed().await.is_err() {
                    return;
                }
                continue;
            }
            let mut ticks = interval(Duration::from_secs_f64(1.0 / rate));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    changed = plan.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return,
                    },
                    _ = ticks.tick() => match mine(&nodes[index], &payout, 1).await {
                        Ok(()) => {}
                        // The plan learns of a stop a moment later.
                        Err(Error::NodeStopped(_)) => debug!(node = index, "no block: stopped"),
                        Err(error) => warn!(node = index, %error, "no block"),
                    }
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(running: [bool; 2], partitioned: bool, held: bool) -> [f64; 2] {
        let plan = Plan { rates: vec![10.0, 3.0], running: running.to_vec(), partitioned, held };
        [plan.rate_now(0), plan.rate_now(1)]
    }

    #[test]
    fn one_node_mines_for_a_whole_network_and_each_for_itself_in_a_partition() {
        let (yes, no) = (true, false);
        for (running, partitioned, held, expected) in [
            ([yes, yes], no, no, [10.0, 0.0]),
            ([no, yes], no, no, [0.0, 10.0]),
            ([no, no], no, no, [0.0, 0.0]),
            ([yes, yes], yes, no, [10.0, 3.0]),
            ([no, yes], yes, no, [0.0, 3.0]),
            ([yes, yes], yes, yes, [0.0, 0.0]),
            ([yes, yes], no, yes, [0.0, 0.0]),
        ] {
            assert_eq!(rates(running, partitioned, held), expected, "{running:?} {partitioned} {held}");
        }
    }
}
