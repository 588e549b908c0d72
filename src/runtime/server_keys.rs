//! One server key, one store (PROTOCOL section 5): a voucher that two stores know is claimed by one of them alone.
//!
//! The store remembers its keys; beside the file of the keys lies the id of the one store that uses them, so that a copy of
//! the configuration over a new store does not start. Keys from the environment have no such place.

use crate::{
    binding::escrow_v1::ServerKeys,
    protocol::ids::StoreId,
    store::{Store, StoreError},
};
use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Why the keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ServerKeysError {
    #[error(
        "the server keys in {keys} belong to the store {other}, and this one is {own}: gateways that sell under one key share one store. \
         Make a key for this store (kas402 keys new --server), or, if the other store is gone for good and its channels are claimed, remove {place}"
    )]
    Elsewhere { keys: String, place: String, own: String, other: String },
    #[error("{path} cannot be used: {reason}")]
    File { path: String, reason: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Binds the keys to this store, or refuses.
pub async fn bind(store: &dyn Store, keys: &ServerKeys, files: impl IntoIterator<Item = &Path>) -> Result<(), ServerKeysError> {
    if keys.iter().next().is_none() {
        return Ok(());
    }
    for file in files {
        beside(file, store.id())?;
    }
    for key in keys.iter() {
        let public = key.public();
        if store.add_server_key(public).await? {
            tracing::info!(server_key = %public, "server key bound to this store");
        }
    }
    Ok(())
}

fn beside(keys: &Path, own: StoreId) -> Result<(), ServerKeysError> {
    let mut name = keys.as_os_str().to_owned();
    name.push(".store");
    let place = PathBuf::from(name);
    let failed = |error: std::io::Error| ServerKeysError::File { path: place.display().to_string(), reason: error.to_string() };
    let own = hex::encode(own.0);
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&place) {
        Ok(mut file) => writeln!(file, "{own}").and_then(|()| file.sync_all()).map_err(failed),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let other = fs::read_to_string(&place).map_err(failed)?.trim().to_owned();
            if other == own {
                return Ok(());
            }
            let (keys, place) = (keys.display().to_string(), place.display().to_string());
            Err(ServerKeysError::Elsewhere { keys, place, own, other })
        }
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{binding::escrow_v1::ServerKey, store::memory::MemoryStore};

    #[tokio::test]
    async fn the_keys_of_one_store_do_not_start_over_another() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("server.keys");
        let keys = ServerKeys::new(vec![ServerKey::new(&[7; 32], false).unwrap()]);
        let (own, other) = (MemoryStore::new(StoreId([1; 16])), MemoryStore::new(StoreId([2; 16])));
        for _ in 0..2 {
            bind(&own, &keys, [file.as_path()]).await.unwrap();
        }
        let refused = bind(&other, &keys, [file.as_path()]).await.unwrap_err();
        assert!(matches!(&refused, ServerKeysError::Elsewhere { other, .. } if *other == "01".repeat(16)), "{refused}");
        // Without a file, and without keys, there is nothing to compare.
        bind(&other, &keys, []).await.unwrap();
        bind(&other, &ServerKeys::default(), [file.as_path()]).await.unwrap();
    }
}
