//! Calling tools of an MCP server that sells them (PROTOCOL section 8).
//!
//! [`McpClient`] is a [`Transport`]: a [`super::paid::PaidClient`] over it pays for calls as it pays for requests, with the same journal,
//! limits and rules. It carries [`PaidRequest::call`]s as messages of a session that it opens by itself, with the payment in `_meta`, and
//! gives answers back in the terms of HTTP: offers as a 402, refusals with their status, a result as the body of a 200. Speaks
//! Streamable HTTP of the revision 2025-11-25. Never pays, never decides.

use super::{
    exchange::{PaidRequest, Reply, SendError, ToolCall, Transport},
    receipt::Receipt,
};
use crate::{
    protocol::refusal::Code,
    wire::{
        header, headers,
        mcp::{
            self,
            events::{Event, Events},
        },
    },
};
use async_trait::async_trait;
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER},
};
use serde_json::{Value, json};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tokio::sync::Mutex;

/// The revision that is asked for; servers answer with the one they speak.
const REVISION: &str = "2025-11-25";
const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// Pages of `tools/list` that are read.
const PAGES: usize = 64;
/// Of an event stream that is read at once.
const PART_BYTES: usize = 64 * 1024;

/// A tool as its server lists it.
#[derive(Clone, Debug)]
pub struct Tool {
    pub name: String,
    pub description: Option<String>,
    /// What the gateway says it costs; `None` when it says nothing.
    pub price: Option<Value>,
    /// The whole entry.
    pub listed: Value,
}

/// What the server answered to the opening of a session.
#[derive(Clone, Debug)]
struct Session {
    id: Option<HeaderValue>,
    revision: HeaderValue,
}

/// A client of one server.
pub struct McpClient {
    http: Arc<dyn Transport>,
    session: Mutex<Option<Session>>,
    next_id: AtomicU64,
}

impl McpClient {
    /// Over a transport of HTTP.
    pub fn over(http: Arc<dyn Transport>) -> Self {
        Self { http, session: Mutex::default(), next_id: AtomicU64::new(1) }
    }

    /// Every tool of the server at `url`; `fields` are sent with each request.
    pub async fn tools(&self, url: &str, fields: &HeaderMap) -> Result<Vec<Tool>, SendError> {
        let mut tools = Vec::new();
        let mut cursor = Value::Null;
        for _ in 0..PAGES {
            let params = if cursor.is_null() { json!({}) } else { json!({ "cursor": cursor }) };
            let answer = self.ask(url, fields, mcp::LIST, params).await?;
            let message = answer.message.ok_or_else(|| SendError::after_sending(format!("the server answers {}", answer.reply.status)))?;
            let result =
                message.get("result").ok_or_else(|| SendError::after_sending(format!("the server refuses: {}", message["error"])))?;
            for listed in result.get("tools").and_then(Value::as_array).into_iter().flatten() {
                let text = |name: &str| listed.get(name).and_then(Value::as_str).map(str::to_owned);
                let Some(name) = text("name") else { continue };
                let price = listed.get("_meta").and_then(|meta| meta.get(mcp::prices::PRICE)).cloned();
                tools.push(Tool { name, description: text("description"), price, listed: listed.clone() });
            }
            cursor = result.get("nextCursor").cloned().unwrap_or_default();
            if cursor.is_null() {
                break;
            }
        }
        Ok(tools)
    }

    /// One request within the session. A session that the server has forgotten is opened again, once.
    async fn ask(&self, url: &str, fields: &HeaderMap, method: &str, params: Value) -> Result<Answer, SendError> {
        for last in [false, true] {
            let session = self.session(url, fields).await?;
            let answer = self.post(url, fields, Some(&session), method, params.clone()).await?;
            if answer.reply.status != StatusCode::NOT_FOUND || session.id.is_none() || last {
                return Ok(answer);
            }
            *self.session.lock().await = None;
        }
        Err(SendError::after_sending("the server forgets its sessions"))
    }

    async fn session(&self, url: &str, fields: &HeaderMap) -> Result<Session, SendError> {
        let mut open = self.session.lock().await;
        if let Some(session) = &*open {
            return Ok(session.clone());
        }
        let params = json!({
            "protocolVersion": REVISION,
            "capabilities": {},
            "clientInfo": { "name": "kas402", "version": env!("CARGO_PKG_VERSION") },
        });
        let answer = self.post(url, fields, None, "initialize", params).await?;
        let told = answer.message.as_ref().and_then(|message| message.pointer("/result/protocolVersion")?.as_str());
        let revision = told.and_then(|told| HeaderValue::from_str(told).ok());
        let Some(revision) = revision else {
            return Err(SendError::after_sending(format!("no MCP server: it answers {} to initialize", answer.reply.status)));
        };
        let session = Session { id: answer.reply.headers.get(SESSION_ID).cloned(), revision };
        self.notify(url, fields, &session).await?;
        *open = Some(session.clone());
        Ok(session)
    }

