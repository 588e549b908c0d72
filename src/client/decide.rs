//! What an answer to a paid request means. Pure: the whole rule "never pay twice" is this table.
//!
//! Anything that does not prove where the money is leads to the same header again, or to a stop
//! that names the transaction; only a proven rejection may lead to another transaction.

use super::{
    journal::Entry,
    receipt::{Mismatch, Receipt},
};
use crate::{protocol::refusal::Code, wire::headers};
use http::{HeaderMap, StatusCode, header::RETRY_AFTER};
use std::time::Duration;

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// The resource is here; a verified receipt too, unless the server sent none.
    Delivered(Option<Receipt>),
    /// Settled for certain, the resource not yet here: the same header again.
    Undelivered(Receipt, Option<Duration>),
    /// Settled for certain, and answered with something that is not what was paid for: the same header is still good for that.
    Failed(Receipt),
    /// Undecided: the same header again.
    Resend(Option<Duration>),
    /// The server proves that nothing moved. Whether to pay anew is not decided here.
    Rejected(Code, Receipt),
    /// Paid, and no longer served.
    Lapsed(Option<Receipt>),
    /// Repeating will not help, and paying again is not safe.
    Stop(Stop),
}

/// Why the buyer stops, with money perhaps on its way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    #[error("the server asks for payment again without proof that the first one failed")]
    AskedAgain,
    #[error("the server answers {status}{}", .reason.as_ref().map(|r| format!(" ({r})")).unwrap_or_default())]
    Refused { status: u16, reason: Option<String> },
    #[error("{0}, not for this payment")]
    WrongReceipt(Mismatch),
    #[error("the server redirects a paid request, which is not followed")]
    Redirected,
}

/// Reads the answer to a request that carried the payment of `entry`.
pub fn decide(status: StatusCode, headers: &HeaderMap, entry: &Entry) -> Next {
    let receipt = headers.get(headers::PAYMENT_RESPONSE).and_then(|value| Receipt::read(value.as_bytes()).ok());
    let reason = receipt.as_ref().and_then(|receipt| receipt.reason.clone());
    let is = |code: Code| reason.as_deref() == Some(code.as_str());
    if is(Code::EntitlementExpired) {
        return Next::Lapsed(receipt);
    }
    let wait = retry_after(headers);
    match receipt {
        Some(receipt) if receipt.success => settled(status, receipt, wait, entry),
        receipt => {
            let proof = receipt.and_then(|receipt| receipt.proven_rejection(entry).map(|code| (code, receipt)));
            unsettled(status, proof, reason, wait)
        }
    }
}

fn settled(status: StatusCode, receipt: Receipt, wait: Option<Duration>, entry: &Entry) -> Next {
    match receipt.matches(entry) {
        Err(mismatch) => Next::Stop(Stop::WrongReceipt(mismatch)),
        Ok(()) if status == StatusCode::PAYMENT_REQUIRED => Next::Stop(Stop::AskedAgain),
        Ok(()) if status.is_server_error() => Next::Undelivered(receipt, wait),
        Ok(()) if receipt.undelivered && status == StatusCode::CONFLICT => Next::Undelivered(receipt, wait),
        Ok(()) if receipt.undelivered => Next::Failed(receipt),
        Ok(()) => Next::Delivered(Some(receipt)),
    }
}

fn unsettled(status: StatusCode, proof: Option<(Code, Receipt)>, reason: Option<String>, wait: Option<Duration>) -> Next {
    let is = |code: Code| reason.as_deref() == Some(code.as_str());
    match status {
        StatusCode::PAYMENT_REQUIRED => match proof {
            Some((code, receipt)) => Next::Rejected(code, receipt),
            None => Next::Stop(Stop::AskedAgain),
        },
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => Next::Resend(wait),
        StatusCode::CONFLICT if wait.is_some() || is(Code::InFlight) || is(Code::PayerProofRequired) => Next::Resend(wait),
        _ if status.is_server_error() => Next::Resend(wait),
        _ if status.is_redirection() => Next::Stop(Stop::Redirected),
        _ if status.is_success() => Next::Delivered(None),
        _ => Next::Stop(Stop::Refused { status: status.as_u16(), reason }),
    }
}

