//! Clients that pay each request with a transaction: honest ones who come again until they are served, impatient ones, some who pay
//! twice or with a coin they spend again, some who want one payment to buy two things; and thieves who copy what they see.

use crate::{
    exchange::{Ask, Got},
    ledger::Bought,
    shop::{DEEP, PRICE, sompi},
    world::{Reply, World},
};
use kas402::{
    chain::SubmitOutcome,
    client::{
        coins::{Coin, CoinRules, SignedPayment, Spend, plan},
        wallet::Wallet,
    },
    protocol::{
        ids::{Outpoint, TxId},
        network::Network,
    },
    wire::{fingerprint, identifier},
};
use kaspa_addresses::Address;
use kaspa_consensus_core::tx::Transaction;
use rand::{SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::time::{sleep, timeout};

pub fn wallet(who: usize) -> Wallet {
    Wallet::from_secret(Network::Simnet, &[u8::try_from(who + 60).unwrap(); 32]).unwrap()
}

/// Money that only this client has.
pub fn new_coin(world: &World, who: usize) -> Coin {
    let mut id = [0xc0; 32];
    id[..8].copy_from_slice(&world.ledger.number().to_be_bytes());
    let outpoint = Outpoint { txid: TxId(id), index: 0 };
    world.net.coin(outpoint, sompi(5_000_000_000), wallet(who).script());
    Coin { outpoint, amount: sompi(5_000_000_000), daa_score: 1, is_coinbase: false }
}

pub fn sign(who: usize, coin: &Coin, to: &str, amount: u64) -> SignedPayment {
    let wallet = wallet(who);
    let pay_to = kaspa_txscript::pay_to_address_script(&Address::try_from(to).unwrap());
    let own = wallet.script();
    let spend = Spend { amount: sompi(amount), pay_to: &pay_to, own: &own, conflict_with: &[] };
    let rng = &mut StdRng::seed_from_u64(1);
    plan(std::slice::from_ref(coin), &spend, &CoinRules::of(Network::Simnet)).unwrap().sign(&wallet, rng)
}

/// A transaction for a request, and how it is presented.
struct Payment<'a> {
    accepted: &'a Value,
    transaction: &'a Transaction,
    output: u32,
    /// Whose key proves it.
    proof: Option<usize>,
    /// Another id than its own, written into its bytes.
    false_id: Option<TxId>,
    identifier: Option<&'a str>,
}

fn message(ask: &Ask, payment: &Payment<'_>) -> Value {
    let hash = fingerprint::request_hash(ask.method.as_str(), &ask.url(), &ask.body, payment.accepted);
    let mut bytes = borsh::to_vec(payment.transaction).unwrap();
    if let Some(false_id) = payment.false_id {
        let own = TxId::from(payment.transaction.id()).0;
        let at = bytes.windows(32).position(|window| window == own).expect("the encoding carries its id");
        bytes[at..at + 32].copy_from_slice(&false_id.0);
    }
    let mut message = json!({
        "x402Version": 2,
        "accepted": payment.accepted,
        "payload": {
            "type": "exact-transfer",
            "transaction": hex::encode(bytes),
            "paymentOutputIndex": payment.output,
            "requestHash": hash,
        },
        "extensions": {},
    });
    if let Some(who) = payment.proof {
        let wallet = wallet(who);
        let signature = hex::encode(wallet.sign_digest(&hash.0, &[0; 32]));
        let proof = json!({ "type": "schnorr", "publicKey": wallet.public_key(), "signature": signature });
        message["extensions"]["kaspa"] = json!({ "payerProof": proof });
    }
    if let Some(id) = payment.identifier {
        message["extensions"][identifier::NAME] = identifier::advertise(false).clone();
        message["extensions"][identifier::NAME]["info"]["id"] = id.into();
    }
    message
}

fn new_ask(world: &World, deep: bool) -> Ask {
    let number = world.ledger.number();
    let path = if deep { "deep" } else { "paid" };
    if number.is_multiple_of(3) { Ask::post(&format!("/{path}?n={number}"), "{\"q\":1}") } else { Ask::get(&format!("/{path}?n={number}")) }
}

async fn offer(world: &Arc<World>, ask: &Ask) -> Option<Value> {
    while !world.is_over() && !world.trace.is_wrong() {
        if let Reply::Got(got) = world.send(world.any_slot(), ask.clone()).await {
            if let Some(offer) = got.offer("exact") {
                return Some(offer);
            }
            world.trace.reached(format!("no offer: {}", got.code()));
        }
        sleep(Duration::from_millis(world.dice.between(300, 3_000))).await; // why: time passes in the simulation, not here
    }
    None
}

