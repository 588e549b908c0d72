//! kill -9 of the gateway at every step of a channel: afterwards the books of client, gateway and chain agree to the sompi.

mod support;

use support::{
    channel::{Channel, SETTINGS, batch_of, message, new_identifier, number, until_answered},
    devnet::{Devnet, KAS, Wallet},
    gateway::{Gateway, yaml},
    patience::balance,
    pay::{Answer, Ask},
    upstream::Upstream,
};

const ROUTES: &str = "  - {path: \"/events/{*rest}\", scheme: batch-settlement, price: 0.01 KAS, min_deposit: 2 KAS,\n     charge: {bytes: true, unit_price: 1000 sompi, per: 1, on_unknown: ceiling}}\n  - {path: \"/{*rest}\", scheme: batch-settlement, price: 0.01 KAS, min_deposit: 2 KAS}";
const CEILING: u64 = KAS / 100;
const DEPOSIT: u64 = 5 * KAS;

/// A gateway with a seller of its own, and a client.
struct Shop {
    devnet: std::sync::Arc<Devnet>,
    gateway: Gateway,
    upstream: Upstream,
    seller: Wallet,
    client: Wallet,
}

impl Shop {
    async fn start(devnet: &std::sync::Arc<Devnet>, seed: u8, crash: &str) -> Self {
        let (upstream, seller, client) = (Upstream::start().await, Wallet::new(100 + seed), Wallet::new(seed));
        let mut gateway = Gateway::prepare(&yaml(&devnet.wrpc, &seller, &upstream.url(), ROUTES, SETTINGS)).await;
        gateway.run(&[("KAS402_CRASH", crash)]).await;
        gateway.ready().await;
        Self { devnet: devnet.clone(), gateway, upstream, seller, client }
    }

    /// Sells under the crash that is set; the connection dies with the process, which starts again in health.
    async fn dies(&mut self, ask: &Ask, header: &str) {
        let cut = ask.try_send(&self.gateway.url(), Some(header)).await;
        // The head of a stream may have been sent; its end never was.
        assert!(cut.as_ref().map_or(true, |answer| !answer.text().contains("payment-response")), "{cut:?}");
        self.gateway.died().await;
        self.again(&[]).await;
    }

    async fn again(&mut self, environment: &[(&str, &str)]) {
        self.gateway.run(environment).await;
        self.gateway.ready().await;
    }

    async fn restart(&mut self, crash: &str) {
        self.gateway.kill().await;
        self.again(&[("KAS402_CRASH", crash)]).await;
    }

    /// Client, store and chain say the same.
    async fn agrees(&self, channel: &Channel, what: &str) {
        let sums = self.gateway.status().await["channels"].clone();
        let [charged, claimed, active, funded] =
            ["chargedSompi", "claimedSompi", "unclaimedSompi", "fundedSompi"].map(|name| number(&sums[name]));
        assert_eq!((charged, claimed, active), (channel.charged, channel.claimed, channel.active()), "{what}: {sums}");
        assert_eq!(funded, channel.funding, "{what}: {sums}");
        let held = self.devnet.get(&format!("/address/{}/utxos?node=0", channel.script.address())).await;
        let held: u64 = held["utxos"].as_array().unwrap().iter().map(|utxo| utxo["sompi"].as_u64().unwrap()).sum();
        assert_eq!(held, channel.funding, "{what}");
    }

    async fn open(&self, ask: &Ask) -> Channel {
        Channel::open(&self.devnet, ask, &self.gateway, &self.client, DEPOSIT).await
    }

    async fn claimed(&self) {
        self.gateway.until("claimed", async || number(&self.gateway.status().await["channels"]["unclaimedSompi"]) == 0).await;
    }
}

/// Opening and plain requests: the same header ends it.
async fn a_request_dies(devnet: &std::sync::Arc<Devnet>, seed: u8, point: &str) {
    let mut shop = Shop::start(devnet, seed, point).await;
    let ask = Ask::get("/echo/report");
    let (mut channel, accepted) = Channel::prepare(devnet, &ask, &shop.gateway.url(), &shop.client, DEPOSIT).await;
    let header = channel.depositing(&accepted);
    shop.dies(&ask, &header).await;
    let answer = until_answered(&ask, &shop.gateway, &header).await;
    channel.served(&answer);
    assert_eq!(answer.text(), "GET /echo/report ");
    let again = until_answered(&ask, &shop.gateway, &header).await;
    assert_eq!((again.status, again.body), (200, answer.body), "{point}");
    channel.buy(&ask, &shop.gateway.url()).await;
    assert_eq!(channel.charged, 2 * CEILING, "{point}");
    shop.agrees(&channel, point).await;
    assert!(shop.upstream.count("/echo/report") <= 3, "{point}: at most one more forward");
}

