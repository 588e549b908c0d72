//! The answers of the facilitator: one place owns their statuses and shapes.

use super::{Act, Verdict};
use crate::{
    gateway::{answer::Answer, respond::Refusal},
    protocol::{network::Network, refusal::Code},
    wire::{facilitator, messages::SettlementResponse},
};
use bytes::Bytes;
use serde_json::{Value, json};

/// What a call came to.
pub(super) enum Told {
    /// `/verify`: good now.
    Valid { payer: Option<String>, kaspa: Value },
    /// `/settle`: the receipt, as a purchase gives it.
    Receipt(Box<Answer>),
    /// `/settle` of a claim.
    Settled(Box<SettlementResponse>),
}

pub(super) fn json(status: u16, body: &Value) -> Verdict {
    Verdict { status, retry_after_seconds: None, body: Bytes::from(body.to_string()) }
}

pub(super) fn told(told: Told) -> Verdict {
    match told {
        Told::Valid { payer, kaspa } => json(200, &facilitator::valid(payer.as_deref(), kaspa)),
        Told::Receipt(answer) => Verdict { status: 200, retry_after_seconds: None, body: answer.body },
        Told::Settled(receipt) => json(200, &json!(receipt)),
    }
}

/// A verdict about a payment is 200, as the interface has it; a call that got none is not.
const fn status(code: Code) -> u16 {
    match code {
        Code::CallMalformed | Code::ChargeAboveAmount => 400,
        // Another call settles it: a server that took this for a failed payment would ask its payer again.
        Code::InFlight => 503,
        _ => match code.status() {
            status @ (401 | 403 | 413 | 429 | 503) => status,
            _ => 200,
        },
    }
}

pub(super) fn refused(act: Act, network: Network, refusal: &Refusal) -> Verdict {
    let mut kaspa = refusal.kaspa.clone();
    kaspa.insert("reason".into(), refusal.code.as_str().into());
    // Of a charge that another call makes there is nothing yet that could be named.
    if matches!(refusal.code, Code::SettlementPending | Code::InFlight) && refusal.payment.is_some() {
        kaspa.insert("status".into(), "pending".into());
    }
    if let Some(correction) = &refusal.correction {
        kaspa.insert("channelState".into(), json!(correction.channel));
        kaspa.insert("voucherState".into(), json!(correction.voucher));
    }
    let reason = match refusal.code.error_reason() {
        "" => "unexpected_settle_error",
        reason => reason,
    };
    let body = match act {
        Act::Verify => facilitator::invalid(reason, &refusal.detail, Value::Object(kaspa)),
        Act::Settle => {
            let txid = refusal.payment.map(|(_, txid)| txid);
            let mut body = json!(SettlementResponse::failed(reason, txid, Some(network), Value::Object(kaspa)));
            if !refusal.detail.is_empty() {
                body["errorMessage"] = refusal.detail.as_str().into();
            }
            body
        }
    };
    Verdict { retry_after_seconds: refusal.retry_after_seconds, ..json(status(refusal.code), &body) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ids::TxId;

    #[test]
    fn what_may_have_moved_money_is_no_verdict() {
        for (code, expect) in [(Code::SettlementPending, 503), (Code::InFlight, 503), (Code::Replay, 200), (Code::TransactionRejected, 200)]
        {
            for named in [None, Some((Network::Simnet, TxId([7; 32])))] {
                let refusal = Refusal { payment: named, ..Refusal::new(code, "") };
                let verdict = refused(Act::Settle, Network::Simnet, &refusal);
                let body: Value = serde_json::from_slice(&verdict.body).unwrap();
                let pending = body["extensions"]["kaspa"]["status"] == "pending";
                assert_eq!((verdict.status, pending), (expect, expect == 503 && named.is_some()), "{code:?}: {body}");
            }
        }
    }
}
