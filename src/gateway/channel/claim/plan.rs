//! Whether a channel is to be claimed, when to look at it again, and what its claim would be. Pure.

use crate::{
    binding::escrow_v1::{
        EscrowScript,
        spend::{ClaimPlan, Escrow, SpendError, SpendRules, plan_claim},
    },
    protocol::{amount::Amount, ids::TxId, network::Network, policy::ClaimPolicy, time::UnixMillis},
    store::channels::{ChannelRecord, Move, MoveState, Phase},
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// After so long a claim that is not accepted is reported as stuck.
pub(super) const STUCK_AFTER: Duration = Duration::from_secs(300);
/// After so long a top-up that is not accepted blocks its channel no longer: a claim is built beside it.
pub(super) const TOP_UP_PATIENCE: Duration = Duration::from_secs(60);

/// Why a channel is claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// As much as the policy lets grow.
    Amount,
    /// As long as the policy lets wait.
    Age,
    /// The refund timeout is near.
    RefundNear,
    /// A top-up was built and is not accepted.
    TopUpStuck,
    /// An operator asks for it.
    Asked,
}

/// What is to be done with a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway::channel) enum Judgement {
    /// The escrow is gone.
    Closed,
    /// Everything that was charged is claimed.
    Nothing,
    /// The chain does not have the deposit: there is nothing to spend, for the client neither.
    Unfunded,
    /// Charges hang on a claim that a reorg took and that will not return: no voucher covers them.
    Uncovered,
    /// There is something to claim, and no reason yet.
    NotYet,
    Due(Cause),
    /// A claim is on its way.
    Sent {
        txid: TxId,
        stuck: bool,
    },
}

/// When a judgement may change although nothing happens to the channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::gateway::channel) struct Look {
    pub at: Option<UnixMillis>,
    pub daa_score: Option<u64>,
}

/// Judges a channel.
pub(in crate::gateway::channel) fn judge(
    record: &ChannelRecord,
    daa_score: u64,
    now: UnixMillis,
    policy: &ClaimPolicy,
) -> (Judgement, Look) {
    let window = record.config.refund_timeout_daa.saturating_sub(policy.before_refund_daa);
    let near = daa_score >= window;
    match record.phase() {
        Phase::Closed => (Judgement::Closed, Look::default()),
        Phase::TakenBack => match record.next_moves().next() {
            Some(step) => sent(step, now),
            None => (Judgement::Uncovered, Look::default()),
        },
        Phase::Claiming => claiming(record, now, near, window),
        Phase::Idle | Phase::Streaming => waiting(record, now, near, window, policy),
    }
}

fn waiting(record: &ChannelRecord, now: UnixMillis, near: bool, window: u64, policy: &ClaimPolicy) -> (Judgement, Look) {
    let active = record.active();
    if active.is_zero() {
        return (Judgement::Nothing, Look::default());
    }
    if record.outpoint == record.deposit.outpoint && record.deposit.funded_daa.is_none() {
        return (Judgement::Unfunded, Look::default());
    }
    let old_at = record.unclaimed_since.unwrap_or(record.opened_at).plus_millis(millis(policy.after));
    let cause = if near {
        Cause::RefundNear
    } else if active >= policy.above {
        Cause::Amount
    } else if now >= old_at {
        Cause::Age
    } else {
        return (Judgement::NotYet, Look { at: Some(old_at), daa_score: Some(window) });
    };
    (Judgement::Due(cause), Look::default())
}

/// One plain claim is enough; a top-up is the client's to spoil.
fn claiming(record: &ChannelRecord, now: UnixMillis, near: bool, window: u64) -> (Judgement, Look) {
    if let Some(claim) = record.next_moves().find(|step| step.added.is_zero()) {
        return sent(claim, now);
    }
    let Some(top_up) = record.next_moves().min_by_key(|step| step.built_at) else { return (Judgement::Nothing, Look::default()) };
    let patient_until = top_up.built_at.plus_millis(millis(TOP_UP_PATIENCE));
    if near {
        (Judgement::Due(Cause::RefundNear), Look::default())
    } else if now >= patient_until {
        (Judgement::Due(Cause::TopUpStuck), Look::default())
    } else {
        (Judgement::Sent { txid: top_up.txid, stuck: false }, Look { at: Some(patient_until), daa_score: Some(window) })
    }
}

fn sent(step: &Move, now: UnixMillis) -> (Judgement, Look) {
    debug_assert!(!matches!(step.state, MoveState::Accepted(_)), "what is accepted spends no active outpoint");
    let stuck_at = step.built_at.plus_millis(millis(STUCK_AFTER));
    let stuck = now >= stuck_at;
    (Judgement::Sent { txid: step.txid, stuck }, Look { at: (!stuck).then_some(stuck_at), daa_score: None })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Why nothing is claimed although something is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Uneconomic {
    /// The network takes no such claim.
    #[error("{0}")]
    Network(#[from] SpendError),
    #[error("the fee of {fee} sompi is more than {percent} % of {takes} sompi")]
    Fee { fee: Amount, takes: Amount, percent: u8 },
}

/// The claim of all that is owed. A fee over the least that is relayed is offered where it is worth it.
pub(in crate::gateway::channel) fn plan(
    record: &ChannelRecord,
    script: &EscrowScript,
    network: Network,
    policy: &ClaimPolicy,
    any_fee: bool,
) -> Result<ClaimPlan, Uneconomic> {
    let (takes, rules) = (record.active(), SpendRules::of(network));
    let judged = |rules: &SpendRules| {
        let plan = plan_claim(escrow(record, script), takes, rules)?;
        let percent = policy.max_fee_percent;
        let dear = u128::from(plan.fee.sompi()) * 100 > u128::from(takes.sompi()) * u128::from(percent);
        if dear && !any_fee { Err(Uneconomic::Fee { fee: plan.fee, takes, percent }) } else { Ok(plan) }
    };
    match policy.priority_sompi_per_gram {
        0 => judged(&rules),
        rate => judged(&rules.clone().with_priority(rate)).or_else(|_| judged(&rules)),
    }
}

/// The escrow of a channel as it lies on the chain.
pub(super) fn escrow<'a>(record: &ChannelRecord, script: &'a EscrowScript) -> Escrow<'a> {
    Escrow { script, outpoint: record.outpoint, funding: record.parts.funding }
}
