//! What a forwarded request's headers say about the client and the upstream.

use crate::{
    protocol::{
        policy::{HostHeader, Upstream},
        request::RequestHead,
    },
    wire::headers::{REQUEST_ID, hop_by_hop, reserved},
};
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONNECTION, CONTENT_LENGTH, FORWARDED, HOST},
};
use pingora::http::{RequestHeader, ResponseHeader};
use std::net::IpAddr;

/// Headers that [`Provenance::stamped`] may add.
const STAMPED: usize = 6;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What the gateway itself knows about a request, in the words upstreams expect.
/// Overwrites what the client claims; only `X-Forwarded-For` is continued.
pub(super) struct Provenance {
    request_id: HeaderValue,
    forwarded_for: Option<HeaderValue>,
    host: Option<HeaderValue>,
    proto: HeaderValue,
}

impl Provenance {
    /// `claimed` are the headers as received; `authority` may be empty.
    pub(super) fn new(claimed: &HeaderMap, request_id: HeaderValue, client: Option<IpAddr>, authority: &str, tls: bool) -> Self {
        let mut chain = Vec::new();
        for hop in claimed.get_all(FORWARDED_FOR) {
            chain.extend_from_slice(hop.as_bytes());
            chain.extend_from_slice(b", ");
        }
        let forwarded_for = client.and_then(|ip| {
            chain.extend_from_slice(ip.to_string().as_bytes());
            HeaderValue::from_maybe_shared(bytes::Bytes::from(chain)).ok()
        });
        Self {
            request_id,
            forwarded_for,
            host: HeaderValue::from_str(authority).ok().filter(|host| !host.is_empty()),
            proto: HeaderValue::from_static(if tls { "https" } else { "http" }),
        }
    }

    pub(super) fn request_id(&self) -> &HeaderValue {
        &self.request_id
    }

    /// What the client calls us: `Host`, `:authority` or the authority of the target.
    pub(super) fn host(&self) -> Option<&HeaderValue> {
        self.host.as_ref()
    }

    fn entries(&self) -> [(HeaderName, Option<&HeaderValue>); 5] {
        [
            (REQUEST_ID, Some(&self.request_id)),
            (FORWARDED_FOR, self.forwarded_for.as_ref()),
            (FORWARDED_HOST, self.host.as_ref()),
            (FORWARDED_PROTO, Some(&self.proto)),
            (FORWARDED, None),
        ]
    }

    /// The client's headers with this written into them, as the paywall sees and forwards them; `Host` becomes the one authority.
    pub(super) fn stamped(&self, claimed: &HeaderMap) -> HeaderMap {
        // Room for what is stamped: a plain clone would grow, and hash everything again, at once.
        let mut headers = HeaderMap::with_capacity(claimed.len() + STAMPED);
        for (name, value) in claimed {
            headers.append(name, value.clone());
        }
        for (name, value) in self.entries().into_iter().chain([(HOST, self.host())]) {
            match value {
                Some(value) => drop(headers.insert(name, value.clone())),
                None => drop(headers.remove(name)),
            }
        }
        headers
    }

    /// The same on a request that pingora forwards, whose reserved headers go.
    pub(super) fn stamp_request(&self, request: &mut RequestHeader) -> pingora::Result<()> {
        let strip: Vec<HeaderName> = request.headers.keys().filter(|name| reserved(name)).cloned().collect();
        for name in &strip {
            request.remove_header(name);
        }
        for (name, value) in self.entries() {
            match value {
                Some(value) => request.insert_header(name, value.clone())?,
                None => drop(request.remove_header(&name)),
            }
        }
        Ok(())
    }
}

/// Sets `Host` by the upstream's policy and overwrites the headers configured for it, credentials among them.
pub(super) fn address_to(upstream: &Upstream, client_host: Option<&HeaderValue>, request: &mut RequestHeader) -> pingora::Result<()> {
    let host = match (&upstream.host_header, client_host) {
        (HostHeader::Fixed(host), _) => host.clone(),
        (HostHeader::Client, Some(host)) => host.clone(),
        (HostHeader::Client, None) | (HostHeader::Upstream, _) => own_host(upstream)?,
    };
    request.insert_header(HOST, host)?;
    for (name, value) in &upstream.headers {
        request.insert_header(name.clone(), value.clone())?;
    }
    Ok(())
}

