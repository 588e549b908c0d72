//! Where the nodes keep their files: a directory of the caller's, or a temporary one.
//!
//! Either is locked for as long as the devnet lives. The kernel lifts the lock however the process ends, so a temporary
//! directory without a holder was left by a killed devnet: the next one to start in the same place deletes it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tracing::debug;

const PREFIX: &str = "kas402-devnet-";
const LOCK: &str = "lock";

/// A locked data directory; a temporary one is deleted on drop.
pub(crate) struct DataDir {
    pub(crate) path: PathBuf,
    _lock: File,
    _temp: Option<TempDir>,
}

impl DataDir {
    /// Uses `dir`, which is kept, or makes a temporary directory.
    ///
    /// # Errors
    /// `ResourceBusy` when another devnet uses `dir`.
    pub(crate) fn open(dir: Option<PathBuf>) -> io::Result<Self> {
        match dir {
            Some(path) => {
                fs::create_dir_all(&path)?;
                let lock = File::create(path.join(LOCK))?;
                lock.try_lock().map_err(|error| match error {
                    TryLockError::WouldBlock => io::Error::new(io::ErrorKind::ResourceBusy, "another devnet uses the directory"),
                    TryLockError::Error(error) => error,
                })?;
                Ok(Self { path, _lock: lock, _temp: None })
            }
            None => Self::temporary(&std::env::temp_dir()),
        }
    }

    fn temporary(parent: &Path) -> io::Result<Self> {
        delete_abandoned(parent)?;
        let temp = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
        // Locked before it has the name that others look for, so nobody finds it without its holder.
        let unnamed = temp.path().join("lock.new");
        let lock = File::create(&unnamed)?;
        lock.lock()?;
        fs::rename(unnamed, temp.path().join(LOCK))?;
        Ok(Self { path: temp.path().to_owned(), _lock: lock, _temp: Some(temp) })
    }
}

fn delete_abandoned(parent: &Path) -> io::Result<()> {
    for entry in fs::read_dir(parent)?.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let Ok(lock) = File::open(entry.path().join(LOCK)) else { continue };
        if lock.try_lock().is_ok() {
            debug!(dir = %entry.path().display(), "deleting what a killed devnet left");
            // Someone else may be deleting it too; what stays is found by the next start.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_user_at_a_time() {
        let parent = tempfile::tempdir().unwrap();
        let kept = parent.path().join("kept");
        let dir = Some(kept.clone());
        let first = DataDir::open(dir.clone()).unwrap();
        assert_eq!(DataDir::open(dir.clone()).err().unwrap().kind(), io::ErrorKind::ResourceBusy);
        drop(first);
        DataDir::open(dir.clone()).unwrap();
        assert!(kept.exists(), "it is kept");
    }

    #[test]
    fn what_a_killed_devnet_left_is_deleted_and_what_lives_is_not() {
        let parent = tempfile::tempdir().unwrap();
        let living = DataDir::temporary(parent.path()).unwrap();
        let abandoned = parent.path().join("kas402-devnet-killed");
        let foreign = parent.path().join("something-else");
        for dir in [&abandoned, &foreign] {
            fs::create_dir(dir).unwrap();
            File::create(dir.join(LOCK)).unwrap();
        }
        let next = DataDir::temporary(parent.path()).unwrap();
        assert!(!abandoned.exists());
        assert!(living.path.exists() && next.path.exists() && foreign.exists());
        let path = next.path.clone();
        drop(next);
        assert!(!path.exists(), "its own end deletes it");
    }
}
