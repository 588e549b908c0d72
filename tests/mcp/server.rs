//! An unmodified MCP server for the tests, of the revision with sessions and resumable streams. It runs every call it gets, and
//! remembers each; `arguments.how` says how a call is answered.
//!
//! `json` (default), `sse`; `progress`: one notification, the answer when the gate opens; `closes`: the stream ends, the answer comes to
//! who resumes it; `moves`: the answer goes to who resumes the stream, which itself stays silent; `error`: `isError`; `fails`: a
//! JSON-RPC error; `asks`: more input first; `status`: HTTP 503; `breaks`: the stream breaks off; `long`: a mebibyte.

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use futures::{StreamExt, stream};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::{
    net::TcpListener,
    sync::{broadcast, watch},
};

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

#[derive(Clone)]
struct Shared {
    seen: Arc<Mutex<Vec<Seen>>>,
    /// Answers of streams, by the id of the event after which they come.
    owed: Arc<Mutex<HashMap<String, Value>>>,
    gate: Arc<watch::Sender<bool>>,
    /// What every open GET stream is sent.
    pushed: broadcast::Sender<Value>,
}

pub struct McpServer {
    pub address: SocketAddr,
    shared: Shared,
}

pub const SESSION: &str = "session-1";

impl McpServer {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Shared {
            seen: Arc::default(),
            owed: Arc::default(),
            gate: Arc::new(watch::Sender::new(false)),
            pushed: broadcast::Sender::new(64),
        };
        let app = Router::new().fallback(answer).with_state(shared.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, shared }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Calls of this tool, whatever form they came in.
    pub fn runs(&self, tool: &str) -> usize {
        let calls = |seen: &Seen| -> usize {
            // A forgiving server: any number of documents, any letter case.
            let text = String::from_utf8_lossy(&seen.body).to_lowercase();
            let names: Vec<_> = text.match_indices("\"name\"").map(|(at, _)| &text[at + 6..]).collect();
            let named = |rest: &&str| rest.trim_start_matches([':', ' ', '"', '[']).trim_start().starts_with(tool);
            if text.contains("call") { names.into_iter().filter(|rest| named(rest)).count() } else { 0 }
        };
        self.seen().iter().map(calls).sum()
    }

    pub fn last(&self) -> Seen {
        self.seen().pop().expect("a request")
    }

    pub fn open_gate(&self) {
        self.shared.gate.send_replace(true);
    }

    pub fn close_gate(&self) {
        self.shared.gate.send_replace(false);
    }

    /// Sends a message on every GET stream.
    pub fn push(&self, message: Value) {
        self.shared.pushed.send(message).expect("a stream is open");
    }
}

fn event(id: &str, data: &str) -> String {
    format!("event: message\nid: {id}\ndata: {data}\n\n")
}

fn sse(parts: impl futures::Stream<Item = String> + Send + 'static) -> Response {
    let body = Body::from_stream(parts.map(|part| Ok::<_, Infallible>(Bytes::from(part))));
    ([("content-type", "text/event-stream"), ("mcp-session-id", SESSION)], body).into_response()
}

fn json_answer(value: &Value) -> Response {
    ([("content-type", "application/json"), ("mcp-session-id", SESSION)], value.to_string()).into_response()
}

async fn answer(State(shared): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, usize::MAX).await else { return StatusCode::BAD_REQUEST.into_response() };
    let seen = Seen { method: parts.method.to_string(), headers: parts.headers.clone(), body: body.clone() };
    shared.seen.lock().unwrap().push(seen);
    if parts.headers.get("mcp-session-id").is_some_and(|session| session != SESSION) {
        let error = json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32001, "message": "Session not found"}});
        return (StatusCode::NOT_FOUND, [("content-type", "application/json")], error.to_string()).into_response();
    }
    match parts.method.as_str() {
        "DELETE" => StatusCode::NO_CONTENT.into_response(),
        "GET" => get(&shared, &parts.headers),
        "POST" => post(&shared, &body),
        _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
    }
}

/// What is owed after the event that the client saw last, then whatever is pushed.
fn get(shared: &Shared, headers: &HeaderMap) -> Response {
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
    let owed = shared.owed.lock().unwrap().get(last).cloned();
    let replayed = stream::iter(owed.map(|answer| event(&format!("{last}-answer"), &answer.to_string())));
    let pushed = stream::unfold(shared.pushed.subscribe(), |mut pushed| async move {
        let message = pushed.recv().await.ok()?;
        Some((event("pushed", &message.to_string()), pushed))
    });
    sse(stream::iter([": open\n\n".to_owned()]).chain(replayed).chain(pushed))
}

