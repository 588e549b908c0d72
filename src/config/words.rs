//! Times and claims in words, for offers and for people.

use crate::protocol::{limits::DAA_PER_SECOND, policy::ClaimPolicy};

/// `7 days`, `90 minutes`, `61 seconds`: the largest unit that divides it.
pub fn seconds(seconds: u64) -> String {
    let units = [(86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")];
    let (length, unit) =
        units.into_iter().find(|(length, _)| seconds >= *length && seconds.is_multiple_of(*length)).unwrap_or((1, "second"));
    let count = seconds / length;
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// A distance in DAA score at the network's usual pace.
pub fn daa(score: u64) -> String {
    seconds(score / DAA_PER_SECOND)
}

/// When channels are claimed.
pub fn claims(policy: &ClaimPolicy) -> String {
    if !policy.automatic {
        return "by hand".to_owned();
    }
    let (above, after) = (policy.above.to_kas(), seconds(policy.after.as_secs()));
    format!("from {above} on, after {after}, and {} before the refund timeout", daa(policy.before_refund_daa))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::amount::Amount;
    use std::time::Duration;

    #[test]
    fn times_are_said_in_their_largest_unit() {
        for (number, expect) in [
            (0, "0 seconds"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "1 minute"),
            (61, "61 seconds"),
            (5_400, "90 minutes"),
            (3_600, "1 hour"),
            (86_400, "1 day"),
            (604_800, "7 days"),
        ] {
            assert_eq!(seconds(number), expect);
            assert_eq!(daa(number * 10), expect);
        }
    }

    #[test]
    fn claims_are_said_in_one_line() {
        let policy = ClaimPolicy {
            automatic: true,
            above: Amount::parse_price("10 KAS").unwrap(),
            after: Duration::from_secs(86_400),
            before_refund_daa: 72_000,
            max_fee_percent: 10,
            priority_sompi_per_gram: 0,
        };
        assert_eq!(claims(&policy), "from 10 KAS on, after 1 day, and 2 hours before the refund timeout");
        assert_eq!(claims(&ClaimPolicy { automatic: false, ..policy }), "by hand");
    }
}
