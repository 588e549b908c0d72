//! Moves of whole stores, for the command line and for a gateway that is asked over its admin listener.
//!
//! Promises: one move at a time in a process; whatever ends in the middle is run again or undone, as `store::moving` says. A move that a
//! gateway was asked for goes on although whoever asked is gone.

use super::store;
use crate::{
    admin::{MoveAsked, MoveProgress, Relocate},
    config::{self, Environment, StoreSettings},
    store::moving::{Heard, Moved, Moving, Named, migrate, undo},
};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use zeroize::Zeroizing;

/// The variable with the password of a server that is named by its URL.
pub const PASSWORD: &str = "KAS402_STORE_PASSWORD";

/// Where a store is: a path, the URL of a server, or a configuration that names either.
pub fn place(given: &str, password: Option<Zeroizing<String>>) -> Result<StoreSettings, String> {
    if given.contains("://") {
        let shared = config::server(given, password.map(|password| password.as_str().to_owned().into()));
        let shared = shared.map_err(|error| format!("{error}: set {PASSWORD}, or name a configuration (.yaml) instead of its URL"))?;
        return Ok(StoreSettings { path: PathBuf::new(), shared: Some(shared) });
    }
    let path = Path::new(given);
    let settings = if is_configuration(path) {
        config::load(path, &Environment::process()).map_err(|problems| format!("{given}: {problems}"))?.settings.store
    } else {
        StoreSettings { path: path.to_owned(), shared: None }
    };
    absolute(settings)
}

pub fn is_configuration(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

/// Marks name the whole path, wherever the next command is run.
fn absolute(settings: StoreSettings) -> Result<StoreSettings, String> {
    if settings.shared.is_some() {
        return Ok(settings);
    }
    let path = &settings.path;
    let whole = std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display()))?;
    // The file may not be there yet; its folder has to be.
    let folder = whole.parent().ok_or_else(|| format!("{} is no file", path.display()))?;
    let folder = folder.canonicalize().map_err(|error| format!("{}: {error}", folder.display()))?;
    let name = whole.file_name().ok_or_else(|| format!("{} is no file", path.display()))?;
    Ok(StoreSettings { path: folder.join(name), ..settings })
}

/// A move, or the way back from one that was not completed, to its end.
pub async fn ended(from: &StoreSettings, to: &StoreSettings, back: bool, heard: Heard<'_>) -> MoveProgress {
    let named = store::name(to);
    let ended = if back {
        undone(from, to).await.map(|()| MoveProgress::Undone { from: store::name(from), to: named })
    } else {
        moved(from, to, heard).await.map(|moved| MoveProgress::Moved { moved, to: named })
    };
    ended.unwrap_or_else(|error| MoveProgress::Failed { error })
}

async fn opened(place: &StoreSettings) -> Result<Option<Box<dyn Moving>>, String> {
    store::moving(place).await.map_err(|error| error.to_string())
}

async fn source(from: &StoreSettings) -> Result<Box<dyn Moving>, String> {
    opened(from).await?.ok_or_else(|| format!("{}: there is no store", store::name(from)))
}

/// Everything of `from` into a new store, compared.
async fn moved(from: &StoreSettings, to: &StoreSettings, heard: Heard<'_>) -> Result<Moved, String> {
    let (from_name, to_name) = (store::name(from), store::name(to));
    let source = source(from).await?;
    let target = match opened(to).await? {
        Some(target) => target,
        None => {
            store::create_arriving(to, source.id(), &from_name).await.map_err(|error| error.to_string())?;
            opened(to).await?.ok_or_else(|| format!("{to_name}: it went away"))?
        }
    };
    let ends = (Named { name: &from_name, store: source.as_ref() }, Named { name: &to_name, store: target.as_ref() });
    let moved = migrate(ends.0, ends.1, heard).await;
    moved.map_err(|error| format!("{error}\nrun the same command again, or go back with --undo"))
}

/// Opens `from` again after a move that was not completed.
async fn undone(from: &StoreSettings, to: &StoreSettings) -> Result<(), String> {
    let to_name = store::name(to);
    let (source, target) = (source(from).await?, opened(to).await?);
    let named = target.as_ref().map(|store| Named { name: &to_name, store: store.as_ref() });
    undo(Named { name: &store::name(from), store: source.as_ref() }, named).await.map_err(|error| error.to_string())
}

/// The store of a running gateway.
pub struct Mover {
    from: StoreSettings,
    progress: Arc<Mutex<MoveProgress>>,
}

impl Mover {
    pub fn new(from: &StoreSettings) -> Result<Self, String> {
        Ok(Self { from: absolute(from.clone())?, progress: Arc::default() })
    }
}

fn lock(progress: &Mutex<MoveProgress>) -> MutexGuard<'_, MoveProgress> {
    // A panic while holding the lock leaves a whole value behind.
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Relocate for Mover {
    fn begin(&self, asked: MoveAsked) -> Result<(), String> {
        let to = place(&asked.to, asked.password.map(Zeroizing::new))?;
        if store::name(&to) == store::name(&self.from) {
            return Err("FROM and TO are the same store".to_owned());
        }
        let mut now = lock(&self.progress);
        if let MoveProgress::Running { .. } = *now {
            return Err("a move is under way: wait for its end".to_owned());
        }
        *now = MoveProgress::Running { part: None, read: 0 };
        drop(now);
        let (from, progress) = (self.from.clone(), self.progress.clone());
        tokio::spawn(async move {
            let heard = |part, read| *lock(&progress) = MoveProgress::Running { part: Some(part), read };
            let ended = ended(&from, &to, asked.undo, &heard).await;
            tracing::warn!(from = store::name(&from), to = store::name(&to), ended = ?ended, "the store was moved by an operator");
            *lock(&progress) = ended;
        });
        Ok(())
    }

    fn progress(&self) -> MoveProgress {
        lock(&self.progress).clone()
    }
}
