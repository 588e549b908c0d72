//! What an answer to a request that was paid from a channel means. Pure; the books are judged elsewhere.
//!
//! Anything that does not say what was charged leads to the same header again, or to a stop that leaves the request open.
//! Only a refusal by code, which says that nothing was charged, leads to another voucher or another offer.

use super::{
    account::Lie,
    receipt::{self, ChannelReceipt, Told},
    record::Kind,
};
use crate::{
    client::decide::{Stop, retry_after},
    protocol::refusal::Code,
    wire::{header, headers},
};
use http::{HeaderMap, StatusCode};
use serde_json::Value;
use std::time::Duration;

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// The answer is here, with a receipt to be verified.
    Charged(Box<ChannelReceipt>),
    /// The answer is here; its receipt comes later, from this URL.
    Provisional(Option<String>),
    /// An answer is here, for which nothing was charged: a failure of the API, or of the tool.
    NotCharged,
    /// The answer is here without a receipt.
    Unreceipted,
    /// The answer is here, and its receipt cannot be true.
    Disputed(Lie),
    /// Undecided: the same header again.
    Resend(Option<Duration>),
    /// The channel serves another request: the same header again.
    Busy(Option<Duration>),
    /// Nothing was charged; the server says where the channel stands.
    Correct(Code),
    /// Nothing was charged; a newer offer, or for an opening a newer deposit, may be taken.
    Reoffer(Code),
    /// Nothing was charged, and neither helps.
    Refused(Code),
    /// Neither charged nor refused for certain, and repeating does not help.
    Stop(Stop),
}

/// Reads the head of an answer to a request with a payment of this kind.
pub fn decide(status: StatusCode, headers: &HeaderMap, kind: Kind) -> Next {
    let wait = retry_after(headers);
    let code = match headers.get(headers::PAYMENT_RESPONSE).and_then(|value| Told::header(value.as_bytes())) {
        Some(Told::Settled(receipt)) => return Next::Charged(receipt),
        Some(Told::Provisional { url }) => return Next::Provisional(url),
        Some(Told::Wrong(lie)) => return Next::Disputed(lie),
        Some(Told::NotCharged) if answers(status) => return Next::NotCharged,
        Some(Told::NotCharged) => None,
        Some(Told::Failed { code, .. }) => code.or_else(|| asked(headers)),
        None => asked(headers),
    };
    match (status, code) {
        (StatusCode::PAYMENT_REQUIRED, Some(Code::ChannelBusy)) => Next::Busy(wait),
        (StatusCode::PAYMENT_REQUIRED, None | Some(Code::PaymentRequired)) => Next::Stop(Stop::AskedAgain),
        (StatusCode::PAYMENT_REQUIRED, Some(code)) => refused(code, kind),
        (StatusCode::BAD_REQUEST, Some(code)) => Next::Refused(code),
        (StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS, _) => Next::Resend(wait),
        (StatusCode::CONFLICT, Some(Code::InFlight)) => Next::Resend(wait),
        (StatusCode::CONFLICT, _) if wait.is_some() => Next::Resend(wait),
        _ if status.is_server_error() => Next::Resend(wait),
        (StatusCode::NOT_MODIFIED, _) => Next::Unreceipted,
        _ if status.is_redirection() => Next::Stop(Stop::Redirected),
        _ if status.is_success() => Next::Unreceipted,
        (_, code) => Next::Stop(Stop::Refused { status: status.as_u16(), reason: code.map(|code| code.as_str().to_owned()) }),
    }
}

