//! Evidence that everything works together on a network: every flow of both schemes, bought by the bundled buyer from a gateway
//! of its own over a real node, each checked against the chain, and written down.
//!
//! Used by `kas402 proof`. Spends real coins of its wallet: less than 2 KAS, and locks 4 KAS until the refund. What is
//! interrupted is in the wallet's journal: `kas402 channel refund` takes the rest back. Never retries a flow that failed.

mod buyer;
mod flows;
mod report;
mod shop;

pub use report::{Fact, Facts, Report, Step};

use crate::{
    chain::Chain,
    client::{
        journal::Journal,
        policy::{Budget, SpendingPolicy},
        wallet::{Wallet, WalletError},
    },
    protocol::{amount::Amount, time::UnixMillis},
};
use buyer::Buyer;
use flows::{Flow, Flows};
use rand::rngs::OsRng;
use shop::Shop;
use std::{path::PathBuf, sync::Arc, time::Duration};

/// Longest wait for a node to be ready.
const NODE_PATIENCE: Duration = Duration::from_secs(60);

/// What a proof needs.
pub struct Plan {
    /// Keeps the gateway's configuration, keys, store and log, and the seller's wallet.
    pub folder: PathBuf,
    pub wallet: Arc<Wallet>,
    pub journal: Arc<Journal>,
    /// wRPC (Borsh), with utxo index, for gateway and buyer.
    pub node: String,
    pub chain: Arc<dyn Chain>,
    pub now: fn() -> UnixMillis,
}

/// Goes through every flow until one fails. `tell` hears what happens; an error means that nothing was begun.
pub async fn prove(plan: Plan, tell: &mut (dyn FnMut(&str) + Send)) -> Result<Report, String> {
    let Plan { folder, wallet, journal, node, chain, now } = plan;
    let mut health = chain.health();
    let ready = tokio::time::timeout(NODE_PATIENCE, health.wait_for(|health| health.ready)).await;
    if !ready.is_ok_and(|seen| seen.is_ok()) {
        let reason = chain.health().borrow().reason.clone();
        return Err(format!("the node is not ready: {}", reason.unwrap_or_else(|| "disconnected".into())));
    }
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let seller = seller(&folder, &wallet)?;
    let shop = Shop::open(&folder, wallet.network(), &node, &seller).await?;
    tell(&format!("the gateway sells at {}", shop.url));
    let began = now();
    let price = Amount::parse_price(shop::PRICE).expect("a constant of this program");
    let total = Amount::parse_price(flows::MOST).expect("a constant of this program");
    let policy = SpendingPolicy { other_origin: true, ..SpendingPolicy::up_to(price, wallet.network()) };
    let policy = policy.within(Budget { total: Some(total), since: began, ..Budget::default() });
    let mut report = Report {
        network: wallet.network(),
        node_version: chain.health().borrow().server_version.clone(),
        buyer: wallet.address().to_string(),
        seller: seller.address().to_string(),
        began,
        daa_score: chain.tip().borrow().daa_score,
        steps: Vec::new(),
        planned: Flow::ALL.len(),
    };
    let buyer = Buyer::new(wallet, journal, chain.clone(), policy, now, shop.url.clone());
    let mut flows = Flows::new(shop, buyer, chain, seller.address().to_string(), report.buyer.clone());
    for (number, flow) in (1..).zip(Flow::ALL) {
        tell(&format!("{number}. {}", flow.name()));
        let since = now();
        let (facts, failure) = match flows.run(flow, tell).await {
            Ok(facts) => (facts, None),
            Err(failure) => (Facts::default(), Some(failure)),
        };
        let took_millis = now().0.saturating_sub(since.0);
        let failed = failure.is_some();
        report.steps.push(Step { name: flow.name(), expects: flow.expects(), facts, failure, took_millis });
        if failed {
            break;
        }
    }
    Ok(report)
}

/// The wallet that is paid, in a file of the folder: the money stays its owner's.
fn seller(folder: &std::path::Path, buyer: &Wallet) -> Result<Wallet, String> {
    let path = folder.join("seller.wallet.json");
    match Wallet::load(&path) {
        Ok(wallet) if wallet.network() == buyer.network() => Ok(wallet),
        Ok(_) => Err(format!("{} is on another network: use another folder", path.display())),
        Err(WalletError::Missing(_)) => {
            let wallet = Wallet::generate(buyer.network(), &mut OsRng);
            wallet.create(&path).map_err(|error| error.to_string())?;
            Ok(wallet)
        }
        Err(error) => Err(error.to_string()),
    }
}
