//! `kas402 run`: the gateway, until it is told to stop.
//!
//! SIGTERM and SIGINT let running requests end; SIGHUP reads the configuration again and keeps the
//! old one when the new one has errors.

use super::{check, paint::Paint};
use crate::{
    config::{self, Compiled, Environment},
    runtime::{self, Running},
    telemetry::logs::{self, Format},
};
use std::{
    future::pending,
    io,
    path::{Path, PathBuf},
    pin::pin,
    process::ExitCode,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Configuration file
    #[arg(short, long, env = "KAS402_CONFIG", default_value = "kas402.yaml")]
    config: PathBuf,
    /// Print one JSON line with the bound addresses when serving begins
    #[arg(long)]
    announce: bool,
    /// Stop when standard input closes, so that no gateway outlives what started it
    #[arg(long, hide = true)]
    exit_with_stdin: bool,
}

/// Exit code 0 after a clean stop, 1 when it could not start or the edge broke, 2 for a configuration with errors.
pub async fn run(args: Args) -> ExitCode {
    let Some(compiled) = load(&args.config) else { return ExitCode::from(2) };
    let log = &compiled.settings.log;
    if let Err(error) = logs::init(if log.json { Format::Json } else { Format::Human }, &log.level) {
        return super::fail(error);
    }
    let network = compiled.settings.network;
    let mut running = match runtime::start(compiled).await {
        Ok(running) => running,
        Err(error) => {
            tracing::error!(%error, "cannot start");
            return ExitCode::FAILURE;
        }
    };
    announce(&running, args.announce);
    tracing::info!(%network, addresses = ?running.addresses(), "kas402 {} serves", env!("CARGO_PKG_VERSION"));
    match until_told(&args, &mut running).await {
        Told::Stop => {
            tracing::info!("stopping: running requests may end");
            let stopped = running.stop().await;
            tracing::info!(?stopped, "stopped");
            ExitCode::SUCCESS
        }
        Told::Broken => {
            tracing::error!("the listener ended by itself");
            ExitCode::FAILURE
        }
    }
}

enum Told {
    Stop,
    Broken,
}

async fn until_told(args: &Args, running: &mut Running) -> Told {
    let mut signals = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()]
        .map(|kind| signal(kind).expect("the process may handle its own signals"));
    let [terminate, interrupt, hangup] = &mut signals;
    let mut orphaned = pin!(stdin_closed(args.exit_with_stdin));
    loop {
        tokio::select! {
            _ = terminate.recv() => return Told::Stop,
            _ = interrupt.recv() => return Told::Stop,
            _ = hangup.recv() => reload(args, running).await,
            () = &mut orphaned => return Told::Stop,
            () = running.failed() => return Told::Broken,
        }
    }
}

/// Ends when standard input does; never, when that is not wanted.
async fn stdin_closed(wanted: bool) {
    if !wanted {
        return pending().await;
    }
    let (open, closed) = oneshot::channel::<()>();
    // A plain thread: reading standard input cannot be cancelled, and the process must not wait for it.
    std::thread::spawn(move || {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        drop(open);
    });
    let _ = closed.await;
}

async fn reload(args: &Args, running: &Running) {
    match load(&args.config) {
        Some(compiled) => match running.reload(compiled).await {
            Ok(()) => tracing::info!("configuration reloaded: routes, prices, upstreams, tenants, offer keys and server keys"),
            Err(error) => tracing::error!(%error, "the new configuration cannot be used; the old one stays"),
        },
        None => tracing::error!("the new configuration has errors; the old one stays"),
    }
}

/// Errors and warnings go to standard error, with their place in the file.
fn load(path: &Path) -> Option<Compiled> {
    let text = config::read(path);
    let compiled = match &text {
        Ok(text) => config::compile_text(text, config::folder_of(path), &Environment::process()),
        Err(problems) => Err(problems.clone()),
    };
    let problems = match &compiled {
        Ok(compiled) => &compiled.warnings,
        Err(problems) => problems,
    };
    let text = text.as_deref().unwrap_or_default();
    eprint!("{}", check::excerpts(&path.display().to_string(), text, problems, Paint::stderr()));
    compiled.ok()
}

fn announce(running: &Running, wanted: bool) {
    if wanted {
        let listening: Vec<String> = running.addresses().iter().map(ToString::to_string).collect();
        println!(
            "{}",
            serde_json::json!({ "listening": listening, "admin": running.admin.to_string(), "facilitator": running.facilitator })
        );
    }
}
