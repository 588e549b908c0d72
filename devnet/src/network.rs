//! The nodes and the lines between them: start, stop, cut, join.
//!
//! How the cut works: the only link is one outgoing connection of node 1 to node 0, requested as *not* permanent. The
//! connection manager drops such a request once it is served, and loopback addresses never enter the address book, so
//! nothing reconnects on its own. Banning `127.0.0.1` on both sides closes the link and refuses new ones; lifting the
//! bans and requesting the peer again joins the nodes. On connecting, both sides announce their sinks, which starts
//! the synchronisation.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use kaspa_rpc_core::RpcError;
use tokio::sync::{Mutex, MutexGuard, watch};
use tracing::info;

use crate::error::{Awaited, Error, Result};
use crate::mining::Plan;
use crate::node::{Node, contextual};
use crate::wait;

/// Connecting and cutting takes milliseconds.
const PEERS_TIMEOUT: Duration = Duration::from_secs(20);

/// Synchronising some thousand blocks takes seconds.
const SYNC_TIMEOUT: Duration = Duration::from_secs(60);

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// All nodes, and the plan their miners follow.
pub(crate) struct Network {
    pub(crate) nodes: Arc<[Node]>,
    plan: watch::Sender<Plan>,
    /// One change of the network at a time.
    topology: Mutex<()>,
}

/// No block is mined while this lives.
struct Held<'a> {
    network: &'a Network,
    _turns: Vec<MutexGuard<'a, u64>>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.network.release();
    }
}

impl Network {
    pub(crate) fn new(nodes: Vec<Node>, rate: f64) -> Self {
        let plan = watch::Sender::new(Plan::new(nodes.len(), rate));
        Self { nodes: nodes.into(), plan, topology: Mutex::new(()) }
    }

    pub(crate) fn node(&self, index: usize) -> Result<&Node> {
        self.nodes.get(index).ok_or(Error::UnknownNode(index))
    }

    /// The first running node: it mines and pays while the network is whole.
    pub(crate) fn leader(&self) -> Result<&Node> {
        self.node(self.plan.borrow().leader().ok_or(Error::NodeStopped(0))?)
    }

    pub(crate) fn plan(&self) -> Plan {
        self.plan.borrow().clone()
    }

    pub(crate) fn follow_plan(&self) -> watch::Receiver<Plan> {
        self.plan.subscribe()
    }

    /// Sets the rate of the whole network (`None`), or of one side of a partition.
    pub(crate) fn set_rate(&self, node: Option<usize>, rate: f64) -> Result<()> {
        let index = node.unwrap_or(0);
        self.node(index)?;
        self.plan.send_modify(|plan| plan.rates[index] = rate);
        Ok(())
    }

    /// Lets the miners follow the plan, which a new network does not.
    pub(crate) fn release(&self) {
        self.plan.send_modify(|plan| plan.held = false);
    }

    /// Ends mining by rate for good.
    pub(crate) fn halt(&self) {
        self.plan.send_modify(|plan| plan.held = true);
    }

