//! Paying by hand: reads a 402, builds the `PAYMENT-SIGNATURE` that a test wants, right or wrong.
#![allow(dead_code)]

use super::{
    devnet::{Coin, Wallet},
    gateway::ORIGIN,
    schema,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use http_body::Body as _;
use kas402::{protocol::ids::RequestHash, wire::fingerprint};
use kaspa_addresses::Address;
use kaspa_consensus_core::tx::Transaction;
use reqwest::{Method, Response, header::HeaderMap};
use serde_json::{Value, json};
use std::{future::poll_fn, pin::Pin, sync::LazyLock};

/// Follows no redirects and pools connections.
pub static HTTP: LazyLock<reqwest::Client> =
    LazyLock::new(|| reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap());

/// The same by HTTP/2, without TLS, by prior knowledge.
pub static HTTP2: LazyLock<reqwest::Client> =
    LazyLock::new(|| reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).http2_prior_knowledge().build().unwrap());

fn message_in(headers: &HeaderMap, name: &str) -> Option<Value> {
    let bytes = STANDARD.decode(headers.get(name)?.as_bytes()).unwrap();
    Some(serde_json::from_slice(&bytes).unwrap())
}

/// Body and trailers.
async fn whole(mut frames: reqwest::Body) -> Result<(Vec<u8>, HeaderMap), reqwest::Error> {
    let (mut body, mut trailers) = (Vec::new(), HeaderMap::new());
    while let Some(frame) = poll_fn(|context| Pin::new(&mut frames).poll_frame(context)).await {
        match frame?.into_data() {
            Ok(data) => body.extend_from_slice(&data),
            Err(frame) => trailers.extend(frame.into_trailers().unwrap_or_default()),
        }
    }
    Ok((body, trailers))
}

/// What came back, whole.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    /// Of HTTP/2.
    pub trailers: HeaderMap,
}

impl Answer {
    pub async fn read(response: Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        // Nothing of a body that broke off.
        let (body, trailers) = whole(http::Response::from(response).into_body()).await.unwrap_or_default();
        let answer = Self { status, headers, body, trailers };
        answer.fits();
        answer
    }

    /// Every answer of a gateway that a test reads is held to the schemas.
    fn fits(&self) {
        if let Some(required) = self.required() {
            schema::required(&required);
            if self.status == 402 && !self.body.is_empty() {
                assert_eq!(serde_json::from_slice::<Value>(&self.body).unwrap(), required, "the body says the same as the header");
            }
        }
        for receipt in [self.receipt(), self.last_receipt()].into_iter().flatten() {
            schema::receipt(&receipt);
        }
        let kind = self.headers.get("content-type").and_then(|kind| kind.to_str().ok());
        schema::delivered(kind.unwrap_or_default(), &self.body);
    }

    /// `PAYMENT-REQUIRED`, decoded.
    pub fn required(&self) -> Option<Value> {
        message_in(&self.headers, "payment-required")
    }

    /// `PAYMENT-RESPONSE`, decoded.
    pub fn receipt(&self) -> Option<Value> {
        message_in(&self.headers, "payment-response")
    }

    /// The same in the trailers: what a stream cost.
    pub fn last_receipt(&self) -> Option<Value> {
        message_in(&self.trailers, "payment-response")
    }

    /// The precise code of a refusal, wherever the answer carries it; `-` for none.
    pub fn code(&self) -> String {
        let body = || serde_json::from_slice::<Value>(&self.body).ok();
        let receipt = self.receipt().and_then(|r| r["extensions"]["kaspa"]["reason"].as_str().map(str::to_owned));
        let offer = || self.required().and_then(|r| r["extensions"]["kaspa"]["reason"].as_str().map(str::to_owned));
        let error = || body().and_then(|b| b["error"].as_str().map(str::to_owned));
        receipt.or_else(offer).or_else(error).unwrap_or_else(|| "-".into())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The first offer.
    pub fn offer(&self) -> Value {
        self.required().unwrap_or_else(|| panic!("no offer: {self:?}"))["accepts"][0].clone()
    }
}

/// One request to a gateway.
#[derive(Clone, Debug)]
pub struct Ask {
    pub method: Method,
    /// Path and query.
    pub target: String,
    pub body: Vec<u8>,
    pub headers: Vec<(String, String)>,
}

impl Ask {
    pub fn get(target: &str) -> Self {
        Self { method: Method::GET, target: target.to_owned(), body: Vec::new(), headers: Vec::new() }
    }

