//! Channels for operators: list, show, claim. What `kas402 channels` and `kas402 claim` ask a running gateway.

use super::routes::Shared;
use crate::{protocol::ids::ChannelId, store::StoreError};
use axum::{
    Json,
    extract::{Path, Query, State},
    http::{StatusCode, header::CACHE_CONTROL},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Most channels of one answer.
const PAGE: u32 = 256;

#[derive(Deserialize)]
pub(super) struct Page {
    /// The sequence to continue after.
    #[serde(default)]
    after: u64,
    /// Closed ones too.
    #[serde(default)]
    all: bool,
}

#[derive(Deserialize)]
pub(super) struct Fee {
    #[serde(default)]
    any_fee: bool,
}

/// `{"channels": [..]}`, at most 256; the next page begins after the last one's `sequence`, an empty one ends it.
pub(super) async fn list(State(shared): State<Shared>, Query(page): Query<Page>) -> Response {
    match shared.inspected.channels(!page.all, page.after, PAGE).await {
        Ok(channels) => answer(StatusCode::OK, &json!({ "channels": channels })),
        Err(error) => unavailable(&error),
    }
}

pub(super) async fn show(State(shared): State<Shared>, Path(id): Path<String>) -> Response {
    let Ok(id) = id.parse::<ChannelId>() else { return unknown() };
    match shared.inspected.channel(&id).await {
        Ok(Some(channel)) => answer(StatusCode::OK, &channel),
        Ok(None) => unknown(),
        Err(error) => unavailable(&error),
    }
}

/// 200 with the claim, or 409 and why there is none; both tell the channel.
pub(super) async fn claim(State(shared): State<Shared>, Path(id): Path<String>, Query(fee): Query<Fee>) -> Response {
    let Ok(id) = id.parse::<ChannelId>() else { return unknown() };
    let outcome = shared.inspected.claim(&id, fee.any_fee).await;
    answer(if outcome.claim.is_some() { StatusCode::OK } else { StatusCode::CONFLICT }, &outcome)
}

pub(super) fn answer(status: StatusCode, body: &impl Serialize) -> Response {
    (status, [(CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

fn unknown() -> Response {
    answer(StatusCode::NOT_FOUND, &json!({ "error": "there is no such channel" }))
}

pub(super) fn unavailable(error: &StoreError) -> Response {
    answer(StatusCode::SERVICE_UNAVAILABLE, &json!({ "error": error.to_string() }))
}
