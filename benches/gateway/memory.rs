//! Memory and processor time of servers that have many connections and nothing to do.

use crate::{
    Fallible,
    options::Options,
    servers::{Gateway, Pingora, Server},
};
use serde_json::{Value, json};
use std::{path::Path, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// How long the gateway is watched while it only follows the node.
const IDLE: Duration = Duration::from_secs(3);

/// Resident memory of one server, KiB.
#[derive(Clone, Copy, Debug)]
pub struct Resident {
    pub before: u64,
    pub with: u64,
}

#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pub connections: usize,
    pub kas402: Resident,
    pub pingora: Resident,
    /// Share of a core that the gateway uses while the node adds 10 blocks a second and no client asks.
    pub following: f64,
}

pub async fn measure(options: &Options, gateway: &Gateway, upstream: &Server, folder: &Path) -> Fallible<Memory> {
    let began = gateway.process.cpu_seconds()?;
    // why: the measurement is the time itself
    tokio::time::sleep(IDLE).await;
    let following = (gateway.process.cpu_seconds()? - began) / IDLE.as_secs_f64();
    let kas402 = resident(options, gateway).await?;
    let pingora = resident(options, &Pingora::proxy(folder, upstream)?).await?;
    Ok(Memory { connections: options.idle, kas402, pingora, following })
}

async fn resident(options: &Options, server: &Server) -> Fallible<Resident> {
    let before = server.process.resident_kib()?;
    let mut open = Vec::with_capacity(options.idle);
    for _ in 0..options.idle {
        let mut connection = TcpStream::connect(server.address).await?;
        exchange(&mut connection).await?;
        open.push(connection);
    }
    let with = server.process.resident_kib()?;
    for connection in &open {
        let mut byte = [0];
        // An open connection without data has nothing to read.
        if !matches!(connection.try_read(&mut byte), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock) {
            return Err("a connection was closed instead of kept".into());
        }
    }
    Ok(Resident { before, with })
}

/// One request and its whole response on a connection that stays open.
async fn exchange(connection: &mut TcpStream) -> Fallible<()> {
    connection.write_all(b"GET /free HTTP/1.1\r\nHost: kas402.bench\r\n\r\n").await?;
    let mut seen = Vec::new();
    loop {
        if connection.read_buf(&mut seen).await? == 0 {
            return Err("the connection was closed in the middle of a response".into());
        }
        let text = String::from_utf8_lossy(&seen).to_ascii_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length: usize = head.lines().find_map(|line| line.strip_prefix("content-length:")).ok_or("a length")?.trim().parse()?;
        if body.len() >= length {
            return if head.starts_with("http/1.1 200") { Ok(()) } else { Err(head.to_owned().into()) };
        }
    }
}

impl Memory {
    pub fn json(&self) -> Value {
        let resident = |resident: Resident| json!({ "before_kib": resident.before, "with_kib": resident.with });
        json!({
            "idle_connections": self.connections, "kas402": resident(self.kas402), "bare_pingora": resident(self.pingora),
            "kas402_cores_used_following_10_blocks_per_second": self.following,
        })
    }
}
