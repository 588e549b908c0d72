//! pingora's hooks, each a few lines: what they do lives in the other files of this folder.
//!
//! Admission is in `request_filter`, which runs once per request. The hooks that pingora repeats on a
//! retry (`upstream_peer`, `upstream_request_filter`) see free requests only.

use super::{
    body, forward, head,
    in_flight::{Counted, InFlight},
    peer::{PeerError, Peers},
    resolve::Addresses,
    respond,
    server::RequestIds,
};
use crate::{
    gateway::answer::{Free, Paywall, Routed, Sale, Served},
    protocol::{policy::Upstream, refusal::Code},
    wire::headers::REQUEST_ID,
};
use async_trait::async_trait;
use http::HeaderValue;
use pingora::{
    Error, ErrorSource, ErrorType, Result,
    http::{RequestHeader, ResponseHeader},
    modules::http::HttpModules,
    protocols::http::ServerSession,
    proxy::{FailToProxy, ProxyHttp, Session},
    upstreams::peer::HttpPeer,
};
use std::{sync::Arc, time::Duration};

pub(super) struct Hooks {
    pub paywall: Arc<dyn Paywall>,
    pub peers: Arc<Peers>,
    pub request_ids: RequestIds,
    pub in_flight: InFlight,
    pub limits: ClientLimits,
}

/// What a client may take its time for.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClientLimits {
    /// Seconds between two requests of one connection.
    pub keepalive_seconds: u64,
    /// For one read or write.
    pub io: Duration,
    /// For the whole body of a priced request.
    pub body: Duration,
}

pub(super) struct Ctx {
    stage: Stage,
    _counted: Counted,
}

enum Stage {
    New,
    /// The request id, once there is one.
    Seen(HeaderValue),
    Free(Box<FreePass>),
}

/// A free request on its way through pingora.
struct FreePass {
    free: Free,
    upstream: Arc<Upstream>,
    provenance: forward::Provenance,
    addresses: Option<Addresses>,
    /// Index of the address to try.
    attempt: usize,
}

impl Ctx {
    fn request_id(&self) -> Option<&HeaderValue> {
        match &self.stage {
            Stage::New => None,
            Stage::Seen(id) => Some(id),
            Stage::Free(pass) => Some(pass.provenance.request_id()),
        }
    }

    fn free(&mut self) -> Result<&mut FreePass> {
        match &mut self.stage {
            Stage::Free(pass) => Ok(pass),
            // There is no way to an upstream without the paywall's proof.
            _ => Error::e_explain(ErrorType::InternalError, "not a free request"),
        }
    }
}

impl Hooks {
    /// Reads the body, lets the paywall sell, writes what it says.
    async fn sell(&self, session: &mut ServerSession, sale: Box<Sale>, request_id: &HeaderValue) -> Result<()> {
        let body = body::read(session, sale.body_limit(), self.limits.body).await;
        match self.paywall.serve(sale, body).await {
            Served::Answer(answer) => respond::whole(session, *answer, request_id).await,
            Served::Stream { head, body } => respond::stream(session, head, body, request_id).await,
        }
    }

    fn set_limits(&self, session: &mut ServerSession) {
        // pingora keeps a connection for ever when the client asks for it; `None` says that it ends after this request.
        if session.get_keepalive().is_some() {
            session.set_keepalive(Some(self.limits.keepalive_seconds));
        }
        session.set_read_timeout(Some(self.limits.io));
        session.set_write_timeout(Some(self.limits.io));
        session.set_total_drain_timeout(Some(self.limits.io));
    }
}

#[async_trait]
impl ProxyHttp for Hooks {
    type CTX = Ctx;

    fn new_ctx(&self) -> Ctx {
        Ctx { stage: Stage::New, _counted: self.in_flight.enter() }
    }

