//! The records and outcomes of the store.

pub use crate::protocol::acceptance::{Acceptance, Checkpoint};

use crate::protocol::{
    amount::Amount,
    ids::{ChannelId, PaymentIdentifier, RequestHash, RequestIdentity, TxId},
    network::Network,
    policy::RouteId,
    requirements::FinalityRule,
    time::UnixMillis,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A transaction is consumed once per network.
///
/// A gateway without a node keeps its sales from channels as payments too, for the channel itself is another gateway's: `txid` is then a
/// hash over the channel and the identifier that the client chose, which no transaction has ([`FromChannel`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PaymentKey {
    pub network: Network,
    pub txid: TxId,
}

/// Names a running gateway process; random at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HolderId(pub [u8; 16]);

/// Whose charge a payment's record is, at a gateway whose channels another gateway keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FromChannel {
    pub channel: ChannelId,
    /// The client's. [`PaymentRecord::identifier`] of such a record is another one, which keeps its offer from being used twice.
    pub identifier: PaymentIdentifier,
}

/// Everything durable about a payment at the moment it is claimed.
#[derive(Clone, Debug)]
pub struct Claim {
    pub key: PaymentKey,
    /// Borsh of the rebuilt consensus transaction: what is submitted and resubmitted, byte for byte. Of a sale from a channel the call to the
    /// facilitator, which is what is sent again.
    pub transaction: Vec<u8>,
    pub output_index: u32,
    /// Of a sale from a channel that another gateway keeps; `None` for a transaction.
    pub from_channel: Option<FromChannel>,
    pub amount: Amount,
    pub pay_to: String,
    pub route: RouteId,
    /// Method and URL for people; never the query's secrets beyond what the operator's own logs hold.
    pub summary: String,
    pub identity: RequestIdentity,
    /// Contains the offer, which only the presenter knows: tells who presented the payment first from
    /// who saw its transaction on the chain.
    pub request_hash: RequestHash,
    pub identifier: Option<PaymentIdentifier>,
    pub finality: FinalityRule,
    /// A fresh claim later than this is refused ([`ClaimOutcome::Expired`]); a known payment never is.
    pub accepted_until: UnixMillis,
    /// The DAA score of the offer: acceptance must not be older.
    pub offer_daa: u64,
    /// How long the payment stays good for its request once it is settled, seconds.
    pub entitlement_seconds: u64,
    pub holder: HolderId,
    /// The hold ends at `now + hold_millis` unless renewed.
    pub hold_millis: u64,
    /// Its offer was over when it was first presented, but the network knows the transaction: it is
    /// recorded as unresolved and served only after an operator's grant.
    pub late: bool,
}

/// Proof that this process holds a payment. Made only by a store; not `Clone`; expires by itself.
#[must_use = "a hold that is dropped blocks its payment until it expires"]
#[derive(Debug, PartialEq, Eq)]
pub struct Held {
    pub(in crate::store) key: PaymentKey,
    /// Grows with every hold of the same payment; a stale fence changes nothing.
    pub(in crate::store) fence: u64,
}

impl Held {
    pub fn key(&self) -> &PaymentKey {
        &self.key
    }
}

/// What [`super::Store::claim`] found.
#[derive(Debug)]
pub enum ClaimOutcome {
    /// Never seen: claimed for this request.
    Fresh(Held),
    /// Known, for this request, not delivered, held by nobody: held again. Also a pending claim of another
    /// request that nobody proved and that we did not bring to the network: it gives way to this one.
    Resumed(Held, Box<PaymentRecord>),
    /// Known, for this request, held by a living request until the given moment.
    InFlight { until: UnixMillis },
    /// Delivered for this request; the response is kept unless it was too large or pruned.
    Delivered(Box<StoredPayment>),
    /// Delivered, its response is not kept, and it may be forwarded once more (entitlement, redeliveries): held again.
    Redeliver(Held, Box<PaymentRecord>),
    /// This transaction paid for another request (or we brought it to the network for one, or it was proven for one).
    OtherRequest(Box<PaymentRecord>),
    /// The identifier names another request.
    IdentifierReused(Box<PaymentRecord>),
    /// The identifier names this request, paid by another transaction that is pending or settled: that one counts.
    IdentifierFirst(Box<PaymentRecord>),
    /// Never seen, and its offer is over: nothing was claimed.
    Expired,
    /// Settled for this request, but the entitlement is over.
    EntitlementOver(Box<PaymentRecord>),
    /// Recorded as paid late, and not granted.
    Late(Box<PaymentRecord>),
    /// A conflicting spend is final: this transaction can never count.
    Reversed(Box<PaymentRecord>),
}

/// Who brought the transaction to the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Submission {
    /// Not known to have been sent.
    None,
    /// Our submit was the first the node heard of it.
    Own,
    /// The node knew it before our submit, or a crash or time-out hides who was first.
    Foreign,
    /// Given to another gateway's facilitator, which has not said what became of it.
    HandedOver,
}

/// How far a payment has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentState {
    /// Claimed; the outcome on chain is open.
    Pending,
    /// Reached the route's finality: charged, and good for its request.
    Settled,
    /// The response was handed over.
    Delivered,
    /// A conflicting spend became final.
    Reversed,
}

