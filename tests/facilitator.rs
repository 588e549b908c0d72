//! The facilitator of a real gateway process over a real node: its listener, its tenants, and its settlements beside the proxy's.

mod support;

use futures::future::join_all;
use kaspa_consensus_core::tx::TransactionOutput;
use reqwest::Method;
use serde_json::{Value, json};
use std::process::Command;
use support::{
    devnet::{Devnet, KAS, Wallet},
    gateway::{Gateway, yaml},
    patience::number,
    pay::{Ask, HTTP, encode, message, transaction},
    tenants::{Place, Tenant, Told, call, furnish, section},
    upstream::Upstream,
};
use tokio::{io::AsyncWriteExt, net::TcpStream};

const ROUTES: &str = "  - {path: \"/paid/{*rest}\", price: 0.25 KAS}";
const PRICE: u64 = 30_000_000;

fn shop(more: &'static str) -> Vec<Tenant> {
    vec![Tenant::new("shop", 201, more), Tenant::new("other", 202, "permissions: [verify]")]
}

/// A payment to the tenant's recipient, signed and not sent; without the client's own request hash.
async fn payment(place: &Place, seed: u8) -> Value {
    let payer = Wallet::new(seed);
    let coins = place.devnet.fund(&payer, 10 * KAS, 1).await;
    let terms = place.tenants[0].terms(PRICE);
    let mut message = message(&Ask::get("/"), &terms, &transaction(&payer, &coins, &terms));
    message["payload"].as_object_mut().unwrap().remove("requestHash");
    message
}

#[tokio::test]
async fn without_a_tenants_token_nothing_is_read_and_nothing_happens() {
    let place = Place::start(shop(""), ROUTES, "").await;
    let body = call(&payment(&place, 1).await, None);
    let token = place.tenants[0].token();
    let wrong = [
        vec![],
        vec![format!("Bearer {}", &token[1..])],
        vec![format!("Bearer {token}0")],
        vec![format!("Bearer {}", token.to_uppercase())],
        vec![format!("Basic {token}")],
        vec![token.clone()],
        vec!["Bearer".to_owned()],
        vec![format!("Bearer {token}"), format!("Bearer {token}")],
    ];
    for headers in &wrong {
        for (method, path) in [
            (Method::GET, "/supported"),
            (Method::POST, "/verify"),
            (Method::POST, "/settle"),
            (Method::GET, "/nothing"),
            (Method::PUT, "/"),
        ] {
            let mut request = place.request(method.clone(), path).body(body.to_string());
            for header in headers {
                request = request.header("authorization", header);
            }
            let told = Told::read(request.send().await.unwrap()).await;
            assert_eq!((told.status, told.code()), (401, "tenant_unknown"), "{method} {path} {headers:?}");
            assert_eq!(told.headers["www-authenticate"], "Bearer");
        }
    }
    let payments = place.gateway.payments().await;
    assert_eq!((number(&payments, "pending"), number(&payments, "delivered")), (0, 0), "{payments}");
    // The same call with the token.
    let settled = place.call(0, "/settle", &body).await;
    assert!(settled.succeeded(), "{settled:?}");
}

#[tokio::test]
async fn a_call_is_limited_in_rate_in_length_and_in_form() {
    let place = Place::start(shop("burst: 40, calls_per_second: 1"), ROUTES, "").await;
    let token = place.tenants[0].token();
    let get = async |method: Method, path: &str| place.request(method, path).bearer_auth(&token).send().await.unwrap().status().as_u16();
    assert_eq!(get(Method::GET, "/supported").await, 200);
    assert_eq!(get(Method::GET, "/settle").await, 405);
    assert_eq!(get(Method::POST, "/supported").await, 405);
    assert_eq!(get(Method::GET, "/other").await, 404);
    let long = " ".repeat(300_000);
    let whole = place.request(Method::POST, "/settle").bearer_auth(&token).header("connection", "close").body(long.clone());
    let pieces =
        futures::stream::iter(long.as_bytes().chunks(10_000).map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec())).collect::<Vec<_>>());
    let chunked =
        place.request(Method::POST, "/settle").bearer_auth(&token).header("connection", "close").body(reqwest::Body::wrap_stream(pieces));
    for request in [whole, chunked] {
        let told = Told::read(request.send().await.unwrap()).await;
        assert_eq!((told.status, told.code()), (413, "body_too_large"));
    }
    for body in ["", "[]", "{\"x402Version\":2}", "{\"a\":1,\"a\":2}", "\u{0}"] {
        let request = place.request(Method::POST, "/verify").bearer_auth(&token).body(body);
        let told = Told::read(request.send().await.unwrap()).await;
        assert_eq!((told.status, told.code()), (400, "facilitator_call_malformed"), "{body:?}");
    }
    let calls = join_all(
        (0..60).map(|_| async { Told::read(place.request(Method::GET, "/supported").bearer_auth(&token).send().await.unwrap()).await }),
    )
    .await;
    let limited: Vec<&Told> = calls.iter().filter(|told| told.status == 429).collect();
    assert!(!limited.is_empty() && limited.iter().all(|told| told.headers.contains_key("retry-after") && told.code() == "tenant_rate"));
    // A tenant's calls are its own.
    let other = place.request(Method::GET, "/supported").bearer_auth(place.tenants[1].token()).send().await.unwrap();
    assert_eq!(other.status(), 200);
}

