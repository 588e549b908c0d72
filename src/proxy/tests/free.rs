//! Free routes: requests that only ask go from connection to connection, the rest through pingora's proxy.

use super::support::*;
use crate::{protocol::policy::HostHeader, proxy::EdgeSettings};
use futures::StreamExt as _;
use http::{HeaderName, HeaderValue};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Everything a client might send to pass for the gateway.
pub const FORGED: &str = "PAYMENT-SIGNATURE: forged\r\nPayment-Required: forged\r\nX-Payment: forged\r\n\
    X-Kas402-Payer: forged\r\nx-kas402-txid: forged\r\nX-HTTP-Method-Override: DELETE\r\nX-Original-URL: /forged\r\n\
    Forwarded: for=forged\r\nX-Forwarded-Proto: forged\r\nX-Forwarded-Host: forged\r\nX-Request-Id: forged\r\n";

#[tokio::test]
async fn a_free_request_passes_with_its_body_and_query() {
    let edge = edge(upstream(mirror().await));
    let client = reqwest::Client::new();
    let got = client.get(edge.url("/a/b?c=%2F..&d")).header("x-own", "1").send().await.unwrap();
    assert_eq!(got.headers()["x-request-id"], "request-0");
    let seen = got.text().await.unwrap();
    assert!(seen.starts_with("GET /a/b?c=%2F..&d\n") && seen.contains("\nx-own: 1\n"), "{seen}");
    assert!(seen.contains("\nx-forwarded-for: 127.0.0.1\n") && seen.contains("\nx-forwarded-proto: http\n"), "{seen}");

    let seen = client.post(edge.url("/a")).body("hello").send().await.unwrap().text().await.unwrap();
    assert!(seen.starts_with("POST /a\n") && seen.ends_with("\n\nhello"), "{seen}");
}

#[tokio::test]
async fn a_chunked_request_passes() {
    let edge = edge(upstream(mirror().await));
    let request = "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let answer = exchange(edge.address, request).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\n\nabcde"), "{answer}");
}

#[tokio::test]
async fn a_hundred_mebibytes_stream_both_ways_unchanged() {
    let edge = edge(upstream(mirror().await));
    let block = pattern(1024 * 1024);
    let blocks = 100;
    let sent = block.clone();
    let body = futures::stream::iter((0..blocks).map(move |_| Ok::<_, std::io::Error>(sent.clone())));
    let got = reqwest::Client::new().post(edge.url("/echo")).body(reqwest::Body::wrap_stream(body)).send().await.unwrap();
    assert_eq!(got.status(), 200);
    let mut position = 0;
    let mut stream = got.bytes_stream();
    while let Some(piece) = stream.next().await {
        let mut piece = &piece.unwrap()[..];
        while !piece.is_empty() {
            let expect = &block[position % block.len()..];
            let length = piece.len().min(expect.len());
            assert!(piece[..length] == expect[..length], "differs near byte {position}");
            (piece, position) = (&piece[length..], position + length);
        }
    }
    assert_eq!(position, blocks * block.len());
}

