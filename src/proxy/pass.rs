//! Free requests that only ask: a safe method, no body, no upgrade. They go from connection to connection.
//!
//! Everything else that is free takes pingora's own proxy ([`super::hooks`]), which moves bodies both ways at
//! once. For a question it costs more than the exchange itself (decision 12): two copies of a state of 97 KB, and
//! queues between two halves of which one has nothing to do.

use super::{
    forward::{self, Provenance},
    outgoing::{self, BeginError, Outgoing},
    peer::Peers,
    respond,
};
use crate::{gateway::answer::Free, protocol::policy::Upstream, wire::headers::REQUEST_ID};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header::UPGRADE};
use pingora::{
    Error, ErrorType, Result,
    connectors::http::v1::Connector,
    http::{RequestHeader, ResponseHeader},
    protocols::http::{ServerSession, v1::client::HttpSession},
};
use std::sync::Arc;

/// A free request on its way to its upstream.
pub(super) struct FreePass {
    pub free: Free,
    pub upstream: Arc<Upstream>,
    pub provenance: Provenance,
}

/// Whether this request is one for [`pass`]. `has_body` as its framing says.
pub(super) fn only_asks(request: &RequestHeader, has_body: bool) -> bool {
    request.method.is_safe() && !has_body && !request.headers.contains_key(UPGRADE)
}

/// Answers the client with what the upstream says. An error after the answer's head means that its body is not whole: the connection has to end.
pub(super) async fn pass(peers: &Peers, connector: &Connector, session: &mut ServerSession, pass: &mut FreePass) -> Result<()> {
    let (Outgoing { session: mut upstream, peer, .. }, head) = ask(peers, connector, session, pass).await?;
    answer(session, &mut upstream, head, pass).await?;
    outgoing::release(connector, upstream, &peer).await;
    Ok(())
}

/// Sends the request and reads the head of the answer. A pooled connection that ends without a word was closed before the upstream saw the
/// request, or the request only asks: it is sent again on the next one.
async fn ask(
    peers: &Peers,
    connector: &Connector,
    session: &mut ServerSession,
    pass: &mut FreePass,
) -> Result<(Outgoing, Box<ResponseHeader>)> {
    let mut headers = Some(pass.free.take_headers());
    loop {
        let head = || request(headers.take().unwrap_or_else(|| pass.provenance.stamped(&session.req_header().headers)), pass);
        let begun = outgoing::begin(peers, connector, &pass.upstream, None, head).await;
        let mut outgoing = begun.map_err(|(BeginError::Unsent(error) | BeginError::Broken(error))| error.into_up())?;
        outgoing.session.read_timeout = Some(pass.upstream.read_timeout);
        match answer_head(session, &mut outgoing.session).await {
            Ok(head) => return Ok((outgoing, head)),
            Err(error) if outgoing.pooled && unanswered(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

/// The head of the final answer; informational ones are passed on as they come.
async fn answer_head(session: &mut ServerSession, upstream: &mut HttpSession) -> Result<Box<ResponseHeader>> {
    loop {
        let head = unless_gone(session, upstream.read_resp_header_parts()).await?;
        match head.status {
            StatusCode::SWITCHING_PROTOCOLS => return Err(Error::explain(ErrorType::InvalidHTTPHeader, "unexpected 101").into_up()),
            status if status.is_informational() => session.write_response_header(head).await.map_err(|error| error.into_down())?,
            _ => return Ok(head),
        }
    }
}

async fn answer(session: &mut ServerSession, upstream: &mut HttpSession, mut head: Box<ResponseHeader>, pass: &FreePass) -> Result<()> {
    let promised = super::body::declared(&head.headers);
    forward::strip_response(&mut head);
    respond::frame(session, &mut head, promised)?;
    head.insert_header(REQUEST_ID, pass.provenance.request_id().clone())?;
    session.write_response_header(head).await.map_err(|error| error.into_down())?;
    while !upstream.is_body_done() {
        let Some(piece) = unless_gone(session, upstream.read_body_bytes()).await? else { break };
        session.write_response_body(piece, false).await.map_err(|error| error.into_down())?;
    }
    session.write_response_body(Bytes::new(), true).await.map_err(|error| error.into_down())
}

/// What the upstream says, as long as the client is there to hear it.
async fn unless_gone<T>(session: &mut ServerSession, upstream: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        biased;
        said = upstream => said.map_err(|error| error.into_up()),
        // Nothing is expected of the client: this ends when it closes, or says too much.
        gone = session.read_body_or_idle(true) => match gone {
            Ok(_) => Err(Error::explain(ErrorType::ConnectionClosed, "the client is gone").into_down()),
            Err(error) => Err(error.into_down()),
        },
    }
}

fn unanswered(error: &Error) -> bool {
    *error.esource() == pingora::ErrorSource::Upstream && matches!(error.etype(), ErrorType::ConnectionClosed | ErrorType::ReadError)
}

/// The request as it leaves.
fn request(headers: HeaderMap, pass: &FreePass) -> Result<RequestHeader> {
    let FreePass { free, upstream, provenance } = pass;
    let mut parts = http::Request::new(()).into_parts().0;
    parts.method = free.head().method.clone();
    parts.headers = headers;
    forward::strip_request(&mut parts.headers);
    let mut head = RequestHeader::from(parts);
    head.set_raw_path(forward::upstream_path(upstream, free.head()).as_bytes())?;
    forward::address_to(upstream, provenance.host(), &mut head)?;
    Ok(head)
}
