//! A buyer as our library is: a wallet, a journal on disk, a channel and some payments of single requests. It goes to any of the gateways, and
//! repeats what was not answered, every now and then as a new process that has nothing but the journal.

use crate::support::{
    devnet::KAS,
    gateway::{Gateway, ORIGIN},
};
use async_trait::async_trait;
use kas402::{
    chain::{Chain, kaspa::KaspaChain},
    client::{
        channel::{ChannelPayer, ChannelPolicy, Channels, Cost, Pauses, record::Channel},
        coins::CoinRules,
        error::{FetchError, Money, Unpaid},
        exchange::{Exchange, PaidRequest, Reply, SendError, Transport},
        journal::Journal,
        paid::{Edge, Fetched, PaidClient, Rail},
        policy::{Patience, SpendingPolicy},
        wallet::Wallet,
    },
    protocol::{
        amount::Amount,
        ids::{ChannelId, PaymentIdentifier, TxId},
        network::Network,
    },
    runtime::clock,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, RwLock},
    time::Duration,
};
use tokio::sync::watch;

/// Short, so that requests are left in the journal and resumed.
const PATIENCE: Patience = Patience { total: Duration::from_secs(6), attempt: Duration::from_secs(15), body_bytes: 1 << 20 };
const PAUSES: Pauses = Pauses { first: Duration::from_millis(20), last: Duration::from_millis(500), longest: Duration::from_secs(1) };

fn sompi(sompi: u64) -> Amount {
    Amount::from_sompi(sompi).unwrap()
}

/// The way to all gateways, each request by another one.
pub struct Doors {
    urls: RwLock<Vec<String>>,
    exchange: Exchange,
    dice: Mutex<StdRng>,
}

impl Doors {
    pub fn new(gateways: &[Gateway], seed: u64) -> Self {
        let urls = gateways.iter().map(Gateway::url).collect();
        Self { urls: RwLock::new(urls), exchange: Exchange::new(&PATIENCE), dice: Mutex::new(StdRng::seed_from_u64(seed)) }
    }

    /// A gateway listens elsewhere since its restart.
    pub fn moved(&self, gateway: usize, url: String) {
        self.urls.write().unwrap()[gateway] = url;
    }
}

#[async_trait]
impl Transport for Doors {
    async fn send(&self, request: &PaidRequest, payment: Option<&str>) -> Result<Reply, SendError> {
        let door = {
            let urls = self.urls.read().unwrap();
            urls[self.dice.lock().unwrap().gen_range(0..urls.len())].clone()
        };
        let url = request.url().replacen(ORIGIN, &door, 1);
        let request = PaidRequest::new(request.method.clone(), &url, request.headers.clone(), request.body.clone()).unwrap();
        self.exchange.send(&request, payment).await
    }
}

/// A request that was answered and charged to the channel.
#[derive(Clone, Debug)]
pub struct Charged {
    pub channel: ChannelId,
    pub identifier: PaymentIdentifier,
    pub amount: Amount,
}

pub struct Buyer {
    pub number: u8,
    pub journal: Arc<Journal>,
    pub charged: Vec<Charged>,
    /// Transactions of requests that were paid one by one.
    pub paid: Vec<TxId>,
    pub channels: Arc<Channels>,
    client: PaidClient,
    chain: Arc<KaspaChain>,
    doors: Arc<Doors>,
    folder: tempfile::TempDir,
    dice: StdRng,
}

impl Buyer {
    pub fn new(number: u8, seed: u64, chain: Arc<KaspaChain>, doors: Arc<Doors>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (journal, channels, client) = process(number, journal_of(&folder), &chain, &doors);
        let dice = StdRng::seed_from_u64(seed ^ u64::from(number));
        Self { number, journal, charged: Vec::new(), paid: Vec::new(), channels, client, chain, doors, folder, dice }
    }

    /// The process is gone, and a new one has what was on the disk.
    fn restart(&mut self) {
        (self.journal, self.channels, self.client) = process(self.number, journal_of(&self.folder), &self.chain, &self.doors);
    }

