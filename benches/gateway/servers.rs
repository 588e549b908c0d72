//! What is measured: the gateway, a bare pingora, nginx; and the upstream behind them.
//!
//! One worker thread each, keep-alive to the upstream each, access logs off, everything else as it comes.

use crate::{
    Fallible,
    load::Contestant,
    process::{LOAD_CORE, Process, SERVER_CORE, free_address, pinned},
};
use bytes::Bytes;
use http::HeaderMap;
use serde_json::Value;
use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

/// What the upstream answers to everything.
const UPSTREAM_BODY: &str = "{\"answer\":\"forty-two\",\"note\":\"a small static body\"}";
/// Pays and is paid on simnet; nothing secret.
pub const SHOP_SEED: u8 = 9;
/// The price of `/priced`, sompi.
pub const PRICE_SOMPI: u64 = 100_000_000;
/// Sompi of a voucher's request: little, so that a channel pays many.
pub const VOUCHER_SOMPI: u64 = 1_000;
/// The path of each kind of request.
pub const FREE_PATH: &str = "/free";
pub const VOUCHER_PATH: &str = "/voucher";
/// Any 32 bytes: the offers of a benchmark guard nothing.
const OFFER_KEYS: &str = "bench:YmVuY2htYXJrIGJlbmNobWFyayBiZW5jaG1hcmsuLi4=";
const READY: Duration = Duration::from_secs(60);

/// A server under test or the upstream.
pub struct Server {
    pub process: Process,
    pub address: SocketAddr,
}

impl Server {
    pub fn contestant(&self, name: &'static str, path: &'static str, status: u16) -> Contestant<'_> {
        Contestant { name, process: &self.process, address: self.address, path, status }
    }
}

/// A real 402 of the gateway: what the others have to match.
pub struct FirstOffer {
    pub header: Vec<u8>,
    pub body: Bytes,
    /// Bytes of the whole head, as far as the client sees it.
    pub head_bytes: usize,
}

pub struct Gateway {
    server: Server,
    http: reqwest::Client,
    admin: PathBuf,
}

impl std::ops::Deref for Gateway {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl Gateway {
    /// Starts the release build with an ordinary configuration: one node, log level info. `store` is that part of it. Keys that lie in the folder are used.
    pub fn start(folder: &Path, upstream: &Server, node: &str, store: &str) -> Fallible<Self> {
        let shop = crate::support::devnet::Wallet::new(SHOP_SEED).address();
        let file = folder.join("kas402.yaml");
        let binary = Path::new(env!("CARGO_BIN_EXE_kas402"));
        let keys = folder.join("server.keys");
        if !keys.exists() {
            let made = Command::new(binary).args(["keys", "new", "--server"]).arg(keys).output()?;
            if !made.status.success() {
                return Err(String::from_utf8_lossy(&made.stderr).into());
            }
        }
        // Offers for vouchers live long, because they are all fetched before they are used.
        fs::write(
            &file,
            format!(
                "network: kaspa:simnet\nallow_simnet: true\npublic_origin: http://kas402.bench\nlisten: 127.0.0.1:0\n\
                 edge: {{threads: 1}}\npay_to: {shop}\nnode: {{urls: [{node}]}}\nstore: {store}\nupstream: http://{}\n\
                 keys: {{server: {{file: server.keys}}}}\nchannels: {{confirmations: 2, claims: {{automatic: false}}}}\n\
                 routes:\n  - {{path: {FREE_PATH}, free: true}}\n  - {{path: '/files/{{*rest}}', free: true}}\n  \
                 - {{path: /priced, price: {PRICE_SOMPI} sompi, description: One answer, mime_type: application/json}}\n  \
                 - {{path: {VOUCHER_PATH}, price: {VOUCHER_SOMPI} sompi, scheme: batch-settlement, min_deposit: 1 KAS, offer_seconds: 3600}}\n",
                upstream.address
            ),
        )?;
        let mut command = pinned(SERVER_CORE, binary);
        command.arg("run").arg("--announce").arg("--config").arg(&file);
        command.env("KAS402_OFFER_KEYS", OFFER_KEYS).env_remove("KAS402_CONFIG").stdout(Stdio::piped());
        let mut process = Process::spawn(command, folder.join("kas402.log"))?;
        let mut line = String::new();
        let stdout = process.child.stdout.take().ok_or("standard output is piped")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let announced: Value = serde_json::from_str(&line).map_err(|_| process.failed("announced nothing"))?;
        let address = announced["listening"][0].as_str().ok_or("the announcement names no address")?.parse()?;
        let server = Server { process: process.listening(address)?, address };
        Ok(Self { server, http: reqwest::Client::new(), admin: folder.join("admin.sock") })
    }

    /// Sum and count of one of the gateway's own histograms, seconds.
    pub async fn histogram(&self, name: &str) -> Fallible<(f64, f64)> {
        let text = self.metrics().await?;
        Ok((value(&text, &format!("{name}_sum"))?, value(&text, &format!("{name}_count"))?))
    }

    /// One of its counters.
    pub async fn counter(&self, name: &str) -> Fallible<f64> {
        value(&self.metrics().await?, name)
    }

