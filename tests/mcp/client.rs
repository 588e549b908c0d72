//! Calling tools by hand: every message as a test wants it, paid for by hand.

use super::{
    server::{McpServer, SESSION},
    support::{
        devnet::{Coin, Devnet, Wallet},
        gateway::{Gateway, ORIGIN, yaml},
        pay::{self, Answer, HTTP, transaction},
        schema,
    },
};
use base64::{Engine, engine::general_purpose::STANDARD};
use futures::StreamExt;
use kas402::{protocol::ids::RequestHash, wire::fingerprint};
use kaspa_consensus_core::tx::Transaction;
use reqwest::{
    Response,
    header::{HeaderMap, HeaderValue},
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

pub const AUDIENCE: &str = "/mcp";
/// Longest wait for anything: a hang becomes a failure.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A devnet, an MCP server and a gateway over them.
pub struct Shop {
    pub devnet: Arc<Devnet>,
    pub server: McpServer,
    pub gateway: Gateway,
}

impl Shop {
    pub async fn open(routes: &str, more: &str) -> Self {
        let shop = Self::prepare(Arc::new(Devnet::start(1, 10.0).await), 200, routes, more).await;
        shop.run("").await
    }

    /// Over a devnet that others use too, with a seller of its own; its gateway does not run yet.
    pub async fn prepare(devnet: Arc<Devnet>, seller: u8, routes: &str, more: &str) -> Self {
        let server = McpServer::start().await;
        let gateway = Gateway::prepare(&yaml(&devnet.wrpc[..1], &Wallet::new(seller), &server.url(), routes, more)).await;
        Self { devnet, server, gateway }
    }

    /// Runs its gateway, which dies at `crash`.
    pub async fn run(mut self, crash: &str) -> Self {
        self.gateway.run(&[("KAS402_CRASH", crash)]).await;
        self.gateway.ready().await;
        self
    }

    pub fn url(&self) -> String {
        format!("{}/mcp", self.gateway.url())
    }

    pub async fn post(&self, message: &Value) -> Got {
        self.post_with(message.to_string().as_bytes(), &[]).await
    }

    pub async fn post_with(&self, body: &[u8], more: &[(&str, &str)]) -> Got {
        Got::read(self.begin(body, more).await).await
    }

    /// Repeats a paid call while the gateway says that it is under way, with the payer's proof once that is asked for.
    pub async fn until_answered(&self, call: &Call, id: &str, payment: &Value, payer: &Wallet) -> Got {
        let until = Instant::now() + PATIENCE;
        let mut payment = payment.clone();
        loop {
            let got = self.post(&call.message(id, Some(&payment))).await;
            match got.code().as_str() {
                "payer_proof_required" => payment = call.proven(payment, payer),
                "settlement_pending" | "payment_in_flight" | "channel_busy" | "node_unavailable" | "deposit_not_confirmed" => {}
                _ => return got,
            }
            assert!(Instant::now() < until, "never answered: {got:?}; log:\n{}", self.gateway.log());
            tokio::time::sleep(Duration::from_millis(50)).await; // why: HTTP pushes nothing
        }
    }

    /// The answer's head; its body is still to come.
    pub async fn begin(&self, body: &[u8], more: &[(&str, &str)]) -> Response {
        self.try_begin(body, more).await.unwrap()
    }

    pub async fn try_begin(&self, body: &[u8], more: &[(&str, &str)]) -> reqwest::Result<Response> {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("content-type", "application/json"),
            ("accept", "application/json, text/event-stream"),
            ("mcp-session-id", SESSION),
            ("mcp-protocol-version", "2025-11-25"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        for (name, value) in more {
            let name: reqwest::header::HeaderName = name.parse().unwrap();
            headers.remove(&name);
            if !value.is_empty() {
                headers.insert(name, value.parse().unwrap());
            }
        }
        HTTP.post(self.url()).headers(headers).body(body.to_vec()).send().await
    }

    /// A stream for what the server says by itself, after the event with this id.
    pub async fn listen(&self, last: Option<&str>) -> Stream {
        let mut request = HTTP.get(self.url()).header("accept", "text/event-stream").header("mcp-session-id", SESSION);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        Stream::of(response)
    }

    /// The offers for a call.
    pub async fn offers(&self, call: &Call) -> Value {
        let got = self.post(&call.message(1, None)).await;
        let required = got.message["result"]["structuredContent"].clone();
        assert!(required["accepts"].is_array(), "{got:?}");
        required
    }

    /// A payment for a call, by a transaction.
    pub async fn pay(&self, call: &Call, payer: &Wallet, coins: &[Coin]) -> (Transaction, Value) {
        let accepted = self.offers(call).await["accepts"][0].clone();
        let transaction = transaction(payer, coins, &accepted);
        let payment = call.payment(&accepted, &transaction);
        (transaction, payment)
    }
}

/// A call of a tool.
#[derive(Clone, Debug)]
pub struct Call {
    pub tool: String,
    pub arguments: Value,
}

impl Call {
    pub fn of(tool: &str, arguments: Value) -> Self {
        Self { tool: tool.to_owned(), arguments }
    }

    pub fn message(&self, id: impl Into<Value>, payment: Option<&Value>) -> Value {
        let mut message = json!({
            "jsonrpc": "2.0", "id": id.into(), "method": "tools/call",
            "params": {"name": self.tool, "arguments": self.arguments, "_meta": {"progressToken": "token-1"}},
        });
        if let Some(payment) = payment {
            message["params"]["_meta"]["x402/payment"] = payment.clone();
        }
        message
    }

    pub fn payment(&self, accepted: &Value, transaction: &Transaction) -> Value {
        pay::bound(self.hash(accepted), accepted, transaction)
    }

    /// Adds the proof that `payer` presents the payment.
    pub fn proven(&self, payment: Value, payer: &Wallet) -> Value {
        let hash = self.hash(&payment["accepted"]);
        pay::proven(payment, hash, payer)
    }

    fn hash(&self, accepted: &Value) -> RequestHash {
        fingerprint::tool_call_hash(&format!("{ORIGIN}{AUDIENCE}"), &self.tool, Some(&self.arguments), accepted)
    }
}

/// What came of a POST.
#[derive(Debug)]
pub struct Got {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    /// The last message.
    pub message: Value,
}

impl Got {
    pub async fn read(response: Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = tokio::time::timeout(PATIENCE, response.bytes()).await.expect("it ends").map(|body| body.to_vec()).unwrap_or_default();
        let streams = headers.get("content-type").is_some_and(|kind| kind == "text/event-stream");
        let mut messages = if streams { messages(&String::from_utf8_lossy(&body)) } else { Vec::new() };
        if !streams {
            messages.extend(serde_json::from_slice::<Value>(&body));
        }
        messages.iter().for_each(schema::answered);
        let message = messages.pop().unwrap_or_default();
        Self { status, headers, body, message }
    }

    pub fn result(&self) -> &Value {
        &self.message["result"]
    }

    pub fn text(&self) -> &str {
        self.result()["content"][0]["text"].as_str().unwrap_or_default()
    }

    pub fn receipt(&self) -> &Value {
        &self.result()["_meta"]["x402/payment-response"]
    }

    /// The code of a refusal; `-` for none.
    pub fn code(&self) -> String {
        let words = &self.result()["structuredContent"];
        let places = [
            &self.receipt()["extensions"]["kaspa"]["reason"],
            &words["extensions"]["kaspa"]["reason"],
            &words["error"],
            &self.message["error"]["data"]["error"],
            &self.message["error"],
        ];
        places.into_iter().find_map(Value::as_str).unwrap_or("-").to_owned()
    }

    /// Served, under this id, by this transaction.
    #[track_caller]
    pub fn served(&self, id: impl Into<Value>, transaction: &Transaction) {
        assert_eq!((self.status, &self.message["id"]), (200, &id.into()), "{self:?}");
        let receipt = self.receipt();
        assert_eq!((&receipt["success"], &receipt["transaction"]), (&json!(true), &json!(transaction.id().to_string())), "{self:?}");
        assert!(self.text().starts_with("secret of "), "{self:?}");
        assert_eq!(self.result()["_meta"]["server"], "its own");
    }

    /// The same in the terms of HTTP, for the books of a channel.
    pub fn as_http(&self) -> Answer {
        let mut headers = HeaderMap::new();
        let coded = |value: &Value| HeaderValue::try_from(STANDARD.encode(value.to_string())).unwrap();
        let words = &self.result()["structuredContent"];
        let offers = words["accepts"].is_array();
        if offers {
            headers.insert("payment-required", coded(words));
        }
        if self.receipt().is_object() {
            headers.insert("payment-response", coded(self.receipt()));
        }
        Answer {
            status: if offers { 402 } else { self.status },
            headers,
            body: self.message.to_string().into_bytes(),
            trailers: Default::default(),
        }
    }
}

/// Every message of a stream.
pub fn messages(stream: &str) -> Vec<Value> {
    let data = |event: &str| event.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim).collect::<String>();
    stream.split("\n\n").map(data).filter(|data| !data.is_empty()).map(|data| serde_json::from_str(&data).unwrap()).collect()
}

/// A stream as it comes.
pub struct Stream {
    body: futures::stream::BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    pub text: String,
}

impl Stream {
    pub fn of(response: Response) -> Self {
        Self { body: response.bytes_stream().boxed(), text: String::new() }
    }

    /// The next bytes; `None` at the end, however that comes.
    pub async fn chunk(&mut self) -> Option<bytes::Bytes> {
        let chunk = tokio::time::timeout(PATIENCE, self.body.next()).await.expect("more to come, or an end")?.ok()?;
        self.text += &String::from_utf8_lossy(&chunk);
        Some(chunk)
    }

    /// Reads to the end, however that comes; every message.
    pub async fn rest(mut self) -> Vec<Value> {
        while self.chunk().await.is_some() {}
        messages(self.text.rfind("\n\n").map_or("", |at| &self.text[..at]))
    }

    /// Reads until there are so many messages; then those.
    pub async fn messages(&mut self, count: usize) -> Vec<Value> {
        loop {
            let whole = self.text.rfind("\n\n").map_or("", |at| &self.text[..at]);
            let found = messages(whole);
            if found.len() >= count {
                found.iter().for_each(schema::answered);
                return found;
            }
            let chunk = tokio::time::timeout(PATIENCE, self.body.next()).await.unwrap_or_else(|_| panic!("only {:?}", self.text));
            self.text += &String::from_utf8_lossy(&chunk.expect("more to come").unwrap());
        }
    }
}

/// The header of a payment.
pub fn header(payment: &Value) -> String {
    pay::encode(payment)
}
