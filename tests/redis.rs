//! Gateways on a real Redis: several of them are one seller, whatever dies.

mod support;

use serde_json::Value;
use std::time::Duration;
use support::{
    channel::{Channel, SETTINGS, batch_of, number, until_answered},
    devnet::{Devnet, KAS, Wallet},
    gateway::{Gateway, yaml},
    pay::{Ask, prepare},
    redis::{SAFE, Server},
    upstream::Upstream,
};

const ROUTES: &str = r#"  - {path: "/once/{*rest}", price: 0.25 KAS}
  - {path: "/paid/{*rest}", scheme: batch-settlement, price: 0.01 KAS, min_deposit: 2 KAS}
  - {path: "/gate/{*rest}", scheme: batch-settlement, price: 0.01 KAS, min_deposit: 2 KAS}
  - {path: "/{*rest}", free: true}"#;
const CEILING: u64 = KAS / 100;

/// A Redis and two gateways on it.
struct Fleet {
    redis: Server,
    devnet: Devnet,
    upstream: Upstream,
    one: Gateway,
    other: Gateway,
}

impl Fleet {
    async fn start() -> Self {
        let redis = Server::start(&SAFE);
        let devnet = Devnet::start(1, 10.0).await;
        let upstream = Upstream::start().await;
        let embedded = yaml(&devnet.wrpc[..1], &Wallet::new(200), &upstream.url(), ROUTES, SETTINGS);
        let store = format!("store: {{kind: redis, url: \"{}\", timeout_seconds: 2}}", redis.url());
        let yaml = embedded.replace("store: {path: store.db}", &store);
        assert!(yaml.contains("kind: redis"));
        let one = Gateway::start(&yaml).await;
        let other = one.sibling("other", &yaml).await;
        Self { redis, devnet, upstream, one, other }
    }

    fn urls(&self) -> [String; 2] {
        [self.one.url(), self.other.url()]
    }
}

async fn totals(gateway: &Gateway) -> Value {
    gateway.status().await["channels"].clone()
}

#[tokio::test]
async fn two_gateways_honour_each_others_offers_and_replay_each_others_payments() {
    let fleet = Fleet::start().await;
    let [one, other] = fleet.urls();
    let payer = Wallet::new(1);
    let coins = fleet.devnet.fund(&payer, 10 * KAS, 1).await;
    let ask = Ask::get("/once/report");
    // Offered by the one, paid at the other.
    let (transaction, header) = prepare(&ask, &one, &payer, &coins).await;
    let bought = ask.send(&other, Some(&header)).await;
    assert_eq!((bought.status, bought.text().as_str()), (200, "GET /once/report "), "{bought:?}");
    assert_eq!(bought.receipt().unwrap()["transaction"], transaction.id().to_string());
    for url in [&one, &other, &one] {
        let again = ask.send(url, Some(&header)).await;
        assert_eq!((again.status, again.text(), again.receipt()), (200, bought.text(), bought.receipt()));
    }
    let stolen = Ask::get("/once/another").send(&one, Some(&header)).await;
    assert_eq!((stolen.status, stolen.code().as_str()), (409, "invalid_kaspa_exact_replay"));
    assert_eq!(fleet.upstream.count("/once/report"), 1);
    for gateway in [&fleet.one, &fleet.other] {
        let payments = gateway.payments().await;
        assert_eq!((payments["delivered"].as_u64(), payments["chargedSompi"].as_str()), (Some(1), Some("25000000")));
    }
}