    async fn notify(&self, url: &str, fields: &HeaderMap, session: &Session) -> Result<(), SendError> {
        let message = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        self.http.send(&request(url, fields, Some(session), &message)?, None).await.map(drop)
    }

    async fn post(
        &self,
        url: &str,
        fields: &HeaderMap,
        session: Option<&Session>,
        method: &str,
        params: Value,
    ) -> Result<Answer, SendError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let message = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let reply = self.http.send(&request(url, fields, session, &message)?, None).await?;
        Ok(Answer { message: answer_to(id, &reply), reply })
    }
}

/// What came back: an answer of HTTP, and the message in it that answers the request.
struct Answer {
    message: Option<Value>,
    reply: Reply,
}

fn request(url: &str, fields: &HeaderMap, session: Option<&Session>, message: &Value) -> Result<PaidRequest, SendError> {
    let mut fields = fields.clone();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    fields.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
    if let Some(session) = session {
        fields.insert(PROTOCOL_VERSION, session.revision.clone());
        if let Some(id) = &session.id {
            fields.insert(SESSION_ID, id.clone());
        }
    }
    let unsent = |error: super::exchange::UrlError| SendError { words: error.to_string(), unsent: true };
    PaidRequest::new(Method::POST, url, fields, message.to_string().into()).map_err(unsent)
}

/// The message with this id, of a body of either kind.
fn answer_to(id: u64, reply: &Reply) -> Option<Value> {
    let ours = |message: Value| Some(message).filter(|message| message.get("id") == Some(&id.into()));
    let streams = reply.headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    if !streams {
        return ours(serde_json::from_slice(&reply.body).ok()?);
    }
    let message = |event: &Event| ours(serde_json::from_slice(&event.data).ok()?);
    let mut events = Events::new(reply.body.len().saturating_add(2));
    let mut found = None;
    // By parts: an event is more than its bytes, and there may be as many as bytes.
    for part in reply.body.chunks(PART_BYTES) {
        found = events.feed(part).ok()?.iter().rev().find_map(message).or(found);
    }
    events.last().as_ref().and_then(message).or(found)
}

#[async_trait]
impl Transport for McpClient {
    async fn send(&self, request: &PaidRequest, payment: Option<&str>) -> Result<Reply, SendError> {
        let Some(call) = request.tool() else { return self.http.send(request, payment).await };
        let params = params(call, payment)?;
        let Answer { message, reply } = self.ask(&request.url(), &request.headers, mcp::CALL, params).await?;
        Ok(match message {
            Some(message) => in_terms_of_http(&message, reply),
            // Cut off, or not of MCP: it is not known what became of the call.
            None if reply.status.is_success() => return Err(SendError::after_sending("the answer holds no answer to the call")),
            None => reply,
        })
    }
}

fn params(call: &ToolCall, payment: Option<&str>) -> Result<Value, SendError> {
    let mut params = json!({ "name": call.tool });
    if let Some(arguments) = &call.arguments {
        params["arguments"] = arguments.clone();
    }
    if let Some(payment) = payment {
        let damaged = |_| SendError { words: "the journal's payment is damaged".to_owned(), unsent: true };
        params["_meta"] = json!({ mcp::PAYMENT: header::decode(payment.as_bytes()).map_err(damaged)? });
    }
    Ok(params)
}

