//! Paying requests from channels: which channel, which offer, and who may use it now. Sending is [`super::course`]'s.
//!
//! Promises, whatever the server, the network or this process does:
//! 1. A voucher is in the journal before it leaves. For one outpoint none is ever lower than one before it, and none is higher
//!    than what is charged and not claimed by the buyer's own books plus the ceiling of one request.
//! 2. A channel has one request in flight; it is sent again, byte for byte, until its fate is known or it is left behind.
//! 3. The books follow receipts that are verified, the chain as the buyer's own node shows it, and corrections within what was
//!    authorised; nothing lowers them. A server that says what cannot be true gets no further signature.

use super::{
    account::Lie,
    channels::Channels,
    course::Course,
    error::ChannelError,
    lock::Held,
    message::{self, Promise},
    offer::{self, ChannelOffer, Quote},
    opening::Wish,
    policy::{ChannelPolicy, choose},
    progress::Progress,
    receipt::ChannelReceipt,
    receipt_url,
    record::{Channel, Event, Flight, FlightState, Kind, Phase},
};
use crate::{
    binding::escrow_v1::{EscrowScript, SignedVoucher},
    client::{
        challenge::{Challenge, ChallengeError},
        error::Unpaid,
        exchange::{Exchange, PaidRequest, Transport},
        journal::{Begun, Opening, Renewed},
        paid::{self, Edge, Fetched, Step},
        payload,
        policy::{SpendingPolicy, Unwilling},
    },
    protocol::{
        amount::Amount,
        ids::{ChannelId, Outpoint, PaymentIdentifier},
        refusal::Code,
    },
};
use http::StatusCode;
use sha2::{Digest, Sha256};
use std::{sync::Arc, time::Duration};

/// Beginnings of one request while other processes change the journal.
const BEGINNINGS: u32 = 8;
/// A voucher that pays for nothing.
const LEAST: Amount = match Amount::from_sompi(1) {
    Ok(least) => least,
    Err(_) => Amount::ZERO,
};

/// What a voucher is signed for.
pub(super) struct Purchase {
    pub want: Want,
    pub identifier: PaymentIdentifier,
    /// Only to be told where the channel stands: the least is signed, whatever is due.
    pub asks: bool,
}

/// Pays requests from the channels of one wallet. Cheap to share; requests of one channel wait for each other.
pub struct ChannelPayer {
    pub(super) channels: Arc<Channels>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) policy: SpendingPolicy,
    pub(super) terms: ChannelPolicy,
    pub(super) pauses: Pauses,
}

/// Between repetitions without `Retry-After`: doubled from the first to the last. What a server asks for is bounded, too.
#[derive(Clone, Copy, Debug)]
pub struct Pauses {
    pub first: Duration,
    pub last: Duration,
    /// The longest `Retry-After` that is obeyed at once.
    pub longest: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { first: Duration::from_millis(100), last: Duration::from_secs(5), longest: Duration::from_secs(30) }
    }
}

/// What a request is to do besides being paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Pay from a channel there is, or open one as the policy allows.
    Pay,
    /// Open a channel with this deposit. Without `another`, only when no channel pays this server yet.
    Open { deposit: Amount, another: bool },
    /// Add at least so much to the channel that pays this server.
    TopUp(Amount),
}

/// Where a payment would come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preview {
    From(ChannelId),
    /// A new channel with this deposit.
    Opens(Amount),
}

impl ChannelPayer {
    pub fn new(channels: Arc<Channels>, policy: SpendingPolicy, terms: ChannelPolicy) -> Self {
        let transport = Arc::new(Exchange::new(&channels.patience));
        Self { channels, transport, policy, terms, pauses: Pauses::default() }
    }

    /// Carries requests by other means.
    pub fn through(self, transport: Arc<dyn Transport>) -> Self {
        Self { transport, ..self }
    }

    /// The same, with other pauses.
    pub fn over(self, transport: Arc<dyn Transport>, pauses: Pauses) -> Self {
        Self { transport, pauses, ..self }
    }

    pub fn channels(&self) -> &Arc<Channels> {
        &self.channels
    }

