//! Settling through another gateway's facilitator: for a gateway that has no node and no server key (PROTOCOL section 7).
//!
//! Promises: the payment is claimed here, and noted as handed over, before it leaves; it is charged here before anything is forwarded, as
//! with a node of one's own. A call whose answer is lost is sent again with the same `requestHash`, so that it finds the same settlement,
//! under whatever offer it is presented; until the facilitator has said whose it is, nobody else's copy takes its place. Nobody is asked to
//! pay again unless the facilitator proves that nothing moved. Never believes an answer about another transaction or amount.

mod call;
pub(in crate::gateway) mod channel;
mod heard;
mod tries;

pub(super) use channel::key_of;

use super::{
    Gateway,
    facilitate::Act,
    purchase::{Admitted, Purchase},
    respond::{ReceiptFacts, Refusal},
    settle::{Settled, Step},
};
use crate::{
    chain::Sighting,
    protocol::{
        ids::{RequestHash, XOnlyKey},
        refusal::{Code, Offers},
    },
    store::{Advanced, Claim, ClaimOutcome, Fact, Held, PaymentRecord, PaymentState, StoreError, Submission},
};
use async_trait::async_trait;
use call::Asking;
use heard::Settlement;
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tries::{Heard, Undecided, until_decided};

/// Between two tries when the facilitator says nothing of it.
const AGAIN: Duration = Duration::from_secs(1);

/// What channels are opened under, as the facilitator says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteChannels {
    /// Claims them, there.
    pub server_key: XOnlyKey,
    pub refund_timeout_daa: u64,
}

/// Another gateway's facilitator; `crate::facilitator::remote` implements it.
#[async_trait]
pub trait RemoteFacilitator: Send + Sync + 'static {
    /// What it opens channels under now; `None` when it opens none, or did not say so a moment ago.
    fn channels(&self) -> Option<RemoteChannels> {
        None
    }

    /// `POST /verify` or `/settle`, once, within this time.
    async fn call(&self, act: Act, call: &Value, within: Duration) -> Result<RemoteAnswer, RemoteError>;
}

/// What it answered.
#[derive(Clone, Debug)]
pub struct RemoteAnswer {
    pub status: u16,
    pub retry_after: Option<Duration>,
    /// `null` when it was no JSON.
    pub body: Value,
}

/// There is no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RemoteError {
    /// The call did not leave.
    #[error("not sent: {0}")]
    NotSent(String),
    /// It may have arrived.
    #[error("no answer: {0}")]
    Unknown(String),
}

/// What became of a settlement that was asked for.
enum Asked {
    Settled {
        payer: Option<String>,
    },
    /// Not for who asks under this hash: somebody else may.
    Declined(Refusal),
    /// Nothing moved: the claim is freed.
    Freed(Refusal),
}

impl Gateway {
    /// From now on payments are settled there. Called once, before traffic.
    pub fn settle_through(&self, remote: Arc<dyn RemoteFacilitator>) {
        // A second call would change nothing, and nobody makes one.
        let _ = self.remote.set(remote);
    }

    pub(super) fn remote_channels(&self) -> Option<RemoteChannels> {
        self.remote.get()?.channels()
    }

