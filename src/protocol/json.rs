//! Reading JSON that a stranger wrote, strictly.
//!
//! Promises: UTF-8 only, one document, no key twice in any object, nesting within a bound, work
//! linear in the length. Never guesses which of two readings the other side meant: two parsers that
//! disagree about a duplicate key are two prices. Called by the price rules and the payment header decoder.

use super::amount::parse_canonical_u64;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value, value::RawValue};
use std::fmt;

/// Why a text is not JSON in the strict sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    #[error("it is not UTF-8")]
    NotUtf8,
    #[error("a key occurs twice in one object")]
    DuplicateKey,
    #[error("it is nested too deeply")]
    TooDeep,
    #[error("text follows the document")]
    Trailing,
    /// Also numbers no 64-bit reader can hold, and lone surrogates.
    #[error("it is not well-formed JSON")]
    Syntax,
}

/// Reads one document. `max_depth` counts arrays and objects: `1` allows `{"a":1}`, `0` only scalars.
pub fn parse_strict(bytes: &[u8], max_depth: usize) -> Result<Value, JsonError> {
    let text = std::str::from_utf8(bytes).map_err(|_| JsonError::NotUtf8)?;
    let mut fault = None;
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Strict { depth_left: max_depth, fault: &mut fault }.deserialize(&mut reader);
    let value = value.map_err(|_| fault.unwrap_or(JsonError::Syntax))?;
    reader.end().map_err(|_| JsonError::Trailing)?;
    Ok(value)
}

/// The own text of the value that a JSON pointer (RFC 6901) names, for who must not read a number through a float, and for whom
/// the rest of the document need only be well formed. `None` when the pointer names nothing, or two.
pub fn raw_at<'t>(document: &'t [u8], pointer: &str) -> Option<&'t str> {
    let path: Vec<String> = match pointer {
        "" => Vec::new(),
        _ => pointer.strip_prefix('/')?.split('/').map(|token| token.replace("~1", "/").replace("~0", "~")).collect(),
    };
    let mut reader = serde_json::Deserializer::from_slice(document);
    let found = At(&path).deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    found.map(RawValue::get)
}

/// The value at the end of a path; everything else is skipped unread. As deep as the path, and no deeper than its reader allows.
struct At<'p>(&'p [String]);

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        if self.0.is_empty() { <&RawValue>::deserialize(deserializer).map(Some) } else { deserializer.deserialize_any(self) }
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let Some((token, path)) = self.0.split_first() else { return Ok(None) };
        let wanted = parse_canonical_u64(token);
        let mut found = None;
        for index in 0_u64.. {
            let next = if wanted == Some(index) {
                seq.next_element_seed(At(path))?.map(|value| found = value)
            } else {
                seq.next_element::<IgnoredAny>()?.map(drop)
            };
            if next.is_none() {
                break;
            }
        }
        Ok(found)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let Some((token, path)) = self.0.split_first() else { return Ok(None) };
        let mut found = None;
        let mut times = 0_u32;
        while let Some(wanted) = entries.next_key_seed(Is(token))? {
            if wanted {
                found = entries.next_value_seed(At(path))?;
                times = times.saturating_add(1);
            } else {
                entries.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found.filter(|_| times == 1))
    }
}

/// Whether a name is this one. Read as bytes: of a name that is no text only that it is another has to be known.
struct Is<'p>(&'p str);

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_bytes<E>(self, name: &[u8]) -> Result<bool, E> {
        Ok(name == self.0.as_bytes())
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

/// Builds one value; remembers our own reason, because the reader's error is only prose.
struct Strict<'f> {
    depth_left: usize,
    fault: &'f mut Option<JsonError>,
}

