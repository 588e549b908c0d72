//! The faucet.

use std::collections::HashSet;

use kas402_devnet::{Devnet, Error, FundRequest, Invalid, Options};
use kaspa_addresses::{Address, Prefix, Version};
use kaspa_wrpc_client::prelude::{RpcApi, WrpcEncoding};

use crate::support::{KAS, Wallet, holdings, paused, wrpc};

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_devnet_funds_an_address_and_both_wrpc_encodings_show_the_outputs() {
    let devnet = Devnet::start(Options::default()).await.unwrap();
    let wallet = Wallet::new(1);
    let coins = wallet.funded(&devnet, 5 * KAS, 3).await;
    let status = devnet.status().await.unwrap();
    for (encoding, url) in [(WrpcEncoding::Borsh, &status.nodes[0].wrpc), (WrpcEncoding::SerdeJson, &status.nodes[0].wrpc_json)] {
        let client = wrpc(encoding, url).await;
        let server = client.get_server_info().await.unwrap();
        assert!(server.is_synced && server.has_utxo_index);
        let utxos = client.get_utxos_by_addresses(vec![wallet.address.clone()]).await.unwrap();
        assert_eq!(
            utxos.iter().map(|utxo| (utxo.outpoint.transaction_id, utxo.outpoint.index, utxo.utxo_entry.amount)).collect::<HashSet<_>>(),
            coins.iter().map(|coin| (coin.outpoint.transaction_id, coin.outpoint.index, 5 * KAS)).collect(),
        );
        client.disconnect().await.unwrap();
    }
    devnet.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_utxo_index_shows_an_output_one_block_before_the_chain_accepts_its_transaction() {
    let devnet = paused(1).await;
    let wallet = Wallet::new(1);
    let node = wrpc(WrpcEncoding::Borsh, &devnet.wrpc_urls()[0]).await;
    let start = node.get_sink().await.unwrap().sink;
    let txid = wallet.funded(&devnet, KAS, 1).await[0].outpoint.transaction_id;
    for (blocks, indexed, accepted) in [(0, 0, false), (1, 1, false), (2, 1, true)] {
        if blocks > 0 {
            devnet.mine(None, 1).await.unwrap();
        }
        let chain = node.get_virtual_chain_from_block(start, true, None).await.unwrap();
        let is_accepted = chain.accepted_transaction_ids.iter().any(|block| block.accepted_transaction_ids.contains(&txid));
        assert_eq!((holdings(&devnet, 0, &wallet.address).await.1, is_accepted), (indexed, accepted), "after {blocks} blocks");
    }
    node.disconnect().await.unwrap();
    devnet.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_payments_never_spend_a_coin_twice() {
    let devnet = Devnet::start(Options::default()).await.unwrap();
    let wallets: Vec<_> = (1..=8).map(Wallet::new).collect();
    let payments = wallets.iter().map(|wallet| wallet.funded(&devnet, 2 * KAS, 2));
    let mut outpoints = HashSet::new();
    for coins in futures_join(payments).await {
        outpoints.extend(coins.iter().map(|coin| coin.outpoint));
    }
    assert_eq!(outpoints.len(), 16);
    for wallet in &wallets {
        assert_eq!(holdings(&devnet, 0, &wallet.address).await, (4 * KAS, 2));
    }
    devnet.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn payments_chain_in_the_mempool_and_split_and_merge_as_mass_demands() {
    let devnet = paused(1).await;
    let (many, large) = (Wallet::new(1), Wallet::new(2));
    // 120 outputs of 1 KAS exceed the storage mass of one block; 9,000 KAS exceed the inputs of one transaction.
    let coins = many.funded(&devnet, KAS, 120).await;
    let transactions: HashSet<_> = coins.iter().map(|coin| coin.outpoint.transaction_id).collect();
    assert!((3..=4).contains(&transactions.len()), "{}", transactions.len());
    large.funded(&devnet, 9_000 * KAS, 1).await;
    assert_eq!(holdings(&devnet, 0, &many.address).await, (0, 0), "nothing is accepted while mining is paused");
    devnet.mine(None, 20).await.unwrap();
    assert_eq!(holdings(&devnet, 0, &many.address).await, (120 * KAS, 120));
    assert_eq!(holdings(&devnet, 0, &large.address).await, (9_000 * KAS, 1));
    devnet.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_cannot_work_are_refused_with_the_reason() {
    let devnet = paused(1).await;
    let fund = async |address: Address, amount_sompi, count| devnet.fund(&FundRequest { address, amount_sompi, count }).await.unwrap_err();
    let (address, mainnet) = (Wallet::new(1).address, Address::new(Prefix::Mainnet, Version::PubKey, &[1; 32]));
    assert!(matches!(fund(address.clone(), 0, 1).await, Error::Invalid(Invalid::Nothing)));
    assert!(matches!(fund(address.clone(), 1, 0).await, Error::Invalid(Invalid::Nothing)));
    assert!(matches!(fund(mainnet, KAS, 1).await, Error::Invalid(Invalid::AddressNetwork)));
    assert!(matches!(fund(address.clone(), u64::MAX, 2).await, Error::Invalid(Invalid::TooMuch)));
    assert!(matches!(fund(address.clone(), 1_000, 1).await, Error::Invalid(Invalid::TooSmall(1_000))));
    assert!(matches!(fund(address.clone(), 1_000_000 * KAS, 1).await, Error::FaucetShort { .. }));
    assert!(matches!(devnet.mine(Some(1), 1).await, Err(Error::UnknownNode(1))));
    assert!(matches!(devnet.partition().await, Err(Error::SingleNode)));
    assert!(matches!(devnet.set_mining_rate(None, f64::NAN), Err(Error::Invalid(Invalid::Rate))));
    assert!(matches!(Devnet::start(Options { nodes: 3, ..Options::default() }).await, Err(Error::Invalid(Invalid::NodeCount))));
    devnet.stop().await.unwrap();
}

async fn futures_join<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut pinned: Vec<_> = futures.map(Box::pin).collect();
    let mut done = Vec::new();
    std::future::poll_fn(|context| {
        pinned.retain_mut(|future| match future.as_mut().poll(context) {
            std::task::Poll::Ready(value) => {
                done.push(value);
                false
            }
            std::task::Poll::Pending => true,
        });
        if pinned.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done
}
