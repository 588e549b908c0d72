//! The records and outcomes of channels.

pub use crate::binding::escrow_v1::{
    ChannelConfig, SignedVoucher,
    state::{Authorised, Parts},
};

use crate::{
    protocol::{
        acceptance::Acceptance,
        amount::Amount,
        ids::{ChannelId, CommitmentId, Outpoint, PaymentIdentifier, RequestHash, RequestIdentity, TxId},
        policy::RouteId,
        time::UnixMillis,
    },
    store::{HolderId, StoredResponse},
};
use std::sync::Arc;

/// A channel to be opened. Its output is proven: by the funding transaction's bytes, or by the node.
#[derive(Clone, Debug)]
pub struct Opening {
    pub id: ChannelId,
    pub config: ChannelConfig,
    pub outpoint: Outpoint,
    pub funding: Amount,
    /// What a claim must leave in the escrow (`spend::reserve`).
    pub reserve: Amount,
    /// Borsh of the funding transaction, to be sent again until it is final; `None` when the client sent it itself.
    pub transaction: Option<Vec<u8>>,
    /// DAA score at which the node knew the output unspent, when it did.
    pub funded_daa: Option<u64>,
}

#[derive(Clone, Debug)]
pub enum Opened {
    New(Arc<ChannelRecord>),
    /// Open already, over this outpoint: a deposit that is sent again.
    Known(Arc<ChannelRecord>),
    /// The outpoint backs, or backed, another channel.
    OutpointInUse,
    /// Another outpoint under the same script backs an open channel; also the same channel over another outpoint.
    ScriptInUse,
}

/// One channel as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelRecord {
    /// Order of the openings of this store, from 1.
    pub sequence: u64,
    pub id: ChannelId,
    pub config: ChannelConfig,
    /// The active outpoint.
    pub outpoint: Outpoint,
    /// C, K, R, M and what the active outpoint holds.
    pub parts: Parts,
    /// The latest voucher for the active outpoint; its amount is `parts.signed`. `None` while nothing is signed for it.
    pub voucher: Option<SignedVoucher>,
    /// What a claim of the active outpoint must leave.
    pub reserve: Amount,
    /// The deposit, kept until it is final.
    pub deposit: Deposit,
    /// Claims and top-ups that are not final, oldest first.
    pub moves: Vec<Move>,
    /// What the last move that is final, and so no longer among them, had spent.
    pub before: Option<Outpoint>,
    /// A request whose cost is known at its end only; the channel serves nothing else meanwhile.
    pub stream: Option<OpenStream>,
    /// The outpoint was spent by somebody else.
    pub closure: Option<Closure>,
    pub opened_at: UnixMillis,
    /// Charges so far; the next one's number is one more.
    pub charges: u64,
    /// When the oldest charge that no accepted claim covers was made.
    pub unclaimed_since: Option<UnixMillis>,
    pub last_charge_at: Option<UnixMillis>,
}

/// What the money of a channel came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deposit {
    pub outpoint: Outpoint,
    pub funding: Amount,
    /// Borsh, to be sent again; `None` when the client sent it itself, and once it is final.
    pub transaction: Option<Vec<u8>>,
    /// A reorg took it after it was accepted, and it has not come back.
    pub taken_back: bool,
    /// DAA score of the output as the node last told it; `None` while it never did, or after a reorg took it.
    pub funded_daa: Option<u64>,
}

/// A claim or top-up: a transaction that both sides signed, from before its first submit until it is final.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    pub txid: TxId,
    /// Borsh, signed: what is submitted and resubmitted, byte for byte.
    pub transaction: Vec<u8>,
    /// The outpoint it spends, what that held, and its latest voucher.
    pub spends: Outpoint,
    pub held: Amount,
    pub voucher: SignedVoucher,
    /// The reserve of the outpoint it spends.
    pub spends_reserve: Amount,
    /// What leaves the escrow, fee included: all that was active when it was built, as far as the voucher covers it.
    pub takes: Amount,
    pub fee: Amount,
    /// What the client adds; zero for a plain claim.
    pub added: Amount,
    /// The active outpoint once it is accepted, what it holds, and what a claim of it must leave.
    pub continuation: Outpoint,
    pub funding: Amount,
    pub reserve: Amount,
    pub built_at: UnixMillis,
    pub state: MoveState,
    /// Kept by the store; when it is built, only a top-up's own voucher is in it.
    pub aside: Aside,
}

