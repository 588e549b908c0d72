//! The API that is sold: a plain HTTP server that knows nothing of payments.
//!
//! It notes what reaches it, so that the demo can count and time the calls.

use crate::parts::Failure;
use axum::{
    Json, Router,
    extract::{Path, Request, State},
    http::{HeaderMap, HeaderName},
    middleware::{Next, from_fn_with_state},
    response::Response,
    routing::get,
};
use kas402::{protocol::amount::Amount, wire::headers};
use serde_json::{Value, json};
use std::time::Instant;
use tokio::{
    net::TcpListener,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};

/// One request as it arrived.
pub struct Call {
    pub at: Instant,
    pub path: String,
    /// What the gateway says of the payment: amount and transaction.
    pub paid: Option<(Amount, String)>,
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
    let call = Call { at: Instant::now(), path: request.uri().path().to_owned(), paid: payment(request.headers()) };
    // Nobody listens any more only when the demo is over.
    let _ = sender.send(call);
    next.run(request).await
}

fn payment(fields: &HeaderMap) -> Option<(Amount, String)> {
    let text = |name: HeaderName| fields.get(name)?.to_str().ok();
    Some((Amount::parse_wire(text(headers::AMOUNT)?).ok()?, text(headers::TXID)?.to_owned()))
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

async fn cities() -> Json<Value> {
    Json(json!({ "cities": ["Berlin", "Lisbon", "Nairobi", "Osaka", "Quito"] }))
}
