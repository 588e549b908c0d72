//! What `kas402 pay` tells: lines as it happens, or one JSON object at the end; and what an error means for its caller.

use super::Exit;
use crate::{
    client::{
        channel::{ChannelError, Charge, Cost, Preview, Progress},
        error::{FetchError, Money, Unpaid},
        exchange::Reply,
        journal::{Entry, State},
        paid::{Quote, Step},
    },
    gateway::crash,
    protocol::{amount::Amount, time::UnixMillis},
    runtime::clock,
};
use serde_json::{Value, json};

/// What happened, on standard error: lines as it happens, or one JSON object at the end.
pub(super) struct Summary {
    json: bool,
    started: UnixMillis,
    last: UnixMillis,
    steps: Vec<Value>,
}

impl Summary {
    pub fn new(json: bool) -> Self {
        let now = clock::now();
        Self { json, started: now, last: now, steps: Vec::new() }
    }

    fn say(&mut self, name: &str, words: &str, details: Value) {
        let now = clock::now();
        let took = now.millis_since(self.last);
        self.last = now;
        crash::point(&format!("pay.{name}"));
        if self.json {
            self.steps.push(json!({ "step": name, "ms": took, "details": details }));
        } else {
            eprintln!("{took:>6} ms  {words}");
        }
    }

