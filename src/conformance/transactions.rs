//! Transactions: decoding, the claim, the refund, and storage mass.

use super::{
    http::either,
    shape::{Object, Problem},
};
use crate::{
    binding::{
        escrow_v1::{
            ChannelConfig, EscrowScript, SignedVoucher,
            script::serialize,
            spend::{Escrow, SpendRules, plan_claim, plan_refund},
        },
        exact_v1::decode::{self, DecodeError},
    },
    protocol::{
        ids::{SchnorrSignature, TxId},
        network::Network,
        refusal::Code,
    },
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

/// The escrow that both spends are of.
struct Spend {
    script: EscrowScript,
    outpoint: crate::protocol::ids::Outpoint,
    funding: crate::protocol::amount::Amount,
    rules: SpendRules,
}

impl Spend {
    fn of(input: &mut Object) -> Result<Self, Problem> {
        let config: ChannelConfig = input.read("channelConfig")?;
        let script = EscrowScript::of(&config).map_err(|error| input.malformed("channelConfig", error.to_string()))?;
        let (outpoint, funding) = (input.read("fundingOutpoint")?, input.read("fundingAmount")?);
        Ok(Self { script, outpoint, funding, rules: SpendRules::of(config.network) })
    }

    fn escrow(&self) -> Escrow<'_> {
        Escrow { script: &self.script, outpoint: self.outpoint, funding: self.funding }
    }
}

pub fn claim_tx(vector: &mut Object) -> Result<(), Problem> {
    let mut input = vector.object("input")?;
    let spend = Spend::of(&mut input)?;
    let (amount, voucher) = (input.read("claimAmount")?, input.read::<SignedVoucher>("voucher")?);
    let signature: SchnorrSignature = input.read("serverSignature")?;
    input.done()?;
    let failed = |error: crate::binding::escrow_v1::spend::SpendError| Problem::Malformed("input".to_owned(), error.to_string());
    let plan = plan_claim(spend.escrow(), amount, &spend.rules).map_err(failed)?;
    let mut sighash = [0; 32];
    let signed = plan.sign(spend.escrow(), &voucher, |digest| {
        sighash = *digest;
        signature.0
    });
    let signed = signed.map_err(failed)?;
    let mut expected = vector.object("expected")?;
    expected.equals("fee", &plan.fee.to_string())?;
    expected.equals("payout", &plan.payout.to_string())?;
    expected.equals("continuation", &plan.continuation.to_string())?;
    finish(&mut expected, plan.storage_mass, &sighash, &signed.transaction)?;
    if !voucher.verify(&spend.script, spend.outpoint) {
        return Err(Problem::Malformed("input/voucher".to_owned(), "not signed by clientPublicKey".to_owned()));
    }
    signed_by(spend.script.server_key(), &sighash, &signature, "input/serverSignature")
}

pub fn refund_tx(vector: &mut Object) -> Result<(), Problem> {
    let mut input = vector.object("input")?;
    let spend = Spend::of(&mut input)?;
    let signature: SchnorrSignature = input.read("clientSignature")?;
    input.done()?;
    let plan = plan_refund(spend.escrow(), &spend.rules).map_err(|error| Problem::Malformed("input".to_owned(), error.to_string()))?;
    let mut sighash = [0; 32];
    let (_, transaction) = plan.sign(spend.escrow(), |digest| {
        sighash = *digest;
        signature.0
    });
    let mut expected = vector.object("expected")?;
    expected.equals("fee", &plan.fee.to_string())?;
    expected.equals("amount", &plan.amount.to_string())?;
    expected.equals("lockTime", &transaction.lock_time.to_string())?;
    finish(&mut expected, plan.storage_mass, &sighash, &transaction)?;
    signed_by(spend.script.client_key(), &sighash, &signature, "input/clientSignature")
}

fn finish(expected: &mut Object, storage_mass: u64, sighash: &[u8; 32], transaction: &Transaction) -> Result<(), Problem> {
    expected.equals("storageMass", &storage_mass.to_string())?;
    expected.equals("sighash", &hex::encode(sighash))?;
    expected.equals("signatureScript", &hex::encode(&transaction.inputs[0].signature_script))?;
    expected.equals("transactionId", &transaction.id().to_string())?;
    expected.done()
}

fn signed_by(
    key: &crate::binding::escrow_v1::VoucherKey,
    digest: &[u8; 32],
    signature: &SchnorrSignature,
    place: &str,
) -> Result<(), Problem> {
    if key.verify(digest, signature) {
        Ok(())
    } else {
        Err(Problem::Malformed(place.to_owned(), "not by the key of the channel".to_owned()))
    }
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
