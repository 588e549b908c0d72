//! Payments for operators: list, show, grant. What `kas402 payments` asks a running gateway.

use super::{
    channels::{answer, unavailable},
    routes::Shared,
};
use crate::{
    gateway::ledger::{Cursor, Filter, Granted},
    protocol::ids::TxId,
};
use axum::{
    extract::{Path, Query, State},
    http::StatusCode,
    response::Response,
};
use serde::Deserialize;
use serde_json::json;

/// Most entries of one answer.
const PAGE: usize = 512;

#[derive(Deserialize)]
pub(super) struct Place {
    #[serde(default)]
    after: Cursor,
    limit: Option<usize>,
}

#[derive(Deserialize)]
pub(super) struct Grant {
    seconds: u64,
}

/// `{"entries": [..], "next": ..}`, at most 512; the next page begins after `next`, which is null at the end. A page may be empty
/// and not the last.
pub(super) async fn list(State(shared): State<Shared>, Query(place): Query<Place>, Query(filter): Query<Selected>) -> Response {
    let limit = place.limit.unwrap_or(PAGE).clamp(1, PAGE);
    match shared.inspected.payments(&filter.into(), place.after, limit).await {
        Ok(page) => answer(StatusCode::OK, &page),
        Err(error) => unavailable(&error),
    }
}

pub(super) async fn show(State(shared): State<Shared>, Path(id): Path<String>) -> Response {
    let Ok(id) = id.parse::<TxId>() else { return unknown() };
    match shared.inspected.payment(id).await {
        Ok(Some(detail)) => answer(StatusCode::OK, &detail),
        Ok(None) => unknown(),
        Err(error) => unavailable(&error),
    }
}

/// 200 with what became of it.
pub(super) async fn grant(State(shared): State<Shared>, Path(id): Path<String>, Query(grant): Query<Grant>) -> Response {
    let Ok(id) = id.parse::<TxId>() else { return unknown() };
    match shared.inspected.grant(id, grant.seconds).await {
        Ok(Granted::Unknown) => unknown(),
        Ok(granted) => answer(StatusCode::OK, &json!({ "granted": granted })),
        Err(error) => unavailable(&error),
    }
}

fn unknown() -> Response {
    answer(StatusCode::NOT_FOUND, &json!({ "error": "there is no such payment" }))
}

/// [`Filter`] as a query has it: every value is a text, and what is not of a filter is somebody else's.
#[derive(Deserialize)]
pub(super) struct Selected {
    since: Option<u64>,
    until: Option<u64>,
    route: Option<String>,
    payer: Option<String>,
    state: Option<crate::gateway::ledger::EntryState>,
    scheme: Option<crate::gateway::ledger::Scheme>,
    id: Option<String>,
}

impl From<Selected> for Filter {
    fn from(selected: Selected) -> Self {
        let Selected { since, until, route, payer, state, scheme, id } = selected;
        let millis = crate::protocol::time::UnixMillis;
        Self { since: since.map(millis), until: until.map(millis), route, payer, state, scheme, id }
    }
}
