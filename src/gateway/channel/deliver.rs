//! Forwarding a request that a channel pays for, and charging it (PROTOCOL section 5).
//!
//! A held body is charged before it is let out. What has to stream is reserved first, durably, and posted at its end,
//! however it ends; what a dead gateway left is posted by whoever leases the channel next.

use super::{
    correct,
    meter::{Charged, Ending, MeterReader},
    receipts::{self, ChargeFacts},
    serve::{Admission, ChannelSale, ReplySlot, unusable},
    sse,
};
use crate::{
    binding::escrow_v1::{
        hashes::{BatchTerms, Commitment},
        state::Authorised,
    },
    gateway::{
        Gateway,
        answer::{Answer, Served, StreamChunk},
        crash,
        facilitate::Goal,
        forward::{self, Collected, Kept, STREAM_DEPTH, collect},
        mcp::{Said, ToolAnswer, ToolCall},
        respond::{self, Refusal},
        sell,
        upstream::{ReplyBody, UpstreamFailure, UpstreamReply, UpstreamRequest},
    },
    protocol::{
        amount::Amount,
        charge::ChargeRule,
        ids::ChannelId,
        policy::{ChannelTerms, Pricing, Upstream},
        refusal::Code,
        requirements::EscrowExtra,
    },
    store::{
        StoredResponse,
        channels::{ChannelFact, ChannelRecord, ChannelStep, Charge, ChargeTerms, Lease, OpenStream},
    },
    wire::{header, headers, messages::SettlementResponse},
};
use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderValue,
    header::{ACCEPT_ENCODING, TRAILER},
};
use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{sync::mpsc, time::Instant};

/// How often the meter of a stream is made durable: a crash loses at most what it moved in between.
const METER_EVERY: Duration = Duration::from_secs(1);
/// Last bytes of a stream that tell where its final event may begin.
const TAIL: usize = 4;
/// A client that kept a stream waiting so long, all in all, pays when the API gives up in its middle: it could make any API do so.
const CLIENT_WAITS: Duration = Duration::from_secs(5);

/// Answers once; a client that went away is no error.
pub(super) fn say(reply: &mut Option<ReplySlot>, answer: Result<Served, Refusal>) {
    if let Some(reply) = reply.take() {
        let _ = reply.send(answer);
    }
}

impl Gateway {
    /// The record after the charge; `None` when nothing was charged.
    pub(super) async fn deliver_from_channel(&self, admission: &Admission, reply: &mut Option<ReplySlot>) -> Option<Arc<ChannelRecord>> {
        if reply.as_ref().is_none_or(ReplySlot::is_closed) {
            // Nobody listens any more: the upstream is spared.
            self.end_lease(admission).await;
            return None;
        }
        let sale = &admission.sale;
        let Some((pricing, _, terms, extra)) = sale.parts() else {
            self.end_lease(admission).await;
            return None;
        };
        let delivery = Delivery { gateway: self, admission, pricing, terms, extra };
        let started = Instant::now();
        let outcome = match sale.goal {
            Goal::Forward => delivery.forward(reply).await,
            Goal::Report { .. } => Box::pin(delivery.report(reply)).await,
        };
        self.metrics.upstream_seconds.observe(started.elapsed().as_secs_f64());
        match outcome {
            Ok(Done { record, charge, status }) => {
                self.metrics.requests.paid.inc();
                self.metrics.charged_sompi.inc_by(charge.sompi());
                // There may be thousands a second, and each is a row of the ledger.
                tracing::debug!(
                    request_id = %sale.reply.request_id,
                    route = %sale.route.id,
                    channel = %record.id,
                    charge_sompi = charge.sompi(),
                    ceiling_sompi = sale.accepted.amount.sompi(),
                    status,
                    total_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
                    "charged request",
                );
                Some(record)
            }
            Err(refusal) => {
                say(reply, Err(refusal));
                None
            }
        }
    }

