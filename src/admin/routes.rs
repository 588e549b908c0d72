//! The endpoints, and who may see them.

use super::{
    channels,
    inspect::Inspect,
    moving::{self, Relocate},
    payments, reconcile,
};
use crate::protocol::bearer::{self, Token};
use axum::{
    Json, Router,
    extract::{Request, State},
    http::{
        HeaderMap, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE},
    },
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::json;
use std::sync::Arc;

/// The media type of Prometheus' text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Who may see more than yes or no.
pub(super) enum Access {
    /// Whoever could connect: the socket's mode has decided.
    Everybody,
    Bearer(Token),
}

impl Access {
    fn granted(&self, headers: &HeaderMap) -> bool {
        match self {
            Self::Everybody => true,
            Self::Bearer(token) => bearer::presented(headers).is_some_and(|presented| token.is(presented)),
        }
    }
}

#[derive(Clone)]
pub(super) struct Shared {
    pub inspected: Arc<dyn Inspect>,
    pub relocate: Arc<dyn Relocate>,
    access: Arc<Access>,
}

pub(super) fn router(inspected: Arc<dyn Inspect>, relocate: Arc<dyn Relocate>, access: Access) -> Router {
    let shared = Shared { inspected, relocate, access: Arc::new(access) };
    // The fallback is inside, so that strangers learn nothing about which paths exist.
    let guarded = Router::new()
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .route("/channels", get(channels::list))
        .route("/channels/{id}", get(channels::show))
        .route("/channels/{id}/claim", post(channels::claim))
        .route("/payments", get(payments::list))
        .route("/payments/{id}", get(payments::show))
        .route("/payments/{id}/grant", post(payments::grant))
        .route("/reconcile", post(reconcile::reconcile))
        .route("/store/migrate", post(moving::begin).get(moving::progress))
        .fallback(|| async { StatusCode::NOT_FOUND })
        .layer(middleware::from_fn_with_state(shared.clone(), guard));
    Router::new().route("/healthz", get(alive)).route("/readyz", get(ready)).merge(guarded).with_state(shared)
}

async fn guard(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    if shared.access.granted(request.headers()) {
        return next.run(request).await;
    }
    (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")]).into_response()
}

async fn alive() -> StatusCode {
    StatusCode::OK
}

/// 200 or 503 for everybody; why not, only for who may see it.
async fn ready(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let readiness = shared.inspected.readiness();
    let status = if readiness.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if !shared.access.granted(&headers) {
        return status.into_response();
    }
    let reasons: Vec<String> = readiness.as_ref().err().into_iter().cloned().collect();
    (status, [(CACHE_CONTROL, "no-store")], Json(json!({ "ready": readiness.is_ok(), "reasons": reasons }))).into_response()
}

async fn metrics(State(shared): State<Shared>) -> Response {
    ([(CONTENT_TYPE, METRICS_TYPE)], shared.inspected.metrics()).into_response()
}

async fn status(State(shared): State<Shared>) -> Response {
    ([(CACHE_CONTROL, "no-store")], Json(shared.inspected.status().await.json())).into_response()
}
