//! The listener over real sockets, with a gateway whose state the test sets.

use super::*;
use crate::{
    chain::{Health, Tip},
    cli::health,
    gateway::channel::{
        claim::{Cause, ClaimReport},
        report::{ChannelView, Outcome, samples},
    },
    gateway::ledger::{Cursor, Detail, EntryState, Filter, Granted, Page, samples::entry},
    gateway::reconcile::{ReconcileError, Reconciled},
    protocol::{
        amount::Amount,
        ids::{ChannelId, Outpoint, TxId},
        network::Network,
    },
    store::{StoreError, Totals, channels::ChannelTotals, moving::Part},
};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::Path,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};
use zeroize::Zeroizing;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

struct Fake {
    readiness: Result<(), String>,
    totals: Result<Totals, StoreError>,
}

#[async_trait]
impl Inspect for Fake {
    fn readiness(&self) -> Result<(), String> {
        self.readiness.clone()
    }
    fn metrics(&self) -> String {
        "kas402_node_ready 1\n".into()
    }
    async fn status(&self) -> Status {
        Status {
            network: Network::Simnet,
            readiness: self.readiness.clone(),
            node: Health { ready: true, reason: None, server_version: Some("2.1.0".into()) },
            tip: Tip { daa_score: 7, blue_score: 5 },
            totals: self.totals.clone(),
            channels: Ok(ChannelTotals { claimed_sompi: u128::from(u64::MAX) + 2, ..ChannelTotals::default() }),
        }
    }
    async fn channels(&self, open_only: bool, after: u64, limit: u32) -> Result<Vec<ChannelView>, StoreError> {
        self.totals.clone()?;
        assert_eq!(limit, 256);
        let last = if open_only { 2 } else { 3 };
        Ok((after + 1..=last).map(view).collect())
    }
    async fn channel(&self, id: &ChannelId) -> Result<Option<ChannelView>, StoreError> {
        self.totals.clone()?;
        Ok((1..=3).map(view).find(|view| view.channel == *id))
    }
    async fn claim(&self, id: &ChannelId, any_fee: bool) -> Outcome {
        let report = ClaimReport {
            channel: *id,
            cause: Cause::Asked,
            txid: TxId([7; 32]),
            claim_outpoint: Outpoint { txid: TxId([1; 32]), index: 0 },
            continuation_outpoint: Outpoint { txid: TxId([7; 32]), index: 1 },
            takes: Amount::from_sompi(100).unwrap(),
            fee: Amount::from_sompi(1).unwrap(),
            payout: Amount::from_sompi(99).unwrap(),
            continuation: Amount::from_sompi(900).unwrap(),
            taken: true,
        };
        let why = ("uneconomic".to_owned(), "too dear".to_owned());
        if any_fee {
            Outcome { channel: *id, claim: Some(report), unclaimed: None }
        } else {
            Outcome { channel: *id, claim: None, unclaimed: Some(why) }
        }
    }
    async fn payments(&self, filter: &Filter, after: Cursor, limit: usize) -> Result<Page, StoreError> {
        self.totals.clone()?;
        assert!(limit <= 512);
        let Cursor::Payment(after) = after else { return Ok(Page::default()) };
        let entries = (u8::try_from(after).unwrap() + 1..=3).take(limit).map(|n| entry(n, EntryState::Delivered));
        let entries: Vec<_> = entries.filter(|entry| filter.route.as_ref().is_none_or(|route| *route == entry.route)).collect();
        Ok(Page { next: entries.last().map(|entry| entry.cursor).filter(|_| entries.len() == limit), entries })
    }
    async fn payment(&self, id: TxId) -> Result<Option<Detail>, StoreError> {
        self.totals.clone()?;
        Ok((id == TxId([1; 32])).then(|| Detail { entry: entry(1, EntryState::Settled), response: None }))
    }
    async fn grant(&self, txid: TxId, seconds: u64) -> Result<Granted, StoreError> {
        self.totals.clone()?;
        Ok(match (txid == TxId([1; 32]), seconds) {
            (false, _) => Granted::Unknown,
            (true, 0) => Granted::Unchanged,
            (true, _) => Granted::Done,
        })
    }
    async fn reconcile(&self, after: Cursor, repair: bool) -> Result<Reconciled, ReconcileError> {
        self.readiness.clone().map_err(ReconcileError::Node)?;
        let next = (after == Cursor::default()).then_some(Cursor::Charge { channel: 0, number: 0 });
        Ok(Reconciled { checked: if repair { 2 } else { 1 }, next, ..Reconciled::default() })
    }
}

