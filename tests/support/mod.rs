//! Real parts for the tests: a node, an upstream, a gateway process, and payments by hand.
#![allow(dead_code)]

pub mod channel;
pub mod devnet;
pub mod edge;
pub mod gateway;
pub mod line;
pub mod packages;
pub mod patience;
pub mod pay;
pub mod redis;
pub mod schema;
pub mod tenants;
pub mod upstream;
