//! What passes through in headers, both ways; what browsers may read; reload, finality and `check` as a user meets them.

mod support;

use serde_json::Value;
use std::time::Duration;
use support::{
    devnet::{Devnet, KAS, Wallet},
    gateway::{Gateway, World, yaml},
    pay::{Ask, prepare},
    upstream::{Seen, Upstream},
};
use tokio::time::timeout;

/// Sent by a client on every request; none of these values may arrive.
#[rustfmt::skip]
const FORGED: &[&str] = &[
    "PAYMENT-REQUIRED", "PAYMENT-RESPONSE", "PAYMENT-ANYTHING", "X-PAYMENT", "X-PAYMENT-RESPONSE", "x-payment-signature",
    "X-Kas402-Payer", "x-kas402-amount-sompi", "X-KAS402-TXID", "x-kas402-anything",
    "X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Original-URL", "X-Rewrite-URL", "X-Original-URI",
    "X-Request-Id", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded",
];
const MARK: &str = "forged-by-a-client";

const ROUTES: &str = r#"
  - {path: "/paid/{*rest}", price: 0.25 KAS}
  - {path: "/client/{*rest}", price: 0.25 KAS, upstream: client}
  - {path: "/fixed/{*rest}", price: 0.25 KAS, upstream: fixed}
  - {path: "/free-client/{*rest}", free: true, upstream: client}
  - {path: "/free-fixed/{*rest}", free: true, upstream: fixed}
  - {path: "/{*rest}", free: true}
"#;

fn once<'s>(seen: &'s Seen, name: &str) -> &'s str {
    let values: Vec<_> = seen.headers.get_all(name).iter().collect();
    assert_eq!(values.len(), 1, "{} {name}: {values:?}", seen.target);
    values[0].to_str().unwrap()
}

fn forging(ask: Ask) -> Ask {
    let ask = FORGED.iter().fold(ask, |ask, name| ask.header(name, MARK).header(name, MARK));
    ask.header("Authorization", MARK).header("Idempotency-Key", MARK).header("X-Own", "kept").header("host", "paid.test")
}

#[tokio::test]
async fn the_upstream_sees_what_the_gateway_says_and_nothing_a_client_forged() {
    let devnet = Devnet::start(1, 10.0).await;
    let (upstream, seller, payer) = (Upstream::start().await, Wallet::new(200), Wallet::new(1));
    let own = |name: &str, host: &str| {
        format!("  {name}: {{url: \"{}\", host_header: {host}, headers: {{authorization: {{env: UPSTREAM_TOKEN}}}}}}\n", upstream.url())
    };
    let more = format!("upstreams:\n{}{}", own("client", "client"), own("fixed", "api.internal"));
    let mut gateway = Gateway::prepare(&yaml(&devnet.wrpc, &seller, &upstream.url(), ROUTES, &more)).await;
    gateway.run(&[("UPSTREAM_TOKEN", "Bearer of-the-gateway")]).await;
    gateway.ready().await;
    let coins = devnet.fund(&payer, 10 * KAS, 3).await;
    let (url, address) = (gateway.url(), upstream.address.to_string());

    for (path, host, credentials, coin) in [
        ("/free/a", address.as_str(), None, None),
        ("/free-client/a", "paid.test", Some("Bearer of-the-gateway"), None),
        ("/free-fixed/a", "api.internal", Some("Bearer of-the-gateway"), None),
        ("/paid/a", address.as_str(), None, Some(&coins[0])),
        ("/client/a", "paid.test", Some("Bearer of-the-gateway"), Some(&coins[1])),
        ("/fixed/a", "api.internal", Some("Bearer of-the-gateway"), Some(&coins[2])),
    ] {
        let ask = forging(Ask::get(path));
        let (txid, answer) = match coin {
            None => (None, ask.send(&url, None).await),
            Some(coin) => {
                let (transaction, header) = prepare(&ask, &url, &payer, std::slice::from_ref(coin)).await;
                (Some(transaction.id().to_string()), ask.send(&url, Some(&header)).await)
            }
        };
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let seen = upstream.seen().pop().unwrap();
        assert_eq!((seen.target.as_str(), once(&seen, "host")), (path, host));
        assert_eq!(once(&seen, "x-own"), "kept", "{path}: what is the client's passes");
        // Without credentials of the upstream's own, the client's are none of the gateway's business.
        assert_eq!(once(&seen, "authorization"), credentials.unwrap_or(MARK), "{path}");
        for (name, value) in &seen.headers {
            let forged = value.as_bytes() == MARK.as_bytes();
            let of_the_client = (name == "authorization" && credentials.is_none()) || (name == "idempotency-key" && txid.is_none());
            assert!(!forged || of_the_client, "{path}: {name}");
            let payment = name.as_str().starts_with("payment-") || name.as_str().starts_with("x-payment");
            assert!(!payment, "{path}: {name}");
        }
        let request_id = once(&seen, "x-request-id");
        assert_eq!(answer.headers["x-request-id"], request_id, "{path}: one name for the request everywhere");
        assert_eq!(answer.headers.get_all("x-request-id").iter().count(), 1);
        let identity = seen.headers.keys().filter(|name| name.as_str().starts_with("x-kas402-")).count();
        let Some(txid) = txid else {
            assert_eq!(identity, 0, "{path}: nobody paid");
            continue;
        };
        assert_eq!(identity, 3, "{path}");
        assert_eq!(once(&seen, "x-kas402-txid"), txid);
        assert_eq!(once(&seen, "x-kas402-amount-sompi"), "25000000");
        assert_eq!(once(&seen, "idempotency-key"), format!("kas402-{txid}"));
        // The node's view: the address that held the coin, known here because we own it.
        assert_eq!(once(&seen, "x-kas402-payer"), payer.address().to_string());
        assert_eq!(answer.receipt().unwrap()["payer"], payer.address().to_string());
    }
}

