//! What stands on HTTP and MCP: headers, receipts, fingerprints, offers, identifiers, paths, and what is refused.

use super::{
    faults, schemas,
    shape::{Object, Problem},
};
use crate::{
    protocol::{
        ids::StoreId,
        offer::{OfferContext, OfferKey, OfferKeys, OfferToken},
        path::NormalPath,
        policy::{PublicOrigin, RouteId},
        price::PriceInputs,
        time::UnixMillis,
    },
    wire::{canonical, fingerprint, header, identifier},
};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

fn accepted(input: &mut Object) -> Result<Value, Problem> {
    let accepted = input.any("accepted")?;
    if accepted.is_object() { Ok(accepted) } else { Err(input.malformed("accepted", "not an object")) }
}

pub fn request_fingerprint(vector: &mut Object) -> Result<(), Problem> {
    let mut input = vector.object("input")?;
    let (method, url, accepted) = (input.text("method")?, input.text("url")?, accepted(&mut input)?);
    let hash = match input.any("body")? {
        Value::Null => fingerprint::request_hash(&method, &url, b"", &accepted),
        Value::String(body) => fingerprint::request_hash(&method, &url, body.as_bytes(), &accepted),
        // A body that is not UTF-8 stands in a vector as its hash, as it does in what is hashed.
        body @ Value::Object(_) => {
            let digest = Object::of("input/body", body).and_then(|mut body| {
                let digest: [u8; 32] = body.fixed("sha256")?;
                body.done().map(|()| digest)
            })?;
            fingerprint::request_hash_of_digest(&method, &url, &digest, &accepted)
        }
        _ => return Err(input.malformed("body", "not a text, null or {\"sha256\": …}")),
    };
    input.done()?;
    let mut expected = vector.object("expected")?;
    expected.equals("fingerprint", &hash.to_string())?;
    expected.done()
}

pub fn mcp_fingerprint(vector: &mut Object) -> Result<(), Problem> {
    let mut input = vector.object("input")?;
    let (audience, tool, accepted) = (input.text("audience")?, input.text("toolName")?, accepted(&mut input)?);
    // A call without arguments has none in the vector, or null.
    let arguments = input.maybe("arguments");
    input.done()?;
    let hash = fingerprint::tool_call_hash(&audience, &tool, arguments.as_ref(), &accepted);
    let mut expected = vector.object("expected")?;
    expected.equals("fingerprint", &hash.to_string())?;
    expected.done()
}

pub fn x402_http(vector: &mut Object) -> Result<(), Problem> {
    let mut headers = vector.object("headers")?;
    let mut message = |name: &str, schema: &str, header: &str| {
        let message = vector.any(name)?;
        schemas::validate(schema, &message).map_err(|why| Problem::Schema { what: name.to_owned(), why })?;
        let encoded = header::encode(&message);
        // Base64 tells its letters apart: no comparison in either case here.
        headers.equals_value(header, &String::from_utf8_lossy(encoded.as_bytes()).into_owned().into())?;
        match header::decode(encoded.as_bytes()) {
            Ok(read) if canonical::to_vec(&read) == canonical::to_vec(&message) => Ok(message),
            _ => Err(vector.malformed(name, "its header is not read as what was written")),
        }
    };
    let required = message("paymentRequired", "payment-required", "paymentRequired")?;
    let payment = message("paymentPayload", "payment-payload", "paymentSignature")?;
    let settled = message("settlementResponse", "settlement-response", "paymentResponse")?;
    headers.done()?;
    let offered = required["accepts"].as_array().is_some_and(|accepts| accepts.contains(&payment["accepted"]));
    if !offered {
        return Err(vector.malformed("paymentPayload/accepted", "none of paymentRequired/accepts"));
    }
    if settled.get("network").is_some_and(|network| *network != payment["accepted"]["network"]) {
        return Err(vector.malformed("settlementResponse/network", "not that of the payment"));
    }
    Ok(())
}

pub fn settlement_response(vector: &mut Object) -> Result<(), Problem> {
    let response = vector.any("response")?;
    let mut expected = vector.object("expected")?;
    let (stated, judged) = (expected.truth("valid")?, schemas::validate("settlement-response", &response));
    expected.done()?;
    match judged {
        Err(why) if stated => Err(Problem::Schema { what: "response".to_owned(), why }),
        judged => vector.differs("expected/valid", judged.is_ok() == stated, stated.to_string(), judged.is_ok().to_string()),
    }
}

