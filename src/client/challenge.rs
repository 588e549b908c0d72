//! Reading a 402 as a buyer: lenient about what is not for us, strict about what we would pay.
//!
//! A server may offer several rails at once. Entries of other schemes, networks or assets are
//! skipped with a reason; the challenge is refused only when no entry of either Kaspa scheme remains.
//! What is paid is echoed as it was received, unknown fields included.

use super::channel::offer::{self as channel_offer, ChannelOffer};
use crate::{
    protocol::{
        amount::{Amount, AmountError},
        network::Network,
        requirements::{Binding, Finality, Scheme},
    },
    wire::{
        header::{self, HeaderError},
        messages::X402_VERSION,
    },
};
use kaspa_addresses::Address;
use kaspa_consensus_core::tx::ScriptPublicKey;
use serde_json::{Map, Value};

/// A 402 with at least one offer that can be paid in KAS.
#[derive(Clone, Debug)]
pub struct Challenge {
    /// As received; echoed by the payment.
    pub resource: Option<Value>,
    /// Exact payments, in the server's order.
    pub offers: Vec<Offer>,
    /// Charges to a channel, in the server's order; of both kinds together there is at least one.
    pub channels: Vec<ChannelOffer>,
    pub skipped: Vec<Skipped>,
    pub extensions: Map<String, Value>,
}

/// One entry of `accepts` that validates as Kaspa exact.
#[derive(Clone, Debug)]
pub struct Offer {
    /// As received; echoed whole as `accepted`.
    pub accepted: Value,
    pub network: Network,
    pub amount: Amount,
    pub pay_to: Address,
    /// What the server says it waits for; it may wait for more.
    pub finality: Option<Finality>,
    pub max_timeout_seconds: u64,
}

impl Offer {
    /// The script that the payment output carries.
    pub fn script(&self) -> ScriptPublicKey {
        kaspa_txscript::pay_to_address_script(&self.pay_to)
    }
}

/// Why an entry of `accepts` is not for this buyer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Skipped {
    #[error("not an object")]
    NotAnObject,
    #[error("scheme {0:?} is not exact")]
    Scheme(String),
    #[error("{0:?} is not a Kaspa network")]
    Network(String),
    #[error("asset {0:?} is not KAS")]
    Asset(String),
    #[error("binding {0:?} is not the one of its scheme")]
    Binding(String),
    #[error("amount: {0}")]
    Amount(AmountError),
    #[error("an amount of 0 is no payment")]
    ZeroAmount,
    #[error("payTo {0:?} is not an address of the offer's network")]
    PayTo(String),
    #[error("maxTimeoutSeconds is not a positive whole number")]
    MaxTimeout,
    #[error("finality {0:?} is unknown")]
    Finality(String),
    #[error("payment flow {0:?} is not upfront")]
    PaymentFlow(String),
    #[error("{0} of the channel's terms is missing or malformed")]
    ChannelTerm(&'static str),
}

/// Why a 402 cannot be answered with a payment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChallengeError {
    #[error("the server answered 402 without a PAYMENT-REQUIRED header")]
    Missing,
    #[error("PAYMENT-REQUIRED is {0}")]
    Header(HeaderError),
    #[error("PAYMENT-REQUIRED is not an x402 version 2 message")]
    Version,
    #[error("PAYMENT-REQUIRED has no list of offers")]
    NoAccepts,
    #[error("no offer can be paid in KAS ({})", list(.0))]
    NoOffer(Vec<Skipped>),
}

fn list(skipped: &[Skipped]) -> String {
    let reasons: Vec<String> = skipped.iter().map(Skipped::to_string).collect();
    if reasons.is_empty() { "the list is empty".to_owned() } else { reasons.join("; ") }
}

