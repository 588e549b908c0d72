//! kill -9 of Redis and of gateways at random moments, under load from our own buyers over three gateways on one store: every acknowledged
//! charge is in the ledger, none twice, and the buyers' journals and the store say the same to the sompi.
//!
//! Thirty seconds; `KAS402_CRASH_SECONDS=600` runs longer, `KAS402_CRASH_SEED=7` repeats the moments of a run (not the run: the processes are real).

mod books;
mod buyer;
mod chaos;
#[path = "../support/mod.rs"]
mod support;

use buyer::{Buyer, Doors};
use chaos::Chaos;
use kas402::{
    chain::{
        Chain,
        kaspa::{KaspaChain, Options},
    },
    protocol::network::Network,
    runtime::clock,
};
use rand::Rng;
use std::{sync::Arc, time::Duration};
use support::{
    channel::settings,
    devnet::{Devnet, KAS, Wallet},
    gateway::{Gateway, yaml},
    redis::{SAFE, Server},
    upstream::Upstream,
};
use tokio::{sync::watch, time::timeout};

const ROUTES: &str = r#"  - {path: "/once/{*rest}", price: 0.25 KAS}
  - {path: "/events/{*rest}", scheme: batch-settlement, price: 0.02 KAS, min_deposit: 2 KAS, charge: {bytes: true, unit_price: 1000 sompi, per: 1, on_unknown: ceiling}}
  - {path: "/{*rest}", scheme: batch-settlement, price: 0.02 KAS, min_deposit: 2 KAS}"#;
/// Often enough that claims are under way when something dies.
const CLAIMS: &str = "{automatic: true, above: 0.3 KAS, max_fee_percent: 50}";
const BUYERS: u8 = 6;
const GATEWAYS: usize = 3;
/// Longest time until everybody has what was paid for, once nothing is killed any more.
const PATIENCE: Duration = Duration::from_secs(180);

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_charge_survives_the_death_of_redis_and_of_gateways_and_none_is_made_twice() {
    let seed = setting("KAS402_CRASH_SEED").unwrap_or_else(|| rand::thread_rng().r#gen());
    println!("again with the same moments: KAS402_CRASH_SEED={seed}");
    let redis = Server::start(&SAFE);
    let devnet = Devnet::start(1, 10.0).await;
    let upstream = Upstream::start().await;
    let embedded = yaml(&devnet.wrpc[..1], &Wallet::new(200), &upstream.url(), ROUTES, &settings(3_600, 60, CLAIMS));
    let store = format!("store: {{kind: redis, url: \"{}\", timeout_seconds: 2}}", redis.url());
    let yaml = embedded.replace("store: {path: store.db}", &store);
    let mut gateways = vec![Gateway::start(&yaml).await];
    for number in 1..GATEWAYS {
        let sibling = gateways[0].sibling(&format!("sibling{number}"), &yaml).await;
        gateways.push(sibling);
    }
    let chain = KaspaChain::connect(Options::new(Network::Simnet, devnet.wrpc.clone(), Arc::new(clock::now)));
    timeout(PATIENCE, chain.health().wait_for(|health| health.ready)).await.expect("ready in time").expect("connected");

    let doors = Arc::new(Doors::new(&gateways, seed));
    let (sold, stop) = (Arc::new(watch::Sender::new(0)), watch::Sender::new(false));
    for number in 1..=BUYERS {
        devnet.fund(&Wallet::new(number), 30 * KAS, 1).await;
        devnet.fund(&Wallet::new(number), KAS, 20).await;
    }
    // Until the coins are ripe.
    devnet.mine(0, 30).await;
    let mut buyers = Vec::new();
    for number in 1..=BUYERS {
        let buyer = Buyer::new(number, seed, chain.clone(), doors.clone());
        buyers.push(tokio::spawn(buyer.live(sold.clone(), stop.subscribe())));
    }
    let mut chaos = Chaos::new(seed, redis, gateways, doors, sold.subscribe());
    chaos.rage(Duration::from_secs(setting("KAS402_CRASH_SECONDS").unwrap_or(30))).await;
    stop.send_replace(true);
    let mut satisfied = Vec::new();
    for buyer in buyers {
        let buyer = timeout(PATIENCE, buyer).await.unwrap_or_else(|_| panic!("somebody is never served\n{}", chaos.logs()));
        satisfied.push(buyer.unwrap_or_else(|error| panic!("{error}\n{}", chaos.logs())));
    }
    println!("{} requests were sold", *sold.borrow());
    books::agree(&chaos.gateways, &satisfied, &upstream).await;
}
