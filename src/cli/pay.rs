//! `kas402 pay URL`: fetch something that costs KAS.
//!
//! The body of the answer goes to standard output (or `-o`), everything else to standard error.
//! Exit codes:
//! 0 the resource came back (paid or free); 1 it failed and nothing was paid; 2 a mistake in how it was
//! asked; 3 refused to pay (price, fee, recipient, no `--max`); 4 paid, and not known whether the money
//! moved: run the same command again, it resumes; 5 paid for certain, but the server does not deliver:
//! run it again, unless it says that the time is over; 6 an answer came back whose status is 400 or more.

use super::wallet::{WalletArg, connect};
use crate::{
    chain::Chain,
    client::{
        coins::CoinRules,
        error::{FetchError, Money, Unpaid},
        exchange::{PaidRequest, Reply},
        paid::{Edge, Fetched, PaidClient, Quote, Step},
        policy::{Patience, SpendingPolicy},
    },
    protocol::{amount::Amount, network::Network, time::UnixMillis},
    runtime::clock,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use rand::rngs::OsRng;
use serde_json::{Value, json};
use std::{io::Write, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

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
    #[arg(long, value_parser = Amount::parse_price, value_name = "AMOUNT")]
    max: Option<Amount>,
    /// The most the network fee may be
    #[arg(long, value_parser = Amount::parse_price, value_name = "AMOUNT", default_value = "0.05 KAS")]
    max_fee: Amount,
    /// Pay only these addresses; repeatable
    #[arg(long, value_name = "ADDRESS")]
    recipient: Vec<String>,
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

/// Runs the subcommand.
pub async fn run(args: Args) -> ExitCode {
    let exit = match prepare(&args) {
        Err(error) => {
            eprintln!("kas402 pay: {error}");
            Exit::Usage
        }
        Ok((client, request)) => act(&args, &client, &request).await,
    };
    ExitCode::from(exit as u8)
}

async fn act(args: &Args, client: &PaidClient, request: &PaidRequest) -> Exit {
    let mut summary = Summary::new(args.json);
    if args.dry_run {
        return match client.quote(request).await {
            Ok(quote) => summary.quote(&quote),
            Err(error) => summary.failed(&FetchError::BeforePaying(error)),
        };
    }
    let mut watch = |step: Step<'_>| summary.step(&step);
    let mut edge = Edge { now: &clock::now, rng: &mut OsRng, watch: &mut watch };
    match client.fetch(request, args.new, &mut edge).await {
        Err(error) => summary.failed(&error),
        Ok(Fetched::Free(reply)) => {
            summary.free(&reply);
            deliver(args, &reply)
        }
        Ok(Fetched::Paid { reply, payment, receipt }) => {
            let finality = receipt.as_ref().and_then(|receipt| receipt.finality.clone());
            summary.paid(&reply, &payment.txid.to_string(), payment.amount, payment.fee, receipt.is_some(), finality);
            deliver(args, &reply)
        }
    }
}

fn prepare(args: &Args) -> Result<(PaidClient, PaidRequest), String> {
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
    };
    let patience = Patience { total: Duration::from_secs(args.timeout), ..Patience::default() };
    let chain = args.node.clone().map(|node| connect(network, node) as Arc<dyn Chain>);
    let journal = Arc::new(args.wallet.journal()?);
    Ok((PaidClient::new(Arc::new(wallet), journal, chain, policy, CoinRules::of(network), patience), request))
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

/// What happened, on standard error: lines as it happens, or one JSON object at the end.
struct Summary {
    json: bool,
    started: UnixMillis,
    last: UnixMillis,
    steps: Vec<Value>,
}

impl Summary {
    fn new(json: bool) -> Self {
        let now = clock::now();
        Self { json, started: now, last: now, steps: Vec::new() }
    }

    fn say(&mut self, name: &str, words: &str, details: Value) {
        let now = clock::now();
        let took = now.millis_since(self.last);
        self.last = now;
        if self.json {
            self.steps.push(json!({ "step": name, "ms": took, "details": details }));
        } else {
            eprintln!("{took:>6} ms  {words}");
        }
    }

    fn step(&mut self, step: &Step<'_>) {
        match step {
            Step::Resumed(entry) => {
                let words = format!("resuming payment {} of {}", entry.txid, entry.amount.to_kas());
                self.say("resumed", &words, json!({ "transaction": entry.txid, "amount": entry.amount }));
            }
            Step::Offered(offer) => {
                let finality = offer.finality.map_or("the server's choice", |finality| finality.as_str());
                let words = format!("402: {} to {} on {}, finality {finality}", offer.amount.to_kas(), offer.pay_to, offer.network);
                self.say("offered", &words, offer.accepted.clone());
            }
            Step::Planned(plan) => {
                let change = plan.change.unwrap_or(Amount::ZERO);
                let words = format!("paying from {} coins: fee {}, change {}", plan.inputs.len(), plan.fee.to_kas(), change.to_kas());
                self.say("planned", &words, json!({ "inputs": plan.inputs.len(), "fee": plan.fee, "change": change }));
            }
            Step::Recorded(entry) => {
                let words = format!("payment {} is in the journal, sending", entry.txid);
                self.say("recorded", &words, json!({ "transaction": entry.txid }));
            }
            Step::Again { reason, after } => {
                let words = format!("{reason}: the same payment again in {} ms", after.as_millis());
                self.say("again", &words, json!({ "reason": reason }));
            }
            Step::Replaced { rejected, code, by } => {
                let words = format!("{rejected} was rejected ({code}), replaced by {}, which excludes it", by.txid);
                self.say("replaced", &words, json!({ "rejected": rejected, "reason": code.as_str(), "transaction": by.txid }));
            }
        }
    }

    fn free(&mut self, reply: &Reply) {
        self.say("free", &format!("{}: nothing to pay", reply.status), json!({ "status": reply.status.as_u16() }));
        self.end(json!({ "paid": false, "status": reply.status.as_u16() }));
    }

    fn paid(&mut self, reply: &Reply, txid: &str, amount: Amount, fee: Amount, receipt: bool, finality: Option<String>) {
        let shown = finality.as_deref().unwrap_or("not stated");
        let words = match receipt {
            true => format!("{}: paid {}, finality {shown}, transaction {txid}", reply.status, amount.to_kas()),
            false => format!("{}: delivered without a receipt; transaction {txid}", reply.status),
        };
        self.say("paid", &words, json!({ "status": reply.status.as_u16() }));
        if !self.json {
            eprintln!("{:>6} ms  in all", self.last.millis_since(self.started));
        }
        self.end(json!({
            "paid": true, "status": reply.status.as_u16(), "transaction": txid, "amount": amount, "fee": fee,
            "receipt": receipt, "finality": finality,
        }));
    }

    fn quote(&mut self, quote: &Quote) -> Exit {
        match quote {
            Quote::Free(reply) => self.free(reply),
            Quote::UnderWay(entry) => {
                let words = format!("payment {} of {} is under way; fetching resumes it", entry.txid, entry.amount.to_kas());
                self.say("under_way", &words, json!({ "transaction": entry.txid, "amount": entry.amount }));
                self.end(json!({ "paid": false, "underWay": entry.txid }));
            }
            Quote::Priced { challenge, choice } => {
                for offer in &challenge.offers {
                    self.step(&Step::Offered(offer));
                }
                for skipped in &challenge.skipped {
                    self.say("skipped", &format!("another offer: {skipped}"), json!(skipped.to_string()));
                }
                let words = match choice {
                    Ok(offer) => format!("it would pay {}", offer.amount.to_kas()),
                    Err(why) => format!("it would not pay: {why}"),
                };
                self.say("choice", &words, json!(words));
                self.end(json!({ "paid": false, "wouldPay": choice.as_ref().ok().map(|offer| offer.amount) }));
            }
        }
        Exit::Done
    }

    fn failed(&mut self, error: &FetchError) -> Exit {
        let (exit, hint) = verdict(error);
        if !self.json {
            eprintln!("kas402 pay: {error}");
            if !hint.is_empty() {
                eprintln!("{hint}");
            }
        }
        let txid = match error.money() {
            Money::Unspent => None,
            Money::Undecided(txid) | Money::Settled(txid) | Money::Lost(txid) => Some(txid),
        };
        self.end(json!({ "paid": txid.is_some(), "transaction": txid, "error": error.to_string() }));
        exit
    }

    fn end(&mut self, mut outcome: Value) {
        if self.json {
            outcome["steps"] = std::mem::take(&mut self.steps).into();
            outcome["ms"] = clock::now().millis_since(self.started).into();
            eprintln!("{outcome}");
        }
    }
}

/// The exit code of an error, and what to do about it.
fn verdict(error: &FetchError) -> (Exit, &'static str) {
    match error {
        FetchError::BeforePaying(Unpaid::Unwilling(_)) => (Exit::Refused, "Nothing was paid. --max sets what one request may cost."),
        FetchError::BeforePaying(Unpaid::Fee { .. }) => (Exit::Refused, "Nothing was paid. --max-fee sets what the network may cost."),
        FetchError::BeforePaying(Unpaid::OtherResource { .. }) => {
            (Exit::Refused, "Nothing was paid. --other-origin accepts another origin with the same path and query.")
        }
        FetchError::BeforePaying(_) => (Exit::NothingPaid, "Nothing was paid."),
        FetchError::Undecided { .. } => {
            (Exit::Undecided, "The money may have moved. The same command again resumes this payment; it will not pay twice.")
        }
        FetchError::Undelivered { .. } => (Exit::Undelivered, "The same command again asks for what was paid."),
        FetchError::Lapsed { .. } => (Exit::Undelivered, "The operator of the server can grant it again; name the transaction."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{client::error::Why, protocol::ids::TxId};
    use clap::Parser;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn the_command_line_reads_amounts_with_their_unit() {
        let parse = |extra: &[&str]| Line::try_parse_from([&["pay", "http://x/"], extra].concat()).map(|line| line.args);
        assert_eq!(parse(&["--max", "0.5 KAS"]).unwrap().max, Amount::from_sompi(50_000_000).ok());
        assert_eq!(parse(&[]).unwrap().max, None);
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
        let txid = TxId([1; 32]);
        for (error, expect) in [
            (FetchError::BeforePaying(Unpaid::NoNode), Exit::NothingPaid),
            (FetchError::BeforePaying(Unpaid::Unwilling(Vec::new())), Exit::Refused),
            (FetchError::BeforePaying(Unpaid::Fee { fee: Amount::ZERO, max: Amount::ZERO }), Exit::Refused),
            (FetchError::Undecided { txid, why: Why::Timeout { last: String::new() } }, Exit::Undecided),
            (FetchError::Undelivered { txid, status: 502 }, Exit::Undelivered),
            (FetchError::Lapsed { txid }, Exit::Undelivered),
        ] {
            assert_eq!(verdict(&error).0, expect, "{error}");
        }
    }
}
