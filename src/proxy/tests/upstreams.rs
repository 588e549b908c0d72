//! The exchange with upstreams: what fails how, what is reused, what is never sent twice.

use super::support::*;
use crate::{
    gateway::upstream::{UpstreamFailure, UpstreamReply, UpstreamRequest, Upstreams as _},
    protocol::policy::Upstream,
    proxy::{PingoraUpstreams, resolve::FRESH},
};
use bytes::Bytes;
use http::{HeaderMap, Method};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::Notify,
    time::Instant,
};

fn request(method: Method, body: &'static [u8], timeout: Duration) -> UpstreamRequest {
    UpstreamRequest {
        method,
        path_and_query: "/a".into(),
        headers: HeaderMap::new(),
        body: Bytes::from_static(body),
        timeout,
        silence: None,
    }
}

async fn body(mut reply: UpstreamReply) -> Result<Bytes, UpstreamFailure> {
    let mut whole = Vec::new();
    while let Some(chunk) = reply.body.chunk().await? {
        whole.extend_from_slice(&chunk);
    }
    assert_eq!(reply.body.chunk().await, Ok(None), "the end stays the end");
    Ok(whole.into())
}

async fn get(upstreams: &PingoraUpstreams, upstream: &Upstream) -> Result<(u16, Bytes), UpstreamFailure> {
    let reply = upstreams.send(upstream, request(Method::GET, b"", Duration::from_secs(20))).await?;
    Ok((reply.status, body(reply).await?))
}

#[tokio::test]
async fn answers_are_read_to_their_end_or_are_broken() {
    for (bytes, expect) in [
        (&b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"[..], Ok((200, "ok"))),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", Ok((200, "ok"))),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil close", Ok((200, "until close"))),
        (b"HTTP/1.1 204 No Content\r\n\r\n", Ok((204, ""))),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", Ok((304, ""))),
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
            Ok((201, "")),
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", Err(UpstreamFailure::Broken)),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", Err(UpstreamFailure::Broken)),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", Err(UpstreamFailure::Broken)),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nok", Err(UpstreamFailure::Broken)),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", Err(UpstreamFailure::Broken)),
        (b"HTTP/1.1 200", Err(UpstreamFailure::Broken)),
        (b"garbage\r\n\r\n", Err(UpstreamFailure::Broken)),
        (b"", Err(UpstreamFailure::Broken)),
    ] {
        let api = RawUpstream::closing_after(bytes).await;
        let found = get(&PingoraUpstreams::new(4), &upstream(api.address)).await;
        assert_eq!(found, expect.map(|(status, body)| (status, Bytes::from(body))), "{:?}", String::from_utf8_lossy(bytes));
        assert_eq!(api.accepted(), 1, "never sent twice");
    }
}

#[tokio::test]
async fn the_head_of_an_answer_to_head_has_no_body() {
    let api = RawUpstream::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n").await;
    let upstreams = PingoraUpstreams::new(4);
    for _ in 0..2 {
        let reply = upstreams.send(&upstream(api.address), request(Method::HEAD, b"", Duration::from_secs(20))).await.unwrap();
        assert_eq!(reply.headers["content-length"], "9");
        assert_eq!(body(reply).await, Ok(Bytes::new()));
    }
    assert_eq!(api.accepted(), 1);
}

#[tokio::test]
async fn connections_are_reused_after_complete_bodies_only() {
    for (bytes, connections) in [
        (&b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"[..], 1),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 1),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", 3),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 3),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more than was said", 3),
    ] {
        let api = RawUpstream::answering(bytes).await;
        let upstreams = PingoraUpstreams::new(4);
        for _ in 0..3 {
            assert_eq!(get(&upstreams, &upstream(api.address)).await, Ok((200, Bytes::from("ok"))));
        }
        assert_eq!(api.accepted(), connections, "{:?}", String::from_utf8_lossy(bytes));
    }
}

#[tokio::test]
async fn an_answer_that_is_not_read_costs_its_connection() {
    let api = RawUpstream::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let upstreams = PingoraUpstreams::new(4);
    let unread = upstreams.send(&upstream(api.address), request(Method::GET, b"", Duration::from_secs(20))).await.unwrap();
    drop(unread);
    get(&upstreams, &upstream(api.address)).await.unwrap();
    assert_eq!(api.accepted(), 2);
}

#[tokio::test]
async fn who_does_not_answer_in_time_timed_out() {
    let short = Duration::from_millis(100);
    let silent = RawUpstream::start(|_, stream| async move {
        let _held = stream;
        std::future::pending().await
    })
    .await;
    let sent = PingoraUpstreams::new(4).send(&upstream(silent.address), request(Method::GET, b"", short)).await;
    assert_eq!(sent.err(), Some(UpstreamFailure::Timeout));

    // The head is in time, the body stops.
    let stalling = RawUpstream::start(|_, mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").await.unwrap();
        std::future::pending().await
    })
    .await;
    let mut api = upstream(stalling.address);
    api.read_timeout = short;
    assert_eq!(get(&PingoraUpstreams::new(4), &api).await, Err(UpstreamFailure::Timeout));
}

