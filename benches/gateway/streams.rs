//! How long the first event of a stream takes from its server to the client: of a free route, of one that a channel pays for, and of a
//! free call of an MCP server.
//!
//! The server is in this process: it sends its head at once, and a moment later an event that says when it left.

use crate::{
    Fallible,
    options::Options,
    support::{
        channel::{Channel, SETTINGS},
        devnet::{Devnet, KAS, Wallet},
        gateway::{Gateway, yaml},
        pay::{Ask, HTTP},
    },
};
use axum::{Router, body::Body, response::IntoResponse};
use futures::{StreamExt as _, stream};
use std::{
    convert::Infallible,
    sync::LazyLock,
    time::{Duration, Instant},
};
use tokio::{net::TcpListener, task::AbortHandle};

/// Between the head and the event: longer than anybody waits for a second write.
const SILENCE: Duration = Duration::from_millis(30);
const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"watch"}}"#;
const ROUTES: &str = "  - {path: /free, free: true}
  - {path: /reserved, scheme: batch-settlement, price: \"1000 sompi\"}
  - {path: /mcp, kind: mcp, tools: [{tool: sold, scheme: batch-settlement, price: \"1000 sompi\"}]}";

/// Milliseconds from the server to the client, one per stream.
pub struct Measured {
    pub free: Vec<f64>,
    pub reserved: Vec<f64>,
    pub mcp: Vec<f64>,
}

static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Needs a node that mines.
pub async fn measure(options: &Options, node: &Devnet) -> Fallible<Measured> {
    LazyLock::force(&EPOCH);
    let (address, server) = serve().await?;
    let payer = Wallet::new(6);
    let gateway = Gateway::start(&yaml(&node.wrpc[..1], &Wallet::new(7), &address, ROUTES, SETTINGS)).await;
    let ask = Ask::get("/reserved");
    let (mut channel, accepted) = Channel::prepare(node, &ask, &gateway.url(), &payer, KAS).await;
    let opening = channel.depositing(&accepted);
    let mut measured = Measured { free: Vec::new(), reserved: Vec::new(), mcp: Vec::new() };
    // The first of each is for warming up.
    for round in 0..=options.payments {
        let free = first_event(HTTP.get(format!("{}/free", gateway.url()))).await?.0;
        let header = match channel.renewed.take() {
            None if round == 0 => opening.clone(),
            renewed => channel.paying(&renewed.ok_or("an offer for the next")?),
        };
        let request = HTTP.get(format!("{}/reserved", gateway.url())).header("PAYMENT-SIGNATURE", header);
        let (reserved, receipt) = first_event(request).await?;
        channel.read(&serde_json::from_str(&receipt)?);
        let request = HTTP.post(format!("{}/mcp", gateway.url())).header("content-type", "application/json").body(CALL);
        let mcp = first_event(request).await?.0;
        if round > 0 {
            measured.free.push(free);
            measured.reserved.push(reserved);
            measured.mcp.push(mcp);
        }
    }
    server.abort();
    Ok(measured)
}

/// Answers everything with one event.
async fn serve() -> Fallible<(String, AbortHandle)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = format!("http://{}", listener.local_addr()?);
    let answer = || async {
        let event = stream::once(async {
            tokio::time::sleep(SILENCE).await; // why: what is measured is one event, not one that shares a write with the head
            Ok::<_, Infallible>(format!("data: {}\n\n", EPOCH.elapsed().as_micros()))
        });
        ([("content-type", "text/event-stream")], Body::from_stream(event)).into_response()
    };
    let app = Router::new().fallback(answer);
    let server = tokio::spawn(async move {
        let _ = axum::serve(listener, app).await;
    });
    Ok((address, server.abort_handle()))
}

/// Milliseconds that the first event took, and the data of the last one.
async fn first_event(request: reqwest::RequestBuilder) -> Fallible<(f64, String)> {
    let response = request.send().await?.error_for_status()?;
    let mut chunks = response.bytes_stream();
    let (mut text, mut took) = (String::new(), None);
    while let Some(chunk) = chunks.next().await {
        let now = EPOCH.elapsed();
        text += std::str::from_utf8(&chunk?)?;
        if took.is_none() && text.contains("\n\n") {
            let left = Duration::from_micros(data(&text).next().ok_or("an event without data")?.parse()?);
            took = Some(now.saturating_sub(left).as_secs_f64() * 1e3);
        }
    }
    let last = data(&text).next_back().unwrap_or_default().to_owned();
    Ok((took.ok_or_else(|| format!("no event came: {text:?}"))?, last))
}

fn data(text: &str) -> impl DoubleEndedIterator<Item = &str> {
    text.lines().filter_map(|line| line.strip_prefix("data: "))
}
