//! The devnet as tests see it.

use kaspa_addresses::Address;
use kaspa_consensus_core::config::params::SIMNET_PARAMS;
use kaspa_consensus_core::tx::{Transaction, TransactionId};
use kaspa_rpc_core::{RpcMempoolEntry, RpcUtxosByAddressesEntry};
use kaspa_utils::fd_budget;
use tokio::task::JoinHandle;
use tracing::info;

use crate::data_dir::DataDir;
use crate::error::Result;
use crate::faucet::{self, Faucet, FundRequest, Funded};
use crate::index_watch;
use crate::mining;
use crate::network::Network;
use crate::node::Node;
use crate::options::{Options, check_rate};
use crate::ports::Endpoints;
use crate::status::{self, Status};

/// Open files for the nodes of several devnets and their clients in one process.
const FD_LIMIT: u64 = 8192;

/// Enough for the merged coins to be accepted.
const SETTLING_BLOCKS: u64 = 4;

/// A running simnet: nodes, miner and faucet. Made by [`Devnet::start`], ended by [`Devnet::stop`].
///
/// All methods take `&self` and may be called at the same time.
pub struct Devnet {
    network: Network,
    faucet: Faucet,
    miners: Vec<JoinHandle<()>>,
    /// Last, so that it is deleted after everything else.
    _dir: DataDir,
}

impl Devnet {
    /// Starts the nodes, mines until the faucet has mature coins, joins the nodes and starts mining by rate.
    pub async fn start(options: Options) -> Result<Self> {
        options.check()?;
        fd_budget::try_set_fd_limit(FD_LIMIT)?;
        let dir = DataDir::open(options.dir)?;
        let endpoints = Endpoints::choose(options.nodes, options.wrpc_port)?;
        let nodes = (0..).zip(endpoints).map(|(i, e)| Node::new(i, e, dir.path.join(format!("node-{i}")))).collect();
        let mut devnet = Self { network: Network::new(nodes, options.rate), faucet: Faucet::new(), miners: vec![], _dir: dir };

        if let Err(error) = devnet.prepare(options.matured_blocks).await {
            // The first error tells more than one of stopping what never ran well.
            let _ = devnet.shut_down().await;
            return Err(error);
        }
        let nodes = &devnet.network.nodes;
        devnet.miners = (0..nodes.len())
            .map(|i| mining::spawn(nodes.clone(), i, devnet.faucet.address.clone(), devnet.network.follow_plan()))
            .collect();
        devnet.network.release();
        info!("devnet ready");
        Ok(devnet)
    }

    /// Stops mining and the nodes, and deletes a temporary directory.
    pub async fn stop(self) -> Result<()> {
        self.shut_down().await
    }

    /// Like [`Devnet::stop`] for a devnet that others still refer to; its calls then fail with `NodeStopped`.
    pub async fn shut_down(&self) -> Result<()> {
        self.network.halt();
        self.network.stop_all().await
    }

    /// Pays from the faucet through the first running node. While that node mines, returns when the outputs are
    /// spendable on every node of a whole network; with mining paused, returns once the mempool took the payment.
    ///
    /// # Errors
    /// `FaucetShort` when more blocks must be mined first, `Invalid` for amounts that no transaction can carry,
    /// `Timeout` when the payment was submitted but not accepted in time.
    pub async fn fund(&self, request: &FundRequest) -> Result<Funded> {
        let node = self.network.leader()?;
        let funded = self.faucet.pay(node, request).await?;
        let plan = self.network.plan();
        if plan.wanted_rate(node.index) > 0.0 {
            for node in self.network.nodes.iter().filter(|n| n.index == node.index || !plan.partitioned) {
                if plan.running[node.index] {
                    faucet::await_outputs(node, &request.address, &funded.outpoints).await?;
                }
            }
        }
        Ok(funded)
    }

