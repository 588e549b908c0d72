//! A real Kaspa simnet for tests: one or two kaspad 2.1.0 nodes in this process, a miner without proof of work, and a
//! faucet. It needs no network, no fixed port and no fixed directory.
//!
//! It promises blocks at a settable rate, spendable funds, real stops (the mempool is lost, the chain is kept) and
//! real reorgs (two nodes, cut and joined). It never talks to anything but loopback. The binary `kas402-devnet` serves
//! the same over HTTP ([`control`]); integration tests use either.
//!
//! ```no_run
//! # async fn example() -> Result<(), kas402_devnet::Error> {
//! use kas402_devnet::{Devnet, FundRequest, Options};
//!
//! let devnet = Devnet::start(Options::default()).await?;
//! let address = "kaspasim:qz...".try_into().map_err(kas402_devnet::Invalid::Address)?;
//! let funded = devnet.fund(&FundRequest { address, amount_sompi: 500_000_000, count: 3 }).await?;
//! println!("{} outputs, wRPC at {}", funded.outpoints.len(), devnet.wrpc_urls()[0]);
//! devnet.stop().await
//! # }
//! ```

#![warn(missing_docs)]

pub mod control;
mod data_dir;
mod devnet;
mod error;
mod faucet;
mod index_watch;
mod mining;
mod network;
mod node;
mod options;
mod payment;
mod ports;
mod status;
mod wait;

pub use devnet::Devnet;
pub use error::{Awaited, Error, Invalid, Result};
pub use faucet::{FundRequest, Funded};
pub use options::Options;
pub use status::{ChainStatus, FaucetStatus, NodeStatus, Status, network_name};
