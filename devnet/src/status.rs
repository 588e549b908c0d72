//! One picture of the whole devnet, as `GET /status` shows it.

use kaspa_consensus_core::network::NetworkType;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::faucet::Faucet;
use crate::network::Network;
use crate::node::Node;

/// The whole devnet.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// `kaspa:simnet`.
    pub network: String,
    /// Whether the nodes are cut from each other.
    pub partitioned: bool,
    /// The faucet.
    pub faucet: FaucetStatus,
    /// All nodes by index.
    pub nodes: Vec<NodeStatus>,
}

/// The faucet's address and means.
#[derive(Debug, Clone, Serialize)]
pub struct FaucetStatus {
    /// Where block rewards go.
    pub address: String,
    /// Mature and unspent sompi; `None` while no node runs.
    pub spendable_sompi: Option<u64>,
}

/// One node; `chain` is `None` while it is stopped.
#[derive(Debug, Clone, Serialize)]
pub struct NodeStatus {
    /// Its number.
    pub index: usize,
    /// wRPC, Borsh encoding.
    pub wrpc: String,
    /// wRPC, JSON encoding.
    pub wrpc_json: String,
    /// Peer to peer address.
    pub p2p: String,
    /// Blocks per second it mines by itself.
    pub mining_rate: f64,
    /// What the node says of itself.
    pub chain: Option<ChainStatus>,
}

/// What a running node says of itself.
#[derive(Debug, Clone, Serialize)]
pub struct ChainStatus {
    /// Sink hash in hex.
    pub sink: String,
    /// Blue score of the sink.
    pub sink_blue_score: u64,
    /// DAA score of the virtual block.
    pub virtual_daa_score: u64,
    /// Transactions in the mempool, without orphans.
    pub mempool_size: u64,
    /// Connected peers.
    pub peers: usize,
    /// The node's opinion; false when no block was mined for about ten minutes.
    pub synced: bool,
}

pub(crate) async fn collect(network: &Network, faucet: &Faucet) -> Result<Status> {
    let plan = network.plan();
    let mut nodes = Vec::with_capacity(network.nodes.len());
    for node in network.nodes.iter() {
        nodes.push(NodeStatus {
            index: node.index,
            wrpc: format!("ws://{}", node.endpoints.borsh),
            wrpc_json: format!("ws://{}", node.endpoints.json),
            p2p: node.endpoints.p2p.to_string(),
            mining_rate: plan.wanted_rate(node.index),
            chain: unless_stopped(chain(node).await)?,
        });
    }
    let spendable_sompi = match network.leader() {
        Ok(node) => unless_stopped(faucet.spendable(node).await)?,
        Err(_) => None,
    };
    Ok(Status {
        network: network_name(),
        partitioned: plan.partitioned,
        faucet: FaucetStatus { address: faucet.address.to_string(), spendable_sompi },
        nodes,
    })
}

/// The network as x402 names it.
pub fn network_name() -> String {
    format!("kaspa:{}", NetworkType::Simnet)
}

async fn chain(node: &Node) -> Result<ChainStatus> {
    let rpc = node.rpc().await?;
    let dag = rpc.get_block_dag_info().await?;
    let info = rpc.get_info().await?;
    Ok(ChainStatus {
        sink: dag.sink.to_string(),
        sink_blue_score: rpc.get_sink_blue_score().await?,
        virtual_daa_score: dag.virtual_daa_score,
        mempool_size: info.mempool_size,
        peers: rpc.get_connected_peer_info().await?.peer_info.len(),
        synced: info.is_synced,
    })
}

fn unless_stopped<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::NodeStopped(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
