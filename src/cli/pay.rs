//! `kas402 pay URL`: fetch something that costs KAS, by a transaction or from a channel.
//!
//! The body of the answer goes to standard output (or `-o`), everything else to standard error.
//! Exit codes:
//! 0 the resource came back (paid or free); 1 it failed and nothing was paid; 2 a mistake in how it was
//! asked; 3 refused to pay (price, fee, recipient, no `--max`); 4 paid, and not known whether the money
//! moved: run the same command again, it resumes; 5 paid for certain, but the server does not deliver:
//! run it again, unless it says that the time is over; 6 an answer came back whose status is 400 or more.

mod summary;

use super::wallet::{WalletArg, amount, connect};
use crate::{
    chain::Chain,
    client::{
        channel::{ChannelPayer, ChannelPolicy, Channels, Want},
        coins::CoinRules,
        error::FetchError,
        exchange::{Exchange, PaidRequest, Reply, ToolCall},
        journal::State,
        mcp::McpClient,
        paid::{Edge, Fetched, PaidClient, Rail, Step},
        policy::{Budget, Patience, SpendingPolicy},
    },
    protocol::{amount::Amount, ids::ChannelId, network::Network, time::UnixMillis},
    runtime::clock,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use rand::rngs::OsRng;
use std::{io::Write, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};
use summary::Summary;

/// The process's answer to its caller; the numbers are documented above and in `--help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    Done = 0,
    NothingPaid = 1,
    Usage = 2,
    Refused = 3,
    Undecided = 4,
    Undelivered = 5,
    HttpError = 6,
}

#[derive(clap::Args, Debug)]
#[command(after_help = "Exit codes: 0 done; 1 failed, nothing paid; 2 usage; 3 refused to pay; 4 paid, outcome unknown: run it again; \
    5 settled but not delivered; 6 the answer's status is 400 or more")]
pub struct Args {
    /// What to fetch, http or https
    url: String,
    /// Method; default: GET, or POST with a body
    #[arg(short = 'X', long, value_name = "METHOD")]
    request: Option<Method>,
    /// A request header, 'name: value'; repeatable
    #[arg(short = 'H', long, value_name = "HEADER")]
    header: Vec<String>,
    /// The request body, or @FILE
    #[arg(short = 'd', long, value_name = "BODY|@FILE")]
    data: Option<String>,
    /// The most this request may cost, without the network fee: "0.5 KAS". Without it nothing is paid
    #[arg(long, value_parser = amount, value_name = "AMOUNT")]
    max: Option<Amount>,
    /// The most the network fee may be
    #[arg(long, value_parser = amount, value_name = "AMOUNT", default_value = "0.05 KAS")]
    max_fee: Amount,
    /// The most that all requests of this wallet to the same server may cost together
    #[arg(long, value_parser = amount, value_name = "AMOUNT")]
    max_origin: Option<Amount>,
    /// The most that all requests of this wallet may cost together
    #[arg(long, value_parser = amount, value_name = "AMOUNT")]
    max_total: Option<Amount>,
    /// Count only the last so many days for --max-origin and --max-total; without it everything in the wallet's journal counts
    #[arg(long, value_name = "DAYS")]
    budget_days: Option<u32>,
    /// Pay only these addresses; repeatable
    #[arg(long, value_name = "ADDRESS")]
    recipient: Vec<String>,
    /// Pay from a channel of this wallet, not by a transaction
    #[arg(long)]
    channel: bool,
    /// Lock this much in a channel: a new one when no channel pays this server. Comes back after the channel's timeout, less what was charged
    #[arg(long, value_parser = amount, value_name = "AMOUNT")]
    deposit: Option<Amount>,
    /// The most that all channels of the wallet may hold together
    #[arg(long, value_parser = amount, value_name = "AMOUNT")]
    max_locked: Option<Amount>,
    /// The longest time a deposit may be locked, days
    #[arg(long, default_value_t = 30, value_name = "DAYS")]
    max_lock_days: u32,
    /// Pay from this channel and no other
    #[arg(long, value_name = "CHANNEL")]
    only: Option<ChannelId>,
    /// Only show the price
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    wallet: WalletArg,
    /// A node of yours, wRPC Borsh, with utxo index: ws://host:port
    #[arg(long, env = "KAS402_NODE", value_name = "URL")]
    node: Option<String>,
    /// Insist on this network; default: the wallet's
    #[arg(long)]
    network: Option<Network>,
    /// Mainnet is refused without this: nothing here was audited
    #[arg(long)]
    allow_mainnet: bool,
    /// Accept a server that names the resource by another origin (path and query must agree)
    #[arg(long)]
    other_origin: bool,
    /// Another purchase, although one of the same request is not finished
    #[arg(long)]
    new: bool,
    /// Seconds to wait for the resource after the payment
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    timeout: u64,
    /// Write the body here instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Summarise as one JSON object instead of text
    #[arg(long)]
    json: bool,
}

