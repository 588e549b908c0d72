//! The suite on real servers, and what only they can suffer.

mod cluster;
mod faults;
mod fleet;
mod moving;
mod proxy;
mod scripts;
mod secure;
#[path = "../../../../tests/support/redis.rs"]
mod server;

use super::*;
use crate::{
    protocol::ids::ChannelId,
    store::conformance::{ChannelPart, Damage, Subject, channel_conformance, conformance},
};
use cluster::Cluster;
use server::{SAFE, Server};
use std::sync::Arc;

/// Of stores whose server falls silent on purpose. A busy machine must not be taken for a silent one.
pub(super) const SHORT: Timeouts =
    Timeouts { connect: Duration::from_secs(2), answer: Duration::from_secs(3), verb: Duration::from_secs(4) };

pub(super) fn options(url: &str, process: u8) -> Options {
    Options {
        endpoint: Endpoint::parse(url).unwrap(),
        ca_pem: None,
        prefix: "kas402".to_owned(),
        durability: Durability::Standard,
        replicas: None,
        timeouts: Timeouts { connect: Duration::from_secs(1), answer: Duration::from_secs(2), verb: Duration::from_secs(20) },
        shards: 8,
        lease_clock: LeaseClock::Caller,
        new_store_id: StoreId([1; 16]),
        process: [process; 16],
    }
}

/// One server of its own, killed and started again by a restart.
struct Single {
    store: Arc<RedisStore>,
    server: Server,
    opened: u8,
}

impl Subject for Single {
    type Store = RedisStore;
    const RANDOM: (u64, usize) = (8, 150);
    const LEASES_SURVIVE: bool = true;

    async fn create() -> Self {
        let server = Server::start(&SAFE);
        let store = Arc::new(RedisStore::open(&options(&server.url(), 0)).await.unwrap());
        Self { store, server, opened: 0 }
    }

    fn store(&self) -> &Arc<RedisStore> {
        &self.store
    }

    async fn restart(self) -> Self {
        let Self { store, mut server, opened } = self;
        drop(Arc::into_inner(store).expect("nobody else uses the store"));
        server.kill();
        server.run();
        let opened = opened.wrapping_add(1);
        let store = Arc::new(RedisStore::open(&options(&server.url(), opened)).await.unwrap());
        Self { store, server, opened }
    }

    async fn damage(&self, key: &PaymentKey, damage: Damage) -> bool {
        damage_payment(&self.store, key, damage).await
    }

    async fn damage_channel(&self, id: &ChannelId, part: ChannelPart, damage: Damage) -> bool {
        damage_channel(&self.store, id, part, damage).await
    }
}

async fn damage_payment(store: &RedisStore, key: &PaymentKey, damage: Damage) -> bool {
    let place = store.keys.payment(key);
    spoil(store, ["HGET", "HSET"], &place.record, b"g", damage).await
}

async fn damage_channel(store: &RedisStore, id: &ChannelId, part: ChannelPart, damage: Damage) -> bool {
    let place = store.keys.channel(id);
    let responses = store.keys.of(place.shard, keys::names::RESPONSES);
    let (hash, list) = (["HGET", "HSET"], ["LINDEX", "LSET"]);
    match part {
        ChannelPart::Terms => spoil(store, hash, &place.record, b"t", damage).await,
        ChannelPart::Accounts => spoil(store, hash, &place.record, b"a", damage).await,
        ChannelPart::Chain => spoil(store, hash, &place.record, b"h", damage).await,
        ChannelPart::Charge => spoil(store, list, &place.charges, b"0", damage).await,
        ChannelPart::Response => spoil(store, hash, &responses, &place.response(1), damage).await,
        ChannelPart::Move => spoil(store, list, &place.moves, b"0", damage).await,
    }
}

/// What another program could do to a record.
async fn spoil(store: &RedisStore, [get, set]: [&str; 2], key: &[u8], field: &[u8], damage: Damage) -> bool {
    let by = store.link.deadline();
    let mut record = reply::bytes(store.link.command(get, &[key, field], Effect::Read, by).await.unwrap()).unwrap();
    match damage {
        Damage::NewerVersion => record[0] += 1,
        Damage::FlippedBit => record[3] ^= 1,
    }
    store.link.command(set, &[key, field, &record], Effect::Note, by).await.unwrap();
    true
}

/// A prefix of its own in a cluster that the tests of this process share.
struct Clustered {
    store: Arc<RedisStore>,
    cluster: Arc<Cluster>,
    options: Options,
}

impl Subject for Clustered {
    type Store = RedisStore;
    const RANDOM: (u64, usize) = (3, 120);
    const LEASES_SURVIVE: bool = true;

    async fn create() -> Self {
        let (cluster, prefix) = Cluster::shared();
        let options = Options { prefix, ..options(&cluster.url(), 0) };
        let store = Arc::new(RedisStore::open(&options).await.unwrap());
        Self { store, cluster, options }
    }

    fn store(&self) -> &Arc<RedisStore> {
        &self.store
    }

    /// Of the gateway: the servers serve other tests too.
    async fn restart(self) -> Self {
        let Self { store, cluster, mut options } = self;
        drop(Arc::into_inner(store).expect("nobody else uses the store"));
        options.process[0] = options.process[0].wrapping_add(1);
        let store = Arc::new(RedisStore::open(&options).await.unwrap());
        Self { store, cluster, options }
    }

    async fn damage(&self, key: &PaymentKey, damage: Damage) -> bool {
        damage_payment(&self.store, key, damage).await
    }

    async fn damage_channel(&self, id: &ChannelId, part: ChannelPart, damage: Damage) -> bool {
        damage_channel(&self.store, id, part, damage).await
    }
}

mod clustered {
    use super::*;
    conformance!(Clustered);
    channel_conformance!(Clustered);
}

mod single {
    use super::*;
    conformance!(Single);
    channel_conformance!(Single);
}
