//! Milliseconds that the gateway adds to a payment: from the moment the node itself says that the
//! transaction is accepted to the response at the client.
//!
//! This process has its own connection to the node and notes when the notification that names the
//! transaction arrives. The payments go one at a time through the whole gateway: store, submit,
//! finality `accepted`, durable charge, upstream, response.

use crate::{
    Fallible,
    options::Options,
    servers::{Gateway, PRICE_SOMPI},
    support::devnet::{self, Devnet},
};
use kas402::{
    client::{
        challenge::Challenge,
        coins::{Coin, CoinRules, Spend, plan},
        payload::{self, Payment},
        wallet::Wallet,
    },
    protocol::{
        amount::Amount,
        ids::{Outpoint, TxId},
        network::Network,
    },
    wire::{
        fingerprint,
        headers::{PAYMENT_REQUIRED, PAYMENT_SIGNATURE},
    },
};
use kaspa_wrpc_client::{
    client::{ConnectOptions, ConnectStrategy},
    prelude::{ChannelConnection, ChannelType, KaspaRpcClient, Notification, RpcApi as _, Scope, VirtualChainChangedScope, WrpcEncoding},
};
use rand::rngs::OsRng;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Notify;

const BUYER_SEED: u8 = 7;
/// Each payment spends one coin of this size, so that none waits for another's change.
const COIN_SOMPI: u64 = 3 * PRICE_SOMPI;
/// Outputs per funding transaction.
const COINS_AT_ONCE: usize = 20;
const PATIENCE: Duration = Duration::from_secs(30);

/// One payment, milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Paid {
    /// From the node's notification to the whole response; negative when the response was faster.
    pub added: f64,
    /// From sending the paid request to the node's notification: the network's time.
    pub accepted_after: f64,
    /// From sending the paid request to the whole response.
    pub total: f64,
}

/// All payments, and where the gateway itself says that the added time went.
pub struct Exact {
    pub paid: Vec<Paid>,
    /// Mean, from the acceptance known in the gateway to the request on its way to the upstream: the
    /// payer asked from the node, the charge and the forward made durable.
    pub release_ms: f64,
    /// Mean, the upstream's answer and the delivery made durable.
    pub upstream_ms: f64,
}

pub async fn measure(options: &Options, node: &Devnet, gateway: &Gateway) -> Fallible<Exact> {
    let accepted = Acceptances::listen(&node.wrpc[0]).await?;
    let buyer = Wallet::from_secret(Network::Simnet, &[BUYER_SEED; 32])?;
    let mut coins = Vec::new();
    while coins.len() < options.payments {
        let count = COINS_AT_ONCE.min(options.payments - coins.len());
        coins.extend(node.fund(&devnet::Wallet::new(BUYER_SEED), COIN_SOMPI, u64::try_from(count)?).await);
    }
    let http = reqwest::Client::builder().timeout(PATIENCE).build()?;
    let url = format!("http://{}/priced", gateway.address);
    let mut paid = Vec::with_capacity(coins.len());
    for coin in coins {
        let unpaid = http.get(&url).send().await?;
        let challenge = Challenge::read(unpaid.headers().get(PAYMENT_REQUIRED).ok_or("a 402 carries an offer")?.as_bytes())?;
        // Read to its end, so that the paid request takes the same connection.
        unpaid.bytes().await?;
        let (txid, header) = payment(&buyer, &coin, &challenge)?;
        let sent = Instant::now();
        let response = http.get(&url).header(PAYMENT_SIGNATURE, header).send().await?;
        let status = response.status();
        let body = response.bytes().await?;
        let answered = Instant::now();
        if status != 200 {
            return Err(gateway.process.failed(&format!("answers {status} to a payment: {}", String::from_utf8_lossy(&body))));
        }
        let noticed = tokio::time::timeout(PATIENCE, accepted.of(txid)).await.map_err(|_| "the node never named a paid transaction")?;
        paid.push(Paid { added: millis(noticed, answered), accepted_after: millis(sent, noticed), total: millis(sent, answered) });
    }
    let mean = |(sum, count): (f64, f64)| sum * 1e3 / count;
    let release_ms = mean(gateway.histogram("kas402_release_seconds").await?);
    let upstream_ms = mean(gateway.histogram("kas402_upstream_seconds").await?);
    Ok(Exact { paid, release_ms, upstream_ms })
}

