//! Calendar days in UTC. Pure; reads no clock.

use crate::protocol::time::UnixMillis;

const DAY_SECONDS: u64 = 86_400;

/// `2026-11-21`, in UTC.
pub fn day(at: UnixMillis) -> String {
    let (year, month, day) = civil(at.seconds() / DAY_SECONDS);
    format!("{year:04}-{month:02}-{day:02}")
}

/// `2026-11-21T18:55:00.123Z`.
pub fn instant(at: UnixMillis) -> String {
    let second = at.seconds() % DAY_SECONDS;
    format!("{}T{:02}:{:02}:{:02}.{:03}Z", day(at), second / 3_600, second / 60 % 60, second % 60, at.0 % 1_000)
}

/// The first moment of a day written like [`day`]; `None` for what is no day since 1970.
pub fn parse_day(text: &str) -> Option<UnixMillis> {
    let mut parts = text.splitn(3, '-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if (year.len(), month.len(), day.len()) != (4, 2, 2) {
        return None;
    }
    let (year, month, day) = (year.parse::<u64>().ok()?, month.parse::<u64>().ok()?, day.parse::<u64>().ok()?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let days = days_before(year, month) + day - 1;
    // The 31st of a shorter month would be another day.
    (civil(days) == (year, month, day)).then(|| UnixMillis::from_seconds(days * DAY_SECONDS))
}

const fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

const fn month_days(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Leap years among the years from 1 to `year`.
const fn leaps(year: u64) -> u64 {
    year / 4 - year / 100 + year / 400
}

/// Days from 1970-01-01 to the first of this month.
fn days_before(year: u64, month: u64) -> u64 {
    let years = (year - 1970) * 365 + leaps(year - 1) - leaps(1969);
    years + (1..month).map(|month| month_days(year, month)).sum::<u64>()
}

/// Year, month and day of a number of days since 1970-01-01.
fn civil(days: u64) -> (u64, u64, u64) {
    // A year has at least 365 days, so this is the year or a later one.
    let mut year = 1970 + days / 365;
    while days_before(year, 1) > days {
        year -= 1;
    }
    let mut left = days - days_before(year, 1);
    let mut month = 1;
    while left >= month_days(year, month) {
        left -= month_days(year, month);
        month += 1;
    }
    (year, month, left + 1)
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
    }

    #[test]
    fn days_are_read_as_they_are_written() {
        for n in (0..60_000).step_by(7) {
            let at = UnixMillis::from_seconds(n * DAY_SECONDS);
            assert_eq!(parse_day(&day(at)), Some(at));
        }
        for text in ["", "2026-11", "2026-02-29", "2026-13-01", "2026-00-01", "1969-12-31", "2026-1-01", "26-01-01", "2026-11-31", "x-y-z"]
        {
            assert_eq!(parse_day(text), None, "{text}");
        }
    }
}
