//! A store that fails where it is told to, and an upstream that answers what it is told to.

use crate::{
    gateway::upstream::{ReplyBody, UpstreamFailure, UpstreamReply, UpstreamRequest, Upstreams},
    protocol::{
        ids::{ChannelId, PaymentIdentifier, StoreId, XOnlyKey},
        policy::Upstream,
        time::UnixMillis,
    },
    store::{channels::*, memory::MemoryStore, *},
};
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};
use tokio::sync::{Notify, mpsc};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Claim,
    Submitted,
    Settled,
    Forwarding,
    Delivered,
    Renewed,
    OpenChannel,
    Lease,
    Reserved,
    Committed,
    MoveBuilt,
    /// What the chain says of a channel.
    Sighted,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing was done.
    Before,
    /// It was done; the answer is lost.
    After,
    /// Nothing is done and nothing is answered.
    Hang,
    /// It is done, and answered when [`FaultStore::answer`] is called.
    Slow,
    /// Nothing is wrong: a fault that follows meets a later use.
    Good,
}

pub struct FaultStore {
    model: Arc<MemoryStore>,
    faults: Mutex<VecDeque<(Verb, Fault)>>,
    down: AtomicBool,
    shared: AtomicBool,
    slow: AtomicUsize,
    answers: Notify,
    hidden: AtomicUsize,
}

impl FaultStore {
    pub fn new(id: StoreId) -> Self {
        Self::over(Arc::new(MemoryStore::new(id)), false)
    }

    fn over(model: Arc<MemoryStore>, shared: bool) -> Self {
        Self {
            model,
            faults: Mutex::default(),
            down: AtomicBool::new(false),
            shared: AtomicBool::new(shared),
            slow: AtomicUsize::new(0),
            answers: Notify::new(),
            hidden: AtomicUsize::new(0),
        }
    }

    /// What happens to the next use of the verb.
    pub fn fail(&self, verb: Verb, fault: Fault) {
        self.faults.lock().unwrap().push_back((verb, fault));
    }

    /// The same records, for another process; this one's is down.
    pub fn heir(&self) -> Self {
        self.down(true);
        Self::over(self.model.clone(), self.is_shared())
    }

    /// The same records, for another process beside this one.
    pub fn shared(&self) -> Self {
        self.shared.store(true, Ordering::SeqCst);
        Self::over(self.model.clone(), true)
    }

    /// Steps that are done and wait to be answered.
    pub fn slow(&self) -> usize {
        self.slow.load(Ordering::SeqCst)
    }

    /// Lets them be answered.
    pub fn answer(&self) {
        self.answers.notify_waiters();
    }

    /// The next reads of a channel find none, as if it were opened right after them.
    pub fn hide_channels(&self, reads: usize) {
        self.hidden.store(reads, Ordering::SeqCst);
    }

    /// Every verb fails before it does anything.
    pub fn down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    async fn injure<T>(&self, verb: Verb, step: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        if self.down.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("down".into()));
        }
        let fault = {
            let mut faults = self.faults.lock().unwrap();
            let next = faults.iter().position(|(wanted, _)| *wanted == verb);
            next.and_then(|index| faults.remove(index)).map(|(_, fault)| fault)
        };
        match fault {
            None | Some(Fault::Good) => step.await,
            Some(Fault::Before) => Err(StoreError::Unavailable("injected".into())),
            Some(Fault::After) => step.await.and(Err(StoreError::Unknown("injected".into()))),
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Slow) => {
                let (answer, done) = (self.answers.notified(), step.await);
                self.slow.fetch_add(1, Ordering::SeqCst);
                answer.await;
                self.slow.fetch_sub(1, Ordering::SeqCst);
                done
            }
        }
    }
}

#[async_trait]
impl ChannelStore for FaultStore {
    async fn open_channel(&self, opening: &Opening, now: UnixMillis) -> Result<Opened, StoreError> {
        self.injure(Verb::OpenChannel, self.model.open_channel(opening, now)).await
    }

