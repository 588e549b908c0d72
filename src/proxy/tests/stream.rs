//! Streamed answers: at once, and never whole when they were cut.

use super::support::*;
use crate::{
    gateway::answer::{Answer, BodyRead, RawHead, Served, StreamChunk},
    proxy::EdgeSettings,
};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
};

/// An edge whose one paid answer streams what the test sends.
async fn streaming(headers: &[(&'static str, &'static str)]) -> (TestEdge, mpsc::Sender<StreamChunk>) {
    let (sender, receiver) = mpsc::channel(1);
    let receiver = Arc::new(Mutex::new(Some(receiver)));
    let headers = map(headers);
    let serve = move |_: RawHead, _: BodyRead| -> BoxFuture<'static, Served> {
        let body = receiver.lock().unwrap().take().expect("one request");
        let head = Answer { status: 200, headers: headers.clone(), body: Bytes::new(), close: false };
        Box::pin(async move { Served::Stream { head, body } })
    };
    let settings = EdgeSettings { h2c: true, ..EdgeSettings::default() };
    (edge_with(upstream(mirror().await), by_path, Some(Box::new(serve)), settings), sender)
}

fn data(text: &'static str) -> StreamChunk {
    StreamChunk::Data(Bytes::from_static(text.as_bytes()))
}

#[tokio::test]
async fn an_event_arrives_before_the_next_one_is_made() {
    let (edge, sender) = streaming(&[("content-type", "text/event-stream")]).await;
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    stream.write_all(b"GET /paid HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    let head = read_head(&mut stream).await.to_ascii_lowercase();
    assert!(head.contains("transfer-encoding: chunked") && head.contains("text/event-stream"), "{head}");
    for event in ["data: one\n\n", "data: two\n\n"] {
        // The next event is sent only after this one was read.
        sender.send(data(event)).await.unwrap();
        let mut chunk = vec![0; format!("{:X}\r\n{event}\r\n", event.len()).len()];
        stream.read_exact(&mut chunk).await.unwrap();
        assert!(String::from_utf8_lossy(&chunk).contains(event));
    }
    sender.send(StreamChunk::End { trailers: None }).await.unwrap();
    let mut end = [0; 5];
    stream.read_exact(&mut end).await.unwrap();
    assert_eq!(&end, b"0\r\n\r\n");
    stream.write_all(b"GET /free HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200"), "the connection is still good");
}

/// What a client makes of a stream: `Ok(body)` when it looks whole.
async fn outcome(headers: &[(&'static str, &'static str)], chunks: Vec<StreamChunk>, h2: bool) -> Result<String, reqwest::Error> {
    let (edge, sender) = streaming(headers).await;
    let client = if h2 { reqwest::Client::builder().http2_prior_knowledge() } else { reqwest::Client::builder() };
    tokio::spawn(async move {
        for chunk in chunks {
            if sender.send(chunk).await.is_err() {
                return;
            }
        }
    });
    client.build().unwrap().get(edge.url("/paid")).send().await?.text().await
}

#[tokio::test]
async fn only_a_stream_that_ended_looks_whole() {
    let length: &[(&str, &str)] = &[("content-length", "4")];
    for h2 in [false, true] {
        for (headers, chunks, expect) in [
            (&[][..], vec![data("ab"), data("cd"), StreamChunk::End { trailers: None }], Some("abcd")),
            (&[], vec![StreamChunk::End { trailers: None }], Some("")),
            (&[], vec![data(""), data("ab"), StreamChunk::End { trailers: None }], Some("ab")),
            (&[], vec![data("ab")], None),
            (&[], vec![], None),
            (length, vec![data("ab"), data("cd"), StreamChunk::End { trailers: None }], Some("abcd")),
            (length, vec![data("ab"), StreamChunk::End { trailers: None }], None),
            (length, vec![data("ab")], None),
            (length, vec![data("ab"), data("cde"), StreamChunk::End { trailers: None }], None),
        ] {
            let told = format!("{headers:?} {chunks:?} h2 {h2}");
            let found = outcome(headers, chunks, h2).await;
            assert_eq!(found.as_deref().ok(), expect, "{told}: {found:?}");
        }
    }
}

