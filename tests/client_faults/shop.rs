//! A gateway that misbehaves as told, on a bare socket: only so can it drop a connection at any
//! byte. What it receives it checks with the real gateway's own decoders. And a node of fixed coins.

use async_trait::async_trait;
use kas402::{
    chain::{AcceptedTransaction, Chain, ChainError, Health, OutpointStatus, Sighting, SubmitOutcome, Tip, TxStatus, Utxo},
    client::wallet::Wallet,
    protocol::{
        amount::Amount,
        ids::{Outpoint, PaymentIdentifier, TxId},
        network::Network,
    },
    store::{Acceptance, Checkpoint},
    wire::{envelope, fingerprint, header, identifier},
};
use kaspa_consensus_core::tx::{ScriptPublicKey, Transaction};
use serde_json::{Value, json};
use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// What the shop does with one paid request.
#[derive(Clone, Copy, Debug)]
pub enum Trick {
    Deliver,
    /// 503 with the receipt of a pending settlement.
    Pending,
    /// A bare status, without receipt.
    Status(u16),
    /// The payment is read, then nothing, for ever.
    Hang,
    /// The payment is read, then the connection ends.
    Drop,
    /// The connection ends in the middle of the goods.
    DropInBody,
    /// A receipt of success with a status of failure.
    PaidBut(u16),
    /// A refusal without offer.
    Refuse(u16, &'static str),
    /// A plain 402, as if nothing had been paid.
    AskAgain,
    /// A 402 with a receipt of failure.
    RefuseWithOffer(&'static str),
    /// The same, naming this payment's transaction.
    Reject(&'static str),
    /// The same, and the price is doubled.
    RejectAndRaise(&'static str),
    /// A 402 with a receipt of failure of another transaction.
    RejectAnother(&'static str),
    /// A receipt of success, and a 402.
    SettledButAsk,
    /// Success for another transaction.
    WrongReceipt,
    GarbageReceipt(u16),
    Redirect,
}

/// One payment as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    pub header: String,
    pub txid: TxId,
    pub inputs: HashSet<Outpoint>,
    pub identifier: PaymentIdentifier,
}

struct Inside {
    tricks: Vec<Trick>,
    offer: Value,
    price: u64,
    payments: Vec<Seen>,
    unpaid: usize,
    elsewhere: usize,
}

#[derive(Clone)]
pub struct Shop {
    address: SocketAddr,
    inside: Arc<Mutex<Inside>>,
    count: watch::Sender<usize>,
}

impl Shop {
    /// Tricks are played in order, the last one for ever.
    pub async fn open(tricks: Vec<Trick>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let offer = json!({
            "x402Version": 2,
            "resource": {"url": format!("http://{address}/paid?q=1")},
            "accepts": [{
                "scheme": "exact", "network": "kaspa:simnet", "amount": super::PRICE.to_string(), "asset": "KAS",
                "payTo": Wallet::from_secret(Network::Simnet, &[9; 32]).unwrap().address().to_string(), "maxTimeoutSeconds": 60,
                "extra": {"binding": "kaspa-exact-v1", "finality": "accepted", "paymentFlow": "upfront", "offer": "v1.token"},
            }],
            "extensions": {identifier::NAME: identifier::advertise(true)},
        });
        let inside = Inside { tricks, offer, price: super::PRICE, payments: Vec::new(), unpaid: 0, elsewhere: 0 };
        let shop = Self { address, inside: Arc::new(Mutex::new(inside)), count: watch::Sender::new(0) };
        let serving = shop.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let shop = serving.clone();
                tokio::spawn(async move { shop.serve(socket).await });
            }
        });
        shop
    }

    pub fn url(&self, target: &str) -> String {
        format!("http://{}{target}", self.address)
    }

    pub fn now_does(&self, tricks: Vec<Trick>) {
        self.inside.lock().unwrap().tricks = tricks;
    }

    pub fn offers(&self, change: impl FnOnce(&mut Value)) {
        change(&mut self.inside.lock().unwrap().offer);
    }

    pub fn payments(&self) -> Vec<Seen> {
        self.inside.lock().unwrap().payments.clone()
    }

    pub fn unpaid_requests(&self) -> usize {
        self.inside.lock().unwrap().unpaid
    }

    /// Requests at a place that only a followed redirect leads to.
    pub fn elsewhere(&self) -> usize {
        self.inside.lock().unwrap().elsewhere
    }

    pub async fn first_payment(&self) {
        self.count.subscribe().wait_for(|count| *count > 0).await.unwrap();
    }

    async fn serve(&self, mut socket: TcpStream) {
        let Some((head, body)) = read_request(&mut socket).await else { return };
        let mut answer = match self.react(&head, &body) {
            Reaction::Answer(answer) => answer,
            Reaction::Drop => return,
            Reaction::Hang => return std::future::pending().await,
        };
        if answer.cut {
            answer.body.truncate(answer.body.len() / 2);
        }
        let length = if answer.cut { answer.body.len() * 2 } else { answer.body.len() };
        let fields: String = answer.fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!("HTTP/1.1 {} x\r\ncontent-length: {length}\r\nconnection: close\r\n{fields}\r\n", answer.status);
        let _ = socket.write_all(&[head.as_bytes(), &answer.body].concat()).await;
        let _ = socket.shutdown().await;
    }

    fn react(&self, head: &str, body: &[u8]) -> Reaction {
        let mut inside = self.inside.lock().unwrap();
        let target = head.split(' ').nth(1).unwrap_or_default();
        match target {
            "/free" => return Answer::new(200).body("free").into(),
            "/moved" => return Answer::new(302).field("location", "/elsewhere").into(),
            "/elsewhere" => {
                inside.elsewhere += 1;
                return Answer::new(200).into();
            }
            _ => {}
        }
        let Some(payment) = field(head, "payment-signature") else {
            inside.unpaid += 1;
            return Answer::new(402).field("payment-required", &encoded(&inside.offer)).into();
        };
        let seen = self.check(payment, body, target);
        let txid = seen.txid;
        inside.payments.push(seen);
        self.count.send_replace(inside.payments.len());
        let trick = if inside.tricks.len() > 1 { inside.tricks.remove(0) } else { inside.tricks[0] };
        if let Trick::RejectAndRaise(_) = trick {
            inside.price *= 2;
            inside.offer["accepts"][0]["amount"] = json!(inside.price.to_string());
        }
        play(trick, txid, &inside.offer)
    }

    /// Judges the payment as the real gateway would, as far as that needs no node.
    fn check(&self, payment: &str, body: &[u8], target: &str) -> Seen {
        let envelope = envelope::decode(payment.as_bytes()).expect("a valid envelope");
        let identifier = identifier::read(&envelope.extensions, true).expect("echoed").expect("required");
        let hash = fingerprint::request_hash("POST", &self.url(target), body, &envelope.accepted);
        assert_eq!(envelope.payload["requestHash"], json!(hash));
        assert!(envelope.payer_proof.is_some());
        let transaction: Transaction = borsh::from_slice(&hex::decode(envelope.payload["transaction"].as_str().unwrap()).unwrap()).unwrap();
        assert_eq!(transaction.outputs[0].value, envelope.accepted.amount.sompi());
        let inputs = transaction
            .inputs
            .iter()
            .map(|input| Outpoint { txid: input.previous_outpoint.transaction_id.into(), index: input.previous_outpoint.index });
        Seen { header: payment.to_owned(), txid: transaction.id().into(), inputs: inputs.collect(), identifier }
    }
}

fn play(trick: Trick, txid: TxId, offer: &Value) -> Reaction {
    let amount = |txid: TxId| json!({"success": true, "transaction": txid, "network": "kaspa:simnet"});
    let failed = |reason: &str, transaction: Value| json!({"success": false, "errorReason": "x", "transaction": transaction, "extensions": {"kaspa": {"reason": reason}}});
    let goods = |receipt: &Value| Answer::new(200).receipt(receipt).body("the goods");
    let ask = || Answer::new(402).field("payment-required", &encoded(offer));
    match trick {
        Trick::Deliver => goods(&amount(txid)).into(),
        Trick::Pending => Answer::new(503).receipt(&failed("settlement_pending", json!(txid))).into(),
        Trick::Status(status) => Answer::new(status).into(),
        Trick::Hang => Reaction::Hang,
        Trick::Drop => Reaction::Drop,
        Trick::DropInBody => Reaction::Answer(Answer { cut: true, ..goods(&amount(txid)) }),
        Trick::PaidBut(status) => Answer::new(status).receipt(&amount(txid)).into(),
        Trick::Refuse(status, reason) => Answer::new(status).receipt(&failed(reason, json!(txid))).into(),
        Trick::AskAgain => ask().into(),
        Trick::RefuseWithOffer(reason) => ask().receipt(&failed(reason, json!(""))).into(),
        Trick::Reject(reason) | Trick::RejectAndRaise(reason) => ask().receipt(&failed(reason, json!(txid))).into(),
        Trick::RejectAnother(reason) => ask().receipt(&failed(reason, json!("ab".repeat(32)))).into(),
        Trick::SettledButAsk => ask().receipt(&amount(txid)).into(),
        Trick::WrongReceipt => goods(&amount(TxId([0xab; 32]))).into(),
        Trick::GarbageReceipt(status) => Answer::new(status).field("payment-response", "%%%").into(),
        Trick::Redirect => Answer::new(307).field("location", "/elsewhere").into(),
    }
}

struct Answer {
    status: u16,
    fields: Vec<(&'static str, String)>,
    body: Vec<u8>,
    /// End the connection half-way through the body.
    cut: bool,
}

enum Reaction {
    Answer(Answer),
    Hang,
    Drop,
}

impl From<Answer> for Reaction {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}

impl Answer {
    fn new(status: u16) -> Self {
        Self { status, fields: Vec::new(), body: Vec::new(), cut: false }
    }