    async fn lease(&self, ask: &LeaseAsk, now: UnixMillis) -> Result<Leased, StoreError> {
        self.injure(Verb::Lease, self.model.lease(ask, now)).await
    }

    async fn advance_channel(&self, lease: &Lease, fact: ChannelFact, now: UnixMillis) -> Result<ChannelStep, StoreError> {
        let verb = match fact {
            ChannelFact::Renewed { .. } => Verb::Renewed,
            ChannelFact::Reserved(_) => Verb::Reserved,
            ChannelFact::Committed(_) => Verb::Committed,
            ChannelFact::MoveBuilt(_) => Verb::MoveBuilt,
            ChannelFact::Metered { .. } | ChannelFact::Released => Verb::Other,
        };
        self.injure(verb, self.model.advance_channel(lease, fact, now)).await
    }

    async fn observe_channel(&self, id: &ChannelId, fact: ChannelSighting, now: UnixMillis) -> Result<Observed, StoreError> {
        self.injure(Verb::Sighted, self.model.observe_channel(id, fact, now)).await
    }

    async fn channel(&self, id: &ChannelId) -> Result<Option<Arc<ChannelRecord>>, StoreError> {
        if self.hidden.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |reads| reads.checked_sub(1)).is_ok() {
            return Ok(None);
        }
        self.injure(Verb::Other, self.model.channel(id)).await
    }

    async fn channels(&self, query: &ChannelQuery) -> Result<Vec<Arc<ChannelRecord>>, StoreError> {
        self.model.channels(query).await
    }

    async fn charge(&self, channel: &ChannelId, identifier: &PaymentIdentifier) -> Result<Option<StoredCharge>, StoreError> {
        self.injure(Verb::Other, self.model.charge(channel, identifier)).await
    }

    async fn charges(&self, channel: &ChannelId, after: u64, limit: u32) -> Result<Vec<ChargeRecord>, StoreError> {
        self.model.charges(channel, after, limit).await
    }

    async fn settled_moves(&self, channel: &ChannelId, after: u64, limit: u32) -> Result<Vec<SettledMove>, StoreError> {
        self.model.settled_moves(channel, after, limit).await
    }

    async fn channel_totals(&self) -> Result<ChannelTotals, StoreError> {
        self.model.channel_totals().await
    }

    async fn add_server_key(&self, key: XOnlyKey) -> Result<bool, StoreError> {
        self.injure(Verb::Other, self.model.add_server_key(key)).await
    }
}

#[async_trait]
impl Store for FaultStore {
    fn id(&self) -> StoreId {
        self.model.id()
    }

    fn is_shared(&self) -> bool {
        self.shared.load(Ordering::SeqCst)
    }

    async fn claim(&self, claim: &Claim, now: UnixMillis) -> Result<ClaimOutcome, StoreError> {
        self.injure(Verb::Claim, self.model.claim(claim, now)).await
    }

    async fn advance(&self, hold: &Held, fact: Fact, now: UnixMillis) -> Result<Advanced, StoreError> {
        let verb = match fact {
            Fact::Submitted(_) => Verb::Submitted,
            Fact::Settled { .. } => Verb::Settled,
            Fact::Forwarding => Verb::Forwarding,
            Fact::Delivered { .. } => Verb::Delivered,
            Fact::Renewed { .. } => Verb::Renewed,
            _ => Verb::Other,
        };
        self.injure(verb, self.model.advance(hold, fact, now)).await
    }

    async fn observe(&self, key: &PaymentKey, fact: ChainFact, now: UnixMillis) -> Result<Observed, StoreError> {
        self.injure(Verb::Other, self.model.observe(key, fact, now)).await
    }

    async fn payment(&self, key: &PaymentKey) -> Result<Option<StoredPayment>, StoreError> {
        self.injure(Verb::Other, self.model.payment(key)).await
    }

    async fn payments(&self, query: &Query) -> Result<Vec<PaymentRecord>, StoreError> {
        self.model.payments(query).await
    }

