//! A real gateway process for tests: writes its configuration, starts `kas402 run`, kills it, starts it again.
#![allow(dead_code)]

use super::devnet::{Devnet, Wallet};
use serde_json::Value;
use std::{path::PathBuf, process::Stdio, sync::Arc, time::Duration};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    process::{Child, Command},
    time::Instant,
};

/// Where clients believe the gateway is; the socket they really use is [`Gateway::url`].
pub const ORIGIN: &str = "http://paid.test";

/// Longest time for a gateway to become ready.
const READY: Duration = Duration::from_secs(90);

/// A gateway and its folder: configuration, keys, store, log.
pub struct Gateway {
    folder: Arc<TempDir>,
    /// Of its configuration, its socket and its log; several gateways may live in one folder.
    name: String,
    child: Option<Child>,
    address: String,
    /// Where tenants are served.
    facilitator: Option<String>,
}

/// The configuration around `routes` (YAML list items, indented by two spaces); `more` is appended at the top level.
pub fn yaml(wrpc: &[String], pay_to: &Wallet, upstream: &str, routes: &str, more: &str) -> String {
    let urls = wrpc.iter().map(|url| format!("\"{url}\"")).collect::<Vec<_>>().join(", ");
    format!(
        "network: kaspa:simnet\nallow_simnet: true\npublic_origin: {ORIGIN}\nlisten: 127.0.0.1:0\npay_to: {}\n\
         node: {{urls: [{urls}]}}\nstore: {{path: store.db}}\nupstream: {upstream}\nroutes:\n{routes}\n{more}\n",
        pay_to.address()
    )
}

impl Gateway {
    /// Starts and waits until priced routes can be sold.
    pub async fn start(yaml: &str) -> Self {
        let mut gateway = Self::prepare(yaml).await;
        gateway.run(&[]).await;
        gateway.ready().await;
        gateway
    }

    /// Writes the folder without starting.
    pub async fn prepare(yaml: &str) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let gateway = Self { folder, name: "kas402".to_owned(), child: None, address: String::new(), facilitator: None };
        gateway.configure(yaml);
        let made = gateway.command().args(["keys", "new", "offer.keys"]).output().await.unwrap();
        assert!(made.status.success(), "{made:?}");
        if yaml.contains("batch-settlement") {
            let made = gateway.command().args(["keys", "new", "--server", "server.keys"]).output().await.unwrap();
            assert!(made.status.success(), "{made:?}");
        }
        gateway
    }

    /// Replaces the configuration; takes effect at the next start, or by [`Gateway::reload`].
    pub fn configure(&self, yaml: &str) {
        std::fs::write(self.path(&format!("{}.yaml", self.name)), yaml).unwrap();
    }

    /// Another process over the same keys and the same store.
    pub async fn sibling(&self, name: &str, yaml: &str) -> Self {
        let mut sibling =
            Self { folder: self.folder.clone(), name: name.to_owned(), child: None, address: String::new(), facilitator: None };
        sibling.configure(&format!("{yaml}\nadmin: {{listen: \"unix:{name}.sock\"}}\n"));
        sibling.run(&[]).await;
        sibling.ready().await;
        sibling
    }

    fn socket(&self) -> PathBuf {
        self.path(&if self.name == "kas402" { "admin.sock".to_owned() } else { format!("{}.sock", self.name) })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A `kas402` command in the gateway's folder.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kas402"));
        command.current_dir(self.folder.path()).kill_on_drop(true);
        command
    }

    /// Starts the process; returns when it listens, ready to sell or not.
    pub async fn run(&mut self, environment: &[(&str, &str)]) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log_path()).unwrap();
        let mut child = self
            .command()
            .args(["run", "--announce", "--config", &format!("{}.yaml", self.name)])
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let Some(line) = lines.next_line().await.unwrap() else { panic!("the gateway did not start:\n{}", self.log()) };
        let announced: Value = serde_json::from_str(&line).unwrap();
        self.address = announced["listening"][0].as_str().unwrap().to_owned();
        self.facilitator = announced["facilitator"].as_str().map(str::to_owned);
        self.child = Some(child);
    }

    /// Where its facilitator listens, `127.0.0.1:PORT`.
    pub fn facilitator(&self) -> &str {
        self.facilitator.as_deref().expect("it has tenants")
    }

    /// `http://127.0.0.1:PORT`; the port changes with every start.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// SIGKILL, as a power cut would.
    pub async fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().await.unwrap();
    }

    /// Waits for the process to end by itself (a crash point).
    pub async fn died(&mut self) {
        let mut child = self.child.take().expect("it runs");
        let status = child.wait().await.unwrap();
        assert!(!status.success(), "it ended as if nothing had happened");
    }

    /// SIGKILL and a new start on the same folder.
    pub async fn restart(&mut self) {
        self.kill().await;
        self.run(&[]).await;
        self.ready().await;
    }

    /// SIGHUP.
    pub fn reload(&self) {
        let pid = self.child.as_ref().and_then(Child::id).expect("it runs");
        assert!(std::process::Command::new("kill").args(["-HUP", &pid.to_string()]).status().unwrap().success());
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().and_then(Child::id).expect("it runs")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.path(&format!("{}.log", self.name))
    }

    /// GET on the admin socket: status and body.
    pub async fn admin(&self, path: &str) -> (u16, String) {
        let mut socket = UnixStream::connect(self.socket()).await.unwrap();
        socket.write_all(format!("GET {path} HTTP/1.0\r\nHost: admin\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// `/status` as JSON.
    pub async fn status(&self) -> Value {
        serde_json::from_str(&self.admin("/status").await.1).unwrap()
    }

    /// Sums and counts of the store.
    pub async fn payments(&self) -> Value {
        self.status().await["payments"].clone()
    }

    /// Waits until `/readyz` says yes.
    pub async fn ready(&self) {
        self.until("ready", async || self.admin("/readyz").await.0 == 200).await;
    }

    /// Waits until `/readyz` says no.
    pub async fn not_ready(&self) {
        self.until("not ready", async || self.admin("/readyz").await.0 == 503).await;
    }

    /// Asks until it is so: the admin listener has no events.
    pub async fn until(&self, what: &str, so: impl AsyncFn() -> bool) {
        self.until_within(READY, what, so).await;
    }

    pub async fn until_within(&self, patience: Duration, what: &str, so: impl AsyncFn() -> bool) {
        let deadline = Instant::now() + patience;
        while !so().await {
            assert!(Instant::now() < deadline, "never {what}; log:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await; // why: bounded polling, the admin listener pushes nothing
        }
    }
}

/// A devnet, an upstream, a seller and a gateway over them.
pub struct World {
    pub devnet: Devnet,
    pub upstream: super::upstream::Upstream,
    pub seller: Wallet,
    pub gateway: Gateway,
}

impl World {
    /// One node at 10 blocks per second; see [`yaml`].
    pub async fn start(routes: &str, more: &str) -> Self {
        Self::over(Devnet::start(1, 10.0).await, routes, more).await
    }

    /// The gateway follows the first node of the devnet only.
    pub async fn over(devnet: Devnet, routes: &str, more: &str) -> Self {
        let upstream = super::upstream::Upstream::start().await;
        let seller = Wallet::new(200);
        let gateway = Gateway::start(&yaml(&devnet.wrpc[..1], &seller, &upstream.url(), routes, more)).await;
        Self { devnet, upstream, seller, gateway }
    }
}
