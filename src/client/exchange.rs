//! One HTTP exchange: the request as it is named, sent, and answered. Nothing here knows of money.

use super::{journal::RequestKey, policy::Patience};
use crate::wire::{canonical, headers};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use reqwest::{Client, redirect::Policy};
use serde_json::json;
use sha2::{Digest, Sha256};
use url::Url;

/// A request that may be paid for.
#[derive(Clone, Debug)]
pub struct PaidRequest {
    pub method: Method,
    url: Url,
    /// Sent every time; payment headers among them are replaced by the buyer's own.
    pub headers: HeaderMap,
    pub body: Bytes,
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
}

impl PaidRequest {
    pub fn new(method: Method, url: &str, headers: HeaderMap, body: Bytes) -> Result<Self, UrlError> {
        let mut url = Url::parse(url).map_err(|_| UrlError)?;
        if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() || url.password().is_some() {
            return Err(UrlError);
        }
        url.set_fragment(None);
        Ok(Self { method, url, headers, body })
    }

    /// Origin, path and query exactly as they go on the wire: what the request hash covers.
    pub fn url(&self) -> String {
        format!("{}{}", self.url.origin().ascii_serialization(), self.target(&self.url))
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

    /// Sends the request once, with this payment. The error is for people: whether anything arrived is unknown.
    pub async fn send(&self, request: &PaidRequest, payment: Option<&str>) -> Result<Reply, String> {
        let mut fields = request.headers.clone();
        fields.remove(headers::PAYMENT_SIGNATURE);
        if let Some(payment) = payment {
            let mut value = HeaderValue::from_str(payment).map_err(|_| "the journal's payment header is damaged".to_owned())?;
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
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(explain)? {
            if body.len().saturating_add(chunk.len()) > self.body_bytes {
                return Err(format!("the response body is longer than {} bytes", self.body_bytes));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Reply { status, headers, body: body.freeze() })
    }
}

/// The innermost cause says what happened; the outer ones only that a request failed.
fn explain(error: reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    if error.is_timeout() { "no answer in time".to_owned() } else { cause.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(url: &str) -> PaidRequest {
        PaidRequest::new(Method::GET, url, HeaderMap::new(), Bytes::new()).unwrap()
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