#[tokio::test]
async fn a_channel_is_charged_by_both_gateways_and_outlives_each_of_them_and_redis() {
    let mut fleet = Fleet::start().await;
    let ask = Ask::get("/paid/report");
    let mut channel = Channel::open(&fleet.devnet, &ask, &fleet.one, &Wallet::new(2), 5 * KAS).await;
    for turn in 0..6 {
        // The offer of one, the voucher at the other.
        let [one, other] = fleet.urls();
        let urls = [one, other];
        let accepted = channel.offer(&ask, &urls[turn % 2]).await;
        let header = channel.paying(&accepted);
        let answer = ask.send(&urls[(turn + 1) % 2], Some(&header)).await;
        channel.served(&answer);
        let again = ask.send(&urls[turn % 2], Some(&header)).await;
        assert_eq!((again.status, again.body), (200, answer.body), "replayed by the other");
    }
    // A claim at one of them: the other one knows the new outpoint with the next voucher.
    let claimed = fleet.one.command().args(["claim", &channel.id().to_string(), "--json"]).output().await.unwrap();
    assert!(claimed.status.success(), "{claimed:?}");
    let owed = channel.active();
    fleet.one.until("claimed", async || number(&totals(&fleet.one).await["claimedSompi"]) == owed).await;
    channel.renewed = None;
    channel.buy_through_claims(&ask, &fleet.one.url()).await;
    channel.renewed = None;
    channel.buy(&ask, &fleet.other.url()).await;

    fleet.redis.kill();
    fleet.redis.run();
    let accepted = batch_of(&ask.send(&fleet.other.url(), None).await);
    let header = channel.paying(&accepted);
    let answer = until_answered(&ask, &fleet.other, &header).await;
    channel.served(&answer);
    fleet.one.kill().await;
    channel.renewed = None;
    channel.buy(&ask, &fleet.other.url()).await;
    let books = totals(&fleet.other).await;
    assert_eq!((books["open"].as_u64(), number(&books["chargedSompi"])), (Some(1), channel.charged), "{books}");
    assert_eq!(channel.charged % CEILING, 0);
}

#[tokio::test]
async fn a_partition_from_redis_closes_priced_routes_and_they_open_again() {
    let fleet = Fleet::start().await;
    let ask = Ask::get("/paid/report");
    let mut channel = Channel::open(&fleet.devnet, &ask, &fleet.one, &Wallet::new(3), 5 * KAS).await;
    let url = fleet.one.url();
    let accepted = channel.offer(&ask, &url).await;
    let header = channel.paying(&accepted);
    fleet.redis.signal("STOP");
    let refused = ask.send(&url, Some(&header)).await;
    assert_eq!((refused.status, refused.code().as_str()), (503, "store_unavailable"), "{refused:?}");
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!(Ask::get("/free").send(&url, None).await.status, 200, "free routes need no store");
    fleet.redis.signal("CONT");
    let answer = until_answered(&ask, &fleet.one, &header).await;
    channel.served(&answer);
    channel.buy(&ask, &fleet.other.url()).await;
    assert_eq!(number(&totals(&fleet.other).await["chargedSompi"]), channel.charged);
}

/// Redis is not reached while the upstream works: who serves loses its lease and lets nothing out, another gateway takes the channel over, and the
/// answer that came too late is charged to nobody.
#[tokio::test]
async fn a_partition_in_the_middle_of_a_request_withholds_its_answer_and_a_lease_that_ended_charges_nothing() {
    let fleet = Fleet::start().await;
    let mut channel = Channel::open(&fleet.devnet, &Ask::get("/paid/first"), &fleet.one, &Wallet::new(4), 5 * KAS).await;
    let (ask, [one, other]) = (Ask::get("/gate/report"), fleet.urls());
    let header = channel.paying(&batch_of(&ask.send(&one, None).await));
    let waiting = {
        let (ask, header) = (ask.clone(), header.clone());
        tokio::spawn(async move { ask.send(&one, Some(&header)).await })
    };
    fleet.upstream.arrived(2).await;
    fleet.redis.signal("STOP");
    let withheld = waiting.await.unwrap();
    assert_eq!((withheld.status, withheld.code().as_str()), (503, "channel_lease_lost"), "{withheld:?}");
    let closed = ask.send(&other, Some(&header)).await;
    assert_eq!((closed.status, closed.code().as_str()), (503, "store_unavailable"), "{closed:?}");
    assert_eq!(Ask::get("/free").send(&other, None).await.status, 200);
    fleet.upstream.open_gate();
    fleet.redis.signal("CONT");
    let served = loop {
        let answer = until_answered(&ask, &fleet.other, &header).await;
        // The server's clock may give the lost lease a moment more.
        if answer.code() != "payment_in_flight" {
            break answer;
        }
        tokio::time::sleep(Duration::from_millis(100)).await; // why: Retry-After is all that the gateway tells
    };
    channel.served(&served);
    assert_eq!(served.text(), "through the gate: /gate/report");
    assert_eq!(fleet.upstream.count("/gate/report"), 2, "once for the gateway that lost its lease");
    for gateway in [&fleet.one, &fleet.other] {
        let books = totals(gateway).await;
        assert_eq!((books["charges"].as_u64(), number(&books["chargedSompi"])), (Some(2), channel.charged), "{books}");
    }
}

