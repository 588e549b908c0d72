//! Opening a channel and topping one up: a `deposit-voucher` on its way to a channel whose money the chain has.
//!
//! Nothing is recorded before the output is proven, by the funding transaction's own bytes or by the node; nothing is
//! served before it is accepted. A deposit that is sent again goes the same way and finds what became of it.

use super::{
    claim, correct,
    serve::{ChannelSale, Presented, facts, unusable},
};
use crate::{
    binding::{
        escrow_v1::{
            EscrowScript, EscrowTerms, VerifiedDeposit, channel_unknown,
            payload::DepositVoucher,
            spend::{CheckedTopUp, Escrow, SignedClaim, check_top_up, reserve},
            verify_deposit,
        },
        exact_v1::decode,
    },
    chain::{Health, OutpointStatus, Sighting, SubmitOutcome, Utxo},
    gateway::{Gateway, channel::watch::MoveEnd, crash, respond::Refusal},
    protocol::{amount::Amount, policy::Channels as ChannelRules, refusal::Code, requirements::TemplateId},
    store::channels::{
        Aside, ChannelFact, ChannelRecord, ChannelSighting, ChannelStep, Lease, Leased, Move, MoveState, Opened, Opening, Phase,
    },
};
use kaspa_consensus_core::tx::Transaction;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, timeout_at};

/// How long a deposit that the network knew is asked whether it is spent already.
const SPEND_SEARCH: Duration = Duration::from_secs(2);

impl Gateway {
    /// The channel of a deposit, its money accepted by the chain and, unless exposure allows less, confirmed.
    pub(in crate::gateway) async fn deposited(
        self: &Arc<Self>,
        sale: &ChannelSale,
        payload: &DepositVoucher,
        deadline: Instant,
    ) -> Result<Presented, Refusal> {
        let known = self.ask(self.store.channel(&payload.channel_id)).await.map_err(unusable)?;
        let (record, deposit) = match known {
            None => self.opened(sale, payload, deadline).await?,
            Some(record) => {
                sale.may_use(&record)?;
                let deposit = self.verified(sale, payload, Some(&record))?;
                (self.joined(sale, record, &deposit, deadline).await?, deposit)
            }
        };
        let script = self.script_or_refuse(&record)?;
        let record = self.until_confirmed(sale, record, deadline).await?;
        let proven = deposit.proven(facts(&record, &script))?;
        Ok(Presented { record, script, proven, deposit: true })
    }

    /// All that needs neither store nor chain. A channel that exists keeps its own timeout, and a top-up has no minimum.
    pub(in crate::gateway) fn verified(
        &self,
        sale: &ChannelSale,
        payload: &DepositVoucher,
        known: Option<&ChannelRecord>,
    ) -> Result<VerifiedDeposit, Refusal> {
        let Some((.., extra)) = sale.parts() else {
            return Err(Refusal::new(Code::Scheme, "this route is not sold from channels any more"));
        };
        let terms = EscrowTerms {
            server_key: extra.server_public_key,
            min_deposit: known.map_or(extra.min_deposit_sompi, |_| Amount::ZERO),
            refund_timeout_daa: known.map_or(extra.refund_timeout_daa, |record| record.config.refund_timeout_daa),
            // As it was offered, which a reload does not change.
            pay_to: &sale.accepted.pay_to,
            network: sale.policy.network,
            template: TemplateId::EscrowV1,
        };
        Ok(verify_deposit(payload, &terms, &self.channels.rules)?)
    }

    /// Everything that is asked of a channel that is not known yet, before anything is recorded or sent.
    pub(in crate::gateway) async fn may_open(&self, sale: &ChannelSale, payload: &DepositVoucher) -> Result<VerifiedDeposit, Refusal> {
        let deposit = self.verified(sale, payload, None)?;
        let rules = rules(sale)?;
        let key = deposit.config().server_public_key;
        if self.server_keys.load().find(&key).is_none_or(|key| key.claim_only()) {
            return Err(Refusal::new(Code::EscrowServerKey, "no channel is opened under this key any more"));
        }
        // Money that lies in the escrow already is not locked up for the age of an offer: its channel opens, and the request
        // is asked for a fresh one.
        if sale.offer.accepted_until < self.now()
            && let Some(transaction) = deposit.transaction()
            && matches!(self.chain.sighting(transaction).await, Ok(Sighting::NotSeen))
        {
            return Err(Refusal::new(Code::OfferExpired, "the channel is not open yet: deposit under a fresh offer"));
        }
        if let Health { ready: false, reason, .. } = &*self.chain.health().borrow() {
            return Err(Refusal::new(Code::NodeUnavailable, reason.clone().unwrap_or_default()));
        }
        let daa_score = self.chain.tip().borrow().daa_score;
        if daa_score.saturating_add(rules.refund_lead_daa) >= deposit.config().refund_timeout_daa {
            return Err(Refusal::new(Code::RefundWindow, ""));
        }
        Ok(deposit)
    }

