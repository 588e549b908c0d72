//! Listeners, protocols, request forms, shutdown.

use super::support::*;
use crate::{
    protocol::policy::UpstreamTls,
    proxy::{BindError, Bound, EdgeSettings, ListenTls, Listener, Stopped},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Notify,
};

#[tokio::test]
async fn request_forms_lead_to_one_authority_and_target() {
    let edge = edge(upstream(mirror().await));
    for (head, status, seen) in [
        ("GET http://api.example/a?q HTTP/1.1\r\nHost: api.example", "200", Some(("api.example", "/a?q"))),
        ("GET http://api.example/paid HTTP/1.1\r\nHost: api.example", "200", Some(("api.example", "/paid"))),
        ("GET /a HTTP/1.0", "200", Some(("", "/a"))),
        ("GET http://api.example/a HTTP/1.1\r\nHost: other.example", "400", None),
        ("GET /a HTTP/1.1\r\nHost: a\r\nHost: a", "400", None),
        ("GET /a HTTP/1.1", "400", None),
        ("GET /a\\b HTTP/1.1\r\nHost: h", "400", None),
        ("GET /a HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2", "400", None),
        ("GET /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip", "400", None),
        ("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443", "405", None),
    ] {
        *edge.fake.last() = None;
        let answer = exchange(edge.address, &format!("{head}\r\nConnection: close\r\n\r\n")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{head}: {answer}");
        let found = edge.fake.last().clone().map(|head| (head.authority, head.target));
        assert_eq!(found, seen.map(|(authority, target)| (authority.into(), target.into())), "{head}");
    }
}

#[tokio::test]
async fn heads_over_the_servers_own_limits_are_refused() {
    let edge = edge(upstream(mirror().await));
    let many = "X-A: 1\r\n".repeat(300);
    let long = format!("X-A: {}\r\n", "a".repeat(1_200_000));
    for headers in [many, long] {
        let answer = exchange(edge.address, &format!("GET / HTTP/1.1\r\nHost: h\r\n{headers}\r\n")).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    // What the paywall wants to judge itself reaches it.
    let payment = format!("PAYMENT-SIGNATURE: {}\r\n", "a".repeat(crate::protocol::limits::PAYMENT_HEADER_BYTES + 1));
    let answer = exchange(edge.address, &format!("GET / HTTP/1.1\r\nHost: h\r\n{payment}Connection: close\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(edge.fake.head().headers["payment-signature"].len() > crate::protocol::limits::PAYMENT_HEADER_BYTES);
}

#[tokio::test]
async fn http_2_without_tls_serves_free_and_priced() {
    let settings = EdgeSettings { h2c: true, ..EdgeSettings::default() };
    let edge = edge_with(upstream(mirror().await), by_path, None, settings);
    let h2 = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    // A body of a safe method, whose length nobody tells: over HTTP/2 no header says that there is one.
    let untold = reqwest::Body::wrap_stream(futures::stream::iter([Ok::<_, std::io::Error>("un"), Ok("told")]));
    let got = h2.get(edge.url("/free/echo")).body(untold).send().await.unwrap();
    assert_eq!((got.status().as_u16(), got.text().await.unwrap().as_str()), (200, "untold"));
    for client in [h2, reqwest::Client::new()] {
        for path in ["/free/echo", "/paid/echo"] {
            let body = pattern(1024 * 1024);
            let got = client.post(edge.url(path)).body(body.clone()).send().await.unwrap();
            assert_eq!(got.status(), 200);
            assert!(got.bytes().await.unwrap() == body, "{path}");
            assert_eq!(edge.fake.head().authority, edge.address.to_string());
        }
        let seen = client.get(edge.url("/paid?a")).send().await.unwrap().text().await.unwrap();
        assert!(seen.starts_with("GET /paid?a\n"), "{seen}");
        let got = client.post(edge.url("/paid")).body(pattern(BODY_LIMIT + 1)).send().await.unwrap();
        assert_eq!(got.status(), 413);
    }
}

#[tokio::test]
async fn tls_to_clients_and_to_upstreams() {
    let localhost = "127.0.0.1:0".parse().unwrap();
    let settings = EdgeSettings { listeners: vec![Listener { address: localhost, tls: Some(tls_files()) }], ..EdgeSettings::default() };
    // The inner edge is the TLS upstream of the outer ones.
    let inner = edge_with(upstream(mirror().await), |head| Plan::Free(head.target.clone()), None, settings);
    let certificate = reqwest::Certificate::from_pem(&std::fs::read(tls_files().cert).unwrap()).unwrap();
    let client = reqwest::Client::builder().add_root_certificate(certificate).build().unwrap();
    let got = client.get(format!("https://localhost:{}/a", inner.address.port())).send().await.unwrap();
    assert_eq!(got.version(), http::Version::HTTP_2);
    assert!(got.text().await.unwrap().contains("x-forwarded-proto: https\n"));

    for (server_name, verify, ca_file, status) in [
        ("localhost", true, Some(tls_files().cert), 200),
        ("127.0.0.1", true, Some(tls_files().cert), 200),
        ("other", true, Some(tls_files().cert), 502),
        ("localhost", true, None, 502),
        ("other", false, None, 200),
        ("localhost", true, Some("/nonexistent".into()), 502),
    ] {
        let mut api = upstream(inner.address);
        api.tls = Some(UpstreamTls { server_name: server_name.into(), verify, ca_file: ca_file.clone() });
        let outer = edge(api);
        for path in ["/free", "/paid"] {
            let got = reqwest::get(outer.url(path)).await.unwrap().status();
            assert_eq!(got, status, "{server_name} {verify} {ca_file:?} {path}");
        }
    }
}

#[test]
fn what_cannot_listen_says_so() {
    let listener = |address, tls| EdgeSettings { listeners: vec![Listener { address, tls }], ..EdgeSettings::default() };
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    assert!(matches!(Bound::bind(listener(address, None)), Err(BindError::Listen(at, _)) if at == address));
    let ListenTls { cert, key } = tls_files();
    for tls in [ListenTls { cert: key.clone(), key: cert.clone() }, ListenTls { cert, key: "/nonexistent".into() }] {
        assert!(matches!(Bound::bind(listener("127.0.0.1:0".parse().unwrap(), Some(tls))), Err(BindError::Tls(_))));
    }
    assert!(matches!(Bound::bind(EdgeSettings::default()), Err(BindError::NoListener)));
}

#[tokio::test]
async fn stopping_lets_running_requests_end_and_closes_idle_connections() {
    let (begun, finish) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let inside = (begun.clone(), finish.clone());
    let edge = serving(upstream(mirror().await), move |_, _| {
        let (begun, finish) = inside.clone();
        Box::pin(async move {
            begun.notify_one();
            finish.notified().await;
            whole(200, "done", false)
        })
    });
    let address = edge.address;
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET /free HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    assert!(read_head(&mut idle).await.starts_with("HTTP/1.1 200"));
    let running = tokio::spawn(reqwest::get(edge.url("/paid")));
    begun.notified().await;
    let stopping = tokio::spawn(edge.edge.stop());
    // The idle connection ends first: what is left of its answer, then nothing.
    idle.read_to_end(&mut Vec::new()).await.unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "no new connections");
    assert!(!stopping.is_finished(), "a request is still running");
    finish.notify_one();
    assert_eq!(running.await.unwrap().unwrap().text().await.unwrap(), "done");
    assert_eq!(stopping.await.unwrap(), Stopped::Drained);
}

#[tokio::test]
async fn stopping_does_not_wait_for_ever() {
    let begun = Arc::new(Notify::new());
    let inside = begun.clone();
    let settings = EdgeSettings { grace: Duration::from_millis(50), ..EdgeSettings::default() };
    let serve = Box::new(move |_, _| -> futures::future::BoxFuture<'static, _> {
        let begun = inside.clone();
        Box::pin(async move {
            begun.notify_one();
            std::future::pending().await
        })
    });
    let edge = edge_with(upstream(mirror().await), by_path, Some(serve), settings);
    let running = tokio::spawn(reqwest::get(edge.url("/paid")));
    begun.notified().await;
    assert_eq!(edge.edge.stop().await, Stopped::Cut);
    assert!(running.await.unwrap().is_err());
}

#[tokio::test]
async fn an_idle_client_connection_is_closed_after_its_time() {
    let settings = EdgeSettings { client_keepalive: Duration::from_secs(1), ..EdgeSettings::default() };
    let edge = edge_with(upstream(mirror().await), by_path, None, settings);
    for path in ["/free", "/paid"] {
        let mut stream = TcpStream::connect(edge.address).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\n\r\n").as_bytes()).await.unwrap();
        assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200"));
        let closed = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut Vec::new())).await;
        assert!(closed.is_ok(), "{path} is kept for ever");
    }
}
