//! What the gateway tells the proxy to do with a request.

use crate::protocol::{
    policy::{Policy, Route},
    request::RequestHead,
};
use bytes::Bytes;
use http::HeaderMap;
use std::sync::Arc;
use tokio::sync::mpsc;

/// A complete response; `proxy` adds only framing.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// The connection cannot be used again (the request's body was not read).
    pub close: bool,
}

/// Where a request head leads; see `Gateway::route`.
pub enum Routed {
    /// Forward by the normal proxy pass, unpaid.
    Free(Free),
    /// Read the body up to `sale.body_limit()` and call `Gateway::serve`.
    Priced(Box<Sale>),
    Answer(Box<Answer>),
}

/// Proof that a request is free: made only by the gateway.
#[derive(Debug)]
#[must_use]
pub struct Free {
    pub(in crate::gateway) route: Arc<Route>,
    pub(in crate::gateway) policy: Arc<Policy>,
}

impl Free {
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

/// The gateway's answer to a priced request.
pub enum Served {
    Answer(Answer),
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
    End,
}
