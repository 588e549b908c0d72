//! The two hashes of a request (PROTOCOL section 2).

use super::canonical::{self, Sorted};
use crate::protocol::{
    amount::Amount,
    ids::{RequestHash, RequestIdentity},
    network::Network,
    policy::PublicOrigin,
    request::Request,
    requirements::{Requirements, Scheme},
};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The canonical body.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum Body<'a> {
    /// Non-empty UTF-8; `null` when empty.
    Text(Option<&'a str>),
    Other {
        sha256: String,
    },
}

impl<'a> Body<'a> {
    fn of(body: &'a [u8]) -> Self {
        match std::str::from_utf8(body) {
            Ok(text) => Self::Text(Some(text).filter(|text| !text.is_empty())),
            Err(_) => Self::Other { sha256: hex::encode(Sha256::digest(body)) },
        }
    }
}

/// What `requestHash` is the hash of. Canonical order, as in [`Identified`].
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Hashed<'a> {
    body: Body<'a>,
    method: &'a str,
    payment_requirements_hash: String,
    url: &'a str,
}

impl Sorted for Hashed<'_> {}

/// What the request identity is the hash of.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Identified<'a> {
    amount: Amount,
    body: Body<'a>,
    method: &'a str,
    network: Network,
    pay_to: &'a str,
    scheme: Scheme,
    url: &'a str,
}

impl Sorted for Identified<'_> {}

/// Separates the hash of a tool call from every other hash; version 2 is the first that names the audience.
const TOOL_CALL_SCOPE: &str = "kaspa:x402:mcp-tool-call:v2";

/// What the fingerprint of a tool call is the hash of. The arguments may hold any JSON, so it takes the general way.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolCall<'a> {
    scope: &'static str,
    audience: &'a str,
    tool_name: &'a str,
    /// `null` when the call has none.
    arguments: Option<&'a Value>,
    payment_requirements_hash: String,
}

/// `url` of the hashes: the configured origin, then path and query exactly as received.
pub fn url(origin: &PublicOrigin, request: &Request) -> String {
    format!("{}{}", origin.0, request.head.target)
}

/// `paymentRequirementsHash`: SHA-256 over the canonical `accepted`; a buyer hashes it as it was received.
pub fn requirements_hash<T: Serialize>(accepted: &T) -> String {
    hex::encode(canonical::sha256(accepted))
}

/// `requestHash`, which contains the offer: of terms as somebody received them.
pub fn request_hash<T: Serialize>(method: &str, url: &str, body: &[u8], accepted: &T) -> RequestHash {
    hashed(method, url, body, requirements_hash(accepted))
}

/// The same of a body that is not UTF-8, by its SHA-256.
pub fn request_hash_of_digest<T: Serialize>(method: &str, url: &str, body: &[u8; 32], accepted: &T) -> RequestHash {
    let payment_requirements_hash = requirements_hash(accepted);
    let body = Body::Other { sha256: hex::encode(body) };
    RequestHash(canonical::sorted_sha256(&Hashed { body, method, payment_requirements_hash, url }))
}

/// The same of typed terms, without a tree in between.
pub fn request_hash_of_offer(method: &str, url: &str, body: &[u8], accepted: &Requirements) -> RequestHash {
    request_hash_of_canonical(method, url, body, &canonical::sorted_to_vec(accepted))
}

/// The same of terms that are canonical JSON already.
pub fn request_hash_of_canonical(method: &str, url: &str, body: &[u8], accepted: &[u8]) -> RequestHash {
    hashed(method, url, body, hex::encode(Sha256::digest(accepted)))
}

fn hashed(method: &str, url: &str, body: &[u8], payment_requirements_hash: String) -> RequestHash {
    RequestHash(canonical::sorted_sha256(&Hashed { body: Body::of(body), method, payment_requirements_hash, url }))
}

/// The request hash of an MCP tool call (PROTOCOL section 8): `audience` is the route's public URL, and `arguments` are
/// those of `params`, without `_meta`; absent and `null` are the same call. Stands where [`request_hash`] stands for HTTP.
pub fn tool_call_hash<T: Serialize>(audience: &str, tool_name: &str, arguments: Option<&Value>, accepted: &T) -> RequestHash {
    let payment_requirements_hash = requirements_hash(accepted);
    RequestHash(canonical::sha256(&ToolCall { scope: TOOL_CALL_SCOPE, audience, tool_name, arguments, payment_requirements_hash }))
}

