//! The rules of one channel, once, for the stores that run in this process.
//!
//! Pure functions over one record: no I/O, no clock, nothing kept. They decide what a verb answers and what must be written; the
//! stores only find, keep and make it durable. All sums are those of `binding::escrow_v1::state`, so that what a request may charge
//! is refused here again, whoever asks. Called by `memory` and `embedded`.

mod advance;
mod observe;
mod position;

pub(in crate::store) use advance::{Advance, Change, advance};
pub(in crate::store) use observe::{Sighted, observe};

use super::*;
use crate::protocol::{amount::Amount, ids::Salt};
use crate::store::HolderId;

/// Who may act for a channel. Never durable, but for what [`StreamLease`] says of it: a crash ends it.
#[derive(Clone, Debug)]
pub(in crate::store) struct Hold {
    /// Drawn from one counter for all channels, so that no channel ever sees one twice.
    pub fence: u64,
    pub holder: HolderId,
    pub until: UnixMillis,
    pub purpose: Purpose,
}

impl Hold {
    pub fn live(&self, now: UnixMillis) -> bool {
        now < self.until
    }

    fn of_stream(&self) -> StreamLease {
        StreamLease { holder: self.holder, until: self.until }
    }
}

/// Who runs the open stream of a channel, and until when unless renewed: written with the reservation and with every renewal. It counts as
/// long as the record has a stream, for every process on the store but its holder's own, which knows the [`Hold`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct StreamLease {
    pub holder: HolderId,
    pub until: UnixMillis,
}

/// What a store knows when a channel is to be opened.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Found<'a> {
    /// The channel that the outpoint belongs to.
    pub owner: Option<ChannelId>,
    /// The record of this channel.
    pub known: Option<&'a ChannelRecord>,
    /// A channel backed by the same script that is not closed for good.
    pub script: Option<ChannelId>,
}

#[derive(Debug)]
pub(in crate::store) enum Open {
    /// Set the outpoint and the script to this channel and insert it.
    New(Box<ChannelRecord>),
    /// The record as it is.
    Known,
    OutpointInUse,
    ScriptInUse,
}

/// Judges an opening. `sequence` is the number it takes when it is new.
pub(in crate::store) fn open(opening: &Opening, found: Found<'_>, sequence: u64, now: UnixMillis) -> Open {
    let Opening { id, outpoint, .. } = opening;
    match found {
        Found { owner: Some(owner), .. } if owner != *id => Open::OutpointInUse,
        Found { known: Some(known), .. } if [known.deposit.outpoint, known.outpoint].contains(outpoint) => Open::Known,
        Found { known: Some(_), .. } | Found { script: Some(_), .. } => Open::ScriptInUse,
        Found { known: None, script: None, .. } => Open::New(Box::new(opened(opening, sequence, now))),
    }
}

fn opened(opening: &Opening, sequence: u64, now: UnixMillis) -> ChannelRecord {
    let Opening { id, config, outpoint, funding, reserve, transaction, funded_daa } = opening.clone();
    ChannelRecord {
        sequence,
        id,
        config,
        outpoint,
        parts: Parts { funding, ..Parts::default() },
        voucher: None,
        reserve,
        deposit: Deposit { outpoint, funding, transaction, taken_back: false, funded_daa },
        moves: Vec::new(),
        before: None,
        stream: None,
        closure: None,
        opened_at: now,
        charges: 0,
        unclaimed_since: None,
        last_charge_at: None,
    }
}

/// Names the script of a channel: everything of a configuration but the salt is in the script, and addresses have one spelling.
pub(in crate::store) fn script_key(config: &ChannelConfig) -> [u8; 32] {
    ChannelConfig { salt: Salt([0; 32]), ..config.clone() }.channel_id().0
}

/// Whether the channel still keeps others off its script and is still watched.
pub(in crate::store) fn is_open(record: &ChannelRecord) -> bool {
    !record.closure.is_some_and(|closure| closure.is_final)
}