    /// Fetches, paying from a channel when asked. An open payment of the same request is resumed instead, unless `fresh` says
    /// that this is another purchase.
    pub async fn fetch(&self, request: &PaidRequest, want: Want, fresh: bool, edge: &mut Edge<'_>) -> Result<Fetched, ChannelError> {
        if !fresh && let Some(fetched) = self.resume(request, want, edge).await? {
            return Ok(fetched);
        }
        if !matches!(want, Want::Open { .. })
            && let Some(fetched) = self.with_renewed(request, want, edge).await?
        {
            return Ok(fetched);
        }
        let reply = paid::ask(self.transport.as_ref(), request).await?;
        if reply.status != StatusCode::PAYMENT_REQUIRED {
            return Ok(Fetched::Free(reply));
        }
        let challenge = paid::read_challenge(&reply)?;
        self.pay(request, &challenge, want, edge).await
    }

    /// Whether this challenge can be paid from a channel: there is one, or one may be opened.
    pub fn can_pay(&self, challenge: &Challenge) -> Result<bool, ChannelError> {
        let Ok(offer) = choose(&self.policy, &challenge.channels) else { return Ok(false) };
        Ok(self.terms.deposit.is_some() || !self.candidates(offer)?.is_empty())
    }

    /// How this challenge would be paid, without paying it.
    pub fn preview(&self, challenge: &Challenge) -> Result<(ChannelOffer, Preview), ChannelError> {
        let quote = self.quote(challenge, |_| true)?;
        let preview = match self.pick(&quote.offer, Want::Pay)? {
            Pick::Use(id) => Preview::From(id),
            Pick::Open(deposit) => Preview::Opens(deposit),
        };
        Ok((quote.offer, preview))
    }

    /// Takes up the open payment of this request, when nobody else is at it.
    pub async fn resume(&self, request: &PaidRequest, want: Want, edge: &mut Edge<'_>) -> Result<Option<Fetched>, ChannelError> {
        let wanted = |flight: &Flight| match want {
            Want::Pay => true,
            Want::Open { .. } => flight.attempt.kind == Kind::Deposit,
            Want::TopUp(_) => matches!(flight.attempt.kind, Kind::TopUp { .. }),
        };
        let Some(open) = self.channels.journal.open_flight(&request.key())?.filter(wanted) else { return Ok(None) };
        let held = self.channels.lock(&open.channel).await?;
        // Whoever held the lock may have finished it.
        let flight = self.channels.journal.flight(&open.channel, &open.identifier)?;
        let Some(mut flight) = flight.filter(|flight| flight.state.is_open()) else { return Ok(None) };
        let mut channel = self.channels.get(&flight.channel)?;
        if !channel.phase.pays() {
            return Ok(None);
        }
        if flight.state == FlightState::GivenUp {
            self.leave_behind(&mut channel, edge).await?;
            flight.state = FlightState::Sent;
            channel.account = channel.account.taken_up(flight.attempt.ceiling);
            self.note(&mut channel, &flight, None, None)?;
        }
        (edge.watch)(Step::Channel(Progress::Resumed(&flight)));
        let course = Course::new(self, request, channel, flight, held);
        course.run(edge).await.map(Some)
    }

    /// Pays with the offer that came with the last receipt of this method and URL, if it lives.
    pub async fn with_renewed(&self, request: &PaidRequest, want: Want, edge: &mut Edge<'_>) -> Result<Option<Fetched>, ChannelError> {
        if request.tool().is_some() {
            // Tools of one URL have prices of their own, and a voucher signed under a dearer one's offer cannot be taken back.
            return Ok(None);
        }
        let find = |edge: &Edge<'_>| self.channels.journal.renewed(request.method.as_str(), &request.url(), (edge.now)());
        for candidate in find(edge)? {
            let held = self.channels.lock(&candidate.channel).await?;
            // Whoever held the lock may have used it.
            let Some(renewed) = find(edge)?.into_iter().find(|renewed| renewed.channel == candidate.channel) else { continue };
            let channel = self.channels.get(&renewed.channel)?;
            let Renewed { offer, resource, extensions, .. } = renewed;
            let Ok(offer) = offer::read(offer) else { continue };
            let usable = channel.phase == Phase::Open && self.allowed(&channel) && channel.serves(&offer);
            if !usable || choose(&self.policy, std::slice::from_ref(&offer)).is_err() {
                continue;
            }
            let quote = Quote { offer, resource, extensions };
            return self.begin(request, quote, channel, held, want, edge).await.map(Some);
        }
        Ok(None)
    }