/// From one moment to another, negative when the other was first.
fn millis(from: Instant, to: Instant) -> f64 {
    let forward = to.saturating_duration_since(from).as_secs_f64();
    let backward = from.saturating_duration_since(to).as_secs_f64();
    (forward - backward) * 1e3
}

fn payment(buyer: &Wallet, coin: &devnet::Coin, challenge: &Challenge) -> Fallible<(TxId, String)> {
    let offer = challenge.offers.first().ok_or("an offer")?;
    let coin = Coin {
        outpoint: Outpoint { txid: coin.outpoint.transaction_id.into(), index: coin.outpoint.index },
        amount: Amount::from_sompi(coin.entry.amount)?,
        daa_score: 0,
        is_coinbase: false,
    };
    let (pay_to, own) = (offer.script(), buyer.script());
    let spend = Spend { amount: offer.amount, pay_to: &pay_to, own: &own, conflict_with: &[] };
    let signed = plan(&[coin], &spend, &CoinRules::of(Network::Simnet))?.sign(buyer, &mut OsRng);
    let named = challenge.resource_url().ok_or("an offer names its resource")?;
    let request_hash = fingerprint::request_hash("GET", named, &bytes::Bytes::new(), &offer.accepted);
    let payment = Payment { challenge, offer, signed: &signed, request_hash, identifier: None };
    Ok((signed.txid, payload::header_value(&payment, buyer, &mut OsRng)))
}

/// When the node said that a transaction is accepted, as a second client of it hears.
struct Acceptances {
    seen: Arc<Mutex<HashMap<TxId, Instant>>>,
    more: Arc<Notify>,
    /// Lives as long as the subscription.
    _client: Arc<KaspaRpcClient>,
}

impl Acceptances {
    async fn listen(url: &str) -> Fallible<Self> {
        let client = Arc::new(KaspaRpcClient::new(WrpcEncoding::Borsh, Some(url), None, Some(Network::Simnet.id()), None)?);
        let connect = ConnectOptions {
            block_async_connect: true,
            strategy: ConnectStrategy::Fallback,
            url: Some(url.to_owned()),
            connect_timeout: Some(PATIENCE),
            retry_interval: None,
        };
        client.connect(Some(connect)).await?;
        let (sender, events) = async_channel::unbounded();
        let listener = client.register_new_listener(ChannelConnection::new("bench", sender, ChannelType::Closable));
        client.start_notify(listener, Scope::VirtualChainChanged(VirtualChainChangedScope::new(true))).await?;
        let (seen, more) = (Arc::new(Mutex::new(HashMap::new())), Arc::new(Notify::new()));
        tokio::spawn({
            let (seen, more) = (seen.clone(), more.clone());
            async move {
                while let Ok(event) = events.recv().await {
                    let now = Instant::now();
                    let Notification::VirtualChainChanged(change) = event else { continue };
                    {
                        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                        for block in change.accepted_transaction_ids.iter() {
                            for id in &block.accepted_transaction_ids {
                                // The first time counts: a reorg may name it again.
                                seen.entry((*id).into()).or_insert(now);
                            }
                        }
                    }
                    more.notify_one();
                }
            }
        });
        Ok(Self { seen, more, _client: client })
    }

    async fn of(&self, txid: TxId) -> Instant {
        loop {
            if let Some(moment) = self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(&txid) {
                return *moment;
            }
            self.more.notified().await;
        }
    }
}
