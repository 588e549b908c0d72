//! One request on a channel, from the recorded voucher to its end: sent again while undecided, corrected when the server proves
//! where the channel stands, settled by a verified receipt.

use super::{
    account::Lie,
    decide::{Next, decide},
    error::ChannelError,
    lock::Held,
    offer::{self, ChannelOffer, Correction, Quote},
    payer::{ChannelPayer, Purchase, Want, ends_channel},
    progress::Progress,
    receipt::{ChannelReceipt, Told},
    receipt_url,
    record::{Channel, Event, Flight, FlightState, Kind, Phase},
};
use crate::{
    chain::Sighting,
    client::{
        decide::Stop,
        exchange::{PaidRequest, Reply, SendError},
        journal::Renewed,
        paid::{self, Edge, Fetched, Step},
    },
    protocol::{
        amount::Amount,
        ids::{ChannelId, PaymentIdentifier},
        refusal::Code,
        time::UnixMillis,
    },
    wire::headers,
};

/// Vouchers signed anew within one request.
const ATTEMPTS: u32 = 5;
/// Looks for the receipt of an answer that came without one.
const LOOKS: u32 = 5;

/// What a request cost.
#[derive(Clone, Debug)]
pub struct Charge {
    pub channel: ChannelId,
    pub identifier: PaymentIdentifier,
    /// The most it could cost.
    pub ceiling: Amount,
    pub cost: Cost,
    /// The channel as the books have it now.
    pub after: Box<Channel>,
}

/// How much is known of the cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cost {
    /// By a verified receipt.
    Charged { amount: Amount, receipt: Box<ChannelReceipt> },
    /// The server says that this answer costs nothing, and the next receipt of the channel will show it.
    Nothing,
    /// The server gave no receipt: anything up to the ceiling. The next receipt of the channel tells.
    Unknown,
    /// The receipt cannot be true. Nothing more is signed for this channel.
    Disputed(Lie),
}

/// One request under way. Holds its channel.
pub(super) struct Course<'a> {
    payer: &'a ChannelPayer,
    request: &'a PaidRequest,
    channel: Channel,
    flight: Flight,
    /// Until the request is over.
    _held: Held,
    attempts: u32,
    /// For the error when patience ends.
    last: String,
}

impl<'a> Course<'a> {
    pub fn new(payer: &'a ChannelPayer, request: &'a PaidRequest, channel: Channel, flight: Flight, held: Held) -> Self {
        Self { payer, request, channel, flight, _held: held, attempts: 1, last: "nothing was answered yet".into() }
    }

    /// Sends until the fate of the request is known or patience ends; then it stays in the journal, to be resumed.
    pub async fn run(mut self, edge: &mut Edge<'_>) -> Result<Fetched, ChannelError> {
        let patience = self.payer.channels.patience.total;
        match tokio::time::timeout(patience, self.repeat(edge)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(self.undecided(format!("no decision in time; last: {}", self.last))),
        }
    }

    fn undelivered(&self, why: &str) -> ChannelError {
        let amount = self.flight.charge.unwrap_or(Amount::ZERO);
        ChannelError::NotDelivered { channel: self.channel.id, amount, words: why.to_owned() }
    }

    fn undecided(&self, why: String) -> ChannelError {
        ChannelError::InFlight { channel: self.channel.id, why }
    }

    async fn repeat(&mut self, edge: &mut Edge<'_>) -> Result<Fetched, ChannelError> {
        let pauses = self.payer.pauses;
        let mut pause = pauses.first;
        loop {
            let sent = self.payer.transport.send(self.request, Some(&self.flight.attempt.header)).await;
            let (reason, after) = match sent {
                Err(error) => {
                    self.broadcast(&error, edge).await;
                    (error.words, None)
                }
                Ok(reply) => match decide(reply.status, &reply.headers, self.flight.attempt.kind) {
                    Next::Charged(receipt) => return self.charged(reply, receipt, edge),
                    Next::Provisional(url) => return self.provisional(reply, url, edge).await,
                    Next::NotCharged if self.flight.state == FlightState::Undelivered => return Err(self.undelivered("something else")),
                    Next::NotCharged => return Ok(self.uncharged(reply)),
                    Next::Unreceipted => return self.look(reply, None, edge).await,
                    Next::Disputed(lie) => return self.disputed(reply, lie, edge),
                    Next::Resend(after) => (format!("the server answers {}", reply.status), after),
                    Next::Busy(after) => ("the channel serves another request".to_owned(), after),
                    // Nothing is signed for what was charged already.
                    Next::Correct(code) | Next::Reoffer(code) | Next::Refused(code) if self.flight.state == FlightState::Undelivered => {
                        return Err(self.undelivered(code.as_str()));
                    }
                    Next::Stop(stop) if self.flight.state == FlightState::Undelivered => return Err(self.undelivered(&stop.to_string())),
                    Next::Correct(code) => {
                        let signed = self.correct(&reply, code, edge).await;
                        signed.map_err(|error| self.not_charged(error))?;
                        pause = pauses.first;
                        continue;
                    }
                    Next::Reoffer(code) => {
                        let signed = self.reoffer(&reply, code, edge).await;
                        signed.map_err(|error| self.not_charged(error))?;
                        pause = pauses.first;
                        continue;
                    }
                    Next::Refused(code) => return Err(self.refused(code, &reply, edge)),
                    Next::Stop(stop) => return Err(self.stopped(&stop)?),
                },
            };
            let after = after.unwrap_or(pause).min(pauses.longest);
            (edge.watch)(Step::Again { reason: &reason, after });
            self.last = reason;
            tokio::time::sleep(after).await; // why: an HTTP server has no way to say that it is ready for the next attempt
            pause = (pause * 2).min(pauses.last);
        }
    }

