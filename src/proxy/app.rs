//! The edge as pingora's server sees it: the requests of a connection, one after the other.
//!
//! Every request is admitted here, once. What the paywall answers or sells is answered here; a free request that only asks goes
//! through [`super::pass`], one with a body or an upgrade through pingora's proxy ([`super::hooks`]).

use super::{
    body, failure, head,
    hooks::{Admitted, Hooks},
    in_flight::InFlight,
    pass::{self, FreePass},
    peer::Peers,
    respond,
    server::RequestIds,
};
use crate::gateway::answer::{Paywall, Routed, Sale, Served};
use async_trait::async_trait;
use bytes::BytesMut;
use http::{
    HeaderValue, Method,
    header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING},
};
use pingora::{
    Error, ErrorType, Result,
    apps::{HttpPersistentSettings, HttpServerApp, HttpServerOptions, ReusedHttpStream},
    connectors::http::v1::Connector,
    http::ResponseHeader,
    protocols::http::{ServerSession, v1::server::HttpSession},
    proxy::HttpProxy,
    server::ShutdownWatch,
};
use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::Notify;

pub(super) struct App {
    pub paywall: Arc<dyn Paywall>,
    pub request_ids: RequestIds,
    pub in_flight: InFlight,
    pub limits: ClientLimits,
    pub peers: Arc<Peers>,
    /// For [`super::pass`]; priced requests have another, so that free ones neither take their connections nor leave them in a bad state.
    pub connector: Connector,
    /// For everything else that is free.
    pub proxy: Arc<HttpProxy<Hooks>>,
    pub options: HttpServerOptions,
    pub ending: Ending,
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

impl ClientLimits {
    pub(super) fn set(&self, session: &mut ServerSession) {
        // pingora keeps a connection for ever when the client asks for it; `None` says that it ends after this request.
        if session.get_keepalive().is_some() {
            session.set_keepalive(Some(self.keepalive_seconds));
        }
        session.set_read_timeout(Some(self.io));
        session.set_write_timeout(Some(self.io));
        session.set_total_drain_timeout(Some(self.io));
    }
}

/// No more requests are taken, on connections that wait for one.
#[derive(Default)]
pub(super) struct Ending {
    begun: AtomicBool,
    waiting: Notify,
}

impl Ending {
    fn begin(&self) {
        self.begun.store(true, Ordering::Release);
        self.waiting.notify_waiters();
    }

    async fn begun(&self) {
        let mut waiting = pin!(self.waiting.notified());
        // Registered before the flag is read, so that an end in between is not missed.
        waiting.as_mut().enable();
        if !self.begun.load(Ordering::Acquire) {
            waiting.await;
        }
    }
}

#[async_trait]
impl HttpServerApp for App {
    async fn process_new_http(self: &Arc<Self>, mut session: ServerSession, shutdown: &ShutdownWatch) -> Option<ReusedHttpStream> {
        if !self.hear(&mut session).await {
            return None;
        }
        let _counted = self.in_flight.enter();
        if *shutdown.borrow() {
            session.set_keepalive(None);
        }
        self.limits.set(&mut session);
        let request_id = (self.request_ids)();
        let Ok(id) = HeaderValue::from_str(&request_id) else {
            tracing::error!("the id source made no header value");
            return None;
        };
        match self.answer(&mut session, request_id, &id).await {
            Ok(None) => {
                let settings = HttpPersistentSettings::for_session(&session);
                let stream = session.finish().await.ok()??;
                Some(ReusedHttpStream::from_reusable_stream(stream, settings))
            }
            // Boxed: pingora's proxy takes much more room than all the rest, and most requests do not need it.
            Ok(Some(pass)) => Box::pin(self.hand_over(session, *pass, shutdown)).await,
            Err(Failed { error, pass }) => {
                let upstream = pass.as_ref().map_or("", |pass| pass.upstream.name.as_str());
                failure::tell(&mut session, &error, Some(&id), upstream).await;
                if let Some(pass) = pass {
                    pass.log(session.response_written());
                }
                None
            }
        }
    }

    async fn http_cleanup(&self) {
        self.ending.begin();
        self.proxy.http_cleanup().await;
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }
}

/// A request that has no answer yet.
struct Failed {
    error: Box<Error>,
    /// What was on its way.
    pass: Option<Box<FreePass>>,
}

impl From<Box<Error>> for Failed {
    fn from(error: Box<Error>) -> Self {
        Self { error, pass: None }
    }
}

impl App {
    /// Reads a request's head. What is none, or asks for a tunnel, is answered here; then the connection is over.
    async fn hear(&self, session: &mut ServerSession) -> bool {
        let read = tokio::select! {
            biased;
            read = session.read_request() => read,
            () = self.ending.begun() => return false,
        };
        let status = match read {
            Ok(true) if session.req_header().method == Method::CONNECT => 405,
            Ok(heard) => return heard,
            Err(error) => {
                tracing::debug!(%error, "not a request");
                if !matches!(error.etype(), ErrorType::InvalidHTTPHeader) {
                    session.shutdown().await;
                    return false;
                }
                400
            }
        };
        // A client that is gone needs no answer.
        let _ = session.respond_error(status).await;
        session.shutdown().await;
        false
    }

