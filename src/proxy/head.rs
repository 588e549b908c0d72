//! From pingora's request header to the head the paywall judges: one authority, one origin-form target.
//!
//! pingora has already refused duplicate `Host`, a `Host` that differs from an absolute target,
//! userinfo in targets, contradicting lengths and more than 256 headers or about 1 MiB of head (all 400).

use super::forward::Provenance;
use crate::gateway::answer::RawHead;
use crate::protocol::refusal::Code;
use http::{
    HeaderMap, HeaderValue, Version,
    header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING},
};
use pingora::{
    http::RequestHeader,
    protocols::http::authority::{RawTargetAuthority, is_http_family_scheme, raw_target_authority},
};
use std::net::IpAddr;

/// A head that servers read differently; answered 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Malformed {
    /// The request line or `Host` names no one resource.
    Target,
    /// The headers do not say in one way where the body ends.
    Framing,
}

impl Malformed {
    pub(super) fn code(self) -> Code {
        match self {
            Self::Target => Code::PathMalformed,
            Self::Framing => Code::BodyIncomplete,
        }
    }
}

/// Where the client's bytes came from.
pub(super) struct Origin {
    pub ip: Option<IpAddr>,
    pub tls: bool,
}

/// A request that can be judged.
pub(super) struct Read {
    /// For the paywall.
    pub head: RawHead,
    /// What is said about the request to an upstream.
    pub provenance: Provenance,
    /// As its headers frame it; it may still be empty.
    pub has_body: bool,
}

/// `id` is `request_id` as a header's value.
pub(super) fn read(request: &RequestHeader, origin: Origin, request_id: String, id: HeaderValue) -> Result<Read, Malformed> {
    let has_body = framing(&request.headers)?;
    let (authority, target) = split(request)?;
    let provenance = Provenance::new(&request.headers, id, origin.ip, &authority, origin.tls);
    let headers = provenance.stamped(&request.headers);
    Ok(Read { head: RawHead { method: request.method.clone(), authority, target, headers, request_id }, provenance, has_body })
}

fn split(request: &RequestHeader) -> Result<(String, String), Malformed> {
    let raw = request.raw_path();
    let (authority, target) = match raw_target_authority(raw) {
        RawTargetAuthority::None => (None, raw),
        RawTargetAuthority::AmbiguousAuthority => return Err(Malformed::Target),
        RawTargetAuthority::Absolute { scheme, authority, path_and_query } if is_http_family_scheme(scheme) => {
            (Some(text(authority)?), path_and_query)
        }
        RawTargetAuthority::Absolute { .. } => return Err(Malformed::Target),
    };
    let authority = match authority.or_else(|| request.uri.authority().map(|authority| authority.as_str())) {
        Some(authority) => authority,
        None => match request.headers.get(HOST) {
            Some(host) => text(host.as_bytes())?,
            None if request.version == Version::HTTP_11 => return Err(Malformed::Target),
            None => "",
        },
    };
    if !authority.bytes().all(host_byte) {
        return Err(Malformed::Target);
    }
    Ok((authority.to_owned(), origin_form(text(target)?)?))
}

/// Names, addresses and a port. Anything else an upstream's own reading of `Host` might end at, or take for a path.
const fn host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'%' | b':' | b'[' | b']')
}

/// One length, or chunks: an upstream that chose another of two ways would take a part of the body for a request
/// that nobody paid. pingora passes a list of equal lengths on, and drops codings it does not know.
/// Whether there is a body.
fn framing(headers: &HeaderMap) -> Result<bool, Malformed> {
    let only = |name| {
        let mut values = headers.get_all(name).iter();
        (values.next(), values.next().is_some())
    };
    let digits = |value: &HeaderValue| !value.is_empty() && value.as_bytes().iter().all(u8::is_ascii_digit);
    match (only(CONTENT_LENGTH), only(TRANSFER_ENCODING)) {
        ((None, _), (None, _)) => Ok(false),
        ((Some(length), false), (None, _)) if digits(length) => Ok(true),
        ((None, _), (Some(coding), false)) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(true),
        _ => Err(Malformed::Framing),
    }
}

fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed::Target)
}

/// Refuses what servers are known to read differently: fragments, blanks and control characters
/// anywhere, backslashes in the path.
fn origin_form(target: &str) -> Result<String, Malformed> {
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    if target.contains(|c: char| c == '#' || c.is_ascii_control() || c.is_whitespace()) || path.contains('\\') {
        return Err(Malformed::Target);
    }
    Ok(if path.is_empty() { format!("/{target}") } else { target.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(target: &str, hosts: &[&str], version: Version, expect: Option<(&str, &str)>) {
        let mut request = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
        request.set_version(version);
        for host in hosts {
            request.append_header(HOST, *host).unwrap();
        }
        let found = split(&request).ok();
        assert_eq!(found.as_ref().map(|(authority, target)| (authority.as_str(), target.as_str())), expect, "{target} {hosts:?}");
    }

    #[test]
    fn every_target_form_has_one_authority_and_one_path() {
        for (target, host, expect) in [
            ("/a?b=/../c", "api.example", Some(("api.example", "/a?b=/../c"))),
            ("/a/%2e%2E/b", "api.example:81", Some(("api.example:81", "/a/%2e%2E/b"))),
            ("//other/a", "api.example", Some(("api.example", "//other/a"))),
            ("http://api.example/a?q", "api.example", Some(("api.example", "/a?q"))),
            ("HTTPS://api.example", "api.example", Some(("api.example", "/"))),
            ("http://api.example?q", "api.example", Some(("api.example", "/?q"))),
            ("*", "api.example", Some(("api.example", "*"))),
            ("/a\\b", "api.example", None),
            ("/a?b\\c", "api.example", Some(("api.example", "/a?b\\c"))),
            ("ftp://api.example/a", "api.example", None),
            ("http:api.example/a", "api.example", None),
            ("/a", "[::1]:80", Some(("[::1]:80", "/a"))),
            ("/a", "api.example/b?", None),
            ("/a", "api.example, other", None),
            ("/a", "user@api.example", None),
        ] {
            check(target, &[host], Version::HTTP_11, expect);
        }
    }

    #[test]
    fn only_http_1_0_may_leave_out_the_host() {
        check("/a", &[], Version::HTTP_10, Some(("", "/a")));
        check("/a", &[], Version::HTTP_11, None);
        check("http://api.example/a", &[], Version::HTTP_11, Some(("api.example", "/a")));
    }

    #[test]
    fn the_end_of_the_body_is_said_once() {
        for (lines, expect) in [
            (&[][..], Ok(false)),
            (&[("content-length", "3")], Ok(true)),
            (&[("transfer-encoding", "Chunked")], Ok(true)),
            (&[("content-length", "3, 3")], Err(Malformed::Framing)),
            (&[("content-length", "3"), ("content-length", "3")], Err(Malformed::Framing)),
            (&[("content-length", "+3")], Err(Malformed::Framing)),
            (&[("content-length", "")], Err(Malformed::Framing)),
            (&[("content-length", "3"), ("transfer-encoding", "chunked")], Err(Malformed::Framing)),
            (&[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], Err(Malformed::Framing)),
            (&[("transfer-encoding", "gzip, chunked")], Err(Malformed::Framing)),
            (&[("transfer-encoding", "chunked, chunked")], Err(Malformed::Framing)),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(*name, HeaderValue::from_static(value));
            }
            assert_eq!(framing(&headers), expect, "{lines:?}");
        }
    }
}
