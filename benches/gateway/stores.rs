//! Requests that vouchers pay over each store: the embedded one, and Redis with either way of syncing, from one gateway and from two.
//!
//! Every store has channels of its own, opened on the real node. Two gateways of one Redis take half of the channels each; all gateways
//! share the server's core, Redis runs on the load's core. Round trips are counted by Redis itself.

use crate::{
    Fallible, drive,
    load::Sample,
    options::Options,
    process::{LOAD_CORE, pin_process},
    rounds::{Standing, interleave},
    servers::{Gateway, Server, VOUCHER_SOMPI},
    support::{devnet::Devnet, redis},
    vouchers::Fleet,
};
use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
};

/// Open connections, over all gateways of a store.
const CONNECTIONS: usize = 64;
/// Channels of each store.
const CHANNELS: usize = 64;
/// Requests of each channel for the first, short run.
const FIRST: usize = 24;
/// Over what was seen, so that a run ends by the clock.
const MARGIN: f64 = 1.4;

/// Whose turn it is: the store by its place in [`Stores`], and how many of its gateways.
const RUNS: [(&str, usize, usize); 5] = [
    ("embedded, 1 gateway", 0, 1),
    ("redis everysec, 1 gateway", 1, 1),
    ("redis everysec, 2 gateways", 1, 2),
    ("redis always, 1 gateway", 2, 1),
    ("redis always, 2 gateways", 2, 2),
];

struct Store {
    gateways: Vec<Gateway>,
    fleet: Fleet,
    redis: Option<redis::Server>,
}

/// All stores with their channels.
pub struct Stores(Vec<Store>);

/// What Redis tells of itself.
#[derive(Clone, Copy, Debug)]
struct Telling {
    commands: f64,
    memory: f64,
}

/// Of one Redis, per paid request.
pub struct PerPayment {
    pub name: &'static str,
    /// Commands of the gateways, each a round trip of its own.
    pub round_trips: f64,
    pub memory_bytes: f64,
}

pub struct Measured {
    pub standings: Vec<Standing>,
    pub per_payment: Vec<PerPayment>,
}

impl Stores {
    /// Starts them and opens their channels; the node must mine.
    pub async fn open(folder: &Path, node: &Devnet, upstream: &Server) -> Fallible<Self> {
        let mut stores = Vec::new();
        for (name, sync, durability) in
            [("embedded", None, ""), ("everysec", Some("everysec"), "standard"), ("always", Some("always"), "strict")]
        {
            let redis = sync.map(|sync| redis::Server::start(&["--appendonly", "yes", "--appendfsync", sync, "--save", ""]));
            let store = match &redis {
                None => "{path: kas402.db}".to_owned(),
                Some(redis) => {
                    pin_process(redis.pid(), LOAD_CORE)?;
                    format!("{{kind: redis, url: '{}', durability: {durability}}}", redis.url())
                }
            };
            let mut gateways: Vec<Gateway> = Vec::new();
            for number in 0..if redis.is_some() { 2 } else { 1 } {
                let own = folder.join(format!("{name}-{number}"));
                fs::create_dir(&own)?;
                if number > 0 {
                    // All gateways of a store have its keys.
                    for file in ["server.keys", "server.keys.store"] {
                        fs::copy(folder.join(format!("{name}-0")).join(file), own.join(file))?;
                    }
                }
                let gateway = Gateway::start(&own, upstream, &node.wrpc[0], &store)?;
                gateway.first_offer().await?;
                gateways.push(gateway);
            }
            let fleet = Fleet::open(node, &gateways[0], CHANNELS).await?;
            stores.push(Store { gateways, fleet, redis });
        }
        Ok(Self(stores))
    }