/// A call whose body does not come: it runs until it does.
async fn begun(place: &Place, tenant: usize) -> TcpStream {
    let mut stream = TcpStream::connect(place.gateway.facilitator()).await.unwrap();
    let head =
        format!("POST /verify HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: 2\r\n\r\n", place.tenants[tenant].token());
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn only_so_many_calls_of_a_tenant_run_at_once() {
    let place = Place::start(shop("running_calls: 3, burst: 100000, calls_per_second: 100000"), ROUTES, "").await;
    let asked = async |method: Method, path: &str, tenant: usize| {
        let request = place.request(method, path).bearer_auth(place.tenants[tenant].token()).body("{}");
        Told::read(request.send().await.unwrap()).await
    };
    // No call, which is found out while it runs.
    let runs = async |tenant| asked(Method::POST, "/verify", tenant).await;
    assert_eq!(runs(0).await.status, 400);
    let mut running = Vec::new();
    for _ in 0..3 {
        running.push(begun(&place, 0).await);
    }
    place.gateway.until("all of them run", async || runs(0).await.status == 429).await;
    let refused = runs(0).await;
    assert_eq!((refused.code(), &refused.headers["retry-after"]), ("tenant_rate", &"1".parse().unwrap()));
    assert_eq!(asked(Method::GET, "/supported", 0).await.status, 200, "an edge that asks how its facilitator is waits for none of them");
    assert_eq!(runs(1).await.status, 400, "another tenant's are its own");
    running[0].write_all(b"{}").await.unwrap();
    place.gateway.until("one has ended", async || runs(0).await.status == 400).await;
    drop(running);
    place
        .gateway
        .until("the others broke off", async || {
            let calls = [begun(&place, 0).await, begun(&place, 0).await];
            let free = runs(0).await.status == 400;
            drop(calls);
            free
        })
        .await;
    let (_, metrics) = place.gateway.admin("/metrics").await;
    assert!(
        metrics.contains("kas402_facilitator_calls_total{call=\"verify\",code=\"facilitator_call_malformed\",tenant=\"shop\"}"),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_payment_is_verified_settled_and_told_again() {
    let place = Place::start(shop(""), ROUTES, "").await;
    let message = payment(&place, 1).await;
    let (named, nameless) = (call(&message, Some(&"ab".repeat(32))), call(&message, None));
    for body in [&named, &nameless] {
        let told = place.call(0, "/verify", body).await;
        assert!(told.succeeded(), "{told:?}");
    }
    let foreign = place.call(1, "/verify", &named).await;
    assert_eq!((foreign.status, foreign.code()), (403, "tenant_recipient"));
    let unpermitted = place.call(1, "/settle", &named).await;
    assert_eq!((unpermitted.status, unpermitted.code()), (403, "tenant_permission"));
    assert_eq!(number(&place.gateway.payments().await, "pending"), 0, "verifying records nothing");

    let settled = place.call(0, "/settle", &named).await;
    assert!(settled.succeeded(), "{settled:?}");
    assert_eq!(settled.body["transaction"], message["payload"]["transactionId"]);
    assert_eq!(settled.body["payer"], Wallet::new(1).address().to_string());
    assert_eq!(place.call(0, "/settle", &named).await.body, settled.body);
    for path in ["/verify", "/settle"] {
        let told = place.call(0, path, &nameless).await;
        assert_eq!((told.status, told.code()), (200, "invalid_kaspa_exact_replay"));
        assert_eq!(told.body["extensions"]["kaspa"]["alreadySettled"], true);
    }
    let shown = place.gateway.command().args(["payments", "list", "--json", "--config", "kas402.yaml"]).output().await.unwrap();
    assert!(String::from_utf8_lossy(&shown.stdout).contains("facilitator:shop"), "{shown:?}");
}

/// One transaction that pays the route and the tenant, at both doors at once, over a real node.
#[tokio::test]
async fn one_transaction_settles_through_one_of_two_doors() {
    let place = Place::start(shop(""), ROUTES, "").await;
    let payer = Wallet::new(1);
    let (ask, url) = (Ask::get("/paid/report"), place.gateway.url());
    let mut sold = [0u64; 2];
    for coin in place.devnet.fund(&payer, 10 * KAS, 8).await {
        let accepted = ask.send(&url, None).await.offer();
        let terms = place.tenants[0].terms(PRICE);
        let output = |terms: &Value| {
            let address = kaspa_addresses::Address::try_from(terms["payTo"].as_str().unwrap()).unwrap();
            let sompi = terms["amount"].as_str().unwrap().parse().unwrap();
            TransactionOutput::new(sompi, kaspa_txscript::pay_to_address_script(&address))
        };
        let paying = payer.build(&[coin], vec![output(&accepted), output(&terms)], 200);
        let header = encode(&message(&ask, &accepted, &paying));
        let mut at_tenant = message(&ask, &terms, &paying);
        at_tenant["payload"]["paymentOutputIndex"] = 1.into();
        at_tenant["payload"].as_object_mut().unwrap().remove("requestHash");
        let body = call(&at_tenant, (sold[0] + sold[1]).is_multiple_of(2).then(|| "cd".repeat(32)).as_deref());
        let (bought, told) = tokio::join!(ask.send(&url, Some(&header)), place.call(0, "/settle", &body));
        assert!((bought.status == 200) != told.succeeded(), "{bought:?} {told:?}");
        if told.succeeded() {
            assert_eq!((bought.status, bought.code().as_str()), (409, "invalid_kaspa_exact_replay"), "{bought:?}");
        } else {
            assert_eq!((told.status, told.code()), (200, "invalid_kaspa_exact_replay"), "{told:?}");
        }
        sold[usize::from(told.succeeded())] += 1;
    }
    let payments = place.gateway.payments().await;
    let expect = sold[0] * 25_000_000 + sold[1] * PRICE;
    assert_eq!(payments["chargedSompi"], expect.to_string(), "{payments}");
    assert_eq!(u64::try_from(place.upstream.count("/paid/report")).unwrap(), sold[0]);
}

#[tokio::test]
async fn tenants_are_served_over_tls() {
    let (devnet, upstream) = (Devnet::start(1, 10.0).await, Upstream::start().await);
    let tenants = shop("");
    let text =
        yaml(&devnet.wrpc[..1], &Wallet::new(200), &upstream.url(), ROUTES, &section(&tenants, ", tls: {cert: cert.pem, key: key.pem}"));
    let mut gateway = Gateway::prepare(&text).await;
    furnish(&gateway, &tenants).await;
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
        ])
        .args(["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
        .arg(gateway.path("key.pem"))
        .arg("-out")
        .arg(gateway.path("cert.pem"))
        .output();
    let Ok(made) = made else {
        assert!(std::env::var_os("CI").is_none(), "openssl makes the certificate of this test");
        eprintln!("SKIPPED: no openssl to make a certificate with");
        return;
    };
    assert!(made.status.success(), "{made:?}");
    gateway.run(&[]).await;
    gateway.ready().await;
    let port = gateway.facilitator().rsplit_once(':').unwrap().1.to_owned();
    let cert = reqwest::Certificate::from_pem(&std::fs::read(gateway.path("cert.pem")).unwrap()).unwrap();
    let client = reqwest::Client::builder().add_root_certificate(cert).resolve("localhost", ([127, 0, 0, 1], port.parse().unwrap()).into());
    let client = client.build().unwrap();
    let url = format!("https://localhost:{port}/supported");
    let told = Told::read(client.get(&url).bearer_auth(tenants[0].token()).send().await.unwrap()).await;
    assert_eq!((told.status, &told.body["kinds"][0]["network"]), (200, &json!("kaspa:simnet")), "{told:?}");
    assert_eq!(client.get(&url).send().await.unwrap().status(), 401);
    assert!(HTTP.get(&url).send().await.is_err(), "nobody vouches for this certificate elsewhere");
    assert!(HTTP.get(url.replace("https", "http")).send().await.is_err(), "there is no plain listener");
    drop(devnet);
}