    /// Pays what a 402 asks for.
    pub async fn pay(
        &self,
        request: &PaidRequest,
        challenge: &Challenge,
        want: Want,
        edge: &mut Edge<'_>,
    ) -> Result<Fetched, ChannelError> {
        paid::check_resource(challenge, request, &self.policy)?;
        let quote = self.quote(challenge, |_| true)?;
        (edge.watch)(Step::Channel(Progress::Offered(&quote.offer)));
        for _ in 0..BEGINNINGS {
            // Two requests at once would open two channels to one server.
            let opening = self.channels.lock_name(&opening_name(&quote.offer)).await?;
            match self.pick(&quote.offer, want)? {
                Pick::Use(id) => {
                    drop(opening);
                    let held = self.channels.lock(&id).await?;
                    let channel = self.channels.get(&id)?;
                    // Whoever held it may have ended it.
                    if channel.phase.pays() {
                        return self.begin(request, quote, channel, held, want, edge).await;
                    }
                }
                Pick::Open(deposit) => {
                    let (channel, flight, held) = self.open(request, &quote, deposit, None, None, edge).await?;
                    drop(opening);
                    return Course::new(self, request, channel, flight, held).run(edge).await;
                }
            }
        }
        Err(Unpaid::Contended.into())
    }

    /// The cheapest acceptable channel offer of a challenge.
    pub(super) fn quote(&self, challenge: &Challenge, fits: impl Fn(&ChannelOffer) -> bool) -> Result<Quote, ChannelError> {
        let offers: Vec<ChannelOffer> = challenge.channels.iter().filter(|offer| fits(offer)).cloned().collect();
        if offers.is_empty() {
            return Err(ChallengeError::NoOffer(challenge.skipped.clone()).into());
        }
        let offer = choose(&self.policy, &offers).map_err(Unpaid::Unwilling)?.clone();
        Ok(Quote { offer, resource: challenge.resource.clone(), extensions: challenge.extensions.clone() })
    }

    /// Channels that pay this server: open ones before those that are being opened, newest first.
    fn candidates(&self, offer: &ChannelOffer) -> Result<Vec<Channel>, ChannelError> {
        let usable = |channel: &Channel| channel.phase.pays() && self.allowed(channel) && channel.serves(offer);
        let mut found: Vec<Channel> = self.channels.list()?.into_iter().filter(usable).collect();
        found.reverse();
        found.sort_by_key(|channel| channel.phase != Phase::Open);
        Ok(found)
    }

    fn allowed(&self, channel: &Channel) -> bool {
        self.terms.only.is_none_or(|only| only == channel.id)
    }

