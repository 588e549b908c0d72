//! The four payloads of `batch-settlement`, as they stand on the wire. Nothing in them is believed yet.

use super::{config::ChannelConfig, voucher::SignedVoucher};
use crate::{
    protocol::{
        amount::Amount,
        ids::{ChannelId, Outpoint, P2shScript, XOnlyKey},
        present,
        refusal::Code,
    },
    wire::envelope::Fault,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Opens a channel or tops one up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DepositVoucher {
    pub channel_config: ChannelConfig,
    pub channel_id: ChannelId,
    pub escrow_address: String,
    /// Hex of either transaction encoding; absent when the client broadcast it.
    #[serde(default, deserialize_with = "present::deserialize", skip_serializing_if = "Option::is_none")]
    pub funding_transaction: Option<String>,
    pub funding_outpoint: Outpoint,
    pub funding_amount_sompi: Amount,
    pub active_script_public_key: P2shScript,
    pub voucher: SignedVoucher,
}

/// Pays one request from a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChannelVoucher {
    pub channel_id: ChannelId,
    pub client_public_key: XOnlyKey,
    pub funding_outpoint: Outpoint,
    pub active_script_public_key: P2shScript,
    pub voucher: SignedVoucher,
}

/// [`ChannelVoucher`] with its `type`, for who reads it without a tree.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TypedVoucher {
    r#type: VoucherType,
    channel_id: ChannelId,
    client_public_key: XOnlyKey,
    funding_outpoint: Outpoint,
    active_script_public_key: P2shScript,
    voucher: SignedVoucher,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum VoucherType {
    #[serde(rename = "voucher")]
    Voucher,
}

impl From<TypedVoucher> for ChannelVoucher {
    fn from(typed: TypedVoucher) -> Self {
        let TypedVoucher {
            r#type: VoucherType::Voucher,
            channel_id,
            client_public_key,
            funding_outpoint,
            active_script_public_key,
            voucher,
        } = typed;
        Self { channel_id, client_public_key, funding_outpoint, active_script_public_key, voucher }
    }
}

/// Asks a facilitator to claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClaimRequest {
    pub channel_id: ChannelId,
    pub funding_outpoint: Outpoint,
    pub active_script_public_key: P2shScript,
    pub claim_amount: Amount,
    pub voucher: SignedVoucher,
}

/// Asks a facilitator to relay a refund.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RefundRequest {
    pub channel_id: ChannelId,
    pub funding_outpoint: Outpoint,
    pub active_script_public_key: P2shScript,
    pub refund_address: String,
    pub refund_amount: Amount,
    pub voucher: SignedVoucher,
}

/// Any payload of the scheme; serialises with its `type`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum BatchPayload {
    DepositVoucher(Box<DepositVoucher>),
    Voucher(Box<ChannelVoucher>),
    Claim(ClaimRequest),
    Refund(RefundRequest),
}

/// What pays for a request on a proxied route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoutePayload {
    Deposit(Box<DepositVoucher>),
    Voucher(Box<ChannelVoucher>),
}

impl BatchPayload {
    /// Refuses the operations that are not payments.
    pub fn on_route(self) -> Result<RoutePayload, Fault> {
        match self {
            Self::DepositVoucher(deposit) => Ok(RoutePayload::Deposit(deposit)),
            Self::Voucher(voucher) => Ok(RoutePayload::Voucher(voucher)),
            Self::Claim(_) => Err(Fault::new(Code::PaymentTypeNotAllowed, "a claim is no payment for a request")),
            Self::Refund(_) => Err(Fault::new(Code::PaymentTypeNotAllowed, "a refund is no payment for a request")),
        }
    }
}

/// Reads the payload of a batch payment.
pub fn parse(mut payload: Map<String, Value>) -> Result<BatchPayload, Fault> {
    let Some(Value::String(kind)) = payload.remove("type") else {
        return Err(Fault::new(Code::HeaderSchema, "payload.type is missing or not a string"));
    };
    match kind.as_str() {
        "deposit-voucher" => read(payload).map(BatchPayload::DepositVoucher),
        "voucher" => read(payload).map(BatchPayload::Voucher),
        "claim" => read(payload).map(BatchPayload::Claim),
        "refund" => read(payload).map(BatchPayload::Refund),
        _ => Err(Fault::new(Code::PayloadType, format!("payload.type {kind:?} does not belong to batch-settlement"))),
    }
}

fn read<T: serde::de::DeserializeOwned>(payload: Map<String, Value>) -> Result<T, Fault> {
    serde_json::from_value(Value::Object(payload)).map_err(|error| Fault::new(Code::HeaderSchema, format!("payload: {error}")))
}
