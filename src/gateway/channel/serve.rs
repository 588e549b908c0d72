//! One request on a channel: from its payload to a lease and a voucher that pays.
//!
//! The order is the contract's: the key is proven first, then the store says whether the request is known, and only a
//! fresh one is judged by age, amounts and limits. Whatever holds a lease runs to its end, whoever still waits ([`Errand`]).

use super::{
    correct, deliver,
    exposure::{Over, Ticket},
};
use crate::{
    binding::escrow_v1::{
        ChannelFacts, EscrowScript, ProvenVoucher, VerifiedVoucher, channel_unknown,
        payload::{ChannelVoucher, RoutePayload},
        prove,
        state::Idle,
    },
    chain::Health,
    gateway::{
        Gateway,
        answer::Served,
        errand::Errand,
        facilitate::Goal,
        flight::Flight,
        mcp::ToolCall,
        respond::{Refusal, Reply},
    },
    protocol::{
        amount::Amount,
        ids::{ChannelId, PaymentIdentifier, RequestHash, RequestIdentity},
        offer::OfferToken,
        policy::{Accept, ChannelTerms, Policy, Pricing, Route, Terms},
        price::Price,
        refusal::Code,
        request::Request,
        requirements::{EscrowExtra, Extra, Requirements},
        tenant::Tenant,
        time::UnixMillis,
    },
    store::{
        StoreError,
        channels::{ChannelFact, ChannelRecord, ChannelStep, Lease, LeaseAsk, Leased, Phase, Purpose},
    },
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    time::{Instant, timeout, timeout_at},
};

/// A payment from a channel whose offer is authentic; nothing else in it is believed yet.
pub(in crate::gateway) struct ChannelSale {
    pub payload: RoutePayload,
    pub accepted: Requirements,
    pub offer: Offered,
    /// Which of the route's ways to pay, and its price for this request.
    pub accept: usize,
    pub price: Price,
    pub identifier: PaymentIdentifier,
    pub identity: RequestIdentity,
    pub request_hash: RequestHash,
    pub route: Arc<Route>,
    pub policy: Arc<Policy>,
    pub request: Arc<Request>,
    pub reply: Reply,
    /// Of a tool.
    pub call: Option<Arc<ToolCall>>,
    pub goal: Goal,
    /// What a tenant charges; `None` for the whole amount.
    pub charge: Option<Amount>,
    /// Whose call it is; `None` for a route of the gateway's own.
    pub tenant: Option<Arc<Tenant>>,
}

/// What a request is paid under.
#[derive(Clone, Copy, Debug)]
pub(in crate::gateway) struct Offered {
    /// A fresh request later than this is refused; a known one never is.
    pub accepted_until: UnixMillis,
    /// Good for one request of a channel.
    pub nonce: [u8; 16],
    /// The DAA score when it was offered.
    pub daa: u64,
}

impl Offered {
    pub fn by(token: &OfferToken) -> Self {
        Self { accepted_until: token.accepted_until(), nonce: token.nonce, daa: token.daa }
    }
}

impl ChannelSale {
    /// What was read when the sale was made; the compiler of the configuration keeps channel terms and their settings together.
    pub fn parts(&self) -> Option<(&Pricing, &Accept, &ChannelTerms, &EscrowExtra)> {
        let pricing = self.route.pricing()?;
        let accept = pricing.accepts.get(self.accept)?;
        match (&accept.terms, &self.accepted.extra) {
            (Terms::Channel(terms), Extra::Escrow(extra)) => Some((pricing, accept, terms, extra)),
            _ => None,
        }
    }

    /// A channel of somebody else's is not known to a tenant, whoever holds its key. Asked of the very record that is acted on.
    pub fn may_use(&self, record: &ChannelRecord) -> Result<(), Refusal> {
        match &self.tenant {
            Some(tenant) if !tenant.owns(&record.config.server_public_key, &record.config.pay_to) => Err(channel_unknown().into()),
            _ => Ok(()),
        }
    }

    pub(in crate::gateway) fn settle_wait(&self) -> Duration {
        self.parts().map_or(Duration::ZERO, |(pricing, ..)| pricing.settle_wait)
    }
}

/// A payment by the holder of a channel's key.
pub(in crate::gateway) struct Presented {
    pub record: Arc<ChannelRecord>,
    pub script: Arc<EscrowScript>,
    pub proven: ProvenVoucher,
    /// It came with a deposit: its receipt names the funding.
    pub deposit: bool,
}