    /// A channel that is not known yet.
    async fn opened(
        self: &Arc<Self>,
        sale: &ChannelSale,
        payload: &DepositVoucher,
        deadline: Instant,
    ) -> Result<(Arc<ChannelRecord>, VerifiedDeposit), Refusal> {
        let deposit = self.may_open(sale, payload).await?;
        // The bytes prove the output; without them the node has to, before anything is recorded.
        let funded_daa = match deposit.transaction() {
            Some(_) => None,
            None => Some(self.unspent(sale, &deposit, deadline).await?.daa_score),
        };
        let opening = Opening {
            id: deposit.channel(),
            config: deposit.config().clone(),
            outpoint: deposit.outpoint(),
            funding: deposit.funding(),
            reserve: deposit.reserve(),
            transaction: deposit.transaction().map(decode::encode),
            funded_daa,
        };
        let (record, new) = match self.ask(self.store.open_channel(&opening, self.now())).await.map_err(unusable)? {
            Opened::New(record) => (record, true),
            Opened::Known(record) => (record, false),
            Opened::OutpointInUse => return Err(Refusal::new(Code::OutpointInUse, "")),
            Opened::ScriptInUse => return Err(Refusal::new(Code::ScriptInUse, "")),
        };
        crash::point("channel_opened");
        self.watch_channel(&record);
        if new {
            tracing::info!(channel = %record.id, outpoint = %record.outpoint, funding_sompi = record.parts.funding.sompi(), "channel opened");
        }
        if let Some(transaction) = deposit.transaction().filter(|_| funded_daa.is_none()) {
            self.broadcast_deposit(sale, &record, &deposit, transaction).await?;
        }
        Ok((record, deposit))
    }

    /// Sends the funding transaction. Only a proven rejection says that nothing moved.
    async fn broadcast_deposit(
        &self,
        sale: &ChannelSale,
        record: &ChannelRecord,
        deposit: &VerifiedDeposit,
        transaction: &Transaction,
    ) -> Result<(), Refusal> {
        match self.chain.submit(transaction).await {
            SubmitOutcome::New | SubmitOutcome::Unknown(_) => Ok(()),
            SubmitOutcome::Known => {
                // In the mempool, or accepted: then its output may be spent already, which a search from the offer on finds.
                let mut watch = self.follows.watch(deposit.outpoint(), deposit.script().script_public_key(), Some(sale.offer.daa));
                let told = timeout_at(Instant::now() + SPEND_SEARCH, watch.status.wait_for(|status| *status != OutpointStatus::Unknown));
                let status = match told.await {
                    Ok(Ok(status)) => status.clone(),
                    _ => OutpointStatus::Unknown,
                };
                match status {
                    OutpointStatus::Spent { by, .. } => Err(Refusal::new(Code::DepositSpent, format!("by {by}"))),
                    _ => Ok(()),
                }
            }
            SubmitOutcome::Rejected(reason) => {
                self.sight(record, ChannelSighting::NeverFunded).await;
                Err(Refusal::new(Code::FundingRejected, reason))
            }
            SubmitOutcome::Unavailable(reason) => Err(Refusal::new(Code::NodeUnavailable, reason)),
        }
    }

    /// The deposit's output as the node has it, once it has it.
    pub(in crate::gateway) async fn unspent(
        &self,
        sale: &ChannelSale,
        deposit: &VerifiedDeposit,
        deadline: Instant,
    ) -> Result<Utxo, Refusal> {
        let mut watch = self.follows.watch(deposit.outpoint(), deposit.script().script_public_key(), Some(sale.offer.daa));
        let utxo = loop {
            let status = watch.status.borrow_and_update().clone();
            match status {
                OutpointStatus::Unspent(utxo) => break utxo,
                OutpointStatus::Spent { by, .. } => return Err(Refusal::new(Code::DepositSpent, format!("by {by}"))),
                OutpointStatus::Unknown | OutpointStatus::Absent => {}
            }
            if !matches!(timeout_at(self.settle_by(sale, deadline), watch.status.changed()).await, Ok(Ok(()))) {
                return Err(Refusal::new(Code::DepositNotConfirmed, "the node has not accepted the deposit"));
            }
        };
        let (script, holds) = (deposit.script().script_public_key(), deposit.funding());
        if &utxo.script_public_key != script {
            return Err(Refusal::new(Code::FundingScript, "the node knows the output under another script"));
        }
        if utxo.covenant {
            return Err(Refusal::new(Code::DepositCovenant, "the node knows the output as bound to a covenant"));
        }
        if utxo.amount != holds {
            return Err(Refusal::new(Code::FundingAmount, format!("the output holds {} sompi", utxo.amount)));
        }
        Ok(utxo)
    }

