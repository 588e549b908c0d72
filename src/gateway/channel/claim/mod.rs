//! Claims: what was charged is brought to the recipient (PROTOCOL section 5).
//!
//! A claim takes all that is owed, under a lease; it is durable, signed, before it is sent, and from then on the record itself keeps requests
//! out until the chain decides. From the moment it is built it is `watch` that sees it through, whatever becomes of this process. [`Gateway::claim_channel`]
//! is the only place that signs with a server key, besides top-ups. Called by the automatic claimer and by operators.

mod automatic;
mod plan;
mod stream;

pub(super) use automatic::Claimer;
pub use plan::{Cause, Uneconomic};
pub(super) use plan::{Judgement, judge, plan, raised};

use super::super::{Gateway, crash};
use crate::{
    binding::escrow_v1::{
        config::ConfigError,
        spend::{SpendRules, reserve},
    },
    chain::SubmitOutcome,
    protocol::{
        amount::Amount,
        ids::{ChannelId, Outpoint, TxId, XOnlyKey},
        policy::ClaimPolicy,
    },
    store::{
        StoreError,
        channels::{Aside, ChannelFact, ChannelRecord, ChannelStep, Lease, LeaseAsk, Leased, Move, MoveState, Purpose},
    },
};
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, timeout_at};

/// A channel that is leased is asked for again so often; a request that ends with a charge is told of, others are not.
const LEASE_RETRY: Duration = Duration::from_millis(250);

/// Who wants a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The policy: when it is due, and worth its fee.
    Due,
    /// An operator: now, when it is worth its fee.
    Asked,
    /// An operator: now, whatever the fee.
    AnyFee,
}

/// A claim that was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimReport {
    pub channel: ChannelId,
    pub cause: Cause,
    pub txid: TxId,
    /// What it spends.
    pub claim_outpoint: Outpoint,
    /// The active outpoint once it is accepted.
    pub continuation_outpoint: Outpoint,
    /// What leaves the escrow: `payout + fee`.
    pub takes: Amount,
    pub fee: Amount,
    pub payout: Amount,
    /// What stays in the escrow.
    pub continuation: Amount,
    /// The node took it. Otherwise it is sent again until it is accepted, or a spend that excludes it is.
    pub taken: bool,
}

/// Why nothing was claimed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unclaimed {
    #[error("there is no such channel")]
    Unknown,
    #[error("the channel is closed: its escrow was spent by the client")]
    Closed,
    #[error("everything that was charged is claimed")]
    Nothing,
    #[error("the deposit is not accepted by the chain")]
    Unfunded,
    #[error("no voucher covers what is still owed: it hangs on a claim or top-up that a reorg took for good")]
    Uncovered,
    #[error("not due by the claim policy")]
    NotYet,
    #[error("claim {0} is on its way")]
    Sent(TxId),
    #[error("claim {0} is not accepted, and a greater fee is not worth it: {1}")]
    Stuck(TxId, Uneconomic),
    #[error("the channel serves a request; try again")]
    Busy,
    #[error("uneconomic: {0}")]
    Uneconomic(#[from] Uneconomic),
    #[error("the server key {0} is not configured")]
    NoKey(XOnlyKey),
    #[error("the network proves that the claim can never be valid: {0}")]
    Rejected(String),
    #[error("the record of the channel does not allow a claim")]
    Refused,
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Unclaimed {
    /// A stable word.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unknown => "channel_unknown",
            Self::Closed => "channel_closed",
            Self::Nothing => "nothing_to_claim",
            Self::Unfunded => "deposit_unfunded",
            Self::Uncovered => "charges_uncovered",
            Self::NotYet => "not_due",
            Self::Sent(_) => "claim_sent",
            Self::Stuck(..) => "claim_stuck",
            Self::Busy => "channel_busy",
            Self::Uneconomic(_) => "uneconomic",
            Self::NoKey(_) => "server_key_missing",
            Self::Rejected(_) => "claim_rejected",
            Self::Refused | Self::Config(_) => "claim_refused",
            Self::Store(_) => "store_unavailable",
        }
    }
}

/// The claims of a gateway whose policy says nothing about them: none is due, an operator asks, and sees the fee.
pub const BY_HAND: ClaimPolicy = ClaimPolicy {
    automatic: false,
    above: Amount::MAX,
    after: Duration::MAX,
    before_refund_daa: 0,
    max_fee_percent: 100,
    priority_sompi_per_gram: 0,
};

