//! From a held claim to the route's finality (PROTOCOL section 4, "Settlement" and "Whose transaction?").

use super::{
    Gateway, crash,
    purchase::Admitted,
    respond::{ReceiptFacts, Refusal},
};
use crate::{
    binding::exact_v1::payer,
    chain::{ChainError, Sighting, SpentOutput, SubmitOutcome, TxStatus},
    protocol::{policy::Observe, refusal::Code, requirements::Finality, time::UnixMillis},
    store::{Acceptance, Advanced, Fact, PaymentState, StoreError, Submission},
};
use kaspa_consensus_core::tx::Transaction;
use kaspa_txscript::extract_script_pub_key_address;
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
type Step<T> = Result<T, Refusal>;

impl Gateway {
    pub(super) async fn settle(&self, admitted: &Admitted) -> Settlement {
        match self.try_settle(admitted).await {
            Ok(settled) => Settlement::Settled(Box::new(settled)),
            Err(refusal) => Settlement::Refused(refusal),
        }
    }

    async fn try_settle(&self, admitted: &Admitted) -> Step<Settled> {
        let purchase = &admitted.purchase;
        let started = self.now();
        if let Some(record) = &admitted.record
            && matches!(record.state, PaymentState::Settled | PaymentState::Delivered)
        {
            return Ok(Settled { receipt: ReceiptFacts::of(record), released_at: None });
        }
        let known = admitted.record.as_ref().and_then(|record| record.acceptance);
        let before = admitted.record.as_ref().map_or(Submission::None, |record| record.submission);
        let status = self.chain.follow(&purchase.transaction, known, before != Submission::None);
        let submission = match before {
            Submission::None => self.submit(admitted).await?,
            sent => sent,
        };
        self.watch(purchase.key(), &purchase.transaction, known, true);

        let proven = admitted.record.as_ref().is_some_and(|record| record.proven);
        let observe = purchase.pricing().map_or(Observe::Never, |pricing| pricing.observe);
        let foreign = submission == Submission::Foreign && !proven;
        if foreign && observe == Observe::Never {
            return Err(purchase.refusal(Code::ForeignTransaction, ""));
        }
        if foreign && observe == Observe::Proven && purchase.payer_proof.is_none() {
            if self.nowhere(&purchase.transaction, &status).await {
                // A double spend, an orphan, or a submit without an answer: a proof would not help yet.
                self.finality(admitted, status).await?;
            }
            let detail = "sign extensions.kaspa.requestHash with the key of an input";
            let refusal = purchase.refusal(Code::PayerProofRequired, detail);
            return Err(refusal.with("requestHash", purchase.request_hash.to_string()));
        }
        let acceptance = if purchase.claim.finality.level == Finality::Mempool && !foreign {
            None
        } else {
            Some(self.finality(admitted, status).await?)
        };
        let released_at = Some(Instant::now());
        crash::point("accepted");
        let spent = match &acceptance {
            Some(acceptance) => self.spent(&purchase.key().txid, acceptance).await.ok(),
            None => None,
        };
        if foreign && let Some(acceptance) = &acceptance {
            self.prove(admitted, acceptance, spent.as_deref(), observe).await?;
        }
        let payer = spent.and_then(|spent| self.payer_address(&spent));
        let receipt = ReceiptFacts {
            key: purchase.key(),
            amount: purchase.claim.amount,
            output_index: purchase.claim.output_index,
            finality: purchase.claim.finality.level,
            acceptance,
            payer,
        };
        self.book(admitted, &receipt, started).await?;
        Ok(Settled { receipt, released_at })
    }

    /// Brings the transaction to the network and remembers durably who brought it first.
    async fn submit(&self, admitted: &Admitted) -> Step<Submission> {
        let purchase = &admitted.purchase;
        let txid = purchase.key().txid;
        let outcome = self.chain.submit(&purchase.transaction).await;
        crash::point("submitted");
        let submission = match outcome {
            SubmitOutcome::New => Submission::Own,
            // A time-out or a crash hides who was first, so neither may speak for the presenter.
            SubmitOutcome::Known => Submission::Foreign,
            SubmitOutcome::Unknown(reason) => {
                tracing::warn!(%txid, reason, "submit: outcome unknown");
                Submission::Foreign
            }
            SubmitOutcome::Unavailable(reason) => {
                self.chain.unfollow(&txid);
                return Err(purchase.refusal(Code::NodeUnavailable, reason));
            }
            SubmitOutcome::Rejected(reason) => {
                return Err(match self.advance(&admitted.held, Fact::Rejected).await {
                    Ok(Advanced::Done) => {
                        self.chain.unfollow(&txid);
                        purchase.refusal(Code::TransactionRejected, reason)
                    }
                    // It may have been sent before: no proof, so the claim is kept.
                    Ok(_) => purchase.refusal(Code::SettlementPending, reason),
                    Err(error) => unusable(admitted, error),
                });
            }
        };
        self.step(admitted, Fact::Submitted(submission)).await?;
        // From here on it is sent again on every reconnect.
        let _ = self.chain.follow(&purchase.transaction, None, true);
        Ok(submission)
    }

    /// Whether neither the chain nor the node's mempool is known to have the transaction.
    async fn nowhere(&self, transaction: &Transaction, status: &watch::Receiver<TxStatus>) -> bool {
        let accepted = matches!(*status.borrow(), TxStatus::Accepted(_));
        !accepted && matches!(self.chain.sighting(transaction).await, Ok(Sighting::NotSeen) | Err(_))
    }

