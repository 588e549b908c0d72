//! MCP servers behind the gateway: tools that are sold, and everything else, which is free (PROTOCOL section 8).
//!
//! Promises: a call of a tool that is sold reaches its server only after `sell` admitted it; its result leaves the gateway only by
//! the answer to that call, or in its place on another stream, after it was charged; a message that a server could read
//! otherwise goes nowhere. Never decides about money: calls are sold as HTTP requests are, by the same code, as [`Order`]s.
//!
//! [`call`] reads what a server answers to a paid call, [`calls`] knows the calls under way, [`pass`] lets everything else through,
//! [`prices`] shows what is sold.

mod call;
mod calls;
mod pass;
mod prices;

pub(super) use call::{Said, ToolAnswer, ToolCall};
pub(super) use calls::Calls;

use super::{
    Gateway,
    answer::{Answer, Served, StreamChunk},
    channel::sse,
    respond::Refusal,
    sell::Order,
};
use crate::{
    protocol::{
        inputs::{self, Once},
        policy::{Access, Route},
        price,
        refusal::Code,
        request::Request,
        tools::{Tool, ToolRule, Tools},
    },
    wire::{
        header, headers,
        mcp::{
            OWN_ID, answer as message, events,
            request::{self, Call, Posted},
        },
    },
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use call::Aside;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE},
};
use serde_json::value::RawValue;
use std::{
    pin::pin,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout},
};

/// From the revision 2026-07-28 on, what the body says stands in the head too.
const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");
/// Events that may wait for a slow client.
const ASIDE_DEPTH: usize = 16;
/// A client that lets events wait for so long, in all, is gone; its call goes on. The server waits meanwhile, and would give the call up.
const CLIENT_WAITS: Duration = Duration::from_secs(5);

/// Whether these are the headers of an event stream.
fn is_stream(headers: &HeaderMap) -> bool {
    sse::is_event_stream(headers)
}

/// Why a message is not let through.
struct Stop {
    code: Code,
    detail: String,
    id: Option<Box<RawValue>>,
}

impl Stop {
    fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), id: None }
    }

    fn of(self, call: &Call) -> Self {
        Self { id: call.id.clone(), ..self }
    }
}

impl Gateway {
    pub(super) async fn serve_mcp(self: &Arc<Self>, order: Order) -> Served {
        let route = order.route.clone();
        let Access::Tools(tools) = &route.access else {
            return Served::Answer(Box::new(order.reply.refuse(&Refusal::new(Code::NoRoute, ""))));
        };
        if ![Method::POST, Method::GET, Method::DELETE].contains(&order.request.head.method) {
            // A server that reads a message whatever the method must not see it.
            return Served::Answer(Box::new(order.reply.refuse(&Refusal::new(Code::NoRoute, "an MCP path takes POST, GET and DELETE"))));
        }
        if order.request.head.method != Method::POST {
            // Streams and the end of sessions: no message, nothing that could be sold.
            let request = Request { head: order.request.head.clone(), body: Bytes::new() };
            return self.pass(Order { request: Arc::new(request), ..order }, tools, false).await;
        }
        match self.posted(order, tools).await {
            Ok(served) => served,
            Err((stop, order)) => Served::Answer(Box::new(self.stopped(&stop, &order))),
        }
    }

    /// One POST. The order comes back with what stops it.
    async fn posted(self: &Arc<Self>, order: Order, tools: &Tools) -> Result<Served, (Stop, Box<Order>)> {
        let read = read(&order.request);
        let posted = match read {
            Ok(posted) => posted,
            Err(stop) => return Err((stop, Box::new(order))),
        };
        match posted {
            Posted::Other { lists_tools, without_payment } => Ok(self.pass(with_body(order, without_payment), tools, lists_tools).await),
            Posted::Batch { tools: called, pays } => {
                if !request::batch_passes(&called, pays, |name| matches!(tools.find(name), Tool::Free)) {
                    return Err((Stop::new(Code::McpBatch, "call it in a message of its own"), Box::new(order)));
                }
                Ok(self.pass(order, tools, false).await)
            }
            Posted::Call(call) => match tools.find(&call.tool) {
                Tool::Free => {
                    let body = call.payment.is_some().then(|| call.forwarded(None));
                    Ok(self.pass(with_body(order, body), tools, false).await)
                }
                Tool::Unclear => Err((Stop::new(Code::McpTool, format!("{:?}", call.tool)).of(&call), Box::new(order))),
                Tool::Sold(rule, route) => match stops(&call, &order.request) {
                    Some(stop) => Err((stop.of(&call), Box::new(order))),
                    None => Ok(self.sell_call(order, *call, rule, route.clone(), tools.message_limit).await),
                },
            },
        }
    }

