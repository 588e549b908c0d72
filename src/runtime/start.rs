//! From a compiled configuration to a running gateway, and back down.

use super::{
    clock,
    moving::Mover,
    random,
    server_keys::{self, ServerKeysError},
};
use crate::{
    admin,
    chain::{
        Chain,
        absent::AbsentChain,
        kaspa::{KaspaChain, Options},
    },
    config::{Compiled, FacilitatorSettings, ListenSettings, RemoteSettings, Settings},
    facilitator::{
        self, FacilitatorError,
        remote::{Remote, RemoteSettingsError},
    },
    gateway::{Environment, Gateway, Limits},
    protocol::{ids::StoreId, offer::OfferKeys},
    proxy::{Bound, EdgeSettings, ListenTls, Listener, PingoraUpstreams, RunningEdge, Stopped},
    store::{Store, StoreError, redis::OpenError},
    telemetry::Metrics,
};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::sync::watch;

/// How often stored responses over their retention are dropped.
const PRUNE_EVERY: Duration = Duration::from_secs(600);

/// Why the gateway did not start; each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the store {path} cannot be opened: {error}")]
    Store { path: String, error: StoreError },
    #[error("the store {server} cannot be opened: {error}")]
    Redis { server: String, error: OpenError },
    #[error("store.ca_file {path} cannot be read: {reason}")]
    RedisCa { path: String, reason: String },
    #[error(transparent)]
    Bind(#[from] crate::proxy::BindError),
    #[error(transparent)]
    Admin(#[from] admin::AdminError),
    #[error("the admin token cannot be used: {0}")]
    AdminToken(#[from] admin::TokenError),
    #[error(transparent)]
    ServerKeys(#[from] ServerKeysError),
    #[error(transparent)]
    Facilitator(#[from] FacilitatorError),
    #[error(transparent)]
    Remote(#[from] RemoteSettingsError),
}

/// A gateway that takes requests.
pub struct Running {
    pub gateway: Arc<Gateway>,
    pub admin: admin::Listen,
    /// Where tenants are served, when there are any.
    pub facilitator: Option<SocketAddr>,
    edge: RunningEdge,
    store_id: StoreId,
    stop: watch::Sender<bool>,
    admin_finished: tokio::task::JoinHandle<()>,
    facilitator_finished: Option<tokio::task::JoinHandle<()>>,
}

/// Opens the store, takes the ports, connects to the node and begins to serve. Free routes work at
/// once; priced routes as soon as the node is usable.
pub async fn start(compiled: Compiled) -> Result<Running, StartError> {
    let Compiled { policy, settings, offer_keys, server_keys, .. } = compiled;
    let bound = Bound::bind(edge_settings(&settings))?;
    let tenants = match &settings.facilitator {
        Some(settings) => Some(facilitator::Bound::bind(&facilitator_settings(settings)).await?),
        None => None,
    };
    let (store, path) = super::store::open(&settings.store).await?;
    let failed = |error| StartError::Store { path: path.clone(), error };
    let checkpoint = store.checkpoint().await.map_err(failed)?;
    let store_id = store.id();
    server_keys::bind(store.as_ref(), &server_keys, key_files(&settings)).await?;

    let (chain, remote): (Arc<dyn Chain>, _) = match &settings.remote {
        None => {
            let mut options = Options::new(settings.network, settings.node.urls.clone(), Arc::new(clock::now));
            options.trust_public_nodes = settings.node.trust_public_nodes;
            options.checkpoint = checkpoint;
            (KaspaChain::connect(options), None)
        }
        Some(remote) => {
            let remote = Arc::new(Remote::new(remote_settings(remote))?);
            let absent = Arc::new(AbsentChain::new(settings.network));
            tokio::spawn(remote.clone().watch(absent.clone()));
            (absent, Some(remote))
        }
    };

    let upstreams = Arc::new(PingoraUpstreams::new(settings.edge.upstream_connections));
    let limits = Limits { final_depth: settings.final_depth, waiting: settings.waiting_payments, ..Limits::default() };
    let gateway = Gateway::new(
        store.clone(),
        chain,
        upstreams.clone(),
        Environment { now: Arc::new(clock::now), random: Arc::new(random::bytes) },
        Arc::new(policy),
        Arc::new(OfferKeys::derive(&offer_keys, store_id)),
        Arc::new(server_keys),
        limits,
        Arc::new(Metrics::new()),
    );
    if let Some(remote) = remote {
        gateway.settle_through(remote);
    }
    gateway.clone().recover().await.map_err(failed)?;

    let (stop, stopped) = watch::channel(false);
    let mover = Mover::new(&settings.store).map_err(|error| failed(StoreError::Unavailable(error)))?;
    let admin = admin::serve(admin_settings(&settings)?, gateway.clone(), Arc::new(mover), stopped.clone()).await?;
    let request_ids = Arc::new(|| hex::encode(random::bytes()));
    let tenants = tenants.map(|bound| facilitator::serve(bound, Arc::new(gateway.clone()), request_ids.clone(), stopped));
    let (facilitator, facilitator_finished) = tenants.map(|running| (running.address, running.finished)).unzip();
    let edge = bound.serve(Arc::new(gateway.clone()), &upstreams, request_ids)?;
    tokio::spawn(prune(store, settings.retention_seconds));
    Ok(Running { gateway, admin: admin.address, facilitator, edge, store_id, stop, admin_finished: admin.finished, facilitator_finished })
}

impl Running {
    /// Where clients are served, in the order of the configuration.
    pub fn addresses(&self) -> &[SocketAddr] {
        self.edge.addresses()
    }

    /// Takes over routes, prices, upstreams, tenants, offer keys and server keys. Listeners, store, node and logging stay
    /// as they are until the next start.
    pub async fn reload(&self, compiled: Compiled) -> Result<(), ServerKeysError> {
        server_keys::bind(self.gateway.store().as_ref(), &compiled.server_keys, key_files(&compiled.settings)).await?;
        let keys = OfferKeys::derive(&compiled.offer_keys, self.store_id);
        self.gateway.reload(Arc::new(compiled.policy), Arc::new(keys), Arc::new(compiled.server_keys));
        Ok(())
    }

    /// Ends only when the edge broke.
    pub async fn failed(&mut self) {
        self.edge.failed().await;
    }

    /// Lets running requests end within the grace period.
    pub async fn stop(self) -> Stopped {
        let stopped = self.edge.stop().await;
        // Fails only when the admin listener has ended already.
        let _ = self.stop.send(true);
        let _ = self.admin_finished.await;
        if let Some(finished) = self.facilitator_finished {
            let _ = finished.await;
        }
        stopped
    }
}

fn edge_settings(settings: &Settings) -> EdgeSettings {
    let listener = |listen: &ListenSettings| Listener {
        address: listen.address,
        tls: listen.tls.as_ref().map(|files| ListenTls { cert: files.cert.clone(), key: files.key.clone() }),
    };
    let threads = match settings.edge.threads {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        threads => threads,
    };
    EdgeSettings {
        listeners: settings.listeners.iter().map(listener).collect(),
        h2c: settings.edge.h2c,
        threads,
        client_keepalive: settings.edge.client_keepalive,
        client_timeout: settings.edge.client_timeout,
        body_timeout: settings.edge.body_timeout,
        upstream_connections: settings.edge.upstream_connections,
        grace: settings.edge.grace,
    }
}

/// The files of server keys, the gateway's own and its tenants'.
fn key_files(settings: &Settings) -> impl Iterator<Item = &Path> {
    let tenants = settings.facilitator.iter().flat_map(|facilitator| &facilitator.key_files);
    settings.server_keys_file.iter().chain(tenants).map(PathBuf::as_path)
}

fn remote_settings(settings: &RemoteSettings) -> facilitator::remote::Settings {
    let token = settings.token.expose().to_owned().into();
    facilitator::remote::Settings { url: settings.url.clone(), token, ca_file: settings.ca_file.clone() }
}

fn facilitator_settings(settings: &FacilitatorSettings) -> facilitator::Settings {
    let tls = settings.listen.tls.as_ref().map(|files| (files.cert.clone(), files.key.clone()));
    facilitator::Settings { address: settings.listen.address, tls, body_limit: settings.body_limit }
}

fn admin_settings(settings: &Settings) -> Result<admin::Settings, StartError> {
    let listen = settings.admin.listen.clone().into();
    let token = match &settings.admin.token {
        Some(secret) => Some(admin::Token::new(secret.expose().as_bytes().to_vec().into())?),
        None => None,
    };
    Ok(admin::Settings { listen, token })
}

/// Stored responses end; consumed ids never do.
async fn prune(store: Arc<dyn Store>, retention_seconds: u64) {
    let mut every = tokio::time::interval(PRUNE_EVERY);
    loop {
        every.tick().await;
        let before = crate::protocol::time::UnixMillis(clock::now().0.saturating_sub(retention_seconds.saturating_mul(1_000)));
        match store.prune(before).await {
            Ok(0) => {}
            Ok(dropped) => tracing::info!(dropped, "stored responses over their retention dropped"),
            Err(error) => tracing::warn!(%error, "prune"),
        }
    }
}
