//! The two hashes of a request (PROTOCOL section 2).

use super::canonical;
use crate::protocol::{
    amount::Amount,
    ids::{RequestHash, RequestIdentity},
    network::Network,
    policy::PublicOrigin,
    request::Request,
    requirements::Scheme,
};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The canonical body: a string when it is non-empty UTF-8, `null` when empty, else its hash.
fn body_value(body: &[u8]) -> Value {
    match std::str::from_utf8(body) {
        Ok("") => Value::Null,
        Ok(text) => Value::String(text.to_owned()),
        Err(_) => json!({ "sha256": hex::encode(Sha256::digest(body)) }),
    }
}

/// `url` of the hashes: the configured origin, then path and query exactly as received.
pub fn url(origin: &PublicOrigin, request: &Request) -> String {
    format!("{}{}", origin.0, request.head.target)
}

/// `paymentRequirementsHash`: SHA-256 over the canonical `accepted`; a buyer hashes it as it was received.
pub fn requirements_hash<T: Serialize>(accepted: &T) -> String {
    hex::encode(canonical::sha256(accepted))
}

/// `requestHash`, which contains the offer.
pub fn request_hash<T: Serialize>(method: &str, url: &str, body: &[u8], accepted: &T) -> RequestHash {
    RequestHash(canonical::sha256(&json!({
        "method": method,
        "url": url,
        "body": body_value(body),
        "paymentRequirementsHash": requirements_hash(accepted),
    })))
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
    RequestIdentity(canonical::sha256(&json!({
        "method": method,
        "url": url,
        "body": body_value(body),
        "scheme": scheme,
        "network": network,
        "payTo": pay_to,
        "amount": amount,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::requirements::{Asset, ExactExtra, Extra, Finality, PaymentFlow, Requirements};

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
    fn the_body_is_text_null_or_a_hash() {
        assert_eq!(body_value(b""), Value::Null);
        assert_eq!(body_value("ü".as_bytes()), json!("ü"));
        assert_eq!(body_value(&[0xff]), json!({"sha256": "a8100ae6aa1940d0b663bb31cd466142ebbdbd5187131b92d93818987832eb89"}));
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
