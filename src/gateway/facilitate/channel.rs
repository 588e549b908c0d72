//! `batch-settlement` for a tenant: the judgement, the lease and the charge of the proxy's path. A settlement charges the whole amount, or
//! what the call says.

use super::{
    Act, Goal, already,
    answers::Told,
    sale::{Asked, ENTITLED_SECONDS},
};
use crate::{
    binding::escrow_v1::{
        ChannelFacts, SignedVoucher,
        payload::{self, BatchPayload, DepositVoucher, RoutePayload},
        state::Idle,
    },
    gateway::{
        Gateway,
        answer::Served,
        channel::serve::{ChannelSale, Offered, Presented},
        respond::Refusal,
    },
    protocol::{
        amount::Amount,
        ids::{ChannelId, Outpoint, PaymentIdentifier, RequestIdentity},
        policy::{Accept, ChannelTerms, RouteId, Terms},
        price::PriceRule,
        refusal::Code,
        requirements::{ChannelState, Extra},
    },
    store::channels::ChannelRecord,
    wire::{canonical, identifier, messages::SettlementResponse},
};
use serde_json::json;
use std::sync::Arc;
use tokio::time::Instant;

/// What is charged once, as its tenant names it.
struct Operation {
    channel: ChannelId,
    identifier: PaymentIdentifier,
    identity: RequestIdentity,
    route: RouteId,
    /// Whoever names what was charged shows that it is theirs by what it was charged with.
    voucher: SignedVoucher,
}

impl Operation {
    /// `None` for what is told once.
    fn of(sale: &ChannelSale) -> Option<Self> {
        let (channel, voucher) = match &sale.payload {
            RoutePayload::Deposit(deposit) => (deposit.channel_id, deposit.voucher),
            RoutePayload::Voucher(paying) => (paying.channel_id, paying.voucher),
        };
        let (identifier, identity, route) = (sale.identifier.clone(), sale.identity, sale.route.id.clone());
        (sale.goal == Goal::Report { repeatable: true }).then_some(Self { channel, identifier, identity, route, voucher })
    }
}

impl Gateway {
    pub(super) async fn from_channel(self: &Arc<Self>, mut asked: Asked, act: Act) -> Result<Told, Refusal> {
        let payload = payload::parse(std::mem::take(&mut asked.called.envelope.payload))?;
        let allowed = asked.caller.tenant.permissions;
        let paying = match payload {
            BatchPayload::Claim(_) if asked.charge.is_some() || asked.deposit => {
                return Err(Refusal::new(Code::CallMalformed, "charge and deposit are asked of payments"));
            }
            BatchPayload::Claim(_) if !allowed.claim => return Err(Refusal::new(Code::TenantPermission, "claim")),
            BatchPayload::Claim(claim) => return self.claim_for(&asked, &claim, act).await,
            _ if act == Act::Settle && !allowed.settle => return Err(Refusal::new(Code::TenantPermission, "settle")),
            other => other.on_route()?,
        };
        let deposit = asked.deposit;
        let sale = self.channel_sale(asked, paying)?;
        match act {
            Act::Settle if deposit => self.bring_in(&sale).await,
            Act::Verify => {
                let state = self.verify_from_channel(&sale).await?;
                let kaspa = state.map_or_else(|| json!({}), |state| json!({ "channelState": state }));
                Ok(Told::Valid { payer: None, kaspa })
            }
            Act::Settle => {
                let operation = Operation::of(&sale);
                match self.sell_from_channel(Box::new(sale)).await {
                    Ok(Served::Answer(answer)) => Ok(Told::Receipt(answer)),
                    // Only forwarded requests stream.
                    Ok(Served::Stream { .. }) => Err(Refusal::new(Code::StoreUnavailable, "")),
                    Err(refusal) => self.charged_before(operation, refusal).await,
                }
            }
        }
    }

