//! The connection between an edge and its hub, which loses answers on purpose.
#![allow(dead_code)]

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicI64, Ordering},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// It loses the next so many answers of settlements, below zero all of them.
pub struct Line {
    pub address: String,
    target: Arc<Mutex<String>>,
    loses: Arc<AtomicI64>,
    lost: Arc<AtomicI64>,
}

impl Line {
    pub async fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (loses, lost) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicI64::new(0)));
        let target = Arc::new(Mutex::new(target.to_owned()));
        let (to, kept, counted) = (target.clone(), loses.clone(), lost.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let target = to.lock().unwrap().clone();
                let Ok(server) = TcpStream::connect(&target).await else { continue };
                tokio::spawn(relay(client, server, kept.clone(), counted.clone()));
            }
        });
        Self { address, target, loses, lost }
    }

    /// Where new connections go: the hub's port changes with every start.
    pub fn lead_to(&self, target: &str) {
        *self.target.lock().unwrap() = target.to_owned();
    }

    pub fn lose(&self, answers: i64) {
        self.loses.store(answers, Ordering::SeqCst);
    }

    pub fn lost(&self) -> i64 {
        self.lost.load(Ordering::SeqCst)
    }
}

async fn relay(client: TcpStream, server: TcpStream, loses: Arc<AtomicI64>, lost: Arc<AtomicI64>) {
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) = (client.into_split(), server.into_split());
    // Whether the last request is a settlement. One follows the other: there is no pipelining.
    let settles = Arc::new(AtomicBool::new(false));
    let seen = settles.clone();
    let there = tokio::spawn(async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
            let begins = |words: &[u8]| buffer[..read].starts_with(words);
            if begins(b"POST ") || begins(b"GET ") {
                seen.store(begins(b"POST /settle"), Ordering::SeqCst);
            }
            if to_server.write_all(&buffer[..read]).await.is_err() {
                break;
            }
        }
    });
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
        if settles.load(Ordering::SeqCst) && loses.load(Ordering::SeqCst) != 0 {
            // The other side has settled; whoever asked does not learn it.
            loses.fetch_sub(1, Ordering::SeqCst);
            lost.fetch_add(1, Ordering::SeqCst);
            break;
        }
        if to_client.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    there.abort();
}
