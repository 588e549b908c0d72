//! Dying at an exact moment, for the tests that kill a gateway or a buyer in the middle of a purchase.
//!
//! Debug builds only: a release build contains no trace of it.

/// Ends the process as `kill -9` would when `KAS402_CRASH` names this point.
#[cfg(debug_assertions)]
pub(crate) fn point(name: &str) {
    if std::env::var_os("KAS402_CRASH").is_some_and(|wanted| wanted == name) {
        std::process::abort();
    }
}

#[cfg(not(debug_assertions))]
pub(crate) fn point(_name: &str) {}