    /// Waits until the route's finality holds; 503 when it does not in time.
    async fn finality(&self, admitted: &Admitted, mut status: watch::Receiver<TxStatus>) -> Step<Acceptance> {
        let purchase = &admitted.purchase;
        let rule = purchase.claim.finality;
        let wait = purchase.pricing().map_or(Duration::ZERO, |pricing| pricing.settle_wait);
        let deadline = Instant::now() + wait;
        let pending = |detail: &str| purchase.refusal(Code::SettlementPending, detail);
        loop {
            let current = *status.borrow_and_update();
            let changed = async {
                if status.changed().await.is_err() {
                    // The chain went away; only the deadline ends this wait.
                    std::future::pending::<()>().await;
                }
            };
            let waited = match current {
                TxStatus::Accepted(acceptance) if rule.level != Finality::Confirmed || rule.depth == 0 => return Ok(acceptance),
                TxStatus::Accepted(acceptance) => {
                    let target = acceptance.blue_score.saturating_add(rule.depth);
                    timeout_at(deadline, async {
                        tokio::select! {
                            biased;
                            () = changed => None,
                            () = self.depths.reached(target) => Some(acceptance),
                        }
                    })
                    .await
                }
                TxStatus::Conflicted { acceptance, .. } => {
                    let target = acceptance.blue_score.saturating_add(self.limits.final_depth);
                    if self.chain.tip().borrow().blue_score >= target {
                        return Err(purchase.refusal(Code::TransactionConflicted, ""));
                    }
                    timeout_at(deadline, async {
                        changed.await;
                        None
                    })
                    .await
                }
                TxStatus::Unseen => {
                    timeout_at(deadline, async {
                        changed.await;
                        None
                    })
                    .await
                }
            };
            match waited {
                Ok(Some(acceptance)) if *status.borrow() == TxStatus::Accepted(acceptance) => return Ok(acceptance),
                Ok(_) => {}
                Err(_) => {
                    return Err(pending(match current {
                        TxStatus::Accepted(_) => "accepted, not deep enough yet",
                        TxStatus::Conflicted { .. } => "a conflicting transaction is accepted and not final yet",
                        TxStatus::Unseen => "not accepted yet",
                    }));
                }
            }
        }
    }

    /// A transaction the network knew first is served only to who proves the key of an input, and
    /// only for an offer older than its acceptance.
    async fn prove(&self, admitted: &Admitted, acceptance: &Acceptance, spent: Option<&[SpentOutput]>, observe: Observe) -> Step<()> {
        let purchase = &admitted.purchase;
        if acceptance.daa_score < purchase.claim.offer_daa {
            return Err(purchase.refusal(
                Code::TransactionOlder,
                format!("accepted at DAA score {}, the offer was made at {}", acceptance.daa_score, purchase.claim.offer_daa),
            ));
        }
        if observe == Observe::Any {
            return Ok(());
        }
        let (Some(proof), Some(spent)) = (&purchase.payer_proof, spent) else {
            return Err(purchase.refusal(Code::SettlementPending, "the node does not name the inputs yet"));
        };
        payer::check(proof, purchase.request_hash, spent.iter().map(|output| &output.script_public_key))
            .map_err(|error| purchase.refusal(Code::PayerProofInvalid, error.to_string()))?;
        self.step(admitted, Fact::Proven).await
    }

    async fn spent(&self, txid: &crate::protocol::ids::TxId, acceptance: &Acceptance) -> Result<Vec<SpentOutput>, ChainError> {
        timeout(PAYER_WAIT, self.chain.spent_outputs(txid, acceptance))
            .await
            .unwrap_or_else(|_| Err(ChainError::Unavailable("no answer in time".into())))
    }

    /// The address of the inputs, when they are all of one.
    fn payer_address(&self, spent: &[SpentOutput]) -> Option<String> {
        let (first, rest) = spent.split_first()?;
        if rest.iter().any(|output| output.script_public_key != first.script_public_key) {
            return None;
        }
        let prefix = self.chain.network().address_prefix();
        extract_script_pub_key_address(&first.script_public_key, prefix).ok().map(String::from)
    }

    /// Books the charge, durably, before anything is forwarded.
    async fn book(&self, admitted: &Admitted, receipt: &ReceiptFacts, started: UnixMillis) -> Step<()> {
        self.step(admitted, Fact::Settled { acceptance: receipt.acceptance, payer: receipt.payer.clone() }).await?;
        crash::point("settled");
        self.metrics.charged_sompi.inc_by(receipt.amount.sompi());
        self.metrics.settle_seconds.observe(Duration::from_millis(self.now().millis_since(started)).as_secs_f64());
        Ok(())
    }

    /// A step that must be durable before the next.
    pub(super) async fn step(&self, admitted: &Admitted, fact: Fact) -> Step<()> {
        match self.advance(&admitted.held, fact).await {
            Ok(Advanced::Done) => Ok(()),
            Ok(Advanced::Stale) => Err(admitted.purchase.refusal(Code::InFlight, "")),
            Ok(Advanced::Refused) => {
                Err(admitted.purchase.refusal(Code::SettlementPending, "the payment's record does not allow this step"))
            }
            Err(error) => Err(unusable(admitted, error)),
        }
    }
}

fn unusable(admitted: &Admitted, error: StoreError) -> Refusal {
    admitted.purchase.refusal(Code::StoreUnavailable, error.to_string())
}
