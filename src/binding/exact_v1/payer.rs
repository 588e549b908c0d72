//! Whose transaction is it? Proof by the key of a P2PK input (PROTOCOL section 4).

use crate::{
    protocol::ids::{RequestHash, XOnlyKey},
    wire::envelope::{PayerProof, ProofType},
};
use kaspa_consensus_core::tx::ScriptPublicKey;
use kaspa_hashes::{HasherBase, PersonalMessageSigningHash};
use secp256k1::{Message, SECP256K1, XOnlyPublicKey, schnorr::Signature};

/// Why a proof proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    #[error("payerProof.signature is not 64 bytes of hex")]
    Malformed,
    #[error("payerProof.publicKey is the key of no input of the transaction")]
    NotAnInput,
    #[error("payerProof.signature does not verify over this request's hash")]
    Signature,
}

/// Whether `proof` is by the key of one of the spent outputs, whose scripts come from the node.
pub fn check<'a>(
    proof: &PayerProof,
    request_hash: RequestHash,
    spent_scripts: impl IntoIterator<Item = &'a ScriptPublicKey>,
) -> Result<(), ProofError> {
    let owned = spent_scripts.into_iter().filter_map(p2pk_key).any(|key| key == proof.public_key);
    if !owned {
        return Err(ProofError::NotAnInput);
    }
    let mut bytes = [0; 64];
    hex::decode_to_slice(&proof.signature, &mut bytes).map_err(|_| ProofError::Malformed)?;
    let signature = Signature::from_slice(&bytes).map_err(|_| ProofError::Malformed)?;
    let key = XOnlyPublicKey::from_slice(&proof.public_key.0).map_err(|_| ProofError::NotAnInput)?;
    let message = Message::from_digest(digest(proof.r#type, request_hash));
    SECP256K1.verify_schnorr(&signature, &message, &key).map_err(|_| ProofError::Signature)
}

/// What a payer signs.
pub fn digest(kind: ProofType, request_hash: RequestHash) -> [u8; 32] {
    match kind {
        ProofType::Schnorr => request_hash.0,
        ProofType::PersonalMessage => {
            let mut hasher = PersonalMessageSigningHash::new();
            hasher.update(request_hash.to_string().as_bytes());
            hasher.finalize().as_bytes()
        }
    }
}

/// The key of a version 0 pay-to-public-key script: `20 <key> ac`.
fn p2pk_key(script: &ScriptPublicKey) -> Option<XOnlyKey> {
    match script.script() {
        [0x20, key @ .., 0xac] if script.version() == 0 => key.try_into().ok().map(XOnlyKey),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kaspa_consensus_core::tx::ScriptVec;
    use secp256k1::Keypair;

    fn script(key: [u8; 32]) -> ScriptPublicKey {
        ScriptPublicKey::new(0, ScriptVec::from_vec([&[0x20][..], &key, &[0xac]].concat()))
    }

    #[test]
    fn only_the_key_of_an_input_over_this_request_proves_the_payer() {
        let pair = Keypair::from_seckey_slice(SECP256K1, &[7; 32]).unwrap();
        let stranger = Keypair::from_seckey_slice(SECP256K1, &[8; 32]).unwrap();
        let key = pair.x_only_public_key().0.serialize();
        let hash = RequestHash([3; 32]);
        let sign = |pair: &Keypair, kind, hash| PayerProof {
            r#type: kind,
            public_key: XOnlyKey(pair.x_only_public_key().0.serialize()),
            signature: hex::encode(pair.sign_schnorr(Message::from_digest(digest(kind, hash))).serialize()),
        };
        let spent = [script([9; 32]), script(key)];
        for (proof, expect) in [
            (sign(&pair, ProofType::Schnorr, hash), Ok(())),
            (sign(&pair, ProofType::PersonalMessage, hash), Ok(())),
            (sign(&pair, ProofType::Schnorr, RequestHash([4; 32])), Err(ProofError::Signature)),
            (PayerProof { r#type: ProofType::PersonalMessage, ..sign(&pair, ProofType::Schnorr, hash) }, Err(ProofError::Signature)),
            (sign(&stranger, ProofType::Schnorr, hash), Err(ProofError::NotAnInput)),
            (PayerProof { public_key: XOnlyKey(key), ..sign(&stranger, ProofType::Schnorr, hash) }, Err(ProofError::Signature)),
            (PayerProof { signature: "ab".into(), ..sign(&pair, ProofType::Schnorr, hash) }, Err(ProofError::Malformed)),
        ] {
            assert_eq!(check(&proof, hash, &spent), expect);
        }
        let p2sh = ScriptPublicKey::new(0, ScriptVec::from_vec([&[0xaa, 0x20][..], &key, &[0x87]].concat()));
        let newer = ScriptPublicKey::new(1, script(key).script().into());
        for other in [p2sh, newer] {
            assert_eq!(check(&sign(&pair, ProofType::Schnorr, hash), hash, [&other]), Err(ProofError::NotAnInput), "{other:?}");
        }
    }
}
