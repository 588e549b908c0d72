//! The buyer: a wallet, payments that are durable before they are sent, and a paid fetch.
//!
//! Used by the command line, the tests, and others as a library. For one request no two
//! payments can both be accepted: see [`paid`]. Names no node: coins come through [`crate::chain`].

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
