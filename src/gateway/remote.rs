//! Settling through another gateway's facilitator: for a gateway that has no node and no server key (PROTOCOL section 7).
//!
//! Promises: the payment is claimed here before it leaves, and charged here before anything is forwarded, as with a node of one's own. A call
//! whose answer is lost is sent again with the same `requestHash`, so that it finds the same settlement; nobody is asked to pay again unless
//! the facilitator proves that nothing moved. Never believes an answer about another transaction or amount.

use super::{
    Gateway,
    purchase::Admitted,
    respond::ReceiptFacts,
    settle::{Settled, Step},
};
use crate::{
    binding::exact_v1::payload::{ExactTransfer, ExactType},
    protocol::refusal::{Code, Offers},
    store::{Advanced, Fact, PaymentState, Submission},
    wire::messages::X402_VERSION,
};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// Between two tries when the facilitator says nothing of it.
const AGAIN: Duration = Duration::from_secs(1);

/// Another gateway's facilitator; `crate::facilitator::remote` implements it.
#[async_trait]
pub trait RemoteFacilitator: Send + Sync + 'static {
    /// `POST /settle`, once, within this time.
    async fn settle(&self, call: &Value, within: Duration) -> Result<RemoteAnswer, RemoteError>;
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

/// What one answer means.
enum Heard {
    Settled {
        payer: Option<String>,
    },
    /// Nothing can be said yet: the same call again.
    Again(Duration),
    Refused(Code, String),
    /// The facilitator does not work for this gateway.
    NotOurs(String),
}

impl Gateway {
    /// From now on payments are settled there. Called once, before traffic.
    pub fn settle_through(&self, remote: Arc<dyn RemoteFacilitator>) {
        // A second call would change nothing, and nobody makes one.
        let _ = self.remote.set(remote);
    }

    pub(super) async fn settle_at(&self, remote: &dyn RemoteFacilitator, admitted: &Admitted) -> Step<Settled> {
        let purchase = &admitted.purchase;
        let started = self.now();
        if let Some(record) = admitted.record.as_deref().filter(|record| record.state != PaymentState::Pending) {
            self.may_present(purchase, record).await?;
            return Ok(Settled { receipt: ReceiptFacts::of(record), released_at: None });
        }
        let wait = purchase.pricing().map_or(Duration::ZERO, |pricing| pricing.settle_wait);
        let payer = self.asked_until(remote, admitted, Instant::now() + wait).await?;
        let receipt = ReceiptFacts {
            key: purchase.key(),
            amount: purchase.claim.amount,
            output_index: purchase.claim.output_index,
            finality: purchase.claim.finality.level,
            // The facilitator follows it, on its own books.
            acceptance: None,
            payer,
        };
        // It was brought to the network for this request: from now on it is no other's.
        self.step(admitted, Fact::Submitted(Submission::Own)).await?;
        self.book(admitted, &receipt, started).await?;
        Ok(Settled { receipt, released_at: Some(Instant::now()) })
    }

    /// Sends the call until it is decided or the time is over; the payer, when it is settled.
    async fn asked_until(&self, remote: &dyn RemoteFacilitator, admitted: &Admitted, deadline: Instant) -> Step<Option<String>> {
        let purchase = &admitted.purchase;
        let call = call(admitted);
        let mut sent = false;
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).max(AGAIN);
            let (heard, why) = match remote.settle(&call, left).await {
                Ok(answer) => {
                    sent = true;
                    (heard(admitted, &answer), answer.body["extensions"]["kaspa"]["reason"].as_str().unwrap_or_default().to_owned())
                }
                Err(error) => {
                    sent |= matches!(error, RemoteError::Unknown(_));
                    tracing::warn!(%error, txid = %purchase.key().txid, "facilitator");
                    (Heard::Again(AGAIN), error.to_string())
                }
            };
            match heard {
                Heard::Settled { payer } => return Ok(payer),
                Heard::Again(pause) if Instant::now() + pause < deadline => {
                    tokio::time::sleep(pause).await; // why: the other side is asked again, it pushes nothing
                }
                // Perhaps it arrived, and perhaps it is on its way: the same header resumes.
                Heard::Again(_) if sent => return Err(purchase.refusal(Code::SettlementPending, why)),
                Heard::Again(_) => return Err(purchase.refusal(Code::FacilitatorUnavailable, why).with("status", "pending")),
                Heard::NotOurs(why) => {
                    tracing::error!(why, "the facilitator does not work for this gateway");
                    return Err(purchase.refusal(Code::FacilitatorUnavailable, ""));
                }
                Heard::Refused(code, detail) if code.offers() == Offers::Attach => {
                    return Err(match self.advance(&admitted.held, Fact::Rejected).await {
                        Ok(Advanced::Done) => purchase.refusal(code, detail),
                        Ok(_) => purchase.refusal(Code::SettlementPending, detail),
                        Err(_) => purchase.refusal(Code::StoreUnavailable, ""),
                    });
                }
                Heard::Refused(code, detail) => {
                    let refusal = purchase.refusal(code, detail);
                    return Err(match code {
                        Code::PayerProofRequired => refusal.with("requestHash", purchase.request_hash.to_string()),
                        _ => refusal,
                    });
                }
            }
        }
    }
}

fn heard(admitted: &Admitted, answer: &RemoteAnswer) -> Heard {
    let (claim, body) = (&admitted.purchase.claim, &answer.body);
    let reason = body["extensions"]["kaspa"]["reason"].as_str().unwrap_or_default();
    let code = Code::ALL.iter().copied().find(|code| code.as_str() == reason);
    match (answer.status, body["success"].as_bool()) {
        (200, Some(true)) => {
            let about = (body["transaction"].as_str(), body["network"].as_str(), body["amount"].as_str());
            let (txid, amount) = (claim.key.txid.to_string(), claim.amount.to_string());
            if about != (Some(&*txid), Some(claim.key.network.as_str()), Some(&*amount)) {
                return Heard::NotOurs("it answered about another payment".to_owned());
            }
            Heard::Settled { payer: body["payer"].as_str().map(str::to_owned) }
        }
        (401 | 403, _) => Heard::NotOurs(format!("{} {reason}", answer.status)),
        (200, Some(false)) => match code {
            Some(Code::InFlight) | None => Heard::Again(AGAIN),
            Some(code) => Heard::Refused(code, body["errorMessage"].as_str().unwrap_or_default().to_owned()),
        },
        _ => Heard::Again(answer.retry_after.unwrap_or(AGAIN).max(Duration::from_millis(50))),
    }
}

/// The payment as it was claimed here, under the terms it was offered with; equal for every try.
fn call(admitted: &Admitted) -> Value {
    let purchase = &admitted.purchase;
    let payload = ExactTransfer {
        r#type: ExactType::ExactTransfer,
        payer_address: None,
        transaction: hex::encode(&purchase.claim.transaction),
        transaction_id: Some(purchase.claim.key.txid),
        payment_output_index: purchase.claim.output_index,
        request_hash: Some(purchase.request_hash),
    };
    let mut payment = json!({ "x402Version": X402_VERSION, "accepted": purchase.accepted, "payload": payload });
    if let Some(proof) = &purchase.payer_proof {
        payment["extensions"] = json!({ "kaspa": { "payerProof": proof } });
    }
    json!({
        "x402Version": X402_VERSION,
        "paymentPayload": payment,
        "paymentRequirements": purchase.accepted,
        "requestHash": purchase.request_hash,
    })
}