    pub fn step(&mut self, step: &Step<'_>) {
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
            Step::Channel(progress) => self.progress(progress),
        }
    }

    fn progress(&mut self, progress: &Progress<'_>) {
        let (name, words, details) = match progress {
            Progress::Resumed(flight) => {
                let words = format!("resuming a request of at most {} on channel {}", flight.attempt.ceiling.to_kas(), flight.channel);
                ("resumed", words, json!({ "channel": flight.channel, "identifier": flight.identifier }))
            }
            Progress::Offered(offer) => {
                let words = format!("402: at most {} from a channel with {}", offer.ceiling.to_kas(), offer.pay_to);
                ("offered", words, offer.accepted.clone())
            }
            Progress::Opening { channel, deposit, fee } => {
                let words = format!("opening channel {}: {} locked, network fee {}", channel.id, deposit.to_kas(), fee.to_kas());
                ("opening", words, json!({ "channel": channel.id, "deposit": deposit, "fee": fee, "outpoint": channel.account.outpoint }))
            }
            Progress::ToppingUp { channel, added } => {
                let words = format!("topping up channel {} by {}", channel.id, added.to_kas());
                ("topping_up", words, json!({ "channel": channel.id, "added": added }))
            }
            Progress::MakingCoin { txid, amount, fee } => {
                let words =
                    format!("making a coin of {} for the top-up, network fee {}, transaction {txid}", amount.to_kas(), fee.to_kas());
                ("making_coin", words, json!({ "transaction": txid, "amount": amount, "fee": fee }))
            }
            Progress::Signed(flight) => {
                let voucher = flight.attempt.voucher.amount;
                let words = format!("a voucher of {} in all is in the journal, sending", voucher.to_kas());
                ("signed", words, json!({ "channel": flight.channel, "identifier": flight.identifier, "voucher": voucher }))
            }
            Progress::Broadcast(txid) => {
                ("broadcast", format!("the server is silent: {txid} given to the node"), json!({ "transaction": txid }))
            }
            Progress::Corrected { channel, code } => {
                let words = format!("{code}: where the channel stands is verified, signing anew");
                ("corrected", words, json!({ "channel": channel.id, "reason": code.as_str() }))
            }
            Progress::Moved { channel, words } => (
                "moved",
                format!("channel {} moved on: {words}", channel.id),
                json!({ "channel": channel.id, "outpoint": channel.account.outpoint }),
            ),
            Progress::LeftBehind(flight) => {
                let words = format!(
                    "{} {} was left unfinished and may have cost up to {}",
                    flight.method,
                    flight.url,
                    flight.attempt.ceiling.to_kas()
                );
                ("left_behind", words, json!({ "identifier": flight.identifier }))
            }
            Progress::Refunding { channel, txid, amount, fee } => {
                let words = format!("refunding {} of channel {}, fee {}, transaction {txid}", amount.to_kas(), channel.id, fee.to_kas());
                ("refunding", words, json!({ "channel": channel.id, "transaction": txid, "amount": amount, "fee": fee }))
            }
        };
        self.say(name, &words, details);
    }

    pub fn free(&mut self, reply: &Reply) {
        self.say("free", &format!("{}: nothing to pay", reply.status), json!({ "status": reply.status.as_u16() }));
        self.end(json!({ "paid": false, "status": reply.status.as_u16() }));
    }

    pub fn paid(&mut self, reply: &Reply, payment: &Entry, receipt: bool, finality: Option<String>) {
        let Entry { txid, amount, fee, state, .. } = payment;
        let shown = finality.as_deref().unwrap_or("not stated");
        let delivered = *state != State::Settled;
        let words = match receipt {
            _ if !delivered => {
                format!(
                    "{}: paid {}, transaction {txid}; this is not what was paid for, which is still owed",
                    reply.status,
                    amount.to_kas()
                )
            }
            true => format!("{}: paid {}, finality {shown}, transaction {txid}", reply.status, amount.to_kas()),
            false => format!("{}: delivered without a receipt; transaction {txid}", reply.status),
        };
        self.say("paid", &words, json!({ "status": reply.status.as_u16() }));
        if !self.json {
            eprintln!("{:>6} ms  in all", self.last.millis_since(self.started));
        }
        self.end(json!({
            "paid": true, "status": reply.status.as_u16(), "transaction": txid, "amount": amount, "fee": fee,
            "receipt": receipt, "finality": finality, "delivered": delivered,
        }));
    }

    pub fn charged(&mut self, reply: &Reply, charge: &Charge) {
        let after = &charge.after.account;
        let (words, cost, error) = match &charge.cost {
            Cost::Charged { amount, .. } => {
                (format!("charged {} of at most {}", amount.to_kas(), charge.ceiling.to_kas()), Some(*amount), None)
            }
            Cost::Nothing => ("nothing was charged for this answer".to_owned(), Some(Amount::ZERO), None),
            Cost::Unknown => (format!("no receipt: charged at most {}", charge.ceiling.to_kas()), None, Some("no receipt".to_owned())),
            Cost::Disputed(lie) => {
                let words = format!("the receipt is wrong ({lie}): nothing more is signed for this channel");
                (words, None, Some(lie.to_string()))
            }
        };
        let left = after.left();
        self.say(
            "charged",
            &format!("{}: {words}; {} left in channel {}", reply.status, left.to_kas(), charge.channel),
            json!({ "status": reply.status.as_u16() }),
        );
        if !self.json {
            eprintln!("{:>6} ms  in all", self.last.millis_since(self.started));
        }
        self.end(json!({
            "paid": charge.cost != Cost::Nothing, "status": reply.status.as_u16(), "channel": charge.channel, "identifier": charge.identifier, "amount": cost,
            "ceiling": charge.ceiling, "left": left, "charged": after.charged, "claimed": after.claimed, "receipt": cost.is_some(), "error": error,
        }));
    }

    pub fn quote(&mut self, quote: &Quote) -> Exit {
        match quote {
            Quote::Free(reply) => self.free(reply),
            Quote::UnderWay(entry) => {
                let words = format!("payment {} of {} is under way; fetching resumes it", entry.txid, entry.amount.to_kas());
                self.say("under_way", &words, json!({ "transaction": entry.txid, "amount": entry.amount }));
                self.end(json!({ "paid": false, "underWay": entry.txid }));
            }
            Quote::InFlight(flight) => {
                let words = format!(
                    "a request of at most {} on channel {} is under way; fetching resumes it",
                    flight.attempt.ceiling.to_kas(),
                    flight.channel
                );
                self.say("under_way", &words, json!({ "channel": flight.channel, "identifier": flight.identifier }));
                self.end(json!({ "paid": false, "underWay": flight.identifier }));
            }
            Quote::Priced { challenge, choice, channel } => {
                for offer in &challenge.offers {
                    self.step(&Step::Offered(offer));
                }
                for offer in &challenge.channels {
                    self.step(&Step::Channel(Progress::Offered(offer)));
                }
                for skipped in &challenge.skipped {
                    self.say("skipped", &format!("another offer: {skipped}"), json!(skipped.to_string()));
                }
                let (words, amount) = match (channel.as_deref(), choice) {
                    (Some(Ok((offer, Preview::From(id)))), _) => {
                        (format!("it would be charged at most {} from channel {id}", offer.ceiling.to_kas()), Some(offer.ceiling))
                    }
                    (Some(Ok((offer, Preview::Opens(deposit)))), _) => {
                        let words = format!(
                            "it would lock {} in a new channel and be charged at most {}",
                            deposit.to_kas(),
                            offer.ceiling.to_kas()
                        );
                        (words, Some(offer.ceiling))
                    }
                    (Some(Err(why)), _) => (format!("it would not pay: {why}"), None),
                    (None, Ok(offer)) => (format!("it would pay {}", offer.amount.to_kas()), Some(offer.amount)),
                    (None, Err(why)) => (format!("it would not pay: {why}"), None),
                };
                self.say("choice", &words, json!(words));
                self.end(json!({ "paid": false, "wouldPay": amount }));
            }
        }
        Exit::Done
    }

    pub fn failed(&mut self, error: &FetchError) -> Exit {
        let (exit, hint) = verdict(error);
        if !self.json {
            eprintln!("kas402 pay: {error}");
            if !hint.is_empty() {
                eprintln!("{hint}");
            }
        }
        let (txid, channel) = match error.money() {
            Money::Unspent => (None, None),
            Money::Undecided(txid) | Money::Settled(txid) | Money::Lost(txid) => (Some(txid), None),
            Money::Promised(channel) => (None, Some(channel)),
        };
        let paid = txid.is_some() || channel.is_some();
        self.end(json!({ "paid": paid, "transaction": txid, "channel": channel, "error": error.to_string() }));
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
pub(super) fn verdict(error: &FetchError) -> (Exit, &'static str) {
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
        FetchError::Channel(error) => match **error {
            ChannelError::InFlight { .. } => {
                (Exit::Undecided, "The request may have been charged. The same command again resumes it; it will not be charged twice.")
            }
            ChannelError::NotDelivered { .. } => (Exit::Undelivered, "The same command again asks for it; --new pays for it again."),
            ChannelError::NotAccepted { .. } => (Exit::Undecided, "The same command again resumes it."),
            ChannelError::BelowMinimum { .. } | ChannelError::LockedTooMuch { .. } | ChannelError::Timeout { .. } => {
                (Exit::Refused, "Nothing was paid or locked. --deposit, --max-locked and --max-lock-days set what may be locked.")
            }
            ChannelError::Wrong { .. } => {
                (Exit::NothingPaid, "Nothing more is signed for this channel. Its rest comes back with `kas402 channel refund`.")
            }
            _ => (Exit::NothingPaid, "Nothing was paid."),
        },
        FetchError::Lapsed { .. } => (Exit::Undelivered, "The operator of the server can grant it again; name the transaction."),
    }
}
