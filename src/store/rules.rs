//! The money rules of a payment, once, for the stores that run in this process.
//!
//! Pure functions over one payment: no I/O, no clock, nothing kept. They decide what a verb answers and what must be
//! written; the stores only find, keep and make it durable. Called by `memory` and `embedded`. A store that
//! decides elsewhere (scripts in a server) is held to the same answers by the conformance suite.

use super::*;
use crate::protocol::limits;

/// Who may act for a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Hold {
    /// Drawn from one counter for the whole store, so that a payment freed and claimed again never repeats one.
    pub fence: u64,
    pub holder: HolderId,
    /// `None` once the holder ended it.
    pub until: Option<UnixMillis>,
}

impl Hold {
    fn new(fence: u64, claim: &Claim, now: UnixMillis) -> Self {
        Self { fence, holder: claim.holder, until: Some(now.plus_millis(claim.hold_millis)) }
    }

    /// The end of the hold while it lasts.
    fn live(&self, now: UnixMillis) -> Option<UnixMillis> {
        self.until.filter(|until| now < *until)
    }
}

/// A payment as the rules see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Entry {
    pub record: PaymentRecord,
    pub hold: Hold,
    /// A response is stored beside it.
    pub response_kept: bool,
}

impl Entry {
    fn held(&self) -> Held {
        Held { key: self.record.key, fence: self.hold.fence }
    }

    fn boxed(self) -> Box<PaymentRecord> {
        Box::new(self.record)
    }
}

/// The numbers the next claim takes.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Next {
    pub sequence: u64,
    pub fence: u64,
}

/// What a claim must write before it is answered.
#[derive(Debug)]
pub(in crate::store) enum ClaimStep {
    /// Insert the payment and point its identifier at it.
    Insert(Box<Entry>, Held),
    /// Delete the old claim with its identifier's pointer, then insert the new one; answer Resumed.
    Replace { old: Box<PaymentRecord>, new: Box<Entry>, held: Held },
    /// Save the new hold.
    Retake(Box<Entry>, ClaimOutcome),
    /// Nothing; answer with the stored response.
    Replay(Box<PaymentRecord>),
    /// Nothing.
    Answer(ClaimOutcome),
}

/// Judges a claim. `known` is the payment of the claim's key; `named` the one its identifier points to.
pub(in crate::store) fn claim(known: Option<Entry>, named: Option<Entry>, claim: &Claim, next: Next, now: UnixMillis) -> ClaimStep {
    let answer = ClaimStep::Answer;
    match (known, named) {
        (Some(known), _) if known.record.state == PaymentState::Reversed => answer(ClaimOutcome::Reversed(known.boxed())),
        (Some(known), named) if known.record.identity != claim.identity => claim_of_another(known, named, claim, next, now),
        (_, Some(named)) if named.record.identity != claim.identity => answer(ClaimOutcome::IdentifierReused(named.boxed())),
        (Some(known), _) => claim_again(known, claim, next, now),
        // A reversed payment is freed: its identifier may be paid for by another transaction.
        (None, Some(named)) if named.record.state != PaymentState::Reversed => answer(ClaimOutcome::IdentifierFirst(named.boxed())),
        (None, _) if now > claim.accepted_until && !claim.late => answer(ClaimOutcome::Expired),
        (None, _) => {
            let entry = fresh(claim, next, now);
            let held = entry.held();
            ClaimStep::Insert(Box::new(entry), held)
        }
    }
}