impl Args {
    /// From when on purchases count.
    fn budget_since(&self, now: UnixMillis) -> UnixMillis {
        let counted = self.budget_days.map(|days| u64::from(days).saturating_mul(24 * 3_600 * 1_000));
        counted.map_or(UnixMillis(0), |millis| UnixMillis(now.0.saturating_sub(millis)))
    }
}

/// Runs the subcommand.
pub async fn run(args: Args) -> ExitCode {
    execute(args, None).await
}

impl Args {
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The headers that were asked for.
    pub(super) fn fields(&self) -> Result<HeaderMap, String> {
        headers(&self.header)
    }
}

/// Pays for a call of a tool instead of a request.
pub(super) async fn call(args: Args, call: ToolCall) -> ExitCode {
    let prepared = prepare(&args, None).and_then(|(client, request, _)| {
        if args.request.is_some() || args.data.is_some() {
            return Err("--request and --data are of requests, not of calls".into());
        }
        let request = PaidRequest::call(&request.url(), request.headers, call).map_err(|error| error.to_string())?;
        let patience = Patience { total: Duration::from_secs(args.timeout), ..Patience::default() };
        Ok((client.through(Arc::new(McpClient::over(Arc::new(Exchange::new(&patience))))), request))
    });
    let exit = match prepared {
        Err(error) => {
            eprintln!("kas402 mcp: {error}");
            Exit::Usage
        }
        Ok((client, request)) => act(&args, &client, &request, None).await,
    };
    ExitCode::from(exit as u8)
}

/// Runs it, or with `wanted` opens or tops up a channel with the request as its first payment; `true` opens another.
pub(super) async fn execute(args: Args, wanted: Option<Wanted>) -> ExitCode {
    let exit = match prepare(&args, wanted) {
        Err(error) => {
            eprintln!("kas402 pay: {error}");
            Exit::Usage
        }
        Ok((client, request, want)) => act(&args, &client, &request, want).await,
    };
    ExitCode::from(exit as u8)
}

/// What `kas402 channel` wants of a payment.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted {
    Open { another: bool },
    TopUp,
}

async fn act(args: &Args, client: &PaidClient, request: &PaidRequest, want: Option<Want>) -> Exit {
    let mut summary = Summary::new(args.json);
    if args.dry_run {
        return match client.quote(request).await {
            Ok(quote) => summary.quote(&quote),
            Err(error) => summary.failed(&FetchError::BeforePaying(error)),
        };
    }
    let mut watch = |step: Step<'_>| summary.step(&step);
    let mut edge = Edge { now: &clock::now, rng: &mut OsRng, watch: &mut watch };
    let fetched = match (want, client.channel_payer()) {
        (Some(want), Some(payer)) => payer.fetch(request, want, args.new, &mut edge).await.map_err(FetchError::from),
        _ => client.fetch(request, args.new, &mut edge).await,
    };
    match fetched {
        Err(error) => summary.failed(&error),
        Ok(Fetched::Free(reply)) => {
            summary.free(&reply);
            deliver(args, &reply)
        }
        Ok(Fetched::Paid { reply, payment, receipt }) => {
            let finality = receipt.as_ref().and_then(|receipt| receipt.finality.clone());
            summary.paid(&reply, &payment, receipt.is_some(), finality);
            match deliver(args, &reply) {
                Exit::Done | Exit::HttpError if payment.state == State::Settled => Exit::Undelivered,
                exit => exit,
            }
        }
        Ok(Fetched::Charged { reply, charge }) => {
            summary.charged(&reply, &charge);
            deliver(args, &reply)
        }
    }
}

fn prepare(args: &Args, wanted: Option<Wanted>) -> Result<(PaidClient, PaidRequest, Option<Want>), String> {
    let body = match args.data.as_deref().map(|data| (data, data.strip_prefix('@'))) {
        None => Vec::new(),
        Some((_, Some(path))) => std::fs::read(path).map_err(|error| format!("cannot read {path}: {error}"))?,
        Some((text, None)) => text.as_bytes().to_vec(),
    };
    let method = args.request.clone().unwrap_or(if args.data.is_some() { Method::POST } else { Method::GET });
    let request = PaidRequest::new(method, &args.url, headers(&args.header)?, body.into()).map_err(|error| error.to_string())?;
    let wallet = args.wallet.load()?;
    let network = wallet.network();
    if args.network.is_some_and(|wanted| wanted != network) {
        return Err(format!("the wallet is on {network}"));
    }
    if network == Network::Mainnet && !args.allow_mainnet {
        return Err("kaspa:mainnet is refused without --allow-mainnet: nothing here was audited".into());
    }
    let policy = SpendingPolicy {
        max_amount: args.max,
        max_fee: args.max_fee,
        network,
        recipients: (!args.recipient.is_empty()).then(|| args.recipient.clone()),
        other_origin: args.other_origin,
        budget: Budget { per_origin: args.max_origin, total: args.max_total, since: args.budget_since(clock::now()) },
    };
    let patience = Patience { total: Duration::from_secs(args.timeout), ..Patience::default() };
    let chain = args.node.clone().map(|node| connect(network, node) as Arc<dyn Chain>);
    let (wallet, journal, rules) = (Arc::new(wallet), Arc::new(args.wallet.journal()?), CoinRules::of(network));
    let want = match (wanted, args.deposit) {
        (None, _) => None,
        (Some(_), None) => return Err("say how much to lock: --deposit AMOUNT".into()),
        (Some(Wanted::Open { another }), Some(deposit)) => Some(Want::Open { deposit, another }),
        (Some(Wanted::TopUp), Some(amount)) => Some(Want::TopUp(amount)),
    };
    if want.is_none() && !args.channel && (args.deposit.is_some() || args.only.is_some()) {
        return Err("--deposit and --only are of channels: add --channel".into());
    }
    let channels = Channels::new(wallet.clone(), journal.clone(), chain.clone(), rules.clone(), patience);
    let terms = ChannelPolicy {
        deposit: args.deposit,
        max_locked: args.max_locked,
        max_lock_daa: u64::from(args.max_lock_days).saturating_mul(24 * 3_600).saturating_mul(rules.blocks_per_second),
        only: args.only,
    };
    let client = PaidClient::new(wallet, journal, chain, policy.clone(), rules, patience);
    let rail = if args.channel || want.is_some() { Rail::Channel } else { Rail::Exact };
    Ok((client.with_channels(ChannelPayer::new(channels, policy, terms), rail), request, want))
}