impl Gateway {
    /// Claims all that a channel owes, and sends the claim; its acceptance is not waited for. A caller that goes away stops nothing half-way.
    pub async fn claim_channel(&self, id: &ChannelId, wanted: Wanted) -> Result<ClaimReport, Unclaimed> {
        let (Some(gateway), id) = (self.arc(), *id) else { return Err(Unclaimed::Refused) };
        let claim = async move {
            let claimed = gateway.claim_alone(&id, wanted).await;
            if claimed.is_err()
                && wanted != Wanted::Due
                && let Ok(Some(record)) = gateway.ask(gateway.store.channel(&id)).await
            {
                // While an operator had the turn the claimer left the channel to them; its own failures it knows.
                gateway.consider_claim(&record);
            }
            claimed
        };
        tokio::spawn(claim).await.unwrap_or(Err(Unclaimed::Refused))
    }

    async fn claim_alone(&self, id: &ChannelId, wanted: Wanted) -> Result<ClaimReport, Unclaimed> {
        let Some(_turn) = self.channels.claimer.turn(*id) else { return Err(Unclaimed::Busy) };
        let record = self.ask(self.store.channel(id)).await?.ok_or(Unclaimed::Unknown)?;
        if record.stream.is_none() {
            // No lease is taken from a request for nothing.
            self.build(&record, wanted)?;
        }
        loop {
            let (lease, record) = self.lease_for_upkeep(id).await?;
            if record.stream.is_some() {
                self.post_left_behind(lease, &record).await?;
                continue;
            }
            match self.build(&record, wanted) {
                Ok((cause, step)) => return self.send_claim(lease, &record, cause, step).await,
                Err(error) => {
                    self.release_lease(&lease).await;
                    return Err(error);
                }
            }
        }
    }

    /// Waits for the end of the request that the channel serves, as long as a hold lasts.
    pub(in crate::gateway) async fn lease_for_upkeep(&self, id: &ChannelId) -> Result<(Lease, Arc<ChannelRecord>), Unclaimed> {
        let deadline = Instant::now() + self.limits.hold;
        let waiting = self.channels.claimer.wait_for(*id);
        loop {
            let ask = LeaseAsk { channel: *id, purpose: Purpose::Upkeep, holder: self.holder, hold_millis: self.limits.hold_millis() };
            match self.ask(self.store.lease(&ask, self.now())).await? {
                Leased::Held(lease, record) => return Ok((lease, record)),
                Leased::Unknown => return Err(Unclaimed::Unknown),
                Leased::Busy { .. } if Instant::now() >= deadline => return Err(Unclaimed::Busy),
                // Only requests are answered otherwise.
                Leased::Replay(_) | Leased::IdentifierReused | Leased::NonceReused => return Err(Unclaimed::Refused),
                Leased::Busy { .. } => {
                    // why: a lease that is released without a charge, or expires, tells nobody
                    let _ = timeout_at(deadline.min(Instant::now() + LEASE_RETRY), waiting.charged()).await;
                }
            }
        }
    }

    /// What the policy says about claims.
    pub(super) fn claim_policy(&self) -> ClaimPolicy {
        self.policy.load().channels.as_ref().map_or(BY_HAND, |channels| channels.claims)
    }

