//! The amounts of a channel and the rules that hold among them in every phase.

use crate::protocol::amount::Amount;

/// A channel's amounts, for records and for the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// What the active outpoint holds.
    pub funding: Amount,
    /// C: charged since the channel opened.
    pub charged: Amount,
    /// K: claimed on chain since the channel opened.
    pub claimed: Amount,
    /// R: the ceiling of a running stream, else zero.
    pub reserved: Amount,
    /// M: the highest amount signed for the active outpoint, zero when none is.
    pub signed: Amount,
}

/// Amounts that hold together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accounts(pub(super) Parts);

/// Why a transition is refused; the phase before it still holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    #[error("the amounts of the channel contradict each other")]
    Inconsistent,
    #[error("a sum is more than the network can hold")]
    Overflow,
    #[error("the voucher must be {expected} sompi, not {given}")]
    Voucher { expected: Amount, given: Amount },
    #[error("the escrow holds {funding} sompi, which does not cover the voucher of {voucher} and the reserve of {reserve}")]
    Uncovered { funding: Amount, voucher: Amount, reserve: Amount },
    #[error("the charge is above the ceiling of {ceiling} sompi")]
    AboveCeiling { ceiling: Amount },
    #[error("nothing is charged that was not claimed")]
    NothingToClaim,
    #[error("a top-up adds nothing")]
    NothingAdded,
}

impl Accounts {
    /// A channel that was just funded.
    pub fn opened(funding: Amount) -> Self {
        Self(Parts { funding, ..Parts::default() })
    }

    pub(super) fn checked(parts: Parts) -> Result<Self, StateError> {
        let active = parts.charged.checked_sub(parts.claimed).ok_or(StateError::Inconsistent)?;
        let bound = active.checked_add(parts.reserved).ok_or(StateError::Overflow)?;
        parts.funding.checked_add(parts.claimed).ok_or(StateError::Overflow)?;
        let holds = bound <= parts.signed && parts.signed <= parts.funding;
        if holds { Ok(Self(parts)) } else { Err(StateError::Inconsistent) }
    }

    pub fn parts(&self) -> Parts {
        self.0
    }

    /// Charged and not yet claimed: `C - K`.
    pub fn active(&self) -> Amount {
        self.0.charged.checked_sub(self.0.claimed).expect("claims never exceed charges")
    }

    /// What the operator would lose if the outpoint were spent elsewhere now.
    pub fn exposure(&self) -> Amount {
        self.active().checked_add(self.0.reserved).expect("at most what is signed")
    }

    /// What the client's next voucher must be for a request of at most `ceiling`: `max(M, active + ceiling)`.
    pub fn expected_voucher(&self, ceiling: Amount) -> Result<Amount, StateError> {
        Ok(self.active().checked_add(ceiling).ok_or(StateError::Overflow)?.max(self.0.signed))
    }

    /// Whether the voucher is the one that is due and the escrow covers it.
    pub fn authorise(&self, by: Authorised) -> Result<(), StateError> {
        let expected = self.expected_voucher(by.ceiling)?;
        if by.voucher != expected {
            return Err(StateError::Voucher { expected, given: by.voucher });
        }
        self.covers(by.voucher, by.reserve)
    }

    /// Whether the escrow holds `voucher` and the `reserve` that a claim must leave.
    pub fn covers(&self, voucher: Amount, reserve: Amount) -> Result<(), StateError> {
        let funding = self.0.funding;
        match voucher.checked_add(reserve) {
            Some(sum) if sum <= funding => Ok(()),
            _ => Err(StateError::Uncovered { funding, voucher, reserve }),
        }
    }
}

/// The voucher of one request and what it may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authorised {
    /// The voucher's amount.
    pub voucher: Amount,
    /// The most this request may cost.
    pub ceiling: Amount,
    /// What a claim must leave in the escrow.
    pub reserve: Amount,
}
