//! What the chain says of a channel.

use super::{
    position::{ancestry, applied, follow},
    *,
};
use crate::{binding::escrow_v1::state::StateError, protocol::acceptance::Acceptance};

/// What a sighting must do before it is answered.
#[derive(Debug)]
pub(in crate::store) enum Sighted {
    Unchanged,
    /// The record, and the rows of the ledger as they are now, by transaction; their numbers and first moments are the store's.
    Save(Box<ChannelRecord>, Vec<SettledMove>),
    /// The channel never was: forget its record and its script, never its outpoint.
    Remove,
}

/// `Err`: the record contradicts itself. A channel that is closed for good is watched no longer: nothing changes it.
pub(in crate::store) fn observe(record: &ChannelRecord, sighting: &ChannelSighting, now: UnixMillis) -> Result<Sighted, StateError> {
    if !is_open(record) {
        return Ok(Sighted::Unchanged);
    }
    if matches!(sighting, ChannelSighting::NeverFunded) {
        let charged = record.charges > 0 || record.stream.is_some();
        return Ok(if charged { Sighted::Unchanged } else { Sighted::Remove });
    }
    let mut placed = record.clone();
    mark(&mut placed, sighting);
    follow(&mut placed)?;
    let mut after = placed.clone();
    match sighting {
        ChannelSighting::MoveFinal { txid } => forget_final(&mut after, *txid),
        _ if !is_open(&after) => forget_all(&mut after),
        _ => {}
    }
    if after == *record {
        return Ok(Sighted::Unchanged);
    }
    let rows = settled_moves(record, &placed, &after, now);
    Ok(Sighted::Save(Box::new(after), rows))
}

/// Notes what was seen; what follows from it is [`follow`]'s.
fn mark(record: &mut ChannelRecord, sighting: &ChannelSighting) {
    match sighting {
        ChannelSighting::Funded { daa_score } => {
            (record.deposit.funded_daa, record.deposit.taken_back) = (Some(*daa_score), false);
        }
        ChannelSighting::Unfunded => {
            record.deposit.taken_back |= record.deposit.funded_daa.take().is_some();
        }
        ChannelSighting::DepositFinal => record.deposit.transaction = None,
        ChannelSighting::MoveAccepted { txid, acceptance } => accepted(record, *txid, *acceptance),
        ChannelSighting::MoveTakenBack { txid } => record.moves.iter_mut().filter(|step| step.txid == *txid).for_each(take_back),
        ChannelSighting::MoveDropped { txid } => dropped(record, *txid),
        ChannelSighting::Closed(closure) => closed(record, *closure),
        ChannelSighting::Reopened => record.closure = None,
        ChannelSighting::MoveFinal { .. } | ChannelSighting::NeverFunded => {}
    }
}

fn accepted(record: &mut ChannelRecord, txid: TxId, acceptance: Acceptance) {
    let Some(step) = record.moves.iter_mut().find(|step| step.txid == txid) else { return };
    step.state = MoveState::Accepted(acceptance);
    let (spends, continuation) = (step.spends, step.continuation);
    // Two spends of one outpoint are never accepted together.
    record.moves.iter_mut().filter(|step| step.spends == spends && step.txid != txid).for_each(take_back);
    // Neither this move's input nor one that led to it was spent by anybody else.
    let spent = ancestry(record, continuation).into_iter().map(|place| record.moves[place].spends).collect::<Vec<_>>();
    record.closure = record.closure.filter(|closure| !spent.contains(&closure.outpoint));
}

fn take_back(step: &mut Move) {
    if step.is_accepted() {
        step.state = MoveState::TakenBack;
    }
}

/// Gone for ever, and whatever built on it.
fn dropped(record: &mut ChannelRecord, txid: TxId) {
    if let Some(place) = record.moves.iter().position(|step| step.txid == txid && !step.is_accepted()) {
        keep(record, |record, step| !ancestry(record, step.continuation).contains(&place));
    }
}

fn closed(record: &mut ChannelRecord, closure: Closure) {
    let ours = record.moves.iter().any(|step| [step.spends, step.continuation].contains(&closure.outpoint));
    if ours || closure.outpoint == record.outpoint {
        record.closure = Some(closure);
        record.moves.iter_mut().filter(|step| step.spends == closure.outpoint).for_each(take_back);
    }
}

/// What led to it is final as well, and what competed with any of them can never be: only what builds on it stays.
fn forget_final(record: &mut ChannelRecord, txid: TxId) {
    let Some(place) = applied(record).into_iter().find(|place| record.moves[*place].txid == txid) else { return };
    record.before = Some(record.moves[place].spends);
    keep(record, |record, step| ancestry(record, step.spends).contains(&place));
    record.deposit.transaction = None;
}

/// Closed for good: what was applied is final as well, and nothing else can follow.
fn forget_all(record: &mut ChannelRecord) {
    record.moves.clear();
    record.deposit.transaction = None;
}

fn keep(record: &mut ChannelRecord, stays: impl Fn(&ChannelRecord, &Move) -> bool) {
    let kept = record.moves.iter().filter(|step| stays(record, step)).cloned().collect();
    record.moves = kept;
}

/// `placed` is the record where the chain has it, `after` without what is watched no longer.
fn settled_moves(before: &ChannelRecord, placed: &ChannelRecord, after: &ChannelRecord, now: UnixMillis) -> Vec<SettledMove> {
    let holds = |record: &ChannelRecord, places: &[usize], txid| places.iter().any(|place| record.moves[*place].txid == txid);
    let (was, is) = (applied(before), applied(placed));
    let undone = was.iter().rev().map(|place| &before.moves[*place]).filter(|step| !holds(placed, &is, step.txid));
    let undone = undone.map(|step| settled_move(before, step, SettledState::TakenBack, now));
    let counted = is.iter().rev().map(|place| &placed.moves[*place]).filter_map(|step| {
        let MoveState::Accepted(acceptance) = step.state else { return None };
        let watched = after.moves.iter().any(|known| known.txid == step.txid);
        let state = if watched { SettledState::Accepted(acceptance) } else { SettledState::Final(acceptance) };
        Some(settled_move(placed, step, state, now))
    });
    undone.chain(counted).collect()
}

fn settled_move(record: &ChannelRecord, step: &Move, state: SettledState, at: UnixMillis) -> SettledMove {
    let Move { txid, spends, continuation, takes, fee, added, .. } = *step;
    SettledMove { number: 0, channel: record.id, txid, spends, continuation, takes, fee, added, state, at }
}
