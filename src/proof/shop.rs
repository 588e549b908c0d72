//! What the proof buys from: a tiny API, and a gateway of its own before it, as operators run it.
//!
//! Promises that neither outlives the proof: the gateway is told to end when its standard input closes, the API is a task.

use crate::{
    client::wallet::Wallet,
    gateway::channel::report::{ChannelView, MoveStateView, MoveView, PhaseView},
    protocol::{
        ids::{ChannelId, TxId},
        network::Network,
    },
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    task::AbortHandle,
    time::{Instant, sleep, timeout},
};

/// What one request by a transaction costs, and one from a channel.
pub const PRICE: &str = "0.25 KAS";
const CHARGE: &str = "0.2 KAS";
/// The configuration's name in the folder.
const CONFIG: &str = "kas402.yaml";
/// Longest time until the gateway can sell, and until a claim is accepted.
const PATIENCE: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(200);
/// Longest head of a request that the API reads, bytes.
const HEAD: usize = 64 * 1024;

/// Times of the gateway's channels, seconds, and the depth of final blocks.
struct Times {
    horizon: u64,
    lead: u64,
    final_depth: u64,
}

impl Times {
    /// As short as the network's blocks and a careful operator allow.
    const fn of(network: Network) -> Self {
        match network {
            Network::Simnet => Self { horizon: 300, lead: 90, final_depth: 300 },
            Network::Testnet10 | Network::Mainnet => Self { horizon: 1_200, lead: 300, final_depth: 1_000 },
        }
    }
}

pub struct Shop {
    /// Where its socket is.
    pub url: String,
    folder: PathBuf,
    binary: PathBuf,
    _gateway: Child,
    api: AbortHandle,
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.api.abort();
    }
}

impl Shop {
    /// Starts both in this folder, which keeps configuration, keys, store and log; returns when requests can be sold.
    pub async fn open(folder: &Path, network: Network, node: &str, seller: &Wallet) -> Result<Self, String> {
        let binary = std::env::current_exe().map_err(|error| format!("this program cannot be found: {error}"))?;
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| error.to_string())?;
        let upstream = listener.local_addr().map_err(|error| error.to_string())?;
        let api = tokio::spawn(serve(listener)).abort_handle();
        let config = folder.join(CONFIG);
        let written = std::fs::write(&config, yaml(network, node, seller, &upstream.to_string()));
        written.map_err(|error| format!("{}: {error}", config.display()))?;
        for (file, arguments) in [("offer.keys", &["keys", "new"][..]), ("server.keys", &["keys", "new", "--server"])] {
            if !folder.join(file).exists() {
                operate(&binary, folder, arguments).await?;
            }
        }
        let (gateway, url) = start(&binary, folder).await?;
        let shop = Self { url, folder: folder.to_owned(), binary, _gateway: gateway, api };
        shop.ready().await?;
        Ok(shop)
    }

    async fn ready(&self) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.operate(&["health", "--ready"]).await {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(format!("the gateway is not ready: {error}")),
                Err(_) => sleep(POLL).await, // why: the admin listener answers, it does not notify
            }
        }
    }

    /// Runs `kas402` beside the configuration, as an operator does; gives what it prints.
    pub async fn operate(&self, arguments: &[&str]) -> Result<String, String> {
        operate(&self.binary, &self.folder, arguments).await
    }

    pub async fn read<T: DeserializeOwned>(&self, arguments: &[&str]) -> Result<T, String> {
        let printed = self.operate(arguments).await?;
        serde_json::from_str(&printed).map_err(|error| format!("kas402 {}: {error}", arguments.join(" ")))
    }

    /// The gateway's own view of a channel.
    pub async fn channel(&self, id: &ChannelId) -> Result<ChannelView, String> {
        self.read(&["channels", "show", &id.to_string(), "--json"]).await
    }

    /// The newest claim or top-up that is not in `known`, once the network accepted it.
    pub async fn moved(&self, id: &ChannelId, known: &mut HashSet<TxId>) -> Result<(MoveView, ChannelView), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let view = self.channel(id).await?;
            let found = view.moves.iter().find(|step| !known.contains(&step.txid) && step.state == MoveStateView::Accepted).cloned();
            match found {
                Some(step) if view.phase == PhaseView::Idle => {
                    known.insert(step.txid);
                    return Ok((step, view));
                }
                _ if Instant::now() > deadline => return Err(format!("no claim was accepted in {} s", PATIENCE.as_secs())),
                _ => sleep(POLL).await, // why: the admin listener answers, it does not notify
            }
        }
    }
}

