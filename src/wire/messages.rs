//! The three x402 v2 messages as they are sent (PROTOCOL section 1).

use super::canonical::Sorted;
use crate::protocol::{
    amount::Amount,
    ids::{CommitmentId, Outpoint, TxId},
    network::Network,
    refusal::Code,
    requirements::{ChannelState, Requirements},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::borrow::Cow;

/// The only protocol version.
pub const X402_VERSION: u64 = 2;

/// The body of a 402 and the content of `PAYMENT-REQUIRED`.
///
/// Its members and those of its parts stand in canonical order ([`Sorted`]).
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentRequired {
    pub accepts: Vec<Requirements>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Cow<'static, str>>,
    pub extensions: OfferExtensions,
    pub resource: Resource,
    pub x402_version: u64,
}

impl Sorted for PaymentRequired {}
impl Sorted for Requirements {}

/// The extensions of an offer.
#[derive(Clone, Debug, Serialize)]
pub struct OfferExtensions {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kaspa: Option<Value>,
    #[serde(rename = "payment-identifier")]
    pub payment_identifier: &'static Value,
}

/// What is sold.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Resource {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    pub url: String,
}

/// The content of `PAYMENT-RESPONSE`.
///
/// Its members and those of its parts stand in canonical order ([`Sorted`]).
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SettlementResponse {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount: Option<Amount>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_reason: Option<&'static str>,
    pub extensions: ReceiptExtensions,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// Named by the node, never by the payload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payer: Option<String>,
    pub success: bool,
    /// The transaction id; empty when there is none.
    pub transaction: String,
}

impl Sorted for SettlementResponse {}

/// The extensions of a receipt.
#[derive(Clone, Debug, Serialize)]
pub struct ReceiptExtensions {
    pub kaspa: KaspaReceipt,
}

/// `extensions.kaspa` of a receipt.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum KaspaReceipt {
    /// Of a request that a channel paid: the most frequent one by far.
    Charge(Box<ChargeReceipt>),
    Other(Value),
}

/// What a charge of a channel says (PROTOCOL section 5).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChargeReceipt {
    pub channel_state: ChannelState,
    pub charged_amount: Amount,
    pub commitment_id: CommitmentId,
    /// Of the deposit that came with the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub funding_amount: Option<Amount>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub funding_outpoint: Option<Outpoint>,
    /// For the next request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offer: Option<Requirements>,
}

impl SettlementResponse {
    /// A receipt: `kaspa` becomes `extensions.kaspa`.
    pub fn settled(txid: TxId, network: Network, payer: Option<String>, amount: Amount, kaspa: Value) -> Self {
        Self {
            success: true,
            error_reason: None,
            transaction: txid.to_string(),
            network: Some(network),
            payer,
            amount: Some(amount),
            extensions: kaspa_extension(kaspa),
        }
    }

    /// The receipt of a charge of a channel.
    pub fn charged(network: Network, charge: ChargeReceipt) -> Self {
        Self {
            success: true,
            error_reason: None,
            transaction: charge.commitment_id.to_string(),
            network: Some(network),
            payer: None,
            amount: Some(charge.charged_amount),
            extensions: ReceiptExtensions { kaspa: KaspaReceipt::Charge(Box::new(charge)) },
        }
    }

    /// What a stream begins with: `amount` is reserved, and the charge is not known yet.
    pub fn provisional(network: Network, amount: Amount, kaspa: Value) -> Self {
        Self {
            success: true,
            error_reason: None,
            transaction: String::new(),
            network: Some(network),
            payer: None,
            amount: Some(amount),
            extensions: kaspa_extension(kaspa),
        }
    }

    /// A failure; `txid` whenever money may have moved.
    pub fn failed(reason: &'static str, txid: Option<TxId>, network: Option<Network>, kaspa: Value) -> Self {
        Self {
            success: false,
            error_reason: Some(reason),
            transaction: txid.map(|id| id.to_string()).unwrap_or_default(),
            network,
            payer: None,
            amount: None,
            extensions: kaspa_extension(kaspa),
        }
    }
}

/// The body of an answer that carries no offer: the stable code, what it means, and the request's name in the logs.
pub fn refusal(code: Code, request_id: &str) -> Value {
    json!({ "error": code.as_str(), "message": code.meaning(), "requestId": request_id })
}

