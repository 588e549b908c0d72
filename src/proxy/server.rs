//! Listeners, threads, and a shutdown that lets running requests end.
//!
//! pingora's `Server` is not used: it owns the process's signals, sleeps through its whole grace period
//! even when nothing runs, and cannot say which port it got. Its listening service is, on sockets bound
//! here and on a runtime of its own.

use super::{
    app::{App, ClientLimits, Ending},
    exchange::PingoraUpstreams,
    hooks::Hooks,
    in_flight::InFlight,
};
use crate::gateway::answer::Paywall;
use pingora::{
    apps::HttpServerOptions,
    listeners::{ListenerConfig, tls::TlsSettings},
    protocols::l4::stream::L4BufferSettings,
    proxy::http_proxy,
    server::{Fds, ListenFds, configuration::ServerConf},
    services::{Service as _, listening::Service},
};
use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::fd::IntoRawFd as _,
    panic::catch_unwind,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use tokio::{runtime::Runtime, sync::watch, task::JoinHandle};

/// Kept by every client connection, idle ones too. Heads fit; bodies are read past it.
const READ_BUFFER: usize = 16 * 1024;
/// A head with an offer or a receipt and a small body leave in one piece; pingora's 1,460 bytes make two of them.
const WRITE_BUFFER: usize = 4 * 1024;

/// Makes the name of each request; never two equal ones, visible ASCII.
pub type RequestIds = Arc<dyn Fn() -> String + Send + Sync>;

#[derive(Clone, Debug)]
pub struct EdgeSettings {
    /// At least one.
    pub listeners: Vec<Listener>,
    /// Take HTTP/2 without TLS on listeners without TLS (prior knowledge; HTTP/1.1 still works).
    pub h2c: bool,
    /// Worker threads of the edge.
    pub threads: usize,
    /// How long an idle client connection is kept.
    pub client_keepalive: Duration,
    /// Longest silence of a client within a request, and longest block of a write to it.
    pub client_timeout: Duration,
    /// For the whole body of a priced request.
    pub body_timeout: Duration,
    /// Idle connections to upstreams kept for free routes, over all upstreams.
    pub upstream_connections: usize,
    /// How long running requests may take after [`RunningEdge::stop`].
    pub grace: Duration,
}

