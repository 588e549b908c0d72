//! A connection to an upstream on which a request's head is written.

use super::peer::{PeerError, Peers};
use crate::protocol::policy::Upstream;
use pingora::{
    Error, ErrorType,
    connectors::http::v1::Connector,
    http::RequestHeader,
    protocols::http::v1::client::HttpSession,
    upstreams::peer::{HttpPeer, Peer as _},
};
use tokio::time::{Instant, timeout_at};

/// A request whose head is on its way.
pub(super) struct Outgoing {
    pub session: HttpSession,
    pub peer: HttpPeer,
    /// The connection has served before: it may have been closed by the upstream at the same moment.
    pub pooled: bool,
}

/// Why there is none.
pub(super) enum BeginError {
    /// Nothing reached the upstream.
    Unsent(Box<Error>),
    /// A part of the head may have.
    Broken(Box<Error>),
}

/// Tries the upstream's addresses, and every pooled connection on which not even the head can be written. `head` is asked for each try.
pub(super) async fn begin(
    peers: &Peers,
    connector: &Connector,
    upstream: &Upstream,
    deadline: Option<Instant>,
    mut head: impl FnMut() -> pingora::Result<RequestHeader>,
) -> Result<Outgoing, BeginError> {
    let late = || BeginError::Unsent(Error::explain(ErrorType::ConnectTimedout, "no connection in time"));
    let addresses = until(deadline, peers.addresses(upstream)).await.ok_or_else(late)?.map_err(no_address)?;
    let mut last = None;
    for &address in addresses.iter() {
        let peer = peers.peer(upstream, address).map_err(|error| {
            tracing::warn!(upstream = upstream.name, %error, "unusable upstream");
            no_address(error)
        })?;
        loop {
            let (mut session, pooled) = match connector.reused_http_session(&peer).await {
                Some(session) => (session, true),
                // Boxed: making a connection takes much more room than finding one, and is rare.
                None => match until(deadline, Box::pin(connector.get_http_session(&peer))).await.ok_or_else(late)? {
                    Ok(connected) => connected,
                    Err(error) => {
                        tracing::debug!(upstream = upstream.name, %address, %error, "no connection to the upstream");
                        peers.refused(upstream, address);
                        last = Some(error);
                        break;
                    }
                },
            };
            session.write_timeout = Some(upstream.write_timeout);
            // What cannot be written as a request was not sent.
            let head = Box::new(head().map_err(BeginError::Unsent)?);
            match until(deadline, session.write_request_header(head)).await {
                Some(Ok(_)) => return Ok(Outgoing { session, peer, pooled }),
                // Each round takes one dead connection out of the pool.
                Some(Err(_)) if pooled => {}
                Some(Err(error)) => return Err(BeginError::Broken(error)),
                None => return Err(BeginError::Broken(Error::explain(ErrorType::WriteTimedout, "the head was not taken in time"))),
            }
        }
    }
    Err(BeginError::Unsent(last.unwrap_or_else(|| Error::explain(ErrorType::ConnectNoRoute, "no address"))))
}

/// Gives the connection back, for the next request to the same upstream.
pub(super) async fn release(connector: &Connector, session: HttpSession, peer: &HttpPeer) {
    connector.release_http_session(session, peer, peer.idle_timeout()).await;
}

fn no_address(error: PeerError) -> BeginError {
    BeginError::Unsent(Error::because(ErrorType::ConnectNoRoute, "no address", error))
}

/// `None` when the deadline, if there is one, came first.
async fn until<T>(deadline: Option<Instant>, step: impl Future<Output = T>) -> Option<T> {
    match deadline {
        Some(deadline) => timeout_at(deadline, step).await.ok(),
        None => Some(step.await),
    }
}
