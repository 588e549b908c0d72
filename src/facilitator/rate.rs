//! Calls a tenant may make: a bucket that fills with time. Pure; time is an argument.

use crate::protocol::{tenant::Rate, time::UnixMillis};

/// A call, in thousandths, so that milliseconds count.
const CALL: u64 = 1_000;

/// The calls one tenant has left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    left: u64,
    at: UnixMillis,
}

impl Bucket {
    pub fn full(rate: Rate, now: UnixMillis) -> Self {
        Self { left: u64::from(rate.burst) * CALL, at: now }
    }

    /// Takes one call, or says after how many seconds there is one. A clock that went back fills nothing.
    pub fn take(&mut self, rate: Rate, now: UnixMillis) -> Result<(), u32> {
        // A thousandth of a call for every call a second and millisecond.
        let gained = now.millis_since(self.at).saturating_mul(u64::from(rate.per_second));
        self.left = self.left.saturating_add(gained).min(u64::from(rate.burst) * CALL);
        self.at = now;
        match self.left.checked_sub(CALL) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                let millis = (CALL - self.left).div_ceil(u64::from(rate.per_second).max(1));
                Err(u32::try_from(millis.div_ceil(1_000)).unwrap_or(u32::MAX).max(1))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_what_time_brings() {
        let rate = Rate { per_second: 2, burst: 3 };
        let begin = UnixMillis(1_000);
        let mut bucket = Bucket::full(rate, begin);
        for (after_millis, expect) in [
            (0, Ok(())),
            (0, Ok(())),
            (0, Ok(())),
            (0, Err(1)),
            (499, Err(1)),
            (500, Ok(())),
            (500, Err(1)),
            (400, Err(1)), // a clock that went back
            (10_000, Ok(())),
            (10_000, Ok(())),
            (10_000, Ok(())),
            (10_000, Err(1)), // no more than the burst, however long it was quiet
        ] {
            assert_eq!(bucket.take(rate, begin.plus_millis(after_millis)), expect, "after {after_millis} ms");
        }
    }

    #[test]
    fn a_refused_call_costs_nothing() {
        let rate = Rate { per_second: 1, burst: 1 };
        let mut bucket = Bucket::full(rate, UnixMillis(0));
        assert!(bucket.take(rate, UnixMillis(0)).is_ok());
        for millis in 1..1_000 {
            assert_eq!(bucket.take(rate, UnixMillis(millis)), Err(1));
        }
        assert!(bucket.take(rate, UnixMillis(1_000)).is_ok());
    }
}