#[tokio::test]
async fn a_gateway_on_a_server_that_is_not_fit_says_why_and_does_not_start() {
    let redis = Server::start(&["--appendonly", "no", "--maxmemory-policy", "allkeys-lru"]);
    let devnet = Devnet::start(1, 10.0).await;
    let upstream = Upstream::start().await;
    let embedded = yaml(&devnet.wrpc[..1], &Wallet::new(200), &upstream.url(), ROUTES, SETTINGS);
    let yaml = embedded.replace("store: {path: store.db}", &format!("store: {{kind: redis, url: \"{}\"}}", redis.url()));
    let gateway = Gateway::prepare(&yaml).await;
    let run = gateway.command().args(["run", "--config", "kas402.yaml"]).output();
    let run = tokio::time::timeout(Duration::from_secs(120), run).await.expect("it ends by itself").unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(!run.status.success(), "{run:?}");
    for code in ["redis_appendonly", "redis_eviction", "redis_appendfsync"] {
        assert!(said.contains(code), "{code}: {said}");
    }
}

const PASSWORD: &str = "right";

async fn kas402(gateway: &Gateway, args: &[&str], environment: &[(&str, &str)]) -> std::process::Output {
    gateway.command().args(args).envs(environment.iter().copied()).output().await.unwrap()
}

