//! Why something with a channel was not done, and where the money is.

use super::account::{Due, Lie};
use crate::{
    binding::escrow_v1::spend::SpendError,
    chain::ChainError,
    client::{
        challenge::ChallengeError,
        coins::PlanError,
        error::{Money, Unpaid},
        journal::JournalError,
    },
    protocol::{
        amount::Amount,
        ids::{ChannelId, TxId},
        refusal::Code,
    },
};
use std::time::Duration;

/// The one error of channels.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// Nothing was signed or sent.
    #[error(transparent)]
    Unpaid(#[from] Unpaid),
    #[error("no channel of this wallet pays this server; open one with a deposit of at least {}", .least.to_kas())]
    NoChannel { least: Amount },
    #[error("channel {0} is not in this wallet's journal")]
    NotFound(ChannelId),
    #[error("channel {0} pays this server already; top it up, or say that you want another")]
    OpenAlready(ChannelId),
    #[error("the deposit of {} is below the server's minimum of {}", .deposit.to_kas(), .least.to_kas())]
    BelowMinimum { deposit: Amount, least: Amount },
    #[error("{} more would be locked beside {}, above the maximum of {}", .more.to_kas(), .locked.to_kas(), .max.to_kas())]
    LockedTooMuch { more: Amount, locked: Amount, max: Amount },
    #[error(
        "a deposit would be locked until DAA score {timeout_daa} (now {now_daa}), which is over already or further than {max_lock_daa} ahead"
    )]
    Timeout { timeout_daa: u64, now_daa: u64, max_lock_daa: u64 },
    #[error("a deposit of {} is too small for any claim", .0.to_kas())]
    TooSmall(Amount),
    #[error("channel {channel}: {due}")]
    Due { channel: ChannelId, due: Due },
    #[error("channel {channel} is {phase}{}", .why.as_ref().map(|why| format!(": {why}")).unwrap_or_default())]
    Unusable { channel: ChannelId, phase: &'static str, why: Option<String> },
    /// Signing lower would be the only way on, and is never done.
    #[error(
        "channel {channel} has signed up to {}, of which the server has taken note of {} only: repeat the dearer request, \
         or wait for the server's next claim, or top up",
        .signed.to_kas(), .held.to_kas()
    )]
    Unacknowledged { channel: ChannelId, signed: Amount, held: Amount },
    #[error("another process is using channel {0}")]
    Busy(String),
    #[error("channel {0}: nothing is charged that was not claimed, so there is nothing to top up with; open another channel instead")]
    NothingActive(ChannelId),
    #[error("the journal of channel {0} changed meanwhile; try again")]
    Contended(ChannelId),
    /// The server says that nothing was charged.
    #[error("the server refuses: {code} ({words})")]
    Refused { channel: ChannelId, code: Code, words: String },
    /// A statement of the server cannot be true. Nothing is signed for this channel any more.
    #[error("the server of channel {channel} is wrong about it: {lie}")]
    Wrong { channel: ChannelId, lie: Lie },
    /// The node does not confirm what the server says.
    #[error("the server says that channel {channel} moved on, and the node does not show it: {words}")]
    NotShown { channel: ChannelId, words: String },
    /// A voucher is with the server and its request may have been charged.
    #[error("the request from channel {channel} is not decided: {why}")]
    InFlight { channel: ChannelId, why: String },
    /// The receipt is there, the answer is not. Never paid for again but on request.
    #[error("{} were charged to channel {channel} for this request, but the server answers {words} instead", .amount.to_kas())]
    NotDelivered { channel: ChannelId, amount: Amount, words: String },
    #[error(
        "the rest of channel {channel} comes back in blocks after DAA score {timeout_daa}; it is {now_daa} now: {left_daa} to go, about {}",
        span(*.left)
    )]
    NotYet { channel: ChannelId, timeout_daa: u64, now_daa: u64, left_daa: u64, left: Duration },
    #[error("the node shows no money in channel {0}")]
    NothingThere(ChannelId),
    #[error("the {what} of channel {channel} cannot be built: {error}")]
    Spend { channel: ChannelId, what: &'static str, error: SpendError },
    #[error("transaction {txid} is not accepted yet: {words}; run the same command again")]
    NotAccepted { channel: ChannelId, txid: TxId, words: String },
}

impl ChannelError {
    /// What of the buyer's money is where.
    pub fn money(&self) -> Money {
        match self {
            Self::InFlight { channel, .. } | Self::NotDelivered { channel, .. } => Money::Promised(*channel),
            Self::NotAccepted { txid, .. } => Money::Undecided(*txid),
            _ => Money::Unspent,
        }
    }
}

/// A length of time for people.
fn span(left: Duration) -> String {
    let minutes = left.as_secs().div_ceil(60);
    match (minutes / 60, minutes % 60) {
        (0, minutes) => format!("{minutes} min"),
        (hours, minutes) if hours < 48 => format!("{hours} h {minutes} min"),
        (hours, _) => format!("{} days", hours / 24),
    }
}

impl From<JournalError> for ChannelError {
    fn from(error: JournalError) -> Self {
        Self::Unpaid(error.into())
    }
}

impl From<ChainError> for ChannelError {
    fn from(error: ChainError) -> Self {
        Self::Unpaid(error.into())
    }
}

impl From<PlanError> for ChannelError {
    fn from(error: PlanError) -> Self {
        Self::Unpaid(error.into())
    }
}

impl From<ChallengeError> for ChannelError {
    fn from(error: ChallengeError) -> Self {
        Self::Unpaid(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_the_unit_that_matters() {
        for (seconds, expect) in
            [(0, "0 min"), (1, "1 min"), (3_599, "1 h 0 min"), (3_660, "1 h 1 min"), (172_800, "2 days"), (2_592_000, "30 days")]
        {
            assert_eq!(span(Duration::from_secs(seconds)), expect);
        }
    }
}
