//! The `exact-transfer` payload. Everything in it but `transaction` is a hint.

use crate::{
    protocol::{
        ids::{RequestHash, TxId},
        present,
        refusal::Code,
    },
    wire::envelope::Fault,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// As it stands on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExactTransfer {
    pub r#type: ExactType,
    #[serde(default, deserialize_with = "present::deserialize", skip_serializing_if = "Option::is_none")]
    pub payer_address: Option<String>,
    /// Hex of either transaction encoding.
    pub transaction: String,
    #[serde(default, deserialize_with = "present::deserialize", skip_serializing_if = "Option::is_none")]
    pub transaction_id: Option<TxId>,
    pub payment_output_index: u32,
    #[serde(default, deserialize_with = "present::deserialize", skip_serializing_if = "Option::is_none")]
    pub request_hash: Option<RequestHash>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExactType {
    #[serde(rename = "exact-transfer")]
    ExactTransfer,
}

/// Reads the payload of an exact payment.
pub fn parse(payload: Map<String, Value>) -> Result<ExactTransfer, Fault> {
    match payload.get("type") {
        Some(Value::String(kind)) if kind == "exact-transfer" => {}
        Some(Value::String(kind)) => return Err(Fault::new(Code::PayloadType, format!("payload.type {kind:?} does not belong to exact"))),
        _ => return Err(Fault::new(Code::HeaderSchema, "payload.type is missing or not a string")),
    }
    serde_json::from_value(Value::Object(payload)).map_err(|error| Fault::new(Code::HeaderSchema, format!("payload: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_fault_of_a_payload_has_its_code() {
        let valid = json!({"type": "exact-transfer", "transaction": "00", "paymentOutputIndex": 0});
        let with = |name: &str, value: Value| {
            let mut payload = valid.clone();
            payload[name] = value;
            payload
        };
        let without = |name: &str| {
            let mut payload = valid.clone();
            payload.as_object_mut().unwrap().remove(name);
            payload
        };
        for (payload, expect) in [
            (valid.clone(), None),
            (with("transactionId", json!("AB".repeat(32))), None),
            (with("requestHash", json!("ab".repeat(32))), None),
            (with("payerAddress", json!("anything: a hint")), None),
            (with("type", json!("voucher")), Some(Code::PayloadType)),
            (with("type", json!("claim")), Some(Code::PayloadType)),
            (with("type", json!(1)), Some(Code::HeaderSchema)),
            (without("type"), Some(Code::HeaderSchema)),
            (without("transaction"), Some(Code::HeaderSchema)),
            (without("paymentOutputIndex"), Some(Code::HeaderSchema)),
            (with("paymentOutputIndex", json!(-1)), Some(Code::HeaderSchema)),
            (with("paymentOutputIndex", json!("0")), Some(Code::HeaderSchema)),
            (with("paymentOutputIndex", json!(4_294_967_296u64)), Some(Code::HeaderSchema)),
            (with("transactionId", json!("ab")), Some(Code::HeaderSchema)),
            (with("requestHash", json!("zz".repeat(32))), Some(Code::HeaderSchema)),
            (with("more", json!(1)), Some(Code::HeaderSchema)),
        ] {
            let parsed = parse(payload.as_object().unwrap().clone());
            assert_eq!(parsed.err().map(|fault| fault.code), expect, "{payload}");
        }
    }
}
