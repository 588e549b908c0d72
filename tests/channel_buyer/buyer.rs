//! A buyer with coins on a simulated chain, and the books of both sides held against each other.
#![allow(dead_code)]

use super::{
    shop::Counter,
    till::{Till, sompi},
};
use kas402::{
    chain::{Chain, Utxo, sim::SimChain},
    client::{
        channel::{ChannelError, ChannelPayer, ChannelPolicy, Channels, Cost, Pauses, Want, record::Channel},
        coins::CoinRules,
        error::FetchError,
        exchange::{PaidRequest, Transport},
        journal::Journal,
        paid::{Edge, Fetched, PaidClient, Quote, Rail, Step},
        policy::{Budget, Patience, SpendingPolicy},
        wallet::Wallet,
    },
    protocol::{
        ids::{ChannelId, Outpoint, TxId},
        network::Network,
        time::UnixMillis,
    },
};
use rand::{SeedableRng, rngs::StdRng};
use std::{collections::HashMap, os::unix::fs::PermissionsExt, path::Path, sync::Arc, time::Duration};

pub const KAS: u64 = 100_000_000;
pub const DEPOSIT: u64 = 10 * KAS;
pub const TIMEOUT: u64 = 50_000;

/// What may vary between buyers.
#[derive(Clone)]
pub struct Setup {
    pub max: u64,
    pub deposit: Option<u64>,
    pub max_locked: Option<u64>,
    pub max_lock_daa: u64,
    pub total: Duration,
    pub node: bool,
    pub budget: Budget,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            max: KAS,
            deposit: Some(DEPOSIT),
            max_locked: None,
            max_lock_daa: 1_000_000,
            total: Duration::from_secs(10),
            node: true,
            budget: Budget::default(),
        }
    }
}

pub struct Buyer {
    pub payer: ChannelPayer,
    pub channels: Arc<Channels>,
    pub journal: Arc<Journal>,
    pub chain: Arc<SimChain>,
    pub folder: Arc<tempfile::TempDir>,
    pub counter: Counter,
    base: String,
}

/// A chain that accepts at once, with coins for the buyer.
pub fn chain() -> Arc<SimChain> {
    let chain = SimChain::new(Network::Simnet);
    chain.accept_at_once(true);
    for (amount, name) in [50 * KAS, 40 * KAS, 30 * KAS, 20 * KAS].into_iter().zip(0xc0..) {
        chain.fund(coin(name, amount));
    }
    chain
}

/// An output of the buyer's.
fn coin(name: u8, amount: u64) -> Utxo {
    Utxo {
        outpoint: Outpoint { txid: TxId([name; 32]), index: 0 },
        amount: sompi(amount),
        script_public_key: wallet().script(),
        daa_score: 1,
        is_coinbase: false,
        covenant: false,
    }
}

pub fn wallet() -> Wallet {
    Wallet::from_secret(Network::Simnet, &[7; 32]).unwrap()
}

impl Buyer {
    /// Without sockets.
    pub fn new(setup: Setup) -> Self {
        let chain = chain();
        let counter = Counter::new(Till::new(chain.clone(), TIMEOUT));
        Self::of(setup, chain, counter, Arc::new(tempfile::tempdir().unwrap()), "http://shop.test".into(), None)
    }

    /// Without sockets and without a file.
    pub fn light(setup: Setup) -> Self {
        let chain = chain();
        let counter = Counter::new(Till::new(chain.clone(), TIMEOUT));
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let journal = Arc::new(Journal::in_memory().unwrap());
        Self::with(journal, setup, chain, counter, folder, "http://shop.test".into(), None)
    }

    /// Over HTTP.
    pub async fn over_http(setup: Setup) -> Self {
        let chain = chain();
        let counter = Counter::new(Till::new(chain.clone(), TIMEOUT));
        let address = counter.listen().await;
        let exchange = Arc::new(kas402::client::exchange::Exchange::new(&patience(&setup)));
        Self::of(setup, chain, counter, Arc::new(tempfile::tempdir().unwrap()), format!("http://{address}"), Some(exchange))
    }

    fn of(
        setup: Setup,
        chain: Arc<SimChain>,
        counter: Counter,
        folder: Arc<tempfile::TempDir>,
        base: String,
        transport: Option<Arc<dyn Transport>>,
    ) -> Self {
        Self::with(Arc::new(open(folder.path())), setup, chain, counter, folder, base, transport)
    }

