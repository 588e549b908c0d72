//! The `payment-identifier` extension (PROTOCOL section 3): advertised in offers, echoed with an id in payments.

use super::canonical;
use crate::protocol::{ids::PaymentIdentifier, limits, refusal::Code};
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

/// Its name under `extensions`.
pub const NAME: &str = "payment-identifier";

/// What an offer advertises.
pub fn advertise(required: bool) -> &'static Value {
    static ADVERTISED: LazyLock<[Value; 2]> = LazyLock::new(|| [false, true].map(extension));
    &ADVERTISED[usize::from(required)]
}

/// The schema in it, as it is sent.
pub(super) fn schema(required: bool) -> &'static str {
    static SCHEMAS: LazyLock<[String; 2]> = LazyLock::new(|| {
        [false, true].map(|required| String::from_utf8(canonical::to_vec(&advertise(required)["schema"])).expect("JSON is UTF-8"))
    });
    &SCHEMAS[usize::from(required)]
}

fn extension(required: bool) -> Value {
    json!({
        "info": { "required": required },
        "schema": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {
                "required": { "type": "boolean" },
                "id": {
                    "type": "string",
                    "minLength": limits::IDENTIFIER_CHARS.start(),
                    "maxLength": limits::IDENTIFIER_CHARS.end(),
                    "pattern": "^[A-Za-z0-9_-]+$",
                },
            },
            "required": ["required"],
        },
    })
}

/// The identifier a payment carries. The schema and every advertised `info` field must be echoed; `id` is added.
pub fn read(extensions: &Map<String, Value>, required: bool) -> Result<Option<PaymentIdentifier>, Code> {
    let Some(echo) = extensions.get(NAME) else {
        return if required { Err(Code::IdentifierRequired) } else { Ok(None) };
    };
    let advertised = advertise(required);
    let info = echo.get("info").and_then(Value::as_object).ok_or(Code::IdentifierNotEchoed)?;
    let fields = advertised["info"].as_object().expect("advertised above as an object");
    if echo.get("schema") != Some(&advertised["schema"]) || fields.iter().any(|(name, value)| info.get(name) != Some(value)) {
        return Err(Code::IdentifierNotEchoed);
    }
    match info.get("id") {
        None if required => Err(Code::IdentifierRequired),
        None => Ok(None),
        Some(Value::String(id)) => PaymentIdentifier::parse(id).map(Some).map_err(|_| Code::IdentifierMalformed),
        Some(_) => Err(Code::IdentifierMalformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_is_echoed_whole_with_an_id_added() {
        let id = "a".repeat(16);
        let echo = |required: bool, change: &dyn Fn(&mut Value)| {
            let mut value = advertise(required).clone();
            value["info"]["id"] = json!(id);
            change(&mut value);
            read(&Map::from_iter([(NAME.to_owned(), value)]), required)
        };
        assert_eq!(echo(true, &|_| {}).unwrap().unwrap().as_str(), id);
        assert_eq!(echo(true, &|v| v["info"]["id"] = json!("short")), Err(Code::IdentifierMalformed));
        assert_eq!(echo(true, &|v| v["info"]["id"] = json!(7)), Err(Code::IdentifierMalformed));
        assert_eq!(echo(true, &|v| v["info"]["required"] = json!(false)), Err(Code::IdentifierNotEchoed));
        assert_eq!(echo(true, &|v| v["schema"] = json!({})), Err(Code::IdentifierNotEchoed));
        assert_eq!(echo(true, &|v| *v = json!({})), Err(Code::IdentifierNotEchoed));
        assert_eq!(echo(true, &|v| v["info"] = json!({"required": true})), Err(Code::IdentifierRequired));
        assert_eq!(echo(false, &|v| v["info"] = json!({"required": false})), Ok(None));
        assert_eq!(read(&Map::new(), false), Ok(None));
        assert_eq!(read(&Map::new(), true), Err(Code::IdentifierRequired));
    }
}
