//! Two vectors that were published without a kind: the sample of the escrow's script, and the SDK's transaction.

use super::{
    binding,
    kinds::Check,
    shape::{Object, Problem},
};
use crate::{
    binding::{
        escrow_v1::{TemplateId, spend::budgets},
        exact_v1::decode,
    },
    protocol::json,
};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Which of the two a file without a kind is, by its members.
pub fn recognise(file: &Object) -> Option<(&'static str, Check)> {
    let has = |names: &[&str]| names.iter().all(|name| file.has(name));
    if has(&["templateId", "sample"]) {
        Some(("escrow-sample", sample))
    } else if has(&["transactionId", "plainHex", "safeHex"]) {
        Some(("sdk-transaction", sdk_transaction))
    } else {
        None
    }
}

fn sample(file: &mut Object) -> Result<(), Problem> {
    file.spoken()?;
    file.equals_value("templateId", &TemplateId::EscrowV1.as_str().into())?;
    let mut budget = file.object("computeBudget")?;
    let (claim, refund) = budgets();
    budget.equals_value("claim", &claim.into())?;
    budget.equals_value("refund", &refund.into())?;
    budget.done()?;

    let mut sample = file.object("sample")?;
    let mut params = sample.object("params")?;
    let network = params.any("network")?;
    for (script, hash) in [("payoutScriptPublicKey", "payoutScriptPublicKeyHash"), ("refundScriptPublicKey", "refundScriptPublicKeyHash")] {
        let computed = hex::encode(Sha256::digest(sample.bytes(script)?));
        let stated = params.text(hash)?;
        params.differs(hash, stated == computed, stated.clone(), computed)?;
        params.put(hash, stated.into());
    }
    params.put("network", network.clone());
    let (redeem, lock) = binding::script(&mut params)?;
    sample.equals("redeemScript", &hex::encode(&redeem))?;

    for slot in sample.list("slots")? {
        let mut slot = Object::of("sample/slots", slot)?;
        let (name, bytes) = (slot.text("name")?, slot.bytes("bytes")?);
        for offset in slot.read::<Vec<usize>>("offsets")? {
            let found = redeem.get(offset..).is_some_and(|rest| rest.starts_with(&bytes));
            slot.differs(&name, found, hex::encode(&bytes), format!("something else at {offset}"))?;
        }
        slot.done()?;
    }

    let mut script = sample.object("scriptPublicKey")?;
    script.equals_value("version", &0.into())?;
    script.equals("script", &hex::encode(&lock[2..]))?;
    script.equals("serialized", &hex::encode(&lock))?;
    script.equals("sha256", &hex::encode(Sha256::digest(&lock)))?;
    script.done()?;

    // Push of 65 bytes, push of 64, push of 8, branch 0; push of 65 bytes, branch 1.
    let claim = [&[65][..], &[0xab; 65], &[64], &[0xcd; 64], &[8], &[0xee; 8], &[0]].concat();
    sample.equals("claimArgsWithDummies", &hex::encode(claim))?;
    sample.equals("refundArgsWithDummySig", &hex::encode([&[65][..], &[0xab; 65], &[0x51]].concat()))?;

    let mut voucher = sample.object("voucher")?;
    voucher.put("network", network);
    voucher.put("activeScriptPublicKey", hex::encode(&lock).into());
    let preimage = binding::preimage(&mut voucher)?;
    voucher.equals("preimage", &hex::encode(preimage))?;
    voucher.equals("digest", &hex::encode(Sha256::digest(preimage)))?;
    voucher.done()?;
    sample.done()
}

fn sdk_transaction(file: &mut Object) -> Result<(), Problem> {
    file.spoken()?;
    let id = file.text("transactionId")?;
    for (tree, text) in [("plain", "plainHex"), ("safe", "safeHex")] {
        let hex_text = file.text(text)?;
        let transaction = decode::decode(&hex_text).map_err(|error| file.malformed(text, error.to_string()))?;
        let derived = transaction.id().to_string();
        file.differs("transactionId", derived == id, id.clone(), derived)?;
        let bytes = hex::decode(&hex_text).map_err(|error| file.malformed(text, error.to_string()))?;
        let read: Value = json::parse_strict(&bytes, super::DEPTH).map_err(Problem::NotJson)?;
        file.equals_value(tree, &read)?;
    }
    Ok(())
}