#[tokio::test]
async fn browsers_may_ask_and_read() {
    let routes = "  - {path: \"/paid/{*rest}\", price: 0.25 KAS}\n  - {path: \"/{*rest}\", free: true}";
    for (cors, origin, allowed) in [
        ("any", "https://shop.test", Some("*")),
        ("[\"https://shop.test\"]", "https://shop.test", Some("https://shop.test")),
        ("[\"https://shop.test\"]", "https://other.test", None),
        ("\"off\"", "https://shop.test", None),
    ] {
        let world = World::start(routes, &format!("cors: {cors}")).await;
        let (payer, url) = (Wallet::new(1), world.gateway.url());
        let coins = world.devnet.fund(&payer, 10 * KAS, 1).await;
        let name = format!("cors: {cors}, from {origin}");

        let preflight = Ask { method: "OPTIONS".parse().unwrap(), ..Ask::get("/paid/a") }
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "payment-signature, content-type");
        let answer = preflight.send(&url, None).await;
        assert_eq!((answer.status, answer.body.len()), (204, 0), "{name}");
        let header = |name: &str| answer.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(header("access-control-allow-origin").as_deref(), allowed, "{name}");
        assert_eq!(header("access-control-allow-methods").as_deref(), allowed.map(|_| "POST"), "{name}");
        let headers = header("access-control-allow-headers").unwrap_or_default();
        let lists =
            |list: &str, wanted: &[&str]| wanted.iter().all(|wanted| list.split(',').any(|one| one.trim().eq_ignore_ascii_case(wanted)));
        assert_eq!(lists(&headers, &["payment-signature", "content-type"]), allowed.is_some(), "{name}: {headers}");

        let ask = Ask::get("/paid/a").header("origin", origin);
        let offered = ask.send(&url, None).await;
        let (_, payment) = prepare(&ask, &url, &payer, &coins).await;
        let bought = ask.send(&url, Some(&payment)).await;
        let repeated = ask.send(&url, Some(&payment)).await;
        let refused = ask.send(&url, Some("e30=")).await;
        for (what, answer, status) in
            [("the offer", &offered, 402), ("the receipt", &bought, 200), ("the repetition", &repeated, 200), ("a refusal", &refused, 400)]
        {
            assert_eq!(answer.status, status, "{name}: {what}");
            assert_eq!(answer.headers["cache-control"], "private, no-store", "{name}: {what}");
            let header = |name: &str| answer.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
            assert_eq!(header("access-control-allow-origin").as_deref(), allowed, "{name}: {what}");
            let exposed = header("access-control-expose-headers").unwrap_or_default();
            let ours = ["payment-required", "payment-response", "x-request-id"];
            assert_eq!(lists(&exposed, &ours), allowed.is_some(), "{name}: {what}: {exposed}");
            if allowed.is_some_and(|allowed| allowed != "*") {
                let vary: Vec<_> = answer.headers.get_all("vary").iter().map(|value| value.to_str().unwrap()).collect();
                assert!(lists(&vary.join(","), &["origin"]), "{name}: {what}: caches must not mix origins");
            }
        }
    }
}