fn view(sequence: u64) -> ChannelView {
    samples::view(sequence, 300_000_000, Some(5))
}

fn ready() -> Arc<Fake> {
    Arc::new(Fake { readiness: Ok(()), totals: Ok(Totals { charged_sompi: u128::from(u64::MAX) + 1, ..Totals::default() }) })
}

fn not_ready() -> Arc<Fake> {
    Arc::new(Fake { readiness: Err("catching_up".into()), totals: Err(StoreError::Unavailable("disk".into())) })
}

fn token() -> Option<Token> {
    Some(Token::new(Zeroizing::new(SECRET.into())).unwrap())
}

fn loopback() -> Listen {
    "127.0.0.1:0".parse().unwrap()
}

/// Is asked for one move after another, and never gets further than the first part.
#[derive(Default)]
struct Still(std::sync::Mutex<Vec<String>>);

impl Relocate for Still {
    fn begin(&self, asked: MoveAsked) -> Result<(), String> {
        let mut all = self.0.lock().unwrap();
        if !all.is_empty() {
            return Err("a move is under way".into());
        }
        all.push(format!("{} {:?} {}", asked.to, asked.password, asked.undo));
        Ok(())
    }
    fn progress(&self) -> MoveProgress {
        if self.0.lock().unwrap().is_empty() { MoveProgress::None } else { MoveProgress::Running { part: Some(Part::Payments), read: 3 } }
    }
}

async fn start(listen: Listen, token: Option<Token>, fake: Arc<Fake>) -> (Admin, watch::Sender<bool>) {
    let (stop, stopped) = watch::channel(false);
    (serve(Settings { listen, token }, fake, Arc::<Still>::default(), stopped).await.unwrap(), stop)
}

