//! The terms of one way to pay, as x402 `PaymentRequirements` (PROTOCOL sections 1, 3, 4).
//!
//! Serialised, this is one element of `accepts`; a payment repeats it whole as `accepted`.

use super::{amount::Amount, network::Network};
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
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::BatchSettlement => "batch-settlement",
        }
    }
}

/// When a payment counts as settled (PROTOCOL section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// `extra` of an exact offer. A further binding adds its own shape and makes this an enum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Extra {
    pub binding: Binding,
    pub finality: Finality,
    /// The signed token of this offer (PROTOCOL section 3).
    pub offer: String,
    pub payment_flow: PaymentFlow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Binding {
    #[serde(rename = "kaspa-exact-v1")]
    ExactV1,
}

impl Binding {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ExactV1 => "kaspa-exact-v1",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PaymentFlow {
    Upfront,
}