/// An answer to a call as an answer of HTTP.
fn in_terms_of_http(message: &Value, reply: Reply) -> Reply {
    let mut fields = HeaderMap::new();
    let mut note = |name: HeaderName, value: &Value| drop(fields.insert(name, header::encode(value)));
    let Some(result) = message.get("result") else {
        let error = message.get("error").cloned().unwrap_or_default();
        if let Some(receipt) = error.pointer("/data").and_then(|data| data.get(mcp::PAYMENT_RESPONSE)) {
            note(headers::PAYMENT_RESPONSE, receipt);
        }
        let receipt = fields.get(headers::PAYMENT_RESPONSE).and_then(|value| Receipt::read(value.as_bytes()).ok());
        // Paid for and not served. Where the receipt does not say so itself, the payment must not count as used up.
        let status = match receipt {
            Some(Receipt { success: true, undelivered: false, .. }) => StatusCode::BAD_GATEWAY,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        return Reply { status, headers: fields, body: text(&error), trailers: HeaderMap::new() };
    };
    let meta = |name: &str| result.get("_meta").and_then(|meta| meta.get(name));
    let receipt = meta(mcp::PAYMENT_RESPONSE);
    if let Some(receipt) = receipt {
        note(headers::PAYMENT_RESPONSE, receipt);
    }
    let words = result.get("structuredContent").unwrap_or(&Value::Null);
    let refused = result.get("isError") == Some(&Value::Bool(true));
    let offers = words.get("x402Version").is_some() && words.get("accepts").is_some_and(Value::is_array);
    // The gateway's own words, not those of a tool that failed.
    let code = words.get("error").and_then(Value::as_str).filter(|_| words.get("requestId").is_some());
    let code = code.and_then(|code| Code::ALL.iter().find(|known| known.as_str() == code));
    let status = match code {
        _ if refused && offers => {
            note(headers::PAYMENT_REQUIRED, words);
            StatusCode::PAYMENT_REQUIRED
        }
        Some(code) if refused => StatusCode::from_u16(code.status()).unwrap_or(StatusCode::BAD_GATEWAY),
        _ => reply.status,
    };
    if let Some(seconds) = meta(mcp::RETRY_AFTER).and_then(Value::as_u64) {
        fields.insert(RETRY_AFTER, seconds.into());
    }
    Reply { status, headers: fields, body: text(result), trailers: HeaderMap::new() }
}

fn text(value: &Value) -> Bytes {
    value.to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(kind: &str, body: &str) -> Reply {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_str(kind).unwrap())]);
        Reply { status: StatusCode::OK, headers, body: Bytes::copy_from_slice(body.as_bytes()), trailers: HeaderMap::new() }
    }

    #[test]
    fn an_answer_is_found_by_its_id_in_either_kind_of_body() {
        for (kind, body, expect) in [
            ("application/json", r#"{"id":7,"result":1}"#, true),
            ("application/json", r#"{"id":8,"result":1}"#, false),
            ("application/json", "", false),
            ("text/event-stream", "data: {\"method\":\"x\"}\n\ndata: {\"id\":7,\"result\":1}\n\n", true),
            ("text/event-stream; charset=utf-8", "id: 1\r\ndata: {\"id\":7,\r\ndata: \"result\":1}\r\n\r\n", true),
            ("text/event-stream", "data: {\"id\":7,\"result\":1}", true),
            ("text/event-stream", ": ping\n\n", false),
        ] {
            assert_eq!(answer_to(7, &reply(kind, body)), expect.then(|| json!({"id": 7, "result": 1})), "{kind} {body}");
        }
    }

    #[test]
    fn an_answer_to_a_call_means_what_it_would_over_http() {
        let read = |message: Value| in_terms_of_http(&message, reply("application/json", ""));
        let offers = json!({"x402Version": 2, "accepts": []});
        let receipt = json!({"success": false});
        let got = read(json!({"result": {"isError": true, "structuredContent": offers, "_meta": {"x402/payment-response": receipt}}}));
        let header = |name: HeaderName| got.headers.get(name).map(|value| header::decode(value.as_bytes()).unwrap());
        assert_eq!(got.status, StatusCode::PAYMENT_REQUIRED);
        assert_eq!((header(headers::PAYMENT_REQUIRED), header(headers::PAYMENT_RESPONSE)), (Some(offers), Some(receipt)));

        let refusal = |error: &str, id: bool| {
            let mut words = json!({"error": error});
            if id {
                words["requestId"] = "r".into();
            }
            read(json!({"result": {"isError": true, "structuredContent": words, "_meta": {"kas402/retry-after-seconds": 3}}}))
        };
        let got = refusal("settlement_pending", true);
        assert_eq!((got.status.as_u16(), &got.headers[RETRY_AFTER]), (503, &HeaderValue::from(3)));
        assert_eq!(refusal("settlement_pending", false).status, 200, "a tool may say so too");
        assert_eq!(refusal("out_of_cheese", true).status, 200);
        let got = read(json!({"result": {"content": [], "structuredContent": {"x402Version": 2, "accepts": []}}}));
        assert_eq!((got.status, got.headers.is_empty()), (StatusCode::OK, true), "a result is no offer");
        let got = read(json!({"error": {"code": -1, "data": {"x402/payment-response": {"success": true}}}}));
        assert_eq!((got.status.as_u16(), got.headers.contains_key(headers::PAYMENT_RESPONSE)), (502, true), "paid for, and still good");
        let receipt = json!({"success": true, "extensions": {"kaspa": {"status": "undelivered"}}});
        assert_eq!(
            read(json!({"error": {"code": -1, "data": {"x402/payment-response": receipt}}})).status.as_u16(),
            422,
            "it says so itself"
        );
        assert_eq!(read(json!({"error": {"code": -1}})).status.as_u16(), 422);
    }
}
