//! Servers that ask for a password or speak TLS only, and one whose memory is full.

use super::*;
use crate::store::{channels::*, conformance::*};

/// The pair that the proxy's tests use: `localhost` and 127.0.0.1, signed by itself.
const CERTIFICATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/proxy/tests/tls/cert.pem");
const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/proxy/tests/tls/key.pem");

async fn charges(store: &RedisStore, k: u64) {
    store.open_channel(&opening(1), NOW).await.unwrap();
    let Leased::Held(lease, record) = store.lease(&ask(1, request(k)), NOW).await.unwrap() else { panic!("not held") };
    let step = store.advance_channel(&lease, committed(&record, k, 10, 10), NOW).await.unwrap();
    assert!(matches!(step, ChannelStep::Done(_)), "{step:?}");
}

async fn refusal(options: &Options) -> String {
    RedisStore::open(options).await.map(drop).unwrap_err().to_string()
}

#[tokio::test]
async fn a_server_behind_tls_is_known_by_its_certificate() {
    let port = server::free_port().to_string();
    let tls = ["--tls-port", &port, "--tls-cert-file", CERTIFICATE, "--tls-key-file", KEY, "--tls-auth-clients", "no"];
    let _server = Server::start(&[&SAFE[..], &tls, &["--bind", "127.0.0.1 127.0.0.2"]].concat());
    let quick = Timeouts { connect: Duration::from_secs(5), answer: Duration::from_secs(5), verb: Duration::from_secs(10) };
    let trusting = |host: &str| {
        let url = format!("rediss://{host}:{port}");
        Options { ca_pem: Some(std::fs::read(CERTIFICATE).unwrap()), timeouts: quick, ..options(&url, 1) }
    };
    for (k, host) in [(1, "localhost"), (2, "127.0.0.1")] {
        let store = RedisStore::open(&trusting(host)).await.unwrap();
        charges(&store, k).await;
    }
    let short = Timeouts { verb: Duration::from_millis(500), ..quick };
    for (what, wrong) in [
        ("an unknown authority", Options { ca_pem: None, ..trusting("localhost") }),
        ("another name", trusting("127.0.0.2")),
        ("no TLS", options(&format!("redis://localhost:{port}"), 1)),
    ] {
        let error = refusal(&Options { timeouts: short, ..wrong }).await;
        assert!(!error.is_empty() && !error.contains("layout"), "{what}: {error}");
    }
}

/// The servers want the password, and the sentinels want it or want none.
#[tokio::test]
async fn sentinels_lead_to_a_master_that_wants_a_password() {
    for guarded in ["", "requirepass right\n"] {
        let master = Server::start(&[&SAFE[..], &["--requirepass", "right"]].concat());
        let sentinel =
            Server::start_sentinel(&format!("{guarded}sentinel monitor shop 127.0.0.1 {} 1\nsentinel auth-pass shop right\n", master.port));
        let url = |login: &str| format!("redis-sentinel://{login}127.0.0.1:{}/shop", sentinel.port);
        let store = RedisStore::open(&options(&url(":right@"), 1)).await.unwrap();
        charges(&store, 1).await;
        let short = Timeouts { verb: Duration::from_millis(500), ..options(&url(""), 1).timeouts };
        for login in ["", ":wrong@"] {
            refusal(&Options { timeouts: short, ..options(&url(login), 1) }).await;
        }
    }
}

/// What does not fit any more is refused whole, and nothing that was acknowledged goes.
#[tokio::test]
async fn a_server_whose_memory_is_full_refuses_and_goes_on_when_there_is_room() {
    let server = Server::start(&SAFE);
    let store = RedisStore::open(&options(&server.url(), 1)).await.unwrap();
    charges(&store, 1).await;
    let named = Claim { identifier: identifier(1), ..claim(1) };
    let ClaimOutcome::Fresh(held) = store.claim(&named, NOW).await.unwrap() else { panic!("not fresh") };
    let Leased::Held(lease, record) = store.lease(&ask(1, request(2)), NOW).await.unwrap() else { panic!("not held") };
    cluster::cli(&server, &["CONFIG", "SET", "maxmemory", "1mb"]);
    let refused = |error: StoreError| assert!(matches!(&error, StoreError::Unavailable(why) if why.contains("OOM")), "{error}");
    refused(store.advance_channel(&lease, committed(&record, 2, 10, 10), NOW).await.unwrap_err());
    refused(store.advance(&held, settled(), NOW).await.unwrap_err());
    refused(store.open_channel(&opening(2), NOW).await.unwrap_err());
    refused(store.claim(&Claim { identifier: identifier(2), ..claim(2) }, NOW).await.unwrap_err());
    assert_eq!(store.channel(&id(1)).await.unwrap().unwrap().charges, 1, "reading goes on");
    assert_eq!((store.totals().await.unwrap().pending, store.channel_totals().await.unwrap().charged_sompi), (1, 10));
    cluster::cli(&server, &["CONFIG", "SET", "maxmemory", "0"]);
    let step = store.advance_channel(&lease, committed(&record, 2, 10, 10), NOW).await.unwrap();
    assert!(matches!(step, ChannelStep::Done(_)), "{step:?}");
    assert_eq!(store.advance(&held, settled(), NOW).await.unwrap(), Advanced::Done);
    assert!(matches!(store.open_channel(&opening(2), NOW).await.unwrap(), Opened::New(_)));
    assert!(matches!(store.claim(&claim(2), NOW).await.unwrap(), ClaimOutcome::Fresh(_)));
    assert_eq!(store.channel_totals().await.unwrap().charged_sompi, 20);
}