    /// Answers, or returns the free request that pingora's proxy has to pass on.
    async fn answer(&self, session: &mut ServerSession, request_id: String, id: &HeaderValue) -> Result<Option<Box<FreePass>>, Failed> {
        let origin = head::Origin {
            ip: session.client_addr().and_then(|address| address.as_inet()).map(|address| address.ip()),
            tls: session.digest().is_some_and(|digest| digest.ssl_digest.is_some()),
        };
        let head::Read { head, provenance, has_body } = match head::read(session.req_header(), origin, request_id, id.clone()) {
            Ok(read) => read,
            Err(malformed) => {
                // Where such a request ends is not known: nothing after it is read as another.
                session.set_keepalive(None);
                respond::whole(session, respond::refusal(malformed.code(), id), id).await?;
                return Ok(None);
            }
        };
        match self.paywall.route(head) {
            Routed::Free(free) => {
                let Some(upstream) = free.policy().upstreams.get(&free.route().upstream).cloned() else {
                    return Err(Error::explain(ErrorType::InternalError, "the route names no upstream").into());
                };
                let mut pass = Box::new(FreePass { free: *free, upstream, provenance });
                // HTTP/2 needs no header to frame a body.
                let has_body = has_body || (session.is_http2() && !session.is_body_empty());
                if !pass::only_asks(session.req_header(), has_body) {
                    return Ok(Some(pass));
                }
                match pass::pass(&self.peers, &self.connector, session, &mut pass).await {
                    Ok(()) => pass.log(session.response_written()),
                    Err(error) => return Err(Failed { error, pass: Some(pass) }),
                }
            }
            Routed::Answer(answer) => respond::whole(session, *answer, id).await?,
            Routed::Priced(sale) => self.sell(session, sale, id).await?,
            Routed::Receipt(ask) => {
                let answer = self.paywall.receipt(ask).await;
                respond::whole(session, answer, id).await?;
            }
        }
        Ok(None)
    }

    /// Reads the body, lets the paywall sell, writes what it says.
    async fn sell(&self, session: &mut ServerSession, sale: Box<Sale>, request_id: &HeaderValue) -> Result<()> {
        let body = body::read(session, sale.body_limit(), self.limits.body).await;
        match self.paywall.serve(sale, body).await {
            Served::Answer(answer) => respond::whole(session, *answer, request_id).await,
            Served::Stream { head, body } => respond::stream(session, head, body, request_id).await,
        }
    }

    async fn hand_over(&self, session: ServerSession, pass: FreePass, shutdown: &ShutdownWatch) -> Option<ReusedHttpStream> {
        let mut session = match session {
            ServerSession::H1(session) => unread(session, self.limits.keepalive_seconds).await?,
            session => session,
        };
        Admitted::attach(pass, &mut session);
        self.proxy.process_new_http(session, shutdown).await
    }
}

/// The connection as it was before the head was read: pingora's proxy reads it itself. What pingora calls a pipelined request, bytes that were
/// read already and come first, is this request.
async fn unread(mut session: HttpSession, keepalive_seconds: u64) -> Option<ServerSession> {
    let mut read = BytesMut::from(&session.get_headers_raw_bytes()[..]);
    // By its own word this is a request without a body now, on a connection that stays: everything behind the head is given back.
    for name in [CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION] {
        session.req_header_mut().remove_header(&name);
    }
    session.set_pipelining_enabled(true);
    session.set_server_keepalive(Some(keepalive_seconds));
    let (stream, behind) = session.reuse().await.ok()??.into_parts();
    read.extend(behind.into_iter().flatten());
    let mut session = ServerSession::new_http1(stream);
    session.set_keepalive(Some(keepalive_seconds));
    session.set_pipelined_prefix(read);
    Some(session)
}

impl FreePass {
    /// Free requests are as many as there are; each is a line for who looks for it.
    pub(super) fn log(&self, answer: Option<&ResponseHeader>) {
        tracing::debug!(
            request_id = self.provenance.request_id().to_str().unwrap_or_default(),
            route = %self.free.route().id,
            status = answer.map(|head| head.status.as_u16()),
            "free request"
        );
    }
}
