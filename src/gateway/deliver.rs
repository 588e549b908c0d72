//! Forwarding a settled payment and recording what became of it (PROTOCOL section 4, "Paid, not delivered").

use super::{
    answer::{Answer, Served, StreamChunk},
    crash,
    purchase::{Admitted, ReplySlot, say},
    respond::{self, Refusal},
    settle::Settled,
    upstream::{ReplyBody, UpstreamFailure, UpstreamReply, UpstreamRequest},
};
use crate::{
    protocol::{policy::Pricing, refusal::Code},
    store::{Advanced, Fact, StoredResponse},
    wire::{headers, messages::SettlementResponse},
};
use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST},
};
use tokio::{sync::mpsc, time::Instant};

/// Chunks of a streamed body that may wait for a slow client; beyond it the upstream is slowed down.
const STREAM_DEPTH: usize = 4;

/// One forward of one settled payment.
pub(super) struct Delivery<'a> {
    pub gateway: &'a super::Gateway,
    pub admitted: &'a Admitted,
    pub settled: &'a Settled,
}

/// For the log line.
pub(super) struct Outcome {
    pub status: u16,
    pub delivered: bool,
}

/// A whole body, or the part that was read before it had to stream.
enum Collected {
    Whole(Bytes),
    Streaming(Bytes),
}

