//! Everything that is not policy.

use super::{Context, is_loopback};
use crate::{
    binding::escrow_v1::ServerKeys,
    config::{
        problem::{Code, Pos, Problems},
        raw::{self, Root, StoreKind},
        secrets, server_keys,
        settings::*,
        shape::At,
    },
    protocol::{limits, network::Network, offer::OfferKey, policy::Cors},
};
use std::{net::SocketAddr, path::PathBuf, time::Duration};
use url::Url;

const DEFAULT_LISTEN: &str = "127.0.0.1:8402";
const DEFAULT_KEYS_ENV: &str = "KAS402_OFFER_KEYS";

pub fn network(root: &Root, problems: &mut Problems) -> Option<Network> {
    let raw = root.network.as_ref()?;
    let network: Network = raw.value.parse().map_err(|error| problems.push(Code::BadValue, raw.at, format!("{error}"))).ok()?;
    let (allowed, key) = match network {
        Network::Testnet10 => (true, ""),
        Network::Simnet => (root.allow_simnet(), "allow_simnet"),
        Network::Mainnet => (root.allow_mainnet(), "allow_mainnet"),
    };
    if !allowed {
        problems.push(Code::NetworkNotAllowed, raw.at, format!("{network} needs `{key}: true`"));
    } else if network == Network::Mainnet {
        problems.push(Code::MainnetEnabled, raw.at, "this is mainnet: payments are real money");
    }
    Some(network)
}

pub fn settings(root: &Root, cx: &mut Context<'_>) -> Option<Settings> {
    let listeners = listeners(root, cx);
    let node = node(root, cx);
    let remote = super::remote::remote(root, cx);
    let store = store(root, cx);
    let admin = admin(root, &store, cx);
    let edge = edge(root, cx);
    let limits = root.limits.as_ref().map(|limits| limits.value.clone()).unwrap_or_default();
    let at = |field: &Option<At<u64>>| field.as_ref().map_or(limits.at, |field| field.at);
    if limits.final_depth() == 0 {
        cx.problem(Code::LimitsInconsistent, at(&limits.final_depth), "final_depth is at least 1");
    } else if limits.final_depth() < limits::FINAL_DEPTH && cx.network != Network::Simnet {
        let message = format!("payments are watched for less than {} of blue score; a deeper reorg goes unnoticed", limits::FINAL_DEPTH);
        cx.problem(Code::FinalDepthShallow, at(&limits.final_depth), message);
    }
    let waiting_payments = positive(limits.waiting_payments(), at(&limits.waiting_payments), cx);
    let log = root.log.as_ref().map(|log| log.value.clone()).unwrap_or_default();
    if let Some(level) = &log.level
        && let Err(reason) = tracing_subscriber::EnvFilter::builder().parse(&level.value)
    {
        cx.problem(Code::BadValue, level.at, format!("this is not a log level or filter: {reason}"));
    }
    Some(Settings {
        network: cx.network,
        listeners,
        edge,
        node,
        remote,
        store,
        admin: admin?,
        log: LogSettings { json: log.format() == raw::LogFormat::Json, level: log.level() },
        final_depth: limits.final_depth(),
        waiting_payments,
        retention_seconds: limits.retention_seconds(),
        server_keys_file: server_keys_file(root, cx),
        facilitator: None,
    })
}

/// A count of at least one, as the machine counts.
fn positive(number: u64, at: Pos, cx: &mut Context<'_>) -> usize {
    match usize::try_from(number) {
        Ok(number) if number > 0 => number,
        _ => {
            cx.problem(Code::BadValue, at, "this must be at least 1");
            1
        }
    }
}

fn listeners(root: &Root, cx: &mut Context<'_>) -> Vec<ListenSettings> {
    let default = At { at: root.at, value: DEFAULT_LISTEN.to_owned() };
    let mut listeners: Vec<ListenSettings> = Vec::new();
    let raw: Vec<(At<String>, Option<raw::ListenTls>)> = match &root.listen {
        None => vec![(default, None)],
        Some(list) => list
            .value
            .0
            .iter()
            .filter_map(|listen| {
                let section = &listen.value.0;
                Some((section.address.clone()?, section.tls.as_ref().map(|tls| tls.value.clone())))
            })
            .collect(),
    };
    if raw.is_empty()
        && let Some(list) = &root.listen
    {
        cx.problem(Code::ListenInvalid, list.at, "there is no address to listen on");
    }
    for (address, tls) in raw {
        let Some(socket) = listener(&address, cx) else { continue };
        if socket.port() != 0 && listeners.iter().any(|other| other.address == socket) {
            cx.problem(Code::ListenInvalid, address.at, "this address occurs twice");
        }
        let tls = tls.and_then(|tls| pem_pair(&tls, cx));
        listeners.push(ListenSettings { address: socket, tls });
    }
    listeners
}

