//! Channels end to end: a real node, a real gateway process, a client with its own books.

mod support;

use kas402::protocol::ids::Outpoint;
use serde_json::Value;
use std::sync::Arc;
use support::{
    channel::{Channel, SETTINGS, batch_of, message, new_identifier, number, settings, until_answered},
    devnet::{Devnet, KAS, Wallet},
    gateway::{Gateway, World, yaml},
    pay::Ask,
};

const ROUTES: &str = r#"  - {path: "/paid/{*rest}", scheme: batch-settlement, price: 0.01 KAS, min_deposit: 2 KAS}
  - {path: "/events/{*rest}", scheme: batch-settlement, price: 0.01 KAS, min_deposit: 2 KAS, charge: {bytes: true, unit_price: 1000 sompi}}
  - {path: "/{*rest}", free: true}"#;
const CEILING: u64 = KAS / 100;

async fn world() -> World {
    World::start(ROUTES, SETTINGS).await
}

/// The store's sums over channels, as the admin socket tells them.
async fn totals(gateway: &Gateway) -> Value {
    gateway.status().await["channels"].clone()
}

#[tokio::test]
async fn a_channel_is_opened_charged_and_known_again_after_kill_9() {
    let mut world = world().await;
    let ask = Ask::get("/paid/report");
    let wallet = Wallet::new(1);
    let mut channel = Channel::open(&world.devnet, &ask, &world.gateway, &wallet, 5 * KAS).await;
    for _ in 0..5 {
        let answer = channel.buy(&ask, &world.gateway.url()).await;
        assert_eq!(answer.text(), "GET /paid/report ");
    }
    assert_eq!(channel.charged, 6 * CEILING);

    // The same header twice is one charge; another identifier under the same offer is refused.
    let accepted = channel.offer(&ask, &world.gateway.url()).await;
    let voucher = channel.active() + CEILING;
    let header = channel.paying_exactly(&accepted, voucher, "the-same-identifier");
    let first = ask.send(&world.gateway.url(), Some(&header)).await;
    channel.served(&first);
    let again = ask.send(&world.gateway.url(), Some(&header)).await;
    assert_eq!((again.status, again.body.clone()), (200, first.body.clone()));
    let other = channel.paying_exactly(&accepted, voucher, &new_identifier());
    let refused = ask.send(&world.gateway.url(), Some(&other)).await;
    assert_eq!((refused.status, refused.code().as_str()), (409, "offer_reused"));
    assert_eq!(world.upstream.count("/paid/report"), 7);

    world.gateway.restart().await;
    let replayed = ask.send(&world.gateway.url(), Some(&header)).await;
    assert_eq!((replayed.status, replayed.body), (200, first.body));
    channel.renewed = None;
    channel.buy(&ask, &world.gateway.url()).await;
    let totals = totals(&world.gateway).await;
    assert_eq!((totals["open"].as_u64(), number(&totals["chargedSompi"])), (Some(1), 8 * CEILING), "{totals}");
}

#[tokio::test]
async fn one_outpoint_is_one_channel_under_many_salts() {
    let world = world().await;
    let (ask, wallet) = (Ask::get("/paid/salts"), Wallet::new(2));
    let (channel, accepted) = Channel::prepare(&world.devnet, &ask, &world.gateway.url(), &wallet, 5 * KAS).await;
    let url = world.gateway.url();
    let headers = (0..16u8).map(|salt| {
        let mut channel = channel.clone();
        channel.config.salt.0[31] = salt;
        channel.depositing(&accepted)
    });
    let sent = headers.map(|header| {
        let (ask, url) = (ask.clone(), url.clone());
        tokio::spawn(async move { ask.send(&url, Some(&header)).await })
    });
    let mut served = 0;
    for sent in sent.collect::<Vec<_>>() {
        let answer = sent.await.unwrap();
        match answer.status {
            200 => served += 1,
            409 => assert_eq!(answer.code(), "outpoint_in_use"),
            _ => panic!("{answer:?} {}", answer.text()),
        }
    }
    assert_eq!((served, world.upstream.count("/paid/salts")), (1, 1));
    // Another output under the living script is refused.
    let mut second = channel.clone();
    let coins = world.devnet.fund(&wallet, 6 * KAS, 1).await;
    second.deposit = wallet.pay(&coins, channel.script.script_public_key(), 5 * KAS);
    second.outpoint = Outpoint { txid: second.deposit.id().into(), index: 0 };
    let accepted = batch_of(&ask.send(&url, None).await);
    let answer = ask.send(&url, Some(&second.depositing(&accepted))).await;
    assert!(matches!(answer.code().as_str(), "script_in_use" | "invalid_kaspa_escrow_refund_timeout"), "{answer:?} {}", answer.text());
}

