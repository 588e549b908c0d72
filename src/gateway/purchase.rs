//! One purchase: the claim, then a task of its own that settles, forwards and records.

use super::{
    Gateway,
    answer::Served,
    crash, deliver,
    facilitate::{Goal, already},
    flight,
    hold::{Hold, Lost},
    mcp::ToolCall,
    respond::{ReceiptFacts, Refusal, Reply},
    sell::VerifiedSale,
    settle::Settlement,
};
use crate::{
    binding::exact_v1::decode,
    chain::{ChainError, Sighting},
    protocol::{
        ids::{RequestHash, RequestIdentity},
        policy::{Policy, Pricing, Route, RouteId},
        refusal::Code,
        request::Request,
        requirements::Requirements,
        time::UnixMillis,
    },
    store::{Claim, ClaimOutcome, Fact, Held, PaymentKey, PaymentRecord, StoreError, StoredPayment, Submission},
    wire::envelope::PayerProof,
};
use kaspa_consensus_core::tx::Transaction;
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    time::{Instant, timeout},
};

/// How often a hold of another process is asked about; our own flights wake us at once.
pub(super) const FOREIGN_HOLD_POLL: Duration = Duration::from_millis(250);

/// Everything a purchase needs until its end.
pub(super) struct Purchase {
    pub claim: Claim,
    pub transaction: Transaction,
    pub request_hash: RequestHash,
    pub payer_proof: Option<PayerProof>,
    /// The terms it pays.
    pub accepted: Requirements,
    pub route: Arc<Route>,
    pub policy: Arc<Policy>,
    pub request: Arc<Request>,
    pub reply: Reply,
    pub goal: Goal,
    /// Of a tool.
    pub call: Option<Arc<ToolCall>>,
}

impl Purchase {
    pub fn new(
        verified: VerifiedSale,
        route: Arc<Route>,
        policy: Arc<Policy>,
        request: Arc<Request>,
        reply: Reply,
        call: Option<Arc<ToolCall>>,
    ) -> Self {
        let VerifiedSale { exact, claim, accepted } = verified;
        Self {
            transaction: exact.transaction().clone(),
            request_hash: exact.request_hash(),
            payer_proof: exact.payer_proof().cloned(),
            claim,
            accepted,
            route,
            policy,
            request,
            reply,
            goal: Goal::Forward,
            call,
        }
    }

    pub fn key(&self) -> PaymentKey {
        self.claim.key
    }

    pub fn pricing(&self) -> Option<&Pricing> {
        self.route.pricing()
    }

    pub fn refusal(&self, code: Code, detail: impl Into<String>) -> Refusal {
        Refusal::new(code, detail).of(self.claim.key.network, self.claim.key.txid)
    }

    /// Whether who first presented this payment presents it now: only they know the offer they were
    /// given, or the identifier they chose. Everybody may know the transaction.
    pub fn first_presented(&self, record: &PaymentRecord) -> bool {
        let same_identifier = record.identifier.is_some() && record.identifier == self.claim.identifier;
        record.request_hash == self.request_hash || same_identifier
    }

    /// The payment bought something else. Whether it counted there is for the same seller's eyes.
    pub fn used_before(&self, record: &PaymentRecord) -> Refusal {
        let refusal = self.refusal(Code::Replay, "");
        let same_seller = match self.goal {
            Goal::Forward => !record.route.0.starts_with(RouteId::FACILITATOR),
            Goal::Report { .. } => record.route == self.claim.route,
        };
        if same_seller { already(refusal, record.charged) } else { refusal }
    }

    fn settle_wait(&self) -> Duration {
        self.pricing().map_or(Duration::ZERO, |pricing| pricing.settle_wait)
    }
}

/// Proof that the store holds this payment for this request: the only way to the upstream of a
/// priced route besides [`super::answer::Free`]. Made here, consumed by the task that serves.
#[must_use]
pub(super) struct Admitted {
    pub hold: Hold,
    /// `None` for a fresh claim.
    pub record: Option<Box<PaymentRecord>>,
    pub purchase: Purchase,
    /// Set as soon as the charge is durable: from then on every answer carries the receipt.
    pub receipt: OnceLock<ReceiptFacts>,
    _flight: flight::Flight<(PaymentKey, RequestIdentity)>,
    _place: OwnedSemaphorePermit,
}

