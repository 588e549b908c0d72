//! The gateway of the demo: its configuration, its process, and what its admin socket says.

use crate::{
    parts::{Failure, Processes},
    show::Screen,
};
use kas402::{client::wallet::Wallet, gateway::channel::report::ChannelView, protocol::ids::ChannelId};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::Output,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    process::Command,
};

pub const PART: &str = "gateway";
/// The gateway's usual port, unless `KAS402_DEMO_PORT` says another; when it is taken, any free one.
const PORT: u16 = 8402;
/// The metered route: the most a request can cost, one unit of its answer, and the least.
pub const CEILING: &str = "0.01 KAS";
pub const UNIT: &str = "1000 sompi";
pub const FLOOR: &str = "0.0005 KAS";
/// How long before its refund a channel is claimed in any case.
pub const CLAIM_BEFORE_SECONDS: u64 = 45;
/// Longest time until priced routes can be sold.
const READY: Duration = Duration::from_secs(30);

/// A running gateway.
pub struct Shop {
    /// What clients type, and what the offers name.
    pub origin: String,
    pub admin_socket: PathBuf,
    pub log: PathBuf,
    binary: PathBuf,
    folder: PathBuf,
}

/// Sums of the gateway's own book.
#[derive(Debug, PartialEq, Eq)]
pub struct Book {
    pub charges: u64,
    /// Sompi, as on the wire.
    pub charged: String,
}

/// The configuration, whole.
pub fn yaml(address: &str, seller: &Wallet, node: &str, upstream: &str) -> String {
    format!(
        "network: kaspa:simnet\n\
         allow_simnet: true\n\
         public_origin: http://{address}\n\
         listen: {address}\n\
         pay_to: {}\n\
         node: {{urls: [\"{node}\"]}}\n\
         upstream: {upstream}\n\
         keys: {{server: {{file: server.keys}}}}\n\
         channels:  # times of a demo: seconds, not days\n  \
           refund_horizon_seconds: 120\n  \
           refund_epoch_seconds: 1\n  \
           refund_lead_seconds: 30\n  \
           confirmations: 2\n  \
           claims: {{before_refund_seconds: {CLAIM_BEFORE_SECONDS}}}\n\
         limits: {{final_depth: 100}}\n\
         routes:\n  \
         - {{path: \"/v1/weather/{{city}}\", price: \"0.25 KAS\"}}\n  \
         - path: \"/v1/forecast/{{city}}\"\n    \
           scheme: batch-settlement\n    \
           price: \"{CEILING}\"  # at most; what it costs is in the answer\n    \
           min_deposit: \"1 KAS\"\n    \
           charge: {{json: /usage/units, unit_price: \"{UNIT}\", floor: \"{FLOOR}\", on_unknown: ceiling}}\n  \
         - {{path: /v1/cities, free: true}}\n",
        seller.address()
    )
}

