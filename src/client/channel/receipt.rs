//! Reading what a server says of a charge: `PAYMENT-RESPONSE`, the last event of a stream, the receipt URL.
//!
//! Nothing in it is believed before [`super::account::Account::settle`].

use super::account::Lie;
use crate::{
    protocol::{amount::Amount, ids::CommitmentId, json, limits, network::Network, refusal::Code, requirements::ChannelState},
    wire::{canonical, header},
};
use serde::Deserialize;
use serde_json::Value;

/// The name of the last event of a paid event stream.
const EVENT: &str = "payment-response";

/// A receipt of a charge as the server wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelReceipt {
    pub commitment: CommitmentId,
    pub charge: Amount,
    pub network: Option<Network>,
    pub state: ChannelState,
    /// The next offer of the same resource, whole.
    pub renewed: Option<Value>,
    /// The whole message in canonical form, for the journal.
    pub text: String,
}

/// What a `SettlementResponse` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Settled(Box<ChannelReceipt>),
    /// The cost is known later, at this URL.
    Provisional {
        url: Option<String>,
    },
    /// Answered, and nothing was charged for the answer.
    NotCharged,
    /// A failure; `None` is a code that is not known here.
    Failed {
        code: Option<Code>,
        words: String,
    },
    /// A success that cannot be read as a charge of a channel.
    Wrong(Lie),
}

impl Told {
    /// Reads the value of `PAYMENT-RESPONSE`; `None` when it is no message at all.
    pub fn header(value: &[u8]) -> Option<Self> {
        Self::message(&header::decode(value).ok()?)
    }

    /// Reads the JSON of the receipt URL or of an event, or its header form.
    pub fn text(bytes: &[u8]) -> Option<Self> {
        match json::parse_strict(bytes, limits::JSON_DEPTH) {
            Ok(message) => Self::message(&message),
            Err(_) => Self::header(bytes),
        }
    }

    /// The last `payment-response` event of an event stream.
    pub fn stream(body: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(body).ok()?.replace("\r\n", "\n").replace('\r', "\n");
        let event = text.split("\n\n").filter(|event| field(event, "event").eq([EVENT])).last()?;
        Self::text(field(event, "data").collect::<Vec<_>>().join("\n").as_bytes())
    }

    fn message(message: &Value) -> Option<Self> {
        let success = message.get("success").and_then(Value::as_bool)?;
        let kaspa = |name: &str| message.get("extensions").and_then(|extensions| extensions.get("kaspa")).and_then(|k| k.get(name));
        if !success && kaspa("status").and_then(Value::as_str) == Some("not_charged") {
            return Some(Self::NotCharged);
        }
        if !success {
            let words = kaspa("reason").and_then(Value::as_str).unwrap_or_default().to_owned();
            return Some(Self::Failed { code: code(&words), words });
        }
        if kaspa("status").and_then(Value::as_str) == Some("provisional") {
            return Some(Self::Provisional { url: kaspa("receiptUrl").and_then(Value::as_str).map(str::to_owned) });
        }
        Some(match settled(message, &kaspa) {
            Ok(receipt) => Self::Settled(Box::new(receipt)),
            Err(lie) => Self::Wrong(lie),
        })
    }
}

/// The code of a refusal by its name on the wire.
pub(super) fn code(name: &str) -> Option<Code> {
    Code::ALL.iter().copied().find(|code| code.as_str() == name)
}

fn field<'e>(event: &'e str, name: &'e str) -> impl Iterator<Item = &'e str> {
    event.lines().filter_map(move |line| line.strip_prefix(name)?.strip_prefix(':')).map(|value| value.strip_prefix(' ').unwrap_or(value))
}

