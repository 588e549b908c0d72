//! The APIs behind the gateway.

use super::{Context, is_loopback, settings::pem};
use crate::{
    config::{
        problem::{Code, Pos},
        raw::{Root, UpstreamSection},
        shape::At,
    },
    protocol::{
        path::NormalPath,
        policy::{HostHeader, Upstream, UpstreamName, UpstreamTls},
    },
    wire::headers,
};
use http::{HeaderName, HeaderValue};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use url::Url;

/// The name of the upstream written as `upstream: URL`, and of the one a route means when it names none.
const DEFAULT: &str = "default";

pub struct Upstreams {
    pub configured: BTreeMap<UpstreamName, Arc<Upstream>>,
    /// Also those that did not compile, so that a fault in one is not reported again by every route.
    names: BTreeSet<UpstreamName>,
}

impl Upstreams {
    /// The upstream a route means.
    pub fn choose(&self, named: Option<&At<String>>, route: Pos, cx: &mut Context<'_>) -> Option<UpstreamName> {
        let listed = || self.names.iter().cloned().collect::<Vec<_>>().join(", ");
        match named {
            Some(name) if self.names.contains(&name.value) => Some(name.value.clone()),
            Some(name) => {
                cx.problem(Code::UpstreamUnknown, name.at, format!("there is no upstream {:?}; configured: {}", name.value, listed()));
                None
            }
            None if self.names.contains(DEFAULT) => Some(DEFAULT.to_owned()),
            None if self.names.len() == 1 => self.names.first().cloned(),
            None if self.names.is_empty() => {
                cx.problem(Code::UpstreamUnknown, route, "write `upstream: URL` at the top level, or `upstreams`");
                None
            }
            None => {
                cx.problem(Code::UpstreamUnknown, route, format!("say which `upstream`: {}", listed()));
                None
            }
        }
    }
}

pub fn upstreams(root: &Root, cx: &mut Context<'_>) -> Upstreams {
    let mut all = Upstreams { configured: BTreeMap::new(), names: BTreeSet::new() };
    let short = root.upstream.as_ref().map(|url| {
        let section = UpstreamSection { at: url.at, url: Some(url.clone()), ..UpstreamSection::default() };
        (DEFAULT.to_owned(), url.at, section)
    });
    let named = root.upstreams.iter().flat_map(|named| &named.value.0);
    let named = named.map(|(name, section)| (name.text.clone(), name.at, section.value.clone()));
    for (name, at, section) in short.into_iter().chain(named) {
        if !all.names.insert(name.clone()) {
            cx.problem(Code::UpstreamInvalid, at, "`upstream` already is the upstream `default`");
            continue;
        }
        if let Some(upstream) = upstream(&name, &section, cx) {
            all.configured.insert(name, Arc::new(upstream));
        }
    }
    all
}

fn upstream(name: &str, raw: &UpstreamSection, cx: &mut Context<'_>) -> Option<Upstream> {
    let headers = headers(raw, cx);
    let host_header = host_header(raw, cx);
    let url = url(raw.url.as_ref()?, cx)?;
    let host = url.0.host_str()?.trim_matches(['[', ']']).to_owned();
    let secure = url.0.scheme() == "https";
    if !headers.is_empty() && !secure && !is_loopback(&url.0) {
        cx.problem(Code::UpstreamPlain, raw.at, "its credentials are sent without TLS: use https:// or a private network");
    }
    if let Some(tls) = raw.tls.as_ref().filter(|_| !secure) {
        cx.problem(Code::UpstreamInvalid, tls.at, "`tls` has no meaning for an http:// upstream");
    }
    let mut seconds = |field: &Option<At<u64>>, value: u64| {
        if value == 0 {
            cx.problems.push(Code::BadValue, field.as_ref().map_or(raw.at, |field| field.at), "this must be at least 1");
        }
        Duration::from_secs(value)
    };
    let connect_timeout = seconds(&raw.connect_timeout_seconds, raw.connect_timeout_seconds());
    let read_timeout = seconds(&raw.read_timeout_seconds, raw.read_timeout_seconds());
    let write_timeout = seconds(&raw.write_timeout_seconds, raw.write_timeout_seconds());
    let idle_timeout = seconds(&raw.idle_timeout_seconds, raw.idle_timeout_seconds());
    Some(Upstream {
        name: name.to_owned(),
        port: url.0.port_or_known_default()?,
        tls: secure.then(|| tls(raw, &host, cx)),
        host,
        host_header,
        base_path: url.1,
        headers,
        connect_timeout,
        read_timeout,
        write_timeout,
        idle_timeout,
    })
}

