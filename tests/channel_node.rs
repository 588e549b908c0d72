//! Channels on the real node: deposits, claims, top-ups and refunds as the network takes them, by the library and by the command
//! line, killed in between. The till is the tests' own; what it is sent and what the chain shows is the buyer's.

#[path = "support/devnet.rs"]
mod devnet;
#[path = "support/chain.rs"]
mod node;
#[path = "channel_buyer/shop.rs"]
mod shop;
#[path = "channel_buyer/till.rs"]
mod till;

use devnet::Devnet;
use kas402::{
    chain::{Chain, kaspa::KaspaChain},
    client::{journal::Journal, wallet::Wallet},
    protocol::{ids::ChannelId, network::Network},
};
use serde_json::Value;
use shop::{Counter, Fault};
use std::{path::PathBuf, process::Output, sync::Arc, time::Duration};
use till::Till;
use tokio::time::timeout;

const KAS: u64 = 100_000_000;
const PATIENCE: Duration = Duration::from_secs(90);
/// DAA scores from the beginning of a test to the refund.
const HORIZON: u64 = 4_000;

struct Market {
    devnet: Devnet,
    chain: Arc<KaspaChain>,
    counter: Counter,
    base: String,
    folder: tempfile::TempDir,
    timeout_daa: u64,
}

fn wallet() -> Wallet {
    Wallet::from_secret(Network::Simnet, &[7; 32]).unwrap()
}

impl Market {
    async fn open() -> Self {
        let devnet = Devnet::start(1, 10.0).await;
        let chain = node::connect(node::options(&devnet.wrpc)).await;
        devnet.fund(&devnet::Wallet::new(7), 30 * KAS, 4).await;
        devnet.mine(0, 30).await;
        let timeout_daa = chain.tip().borrow().daa_score + HORIZON;
        let counter = Counter::new(Till::new(chain.clone(), timeout_daa));
        let base = format!("http://{}", counter.listen().await);
        let folder = tempfile::tempdir().unwrap();
        wallet().create(&folder.path().join("w.json")).unwrap();
        Self { devnet, chain, counter, base, folder, timeout_daa }
    }

    fn wallet_file(&self) -> PathBuf {
        self.folder.path().join("w.json")
    }

    fn journal(&self) -> Journal {
        Journal::open(&self.wallet_file().with_extension("payments.sqlite")).unwrap()
    }

    fn command(&self, args: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_kas402"));
        command.args(args).env("KAS402_WALLET", self.wallet_file()).env("KAS402_NODE", &self.devnet.wrpc[0]).kill_on_drop(true);
        command
    }

    async fn run(&self, args: &[&str]) -> Output {
        timeout(PATIENCE, self.command(args).output()).await.expect("ends in time").expect("runs")
    }

