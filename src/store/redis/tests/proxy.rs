//! Between a store and its server: loses answers, holds everything up, on demand.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

#[derive(Default)]
pub(super) struct Faults {
    /// The answer to the next command that holds this many bytes or more is lost with its connection.
    pub lose_answer_over: AtomicU64,
    pub lost: AtomicU64,
    /// Nothing is let in.
    pub closed: AtomicBool,
}

/// Its address.
pub(super) async fn proxy(server: u16, faults: Arc<Faults>) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            if !faults.closed.load(Ordering::SeqCst) {
                tokio::spawn(between(client, server, faults.clone()));
            }
        }
    });
    port
}

async fn between(mut client: TcpStream, server: u16, faults: Arc<Faults>) {
    let mut server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
    let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
    let mut doomed = false;
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let read = read.unwrap_or(0);
                if read == 0 || faults.closed.load(Ordering::SeqCst) || server.write_all(&up[..read]).await.is_err() {
                    return;
                }
                let over = faults.lose_answer_over.load(Ordering::SeqCst);
                if over > 0 && u64::try_from(read).unwrap() >= over {
                    faults.lose_answer_over.store(0, Ordering::SeqCst);
                    doomed = true;
                }
            }
            read = server.read(&mut down) => {
                let read = read.unwrap_or(0);
                if doomed {
                    // The server has done it.
                    faults.lost.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                if read == 0 || faults.closed.load(Ordering::SeqCst) || client.write_all(&down[..read]).await.is_err() {
                    return;
                }
            }
        }
    }
}
