//! The facilitator: verification and settlement for other servers, by the paths that sell the gateway's own routes (PROTOCOL section 7).
//!
//! Promises: a tenant sees and moves only what is its own; what it may not ask for touches neither store nor chain; a payment that counted is
//! told again only to who names the same operation (`requestHash`), so that a server that names none is never told twice; nothing is told
//! before it is durable. `/verify` records and broadcasts nothing. Never judges an offer's token: that is the resource server's business.
//! Called by the listener in `crate::facilitator`.

mod answers;
mod channel;
mod claim;
mod exact;
mod sale;

use super::{
    Gateway,
    answer::Served,
    deliver::Outcome,
    purchase::{Admitted, Purchase, ReplySlot, say},
    respond::{ReceiptFacts, Refusal},
    settle::Settled,
};
use crate::{
    protocol::{
        policy::Policy,
        refusal::{Code, Offers},
        requirements::Extra,
        tenant::{self, Rate, Tenant},
        time::UnixMillis,
    },
    store::{Advanced, Fact, PaymentRecord, PaymentState, StoredResponse},
    wire::{envelope::Fault, facilitator::Call},
};
use answers::Told;
use async_trait::async_trait;
use bytes::Bytes;
use std::sync::Arc;

/// What becomes of a payment once it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum Goal {
    /// The request is forwarded.
    Forward,
    /// A tenant is told so; again only when it named its operation.
    Report { repeatable: bool },
}

/// The two calls of a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Verify,
    Settle,
}

impl Act {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Settle => "settle",
        }
    }
}

/// Proof that a call came with a tenant's token. Made only by [`Facilitator::caller`].
#[derive(Clone, Debug)]
pub struct Caller {
    policy: Arc<Policy>,
    tenant: Arc<Tenant>,
}

impl Caller {
    pub fn tenant(&self) -> &str {
        &self.tenant.name
    }

    pub fn rate(&self) -> Rate {
        self.tenant.rate
    }

    /// Most calls that run at the same time.
    pub fn running(&self) -> u32 {
        self.tenant.running
    }
}

/// A complete answer; the listener adds only framing.
#[derive(Clone, Debug)]
pub struct Verdict {
    pub status: u16,
    pub retry_after_seconds: Option<u32>,
    /// JSON.
    pub body: Bytes,
}

/// The facilitator as its listener sees it; implemented by the gateway.
#[async_trait]
pub trait Facilitator: Send + Sync + 'static {
    /// The tenant whose token this is; nothing else is looked at before.
    fn caller(&self, presented: Option<&[u8]>) -> Option<Caller>;

    fn supported(&self, caller: &Caller) -> Verdict;

    /// Runs to its end even when the caller goes away: whatever owns money goes on in a task of its own.
    async fn call(&self, caller: Caller, act: Act, body: Bytes, request_id: String) -> Verdict;

    /// Why a call is not even read.
    fn refuse(&self, caller: Option<&Caller>, act: Act, code: Code, retry_after_seconds: Option<u32>) -> Verdict;

    fn now(&self) -> UnixMillis;
}

#[async_trait]
impl Facilitator for Arc<Gateway> {
    fn caller(&self, presented: Option<&[u8]>) -> Option<Caller> {
        let policy = self.policy.load_full();
        let tenant = tenant::authenticated(&policy.tenants, presented)?.clone();
        Some(Caller { policy, tenant })
    }

    fn supported(&self, caller: &Caller) -> Verdict {
        self.kinds(caller)
    }

    async fn call(&self, caller: Caller, act: Act, body: Bytes, request_id: String) -> Verdict {
        let (network, tenant) = (caller.policy.network, caller.tenant.clone());
        let answer = self.answer(caller, act, &body, request_id).await;
        self.metrics.facilitated(Some(&tenant.name), act.name(), answer.as_ref().err().map(|refusal| refusal.code.as_str()));
        match answer {
            Ok(told) => answers::told(told),
            Err(refusal) => {
                self.count_refusal(refusal.code);
                answers::refused(act, network, &refusal)
            }
        }
    }

    fn refuse(&self, caller: Option<&Caller>, act: Act, code: Code, retry_after_seconds: Option<u32>) -> Verdict {
        self.count_refusal(code);
        self.metrics.facilitated(caller.map(Caller::tenant), act.name(), Some(code.as_str()));
        let refusal = Refusal { retry_after_seconds, ..Refusal::new(code, code.meaning()) };
        answers::refused(act, self.policy.load().network, &refusal)
    }

    fn now(&self) -> UnixMillis {
        Gateway::now(self)
    }
}

/// A call whose payment is its tenant's and right in itself.
enum Judged {
    Exact(Box<Purchase>),
    /// What a payment from a channel says is judged against the channel.
    Channel(Box<sale::Asked>),
}

/// Says whether the payment that is refused counted before.
pub(in crate::gateway) fn already(refusal: Refusal, settled: bool) -> Refusal {
    refusal.with("alreadySettled", settled)
}

