//! The payment of one request as it is sent: one `PAYMENT-SIGNATURE` value, built once and never changed.

use super::{
    offer::Quote,
    record::{Attempt, Channel, Kind},
};
use crate::{
    binding::escrow_v1::{
        EscrowScript, SignedVoucher,
        payload::{BatchPayload, ChannelVoucher, DepositVoucher},
    },
    client::{exchange::PaidRequest, payload},
    protocol::{
        amount::Amount,
        ids::{Outpoint, PaymentIdentifier, RequestHash},
    },
    wire::{header, identifier, messages::X402_VERSION},
};
use kaspa_consensus_core::tx::Transaction;
use serde_json::json;

/// What is signed for one request.
pub(super) struct Promise<'a> {
    pub quote: &'a Quote,
    pub kind: Kind,
    pub voucher: SignedVoucher,
    /// Of the voucher: what it holds, and K there.
    pub outpoint: Outpoint,
    pub funding: Amount,
    pub claimed: Amount,
    /// Of an opening or a top-up.
    pub transaction: Option<&'a Transaction>,
}

/// The payment of `request` from `channel`.
pub(super) fn attempt(
    channel: &Channel,
    script: &EscrowScript,
    request: &PaidRequest,
    id: &PaymentIdentifier,
    promise: Promise<'_>,
) -> Attempt {
    let Promise { quote, kind, voucher, outpoint, funding, claimed, transaction } = promise;
    let payload = match kind {
        Kind::Voucher => BatchPayload::Voucher(Box::new(ChannelVoucher {
            channel_id: channel.id,
            client_public_key: channel.config.client_public_key,
            funding_outpoint: outpoint,
            active_script_public_key: script.serialized(),
            voucher,
        })),
        Kind::Deposit | Kind::TopUp { .. } => BatchPayload::DepositVoucher(Box::new(DepositVoucher {
            channel_config: channel.config.clone(),
            channel_id: channel.id,
            escrow_address: script.address().to_string(),
            funding_transaction: transaction.map(|tx| hex::encode(borsh::to_vec(tx).expect("a transaction encodes into memory"))),
            funding_outpoint: outpoint,
            funding_amount_sompi: funding,
            active_script_public_key: script.serialized(),
            voucher,
        })),
    };
    let mut message = json!({
        "x402Version": X402_VERSION,
        "accepted": quote.offer.accepted,
        "payload": payload,
        "extensions": { identifier::NAME: payload::echo_identifier(&quote.extensions, id) },
    });
    if let Some(resource) = &quote.resource {
        message["resource"] = resource.clone();
    }
    let own_name = request.url();
    let url = quote.resource.as_ref().and_then(|resource| resource.get("url")?.as_str()).unwrap_or(&own_name);
    Attempt {
        kind,
        header: header::encode(&message).to_str().expect("base64 is visible ASCII").to_owned(),
        accepted: quote.offer.accepted.clone(),
        resource: quote.resource.clone(),
        extensions: quote.extensions.clone(),
        ceiling: quote.offer.ceiling,
        request_hash: request.request_hash(url, &quote.offer.accepted),
        requirements_hash: RequestHash(quote.offer.requirements_hash()),
        voucher,
        outpoint,
        funding,
        claimed,
        charged: channel.account.charged,
    }
}
