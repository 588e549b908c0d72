//! An unmodified MCP server for the tests, of the revision with sessions and resumable streams. It runs every call it gets, and
//! remembers each; `arguments.how` says how a call is answered.
//!
//! `json` (default), `sse`; `progress`: one notification, the answer when the gate opens; `closes`: the stream ends, the answer comes to
//! who resumes it; `cuts`: the same of a stream that breaks off after a notification, when the test says so; `moves`: the answer goes to who resumes the
//! stream, which itself stays silent; `pours`: notifications without end until the gate opens; `error`: `isError`; `elicits`: the client is asked first; `flaky`: the same
//! until the gate opens; `flawed`: a result with other flaws; `fails`: a JSON-RPC error; `asks`: more input first; `status`: HTTP 503; `denies`: HTTP 403; `breaks`: the stream
//! breaks off; `long` and `long_sse`: a mebibyte; `leaks` and `leaks_sse`: the answer to another call comes too. A GET after the event
//! `pours-...` is a stream without end.

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
    sync::{Notify, broadcast, watch},
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
    /// Breaks off the stream of one call.
    cut: Arc<Notify>,
    /// What every open GET stream is sent.
    pushed: broadcast::Sender<Value>,
    /// Bytes that streams without end have sent, by name.
    poured: Arc<Mutex<HashMap<String, usize>>>,
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
            cut: Arc::default(),
            pushed: broadcast::Sender::new(64),
            poured: Arc::default(),
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

    pub fn cut(&self) {
        self.shared.cut.notify_one();
    }

    /// What a stream without end has sent.
    pub fn poured(&self, name: &str) -> usize {
        self.shared.poured.lock().unwrap().get(name).copied().unwrap_or_default()
    }

    /// The answer that is owed to who resumes after this event.
    pub fn owed(&self, after: &str) -> Value {
        self.shared.owed.lock().unwrap()[after].clone()
    }

    /// Sends a message on every GET stream.
    pub fn push(&self, message: Value) {
        self.shared.pushed.send(message).expect("a stream is open");
    }
}