/// An address to listen on.
pub fn listener(raw: &At<String>, cx: &mut Context<'_>) -> Option<SocketAddr> {
    let socket = raw.value.parse::<SocketAddr>().ok();
    if socket.is_none() {
        cx.problem(Code::ListenInvalid, raw.at, "write an IP address and a port, for example 0.0.0.0:8402 or [::]:8402");
    }
    socket
}

/// The certificate of a listener and its key.
pub fn pem_pair(raw: &raw::ListenTls, cx: &mut Context<'_>) -> Option<TlsFiles> {
    Some(TlsFiles { cert: pem(raw.cert.as_ref()?, cx), key: pem(raw.key.as_ref()?, cx) })
}

/// A PEM file that is there.
pub fn pem(raw: &At<String>, cx: &mut Context<'_>) -> PathBuf {
    let path = cx.path(&raw.value);
    if cx.environment.secrets && !path.is_file() {
        cx.problem(Code::SecretMissing, raw.at, format!("{} is not a file", path.display()));
    }
    path
}

fn edge(root: &Root, cx: &mut Context<'_>) -> EdgeLimits {
    let raw = root.edge.as_ref().map(|edge| edge.value.clone()).unwrap_or_default();
    let at = |field: &Option<At<u64>>| field.as_ref().map_or(raw.at, |field| field.at);
    let threads = raw.threads();
    if threads > 1024 {
        cx.problem(Code::BadValue, at(&raw.threads), "at most 1024 threads");
    }
    for (seconds, field) in [
        (raw.client_keepalive_seconds(), &raw.client_keepalive_seconds),
        (raw.client_timeout_seconds(), &raw.client_timeout_seconds),
        (raw.body_timeout_seconds(), &raw.body_timeout_seconds),
    ] {
        positive(seconds, at(field), cx);
    }
    EdgeLimits {
        h2c: raw.h2c(),
        threads: usize::try_from(threads).unwrap_or(1024),
        client_keepalive: Duration::from_secs(raw.client_keepalive_seconds()),
        client_timeout: Duration::from_secs(raw.client_timeout_seconds()),
        body_timeout: Duration::from_secs(raw.body_timeout_seconds()),
        upstream_connections: positive(raw.upstream_connections(), at(&raw.upstream_connections), cx),
        grace: Duration::from_secs(raw.grace_seconds()),
    }
}

fn node(root: &Root, cx: &mut Context<'_>) -> NodeSettings {
    let Some(raw) = &root.node else {
        return NodeSettings { urls: Vec::new(), trust_public_nodes: false };
    };
    let mut urls: Vec<String> = Vec::new();
    for url in raw.value.urls.iter().flat_map(|urls| &urls.value) {
        match Url::parse(&url.value) {
            Ok(parsed) if matches!(parsed.scheme(), "ws" | "wss") && parsed.has_host() => {
                if parsed.scheme() == "ws" && !is_loopback(&parsed) {
                    let message = "the connection to this node is not encrypted: use wss:// or a private network";
                    cx.problem(Code::NodePlain, url.at, message);
                }
                if urls.contains(&url.value) {
                    cx.problem(Code::NodeInvalid, url.at, "this node occurs twice");
                }
                urls.push(url.value.clone());
            }
            _ => cx.problem(Code::NodeInvalid, url.at, "write a wRPC URL: ws:// or wss://, host and port"),
        }
    }
    let trust = raw.value.trust_public_nodes();
    let at = raw.value.trust_public_nodes.as_ref().map_or(raw.at, |field| field.at);
    match (raw.value.urls.as_ref().is_none_or(|urls| urls.value.is_empty()), trust) {
        (true, false) => cx.problem(Code::NodeInvalid, raw.at, "give `urls` of your nodes, or accept `trust_public_nodes: true`"),
        (true, true) if cx.network == Network::Simnet => cx.problem(Code::NodeInvalid, at, "simnet has no public nodes"),
        (true, true) => {
            cx.problem(Code::TrustPublicNodes, at, "public nodes decide what counts as paid: run your own for money that matters")
        }
        (false, true) => cx.problem(Code::NodeInvalid, at, "`trust_public_nodes` has no meaning together with `urls`"),
        (false, false) => {}
    }
    NodeSettings { urls, trust_public_nodes: trust }
}

