//! `KaspaChain` over the devnet, for the tests of the chain itself.
#![allow(dead_code)]

use super::devnet::{Devnet, Wallet};
use kas402::{
    chain::{
        Chain, TxStatus,
        kaspa::{KaspaChain, Options},
    },
    protocol::{
        acceptance::{Acceptance, Checkpoint},
        ids::TxId,
        network::Network,
        time::UnixMillis,
    },
};
use kaspa_consensus_core::tx::Transaction;
use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{sync::watch, time::timeout};

pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn options(urls: &[String]) -> Options {
    let now = || UnixMillis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().try_into().unwrap());
    Options::new(Network::Simnet, urls.to_vec(), Arc::new(now))
}

pub async fn connect(options: Options) -> Arc<KaspaChain> {
    let chain = KaspaChain::connect(options);
    ready(&chain).await;
    chain
}

pub async fn ready(chain: &KaspaChain) {
    let mut health = chain.health();
    let result = timeout(PATIENCE, health.wait_for(|health| health.ready)).await;
    assert!(result.is_ok(), "not ready: {:?}", chain.health().borrow());
}

pub async fn accepted(status: &mut watch::Receiver<TxStatus>) -> Acceptance {
    let seen = timeout(PATIENCE, status.wait_for(|status| matches!(status, TxStatus::Accepted(_)))).await;
    match seen.map(|seen| *seen.expect("followed")) {
        Ok(TxStatus::Accepted(acceptance)) => acceptance,
        _ => panic!("not accepted: {:?}", *status.borrow()),
    }
}

pub fn txid(transaction: &Transaction) -> TxId {
    transaction.id().into()
}

/// Two wallets: who pays, and who is paid.
pub fn wallets() -> (Wallet, Wallet) {
    (Wallet::new(11), Wallet::new(12))
}

pub async fn sink(net: &Devnet) -> Checkpoint {
    let chain = net.get("/status").await["nodes"][0]["chain"].clone();
    Checkpoint { block: chain["sink"].as_str().unwrap().parse().unwrap(), blue_score: chain["sink_blue_score"].as_u64().unwrap() }
}
