//! From the raw mirror to typed policy and settings. Goes on after an error, so that all are found.

mod channels;
mod charges;
mod facilitator;
mod fit;
mod prices;
mod remote;
mod routes;
mod settings;
mod shared_store;
mod tools;
mod upstreams;
mod ways;

pub use shared_store::at as server;

use super::{
    checks,
    escrow::{self, Sample},
    problem::{Code, Pos, Problems},
    raw::{self, Root},
    secrets::{self, Environment, Secret, SecretError},
    settings::Settings,
    shape::At,
    words,
};
use crate::{
    binding::escrow_v1::{ServerKey, ServerKeys},
    protocol::{network::Network, offer::OfferKey, policy::Policy, route::Router},
};
use channels::{Asked, Parts};
use std::path::{Path, PathBuf};
use url::Url;
use ways::Ways;

/// What every step needs.
struct Context<'c> {
    network: Network,
    folder: &'c Path,
    environment: &'c Environment<'c>,
    problems: &'c mut Problems,
}

pub fn compile(
    root: &Root,
    folder: &Path,
    environment: &Environment<'_>,
    problems: &mut Problems,
) -> Option<(Policy, Settings, Vec<OfferKey>, ServerKeys)> {
    let network = settings::network(root, problems);
    // An unknown network must not hide the rest: testnet stands in, addresses are then not judged.
    let cx = &mut Context { network: network.unwrap_or(Network::Testnet10), folder, environment, problems };
    let settings = settings::settings(root, cx);
    let offer_keys = settings::offer_keys(root, cx);
    let cors = settings::cors(root, cx);
    let upstreams = upstreams::upstreams(root, cx);
    let asked = Asked::of(root);
    let server_keys = settings::server_keys(root, cx);
    // Whose node another gateway is has its channels there too.
    let remote = root.remote_facilitator.is_some();
    let parts = if remote { None } else { channels::parts(root, &asked, cx) };
    let claims = parts.as_ref().and_then(|parts| parts.claims.as_ref());
    let ways = Ways {
        root,
        network_known: network.is_some(),
        server_key: (!remote).then(|| server_keys.as_ref().and_then(ServerKeys::opening).map_or_else(escrow::stand_in, ServerKey::public)),
        claim_policy: claims.filter(|_| channels::announced(root)).map(words::claims),
        sample: &Sample::of(cx.network, claims.map_or(0, |claims| claims.priority_sompi_per_gram)),
    };
    let routes = routes::routes(root, &upstreams, &ways, cx);
    checks::gaps(&routes, cx.problems);
    channels::allowed(root, &asked, cx);
    if !remote {
        fit::server_key(root, &asked, server_keys.as_ref(), cx);
    }
    fit::own_payouts(&routes, cx);
    let facilitated = facilitator::facilitator(root, &routes, server_keys.as_ref(), network.is_some(), cx);
    if let Some(parts) = &parts {
        fit::channels(root, &asked, parts, &routes, cx);
    }
    let (places, routes): (Vec<Pos>, Vec<_>) = routes.into_iter().map(|route| (route.at, route.value)).unzip();
    let router = match Router::build(routes) {
        Ok(router) => Some(router),
        Err(conflicts) => {
            for conflict in conflicts {
                let at = places.get(conflict.route).copied().unwrap_or_default();
                match conflict.other.and_then(|other| places.get(other)) {
                    Some(other) => {
                        let message = format!("conflicts with the route at {}:{}: {}", other.line, other.column, conflict.reason);
                        cx.problems.push(Code::RouteConflict, at, message);
                    }
                    None => cx.problems.push(Code::PathInvalid, at, conflict.reason),
                }
            }
            None
        }
    };
    let encoded_slashes = root.limits.as_ref().is_some_and(|limits| limits.value.encoded_slashes());
    let policy = Policy {
        network: network?,
        router: router?,
        upstreams: upstreams.configured,
        cors,
        encoded_slashes,
        channels: parts.filter(|_| asked.at().is_some()).and_then(Parts::whole),
        remote_channels: remote && asked.sold.is_some(),
        tenants: facilitated.tenants,
    };
    let settings = Settings { facilitator: facilitated.settings, ..settings? };
    Some((policy, settings, offer_keys?, server_keys?.joined(facilitated.server_keys)))
}

impl Context<'_> {
    fn problem(&mut self, code: Code, at: Pos, message: impl Into<String>) {
        self.problems.push(code, at, message);
    }

    /// A path of the file, from the file's folder.
    fn path(&self, text: &str) -> PathBuf {
        self.folder.join(text)
    }

    fn secret(&mut self, raw: &At<raw::Secret>) -> Option<Secret> {
        let found = match (&raw.value.env, &raw.value.file) {
            (Some(_), Some(_)) | (None, None) => {
                self.problem(Code::BadValue, raw.at, "a secret is exactly one of {env: NAME} and {file: PATH}");
                return None;
            }
            _ if !self.environment.secrets => return Some(Secret::new("not-read".to_owned())),
            (Some(name), None) => secrets::from_env(&name.value, self.environment),
            (None, Some(path)) => secrets::from_file(&self.path(&path.value)),
        };
        self.secret_found(found, raw.at)
    }

    fn secret_found<T>(&mut self, found: Result<T, SecretError>, at: Pos) -> Option<T> {
        found.map_err(|error| self.problem(error.code(), at, error.to_string())).ok()
    }

    /// `scheme://host[:port]` in its one spelling, lower case and without a default port.
    fn origin(&mut self, raw: &At<String>) -> Option<Url> {
        let plain = |url: &Url| {
            matches!(url.scheme(), "http" | "https")
                && url.has_host()
                && url.path() == "/"
                && url.query().is_none()
                && url.fragment().is_none()
                && url.username().is_empty()
                && url.password().is_none()
        };
        match Url::parse(&raw.value) {
            Ok(url) if plain(&url) => Some(url),
            _ => {
                self.problem(Code::OriginInvalid, raw.at, "write an origin: http:// or https://, host and port, nothing after it");
                None
            }
        }
    }
}

/// Whether only this machine can reach it.
fn is_loopback_address(address: &std::net::SocketAddr) -> bool {
    address.ip().is_loopback()
}

/// Whether traffic to this host stays on the machine.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
