//! Reading answers of the server.

use crate::store::StoreError;
use redis::Value;

/// An answer that none of our commands gives.
fn odd(value: &Value) -> StoreError {
    // Never the value itself: it may be somebody's response.
    let kind = match value {
        Value::Nil => "nothing",
        Value::Int(_) => "a number",
        Value::BulkString(_) => "a string",
        Value::Array(_) => "a list",
        _ => "something else",
    };
    StoreError::Corrupt(format!("the server answered {kind} where it should not"))
}

pub(super) fn list(value: Value) -> Result<Vec<Value>, StoreError> {
    match value {
        Value::Array(values) => Ok(values),
        other => Err(odd(&other)),
    }
}

pub(super) fn maybe_bytes(value: Value) -> Result<Option<Vec<u8>>, StoreError> {
    match value {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(bytes)),
        other => Err(odd(&other)),
    }
}

pub(super) fn bytes(value: Value) -> Result<Vec<u8>, StoreError> {
    maybe_bytes(value)?.ok_or_else(|| odd(&Value::Nil))
}

pub(super) fn text(value: Value) -> Result<String, StoreError> {
    match value {
        Value::SimpleString(text) => Ok(text),
        other => String::from_utf8(bytes(other)?).map_err(|_| StoreError::Corrupt("the server answered what is no text".to_owned())),
    }
}

/// A number, however it is written.
pub(super) fn number(value: Value) -> Result<u64, StoreError> {
    match value {
        Value::Int(number) => u64::try_from(number).map_err(|_| odd(&Value::Int(number))),
        Value::BulkString(digits) => parsed(&digits),
        other => Err(odd(&other)),
    }
}

pub(super) fn parsed(digits: &[u8]) -> Result<u64, StoreError> {
    let parsed = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    parsed.ok_or_else(|| StoreError::Corrupt("a stored number is none".to_owned()))
}

/// Takes a list apart.
pub(super) struct Parts(std::vec::IntoIter<Value>);

impl Parts {
    pub fn of(value: Value) -> Result<Self, StoreError> {
        Ok(Self(list(value)?.into_iter()))
    }

    pub fn next(&mut self) -> Value {
        self.0.next().unwrap_or(Value::Nil)
    }
}