/// A stream that is cut: charged at most its ceiling, once, and the client learns it.
async fn a_stream_dies(devnet: &std::sync::Arc<Devnet>, seed: u8, point: &str) {
    let mut shop = Shop::start(devnet, seed, "").await;
    let mut channel = shop.open(&Ask::get("/echo/open")).await;
    shop.restart(point).await;
    let ask = Ask::get("/events/5");
    let accepted = batch_of(&ask.send(&shop.gateway.url(), None).await);
    let header = channel.paying(&accepted);
    shop.dies(&ask, &header).await;
    // The same header again: the charge of the stream that was cut, never another.
    let answer = until_answered(&ask, &shop.gateway, &header).await;
    assert!(matches!(answer.status, 200 | 410), "{point}: {answer:?}");
    let charge = channel.read(&answer.receipt().expect("a receipt"));
    assert!(charge <= CEILING, "{point}");
    assert_eq!(shop.upstream.count("/events/5"), 1, "{point}");
    shop.agrees(&channel, point).await;
    channel.renewed = None;
    channel.buy(&Ask::get("/echo/on"), &shop.gateway.url()).await;
    shop.agrees(&channel, point).await;
}

async fn spent_some(shop: &Shop) -> Channel {
    let ask = Ask::get("/echo/some");
    let mut channel = shop.open(&ask).await;
    for _ in 0..49 {
        channel.buy(&ask, &shop.gateway.url()).await;
    }
    channel
}

/// A claim is seen through, and the client follows it.
async fn a_claim_dies(devnet: &std::sync::Arc<Devnet>, seed: u8, point: &str) {
    let mut shop = Shop::start(devnet, seed, "").await;
    let mut channel = spent_some(&shop).await;
    let owed = channel.active();
    shop.restart(point).await;
    let _ = shop.gateway.command().args(["claim", &channel.id().to_string()]).output().await.unwrap();
    shop.gateway.died().await;
    shop.again(&[]).await;
    shop.claimed().await;
    channel.renewed = None;
    channel.buy_through_claims(&Ask::get("/echo/on"), &shop.gateway.url()).await;
    assert_eq!(channel.claimed, owed, "{point}");
    shop.agrees(&channel, point).await;
    let paid = balance(devnet, &shop.seller).await;
    assert!(paid < owed && paid > owed - KAS / 10, "{point}: {paid} of {owed}");
}

/// A top-up is seen through under its own header.
async fn a_top_up_dies(devnet: &std::sync::Arc<Devnet>, seed: u8, point: &str) {
    let mut shop = Shop::start(devnet, seed, "").await;
    let mut channel = spent_some(&shop).await;
    let owed = channel.active();
    shop.restart(point).await;
    let ask = Ask::get("/echo/more");
    let coins = devnet.fund(&shop.client, 7 * KAS, 1).await;
    let (transaction, continuation, funding) = channel.top_up(&shop.client, &coins[0]);
    let accepted = batch_of(&ask.send(&shop.gateway.url(), None).await);
    let payload = channel.deposit_payload(Some(&transaction), continuation, funding, CEILING);
    let header = message(&accepted, &payload, &new_identifier());
    shop.dies(&ask, &header).await;
    let answer: Answer = until_answered(&ask, &shop.gateway, &header).await;
    channel = Channel { outpoint: continuation, funding, claimed: owed, ..channel };
    channel.served(&answer);
    shop.agrees(&channel, point).await;
}

#[tokio::test]
async fn requests_and_streams_killed_at_any_moment_are_charged_once() {
    let devnet = std::sync::Arc::new(Devnet::start(1, 10.0).await);
    tokio::join!(
        a_request_dies(&devnet, 1, "channel_opened"),
        a_request_dies(&devnet, 2, "channel_answered"),
        a_request_dies(&devnet, 3, "channel_charged"),
        a_stream_dies(&devnet, 4, "stream_reserved"),
        a_stream_dies(&devnet, 5, "stream_ended"),
    );
}

#[tokio::test]
async fn claims_and_top_ups_killed_at_any_moment_are_seen_through() {
    let devnet = std::sync::Arc::new(Devnet::start(1, 10.0).await);
    tokio::join!(
        a_claim_dies(&devnet, 1, "claim_built"),
        a_claim_dies(&devnet, 2, "claim_submitted"),
        a_claim_dies(&devnet, 3, "claim_accepted"),
        a_top_up_dies(&devnet, 4, "top_up_built"),
        a_top_up_dies(&devnet, 5, "top_up_submitted"),
    );
}
