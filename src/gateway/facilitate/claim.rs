//! Claims that a tenant asks for, and what is offered to it.

use super::{
    Act, Caller, Verdict,
    answers::{self, Told},
    sale::Asked,
};
use crate::{
    binding::escrow_v1::{channel_unknown, payload::ClaimRequest},
    gateway::{
        Gateway,
        channel::{
            self,
            claim::{Unclaimed, Wanted},
        },
        respond::Refusal,
    },
    protocol::{
        amount::Amount,
        ids::{Outpoint, TxId},
        refusal::Code,
        requirements::{Scheme, TemplateId},
    },
    store::channels::{ChannelRecord, MoveState, SettledState},
    wire::{facilitator, messages::SettlementResponse},
};
use serde_json::{Map, json};
use std::sync::Arc;

/// Settled moves read at once when an old claim is asked for again.
const PAGE: u32 = 256;

/// A claim as its record has it.
struct Claimed {
    txid: TxId,
    spends: Outpoint,
    continuation: Outpoint,
    takes: Amount,
    accepted: bool,
}

impl Gateway {
    /// Claims all that the channel owes, which the call has to name. Asked again it finds the same claim.
    pub(super) async fn claim_for(&self, asked: &Asked, claim: &ClaimRequest, act: Act) -> Result<Told, Refusal> {
        let unusable = |_| Refusal::new(Code::StoreUnavailable, "");
        let owned = |record: &Arc<ChannelRecord>| {
            let config = &record.config;
            asked.caller.tenant.owns(&config.server_public_key, &config.pay_to)
        };
        let record = self.ask(self.store.channel(&claim.channel_id)).await.map_err(unusable)?.filter(owned).ok_or_else(channel_unknown)?;
        let script = self.script(&record).map_err(|_| Refusal::new(Code::StoreUnavailable, ""))?;
        if !claim.voucher.verify(&script, claim.funding_outpoint) {
            return Err(channel_unknown().into());
        }
        if claim.active_script_public_key != script.serialized() {
            return Err(Refusal::new(Code::EscrowScript, "activeScriptPublicKey is not the script of the channel"));
        }
        let state = || json!(channel::state(&record, &script));
        // Told as this claim's only when it took what was named; a charge in between changes the sum.
        let told = |known: Claimed| match known.takes == claim.claim_amount {
            true => Ok(self.claim_told(&record, known, act)),
            false => {
                let detail = format!("{} took {} sompi of this outpoint", known.txid, known.takes);
                Err(Refusal::new(Code::ClaimRefused, detail).with("channelState", state()))
            }
        };
        if let Some(known) = self.claimed(&record, claim.funding_outpoint).await? {
            return told(known);
        }
        if claim.funding_outpoint != record.outpoint {
            return Err(Refusal::new(Code::VoucherStaleOutpoint, "nothing of this outpoint was claimed").with("channelState", state()));
        }
        if record.claimable() != claim.claim_amount {
            let detail = format!("{} sompi can be claimed now, all at once", record.claimable());
            return Err(Refusal::new(Code::ClaimRefused, detail).with("channelState", state()));
        }
        if act == Act::Verify {
            return Ok(Told::Valid { payer: None, kaspa: json!({ "channelState": state() }) });
        }
        match self.claim_channel(&record.id, Wanted::Asked).await {
            Ok(report) => {
                let (txid, takes) = (report.txid, report.takes);
                let known =
                    Claimed { txid, spends: report.claim_outpoint, continuation: report.continuation_outpoint, takes, accepted: false };
                told(known)
            }
            // Built between the look above and now, by the policy or by another call.
            Err(Unclaimed::Sent(_)) => {
                let record = self.ask(self.store.channel(&record.id)).await.map_err(unusable)?.ok_or_else(channel_unknown)?;
                match self.claimed(&record, claim.funding_outpoint).await? {
                    Some(known) => told(known),
                    None => Err(Refusal::new(Code::ChannelBusy, "")),
                }
            }
            Err(Unclaimed::Store(_)) => Err(Refusal::new(Code::StoreUnavailable, "")),
            Err(Unclaimed::Busy) => Err(Refusal::new(Code::ChannelBusy, "the channel serves a request")),
            Err(why) => Err(Refusal::new(Code::ClaimRefused, why.to_string()).with("claim", why.code()).with("channelState", state())),
        }
    }

