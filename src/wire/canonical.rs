//! Canonical JSON (RFC 8785), the form of everything that is hashed, signed or sent in a header.

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::sync::LazyLock;

/// Larger whole numbers print as JavaScript's nearest double.
const EXACT_IN_A_DOUBLE: u64 = 1 << 53;

/// The canonical bytes of `value`.
///
/// Panics only for types that are no JSON (maps with non-string keys, non-finite numbers); wire types are none of these.
pub fn to_vec<T: Serialize>(value: &T) -> Vec<u8> {
    tree_to_vec(&serde_json::to_value(value).expect("wire types are finite JSON with string keys"))
}

/// [`to_vec`] of what is a tree already: a stranger's may be large, and is not held twice.
fn tree_to_vec(tree: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    if write(tree, &mut out) {
        return out;
    }
    serde_json_canonicalizer::to_vec(tree).expect("a tree is finite JSON with string keys")
}

/// Whether serde_json's maps keep their members sorted: a feature that any crate may switch on changes it.
static SORTED_MAPS: LazyLock<bool> = LazyLock::new(|| serde_json::json!({"b": 0, "a": 0}).to_string().starts_with("{\"a\""));

/// A message whose members are declared in canonical order, with ASCII names and no number above 2^53, so that
/// printing it is its canonical form. The test of `messages` holds each of them to that.
pub trait Sorted: Serialize {}

/// [`to_vec`] for what every 402 and every receipt needs, without a tree in between.
pub fn sorted_to_vec<T: Sorted>(message: &T) -> Vec<u8> {
    if !*SORTED_MAPS {
        return to_vec(message);
    }
    let mut out = Vec::with_capacity(1024);
    serde_json::to_writer(&mut out, message).expect("wire types are finite JSON with string keys");
    out
}

/// Writes what serde_json already prints as RFC 8785 wants it, several times faster than the general
/// way: ASCII keys, whole numbers that JavaScript has, and any strings. `false` for everything else.
fn write(value: &Value, out: &mut Vec<u8>) -> bool {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => match number.as_u64() {
            Some(whole) if whole <= EXACT_IN_A_DOUBLE => print(&whole, out),
            _ => return false,
        },
        Value::String(text) => print(text, out),
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                if !write(item, out) {
                    return false;
                }
            }
            out.push(b']');
        }
        Value::Object(members) => {
            // Sorted here: the order of serde_json's map depends on a feature that any crate may switch on.
            let mut sorted: Vec<(&String, &Value)> = members.iter().collect();
            sorted.sort_unstable_by_key(|(key, _)| *key);
            out.push(b'{');
            for (index, (key, member)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                // Bytes sort like UTF-16 code units only below the surrogates.
                if !key.is_ascii() {
                    return false;
                }
                print(key, out);
                out.push(b':');
                if !write(member, out) {
                    return false;
                }
            }
            out.push(b'}');
        }
    }
    true
}

fn print<T: Serialize + ?Sized>(scalar: &T, out: &mut Vec<u8>) {
    serde_json::to_writer(out, scalar).expect("a scalar is written to memory");
}

/// SHA-256 of [`sorted_to_vec`].
pub fn sorted_sha256<T: Sorted>(message: &T) -> [u8; 32] {
    Sha256::digest(sorted_to_vec(message)).into()
}

/// SHA-256 of the canonical bytes.
pub fn sha256<T: Serialize>(value: &T) -> [u8; 32] {
    Sha256::digest(to_vec(value)).into()
}

/// [`sha256`] of a tree.
pub fn tree_sha256(tree: &Value) -> [u8; 32] {
    Sha256::digest(tree_to_vec(tree)).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_fast_way_and_the_general_way_agree() {
        let every_ascii: String = (0..=0x7f_u8).map(char::from).collect();
        for value in [
            json!(null),
            json!([true, false, 0, 1, 9_007_199_254_740_991_u64, 9_007_199_254_740_992_u64]),
            json!(9_007_199_254_740_993_u64),
            json!([u64::MAX]),
            json!([-1, i64::MIN, 1.0, 0.5]),
            json!({"a": {"b": -1, "c": 0.5}, "d": [9_007_199_254_740_993_u64]}),
            json!({"a": -1}),
            json!({"b": {"d": [], "c": {}}, "a": "", "A": 1, "a b": 2, "_": 3, "$schema": 4, "\"": 5, "\n": 6}),
            json!({"\u{e000}": 1, "\u{1f600}": 2}),
            json!(every_ascii),
            json!({ every_ascii.as_str(): every_ascii }),
            json!("\u{80}\u{2028}\u{2029}\u{feff}\u{ffff}\u{1f600}"),
        ] {
            assert_eq!(to_vec(&value), serde_json_canonicalizer::to_vec(&value).unwrap(), "{value}");
        }
    }

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
