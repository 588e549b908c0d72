//! The sums of a shard: counters that the script of a verb moves together with its record.
//!
//! The server adds signed 64-bit numbers; a sum of amounts is kept as two of them, so that it never overflows before its own 128 bits do.
//! Sums of the store are added up over the shards: exact while nothing is being written.

use super::{reply, write::Commit};
use crate::store::{StoreError, Totals, channels::ChannelTotals};
use redis::Value;
use std::collections::HashMap;

/// What the second counter counts by.
const LIMB: i128 = 1_000_000_000;

type Fields = Vec<(&'static str, u128)>;

fn payment_fields(totals: Totals) -> Fields {
    let Totals { pending, settled, delivered, reversed, charged_sompi, reversed_sompi, owed_sompi } = totals;
    vec![
        ("p.pending", pending.into()),
        ("p.settled", settled.into()),
        ("p.delivered", delivered.into()),
        ("p.reversed", reversed.into()),
        ("p.charged_sompi", charged_sompi),
        ("p.reversed_sompi", reversed_sompi),
        ("p.owed_sompi", owed_sompi),
    ]
}

fn channel_fields(totals: ChannelTotals) -> Fields {
    let ChannelTotals { open, closed, charges, charged_sompi, claimed_sompi, active_sompi, lost_sompi, funded_sompi } = totals;
    vec![
        ("c.open", open.into()),
        ("c.closed", closed.into()),
        ("c.charges", charges.into()),
        ("c.charged_sompi", charged_sompi),
        ("c.claimed_sompi", claimed_sompi),
        ("c.active_sompi", active_sompi),
        ("c.lost_sompi", lost_sompi),
        ("c.funded_sompi", funded_sompi),
    ]
}

pub(super) fn move_payments(commit: &mut Commit, totals: Vec<u8>, before: Totals, after: Totals) {
    shift(commit, totals, payment_fields(before), payment_fields(after));
}

pub(super) fn move_channels(commit: &mut Commit, totals: Vec<u8>, before: ChannelTotals, after: ChannelTotals) {
    shift(commit, totals, channel_fields(before), channel_fields(after));
}

fn shift(commit: &mut Commit, totals: Vec<u8>, before: Fields, after: Fields) {
    for ((field, before), (_, after)) in before.into_iter().zip(after) {
        // Both are amounts of one record: far below 127 bits.
        let (before, after) = (i128::try_from(before).unwrap_or(i128::MAX), i128::try_from(after).unwrap_or(i128::MAX));
        let delta = after.saturating_sub(before);
        for (suffix, part) in [("", delta % LIMB), (".e9", delta / LIMB)] {
            if part != 0 {
                let field = format!("{field}{suffix}");
                commit.write("HINCRBY", totals.clone(), [field.into_bytes(), part.to_string().into_bytes()]);
            }
        }
    }
}

/// Adds up the shards.
#[derive(Debug, Default)]
pub(super) struct Sums(HashMap<String, i128>);

impl Sums {
    /// One shard's counters, as `HGETALL` answers.
    pub fn add(&mut self, shard: Value) -> Result<(), StoreError> {
        let mut fields = reply::list(shard)?.into_iter();
        while let (Some(field), Some(count)) = (fields.next(), fields.next()) {
            let (field, count) = (reply::text(field)?, reply::text(count)?);
            let count: i128 = count.parse().map_err(|_| corrupt())?;
            let (field, count) = match field.strip_suffix(".e9") {
                Some(field) => (field.to_owned(), count.checked_mul(LIMB).ok_or_else(corrupt)?),
                None => (field, count),
            };
            let sum = self.0.entry(field).or_default();
            *sum = sum.checked_add(count).ok_or_else(corrupt)?;
        }
        Ok(())
    }

    fn sum(&self, field: &str) -> Result<u128, StoreError> {
        u128::try_from(self.0.get(field).copied().unwrap_or_default()).map_err(|_| corrupt())
    }

    fn count(&self, field: &str) -> Result<u64, StoreError> {
        u64::try_from(self.sum(field)?).map_err(|_| corrupt())
    }

    pub fn payments(&self) -> Result<Totals, StoreError> {
        Ok(Totals {
            pending: self.count("p.pending")?,
            settled: self.count("p.settled")?,
            delivered: self.count("p.delivered")?,
            reversed: self.count("p.reversed")?,
            charged_sompi: self.sum("p.charged_sompi")?,
            reversed_sompi: self.sum("p.reversed_sompi")?,
            owed_sompi: self.sum("p.owed_sompi")?,
        })
    }

    pub fn channels(&self) -> Result<ChannelTotals, StoreError> {
        Ok(ChannelTotals {
            open: self.count("c.open")?,
            closed: self.count("c.closed")?,
            charges: self.count("c.charges")?,
            charged_sompi: self.sum("c.charged_sompi")?,
            claimed_sompi: self.sum("c.claimed_sompi")?,
            active_sompi: self.sum("c.active_sompi")?,
            lost_sompi: self.sum("c.lost_sompi")?,
            funded_sompi: self.sum("c.funded_sompi")?,
        })
    }
}

fn corrupt() -> StoreError {
    StoreError::Corrupt("the store's sums do not cover its records".to_owned())
}
