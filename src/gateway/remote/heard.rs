//! What an answer of the facilitator means. What is not understood proves nothing.

use super::{AGAIN, RemoteAnswer, call::Asking, tries::Heard};
use crate::{
    chain::Sighting,
    protocol::{amount::Amount, network::Network, refusal::Code},
};
use serde_json::Value;
use std::time::Duration;

/// What became of a payment.
pub(super) enum Settlement {
    Settled {
        payer: Option<String>,
    },
    Refused(Code, String),
    /// It counted for this request, and is told to who proves the payer's key.
    Unproven(Code, String),
}

/// The precise code of a refusal, or nothing.
pub(super) fn reason(answer: &RemoteAnswer) -> &str {
    answer.body["extensions"]["kaspa"]["reason"].as_str().unwrap_or_default()
}

pub(super) fn code(answer: &RemoteAnswer) -> Option<Code> {
    let reason = reason(answer);
    Code::ALL.iter().copied().find(|code| code.as_str() == reason)
}

/// Before it is asked again.
pub(super) fn pause(answer: &RemoteAnswer) -> Duration {
    answer.retry_after.unwrap_or(AGAIN).max(Duration::from_millis(50))
}

/// Whether a settlement is said to be this one. `id` is a transaction's, or a charge's commitment.
pub(super) fn names(body: &Value, id: &str, network: Network, amount: Amount) -> bool {
    let said = |name: &str| body[name].as_str();
    (said("transaction"), said("network"), said("amount")) == (Some(id), Some(network.as_str()), Some(&*amount.to_string()))
}

pub(super) fn settlement(asking: &Asking<'_>, answer: &RemoteAnswer) -> Heard<Settlement> {
    let body = &answer.body;
    let settled = body["extensions"]["kaspa"]["alreadySettled"] == true;
    let message = body["errorMessage"].as_str().unwrap_or_default().to_owned();
    let again = |pause| Heard::Again(pause, reason(answer).to_owned());
    match (answer.status, body["success"].as_bool()) {
        (200, Some(true)) => {
            if !names(body, &asking.key.txid.to_string(), asking.key.network, asking.amount) {
                return Heard::NotOurs("it answered about another payment".to_owned());
            }
            Heard::Decided(Settlement::Settled { payer: body["payer"].as_str().map(str::to_owned) })
        }
        (400 | 401 | 403, _) => Heard::NotOurs(format!("{} {}", answer.status, reason(answer))),
        (200, Some(false)) => match code(answer) {
            Some(Code::InFlight) | None => again(AGAIN),
            Some(code @ (Code::PayerProofRequired | Code::PayerProofInvalid | Code::ForeignTransaction)) if settled => {
                Heard::Decided(Settlement::Unproven(code, message))
            }
            Some(code) => Heard::Decided(Settlement::Refused(code, message)),
        },
        _ => again(pause(answer)),
    }
}

/// Whether the network knows the transaction; else why that is not known.
pub(super) fn sighting(answer: &RemoteAnswer) -> Result<Sighting, (Code, String)> {
    let body = &answer.body;
    let silent = || (Code::FacilitatorUnavailable, format!("{} {}", answer.status, reason(answer)));
    match (answer.status, body["isValid"].as_bool()) {
        (200, Some(true)) => match body["extensions"]["kaspa"]["sighting"].as_str() {
            Some("seen") => Ok(Sighting::Mempool),
            Some("unseen") => Ok(Sighting::NotSeen),
            _ => Err(silent()),
        },
        (200, Some(false)) => match code(answer) {
            Some(code) if code.status() != 503 => Err((code, body["invalidMessage"].as_str().unwrap_or_default().to_owned())),
            _ => Err(silent()),
        },
        _ => Err(silent()),
    }
}
