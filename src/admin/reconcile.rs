//! The store against the chain, for operators. What `kas402 reconcile` asks a running gateway.

use super::{channels::answer, routes::Shared};
use crate::gateway::ledger::Cursor;
use axum::{
    extract::{Query, State},
    http::StatusCode,
    response::Response,
};
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    after: Cursor,
    #[serde(default)]
    repair: bool,
}

/// 200 with a page of what is different; 503 when the node or the store cannot tell.
pub(super) async fn reconcile(State(shared): State<Shared>, Query(asked): Query<Asked>) -> Response {
    match shared.inspected.reconcile(asked.after, asked.repair).await {
        Ok(page) => answer(StatusCode::OK, &page),
        Err(error) => answer(StatusCode::SERVICE_UNAVAILABLE, &json!({ "error": error.to_string() })),
    }
}