    /// Buys until it is told to stop, and until what it bought last is there.
    pub async fn live(mut self, sold: Arc<watch::Sender<u64>>, stop: watch::Receiver<bool>) -> Self {
        let mut request = 0;
        while !*stop.borrow() {
            request += 1;
            let kind = match self.dice.gen_range(0..10) {
                0 => "once",
                1 | 2 => "events/5",
                _ => "echo",
            };
            self.buy(&format!("/{kind}/{}/{request}", self.number)).await;
            sold.send_modify(|sold| *sold += 1);
        }
        self
    }

    async fn buy(&mut self, target: &str) {
        let request = PaidRequest::new(http::Method::GET, &format!("{ORIGIN}{target}"), http::HeaderMap::new(), "".into()).unwrap();
        loop {
            let mut chance = rand::rngs::OsRng;
            let mut edge = Edge { now: &clock::now, rng: &mut chance, watch: &mut |_| {} };
            match self.client.fetch(&request, false, &mut edge).await {
                Ok(Fetched::Charged { charge, .. }) => {
                    let Cost::Charged { amount, .. } = charge.cost else { panic!("{target}: {:?}", charge.cost) };
                    self.charged.push(Charged { channel: charge.channel, identifier: charge.identifier, amount });
                    return;
                }
                Ok(Fetched::Paid { payment, receipt, .. }) => {
                    assert!(receipt.is_some(), "{target}: {payment:?}");
                    self.paid.push(payment.txid);
                    return;
                }
                // No store, no node yet: nothing was offered.
                Ok(Fetched::Free(reply)) => assert_eq!(reply.status, 503, "{target}: {reply:?}"),
                // Change ripens for some blocks.
                Err(FetchError::BeforePaying(Unpaid::Unreachable(_) | Unpaid::Plan(_))) => {}
                Err(error) => match error.money() {
                    Money::Undecided(_) | Money::Promised(_) | Money::Settled(_) => {}
                    Money::Unspent | Money::Lost(_) => panic!("{target}: {error}"),
                },
            }
            if self.dice.gen_bool(0.3) {
                self.restart();
            }
            tokio::time::sleep(PAUSES.first).await; // why: HTTP pushes nothing, and whoever died is started again by others
        }
    }

    /// The channels of the journal, as far as the chain shows their claims.
    pub async fn followed(&self) -> Vec<Channel> {
        let mut followed = Vec::new();
        for channel in self.journal.channels().unwrap() {
            let mut chance = rand::rngs::OsRng;
            let mut edge = Edge { now: &clock::now, rng: &mut chance, watch: &mut |_| {} };
            let (channel, _) = self.channels.sync(&channel.id, &mut edge).await.unwrap();
            followed.push(channel);
        }
        followed
    }

    /// What lies under a script.
    pub async fn held(&self, address: &str) -> u64 {
        self.chain.utxos(address).await.unwrap().iter().map(|utxo| utxo.amount.sompi()).sum()
    }
}

fn journal_of(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("journal.sqlite")
}

fn process(number: u8, journal: PathBuf, chain: &Arc<KaspaChain>, doors: &Arc<Doors>) -> (Arc<Journal>, Arc<Channels>, PaidClient) {
    let wallet = Arc::new(Wallet::from_secret(Network::Simnet, &[number; 32]).unwrap());
    let journal = Arc::new(Journal::open(&journal).unwrap());
    let rules = CoinRules::of(Network::Simnet);
    let node: Arc<dyn Chain> = chain.clone();
    let channels = Channels::new(wallet.clone(), journal.clone(), Some(node.clone()), rules.clone(), PATIENCE);
    let policy = SpendingPolicy { max_fee: sompi(KAS / 10), ..SpendingPolicy::up_to(sompi(KAS), Network::Simnet) };
    let terms = ChannelPolicy { deposit: Some(sompi(20 * KAS)), max_locked: None, max_lock_daa: 10_000_000, only: None };
    let payer = ChannelPayer::new(channels.clone(), policy.clone(), terms).over(doors.clone(), PAUSES);
    let client = PaidClient::new(wallet, journal.clone(), Some(node), policy, rules, PATIENCE).over(doors.clone());
    (journal, channels, client.with_channels(payer, Rail::Either))
}
