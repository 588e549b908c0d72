//! What the rules may know of a request; filled in by `proxy`, read by everything else.

use super::path::NormalPath;
use bytes::Bytes;
use http::HeaderMap;

/// The head of a request after its path was brought into the normal form.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// Upper-case token as received; methods are case-sensitive in HTTP.
    pub method: http::Method,
    /// Lower case, without port; from the request target when it was absolute, else from `Host`.
    pub host: String,
    /// The path that is matched and forwarded.
    pub path: NormalPath,
    /// Path and query exactly as received: what `requestHash` covers.
    pub target: String,
    /// The query without `?`, untouched; `None` when there was no `?`.
    pub query: Option<String>,
    /// All headers as received.
    pub headers: HeaderMap,
}

/// A whole request, its body read to the end within the route's limit.
#[derive(Clone, Debug)]
pub struct Request {
    pub head: RequestHead,
    /// Empty when there was none.
    pub body: Bytes,
}
