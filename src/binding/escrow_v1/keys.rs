//! The gateway's own keys: each signs the claims of the channels that name it.
//!
//! Promises: a secret is never shown, logged or copied out. Made by `config`, used by `gateway`.

use crate::protocol::ids::XOnlyKey;
use secp256k1::{Keypair, Message, SECP256K1};

/// One key and what it may still do.
pub struct ServerKey {
    keypair: Keypair,
    claim_only: bool,
}

/// The bytes are no secret key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("these 32 bytes are no secret key")]
pub struct NotASecretKey;

impl ServerKey {
    /// `claim_only`: an old key. Its channels are claimed to their end, and neither opened nor charged.
    pub fn new(secret: &[u8; 32], claim_only: bool) -> Result<Self, NotASecretKey> {
        let keypair = Keypair::from_seckey_slice(SECP256K1, secret).map_err(|_| NotASecretKey)?;
        Ok(Self { keypair, claim_only })
    }

    pub fn public(&self) -> XOnlyKey {
        XOnlyKey(self.keypair.x_only_public_key().0.serialize())
    }

    pub fn claim_only(&self) -> bool {
        self.claim_only
    }

    /// BIP340 over 32 raw bytes.
    pub fn sign(&self, digest: &[u8; 32]) -> [u8; 64] {
        self.keypair.sign_schnorr(Message::from_digest(*digest)).serialize()
    }
}

/// All keys of a gateway.
#[derive(Default)]
pub struct ServerKeys(Vec<ServerKey>);

impl ServerKeys {
    pub fn new(keys: Vec<ServerKey>) -> Self {
        Self(keys)
    }

    /// These and then others; [`Self::opening`] stays what it is unless there is none.
    pub fn joined(mut self, others: Vec<ServerKey>) -> Self {
        self.0.extend(others);
        self
    }

    pub fn find(&self, key: &XOnlyKey) -> Option<&ServerKey> {
        self.0.iter().find(|own| own.public() == *key)
    }

    pub fn iter(&self) -> impl Iterator<Item = &ServerKey> {
        self.0.iter()
    }

    /// The key of new channels: the first that may do more than claim.
    pub fn opening(&self) -> Option<&ServerKey> {
        self.0.iter().find(|key| !key.claim_only)
    }
}

impl std::fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerKey").field("public", &self.public()).field("claim_only", &self.claim_only).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ServerKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8, claim_only: bool) -> ServerKey {
        ServerKey::new(&[byte; 32], claim_only).unwrap()
    }

    #[test]
    fn a_key_signs_what_its_public_half_verifies() {
        let (key, digest) = (key(1, false), [7; 32]);
        let public = secp256k1::XOnlyPublicKey::from_slice(&key.public().0).unwrap();
        let signature = secp256k1::schnorr::Signature::from_slice(&key.sign(&digest)).unwrap();
        assert!(signature.verify(&Message::from_digest(digest), &public).is_ok());
        assert_eq!(ServerKey::new(&[0; 32], false).err(), Some(NotASecretKey));
        assert_eq!(ServerKey::new(&[0xff; 32], false).err(), Some(NotASecretKey));
    }

    #[test]
    fn the_first_key_that_may_do_more_than_claim_opens_channels() {
        let publics = |keys: &ServerKeys| keys.iter().map(ServerKey::public).collect::<Vec<_>>();
        let (old, current, next, other) = (key(1, true), key(2, false), key(3, false), key(4, true));
        assert!(old.claim_only() && !current.claim_only());
        let [one, two, three, four] = [&old, &current, &next, &other].map(ServerKey::public);
        let keys = ServerKeys::new(vec![old, current]);
        assert_eq!(publics(&keys), [one, two]);
        let keys = keys.joined(vec![next, other]);
        assert_eq!(publics(&keys), [one, two, three, four]);
        assert_eq!(keys.opening().map(ServerKey::public), Some(two));
        assert_eq!(keys.find(&three).map(ServerKey::public), Some(three));
        assert!(keys.find(&key(5, false).public()).is_none());
        assert!(ServerKeys::new(vec![key(1, true)]).opening().is_none());
    }

    #[test]
    fn what_is_printed_of_a_key_is_its_public_half() {
        let keys = ServerKeys::new(vec![key(0x5a, true)]);
        let shown = format!("{keys:?}");
        assert!(shown.contains(&format!("{:?}", keys.iter().next().unwrap().public())) && shown.contains("claim_only: true"), "{shown}");
        assert!(!shown.contains(&"5a".repeat(8)) && !shown.contains("90, 90"), "{shown}");
    }
}