/// Two gateways over one store: whichever is asked, an outpoint is one channel, and a channel is charged by one at a time.
#[tokio::test]
async fn two_gateways_on_one_store_are_one_seller() {
    let world = world().await;
    let yaml = yaml(&world.devnet.wrpc[..1], &world.seller, &world.upstream.url(), ROUTES, SETTINGS);
    let other = world.gateway.sibling("other", &yaml).await;
    let (ask, wallet, urls) = (Ask::get("/paid/two"), Wallet::new(7), [world.gateway.url(), other.url()]);
    let (base, accepted) = Channel::prepare(&world.devnet, &ask, &urls[0], &wallet, 5 * KAS).await;
    let sent: Vec<_> = (0..16u8)
        .map(|salt| {
            let mut channel = base.clone();
            channel.config.salt.0[31] = salt;
            let (ask, url, header) = (ask.clone(), urls[usize::from(salt % 2)].clone(), channel.depositing(&accepted));
            tokio::spawn(async move { (channel, ask.send(&url, Some(&header)).await) })
        })
        .collect();
    let mut opened = Vec::new();
    for sent in sent {
        let (channel, answer) = sent.await.unwrap();
        match answer.status {
            200 => opened.push((channel, answer)),
            409 => assert_eq!(answer.code(), "outpoint_in_use"),
            _ => panic!("{answer:?} {}", answer.text()),
        }
    }
    assert_eq!((opened.len(), world.upstream.count("/paid/two")), (1, 1));
    let (mut channel, answer) = opened.pop().unwrap();
    channel.served(&answer);

    // The other one finds the channel, its charges and its answers: at worst it is told by its first step that somebody
    // else was there, charges nothing, and answers the same header the next time.
    let gateways = [&world.gateway, &other];
    channel.renewed = None;
    for turn in 0..6 {
        let accepted = channel.offer(&ask, &urls[turn % 2]).await;
        let header = channel.paying(&accepted);
        let answer = until_answered(&ask, gateways[turn % 2], &header).await;
        channel.served(&answer);
        let again = until_answered(&ask, gateways[(turn + 1) % 2], &header).await;
        assert_eq!((again.status, again.body), (200, answer.body));
    }
    // The same voucher at both at once, for two requests: one is charged.
    let accepted = batch_of(&ask.send(&urls[0], None).await);
    let second = batch_of(&ask.send(&urls[0], None).await);
    let (first, second) = (channel.paying(&accepted), channel.paying(&second));
    let (at_one, at_other) = tokio::join!(ask.send(&urls[0], Some(&first)), ask.send(&urls[1], Some(&second)));
    let served: Vec<_> = [at_one, at_other].into_iter().filter(|answer| answer.status == 200).collect();
    assert_eq!(served.len(), 1);
    channel.served(&served[0]);
    let totals = totals(&other).await;
    assert_eq!((totals["charges"].as_u64(), number(&totals["chargedSompi"])), (Some(8), channel.charged), "{totals}");
}

#[tokio::test]
async fn a_claim_moves_what_was_charged_and_the_channel_goes_on() {
    let world = world().await;
    let (ask, url) = (Ask::get("/paid/claims"), world.gateway.url());
    let mut channel = Channel::open(&world.devnet, &ask, &world.gateway, &Wallet::new(3), 10 * KAS).await;
    for _ in 0..49 {
        channel.buy(&ask, &url).await;
    }
    let owed = channel.active();
    let claimed = world.gateway.command().args(["claim", &channel.id().to_string(), "--json"]).output().await.unwrap();
    assert!(claimed.status.success(), "{claimed:?}");
    world.gateway.until("claimed", async || number(&totals(&world.gateway).await["claimedSompi"]) == owed).await;
    channel.buy_through_claims(&ask, &url).await;
    assert_eq!((channel.claimed, channel.active(), channel.funding), (owed, CEILING, 10 * KAS - owed));
    let paid = support::patience::balance(&world.devnet, &world.seller).await;
    assert!(paid > 0 && paid < owed, "{paid} of {owed} after the fee");
}

