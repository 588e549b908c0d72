//! Wiring: builds the parts and connects them. No rules of its own.

pub mod clock;
pub mod moving;
pub mod random;
mod server_keys;
mod start;
pub mod store;

pub use server_keys::ServerKeysError;
pub use start::{Running, StartError, start};
