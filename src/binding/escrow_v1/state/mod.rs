//! The accounts of one channel, a type per phase, every transition consuming the phase it leaves.
//!
//! Promises: no sum wraps; what is charged stays below what the client signed, what is signed below what
//! the escrow holds; `funding + claimed` changes by deposits alone. Never asks whether a signature is right
//! (`verify`) or what a claim costs (`spend`). The store keeps [`Parts`] and gets its phase back by `restore`.

mod accounts;

pub use accounts::{Accounts, Authorised, Parts, StateError};

use crate::protocol::amount::Amount;

/// Nothing is under way.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idle(Accounts);

/// A stream runs: its ceiling is reserved, which counts as exposure and is never claimed.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Streaming(Accounts);

/// A claim or top-up may be on its way to the chain.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claiming {
    before: Accounts,
    after: Accounts,
    settled: SettledClaim,
}

/// A claim or top-up that the chain accepted, with what is needed to take it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettledClaim {
    /// What it paid out, fee included.
    pub takes: Amount,
    /// What the client added; zero for a plain claim.
    pub added: Amount,
    /// M of the outpoint it spent.
    pub signed: Amount,
}

/// A reorganisation removed claims that were accepted; they are being rebroadcast. Nothing is served meanwhile.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenBack {
    accepted: Accounts,
    on_chain: Parts,
}

/// The escrow is gone. Nothing follows.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed(Parts);

impl Idle {
    pub fn opened(funding: Amount) -> Self {
        Self(Accounts::opened(funding))
    }

    /// From a record; a reservation in it belongs to [`Streaming::restore`].
    pub fn restore(parts: Parts) -> Result<Self, StateError> {
        if parts.reserved.is_zero() { Accounts::checked(parts).map(Self) } else { Err(StateError::Inconsistent) }
    }

    pub fn accounts(&self) -> &Accounts {
        &self.0
    }

    /// Charges a request that is over.
    pub fn charge(self, by: Authorised, charge: Amount) -> Result<Self, StateError> {
        self.0.authorise(by)?;
        add_charge(Parts { signed: by.voucher, ..self.0.0 }, charge, by.ceiling).map(Self)
    }

    /// Reserves the ceiling of a request whose cost is known at its end only.
    pub fn reserve(self, by: Authorised) -> Result<Streaming, StateError> {
        self.0.authorise(by)?;
        Accounts::checked(Parts { signed: by.voucher, reserved: by.ceiling, ..self.0.0 }).map(Streaming)
    }

    /// Starts a claim of all that is active.
    pub fn claim(self) -> Result<Claiming, StateError> {
        self.settle(Amount::ZERO)
    }

    /// Starts a claim in which the client adds to the escrow.
    pub fn top_up(self, added: Amount) -> Result<Claiming, StateError> {
        if added.is_zero() { Err(StateError::NothingAdded) } else { self.settle(added) }
    }

    fn settle(self, added: Amount) -> Result<Claiming, StateError> {
        let (before, takes, parts) = (self.0, self.0.active(), self.0.0);
        if takes.is_zero() {
            return Err(StateError::NothingToClaim);
        }
        let settled = SettledClaim { takes, added, signed: parts.signed };
        let after = Accounts::checked(settled.done(parts, Amount::ZERO)?)?;
        Ok(Claiming { before, after, settled })
    }

    /// A reorganisation removed the latest claim from the chain.
    pub fn taken_back(self, claim: SettledClaim) -> Result<TakenBack, StateError> {
        let on_chain = claim.undone(self.0.0)?;
        Ok(TakenBack { accepted: self.0, on_chain })
    }

    /// Somebody else spent the outpoint (the client's refund).
    pub fn spent_elsewhere(self) -> Closed {
        Closed(self.0.0)
    }
}

impl Streaming {
    pub fn restore(parts: Parts) -> Result<Self, StateError> {
        Accounts::checked(parts).map(Self)
    }

    pub fn accounts(&self) -> &Accounts {
        &self.0
    }

    /// Posts what the stream cost; also after a hang-up or a crash, and when the outpoint was spent meanwhile.
    pub fn post(self, charge: Amount) -> Result<Idle, StateError> {
        let ceiling = self.0.0.reserved;
        add_charge(Parts { reserved: Amount::ZERO, ..self.0.0 }, charge, ceiling).map(Idle)
    }
}