/// The payment is known for another request. A public transaction can be presented by anybody, so a claim
/// that is neither ours to speak for nor proven gives way to the next presenter: whoever proves the
/// payer's key is served, and a thief who came first blocks nobody.
fn claim_of_another(known: Entry, named: Option<Entry>, claim: &Claim, next: Next, now: UnixMillis) -> ClaimStep {
    let answer = ClaimStep::Answer;
    let taken = matches!(known.record.submission, Submission::Own | Submission::HandedOver);
    let open = known.record.state == PaymentState::Pending && !known.record.proven && !taken;
    if !open || claim.late {
        return answer(ClaimOutcome::OtherRequest(known.boxed()));
    }
    match named {
        Some(named) if named.record.identity != claim.identity => return answer(ClaimOutcome::IdentifierReused(named.boxed())),
        Some(named) if named.record.state != PaymentState::Reversed => return answer(ClaimOutcome::IdentifierFirst(named.boxed())),
        _ => {}
    }
    if now > claim.accepted_until {
        return answer(ClaimOutcome::Expired);
    }
    if let Some(until) = known.hold.live(now) {
        return answer(ClaimOutcome::InFlight { until });
    }
    let mut entry = fresh(claim, next, now);
    // What the chain and the submit said is about the transaction, whoever presents it.
    entry.record.submission = known.record.submission;
    entry.record.acceptance = known.record.acceptance;
    entry.record.is_final = known.record.is_final;
    let held = entry.held();
    ClaimStep::Replace { old: known.boxed(), new: Box::new(entry), held }
}

/// The payment is known and this is its request.
fn claim_again(mut entry: Entry, claim: &Claim, next: Next, now: UnixMillis) -> ClaimStep {
    if entry.record.late {
        return ClaimStep::Answer(ClaimOutcome::Late(entry.boxed()));
    }
    let delivered = entry.record.state == PaymentState::Delivered;
    let entitled = entry.record.entitled_until.is_none_or(|until| now <= until);
    if delivered {
        let again = entry.record.forwards < 1 + limits::REDELIVERIES;
        if entry.response_kept {
            return ClaimStep::Replay(entry.boxed());
        }
        if !(entitled && again) {
            return ClaimStep::Answer(ClaimOutcome::Delivered(Box::new(StoredPayment { record: entry.record, response: None })));
        }
    }
    if !entitled {
        return ClaimStep::Answer(ClaimOutcome::EntitlementOver(entry.boxed()));
    }
    if let Some(until) = entry.hold.live(now) {
        return ClaimStep::Answer(ClaimOutcome::InFlight { until });
    }
    entry.hold = Hold::new(next.fence, claim, now);
    let (held, record) = (entry.held(), Box::new(entry.record.clone()));
    let outcome = if delivered { ClaimOutcome::Redeliver(held, record) } else { ClaimOutcome::Resumed(held, record) };
    ClaimStep::Retake(Box::new(entry), outcome)
}

fn fresh(claim: &Claim, next: Next, now: UnixMillis) -> Entry {
    let record = PaymentRecord {
        sequence: next.sequence,
        key: claim.key,
        state: PaymentState::Pending,
        transaction: claim.transaction.clone(),
        output_index: claim.output_index,
        from_channel: claim.from_channel.clone(),
        amount: claim.amount,
        charge: None,
        receipt: None,
        pay_to: claim.pay_to.clone(),
        route: claim.route.clone(),
        summary: claim.summary.clone(),
        identity: claim.identity,
        request_hash: claim.request_hash,
        identifier: claim.identifier.clone(),
        finality: claim.finality,
        offer_daa: claim.offer_daa,
        late: claim.late,
        submission: Submission::None,
        proven: false,
        payer: None,
        acceptance: None,
        is_final: false,
        charged: false,
        claimed_at: now,
        settled_at: None,
        delivered_at: None,
        entitlement_seconds: claim.entitlement_seconds,
        entitled_until: None,
        last_status: None,
        forwards: 0,
    };
    Entry { record, hold: Hold::new(next.fence, claim, now), response_kept: false }
}

/// What a step must write before it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Effect {
    Nothing,
    /// Save the payment, its booking, and the response of the fact.
    Save,
    /// Delete the payment, its identifier's pointer and its response.
    Free,
}