#[tokio::test]
async fn who_refuses_was_sent_nothing() {
    // A port that was free a moment ago refuses.
    let refusing = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(get(&PingoraUpstreams::new(4), &upstream(refusing)).await, Err(UpstreamFailure::Connect));
    let mut nameless = upstream(refusing);
    nameless.host = "kas402.invalid".into();
    assert_eq!(get(&PingoraUpstreams::new(4), &nameless).await, Err(UpstreamFailure::Connect));
}

#[tokio::test]
async fn a_request_leaves_with_our_framing_and_no_connection_headers() {
    let edge_headers = "connection: x-hop\nx-hop: 1\ntransfer-encoding: chunked\nexpect: 100-continue\ncontent-length: 99\nte: trailers\nupgrade: h2c\nhost: client.example\nx-own: 1\nx-kas402-txid: ours";
    let address = mirror().await;
    for (method, sent, length) in [
        (Method::GET, &b""[..], None),
        (Method::POST, b"", Some("0")),
        (Method::POST, b"hello", Some("5")),
        (Method::DELETE, b"x", Some("1")),
    ] {
        let mut request = request(method, sent, Duration::from_secs(20));
        request.headers = edge_headers
            .lines()
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        let reply = PingoraUpstreams::new(4).send(&upstream(address), request).await.unwrap();
        let seen = String::from_utf8(body(reply).await.unwrap().to_vec()).unwrap();
        let mut lines: Vec<&str> = seen.split("\n\n").next().unwrap().lines().skip(1).collect();
        lines.sort();
        let host = format!("host: {address}");
        let length = length.map(|length| format!("content-length: {length}"));
        let mut expect: Vec<&str> = vec![&host, "x-kas402-txid: ours", "x-own: 1"];
        expect.extend(length.as_deref());
        expect.sort();
        assert_eq!(lines, expect, "{seen}");
    }
}

#[tokio::test]
async fn a_pooled_connection_that_dies_after_the_request_is_not_tried_again() {
    let api = RawUpstream::start(|_, mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        // The second request is read, then the connection dies: it may have been acted on.
        read_head(&mut stream).await;
    })
    .await;
    let upstreams = PingoraUpstreams::new(4);
    assert!(get(&upstreams, &upstream(api.address)).await.is_ok());
    assert_eq!(get(&upstreams, &upstream(api.address)).await, Err(UpstreamFailure::Broken));
    assert_eq!(api.accepted(), 1);
}

#[tokio::test]
async fn a_pooled_connection_that_was_closed_is_replaced() {
    let closed = Arc::new(Notify::new());
    let signal = closed.clone();
    let api = RawUpstream::start(move |_, mut stream| {
        let closed = signal.clone();
        async move {
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
            stream.shutdown().await.unwrap();
            // The client closes in turn once it has seen the end.
            stream.read_to_end(&mut Vec::new()).await.unwrap();
            closed.notify_one();
        }
    })
    .await;
    let upstreams = PingoraUpstreams::new(4);
    for _ in 0..3 {
        assert!(get(&upstreams, &upstream(api.address)).await.is_ok());
        closed.notified().await;
    }
    assert_eq!(api.accepted(), 3);
}

#[tokio::test]
async fn an_answer_given_before_the_body_was_read_counts() {
    let api = RawUpstream::closing_after(b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: 2\r\n\r\nno").await;
    let mut large = request(Method::POST, b"", Duration::from_secs(20));
    large.body = pattern(256 * 1024);
    let reply = PingoraUpstreams::new(4).send(&upstream(api.address), large).await;
    // The kernel may reset the connection before the answer is read; then it is broken, never a success.
    match reply {
        Ok(reply) => assert_eq!(reply.status, 413),
        Err(failure) => assert_eq!(failure, UpstreamFailure::Broken),
    }
}

#[tokio::test]
async fn a_name_is_tried_at_each_of_its_addresses() {
    let api = RawUpstream::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    for path in ["/free", "/paid"] {
        let mut named = upstream(api.address);
        named.host = "api.invalid".into();
        let edge = edge(named);
        // Nothing listens on this port of the first address.
        let refusing = SocketAddr::new("127.0.0.2".parse().unwrap(), api.address.port());
        let resolver = &edge.upstreams.peers.resolver;
        resolver.remember("api.invalid", api.address.port(), Arc::from([refusing, api.address]), Instant::now() + FRESH);
        // POST: nothing was sent to the first address, so the method does not matter.
        let got = reqwest::Client::new().post(edge.url(path)).body("").send().await.unwrap();
        assert_eq!(got.text().await.unwrap(), "ok", "{path}");
        let order = resolver.addresses("api.invalid", api.address.port()).await.unwrap();
        assert_eq!(*order, [api.address, refusing], "{path}");
    }
}