/// Proof that a voucher covers this request and its channel is held for it: the only way from a channel to an upstream.
#[must_use]
pub(super) struct Admission {
    pub lease: Lease,
    pub record: Arc<ChannelRecord>,
    pub script: Arc<EscrowScript>,
    pub voucher: VerifiedVoucher,
    pub deposit: bool,
    pub sale: Box<ChannelSale>,
    /// The lease is being ended by its holder, so that its loss means nothing any more.
    pub over: AtomicBool,
    /// Its ceiling is reserved, durably: somebody has to post it.
    pub streams: AtomicBool,
    counted: Ticket,
    _flight: Flight<(ChannelId, PaymentIdentifier)>,
    _place: OwnedSemaphorePermit,
}

pub(in crate::gateway) type ReplySlot = oneshot::Sender<Result<Served, Refusal>>;

impl Gateway {
    /// Sells one request. Returns when there is something to say; what is left then goes on by itself.
    pub(in crate::gateway) async fn sell_from_channel(self: &Arc<Self>, sale: Box<ChannelSale>) -> Result<Served, Refusal> {
        if let Some(remote) = self.remote.get() {
            return Box::pin(self.sell_from_channel_at(remote.clone(), sale)).await;
        }
        let deadline = Instant::now() + sale.settle_wait() + sale.route.timeout;
        let presented = match &sale.payload {
            RoutePayload::Voucher(voucher) => self.known_channel(&sale, voucher).await?,
            RoutePayload::Deposit(deposit) => {
                // Anybody may make one up, and each may wait for the chain.
                let Ok(_place) = self.places.clone().try_acquire_owned() else {
                    return Err(Refusal::new(Code::Overloaded, ""));
                };
                // Boxed, as all that is rare on this path: the others must not make room for it.
                Box::pin(self.deposited(&sale, deposit, deadline)).await?
            }
        };
        loop {
            let flight = match self.channels.flights.enter((presented.record.id, sale.identifier.clone())) {
                Ok(flight) => flight,
                Err(landed) => {
                    // Ends when the leading flight lands, which is what we wait for.
                    let landed = timeout(deadline.saturating_duration_since(Instant::now()), landed.wait()).await;
                    if landed.is_err() {
                        return Err(Refusal::new(Code::InFlight, ""));
                    }
                    continue;
                }
            };
            let Ok(place) = self.places.clone().try_acquire_owned() else {
                return Err(Refusal::new(Code::Overloaded, ""));
            };
            let looked = self.has_looked(&presented.record.id);
            let (lease, record) = match self.lease_for(&sale, &presented).await? {
                Leased::Held(lease, record) => (lease, record),
                Leased::Replay(stored) => return self.replay_charge(&sale, &presented.script, *stored),
                Leased::IdentifierReused => return Err(Refusal::new(Code::IdentifierReused, "")),
                Leased::NonceReused => return Err(Refusal::new(Code::OfferReused, "")),
                Leased::Busy { same: true, .. } => return Err(Refusal::new(Code::InFlight, "")),
                Leased::Busy { record, .. } => {
                    return Err(correct::refusal(Code::ChannelBusy, "", &record, &presented.script, presented.proven.outpoint()));
                }
                Leased::Unknown => return Err(channel_unknown().into()),
            };
            if record.stream.is_some() {
                // A gateway died in its middle: its lease is over, and so is the stream.
                Box::pin(self.post_left_behind(lease, &record)).await.map_err(|_| Refusal::new(Code::StoreUnavailable, ""))?;
                continue;
            }
            let judged = match self.seen_under_lease(record, looked).await {
                Ok(record) => self.judge(&sale, &record, &presented).map(|(voucher, counted)| (record, voucher, counted)),
                Err(refusal) => Err(refusal),
            };
            let (record, voucher, counted) = match judged {
                Ok(judged) => judged,
                Err(refusal) => {
                    self.release_lease(&lease).await;
                    return Err(refusal);
                }
            };
            let Presented { script, deposit, .. } = presented;
            let (over, streams) = (AtomicBool::new(false), AtomicBool::new(false));
            let admission =
                Admission { lease, record, script, voucher, deposit, sale, over, streams, counted, _flight: flight, _place: place };
            let a_tools = admission.sale.call.is_some();
            let served = Errand::new(|reply| self.clone().serve_leased(admission, reply));
            // Who sells a call also hands its client the server's events, and may be held up by it.
            let served = if a_tools { tokio::spawn(served).await.ok().flatten() } else { served.await };
            return served.unwrap_or_else(|| Err(Refusal::new(Code::LeaseLost, "the gateway stopped")));
        }
    }

