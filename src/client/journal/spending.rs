//! What was spent where: one row per purchase, written in the step that records the purchase.
//!
//! Promises: a purchase that would break a [`Budget`] is not recorded, also when another process records one at the same time;
//! what may still be charged counts in full, what is proven not to have moved does not count. Amounts are prices, without the
//! fees of the network, and charges to channels, not deposits.

use super::{Journal, JournalError, millis};
use crate::{
    client::policy::{Budget, Limit, Over},
    protocol::{amount::Amount, ids::TxId, time::UnixMillis},
};
use rusqlite::{Connection, Transaction, params};
use url::Url;

pub(super) const SCHEMA: &str = "
    CREATE TABLE spending (id TEXT PRIMARY KEY, origin TEXT NOT NULL, sompi INTEGER NOT NULL, at_ms INTEGER NOT NULL) STRICT;
    CREATE INDEX spending_by_origin ON spending (origin, at_ms, sompi);
    CREATE INDEX spending_by_time ON spending (at_ms, sompi);
    PRAGMA user_version = 3;
";

/// One purchase.
pub(super) struct Purchase<'a> {
    /// The transaction's id, or channel and identifier.
    pub id: String,
    pub url: &'a str,
    /// The most that it can cost, or what it did cost.
    pub amount: Amount,
    pub at: UnixMillis,
}

impl Journal {
    /// What was spent since then, at one origin or everywhere.
    pub fn spent(&self, origin: Option<&str>, since: UnixMillis) -> Result<Amount, JournalError> {
        Ok(sum(&self.lock(), "", origin, since)?)
    }

    /// Whether so much more at this URL would break the budget; `instead` is a payment that would no longer count.
    pub fn over(&self, budget: &Budget, url: &str, more: Amount, instead: Option<TxId>) -> Result<Option<Over>, JournalError> {
        let id = instead.map(|txid| txid.to_string()).unwrap_or_default();
        Ok(exceeds(&self.lock(), &Purchase { id, url, amount: more, at: UnixMillis(0) }, budget)?)
    }
}

/// Whether the purchase would break the budget; what is recorded of itself does not count.
pub(super) fn exceeds(connection: &Connection, purchase: &Purchase<'_>, budget: &Budget) -> rusqlite::Result<Option<Over>> {
    let origin = origin(purchase.url);
    for (limit, max, at) in [(Limit::Origin, budget.per_origin, Some(origin.as_str())), (Limit::Total, budget.total, None)] {
        let Some(max) = max else { continue };
        let spent = sum(connection, &purchase.id, at, budget.since)?;
        if spent.checked_add(purchase.amount).is_none_or(|sum| sum > max) {
            return Ok(Some(Over { limit, spent, more: purchase.amount, max }));
        }
    }
    Ok(None)
}

pub(super) fn put(transaction: &Transaction<'_>, purchase: &Purchase<'_>) -> rusqlite::Result<()> {
    let sompi = i64::try_from(purchase.amount.sompi()).expect("an amount is below 2^63");
    transaction.execute(
        "INSERT INTO spending VALUES (?1, ?2, ?3, ?4) ON CONFLICT (id) DO UPDATE SET sompi = excluded.sompi",
        params![purchase.id, origin(purchase.url), sompi, millis(purchase.at)],
    )?;
    Ok(())
}

/// It is proven that nothing moved.
pub(super) fn remove(transaction: &Transaction<'_>, id: &str) -> rusqlite::Result<()> {
    transaction.execute("DELETE FROM spending WHERE id = ?1", [id]).map(|_| ())
}

/// Without the purchase `but`. A sum that SQLite cannot hold is an error: nothing more is paid.
fn sum(connection: &Connection, but: &str, origin: Option<&str>, since: UnixMillis) -> rusqlite::Result<Amount> {
    let column = |row: &rusqlite::Row<'_>| super::channels::whole(row, 0);
    match origin {
        Some(origin) => {
            let sql = "SELECT COALESCE(SUM(sompi), 0) FROM spending WHERE origin = ?1 AND at_ms >= ?2 AND id <> ?3";
            connection.query_row(sql, params![origin, millis(since), but], column)
        }
        None => {
            let sql = "SELECT COALESCE(SUM(sompi), 0) FROM spending WHERE at_ms >= ?1 AND id <> ?2";
            connection.query_row(sql, params![millis(since), but], column)
        }
    }
}

