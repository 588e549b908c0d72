//! The only file that reads the system clock.

use crate::protocol::time::UnixMillis;
use std::time::{SystemTime, UNIX_EPOCH};

/// Now, by the system clock; the epoch when the clock stands before it.
pub fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
