//! The Redis store: its URL and what is demanded of the server.

use super::{Context, raw};
use crate::{
    config::{
        problem::{Code, Pos},
        raw::{StoreDurability, StoreKind, StoreUrl},
        settings::RedisSettings,
        shape::At,
    },
    store::redis::{Durability, endpoint::Endpoint},
};
use std::time::Duration;
use zeroize::Zeroizing;

/// Keys of the section that only one kind of store has.
const OF_EMBEDDED: [&str; 1] = ["path"];
const OF_REDIS: [&str; 8] =
    ["url", "password", "ca_file", "prefix", "durability", "replicas", "connect_timeout_seconds", "timeout_seconds"];
const LONGEST_PREFIX: usize = 64;
const LONGEST_SECONDS: u64 = 60;

/// `None` for another store, and when something is wrong.
pub fn settings(raw: &raw::Store, at: Pos, cx: &mut Context<'_>) -> Option<RedisSettings> {
    let is_redis = raw.kind() == StoreKind::Redis;
    let (foreign, kind): (&[&str], _) = if is_redis { (&OF_EMBEDDED, "redis") } else { (&OF_REDIS, "embedded") };
    for key in raw.written.iter().filter(|key| foreign.contains(key)) {
        cx.problem(Code::StoreSetting, raw.at, format!("`{key}` has no meaning with `kind: {kind}`"));
    }
    if !is_redis {
        return None;
    }
    let endpoint = endpoint(raw, at, cx);
    let prefix = raw.prefix();
    if !is_prefix(&prefix) {
        let at = raw.prefix.as_ref().map_or(at, |prefix| prefix.at);
        cx.problem(Code::BadValue, at, "a prefix is 1 to 64 of letters, digits, `-`, `_`, `.` and `:`");
    }
    let durability = match raw.durability() {
        StoreDurability::Strict => Durability::Strict,
        StoreDurability::Standard => Durability::Standard,
    };
    if durability == Durability::Standard {
        let at = raw.durability.as_ref().map_or(at, |durability| durability.at);
        cx.problem(
            Code::StoreStandard,
            at,
            "a crash or a failover of the server can lose payments of its last second; `strict` does not start then",
        );
        if let Some(replicas) = &raw.replicas {
            cx.problem(Code::StoreSetting, replicas.at, "`replicas` has no meaning with `durability: standard`, which waits for none");
        }
    }
    let mut seconds = |value: u64, written: &Option<At<u64>>| {
        if !(1..=LONGEST_SECONDS).contains(&value) {
            cx.problem(Code::BadValue, written.as_ref().map_or(at, |written| written.at), "this must be between 1 and 60 seconds");
        }
        Duration::from_secs(value)
    };
    let connect = seconds(raw.connect_timeout_seconds(), &raw.connect_timeout_seconds);
    let timeout = seconds(raw.timeout_seconds(), &raw.timeout_seconds);
    Some(RedisSettings {
        endpoint: endpoint?,
        ca_file: raw.ca_file.as_ref().map(|file| cx.path(&file.value)),
        prefix,
        durability,
        replicas: raw.replicas.as_ref().map(|replicas| replicas.value),
        connect,
        timeout,
    })
}

/// A server that is named outside of a configuration, with a configuration's defaults.
pub fn at(url: &str, password: Option<Zeroizing<String>>) -> Result<RedisSettings, String> {
    let defaults = raw::Store::default();
    let mut endpoint = Endpoint::parse(url).map_err(|error| error.to_string())?;
    if endpoint.password.is_some() {
        return Err("a password does not stand on the command line, where others read it".to_owned());
    }
    endpoint.password = password;
    if endpoint.user.is_some() && endpoint.password.is_none() {
        return Err("the url names a user, and no password is given".to_owned());
    }
    Ok(RedisSettings {
        endpoint,
        ca_file: None,
        prefix: defaults.prefix(),
        durability: Durability::Strict,
        replicas: None,
        connect: Duration::from_secs(defaults.connect_timeout_seconds()),
        timeout: Duration::from_secs(defaults.timeout_seconds()),
    })
}

fn is_prefix(prefix: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
    (1..=LONGEST_PREFIX).contains(&prefix.len()) && prefix.bytes().all(fine)
}

fn endpoint(raw: &raw::Store, at: Pos, cx: &mut Context<'_>) -> Option<Endpoint> {
    let Some(url) = &raw.url else {
        cx.problem(Code::StoreUrl, at, "`kind: redis` needs a `url`, for example redis://127.0.0.1:6379");
        return None;
    };
    let (text, secret) = match &url.value {
        StoreUrl::Plain(text) => (text.clone(), false),
        StoreUrl::Secret(secret) => {
            let secret = At { at: url.at, value: secret.clone() };
            let found = cx.secret(&secret)?;
            if !cx.environment.secrets {
                return Endpoint::parse("redis://not-read").ok();
            }
            (found.expose().to_owned(), true)
        }
    };
    let mut endpoint = Endpoint::parse(&text).map_err(|error| cx.problem(Code::StoreUrl, url.at, error.to_string())).ok()?;
    if endpoint.password.is_some() && !secret {
        cx.problem(Code::StoreUrl, url.at, "a password does not stand in this file: write `password: {env: NAME}`, or the whole url so");
    }
    if let Some(password) = &raw.password {
        if endpoint.password.is_some() {
            cx.problem(Code::StoreUrl, password.at, "the url has a password already");
        }
        endpoint.password = cx.secret(password).map(|password| password.expose().to_owned().into());
    }
    if endpoint.user.is_some() && endpoint.password.is_none() {
        cx.problem(Code::StoreUrl, url.at, "the url names a user, and no password is given");
    }
    if !endpoint.tls && !endpoint.is_local() {
        cx.problem(
            Code::StorePlain,
            url.at,
            "no TLS: whoever is on the way reads and writes money; use rediss:// unless the network is your own",
        );
    }
    Some(endpoint)
}
