//! What every forward of a paid request shares, whatever paid for it.

use super::{
    answer::StreamChunk,
    channel::sse,
    pieces::Pieces,
    upstream::{ReplyBody, UpstreamFailure, UpstreamRequest},
};
use crate::{
    protocol::{amount::Amount, policy::Route, request::Request},
    store::StoredResponse,
    wire::headers,
};
use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST},
};
use tokio::sync::mpsc;

/// Chunks of a streamed body that may wait for a slow client; beyond it the upstream is slowed down.
pub(super) const STREAM_DEPTH: usize = 4;

/// Headers that are added to a request that is paid for.
const ADDED: usize = 5;

/// A whole body, or the part that was read before it had to stream.
pub(super) enum Collected {
    Whole(Bytes),
    Streaming(Bytes),
}

/// The request as the upstream sees it: the client's, without what is the gateway's to say. `amount` is what it may cost at
/// most; `idempotency_key` is equal on every forward of one payment.
pub(super) fn request(request: &Request, route: &Route, request_id: &str, amount: Amount, idempotency_key: &str) -> UpstreamRequest {
    let mut request = unpaid(request, route, request_id);
    set(&mut request.headers, headers::AMOUNT, &amount.to_string());
    set(&mut request.headers, headers::IDEMPOTENCY_KEY, idempotency_key);
    request
}

/// The same of a request that nothing was paid for.
pub(super) fn unpaid(request: &Request, route: &Route, request_id: &str) -> UpstreamRequest {
    let head = &request.head;
    let mut headers = forwarded_headers(&head.headers);
    if let Ok(host) = HeaderValue::try_from(head.host.as_str())
        && !headers.contains_key(HOST)
    {
        headers.insert(HOST, host);
    }
    set(&mut headers, headers::REQUEST_ID, request_id);
    let path_and_query = match &head.query {
        Some(query) => format!("{}?{query}", head.path.as_str()),
        None => head.path.as_str().to_owned(),
    };
    UpstreamRequest {
        method: head.method.clone(),
        path_and_query,
        headers,
        body: request.body.clone(),
        timeout: route.timeout,
        silence: None,
    }
}

/// Overwrites, never appends.
pub(super) fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

/// End-to-end headers of the client, without the reserved ones and the framing.
fn forwarded_headers(client: &HeaderMap) -> HeaderMap {
    let named: Vec<String> = client
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let forwarded = |name: &HeaderName| {
        !headers::hop_by_hop(name)
            && !headers::reserved(name)
            && name != CONTENT_LENGTH
            && name != EXPECT
            && ![headers::IDEMPOTENCY_KEY, headers::REQUEST_ID].iter().any(|ours| headers::dashed(name) == ours.as_str())
            && !named.iter().any(|n| n == name.as_str())
    };
    // Room for what is added: growing would hash everything again.
    let mut headers = HeaderMap::with_capacity(client.len() + ADDED);
    for (name, value) in client.iter().filter(|(name, _)| forwarded(name)) {
        headers.append(name, value.clone());
    }
    headers
}

/// Reads a body to its end, or up to the limit. An event stream is never held back.
pub(super) async fn collect(headers: &HeaderMap, body: &mut dyn ReplyBody, limit: usize) -> Result<Collected, UpstreamFailure> {
    if sse::is_event_stream(headers) {
        return Ok(Collected::Streaming(Bytes::new()));
    }
    let mut collected = Pieces::default();
    while let Some(chunk) = body.chunk().await? {
        collected.push(chunk);
        if collected.len() > limit {
            return Ok(Collected::Streaming(collected.whole()));
        }
    }
    Ok(Collected::Whole(collected.whole()))
}

/// How a stream that is paid for ended.
pub(super) enum Passed {
    Whole,
    ClientLeft,
    Broke(UpstreamFailure),
}

/// Passes a stream on to its client and keeps a copy on the way. Its end is the caller's to send, once it is recorded.
pub(super) async fn pass(first: Bytes, body: &mut dyn ReplyBody, kept: &mut Kept, sender: &mpsc::Sender<StreamChunk>) -> Passed {
    let mut next = if first.is_empty() { body.chunk().await } else { Ok(Some(first)) };
    loop {
        match next {
            Ok(Some(chunk)) => {
                kept.add(&chunk);
                if sender.send(StreamChunk::Data(chunk)).await.is_err() {
                    return Passed::ClientLeft;
                }
            }
            Ok(None) => return Passed::Whole,
            Err(failure) => return Passed::Broke(failure),
        }
        next = body.chunk().await;
    }
}

/// The copy of a streamed response for replays.
pub(super) struct Kept {
    pub headers: Vec<(String, Vec<u8>)>,
    /// `None` once it is over the limit.
    pub body: Option<BytesMut>,
    pub limit: usize,
}

impl Kept {
    pub fn add(&mut self, chunk: &Bytes) {
        if let Some(body) = &mut self.body {
            if body.len() + chunk.len() > self.limit {
                self.body = None;
            } else {
                body.extend_from_slice(chunk);
            }
        }
    }

    pub fn response(self, status: u16) -> Option<StoredResponse> {
        let Self { headers, body, .. } = self;
        body.map(|body| StoredResponse { status, headers, body: body.freeze() })
    }
}
