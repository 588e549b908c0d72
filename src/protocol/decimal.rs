//! 64-bit numbers that stand on the wire as canonical decimal strings: DAA scores and the like.
//!
//! For `#[serde(with = "decimal")]`. A JSON number is refused, as for amounts.

use super::amount::parse_canonical_u64;
use serde::{Deserialize, Deserializer, Serializer, de::Error};
use std::borrow::Cow;

pub fn serialize<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = Cow::<'de, str>::deserialize(deserializer)?;
    parse_canonical_u64(&text).ok_or_else(|| D::Error::custom("not a canonical unsigned 64-bit decimal string"))
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Holder(#[serde(with = "super")] u64);

    #[test]
    fn only_canonical_decimal_strings_are_numbers() {
        for (text, expect) in [
            ("\"0\"", Some(0)),
            ("\"123456\"", Some(123_456)),
            ("\"18446744073709551615\"", Some(u64::MAX)),
            ("\"18446744073709551616\"", None),
            ("\"01\"", None),
            ("\"+1\"", None),
            ("\"1.0\"", None),
            ("\"\"", None),
            ("1", None),
            ("null", None),
        ] {
            assert_eq!(serde_json::from_str::<Holder>(text).ok(), expect.map(Holder), "{text}");
        }
        assert_eq!(serde_json::to_string(&Holder(7)).unwrap(), "\"7\"");
    }
}