fn settled<'m>(message: &'m Value, kaspa: &dyn Fn(&str) -> Option<&'m Value>) -> Result<ChannelReceipt, Lie> {
    let text = |value: Option<&'m Value>| value.and_then(Value::as_str).unwrap_or_default();
    let commitment: CommitmentId = text(kaspa("commitmentId")).parse().map_err(|_| Lie::Unreadable("commitmentId"))?;
    if text(message.get("transaction")).parse() != Ok(commitment) {
        return Err(Lie::Other("transaction"));
    }
    let charge = Amount::parse_wire(text(kaspa("chargedAmount"))).map_err(|_| Lie::Unreadable("chargedAmount"))?;
    if Amount::parse_wire(text(message.get("amount"))) != Ok(charge) {
        return Err(Lie::Other("amount"));
    }
    let network = match message.get("network") {
        None => None,
        Some(network) => Some(text(Some(network)).parse().map_err(|_| Lie::Other("network"))?),
    };
    let state = kaspa("channelState").and_then(|state| ChannelState::deserialize(state).ok()).ok_or(Lie::Unreadable("channelState"))?;
    Ok(ChannelReceipt {
        commitment,
        charge,
        network,
        state,
        renewed: kaspa("offer").filter(|offer| offer.is_object()).cloned(),
        text: String::from_utf8(canonical::to_vec(message)).expect("canonical JSON is UTF-8"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn message() -> Value {
        json!({
            "success": true, "transaction": "07".repeat(32), "amount": "5", "network": "kaspa:simnet",
            "extensions": {"kaspa": {
                "commitmentId": "07".repeat(32), "chargedAmount": "5", "offer": {"scheme": "batch-settlement"},
                "channelState": {
                    "activeOutpoint": {"txid": "01".repeat(32), "index": 0}, "activeScriptPublicKey": "02".repeat(37),
                    "channelId": "03".repeat(32), "chargedCumulativeAmount": "5", "claimedCumulativeAmount": "2",
                    "fundingAmount": "9", "signedMaxClaimable": "4",
                },
            }},
        })
    }

    fn kind(told: Option<Told>) -> String {
        match told {
            None => "nothing".into(),
            Some(Told::Settled(receipt)) => format!("settled {}", receipt.charge),
            Some(Told::Provisional { url }) => format!("provisional {url:?}"),
            Some(Told::NotCharged) => "not charged".into(),
            Some(Told::Failed { code, words }) => format!("failed {} {words}", code.is_some()),
            Some(Told::Wrong(lie)) => format!("wrong: {lie}"),
        }
    }

    #[test]
    fn every_kind_of_settlement_has_one_meaning() {
        let set = |pointer: &str, value: Value| {
            let mut message = message();
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            message.pointer_mut(parent).unwrap()[name] = value;
            message
        };
        let kaspa = |value: Value| json!({"success": value.get("reason").is_none(), "extensions": {"kaspa": value}});
        for (message, expect) in [
            (message(), "settled 5"),
            (kaspa(json!({"reason": "channel_busy"})), "failed true channel_busy"),
            (kaspa(json!({"reason": "something"})), "failed false something"),
            (kaspa(json!({"status": "provisional", "receiptUrl": "u"})), "provisional Some(\"u\")"),
            (kaspa(json!({"status": "provisional"})), "provisional None"),
            (kaspa(json!({})), "wrong: it has no readable commitmentId"),
            (set("/transaction", json!("08".repeat(32))), "wrong: it names another transaction"),
            (set("/amount", json!("6")), "wrong: it names another amount"),
            (set("/amount", json!(5)), "wrong: it names another amount"),
            (set("/network", json!("simnet")), "wrong: it names another network"),
            (set("/extensions/kaspa/chargedAmount", json!("-5")), "wrong: it has no readable chargedAmount"),
            (set("/extensions/kaspa/channelState", json!({})), "wrong: it has no readable channelState"),
            (set("/success", json!("yes")), "nothing"),
            (json!([]), "nothing"),
        ] {
            assert_eq!(kind(Told::text(message.to_string().as_bytes())), expect, "{message}");
            assert_eq!(kind(Told::header(header::encode(&message).as_bytes())), expect, "{message}");
        }
        assert_eq!(kind(Told::header(b"%%%")), "nothing");
    }

    #[test]
    fn the_last_event_of_a_stream_is_its_receipt() {
        let (json, encoded) = (message().to_string(), header::encode(&message()));
        let encoded = encoded.to_str().unwrap();
        for (stream, expect) in [
            (format!("data: a\n\nevent: payment-response\ndata: {json}\n\n"), "settled 5"),
            (format!("data: a\r\n\r\nevent:payment-response\r\ndata:{encoded}\r\n\r\n"), "settled 5"),
            (format!("event: payment-response\ndata: {{}}\n\nevent: payment-response\ndata: {json}"), "settled 5"),
            (format!("data: event: payment-response\n\ndata: {json}\n\n"), "nothing"),
            (format!("event: other\ndata: {json}\n\n"), "nothing"),
            ("event: payment-response\n\n".into(), "nothing"),
            (String::new(), "nothing"),
        ] {
            assert_eq!(kind(Told::stream(stream.as_bytes())), expect, "{stream}");
        }
        assert_eq!(kind(Told::stream(&[0xff, 0xfe])), "nothing");
    }
}