/// A list in a text of its own, without line breaks.
pub const LIST: &str = r#"{ "result" : {"z":1.50,"tools":[ {"name":"echo","inputSchema":{"b":1e2,"a":1}} ,{"title":"\u00fc\/","name":"search","inputSchema":{"type":"object"}, "_meta":{"y":-0.0 } } ],"nextCursor":"c"},"id" : $id,"jsonrpc":"2.0"}"#;

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
    if parts.headers.get("mcp-session-id").is_some_and(|session| !session.as_bytes().starts_with(b"session-")) {
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
    if last.starts_with("pours-") {
        return sse(pours(shared, last, json!(null)));
    }
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
    if id == "elicit" {
        shared.cut.notify_one();
    }
    if id.is_null() || id == "elicit" {
        return StatusCode::ACCEPTED.into_response();
    }
    let result = |result: Value| json!({"jsonrpc": "2.0", "id": id, "result": result});
    match message["method"].as_str().unwrap_or_default() {
        // As some server might write it.
        "tools/list" if !message["params"]["how"].is_null() => {
            let list = LIST.replace("$id", &id.to_string());
            match message["params"]["how"].as_str() {
                Some("sse") => sse(stream::iter([format!(": list\nid: 9\nretry: 70\ndata: {list}\n\n")])),
                _ => ([("content-type", "application/json"), ("x-own", "kept")], list).into_response(),
            }
        }
        "tools/list" => json_answer(&result(json!({"tools": [
            {"name": "search", "description": "Searches.", "inputSchema": {"type": "object"}},
            {"name": "image_new", "inputSchema": {"type": "object"}},
            {"name": "echo", "inputSchema": {"type": "object"}},
        ]}))),
        "tools/call" => call(shared, &message),
        "tasks/get" | "tasks/result" => {
            let owed = shared.owed.lock().unwrap().get(message["params"]["taskId"].as_str().unwrap_or_default()).cloned();
            json_answer(&owed.unwrap_or_else(|| result(json!({"method": message["method"]}))))
        }
        "initialize" => json_answer(&result(json!({"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "test"}}))),
        method => json_answer(&result(json!({"method": method}))),
    }
}

/// Notifications of 16 KiB each, as fast as they are taken.
fn pours(shared: &Shared, name: &str, token: Value) -> impl futures::Stream<Item = String> + Send + 'static {
    let (poured, name) = (shared.poured.clone(), name.to_owned());
    let params = json!({"progressToken": token, "progress": 1, "message": "x".repeat(16 * 1024)});
    let one = event("pour", &json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params}).to_string());
    stream::repeat_with(move || {
        *poured.lock().unwrap().entry(name.clone()).or_default() += one.len();
        one.clone()
    })
}

fn call(shared: &Shared, message: &Value) -> Response {
    let (id, params) = (message["id"].clone(), &message["params"]);
    let arguments = params["arguments"].clone();
    let told = Some(arguments.to_string()).filter(|told| told.len() < 4_096).unwrap_or_else(|| "a lot".to_owned());
    let text = format!("secret of {} {told}", params["name"].as_str().unwrap_or("?"));
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
        "cuts" => {
            let place = named("cuts");
            shared.owed.lock().unwrap().insert(place.clone(), answer);
            let first = Bytes::from(format!("retry: 20\n{}", event(&place, &notification("to be continued").to_string())));
            let cut = shared.cut.clone();
            let breaks = async move {
                cut.notified().await;
                Err(std::io::Error::other("breaks off"))
            };
            let head = [("content-type", "text/event-stream"), ("mcp-session-id", SESSION)];
            (head, Body::from_stream(stream::iter([Ok(first)]).chain(stream::once(breaks)))).into_response()
        }
        "elicits" => {
            let answered = shared.cut.clone();
            let question = json!({"jsonrpc": "2.0", "id": "elicit", "method": "elicitation/create", "params": {"message": "which?"}});
            let last = async move {
                answered.notified().await;
                event("2", &answer.to_string())
            };
            sse(stream::iter([event("1", &question.to_string())]).chain(stream::once(last)))
        }
        "pours" => {
            let mut gate = shared.gate.subscribe();
            let open = async move {
                gate.wait_for(|open| *open).await.unwrap();
            };
            let more = pours(shared, &named("pours"), params["_meta"]["progressToken"].clone()).take_until(open);
            sse(more.chain(stream::iter([event("2", &answer.to_string())])))
        }
        "leaks" => json_answer(&shared.owed.lock().unwrap()[arguments["of"].as_str().unwrap()].clone()),
        "leaks_sse" => {
            let other = shared.owed.lock().unwrap()[arguments["of"].as_str().unwrap()].clone();
            sse(stream::iter([event("1", &other.to_string()), event("2", &answer.to_string())]))
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
        // Half a letter in a text, and a name that occurs twice.
        "flawed" => {
            let flawed = answer.to_string().replacen("\"content\":", "\"cut\":\"\\ud83d\",\"twice\":1,\"twice\":1e999,\"content\":", 1);
            ([("content-type", "application/json")], flawed).into_response()
        }
        "flaky" if *shared.gate.borrow() => json_answer(&answer),
        "error" | "flaky" => {
            let mut answer = answer;
            answer["result"]["isError"] = true.into();
            json_answer(&answer)
        }
        "asks" => json_answer(&json!({"jsonrpc": "2.0", "id": id, "result": {"resultType": "input_required", "inputRequests": {}}})),
        "fails" => json_answer(&json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32602, "message": "no"}})),
        "status" => (StatusCode::SERVICE_UNAVAILABLE, "later").into_response(),
        "denies" => (StatusCode::FORBIDDEN, "no").into_response(),
        how @ ("long" | "long_sse") => {
            let mut answer = answer;
            answer["result"]["content"][0]["text"] = format!("{text} {}", "x".repeat(1 << 20)).into();
            shared.owed.lock().unwrap().insert(named("long"), answer.clone());
            if how == "long" { json_answer(&answer) } else { sse(stream::iter([event("1", &answer.to_string())])) }
        }
        _ => json_answer(&answer),
    }
}