    /// A voucher proves its channel's key only as long as its outpoint is known. What was charged for this very operation is told all the
    /// same, to the tenant whose operation it is: a refusal says that nothing was.
    async fn charged_before(&self, operation: Option<Operation>, refusal: Refusal) -> Result<Told, Refusal> {
        let Some(Operation { channel, identifier, identity, route, voucher }) = operation else { return Err(refusal) };
        let unusable = |_| Refusal::new(Code::StoreUnavailable, "");
        let Some(stored) = self.ask(self.store.charge(&channel, &identifier)).await.map_err(unusable)? else { return Err(refusal) };
        let terms = &stored.record.terms;
        if (terms.identity, &terms.route, terms.voucher) != (identity, &route, voucher) {
            return Err(refusal);
        }
        let Some(record) = self.ask(self.store.channel(&channel)).await.map_err(unusable)? else { return Err(refusal) };
        self.told_again(&stored, &record).map(|receipt| Told::Settled(Box::new(receipt)))
    }

    /// The money of a deposit, and nothing else: afterwards the payment is worth what is told.
    async fn bring_in(self: &Arc<Self>, sale: &ChannelSale) -> Result<Told, Refusal> {
        let RoutePayload::Deposit(deposit) = &sale.payload else {
            return Err(Refusal::new(Code::CallMalformed, "only a deposit-voucher has a deposit"));
        };
        let Ok(_place) = self.places.clone().try_acquire_owned() else {
            return Err(Refusal::new(Code::Overloaded, ""));
        };
        let presented = self.deposited(sale, deposit, Instant::now() + sale.settle_wait() + sale.route.timeout).await?;
        let state = self.would_sell(sale, &presented).await?;
        let kaspa = json!({ "channelState": state, "status": "deposited" });
        let network = sale.policy.network;
        Ok(Told::Settled(Box::new(SettlementResponse::settled(state.active_outpoint.txid, network, None, Amount::ZERO, kaspa))))
    }

    fn channel_sale(&self, asked: Asked, payload: RoutePayload) -> Result<ChannelSale, Refusal> {
        let accepted = asked.accepted();
        let Extra::Escrow(extra) = &accepted.extra else {
            return Err(Refusal::new(Code::Scheme, "these are no terms of batch-settlement"));
        };
        let identifier = self.identifier(&asked, &payload)?;
        let derived = canonical::sha256(&identifier);
        let mut nonce = [0; 16];
        nonce.copy_from_slice(&derived[..16]);
        let terms = ChannelTerms {
            server_key: Some(extra.server_public_key),
            min_deposit: extra.min_deposit_sompi,
            charge: crate::protocol::charge::ChargeRule::Fixed,
            claim_policy: None,
        };
        let price = PriceRule::Fixed(accepted.amount);
        let request = asked.request();
        let priced = price.evaluate(&request).map_err(|error| Refusal::new(Code::PriceInput, error.to_string()))?;
        let accept = Accept { rule_id: String::new(), price, pay_to: accepted.pay_to.clone(), terms: Terms::Channel(Box::new(terms)) };
        let daa_score = self.chain.tip().borrow().daa_score;
        let offer = Offered {
            // How old an offer may be is the resource server's to say.
            accepted_until: self.now().plus_seconds(ENTITLED_SECONDS),
            nonce: asked.token().map_or(nonce, |token| token.nonce),
            daa: asked.offered_daa(daa_score, self.now()),
        };
        Ok(ChannelSale {
            payload,
            charge: asked.charge,
            accepted: accepted.clone(),
            offer,
            accept: 0,
            price: priced,
            identifier,
            identity: asked.identity(),
            request_hash: asked.hash.unwrap_or_else(|| asked.local_hash()),
            route: asked.route(accept),
            policy: asked.caller.policy.clone(),
            reply: asked.reply(),
            call: None,
            tenant: Some(asked.caller.tenant.clone()),
            goal: Goal::Report { repeatable: asked.repeatable() },
            request,
        })
    }

    /// The client's, or one for this voucher and operation.
    fn identifier(&self, asked: &Asked, payload: &RoutePayload) -> Result<PaymentIdentifier, Refusal> {
        let sent = asked.called.envelope.extensions.get(identifier::NAME).and_then(|echo| echo.get("info")?.get("id"));
        if let Some(sent) = sent {
            let parsed = sent.as_str().and_then(|id| PaymentIdentifier::parse(id).ok());
            return parsed.ok_or_else(|| Refusal::new(Code::IdentifierMalformed, ""));
        }
        let (outpoint, voucher) = match payload {
            RoutePayload::Deposit(deposit) => (deposit.funding_outpoint, deposit.voucher),
            RoutePayload::Voucher(paying) => (paying.funding_outpoint, paying.voucher),
        };
        let operation = json!({ "identity": hex::encode(asked.identity().0), "outpoint": outpoint, "amount": voucher.amount });
        let derived = hex::encode(canonical::sha256(&operation));
        PaymentIdentifier::parse(&derived).map_err(|_| Refusal::new(Code::IdentifierMalformed, ""))
    }