    async fn metrics(&self) -> Fallible<String> {
        let mut admin = UnixStream::connect(&self.admin).await?;
        admin.write_all(b"GET /metrics HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n").await?;
        let mut text = String::new();
        admin.read_to_string(&mut text).await?;
        Ok(text)
    }

    /// Waits until the node is caught up with, then for an offer.
    pub async fn first_offer(&self) -> Fallible<FirstOffer> {
        let until = std::time::Instant::now() + READY;
        loop {
            let response = self.http.get(format!("http://{}/priced", self.address)).send().await?;
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            let body = response.bytes().await?;
            if status == 402 {
                let header = headers.get("payment-required").ok_or("a 402 without an offer")?.as_bytes().to_vec();
                return Ok(FirstOffer { header, body, head_bytes: head_bytes(&headers) });
            }
            if status != 503 || std::time::Instant::now() > until {
                return Err(self.process.failed(&format!("answers {status} instead of an offer: {}", String::from_utf8_lossy(&body))));
            }
            // why: readiness is seen by asking, as any client would
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn value(metrics: &str, name: &str) -> Fallible<f64> {
    let key = format!("{name} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&key)).ok_or_else(|| format!("no {name} in the metrics"))?;
    Ok(line.trim().parse()?)
}

/// `name: value` and the line's end, for each.
fn head_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}

/// `examples/bare_pingora.rs`, built beside the benchmark.
pub struct Pingora;

impl Pingora {
    pub fn proxy(folder: &Path, upstream: &Server) -> Fallible<Server> {
        Self::start(folder, "proxy", &[upstream.address.to_string()])
    }

    /// With limits of time, request ids and forwarding headers.
    pub fn courteous(folder: &Path, upstream: &Server) -> Fallible<Server> {
        Self::start(folder, "courteous", &[upstream.address.to_string()])
    }

    pub fn static_402(folder: &Path, offer: &FirstOffer) -> Fallible<Server> {
        Self::start(folder, "static402", &[offer.header.len().to_string(), offer.body.len().to_string()])
    }

    fn start(folder: &Path, mode: &str, args: &[String]) -> Fallible<Server> {
        let address = free_address()?;
        let mut command = pinned(SERVER_CORE, &Self::binary()?);
        command.arg(mode).arg(address.to_string()).args(args).stdout(Stdio::null());
        let process = Process::spawn(command, folder.join(format!("pingora-{mode}.log")))?.listening(address)?;
        Ok(Server { process, address })
    }

    fn binary() -> Fallible<PathBuf> {
        // target/release/kas402 -> target/release/examples/bare_pingora
        let path = Path::new(env!("CARGO_BIN_EXE_kas402")).with_file_name("examples").join("bare_pingora");
        if path.exists() { Ok(path) } else { Err(format!("{} is missing: run scripts/bench", path.display()).into()) }
    }
}

/// nginx as it compares: one process, no access log.
pub struct Nginx;

impl Nginx {
    pub fn proxy(folder: &Path, upstream: &Server) -> Fallible<Server> {
        let servers = format!("upstream api {{ server {}; keepalive 128; keepalive_requests 1000000000; }}", upstream.address);
        let location = "proxy_pass http://api; proxy_http_version 1.1; proxy_set_header Connection '';";
        Self::start(folder, "nginx-proxy", SERVER_CORE, &servers, location)
    }

    pub fn static_402(folder: &Path, offer: &FirstOffer) -> Fallible<Server> {
        let location = format!(
            "default_type application/json; add_header Cache-Control 'private, no-store' always; \
             add_header PAYMENT-REQUIRED '{}' always; return 402 '{}';",
            "a".repeat(offer.header.len()),
            "b".repeat(offer.body.len()),
        );
        Self::start(folder, "nginx-402", SERVER_CORE, "", &location)
    }

    fn start(folder: &Path, name: &str, core: usize, servers: &str, location: &str) -> Fallible<Server> {
        let address = free_address()?;
        let prefix = folder.join(name);
        fs::create_dir(&prefix)?;
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {}/{kind};", prefix.display()))
            .concat();
        let file = prefix.join("nginx.conf");
        fs::write(
            &file,
            format!(
                "daemon off; master_process off; pid {0}/pid; error_log stderr warn;\n\
                 events {{ worker_connections 4096; }}\n\
                 http {{ access_log off; {temporary} keepalive_requests 1000000000; keepalive_timeout 300s; {servers}\n\
                 server {{ listen {address} backlog=4096; location / {{ {location} }} }} }}\n",
                prefix.display()
            ),
        )?;
        let mut command = pinned(core, &Self::binary());
        command.arg("-p").arg(&prefix).arg("-c").arg(&file).stdout(Stdio::null());
        let process = Process::spawn(command, folder.join(format!("{name}.log")))?.listening(address)?;
        Ok(Server { process, address })
    }

    /// Debian keeps it out of ordinary users' path.
    pub fn binary() -> PathBuf {
        let system = Path::new("/usr/sbin/nginx");
        if system.exists() { system.to_owned() } else { "nginx".into() }
    }
}

pub struct Upstream;

impl Upstream {
    pub fn start(folder: &Path) -> Fallible<Server> {
        let location = format!("default_type application/json; return 200 '{UPSTREAM_BODY}';");
        Nginx::start(folder, "upstream", LOAD_CORE, "", &location)
    }
}
