//! The way to the server: shared connections, pipelined, made anew when they break.
//!
//! Promises: a call ends by its deadline. Every command of this store may be sent twice (a write names itself, see [`super::write`]), so what
//! was lost on the way is sent again while there is time. `Unavailable`: certainly not done. `Unknown`: sent, and no answer came.

use super::{
    Options, Timeouts,
    durability::Replicas,
    endpoint::{Endpoint, Form},
};
use crate::store::StoreError;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, IntoConnectionInfo, Pipeline, RedisConnectionInfo, RedisError,
    ServerErrorKind, TlsCertificates, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster::ClusterClient,
    cluster_async::ClusterConnection,
    cluster_routing::{MultipleNodeRoutingInfo, Route, RoutingInfo, SingleNodeRoutingInfo, Slot, SlotAddr},
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};
use std::{
    sync::{
        LazyLock, PoisonError, RwLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, sleep_until, timeout_at};

/// Pause before a broken connection is made again, and before a server that is not ready is asked again.
const PAUSE: Duration = Duration::from_millis(20);
/// Connections to one server. Each is one task that writes and reads; a command waits for no other's answer.
const CONNECTIONS: usize = 4;

/// What a command does, to say what its loss means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Read,
    /// Writes what may be lost without harm.
    Note,
    /// Writes a fact of this shard: answered only when it is as durable as configured.
    Durable(u16),
}

/// A script and its hash, by which a server that has seen it runs it.
pub(super) struct Script {
    body: &'static str,
    hash: String,
}

impl Script {
    fn new(body: &'static str) -> Self {
        Self { body, hash: redis::Script::new(body).get_hash().to_owned() }
    }
}

/// The scripts of the verbs.
pub(super) struct Scripts {
    pub commit: Script,
    pub payment: Script,
    pub lease: Script,
    pub renew: Script,
    pub point: Script,
    pub unpoint: Script,
    pub prune: Script,
    pub moves: Script,
    pub single: Script,
    pub arriving: Script,
}

impl Scripts {
    pub fn get() -> &'static Self {
        static SCRIPTS: LazyLock<Scripts> = LazyLock::new(|| Scripts {
            commit: Script::new(include_str!("scripts/commit.lua")),
            payment: Script::new(include_str!("scripts/payment.lua")),
            lease: Script::new(include_str!("scripts/lease.lua")),
            renew: Script::new(include_str!("scripts/renew.lua")),
            point: Script::new(include_str!("scripts/point.lua")),
            unpoint: Script::new(include_str!("scripts/unpoint.lua")),
            prune: Script::new(include_str!("scripts/prune.lua")),
            moves: Script::new(include_str!("scripts/moves.lua")),
            single: Script::new(include_str!("scripts/single.lua")),
            arriving: Script::new(include_str!("scripts/arriving.lua")),
        });
        &SCRIPTS
    }

    fn all(&self) -> [&Script; 10] {
        let Self { commit, payment, lease, renew, point, unpoint, prune, moves, single, arriving } = self;
        [commit, payment, lease, renew, point, unpoint, prune, moves, single, arriving]
    }
}

/// See the module.
pub(super) struct Link {
    target: Target,
    timeouts: Timeouts,
    places: Vec<Place>,
    next: AtomicUsize,
    sent: AtomicU64,
    replicas: Option<Box<Replicas>>,
}

enum Target {
    Server(Box<Client>),
    /// Asked in turn: without a password, then with the servers'.
    Sentinel(tokio::sync::Mutex<Vec<SentinelClient>>),
    Cluster(Box<ClusterClient>),
}

#[derive(Default)]
struct Place {
    open: RwLock<Option<(u64, Connection)>>,
    /// Held while a connection is made: everybody waits for the same one.
    making: tokio::sync::Mutex<u64>,
}

