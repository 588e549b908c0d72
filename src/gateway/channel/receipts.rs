//! Receipts of charges: with the answer, at the end of a stream, and for whoever asks later (PROTOCOL section 5).

use super::{correct, serve::ChannelSale};
use crate::{
    binding::escrow_v1::EscrowScript,
    gateway::{
        Gateway,
        answer::{Answer, Served},
        facilitate::{Goal, already},
        quote::{self, Quote},
        respond::{Refusal, Reply},
    },
    protocol::{
        amount::Amount,
        ids::{ChannelId, CommitmentId, Outpoint, PaymentIdentifier},
        network::Network,
        policy::PublicOrigin,
        refusal::Code,
        requirements::{ChannelState, Requirements},
    },
    store::channels::{ChannelRecord, StoredCharge},
    wire::messages::{ChargeReceipt, SettlementResponse},
};
use serde_json::{Value, json};

/// Where receipts are read, below every public origin. Never forwarded.
const PATH: &str = "/.well-known/kas402/receipts/";

/// What a charge's receipt says; all of it durable before it is sent.
pub(super) struct ChargeFacts {
    pub commitment: CommitmentId,
    pub charge: Amount,
    pub state: ChannelState,
    /// Of the deposit that came with the request.
    pub deposit: Option<(Outpoint, Amount)>,
}

impl ChargeFacts {
    fn of(stored: &StoredCharge, script: &EscrowScript) -> Self {
        let record = &stored.record;
        Self { commitment: record.commitment, charge: record.charge, state: correct::state_after(record, script), deposit: None }
    }

    /// The receipt as it is sent, with an offer for the next request.
    pub fn message(self, network: Network, offer: Option<Requirements>) -> SettlementResponse {
        let (funding_outpoint, funding_amount) = self.deposit.unzip();
        let charge = ChargeReceipt {
            channel_state: self.state,
            charged_amount: self.charge,
            commitment_id: self.commitment,
            funding_amount,
            funding_outpoint,
            offer,
        };
        SettlementResponse::charged(network, charge)
    }
}

/// What a stream begins with.
pub(super) fn provisional(network: Network, ceiling: Amount, state: &ChannelState, url: &str) -> SettlementResponse {
    let kaspa = json!({ "status": "provisional", "receiptUrl": url, "channelState": state });
    SettlementResponse::provisional(network, ceiling, kaspa)
}

/// The upstream failed: the voucher is still good for the next request.
pub(in crate::gateway) fn not_charged(network: Network, code: Code, state: Option<&ChannelState>) -> SettlementResponse {
    let mut kaspa: Value = json!({ "reason": code.as_str(), "status": "not_charged", "chargedAmount": Amount::ZERO });
    if let Some(state) = state {
        kaspa["channelState"] = json!(state);
    }
    SettlementResponse::failed("unexpected_settle_error", None, Some(network), kaspa)
}

pub(super) fn url(origin: &PublicOrigin, channel: &ChannelId, identifier: &PaymentIdentifier) -> String {
    format!("{}{PATH}{channel}/{}", origin.0, identifier.as_str())
}

/// Which charge a receipt is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::gateway) struct ReceiptOf {
    channel: ChannelId,
    identifier: PaymentIdentifier,
}

/// `None` when the path is no receipt's. `Some(None)`: it is, and names nothing that could exist.
pub(in crate::gateway) fn asked(path: &str) -> Option<Option<ReceiptOf>> {
    let (channel, identifier) = path.strip_prefix(PATH)?.split_once('/')?;
    Some(channel.parse().ok().zip(PaymentIdentifier::parse(identifier).ok()).map(|(channel, identifier)| ReceiptOf { channel, identifier }))
}

impl Gateway {
    /// An offer for another request of the same price, so that a busy channel needs no 402.
    pub(in crate::gateway) fn renewed(&self, sale: &ChannelSale) -> Option<Requirements> {
        let (pricing, accept, ..) = sale.parts()?;
        let keys = self.keys.load();
        let signing = self.signing(&keys);
        let quote = Quote { accept, price: sale.price.clone() };
        quote::offer(&sale.policy, &sale.route, pricing, &quote, &signing, None, (self.environment.random)())
    }

    /// The stored response of a charge, as it was given the first time.
    pub(super) fn replay_charge(&self, sale: &ChannelSale, script: &EscrowScript, stored: StoredCharge) -> Result<Served, Refusal> {
        if let Goal::Report { repeatable } = sale.goal {
            let receipt = ChargeFacts::of(&stored, script).message(sale.policy.network, None);
            let told = || Served::Answer(Box::new(sale.reply.receipt(&receipt)));
            return if repeatable { Ok(told()) } else { Err(already(Refusal::new(Code::Replay, ""), true)) };
        }
        let receipt = ChargeFacts::of(&stored, script).message(sale.policy.network, self.renewed(sale));
        let Some(response) = &stored.response else {
            let refusal = Refusal::new(Code::EntitlementExpired, "it was charged and answered, and its response is no longer kept");
            return Err(refusal.receipted(receipt));
        };
        self.metrics.requests.replayed.inc();
        tracing::info!(request_id = %sale.reply.request_id, channel = %stored.record.channel, route = %sale.route.id, "replayed");
        Ok(Served::Answer(Box::new(sale.reply.replay(response, &receipt))))
    }

    /// What a tenant is told of a charge that was made for its operation before.
    pub(in crate::gateway) fn told_again(&self, stored: &StoredCharge, record: &ChannelRecord) -> Result<SettlementResponse, Refusal> {
        let script = self.script_or_refuse(record)?;
        Ok(ChargeFacts::of(stored, &script).message(record.config.network, None))
    }

    /// The receipt of a charge: for whoever knows the channel and the identifier that the client chose.
    pub(in crate::gateway) async fn receipt(&self, asked: Option<ReceiptOf>, network: Network, reply: &Reply) -> Answer {
        let Some(ReceiptOf { channel, identifier }) = asked else { return reply.refuse(&Refusal::new(Code::NoRoute, "")) };
        let found = async {
            let charge = self.ask(self.store.charge(&channel, &identifier)).await?;
            let record = self.ask(self.store.channel(&channel)).await?;
            Ok::<_, crate::store::StoreError>(charge.zip(record))
        };
        match found.await {
            Err(_) => reply.refuse(&Refusal::new(Code::StoreUnavailable, "")),
            Ok(None) => match self.receipt_of_another(network, &channel, &identifier).await {
                Ok(Some(receipt)) => reply.receipt(&receipt),
                Ok(None) => reply.refuse(&Refusal::new(Code::NoRoute, "no charge of this channel has this identifier yet")),
                Err(_) => reply.refuse(&Refusal::new(Code::StoreUnavailable, "")),
            },
            Ok(Some((charge, record))) => match self.script_or_refuse(&record) {
                Ok(script) => reply.receipt(&ChargeFacts::of(&charge, &script).message(network, None)),
                Err(refusal) => reply.refuse(&refusal),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_is_asked_for_under_one_path_only() {
        let (channel, identifier) = (ChannelId([7; 32]), PaymentIdentifier::parse("0123456789abcdef").unwrap());
        let path = url(&PublicOrigin(String::new()), &channel, &identifier);
        assert_eq!(asked(&path), Some(Some(ReceiptOf { channel, identifier })));
        for (path, expect) in [
            ("/.well-known/kas402/receipts/zz/0123456789abcdef", Some(None)),
            ("/.well-known/kas402/receipts/zz", None),
            ("/v1/report", None),
        ] {
            assert_eq!(asked(path), expect, "{path}");
        }
    }
}
