//! A real node for tests: starts `kas402-devnet` and talks to its control API; builds and signs payments.
//!
//! The binary is `KAS402_DEVNET_BIN`, or else lies next to the test binaries' target directory. One
//! devnet at a time runs per test process: a node is heavy and tests share few cores.
#![allow(dead_code)]

use kaspa_addresses::{Address, Prefix, Version};
use kaspa_consensus_core::{
    config::params::SIMNET_PARAMS,
    mass::{Mass, MassCalculator},
    sign::sign,
    subnets::SUBNETWORK_ID_NATIVE,
    tx::{ScriptPublicKey, SignableTransaction, Transaction, TransactionInput, TransactionOutpoint, TransactionOutput, UtxoEntry},
};
use secp256k1::Keypair;
use serde_json::{Value, json};
use std::{path::PathBuf, process::Stdio};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::{Mutex, MutexGuard},
};

/// 1 KAS in sompi.
pub const KAS: u64 = 100_000_000;
/// The relay minimum of kaspad 2.1.0.
const SOMPI_PER_GRAM: u64 = 100;

static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// A running devnet; dropping it ends it.
pub struct Devnet {
    control: String,
    /// wRPC (Borsh) URLs by node.
    pub wrpc: Vec<String>,
    http: reqwest::Client,
    _child: Child,
    _turn: MutexGuard<'static, ()>,
}

fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("KAS402_DEVNET_BIN") {
        return path.into();
    }
    // target/<profile>/deps/<test> -> target/<profile>/kas402-devnet
    let test = std::env::current_exe().expect("a running test has a path");
    let path = test.ancestors().nth(2).expect("a test lies in deps").join("kas402-devnet");
    assert!(
        path.exists(),
        "{} is missing: build it with `cargo build --workspace --bin kas402-devnet` or set KAS402_DEVNET_BIN",
        path.display()
    );
    path
}