    /// A deposit for a channel that exists: the one that opened it, or a top-up.
    async fn joined(
        self: &Arc<Self>,
        sale: &ChannelSale,
        record: Arc<ChannelRecord>,
        deposit: &VerifiedDeposit,
        deadline: Instant,
    ) -> Result<Arc<ChannelRecord>, Refusal> {
        let outpoint = deposit.outpoint();
        let known = |record: &ChannelRecord| outpoint == record.outpoint || record.previous() == Some(outpoint);
        if known(&record) {
            // Its funding may never have been heard of by the node: a crash, or a mempool that was lost.
            let unheard = outpoint == record.deposit.outpoint && record.deposit.funded_daa.is_none();
            if let Some(transaction) = deposit.transaction().filter(|_| unheard) {
                self.broadcast_deposit(sale, &record, deposit, transaction).await?;
            }
            return self.seen_now(record).await;
        }
        let pending = record.moves.iter().find(|step| step.continuation == outpoint).map(|step| step.txid);
        let txid = match (pending, deposit.transaction()) {
            (Some(txid), _) => txid,
            (None, Some(transaction)) if transaction.inputs.iter().any(|input| record.outpoint == input.previous_outpoint.into()) => {
                self.top_up(sale, &record, deposit, transaction).await?
            }
            // Another output under the script of a living channel, or an input that a claim has spent meanwhile.
            (None, Some(transaction))
                if record.moves.iter().any(|step| transaction.inputs.iter().any(|input| step.spends == input.previous_outpoint.into())) =>
            {
                let script = self.script_or_refuse(&record)?;
                return Err(correct::refusal(
                    Code::VoucherStaleOutpoint,
                    "the top-up spends the outpoint before the last claim",
                    &record,
                    &script,
                    outpoint,
                ));
            }
            (None, _) => return Err(Refusal::new(Code::ScriptInUse, "")),
        };
        match timeout_at(self.settle_by(sale, deadline), self.wait_move(&record.id, &txid)).await {
            Ok(Ok(MoveEnd::Accepted(record))) if known(&record) => Ok(record),
            Ok(Ok(MoveEnd::Gone(Some(record)))) if known(&record) => Ok(record),
            Ok(Ok(MoveEnd::Accepted(..))) => Err(Refusal::new(Code::DepositNotConfirmed, "")),
            Ok(Ok(MoveEnd::Gone(_))) => Err(Refusal::new(Code::FundingRejected, "the top-up can never be accepted")),
            Ok(Err(error)) => Err(unusable(error)),
            Err(_) => Err(Refusal::new(Code::DepositNotConfirmed, "the top-up is on its way and not accepted yet")),
        }
    }

    /// Signs a client's top-up and brings it to the network; its id.
    async fn top_up(
        self: &Arc<Self>,
        sale: &ChannelSale,
        record: &Arc<ChannelRecord>,
        deposit: &VerifiedDeposit,
        transaction: &Transaction,
    ) -> Result<crate::protocol::ids::TxId, Refusal> {
        let script = self.script_or_refuse(record)?;
        let presented = Presented {
            record: record.clone(),
            script: script.clone(),
            proven: self.top_up_proof(deposit, record, &script)?,
            deposit: true,
        };
        let (lease, record) = match self.lease_for(sale, &presented).await? {
            Leased::Held(lease, record) => (lease, record),
            Leased::Busy { record, .. } => return Err(correct::refusal(Code::ChannelBusy, "", &record, &script, record.outpoint)),
            Leased::Replay(_) | Leased::IdentifierReused => return Err(Refusal::new(Code::IdentifierReused, "")),
            Leased::NonceReused => return Err(Refusal::new(Code::OfferReused, "")),
            Leased::Unknown => return Err(channel_unknown().into()),
        };
        if record.stream.is_some() {
            self.post_left_behind(lease, &record).await.map_err(|_| Refusal::new(Code::StoreUnavailable, ""))?;
            return Err(correct::refusal(Code::ChannelBusy, "a stream was just charged", &record, &script, record.outpoint));
        }
        let signed = match self.countersigned(sale, &record, &script, deposit, transaction.clone()) {
            Ok(signed) => signed,
            Err(refusal) => {
                self.release_lease(&lease).await;
                return Err(refusal);
            }
        };
        let (signed, step) = signed;
        self.send_top_up(&lease, &record, &script, signed, step).await
    }

