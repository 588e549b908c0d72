//! A fetch that pays: one request, at most one payment.
//!
//! The promise, whatever the server, the network or this process does: **for one request no two
//! payments can both be accepted.** It rests on three rules.
//! 1. A payment is in the journal before its first byte is sent, and a request that has an
//!    unresolved payment sends that one's header again, unchanged, also after a restart.
//! 2. Only a proven rejection may lead to another transaction ([`super::decide`]), only when the
//!    buyer's own node does not know the first.
//! 3. That other transaction spends a coin of the first, and of all the first replaced, so the
//!    chain itself accepts at most one of them.
//!
//! Payments from channels have rules of their own ([`super::channel`]).
//!
//! Redirects are not followed; prices above the policy are not paid. Time, randomness and progress
//! reports come from the caller ([`Edge`]). Used by the command line and as a library.

use super::{
    challenge::{Challenge, Offer},
    channel::{ChannelError, ChannelPayer, Charge, Preview, Progress, Want, offer::ChannelOffer, record::Flight},
    coins::{CoinRules, Plan, PlanError, Purse, SignedPayment, Spend, plan},
    decide::{Next, Stop, decide},
    error::{FetchError, Unpaid, Why},
    exchange::{Exchange, PaidRequest, Reply, Transport},
    journal::{Entry, Journal, Recorded, State},
    payload::{self, Payment},
    policy::{Patience, SpendingPolicy, Unwilling},
    receipt::Receipt,
    wallet::Wallet,
};
use crate::{
    chain::{Chain, Sighting},
    protocol::{
        ids::{PaymentIdentifier, TxId},
        refusal::Code,
        time::UnixMillis,
    },
    wire::headers,
};
use http::StatusCode;
use rand::RngCore;
use std::{sync::Arc, time::Duration};

/// Replacements of rejected payments within one fetch.
const REPLACEMENTS: u32 = 2;
/// Choices of coins while other processes of the same wallet take them.
const CHOICES: u32 = 8;
/// Between repetitions without `Retry-After`: doubled from the first to the last.
const WAIT_FIRST: Duration = Duration::from_millis(100);
const WAIT_LAST: Duration = Duration::from_secs(5);

/// What only the edge of a program has: a clock, chance, and somebody who watches.
pub struct Edge<'a> {
    pub now: &'a (dyn Fn() -> UnixMillis + Sync),
    pub rng: &'a mut (dyn RngCore + Send),
    pub watch: &'a mut (dyn FnMut(Step<'_>) + Send),
}

