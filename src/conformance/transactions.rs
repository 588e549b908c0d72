//! Transactions: decoding, and storage mass.

use super::shape::{Object, Problem, either};
use crate::{
    binding::{
        escrow_v1::{script::serialize, spend::SpendRules},
        exact_v1::decode::{self, DecodeError},
    },
    protocol::{ids::TxId, network::Network, refusal::Code},
};
use kaspa_consensus_core::tx::{ScriptPublicKey, ScriptVec, Transaction, TransactionOutput, UtxoEntry};
use serde_json::{Value, json};

/// What a decoded transaction says.
fn told(transaction: &Transaction) -> Value {
    let outputs: Vec<Value> = transaction
        .outputs
        .iter()
        .map(|output| json!({ "amount": output.value.to_string(), "scriptPublicKey": hex::encode(serialize(&output.script_public_key)) }))
        .collect();
    let spends: Vec<Value> = transaction
        .inputs
        .iter()
        .map(|input| json!({ "txid": TxId::from(input.previous_outpoint.transaction_id), "index": input.previous_outpoint.index }))
        .collect();
    json!({ "transactionId": transaction.id().to_string(), "version": transaction.version, "spends": spends, "outputs": outputs })
}

pub fn transaction_decode(vector: &mut Object) -> Result<(), Problem> {
    let mut input = vector.object("input")?;
    let text = input.text("transaction")?;
    input.done()?;
    let decoded = decode::decode(&text).map(|transaction| ("transaction", told(&transaction)));
    let code = |error| match error {
        DecodeError::ComputeCommitment(_) => Code::TransactionForm,
        _ => Code::TransactionUndecodable,
    };
    either(vector, decoded.map_err(|error| code(error).as_str().to_owned()))
}

pub fn storage_mass(vector: &mut Object) -> Result<(), Problem> {
    let mut input = vector.object("input")?;
    let rules = SpendRules::of(input.read::<Network>("network")?);
    let (spends, pays) = (amounts(&mut input, "spends")?, amounts(&mut input, "pays")?);
    input.done()?;
    // As long as an ordinary pay-to-public-key script: one cell of storage.
    let script = ScriptPublicKey::new(0, ScriptVec::from_slice(&[0; 34]));
    let entries: Vec<UtxoEntry> = spends.into_iter().map(|amount| UtxoEntry::new(amount, script.clone(), 0, false, None)).collect();
    let outputs: Vec<TransactionOutput> = pays.into_iter().map(|amount| TransactionOutput::new(amount, script.clone())).collect();
    let mass = rules.storage_mass(&entries, &outputs).map(|grams| ("grams", grams.to_string().into()));
    either(vector, mass.ok_or_else(|| "too_heavy".to_owned()))
}

fn amounts(input: &mut Object, name: &str) -> Result<Vec<u64>, Problem> {
    let amounts: Vec<crate::protocol::amount::Amount> = input.read(name)?;
    Ok(amounts.into_iter().map(crate::protocol::amount::Amount::sompi).collect())
}
