//! Channels for people and scripts: what a record says, and what its claim would be.
//!
//! Made from a record alone, so that the command line shows the same beside a running gateway and without one. Reads, and promises nothing.

use super::claim::{Cause, ClaimReport, Judgement, Unclaimed, Wanted, judge, plan};
use crate::{
    binding::escrow_v1::{EscrowScript, ServerKeys},
    gateway::Gateway,
    protocol::{
        amount::Amount,
        decimal,
        ids::{ChannelId, Outpoint, TxId, XOnlyKey},
        policy::ClaimPolicy,
        time::UnixMillis,
    },
    store::{
        StoreError,
        channels::{ChannelQuery, ChannelRecord, ChannelSelection, MoveState, Phase},
    },
};
use serde::{Deserialize, Serialize};

/// One channel. Amounts are decimal strings of sompi, as on the wire; times milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChannelView {
    pub channel: ChannelId,
    /// Order of the openings, for paging.
    pub sequence: u64,
    pub phase: PhaseView,
    pub client_public_key: XOnlyKey,
    pub server_public_key: XOnlyKey,
    pub pay_to: String,
    pub refund_address: String,
    #[serde(with = "decimal")]
    pub refund_timeout_daa: u64,
    /// The node's DAA score when this was asked; `None` without a node.
    pub daa_score: Option<u64>,
    pub outpoint: Outpoint,
    pub funding: Amount,
    pub charged: Amount,
    pub claimed: Amount,
    /// Charged and not claimed.
    pub unclaimed: Amount,
    pub reserved: Amount,
    pub signed: Amount,
    /// What a claim must leave.
    pub reserve: Amount,
    pub charges: u64,
    pub opened_at: UnixMillis,
    pub last_charge_at: Option<UnixMillis>,
    pub unclaimed_since: Option<UnixMillis>,
    pub deposit: DepositView,
    /// Claims and top-ups that are not final, oldest first.
    pub moves: Vec<MoveView>,
    pub closure: Option<ClosureView>,
    pub claim: ClaimView,
}

/// [`Phase`], in words for scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhaseView {
    Idle,
    Streaming,
    Claiming,
    TakenBack,
    Closed,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DepositView {
    pub outpoint: Outpoint,
    pub amount: Amount,
    /// DAA score of its block; `None` while it is not accepted.
    pub funded_daa: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MoveView {
    pub txid: TxId,
    pub state: MoveStateView,
    pub claim_outpoint: Outpoint,
    pub continuation_outpoint: Outpoint,
    pub takes: Amount,
    pub fee: Amount,
    /// Of a top-up.
    pub added: Amount,
    pub built_at: UnixMillis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MoveStateView {
    Built,
    Accepted,
    TakenBack,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClosureView {
    pub by: TxId,
    pub daa_score: u64,
    #[serde(rename = "final")]
    pub is_final: bool,
}

/// What would become of a claim now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimView {
    /// `due`, `possible` (asked for, it would be claimed), or a code of [`Unclaimed`].
    pub state: String,
    /// For people.
    pub reason: Option<String>,
    pub cause: Option<Cause>,
    pub takes: Amount,
    pub fee: Option<Amount>,
    pub payout: Option<Amount>,
    /// On its way for so long that somebody should look.
    pub stuck: bool,
}

/// One channel of `claim --all`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    pub channel: ChannelId,
    pub claim: Option<ClaimReport>,
    /// A code of [`Unclaimed`], and its words.
    pub unclaimed: Option<(String, String)>,
}

/// What a view needs besides the record.
pub struct Beside<'a> {
    pub daa_score: Option<u64>,
    pub now: UnixMillis,
    pub policy: ClaimPolicy,
    /// `None`: not known here, so not judged.
    pub keys: Option<&'a ServerKeys>,
}

impl ChannelView {
    pub fn of(record: &ChannelRecord, beside: &Beside<'_>) -> Self {
        let parts = record.parts;
        let moves = record.moves.iter().map(|step| MoveView {
            txid: step.txid,
            state: match step.state {
                MoveState::Built => MoveStateView::Built,
                MoveState::Accepted(_) => MoveStateView::Accepted,
                MoveState::TakenBack => MoveStateView::TakenBack,
            },
            claim_outpoint: step.spends,
            continuation_outpoint: step.continuation,
            takes: step.takes,
            fee: step.fee,
            added: step.added,
            built_at: step.built_at,
        });
        Self {
            channel: record.id,
            sequence: record.sequence,
            phase: match record.phase() {
                Phase::Idle => PhaseView::Idle,
                Phase::Streaming => PhaseView::Streaming,
                Phase::Claiming => PhaseView::Claiming,
                Phase::TakenBack => PhaseView::TakenBack,
                Phase::Closed => PhaseView::Closed,
            },
            client_public_key: record.config.client_public_key,
            server_public_key: record.config.server_public_key,
            pay_to: record.config.pay_to.clone(),
            refund_address: record.config.refund_address.clone(),
            refund_timeout_daa: record.config.refund_timeout_daa,
            daa_score: beside.daa_score,
            outpoint: record.outpoint,
            funding: parts.funding,
            charged: parts.charged,
            claimed: parts.claimed,
            unclaimed: record.active(),
            reserved: parts.reserved,
            signed: parts.signed,
            reserve: record.reserve,
            charges: record.charges,
            opened_at: record.opened_at,
            last_charge_at: record.last_charge_at,
            unclaimed_since: record.unclaimed_since,
            deposit: DepositView {
                outpoint: record.deposit.outpoint,
                amount: record.deposit.funding,
                funded_daa: record.deposit.funded_daa,
            },
            moves: moves.collect(),
            closure: record.closure.map(|closure| ClosureView {
                by: closure.by,
                daa_score: closure.acceptance.daa_score,
                is_final: closure.is_final,
            }),
            claim: ClaimView::of(record, beside),
        }
    }

