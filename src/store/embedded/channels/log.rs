//! The log of charges: what makes a charge cheap.
//!
//! A charge of a request that changed nothing else is one row at the end of `charge_log`, with the accounts after it, so that a group of
//! charges shares a few pages. In its own tables it would touch pages of its channel alone, and each of them is written to the disk with its group.
//! The rows are moved there together ([`Step::fold_charges`]), sorted, many to a page. A row counts from the moment it is in the log: every
//! query of [`read`] looks into both, and a step that writes a channel's own rows moves the log first.

use super::{
    read,
    write::{ChargeWrite, Write, Wrote},
};
use crate::store::{StoreError, embedded::verbs::Step};

/// Of one charge.
const APPEND: &str = "INSERT INTO charge_log (channel, revision, accounts, number, identifier_key, nonce_key, response, charge)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

/// In this order. Everything is sorted by channel, as the tables are. A key that is there already is the damage of an earlier program: it keeps
/// naming the charge it named first.
const FOLD: [&str; 4] = [
    "INSERT INTO charges (channel, number, response, record)
        SELECT channel, number, response, charge FROM charge_log ORDER BY channel, number",
    "INSERT OR IGNORE INTO charge_keys (channel, key, number)
        SELECT channel, identifier_key, number FROM charge_log UNION ALL SELECT channel, nonce_key, number FROM charge_log ORDER BY 1, 2",
    // The last row of each channel is a bare column of its maximum.
    "UPDATE channel_accounts SET revision = last.revision, record = last.accounts
        FROM (SELECT channel, max(sequence), revision, accounts FROM charge_log GROUP BY channel) AS last
        WHERE channel_accounts.sequence = last.channel",
    "DELETE FROM charge_log",
];

impl Step<'_> {
    /// Appends a charge that changes nothing but accounts.
    pub(super) fn log_charge(&mut self, write: &Write, charge: &ChargeWrite) -> Result<Wrote, StoreError> {
        if !self.alone || cfg!(debug_assertions) {
            let found = read::revision(self.conn, write.sequence)?;
            // Every test asks it, so that all of them watch the claim.
            debug_assert!(!self.alone || found == Some(write.revision), "written by nobody else, and changed");
            if found != Some(write.revision) {
                return Ok(Wrote::Conflict);
            }
        }
        let response = self.insert_response(charge)?;
        let [identifier, nonce] = &charge.keys;
        let row = (write.sequence, write.revision + 1, &write.accounts, charge.number, identifier, nonce, response, &charge.record);
        self.execute(APPEND, row)?;
        self.shift_channels(write.sums.0, write.sums.1)?;
        Ok(Wrote::Done)
    }

    /// Moves all charges of the log to where they stay.
    pub(in crate::store::embedded) fn fold_charges(&mut self) -> Result<(), StoreError> {
        if !read::has_logged(self.conn)? {
            return Ok(());
        }
        FOLD.iter().try_for_each(|sql| self.execute(sql, ()).map(drop))
    }
}
