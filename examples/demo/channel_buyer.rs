//! The buyer of channels: the bundled payer with the demo's wallet and journal, and a clock on its wire.

use crate::{
    buyer::{Buyer, MAX_FEE, PART, amount, policy},
    node::Node,
    parts::Failure,
    shop::CEILING,
};
use async_trait::async_trait;
use http::StatusCode;
use kas402::{
    chain::Chain,
    client::{
        channel::{ChannelError, ChannelPayer, ChannelPolicy, Channels, Charge, Cost, Pauses, Progress, Standing, Want, refund::Refunded},
        coins::CoinRules,
        exchange::{Exchange, PaidRequest, Reply, SendError, Transport},
        paid::{Edge, Fetched, Step},
        policy::Patience,
    },
    protocol::{amount::Amount, ids::ChannelId, refusal::Code},
    runtime::clock,
};
use rand::rngs::OsRng;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

pub struct ChannelBuyer {
    payer: ChannelPayer,
    wire: Arc<Wire>,
    chain: Arc<dyn Chain>,
}

/// A request that was charged to the channel.
pub struct Purchase {
    pub reply: Reply,
    pub charge: Charge,
    /// By the verified receipt.
    pub amount: Amount,
    pub steps: Steps,
    /// The exchanges it took, the one that was served last.
    pub sent: Vec<Sent>,
    pub began: Instant,
    pub ended: Instant,
}

/// What the payer told on the way.
#[derive(Default)]
pub struct Steps {
    pub offered: Option<Instant>,
    pub signed: Option<Instant>,
    /// The network fee of a deposit.
    pub opening: Option<Amount>,
    /// What a top-up adds.
    pub adding: Option<Amount>,
    /// A coin that was made for a top-up, and what the network took for it.
    pub coin: Option<(Amount, Amount)>,
    /// What the server said, and what the chain shows.
    pub corrected: Option<Code>,
    pub moved: Option<String>,
}

/// One exchange.
pub struct Sent {
    pub paid: bool,
    pub status: Option<StatusCode>,
    pub took: Duration,
}

/// The bundled transport, timed.
struct Wire {
    exchange: Exchange,
    sent: Mutex<Vec<Sent>>,
}

#[async_trait]
impl Transport for Wire {
    async fn send(&self, request: &PaidRequest, payment: Option<&str>) -> Result<Reply, SendError> {
        let began = Instant::now();
        let reply = self.exchange.send(request, payment).await;
        let status = reply.as_ref().ok().map(|reply| reply.status);
        self.log().push(Sent { paid: payment.is_some(), status, took: began.elapsed() });
        reply
    }
}

impl Wire {
    fn log(&self) -> std::sync::MutexGuard<'_, Vec<Sent>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ChannelBuyer {
    /// Locks up `most`, and no more.
    pub fn new(buyer: &Buyer, node: &Node, most: Amount) -> Result<Self, Failure> {
        let patience = Patience::default();
        let rules = CoinRules::of(buyer.wallet.network());
        let channels = Channels::new(buyer.wallet.clone(), buyer.journal.clone(), Some(node.chain.clone()), rules, patience);
        let terms = ChannelPolicy { max_locked: Some(most), ..ChannelPolicy::default() };
        let wire = Arc::new(Wire { exchange: Exchange::new(&patience), sent: Mutex::default() });
        let payer = ChannelPayer::new(channels, policy(&buyer.wallet, CEILING)?, terms).over(wire.clone(), Pauses::default());
        Ok(Self { payer, wire, chain: node.chain.clone() })
    }

    /// Fetches and pays from the channel; every call is another purchase.
    pub async fn buy(&self, request: &PaidRequest, want: Want) -> Result<Purchase, Failure> {
        self.wire.log().clear();
        let began = Instant::now();
        let mut steps = Steps::default();
        let mut watch = |step: Step<'_>| steps.note(&step);
        let mut edge = Edge { now: &clock::now, rng: &mut OsRng, watch: &mut watch };
        let fetched = self.payer.fetch(request, want, true, &mut edge).await.map_err(failed)?;
        let ended = Instant::now();
        let (reply, charge) = match fetched {
            Fetched::Charged { reply, charge } => (reply, *charge),
            Fetched::Paid { .. } => return Err(Failure::new(PART, "this was to be paid from a channel")),
            Fetched::Free(reply) => return Err(Failure::new(PART, format!("the gateway asked for no payment: {}", reply.status))),
        };
        let amount = match &charge.cost {
            Cost::Charged { amount, .. } => *amount,
            Cost::Nothing => return Err(Failure::new(PART, "the gateway charged nothing for its answer")),
            Cost::Unknown => return Err(Failure::new(PART, "the gateway sent no receipt")),
            Cost::Disputed(lie) => return Err(Failure::new(PART, format!("the gateway's receipt is wrong: {lie}"))),
        };
        let sent = std::mem::take(&mut *self.wire.log());
        Ok(Purchase { reply, charge, amount, steps, sent, began, ended })
    }

    /// Takes back what is left. `Ok(Err(_))`: not yet.
    pub async fn refund(&self, id: &ChannelId) -> Result<Result<Refunded, TooEarly>, Failure> {
        let mut edge = Edge { now: &clock::now, rng: &mut OsRng, watch: &mut |_| {} };
        match self.payer.channels().refund(id, amount(MAX_FEE)?, &mut edge).await {
            Ok(refunded) => Ok(Ok(refunded)),
            Err(ChannelError::NotYet { timeout_daa, left_daa, .. }) => Ok(Err(TooEarly { timeout_daa, left_daa })),
            Err(error) => Err(failed(error)),
        }
    }

    /// Keeps an eye on the escrow until the buyer has followed it: a spend is then seen when it comes, and need not be searched
    /// for afterwards.
    pub fn watch(&self, id: &ChannelId) -> Result<(), Failure> {
        let channel = self.standing(id)?.channel;
        let (outpoint, script) = (channel.account.outpoint, channel.script());
        drop(self.chain.watch_outpoint(outpoint, script.script_public_key(), Some(channel.known_daa)));
        Ok(())
    }

    /// Follows the channel along the chain, without a request.
    pub async fn look(&self, id: &ChannelId) -> Result<(), Failure> {
        let mut edge = Edge { now: &clock::now, rng: &mut OsRng, watch: &mut |_| {} };
        self.payer.channels().sync(id, &mut edge).await.map(drop).map_err(failed)
    }

    /// The channel as the buyer's own journal has it.
    pub fn standing(&self, id: &ChannelId) -> Result<Standing, Failure> {
        let channels = self.payer.channels();
        channels.get(id).and_then(|channel| channels.standing(channel)).map_err(failed)
    }
}

/// The refund is for later.
pub struct TooEarly {
    pub timeout_daa: u64,
    pub left_daa: u64,
}

fn failed(error: ChannelError) -> Failure {
    Failure::new(PART, error)
}

impl Steps {
    fn note(&mut self, step: &Step<'_>) {
        let Step::Channel(progress) = step else { return };
        match progress {
            Progress::Offered(_) => self.offered = Some(Instant::now()),
            Progress::Signed(_) => self.signed = Some(Instant::now()),
            Progress::Opening { fee, .. } => self.opening = Some(*fee),
            Progress::ToppingUp { added, .. } => self.adding = Some(*added),
            Progress::MakingCoin { amount, fee, .. } => self.coin = Some((*amount, *fee)),
            Progress::Corrected { code, .. } => self.corrected = Some(*code),
            Progress::Moved { words, .. } => self.moved = Some((*words).to_owned()),
            _ => {}
        }
    }
}