    /// The signed claim, or why there is none.
    fn build(&self, record: &ChannelRecord, wanted: Wanted) -> Result<(Cause, Move), Unclaimed> {
        let (policy, daa_score) = (self.claim_policy(), self.tip().daa_score);
        let mut over = None;
        let cause = match judge(record, daa_score, self.now(), &policy).0 {
            Judgement::Closed => return Err(Unclaimed::Closed),
            Judgement::Nothing => return Err(Unclaimed::Nothing),
            Judgement::Unfunded => return Err(Unclaimed::Unfunded),
            Judgement::Uncovered => return Err(Unclaimed::Uncovered),
            Judgement::Sent { txid, raise: Some(fee), .. } => {
                over = Some((txid, fee));
                if wanted == Wanted::Due { Cause::FeeTooLow } else { Cause::Asked }
            }
            // Beside a top-up an operator may claim at any time.
            Judgement::Sent { txid, .. } if wanted == Wanted::Due || !only_topped_up(record) => return Err(Unclaimed::Sent(txid)),
            Judgement::NotYet if wanted == Wanted::Due => return Err(Unclaimed::NotYet),
            Judgement::NotYet | Judgement::Sent { .. } => Cause::Asked,
            Judgement::Due(cause) if wanted == Wanted::Due => cause,
            Judgement::Due(_) => Cause::Asked,
        };
        let script = self.script(record)?;
        let network = record.config.network;
        let any_fee = wanted == Wanted::AnyFee;
        let planned = match over {
            None => plan(record, &script, network, &policy, any_fee)?,
            Some((txid, fee)) => {
                // What is not claimed before the refund is lost.
                let any_fee = any_fee || daa_score >= record.config.refund_timeout_daa.saturating_sub(policy.before_refund_daa);
                raised(record, &script, network, &policy, fee, any_fee).map_err(|why| Unclaimed::Stuck(txid, why))?
            }
        };
        let keys = self.server_keys.load();
        let key = keys.find(&record.config.server_public_key).ok_or(Unclaimed::NoKey(record.config.server_public_key))?;
        let voucher = record.voucher.ok_or(Unclaimed::Refused)?;
        let signed = planned.sign(plan::escrow(record, &script), &voucher, |digest| key.sign(digest)).map_err(Uneconomic::Network)?;
        let step = Move {
            txid: signed.txid,
            transaction: crate::binding::exact_v1::decode::encode(&signed.transaction),
            spends: record.outpoint,
            held: record.parts.funding,
            voucher,
            spends_reserve: record.reserve,
            takes: planned.takes,
            fee: planned.fee,
            added: Amount::ZERO,
            continuation: signed.continuation,
            funding: signed.funding,
            // What can never be claimed again covers no voucher.
            reserve: reserve(&script, signed.funding, &SpendRules::of(network)).unwrap_or(signed.funding),
            built_at: self.now(),
            state: MoveState::Built,
            aside: Aside::default(),
        };
        Ok((cause, step))
    }

    async fn send_claim(&self, lease: Lease, record: &Arc<ChannelRecord>, cause: Cause, step: Move) -> Result<ClaimReport, Unclaimed> {
        let built = self.ask(self.store.advance_channel(&lease, ChannelFact::MoveBuilt(Box::new(step.clone())), self.now())).await;
        let record = match built {
            Ok(ChannelStep::Done(record)) => record,
            Ok(ChannelStep::Stale) => return Err(Unclaimed::Busy),
            Ok(ChannelStep::Refused) => {
                self.release_lease(&lease).await;
                return Err(Unclaimed::Refused);
            }
            Err(error) => {
                // Durable perhaps, and then sent by the watcher.
                self.watch_channel(record);
                return Err(error.into());
            }
        };
        crash::point("claim_built");
        self.metrics.claims.built.inc();
        let (channel, txid) = (record.id, step.txid);
        tracing::info!(%channel, %txid, ?cause, takes_sompi = step.takes.sompi(), fee_sompi = step.fee.sompi(), "claim built");
        self.watch_channel(&record);
        self.channel_changed(&record);
        let transaction = crate::binding::exact_v1::decode::read_stored(&step.transaction).map_err(|_| Unclaimed::Refused)?;
        let outcome = self.submit_of(&record, &txid, &transaction).await;
        crash::point("claim_submitted");
        let taken = match outcome {
            SubmitOutcome::Rejected(reason) => return Err(Unclaimed::Rejected(reason)),
            SubmitOutcome::New | SubmitOutcome::Known => true,
            SubmitOutcome::Unknown(_) | SubmitOutcome::Unavailable(_) => false,
        };
        Ok(ClaimReport {
            channel,
            cause,
            txid,
            claim_outpoint: step.spends,
            continuation_outpoint: step.continuation,
            takes: step.takes,
            fee: step.fee,
            payout: step.takes.checked_sub(step.fee).unwrap_or(Amount::ZERO),
            continuation: step.funding,
            taken,
        })
    }
}

/// Top-ups of the active outpoint are built, or were taken back, and no claim.
fn only_topped_up(record: &ChannelRecord) -> bool {
    !record.claimable().is_zero() && record.next_moves().all(|step| !step.added.is_zero())
}
