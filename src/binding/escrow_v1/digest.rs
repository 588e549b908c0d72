//! SHA-256 over fields of fixed width: strings enter as their own hash, integers little-endian.

use sha2::{Digest, Sha256};

/// SHA-256.
pub(super) fn sha256(bytes: impl AsRef<[u8]>) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// The preimage of a hash of hashes: every part has a fixed width, so no two lists of parts look alike.
pub(super) struct Preimage(Vec<u8>);

impl Preimage {
    /// Starts with the hash of the domain's name.
    pub fn new(domain: &str) -> Self {
        Self(Vec::with_capacity(512)).hashed(domain)
    }

    /// Appends the hash of a text or of bytes of any length.
    pub fn hashed(self, value: impl AsRef<[u8]>) -> Self {
        self.bytes(&sha256(value))
    }

    /// Appends 32 bytes as they are.
    pub fn bytes(mut self, value: &[u8; 32]) -> Self {
        self.0.extend_from_slice(value);
        self
    }

    pub fn u64(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}
