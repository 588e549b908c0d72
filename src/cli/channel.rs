//! `kas402 channel`: open, top up, show and refund the channels of a wallet.
//!
//! Opening and topping up pay for a request, which carries the deposit: they take what `kas402 pay` takes, and print the answer.
//! Exit codes of these two are those of `kas402 pay`; of the others: 0 done, 1 not done, 4 sent and not decided: run it again.

use super::{
    pay::{self, Wanted},
    say,
    wallet::{WalletArg, amount, connect},
};
use crate::{
    chain::Chain,
    client::{
        channel::{ChannelError, Channels, Progress, Standing},
        coins::CoinRules,
        error::Money,
        paid::{Edge, Step},
        policy::Patience,
    },
    protocol::{amount::Amount, ids::ChannelId},
    runtime::clock,
};
use rand::rngs::OsRng;
use serde_json::{Value, json};
use std::{process::ExitCode, sync::Arc, time::Duration};

#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// Lock a deposit in a new channel, and pay for a request from it
    Open {
        #[command(flatten)]
        pay: Box<pay::Args>,
        /// Although a channel pays this server already
        #[arg(long)]
        another: bool,
    },
    /// Add to the channel that pays a server, and pay for a request from it
    #[command(name = "topup")]
    TopUp {
        #[command(flatten)]
        pay: Box<pay::Args>,
    },
    /// Show what the channels hold, owe, and wait for
    Status {
        /// Only these; the first characters of an id are enough
        channels: Vec<String>,
        #[command(flatten)]
        wallet: WalletArg,
        /// A node of yours, wRPC Borsh, with utxo index: follows the channels to where they are now
        #[arg(long, env = "KAS402_NODE", value_name = "URL")]
        node: Option<String>,
        /// Also closed ones
        #[arg(long)]
        all: bool,
        /// One JSON object instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Take back what is left after the timeout
    Refund {
        /// The channel; the first characters of its id are enough
        channel: String,
        #[command(flatten)]
        wallet: WalletArg,
        /// A node of yours, wRPC Borsh, with utxo index: ws://host:port
        #[arg(long, env = "KAS402_NODE", value_name = "URL")]
        node: String,
        /// The most the network fee may be
        #[arg(long, value_parser = amount, value_name = "AMOUNT", default_value = "0.05 KAS")]
        max_fee: Amount,
        /// Seconds to wait for the chain
        #[arg(long, default_value_t = 60, value_name = "SECONDS")]
        timeout: u64,
        /// One JSON object instead of text
        #[arg(long)]
        json: bool,
    },
}

/// Runs the subcommand.
pub async fn run(command: Command) -> ExitCode {
    let done = match command {
        Command::Open { pay, another } => return pay::execute(*pay, Some(Wanted::Open { another })).await,
        Command::TopUp { pay } => return pay::execute(*pay, Some(Wanted::TopUp)).await,
        Command::Status { channels, wallet, node, all, json } => status(&channels, &wallet, node, all, json).await,
        Command::Refund { channel, wallet, node, max_fee, timeout, json } => {
            refund(&channel, &wallet, node, max_fee, Duration::from_secs(timeout), json).await
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { words, undecided }) => {
            eprintln!("kas402 channel: {words}");
            ExitCode::from(if undecided { 4 } else { 1 })
        }
    }
}

struct Failure {
    words: String,
    undecided: bool,
}

impl From<String> for Failure {
    fn from(words: String) -> Self {
        Self { words, undecided: false }
    }
}

impl From<ChannelError> for Failure {
    fn from(error: ChannelError) -> Self {
        Self { words: error.to_string(), undecided: error.money() != Money::Unspent }
    }
}

fn open(wallet: &WalletArg, node: Option<String>, total: Duration) -> Result<Arc<Channels>, String> {
    let (loaded, journal) = (wallet.load()?, wallet.journal()?);
    let network = loaded.network();
    let chain = node.map(|node| connect(network, node) as Arc<dyn Chain>);
    let patience = Patience { total, ..Patience::default() };
    Ok(Channels::new(Arc::new(loaded), Arc::new(journal), chain, CoinRules::of(network), patience))
}

/// The channels whose id begins so.
fn named(channels: &Channels, prefix: &str) -> Result<Vec<ChannelId>, Failure> {
    let prefix = prefix.to_ascii_lowercase();
    let found = channels.list()?.into_iter().map(|channel| channel.id).filter(|id| id.to_string().starts_with(&prefix));
    Ok(found.collect())
}