#[derive(Clone)]
enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// Which history answered: the one its master writes, by its `master_replid`. A replica that is promoted begins another, without what the
/// old master had not yet given it. `None` where no replicas are waited for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct History(Option<String>);

impl History {
    pub fn of(info: &str) -> Self {
        Self(info.lines().find_map(|line| line.strip_prefix("master_replid:")).map(|id| id.trim_end().to_owned()))
    }
}

/// What is sent.
#[derive(Clone, Copy)]
enum Ask<'a> {
    One(&'a Cmd),
    /// To the master of this key, which also says which history it writes.
    Traced {
        key: &'a [u8],
        cmd: &'a Cmd,
    },
    /// To every master: a list of answers.
    Everywhere(&'a Cmd),
    /// A mark is written and, on the same connection, waited for; then who follows the server is asked.
    Marked {
        mark: &'a [u8],
        wait: &'a Cmd,
    },
}

/// Why one attempt brought no answer.
enum Failed {
    /// There is no connection: nothing was sent.
    Unsent(String),
    /// It may have been sent.
    Lost(String),
    /// The server did not do it, and may the next time.
    NotNow(String),
    /// The server refuses.
    Refused(StoreError),
    /// It failed in the server, perhaps half-way.
    Broken(String),
    NoScript,
}

impl Link {
    pub fn new(options: &Options) -> Result<Self, StoreError> {
        let target = target(options).map_err(|error| StoreError::Unavailable(format!("{}: {error}", options.endpoint)))?;
        // A cluster's connection is itself a pool of one per node.
        let places = if matches!(target, Target::Cluster(_)) { 1 } else { CONNECTIONS };
        Ok(Self {
            target,
            timeouts: options.timeouts,
            places: (0..places).map(|_| Place::default()).collect(),
            next: AtomicUsize::default(),
            sent: AtomicU64::default(),
            replicas: None,
        })
    }

    /// From now on durable writes wait for replicas.
    pub fn wait_for(&mut self, replicas: Replicas) {
        self.replicas = Some(Box::new(replicas));
    }

    pub fn is_cluster(&self) -> bool {
        matches!(self.target, Target::Cluster(_))
    }

    /// A verb that begins now ends by then.
    pub fn deadline(&self) -> Instant {
        Instant::now() + self.timeouts.verb
    }

    /// Commands sent so far, waits for replicas included.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    pub async fn command(&self, name: &str, args: &[&[u8]], effect: Effect, by: Instant) -> Result<Value, StoreError> {
        let mut cmd = redis::cmd(name);
        for arg in args {
            cmd.arg(*arg);
        }
        // Whoever only reads one thing waits for nobody.
        let key = args.first().copied().filter(|_| matches!(effect, Effect::Durable(_)));
        Ok(self.call(self.ask(key, &cmd), None, effect, by).await?.0)
    }

    /// `traced` by its key, where the history of the answer counts.
    fn ask<'a>(&self, traced: Option<&'a [u8]>, cmd: &'a Cmd) -> Ask<'a> {
        match traced {
            Some(key) if self.replicas.is_some() => Ask::Traced { key, cmd },
            _ => Ask::One(cmd),
        }
    }

    /// Tells every master the scripts, so that no request is the first to. One that does not know a script is told with its first use.
    pub async fn load_scripts(&self, by: Instant) {
        for script in Scripts::get().all() {
            if let Err(error) = self.everywhere("SCRIPT", &["LOAD", script.body], by).await {
                tracing::debug!(%error, "scripts are told with their first use");
                return;
            }
        }
    }

    /// Asks every master; the answers in no order.
    pub async fn everywhere(&self, name: &str, args: &[&str], by: Instant) -> Result<Vec<Value>, StoreError> {
        let mut cmd = redis::cmd(name);
        for arg in args {
            cmd.arg(*arg);
        }
        super::reply::list(self.call(Ask::Everywhere(&cmd), None, Effect::Read, by).await?.0)
    }

    /// Returns when what was read of this shard is as durable as an answer about it must be: another gateway may have written it a moment ago
    /// and still be waiting.
    pub async fn settled(&self, shard: u16, read: &History, by: Instant) -> Result<(), StoreError> {
        if self.kept(shard, read, by).await? {
            return Ok(());
        }
        Err(StoreError::Unavailable("another server took over while this was read".to_owned()))
    }

    /// Waits for the replicas. `false`: a server of another history took over, which may be without what was read or written.
    async fn kept(&self, shard: u16, history: &History, by: Instant) -> Result<bool, StoreError> {
        match &self.replicas {
            Some(replicas) => Ok(Box::pin(replicas.wait(shard, by)).await? == *history),
            None => Ok(true),
        }
    }

    /// How many replicas have all that this shard's server wrote before this call, of how many that follow it, and in which history.
    pub async fn replicated(&self, mark: &[u8], wanted: u64, on_disk: bool, by: Instant) -> Result<(u64, u64, History), StoreError> {
        // The answer comes before the connection gives it up.
        let millis = self.timeouts.answer.mul_f32(0.8).min(by.saturating_duration_since(Instant::now())).as_millis().max(1).to_string();
        let mut wait = redis::cmd(if on_disk { "WAITAOF" } else { "WAIT" });
        if on_disk {
            wait.arg(1);
        }
        wait.arg(wanted).arg(millis);
        let mut answers = super::reply::Parts::of(self.call(Ask::Marked { mark, wait: &wait }, None, Effect::Note, by).await?.0)?;
        let _written = answers.next();
        let have = match answers.next() {
            Value::Array(mut both) => super::reply::number(both.pop().unwrap_or(Value::Nil)),
            one => super::reply::number(one),
        }?;
        let info = super::reply::text(answers.next())?;
        Ok((have, super::demands::replicas_online(&info), History::of(&info)))
    }

    /// `keys` are of one slot.
    pub async fn script(
        &self,
        script: &Script,
        keys: &[Vec<u8>],
        args: &[Vec<u8>],
        effect: Effect,
        by: Instant,
    ) -> Result<Value, StoreError> {
        Ok(self.script_in(script, keys, args, effect, by).await?.0)
    }

    /// The same, and in which history.
    pub async fn script_in(
        &self,
        script: &Script,
        keys: &[Vec<u8>],
        args: &[Vec<u8>],
        effect: Effect,
        by: Instant,
    ) -> Result<(Value, History), StoreError> {
        let built = |command: &str, body: &str| {
            let mut cmd = redis::cmd(command);
            cmd.arg(body).arg(keys.len());
            for arg in keys.iter().chain(args) {
                cmd.arg(arg.as_slice());
            }
            cmd
        };
        let whole = || built("EVAL", script.body);
        let key = keys.first().map(Vec::as_slice);
        self.call(self.ask(key, &built("EVALSHA", &script.hash)), Some(&whole), effect, by).await
    }

    /// `whole` is the same command for a server that does not know the script.
    async fn call(
        &self,
        ask: Ask<'_>,
        whole: Option<&(dyn Fn() -> Cmd + Sync)>,
        effect: Effect,
        by: Instant,
    ) -> Result<(Value, History), StoreError> {
        let place = &self.places[self.next.fetch_add(1, Ordering::Relaxed) % self.places.len()];
        let mut unsure = false;
        let mut replaced = None;
        loop {
            let ask = match (&replaced, ask) {
                (Some(cmd), Ask::Traced { key, .. }) => Ask::Traced { key, cmd },
                (Some(cmd), _) => Ask::One(cmd),
                (None, ask) => ask,
            };
            let failed = match timeout_at(by, self.attempt(place, ask)).await {
                Ok(Ok((value, history))) => match effect {
                    // Sent again, it finds itself done, or is done in the new history. This connection may be to the old master.
                    Effect::Durable(shard) if !self.kept(shard, &history, by).await? => {
                        place.drop_open(None);
                        Failed::Lost("another server took over before the replicas had it".to_owned())
                    }
                    _ => return Ok((value, history)),
                },
                Ok(Err(failed)) => failed,
                Err(_) => {
                    place.drop_open(None);
                    unsure = true;
                    Failed::Lost("it took too long".to_owned())
                }
            };
            let why = match (failed, whole) {
                (Failed::NoScript, Some(whole)) if replaced.is_none() => {
                    replaced = Some(whole());
                    continue;
                }
                (Failed::NoScript, _) => "a script was lost twice".to_owned(),
                (Failed::Refused(error), _) if unsure && effect != Effect::Read => return Err(StoreError::Unknown(error.to_string())),
                (Failed::Refused(error), _) => return Err(error),
                (Failed::Broken(why), _) if effect != Effect::Read => return Err(StoreError::Unknown(why)),
                (Failed::Broken(why), _) => return Err(StoreError::Unavailable(why)),
                (Failed::Lost(why), _) => {
                    unsure = true;
                    why
                }
                (Failed::Unsent(why) | Failed::NotNow(why), _) => why,
            };
            let again = Instant::now() + PAUSE;
            if again >= by {
                return Err(if unsure && effect != Effect::Read { StoreError::Unknown(why) } else { StoreError::Unavailable(why) });
            }
            sleep_until(again).await; // backoff
        }
    }

    async fn attempt(&self, place: &Place, ask: Ask<'_>) -> Result<(Value, History), Failed> {
        let (number, connection) = self.connection(place).await?;
        self.sent.fetch_add(1, Ordering::Relaxed);
        let answer = connection.send(ask).await.and_then(Value::extract_error);
        let answer =
            answer.and_then(|value| if matches!(ask, Ask::Traced { .. }) { traced(value) } else { Ok((value, History::default())) });
        answer.map_err(|error| {
            let failed = sorted(&error);
            let broken = matches!(failed, Failed::Lost(_)) || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly);
            if broken {
                place.drop_open(Some(number));
            }
            failed
        })
    }

    async fn connection(&self, place: &Place) -> Result<(u64, Connection), Failed> {
        if let Some(open) = place.open() {
            return Ok(open);
        }
        let mut number = place.making.lock().await;
        if let Some(open) = place.open() {
            return Ok(open);
        }
        let made = tokio::time::timeout(self.timeouts.connect, self.connect()).await;
        let connection = made.map_err(|_| Failed::Unsent("no connection in time".to_owned()))?;
        let connection = connection.map_err(|error| match sorted(&error) {
            // A wrong password is wrong the next time too.
            Failed::Refused(error) => Failed::Refused(error),
            _ => Failed::Unsent(format!("no connection: {error}")),
        })?;
        *number += 1;
        *place.open.write().unwrap_or_else(PoisonError::into_inner) = Some((*number, connection.clone()));
        Ok((*number, connection))
    }

    async fn connect(&self) -> Result<Connection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeouts.connect))
            .set_response_timeout(Some(self.timeouts.answer));
        Ok(match &self.target {
            Target::Server(client) => Connection::One(client.get_multiplexed_async_connection_with_config(&config).await?),
            Target::Sentinel(sentinels) => {
                let mut found = Err(RedisError::from((ErrorKind::MasterNameNotFoundBySentinel, "no sentinel")));
                for sentinels in sentinels.lock().await.iter_mut() {
                    found = sentinels.async_get_client().await;
                    if found.is_ok() {
                        break;
                    }
                }
                Connection::One(found?.get_multiplexed_async_connection_with_config(&config).await?)
            }
            Target::Cluster(client) => Connection::Cluster(client.get_async_connection().await?),
        })
    }
}

