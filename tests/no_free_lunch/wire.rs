//! Bytes as an attacker sends them, and what a careless upstream would take a path for.

use crate::support::upstream::Seen;
use http::Request;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// A connection that neither answers nor ends is given up after this.
const SILENCE: Duration = Duration::from_secs(2);

/// Sends the bytes as they are; everything that came back until the end, or a silence.
pub async fn raw(address: &str, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    // A server may refuse and close before it has read everything.
    let _ = socket.write_all(bytes).await;
    let (mut answer, mut buffer) = (Vec::new(), [0; 16 * 1024]);
    while let Ok(Ok(n)) = timeout(SILENCE, socket.read(&mut buffer)).await {
        if n == 0 {
            break;
        }
        answer.extend_from_slice(&buffer[..n]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// Status of the first answer; 0 for none.
pub fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}

/// Status of the answer to an HTTP/2 request by prior knowledge; 0 for a reset stream or connection.
pub async fn h2(address: &str, request: Request<()>) -> u16 {
    let socket = TcpStream::connect(address).await.unwrap();
    let (client, connection) = h2::client::handshake(socket).await.unwrap();
    let connection = tokio::spawn(connection);
    let answer = async {
        let (response, _) = client.ready().await?.send_request(request, true)?;
        Ok::<_, h2::Error>(response.await?.status().as_u16())
    };
    let status = timeout(SILENCE, answer).await.ok().and_then(Result::ok).unwrap_or(0);
    connection.abort();
    status
}

/// Whether a server that ignores letter case, trailing slashes, `;parameters`, dots and blanks at the end of
/// a name, and decodes escapes as often as it can, would serve something priced. Written apart from the
/// gateway's own rules on purpose.
pub fn looks_priced(seen: &Seen) -> bool {
    let mut path = seen.target.split(['?', '#']).next().unwrap().to_owned();
    loop {
        let once = decoded(&path);
        if once == path {
            break;
        }
        path = once;
    }
    let mut names: Vec<String> = Vec::new();
    for segment in path.to_lowercase().replace('\\', "/").split('/') {
        let name = segment.split(';').next().unwrap();
        match name.trim_end_matches(['.', ' ', '\0', '\n', '\r', '\t']) {
            "" if name == ".." => drop(names.pop()),
            "" => {}
            name => names.push(name.to_owned()),
        }
    }
    let overridden = ["x-http-method-override", "x-http-method", "x-method-override"].iter().any(|name| seen.headers.contains_key(*name));
    let rewritten = ["x-original-url", "x-rewrite-url", "x-original-uri"].iter().any(|name| seen.headers.contains_key(*name));
    let post = seen.method.eq_ignore_ascii_case("POST") || overridden;
    match names.join("/").as_str() {
        "paid" => true,
        "api/run" => post,
        path => rewritten || path == "files" || path.starts_with("files/"),
    }
}

fn decoded(text: &str) -> String {
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::new(), 0);
    while at < bytes.len() {
        let escape = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(escape.unwrap_or(bytes[at]));
        at += if escape.is_some() { 3 } else { 1 };
    }
    // An overlong slash or dot, as decoders before 2000 read it.
    String::from_utf8_lossy(&out.iter().map(|byte| if *byte == 0xaf { b'/' } else { *byte }).collect::<Vec<_>>()).replace('\u{fffd}', "")
}
