//! One HTTP exchange: the request as it is named, sent, and answered. Nothing here knows of money.

use super::{journal::RequestKey, policy::Patience};
use crate::{
    protocol::ids::RequestHash,
    wire::{canonical, fingerprint, headers, mcp},
};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body::Body as _;
use reqwest::{Client, redirect::Policy};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{future::poll_fn, pin::Pin};
use url::Url;

/// A request that may be paid for.
#[derive(Clone, Debug)]
pub struct PaidRequest {
    pub method: Method,
    url: Url,
    /// Sent every time; payment headers among them are replaced by the buyer's own.
    pub headers: HeaderMap,
    pub body: Bytes,
    /// What is bought, when it is a call of a tool and not an answer of HTTP.
    call: Option<ToolCall>,
}

/// A call of a tool of an MCP server.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolCall {
    pub tool: String,
    pub arguments: Option<Value>,
}

/// The URL is no place to send money to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the URL is not http or https, or carries a user name")]
pub struct UrlError;

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Only HTTP/2 has them.
    pub trailers: HeaderMap,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{words}")]
pub struct SendError {
    /// For people.
    pub words: String,
    /// No connection was made: nothing arrived anywhere. Otherwise it is unknown what did.
    pub unsent: bool,
}

impl SendError {
    pub(super) fn after_sending(words: impl Into<String>) -> Self {
        Self { words: words.into(), unsent: false }
    }
}

/// Whatever carries requests. [`Exchange`] is the real one.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Sends the request once, with this payment.
    async fn send(&self, request: &PaidRequest, payment: Option<&str>) -> Result<Reply, SendError>;
}

impl PaidRequest {
    pub fn new(method: Method, url: &str, headers: HeaderMap, body: Bytes) -> Result<Self, UrlError> {
        let mut url = Url::parse(url).map_err(|_| UrlError)?;
        if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() || url.password().is_some() {
            return Err(UrlError);
        }
        url.set_fragment(None);
        Ok(Self { method, url, headers, body, call: None })
    }

    /// A call of a tool, for [`super::mcp::McpClient`] to carry.
    pub fn call(url: &str, headers: HeaderMap, call: ToolCall) -> Result<Self, UrlError> {
        // Names the purchase; the message around it changes from one sending to the next.
        let body = canonical::to_vec(&json!({ "method": mcp::CALL, "name": call.tool, "arguments": call.arguments }));
        Ok(Self { call: Some(call), ..Self::new(Method::POST, url, headers, body.into())? })
    }

    pub fn tool(&self) -> Option<&ToolCall> {
        self.call.as_ref()
    }

    /// What binds a payment to this request, under the URL by which the server names it.
    pub fn request_hash(&self, url: &str, accepted: &Value) -> RequestHash {
        match &self.call {
            Some(call) => fingerprint::tool_call_hash(url, &call.tool, call.arguments.as_ref(), accepted),
            None => fingerprint::request_hash(self.method.as_str(), url, &self.body, accepted),
        }
    }

    /// GET without headers of its own.
    pub fn get(url: &str) -> Result<Self, UrlError> {
        Self::new(Method::GET, url, HeaderMap::new(), Bytes::new())
    }

    /// Origin, path and query exactly as they go on the wire: what the request hash covers.
    pub fn url(&self) -> String {
        format!("{}{}", self.origin(), self.target(&self.url))
    }

    /// What makes two requests the same purchase for the buyer.
    pub fn key(&self) -> RequestKey {
        let body = hex::encode(Sha256::digest(&self.body));
        RequestKey(canonical::sha256(&json!({ "method": self.method.as_str(), "url": self.url(), "body": body })))
    }

    /// Whether `named` is this resource. The path and query must be equal in any case.
    pub fn is_named(&self, named: &str, other_origin: bool) -> bool {
        let Ok(named) = Url::parse(named) else { return false };
        let same_origin = other_origin || named.origin() == self.url.origin();
        same_origin && self.target(&named) == self.target(&self.url)
    }

    /// Another place of the same server, without this request's headers and body.
    pub fn elsewhere(&self, target: &str) -> Option<Self> {
        let url = self.url.join(target).ok().filter(|url| url.origin() == self.url.origin())?;
        Self::get(url.as_str()).ok()
    }

    /// Scheme, host and port.
    pub fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    fn target(&self, url: &Url) -> String {
        match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        }
    }
}