    pub(in crate::gateway) async fn known_channel(&self, sale: &ChannelSale, voucher: &ChannelVoucher) -> Result<Presented, Refusal> {
        let recent = self.ask(self.store.recent_channel(&voucher.channel_id)).await.map_err(unusable)?.ok_or_else(channel_unknown)?;
        let Presented { record, script, proven, deposit } = match self.presented(sale, voucher, recent) {
            // Another gateway may have claimed since: the voucher is then for an outpoint that is not known here.
            Err(_) if self.store.is_shared() => {
                let record = self.ask(self.store.channel(&voucher.channel_id)).await.map_err(unusable)?.ok_or_else(channel_unknown)?;
                self.presented(sale, voucher, record)?
            }
            presented => presented?,
        };
        let record = self.seen_now(record).await?;
        Ok(Presented { record, script, proven, deposit })
    }

    fn presented(&self, sale: &ChannelSale, voucher: &ChannelVoucher, record: Arc<ChannelRecord>) -> Result<Presented, Refusal> {
        sale.may_use(&record)?;
        let script = self.script_or_refuse(&record)?;
        let proven = prove(voucher, facts(&record, &script))?;
        Ok(Presented { record, script, proven, deposit: false })
    }

    /// What another gateway, or an earlier process, noted of the chain may be over: the chain is asked before it is believed.
    pub(in crate::gateway) async fn seen_now(&self, record: Arc<ChannelRecord>) -> Result<Arc<ChannelRecord>, Refusal> {
        if self.looked_at(&record).await {
            return Ok(record);
        }
        Err(Refusal::new(Code::NodeUnavailable, "what the chain says of this channel is not known, or not recorded, yet"))
    }

    /// The lease may have taken its time, too: its record is believed when the chain has said nothing since before it was asked for, which is what
    /// `looked` tells.
    async fn seen_under_lease(&self, record: Arc<ChannelRecord>, looked: Option<u64>) -> Result<Arc<ChannelRecord>, Refusal> {
        if looked.is_some() && self.has_looked(&record.id) == looked {
            return Ok(record);
        }
        let record = self.seen_now(record).await?;
        self.ask(self.store.channel(&record.id)).await.map_err(unusable)?.ok_or_else(|| channel_unknown().into())
    }

    pub(super) async fn lease_for(&self, sale: &ChannelSale, presented: &Presented) -> Result<Leased, Refusal> {
        let purpose = Purpose::Request { identifier: sale.identifier.clone(), nonce: sale.offer.nonce, identity: sale.identity };
        let ask = LeaseAsk { channel: presented.record.id, purpose, holder: self.holder, hold_millis: self.limits.hold_millis() };
        self.ask(self.store.lease(&ask, self.now())).await.map_err(unusable)
    }

    /// Everything that only a fresh request is asked. Whoever comes so far has proven the channel's key.
    pub(in crate::gateway) fn judge(
        &self,
        sale: &ChannelSale,
        record: &ChannelRecord,
        presented: &Presented,
    ) -> Result<(VerifiedVoucher, Ticket), Refusal> {
        let (Some((.., extra)), Some(rules)) = (sale.parts(), &sale.policy.channels) else {
            return Err(Refusal::new(Code::Scheme, "this route is not sold from channels any more"));
        };
        let script = &presented.script;
        let corrected = |code: Code, detail: &str| correct::refusal(code, detail, record, script, presented.proven.outpoint());
        if sale.offer.accepted_until < self.now() {
            return Err(corrected(Code::OfferExpired, "the channel is open, the offer is over"));
        }
        match record.phase() {
            Phase::Idle => {}
            Phase::Closed => return Err(Refusal::new(Code::ChannelClosed, "its money was spent on chain")),
            Phase::Claiming => return Err(corrected(Code::ChannelBusy, "a claim is on its way")),
            Phase::TakenBack => return Err(corrected(Code::ChannelBusy, "a claim was taken back and is being sent again")),
            Phase::Streaming => return Err(corrected(Code::ChannelBusy, "")),
        }
        if record.config.pay_to != sale.accepted.pay_to {
            return Err(Refusal::new(Code::EscrowPayTo, "the channel pays to another recipient than this route"));
        }
        let key = record.config.server_public_key;
        if key != extra.server_public_key || self.server_keys.load().find(&key).is_none_or(|key| key.claim_only()) {
            return Err(Refusal::new(Code::EscrowServerKey, "the channel's server key is not the offered one: open a channel under that"));
        }
        if let Health { ready: false, reason, .. } = &*self.chain.health().borrow() {
            return Err(Refusal::new(Code::NodeUnavailable, reason.clone().unwrap_or_default()));
        }
        let daa_score = self.chain.tip().borrow().daa_score;
        if daa_score.saturating_add(rules.refund_lead_daa) >= record.config.refund_timeout_daa {
            let detail = format!("the refund is due at DAA score {}, it is {daa_score}", record.config.refund_timeout_daa);
            return Err(Refusal::new(Code::RefundWindow, detail));
        }
        let confirmed_at = self.confirmed_at(record, rules)?.filter(|score| *score > daa_score);
        let accounts = Idle::restore(record.parts).map_err(|error| {
            tracing::error!(channel = %record.id, %error, "a stored channel contradicts itself");
            Refusal::new(Code::StoreUnavailable, "")
        })?;
        let ceiling = sale.accepted.amount;
        if presented.proven.outpoint() != record.outpoint {
            return Err(corrected(Code::VoucherStaleOutpoint, "the voucher is for the outpoint before the last claim"));
        }
        let voucher = presented
            .proven
            .clone()
            .authorise(accounts.accounts(), ceiling, record.reserve)
            .map_err(|fault| corrected(fault.code, &fault.detail))?;
        let counted =
            self.channels.exposure.admit(record, ceiling, &rules.exposure, confirmed_at, daa_score).map_err(|over| match over {
                // Money that is served on when it is deep enough, and no sooner: the same header is good then.
                Over::Unconfirmed if rules.exposure.unconfirmed.is_zero() => Refusal::new(Code::DepositNotConfirmed, over.to_string()),
                over => Refusal::new(Code::ExposureLimit, over.to_string()),
            })?;
        Ok((voucher, counted))
    }

