//! Canonical JSON (RFC 8785), the form of everything that is hashed, signed or sent in a header.

use serde::Serialize;
use sha2::{Digest, Sha256};

/// The canonical bytes of `value`.
///
/// Panics only for types that are no JSON (maps with non-string keys, non-finite numbers); wire types are none of these.
pub fn to_vec<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json_canonicalizer::to_vec(value).expect("wire types are finite JSON with string keys")
}

/// SHA-256 of the canonical bytes.
pub fn sha256<T: Serialize>(value: &T) -> [u8; 32] {
    Sha256::digest(to_vec(value)).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_sort_by_utf16_and_numbers_print_as_javascript_does() {
        for (value, expect) in [
            (json!({"b": 1, "a": [true, null, "x"]}), r#"{"a":[true,null,"x"],"b":1}"#),
            (
                json!({"\u{20ac}": 1, "\r": 2, "1": 3, "\u{80}": 4, "\u{1f600}": 5, "\u{fb33}": 6}),
                "{\"\\r\":2,\"1\":3,\"\u{80}\":4,\"\u{20ac}\":1,\"\u{1f600}\":5,\"\u{fb33}\":6}",
            ),
            (json!([1e21, 1e-7, 0.1, 100.0, -0.0, 333333333.3333333]), "[1e+21,1e-7,0.1,100,0,333333333.3333333]"),
            (json!("\u{7}\u{8}\"\\/"), r#""\u0007\b\"\\/""#),
        ] {
            assert_eq!(String::from_utf8(to_vec(&value)).unwrap(), expect);
        }
    }
}