impl Connection {
    async fn send(self, ask: Ask<'_>) -> Result<Value, RedisError> {
        match (self, ask) {
            (Self::One(mut one), Ask::One(cmd)) => one.req_packed_command(cmd).await,
            (Self::One(mut one), Ask::Everywhere(cmd)) => Ok(Value::Array(vec![one.req_packed_command(cmd).await?])),
            (Self::One(mut one), Ask::Marked { mark, wait }) => all(one.req_packed_commands(&marked(mark, wait), 0, 3).await?),
            (Self::One(mut one), Ask::Traced { cmd, .. }) => all(one.req_packed_commands(&with_history(cmd), 0, 2).await?),
            (Self::Cluster(mut cluster), Ask::One(cmd)) => cluster.req_packed_command(cmd).await,
            (Self::Cluster(mut cluster), Ask::Everywhere(cmd)) => {
                let masters = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
                Ok(match cluster.route_command(cmd.clone(), masters).await? {
                    Value::Map(answers) => Value::Array(answers.into_iter().map(|(_, answer)| answer).collect()),
                    // Pairs of address and answer.
                    Value::Array(answers) => Value::Array(
                        answers
                            .into_iter()
                            .map(|pair| if let Value::Array(mut pair) = pair { pair.pop().unwrap_or(Value::Nil) } else { pair })
                            .collect(),
                    ),
                    other => other,
                })
            }
            (Self::Cluster(mut cluster), Ask::Marked { mark, wait }) => {
                all(cluster.route_pipeline(marked(mark, wait), 0, 3, master_of(mark)).await?)
            }
            (Self::Cluster(mut cluster), Ask::Traced { key, cmd }) => {
                all(cluster.route_pipeline(with_history(cmd), 0, 2, master_of(key)).await?)
            }
        }
    }
}

