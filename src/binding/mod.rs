//! The payment bindings: one folder each, pure.
//!
//! A binding decodes its payload, judges it against the offer, and hands out a proof type that
//! only it can make. It never waits and never asks the store or the chain.

pub mod escrow_v1;
pub mod exact_v1;