async fn status(wanted: &[String], wallet: &WalletArg, node: Option<String>, all: bool, json: bool) -> Result<(), Failure> {
    let with_node = node.is_some();
    let channels = open(wallet, node, Patience::default().total)?;
    let mut ids = Vec::new();
    for prefix in wanted {
        let found = named(&channels, prefix)?;
        if found.is_empty() {
            return Err(format!("no channel's id begins with {prefix}").into());
        }
        ids.extend(found);
    }
    if wanted.is_empty() {
        ids = named(&channels, "")?;
    }
    let mut rows = Vec::new();
    for id in ids {
        if with_node {
            let mut watch = |step: Step<'_>| tell(&step, json);
            let mut edge = Edge { now: &clock::now, rng: &mut OsRng, watch: &mut watch };
            // What cannot be followed is shown as it is known.
            if let Err(error) = channels.sync(&id, &mut edge).await {
                eprintln!("kas402 channel: {error}");
            }
        }
        let row = channels.standing(channels.get(&id)?)?;
        if all || !wanted.is_empty() || row.channel.phase.holds_money() {
            rows.push(row);
        }
    }
    if json {
        say(json!({ "channels": rows.iter().map(as_json).collect::<Vec<_>>() }));
    } else if rows.is_empty() {
        say("no channels");
    } else {
        say(table(&rows));
    }
    Ok(())
}

async fn refund(prefix: &str, wallet: &WalletArg, node: String, max_fee: Amount, total: Duration, json: bool) -> Result<(), Failure> {
    let channels = open(wallet, Some(node), total)?;
    let id = match named(&channels, prefix)?[..] {
        [id] => id,
        [] => return Err(format!("no channel's id begins with {prefix}").into()),
        [..] => return Err(format!("several channels' ids begin with {prefix}").into()),
    };
    let mut watch = |step: Step<'_>| tell(&step, json);
    let mut edge = Edge { now: &clock::now, rng: &mut OsRng, watch: &mut watch };
    let done = channels.refund(&id, max_fee, &mut edge).await?;
    if json {
        say(json!({ "channel": id, "transaction": done.txid, "amount": done.amount, "fee": done.fee }));
    } else {
        say(format!("refunded {}, network fee {}, transaction {}", done.amount.to_kas(), done.fee.to_kas(), done.txid));
    }
    Ok(())
}

fn tell(step: &Step<'_>, json: bool) {
    match step {
        Step::Channel(Progress::Moved { channel, words }) if !json => eprintln!("channel {} moved on: {words}", short(&channel.id)),
        Step::Channel(Progress::Refunding { txid, .. }) if !json => eprintln!("the refund {txid} is in the journal, sending"),
        _ => {}
    }
}

fn short(id: &ChannelId) -> String {
    id.to_string()[..16].to_owned()
}

fn as_json(row: &Standing) -> Value {
    let (channel, account) = (&row.channel, &row.channel.account);
    json!({
        "channel": channel.id,
        "phase": channel.phase.as_str(),
        "why": channel.why,
        "server": channel.server,
        "serverPublicKey": channel.config.server_public_key,
        "payTo": channel.config.pay_to,
        "outpoint": account.outpoint,
        "funding": account.funding,
        "balance": account.left(),
        "spendable": row.spendable,
        "reserve": row.reserve,
        "charged": account.charged,
        "claimed": account.claimed,
        "active": account.active(),
        "signed": account.signed_amount(),
        "unknown": account.unknown,
        "refundTimeoutDaa": channel.config.refund_timeout_daa.to_string(),
        "nowDaa": row.left.map(|left| left.now_daa.to_string()),
        "leftDaa": row.left.map(|left| left.daa.to_string()),
        "leftSeconds": row.left.map(|left| left.time.as_secs()),
        "inFlight": row.in_flight.as_ref().map(|flight| json!({
            "identifier": flight.identifier, "method": flight.method, "url": flight.url, "ceiling": flight.attempt.ceiling,
            "voucher": flight.attempt.voucher.amount,
        })),
    })
}

fn table(rows: &[Standing]) -> String {
    let head =
        ["CHANNEL", "PHASE", "BALANCE", "CHARGED", "CLAIMED", "ACTIVE", "SIGNED", "REFUND", "SERVER", "IN FLIGHT"].map(str::to_owned);
    let mut lines = vec![head];
    for row in rows {
        let (channel, account) = (&row.channel, &row.channel.account);
        let refund = match row.left {
            None => format!("after DAA {}", channel.config.refund_timeout_daa),
            Some(left) if left.daa == 0 => "now".to_owned(),
            Some(left) => format!("in {} min ({} DAA)", left.time.as_secs().div_ceil(60), left.daa),
        };
        let in_flight = row.in_flight.as_ref();
        lines.push([
            short(&channel.id),
            channel.phase.as_str().to_owned(),
            account.left().to_kas(),
            account.charged.to_kas(),
            account.claimed.to_kas(),
            account.active().to_kas(),
            account.signed_amount().to_kas(),
            refund,
            channel.server.clone(),
            in_flight
                .map_or("-".to_owned(), |flight| format!("{} {} (at most {})", flight.method, flight.url, flight.attempt.ceiling.to_kas())),
        ]);
    }
    let widths: Vec<usize> = (0..lines[0].len()).map(|column| lines.iter().map(|line| line[column].len()).max().unwrap_or(0)).collect();
    let mut text: Vec<String> = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push(cells.join("  ").trim_end().to_owned());
        if let Some(why) = at.checked_sub(1).and_then(|at| rows[at].channel.why.as_ref()) {
            text.push(format!("    {why}"));
        }
    }
    text.join("\n")
}
