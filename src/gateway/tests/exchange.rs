//! Requests as the proxy hands them over, and what is expected of the answers.

use crate::{
    gateway::{
        Gateway,
        answer::{Answer, BodyRead, Paywall, RawHead, Routed, Served, StreamChunk},
    },
    protocol::{
        ids::TxId,
        refusal::{Code, Offers},
    },
    wire::{header, headers},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::Value;
use std::sync::Arc;
use tokio::sync::mpsc;

/// A request.
#[derive(Clone, Debug)]
pub struct Ask {
    pub method: Method,
    pub host: String,
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Ask {
    pub fn new(method: Method, target: &str) -> Self {
        Self { method, host: "shop.example".into(), target: target.into(), headers: HeaderMap::new(), body: Bytes::new() }
    }

    pub fn get(target: &str) -> Self {
        Self::new(Method::GET, target)
    }

    pub fn post(target: &str, body: &str) -> Self {
        Self { body: Bytes::copy_from_slice(body.as_bytes()), ..Self::new(Method::POST, target) }
    }

    pub fn on(mut self, host: &str) -> Self {
        self.host = host.into();
        self
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        self
    }

    pub fn paying(self, header: &str) -> Self {
        self.with("payment-signature", header)
    }
}

/// What came of a request.
pub struct Got {
    pub free: bool,
    pub answer: Answer,
    /// The rest of a streamed answer.
    pub stream: Option<mpsc::Receiver<StreamChunk>>,
}

pub async fn send(gateway: Arc<Gateway>, request: Ask) -> Got {
    let whole = |answer: Answer| Got { free: false, answer, stream: None };
    let Ask { method, host, target, headers, body } = request;
    match gateway.route(RawHead { method, authority: host, target, headers, request_id: "r-1".into() }) {
        Routed::Free(_) => Got { free: true, ..whole(Answer { status: 0, headers: HeaderMap::new(), body: Bytes::new(), close: false }) },
        Routed::Answer(answer) => whole(*answer),
        Routed::Receipt(ask) => whole(gateway.receipt(ask).await),
        Routed::Priced(sale) => {
            let body = if body.len() > sale.body_limit() { BodyRead::TooLarge } else { BodyRead::Whole(body) };
            match gateway.serve(sale, body).await {
                Served::Answer(answer) => whole(*answer),
                Served::Stream { head, body } => Got { free: false, answer: head, stream: Some(body) },
            }
        }
    }
}

impl Got {
    fn message(&self, name: HeaderName) -> Option<Value> {
        self.answer.headers.get(name).map(|value| header::decode(value.as_bytes()).unwrap())
    }

    pub fn offers(&self) -> Option<Value> {
        self.message(headers::PAYMENT_REQUIRED)
    }

    pub fn receipt(&self) -> Option<Value> {
        self.message(headers::PAYMENT_RESPONSE)
    }

    pub fn status(&self) -> u16 {
        self.answer.status
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.answer.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Served, with a receipt for the transaction.
    #[track_caller]
    pub fn served(&self, txid: TxId) {
        let words = String::from_utf8_lossy(&self.answer.body);
        assert_eq!(self.status(), 200, "{words}");
        self.receipted(txid);
        assert!(self.offers().is_none());
    }

    /// Whatever the status, the payment counts.
    #[track_caller]
    pub fn receipted(&self, txid: TxId) {
        let receipt = self.receipt().expect("a receipt");
        assert_eq!((&receipt["success"], &receipt["transaction"]), (&true.into(), &txid.to_string().into()), "{receipt}");
    }

    /// Refused with this code, its status, and an offer exactly where the code allows one.
    #[track_caller]
    pub fn refused(&self, code: Code) {
        let body: Value = serde_json::from_slice(&self.answer.body).unwrap();
        let told = self.receipt().map(|receipt| receipt["extensions"]["kaspa"]["reason"].clone());
        let word = body["extensions"]["kaspa"]["reason"].as_str().or(body["error"].as_str()).unwrap();
        let word = told.as_ref().and_then(Value::as_str).unwrap_or(word);
        let word = if code == Code::PaymentRequired && self.status() == 402 { code.as_str() } else { word };
        assert_eq!((self.status(), word), (code.status(), code.as_str()), "{body}");
        assert_eq!(self.offers().is_some(), code.offers() == Offers::Attach, "{code}: {body}");
        if let Some(receipt) = self.receipt() {
            assert_eq!(receipt["success"], false, "{code}");
        }
    }

    /// Refused, naming the transaction and saying that its money may have moved.
    #[track_caller]
    pub fn pending(&self, code: Code, txid: TxId) {
        self.refused(code);
        let receipt = self.receipt().unwrap();
        assert_eq!((&receipt["transaction"], &receipt["extensions"]["kaspa"]["status"]), (&txid.to_string().into(), &"pending".into()));
        assert!(self.header("retry-after").is_some());
    }

    /// The whole body of a stream, and whether it ended or broke off.
    pub async fn drain(&mut self) -> (String, bool) {
        let mut body = Vec::new();
        let stream = self.stream.as_mut().expect("a stream");
        while let Some(chunk) = stream.recv().await {
            match chunk {
                StreamChunk::Data(data) => body.extend_from_slice(&data),
                StreamChunk::End { .. } => return (String::from_utf8(body).unwrap(), true),
            }
        }
        (String::from_utf8(body).unwrap(), false)
    }
}
