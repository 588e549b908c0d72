//! A fake paywall, an edge on port 0, upstreams that mirror or misbehave, and a raw client.

use crate::{
    gateway::{
        answer::{Answer, BodyRead, Free, Paywall, RawHead, ReceiptAsk, Routed, Sale, Served, StreamChunk},
        upstream::{UpstreamFailure, UpstreamRequest, Upstreams as _},
    },
    protocol::{
        network::Network,
        path::NormalPath,
        policy::{Access, ChargeOn, Cors, HostHeader, Observe, Policy, Pricing, PublicOrigin, Route, RouteId, Upstream},
        request::RequestHead,
        route::Router,
    },
    proxy::{Bound, EdgeSettings, ListenTls, Listener, PingoraUpstreams, RunningEdge},
    wire::headers::reserved,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue};
use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

/// The longest priced body of the fake's routes.
pub const BODY_LIMIT: usize = 2 * 1024 * 1024;

pub fn upstream(address: SocketAddr) -> Upstream {
    let second = Duration::from_secs(1);
    Upstream {
        name: "api".into(),
        host: address.ip().to_string(),
        port: address.port(),
        tls: None,
        host_header: HostHeader::Upstream,
        base_path: String::new(),
        headers: Vec::new(),
        connect_timeout: 5 * second,
        read_timeout: 20 * second,
        write_timeout: 20 * second,
        idle_timeout: 20 * second,
    }
}

pub fn tls_files() -> ListenTls {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/proxy/tests/tls");
    ListenTls { cert: folder.join("cert.pem"), key: folder.join("key.pem") }
}

/// What the fake says to a head.
pub enum Plan {
    /// Forward this path.
    Free(String),
    Priced,
    Answer(Answer),
}

type PlanOf = Box<dyn Fn(&RawHead) -> Plan + Send + Sync>;
type Serve = Box<dyn Fn(RawHead, BodyRead) -> BoxFuture<'static, Served> + Send + Sync>;

pub struct Fake {
    policy: Arc<Policy>,
    plan: PlanOf,
    serve: Serve,
    /// Of the last request.
    head: Mutex<Option<RawHead>>,
}

impl Fake {
    pub fn last(&self) -> std::sync::MutexGuard<'_, Option<RawHead>> {
        self.head.lock().unwrap()
    }

    pub fn head(&self) -> RawHead {
        self.last().clone().expect("a request came in")
    }
}

#[async_trait]
impl Paywall for Fake {
    fn route(&self, head: RawHead) -> Routed {
        *self.head.lock().unwrap() = Some(head.clone());
        let plan = (self.plan)(&head);
        let RawHead { method, authority: host, target, headers, request_id } = head;
        let query = target.split_once('?').map(|(_, query)| query.to_owned());
        let request = |path: &str| RequestHead { method, host, path: path_of(path), target, query, headers };
        match plan {
            Plan::Free(path) => Routed::Free(Box::new(Free::for_test(route(Access::Free), self.policy.clone(), request(&path)))),
            Plan::Answer(answer) => Routed::Answer(Box::new(answer)),
            Plan::Priced => Routed::Priced(Box::new(Sale::for_test(route(priced()), self.policy.clone(), request("/"), request_id))),
        }
    }

    async fn receipt(&self, _: Box<ReceiptAsk>) -> Answer {
        unreachable!("this paywall names no receipts")
    }

    async fn serve(&self, _: Box<Sale>, body: BodyRead) -> Served {
        (self.serve)(self.head(), body).await
    }
}

fn path_of(path: &str) -> NormalPath {
    NormalPath::parse(path, false).unwrap()
}

fn route(access: Access) -> Arc<Route> {
    Arc::new(Route {
        id: RouteId("route".into()),
        origin: PublicOrigin("https://api.example".into()),
        host: None,
        path: "/{*rest}".into(),
        methods: Vec::new(),
        conditions: Vec::new(),
        upstream: "api".into(),
        access,
        timeout: Duration::from_secs(20),
    })
}

fn priced() -> Access {
    Access::Priced(Box::new(Pricing {
        accepts: Vec::new(),
        body_limit: BODY_LIMIT,
        replay_limit: 0,
        replay_cookies: false,
        require_request_hash: false,
        require_identifier: false,
        offer_seconds: 60,
        settle_wait: Duration::from_secs(1),
        entitlement_seconds: 60,
        observe: Observe::Proven,
        charge_on: ChargeOn::Below500,
        description: None,
        mime_type: None,
    }))
}

/// A running edge with its fake.
pub struct TestEdge {
    pub address: SocketAddr,
    pub fake: Arc<Fake>,
    pub upstreams: Arc<PingoraUpstreams>,
    pub edge: RunningEdge,
}

