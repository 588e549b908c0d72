//! Bytes on HTTP: canonical JSON, payment headers, challenges and receipts, fingerprints.
//!
//! No I/O and no clock. Wire types are not core types: they are converted at this edge.

pub mod canonical;
pub mod cors;
pub mod envelope;
pub mod facilitator;
pub mod fingerprint;
pub mod header;
pub mod headers;
pub mod identifier;
pub mod mcp;
pub mod messages;
pub mod ordinary;
