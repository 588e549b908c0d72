//! An exact payment from offer to receipt, on a real node, through a real gateway process.

mod support;

use support::{
    devnet::{KAS, Wallet},
    gateway::World,
    pay::{Ask, prepare},
};

const ROUTES: &str = "  - {path: \"/paid/{*rest}\", price: 0.25 KAS}\n  - {path: \"/{*rest}\", free: true}";

#[tokio::test]
async fn a_payment_buys_its_request_once() {
    let world = World::start(ROUTES, "").await;
    let payer = Wallet::new(1);
    let coins = world.devnet.fund(&payer, 10 * KAS, 1).await;
    let url = world.gateway.url();
    let ask = Ask::get("/paid/report?n=1");

    let (transaction, header) = prepare(&ask, &url, &payer, &coins).await;
    let bought = ask.send(&url, Some(&header)).await;
    assert_eq!((bought.status, bought.text().as_str()), (200, "GET /paid/report?n=1 "), "{bought:?}");
    let receipt = bought.receipt().unwrap();
    assert_eq!(receipt["success"], true);
    assert_eq!(receipt["transaction"], transaction.id().to_string());
    assert_eq!(receipt["amount"], "25000000");
    assert_eq!(receipt["network"], "kaspa:simnet");
    assert_eq!(receipt["payer"], payer.address().to_string());
    assert_eq!(receipt["extensions"]["kaspa"]["finality"], "accepted");
    assert_eq!(bought.headers["cache-control"], "private, no-store");

    let again = ask.send(&url, Some(&header)).await;
    assert_eq!((again.status, again.text()), (200, bought.text()));
    assert_eq!(again.receipt(), bought.receipt());
    assert_eq!(again.headers.get("x-upstream"), bought.headers.get("x-upstream"));
    assert!(again.headers.get("set-cookie").is_none(), "cookies are not replayed");

    let other = Ask::get("/paid/other").send(&url, Some(&header)).await;
    assert_eq!((other.status, other.code().as_str()), (409, "invalid_kaspa_exact_replay"));

    assert!(other.required().is_none(), "no offer where money has moved");

    assert_eq!(world.upstream.count("/paid/report?n=1"), 1);
    let payments = world.gateway.payments().await;
    assert_eq!((payments["delivered"].as_u64(), payments["chargedSompi"].as_str()), (Some(1), Some("25000000")));
}
