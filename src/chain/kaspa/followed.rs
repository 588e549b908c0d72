//! What the tracker follows: a transaction, or the spend of one output, and where on the virtual chain it is.
//!
//! Both are the same to the chain: something that a chain block names, that is located, published, and taken back when
//! the block goes. A watched output is like a transaction of which only the one input is known, and which is never sent.
//! Used by `tracker` and `outputs` only.

use crate::{
    chain::{OutpointStatus, TxStatus, Utxo},
    protocol::{
        acceptance::Acceptance,
        ids::{BlockHash, Outpoint, TxId},
    },
};
use kaspa_addresses::Address;
use kaspa_consensus_core::tx::Transaction;
use std::{sync::Arc, time::Instant};
use tokio::sync::watch;

/// Names what is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Subject {
    Transaction(TxId),
    /// Whatever spends this output.
    Output(Outpoint),
}

/// Where a followed transaction, or its conflict, or the spend of a watched output was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Nowhere,
    /// In this block; its scores are not known yet. `by` is the conflicting or spending transaction.
    Named {
        block: BlockHash,
        by: Option<TxId>,
    },
    At {
        acceptance: Acceptance,
        by: Option<TxId>,
    },
}

impl Place {
    pub fn block(&self) -> Option<BlockHash> {
        match self {
            Self::Nowhere => None,
            Self::Named { block, .. } => Some(*block),
            Self::At { acceptance, .. } => Some(acceptance.block),
        }
    }

    pub fn by(&self) -> Option<TxId> {
        match self {
            Self::Nowhere => None,
            Self::Named { by, .. } | Self::At { by, .. } => *by,
        }
    }
}

pub(super) struct Followed {
    pub what: What,
    pub place: Place,
    pub since: Instant,
    /// Spends are looked for in chain blocks after this position.
    pub scanned: u64,
    /// There is a reason to believe that an input of the transaction is spent.
    pub suspect: bool,
}

pub(super) enum What {
    Transaction(Sent),
    Output(Box<Watched>),
}

pub(super) struct Sent {
    pub transaction: Arc<Transaction>,
    pub resubmit: bool,
    pub status: watch::Sender<TxStatus>,
}

pub(super) struct Watched {
    pub address: Address,
    pub status: watch::Sender<OutpointStatus>,
    pub held: Held,
    /// A DAA score at which it was unspent.
    pub known_unspent: Option<u64>,
    /// The position of a chain block after which it was still unspent.
    pub unspent_at: Option<u64>,
    pub hunt: Hunt,
}

/// What the utxo set said last.
pub(super) enum Held {
    Unasked,
    There(Utxo),
    Gone,
}

/// How the spend of an output that is gone is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hunt {
    /// Not at all: it is not gone, or was never known, or everything was searched.
    No,
    /// From a block that has to be found first.
    Trace,
    /// On the kept chain until this position; afterwards once more from `back` on.
    Chain { until: u64, back: Option<u64> },
}

impl Watched {
    /// What may be published; `None` while a block is named but not located.
    fn visible(&self, place: &Place) -> Option<OutpointStatus> {
        match (place, &self.held) {
            (Place::Named { .. }, _) => None,
            (Place::At { acceptance, by: Some(by) }, _) => Some(OutpointStatus::Spent { by: *by, acceptance: *acceptance }),
            (_, Held::There(utxo)) => Some(OutpointStatus::Unspent(utxo.clone())),
            (_, Held::Gone) if self.hunt == Hunt::No => Some(OutpointStatus::Absent),
            (_, Held::Gone | Held::Unasked) => Some(OutpointStatus::Unknown),
        }
    }
}

impl Followed {
    pub fn sent(&self) -> Option<&Sent> {
        match &self.what {
            What::Transaction(sent) => Some(sent),
            What::Output(_) => None,
        }
    }

    pub fn watched(&self) -> Option<&Watched> {
        match &self.what {
            What::Output(watched) => Some(watched),
            What::Transaction(_) => None,
        }
    }

    pub fn publish(&self) {
        match &self.what {
            What::Transaction(sent) => {
                let status = match self.place {
                    Place::Nowhere => TxStatus::Unseen,
                    Place::Named { .. } => return,
                    Place::At { acceptance, by: None } => TxStatus::Accepted(acceptance),
                    Place::At { acceptance, by: Some(by) } => TxStatus::Conflicted { by, acceptance },
                };
                send(&sent.status, status);
            }
            What::Output(watched) => {
                if let Some(status) = watched.visible(&self.place) {
                    send(&watched.status, status);
                }
            }
        }
    }

    /// What is published names a block that the chain left for another, which is not located yet.
    pub fn moving(&self) -> bool {
        let published = match &self.what {
            What::Transaction(sent) => *sent.status.borrow() != TxStatus::Unseen,
            What::Output(watched) => matches!(*watched.status.borrow(), OutpointStatus::Spent { .. }),
        };
        published && matches!(self.place, Place::Named { .. })
    }
}

fn send<T: PartialEq>(sender: &watch::Sender<T>, status: T) {
    sender.send_if_modified(|old| {
        let changed = *old != status;
        *old = status;
        changed
    });
}