    fn pick(&self, offer: &ChannelOffer, want: Want) -> Result<Pick, ChannelError> {
        let candidates = self.candidates(offer)?;
        let disputed = |channel: &&Channel| channel.phase == Phase::Disputed && channel.serves(offer);
        let insists = matches!(want, Want::Open { another: true, .. });
        if !insists && let Some(disputed) = self.channels.list()?.iter().find(disputed) {
            return Err(self.unusable(disputed));
        }
        let opening = candidates.iter().find(|channel| channel.phase == Phase::Opening).map(|channel| channel.id);
        let open = candidates.iter().find(|channel| channel.phase == Phase::Open).map(|channel| channel.id);
        match (want, opening, open) {
            (Want::Open { another: false, .. }, None, Some(open)) => Err(ChannelError::OpenAlready(open)),
            // What was begun is finished first: its deposit may be on its way.
            (Want::Open { another, .. }, Some(opening), _) if !another || self.channels.try_lock(&opening)?.is_some() => {
                Ok(Pick::Use(opening))
            }
            (Want::Open { deposit, .. }, ..) => Ok(Pick::Open(deposit)),
            (Want::TopUp(_), _, Some(open)) => Ok(Pick::Use(open)),
            (Want::TopUp(_), _, None) => Err(ChannelError::NoChannel { least: offer.min_deposit }),
            (Want::Pay, ..) => {
                let mut short = None;
                for channel in &candidates {
                    let reserve = self.channels.reserve(channel, &channel.script())?;
                    match channel.account.due(offer.ceiling, reserve) {
                        Ok(_) => return Ok(Pick::Use(channel.id)),
                        Err(due) => short = short.or(Some(ChannelError::Due { channel: channel.id, due })),
                    }
                }
                match (self.terms.deposit, short) {
                    (Some(deposit), _) if self.terms.only.is_none() => Ok(Pick::Open(deposit)),
                    (_, Some(short)) => Err(short),
                    (_, None) => match self.terms.only {
                        Some(only) => Err(self.unusable(&self.channels.get(&only)?)),
                        None => Err(ChannelError::NoChannel { least: offer.min_deposit }),
                    },
                }
            }
        }
    }

    pub(super) fn unusable(&self, channel: &Channel) -> ChannelError {
        ChannelError::Unusable { channel: channel.id, phase: channel.phase.as_str(), why: channel.why.clone() }
    }

    /// Records a new channel with this as its first request.
    pub(super) async fn open(
        &self,
        request: &PaidRequest,
        quote: &Quote,
        deposit: Amount,
        replaces: Option<(&Channel, &[Outpoint])>,
        identifier: Option<PaymentIdentifier>,
        edge: &mut Edge<'_>,
    ) -> Result<(Channel, Flight, Held), ChannelError> {
        let wish = Wish { quote, deposit, policy: &self.terms, max_fee: self.policy.max_fee, server: request.origin(), replaces };
        for _ in 0..BEGINNINGS {
            let prepared = self.channels.prepare(&wish, edge).await?;
            let held = self.channels.lock(&prepared.channel.id).await?;
            let mut channel = prepared.channel;
            let script = channel.script();
            let due = channel.account.due(quote.offer.ceiling, self.channels.reserve(&channel, &script)?);
            let due = due.map_err(|due| ChannelError::Due { channel: channel.id, due })?;
            let voucher = self.sign(&channel, &script, channel.account.outpoint, due, edge)?;
            let promise = Promise {
                quote,
                kind: Kind::Deposit,
                voucher,
                outpoint: channel.account.outpoint,
                funding: channel.account.funding,
                claimed: Amount::ZERO,
                transaction: Some(&prepared.transaction),
            };
            let identifier = identifier.clone().unwrap_or_else(|| payload::draw_identifier(edge.rng));
            let flight = flight(&channel, &script, request, identifier, promise, edge);
            channel.account.signed = Some(voucher);
            match self.channels.journal.open_channel(&channel, &prepared.funding, &flight, &self.policy.budget)? {
                Opening::New => {
                    (edge.watch)(Step::Channel(Progress::Opening { channel: &channel, deposit, fee: prepared.fee }));
                    (edge.watch)(Step::Channel(Progress::Signed(&flight)));
                    return Ok((channel, flight, held));
                }
                Opening::InputTaken(_) | Opening::KeyTaken => {}
                Opening::OverBudget(over) => return Err(Unpaid::from(Unwilling::from(over)).into()),
                Opening::NotReplaceable => return Err(ChannelError::Contended(channel.id)),
            }
        }
        Err(Unpaid::Contended.into())
    }

    /// Signs and records a request on a channel that is held, and sees it through.
    async fn begin(
        &self,
        request: &PaidRequest,
        quote: Quote,
        mut channel: Channel,
        held: Held,
        want: Want,
        edge: &mut Edge<'_>,
    ) -> Result<Fetched, ChannelError> {
        self.leave_behind(&mut channel, edge).await?;
        let identifier = payload::draw_identifier(edge.rng);
        let flight = self.sign_request(&mut channel, request, &quote, Purchase { want, identifier, asks: false }, edge).await?;
        Course::new(self, request, channel, flight, held).run(edge).await
    }

