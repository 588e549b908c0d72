//! The API behind the gateway fails after the payment: the receipt is sent, and the payment stays good.

mod support;

use support::{
    devnet::{KAS, Wallet},
    gateway::World,
    patience::{Payment, number, offers_over},
    pay::Ask,
};

const ROUTES: &str = "  - {path: \"/flaky/{*rest}\", price: 0.25 KAS, timeout_seconds: 1, offer_seconds: 1}\n  - {path: \"/status/{code}\", price: 0.25 KAS}";
const PRICE: u64 = KAS / 4;

/// Pays for `/flaky/{how}`; the upstream fails, and the answer says so with a receipt of success.
async fn fails(world: &World, payer: &Wallet, coins: &[support::devnet::Coin], how: &str, status: u16, code: &str) -> Payment {
    let url = world.gateway.url();
    let payment = Payment::prepare(Ask::post(&format!("/flaky/{how}"), "the same body"), &url, payer, coins).await;
    let answer = payment.send(&url).await;
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{how}: {answer:?}");
    assert!(answer.required().is_none(), "{how}: {answer:?}");
    let receipt = answer.receipt().unwrap();
    assert_eq!((&receipt["success"], &receipt["transaction"]), (&true.into(), &payment.txid().into()), "{how}: {answer:?}");
    assert_eq!(receipt["amount"], PRICE.to_string());
    payment
}

#[tokio::test]
async fn what_an_upstream_failed_to_deliver_is_delivered_later_for_the_same_payment() {
    let mut world = World::start(ROUTES, "").await;
    let payer = Wallet::new(1);
    let coins = world.devnet.fund(&payer, 10 * KAS, 6).await;
    world.upstream.stop();
    let mut payments = vec![fails(&world, &payer, &coins[..1], "refuse", 502, "upstream_failed").await];
    world.upstream.start_again().await;
    let (hang, breaks, five, busy) = tokio::join!(
        fails(&world, &payer, &coins[1..2], "hang", 504, "upstream_timeout"),
        fails(&world, &payer, &coins[2..3], "break", 502, "upstream_failed"),
        fails(&world, &payer, &coins[3..4], "500", 500, "-"),
        fails(&world, &payer, &coins[4..5], "503", 503, "-"),
    );
    payments.extend([hang, breaks, five, busy]);
    let books = async || {
        let books = world.gateway.payments().await;
        ["settled", "delivered", "chargedSompi", "owedSompi"].map(|name| number(&books, name))
    };
    assert_eq!(books().await, [5, 0, 5 * PRICE, 5 * PRICE], "charged, and owed");

    // Paid for the time being: the age of an offer does not matter any more.
    let probe = Payment::prepare(Ask::get("/flaky/probe"), &world.gateway.url(), &payer, &coins[5..]).await;
    offers_over(&world.gateway, &probe).await;
    world.upstream.open_gate();
    for (n, payment) in payments.iter().enumerate() {
        let served = payment.send(&world.gateway.url()).await;
        let target = &payment.ask.target;
        assert_eq!((served.status, served.text()), (200, format!("POST {target} the same body")), "{served:?}");
        let again = payment.send(&world.gateway.url()).await;
        assert_eq!((again.status, again.text(), again.receipt()), (200, served.text(), served.receipt()), "{again:?}");

        let tries: Vec<_> = world.upstream.seen().into_iter().filter(|seen| seen.target == *target).collect();
        assert_eq!(tries.len(), if n == 0 { 1 } else { 2 }, "{target}: one forward per try, none for the replay");
        for seen in &tries {
            assert_eq!(seen.headers["idempotency-key"], format!("kas402-{}", payment.txid()));
            assert_eq!(seen.body, "the same body");
        }
    }
    assert_eq!(books().await, [0, 5, 5 * PRICE, 0], "no new charge");
    assert_eq!(world.upstream.count("/flaky/probe"), 0);
}

#[tokio::test]
async fn an_answer_below_500_is_a_delivery_and_is_not_asked_for_again() {
    let world = World::start(ROUTES, "").await;
    let (payer, url) = (Wallet::new(1), world.gateway.url());
    let coins = world.devnet.fund(&payer, 10 * KAS, 1).await;
    let payment = Payment::prepare(Ask::get("/status/404"), &url, &payer, &coins).await;
    for _ in 0..2 {
        let answer = payment.send(&url).await;
        assert_eq!((answer.status, answer.text().as_str()), (404, "status 404"), "{answer:?}");
        assert_eq!(answer.receipt().unwrap()["success"], true);
    }
    assert_eq!(world.upstream.count("/status/404"), 1);
    support::patience::charged_once(&world.gateway, PRICE).await;
}
