//! From a compiled configuration to a running gateway, and back down.

use super::{
    clock, random,
    server_keys::{self, ServerKeysError},
};
use crate::{
    admin,
    chain::{
        Chain,
        kaspa::{KaspaChain, Options},
    },
    config::{Compiled, ListenSettings, Settings},
    gateway::{Environment, Gateway, Limits},
    protocol::{ids::StoreId, offer::OfferKeys},
    proxy::{Bound, EdgeSettings, ListenTls, Listener, PingoraUpstreams, RunningEdge, Stopped},
    store::{Store, StoreError, redis::OpenError},
    telemetry::Metrics,
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
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
}

/// A gateway that takes requests.
pub struct Running {
    pub gateway: Arc<Gateway>,
    pub admin: admin::Listen,
    edge: RunningEdge,
    store_id: StoreId,
    stop: watch::Sender<bool>,
    admin_finished: tokio::task::JoinHandle<()>,
}

/// Opens the store, takes the ports, connects to the node and begins to serve. Free routes work at
/// once; priced routes as soon as the node is usable.
pub async fn start(compiled: Compiled) -> Result<Running, StartError> {
    let Compiled { policy, settings, offer_keys, server_keys, .. } = compiled;
    let bound = Bound::bind(edge_settings(&settings))?;
    let (store, path) = super::store::open(&settings.store).await?;
    let failed = |error| StartError::Store { path: path.clone(), error };
    let checkpoint = store.checkpoint().await.map_err(failed)?;
    let store_id = store.id();
    server_keys::bind(store.as_ref(), &server_keys, settings.server_keys_file.as_deref()).await?;

    let mut options = Options::new(settings.network, settings.node.urls.clone(), Arc::new(clock::now));
    options.trust_public_nodes = settings.node.trust_public_nodes;
    options.checkpoint = checkpoint;
    let chain: Arc<dyn Chain> = KaspaChain::connect(options);

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
    gateway.clone().recover().await.map_err(failed)?;

    let (stop, stopped) = watch::channel(false);
    let admin = admin::serve(admin_settings(&settings)?, gateway.clone(), stopped).await?;
    let request_ids = Arc::new(|| hex::encode(random::bytes()));
    let edge = bound.serve(Arc::new(gateway.clone()), &upstreams, request_ids)?;
    tokio::spawn(prune(store, settings.retention_seconds));
    Ok(Running { gateway, admin: admin.address, edge, store_id, stop, admin_finished: admin.finished })
}

impl Running {
    /// Where clients are served, in the order of the configuration.
    pub fn addresses(&self) -> &[SocketAddr] {
        self.edge.addresses()
    }

    /// Takes over routes, prices, upstreams, offer keys and server keys. Listeners, store, node and logging stay
    /// as they are until the next start.
    pub async fn reload(&self, compiled: Compiled) -> Result<(), ServerKeysError> {
        let file = compiled.settings.server_keys_file.as_deref();
        server_keys::bind(self.gateway.store().as_ref(), &compiled.server_keys, file).await?;
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
