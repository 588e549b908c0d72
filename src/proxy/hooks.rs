//! pingora's own proxy, for the free requests that bring a body or ask for an upgrade: it moves bodies both ways at once.
//!
//! Who comes here is admitted ([`super::app`]); the hooks that pingora repeats on a retry (`upstream_peer`,
//! `upstream_request_filter`) see free requests only.

use super::{
    app::ClientLimits,
    failure, forward,
    pass::FreePass,
    peer::{PeerError, Peers},
    resolve::Addresses,
};
use crate::wire::headers::REQUEST_ID;
use async_trait::async_trait;
use http::HeaderValue;
use pingora::{
    Error, ErrorType, Result,
    http::{RequestHeader, ResponseHeader},
    modules::http::HttpModules,
    protocols::http::ServerSession,
    proxy::{FailToProxy, ProxyHttp, Session},
    upstreams::peer::HttpPeer,
};
use std::{
    any::Any,
    sync::{Arc, Mutex, PoisonError},
};

pub(super) struct Hooks {
    pub peers: Arc<Peers>,
    pub limits: ClientLimits,
}

/// An admitted request on its way through pingora's proxy, which reads the head once more from a connection of HTTP/1 and keeps that of HTTP/2:
/// it waits in the connection's context, or in the head itself.
#[derive(Clone)]
pub(super) struct Admitted(Arc<Mutex<Option<FreePass>>>);

impl Admitted {
    pub(super) fn attach(pass: FreePass, session: &mut ServerSession) {
        let admitted = Self(Arc::new(Mutex::new(Some(pass))));
        if session.is_http2() {
            session.req_header_mut().extensions_mut().insert(admitted);
        } else {
            session.set_connection_user_context(Some(Box::new(admitted)));
        }
    }

    fn take(&self) -> Option<FreePass> {
        // A panic while holding the lock leaves a whole value behind.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// `None` until the admitted request is taken over.
pub(super) struct Ctx(Option<Box<OnItsWay>>);

struct OnItsWay {
    pass: FreePass,
    addresses: Option<Addresses>,
    /// Index of the address to try.
    attempt: usize,
}

impl Ctx {
    fn take_over(&mut self, admitted: &Admitted) {
        self.0 = admitted.take().map(|pass| Box::new(OnItsWay { pass, addresses: None, attempt: 0 }));
    }

    fn request_id(&self) -> Option<&HeaderValue> {
        self.0.as_ref().map(|on| on.pass.provenance.request_id())
    }

    fn on_its_way(&mut self) -> Result<&mut OnItsWay> {
        // There is no way to an upstream without the paywall's proof.
        self.0.as_deref_mut().ok_or_else(|| Error::explain(ErrorType::InternalError, "not an admitted request"))
    }
}

#[async_trait]
impl ProxyHttp for Hooks {
    type CTX = Ctx;

    fn new_ctx(&self) -> Ctx {
        Ctx(None)
    }

    /// None: bodies pass as they are.
    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    fn on_connection_reuse(&self, _: &mut Session, ctx: &mut Ctx, attached: Box<dyn Any + Send + Sync>) {
        if let Some(admitted) = attached.downcast_ref() {
            ctx.take_over(admitted);
        }
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
        let session = session.as_downstream_mut();
        self.limits.set(session);
        if let Some(admitted) = session.req_header_mut().extensions_mut().remove::<Admitted>() {
            ctx.take_over(&admitted);
        }
        ctx.on_its_way().map(|_| false)
    }

    async fn upstream_peer(&self, _: &mut Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
        let OnItsWay { pass, addresses, attempt } = ctx.on_its_way()?;
        let unreachable = |error: PeerError| Error::because(ErrorType::ConnectNoRoute, "no address", error).into_up();
        let addresses = match addresses {
            Some(addresses) => addresses,
            None => addresses.insert(self.peers.addresses(&pass.upstream).await.map_err(unreachable)?),
        };
        let address = addresses[*attempt % addresses.len()];
        Ok(Box::new(self.peers.peer(&pass.upstream, address).map_err(unreachable)?))
    }

    async fn upstream_request_filter(&self, _: &mut Session, request: &mut RequestHeader, ctx: &mut Ctx) -> Result<()> {
        let FreePass { free, upstream, provenance } = &ctx.on_its_way()?.pass;
        request.set_raw_path(forward::upstream_path(upstream, free.head()).as_bytes())?;
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
        if let Ok(on) = ctx.on_its_way() {
            if let Some(address) = peer._address.as_inet() {
                self.peers.refused(&on.pass.upstream, *address);
            }
            on.attempt += 1;
            // Nothing was sent: the next address may be tried whatever the method.
            error.set_retry(on.addresses.as_ref().is_some_and(|addresses| on.attempt < addresses.len()));
        }
        error
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut Ctx) -> FailToProxy {
        let upstream = ctx.0.as_ref().map_or("", |on| on.pass.upstream.name.as_str());
        let error_code = failure::tell(session.as_downstream_mut(), error, ctx.request_id(), upstream).await;
        FailToProxy { error_code, can_reuse_downstream: false }
    }

    /// `failure` says it, with the request id.
    fn suppress_error_log(&self, _: &Session, _: &Ctx, _: &Error) -> bool {
        true
    }

    async fn logging(&self, session: &mut Session, _: Option<&Error>, ctx: &mut Ctx) {
        if let Some(on) = &ctx.0 {
            on.pass.log(session.response_written());
        }
    }
}
