//! Everything that can go wrong, as data. Callers match on the variant; the text is for people.

use kaspa_addresses::AddressError;
use kaspa_rpc_core::{RpcError, RpcHash, SubmitBlockRejectReason};

/// Result of every devnet operation.
pub type Result<T> = std::result::Result<T, Error>;

/// A failed devnet operation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The node number is not part of this devnet.
    #[error("there is no node {0}")]
    UnknownNode(usize),
    /// The operation needs a node that is stopped.
    #[error("node {0} is stopped")]
    NodeStopped(usize),
    /// The node to start already runs.
    #[error("node {0} is already running")]
    NodeRunning(usize),
    /// Partitions need a devnet started with two nodes.
    #[error("a partition needs a devnet of two nodes")]
    SingleNode,
    /// kaspad panicked while it was created or stopped.
    #[error("node {index} failed: {reason}")]
    NodeFailed {
        /// Which node.
        index: usize,
        /// What the panic or the join said.
        reason: String,
    },
    /// A request that can never succeed.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The faucet has less than was asked for. Mine more blocks.
    #[error("the faucet can spend {available_sompi} sompi, {needed_sompi} are needed")]
    FaucetShort {
        /// Payment plus fees, in sompi.
        needed_sompi: u64,
        /// Mature and unspent, in sompi.
        available_sompi: u64,
    },
    /// The node refused a transaction; `reason` is its own text, unchanged.
    #[error("{reason}")]
    Rejected {
        /// The id the node would have given it.
        txid: RpcHash,
        /// kaspad's text.
        reason: String,
    },
    /// The node refused a block made from its own template.
    #[error("node {index} rejected a mined block: {reason}")]
    BlockRejected {
        /// Which node.
        index: usize,
        /// kaspad's reason.
        reason: SubmitBlockRejectReason,
    },
    /// Something that normally takes milliseconds did not happen.
    #[error("timed out waiting until {0}")]
    Timeout(Awaited),
    /// Any other answer of the node.
    #[error("node rpc: {0}")]
    Rpc(#[from] RpcError),
    /// Directories, ports, the control listener.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// A request that can never succeed as it stands.
#[derive(Debug, thiserror::Error)]
pub enum Invalid {
    /// Zero sompi or zero outputs.
    #[error("amount and count must be positive")]
    Nothing,
    /// An address of another Kaspa network.
    #[error("the address is not a simnet address (kaspasim:...)")]
    AddressNetwork,
    /// Not an address at all.
    #[error("address: {0}")]
    Address(#[from] AddressError),
    /// The total exceeds what can exist.
    #[error("the total amount is larger than all the money")]
    TooMuch,
    /// KIP-9 makes an output this small too heavy for a block.
    #[error("an output of {0} sompi alone exceeds the storage mass limit")]
    TooSmall(u64),
    /// Not hex, or not the Borsh form of a consensus transaction.
    #[error("the transaction is not hex of a borsh-encoded consensus transaction")]
    Transaction,
    /// Blocks per second outside 0..=1000.
    #[error("the mining rate must be between 0 and 1000 blocks per second")]
    Rate,
    /// The control API has no authentication.
    #[error("the control address must be a loopback address")]
    NotLoopback,
    /// Only one or two nodes are supported.
    #[error("a devnet has one or two nodes")]
    NodeCount,
}

/// What a timeout was waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    /// Listening sockets after a start.
    ListenersOpen,
    /// Database files after a stop.
    FilesClosed,
    /// The utxo index reaching the virtual state.
    IndexCurrent,
    /// Outputs of a payment showing in the utxo index.
    OutputsSpendable,
    /// Peers connected.
    PeersConnected,
    /// Peers gone.
    PeersGone,
    /// Both nodes on one sink.
    SameSink,
}

impl std::fmt::Display for Awaited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ListenersOpen => "the node listens",
            Self::FilesClosed => "the node closed its databases",
            Self::IndexCurrent => "the utxo index is current",
            Self::OutputsSpendable => "the outputs are spendable",
            Self::PeersConnected => "the peers are connected",
            Self::PeersGone => "the peers are disconnected",
            Self::SameSink => "the nodes agree on the sink",
        })
    }
}