    /// The answer is here: the receipt decides what it cost.
    fn charged(&mut self, reply: Reply, receipt: Box<ChannelReceipt>, edge: &mut Edge<'_>) -> Result<Fetched, ChannelError> {
        let renewed = self.renewed(&receipt, (edge.now)());
        let settled = self.payer.settle(&mut self.channel, &mut self.flight, &receipt, FlightState::Charged, renewed.as_ref(), edge);
        // The answer is here: a journal that fails now must not take it away. The request then stays open, and a repetition is
        // answered from the server's memory.
        if let Ok(Err(lie)) = settled {
            return self.disputed(reply, lie, edge);
        }
        let cost = Cost::Charged { amount: receipt.charge, receipt };
        Ok(self.fetched(reply, cost))
    }

    fn fetched(&self, reply: Reply, cost: Cost) -> Fetched {
        let Flight { channel, identifier, attempt, .. } = &self.flight;
        let charge = Charge {
            channel: *channel,
            identifier: identifier.clone(),
            ceiling: attempt.ceiling,
            cost,
            after: Box::new(self.channel.clone()),
        };
        Fetched::Charged { reply, charge: Box::new(charge) }
    }

    /// The offer for the next request, if it is one for this channel.
    fn renewed(&self, receipt: &ChannelReceipt, now: UnixMillis) -> Option<Renewed> {
        let entry = receipt.renewed.clone()?;
        let offer = offer::read(entry.clone()).ok().filter(|offer| offer.correction.is_none() && self.channel.serves(offer))?;
        // Used a little before its end: the way takes time, too.
        let millis = offer.max_timeout_seconds.saturating_mul(900);
        Some(Renewed {
            channel: self.channel.id,
            method: self.flight.method.clone(),
            url: self.flight.url.clone(),
            offer: entry,
            resource: self.flight.attempt.resource.clone(),
            extensions: self.flight.attempt.extensions.clone(),
            until: UnixMillis(now.0.saturating_add(millis)),
        })
    }

    /// The cost is told at the end: in the trailer, in the last event, or at the receipt URL.
    async fn provisional(&mut self, reply: Reply, url: Option<String>, edge: &mut Edge<'_>) -> Result<Fetched, ChannelError> {
        let trailer = reply.trailers.get(headers::PAYMENT_RESPONSE).and_then(|value| Told::header(value.as_bytes()));
        match trailer.or_else(|| Told::stream(&reply.body)) {
            Some(Told::Settled(receipt)) => self.charged(reply, receipt, edge),
            Some(Told::Wrong(lie)) => self.disputed(reply, lie, edge),
            _ => self.look(reply, url, edge).await,
        }
    }

    /// Asks the receipt URL; without a receipt the request may have cost anything up to its ceiling.
    async fn look(&mut self, reply: Reply, url: Option<String>, edge: &mut Edge<'_>) -> Result<Fetched, ChannelError> {
        let mut pause = self.payer.pauses.first;
        for _ in 0..LOOKS {
            if let Some(receipt) = receipt_url::ask(self.payer.transport.as_ref(), &self.flight, url.as_deref()).await {
                return self.charged(reply, receipt, edge);
            }
            // Without a URL of its own the server promised nothing.
            if url.is_none() {
                break;
            }
            tokio::time::sleep(pause).await; // why: a receipt URL has no event
            pause *= 2;
        }
        if self.flight.state == FlightState::Undelivered {
            let (Some(amount), Some(text)) = (self.flight.charge, &self.flight.receipt) else { return Err(self.undelivered("nothing")) };
            let Some(Told::Settled(receipt)) = Told::text(text.as_bytes()) else { return Err(self.undelivered("nothing")) };
            self.flight.state = FlightState::Charged;
            let _ = self.payer.note(&mut self.channel, &self.flight, None, None);
            return Ok(self.fetched(reply, Cost::Charged { amount, receipt }));
        }
        self.channel.account = self.channel.account.given_up(self.flight.attempt.ceiling);
        self.flight.state = FlightState::Unreceipted;
        let words = format!("{} {} was answered without a receipt", self.flight.method, self.flight.url);
        let _ = self.payer.note(&mut self.channel, &self.flight, None, Some(&Event { at: (edge.now)(), words }));
        Ok(self.fetched(reply, Cost::Unknown))
    }

