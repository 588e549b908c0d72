//! The paywall's own requests to an upstream: one request, its head, then its body piece by piece.
//!
//! A request is sent at most once. The one repetition there is follows a pooled connection on which
//! not even the head could be written, so that the upstream cannot have acted on it. A pooled
//! connection that dies after the head was written is [`UpstreamFailure::Broken`]: keep an upstream's
//! `idle_timeout` below its own keep-alive time. HTTP/1.1 only.

use super::{
    forward,
    outgoing::{self, BeginError, Outgoing},
    peer::Peers,
};
use crate::{
    gateway::upstream::{ReplyBody, UpstreamFailure, UpstreamReply, UpstreamRequest, Upstreams},
    protocol::policy::Upstream,
};
use async_trait::async_trait;
use bytes::Bytes;
use http::{
    Method, StatusCode,
    header::{CONTENT_LENGTH, EXPECT, HOST},
};
use pingora::{
    ErrorType,
    connectors::{ConnectorOptions, http::v1::Connector},
    http::RequestHeader,
    protocols::http::v1::client::HttpSession,
    upstreams::peer::HttpPeer,
};
use std::sync::Arc;
use tokio::time::{Instant, timeout_at};

/// [`Upstreams`] over pingora's connector, with a pool of idle connections of its own: pingora's
/// proxy does not lend its pool. Use from runtimes that live as long as the pool.
pub struct PingoraUpstreams {
    pub(super) peers: Arc<Peers>,
    pub(super) connector: Arc<Connector>,
}

impl PingoraUpstreams {
    /// `idle_connections`: most that are kept over all upstreams.
    pub fn new(idle_connections: usize) -> Self {
        let connector = Connector::new(Some(ConnectorOptions::new(idle_connections)));
        Self { peers: Arc::default(), connector: Arc::new(connector) }
    }
}

#[async_trait]
impl Upstreams for PingoraUpstreams {
    async fn send(&self, upstream: &Upstream, request: UpstreamRequest) -> Result<UpstreamReply, UpstreamFailure> {
        let deadline = Instant::now() + request.timeout;
        let begun = outgoing::begin(&self.peers, &self.connector, upstream, Some(deadline), || head(upstream, &request)).await;
        let Outgoing { mut session, peer, .. } = begun.map_err(|error| match error {
            BeginError::Unsent(_) => UpstreamFailure::Connect,
            BeginError::Broken(error) => failure(&error),
        })?;
        let sent = in_time(deadline, send_body(&mut session, &request.body)).await;
        if sent == Err(UpstreamFailure::Timeout) {
            return Err(UpstreamFailure::Timeout);
        }
        // An upstream that answered before it had read the body may have closed its end: its answer counts.
        let (status, headers) = in_time(deadline, read_head(&mut session)).await?;
        session.read_timeout = Some(request.silence.unwrap_or(upstream.read_timeout));
        let mut body = Reply { session: Some(session), peer, connector: self.connector.clone(), reusable: sent.is_ok() };
        body.release_if_done().await;
        Ok(UpstreamReply { status: status.as_u16(), headers, body: Box::new(body) })
    }
}

async fn in_time<T>(deadline: Instant, step: impl Future<Output = pingora::Result<T>>) -> Result<T, UpstreamFailure> {
    match timeout_at(deadline, step).await {
        Ok(done) => done.map_err(|error| failure(&error)),
        Err(_) => Err(UpstreamFailure::Timeout),
    }
}

fn head(upstream: &Upstream, request: &UpstreamRequest) -> pingora::Result<RequestHeader> {
    let target = format!("{}{}", upstream.base_path, request.path_and_query);
    let mut head = RequestHeader::build_no_case(request.method.clone(), target.as_bytes(), Some(request.headers.len() + 8))?;
    for (name, value) in forward::each_end_to_end(&request.headers) {
        // Whole bodies are framed by their length; nothing waits for 100 Continue.
        if !matches!(*name, HOST | CONTENT_LENGTH | EXPECT) {
            head.append_header(name.clone(), value.clone())?;
        }
    }
    forward::address_to(upstream, request.headers.get(HOST), &mut head)?;
    if !request.body.is_empty() || matches!(request.method, Method::POST | Method::PUT | Method::PATCH) {
        head.insert_header(CONTENT_LENGTH, request.body.len())?;
    }
    Ok(head)
}

async fn send_body(session: &mut HttpSession, body: &Bytes) -> pingora::Result<()> {
    if !body.is_empty() {
        session.write_body(body).await?;
    }
    session.finish_body().await.map(drop)
}

/// The final head: informational ones are skipped.
async fn read_head(session: &mut HttpSession) -> pingora::Result<(StatusCode, http::HeaderMap)> {
    loop {
        session.read_response().await?;
        let head = session.resp_header().expect("a response was just read");
        match head.status {
            // Upgrades are not forwarded here, so nobody asked for another protocol.
            StatusCode::SWITCHING_PROTOCOLS => return pingora::Error::e_explain(pingora::InvalidHTTPHeader, "unexpected 101"),
            status if status.is_informational() => {}
            status => return Ok((status, forward::end_to_end(&head.headers))),
        }
    }
}

fn failure(error: &pingora::Error) -> UpstreamFailure {
    match error.etype() {
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => UpstreamFailure::Timeout,
        _ => UpstreamFailure::Broken,
    }
}

struct Reply {
    /// `None` after the end.
    session: Option<HttpSession>,
    peer: HttpPeer,
    connector: Arc<Connector>,
    /// The request was written whole.
    reusable: bool,
}

impl Reply {
    /// Returns the connection to the pool as soon as the body is complete.
    async fn release_if_done(&mut self) {
        if self.session.as_mut().is_some_and(HttpSession::is_body_done) {
            let session = self.session.take().expect("just seen");
            if self.reusable {
                outgoing::release(&self.connector, session, &self.peer).await;
            }
        }
    }
}

#[async_trait]
impl ReplyBody for Reply {
    async fn chunk(&mut self) -> Result<Option<Bytes>, UpstreamFailure> {
        let Some(session) = &mut self.session else { return Ok(None) };
        let chunk = session.read_body_bytes().await.map_err(|error| failure(&error))?;
        self.release_if_done().await;
        Ok(chunk)
    }
}
