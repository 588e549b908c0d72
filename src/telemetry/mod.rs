//! Logs and metrics. Never sees a payment header, an offer or a key.

pub mod logs;
pub mod metrics;

pub use metrics::Metrics;
