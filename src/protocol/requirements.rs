//! The terms of one way to pay, as x402 `PaymentRequirements` (PROTOCOL sections 1, 3, 4).
//!
//! Serialised, this is one element of `accepts`; a payment repeats it whole as `accepted`.

use super::{
    amount::Amount,
    decimal,
    ids::{ChannelId, Outpoint, P2shScript, SchnorrSignature, XOnlyKey},
    network::Network,
    present,
};
use serde::{Deserialize, Serialize};

/// The scheme names of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Scheme {
    #[serde(rename = "exact")]
    Exact,
    #[serde(rename = "batch-settlement")]
    BatchSettlement,
}

impl Scheme {
    pub const ALL: [Self; 2] = [Self::Exact, Self::BatchSettlement];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::BatchSettlement => "batch-settlement",
        }
    }
}

/// When a payment counts as settled, weakest first (PROTOCOL section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Finality {
    /// In the node's mempool. Replaceable: only with an explicit risk opt-in and a maximum amount.
    Mempool,
    /// Accepted by the virtual chain.
    Accepted,
    /// Accepted, and the sink's blue score is at least the route's depth above the accepting block's.
    Confirmed,
}

impl Finality {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mempool => "mempool",
            Self::Accepted => "accepted",
            Self::Confirmed => "confirmed",
        }
    }

    /// Whether a payment that reached this level satisfies a demand for `required`. The depth of `confirmed` is the route's.
    pub fn suffices_for(self, required: Self) -> bool {
        self >= required
    }
}

/// What a route demands before it releases the resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinalityRule {
    pub level: Finality,
    /// For [`Finality::Confirmed`]: sink blue score minus the accepting block's blue score. 0 otherwise.
    pub depth: u64,
}

/// One element of `accepts`. Unknown fields are refused: they would not have been offered.
/// The members stand in canonical order, so that printing an offer is its canonical form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Requirements {
    /// Sompi: the exact price, or the ceiling of one request under `batch-settlement`.
    pub amount: Amount,
    pub asset: Asset,
    pub extra: Extra,
    pub max_timeout_seconds: u64,
    pub network: Network,
    /// A Kaspa address of `network`.
    pub pay_to: String,
    pub scheme: Scheme,
}

/// The only asset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Asset {
    #[serde(rename = "KAS")]
    Kas,
}

/// `extra`: one shape per binding. The members of each stand in canonical order behind the tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "binding")]
pub enum Extra {
    #[serde(rename = "kaspa-exact-v1")]
    Exact(ExactExtra),
    #[serde(rename = "kaspa-escrow-v1")]
    Escrow(Box<EscrowExtra>),
}

impl Extra {
    /// The signed token of this offer (PROTOCOL section 3).
    pub fn offer(&self) -> &str {
        match self {
            Self::Exact(exact) => &exact.offer,
            Self::Escrow(escrow) => &escrow.offer,
        }
    }

    pub fn offer_mut(&mut self) -> &mut String {
        match self {
            Self::Exact(exact) => &mut exact.offer,
            Self::Escrow(escrow) => &mut escrow.offer,
        }
    }

    pub const fn binding(&self) -> Binding {
        match self {
            Self::Exact(_) => Binding::ExactV1,
            Self::Escrow(_) => Binding::EscrowV1,
        }
    }
}

/// `extra` of an `exact` offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExactExtra {
    pub finality: Finality,
    /// The signed token of this offer (PROTOCOL section 3).
    pub offer: String,
    pub payment_flow: PaymentFlow,
}

/// `extra` of a `batch-settlement` offer (PROTOCOL section 5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EscrowExtra {
    /// Only in a corrective 402: where the channel stands. Part of the signed terms, so that it is echoed as it was sent.
    #[serde(default, deserialize_with = "present::deserialize", skip_serializing_if = "Option::is_none")]
    pub channel_state: Option<ChannelState>,
    /// When the gateway claims, for people.
    #[serde(default, deserialize_with = "present::deserialize", skip_serializing_if = "Option::is_none")]
    pub claim_policy: Option<String>,
    /// The least an escrow is opened with, sompi.
    pub min_deposit_sompi: Amount,
    /// The signed token of this offer (PROTOCOL section 3).
    pub offer: String,
    /// Absolute DAA score after which the client may take the rest back: of a channel opened under this offer.
    #[serde(with = "decimal")]
    pub refund_timeout_daa: u64,
    pub server_public_key: XOnlyKey,
    pub template_id: TemplateId,
    /// Only in a corrective 402, and always with `channel_state`: the client's own latest voucher.
    #[serde(default, deserialize_with = "present::deserialize", skip_serializing_if = "Option::is_none")]
    pub voucher_state: Option<VoucherState>,
}

/// Where a channel stands, as receipts and corrective 402s say it. Amounts in sompi.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChannelState {
    pub active_outpoint: Outpoint,
    pub active_script_public_key: P2shScript,
    pub channel_id: ChannelId,
    /// Charged over the channel's whole life.
    pub charged_cumulative_amount: Amount,
    /// Claimed on chain over the channel's whole life.
    pub claimed_cumulative_amount: Amount,
    /// Of the active outpoint.
    pub funding_amount: Amount,
    /// The latest voucher's amount for the active outpoint; zero when there is none.
    pub signed_max_claimable: Amount,
}

/// The latest voucher that the gateway holds for the active outpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VoucherState {
    pub amount: Amount,
    /// Absent when nothing was signed for this outpoint yet.
    #[serde(default, deserialize_with = "present::deserialize", skip_serializing_if = "Option::is_none")]
    pub signature: Option<SchnorrSignature>,
}

/// The escrow script's name. Another script is another template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TemplateId {
    #[serde(rename = "kaspa-x402-escrow-v1")]
    EscrowV1,
}

impl TemplateId {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EscrowV1 => "kaspa-x402-escrow-v1",
        }
    }
}

/// The bindings spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    ExactV1,
    EscrowV1,
}

impl Binding {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ExactV1 => "kaspa-exact-v1",
            Self::EscrowV1 => "kaspa-escrow-v1",
        }
    }

    /// The binding under which a scheme is sold.
    pub const fn of(scheme: Scheme) -> Self {
        match scheme {
            Scheme::Exact => Self::ExactV1,
            Scheme::BatchSettlement => Self::EscrowV1,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PaymentFlow {
    Upfront,
}
