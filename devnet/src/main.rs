//! `kas402-devnet`: a [`Devnet`] with its HTTP control API, until told to stop.
//!
//! Stdout carries one JSON line when everything is ready; all logs go to stderr (`RUST_LOG` filters them).

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use kas402_devnet::{Devnet, Error, Invalid, Options, control, network_name};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::timeout;
use tracing::{error, info};

/// A node stops in about a second; after this the process ends without it.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// A real Kaspa simnet in one process: nodes, miner, faucet, reorgs.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// Nodes: 1, or 2 for partitions and reorgs
    #[arg(long, default_value_t = 1)]
    nodes: usize,
    /// Blocks per second, 0 to pause
    #[arg(long, default_value_t = 10.0)]
    rate: f64,
    /// Data directory to keep; a temporary one is deleted at the end
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Loopback address of the control API; port 0 picks one
    #[arg(long, default_value = "127.0.0.1:0")]
    control: SocketAddr,
    /// wRPC (Borsh) port of node 0; 0 picks one
    #[arg(long, default_value_t = 0)]
    wrpc_port: u16,
    /// Blocks mined beyond coinbase maturity at the start, each worth about 50 KAS to the faucet
    #[arg(long, default_value_t = 200)]
    matured_blocks: u64,
    /// Exit when stdin closes, so that no devnet outlives its test
    #[arg(long)]
    exit_with_stdin: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    exit_on_panic();
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Error::from)
        .and_then(|runtime| runtime.block_on(run(cli)));
    // Ends threads that kaspad leaves behind, too.
    match outcome {
        Ok(()) => std::process::exit(0),
        Err(error) => {
            eprintln!("kas402-devnet: {error}");
            std::process::exit(1)
        }
    }
}

async fn run(cli: Cli) -> Result<(), Error> {
    if !cli.control.ip().is_loopback() {
        return Err(Invalid::NotLoopback.into());
    }
    let stop = Arc::new(Notify::new());
    stop_on_signals(&stop)?;
    if cli.exit_with_stdin {
        stop_with_stdin(&stop);
    }
    let listener = TcpListener::bind(cli.control).await?;
    let options = Options {
        nodes: cli.nodes,
        rate: cli.rate,
        dir: cli.dir,
        wrpc_port: (cli.wrpc_port != 0).then_some(cli.wrpc_port),
        matured_blocks: cli.matured_blocks,
    };
    let start = Devnet::start(options);
    tokio::pin!(start);
    let devnet = tokio::select! {
        devnet = &mut start => Arc::new(devnet?),
        // A start is never broken off half way: kaspad would be left writing into a directory that is going away.
        () = stop.notified() => return match timeout(STOP_TIMEOUT, start).await {
            Ok(devnet) => devnet?.stop().await,
            Err(_) => Ok(()),
        },
    };
    let ready = json!({
        "control": format!("http://{}", listener.local_addr()?),
        "wrpc": devnet.wrpc_urls(),
        "network": network_name(),
    });
    let router = control::router(devnet.clone(), stop.clone());
    let server = tokio::spawn(axum::serve(listener, router).into_future());
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{ready}")?;
    stdout.flush()?;

    stop.notified().await;
    info!("stopping");
    match timeout(STOP_TIMEOUT, devnet.shut_down()).await {
        Ok(result) => result?,
        Err(_) => error!("the nodes did not stop in time"),
    }
    // Only now, so that a call of the last moment still got its answer; then the directory goes with the devnet.
    server.abort();
    let _ = server.await;
    drop(devnet);
    Ok(())
}

fn stop_on_signals(stop: &Arc<Notify>) -> Result<(), Error> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let (mut signals, stop) = (signal(kind)?, stop.clone());
        tokio::spawn(async move {
            signals.recv().await;
            stop.notify_one();
        });
    }
    Ok(())
}

/// A plain thread: reading stdin cannot be cancelled, and the process must not wait for it.
fn stop_with_stdin(stop: &Arc<Notify>) {
    let stop = stop.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 256];
        while std::io::stdin().read(&mut buffer).is_ok_and(|read| read > 0) {}
        stop.notify_one();
    });
}

/// A thread of kaspad that panicked leaves a node that only looks alive: better to end loudly.
fn exit_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::exit(101);
    }));
}
