//! What is demanded of the server before money is kept there: judged at start, every misfit at once, each with what to do.
//!
//! Settings come from `CONFIG GET`; a user who may not ask gets what `INFO` tells, which is not enough for `strict`.

use super::{Durability, link::Link, reply};
use crate::store::StoreError;
use redis::Value;
use std::{collections::HashMap, time::Duration};
use tokio::time::{Instant, sleep_until};

const LOADING_PAUSE: Duration = Duration::from_millis(50);

/// Why the server is not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    #[error("redis_version: the server is Redis {0}, and 6.2 or newer is needed: upgrade it")]
    Version(String),
    #[error("redis_role: {0} is a replica, which takes no writes: name the master, or the sentinels (redis-sentinel://host,host/name)")]
    Role(String),
    #[error("redis_cluster_url: the server is part of a cluster: write redis-cluster:// instead of redis://")]
    ClusterUrl,
    #[error("redis_appendonly: without an append-only file a restart forgets who paid: CONFIG SET appendonly yes, and in redis.conf")]
    AppendOnly,
    #[error(
        "redis_appendfsync: appendfsync is {found}, so a crash loses what was acknowledged: CONFIG SET appendfsync {wanted}, and in redis.conf{or}"
    )]
    AppendFsync { found: String, wanted: &'static str, or: &'static str },
    #[error(
        "redis_fsync_on_rewrite: no-appendfsync-on-rewrite is yes, so a crash while the file is rewritten loses what was acknowledged: \
         CONFIG SET no-appendfsync-on-rewrite no"
    )]
    FsyncOnRewrite,
    #[error(
        "redis_eviction: maxmemory-policy is {0}: an evicted payment could be spent again: CONFIG SET maxmemory-policy noeviction, and in redis.conf"
    )]
    Eviction(String),
    #[error(
        "redis_config_denied: the user may not read {0}, so `strict` cannot know what the server loses: \
         ACL SETUSER … +config|get, or `durability: standard`"
    )]
    ConfigDenied(&'static str),
    #[error("redis_replicas: {found} replicas are connected, and `store.replicas` demands {wanted}: start them, or demand fewer")]
    Replicas { found: u64, wanted: u64 },
}

impl Misfit {
    /// A stable word.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Version(_) => "redis_version",
            Self::Role(_) => "redis_role",
            Self::ClusterUrl => "redis_cluster_url",
            Self::AppendOnly => "redis_appendonly",
            Self::AppendFsync { .. } => "redis_appendfsync",
            Self::FsyncOnRewrite => "redis_fsync_on_rewrite",
            Self::Eviction(_) => "redis_eviction",
            Self::ConfigDenied(_) => "redis_config_denied",
            Self::Replicas { .. } => "redis_replicas",
        }
    }
}

/// What one master says of itself. `None`: it does not tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Facts {
    version: String,
    is_replica: bool,
    clustered: bool,
    append_only: bool,
    append_fsync: Option<String>,
    fsync_on_rewrite: Option<bool>,
    eviction: String,
    replicas: u64,
}

/// What follows from a fit server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fit {
    /// Replicas to wait for: as many as each master has. To wait for fewer would be to lose what was acknowledged when the one left out is promoted.
    pub replicas: u64,
    /// They can say when they have it on disk.
    pub on_disk: bool,
}

const APPEND_FSYNC: &str = "appendfsync";
const FSYNC_ON_REWRITE: &str = "no-appendfsync-on-rewrite";

