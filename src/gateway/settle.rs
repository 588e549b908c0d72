//! From a held claim to the route's finality (PROTOCOL section 4, "Settlement" and "Whose transaction?").

use super::{
    Gateway, crash,
    purchase::{Admitted, Purchase},
    respond::{ReceiptFacts, Refusal},
};
use crate::{
    binding::exact_v1::payer,
    chain::{ChainError, Health, Output, SubmitOutcome, TxStatus},
    protocol::{ids::TxId, policy::Observe, refusal::Code, requirements::Finality, time::UnixMillis},
    store::{Acceptance, Advanced, Fact, PaymentRecord, PaymentState, Submission},
    wire::envelope::PayerProof,
};
use kaspa_addresses::Address;
use kaspa_consensus_core::tx::ScriptPublicKey;
use kaspa_txscript::{extract_script_pub_key_address, pay_to_address_script};
use std::time::Duration;
use tokio::{
    sync::watch,
    time::{Instant, timeout, timeout_at},
};

/// The payer is named when the node answers this fast; a receipt without one is still a receipt.
const PAYER_WAIT: Duration = Duration::from_millis(250);

pub(super) enum Settlement {
    Settled(Box<Settled>),
    /// Nothing is forwarded. The claim is kept unless the refusal is a proven rejection.
    Refused(Refusal),
}

/// A payment that reached the route's finality and is charged.
pub(super) struct Settled {
    pub receipt: ReceiptFacts,
    /// When the decisive status reached this process.
    pub released_at: Option<Instant>,
}

/// A step that ends the settlement early.
pub(super) type Step<T> = Result<T, Refusal>;

impl Gateway {
    pub(super) async fn settle(&self, admitted: &Admitted) -> Settlement {
        let settled = match self.remote.get() {
            Some(remote) => self.settle_at(remote.as_ref(), admitted).await,
            None => self.try_settle(admitted).await,
        };
        match settled {
            Ok(settled) => Settlement::Settled(Box::new(settled)),
            Err(refusal) => Settlement::Refused(refusal),
        }
    }

    async fn try_settle(&self, admitted: &Admitted) -> Step<Settled> {
        let purchase = &admitted.purchase;
        let started = self.now();
        let record = admitted.record.as_deref();
        let open = record.is_none_or(|record| record.state == PaymentState::Pending);
        if let Some(record) = record.filter(|record| !open && (record.acceptance.is_some() || record.finality.level == Finality::Mempool)) {
            self.may_present(purchase, record).await?;
            return Ok(Settled { receipt: ReceiptFacts::of(record), released_at: None });
        }
        let known = record.and_then(|record| record.acceptance);
        let before = record.map_or(Submission::None, |record| record.submission);
        let mut follow = self.follows.follow(&purchase.transaction, known, before != Submission::None);
        let (submission, knew) = match before {
            Submission::None => self.submit(admitted).await?,
            sent => {
                let status = *follow.status.borrow();
                let there = match status {
                    TxStatus::Accepted(_) => true,
                    TxStatus::Conflicted { .. } => false,
                    // The node may have refused it for a reason of the moment, which no reconnect repairs.
                    TxStatus::Unseen => matches!(self.chain.submit(&purchase.transaction).await, SubmitOutcome::New | SubmitOutcome::Known),
                };
                self.watch(purchase.key(), &purchase.transaction, known, true);
                // A double spend, an orphan or an unanswered submit is pending: a proof would not help yet.
                (sent, sent == Submission::Foreign && there)
            }
        };

        let observe = observe(purchase);
        let foreign = submission == Submission::Foreign || record.is_some_and(|record| !purchase.first_presented(record));
        if foreign && (knew || submission == Submission::Own) {
            claims_to_have_paid(purchase, observe)?;
        }
        let conflicted = matches!(*follow.status.borrow(), TxStatus::Conflicted { .. });
        let rule = purchase.claim.finality;
        let deadline = Instant::now() + purchase.pricing().map_or(Duration::ZERO, |pricing| pricing.settle_wait);
        let depth = if rule.level == Finality::Confirmed { rule.depth } else { 0 };
        if foreign && depth > 0 {
            // Until it is proven, the claim is whoever's comes next, and the depth may take longer than offers live.
            let first = self.finality(purchase, &mut follow.status, 0, deadline).await?;
            match self.counts(admitted, &first, foreign).await {
                Err(refusal) if refusal.code != Code::SettlementPending => return Err(refusal),
                _ => {}
            }
        }
        let acceptance = if rule.level == Finality::Mempool && !foreign && !conflicted {
            None
        } else {
            Some(self.finality(purchase, &mut follow.status, depth, deadline).await?)
        };
        let released_at = Some(Instant::now());
        crash::point("accepted");
        let spent = match &acceptance {
            Some(acceptance) => self.counts(admitted, acceptance, foreign).await?,
            None => None,
        };
        let payer = spent.and_then(|spent| self.payer_address(&spent));
        let receipt = ReceiptFacts {
            key: purchase.key(),
            amount: purchase.claim.amount,
            output_index: purchase.claim.output_index,
            finality: purchase.claim.finality.level,
            acceptance,
            payer,
        };
        if open {
            self.book(admitted, &receipt, started).await?;
        }
        Ok(Settled { receipt, released_at })
    }

