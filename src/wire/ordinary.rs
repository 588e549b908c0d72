//! The ordinary payment under an offer, read in one pass and without a tree.
//!
//! Promises: what is read here is read by [`super::envelope::decode`] with the same result (the tests hold it to that), so that
//! whoever finds nothing here asks there, and hears there what is wrong. It refuses nothing by itself: whatever is unusual, be it allowed or
//! not, is `None`. Members that occur twice or are not known are unusual; so is an extension beside the identifier, and an echo that is not
//! the bytes that were offered. No I/O. Called by `gateway/sell` for what channels pay, which is thousands a second.

use super::{envelope, header, identifier, messages::X402_VERSION};
use crate::protocol::{ids::PaymentIdentifier, present, requirements::Requirements};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// A payment whose envelope is well-formed; nothing in it is believed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ordinary<P> {
    pub accepted: Requirements,
    pub payload: P,
    pub identifier: PaymentIdentifier,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Message<'t, P> {
    x402_version: u64,
    #[serde(borrow, default, rename = "resource", deserialize_with = "present::deserialize")]
    _resource: Option<Resource<'t>>,
    accepted: Requirements,
    payload: P,
    #[serde(borrow)]
    extensions: Extensions<'t>,
}

/// Nothing in it is used; it is read for its form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resource<'t> {
    #[serde(borrow, default, rename = "url")]
    _url: Cow<'t, str>,
    #[serde(borrow, default, rename = "description")]
    _description: Cow<'t, str>,
    #[serde(borrow, default, rename = "mimeType")]
    _mime_type: Cow<'t, str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Extensions<'t> {
    #[serde(borrow, rename = "payment-identifier")]
    identifier: Echo<'t>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Echo<'t> {
    info: Info,
    #[serde(borrow)]
    schema: &'t RawValue,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Info {
    id: PaymentIdentifier,
    required: bool,
}

/// Reads one `PAYMENT-SIGNATURE` value with a payload of this shape, under an offer that did, or did not, require an identifier.
pub fn read<P: DeserializeOwned>(value: &[u8], required: bool) -> Option<Ordinary<P>> {
    let bytes = header::unwrap(value).ok()?;
    let text = std::str::from_utf8(&bytes).ok().filter(|text| objects_only(text, required))?;
    let message: Message<'_, P> = serde_json::from_str(text).ok()?;
    let Message { x402_version, accepted, payload, extensions: Extensions { identifier: Echo { info, schema } }, .. } = message;
    let echoed = info.required == required && schema.get() == identifier::schema(required);
    let ordinary = x402_version == X402_VERSION && echoed && envelope::spoken(&accepted);
    ordinary.then_some(Ordinary { accepted, payload, identifier: info.id })
}

/// serde takes an array for a structure as well, and `{"name":null}` for a name: neither is without a bracket, or a null, that the ordinary
/// payment does not have. Its own are those of the echo.
fn objects_only(text: &str, required: bool) -> bool {
    let brackets = |text: &str| text.bytes().filter(|byte| *byte == b'[').count();
    brackets(text) == brackets(identifier::schema(required)) && !text.contains("null")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        protocol::{
            amount::Amount,
            ids::XOnlyKey,
            network::Network,
            requirements::{Asset, EscrowExtra, ExactExtra, Extra, Finality, PaymentFlow, Scheme, TemplateId},
        },
        wire::canonical,
    };
    use base64::{Engine, engine::general_purpose::STANDARD};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    #[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Pays {
        r#type: String,
    }

    fn message() -> Value {
        let amount = Amount::from_sompi(1_000).unwrap();
        let extra = EscrowExtra {
            channel_state: None,
            claim_policy: Some("daily".into()),
            min_deposit_sompi: amount,
            offer: "v1.k".into(),
            refund_timeout_daa: 9,
            server_public_key: XOnlyKey([4; 32]),
            template_id: TemplateId::EscrowV1,
            voucher_state: None,
        };
        let accepted = Requirements {
            scheme: Scheme::BatchSettlement,
            network: Network::Simnet,
            amount,
            asset: Asset::Kas,
            pay_to: "kaspasim:q".into(),
            max_timeout_seconds: 60,
            extra: Extra::Escrow(Box::new(extra)),
        };
        let mut echo = identifier::advertise(true).clone();
        echo["info"]["id"] = json!("a".repeat(16));
        json!({
            "x402Version": 2,
            "resource": {"url": "https://x/a", "mimeType": "text/plain", "description": "\u{e9}\n"},
            "accepted": accepted,
            "payload": {"type": "any"},
            "extensions": {"payment-identifier": echo},
        })
    }

    /// Whatever is read here, the tree gives too; whether anything is.
    fn reads(text: &[u8]) -> bool {
        let value = STANDARD.encode(text);
        let Some(found) = read::<Pays>(value.as_bytes(), true) else { return false };
        let told = || String::from_utf8_lossy(text).into_owned();
        let envelope = envelope::decode(value.as_bytes()).unwrap_or_else(|fault| panic!("{fault:?}: {}", told()));
        let payload = serde_json::from_value(Value::Object(envelope.payload)).unwrap_or_else(|error| panic!("{error}: {}", told()));
        let identifier = identifier::read(&envelope.extensions, true).unwrap().unwrap();
        assert_eq!(found, Ordinary { accepted: envelope.accepted, payload, identifier }, "{}", told());
        assert_eq!(envelope.payer_proof, None);
        true
    }

    #[test]
    fn what_clients_send_is_read_and_what_is_unusual_is_left_to_the_tree() {
        let set = |pointer: &str, value: Value| {
            let mut message = message();
            *message.pointer_mut(pointer).unwrap() = value;
            message
        };
        let add = |pointer: &str, name: &str, value: Value| {
            let mut message = message();
            message.pointer_mut(pointer).unwrap()[name] = value;
            message
        };
        let without = |pointer: &str, name: &str| {
            let mut message = message();
            message.pointer_mut(pointer).unwrap().as_object_mut().unwrap().remove(name).unwrap();
            message
        };
        let echo = "/extensions/payment-identifier";
        let exact = json!({
            "scheme": "exact", "network": "kaspa:simnet", "amount": "1", "asset": "KAS", "payTo": "kaspasim:q", "maxTimeoutSeconds": 60,
            "extra": ExactExtra { finality: Finality::Accepted, offer: "v1".into(), payment_flow: PaymentFlow::Upfront },
        });
        for (message, expect) in [
            (message(), true),
            (without("", "resource"), true),
            (without("/resource", "url"), true),
            (set("/resource", json!({})), true),
            (set("/resource", json!(null)), false),
            (set("/resource", json!([])), false),
            (set("/payload", json!(["any"])), false),
            (set("/accepted/scheme", json!({"batch-settlement": null})), false),
            (set("/accepted/network", json!({"kaspa:simnet": null})), false),
            (set("/accepted/asset", json!({"KAS": null})), false),
            (set(&format!("{echo}/info"), json!([message().pointer(&format!("{echo}/info/id")), true])), false),
            (json!([2, {}, message()["accepted"], message()["payload"], message()["extensions"]]), false),
            (add("/resource", "more", json!(1)), false),
            (set("/resource/url", json!(null)), false),
            (set("/x402Version", json!(1)), false),
            (set("/x402Version", json!("2")), false),
            (add("", "more", json!(1)), false),
            (without("", "extensions"), false),
            (add("/extensions", "kaspa", json!({})), false),
            (add(echo, "more", json!(1)), false),
            (set(&format!("{echo}/info/required"), json!(false)), false),
            (set(&format!("{echo}/info/id"), json!("short")), false),
            (add(&format!("{echo}/info"), "more", json!(1)), false),
            (set(&format!("{echo}/schema"), json!({})), false),
            (set("/payload", json!({"type": "any", "more": 1})), false),
            (set("/payload", json!(null)), false),
            (set("/accepted", exact), false),
            (set("/accepted/scheme", json!("exact")), false),
            (set("/accepted/network", json!("kaspa:mainnet")), false),
            (set("/accepted/payTo", json!("kaspa:q")), false),
            (set("/accepted/maxTimeoutSeconds", json!(0)), false),
            (set("/accepted/extra/binding", json!("kaspa-exact-v1")), false),
            (set("/accepted/extra/refundTimeoutDaa", json!("500000000000")), false),
            (add("/accepted", "more", json!(1)), false),
        ] {
            assert_eq!(reads(&canonical::to_vec(&message)), expect, "{message}");
        }
    }

    #[test]
    fn no_member_may_occur_twice_and_no_text_may_follow() {
        let text = String::from_utf8(canonical::to_vec(&message())).unwrap();
        assert!(reads(text.as_bytes()));
        // Each is the member that is there, again.
        for member in [
            r#""x402Version":2"#,
            r#""asset":"KAS""#,
            r#""offer":"v1.k""#,
            r#""binding":"kaspa-escrow-v1""#,
            r#""type":"any""#,
            r#""url":"https://x/a""#,
            r#""required":true"#,
            r#""type":"object""#,
        ] {
            assert_eq!(text.matches(member).count(), 1, "{member}");
            assert!(!reads(text.replace(member, &format!("{member},{member}")).as_bytes()), "{member}");
        }
        assert!(!reads(format!("{text} x").as_bytes()));
        assert!(reads(format!(" {text}\n").as_bytes()), "blanks change nothing");
        assert!(!reads(text.replace(r#""x402Version":2"#, r#""x402Version":2.0"#).as_bytes()), "another number");
        assert!(!reads(text.replace("\u{e9}", "\\ud800").as_bytes()), "a lone surrogate is no text");
        assert!(!reads(&text.as_bytes()[..text.len() - 1]));
        assert!(read::<Pays>(b"e30", true).is_none(), "unpadded");
        assert!(read::<Pays>(STANDARD.encode(&text).as_bytes(), false).is_none(), "another offer's echo");
    }

    proptest! {
        #[test]
        fn a_changed_payment_is_never_read_in_two_ways(at in any::<prop::sample::Index>(), to in prop_oneof![any::<u8>(), b' '..b'~'], also in any::<prop::sample::Index>()) {
            let mut text = canonical::to_vec(&message());
            let (at, also) = (at.index(text.len()), also.index(text.len()));
            text[at] = to;
            reads(&text);
            text.remove(also);
            reads(&text);
        }
    }
}