/// Scheme, host and port. What the journal has are whole URLs; anything else counts by itself.
fn origin(url: &str) -> String {
    Url::parse(url).map_or_else(|_| url.to_owned(), |url| url.origin().ascii_serialization())
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Recorded, State, tests::payment},
        *,
    };
    use crate::client::journal::Entry;

    fn amount(sompi: u64) -> Amount {
        Amount::from_sompi(sompi).unwrap()
    }

    fn at(n: u8, url: &str, sompi: u64) -> Entry {
        Entry { url: url.into(), amount: amount(sompi), ..payment(n, n, &[n]) }
    }

    fn budget(per_origin: u64, total: u64) -> Budget {
        Budget { per_origin: Some(amount(per_origin)), total: Some(amount(total)), since: UnixMillis(0) }
    }

    #[test]
    fn a_purchase_that_would_break_a_budget_is_not_recorded() {
        let journal = Journal::in_memory().unwrap();
        let bounds = budget(10, 15);
        let over =
            |limit, spent, more, max| Recorded::OverBudget(Over { limit, spent: amount(spent), more: amount(more), max: amount(max) });
        for (entry, expect) in [
            (at(1, "https://a/x", 6), Recorded::New),
            (at(2, "https://a/y?z", 5), over(Limit::Origin, 6, 5, 10)),
            (at(2, "https://a:443/y", 4), Recorded::New),
            (at(3, "https://a/", 1), over(Limit::Origin, 10, 1, 10)),
            (at(3, "http://a/", 6), over(Limit::Total, 10, 6, 15)),
            (at(3, "https://b/", 5), Recorded::New),
            (at(4, "https://c/", 1), over(Limit::Total, 15, 1, 15)),
        ] {
            let asked = journal.over(&bounds, &entry.url, entry.amount, None).unwrap();
            assert_eq!(asked.is_some(), matches!(expect, Recorded::OverBudget(_)), "asked beforehand: {entry:?}");
            assert_eq!(journal.record(&entry, true, &bounds).unwrap(), expect, "{entry:?}");
        }
        assert_eq!(journal.spent(Some("https://a"), UnixMillis(0)).unwrap(), amount(10));
        assert_eq!(journal.history(9).unwrap().len(), 3, "a refusal writes nothing");
        assert_eq!(journal.record(&at(9, "https://a/", 100), true, &Budget::default()).unwrap(), Recorded::New, "no budget, no bound");
    }

    #[test]
    fn only_what_is_proven_not_to_have_moved_counts_no_more() {
        let bounds = budget(10, 10);
        for state in [State::Open, State::Settled, State::Delivered, State::Lapsed] {
            let journal = Journal::in_memory().unwrap();
            assert_eq!(journal.record(&at(1, "https://a/", 10), false, &bounds).unwrap(), Recorded::New);
            journal.update(&TxId([1; 32]), state, None, UnixMillis(9)).unwrap();
            let next = journal.record(&at(2, "https://a/2", 1), false, &bounds).unwrap();
            assert!(matches!(next, Recorded::OverBudget(_)), "{state:?}");
        }
        let journal = Journal::in_memory().unwrap();
        let first = at(1, "https://a/", 10);
        assert_eq!(journal.record(&first, false, &bounds).unwrap(), Recorded::New);
        let dearer = Entry { replaces: Some(first.txid), ..at(2, "https://a/", 11) };
        assert!(matches!(journal.record(&dearer, true, &bounds).unwrap(), Recorded::OverBudget(_)));
        assert_eq!(journal.unresolved(&first.key).unwrap().unwrap(), first, "and the first is open as before");
        assert_eq!(journal.over(&bounds, "https://a/", amount(10), Some(first.txid)).unwrap(), None);
        let same = Entry { replaces: Some(first.txid), ..at(2, "https://a/", 10) };
        assert_eq!(journal.record(&same, true, &bounds).unwrap(), Recorded::New);
        assert_eq!(journal.spent(None, UnixMillis(0)).unwrap(), amount(10));
    }

    #[test]
    fn a_budget_of_a_time_forgets_what_was_before_it() {
        let journal = Journal::in_memory().unwrap();
        let old = Entry { created: UnixMillis(100), ..at(1, "https://a/", 10) };
        assert_eq!(journal.record(&old, false, &Budget::default()).unwrap(), Recorded::New);
        let new = Entry { created: UnixMillis(200), ..at(2, "https://a/2", 10) };
        let since = |since| Budget { since: UnixMillis(since), ..budget(10, 10) };
        assert!(matches!(journal.record(&new, false, &since(100)).unwrap(), Recorded::OverBudget(_)));
        assert_eq!(journal.record(&new, false, &since(101)).unwrap(), Recorded::New);
    }

    #[test]
    fn a_journal_of_before_budgets_has_counted_all_along() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.sqlite");
        let journal = Journal::open(&path).unwrap();
        let (first, second) = (at(1, "https://a/", 6), at(2, "https://b/", 3));
        let third = Entry { replaces: Some(second.txid), ..at(3, "https://b/", 4) };
        for entry in [&first, &second, &third] {
            assert_eq!(journal.record(entry, true, &Budget::default()).unwrap(), Recorded::New);
        }
        drop(journal);
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("DROP TABLE spending; PRAGMA user_version = 2").unwrap();
        drop(connection);
        let journal = Journal::open(&path).unwrap();
        let spent = |origin| journal.spent(origin, UnixMillis(0)).unwrap().sompi();
        assert_eq!([spent(Some("https://a")), spent(Some("https://b")), spent(None)], [6, 4, 10]);
    }

    #[test]
    fn two_processes_cannot_break_a_budget_together() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.sqlite");
        let (a, b) = (Journal::open(&path).unwrap(), Journal::open(&path).unwrap());
        let outcomes = std::thread::scope(|scope| {
            let one = scope.spawn(|| a.record(&at(1, "https://a/", 6), false, &budget(10, 10)).unwrap());
            let two = scope.spawn(|| b.record(&at(2, "https://a/", 6), false, &budget(10, 10)).unwrap());
            [one.join().unwrap(), two.join().unwrap()]
        });
        assert_eq!(outcomes.iter().filter(|outcome| **outcome == Recorded::New).count(), 1, "{outcomes:?}");
    }
}
