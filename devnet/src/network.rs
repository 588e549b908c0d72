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
use tokio::sync::{Mutex, watch};
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

    /// Stops mining by rate until [`Network::release`].
    pub(crate) fn hold(&self) {
        self.plan.send_modify(|plan| plan.held = true);
    }

    pub(crate) fn release(&self) {
        self.plan.send_modify(|plan| plan.held = false);
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
        // A new leader must not mine on an old chain: it counts as running only after it caught up.
        self.hold();
        let caught_up = async {
            if !self.plan.borrow().partitioned && self.other_runs(index).await {
                self.connect().await?;
                self.await_same_sink(SYNC_TIMEOUT).await?;
            }
            Ok(())
        };
        let result = caught_up.await;
        self.plan.send_modify(|plan| plan.running[index] = true);
        self.release();
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
        self.hold();
        let cut = async {
            if !self.plan.borrow().partitioned {
                self.await_same_sink(SYNC_TIMEOUT).await?;
                for node in self.nodes.iter() {
                    node.rpc().await?.ban(LOOPBACK.into()).await?;
                }
                self.await_peers(0, Awaited::PeersGone).await?;
                self.plan.send_modify(|plan| plan.partitioned = true);
                info!("partitioned");
            }
            Ok(())
        };
        let result = cut.await;
        self.release();
        result
    }

    /// Lifts the cut and waits until both nodes have the same sink; the branch with more blue work wins.
    pub(crate) async fn rejoin(&self) -> Result<()> {
        let _changing = self.topology.lock().await;
        self.both_running().await?;
        self.hold();
        let join = async {
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
        };
        let result = join.await;
        self.release();
        result
    }

    /// Waits until every other running node of a whole network is as far as `leader` is now.
    pub(crate) async fn await_followers(&self, leader: &Node) -> Result<()> {
        if self.plan.borrow().partitioned {
            return Ok(());
        }
        let target = leader.rpc().await?.get_sink_blue_score().await?;
        for node in self.nodes.iter().filter(|node| node.index != leader.index) {
            // Blocks come over the peer connection; the nodes offer no event for "as far as the other".
            wait::until(SYNC_TIMEOUT, Awaited::SameSink, || async {
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
