//! One user of a channel at a time, between tasks and between processes.
//!
//! The kernel frees a file lock when its process dies, however it dies: who gets the lock may take up what a dead owner left in
//! flight. Money does not depend on it: the journal refuses a second request in flight and a lower voucher by itself.

use crate::client::journal::{Journal, JournalError};
use std::{
    collections::HashMap,
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::OwnedMutexGuard;

/// Between looks at a lock that another process holds.
const LOOK: Duration = Duration::from_millis(20);

/// The locks of one journal's channels.
pub(super) struct Locks {
    /// Beside the journal; `None` for a journal in memory.
    folder: Option<PathBuf>,
    here: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// Held until dropped.
pub(super) struct Held {
    _file: Option<File>,
    _here: OwnedMutexGuard<()>,
}

impl Locks {
    pub fn of(journal: &Journal) -> Self {
        Self { folder: journal.path().map(|path| path.with_extension("locks")), here: Mutex::default() }
    }

    /// Waits for `name`, a file name; the caller bounds the time.
    pub async fn take(&self, name: &str) -> Result<Held, JournalError> {
        let mutex = self.here.lock().unwrap_or_else(PoisonError::into_inner).entry(name.to_owned()).or_default().clone();
        let here = mutex.lock_owned().await;
        let Some(file) = self.file(name)? else { return Ok(Held { _file: None, _here: here }) };
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Held { _file: Some(file), _here: here }),
                Err(TryLockError::WouldBlock) => tokio::time::sleep(LOOK).await, // why: other processes give no event that a task could await
                Err(TryLockError::Error(error)) => return Err(self.error(error)),
            }
        }
    }

    /// The lock if nobody has it now.
    pub fn try_take(&self, name: &str) -> Result<Option<Held>, JournalError> {
        let mutex = self.here.lock().unwrap_or_else(PoisonError::into_inner).entry(name.to_owned()).or_default().clone();
        let Ok(here) = mutex.try_lock_owned() else { return Ok(None) };
        let Some(file) = self.file(name)? else { return Ok(Some(Held { _file: None, _here: here })) };
        match file.try_lock() {
            Ok(()) => Ok(Some(Held { _file: Some(file), _here: here })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(self.error(error)),
        }
    }

    fn file(&self, name: &str) -> Result<Option<File>, JournalError> {
        let Some(folder) = &self.folder else { return Ok(None) };
        let open = || {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(folder.join(name))
        };
        open().map(Some).map_err(|error| self.error(error))
    }

    fn error(&self, source: std::io::Error) -> JournalError {
        let path = self.folder.clone().unwrap_or_default();
        JournalError::File(crate::client::wallet::WalletError::Io { path, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_channel_has_one_user_whoever_else_asks() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Journal::open(&folder.path().join("w.sqlite")).unwrap();
        // Two journals of one file stand for two processes: their locks share nothing but the file system.
        let (one, two) = (Locks::of(&open()), Locks::of(&open()));
        let held = one.take("a").await.unwrap();
        for locks in [&one, &two] {
            assert!(locks.try_take("a").unwrap().is_none());
            assert!(locks.try_take("b").unwrap().is_some(), "another channel is free");
        }
        let waiting = two.take("a");
        tokio::pin!(waiting);
        assert!(tokio::time::timeout(Duration::from_millis(60), &mut waiting).await.is_err(), "it waits");
        drop(held);
        let held = waiting.await.unwrap();
        assert!(one.try_take("a").unwrap().is_none());
        drop(held);
        assert!(one.try_take("a").unwrap().is_some());
    }

    #[tokio::test]
    async fn a_journal_in_memory_locks_within_its_process() {
        let locks = Locks::of(&Journal::in_memory().unwrap());
        let held = locks.take("a").await.unwrap();
        assert!(locks.try_take("a").unwrap().is_none());
        drop(held);
        assert!(locks.try_take("a").unwrap().is_some());
    }
}