    /// A request in flight whose sender is gone: its receipt is asked for, and without one it is given up.
    async fn leave_behind(&self, channel: &mut Channel, edge: &mut Edge<'_>) -> Result<(), ChannelError> {
        let Some(mut left) = self.channels.journal.in_flight(&channel.id)? else { return Ok(()) };
        if let Some(receipt) = receipt_url::ask(self.transport.as_ref(), &left, None).await {
            return match self.settle(channel, &mut left, &receipt, FlightState::Undelivered, None, edge)? {
                Ok(()) => Ok(()),
                Err(lie) => Err(self.disputed(channel, &mut left, lie, edge)?),
            };
        }
        channel.account = channel.account.given_up(left.attempt.ceiling);
        left.state = FlightState::GivenUp;
        (edge.watch)(Step::Channel(Progress::LeftBehind(&left)));
        self.note(channel, &left, None, None)
    }

    /// Books a charge by its receipt, if that is true.
    pub(super) fn settle(
        &self,
        channel: &mut Channel,
        flight: &mut Flight,
        receipt: &ChannelReceipt,
        state: FlightState,
        renewed: Option<&Renewed>,
        edge: &Edge<'_>,
    ) -> Result<Result<(), Lie>, ChannelError> {
        let account = match channel.account.settle(flight, &channel.script(), receipt) {
            Ok(account) => account,
            Err(lie) => return Ok(Err(lie)),
        };
        let from = channel.account.outpoint;
        channel.account = account;
        channel.phase = Phase::Open;
        (flight.state, flight.charge, flight.receipt) = (state, Some(receipt.charge), Some(receipt.text.clone()));
        if let Kind::TopUp { txid, .. } = flight.attempt.kind
            && from != account.outpoint
        {
            let words = format!("top-up {txid}: {} at {}", account.funding.to_kas(), account.outpoint);
            // The move first: a crash in between leaves a request in flight that the books have counted, which is resumed.
            if !self.channels.journal.move_channel(channel, from, txid, &Event { at: (edge.now)(), words })? {
                return Err(ChannelError::Contended(channel.id));
            }
        }
        self.note(channel, flight, renewed, None).map(Ok)
    }

    /// Records what became of a request.
    pub(super) fn note(
        &self,
        channel: &mut Channel,
        flight: &Flight,
        renewed: Option<&Renewed>,
        event: Option<&Event>,
    ) -> Result<(), ChannelError> {
        match self.channels.journal.end_flight(channel, flight, renewed, event)? {
            true => Ok(()),
            false => Err(ChannelError::Contended(channel.id)),
        }
    }

    /// Records a receipt that cannot be true. The channel gets no further signature; what the request cost is not known.
    pub(super) fn disputed(
        &self,
        channel: &mut Channel,
        flight: &mut Flight,
        lie: Lie,
        edge: &Edge<'_>,
    ) -> Result<ChannelError, ChannelError> {
        let why = format!("the receipt of {} {} is wrong: {lie}", flight.method, flight.url);
        channel.account = channel.account.given_up(flight.attempt.ceiling);
        channel.phase = Phase::Disputed;
        channel.why = Some(why.clone());
        flight.state = FlightState::Disputed;
        self.note(channel, flight, None, Some(&Event { at: (edge.now)(), words: why }))?;
        Ok(ChannelError::Wrong { channel: channel.id, lie })
    }