impl Devnet {
    /// `nodes` 1 or 2; `rate` in blocks per second, 0 for none.
    pub async fn start(nodes: usize, rate: f64) -> Self {
        let turn = ONE_AT_A_TIME.lock().await;
        let mut child = Command::new(binary())
            .args(["--nodes", &nodes.to_string(), "--rate", &rate.to_string(), "--exit-with-stdin"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the devnet starts");
        let mut lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        let line = lines.next_line().await.expect("stdout can be read").expect("the devnet says that it is ready");
        let ready: Value = serde_json::from_str(&line).expect("one JSON line");
        let wrpc = ready["wrpc"].as_array().expect("wrpc urls").iter().map(|url| url.as_str().expect("a url").to_owned()).collect();
        let control = ready["control"].as_str().expect("a control url").to_owned();
        Self { control, wrpc, http: reqwest::Client::new(), _child: child, _turn: turn }
    }

    async fn answer(request: reqwest::RequestBuilder) -> Result<Value, Value> {
        let response = request.send().await.expect("the devnet answers");
        let ok = response.status().is_success();
        let body: Value = serde_json::from_slice(&response.bytes().await.expect("a body")).expect("a JSON body");
        if ok { Ok(body) } else { Err(body) }
    }

    pub async fn try_post(&self, path: &str, body: Value) -> Result<Value, Value> {
        Self::answer(self.http.post(format!("{}{path}", self.control)).header("content-type", "application/json").body(body.to_string()))
            .await
    }

    pub async fn post(&self, path: &str, body: Value) -> Value {
        self.try_post(path, body).await.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub async fn get(&self, path: &str) -> Value {
        Self::answer(self.http.get(format!("{}{path}", self.control))).await.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Pays `count` outputs of `sompi` to the wallet; spendable on every node when this returns, while the node mines.
    pub async fn fund(&self, wallet: &Wallet, sompi: u64, count: u64) -> Vec<Coin> {
        let funded = self.post("/fund", json!({ "address": wallet.address().to_string(), "sompi": sompi, "count": count })).await;
        let outpoint = |value: &Value| {
            let txid = value["txid"].as_str().expect("a txid").parse().expect("hex");
            TransactionOutpoint::new(txid, value["index"].as_u64().expect("an index").try_into().expect("small"))
        };
        let coins = funded["outpoints"].as_array().expect("outpoints").iter().map(outpoint);
        coins.map(|outpoint| Coin { outpoint, entry: UtxoEntry::new(sompi, wallet.script(), 0, false, None) }).collect()
    }

    pub async fn mine(&self, node: usize, blocks: u64) {
        self.post("/mine", json!({ "node": node, "blocks": blocks })).await;
    }

    pub async fn set_rate(&self, node: usize, rate: f64) {
        self.post("/mining", json!({ "node": node, "rate": rate })).await;
    }

    pub async fn stop_node(&self, node: usize) {
        self.post(&format!("/node/{node}/stop"), json!({})).await;
    }

    pub async fn start_node(&self, node: usize) {
        self.post(&format!("/node/{node}/start"), json!({})).await;
    }

    pub async fn restart_node(&self, node: usize) {
        self.post(&format!("/node/{node}/restart"), json!({})).await;
    }

    pub async fn partition(&self) {
        self.post("/partition", json!({})).await;
    }

    pub async fn rejoin(&self) {
        self.post("/rejoin", json!({})).await;
    }

    /// Submits by the devnet's own client, as a stranger would.
    pub async fn submit(&self, node: usize, transaction: &Transaction) -> Result<(), String> {
        let hex = hex::encode(borsh::to_vec(transaction).expect("writing to memory"));
        self.try_post("/submit", json!({ "node": node, "transaction": hex })).await.map(|_| ()).map_err(|error| error.to_string())
    }
}

/// An output a wallet can spend.
#[derive(Clone, Debug)]
pub struct Coin {
    pub outpoint: TransactionOutpoint,
    pub entry: UtxoEntry,
}

/// One key with a P2PK address on simnet.
pub struct Wallet {
    pub keypair: Keypair,
}

impl Wallet {
    /// The same wallet for the same seed (not 0).
    pub fn new(seed: u8) -> Self {
        Self { keypair: Keypair::from_seckey_slice(secp256k1::SECP256K1, &[seed; 32]).expect("a small number is a key") }
    }

    pub fn address(&self) -> Address {
        Address::new(Prefix::Simnet, Version::PubKey, &self.keypair.x_only_public_key().0.serialize())
    }

    pub fn script(&self) -> ScriptPublicKey {
        kaspa_txscript::pay_to_address_script(&self.address())
    }

    /// Pays `sompi` to `script` from `coins`, change back to this wallet, with the minimum fee of its mass
    /// (KIP-9 included). Panics when the coins are too few for the payment, its fee and a change worth keeping.
    pub fn pay(&self, coins: &[Coin], script: &ScriptPublicKey, sompi: u64) -> Transaction {
        self.build(coins, vec![TransactionOutput::new(sompi, script.clone())], SOMPI_PER_GRAM)
    }

    /// Like [`Wallet::pay`] with any outputs and any fee rate; the change comes last.
    pub fn build(&self, coins: &[Coin], mut outputs: Vec<TransactionOutput>, sompi_per_gram: u64) -> Transaction {
        let total: u64 = coins.iter().map(|coin| coin.entry.amount).sum();
        let paid: u64 = outputs.iter().map(|output| output.value).sum();
        outputs.push(TransactionOutput::new(total.checked_sub(paid).expect("the coins cover the payment"), self.script()));
        // The fee comes from the mass and lowers the change, which barely moves the mass: a margin of a tenth covers it.
        let (_, mass) = self.sign(coins, outputs.clone());
        let change = outputs.last_mut().expect("the change");
        change.value = change.value.checked_sub(mass * sompi_per_gram * 11 / 10).expect("the coins cover the fee");
        self.sign(coins, outputs).0
    }

    /// The signed transaction and its mass in grams.
    pub fn sign(&self, coins: &[Coin], outputs: Vec<TransactionOutput>) -> (Transaction, u64) {
        let inputs = coins.iter().map(|coin| TransactionInput::new(coin.outpoint, vec![], 0, 1)).collect();
        let transaction = Transaction::new(0, inputs, outputs, 0, SUBNETWORK_ID_NATIVE, 0, vec![]);
        let entries = coins.iter().map(|coin| coin.entry.clone()).collect();
        let signed = sign(SignableTransaction::with_entries(transaction, entries), self.keypair);
        let calculator = MassCalculator::new_with_consensus_params(&SIMNET_PARAMS);
        let contextual = calculator.calc_contextual_masses(&signed.as_verifiable()).expect("ordinary amounts have a mass");
        let mass = Mass::new(calculator.calc_non_contextual_masses(&signed.tx), contextual)
            .normalized_max(&SIMNET_PARAMS.block_mass_limits.cofactors());
        let mut transaction = signed.tx;
        transaction.set_storage_mass(contextual.storage_mass);
        transaction.finalize();
        (transaction, mass)
    }

    /// The change of a payment of ours, spendable at once.
    pub fn change_of(&self, transaction: &Transaction) -> Coin {
        let index = transaction.outputs.len() - 1;
        let entry = UtxoEntry::new(transaction.outputs[index].value, self.script(), 0, false, None);
        Coin { outpoint: TransactionOutpoint::new(transaction.id(), index.try_into().expect("few outputs")), entry }
    }
}
