//! One run of wrk against one server.

use crate::{
    Fallible,
    options::Options,
    process::{LOAD_CORE, Process, pinned},
};
use std::{net::SocketAddr, path::Path, time::Instant};

const SCRIPT: &str = include_str!("load.lua");

/// Who is measured, and what it must answer.
pub struct Contestant<'a> {
    pub name: &'static str,
    pub process: &'a Process,
    pub address: SocketAddr,
    pub path: &'static str,
    pub status: u16,
}

/// What one run came to.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub per_second: f64,
    /// Processor time of the server per request.
    pub cpu_us: f64,
    /// Share of its core the server used; well below 1 means that the load generator was the limit.
    pub busy: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    /// Bytes of one response, head and body.
    pub response_bytes: f64,
}

pub fn run(options: &Options, seconds: u32, contestant: &Contestant<'_>) -> Fallible<Sample> {
    let script = tempfile::NamedTempFile::with_suffix(".lua")?;
    std::fs::write(script.path(), SCRIPT)?;
    let mut command = pinned(LOAD_CORE, Path::new("wrk"));
    command.args(["--threads", "1", "--connections", &options.connections.to_string(), "--duration", &format!("{seconds}s")]);
    command.arg("--script").arg(script.path()).arg(format!("http://{}{}", contestant.address, contestant.path));
    let (began, cpu) = (Instant::now(), contestant.process.cpu_seconds()?);
    let output = command.output()?;
    let (took, cpu) = (began.elapsed().as_secs_f64(), contestant.process.cpu_seconds()? - cpu);
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix("RESULT "));
    let numbers: Vec<u64> = line.map(|line| line.split(' ').filter_map(|number| number.parse().ok()).collect()).unwrap_or_default();
    let &[duration_us, requests, bytes, p50, p99, bad_status, broken] = numbers.as_slice() else {
        return Err(format!("wrk said: {text}{}", String::from_utf8_lossy(&output.stderr)).into());
    };
    // wrk counts everything from 400 on.
    let expected = if contestant.status < 400 { 0 } else { requests };
    if requests == 0 || broken > 0 || bad_status != expected {
        let name = contestant.name;
        return Err(format!("{name}: of {requests} requests {bad_status} were answered 4xx or 5xx and {broken} broke").into());
    }
    let count = requests as f64;
    Ok(Sample {
        per_second: count * 1e6 / duration_us as f64,
        cpu_us: cpu * 1e6 / count,
        busy: cpu / took,
        p50_us: p50 as f64,
        p99_us: p99 as f64,
        response_bytes: bytes as f64 / count,
    })
}
