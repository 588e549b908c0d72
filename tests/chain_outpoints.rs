//! Watched outputs against a real node: P2PK outputs stand in for escrows, which the chain does not tell apart.

#[path = "support/chain.rs"]
mod chain;
#[path = "support/devnet.rs"]
mod devnet;

use chain::{PATIENCE, connect, options, ready, sink, txid, wallets};
use devnet::{Coin, Devnet, KAS, Wallet};
use kas402::{
    chain::{
        Chain, OutpointStatus, Utxo,
        kaspa::{KaspaChain, Options},
    },
    protocol::{
        acceptance::Acceptance,
        ids::{Outpoint, TxId},
    },
};
use kaspa_consensus_core::tx::{ScriptPublicKey, Transaction};
use std::time::{Duration, Instant};
use tokio::{sync::watch, time::timeout};

type Status = watch::Receiver<OutpointStatus>;

fn outpoint(coin: &Coin) -> Outpoint {
    Outpoint { txid: coin.outpoint.transaction_id.into(), index: coin.outpoint.index }
}

fn first_output(transaction: &Transaction) -> Outpoint {
    Outpoint { txid: txid(transaction), index: 0 }
}

/// A wallet nobody else uses in a test, so that its address is an escrow's.
fn stranger(n: u64) -> Wallet {
    Wallet::new(20 + u8::try_from(n).unwrap())
}

async fn becomes(status: &mut Status, what: &str, is: impl Fn(&OutpointStatus) -> bool) -> OutpointStatus {
    let reached = timeout(PATIENCE, status.wait_for(|status| is(status))).await.map(|reached| reached.expect("watched").clone());
    reached.unwrap_or_else(|_| panic!("never {what}: {:?}", *status.borrow()))
}

async fn unspent(status: &mut Status) -> Utxo {
    match becomes(status, "unspent", |status| matches!(status, OutpointStatus::Unspent(_))).await {
        OutpointStatus::Unspent(utxo) => utxo,
        other => panic!("{other:?}"),
    }
}

async fn spent_by(status: &mut Status, spender: TxId) -> Acceptance {
    let spent = becomes(status, "spent", |status| matches!(status, OutpointStatus::Spent { by, .. } if *by == spender)).await;
    let OutpointStatus::Spent { acceptance, .. } = spent else { panic!("{spent:?}") };
    acceptance
}

async fn absent(status: &mut Status) {
    becomes(status, "absent", |status| *status == OutpointStatus::Absent).await;
}