#[tokio::test]
async fn what_the_upstream_exposes_stays_exposed() {
    // Its own small upstream: the common one sets no CORS headers.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let headers = [("access-control-expose-headers", "X-Total, Payment-Response"), ("cache-control", "public, max-age=600")];
    let app = axum::Router::new().fallback(move || async move { (headers, "shop") });
    let server = tokio::spawn(async move { axum::serve(listener, app).await });
    let devnet = Devnet::start(1, 10.0).await;
    let (seller, payer) = (Wallet::new(200), Wallet::new(1));
    let routes = "  - {path: \"/paid/{*rest}\", price: 0.25 KAS}\n  - {path: \"/{*rest}\", free: true}";
    let gateway = Gateway::start(&yaml(&devnet.wrpc, &seller, &format!("http://{address}"), routes, "")).await;
    let coins = devnet.fund(&payer, 10 * KAS, 1).await;

    let ask = Ask::get("/paid/a").header("origin", "https://shop.test");
    let (_, payment) = prepare(&ask, &gateway.url(), &payer, &coins).await;
    for what in ["the first", "the repetition"] {
        let answer = ask.send(&gateway.url(), Some(&payment)).await;
        assert_eq!(answer.status, 200);
        let lists: Vec<_> = answer.headers.get_all("access-control-expose-headers").iter().collect();
        assert_eq!(lists, ["payment-required, payment-response, x-request-id, x-total"], "{what}");
        let cached: Vec<_> = answer.headers.get_all("cache-control").iter().collect();
        assert_eq!(cached, ["private, no-store"], "{what}: a paid answer is nobody else's");
    }
    let free = Ask::get("/free").send(&gateway.url(), None).await;
    assert_eq!(free.headers["cache-control"], "public, max-age=600", "a free answer is the upstream's");
    server.abort();
}

#[tokio::test]
async fn a_reload_charges_the_new_price_and_honours_old_quotes() {
    let devnet = Devnet::start(1, 10.0).await;
    let (upstream, seller, payer) = (Upstream::start().await, Wallet::new(200), Wallet::new(1));
    let config = |price: &str| yaml(&devnet.wrpc, &seller, &upstream.url(), &format!("  - {{path: /paid, price: {price}}}"), "");
    let gateway = Gateway::start(&config("0.25 KAS")).await;
    let (url, ask) = (gateway.url(), Ask::get("/paid"));
    let coins = devnet.fund(&payer, 10 * KAS, 2).await;
    let (_, old) = prepare(&ask, &url, &payer, &coins[..1]).await;

    gateway.configure(&config("0.5 KAS"));
    gateway.reload();
    gateway.until("the new price", async || ask.send(&url, None).await.offer()["amount"] == "50000000").await;
    let (_, new) = prepare(&ask, &url, &payer, &coins[1..]).await;
    for (what, header, amount) in [("the old quote", &old, "25000000"), ("the new one", &new, "50000000")] {
        let bought = ask.send(&url, Some(header)).await;
        assert_eq!(bought.status, 200, "{what}: {}", bought.text());
        assert_eq!(bought.receipt().unwrap()["amount"], amount, "{what}");
    }

    gateway.configure("routes: [");
    gateway.reload();
    gateway.until("the complaint", async || gateway.log().contains("the old one stays")).await;
    assert_eq!(ask.send(&url, None).await.offer()["amount"], "50000000", "a broken configuration changes nothing");
}

