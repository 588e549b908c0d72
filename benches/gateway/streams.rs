//! How long the first event of a stream takes from its server to the client: without the gateway, through a free route, through one that
//! a channel pays for (its price reserved), and through a free call of an MCP server.
//!
//! Server and client are in this process and share its clock. The server sends its head at once, and a moment later an event that says
//! when it was made, right before it is written. One stream of each kind follows another, and which comes first changes with every round.

use crate::{
    Fallible,
    options::Options,
    support::{
        channel::{Channel, SETTINGS, batch_of},
        devnet::{Devnet, KAS, Wallet},
        gateway::{Gateway, yaml},
        pay::{Ask, HTTP},
    },
};
use axum::{
    Router,
    body::Body,
    response::{IntoResponse, Response},
    routing::get,
    serve::ListenerExt as _,
};
use futures::{StreamExt as _, stream};
use std::{
    convert::Infallible,
    sync::LazyLock,
    time::{Duration, Instant},
};
use tokio::{net::TcpListener, task::AbortHandle};

/// Between the head and the event: longer than anybody waits for a second write, and than a kernel delays an acknowledgement.
const SILENCE: Duration = Duration::from_millis(60);
const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"watch"}}"#;
const ROUTES: &str = "  - {path: /free, free: true}
  - {path: /open, scheme: batch-settlement, price: \"1000 sompi\"}
  - {path: /reserved, scheme: batch-settlement, price: \"1000 sompi\"}
  - {path: /mcp, kind: mcp, tools: [{tool: sold, scheme: batch-settlement, price: \"1000 sompi\"}]}";

/// Milliseconds from the server to the client, one per stream.
#[derive(Default)]
pub struct Measured {
    pub direct: Vec<f64>,
    pub free: Vec<f64>,
    pub reserved: Vec<f64>,
    pub mcp: Vec<f64>,
}

#[derive(Clone, Copy)]
enum Kind {
    Direct,
    Free,
    Reserved,
    Mcp,
}

const KINDS: [Kind; 4] = [Kind::Direct, Kind::Free, Kind::Reserved, Kind::Mcp];

static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Needs a node that mines.
pub async fn measure(options: &Options, node: &Devnet) -> Fallible<Measured> {
    LazyLock::force(&EPOCH);
    let (server, serving) = serve().await?;
    let payer = Wallet::new(6);
    let gateway = Gateway::start(&yaml(&node.wrpc[..1], &Wallet::new(7), &server, ROUTES, SETTINGS)).await;
    let url = gateway.url();
    let mut channel = Channel::open(node, &Ask::get("/open"), &gateway, &payer, KAS).await;
    // Under the price of the opening; the offer of the next stream comes with the receipt of the one before.
    channel.renewed = Some(batch_of(&Ask::get("/reserved").send(&url, None).await));
    let mut measured = Measured::default();
    // The first round is for warming up.
    for round in 0..=options.payments {
        for place in 0..KINDS.len() {
            let kind = KINDS[(round + place) % KINDS.len()];
            let request = match kind {
                Kind::Direct => HTTP.get(format!("{server}/direct")),
                Kind::Free => HTTP.get(format!("{url}/free")),
                Kind::Reserved => {
                    let offer = channel.renewed.take().ok_or("a receipt without an offer for the next stream")?;
                    HTTP.get(format!("{url}/reserved")).header("PAYMENT-SIGNATURE", channel.paying(&offer))
                }
                Kind::Mcp => HTTP.post(format!("{url}/mcp")).header("content-type", "application/json").body(CALL),
            };
            let (took, last) = first_event(request).await?;
            let all = match kind {
                Kind::Direct => &mut measured.direct,
                Kind::Free => &mut measured.free,
                Kind::Reserved => {
                    // It was reserved, and is charged at its end: a receipt that does not agree fails the run.
                    channel.read(&serde_json::from_str(&last)?);
                    &mut measured.reserved
                }
                Kind::Mcp => &mut measured.mcp,
            };
            if round > 0 {
                all.push(took);
            }
        }
    }
    serving.abort();
    Ok(measured)
}

/// Answers everything with one event, but for what opens a channel.
async fn serve() -> Fallible<(String, AbortHandle)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = format!("http://{}", listener.local_addr()?);
    // What was written is sent: this is about the gateway, not about the server's socket.
    let listener = listener.tap_io(|socket| socket.set_nodelay(true).expect("a socket that was accepted"));
    let app = Router::new().route("/open", get(|| async { "open" })).fallback(event);
    let serving = tokio::spawn(async move {
        let _ = axum::serve(listener, app).await;
    });
    Ok((address, serving.abort_handle()))
}

async fn event() -> Response {
    let event = stream::once(async {
        tokio::time::sleep(SILENCE).await; // why: what is measured is one event, not one that shares a write with the head
        Ok::<_, Infallible>(format!("data: {}\n\n", EPOCH.elapsed().as_micros()))
    });
    ([("content-type", "text/event-stream")], Body::from_stream(event)).into_response()
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
