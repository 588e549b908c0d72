//! The one check of every row: a refusal releases nothing and leaves the coin spendable, an accepted
//! payment buys its request under the id the gateway derived.

use crate::support::{
    devnet::{Coin, KAS, Wallet},
    gateway::{ORIGIN, World},
    pay::{self, Answer, Ask, encode},
};
use kas402::wire::fingerprint;
use kaspa_consensus_core::tx::{Transaction, TransactionOutput};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};

pub struct Till {
    pub world: World,
    pub payer: Wallet,
    coins: Vec<Coin>,
    next: AtomicUsize,
}

impl Till {
    /// `purchases`: how many accepted payments there will be at most.
    pub async fn open(routes: &str, purchases: u64) -> Self {
        let world = World::start(routes, "").await;
        let payer = Wallet::new(1);
        let coins = world.devnet.fund(&payer, 10 * KAS, purchases + 1).await;
        Self { world, payer, coins, next: AtomicUsize::new(1) }
    }

    pub fn url(&self) -> String {
        self.world.gateway.url()
    }

    /// The coin of every payment that is going to be refused.
    pub fn refused_coin(&self) -> Coin {
        self.coins[0].clone()
    }

    /// A coin for a payment that is going to be accepted.
    pub fn coin(&self) -> Coin {
        self.coins[self.next.fetch_add(1, Ordering::Relaxed)].clone()
    }

    pub async fn offer(&self, ask: &Ask) -> Value {
        let offered = ask.send(&self.url(), None).await;
        assert_eq!(offered.status, 402, "{}: {}", ask.target, offered.text());
        offered.offer()
    }

    /// A right payment of `accepted`, to be changed.
    pub fn draft(&self, ask: &Ask, accepted: &Value, coin: Coin) -> Draft<'_> {
        let transaction = pay::transaction(&self.payer, std::slice::from_ref(&coin), accepted);
        let mut draft =
            Draft { payer: &self.payer, coin, message: pay::message(ask, accepted, &transaction), accepted: accepted.clone(), transaction };
        draft.message["payload"]["requestHash"] = request_hash(ask, accepted).into();
        draft
    }

    /// Sends `message` and demands the refusal. Offers accompany exactly the statuses after which paying again is safe.
    pub async fn refuse(&self, name: &str, ask: &Ask, message: &Value, status: u16, code: &str) -> Answer {
        let before = self.world.upstream.seen().len();
        let answer = ask.send(&self.url(), Some(&encode(message))).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{name}: {}", answer.text());
        assert_eq!(answer.required().is_some(), matches!(status, 400 | 402), "{name}: {}", answer.text());
        assert_eq!(answer.receipt().unwrap()["success"], false, "{name}");
        assert_eq!(answer.headers["cache-control"], "private, no-store", "{name}");
        assert_eq!(self.world.upstream.seen().len(), before, "{name}: the upstream saw a refused request");
        answer
    }

    /// Sends `message` and demands the resource, once, under the derived id.
    pub async fn sell(&self, name: &str, ask: &Ask, message: &Value, transaction: &Transaction) -> Answer {
        let before = self.world.upstream.seen().len();
        let answer = ask.send(&self.url(), Some(&encode(message))).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        let receipt = answer.receipt().unwrap();
        assert_eq!(receipt["success"], true, "{name}");
        assert_eq!(receipt["transaction"], transaction.id().to_string(), "{name}: the id is derived, never read");
        assert_eq!(receipt["amount"], message["accepted"]["amount"], "{name}");
        let seen = self.world.upstream.seen();
        assert_eq!(seen.len(), before + 1, "{name}");
        assert_eq!((&seen[before].method, &seen[before].target), (&ask.method.to_string(), &ask.target), "{name}");
        answer
    }

    /// A right payment with `coin`.
    pub async fn buy(&self, name: &str, ask: &Ask, coin: Coin) -> Answer {
        let draft = self.draft(ask, &self.offer(ask).await, coin);
        self.sell(name, ask, &draft.message, &draft.transaction).await
    }

    /// After all refusals: what they refused was never spent, nor claimed.
    pub async fn refused_coin_still_pays(&self, ask: &Ask) {
        self.buy("the coin of every refused payment", ask, self.refused_coin()).await;
    }
}

/// Like [`Ask::request_hash`], for routes with a host of their own.
pub fn request_hash(ask: &Ask, accepted: &Value) -> String {
    let host = ask.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("host"));
    let origin = host.map_or(ORIGIN.to_owned(), |(_, host)| format!("http://{host}"));
    fingerprint::request_hash(ask.method.as_str(), &format!("{origin}{}", ask.target), &ask.body, accepted).to_string()
}

/// A payment about to be changed.
pub struct Draft<'t> {
    pub payer: &'t Wallet,
    pub coin: Coin,
    pub accepted: Value,
    pub transaction: Transaction,
    pub message: Value,
}

impl Draft<'_> {
    /// The output that pays.
    pub fn payment(&self) -> TransactionOutput {
        self.transaction.outputs[0].clone()
    }

    /// A validly signed transaction with these outputs and the change.
    pub fn pay(&mut self, outputs: Vec<TransactionOutput>) {
        self.put(self.payer.build(std::slice::from_ref(&self.coin), outputs, 100));
    }

    /// The transaction after a change that its signature does not survive, with a true id.
    pub fn spoil(&mut self, change: impl FnOnce(&mut Transaction)) {
        let mut transaction = self.transaction.clone();
        change(&mut transaction);
        transaction.finalize();
        self.put(transaction);
    }

    pub fn put(&mut self, transaction: Transaction) {
        self.hex(&hex::encode(borsh::to_vec(&transaction).unwrap()));
        self.set("transactionId", transaction.id().to_string());
        self.transaction = transaction;
    }

    /// `payload.transaction` as it stands.
    pub fn hex(&mut self, text: &str) {
        self.set("transaction", text);
    }

    /// The transaction in the SDK's JSON, with `id` inside.
    pub fn sdk_json(&mut self, safe: bool, id: &str) {
        let text = sdk_json(&self.transaction, safe, id).to_string();
        self.hex(&hex::encode(text));
    }

    /// A field of the payload.
    pub fn set(&mut self, field: &str, value: impl Into<Value>) {
        self.message["payload"][field] = value.into();
    }

    pub fn unset(&mut self, field: &str) {
        self.message["payload"].as_object_mut().unwrap().remove(field);
    }
}

/// The Kaspa SDK's transaction JSON; `safe` writes 64-bit numbers as strings.
fn sdk_json(transaction: &Transaction, safe: bool, id: &str) -> Value {
    let number = |value: u64| if safe { json!(value.to_string()) } else { json!(value) };
    let inputs = transaction.inputs.iter().map(|input| {
        json!({
            "previousOutpoint": {"transactionId": input.previous_outpoint.transaction_id.to_string(), "index": input.previous_outpoint.index},
            "signatureScript": hex::encode(&input.signature_script),
            "sequence": number(input.sequence),
            "sigOpCount": 1,
        })
    });
    let outputs = transaction.outputs.iter().map(|output| {
        let script = &output.script_public_key;
        json!({"value": number(output.value), "scriptPublicKey": {"version": script.version(), "script": hex::encode(script.script())}})
    });
    json!({
        "id": id,
        "version": transaction.version,
        "inputs": inputs.collect::<Vec<_>>(),
        "outputs": outputs.collect::<Vec<_>>(),
        "lockTime": number(transaction.lock_time),
        "subnetworkId": "00".repeat(20),
        "gas": number(0),
        "payload": "",
        "mass": number(1),
        "storageMass": number(1),
    })
}