    pub(super) async fn settle_at(&self, remote: &dyn RemoteFacilitator, admitted: &Admitted) -> Step<Settled> {
        let purchase = &admitted.purchase;
        let record = admitted.record.as_deref();
        let started = self.now();
        if let Some(record) = record.filter(|record| record.state != PaymentState::Pending) {
            self.may_present(purchase, record).await?;
            return Ok(Settled { receipt: ReceiptFacts::of(record), released_at: None });
        }
        let wait = purchase.pricing().map_or(Duration::ZERO, |pricing| pricing.settle_wait);
        let deadline = Instant::now() + wait;
        // It may have been settled for the request as it was first presented; what was declined is asked for anew.
        let first = record.filter(|record| record.submission != Submission::Foreign && record.request_hash != purchase.request_hash);
        let mut payer = None;
        if let Some(record) = first {
            payer = match self.asked_until(remote, admitted, record.request_hash, deadline).await? {
                Asked::Settled { payer } => Some(payer),
                Asked::Declined(_) => None,
                Asked::Freed(refusal) => return Err(refusal),
            };
        }
        let as_first = payer.is_some();
        let payer = match payer {
            Some(payer) => payer,
            None => match self.asked_until(remote, admitted, purchase.request_hash, deadline).await? {
                Asked::Settled { payer } => payer,
                Asked::Declined(refusal) | Asked::Freed(refusal) => return Err(refusal),
            },
        };
        let receipt = ReceiptFacts {
            key: purchase.key(),
            amount: purchase.claim.amount,
            output_index: purchase.claim.output_index,
            finality: purchase.claim.finality.level,
            // The facilitator follows it, on its own books.
            acceptance: None,
            payer,
        };
        // It was brought to the network for whom the record names, and is no other's from now on; or for whom the facilitator knows, and whoever
        // presented it first has to prove what this payer proved there.
        let named = as_first || record.is_none_or(|record| record.request_hash == purchase.request_hash);
        self.step(admitted, Fact::Submitted(if named { Submission::Own } else { Submission::Foreign })).await?;
        self.book(admitted, &receipt, started).await?;
        if let Some(record) = first.filter(|_| as_first) {
            // Settled for who came first; whoever presents it now says that they are the same.
            let settled = PaymentRecord { payer: receipt.payer.clone(), submission: Submission::Own, ..record.clone() };
            self.may_present(purchase, &settled).await?;
        }
        Ok(Settled { receipt, released_at: Some(Instant::now()) })
    }

    /// Sends the call until it is decided or the time is over.
    async fn asked_until(&self, remote: &dyn RemoteFacilitator, admitted: &Admitted, hash: RequestHash, deadline: Instant) -> Step<Asked> {
        let purchase = &admitted.purchase;
        let asking = &Asking::of(purchase, hash);
        let call = &asking.call(Act::Settle);
        // From here on the facilitator says whose it is.
        self.step(admitted, Fact::Submitted(Submission::HandedOver)).await?;
        let ask = |within| async move {
            let answer = remote.call(Act::Settle, call, within).await;
            let answer = answer.inspect_err(|error| tracing::warn!(%error, txid = %purchase.key().txid, "facilitator"))?;
            Ok(heard::settlement(asking, &answer))
        };
        let settlement = until_decided(deadline, ask).await.map_err(|undecided| match undecided {
            Undecided::Pending(why) => purchase.refusal(Code::SettlementPending, why),
            Undecided::NotSent(why) => purchase.refusal(Code::FacilitatorUnavailable, why).with("status", "pending"),
            Undecided::NotOurs => purchase.refusal(Code::FacilitatorUnavailable, ""),
        })?;
        match settlement {
            Settlement::Settled { payer } => Ok(Asked::Settled { payer }),
            Settlement::Refused(code, detail) if code.offers() == Offers::Attach => {
                match self.advance(&admitted.hold.held, Fact::Rejected).await {
                    Ok(Advanced::Done) => Ok(Asked::Freed(purchase.refusal(code, detail))),
                    Ok(_) => Err(purchase.refusal(Code::SettlementPending, detail)),
                    Err(_) => Err(purchase.refusal(Code::StoreUnavailable, "")),
                }
            }
            // Under another offer its proof is for another hash.
            Settlement::Unproven(..) if hash != purchase.request_hash => {
                Err(purchase.refusal(Code::SettlementPending, "it counts for the header that it was first presented with"))
            }
            Settlement::Unproven(code, detail) => Err(asks(purchase, code, detail, hash)),
            Settlement::Refused(code, detail) => {
                self.step(admitted, Fact::Submitted(Submission::Foreign)).await?;
                Ok(Asked::Declined(asks(purchase, code, detail, hash)))
            }
        }
    }

    /// Whether only the facilitator knows whose this payment is.
    pub(super) fn is_undecided(&self, record: &PaymentRecord) -> bool {
        self.remote.get().is_some() && record.state == PaymentState::Pending && record.submission == Submission::HandedOver
    }