    async fn end_lease(&self, admission: &Admission) {
        admission.over.store(true, Ordering::Relaxed);
        self.release_lease(&admission.lease).await;
    }

    /// The durable step. Nothing is let out unless it answers.
    async fn commit(&self, lease: &Lease, charge: Charge) -> Result<Arc<ChannelRecord>, Refusal> {
        let step = self.ask(self.store.advance_channel(lease, ChannelFact::Committed(Box::new(charge)), self.now())).await;
        match step.map_err(unusable)? {
            ChannelStep::Done(record) => Ok(record),
            ChannelStep::Stale => Err(Refusal::new(Code::LeaseLost, "another request took the channel")),
            ChannelStep::Refused => match self.ask(self.store.channel(lease.channel())).await {
                Ok(Some(record)) if record.closure.is_some() => Err(Refusal::new(Code::ChannelClosed, "its money was spent on chain")),
                _ => Err(Refusal::new(Code::LeaseLost, "the channel moved on")),
            },
        }
    }
}

/// A charge over the record as the lease holds it.
fn charge_of(
    record: &ChannelRecord,
    terms: ChargeTerms,
    requirements_hash: [u8; 32],
    charge: Amount,
    status: u16,
    response: Option<StoredResponse>,
) -> Charge {
    // A stream commits to the accounts it began with, whatever the chain did meanwhile.
    let stream = record.stream.as_ref().map(|stream| (stream.charged_before, stream.claimed));
    let (charged_before, claimed) = stream.unwrap_or((record.parts.charged, record.parts.claimed));
    let commitment = Commitment {
        channel: record.id,
        request_hash: terms.request_hash,
        requirements_hash,
        outpoint: terms.outpoint,
        voucher: terms.voucher,
        charge,
        charged_before,
        // What overflows is refused by the store, which adds it up itself.
        charged_after: charged_before.checked_add(charge).unwrap_or(charged_before),
        claimed,
    };
    Charge { terms, charge, commitment: commitment.id(), charged_before, claimed, status, response }
}

/// What became of a request that was charged.
struct Done {
    record: Arc<ChannelRecord>,
    charge: Amount,
    status: u16,
}

struct Delivery<'a> {
    gateway: &'a Gateway,
    admission: &'a Admission,
    pricing: &'a Pricing,
    terms: &'a ChannelTerms,
    extra: &'a EscrowExtra,
}

