//! Spends of an escrow: the claim, the refund and the top-up, and whether the script lets a transaction spend it.

use super::shape::{Object, Problem, either, result};
use crate::{
    binding::{
        escrow_v1::{
            ChannelConfig, EscrowScript, SignedVoucher, VoucherKey,
            spend::{
                CheckedTopUp, Continuation, ContinuationError, Escrow, SpendError, SpendRules, allows, check_continuation, check_top_up,
                plan_claim, plan_refund,
            },
        },
        exact_v1::decode,
    },
    protocol::{
        amount::Amount,
        ids::{Outpoint, SchnorrSignature},
    },
};
use kaspa_consensus_core::tx::{ScriptPublicKey, ScriptVec, Transaction, UtxoEntry};
use serde_json::json;

/// The escrow that is spent.
struct Spend {
    script: EscrowScript,
    outpoint: Outpoint,
    funding: Amount,
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

/// Why no such transaction is made, in a word.
fn word(error: SpendError) -> String {
    let word = match error {
        SpendError::ExceedsFunding { .. } => "exceeds_funding",
        SpendError::Uneconomic { .. } => "uneconomic",
        SpendError::VoucherTooLow { .. } => "voucher_too_low",
    };
    word.to_owned()
}

/// Notes what there is to sign, and gives the vector's signature.
fn signer(signature: Option<SchnorrSignature>, sighash: &mut [u8; 32]) -> impl FnOnce(&[u8; 32]) -> [u8; 64] {
    move |digest| {
        *sighash = *digest;
        signature.map_or([0; 64], |signature| signature.0)
    }
}

/// What is refused states why, and nothing else.
fn refused(vector: &mut Object, why: String) -> Result<(), Problem> {
    let mut expected = vector.object("expected")?;
    result(&mut expected, Err(why))?;
    expected.done()
}

pub fn claim_tx(vector: &mut Object) -> Result<(), Problem> {
    let mut input = vector.object("input")?;
    let spend = Spend::of(&mut input)?;
    let (amount, voucher) = (input.read("claimAmount")?, input.read::<SignedVoucher>("voucher")?);
    // What is refused is never signed.
    let signature: Option<SchnorrSignature> = input.maybe_read("serverSignature")?;
    input.done()?;
    let mut sighash = [0; 32];
    let planned = plan_claim(spend.escrow(), amount, &spend.rules);
    let signed = planned.and_then(|plan| Ok((plan, plan.sign(spend.escrow(), &voucher, signer(signature, &mut sighash))?)));
    let (plan, signed) = match signed {
        Ok(made) => made,
        Err(error) => return refused(vector, word(error)),
    };
    let mut expected = vector.object("expected")?;
    expected.equals("fee", &plan.fee.to_string())?;
    expected.equals("payout", &plan.payout.to_string())?;
    expected.equals("continuation", &plan.continuation.to_string())?;
    expected.equals("storageMass", &plan.storage_mass.to_string())?;
    finish(expected, &sighash, &signed.transaction)?;
    by_the_keys(&spend, &voucher, &sighash, signature)?;
    let_through(&spend, &signed.transaction)
}

pub fn refund_tx(vector: &mut Object) -> Result<(), Problem> {
    let mut input = vector.object("input")?;
    let spend = Spend::of(&mut input)?;
    let signature: Option<SchnorrSignature> = input.maybe_read("clientSignature")?;
    input.done()?;
    let plan = match plan_refund(spend.escrow(), &spend.rules) {
        Ok(plan) => plan,
        Err(error) => return refused(vector, word(error)),
    };
    let mut sighash = [0; 32];
    let (_, transaction) = plan.sign(spend.escrow(), signer(signature, &mut sighash));
    let mut expected = vector.object("expected")?;
    expected.equals("fee", &plan.fee.to_string())?;
    expected.equals("amount", &plan.amount.to_string())?;
    expected.equals("lockTime", &transaction.lock_time.to_string())?;
    expected.equals("storageMass", &plan.storage_mass.to_string())?;
    finish(expected, &sighash, &transaction)?;
    signed_by(spend.script.client_key(), &sighash, signature, "input/clientSignature")?;
    let_through(&spend, &transaction)
}

pub fn escrow_spend(vector: &mut Object) -> Result<(), Problem> {
    let mut input = vector.object("input")?;
    let spend = Spend::of(&mut input)?;
    let transaction = transaction(&mut input)?;
    input.done()?;
    let mut expected = vector.object("expected")?;
    expected.equals_value("valid", &allows(&transaction, spend.escrow()).is_ok().into())?;
    expected.done()
}

/// What the buyer says to the transaction that spent its escrow.
pub fn continuation(vector: &mut Object) -> Result<(), Problem> {
    let mut input = vector.object("input")?;
    let spend = Spend::of(&mut input)?;
    let owed: Amount = input.read("owed")?;
    let transaction = transaction(&mut input)?;
    input.done()?;
    let told = |next: Continuation| {
        let next = json!({ "outpoint": next.outpoint, "fundingAmount": next.funding, "taken": next.taken });
        ("continuation", next)
    };
    let word = |error| match error {
        ContinuationError::NotASpend => "not_a_spend",
        ContinuationError::NotContinued => "not_continued",
        ContinuationError::TookTooMuch { .. } => "took_too_much",
    };
    let judged = check_continuation(&transaction, spend.escrow(), owed);
    either(vector, judged.map(told).map_err(|error| word(error).to_owned()))
}

pub fn top_up_tx(vector: &mut Object) -> Result<(), Problem> {
    let mut input = vector.object("input")?;
    let spend = Spend::of(&mut input)?;
    let takes: Amount = input.read("claimAmount")?;
    let transaction = transaction(&mut input)?;
    let spent = coins(&mut input)?;
    let voucher: SignedVoucher = input.read("voucher")?;
    let signature: Option<SchnorrSignature> = input.maybe_read("serverSignature")?;
    input.done()?;
    let checked = check_top_up(transaction, spend.escrow(), takes, spent.as_deref(), &spend.rules);
    let (amounts, checked) = match checked {
        Ok(checked) => ([CheckedTopUp::payout, CheckedTopUp::continuation, CheckedTopUp::added].map(|told| told(&checked)), checked),
        Err(fault) => return refused(vector, fault.code.as_str().to_owned()),
    };
    let mut sighash = [0; 32];
    let signed = match checked.sign(spend.escrow(), &voucher, signer(signature, &mut sighash)) {
        Ok(signed) => signed,
        Err(error) => return refused(vector, word(error)),
    };
    let mut expected = vector.object("expected")?;
    for (name, amount) in ["payout", "continuation", "added"].into_iter().zip(amounts) {
        expected.equals(name, &amount.to_string())?;
    }
    finish(expected, &sighash, &signed.transaction)?;
    by_the_keys(&spend, &voucher, &sighash, signature)?;
    let_through(&spend, &signed.transaction)
}

fn transaction(input: &mut Object) -> Result<Transaction, Problem> {
    let text = input.text("transaction")?;
    decode::decode(&text).map_err(|error| input.malformed("transaction", error.to_string()))
}

/// The outputs that inputs 1.. spend, or null where nobody has looked yet.
fn coins(input: &mut Object) -> Result<Option<Vec<UtxoEntry>>, Problem> {
    if input.is_null("spent") {
        return input.any("spent").map(|_| None);
    }
    let coin = |value| {
        let mut coin = Object::of("input/spent", value)?;
        let (amount, script) = (coin.number("amount")?, script_public_key(&coin.bytes("scriptPublicKey")?));
        coin.done()?;
        let script = script.ok_or_else(|| coin.malformed("scriptPublicKey", "shorter than its version"))?;
        Ok(UtxoEntry::new(amount, script, 0, false, None))
    };
    input.list("spent")?.into_iter().map(coin).collect::<Result<_, _>>().map(Some)
}

/// Version, big-endian, then the script.
pub fn script_public_key(serialized: &[u8]) -> Option<ScriptPublicKey> {
    let (version, script) = serialized.split_first_chunk::<2>()?;
    Some(ScriptPublicKey::new(u16::from_be_bytes(*version), ScriptVec::from_slice(script)))
}

fn finish(mut expected: Object, sighash: &[u8; 32], transaction: &Transaction) -> Result<(), Problem> {
    expected.equals("sighash", &hex::encode(sighash))?;
    expected.equals("signatureScript", &hex::encode(&transaction.inputs[0].signature_script))?;
    expected.equals("transactionId", &transaction.id().to_string())?;
    expected.done()
}

/// What is made here spends the escrow.
fn let_through(spend: &Spend, made: &Transaction) -> Result<(), Problem> {
    allows(made, spend.escrow()).map_err(|why| Problem::Malformed("input".to_owned(), format!("the script refuses it: {why}")))
}

/// The voucher is the client's, the signature the server's.
fn by_the_keys(spend: &Spend, voucher: &SignedVoucher, sighash: &[u8; 32], server: Option<SchnorrSignature>) -> Result<(), Problem> {
    if !voucher.verify(&spend.script, spend.outpoint) {
        return Err(Problem::Malformed("input/voucher".to_owned(), "not signed by clientPublicKey".to_owned()));
    }
    signed_by(spend.script.server_key(), sighash, server, "input/serverSignature")
}

fn signed_by(key: &VoucherKey, digest: &[u8; 32], signature: Option<SchnorrSignature>, place: &str) -> Result<(), Problem> {
    match signature {
        None => Err(Problem::Missing(place.to_owned())),
        Some(signature) if key.verify(digest, &signature) => Ok(()),
        Some(_) => Err(Problem::Malformed(place.to_owned(), "not by the key of the channel".to_owned())),
    }
}