fn own_host(upstream: &Upstream) -> pingora::Result<HeaderValue> {
    let default_port = if upstream.tls.is_some() { 443 } else { 80 };
    let bare_ipv6 = upstream.host.contains(':') && !upstream.host.starts_with('[');
    let host = if bare_ipv6 { format!("[{}]", upstream.host) } else { upstream.host.clone() };
    let host = if upstream.port == default_port { host } else { format!("{host}:{}", upstream.port) };
    HeaderValue::try_from(host).map_err(|e| pingora::Error::because(pingora::InvalidHTTPHeader, "the upstream's host", e))
}

/// The path and query as the upstream sees them.
pub(super) fn upstream_path(upstream: &Upstream, head: &RequestHead) -> String {
    let (path, query) = (head.path.as_str(), head.query.as_deref());
    let mut target = String::with_capacity(upstream.base_path.len() + path.len() + query.map_or(0, |query| query.len() + 1));
    target.push_str(&upstream.base_path);
    target.push_str(path);
    if let Some(query) = query {
        target.push('?');
        target.push_str(query);
    }
    target
}

/// The headers that concern the message, not the connection it came over.
pub(super) fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    each_end_to_end(headers).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The same one by one.
pub(super) fn each_end_to_end(headers: &HeaderMap) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
    let of_connection = of_connection(headers);
    headers.iter().filter(move |(name, _)| !of_connection(name))
}

/// Whether a header of these is one of their connection.
fn of_connection(headers: &HeaderMap) -> impl Fn(&HeaderName) -> bool {
    let nominated: Vec<&str> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    move |name| hop_by_hop(name) || nominated.iter().any(|nominated| nominated.eq_ignore_ascii_case(name.as_str()))
}

/// Takes away what is not the client's to send to an upstream.
pub(super) fn strip_request(headers: &mut HeaderMap) {
    let of_connection = of_connection(headers);
    let strip: Vec<HeaderName> = headers.keys().filter(|name| of_connection(name) || reserved(name)).cloned().collect();
    drop(of_connection);
    for name in &strip {
        headers.remove(name);
    }
}

/// Takes away what concerned the upstream's connection, the framing of the body included.
pub(super) fn strip_response(head: &mut ResponseHeader) {
    let of_connection = of_connection(&head.headers);
    let strip: Vec<HeaderName> = head.headers.keys().filter(|name| of_connection(name) || **name == CONTENT_LENGTH).cloned().collect();
    drop(of_connection);
    for name in &strip {
        head.remove_header(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::tests::support::upstream;

    #[test]
    fn host_follows_the_policy() {
        let address = "127.0.0.1:8080".parse().unwrap();
        let client = HeaderValue::from_static("api.example");
        for (policy, host, port, client, expect) in [
            (HostHeader::Upstream, "backend", 80, Some(&client), "backend"),
            (HostHeader::Upstream, "backend", 8080, Some(&client), "backend:8080"),
            (HostHeader::Upstream, "::1", 8080, Some(&client), "[::1]:8080"),
            (HostHeader::Client, "backend", 80, Some(&client), "api.example"),
            (HostHeader::Client, "backend", 80, None, "backend"),
            (HostHeader::Fixed(HeaderValue::from_static("fixed")), "backend", 80, Some(&client), "fixed"),
        ] {
            let mut upstream = upstream(address);
            (upstream.host, upstream.port, upstream.host_header) = (host.into(), port, policy);
            let mut request = RequestHeader::build("GET", b"/", None).unwrap();
            address_to(&upstream, client, &mut request).unwrap();
            assert_eq!(request.headers[HOST], expect);
        }
    }

    #[test]
    fn connection_headers_stay_behind() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Hop"),
            ("x-hop", "1"),
            ("keep-alive", "1"),
            ("transfer-encoding", "chunked"),
            ("etag", "e"),
            ("set-cookie", "a"),
            ("set-cookie", "b"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let kept: Vec<_> = end_to_end(&headers).iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap())).collect();
        assert_eq!(kept, ["etag=e", "set-cookie=a", "set-cookie=b"]);
    }

    #[test]
    fn a_client_extends_the_chain_but_does_not_write_it() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil"),
            ("forwarded", "for=evil"),
            ("x-request-id", "evil"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let client = Some("192.0.2.7".parse().unwrap());
        let headers = Provenance::new(&headers, HeaderValue::from_static("id"), client, "api.example", false).stamped(&headers);
        let mut seen: Vec<_> = headers.iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap())).collect();
        seen.sort();
        assert_eq!(
            seen,
            [
                "host=api.example",
                "x-forwarded-for=10.0.0.1, 192.0.2.7",
                "x-forwarded-host=api.example",
                "x-forwarded-proto=http",
                "x-request-id=id"
            ]
        );
    }
}
