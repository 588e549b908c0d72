//! Names of things: hashes and identifiers as closed types.

use super::limits;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Visitor};
use std::{fmt, marker::PhantomData, str::FromStr};

/// The text is not hex of the fixed width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not {0} bytes of hex")]
pub struct HexError(pub usize);

macro_rules! hex_bytes {
    ($(#[$doc:meta])* $name:ident, $width:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $width]);

        impl $name {
            /// Lower-case hex, without the heap: messages are full of these.
            fn hex<T>(&self, then: impl FnOnce(&str) -> T) -> T {
                let mut text = [0; 2 * $width];
                hex::encode_to_slice(self.0, &mut text).expect("two digits for each byte");
                then(std::str::from_utf8(&text).expect("hex is ASCII"))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.hex(|text| f.write_str(text))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = HexError;

            /// Either case, fixed width.
            fn from_str(text: &str) -> Result<Self, HexError> {
                let mut bytes = [0; $width];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| HexError($width))?;
                Ok(Self(bytes))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.hex(|text| serializer.serialize_str(text))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Text::new())
            }
        }
    };
}

/// Reads a string without keeping it.
struct Text<T>(PhantomData<T>);

impl<T> Text<T> {
    const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T: FromStr<Err = HexError>> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string of hex")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

hex_bytes!(
    /// A Kaspa transaction id, in display order.
    TxId, 32
);
hex_bytes!(
    /// The hash of a block.
    BlockHash, 32
);
hex_bytes!(
    /// The wire's hash of a request, which contains the offer (PROTOCOL section 2).
    RequestHash, 32
);
hex_bytes!(
    /// The identity of a request for idempotency, which does not contain the rolling offer (PROTOCOL section 2).
    RequestIdentity, 32
);
hex_bytes!(
    /// Drawn once when a store is created; part of the offer key, so offers of another store are void.
    StoreId, 16
);
hex_bytes!(
    /// An x-only secp256k1 public key.
    XOnlyKey, 32
);
hex_bytes!(
    /// A BIP340 Schnorr signature.
    SchnorrSignature, 64
);
hex_bytes!(
    /// An escrow channel, named by its configuration (PROTOCOL section 5).
    ChannelId, 32
);
hex_bytes!(
    /// One charge of an escrow channel; the `transaction` of its receipt (PROTOCOL section 5).
    CommitmentId, 32
);
hex_bytes!(
    /// What tells two channels of equal terms apart; the client draws it.
    Salt, 32
);
hex_bytes!(
    /// A serialized pay-to-script-hash script public key: 2-byte big-endian version, then the script.
    P2shScript, 37
);

impl From<kaspa_hashes::Hash> for TxId {
    fn from(hash: kaspa_hashes::Hash) -> Self {
        Self(hash.as_bytes())
    }
}

impl From<TxId> for kaspa_hashes::Hash {
    fn from(id: TxId) -> Self {
        Self::from_bytes(id.0)
    }
}

impl From<kaspa_hashes::Hash> for BlockHash {
    fn from(hash: kaspa_hashes::Hash) -> Self {
        Self(hash.as_bytes())
    }
}

impl From<BlockHash> for kaspa_hashes::Hash {
    fn from(hash: BlockHash) -> Self {
        Self::from_bytes(hash.0)
    }
}

/// One output of one transaction. The members stand in canonical order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outpoint {
    pub index: u32,
    pub txid: TxId,
}

impl From<Outpoint> for kaspa_consensus_core::tx::TransactionOutpoint {
    fn from(outpoint: Outpoint) -> Self {
        Self::new(outpoint.txid.into(), outpoint.index)
    }
}

impl From<kaspa_consensus_core::tx::TransactionOutpoint> for Outpoint {
    fn from(outpoint: kaspa_consensus_core::tx::TransactionOutpoint) -> Self {
        Self { txid: outpoint.transaction_id.into(), index: outpoint.index }
    }
}

impl fmt::Display for Outpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.txid, self.index)
    }
}

/// A client's payment identifier: 16 to 128 of `[A-Za-z0-9_-]` (PROTOCOL section 3).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct PaymentIdentifier(String);

/// The text is not a payment identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a payment identifier is 16 to 128 characters of A-Z a-z 0-9 _ -")]
pub struct IdentifierError;

impl PaymentIdentifier {
    pub fn parse(text: &str) -> Result<Self, IdentifierError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if limits::IDENTIFIER_CHARS.contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdentifierError)
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for PaymentIdentifier {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&std::borrow::Cow::<'de, str>::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_is_emitted_lower_case_and_read_in_either() {
        let id: TxId = "AB".repeat(32).parse().unwrap();
        assert_eq!(id.to_string(), "ab".repeat(32));
        assert!("ab".repeat(31).parse::<TxId>().is_err());
        assert!(format!("0x{}", "ab".repeat(31)).parse::<TxId>().is_err());
    }

    #[test]
    fn identifiers_have_a_length_and_an_alphabet() {
        for (text, ok) in [
            ("a".repeat(16), true),
            ("a".repeat(128), true),
            ("A-z_0".repeat(4), true),
            ("a".repeat(15), false),
            ("a".repeat(129), false),
            ("a b".repeat(8), false),
            ("é".repeat(16), false),
        ] {
            assert_eq!(PaymentIdentifier::parse(&text).is_ok(), ok, "{text}");
        }
    }
}