/// Asks every master.
pub(super) async fn examine(
    link: &Link,
    durability: Durability,
    replicas: Option<u64>,
    by: Instant,
) -> Result<Result<Fit, Vec<Misfit>>, StoreError> {
    let mut servers = loop {
        let mut servers = Vec::new();
        let mut loading = false;
        for info in link.everywhere("INFO", &["all"], by).await? {
            let info = reply::text(info)?;
            loading |= info.contains("\nloading:1");
            servers.push(Facts::of(&info));
        }
        if !loading {
            break servers;
        }
        let again = Instant::now() + LOADING_PAUSE;
        if again >= by {
            return Err(StoreError::Unavailable("the server is still reading its data: start again when it has".to_owned()));
        }
        sleep_until(again).await; // why: a server that reads its data answers this alone, and does not tell when it is done
    };
    for (setting, set) in [
        (APPEND_FSYNC, (|facts, value| facts.append_fsync = Some(value)) as fn(&mut Facts, String)),
        (FSYNC_ON_REWRITE, |facts, value| facts.fsync_on_rewrite = Some(value != "yes")),
    ] {
        // A user without the right to ask is no failure of the server.
        let Ok(answers) = link.everywhere("CONFIG", &["GET", setting], by).await else { continue };
        // Masters answer in one order within one connection's topology; the worst counts for all, so that order means nothing.
        let values = answers.into_iter().filter_map(value_of).collect::<Vec<_>>();
        let worst = values.iter().max_by_key(|value| risk(value)).cloned();
        if let Some(worst) = worst.filter(|_| values.len() >= servers.len()) {
            servers.iter_mut().for_each(|facts| set(facts, worst.clone()));
        }
    }
    Ok(judge(&servers, link.is_cluster(), durability, replicas))
}

fn risk(value: &str) -> u8 {
    match value {
        "always" => 0,
        "everysec" => 1,
        "no" => 2,
        // Of `no-appendfsync-on-rewrite`.
        "yes" => 3,
        _ => 4,
    }
}

fn value_of(answer: Value) -> Option<String> {
    let mut pair = reply::list(answer).ok()?.into_iter();
    let _name = pair.next()?;
    reply::text(pair.next()?).ok()
}

impl Facts {
    fn of(info: &str) -> Self {
        let fields: HashMap<&str, &str> = info.lines().filter_map(|line| line.trim_end().split_once(':')).collect();
        let of = |name: &str| fields.get(name).copied().unwrap_or_default();
        Self {
            version: of("redis_version").to_owned(),
            is_replica: of("role") == "slave",
            clustered: of("cluster_enabled") == "1",
            append_only: of("aof_enabled") == "1",
            append_fsync: None,
            fsync_on_rewrite: None,
            eviction: of("maxmemory_policy").to_owned(),
            replicas: replicas_online(info),
        }
    }
}

/// Replicas that follow a server, by its `INFO`.
pub(super) fn replicas_online(info: &str) -> u64 {
    let online = info.lines().filter_map(|line| line.split_once(':')).filter(|(name, value)| {
        name.strip_prefix("slave").is_some_and(|number| number.bytes().all(|digit| digit.is_ascii_digit()))
            && value.contains("state=online")
    });
    u64::try_from(online.count()).unwrap_or(u64::MAX)
}

fn at_least(version: &str, wanted: (u64, u64)) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u64>().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= wanted
}

