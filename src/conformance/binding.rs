//! Hashes, signatures and scripts of `kaspa-escrow-v1`, a voucher against its channel, and the two rules of time.

use super::shape::{Object, Problem, result};
use crate::{
    binding::escrow_v1::{
        BINDING, ChannelConfig, ChannelFacts, EscrowParams, EscrowScript, SignedVoucher, TemplateId, VerifiedVoucher, VoucherKey,
        hashes::{BatchTerms, Commitment},
        payload::{self, BatchPayload},
        prove,
        script::serialize,
        spend::{SpendRules, refund_matured, reserve},
        state::{Idle, Parts},
        voucher,
    },
    protocol::{
        amount::Amount,
        ids::{Outpoint, SchnorrSignature, XOnlyKey},
        limits::LOCK_TIME_THRESHOLD,
        network::Network,
        refusal::Code,
        requirements::{Finality, Scheme},
    },
    wire::envelope::Fault,
};
use kaspa_txscript::pay_to_script_hash_script;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

pub fn channel_id(vector: &mut Object) -> Result<(), Problem> {
    let config: ChannelConfig = vector.read("input")?;
    let mut expected = vector.object("expected")?;
    expected.equals("preimage", &hex::encode(config.id_preimage()))?;
    expected.equals("channelId", &config.channel_id().to_string())?;
    expected.done()
}

pub fn voucher_digest(vector: &mut Object) -> Result<(), Problem> {
    let mut input = vector.object("input")?;
    let preimage = preimage(&mut input)?;
    input.done()?;
    let mut expected = vector.object("expected")?;
    expected.equals("preimage", &hex::encode(preimage))?;
    expected.equals("digest", &hex::encode(Sha256::digest(preimage)))?;
    expected.done()
}

/// What is hashed to a voucher's digest.
pub fn preimage(input: &mut Object) -> Result<[u8; 140], Problem> {
    let network: Network = input.read("network")?;
    let script_hash = Sha256::digest(input.bytes("activeScriptPublicKey")?).into();
    let outpoint: Outpoint = input.read("outpoint")?;
    // Any 64-bit number: what may stand in a voucher is a rule of amounts, not of the digest.
    Ok(voucher::preimage(network, &script_hash, outpoint, input.number("amount")?))
}

pub fn voucher_signature(vector: &mut Object) -> Result<(), Problem> {
    let mut input = vector.object("input")?;
    let (digest, signature, key): ([u8; 32], SchnorrSignature, XOnlyKey) =
        (input.fixed("digest")?, input.read("signature")?, input.read("publicKey")?);
    input.done()?;
    let valid = VoucherKey::parse(key).is_some_and(|key| key.verify(&digest, &signature));
    let mut expected = vector.object("expected")?;
    expected.equals_value("valid", &valid.into())?;
    expected.done()
}

/// The redeem script of the parameters and what locks an output by it.
pub fn script(input: &mut Object) -> Result<(Vec<u8>, Vec<u8>), Problem> {
    let params = EscrowParams {
        client_key: input.read("clientPublicKey")?,
        server_key: input.read("serverPublicKey")?,
        network: input.read("network")?,
        payout_script_hash: input.fixed("payoutScriptPublicKeyHash")?,
        refund_script_hash: input.fixed("refundScriptPublicKeyHash")?,
        timeout_daa: input.number("timeoutDaa")?,
    };
    input.done()?;
    let redeem = params.redeem_script().map_err(|error| input.malformed("timeoutDaa", error.to_string()))?;
    let lock = serialize(&pay_to_script_hash_script(&redeem));
    Ok((redeem, lock))
}

pub fn escrow_script(vector: &mut Object) -> Result<(), Problem> {
    let (redeem, lock) = script(&mut vector.object("input")?)?;
    let mut expected = vector.object("expected")?;
    expected.equals("redeemScript", &hex::encode(redeem))?;
    expected.equals("scriptPublicKey", &hex::encode(lock))?;
    expected.done()
}

/// The hash of `accepted` as a charge commits to it. Members of `extra` that it does not contain may stand there.
fn terms_hash(accepted: &mut Object) -> Result<[u8; 32], Problem> {
    for (name, only) in [("scheme", Scheme::BatchSettlement.as_str()), ("asset", "KAS")] {
        let said = accepted.text(name)?;
        if said != only {
            return Err(accepted.malformed(name, format!("not {only}")));
        }
    }
    let mut extra = accepted.object("extra")?;
    if extra.text("binding")? != BINDING {
        return Err(extra.malformed("binding", format!("not {BINDING}")));
    }
    let pay_to = accepted.text("payTo")?;
    let terms = BatchTerms {
        network: accepted.read("network")?,
        amount: accepted.read("amount")?,
        pay_to: &pay_to,
        max_timeout_seconds: accepted.read("maxTimeoutSeconds")?,
        template: extra.read::<TemplateId>("templateId")?,
        server_key: extra.read("serverPublicKey")?,
        min_deposit: extra.read("minDepositSompi")?,
        refund_timeout_daa: extra.number("refundTimeoutDaa")?,
    };
    accepted.done()?;
    Ok(terms.hash())
}