    /// Asks once what became of a payment that another request handed over and never heard of again: a stranger's copy that came first must
    /// not keep its payer waiting for ever. Whoever holds it now finds out instead.
    pub(super) async fn decide(&self, purchase: &Purchase, record: &PaymentRecord, deadline: Instant) -> Result<(), StoreError> {
        let Some(remote) = self.remote.get() else { return Ok(()) };
        let claim = Claim {
            key: record.key,
            transaction: record.transaction.clone(),
            output_index: record.output_index,
            from_channel: None,
            amount: record.amount,
            pay_to: record.pay_to.clone(),
            route: record.route.clone(),
            summary: record.summary.clone(),
            identity: record.identity,
            request_hash: record.request_hash,
            identifier: record.identifier.clone(),
            finality: record.finality,
            accepted_until: self.now(),
            offer_daa: record.offer_daa,
            entitlement_seconds: record.entitlement_seconds,
            holder: self.holder,
            hold_millis: self.limits.hold_millis(),
            late: false,
        };
        let (held, record) = match self.ask(self.store.claim(&claim, self.now())).await? {
            ClaimOutcome::Resumed(held, record) => (held, record),
            // It was freed meanwhile, and is nobody's.
            ClaimOutcome::Fresh(held) => return self.advance(&held, Fact::Rejected).await.map(drop),
            _ => return Ok(()),
        };
        // As old as it may have been when it was first presented, whose offer is not at hand.
        let since = self.now().millis_since(record.claimed_at).div_ceil(1_000);
        let asking = Asking::again(&record, purchase.accepted.max_timeout_seconds.saturating_add(since));
        // No longer than the hold lasts.
        let within = deadline.saturating_duration_since(Instant::now()).max(AGAIN).min(self.limits.hold);
        let answer = remote.call(Act::Settle, &asking.call(Act::Settle), within).await;
        let settlement = match answer.map(|answer| heard::settlement(&asking, &answer)) {
            Ok(Heard::Decided(settlement)) => Some(settlement),
            _ => None,
        };
        self.decided(&held, settlement).await
    }

    async fn decided(&self, held: &Held, settlement: Option<Settlement>) -> Result<(), StoreError> {
        let facts = match settlement {
            Some(Settlement::Settled { payer }) => {
                vec![Fact::Submitted(Submission::Own), Fact::Settled { acceptance: None, payer }]
            }
            Some(Settlement::Refused(code, _)) if code.offers() == Offers::Attach => vec![Fact::Rejected],
            Some(Settlement::Refused(..)) => vec![Fact::Submitted(Submission::Foreign)],
            Some(Settlement::Unproven(..)) | None => vec![],
        };
        for fact in facts {
            if self.advance(held, fact).await? != Advanced::Done {
                break;
            }
        }
        // A freed claim has nothing to release, which is no harm.
        self.advance(held, Fact::Released).await.map(drop)
    }

    /// Whether the network knows a transaction, as far as the facilitator can say. Nothing is sent to the network.
    pub(super) async fn sighted_at(&self, remote: &dyn RemoteFacilitator, purchase: &Purchase) -> Result<Sighting, Refusal> {
        let call = Asking::of(purchase, purchase.request_hash).call(Act::Verify);
        let wait = purchase.pricing().map_or(AGAIN, |pricing| pricing.settle_wait.max(AGAIN));
        let answer = remote.call(Act::Verify, &call, wait).await;
        let answer = answer.map_err(|error| purchase.refusal(Code::FacilitatorUnavailable, error.to_string()))?;
        heard::sighting(&answer).map_err(|(code, detail)| purchase.refusal(code, detail))
    }
}

/// A refusal of the facilitator's as this gateway's, with the hash that a proof has to be for.
fn asks(purchase: &Purchase, code: Code, detail: String, hash: RequestHash) -> Refusal {
    let refusal = purchase.refusal(code, detail);
    if code == Code::PayerProofRequired { refusal.with("requestHash", hash.to_string()) } else { refusal }
}
