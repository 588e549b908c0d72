//! Calendar days in UTC. Pure; reads no clock.

use crate::protocol::time::UnixMillis;
use chrono::{DateTime, NaiveDate, NaiveTime, SecondsFormat, Utc};

/// `2026-11-21`, in UTC.
pub fn day(at: UnixMillis) -> String {
    calendar(at).format("%Y-%m-%d").to_string()
}

/// `2026-11-21T18:55:00.123Z`.
pub fn instant(at: UnixMillis) -> String {
    calendar(at).to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// The first moment of a day written like [`day`]; `None` for what is no day since 1970.
pub fn parse_day(text: &str) -> Option<UnixMillis> {
    // The library reads years and days of other lengths too.
    if text.len() != "2026-11-21".len() {
        return None;
    }
    let first = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_time(NaiveTime::MIN).and_utc();
    u64::try_from(first.timestamp_millis()).ok().map(UnixMillis)
}

/// A moment after the library's last, in the year 262142, is that one.
fn calendar(at: UnixMillis) -> DateTime<Utc> {
    i64::try_from(at.0).ok().and_then(DateTime::from_timestamp_millis).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_have_the_day_of_the_calendar() {
        for (seconds, expect) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_800, "2000-03-01T00:00:00.000Z"),
            (1_709_164_800, "2024-02-29T00:00:00.000Z"),
            (1_795_287_300, "2026-11-21T18:55:00.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(instant(UnixMillis::from_seconds(seconds)), expect);
        }
        assert_eq!(instant(UnixMillis(1_007)), "1970-01-01T00:00:01.007Z");
        assert_eq!(day(UnixMillis(u64::MAX)), day(UnixMillis(i64::MAX.unsigned_abs())), "and has one however far away");
    }

    #[test]
    fn days_are_read_as_they_are_written() {
        for n in (0..60_000).step_by(7) {
            let at = UnixMillis::from_seconds(n * 86_400);
            assert_eq!(parse_day(&day(at)), Some(at));
        }
        for text in [
            "",
            "2026-11",
            "2026-02-29",
            "2026-13-01",
            "2026-00-01",
            "1969-12-31",
            "2026-1-01",
            "26-01-01",
            "2026-11-31",
            "x-y-z",
            "2026-11-2 ",
            "+026-11-21",
            "20261-1-1",
        ] {
            assert_eq!(parse_day(text), None, "{text}");
        }
    }
}