/// Watched and seen unspent.
async fn held(chain: &KaspaChain, coin: &Coin, script: &ScriptPublicKey) -> Status {
    let mut status = chain.watch_outpoint(outpoint(coin), script, None);
    unspent(&mut status).await;
    status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_output_is_funded_and_spent_and_the_node_says_by_whom() {
    let net = Devnet::start(1, 10.0).await;
    let (payer, shop) = wallets();
    let coins = net.fund(&payer, 10 * KAS, 1).await;
    let chain = connect(options(&net.wrpc)).await;

    let funding = payer.pay(&coins, &shop.script(), 3 * KAS);
    let mut status = chain.watch_outpoint(first_output(&funding), &shop.script(), None);
    assert_eq!(*status.borrow(), OutpointStatus::Unknown, "nothing was asked yet");
    absent(&mut status).await;
    net.submit(0, &funding).await.unwrap();
    let utxo = unspent(&mut status).await;
    assert_eq!((utxo.outpoint, utxo.amount.sompi(), &utxo.script_public_key), (first_output(&funding), 3 * KAS, &shop.script()));
    assert!(utxo.daa_score > 0 && !utxo.covenant && !utxo.is_coinbase);
    assert_eq!(chain.utxos(&shop.address().to_string()).await.unwrap(), std::slice::from_ref(&utxo));
    // Long enough for the spend to be searched near the tail only.
    net.mine(0, 60).await;

    let entry = kaspa_consensus_core::tx::UtxoEntry::new(3 * KAS, shop.script(), 0, false, None);
    let coin = Coin { outpoint: kaspa_consensus_core::tx::TransactionOutpoint::new(funding.id(), 0), entry };
    let spend = shop.pay(&[coin], &payer.script(), KAS);
    net.submit(0, &spend).await.unwrap();
    let began = Instant::now();
    let acceptance = spent_by(&mut status, txid(&spend)).await;
    println!("spent {:?} after the submit, at 10 blocks per second", began.elapsed());
    assert!(acceptance.daa_score >= utxo.daa_score && acceptance.blue_score > 0);

    // What the spend was: its inputs with what they spent, and what it made.
    let told = chain.accepted(&txid(&spend), &acceptance).await.unwrap();
    assert_eq!((told.inputs[0].outpoint, &told.inputs[0].signature_script), (utxo.outpoint, &spend.inputs[0].signature_script));
    assert_eq!((told.outputs[0].amount.sompi(), &told.outputs[1].script_public_key), (KAS, &shop.script()));
    let mut continuation = chain.watch_outpoint(Outpoint { txid: txid(&spend), index: 1 }, &shop.script(), Some(acceptance.daa_score));
    assert_eq!(unspent(&mut continuation).await.amount, told.outputs[1].amount);

    chain.unwatch_outpoint(&utxo.outpoint);
    assert!(status.has_changed().is_err(), "nobody publishes any more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reorg_takes_a_spend_back() {
    let net = Devnet::start(2, 10.0).await;
    let (payer, _) = wallets();
    let coins = net.fund(&payer, 10 * KAS, 3).await;
    let chain = connect(options(&net.wrpc[..1])).await;
    net.set_rate(0, 0.0).await;
    let mut freed = held(&chain, &coins[0], &payer.script()).await;
    let mut contested = held(&chain, &coins[1], &payer.script()).await;
    let mut moved = held(&chain, &coins[2], &payer.script()).await;
    net.partition().await;

    // Of two inputs the other branch spends only one.
    let ours = payer.pay(&coins[..2], &stranger(0).script(), KAS);
    let theirs = payer.pay(&coins[1..2], &stranger(1).script(), 2 * KAS);
    let only_ours = payer.pay(&coins[2..], &stranger(2).script(), KAS);
    net.submit(0, &ours).await.unwrap();
    net.submit(0, &only_ours).await.unwrap();
    net.mine(0, 5).await;
    spent_by(&mut freed, txid(&ours)).await;
    spent_by(&mut contested, txid(&ours)).await;
    let first = spent_by(&mut moved, txid(&only_ours)).await;

    net.submit(1, &theirs).await.unwrap();
    net.mine(1, 30).await;
    net.rejoin().await;
    unspent(&mut freed).await;
    spent_by(&mut contested, txid(&theirs)).await;
    // A reorg alone accepts the spend again, elsewhere.
    net.set_rate(0, 10.0).await;
    let elsewhere = |status: &OutpointStatus| matches!(status, OutpointStatus::Spent { by, acceptance } if *by == txid(&only_ours) && acceptance.block != first.block);
    becomes(&mut moved, "spent elsewhere", elsewhere).await;
    assert!(matches!(*freed.borrow(), OutpointStatus::Unspent(_)), "{:?}", *freed.borrow());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reorg_takes_a_funding_back() {
    let net = Devnet::start(2, 10.0).await;
    let (payer, shop) = wallets();
    let coins = net.fund(&payer, 10 * KAS, 1).await;
    let chain = connect(options(&net.wrpc[..1])).await;
    net.set_rate(0, 0.0).await;
    net.partition().await;
    let funding = payer.pay(&coins, &shop.script(), 3 * KAS);
    let mut status = chain.watch_outpoint(first_output(&funding), &shop.script(), None);
    net.submit(0, &funding).await.unwrap();
    net.mine(0, 5).await;
    unspent(&mut status).await;

    net.submit(1, &payer.pay(&coins, &payer.script(), 2 * KAS)).await.unwrap();
    net.mine(1, 30).await;
    net.rejoin().await;
    becomes(&mut status, "doubtful", |status| !matches!(status, OutpointStatus::Unspent(_))).await;
    assert_eq!(*status.borrow(), OutpointStatus::Unknown, "no block was made that could hold a spend");
    net.set_rate(0, 10.0).await;
    absent(&mut status).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spend_while_the_node_was_away_is_found_after_the_reconnect() {
    let net = Devnet::start(2, 10.0).await;
    let (payer, _) = wallets();
    let coins = net.fund(&payer, 10 * KAS, 3).await;
    let chain = connect(options(&net.wrpc[..1])).await;
    let mut gone = held(&chain, &coins[0], &payer.script()).await;
    let kept = held(&chain, &coins[1], &payer.script()).await;
    let mut later = held(&chain, &coins[2], &payer.script()).await;

    let mut health = chain.health();
    net.stop_node(0).await;
    timeout(PATIENCE, health.wait_for(|health| !health.ready)).await.unwrap().unwrap();
    let spend = payer.pay(&coins[..1], &stranger(0).script(), KAS);
    net.submit(1, &spend).await.unwrap();
    net.mine(1, 200).await;
    assert!(matches!(*gone.borrow(), OutpointStatus::Unspent(_)), "nothing is published while it is away");
    net.start_node(0).await;
    ready(&chain).await;
    spent_by(&mut gone, txid(&spend)).await;
    assert!(matches!(*kept.borrow(), OutpointStatus::Unspent(_)));

    // The subscription was made anew. Until a moment after a connection everything is asked for without any notification, so
    // this waits for 40 blocks, which take longer.
    let mut tip = chain.tip();
    let blue_score = tip.borrow().blue_score + 40;
    timeout(PATIENCE, tip.wait_for(|tip| tip.blue_score >= blue_score)).await.unwrap().unwrap();
    let spend = payer.pay(&coins[2..], &stranger(1).script(), KAS);
    net.submit(0, &spend).await.unwrap();
    spent_by(&mut later, txid(&spend)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spend_from_before_is_found_for_who_knows_that_the_output_was() {
    let net = Devnet::start(1, 10.0).await;
    let (payer, _) = wallets();
    let coins = net.fund(&payer, 10 * KAS, 1).await;
    let chain = connect(options(&net.wrpc)).await;
    let known = unspent(&mut held(&chain, &coins[0], &payer.script()).await).await.daa_score;
    let spend = payer.pay(&coins, &stranger(0).script(), KAS);
    net.submit(0, &spend).await.unwrap();
    net.mine(0, 30).await;
    let end = sink(&net).await;

    // On the kept chain, or behind it, by a process that starts now.
    for checkpoint in [None, Some(end)] {
        let young = connect(Options { checkpoint, ..options(&net.wrpc) }).await;
        let mut status = young.watch_outpoint(outpoint(&coins[0]), &payer.script(), None);
        absent(&mut status).await;
        let mut again = young.watch_outpoint(outpoint(&coins[0]), &payer.script(), Some(known));
        spent_by(&mut again, txid(&spend)).await;
        assert!(matches!(*status.borrow(), OutpointStatus::Spent { .. }));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_outputs_are_watched_at_once() {
    const OUTPUTS: u32 = 5_000;
    let net = Devnet::start(1, 10.0).await;
    let (payer, _) = wallets();
    let coins = net.fund(&payer, 10 * KAS, 2).await;
    let chain = connect(options(&net.wrpc)).await;
    let script = |n: u32| {
        let mut hash = [7; 32];
        hash[..4].copy_from_slice(&n.to_be_bytes());
        kaspa_txscript::pay_to_address_script(&kaspa_addresses::Address::new(
            kaspa_addresses::Prefix::Simnet,
            kaspa_addresses::Version::ScriptHash,
            &hash,
        ))
    };
    let began = Instant::now();
    let all: Vec<_> =
        (0..OUTPUTS).map(|index| chain.watch_outpoint(Outpoint { txid: TxId([6; 32]), index }, &script(index), None)).collect();
    println!("{OUTPUTS} watched in {:?}", began.elapsed());
    for mut status in all {
        absent(&mut status).await;
    }
    println!("{OUTPUTS} answered in {:?}", began.elapsed());
    let mut status = held(&chain, &coins[0], &payer.script()).await;
    let spend = payer.pay(&coins[..1], &stranger(0).script(), KAS);
    net.submit(0, &spend).await.unwrap();
    spent_by(&mut status, txid(&spend)).await;

    net.restart_node(0).await;
    let mut health = chain.health();
    timeout(PATIENCE, health.wait_for(|health| !health.ready)).await.unwrap().unwrap();
    let began = Instant::now();
    ready(&chain).await;
    println!("ready again after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(20));
    held(&chain, &coins[1], &payer.script()).await;
}