/// Status and body of one request with the given extra head lines.
async fn ask(address: &Listen, method: &str, path: &str, head: &str) -> (u16, String) {
    let request = format!("{method} {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n{head}\r\n");
    let mut answer = String::new();
    match address {
        Listen::Tcp(address) => {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            stream.read_to_string(&mut answer).await.unwrap();
        }
        Listen::Unix(path) => {
            let mut stream = UnixStream::connect(path).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            stream.read_to_string(&mut answer).await.unwrap();
        }
    }
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

fn authorization(token: &str) -> String {
    format!("authorization: Bearer {token}\r\n")
}

#[tokio::test]
async fn strangers_learn_alive_and_ready_and_nothing_else() {
    for (fake, readyz) in [(ready(), 200), (not_ready(), 503)] {
        let (admin, _stop) = start(loopback(), token(), fake).await;
        let twice = authorization(SECRET).repeat(2);
        let basic = format!("authorization: Basic {SECRET}\r\n");
        for head in ["", &authorization("wrong"), &authorization(""), &twice, &basic] {
            for (path, expect) in [
                ("/healthz", 200),
                ("/readyz", readyz),
                ("/metrics", 401),
                ("/status", 401),
                ("/", 401),
                ("/metrics/", 401),
                ("/nothing", 401),
            ] {
                assert_eq!(ask(&admin.address, "GET", path, head).await, (expect, String::new()), "{path} with {head:?}");
            }
        }
    }
}

#[tokio::test]
async fn the_token_opens_everything() {
    let (admin, _stop) = start(loopback(), token(), not_ready()).await;
    let head = authorization(SECRET);
    let (status, body) = ask(&admin.address, "GET", "/readyz", &head).await;
    assert_eq!((status, body.as_str()), (503, r#"{"ready":false,"reasons":["catching_up"]}"#));
    assert_eq!(ask(&admin.address, "GET", "/metrics", &head).await, (200, "kas402_node_ready 1\n".into()));
    assert_eq!(ask(&admin.address, "GET", "/nothing", &head).await.0, 404);
    assert_eq!(ask(&admin.address, "POST", "/metrics", &head).await.0, 405);
    assert_eq!(ask(&admin.address, "GET", "/metrics", &head.replace("Bearer", "bearer")).await.0, 200, "schemes have no case");
}

#[tokio::test]
async fn status_gives_sums_beyond_64_bit_as_text_and_says_when_the_store_fails() {
    for (fake, pointer, expect) in [
        (ready(), "/payments/chargedSompi", "18446744073709551616"),
        (ready(), "/node/daaScore", "7"),
        (ready(), "/network", "kaspa:simnet"),
        (not_ready(), "/payments/error", "the store is unavailable: disk"),
        (not_ready(), "/reasons/0", "catching_up"),
    ] {
        let (admin, _stop) = start(loopback(), token(), fake).await;
        let (status, body) = ask(&admin.address, "GET", "/status", &authorization(SECRET)).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, body.pointer(pointer).and_then(Value::as_str)), (200, Some(expect)), "{pointer} in {body}");
    }
}

#[tokio::test]
async fn tcp_needs_a_token_and_stays_on_this_machine() {
    let (_stop, stopped) = watch::channel(false);
    let refused =
        |listen: &str, token| serve(Settings { listen: listen.parse().unwrap(), token }, ready(), Arc::<Still>::default(), stopped.clone());
    assert!(matches!(refused("127.0.0.1:0", None).await, Err(AdminError::TokenMissing(_))));
    assert!(matches!(refused("0.0.0.0:0", token()).await, Err(AdminError::Listen(ListenError::NotLoopback(_)))));
    assert!(matches!(refused("[::]:0", token()).await, Err(AdminError::Listen(ListenError::NotLoopback(_)))));
}

#[tokio::test]
async fn channels_are_listed_shown_and_claimed_by_who_may_see_them() {
    let (admin, _stop) = start(loopback(), token(), ready()).await;
    let head = authorization(SECRET);
    for (method, path) in [("GET", "/channels"), ("GET", "/channels/x"), ("POST", "/channels/x/claim")] {
        assert_eq!(ask(&admin.address, method, path, "").await, (401, String::new()), "{path}");
    }
    let told = async |method: &str, path: &str| {
        let (status, body) = ask(&admin.address, method, path, &head).await;
        (status, serde_json::from_str::<Value>(&body).unwrap_or_default())
    };
    let listed = async |path: &str| {
        let (status, body) = told("GET", path).await;
        let sequences: Vec<u64> = body["channels"].as_array().unwrap().iter().map(|view| view["sequence"].as_u64().unwrap()).collect();
        (status, sequences)
    };
    assert_eq!(listed("/channels").await, (200, vec![1, 2]));
    assert_eq!(listed("/channels?after=1").await, (200, vec![2]));
    assert_eq!(listed("/channels?all=true&after=1").await, (200, vec![2, 3]));
    assert_eq!(told("GET", "/channels?after=x").await.0, 400);

    let known = view(2);
    let (status, shown) = told("GET", &format!("/channels/{}", known.channel)).await;
    assert_eq!((status, serde_json::from_value::<ChannelView>(shown).unwrap()), (200, known.clone()));
    for unknown in [ChannelId([9; 32]).to_string(), "zz".into()] {
        assert_eq!(told("GET", &format!("/channels/{unknown}")).await.0, 404);
    }

    let claim = format!("/channels/{}/claim", known.channel);
    assert_eq!(told("GET", &claim).await.0, 405);
    let (status, refused) = told("POST", &claim).await;
    let refused: Outcome = serde_json::from_value(refused).unwrap();
    assert_eq!((status, refused.unclaimed.unwrap().0.as_str()), (409, "uneconomic"));
    let (status, claimed) = told("POST", &format!("{claim}?any_fee=true")).await;
    assert_eq!((status, &claimed["claim"]["takes"], &claimed["channel"]), (200, &"100".into(), &known.channel.to_string().into()));

    let (broken, _stop) = start(loopback(), token(), not_ready()).await;
    assert_eq!(ask(&broken.address, "GET", "/channels", &head).await.0, 503);
}

#[tokio::test]
async fn payments_are_listed_shown_and_granted_by_who_may_see_them() {
    let (admin, _stop) = start(loopback(), token(), ready()).await;
    let head = authorization(SECRET);
    let id = |n: u8| TxId([n; 32]);
    for (method, path) in [("GET", "/payments"), ("GET", "/payments/x"), ("POST", "/payments/x/grant?seconds=1")] {
        assert_eq!(ask(&admin.address, method, path, "").await, (401, String::new()), "{path}");
    }
    let listed = async |query: &str| {
        let (status, body) = ask(&admin.address, "GET", &format!("/payments{query}"), &head).await;
        let page: Page = serde_json::from_str(&body).unwrap_or_default();
        let ids: Vec<u8> = page.entries.iter().map(|entry| entry.id.0[0]).collect();
        (status, ids, page.next.map(|next| next.to_string()))
    };
    assert_eq!(listed("").await, (200, vec![1, 2, 3], None));
    assert_eq!(listed("?limit=2").await, (200, vec![1, 2], Some("p2".into())));
    assert_eq!(listed("?after=p2&limit=9999999").await, (200, vec![3], None));
    assert_eq!(listed("?route=no%20such%26route&state=delivered&scheme=exact&since=0&until=9").await, (200, vec![], None));
    for wrong in ["?after=x", "?state=paid", "?scheme=upto", "?since=yesterday", "?limit=-1"] {
        assert_eq!(listed(wrong).await.0, 400, "{wrong}");
    }
    let told = async |method: &str, path: &str| {
        let (status, body) = ask(&admin.address, method, path, &head).await;
        (status, serde_json::from_str::<Value>(&body).unwrap_or_default())
    };
    let (status, shown) = told("GET", &format!("/payments/{}", id(1))).await;
    assert_eq!((status, &shown["state"], &shown["amount"], &shown["response"]), (200, &"settled".into(), &"25000000".into(), &Value::Null));
    for unknown in [id(9).to_string(), "zz".into()] {
        assert_eq!(told("GET", &format!("/payments/{unknown}")).await.0, 404);
        assert_eq!(told("POST", &format!("/payments/{unknown}/grant?seconds=1")).await.0, 404);
    }
    let grant = format!("/payments/{}/grant", id(1));
    assert_eq!(told("GET", &format!("{grant}?seconds=60")).await.0, 405);
    assert_eq!(told("POST", &grant).await.0, 400, "for how long?");
    for (seconds, expect) in [(0, "unchanged"), (60, "done")] {
        let (status, granted) = told("POST", &format!("{grant}?seconds={seconds}")).await;
        assert_eq!((status, &granted["granted"]), (200, &expect.into()));
    }
    let (broken, _stop) = start(loopback(), token(), not_ready()).await;
    assert_eq!(ask(&broken.address, "GET", "/payments", &head).await.0, 503);
}

#[tokio::test]
async fn the_store_is_compared_with_the_chain_for_who_may_ask() {
    let (admin, _stop) = start(loopback(), token(), ready()).await;
    let head = authorization(SECRET);
    assert_eq!(ask(&admin.address, "POST", "/reconcile", "").await, (401, String::new()));
    assert_eq!(ask(&admin.address, "GET", "/reconcile", &head).await.0, 405, "it may write");
    for (query, checked, next) in [("", 1, Some("c0.0")), ("?after=c0.0&repair=true", 2, None)] {
        let (status, body) = ask(&admin.address, "POST", &format!("/reconcile{query}"), &head).await;
        let page: Reconciled = serde_json::from_str(&body).unwrap();
        assert_eq!((status, page.checked, page.next.map(|next| next.to_string()).as_deref()), (200, checked, next), "{query}");
    }
    let (broken, _stop) = start(loopback(), token(), not_ready()).await;
    let (status, body) = ask(&broken.address, "POST", "/reconcile", &head).await;
    assert!(status == 503 && body.contains("catching_up"), "{status} {body}");
}

#[tokio::test]
async fn the_socket_is_its_owners_alone_needs_no_token_and_goes_away() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let (admin, stop) = start(Listen::Unix(path.clone()), None, ready()).await;
    let found = fs::symlink_metadata(&path).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing else is left beside it");
    assert_eq!(ask(&admin.address, "GET", "/metrics", "").await.0, 200);
    stop.send(true).unwrap();
    admin.finished.await.unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn a_move_is_begun_once_and_watched_by_who_may() {
    let (admin, _stop) = start(loopback(), token(), ready()).await;
    let to = json!({"to": "/new.db", "password": "right"}).to_string();
    let told = async |method: &str, token: &str, body: &str| {
        let head = format!("{token}content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let (status, body) = ask(&admin.address, method, "/store/migrate", &head).await;
        (status, serde_json::from_str::<Value>(&body).unwrap_or_default())
    };
    let known = authorization(SECRET);
    assert_eq!(told("POST", "", &to).await.0, 401);
    assert_eq!(told("GET", &known, "").await, (200, json!({"state": "none"})));
    for malformed in ["", "{}", r#"{"to": "x", "from": "y"}"#] {
        let (status, body) = told("POST", &known, malformed).await;
        assert_eq!((status, &body["state"]), (409, &json!("failed")), "{malformed}");
    }
    let running = json!({"state": "running", "part": "payments", "read": 3});
    assert_eq!(told("POST", &known, &to).await, (200, running.clone()));
    assert_eq!(told("POST", &known, &to).await, (409, json!({"state": "failed", "error": "a move is under way"})));
    assert_eq!(told("GET", &known, "").await, (200, running));
}

#[tokio::test]
async fn a_dead_socket_is_replaced_and_everything_else_in_the_way_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let (admin, stop) = start(Listen::Unix(path.clone()), None, ready()).await;
    assert_eq!(ask(&admin.address, "GET", "/healthz", "").await.0, 200);

    let (_keep, stopped) = watch::channel(false);
    let again =
        |path: &Path| serve(Settings { listen: Listen::Unix(path.into()), token: None }, ready(), Arc::<Still>::default(), stopped.clone());
    assert!(matches!(again(&path).await, Err(AdminError::Listen(ListenError::Running(_)))));
    let file = directory.path().join("notes");
    fs::write(&file, "keep").unwrap();
    assert!(matches!(again(&file).await, Err(AdminError::Listen(ListenError::NotASocket(_)))));
    assert_eq!(fs::read_to_string(&file).unwrap(), "keep");
    assert_eq!(ask(&admin.address, "GET", "/healthz", "").await.0, 200, "the running one is untouched");

    // A successor's socket survives the end of its predecessor.
    fs::remove_file(&path).unwrap();
    let (_second, _stop) = start(Listen::Unix(path.clone()), None, ready()).await;
    stop.send(true).unwrap();
    admin.finished.await.unwrap();
    assert!(path.exists());
}

#[tokio::test]
async fn the_health_command_tells_alive_ready_and_unreachable_apart() {
    let directory = tempfile::tempdir().unwrap();
    let (tcp, _tcp) = start(loopback(), token(), not_ready()).await;
    let (unix, _unix) = start(Listen::Unix(directory.path().join("a.sock")), None, ready()).await;
    let check = |address: &Listen, ready: bool| {
        let address = address.clone();
        tokio::task::spawn_blocking(move || health::probe(&address, ready))
    };
    assert_eq!(check(&tcp.address, false).await.unwrap().unwrap(), 200);
    assert_eq!(check(&tcp.address, true).await.unwrap().unwrap(), 503);
    assert_eq!(check(&unix.address, true).await.unwrap().unwrap(), 200);
    assert!(check(&Listen::Unix(directory.path().join("none")), false).await.unwrap().is_err());
}
