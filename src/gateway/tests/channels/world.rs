//! A gateway with channels over the model store and the simulated chain, driven at the store's side: requests are charges
//! that are written directly.

use super::{
    super::{fakes::FakeUpstream, shop::policy as shop},
    mortal::{Life, MortalChain, MortalStore},
};
use crate::{
    binding::escrow_v1::{
        EscrowScript, ServerKey, ServerKeys, SignedVoucher, TemplateId,
        hashes::Commitment,
        spend::{Coin, Escrow, SpendRules, check_top_up, plan_top_up, reserve},
    },
    binding::exact_v1::decode,
    chain::{Chain, OutpointStatus, Utxo, sim::SimChain},
    client::wallet::Wallet,
    gateway::{Environment, Gateway, Limits},
    protocol::{
        amount::Amount,
        ids::{ChannelId, Outpoint, PaymentIdentifier, RequestHash, RequestIdentity, Salt, StoreId, TxId},
        network::Network,
        offer::OfferKeys,
        policy::{Channels, ClaimPolicy, Exposure, RouteId},
        requirements::Asset,
        time::UnixMillis,
    },
    store::{HolderId, channels::*, memory::MemoryStore},
    telemetry::Metrics,
};
use kaspa_consensus_core::{
    hashing::{
        sighash::{SigHashReusedValuesUnsync, calc_schnorr_signature_hash},
        sighash_type::SIG_HASH_ALL,
    },
    subnets::SUBNETWORK_ID_NATIVE,
    tx::{PopulatedTransaction, Transaction, TransactionInput, TransactionOutpoint, TransactionOutput, UtxoEntry},
};
use secp256k1::{Keypair, Message, SECP256K1};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

pub const KAS: u64 = 100_000_000;
pub const FUNDING: u64 = 10 * KAS;
pub const FINAL_DEPTH: u64 = 100;
pub const HOLD: Duration = Duration::from_secs(10);
/// The simulated chain begins at a DAA score of 1,000.
pub const TIMEOUT: u64 = 100_000;
const BEGIN: UnixMillis = UnixMillis(1_700_000_000_000);
const SERVER: u8 = 240;

pub fn sompi(amount: u64) -> Amount {
    Amount::from_sompi(amount).unwrap()
}

fn keypair(seed: u8) -> Keypair {
    Keypair::from_seckey_slice(SECP256K1, &[seed; 32]).unwrap()
}

fn wallet(seed: u8) -> Wallet {
    Wallet::from_secret(Network::Simnet, &[seed; 32]).unwrap()
}

fn sign(seed: u8) -> impl Fn(&[u8; 32]) -> [u8; 64] {
    move |digest| SECP256K1.sign_schnorr_no_aux_rand(&Message::from_digest(*digest), &keypair(seed)).serialize()
}

pub fn rules() -> SpendRules {
    SpendRules::of(Network::Simnet)
}

/// The channel of a client whose key is `seed`.
pub fn config(seed: u8, timeout: u64) -> ChannelConfig {
    ChannelConfig {
        network: Network::Simnet,
        asset: Asset::Kas,
        template_id: TemplateId::EscrowV1,
        client_public_key: wallet(seed).public_key(),
        server_public_key: wallet(SERVER).public_key(),
        pay_to: wallet(SERVER - 1).address().to_string(),
        refund_address: wallet(seed).address().to_string(),
        refund_timeout_daa: timeout,
        salt: Salt([seed; 32]),
    }
}

/// Nothing is claimed by itself, but near the timeout.
pub fn by_hand() -> ClaimPolicy {
    ClaimPolicy {
        automatic: false,
        above: sompi(FUNDING),
        after: Duration::from_secs(1_000_000),
        before_refund_daa: 1_000,
        max_fee_percent: 20,
        priority_sompi_per_gram: 0,
    }
}

pub struct World {
    pub gateway: Arc<Gateway>,
    pub life: Arc<Life>,
    pub store: Arc<MemoryStore>,
    pub chain: Arc<SimChain>,
    pub policy: ClaimPolicy,
    pub keys: Vec<u8>,
    skipped: Arc<AtomicU64>,
    drawn: AtomicU64,
    environment: Environment,
}

/// Ends the lives of a world that a test leaves, so that its tasks do nothing any more.
impl Drop for World {
    fn drop(&mut self) {
        self.life.end(&self.chain);
    }
}