/// Whether what was not charged is worth handing on: repeating it would change nothing.
fn answers(status: StatusCode) -> bool {
    let later = [StatusCode::PAYMENT_REQUIRED, StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
    status.is_success() || status.is_client_error() && !later.contains(&status)
}

fn refused(code: Code, kind: Kind) -> Next {
    match code {
        Code::VoucherStaleOutpoint | Code::VoucherAmount | Code::ChannelBalance => Next::Correct(code),
        Code::OfferKeyUnknown | Code::OfferNotOurs | Code::OfferOtherRoute | Code::OfferOtherPrice | Code::OfferExpired => {
            Next::Reoffer(code)
        }
        Code::EscrowTimeout | Code::FundingRejected if kind == Kind::Deposit => Next::Reoffer(code),
        code => Next::Refused(code),
    }
}

/// The code in `PAYMENT-REQUIRED`.
fn asked(headers: &HeaderMap) -> Option<Code> {
    let message = header::decode(headers.get(headers::PAYMENT_REQUIRED)?.as_bytes()).ok()?;
    receipt::code(message.pointer("/extensions/kaspa/reason").and_then(Value::as_str)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderValue, header::RETRY_AFTER};
    use serde_json::json;

    fn kind(status: u16, code: Option<&str>, in_offer: bool, wait: Option<&'static str>, kind: Kind) -> String {
        let mut fields = HeaderMap::new();
        let kaspa = json!({"extensions": {"kaspa": {"reason": code}}, "success": false});
        if code.is_some() {
            let name = if in_offer { headers::PAYMENT_REQUIRED } else { headers::PAYMENT_RESPONSE };
            fields.insert(name, header::encode(&kaspa));
        }
        if let Some(wait) = wait {
            fields.insert(RETRY_AFTER, HeaderValue::from_static(wait));
        }
        match decide(StatusCode::from_u16(status).unwrap(), &fields, kind) {
            Next::Resend(wait) => format!("resend {:?}", wait.map(|wait| wait.as_secs())),
            Next::Busy(wait) => format!("busy {:?}", wait.map(|wait| wait.as_secs())),
            Next::Correct(code) => format!("correct {code}"),
            Next::Reoffer(code) => format!("reoffer {code}"),
            Next::Refused(code) => format!("refused {code}"),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn every_answer_has_one_meaning() {
        let stop =
            |status: u16, reason: Option<&str>| format!("{:?}", Next::Stop(Stop::Refused { status, reason: reason.map(str::to_owned) }));
        for (status, code, wait, expect) in [
            (200, None, None, "Unreceipted".to_owned()),
            (304, None, None, "Unreceipted".into()),
            (302, None, None, "Stop(Redirected)".into()),
            (402, None, None, "Stop(AskedAgain)".into()),
            (402, Some("payment_required"), None, "Stop(AskedAgain)".into()),
            (402, Some("something new"), None, "Stop(AskedAgain)".into()),
            (402, Some("channel_busy"), Some("2"), "busy Some(2)".into()),
            (402, Some("voucher_stale_outpoint"), None, "correct voucher_stale_outpoint".into()),
            (402, Some("voucher_amount"), None, "correct voucher_amount".into()),
            (402, Some("channel_balance"), None, "correct channel_balance".into()),
            (402, Some("offer_expired"), None, "reoffer offer_expired".into()),
            (402, Some("offer_other_price"), None, "reoffer offer_other_price".into()),
            (402, Some("channel_unknown"), None, "refused channel_unknown".into()),
            (402, Some("refund_window"), None, "refused refund_window".into()),
            (402, Some("exposure_limit"), None, "refused exposure_limit".into()),
            (400, Some("payment_identifier_required"), None, "refused payment_identifier_required".into()),
            (400, None, None, stop(400, None)),
            (404, None, None, stop(404, None)),
            (409, Some("offer_reused"), None, stop(409, Some("offer_reused"))),
            (409, Some("outpoint_in_use"), None, stop(409, Some("outpoint_in_use"))),
            (409, Some("payment_in_flight"), None, "resend None".into()),
            (409, None, Some("1"), "resend Some(1)".into()),
            (410, Some("entitlement_expired"), None, stop(410, Some("entitlement_expired"))),
            (429, None, Some("3"), "resend Some(3)".into()),
            (500, None, None, "resend None".into()),
            (503, Some("deposit_not_confirmed"), Some("1"), "resend Some(1)".into()),
            (503, Some("channel_lease_lost"), None, "resend None".into()),
        ] {
            for in_offer in [false, true] {
                assert_eq!(kind(status, code, in_offer, wait, Kind::Voucher), expect, "{status} {code:?} {in_offer}");
            }
        }
    }

    #[test]
    fn an_answer_that_costs_nothing_is_handed_on_and_a_failure_is_asked_again() {
        let mut fields = HeaderMap::new();
        let receipt = json!({"success": false, "extensions": {"kaspa": {"reason": "upstream_failed", "status": "not_charged"}}});
        fields.insert(headers::PAYMENT_RESPONSE, header::encode(&receipt));
        for (status, expect) in [
            (200, Next::NotCharged),
            (400, Next::NotCharged),
            (404, Next::NotCharged),
            (422, Next::NotCharged),
            (302, Next::Stop(Stop::Redirected)),
            (402, Next::Stop(Stop::AskedAgain)),
            (429, Next::Resend(None)),
            (502, Next::Resend(None)),
        ] {
            assert_eq!(decide(StatusCode::from_u16(status).unwrap(), &fields, Kind::Voucher), expect, "{status}");
        }
    }

    #[test]
    fn an_opening_with_a_stale_timeout_or_a_rejected_funding_may_be_made_anew() {
        for code in ["invalid_kaspa_escrow_refund_timeout", "invalid_kaspa_escrow_funding_rejected"] {
            assert_eq!(kind(402, Some(code), false, None, Kind::Deposit), format!("reoffer {code}"));
            assert_eq!(kind(402, Some(code), false, None, Kind::Voucher), format!("refused {code}"));
        }
    }
}