fn marked(mark: &[u8], wait: &Cmd) -> Pipeline {
    let mut pipeline = redis::pipe();
    pipeline.cmd("SET").arg(mark).arg(1);
    pipeline.add_command(wait.clone());
    pipeline.cmd("INFO").arg("replication");
    pipeline
}

fn with_history(cmd: &Cmd) -> Pipeline {
    let mut pipeline = redis::pipe();
    pipeline.add_command(cmd.clone());
    pipeline.cmd("INFO").arg("replication");
    pipeline
}

fn traced(answers: Value) -> Result<(Value, History), RedisError> {
    let odd = || RedisError::from((ErrorKind::UnexpectedReturnType, "not the answers of two commands"));
    let Value::Array(mut answers) = answers else { return Err(odd()) };
    let (Some(info), Some(value)) = (answers.pop(), answers.pop()) else { return Err(odd()) };
    Ok((value, History::of(&super::reply::text(info).map_err(|_| odd())?)))
}

fn master_of(key: &[u8]) -> SingleNodeRoutingInfo {
    SingleNodeRoutingInfo::SpecificNode(Route::with_slot(Slot::for_key(key), SlotAddr::Master))
}

fn all(answers: Vec<Value>) -> Result<Value, RedisError> {
    // An error of one is the error of all.
    answers.into_iter().map(Value::extract_error).collect::<Result<_, _>>().map(Value::Array)
}

