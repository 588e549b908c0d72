//! Forwarding a request that another gateway's channel pays for. A whole answer is held until it is charged; what has to stream is charged first, at
//! its ceiling, and is good for the same request from then on, as a payment by transaction is.

use super::{
    super::tries::{Undecided, until_decided},
    Sold,
    call::Wanted,
    heard, receipt_of, unusable,
};
use crate::{
    gateway::{
        Gateway,
        answer::{Served, StreamChunk},
        channel::{
            deliver::forwarded,
            meter::{Charged, MeterReader},
            not_charged,
            serve::ReplySlot,
        },
        crash,
        facilitate::Act,
        forward::{self, Collected, Kept, Passed, STREAM_DEPTH, collect},
        hold::Lost,
        mcp::{Said, ToolAnswer},
        purchase::say,
        respond::{self, Refusal},
        upstream::{ReplyBody, UpstreamFailure, UpstreamReply},
    },
    protocol::{
        amount::Amount,
        charge::ChargeRule,
        policy::{ChannelTerms, Pricing},
        refusal::Code,
    },
    store::{Advanced, Fact, PaymentState, StoreError, StoredResponse},
    wire::{
        canonical,
        messages::{ChargeReceipt, SettlementResponse},
    },
};
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use std::sync::Arc;
use tokio::{sync::mpsc, time::Instant};

/// What an upstream said to a request that is to be paid for.
enum Answered {
    Whole(Whole),
    Stream {
        status: u16,
        headers: HeaderMap,
        first: Bytes,
        body: Box<dyn ReplyBody>,
    },
    /// It does not count by the route's rule.
    Unserved(Whole),
}

struct Whole {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
    /// Of a tool.
    said: Option<Said>,
}

impl Gateway {
    /// Owns the sale from here to the end, whoever still listens.
    pub(super) async fn serve_sold(self: Arc<Self>, sold: Sold, reply: ReplySlot) {
        self.metrics.waiting.inc();
        let mut reply = Some(reply);
        tokio::select! {
            biased;
            () = self.run_sold(&sold, &mut reply) => {}
            lost = self.keep(&sold.hold) => {
                tracing::warn!(channel = %sold.call.presented.channel, ?lost, "hold lost");
                say(&mut reply, Err(match lost {
                    Lost::Taken => Refusal::new(Code::InFlight, ""),
                    Lost::Closed | Lost::Store => Refusal::new(Code::StoreUnavailable, ""),
                }));
            }
        }
        self.metrics.waiting.dec();
    }

    async fn run_sold(&self, sold: &Sold, reply: &mut Option<ReplySlot>) {
        let Some((pricing, _, terms, _)) = sold.sale.parts() else {
            self.release(&sold.hold).await;
            return;
        };
        let delivery = Delivery { gateway: self, sold, pricing, terms };
        let outcome = match sold.record.as_deref() {
            None if reply.as_ref().is_none_or(ReplySlot::is_closed) => {
                // Nobody listens any more: the upstream is spared.
                delivery.freed().await;
                return;
            }
            None => delivery.serve(reply).await,
            Some(record) if record.state == PaymentState::Pending => delivery.resume(record.charge, reply).await,
            Some(record) => match receipt_of(record) {
                Some(receipt) => delivery.serve_paid(receipt, reply).await,
                None => Err(Refusal::new(Code::StoreUnavailable, "")),
            },
        };
        if let Err(refusal) = outcome {
            say(reply, Err(refusal));
            // What is freed or ended has nothing to release, which is no harm.
            self.release(&sold.hold).await;
        }
    }
}

struct Delivery<'a> {
    gateway: &'a Gateway,
    sold: &'a Sold,
    pricing: &'a Pricing,
    terms: &'a ChannelTerms,
}

