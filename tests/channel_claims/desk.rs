//! A gateway of this process over a real node: channels and charges are written to its store directly, as the serving side would.

use crate::{
    chain::PATIENCE,
    devnet::{Coin, Devnet, KAS, Wallet},
    escrow::{Channel, Held, amount, rules},
};
use async_trait::async_trait;
use kas402::{
    binding::{
        escrow_v1::{ServerKey, ServerKeys, hashes::Commitment, spend::reserve},
        exact_v1::decode,
    },
    chain::{Chain, kaspa::KaspaChain},
    gateway::{
        Environment, Gateway, Limits,
        channel::claim::{ClaimReport, Wanted},
        upstream::{UpstreamFailure, UpstreamReply, UpstreamRequest, Upstreams},
    },
    protocol::{
        ids::{ChannelId, Outpoint, PaymentIdentifier, RequestHash, RequestIdentity, StoreId},
        network::Network,
        offer::OfferKeys,
        policy::{Channels, ClaimPolicy, Cors, Exposure, Policy, RouteId, Upstream},
        route::Router,
        time::UnixMillis,
    },
    store::{HolderId, Store, channels::*, memory::MemoryStore},
    telemetry::Metrics,
};
use kaspa_consensus_core::tx::Transaction;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{runtime::Runtime, time::timeout};

pub const FINAL_DEPTH: u64 = 30;

/// Nobody is served.
struct NoUpstream;

#[async_trait]
impl Upstreams for NoUpstream {
    async fn send(&self, _: &Upstream, _: UpstreamRequest) -> Result<UpstreamReply, UpstreamFailure> {
        Err(UpstreamFailure::Connect)
    }
}

pub fn by_hand() -> ClaimPolicy {
    ClaimPolicy {
        automatic: false,
        above: amount(KAS),
        after: Duration::from_secs(3_600),
        before_refund_daa: 0,
        max_fee_percent: 20,
        priority_sompi_per_gram: 0,
    }
}

/// A runtime of its own, whose end ends everything in it at once.
pub struct Process(Runtime);

impl Process {
    pub fn start() -> Self {
        Self(tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap())
    }

    pub async fn run<T: Send + 'static>(&self, does: impl Future<Output = T> + Send + 'static) -> T {
        self.0.spawn(does).await.unwrap()
    }

    pub fn kill(self) {
        self.0.shutdown_background();
    }
}

/// A store, and the gateway over it while one runs.
pub struct Desk {
    pub store: Arc<MemoryStore>,
    pub gateway: Arc<Gateway>,
    drawn: AtomicU64,
}

fn now() -> UnixMillis {
    UnixMillis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().try_into().unwrap())
}

pub fn store() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new(StoreId([1; 16])))
}

impl Desk {
    /// Takes up whatever the store has.
    pub async fn start(store: Arc<MemoryStore>, chain: Arc<KaspaChain>, claims: ClaimPolicy) -> Self {
        let channels = Channels {
            refund_horizon_daa: 10_000,
            refund_epoch_daa: 100,
            refund_lead_daa: claims.before_refund_daa,
            confirmations: 10,
            exposure: Exposure::default(),
            claims,
        };
        let policy = Policy {
            remote_channels: false,
            tenants: vec![],
            network: Network::Simnet,
            router: Router::build(vec![]).unwrap(),
            upstreams: Default::default(),
            cors: Cors::Any,
            encoded_slashes: false,
            channels: Some(channels),
        };
        let server = Wallet::new(240).keypair.secret_bytes();
        let gateway = Gateway::new(
            store.clone(),
            chain,
            Arc::new(NoUpstream),
            Environment { now: Arc::new(now), random: Arc::new(|| [7; 16]) },
            Arc::new(policy),
            Arc::new(OfferKeys::derive(&[], store.id())),
            Arc::new(ServerKeys::new(vec![ServerKey::new(&server, false).unwrap()])),
            Limits { final_depth: FINAL_DEPTH, ..Limits::default() },
            Arc::new(Metrics::new()),
        );
        gateway.clone().recover().await.unwrap();
        Self { store, gateway, drawn: AtomicU64::new(now().0) }
    }

    pub async fn claim(&self, id: &ChannelId) -> ClaimReport {
        self.gateway.claim_channel(id, Wanted::Asked).await.unwrap()
    }

    /// One request, charged in full, by a request that this process serves.
    pub async fn charge(&self, channel: &Channel, sompi: u64) {
        charge(&self.store, channel, sompi, self.drawn.fetch_add(1, Ordering::Relaxed)).await;
    }

    pub async fn record(&self, id: &ChannelId) -> Arc<ChannelRecord> {
        self.store.channel(id).await.unwrap().expect("the channel is there")
    }