    /// Brings the transaction to the network and remembers durably who brought it first. Also says
    /// whether the network certainly knew it before.
    async fn submit(&self, admitted: &Admitted) -> Step<(Submission, bool)> {
        let purchase = &admitted.purchase;
        let key = purchase.key();
        if let Health { ready: false, reason, .. } = &*self.chain.health().borrow() {
            return Err(purchase.refusal(Code::NodeUnavailable, reason.clone().unwrap_or_default()));
        }
        let outcome = self.chain.submit(&purchase.transaction).await;
        crash::point("submitted");
        let sent = match outcome {
            SubmitOutcome::New => (Submission::Own, false),
            // A time-out or a crash hides who was first, so neither may speak for the presenter.
            SubmitOutcome::Known => (Submission::Foreign, true),
            SubmitOutcome::Unknown(reason) => {
                tracing::warn!(txid = %key.txid, reason, "submit: outcome unknown");
                (Submission::Foreign, false)
            }
            SubmitOutcome::Unavailable(reason) => return Err(purchase.refusal(Code::NodeUnavailable, reason)),
            SubmitOutcome::Rejected(reason) => {
                return Err(match self.advance(&admitted.held, Fact::Rejected).await {
                    Ok(Advanced::Done) => {
                        self.unwatch(&key);
                        purchase.refusal(Code::TransactionRejected, reason)
                    }
                    // It may have been sent before: no proof, so the claim is kept.
                    Ok(_) => purchase.refusal(Code::SettlementPending, reason),
                    Err(_) => purchase.refusal(Code::StoreUnavailable, ""),
                });
            }
        };
        // From here on it is seen through to its end, and sent again on every reconnect, whatever
        // becomes of this request.
        self.watch(key, &purchase.transaction, None, true);
        self.step(admitted, Fact::Submitted(sent.0)).await?;
        Ok(sent)
    }

    /// Waits until it is accepted this deep; 503 when it is not in time. Nothing counts while the
    /// node is not ready: what was known before it went away may have been taken back.
    async fn finality(
        &self,
        purchase: &Purchase,
        status: &mut watch::Receiver<TxStatus>,
        depth: u64,
        deadline: Instant,
    ) -> Step<Acceptance> {
        let mut health = self.chain.health();
        loop {
            let current = *status.borrow_and_update();
            let ready = health.borrow_and_update().ready;
            let decided = async {
                match current {
                    TxStatus::Accepted(_) if ready && depth == 0 => {}
                    TxStatus::Accepted(acceptance) if ready => self.depths.reached(acceptance.blue_score.saturating_add(depth)).await,
                    TxStatus::Conflicted { acceptance, .. } if ready => {
                        self.depths.reached(acceptance.blue_score.saturating_add(self.limits.final_depth)).await;
                    }
                    _ => std::future::pending().await,
                }
            };
            let event = timeout_at(deadline, async {
                tokio::select! {
                    biased;
                    () = changed(status) => false,
                    () = changed(&mut health) => false,
                    () = decided => true,
                }
            });
            match (event.await, current) {
                (Ok(true), TxStatus::Accepted(acceptance)) => return Ok(acceptance),
                (Ok(true), TxStatus::Conflicted { .. }) => return Err(purchase.refusal(Code::TransactionConflicted, "")),
                (Ok(_), _) => {}
                (Err(_), current) => {
                    let detail = match current {
                        TxStatus::Accepted(_) => "accepted, not deep enough yet",
                        TxStatus::Conflicted { .. } => "a conflicting transaction is accepted and not final yet",
                        TxStatus::Unseen => "not accepted yet",
                    };
                    return Err(purchase.refusal(Code::SettlementPending, if ready { detail } else { "the node is not ready" }));
                }
            }
        }
    }

