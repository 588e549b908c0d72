//! A move of the gateway's store, begun and watched. What `kas402 store migrate` asks a running gateway.

use super::{channels::answer, routes::Shared};
use crate::store::moving::{Moved, Part};
use axum::{
    Json,
    extract::{State, rejection::JsonRejection},
    http::StatusCode,
    response::Response,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Where the store is to go.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MoveAsked {
    /// A path, the URL of a server, or a configuration, as the gateway sees them.
    pub to: String,
    /// Of a server that is named by its URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Open the gateway's store again after a move that was not completed.
    #[serde(default)]
    pub undo: bool,
}

/// How far the last move that was asked for has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum MoveProgress {
    #[default]
    None,
    /// Items of this part that were read.
    Running {
        part: Option<Part>,
        read: u64,
    },
    Moved {
        moved: Moved,
        to: String,
    },
    Undone {
        from: String,
        to: String,
    },
    Failed {
        error: String,
    },
}

/// Moves the store that the gateway serves from; `runtime::moving` implements it.
pub trait Relocate: Send + Sync + 'static {
    /// Begins, or says why not. It goes on by itself.
    fn begin(&self, asked: MoveAsked) -> Result<(), String>;

    fn progress(&self) -> MoveProgress;
}

/// 200 when it has begun; 409 with the reason when it has not.
pub(super) async fn begin(State(shared): State<Shared>, asked: Result<Json<MoveAsked>, JsonRejection>) -> Response {
    let begun = match asked {
        Ok(Json(asked)) => shared.relocate.begin(asked),
        Err(error) => Err(error.body_text()),
    };
    match begun {
        Ok(()) => progress(State(shared)).await,
        Err(error) => answer(StatusCode::CONFLICT, &json!({ "state": "failed", "error": error })),
    }
}

pub(super) async fn progress(State(shared): State<Shared>) -> Response {
    answer(StatusCode::OK, &shared.relocate.progress())
}
