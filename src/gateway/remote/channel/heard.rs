//! What an answer of the facilitator about a sale from a channel means. What is not understood proves nothing.

use super::{
    super::{
        RemoteAnswer, RemoteError,
        heard::{code, names, pause, reason},
        tries::Heard,
    },
    call::{Call, Wanted},
};
use crate::{
    binding::escrow_v1::hashes::Commitment,
    gateway::{quote::Correction, respond::Refusal},
    protocol::{
        amount::Amount,
        refusal::Code,
        requirements::{ChannelState, Extra, Requirements, VoucherState},
    },
    wire::messages::ChargeReceipt,
};
use serde::Deserialize;
use serde_json::Value;

/// What became of a sale: charged, for this very sale, or not at all.
pub(super) type Settlement = Result<Box<ChargeReceipt>, Refusal>;

pub(super) fn settlement(call: &Call, charge: Amount, answer: &RemoteAnswer) -> Heard<Settlement> {
    let again = Heard::Again(pause(answer), answer.status.to_string());
    match (answer.status, answer.body["success"].as_bool()) {
        (200, Some(true)) => match charged(call, charge, &answer.body) {
            Some(receipt) => Heard::Decided(Ok(Box::new(receipt))),
            None => Heard::NotOurs("it answered about another charge".to_owned()),
        },
        (400 | 401 | 403, _) => Heard::NotOurs(format!("{} {}", answer.status, reason(answer))),
        (200, Some(false)) => match code(answer) {
            // The answer is held: it is worth waiting for.
            Some(Code::InFlight | Code::ChannelBusy) | None => again,
            Some(code) if code.status() == 503 => again,
            Some(code) => Heard::Decided(Err(refusal(call, code, answer))),
        },
        _ => again,
    }
}

/// The receipt, when it is one of this sale: the commitment is a hash over all that makes it so.
fn charged(call: &Call, charge: Amount, body: &Value) -> Option<ChargeReceipt> {
    let receipt = ChargeReceipt::deserialize(body.pointer("/extensions/kaspa")?).ok()?;
    let (state, presented) = (&receipt.channel_state, &call.presented);
    let commitment = Commitment {
        channel: presented.channel,
        request_hash: call.request_hash,
        requirements_hash: call.requirements_hash()?,
        outpoint: presented.outpoint,
        voucher: presented.voucher,
        charge,
        charged_before: state.charged_cumulative_amount.checked_sub(charge)?,
        charged_after: state.charged_cumulative_amount,
        claimed: state.claimed_cumulative_amount,
    };
    let id = commitment.id();
    let ours = (receipt.commitment_id, receipt.charged_amount, state.channel_id) == (id, charge, presented.channel);
    let said = names(body, &id.to_string(), call.accepted.network, charge);
    // The next offer is this gateway's.
    (ours && said).then_some(ChargeReceipt { offer: None, ..receipt })
}

/// Whether the payment is good, and where its channel stands, if there is one.
pub(super) fn verdict(call: &Call, wanted: Wanted, answer: Result<RemoteAnswer, RemoteError>) -> Result<Option<ChannelState>, Refusal> {
    let silent = |why: String| match wanted {
        // The deposit may be on its way.
        Wanted::Deposit => Refusal::new(Code::SettlementPending, why),
        Wanted::Verdict | Wanted::Charge(_) => Refusal::new(Code::FacilitatorUnavailable, why),
    };
    let answer = match answer {
        Ok(answer) => answer,
        Err(RemoteError::NotSent(why)) => return Err(Refusal::new(Code::FacilitatorUnavailable, why)),
        Err(RemoteError::Unknown(why)) => return Err(silent(why)),
    };
    let good = answer.body[if wanted == Wanted::Deposit { "success" } else { "isValid" }].as_bool();
    match (answer.status, good, code(&answer)) {
        (200, Some(true), _) => Ok(state(call, &answer)),
        (200, Some(false), Some(code)) if code.status() != 503 => Err(refusal(call, code, &answer)),
        // Money that is on its way, and no more than that.
        (_, _, Some(code @ (Code::DepositNotConfirmed | Code::DepositReorganised))) => Err(Refusal::new(code, message(&answer))),
        (400 | 401 | 403, ..) => {
            tracing::error!(status = answer.status, reason = reason(&answer), "the facilitator does not work for this gateway");
            Err(Refusal::new(Code::FacilitatorUnavailable, ""))
        }
        _ => Err(silent(format!("{} {}", answer.status, reason(&answer)))),
    }
}

fn state(call: &Call, answer: &RemoteAnswer) -> Option<ChannelState> {
    let state = ChannelState::deserialize(&answer.body["extensions"]["kaspa"]["channelState"]).ok()?;
    (state.channel_id == call.presented.channel).then_some(state)
}

fn message(answer: &RemoteAnswer) -> &str {
    let said = |name: &str| answer.body[name].as_str();
    said("errorMessage").or_else(|| said("invalidMessage")).unwrap_or_default()
}

/// The facilitator's refusal as this gateway's; what the holder of the channel's key may learn goes into this gateway's offers as it was said.
fn refusal(call: &Call, code: Code, answer: &RemoteAnswer) -> Refusal {
    let mut refusal = Refusal::new(code, message(answer));
    if let Some(after) = answer.retry_after {
        refusal.retry_after_seconds = u32::try_from(after.as_secs()).ok();
    }
    let voucher = answer.body.pointer("/extensions/kaspa/voucherState").and_then(|voucher| Deserialize::deserialize(voucher).ok());
    match (state(call, answer), voucher) {
        (Some(channel), Some(voucher)) => corrected(call, refusal, channel, voucher),
        _ => refusal,
    }
}

/// The deposit is in, and its offer is over: the next one is for the channel that is open now, and not for another deposit.
pub(super) fn still_open(call: &Call, refusal: Refusal, state: Option<ChannelState>) -> Refusal {
    match state {
        Some(channel) if refusal.code == Code::OfferExpired && channel.signed_max_claimable.is_zero() => {
            let voucher = VoucherState { amount: channel.signed_max_claimable, signature: None };
            corrected(call, refusal, channel, voucher)
        }
        _ => refusal,
    }
}

fn corrected(call: &Call, refusal: Refusal, channel: ChannelState, voucher: VoucherState) -> Refusal {
    let Requirements { extra: Extra::Escrow(extra), pay_to, .. } = &call.accepted else { return refusal };
    refusal.corrected(Correction { server_key: extra.server_public_key, pay_to: pay_to.clone(), channel, voucher })
}
