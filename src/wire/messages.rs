//! The three x402 v2 messages as they are sent (PROTOCOL section 1).

use crate::protocol::{amount::Amount, ids::TxId, network::Network, refusal::Code, requirements::Requirements};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// The only protocol version.
pub const X402_VERSION: u64 = 2;

/// The body of a 402 and the content of `PAYMENT-REQUIRED`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentRequired {
    pub x402_version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    pub resource: Resource,
    pub accepts: Vec<Requirements>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub extensions: Map<String, Value>,
}

/// What is sold.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Resource {
    pub url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
}

/// The content of `PAYMENT-RESPONSE`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SettlementResponse {
    pub success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_reason: Option<&'static str>,
    /// The transaction id; empty when there is none.
    pub transaction: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// Named by the node, never by the payload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount: Option<Amount>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub extensions: Map<String, Value>,
}

impl SettlementResponse {
    /// A receipt: `kaspa` becomes `extensions.kaspa`.
    pub fn settled(txid: TxId, network: Network, payer: Option<String>, amount: Amount, kaspa: Value) -> Self {
        Self {
            success: true,
            error_reason: None,
            transaction: txid.to_string(),
            network: Some(network),
            payer,
            amount: Some(amount),
            extensions: kaspa_extension(kaspa),
        }
    }

    /// A failure; `txid` whenever money may have moved.
    pub fn failed(reason: &'static str, txid: Option<TxId>, network: Option<Network>, kaspa: Value) -> Self {
        Self {
            success: false,
            error_reason: Some(reason),
            transaction: txid.map(|id| id.to_string()).unwrap_or_default(),
            network,
            payer: None,
            amount: None,
            extensions: kaspa_extension(kaspa),
        }
    }
}

/// The body of an answer that carries no offer: the stable code, what it means, and the request's name in the logs.
pub fn refusal(code: Code, request_id: &str) -> Value {
    json!({ "error": code.as_str(), "message": code.meaning(), "requestId": request_id })
}

fn kaspa_extension(value: Value) -> Map<String, Value> {
    Map::from_iter([("kaspa".to_owned(), value)])
}
