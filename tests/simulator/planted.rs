//! Bugs that a store or a chain could have, planted on purpose: the ledger has to find each of them.

use crate::world::World;
use async_trait::async_trait;
use kas402::{
    protocol::{
        ids::{ChannelId, PaymentIdentifier, StoreId, TxId, XOnlyKey},
        time::UnixMillis,
    },
    store::{channels::*, memory::MemoryStore, *},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, Weak},
    time::Duration,
};
use tokio::time::sleep;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Planted {
    /// A payment that is being served is given to the next who asks.
    DoubleRelease,
    /// Renewals of a hold are answered and forgotten.
    LostHold,
    /// The charge is acknowledged before it is durable, and a crash loses it.
    CommitBeforeDurable,
    /// The same for charges to channels.
    ChargeBeforeDurable,
    /// The step of a holder whose hold another took over is done all the same.
    NoFencing,
    /// A claim reads first and writes later.
    CheckThenSet,
    /// An offer that is over is refused before it is asked whether the payment is known.
    ExpiryTooEarly,
    /// A claim that the chain accepted sets K to C.
    ClaimedIsCharged,
    /// An unknown outcome of a submit is taken for a rejection, which frees the claim.
    FreedOnUnknown,
    /// Nothing is sent again after a node forgot it.
    NoRebroadcast,
    /// A payment is known by the id that its presenter wrote into the transaction.
    TrustedId,
    /// An outpoint may back a second channel.
    SecondChannel,
    /// The stored response goes to whoever knows the transaction.
    ReplayToStranger,
    /// A transaction that waits in a mempool is called accepted.
    UnpaidIsPaid,
    /// A charge that was made before is not found again: the same request is charged anew.
    ForgottenIdentifier,
    /// A lease of a channel is given although another has it.
    SharedLease,
    /// What a dead gateway's stream had reserved is dropped, not posted.
    DroppedStream,
    /// Nodes do not tell what a reorganisation took: a deposit, a claim.
    ReorgUnseen,
}

pub const ALL: [Planted; 18] = [
    Planted::DoubleRelease,
    Planted::LostHold,
    Planted::CommitBeforeDurable,
    Planted::ChargeBeforeDurable,
    Planted::NoFencing,
    Planted::CheckThenSet,
    Planted::ExpiryTooEarly,
    Planted::ClaimedIsCharged,
    Planted::FreedOnUnknown,
    Planted::NoRebroadcast,
    Planted::TrustedId,
    Planted::SecondChannel,
    Planted::ReplayToStranger,
    Planted::UnpaidIsPaid,
    Planted::ForgottenIdentifier,
    Planted::SharedLease,
    Planted::DroppedStream,
    Planted::ReorgUnseen,
];

/// Later than any hold.
const FAR: u64 = 3_600_000;

/// A store with one bug.
pub struct Buggy {
    inner: Arc<dyn Store>,
    bug: Planted,
    world: Weak<World>,
    state: Mutex<State>,
    /// Where what must not be is kept.
    shadow: MemoryStore,
}

#[derive(Default)]
struct State {
    claims: BTreeMap<TxId, Claim>,
    /// Acknowledged and not done.
    waiting: BTreeMap<TxId, Vec<Fact>>,
    shadowed: BTreeSet<ChannelId>,
    /// Held by two at once.
    shared: BTreeSet<TxId>,
    /// By how much K is wrong.
    excess: BTreeMap<ChannelId, u64>,
    ids: BTreeMap<TxId, TxId>,
}

impl Buggy {
    pub fn new(inner: Arc<dyn Store>, bug: Planted, world: Weak<World>) -> Self {
        Self { shadow: MemoryStore::new(inner.id()), inner, bug, world, state: Mutex::default() }
    }

    fn world(&self) -> Arc<World> {
        self.world.upgrade().expect("a run outlives its store")
    }

    /// Takes the payment away from whoever holds it.
    async fn seize(&self, claim: &Claim, now: UnixMillis) -> Result<ClaimOutcome, StoreError> {
        self.inner.claim(&Claim { accepted_until: now.plus_millis(2 * FAR), ..claim.clone() }, now.plus_millis(FAR)).await
    }