impl TestEdge {
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

/// `/paid...` is priced and forwarded by the exchange, everything else is free.
pub fn edge(upstream: Upstream) -> TestEdge {
    edge_with(upstream, by_path, None, EdgeSettings::default())
}

pub fn by_path(head: &RawHead) -> Plan {
    let path = head.target.split('?').next().unwrap().to_owned();
    if path.starts_with("/paid") { Plan::Priced } else { Plan::Free(path) }
}

pub fn serving(upstream: Upstream, serve: impl Fn(RawHead, BodyRead) -> BoxFuture<'static, Served> + Send + Sync + 'static) -> TestEdge {
    edge_with(upstream, by_path, Some(Box::new(serve)), EdgeSettings::default())
}

pub fn edge_with(
    upstream: Upstream,
    plan: impl Fn(&RawHead) -> Plan + Send + Sync + 'static,
    serve: Option<Serve>,
    mut settings: EdgeSettings,
) -> TestEdge {
    let upstreams = Arc::new(PingoraUpstreams::new(8));
    let upstream = Arc::new(upstream);
    let serve = serve.unwrap_or_else(|| {
        let (upstreams, upstream) = (upstreams.clone(), upstream.clone());
        Box::new(move |head, body| Box::pin(forward(upstreams.clone(), upstream.clone(), head, body)))
    });
    let policy = Policy {
        network: "kaspa:simnet".parse::<Network>().unwrap(),
        router: Router::build(Vec::new()).unwrap(),
        upstreams: [(upstream.name.clone(), upstream.clone())].into(),
        cors: Cors::Off,
        encoded_slashes: false,
        channels: None,
        remote_channels: false,
        tenants: vec![],
    };
    if settings.listeners.is_empty() {
        settings.listeners = vec![Listener { address: "127.0.0.1:0".parse().unwrap(), tls: None }];
    }
    let fake = Arc::new(Fake { policy: Arc::new(policy), plan: Box::new(plan), serve, head: Mutex::default() });
    let count = AtomicUsize::new(0);
    let ids = Arc::new(move || format!("request-{}", count.fetch_add(1, Ordering::Relaxed)));
    let edge = Bound::bind(settings).unwrap().serve(fake.clone(), &upstreams, ids).unwrap();
    TestEdge { address: edge.addresses()[0], fake, upstreams, edge }
}

/// What a gateway does with a paid request, without the payment.
async fn forward(upstreams: Arc<PingoraUpstreams>, upstream: Arc<Upstream>, head: RawHead, body: BodyRead) -> Served {
    let body = match body {
        BodyRead::Whole(body) => body,
        BodyRead::TooLarge => return whole(413, "too large", true),
        BodyRead::Incomplete => return whole(400, "incomplete", true),
    };
    let mut headers = head.headers.clone();
    for name in head.headers.keys().filter(|name| reserved(name)) {
        headers.remove(name);
    }
    let timeout = Duration::from_secs(20);
    let request = UpstreamRequest { method: head.method, path_and_query: head.target, headers, body, timeout, silence: None };
    match upstreams.send(&upstream, request).await {
        Err(UpstreamFailure::Timeout) => whole(504, "timeout", false),
        Err(failure) => whole(502, &format!("{failure:?}"), false),
        Ok(mut reply) => {
            let (chunks, body) = mpsc::channel(1);
            tokio::spawn(async move {
                while let Ok(chunk) = reply.body.chunk().await {
                    let (chunk, last) = chunk.map_or((StreamChunk::End { trailers: None }, true), |data| (StreamChunk::Data(data), false));
                    if chunks.send(chunk).await.is_err() || last {
                        break;
                    }
                }
            });
            Served::Stream { head: Answer { status: reply.status, headers: reply.headers, body: Bytes::new(), close: false }, body }
        }
    }
}

pub fn answer(status: u16, body: &str, close: bool) -> Answer {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("text/plain"));
    Answer { status, headers, body: Bytes::copy_from_slice(body.as_bytes()), close }
}

pub fn whole(status: u16, body: &str, close: bool) -> Served {
    Served::Answer(Box::new(answer(status, body, close)))
}

/// An upstream of raw connections; counts them.
pub struct RawUpstream {
    pub address: SocketAddr,
    pub accepted: Arc<AtomicUsize>,
}

impl RawUpstream {
    /// `serve` gets each connection with its number, from 0.
    pub async fn start<F: Future<Output = ()> + Send + 'static>(serve: impl Fn(usize, TcpStream) -> F + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(count.fetch_add(1, Ordering::SeqCst), stream));
            }
        });
        Self { address, accepted }
    }

    /// Answers every request head with these bytes, for as long as the client stays.
    pub async fn answering(bytes: &'static [u8]) -> Self {
        Self::start(move |_, mut stream| async move {
            while !read_head(&mut stream).await.is_empty() {
                stream.write_all(bytes).await.unwrap();
            }
        })
        .await
    }

    /// Answers the first request of each connection with these bytes, then closes it.
    pub async fn closing_after(bytes: &'static [u8]) -> Self {
        Self::start(move |_, mut stream| async move {
            read_head(&mut stream).await;
            stream.write_all(bytes).await.unwrap();
        })
        .await
    }

    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

/// Bytes up to the blank line, or what came before the end.
pub async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// Sends bytes and reads until the other side closes.
pub async fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A reset ends the answer as well.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// An API that tells what it was sent: `METHOD target`, a line per header, a blank line, the body.
/// `/echo` gives back the body alone, once it is complete: pingora does not read from an upstream while
/// it writes to it, so two endless streams at once would stop each other.
pub async fn mirror() -> SocketAddr {
    use axum::{
        body::{Body, to_bytes},
        extract::Request,
        response::Response,
    };
    let handle = |request: Request| async move {
        let (head, body) = request.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        if head.uri.path().ends_with("/echo") {
            return Response::new(Body::from(body));
        }
        let mut text = format!("{} {}\n", head.method, head.uri);
        for (name, value) in &head.headers {
            text.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
        }
        let mut text = (text + "\n").into_bytes();
        text.extend_from_slice(&body);
        Response::new(Body::from(text))
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(handle)).await });
    address
}

/// Bytes without a period that a buffer size could hide.
pub fn pattern(length: usize) -> Bytes {
    (0..length).map(|i| u8::try_from((i * 7 + i / 65_521) % 251).unwrap()).collect::<Vec<_>>().into()
}
