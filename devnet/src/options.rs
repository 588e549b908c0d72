//! How a devnet is started.

use std::path::PathBuf;

use crate::error::{Invalid, Result};

/// What [`Devnet::start`](crate::Devnet::start) makes. The default is one node at 10 blocks a second in a temporary
/// directory that is deleted at the end.
#[derive(Debug, Clone)]
pub struct Options {
    /// One or two nodes. Two are needed for partitions.
    pub nodes: usize,
    /// Blocks per second once the devnet is ready; 0 pauses.
    pub rate: f64,
    /// Data directory that is kept; `None` makes a temporary one.
    pub dir: Option<PathBuf>,
    /// wRPC (Borsh) port of node 0; `None` picks a free one. Everything else always gets free ports.
    pub wrpc_port: Option<u16>,
    /// Blocks mined beyond coinbase maturity before ready: each gives the faucet one more mature coinbase of about
    /// 50 KAS.
    pub matured_blocks: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { nodes: 1, rate: 10.0, dir: None, wrpc_port: None, matured_blocks: 200 }
    }
}

impl Options {
    /// Refuses what no devnet can do.
    pub(crate) fn check(&self) -> Result<()> {
        if !(1..=2).contains(&self.nodes) {
            return Err(Invalid::NodeCount.into());
        }
        check_rate(self.rate)
    }
}

/// A rate in blocks per second that the miner accepts.
pub(crate) fn check_rate(rate: f64) -> Result<()> {
    if rate.is_finite() && (0.0..=1000.0).contains(&rate) { Ok(()) } else { Err(Invalid::Rate.into()) }
}