impl Place {
    fn open(&self) -> Option<(u64, Connection)> {
        self.open.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whoever comes next makes a new one.
    fn drop_open(&self, number: Option<u64>) {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        if open.as_ref().is_some_and(|(known, _)| number.is_none_or(|number| number == *known)) {
            *open = None;
        }
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

fn sorted(error: &RedisError) -> Failed {
    let text = error.to_string();
    match error.kind() {
        ErrorKind::Server(kind) => match kind {
            ServerErrorKind::NoScript => Failed::NoScript,
            ServerErrorKind::BusyLoading
            | ServerErrorKind::TryAgain
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::MasterDown
            | ServerErrorKind::Moved
            | ServerErrorKind::Ask
            | ServerErrorKind::ReadOnly => Failed::NotNow(text),
            // Redis 6.2 wraps what a script's command was refused with.
            _ if text.contains("READONLY") => Failed::NotNow(text),
            ServerErrorKind::ResponseError => Failed::Broken(text),
            _ => Failed::Refused(StoreError::Unavailable(text)),
        },
        ErrorKind::Extension => match error.code() {
            Some("WRONGTYPE") => Failed::Refused(StoreError::Corrupt(text)),
            Some("STOREMOVED") => Failed::Refused(super::moving::refusal(error.detail().unwrap_or_default())),
            // Another script runs for too long; a failover is under way.
            Some("BUSY" | "UNBLOCKED") => Failed::NotNow(text),
            _ => Failed::Refused(StoreError::Unavailable(text)),
        },
        ErrorKind::ClusterConnectionNotFound | ErrorKind::MasterNameNotFoundBySentinel => Failed::NotNow(text),
        ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig => Failed::Refused(StoreError::Unavailable(text)),
        _ if error.is_connection_refusal() => Failed::Unsent(text),
        _ => Failed::Lost(text),
    }
}

fn target(options: &Options) -> Result<Target, RedisError> {
    let Endpoint { form, tls, hosts, user, password, db } = &options.endpoint;
    let certificates = TlsCertificates { client_tls: None, root_cert: options.ca_pem.clone() };
    let mut login = RedisConnectionInfo::default().set_db(*db);
    if let Some(user) = user {
        login = login.set_username(user);
    }
    if let Some(password) = password {
        login = login.set_password(password.as_str());
    }
    let address = |host: &str, port: u16| -> Result<redis::ConnectionInfo, RedisError> {
        let address = if *tls {
            ConnectionAddr::TcpTls { host: host.to_owned(), port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host.to_owned(), port)
        };
        Ok(address.into_connection_info()?.set_redis_settings(login.clone()))
    };
    let infos = hosts.iter().map(|(host, port)| address(host, *port)).collect::<Result<Vec<_>, _>>()?;
    Ok(match form {
        Form::Server => {
            let info = infos.into_iter().next().ok_or_else(|| RedisError::from((ErrorKind::InvalidClientConfig, "no host")))?;
            Target::Server(Box::new(if *tls { Client::build_with_tls(info, certificates)? } else { Client::open(info)? }))
        }
        Form::Cluster => {
            let mut builder = ClusterClient::builder(infos)
                .connection_timeout(options.timeouts.connect)
                .response_timeout(options.timeouts.answer)
                .min_retry_wait(10)
                .max_retry_wait(100);
            if *tls {
                builder = builder.certs(certificates);
            }
            Target::Cluster(Box::new(builder.build()?))
        }
        Form::Sentinel { master } => {
            let addresses: Vec<ConnectionAddr> = infos.iter().map(|info| info.addr().clone()).collect();
            let asking = |login: bool| {
                let mut builder =
                    SentinelClientBuilder::new(addresses.clone(), master, SentinelServerType::Master)?.set_client_to_redis_db(*db);
                if *tls {
                    builder = builder
                        .set_client_to_redis_tls_mode(redis::TlsMode::Secure)
                        .set_client_to_redis_certificates(certificates.clone())
                        .set_client_to_sentinel_certificates(certificates.clone());
                }
                if let Some(user) = user {
                    builder = builder.set_client_to_redis_username(user);
                    builder = if login { builder.set_client_to_sentinel_username(user) } else { builder };
                }
                if let Some(password) = password {
                    builder = builder.set_client_to_redis_password(password.as_str());
                    builder = if login { builder.set_client_to_sentinel_password(password.as_str()) } else { builder };
                }
                builder.build()
            };
            // A sentinel that wants no password refuses one that is given.
            let with_login = password.as_ref().map(|_| asking(true)).transpose()?;
            Target::Sentinel(tokio::sync::Mutex::new([asking(false)?].into_iter().chain(with_login).collect()))
        }
    })
}