    /// DAA score until the client may take the rest; 0 when it may. `None` without a node.
    pub fn until_refund(&self) -> Option<u64> {
        self.daa_score.map(|now| self.refund_timeout_daa.saturating_add(1).saturating_sub(now))
    }
}

impl ClaimView {
    fn of(record: &ChannelRecord, beside: &Beside<'_>) -> Self {
        let (judgement, _) = judge(record, beside.daa_score.unwrap_or_default(), beside.now, &beside.policy);
        let owed = record.claimable();
        let no = |error: Unclaimed, stuck| Self {
            state: error.code().to_owned(),
            reason: Some(error.to_string()),
            cause: None,
            takes: owed,
            fee: None,
            payout: None,
            stuck,
        };
        let (state, cause) = match judgement {
            Judgement::Closed => return no(Unclaimed::Closed, false),
            Judgement::Nothing => return no(Unclaimed::Nothing, false),
            Judgement::Unfunded => return no(Unclaimed::Unfunded, false),
            Judgement::Uncovered => return no(Unclaimed::Uncovered, false),
            Judgement::Sent { txid, stuck, .. } => return no(Unclaimed::Sent(txid), stuck),
            Judgement::NotYet => ("possible", None),
            Judgement::Due(cause) => ("due", Some(cause)),
        };
        let key = record.config.server_public_key;
        if beside.keys.is_some_and(|keys| keys.find(&key).is_none()) {
            return no(Unclaimed::NoKey(key), false);
        }
        let planned = EscrowScript::of(&record.config)
            .map_err(Unclaimed::from)
            .and_then(|script| plan(record, &script, record.config.network, &beside.policy, false).map_err(Unclaimed::from));
        match planned {
            Err(error) => no(error, false),
            Ok(plan) => Self {
                state: state.to_owned(),
                reason: None,
                cause,
                takes: plan.takes,
                fee: Some(plan.fee),
                payout: Some(plan.payout),
                stuck: false,
            },
        }
    }
}

impl Gateway {
    /// Channels in the order of their openings, `limit` at a time, after a sequence.
    pub async fn channel_views(&self, open_only: bool, after: u64, limit: u32) -> Result<Vec<ChannelView>, StoreError> {
        let selection = if open_only { ChannelSelection::Open } else { ChannelSelection::All };
        let page = self.ask(self.store.channels(&ChannelQuery { selection, after, limit })).await?;
        Ok(page.iter().map(|record| self.view(record)).collect())
    }

    pub async fn channel_view(&self, id: &ChannelId) -> Result<Option<ChannelView>, StoreError> {
        Ok(self.ask(self.store.channel(id)).await?.map(|record| self.view(&record)))
    }

    fn view(&self, record: &ChannelRecord) -> ChannelView {
        let keys = self.server_keys.load();
        let daa_score = Some(self.tip().daa_score).filter(|score| *score > 0);
        ChannelView::of(record, &Beside { daa_score, now: self.now(), policy: self.claim_policy(), keys: Some(&keys) })
    }

    /// One claim by an operator.
    pub async fn claim_by_hand(&self, id: &ChannelId, any_fee: bool) -> Outcome {
        let wanted = if any_fee { Wanted::AnyFee } else { Wanted::Asked };
        match self.claim_channel(id, wanted).await {
            Ok(claim) => Outcome { channel: *id, claim: Some(claim), unclaimed: None },
            Err(error) => Outcome { channel: *id, claim: None, unclaimed: Some((error.code().to_owned(), error.to_string())) },
        }
    }
}

#[cfg(test)]
pub(crate) mod samples;

#[cfg(test)]
mod tests {
    use super::{samples::*, *};

    #[test]
    fn a_view_says_what_a_claim_would_be_and_why_there_is_none() {
        let later = ClaimPolicy { above: Amount::from_sompi(900_000_000).unwrap(), ..BY_AMOUNT };
        let none = ServerKeys::default();
        let check = |owed: u64, policy: ClaimPolicy, keys: Option<&ServerKeys>, daa_score: u64, expect: (&str, bool)| {
            let beside = Beside { daa_score: Some(daa_score), now: UnixMillis(3_000), policy, keys };
            let claim = ChannelView::of(&record(1, owed), &beside).claim;
            assert_eq!((claim.state.as_str(), claim.payout.is_some()), expect, "{owed} {claim:?}");
            assert_eq!(claim.reason.is_none(), claim.payout.is_some());
        };
        check(0, BY_AMOUNT, None, 5, ("nothing_to_claim", false));
        check(300_000_000, BY_AMOUNT, None, 5, ("due", true));
        check(300_000_000, later, None, 5, ("possible", true));
        check(300_000_000, later, None, 99_000, ("due", true));
        check(1_000_000, BY_AMOUNT, None, 5, ("uneconomic", false));
        check(300_000_000, BY_AMOUNT, Some(&none), 5, ("server_key_missing", false));
    }

    #[test]
    fn a_view_survives_json_and_counts_down_to_the_refund() {
        for (daa_score, expect) in [(None, None), (Some(5), Some(99_996)), (Some(100_000), Some(1)), (Some(100_001), Some(0))] {
            let view = view(2, 7, daa_score);
            assert_eq!(view.until_refund(), expect);
            assert_eq!(serde_json::from_value::<ChannelView>(serde_json::to_value(&view).unwrap()).unwrap(), view);
        }
    }
}