/// One payment as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentRecord {
    /// Order of the claims of this store, from 1.
    pub sequence: u64,
    pub key: PaymentKey,
    pub state: PaymentState,
    /// As [`Claim::transaction`].
    pub transaction: Vec<u8>,
    pub output_index: u32,
    pub from_channel: Option<FromChannel>,
    /// The price; of a sale from a channel its ceiling.
    pub amount: Amount,
    /// What a sale from a channel costs, once its answer is known; at most `amount`. `None`: the whole of it.
    pub charge: Option<Amount>,
    /// What the facilitator said when it charged a sale from a channel, as the gateway wrote it down.
    pub receipt: Option<Vec<u8>>,
    pub pay_to: String,
    pub route: RouteId,
    pub summary: String,
    pub identity: RequestIdentity,
    /// Of the request that claimed it.
    pub request_hash: RequestHash,
    pub identifier: Option<PaymentIdentifier>,
    pub finality: FinalityRule,
    pub offer_daa: u64,
    /// Paid late ([`Claim::late`]); cleared by a grant.
    pub late: bool,
    pub submission: Submission,
    /// The payer's key was proven, or no proof was needed.
    pub proven: bool,
    /// Set only from the node.
    pub payer: Option<String>,
    pub acceptance: Option<Acceptance>,
    /// Deep enough that it is watched no longer.
    pub is_final: bool,
    /// The charge was booked in the ledger.
    pub charged: bool,
    pub claimed_at: UnixMillis,
    pub settled_at: Option<UnixMillis>,
    pub delivered_at: Option<UnixMillis>,
    pub entitlement_seconds: u64,
    /// Set when settled, extended by a grant.
    pub entitled_until: Option<UnixMillis>,
    /// Status of the last upstream answer.
    pub last_status: Option<u16>,
    /// Forwards that were begun.
    pub forwards: u32,
}

impl PaymentRecord {
    /// What it costs, as the books have it.
    pub fn cost(&self) -> Amount {
        self.charge.unwrap_or(self.amount)
    }
}

/// A response as a replay repeats it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredResponse {
    pub status: u16,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPayment {
    pub record: PaymentRecord,
    /// `None` before delivery (of a sale from a channel: before its answer), when the body was over the replay limit, or after pruning.
    pub response: Option<StoredResponse>,
}

/// A step of the holder.
#[derive(Clone, Debug)]
pub enum Fact {
    /// The hold ends `hold_millis` from now.
    Renewed { hold_millis: u64 },
    /// The node answered the submit (Own, Foreign), or a facilitator is about to be asked (HandedOver) and then said whose it is.
    Submitted(Submission),
    /// The first submit of a transaction never seen was refused as malformed, here or where it was handed to: the claim is freed.
    /// Answered [`Advanced::Refused`] when the record says it may have been sent before.
    Rejected,
    /// The presenter proved the key of an input.
    Proven,
    /// The route's finality is reached: the charge is booked (once), the entitlement begins.
    Settled { acceptance: Option<Acceptance>, payer: Option<String> },
    /// The request is about to be forwarded.
    Forwarding,
    /// Of a sale from a channel: the upstream answered, and the answer is held until the facilitator has charged `charge` (`None`: the
    /// whole amount) for it. From here on only the facilitator says whether that happened ([`Submission::HandedOver`]).
    /// Without a response it cannot be held, and is forwarded again when it is charged.
    Answered { status: u16, charge: Option<Amount>, response: Option<StoredResponse> },
    /// Of a sale from a channel: the facilitator charged it. The charge is booked (once) and the entitlement begins; a held answer counts as
    /// delivered, which ends the hold.
    Charged { receipt: Vec<u8> },
    /// The response is complete and counts as delivered; ends the hold. `response` is `None` when it is too large to keep.
    Delivered { status: u16, response: Option<StoredResponse> },
    /// The upstream failed or its answer does not count; ends the hold, the payment stays good.
    Undelivered { status: Option<u16> },
    /// The request stops waiting; ends the hold, nothing else changes.
    Released,
}

impl Fact {
    /// What is kept with the step.
    pub(in crate::store) fn response(&self) -> Option<&StoredResponse> {
        match self {
            Self::Answered { response, .. } | Self::Delivered { response, .. } => response.as_ref(),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advanced {
    Done,
    /// Another hold took over.
    Stale,
    /// The record's state does not allow the step.
    Refused,
}

/// What the chain says.
#[derive(Clone, Debug)]
pub enum ChainFact {
    Accepted(Acceptance),
    /// A reorg took the acceptance back.
    TakenBack,
    /// Accepted `final_depth` deep: watched no longer.
    Final,
    /// A conflicting spend is final. A charge is booked back (`reversed` ledger row); a pending claim is closed.
    Reversed {
        by: TxId,
    },
    /// An operator re-opens the entitlement until the given moment.
    Granted {
        until: UnixMillis,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    Done,
    /// Already so.
    Unchanged,
    NotFound,
}

/// Which payments [`super::Store::payments`] returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    All,
    /// Not final and not reversed: followed on the chain after a restart.
    Open,
    /// Pending: nobody knows yet whether the money moved.
    Unresolved,
    /// Settled and not delivered: owed to the payer.
    Owed,
}

#[derive(Clone, Copy, Debug)]
pub struct Query {
    pub selection: Selection,
    /// Sequence after which to continue; 0 from the start.
    pub after: u64,
    pub limit: u32,
}

/// Sums in sompi (128 bit: a sum of amounts may exceed one amount's limit) and counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub pending: u64,
    pub settled: u64,
    pub delivered: u64,
    pub reversed: u64,
    pub charged_sompi: u128,
    pub reversed_sompi: u128,
    /// Sum over settled, undelivered payments.
    pub owed_sompi: u128,
}
