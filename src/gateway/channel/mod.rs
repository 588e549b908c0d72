//! Requests that are paid from a channel (PROTOCOL section 5).

#![cfg_attr(not(test), expect(dead_code, reason = "what serves channels is built beside this, and goes with this line"))]

pub(super) mod meter;
pub(super) mod sse;