    /// A top-up's voucher is for the continuation, which is nobody's outpoint yet; its signature is checked with the deposit.
    pub(in crate::gateway) fn top_up_proof(
        &self,
        deposit: &VerifiedDeposit,
        record: &ChannelRecord,
        script: &EscrowScript,
    ) -> Result<crate::binding::escrow_v1::ProvenVoucher, Refusal> {
        let facts = crate::binding::escrow_v1::ChannelFacts { outpoint: deposit.outpoint(), ..facts(record, script) };
        Ok(deposit.proven(facts)?)
    }

    pub(in crate::gateway) fn countersigned(
        &self,
        sale: &ChannelSale,
        record: &ChannelRecord,
        script: &EscrowScript,
        deposit: &VerifiedDeposit,
        transaction: Transaction,
    ) -> Result<(SignedClaim, Move), Refusal> {
        let corrected = |code: Code, detail: &str| correct::refusal(code, detail, record, script, record.outpoint);
        let rules = rules(sale)?;
        if sale.offer.accepted_until < self.now() {
            return Err(Refusal::new(Code::OfferExpired, ""));
        }
        match record.phase() {
            Phase::Idle => {}
            Phase::Closed => return Err(Refusal::new(Code::ChannelClosed, "")),
            _ => return Err(corrected(Code::ChannelBusy, "")),
        }
        let daa_score = self.chain.tip().borrow().daa_score;
        if daa_score.saturating_add(rules.refund_lead_daa) >= record.config.refund_timeout_daa {
            return Err(Refusal::new(Code::RefundWindow, ""));
        }
        let Some(voucher) = record.voucher else {
            return Err(Refusal::new(Code::TopUpNothingToClaim, "nothing is charged that was not claimed"));
        };
        // The recipient pays its fee like a claim's: many small top-ups must not eat up what they settle.
        claim::plan(record, script, sale.policy.network, &rules.claims, false)
            .map_err(|uneconomic| Refusal::new(Code::TopUpAmount, format!("too little is owed yet: {uneconomic}")))?;
        let escrow = Escrow { script, outpoint: record.outpoint, funding: record.parts.funding };
        let takes = record.active();
        let checked: CheckedTopUp = check_top_up(transaction, escrow, takes, None, &self.channels.rules)?;
        let (added, continuation, payout) = (checked.added(), checked.continuation(), checked.payout());
        let reserve = reserve(script, continuation, &self.channels.rules)
            .ok_or_else(|| Refusal::new(Code::TopUpAmount, "no claim of the continuation is possible"))?;
        let keys = self.server_keys.load();
        let key = keys.find(&record.config.server_public_key).filter(|key| !key.claim_only());
        let key = key.ok_or_else(|| Refusal::new(Code::EscrowServerKey, "channels of this key are not topped up any more"))?;
        let signed = checked
            .sign(escrow, &voucher, |digest| key.sign(digest))
            .map_err(|error| Refusal::new(Code::TopUpAmount, error.to_string()))?;
        let step = Move {
            txid: signed.txid,
            transaction: decode::encode(&signed.transaction),
            spends: record.outpoint,
            held: record.parts.funding,
            voucher,
            spends_reserve: record.reserve,
            takes,
            fee: takes.checked_sub(payout).unwrap_or(Amount::ZERO),
            added,
            continuation: signed.continuation,
            funding: signed.funding,
            reserve,
            built_at: self.now(),
            state: MoveState::Built,
            aside: Aside::default(),
        };
        // Signed for the continuation before there is one: should a reorganisation put it in the place of a claim, it pays for what was
        // charged over that.
        let step = Move { aside: Aside { voucher: Some(*deposit.voucher()).filter(|voucher| step.holds(voucher)), ..step.aside }, ..step };
        Ok((signed, step))
    }