    /// Mines `blocks` at once: on `node`, or on the first running one. Returns when the utxo index shows them and, in
    /// a whole network, the other node has them too.
    pub async fn mine(&self, node: Option<usize>, blocks: u64) -> Result<()> {
        let node = match node {
            Some(index) => self.network.node(index)?,
            None => self.network.leader()?,
        };
        mining::mine(node, &self.faucet.address, blocks).await?;
        index_watch::current(node).await?;
        self.network.await_followers(node).await
    }

    /// Sets blocks per second, 0 to pause: of the whole network, or of one side of a partition.
    pub fn set_mining_rate(&self, node: Option<usize>, rate: f64) -> Result<()> {
        check_rate(rate)?;
        self.network.set_rate(node, rate)
    }

    /// Stops a node. Its chain stays on disk, its mempool is lost, its ports are free until it starts again.
    pub async fn stop_node(&self, node: usize) -> Result<()> {
        self.network.stop_node(node).await
    }

    /// Starts a stopped node on its ports and directory; in a whole network it has caught up when this returns.
    pub async fn start_node(&self, node: usize) -> Result<()> {
        self.network.start_node(node).await
    }

    /// Stop, then start.
    pub async fn restart_node(&self, node: usize) -> Result<()> {
        self.stop_node(node).await?;
        self.start_node(node).await
    }

    /// Cuts two nodes from each other. Node 0 keeps the mining rate; node 1 mines only when told to.
    pub async fn partition(&self) -> Result<()> {
        self.network.partition().await
    }

    /// Connects them again and waits for one sink: the branch with more blue work wins, the other is merged.
    pub async fn rejoin(&self) -> Result<()> {
        self.network.rejoin().await
    }

    /// Submits a transaction to one node. [`Error::Rejected`](crate::Error::Rejected) has the node's text.
    pub async fn submit(&self, node: usize, tx: &Transaction, allow_orphan: bool) -> Result<TransactionId> {
        faucet::submit(self.network.node(node)?, tx, allow_orphan).await
    }

    /// Transactions waiting in a node's mempool, orphans included.
    pub async fn mempool(&self, node: usize) -> Result<Vec<RpcMempoolEntry>> {
        Ok(self.network.node(node)?.rpc().await?.get_mempool_entries(true, false).await?)
    }

    /// Unspent outputs of an address by the utxo index of a node.
    pub async fn utxos(&self, node: usize, address: &Address) -> Result<Vec<RpcUtxosByAddressesEntry>> {
        Ok(self.network.node(node)?.rpc().await?.get_utxos_by_addresses(vec![address.clone()]).await?)
    }

    /// wRPC (Borsh) address of each node, `ws://127.0.0.1:port`.
    pub fn wrpc_urls(&self) -> Vec<String> {
        self.network.nodes.iter().map(|node| format!("ws://{}", node.endpoints.borsh)).collect()
    }

    /// The state of everything. Stopped nodes are listed as stopped.
    pub async fn status(&self) -> Result<Status> {
        status::collect(&self.network, &self.faucet).await
    }

    async fn prepare(&self, matured_blocks: u64) -> Result<()> {
        self.network.start_all().await?;
        self.fill_faucet(matured_blocks).await?;
        self.network.join_all().await
    }

    async fn fill_faucet(&self, matured_blocks: u64) -> Result<()> {
        let (nodes, faucet) = (&self.network.nodes, &self.faucet);
        let first = &nodes[0];
        let chain = first.rpc().await?.get_server_info().await?.virtual_daa_score;
        let wanted = SIMNET_PARAMS.coinbase_maturity() + matured_blocks;
        // A kept directory has its coins already.
        if chain < wanted {
            mining::mine_on_all(nodes, &faucet.address, wanted - chain).await?;
            faucet.merge_coinbases(first).await?;
            mining::mine_on_all(nodes, &faucet.address, SETTLING_BLOCKS).await?;
            index_watch::current(first).await?;
        }
        Ok(())
    }
}

/// A devnet that was not stopped, as in a failing test, still ends its nodes before their files go.
impl Drop for Devnet {
    fn drop(&mut self) {
        for miner in &self.miners {
            miner.abort();
        }
        for node in self.network.nodes.iter() {
            node.end_now();
        }
    }
}
