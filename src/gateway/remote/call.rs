//! What the facilitator is asked: the payment as it was claimed here, equal for every try.

use crate::{
    binding::exact_v1::payload::{ExactTransfer, ExactType},
    gateway::{facilitate::Act, purchase::Purchase},
    protocol::{
        amount::Amount,
        ids::RequestHash,
        requirements::{Asset, ExactExtra, Extra, Finality, FinalityRule, PaymentFlow, Requirements, Scheme},
    },
    store::{PaymentKey, PaymentRecord},
    wire::{envelope::PayerProof, messages::X402_VERSION},
};
use serde_json::{Value, json};
use std::borrow::Cow;

/// A call about this payment, before what else it asks.
pub(super) fn about(payment: &Value, accepted: &Requirements, request_hash: &RequestHash) -> Value {
    json!({
        "x402Version": X402_VERSION,
        "paymentPayload": payment,
        "paymentRequirements": accepted,
        "requestHash": request_hash,
    })
}

/// A payment under the hash that names its request.
pub(super) struct Asking<'a> {
    pub key: PaymentKey,
    pub amount: Amount,
    transaction: &'a [u8],
    output_index: u32,
    finality: FinalityRule,
    request_hash: RequestHash,
    accepted: Cow<'a, Requirements>,
    payer_proof: Option<&'a PayerProof>,
}

impl<'a> Asking<'a> {
    /// For the purchase's own request, or for the one that presented its payment first.
    pub fn of(purchase: &'a Purchase, hash: RequestHash) -> Self {
        let claim = &purchase.claim;
        Self {
            key: claim.key,
            amount: claim.amount,
            transaction: &claim.transaction,
            output_index: claim.output_index,
            finality: claim.finality,
            request_hash: hash,
            accepted: Cow::Borrowed(&purchase.accepted),
            // A proof is for one hash.
            payer_proof: purchase.payer_proof.as_ref().filter(|_| hash == purchase.request_hash),
        }
    }

    /// For who presented it first, whose offer is not at hand: the facilitator knows it by its hash, amount and recipient.
    pub fn again(record: &'a PaymentRecord, max_timeout_seconds: u64) -> Self {
        let extra = ExactExtra { finality: record.finality.level, offer: String::new(), payment_flow: PaymentFlow::Upfront };
        let accepted = Requirements {
            scheme: Scheme::Exact,
            network: record.key.network,
            amount: record.amount,
            asset: Asset::Kas,
            pay_to: record.pay_to.clone(),
            max_timeout_seconds,
            extra: Extra::Exact(extra),
        };
        Self {
            key: record.key,
            amount: record.amount,
            transaction: &record.transaction,
            output_index: record.output_index,
            finality: record.finality,
            request_hash: record.request_hash,
            accepted: Cow::Owned(accepted),
            payer_proof: None,
        }
    }

    pub fn call(&self, act: Act) -> Value {
        let payload = ExactTransfer {
            r#type: ExactType::ExactTransfer,
            payer_address: None,
            transaction: hex::encode(self.transaction),
            transaction_id: Some(self.key.txid),
            payment_output_index: self.output_index,
            request_hash: Some(self.request_hash),
        };
        let mut payment = json!({ "x402Version": X402_VERSION, "accepted": self.accepted, "payload": payload });
        if let Some(proof) = self.payer_proof {
            payment["extensions"] = json!({ "kaspa": { "payerProof": proof } });
        }
        let mut call = about(&payment, &self.accepted, &self.request_hash);
        if self.finality.level == Finality::Confirmed {
            call["confirmations"] = self.finality.depth.into();
        }
        if act == Act::Verify {
            call["sighting"] = true.into();
        }
        call
    }
}