#[track_caller]
fn told(output: &std::process::Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn refused(output: &std::process::Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Asked through its admin listener, a gateway moves its store with its own secrets and says how far it is; it sells nothing from then on.
#[tokio::test]
async fn a_running_gateway_moves_its_store_when_it_is_asked() {
    let redis = Server::start(&[&SAFE[..], &["--requirepass", PASSWORD]].concat());
    let devnet = Devnet::start(1, 10.0).await;
    let upstream = Upstream::start().await;
    let embedded = yaml(&devnet.wrpc[..1], &Wallet::new(200), &upstream.url(), ROUTES, SETTINGS);
    let settings = format!("store: {{kind: redis, url: \"{}\", password: {{env: SHOP_REDIS}}}}", redis.url());
    let shared = embedded.replace("store: {path: store.db}", &settings);
    let mut gateway = Gateway::prepare(&embedded).await;
    let secret = [("SHOP_REDIS", PASSWORD)];
    gateway.run(&secret).await;
    gateway.ready().await;
    let (ask, payer) = (Ask::get("/once/report"), Wallet::new(1));
    let coins = devnet.fund(&payer, 10 * KAS, 1).await;
    let (_, header) = prepare(&ask, &gateway.url(), &payer, &coins).await;
    let bought = ask.send(&gateway.url(), Some(&header)).await;
    assert_eq!(bought.status, 200, "{bought:?}");

    std::fs::write(gateway.path("shared.yaml"), &shared).unwrap();
    let same = refused(&kas402(&gateway, &["store", "migrate", "kas402.yaml", "kas402.yaml"], &[]).await, 1);
    assert!(same.contains("same store"), "{same}");
    // The password is the gateway's; whoever asks has none.
    let moved = told(&kas402(&gateway, &["store", "migrate", "kas402.yaml", "shared.yaml", "--json"], &[]).await);
    let moved: Value = serde_json::from_str(&moved).unwrap();
    assert_eq!(moved["parts"][0], serde_json::json!(["payments", 1]), "{moved}");
    let closed = ask.send(&gateway.url(), Some(&header)).await;
    assert_eq!((closed.status, closed.code().as_str()), (503, "store_unavailable"), "{closed:?}");
    let again = refused(&kas402(&gateway, &["store", "migrate", "kas402.yaml", "other.db"], &[]).await, 1);
    assert!(again.contains("has moved"), "{again}");

    gateway.kill().await;
    gateway.configure(&shared);
    gateway.run(&secret).await;
    gateway.ready().await;
    let replayed = ask.send(&gateway.url(), Some(&header)).await;
    assert_eq!((replayed.status, replayed.body), (200, bought.body), "the offers are those of the same store");
}

/// By hand: a store becomes one on a server that wants a password, is read there, and comes back.
#[tokio::test]
async fn the_command_line_moves_a_store_to_redis_and_back_and_reads_it_there() {
    let redis = Server::start(&[&SAFE[..], &["--requirepass", PASSWORD]].concat());
    let devnet = Devnet::start(1, 10.0).await;
    let upstream = Upstream::start().await;
    let embedded = yaml(&devnet.wrpc[..1], &Wallet::new(200), &upstream.url(), ROUTES, SETTINGS);
    let settings = format!("store: {{kind: redis, url: \"{}\", prefix: moved, password: {{env: SHOP_REDIS}}}}", redis.url());
    let shared = embedded.replace("store: {path: store.db}", &settings);
    let mut gateway = Gateway::start(&embedded).await;
    let (ask, payer) = (Ask::get("/once/report"), Wallet::new(1));
    let coins = devnet.fund(&payer, 10 * KAS, 1).await;
    let (_, header) = prepare(&ask, &gateway.url(), &payer, &coins).await;
    let bought = ask.send(&gateway.url(), Some(&header)).await;
    assert_eq!(bought.status, 200, "{bought:?}");
    let paid = Ask::get("/paid/report");
    let mut channel = Channel::open(&devnet, &paid, &gateway, &Wallet::new(2), 5 * KAS).await;
    channel.buy(&paid, &gateway.url()).await;
    let books = told(&kas402(&gateway, &["payments", "export", "--format", "jsonl"], &[]).await);
    assert_eq!(books.lines().count(), 3, "{books}");
    gateway.kill().await;

    let secret = [("SHOP_REDIS", PASSWORD), ("KAS402_STORE_PASSWORD", PASSWORD)];
    let url = format!("{}/0", redis.url());
    let loud = url.replace("redis://", "redis://:right@");
    refused(&kas402(&gateway, &["store", "migrate", "store.db", &loud], &secret).await, 2);
    refused(&kas402(&gateway, &["store", "migrate", "store.db", &url], &[]).await, 1);
    let wrong = refused(&kas402(&gateway, &["store", "migrate", "store.db", &url], &[("KAS402_STORE_PASSWORD", "wrong")]).await, 1);
    assert!(!wrong.contains("wrong@") && !wrong.contains(PASSWORD), "{wrong}");
    refused(&kas402(&gateway, &["store", "migrate", "nothing.db", &url], &secret).await, 1);
    let moved = told(&kas402(&gateway, &["store", "migrate", "store.db", &url, "--json"], &secret).await);
    let moved: Value = serde_json::from_str(&moved).unwrap();
    let counts: Vec<_> = moved["parts"].as_array().unwrap().iter().map(|part| part[1].as_u64().unwrap()).collect();
    assert_eq!(counts, [1, 1, 2, 0, 1, 1], "{moved}");
    // From one prefix of the server into another, by a configuration.
    std::fs::write(gateway.path("shared.yaml"), &shared).unwrap();
    let moved = told(&kas402(&gateway, &["store", "migrate", &url, "shared.yaml"], &secret).await);
    assert!(moved.contains("1 payment") && moved.contains("2 charges"), "{moved}");
    let left = refused(&kas402(&gateway, &["store", "migrate", &url, "other.db"], &secret).await, 1);
    assert!(left.contains("moved"), "{left}");

    // Read without a gateway, and the same beside one.
    gateway.configure(&shared);
    refused(&kas402(&gateway, &["payments", "list"], &[]).await, 1);
    assert_eq!(told(&kas402(&gateway, &["payments", "export", "--format", "jsonl"], &secret).await), books);
    gateway.run(&secret).await;
    gateway.ready().await;
    assert_eq!(told(&kas402(&gateway, &["payments", "export", "--format", "jsonl"], &secret).await), books);
    let again = ask.send(&gateway.url(), Some(&header)).await;
    assert_eq!((again.status, again.body), (200, bought.body), "replayed");
    assert_eq!(upstream.count("/once/report"), 1);
    channel.renewed = None;
    channel.buy(&paid, &gateway.url()).await;
    let books = told(&kas402(&gateway, &["payments", "export", "--format", "jsonl"], &secret).await);
    gateway.kill().await;

    let back = told(&kas402(&gateway, &["store", "migrate", "kas402.yaml", "back.db"], &secret).await);
    assert!(back.contains("3 charges"), "{back}");
    assert!(told(&kas402(&gateway, &["store", "check", "back.db"], &[]).await).contains("3 charges"));
    gateway.configure(&embedded.replace("store.db", "back.db"));
    gateway.run(&[]).await;
    gateway.ready().await;
    assert_eq!(told(&kas402(&gateway, &["payments", "export", "--format", "jsonl"], &[]).await), books);
    channel.renewed = None;
    channel.buy(&paid, &gateway.url()).await;
    assert_eq!(number(&totals(&gateway).await["chargedSompi"]), channel.charged);
}