impl Delivery<'_> {
    /// Forwards, then charges what the answer costs.
    async fn serve(&self, reply: &mut Option<ReplySlot>) -> Result<(), Refusal> {
        let started = Instant::now();
        let answered = self.forward().await;
        self.gateway.metrics.upstream_seconds.observe(started.elapsed().as_secs_f64());
        crash::point("remote_answered");
        match answered {
            Err(failure) => {
                self.freed().await;
                let refusal = failed(failure, "; nothing was charged");
                Err(self.not_charged(refusal))
            }
            Ok(Answered::Unserved(whole)) => {
                self.uncharged(whole, reply).await;
                Ok(())
            }
            Ok(Answered::Whole(whole)) => self.charge_whole(whole, reply).await,
            Ok(Answered::Stream { status, headers, first, mut body }) => {
                let charge = match MeterReader::new(&self.terms.charge, self.ceiling(), &headers).before_the_body() {
                    Charged::Amount(charge) => self.metered(charge),
                    Charged::Refused => return Err(self.without_a_price().await),
                };
                self.held(status, charge, None).await?;
                let receipt = self.charged(charge, false).await?;
                self.stream(&receipt, status, headers, first, body.as_mut(), reply).await;
                Ok(())
            }
        }
    }

    async fn forward(&self) -> Result<Answered, UpstreamFailure> {
        let sale = &self.sold.sale;
        // The compiler of the configuration refuses a route without its upstream.
        let upstream = sale.policy.upstreams.get(&sale.route.upstream).ok_or(UpstreamFailure::Connect)?;
        let request = || forwarded(sale, &self.sold.call.presented.channel, self.terms);
        let answered = self.gateway.upstreams.send(upstream, request()).await?;
        if let Some(call) = &sale.call {
            // A call of a tool: its result is held until it is charged, however it arrives.
            let answer = call.answer(self.gateway.upstreams.as_ref(), upstream, &request(), answered).await?;
            let ToolAnswer { said, status, headers, body, served } = answer;
            let whole = Whole { status, headers, body, said: Some(said) };
            return Ok(if served { Answered::Whole(whole) } else { Answered::Unserved(whole) });
        }
        let UpstreamReply { status, headers, mut body } = answered;
        if !self.pricing.charge_on.delivered(status) {
            return match collect(&HeaderMap::new(), body.as_mut(), self.pricing.replay_limit).await? {
                Collected::Whole(body) => Ok(Answered::Unserved(Whole { status, headers, body, said: None })),
                Collected::Streaming(_) => Err(UpstreamFailure::Broken),
            };
        }
        Ok(match collect(&headers, body.as_mut(), self.pricing.replay_limit).await? {
            Collected::Whole(body) => Answered::Whole(Whole { status, headers, body, said: None }),
            Collected::Streaming(first) => Answered::Stream { status, headers, first, body },
        })
    }

    async fn charge_whole(&self, whole: Whole, reply: &mut Option<ReplySlot>) -> Result<(), Refusal> {
        let charge = match MeterReader::whole(&self.terms.charge, self.ceiling(), &whole.headers, &whole.body) {
            Charged::Amount(charge) => self.metered(charge),
            Charged::Refused => return Err(self.without_a_price().await),
        };
        let response = self.kept(&whole);
        let kept = response.is_some();
        self.held(whole.status, charge, response).await?;
        let receipt = self.charged(charge, kept).await?;
        if !kept {
            self.record(Fact::Delivered { status: whole.status, response: None }).await;
        }
        self.let_out(whole, &self.gateway.message(&self.sold.sale, receipt), reply);
        Ok(())
    }

    /// What a process that is gone has left: its answer is charged and let out, or, where none is held, asked for once more.
    async fn resume(&self, charge: Option<Amount>, reply: &mut Option<ReplySlot>) -> Result<(), Refusal> {
        let gateway = self.gateway;
        let stored = gateway.ask(gateway.store.payment(self.sold.hold.held.key())).await.map_err(unusable)?;
        let held = stored.and_then(|stored| stored.response);
        let receipt = self.charged(charge, held.is_some()).await?;
        match held {
            Some(response) => {
                let answer = self.sold.sale.reply.replay(&response, &gateway.message(&self.sold.sale, receipt));
                say(reply, Ok(Served::Answer(Box::new(answer))));
                Ok(())
            }
            None => self.serve_paid(receipt, reply).await,
        }
    }

    /// Forwards what is paid for already.
    async fn serve_paid(&self, receipt: ChargeReceipt, reply: &mut Option<ReplySlot>) -> Result<(), Refusal> {
        self.step(Fact::Forwarding).await?;
        let (status, failure) = match self.forward().await {
            Ok(Answered::Stream { status, headers, first, mut body }) => {
                self.stream(&receipt, status, headers, first, body.as_mut(), reply).await;
                return Ok(());
            }
            Ok(Answered::Whole(whole)) => {
                self.record(Fact::Delivered { status: whole.status, response: self.kept(&whole) }).await;
                self.let_out(whole, &self.gateway.message(&self.sold.sale, receipt), reply);
                return Ok(());
            }
            Ok(Answered::Unserved(whole)) => (Some(whole.status), UpstreamFailure::Broken),
            Err(failure) => (None, failure),
        };
        self.record(Fact::Undelivered { status }).await;
        // Without a receipt, which would read as if this were the answer: the same header is forwarded again.
        Err(failed(failure, "; it is charged, and good for the same request"))
    }

    async fn stream(
        &self,
        receipt: &ChargeReceipt,
        status: u16,
        headers: HeaderMap,
        first: Bytes,
        body: &mut dyn ReplyBody,
        reply: &mut Option<ReplySlot>,
    ) {
        let sale = &self.sold.sale;
        let kept_headers = respond::keep_headers(&headers, self.pricing.replay_cookies);
        let mut kept = Kept { headers: kept_headers, body: first.is_empty().then(BytesMut::new), limit: self.pricing.replay_limit };
        let head = sale.reply.paid(status, headers, &self.gateway.message(sale, receipt.clone()), Bytes::new());
        let (sender, receiver) = mpsc::channel(STREAM_DEPTH);
        say(reply, Ok(Served::Stream { head, body: receiver }));
        match forward::pass(first, body, &mut kept, &sender).await {
            Passed::Whole => {
                self.record(Fact::Delivered { status, response: kept.response(status) }).await;
                let _ = sender.send(StreamChunk::End { trailers: None }).await;
            }
            // It was served; the entitlement allows a few more tries.
            Passed::ClientLeft => self.record(Fact::Delivered { status, response: None }).await,
            Passed::Broke(failure) => {
                tracing::warn!(%failure, channel = %self.sold.call.presented.channel, "upstream broke off a paid stream");
                self.record(Fact::Undelivered { status: Some(status) }).await;
            }
        }
    }

    /// Durable before the facilitator is asked to charge for it.
    async fn held(&self, status: u16, charge: Option<Amount>, response: Option<StoredResponse>) -> Result<(), Refusal> {
        self.step(Fact::Answered { status, charge, response }).await?;
        crash::point("remote_held");
        Ok(())
    }

    /// Asks until the charge is decided or the time is over, and books it. `kept`: with it the answer that is held counts as delivered.
    async fn charged(&self, charge: Option<Amount>, kept: bool) -> Result<ChargeReceipt, Refusal> {
        let (gateway, sold) = (self.gateway, self.sold);
        let cost = charge.unwrap_or(sold.call.accepted.amount);
        let receipt = self.asked_until(charge, cost).await?;
        crash::point("remote_settled");
        let fact = Fact::Charged { receipt: canonical::to_vec(&receipt) };
        let step = if kept { gateway.end(&sold.hold, fact).await } else { gateway.advance(&sold.hold.held, fact).await };
        done(step)?;
        crash::point("remote_charged");
        gateway.metrics.requests.paid.inc();
        gateway.metrics.charged_sompi.inc_by(cost.sompi());
        tracing::debug!(
            request_id = %sold.sale.reply.request_id,
            route = %sold.sale.route.id,
            channel = %sold.call.presented.channel,
            charge_sompi = cost.sompi(),
            ceiling_sompi = sold.call.accepted.amount.sompi(),
            "charged request at the facilitator",
        );
        Ok(receipt)
    }

    async fn asked_until(&self, charge: Option<Amount>, cost: Amount) -> Result<ChargeReceipt, Refusal> {
        let call = &self.sold.call.ask(Wanted::Charge(charge));
        let deadline = Instant::now() + self.pricing.settle_wait;
        let ask = |within| async move {
            let answer = self.sold.remote.call(Act::Settle, call, within).await;
            let channel = &self.sold.call.presented.channel;
            let answer = answer.inspect_err(|error| tracing::warn!(%error, %channel, "facilitator"))?;
            Ok(heard::settlement(&self.sold.call, cost, &answer))
        };
        let settlement = until_decided(deadline, ask).await.map_err(|undecided| match undecided {
            Undecided::Pending(why) => Refusal::new(Code::SettlementPending, why),
            Undecided::NotSent(why) => Refusal::new(Code::FacilitatorUnavailable, why),
            Undecided::NotOurs => Refusal::new(Code::FacilitatorUnavailable, ""),
        })?;
        match settlement {
            Ok(receipt) => Ok(*receipt),
            // Another request was quicker, or the channel is not what it was: the answer goes with the claim.
            Err(mut refusal) => {
                // The latest signature is for who holds the voucher that was sent, which whoever resumes has not shown.
                if let Some(correction) = refusal.correction.as_mut().filter(|_| self.sold.record.is_some()) {
                    correction.voucher.signature = None;
                }
                Err(if self.freed().await { refusal } else { Refusal::new(Code::SettlementPending, refusal.detail) })
            }
        }
    }

    /// Nothing was charged: whether the record is gone, so that the payment is good for another try.
    async fn freed(&self) -> bool {
        matches!(self.gateway.end(&self.sold.hold, Fact::Rejected).await, Ok(Advanced::Done))
    }

    async fn step(&self, fact: Fact) -> Result<(), Refusal> {
        done(self.gateway.advance(&self.sold.hold.held, fact).await)
    }

    /// The charge is booked already: a store that fails here costs at most another forward of the same payment.
    async fn record(&self, fact: Fact) {
        if let Err(refusal) = done(self.gateway.end(&self.sold.hold, fact).await) {
            tracing::error!(code = %refusal.code, channel = %self.sold.call.presented.channel, "delivery not recorded");
        }
    }

    /// The upstream's own failure goes to the client as it is, and costs nothing.
    async fn uncharged(&self, whole: Whole, reply: &mut Option<ReplySlot>) {
        self.freed().await;
        self.gateway.count_refusal(Code::UpstreamFailed);
        self.let_out(whole, &self.nothing_charged(Code::UpstreamFailed), reply);
    }

    async fn without_a_price(&self) -> Refusal {
        self.freed().await;
        self.not_charged(Refusal::new(Code::UpstreamFailed, "the answer does not say what it costs; nothing was charged"))
    }

    /// Says in the receipt that the voucher is still good.
    fn not_charged(&self, refusal: Refusal) -> Refusal {
        let receipt = self.nothing_charged(refusal.code);
        refusal.receipted(receipt)
    }

    fn nothing_charged(&self, code: Code) -> SettlementResponse {
        not_charged(self.sold.sale.policy.network, code, self.sold.state.as_ref())
    }

    fn kept(&self, Whole { status, headers, body, .. }: &Whole) -> Option<StoredResponse> {
        let headers = respond::keep_headers(headers, self.pricing.replay_cookies);
        // The result of a tool is kept however long it is: it was held whole anyway, and nobody can be charged for it again.
        let limit = self.sold.sale.call.as_ref().map_or(self.pricing.replay_limit, |call| call.limit);
        Some(StoredResponse { status: *status, headers, body: body.clone() }).filter(|_| body.len() <= limit)
    }

    fn let_out(&self, Whole { status, headers, body, said }: Whole, receipt: &SettlementResponse, reply: &mut Option<ReplySlot>) {
        let sale = &self.sold.sale;
        let answer = sale.reply.paid(status, headers, receipt, body);
        if let Some((call, said)) = sale.call.as_ref().zip(said) {
            call.say(said);
        }
        say(reply, Ok(Served::Answer(Box::new(answer))));
    }

    fn ceiling(&self) -> Amount {
        self.sold.sale.accepted.amount
    }

    /// As the facilitator is told: of a fixed price nothing.
    fn metered(&self, charge: Amount) -> Option<Amount> {
        matches!(self.terms.charge, ChargeRule::Metered(_)).then_some(charge)
    }
}

fn failed(failure: UpstreamFailure, more: &str) -> Refusal {
    let code = match failure {
        UpstreamFailure::Timeout => Code::UpstreamTimeout,
        UpstreamFailure::Connect | UpstreamFailure::Broken => Code::UpstreamFailed,
    };
    Refusal { retry_after_seconds: Some(1), ..Refusal::new(code, format!("{failure}{more}")) }
}

/// A step that must be durable before the next.
fn done(step: Result<Advanced, StoreError>) -> Result<(), Refusal> {
    match step {
        Ok(Advanced::Done) => Ok(()),
        Ok(Advanced::Stale) => Err(Refusal::new(Code::InFlight, "")),
        Ok(Advanced::Refused) => Err(Refusal::new(Code::SettlementPending, "the sale's record does not allow this step")),
        Err(_) => Err(Refusal::new(Code::StoreUnavailable, "")),
    }
}
