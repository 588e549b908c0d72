//! Partitions: what wins, what vanishes, what is accepted again.

use kas402_devnet::{Devnet, Options};

use crate::support::{FEE_SOMPI, KAS, Wallet, blue_score, holdings, paused, sink};

#[tokio::test(flavor = "multi_thread")]
async fn of_two_conflicting_spends_the_heavier_branch_keeps_one_on_both_nodes() {
    let devnet = paused(2).await;
    let (payer, shop, thief) = (Wallet::new(1), Wallet::new(2), Wallet::new(3));
    let coin = payer.funded(&devnet, 10 * KAS, 1).await[0];
    devnet.mine(None, 1).await.unwrap();
    let paid = coin.sompi - FEE_SOMPI;

    devnet.partition().await.unwrap();
    let loser = payer.pay_all(coin, &shop.address);
    devnet.submit(0, &loser, false).await.unwrap();
    devnet.submit(1, &payer.pay_all(coin, &thief.address), false).await.unwrap();
    devnet.mine(Some(0), 10).await.unwrap();
    devnet.mine(Some(1), 30).await.unwrap();
    assert_ne!(sink(&devnet, 0).await, sink(&devnet, 1).await);
    assert_eq!(holdings(&devnet, 0, &shop.address).await, (paid, 1), "each side believes its own");
    assert_eq!(holdings(&devnet, 0, &thief.address).await, (0, 0));
    assert_eq!(holdings(&devnet, 1, &thief.address).await, (paid, 1));

    devnet.rejoin().await.unwrap();
    devnet.mine(None, 2).await.unwrap();
    assert_eq!(sink(&devnet, 0).await, sink(&devnet, 1).await);
    for node in [0, 1] {
        assert_eq!(holdings(&devnet, node, &thief.address).await, (paid, 1), "node {node}");
        assert_eq!(holdings(&devnet, node, &shop.address).await, (0, 0), "node {node}");
        assert_eq!(devnet.mempool(node).await.unwrap().len(), 0, "node {node}");
    }
    // kaspad remembers what it saw in blocks, not what is accepted: its text lies about the payment that lost.
    let text = devnet.submit(0, &loser, false).await.unwrap_err().to_string();
    assert_eq!(text, format!("Rejected transaction {0}: transaction {0} was already accepted by the consensus", loser.id()));
    devnet.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_on_the_losing_branch_without_a_conflict_is_accepted_again() {
    let devnet = paused(2).await;
    let (payer, shop) = (Wallet::new(1), Wallet::new(2));
    let coin = payer.funded(&devnet, 10 * KAS, 1).await[0];
    devnet.mine(None, 1).await.unwrap();

    devnet.partition().await.unwrap();
    devnet.submit(0, &payer.pay_all(coin, &shop.address), false).await.unwrap();
    devnet.mine(Some(0), 10).await.unwrap();
    devnet.mine(Some(1), 30).await.unwrap();
    assert_eq!(holdings(&devnet, 1, &shop.address).await, (0, 0));
    devnet.rejoin().await.unwrap();
    devnet.mine(None, 2).await.unwrap();
    for node in [0, 1] {
        assert_eq!(holdings(&devnet, node, &shop.address).await, (coin.sompi - FEE_SOMPI, 1), "node {node}");
    }
    devnet.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_holds_until_rejoin_even_across_restarts_and_can_be_repeated() {
    let devnet = Devnet::start(Options { nodes: 2, ..Options::default() }).await.unwrap();
    for round in 0..3 {
        devnet.partition().await.unwrap();
        devnet.partition().await.unwrap();
        let before = blue_score(&devnet, 1).await;
        if round == 0 {
            devnet.restart_node(0).await.unwrap();
            devnet.restart_node(1).await.unwrap();
        }
        devnet.mine(Some(0), 20).await.unwrap();
        let status = devnet.status().await.unwrap();
        assert!(status.partitioned);
        assert!(status.nodes.iter().all(|node| node.chain.as_ref().unwrap().peers == 0));
        assert_eq!((status.nodes[0].mining_rate, status.nodes[1].mining_rate), (10.0, 0.0));
        assert_eq!(blue_score(&devnet, 1).await, before, "node 1 mines only when told to, and hears nothing");

        devnet.rejoin().await.unwrap();
        devnet.rejoin().await.unwrap();
        devnet.mine(None, 1).await.unwrap();
        assert!(blue_score(&devnet, 1).await > before + 20);
    }
    devnet.stop().await.unwrap();
}
