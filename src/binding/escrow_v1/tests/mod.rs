//! The escrow binding against vectors, against the node's own script engine, and against its own accounting.

mod claims;
mod deposits;
mod payloads;
mod refunds;
mod state;
mod top_ups;
mod vectors;
mod vouchers;
mod world;
