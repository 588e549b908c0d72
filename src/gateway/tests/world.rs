//! One shop: a gateway with everything around it faked, and the requests sent to it.

use super::fakes::{FakeUpstream, FaultStore};
use crate::{
    chain::{Chain, sim::SimChain},
    client::wallet::Wallet,
    gateway::{
        Environment, Gateway, Limits,
        answer::{Answer, BodyRead, Paywall, RawHead, Routed, Served, StreamChunk},
    },
    protocol::{
        amount::Amount,
        ids::{StoreId, TxId},
        limits,
        network::Network,
        offer::{OfferKey, OfferKeys},
        policy::{Accept, Access, ChargeOn, Cors, HostHeader, Observe, Policy, Pricing, PublicOrigin, Route, RouteId, Upstream},
        price::{PriceInput, PriceRule},
        refusal::{Code, Offers},
        requirements::{Finality, FinalityRule, Scheme},
        route::Router,
        time::UnixMillis,
    },
    store::{PaymentKey, PaymentRecord, Store, Totals},
    telemetry::Metrics,
    wire::{header, headers},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::Value;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::mpsc, task::JoinHandle};
use zeroize::Zeroizing;

pub const PRICE: u64 = 25_000_000;
pub const DEAR: u64 = 90_000_000;
pub const BODY_LIMIT: usize = 256;
pub const REPLAY_LIMIT: usize = 64;
pub const SETTLE_WAIT: Duration = Duration::from_secs(20);
pub const TIMEOUT: Duration = Duration::from_secs(5);
pub const HOLD: Duration = Duration::from_secs(10);
pub const OFFER_SECONDS: u64 = 60;
pub const FINAL_DEPTH: u64 = 100;
const BEGIN: UnixMillis = UnixMillis(1_700_000_000_000);

pub struct World {
    pub gateway: Arc<Gateway>,
    pub store: Arc<FaultStore>,
    pub chain: Arc<SimChain>,
    pub upstream: Arc<FakeUpstream>,
    pub payer: Wallet,
    skipped: Arc<AtomicU64>,
    environment: Environment,
    limits: Limits,
}

impl World {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// `change` is applied to how every route is sold.
    pub async fn with(change: impl Fn(&mut Pricing)) -> Self {
        Self::build(1, 1_000, change).await
    }

    pub async fn build(store: u8, waiting: usize, change: impl Fn(&mut Pricing)) -> Self {
        let skipped = Arc::new(AtomicU64::new(0));
        let (origin, shift) = (tokio::time::Instant::now(), skipped.clone());
        let drawn = AtomicU64::new(0);
        let environment = Environment {
            now: Arc::new(move || {
                let passed = u64::try_from(origin.elapsed().as_millis()).unwrap();
                BEGIN.plus_millis(passed + shift.load(Ordering::SeqCst))
            }),
            random: Arc::new(move || u128::from(drawn.fetch_add(1, Ordering::SeqCst)).to_be_bytes()),
        };
        let chain = SimChain::new(Network::Simnet);
        chain.accept_at_once(true);
        let store = Arc::new(FaultStore::new(StoreId([store; 16])));
        let upstream = Arc::new(FakeUpstream::default());
        let limits = Limits { final_depth: FINAL_DEPTH, hold: HOLD, waiting };
        let payer = Wallet::from_secret(Network::Simnet, &[7; 32]).unwrap();
        let gateway = start(&store, &chain, &upstream, &environment, policy(&change), &limits).await;
        Self { gateway, store, chain, upstream, payer, skipped, environment, limits }
    }

    /// Another process over the same store and network.
    pub async fn restart(&mut self) {
        self.gateway = start(&self.store, &self.chain, &self.upstream, &self.environment, policy(&|_| {}), &self.limits).await;
    }

    pub fn reload(&self, change: impl Fn(&mut Pricing), keys: &[(&str, u8, Option<UnixMillis>)]) {
        self.gateway.reload(Arc::new(policy(&change)), Arc::new(offer_keys(self.store.id(), keys)));
    }

    /// The clock jumps; no timer runs.
    pub fn skip(&self, seconds: u64) {
        self.skipped.fetch_add(seconds * 1_000, Ordering::SeqCst);
    }

    pub fn now(&self) -> UnixMillis {
        (self.environment.now)()
    }

    pub async fn send(&self, request: &Ask) -> Got {
        send(self.gateway.clone(), request.clone()).await
    }

    pub fn spawn(&self, request: &Ask) -> JoinHandle<Got> {
        tokio::spawn(send(self.gateway.clone(), request.clone()))
    }

    pub async fn record(&self, txid: TxId) -> Option<PaymentRecord> {
        let key = PaymentKey { network: Network::Simnet, txid };
        self.store.payment(&key).await.unwrap().map(|stored| stored.record)
    }

