//! One `batch-settlement` entry of a 402, as a buyer reads it.
//!
//! Lenient about what it does not know, strict about what it would sign. The whole entry is echoed by a payment.

use crate::{
    binding::escrow_v1::hashes::BatchTerms,
    client::challenge::{Common, Skipped},
    protocol::{
        amount::{Amount, parse_canonical_u64},
        ids::XOnlyKey,
        limits::LOCK_TIME_THRESHOLD,
        network::Network,
        requirements::{ChannelState, Scheme, TemplateId, VoucherState},
    },
};
use kaspa_addresses::Address;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// What a request may cost, and in which channels it can be paid.
#[derive(Clone, Debug)]
pub struct ChannelOffer {
    /// As received; echoed whole as `accepted`.
    pub accepted: Value,
    pub network: Network,
    /// The most that this request may be charged.
    pub ceiling: Amount,
    pub pay_to: Address,
    pub max_timeout_seconds: u64,
    pub server_key: XOnlyKey,
    /// The least that a new channel is opened with.
    pub min_deposit: Amount,
    /// Of a new channel: the DAA score after which its rest comes back.
    pub refund_timeout_daa: u64,
    pub claim_policy: Option<String>,
    /// Only in a corrective 402: what the server says of the channel that was presented. Nothing of it is believed yet.
    pub correction: Option<Correction>,
}

/// Where the server says that a channel stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Correction {
    pub channel: ChannelState,
    pub voucher: VoucherState,
}

/// Everything a payment repeats or depends on, from a 402 or from the receipt before.
#[derive(Clone, Debug)]
pub struct Quote {
    pub offer: ChannelOffer,
    /// As received with the 402.
    pub resource: Option<Value>,
    pub extensions: Map<String, Value>,
}

impl ChannelOffer {
    /// Who is paid with which key: channels of equal terms are interchangeable.
    pub fn same_server(&self, other: &Self) -> bool {
        (self.network, self.server_key, &self.pay_to) == (other.network, other.server_key, &other.pay_to)
    }

    /// `BatchTerms::hash` of what is echoed.
    pub fn requirements_hash(&self) -> [u8; 32] {
        let terms = BatchTerms {
            network: self.network,
            amount: self.ceiling,
            pay_to: &self.pay_to.to_string(),
            max_timeout_seconds: self.max_timeout_seconds,
            template: TemplateId::EscrowV1,
            server_key: self.server_key,
            min_deposit: self.min_deposit,
            refund_timeout_daa: self.refund_timeout_daa,
        };
        terms.hash()
    }
}

/// Reads one entry of `accepts`, or an offer out of a receipt or the journal.
pub(in crate::client) fn read(entry: Value) -> Result<ChannelOffer, Skipped> {
    let Common { network, amount, pay_to, max_timeout_seconds } = Common::read(&entry, Scheme::BatchSettlement)?;
    let extra = |name: &str| entry.get("extra").and_then(|extra| extra.get(name));
    let text = |name: &'static str| extra(name).and_then(Value::as_str).ok_or(Skipped::ChannelTerm(name));
    if text("templateId")? != TemplateId::EscrowV1.as_str() {
        return Err(Skipped::ChannelTerm("templateId"));
    }
    let server_key = text("serverPublicKey")?.parse().map_err(|_| Skipped::ChannelTerm("serverPublicKey"))?;
    let min_deposit = Amount::parse_wire(text("minDepositSompi")?).map_err(|_| Skipped::ChannelTerm("minDepositSompi"))?;
    let refund_timeout_daa = parse_canonical_u64(text("refundTimeoutDaa")?)
        .filter(|daa| *daa < LOCK_TIME_THRESHOLD)
        .ok_or(Skipped::ChannelTerm("refundTimeoutDaa"))?;
    let correction = match (extra("channelState"), extra("voucherState")) {
        (None, None) => None,
        (channel, voucher) => Some(Correction { channel: part(channel, "channelState")?, voucher: part(voucher, "voucherState")? }),
    };
    Ok(ChannelOffer {
        network,
        ceiling: amount,
        pay_to,
        max_timeout_seconds,
        server_key,
        min_deposit,
        refund_timeout_daa,
        claim_policy: extra("claimPolicy").and_then(Value::as_str).map(str::to_owned),
        correction,
        accepted: entry,
    })
}

