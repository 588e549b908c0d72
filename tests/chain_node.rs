//! `KaspaChain` against a real node.

#[path = "support/chain.rs"]
mod chain;
#[path = "support/devnet.rs"]
mod devnet;

use chain::{PATIENCE, accepted, connect, options, ready, sink, txid, wallets};
use devnet::{Coin, Devnet, KAS, Wallet};
use kas402::{
    chain::{
        Chain, Sighting, SubmitOutcome, TxStatus,
        kaspa::{KaspaChain, Options},
    },
    protocol::{
        acceptance::{Acceptance, Checkpoint},
        ids::{BlockHash, TxId},
        network::Network,
    },
};
use kaspa_consensus_core::tx::{Transaction, TransactionOutpoint, TransactionOutput, UtxoEntry};
use kaspa_wrpc_client::prelude::{
    ChannelConnection, ChannelType, KaspaRpcClient, Notification, RpcApi, Scope, VirtualChainChangedScope, WrpcEncoding,
};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// Submits until a node takes it.
async fn submitted(chain: &KaspaChain, transaction: &Transaction) {
    let mut health = chain.health();
    timeout(PATIENCE, async {
        while !matches!(chain.submit(transaction).await, SubmitOutcome::New | SubmitOutcome::Known) {
            // A node that went away may be taken for ready for a moment, or come back before that was noticed.
            _ = timeout(Duration::from_millis(50), health.changed()).await;
        }
    })
    .await
    .expect("a node takes it");
}

/// An acceptance behind the kept chain is found only because a submit makes the transaction suspect.
async fn found_by_submit(chain: &KaspaChain, transaction: &Transaction) -> Acceptance {
    let mut status = chain.follow(transaction, None, false);
    let seen = timeout(Duration::from_millis(500), status.changed()).await;
    assert!(seen.is_err() && *status.borrow() == TxStatus::Unseen, "the test is about the search: {:?}", *status.borrow());
    let outcome = chain.submit(transaction).await;
    assert!(matches!(outcome, SubmitOutcome::Known | SubmitOutcome::Unknown(_)), "{outcome:?}");
    accepted(&mut status).await
}

fn tampered(transaction: &Transaction) -> Transaction {
    let mut bad = transaction.clone();
    bad.inputs[0].signature_script[10] ^= 1;
    bad
}

