//! Connections: accepted up to a number, each with its own deadlines, and let go when the process stops.

use super::{FacilitatorError, Settings, routes, tls};
use crate::gateway::facilitate::Facilitator;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

/// Connections at once; further ones wait to be accepted.
const CONNECTIONS: usize = 1_024;
/// Longest TLS handshake, and longest head of a request.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long calls that run may take after the process was told to stop.
const GRACE: Duration = Duration::from_secs(30);
/// After a failed accept (no more files, for example) the next try waits so long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listener that is bound and does not accept yet.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    acceptor: Option<TlsAccept>,
    body_limit: usize,
}

/// Hides what has nothing to show.
struct TlsAccept(TlsAcceptor);

impl std::fmt::Debug for TlsAccept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsAcceptor(..)")
    }
}

/// A running listener.
#[derive(Debug)]
pub struct Running {
    /// With the port that was bound, when 0 was asked for.
    pub address: SocketAddr,
    /// Ends after the shutdown, when the last answer has left or the grace is over.
    pub finished: JoinHandle<()>,
}

impl Bound {
    /// Takes the port and reads the certificate, so that a start fails before anything else begins.
    pub async fn bind(settings: &Settings) -> Result<Self, FacilitatorError> {
        let failed = |error| FacilitatorError::Bind { address: settings.address, error };
        let acceptor = settings.tls.as_ref().map(tls::acceptor).transpose()?.map(TlsAccept);
        let listener = TcpListener::bind(settings.address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, acceptor, body_limit: settings.body_limit })
    }
}

/// Serves until `shutdown` turns true or its sender is gone. `request_ids` names calls in the logs.
pub fn serve(
    bound: Bound,
    facilitator: Arc<dyn Facilitator>,
    request_ids: Arc<dyn Fn() -> String + Send + Sync>,
    shutdown: watch::Receiver<bool>,
) -> Running {
    let Bound { listener, address, acceptor, body_limit } = bound;
    let routes = routes::router(facilitator, request_ids, body_limit);
    let acceptor = acceptor.map(|TlsAccept(acceptor)| acceptor);
    tracing::info!(%address, tls = acceptor.is_some(), "facilitator");
    Running { address, finished: tokio::spawn(accept(listener, acceptor, routes, shutdown)) }
}

async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>, routes: Router, mut shutdown: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    let stop = shutdown.clone();
    let mut stopped = pin!(async move { drop(shutdown.wait_for(|stop| *stop).await) });
    loop {
        // Fails only when the semaphore is closed, which nobody does.
        let Ok(place) = places.clone().acquire_owned().await else { break };
        let accepted = tokio::select! {
            biased;
            () = &mut stopped => break,
            accepted = listener.accept() => accepted,
        };
        // What ended is forgotten.
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                let (acceptor, routes, stop) = (acceptor.clone(), routes.clone(), stop.clone());
                connections.spawn(async move {
                    let _place = place;
                    connection(stream, acceptor, routes, stop).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "facilitator: accept");
                tokio::time::sleep(ACCEPT_PAUSE).await; // why: what is missing (files, memory) tells nobody when it is back
            }
        }
    }
    drop(listener);
    let _ = timeout(GRACE, async { while connections.join_next().await.is_some() {} }).await;
}

async fn connection(stream: TcpStream, acceptor: Option<TlsAcceptor>, routes: Router, stop: watch::Receiver<bool>) {
    // Small answers are not held back; a socket that refuses is closing.
    let _ = stream.set_nodelay(true);
    match acceptor {
        None => exchange(stream, routes, stop).await,
        Some(acceptor) => match timeout(HANDSHAKE, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => exchange(stream, routes, stop).await,
            Ok(Err(error)) => tracing::debug!(%error, "facilitator: TLS"),
            Err(_) => tracing::debug!("facilitator: TLS handshake too slow"),
        },
    }
}

async fn exchange(stream: impl AsyncRead + AsyncWrite + Unpin, routes: Router, mut stop: watch::Receiver<bool>) {
    let service = TowerToHyperService::new(routes);
    let mut serving =
        pin!(http1::Builder::new().timer(TokioTimer::new()).header_read_timeout(HANDSHAKE).serve_connection(TokioIo::new(stream), service));
    let mut stopped = pin!(async move { drop(stop.wait_for(|stop| *stop).await) });
    let ended = tokio::select! {
        biased;
        ended = serving.as_mut() => Some(ended),
        () = &mut stopped => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            // The call that runs is answered, and no other follows on this connection.
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "facilitator: connection");
    }
}