fn map(headers: &[(&'static str, &'static str)]) -> HeaderMap {
    headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

/// Head, body and trailers of a paid answer over HTTP/2.
async fn over_h2(address: SocketAddr) -> Result<(HeaderMap, String, Option<HeaderMap>), h2::Error> {
    let (client, connection) = h2::client::handshake(TcpStream::connect(address).await.unwrap()).await?;
    tokio::spawn(connection);
    let request = http::Request::get(format!("http://{address}/paid")).body(()).unwrap();
    let (response, _) = client.ready().await?.send_request(request, true)?;
    let (head, mut body) = response.await?.into_parts();
    let mut text = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        text.extend_from_slice(&data);
    }
    let trailers = body.trailers().await?;
    Ok((head.headers, String::from_utf8(text).unwrap(), trailers))
}

#[tokio::test]
async fn trailers_arrive_on_http_2_and_leave_no_trace_on_http_1() {
    let receipt: &[(&str, &str)] = &[("payment-response", "cmVjZWlwdA==")];
    let announced: &[(&str, &str)] = &[("content-type", "text/event-stream"), ("trailer", "payment-response")];
    let sized: &[(&str, &str)] = &[("content-length", "4")];
    let end = |trailers: Option<&[(&'static str, &'static str)]>| StreamChunk::End { trailers: trailers.map(|them| Box::new(map(them))) };
    for (headers, chunks, trailers, expect) in [
        (announced, &["ab", "cd"][..], Some(receipt), Some(("abcd", Some(receipt)))),
        (announced, &[], Some(receipt), Some(("", Some(receipt)))),
        (sized, &["abcd"], Some(receipt), Some(("abcd", Some(receipt)))),
        (sized, &["ab"], Some(receipt), None),
        (&[], &["ab"], Some(&[]), Some(("ab", None))),
        (&[], &["ab"], None, Some(("ab", None))),
    ] {
        let told = format!("{headers:?} {chunks:?} {trailers:?}");
        for h2 in [true, false] {
            let (edge, sender) = streaming(headers).await;
            let chunks: Vec<StreamChunk> = chunks.iter().map(|text| data(text)).chain([end(trailers)]).collect();
            tokio::spawn(async move {
                for chunk in chunks {
                    sender.send(chunk).await.unwrap();
                }
            });
            if h2 {
                let found = over_h2(edge.address).await;
                let expect = expect.map(|(body, trailers)| (body.to_owned(), trailers.map(map)));
                assert_eq!(found.as_ref().ok().map(|(_, body, trailers)| (body.clone(), trailers.clone())), expect, "{told}: {found:?}");
                if let Ok((head, ..)) = found {
                    assert_eq!(head.get("trailer"), map(headers).get("trailer"), "{told}");
                }
            } else {
                let answer = exchange(edge.address, "GET /paid HTTP/1.1\r\nHost: h\r\nTE: trailers\r\nConnection: close, TE\r\n\r\n").await;
                let (head, body) = answer.split_once("\r\n\r\n").unwrap();
                assert!(!answer.contains("cmVjZWlwdA=="), "{told}: {answer}");
                assert!(!head.to_ascii_lowercase().contains("\ntrailer:"), "{told}: {answer}");
                let chunked = head.to_ascii_lowercase().contains("chunked");
                assert!(!chunked || body.ends_with("0\r\n\r\n"), "{told}: {answer}");
            }
        }
    }
}

#[tokio::test]
async fn an_upstreams_own_trailers_are_not_announced() {
    let upstream_server = RawUpstream::start(|_, mut stream| async move {
        read_head(&mut stream).await;
        let answer = "HTTP/1.1 200 OK\r\nTrailer: payment-response\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\npayment-response: forged\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
        // The other side closes first.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let settings = EdgeSettings { h2c: true, ..EdgeSettings::default() };
    let edge = edge_with(upstream(upstream_server.address), by_path, None, settings);
    let (head, body, trailers) = over_h2(edge.address).await.unwrap();
    assert_eq!((head.get("trailer"), body.as_str(), trailers), (None, "ab", None));
}
