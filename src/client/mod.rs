//! The buyer: a wallet, payments that are durable before they are sent, and a paid fetch.
//!
//! Used by the command line, the tests, and others as a library. Names no node: coins come through [`crate::chain`].
//!
//! - [`PaidClient`] fetches, and pays when asked. For one request no two payments can both be accepted ([`paid`]): a payment is
//!   in the [`Journal`] before its first byte leaves, and goes again, byte for byte, after a time-out, a 5xx, a 409 that says
//!   so, and a restart. Receipts are held against what was paid, and kept. Redirects are not followed.
//! - [`channel::ChannelPayer`] pays from channels: one deposit, then a signature per request. A `PaidClient` takes one along
//!   ([`PaidClient::with_channels`]).
//! - [`SpendingPolicy`] says what may be paid: the most for one request and for its network fee, the network, the recipients,
//!   and a [`Budget`] for one server and for everything, which the journal keeps over restarts and between processes.
//!   [`channel::ChannelPolicy`] says what may be locked up. Without a maximum nothing is paid.
//! - Errors say where the money is ([`FetchError::money`]).
//!
//! By a transaction of its own:
//!
//! ```no_run
#![doc = include_str!("../../examples/client_exact.rs")]
//! ```
//!
//! From a channel:
//!
//! ```no_run
#![doc = include_str!("../../examples/client_channel.rs")]
//! ```

pub mod challenge;
pub mod channel;
pub mod coins;
pub mod decide;
pub mod error;
pub mod exchange;
pub mod journal;
pub mod mcp;
pub mod paid;
pub mod payload;
pub mod policy;
pub mod receipt;
pub mod wallet;

pub use coins::CoinRules;
pub use error::{FetchError, Money, Unpaid};
pub use exchange::{PaidRequest, Reply, Transport};
pub use journal::Journal;
pub use paid::{Edge, Fetched, PaidClient, Quote, Rail, Step};
pub use policy::{Budget, Patience, SpendingPolicy};
pub use wallet::Wallet;
