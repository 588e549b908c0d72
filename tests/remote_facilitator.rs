//! A gateway without a node and without a server key, whose payments another gateway's facilitator settles; and what happens when answers between the two are lost.

mod support;

use support::{
    devnet::{KAS, Wallet},
    edge::Both,
    patience::number,
    pay::{Ask, encode, message, prepare, transaction},
};

const PRICE: u64 = 25_000_000;
const ROUTES: &str =
    "  - {path: \"/paid/{*rest}\", price: 0.25 KAS}\n  - {path: \"/other/{*rest}\", price: 0.25 KAS}\n  - {path: \"/{*rest}\", free: true}";

impl Both {
    async fn start(settle_wait_seconds: u64) -> Self {
        Self::of("", "", ROUTES, settle_wait_seconds).await
    }

    async fn coins(&self, payer: &Wallet, count: u64) -> Vec<support::devnet::Coin> {
        self.hub.devnet.fund(payer, 10 * KAS, count).await
    }

    /// Both ledgers have charged this many payments.
    async fn charged(&self, count: u64) {
        for gateway in [&self.hub.gateway, &self.edge] {
            let payments = gateway.payments().await;
            assert_eq!(payments["chargedSompi"], (count * PRICE).to_string(), "{payments}");
        }
    }
}

#[tokio::test]
async fn a_gateway_without_a_node_sells_through_another() {
    let both = Both::start(30).await;
    let (payer, url) = (Wallet::new(1), both.edge.url());
    let coins = both.coins(&payer, 3).await;
    let ask = Ask::get("/paid/report");
    let (paid, header) = prepare(&ask, &url, &payer, &coins[..1]).await;
    let bought = ask.send(&url, Some(&header)).await;
    assert_eq!((bought.status, bought.text().as_str()), (200, "GET /paid/report "), "{bought:?}");
    let receipt = bought.receipt().unwrap();
    assert_eq!((&receipt["success"], &receipt["transaction"]), (&true.into(), &paid.id().to_string().into()));
    assert_eq!(receipt["payer"], payer.address().to_string());
    // Told again from the edge's own store.
    assert_eq!(ask.send(&url, Some(&header)).await.text(), bought.text());
    assert_eq!(both.hub.upstream.count("/paid/report"), 1);
    both.charged(1).await;
    let shown = both.hub.gateway.command().args(["payments", "list", "--json", "--config", "kas402.yaml"]).output().await.unwrap();
    assert!(String::from_utf8_lossy(&shown.stdout).contains("facilitator:edge"), "{shown:?}");

    // One payment, one request.
    let other = Ask::get("/other/report").send(&url, Some(&header)).await;
    assert!(
        other.status != 200
            && other.required().is_none_or(|required| required["accepts"].as_array().is_none_or(Vec::is_empty) || other.status == 402)
    );
    assert_eq!(both.hub.upstream.count("/other/report"), 0);
    let moved = Ask::get("/other/report");
    let accepted = moved.send(&url, None).await.offer();
    let refused = moved.send(&url, Some(&encode(&message(&moved, &accepted, &paid)))).await;
    assert_eq!((refused.status, refused.code().as_str()), (409, "invalid_kaspa_exact_replay"), "{refused:?}");

    // What the node proves invalid has not moved: a fresh offer.
    let accepted = ask.send(&url, None).await.offer();
    let mut forged = transaction(&payer, &coins[1..2], &accepted);
    forged.inputs[0].signature_script[10] ^= 1;
    let refused = ask.send(&url, Some(&encode(&message(&ask, &accepted, &forged)))).await;
    assert_eq!((refused.status, refused.code().as_str()), (402, "invalid_kaspa_exact_transaction_rejected"), "{refused:?}");
    assert!(refused.required().is_some());
    let good = transaction(&payer, &coins[1..2], &accepted);
    let bought = ask.send(&url, Some(&encode(&message(&ask, &accepted, &good)))).await;
    assert_eq!(bought.status, 200, "{bought:?}");
    both.charged(2).await;
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_and_nobody_pays_twice() {
    let both = Both::start(30).await;
    let (payer, url) = (Wallet::new(1), both.edge.url());
    let coins = both.coins(&payer, 1).await;
    let ask = Ask::get("/paid/report");
    let (_, header) = prepare(&ask, &url, &payer, &coins).await;
    both.line.lose(2);
    let bought = ask.send(&url, Some(&header)).await;
    assert_eq!(bought.status, 200, "{bought:?}");
    assert_eq!(both.line.lost(), 2);
    both.charged(1).await;
}

#[tokio::test]
async fn a_gateway_that_never_learned_of_its_settlement_resumes_it_after_a_crash() {
    let mut both = Both::start(2).await;
    let (payer, url) = (Wallet::new(1), both.edge.url());
    let coins = both.coins(&payer, 1).await;
    let ask = Ask::get("/paid/report");
    let (_, header) = prepare(&ask, &url, &payer, &coins).await;
    both.line.lose(-1);
    let pending = ask.send(&url, Some(&header)).await;
    assert_eq!((pending.status, pending.code().as_str()), (503, "settlement_pending"), "{pending:?}");
    assert!(pending.required().is_none() && pending.headers.contains_key("retry-after"), "{pending:?}");
    let delivered = async || number(&both.hub.gateway.payments().await, "delivered") == 1;
    both.hub.gateway.until("settled at the hub", delivered).await;
    assert_eq!(both.hub.upstream.count("/paid/report"), 0, "nothing is forwarded before the edge knows");
    both.edge.restart().await;
    both.line.lose(0);
    let bought = ask.send(&both.edge.url(), Some(&header)).await;
    assert_eq!((bought.status, bought.text().as_str()), (200, "GET /paid/report "), "{bought:?}");
    both.charged(1).await;
    assert_eq!(both.hub.upstream.count("/paid/report"), 1);
}

#[tokio::test]
async fn without_its_facilitator_the_edge_offers_nothing_and_serves_what_is_free() {
    let mut both = Both::start(30).await;
    both.hub.gateway.kill().await;
    both.edge.not_ready().await;
    let url = both.edge.url();
    let refused = Ask::get("/paid/report").send(&url, None).await;
    assert_eq!((refused.status, refused.required()), (503, None), "{refused:?}");
    assert_eq!(Ask::get("/free").send(&url, None).await.status, 200);
}
