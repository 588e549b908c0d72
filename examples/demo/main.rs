//! `make demo`: paid requests and a payment channel on a real Kaspa node, told step by step, all on this machine and offline.
//!
//! Starts a simnet with its miner, an API, a buyer and the gateway, tells both stories, then stays up to be tried
//! by hand; with `--once` it ends after them. Exit codes: 0 told, 1 something failed or a ledger does not
//! add up, 130 interrupted before the end of the story. Whatever happens, nothing it started outlives it.

mod buyer;
mod channel_buyer;
mod channel_facts;
mod channel_ledger;
mod channel_story;
mod channel_traffic;
mod ledger;
mod node;
mod parts;
mod shop;
mod show;
mod story;
mod weather;

use buyer::{Buyer, new_wallet};
use channel_buyer::ChannelBuyer;
use channel_story::ChannelStory;
use clap::Parser;
use kas402::{client::wallet::Wallet, protocol::amount::Amount};
use node::Node;
use parts::{Failure, Processes};
use shop::Shop;
use show::{Screen, seconds, word};
use std::{
    path::{Path, PathBuf},
    pin::{Pin, pin},
    process::ExitCode,
    time::Instant,
};
use story::Story;
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};
use weather::{Paid, Weather};

/// What the buyer gets from the faucet: several coins, so that payments in a row need not wait for change.
const COIN: &str = "20 KAS";
const COINS: u32 = 5;

/// A paid API on a real Kaspa node, on this machine.
#[derive(Parser)]
struct Args {
    /// End after the story
    #[arg(long)]
    once: bool,
}

