//! What a request costs: fixed, or by one input of the request (PROTOCOL section 3).
//!
//! Promises: a price is a pure function of the request, and of nothing the upstream could read
//! differently: an ambiguous input is refused, a default covers only missing and unlisted ones.
//! Called by `gateway` for the offer and again for the request that pays.

use super::{
    amount::Amount,
    inputs::{self, Once},
    json, limits,
    request::Request,
};
use http::{HeaderMap, HeaderName, header};
use serde_json::Value;
use std::{collections::BTreeMap, fmt};

/// The price rule of one way to pay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PriceRule {
    Fixed(Amount),
    Table {
        by: PriceInput,
        /// Normalised input value -> price; never zero.
        rows: BTreeMap<String, Amount>,
        /// For a missing or unlisted value; without it such a request is refused.
        default: Option<Amount>,
    },
}

/// What a table is keyed by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PriceInput {
    Method,
    Header(HeaderName),
    Query(String),
    /// A JSON pointer (RFC 6901) into the request body.
    Json(String),
}

/// The name of the input, as errors and offers carry it.
impl fmt::Display for PriceInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Method => f.write_str("method"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
            Self::Json(pointer) => write!(f, "json:{pointer}"),
        }
    }
}

/// The normalised inputs a price rule read, in the order it read them; part of the offer's MAC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PriceInputs(Vec<(String, String)>);

impl PriceInputs {
    pub fn push(&mut self, name: String, value: String) {
        self.0.push((name, value));
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// A price and what it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    pub amount: Amount,
    pub inputs: PriceInputs,
}

/// Why a request has no price: it is refused, never free.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PriceError {
    /// The input is absent and the rule has no default.
    #[error("{0} is missing; it sets the price of this request")]
    Missing(String),
    /// The input has a value the table does not list and the rule has no default.
    #[error("{0} has a value without a price")]
    Unlisted(String),
    /// The input occurs more than once or is not text: the upstream might read another value.
    #[error("{0} must occur once, as text, a number or a boolean")]
    Ambiguous(String),
    /// The body is needed and is not JSON (strict: UTF-8, no duplicate keys, bounded depth, no content encoding).
    #[error("the body must be plain JSON: {0}")]
    BodyNotJson(String),
}

impl PriceRule {
    /// The price of `request`. Reads the body only when [`PriceRule::reads_body`].
    pub fn evaluate(&self, request: &Request) -> Result<Price, PriceError> {
        let (by, rows, default) = match self {
            Self::Fixed(amount) => return Ok(Price { amount: *amount, inputs: PriceInputs::default() }),
            Self::Table { by, rows, default } => (by, rows, default),
        };
        let value = by.read(request)?;
        if let Some((key, amount)) = value.as_ref().and_then(|value| rows.get_key_value(value)) {
            return Ok(quote(by, Some(key), *amount));
        }
        match (default, value) {
            (Some(amount), _) => Ok(quote(by, None, *amount)),
            (None, None) => Err(PriceError::Missing(by.to_string())),
            (None, Some(_)) => Err(PriceError::Unlisted(by.to_string())),
        }
    }

    /// Whether the price depends on the body.
    pub const fn reads_body(&self) -> bool {
        matches!(self, Self::Table { by: PriceInput::Json(_), .. })
    }

    /// Every price this rule can quote, to name why an offer does not fit.
    pub fn alternatives(&self) -> Vec<Price> {
        match self {
            Self::Fixed(amount) => vec![Price { amount: *amount, inputs: PriceInputs::default() }],
            Self::Table { by, rows, default } => {
                let listed = rows.iter().map(|(key, amount)| quote(by, Some(key), *amount));
                listed.chain(default.map(|amount| quote(by, None, amount))).collect()
            }
        }
    }
}

/// The price of a table's row, or of its default. A default is marked in the name, so that no row's
/// value can look like it: what a client may leave out or change must not change the offer.
fn quote(by: &PriceInput, key: Option<&str>, amount: Amount) -> Price {
    let mut inputs = PriceInputs::default();
    match key {
        Some(key) => inputs.push(by.to_string(), key.to_owned()),
        None => inputs.push(format!("default:{by}"), String::new()),
    }
    Price { amount, inputs }
}

