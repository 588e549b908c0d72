//! Signature scripts of the escrow's two spends (PROTOCOL section 5).

use crate::{
    binding::escrow_v1::voucher::SignedVoucher,
    protocol::{amount::Amount, ids::SchnorrSignature},
};
use kaspa_consensus_core::hashing::sighash_type::SIG_HASH_ALL;
use kaspa_txscript::opcodes::codes::{OpData8, OpData64, OpData65, OpFalse, OpPushData2, OpTrue};

/// `push(server signature, ALL) push(voucher signature) push(amount) 0 push(redeem script)`.
pub(super) fn claim(server: &SchnorrSignature, voucher: &SignedVoucher, redeem: &[u8]) -> Vec<u8> {
    let mut script = spend_signature(server);
    script.push(OpData64);
    script.extend_from_slice(&voucher.signature.0);
    script.push(OpData8);
    script.extend_from_slice(&voucher.amount.sompi().to_le_bytes());
    script.push(OpFalse);
    push_redeem(&mut script, redeem);
    script
}

/// The voucher in the witness of a claim: what its client once signed, for whoever forgot.
pub fn claimed_voucher(script: &[u8]) -> Option<SignedVoucher> {
    let (signature, rest) = script.strip_prefix(&[OpData65])?.split_at_checked(65)?.1.strip_prefix(&[OpData64])?.split_at_checked(64)?;
    let (amount, rest) = rest.strip_prefix(&[OpData8])?.split_at_checked(8)?;
    let amount = Amount::from_sompi(u64::from_le_bytes(amount.try_into().ok()?)).ok()?;
    let signature = SchnorrSignature(signature.try_into().ok()?);
    (rest.first() == Some(&OpFalse)).then_some(SignedVoucher { amount, signature })
}

/// `push(client signature, ALL) 1 push(redeem script)`.
pub(super) fn refund(client: &SchnorrSignature, redeem: &[u8]) -> Vec<u8> {
    let mut script = spend_signature(client);
    script.push(OpTrue);
    push_redeem(&mut script, redeem);
    script
}

/// One push of 65 bytes: the signature, then its sighash type. Also the whole script of a P2PK input.
pub(super) fn spend_signature(signature: &SchnorrSignature) -> Vec<u8> {
    let mut script = Vec::with_capacity(512);
    script.push(OpData65);
    script.extend_from_slice(&signature.0);
    script.push(SIG_HASH_ALL.to_u8());
    script
}

fn push_redeem(script: &mut Vec<u8>, redeem: &[u8]) {
    script.push(OpPushData2);
    script.extend_from_slice(&u16::try_from(redeem.len()).expect("the template has fewer than 400 bytes").to_le_bytes());
    script.extend_from_slice(redeem);
}
