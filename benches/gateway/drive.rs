//! A load generator that sends prepared bytes over connections that stay open, one request in flight on each.
//!
//! What costs time to make, a signature above all, is made before: while it measures it only writes, reads and looks at the clock.
//! It runs on the load's core in a thread of its own. An answer that is not a 200 fails the run.

use crate::{
    Fallible,
    load::Sample,
    process::{LOAD_CORE, pin_this_thread},
    servers::Server,
    stats::quantile,
};
use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

/// Room for a response; longer ones grow it.
const RESPONSE_BYTES: usize = 8 * 1024;
const CONTENT_LENGTH: &[u8] = b"content-length:";

/// What one connection sends.
pub enum Feed {
    /// The same request again and again.
    Same(Arc<[u8]>),
    /// Requests of several senders, each sender's in their order, the senders in turn.
    Turns { senders: Vec<Sender>, next: usize },
}

/// The requests of one channel that are not sent yet, by the channel's number.
pub struct Sender {
    pub number: usize,
    pub requests: VecDeque<Box<[u8]>>,
}

/// What is written next; `None` when a sender whose turn it is has nothing left.
enum Next {
    Same(Arc<[u8]>),
    Own(Box<[u8]>),
}

impl Next {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Same(bytes) => bytes,
            Self::Own(bytes) => bytes,
        }
    }
}

impl Feed {
    fn take(&mut self) -> Option<Next> {
        match self {
            Self::Same(bytes) => Some(Next::Same(bytes.clone())),
            Self::Turns { senders, next } => {
                let sender = senders.get_mut(*next)?;
                let request = sender.requests.pop_front()?;
                *next = (*next + 1) % senders.len();
                Some(Next::Own(request))
            }
        }
    }
}

/// What a run came to, and what it did not send.
pub struct Driven {
    pub sample: Sample,
    pub left: Vec<Feed>,
}

/// Runs every feed on a connection of its own, until the time is over or the first of them is empty.
pub fn run(server: &Server, feeds: Vec<Feed>, seconds: u32) -> Fallible<Driven> {
    let driven = std::thread::scope(|scope| scope.spawn(|| on_this_thread(server, feeds, seconds)).join());
    // What crosses threads is text.
    driven.map_err(|_| "the load generator panicked")?.map_err(Into::into)
}

fn on_this_thread(server: &Server, feeds: Vec<Feed>, seconds: u32) -> Result<Driven, String> {
    let text = |error: Box<dyn std::error::Error>| error.to_string();
    pin_this_thread(LOAD_CORE).map_err(text)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let mut lines = Vec::with_capacity(feeds.len());
        for feed in feeds {
            let mut line = Line::open(server.address, feed).await?;
            // Accepted and served once: connections and pools are warm before anything counts.
            line.once().await?;
            lines.push(line);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (began, cpu) = (Instant::now(), server.process.cpu_seconds().map_err(text)?);
        let until = began + Duration::from_secs(seconds.into());
        let mut running = JoinSet::new();
        for line in lines {
            running.spawn(line.until(until, stop.clone()));
        }
        let mut ended = Vec::with_capacity(running.len());
        while let Some(line) = running.join_next().await {
            ended.push(line.map_err(|error| error.to_string())??);
        }
        let (took, cpu) = (began.elapsed().as_secs_f64(), server.process.cpu_seconds().map_err(text)? - cpu);
        let waits: Vec<f64> = ended.iter().flat_map(|line| &line.waits).map(|wait| wait.as_secs_f64() * 1e6).collect();
        let bytes: usize = ended.iter().map(|line| line.bytes).sum();
        let count = waits.len() as f64;
        let sample = Sample {
            per_second: count / took,
            cpu_us: cpu * 1e6 / count,
            busy: cpu / took,
            p50_us: quantile(&waits, 0.5),
            p99_us: quantile(&waits, 0.99),
            response_bytes: bytes as f64 / count,
        };
        Ok(Driven { sample, left: ended.into_iter().map(|line| line.feed).collect() })
    })
}

/// One connection.
struct Line {
    socket: TcpStream,
    feed: Feed,
    received: Vec<u8>,
    waits: Vec<Duration>,
    bytes: usize,
}

impl Line {
    async fn open(address: SocketAddr, feed: Feed) -> Result<Self, String> {
        let socket = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        socket.set_nodelay(true).map_err(|error| error.to_string())?;
        Ok(Self { socket, feed, received: Vec::with_capacity(RESPONSE_BYTES), waits: Vec::new(), bytes: 0 })
    }

    async fn until(mut self, until: Instant, stop: Arc<AtomicBool>) -> Result<Self, String> {
        let mut now = Instant::now();
        while now < until && !stop.load(Ordering::Relaxed) {
            let began = now;
            match self.once().await? {
                Some(bytes) => self.bytes += bytes,
                None => {
                    // The others would go on with fewer connections: that is another measurement.
                    stop.store(true, Ordering::Relaxed);
                    break;
                }
            }
            now = Instant::now();
            self.waits.push(now.duration_since(began));
        }
        Ok(self)
    }

    /// One request and its whole response, whose length is the answer; `None` when nothing is left to send.
    async fn once(&mut self) -> Result<Option<usize>, String> {
        let Some(request) = self.feed.take() else { return Ok(None) };
        self.socket.write_all(request.bytes()).await.map_err(|error| error.to_string())?;
        self.received.clear();
        let mut whole = None;
        while whole.is_none_or(|length| self.received.len() < length) {
            if self.socket.read_buf(&mut self.received).await.map_err(|error| error.to_string())? == 0 {
                return Err(format!("closed in the middle of a response: {}", self.text()));
            }
            if whole.is_none() {
                whole = length(&self.received);
            }
        }
        if self.received.starts_with(b"HTTP/1.1 200 ") { Ok(whole) } else { Err(self.text()) }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.received).into_owned()
    }
}

/// Bytes of the whole response; `None` while its head is not all there. A head without a length never is.
fn length(received: &[u8]) -> Option<usize> {
    let head = received.windows(4).position(|window| window == b"\r\n\r\n")?;
    let mut lengths = received[..head].split(|byte| *byte == b'\n').filter_map(|line| {
        let (name, value) = line.split_at_checked(CONTENT_LENGTH.len())?;
        name.eq_ignore_ascii_case(CONTENT_LENGTH).then_some(value)
    });
    let body: usize = std::str::from_utf8(lengths.next()?).ok()?.trim().parse().ok()?;
    Some(head + 4 + body)
}