fn unspendable(coin: &Coin) -> Coin {
    let mut coin = coin.clone();
    coin.outpoint.transaction_id = kaspa_hashes::Hash::from_bytes([9; 32]);
    coin
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_submitted_payment_is_pushed_as_accepted_within_milliseconds_of_the_nodes_notification() {
    const PAYMENTS: usize = 20;
    let net = Devnet::start(1, 10.0).await;
    let (payer, shop) = wallets();
    let coins = net.fund(&payer, 10 * KAS, PAYMENTS as u64).await;
    let chain = connect(options(&net.wrpc)).await;
    assert_eq!(chain.network(), Network::Simnet);
    assert!(chain.health().borrow().server_version.is_some());

    // The node's own notification, as any client gets it.
    let client = KaspaRpcClient::new(WrpcEncoding::Borsh, Some(&net.wrpc[0]), None, None, None).unwrap();
    client.connect(None).await.unwrap();
    let (sender, events) = async_channel::unbounded();
    let listener = client.register_new_listener(ChannelConnection::new("test", sender, ChannelType::Closable));
    client.start_notify(listener, Scope::VirtualChainChanged(VirtualChainChangedScope::new(true))).await.unwrap();

    let mut added = Vec::new();
    for coin in coins {
        let payment = payer.pay(&[coin], &shop.script(), KAS);
        let mut status = chain.follow(&payment, None, true);
        assert_eq!(*status.borrow(), TxStatus::Unseen);
        assert_eq!(chain.submit(&payment).await, SubmitOutcome::New);
        let ours = tokio::spawn(async move {
            let acceptance = accepted(&mut status).await;
            (acceptance, Instant::now())
        });
        let id = payment.id();
        let nodes = loop {
            if let Notification::VirtualChainChanged(change) = timeout(PATIENCE, events.recv()).await.unwrap().unwrap()
                && change.accepted_transaction_ids.iter().any(|block| block.accepted_transaction_ids.contains(&id))
            {
                break Instant::now();
            }
        };
        let (acceptance, at) = ours.await.unwrap();
        added.push(at.saturating_duration_since(nodes));
        assert!(acceptance.daa_score > 0 && acceptance.blue_score > 0);
        assert!(matches!(chain.submit(&payment).await, SubmitOutcome::Known));
        chain.unfollow(&txid(&payment));
    }
    added.sort();
    println!("status after the node's notification: median {:?}, most {:?}", added[PAYMENTS / 2], added[PAYMENTS - 1]);
    // By notification and not by the poll of every second; how quick that is says `make bench`.
    assert!(added[PAYMENTS / 2] < Duration::from_millis(500), "{added:?}");
    let tip = *chain.tip().borrow();
    assert!(tip.daa_score > 0 && tip.blue_score > 0);
}

/// Answers to polls and notifications overtake each other; what was deep enough a moment ago must not be too young now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_daa_score_of_a_node_that_is_followed_never_falls() {
    let net = Devnet::start(1, 0.0).await;
    let chain = connect(options(&net.wrpc)).await;
    let mut tip = chain.tip();
    let mut seen = tip.borrow_and_update().daa_score;
    let rising = async {
        loop {
            tip.changed().await.unwrap();
            let score = tip.borrow_and_update().daa_score;
            assert!(score >= seen, "{score} after {seen}");
            seen = score;
        }
    };
    let mining = async {
        for _ in 0..60 {
            net.mine(0, 40).await;
        }
    };
    tokio::select! {
        () = rising => {}
        () = mining => {}
    }
    assert!(seen > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kaspads_refusals_are_told_apart() {
    let net = Devnet::start(1, 10.0).await;
    let (payer, shop) = wallets();
    let coins = net.fund(&payer, 10 * KAS, 5).await;
    let chain = connect(options(&net.wrpc)).await;
    net.set_rate(0, 0.0).await;
    let pay = |coin: &Coin| payer.pay(std::slice::from_ref(coin), &shop.script(), KAS);
    let output = |sompi| TransactionOutput::new(sompi, shop.script());
    let submit = async |transaction: Transaction| {
        let outcome = chain.submit(&transaction).await;
        println!("{outcome:?}");
        outcome
    };

    let rejected = |outcome| assert!(matches!(outcome, SubmitOutcome::Rejected(_)), "{outcome:?}");
    rejected(submit(tampered(&pay(&coins[0]))).await);
    let mut empty = pay(&coins[0]);
    empty.inputs[0].signature_script.clear();
    rejected(submit(empty).await);
    rejected(submit(payer.sign(&coins[..1], vec![output(11 * KAS)]).0).await);
    let mut nothing = pay(&coins[0]);
    nothing.outputs[0].value = 0;
    nothing.finalize();
    rejected(submit(nothing).await);
    rejected(submit(payer.sign(&coins[..1], vec![output(1_000), output(9 * KAS)]).0).await);
    let mut twice = pay(&coins[0]);
    twice.inputs.push(twice.inputs[0].clone());
    twice.finalize();
    rejected(submit(twice).await);

    let unknown = |outcome| assert!(matches!(outcome, SubmitOutcome::Unknown(_)), "{outcome:?}");
    unknown(submit(pay(&unspendable(&coins[0]))).await);
    // Policy, not proof: a miner may still take it.
    unknown(submit(payer.build(&coins[..1], vec![output(KAS)], 0)).await);
    let first = pay(&coins[1]);
    assert_eq!(submit(first.clone()).await, SubmitOutcome::New);
    assert_eq!(submit(first.clone()).await, SubmitOutcome::Known);
    unknown(submit(payer.pay(&coins[1..2], &shop.script(), 2 * KAS)).await);
    assert_eq!(chain.sighting(&first).await.unwrap(), Sighting::Mempool);
    assert_eq!(chain.sighting(&pay(&coins[2])).await.unwrap(), Sighting::NotSeen);
    net.mine(0, 3).await;
    assert_eq!(submit(first.clone()).await, SubmitOutcome::Known);
    assert_eq!(chain.sighting(&first).await.unwrap(), Sighting::UtxoSet);

    net.stop_node(0).await;
    let mut health = chain.health();
    timeout(PATIENCE, health.wait_for(|health| !health.ready)).await.unwrap().unwrap();
    let outcome = chain.submit(&pay(&coins[3])).await;
    assert!(matches!(outcome, SubmitOutcome::Unavailable(_) | SubmitOutcome::Unknown(_)), "{outcome:?}");
    assert!(health.borrow().reason.as_ref().unwrap().starts_with("disconnected"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_the_node_loses_its_mempool_and_nothing_else() {
    let net = Devnet::start(1, 10.0).await;
    let (payer, shop) = wallets();
    let coins = net.fund(&payer, 10 * KAS, 3).await;
    let chain = connect(options(&net.wrpc)).await;
    // Nothing is mined: the payment stays in the mempool, and is lost with it.
    net.set_rate(0, 0.0).await;
    let lost = payer.pay(&coins[..1], &shop.script(), KAS);
    let mut status = chain.follow(&lost, None, true);
    assert_eq!(chain.submit(&lost).await, SubmitOutcome::New);
    let alone = payer.pay(&coins[1..2], &shop.script(), KAS);
    let quiet = chain.follow(&alone, None, false);
    assert_eq!(chain.submit(&alone).await, SubmitOutcome::New);

    let mut health = chain.health();
    net.stop_node(0).await;
    timeout(PATIENCE, health.wait_for(|health| !health.ready)).await.unwrap().unwrap();
    net.start_node(0).await;
    ready(&chain).await;
    net.set_rate(0, 10.0).await;
    accepted(&mut status).await;
    assert_eq!(*quiet.borrow(), TxStatus::Unseen, "what is not to be resubmitted is not");

    // Between two payments, without anyone touching the chain.
    net.restart_node(0).await;
    let next = payer.pay(&coins[2..], &shop.script(), KAS);
    let mut status = chain.follow(&next, None, true);
    submitted(&chain, &next).await;
    accepted(&mut status).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acceptance_from_before_is_found() {
    let net = Devnet::start(1, 10.0).await;
    let (payer, shop) = wallets();
    let coins = net.fund(&payer, 10 * KAS, 2).await;
    let chain = connect(options(&net.wrpc)).await;
    let payment = payer.pay(&coins[..1], &shop.script(), KAS);
    net.submit(0, &payment).await.unwrap();
    net.mine(0, 5).await;
    // On the chain we hold, without any submit.
    let acceptance = accepted(&mut chain.follow(&payment, None, false)).await;

    // By a client that starts later: before its own start, found on the chain behind the sink.
    let later = connect(options(&net.wrpc)).await;
    assert_eq!(accepted(&mut later.follow(&payment, None, false)).await, acceptance);

    // By a client that begins at a checkpoint after the acceptance: the submit makes it suspect, the utxo set knows it.
    net.mine(0, 20).await;
    let young = connect(Options { checkpoint: Some(sink(&net).await), ..options(&net.wrpc) }).await;
    assert_eq!(found_by_submit(&young, &payment).await, acceptance);
    drop(young);

    // Spent outputs and utxos come from the node.
    let told = chain.accepted(&txid(&payment), &acceptance).await.unwrap();
    let [input] = &told.inputs[..] else { panic!("{told:?}") };
    assert_eq!(input.outpoint.txid, coins[0].outpoint.transaction_id.into());
    assert_eq!(input.signature_script, payment.inputs[0].signature_script);
    let outputs: Vec<_> = told.outputs.iter().map(|output| (output.amount.sompi(), &output.script_public_key, output.covenant)).collect();
    let sent: Vec<_> = payment.outputs.iter().map(|output| (output.value, &output.script_public_key, false)).collect();
    assert_eq!(outputs, sent);
    let spent = told.clone().into_spent().unwrap();
    assert_eq!((spent[0].amount.sompi(), &spent[0].script_public_key, spent[0].covenant), (10 * KAS, &payer.script(), false));
    let utxos = chain.utxos(&shop.address().to_string()).await.unwrap();
    assert_eq!(utxos.len(), 1);
    assert_eq!((utxos[0].amount.sompi(), utxos[0].outpoint.txid, utxos[0].daa_score), (KAS, txid(&payment), acceptance.daa_score));
    assert!(!utxos[0].is_coinbase && !utxos[0].covenant);
    assert!(chain.accepted(&TxId([3; 32]), &acceptance).await.is_err());

    // Every output is spent: only reading the chain further back finds it.
    let entry = UtxoEntry::new(KAS, shop.script(), 0, false, None);
    let paid = Coin { outpoint: TransactionOutpoint::new(payment.id(), 0), entry };
    for (wallet, coin) in [(&shop, paid), (&payer, payer.change_of(&payment))] {
        let spend = wallet.pay(&[coin], &Wallet::new(13).script(), KAS / 4);
        let mut status = chain.follow(&spend, None, true);
        assert_eq!(chain.submit(&spend).await, SubmitOutcome::New);
        accepted(&mut status).await;
    }
    net.mine(0, 20).await;
    assert_eq!(chain.sighting(&payment).await.unwrap(), Sighting::NotSeen);
    let young = connect(Options { checkpoint: Some(sink(&net).await), ..options(&net.wrpc) }).await;
    assert_eq!(found_by_submit(&young, &payment).await, acceptance);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happened_while_we_were_away_is_caught_up_from_the_checkpoint() {
    let net = Devnet::start(1, 10.0).await;
    let (payer, shop) = wallets();
    let coins = net.fund(&payer, 10 * KAS, 4).await;
    let chain = connect(options(&net.wrpc)).await;
    let before = payer.pay(&coins[..1], &shop.script(), KAS);
    let mut status = chain.follow(&before, None, true);
    assert_eq!(chain.submit(&before).await, SubmitOutcome::New);
    let known = accepted(&mut status).await;
    timeout(PATIENCE, async {
        while chain.checkpoint().is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await; // why: a checkpoint is not pushed
        }
    })
    .await
    .unwrap();
    let checkpoint = chain.checkpoint();
    drop(chain);

    let away = payer.pay(&coins[1..2], &shop.script(), KAS);
    net.submit(0, &away).await.unwrap();
    let (loser, winner) = (payer.pay(&coins[2..3], &shop.script(), KAS), payer.pay(&coins[2..3], &shop.script(), 2 * KAS));
    net.submit(0, &winner).await.unwrap();
    net.mine(0, 300).await;

    let chain = KaspaChain::connect(Options { checkpoint, ..options(&net.wrpc) });
    let kept = chain.follow(&before, Some(known), true);
    let mut caught_up = chain.follow(&away, None, true);
    let mut beaten = chain.follow(&loser, None, true);
    let never = Acceptance { block: BlockHash([5; 32]), ..known };
    let mut wrong = chain.follow(&payer.pay(&coins[3..], &shop.script(), KAS), Some(never), false);
    ready(&chain).await;
    accepted(&mut caught_up).await;
    assert_eq!(*kept.borrow(), TxStatus::Accepted(known), "known and still on the chain");
    timeout(PATIENCE, wrong.wait_for(|status| *status == TxStatus::Unseen)).await.expect("known, but not on the chain").unwrap();
    timeout(PATIENCE, beaten.wait_for(|status| matches!(status, TxStatus::Conflicted { by, .. } if *by == txid(&winner))))
        .await
        .expect("the conflict that won while we were away")
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reorg_with_a_conflicting_spend_takes_the_acceptance_back() {
    let net = Devnet::start(2, 10.0).await;
    let (payer, shop) = wallets();
    let coins = net.fund(&payer, 10 * KAS, 2).await;
    net.set_rate(0, 0.0).await;
    let chain = connect(options(&net.wrpc[..1])).await;
    net.partition().await;

    let ours = payer.pay(&coins[..1], &shop.script(), KAS);
    let theirs = payer.pay(&coins[..1], &payer.script(), 5 * KAS);
    let only_ours = payer.pay(&coins[1..], &shop.script(), KAS);
    let mut status = chain.follow(&ours, None, true);
    let mut again = chain.follow(&only_ours, None, true);
    assert_eq!(chain.submit(&ours).await, SubmitOutcome::New);
    assert_eq!(chain.submit(&only_ours).await, SubmitOutcome::New);
    net.mine(0, 5).await;
    let first = accepted(&mut status).await;
    let first_again = accepted(&mut again).await;

    net.submit(1, &theirs).await.unwrap();
    net.mine(1, 30).await;
    net.rejoin().await;
    let beaten = timeout(PATIENCE, status.wait_for(|status| matches!(status, TxStatus::Conflicted { .. }))).await;
    let beaten = *beaten.unwrap_or_else(|_| panic!("not taken back: {first:?}")).unwrap();
    assert!(matches!(beaten, TxStatus::Conflicted { by, .. } if by == txid(&theirs)), "{beaten:?}");
    // A reorg alone re-accepts a transaction.
    net.set_rate(0, 10.0).await;
    let elsewhere = |status: &TxStatus| matches!(status, TxStatus::Accepted(acceptance) if acceptance.block != first_again.block);
    timeout(PATIENCE, again.wait_for(elsewhere)).await.expect("accepted again, elsewhere").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_two_nodes_the_second_takes_over() {
    let net = Devnet::start(2, 10.0).await;
    let (payer, shop) = wallets();
    let coins = net.fund(&payer, 10 * KAS, 2).await;
    let chain = connect(options(&net.wrpc)).await;
    let first = payer.pay(&coins[..1], &shop.script(), KAS);
    let mut status = chain.follow(&first, None, true);
    assert_eq!(chain.submit(&first).await, SubmitOutcome::New);
    let acceptance = accepted(&mut status).await;
    // Long enough for the accepting block to reach the second node; otherwise that mines another in its place.
    let mut tip = chain.tip();
    timeout(PATIENCE, tip.wait_for(|tip| tip.blue_score >= acceptance.blue_score + 5)).await.unwrap().unwrap();
    net.stop_node(0).await;
    let second = payer.pay(&coins[1..], &shop.script(), KAS);
    let mut later = chain.follow(&second, None, true);
    submitted(&chain, &second).await;
    accepted(&mut later).await;
    assert_eq!(*status.borrow(), TxStatus::Accepted(acceptance), "the second node sees the same chain");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_the_node_does_not_know_is_no_obstacle() {
    let net = Devnet::start(1, 10.0).await;
    let (payer, shop) = wallets();
    let coins = net.fund(&payer, 10 * KAS, 1).await;
    let payment = payer.pay(&coins, &shop.script(), KAS);
    net.submit(0, &payment).await.unwrap();
    net.mine(0, 5).await;
    let strange = Checkpoint { block: BlockHash([9; 32]), blue_score: 700 };
    let chain = KaspaChain::connect(Options { checkpoint: Some(strange), ..options(&net.wrpc) });
    let mut status = chain.follow(&payment, None, true);
    ready(&chain).await;
    accepted(&mut status).await;
    assert_ne!(chain.checkpoint(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_on_different_chains_are_not_ready_until_they_agree() {
    let net = Devnet::start(2, 10.0).await;
    let chain = connect(options(&net.wrpc)).await;
    let mut health = chain.health();
    net.partition().await;
    net.mine(1, 30).await;
    let apart = |health: &kas402::chain::Health| health.reason.as_ref().is_some_and(|reason| reason.starts_with("nodes_disagree"));
    timeout(Duration::from_secs(60), health.wait_for(apart)).await.expect("seen after half a minute").unwrap();
    net.rejoin().await;
    timeout(Duration::from_secs(60), health.wait_for(|health| health.ready)).await.expect("agreed again").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_node_it_waits_quietly_and_sends_nothing() {
    // A port that was free a moment ago: nobody listens.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let chain = KaspaChain::connect(options(&[format!("ws://127.0.0.1:{port}")]));
    let mut changes = 0;
    let mut health = chain.health();
    let quiet = timeout(Duration::from_secs(2), async {
        while health.changed().await.is_ok() {
            changes += 1;
        }
    });
    assert!(quiet.await.is_err() && changes < 10, "{changes} changes");
    assert!(health.borrow().reason.as_ref().unwrap().starts_with("disconnected"));
    let payment = Transaction::new(0, vec![], vec![], 0, kaspa_consensus_core::subnets::SUBNETWORK_ID_NATIVE, 0, vec![]);
    assert!(matches!(chain.submit(&payment).await, SubmitOutcome::Unavailable(_)));
    assert!(chain.utxos(&Wallet::new(1).address().to_string()).await.is_err());
    assert!(KaspaChain::connect(options(&[])).submit(&payment).await != SubmitOutcome::New);
}
