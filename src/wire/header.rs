//! A JSON message in an HTTP header: standard padded base64 of canonical JSON (PROTOCOL section 1).

use super::canonical::{self, Sorted};
use crate::protocol::{json, limits, refusal::Code};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::HeaderValue;
use serde::Serialize;
use serde_json::Value;

/// Why a header value is not a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("longer than {} bytes", limits::PAYMENT_HEADER_BYTES)]
    TooLarge,
    #[error("not standard padded base64")]
    NotBase64,
    #[error("not JSON: {0}")]
    NotJson(json::JsonError),
}

impl HeaderError {
    pub fn code(&self) -> Code {
        match self {
            Self::TooLarge => Code::HeaderTooLarge,
            Self::NotBase64 => Code::HeaderNotBase64,
            Self::NotJson(_) => Code::HeaderNotJson,
        }
    }
}

/// The header value of a message.
pub fn encode<T: Serialize>(message: &T) -> HeaderValue {
    wrap(&canonical::to_vec(message))
}

/// The same for messages that are declared in canonical order, without a tree in between.
pub fn encode_sorted<T: Sorted>(message: &T) -> HeaderValue {
    wrap(&canonical::sorted_to_vec(message))
}

/// The header value of canonical bytes.
pub fn wrap(canonical: &[u8]) -> HeaderValue {
    HeaderValue::try_from(STANDARD.encode(canonical)).expect("base64 is visible ASCII")
}

/// The message of a header value, in bounded time and memory. Whether it is canonical does not
/// matter to a reader: nothing is hashed from the received bytes.
pub fn decode(value: &[u8]) -> Result<Value, HeaderError> {
    json::parse_strict(&unwrap(value)?, limits::JSON_DEPTH).map_err(HeaderError::NotJson)
}

/// The bytes in a header value.
pub(super) fn unwrap(value: &[u8]) -> Result<Vec<u8>, HeaderError> {
    if value.len() > limits::PAYMENT_HEADER_BYTES {
        return Err(HeaderError::TooLarge);
    }
    STANDARD.decode(value).map_err(|_| HeaderError::NotBase64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_strict_base64_of_strict_json() {
        let encoded = |text: &str| STANDARD.encode(text);
        for (value, ok) in [
            (encoded(r#"{"a":1}"#), true),
            (encoded(r#"{"a":1,"a":2}"#), false),
            (encoded(r#"{"a":1} x"#), false),
            (encoded(&format!("{}{}", "[".repeat(64), "]".repeat(64))), false),
            (encoded("{\"a\":1}").trim_end_matches('=').to_owned(), false),
            (encoded(r#"{"a":123}"#), true),
            ("e30".into(), false),
            ("e31=".into(), false),
            (" e30=".into(), false),
            ("e30-".into(), false),
            ("A".repeat(limits::PAYMENT_HEADER_BYTES + 4), false),
            (String::new(), false),
        ] {
            assert_eq!(decode(value.as_bytes()).is_ok(), ok, "{}", &value[..value.len().min(60)]);
        }
    }

    #[test]
    fn a_header_may_be_as_long_as_its_limit_and_no_longer() {
        let padded = |bytes: usize| STANDARD.encode(["{}", &" ".repeat(bytes - 2)].concat());
        let longest = padded(limits::PAYMENT_HEADER_BYTES / 4 * 3);
        assert_eq!(longest.len(), limits::PAYMENT_HEADER_BYTES);
        assert_eq!(decode(longest.as_bytes()), Ok(serde_json::json!({})));
        assert_eq!(decode(padded(limits::PAYMENT_HEADER_BYTES / 4 * 3 + 1).as_bytes()), Err(HeaderError::TooLarge));
    }

    #[test]
    fn what_is_encoded_decodes_to_the_same() {
        let message = serde_json::json!({"z": [1, "ü"], "a": {"b": null}});
        assert_eq!(decode(encode(&message).as_bytes()).unwrap(), message);
    }
}