    /// A command that must succeed, with the path of what it fetches; its standard output.
    async fn does(&self, words: &[&str], target: Option<&str>, more: &[&str]) -> String {
        let url = target.map(|target| format!("{}{target}", self.base));
        let args: Vec<&str> = words.iter().copied().chain(url.as_deref()).chain(more.iter().copied()).collect();
        let output = self.run(&args).await;
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Starts a command and kills it as soon as so many paid requests have reached the counter.
    async fn dies(&self, words: &[&str], target: &str, more: &[&str], reached: usize) {
        let url = format!("{}{target}", self.base);
        let args: Vec<&str> = words.iter().copied().chain([url.as_str()]).chain(more.iter().copied()).collect();
        let mut child = self.command(&args).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        timeout(PATIENCE, self.counter.reached(reached)).await.expect("it sends");
        child.kill().await.unwrap();
    }

    /// A command that aborts by itself when it comes to this point.
    async fn aborts(&self, point: &str, words: &[&str], target: &str, more: &[&str]) {
        let url = format!("{}{target}", self.base);
        let args: Vec<&str> = words.iter().copied().chain([url.as_str()]).chain(more.iter().copied()).collect();
        let output = timeout(PATIENCE, self.command(&args).env("KAS402_CRASH", point).output()).await.expect("ends").expect("runs");
        assert_eq!(output.status.code(), None, "{point}: {output:?}");
    }

    async fn status(&self) -> Value {
        let shown = self.does(&["channel", "status", "--json", "--all"], None, &[]).await;
        let status: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(status["channels"].as_array().unwrap().len(), 1, "{status}");
        status["channels"][0].clone()
    }

    fn id(&self) -> ChannelId {
        self.journal().channels().unwrap()[0].id
    }

    async fn held(&self, address: &str) -> u64 {
        self.chain.utxos(address).await.unwrap().iter().map(|utxo| utxo.amount.sompi()).sum()
    }

    /// Command line, till and chain say the same, to the sompi.
    async fn agrees(&self) -> Value {
        let shown = self.status().await;
        let (charged, claimed, _, funding, outpoint) = self.counter.till.books(&self.id()).await;
        for (name, value) in [("charged", charged), ("claimed", claimed), ("funding", funding), ("active", charged - claimed)] {
            assert_eq!(shown[name], value.to_string(), "{name}: {shown}");
        }
        assert_eq!(shown["outpoint"]["txid"], outpoint.txid.to_string());
        assert_eq!(shown["inFlight"], Value::Null, "{shown}");
        let channel = self.journal().channels().unwrap().remove(0);
        assert_eq!(self.held(&channel.script().address().to_string()).await, funding, "the chain");
        let ledger: u64 = self.counter.till.ledger().await.iter().map(|row| row.charge).sum();
        assert_eq!(ledger, charged, "the ledger");
        shown
    }
}

const MAX: [&str; 2] = ["--max", "0.1KAS"];

#[tokio::test]
async fn the_command_line_opens_pays_follows_claims_tops_up_and_refunds() {
    let market = Market::open().await;
    let before = market.held(&wallet().address().to_string()).await;
    let pay = ["pay", "--channel", "--max", "0.1KAS"];
    let refused = market.run(&["pay", "--channel", &format!("{}/pay/5000000/1", market.base), "--max", "0.1KAS"]).await;
    assert_eq!(refused.status.code(), Some(1), "no channel and no deposit: {refused:?}");

    let goods = market.does(&["channel", "open"], Some("/pay/5000000/3000000"), &[&MAX[..], &["--deposit", "10KAS"]].concat()).await;
    assert_eq!(goods, "the goods");
    let again = market.run(&["channel", "open", &format!("{}/pay/5000000/1", market.base), "--max", "1KAS", "--deposit", "10KAS"]).await;
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    for charge in [1_000_000, 2_000_000, 0] {
        market.does(&pay, Some(&format!("/pay/5000000/{charge}")), &[]).await;
    }
    let shown = market.agrees().await;
    assert_eq!(
        (&shown["phase"], &shown["funding"], &shown["charged"]),
        (&"open".into(), &(10 * KAS).to_string().into(), &"6000000".into())
    );
    assert_eq!(shown["refundTimeoutDaa"], market.timeout_daa.to_string());

    let id = market.id();
    market.counter.till.claim(&id).await;
    market.does(&pay, Some("/pay/5000000/4500000"), &[]).await;
    let shown = market.agrees().await;
    assert_eq!(shown["claimed"], "6000000", "the claim was followed");
    market.does(&["channel", "topup"], Some("/pay/5000000/500000"), &[&MAX[..], &["--deposit", "5KAS"]].concat()).await;
    let shown = market.agrees().await;
    assert_eq!(shown["funding"], (15 * KAS - 10_500_000).to_string());
    market.does(&pay, Some("/pay/5000000/4500000"), &[]).await;
    // A claim that only `status` sees.
    market.counter.till.claim(&id).await;
    let shown = market.agrees().await;
    assert_eq!((&shown["charged"], &shown["claimed"]), (&"15500000".into(), &"15500000".into()));
    let table = market.does(&["channel", "status"], None, &[]).await;
    assert!(table.contains(&id.to_string()[..16]) && table.contains("0.155 KAS"), "{table}");

    let early = market.run(&["channel", "refund", &id.to_string()[..8]]).await;
    assert_eq!(early.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&early.stderr).contains("to go, about"), "{early:?}");
    let left: u64 = shown["leftDaa"].as_str().unwrap().parse().unwrap();
    market.devnet.mine(0, left).await;
    market.does(&["channel", "refund"], None, &[&id.to_string()[..8]]).await;
    let shown = market.status().await;
    assert_eq!(shown["phase"], "closed", "{shown}");
    let channel = market.journal().channels().unwrap().remove(0);
    assert_eq!(market.held(&channel.script().address().to_string()).await, 0);
    // What is gone was charged, or went to the network: funding, a coin for the top-up, its weight, the refund.
    let gone = before - market.held(&wallet().address().to_string()).await - 15_500_000;
    assert!(gone < KAS / 100, "{gone} sompi of fees");
    let over = market.run(&["channel", "refund", &id.to_string()[..8]]).await;
    assert_eq!(over.status.code(), Some(1));
}