#[tokio::test]
async fn finality_is_as_deep_as_configured() {
    let devnet = Devnet::start(1, 10.0).await;
    let routes = "  - {path: /accepted, price: 0.25 KAS}\n  - {path: /confirmed, price: 0.25 KAS, finality: {confirmed: 5}}";
    let world = World::over(devnet, routes, "limits: {final_depth: 20}").await;
    let (payer, url) = (Wallet::new(1), world.gateway.url());
    let coins = world.devnet.fund(&payer, 10 * KAS, 2).await;
    world.devnet.set_rate(0, 0.0).await;
    // The block with the payment, the block that accepts it, and 5 more above that one.
    for (target, finality, blocks, coin) in [("/accepted", "accepted", 2, 0), ("/confirmed", "confirmed", 7, 1)] {
        let ask = Ask::get(target);
        let (transaction, header) = prepare(&ask, &url, &payer, &coins[coin..=coin]).await;
        let bought = tokio::spawn({
            let (ask, url) = (ask.clone(), url.clone());
            async move { ask.send(&url, Some(&header)).await }
        });
        let id = transaction.id().to_string();
        world.gateway.until("in the mempool", async || world.devnet.get("/node/0/mempool").await.to_string().contains(&id)).await;
        let score = async || world.devnet.get("/status").await["nodes"][0]["chain"]["sink_blue_score"].as_u64().unwrap();
        let before = score().await;
        for mined in 1..blocks {
            world.devnet.mine(0, 1).await;
            tokio::time::sleep(Duration::from_millis(100)).await; // why: that nothing happens has no event; a release takes a few ms
            assert!(!bought.is_finished() && world.upstream.count(target) == 0, "{target}: released after {mined} blocks");
        }
        world.devnet.mine(0, 1).await;
        let bought = timeout(Duration::from_secs(60), bought).await.expect("deep enough").unwrap();
        assert_eq!(bought.status, 200, "{target}: {}", bought.text());
        assert_eq!(score().await - before, blocks, "{target}: no block came by itself");
        assert_eq!(bought.receipt().unwrap()["extensions"]["kaspa"]["finality"], finality);
    }
}

#[tokio::test]
async fn check_names_the_line_and_the_column_of_every_error() {
    let bad = "network: kaspa:simnet\nallow_simnet: true\npublic_origin: http://paid.test\npay_to: nobody\nnode: {urls: [\"ws://127.0.0.1:1\"]}\n\
               upstream: http://127.0.0.1:1\nroutes:\n  - {path: /a, price: 0.25 EUR}\n  - {path: /b, prise: 1 KAS}\n";
    let gateway = Gateway::prepare(bad).await;
    let checked = gateway.command().args(["check"]).output().await.unwrap();
    let said = String::from_utf8(checked.stdout).unwrap();
    assert_eq!(checked.status.code(), Some(1), "{said}");
    for place in ["kas402.yaml:4:9", "kas402.yaml:8:23", "kas402.yaml:9:16"] {
        assert!(said.contains(place), "{place} is missing:\n{said}");
    }
    let json = gateway.command().args(["check", "--json"]).output().await.unwrap();
    let report: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((json.status.code(), &report["ok"]), (Some(1), &Value::Bool(false)));
    let started = gateway.command().args(["run"]).output().await.unwrap();
    assert_eq!(started.status.code(), Some(2), "it does not start with it either");

    gateway.configure("routes: [\n  - {path: /a");
    let broken = gateway.command().args(["check"]).output().await.unwrap();
    assert_eq!(broken.status.code(), Some(1), "{broken:?}");
    assert!(String::from_utf8(broken.stdout).unwrap().contains("kas402.yaml:"), "a file that is no YAML has a place too");
}