    pub fn post(target: &str, body: &str) -> Self {
        Self { method: Method::POST, body: body.as_bytes().to_vec(), ..Self::get(target) }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With this payment header; `None` sends none.
    pub async fn send(&self, gateway: &str, payment: Option<&str>) -> Answer {
        self.try_send(gateway, payment).await.unwrap()
    }

    /// Fails when the gateway dies in between.
    pub async fn try_send(&self, gateway: &str, payment: Option<&str>) -> Result<Answer, reqwest::Error> {
        self.send_by(&HTTP, gateway, payment).await
    }

    /// By HTTP/2, which `edge: {h2c: true}` lets in.
    pub async fn send_by_h2(&self, gateway: &str, payment: Option<&str>) -> Answer {
        self.send_by(&HTTP2, gateway, payment).await.unwrap()
    }

    async fn send_by(&self, client: &reqwest::Client, gateway: &str, payment: Option<&str>) -> Result<Answer, reqwest::Error> {
        let mut request = client.request(self.method.clone(), format!("{gateway}{}", self.target));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if let Some(payment) = payment {
            request = request.header("PAYMENT-SIGNATURE", payment);
        }
        if !self.body.is_empty() {
            request = request.body(self.body.clone());
        }
        Ok(Answer::read(request.send().await?).await)
    }

    /// The hash that binds a payment to this request.
    pub fn request_hash(&self, accepted: &Value) -> RequestHash {
        fingerprint::request_hash(self.method.as_str(), &format!("{ORIGIN}{}", self.target), &self.body, accepted)
    }
}

/// A transaction that pays an offer exactly.
pub fn transaction(payer: &Wallet, coins: &[Coin], accepted: &Value) -> Transaction {
    let address = Address::try_from(accepted["payTo"].as_str().unwrap()).unwrap();
    let amount = accepted["amount"].as_str().unwrap().parse().unwrap();
    payer.pay(coins, &kaspa_txscript::pay_to_address_script(&address), amount)
}

/// The payment message; tests change it before [`encode`].
pub fn message(ask: &Ask, accepted: &Value, transaction: &Transaction) -> Value {
    bound(ask.request_hash(accepted), accepted, transaction)
}

/// The same, bound to whatever has this hash.
pub fn bound(hash: RequestHash, accepted: &Value, transaction: &Transaction) -> Value {
    json!({
        "x402Version": 2,
        "accepted": accepted,
        "payload": {
            "type": "exact-transfer",
            "transaction": hex::encode(borsh::to_vec(transaction).unwrap()),
            "transactionId": transaction.id().to_string(),
            "paymentOutputIndex": 0,
            "requestHash": hash.to_string(),
        },
    })
}

/// Adds the proof that `payer` presents the payment.
pub fn with_proof(message: Value, ask: &Ask, payer: &Wallet) -> Value {
    let hash = ask.request_hash(&message["accepted"]);
    proven(message, hash, payer)
}

/// The same of whatever has this hash.
pub fn proven(mut message: Value, hash: RequestHash, payer: &Wallet) -> Value {
    let signature = payer.keypair.sign_schnorr(secp256k1::Message::from_digest(hash.0));
    message["extensions"]["kaspa"]["payerProof"] = json!({
        "type": "schnorr",
        "publicKey": hex::encode(payer.keypair.x_only_public_key().0.serialize()),
        "signature": hex::encode(signature.serialize()),
    });
    message
}

/// The header value.
pub fn encode(message: &Value) -> String {
    STANDARD.encode(message.to_string())
}

/// Asks for the offer, builds the transaction and the header that pays it.
pub async fn prepare(ask: &Ask, gateway: &str, payer: &Wallet, coins: &[Coin]) -> (Transaction, String) {
    let offered = ask.send(gateway, None).await;
    assert_eq!(offered.status, 402, "{offered:?}");
    let accepted = offered.offer();
    let transaction = transaction(payer, coins, &accepted);
    let header = encode(&message(ask, &accepted, &transaction));
    (transaction, header)
}