pub fn negative(vector: &mut Object) -> Result<(), Problem> {
    let (schema, value, stated) = (vector.text("schema")?, vector.any("value")?, vector.text("expectedError")?);
    let name = schemas::name_of(&schema).ok_or(Problem::UnknownSchema(schema))?;
    let found = faults::of(name, &value);
    if found.is_empty() {
        Err(Problem::NotRefused)
    } else if found.iter().any(|name| *name == stated) {
        Ok(())
    } else {
        Err(Problem::OtherRefusal { stated, found: found.join(", ") })
    }
}

pub fn positive(vector: &mut Object) -> Result<(), Problem> {
    let (schema, value) = (vector.text("schema")?, vector.any("value")?);
    let name = schemas::name_of(&schema).ok_or(Problem::UnknownSchema(schema))?;
    let refused = |why| Problem::Schema { what: "value".to_owned(), why };
    schemas::validate(name, &value).map_err(refused)?;
    faults::decoded(name, &value).map_err(|fault| refused(format!("{}: {}", fault.code.as_str(), fault.detail)))
}

pub fn header_decode(vector: &mut Object) -> Result<(), Problem> {
    let mut input = vector.object("input")?;
    let read = header::decode(input.text("header")?.as_bytes());
    input.done()?;
    either(vector, read.map(|message| ("message", message)).map_err(|error| error.code().as_str().to_owned()))
}

pub fn payment_identifier(vector: &mut Object) -> Result<(), Problem> {
    let mut input = vector.object("input")?;
    let required = input.truth("required")?;
    let extensions: Map<String, Value> = input.read("extensions")?;
    input.done()?;
    let read = identifier::read(&extensions, required);
    either(vector, read.map(|id| ("identifier", id.map_or(Value::Null, |id| id.as_str().into()))).map_err(|code| code.as_str().to_owned()))
}

pub fn path_normal_form(vector: &mut Object) -> Result<(), Problem> {
    let mut input = vector.object("input")?;
    let (path, encoded_slashes) = (input.text("path")?, input.truth("encodedSlashes")?);
    input.done()?;
    let normal = NormalPath::parse(&path, encoded_slashes);
    either(vector, normal.map(|path| ("path", path.as_str().into())).map_err(|_| "path_malformed".to_owned()))
}

/// `expected` holds one result, or `error` with the code of the refusal.
pub fn either(vector: &mut Object, computed: Result<(&'static str, Value), String>) -> Result<(), Problem> {
    let mut expected = vector.object("expected")?;
    match computed {
        Ok((name, _)) if !expected.has(name) && expected.has("error") => Err(Problem::NotRefused),
        Ok((name, value)) => expected.equals_value(name, &value),
        Err(code) => expected.equals("error", &code),
    }?;
    expected.done()
}

pub fn offer_mac(vector: &mut Object) -> Result<(), Problem> {
    let mut input = vector.object("input")?;
    let (origin, route) = (PublicOrigin(input.text("origin")?), RouteId(input.text("routeId")?));
    let rule_id = input.text("ruleId")?;
    let mut inputs = PriceInputs::default();
    for pair in input.read::<Vec<[String; 2]>>("inputs")? {
        let [name, value] = pair;
        inputs.push(name, value);
    }
    let key = OfferKey { kid: input.text("kid")?, key: Zeroizing::new(input.bytes("offerKey")?), not_after: None };
    let keys = OfferKeys::derive(std::slice::from_ref(&key), input.read::<StoreId>("storeId")?);
    let (issued, expiry, daa) = (input.number("issued")?, input.number("expiry")?, input.number("daa")?);
    let nonce = input.fixed("nonce")?;
    let terms = canonical::to_vec(&input.any("terms")?);
    let lifetime = expiry.checked_sub(issued).ok_or_else(|| input.malformed("expiry", "before issued"))?;
    input.done()?;
    let context = OfferContext { origin: &origin, route: &route, rule_id: &rule_id, inputs: &inputs };
    let signed = OfferToken::sign(&keys, &context, &terms, UnixMillis::from_seconds(issued), lifetime, daa, nonce);
    let signed = signed.ok_or_else(|| input.malformed("offerKey", "it signs nothing"))?;
    let mut expected = vector.object("expected")?;
    expected.equals_value("token", &signed.to_string().into())?;
    expected.done()?;
    let read = OfferToken::parse(&signed.to_string()).map(|token| token.authenticate(&keys, &context, &terms, UnixMillis(0)));
    vector.differs("expected/token", read == Ok(Ok(())), "authentic".to_owned(), format!("{read:?}"))
}
