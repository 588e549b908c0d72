//! The voucher: the client's signed ceiling of what a claim of one outpoint may pay out.
//!
//! [`VoucherKey::verify`] is the hot path: no allocation, no lock, a key that was decompressed once.

use super::{digest::sha256, script::EscrowScript};
use crate::protocol::{
    amount::Amount,
    ids::{Outpoint, P2shScript, SchnorrSignature, XOnlyKey},
    network::Network,
};
use secp256k1::{Message, SECP256K1, XOnlyPublicKey, schnorr::Signature};
use serde::{Deserialize, Serialize};

const DOMAIN: &str = "kaspa:x402:escrow-voucher:v1";
/// Three hashes, a transaction id, an index, an amount.
const PREIMAGE_BYTES: usize = 32 * 4 + 4 + 8;

/// As it stands on the wire. [`Amount`] keeps it below 2^63, where the script's numbers turn negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedVoucher {
    pub amount: Amount,
    pub signature: SchnorrSignature,
}

/// The hash of the voucher's domain, as the script contains it.
pub(super) fn domain() -> [u8; 32] {
    sha256(DOMAIN)
}

/// What is hashed to the digest. `script_hash` is the SHA-256 of the serialized active script public key.
pub fn preimage(network: Network, script_hash: &[u8; 32], outpoint: Outpoint, sompi: u64) -> [u8; PREIMAGE_BYTES] {
    let mut bytes = [0; PREIMAGE_BYTES];
    bytes[..32].copy_from_slice(&domain());
    bytes[32..64].copy_from_slice(&sha256(network.as_str()));
    bytes[64..96].copy_from_slice(script_hash);
    bytes[96..128].copy_from_slice(&outpoint.txid.0);
    bytes[128..132].copy_from_slice(&outpoint.index.to_le_bytes());
    bytes[132..].copy_from_slice(&sompi.to_le_bytes());
    bytes
}

/// The 32 bytes that the client signs for `amount` of the escrow at `outpoint`.
pub fn digest(script: &EscrowScript, outpoint: Outpoint, amount: Amount) -> [u8; 32] {
    sha256(preimage(script.network(), script.serialized_hash(), outpoint, amount.sompi()))
}

/// A public key that is a point, ready to verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoucherKey(XOnlyPublicKey);

impl VoucherKey {
    /// `None` when no point has this coordinate.
    pub fn parse(key: XOnlyKey) -> Option<Self> {
        XOnlyPublicKey::from_slice(&key.0).ok().map(Self)
    }

    pub fn x_only(&self) -> XOnlyKey {
        XOnlyKey(self.0.serialize())
    }

    /// Whether `signature` is this key's BIP340 signature of the raw digest.
    pub fn verify(&self, digest: &[u8; 32], signature: &SchnorrSignature) -> bool {
        let Ok(signature) = Signature::from_slice(&signature.0) else { return false };
        SECP256K1.verify_schnorr(&signature, &Message::from_digest(*digest), &self.0).is_ok()
    }
}

impl SignedVoucher {
    /// Signs for the buyer; `sign` is BIP340 by the client's key over 32 raw bytes.
    pub fn sign(script: &EscrowScript, outpoint: Outpoint, amount: Amount, sign: impl FnOnce(&[u8; 32]) -> [u8; 64]) -> Self {
        Self { amount, signature: SchnorrSignature(sign(&digest(script, outpoint, amount))) }
    }

    /// Whether the channel's client signed this amount of this outpoint.
    pub fn verify(&self, script: &EscrowScript, outpoint: Outpoint) -> bool {
        script.client_key().verify(&digest(script, outpoint, self.amount), &self.signature)
    }

    /// The same of a channel that is known by its client's key and its serialized script alone. Whether the two are a channel's, who asks knows.
    pub fn verify_under(&self, network: Network, client: XOnlyKey, script: &P2shScript, outpoint: Outpoint) -> bool {
        let digest = sha256(preimage(network, &sha256(script.0), outpoint, self.amount.sompi()));
        VoucherKey::parse(client).is_some_and(|key| key.verify(&digest, &self.signature))
    }
}
