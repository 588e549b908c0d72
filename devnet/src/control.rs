//! The devnet over HTTP, for tests in other processes. Loopback only, JSON in and out, no authentication.
//!
//! Every failure is `{"error": "...", "code": "..."}`; the status says whose fault it is (see [`ApiError`]).

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest, Path, Query, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use kaspa_addresses::Address;
use kaspa_consensus_core::tx::Transaction;
use kaspa_rpc_core::{RpcMempoolEntry, RpcUtxosByAddressesEntry};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::{Devnet, Error, FundRequest, Invalid, Status};

/// The routes; `shutdown` is notified by `POST /shutdown`.
pub fn router(devnet: Arc<Devnet>, shutdown: Arc<Notify>) -> Router {
    Router::new()
        .route("/status", get(status))
        .route("/fund", post(fund))
        .route("/mine", post(mine))
        .route("/mining", post(mining))
        .route("/node/{node}/stop", post(stop_node))
        .route("/node/{node}/start", post(start_node))
        .route("/node/{node}/restart", post(restart_node))
        .route("/node/{node}/mempool", get(mempool))
        .route("/partition", post(partition))
        .route("/rejoin", post(rejoin))
        .route("/submit", post(submit))
        .route("/address/{address}/utxos", get(utxos))
        .with_state(devnet)
        .route(
            "/shutdown",
            post(async move || {
                shutdown.notify_one();
                done()
            }),
        )
}

type Net = State<Arc<Devnet>>;
type Answer<T = Json<Value>> = Result<T, ApiError>;

/// A failed call. 400: the request can never work; 404: no such node; 409: not in the present state; 422: the node
/// refused the transaction; 504: it took too long; 500: everything else.
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.message, "code": self.code }))).into_response()
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let (status, code) = match &error {
            Error::Invalid(_) => (StatusCode::BAD_REQUEST, "invalid"),
            Error::UnknownNode(_) => (StatusCode::NOT_FOUND, "unknown_node"),
            Error::NodeStopped(_) => (StatusCode::CONFLICT, "node_stopped"),
            Error::NodeRunning(_) => (StatusCode::CONFLICT, "node_running"),
            Error::SingleNode => (StatusCode::CONFLICT, "single_node"),
            Error::FaucetShort { .. } => (StatusCode::CONFLICT, "faucet_short"),
            Error::Rejected { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "rejected"),
            Error::Timeout(_) => (StatusCode::GATEWAY_TIMEOUT, "timeout"),
            Error::NodeFailed { .. } | Error::BlockRejected { .. } | Error::Rpc(_) | Error::Io(_) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "internal")
            }
        };
        Self { status, code, message: error.to_string() }
    }
}

impl From<Invalid> for ApiError {
    fn from(invalid: Invalid) -> Self {
        Error::from(invalid).into()
    }
}