    /// The answer is here, and the receipt is wrong: it is kept, and the channel gets no further signature.
    fn disputed(&mut self, reply: Reply, lie: Lie, edge: &mut Edge<'_>) -> Result<Fetched, ChannelError> {
        self.payer.disputed(&mut self.channel, &mut self.flight, lie.clone(), edge)?;
        Ok(self.fetched(reply, Cost::Disputed(lie)))
    }

    /// Answered, and nothing was charged.
    fn uncharged(&mut self, reply: Reply) -> Fetched {
        self.flight.state = FlightState::Refused;
        // The answer is here. If the journal fails now, the request is left behind by the next one.
        let _ = self.payer.note(&mut self.channel, &self.flight, None, None);
        self.fetched(reply, Cost::Nothing)
    }

    /// Nothing was charged, and the request is over. Its voucher stays signed.
    fn refused(&mut self, code: Code, reply: &Reply, edge: &Edge<'_>) -> ChannelError {
        let words = format!("{}; status {}", code.meaning().trim_end_matches('.'), reply.status.as_u16());
        let error = ChannelError::Refused { channel: self.channel.id, code, words };
        if ends_channel(code) && self.channel.phase == Phase::Open {
            let why = format!("the server answers {code}");
            if let Err(error) = self.payer.channels.retire(&mut self.channel, Phase::Retired, why, edge) {
                return error;
            }
        }
        self.not_charged(error)
    }

    /// The same, for whatever reason it is not tried again.
    fn not_charged(&mut self, error: ChannelError) -> ChannelError {
        if self.flight.state == FlightState::Sent {
            self.flight.state = FlightState::Refused;
            // If the journal fails now, the request is left behind by the next one.
            let _ = self.payer.note(&mut self.channel, &self.flight, None, None);
        }
        error
    }

    /// Neither charged nor refused for certain: the same request resumes it, another one leaves it behind.
    fn stopped(&mut self, stop: &Stop) -> Result<ChannelError, ChannelError> {
        self.channel.account = self.channel.account.given_up(self.flight.attempt.ceiling);
        self.flight.state = FlightState::GivenUp;
        self.payer.note(&mut self.channel, &self.flight, None, None)?;
        Ok(self.undecided(stop.to_string()))
    }

    fn another_attempt(&mut self, code: Code) -> Result<(), ChannelError> {
        self.attempts += 1;
        if self.attempts <= ATTEMPTS {
            return Ok(());
        }
        Err(ChannelError::Refused { channel: self.channel.id, code, words: "again and again".into() })
    }

    /// The server says where the channel stands. What can be verified is followed, and the request signed anew.
    async fn correct(&mut self, reply: &Reply, code: Code, edge: &mut Edge<'_>) -> Result<(), ChannelError> {
        self.another_attempt(code)?;
        let channel = self.channel.clone();
        let about_us = |told: &Correction| told.channel.channel_id == channel.id;
        let fits = |offer: &ChannelOffer| channel.serves(offer) && offer.correction.as_ref().is_some_and(about_us);
        let quote = self.quote(reply, fits, code)?;
        let Some(told) = quote.offer.correction.clone() else { return Err(self.refused(code, reply, edge)) };
        if told.channel.active_outpoint != self.channel.account.outpoint {
            self.payer.channels.follow(&mut self.channel, Some(told.channel.active_outpoint), Amount::ZERO, edge).await?;
        }
        let unsigned = told.voucher.signature.is_none() && !told.voucher.amount.is_zero();
        if unsigned && self.flight.attempt.outpoint != told.channel.active_outpoint {
            // The signature is given to who has signed for the active outpoint. Nothing of this is believed but where to ask again, which
            // the chain has shown; what is signed for that pays for nothing, and the answer to it has to be proven.
            return self.sign_anew(&quote, true, edge).await;
        }
        match self.channel.account.correct(self.channel.id, &self.channel.script(), &told, Amount::ZERO) {
            Ok(account) => self.channel.account = account,
            Err(lie) => return Err(self.payer.channels.dispute(&mut self.channel, lie, edge)),
        }
        // Who corrects a channel has opened it.
        self.channel.phase = Phase::Open;
        self.payer.channels.save(&mut self.channel, Some(format!("corrected after {code}")), edge)?;
        (edge.watch)(Step::Channel(Progress::Corrected { channel: &self.channel, code }));
        let held = told.voucher.amount;
        let expected = self.channel.account.active().checked_add(quote.offer.ceiling).map(|due| due.max(held));
        let signed = self.channel.account.signed_amount();
        if expected.is_some_and(|expected| expected < signed) {
            return Err(ChannelError::Unacknowledged { channel: self.channel.id, signed, held });
        }
        self.sign_anew(&quote, false, edge).await
    }

