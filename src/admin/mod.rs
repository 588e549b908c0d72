//! The operator's listener: health, readiness, metrics, status, channels and payments.
//!
//! Promises: `/healthz` and `/readyz` answer anybody, with nothing but yes or no; everything else needs
//! the bearer token, or the unix socket, which only its owner can open. On TCP it listens on loopback
//! only, and not at all without a token. It reads, asks the store for sums, and asks the gateway for the
//! claims, grants and moves that an operator wants; it counts no money.
//! Started by `runtime`; asked by `cli::health`, `cli::channels`, `cli::claim`, `cli::payments`, `cli::reconcile`, `cli::store`, container health checks and Prometheus.

mod channels;
mod inspect;
mod listen;
mod moving;
mod payments;
mod reconcile;
mod routes;

#[cfg(test)]
mod tests;

pub use crate::protocol::bearer::{Token, TokenError};
pub use inspect::{Inspect, Status};
pub use listen::{Listen, ListenError, MalformedListen};
pub use moving::{MoveAsked, MoveProgress, Relocate};

use listen::Socket;
use routes::Access;
use std::sync::Arc;
use tokio::{sync::watch, task::JoinHandle};

/// Where to listen, and for whom.
#[derive(Debug)]
pub struct Settings {
    pub listen: Listen,
    /// Required on TCP; on a unix socket its mode is the key and no token is asked for.
    pub token: Option<Token>,
}

/// A running admin listener.
#[derive(Debug)]
pub struct Admin {
    /// With the port that was bound, when 0 was asked for.
    pub address: Listen,
    /// Ends after the shutdown, when the last answer has left.
    pub finished: JoinHandle<()>,
}

/// Why there is no admin listener.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error("the admin listener on {0} needs a token")]
    TokenMissing(Listen),
    #[error(transparent)]
    Listen(#[from] ListenError),
}

/// Listens until `shutdown` turns true or its sender is gone.
pub async fn serve(
    settings: Settings,
    inspected: Arc<dyn Inspect>,
    relocate: Arc<dyn Relocate>,
    shutdown: watch::Receiver<bool>,
) -> Result<Admin, AdminError> {
    let Settings { listen, token } = settings;
    let access = match (&listen, token) {
        (Listen::Unix(_), _) => Access::Everybody,
        (Listen::Tcp(_), Some(token)) => Access::Bearer(token),
        (Listen::Tcp(_), None) => return Err(AdminError::TokenMissing(listen)),
    };
    let routes = routes::router(inspected, relocate, access);
    let (address, finished) = match Socket::bind(&listen).await? {
        Socket::Tcp(listener, address) => {
            let served = axum::serve(listener, routes).with_graceful_shutdown(stopped(shutdown));
            (address, tokio::spawn(async move { note(served.await) }))
        }
        Socket::Unix(listener, file) => {
            let served = axum::serve(listener, routes).with_graceful_shutdown(stopped(shutdown));
            let finished = tokio::spawn(async move {
                note(served.await);
                file.remove();
            });
            (listen, finished)
        }
    };
    tracing::info!(%address, "admin listener");
    Ok(Admin { address, finished })
}

async fn stopped(mut shutdown: watch::Receiver<bool>) {
    // A sender that is gone is a process going down, too.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

fn note(ended: std::io::Result<()>) {
    if let Err(error) = ended {
        tracing::error!(%error, "admin listener ended");
    }
}
