//! From pingora's request header to the head the paywall judges: one authority, one origin-form target.
//!
//! pingora has already refused duplicate `Host`, a `Host` that differs from an absolute target,
//! userinfo, ambiguous framing and more than 256 headers or about 1 MiB of head (all 400).

use super::forward::Provenance;
use crate::gateway::answer::RawHead;
use http::{HeaderMap, HeaderValue, Version, header::HOST};
use pingora::{
    http::RequestHeader,
    protocols::http::authority::{RawTargetAuthority, is_http_family_scheme, raw_target_authority},
};
use std::net::IpAddr;

/// Headers that [`Provenance::stamp`] may add.
const STAMPED: usize = 6;

/// The request line or `Host` names no one resource; answered 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Where the client's bytes came from.
pub(super) struct Origin {
    pub ip: Option<IpAddr>,
    pub tls: bool,
}

/// The head for the paywall, and what is said about the request to an upstream.
pub(super) fn read(request: &RequestHeader, origin: Origin, request_id: String) -> Result<(RawHead, Provenance), Malformed> {
    let (authority, target) = split(request)?;
    let id = HeaderValue::from_str(&request_id).map_err(|_| Malformed)?;
    let provenance = Provenance::new(&request.headers, id, origin.ip, &authority, origin.tls);
    // Room for what is stamped: a plain clone would grow, and hash everything again, at once.
    let mut headers = HeaderMap::with_capacity(request.headers.len() + STAMPED);
    for (name, value) in &request.headers {
        headers.append(name, value.clone());
    }
    provenance.stamp(&mut headers);
    Ok((RawHead { method: request.method.clone(), authority, target, headers, request_id }, provenance))
}

fn split(request: &RequestHeader) -> Result<(String, String), Malformed> {
    let raw = request.raw_path();
    let (authority, target) = match raw_target_authority(raw) {
        RawTargetAuthority::None => (None, raw),
        RawTargetAuthority::AmbiguousAuthority => return Err(Malformed),
        RawTargetAuthority::Absolute { scheme, authority, path_and_query } if is_http_family_scheme(scheme) => {
            (Some(text(authority)?), path_and_query)
        }
        RawTargetAuthority::Absolute { .. } => return Err(Malformed),
    };
    let authority = match authority.or_else(|| request.uri.authority().map(|authority| authority.as_str())) {
        Some(authority) => authority,
        None => match request.headers.get(HOST) {
            Some(host) => text(host.as_bytes())?,
            None if request.version == Version::HTTP_11 => return Err(Malformed),
            None => "",
        },
    };
    Ok((authority.to_owned(), origin_form(text(target)?)?))
}

fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed)
}

/// Refuses what servers are known to read differently: fragments, blanks and control characters
/// anywhere, backslashes in the path.
fn origin_form(target: &str) -> Result<String, Malformed> {
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    if target.contains(|c: char| c == '#' || c.is_ascii_control() || c.is_whitespace()) || path.contains('\\') {
        return Err(Malformed);
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
}