/// What the record says again once a reorg undoes, or restores, a move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Aside {
    /// Of a move that is not accepted: the latest voucher for its continuation. A top-up comes with one.
    pub voucher: Option<SignedVoucher>,
    /// [`ChannelRecord::unclaimed_since`] of the end that is not the active outpoint.
    pub unclaimed_since: Option<UnixMillis>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveState {
    /// Perhaps sent, not accepted. Of all moves that spend one outpoint at most one is accepted; until that one is final, the
    /// others stay as they are.
    Built,
    /// On the virtual chain; not final.
    Accepted(Acceptance),
    /// Was accepted, and a reorg took it; it is sent again. Nothing is served meanwhile.
    TakenBack,
}

/// The reservation of a request that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenStream {
    /// What the charge will say, but for the amount and what follows from it.
    pub terms: ChargeTerms,
    /// C, K and what the active outpoint held when the stream began: what its charge commits to, whatever the chain does meanwhile.
    pub charged_before: Amount,
    pub claimed: Amount,
    pub funding: Amount,
    /// The last durable meter reading, as a charge.
    pub reading: Option<Amount>,
    /// The charge without a reading (the route's `on_unknown`).
    pub unknown: Amount,
    pub status: u16,
    pub began_at: UnixMillis,
}

/// Everything of a charge that is known before its amount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChargeTerms {
    pub identifier: PaymentIdentifier,
    /// Of the offer.
    pub nonce: [u8; 16],
    pub identity: RequestIdentity,
    pub request_hash: RequestHash,
    /// `BatchTerms::hash` of the accepted offer.
    pub requirements_hash: [u8; 32],
    /// The active outpoint it is charged to.
    pub outpoint: Outpoint,
    pub voucher: SignedVoucher,
    pub ceiling: Amount,
    pub route: RouteId,
    /// Method, host and path for people.
    pub summary: String,
}

/// One charge: a row of the ledger, written once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChargeRecord {
    /// Within its channel, from 1.
    pub number: u64,
    pub channel: ChannelId,
    pub commitment: CommitmentId,
    pub terms: ChargeTerms,
    pub charge: Amount,
    /// C after it.
    pub charged_after: Amount,
    /// K at that moment.
    pub claimed: Amount,
    /// What the active outpoint held at that moment.
    pub funding: Amount,
    /// Of the answer.
    pub status: u16,
    pub at: UnixMillis,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCharge {
    pub record: ChargeRecord,
    /// `None` when it was over the replay limit, streamed away, or pruned.
    pub response: Option<StoredResponse>,
}

/// Somebody else spent the active outpoint: the client's refund.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closure {
    /// What was spent. Tells which moves the closure excludes, and which one undoes it.
    pub outpoint: Outpoint,
    pub by: TxId,
    pub acceptance: Acceptance,
    /// Deep enough that it is watched no longer.
    pub is_final: bool,
}

/// Where a channel stands; follows from its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Idle,
    Streaming,
    /// A claim or top-up is built and not accepted.
    Claiming,
    /// An accepted claim or top-up was taken back, or charges (or a stream's ceiling) hang on one that will not return.
    TakenBack,
    Closed,
}

impl Move {
    /// Whether the continuation covers a claim of this voucher.
    pub fn holds(&self, voucher: &SignedVoucher) -> bool {
        voucher.amount.checked_add(self.reserve).is_some_and(|least| least <= self.funding)
    }
}

impl ChannelRecord {
    pub fn phase(&self) -> Phase {
        let next = |wanted: fn(&MoveState) -> bool| self.next_moves().any(|step| wanted(&step.state));
        if self.closure.is_some() {
            Phase::Closed
        } else if next(|state| matches!(state, MoveState::TakenBack)) || self.exposure() > self.parts.signed {
            Phase::TakenBack
        } else if next(|state| matches!(state, MoveState::Built)) {
            Phase::Claiming
        } else if self.stream.is_some() {
            Phase::Streaming
        } else {
            Phase::Idle
        }
    }