/// The request identity, which does not contain the rolling offer.
pub fn request_identity(
    method: &str,
    url: &str,
    body: &[u8],
    scheme: Scheme,
    network: Network,
    pay_to: &str,
    amount: Amount,
) -> RequestIdentity {
    RequestIdentity(canonical::sorted_sha256(&Identified { amount, body: Body::of(body), method, network, pay_to, scheme, url }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{
        path::NormalPath,
        request::RequestHead,
        requirements::{Asset, ExactExtra, Extra, Finality, PaymentFlow},
    };
    use bytes::Bytes;
    use http::{HeaderMap, Method};
    use serde_json::json;

    fn accepted() -> Requirements {
        Requirements {
            scheme: Scheme::Exact,
            network: Network::Simnet,
            amount: Amount::from_sompi(25_000_000).unwrap(),
            asset: Asset::Kas,
            pay_to: "kaspasim:q".into(),
            max_timeout_seconds: 60,
            extra: Extra::Exact(ExactExtra { finality: Finality::Accepted, payment_flow: PaymentFlow::Upfront, offer: "v1".into() }),
        }
    }

    #[test]
    fn the_url_is_the_public_origin_and_the_target_as_it_came() {
        let head = RequestHead {
            method: Method::GET,
            host: "internal".into(),
            path: NormalPath::parse("/c", false).unwrap(),
            target: "/a%2Fb/../c?x=%20&y".into(),
            query: Some("x=%20&y".into()),
            headers: HeaderMap::new(),
        };
        let request = Request { head, body: Bytes::new() };
        assert_eq!(url(&PublicOrigin("https://api.example.com".into()), &request), "https://api.example.com/a%2Fb/../c?x=%20&y");
    }

    #[test]
    fn the_body_is_text_null_or_a_hash() {
        let value = |body: &[u8]| serde_json::to_value(Body::of(body)).unwrap();
        assert_eq!(value(b""), Value::Null);
        assert_eq!(value("ü".as_bytes()), json!("ü"));
        assert_eq!(value(&[0xff]), json!({"sha256": "a8100ae6aa1940d0b663bb31cd466142ebbdbd5187131b92d93818987832eb89"}));
        let digest = Sha256::digest([0xff]).into();
        assert_eq!(request_hash_of_digest("GET", "u", &digest, &accepted()), request_hash("GET", "u", &[0xff], &accepted()));
    }

    #[test]
    fn a_request_hash_is_what_an_independent_program_computes() {
        // Python: json.dumps(sort_keys=True, separators=(',', ':')) and hashlib.sha256 over the same values.
        let terms = r#"{"amount":"25000000","asset":"KAS","extra":{"binding":"kaspa-exact-v1","finality":"accepted","offer":"v1","paymentFlow":"upfront"},"maxTimeoutSeconds":60,"network":"kaspa:simnet","payTo":"kaspasim:q","scheme":"exact"}"#;
        assert_eq!(requirements_hash(&accepted()), hex::encode(Sha256::digest(terms)));
        let request = format!(
            r#"{{"body":"hi","method":"POST","paymentRequirementsHash":"{}","url":"https://x/a?b"}}"#,
            requirements_hash(&accepted())
        );
        assert_eq!(request_hash("POST", "https://x/a?b", b"hi", &accepted()).0, <[u8; 32]>::from(Sha256::digest(request)));
    }

    #[test]
    fn a_tool_call_is_hashed_with_its_audience_tool_and_arguments() {
        // Canonical JSON written out by hand: keys sorted, 1.0 and 1e2 as JavaScript prints them.
        let hash = |arguments: &str| {
            let terms = requirements_hash(&accepted());
            let text = format!(
                r#"{{"arguments":{arguments},"audience":"https://x/mcp","paymentRequirementsHash":"{terms}","scope":"kaspa:x402:mcp-tool-call:v2","toolName":"render"}}"#
            );
            <[u8; 32]>::from(Sha256::digest(text))
        };
        let called = |arguments: Option<Value>| tool_call_hash("https://x/mcp", "render", arguments.as_ref(), &accepted());
        assert_eq!(called(None).0, hash("null"));
        assert_eq!(called(Some(Value::Null)).0, hash("null"));
        assert_eq!(called(Some(json!({}))).0, hash("{}"));
        let any: Value = serde_json::from_str(r#"{"b": [1.0, 1e2, "ü"], "a": {"d": null, "c": true}}"#).unwrap();
        assert_eq!(called(Some(any)).0, hash(r#"{"a":{"c":true,"d":null},"b":[1,100,"ü"]}"#));
        let mut other = accepted();
        other.extra.offer_mut().push('x');
        for changed in [
            tool_call_hash("https://y/mcp", "render", None, &accepted()),
            tool_call_hash("https://x/mcp", "Render", None, &accepted()),
            tool_call_hash("https://x/mcp", "render", Some(&json!({})), &accepted()),
            tool_call_hash("https://x/mcp", "render", None, &other),
        ] {
            assert_ne!(changed, called(None));
        }
    }

    #[test]
    fn what_is_hashed_without_a_tree_is_canonical() {
        for (method, url, body) in
            [("POST", "https://x/a?b=\"\\", "hi \u{1f600}\n".as_bytes()), ("GET", "https://x/\u{e9}", b""), ("PUT", "u", &[0xff])]
        {
            assert_eq!(request_hash_of_offer(method, url, body, &accepted()), request_hash(method, url, body, &accepted()));
            let hashed = Hashed { body: Body::of(body), method, payment_requirements_hash: "00".into(), url };
            assert_eq!(canonical::sorted_to_vec(&hashed), canonical::to_vec(&hashed));
            let (amount, network, scheme) = (accepted().amount, Network::Simnet, Scheme::BatchSettlement);
            let identified = Identified { amount, body: Body::of(body), method, network, pay_to: "p", scheme, url };
            assert_eq!(canonical::sorted_to_vec(&identified), canonical::to_vec(&identified));
        }
    }

    #[test]
    fn every_part_of_a_request_changes_its_hashes() {
        let base = request_hash("GET", "https://x/a", b"", &accepted());
        let mut other = accepted();
        other.extra.offer_mut().push('x');
        for changed in [
            request_hash("POST", "https://x/a", b"", &accepted()),
            request_hash("GET", "https://x/a?", b"", &accepted()),
            request_hash("GET", "https://x/a", b"b", &accepted()),
            request_hash("GET", "https://x/a", b"", &other),
        ] {
            assert_ne!(changed, base);
        }
        let identity = |amount| request_identity("GET", "u", b"", Scheme::Exact, Network::Simnet, "p", Amount::from_sompi(amount).unwrap());
        assert_ne!(identity(1), identity(2));
        assert_eq!(identity(1), identity(1));
    }
}
