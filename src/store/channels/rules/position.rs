//! Where on the chain a channel stands: the active outpoint and the accounts follow from what is accepted.
//!
//! Each move remembers what the chain said of it last. Those that lead from the outpoint of the last final one to the active outpoint
//! are applied. After any sighting the record goes back before the first applied move that is not accepted, then on over those that
//! are: so sightings may come in any order.

use super::*;
use crate::binding::escrow_v1::state::{SettledClaim, StateError};

impl Move {
    fn settled(&self) -> SettledClaim {
        SettledClaim { takes: self.takes, added: self.added, signed: self.voucher.amount }
    }

    pub(super) fn is_accepted(&self) -> bool {
        matches!(self.state, MoveState::Accepted(_))
    }
}

/// The move whose output this is, then the one whose output that spends, and so on: places in `record.moves`, the latest first.
pub(super) fn ancestry(record: &ChannelRecord, outpoint: Outpoint) -> Vec<usize> {
    let mut places = Vec::new();
    let mut wanted = outpoint;
    // Each move once: ids are hashes, but a damaged record must not turn this into a circle.
    while let Some(place) = record.moves.iter().position(|step| step.continuation == wanted).filter(|place| !places.contains(place)) {
        places.push(place);
        wanted = record.moves[place].spends;
    }
    places
}

/// The moves that the active outpoint came by, the latest first.
pub(super) fn applied(record: &ChannelRecord) -> Vec<usize> {
    ancestry(record, record.outpoint)
}

/// Goes where the states of the moves say.
pub(super) fn follow(record: &mut ChannelRecord) -> Result<(), StateError> {
    let applied = applied(record);
    let undone = applied.iter().rposition(|place| !record.moves[*place].is_accepted()).map_or(0, |last| last + 1);
    for place in applied.into_iter().take(undone) {
        undo(record, place)?;
    }
    while let Some(place) = record.moves.iter().position(|step| step.spends == record.outpoint && step.is_accepted()) {
        apply(record, place)?;
    }
    // Charges over a continuation that lost to another are still owed, and nothing tells when the oldest of them was made.
    record.unclaimed_since = if record.active().is_zero() { None } else { record.unclaimed_since.or(record.last_charge_at) };
    Ok(())
}

fn apply(record: &mut ChannelRecord, place: usize) -> Result<(), StateError> {
    let step = &mut record.moves[place];
    let signed = step.aside.voucher.map_or(Amount::ZERO, |voucher| voucher.amount);
    record.parts = step.settled().done(record.parts, signed)?;
    if record.parts.funding != step.funding {
        return Err(StateError::Inconsistent);
    }
    record.voucher = step.aside.voucher.take();
    std::mem::swap(&mut record.unclaimed_since, &mut step.aside.unclaimed_since);
    (record.outpoint, record.reserve) = (step.continuation, step.reserve);
    Ok(())
}

fn undo(record: &mut ChannelRecord, place: usize) -> Result<(), StateError> {
    let step = &mut record.moves[place];
    record.parts = step.settled().undone(record.parts)?;
    if record.parts.funding != step.held {
        return Err(StateError::Inconsistent);
    }
    step.aside.voucher = record.voucher.replace(step.voucher);
    std::mem::swap(&mut record.unclaimed_since, &mut step.aside.unclaimed_since);
    (record.outpoint, record.reserve) = (step.spends, step.spends_reserve);
    Ok(())
}