impl World {
    pub async fn new(policy: ClaimPolicy) -> Self {
        let skipped = Arc::new(AtomicU64::new(0));
        let (origin, shift) = (tokio::time::Instant::now(), skipped.clone());
        let environment = Environment {
            now: Arc::new(move || {
                let passed = u64::try_from(origin.elapsed().as_millis()).unwrap();
                BEGIN.plus_millis(passed + shift.load(Ordering::SeqCst))
            }),
            random: Arc::new(|| [1; 16]),
        };
        let (store, chain) = (Arc::new(MemoryStore::new(StoreId([1; 16]))), SimChain::new(Network::Simnet));
        chain.accept_at_once(true);
        let life = Arc::default();
        let gateway = start(&store, &chain, &life, &environment, policy, &[SERVER]).await;
        Self { gateway, life, store, chain, policy, keys: vec![SERVER], skipped, drawn: AtomicU64::new(1), environment }
    }

    /// The process dies, if it did not yet, and another starts over the same store and network.
    pub async fn restart(&mut self) {
        self.life.end(&self.chain);
        self.life = Arc::default();
        self.gateway = start(&self.store, &self.chain, &self.life, &self.environment, self.policy, &self.keys).await;
    }

    /// The clock jumps; no timer runs.
    pub fn skip(&self, seconds: u64) {
        self.skipped.fetch_add(seconds * 1_000, Ordering::SeqCst);
    }

