//! Building complete answers: offers, refusals, receipts, replays (PROTOCOL sections 1 and 6).

use super::{answer::Answer, quote::Correction};
use crate::{
    protocol::{
        amount::Amount,
        ids::TxId,
        network::Network,
        policy::{Cors, Pricing},
        refusal::{Code, Offers},
        requirements::{Finality, Requirements},
    },
    store::{Acceptance, PaymentKey, PaymentRecord, StoredResponse},
    wire::{
        canonical, cors,
        envelope::Fault,
        header, headers, identifier,
        messages::{self, OfferExtensions, PaymentRequired, Resource, SettlementResponse, X402_VERSION},
    },
};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, CACHE_CONTROL, CONTENT_TYPE, ORIGIN,
        RETRY_AFTER, SET_COOKIE,
    },
};
use serde_json::{Map, Value, json};

/// A refusal with everything its answer needs.
#[derive(Debug)]
pub(super) struct Refusal {
    pub code: Code,
    pub detail: String,
    /// Whenever a transaction was presented and understood.
    pub payment: Option<(Network, TxId)>,
    /// What the presented payment says it is on, where it names a network at all.
    pub network: Option<Network>,
    pub retry_after_seconds: Option<u32>,
    /// Further members of `extensions.kaspa`.
    pub kaspa: Map<String, Value>,
    /// The payment is settled all the same: its receipt is sent instead of a failure.
    pub receipt: Option<Box<SettlementResponse>>,
    /// What the holder of a channel's key is told in the offers that follow.
    pub correction: Option<Box<Correction>>,
}

impl Refusal {
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            payment: None,
            network: None,
            retry_after_seconds: retry_after(code),
            kaspa: Map::new(),
            receipt: None,
            correction: None,
        }
    }

    /// The payment is settled all the same; the receipt says why this is not what was paid for.
    pub fn settled(self, receipt: &ReceiptFacts) -> Self {
        let code = self.code;
        self.receipted(receipt.refused(code))
    }

    pub fn receipted(mut self, receipt: SettlementResponse) -> Self {
        self.receipt = Some(Box::new(receipt));
        self
    }

    pub fn corrected(mut self, correction: Correction) -> Self {
        self.correction = Some(Box::new(correction));
        self
    }

    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.kaspa.insert(name.to_owned(), value.into());
        self
    }

    pub fn of(mut self, network: Network, txid: TxId) -> Self {
        self.payment = Some((network, txid));
        self
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::new(fault.code, fault.detail)
    }
}

const fn retry_after(code: Code) -> Option<u32> {
    match code {
        Code::InFlight | Code::SettlementPending | Code::Overloaded => Some(1),
        Code::ChannelBusy | Code::DepositNotConfirmed | Code::DepositReorganised | Code::LeaseLost => Some(1),
        Code::ExposureLimit => Some(10),
        Code::StoreUnavailable | Code::NodeUnavailable | Code::FacilitatorUnavailable => Some(5),
        _ => None,
    }
}

/// What every answer to one request shares.
#[derive(Clone)]
pub(super) struct Reply {
    cors: Cors,
    /// Those of the request's own headers that CORS reads.
    request: HeaderMap,
    pub request_id: String,
}

impl Reply {
    pub fn new(cors: &Cors, request: &HeaderMap, request_id: String) -> Self {
        let mut kept = HeaderMap::new();
        // Copying all of them would cost every request; only browsers send these.
        for name in [ORIGIN, ACCESS_CONTROL_REQUEST_METHOD, ACCESS_CONTROL_REQUEST_HEADERS] {
            for value in request.get_all(&name) {
                kept.append(&name, value.clone());
            }
        }
        Self { cors: cors.clone(), request: kept, request_id }
    }

    /// A refusal without offers.
    pub fn refuse(&self, refusal: &Refusal) -> Answer {
        debug_assert!(refusal.code.offers() == Offers::Never || refusal.code.status() == 400);
        let mut answer = self.json(refusal.code.status(), self.words(refusal).to_string().into_bytes());
        self.mark(&mut answer, refusal);
        answer
    }

    /// A refusal with fresh offers: a 402, or a 400 that says what is wrong with the payment.
    pub fn offer(&self, refusal: &Refusal, resource: Resource, accepts: Vec<Requirements>, pricing: &Pricing) -> Answer {
        let (error, kaspa) = match refusal.code {
            Code::PaymentRequired => (refusal.code.meaning().into(), None),
            code => (format!("{code}: {}", refusal.detail).into(), Some(json!({ "reason": code.as_str() }))),
        };
        let message = PaymentRequired {
            accepts,
            error: Some(error),
            extensions: OfferExtensions { kaspa, payment_identifier: identifier::advertise(pricing.require_identifier) },
            resource,
            x402_version: X402_VERSION,
        };
        let message = canonical::sorted_to_vec(&message);
        let offer = header::wrap(&message);
        let mut answer = self.json(refusal.code.status(), message);
        answer.headers.insert(headers::PAYMENT_REQUIRED, offer);
        self.mark(&mut answer, refusal);
        answer
    }

    /// The answer to a CORS preflight, or to any other OPTIONS on a priced path.
    pub fn preflight(&self) -> Answer {
        let headers = cors::preflight(&self.cors, &self.request);
        Answer { status: 204, headers, body: Bytes::new(), close: false }
    }

    /// The head of a paid response: the upstream's, with the receipt.
    pub fn paid(&self, status: u16, upstream: HeaderMap, receipt: &SettlementResponse, body: Bytes) -> Answer {
        let mut headers = self.unpaid(upstream);
        headers.insert(headers::PAYMENT_RESPONSE, header::encode_sorted(receipt));
        let mut answer = Answer { status, headers, body, close: false };
        self.finish(&mut answer.headers);
        answer
    }