    /// Durable first, then sent: whoever can see it on the network finds it in the record.
    async fn send_top_up(
        self: &Arc<Self>,
        lease: &Lease,
        record: &Arc<ChannelRecord>,
        script: &EscrowScript,
        signed: SignedClaim,
        step: Move,
    ) -> Result<crate::protocol::ids::TxId, Refusal> {
        let txid = signed.txid;
        let built = match self.ask(self.store.advance_channel(lease, ChannelFact::MoveBuilt(Box::new(step)), self.now())).await {
            Ok(ChannelStep::Done(record)) => record,
            Ok(ChannelStep::Stale | ChannelStep::Refused) => {
                return Err(correct::refusal(Code::ChannelBusy, "", record, script, record.outpoint));
            }
            Err(error) => {
                // Durable perhaps, and then sent by the watcher.
                self.watch_channel(record);
                return Err(unusable(error));
            }
        };
        // From now on the claimer counts how long it is not accepted.
        self.channel_changed(&built);
        self.metrics.claims.built.inc();
        crash::point("top_up_built");
        let outcome = self.chain.submit(&signed.transaction).await;
        crash::point("top_up_submitted");
        match outcome {
            SubmitOutcome::Rejected(reason) => {
                self.sight(&built, ChannelSighting::MoveDropped { txid }).await;
                Err(Refusal::new(Code::FundingRejected, reason))
            }
            SubmitOutcome::Unavailable(reason) => {
                self.watch_channel(&built);
                Err(Refusal::new(Code::DepositNotConfirmed, reason))
            }
            SubmitOutcome::New | SubmitOutcome::Known | SubmitOutcome::Unknown(_) => {
                self.watch_channel(&built);
                Ok(txid)
            }
        }
    }

    /// Waits for the depth that the configuration asks of a deposit, unless its limit for unconfirmed ones is above zero:
    /// then acceptance is enough, and the limit is applied with the request.
    async fn until_confirmed(
        &self,
        sale: &ChannelSale,
        mut record: Arc<ChannelRecord>,
        deadline: Instant,
    ) -> Result<Arc<ChannelRecord>, Refusal> {
        let rules = rules(sale)?;
        let by = self.settle_by(sale, deadline);
        let mut tip = self.chain.tip();
        loop {
            if record.closure.is_some() {
                return Ok(record);
            }
            let reached = self.confirmed_at(&record, rules);
            let daa_score = tip.borrow_and_update().daa_score;
            let waiting = match reached {
                Ok(None) => return Ok(record),
                Ok(Some(score)) if score <= daa_score || !rules.exposure.unconfirmed.is_zero() => return Ok(record),
                Ok(Some(score)) => Refusal::new(Code::DepositNotConfirmed, format!("at DAA score {daa_score}, confirmed at {score}")),
                Err(refusal) => refusal,
            };
            let mut stored = self.channel_stored(&record.id);
            // Between the look above and the subscription something may have been stored.
            let latest = self.ask(self.store.channel(&record.id)).await.map_err(unusable)?.ok_or_else(channel_unknown)?;
            if *latest == *record {
                let event = timeout_at(by, async {
                    tokio::select! {
                        biased;
                        _ = tip.changed() => {}
                        () = async { match &mut stored {
                            Some(stored) => drop(stored.changed().await),
                            None => std::future::pending().await,
                        } } => {}
                    }
                });
                if event.await.is_err() {
                    return Err(waiting);
                }
            }
            record = self.ask(self.store.channel(&record.id)).await.map_err(unusable)?.ok_or_else(channel_unknown)?;
        }
    }

    /// The DAA score from which the money of a channel is deep enough; the refusal while the chain does not have it.
    pub(super) fn confirmed_at(&self, record: &ChannelRecord, rules: &ChannelRules) -> Result<Option<u64>, Refusal> {
        let deep = |score: u64| Some(score.saturating_add(rules.confirmations));
        let Some(funded) = record.deposit.funded_daa else {
            // Whoever was charged had a deposit once.
            let code = if record.deposit.taken_back { Code::DepositReorganised } else { Code::DepositNotConfirmed };
            return Err(Refusal::new(code, "the node has not accepted the deposit"));
        };
        // A claim that nothing competes with adds nothing to doubt. A top-up brings coins of the client's, whatever was claimed over it since; and
        // of two moves that spend one output a reorganisation may prefer the other one, for whose continuation nothing is signed.
        let doubtful = record.moves.iter().filter(|step| !step.added.is_zero() || record.rivals(step).next().is_some());
        let accepted = doubtful.filter_map(|step| match step.state {
            MoveState::Accepted(acceptance) => Some(acceptance.daa_score),
            MoveState::Built | MoveState::TakenBack => None,
        });
        Ok(deep(accepted.fold(funded, u64::max)))
    }

    fn settle_by(&self, sale: &ChannelSale, deadline: Instant) -> Instant {
        let wait = sale.parts().map(|(pricing, ..)| pricing.settle_wait);
        wait.map_or(deadline, |wait| deadline.min(Instant::now() + wait))
    }
}

fn rules(sale: &ChannelSale) -> Result<&ChannelRules, Refusal> {
    let gone = || Refusal::new(Code::Scheme, "this gateway does not sell from channels any more");
    sale.policy.channels.as_ref().ok_or_else(gone)
}