    pub async fn measure(mut self, options: &Options) -> Fallible<Measured> {
        let mut paces = [0.0_f64; RUNS.len()];
        for (run, pace) in paces.iter_mut().enumerate() {
            // Warm, and its pace known, before anything counts.
            *pace = self.run(run, FIRST, 1).await?.per_second;
        }
        let before = self.tellings()?;
        let spent: Vec<u64> = self.0.iter().map(|store| store.fleet.spent()).collect();
        let samples = interleave(options, RUNS.len(), async |run| {
            let each = (paces[run] * f64::from(options.seconds) * MARGIN / CHANNELS as f64).ceil() as usize;
            let sample = self.run(run, each, options.seconds).await?;
            paces[run] = paces[run].max(sample.per_second);
            Ok(sample)
        })
        .await?;
        let after = self.tellings()?;
        let standings = RUNS.iter().zip(samples).map(|((name, ..), samples)| Standing::of(name, samples)).collect();
        let mut per_payment = Vec::new();
        for (index, name) in [(1, "redis everysec"), (2, "redis always")] {
            let (Some(before), Some(after)) = (before[index], after[index]) else { continue };
            let paid = (self.0[index].fleet.spent() - spent[index]) as f64 / VOUCHER_SOMPI as f64;
            let of = |field: fn(&Telling) -> f64| (field(&after) - field(&before)) / paid;
            per_payment.push(PerPayment { name, round_trips: of(|telling| telling.commands), memory_bytes: of(|telling| telling.memory) });
        }
        Ok(Measured { standings, per_payment })
    }

    async fn run(&mut self, run: usize, each: usize, seconds: u32) -> Fallible<Sample> {
        let (_, store, count) = RUNS[run];
        let Store { gateways, fleet, .. } = &mut self.0[store];
        fleet.prepare(each).await?;
        let mut shares: Vec<Vec<drive::Feed>> = (0..count).map(|_| Vec::new()).collect();
        for (number, feed) in fleet.feeds(CONNECTIONS).into_iter().enumerate() {
            shares[number % count].push(feed);
        }
        let mut samples = Vec::with_capacity(count);
        let driven = std::thread::scope(|scope| {
            let running: Vec<_> = gateways
                .iter()
                .zip(shares)
                .map(|(gateway, feeds)| {
                    let server: &Server = gateway;
                    scope.spawn(move || drive::run(server, feeds, seconds).map_err(|error| error.to_string()))
                })
                .collect();
            running
                .into_iter()
                .map(|one| one.join().map_err(|_| "the load generator panicked".to_owned())?)
                .collect::<Result<Vec<_>, String>>()
        })?;
        for drive::Driven { sample, left } in driven {
            samples.push(sample);
            fleet.take_back(left);
        }
        Ok(together(&samples))
    }

    fn tellings(&self) -> Fallible<Vec<Option<Telling>>> {
        self.0.iter().map(|store| store.redis.as_ref().map(telling).transpose()).collect()
    }
}

/// What several gateways came to at the same time.
fn together(samples: &[Sample]) -> Sample {
    let all: f64 = samples.iter().map(|sample| sample.per_second).sum();
    let mean = |field: fn(&Sample) -> f64| samples.iter().map(|sample| field(sample) * sample.per_second).sum::<f64>() / all;
    let worst = |field: fn(&Sample) -> f64| samples.iter().map(field).fold(0.0, f64::max);
    Sample {
        per_second: all,
        cpu_us: mean(|sample| sample.cpu_us),
        busy: samples.iter().map(|sample| sample.busy).sum(),
        p50_us: mean(|sample| sample.p50_us),
        p99_us: worst(|sample| sample.p99_us),
        response_bytes: mean(|sample| sample.response_bytes),
    }
}

fn telling(redis: &redis::Server) -> Fallible<Telling> {
    let (stats, memory) = (info(redis, "commandstats")?, info(redis, "memory")?);
    // What a script calls inside is counted too: only what a client sent is a round trip.
    let sent = |line: &str| line.starts_with("cmdstat_evalsha:") || line.starts_with("cmdstat_eval:") || line.starts_with("cmdstat_wait:");
    let calls = |line: &str| line.split_once("calls=").and_then(|(_, rest)| rest.split(',').next()?.parse::<f64>().ok());
    let commands = stats.lines().filter(|line| sent(line)).filter_map(calls).sum();
    let used = memory.lines().find_map(|line| line.strip_prefix("used_memory:")?.trim().parse().ok());
    Ok(Telling { commands, memory: used.ok_or("Redis does not tell its memory")? })
}

/// A section of INFO, by an inline command.
fn info(redis: &redis::Server, section: &str) -> Fallible<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", redis.port))?;
    stream.write_all(format!("INFO {section}\r\nQUIT\r\n").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