    /// The moves that spend the active outpoint: none of them is accepted. Others that are not accepted lost to one that is.
    pub fn next_moves(&self) -> impl Iterator<Item = &Move> {
        self.moves.iter().filter(|step| step.spends == self.outpoint)
    }

    /// The other moves that spend what this one spends: of all of them the chain takes one.
    pub fn rivals<'r>(&'r self, step: &'r Move) -> impl Iterator<Item = &'r Move> {
        self.moves.iter().filter(|other| other.spends == step.spends && other.txid != step.txid)
    }

    /// C - K.
    pub fn active(&self) -> Amount {
        self.parts.charged.checked_sub(self.parts.claimed).unwrap_or(Amount::ZERO)
    }

    /// What a claim of the active outpoint takes: all that is owed, as far as its voucher covers it.
    pub fn claimable(&self) -> Amount {
        self.active().min(self.parts.signed)
    }

    /// What the operator would lose if the outpoint were spent elsewhere now.
    pub fn exposure(&self) -> Amount {
        self.active().checked_add(self.parts.reserved).unwrap_or(self.parts.funding)
    }

    /// The outpoint before the last claim or top-up: a client that was away meanwhile still names it.
    pub fn previous(&self) -> Option<Outpoint> {
        self.moves.iter().rev().find(|step| step.continuation == self.outpoint).map(|step| step.spends).or(self.before)
    }
}

/// Asks for a channel.
#[derive(Clone, Debug)]
pub struct LeaseAsk {
    pub channel: ChannelId,
    pub purpose: Purpose,
    pub holder: HolderId,
    /// The lease ends so long from now unless renewed.
    pub hold_millis: u64,
}

#[derive(Clone, Debug)]
pub enum Purpose {
    /// To serve a paid request.
    Request { identifier: PaymentIdentifier, nonce: [u8; 16], identity: RequestIdentity },
    /// To claim, to top up, or to post what a stream left behind.
    Upkeep,
}

/// Proof that this process holds a channel. Made only by a store; not `Clone`; expires by itself.
#[must_use = "a lease that is dropped blocks its channel until it expires"]
#[derive(Debug, PartialEq, Eq)]
pub struct Lease {
    pub(in crate::store) channel: ChannelId,
    /// Grows with every lease of the same channel; a stale fence changes nothing.
    pub(in crate::store) fence: u64,
}

impl Lease {
    pub fn channel(&self) -> &ChannelId {
        &self.channel
    }
}

/// What [`super::ChannelStore::lease`] found.
#[derive(Debug)]
pub enum Leased {
    /// Held. The record may be in any phase; what the phase forbids is refused by the steps.
    Held(Lease, Arc<ChannelRecord>),
    /// The identifier was charged for this very request.
    Replay(Box<StoredCharge>),
    /// The identifier was charged for another request.
    IdentifierReused,
    /// The offer was used in this channel with another identifier.
    NonceReused,
    /// Held by another until the given moment; `same` when for the same identifier.
    Busy {
        until: UnixMillis,
        same: bool,
        record: Arc<ChannelRecord>,
    },
    Unknown,
}

/// A step of the holder.
#[derive(Clone, Debug)]
pub enum ChannelFact {
    /// The lease ends so long from now; durable while a stream runs under it.
    Renewed { hold_millis: u64 },
    /// A request whose cost is known at its end only: M and its signature are kept, R is the ceiling. `reserve` is what a claim
    /// must leave.
    Reserved(Box<OpenStream>),
    /// The meter so far, as a charge; replaces the reading before.
    Metered { reading: Amount },
    /// The charge of this lease's request; or of the open stream, by any holder and in any phase. Ends the lease.
    Committed(Box<Charge>),
    /// Nothing is charged; the open stream of this very request is forgotten (nothing of it was sent). Ends the lease.
    Released,
    /// A claim or top-up is about to be sent. The record's phase keeps requests out from now on, so the lease ends.
    MoveBuilt(Box<Move>),
}

