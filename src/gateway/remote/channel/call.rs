//! What the facilitator is asked about a sale from a channel: the payment as it was first presented, equal for every try.

use super::super::call::about;
use crate::{
    binding::escrow_v1::{
        SignedVoucher,
        hashes::BatchTerms,
        payload::{self, BatchPayload, RoutePayload},
    },
    gateway::{channel::serve::ChannelSale, respond::Refusal},
    protocol::{
        amount::Amount,
        ids::{ChannelId, Outpoint, P2shScript, PaymentIdentifier, RequestHash, TxId, XOnlyKey},
        network::Network,
        refusal::Code,
        requirements::{Extra, Requirements},
    },
    store::{PaymentKey, PaymentRecord},
    wire::{canonical, envelope, identifier, messages::X402_VERSION},
};
use serde_json::{Value, json};

/// Parts of the hashes that are made here.
const SALE: &str = "kas402:sale-from-channel:v1";
const OFFER: &str = "kas402:offer-of-channel:v1";

/// Under which a sale is kept: one for each identifier that a channel's client chose. No transaction has this id.
pub(in crate::gateway) fn key_of(network: Network, channel: &ChannelId, identifier: &PaymentIdentifier) -> PaymentKey {
    let sale = json!({ "scope": SALE, "channel": channel, "identifier": identifier.as_str() });
    PaymentKey { network, txid: TxId(canonical::sha256(&sale)) }
}

/// An offer is good for one sale of a channel: the name that its sales claim.
pub(super) fn offer_name(channel: &ChannelId, nonce: [u8; 16]) -> Result<PaymentIdentifier, Refusal> {
    let offer = json!({ "scope": OFFER, "channel": channel, "nonce": hex::encode(nonce) });
    PaymentIdentifier::parse(&hex::encode(canonical::sha256(&offer))).map_err(|_| Refusal::new(Code::IdentifierMalformed, ""))
}

/// The channel's side of a payment.
#[derive(Clone, Debug)]
pub(super) struct Presented {
    pub channel: ChannelId,
    pub client: XOnlyKey,
    pub script: P2shScript,
    pub outpoint: Outpoint,
    pub voucher: SignedVoucher,
}

impl Presented {
    pub fn of(payload: &RoutePayload) -> Self {
        match payload {
            RoutePayload::Deposit(deposit) => Self {
                channel: deposit.channel_id,
                client: deposit.channel_config.client_public_key,
                script: deposit.active_script_public_key,
                outpoint: deposit.funding_outpoint,
                voucher: deposit.voucher,
            },
            RoutePayload::Voucher(paying) => Self {
                channel: paying.channel_id,
                client: paying.client_public_key,
                script: paying.active_script_public_key,
                outpoint: paying.funding_outpoint,
                voucher: paying.voucher,
            },
        }
    }

    /// Whether somebody who presents `other` holds this one's key.
    pub fn is_of_the_same_key(&self, other: &Self, network: Network) -> bool {
        other.voucher.verify_under(network, self.client, &self.script, other.outpoint)
    }
}

/// A sale as the facilitator is asked for it.
#[derive(Clone, Debug)]
pub(super) struct Call {
    payment: Value,
    pub request_hash: RequestHash,
    pub presented: Presented,
    pub accepted: Requirements,
}

/// What it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Whether it is good.
    Verdict,
    /// To bring its deposit in, and then whether it is good.
    Deposit,
    /// To charge it; `None` for the whole amount.
    Charge(Option<Amount>),
}

impl Call {
    pub fn of(sale: &ChannelSale) -> Self {
        let payload = match &sale.payload {
            RoutePayload::Deposit(deposit) => BatchPayload::DepositVoucher(deposit.clone()),
            RoutePayload::Voucher(voucher) => BatchPayload::Voucher(voucher.clone()),
        };
        let payment = json!({
            "x402Version": X402_VERSION,
            "accepted": sale.accepted,
            "payload": payload,
            "extensions": { identifier::NAME: { "info": { "id": sale.identifier.as_str() } } },
        });
        let presented = Presented::of(&sale.payload);
        Self { payment, request_hash: sale.request_hash, presented, accepted: sale.accepted.clone() }
    }

    /// As it was first presented.
    pub fn stored(record: &PaymentRecord) -> Result<Self, Refusal> {
        let unreadable = |why: String| {
            tracing::error!(why, sequence = record.sequence, "a stored sale from a channel cannot be read");
            Refusal::new(Code::StoreUnavailable, "")
        };
        let payment: Value = serde_json::from_slice(&record.transaction).map_err(|error| unreadable(error.to_string()))?;
        let read = envelope::parse(payment.clone()).and_then(|envelope| {
            let payload = payload::parse(envelope.payload)?.on_route()?;
            Ok((Presented::of(&payload), envelope.accepted))
        });
        let (presented, accepted) = read.map_err(|fault| unreadable(fault.detail))?;
        Ok(Self { payment, request_hash: record.request_hash, presented, accepted })
    }

    /// What [`Self::stored`] reads.
    pub fn bytes(&self) -> Vec<u8> {
        canonical::to_vec(&self.payment)
    }

    pub fn ask(&self, wanted: Wanted) -> Value {
        let mut call = about(&self.payment, &self.accepted, &self.request_hash);
        match wanted {
            Wanted::Deposit => call["deposit"] = true.into(),
            Wanted::Charge(Some(charge)) => call["charge"] = charge.to_string().into(),
            Wanted::Verdict | Wanted::Charge(None) => {}
        }
        call
    }

    /// Part of what a charge commits to.
    pub fn requirements_hash(&self) -> Option<[u8; 32]> {
        match &self.accepted.extra {
            Extra::Escrow(extra) => Some(BatchTerms::of(&self.accepted, extra).hash()),
            Extra::Exact(_) => None,
        }
    }
}

/// The client of a sale's channel, for the books.
pub(in crate::gateway) fn client_of(record: &PaymentRecord) -> Option<XOnlyKey> {
    record.from_channel.as_ref()?;
    Call::stored(record).ok().map(|call| call.presented.client)
}