/// An HTTP client that follows nothing and forgets cookies.
pub struct Exchange {
    http: Client,
    body_bytes: usize,
}

impl Exchange {
    pub fn new(patience: &Patience) -> Self {
        let http = Client::builder()
            .redirect(Policy::none())
            .timeout(patience.attempt)
            .user_agent(concat!("kas402/", env!("CARGO_PKG_VERSION")))
            .build()
            .expect("the TLS roots are compiled in and the options are constants");
        Self { http, body_bytes: patience.body_bytes }
    }
}

#[async_trait]
impl Transport for Exchange {
    async fn send(&self, request: &PaidRequest, payment: Option<&str>) -> Result<Reply, SendError> {
        let mut fields = request.headers.clone();
        fields.remove(headers::PAYMENT_SIGNATURE);
        if let Some(payment) = payment {
            let damaged = |_| SendError { words: "the journal's payment header is damaged".to_owned(), unsent: true };
            let mut value = HeaderValue::from_str(payment).map_err(damaged)?;
            // Worth its money to whoever reads it: kept out of HTTP/2 header tables and logs.
            value.set_sensitive(true);
            fields.insert(headers::PAYMENT_SIGNATURE, value);
        }
        let mut builder = self.http.request(request.method.clone(), request.url.clone()).headers(fields);
        if !request.body.is_empty() {
            builder = builder.body(request.body.clone());
        }
        let mut response = builder.send().await.map_err(explain)?;
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        let mut frames = http::Response::<reqwest::Body>::from(response).into_body();
        let (mut body, mut trailers) = (BytesMut::new(), HeaderMap::new());
        while let Some(frame) = poll_fn(|context| Pin::new(&mut frames).poll_frame(context)).await {
            match frame.map_err(explain)?.into_data() {
                Ok(chunk) if body.len().saturating_add(chunk.len()) > self.body_bytes => {
                    return Err(SendError::after_sending(format!("the response body is longer than {} bytes", self.body_bytes)));
                }
                Ok(chunk) => body.extend_from_slice(&chunk),
                Err(frame) => trailers.extend(frame.into_trailers().unwrap_or_default()),
            }
        }
        Ok(Reply { status, headers, body: body.freeze(), trailers })
    }
}

/// The innermost cause says what happened; the outer ones only that a request failed.
fn explain(error: reqwest::Error) -> SendError {
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let words = if error.is_timeout() { "no answer in time".to_owned() } else { cause.to_string() };
    SendError { words, unsent: error.is_connect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(url: &str) -> PaidRequest {
        PaidRequest::get(url).unwrap()
    }

    #[test]
    fn a_resource_is_named_by_origin_path_and_query() {
        let request = get("http://127.0.0.1:8402/a/b?c=%20d#fragment");
        assert_eq!(request.url(), "http://127.0.0.1:8402/a/b?c=%20d");
        for (named, same, behind) in [
            ("http://127.0.0.1:8402/a/b?c=%20d", true, true),
            ("https://api.example/a/b?c=%20d", false, true),
            ("http://127.0.0.1:8403/a/b?c=%20d", false, true),
            ("http://127.0.0.1:8402/a/b?c=d", false, false),
            ("http://127.0.0.1:8402/a/b", false, false),
            ("http://127.0.0.1:8402/a/c?c=%20d", false, false),
            ("/a/b?c=%20d", false, false),
            ("", false, false),
        ] {
            assert_eq!((request.is_named(named, false), request.is_named(named, true)), (same, behind), "{named}");
        }
    }

    #[test]
    fn a_purchase_is_its_method_url_and_body() {
        let base = get("https://shop/x");
        let body = |body: &'static str| PaidRequest { body: Bytes::from_static(body.as_bytes()), ..base.clone() };
        assert_eq!(base.key(), get("https://shop/x#f").key());
        assert_ne!(base.key(), get("https://shop/x?").key());
        assert_ne!(base.key(), PaidRequest { method: Method::POST, ..base.clone() }.key());
        assert_ne!(body("a").key(), body("b").key());
    }

    #[test]
    fn money_is_sent_only_over_http_and_without_a_password() {
        for url in ["ftp://shop/x", "file:///x", "https://me:secret@shop/x", "https://me@shop/x", "shop/x", ""] {
            assert!(PaidRequest::new(Method::GET, url, HeaderMap::new(), Bytes::new()).is_err(), "{url}");
        }
    }
}