impl Challenge {
    /// Reads the value of `PAYMENT-REQUIRED`.
    pub fn read(value: &[u8]) -> Result<Self, ChallengeError> {
        let Value::Object(mut message) = header::decode(value).map_err(ChallengeError::Header)? else {
            return Err(ChallengeError::Version);
        };
        if message.get("x402Version").and_then(Value::as_u64) != Some(X402_VERSION) {
            return Err(ChallengeError::Version);
        }
        let Some(Value::Array(accepts)) = message.remove("accepts") else { return Err(ChallengeError::NoAccepts) };
        let (mut offers, mut channels, mut skipped) = (Vec::new(), Vec::new(), Vec::new());
        for entry in accepts {
            let read = match entry.get("scheme").and_then(Value::as_str) {
                Some(scheme) if scheme == Scheme::BatchSettlement.as_str() => channel_offer::read(entry).map(|offer| channels.push(offer)),
                _ => read_offer(entry).map(|offer| offers.push(offer)),
            };
            skipped.extend(read.err());
        }
        if offers.is_empty() && channels.is_empty() {
            return Err(ChallengeError::NoOffer(skipped));
        }
        let extensions = match message.remove("extensions") {
            Some(Value::Object(extensions)) => extensions,
            _ => Map::new(),
        };
        Ok(Self { resource: message.remove("resource").filter(Value::is_object), offers, channels, skipped, extensions })
    }

    /// The exact offers; a challenge of channels alone has none for a buyer without them.
    pub fn exact(&self) -> Result<&[Offer], ChallengeError> {
        if !self.offers.is_empty() {
            return Ok(&self.offers);
        }
        let channels = self.channels.iter().map(|_| Skipped::Scheme(Scheme::BatchSettlement.as_str().to_owned()));
        Err(ChallengeError::NoOffer(self.skipped.iter().cloned().chain(channels).collect()))
    }

    /// `resource.url`, the name under which the server hashes the request.
    pub fn resource_url(&self) -> Option<&str> {
        self.resource.as_ref()?.get("url")?.as_str()
    }
}

fn read_offer(entry: Value) -> Result<Offer, Skipped> {
    let common = Common::read(&entry, Scheme::Exact)?;
    let extra = |name: &str| entry.get("extra").and_then(|extra| extra.get(name));
    let finality = match extra("finality") {
        None => None,
        Some(value) => Some(serde_json::from_value(value.clone()).map_err(|_| Skipped::Finality(said(Some(value))))?),
    };
    match extra("paymentFlow") {
        None => {}
        Some(flow) if flow == "upfront" => {}
        Some(flow) => return Err(Skipped::PaymentFlow(said(Some(flow)))),
    }
    let Common { network, amount, pay_to, max_timeout_seconds } = common;
    Ok(Offer { network, amount, pay_to, finality, max_timeout_seconds, accepted: entry })
}

/// What the entries of both schemes have.
pub(super) struct Common {
    pub network: Network,
    pub amount: Amount,
    pub pay_to: Address,
    pub max_timeout_seconds: u64,
}

impl Common {
    pub fn read(entry: &Value, scheme: Scheme) -> Result<Self, Skipped> {
        let fields = entry.as_object().ok_or(Skipped::NotAnObject)?;
        let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
        let extra = |name: &str| fields.get("extra").and_then(|extra| extra.get(name));
        if text("scheme") != scheme.as_str() {
            return Err(Skipped::Scheme(said(fields.get("scheme"))));
        }
        let network: Network = text("network").parse().map_err(|_| Skipped::Network(said(fields.get("network"))))?;
        if text("asset") != "KAS" {
            return Err(Skipped::Asset(said(fields.get("asset"))));
        }
        if said(extra("binding")) != Binding::of(scheme).as_str() {
            return Err(Skipped::Binding(said(extra("binding"))));
        }
        let amount = Amount::parse_wire(text("amount")).map_err(Skipped::Amount)?;
        if amount.is_zero() {
            return Err(Skipped::ZeroAmount);
        }
        let pay_to = pay_to(text("payTo"), network).ok_or_else(|| Skipped::PayTo(said(fields.get("payTo"))))?;
        let max_timeout_seconds =
            fields.get("maxTimeoutSeconds").and_then(Value::as_u64).filter(|seconds| *seconds > 0).ok_or(Skipped::MaxTimeout)?;
        Ok(Self { network, amount, pay_to, max_timeout_seconds })
    }
}

/// What an entry says, for people.
fn said(value: Option<&Value>) -> String {
    value.map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)).unwrap_or_default()
}