/// A JSON body, whatever its content type says; mistakes come back as [`ApiError`].
struct Body<T>(T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let invalid = |message| ApiError { status: StatusCode::BAD_REQUEST, code: "invalid", message };
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| invalid(rejection.body_text()))?;
        serde_json::from_slice(&bytes).map(Body).map_err(|error| invalid(error.to_string()))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FundBody {
    address: String,
    sompi: u64,
    #[serde(default = "one")]
    count: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MineBody {
    #[serde(default = "one")]
    blocks: u64,
    node: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MiningBody {
    rate: f64,
    node: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SubmitBody {
    #[serde(default)]
    node: usize,
    transaction: String,
    #[serde(default)]
    allow_orphan: bool,
}

#[derive(Deserialize)]
struct NodeQuery {
    #[serde(default)]
    node: usize,
}

#[derive(Serialize)]
struct OutpointBody {
    txid: String,
    index: u32,
}

fn one() -> u64 {
    1
}

fn done() -> Json<Value> {
    Json(json!({ "ok": true }))
}

fn address(text: &str) -> Result<Address, Invalid> {
    Ok(Address::try_from(text)?)
}

async fn status(State(devnet): Net) -> Answer<Json<Status>> {
    Ok(Json(devnet.status().await?))
}

async fn fund(State(devnet): Net, Body(body): Body<FundBody>) -> Answer {
    let request = FundRequest { address: address(&body.address)?, amount_sompi: body.sompi, count: body.count };
    let funded = devnet.fund(&request).await?;
    let outpoints: Vec<_> =
        funded.outpoints.iter().map(|outpoint| OutpointBody { txid: outpoint.transaction_id.to_string(), index: outpoint.index }).collect();
    let txids: Vec<_> = funded.txids().iter().map(ToString::to_string).collect();
    Ok(Json(json!({
        "txid": funded.txid().to_string(),
        "txids": txids,
        "outpoints": outpoints,
        "sompi": funded.amount_sompi,
    })))
}

async fn mine(State(devnet): Net, Body(body): Body<MineBody>) -> Answer {
    devnet.mine(body.node, body.blocks).await?;
    Ok(done())
}

async fn mining(State(devnet): Net, Body(body): Body<MiningBody>) -> Answer {
    devnet.set_mining_rate(body.node, body.rate)?;
    Ok(done())
}

async fn stop_node(State(devnet): Net, Path(node): Path<usize>) -> Answer {
    devnet.stop_node(node).await?;
    Ok(done())
}

async fn start_node(State(devnet): Net, Path(node): Path<usize>) -> Answer {
    devnet.start_node(node).await?;
    Ok(done())
}

async fn restart_node(State(devnet): Net, Path(node): Path<usize>) -> Answer {
    devnet.restart_node(node).await?;
    Ok(done())
}

async fn partition(State(devnet): Net) -> Answer {
    devnet.partition().await?;
    Ok(done())
}

async fn rejoin(State(devnet): Net) -> Answer {
    devnet.rejoin().await?;
    Ok(done())
}

async fn submit(State(devnet): Net, Body(body): Body<SubmitBody>) -> Answer {
    let bytes = hex::decode(&body.transaction).map_err(|_| Invalid::Transaction)?;
    let tx: Transaction = borsh::from_slice(&bytes).map_err(|_| Invalid::Transaction)?;
    let txid = devnet.submit(body.node, &tx, body.allow_orphan).await?;
    Ok(Json(json!({ "txid": txid.to_string() })))
}

async fn mempool(State(devnet): Net, Path(node): Path<usize>) -> Answer {
    let entries: Vec<_> = devnet.mempool(node).await?.into_iter().map(mempool_entry).collect::<Result<_, _>>()?;
    Ok(Json(json!({ "transactions": entries })))
}

fn mempool_entry(entry: RpcMempoolEntry) -> Result<Value, Error> {
    let (fee, is_orphan) = (entry.fee, entry.is_orphan);
    let tx = Transaction::try_from(entry.transaction)?;
    let hex = hex::encode(borsh::to_vec(&tx).expect("writing to memory does not fail"));
    Ok(json!({ "txid": tx.id().to_string(), "fee_sompi": fee, "orphan": is_orphan, "transaction": hex }))
}

async fn utxos(State(devnet): Net, Path(text): Path<String>, Query(query): Query<NodeQuery>) -> Answer {
    let utxos: Vec<_> = devnet.utxos(query.node, &address(&text)?).await?.into_iter().map(utxo).collect();
    Ok(Json(json!({ "utxos": utxos })))
}

fn utxo(utxo: RpcUtxosByAddressesEntry) -> Value {
    json!({
        "txid": utxo.outpoint.transaction_id.to_string(),
        "index": utxo.outpoint.index,
        "sompi": utxo.utxo_entry.amount,
        "block_daa_score": utxo.utxo_entry.block_daa_score,
        "coinbase": utxo.utxo_entry.is_coinbase,
    })
}