    /// None: bodies pass as they are.
    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
        let session = session.as_downstream_mut();
        self.set_limits(session);
        let request_id = (self.request_ids)();
        let Ok(id) = HeaderValue::from_str(&request_id) else {
            return Error::e_explain(ErrorType::InternalError, "the id source made no header value");
        };
        ctx.stage = Stage::Seen(id.clone());
        let origin = head::Origin {
            ip: session.client_addr().and_then(|address| address.as_inet()).map(|address| address.ip()),
            tls: session.digest().is_some_and(|digest| digest.ssl_digest.is_some()),
        };
        let (head, provenance) = match head::read(session.req_header(), origin, request_id) {
            Ok(read) => read,
            Err(malformed) => {
                // Where such a request ends is not known: nothing after it is read as another.
                session.set_keepalive(None);
                respond::whole(session, respond::refusal(malformed.code(), &id), &id).await?;
                return Ok(true);
            }
        };
        match self.paywall.route(head) {
            Routed::Free(free) => {
                let Some(upstream) = free.policy().upstreams.get(&free.route().upstream).cloned() else {
                    return Error::e_explain(ErrorType::InternalError, "the route names no upstream");
                };
                ctx.stage = Stage::Free(Box::new(FreePass { free, upstream, provenance, addresses: None, attempt: 0 }));
                return Ok(false);
            }
            Routed::Answer(answer) => respond::whole(session, *answer, &id).await?,
            Routed::Priced(sale) => self.sell(session, sale, &id).await?,
            Routed::Receipt(ask) => {
                let answer = self.paywall.receipt(ask).await;
                respond::whole(session, answer, &id).await?;
            }
        }
        Ok(true)
    }

    async fn upstream_peer(&self, _: &mut Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
        let FreePass { upstream, addresses, attempt, .. } = ctx.free()?;
        let unreachable = |error: PeerError| Error::because(ErrorType::ConnectNoRoute, "no address", error).into_up();
        let addresses = match addresses {
            Some(addresses) => addresses,
            None => addresses.insert(self.peers.addresses(upstream).await.map_err(unreachable)?),
        };
        let address = addresses[*attempt % addresses.len()];
        Ok(Box::new(self.peers.peer(upstream, address).map_err(unreachable)?))
    }

    async fn upstream_request_filter(&self, _: &mut Session, request: &mut RequestHeader, ctx: &mut Ctx) -> Result<()> {
        let FreePass { free, upstream, provenance, .. } = ctx.free()?;
        request.set_raw_path(forward::upstream_path(upstream, free.path().as_str(), free.query()).as_bytes())?;
        provenance.stamp_request(request)?;
        forward::address_to(upstream, provenance.host(), request)
    }

    async fn response_filter(&self, _: &mut Session, response: &mut ResponseHeader, ctx: &mut Ctx) -> Result<()> {
        match ctx.request_id() {
            Some(id) if !response.status.is_informational() => response.insert_header(REQUEST_ID, id.clone()),
            _ => Ok(()),
        }
    }

    fn fail_to_connect(&self, _: &mut Session, peer: &HttpPeer, ctx: &mut Ctx, mut error: Box<Error>) -> Box<Error> {
        if let Ok(pass) = ctx.free() {
            if let Some(address) = peer._address.as_inet() {
                self.peers.refused(&pass.upstream, *address);
            }
            pass.attempt += 1;
            // Nothing was sent: the next address may be tried whatever the method.
            error.set_retry(pass.addresses.as_ref().is_some_and(|addresses| pass.attempt < addresses.len()));
        }
        error
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut Ctx) -> FailToProxy {
        let session = session.as_downstream_mut();
        let ended = FailToProxy { error_code: 0, can_reuse_downstream: false };
        if session.response_written().is_some_and(|head| !head.status.is_informational()) {
            // Too late for an answer: pingora drops the connection, and the client sees a broken body.
            session.shutdown().await;
            return ended;
        }
        let Some(code) = blame(error) else { return ended };
        log_failure(code, error, ctx);
        session.set_keepalive(None);
        let id = ctx.request_id().cloned().unwrap_or_else(|| HeaderValue::from_static("-"));
        // A client that is gone needs no answer.
        let _ = respond::whole(session, respond::refusal(code, &id), &id).await;
        FailToProxy { error_code: code.status(), can_reuse_downstream: false }
    }

    /// `log_failure` says it, with the request id.
    fn suppress_error_log(&self, _: &Session, _: &Ctx, _: &Error) -> bool {
        true
    }

    async fn logging(&self, session: &mut Session, _: Option<&Error>, ctx: &mut Ctx) {
        if let Stage::Free(pass) = &ctx.stage {
            tracing::debug!(
                request_id = pass.provenance.request_id().to_str().unwrap_or_default(),
                route = %pass.free.route().id,
                status = session.response_written().map(|head| head.status.as_u16()),
                "free request"
            );
        }
    }
}

/// What to tell the client; `None` when it is gone.
fn blame(error: &Error) -> Option<Code> {
    use ErrorType::*;
    match (error.esource(), error.etype()) {
        (ErrorSource::Upstream, ConnectTimedout | TLSHandshakeTimedout | ReadTimedout | WriteTimedout) => Some(Code::UpstreamTimeout),
        (ErrorSource::Upstream, _) => Some(Code::UpstreamFailed),
        (ErrorSource::Downstream, WriteError | ReadError | ConnectionClosed | WriteTimedout) => None,
        (ErrorSource::Downstream, InvalidHTTPHeader) => Some(Code::PathMalformed),
        (ErrorSource::Downstream, _) => Some(Code::BodyIncomplete),
        (_, etype) if *etype == respond::CUT => None,
        // Our own: a policy or head that cannot be forwarded.
        (ErrorSource::Internal | ErrorSource::Unset, _) => Some(Code::UpstreamFailed),
    }
}

fn log_failure(code: Code, error: &Error, ctx: &Ctx) {
    let request_id = ctx.request_id().and_then(|id| id.to_str().ok()).unwrap_or_default();
    let upstream = match &ctx.stage {
        Stage::Free(pass) => pass.upstream.name.as_str(),
        _ => "",
    };
    match error.esource() {
        ErrorSource::Downstream => tracing::debug!(request_id, %code, %error, "bad request"),
        _ => tracing::warn!(request_id, upstream, %code, %error, "free request failed"),
    }
}
