//! What the gateway needs of an upstream; implemented by `proxy` over pingora's connector.

use crate::protocol::policy::Upstream;
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method};
use std::time::Duration;

/// Sends one request of an admitted payment. Never retries once a byte was written.
#[async_trait]
pub trait Upstreams: Send + Sync + 'static {
    async fn send(&self, upstream: &Upstream, request: UpstreamRequest) -> Result<UpstreamReply, UpstreamFailure>;
}

/// A request as it leaves: headers are final except `Host`, framing and the upstream's own credentials.
#[derive(Debug)]
pub struct UpstreamRequest {
    pub method: Method,
    /// Normal path (without the upstream's base path) and query.
    pub path_and_query: String,
    /// End-to-end headers only: hop-by-hop, `PAYMENT-*` and identity headers of the client are gone.
    pub headers: HeaderMap,
    pub body: Bytes,
    /// For the head of the answer; afterwards a limit applies per chunk.
    pub timeout: Duration,
    /// Longest silence within the body; `None` is the upstream's own read timeout.
    pub silence: Option<Duration>,
}

/// An answer whose body is still arriving.
pub struct UpstreamReply {
    pub status: u16,
    /// End-to-end headers only.
    pub headers: HeaderMap,
    pub body: Box<dyn ReplyBody>,
}

#[async_trait]
pub trait ReplyBody: Send {
    /// `None` at the end of a complete body; a body that breaks off is [`UpstreamFailure::Broken`].
    async fn chunk(&mut self) -> Result<Option<Bytes>, UpstreamFailure>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamFailure {
    /// No connection: nothing was sent.
    #[error("the upstream refused the connection")]
    Connect,
    #[error("the upstream did not answer in time")]
    Timeout,
    /// The connection broke or the answer was not HTTP.
    #[error("the upstream broke off")]
    Broken,
}
