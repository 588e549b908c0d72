//! A patient client: one payment, sent again for as long as the gateway says that this is right.
#![allow(dead_code)]

use super::{
    devnet::{Coin, Devnet, KAS, Wallet},
    gateway::{Gateway, World},
    pay::{Answer, Ask, encode, message, transaction, with_proof},
};
use kaspa_consensus_core::tx::{Transaction, TransactionOutput};
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;

/// Longest time until a payment must be served.
const PATIENCE: Duration = Duration::from_secs(90);

/// One payment for one request, by one payer.
#[derive(Clone)]
pub struct Payment {
    pub ask: Ask,
    pub transaction: Transaction,
    pub message: Value,
}

impl Payment {
    /// Takes an offer and pays it on paper: nothing is sent.
    pub async fn prepare(ask: Ask, url: &str, payer: &Wallet, coins: &[Coin]) -> Self {
        let accepted = Self::offer(&ask, url).await;
        let transaction = transaction(payer, coins, &accepted);
        Self::with(ask, &accepted, transaction)
    }

    pub async fn offer(ask: &Ask, url: &str) -> Value {
        let offered = ask.send(url, None).await;
        assert_eq!(offered.status, 402, "{offered:?}");
        offered.offer()
    }

    /// `transaction` presented for `ask`, whoever made it.
    pub fn with(ask: Ask, accepted: &Value, transaction: Transaction) -> Self {
        let message = message(&ask, accepted, &transaction);
        Self { ask, transaction, message }
    }

    /// The same with the proof of `payer`.
    pub fn proven(&self, payer: &Wallet) -> Self {
        Self { message: with_proof(self.message.clone(), &self.ask, payer), ..self.clone() }
    }

    /// The same transaction with a wrong signature, which its id does not cover.
    pub fn forged(&self) -> Self {
        let mut forged = self.transaction.clone();
        let script = &mut forged.inputs[0].signature_script;
        script[10] ^= 1;
        Self::with(self.ask.clone(), &self.message["accepted"], forged)
    }

    pub fn txid(&self) -> String {
        self.transaction.id().to_string()
    }

    pub async fn send(&self, url: &str) -> Answer {
        self.ask.send(url, Some(&encode(&self.message))).await
    }

    pub async fn try_send(&self, url: &str) -> Result<Answer, reqwest::Error> {
        self.ask.try_send(url, Some(&encode(&self.message))).await
    }

    /// Sends once and expects this refusal, which must not ask for money.
    pub async fn refused(&self, url: &str, status: u16, code: &str) -> Answer {
        let answer = self.send(url).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{answer:?}");
        self.asks_for_no_money(&answer);
        answer
    }

    /// An answer to a payment that may have moved names its transaction and carries no offer.
    pub fn asks_for_no_money(&self, answer: &Answer) {
        assert!(answer.required().is_none(), "asked for money again: {answer:?}");
        let receipt = answer.receipt().unwrap_or_else(|| panic!("no receipt: {answer:?}"));
        assert_eq!(receipt["transaction"], self.txid(), "{answer:?}");
        if answer.status == 503 {
            assert!(answer.headers.contains_key("retry-after"), "{answer:?}");
            assert_eq!(receipt["success"], false);
        }
    }

    /// Repeats while the gateway says so, with the payer's proof once it is asked for; ends with the first
    /// answer below 300. Panics as soon as the payer is asked for money again.
    pub async fn until_served(&self, gateway: &Gateway, payer: &Wallet) -> Answer {
        let deadline = Instant::now() + PATIENCE;
        let mut payment = self.clone();
        loop {
            let answer = payment.send(&gateway.url()).await;
            if answer.status < 300 {
                return answer;
            }
            payment.asks_for_no_money(&answer);
            match (answer.status, answer.code().as_str()) {
                (503, _) | (409, "payment_in_flight") => {}
                (409, "payer_proof_required") => payment = self.proven(payer),
                _ => panic!("{answer:?}"),
            }
            assert!(Instant::now() < deadline, "never served: {answer:?}; log:\n{}", gateway.log());
            tokio::time::sleep(Duration::from_millis(50)).await; // why: HTTP pushes nothing, and Retry-After is for clients with more time
        }
    }