    /// A call of a tool that is sold.
    async fn sell_call(self: &Arc<Self>, order: Order, call: Call, rule: &ToolRule, route: Arc<Route>, limit: usize) -> Served {
        let Some(id) = call.id.clone() else {
            // Refused before: who is not answered cannot be sold anything.
            return Served::Answer(Box::new(order.reply.refuse(&Refusal::new(Code::McpMessage, ""))));
        };
        let own_id = format!("{OWN_ID}{}", hex::encode((self.environment.random)()));
        let mut head = order.request.head.clone();
        if let Some(payment) = &call.payment {
            // Both at once are one too many, which is found where two headers are.
            head.headers.append(headers::PAYMENT_SIGNATURE, header::encode(payment));
        }
        let pays = head.headers.contains_key(headers::PAYMENT_SIGNATURE);
        // What is compressed cannot be looked at.
        head.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let body = call.forwarded(Some(&own_id)).into();
        let (aside, told) = mpsc::channel(ASIDE_DEPTH);
        let (under_way, elsewhere) = self.calls.begin(&own_id);
        let called = Arc::new(ToolCall {
            audience: order.route.public_url(),
            tool: call.tool,
            arguments: call.arguments,
            id,
            own_id,
            tagged: call.tagged,
            limit,
            charge_errors: rule.charge_errors,
            aside,
            elsewhere: Mutex::new(Some(elsewhere)),
            said: OnceLock::new(),
        });
        let order = Order { route, request: Arc::new(Request { head, body }), call: Some(called.clone()), ..order };
        if !pays {
            return Served::Answer(Box::new(finish(&called, self.sold(order).await).0));
        }
        // Whoever still listens: what was paid for is seen through, and its result is owed to who resumes.
        let (first, answer) = oneshot::channel();
        let lost = order.reply.clone();
        tokio::spawn(self.clone().see_through(order, called, told, under_way, first));
        answer.await.unwrap_or_else(|_| Served::Answer(Box::new(lost.refuse(&Refusal::new(Code::LeaseLost, "the gateway stopped")))))
    }

    async fn sold(self: &Arc<Self>, order: Order) -> Answer {
        let reply = order.reply.clone();
        match self.sell(order).await {
            Served::Answer(answer) => *answer,
            // Results of tools are held whole; there is no other way to deliver one.
            Served::Stream { .. } => reply.refuse(&Refusal::new(Code::UpstreamFailed, "the result was not held")),
        }
    }

    /// Sells a call, and gives its client what its server says meanwhile.
    async fn see_through(
        self: Arc<Self>,
        order: Order,
        call: Arc<ToolCall>,
        mut told: mpsc::Receiver<Aside>,
        under_way: calls::UnderWay,
        first: oneshot::Sender<Served>,
    ) {
        let reply = order.reply.clone();
        let mut first = Some(first);
        let mut stream: Option<mpsc::Sender<StreamChunk>> = None;
        let mut patience = CLIENT_WAITS;
        let answer = {
            let mut sold = pin!(self.sold(order));
            loop {
                let aside = tokio::select! {
                    biased;
                    Some(aside) = told.recv() => aside,
                    answer = &mut sold => break answer,
                };
                pass_on(aside, &mut first, &mut stream, &mut patience, |headers| reply.stream(headers)).await;
            }
        };
        while let Ok(aside) = told.try_recv() {
            pass_on(aside, &mut first, &mut stream, &mut patience, |headers| reply.stream(headers)).await;
        }
        let (answer, message) = finish(&call, answer);
        // Before a slow client: who resumes elsewhere need not wait for it.
        if let Some(message) = message {
            under_way.answered(message);
        }
        match (first, stream) {
            (Some(first), _) => drop(first.send(Served::Answer(Box::new(answer)))),
            (None, Some(stream)) => {
                let _ = stream.send(StreamChunk::Data(events::event(&answer.body, None))).await;
                let _ = stream.send(StreamChunk::End { trailers: None }).await;
            }
            // The client is gone.
            (None, None) => {}
        }
    }

