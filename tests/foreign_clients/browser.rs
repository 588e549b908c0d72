//! A page of another origin, in headless Chromium: it reads offers and receipts, and pays with the x402 packages as they are.

use crate::{
    shop::{PRICE, Shop},
    support::devnet::KAS,
    tools,
};
use axum::{
    Router,
    body::Bytes,
    extract::{Path as PathOf, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use std::{path::PathBuf, process::Stdio, time::Duration};
use tokio::{net::TcpListener, process::Command, sync::mpsc, time::timeout};

/// Only turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(120);
/// A browser that stays at home: no updates, no look-ups, no profile but its own.
const FLAGS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
];

#[tokio::test]
async fn a_page_of_another_origin_reads_offers_and_pays() {
    let (Some(chromium), Some(modules)) = (tools::chromium(), tools::node_modules()) else { return };
    let shop = Shop::open().await;
    shop.world.devnet.fund(&shop.wallet, 10 * KAS, 3).await;
    let code = tools::javascript(&modules);
    let (told, mut done) = mpsc::channel(4);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let pages = tokio::spawn(async move { axum::serve(listener, site(code.path().to_owned(), told)).await });

    let secret = hex::encode(shop.wallet.keypair.secret_bytes());
    let page = format!("{origin}/?gateway={}&node={}&secret={secret}", shop.world.gateway.url(), shop.json);
    let profile = tempfile::tempdir().unwrap();
    let mut browser = Command::new(chromium);
    browser.args(FLAGS).arg(format!("--user-data-dir={}", profile.path().display())).arg(page);
    let mut browser = browser.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    let seen = timeout(PATIENCE, done.recv()).await.expect("the page never ended").unwrap();
    browser.kill().await.unwrap();
    pages.abort();

    assert_eq!((&seen["error"], &seen["origin"]), (&Value::Null, &json!(origin)), "{seen}");
    let offered = &seen["offered"];
    assert_eq!((&offered["status"], &offered["receipt"]), (&json!(402), &Value::Null), "{seen}");
    assert_eq!(offered["required"]["accepts"][0]["amount"], PRICE.to_string());
    assert_eq!(offered["required"], serde_json::from_str::<Value>(offered["body"].as_str().unwrap()).unwrap());
    for (bought, body) in [(&seen["bought"], "GET /paid/page "), (&seen["posted"], "POST /paid/page a body")] {
        assert_eq!((&bought["status"], &bought["body"]), (&json!(200), &json!(body)), "{seen}");
        let receipt = &bought["receipt"];
        assert_eq!((&receipt["success"], &receipt["amount"]), (&json!(true), &json!(PRICE.to_string())), "{seen}");
        assert!(shop.known(receipt["transaction"].as_str().unwrap()).await, "{seen}");
    }
    assert_eq!(seen["free"], "refused", "{seen}");
    assert_eq!(shop.charged().await, (2, 2 * PRICE));
}

#[derive(Clone)]
struct Site {
    code: PathBuf,
    told: mpsc::Sender<Value>,
}

fn site(code: PathBuf, told: mpsc::Sender<Value>) -> Router {
    let done = async |State(site): State<Site>, body: Bytes| {
        let _ = site.told.send(serde_json::from_slice(&body).unwrap()).await;
    };
    Router::new()
        .route("/", get(Html(include_str!("page.html"))))
        .route("/done", post(done))
        .route("/js/{*file}", get(script))
        .with_state(Site { code, told })
}

async fn script(State(site): State<Site>, PathOf(file): PathOf<String>) -> Response {
    match tokio::fs::read(site.code.join(file)).await {
        Ok(bytes) => ([(CONTENT_TYPE, "text/javascript")], bytes).into_response(),
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}