impl Delivery<'_> {
    async fn forward(&self, reply: &mut Option<ReplySlot>) -> Result<Done, Refusal> {
        let sale = &self.admission.sale;
        let Some(upstream) = sale.policy.upstreams.get(&sale.route.upstream) else {
            // The compiler of the configuration refuses a route without its upstream.
            return Err(Box::pin(self.failed(UpstreamFailure::Connect)).await);
        };
        let sent = self.gateway.upstreams.send(upstream, self.request()).await;
        let answered = match sent {
            Ok(answered) => answered,
            Err(failure) => return Err(Box::pin(self.failed(failure)).await),
        };
        crash::point("channel_answered");
        if let Some(call) = &sale.call {
            // Boxed, as all that is rare on this path: a charge of a whole body must not make room for it.
            return Box::pin(self.call(call, upstream, answered, reply)).await;
        }
        let UpstreamReply { status, headers, mut body } = answered;
        if !self.pricing.charge_on.delivered(status) {
            return Err(Box::pin(self.undelivered(status, headers, body, reply)).await);
        }
        let collected = tokio::select! {
            biased;
            collected = collect(&headers, body.as_mut(), self.pricing.replay_limit) => collected,
            () = self.last_call() => Err(UpstreamFailure::Timeout),
        };
        match collected {
            Err(failure) => Err(Box::pin(self.failed(failure)).await),
            Ok(Collected::Whole(body)) => self.whole(status, headers, body, reply).await,
            Ok(Collected::Streaming(first)) => Box::pin(self.stream(status, headers, first, body.as_mut(), reply)).await,
        }
    }

    /// The upstream answered with what costs nothing.
    async fn undelivered(&self, status: u16, headers: HeaderMap, mut body: Box<dyn ReplyBody>, reply: &mut Option<ReplySlot>) -> Refusal {
        match collect(&HeaderMap::new(), body.as_mut(), self.pricing.replay_limit).await {
            Ok(Collected::Whole(body)) => self.uncharged(status, headers, body, None, reply).await,
            Ok(Collected::Streaming(_)) => self.failed(UpstreamFailure::Broken).await,
            Err(failure) => self.failed(failure).await,
        }
    }

    /// For a tenant: what it names is charged, or the whole amount, and the receipt is the answer.
    async fn report(&self, reply: &mut Option<ReplySlot>) -> Result<Done, Refusal> {
        let sale = &self.admission.sale;
        let charge = sale.charge.unwrap_or(sale.accepted.amount);
        let (record, facts) = self.charge(charge, 200, None, &self.admission.record).await?;
        crash::point("channel_charged");
        let charge = facts.charge;
        let receipt = facts.message(self.admission.sale.policy.network, None);
        say(reply, Ok(Served::Answer(Box::new(self.admission.sale.reply.receipt(&receipt)))));
        Ok(Done { record, charge, status: 200 })
    }

    fn request(&self) -> UpstreamRequest {
        forwarded(&self.admission.sale, &self.admission.record.id, self.terms)
    }

    /// A call of a tool: its result is held until it is charged, however it arrives and whoever still listens.
    async fn call(
        &self,
        call: &ToolCall,
        upstream: &Upstream,
        answered: UpstreamReply,
        reply: &mut Option<ReplySlot>,
    ) -> Result<Done, Refusal> {
        let request = self.request();
        let answer = tokio::select! {
            biased;
            answer = call.answer(self.gateway.upstreams.as_ref(), upstream, &request, answered) => answer,
            () = self.last_call() => Err(UpstreamFailure::Timeout),
        };
        match answer {
            Err(failure) => Err(self.failed(failure).await),
            Ok(ToolAnswer { status, headers, body, served: true, .. }) => self.whole(status, headers, body, reply).await,
            Ok(ToolAnswer { said, status, headers, body, .. }) => Err(self.uncharged(status, headers, body, Some(said), reply).await),
        }
    }

    async fn whole(&self, status: u16, headers: HeaderMap, body: Bytes, reply: &mut Option<ReplySlot>) -> Result<Done, Refusal> {
        let ceiling = self.admission.sale.accepted.amount;
        let charge = match MeterReader::whole(&self.terms.charge, ceiling, &headers, &body) {
            Charged::Amount(charge) => charge,
            Charged::Refused => {
                self.gateway.end_lease(self.admission).await;
                let refusal = Refusal::new(Code::UpstreamFailed, "the answer does not say what it costs; nothing was charged");
                return Err(self.not_charged(refusal));
            }
        };
        let kept = respond::keep_headers(&headers, self.pricing.replay_cookies);
        // The result of a tool is kept however long it is: it was held whole anyway, and nobody can be charged for it again.
        let limit = self.admission.sale.call.as_ref().map_or(self.pricing.replay_limit, |call| call.limit);
        let response = Some(StoredResponse { status, headers: kept, body: body.clone() }).filter(|_| body.len() <= limit);
        let (record, facts) = self.charge(charge, status, response, &self.admission.record).await?;
        crash::point("channel_charged");
        let receipt = self.receipt(facts);
        let answer = self.admission.sale.reply.paid(status, headers, &receipt, body);
        if let Some(call) = &self.admission.sale.call {
            call.say(Said::Result);
        }
        say(reply, Ok(Served::Answer(Box::new(answer))));
        Ok(Done { record, charge, status })
    }

    async fn stream(
        &self,
        status: u16,
        headers: HeaderMap,
        first: Bytes,
        body: &mut dyn ReplyBody,
        reply: &mut Option<ReplySlot>,
    ) -> Result<Done, Refusal> {
        let sale = &self.admission.sale;
        let ceiling = sale.accepted.amount;
        let mut meter = MeterReader::new(&self.terms.charge, ceiling, &headers);
        let reserved = self.reserve(&meter, status).await?;
        self.admission.streams.store(true, Ordering::Relaxed);
        crash::point("stream_reserved");
        self.gateway.channels.exposure.set(&reserved);
        let events = sse::takes_final_event(&headers);
        let kept_headers = respond::keep_headers(&headers, self.pricing.replay_cookies);
        let mut kept = Kept { headers: kept_headers, body: first.is_empty().then(BytesMut::new), limit: self.pricing.replay_limit };
        let mut head = sale.reply.paid(status, headers, &self.provisional(&reserved), Bytes::new());
        // Where the client's protocol has trailers.
        head.headers.insert(TRAILER, HeaderValue::from_static(headers::PAYMENT_RESPONSE_NAME));
        if events {
            // One event more than the upstream counted.
            head.headers.remove(http::header::CONTENT_LENGTH);
        }
        let (sender, receiver) = mpsc::channel(STREAM_DEPTH);
        say(reply, Ok(Served::Stream { head, body: receiver }));
        let (ending, tail) = self.pump(&mut meter, &mut kept, first, body, &sender).await;
        crash::point("stream_ended");
        let unknown = meter.unknown_in_stream();
        let charge = meter.finish(ending).amount_or(unknown);
        let response = if ending == Ending::Complete { kept.response(status) } else { None };
        let (record, facts) = match self.charge(charge, status, response, &reserved).await {
            Ok(charged) => charged,
            Err(refusal) => {
                // The reservation stays, and whoever leases the channel next posts it. The client sees a cut stream.
                tracing::error!(channel = %self.admission.record.id, code = %refusal.code, "the end of a stream could not be charged");
                return Err(refusal);
            }
        };
        if ending == Ending::Complete {
            let receipt = self.receipt(facts);
            if events {
                let event = sse::final_event(&serde_json::to_string(&receipt).unwrap_or_default(), &tail);
                let _ = sender.send(StreamChunk::Data(event)).await;
            }
            let mut trailers = HeaderMap::new();
            trailers.insert(headers::PAYMENT_RESPONSE, header::encode_sorted(&receipt));
            let _ = sender.send(StreamChunk::End { trailers: Some(Box::new(trailers)) }).await;
        }
        Ok(Done { record, charge, status })
    }

    /// Passes the body on until it ends, breaks off, or nobody listens; the last bytes of it.
    async fn pump(
        &self,
        meter: &mut MeterReader,
        kept: &mut Kept,
        first: Bytes,
        body: &mut dyn ReplyBody,
        sender: &mpsc::Sender<StreamChunk>,
    ) -> (Ending, Vec<u8>) {
        let mut tail = Vec::new();
        let (mut durable, mut read_at, mut waited) = (None, Instant::now(), Duration::ZERO);
        let mut last_call = pin!(self.last_call());
        let mut next = if first.is_empty() { None } else { Some(first) };
        loop {
            let chunk = match next.take() {
                Some(chunk) => chunk,
                None => tokio::select! {
                    biased;
                    () = sender.closed() => return (Ending::ClientLeft, tail),
                    () = &mut last_call => return (Ending::ClientLeft, tail),
                    chunk = body.chunk() => match chunk {
                        Ok(Some(chunk)) => chunk,
                        Ok(None) => return (Ending::Complete, tail),
                        Err(failure) => {
                            tracing::warn!(%failure, channel = %self.admission.record.id, "upstream broke off a charged stream");
                            return (if waited < CLIENT_WAITS { Ending::UpstreamBroke } else { Ending::ClientLeft }, tail);
                        }
                    },
                },
            };
            meter.chunk(&chunk);
            kept.add(&chunk);
            remember(&mut tail, &chunk);
            let offered = Instant::now();
            let taken = tokio::select! {
                biased;
                sent = sender.send(StreamChunk::Data(chunk)) => sent.is_ok(),
                () = &mut last_call => false,
            };
            if !taken {
                return (Ending::ClientLeft, tail);
            }
            waited += offered.elapsed();
            let reading = meter.reading();
            if reading != durable && read_at.elapsed() >= METER_EVERY {
                (durable, read_at) = (reading, Instant::now());
                if let Some(reading) = reading {
                    // A reading that is not stored costs accuracy after a crash, nothing else.
                    let fact = ChannelFact::Metered { reading };
                    let step = self.gateway.ask(self.gateway.store.advance_channel(&self.admission.lease, fact, self.gateway.now())).await;
                    if matches!(step, Ok(ChannelStep::Stale | ChannelStep::Refused)) {
                        // Somebody else posted it: nothing that flows from here on would be charged.
                        return (Ending::ClientLeft, tail);
                    }
                }
            }
        }
    }

    async fn reserve(&self, meter: &MeterReader, status: u16) -> Result<Arc<ChannelRecord>, Refusal> {
        let gateway = self.gateway;
        let open = OpenStream {
            terms: self.charge_terms(),
            charged_before: self.admission.record.parts.charged,
            claimed: self.admission.record.parts.claimed,
            funding: self.admission.record.parts.funding,
            reading: None,
            unknown: meter.unknown_in_stream(),
            status,
            began_at: gateway.now(),
        };
        let step = gateway.ask(gateway.store.advance_channel(&self.admission.lease, ChannelFact::Reserved(Box::new(open)), gateway.now()));
        let refusal = match step.await {
            Ok(ChannelStep::Done(record)) => return Ok(record),
            Ok(ChannelStep::Stale) => Refusal::new(Code::LeaseLost, "another request took the channel"),
            Ok(ChannelStep::Refused) => Refusal::new(Code::LeaseLost, "the channel moved on"),
            Err(error) => unusable(error),
        };
        // Durable perhaps: of what was never sent nothing may be charged.
        gateway.end_lease(self.admission).await;
        Err(refusal)
    }

    /// Ends when the refund is so near that the channel has to be claimed: half of the lead is left for what began before it, and
    /// half for the claim. A client that reads slowly, or an API that never ends, must not keep the lease beyond.
    async fn last_call(&self) {
        let (sale, timeout) = (&self.admission.sale, self.admission.record.config.refund_timeout_daa);
        let lead = sale.policy.channels.as_ref().map_or(0, |rules| rules.refund_lead_daa);
        let last = timeout.saturating_sub(lead / 2);
        if self.gateway.chain.tip().wait_for(|tip| tip.daa_score >= last).await.is_err() {
            // A chain that went away says nothing any more.
            std::future::pending::<()>().await;
        }
    }

    /// Ends the lease with a charge over `before`, the record as the lease holds it.
    async fn charge(
        &self,
        charge: Amount,
        status: u16,
        response: Option<StoredResponse>,
        before: &ChannelRecord,
    ) -> Result<(Arc<ChannelRecord>, ChargeFacts), Refusal> {
        let terms = self.charge_terms();
        let requirements_hash = terms.requirements_hash;
        let charge = charge_of(before, terms, requirements_hash, charge, status, response);
        let (commitment, amount) = (charge.commitment, charge.charge);
        self.admission.over.store(true, Ordering::Relaxed);
        let record = self.gateway.commit(&self.admission.lease, charge).await?;
        let facts = ChargeFacts {
            commitment,
            charge: amount,
            state: correct::state(&record, &self.admission.script),
            deposit: self.admission.deposit.then_some((record.deposit.outpoint, record.deposit.funding)),
        };
        Ok((record, facts))
    }

    fn charge_terms(&self) -> ChargeTerms {
        let sale = &self.admission.sale;
        let Authorised { ceiling, .. } = self.admission.voucher.authorised();
        ChargeTerms {
            identifier: sale.identifier.clone(),
            nonce: sale.offer.nonce,
            identity: sale.identity,
            request_hash: sale.request_hash,
            requirements_hash: BatchTerms::of(&sale.accepted, self.extra).hash(),
            outpoint: self.admission.voucher.outpoint(),
            voucher: *self.admission.voucher.voucher(),
            ceiling,
            route: sale.route.id.clone(),
            summary: sell::summary(&sale.request.head, sale.call.as_deref()),
        }
    }

    fn receipt(&self, facts: ChargeFacts) -> SettlementResponse {
        facts.message(self.admission.sale.policy.network, self.gateway.renewed(&self.admission.sale))
    }

    fn provisional(&self, reserved: &ChannelRecord) -> SettlementResponse {
        let sale = &self.admission.sale;
        let url = receipts::url(&sale.route.origin, &reserved.id, &sale.identifier);
        let state = correct::state(reserved, &self.admission.script);
        receipts::provisional(sale.policy.network, sale.accepted.amount, &state, &url)
    }

    /// The upstream's own failure goes to the client as it is, and costs nothing.
    async fn uncharged(&self, status: u16, headers: HeaderMap, body: Bytes, said: Option<Said>, reply: &mut Option<ReplySlot>) -> Refusal {
        self.gateway.end_lease(self.admission).await;
        let refusal = self.not_charged(Refusal::new(Code::UpstreamFailed, format!("the upstream answered {status}; nothing was charged")));
        self.gateway.count_refusal(refusal.code);
        let receipt = refusal.receipt.as_deref().cloned();
        if let Some(receipt) = receipt {
            let answer: Answer = self.admission.sale.reply.paid(status, headers, &receipt, body);
            if let Some((call, said)) = self.admission.sale.call.as_ref().zip(said) {
                call.say(said);
            }
            say(reply, Ok(Served::Answer(Box::new(answer))));
        }
        refusal
    }

    async fn failed(&self, failure: UpstreamFailure) -> Refusal {
        self.gateway.end_lease(self.admission).await;
        let code = match failure {
            UpstreamFailure::Timeout => Code::UpstreamTimeout,
            UpstreamFailure::Connect | UpstreamFailure::Broken => Code::UpstreamFailed,
        };
        let refusal = Refusal::new(code, format!("{failure}; nothing was charged"));
        self.not_charged(Refusal { retry_after_seconds: Some(1), ..refusal })
    }

    /// Says in the receipt that the voucher is still good.
    fn not_charged(&self, refusal: Refusal) -> Refusal {
        let admission = self.admission;
        let state = correct::state(&admission.record, &admission.script);
        let receipt = receipts::not_charged(admission.sale.policy.network, refusal.code, Some(&state));
        refusal.receipted(receipt)
    }
}

/// What the upstream gets of a request that a channel pays for.
pub(in crate::gateway) fn forwarded(sale: &ChannelSale, channel: &ChannelId, terms: &ChannelTerms) -> UpstreamRequest {
    let key = format!("kas402-{channel}-{}", sale.identifier.as_str());
    let mut request = forward::request(&sale.request, &sale.route, &sale.reply.request_id, sale.accepted.amount, &key);
    if sale.call.is_some() {
        // A tool may think for as long as its route allows, with its head out already.
        request.silence = Some(request.timeout);
    }
    forward::set(&mut request.headers, headers::CHANNEL, &channel.to_string());
    if matches!(terms.charge, ChargeRule::Metered(_)) {
        // A compressed answer cannot be metered.
        request.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    request
}

fn remember(tail: &mut Vec<u8>, chunk: &[u8]) {
    tail.extend_from_slice(&chunk[chunk.len().saturating_sub(TAIL)..]);
    tail.drain(..tail.len().saturating_sub(TAIL));
}
