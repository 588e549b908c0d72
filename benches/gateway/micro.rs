//! Where the time of a 402 and of a request paid by voucher goes: their steps one by one, as plain loops over the library's functions.
//!
//! The steps are those of `gateway::sell`, `gateway::quote` and `gateway::channel`, on an offer and a payment that the gateway knows.
//! They run in this process, warm; what an answer costs beyond them is pingora, the kernel, the store, and moving data.

use crate::{
    Fallible,
    servers::{FirstOffer, VOUCHER_PATH},
    support::channel::Channel,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use kas402::{
    binding::escrow_v1::{
        hashes::{BatchTerms, Commitment},
        payload::{self, RoutePayload},
    },
    protocol::{
        amount::Amount,
        ids::StoreId,
        offer::{OfferContext, OfferKey, OfferKeys, OfferToken},
        path::NormalPath,
        policy::{PublicOrigin, RouteId},
        price::{PriceInputs, PriceRule},
        refusal::Code,
        request::{Request, RequestHead},
        requirements::{ChannelState, Extra, Requirements},
        time::UnixMillis,
    },
    runtime::{clock, random},
    wire::{
        canonical, envelope, fingerprint, header, identifier,
        messages::{ChargeReceipt, OfferExtensions, PaymentRequired, Resource, SettlementResponse, X402_VERSION},
    },
};
use std::{hint::black_box, time::Instant};

const LOOPS: u32 = 20_000;
/// The fastest of so many passes counts: the others were interrupted.
const PASSES: usize = 5;

/// A step and its microseconds.
pub type Steps = Vec<(&'static str, f64)>;

/// The steps of a request that a voucher pays; `payment` is the content of its header.
pub fn paid(payment: &[u8], channel: &Channel) -> Fallible<Steps> {
    let faulty = |fault: envelope::Fault| fault.detail;
    let read = || envelope::decode(payment).map_err(faulty);
    let envelope = read()?;
    let accepted = envelope.accepted.clone();
    let Extra::Escrow(extra) = &accepted.extra else { return Err("not an offer of channels".into()) };
    let (origin, route) = (PublicOrigin("http://kas402.bench".into()), RouteId(VOUCHER_PATH.into()));
    let context = OfferContext { origin: &origin, route: &route, rule_id: "1", inputs: &PriceInputs::default() };
    let keys = OfferKeys::derive(&[OfferKey { kid: "bench".into(), key: vec![7; 32].into(), not_after: None }], StoreId([1; 16]));
    let now = UnixMillis(1_700_000_000_000);
    let unsigned = || {
        let mut unsigned = accepted.clone();
        unsigned.extra.offer_mut().clear();
        canonical::sorted_to_vec(&unsigned)
    };
    let terms = unsigned();
    let token = OfferToken::sign(&keys, &context, &terms, now, 300, 5, [9; 16]).ok_or("a key signs")?;
    let text = token.to_string();
    let recognise = || OfferToken::parse(&text).map(|token| token.authenticate(&keys, &context, &unsigned(), now));
    let renew = || OfferToken::sign(&keys, &context, &unsigned(), now, 300, 5, [9; 16]).map(|token| token.to_string());
    let url = format!("http://kas402.bench{VOUCHER_PATH}");
    let batch = || payload::parse(envelope.payload.clone());
    let voucher = match batch().and_then(|batch| batch.on_route()).map_err(faulty)? {
        RoutePayload::Voucher(voucher) => voucher,
        RoutePayload::Deposit(_) => return Err("not a plain voucher".into()),
    };
    let request_hash = fingerprint::request_hash_of_offer("GET", &url, b"", &accepted);
    let (network, amount) = (accepted.network, accepted.amount);
    let commit = || {
        let commitment = Commitment {
            channel: channel.id(),
            request_hash,
            requirements_hash: BatchTerms::of(&accepted, extra).hash(),
            outpoint: voucher.funding_outpoint,
            voucher: voucher.voucher,
            charge: amount,
            charged_before: Amount::ZERO,
            charged_after: amount,
            claimed: Amount::ZERO,
        };
        commitment.id()
    };
    let commitment_id = commit();
    let receipt = || {
        let channel_state = ChannelState {
            active_outpoint: voucher.funding_outpoint,
            active_script_public_key: channel.script.serialized(),
            channel_id: voucher.channel_id,
            charged_cumulative_amount: amount,
            claimed_cumulative_amount: Amount::ZERO,
            funding_amount: amount,
            signed_max_claimable: amount,
        };
        let (charged_amount, offer) = (amount, Some(accepted.clone()));
        let charge = ChargeReceipt { channel_state, charged_amount, commitment_id, funding_amount: None, funding_outpoint: None, offer };
        header::encode_sorted(&SettlementResponse::charged(network, charge))
    };

    Ok(vec![
        ("payment header: base64, JSON without duplicate keys, envelope", time(read)),
        ("the offer recognised: token, canonical terms, HMAC", time(recognise)),
        ("payload and payment identifier", time(|| (batch(), identifier::read(&envelope.extensions, true)))),
        ("request hash", time(|| fingerprint::request_hash_of_offer("GET", &url, b"", &accepted))),
        ("request identity", time(|| fingerprint::request_identity("GET", &url, b"", accepted.scheme, network, &accepted.pay_to, amount))),
        ("voucher: digest and Schnorr", time(|| voucher.voucher.verify(&channel.script, voucher.funding_outpoint))),
        ("requirements hash and commitment id", time(commit)),
        ("the renewed offer: canonical terms, HMAC, text", time(renew)),
        ("the receipt: canonical JSON and base64", time(receipt)),
    ])
}

/// The steps of a 402.
pub fn measure(offer: &FirstOffer) -> Fallible<Steps> {
    let sent: serde_json::Value = serde_json::from_slice(&offer.body)?;
    let accepted: Requirements = serde_json::from_value(sent["accepts"][0].clone())?;
    let url = sent["resource"]["url"].as_str().ok_or("an offer names its resource")?.to_owned();
    let request = request()?;
    let price = PriceRule::Fixed(accepted.amount);
    let quoted = price.evaluate(&request)?;
    let (origin, route) = (PublicOrigin("http://kas402.bench".into()), RouteId("/priced".into()));
    let context = OfferContext { origin: &origin, route: &route, rule_id: "1", inputs: &quoted.inputs };
    let key = OfferKey { kid: "bench".into(), key: vec![7; 32].into(), not_after: None };
    let keys = OfferKeys::derive(&[key], StoreId([1; 16]));
    let mut unsigned = accepted.clone();
    unsigned.extra.offer_mut().clear();
    let terms = canonical::to_vec(&unsigned);
    let message = || PaymentRequired {
        accepts: vec![accepted.clone()],
        error: Some(Code::PaymentRequired.meaning().into()),
        extensions: OfferExtensions { kaspa: None, payment_identifier: identifier::advertise(false) },
        resource: Resource { description: Some("One answer".into()), mime_type: Some("application/json".into()), url: url.clone() },
        x402_version: X402_VERSION,
    };
    let built = message();
    let canonical = canonical::sorted_to_vec(&built);
    if canonical.len().abs_diff(offer.body.len()) > 64 {
        return Err(format!("the measured message has {} bytes, the real one {}", canonical.len(), offer.body.len()).into());
    }
    let sign = || OfferToken::sign(&keys, &context, &terms, UnixMillis(1_700_000_000_000), 300, 5, [9; 16]).map(|token| token.to_string());

    Ok(vec![
        ("request id: 16 random bytes from the kernel, hex", time(|| hex::encode(random::bytes()))),
        ("copies of the request's headers (three)", time(|| [(); 3].map(|()| request.head.headers.clone()))),
        ("path: normal form", time(|| NormalPath::parse("/priced", false))),
        ("price rule", time(|| price.evaluate(&request))),
        ("clock and nonce: 16 random bytes from the kernel", time(|| (clock::now(), random::bytes()))),
        ("terms as canonical JSON", time(|| canonical::sorted_to_vec(&unsigned))),
        ("HMAC-SHA256 and the token's text", time(sign)),
        ("the message: requirements, resource, extension", time(message)),
        ("the message as canonical JSON, which is header and body", time(|| canonical::sorted_to_vec(&built))),
        ("base64 of it", time(|| base64_of(&canonical))),
        ("by the general way, for comparison (tree, canonical JSON, base64, header value)", time(|| header::encode(&built))),
    ])
}

fn base64_of(bytes: &[u8]) -> HeaderValue {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    HeaderValue::try_from(STANDARD.encode(bytes)).expect("base64 is visible ASCII")
}

/// What wrk sends, as the gateway sees it.
fn request() -> Fallible<Request> {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("host", "127.0.0.1:8402"),
        ("x-request-id", "0123456789abcdef0123456789abcdef"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", "127.0.0.1:8402"),
        ("x-forwarded-proto", "http"),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let path = NormalPath::parse("/priced", false)?;
    let head = RequestHead { method: Method::GET, host: "127.0.0.1".into(), path, target: "/priced".into(), query: None, headers };
    Ok(Request { head, body: Bytes::new() })
}

/// Microseconds of one call.
fn time<T>(mut step: impl FnMut() -> T) -> f64 {
    let pass = |step: &mut dyn FnMut() -> T| {
        let began = Instant::now();
        for _ in 0..LOOPS {
            black_box(step());
        }
        began.elapsed().as_secs_f64() * 1e6 / f64::from(LOOPS)
    };
    (0..PASSES).map(|_| pass(&mut step)).fold(f64::INFINITY, f64::min)
}