    fn field(mut self, name: &'static str, value: &str) -> Self {
        self.fields.push((name, value.to_owned()));
        self
    }

    fn receipt(self, receipt: &Value) -> Self {
        self.field("payment-response", &encoded(receipt))
    }

    fn body(mut self, body: &str) -> Self {
        self.body = body.into();
        self
    }
}

fn encoded(message: &Value) -> String {
    header::encode(message).to_str().unwrap().to_owned()
}

async fn read_request(socket: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let length = field(&head, "content-length").map_or(0, |length| length.parse().unwrap());
    while bytes.len() < end + length {
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    Some((head, bytes[end..].to_vec()))
}

fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().filter_map(|line| line.split_once(':')).find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// A node with fixed coins and a fixed opinion.
pub struct FakeNode {
    utxos: Mutex<Vec<Utxo>>,
    sighting: Mutex<Option<Sighting>>,
    spends: Mutex<bool>,
    health: watch::Sender<Health>,
    tip: watch::Sender<Tip>,
}

impl FakeNode {
    pub fn holding(script: &ScriptPublicKey, sompi: &[u64]) -> Arc<Self> {
        let utxo = |(index, sompi): (usize, &u64)| Utxo {
            outpoint: Outpoint { txid: TxId([u8::try_from(index).unwrap() + 1; 32]), index: 0 },
            amount: Amount::from_sompi(*sompi).unwrap(),
            script_public_key: script.clone(),
            daa_score: 1,
            is_coinbase: false,
            covenant: false,
        };
        Arc::new(Self {
            utxos: Mutex::new(sompi.iter().enumerate().map(utxo).collect()),
            sighting: Mutex::new(Some(Sighting::NotSeen)),
            spends: Mutex::new(false),
            health: watch::Sender::new(Health { ready: true, reason: None, server_version: None }),
            tip: watch::Sender::new(Tip { daa_score: 1_000, blue_score: 1_000 }),
        })
    }

    /// `None`: it cannot say.
    pub fn sees(&self, sighting: Option<Sighting>) {
        *self.sighting.lock().unwrap() = sighting;
    }

    /// From the next look at a transaction on, its coins are gone.
    pub fn spends_what_pays(&self) {
        *self.spends.lock().unwrap() = true;
    }
}

#[async_trait]
impl Chain for FakeNode {
    fn network(&self) -> Network {
        Network::Simnet
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    fn tip(&self) -> watch::Receiver<Tip> {
        self.tip.subscribe()
    }

    async fn submit(&self, _: &Transaction) -> SubmitOutcome {
        unreachable!("the buyer lets the server submit")
    }

    fn follow(&self, _: &Transaction, _: Option<Acceptance>, _: bool) -> watch::Receiver<TxStatus> {
        unreachable!("the buyer follows nothing")
    }

    fn unfollow(&self, _: &TxId) {}

    async fn sighting(&self, transaction: &Transaction) -> Result<Sighting, ChainError> {
        if *self.spends.lock().unwrap() {
            let gone: HashSet<TxId> = transaction.inputs.iter().map(|i| i.previous_outpoint.transaction_id.into()).collect();
            self.utxos.lock().unwrap().retain(|utxo| !gone.contains(&utxo.outpoint.txid));
        }
        self.sighting.lock().unwrap().ok_or_else(|| ChainError::Unavailable("told so".into()))
    }

    fn watch_outpoint(&self, _: Outpoint, _: &ScriptPublicKey, _: Option<u64>) -> watch::Receiver<OutpointStatus> {
        unreachable!("a buyer of single payments watches nothing")
    }

    fn unwatch_outpoint(&self, _: &Outpoint) {}

    async fn accepted(&self, _: &TxId, _: &Acceptance) -> Result<AcceptedTransaction, ChainError> {
        unreachable!("the buyer does not ask")
    }

    async fn utxos(&self, _: &str) -> Result<Vec<Utxo>, ChainError> {
        Ok(self.utxos.lock().unwrap().clone())
    }

    fn checkpoint(&self) -> Option<Checkpoint> {
        None
    }
}
