//! The buyer: a wallet, payments that are durable before they are sent, and a paid fetch.
//!
//! Used by the command line, the tests, and others as a library. It never pays twice for one
//! request: see [`paid`].

pub mod coins;
pub mod journal;
pub mod wallet;