    /// What settling would find, without a lease, a broadcast or a record.
    async fn verify_from_channel(&self, sale: &ChannelSale) -> Result<Option<ChannelState>, Refusal> {
        match &sale.payload {
            RoutePayload::Voucher(voucher) => {
                let presented = self.known_channel(sale, voucher).await?;
                self.would_sell(sale, &presented).await.map(Some)
            }
            RoutePayload::Deposit(deposit) => {
                let known =
                    self.ask(self.store.channel(&deposit.channel_id)).await.map_err(|_| Refusal::new(Code::StoreUnavailable, ""))?;
                match known {
                    None => self.would_open(sale, deposit).await.map(|()| None),
                    Some(record) => self.would_join(sale, deposit, record).await.map(Some),
                }
            }
        }
    }

    async fn would_sell(&self, sale: &ChannelSale, presented: &Presented) -> Result<ChannelState, Refusal> {
        let record = &presented.record;
        let charged = self.ask(self.store.charge(&record.id, &sale.identifier)).await;
        if let Some(charge) = charged.map_err(|_| Refusal::new(Code::StoreUnavailable, ""))? {
            return match sale.goal {
                _ if charge.record.terms.identity != sale.identity => Err(Refusal::new(Code::IdentifierReused, "")),
                Goal::Report { repeatable: true } => Ok(crate::gateway::channel::state(record, &presented.script)),
                _ => Err(already(Refusal::new(Code::Replay, ""), true)),
            };
        }
        let (_, counted) = self.judge(sale, record, presented)?;
        // Judged with the limits of exposure as they are now; nothing runs, so nothing stays counted.
        self.channels.exposure.finish(record, counted);
        Ok(crate::gateway::channel::state(record, &presented.script))
    }

    async fn would_open(&self, sale: &ChannelSale, payload: &DepositVoucher) -> Result<(), Refusal> {
        let deposit = self.may_open(sale, payload).await?;
        if deposit.transaction().is_none() {
            let deadline = Instant::now() + sale.route.timeout;
            self.unspent(sale, &deposit, deadline).await?;
        }
        let accounts = Idle::opened(deposit.funding());
        let _ = deposit.authorise(accounts.accounts(), sale.accepted.amount)?;
        Ok(())
    }

    /// The deposit that opened the channel, or a top-up.
    async fn would_join(&self, sale: &ChannelSale, payload: &DepositVoucher, record: Arc<ChannelRecord>) -> Result<ChannelState, Refusal> {
        sale.may_use(&record)?;
        let deposit = self.verified(sale, payload, Some(&record))?;
        let record = self.seen_now(record).await?;
        let script = self.script(&record).map_err(|_| Refusal::new(Code::StoreUnavailable, ""))?;
        let outpoint = deposit.outpoint();
        if outpoint == record.outpoint || record.previous() == Some(outpoint) {
            let facts = ChannelFacts { id: record.id, script: &script, outpoint: record.outpoint, previous: record.previous() };
            let proven = deposit.proven(facts)?;
            return self.would_sell(sale, &Presented { record, script, proven, deposit: true }).await;
        }
        let spends = |active: Outpoint| move |input: &kaspa_consensus_core::tx::TransactionInput| active == input.previous_outpoint.into();
        match deposit.transaction() {
            Some(transaction) if transaction.inputs.iter().any(spends(record.outpoint)) => {
                let _proven = self.top_up_proof(&deposit, &record, &script)?;
                // Signed to see that it can be; the signature goes nowhere.
                drop(self.countersigned(sale, &record, &script, &deposit, transaction.clone())?);
                Ok(crate::gateway::channel::state(&record, &script))
            }
            _ => Err(Refusal::new(Code::ScriptInUse, "")),
        }
    }
}
