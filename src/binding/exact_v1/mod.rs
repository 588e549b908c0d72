//! `kaspa-exact-v1`: one native transaction per purchase (PROTOCOL section 4).
//!
//! [`decode`] rebuilds the transaction of a payload, [`verify`] judges it against the terms that
//! were offered, [`payer`] proves whose transaction it is. Called by `gateway::admit`.

pub mod decode;
pub mod payer;
pub mod payload;
mod sdk_json;
pub mod verify;

#[cfg(test)]
mod tests;

pub use payload::ExactTransfer;
pub use verify::{VerifiedExact, verify};