impl Gateway {
    /// The order of the proxy's path: the call, its envelope, whose it is, the payment itself, then store and chain.
    async fn answer(self: &Arc<Self>, caller: Caller, act: Act, body: &[u8], request_id: String) -> Result<Told, Refusal> {
        let allowed = caller.tenant.permissions;
        let permitted = match act {
            Act::Verify => allowed.verify,
            // A claim has a permission of its own, which is asked for where it is known to be one.
            Act::Settle => allowed.settle || allowed.claim,
        };
        if !permitted {
            return Err(Refusal::new(Code::TenantPermission, ""));
        }
        let call = Call::parse(body)?;
        let (hash, confirmations, sighting) = (call.request_hash, call.confirmations, call.sighting);
        let (charge, deposit) = (call.charge, call.deposit);
        if sighting && act == Act::Settle {
            return Err(Refusal::new(Code::CallMalformed, "sighting is asked of /verify"));
        }
        if (charge.is_some() || deposit) && act == Act::Verify {
            return Err(Refusal::new(Code::CallMalformed, "charge and deposit are asked of /settle"));
        }
        if charge.is_some() && deposit {
            return Err(Refusal::new(Code::CallMalformed, "a deposit that is brought in charges nothing"));
        }
        let called = call.payment()?;
        let presented = exact::presented(&called);
        let owner = sale::route_id(&caller.tenant);
        let network = caller.policy.network;
        match self.judged(sale::Asked { caller, called, hash, confirmations, charge, deposit, request_id }, act) {
            Ok(Judged::Exact(purchase)) => self.exact(*purchase, act, sighting).await,
            Ok(Judged::Channel(asked)) => self.from_channel(*asked, act).await,
            // What does not fit this call may have paid for another of this tenant's.
            Err(refusal) if refusal.code.offers() == Offers::Attach => match presented {
                Some(txid) => Err(self.settled_before(network, txid, &owner, refusal).await),
                None => Err(refusal),
            },
            Err(refusal) => Err(refusal),
        }
    }

    /// Everything that needs neither store nor chain.
    fn judged(&self, asked: sale::Asked, act: Act) -> Result<Judged, Refusal> {
        let sale::Asked { caller, called, .. } = &asked;
        let accepted = &called.envelope.accepted;
        if accepted.network != caller.policy.network {
            return Err(Fault::new(Code::Network, format!("this facilitator works on {}", caller.policy.network)).into());
        }
        called.agreed()?;
        let owns = caller.tenant.recipients.contains(&accepted.pay_to)
            && match &accepted.extra {
                Extra::Exact(_) => true,
                Extra::Escrow(extra) => caller.tenant.server_keys.contains(&extra.server_public_key),
            };
        if !owns {
            return Err(Refusal::new(Code::TenantRecipient, ""));
        }
        match &accepted.extra {
            Extra::Exact(_) if asked.charge.is_some() || asked.deposit => {
                Err(Refusal::new(Code::CallMalformed, "charge and deposit are asked of payments from channels"))
            }
            Extra::Escrow(_) if asked.charge.is_some_and(|charge| charge > accepted.amount) => {
                Err(Refusal::new(Code::ChargeAboveAmount, format!("the payment is for {} sompi at most", accepted.amount)))
            }
            Extra::Exact(_) if act == Act::Settle && !caller.tenant.permissions.settle => {
                Err(Refusal::new(Code::TenantPermission, "settle"))
            }
            Extra::Exact(_) => Ok(Judged::Exact(Box::new(self.exact_sale(asked)?))),
            Extra::Escrow(_) if asked.confirmations.is_some() => {
                Err(Refusal::new(Code::CallMalformed, "confirmations are asked for exact payments"))
            }
            Extra::Escrow(_) => Ok(Judged::Channel(Box::new(asked))),
        }
    }

    /// Tells that an exact payment counts, durably before it is told.
    pub(super) async fn report(&self, admitted: &Admitted, settled: &Settled, repeatable: bool, reply: &mut Option<ReplySlot>) -> Outcome {
        let purchase = &admitted.purchase;
        let told = admitted.record.as_ref().is_some_and(|record| record.state == PaymentState::Delivered);
        let answer = if told && !repeatable {
            self.release(&admitted.hold).await;
            Err(already(purchase.refusal(Code::Replay, ""), true))
        } else {
            // What is told again is made of the record; that it was told has to be kept.
            let kept = StoredResponse { status: 200, headers: Vec::new(), body: Bytes::new() };
            match self.end(&admitted.hold, Fact::Delivered { status: 200, response: Some(kept) }).await {
                Ok(Advanced::Done) => Ok(Served::Answer(Box::new(purchase.reply.receipt(&settled.receipt.message())))),
                Ok(_) => Err(purchase.refusal(Code::InFlight, "")),
                Err(_) => Err(purchase.refusal(Code::StoreUnavailable, "").with("status", "pending")),
            }
        };
        let (status, delivered) = match &answer {
            Ok(_) => (200, true),
            Err(refusal) => (refusal.code.status(), false),
        };
        say(reply, answer);
        Outcome { status, delivered }
    }

    /// The same of a payment that was told before.
    pub(super) fn report_again(&self, purchase: &Purchase, record: &PaymentRecord, repeatable: bool) -> Result<Served, Refusal> {
        if !repeatable {
            return Err(already(purchase.refusal(Code::Replay, ""), true));
        }
        self.metrics.requests.replayed.inc();
        Ok(Served::Answer(Box::new(purchase.reply.receipt(&ReceiptFacts::of(record).message()))))
    }
}
