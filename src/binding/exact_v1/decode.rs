//! From the payload's hex to a transaction whose id is derived, never read.
//!
//! Both encodings carry an id and a mass that the sender wrote: they are dropped and the
//! transaction is rebuilt field by field.

use super::sdk_json;
use crate::protocol::limits;
use kaspa_consensus_core::tx::{ComputeCommit, Transaction};

/// The hex is not one transaction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("transaction is not hex")]
    NotHex,
    #[error("transaction is longer than {} bytes", limits::TX_BYTES)]
    TooLarge,
    #[error("transaction is not a Borsh transaction: {0}")]
    Borsh(String),
    #[error("transaction is not the SDK's transaction JSON: {0}")]
    SdkJson(String),
    #[error("the compute commitment of input {0} does not fit the transaction's version")]
    ComputeCommitment(usize),
}

/// Decodes (a) Borsh of the consensus transaction or (b) the SDK's transaction JSON, whichever it is.
///
/// The first byte tells: JSON starts with `{`, Borsh with the version's low byte, which no known version makes `{`.
pub fn decode(hex_text: &str) -> Result<Transaction, DecodeError> {
    if hex_text.len() > limits::TX_BYTES * 2 {
        return Err(DecodeError::TooLarge);
    }
    let bytes = hex::decode(hex_text).map_err(|_| DecodeError::NotHex)?;
    let claimed = if bytes.first() == Some(&b'{') {
        sdk_json::parse(&bytes).map_err(DecodeError::SdkJson)?
    } else {
        borsh::from_slice(&bytes).map_err(|error| DecodeError::Borsh(error.to_string()))?
    };
    rebuild(claimed)
}

/// The same transaction with a derived id, without the sender's mass.
fn rebuild(claimed: Transaction) -> Result<Transaction, DecodeError> {
    let budget = ComputeCommit::version_expects_compute_budget_field(claimed.version);
    for (index, input) in claimed.inputs.iter().enumerate() {
        if matches!(input.compute_commit, ComputeCommit::ComputeBudget(_)) != budget {
            return Err(DecodeError::ComputeCommitment(index));
        }
    }
    Ok(Transaction::new(
        claimed.version,
        claimed.inputs,
        claimed.outputs,
        claimed.lock_time,
        claimed.subnetwork_id,
        claimed.gas,
        claimed.payload,
    ))
}

/// The bytes that are stored, submitted and resubmitted.
pub fn encode(transaction: &Transaction) -> Vec<u8> {
    borsh::to_vec(transaction).expect("writing to memory does not fail")
}

/// Reads back what [`encode`] wrote.
pub fn read_stored(bytes: &[u8]) -> Result<Transaction, DecodeError> {
    rebuild(borsh::from_slice(bytes).map_err(|error| DecodeError::Borsh(error.to_string()))?)
}