impl Claiming {
    /// What leaves the escrow, fee included.
    pub fn takes(&self) -> Amount {
        self.settled.takes
    }

    pub fn before(&self) -> &Accounts {
        &self.before
    }

    /// The accounts once the chain has accepted it.
    pub fn after(&self) -> &Accounts {
        &self.after
    }

    /// The chain accepted it: the continuation is the active outpoint and nothing is signed for it yet.
    pub fn accepted(self) -> (Idle, SettledClaim) {
        (Idle(self.after), self.settled)
    }

    /// The node proved that it never can be accepted.
    pub fn abandoned(self) -> Idle {
        Idle(self.before)
    }

    /// Somebody else's spend of the outpoint was accepted instead.
    pub fn spent_elsewhere(self) -> Closed {
        Closed(self.before.0)
    }
}

impl SettledClaim {
    /// The claim of what is owed, as far as the voucher covers it. More is owed only where a reorganisation took a top-up for good, and what
    /// was charged over its continuation stays.
    pub fn covered(parts: Parts) -> Result<Self, StateError> {
        let active = parts.charged.checked_sub(parts.claimed).ok_or(StateError::Inconsistent)?;
        let takes = active.min(parts.signed);
        if takes.is_zero() { Err(StateError::NothingToClaim) } else { Ok(Self { takes, added: Amount::ZERO, signed: parts.signed }) }
    }

    /// The amounts once the chain has it, whatever is reserved or owed; `signed` is M of the continuation.
    pub fn done(self, parts: Parts, signed: Amount) -> Result<Parts, StateError> {
        let rest = parts.funding.checked_sub(self.takes).ok_or(StateError::Inconsistent)?;
        Ok(Parts {
            funding: rest.checked_add(self.added).ok_or(StateError::Overflow)?,
            claimed: parts.claimed.checked_add(self.takes).ok_or(StateError::Overflow)?,
            signed,
            ..parts
        })
    }

    /// The exact reverse of an acceptance. What was reserved since stays owed.
    pub fn undone(self, parts: Parts) -> Result<Parts, StateError> {
        let before_added = parts.funding.checked_sub(self.added).ok_or(StateError::Inconsistent)?;
        Ok(Parts {
            funding: before_added.checked_add(self.takes).ok_or(StateError::Overflow)?,
            claimed: parts.claimed.checked_sub(self.takes).ok_or(StateError::Inconsistent)?,
            signed: self.signed,
            ..parts
        })
    }
}

impl TakenBack {
    /// The claim before it is gone from the chain as well.
    pub fn further(self, earlier: SettledClaim) -> Result<Self, StateError> {
        Ok(Self { on_chain: earlier.undone(self.on_chain)?, ..self })
    }

    /// What the chain says now: the old outpoint, its voucher, and all charges.
    pub fn on_chain(&self) -> Parts {
        self.on_chain
    }

    /// Charges that only the continuation's vouchers cover: lost unless the claim returns.
    pub fn uncovered(&self) -> Amount {
        let parts = self.on_chain;
        let active = parts.charged.checked_sub(parts.claimed).expect("undoing a claim only lowers what is claimed");
        active.checked_sub(parts.signed).unwrap_or(Amount::ZERO)
    }

    /// Every claim is on the chain again.
    pub fn reaccepted(self) -> Idle {
        Idle(self.accepted)
    }

    /// Serves on from the old outpoint; possible while its voucher covers all charges.
    pub fn undone(self) -> Result<Idle, StateError> {
        Idle::restore(self.on_chain)
    }

    /// Somebody else's spend of the old outpoint is final.
    pub fn spent_elsewhere(self) -> Closed {
        Closed(self.on_chain)
    }
}

impl Closed {
    pub fn parts(&self) -> Parts {
        self.0
    }

    /// Charges that will never be claimed.
    pub fn lost(&self) -> Amount {
        self.0.charged.checked_sub(self.0.claimed).expect("claims never exceed charges")
    }
}

fn add_charge(parts: Parts, charge: Amount, ceiling: Amount) -> Result<Accounts, StateError> {
    if charge > ceiling {
        return Err(StateError::AboveCeiling { ceiling });
    }
    let charged = parts.charged.checked_add(charge).ok_or(StateError::Overflow)?;
    Accounts::checked(Parts { charged, ..parts })
}
