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

/// After so long a claim that is not accepted is reported as stuck, and after as long again and again it is built with a greater fee.
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
    /// A claim was built and is not accepted: the network asks for more.
    FeeTooLow,
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
    /// Charges hang on a claim or top-up that a reorg took for good: no voucher covers what is left of them.
    Uncovered,
    /// There is something to claim, and no reason yet.
    NotYet,
    Due(Cause),
    /// A claim is on its way.
    Sent {
        txid: TxId,
        stuck: bool,
        /// The latest one had its time: a claim that pays more than this may be built in its place.
        raise: Option<Amount>,
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
        Phase::TakenBack => taken_back(record, now, near, window, policy),
        Phase::Claiming => claiming(record, now, near, window),
        Phase::Idle | Phase::Streaming => waiting(record, now, near, window, policy),
    }
}

fn waiting(record: &ChannelRecord, now: UnixMillis, near: bool, window: u64, policy: &ClaimPolicy) -> (Judgement, Look) {
    let owed = record.claimable();
    if owed.is_zero() {
        return (if record.active().is_zero() { Judgement::Nothing } else { Judgement::Uncovered }, Look::default());
    }
    if record.outpoint == record.deposit.outpoint && record.deposit.funded_daa.is_none() {
        return (Judgement::Unfunded, Look::default());
    }
    let old_at = record.unclaimed_since.unwrap_or(record.opened_at).plus_millis(millis(policy.after));
    let cause = if near {
        Cause::RefundNear
    } else if owed >= policy.above {
        Cause::Amount
    } else if now >= old_at {
        Cause::Age
    } else {
        return (Judgement::NotYet, Look { at: Some(old_at), daa_score: Some(window) });
    };
    (Judgement::Due(cause), Look::default())
}

/// What was taken back is sent again and mostly returns: nothing is claimed beside a top-up before the refund is near. When nothing can
/// return, what the voucher covers is claimed like anything else.
fn taken_back(record: &ChannelRecord, now: UnixMillis, near: bool, window: u64, policy: &ClaimPolicy) -> (Judgement, Look) {
    let first = |plain: bool| record.next_moves().filter(|step| step.added.is_zero() == plain).min_by_key(|step| step.built_at);
    match (first(true), first(false)) {
        (Some(_), _) => claimed(record, now, near, window),
        (None, Some(_)) if near && !record.claimable().is_zero() => (Judgement::Due(Cause::RefundNear), Look::default()),
        (None, Some(top_up)) => {
            let (judgement, look) = sent(top_up, now);
            (judgement, Look { daa_score: (!near).then_some(window), ..look })
        }
        (None, None) => waiting(record, now, near, window, policy),
    }
}

/// One plain claim is enough; a top-up is the client's to spoil.
fn claiming(record: &ChannelRecord, now: UnixMillis, near: bool, window: u64) -> (Judgement, Look) {
    if record.next_moves().any(|step| step.added.is_zero()) {
        return claimed(record, now, near, window);
    }
    let Some(top_up) = record.next_moves().min_by_key(|step| step.built_at) else { return (Judgement::Nothing, Look::default()) };
    let patient_until = top_up.built_at.plus_millis(millis(TOP_UP_PATIENCE));
    if near {
        (Judgement::Due(Cause::RefundNear), Look::default())
    } else if now >= patient_until {
        (Judgement::Due(Cause::TopUpStuck), Look::default())
    } else {
        (Judgement::Sent { txid: top_up.txid, stuck: false, raise: None }, Look { at: Some(patient_until), daa_score: Some(window) })
    }
}

fn sent(step: &Move, now: UnixMillis) -> (Judgement, Look) {
    debug_assert!(!matches!(step.state, MoveState::Accepted(_)), "what is accepted spends no active outpoint");
    let stuck_at = step.built_at.plus_millis(millis(STUCK_AFTER));
    let stuck = now >= stuck_at;
    (Judgement::Sent { txid: step.txid, stuck, raise: None }, Look { at: (!stuck).then_some(stuck_at), daa_score: None })
}

/// Plain claims are on their way: each was built because the one before it was not accepted.
fn claimed(record: &ChannelRecord, now: UnixMillis, near: bool, window: u64) -> (Judgement, Look) {
    let claims = || record.next_moves().filter(|step| step.added.is_zero());
    let (Some(first), Some(last)) = (claims().next(), claims().max_by_key(|step| step.fee)) else {
        return (Judgement::Nothing, Look::default());
    };
    let (judgement, look) = sent(first, now);
    let Judgement::Sent { stuck, .. } = judgement else { return (judgement, look) };
    // One that was accepted once pays enough.
    let raisable = last.state == MoveState::Built;
    let raise_at = last.built_at.plus_millis(millis(STUCK_AFTER));
    let raise = (raisable && now >= raise_at).then_some(last.fee);
    let at = look.at.into_iter().chain((raisable && raise.is_none()).then_some(raise_at)).min();
    // Near the refund more may be paid.
    let daa_score = (raisable && !near).then_some(window);
    (Judgement::Sent { txid: last.txid, stuck, raise }, Look { at, daa_score })
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
    #[error("{paid} sompi are offered, and no more than {cap} are allowed")]
    Capped { paid: Amount, cap: Amount },
}

