//! The steps of whoever holds a channel.

use super::*;
use crate::{
    binding::escrow_v1::state::{Idle, SettledClaim, Streaming},
    protocol::ids::Outpoint,
};

/// What a step must do before it is answered.
#[derive(Debug)]
pub(in crate::store) enum Advance {
    /// The lease is over.
    Stale,
    /// The record does not allow it.
    Refused,
    /// Nothing durable; the hold from now on.
    Done(Option<Hold>),
    Write(Box<Change>),
}

/// What is written in one step.
#[derive(Debug)]
pub(in crate::store) struct Change {
    pub record: ChannelRecord,
    /// A new row of the ledger.
    pub charge: Option<Box<ChargeRecord>>,
    /// To be set to this channel for ever; the step is refused when it belongs to another.
    pub outpoint: Option<Outpoint>,
    /// Who runs the stream, when that is new.
    pub stream: Option<StreamLease>,
    /// The hold once all of it is durable.
    pub hold: Option<Hold>,
}

/// `hold` is the last one given out for the channel; one that expired counts until another takes it.
pub(in crate::store) fn advance(record: &ChannelRecord, hold: Option<&Hold>, fence: u64, fact: &ChannelFact, now: UnixMillis) -> Advance {
    let Some(hold) = hold.filter(|hold| hold.fence == fence) else { return Advance::Stale };
    let keeps = Some(hold.clone());
    let change = match fact {
        ChannelFact::Renewed { hold_millis } => {
            let hold = Hold { until: now.plus_millis(*hold_millis), ..hold.clone() };
            if record.stream.as_ref().is_none_or(|stream| !began(&hold, stream)) {
                return Advance::Done(Some(hold));
            }
            Some(Change { stream: Some(hold.of_stream()), ..Change::of(record.clone(), Some(hold)) })
        }
        // What another left running is posted, never forgotten.
        ChannelFact::Released if record.stream.as_ref().is_none_or(|stream| !began(hold, stream)) => return Advance::Done(None),
        ChannelFact::MoveBuilt(step) if is_built(record, step) => return Advance::Done(None),
        ChannelFact::Released => Some(Change::of(released(record), None)),
        ChannelFact::Reserved(stream) => {
            reserved(record, hold, stream).map(|record| Change { stream: Some(hold.of_stream()), ..Change::of(record, keeps) })
        }
        ChannelFact::Metered { reading } => metered(record, *reading).map(|record| Change::of(record, keeps)),
        ChannelFact::Committed(charge) => committed(record, hold, charge, now),
        ChannelFact::MoveBuilt(step) => {
            move_built(record, step).map(|record| Change { outpoint: Some(step.continuation), ..Change::of(record, None) })
        }
    };
    change.map_or(Advance::Refused, |change| Advance::Write(Box::new(change)))
}

impl Change {
    fn of(record: ChannelRecord, hold: Option<Hold>) -> Self {
        Self { record, charge: None, outpoint: None, stream: None, hold }
    }
}

/// The accounts of a request of this very lease, while nothing else is under way.
fn idle(record: &ChannelRecord, hold: &Hold, terms: &ChargeTerms) -> Option<Idle> {
    let Purpose::Request { identifier, nonce, identity } = &hold.purpose else { return None };
    let leased = terms.identifier == *identifier && terms.nonce == *nonce && terms.identity == *identity;
    let due = record.phase() == Phase::Idle && terms.outpoint == record.outpoint;
    if leased && due { Idle::restore(record.parts).ok() } else { None }
}

fn authorised(record: &ChannelRecord, terms: &ChargeTerms) -> Authorised {
    Authorised { voucher: terms.voucher.amount, ceiling: terms.ceiling, reserve: record.reserve }
}

fn reserved(record: &ChannelRecord, hold: &Hold, stream: &OpenStream) -> Option<ChannelRecord> {
    let (terms, parts) = (&stream.terms, record.parts);
    let began = (stream.charged_before, stream.claimed, stream.funding) == (parts.charged, parts.claimed, parts.funding);
    if !began || stream.unknown > terms.ceiling || stream.reading > Some(terms.ceiling) {
        return None;
    }
    let streaming = idle(record, hold, terms)?.reserve(authorised(record, terms)).ok()?;
    Some(ChannelRecord {
        parts: streaming.accounts().parts(),
        voucher: Some(terms.voucher),
        stream: Some(stream.clone()),
        ..record.clone()
    })
}

fn metered(record: &ChannelRecord, reading: Amount) -> Option<ChannelRecord> {
    let stream = record.stream.clone().filter(|stream| reading <= stream.terms.ceiling)?;
    Some(ChannelRecord { stream: Some(OpenStream { reading: Some(reading), ..stream }), ..record.clone() })
}

/// Whether the stream is that of this lease's own request.
fn began(hold: &Hold, stream: &OpenStream) -> bool {
    matches!(&hold.purpose, Purpose::Request { identifier, .. } if *identifier == stream.terms.identifier)
}

