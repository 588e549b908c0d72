//! The till behind a counter that misbehaves as told: over HTTP on a bare socket, or as a transport without any socket.
#![allow(dead_code)]

use super::till::{Answer, Promise, Till};
use async_trait::async_trait;
use kas402::client::exchange::{PaidRequest, Reply, SendError, Transport};
use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// What happens to one paid request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is served and answered.
    None,
    /// It never reaches the till.
    LoseRequest,
    /// It is served, and the answer is lost.
    LoseAnswer,
    /// It is served, and the answer ends in the middle of its body.
    Cut,
    /// It is served, and nothing is ever answered.
    Hang,
    /// It does not reach the till; a bare status comes back.
    Status(u16),
    /// It is served, and answered after so many milliseconds.
    Slow(u64),
    /// It does not reach the till; a 402 with an offer and no reason comes back.
    AskAgain,
}

#[derive(Clone)]
pub struct Counter {
    pub till: Arc<Till>,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    sent: Arc<Mutex<Vec<Promise>>>,
    served: Arc<watch::Sender<usize>>,
}

enum Reaction {
    Answer(Answer),
    Cut(Answer),
    Nothing,
    Hang,
}

impl Counter {
    pub fn new(till: Till) -> Self {
        Self { till: Arc::new(till), faults: Arc::default(), sent: Arc::default(), served: Arc::new(watch::Sender::new(0)) }
    }

    /// What happens to the next paid requests, in order; none afterwards.
    pub fn faults(&self, faults: &[Fault]) {
        *self.faults.lock().unwrap() = faults.iter().copied().collect();
    }

    /// Every payment that was sent, in order, whatever became of it.
    pub fn sent(&self) -> Vec<Promise> {
        self.sent.lock().unwrap().clone()
    }

    /// Ends when so many paid requests have reached the counter.
    pub async fn reached(&self, count: usize) {
        self.served.subscribe().wait_for(|served| *served >= count).await.unwrap();
    }

    async fn react(&self, method: &str, target: &str, payment: Option<&str>, body: &[u8]) -> Reaction {
        let Some(payment) = payment else { return Reaction::Answer(self.till.handle(method, target, None, body).await) };
        self.sent.lock().unwrap().push(Promise::read(payment));
        let fault = self.faults.lock().unwrap().pop_front().unwrap_or(Fault::None);
        let reaction = match fault {
            Fault::LoseRequest => Reaction::Nothing,
            Fault::Status(status) => Reaction::Answer(Answer::new(status)),
            Fault::AskAgain => Reaction::Answer(self.till.handle(method, target, None, body).await),
            Fault::None => Reaction::Answer(self.till.handle(method, target, Some(payment), body).await),
            Fault::Slow(millis) => {
                let answer = self.till.handle(method, target, Some(payment), body).await;
                tokio::time::sleep(std::time::Duration::from_millis(millis)).await; // why: a server that takes its time
                Reaction::Answer(answer)
            }
            Fault::Cut => Reaction::Cut(self.till.handle(method, target, Some(payment), body).await),
            Fault::LoseAnswer | Fault::Hang => {
                self.till.handle(method, target, Some(payment), body).await;
                if fault == Fault::Hang { Reaction::Hang } else { Reaction::Nothing }
            }
        };
        self.served.send_modify(|served| *served += 1);
        reaction
    }

    /// Listens on a port of its own; the till names itself by it.
    pub async fn listen(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        *self.till.origin.lock().unwrap() = format!("http://{address}");
        let counter = self.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let counter = counter.clone();
                tokio::spawn(async move { counter.answer(socket).await });
            }
        });
        address
    }

    async fn answer(&self, mut socket: TcpStream) {
        let Some((head, body)) = read_request(&mut socket).await else { return };
        let mut words = head.split(' ');
        let (method, target) = (words.next().unwrap(), words.next().unwrap());
        let (answer, cut) = match self.react(method, target, field(&head, "payment-signature"), &body).await {
            Reaction::Answer(answer) => (answer, false),
            Reaction::Cut(answer) => (answer, true),
            Reaction::Nothing => return,
            Reaction::Hang => return std::future::pending().await,
        };
        let fields: String = answer.fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        if !answer.trailers.is_empty() {
            let trailers: String = answer.trailers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            let head =
                format!("HTTP/1.1 200 x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n{fields}\r\n{:x}\r\n", answer.body.len());
            let end = format!("\r\n0\r\n{trailers}\r\n");
            let _ = socket.write_all(&[head.as_bytes(), &answer.body, end.as_bytes()].concat()).await;
            return;
        }
        let head = format!("HTTP/1.1 {} x\r\ncontent-length: {}\r\nconnection: close\r\n{fields}\r\n", answer.status, answer.body.len());
        let body = &answer.body[..if cut { answer.body.len() / 2 } else { answer.body.len() }];
        let _ = socket.write_all(&[head.as_bytes(), body].concat()).await;
        let _ = socket.shutdown().await;
    }
}

#[async_trait]
impl Transport for Counter {
    async fn send(&self, request: &PaidRequest, payment: Option<&str>) -> Result<Reply, SendError> {
        let url = request.url();
        let target = &url[request.origin().len()..];
        let lost = || SendError { words: "lost".into(), unsent: false };
        match self.react(request.method.as_str(), target, payment, &request.body).await {
            Reaction::Answer(answer) => Ok(reply(answer)),
            Reaction::Cut(_) | Reaction::Nothing => Err(lost()),
            Reaction::Hang => std::future::pending().await,
        }
    }
}

fn reply(answer: Answer) -> Reply {
    let fields = |fields: Vec<(&'static str, String)>| {
        fields.into_iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    };
    let status = http::StatusCode::from_u16(answer.status).unwrap();
    Reply { status, headers: fields(answer.fields), body: answer.body.into(), trailers: fields(answer.trailers) }
}

async fn read_request(socket: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let length = field(&head, "content-length").map_or(0, |length| length.parse().unwrap());
    while bytes.len() < end + length {
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    Some((head, bytes[end..].to_vec()))
}

fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().filter_map(|line| line.split_once(':')).find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}
