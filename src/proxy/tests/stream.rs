//! Streamed answers: at once, and never whole when they were cut.

use super::support::*;
use crate::{
    gateway::answer::{Answer, BodyRead, RawHead, Served, StreamChunk},
    proxy::EdgeSettings,
};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::sync::{Arc, Mutex};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
};

/// An edge whose one paid answer streams what the test sends.
async fn streaming(headers: &[(&'static str, &'static str)]) -> (TestEdge, mpsc::Sender<StreamChunk>) {
    let (sender, receiver) = mpsc::channel(1);
    let receiver = Arc::new(Mutex::new(Some(receiver)));
    let headers: HeaderMap = headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect();
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
