//! The embedded store (SQLite).