    fn with(
        journal: Arc<Journal>,
        setup: Setup,
        chain: Arc<SimChain>,
        counter: Counter,
        folder: Arc<tempfile::TempDir>,
        base: String,
        transport: Option<Arc<dyn Transport>>,
    ) -> Self {
        let node = setup.node.then(|| chain.clone() as Arc<dyn Chain>);
        let channels = Channels::new(Arc::new(wallet()), journal.clone(), node, CoinRules::of(Network::Simnet), patience(&setup));
        let policy = SpendingPolicy {
            max_amount: Some(sompi(setup.max)),
            max_fee: sompi(KAS / 10),
            network: Network::Simnet,
            recipients: None,
            other_origin: false,
            budget: setup.budget,
        };
        let terms = ChannelPolicy {
            deposit: setup.deposit.map(sompi),
            max_locked: setup.max_locked.map(sompi),
            max_lock_daa: setup.max_lock_daa,
            only: None,
        };
        let transport = transport.unwrap_or_else(|| Arc::new(counter.clone()));
        let pauses = Pauses { first: Duration::from_millis(1), last: Duration::from_millis(20), longest: Duration::from_millis(50) };
        let payer = ChannelPayer::new(channels.clone(), policy, terms).over(transport, pauses);
        Self { payer, channels, journal, chain, folder, counter, base }
    }

    /// The same wallet in a new process: only the file is left.
    pub fn restarted(&self, setup: Setup) -> Self {
        Self::of(setup, self.chain.clone(), self.counter.clone(), self.folder.clone(), self.base.clone(), None)
    }

    /// The journal as it is now, in a folder of its own: a backup.
    pub fn copied(&self) -> Arc<tempfile::TempDir> {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let copy = folder.path().join("journal.sqlite");
        let journal = rusqlite::Connection::open(self.folder.path().join("journal.sqlite")).unwrap();
        journal.execute("VACUUM INTO ?1", [copy.to_str().unwrap()]).unwrap();
        std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o600)).unwrap();
        folder
    }

    /// The same wallet in a new process, over a backup.
    pub fn restored(&self, folder: Arc<tempfile::TempDir>, setup: Setup) -> Self {
        Self::of(setup, self.chain.clone(), self.counter.clone(), folder, self.base.clone(), None)
    }

    /// Another client over the same journal.
    pub fn again(&self, setup: Setup) -> Self {
        let (journal, chain, counter, folder) = (self.journal.clone(), self.chain.clone(), self.counter.clone(), self.folder.clone());
        Self::with(journal, setup, chain, counter, folder, self.base.clone(), None)
    }

    pub fn request(&self, target: &str) -> PaidRequest {
        PaidRequest::new(http::Method::GET, &format!("{}{target}", self.base), http::HeaderMap::new(), "".into()).unwrap()
    }

    pub fn post(&self, target: &str, body: &str) -> PaidRequest {
        PaidRequest::new(http::Method::POST, &format!("{}{target}", self.base), http::HeaderMap::new(), body.to_owned().into()).unwrap()
    }

    pub async fn fetch(&self, target: &str) -> Result<Fetched, ChannelError> {
        self.ask(&self.request(target), Want::Pay, false).await
    }

    pub async fn ask(&self, request: &PaidRequest, want: Want, fresh: bool) -> Result<Fetched, ChannelError> {
        self.watched(request, want, fresh, &mut |_| {}).await
    }

    pub async fn watched(
        &self,
        request: &PaidRequest,
        want: Want,
        fresh: bool,
        watch: &mut (dyn FnMut(Step<'_>) + Send),
    ) -> Result<Fetched, ChannelError> {
        // Real randomness, printed nowhere: no outcome here depends on it.
        let mut rng = StdRng::from_entropy();
        let mut edge = Edge { now: &|| UnixMillis(1_000), rng: &mut rng, watch };
        self.payer.fetch(request, want, fresh, &mut edge).await
    }

    /// Pays and gives what it cost.
    pub async fn pay(&self, target: &str) -> u64 {
        cost(self.fetch(target).await)
    }

    pub async fn top_up(&self, target: &str, amount: u64) -> Result<Fetched, ChannelError> {
        self.ask(&self.request(target), Want::TopUp(sompi(amount)), false).await
    }

    pub async fn sync(&self, id: &ChannelId) -> Result<Channel, ChannelError> {
        let mut rng = StdRng::from_entropy();
        let mut edge = Edge { now: &|| UnixMillis(1_000), rng: &mut rng, watch: &mut |_| {} };
        self.channels.sync(id, &mut edge).await.map(|(channel, _)| channel)
    }

    pub async fn refund(&self, id: &ChannelId) -> Result<kas402::client::channel::refund::Refunded, ChannelError> {
        let mut rng = StdRng::from_entropy();
        let mut edge = Edge { now: &|| UnixMillis(1_000), rng: &mut rng, watch: &mut |_| {} };
        self.channels.refund(id, sompi(KAS / 10), &mut edge).await
    }

    /// The only channel.
    pub fn channel(&self) -> Channel {
        let all = self.journal.channels().unwrap();
        assert_eq!(all.len(), 1, "{all:?}");
        all.into_iter().next().unwrap()
    }

    pub fn id(&self) -> ChannelId {
        self.channel().id
    }

    pub fn receives(&self, amount: u64) {
        self.chain.fund(coin(0xd0, amount));
    }

    /// What the wallet's own address holds.
    pub async fn purse(&self) -> u64 {
        let utxos = self.chain.utxos(&wallet().address().to_string()).await.unwrap();
        utxos.iter().map(|utxo| utxo.amount.sompi()).sum()
    }

    /// Buyer, till and chain say the same, to the sompi, and every voucher was in order.
    pub async fn agrees(&self) {
        self.same_books().await;
        self.never_lower();
    }

    pub async fn same_books(&self) {
        let channel = self.channel();
        let account = channel.account;
        let (charged, claimed, signed, funding, outpoint) = self.counter.till.books(&channel.id).await;
        let mine = (account.charged.sompi(), account.claimed.sompi(), account.funding.sompi(), account.outpoint);
        assert_eq!(mine, (charged, claimed, funding, outpoint), "the books of both sides");
        assert!(account.signed_amount().sompi() >= signed, "a voucher the buyer does not know");
        let ledger: u64 = self.counter.till.ledger().await.iter().filter(|row| row.channel == channel.id).map(|row| row.charge).sum();
        assert_eq!(ledger, charged, "the ledger");
        let address = channel.script().address().to_string();
        let escrow = self.chain.utxos(&address).await.unwrap();
        let held: Vec<_> = escrow.iter().map(|utxo| (utxo.outpoint, utxo.amount.sompi())).collect();
        assert_eq!(held, [(outpoint, funding)], "the chain");
    }

    /// Whatever was sent: no voucher of an outpoint is lower than one before it.
    pub fn never_lower(&self) {
        let mut highest = HashMap::new();
        for promise in self.counter.sent() {
            let before = highest.entry((promise.channel, promise.outpoint)).or_insert(promise.voucher.amount);
            assert!(promise.voucher.amount >= *before || self.was_resent(&promise.header), "{promise:?} after {before}");
            *before = promise.voucher.amount.max(*before);
        }
    }

    /// A header may go again, byte for byte, whatever was signed since.
    fn was_resent(&self, header: &str) -> bool {
        self.counter.sent().iter().filter(|promise| promise.header == header).count() > 1
    }
}

/// The whole client over the same journal: both rails, and no room for a network fee.
pub struct Whole<'b>(PaidClient, &'b Buyer);