    /// Stops all mining until the guard is dropped, and waits for blocks under way. A node that connects announces its
    /// sink *before* it relays new blocks to that peer: a block mined in between would reach the other side only with
    /// the next block.
    async fn hold(&self) -> Held<'_> {
        self.halt();
        let mut turns = Vec::with_capacity(self.nodes.len());
        for node in self.nodes.iter() {
            turns.push(node.mining_turn.lock().await);
        }
        Held { network: self, _turns: turns }
    }

    /// Starts every node at once, unconnected.
    pub(crate) async fn start_all(&self) -> Result<()> {
        match &*self.nodes {
            [only] => only.start().await?,
            [first, second] => {
                let (first, second) = tokio::join!(first.start(), second.start());
                first.and(second)?;
            }
            _ => return Err(crate::error::Invalid::NodeCount.into()),
        }
        self.plan.send_modify(|plan| plan.running.fill(true));
        Ok(())
    }

    /// Stops every node that runs.
    pub(crate) async fn stop_all(&self) -> Result<()> {
        let _changing = self.topology.lock().await;
        self.plan.send_modify(|plan| plan.running.fill(false));
        let stop = async |node: Option<&Node>| match node {
            Some(node) => match node.stop().await {
                Err(Error::NodeStopped(_)) => Ok(()),
                other => other,
            },
            None => Ok(()),
        };
        let (first, second) = tokio::join!(stop(self.nodes.first()), stop(self.nodes.get(1)));
        first.and(second)
    }

    pub(crate) async fn stop_node(&self, index: usize) -> Result<()> {
        let node = self.node(index)?;
        let _changing = self.topology.lock().await;
        self.plan.send_modify(|plan| plan.running[index] = false);
        node.stop().await
    }

    /// Starts a node where it was. In a whole network it is connected and caught up before this returns.
    pub(crate) async fn start_node(&self, index: usize) -> Result<()> {
        let node = self.node(index)?;
        let _changing = self.topology.lock().await;
        node.start().await?;
        let _held = self.hold().await;
        let caught_up = async {
            if !self.plan.borrow().partitioned && self.other_runs(index).await {
                self.connect().await?;
                self.await_same_sink(SYNC_TIMEOUT).await?;
            }
            Ok(())
        };
        let result = caught_up.await;
        // Only now: a new leader must not mine on an old chain.
        self.plan.send_modify(|plan| plan.running[index] = true);
        result
    }

    /// Joins nodes that were just started together.
    pub(crate) async fn join_all(&self) -> Result<()> {
        let _changing = self.topology.lock().await;
        if self.nodes.len() == 2 {
            self.connect().await?;
            self.await_same_sink(SYNC_TIMEOUT).await?;
        }
        Ok(())
    }

    /// Cuts the nodes from each other at a common sink. Afterwards node 0 mines at the rate set before and node 1
    /// does not mine by itself.
    pub(crate) async fn partition(&self) -> Result<()> {
        let _changing = self.topology.lock().await;
        self.both_running().await?;
        let _held = self.hold().await;
        if self.plan.borrow().partitioned {
            return Ok(());
        }
        self.await_same_sink(SYNC_TIMEOUT).await?;
        for node in self.nodes.iter() {
            node.rpc().await?.ban(LOOPBACK.into()).await?;
        }
        self.await_peers(0, Awaited::PeersGone).await?;
        self.plan.send_modify(|plan| plan.partitioned = true);
        info!("partitioned");
        Ok(())
    }

    /// Lifts the cut and waits until both nodes have the same sink; the branch with more blue work wins.
    pub(crate) async fn rejoin(&self) -> Result<()> {
        let _changing = self.topology.lock().await;
        self.both_running().await?;
        let _held = self.hold().await;
        for node in self.nodes.iter() {
            match node.rpc().await?.unban(LOOPBACK.into()).await {
                Ok(()) | Err(RpcError::IpIsNotBanned(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.connect().await?;
        self.await_same_sink(SYNC_TIMEOUT).await?;
        self.plan.send_modify(|plan| {
            plan.partitioned = false;
            plan.rates[1..].fill(0.0);
        });
        info!("rejoined");
        Ok(())
    }

    /// Waits until every other running node of a whole network is as far as `leader` is now.
    pub(crate) async fn await_followers(&self, leader: &Node) -> Result<()> {
        let target = leader.rpc().await?.get_sink_blue_score().await?;
        for node in self.nodes.iter().filter(|node| node.index != leader.index) {
            // Blocks come over the peer connection; the nodes offer no event for "as far as the other".
            wait::until(SYNC_TIMEOUT, Awaited::SameSink, || async {
                let plan = self.plan();
                if plan.partitioned || !plan.running[node.index] {
                    return Ok(true);
                }
                match node.rpc().await {
                    Ok(rpc) => Ok(rpc.get_sink_blue_score().await? >= target),
                    Err(Error::NodeStopped(_)) => Ok(true),
                    Err(error) => Err(error),
                }
            })
            .await?;
        }
        Ok(())
    }

    async fn connect(&self) -> Result<()> {
        let [server, client] = &*self.nodes else { return Err(Error::SingleNode) };
        if client.rpc().await?.get_connected_peer_info().await?.peer_info.is_empty() {
            client.rpc().await?.add_peer(contextual(server.endpoints.p2p), false).await?;
        }
        self.await_peers(1, Awaited::PeersConnected).await
    }

    /// Waits until each node has exactly `count` peers. kaspad offers no event for peers.
    async fn await_peers(&self, count: usize, awaited: Awaited) -> Result<()> {
        for node in self.nodes.iter() {
            wait::until(PEERS_TIMEOUT, awaited, || async {
                Ok(node.rpc().await?.get_connected_peer_info().await?.peer_info.len() == count)
            })
            .await?;
        }
        Ok(())
    }

    /// Waits until both nodes have one sink. The sinks of two nodes have no common event.
    async fn await_same_sink(&self, timeout: Duration) -> Result<()> {
        let [first, second] = &*self.nodes else { return Ok(()) };
        wait::until(timeout, Awaited::SameSink, || async {
            let first = first.rpc().await?.get_sink().await?.sink;
            Ok(first == second.rpc().await?.get_sink().await?.sink)
        })
        .await
    }

    async fn both_running(&self) -> Result<()> {
        if self.nodes.len() < 2 {
            return Err(Error::SingleNode);
        }
        for node in self.nodes.iter() {
            node.rpc().await?;
        }
        Ok(())
    }

    async fn other_runs(&self, index: usize) -> bool {
        for node in self.nodes.iter().filter(|node| node.index != index) {
            if node.is_running().await {
                return true;
            }
        }
        false
    }
}