fn store(root: &Root, cx: &mut Context<'_>) -> StoreSettings {
    let raw = root.store.as_ref().map(|store| store.value.clone()).unwrap_or_default();
    if let Some(kind) = raw.kind.as_ref().filter(|kind| kind.value == StoreKind::Memory) {
        cx.problem(Code::StoreMemory, kind.at, "the memory store forgets who paid at every stop; use `embedded`");
    }
    let path = cx.path(&raw.path());
    StoreSettings { path, shared: super::shared_store::settings(&raw, root.store.as_ref().map_or(root.at, |store| store.at), cx) }
}

fn admin(root: &Root, store: &StoreSettings, cx: &mut Context<'_>) -> Option<AdminSettings> {
    let raw = root.admin.as_ref().map(|admin| admin.value.clone()).unwrap_or_default();
    let token = raw.token.as_ref().and_then(|token| cx.secret(token));
    let listen = match &raw.listen {
        None => AdminListen::Unix(store.path.with_file_name("admin.sock")),
        Some(listen) => match (listen.value.strip_prefix("unix:"), listen.value.parse::<SocketAddr>()) {
            (Some(path), _) if !path.is_empty() => AdminListen::Unix(cx.path(path)),
            (None, Ok(address)) => {
                if !address.ip().is_loopback() {
                    cx.problem(
                        Code::ListenInvalid,
                        listen.at,
                        "the admin listener is for this machine only: a loopback address or a unix socket",
                    );
                }
                if raw.token.is_none() {
                    cx.problem(Code::AdminToken, listen.at, "a TCP admin listener needs a `token`");
                }
                AdminListen::Tcp(address)
            }
            _ => {
                cx.problem(Code::ListenInvalid, listen.at, "write unix:/path, or an IP address and a port");
                return None;
            }
        },
    };
    Some(AdminSettings { listen, token })
}

pub fn offer_keys(root: &Root, cx: &mut Context<'_>) -> Option<Vec<OfferKey>> {
    let raw = root.keys.as_ref().and_then(|keys| keys.value.offer.as_ref());
    let at = raw.map_or(root.at, |raw| raw.at);
    let secret = match raw {
        Some(raw) => cx.secret(raw)?,
        None if !cx.environment.secrets => return Some(Vec::new()),
        None => {
            let default_file = || {
                let path = store_path(root, cx).with_file_name("offer.keys");
                secrets::from_file(&path)
            };
            let found = secrets::from_env(DEFAULT_KEYS_ENV, cx.environment).or_else(|_| default_file());
            let found = found.map_err(|error| match error {
                secrets::SecretError::Unreadable { path, reason } => secrets::SecretError::Unreadable {
                    reason: format!("{reason}; {DEFAULT_KEYS_ENV} is not set either (create the file with `kas402 keys new {path}`)"),
                    path,
                },
                other => other,
            });
            cx.secret_found(found, at)?
        }
    };
    if !cx.environment.secrets {
        return Some(Vec::new());
    }
    let keys = secrets::parse_offer_keys(&secret);
    cx.secret_found(keys, at)
}

fn server_keys_file(root: &Root, cx: &Context<'_>) -> Option<PathBuf> {
    let secret = root.keys.as_ref()?.value.server.as_ref()?;
    secret.value.file.as_ref().map(|file| cx.path(&file.value))
}

/// None without `keys.server`, and when secrets are not read.
pub fn server_keys(root: &Root, cx: &mut Context<'_>) -> Option<ServerKeys> {
    let Some(raw) = root.keys.as_ref().and_then(|keys| keys.value.server.as_ref()) else {
        return Some(ServerKeys::default());
    };
    let secret = cx.secret(raw)?;
    if !cx.environment.secrets {
        return Some(ServerKeys::default());
    }
    let keys = server_keys::parse(&secret).map(server_keys::server_keys);
    cx.secret_found(keys, raw.at)
}

fn store_path(root: &Root, cx: &Context<'_>) -> PathBuf {
    cx.path(&root.store.as_ref().map(|store| store.value.path()).unwrap_or_else(|| raw::Store::default().path()))
}

pub fn cors(root: &Root, cx: &mut Context<'_>) -> Cors {
    match root.cors.as_ref().map(|cors| &cors.value) {
        None | Some(raw::Cors::Any) => Cors::Any,
        Some(raw::Cors::Off) => Cors::Off,
        Some(raw::Cors::Origins(origins)) => {
            Cors::Origins(origins.iter().filter_map(|origin| Some(cx.origin(origin)?.origin().ascii_serialization())).collect())
        }
    }
}
