//! Members that may be left out and may not be `null`: what is absent is not sent.
//!
//! For `#[serde(default, deserialize_with = "present::deserialize")]` on an `Option`.

use serde::{Deserialize, Deserializer};

pub fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Holder {
        #[serde(default, deserialize_with = "super::deserialize")]
        member: Option<String>,
    }

    #[test]
    fn a_member_is_there_or_not_and_never_null() {
        for (text, expect) in [("{}", Some(None)), (r#"{"member":"x"}"#, Some(Some("x".to_owned()))), (r#"{"member":null}"#, None)] {
            assert_eq!(serde_json::from_str::<Holder>(text).ok().map(|holder| holder.member), expect, "{text}");
        }
    }
}