    /// Lets time pass, with every timer.
    pub async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await; // why: the clock of these tests stands still; a sleep moves it
    }

    pub fn now(&self) -> UnixMillis {
        (self.environment.now)()
    }

    fn draw(&self) -> u64 {
        self.drawn.fetch_add(1, Ordering::SeqCst)
    }

    /// A deposit on the chain, its bytes known, and its channel.
    pub async fn open(&self, seed: u8) -> Arc<ChannelRecord> {
        self.open_with(seed, TIMEOUT, FUNDING).await
    }

    pub async fn open_with(&self, seed: u8, timeout: u64, funding: u64) -> Arc<ChannelRecord> {
        let (config, transaction) = self.deposit(seed, timeout, funding);
        let record = self.opened(config, &transaction, funding, true).await;
        self.chain.submit(&transaction).await;
        self.gateway.watch_channel(&record);
        self.until(&record.id, "funded", |record| record.deposit.funded_daa.is_some()).await
    }

    /// Pays an escrow from nowhere.
    pub fn deposit(&self, seed: u8, timeout: u64, funding: u64) -> (ChannelConfig, Transaction) {
        let config = config(seed, timeout);
        let script = EscrowScript::of(&config).unwrap();
        let coin = TransactionOutpoint::new(TxId([seed; 32]).into(), u32::try_from(self.draw()).unwrap());
        let input = TransactionInput::new(coin, vec![], 0, 1);
        let output = TransactionOutput::new(funding, script.script_public_key().clone());
        (config, Transaction::new(0, vec![input], vec![output], 0, SUBNETWORK_ID_NATIVE, 0, vec![]))
    }

    /// The record alone. `bytes`: the gateway knows the transaction.
    pub async fn opened(&self, config: ChannelConfig, transaction: &Transaction, funding: u64, bytes: bool) -> Arc<ChannelRecord> {
        let script = EscrowScript::of(&config).unwrap();
        let opening = Opening {
            id: config.channel_id(),
            config,
            outpoint: Outpoint { txid: transaction.id().into(), index: 0 },
            funding: sompi(funding),
            reserve: reserve(&script, sompi(funding), &rules()).unwrap_or(sompi(funding)),
            transaction: bytes.then(|| decode::encode(transaction)),
            funded_daa: None,
        };
        match self.store.open_channel(&opening, self.now()).await.unwrap() {
            Opened::New(record) => record,
            other => panic!("{other:?}"),
        }
    }

    pub async fn record(&self, id: &ChannelId) -> Arc<ChannelRecord> {
        self.store.channel(id).await.unwrap().expect("the channel is there")
    }

    /// One request, served and charged in full.
    pub async fn charge(&self, id: &ChannelId, amount: u64) -> Arc<ChannelRecord> {
        let (lease, record, terms) = self.request(id, amount).await;
        let record = self.commit(lease, &record, terms).await;
        self.gateway.channel_changed(&record);
        record
    }

    /// Charges a request that holds the channel in full.
    pub async fn commit(&self, lease: Lease, record: &ChannelRecord, terms: ChargeTerms) -> Arc<ChannelRecord> {
        let charged_after = record.parts.charged.checked_add(terms.ceiling).unwrap();
        let commitment = Commitment {
            channel: record.id,
            request_hash: terms.request_hash,
            requirements_hash: terms.requirements_hash,
            outpoint: terms.outpoint,
            voucher: terms.voucher,
            charge: terms.ceiling,
            charged_before: record.parts.charged,
            charged_after,
            claimed: record.parts.claimed,
        };
        let charge = Charge {
            commitment: commitment.id(),
            charge: terms.ceiling,
            charged_before: record.parts.charged,
            claimed: record.parts.claimed,
            status: 200,
            response: None,
            terms,
        };
        match self.store.advance_channel(&lease, ChannelFact::Committed(Box::new(charge)), self.now()).await.unwrap() {
            ChannelStep::Done(record) => record,
            other => panic!("{other:?}"),
        }
    }

    /// A lease for a request of this ceiling, and what it would be charged under.
    pub async fn request(&self, id: &ChannelId, ceiling: u64) -> (Lease, Arc<ChannelRecord>, ChargeTerms) {
        let number = self.draw();
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&number.to_be_bytes());
        let identifier = PaymentIdentifier::parse(&format!("request-{number:016}")).unwrap();
        let identity = RequestIdentity([7; 32]);
        let purpose = Purpose::Request { identifier, nonce, identity };
        let ask = LeaseAsk { channel: *id, purpose, holder: HolderId([9; 16]), hold_millis: 10_000 };
        let (lease, record) = match self.store.lease(&ask, self.now()).await.unwrap() {
            Leased::Held(lease, record) => (lease, record),
            other => panic!("{other:?}"),
        };
        let Purpose::Request { identifier, .. } = ask.purpose else { unreachable!() };
        let due = record.active().checked_add(sompi(ceiling)).unwrap().max(record.parts.signed);
        let terms = ChargeTerms {
            identifier,
            nonce,
            identity,
            request_hash: RequestHash([number.to_be_bytes()[7]; 32]),
            requirements_hash: [3; 32],
            outpoint: record.outpoint,
            voucher: voucher(&record, due),
            ceiling: sompi(ceiling),
            route: RouteId("metered".into()),
            summary: "GET paid.test/metered".into(),
        };
        (lease, record, terms)
    }

    /// A stream that runs: its ceiling is reserved. Whoever drops the lease leaves the stream behind.
    pub async fn stream(&self, id: &ChannelId, ceiling: u64, reading: Option<u64>, unknown: u64) -> Lease {
        let (lease, record, terms) = self.request(id, ceiling).await;
        let stream = OpenStream {
            terms,
            charged_before: record.parts.charged,
            claimed: record.parts.claimed,
            funding: record.parts.funding,
            reading: reading.map(sompi),
            unknown: sompi(unknown),
            status: 200,
            began_at: self.now(),
        };
        let step = self.store.advance_channel(&lease, ChannelFact::Reserved(Box::new(stream)), self.now()).await.unwrap();
        assert!(matches!(step, ChannelStep::Done(_)), "{step:?}");
        lease
    }

    /// A top-up that both sides signed, durable; not sent. The client's coin is `coin`.
    pub async fn build_top_up(&self, id: &ChannelId, coin: Outpoint, adds: u64) -> (Arc<ChannelRecord>, Transaction) {
        let (lease, record) = self.gateway.lease_for_upkeep(id).await.unwrap();
        let script = EscrowScript::of(&record.config).unwrap();
        let escrow = Escrow { script: &script, outpoint: record.outpoint, funding: record.parts.funding };
        let entry = UtxoEntry::new(adds, wallet(50).script(), 0, false, None);
        let coins = [Coin { outpoint: coin, entry }];
        let plan = plan_top_up(escrow, record.active(), &coins, &rules()).unwrap();
        let mut transaction = plan.transaction.clone();
        let populated = PopulatedTransaction::new(&transaction, plan.entries.clone());
        let digest = calc_schnorr_signature_hash(&populated, 1, SIG_HASH_ALL, &SigHashReusedValuesUnsync::new()).as_bytes();
        transaction.inputs[1].signature_script = [&[65][..], &sign(50)(&digest), &[SIG_HASH_ALL.to_u8()]].concat();
        let checked = check_top_up(transaction, escrow, record.active(), None, &rules()).unwrap();
        let (added, payout) = (checked.added(), checked.payout());
        let signed = checked.sign(escrow, &record.voucher.unwrap(), sign(SERVER)).unwrap();
        let step = Move {
            txid: signed.txid,
            transaction: decode::encode(&signed.transaction),
            spends: record.outpoint,
            held: record.parts.funding,
            voucher: record.voucher.unwrap(),
            spends_reserve: record.reserve,
            takes: record.active(),
            fee: record.active().checked_sub(payout).unwrap(),
            added,
            continuation: signed.continuation,
            funding: signed.funding,
            reserve: reserve(&script, signed.funding, &rules()).unwrap(),
            built_at: self.now(),
            state: MoveState::Built,
            aside: Aside::default(),
        };
        match self.store.advance_channel(&lease, ChannelFact::MoveBuilt(Box::new(step)), self.now()).await.unwrap() {
            ChannelStep::Done(record) => {
                self.gateway.watch_channel(&record);
                self.gateway.channel_changed(&record);
                (record, signed.transaction)
            }
            other => panic!("{other:?}"),
        }
    }

    /// Whether the simulated network has the output unspent.
    pub async fn unspent(&self, address: &str) -> Vec<Utxo> {
        self.chain.utxos(address).await.unwrap()
    }

    pub fn output(&self, outpoint: Outpoint) -> OutpointStatus {
        let script = wallet(1).script();
        let watched = self.chain.watch_outpoint(outpoint, &script, None);
        watched.borrow().clone()
    }

    /// Lets everything run that can run without time passing, until the record is so.
    pub async fn until(&self, id: &ChannelId, what: &str, reached: impl Fn(&ChannelRecord) -> bool) -> Arc<ChannelRecord> {
        for _ in 0..10_000 {
            if let Some(record) = self.store.channel(id).await.unwrap()
                && reached(&record)
            {
                return record;
            }
            tokio::task::yield_now().await;
        }
        panic!("never {what}: {:#?}", self.store.channel(id).await);
    }

    /// Everything that can run without time passing has run.
    pub async fn settle(&self) {
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
    }
}

