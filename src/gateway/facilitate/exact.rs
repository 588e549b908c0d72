//! `exact` for a tenant: the checks and the settlement of the proxy's path.

use super::{
    Act, Goal, already,
    answers::Told,
    sale::{Asked, ENTITLED_SECONDS, route_id},
};
use crate::{
    binding::exact_v1::{self, payload, verify::Facts},
    chain::{ChainError, Sighting},
    gateway::{Gateway, answer::Served, purchase::Purchase, quote, respond::Refusal, sell::VerifiedSale},
    protocol::{
        ids::TxId,
        network::Network,
        policy::{Accept, ExactTerms, RouteId, Terms},
        price::PriceRule,
        refusal::Code,
        requirements::{Extra, Finality, FinalityRule},
    },
    store::{Claim, PaymentKey, PaymentState},
    wire::facilitator::Called,
};
use serde_json::json;
use std::sync::Arc;

/// The id of the transaction in a payment, as far as it can be read.
pub(super) fn presented(called: &Called) -> Option<TxId> {
    let transaction = called.envelope.payload.get("transaction")?.as_str()?;
    Some(exact_v1::decode::decode(transaction).ok()?.id().into())
}

impl Gateway {
    pub(super) async fn exact(self: &Arc<Self>, purchase: Purchase, act: Act, sighting: bool) -> Result<Told, Refusal> {
        match act {
            Act::Verify => self.verify_exact(&purchase, sighting).await,
            Act::Settle => match self.purchase(purchase).await? {
                Served::Answer(answer) => Ok(Told::Receipt(answer)),
                // Only forwarded requests stream.
                Served::Stream { .. } => Err(Refusal::new(Code::StoreUnavailable, "")),
            },
        }
    }

    pub(super) fn exact_sale(&self, mut asked: Asked) -> Result<Purchase, Refusal> {
        let tenant = asked.caller.tenant.clone();
        let payload = payload::parse(std::mem::take(&mut asked.called.envelope.payload))?;
        let proof = asked.called.envelope.payer_proof.take();
        let tip = *self.chain.tip().borrow();
        let accepted = asked.accepted();
        let Extra::Exact(quoted) = &accepted.extra else {
            return Err(Refusal::new(Code::Scheme, "these are no terms of exact"));
        };
        let facts = Facts {
            accepted,
            request_hash: asked.hash.or(payload.request_hash).unwrap_or_else(|| asked.local_hash()),
            require_request_hash: false,
            daa_score: tip.daa_score,
        };
        let exact = exact_v1::verify(&payload, proof, facts)?;
        let finality = self.deeper(finality(&tenant.exact, quoted.finality, accepted.amount), asked.confirmations)?;
        let terms = ExactTerms { finality, ..tenant.exact };
        let now = self.now();
        let claim = Claim {
            key: PaymentKey { network: accepted.network, txid: exact.txid() },
            transaction: exact_v1::decode::encode(exact.transaction()),
            output_index: exact.output_index(),
            from_channel: None,
            amount: accepted.amount,
            pay_to: accepted.pay_to.clone(),
            route: route_id(&tenant),
            summary: "POST /settle".to_owned(),
            identity: asked.identity(),
            request_hash: facts.request_hash,
            // An identifier is between the client and its resource server.
            identifier: None,
            finality: terms.finality,
            // How old an offer may be is the resource server's to say.
            accepted_until: now.plus_seconds(ENTITLED_SECONDS),
            offer_daa: asked.offered_daa(tip.daa_score, now),
            entitlement_seconds: ENTITLED_SECONDS,
            holder: self.holder,
            hold_millis: self.limits.hold_millis(),
            late: false,
        };
        let accept = Accept {
            rule_id: String::new(),
            price: PriceRule::Fixed(accepted.amount),
            pay_to: accepted.pay_to.clone(),
            terms: Terms::Exact(terms),
        };
        let (route, policy, request) = (asked.route(accept), asked.caller.policy.clone(), asked.request());
        let mut purchase =
            Purchase::new(VerifiedSale { exact, claim, accepted: asked.accepted().clone() }, route, policy, request, asked.reply(), None);
        purchase.goal = Goal::Report { repeatable: asked.repeatable() };
        Ok(purchase)
    }

