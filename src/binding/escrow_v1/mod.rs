//! `kaspa-escrow-v1`: channels backed by an escrow, paid by cumulative vouchers (PROTOCOL section 5).
//!
//! [`config`] names a channel, [`script`] derives what locks its money, [`voucher`] is what the client
//! signs per request. [`payload`] reads the wire, [`verify`] judges it and hands out proofs, [`state`] is
//! the channel's accounting, [`spend`] builds and checks the transactions. All of it is pure: keys, fees,
//! chain facts and randomness are arguments. Called by `gateway`, `facilitator`, `client` and the vectors.

pub mod config;
mod digest;
pub mod hashes;
mod keys;
pub mod payload;
pub mod script;
pub mod spend;
pub mod state;
pub mod verify;
pub mod voucher;

#[cfg(test)]
mod tests;

pub use crate::protocol::requirements::TemplateId;
pub use config::{ChannelConfig, ConfigError};
pub use keys::{NotASecretKey, ServerKey, ServerKeys};
pub use script::{EscrowParams, EscrowScript};
pub use verify::{ChannelFacts, EscrowTerms, ProvenVoucher, VerifiedDeposit, VerifiedVoucher, channel_unknown, prove, verify_deposit};
pub use voucher::{SignedVoucher, VoucherKey};

/// The name of this binding on the wire.
pub const BINDING: &str = crate::protocol::requirements::Binding::EscrowV1.as_str();