fn judge(servers: &[Facts], cluster: bool, durability: Durability, replicas: Option<u64>) -> Result<Fit, Vec<Misfit>> {
    let mut misfits: Vec<Misfit> = Vec::new();
    let strict = durability == Durability::Strict;
    for facts in servers {
        let mut wrong = Vec::new();
        if !at_least(&facts.version, (6, 2)) {
            wrong.push(Misfit::Version(facts.version.clone()));
        }
        if facts.is_replica && !cluster {
            wrong.push(Misfit::Role("the server".to_owned()));
        }
        if facts.clustered && !cluster {
            wrong.push(Misfit::ClusterUrl);
        }
        if !facts.append_only {
            wrong.push(Misfit::AppendOnly);
        }
        match (facts.append_fsync.as_deref(), strict) {
            (Some("always"), _) | (Some("everysec"), false) | (None, false) => {}
            (None, true) => wrong.push(Misfit::ConfigDenied(APPEND_FSYNC)),
            (Some(found), true) => wrong.push(Misfit::AppendFsync {
                found: found.to_owned(),
                wanted: "always",
                or: ", or accept it with `durability: standard`",
            }),
            (Some(found), false) => wrong.push(Misfit::AppendFsync { found: found.to_owned(), wanted: "everysec", or: "" }),
        }
        if strict && facts.fsync_on_rewrite == Some(false) {
            wrong.push(Misfit::FsyncOnRewrite);
        }
        // Also in `standard`: what is evicted is lost without any crash.
        if facts.eviction != "noeviction" {
            wrong.push(Misfit::Eviction(facts.eviction.clone()));
        }
        if let Some(wanted) = replicas.filter(|wanted| strict && facts.replicas < *wanted) {
            wrong.push(Misfit::Replicas { found: facts.replicas, wanted });
        }
        for misfit in wrong {
            if !misfits.contains(&misfit) {
                misfits.push(misfit);
            }
        }
    }
    if !misfits.is_empty() {
        return Err(misfits);
    }
    let found = servers.iter().map(|facts| facts.replicas).min().unwrap_or(0);
    let replicas = if strict { found } else { 0 };
    Ok(Fit { replicas, on_disk: !servers.is_empty() && servers.iter().all(|facts| at_least(&facts.version, (7, 2))) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "redis_version:7.0.15\r\nrole:master\r\ncluster_enabled:0\r\naof_enabled:1\r\nmaxmemory_policy:noeviction\r\n";

    fn facts(change: &str, fsync: Option<&str>) -> Facts {
        let (name, _) = change.split_once(':').unwrap_or((change, ""));
        let kept = GOOD.lines().filter(|line| name.is_empty() || !line.starts_with(name)).collect::<Vec<_>>().join("\n");
        let append_fsync = fsync.map(str::to_owned);
        Facts { append_fsync, ..Facts::of(&format!("{kept}\n{change}")) }
    }

    #[test]
    fn each_misfit_has_its_code_and_says_what_to_do() {
        use Durability::{Standard, Strict};
        let two = "slave0:ip=::1,port=1,state=online,offset=5,lag=0\nslave1:ip=::1,port=2,state=wait_bgsave,offset=5,lag=0";
        for (change, fsync, durability, replicas, expect) in [
            ("", Some("always"), Strict, None, Ok(0)),
            ("", Some("everysec"), Standard, None, Ok(0)),
            ("", None, Standard, None, Ok(0)),
            (two, Some("always"), Strict, None, Ok(1)),
            (two, Some("always"), Strict, Some(1), Ok(1)),
            (two, Some("always"), Strict, Some(0), Ok(1)),
            (two, Some("always"), Standard, None, Ok(0)),
            (two, Some("always"), Strict, Some(2), Err("redis_replicas")),
            ("redis_version:6.0.16", Some("always"), Standard, None, Err("redis_version")),
            ("redis_version:6.2.0", Some("always"), Strict, None, Ok(0)),
            ("role:slave", Some("always"), Standard, None, Err("redis_role")),
            ("cluster_enabled:1", Some("always"), Standard, None, Err("redis_cluster_url")),
            ("aof_enabled:0", Some("always"), Standard, None, Err("redis_appendonly")),
            ("", Some("everysec"), Strict, None, Err("redis_appendfsync")),
            ("", Some("no"), Standard, None, Err("redis_appendfsync")),
            ("", None, Strict, None, Err("redis_config_denied")),
            ("maxmemory_policy:allkeys-lru", Some("always"), Standard, None, Err("redis_eviction")),
            ("maxmemory_policy:volatile-ttl", Some("always"), Strict, None, Err("redis_eviction")),
        ] {
            let judged = judge(&[facts(change, fsync)], false, durability, replicas);
            let seen = judged.as_ref().map(|fit| fit.replicas).map_err(|misfits| misfits[0].code());
            assert_eq!(seen, expect, "{change} {fsync:?} {durability:?} {replicas:?}");
            if let Err(misfits) = judged {
                assert!(misfits.len() == 1 && misfits[0].to_string().starts_with(&format!("{}: ", misfits[0].code())), "{misfits:?}");
            }
        }
        let rewriting = Facts { fsync_on_rewrite: Some(false), ..facts("", Some("always")) };
        assert_eq!(judge(&[rewriting], false, Strict, None).unwrap_err(), [Misfit::FsyncOnRewrite]);
    }

    #[test]
    fn every_misfit_of_every_master_is_told_once() {
        let bad = facts("aof_enabled:0", Some("no"));
        let worse = Facts { eviction: "allkeys-lfu".to_owned(), ..bad.clone() };
        let misfits = judge(&[bad, worse], true, Durability::Strict, None).unwrap_err();
        let codes: Vec<_> = misfits.iter().map(Misfit::code).collect();
        assert_eq!(codes, ["redis_appendonly", "redis_appendfsync", "redis_eviction"]);
    }
}
