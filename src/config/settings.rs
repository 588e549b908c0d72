//! Everything of the configuration that is not policy: read once at start, by `runtime`.

use crate::{
    protocol::network::Network,
    store::redis::{Durability, endpoint::Endpoint},
};
use std::{net::SocketAddr, path::PathBuf, time::Duration};

#[derive(Clone, Debug)]
pub struct Settings {
    pub network: Network,
    /// At least one.
    pub listeners: Vec<ListenSettings>,
    pub edge: EdgeLimits,
    pub node: NodeSettings,
    /// Who settles for a gateway without a node.
    pub remote: Option<RemoteSettings>,
    pub store: StoreSettings,
    pub admin: AdminSettings,
    pub log: LogSettings,
    /// Blue score depth after which a payment is no longer watched.
    pub final_depth: u64,
    /// Payments that may wait for finality at once.
    pub waiting_payments: usize,
    /// How long stored responses are kept, seconds.
    pub retention_seconds: u64,
    /// Where the server keys stand, when they stand in a file.
    pub server_keys_file: Option<PathBuf>,
    /// `None`: not started.
    pub facilitator: Option<FacilitatorSettings>,
}

/// The facilitator's listener; whom it serves is policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FacilitatorSettings {
    pub listen: ListenSettings,
    /// Longest body of a call, bytes.
    pub body_limit: usize,
    /// Where the tenants' server keys stand, those that stand in files.
    pub key_files: Vec<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenSettings {
    pub address: SocketAddr,
    pub tls: Option<TlsFiles>,
}

/// PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeLimits {
    pub h2c: bool,
    /// 0: one per processor.
    pub threads: usize,
    pub client_keepalive: Duration,
    pub client_timeout: Duration,
    pub body_timeout: Duration,
    pub upstream_connections: usize,
    pub grace: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSettings {
    /// Empty only with `trust_public_nodes`.
    pub urls: Vec<String>,
    pub trust_public_nodes: bool,
}

/// Another gateway's facilitator.
#[derive(Clone, Debug)]
pub struct RemoteSettings {
    /// An origin.
    pub url: url::Url,
    pub token: super::secrets::Secret,
    /// PEM.
    pub ca_file: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// The file of the embedded store; other files lie beside it whatever the store is.
    pub path: PathBuf,
    /// The store lies in a server, not in the file.
    pub shared: Option<RedisSettings>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisSettings {
    pub endpoint: Endpoint,
    /// PEM.
    pub ca_file: Option<PathBuf>,
    pub prefix: String,
    pub durability: Durability,
    pub replicas: Option<u64>,
    pub connect: Duration,
    pub timeout: Duration,
}

/// `unix:/run/kas402/admin.sock` or a loopback address and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminListen {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

#[derive(Clone, Debug)]
pub struct AdminSettings {
    pub listen: AdminListen,
    /// Always there for [`AdminListen::Tcp`].
    pub token: Option<super::secrets::Secret>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    pub json: bool,
    /// A `tracing` filter.
    pub level: String,
}