impl PriceInput {
    /// The value as a table key; `None` when it is absent.
    fn read(&self, request: &Request) -> Result<Option<String>, PriceError> {
        let head = &request.head;
        let found = match self {
            Self::Method => Once::One(head.method.as_str().to_owned()),
            Self::Header(name) => match inputs::header(&head.headers, name) {
                Once::One(text) => Once::One(text.to_owned()),
                Once::Absent => Once::Absent,
                Once::Ambiguous => Once::Ambiguous,
            },
            Self::Query(name) => match inputs::query(head.query.as_deref(), name) {
                Once::One(text) => Once::One(text.into_owned()),
                Once::Absent => Once::Absent,
                Once::Ambiguous => Once::Ambiguous,
            },
            Self::Json(pointer) if !request.body.is_empty() => {
                plain_json(&head.headers).map_err(|why| PriceError::BodyNotJson(why.to_owned()))?;
                let body =
                    json::parse_strict(&request.body, limits::JSON_DEPTH).map_err(|reason| PriceError::BodyNotJson(reason.to_string()))?;
                scalar_at(&body, pointer)
            }
            Self::Json(_) => Once::Absent,
        };
        match found {
            Once::One(value) => Ok(Some(value)),
            Once::Absent => Ok(None),
            Once::Ambiguous => Err(PriceError::Ambiguous(self.to_string())),
        }
    }
}

/// The upstream must read the same bytes as the same JSON: no content encoding, no other media type
/// (a form parser reads other fields in a JSON text), no other charset.
pub fn plain_json(headers: &HeaderMap) -> Result<(), &'static str> {
    if !inputs::plainly_coded(headers) {
        return Err("it is sent with a content encoding");
    }
    match inputs::header(headers, &header::CONTENT_TYPE) {
        Once::Absent => Ok(()),
        Once::One(media_type) if plain_json_type(media_type) => Ok(()),
        Once::One(_) | Once::Ambiguous => Err("the content type is not JSON in UTF-8"),
    }
}

fn plain_json_type(media_type: &str) -> bool {
    let mut parts = media_type.split(';').map(|part| part.trim().to_ascii_lowercase());
    let essence = parts.next().unwrap_or_default();
    let json = essence.split_once('/').is_some_and(|(_, subtype)| subtype == "json" || subtype.ends_with("+json"));
    let charset = |part: String| part.strip_prefix("charset=").is_none_or(|set| matches!(set.trim_matches('"'), "utf-8" | "utf8"));
    json && parts.all(charset)
}

/// The scalar a JSON pointer names. A neighbour whose name differs only in letter case is ambiguous:
/// some JSON readers would take it for the same field.
fn scalar_at(document: &Value, pointer: &str) -> Once<String> {
    let mut at = document;
    for token in pointer.split('/').skip(1) {
        let token = token.replace("~1", "/").replace("~0", "~");
        let next = match at {
            Value::Object(object) => {
                let wanted = inputs::folded(&token);
                let alike = object.keys().filter(|key| inputs::folded(key) == wanted).count();
                match object.get(&token) {
                    Some(value) if alike == 1 => Some(value),
                    None if alike == 0 => None,
                    _ => return Once::Ambiguous,
                }
            }
            Value::Array(items) => array_index(&token).and_then(|index| items.get(index)),
            _ => return Once::Ambiguous,
        };
        let Some(next) = next else { return Once::Absent };
        at = next;
    }
    match at {
        Value::String(text) => Once::One(text.clone()),
        Value::Bool(flag) => Once::One(flag.to_string()),
        Value::Number(number) => Once::One(number_text(number)),
        Value::Null | Value::Array(_) | Value::Object(_) => Once::Ambiguous,
    }
}

/// RFC 6901: no sign, no leading zero.
fn array_index(token: &str) -> Option<usize> {
    super::amount::parse_canonical_u64(token).and_then(|index| usize::try_from(index).ok())
}