    /// What settling would find, without claiming anything. With `sighting` it also says whether the network knows the transaction.
    async fn verify_exact(&self, purchase: &Purchase, sighting: bool) -> Result<Told, Refusal> {
        let key = purchase.key();
        let valid = |payer, seen| {
            let mut kaspa = json!({ "transactionId": key.txid });
            if sighting {
                kaspa["sighting"] = if seen { "seen" } else { "unseen" }.into();
            }
            Told::Valid { payer, kaspa }
        };
        let known = self.ask(self.store.payment(&key)).await;
        let Some(stored) = known.map_err(|_| purchase.refusal(Code::StoreUnavailable, ""))? else {
            if let Err(reason) = self.readiness() {
                return Err(purchase.refusal(Code::NodeUnavailable, reason));
            }
            let seen = sighting && self.is_seen(purchase).await?;
            return Ok(valid(None, seen));
        };
        let record = stored.record;
        let own = record.identity == purchase.claim.identity;
        match record.state {
            PaymentState::Reversed => Err(purchase.refusal(Code::TransactionConflicted, "")),
            PaymentState::Delivered if own && purchase.goal == (Goal::Report { repeatable: true }) => Ok(valid(record.payer, true)),
            PaymentState::Pending | PaymentState::Settled if own => Ok(valid(record.payer, true)),
            _ => Err(purchase.used_before(&record)),
        }
    }

    async fn is_seen(&self, purchase: &Purchase) -> Result<bool, Refusal> {
        match self.chain.sighting(&purchase.transaction).await {
            Ok(sighting) => Ok(sighting != Sighting::NotSeen),
            Err(ChainError::Unavailable(reason) | ChainError::NotFound(reason)) => Err(purchase.refusal(Code::NodeUnavailable, reason)),
        }
    }

    /// As deep as the call asks, when that is deeper. What is watched no longer cannot be waited for.
    fn deeper(&self, rule: FinalityRule, confirmations: Option<u64>) -> Result<FinalityRule, Refusal> {
        let Some(depth) = confirmations else { return Ok(rule) };
        if depth > self.limits.final_depth {
            let detail = format!("confirmations: a payment is followed to {} at most", self.limits.final_depth);
            return Err(Refusal::new(Code::CallMalformed, detail));
        }
        let known = if rule.level == Finality::Confirmed { rule.depth } else { 0 };
        Ok(FinalityRule { level: Finality::Confirmed, depth: known.max(depth) })
    }

    /// A refusal of a payment that this tenant settled before says so instead.
    pub(super) async fn settled_before(&self, network: Network, txid: TxId, owner: &RouteId, refusal: Refusal) -> Refusal {
        match self.ask(self.store.payment(&PaymentKey { network, txid })).await {
            Ok(Some(stored)) if stored.record.route == *owner => {
                already(Refusal::new(Code::Replay, refusal.detail).of(network, txid), stored.record.charged)
            }
            Ok(_) => refusal,
            Err(_) => Refusal::new(Code::StoreUnavailable, "").of(network, txid),
        }
    }
}

/// The tenant's demand, or the payment's own terms when those are stronger; no risk above the tenant's maximum.
fn finality(terms: &ExactTerms, quoted: Finality, amount: crate::protocol::amount::Amount) -> FinalityRule {
    let rule = quote::finality(terms.finality, quoted);
    let risked = rule.level == Finality::Mempool && terms.mempool_max.is_none_or(|max| amount > max);
    if risked { FinalityRule { level: Finality::Accepted, depth: 0 } } else { rule }
}