impl Default for EdgeSettings {
    fn default() -> Self {
        Self {
            listeners: Vec::new(),
            h2c: false,
            threads: 1,
            client_keepalive: Duration::from_secs(60),
            client_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(120),
            upstream_connections: 128,
            grace: Duration::from_secs(30),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Listener {
    /// Port 0 takes a free one, see [`Bound::addresses`].
    pub address: SocketAddr,
    /// With HTTP/2 by ALPN.
    pub tls: Option<ListenTls>,
}

/// PEM files, read once.
#[derive(Clone, Debug)]
pub struct ListenTls {
    pub cert: PathBuf,
    pub key: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, #[source] io::Error),
    #[error("{} and {} are not a certificate chain and its key", .0.cert.display(), .0.key.display())]
    Tls(ListenTls),
    #[error("no listener is configured")]
    NoListener,
    #[error("cannot start the edge's threads: {0}")]
    Threads(#[source] io::Error),
}

/// Sockets that listen; connections wait until [`Bound::serve`].
pub struct Bound {
    settings: EdgeSettings,
    sockets: Vec<(SocketAddr, TcpListener)>,
}

impl Bound {
    /// Takes the ports, so that a port in use or a bad certificate is known before anything runs.
    pub fn bind(settings: EdgeSettings) -> Result<Self, BindError> {
        if settings.listeners.is_empty() {
            return Err(BindError::NoListener);
        }
        let bind = |listener: &Listener| {
            if let Some(tls) = &listener.tls {
                check_tls(tls)?;
            }
            let failed = |error| BindError::Listen(listener.address, error);
            let socket = TcpListener::bind(listener.address).map_err(failed)?;
            socket.set_nonblocking(true).map_err(failed)?;
            Ok((socket.local_addr().map_err(failed)?, socket))
        };
        let sockets = settings.listeners.iter().map(bind).collect::<Result<_, BindError>>()?;
        Ok(Self { settings, sockets })
    }

    /// In the order of the settings, with the real ports.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().map(|(address, _)| *address).collect()
    }

    /// Starts to accept. `upstreams` lends its resolver and CA bundles; its connections stay its own.
    pub fn serve(self, paywall: Arc<dyn Paywall>, upstreams: &PingoraUpstreams, request_ids: RequestIds) -> Result<RunningEdge, BindError> {
        let Self { settings, sockets } = self;
        let addresses = sockets.iter().map(|(address, _)| *address).collect();
        let in_flight = InFlight::default();
        let mut service = Service::new("edge".to_owned(), app(&settings, paywall, upstreams, request_ids, in_flight.clone()));

        let mut taken = Fds::new();
        for (listener, (address, socket)) in settings.listeners.iter().zip(sockets) {
            let name = address.to_string();
            let config = ListenerConfig::tcp(name.clone()).l4_buffer(L4BufferSettings::new(READ_BUFFER, WRITE_BUFFER));
            match &listener.tls {
                None => service.add_listener(config),
                Some(tls) => service.add_listener(config.tls(tls_settings(tls).ok_or_else(|| BindError::Tls(tls.clone()))?)),
            }
            taken.add(name, socket.into_raw_fd());
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(settings.threads.max(1))
            .thread_name("edge")
            .enable_all()
            .build()
            .map_err(BindError::Threads)?;
        let (shutdown, watch) = watch::channel(false);
        let accepting = runtime.spawn(async move { service.start_service(Some(ListenFds::new(taken.into())), watch, 1).await });
        Ok(RunningEdge { addresses, grace: settings.grace, shutdown, accepting, in_flight, runtime: Some(runtime) })
    }
}

/// An edge that accepts. Dropping it ends everything at once; [`RunningEdge::stop`] is gentle.
#[must_use]
pub struct RunningEdge {
    addresses: Vec<SocketAddr>,
    grace: Duration,
    shutdown: watch::Sender<bool>,
    accepting: JoinHandle<()>,
    in_flight: InFlight,
    /// `Some` until dropped.
    runtime: Option<Runtime>,
}

/// How a shutdown ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Stopped {
    /// Every request got its answer.
    Drained,
    /// The grace period ended first; what was still running was cut.
    Cut,
}

impl RunningEdge {
    /// In the order of the settings.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Returns only when accepting ended without [`RunningEdge::stop`]: the edge is broken.
    pub async fn failed(&mut self) {
        let _ = (&mut self.accepting).await;
    }

    /// Closes the listeners and idle connections, then waits for running requests up to the grace period.
    pub async fn stop(mut self) -> Stopped {
        // Fails only when the service has ended already.
        let _ = self.shutdown.send(true);
        let drain = async {
            if !self.accepting.is_finished() {
                let _ = (&mut self.accepting).await;
            }
            self.in_flight.idle().await;
        };
        match tokio::time::timeout(self.grace, drain).await {
            Ok(()) => Stopped::Drained,
            Err(_) => Stopped::Cut,
        }
    }
}

impl Drop for RunningEdge {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Dropping a runtime inside another one panics; this does not wait.
            runtime.shutdown_background();
        }
    }
}

fn app(
    settings: &EdgeSettings,
    paywall: Arc<dyn Paywall>,
    upstreams: &PingoraUpstreams,
    request_ids: RequestIds,
    in_flight: InFlight,
) -> App {
    let limits = ClientLimits {
        // pingora counts in seconds and takes 0 for never.
        keepalive_seconds: settings.client_keepalive.as_secs().max(1),
        io: settings.client_timeout,
        body: settings.body_timeout,
    };
    let peers = upstreams.peers.clone();
    let proxy = http_proxy(&Arc::new(pingora_settings(settings)), Hooks { peers: peers.clone(), limits });
    let mut options = HttpServerOptions::default();
    options.h2c = settings.h2c;
    options.h2_idle_timeout = Some(settings.client_keepalive);
    let connector = upstreams.connector.clone();
    App { paywall, request_ids, in_flight, limits, peers, connector, proxy: Arc::new(proxy), options, ending: Ending::default() }
}

fn pingora_settings(settings: &EdgeSettings) -> ServerConf {
    let mut conf = ServerConf::default();
    conf.threads = settings.threads.max(1);
    // pingora multiplies by the threads.
    conf.upstream_keepalive_pool_size = settings.upstream_connections.div_ceil(conf.threads);
    conf
}

fn tls_settings(tls: &ListenTls) -> Option<TlsSettings> {
    let mut settings = TlsSettings::intermediate(tls.cert.to_str()?, tls.key.to_str()?).ok()?;
    settings.enable_h2();
    Some(settings)
}

/// pingora reads the files when it starts to accept, and panics on bad ones; so read them once before.
fn check_tls(tls: &ListenTls) -> Result<(), BindError> {
    let built = catch_unwind(|| tls_settings(tls).map(|settings| drop(settings.build())));
    if matches!(built, Ok(Some(()))) { Ok(()) } else { Err(BindError::Tls(tls.clone())) }
}