pub fn voucher(record: &ChannelRecord, amount: Amount) -> SignedVoucher {
    let seed = record.config.salt.0[0];
    SignedVoucher::sign(&EscrowScript::of(&record.config).unwrap(), record.outpoint, amount, sign(seed))
}

/// What is sold does not matter here; how it is claimed does.
pub fn policy(claims: ClaimPolicy) -> crate::protocol::policy::Policy {
    let channels = Channels {
        refund_horizon_daa: TIMEOUT,
        refund_epoch_daa: 1_000,
        refund_lead_daa: 500,
        confirmations: 10,
        exposure: Exposure { unconfirmed: sompi(KAS), ..Exposure::default() },
        claims,
    };
    crate::protocol::policy::Policy { channels: Some(channels), ..shop(&|_| {}) }
}

pub fn server_keys(keys: &[u8]) -> Arc<ServerKeys> {
    let keys = keys.iter().enumerate().map(|(index, seed)| ServerKey::new(&[*seed; 32], index > 0).unwrap());
    Arc::new(ServerKeys::new(keys.collect()))
}

pub fn offer_keys() -> Arc<OfferKeys> {
    Arc::new(OfferKeys::derive(&[], StoreId([1; 16])))
}

async fn start(
    store: &Arc<MemoryStore>,
    chain: &Arc<SimChain>,
    life: &Arc<Life>,
    environment: &Environment,
    claims: ClaimPolicy,
    keys: &[u8],
) -> Arc<Gateway> {
    let gateway = Gateway::new(
        Arc::new(MortalStore { model: store.clone(), life: life.clone() }),
        Arc::new(MortalChain { sim: chain.clone(), life: life.clone() }),
        Arc::new(FakeUpstream::default()),
        environment.clone(),
        Arc::new(policy(claims)),
        offer_keys(),
        server_keys(keys),
        Limits { final_depth: FINAL_DEPTH, hold: HOLD, waiting: 100 },
        Arc::new(Metrics::new()),
    );
    gateway.clone().recover().await.unwrap();
    gateway
}