async fn start(binary: &Path, folder: &Path) -> Result<(Child, String), String> {
    let log = folder.join("gateway.log");
    let stderr = std::fs::File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
    let mut gateway = Command::new(binary)
        .args(["run", "--announce", "--exit-with-stdin", "--config", CONFIG])
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(stderr)
        // A group of its own: Ctrl-C reaches the proof alone.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("the gateway cannot be started: {error}"))?;
    let failed = || format!("the gateway did not start; see {}", log.display());
    let mut lines = BufReader::new(gateway.stdout.take().ok_or_else(failed)?).lines();
    let line = timeout(PATIENCE, lines.next_line()).await.ok().and_then(Result::ok).flatten().ok_or_else(failed)?;
    let announced: Value = serde_json::from_str(&line).map_err(|_| failed())?;
    let address = announced.pointer("/listening/0").and_then(Value::as_str).ok_or_else(failed)?;
    Ok((gateway, format!("http://{address}")))
}

async fn operate(binary: &Path, folder: &Path, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(binary);
    command.args(arguments).current_dir(folder).process_group(0).kill_on_drop(true).stdin(Stdio::null());
    // What the caller's shell has set is about other gateways.
    command.env_remove("KAS402_CONFIG").env_remove("KAS402_ADMIN");
    let done = command.output().await.map_err(|error| error.to_string())?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let said = [done.stdout, done.stderr].concat();
    Err(format!("kas402 {}: {}", arguments.join(" "), String::from_utf8_lossy(&said).trim()))
}

fn yaml(network: Network, node: &str, seller: &Wallet, upstream: &str) -> String {
    let Times { horizon, lead, final_depth } = Times::of(network);
    let simnet = if network == Network::Simnet { "allow_simnet: true\n" } else { "" };
    format!(
        "# Written by `kas402 proof`.\n\
         network: {network}\n{simnet}\
         public_origin: http://proof.invalid\n\
         listen: 127.0.0.1:0\n\
         pay_to: {}\n\
         node: {{urls: [\"{node}\"]}}\n\
         upstream: http://{upstream}\n\
         store: {{path: store.db}}\n\
         admin: {{listen: \"unix:admin.sock\"}}\n\
         keys: {{offer: {{file: offer.keys}}, server: {{file: server.keys}}}}\n\
         channels:\n  \
           refund_horizon_seconds: {horizon}\n  \
           refund_epoch_seconds: 1\n  \
           refund_lead_seconds: {lead}\n  \
           confirmations: 10\n  \
           claims: {{automatic: false}}\n\
         limits: {{final_depth: {final_depth}}}\n\
         routes:\n  \
         - {{path: \"/exact/{{*rest}}\", price: \"{PRICE}\"}}\n  \
         - {{path: \"/channel/{{*rest}}\", scheme: batch-settlement, price: \"{CHARGE}\", min_deposit: \"1 KAS\"}}\n",
        seller.address()
    )
}

/// Answers every request with its first line.
async fn serve(listener: TcpListener) {
    while let Ok((socket, _)) = listener.accept().await {
        tokio::spawn(answer(socket));
    }
}

async fn answer(mut socket: TcpStream) -> std::io::Result<()> {
    let (mut head, mut chunk) = (Vec::new(), [0; 4096]);
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        let read = socket.read(&mut chunk).await?;
        if read == 0 || head.len() > HEAD {
            return Ok(());
        }
        head.extend_from_slice(&chunk[..read]);
    }
    let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
    let answer =
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{line}", line.len());
    socket.write_all(answer.as_bytes()).await?;
    socket.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Environment};

    #[test]
    fn the_gateway_of_the_proof_is_configured_without_error_on_every_network() {
        for network in [Network::Simnet, Network::Testnet10] {
            let seller = Wallet::from_secret(network, &[9; 32]).unwrap();
            let yaml = yaml(network, "ws://127.0.0.1:17210", &seller, "127.0.0.1:3000");
            let environment = Environment { secrets: false, ..Environment::process() };
            let compiled = config::compile_text(&yaml, Path::new(""), &environment);
            assert!(compiled.is_ok(), "{network}: {}", compiled.err().unwrap());
        }
    }
}