    async fn serve_leased(self: Arc<Self>, admission: Admission, reply: ReplySlot) {
        self.metrics.waiting.inc();
        let mut reply = Some(reply);
        let after = tokio::select! {
            biased;
            after = self.deliver_from_channel(&admission, &mut reply) => after,
            refusal = self.keep_lease(&admission) => {
                tracing::warn!(channel = %admission.record.id, code = %refusal.code, "lease lost");
                deliver::say(&mut reply, Err(refusal));
                None
            }
        };
        match after {
            Some(after) => {
                self.channels.exposure.charged(&after, admission.counted);
                self.consider_claim(&after);
            }
            None => {
                self.channels.exposure.finish(&admission.record, admission.counted);
                Box::pin(self.not_charged(&admission)).await;
            }
        }
        self.metrics.waiting.dec();
    }

    /// Nothing was charged, as far as the request knows: what is owed now is what the store says, and a stream whose end could not be posted is
    /// posted as soon as its lease is over. Its client need not come back for that.
    async fn not_charged(self: &Arc<Self>, admission: &Admission) {
        let id = admission.record.id;
        let record = self.ask(self.store.channel(&id)).await.ok().flatten();
        self.channels.exposure.set(record.as_deref().unwrap_or(&admission.record));
        if admission.streams.load(Ordering::Relaxed) {
            let gateway = self.clone();
            tokio::spawn(async move { gateway.post_stream_left_behind(&id).await });
        }
    }

    /// Renews the lease at a third of its length; ends only when it is lost, and says how.
    async fn keep_lease(&self, admission: &Admission) -> Refusal {
        let hold_millis = self.limits.hold_millis();
        let mut renewed = Instant::now();
        let mut due = renewed;
        loop {
            due += self.limits.hold / 3;
            tokio::time::sleep_until(due).await; // why: a lease is renewed by the clock
            let asked = Instant::now();
            let renewal = self.ask(self.store.advance_channel(&admission.lease, ChannelFact::Renewed { hold_millis }, self.now()));
            let answer = timeout_at(renewed + self.limits.hold, renewal).await;
            if admission.over.load(Ordering::Relaxed) {
                // The last step ended it, and the answer to it may still be on its way out.
                return std::future::pending().await;
            }
            match answer {
                Ok(Ok(ChannelStep::Done(_))) => renewed = asked,
                Ok(Ok(ChannelStep::Stale | ChannelStep::Refused)) => return Refusal::new(Code::LeaseLost, "another gateway took over"),
                Ok(Err(_)) if renewed.elapsed() < self.limits.hold => {}
                Ok(Err(_)) | Err(_) => return Refusal::new(Code::LeaseLost, "the store does not renew the lease"),
            }
        }
    }

    /// Ends a lease without a charge; when the store cannot, its expiry does.
    pub(super) async fn release_lease(&self, lease: &Lease) {
        if let Err(error) = self.ask(self.store.advance_channel(lease, ChannelFact::Released, self.now())).await {
            tracing::warn!(%error, channel = %lease.channel(), "lease left to expire");
        }
    }
}

pub(super) fn facts<'a>(record: &ChannelRecord, script: &'a EscrowScript) -> ChannelFacts<'a> {
    ChannelFacts { id: record.id, script, outpoint: record.outpoint, previous: record.previous() }
}

pub(super) fn unusable(_: StoreError) -> Refusal {
    Refusal::new(Code::StoreUnavailable, "")
}
