//! The listener of the facilitator: `GET /supported`, `POST /verify`, `POST /settle` for tenants with a bearer token.
//!
//! Promises: without a tenant's token nothing is read and nothing happens, whatever was asked; a body is read to a limit and no longer than it
//! may take; calls over a tenant's rate are refused before they are read. Counts no money and judges no payment: that is
//! `gateway::facilitate`. Started by `runtime`.

mod rate;
pub mod remote;
mod routes;
mod serve;
mod tls;

pub use serve::{Bound, Running, serve};
pub use tls::TlsError;

use std::{net::SocketAddr, path::PathBuf};

/// Where to listen.
#[derive(Clone, Debug)]
pub struct Settings {
    pub address: SocketAddr,
    /// PEM files: certificate chain and private key.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Longest body of a call, bytes.
    pub body_limit: usize,
}

/// Why it does not listen.
#[derive(Debug, thiserror::Error)]
pub enum FacilitatorError {
    #[error("the facilitator's listener {address} cannot be bound: {error}")]
    Bind { address: SocketAddr, error: std::io::Error },
    #[error(transparent)]
    Tls(#[from] TlsError),
}