/// `5`, `5.0` and `5e0` are one value to an upstream, so they are one table key.
fn number_text(number: &serde_json::Number) -> String {
    /// Beyond it a double no longer tells neighbouring integers apart.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match number.as_f64() {
        Some(value) if !number.is_i64() && !number.is_u64() && value.fract() == 0.0 && value.abs() <= EXACT => {
            // `+ 0.0` turns minus zero into zero.
            format!("{:.0}", value + 0.0)
        }
        _ => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{path::NormalPath, request::RequestHead};
    use http::{HeaderValue, Method};

    fn kas(sompi: u64) -> Amount {
        Amount::from_sompi(sompi).unwrap()
    }

    fn table(by: PriceInput, default: Option<u64>) -> PriceRule {
        let rows = [("small", 1), ("large", 9), ("5", 5), ("true", 7), ("POST", 3), ("", 4)];
        PriceRule::Table { by, rows: rows.into_iter().map(|(k, v)| (k.to_owned(), kas(v))).collect(), default: default.map(kas) }
    }

    fn request(query: Option<&str>, headers: &[(&str, &str)], body: &[u8]) -> Request {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let head = RequestHead {
            method: Method::POST,
            host: "api".into(),
            path: NormalPath::parse("/", false).unwrap(),
            target: "/".into(),
            query: query.map(str::to_owned),
            headers: map,
        };
        Request { head, body: body.to_vec().into() }
    }

    /// What a rule answers, without and with a default of 2 sompi.
    fn check(by: PriceInput, request: &Request, strict: Result<u64, PriceError>, lenient: Result<u64, PriceError>) {
        for (default, expect) in [(None, strict), (Some(2), lenient)] {
            let rule = table(by.clone(), default);
            let got = rule.evaluate(request);
            if let Ok(price) = &got {
                assert!(rule.alternatives().contains(price), "every quote is among the alternatives: {price:?}");
            }
            assert_eq!(got.map(|price| price.amount.sompi()), expect, "{by} of {request:?}");
        }
    }

    #[test]
    fn a_fixed_price_reads_nothing() {
        let price = PriceRule::Fixed(kas(8)).evaluate(&request(None, &[], b"\xff")).unwrap();
        assert_eq!(price, Price { amount: kas(8), inputs: PriceInputs::default() });
        assert_eq!(PriceRule::Fixed(kas(8)).alternatives(), vec![price]);
    }

    #[test]
    fn a_head_input_has_one_price_or_none() {
        let method = PriceInput::Method;
        check(method, &request(None, &[], b""), Ok(3), Ok(3));
        let header = || PriceInput::Header(HeaderName::from_static("x-model"));
        let missing = || Err(PriceError::Missing("header:x-model".into()));
        let ambiguous = || Err(PriceError::Ambiguous("header:x-model".into()));
        check(header(), &request(None, &[("x-model", "large")], b""), Ok(9), Ok(9));
        check(header(), &request(None, &[], b""), missing(), Ok(2));
        check(header(), &request(None, &[("x-model", "Large")], b""), Err(PriceError::Unlisted("header:x-model".into())), Ok(2));
        check(header(), &request(None, &[("x-model", "small"), ("x-model", "large")], b""), ambiguous(), ambiguous());
        check(header(), &request(None, &[("x_model", "large")], b""), ambiguous(), ambiguous());
        let query = || PriceInput::Query("model".into());
        let ambiguous = || Err(PriceError::Ambiguous("query:model".into()));
        check(query(), &request(Some("a=1&model=small"), &[], b""), Ok(1), Ok(1));
        check(query(), &request(Some("model"), &[], b""), Ok(4), Ok(4));
        check(query(), &request(None, &[], b""), Err(PriceError::Missing("query:model".into())), Ok(2));
        check(query(), &request(Some("model=small&model=large"), &[], b""), ambiguous(), ambiguous());
        check(query(), &request(Some("model=small&Model=large"), &[], b""), ambiguous(), ambiguous());
    }

    #[test]
    fn a_body_field_has_one_price_or_none() {
        let missing = Err(PriceError::Missing("json:/a/model".into()));
        let unlisted = Err(PriceError::Unlisted("json:/a/model".into()));
        let ambiguous = Err(PriceError::Ambiguous("json:/a/model".into()));
        let not_json = |why: json::JsonError| Err(PriceError::BodyNotJson(why.to_string()));
        let (twice, syntax) = (not_json(json::JsonError::DuplicateKey), not_json(json::JsonError::Syntax));
        for (body, strict, lenient) in [
            (r#"{"a":{"model":"large"}}"#, Ok(9), Ok(9)),
            (r#"{"a":{"\u006dodel":"large"}}"#, Ok(9), Ok(9)),
            (r#"{"a":{"model":5}}"#, Ok(5), Ok(5)),
            (r#"{"a":{"model":5.0}}"#, Ok(5), Ok(5)),
            (r#"{"a":{"model":0.5e1}}"#, Ok(5), Ok(5)),
            (r#"{"a":{"model":true}}"#, Ok(7), Ok(7)),
            (r#"{"a":{"model":""}}"#, Ok(4), Ok(4)),
            (r#"{"a":{"model":"huge"}}"#, unlisted.clone(), Ok(2)),
            (r#"{"a":{"model":"large "}}"#, unlisted.clone(), Ok(2)),
            (r#"{"a":{"model":-0}}"#, unlisted, Ok(2)),
            (r#"{"a":{}}"#, missing.clone(), Ok(2)),
            (r#"{}"#, missing.clone(), Ok(2)),
            ("", missing, Ok(2)),
            (r#"{"a":{"model":null}}"#, ambiguous.clone(), ambiguous.clone()),
            (r#"{"a":{"model":["large"]}}"#, ambiguous.clone(), ambiguous.clone()),
            (r#"{"a":{"model":{}}}"#, ambiguous.clone(), ambiguous.clone()),
            (r#"{"a":{"Model":"large"}}"#, ambiguous.clone(), ambiguous.clone()),
            (r#"{"a":{"model":"small","MODEL":"large"}}"#, ambiguous.clone(), ambiguous.clone()),
            (r#"{"a":{"model":"small"},"A":{"model":"large"}}"#, ambiguous.clone(), ambiguous.clone()),
            (r#"{"a":"x"}"#, ambiguous.clone(), ambiguous.clone()),
            ("5", ambiguous.clone(), ambiguous),
            (r#"{"a":{"model":"small","model":"large"}}"#, twice.clone(), twice.clone()),
            (r#"{"a":{"model":"small"},"a":{"model":"large"}}"#, twice.clone(), twice),
            ("model=large", syntax.clone(), syntax.clone()),
            ("{", syntax.clone(), syntax),
        ] {
            check(PriceInput::Json("/a/model".into()), &request(None, &[], body.as_bytes()), strict, lenient);
        }
    }

    #[test]
    fn a_json_pointer_follows_rfc_6901() {
        let price = |pointer: &str, body: &str| {
            table(PriceInput::Json(pointer.into()), None).evaluate(&request(None, &[], body.as_bytes())).map(|p| p.amount.sompi())
        };
        for (pointer, body, expect) in [
            ("", r#""large""#, Some(9)),
            ("/x~1y~0", r#"{"x/y~":"large"}"#, Some(9)),
            ("/x/1", r#"{"x":["small","large"]}"#, Some(9)),
            ("/x/01", r#"{"x":["small","large"]}"#, None),
            ("/x/-", r#"{"x":["small","large"]}"#, None),
            ("/", r#"{"":"large"}"#, Some(9)),
        ] {
            assert_eq!(price(pointer, body).ok(), expect, "{pointer} of {body}");
        }
    }

    #[test]
    fn a_body_is_read_only_when_the_upstream_must_read_it_alike() {
        for (headers, readable) in [
            (&[][..], true),
            (&[("content-type", "application/json")][..], true),
            (&[("content-type", "Application/JSON; charset=\"UTF-8\"")][..], true),
            (&[("content-type", "application/vnd.api+json")][..], true),
            (&[("content-encoding", "identity")][..], true),
            (&[("content-type", "application/x-www-form-urlencoded")][..], false),
            (&[("content-type", "application/json; charset=utf-16")][..], false),
            (&[("content-type", "application/json"), ("content-type", "text/plain")][..], false),
            (&[("content-encoding", "gzip")][..], false),
            (&[("content-encoding", "identity, gzip")][..], false),
        ] {
            let rule = table(PriceInput::Json("/model".into()), Some(2));
            let got = rule.evaluate(&request(None, headers, br#"{"model":"large"}"#));
            assert_eq!(got.is_ok(), readable, "{headers:?}: {got:?}");
        }
    }

    #[test]
    fn a_default_is_never_confused_with_a_row() {
        let rule = table(PriceInput::Query("default".into()), Some(2));
        let quotes = rule.alternatives();
        assert_eq!(quotes.len(), 7);
        for (i, a) in quotes.iter().enumerate() {
            assert!(quotes[i + 1..].iter().all(|b| a.inputs != b.inputs), "{a:?}");
        }
    }
}
