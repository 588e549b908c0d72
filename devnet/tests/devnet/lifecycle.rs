//! Stop, start, pause, resume.

use std::time::Duration;

use kas402_devnet::{Devnet, Error, Options};

use crate::support::{KAS, Wallet, blue_score, holdings, paused, sink};

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_node_keeps_chain_and_ports_and_loses_its_mempool() {
    let devnet = paused(1).await;
    let wallet = Wallet::new(1);
    let accepted = wallet.funded(&devnet, 5 * KAS, 1).await[0];
    devnet.mine(None, 1).await.unwrap();
    devnet.submit(0, &wallet.pay_all(accepted, &wallet.address), false).await.unwrap();
    wallet.funded(&devnet, 7 * KAS, 1).await;
    assert_eq!(devnet.mempool(0).await.unwrap().len(), 2);
    let (urls, before) = (devnet.wrpc_urls(), sink(&devnet, 0).await);

    devnet.stop_node(0).await.unwrap();
    assert!(matches!(devnet.stop_node(0).await, Err(Error::NodeStopped(0))));
    assert!(matches!(devnet.mempool(0).await, Err(Error::NodeStopped(0))));
    assert!(devnet.status().await.unwrap().nodes[0].chain.is_none());
    let port = urls[0].rsplit(':').next().unwrap().parse().unwrap();
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err(), "a stopped node does not listen");

    devnet.start_node(0).await.unwrap();
    assert!(matches!(devnet.start_node(0).await, Err(Error::NodeRunning(0))));
    assert_eq!((devnet.wrpc_urls(), sink(&devnet, 0).await), (urls, before));
    assert_eq!(devnet.mempool(0).await.unwrap().len(), 0);
    assert_eq!(holdings(&devnet, 0, &wallet.address).await, (5 * KAS, 1));

    // Lost payments do not keep the faucet from paying, and the chain goes on.
    wallet.funded(&devnet, 3 * KAS, 1).await;
    devnet.restart_node(0).await.unwrap();
    wallet.funded(&devnet, 2 * KAS, 1).await;
    devnet.mine(None, 2).await.unwrap();
    assert_eq!(holdings(&devnet, 0, &wallet.address).await, (7 * KAS, 2));
    devnet.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn mining_pauses_and_resumes() {
    let devnet = Devnet::start(Options { rate: 50.0, ..Options::default() }).await.unwrap();
    let wallet = Wallet::new(1);
    wallet.funded(&devnet, KAS, 1).await;
    devnet.set_mining_rate(None, 0.0).unwrap();
    // A block may be under way; the one mined here comes after it.
    devnet.mine(None, 1).await.unwrap();
    let before = blue_score(&devnet, 0).await;
    devnet.mine(None, 30).await.unwrap();
    assert_eq!(blue_score(&devnet, 0).await, before + 30, "only what was asked for");

    devnet.set_mining_rate(None, 50.0).unwrap();
    tokio::time::timeout(Duration::from_secs(20), async {
        while blue_score(&devnet, 0).await < before + 40 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    devnet.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_stay_together_whichever_of_them_stops() {
    let devnet = Devnet::start(Options { nodes: 2, ..Options::default() }).await.unwrap();
    let wallet = Wallet::new(1);
    let mut total = 0;
    for stopped in [0, 1] {
        devnet.stop_node(stopped).await.unwrap();
        wallet.funded(&devnet, 2 * KAS, 1).await;
        devnet.mine(None, 25).await.unwrap();
        devnet.start_node(stopped).await.unwrap();
        wallet.funded(&devnet, 2 * KAS, 1).await;
        total += 4 * KAS;
        for node in [0, 1] {
            assert_eq!(holdings(&devnet, node, &wallet.address).await.0, total, "node {node} after {stopped} came back");
        }
    }
    devnet.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_directory_continues_its_chain() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { rate: 0.0, dir: Some(dir.path().join("kept")), ..Options::default() };
    let wallet = Wallet::new(1);
    let devnet = Devnet::start(options.clone()).await.unwrap();
    wallet.funded(&devnet, KAS, 1).await;
    devnet.mine(None, 5).await.unwrap();
    let before = sink(&devnet, 0).await;
    devnet.stop().await.unwrap();

    let devnet = Devnet::start(options).await.unwrap();
    assert_eq!(sink(&devnet, 0).await, before);
    assert_eq!(holdings(&devnet, 0, &wallet.address).await, (KAS, 1));
    devnet.stop().await.unwrap();
}