/// A charge to be committed. The store makes [`ChargeRecord`] of it and of the record at that moment.
#[derive(Clone, Debug)]
pub struct Charge {
    pub terms: ChargeTerms,
    pub charge: Amount,
    /// Over C before, C after and K: computed by the caller from the record it holds under the lease, or from the open stream.
    pub commitment: CommitmentId,
    /// What `commitment` was computed from; a record that differs refuses. Of a stream whose claims a reorg touched, K when it began
    /// and K now both count.
    pub charged_before: Amount,
    pub claimed: Amount,
    pub status: u16,
    pub response: Option<StoredResponse>,
}

#[derive(Debug)]
pub enum ChannelStep {
    /// Durable. The record after the step.
    Done(Arc<ChannelRecord>),
    /// The lease is over.
    Stale,
    /// The record does not allow the step.
    Refused,
}

/// What the chain says of a channel's outputs.
#[derive(Clone, Debug)]
pub enum ChannelSighting {
    /// The deposit is unspent in the utxo set, in a block of this DAA score.
    Funded { daa_score: u64 },
    /// A reorg took the deposit; it is sent again when its bytes are known.
    Unfunded,
    /// The deposit is `final_depth` deep: its bytes are forgotten. A final move says the same.
    DepositFinal,
    /// The deposit was proven never to be valid on its first submit, or a conflicting spend of its inputs is final: the channel
    /// never was. [`Observed::Unchanged`](crate::store::Observed) once anything was charged: that is a closure.
    NeverFunded,
    /// The move is on the virtual chain: its continuation is the active outpoint, K grows, M is zero. Undoes a closure that spent what
    /// this move, or one it builds on, spends. A move whose parent is taken back counts as soon as the parent does.
    MoveAccepted { txid: TxId, acceptance: Acceptance },
    /// A reorg took it.
    MoveTakenBack { txid: TxId },
    /// `final_depth` deep: its bytes, and those of other moves of the same outpoint, are forgotten.
    MoveFinal { txid: TxId },
    /// Proven never to be accepted on its first submit, or a conflicting spend of another of its inputs is final. An accepted one is
    /// not dropped: it is taken back first.
    MoveDropped { txid: TxId },
    /// Somebody else spent the active outpoint, or one that a move spends, which is then not accepted. Final: nothing is watched, and
    /// nothing changes any more.
    Closed(Closure),
    /// A reorg took that spend.
    Reopened,
}

/// A claim or top-up that the chain accepted at some time: a row of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettledMove {
    /// Within its channel, from 1.
    pub number: u64,
    pub channel: ChannelId,
    pub txid: TxId,
    pub spends: Outpoint,
    pub continuation: Outpoint,
    /// What left the escrow, fee included, and what the client added.
    pub takes: Amount,
    pub fee: Amount,
    pub added: Amount,
    pub state: SettledState,
    /// When it was first seen accepted.
    pub at: UnixMillis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettledState {
    /// Counts in K.
    Accepted(Acceptance),
    /// Counts in K, for ever.
    Final(Acceptance),
    /// Does not count: a reorg took it, or another spend of its outpoint.
    TakenBack,
}

/// Which channels [`super::ChannelStore::channels`] returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelSelection {
    All,
    /// Not closed for good: watched on the chain after a restart.
    Open,
}

#[derive(Clone, Copy, Debug)]
pub struct ChannelQuery {
    pub selection: ChannelSelection,
    /// Sequence after which to continue; 0 from the start.
    pub after: u64,
    pub limit: u32,
}

/// Sums in sompi (128 bit: a sum of amounts may exceed one amount's limit) and counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelTotals {
    pub open: u64,
    pub closed: u64,
    pub charges: u64,
    /// Sum of C. Equals `claimed + active + lost`.
    pub charged_sompi: u128,
    /// Sum of K.
    pub claimed_sompi: u128,
    /// Sum of C - K over channels that are not closed.
    pub active_sompi: u128,
    /// Sum of C - K over closed channels.
    pub lost_sompi: u128,
    /// What the active outpoints of channels that are not closed hold.
    pub funded_sompi: u128,
}
