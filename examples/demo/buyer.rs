//! The buyer of the demo: the bundled client with a wallet and a journal, and a way to send what it would not.

use crate::{node::Node, parts::Failure};
use http::{HeaderMap, Method};
use kas402::{
    client::{
        coins::CoinRules,
        exchange::{Exchange, PaidRequest, Reply, Transport},
        journal::{Entry, Journal},
        paid::{Edge, Fetched, PaidClient, Step},
        policy::{Budget, Patience, SpendingPolicy},
        receipt::Receipt,
        wallet::Wallet,
    },
    protocol::{amount::Amount, network::Network},
    runtime::clock,
};
use rand::rngs::OsRng;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

pub const PART: &str = "buyer";
/// What one request may cost.
pub const MAX: &str = "0.5 KAS";
/// What the network may take of one transaction.
pub const MAX_FEE: &str = "0.01 KAS";

pub struct Buyer {
    pub wallet: Arc<Wallet>,
    pub file: PathBuf,
    pub journal: Arc<Journal>,
    client: PaidClient,
    exchange: Exchange,
}

/// A request that was paid for.
pub struct Bought {
    pub reply: Reply,
    pub payment: Entry,
    pub receipt: Receipt,
    /// When the request began, the offer came, the payment was durable, and the answer was here.
    pub began: Instant,
    pub offered: Instant,
    pub recorded: Instant,
    pub ended: Instant,
}

/// Makes a wallet in its own file.
pub fn new_wallet(file: &Path) -> Result<Wallet, Failure> {
    let wallet = Wallet::generate(Network::Simnet, &mut OsRng);
    wallet.create(file).map_err(|error| Failure::new(PART, error))?;
    Ok(wallet)
}

pub fn get(url: &str) -> Result<PaidRequest, Failure> {
    PaidRequest::new(Method::GET, url, HeaderMap::new(), bytes::Bytes::new()).map_err(|error| Failure::new(PART, error))
}

/// At most `max` for a request, to whoever the offer names.
pub fn policy(wallet: &Wallet, max: &str) -> Result<SpendingPolicy, Failure> {
    Ok(SpendingPolicy {
        max_amount: Some(amount(max)?),
        max_fee: amount(MAX_FEE)?,
        network: wallet.network(),
        recipients: None,
        other_origin: false,
        budget: Budget::default(),
    })
}

pub fn amount(text: &str) -> Result<Amount, Failure> {
    Amount::parse_price(text).map_err(|error| Failure::new(PART, error))
}

impl Buyer {
    /// The journal lies where `kas402 pay` looks for it: both are one buyer.
    pub fn new(wallet: Wallet, file: &Path, node: &Node) -> Result<Self, Failure> {
        let wallet = Arc::new(wallet);
        let journal = Arc::new(Journal::open(&file.with_extension("payments.sqlite")).map_err(|error| Failure::new(PART, error))?);
        let policy = policy(&wallet, MAX)?;
        let (rules, patience) = (CoinRules::of(wallet.network()), Patience::default());
        let client = PaidClient::new(wallet.clone(), journal.clone(), Some(node.chain.clone()), policy, rules, patience);
        Ok(Self { wallet, file: file.to_owned(), journal, client, exchange: Exchange::new(&patience) })
    }

    /// One request as it is, with or without a payment header, and how long it took.
    pub async fn send(&self, request: &PaidRequest, payment: Option<&str>) -> Result<(Reply, Duration), Failure> {
        let began = Instant::now();
        let reply = self.exchange.send(request, payment).await.map_err(|error| Failure::new("gateway", error))?;
        Ok((reply, began.elapsed()))
    }

    /// Fetches and pays, as `kas402 pay` does.
    pub async fn buy(&self, request: &PaidRequest) -> Result<Bought, Failure> {
        let began = Instant::now();
        let (mut offered, mut recorded) = (began, began);
        let mut watch = |step: Step<'_>| match step {
            Step::Offered(_) => offered = Instant::now(),
            Step::Recorded(_) => recorded = Instant::now(),
            _ => {}
        };
        let mut edge = Edge { now: &clock::now, rng: &mut OsRng, watch: &mut watch };
        let fetched = self.client.fetch(request, false, &mut edge).await.map_err(|error| Failure::new(PART, error))?;
        let ended = Instant::now();
        match fetched {
            Fetched::Paid { reply, payment, receipt: Some(receipt) } => {
                Ok(Bought { reply, payment: *payment, receipt: *receipt, began, offered, recorded, ended })
            }
            Fetched::Paid { .. } => Err(Failure::new(PART, "the gateway sent no receipt")),
            Fetched::Charged { .. } => Err(Failure::new(PART, "this was to be paid by a transaction")),
            Fetched::Free(reply) => Err(Failure::new(PART, format!("the gateway asked for no payment: {}", reply.status))),
        }
    }
}