/// An address of exactly this network, in its one spelling.
fn pay_to(text: &str, network: Network) -> Option<Address> {
    let address = Address::try_from(text).ok()?;
    (address.prefix == network.address_prefix() && address.to_string() == text).then_some(address)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::client::wallet::Wallet;
    use serde_json::json;

    pub(crate) fn shop_address() -> String {
        Wallet::from_secret(Network::Simnet, &[9; 32]).unwrap().address().to_string()
    }

    pub(crate) fn entry() -> Value {
        json!({
            "scheme": "exact", "network": "kaspa:simnet", "amount": "25000000", "asset": "KAS", "payTo": shop_address(),
            "maxTimeoutSeconds": 60,
            "extra": {"binding": "kaspa-exact-v1", "finality": "accepted", "paymentFlow": "upfront", "offer": "v1.x", "more": [1.5]},
        })
    }

    fn read(accepts: Value) -> Result<Challenge, ChallengeError> {
        let message = json!({"x402Version": 2, "resource": {"url": "https://shop/x"}, "accepts": accepts, "unknown": true});
        Challenge::read(header::encode(&message).as_bytes())
    }

    #[test]
    fn other_rails_are_skipped_and_the_kaspa_entry_is_kept_whole() {
        let other = json!({"scheme": "exact", "network": "eip155:8453", "asset": "0xabc", "amount": "1", "payTo": "0x1", "extra": {"name": "USDC"}});
        let challenge = read(json!([other, {"scheme": "upto"}, 7, entry()])).unwrap();
        assert_eq!(challenge.offers.len(), 1);
        assert_eq!(challenge.offers[0].accepted, entry());
        assert_eq!(challenge.skipped.len(), 3);
        assert_eq!(challenge.resource_url(), Some("https://shop/x"));
        assert!(matches!(read(json!([other])), Err(ChallengeError::NoOffer(s)) if s.len() == 1));
        assert!(matches!(read(json!([])), Err(ChallengeError::NoOffer(_))));
        assert_eq!(read(json!({})).unwrap_err(), ChallengeError::NoAccepts);
    }

    #[test]
    fn an_entry_that_is_not_wholly_kaspa_exact_is_not_paid() {
        let check = |pointer: &str, value: Value, expect: fn(&Skipped) -> bool| {
            let mut entry = entry();
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            entry.pointer_mut(parent).unwrap()[name] = value;
            let reason = read_offer(entry).expect_err(pointer);
            assert!(expect(&reason), "{pointer}: {reason}");
        };
        check("/scheme", json!("batch-settlement"), |s| matches!(s, Skipped::Scheme(_)));
        check("/network", json!("simnet"), |s| matches!(s, Skipped::Network(_)));
        check("/network", json!("kaspa:testnet-10"), |s| matches!(s, Skipped::PayTo(_)));
        check("/network", json!(null), |s| matches!(s, Skipped::Network(_)));
        check("/asset", json!("kas"), |s| matches!(s, Skipped::Asset(_)));
        check("/amount", json!(25_000_000), |s| matches!(s, Skipped::Amount(_)));
        check("/amount", json!("025"), |s| matches!(s, Skipped::Amount(_)));
        check("/amount", json!("0"), |s| matches!(s, Skipped::ZeroAmount));
        check("/payTo", json!("kaspasim:qq"), |s| matches!(s, Skipped::PayTo(_)));
        check("/payTo", json!(shop_address().to_uppercase()), |s| matches!(s, Skipped::PayTo(_)));
        check("/maxTimeoutSeconds", json!(0), |s| matches!(s, Skipped::MaxTimeout));
        check("/maxTimeoutSeconds", json!(1.5), |s| matches!(s, Skipped::MaxTimeout));
        check("/extra/binding", json!("kaspa-exact-v2"), |s| matches!(s, Skipped::Binding(_)));
        check("/extra/finality", json!("soon"), |s| matches!(s, Skipped::Finality(_)));
        check("/extra/paymentFlow", json!("later"), |s| matches!(s, Skipped::PaymentFlow(_)));
        check("/extra", json!({}), |s| matches!(s, Skipped::Binding(_)));
    }

    #[test]
    fn the_fields_a_server_may_leave_out_may_be_left_out() {
        let mut entry = entry();
        entry["extra"] = json!({"binding": "kaspa-exact-v1"});
        let offer = read_offer(entry).unwrap();
        assert_eq!((offer.finality, offer.amount.sompi()), (None, 25_000_000));
    }

    #[test]
    fn a_challenge_of_another_version_is_not_read() {
        let encode = |message: Value| header::encode(&message);
        for message in [json!([]), json!({"accepts": []}), json!({"x402Version": 1, "accepts": [entry()]})] {
            assert_eq!(Challenge::read(encode(message).as_bytes()).unwrap_err(), ChallengeError::Version);
        }
        assert!(matches!(Challenge::read(b"%%%"), Err(ChallengeError::Header(_))));
    }
}
