//! The system clock: the only file that reads it. Everybody else is given the time.

use crate::protocol::time::UnixMillis;
use std::time::SystemTime;

/// Now. A clock before 1970 reads as 1970, under which every offer is in the future and nothing is sold.
pub fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_counts_milliseconds_since_1970() {
        let first = now();
        assert!(first > UnixMillis::from_seconds(1_760_000_000), "after the year 2025");
        assert!(first < UnixMillis::from_seconds(10_000_000_000), "not in microseconds");
    }
}
