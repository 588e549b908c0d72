//! The Kaspa SDK's transaction JSON, plain or "safe" (64-bit numbers as strings).
//!
//! Read strictly: unknown fields are refused. `id`, `mass`, `storageMass` and each input's `utxo`
//! are the sender's claims and are ignored.

use crate::protocol::{amount::parse_canonical_u64, json, limits};
use kaspa_consensus_core::{
    subnets::SubnetworkId,
    tx::{CovenantBinding, ScriptPublicKey, ScriptVec, Transaction, TransactionInput, TransactionOutpoint, TransactionOutput},
};
use kaspa_hashes::Hash;
use serde::{Deserialize, Deserializer, de::Error};
use serde_json::Value;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SdkTransaction {
    #[serde(default, rename = "id")]
    _id: Option<Value>,
    version: u16,
    inputs: Vec<SdkInput>,
    outputs: Vec<SdkOutput>,
    #[serde(deserialize_with = "number")]
    lock_time: u64,
    #[serde(deserialize_with = "bytes")]
    subnetwork_id: Vec<u8>,
    #[serde(deserialize_with = "number")]
    gas: u64,
    #[serde(deserialize_with = "bytes")]
    payload: Vec<u8>,
    #[serde(default, rename = "mass")]
    _mass: Option<Value>,
    #[serde(default, rename = "storageMass")]
    _storage_mass: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SdkInput {
    previous_outpoint: SdkOutpoint,
    #[serde(deserialize_with = "bytes")]
    signature_script: Vec<u8>,
    #[serde(deserialize_with = "number")]
    sequence: u64,
    #[serde(default)]
    sig_op_count: Option<u8>,
    #[serde(default)]
    compute_budget: Option<u16>,
    #[serde(default, rename = "utxo")]
    _utxo: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SdkOutpoint {
    #[serde(deserialize_with = "hash")]
    transaction_id: Hash,
    index: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SdkOutput {
    #[serde(deserialize_with = "number")]
    value: u64,
    script_public_key: SdkScript,
    #[serde(default)]
    covenant: Option<SdkCovenant>,
}

/// As an object, or serialized: 2-byte big-endian version, then the script, as hex.
#[derive(Deserialize)]
#[serde(untagged)]
enum SdkScript {
    Object(SdkScriptObject),
    Serialized(#[serde(deserialize_with = "bytes")] Vec<u8>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SdkScriptObject {
    version: u16,
    #[serde(deserialize_with = "bytes")]
    script: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SdkCovenant {
    authorizing_input: u16,
    #[serde(deserialize_with = "hash")]
    covenant_id: Hash,
}

/// The transaction the bytes describe, or what is wrong with them.
pub fn parse(bytes: &[u8]) -> Result<Transaction, String> {
    let value = json::parse_strict(bytes, limits::JSON_DEPTH).map_err(|error| error.to_string())?;
    let sdk: SdkTransaction = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let version = sdk.version;
    let inputs = sdk.inputs.into_iter().map(|input| convert_input(version, input)).collect::<Result<_, _>>()?;
    let outputs = sdk.outputs.into_iter().map(convert_output).collect::<Result<_, _>>()?;
    let subnetwork: [u8; 20] = sdk.subnetwork_id.try_into().map_err(|_| "subnetworkId is not 20 bytes")?;
    Ok(Transaction::new(version, inputs, outputs, sdk.lock_time, SubnetworkId::from_bytes(subnetwork), sdk.gas, sdk.payload))
}

/// Version 0 commits by signature operations, later versions by a compute budget; the other field,
/// which the SDK writes as well, must then be absent or 0.
fn convert_input(version: u16, input: SdkInput) -> Result<TransactionInput, String> {
    let outpoint = TransactionOutpoint::new(input.previous_outpoint.transaction_id, input.previous_outpoint.index);
    let misfit = || "the compute commitment does not fit the transaction's version".to_owned();
    if version == 0 {
        if input.compute_budget.is_some_and(|budget| budget != 0) {
            return Err(misfit());
        }
        let count = input.sig_op_count.ok_or("sigOpCount is missing")?;
        return Ok(TransactionInput::new(outpoint, input.signature_script, input.sequence, count));
    }
    if input.sig_op_count.is_some_and(|count| count != 0) {
        return Err(misfit());
    }
    let budget = input.compute_budget.ok_or("computeBudget is missing")?;
    Ok(TransactionInput::new_with_compute_budget(outpoint, input.signature_script, input.sequence, budget))
}

fn convert_output(output: SdkOutput) -> Result<TransactionOutput, String> {
    let (version, script) = match output.script_public_key {
        SdkScript::Object(object) => (object.version, object.script),
        SdkScript::Serialized(bytes) => match bytes.split_first_chunk::<2>() {
            Some((version, script)) => (u16::from_be_bytes(*version), script.to_vec()),
            None => return Err("scriptPublicKey is shorter than its version".into()),
        },
    };
    let script = ScriptPublicKey::new(version, ScriptVec::from_vec(script));
    let covenant = output.covenant.map(|covenant| CovenantBinding::new(covenant.authorizing_input, covenant.covenant_id));
    Ok(TransactionOutput::with_covenant(output.value, script, covenant))
}

/// A 64-bit number, as a JSON number or as a canonical decimal string.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => parse_canonical_u64(&text),
        _ => None,
    }
    .ok_or_else(|| D::Error::custom("not an unsigned 64-bit number"))
}

fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    hex::decode(String::deserialize(deserializer)?).map_err(|_| D::Error::custom("not hex"))
}

fn hash<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Hash, D::Error> {
    let bytes: [u8; 32] = bytes(deserializer)?.try_into().map_err(|_| D::Error::custom("not 32 bytes of hex"))?;
    Ok(Hash::from_bytes(bytes))
}