fn post(shared: &Shared, body: &Bytes) -> Response {
    let Ok(message) = serde_json::from_slice::<Value>(body) else { return StatusCode::BAD_REQUEST.into_response() };
    let id = message["id"].clone();
    if id.is_null() {
        return StatusCode::ACCEPTED.into_response();
    }
    let result = |result: Value| json!({"jsonrpc": "2.0", "id": id, "result": result});
    match message["method"].as_str().unwrap_or_default() {
        "tools/list" => json_answer(&result(json!({"tools": [
            {"name": "search", "description": "Searches.", "inputSchema": {"type": "object"}},
            {"name": "image_new", "inputSchema": {"type": "object"}},
            {"name": "echo", "inputSchema": {"type": "object"}},
        ]}))),
        "tools/call" => call(shared, &message),
        "initialize" => json_answer(&result(json!({"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "test"}}))),
        method => json_answer(&result(json!({"method": method}))),
    }
}

fn call(shared: &Shared, message: &Value) -> Response {
    let (id, params) = (message["id"].clone(), &message["params"]);
    let arguments = params["arguments"].clone();
    let text = format!("secret of {} {arguments}", params["name"].as_str().unwrap_or("?"));
    let result = json!({
        "content": [{"type": "text", "text": text}],
        "structuredContent": {"tokens": arguments["tokens"]},
        "_meta": {"server": "its own"},
    });
    let answer = json!({"jsonrpc": "2.0", "id": id, "result": result});
    let notification = |words: &str| {
        let token = &params["_meta"]["progressToken"];
        json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": 1, "message": words}})
    };
    let named = |kind: &str| format!("{kind}-{}", arguments["tag"].as_str().unwrap_or("0"));
    match arguments["how"].as_str().unwrap_or("json") {
        "sse" => sse(stream::iter([event("1", &answer.to_string())])),
        "progress" => {
            let place = named("progress");
            shared.owed.lock().unwrap().insert(place.clone(), answer.clone());
            let mut gate = shared.gate.subscribe();
            let last = async move {
                gate.wait_for(|open| *open).await.unwrap();
                event("2", &answer.to_string())
            };
            sse(stream::iter([event(&place, &notification("on its way").to_string())]).chain(stream::once(last)))
        }
        "closes" => {
            let place = named("closes");
            shared.owed.lock().unwrap().insert(place.clone(), answer);
            sse(stream::iter([format!("id: {place}\nretry: 20\ndata:\n\n")]))
        }
        "moves" => {
            let place = named("moves");
            shared.owed.lock().unwrap().insert(place.clone(), answer);
            sse(stream::iter([event(&place, &notification("moved").to_string())]).chain(stream::pending()))
        }
        "breaks" => {
            let parts = [Ok(Bytes::from(": begins\n\n")), Err(std::io::Error::other("breaks off"))];
            ([("content-type", "text/event-stream")], Body::from_stream(stream::iter(parts))).into_response()
        }
        // What nobody can look at, half a message, and the handle of a task that nobody asked for.
        "coded" => ([("content-type", "text/event-stream"), ("content-encoding", "gzip")], event("1", &answer.to_string())).into_response(),
        "half" => sse(stream::iter([format!("data: {{\"result\":{{\"content\":\"{}", text.replace('"', ""))])),
        "task" => json_answer(&json!({"jsonrpc": "2.0", "id": id, "result": {"resultType": "task", "taskId": text}})),
        "error" => {
            json_answer(&json!({"jsonrpc": "2.0", "id": id, "result": {"isError": true, "content": [{"type": "text", "text": text}]}}))
        }
        "asks" => json_answer(&json!({"jsonrpc": "2.0", "id": id, "result": {"resultType": "input_required", "inputRequests": {}}})),
        "fails" => json_answer(&json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32602, "message": "no"}})),
        "status" => (StatusCode::SERVICE_UNAVAILABLE, "later").into_response(),
        "long" => {
            let long = "x".repeat(1 << 20);
            json_answer(&json!({"jsonrpc": "2.0", "id": id, "result": {"content": [{"type": "text", "text": long}]}}))
        }
        _ => json_answer(&answer),
    }
}
