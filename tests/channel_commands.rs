//! `kas402 channels` and `kas402 claim` beside a running gateway, and after it.

mod support;

use serde_json::Value;
use std::process::Output;
use support::{
    channel::{Channel, SETTINGS, number},
    devnet::{KAS, Wallet},
    gateway::{Gateway, World},
    pay::Ask,
};

const ROUTES: &str = "  - {path: \"/{*rest}\", scheme: batch-settlement, price: 1 KAS, min_deposit: 5 KAS}";

async fn kas402(gateway: &Gateway, args: &[&str]) -> Output {
    gateway.command().args(args).output().await.unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

async fn json(gateway: &Gateway, args: &[&str]) -> Value {
    serde_json::from_str(&text(&kas402(gateway, args).await)).unwrap()
}

#[tokio::test]
async fn an_operator_sees_channels_and_claims_them() {
    let mut world = World::start(ROUTES, SETTINGS).await;
    let (ask, gateway) = (Ask::get("/echo/1"), &world.gateway);
    assert_eq!(text(&kas402(gateway, &["channels", "list"]).await), "no channels\n");
    assert_eq!(text(&kas402(gateway, &["claim", "--all"]).await), "nothing to claim\n");
    let mut channels = Vec::new();
    for seed in [1, 2] {
        let mut channel = Channel::open(&world.devnet, &ask, gateway, &Wallet::new(seed), 10 * KAS).await;
        for _ in 0..seed {
            channel.buy(&ask, &gateway.url()).await;
        }
        channels.push(channel);
    }
    let [first, second] = &channels[..] else { unreachable!() };
    let listed = text(&kas402(gateway, &["channels", "list"]).await);
    let lines: Vec<&str> = listed.lines().collect();
    for (line, channel) in lines[1..].iter().zip(&channels) {
        assert!(line.contains(&channel.id().to_string()[..12]) && line.contains("later, fee"), "{listed}");
    }
    let views = json(gateway, &["channels", "list", "--json"]).await;
    assert_eq!(views.as_array().unwrap().iter().map(|view| number(&view["unclaimed"])).sum::<u64>(), first.active() + second.active());

    let id = first.id().to_string();
    let shown = text(&kas402(gateway, &["channels", "show", &id[..9]]).await);
    assert!(shown.contains(&id) && shown.contains("10 KAS"), "{shown}");
    assert_eq!(json(gateway, &["channels", "show", &id, "--json"]).await["channel"], id.as_str());
    let unknown = kas402(gateway, &["channels", "show", &"9".repeat(64)]).await;
    assert_eq!(unknown.status.code(), Some(1), "{unknown:?}");
    assert_eq!(kas402(gateway, &["claim"]).await.status.code(), Some(2), "whose?");

    let planned = json(gateway, &["claim", "--all", "--dry-run", "--json"]).await;
    assert_eq!(planned.as_array().unwrap().len(), 2, "{planned}");
    assert!(planned[0]["moves"].as_array().unwrap().is_empty());
    let claimed = json(gateway, &["claim", &id[..9], "--json"]).await;
    let claim = &claimed[0]["claim"];
    assert_eq!((number(&claim["takes"]), &claim["taken"]), (first.active(), &Value::Bool(true)), "{claimed}");
    let again = kas402(gateway, &["claim", &id]).await;
    assert_eq!(again.status.code(), Some(1), "on its way, or nothing is owed: {again:?}");
    let all = text(&kas402(gateway, &["claim", "--all"]).await);
    assert!(all.contains(&second.id().to_string()[..12]) && !all.contains(&id[..12]), "{all}");
    world.gateway.until("claimed", async || number(&world.gateway.status().await["channels"]["unclaimedSompi"]) == 0).await;

    // Without a gateway the store tells the same, but for what only a node knows.
    let before = json(&world.gateway, &["channels", "show", &id, "--json"]).await;
    world.gateway.kill().await;
    let after = json(&world.gateway, &["channels", "show", &id, "--json"]).await;
    assert!(before["daaScore"].is_number() && after["daaScore"].is_null());
    for same in ["channel", "phase", "outpoint", "funding", "charged", "claimed", "charges"] {
        assert_eq!(before[same], after[same], "{same}");
    }
    assert!(text(&kas402(&world.gateway, &["channels", "list"]).await).contains("at DAA "));
    let refused = kas402(&world.gateway, &["claim", "--all"]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no gateway listens"), "{refused:?}");
}
