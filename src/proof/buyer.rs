//! The buyer of the proof: the bundled client, and what went over its wire.

use crate::{
    chain::Chain,
    client::{
        channel::{ChannelPayer, ChannelPolicy, Channels, Charge, Cost, Pauses, Progress, Want},
        coins::CoinRules,
        exchange::{Exchange, PaidRequest, Reply, SendError, Transport},
        journal::{Entry, Journal},
        paid::{Edge, Fetched, PaidClient, Rail, Step},
        policy::{Patience, SpendingPolicy},
        receipt::Receipt,
        wallet::Wallet,
    },
    protocol::{amount::Amount, time::UnixMillis},
    wire::headers,
};
use async_trait::async_trait;
use rand::rngs::OsRng;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Longest time for one purchase: finality and confirmations are among it.
const PATIENCE: Duration = Duration::from_secs(300);

/// One answer to a request that carried a payment.
#[derive(Clone, Debug)]
pub struct Answered {
    pub status: u16,
    /// The precise code of a refusal.
    pub reason: Option<String>,
}

/// The bundled transport, with a memory.
struct Wire {
    exchange: Exchange,
    answered: Mutex<Vec<Answered>>,
}

#[async_trait]
impl Transport for Wire {
    async fn send(&self, request: &PaidRequest, payment: Option<&str>) -> Result<Reply, SendError> {
        let reply = self.exchange.send(request, payment).await?;
        if payment.is_some() {
            let receipt = reply.headers.get(headers::PAYMENT_RESPONSE).and_then(|value| Receipt::read(value.as_bytes()).ok());
            let answered = Answered { status: reply.status.as_u16(), reason: receipt.and_then(|receipt| receipt.reason) };
            self.answered.lock().unwrap_or_else(PoisonError::into_inner).push(answered);
        }
        Ok(reply)
    }
}

/// A request that was charged to a channel.
pub struct Purchase {
    pub charge: Charge,
    pub amount: Amount,
    /// The commitment of its receipt.
    pub commitment: String,
    /// What the network took of a deposit.
    pub deposit_fee: Option<Amount>,
    /// Every answer, the last one served.
    pub answered: Vec<Answered>,
}

pub struct Buyer {
    client: PaidClient,
    pub channels: Arc<Channels>,
    wire: Arc<Wire>,
    now: fn() -> UnixMillis,
    url: String,
}

impl Buyer {
    pub fn new(
        wallet: Arc<Wallet>,
        journal: Arc<Journal>,
        chain: Arc<dyn Chain>,
        policy: SpendingPolicy,
        now: fn() -> UnixMillis,
        url: String,
    ) -> Self {
        let patience = Patience { total: PATIENCE, attempt: Duration::from_secs(60), ..Patience::default() };
        let rules = CoinRules::of(wallet.network());
        let channels = Channels::new(wallet.clone(), journal.clone(), Some(chain.clone()), rules.clone(), patience);
        let wire = Arc::new(Wire { exchange: Exchange::new(&patience), answered: Mutex::default() });
        let payer = ChannelPayer::new(channels.clone(), policy.clone(), ChannelPolicy::default()).over(wire.clone(), Pauses::default());
        let client = PaidClient::new(wallet, journal, Some(chain), policy, rules, patience);
        let client = client.over(wire.clone()).with_channels(payer, Rail::Exact);
        Self { client, channels, wire, now, url }
    }

    pub fn request(&self, path: &str) -> Result<PaidRequest, String> {
        PaidRequest::get(&format!("{}{path}", self.url)).map_err(|error| error.to_string())
    }

    /// By a transaction.
    pub async fn pay(&self, path: &str) -> Result<(Box<Entry>, Box<Receipt>), String> {
        let mut edge = Edge { now: &self.now, rng: &mut OsRng, watch: &mut |_| {} };
        match self.client.fetch(&self.request(path)?, true, &mut edge).await {
            Ok(Fetched::Paid { reply, payment, receipt: Some(receipt) }) if reply.status.is_success() => Ok((payment, receipt)),
            Ok(other) => Err(format!("not paid and delivered: {other:?}")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Sends this payment for that path, once.
    pub async fn present(&self, path: &str, header: &str) -> Result<(Answered, Reply), String> {
        self.forget();
        let reply = self.wire.send(&self.request(path)?, Some(header)).await.map_err(|error| error.to_string())?;
        let answered = self.answered().pop().ok_or("the answer was not noted")?;
        Ok((answered, reply))
    }

    /// From a channel.
    pub async fn charge(&self, path: &str, want: Want) -> Result<Purchase, String> {
        self.forget();
        let mut deposit_fee = None;
        let mut watch = |step: Step<'_>| {
            if let Step::Channel(Progress::Opening { fee, .. }) = step {
                deposit_fee = Some(fee);
            }
        };
        let mut edge = Edge { now: &self.now, rng: &mut OsRng, watch: &mut watch };
        let payer = self.client.channel_payer().ok_or("the client pays from no channel")?;
        let fetched = payer.fetch(&self.request(path)?, want, true, &mut edge).await.map_err(|error| error.to_string())?;
        let Fetched::Charged { charge, .. } = fetched else { return Err(format!("not charged: {fetched:?}")) };
        match charge.cost.clone() {
            Cost::Charged { amount, receipt } => {
                Ok(Purchase { charge: *charge, amount, commitment: receipt.commitment.to_string(), deposit_fee, answered: self.answered() })
            }
            other => Err(format!("charged, but: {other:?}")),
        }
    }

    /// The time and chance of a call that sends no request.
    pub async fn aside<T, E: std::fmt::Display>(&self, call: impl AsyncFnOnce(&mut Edge<'_>) -> Result<T, E>) -> Result<T, E> {
        call(&mut Edge { now: &self.now, rng: &mut OsRng, watch: &mut |_| {} }).await
    }

    fn answered(&self) -> Vec<Answered> {
        self.wire.answered.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn forget(&self) {
        self.wire.answered.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