fn part<T: DeserializeOwned>(value: Option<&Value>, name: &'static str) -> Result<T, Skipped> {
    value.and_then(|value| T::deserialize(value).ok()).ok_or(Skipped::ChannelTerm(name))
}

#[cfg(test)]
pub(in crate::client) mod tests {
    use super::*;
    use crate::client::challenge::tests::shop_address;
    use serde_json::json;

    pub(in crate::client) fn entry() -> Value {
        json!({
            "scheme": "batch-settlement", "network": "kaspa:simnet", "amount": "1000000", "asset": "KAS", "payTo": shop_address(),
            "maxTimeoutSeconds": 60,
            "extra": {
                "binding": "kaspa-escrow-v1", "templateId": "kaspa-x402-escrow-v1", "serverPublicKey": "11".repeat(32),
                "minDepositSompi": "100000000", "refundTimeoutDaa": "500000", "offer": "v1.x", "claimPolicy": "daily", "more": [1.5],
            },
        })
    }

    fn state() -> Value {
        json!({
            "activeOutpoint": {"txid": "01".repeat(32), "index": 0}, "activeScriptPublicKey": "02".repeat(37), "channelId": "03".repeat(32),
            "chargedCumulativeAmount": "5", "claimedCumulativeAmount": "2", "fundingAmount": "9", "signedMaxClaimable": "4",
        })
    }

    #[test]
    fn a_channel_offer_is_read_whole_and_kept_whole() {
        let offer = read(entry()).unwrap();
        assert_eq!(offer.accepted, entry(), "unknown fields included");
        assert_eq!((offer.ceiling.sompi(), offer.min_deposit.sompi(), offer.refund_timeout_daa), (1_000_000, 100_000_000, 500_000));
        assert_eq!((offer.claim_policy.as_deref(), &offer.correction), (Some("daily"), &None));
        let mut corrective = entry();
        corrective["extra"]["channelState"] = state();
        corrective["extra"]["voucherState"] = json!({"amount": "0"});
        let correction = read(corrective).unwrap().correction.unwrap();
        assert_eq!((correction.channel.signed_max_claimable.sompi(), correction.voucher.signature), (4, None));
    }

    #[test]
    fn an_entry_that_is_not_wholly_of_a_channel_is_not_paid() {
        type Expect = fn(&Skipped) -> bool;
        let term: Expect = |s| matches!(s, Skipped::ChannelTerm(_));
        for (pointer, value, expect) in [
            ("/scheme", json!("exact"), (|s| matches!(s, Skipped::Scheme(_))) as Expect),
            ("/extra/binding", json!("kaspa-exact-v1"), |s| matches!(s, Skipped::Binding(_))),
            ("/network", json!("kaspa:testnet-10"), |s| matches!(s, Skipped::PayTo(_))),
            ("/amount", json!("0"), |s| matches!(s, Skipped::ZeroAmount)),
            ("/extra/templateId", json!("kaspa-x402-escrow-v2"), term),
            ("/extra/serverPublicKey", json!("11"), term),
            ("/extra/serverPublicKey", json!(null), term),
            ("/extra/minDepositSompi", json!(1), term),
            ("/extra/minDepositSompi", json!("01"), term),
            ("/extra/refundTimeoutDaa", json!(500_000), term),
            ("/extra/refundTimeoutDaa", json!("500000000000"), term),
            ("/extra/channelState", state(), term),
            ("/extra/voucherState", json!({"amount": "0"}), term),
            ("/extra/channelState", json!("rubbish"), term),
        ] {
            let mut changed = entry();
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            changed.pointer_mut(parent).unwrap()[name] = value.clone();
            let reason = read(changed).expect_err(pointer);
            assert!(expect(&reason), "{pointer} {value}: {reason}");
        }
    }
}
