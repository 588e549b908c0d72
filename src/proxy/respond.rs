//! Writes the paywall's answers: whole ones, and streams that end visibly or break visibly.

use super::body;
use crate::{
    gateway::answer::{Answer, StreamChunk},
    protocol::refusal::Code,
    wire::{
        headers::{REQUEST_ID, hop_by_hop},
        messages,
    },
};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, StatusCode, Version,
    header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, DATE, TRAILER, TRANSFER_ENCODING},
};
use pingora::{Error, ErrorType, Result, http::ResponseHeader, protocols::http::ServerSession};
use std::time::Duration;
use tokio::sync::mpsc;

/// A stream ended without its end: the client's connection is broken.
pub(super) const CUT: ErrorType = ErrorType::new("StreamCut");

/// An unread request body up to this long is read away, so that the connection can be used again.
const DRAIN_BYTES: usize = 64 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(1);
/// Read after an answer that closes the connection: closing with unread bytes makes the kernel
/// reset it, which can destroy the answer before the client has read it.
const LINGER_BYTES: usize = 4 * 1024 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(2);

/// A refusal that the proxy itself has to make.
pub(super) fn refusal(code: Code, request_id: &HeaderValue) -> Answer {
    let body = messages::refusal(code, request_id.to_str().unwrap_or_default());
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    Answer { status: code.status(), headers, body: body.to_string().into(), close: false }
}

/// Writes a whole response.
pub(super) async fn whole(session: &mut ServerSession, answer: Answer, request_id: &HeaderValue) -> Result<()> {
    let reusable = session.is_body_done() || (!answer.close && drain(session).await);
    if answer.close || !reusable {
        session.set_keepalive(None);
    }
    let mut head = head(&answer, request_id)?;
    let length = if bodiless(session, head.status) { kept_length(&answer) } else { Some(answer.body.len()) };
    if let Some(length) = length {
        head.insert_header(CONTENT_LENGTH, length)?;
    }
    let body = if bodiless(session, head.status) { Bytes::new() } else { answer.body };
    session.write_response_header(Box::new(head)).await?;
    session.write_response_body(body, true).await?;
    if !reusable && !session.is_http2() {
        // Ends our side only.
        session.shutdown().await;
        body::discard(session, LINGER_BYTES, LINGER_TIME).await;
    }
    Ok(())
}

/// Writes a response as it arrives, and its trailers where the protocol has them: on HTTP/2, not on HTTP/1. An error means the client must not take the body for whole:
/// the caller returns it to pingora, which drops the connection without ending the message.
pub(super) async fn stream(
    session: &mut ServerSession,
    answer: Answer,
    mut chunks: mpsc::Receiver<StreamChunk>,
    request_id: &HeaderValue,
) -> Result<()> {
    let mut head = head(&answer, request_id)?;
    let promised = body::declared(&answer.headers);
    let silent = bodiless(session, head.status);
    frame(session, &mut head, promised)?;
    let trailing = session.is_http2() && !silent;
    if trailing {
        // Upstreams' own are gone already: what is announced here is the gateway's.
        for announced in answer.headers.get_all(TRAILER) {
            head.append_header(TRAILER, announced.clone())?;
        }
    }
    session.write_response_header(Box::new(head)).await?;
    let mut written = 0_u64;
    let trailers = loop {
        let data = match chunks.recv().await {
            Some(StreamChunk::Data(data)) => data,
            Some(StreamChunk::End { trailers }) => break trailers,
            None => return Error::e_explain(CUT, "the upstream broke off"),
        };
        if silent || data.is_empty() {
            continue;
        }
        written += u64::try_from(data.len()).expect("a length fits 64 bits");
        if promised.is_some_and(|promised| written > promised) {
            return Error::e_explain(CUT, "the body is longer than its Content-Length");
        }
        session.write_response_body(data, false).await?;
    };
    if !silent && promised.is_some_and(|promised| written != promised) {
        return Error::e_explain(CUT, "the body is shorter than its Content-Length");
    }
    match trailers {
        // They end the message themselves.
        Some(trailers) if trailing && !trailers.is_empty() => session.write_response_trailers(*trailers).await,
        _ => session.write_response_body(Bytes::new(), true).await,
    }
}

/// Says where the body ends that follows piece by piece; `promised` is its declared length.
pub(super) fn frame(session: &ServerSession, head: &mut ResponseHeader, promised: Option<u64>) -> Result<()> {
    match promised {
        Some(length) if head.status != StatusCode::NO_CONTENT => head.insert_header(CONTENT_LENGTH, length),
        None if !bodiless(session, head.status) && session.req_header().version == Version::HTTP_11 => {
            head.insert_header(TRANSFER_ENCODING, "chunked")
        }
        // HTTP/2 frames bodies itself; HTTP/1.0 knows only the end of the connection.
        _ => Ok(()),
    }
}

fn head(answer: &Answer, request_id: &HeaderValue) -> Result<ResponseHeader> {
    let mut head = ResponseHeader::build_no_case(answer.status, Some(answer.headers.len() + 4))?;
    for (name, value) in &answer.headers {
        // Framing is set here, the date and the connection by pingora.
        if !hop_by_hop(name) && ![CONTENT_LENGTH, DATE, REQUEST_ID].contains(name) {
            head.append_header(name.clone(), value.clone())?;
        }
    }
    head.insert_header(REQUEST_ID, request_id.clone())?;
    Ok(head)
}

/// Whether this response has no body, whatever its headers say.
fn bodiless(session: &ServerSession, status: StatusCode) -> bool {
    session.req_header().method == Method::HEAD || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// The length a response without a body may still declare: that of the body a GET would have had.
fn kept_length(answer: &Answer) -> Option<usize> {
    if answer.status == StatusCode::NO_CONTENT {
        return None;
    }
    let declared = body::declared(&answer.headers).and_then(|length| usize::try_from(length).ok());
    declared.or((!answer.body.is_empty()).then_some(answer.body.len()))
}

/// Reads away a small body that the client sends anyway. One of unknown length is left alone: its
/// client may still be producing it, and should not wait for the answer.
async fn drain(session: &mut ServerSession) -> bool {
    let headers = &session.req_header().headers;
    let small = body::declared(headers).is_some_and(|length| usize::try_from(length).is_ok_and(|length| length <= DRAIN_BYTES));
    // Who waits for 100 Continue may or may not send the body after the answer.
    small && !body::expects_continue(headers) && body::discard(session, DRAIN_BYTES, DRAIN_TIME).await
}
