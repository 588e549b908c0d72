//! An unmodified API for the tests: records what reaches it and answers as the path says.
//!
//! `/echo/...` answers with the method, path and body; `/status/{code}` with that status;
//! `/gate/...` waits until the test opens the gate; `/hang` never answers; `/break` breaks off in
//! the middle of a body; `/big/{bytes}` answers that many bytes; `/events/{n}` streams n events.
//! `/mcp` answers every JSON-RPC request with an empty result.
//! `/flaky/{how}` fails until the gate is open (`hang`, `break`, or a status), then echoes.

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use futures::{StreamExt, stream};
use http::{HeaderMap, StatusCode};
use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::{net::TcpListener, sync::watch, task::AbortHandle};

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    /// Path and query.
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

#[derive(Clone)]
struct Shared {
    seen: Arc<Mutex<Vec<Seen>>>,
    count: Arc<watch::Sender<usize>>,
    gate: watch::Receiver<bool>,
}

pub struct Upstream {
    pub address: SocketAddr,
    shared: Shared,
    gate: watch::Sender<bool>,
    server: AbortHandle,
}

impl Upstream {
    pub async fn start() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn on(listener: TcpListener) -> Self {
        let address = listener.local_addr().unwrap();
        let (gate, gate_receiver) = watch::channel(false);
        let shared = Shared { seen: Arc::default(), count: Arc::new(watch::Sender::new(0)), gate: gate_receiver };
        let server = serve(listener, shared.clone());
        Self { address, shared, gate, server }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Requests whose path (with query) is `target`.
    pub fn count(&self, target: &str) -> usize {
        self.seen().iter().filter(|seen| seen.target == target).count()
    }

    /// Ends when at least `n` requests have arrived in all.
    pub async fn arrived(&self, n: usize) {
        self.shared.count.subscribe().wait_for(|count| *count >= n).await.unwrap();
    }

    /// Lets `/gate/...` answer.
    pub fn open_gate(&self) {
        self.gate.send_replace(true);
    }

    /// Refuses connections from now on.
    pub fn stop(&self) {
        self.server.abort();
    }

    /// Listens again where it did before [`Upstream::stop`].
    pub async fn start_again(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.server = serve(listener, self.shared.clone());
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn serve(listener: TcpListener, shared: Shared) -> AbortHandle {
    let app = Router::new().fallback(answer).with_state(shared);
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() }).abort_handle()
}

async fn answer(State(shared): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let target = parts.uri.path_and_query().map_or("/".to_owned(), ToString::to_string);
    // A request that breaks off did not arrive.
    let Ok(body) = axum::body::to_bytes(body, usize::MAX).await else { return StatusCode::BAD_REQUEST.into_response() };
    let seen = Seen { method: parts.method.to_string(), target: target.clone(), headers: parts.headers, body };
    shared.seen.lock().unwrap().push(seen.clone());
    shared.count.send_modify(|count| *count += 1);
    let mut segments = parts.uri.path().trim_start_matches('/').split('/');
    let path = (segments.next().unwrap_or_default(), segments.next().unwrap_or_default());
    let kind = match path {
        ("flaky", _) if *shared.gate.borrow() => ("echo", ""),
        ("flaky", how) if how.parse::<u16>().is_ok() => ("status", how),
        ("flaky", how) => (how, ""),
        other => other,
    };
    match kind {
        ("status", code) => (StatusCode::from_bytes(code.as_bytes()).unwrap(), format!("status {code}")).into_response(),
        ("gate", _) => {
            let mut gate = shared.gate.clone();
            gate.wait_for(|open| *open).await.unwrap();
            format!("through the gate: {target}").into_response()
        }
        ("mcp", _) => {
            let id = serde_json::from_slice::<serde_json::Value>(&seen.body).unwrap_or_default()["id"].take();
            let answer = serde_json::json!({"jsonrpc": "2.0", "id": id, "result": {"content": []}});
            ([("content-type", "application/json")], answer.to_string()).into_response()
        }
        ("hang", _) => std::future::pending().await,
        ("break", _) => {
            let chunks = [Ok(Bytes::from_static(b"the first half")), Err(std::io::Error::other("breaks off"))];
            Body::from_stream(stream::iter(chunks)).into_response()
        }
        ("big", bytes) => vec![b'x'; bytes.parse().unwrap()].into_response(),
        ("events", n) => {
            let events = (0..n.parse::<u32>().unwrap()).map(|i| Ok::<_, Infallible>(format!("data: {i}\n\n")));
            ([("content-type", "text/event-stream")], Body::from_stream(stream::iter(events).boxed())).into_response()
        }
        _ => {
            let text = format!("{} {} {}", seen.method, target, String::from_utf8_lossy(&seen.body));
            ([("x-upstream", "sample"), ("set-cookie", "session=1")], text).into_response()
        }
    }
}