/// What just happened, for people.
#[derive(Debug)]
pub enum Step<'a> {
    /// The journal has an unresolved payment of this request; it is sent again.
    Resumed(&'a Entry),
    /// The server wants money; this offer is taken.
    Offered(&'a Offer),
    /// Coins and fee are chosen.
    Planned(&'a Plan),
    /// The payment is durable and about to be sent.
    Recorded(&'a Entry),
    /// The same header goes again after this pause.
    Again { reason: &'a str, after: Duration },
    /// Rejected with proof; `by` takes its place and excludes it.
    Replaced { rejected: TxId, code: Code, by: &'a Entry },
    /// Something with a channel.
    Channel(Progress<'a>),
}

/// What came back.
#[derive(Debug)]
pub enum Fetched {
    /// The server asked for no money.
    Free(Reply),
    /// Paid for. `receipt` is verified; `None` when the server sent none. Where the payment's state is [`State::Settled`], the answer
    /// is not what was paid for (a tool that failed, say): the same request again asks for it, with the same payment.
    Paid { reply: Reply, payment: Box<Entry>, receipt: Option<Box<Receipt>> },
    /// Charged to a channel.
    Charged { reply: Reply, charge: Box<Charge> },
}

/// How a client pays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rail {
    /// A transaction per request.
    #[default]
    Exact,
    /// From a channel, or not at all.
    Channel,
    /// From a channel where there is one or the policy opens one, else by a transaction.
    Either,
}

/// What a request would cost, without paying.
#[derive(Debug)]
pub enum Quote {
    Free(Reply),
    /// The request has a payment under way; fetching resumes it.
    UnderWay(Box<Entry>),
    /// The same, from a channel.
    InFlight(Box<Flight>),
    /// `choice` is the offer that would be paid, or why none; `channel` the same of a client that pays from channels.
    Priced {
        challenge: Box<Challenge>,
        choice: Result<Offer, Unpaid>,
        channel: Option<Box<Result<(ChannelOffer, Preview), ChannelError>>>,
    },
}

/// The buyer. Cheap to share; every fetch is independent but for the journal.
pub struct PaidClient {
    transport: Arc<dyn Transport>,
    wallet: Arc<Wallet>,
    journal: Arc<Journal>,
    /// Needed to pay anew; resuming works without.
    chain: Option<Arc<dyn Chain>>,
    policy: SpendingPolicy,
    rules: CoinRules,
    patience: Patience,
    /// The second way to pay, and when it is taken.
    channels: Option<(ChannelPayer, Rail)>,
}

impl PaidClient {
    pub fn new(
        wallet: Arc<Wallet>,
        journal: Arc<Journal>,
        chain: Option<Arc<dyn Chain>>,
        policy: SpendingPolicy,
        rules: CoinRules,
        patience: Patience,
    ) -> Self {
        let transport = Arc::new(Exchange::new(&patience));
        Self { transport, wallet, journal, chain, policy, rules, patience, channels: None }
    }

    /// Carries requests by other means.
    pub fn over(self, transport: Arc<dyn Transport>) -> Self {
        Self { transport, ..self }
    }

    /// Carries everything by other means, what channels pay for too.
    pub fn through(self, transport: Arc<dyn Transport>) -> Self {
        let channels = self.channels.map(|(payer, rail)| (payer.through(transport.clone()), rail));
        Self { transport, channels, ..self }
    }

    /// Pays from channels, too.
    pub fn with_channels(self, payer: ChannelPayer, rail: Rail) -> Self {
        Self { channels: Some((payer, rail)), ..self }
    }

    /// The payer of channels, for what is asked of it alone: opening and topping up.
    pub fn channel_payer(&self) -> Option<&ChannelPayer> {
        self.channels.as_ref().map(|(payer, _)| payer)
    }

    /// Asks for the price. Never pays, never writes.
    pub async fn quote(&self, request: &PaidRequest) -> Result<Quote, Unpaid> {
        if let Some(entry) = self.journal.unresolved(&request.key())? {
            return Ok(Quote::UnderWay(Box::new(entry)));
        }
        let channels = self.channels.as_ref().filter(|(_, rail)| *rail != Rail::Exact);
        if channels.is_some()
            && let Some(flight) = self.journal.open_flight(&request.key())?
        {
            return Ok(Quote::InFlight(Box::new(flight)));
        }
        let reply = ask(self.transport.as_ref(), request).await?;
        if reply.status != StatusCode::PAYMENT_REQUIRED {
            return Ok(Quote::Free(reply));
        }
        let challenge = Box::new(read_challenge(&reply)?);
        let choice = self.choose(request, &challenge, None).cloned();
        let channel = channels.map(|(payer, _)| Box::new(payer.preview(&challenge)));
        Ok(Quote::Priced { challenge, choice, channel })
    }

    /// Fetches, paying when asked. An unresolved payment of the same request is resumed instead of
    /// paying again, unless `fresh` says that this is another purchase.
    pub async fn fetch(&self, request: &PaidRequest, fresh: bool, edge: &mut Edge<'_>) -> Result<Fetched, FetchError> {
        let open = if fresh { None } else { self.journal.unresolved(&request.key()).map_err(Unpaid::from)? };
        if let Some(entry) = open {
            (edge.watch)(Step::Resumed(&entry));
            return self.see_through(request, entry, edge).await;
        }
        if let Some((payer, rail)) = &self.channels
            && let Some(fetched) = self.without_asking(payer, *rail, request, fresh, edge).await?
        {
            return Ok(fetched);
        }
        let reply = ask(self.transport.as_ref(), request).await?;
        if reply.status != StatusCode::PAYMENT_REQUIRED {
            return Ok(Fetched::Free(reply));
        }
        let challenge = read_challenge(&reply)?;
        if let Some((payer, rail)) = &self.channels
            && (*rail == Rail::Channel || *rail == Rail::Either && payer.can_pay(&challenge)?)
        {
            return Ok(payer.pay(request, &challenge, Want::Pay, edge).await?);
        }
        let offer = self.choose(request, &challenge, None)?;
        (edge.watch)(Step::Offered(offer));
        let id = payload::advertises_identifier(&challenge).then(|| payload::draw_identifier(edge.rng));
        let terms = Terms { request, challenge: &challenge, offer, identifier: id, replaces: None, fresh };
        let entry = self.pay(&terms, edge).await?;
        self.see_through(request, entry, edge).await
    }

    /// What a channel can do before the server is asked for its price.
    async fn without_asking(
        &self,
        payer: &ChannelPayer,
        rail: Rail,
        request: &PaidRequest,
        fresh: bool,
        edge: &mut Edge<'_>,
    ) -> Result<Option<Fetched>, FetchError> {
        if rail == Rail::Exact {
            return Ok(None);
        }
        if !fresh && let Some(fetched) = payer.resume(request, Want::Pay, edge).await? {
            return Ok(Some(fetched));
        }
        Ok(payer.with_renewed(request, Want::Pay, edge).await?)
    }

    /// The offer to take. The budget is judged again when the payment is recorded; `instead` of this one it would be.
    fn choose<'c>(&self, request: &PaidRequest, challenge: &'c Challenge, instead: Option<TxId>) -> Result<&'c Offer, Unpaid> {
        check_resource(challenge, request, &self.policy)?;
        let offer = self.policy.choose(challenge.exact()?).map_err(Unpaid::Unwilling)?;
        match self.journal.over(&self.policy.budget, &request.url(), offer.amount, instead)? {
            Some(over) => Err(Unwilling::from(over).into()),
            None => Ok(offer),
        }
    }

    /// Builds and records a payment, or finds the one that another process recorded meanwhile.
    async fn pay(&self, terms: &Terms<'_>, edge: &mut Edge<'_>) -> Result<Entry, Unpaid> {
        let chain = self.chain.as_ref().ok_or(Unpaid::NoNode)?;
        ready(chain.as_ref(), self.patience.total).await?;
        for _ in 0..CHOICES {
            let plan = self.choose_coins(chain.as_ref(), terms).await?;
            if plan.fee > self.policy.max_fee {
                return Err(Unpaid::Fee { fee: plan.fee, max: self.policy.max_fee });
            }
            (edge.watch)(Step::Planned(&plan));
            let entry = self.draft(terms, &plan.sign(&self.wallet, edge.rng), edge);
            if let Some(rejected) = &terms.replaces
                && rejected.entry.txid == entry.txid
            {
                return self.renew(rejected, entry, edge);
            }
            match self.journal.record(&entry, terms.fresh, &self.policy.budget)? {
                Recorded::New => {
                    (edge.watch)(Step::Recorded(&entry));
                    return Ok(entry);
                }
                Recorded::RequestOpen(other) => {
                    (edge.watch)(Step::Resumed(&other));
                    return Ok(*other);
                }
                Recorded::InputTaken(_) => {}
                Recorded::OverBudget(over) => return Err(Unwilling::from(over).into()),
                Recorded::NotOpen => return Err(Unpaid::Contended),
            }
        }
        Err(Unpaid::Contended)
    }

    /// The same coins and price give the same transaction: nothing can be safer, when a newer offer is all it needs.
    fn renew(&self, rejected: &Rejected<'_>, entry: Entry, edge: &mut Edge<'_>) -> Result<Entry, Unpaid> {
        if matches!(rejected.code, Code::TransactionRejected | Code::TransactionConflicted) {
            return Err(Unpaid::SameTransaction);
        }
        if !self.journal.renew(&entry)? {
            return Err(Unpaid::Contended);
        }
        (edge.watch)(Step::Recorded(&entry));
        Ok(entry)
    }

    async fn choose_coins(&self, chain: &dyn Chain, terms: &Terms<'_>) -> Result<Plan, Unpaid> {
        let (own, pay_to) = (self.wallet.script(), terms.offer.script());
        // Locks first: a payment recorded while the node is asked is then seen by the journal.
        let mut locked = self.journal.locked()?;
        let conflict = match &terms.replaces {
            None => Vec::new(),
            Some(Rejected { entry: replaced, .. }) => {
                replaced.inputs.iter().for_each(|input| {
                    locked.remove(input);
                });
                self.journal.common_inputs(replaced)?
            }
        };
        if terms.replaces.is_some() && conflict.is_empty() {
            return Err(PlanError::ConflictGone.into());
        }
        let utxos = chain.utxos(&self.wallet.address().to_string()).await?;
        let now_daa = chain.tip().borrow().daa_score;
        let purse = Purse::sort(&utxos, &own, now_daa, &locked, &self.rules);
        let spend = Spend { amount: terms.offer.amount, pay_to: &pay_to, own: &own, conflict_with: &conflict };
        Ok(plan(&purse.coins, &spend, &self.rules)?)
    }

    fn draft(&self, terms: &Terms<'_>, signed: &SignedPayment, edge: &mut Edge<'_>) -> Entry {
        let (request, offer) = (terms.request, terms.offer);
        let own_name = request.url();
        let url = terms.challenge.resource_url().unwrap_or(&own_name);
        let request_hash = request.request_hash(url, &offer.accepted);
        let payment = Payment { challenge: terms.challenge, offer, signed, request_hash, identifier: terms.identifier.as_ref() };
        Entry {
            txid: signed.txid,
            key: request.key(),
            method: request.method.to_string(),
            url: own_name.clone(),
            header: payload::header_value(&payment, &self.wallet, edge.rng),
            transaction: borsh::to_vec(&signed.transaction).expect("a transaction encodes into memory"),
            inputs: signed.inputs.clone(),
            network: offer.network,
            amount: signed.amount,
            fee: signed.fee,
            pay_to: offer.pay_to.to_string(),
            request_hash,
            identifier: terms.identifier.clone(),
            created: (edge.now)(),
            state: State::Open,
            receipt: None,
            replaces: terms
                .replaces
                .as_ref()
                .and_then(|rejected| if rejected.entry.txid == signed.txid { rejected.entry.replaces } else { Some(rejected.entry.txid) }),
        }
    }

    /// Sends a recorded payment until its fate is known or patience ends.
    async fn see_through(&self, request: &PaidRequest, entry: Entry, edge: &mut Edge<'_>) -> Result<Fetched, FetchError> {
        let mut course = Course { entry, settled: None, last: "nothing was sent yet".into(), replacements: 0 };
        let patience = self.patience.total;
        match tokio::time::timeout(patience, self.repeat(request, &mut course, edge)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(course.out_of_time()),
        }
    }

    async fn repeat(&self, request: &PaidRequest, course: &mut Course, edge: &mut Edge<'_>) -> Result<Fetched, FetchError> {
        let mut pause = WAIT_FIRST;
        loop {
            let (reason, after) = match self.transport.send(request, Some(&course.entry.header)).await {
                Err(error) => (error.words, None),
                Ok(reply) => match decide(reply.status, &reply.headers, &course.entry) {
                    Next::Delivered(receipt) => return self.delivered(reply, course, receipt, edge),
                    Next::Failed(receipt) => {
                        self.note(course, State::Settled, Some(&receipt), edge)?;
                        let payment =
                            Box::new(Entry { state: State::Settled, receipt: Some(receipt.text.clone()), ..course.entry.clone() });
                        return Ok(Fetched::Paid { reply, payment, receipt: Some(Box::new(receipt)) });
                    }
                    Next::Undelivered(receipt, after) => {
                        self.note(course, State::Settled, Some(&receipt), edge)?;
                        course.settled = Some(reply.status.as_u16());
                        (format!("settled, but the server answers {}", reply.status), after)
                    }
                    Next::Resend(after) => (format!("the server answers {}", reply.status), after),
                    Next::Rejected(code, receipt) => {
                        self.replace(request, &reply, course, code, &receipt, edge).await?;
                        pause = WAIT_FIRST;
                        continue;
                    }
                    Next::Lapsed(receipt) => {
                        self.note(course, State::Lapsed, receipt.as_ref(), edge)?;
                        return Err(FetchError::Lapsed { txid: course.entry.txid });
                    }
                    Next::Stop(stop) => return Err(course.undecided(stop.into())),
                },
            };
            let after = after.unwrap_or(pause);
            (edge.watch)(Step::Again { reason: &reason, after });
            course.last = reason;
            tokio::time::sleep(after).await; // why: an HTTP server has no way to say that it is ready for the next attempt
            pause = (pause * 2).min(WAIT_LAST);
        }
    }

    fn delivered(&self, reply: Reply, course: &Course, receipt: Option<Receipt>, edge: &Edge<'_>) -> Result<Fetched, FetchError> {
        let mut payment = Box::new(course.entry.clone());
        payment.state = State::Delivered;
        payment.receipt = receipt.as_ref().map(|receipt| receipt.text.clone());
        // The resource is here: a journal that fails now must not take it away. The payment then stays
        // open, and a repetition is answered from the server's memory.
        if self.note(course, State::Delivered, receipt.as_ref(), edge).is_err() {
            payment.state = course.entry.state;
        }
        Ok(Fetched::Paid { reply, payment, receipt: receipt.map(Box::new) })
    }

    fn note(&self, course: &Course, state: State, receipt: Option<&Receipt>, edge: &Edge<'_>) -> Result<(), FetchError> {
        let text = receipt.map(|receipt| receipt.text.as_str());
        self.journal.update(&course.entry.txid, state, text, (edge.now)()).map_err(|error| course.undecided(error.into()))
    }

    /// After a rejection that the server can prove: another payment that excludes the first, if the
    /// buyer's own node agrees that the first is nowhere.
    async fn replace(
        &self,
        request: &PaidRequest,
        reply: &Reply,
        course: &mut Course,
        code: Code,
        receipt: &Receipt,
        edge: &mut Edge<'_>,
    ) -> Result<(), FetchError> {
        self.note(course, State::Open, Some(receipt), edge)?;
        if course.settled.is_some() || course.entry.state == State::Settled {
            return Err(course.undecided(Stop::AskedAgain.into()));
        }
        let Some(chain) = &self.chain else { return Err(course.undecided(Why::Unchecked { code })) };
        if course.replacements == REPLACEMENTS {
            return Err(course.undecided(Why::AlwaysRejected { code }));
        }
        let cannot = |course: &Course, why: Unpaid| course.undecided(Why::NoReplacement { code, why: Box::new(why) });
        ready(chain.as_ref(), self.patience.total).await.map_err(|why| cannot(course, why))?;
        match self.sighting(chain.as_ref(), &course.entry).await {
            Ok(Sighting::NotSeen) => {}
            Ok(Sighting::Mempool | Sighting::UtxoSet) => return Err(course.undecided(Why::Contradicted { code })),
            Err(why) => return Err(cannot(course, why)),
        }
        let challenge = read_challenge(reply).map_err(|why| cannot(course, why))?;
        let offer = self.choose(request, &challenge, Some(course.entry.txid)).map_err(|why| cannot(course, why))?;
        let identifier = course.entry.identifier.clone().filter(|_| payload::advertises_identifier(&challenge));
        let terms = Terms {
            request,
            challenge: &challenge,
            offer,
            identifier,
            replaces: Some(Rejected { entry: &course.entry, code }),
            fresh: true,
        };
        let by = self.pay(&terms, edge).await.map_err(|why| cannot(course, why))?;
        (edge.watch)(Step::Replaced { rejected: course.entry.txid, code, by: &by });
        course.entry = by;
        course.replacements += 1;
        Ok(())
    }

    async fn sighting(&self, chain: &dyn Chain, entry: &Entry) -> Result<Sighting, Unpaid> {
        // What the journal holds was written by this program; if it no longer decodes, nothing is known.
        let transaction = borsh::from_slice(&entry.transaction)
            .map_err(|_| Unpaid::Chain(crate::chain::ChainError::NotFound("the journal's transaction does not decode".into())))?;
        Ok(chain.sighting(&transaction).await?)
    }
}

/// What a payment is built for.
struct Terms<'a> {
    request: &'a PaidRequest,
    challenge: &'a Challenge,
    offer: &'a Offer,
    identifier: Option<PaymentIdentifier>,
    replaces: Option<Rejected<'a>>,
    fresh: bool,
}

/// A payment one of whose coins must be spent by the next.
struct Rejected<'a> {
    entry: &'a Entry,
    code: Code,
}

/// How far one fetch got; outlives a time-out.
struct Course {
    entry: Entry,
    /// The status that came with a receipt of success.
    settled: Option<u16>,
    last: String,
    replacements: u32,
}

impl Course {
    fn undecided(&self, why: Why) -> FetchError {
        FetchError::Undecided { txid: self.entry.txid, why }
    }

    fn out_of_time(self) -> FetchError {
        match self.settled {
            Some(status) => FetchError::Undelivered { txid: self.entry.txid, status },
            None => FetchError::Undecided { txid: self.entry.txid, why: Why::Timeout { last: self.last } },
        }
    }
}

/// Waits until the node can be asked for coins.
pub(super) async fn ready(chain: &dyn Chain, patience: Duration) -> Result<(), Unpaid> {
    let mut health = chain.health();
    let ready = tokio::time::timeout(patience, health.wait_for(|health| health.ready)).await.is_ok_and(|seen| seen.is_ok());
    if ready {
        return Ok(());
    }
    let reason = health.borrow().reason.clone();
    Err(Unpaid::NodeNotReady(reason.unwrap_or_else(|| "disconnected".into())))
}

/// Asks for the price, without payment.
pub(super) async fn ask(transport: &dyn Transport, request: &PaidRequest) -> Result<Reply, Unpaid> {
    let reply = transport.send(request, None).await.map_err(|error| Unpaid::Unreachable(error.words))?;
    if reply.status.is_redirection() && reply.status != StatusCode::NOT_MODIFIED {
        let location = reply.headers.get(http::header::LOCATION).and_then(|l| l.to_str().ok()).unwrap_or_default();
        return Err(Unpaid::Redirected { status: reply.status.as_u16(), location: location.to_owned() });
    }
    Ok(reply)
}

/// Refuses a challenge that names another resource than the one that was asked for.
pub(super) fn check_resource(challenge: &Challenge, request: &PaidRequest, policy: &SpendingPolicy) -> Result<(), Unpaid> {
    match challenge.resource_url().filter(|named| !request.is_named(named, policy.other_origin)) {
        Some(named) => Err(Unpaid::OtherResource { named: named.to_owned() }),
        None => Ok(()),
    }
}

pub(super) fn read_challenge(reply: &Reply) -> Result<Challenge, Unpaid> {
    let value = reply.headers.get(headers::PAYMENT_REQUIRED).ok_or(super::challenge::ChallengeError::Missing)?;
    Ok(Challenge::read(value.as_bytes())?)
}