pub(in crate::store) fn selects(selection: ChannelSelection, record: &ChannelRecord) -> bool {
    match selection {
        ChannelSelection::All => true,
        ChannelSelection::Open => is_open(record),
    }
}

/// Answers an identifier that was charged before.
pub(in crate::store) fn charged_before(charge: StoredCharge, identity: &crate::protocol::ids::RequestIdentity) -> Leased {
    if charge.record.terms.identity == *identity { Leased::Replay(Box::new(charge)) } else { Leased::IdentifierReused }
}

/// Takes a channel for something that was never charged; `Err` says who has it. `stream` is the last one written for the channel, `fence` the
/// next of the store.
pub(in crate::store) fn take(
    record: &Arc<ChannelRecord>,
    hold: Option<&Hold>,
    stream: Option<StreamLease>,
    ask: &LeaseAsk,
    fence: u64,
    now: UnixMillis,
) -> Result<Hold, Leased> {
    if let Some(held) = hold.filter(|hold| hold.live(now)) {
        return Err(Leased::Busy { until: held.until, same: same_request(&held.purpose, &ask.purpose), record: record.clone() });
    }
    if let (Some(open), Some(lease)) = (&record.stream, stream)
        && lease.holder != ask.holder
        && now < lease.until
    {
        let same = matches!(&ask.purpose, Purpose::Request { identifier, .. } if *identifier == open.terms.identifier);
        return Err(Leased::Busy { until: lease.until, same, record: record.clone() });
    }
    Ok(Hold { fence, holder: ask.holder, until: now.plus_millis(ask.hold_millis), purpose: ask.purpose.clone() })
}

/// Whether a lease is held for the very request that asks.
pub(in crate::store) fn same_request(held: &Purpose, asked: &Purpose) -> bool {
    match (held, asked) {
        (Purpose::Request { identifier: held, .. }, Purpose::Request { identifier: asked, .. }) => held == asked,
        _ => false,
    }
}

/// What one channel adds to the sums.
pub(in crate::store) fn contribution(record: &ChannelRecord) -> ChannelTotals {
    let wide = |amount: Amount| u128::from(amount.sompi());
    let (active, closed) = (wide(record.active()), record.closure.is_some());
    let (open, gone) = if closed { (0, 1) } else { (1, 0) };
    ChannelTotals {
        open,
        closed: gone,
        charges: record.charges,
        charged_sompi: wide(record.parts.charged),
        claimed_sompi: wide(record.parts.claimed),
        active_sompi: if closed { 0 } else { active },
        lost_sompi: if closed { active } else { 0 },
        funded_sompi: if closed { 0 } else { wide(record.parts.funding) },
    }
}

/// The sums after one channel changed; `None` when they would fall below zero or overflow.
pub(in crate::store) fn shifted(totals: ChannelTotals, old: ChannelTotals, new: ChannelTotals) -> Option<ChannelTotals> {
    let count = |total: u64, old: u64, new: u64| total.checked_sub(old)?.checked_add(new);
    let sum = |total: u128, old: u128, new: u128| total.checked_sub(old)?.checked_add(new);
    Some(ChannelTotals {
        open: count(totals.open, old.open, new.open)?,
        closed: count(totals.closed, old.closed, new.closed)?,
        charges: count(totals.charges, old.charges, new.charges)?,
        charged_sompi: sum(totals.charged_sompi, old.charged_sompi, new.charged_sompi)?,
        claimed_sompi: sum(totals.claimed_sompi, old.claimed_sompi, new.claimed_sompi)?,
        active_sompi: sum(totals.active_sompi, old.active_sompi, new.active_sompi)?,
        lost_sompi: sum(totals.lost_sompi, old.lost_sompi, new.lost_sompi)?,
        funded_sompi: sum(totals.funded_sompi, old.funded_sompi, new.funded_sompi)?,
    })
}