/// The head says what is reserved; the end says what it cost, and so does the receipt's own address.
#[tokio::test]
async fn an_event_stream_is_charged_at_its_end_and_says_so() {
    let world = world().await;
    let url = world.gateway.url();
    let mut channel = Channel::open(&world.devnet, &Ask::get("/paid/first"), &world.gateway, &Wallet::new(8), 5 * KAS).await;
    let ask = Ask::get("/events/3");
    let accepted = batch_of(&ask.send(&url, None).await);
    let header = channel.paying(&accepted);
    let streamed = ask.send(&url, Some(&header)).await;
    let head = streamed.receipt().unwrap();
    assert_eq!((&head["transaction"], &head["extensions"]["kaspa"]["status"]), (&"".into(), &"provisional".into()), "{head}");
    let text = streamed.text();
    let (events, last) = text.split_once("event: payment-response\ndata: ").unwrap_or_else(|| panic!("{text}"));
    assert_eq!(events, "data: 0\n\ndata: 1\n\ndata: 2\n\n");
    let receipt: Value = serde_json::from_str(last.trim_end()).unwrap();
    assert_eq!(channel.read(&receipt), 1_000 * u64::try_from(events.len()).unwrap());
    let place = head["extensions"]["kaspa"]["receiptUrl"].as_str().unwrap().strip_prefix("http://paid.test").unwrap();
    let later = Ask::get(place).send(&url, None).await;
    let later: Value = serde_json::from_slice(&later.body).unwrap();
    assert_eq!((&later["transaction"], &later["amount"]), (&receipt["transaction"], &receipt["amount"]));
    assert_eq!(Ask::get(&place.replace("identifier-", "identifieR-")).send(&url, None).await.status, 404);
    // The renewed offer is for the route of its receipt.
    channel.renewed = None;
    channel.buy(&Ask::get("/paid/next"), &url).await;
}

/// By HTTP/2 the charge is told in the trailers too; by HTTP/1 there are none. Every receipt is held to the schemas where it is read.
#[tokio::test]
async fn the_charge_of_a_stream_is_in_its_trailers_by_http_2() {
    let world = World::start(ROUTES, &format!("{SETTINGS}\nedge: {{h2c: true}}")).await;
    let (ask, url) = (Ask::get("/events/2"), world.gateway.url());
    let mut channel = Channel::open(&world.devnet, &Ask::get("/paid/first"), &world.gateway, &Wallet::new(9), 5 * KAS).await;
    for over_2 in [true, false, true] {
        let accepted = batch_of(&ask.send(&url, None).await);
        let header = channel.paying(&accepted);
        let streamed = if over_2 { ask.send_by_h2(&url, Some(&header)).await } else { ask.send(&url, Some(&header)).await };
        assert_eq!(streamed.receipt().unwrap()["extensions"]["kaspa"]["status"], "provisional");
        let text = streamed.text();
        let (_, event) = text.split_once("event: payment-response\ndata: ").unwrap_or_else(|| panic!("{text}"));
        let event: Value = serde_json::from_str(event.trim_end()).unwrap();
        assert_eq!(streamed.last_receipt(), over_2.then(|| event.clone()), "the trailer says what the last event says");
        channel.read(&event);
        // Delivered, and asked for again: the answer is stored, and its receipt is known when it begins.
        let again = if over_2 { ask.send_by_h2(&url, Some(&header)).await } else { ask.send(&url, Some(&header)).await };
        assert_eq!((again.status, again.last_receipt()), (200, None), "{again:?}");
        let receipt = again.receipt().unwrap();
        assert_eq!((&receipt["transaction"], &receipt["amount"]), (&event["transaction"], &event["amount"]));
    }
}

#[tokio::test]
async fn a_top_up_settles_and_goes_on_over_more() {
    let world = world().await;
    let (ask, url, wallet) = (Ask::get("/paid/more"), world.gateway.url(), Wallet::new(4));
    let mut channel = Channel::open(&world.devnet, &ask, &world.gateway, &wallet, 5 * KAS).await;
    for _ in 0..49 {
        channel.buy(&ask, &url).await;
    }
    let owed = channel.active();
    let coins = world.devnet.fund(&wallet, 7 * KAS, 1).await;
    let (transaction, continuation, funding) = channel.top_up(&wallet, &coins[0]);
    let accepted = batch_of(&ask.send(&url, None).await);
    let payload = channel.deposit_payload(Some(&transaction), continuation, funding, CEILING);
    let header = message(&accepted, &payload, &new_identifier());
    let answer = until_answered(&ask, &world.gateway, &header).await;
    channel = Channel { outpoint: continuation, funding, claimed: owed, ..channel };
    channel.served(&answer);
    channel.buy(&ask, &url).await;
    assert!(funding > 11 * KAS, "{funding}");
}

#[tokio::test]
async fn a_refund_closes_the_channel_at_once() {
    // Refundable ninety seconds after the offer, served until sixty before.
    let world = World::start(ROUTES, &settings(45, 30, "{automatic: false}")).await;
    let (ask, url) = (Ask::get("/paid/refund"), world.gateway.url());
    let mut channel = Channel::open(&world.devnet, &ask, &world.gateway, &Wallet::new(5), 5 * KAS).await;
    world.devnet.mine(0, 400).await;
    let accepted = batch_of(&ask.send(&url, None).await);
    let answer = ask.send(&url, Some(&channel.paying(&accepted))).await;
    assert_eq!(answer.code(), "refund_window", "{}", answer.text());
    world.devnet.mine(0, 600).await;
    channel.renewed = None;
    world.devnet.submit(0, &channel.refund()).await.unwrap();
    world.gateway.until("closed", async || totals(&world.gateway).await["closed"] == 1).await;
    let accepted = batch_of(&ask.send(&url, None).await);
    let answer = ask.send(&url, Some(&channel.paying(&accepted))).await;
    assert_eq!(answer.code(), "channel_closed", "{}", answer.text());
    let totals = totals(&world.gateway).await;
    assert_eq!(number(&totals["lostSompi"]), CEILING, "{totals}");
}

