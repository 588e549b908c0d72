//! Why a paid fetch ended without the resource, and where the money is.

use super::{challenge::ChallengeError, channel::ChannelError, coins::PlanError, decide::Stop, journal::JournalError, policy::Unwilling};
use crate::{
    chain::ChainError,
    protocol::{
        amount::Amount,
        ids::{ChannelId, TxId},
        refusal::Code,
    },
};

/// What the buyer may still have paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Money {
    /// Nothing was sent to anybody.
    Unspent,
    /// A signed payment is in the journal; the same request again resumes it.
    Undecided(TxId),
    /// Settled by a receipt; the same request again resumes it.
    Settled(TxId),
    /// Settled, and the server no longer serves it.
    Lost(TxId),
    /// A voucher of this channel is with the server; the same request again resumes it.
    Promised(ChannelId),
}

/// The one error of a fetch.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error(transparent)]
    BeforePaying(#[from] Unpaid),
    /// A payment is recorded and may have moved money.
    #[error("payment {txid} is not decided: {why}")]
    Undecided { txid: TxId, why: Why },
    /// The receipt is there, the resource is not.
    #[error("payment {txid} is settled, but the server answers {status} instead of the resource")]
    Undelivered { txid: TxId, status: u16 },
    #[error("payment {txid} was settled, and the time to use it is over")]
    Lapsed { txid: TxId },
    /// Paying from a channel failed.
    #[error(transparent)]
    Channel(Box<ChannelError>),
}

impl From<ChannelError> for FetchError {
    fn from(error: ChannelError) -> Self {
        match error {
            ChannelError::Unpaid(unpaid) => Self::BeforePaying(unpaid),
            other => Self::Channel(Box::new(other)),
        }
    }
}

impl FetchError {
    pub fn money(&self) -> Money {
        match self {
            Self::BeforePaying(_) => Money::Unspent,
            Self::Undecided { txid, .. } => Money::Undecided(*txid),
            Self::Undelivered { txid, .. } => Money::Settled(*txid),
            Self::Lapsed { txid } => Money::Lost(*txid),
            Self::Channel(error) => error.money(),
        }
    }
}

/// Why nothing was paid.
#[derive(Debug, thiserror::Error)]
pub enum Unpaid {
    #[error("the URL is not http or https, or carries a password")]
    Url,
    #[error("the server cannot be reached: {0}")]
    Unreachable(String),
    #[error("the server redirects (status {status}, to {location:?}), which a paying client does not follow")]
    Redirected { status: u16, location: String },
    #[error(transparent)]
    Challenge(#[from] ChallengeError),
    #[error("no offer is acceptable: {}", .0.iter().map(Unwilling::to_string).collect::<Vec<_>>().join("; "))]
    Unwilling(Vec<Unwilling>),
    #[error("the server names the resource {named:?}, which is not what was asked for")]
    OtherResource { named: String },
    #[error("paying needs a node (--node), to find the wallet's coins")]
    NoNode,
    #[error("the node is not ready: {0}")]
    NodeNotReady(String),
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error("the network fee would be {}, above the maximum of {}", .fee.to_kas(), .max.to_kas())]
    Fee { fee: Amount, max: Amount },
    #[error("the coins allow only the very transaction that was rejected")]
    SameTransaction,
    #[error("other payments keep taking the chosen coins")]
    Contended,
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl From<Unwilling> for Unpaid {
    fn from(reason: Unwilling) -> Self {
        Self::Unwilling(vec![reason])
    }
}

/// Why a recorded payment is left undecided.
#[derive(Debug, thiserror::Error)]
pub enum Why {
    #[error("no decision in time; last: {last}")]
    Timeout { last: String },
    #[error(transparent)]
    Stop(#[from] Stop),
    #[error("the server says {code}, but without a node that cannot be checked")]
    Unchecked { code: Code },
    #[error("the server says {code}, but the network knows the transaction")]
    Contradicted { code: Code },
    #[error("the server rejects every payment (last: {code})")]
    AlwaysRejected { code: Code },
    #[error("the server says {code}, and it cannot be paid anew: {why}")]
    NoReplacement { code: Code, why: Box<Unpaid> },
    #[error(transparent)]
    Journal(#[from] JournalError),
}
