//! Forwarding a settled payment and recording what became of it (PROTOCOL section 4, "Paid, not delivered").

use super::{
    answer::{Answer, Served, StreamChunk},
    crash,
    forward::{self, Collected, Kept, Passed, STREAM_DEPTH, collect},
    mcp::{ToolAnswer, ToolCall},
    purchase::{Admitted, ReplySlot, say},
    respond::{self, Refusal},
    settle::Settled,
    upstream::{ReplyBody, UpstreamFailure, UpstreamReply, UpstreamRequest},
};
use crate::{
    protocol::{
        policy::{Pricing, Upstream},
        refusal::Code,
    },
    store::{Advanced, Fact, StoredResponse},
    wire::{headers, messages::SettlementResponse},
};
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use tokio::{sync::mpsc, time::Instant};

/// One forward of one settled payment.
pub(super) struct Delivery<'a> {
    pub gateway: &'a super::Gateway,
    pub admitted: &'a Admitted,
    pub settled: &'a Settled,
}

/// For the log line.
pub(in crate::gateway) struct Outcome {
    pub status: u16,
    pub delivered: bool,
}

impl Delivery<'_> {
    pub async fn run(self, reply: &mut Option<ReplySlot>) -> Outcome {
        if let Err(refusal) = self.gateway.step(self.admitted, Fact::Forwarding).await {
            let status = refusal.code.status();
            say(reply, Err(self.admitted.receipted(refusal)));
            self.gateway.release(&self.admitted.hold).await;
            return Outcome { status, delivered: false };
        }
        if let Some(released_at) = self.settled.released_at {
            self.gateway.metrics.release_seconds.observe(released_at.elapsed().as_secs_f64());
        }
        let started = Instant::now();
        let outcome = self.forward(reply).await;
        self.gateway.metrics.upstream_seconds.observe(started.elapsed().as_secs_f64());
        self.gateway.metrics.requests.paid.inc();
        outcome
    }

    async fn forward(&self, reply: &mut Option<ReplySlot>) -> Outcome {
        let purchase = &self.admitted.purchase;
        let (Some(pricing), Some(upstream)) = (purchase.pricing(), purchase.policy.upstreams.get(&purchase.route.upstream)) else {
            // The compiler of the configuration refuses a route without its upstream.
            return self.failed(UpstreamFailure::Connect, reply).await;
        };
        let answered = match self.gateway.upstreams.send(upstream, self.request()).await {
            Ok(answered) => answered,
            Err(failure) => return self.failed(failure, reply).await,
        };
        if let Some(call) = &purchase.call {
            return self.call(call, upstream, answered, pricing, reply).await;
        }
        let UpstreamReply { status, headers, mut body } = answered;
        let delivered = pricing.charge_on.delivered(status);
        match collect(&headers, body.as_mut(), pricing.replay_limit).await {
            Err(failure) => self.failed(failure, reply).await,
            Ok(Collected::Whole(body)) => {
                self.record_whole(status, &headers, &body, delivered, pricing, pricing.replay_limit).await;
                let answer = purchase.reply.paid(status, headers, &self.receipt(delivered), body);
                say(reply, Ok(Served::Answer(Box::new(answer))));
                Outcome { status, delivered }
            }
            Ok(Collected::Streaming(first)) => {
                let kept_headers = respond::keep_headers(&headers, pricing.replay_cookies);
                let head = purchase.reply.paid(status, headers, &self.receipt(delivered), Bytes::new());
                let kept = Kept { headers: kept_headers, body: first.is_empty().then(BytesMut::new), limit: pricing.replay_limit };
                self.stream(head, first, body.as_mut(), delivered, kept, reply).await
            }
        }
    }

    /// The same of a tool: its result is held until it is recorded, however it arrives.
    async fn call(
        &self,
        call: &ToolCall,
        upstream: &Upstream,
        answered: UpstreamReply,
        pricing: &Pricing,
        reply: &mut Option<ReplySlot>,
    ) -> Outcome {
        let ToolAnswer { said, status, headers, body, served } =
            match call.answer(self.gateway.upstreams.as_ref(), upstream, &self.request(), answered).await {
                Ok(answer) => answer,
                Err(failure) => return self.failed(failure, reply).await,
            };
        // Kept however long it is: it was held whole anyway, and a tool that runs again for the same payment answers something else.
        self.record_whole(status, &headers, &body, served, pricing, call.limit).await;
        let answer = self.admitted.purchase.reply.paid(status, headers, &self.receipt(served), body);
        call.say(said);
        say(reply, Ok(Served::Answer(Box::new(answer))));
        Outcome { status, delivered: served }
    }

    /// Durable before the response is let out, so that a crash in between forwards at most once more.
    async fn record_whole(&self, status: u16, headers: &HeaderMap, body: &Bytes, delivered: bool, pricing: &Pricing, limit: usize) {
        crash::point("answered");
        let fact = if delivered {
            let headers = respond::keep_headers(headers, pricing.replay_cookies);
            let response = StoredResponse { status, headers, body: body.clone() };
            Fact::Delivered { status, response: Some(response).filter(|_| body.len() <= limit) }
        } else {
            Fact::Undelivered { status: Some(status) }
        };
        self.record(fact).await;
    }

    /// The charge is booked already: a store that fails here costs at most another forward of the
    /// same payment, so the payer still gets what was paid for.
    async fn record(&self, fact: Fact) {
        let txid = self.admitted.purchase.key().txid;
        match self.gateway.end(&self.admitted.hold, fact).await {
            Ok(Advanced::Done) => {}
            Ok(refused) => tracing::error!(?refused, %txid, "delivery not recorded"),
            Err(error) => tracing::error!(%error, %txid, "delivery not recorded"),
        }
    }

    async fn stream(
        &self,
        head: Answer,
        first: Bytes,
        body: &mut dyn ReplyBody,
        delivered: bool,
        mut kept: Kept,
        reply: &mut Option<ReplySlot>,
    ) -> Outcome {
        let status = head.status;
        let (sender, receiver) = mpsc::channel(STREAM_DEPTH);
        say(reply, Ok(Served::Stream { head, body: receiver }));
        let undelivered = Fact::Undelivered { status: Some(status) };
        match forward::pass(first, body, &mut kept, &sender).await {
            Passed::Whole => {
                self.record(if delivered { Fact::Delivered { status, response: kept.response(status) } } else { undelivered }).await;
                let _ = sender.send(StreamChunk::End { trailers: None }).await;
                Outcome { status, delivered }
            }
            // It was served; the entitlement allows a few more tries.
            Passed::ClientLeft => {
                self.record(if delivered { Fact::Delivered { status, response: None } } else { undelivered }).await;
                Outcome { status, delivered }
            }
            Passed::Broke(failure) => {
                tracing::warn!(%failure, txid = %self.admitted.purchase.key().txid, "upstream broke off a paid stream");
                self.record(undelivered).await;
                Outcome { status, delivered: false }
            }
        }
    }

    async fn failed(&self, failure: UpstreamFailure, reply: &mut Option<ReplySlot>) -> Outcome {
        let code = match failure {
            UpstreamFailure::Timeout => Code::UpstreamTimeout,
            UpstreamFailure::Connect | UpstreamFailure::Broken => Code::UpstreamFailed,
        };
        self.record(Fact::Undelivered { status: None }).await;
        self.gateway.count_refusal(code);
        let purchase = &self.admitted.purchase;
        let refusal = Refusal { retry_after_seconds: Some(1), ..purchase.refusal(code, failure.to_string()) };
        let answer = purchase.reply.refuse(&self.admitted.receipted(refusal));
        say(reply, Ok(Served::Answer(Box::new(answer))));
        Outcome { status: code.status(), delivered: false }
    }

    fn receipt(&self, delivered: bool) -> SettlementResponse {
        if delivered { self.settled.receipt.message() } else { self.settled.receipt.undelivered() }
    }

    fn request(&self) -> UpstreamRequest {
        let purchase = &self.admitted.purchase;
        let receipt = &self.settled.receipt;
        let key = format!("kas402-{}", receipt.key.txid);
        let mut request = forward::request(&purchase.request, &purchase.route, &purchase.reply.request_id, receipt.amount, &key);
        if purchase.call.is_some() {
            // A tool may think for as long as its route allows, with its head out already.
            request.silence = Some(request.timeout);
        }
        forward::set(&mut request.headers, headers::TXID, &receipt.key.txid.to_string());
        if let Some(payer) = &receipt.payer {
            forward::set(&mut request.headers, headers::PAYER, payer);
        }
        request
    }
}