    async fn checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        self.injure(Verb::Other, self.model.checkpoint()).await
    }

    async fn set_checkpoint(&self, checkpoint: Checkpoint) -> Result<(), StoreError> {
        self.injure(Verb::Other, self.model.set_checkpoint(checkpoint)).await
    }

    async fn totals(&self) -> Result<Totals, StoreError> {
        self.model.totals().await
    }

    async fn prune(&self, before: UnixMillis) -> Result<u64, StoreError> {
        self.model.prune(before).await
    }
}

pub enum Script {
    Answer {
        status: u16,
        headers: Vec<(&'static str, &'static str)>,
        body: Body,
    },
    Fail(UpstreamFailure),
    /// Answers with the next script when it is told to go on.
    Wait(Arc<Notify>),
}

pub enum Body {
    Whole(Vec<Bytes>),
    /// What is sent as it is sent; `Err` breaks off, a closed channel is the end.
    Live(mpsc::Receiver<Result<Bytes, UpstreamFailure>>),
}

/// An answer in one piece.
pub fn answer(status: u16, body: &str) -> Script {
    Script::Answer {
        status,
        headers: vec![("content-type", "text/plain")],
        body: Body::Whole(vec![Bytes::copy_from_slice(body.as_bytes())]),
    }
}

/// A body whose chunks the test sends.
pub fn live(kind: &'static str) -> (mpsc::Sender<Result<Bytes, UpstreamFailure>>, Script) {
    let (sender, receiver) = mpsc::channel(64);
    (sender, Script::Answer { status: 200, headers: vec![("content-type", kind)], body: Body::Live(receiver) })
}

/// Plays its script; afterwards `served 1`, `served 2`...
#[derive(Default)]
pub struct FakeUpstream {
    script: Mutex<VecDeque<Script>>,
    requests: Mutex<Vec<UpstreamRequest>>,
}

impl FakeUpstream {
    pub fn play(&self, script: impl IntoIterator<Item = Script>) {
        self.script.lock().unwrap().extend(script);
    }

    /// The next request waits for the returned bell.
    pub fn wait(&self) -> Arc<Notify> {
        let bell = Arc::new(Notify::new());
        self.play([Script::Wait(bell.clone())]);
        bell
    }

    /// Requests that reached it.
    pub fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    pub fn take(&self) -> UpstreamRequest {
        self.requests.lock().unwrap().remove(0)
    }
}

#[async_trait]
impl Upstreams for FakeUpstream {
    async fn send(&self, _: &Upstream, request: UpstreamRequest) -> Result<UpstreamReply, UpstreamFailure> {
        let count = {
            let mut requests = self.requests.lock().unwrap();
            requests.push(request);
            requests.len()
        };
        loop {
            let next = self.script.lock().unwrap().pop_front();
            match next.unwrap_or_else(|| answer(200, &format!("served {count}"))) {
                Script::Wait(bell) => bell.notified().await,
                Script::Fail(failure) => return Err(failure),
                Script::Answer { status, headers, body } => {
                    let header = |(name, value): (&'static str, &'static str)| {
                        (HeaderName::try_from(name).unwrap(), HeaderValue::from_static(value))
                    };
                    let mut map = HeaderMap::new();
                    map.extend(headers.into_iter().map(header));
                    let body: Box<dyn ReplyBody> = Box::new(FakeBody(match body {
                        Body::Whole(chunks) => Rest::Whole(chunks.into()),
                        Body::Live(receiver) => Rest::Live(receiver),
                    }));
                    return Ok(UpstreamReply { status, headers: map, body });
                }
            }
        }
    }
}

enum Rest {
    Whole(VecDeque<Bytes>),
    Live(mpsc::Receiver<Result<Bytes, UpstreamFailure>>),
}

struct FakeBody(Rest);

#[async_trait]
impl ReplyBody for FakeBody {
    async fn chunk(&mut self) -> Result<Option<Bytes>, UpstreamFailure> {
        match &mut self.0 {
            Rest::Whole(chunks) => Ok(chunks.pop_front()),
            Rest::Live(receiver) => receiver.recv().await.transpose(),
        }
    }
}