impl Strict<'_> {
    fn fail<E: serde::de::Error>(&mut self, fault: JsonError) -> E {
        *self.fault = Some(fault);
        E::custom(fault)
    }

    fn deeper(&mut self) -> Option<Strict<'_>> {
        Some(Strict { depth_left: self.depth_left.checked_sub(1)?, fault: self.fault })
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom(JsonError::Syntax))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            let Some(element) = self.deeper() else { return Err(self.fail(JsonError::TooDeep)) };
            match seq.next_element_seed(element)? {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<Value, A::Error> {
        if self.depth_left == 0 {
            return Err(self.fail(JsonError::TooDeep));
        }
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(self.fail(JsonError::DuplicateKey));
            }
            let Some(value) = self.deeper() else { return Err(A::Error::custom(JsonError::TooDeep)) };
            let value = entries.next_value_seed(value)?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::limits::JSON_DEPTH;
    use proptest::prelude::*;

    #[test]
    fn only_one_unambiguous_document_is_read() {
        for (text, expect) in [
            (r#"{"a":1,"b":[true,null,"x"]}"#, Ok(())),
            (" \t\r\n5 ", Ok(())),
            (r#""é 😀""#, Ok(())),
            (r#"{"a":{"b":1},"c":{"b":2}}"#, Ok(())),
            (r#"{"a":1,"a":1}"#, Err(JsonError::DuplicateKey)),
            (r#"{"a":1,"\u0061":2}"#, Err(JsonError::DuplicateKey)),
            (r#"{"x":[{"a":1,"a":2}]}"#, Err(JsonError::DuplicateKey)),
            ("{} {}", Err(JsonError::Trailing)),
            ("{}x", Err(JsonError::Trailing)),
            ("1 2", Err(JsonError::Trailing)),
            ("", Err(JsonError::Syntax)),
            ("{", Err(JsonError::Syntax)),
            ("{'a':1}", Err(JsonError::Syntax)),
            ("{\"a\":1,}", Err(JsonError::Syntax)),
            ("[1 2]", Err(JsonError::Syntax)),
            ("01", Err(JsonError::Trailing)),
            ("NaN", Err(JsonError::Syntax)),
            ("1e400", Err(JsonError::Syntax)),
            ("\"\\ud800\"", Err(JsonError::Syntax)),
            ("\"a\nb\"", Err(JsonError::Syntax)),
            ("\u{feff}{}", Err(JsonError::Syntax)),
            ("// c\n1", Err(JsonError::Syntax)),
        ] {
            let got = parse_strict(text.as_bytes(), JSON_DEPTH).map(drop);
            let alike = |e: JsonError| matches!(e, JsonError::Trailing | JsonError::Syntax);
            match (got, expect) {
                // Whether `01` is a bad number or a number and more text is the reader's taste.
                (Err(a), Err(b)) if alike(a) && alike(b) => {}
                (got, expect) => assert_eq!(got, expect, "{text:?}"),
            }
        }
        assert_eq!(parse_strict(b"\"\xc0\xaf\"", JSON_DEPTH), Err(JsonError::NotUtf8), "overlong UTF-8");
        assert_eq!(parse_strict(b"\xff\xfe1\0", JSON_DEPTH), Err(JsonError::NotUtf8), "UTF-16");
    }

    #[test]
    fn nesting_is_bounded_exactly() {
        let nested = |open: &str, close: &str, n: usize| [open.repeat(n), "1".into(), close.repeat(n)].concat();
        for depth in [1, 2, JSON_DEPTH] {
            for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
                assert!(parse_strict(nested(open, close, depth).as_bytes(), depth).is_ok());
                assert_eq!(parse_strict(nested(open, close, depth + 1).as_bytes(), depth), Err(JsonError::TooDeep));
            }
        }
        assert_eq!(parse_strict(b"[]", 0), Err(JsonError::TooDeep));
        assert_eq!(parse_strict(b"{}", 0), Err(JsonError::TooDeep));
        assert!(parse_strict(b"5", 0).is_ok());
        assert_eq!(parse_strict("[".repeat(1_000_000).as_bytes(), JSON_DEPTH), Err(JsonError::TooDeep), "no deep recursion first");
    }

    proptest! {
        #[test]
        fn it_reads_what_serde_json_writes(keys in proptest::collection::btree_map(".{0,8}", any::<i64>(), 0..8)) {
            let text = serde_json::to_vec(&keys).unwrap();
            let value = parse_strict(&text, 1).unwrap();
            prop_assert_eq!(serde_json::to_vec(&value).unwrap().len(), text.len());
        }

        #[test]
        fn it_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = parse_strict(&bytes, 4);
        }
    }
}
