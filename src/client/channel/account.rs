//! The buyer's own books of one channel, and every rule by which they move. Pure.
//!
//! Promises: what was signed for an outpoint never falls; what is charged (C) and claimed (K) never fall, and grow only by a
//! verified receipt, by what the chain shows, or by a correction that stays within what was authorised; `C - K` never exceeds
//! what was signed. A server's word alone moves nothing beyond that.

use super::{
    offer::Correction,
    receipt::ChannelReceipt,
    record::{Attempt, Flight, Kind},
};
use crate::{
    binding::escrow_v1::{EscrowScript, SignedVoucher, hashes::Commitment, spend::Continuation},
    protocol::{
        amount::Amount,
        ids::{ChannelId, Outpoint},
    },
};

/// What the buyer knows of its channel's money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// The active outpoint, as far as the buyer has followed it.
    pub outpoint: Outpoint,
    /// What it holds.
    pub funding: Amount,
    /// C: charged since the channel opened.
    pub charged: Amount,
    /// K: claimed since the channel opened.
    pub claimed: Amount,
    /// M: the highest voucher ever signed for the active outpoint.
    pub signed: Option<SignedVoucher>,
    /// Ceilings of requests that were given up, each perhaps charged and perhaps not.
    pub unknown: Amount,
}

/// Why nothing may be signed for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Due {
    #[error("the channel has {} left, and this request needs {}", .left.to_kas(), .needed.to_kas())]
    Exhausted { left: Amount, needed: Amount },
    #[error("the sums of the channel are more than the network can hold")]
    Overflow,
}