    /// Whether a payment that is settled already may be presented by this request: by who presented
    /// it first, unless the network knew it before that; otherwise by who proves the payer's key.
    /// What the chain shows to everybody buys nothing.
    pub(super) async fn may_present(&self, purchase: &Purchase, record: &PaymentRecord) -> Step<()> {
        let observe = observe(purchase);
        if purchase.first_presented(record) && record.submission != Submission::Foreign {
            return Ok(());
        }
        let Some(proof) = claims_to_have_paid(purchase, observe)? else { return Ok(()) };
        let named = record.payer.as_deref().and_then(|payer| Address::try_from(payer).ok());
        let scripts = match (named, &record.acceptance) {
            (Some(payer), _) => vec![pay_to_address_script(&payer)],
            (None, Some(acceptance)) => {
                let spent = self.spent(&record.key.txid, acceptance).await.map_err(|_| inputs_unknown(purchase))?;
                spent.into_iter().map(|output| output.script_public_key).collect()
            }
            (None, None) => return Err(inputs_unknown(purchase)),
        };
        check_proof(purchase, proof, &scripts)
    }

    /// Whether an accepted transaction buys anything, and for its presenter. What it spent, as far as the node says in time.
    async fn counts(&self, admitted: &Admitted, acceptance: &Acceptance, foreign: bool) -> Step<Option<Vec<Output>>> {
        let purchase = &admitted.purchase;
        let spent = self.spent(&purchase.key().txid, acceptance).await.ok();
        self.no_move_of_a_channel(purchase, spent.as_deref()).await?;
        if foreign {
            let proof = claims_to_have_paid(purchase, observe(purchase))?;
            self.prove(admitted, acceptance, spent.as_deref(), proof).await?;
        }
        Ok(spent)
    }

    /// What a claim or top-up pays was owed already, and buys nothing a second time. Judged last, by what the chain says was spent: the
    /// presented bytes need not tell, and a move may be built while its transaction waits here.
    async fn no_move_of_a_channel(&self, purchase: &Purchase, spent: Option<&[Output]>) -> Step<()> {
        let Some(spent) = spent else {
            // Moves are of version 1, which the id covers.
            let open = purchase.transaction.version > 0;
            return if open { Err(inputs_unknown(purchase)) } else { Ok(()) };
        };
        match self.spends_an_escrow(spent).await {
            Ok(false) => Ok(()),
            Ok(true) => Err(purchase.refusal(Code::Replay, "the transaction is a claim, top-up or refund of a channel")),
            Err(_) => Err(purchase.refusal(Code::StoreUnavailable, "").with("status", "pending")),
        }
    }

    /// A transaction the network knew first is served only to who proves the key of an input, and
    /// only for an offer older than its acceptance.
    async fn prove(&self, admitted: &Admitted, acceptance: &Acceptance, spent: Option<&[Output]>, proof: Option<&PayerProof>) -> Step<()> {
        let purchase = &admitted.purchase;
        if acceptance.daa_score < purchase.claim.offer_daa {
            return Err(purchase.refusal(
                Code::TransactionOlder,
                format!("accepted at DAA score {}, the offer was made at {}", acceptance.daa_score, purchase.claim.offer_daa),
            ));
        }
        let Some(proof) = proof else { return Ok(()) };
        let spent = spent.ok_or_else(|| inputs_unknown(purchase))?;
        check_proof(purchase, proof, spent.iter().map(|output| &output.script_public_key))?;
        self.step(admitted, Fact::Proven).await
    }

