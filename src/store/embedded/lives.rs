//! Which processes use the file.
//!
//! Every writer holds a shared lock on a file beside the store, `<store>.lives`, which the kernel frees however its process dies. Who finds
//! nobody else knows that all leases in the file are of the dead, and need not wait for their end. Where the file system has no locks, leases
//! end by the clock alone.

use crate::store::StoreError;
use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Lasts as long as the store is open.
#[derive(Debug)]
pub(super) struct Life {
    _lock: Option<File>,
}

impl Life {
    /// Runs `alone` when no other process uses the store; none begins meanwhile.
    pub fn begin(store: &Path, alone: impl FnOnce() -> Result<(), StoreError>) -> Result<Self, StoreError> {
        let mut path = store.as_os_str().to_owned();
        path.push(".lives");
        let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = opened.map_err(|error| StoreError::Unavailable(format!("{}: {error}", path.display())))?;
        if file.try_lock().is_ok() {
            alone()?;
            // Whoever comes before the lock is shared finds nothing of this process's yet.
            let _ = file.unlock();
        }
        Ok(Self { _lock: file.lock_shared().is_ok().then_some(file) })
    }
}
