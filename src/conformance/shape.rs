//! Reading a vector's members one by one; what nobody asked for is refused at the end.

use crate::protocol::{amount::parse_canonical_u64, json::JsonError};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Why a vector fails. Places are JSON pointers without their first slash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("not JSON: {0}")]
    NotJson(JsonError),
    #[error("the kind {0:?} is not known")]
    UnknownKind(String),
    #[error("{0} is missing")]
    Missing(String),
    #[error("{0}: {1}")]
    Malformed(String, String),
    #[error("{0} was not read: no such field belongs here")]
    Unread(String),
    #[error("{what} is {computed}, not {stated}")]
    Differs { what: String, stated: String, computed: String },
    #[error("the schema {0:?} is not known")]
    UnknownSchema(String),
    #[error("{what} does not fit its schema: {why}")]
    Schema { what: String, why: String },
    #[error("nothing refuses the value")]
    NotRefused,
    #[error("it is refused as {found}, not as {stated}")]
    OtherRefusal { stated: String, found: String },
}

/// A JSON object whose members are taken out as they are read.
pub struct Object {
    place: String,
    left: Map<String, Value>,
}

impl Object {
    pub fn of(place: &str, value: Value) -> Result<Self, Problem> {
        match value {
            Value::Object(left) => Ok(Self { place: place.to_owned(), left }),
            _ => Err(Problem::Malformed(if place.is_empty() { "the file" } else { place }.into(), "not an object".into())),
        }
    }

    fn at(&self, name: &str) -> String {
        if self.place.is_empty() { name.to_owned() } else { format!("{}/{name}", self.place) }
    }

    pub fn malformed(&self, name: &str, why: impl Into<String>) -> Problem {
        Problem::Malformed(self.at(name), why.into())
    }

    pub fn has(&self, name: &str) -> bool {
        self.left.contains_key(name)
    }

    pub fn any(&mut self, name: &str) -> Result<Value, Problem> {
        self.left.remove(name).ok_or_else(|| Problem::Missing(self.at(name)))
    }

    pub fn maybe(&mut self, name: &str) -> Option<Value> {
        self.left.remove(name)
    }

    pub fn object(&mut self, name: &str) -> Result<Self, Problem> {
        let value = self.any(name)?;
        Self::of(&self.at(name), value)
    }

    pub fn list(&mut self, name: &str) -> Result<Vec<Value>, Problem> {
        match self.any(name)? {
            Value::Array(items) => Ok(items),
            _ => Err(self.malformed(name, "not a list")),
        }
    }

    pub fn text(&mut self, name: &str) -> Result<String, Problem> {
        match self.any(name)? {
            Value::String(text) => Ok(text),
            _ => Err(self.malformed(name, "not a text")),
        }
    }

    pub fn truth(&mut self, name: &str) -> Result<bool, Problem> {
        match self.any(name)? {
            Value::Bool(truth) => Ok(truth),
            _ => Err(self.malformed(name, "not true or false")),
        }
    }

    /// A canonical unsigned 64-bit decimal string.
    pub fn number(&mut self, name: &str) -> Result<u64, Problem> {
        let text = self.text(name)?;
        parse_canonical_u64(&text).ok_or_else(|| self.malformed(name, "not a canonical unsigned 64-bit decimal string"))
    }

    pub fn bytes(&mut self, name: &str) -> Result<Vec<u8>, Problem> {
        let text = self.text(name)?;
        hex::decode(text).map_err(|error| self.malformed(name, error.to_string()))
    }

    pub fn fixed<const N: usize>(&mut self, name: &str) -> Result<[u8; N], Problem> {
        self.bytes(name)?.try_into().map_err(|_| self.malformed(name, format!("not {N} bytes of hex")))
    }

    /// A type of the wire.
    pub fn read<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, Problem> {
        let value = self.any(name)?;
        serde_json::from_value(value).map_err(|error| self.malformed(name, error.to_string()))
    }

    /// A type of the wire that may be absent.
    pub fn maybe_read<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, Problem> {
        if self.has(name) { self.read(name).map(Some) } else { Ok(None) }
    }

    pub fn is_null(&self, name: &str) -> bool {
        self.left.get(name).is_some_and(Value::is_null)
    }

    /// The words every file and every case may carry for people; gives the name.
    pub fn spoken(&mut self) -> Result<Option<String>, Problem> {
        for words in ["description", "reason", "note"] {
            if self.has(words) {
                self.text(words)?;
            }
        }
        if self.has("name") { self.text("name").map(Some) } else { Ok(None) }
    }

    /// Whether `computed` is what the member states, text for text; hex in either case.
    pub fn equals(&mut self, name: &str, computed: &str) -> Result<(), Problem> {
        let stated = self.text(name)?;
        let hex = !stated.is_empty() && stated.len() % 2 == 0 && stated.bytes().all(|byte| byte.is_ascii_hexdigit());
        let equal = stated == computed || (hex && stated.eq_ignore_ascii_case(computed));
        self.differs(name, equal, stated, computed.to_owned())
    }

    /// The same of a whole value.
    pub fn equals_value(&mut self, name: &str, computed: &Value) -> Result<(), Problem> {
        let stated = self.any(name)?;
        self.differs(name, stated == *computed, stated.to_string(), computed.to_string())
    }

    pub fn differs(&self, name: &str, equal: bool, stated: String, computed: String) -> Result<(), Problem> {
        if equal { Ok(()) } else { Err(Problem::Differs { what: self.at(name), stated, computed }) }
    }

    /// Refuses what was not read.
    pub fn done(&self) -> Result<(), Problem> {
        match self.left.keys().next() {
            None => Ok(()),
            Some(name) => Err(Problem::Unread(self.at(name))),
        }
    }

    /// Puts a member back, or one that stands elsewhere.
    pub fn put(&mut self, name: &str, value: Value) {
        self.left.insert(name.to_owned(), value);
    }
}

/// `expected` holds one result, or `error` with the code of the refusal.
pub fn either(vector: &mut Object, computed: Result<(&'static str, Value), String>) -> Result<(), Problem> {
    let mut expected = vector.object("expected")?;
    result(&mut expected, computed)?;
    expected.done()
}

/// The same, of what `expected` has besides.
pub fn result(expected: &mut Object, computed: Result<(&'static str, Value), String>) -> Result<(), Problem> {
    match computed {
        Ok((name, _)) if !expected.has(name) && expected.has("error") => Err(Problem::NotRefused),
        Ok((name, value)) => expected.equals_value(name, &value),
        Err(code) if !expected.has("error") => Err(Problem::OtherRefusal { stated: "nothing".to_owned(), found: code }),
        Err(code) => expected.equals("error", &code),
    }
}
