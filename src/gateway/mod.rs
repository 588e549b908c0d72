//! The use cases, over the two traits and a clock: route, sell, admit, settle, deliver, recover.
//!
//! Never names a concrete store, pingora or the node's RPC. Called by `proxy` and `runtime`.

pub mod answer;
pub mod upstream;