    fn stopped(&self, stop: &Stop, order: &Order) -> Answer {
        self.count_refusal(stop.code);
        let refusal = Refusal::new(stop.code, stop.detail.clone());
        let mut answer = order.reply.refuse(&refusal);
        let data = serde_json::from_slice(&answer.body).unwrap_or_default();
        answer.body = message::invalid(stop.id.as_deref(), stop.code.meaning(), &data).into();
        answer
    }
}

/// Gives the client a head or an event; forgets a client that takes none.
async fn pass_on(
    aside: Aside,
    first: &mut Option<oneshot::Sender<Served>>,
    stream: &mut Option<mpsc::Sender<StreamChunk>>,
    patience: &mut Duration,
    head: impl Fn(HeaderMap) -> Answer,
) {
    match aside {
        Aside::Stream(headers) => {
            if let Some(first) = first.take() {
                let (sender, body) = mpsc::channel(ASIDE_DEPTH);
                if first.send(Served::Stream { head: head(headers), body }).is_ok() {
                    *stream = Some(sender);
                }
            }
        }
        Aside::Event(bytes) => {
            let Some(sender) = stream else { return };
            let begun = Instant::now();
            if !matches!(timeout(*patience, sender.send(StreamChunk::Data(bytes))).await, Ok(Ok(()))) {
                *stream = None;
            }
            *patience = patience.saturating_sub(begun.elapsed());
        }
    }
}

/// The answer in the terms of MCP, and its message when it has one.
fn finish(call: &ToolCall, answer: Answer) -> (Answer, Option<Bytes>) {
    let Some(message) = call.message(&answer) else { return (answer, None) };
    let Answer { mut headers, close, .. } = answer;
    for name in [headers::PAYMENT_REQUIRED, headers::PAYMENT_RESPONSE, CONTENT_LENGTH] {
        headers.remove(name);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    (Answer { status: 200, headers, body: message.clone(), close }, Some(message))
}

/// The message of a POST, when every server reads the same one.
fn read(request: &Request) -> Result<Posted, Stop> {
    let headers = &request.head.headers;
    if let Err(why) = price::plain_json(headers) {
        return Err(Stop::new(Code::McpMessage, why));
    }
    if !headers.contains_key(CONTENT_TYPE) {
        return Err(Stop::new(Code::McpMessage, "the content type is missing"));
    }
    let posted = request::read(&request.body).map_err(|why| Stop::new(Code::McpMessage, why.to_string()))?;
    if let Posted::Call(call) = &posted
        && !(agrees(headers, &METHOD, crate::wire::mcp::CALL) && agrees(headers, &NAME, &call.tool))
    {
        return Err(Stop::new(Code::McpMessage, "the head names another method or tool than the body").of(call));
    }
    if !matches!(posted, Posted::Call(_)) && matches!(inputs::header(headers, &METHOD), Once::One(crate::wire::mcp::CALL) | Once::Ambiguous)
    {
        return Err(Stop::new(Code::McpMessage, "the head names another method than the body"));
    }
    Ok(posted)
}

/// Whether a header is absent or says what the body says.
fn agrees(headers: &HeaderMap, name: &HeaderName, body: &str) -> bool {
    match inputs::header(headers, name) {
        Once::Absent => true,
        Once::One(text) => {
            let coded = text.strip_prefix("=?base64?").and_then(|text| text.strip_suffix("?="));
            text == body || coded.and_then(|coded| STANDARD.decode(coded).ok()).is_some_and(|decoded| decoded == body.as_bytes())
        }
        Once::Ambiguous => false,
    }
}

/// What is never sold, paid for or not.
fn stops(call: &Call, request: &Request) -> Option<Stop> {
    if let Some((code, why)) = call.unsold() {
        return Some(Stop::new(code, why));
    }
    // A way to smuggle another body past the one that was read.
    let coded = !inputs::plainly_coded(&request.head.headers);
    coded.then(|| Stop::new(Code::McpMessage, "the body is coded"))
}

fn with_body(order: Order, body: Option<Vec<u8>>) -> Order {
    let Some(body) = body else { return order };
    let request = Request { head: order.request.head.clone(), body: body.into() };
    Order { request: Arc::new(request), ..order }
}

/// What a filtered stream never keeps of its server's head.
fn stream_headers(mut headers: HeaderMap) -> HeaderMap {
    headers.remove(CONTENT_LENGTH);
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
    headers
}