    async fn force(&self, txid: &TxId, fact: Fact, now: UnixMillis) -> Result<Advanced, StoreError> {
        let claim = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner).claims.get(txid).cloned();
        let Some(claim) = claim else { return Ok(Advanced::Stale) };
        match self.seize(&claim, now).await? {
            ClaimOutcome::Fresh(held) | ClaimOutcome::Resumed(held, _) | ClaimOutcome::Redeliver(held, _) => {
                self.inner.advance(&held, fact, now).await
            }
            _ => Ok(Advanced::Done),
        }
    }

    fn dressed(&self, record: Arc<ChannelRecord>) -> Arc<ChannelRecord> {
        match self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner).excess.get(&record.id) {
            Some(excess) => {
                let mut record = (*record).clone();
                let claimed = record.parts.claimed.sompi() + excess;
                record.parts.claimed = crate::shop::sompi(claimed.min(record.parts.charged.sompi()));
                Arc::new(record)
            }
            None => record,
        }
    }

    fn of_channel(&self, id: &ChannelId) -> &dyn Store {
        if self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner).shadowed.contains(id) { &self.shadow } else { &*self.inner }
    }
}

#[async_trait]
impl Store for Buggy {
    fn id(&self) -> StoreId {
        self.inner.id()
    }

    async fn claim(&self, claim: &Claim, now: UnixMillis) -> Result<ClaimOutcome, StoreError> {
        let mut claim = claim.clone();
        if self.bug == Planted::TrustedId
            && let Some(id) = self.world().ledger.written_id(&claim.key.txid)
        {
            self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner).ids.insert(id, claim.key.txid);
            claim.key.txid = id;
        }
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner).claims.insert(claim.key.txid, claim.clone());
        match self.bug {
            Planted::CheckThenSet => {
                let known = self.inner.payment(&claim.key).await?;
                sleep(Duration::from_millis(20)).await; // why: time passes in the simulation, not here
                match self.inner.claim(&claim, now).await? {
                    ClaimOutcome::InFlight { .. } if known.is_none() => match self.seize(&claim, now).await? {
                        ClaimOutcome::Resumed(held, _) => {
                            // Both drew the same fence.
                            self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner).shared.insert(claim.key.txid);
                            Ok(ClaimOutcome::Fresh(held))
                        }
                        other => Ok(other),
                    },
                    other => Ok(other),
                }
            }
            Planted::ExpiryTooEarly if now > claim.accepted_until && !claim.late => Ok(ClaimOutcome::Expired),
            bug => match self.inner.claim(&claim, now).await? {
                ClaimOutcome::InFlight { .. } if bug == Planted::DoubleRelease => self.seize(&claim, now).await,
                ClaimOutcome::Delivered(mut stored) if bug == Planted::ReplayToStranger => {
                    stored.record.request_hash = claim.request_hash;
                    stored.record.submission = Submission::Own;
                    Ok(ClaimOutcome::Delivered(stored))
                }
                other => Ok(other),
            },
        }
    }

    async fn advance(&self, hold: &Held, fact: Fact, now: UnixMillis) -> Result<Advanced, StoreError> {
        let txid = hold.key().txid;
        match self.bug {
            Planted::LostHold if matches!(fact, Fact::Renewed { .. }) => Ok(Advanced::Done),
            Planted::CheckThenSet if self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner).shared.contains(&txid) => {
                match self.inner.advance(hold, fact.clone(), now).await? {
                    Advanced::Stale => self.force(&txid, fact, now).await,
                    done => Ok(done),
                }
            }
            Planted::NoFencing => match self.inner.advance(hold, fact.clone(), now).await? {
                Advanced::Stale => self.force(&txid, fact, now).await,
                done => Ok(done),
            },
            Planted::CommitBeforeDurable => {
                let first = {
                    let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    match state.waiting.get_mut(&txid) {
                        Some(waiting) => {
                            waiting.push(fact);
                            return Ok(Advanced::Done);
                        }
                        None if matches!(fact, Fact::Settled { .. }) => {
                            state.waiting.insert(txid, vec![fact.clone()]);
                            true
                        }
                        None => false,
                    }
                };
                if !first {
                    return match self.inner.advance(hold, fact.clone(), now).await? {
                        Advanced::Stale => self.force(&txid, fact, now).await,
                        done => Ok(done),
                    };
                }
                let world = self.world();
                let deaths = world.ledger.deaths();
                tokio::spawn(async move {
                    sleep(Duration::from_secs(2)).await; // why: time passes in the simulation, not here
                    let lost = world.ledger.deaths() != deaths;
                    if let Some(buggy) = &world.buggy {
                        buggy.write_late(&txid, lost, world.now()).await;
                    }
                });
                Ok(Advanced::Done)
            }
            _ => self.inner.advance(hold, fact, now).await,
        }
    }

    async fn observe(&self, key: &PaymentKey, fact: ChainFact, now: UnixMillis) -> Result<Observed, StoreError> {
        self.inner.observe(key, fact, now).await
    }

    async fn payment(&self, key: &PaymentKey) -> Result<Option<StoredPayment>, StoreError> {
        let ids: Vec<TxId> = {
            let state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let aliases = state.ids.iter().filter(|(_, txid)| **txid == key.txid).map(|(id, _)| *id);
            aliases.chain([key.txid]).collect()
        };
        for txid in ids {
            if let Some(stored) = self.inner.payment(&PaymentKey { txid, ..*key }).await? {
                return Ok(Some(stored));
            }
        }
        Ok(None)
    }

    async fn payments(&self, query: &Query) -> Result<Vec<PaymentRecord>, StoreError> {
        self.inner.payments(query).await
    }

    async fn checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        self.inner.checkpoint().await
    }

    async fn set_checkpoint(&self, checkpoint: Checkpoint) -> Result<(), StoreError> {
        self.inner.set_checkpoint(checkpoint).await
    }

    async fn totals(&self) -> Result<Totals, StoreError> {
        self.inner.totals().await
    }

    async fn prune(&self, before: UnixMillis) -> Result<u64, StoreError> {
        self.inner.prune(before).await
    }
}

