//! Opening the store that is configured.

use super::{StartError, random};
use crate::{
    config::{RedisSettings, StoreSettings},
    protocol::ids::StoreId,
    store::{
        Store,
        embedded::EmbeddedStore,
        redis::{LeaseClock, Options, RedisStore, SHARDS, Timeouts},
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