/// A step of the holder. Ending a hold lets the next claim take the payment at once; until then the last
/// holder may still report (a repeated report is harmless), but neither renew, forward nor free.
pub(in crate::store) fn advance(entry: &mut Entry, fence: u64, fact: &Fact, now: UnixMillis) -> (Advanced, Effect) {
    use PaymentState::{Delivered, Pending, Reversed, Settled};
    const DONE: (Advanced, Effect) = (Advanced::Done, Effect::Save);
    const ALREADY: (Advanced, Effect) = (Advanced::Done, Effect::Nothing);
    const REFUSED: (Advanced, Effect) = (Advanced::Refused, Effect::Nothing);

    if entry.hold.fence != fence {
        return (Advanced::Stale, Effect::Nothing);
    }
    let ended = entry.hold.until.is_none();
    let record = &mut entry.record;
    match (fact, record.state) {
        (Fact::Released, _) if ended => ALREADY,
        (Fact::Released, _) => {
            entry.hold.until = None;
            DONE
        }
        (Fact::Undelivered { status }, _) => {
            record.last_status = status.or(record.last_status);
            entry.hold.until = None;
            DONE
        }
        (_, Reversed) => REFUSED,
        (Fact::Renewed { .. } | Fact::Forwarding | Fact::Rejected | Fact::Answered { .. }, _) if ended => REFUSED,
        (Fact::Renewed { hold_millis }, _) => {
            entry.hold.until = Some(now.plus_millis(*hold_millis));
            DONE
        }
        (Fact::Submitted(submission), _) => match (record.submission, *submission) {
            (_, Submission::None) => REFUSED,
            (recorded, repeated) if recorded == repeated => ALREADY,
            // Decided already, and asked once more: a process may end between the decision and its booking.
            (Submission::Own, Submission::HandedOver) => ALREADY,
            // Who decides elsewhere says whose it is, and may be asked again for another presenter.
            (Submission::None | Submission::HandedOver, said) | (Submission::Foreign, said @ Submission::HandedOver) => {
                record.submission = said;
                DONE
            }
            _ => REFUSED,
        },
        (Fact::Rejected, Pending) if unsent(record) => (Advanced::Done, Effect::Free),
        (Fact::Rejected, _) => REFUSED,
        (Fact::Proven, _) if record.proven => ALREADY,
        (Fact::Proven, _) => {
            record.proven = true;
            DONE
        }
        (Fact::Settled { acceptance, payer }, Pending) => {
            record.state = Settled;
            record.charged = true;
            record.settled_at = Some(now);
            record.entitled_until = Some(now.plus_seconds(record.entitlement_seconds));
            record.acceptance = acceptance.or(record.acceptance);
            record.payer = payer.clone();
            DONE
        }
        (Fact::Settled { .. }, _) => ALREADY,
        (Fact::Answered { .. } | Fact::Charged { .. }, _) if record.from_channel.is_none() => REFUSED,
        // What a charge was asked for with is never asked for with another one.
        (Fact::Answered { .. }, state) if state != Pending || record.submission != Submission::None => REFUSED,
        (Fact::Answered { charge, .. }, _) if charge.is_some_and(|charge| charge > record.amount) => REFUSED,
        (Fact::Answered { status, charge, response }, _) => {
            record.submission = Submission::HandedOver;
            record.charge = *charge;
            record.last_status = Some(*status);
            record.forwards = record.forwards.saturating_add(1);
            entry.response_kept |= response.is_some();
            DONE
        }
        (Fact::Charged { .. }, Pending) if record.submission != Submission::HandedOver => REFUSED,
        (Fact::Charged { receipt }, Pending) => {
            record.submission = Submission::Own;
            record.charged = true;
            record.receipt = Some(receipt.clone());
            // The facilitator follows its money.
            record.is_final = true;
            record.settled_at = Some(now);
            record.entitled_until = Some(now.plus_seconds(record.entitlement_seconds));
            if entry.response_kept {
                record.state = Delivered;
                record.delivered_at = Some(now);
                entry.hold.until = None;
            } else {
                record.state = Settled;
            }
            DONE
        }
        (Fact::Charged { .. }, _) => ALREADY,
        (Fact::Forwarding | Fact::Delivered { .. }, Pending) => REFUSED,
        (Fact::Forwarding, _) => {
            record.forwards = record.forwards.saturating_add(1);
            DONE
        }
        (Fact::Delivered { .. }, Delivered) if ended => ALREADY,
        (Fact::Delivered { status, response }, _) => {
            record.state = Delivered;
            record.delivered_at = Some(now);
            record.last_status = Some(*status);
            entry.response_kept |= response.is_some();
            entry.hold.until = None;
            DONE
        }
    }
}

/// No node has it from this gateway, so that a proof of its first refusal is one.
fn unsent(record: &PaymentRecord) -> bool {
    matches!(record.submission, Submission::None | Submission::HandedOver) && record.acceptance.is_none()
}

