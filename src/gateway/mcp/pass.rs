//! What is free on an MCP route: every message but the calls of sold tools, and every stream.
//!
//! Promises: an unpriced message and its answer pass unchanged, but for a payment and for the prices in `tools/list`; events flow one by
//! one, within bounded memory; the answer to a call that was sold is never among them before it is charged.

use super::{Tools, is_stream, stream_headers};
use crate::{
    gateway::{
        Gateway,
        answer::{Answer, Served, StreamChunk},
        forward::{self, Collected, STREAM_DEPTH, collect},
        respond::Refusal,
        sell::Order,
        upstream::{ReplyBody, UpstreamFailure, UpstreamReply},
    },
    protocol::{
        inputs,
        policy::{Access, Route},
        refusal::Code,
    },
    wire::mcp::{
        OWN_ID_LENGTH, answer as message,
        events::{self, Event, Events},
        prices,
    },
};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method,
    header::{ACCEPT_ENCODING, CONTENT_LENGTH},
};
use std::sync::Arc;
use tokio::sync::mpsc;

impl Gateway {
    pub(super) async fn pass(self: &Arc<Self>, order: Order, tools: &Tools, lists_tools: bool) -> Served {
        self.metrics.requests.free.inc();
        let mut request = forward::unpaid(&order.request, &order.route, &order.reply.request_id);
        // What is compressed cannot be looked at.
        request.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let Some(upstream) = order.policy.upstreams.get(&order.route.upstream) else {
            // The compiler of the configuration refuses a route without its upstream.
            return self.failed(&order, UpstreamFailure::Connect);
        };
        let UpstreamReply { status, headers, mut body } = match self.upstreams.send(upstream, request).await {
            Ok(reply) => reply,
            Err(failure) => return self.failed(&order, failure),
        };
        let headers = order.reply.unpaid(headers);
        if is_stream(&headers) {
            if !inputs::plainly_coded(&headers) {
                return self.failed(&order, UpstreamFailure::Broken);
            }
            let (sender, receiver) = mpsc::channel(STREAM_DEPTH);
            let gets = order.request.head.method == Method::GET;
            let filter = Filter { gateway: self.clone(), route: order.route.clone(), lists_tools, limit: tools.message_limit, gets };
            tokio::spawn(filter.run(body, sender));
            let head = Answer { status, headers: stream_headers(headers), body: Bytes::new(), close: false };
            return Served::Stream { head, body: receiver };
        }
        let listed = lists_tools && status == 200 && inputs::plainly_coded(&headers);
        match collect(&headers, body.as_mut(), tools.message_limit).await {
            Err(failure) => self.failed(&order, failure),
            // No server answers one request with another's result; one that did would give it away.
            Ok(Collected::Whole(body))
                if message::read(&body).map_or_else(|| message::hides_own_id(&body), |found| found.own_id().is_some()) =>
            {
                self.failed(&order, UpstreamFailure::Broken)
            }
            Ok(Collected::Streaming(first)) if message::names_own_id(&first) => self.failed(&order, UpstreamFailure::Broken),
            Ok(Collected::Whole(body)) => {
                let told = if listed { with_prices(&order.route, &body) } else { None };
                Served::Answer(Box::new(whole(status, headers, told.unwrap_or(body))))
            }
            Ok(Collected::Streaming(first)) => {
                let (sender, receiver) = mpsc::channel(STREAM_DEPTH);
                tokio::spawn(raw(first, body, sender));
                Served::Stream { head: Answer { status, headers, body: Bytes::new(), close: false }, body: receiver }
            }
        }
    }

    fn failed(&self, order: &Order, failure: UpstreamFailure) -> Served {
        let code = match failure {
            UpstreamFailure::Timeout => Code::UpstreamTimeout,
            UpstreamFailure::Connect | UpstreamFailure::Broken => Code::UpstreamFailed,
        };
        self.count_refusal(code);
        Served::Answer(Box::new(order.reply.refuse(&Refusal::new(code, failure.to_string()))))
    }
}

fn whole(status: u16, mut headers: HeaderMap, body: Bytes) -> Answer {
    // Set anew, because prices make a body longer.
    headers.remove(CONTENT_LENGTH);
    Answer { status, headers, body, close: false }
}

fn with_prices(route: &Route, message: &[u8]) -> Option<Bytes> {
    let Access::Tools(tools) = &route.access else { return None };
    prices::annotate(message, &|name| super::prices::shown(tools, name)).map(Bytes::from)
}

/// A long body as it comes, as long as it is not the answer to a sold call.
async fn raw(first: Bytes, mut body: Box<dyn ReplyBody>, sender: mpsc::Sender<StreamChunk>) {
    let mut next = Ok(Some(first));
    // An id may come in two pieces.
    let mut seam = Vec::new();
    while let Ok(Some(chunk)) = next {
        seam.extend_from_slice(&chunk);
        if message::names_own_id(&seam) {
            return;
        }
        seam.drain(..seam.len().saturating_sub(OWN_ID_LENGTH - 1));
        if sender.send(StreamChunk::Data(chunk)).await.is_err() {
            return;
        }
        next = body.chunk().await;
    }
    if matches!(next, Ok(None)) {
        let _ = sender.send(StreamChunk::End { trailers: None }).await;
    }
}

/// An event stream that is not the answer to a sold call.
struct Filter {
    gateway: Arc<Gateway>,
    route: Arc<Route>,
    lists_tools: bool,
    limit: usize,
    /// Of a GET: silence ends it, and its client asks again.
    gets: bool,
}

impl Filter {
    async fn run(self, mut body: Box<dyn ReplyBody>, sender: mpsc::Sender<StreamChunk>) {
        let mut events = Events::new(self.limit);
        loop {
            let chunk = tokio::select! {
                biased;
                () = sender.closed() => return,
                chunk = body.chunk() => chunk,
            };
            match chunk {
                Ok(Some(chunk)) => {
                    let Ok(found) = events.feed(&chunk) else {
                        // What was not looked at is not passed on.
                        tracing::warn!(route = %self.route.id, limit = self.limit, "an event is longer than message_limit_bytes");
                        return;
                    };
                    for event in found {
                        if !self.pass_on(event, &sender).await {
                            return;
                        }
                    }
                }
                Ok(None) => {
                    if let Some(event) = events.last()
                        && !self.pass_on(event, &sender).await
                    {
                        return;
                    }
                    break;
                }
                Err(UpstreamFailure::Timeout) if self.gets => break,
                Err(failure) => {
                    tracing::debug!(%failure, route = %self.route.id, "a free stream broke off");
                    return;
                }
            }
        }
        let _ = sender.send(StreamChunk::End { trailers: None }).await;
    }

    /// Whether somebody still listens.
    async fn pass_on(&self, event: Event, sender: &mpsc::Sender<StreamChunk>) -> bool {
        let passed = match message::read(&event.data) {
            Some(found) => match found.own_id() {
                Some(own_id) => match self.gateway.calls.redeem(own_id, Bytes::copy_from_slice(&event.data)).await {
                    Some(answer) => Some(events::event(&answer, event.id.as_deref())),
                    None => None,
                },
                None if self.lists_tools => Some(
                    with_prices(&self.route, &event.data).map_or_else(|| event.raw.clone(), |told| events::with_message(&event, &told)),
                ),
                None => Some(event.raw),
            },
            None if message::hides_own_id(&event.data) => None,
            None => Some(event.raw),
        };
        match passed {
            Some(bytes) => sender.send(StreamChunk::Data(bytes)).await.is_ok(),
            None => !sender.is_closed(),
        }
    }
}