    /// Signs the voucher of a request and records both. Under `identifier` there may be an earlier attempt, which this one replaces.
    pub(super) async fn sign_request(
        &self,
        channel: &mut Channel,
        request: &PaidRequest,
        quote: &Quote,
        Purchase { want, identifier, asks }: Purchase,
        edge: &mut Edge<'_>,
    ) -> Result<Flight, ChannelError> {
        for _ in 0..BEGINNINGS {
            let script = channel.script();
            let top_up = match want {
                Want::TopUp(amount) => Some(self.channels.prepare_top_up(channel, amount, &self.terms, self.policy.max_fee, edge).await?),
                Want::Pay | Want::Open { .. } => None,
            };
            let mut next = channel.clone();
            if let Some(top_up) = &top_up {
                next.account.outpoint = top_up.to;
                next.account.funding = top_up.funding;
                next.account.claimed = top_up.claimed;
                next.account.signed = self.channels.journal.voucher(&channel.id, top_up.to)?;
            }
            let due = next.account.due(quote.offer.ceiling, self.channels.reserve(&next, &script)?);
            let due = due.map_err(|due| ChannelError::Due { channel: channel.id, due })?;
            let amount = if asks { next.account.signed_amount().max(LEAST) } else { due };
            let voucher = self.sign(channel, &script, next.account.outpoint, amount, edge)?;
            let funding = if channel.phase == Phase::Opening { Some(self.channels.funding(channel)?.1) } else { None };
            let kind = match (&top_up, &funding) {
                (Some(top_up), _) => top_up.kind,
                (None, Some(_)) => Kind::Deposit,
                (None, None) => Kind::Voucher,
            };
            let promise = Promise {
                quote,
                kind,
                voucher,
                outpoint: next.account.outpoint,
                funding: next.account.funding,
                claimed: next.account.claimed,
                transaction: top_up.as_ref().map(|top_up| &top_up.transaction).or(funding.as_ref()),
            };
            let flight = flight(channel, &script, request, identifier.clone(), promise, edge);
            if top_up.is_none() {
                channel.account = channel.account.sign(voucher).expect("what is due is never below what is signed");
            }
            let ours = top_up.as_ref().map(|top_up| &top_up.ours);
            match self.channels.journal.begin_flight(channel, &flight, ours, &self.policy.budget)? {
                Begun::New => {
                    if let Some(top_up) = &top_up {
                        (edge.watch)(Step::Channel(Progress::ToppingUp { channel, added: top_up.added }));
                    }
                    (edge.watch)(Step::Channel(Progress::Signed(&flight)));
                    return Ok(flight);
                }
                Begun::InputTaken(_) => {}
                Begun::OverBudget(over) => return Err(Unpaid::from(Unwilling::from(over)).into()),
                Begun::InFlight | Begun::Lower | Begun::Moved => return Err(ChannelError::Contended(channel.id)),
            }
        }
        Err(Unpaid::Contended.into())
    }

    /// The voucher of this amount: the one that was signed before, if it was.
    fn sign(
        &self,
        channel: &Channel,
        script: &EscrowScript,
        outpoint: Outpoint,
        amount: Amount,
        edge: &mut Edge<'_>,
    ) -> Result<SignedVoucher, ChannelError> {
        if let Some(same) = self.channels.journal.voucher(&channel.id, outpoint)?.filter(|signed| signed.amount == amount) {
            return Ok(same);
        }
        let mut aux = [0; 32];
        edge.rng.fill_bytes(&mut aux);
        let key = self.channels.key(channel);
        Ok(SignedVoucher::sign(script, outpoint, amount, |digest| key.sign_digest(digest, &aux)))
    }
}

enum Pick {
    Use(ChannelId),
    Open(Amount),
}

fn opening_name(offer: &ChannelOffer) -> String {
    let terms = format!("{} {} {}", offer.network, offer.server_key, offer.pay_to);
    format!("open-{}", hex::encode(&Sha256::digest(terms)[..16]))
}

fn flight(
    channel: &Channel,
    script: &EscrowScript,
    request: &PaidRequest,
    identifier: PaymentIdentifier,
    promise: Promise<'_>,
    edge: &Edge<'_>,
) -> Flight {
    Flight {
        channel: channel.id,
        key: request.key(),
        method: request.method.to_string(),
        url: request.url(),
        attempt: message::attempt(channel, script, request, &identifier, promise),
        identifier,
        state: FlightState::Sent,
        charge: None,
        receipt: None,
        created: (edge.now)(),
    }
}

/// Refusals after which a channel is of no more use.
pub(super) const fn ends_channel(code: Code) -> bool {
    matches!(code, Code::ChannelUnknown | Code::ChannelClosed | Code::RefundWindow)
}
