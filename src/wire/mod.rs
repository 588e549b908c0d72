//! Bytes on HTTP: canonical JSON, payment headers, challenges and receipts, fingerprints.
//!
//! No I/O and no clock. Wire types are not core types: they are converted at this edge.

pub mod headers;