/// The claim of all that is owed and covered. A fee over the least that is relayed is offered where it is worth it.
pub(in crate::gateway::channel) fn plan(
    record: &ChannelRecord,
    script: &EscrowScript,
    network: Network,
    policy: &ClaimPolicy,
    any_fee: bool,
) -> Result<ClaimPlan, Uneconomic> {
    let (takes, rules) = (record.claimable(), SpendRules::of(network));
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

/// The claim in place of one that pays `over` and is not accepted: twice as much, but never more than what a claim must leave in the escrow
/// nor, unless `any_fee`, than the policy allows.
pub(in crate::gateway::channel) fn raised(
    record: &ChannelRecord,
    script: &EscrowScript,
    network: Network,
    policy: &ClaimPolicy,
    over: Amount,
    any_fee: bool,
) -> Result<ClaimPlan, Uneconomic> {
    let (takes, rules) = (record.claimable(), SpendRules::of(network));
    let percent = u128::from(if any_fee { 100 } else { policy.max_fee_percent });
    let allowed = u64::try_from(u128::from(takes.sompi()) * percent / 100).unwrap_or(u64::MAX);
    let cap = Amount::from_sompi(allowed).unwrap_or(takes).min(record.reserve);
    let fee = over.checked_add(over).unwrap_or(cap).min(cap);
    if fee <= over {
        return Err(Uneconomic::Capped { paid: over, cap });
    }
    Ok(plan_claim(escrow(record, script), takes, &rules.with_least_fee(fee))?)
}

/// The escrow of a channel as it lies on the chain.
pub(super) fn escrow<'a>(record: &ChannelRecord, script: &'a EscrowScript) -> Escrow<'a> {
    Escrow { script, outpoint: record.outpoint, funding: record.parts.funding }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        binding::escrow_v1::SignedVoucher,
        gateway::channel::report::samples::record,
        protocol::{
            acceptance::Acceptance,
            ids::{BlockHash, Outpoint, SchnorrSignature},
        },
        store::channels::{Aside, Closure, Deposit},
    };

    const KAS: u64 = 100_000_000;
    /// From 5 KAS, after 100 s, or 1,000 before the timeout at 100,000.
    const POLICY: ClaimPolicy = ClaimPolicy {
        automatic: true,
        above: Amount::ZERO,
        after: Duration::from_secs(100),
        before_refund_daa: 1_000,
        max_fee_percent: 20,
        priority_sompi_per_gram: 0,
    };

    fn amount(sompi: u64) -> Amount {
        Amount::from_sompi(sompi).unwrap()
    }

    /// A move of the active outpoint, built at second 10.
    fn step(record: &ChannelRecord, byte: u8, added: u64, state: MoveState) -> Move {
        let txid = TxId([byte; 32]);
        Move {
            txid,
            transaction: vec![],
            spends: record.outpoint,
            held: record.parts.funding,
            voucher: SignedVoucher { amount: amount(3 * KAS), signature: SchnorrSignature([1; 64]) },
            spends_reserve: record.reserve,
            takes: amount(3 * KAS),
            fee: amount(1),
            added: amount(added),
            continuation: Outpoint { txid, index: 1 },
            funding: amount(7 * KAS + added),
            reserve: record.reserve,
            built_at: UnixMillis(10_000),
            state,
            aside: Aside::default(),
        }
    }

    #[test]
    fn amount_age_and_the_nearness_of_the_refund_decide() {
        let policy = ClaimPolicy { above: amount(5 * KAS), ..POLICY };
        let look = |at: u64, daa_score: u64| Look { at: Some(UnixMillis(at)), daa_score: Some(daa_score) };
        let later = (Judgement::NotYet, look(102_000, 99_000));
        let due = |cause| (Judgement::Due(cause), Look::default());
        // The oldest charge was made at second 2.
        for (owed, daa_score, now, expect) in [
            (0, 5, 3_000, (Judgement::Nothing, Look::default())),
            (0, 99_999, 999_000, (Judgement::Nothing, Look::default())),
            (1, 5, 3_000, later),
            (5 * KAS - 1, 98_999, 101_999, later),
            (5 * KAS, 5, 3_000, due(Cause::Amount)),
            (1, 5, 102_000, due(Cause::Age)),
            (1, 99_000, 3_000, due(Cause::RefundNear)),
            (5 * KAS, 100_500, 999_000, due(Cause::RefundNear)),
        ] {
            assert_eq!(judge(&record(1, owed), daa_score, UnixMillis(now), &policy), expect, "{owed} {daa_score} {now}");
        }
        let far = ClaimPolicy { before_refund_daa: 1_000_000, ..policy };
        assert_eq!(judge(&record(1, 1), 0, UnixMillis(0), &far), due(Cause::RefundNear), "a window longer than the channel");
    }

    #[test]
    fn what_is_on_its_way_gone_or_not_there_is_not_claimed() {
        let check = |change: &dyn Fn(&mut ChannelRecord), daa_score: u64, now: u64, expect: Judgement, at: Option<u64>| {
            let mut record = record(1, 3 * KAS);
            change(&mut record);
            let (judgement, look) = judge(&record, daa_score, UnixMillis(now), &POLICY);
            assert_eq!((judgement, look.at), (expect, at.map(UnixMillis)), "{now}");
        };
        let push = |byte, added, state| {
            move |record: &mut ChannelRecord| {
                let step = step(record, byte, added, state);
                record.moves.push(step);
            }
        };
        let sent = |byte, stuck| Judgement::Sent { txid: TxId([byte; 32]), stuck, raise: None };
        let raise = |byte, over| Judgement::Sent { txid: TxId([byte; 32]), stuck: true, raise: Some(amount(over)) };
        let (claim, top_up, back) = (push(7, 0, MoveState::Built), push(8, KAS, MoveState::Built), push(9, 0, MoveState::TakenBack));
        check(&claim, 5, 20_000, sent(7, false), Some(310_000));
        check(&claim, 99_999, 309_999, sent(7, false), Some(310_000));
        check(&claim, 5, 310_000, raise(7, 1), None);
        // A second one has its time too.
        let second = |at: u64| {
            move |record: &mut ChannelRecord| {
                claim(record);
                let step = Move { fee: amount(2), built_at: UnixMillis(at), ..step(record, 6, 0, MoveState::Built) };
                record.moves.push(step);
            }
        };
        check(&second(310_000), 5, 310_001, sent(6, true), Some(610_000));
        check(&second(310_000), 5, 610_000, raise(6, 2), None);
        check(&back, 5, 310_000, sent(9, true), None);
        // A top-up is waited for, but not for long and not near the end; a claim beside it is enough.
        check(&top_up, 5, 20_000, sent(8, false), Some(70_000));
        check(&top_up, 5, 70_000, Judgement::Due(Cause::TopUpStuck), None);
        check(&top_up, 99_000, 20_000, Judgement::Due(Cause::RefundNear), None);
        let both = |record: &mut ChannelRecord| (top_up(record), claim(record)).0;
        check(&both, 5, 70_000, sent(7, false), Some(310_000));
        check(&|record| record.deposit = Deposit { funded_daa: None, ..record.deposit.clone() }, 99_999, 3_000, Judgement::Unfunded, None);
        // Taken back: waited for until the refund is near, unless it is a claim of ours.
        let back_up = push(10, KAS, MoveState::TakenBack);
        check(&back_up, 98_999, 20_000, sent(10, false), Some(310_000));
        check(&back_up, 98_999, 310_000, sent(10, true), None);
        check(&back_up, 99_000, 20_000, Judgement::Due(Cause::RefundNear), None);
        let both = |record: &mut ChannelRecord| (back_up(record), claim(record)).0;
        check(&both, 99_000, 20_000, sent(7, false), Some(310_000));
        // Nothing can return: claimed is what the voucher covers, when it is due.
        let covers = |sompi| move |record: &mut ChannelRecord| record.parts.signed = amount(sompi);
        check(&covers(0), 99_999, 999_000, Judgement::Uncovered, None);
        check(&covers(KAS), 5, 3_000, Judgement::Due(Cause::Amount), None);
        check(&|record| (back_up(record), covers(0)(record)).0, 99_999, 20_000, sent(10, false), Some(310_000));
        let acceptance = Acceptance { block: BlockHash([1; 32]), blue_score: 1, daa_score: 1 };
        let gone = |record: &mut ChannelRecord| {
            record.closure = Some(Closure { outpoint: record.outpoint, by: TxId([1; 32]), acceptance, is_final: false });
        };
        check(&gone, 5, 3_000, Judgement::Closed, None);
    }
}
