//! kas402 charges for an existing HTTP API in native KAS, per request (x402 v2).
//!
//! `docs/architecture.md` is the map. In one line: [`protocol`], [`wire`] and
//! [`binding`] are pure; [`store`] and [`chain`] are the two traits behind which
//! durability and the Kaspa network live; [`gateway`] holds the use cases;
//! [`proxy`], [`admin`], [`facilitator`], [`cli`] and [`client`] are the edges; [`proof`] tries all of it on a network.

pub mod binding;
pub mod protocol;
pub mod wire;

#[cfg(any(feature = "gateway", test))]
pub mod conformance;

#[cfg(feature = "gateway")]
pub mod admin;
#[cfg(feature = "gateway")]
pub mod chain;
#[cfg(feature = "gateway")]
pub mod cli;
#[cfg(feature = "gateway")]
pub mod client;
#[cfg(feature = "config")]
pub mod config;
#[cfg(feature = "gateway")]
pub mod facilitator;
#[cfg(feature = "gateway")]
pub mod gateway;
#[cfg(feature = "gateway")]
pub mod proof;
#[cfg(feature = "gateway")]
pub mod proxy;
#[cfg(feature = "gateway")]
pub mod runtime;
#[cfg(feature = "gateway")]
pub mod store;
#[cfg(feature = "gateway")]
pub mod telemetry;

/// What a configuration says of the store, where only configurations are read.
#[cfg(all(feature = "config", not(feature = "gateway")))]
pub mod store {
    pub mod redis {
        pub use endpoint::Durability;
        pub mod endpoint;
    }
}