/// The URL and its base path in normal form, without a slash at its end.
fn url(raw: &At<String>, cx: &mut Context<'_>) -> Option<(Url, String)> {
    let mut refuse = |why: &str| {
        cx.problem(Code::UpstreamInvalid, raw.at, why);
        None
    };
    let Ok(url) = Url::parse(&raw.value) else {
        return refuse("this is not a URL");
    };
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return refuse("an upstream is http:// or https:// and a host");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("credentials do not belong here: use `headers` with {env: NAME}");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return refuse("an upstream has no query and no fragment");
    }
    match NormalPath::parse(url.path(), false) {
        Ok(path) => Some((url, path.as_str().trim_end_matches('/').to_owned())),
        Err(reason) => refuse(&reason.to_string()),
    }
}

fn tls(raw: &UpstreamSection, host: &str, cx: &mut Context<'_>) -> UpstreamTls {
    let tls = raw.tls.as_ref().map(|tls| tls.value.clone()).unwrap_or_default();
    if !tls.verify() {
        let at = tls.verify.as_ref().map_or(tls.at, |verify| verify.at);
        cx.problem(Code::TlsVerifyOff, at, "anybody on the way can read and change what this upstream gets and answers");
    }
    UpstreamTls {
        server_name: tls.server_name.as_ref().map_or_else(|| host.to_owned(), |name| name.value.clone()),
        verify: tls.verify(),
        ca_file: tls.ca_file.as_ref().map(|file| pem(file, cx)),
    }
}

fn host_header(raw: &UpstreamSection, cx: &mut Context<'_>) -> HostHeader {
    let at = raw.host_header.as_ref().map_or(raw.at, |field| field.at);
    match raw.host_header().as_str() {
        "upstream" => HostHeader::Upstream,
        "client" => HostHeader::Client,
        text => match (HeaderValue::from_str(text), text.parse::<http::uri::Authority>()) {
            (Ok(value), Ok(_)) => HostHeader::Fixed(value),
            _ => {
                cx.problem(Code::UpstreamInvalid, at, "this must be upstream, client, or a host name");
                HostHeader::Upstream
            }
        },
    }
}

fn headers(raw: &UpstreamSection, cx: &mut Context<'_>) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
    for (key, secret) in raw.headers.iter().flat_map(|headers| &headers.value.0) {
        let Ok(name) = key.text.parse::<HeaderName>() else {
            cx.problem(Code::UpstreamInvalid, key.at, "this is not a header name");
            continue;
        };
        let framing = matches!(name.as_str(), "host" | "content-length") || headers::hop_by_hop(&name);
        if framing || headers::reserved(&name) || headers.iter().any(|(earlier, _)| *earlier == name) {
            cx.problem(Code::UpstreamInvalid, key.at, "this header cannot be set here: it is set by the gateway, or twice");
            continue;
        }
        let Some(value) = cx.secret(secret) else { continue };
        match HeaderValue::from_str(value.expose()) {
            Ok(mut value) => {
                value.set_sensitive(true);
                headers.push((name, value));
            }
            Err(_) => cx.problem(Code::SecretMalformed, secret.at, "the secret has characters that no header can carry"),
        }
    }
    headers
}
