//! Opening the store that is configured.

use super::{StartError, random};
use crate::{
    config::{RedisSettings, StoreSettings},
    protocol::ids::StoreId,
    store::{
        Reading, Store,
        embedded::{EmbeddedReader, EmbeddedStore},
        moving::Moving,
        redis::{LeaseClock, OpenError, Options, RedisStore, SHARDS, Timeouts},
    },
};
use std::sync::Arc;

/// The store, and its name for errors.
pub async fn open(settings: &StoreSettings) -> Result<(Arc<dyn Store>, String), StartError> {
    match &settings.shared {
        None => {
            let path = settings.path.display().to_string();
            let opened = EmbeddedStore::open(&settings.path, StoreId(random::bytes()));
            let store = opened.map_err(|error| StartError::Store { path: path.clone(), error })?;
            Ok((Arc::new(store), path))
        }
        Some(shared) => {
            let server = shared.endpoint.to_string();
            let store = RedisStore::open(&options(shared)?).await;
            let store = store.map_err(|error| StartError::Redis { server: server.clone(), error })?;
            Ok((Arc::new(store), server))
        }
    }
}

/// What the store is called, also in the marks of a move.
pub fn name(settings: &StoreSettings) -> String {
    match &settings.shared {
        None => settings.path.display().to_string(),
        Some(shared) => format!("{} ({})", shared.endpoint, shared.prefix),
    }
}

/// The store for reading, beside whoever serves from it.
pub async fn reading(settings: &StoreSettings) -> Result<Box<dyn Reading>, StartError> {
    Ok(match &settings.shared {
        None => Box::new(EmbeddedReader::open(&settings.path).map_err(|error| StartError::Store { path: name(settings), error })?),
        Some(shared) => Box::new(RedisStore::open_reading(&options(shared)?).await.map_err(|error| failed(settings, error))?),
    })
}

/// The store as one end of a move; `None` where there is none.
pub async fn moving(settings: &StoreSettings) -> Result<Option<Box<dyn Moving>>, StartError> {
    match &settings.shared {
        None if !settings.path.exists() => Ok(None),
        None => {
            let store = EmbeddedStore::open_moving(&settings.path);
            Ok(Some(Box::new(store.map_err(|error| StartError::Store { path: name(settings), error })?)))
        }
        Some(shared) => {
            let store = RedisStore::open_moving(&options(shared)?).await.map_err(|error| failed(settings, error))?;
            Ok(store.map(|store| Box::new(store) as Box<dyn Moving>))
        }
    }
}

/// Makes a store that is the target of a move.
pub async fn create_arriving(settings: &StoreSettings, id: StoreId, from: &str) -> Result<(), StartError> {
    match &settings.shared {
        None => {
            let made = EmbeddedStore::create_arriving(&settings.path, id, from);
            made.map_err(|error| StartError::Store { path: name(settings), error })
        }
        // Somebody who was quicker is found when it is opened.
        Some(shared) => RedisStore::create_arriving(&options(shared)?, id, from).await.map(drop).map_err(|error| failed(settings, error)),
    }
}

fn failed(settings: &StoreSettings, error: OpenError) -> StartError {
    StartError::Redis { server: name(settings), error }
}

fn options(shared: &RedisSettings) -> Result<Options, StartError> {
    let ca = shared.ca_file.as_ref();
    let ca_pem = ca
        .map(|path| {
            std::fs::read(path).map_err(|error| StartError::RedisCa { path: path.display().to_string(), reason: error.to_string() })
        })
        .transpose()?;
    Ok(Options {
        endpoint: shared.endpoint.clone(),
        ca_pem,
        prefix: shared.prefix.clone(),
        durability: shared.durability,
        replicas: shared.replicas,
        // A command that brings no answer is sent again within the verb.
        timeouts: Timeouts { connect: shared.connect, answer: shared.timeout / 2, verb: shared.timeout },
        shards: SHARDS,
        lease_clock: LeaseClock::Server,
        new_store_id: StoreId(random::bytes()),
        process: random::bytes(),
    })
}
