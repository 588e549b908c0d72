//! Header names of the wire and what is removed from what passes through (PROTOCOL sections 1 and 4).

use http::HeaderName;
use std::borrow::Cow;

/// Offers, base64 of canonical JSON.
pub const PAYMENT_REQUIRED: HeaderName = HeaderName::from_static("payment-required");
/// A payment, base64 of canonical JSON.
pub const PAYMENT_SIGNATURE: HeaderName = HeaderName::from_static("payment-signature");
/// A receipt, base64 of canonical JSON.
pub const PAYMENT_RESPONSE: HeaderName = HeaderName::from_static(PAYMENT_RESPONSE_NAME);
pub const PAYMENT_RESPONSE_NAME: &str = "payment-response";

/// Names one request in the logs, the response and the upstream's logs.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Who paid, as the node names it; absent when the node does not.
pub const PAYER: HeaderName = HeaderName::from_static("x-kas402-payer");
/// What was charged, sompi; of a channel, the most that may be charged.
pub const AMOUNT: HeaderName = HeaderName::from_static("x-kas402-amount-sompi");
/// The paying transaction.
pub const TXID: HeaderName = HeaderName::from_static("x-kas402-txid");
/// The channel that pays.
pub const CHANNEL: HeaderName = HeaderName::from_static("x-kas402-channel");
/// Equal on every forward of one payment, so that an upstream can deduplicate.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Whether a request header of this name is the gateway's to set: removed from whatever a client
/// sends, on free and priced routes alike. That includes the ways to smuggle another method or
/// path past the price list. `_` counts as `-`, because upstreams that see headers as environment
/// variables cannot tell them apart.
pub fn reserved(name: &HeaderName) -> bool {
    let name = dashed(name);
    name.starts_with("payment-")
        || name.starts_with("x-payment")
        || name.starts_with("x-kas402-")
        || matches!(
            &*name,
            "x-http-method-override" | "x-http-method" | "x-method-override" | "x-original-url" | "x-rewrite-url" | "x-original-uri"
        )
}

/// The name with every `_` as `-`.
pub fn dashed(name: &HeaderName) -> Cow<'_, str> {
    let name = name.as_str();
    if name.contains('_') { name.replace('_', "-").into() } else { name.into() }
}

/// Headers of one connection, never forwarded in either direction (RFC 9110 section 7.6.1); those
/// that `Connection` names come on top.
pub fn hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_gateway_sets_is_never_taken_from_a_client() {
        for (name, expect) in [
            ("payment-signature", true),
            ("PAYMENT-RESPONSE", true),
            ("X-Payment", true),
            ("X-PAYMENT-RESPONSE", true),
            ("X-Kas402-Payer", true),
            ("x-http-method-override", true),
            ("x-original-url", true),
            ("X_Kas402_Payer", true),
            ("payment_signature", true),
            ("x-http_method-override", true),
            ("authorization", false),
            ("idempotency-key", false),
            ("x-request-id", false),
        ] {
            assert_eq!(reserved(&name.parse().unwrap()), expect, "{name}");
        }
    }
    #[test]
    fn what_belongs_to_one_connection_is_not_forwarded() {
        for (name, expect) in [
            ("Connection", true),
            ("keep-alive", true),
            ("transfer-encoding", true),
            ("te", true),
            ("upgrade", true),
            ("content-length", false),
            ("connection-x", false),
            ("authorization", false),
        ] {
            assert_eq!(hop_by_hop(&name.parse().unwrap()), expect, "{name}");
        }
    }
}
