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
use serde_json::json;
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
        let failed = |what: String| Failure::new("faucet", what);
        let wish = json!({ "address": wallet.address().to_string(), "sompi": each.sompi(), "count": count });
        let request = reqwest::Client::new().post(format!("{}/fund", self.control)).header("content-type", "application/json");
        let answer = request.body(wish.to_string()).send().await.map_err(|error| failed(error.to_string()))?;
        if !answer.status().is_success() {
            return Err(failed(answer.text().await.unwrap_or_default()));
        }
        let coins = self.coins(wallet).await?;
        let youngest = coins.iter().map(|coin| coin.daa_score).max().unwrap_or_default();
        let spendable = youngest.saturating_add(CoinRules::of(wallet.network()).confirmations_daa);
        let mut tip = self.chain.tip();
        let mined = timeout(READY, tip.wait_for(|tip| tip.daa_score >= spendable)).await;
        if mined.is_ok_and(|seen| seen.is_ok()) { Ok(()) } else { Err(failed("the miner stands still".into())) }
    }

    /// All coins of a wallet, by the node's utxo index.
    pub async fn balance(&self, wallet: &Wallet) -> Result<Amount, Failure> {
        let coins = self.coins(wallet).await?;
        let sum = coins.iter().try_fold(Amount::ZERO, |sum, coin| sum.checked_add(coin.amount));
        sum.ok_or_else(|| Failure::new(PART, "more money than there is"))
    }

    async fn coins(&self, wallet: &Wallet) -> Result<Vec<Utxo>, Failure> {
        self.chain.utxos(&wallet.address().to_string()).await.map_err(|error| Failure::new(PART, error))
    }
}