    /// The cheapest fitting offer of a 402 to go on with.
    fn quote(&self, reply: &Reply, fits: impl Fn(&ChannelOffer) -> bool, code: Code) -> Result<Quote, ChannelError> {
        let challenge = paid::read_challenge(reply)?;
        paid::check_resource(&challenge, self.request, &self.payer.policy)?;
        if !challenge.channels.iter().any(&fits) {
            let words = "and says nothing of this channel".to_owned();
            return Err(ChannelError::Refused { channel: self.channel.id, code, words });
        }
        self.payer.quote(&challenge, fits)
    }

    /// Nothing was charged, and a newer offer may be taken.
    async fn reoffer(&mut self, reply: &Reply, code: Code, edge: &mut Edge<'_>) -> Result<(), ChannelError> {
        self.another_attempt(code)?;
        if code == Code::OfferOtherPrice {
            self.payer.channels.journal.ask_first(&self.flight.method, &self.flight.url)?;
        }
        let quote = self.quote(reply, |offer| self.channel.serves(offer), code)?;
        let anew = code == Code::FundingRejected || quote.offer.refund_timeout_daa != self.channel.config.refund_timeout_daa;
        if self.channel.phase == Phase::Opening && anew {
            return self.open_anew(&quote, code, edge).await;
        }
        self.sign_anew(&quote, false, edge).await
    }

    /// `asks`: see [`Purchase`].
    async fn sign_anew(&mut self, quote: &Quote, asks: bool, edge: &mut Edge<'_>) -> Result<(), ChannelError> {
        let want = match self.flight.attempt.kind {
            // Accepted meanwhile: an ordinary voucher follows.
            Kind::TopUp { from, .. } if from == self.channel.account.outpoint => Want::TopUp(self.added()?),
            _ => Want::Pay,
        };
        let identifier = self.flight.identifier.clone();
        self.flight = self.payer.sign_request(&mut self.channel, self.request, quote, Purchase { want, identifier, asks }, edge).await?;
        Ok(())
    }

    /// What the top-up under way adds.
    fn added(&self) -> Result<Amount, ChannelError> {
        let from = self.channel.account.funding.checked_sub(self.channel.account.active()).unwrap_or(Amount::ZERO);
        Ok(self.flight.attempt.funding.checked_sub(from).unwrap_or(Amount::ZERO))
    }

    /// The funding transaction cannot open a channel any more. When no node knows it, another that excludes it takes its place.
    async fn open_anew(&mut self, quote: &Quote, code: Code, edge: &mut Edge<'_>) -> Result<(), ChannelError> {
        let channels = self.payer.channels.clone();
        let (funding, transaction) = channels.funding(&self.channel)?;
        let chain = channels.ready().await?;
        if chain.sighting(&transaction).await? != Sighting::NotSeen {
            let why = format!("its deposit is on the network, but the server answers {code}");
            channels.retire(&mut self.channel, Phase::Retired, why, edge)?;
            return Err(self.payer.unusable(&self.channel));
        }
        let deposit = self.channel.account.funding;
        let replaced = self.channel.clone();
        let replaces = Some((&replaced, &funding.inputs[..]));
        let identifier = Some(self.flight.identifier.clone());
        let (channel, flight, held) = self.payer.open(self.request, quote, deposit, replaces, identifier, edge).await?;
        (self.channel, self.flight, self._held) = (channel, flight, held);
        Ok(())
    }

    /// The server may have got the deposit and may not be able to send it: our own node can.
    async fn broadcast(&self, error: &SendError, edge: &mut Edge<'_>) {
        let channels = &self.payer.channels;
        if error.unsent || self.flight.attempt.kind != Kind::Deposit {
            return;
        }
        let (Some(chain), Ok((funding, transaction))) = (&channels.chain, channels.funding(&self.channel)) else { return };
        // Whatever the node answers: the deposit is the server's to confirm, and the same header goes again.
        let _ = chain.submit(&transaction).await;
        (edge.watch)(Step::Channel(Progress::Broadcast(funding.txid)));
    }
}