    /// The claim of an outpoint, when there is one: an accepted one before others.
    async fn claimed(&self, record: &ChannelRecord, outpoint: Outpoint) -> Result<Option<Claimed>, Refusal> {
        let built = record.moves.iter().rev().find(|step| step.spends == outpoint && step.added.is_zero());
        if let Some(step) = built {
            let (txid, spends) = (step.txid, step.spends);
            let accepted = matches!(step.state, MoveState::Accepted(_));
            return Ok(Some(Claimed { txid, spends, continuation: step.continuation, takes: step.takes, accepted }));
        }
        let mut after = 0;
        loop {
            let page = self.ask(self.store.settled_moves(&record.id, after, PAGE)).await;
            let page = page.map_err(|_| Refusal::new(Code::StoreUnavailable, ""))?;
            let Some(last) = page.last() else { return Ok(None) };
            after = last.number;
            if let Some(step) =
                page.iter().find(|step| step.spends == outpoint && step.added.is_zero() && step.state != SettledState::TakenBack)
            {
                let (txid, spends) = (step.txid, step.spends);
                return Ok(Some(Claimed { txid, spends, continuation: step.continuation, takes: step.takes, accepted: true }));
            }
        }
    }

    fn claim_told(&self, record: &ChannelRecord, claimed: Claimed, act: Act) -> Told {
        let Claimed { txid, spends, continuation, takes, accepted } = claimed;
        let kaspa = json!({
            "channelId": record.id,
            "claimOutpoint": spends,
            "continuationOutpoint": continuation,
            "claimedAmount": takes,
            "status": if accepted { "accepted" } else { "sent" },
        });
        match act {
            Act::Verify => Told::Valid { payer: None, kaspa },
            Act::Settle => Told::Settled(Box::new(SettlementResponse::settled(txid, record.config.network, None, takes, kaspa))),
        }
    }

    /// What a tenant may ask for, and what its offers have to say.
    pub(super) fn kinds(&self, caller: &Caller) -> Verdict {
        let Caller { policy, tenant } = caller;
        let tip = *self.chain.tip().borrow();
        let allowed = tenant.permissions;
        let mut modes = [("verify", allowed.verify), ("settle", allowed.settle)]
            .into_iter()
            .filter(|(_, may)| *may)
            .map(|(mode, _)| mode)
            .collect::<Vec<_>>();
        let mut kinds = Vec::new();
        if !modes.is_empty() {
            let finality = Map::from_iter([("finality".to_owned(), json!(tenant.exact.finality.level))]);
            kinds.push(facilitator::kind(Scheme::Exact, policy.network, &modes, finality));
        }
        let keys = self.server_keys.load();
        let opening = tenant.server_keys.iter().find(|key| keys.find(key).is_some_and(|key| !key.claim_only()));
        let opening = policy.channels.as_ref().zip(opening);
        if allowed.claim && !tenant.server_keys.is_empty() {
            modes.push("claim");
        }
        if opening.is_none() {
            // Old keys only claim.
            modes.retain(|mode| *mode == "claim");
        }
        if !tenant.server_keys.is_empty() && !modes.is_empty() {
            let mut more = Map::from_iter([("templateId".to_owned(), json!(TemplateId::EscrowV1))]);
            if let Some((rules, key)) = opening {
                more.insert("serverPublicKey".into(), json!(key));
                // A node that was not asked yet has no score to count from.
                if let Some(timeout) = rules.refund_timeout(tip.daa_score).filter(|_| tip.daa_score > 0) {
                    more.insert("refundTimeoutDaa".into(), timeout.to_string().into());
                }
            }
            kinds.push(facilitator::kind(Scheme::BatchSettlement, policy.network, &modes, more));
        }
        answers::json(200, &facilitator::supported(kinds))
    }
}
