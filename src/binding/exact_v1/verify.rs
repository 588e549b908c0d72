//! Judging an exact payment against the terms it names: cheap checks first, no I/O.

use super::{
    decode::{self, DecodeError},
    payload::ExactTransfer,
};
use crate::{
    protocol::{
        ids::{RequestHash, TxId},
        limits,
        refusal::Code,
        requirements::Requirements,
    },
    wire::envelope::{Fault, PayerProof},
};
use kaspa_addresses::Address;
use kaspa_consensus_core::{
    constants::{MAX_TX_IN_SEQUENCE_NUM, TX_VERSION_TOCCATA},
    subnets::SUBNETWORK_ID_NATIVE,
    tx::Transaction,
};

/// What the gateway knows and the payload does not.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The authentic terms: the caller has checked the offer's MAC.
    pub accepted: &'a Requirements,
    /// The hash of the actual request under these terms.
    pub request_hash: RequestHash,
    pub require_request_hash: bool,
    /// The node's virtual DAA score, for lock times.
    pub daa_score: u64,
}

/// An exact payment that is right in all that can be judged without the store and the chain.
/// Made only by [`verify`].
#[must_use]
#[derive(Clone, Debug)]
pub struct VerifiedExact {
    transaction: Transaction,
    output_index: u32,
    request_hash: RequestHash,
    payer_proof: Option<PayerProof>,
}

impl VerifiedExact {
    /// The rebuilt transaction; its id is derived.
    pub fn transaction(&self) -> &Transaction {
        &self.transaction
    }

    pub fn txid(&self) -> TxId {
        self.transaction.id().into()
    }

    pub fn output_index(&self) -> u32 {
        self.output_index
    }

    /// The hash of the actual request, whether or not the payload carried it.
    pub fn request_hash(&self) -> RequestHash {
        self.request_hash
    }

    pub fn payer_proof(&self) -> Option<&PayerProof> {
        self.payer_proof.as_ref()
    }
}

/// All checks of PROTOCOL section 4 that need neither store nor chain, in its order.
pub fn verify(payload: &ExactTransfer, payer_proof: Option<PayerProof>, facts: Facts<'_>) -> Result<VerifiedExact, Fault> {
    let transaction = decode::decode(&payload.transaction).map_err(|error| {
        let code = match error {
            DecodeError::ComputeCommitment(_) => Code::TransactionForm,
            _ => Code::TransactionUndecodable,
        };
        Fault::new(code, error.to_string())
    })?;
    let derived = TxId::from(transaction.id());
    if payload.transaction_id.is_some_and(|hint| hint != derived) {
        return Err(Fault::new(Code::TransactionId, format!("the transaction's id is {derived}")));
    }
    output(&transaction, payload.payment_output_index, facts.accepted)?;
    form(&transaction, facts.daa_score)?;
    match payload.request_hash {
        Some(hash) if hash != facts.request_hash => {
            return Err(Fault::new(Code::RequestHashMismatch, format!("the hash of this request is {}", facts.request_hash)));
        }
        None if facts.require_request_hash => return Err(Fault::new(Code::RequestHashRequired, "requestHash is missing")),
        _ => {}
    }
    Ok(VerifiedExact { transaction, output_index: payload.payment_output_index, request_hash: facts.request_hash, payer_proof })
}

/// Exactly the amount, to exactly the recipient, once, without a covenant.
fn output(transaction: &Transaction, index: u32, accepted: &Requirements) -> Result<(), Fault> {
    let address = Address::try_from(accepted.pay_to.as_str())
        .map_err(|error| Fault::new(Code::OfferNotOurs, format!("accepted.payTo is not an address: {error}")))?;
    if address.prefix != accepted.network.address_prefix() {
        return Err(Fault::new(Code::OfferNotOurs, "accepted.payTo is an address of another network"));
    }
    let script = kaspa_txscript::pay_to_address_script(&address);
    let position = usize::try_from(index).ok().filter(|&position| position < transaction.outputs.len());
    let Some(position) = position else {
        return Err(Fault::new(Code::OutputIndex, format!("the transaction has {} outputs", transaction.outputs.len())));
    };
    let paying = &transaction.outputs[position];
    if paying.script_public_key != script {
        return Err(Fault::new(Code::OutputRecipient, format!("output {index} does not pay to {}", accepted.pay_to)));
    }
    if paying.value != accepted.amount.sompi() {
        return Err(Fault::new(
            Code::OutputAmount,
            format!("output {index} pays {} sompi; the price is {} sompi", paying.value, accepted.amount),
        ));
    }
    if paying.covenant.is_some() {
        return Err(Fault::new(Code::OutputCovenant, format!("output {index} is bound to a covenant")));
    }
    let twin = |(other, output): (usize, &kaspa_consensus_core::tx::TransactionOutput)| {
        other != position && output.script_public_key == script && output.value == paying.value
    };
    if transaction.outputs.iter().enumerate().any(twin) {
        return Err(Fault::new(Code::OutputAmbiguous, "two outputs pay the same amount to the recipient"));
    }
    Ok(())
}

/// An ordinary payment: known version, native, no gas, final, bounded.
pub(in crate::binding) fn form(transaction: &Transaction, daa_score: u64) -> Result<(), Fault> {
    let fault = |detail: &str| Err(Fault::new(Code::TransactionForm, detail));
    if transaction.version > TX_VERSION_TOCCATA {
        return fault("the transaction's version is not known here");
    }
    if transaction.subnetwork_id != SUBNETWORK_ID_NATIVE {
        return fault("the transaction is not on the native subnetwork");
    }
    if transaction.gas != 0 {
        return fault("the transaction has gas");
    }
    if transaction.inputs.is_empty() || transaction.inputs.len() > limits::TX_INPUTS {
        return fault("the transaction has no inputs, or too many");
    }
    if transaction.outputs.len() > limits::TX_OUTPUTS {
        return fault("the transaction has too many outputs");
    }
    let sequences_final = transaction.inputs.iter().all(|input| input.sequence == MAX_TX_IN_SEQUENCE_NUM);
    let lock = transaction.lock_time;
    // A lock time by timestamp is not judged here: no clock of ours decides about the node's past median time.
    let time_reached = lock == 0 || (lock < limits::LOCK_TIME_THRESHOLD && lock < daa_score);
    if !time_reached && !sequences_final {
        return fault("the transaction's lock time is not reached");
    }
    Ok(())
}
