//! Priced routes: the body is read whole, the paywall answers.

use super::support::*;
use crate::{gateway::answer::BodyRead, proxy::EdgeSettings};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{Notify, mpsc},
};

#[tokio::test]
async fn priced_bodies_arrive_unchanged_with_length_and_chunked() {
    let edge = edge(upstream(mirror().await));
    let client = reqwest::Client::new();
    for size in [0, 1, 10 * 1024, 64 * 1024, 1024 * 1024, BODY_LIMIT] {
        let body = pattern(size);
        let chunked = futures::stream::iter([Ok::<_, std::io::Error>(body.clone())]);
        for sent in [reqwest::Body::from(body.clone()), reqwest::Body::wrap_stream(chunked)] {
            let got = client.post(edge.url("/paid/echo")).body(sent).send().await.unwrap();
            assert_eq!((got.status().as_u16(), got.bytes().await.unwrap() == body), (200, true), "{size}");
        }
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_before_it_is_sent_on() {
    let api = RawUpstream::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let edge = edge(upstream(api.address));
    let body = pattern(BODY_LIMIT + 1);
    let chunked = futures::stream::iter([Ok::<_, std::io::Error>(body.clone())]);
    for sent in [reqwest::Body::from(body.clone()), reqwest::Body::wrap_stream(chunked)] {
        let got = reqwest::Client::new().post(edge.url("/paid")).body(sent).send().await.unwrap();
        assert_eq!((got.status().as_u16(), got.text().await.unwrap().as_str()), (413, "too large"));
    }
    assert_eq!(api.accepted(), 0);
}

#[tokio::test]
async fn continue_is_said_only_to_a_body_within_the_limit() {
    let edge = edge(upstream(mirror().await));
    for (length, first) in [(5, "HTTP/1.1 100"), (BODY_LIMIT + 1, "HTTP/1.1 413")] {
        let mut stream = TcpStream::connect(edge.address).await.unwrap();
        let head =
            format!("POST /paid/echo HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = read_head(&mut stream).await;
        assert!(answer.starts_with(first), "{length}: {answer}");
        if length == 5 {
            stream.write_all(b"hello").await.unwrap();
            let mut rest = String::new();
            stream.read_to_string(&mut rest).await.unwrap();
            assert!(rest.starts_with("HTTP/1.1 200") && rest.contains("hello"), "{rest}");
        }
    }
}

#[tokio::test]
async fn a_body_that_ends_early_is_incomplete() {
    let (seen, mut bodies) = mpsc::unbounded_channel();
    let edge = serving(upstream(mirror().await), move |_, body| {
        seen.send(matches!(body, BodyRead::Incomplete)).unwrap();
        Box::pin(async { whole(400, "incomplete", true) })
    });
    for body in
        ["Content-Length: 10\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", "Transfer-Encoding: chunked\r\n\r\nxyz\r\n"]
    {
        let mut stream = TcpStream::connect(edge.address).await.unwrap();
        stream.write_all(format!("POST /paid HTTP/1.1\r\nHost: h\r\n{body}").as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(bodies.recv().await, Some(true), "{body}");
    }
}

#[tokio::test]
async fn a_body_that_never_ends_is_given_up() {
    let settings = EdgeSettings { body_timeout: Duration::from_millis(100), ..EdgeSettings::default() };
    let edge = edge_with(upstream(mirror().await), by_path, None, settings);
    let answer = exchange(edge.address, "POST /paid HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhalf").await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.ends_with("incomplete"), "{answer}");
}

#[tokio::test]
async fn a_client_that_leaves_does_not_stop_what_was_begun() {
    let (begun, finish, finished) = (Notify::new(), Notify::new(), Notify::new());
    let signals = std::sync::Arc::new((begun, finish, finished));
    let inside = signals.clone();
    let edge = serving(upstream(mirror().await), move |_, _| {
        let signals = inside.clone();
        Box::pin(async move {
            let task = tokio::spawn(async move {
                signals.0.notify_one();
                signals.1.notified().await;
                signals.2.notify_one();
            });
            task.await.unwrap();
            whole(200, "late", false)
        })
    });
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    stream.write_all(b"GET /paid HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    signals.0.notified().await;
    drop(stream);
    signals.1.notify_one();
    signals.2.notified().await;
    // The hook ends as well: nothing is left to wait for.
    assert_eq!(edge.edge.stop().await, crate::proxy::Stopped::Drained);
}

#[tokio::test]
async fn answers_are_framed_and_keep_the_connection() {
    let plan = |head: &crate::gateway::answer::RawHead| match head.target.as_str() {
        "/204" => Plan::Answer(answer(204, "", false)),
        "/close" => Plan::Answer(answer(402, "pay", true)),
        _ => Plan::Answer(answer(402, "pay", false)),
    };
    let edge = edge_with(upstream(mirror().await), plan, None, EdgeSettings::default());
    // One connection: an unread small body is read away, HEAD and 204 have none, the last one closes.
    let request = "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello";
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    for (request, expect, body) in [
        (request, "content-length: 3\r\n", "pay"),
        ("HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n", "content-length: 3\r\n", ""),
        ("GET /204 HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 204", ""),
        ("GET /close HTTP/1.1\r\nHost: h\r\n\r\n", "connection: close\r\n", "pay"),
    ] {
        stream.write_all(request.as_bytes()).await.unwrap();
        let head = read_head(&mut stream).await;
        assert!(head.to_ascii_lowercase().contains(&expect.to_ascii_lowercase()), "{request}: {head}");
        assert!(head.to_ascii_lowercase().contains("x-request-id: request-"), "{head}");
        let mut read = vec![0; body.len()];
        stream.read_exact(&mut read).await.unwrap();
        assert_eq!(read, body.as_bytes(), "{request}");
    }
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0, "closed after the last answer");
}

#[tokio::test]
async fn an_answer_reaches_a_client_that_is_still_sending() {
    let edge = edge_with(upstream(mirror().await), |_| Plan::Answer(answer(402, "pay", false)), None, EdgeSettings::default());
    // More than any socket buffer holds, never read by the paywall.
    let got = reqwest::Client::new().post(edge.url("/a")).body(pattern(3 * 1024 * 1024)).send().await.unwrap();
    assert_eq!((got.status().as_u16(), got.text().await.unwrap().as_str()), (402, "pay"));
}