impl Delivery<'_> {
    pub async fn run(self, reply: &mut Option<ReplySlot>) -> Outcome {
        if let Err(refusal) = self.gateway.step(self.admitted, Fact::Forwarding).await {
            let status = refusal.code.status();
            say(reply, Err(self.admitted.receipted(refusal)));
            self.gateway.release(self.admitted).await;
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
        let UpstreamReply { status, headers, mut body } = answered;
        let delivered = pricing.charge_on.delivered(status);
        match collect(&headers, body.as_mut(), pricing.replay_limit).await {
            Err(failure) => self.failed(failure, reply).await,
            Ok(Collected::Whole(body)) => {
                self.record_whole(status, &headers, &body, delivered, pricing).await;
                let answer = purchase.reply.paid(status, headers, &self.receipt(), body);
                say(reply, Ok(Served::Answer(Box::new(answer))));
                Outcome { status, delivered }
            }
            Ok(Collected::Streaming(first)) => {
                let kept_headers = respond::keep_headers(&headers, pricing.replay_cookies);
                let head = purchase.reply.paid(status, headers, &self.receipt(), Bytes::new());
                let kept = Kept { headers: kept_headers, body: first.is_empty().then(BytesMut::new), limit: pricing.replay_limit };
                self.stream(head, first, body.as_mut(), delivered, kept, reply).await
            }
        }
    }

    /// Durable before the response is let out, so that a crash in between forwards at most once more.
    async fn record_whole(&self, status: u16, headers: &HeaderMap, body: &Bytes, delivered: bool, pricing: &Pricing) {
        crash::point("answered");
        let fact = if delivered {
            let headers = respond::keep_headers(headers, pricing.replay_cookies);
            Fact::Delivered { status, response: Some(StoredResponse { status, headers, body: body.clone() }) }
        } else {
            Fact::Undelivered { status: Some(status) }
        };
        self.record(fact).await;
    }

    /// The charge is booked already: a store that fails here costs at most another forward of the
    /// same payment, so the payer still gets what was paid for.
    async fn record(&self, fact: Fact) {
        let txid = self.admitted.purchase.key().txid;
        match self.gateway.end(self.admitted, fact).await {
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
        let mut next = if first.is_empty() { body.chunk().await } else { Ok(Some(first)) };
        loop {
            match next {
                Ok(Some(chunk)) => {
                    kept.add(&chunk);
                    if sender.send(StreamChunk::Data(chunk)).await.is_err() {
                        // The client left a paid stream: it was served; the entitlement allows a few more tries.
                        let left = Fact::Delivered { status, response: None };
                        self.record(if delivered { left } else { Fact::Undelivered { status: Some(status) } }).await;
                        return Outcome { status, delivered };
                    }
                }
                Ok(None) => {
                    let fact = if delivered {
                        Fact::Delivered { status, response: kept.response(status) }
                    } else {
                        Fact::Undelivered { status: Some(status) }
                    };
                    self.record(fact).await;
                    let _ = sender.send(StreamChunk::End { trailers: None }).await;
                    return Outcome { status, delivered };
                }
                Err(failure) => {
                    tracing::warn!(%failure, txid = %self.admitted.purchase.key().txid, "upstream broke off a paid stream");
                    self.record(Fact::Undelivered { status: Some(status) }).await;
                    return Outcome { status, delivered: false };
                }
            }
            next = body.chunk().await;
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

    fn receipt(&self) -> SettlementResponse {
        self.settled.receipt.message()
    }

    /// The request as the upstream sees it: the client's, without what is the gateway's to say.
    fn request(&self) -> UpstreamRequest {
        let purchase = &self.admitted.purchase;
        let head = &purchase.request.head;
        let mut headers = forwarded_headers(&head.headers);
        if let Ok(host) = HeaderValue::try_from(head.host.as_str())
            && !headers.contains_key(HOST)
        {
            headers.insert(HOST, host);
        }
        let receipt = &self.settled.receipt;
        set(&mut headers, headers::REQUEST_ID, &purchase.reply.request_id);
        set(&mut headers, headers::AMOUNT, &receipt.amount.to_string());
        set(&mut headers, headers::TXID, &receipt.key.txid.to_string());
        set(&mut headers, headers::IDEMPOTENCY_KEY, &format!("kas402-{}", receipt.key.txid));
        if let Some(payer) = &receipt.payer {
            set(&mut headers, headers::PAYER, payer);
        }
        let path_and_query = match &head.query {
            Some(query) => format!("{}?{query}", head.path.as_str()),
            None => head.path.as_str().to_owned(),
        };
        UpstreamRequest {
            method: head.method.clone(),
            path_and_query,
            headers,
            body: purchase.request.body.clone(),
            timeout: purchase.route.timeout,
        }
    }
}

/// Overwrites, never appends.
fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

/// End-to-end headers of the client, without the reserved ones and the framing.
fn forwarded_headers(client: &HeaderMap) -> HeaderMap {
    let named: Vec<String> = client
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let forwarded = |name: &HeaderName| {
        !headers::hop_by_hop(name)
            && !headers::reserved(name)
            && name != CONTENT_LENGTH
            && name != EXPECT
            && ![headers::IDEMPOTENCY_KEY, headers::REQUEST_ID].iter().any(|ours| headers::dashed(name) == ours.as_str())
            && !named.iter().any(|n| n == name.as_str())
    };
    client.iter().filter(|(name, _)| forwarded(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Reads a body to its end, or up to the limit. An event stream is never held back.
async fn collect(headers: &HeaderMap, body: &mut dyn ReplyBody, limit: usize) -> Result<Collected, UpstreamFailure> {
    let events = headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().to_ascii_lowercase().starts_with(b"text/event-stream"));
    if events {
        return Ok(Collected::Streaming(Bytes::new()));
    }
    let mut collected = BytesMut::new();
    while let Some(chunk) = body.chunk().await? {
        collected.extend_from_slice(&chunk);
        if collected.len() > limit {
            return Ok(Collected::Streaming(collected.freeze()));
        }
    }
    Ok(Collected::Whole(collected.freeze()))
}

/// The copy of a streamed response for replays.
struct Kept {
    headers: Vec<(String, Vec<u8>)>,
    /// `None` once it is over the limit.
    body: Option<BytesMut>,
    limit: usize,
}

impl Kept {
    fn add(&mut self, chunk: &Bytes) {
        if let Some(body) = &mut self.body {
            if body.len() + chunk.len() > self.limit {
                self.body = None;
            } else {
                body.extend_from_slice(chunk);
            }
        }
    }

    fn response(self, status: u16) -> Option<StoredResponse> {
        let Self { headers, body, .. } = self;
        body.map(|body| StoredResponse { status, headers, body: body.freeze() })
    }
}