    async fn spent(&self, txid: &TxId, acceptance: &Acceptance) -> Result<Vec<Output>, ChainError> {
        let late = |_| Err(ChainError::Unavailable("no answer in time".into()));
        let accepted = timeout(PAYER_WAIT, self.chain.accepted(txid, acceptance)).await.unwrap_or_else(late)?;
        accepted.into_spent().ok_or_else(|| ChainError::NotFound("the node does not name what it spent".into()))
    }

    /// The address of the inputs, when they are all of one.
    fn payer_address(&self, spent: &[Output]) -> Option<String> {
        let (first, rest) = spent.split_first()?;
        if rest.iter().any(|output| output.script_public_key != first.script_public_key) {
            return None;
        }
        let prefix = self.chain.network().address_prefix();
        extract_script_pub_key_address(&first.script_public_key, prefix).ok().map(String::from)
    }

    /// Books the charge, durably, before anything is forwarded.
    pub(super) async fn book(&self, admitted: &Admitted, receipt: &ReceiptFacts, started: UnixMillis) -> Step<()> {
        self.step(admitted, Fact::Settled { acceptance: receipt.acceptance, payer: receipt.payer.clone() }).await?;
        crash::point("settled");
        self.metrics.charged_sompi.inc_by(receipt.amount.sompi());
        self.metrics.settle_seconds.observe(Duration::from_millis(self.now().millis_since(started)).as_secs_f64());
        Ok(())
    }

    /// A step that must be durable before the next. The transaction is sent by then.
    pub(super) async fn step(&self, admitted: &Admitted, fact: Fact) -> Step<()> {
        match self.advance(&admitted.held, fact).await {
            Ok(Advanced::Done) => Ok(()),
            Ok(Advanced::Stale) => Err(admitted.purchase.refusal(Code::InFlight, "")),
            Ok(Advanced::Refused) => {
                Err(admitted.purchase.refusal(Code::SettlementPending, "the payment's record does not allow this step"))
            }
            Err(_) => Err(admitted.purchase.refusal(Code::StoreUnavailable, "").with("status", "pending")),
        }
    }
}

fn observe(purchase: &Purchase) -> Observe {
    purchase.pricing().map_or(Observe::Never, |pricing| pricing.observe)
}

/// The presenter of a transaction that others may know carries a proof, where the route takes one.
fn claims_to_have_paid(purchase: &Purchase, observe: Observe) -> Step<Option<&PayerProof>> {
    match (observe, &purchase.payer_proof) {
        (Observe::Any, _) => Ok(None),
        (Observe::Never, _) => Err(purchase.refusal(Code::ForeignTransaction, "")),
        (Observe::Proven, Some(proof)) => Ok(Some(proof)),
        (Observe::Proven, None) => {
            let refusal = purchase.refusal(Code::PayerProofRequired, "sign extensions.kaspa.requestHash with the key of an input");
            Err(refusal.with("requestHash", purchase.request_hash.to_string()))
        }
    }
}

fn check_proof<'a>(purchase: &Purchase, proof: &PayerProof, scripts: impl IntoIterator<Item = &'a ScriptPublicKey>) -> Step<()> {
    payer::check(proof, purchase.request_hash, scripts).map_err(|error| purchase.refusal(Code::PayerProofInvalid, error.to_string()))
}

fn inputs_unknown(purchase: &Purchase) -> Refusal {
    purchase.refusal(Code::SettlementPending, "the node does not name the inputs yet")
}

/// Ends with the next change; a sender that went away changes nothing any more.
async fn changed<T>(receiver: &mut watch::Receiver<T>) {
    if receiver.changed().await.is_err() {
        std::future::pending().await
    }
}