impl Buggy {
    /// What was acknowledged long ago is done now, or never.
    pub async fn write_late(&self, txid: &TxId, lost: bool, now: UnixMillis) {
        let facts = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner).waiting.remove(txid).unwrap_or_default();
        if lost {
            return;
        }
        for fact in facts {
            // Nobody is told any more.
            let _ = self.force(txid, fact, now).await;
        }
    }

    async fn charge_late(&self, id: &ChannelId, charge: Charge, now: UnixMillis) {
        let ChargeTerms { identifier, nonce, identity, .. } = charge.terms.clone();
        let purpose = Purpose::Request { identifier, nonce, identity };
        let ask = LeaseAsk { channel: *id, purpose, holder: HolderId([0; 16]), hold_millis: 1 };
        if let Ok(Leased::Held(lease, _)) = self.inner.lease(&ask, now.plus_millis(FAR)).await {
            let _ = self.inner.advance_channel(&lease, ChannelFact::Committed(Box::new(charge)), now).await;
        }
    }
}

#[async_trait]
impl ChannelStore for Buggy {
    async fn open_channel(&self, opening: &Opening, now: UnixMillis) -> Result<Opened, StoreError> {
        match self.inner.open_channel(opening, now).await? {
            Opened::OutpointInUse if self.bug == Planted::SecondChannel => {
                self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner).shadowed.insert(opening.id);
                self.shadow.open_channel(opening, now).await
            }
            Opened::New(record) => Ok(Opened::New(self.dressed(record))),
            Opened::Known(record) => Ok(Opened::Known(self.dressed(record))),
            other => Ok(other),
        }
    }

    async fn lease(&self, ask: &LeaseAsk, now: UnixMillis) -> Result<Leased, StoreError> {
        let store = self.of_channel(&ask.channel);
        let leased = match store.lease(ask, now).await? {
            Leased::Busy { .. } if self.bug == Planted::SharedLease => store.lease(ask, now.plus_millis(FAR)).await?,
            Leased::Replay(_) if self.bug == Planted::ForgottenIdentifier => {
                let purpose = match ask.purpose.clone() {
                    Purpose::Request { identifier, identity, nonce } => {
                        let identifier = PaymentIdentifier::parse(&format!("{}-again", identifier.as_str())).expect("short enough");
                        Purpose::Request { identifier, identity, nonce: nonce.map(|byte| byte ^ 1) }
                    }
                    upkeep => upkeep,
                };
                store.lease(&LeaseAsk { purpose, ..ask.clone() }, now).await?
            }
            other => other,
        };
        Ok(match leased {
            Leased::Held(lease, record) => Leased::Held(lease, self.dressed(record)),
            Leased::Busy { until, same, record } => Leased::Busy { until, same, record: self.dressed(record) },
            other => other,
        })
    }

    async fn advance_channel(&self, lease: &Lease, fact: ChannelFact, now: UnixMillis) -> Result<ChannelStep, StoreError> {
        let id = *lease.channel();
        let store = self.of_channel(&id);
        let fact = match fact {
            ChannelFact::Committed(mut charge) if self.bug == Planted::ForgottenIdentifier => {
                if store.charge(&id, &charge.terms.identifier).await?.is_some() {
                    let again = format!("{}-again", charge.terms.identifier.as_str());
                    charge.terms.identifier = PaymentIdentifier::parse(&again).expect("short enough");
                    charge.terms.nonce = charge.terms.nonce.map(|byte| byte ^ 1);
                }
                ChannelFact::Committed(charge)
            }
            ChannelFact::Committed(charge) if self.bug == Planted::DroppedStream => {
                // Of another life's stream: nothing was metered.
                let record = store.channel(&id).await?;
                let left = record.as_ref().and_then(|record| record.stream.as_ref()).is_some_and(|stream| stream.reading.is_none())
                    && charge.response.is_none();
                if left {
                    let mut dropped = charge.clone();
                    dropped.charge = crate::shop::sompi(0);
                    ChannelFact::Committed(dropped)
                } else {
                    ChannelFact::Committed(charge)
                }
            }
            ChannelFact::Committed(charge) if self.bug == Planted::ChargeBeforeDurable => {
                let Some(record) = store.channel(&id).await? else { return Ok(ChannelStep::Stale) };
                if record.stream.is_none() {
                    let mut after = (*record).clone();
                    let charged = after.parts.charged.checked_add(charge.charge).expect("a run has little money");
                    (after.parts.charged, after.parts.signed) = (charged, charge.terms.voucher.amount);
                    after.voucher = Some(charge.terms.voucher);
                    after.charges += 1;
                    let world = self.world();
                    let deaths = world.ledger.deaths();
                    tokio::spawn(async move {
                        sleep(Duration::from_millis(700)).await; // why: time passes in the simulation, not here
                        if world.ledger.deaths() == deaths
                            && let Some(buggy) = &world.buggy
                        {
                            buggy.charge_late(&id, *charge, world.now()).await;
                        }
                    });
                    return Ok(ChannelStep::Done(Arc::new(after)));
                }
                ChannelFact::Committed(charge)
            }
            fact => fact,
        };
        Ok(match store.advance_channel(lease, fact, now).await? {
            ChannelStep::Done(record) => ChannelStep::Done(self.dressed(record)),
            other => other,
        })
    }

    async fn observe_channel(&self, id: &ChannelId, fact: ChannelSighting, now: UnixMillis) -> Result<Observed, StoreError> {
        let store = self.of_channel(id);
        let accepted = matches!(fact, ChannelSighting::MoveAccepted { .. });
        let observed = store.observe_channel(id, fact, now).await?;
        if self.bug == Planted::ClaimedIsCharged
            && accepted
            && observed == Observed::Done
            && let Some(record) = store.channel(id).await?
        {
            let excess = record.parts.charged.sompi() - record.parts.claimed.sompi();
            if excess > 0 {
                self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner).excess.insert(*id, excess);
            }
        }
        Ok(observed)
    }

    async fn channel(&self, id: &ChannelId) -> Result<Option<Arc<ChannelRecord>>, StoreError> {
        Ok(self.of_channel(id).channel(id).await?.map(|record| self.dressed(record)))
    }

    async fn channels(&self, query: &ChannelQuery) -> Result<Vec<Arc<ChannelRecord>>, StoreError> {
        let mut found = self.inner.channels(query).await?;
        found.extend(self.shadow.channels(query).await?);
        Ok(found.into_iter().map(|record| self.dressed(record)).collect())
    }

    async fn charge(&self, channel: &ChannelId, identifier: &PaymentIdentifier) -> Result<Option<StoredCharge>, StoreError> {
        self.of_channel(channel).charge(channel, identifier).await
    }

    async fn charges(&self, channel: &ChannelId, after: u64, limit: u32) -> Result<Vec<ChargeRecord>, StoreError> {
        self.of_channel(channel).charges(channel, after, limit).await
    }

    async fn settled_moves(&self, channel: &ChannelId, after: u64, limit: u32) -> Result<Vec<SettledMove>, StoreError> {
        self.of_channel(channel).settled_moves(channel, after, limit).await
    }

    async fn channel_totals(&self) -> Result<ChannelTotals, StoreError> {
        self.inner.channel_totals().await
    }

    async fn add_server_key(&self, key: XOnlyKey) -> Result<bool, StoreError> {
        self.inner.add_server_key(key).await
    }
}