    pub async fn totals(&self) -> Totals {
        self.store.totals().await.unwrap()
    }

    /// Lets everything run that can run without time passing.
    pub async fn until(&self, what: &str, mut reached: impl AsyncFnMut() -> bool) {
        for _ in 0..10_000 {
            if reached().await {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("never happened: {what}");
    }

    pub async fn until_submitted(&self, count: usize) {
        self.until("submit", async || self.chain.submits().len() == count).await;
    }
}

async fn start(
    store: &Arc<FaultStore>,
    chain: &Arc<SimChain>,
    upstream: &Arc<FakeUpstream>,
    environment: &Environment,
    policy: Policy,
    limits: &Limits,
) -> Arc<Gateway> {
    let keys = Arc::new(offer_keys(store.id(), &[("a", 7, None)]));
    let network: Arc<dyn Chain> = chain.clone();
    let metrics = Arc::new(Metrics::new());
    let gateway =
        Gateway::new(store.clone(), network, upstream.clone(), environment.clone(), Arc::new(policy), keys, limits.clone(), metrics);
    gateway.clone().recover().await.unwrap();
    gateway
}

fn offer_keys(store: StoreId, keys: &[(&str, u8, Option<UnixMillis>)]) -> OfferKeys {
    let key = |&(kid, byte, not_after): &(&str, u8, Option<UnixMillis>)| OfferKey {
        kid: kid.to_owned(),
        key: Zeroizing::new(vec![byte; 32]),
        not_after,
    };
    OfferKeys::derive(&keys.iter().map(key).collect::<Vec<_>>(), store)
}

pub fn payee(seed: u8) -> String {
    Wallet::from_secret(Network::Simnet, &[seed; 32]).unwrap().address().to_string()
}

fn pricing(price: PriceRule) -> Pricing {
    let finality = FinalityRule { level: Finality::Accepted, depth: 0 };
    Pricing {
        accepts: vec![Accept { scheme: Scheme::Exact, rule_id: "p".into(), price, pay_to: payee(9), finality, mempool_max: None }],
        body_limit: BODY_LIMIT,
        replay_limit: REPLAY_LIMIT,
        replay_cookies: false,
        require_request_hash: false,
        require_identifier: false,
        offer_seconds: OFFER_SECONDS,
        settle_wait: SETTLE_WAIT,
        entitlement_seconds: limits::ENTITLEMENT_SECONDS,
        observe: Observe::Proven,
        charge_on: ChargeOn::Below500,
        description: None,
        mime_type: None,
    }
}

pub fn sompi(amount: u64) -> Amount {
    Amount::from_sompi(amount).unwrap()
}

fn table(by: PriceInput, cheap: &str, dear: &str) -> PriceRule {
    PriceRule::Table { by, rows: [(cheap.into(), sompi(PRICE)), (dear.into(), sompi(DEAR))].into(), default: None }
}

/// Free and priced routes on any host, and one that another host sells.
fn policy(change: &impl Fn(&mut Pricing)) -> Policy {
    let route = |id: &str, host: Option<&str>, access: Access| Route {
        id: RouteId(id.to_owned()),
        origin: PublicOrigin(format!("https://{}", host.unwrap_or("shop.example"))),
        host: host.map(str::to_owned),
        path: format!("/{}", id.split(':').next().unwrap()),
        methods: vec![],
        conditions: vec![],
        upstream: "api".into(),
        access,
        timeout: TIMEOUT,
    };
    let priced = |id: &str, host: Option<&str>, price: PriceRule| {
        let mut pricing = pricing(price);
        change(&mut pricing);
        route(id, host, Access::Priced(Box::new(pricing)))
    };
    let fixed = || PriceRule::Fixed(sompi(PRICE));
    let routes = vec![
        route("free", None, Access::Free),
        priced("paid", None, fixed()),
        priced("other", None, fixed()),
        priced("paid:elsewhere", Some("elsewhere.example"), fixed()),
        priced("chat", None, table(PriceInput::Json("/model".into()), "small", "large")),
        priced("header", None, table(PriceInput::Header(HeaderName::from_static("x-model")), "small", "large")),
        priced("method", None, table(PriceInput::Method, "GET", "POST")),
    ];
    let upstream = Upstream {
        name: "api".into(),
        host: "127.0.0.1".into(),
        port: 1,
        tls: None,
        host_header: HostHeader::Upstream,
        base_path: String::new(),
        headers: vec![],
        connect_timeout: TIMEOUT,
        read_timeout: TIMEOUT,
        write_timeout: TIMEOUT,
        idle_timeout: TIMEOUT,
    };
    Policy {
        network: Network::Simnet,
        router: Router::build(routes).unwrap(),
        upstreams: [("api".to_owned(), Arc::new(upstream))].into(),
        cors: Cors::Any,
        encoded_slashes: false,
    }
}

/// A request.
#[derive(Clone, Debug)]
pub struct Ask {
    pub method: Method,
    pub host: String,
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Ask {
    pub fn new(method: Method, target: &str) -> Self {
        Self { method, host: "shop.example".into(), target: target.into(), headers: HeaderMap::new(), body: Bytes::new() }
    }

    pub fn get(target: &str) -> Self {
        Self::new(Method::GET, target)
    }

    pub fn post(target: &str, body: &str) -> Self {
        Self { body: Bytes::copy_from_slice(body.as_bytes()), ..Self::new(Method::POST, target) }
    }

    pub fn on(mut self, host: &str) -> Self {
        self.host = host.into();
        self
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        self
    }

    pub fn paying(self, header: &str) -> Self {
        self.with("payment-signature", header)
    }
}

/// What came of a request.
pub struct Got {
    pub free: bool,
    pub answer: Answer,
    /// The rest of a streamed answer.
    pub stream: Option<mpsc::Receiver<StreamChunk>>,
}

async fn send(gateway: Arc<Gateway>, request: Ask) -> Got {
    let whole = |answer: Answer| Got { free: false, answer, stream: None };
    let Ask { method, host, target, headers, body } = request;
    match gateway.route(RawHead { method, authority: host, target, headers, request_id: "r-1".into() }) {
        Routed::Free(_) => Got { free: true, ..whole(Answer { status: 0, headers: HeaderMap::new(), body: Bytes::new(), close: false }) },
        Routed::Answer(answer) => whole(*answer),
        Routed::Priced(sale) => {
            let body = if body.len() > sale.body_limit() { BodyRead::TooLarge } else { BodyRead::Whole(body) };
            match gateway.serve(sale, body).await {
                Served::Answer(answer) => whole(*answer),
                Served::Stream { head, body } => Got { free: false, answer: head, stream: Some(body) },
            }
        }
    }
}

impl Got {
    fn message(&self, name: HeaderName) -> Option<Value> {
        self.answer.headers.get(name).map(|value| header::decode(value.as_bytes()).unwrap())
    }

    pub fn offers(&self) -> Option<Value> {
        self.message(headers::PAYMENT_REQUIRED)
    }

    pub fn receipt(&self) -> Option<Value> {
        self.message(headers::PAYMENT_RESPONSE)
    }

    pub fn status(&self) -> u16 {
        self.answer.status
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.answer.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Served, with a receipt for the transaction.
    #[track_caller]
    pub fn served(&self, txid: TxId) {
        let words = String::from_utf8_lossy(&self.answer.body);
        assert_eq!(self.status(), 200, "{words}");
        self.receipted(txid);
        assert!(self.offers().is_none());
    }

    /// Whatever the status, the payment counts.
    #[track_caller]
    pub fn receipted(&self, txid: TxId) {
        let receipt = self.receipt().expect("a receipt");
        assert_eq!((&receipt["success"], &receipt["transaction"]), (&true.into(), &txid.to_string().into()), "{receipt}");
    }

    /// Refused with this code, its status, and an offer exactly where the code allows one.
    #[track_caller]
    pub fn refused(&self, code: Code) {
        let body: Value = serde_json::from_slice(&self.answer.body).unwrap();
        let told = self.receipt().map(|receipt| receipt["extensions"]["kaspa"]["reason"].clone());
        let word = body["extensions"]["kaspa"]["reason"].as_str().or(body["error"].as_str()).unwrap();
        let word = told.as_ref().and_then(Value::as_str).unwrap_or(word);
        let word = if code == Code::PaymentRequired && self.status() == 402 { code.as_str() } else { word };
        assert_eq!((self.status(), word), (code.status(), code.as_str()), "{body}");
        assert_eq!(self.offers().is_some(), code.offers() == Offers::Attach, "{code}: {body}");
        if let Some(receipt) = self.receipt() {
            assert_eq!(receipt["success"], false, "{code}");
        }
    }

    /// Refused, naming the transaction and saying that its money may have moved.
    #[track_caller]
    pub fn pending(&self, code: Code, txid: TxId) {
        self.refused(code);
        let receipt = self.receipt().unwrap();
        assert_eq!((&receipt["transaction"], &receipt["extensions"]["kaspa"]["status"]), (&txid.to_string().into(), &"pending".into()));
        assert!(self.header("retry-after").is_some());
    }

    /// The whole body of a stream, and whether it ended or broke off.
    pub async fn drain(&mut self) -> (String, bool) {
        let mut body = Vec::new();
        let stream = self.stream.as_mut().expect("a stream");
        while let Some(chunk) = stream.recv().await {
            match chunk {
                StreamChunk::Data(data) => body.extend_from_slice(&data),
                StreamChunk::End => return (String::from_utf8(body).unwrap(), true),
            }
        }
        (String::from_utf8(body).unwrap(), false)
    }
}
