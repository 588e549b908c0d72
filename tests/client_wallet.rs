//! The buyer's wallet against a real node: what it plans is what the node takes, to the sompi.

#[path = "support/devnet.rs"]
mod devnet;
#[path = "support/chain.rs"]
mod node;

use devnet::{Devnet, KAS};
use kas402::{
    chain::{Chain, SubmitOutcome, TxStatus, kaspa::KaspaChain},
    client::{
        coins::{CoinRules, Plan, Purse, SignedPayment, Spend, plan},
        wallet::Wallet,
    },
    protocol::{amount::Amount, network::Network},
};
use rand::{SeedableRng, rngs::StdRng};
use std::{collections::HashSet, path::Path, process::Output, sync::Arc, time::Duration};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);

/// A buyer, a shop, and the node both use.
struct Market {
    devnet: Devnet,
    chain: Arc<KaspaChain>,
    buyer: Wallet,
    shop: Wallet,
    rules: CoinRules,
}

fn wallet(seed: u8) -> Wallet {
    Wallet::from_secret(Network::Simnet, &[seed; 32]).unwrap()
}

impl Market {
    async fn open() -> Self {
        let devnet = Devnet::start(1, 10.0).await;
        let chain = node::connect(node::options(&devnet.wrpc)).await;
        Self { devnet, chain, buyer: wallet(7), shop: wallet(9), rules: CoinRules::of(Network::Simnet) }
    }

    /// Funds the buyer and waits until its coins are old enough.
    async fn fund(&self, sompi: u64, count: u64) {
        self.devnet.fund(&devnet::Wallet::new(7), sompi, count).await;
        self.devnet.mine(0, 2 * self.rules.confirmations_daa).await;
    }

    async fn holds(&self, wallet: &Wallet) -> u64 {
        let utxos = self.chain.utxos(&wallet.address().to_string()).await.unwrap();
        utxos.iter().map(|utxo| utxo.amount.sompi()).sum()
    }

    /// The plan, once the followed tip shows the coins as old enough.
    async fn plan(&self, sompi: u64, rules: &CoinRules) -> Plan {
        let (own, pay_to) = (self.buyer.script(), self.shop.script());
        let amount = Amount::from_sompi(sompi).unwrap();
        let mut tip = self.chain.tip();
        let found = timeout(PATIENCE, async {
            loop {
                let now_daa = tip.borrow_and_update().daa_score;
                let utxos = self.chain.utxos(&self.buyer.address().to_string()).await.unwrap();
                let purse = Purse::sort(&utxos, &own, now_daa, &HashSet::new(), rules);
                let spend = Spend { amount, pay_to: &pay_to, own: &own, conflict_with: &[] };
                match plan(&purse.coins, &spend, rules) {
                    Ok(found) if purse.young.is_zero() => return found,
                    _ => tip.changed().await.expect("the chain lives"),
                }
            }
        });
        found.await.expect("the coins ripen in time")
    }

    fn sign(&self, plan: &Plan) -> SignedPayment {
        plan.sign(&self.buyer, &mut StdRng::seed_from_u64(3))
    }

    /// Plans, submits and waits for acceptance; the books must agree to the sompi.
    async fn pay(&self, sompi: u64) -> Plan {
        let before = (self.holds(&self.buyer).await, self.holds(&self.shop).await);
        let plan = self.plan(sompi, &self.rules).await;
        let signed = self.sign(&plan);
        let mut status = self.chain.follow(&signed.transaction, None, false);
        assert_eq!(self.chain.submit(&signed.transaction).await, SubmitOutcome::New);
        let accepted = status.wait_for(|status| matches!(status, TxStatus::Accepted(_)));
        timeout(PATIENCE, accepted).await.expect("accepted in time").expect("followed");
        let after = (self.holds(&self.buyer).await, self.holds(&self.shop).await);
        assert_eq!(after, (before.0 - sompi - plan.fee.sompi(), before.1 + sompi), "the books");
        plan
    }
}

#[tokio::test]
async fn payments_are_accepted_and_the_books_agree_to_the_sompi() {
    let market = Market::open().await;
    market.fund(3 * KAS, 4).await;
    // One after the other, each from the change of those before.
    for sompi in [KAS / 4, KAS, 2_010_000, 5 * KAS] {
        let plan = market.pay(sompi).await;
        assert!(plan.change.is_some());
    }
}

#[tokio::test]
async fn many_small_coins_pay_one_price_together() {
    let market = Market::open().await;
    market.fund(KAS / 5, 40).await;
    let plan = market.pay(6 * KAS).await;
    assert!(plan.inputs.len() > 30, "{} inputs", plan.inputs.len());
}

#[tokio::test]
async fn a_wallet_can_be_emptied_to_the_last_sompi() {
    let market = Market::open().await;
    market.fund(2 * KAS, 1).await;
    let one_output = 2 * KAS - 169_900;
    let plan = market.pay(one_output - 500_000).await;
    assert_eq!((plan.change, market.holds(&market.buyer).await), (None, 0), "the dust went to the fee");
}

#[tokio::test]
async fn the_fee_is_the_least_that_the_node_relays() {
    let market = Market::open().await;
    market.fund(3 * KAS, 1).await;
    let mut cheaper = market.rules.clone();
    cheaper.relay_sompi_per_gram = 99;
    let refused = market.sign(&market.plan(KAS, &cheaper).await);
    let outcome = market.chain.submit(&refused.transaction).await;
    assert!(!matches!(outcome, SubmitOutcome::New | SubmitOutcome::Known), "{outcome:?}");
    market.pay(KAS).await;
}

#[tokio::test]
async fn the_command_line_makes_a_wallet_and_shows_what_it_holds() {
    let market = Market::open().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("w.json");
    let made = kas402(&file, &["wallet", "new", "--network", "kaspa:simnet"]).await;
    assert!(made.status.success(), "{made:?}");
    let address = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    assert_eq!(Wallet::load(&file).unwrap().address().to_string(), address);
    assert_eq!(kas402(&file, &["wallet", "new"]).await.status.code(), Some(1), "never overwritten");
    let shown = kas402(&file, &["wallet", "address"]).await;
    assert_eq!(String::from_utf8(shown.stdout).unwrap().trim(), address);

    market.devnet.post("/fund", serde_json::json!({"address": address, "sompi": 3 * KAS, "count": 2})).await;
    market.devnet.mine(0, 2 * market.rules.confirmations_daa).await;
    let balance = kas402(&file, &["wallet", "balance", "--node", &market.devnet.wrpc[0]]).await;
    assert_eq!(String::from_utf8(balance.stdout).unwrap(), "6 KAS spendable in 2 coins\n", "{}", String::from_utf8_lossy(&balance.stderr));
    let mainnet = kas402(&folder.path().join("m.json"), &["wallet", "new", "--network", "kaspa:mainnet"]).await;
    assert_eq!((mainnet.status.code(), folder.path().join("m.json").exists()), (Some(1), false));
}

async fn kas402(wallet: &Path, args: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_kas402"));
    command.args(args).env("KAS402_WALLET", wallet).env_remove("KAS402_NODE");
    timeout(PATIENCE, command.kill_on_drop(true).output()).await.expect("ends in time").expect("runs")
}
