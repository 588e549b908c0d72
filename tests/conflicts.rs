//! Double spends: whatever a payer signs, one coin buys one resource, and what a reorg takes back is seen.

mod support;

use support::{
    devnet::{Coin, Devnet, KAS, Wallet},
    gateway::World,
    patience::{Payment, caught_up, in_mempool, number, rival},
    pay::Ask,
};

const ROUTES: &str =
    "  - {path: \"/paid/{*rest}\", price: 0.25 KAS}\n  - {path: \"/deep/{*rest}\", price: 0.25 KAS, finality: {confirmed: 10}}";
const MORE: &str = "defaults: {settle_wait_seconds: 2}\nlimits: {final_depth: 30}";
const PRICE: u64 = KAS / 4;

/// Two payments with one coin, for two requests. The second pays another fee, so that it is another transaction.
async fn two_payments(world: &World, payer: &Wallet, coin: &Coin, name: &str) -> [Payment; 2] {
    let url = world.gateway.url();
    let left = Payment::prepare(Ask::get(&format!("/paid/{name}/left")), &url, payer, std::slice::from_ref(coin)).await;
    let right = Ask::get(&format!("/paid/{name}/right"));
    let accepted = Payment::offer(&right, &url).await;
    let output = left.transaction.outputs[0].clone();
    let right = Payment::with(right, &accepted, payer.build(std::slice::from_ref(coin), vec![output], 150));
    assert_ne!(left.txid(), right.txid());
    [left, right]
}

#[tokio::test]
async fn two_conflicting_payments_release_exactly_one_resource() {
    let world = World::start(ROUTES, MORE).await;
    let payer = Wallet::new(1);
    let coins = world.devnet.fund(&payer, 10 * KAS, 3).await;
    let url = world.gateway.url();
    let mut losers = Vec::new();
    for (round, coin) in coins.iter().enumerate() {
        let [left, right] = two_payments(&world, &payer, coin, &round.to_string()).await;
        let (first, second) = tokio::join!(left.send(&url), right.send(&url));
        let (loser, lost) = match (first.status, second.status) {
            (200, 503) => (right, second),
            (503, 200) => (left, first),
            _ => panic!("{first:?} {second:?}"),
        };
        assert_eq!(lost.code(), "settlement_pending");
        loser.asks_for_no_money(&lost);
        losers.push(loser);
    }
    for loser in &losers {
        let refused = loser.until_refused(&world.gateway, "invalid_kaspa_exact_conflicting_spend").await;
        assert_eq!(refused.status, 402);
        assert!(refused.required().is_some(), "nothing of the loser has moved: it may pay anew");
        assert_eq!(world.upstream.count(&loser.ask.target), 0, "{}", loser.ask.target);
    }
    assert_eq!(world.upstream.seen().len(), coins.len());
    // The answer may be a moment ahead of the books.
    world.gateway.until("closed", async || number(&world.gateway.payments().await, "pending") == 0).await;
    let payments = world.gateway.payments().await;
    let found = ["delivered", "pending", "settled", "chargedSompi", "reversedSompi"].map(|name| number(&payments, name));
    assert_eq!(found, [3, 0, 0, 3 * PRICE, 0], "{payments}");
}

/// Two nodes that no longer hear each other and mine only when told; the gateway is on node 0.
async fn split_world(payer: &Wallet) -> (World, Vec<Coin>) {
    let world = World::over(Devnet::start(2, 10.0).await, ROUTES, MORE).await;
    let coins = world.devnet.fund(payer, 10 * KAS, 3).await;
    world.devnet.set_rate(0, 0.0).await;
    world.devnet.partition().await;
    (world, coins)
}

/// The branch of node 1 wins.
async fn reorganise(world: &World) {
    world.devnet.mine(1, 20).await;
    world.devnet.rejoin().await;
    // The next block merges the other branch and says what of it still counts.
    world.devnet.mine(0, 2).await;
    caught_up(world).await;
}

