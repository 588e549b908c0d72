//! What the holder of a channel's key is told about it, in receipts and corrective 402s.

use crate::{
    binding::escrow_v1::EscrowScript,
    gateway::{quote::Correction, respond::Refusal},
    protocol::{
        amount::Amount,
        ids::{ChannelId, Outpoint},
        refusal::Code,
        requirements::{ChannelState, VoucherState},
    },
    store::channels::{ChannelRecord, ChargeRecord},
};

/// The state of a channel as its record has it.
pub(in crate::gateway) fn state(record: &ChannelRecord, script: &EscrowScript) -> ChannelState {
    let parts = record.parts;
    shown(record.id, script, record.outpoint, (parts.funding, parts.charged, parts.claimed, parts.signed))
}

/// The state right after a charge.
pub(super) fn state_after(charge: &ChargeRecord, script: &EscrowScript) -> ChannelState {
    let terms = &charge.terms;
    shown(charge.channel, script, terms.outpoint, (charge.funding, charge.charged_after, charge.claimed, terms.voucher.amount))
}

fn shown(
    channel_id: ChannelId,
    script: &EscrowScript,
    active_outpoint: Outpoint,
    (funding_amount, charged_cumulative_amount, claimed_cumulative_amount, signed_max_claimable): (Amount, Amount, Amount, Amount),
) -> ChannelState {
    ChannelState {
        active_outpoint,
        active_script_public_key: script.serialized(),
        channel_id,
        charged_cumulative_amount,
        claimed_cumulative_amount,
        funding_amount,
        signed_max_claimable,
    }
}

/// A refusal that the client can mend by what it is told. Only for who has proven the channel's key, with a voucher for `proof`.
///
/// The signature of the latest voucher is worth what that leaves above the charges, and only a voucher for the active outpoint is a secret: a
/// claim shows everybody the one for the outpoint that it spends.
pub(super) fn refusal(code: Code, detail: impl Into<String>, record: &ChannelRecord, script: &EscrowScript, proof: Outpoint) -> Refusal {
    let signature = record.voucher.filter(|_| proof == record.outpoint).map(|voucher| voucher.signature);
    Refusal::new(code, detail).corrected(Correction {
        server_key: record.config.server_public_key,
        pay_to: record.config.pay_to.clone(),
        channel: state(record, script),
        voucher: VoucherState { amount: record.parts.signed, signature },
    })
}
