//! The endpoints, and who may call them.

use super::rate::Bucket;
use crate::{
    gateway::facilitate::{Act, Caller, Facilitator, Verdict},
    protocol::{bearer, refusal::Code},
};
use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
    },
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::time::timeout;

/// Longest time for the body of a call.
const BODY_WAIT: Duration = Duration::from_secs(30);
/// When it is worth to try again while as many calls run as may, seconds: any of them may end at any time.
const RUNNING_AGAIN: u32 = 1;

#[derive(Clone)]
struct Shared {
    facilitator: Arc<dyn Facilitator>,
    request_ids: Arc<dyn Fn() -> String + Send + Sync>,
    /// By tenant.
    calls: Arc<Mutex<HashMap<String, Calls>>>,
    body_limit: usize,
}

/// What a tenant has left.
struct Calls {
    bucket: Bucket,
    running: Arc<AtomicU32>,
}

/// A call that runs, as long as something holds it.
struct Running(Arc<AtomicU32>);

impl Running {
    fn among(running: &Arc<AtomicU32>, most: u32) -> Option<Self> {
        let more = |running: u32| running.checked_add(1).filter(|running| *running <= most);
        running.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Self(running.clone()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) fn router(facilitator: Arc<dyn Facilitator>, request_ids: Arc<dyn Fn() -> String + Send + Sync>, body_limit: usize) -> Router {
    let shared = Shared { facilitator, request_ids, calls: Arc::default(), body_limit };
    // The fallback is inside, so that strangers learn nothing about which paths exist.
    Router::new()
        .route("/supported", get(supported))
        .route("/verify", post(verify))
        .route("/settle", post(settle))
        .fallback(|| async { StatusCode::NOT_FOUND })
        .layer(middleware::from_fn_with_state(shared.clone(), guard))
        .with_state(shared)
}

/// Token first, then rate; only then is anything else of the request looked at.
async fn guard(State(shared): State<Shared>, mut request: Request, next: Next) -> Response {
    // The rest waits for nothing, and says whether the facilitator is well; it is refused in the form of a settlement.
    let (act, runs) = match request.uri().path() {
        "/verify" => (Act::Verify, true),
        path => (Act::Settle, path == "/settle"),
    };
    let Some(caller) = shared.facilitator.caller(bearer::presented(request.headers())) else {
        let mut refused = answer(shared.facilitator.refuse(None, act, Code::TenantUnknown, None));
        refused.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return refused;
    };
    match shared.take(&caller, runs) {
        Ok(running) => drop(running.map(|running| request.extensions_mut().insert(Arc::new(running)))),
        Err(seconds) => return answer(shared.facilitator.refuse(Some(&caller), act, Code::TenantRate, Some(seconds))),
    };
    request.extensions_mut().insert(caller);
    next.run(request).await
}

impl Shared {
    fn take(&self, caller: &Caller, runs: bool) -> Result<Option<Running>, u32> {
        let (rate, now) = (caller.rate(), self.facilitator.now());
        let mut tenants = self.calls.lock().expect("no panic while the calls are locked");
        if !tenants.contains_key(caller.tenant()) {
            tenants.insert(caller.tenant().to_owned(), Calls { bucket: Bucket::full(rate, now), running: Arc::default() });
        }
        let calls = tenants.get_mut(caller.tenant()).expect("it was put there above");
        calls.bucket.take(rate, now)?;
        let running = runs.then(|| Running::among(&calls.running, caller.running()).ok_or(RUNNING_AGAIN));
        running.transpose()
    }

    async fn call(self, act: Act, request: Request) -> Response {
        let (mut parts, body) = request.into_parts();
        let running = parts.extensions.remove::<Arc<Running>>();
        let Some(caller) = parts.extensions.get::<Caller>().cloned() else {
            // The guard puts it there.
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        };
        let refuse = |code| answer(self.facilitator.refuse(Some(&caller), act, code, None));
        if declared(&parts.headers).is_some_and(|length| length > self.body_limit) {
            return refuse(Code::BodyTooLarge);
        }
        let body = match timeout(BODY_WAIT, to_bytes(body, self.body_limit)).await {
            Ok(Ok(body)) => body,
            Ok(Err(error)) if is_too_long(&error) => return refuse(Code::BodyTooLarge),
            Ok(Err(_)) | Err(_) => return refuse(Code::CallMalformed),
        };
        let request_id = (self.request_ids)();
        let tenant = caller.tenant().to_owned();
        let (facilitator, id) = (self.facilitator.clone(), request_id.clone());
        // Whoever hangs up has not made room for another call: what was begun goes on.
        let call = tokio::spawn(async move {
            let _running = running;
            facilitator.call(caller, act, body, id).await
        });
        let Ok(verdict) = call.await else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
        tracing::debug!(%request_id, %tenant, ?act, status = verdict.status, "facilitator");
        answer(verdict)
    }
}

fn declared(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Whether reading ended because of the limit, and not because the client broke off.
fn is_too_long(error: &axum::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if inner.to_string().contains("length limit") {
            return true;
        }
        source = inner.source();
    }
    false
}

async fn supported(State(shared): State<Shared>, request: Request) -> Response {
    match request.extensions().get::<Caller>() {
        Some(caller) => answer(shared.facilitator.supported(caller)),
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn verify(State(shared): State<Shared>, request: Request) -> Response {
    shared.call(Act::Verify, request).await
}

async fn settle(State(shared): State<Shared>, request: Request) -> Response {
    shared.call(Act::Settle, request).await
}

fn answer(verdict: Verdict) -> Response {
    let mut response = Response::new(Body::from(verdict.body));
    *response.status_mut() = StatusCode::from_u16(verdict.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(seconds) = verdict.retry_after_seconds {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    response
}