fn kaspa_extension(value: Value) -> ReceiptExtensions {
    ReceiptExtensions { kaspa: KaspaReceipt::Other(value) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        protocol::{
            ids::{ChannelId, Outpoint, P2shScript, SchnorrSignature, XOnlyKey},
            requirements::{Asset, ChannelState, EscrowExtra, ExactExtra, Extra, Finality, PaymentFlow, Scheme, TemplateId, VoucherState},
        },
        wire::{canonical, identifier},
    };

    fn escrow_terms(exact: Requirements) -> Requirements {
        let outpoint = Outpoint { txid: TxId([1; 32]), index: 7 };
        let extra = EscrowExtra {
            channel_state: Some(ChannelState {
                active_outpoint: outpoint,
                active_script_public_key: P2shScript([2; 37]),
                channel_id: ChannelId([3; 32]),
                charged_cumulative_amount: Amount::ZERO,
                claimed_cumulative_amount: Amount::ZERO,
                funding_amount: exact.amount,
                signed_max_claimable: exact.amount,
            }),
            claim_policy: Some("daily".into()),
            min_deposit_sompi: exact.amount,
            offer: "v1.k".into(),
            refund_timeout_daa: 9,
            server_public_key: XOnlyKey([4; 32]),
            template_id: TemplateId::EscrowV1,
            voucher_state: Some(VoucherState { amount: exact.amount, signature: Some(SchnorrSignature([5; 64])) }),
        };
        Requirements { scheme: Scheme::BatchSettlement, extra: Extra::Escrow(Box::new(extra)), ..exact }
    }

    #[test]
    fn what_is_printed_without_a_tree_is_canonical() {
        let accepted = Requirements {
            scheme: Scheme::Exact,
            network: Network::Simnet,
            amount: Amount::from_sompi(25_000_000).unwrap(),
            asset: Asset::Kas,
            pay_to: "kaspasim:q\u{e9}\n\"".into(),
            max_timeout_seconds: 300,
            extra: Extra::Exact(ExactExtra { finality: Finality::Accepted, offer: "v1.k".into(), payment_flow: PaymentFlow::Upfront }),
        };
        assert_eq!(canonical::sorted_to_vec(&accepted), canonical::to_vec(&accepted));
        let escrow = escrow_terms(accepted.clone());
        assert_eq!(canonical::sorted_to_vec(&escrow), canonical::to_vec(&escrow));
        assert_eq!(serde_json::from_slice::<Requirements>(&canonical::sorted_to_vec(&escrow)).unwrap(), escrow);
        for (kaspa, description) in [(None, None), (Some(json!({"reason": "x", "a": 1})), Some("\u{1f600}".to_owned()))] {
            let message = PaymentRequired {
                accepts: vec![accepted.clone(), accepted.clone()],
                error: Some("no".into()),
                extensions: OfferExtensions { kaspa, payment_identifier: identifier::advertise(true) },
                resource: Resource { mime_type: description.clone(), description, url: "https://x/a?b".into() },
                x402_version: X402_VERSION,
            };
            assert_eq!(canonical::sorted_to_vec(&message), canonical::to_vec(&message));
        }
        let Extra::Escrow(extra) = &escrow.extra else { panic!("made as such") };
        let (state, outpoint) = (extra.channel_state.clone().unwrap(), Outpoint { txid: TxId([6; 32]), index: 1 });
        let charge = |funding: Option<(Outpoint, Amount)>, offer: Option<Requirements>| {
            let (funding_outpoint, funding_amount) = funding.unzip();
            let (channel_state, charged_amount) = (state.clone(), escrow.amount);
            let commitment_id = CommitmentId([7; 32]);
            let charge = ChargeReceipt { channel_state, charged_amount, commitment_id, funding_amount, funding_outpoint, offer };
            SettlementResponse::charged(Network::Simnet, charge)
        };
        let kaspa = json!({"reason": "x", "paymentOutputIndex": 1, "channelState": state});
        for receipt in [
            charge(None, None),
            charge(Some((outpoint, escrow.amount)), Some(escrow.clone())),
            SettlementResponse::settled(TxId([8; 32]), Network::Simnet, Some("kaspasim:\u{e9}".into()), escrow.amount, kaspa.clone()),
            SettlementResponse::provisional(Network::Simnet, escrow.amount, kaspa.clone()),
            SettlementResponse::failed("unexpected_settle_error", None, None, kaspa),
        ] {
            assert_eq!(canonical::sorted_to_vec(&receipt), canonical::to_vec(&receipt));
        }
    }
    #[test]
    fn an_answer_without_an_offer_names_its_code_and_its_request() {
        let body = refusal(Code::Replay, "request-1");
        assert_eq!(body, json!({"error": Code::Replay.as_str(), "message": Code::Replay.meaning(), "requestId": "request-1"}));
    }
}
