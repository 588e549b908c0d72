//! The books beside a running gateway and after it, a store that moves, and a store that is compared with the chain.

mod support;

#[path = "operator_books/restore.rs"]
mod restore;

use serde_json::Value;
use std::process::Output;
use support::{
    channel::{Channel, settings},
    devnet::{Devnet, KAS, Wallet},
    gateway::{Gateway, World, yaml},
    patience::{Payment, caught_up, in_mempool, rival},
    pay::Ask,
};

const ROUTES: &str = r#"  - {path: "/paid/{*rest}", price: 0.25 KAS}
  - {path: "/channel/{*rest}", scheme: batch-settlement, price: 0.01 KAS, min_deposit: 2 KAS}"#;
const PRICE: u64 = KAS / 4;

async fn kas402(gateway: &Gateway, args: &[&str]) -> Output {
    gateway.command().args(args).output().await.unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn parsed(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[tokio::test]
async fn the_books_are_shown_exported_and_moved_with_their_store() {
    let mut world = World::start(ROUTES, &settings(3600, 60, "{automatic: false}")).await;
    let (payer, url) = (Wallet::new(1), world.gateway.url());
    assert_eq!(text(&kas402(&world.gateway, &["payments", "list"]).await), "no payments\n");
    let coins = world.devnet.fund(&payer, 10 * KAS, 2).await;
    let mut payments = Vec::new();
    for (name, coin) in [("one", &coins[..1]), ("two", &coins[1..])] {
        // A request that a spreadsheet would run, where a client can have its way.
        let payment = Payment::prepare(Ask::get(&format!("/paid/{name}")), &url, &payer, coin).await;
        assert_eq!(payment.send(&url).await.status, 200);
        payments.push(payment);
    }
    let ask = Ask::get("/channel/x");
    let mut channel = Channel::open(&world.devnet, &ask, &world.gateway, &Wallet::new(2), 5 * KAS).await;
    for _ in 0..2 {
        channel.buy(&ask, &url).await;
    }

    let listed = text(&kas402(&world.gateway, &["payments", "list"]).await);
    assert_eq!(listed.lines().count(), 6, "{listed}");
    assert!(listed.contains("delivered") && listed.contains("charged") && listed.contains("0.25 KAS"), "{listed}");
    let exact = parsed(&kas402(&world.gateway, &["payments", "list", "--scheme", "exact", "--limit", "1", "--json"]).await);
    assert_eq!((exact["entries"].as_array().unwrap().len(), &exact["next"]), (1, &"p1".into()), "{exact}");
    let address = payer.address().to_string();
    let by_payer = parsed(&kas402(&world.gateway, &["payments", "list", "--payer", &address, "--since", "1h", "--json"]).await);
    assert_eq!(by_payer["entries"].as_array().unwrap().len(), 2, "{by_payer}");
    let old = parsed(&kas402(&world.gateway, &["payments", "list", "--until", "2026-01-01", "--json"]).await);
    assert_eq!(old["entries"].as_array().unwrap().len(), 0, "{old}");
    assert_eq!(kas402(&world.gateway, &["payments", "list", "--since", "yesterday"]).await.status.code(), Some(2));
    let shown = text(&kas402(&world.gateway, &["payments", "show", &payments[0].txid()[..12]]).await);
    assert!(shown.contains(&payments[0].txid()) && shown.contains("answer kept  status 200"), "{shown}");
    let unknown = kas402(&world.gateway, &["payments", "show", &"0".repeat(64)]).await;
    assert_eq!(unknown.status.code(), Some(1), "{unknown:?}");
    let granted = kas402(&world.gateway, &["payments", "grant", &payments[0].txid()]).await;
    assert!(!granted.status.success() && String::from_utf8_lossy(&granted.stderr).contains("nothing to grant"), "{granted:?}");

    let csv = text(&kas402(&world.gateway, &["payments", "export", "--format", "csv"]).await);
    assert_eq!(csv.lines().count(), 6, "{csv}");
    let jsonl = text(&kas402(&world.gateway, &["payments", "export", "--format", "jsonl"]).await);
    let report: Value = serde_json::from_str(&text(&kas402(&world.gateway, &["payments", "export", "--format", "grant"]).await)).unwrap();
    let totals = &report["totals"];
    assert_eq!((totals["payments"].as_u64(), totals["payers"].as_u64()), (Some(5), Some(2)), "{report}");
    assert_eq!(totals["chargedSompi"], (2 * PRICE + channel.charged).to_string(), "{report}");
    assert_eq!(totals["onChainSompi"], (2 * PRICE).to_string(), "nothing is claimed yet: {report}");
    let clean = kas402(&world.gateway, &["reconcile"]).await;
    assert!(text(&clean).starts_with("no differences: 3 records"), "{clean:?}");

    // Without a gateway the store tells the same.
    world.gateway.kill().await;
    assert_eq!(text(&kas402(&world.gateway, &["payments", "export", "--format", "jsonl"]).await), jsonl);
    assert_eq!(kas402(&world.gateway, &["reconcile"]).await.status.code(), Some(1), "only a gateway has a node");
    assert!(text(&kas402(&world.gateway, &["store", "check", "store.db"]).await).starts_with("whole: 2 payments"));
    let moved = text(&kas402(&world.gateway, &["store", "migrate", "store.db", "moved.db"]).await);
    assert!(moved.contains("2 payments") && moved.contains("3 charges"), "{moved}");
    let start = kas402(&world.gateway, &["run", "--config", "kas402.yaml"]).await;
    assert!(!start.status.success() && String::from_utf8_lossy(&start.stderr).contains("store_moved"), "{start:?}");
    assert!(!kas402(&world.gateway, &["store", "migrate", "store.db", "other.db"]).await.status.success(), "it has left");
    let configuration =
        yaml(&world.devnet.wrpc[..1], &world.seller, &world.upstream.url(), ROUTES, &settings(3600, 60, "{automatic: false}"));
    world.gateway.configure(&configuration.replace("store.db", "moved.db"));
    world.gateway.run(&[]).await;
    world.gateway.ready().await;
    assert_eq!(text(&kas402(&world.gateway, &["payments", "export", "--format", "jsonl"]).await), jsonl);
    // Offers, replays and channels go on as if nothing had happened.
    let url = world.gateway.url();
    assert_eq!(payments[0].send(&url).await.status, 200);
    assert_eq!(world.upstream.count("/paid/one"), 1, "the stored answer");
    channel.buy(&ask, &url).await;
}

#[tokio::test]
async fn a_payment_that_a_deep_reorg_took_is_found_and_booked_back() {
    let payer = Wallet::new(1);
    let world =
        World::over(Devnet::start(2, 10.0).await, "  - {path: \"/paid/{*rest}\", price: 0.25 KAS}", "limits: {final_depth: 5}").await;
    let coins = world.devnet.fund(&payer, 10 * KAS, 2).await;
    world.devnet.set_rate(0, 0.0).await;
    world.devnet.partition().await;
    let url = world.gateway.url();
    let lost = Payment::prepare(Ask::get("/paid/lost"), &url, &payer, &coins[..1]).await;
    let (sent, ()) = tokio::join!(lost.send(&url), async {
        in_mempool(&world.devnet, 0, &lost.txid()).await;
        world.devnet.mine(0, 3).await;
    });
    assert_eq!(sent.status, 200, "{sent:?}");
    world.devnet.mine(0, 10).await;
    caught_up(&world).await;
    // Deep enough: nobody watches it any more.
    let unwatched = async || world.gateway.admin("/metrics").await.1.contains("kas402_followed 0\n");
    world.gateway.until("final", unwatched).await;
    assert!(kas402(&world.gateway, &["reconcile"]).await.status.success());

    world.devnet.submit(1, &rival(&payer, &coins[..1])).await.unwrap();
    world.devnet.mine(1, 60).await;
    world.devnet.rejoin().await;
    world.devnet.mine(0, 10).await;
    caught_up(&world).await;
    let asked = kas402(&world.gateway, &["reconcile", "--json"]).await;
    assert_eq!(asked.status.code(), Some(3), "{asked:?}");
    let difference = &parsed(&asked)["differences"][0];
    assert_eq!((&difference["what"], &difference["txid"]), (&"conflict".into(), &lost.txid().into()), "{difference}");
    assert_eq!(world.gateway.payments().await["reversed"], 0, "asked only");
    let repaired = kas402(&world.gateway, &["reconcile", "--repair"]).await;
    assert!(text(&repaired).contains("repaired"), "{repaired:?}");
    assert!(text(&kas402(&world.gateway, &["reconcile"]).await).starts_with("no differences"));
    let payments = world.gateway.payments().await;
    assert_eq!((&payments["reversed"], &payments["reversedSompi"]), (&1.into(), &PRICE.to_string().into()), "{payments}");
    let shown = parsed(&kas402(&world.gateway, &["payments", "show", &lost.txid(), "--json"]).await);
    assert_eq!(shown["state"], "reversed", "{shown}");
}

#[tokio::test]
async fn a_channel_that_was_spent_while_the_gateway_was_down_is_closed_after_it_is_compared() {
    let routes = "  - {path: \"/{*rest}\", scheme: batch-settlement, price: 0.01 KAS, min_deposit: 2 KAS}";
    let mut world = World::start(routes, &settings(45, 30, "{automatic: false}")).await;
    let ask = Ask::get("/refund");
    let channel = Channel::open(&world.devnet, &ask, &world.gateway, &Wallet::new(5), 5 * KAS).await;
    world.devnet.mine(0, 1_000).await;
    caught_up(&world).await;
    assert!(kas402(&world.gateway, &["reconcile"]).await.status.success());
    world.gateway.kill().await;
    world.devnet.submit(0, &channel.refund()).await.unwrap();
    world.devnet.mine(0, 30).await;
    world.gateway.run(&[]).await;
    world.gateway.ready().await;
    caught_up(&world).await;
    // Whoever is first, the gateway's own watcher or this, books the same.
    let compared = kas402(&world.gateway, &["reconcile", "--repair", "--json"]).await;
    assert!(compared.status.success(), "{compared:?}");
    let channels = world.gateway.status().await["channels"].clone();
    assert_eq!((&channels["closed"], &channels["lostSompi"]), (&1.into(), &(KAS / 100).to_string().into()), "{channels} {compared:?}");
    assert!(text(&kas402(&world.gateway, &["reconcile"]).await).starts_with("no differences"));
    let lost = parsed(&kas402(&world.gateway, &["payments", "list", "--state", "lost", "--json"]).await);
    assert_eq!(lost["entries"].as_array().unwrap().len(), 1, "{lost}");
}