#[tokio::test]
async fn what_is_the_gateways_to_say_never_comes_from_a_client() {
    let edge = edge(upstream(mirror().await));
    for path in ["/free", "/paid"] {
        let answer = exchange(edge.address, &format!("GET {path} HTTP/1.1\r\nHost: h\r\n{FORGED}Connection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(&format!("GET {path}")), "{answer}");
        assert!(!answer.contains("forged") && !answer.contains("DELETE"), "{path}: {answer}");
    }
}

#[tokio::test]
async fn configured_credentials_overwrite_and_the_base_path_is_put_in_front() {
    let mut api = upstream(mirror().await);
    api.base_path = "/v2/api".into();
    api.host_header = HostHeader::Fixed(HeaderValue::from_static("backend.example"));
    api.headers = vec![(HeaderName::from_static("authorization"), HeaderValue::from_static("Bearer ours"))];
    let edge = edge(api);
    for path in ["/free?q=1", "/paid?q=1"] {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer theirs\r\nauthorization: other\r\nConnection: close\r\n\r\n");
        let seen = exchange(edge.address, &request).await;
        assert!(seen.contains(&format!("GET /v2/api{path}\n")), "{seen}");
        assert_eq!(seen.matches("authorization:").count(), 1, "{seen}");
        assert!(seen.contains("authorization: Bearer ours\n") && seen.contains("host: backend.example\n"), "{seen}");
        assert!(seen.contains("x-forwarded-host: h\n"), "{seen}");
    }
}

#[tokio::test]
async fn the_normal_path_is_forwarded_with_the_query_as_received() {
    let edge = edge_with(upstream(mirror().await), |_| Plan::Free("/normal".into()), None, EdgeSettings::default());
    let seen = exchange(edge.address, "GET /a/..//%6Eormal?x=%2e%2E/.. HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await;
    assert!(seen.contains("GET /normal?x=%2e%2E/..\n"), "{seen}");
    assert_eq!(edge.fake.head().target, "/a/..//%6Eormal?x=%2e%2E/..", "the paywall sees what was received");
}

#[tokio::test]
async fn a_websocket_upgrade_passes() {
    let upstream_ = RawUpstream::start(|_, mut stream| async move {
        let head = read_head(&mut stream).await.to_ascii_lowercase();
        assert!(head.contains("upgrade: websocket") && head.contains("connection: upgrade"), "{head}");
        assert!(head.contains("sec-websocket-key: k"), "{head}");
        stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n").await.unwrap();
        let mut byte = [0; 4];
        while stream.read_exact(&mut byte).await.is_ok() {
            stream.write_all(&byte).await.unwrap();
        }
    })
    .await;
    let edge = edge(upstream(upstream_.address));
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    stream
        .write_all(b"GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: k\r\n\r\n")
        .await
        .unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 101"));
    for frame in [b"ping", b"pong"] {
        stream.write_all(frame).await.unwrap();
        let mut back = [0; 4];
        stream.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, frame);
    }
}

#[tokio::test]
async fn an_upgrade_to_h2c_is_not_passed_on() {
    let edge = edge(upstream(mirror().await));
    for path in ["/free", "/paid"] {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n"
        );
        let seen = exchange(edge.address, &request).await;
        assert!(seen.starts_with("HTTP/1.1 200"), "{seen}");
        let seen = seen.split_once(&format!("GET {path}")).unwrap().1;
        assert!(!seen.contains("h2c") && !seen.contains("http2-settings") && !seen.contains("upgrade"), "{path}: {seen}");
    }
}

#[tokio::test]
async fn an_upstreams_own_cors_and_payment_headers_stay_on_free_routes() {
    let api = RawUpstream::closing_after(
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nAccess-Control-Allow-Origin: https://x\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\nok",
    )
    .await;
    let answer = exchange(edge(upstream(api.address)).address, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await;
    assert_eq!(answer.to_ascii_lowercase().matches("set-cookie").count(), 2, "{answer}");
    assert!(answer.to_ascii_lowercase().contains("access-control-allow-origin: https://x"), "{answer}");
}

#[tokio::test]
async fn upstream_failures_are_told_in_our_words() {
    // A port that was free a moment ago refuses.
    let refusing = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = RawUpstream::start(|_, stream| async move {
        let _held = stream;
        std::future::pending().await
    })
    .await;
    let closing = RawUpstream::closing_after(b"").await;
    let garbage = RawUpstream::closing_after(b"not http\r\n\r\n").await;
    for (address, status, code) in [
        (refusing, "502", "upstream_failed"),
        (silent.address, "504", "upstream_timeout"),
        (closing.address, "502", "upstream_failed"),
        (garbage.address, "502", "upstream_failed"),
    ] {
        let mut api = upstream(address);
        api.read_timeout = std::time::Duration::from_millis(200);
        let answer = exchange(edge(api).address, "GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{code}: {answer}");
        assert!(answer.contains(&format!("\"error\":\"{code}\"")) && answer.contains("request-0"), "{answer}");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_upstream_breaks_off_downstream() {
    let cut_length = RawUpstream::closing_after(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await;
    let cut_chunks = RawUpstream::closing_after(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n").await;
    for api in [cut_length, cut_chunks] {
        let got = reqwest::get(edge(upstream(api.address)).url("/")).await.unwrap();
        assert_eq!(got.status(), 200);
        assert!(got.bytes().await.is_err(), "a cut body must not look whole");
    }
}

#[tokio::test]
async fn a_body_arrives_whole_wherever_its_first_bytes_came() {
    let edge = edge(upstream(mirror().await));
    let chunked = "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    for (method, framing, body) in [
        ("POST", "Content-Length: 5", "abcde"),
        ("POST", "Transfer-Encoding: chunked", chunked),
        // A safe method may have one, too.
        ("GET", "Content-Length: 5", "abcde"),
        ("GET", "Transfer-Encoding: chunked", chunked),
    ] {
        // The proxy reads the head once more: what was read behind it must not get lost, and nothing be waited for twice.
        for early in 0..=body.len() {
            let mut stream = TcpStream::connect(edge.address).await.unwrap();
            let head = format!("{method} /a HTTP/1.1\r\nHost: h\r\n{framing}\r\nConnection: close\r\n\r\n");
            stream.write_all((head + &body[..early]).as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            stream.write_all(&body.as_bytes()[early..]).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\n\nabcde"), "{method} {framing}, {early} early: {answer}");
        }
    }
}

#[tokio::test]
async fn a_connection_serves_requests_of_every_kind_one_after_the_other() {
    let edge = edge(upstream(mirror().await));
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    for round in 0..3 {
        for (method, path, body) in
            [("GET", "/a", ""), ("POST", "/b", "abcde"), ("HEAD", "/c", ""), ("GET", "/paid", ""), ("PUT", "/d", "")]
        {
            let request = format!("{method} {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            stream.write_all(request.as_bytes()).await.unwrap();
            let head = read_head(&mut stream).await.to_ascii_lowercase();
            assert!(head.starts_with("http/1.1 200") && head.contains("connection: keep-alive"), "round {round}, {method} {path}: {head}");
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let chunked = head.contains("transfer-encoding: chunked");
            let told = match length {
                _ if method == "HEAD" => continue,
                Some(length) => {
                    let mut told = vec![0; length.parse().unwrap()];
                    stream.read_exact(&mut told).await.unwrap();
                    told
                }
                None => {
                    assert!(chunked, "{head}");
                    let mut told = Vec::new();
                    while !told.ends_with(b"0\r\n\r\n") {
                        told.push(stream.read_u8().await.unwrap());
                    }
                    told
                }
            };
            let told = String::from_utf8(told).unwrap();
            assert!(told.contains(&format!("{method} {path}\n")) && told.contains(body), "{told}");
        }
    }
}

#[tokio::test]
async fn answers_keep_their_framing() {
    for (answer, method, expect, refused) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "GET", "\r\n\r\nok", "transfer-encoding"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "HEAD", "content-length: 2\r\n", "transfer-encoding"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "GET", "2\r\nok\r\n0\r\n\r\n", "content-length"),
        ("HTTP/1.1 200 OK\r\n\r\nok", "GET", "2\r\nok\r\n0\r\n\r\n", "content-length"),
        ("HTTP/1.1 204 No Content\r\n\r\n", "GET", "http/1.1 204", "content-length"),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", "GET", "content-length: 7\r\n", "transfer-encoding"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\r\n",
            "GET",
            "content-length: 0",
            "x-hop",
        ),
    ] {
        let api = RawUpstream::closing_after(answer.as_bytes()).await;
        let request = format!("{method} / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        let got = exchange(edge(upstream(api.address)).address, &request).await.to_ascii_lowercase();
        assert!(got.contains(expect) && !got.contains(refused) && !got.contains("keep-alive"), "{method} {answer}: {got}");
        assert_eq!(
            got.matches("content-length").count() + got.matches("transfer-encoding").count(),
            usize::from(!answer.contains(" 204 ")),
            "{got}"
        );
    }
}

#[tokio::test]
async fn early_hints_arrive_before_the_answer() {
    let api =
        RawUpstream::closing_after(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let got = exchange(edge(upstream(api.address)).address, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await;
    assert!(got.starts_with("HTTP/1.1 103") && got.contains("HTTP/1.1 200") && got.ends_with("ok"), "{got}");
}

#[tokio::test]
async fn a_question_is_asked_again_when_the_pooled_connection_was_closed() {
    // Each connection answers one request and closes only when the next one came, as a server does whose patience ends at that moment.
    let api = RawUpstream::start(|_, mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        read_head(&mut stream).await;
    })
    .await;
    let edge = edge(upstream(api.address));
    for asked in 1..=3 {
        let answer = exchange(edge.address, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(api.accepted(), asked);
    }
}

#[tokio::test]
async fn a_client_that_leaves_sets_the_upstream_free() {
    for (begun, head) in [(false, &b""[..]), (true, b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")] {
        let (left, mut upstream_left) = tokio::sync::mpsc::channel(1);
        let api = RawUpstream::start(move |_, mut stream| {
            let left = left.clone();
            async move {
                read_head(&mut stream).await;
                stream.write_all(head).await.unwrap();
                // Never says more: only the end of the connection ends this.
                assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
                left.send(()).await.unwrap();
            }
        })
        .await;
        let mut patient = upstream(api.address);
        patient.read_timeout = std::time::Duration::from_secs(3600);
        let edge = edge(patient);
        let mut stream = TcpStream::connect(edge.address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
        if begun {
            assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200"));
        } else {
            while api.accepted() == 0 {
                tokio::task::yield_now().await;
            }
        }
        drop(stream);
        let waited = tokio::time::timeout(std::time::Duration::from_secs(60), upstream_left.recv()).await;
        assert_eq!(waited, Ok(Some(())), "begun: {begun}");
    }
}