/// A whole answer; a cut stream counts as no answer.
async fn read(world: &Arc<World>, mut got: Got) -> Option<Got> {
    use kas402::gateway::answer::StreamChunk;
    let Some(mut stream) = got.stream.take() else { return Some(got) };
    let leaves = !world.is_calm() && world.dice.permille(world.weather.hang_ups);
    let mut body = Vec::new();
    loop {
        match stream.recv().await {
            Some(StreamChunk::Data(data)) => body.extend_from_slice(&data),
            Some(StreamChunk::End { .. }) => {
                got.answer.body = body.into();
                return Some(got);
            }
            None => return None,
        }
        if leaves && world.dice.one_in(3) {
            world.trace.reached("client left a stream");
            return None;
        }
    }
}

/// Sends a paid request; `None` when no whole answer came.
async fn pay(world: &Arc<World>, slot: usize, who: usize, txid: &TxId, ask: Ask) -> Option<Got> {
    let impatient = !world.is_calm() && world.dice.permille(world.weather.hang_ups);
    let request = world.send(slot, ask);
    let reply = if impatient {
        let patience = Duration::from_millis(world.dice.between(1, 6_000));
        match timeout(patience, request).await {
            Ok(reply) => reply,
            Err(_) => {
                world.trace.reached("client hung up");
                world.trace.note(format!("client {who}: hangs up"));
                return None;
            }
        }
    } else {
        request.await
    };
    let Reply::Got(got) = reply else {
        world.trace.note(format!("client {who}: connection reset"));
        return None;
    };
    let got = read(world, got).await?;
    let code = got.code();
    world.trace.note(format!("client {who}: {} {code} for {}", got.status(), world.ledger.name(txid)));
    world.trace.reached(format!("answer {} {}", got.status(), if got.status() < 400 { "-" } else { &code }));
    world.ledger.answered(world, who, txid, &got).await;
    Some(got)
}

/// One client's life.
pub async fn live(world: Arc<World>, who: usize) {
    let purchases = world.dice.between(1, 4);
    for _ in 0..purchases {
        sleep(Duration::from_millis(world.dice.between(0, 15_000))).await; // why: time passes in the simulation, not here
        if world.is_over() || world.trace.is_wrong() {
            return;
        }
        buy(&world, who).await;
    }
}

async fn buy(world: &Arc<World>, who: usize) {
    let deep = world.dice.one_in(3);
    let ask = new_ask(world, deep);
    let Some(accepted) = offer(world, &ask).await else { return };
    let coin = new_coin(world, who);
    let signed = sign(who, &coin, accepted["payTo"].as_str().unwrap(), PRICE);
    let txid = signed.txid;
    let id = world.dice.one_in(3).then(|| format!("identifier-{:08}", world.ledger.number()));
    let depth = if deep { DEEP } else { 0 };
    let name = world.ledger.bought(Bought { owner: who, txid, amount: PRICE, depth });
    world.ledger.presents(&txid, &ask.target);
    world.trace.note(format!("client {who}: {name} for {}", ask.target));
    let invalid = world.dice.one_in(20);
    if invalid {
        world.trace.reached("invalid transaction");
        world.net.invalid(txid);
    }
    let sends_itself = world.dice.one_in(5);
    if sends_itself {
        world.trace.note(format!("client {who}: sends {name} itself"));
        world.net.take(&signed.transaction);
    }
    if !world.is_calm() && world.dice.permille(world.weather.double_spends) {
        spend_again(world, who, &coin, &signed.transaction);
    }
    if world.dice.one_in(12) {
        sleep(Duration::from_millis(world.dice.between(30_000, 80_000))).await; // why: time passes in the simulation, not here
    }
    let patience = if invalid || world.dice.one_in(4) { world.dice.between(1, 3) } else { u64::MAX };
    let mut proof = world.dice.one_in(2).then_some(who);
    let mut tries = 0;
    loop {
        if world.trace.is_wrong() || tries >= patience {
            return;
        }
        tries += 1;
        let payment = Payment {
            accepted: &accepted,
            transaction: &signed.transaction,
            output: signed.payment_output_index,
            proof,
            false_id: None,
            identifier: id.as_deref(),
        };
        let paying = ask.clone().paying(&message(&ask, &payment));
        let slot = world.any_slot();
        let twin = (world.weather.gateways > 1 && world.dice.one_in(4)).then(|| {
            let other = (slot + 1) % world.weather.gateways;
            let (world, paying) = (world.clone(), paying.clone());
            tokio::spawn(async move { pay(&world, other, who, &txid, paying).await })
        });
        let got = pay(world, slot, who, &txid, paying).await;
        if let Some(twin) = twin {
            // A second answer says nothing new, but it has to come.
            let _ = twin.await;
        }
        let Some(got) = got else {
            sleep(Duration::from_millis(world.dice.between(100, 3_000))).await; // why: time passes in the simulation, not here
            continue;
        };
        let code = got.code();
        match (got.status(), code.as_str()) {
            (200 | 404, _) if got.receipt().is_some_and(|receipt| receipt["success"] == true) => break,
            (_, "payer_proof_required") => proof = Some(who),
            (400 | 402, _) if got.offers().is_some() => return,
            (409, "payment_in_flight") | (502 | 503 | 504 | 500, _) => {}
            (409, "paid_late" | "invalid_kaspa_exact_replay" | "kaspa_exact_older_than_offer") | (410, _) => return,
            (status, code) => {
                world.trace.wrong(format!("client {who}: {status} {code} for an honest {name}"));
                return;
            }
        }
        sleep(Duration::from_millis(world.dice.between(200, 4_000))).await; // why: time passes in the simulation, not here
    }
    world.trace.reached("served");
    if world.dice.one_in(3) {
        cheat(world, who, &signed).await;
    }
    if world.dice.one_in(3) {
        // Once more: the stored answer.
        let payment = Payment {
            accepted: &accepted,
            transaction: &signed.transaction,
            output: signed.payment_output_index,
            proof,
            false_id: None,
            identifier: id.as_deref(),
        };
        let paying = ask.clone().paying(&message(&ask, &payment));
        if pay(world, world.any_slot(), who, &txid, paying).await.is_some_and(|got| got.status() == 200) {
            world.trace.reached("replayed");
        }
    }
}

