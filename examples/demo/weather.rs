//! The API that is sold: a plain HTTP server that knows nothing of payments.
//!
//! It notes what reaches it, so that the demo can count and time the calls.

use crate::parts::Failure;
use axum::{
    Extension, Json, Router,
    extract::{Path, Request, State},
    http::{HeaderMap, HeaderName},
    middleware::{Next, from_fn_with_state},
    response::Response,
    routing::get,
};
use kas402::{protocol::amount::Amount, wire::headers};
use serde_json::{Value, json};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};
use tokio::{
    net::TcpListener,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};

/// One request as it arrived.
pub struct Call {
    pub at: Instant,
    pub path: String,
    /// What the gateway says of the payment.
    pub paid: Paid,
    /// What the answer says that it took to make.
    pub units: Option<u64>,
}

/// How a request is paid for, by the gateway's headers.
pub enum Paid {
    Free,
    /// By this transaction.
    By(Amount, String),
    /// At most so much, from this channel.
    From(Amount, String),
}

/// The running API.
pub struct Weather {
    pub url: String,
    pub calls: UnboundedReceiver<Call>,
}

impl Weather {
    pub async fn start() -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::new("weather API", error);
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
        let url = format!("http://{}", listener.local_addr().map_err(failed)?);
        let (sender, calls) = unbounded_channel();
        let app = Router::new()
            .route("/v1/weather/{city}", get(weather))
            .route("/v1/forecast/{city}", get(forecast))
            .route("/v1/cities", get(cities))
            .layer(from_fn_with_state(sender, note));
        tokio::spawn(axum::serve(listener, app).into_future());
        Ok(Self { url, calls })
    }

    /// The calls since the last time.
    pub fn new_calls(&mut self) -> Vec<Call> {
        std::iter::from_fn(|| self.calls.try_recv().ok()).collect()
    }
}

async fn note(State(sender): State<UnboundedSender<Call>>, request: Request, next: Next) -> Response {
    let (at, path, paid) = (Instant::now(), request.uri().path().to_owned(), payment(request.headers()));
    let response = next.run(request).await;
    let units = response.extensions().get::<Units>().map(|Units(units)| *units);
    // Nobody listens any more only when the demo is over.
    let _ = sender.send(Call { at, path, paid, units });
    response
}

fn payment(fields: &HeaderMap) -> Paid {
    let text = |name: HeaderName| fields.get(name)?.to_str().ok();
    let amount = text(headers::AMOUNT).and_then(|amount| Amount::parse_wire(amount).ok());
    match (amount, text(headers::TXID), text(headers::CHANNEL)) {
        (Some(amount), Some(txid), _) => Paid::By(amount, txid.to_owned()),
        (Some(ceiling), None, Some(channel)) => Paid::From(ceiling, channel.to_owned()),
        _ => Paid::Free,
    }
}

/// Made up, but the same for the same city.
async fn weather(Path(city): Path<String>) -> Json<Value> {
    let seed: u32 = city.bytes().fold(7, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    let sky = ["clear", "light clouds", "overcast", "showers", "rain"][usize::from(seed.to_le_bytes()[1]) % 5];
    Json(json!({
        "city": city,
        "celsius": 8 + seed % 19,
        "sky": sky,
        "humidityPercent": 40 + seed / 19 % 50,
        "windKmh": 3 + seed / 950 % 30,
    }))
}

/// What an answer took to make.
#[derive(Clone, Copy)]
struct Units(u64);

/// Made up, and every time of another size: so is what it takes to make it, and what it costs.
async fn forecast(Path(city): Path<String>) -> (Extension<Units>, Json<Value>) {
    static SERIAL: AtomicU64 = AtomicU64::new(1);
    let units = 20 + SERIAL.fetch_add(1, Ordering::Relaxed).wrapping_mul(7_919) % 981;
    let days: Vec<Value> = (0..=units / 200).map(|day| json!({ "day": day, "celsius": 8 + (units / 7 + day * 3) % 19 })).collect();
    (Extension(Units(units)), Json(json!({ "city": city, "days": days, "usage": { "units": units } })))
}

async fn cities() -> Json<Value> {
    Json(json!({ "cities": ["Berlin", "Lisbon", "Nairobi", "Osaka", "Quito"] }))
}