/// What the story ran on.
struct Stage {
    node: Node,
    shop: Shop,
    weather: Weather,
    buyer: Buyer,
    seller: Wallet,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let screen = Screen::new();
    let told = pin!(told_to_stop());
    let folder = match tempfile::Builder::new().prefix("kas402-demo-").tempdir() {
        Ok(folder) => folder,
        Err(error) => {
            screen.failure(&format!("no temporary folder: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let mut parts = Processes::new(folder.path());
    let exit = play(&args, &screen, &mut parts, folder.path(), told).await;
    screen.line("\nstopping");
    parts.stop().await;
    match exit {
        Ok(code) => code,
        Err(failure) => {
            report(&screen, &failure, folder);
            ExitCode::FAILURE
        }
    }
}

async fn play(
    args: &Args,
    screen: &Screen,
    parts: &mut Processes,
    folder: &Path,
    mut told: Pin<&mut impl Future<Output = ()>>,
) -> Result<ExitCode, Failure> {
    let began = Instant::now();
    let mut stage = tokio::select! {
        stage = act(screen, parts, folder, began) => stage?,
        () = &mut told => return Ok(ExitCode::from(130)),
    };
    if args.once {
        return Ok(ExitCode::SUCCESS);
    }
    invite(screen, &stage, folder);
    loop {
        tokio::select! {
            () = &mut told => return Ok(ExitCode::SUCCESS),
            failure = parts.died() => return Err(failure),
            Some(call) = stage.weather.calls.recv() => screen.note(&match call.paid {
                Paid::By(amount, txid) => format!("the API answers {}, paid {} by {txid}", call.path, amount.to_kas()),
                Paid::From(ceiling, channel) => format!("the API answers {}, at most {} from channel {channel}", call.path, ceiling.to_kas()),
                Paid::Free => format!("the API answers {}, free", call.path),
            }),
        }
    }
}

/// Starts everything and tells the story.
async fn act(screen: &Screen, parts: &mut Processes, folder: &Path, began: Instant) -> Result<Stage, Failure> {
    let (gateway, devnet) = (beside("kas402")?, beside("kas402-devnet")?);
    screen.title("A paid API on a real Kaspa node, all on this machine");
    let node = Node::start(parts, screen, &devnet).await?;

    let since = screen.waiting("weather API");
    let mut weather = Weather::start().await?;
    screen.done(since, &format!("{}, knows nothing of payments", weather.url));

    let since = screen.waiting("buyer's money");
    let file = folder.join("buyer.json");
    let buyer = Buyer::new(new_wallet(&file)?, &file, &node)?;
    let seller = new_wallet(&folder.join("seller.json"))?;
    let coin = Amount::parse_price(COIN).map_err(|error| Failure::new("faucet", error))?;
    node.fund(&buyer.wallet, coin, COINS).await?;
    screen.done(since, &format!("{} for {}", node.balance(&buyer.wallet).await?.to_kas(), buyer.wallet.address()));

    let address = shop::free_address()?;
    let yaml = shop::yaml(&address, &seller, &node.url, &weather.url);
    let shop = Shop::start(parts, screen, &gateway, folder, &yaml, &address).await?;
    screen.line("\n   The gateway's whole configuration:");
    screen.quoted(&yaml);

    Story { screen, node: &node, shop: &shop, weather: &mut weather, buyer: &buyer, seller: &seller }.tell().await?;
    let patron = ChannelBuyer::new(&buyer, &node, buyer::amount(channel_story::MOST)?)?;
    ChannelStory { screen, node: &node, shop: &shop, weather: &mut weather, buyer: &patron, wallet: &buyer.wallet, seller: &seller }
        .tell()
        .await?;
    screen.note(&format!("started and told in {}", seconds(began.elapsed())));
    Ok(Stage { node, shop, weather, buyer, seller })
}

/// Lines to be pasted.
fn invite(screen: &Screen, stage: &Stage, folder: &Path) {
    let Stage { node, shop, buyer, seller, .. } = stage;
    let kas402 = beside("kas402").map_or_else(|_| "kas402".to_owned(), |path| word(&path));
    let (origin, network) = (&shop.origin, buyer.wallet.network());
    let (wallet, url) = (word(&buyer.file), &node.url);
    let channel = format!("--max '{}' --wallet {wallet} --node {url}", shop::CEILING);
    screen.title("Now you, in another terminal");
    screen.command("what it costs", &format!("curl -i {origin}/v1/weather/Lisbon"));
    screen.command(
        "pay for it",
        &format!("{kas402} pay {origin}/v1/weather/Lisbon --max '{}' --wallet {wallet} --node {url} --network {network}", buyer::MAX),
    );
    screen.command(
        "open a channel, pay from it, see it, and take the rest back after two minutes",
        &format!("{kas402} channel open {origin}/v1/forecast/Lisbon --deposit '2 KAS' {channel}"),
    );
    screen.line(format!("      {kas402} pay {origin}/v1/forecast/Osaka --channel {channel}"));
    screen.line(format!("      {kas402} channel status --wallet {wallet} --node {url}"));
    screen.line(format!("      {kas402} channel refund CHANNEL --wallet {wallet} --node {url}"));
    screen.command("what is free", &format!("curl -i {origin}/v1/cities"));
    screen.command("what the buyer has left", &format!("{kas402} wallet balance --wallet {wallet} --node {url}"));
    let config = word(&folder.join("kas402.yaml"));
    screen.command("the gateway's channels, and what they owe", &format!("{kas402} channels list -c {config}"));
    screen.line(format!("      {kas402} claim --all -c {config}"));
    screen.command("the gateway's book", &format!("curl -s --unix-socket {} http://admin/status", word(&shop.admin_socket)));
    screen.line("");
    screen.fact("gateway", origin);
    screen.fact("weather API", &stage.weather.url);
    screen.fact("node", url);
    screen.fact("seller", seller.address().to_string());
    screen.fact("files, logs", word(folder));
    screen.line("\n   Ctrl-C stops everything.\n");
}

/// Which part failed, where its log is, and how that ends. The folder stays, to be looked at.
fn report(screen: &Screen, failure: &Failure, folder: TempDir) {
    let folder = folder.keep();
    screen.failure(&format!("{}: {}", failure.part, failure.what));
    if let Some(log) = &failure.log {
        let end = failure.last_lines();
        screen.line(format!("   its log, {}, {}", log.display(), if end.is_empty() { "is empty" } else { "ends with" }));
        screen.quoted(&end);
    }
    screen.line(format!("   all files are in {}", folder.display()));
}

/// A binary of the same build: this one lies in a folder beside it.
fn beside(name: &str) -> Result<PathBuf, Failure> {
    let own = std::env::current_exe().map_err(|error| Failure::new("demo", error))?;
    let folder = own.ancestors().nth(2).ok_or_else(|| Failure::new("demo", format!("{} lies in no build", own.display())))?;
    Ok(folder.join(name))
}

/// Ctrl-C, SIGTERM, or a terminal that was closed; noticed from the call on, not from the first poll.
fn told_to_stop() -> impl Future<Output = ()> {
    let mut signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
        .map(|kind| signal(kind).expect("a process may handle its own signals"));
    async move {
        let [interrupt, terminate, hangup] = &mut signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
