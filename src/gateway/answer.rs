//! What the gateway tells the proxy to do with a request.

use crate::protocol::{
    network::Network,
    policy::{Access, Policy, Route},
    request::RequestHead,
};
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method};
use std::sync::Arc;
use tokio::sync::mpsc;

/// The paywall as the proxy sees it; implemented by `Gateway`.
#[async_trait]
pub trait Paywall: Send + Sync + 'static {
    /// Decides from the head alone. Free requests never touch the store or the node.
    fn route(&self, head: RawHead) -> Routed;

    /// Sells the request, or says why not. Runs to its end even when the caller goes away:
    /// whatever owns money goes on in a task of its own.
    async fn serve(&self, sale: Box<Sale>, body: BodyRead) -> Served;

    /// Answers for a charge that is over.
    async fn receipt(&self, ask: Box<ReceiptAsk>) -> Answer;
}

/// A request head as the server parsed it.
#[derive(Clone, Debug)]
pub struct RawHead {
    pub method: Method,
    /// Authority of an absolute request target, else `Host` (or `:authority`), as received; empty when there is none.
    pub authority: String,
    /// Path and query exactly as received, without scheme and authority.
    pub target: String,
    pub headers: HeaderMap,
    /// Also in the response and in the logs.
    pub request_id: String,
}

/// How reading the body ended.
#[derive(Debug)]
pub enum BodyRead {
    Whole(Bytes),
    /// Longer than `Sale::body_limit`; the rest was not read.
    TooLarge,
    /// The client broke off or framed it wrongly.
    Incomplete,
}

/// A complete response; `proxy` adds only framing.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// The connection cannot be used again (the request's body was not read).
    pub close: bool,
}

/// Where a request head leads.
pub enum Routed {
    /// Forward, unpaid.
    Free(Box<Free>),
    /// Read the body up to [`Sale::body_limit`] and call [`Paywall::serve`].
    Priced(Box<Sale>),
    Answer(Box<Answer>),
    /// Not the upstream's: call [`Paywall::receipt`].
    Receipt(Box<ReceiptAsk>),
}

/// A request for the receipt of a charge.
pub struct ReceiptAsk {
    pub(in crate::gateway) of: Option<super::channel::ReceiptOf>,
    pub(in crate::gateway) network: Network,
    pub(in crate::gateway) reply: super::respond::Reply,
}

/// Proof that a request is free: made only by the gateway.
#[derive(Debug)]
#[must_use]
pub struct Free {
    pub(in crate::gateway) route: Arc<Route>,
    pub(in crate::gateway) policy: Arc<Policy>,
    pub(in crate::gateway) head: RequestHead,
}

impl Free {
    /// Its normal path is what is forwarded, with the query as received.
    pub fn head(&self) -> &RequestHead {
        &self.head
    }

    /// The headers as the paywall saw them; nothing is left of them here.
    pub fn take_headers(&mut self) -> HeaderMap {
        std::mem::take(&mut self.head.headers)
    }

    pub fn route(&self) -> &Arc<Route> {
        &self.route
    }
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }
}

/// A request for a priced route whose body is not read yet.
pub struct Sale {
    pub(in crate::gateway) route: Arc<Route>,
    pub(in crate::gateway) policy: Arc<Policy>,
    pub(in crate::gateway) head: RequestHead,
    pub(in crate::gateway) request_id: String,
}

impl Sale {
    /// Longest request body to read, bytes.
    pub fn body_limit(&self) -> usize {
        match &self.route.access {
            Access::Priced(pricing) => pricing.body_limit,
            Access::Tools(tools) => tools.body_limit,
            Access::Free => 0,
        }
    }
}

/// The gateway's answer to a priced request.
pub enum Served {
    Answer(Box<Answer>),
    /// Head now, body as it arrives; a closed channel before `Ok(None)` means the upstream broke off:
    /// the proxy must break the client's connection too, so that a cut body never looks whole.
    Stream {
        head: Answer,
        body: mpsc::Receiver<StreamChunk>,
    },
}

#[derive(Debug)]
pub enum StreamChunk {
    Data(Bytes),
    /// The body is whole. Trailers are sent where the client's protocol has them (HTTP/2).
    End {
        trailers: Option<Box<HeaderMap>>,
    },
}

#[cfg(test)]
impl Free {
    /// For tests of `proxy`, whose paywall is a fake.
    pub(crate) fn for_test(route: Arc<Route>, policy: Arc<Policy>, head: RequestHead) -> Self {
        Self { route, policy, head }
    }
}

#[cfg(test)]
impl Sale {
    /// For tests of `proxy`, whose paywall is a fake.
    pub(crate) fn for_test(route: Arc<Route>, policy: Arc<Policy>, head: RequestHead, request_id: String) -> Self {
        Self { route, policy, head, request_id }
    }
}