/// `Retry-After` in seconds; the date form is not used by gateways and counts as absent.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        client::journal::{RequestKey, State},
        protocol::{
            amount::Amount,
            ids::{RequestHash, TxId},
            network::Network,
            time::UnixMillis,
        },
        wire::header,
    };
    use http::HeaderValue;
    use serde_json::{Value, json};

    fn entry() -> Entry {
        Entry {
            txid: TxId([1; 32]),
            key: RequestKey([0; 32]),
            method: "GET".into(),
            url: String::new(),
            header: String::new(),
            transaction: Vec::new(),
            inputs: Vec::new(),
            network: Network::Simnet,
            amount: Amount::from_sompi(5).unwrap(),
            fee: Amount::ZERO,
            pay_to: String::new(),
            request_hash: RequestHash([0; 32]),
            identifier: None,
            created: UnixMillis(0),
            state: State::Open,
            receipt: None,
            replaces: None,
        }
    }

    fn success() -> Value {
        json!({"success": true, "transaction": "01".repeat(32), "network": "kaspa:simnet", "amount": "5"})
    }

    fn failure(reason: &str) -> Value {
        json!({"success": false, "transaction": "", "extensions": {"kaspa": {"reason": reason}}})
    }

    fn kind(status: u16, receipt: Option<Value>, retry_after: Option<&'static str>) -> String {
        let mut headers = HeaderMap::new();
        if let Some(receipt) = receipt {
            headers.insert(headers::PAYMENT_RESPONSE, header::encode(&receipt));
        }
        if let Some(seconds) = retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        match decide(StatusCode::from_u16(status).unwrap(), &headers, &entry()) {
            Next::Delivered(receipt) => format!("delivered {}", receipt.is_some()),
            Next::Undelivered(..) => "undelivered".into(),
            Next::Failed(_) => "failed".into(),
            Next::Resend(wait) => format!("resend {:?}", wait.map(|w| w.as_secs())),
            Next::Rejected(code, _) => format!("rejected {code}"),
            Next::Lapsed(_) => "lapsed".into(),
            Next::Stop(Stop::WrongReceipt(_)) => "stop wrong receipt".into(),
            Next::Stop(stop) => format!("stop {stop:?}"),
        }
    }

    #[test]
    fn every_answer_to_a_paid_request_has_one_meaning() {
        let refused = |status: u16, reason: &str| {
            format!("stop {:?}", Stop::Refused { status, reason: (!reason.is_empty()).then(|| reason.to_owned()) })
        };
        let set = |name: &str, value: Value| {
            let mut receipt = success();
            receipt[name] = value;
            Some(receipt)
        };
        let told = |reason: &str| Some(failure(reason));
        let undelivered = || set("extensions", json!({"kaspa": {"status": "undelivered"}}));
        let of_other = {
            let mut receipt = failure("offer_expired");
            receipt["transaction"] = json!("02".repeat(32));
            Some(receipt)
        };
        for (status, receipt, retry_after, expect) in [
            (200, Some(success()), None, "delivered true"),
            (404, Some(success()), None, "delivered true"),
            (302, Some(success()), None, "delivered true"),
            (200, None, None, "delivered false"),
            (502, Some(success()), None, "undelivered"),
            (200, undelivered(), None, "failed"),
            (404, undelivered(), None, "failed"),
            (422, undelivered(), None, "failed"),
            (503, undelivered(), None, "undelivered"),
            (409, undelivered(), None, "undelivered"),
            (410, set("extensions", json!({"kaspa": {"reason": "entitlement_expired"}})), None, "lapsed"),
            (402, undelivered(), None, "stop AskedAgain"),
            (504, Some(success()), Some("2"), "undelivered"),
            (402, Some(success()), None, "stop AskedAgain"),
            (200, set("transaction", json!("02".repeat(32))), None, "stop wrong receipt"),
            (200, set("transaction", json!("")), None, "stop wrong receipt"),
            (200, set("network", json!("kaspa:mainnet")), None, "stop wrong receipt"),
            (200, set("amount", json!("6")), None, "stop wrong receipt"),
            (503, told("settlement_pending"), Some("3"), "resend Some(3)"),
            (503, None, None, "resend None"),
            (500, None, Some("Wed, 21 Oct 2026 07:28:00 GMT"), "resend None"),
            (429, None, Some("1"), "resend Some(1)"),
            (409, told("payment_in_flight"), None, "resend None"),
            (409, told("payer_proof_required"), None, "resend None"),
            (409, None, Some("1"), "resend Some(1)"),
            (409, told("paid_late"), None, &refused(409, "paid_late")),
            (409, told("payer_proof_invalid"), None, &refused(409, "payer_proof_invalid")),
            (409, None, None, &refused(409, "")),
            (410, told("entitlement_expired"), None, "lapsed"),
            (410, None, None, &refused(410, "")),
            (400, told("payment_header_schema"), None, &refused(400, "payment_header_schema")),
            (302, None, None, "stop Redirected"),
            (402, None, None, "stop AskedAgain"),
            (402, told("offer_expired"), None, "rejected offer_expired"),
            (402, told("invalid_kaspa_exact_transaction_rejected"), None, "rejected invalid_kaspa_exact_transaction_rejected"),
            (402, told("invalid_kaspa_exact_payment_output"), None, "stop AskedAgain"),
            (402, told("settlement_pending"), None, "stop AskedAgain"),
            (402, told("something else"), None, "stop AskedAgain"),
            (402, of_other, None, "stop AskedAgain"),
        ] {
            assert_eq!(kind(status, receipt.clone(), retry_after), expect, "{status} {receipt:?} {retry_after:?}");
        }
    }
}