impl Admitted {
    /// A refusal of this payment; with the receipt when it is settled all the same.
    pub fn refusal(&self, code: Code, detail: impl Into<String>) -> Refusal {
        self.receipted(self.purchase.refusal(code, detail))
    }

    pub fn receipted(&self, refusal: Refusal) -> Refusal {
        match self.receipt.get() {
            Some(receipt) => refusal.settled(receipt),
            None => refusal,
        }
    }
}

/// How the claim of a payment ended.
enum Claimed {
    Held(Held, Option<Box<PaymentRecord>>),
    Replay(Box<StoredPayment>),
    Wait(UnixMillis),
    /// Another request handed it to the facilitator and does not know what became of it.
    Undecided(Box<PaymentRecord>),
    /// Another transaction already pays for this identifier and request.
    First(Box<PaymentRecord>),
    Refused(Refusal),
}

impl Gateway {
    /// Sells one request. Returns when there is something to say; the task goes on by itself.
    pub(super) async fn purchase(self: &Arc<Self>, mut purchase: Purchase) -> Result<Served, Refusal> {
        let deadline = Instant::now() + purchase.settle_wait() + purchase.route.timeout;
        let mut asked = false;
        loop {
            let flight = match self.flights.enter((purchase.key(), purchase.claim.identity)) {
                Ok(flight) => flight,
                Err(landed) => {
                    // Ends when the leading flight lands, which is what we wait for.
                    let landed = timeout(deadline.saturating_duration_since(Instant::now()), landed.wait()).await;
                    if landed.is_err() {
                        return Err(purchase.refusal(Code::InFlight, ""));
                    }
                    continue;
                }
            };
            let Ok(place) = self.places.clone().try_acquire_owned() else {
                return Err(purchase.refusal(Code::Overloaded, ""));
            };
            match self.claim(&purchase).await? {
                Claimed::Held(held, record) => {
                    crash::point("claimed");
                    // It may be presented again under a later offer; it was good under the first.
                    let first = record.as_ref().map_or(u64::MAX, |record| record.offer_daa);
                    purchase.claim.offer_daa = purchase.claim.offer_daa.min(first);
                    let (reply, answer) = oneshot::channel();
                    let lost = purchase.refusal(Code::SettlementPending, "the gateway stopped");
                    let (hold, receipt) = (Hold::new(held), OnceLock::new());
                    let admitted = Admitted { hold, record, purchase, receipt, _flight: flight, _place: place };
                    tokio::spawn(self.clone().serve_admitted(admitted, reply));
                    return answer.await.unwrap_or(Err(lost));
                }
                Claimed::Replay(stored) => {
                    let may = self.may_present(&purchase, &stored.record).await;
                    may.map_err(|refusal| match purchase.goal {
                        Goal::Forward => refusal,
                        // A server that asks on behalf of others has to know that it counted for this very operation.
                        Goal::Report { .. } => already(refusal, true),
                    })?;
                    return self.replay(&purchase, *stored);
                }
                Claimed::First(record) => {
                    purchase = self.redirected(purchase, *record)?;
                }
                Claimed::Refused(refusal) => return Err(refusal),
                Claimed::Undecided(_) if asked => return Err(purchase.refusal(Code::SettlementPending, "presented for another request")),
                Claimed::Undecided(record) => {
                    drop((flight, place));
                    asked = true;
                    let decided = self.decide(&purchase, &record, deadline).await;
                    decided.map_err(|_| purchase.refusal(Code::StoreUnavailable, ""))?;
                }
                Claimed::Wait(until) => {
                    drop((flight, place));
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(purchase.refusal(Code::InFlight, ""));
                    }
                    let hold = Duration::from_millis(until.millis_since(self.now())).max(Duration::from_millis(1));
                    tokio::time::sleep(hold.min(FOREIGN_HOLD_POLL).min(left)).await; // why: another process holds it, and no store event tells us
                }
            }
        }
    }

    async fn claim(&self, purchase: &Purchase) -> Result<Claimed, Refusal> {
        let unusable = |_: StoreError| purchase.refusal(Code::StoreUnavailable, "");
        let outcome = self.ask(self.store.claim(&purchase.claim, self.now())).await.map_err(unusable)?;
        Ok(match outcome {
            ClaimOutcome::Fresh(held) => Claimed::Held(held, None),
            ClaimOutcome::Resumed(held, record) | ClaimOutcome::Redeliver(held, record) => Claimed::Held(held, Some(record)),
            ClaimOutcome::InFlight { until } => Claimed::Wait(until),
            ClaimOutcome::Delivered(stored) => Claimed::Replay(stored),
            ClaimOutcome::IdentifierFirst(record) => Claimed::First(record),
            ClaimOutcome::OtherRequest(record) if self.is_undecided(&record) => Claimed::Undecided(record),
            ClaimOutcome::OtherRequest(record) => Claimed::Refused(purchase.used_before(&record)),
            ClaimOutcome::IdentifierReused(_) => Claimed::Refused(purchase.refusal(Code::IdentifierReused, "")),
            ClaimOutcome::EntitlementOver(record) => {
                Claimed::Refused(purchase.refusal(Code::EntitlementExpired, "").settled(&ReceiptFacts::of(&record)))
            }
            ClaimOutcome::Late(record) => {
                // Whoever claimed it may have died before it was watched, or never learned that it was claimed.
                self.take_up(&record);
                Claimed::Refused(purchase.refusal(Code::PaidLate, ""))
            }
            ClaimOutcome::Reversed(_) => Claimed::Refused(purchase.refusal(Code::TransactionConflicted, "")),
            ClaimOutcome::Expired => Claimed::Refused(self.expired(purchase).await?),
        })
    }

    /// A fresh payment under an expired offer. When the network knows the transaction, the money has
    /// moved: it is listed as unresolved, and nobody is asked to pay again.
    async fn expired(&self, purchase: &Purchase) -> Result<Refusal, Refusal> {
        let unknown = |(ChainError::Unavailable(reason) | ChainError::NotFound(reason))| purchase.refusal(Code::NodeUnavailable, reason);
        let sighting = match self.remote.get() {
            Some(remote) => self.sighted_at(remote.as_ref(), purchase).await?,
            None => self.chain.sighting(&purchase.transaction).await.map_err(unknown)?,
        };
        match sighting {
            Sighting::NotSeen => Ok(purchase.refusal(Code::OfferExpired, "")),
            Sighting::Mempool | Sighting::UtxoSet => {
                let late = Claim { late: true, ..purchase.claim.clone() };
                let unusable = |_: StoreError| purchase.refusal(Code::StoreUnavailable, "");
                if let ClaimOutcome::Fresh(held) = self.ask(self.store.claim(&late, self.now())).await.map_err(unusable)? {
                    // First of all: whether or not the next steps succeed, the record says that the network has it.
                    if self.remote.get().is_none() {
                        self.watch(purchase.key(), &purchase.transaction, None, true);
                    }
                    self.advance(&held, Fact::Submitted(Submission::Foreign)).await.map_err(unusable)?;
                    self.advance(&held, Fact::Released).await.map_err(unusable)?;
                    tracing::warn!(txid = %purchase.key().txid, route = %purchase.route.id, "paid late: unresolved");
                }
                Ok(purchase.refusal(Code::PaidLate, ""))
            }
        }
    }

    /// The same request under the transaction that its identifier named first; ours is not broadcast.
    fn redirected(&self, purchase: Purchase, first: PaymentRecord) -> Result<Purchase, Refusal> {
        let transaction = decode::read_stored(&first.transaction)
            .map_err(|error| purchase.refusal(Code::StoreUnavailable, format!("the first payment's record: {error}")))?;
        let claim = Claim {
            key: first.key,
            transaction: first.transaction,
            output_index: first.output_index,
            request_hash: first.request_hash,
            identity: first.identity,
            finality: first.finality,
            offer_daa: first.offer_daa,
            ..purchase.claim.clone()
        };
        Ok(Purchase { claim, transaction, ..purchase })
    }

    fn replay(&self, purchase: &Purchase, stored: StoredPayment) -> Result<Served, Refusal> {
        if let Goal::Report { repeatable } = purchase.goal {
            return self.report_again(purchase, &stored.record, repeatable);
        }
        let Some(response) = &stored.response else {
            let refusal = purchase.refusal(Code::EntitlementExpired, "the response was delivered and is no longer kept");
            return Err(refusal.settled(&ReceiptFacts::of(&stored.record)));
        };
        self.metrics.requests.replayed.inc();
        tracing::info!(request_id = %purchase.reply.request_id, txid = %stored.record.key.txid, route = %purchase.route.id, "replayed");
        Ok(Served::Answer(Box::new(purchase.reply.replay(response, &ReceiptFacts::of(&stored.record).message()))))
    }

    /// Owns the money from here to the end, whoever still listens.
    async fn serve_admitted(self: Arc<Self>, admitted: Admitted, reply: oneshot::Sender<Result<Served, Refusal>>) {
        self.metrics.waiting.inc();
        let mut reply = Some(reply);
        let started = Instant::now();
        tokio::select! {
            biased;
            () = self.run(&admitted, &mut reply, started) => {}
            refusal = self.keep_hold(&admitted) => {
                tracing::warn!(txid = %admitted.purchase.key().txid, code = %refusal.code, "hold lost");
                say(&mut reply, Err(refusal));
            }
        }
        self.metrics.waiting.dec();
    }

    async fn run(&self, admitted: &Admitted, reply: &mut Option<ReplySlot>, started: Instant) {
        let purchase = &admitted.purchase;
        let settled = match self.settle(admitted).await {
            Settlement::Settled(settled) => settled,
            Settlement::Refused(refusal) => {
                say(reply, Err(refusal));
                // A rejected claim is gone and a released one is free; both are harmless to release.
                self.release(&admitted.hold).await;
                return;
            }
        };
        let _ = admitted.receipt.set(settled.receipt.clone());
        let settled_after = started.elapsed();
        if reply.as_ref().is_none_or(oneshot::Sender::is_closed) {
            // Nobody listens any more: the payment stays good, the upstream is spared.
            self.release(&admitted.hold).await;
            return;
        }
        let outcome = match purchase.goal {
            Goal::Forward => deliver::Delivery { gateway: self, admitted, settled: &settled }.run(reply).await,
            Goal::Report { repeatable } => self.report(admitted, &settled, repeatable, reply).await,
        };
        tracing::info!(
            request_id = %purchase.reply.request_id,
            route = %purchase.route.id,
            txid = %purchase.key().txid,
            amount_sompi = purchase.claim.amount.sompi(),
            payer = settled.receipt.payer.as_deref().unwrap_or("-"),
            finality = purchase.claim.finality.level.as_str(),
            status = outcome.status,
            delivered = outcome.delivered,
            settle_ms = u64::try_from(settled_after.as_millis()).unwrap_or(u64::MAX),
            total_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "paid request",
        );
    }

    /// Ends only when the hold is lost, and says how.
    async fn keep_hold(&self, admitted: &Admitted) -> Refusal {
        match self.keep(&admitted.hold).await {
            Lost::Taken => admitted.refusal(Code::InFlight, ""),
            // Only a reversed payment cannot be held on to.
            Lost::Closed => admitted.purchase.refusal(Code::TransactionConflicted, ""),
            Lost::Store => admitted.refusal(Code::StoreUnavailable, "").with("status", "pending"),
        }
    }
}

pub(super) type ReplySlot = oneshot::Sender<Result<Served, Refusal>>;

/// Answers once; a client that went away is no error.
pub(super) fn say(reply: &mut Option<ReplySlot>, answer: Result<Served, Refusal>) {
    if let Some(reply) = reply.take() {
        let _ = reply.send(answer);
    }
}