/// An address nobody listens on. The gateway binds it a moment later; who comes between makes its start fail.
pub fn free_address() -> Result<String, Failure> {
    let wanted = std::env::var("KAS402_DEMO_PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(PORT);
    let bound = TcpListener::bind(("127.0.0.1", wanted)).or_else(|_| TcpListener::bind(("127.0.0.1", 0)));
    let address = bound.and_then(|listener| listener.local_addr()).map_err(|error| Failure::new(PART, error))?;
    Ok(address.to_string())
}

impl Shop {
    /// Starts the gateway and waits until it can sell.
    pub async fn start(
        parts: &mut Processes,
        screen: &Screen,
        binary: &Path,
        folder: &Path,
        yaml: &str,
        address: &str,
    ) -> Result<Self, Failure> {
        let since = screen.waiting(PART);
        let config = folder.join("kas402.yaml");
        std::fs::write(&config, yaml).map_err(|error| Failure::new(PART, format!("{}: {error}", config.display())))?;
        command(binary, folder, &["keys", "new"]).await?;
        command(binary, folder, &["keys", "new", "--server"]).await?;
        let config = config.display().to_string();
        let announced = parts.start(PART, binary, &["run", "--announce", "-c", &config]).await?;
        let admin = announced["admin"].as_str().unwrap_or_default();
        let admin_socket = folder.join(admin.strip_prefix("unix:").unwrap_or(admin));
        let (binary, folder) = (binary.to_owned(), folder.to_owned());
        let shop = Self { origin: format!("http://{address}"), admin_socket, log: parts.log(PART), binary, folder };
        shop.ready().await?;
        screen.done(since, &shop.origin);
        Ok(shop)
    }

    pub fn failure(&self, what: impl ToString) -> Failure {
        Failure { part: PART, what: what.to_string(), log: Some(self.log.clone()) }
    }

    async fn ready(&self) -> Result<(), Failure> {
        let deadline = Instant::now() + READY;
        loop {
            let (status, body) = self.admin("/readyz").await?;
            if status == "200" {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(self.failure(format!("not ready after {} s: {body}", READY.as_secs())));
            }
            tokio::time::sleep(Duration::from_millis(20)).await; // why: the admin listener answers, it does not notify
        }
    }

    /// What was charged so far.
    pub async fn book(&self) -> Result<Book, Failure> {
        let status = self.status().await?;
        let payments = &status["payments"];
        let count = |name: &str| payments[name].as_u64().unwrap_or_default();
        Ok(Book {
            charges: count("settled") + count("delivered"),
            charged: payments["chargedSompi"].as_str().unwrap_or_default().to_owned(),
        })
    }

    /// What the gateway says of itself.
    pub async fn status(&self) -> Result<Value, Failure> {
        self.ask("/status").await
    }

    /// What it says of a channel: as `kas402 channels show`.
    pub async fn channel(&self, id: &ChannelId) -> Result<ChannelView, Failure> {
        self.ask(&format!("/channels/{id}")).await
    }

    /// What it says of a channel once that is so.
    pub async fn channel_once(&self, id: &ChannelId, what: &str, holds: impl Fn(&ChannelView) -> bool) -> Result<ChannelView, Failure> {
        let deadline = Instant::now() + READY;
        loop {
            let view = self.channel(id).await?;
            if holds(&view) {
                return Ok(view);
            }
            if Instant::now() > deadline {
                return Err(self.failure(format!("{what} within {} s: {view:?}", READY.as_secs())));
            }
            tokio::time::sleep(Duration::from_millis(10)).await; // why: the admin listener answers, it does not notify
        }
    }

    /// Runs `kas402` beside the configuration, as an operator does; gives what it prints.
    pub async fn operate(&self, arguments: &[&str]) -> Result<String, Failure> {
        let done = command(&self.binary, &self.folder, arguments).await?;
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }

    async fn ask<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let (status, body) = self.admin(path).await?;
        serde_json::from_str(&body).map_err(|error| self.failure(format!("{path}: {status} {body}: {error}")))
    }

    /// GET on the admin socket: status and body.
    async fn admin(&self, path: &str) -> Result<(String, String), Failure> {
        let failed = |error: std::io::Error| self.failure(format!("its admin socket {}: {error}", self.admin_socket.display()));
        let mut socket = UnixStream::connect(&self.admin_socket).await.map_err(failed)?;
        socket.write_all(format!("GET {path} HTTP/1.0\r\nHost: admin\r\n\r\n").as_bytes()).await.map_err(failed)?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.map_err(failed)?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        Ok((head.split(' ').nth(1).unwrap_or_default().to_owned(), body.to_owned()))
    }
}

/// Runs `kas402` to its end.
async fn command(binary: &Path, folder: &Path, arguments: &[&str]) -> Result<Output, Failure> {
    let run = Command::new(binary).args(arguments).current_dir(folder).process_group(0).kill_on_drop(true).output().await;
    let done =
        run.map_err(|error| Failure::new(PART, format!("{} cannot be started: {error}; `make build` makes it", binary.display())))?;
    if done.status.success() {
        return Ok(done);
    }
    Err(Failure::new(PART, format!("kas402 {}: {}", arguments.join(" "), String::from_utf8_lossy(&done.stderr))))
}