pub fn requirements_hash(vector: &mut Object) -> Result<(), Problem> {
    let hash = terms_hash(&mut vector.object("input")?)?;
    let mut expected = vector.object("expected")?;
    expected.equals("hash", &hex::encode(hash))?;
    expected.done()
}

pub fn commitment_id(vector: &mut Object) -> Result<(), Problem> {
    let mut input = vector.object("input")?;
    let commitment = Commitment {
        requirements_hash: terms_hash(&mut input.object("accepted")?)?,
        channel: input.read("channelId")?,
        request_hash: input.read("requestFingerprint")?,
        outpoint: input.read("activeOutpoint")?,
        voucher: input.read::<SignedVoucher>("voucher")?,
        charge: input.read("chargedAmount")?,
        charged_before: input.read("chargedCumulativeBefore")?,
        charged_after: input.read("chargedCumulativeAfter")?,
        claimed: input.read("claimedCumulativeAmount")?,
    };
    input.done()?;
    let mut expected = vector.object("expected")?;
    expected.equals("commitmentId", &commitment.id().to_string())?;
    expected.done()
}

/// `expected` is true or false, or the same in the words `refund-mature` and `refund-not-mature`.
pub fn refund_maturity(vector: &mut Object) -> Result<(), Problem> {
    let (timeout, current) = (vector.number("timeoutDaa")?, vector.number("currentDaa")?);
    // From here on the network reads a timestamp: such an escrow is never made, and nothing of it matures.
    let mature = timeout < LOCK_TIME_THRESHOLD && refund_matured(timeout, current);
    let stated = vector.any("expected")?;
    let equal = match stated.as_str() {
        Some("refund-mature") => mature,
        Some("refund-not-mature") => !mature,
        _ => stated == mature,
    };
    vector.differs("expected", equal, stated.to_string(), mature.to_string())
}

/// A voucher against what a server knows of its channel: whose it is, for which output, and of which amount.
pub fn channel_voucher(vector: &mut Object) -> Result<(), Problem> {
    let mut input = vector.object("input")?;
    let config: ChannelConfig = input.read("channelConfig")?;
    let script = EscrowScript::of(&config).map_err(|error| input.malformed("channelConfig", error.to_string()))?;
    let (outpoint, previous): (Outpoint, Option<Outpoint>) = (input.read("activeOutpoint")?, input.read("previousOutpoint")?);
    let parts = Parts {
        funding: input.read("fundingAmount")?,
        charged: input.read("chargedCumulativeAmount")?,
        claimed: input.read("claimedCumulativeAmount")?,
        reserved: Amount::ZERO,
        signed: input.read("signedMaxClaimable")?,
    };
    let channel = Idle::restore(parts).map_err(|error| input.malformed("fundingAmount", error.to_string()))?;
    let ceiling: Amount = input.read("amount")?;
    let payload: Map<String, Value> = input.read("payload")?;
    input.done()?;
    let reserve = reserve(&script, parts.funding, &SpendRules::of(config.network));
    let reserve = reserve.ok_or_else(|| input.malformed("fundingAmount", "no claim of such an escrow is possible"))?;
    let facts = ChannelFacts { id: config.channel_id(), script: &script, outpoint, previous };
    let judged = payload::parse(payload).and_then(|payload| match payload {
        BatchPayload::Voucher(voucher) => prove(&voucher, facts)?.authorise(channel.accounts(), ceiling, reserve),
        _ => Err(Fault::new(Code::PayloadType, "not a voucher")),
    });
    let mut expected = vector.object("expected")?;
    expected.equals("reserve", &reserve.to_string())?;
    let pays = |voucher: VerifiedVoucher| ("pays", voucher.authorised().voucher.to_string().into());
    result(&mut expected, judged.map(pays).map_err(|fault| fault.code.as_str().to_owned()))?;
    expected.done()
}

pub fn finality(vector: &mut Object) -> Result<(), Problem> {
    let (actual, required): (Finality, Finality) = (vector.read("actual")?, vector.read("required")?);
    vector.equals_value("expected", &actual.suffices_for(required).into())
}