impl Buyer {
    pub fn paid_client(&self, rail: Rail) -> Whole<'_> {
        let setup = Setup { deposit: None, ..Setup::default() };
        let policy = SpendingPolicy {
            max_amount: Some(sompi(setup.max)),
            max_fee: sompi(0),
            network: Network::Simnet,
            recipients: None,
            other_origin: false,
            budget: setup.budget,
        };
        let (wallet, journal, rules) = (Arc::new(wallet()), self.journal.clone(), CoinRules::of(Network::Simnet));
        let client = PaidClient::new(wallet, journal, Some(self.chain.clone()), policy, rules, patience(&setup));
        let payer = self.restarted(setup).payer;
        Whole(client.over(Arc::new(self.counter.clone())).with_channels(payer, rail), self)
    }
}

impl Whole<'_> {
    pub async fn fetch(&self, target: &str) -> Result<Fetched, FetchError> {
        let mut rng = StdRng::from_entropy();
        let mut edge = Edge { now: &|| UnixMillis(1_000), rng: &mut rng, watch: &mut |_| {} };
        self.0.fetch(&self.1.request(target), false, &mut edge).await
    }

    pub async fn quote(&self, target: &str) -> Quote {
        self.0.quote(&self.1.request(target)).await.unwrap()
    }
}

fn patience(setup: &Setup) -> Patience {
    Patience { total: setup.total, attempt: Duration::from_millis(400), body_bytes: 1 << 20 }
}

pub fn open(folder: &Path) -> Journal {
    Journal::open(&folder.join("journal.sqlite")).unwrap()
}

/// What a charged answer cost.
pub fn cost(fetched: Result<Fetched, ChannelError>) -> u64 {
    match fetched {
        Ok(Fetched::Charged { reply, charge }) => {
            assert!(reply.body.starts_with(b"the goods") || reply.body.starts_with(b"data: goods"), "{reply:?}");
            match charge.cost {
                Cost::Charged { amount, .. } => amount.sompi(),
                other => panic!("{other:?}"),
            }
        }
        other => panic!("not charged: {other:?}"),
    }
}