/// Many channels at once, with claims running: every sum agrees.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_channels_of_fifty_requests_add_up_while_claims_run() {
    const CHANNELS: u8 = 200;
    const REQUESTS: u64 = 50;
    let claims = "{automatic: true, above: 0.2 KAS, max_fee_percent: 50}";
    let routes = ROUTES.replace("price: 0.01 KAS", "price: 0.01 KAS, replay_limit_bytes: 1024");
    let world = Arc::new(World::start(&routes, &settings(3600, 60, claims)).await);
    let ask = Ask::get("/paid/many");
    let mut wallets = Vec::new();
    for seed in 1..=CHANNELS {
        let wallet = Wallet::new(seed);
        let coins = world.devnet.fund(&wallet, 6 * KAS, 1).await;
        wallets.push((wallet, coins));
    }
    let tasks: Vec<_> = wallets
        .into_iter()
        .map(|(wallet, coins)| {
            let (world, ask) = (world.clone(), ask.clone());
            tokio::spawn(async move {
                let url = world.gateway.url();
                let accepted = batch_of(&ask.send(&url, None).await);
                let mut channel = Channel::under(&accepted, &wallet, &coins, 5 * KAS);
                let answer = until_answered(&ask, &world.gateway, &channel.depositing(&accepted)).await;
                channel.served(&answer);
                for _ in 1..REQUESTS {
                    let before = channel.charged;
                    channel.buy_through_claims(&ask, &url).await;
                    assert!(channel.charged > before, "strictly increasing");
                }
                channel
            })
        })
        .collect();
    let mut charged = 0;
    for task in tasks {
        charged += task.await.unwrap().charged;
    }
    assert_eq!(charged, u64::from(CHANNELS) * REQUESTS * CEILING);
    let totals = totals(&world.gateway).await;
    let [all, claimed, active, lost] = ["chargedSompi", "claimedSompi", "unclaimedSompi", "lostSompi"].map(|name| number(&totals[name]));
    assert_eq!((all, lost), (charged, 0), "{totals}");
    assert_eq!(claimed + active, charged, "{totals}");
    assert!(claimed > 0, "claims ran: {totals}");
    assert_eq!(totals["charges"].as_u64(), Some(u64::from(CHANNELS) * REQUESTS));
    assert_eq!(world.upstream.count("/paid/many"), usize::from(CHANNELS) * usize::try_from(REQUESTS).unwrap());
}

/// A deposit is refused for what the chain says of it.
#[tokio::test]
async fn deposits_that_are_not_there_are_not_served() {
    let world = World::over(Devnet::start(1, 10.0).await, ROUTES, SETTINGS).await;
    let (ask, url, wallet) = (Ask::get("/paid/deposits"), world.gateway.url(), Wallet::new(6));
    let (channel, accepted) = Channel::prepare(&world.devnet, &ask, &url, &wallet, 5 * KAS).await;
    let without = message(&accepted, &channel.deposit_payload(None, channel.outpoint, channel.funding, CEILING), &new_identifier());
    world.devnet.set_rate(0, 0.0).await;
    let waiting = {
        let (ask, url, without) = (ask.clone(), url.clone(), without.clone());
        tokio::spawn(async move { ask.send(&url, Some(&without)).await })
    };
    world.devnet.submit(0, &channel.deposit).await.unwrap();
    world.devnet.mine(0, 5).await;
    let mut channel = channel;
    channel.served(&waiting.await.unwrap());

    // A funding transaction whose signature is wrong is a proven rejection: nothing moved.
    // Another key than that of the channel above, whose script may be the one that is offered still.
    let wallet = Wallet::new(7);
    let coins = world.devnet.fund(&wallet, 6 * KAS, 1);
    world.devnet.set_rate(0, 10.0).await;
    let coins = coins.await;
    let accepted = batch_of(&ask.send(&url, None).await);
    let mut forged = Channel::under(&accepted, &wallet, &coins, 5 * KAS);
    forged.deposit.inputs[0].signature_script[10] ^= 1;
    let answer = ask.send(&url, Some(&forged.depositing(&accepted))).await;
    assert_eq!(answer.code(), "invalid_kaspa_escrow_funding_rejected", "{}", answer.text());
}