    /// Waits until the record is so. The store has no events.
    pub async fn until(&self, id: &ChannelId, what: &str, so: impl Fn(&ChannelRecord) -> bool) -> Arc<ChannelRecord> {
        let reached = timeout(PATIENCE, async {
            loop {
                let record = self.record(id).await;
                if so(&record) {
                    return record;
                }
                tokio::time::sleep(Duration::from_millis(10)).await; // why: the store pushes nothing
            }
        });
        match reached.await {
            Ok(record) => record,
            Err(_) => panic!("never {what}: {:#?}", self.record(id).await),
        }
    }
}

/// A channel over a deposit that lies on the chain; the gateway knows its bytes.
pub async fn open(store: &MemoryStore, net: &Devnet, channel: &Channel, sompi: u64) -> Held {
    let payer = Wallet::new(239);
    let coins: Vec<Coin> = net.fund(&payer, sompi + KAS, 1).await;
    let (transaction, held) = channel.funding(&payer, &coins, sompi, 1);
    net.submit(0, &transaction).await.unwrap();
    net.mine(0, 2).await;
    let opening = Opening {
        id: channel.config.channel_id(),
        config: channel.config.clone(),
        outpoint: held[0].outpoint,
        funding: amount(sompi),
        reserve: reserve(&channel.script, amount(sompi), &rules()).unwrap(),
        transaction: Some(decode::encode(&transaction)),
        funded_daa: None,
    };
    assert!(matches!(store.open_channel(&opening, now()).await.unwrap(), Opened::New(_)));
    held[0]
}

/// A charge of a process before this one.
pub async fn charge(store: &MemoryStore, channel: &Channel, sompi: u64, number: u64) {
    let mut nonce = [0; 16];
    nonce[..8].copy_from_slice(&number.to_be_bytes());
    let (identifier, identity) = (PaymentIdentifier::parse(&format!("request-{number:016}")).unwrap(), RequestIdentity([7; 32]));
    let purpose = Purpose::Request { identifier: identifier.clone(), nonce, identity };
    let id = channel.config.channel_id();
    let ask = LeaseAsk { channel: id, purpose, holder: HolderId([9; 16]), hold_millis: 10_000 };
    let Leased::Held(lease, record) = store.lease(&ask, now()).await.unwrap() else { panic!("not leased") };
    let due = record.active().checked_add(amount(sompi)).unwrap().max(record.parts.signed);
    let terms = ChargeTerms {
        identifier,
        nonce,
        identity,
        request_hash: RequestHash([1; 32]),
        requirements_hash: [3; 32],
        outpoint: record.outpoint,
        voucher: channel.voucher(record.outpoint, due.sompi()),
        ceiling: amount(sompi),
        route: RouteId("metered".into()),
        summary: "GET paid.test/metered".into(),
    };
    let charged_after = record.parts.charged.checked_add(amount(sompi)).unwrap();
    let commitment = Commitment {
        channel: id,
        request_hash: terms.request_hash,
        requirements_hash: terms.requirements_hash,
        outpoint: terms.outpoint,
        voucher: terms.voucher,
        charge: amount(sompi),
        charged_before: record.parts.charged,
        charged_after,
        claimed: record.parts.claimed,
    };
    let charge = Charge {
        commitment: commitment.id(),
        charge: amount(sompi),
        charged_before: record.parts.charged,
        claimed: record.parts.claimed,
        status: 200,
        response: None,
        terms,
    };
    let step = store.advance_channel(&lease, ChannelFact::Committed(Box::new(charge)), now()).await.unwrap();
    assert!(matches!(step, ChannelStep::Done(_)), "{step:?}");
}

/// A claim that is durable and was perhaps never sent.
pub async fn build(store: &MemoryStore, channel: &Channel, held: Held, takes: u64, claim: &Transaction) {
    let ask = LeaseAsk { channel: channel.config.channel_id(), purpose: Purpose::Upkeep, holder: HolderId([9; 16]), hold_millis: 10_000 };
    let Leased::Held(lease, record) = store.lease(&ask, now()).await.unwrap() else { panic!("not leased") };
    let funding = amount(claim.outputs[1].value);
    let step = Move {
        txid: claim.id().into(),
        transaction: decode::encode(claim),
        spends: held.outpoint,
        held: amount(held.sompi),
        voucher: record.voucher.unwrap(),
        spends_reserve: record.reserve,
        takes: amount(takes),
        fee: amount(takes - claim.outputs[0].value),
        added: amount(0),
        continuation: Outpoint { txid: claim.id().into(), index: 1 },
        funding,
        reserve: reserve(&channel.script, funding, &rules()).unwrap(),
        built_at: now(),
        state: MoveState::Built,
        aside: Aside::default(),
    };
    let step = store.advance_channel(&lease, ChannelFact::MoveBuilt(Box::new(step)), now()).await.unwrap();
    assert!(matches!(step, ChannelStep::Done(_)), "{step:?}");
}

/// What lies at an address.
pub async fn held_by(chain: &KaspaChain, wallet: &Wallet) -> u64 {
    chain.utxos(&wallet.address().to_string()).await.unwrap().iter().map(|utxo| utxo.amount.sompi()).sum()
}
