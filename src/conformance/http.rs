//! What stands on HTTP and MCP: headers, receipts, fingerprints, offers, identifiers, paths, and what is refused.

use super::{
    faults,
    judge::Facts,
    schemas,
    shape::{Object, Problem, either},
    spends::script_public_key,
};
use crate::{
    protocol::{
        ids::StoreId,
        json, limits,
        offer::{OfferContext, OfferError, OfferKey, OfferKeys, OfferToken},
        path::NormalPath,
        policy::{PublicOrigin, RouteId},
        price::PriceInputs,
        refusal::Code,
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
    let (name, value, facts) = judged(vector)?;
    let stated = vector.text("expectedError")?;
    let found = faults::of(name, &value, &facts);
    if found.is_empty() {
        Err(Problem::NotRefused)
    } else if found.iter().any(|name| *name == stated) {
        Ok(())
    } else {
        Err(Problem::OtherRefusal { stated, found: found.join(", ") })
    }
}

pub fn positive(vector: &mut Object) -> Result<(), Problem> {
    let (name, value, facts) = judged(vector)?;
    let refused = |why| Problem::Schema { what: "value".to_owned(), why };
    schemas::validate(name, &value).map_err(refused)?;
    faults::decoded(name, &value, &facts).map_err(|fault| refused(format!("{}: {}", fault.code.as_str(), fault.detail)))
}

/// A value, what it should be, and what is known besides: facts that only the judge of payments asks for.
fn judged(vector: &mut Object) -> Result<(&'static str, Value, Facts), Problem> {
    let (schema, value) = (vector.text("schema")?, vector.any("value")?);
    let name = schemas::name_of(&schema).ok_or(Problem::UnknownSchema(schema))?;
    if !vector.has("facts") {
        return Ok((name, value, Facts::default()));
    }
    if name != "payment-payload" {
        return Err(vector.malformed("facts", "only a payment is judged by facts"));
    }
    Ok((name, value, facts(vector)?))
}

pub fn facts(vector: &mut Object) -> Result<Facts, Problem> {
    let mut given = vector.object("facts")?;
    let mut facts = Facts::default();
    if given.has("request") {
        let mut request = given.object("request")?;
        let body = if request.is_null("body") { request.any("body").map(|_| String::new()) } else { request.text("body") };
        facts.request = Some((request.text("method")?, request.text("url")?, body?.into_bytes()));
        request.done()?;
    }
    if given.has("requestHashRequired") {
        facts.request_hash_required = given.truth("requestHashRequired")?;
    }
    if given.has("daaScore") {
        facts.daa_score = Some(given.number("daaScore")?);
    }
    if given.has("spentScripts") {
        let scripts = given.read::<Vec<String>>("spentScripts")?;
        let scripts: Option<_> = scripts.iter().map(|script| script_public_key(&hex::decode(script).ok()?)).collect();
        facts.spent = Some(scripts.ok_or_else(|| given.malformed("spentScripts", "no serialized script public keys"))?);
    }
    given.done()?;
    Ok(facts)
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

pub fn canonical_json(vector: &mut Object) -> Result<(), Problem> {
    let mut input = vector.object("input")?;
    let text = input.text("json")?;
    input.done()?;
    let read = json::parse_strict(text.as_bytes(), limits::JSON_DEPTH);
    let printed = read.map(|value| ("canonical", String::from_utf8_lossy(&canonical::to_vec(&value)).into()));
    either(vector, printed.map_err(|_| "not_json".to_owned()))
}

/// A token that is made, or, where the input has a `token`, one that is presented at `now`.
pub fn offer_mac(vector: &mut Object) -> Result<(), Problem> {
    let mut input = vector.object("input")?;
    let (origin, route) = (PublicOrigin(input.text("origin")?), RouteId(input.text("routeId")?));
    let rule_id = input.text("ruleId")?;
    let mut inputs = PriceInputs::default();
    for pair in input.read::<Vec<[String; 2]>>("inputs")? {
        let [name, value] = pair;
        inputs.push(name, value);
    }
    let not_after = if input.has("notAfter") { Some(UnixMillis::from_seconds(input.number("notAfter")?)) } else { None };
    let key = OfferKey { kid: input.text("kid")?, key: Zeroizing::new(input.bytes("offerKey")?), not_after };
    let keys = OfferKeys::derive(std::slice::from_ref(&key), input.read::<StoreId>("storeId")?);
    let terms = canonical::to_vec(&input.any("terms")?);
    let context = OfferContext { origin: &origin, route: &route, rule_id: &rule_id, inputs: &inputs };
    if input.has("token") {
        let (token, now) = (input.text("token")?, UnixMillis::from_seconds(input.number("now")?));
        input.done()?;
        let judged = presented(&token, &keys, &context, &terms, now);
        let until = |token: OfferToken| ("acceptedUntil", token.accepted_until().seconds().to_string().into());
        return either(vector, judged.map(until).map_err(|code| code.as_str().to_owned()));
    }
    let (issued, expiry, daa) = (input.number("issued")?, input.number("expiry")?, input.number("daa")?);
    let nonce = input.fixed("nonce")?;
    let lifetime = expiry.checked_sub(issued).ok_or_else(|| input.malformed("expiry", "before issued"))?;
    input.done()?;
    let signed = OfferToken::sign(&keys, &context, &terms, UnixMillis::from_seconds(issued), lifetime, daa, nonce);
    let signed = signed.ok_or_else(|| input.malformed("offerKey", "it signs nothing"))?;
    let mut expected = vector.object("expected")?;
    expected.equals_value("token", &signed.to_string().into())?;
    expected.done()?;
    let read = OfferToken::parse(&signed.to_string()).map(|token| token.authenticate(&keys, &context, &terms, UnixMillis(0)));
    vector.differs("expected/token", read == Ok(Ok(())), "authentic".to_owned(), format!("{read:?}"))
}

/// What a gateway says to the token of a payment it has never seen. Which other route or price it was made for is a courtesy.
fn presented(token: &str, keys: &OfferKeys, context: &OfferContext<'_>, terms: &[u8], now: UnixMillis) -> Result<OfferToken, Code> {
    let token = OfferToken::parse(token).map_err(|_| Code::OfferMalformed)?;
    token.authenticate(keys, context, terms, now).map_err(|error| match error {
        OfferError::Malformed => Code::OfferMalformed,
        OfferError::KeyUnknown => Code::OfferKeyUnknown,
        OfferError::Mac => Code::OfferNotOurs,
    })?;
    if token.accepted_until() < now { Err(Code::OfferExpired) } else { Ok(token) }
}
