//! `make bench`: what the gateway costs, against a bare pingora and nginx on the same machine.
//!
//! Promises: everything compared runs in interleaved rounds of one run, each server alone on core 0,
//! load generator and upstream on core 1; every number is a median over rounds; an answer that is not
//! the expected one fails the run. Never judges by absolute speed: the aims are ratios, and one latency.
//! Started by `scripts/bench`, which builds the parts; `docs/benchmarks.md` says what the numbers mean.

mod channels;
mod drive;
mod exact;
mod load;
mod machine;
mod memory;
mod micro;
mod options;
mod process;
mod report;
mod rounds;
mod servers;
mod stats;
mod stores;
mod streams;
#[path = "../../tests/support/mod.rs"]
mod support;
mod vouchers;

use options::{Options, Section};
use report::Report;
use servers::{Gateway, Nginx, Pingora, Upstream};
use std::process::ExitCode;
use stores::Stores;
use vouchers::Fleet;

/// What goes wrong here is for people to read.
type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(usage) => {
            eprintln!("{usage}");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads can be started");
    match runtime.block_on(run(&options)) {
        Ok(report) => {
            println!("{report}");
            if report.missed() { ExitCode::from(3) } else { ExitCode::SUCCESS }
        }
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The store of a gateway that nothing else is said about.
const EMBEDDED: &str = "{path: kas402.db}";

async fn run(options: &Options) -> Fallible<Report> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let mut report = Report::new(machine::Machine::read(options)?);

    say("starting a node, an upstream and the gateway");
    let node = support::devnet::Devnet::start(1, 10.0).await;
    let upstream = Upstream::start(folder)?;
    let gateway = Gateway::start(folder, &upstream, &node.wrpc[0], EMBEDDED)?;
    let offer = gateway.first_offer().await?;
    report.offer(&offer);

    if options.runs(Section::Memory) {
        say("memory: idle connections");
        report.memory(memory::measure(options, &gateway, &upstream, folder).await?);
    }
    if options.runs(Section::Exact) {
        say("exact: payments on the real node");
        report.exact(exact::measure(options, &node, &gateway).await?);
    }
    if options.runs(Section::Streams) {
        say("streams: the first event");
        report.streams(streams::measure(options, &node).await?);
    }
    let fleet = if options.runs(Section::Channels) {
        say("channels: opening them on the real node");
        Some(Fleet::open(&node, &gateway, options.channels).await?)
    } else {
        None
    };
    let stores = if options.runs(Section::Stores) {
        say("stores: a gateway on the embedded store, two on each Redis, and their channels");
        Some(Stores::open(folder, &node, &upstream).await?)
    } else {
        None
    };
    // From here on the node only stands by, so that its mining takes nothing from core 1.
    node.set_rate(0, 0.0).await;
    if options.runs(Section::Free) {
        say("a free route");
        let (pingora, nginx) = (Pingora::proxy(folder, &upstream)?, Nginx::proxy(folder, &upstream)?);
        let courteous = Pingora::courteous(folder, &upstream)?;
        let contestants = [
            gateway.contestant("kas402", servers::FREE_PATH, 200),
            gateway.contestant("kas402, wildcard route", "/files/a/b.txt", 200),
            courteous.contestant("pingora, same duties", servers::FREE_PATH, 200),
            pingora.contestant("bare pingora", servers::FREE_PATH, 200),
            nginx.contestant("nginx proxy_pass", servers::FREE_PATH, 200),
        ];
        report.free(rounds::run(options, &contestants).await?);
    }
    if options.runs(Section::Unpaid) {
        say("the 402");
        let (pingora, nginx) = (Pingora::static_402(folder, &offer)?, Nginx::static_402(folder, &offer)?);
        let contestants = [
            gateway.contestant("kas402", "/priced", 402),
            pingora.contestant("bare pingora", "/priced", 402),
            nginx.contestant("nginx return 402", "/priced", 402),
        ];
        report.unpaid(rounds::run(options, &contestants).await?);
        report.micro(micro::measure(&offer)?);
    }
    if let Some(fleet) = fleet {
        say("channels: requests paid by vouchers");
        let pingora = Pingora::proxy(folder, &upstream)?;
        report.channels(channels::measure(options, fleet, &gateway, &pingora, folder).await?);
    }
    if let Some(stores) = stores {
        say("stores: requests paid by vouchers");
        report.stores(stores.measure(options).await?);
    }
    report.finish();
    if let Some(file) = &options.json {
        std::fs::write(file, report.json())?;
    }
    Ok(report)
}

fn say(what: &str) {
    eprintln!("bench: {what}");
}
