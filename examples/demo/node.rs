//! The Kaspa network of the demo: a simnet in one process, its miner, and its faucet.

use crate::{
    parts::{Failure, Processes},
    show::Screen,
};
use kas402::{
    chain::{
        Chain, Utxo,
        kaspa::{KaspaChain, Options},
    },
    client::{coins::CoinRules, wallet::Wallet},
    protocol::{amount::Amount, network::Network},
    runtime::clock,
};
use serde_json::{Value, json};
use std::{path::Path, sync::Arc, time::Duration};
use tokio::time::timeout;

const PART: &str = "Kaspa node";
const BLOCKS_PER_SECOND: &str = "10";
/// Longest wait for the node to answer its first questions.
const READY: Duration = Duration::from_secs(30);

/// A running simnet, and a connection to it like any wallet's.
pub struct Node {
    /// wRPC (Borsh).
    pub url: String,
    pub chain: Arc<dyn Chain>,
    control: String,
}

impl Node {
    pub async fn start(parts: &mut Processes, screen: &Screen, binary: &Path) -> Result<Self, Failure> {
        let since = screen.waiting(PART);
        let ready = parts.start(PART, binary, &["--nodes", "1", "--rate", BLOCKS_PER_SECOND]).await?;
        let text = |pointer: &str| ready.pointer(pointer).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
        let url = text("/wrpc/0");
        let chain = KaspaChain::connect(Options::new(Network::Simnet, vec![url.clone()], Arc::new(clock::now)));
        let mut health = chain.health();
        let usable = timeout(READY, health.wait_for(|health| health.ready)).await;
        if !usable.is_ok_and(|seen| seen.is_ok()) {
            let why = chain.health().borrow().reason.clone().unwrap_or_default();
            return Err(Failure { part: PART, what: format!("not usable: {why}"), log: Some(parts.log(PART)) });
        }
        let version = chain.health().borrow().server_version.clone().unwrap_or_default();
        screen.done(since, &format!("kaspad {version}, simnet, {BLOCKS_PER_SECOND} blocks/s, {url}"));
        Ok(Self { url, chain, control: text("/control") })
    }

    /// Pays `count` coins of `each` from mined coins; they are old enough for a wallet when this returns.
    pub async fn fund(&self, wallet: &Wallet, each: Amount, count: u32) -> Result<(), Failure> {
        let address = wallet.address().to_string();
        self.control("fund", &json!({ "address": address, "sompi": each.sompi(), "count": count })).await?;
        let coins = self.coins(&address).await?;
        let youngest = coins.iter().map(|coin| coin.daa_score).max().unwrap_or_default();
        let spendable = youngest.saturating_add(CoinRules::of(wallet.network()).confirmations_daa);
        let mut tip = self.chain.tip();
        let mined = timeout(READY, tip.wait_for(|tip| tip.daa_score >= spendable)).await;
        if mined.is_ok_and(|seen| seen.is_ok()) { Ok(()) } else { Err(Failure::new(PART, "the miner stands still")) }
    }

    /// A call of the devnet's control API.
    async fn control(&self, call: &str, body: &Value) -> Result<(), Failure> {
        let failed = |what: String| Failure::new(PART, format!("{call}: {what}"));
        let request = reqwest::Client::new().post(format!("{}/{call}", self.control)).header("content-type", "application/json");
        let answer = request.body(body.to_string()).send().await.map_err(|error| failed(error.to_string()))?;
        if answer.status().is_success() { Ok(()) } else { Err(failed(answer.text().await.unwrap_or_default())) }
    }

    /// Lets time pass: mines so many blocks at once. They are on the chain when this returns.
    pub async fn mine(&self, blocks: u64) -> Result<(), Failure> {
        self.control("mine", &json!({ "blocks": blocks })).await
    }

    /// All coins of a wallet, by the node's utxo index.
    pub async fn balance(&self, wallet: &Wallet) -> Result<Amount, Failure> {
        let coins = self.coins(&wallet.address().to_string()).await?;
        let sum = coins.iter().try_fold(Amount::ZERO, |sum, coin| sum.checked_add(coin.amount));
        sum.ok_or_else(|| Failure::new(PART, "more money than there is"))
    }

    /// The unspent outputs of an address.
    pub async fn coins(&self, address: &str) -> Result<Vec<Utxo>, Failure> {
        self.chain.utxos(address).await.map_err(|error| Failure::new(PART, error))
    }
}
