//! Wiring: from a compiled configuration to a running gateway. No rule lives here.

pub mod clock;
pub mod random;