#[tokio::test]
async fn a_payment_taken_back_by_a_reorg_while_its_request_waits_releases_nothing() {
    let payer = Wallet::new(1);
    let (world, coins) = split_world(&payer).await;
    let url = world.gateway.url();
    let lost = Payment::prepare(Ask::get("/deep/lost"), &url, &payer, &coins[..1]).await;
    let kept = Payment::prepare(Ask::get("/deep/kept"), &url, &payer, &coins[1..2]).await;

    let send = |payment: &Payment| {
        let (payment, url) = (payment.clone(), url.clone());
        tokio::spawn(async move { payment.send(&url).await })
    };
    let waiting = [send(&lost), send(&kept)];
    in_mempool(&world.devnet, 0, &lost.txid()).await;
    in_mempool(&world.devnet, 0, &kept.txid()).await;
    world.devnet.mine(0, 5).await;
    caught_up(&world).await;
    assert_eq!(world.upstream.seen().len(), 0, "accepted, but not deep enough");
    assert_eq!(number(&world.gateway.payments().await, "pending"), 2);

    world.devnet.submit(1, &rival(&payer, &coins[..1])).await.unwrap();
    reorganise(&world).await;
    for request in waiting {
        let answer = request.await.unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (503, "settlement_pending"), "{answer:?}");
    }
    assert!(world.gateway.log().contains("acceptance taken back by a reorg"), "{}", world.gateway.log());

    world.devnet.mine(0, 45).await;
    caught_up(&world).await;
    // The reorg alone takes nothing away: without a conflicting spend the payment is accepted again.
    assert_eq!(kept.until_served(&world.gateway, &payer).await.status, 200);
    let refused = lost.until_refused(&world.gateway, "invalid_kaspa_exact_conflicting_spend").await;
    assert_eq!(refused.status, 402);
    assert_eq!((world.upstream.count("/deep/lost"), world.upstream.count("/deep/kept")), (0, 1));
    let payments = world.gateway.payments().await;
    let found = ["delivered", "chargedSompi", "reversedSompi"].map(|name| number(&payments, name));
    assert_eq!(found, [1, PRICE, 0], "what was never charged is not a loss: {payments}");
}

#[tokio::test]
async fn a_delivered_payment_that_a_reorg_takes_away_is_booked_reversed() {
    let payer = Wallet::new(1);
    let (world, coins) = split_world(&payer).await;
    let url = world.gateway.url();
    let lost = Payment::prepare(Ask::get("/paid/lost"), &url, &payer, &coins[..1]).await;
    let kept = Payment::prepare(Ask::get("/paid/kept"), &url, &payer, &coins[1..2]).await;
    let served = async |payment: &Payment| {
        let (sent, ()) = tokio::join!(payment.send(&url), async {
            in_mempool(&world.devnet, 0, &payment.txid()).await;
            world.devnet.mine(0, 3).await;
        });
        assert_eq!(sent.status, 200, "{sent:?}");
    };
    served(&lost).await;
    served(&kept).await;

    world.devnet.submit(1, &rival(&payer, &coins[..1])).await.unwrap();
    reorganise(&world).await;
    let payments = world.gateway.payments().await;
    assert_eq!(["delivered", "reversed"].map(|name| number(&payments, name)), [2, 0], "not final yet: {payments}");

    world.devnet.mine(0, 45).await;
    world.gateway.until("reversed", async || number(&world.gateway.payments().await, "reversed") == 1).await;
    caught_up(&world).await;
    let payments = world.gateway.payments().await;
    let found = ["delivered", "reversed", "chargedSompi", "reversedSompi"].map(|name| number(&payments, name));
    assert_eq!(found, [1, 1, 2 * PRICE, PRICE], "{payments}");
    let (_, metrics) = world.gateway.admin("/metrics").await;
    assert!(metrics.contains("kas402_reversed_total 1\n"), "{metrics}");
    assert!(metrics.contains(&format!("kas402_reversed_sompi_total {PRICE}\n")), "{metrics}");
    let log = world.gateway.log();
    let line = log.lines().find(|line| line.contains("reversed by a conflicting spend")).unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("ERROR") && line.contains(&lost.txid()), "{line}");

    let again = lost.send(&url).await;
    assert_eq!((again.status, again.code().as_str()), (402, "invalid_kaspa_exact_conflicting_spend"), "{again:?}");
    assert_eq!(kept.send(&url).await.status, 200, "the stored response");
    assert_eq!(world.upstream.seen().len(), 2);
}
