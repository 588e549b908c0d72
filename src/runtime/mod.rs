//! Wiring: builds the parts and connects them. No rules of its own.

pub mod clock;
pub mod random;
mod start;

pub use start::{Running, StartError, start};
