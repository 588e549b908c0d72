//! A deterministic chain for fault injection.