    /// Repeats a payment that must not be served until it is refused with `code`.
    pub async fn until_refused(&self, gateway: &Gateway, code: &str) -> Answer {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.send(&gateway.url()).await;
            if answer.code() == code {
                return answer;
            }
            assert_eq!((answer.status, answer.code().as_str()), (503, "settlement_pending"), "{answer:?}");
            self.asks_for_no_money(&answer);
            assert!(Instant::now() < deadline, "never {code}: {answer:?}; log:\n{}", gateway.log());
            tokio::time::sleep(Duration::from_millis(50)).await; // why: HTTP pushes nothing
        }
    }
}

/// Spends the same coins on the payer's own address: the conflict of every payment with them.
pub fn rival(payer: &Wallet, coins: &[Coin]) -> Transaction {
    payer.build(coins, vec![TransactionOutput::new(KAS, payer.script())], 200)
}

/// Waits until the mempool of a node has the transaction.
pub async fn in_mempool(devnet: &Devnet, node: usize, txid: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let pool = devnet.get(&format!("/node/{node}/mempool")).await;
        if pool["transactions"].as_array().unwrap().iter().any(|entry| entry["txid"] == txid) {
            return;
        }
        assert!(Instant::now() < deadline, "{txid} never reached the mempool: {pool}");
        tokio::time::sleep(Duration::from_millis(20)).await; // why: the devnet pushes no mempool events
    }
}

/// Waits until a node's utxo index has outputs of the address; their sum.
pub async fn balance(devnet: &Devnet, wallet: &Wallet) -> u64 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let utxos = devnet.get(&format!("/address/{}/utxos?node=0", wallet.address())).await;
        let utxos = utxos["utxos"].as_array().unwrap();
        if !utxos.is_empty() {
            return utxos.iter().map(|utxo| utxo["sompi"].as_u64().unwrap()).sum();
        }
        assert!(Instant::now() < deadline, "no money arrived");
        tokio::time::sleep(Duration::from_millis(20)).await; // why: the devnet pushes no utxo events
    }
}

/// Waits until the gateway has seen everything that node 0 has.
pub async fn caught_up(world: &World) {
    let status = world.devnet.get("/status").await;
    let chain = &status["nodes"][0]["chain"];
    let (blue, daa) = (number(chain, "sink_blue_score"), number(chain, "virtual_daa_score"));
    let reached = async || {
        let node = world.gateway.status().await["node"].clone();
        number(&node, "blueScore") >= blue && number(&node, "daaScore") >= daa
    };
    world.gateway.until("where the node is", reached).await;
}

/// Waits until offers as old as the one of `probe` are over. The age of an offer has no event, so a payment that
/// the node would refuse asks until it is refused for its age instead.
pub async fn offers_over(gateway: &Gateway, probe: &Payment) {
    let forged = probe.forged();
    let over = async || match forged.send(&gateway.url()).await.code().as_str() {
        "offer_expired" => true,
        "invalid_kaspa_exact_transaction_rejected" => false,
        other => panic!("{other}"),
    };
    gateway.until("without its offers", over).await;
}

/// One of the sums of `/status`.
pub fn number(payments: &Value, name: &str) -> u64 {
    let value = &payments[name];
    value.as_u64().or_else(|| value.as_str()?.parse().ok()).unwrap_or_else(|| panic!("{name} in {payments}"))
}

/// What the books say of the only payment there is: charged and delivered once.
pub async fn charged_once(gateway: &Gateway, sompi: u64) {
    let payments = gateway.payments().await;
    let found = ["pending", "settled", "delivered", "reversed", "chargedSompi"].map(|name| number(&payments, name));
    assert_eq!(found, [0, 0, 1, 0, sompi], "{payments}");
}
