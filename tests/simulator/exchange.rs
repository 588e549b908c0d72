//! Requests as the proxy hands them over, and what comes back.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use kas402::{
    gateway::{
        Gateway,
        answer::{Answer, BodyRead, Paywall, RawHead, Routed, Served, StreamChunk},
    },
    wire::{header, headers},
};
use serde_json::Value;
use std::sync::Arc;
use tokio::sync::mpsc;

pub const ORIGIN: &str = "https://shop.example";

#[derive(Clone, Debug)]
pub struct Ask {
    pub method: Method,
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Ask {
    pub fn get(target: &str) -> Self {
        Self { method: Method::GET, target: target.into(), headers: HeaderMap::new(), body: Bytes::new() }
    }

    pub fn post(target: &str, body: &str) -> Self {
        Self { method: Method::POST, body: Bytes::copy_from_slice(body.as_bytes()), ..Self::get(target) }
    }

    pub fn paying(mut self, message: &Value) -> Self {
        let value = HeaderValue::from_str(header::encode(message).to_str().unwrap()).unwrap();
        self.headers.insert(HeaderName::from_static("payment-signature"), value);
        self
    }

    pub fn url(&self) -> String {
        format!("{ORIGIN}{}", self.target)
    }
}

pub struct Got {
    pub answer: Answer,
    pub stream: Option<mpsc::Receiver<StreamChunk>>,
}

pub async fn send(gateway: Arc<Gateway>, request: Ask) -> Got {
    let whole = |answer: Answer| Got { answer, stream: None };
    let Ask { method, target, headers, body } = request;
    let head = RawHead { method, authority: "shop.example".into(), target, headers, request_id: "r".into() };
    match gateway.route(head) {
        Routed::Free(_) => panic!("nothing is free in the simulator"),
        Routed::Answer(answer) => whole(*answer),
        Routed::Receipt(ask) => whole(gateway.receipt(ask).await),
        Routed::Priced(sale) => match gateway.serve(sale, BodyRead::Whole(body)).await {
            Served::Answer(answer) => whole(*answer),
            Served::Stream { head, body } => Got { answer: head, stream: Some(body) },
        },
    }
}

impl Got {
    fn message(&self, name: HeaderName) -> Option<Value> {
        self.answer.headers.get(name).map(|value| header::decode(value.as_bytes()).unwrap())
    }

    pub fn offers(&self) -> Option<Value> {
        self.message(headers::PAYMENT_REQUIRED)
    }

    pub fn offer(&self, scheme: &str) -> Option<Value> {
        self.offers()?["accepts"].as_array()?.iter().find(|accept| accept["scheme"] == scheme).cloned()
    }

    pub fn receipt(&self) -> Option<Value> {
        self.message(headers::PAYMENT_RESPONSE)
    }

    pub fn status(&self) -> u16 {
        self.answer.status
    }

    /// The precise code of a refusal, wherever it is; `-` for none.
    pub fn code(&self) -> String {
        let reason = |message: Option<Value>| message.and_then(|m| m["extensions"]["kaspa"]["reason"].as_str().map(str::to_owned));
        let words = || serde_json::from_slice::<Value>(&self.answer.body).ok().and_then(|w| w["error"].as_str().map(str::to_owned));
        reason(self.receipt()).or_else(|| reason(self.offers())).or_else(words).unwrap_or_else(|| "-".into())
    }
}
