//! The Kaspa simnet harness (see `main.rs` for the control API).