fn headers(lines: &[String]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or_else(|| format!("{line:?} is not 'name: value'"))?;
        let name: HeaderName = name.trim().parse().map_err(|_| format!("{:?} is not a header name", name.trim()))?;
        let value = HeaderValue::from_str(value.trim()).map_err(|_| format!("the value of {name} cannot be sent"))?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// Writes the body out; its status decides the exit code.
fn deliver(args: &Args, reply: &Reply) -> Exit {
    let written = match &args.output {
        Some(path) => std::fs::write(path, &reply.body),
        None => std::io::stdout().lock().write_all(&reply.body).and_then(|()| std::io::stdout().flush()),
    };
    match written {
        Err(error) => {
            eprintln!("kas402 pay: the body cannot be written: {error}");
            Exit::Undelivered
        }
        Ok(()) if reply.status.as_u16() >= 400 => Exit::HttpError,
        Ok(()) => Exit::Done,
    }
}

#[cfg(test)]
mod tests {
    use super::{summary::verdict, *};
    use crate::{
        client::{
            channel::ChannelError,
            error::{Unpaid, Why},
        },
        protocol::ids::TxId,
    };
    use clap::Parser;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn the_command_line_reads_amounts_with_their_unit() {
        let parse = |extra: &[&str]| Line::try_parse_from([&["pay", "http://x/"], extra].concat()).map(|line| line.args);
        for half in ["0.5 KAS", "0.5KAS", "50000000 sompi", "50000000sompi"] {
            assert_eq!(parse(&["--max", half]).unwrap().max, Amount::from_sompi(50_000_000).ok());
        }
        assert_eq!(parse(&[]).unwrap().max, None);
        let now = UnixMillis(100 * 24 * 3_600 * 1_000);
        for (days, since) in [(&[][..], 0), (&["--budget-days", "1"], 99 * 24 * 3_600 * 1_000), (&["--budget-days", "101"], 0)] {
            assert_eq!(parse(days).unwrap().budget_since(now), UnixMillis(since));
        }
        for wrong in [["--max", "0.5"], ["--max", "-1 KAS"], ["--network", "simnet"], ["--timeout", "soon"]] {
            assert!(parse(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn request_headers_are_checked_before_anything_is_sent() {
        let parse = |line: &str| headers(&[line.to_owned()]);
        assert_eq!(parse("X-A:  b: c ").unwrap()["x-a"], "b: c");
        for wrong in ["no colon", ": empty", "b ad: x", "a: line\nbreak"] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn exit_codes_say_where_the_money_is() {
        let (txid, channel) = (TxId([1; 32]), ChannelId([2; 32]));
        for (error, expect) in [
            (FetchError::BeforePaying(Unpaid::NoNode), Exit::NothingPaid),
            (FetchError::BeforePaying(Unpaid::Unwilling(Vec::new())), Exit::Refused),
            (FetchError::BeforePaying(Unpaid::Fee { fee: Amount::ZERO, max: Amount::ZERO }), Exit::Refused),
            (FetchError::Undecided { txid, why: Why::Timeout { last: String::new() } }, Exit::Undecided),
            (FetchError::Undelivered { txid, status: 502 }, Exit::Undelivered),
            (FetchError::Lapsed { txid }, Exit::Undelivered),
            (ChannelError::InFlight { channel, why: String::new() }.into(), Exit::Undecided),
            (ChannelError::LockedTooMuch { more: Amount::ZERO, locked: Amount::ZERO, max: Amount::ZERO }.into(), Exit::Refused),
            (ChannelError::NothingActive(channel).into(), Exit::NothingPaid),
            (ChannelError::Unpaid(Unpaid::Unwilling(Vec::new())).into(), Exit::Refused),
        ] {
            assert_eq!(verdict(&error).0, expect, "{error}");
        }
    }
}