#[tokio::test]
async fn a_command_that_is_killed_is_resumed_by_the_same_command_and_charged_once() {
    let market = Market::open().await;
    let open = [&MAX[..], &["--deposit", "10KAS"]].concat();
    // The till has opened the channel and charged; the answer never came.
    market.counter.faults(&[Fault::Hang]);
    market.dies(&["channel", "open"], "/pay/5000000/3000000", &open, 1).await;
    market.does(&["channel", "open"], Some("/pay/5000000/3000000"), &open).await;
    market.agrees().await;

    let pay = ["pay", "--channel", "--max", "0.1KAS"];
    let sent = market.counter.sent().len();
    market.counter.faults(&[Fault::Hang]);
    market.dies(&pay, "/pay/5000000/2000000", &[], sent + 1).await;
    assert_ne!(market.status().await["inFlight"], Value::Null);
    market.does(&pay, Some("/pay/5000000/2000000"), &[]).await;
    market.agrees().await;

    // Left behind by another request, then asked for again: charged when it was served, once.
    let sent = market.counter.sent().len();
    market.counter.faults(&[Fault::Hang]);
    market.dies(&pay, "/pay/5000000/1000000", &[], sent + 1).await;
    market.does(&pay, Some("/pay/5000000/1500000"), &[]).await;
    market.agrees().await;
    market.does(&pay, Some("/pay/5000000/1000000"), &[]).await;
    market.agrees().await;

    let top_up = [&MAX[..], &["--deposit", "5KAS"]].concat();
    let sent = market.counter.sent().len();
    market.counter.faults(&[Fault::Hang]);
    market.dies(&["channel", "topup"], "/pay/5000000/500000", &top_up, sent + 1).await;
    market.does(&["channel", "topup"], Some("/pay/5000000/500000"), &top_up).await;
    let shown = market.agrees().await;
    assert_eq!((&shown["charged"], &shown["claimed"]), (&"8000000".into(), &"7500000".into()));
    assert_eq!(market.counter.till.ledger().await.len(), 5);
    let payments = market.counter.sent();
    let headers: std::collections::HashSet<_> = payments.iter().map(|promise| &promise.header).collect();
    assert_eq!((payments.len(), headers.len()), (9, 5), "every header that was killed went again, byte for byte");
}

#[tokio::test]
async fn a_command_that_dies_at_any_step_is_resumed_by_the_same_command_and_charged_once() {
    let market = Market::open().await;
    let open = [&MAX[..], &["--deposit", "10KAS"]].concat();
    let top_up = [&MAX[..], &["--deposit", "5KAS"]].concat();
    let pay = ["--max", "0.1KAS"];
    let done = async |words: &[&str], target: &str, more: &[&str], rows: usize| {
        market.does(words, Some(target), more).await;
        market.agrees().await;
        assert_eq!(market.counter.till.ledger().await.len(), rows, "{words:?}");
    };
    market.aborts("pay.opening", &["channel", "open"], "/pay/5000000/4000000", &open).await;
    done(&["channel", "open"], "/pay/5000000/4000000", &open, 1).await;
    market.aborts("pay.signed", &["pay", "--channel"], "/pay/5000000/1000000", &pay).await;
    done(&["pay", "--channel"], "/pay/5000000/1000000", &pay, 2).await;
    // The books were written before it was told: asking again is another purchase.
    market.aborts("pay.charged", &["pay", "--channel"], "/pay/5000000/1000000", &pay).await;
    market.agrees().await;
    done(&["pay", "--channel"], "/pay/5000000/1000000", &pay, 4).await;
    for point in ["pay.making_coin", "pay.topping_up"] {
        market.aborts(point, &["channel", "topup"], "/pay/5000000/3900000", &top_up).await;
    }
    done(&["channel", "topup"], "/pay/5000000/3900000", &top_up, 5).await;
}