/// Nothing was charged. What was signed stays signed.
fn released(record: &ChannelRecord) -> ChannelRecord {
    ChannelRecord { stream: None, parts: Parts { reserved: Amount::ZERO, ..record.parts }, ..record.clone() }
}

fn committed(record: &ChannelRecord, hold: &Hold, charge: &Charge, now: UnixMillis) -> Option<Change> {
    if charge.charged_before != record.parts.charged {
        return None;
    }
    let (charged, funding) = match &record.stream {
        Some(stream) => (posted(record, stream, charge, now)?, stream.funding),
        None => (charged(record, hold, charge)?, record.parts.funding),
    };
    let number = record.charges.checked_add(1)?;
    let record = ChannelRecord {
        charges: number,
        last_charge_at: Some(now),
        unclaimed_since: charged.unclaimed_since.or_else(|| (!charged.active().is_zero()).then_some(now)),
        ..charged
    };
    let row = ChargeRecord {
        number,
        channel: record.id,
        commitment: charge.commitment,
        terms: charge.terms.clone(),
        charge: charge.charge,
        charged_after: record.parts.charged,
        claimed: charge.claimed,
        funding,
        status: charge.status,
        at: now,
    };
    Some(Change { charge: Some(Box::new(row)), ..Change::of(record, None) })
}

/// The request of this lease is over.
fn charged(record: &ChannelRecord, hold: &Hold, charge: &Charge) -> Option<ChannelRecord> {
    if charge.claimed != record.parts.claimed {
        return None;
    }
    let terms = &charge.terms;
    let idle = idle(record, hold, terms)?.charge(authorised(record, terms), charge.charge).ok()?;
    Some(ChannelRecord { parts: idle.accounts().parts(), voucher: Some(terms.voucher), ..record.clone() })
}

/// The stream is over: what it cost is owed, also when the outpoint was spent meanwhile, or a reorg moved the accounts back to one
/// whose voucher does not cover it. So it is posted to the accounts that it was reserved in.
fn posted(record: &ChannelRecord, stream: &OpenStream, charge: &Charge, now: UnixMillis) -> Option<ChannelRecord> {
    if charge.terms != stream.terms || ![stream.claimed, record.parts.claimed].contains(&charge.claimed) {
        return None;
    }
    let reserved = Parts {
        funding: stream.funding,
        charged: stream.charged_before,
        claimed: stream.claimed,
        reserved: stream.terms.ceiling,
        signed: stream.terms.voucher.amount,
    };
    let posted = Streaming::restore(reserved).and_then(|stream| stream.post(charge.charge)).ok()?;
    let parts = Parts { charged: posted.accounts().parts().charged, reserved: Amount::ZERO, ..record.parts };
    let mut moves = record.moves.clone();
    if !charge.charge.is_zero()
        && let Some(taken_back) =
            moves.iter_mut().find(|step| step.continuation == stream.terms.outpoint && record.outpoint != step.continuation)
    {
        // Owed on the continuation, should it return.
        taken_back.aside.unclaimed_since.get_or_insert(now);
    }
    Some(ChannelRecord { parts, stream: None, moves, ..record.clone() })
}

/// Built already: a step that is sent again after its answer was lost.
fn is_built(record: &ChannelRecord, step: &Move) -> bool {
    record.next_moves().any(|known| known.txid == step.txid && known.state == MoveState::Built)
}

/// What a move takes and what it leaves. A plain claim may also be built beside a top-up that was taken back, and for what the voucher covers
/// of charges that hang on one.
fn settles(record: &ChannelRecord, added: Amount) -> Option<(Amount, Amount)> {
    if record.stream.is_some() {
        return None;
    }
    match (record.phase(), added.is_zero()) {
        (Phase::Idle | Phase::Claiming | Phase::TakenBack, true) => {
            let claim = SettledClaim::covered(record.parts).ok()?;
            Some((claim.takes, claim.done(record.parts, Amount::ZERO).ok()?.funding))
        }
        (Phase::Idle | Phase::Claiming, false) => {
            let top_up = Idle::restore(record.parts).and_then(|idle| idle.top_up(added)).ok()?;
            Some((top_up.takes(), top_up.after().parts().funding))
        }
        _ => None,
    }
}

fn move_built(record: &ChannelRecord, step: &Move) -> Option<ChannelRecord> {
    let (takes, funding) = settles(record, step.added)?;
    let spends = (step.spends, step.held, Some(step.voucher), step.spends_reserve);
    let due = spends == (record.outpoint, record.parts.funding, record.voucher, record.reserve)
        && (step.takes, step.funding) == (takes, funding)
        && step.fee <= step.takes
        && (step.state, step.aside.unclaimed_since) == (MoveState::Built, None)
        && step.aside.voucher.is_none_or(|voucher| !step.added.is_zero() && step.holds(&voucher));
    let known = record.moves.iter().flat_map(|step| [step.spends, step.continuation]).chain([record.outpoint, record.deposit.outpoint]);
    if !due || step.continuation.txid != step.txid || known.into_iter().any(|known| known == step.continuation) {
        return None;
    }
    let mut record = record.clone();
    record.moves.push(step.clone());
    Some(record)
}
