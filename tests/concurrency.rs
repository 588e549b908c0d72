//! Many requests at once with one payment: one forward, one charge, one result for all.

mod support;

use std::{collections::HashSet, time::Duration};
use support::{
    devnet::{KAS, Wallet},
    gateway::{Gateway, World},
    patience::{Payment, charged_once},
    pay::{Answer, Ask},
};
use tokio::task::JoinSet;

const ROUTES: &str = "  - {path: \"/gate/{*rest}\", price: 0.25 KAS}";
const AT_ONCE: usize = 50;

/// Waits until the gateway has read what was sent on this many connections.
async fn connected(gateway: &Gateway, connections: usize) {
    let port = gateway.address().rsplit_once(':').unwrap().1.parse::<u16>().unwrap();
    let read = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, local, _, state, queues, ..] = fields[..] else { return false };
        local.ends_with(&format!(":{port:04X}")) && state == "01" && queues.ends_with(":00000000")
    };
    let table = || std::fs::read_to_string("/proc/net/tcp").unwrap();
    gateway.until("connected", async || table().lines().filter(read).count() >= connections).await;
    // The last request may be between the kernel and the parser; the proof below does not depend on it.
    tokio::time::sleep(Duration::from_millis(50)).await; // why: a parser has no event to show
}

/// Sends all at once; the gate opens when all of them wait.
async fn send_all(world: &World, payments: impl Iterator<Item = Payment>) -> Vec<Answer> {
    let mut requests = JoinSet::new();
    for payment in payments {
        let url = world.gateway.url();
        requests.spawn(async move { payment.send(&url).await });
    }
    connected(&world.gateway, AT_ONCE).await;
    world.upstream.arrived(1).await;
    world.upstream.open_gate();
    requests.join_all().await
}

#[tokio::test]
async fn fifty_requests_with_one_payment_are_forwarded_and_charged_once() {
    let world = World::start(ROUTES, "").await;
    let payer = Wallet::new(1);
    let coins = world.devnet.fund(&payer, 10 * KAS, 1).await;
    let payment = Payment::prepare(Ask::get("/gate/report"), &world.gateway.url(), &payer, &coins).await;
    let answers = send_all(&world, std::iter::repeat_n(payment, AT_ONCE)).await;
    let results: HashSet<_> = answers.iter().map(|a| (a.status, a.text(), a.headers["payment-response"].clone())).collect();
    assert_eq!(results.len(), 1, "{results:?}");
    assert!(answers.iter().all(|answer| answer.status == 200), "{results:?}");
    assert_eq!(answers.len(), AT_ONCE);
    assert_eq!(world.upstream.seen().len(), 1);
    charged_once(&world.gateway, KAS / 4).await;
}

#[tokio::test]
async fn fifty_requests_for_two_resources_with_one_transaction_get_only_one_of_them() {
    let world = World::start(ROUTES, "").await;
    let payer = Wallet::new(1);
    let coins = world.devnet.fund(&payer, 10 * KAS, 1).await;
    let url = world.gateway.url();
    let one = Payment::prepare(Ask::get("/gate/one"), &url, &payer, &coins).await;
    let other = Ask::get("/gate/other");
    let accepted = Payment::offer(&other, &url).await;
    let other = Payment::with(other, &accepted, one.transaction.clone());
    let answers = send_all(&world, (0..AT_ONCE).map(|n| if n % 2 == 0 { one.clone() } else { other.clone() })).await;

    let served: HashSet<_> = answers.iter().filter(|answer| answer.status == 200).map(Answer::text).collect();
    assert_eq!(served.len(), 1, "{served:?}");
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), AT_ONCE / 2);
    for refused in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!((refused.status, refused.code().as_str()), (409, "invalid_kaspa_exact_replay"), "{refused:?}");
        one.asks_for_no_money(refused);
    }
    assert_eq!(world.upstream.seen().len(), 1);
    charged_once(&world.gateway, KAS / 4).await;
}