/// A server's statement that cannot be true. The books stay as they are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lie {
    #[error("it names another {0}")]
    Other(&'static str),
    #[error("it charges {} for a ceiling of {}", .charge.to_kas(), .ceiling.to_kas())]
    AboveCeiling { charge: Amount, ceiling: Amount },
    #[error("it says that {told} sompi are charged in all, where {least} to {most} can be")]
    Charged { told: Amount, least: Amount, most: Amount },
    #[error("it says that {told} sompi are claimed, and {known} are")]
    Claimed { told: Amount, known: Amount },
    #[error("it says that the escrow holds {told} sompi, and {known} are there")]
    Funding { told: Amount, known: Amount },
    #[error("it says that {told} sompi are signed, and {known} are")]
    Signed { told: Amount, known: Amount },
    #[error("its voucher was not signed by this wallet")]
    Voucher,
    #[error("its commitment is not the hash of what it commits to")]
    Commitment,
    #[error("the claim took {taken} sompi; at most {owed} were owed")]
    TookTooMuch { taken: Amount, owed: Amount },
    #[error("its sums do not add up")]
    Sums,
    #[error("it has no readable {0}")]
    Unreadable(&'static str),
}

impl Account {
    /// A channel that is being funded.
    pub fn opened(outpoint: Outpoint, funding: Amount) -> Self {
        let zero = Amount::ZERO;
        Self { outpoint, funding, charged: zero, claimed: zero, signed: None, unknown: zero }
    }

    /// `C - K`: charged and not claimed.
    pub fn active(&self) -> Amount {
        self.charged.checked_sub(self.claimed).expect("claims never exceed charges")
    }

    /// M, zero when nothing is signed.
    pub fn signed_amount(&self) -> Amount {
        self.signed.map_or(Amount::ZERO, |voucher| voucher.amount)
    }

    /// What further requests can be charged, before the reserve.
    pub fn left(&self) -> Amount {
        self.funding.checked_sub(self.active()).unwrap_or(Amount::ZERO)
    }

    /// The voucher for a request of at most `ceiling`: `max(M, C - K + ceiling)`, covered with the reserve.
    pub fn due(&self, ceiling: Amount, reserve: Amount) -> Result<Amount, Due> {
        let due = self.active().checked_add(ceiling).ok_or(Due::Overflow)?.max(self.signed_amount());
        let needed = due.checked_add(reserve).ok_or(Due::Overflow)?;
        if needed <= self.funding {
            return Ok(due);
        }
        let left = self.funding.checked_sub(self.active()).and_then(|rest| rest.checked_sub(reserve)).unwrap_or(Amount::ZERO);
        Err(Due::Exhausted { left, needed: ceiling })
    }

    /// The most that can be charged in all, `more` of it by a request whose fate is open: never beyond what was signed.
    fn most(&self, more: Amount) -> Result<Amount, Lie> {
        let open = self.unknown.checked_add(more).ok_or(Lie::Sums)?;
        let most = self.charged.checked_add(open).ok_or(Lie::Sums)?;
        let authorised = self.claimed.checked_add(self.signed_amount()).ok_or(Lie::Sums)?;
        // What is charged by receipts is within what was signed, unless the outpoint is new.
        Ok(most.min(authorised.max(self.charged)))
    }

    /// The books after a voucher was signed for the active outpoint. `None`: it is lower than one that was signed before.
    pub fn sign(self, voucher: SignedVoucher) -> Option<Self> {
        (voucher.amount >= self.signed_amount()).then_some(Self { signed: Some(voucher), ..self })
    }

    /// The books when a voucher of ours turns up that they do not remember: an old copy. What it authorised counts.
    pub fn recall(self, forgotten: SignedVoucher) -> Self {
        if forgotten.amount <= self.signed_amount() {
            return self;
        }
        let open = forgotten.amount.checked_sub(self.active()).unwrap_or(Amount::ZERO);
        Self { signed: Some(forgotten), unknown: self.unknown.max(open), ..self }
    }

    /// The books after a request was given up without knowing whether it was charged.
    pub fn given_up(self, ceiling: Amount) -> Self {
        // A sum beyond any amount of money bounds nothing anyway; what was signed does.
        Self { unknown: self.unknown.checked_add(ceiling).unwrap_or(self.unknown), ..self }
    }

    /// The books when a request that was given up is taken up again, or is known not to have been charged.
    pub fn taken_up(self, ceiling: Amount) -> Self {
        Self { unknown: self.unknown.checked_sub(ceiling).unwrap_or(Amount::ZERO), ..self }
    }

    /// The books after a receipt, which is held against the request and everything known before.
    pub fn settle(self, flight: &Flight, script: &EscrowScript, receipt: &ChannelReceipt) -> Result<Self, Lie> {
        let attempt = &flight.attempt;
        let charged_before = about(flight, script, receipt)?;
        let base = match attempt.kind {
            Kind::TopUp { from, takes, .. } if from == self.outpoint => Self {
                outpoint: attempt.outpoint,
                funding: attempt.funding,
                claimed: self.claimed.checked_add(takes).ok_or(Lie::Sums)?,
                signed: Some(attempt.voucher),
                unknown: Amount::ZERO,
                ..self
            },
            _ => self,
        };
        let charged = receipt.state.charged_cumulative_amount;
        // The books have moved since this request was signed: its charge is in them already.
        let late = charged <= self.charged && (attempt.outpoint != base.outpoint || attempt.charged < self.charged);
        if late {
            return Ok(self);
        }
        if attempt.outpoint != base.outpoint {
            return Err(Lie::Other("outpoint"));
        }
        let most = base.most(Amount::ZERO)?;
        if charged_before < base.charged || charged_before > most {
            return Err(Lie::Charged { told: charged_before, least: base.charged, most });
        }
        let authorised = base.claimed.checked_add(base.signed_amount()).ok_or(Lie::Sums)?;
        if charged > authorised {
            return Err(Lie::Charged { told: charged, least: base.charged, most: authorised });
        }
        let found = charged_before.checked_sub(base.charged).expect("compared above");
        Ok(Self { charged, ..base.taken_up(found) })
    }

    /// The books after a correction about the active outpoint. `more`: the ceiling of a request whose fate is open.
    pub fn correct(self, id: ChannelId, script: &EscrowScript, told: &Correction, more: Amount) -> Result<Self, Lie> {
        let (channel, voucher) = (&told.channel, &told.voucher);
        same(channel.channel_id == id, "channel")?;
        same(channel.active_script_public_key == script.serialized(), "script")?;
        same(channel.active_outpoint == self.outpoint, "outpoint")?;
        equal(channel.claimed_cumulative_amount, self.claimed, |told, known| Lie::Claimed { told, known })?;
        equal(channel.funding_amount, self.funding, |told, known| Lie::Funding { told, known })?;
        equal(voucher.amount, channel.signed_max_claimable, |told, known| Lie::Signed { told, known })?;
        let held = match voucher.signature {
            Some(signature) => Some(SignedVoucher { amount: voucher.amount, signature }),
            None if voucher.amount.is_zero() => None,
            None => return Err(Lie::Voucher),
        };
        if held.is_some_and(|held| !held.verify(script, self.outpoint)) {
            return Err(Lie::Voucher);
        }
        let charged = channel.charged_cumulative_amount;
        let recalled = held.map_or(self, |held| self.recall(held));
        let most = recalled.most(more)?;
        if charged < self.charged || charged > most {
            return Err(Lie::Charged { told: charged, least: self.charged, most });
        }
        let found = charged.checked_sub(self.charged).expect("compared above");
        // Who remembers the latest voucher tells of the latest charge: nothing stays open.
        let unknown = if recalled.signed == self.signed { recalled.taken_up(found).unknown } else { Amount::ZERO };
        Ok(Self { charged, unknown, ..recalled })
    }

    /// The books after the chain showed a claim. `more` as above; `signed` is the highest voucher for the new outpoint, if any.
    pub fn continued(self, to: Continuation, more: Amount, signed: Option<SignedVoucher>) -> Result<Self, Lie> {
        let Continuation { outpoint, funding, taken } = to;
        let most = self.most(more)?;
        let owed = most.checked_sub(self.claimed).ok_or(Lie::Sums)?;
        if taken > owed {
            return Err(Lie::TookTooMuch { taken, owed });
        }
        let claimed = self.claimed.checked_add(taken).ok_or(Lie::Sums)?;
        // A claim takes all that is active: what it took beyond the receipts was charged by a request that got none.
        let charged = self.charged.max(claimed);
        Ok(Self { outpoint, funding, charged, claimed, signed, unknown: Amount::ZERO })
    }

    /// The books after a claim that took more than was owed: what is gone is gone.
    pub fn overtaken(self, to: Continuation) -> Self {
        let Continuation { outpoint, funding, taken } = to;
        let claimed = self.claimed.checked_add(taken).unwrap_or(self.claimed);
        Self { outpoint, funding, charged: self.charged.max(claimed), claimed, signed: None, unknown: Amount::ZERO }
    }

    /// The books after the chain showed our own top-up, which moves what it says.
    pub fn topped_up(self, outpoint: Outpoint, funding: Amount, takes: Amount, signed: Option<SignedVoucher>) -> Result<Self, Lie> {
        let claimed = self.claimed.checked_add(takes).ok_or(Lie::Sums)?;
        let charged = self.charged.max(claimed);
        Ok(Self { outpoint, funding, charged, claimed, signed, unknown: Amount::ZERO })
    }
}

/// Whether the receipt is about this request, whatever happened to the channel since. Gives C before the charge.
fn about(flight: &Flight, script: &EscrowScript, receipt: &ChannelReceipt) -> Result<Amount, Lie> {
    let Attempt { outpoint, funding, claimed, voucher, ceiling, .. } = flight.attempt;
    let state = &receipt.state;
    same(receipt.network.is_none_or(|network| network == script.network()), "network")?;
    same(state.channel_id == flight.channel, "channel")?;
    same(state.active_script_public_key == script.serialized(), "script")?;
    same(state.active_outpoint == outpoint, "outpoint")?;
    if receipt.charge > ceiling {
        return Err(Lie::AboveCeiling { charge: receipt.charge, ceiling });
    }
    equal(state.funding_amount, funding, |told, known| Lie::Funding { told, known })?;
    equal(state.claimed_cumulative_amount, claimed, |told, known| Lie::Claimed { told, known })?;
    equal(state.signed_max_claimable, voucher.amount, |told, known| Lie::Signed { told, known })?;
    let charged_after = state.charged_cumulative_amount;
    let charged_before = charged_after.checked_sub(receipt.charge).ok_or(Lie::Sums)?;
    let commitment = Commitment {
        channel: flight.channel,
        request_hash: flight.attempt.request_hash,
        requirements_hash: flight.attempt.requirements_hash.0,
        outpoint,
        voucher,
        charge: receipt.charge,
        charged_before,
        charged_after,
        claimed,
    };
    if commitment.id() != receipt.commitment {
        return Err(Lie::Commitment);
    }
    Ok(charged_before)
}

fn same(equal: bool, what: &'static str) -> Result<(), Lie> {
    if equal { Ok(()) } else { Err(Lie::Other(what)) }
}

fn equal(told: Amount, known: Amount, lie: fn(Amount, Amount) -> Lie) -> Result<(), Lie> {
    if told == known { Ok(()) } else { Err(lie(told, known)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ids::{SchnorrSignature, TxId};

    fn amount(sompi: u64) -> Amount {
        Amount::from_sompi(sompi).unwrap()
    }

    fn outpoint(n: u8) -> Outpoint {
        Outpoint { txid: TxId([n; 32]), index: 1 }
    }

    fn voucher(sompi: u64) -> SignedVoucher {
        SignedVoucher { amount: amount(sompi), signature: SchnorrSignature([1; 64]) }
    }

    /// `funding, charged, claimed, signed, unknown`
    fn account([funding, charged, claimed, signed, unknown]: [u64; 5]) -> Account {
        Account {
            outpoint: outpoint(1),
            funding: amount(funding),
            charged: amount(charged),
            claimed: amount(claimed),
            signed: (signed > 0).then(|| voucher(signed)),
            unknown: amount(unknown),
        }
    }

    fn sums(account: Account) -> [u64; 5] {
        let Account { funding, charged, claimed, unknown, .. } = account;
        [funding.sompi(), charged.sompi(), claimed.sompi(), account.signed_amount().sompi(), unknown.sompi()]
    }

    #[test]
    fn what_is_due_covers_the_request_and_never_falls() {
        for (books, ceiling, expect) in [
            ([1_000, 0, 0, 0, 0], 70, Some(70)),
            ([1_000, 30, 0, 70, 0], 70, Some(100)),
            ([1_000, 30, 0, 200, 0], 70, Some(200)),
            ([1_000, 230, 200, 0, 0], 70, Some(100)),
            ([1_000, 30, 0, 70, 0], 870, Some(900)),
            ([1_000, 30, 0, 70, 0], 871, None),
            ([1_000, 30, 0, 901, 0], 1, None),
        ] {
            let due = account(books).due(amount(ceiling), amount(100));
            assert_eq!(due.ok().map(Amount::sompi), expect, "{books:?} {ceiling}");
        }
        let due = account([1_000, 30, 0, 70, 0]).due(amount(871), amount(100));
        assert_eq!(due, Err(Due::Exhausted { left: amount(870), needed: amount(871) }));
        assert_eq!(account([1_000, 30, 0, 70, 0]).sign(voucher(69)), None);
        assert_eq!(account([1_000, 30, 0, 70, 0]).sign(voucher(70)).map(sums), Some([1_000, 30, 0, 70, 0]));
    }

    #[test]
    fn a_claim_takes_what_is_owed_and_what_may_have_been_charged_without_a_receipt() {
        for (books, more, taken, expect) in [
            ([1_000, 30, 0, 70, 0], 0, 30, Ok([970, 30, 30, 0, 0])),
            ([1_000, 30, 0, 70, 0], 0, 20, Ok([980, 30, 20, 0, 0])),
            ([1_000, 30, 0, 70, 0], 0, 31, Err(30)),
            ([1_000, 30, 0, 70, 25], 0, 55, Ok([945, 55, 55, 0, 0])),
            ([1_000, 30, 0, 70, 25], 0, 56, Err(55)),
            ([1_000, 30, 0, 70, 90], 0, 70, Ok([930, 70, 70, 0, 0])),
            ([1_000, 30, 0, 70, 90], 0, 71, Err(70)),
            ([1_000, 30, 0, 70, 0], 40, 70, Ok([930, 70, 70, 0, 0])),
            ([1_000, 230, 200, 70, 0], 0, 30, Ok([970, 230, 230, 0, 0])),
            ([1_000, 230, 200, 70, 0], 0, 31, Err(30)),
        ] {
            let to = Continuation { outpoint: outpoint(2), funding: amount(1_000 - taken), taken: amount(taken) };
            let got = account(books).continued(to, amount(more), None);
            let owed = |owed| Lie::TookTooMuch { taken: amount(taken), owed: amount(owed) };
            assert_eq!(got.map(sums), expect.map_err(owed), "{books:?} {more} {taken}");
        }
        let to = Continuation { outpoint: outpoint(2), funding: amount(900), taken: amount(100) };
        assert_eq!(sums(account([1_000, 30, 0, 100, 0]).overtaken(to)), [900, 100, 100, 0, 0]);
        let topped_up = account([1_000, 30, 0, 70, 5]).topped_up(outpoint(2), amount(1_470), amount(30), Some(voucher(9)));
        assert_eq!(topped_up.map(sums), Ok([1_470, 30, 30, 9, 0]));
    }

    #[test]
    fn a_forgotten_voucher_counts_and_a_known_one_changes_nothing() {
        for (books, sompi, expect) in [
            ([1_000, 30, 0, 70, 5], 70, [1_000, 30, 0, 70, 5]),
            ([1_000, 30, 0, 70, 5], 60, [1_000, 30, 0, 70, 5]),
            ([1_000, 30, 0, 70, 5], 400, [1_000, 30, 0, 400, 370]),
            ([1_000, 230, 200, 0, 0], 90, [1_000, 230, 200, 90, 60]),
        ] {
            assert_eq!(sums(account(books).recall(voucher(sompi))), expect, "{books:?} {sompi}");
        }
    }

    #[test]
    fn requests_given_up_and_taken_up_again_leave_no_trace() {
        let books = account([1_000, 30, 0, 70, 5]);
        assert_eq!(sums(books.given_up(amount(40)))[4], 45);
        assert_eq!(books.given_up(amount(40)).taken_up(amount(40)), books);
        assert_eq!(sums(books.taken_up(amount(40)))[4], 0, "never below nothing");
    }
}