/// What the chain says. A reversed payment is closed, a final one is watched no longer: later sightings change nothing.
pub(in crate::store) fn observe(record: &mut PaymentRecord, fact: &ChainFact) -> Observed {
    use PaymentState::{Reversed, Settled};
    let watched = record.state != Reversed && !record.is_final;
    match fact {
        ChainFact::Accepted(acceptance) if watched && record.acceptance != Some(*acceptance) => record.acceptance = Some(*acceptance),
        ChainFact::TakenBack if watched && record.acceptance.is_some() => record.acceptance = None,
        ChainFact::Final if watched && record.acceptance.is_some() => record.is_final = true,
        // Not bound to `watched`: if the impossible happens, the books must say so.
        ChainFact::Reversed { .. } if record.state != Reversed => {
            record.state = Reversed;
            record.acceptance = None;
        }
        ChainFact::Granted { .. } if record.late => record.late = false,
        ChainFact::Granted { until } if record.state == Settled && record.entitled_until.is_none_or(|old| old < *until) => {
            record.entitled_until = Some(*until);
        }
        _ => return Observed::Unchanged,
    }
    Observed::Done
}

/// A row of the ledger. Every payment has at most one of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Booking {
    Charge,
    Reversal,
}

/// The ledger row that a change of a payment demands.
pub(in crate::store) fn booking(before: &PaymentRecord, after: &PaymentRecord) -> Option<Booking> {
    let reversed = before.state != PaymentState::Reversed && after.state == PaymentState::Reversed;
    if !before.charged && after.charged {
        Some(Booking::Charge)
    } else if reversed && after.charged {
        Some(Booking::Reversal)
    } else {
        None
    }
}

/// Whether a query selects the payment.
pub(in crate::store) fn selects(selection: Selection, record: &PaymentRecord) -> bool {
    match selection {
        Selection::All => true,
        Selection::Open => !record.is_final && record.state != PaymentState::Reversed,
        Selection::Unresolved => record.state == PaymentState::Pending,
        Selection::Owed => record.state == PaymentState::Settled,
    }
}

/// Whether a listing other than "all" selects it.
pub(in crate::store) fn active(record: &PaymentRecord) -> bool {
    selects(Selection::Open, record) || matches!(record.state, PaymentState::Pending | PaymentState::Settled)
}

/// The sums after one payment changed; `None` when they would fall below zero or overflow.
pub(in crate::store) fn shifted(totals: Totals, before: Option<&PaymentRecord>, after: Option<&PaymentRecord>) -> Option<Totals> {
    let (old, new) = (before.map(contribution).unwrap_or_default(), after.map(contribution).unwrap_or_default());
    Some(Totals {
        pending: totals.pending.checked_sub(old.pending)?.checked_add(new.pending)?,
        settled: totals.settled.checked_sub(old.settled)?.checked_add(new.settled)?,
        delivered: totals.delivered.checked_sub(old.delivered)?.checked_add(new.delivered)?,
        reversed: totals.reversed.checked_sub(old.reversed)?.checked_add(new.reversed)?,
        charged_sompi: totals.charged_sompi.checked_sub(old.charged_sompi)?.checked_add(new.charged_sompi)?,
        reversed_sompi: totals.reversed_sompi.checked_sub(old.reversed_sompi)?.checked_add(new.reversed_sompi)?,
        owed_sompi: totals.owed_sompi.checked_sub(old.owed_sompi)?.checked_add(new.owed_sompi)?,
    })
}

/// What one payment adds to the sums.
pub(in crate::store) fn contribution(record: &PaymentRecord) -> Totals {
    let amount = u128::from(record.cost().sompi());
    let charged_sompi = if record.charged { amount } else { 0 };
    let base = Totals { charged_sompi, ..Totals::default() };
    match record.state {
        PaymentState::Pending => Totals { pending: 1, ..base },
        PaymentState::Settled => Totals { settled: 1, owed_sompi: amount, ..base },
        PaymentState::Delivered => Totals { delivered: 1, ..base },
        PaymentState::Reversed => Totals { reversed: 1, reversed_sompi: charged_sompi, ..base },
    }
}
