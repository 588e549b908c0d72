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
    match &settings.redis {
        None => {
            let path = settings.path.display().to_string();
            let opened = EmbeddedStore::open(&settings.path, StoreId(random::bytes()));
            let store = opened.map_err(|error| StartError::Store { path: path.clone(), error })?;
            Ok((Arc::new(store), path))
        }
        Some(redis) => {
            let server = redis.endpoint.to_string();
            let store = RedisStore::open(&options(redis)?).await;
            let store = store.map_err(|error| StartError::Redis { server: server.clone(), error })?;
            Ok((Arc::new(store), server))
        }
    }
}

fn options(redis: &RedisSettings) -> Result<Options, StartError> {
    let ca = redis.ca_file.as_ref();
    let ca_pem = ca
        .map(|path| {
            std::fs::read(path).map_err(|error| StartError::RedisCa { path: path.display().to_string(), reason: error.to_string() })
        })
        .transpose()?;
    Ok(Options {
        endpoint: redis.endpoint.clone(),
        ca_pem,
        prefix: redis.prefix.clone(),
        durability: redis.durability,
        replicas: redis.replicas,
        // A command that brings no answer is sent again within the verb.
        timeouts: Timeouts { connect: redis.connect, answer: redis.timeout / 2, verb: redis.timeout },
        shards: SHARDS,
        lease_clock: LeaseClock::Server,
        new_store_id: StoreId(random::bytes()),
        process: random::bytes(),
    })
}