    /// The head of what nobody paid for: the upstream's, without what is the gateway's to say.
    pub fn unpaid(&self, upstream: HeaderMap) -> HeaderMap {
        let mut headers = upstream;
        let reserved: Vec<HeaderName> = headers.keys().filter(|name| headers::reserved(name)).cloned().collect();
        for name in reserved {
            headers.remove(name);
        }
        headers
    }

    /// The head of a stream that ends with its receipt.
    pub fn stream(&self, upstream: HeaderMap) -> Answer {
        let mut headers = self.unpaid(upstream);
        self.finish(&mut headers);
        Answer { status: 200, headers, body: Bytes::new(), close: false }
    }

    /// A stored response, as it was given the first time.
    pub fn replay(&self, stored: &StoredResponse, receipt: &SettlementResponse) -> Answer {
        self.paid(stored.status, restore_headers(stored), receipt, stored.body.clone())
    }

    /// The receipt of a charge that is over.
    pub fn receipt(&self, receipt: &SettlementResponse) -> Answer {
        self.json(200, canonical::sorted_to_vec(receipt))
    }

    fn words(&self, refusal: &Refusal) -> Value {
        let mut words = messages::refusal(refusal.code, &self.request_id);
        if !refusal.detail.is_empty() {
            words["detail"] = refusal.detail.clone().into();
        }
        if let Some((_, txid)) = refusal.payment {
            words["transaction"] = txid.to_string().into();
        }
        words
    }

    fn json(&self, status: u16, body: Vec<u8>) -> Answer {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.finish(&mut headers);
        Answer { status, headers, body: body.into(), close: false }
    }

    /// The failure receipt where a settlement was asked for, and when to come back.
    fn mark(&self, answer: &mut Answer, refusal: &Refusal) {
        if let Some(receipt) = &refusal.receipt {
            answer.headers.insert(headers::PAYMENT_RESPONSE, header::encode_sorted(&**receipt));
        } else if !refusal.code.error_reason().is_empty() {
            let mut kaspa = refusal.kaspa.clone();
            kaspa.insert("reason".into(), refusal.code.as_str().into());
            // Of a charge that another gateway has to make there is nothing yet that could be named.
            if refusal.code == Code::SettlementPending && refusal.payment.is_some() {
                kaspa.insert("status".into(), "pending".into());
            }
            let (network, txid) = refusal.payment.unzip();
            let network = network.or(refusal.network);
            let failed = SettlementResponse::failed(refusal.code.error_reason(), txid, network, Value::Object(kaspa));
            answer.headers.insert(headers::PAYMENT_RESPONSE, header::encode_sorted(&failed));
        }
        if let Some(seconds) = refusal.retry_after_seconds {
            answer.headers.insert(RETRY_AFTER, seconds.into());
        }
    }

    fn finish(&self, headers: &mut HeaderMap) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
        if let Ok(id) = HeaderValue::try_from(self.request_id.as_str()) {
            headers.insert(headers::REQUEST_ID, id);
        }
        cors::expose(&self.cors, &self.request, headers);
    }
}

/// What a receipt says; all of it durable before the receipt is sent.
#[derive(Clone, Debug)]
pub(super) struct ReceiptFacts {
    pub key: PaymentKey,
    pub amount: Amount,
    pub output_index: u32,
    pub finality: Finality,
    pub acceptance: Option<Acceptance>,
    pub payer: Option<String>,
}

impl ReceiptFacts {
    pub fn of(record: &PaymentRecord) -> Self {
        Self {
            key: record.key,
            amount: record.amount,
            output_index: record.output_index,
            finality: record.finality.level,
            acceptance: record.acceptance,
            payer: record.payer.clone(),
        }
    }

    /// The receipt as it is sent.
    pub fn message(&self) -> SettlementResponse {
        self.with(json!({}))
    }

    /// The same with an answer that is not what was paid for: the payment is still good for the same request.
    pub fn undelivered(&self) -> SettlementResponse {
        self.with(json!({ "status": "undelivered" }))
    }

    fn refused(&self, code: Code) -> SettlementResponse {
        // What is over is good for nothing any more.
        let over = code == Code::EntitlementExpired;
        self.with(if over { json!({ "reason": code.as_str() }) } else { json!({ "reason": code.as_str(), "status": "undelivered" }) })
    }

    fn with(&self, mut kaspa: Value) -> SettlementResponse {
        kaspa["paymentOutputIndex"] = self.output_index.into();
        kaspa["finality"] = json!(self.finality);
        if let Some(acceptance) = &self.acceptance {
            kaspa["acceptingBlock"] = acceptance.block.to_string().into();
        }
        SettlementResponse::settled(self.key.txid, self.key.network, self.payer.clone(), self.amount, kaspa)
    }
}

/// What a replay repeats: end-to-end headers, without what belongs to one exchange.
pub(super) fn keep_headers(upstream: &HeaderMap, cookies: bool) -> Vec<(String, Vec<u8>)> {
    let kept = |name: &HeaderName| {
        !headers::hop_by_hop(name) && !headers::reserved(name) && name != ACCESS_CONTROL_ALLOW_ORIGIN && (cookies || name != SET_COOKIE)
    };
    upstream.iter().filter(|(name, _)| kept(name)).map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect()
}

fn restore_headers(stored: &StoredResponse) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in &stored.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    headers
}