/// The payer gives the same coin to somebody else, with the help of a reorganisation.
pub fn spend_again(world: &Arc<World>, who: usize, coin: &Coin, first: &Transaction) {
    let other = sign(who, coin, wallet(who).address().to_string().as_str(), 1_000_000_000);
    world.ledger.called(other.txid, format!("the other spend of {}", world.ledger.name(&TxId::from(first.id()))));
    let (world, delay) = (world.clone(), world.dice.between(0, 20_000));
    tokio::spawn(async move {
        sleep(Duration::from_millis(delay)).await; // why: time passes in the simulation, not here
        if world.is_calm() || world.trace.is_wrong() {
            return;
        }
        if world.dice.one_in(3) {
            let taken = world.net.take(&other.transaction) == SubmitOutcome::New;
            world.trace.note(format!("{} sent: {taken}", world.ledger.name(&other.txid)));
        } else {
            world.net.reorg(&world, world.dice.between(0, 12), Some(&other.transaction));
        }
    });
}

/// One payment for a second request, by who made it.
async fn cheat(world: &Arc<World>, who: usize, signed: &SignedPayment) {
    let ask = new_ask(world, false);
    let Some(accepted) = offer(world, &ask).await else { return };
    let false_id = world.dice.one_in(2).then(|| new_id(world, &signed.txid));
    world.ledger.presents(&signed.txid, &ask.target);
    let payment = Payment {
        accepted: &accepted,
        transaction: &signed.transaction,
        output: signed.payment_output_index,
        proof: Some(who),
        false_id,
        identifier: None,
    };
    let paying = ask.clone().paying(&message(&ask, &payment));
    world.trace.reached("cheat");
    world.trace.note(format!("client {who}: cheats with {} for {}", world.ledger.name(&signed.txid), ask.target));
    pay(world, world.any_slot(), who, &signed.txid, paying).await;
}

fn new_id(world: &World, txid: &TxId) -> TxId {
    let mut id = [0x1d; 32];
    id[..8].copy_from_slice(&world.ledger.number().to_be_bytes());
    world.ledger.writes_id(*txid, TxId(id));
    TxId(id)
}

/// Presents what others paid.
pub async fn steal(world: Arc<World>, who: usize) {
    loop {
        sleep(Duration::from_millis(world.dice.between(500, 6_000))).await; // why: time passes in the simulation, not here
        if world.is_calm() || world.trace.is_wrong() {
            return;
        }
        let seen: Vec<_> = world.ledger.payments_of_others(who).into_iter().filter(|(txid, _)| world.net.has(txid)).collect();
        if seen.is_empty() {
            continue;
        }
        let (txid, target) = &seen[world.dice.index(seen.len())];
        let Some(transaction) = world.net.transaction(txid) else { continue };
        let ask = if world.dice.one_in(2) { Ask::get(target) } else { new_ask(&world, false) };
        let Some(accepted) = offer(&world, &ask).await else { return };
        let pay_to = Address::try_from(accepted["payTo"].as_str().unwrap()).unwrap();
        let script = kaspa_txscript::pay_to_address_script(&pay_to);
        let output = transaction.outputs.iter().position(|output| output.script_public_key == script && output.value == PRICE);
        let Some(output) = output else { continue };
        let payment = Payment {
            accepted: &accepted,
            transaction: &transaction,
            output: u32::try_from(output).unwrap(),
            proof: world.dice.one_in(2).then_some(who),
            false_id: world.dice.one_in(3).then(|| new_id(&world, txid)),
            identifier: None,
        };
        let paying = ask.clone().paying(&message(&ask, &payment));
        world.trace.reached("theft tried");
        world.trace.note(format!("client {who}: steals {} for {}", world.ledger.name(txid), ask.target));
        pay(&world, world.any_slot(), who, txid, paying).await;
    }
}
