//! How many bytes a store takes for each payment and each charge.
//!
//! `store_size [COUNT] [BODY_BYTES] [redis]` writes that many of each into new embedded stores in a temporary folder, or into Redis servers of its own,
//! as a gateway would, and prints what they take: with their stored answers, and what stays for ever after those are pruned. Of Redis
//! its memory, and its append-only file once it was rewritten.

#[path = "../tests/support/redis.rs"]
mod redis_server;

use kas402::{
    binding::{
        escrow_v1::{ChannelConfig, SignedVoucher, TemplateId},
        exact_v1::decode,
    },
    protocol::{
        amount::Amount,
        ids::*,
        network::Network,
        policy::RouteId,
        requirements::{Asset, Finality, FinalityRule},
        time::UnixMillis,
    },
    store::{
        channels::*,
        embedded::EmbeddedStore,
        redis::{Durability, LeaseClock, Options, RedisStore, SHARDS, Timeouts, endpoint::Endpoint},
        *,
    },
};
use kaspa_consensus_core::{
    subnets::SUBNETWORK_ID_NATIVE,
    tx::{ScriptPublicKey, Transaction, TransactionInput, TransactionOutpoint, TransactionOutput},
};
use redis_server::{Server, wait_until};
use sha2::{Digest, Sha256};
use std::{path::Path, process::Command, sync::Arc, time::Duration};

const NOW: UnixMillis = UnixMillis(1_795_287_300_000);
const CHANNELS: u64 = 100;
/// Written at the same time, so that they share commits.
const AT_ONCE: u64 = 500;

fn hash(kind: &str, n: u64) -> [u8; 32] {
    Sha256::new().chain_update(kind).chain_update(n.to_be_bytes()).finalize().into()
}

fn sompi(amount: u64) -> Amount {
    Amount::from_sompi(amount).expect("a small amount")
}

fn identifier(n: u64) -> PaymentIdentifier {
    PaymentIdentifier::parse(&hex::encode(&hash("identifier", n)[..16])).expect("32 characters")
}

/// An ordinary JSON answer of this length.
fn answer(n: u64, bytes: usize) -> Option<StoredResponse> {
    let piece = |k: u64| format!("{{\"id\":\"{}\",\"score\":{}}},", hex::encode(&hash("body", n * 1_000 + k)[..6]), k * 37 % 1_000);
    let mut body = String::new();
    (0..).map(piece).take_while(|_| true).find(|piece| {
        body += piece;
        body.len() >= bytes
    });
    body.truncate(bytes);
    let headers = [("content-type", "application/json"), ("date", "Sat, 21 Nov 2026 18:55:00 GMT"), ("server", "upstream")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())).to_vec();
    (bytes > 0).then(|| StoredResponse { status: 200, headers, body: body.into() })
}

/// One input, payment and change, as wallets build it.
fn transaction(n: u64) -> Transaction {
    let coin = TransactionOutpoint::new(TxId(hash("coin", n)).into(), 0);
    let signature = [&[65][..], &hash("r", n), &hash("s", n), &[1]].concat();
    let script = |kind| ScriptPublicKey::from_vec(0, [&[32][..], &hash(kind, n), &[0xac]].concat());
    let outputs = vec![TransactionOutput::new(25_000_000, script("payee")), TransactionOutput::new(900_000_000, script("change"))];
    Transaction::new(0, vec![TransactionInput::new(coin, signature, 0, 1)], outputs, 0, SUBNETWORK_ID_NATIVE, 0, vec![])
}

async fn pay(store: Arc<dyn Store>, n: u64, body: usize) {
    let transaction = transaction(n);
    let key = PaymentKey { network: Network::Testnet10, txid: transaction.id().into() };
    let claim = Claim {
        key,
        transaction: decode::encode(&transaction),
        output_index: 0,
        from_channel: None,
        amount: sompi(25_000_000),
        pay_to: "kaspatest:qppyysjzgfpyysjzgfpyysjzgfpyysjzgfpyysjzgfpyysjzgfpyy7rhj7a58".to_owned(),
        route: RouteId("chat-completions".to_owned()),
        summary: "POST https://api.example.com/v1/chat/completions".to_owned(),
        identity: RequestIdentity(hash("identity", n)),
        request_hash: RequestHash(hash("request", n)),
        identifier: Some(identifier(n)),
        finality: FinalityRule { level: Finality::Accepted, depth: 0 },
        accepted_until: NOW,
        offer_daa: 400_000_000,
        entitlement_seconds: 86_400,
        holder: HolderId([7; 16]),
        hold_millis: 10_000,
        late: false,
    };
    let ClaimOutcome::Fresh(held) = store.claim(&claim, NOW).await.expect("claimed") else { panic!("not new") };
    let acceptance = Acceptance { block: BlockHash(hash("block", n)), blue_score: 390_000_000 + n, daa_score: 400_000_000 + n };
    let payer = Some(claim.pay_to.clone());
    for fact in [
        Fact::Submitted(Submission::Own),
        Fact::Settled { acceptance: Some(acceptance), payer },
        Fact::Forwarding,
        Fact::Delivered { status: 200, response: answer(n, body) },
    ] {
        assert_eq!(store.advance(&held, fact, NOW).await.expect("stored"), Advanced::Done);
    }
    store.observe(&key, ChainFact::Final, NOW).await.expect("stored");
}

fn config(channel: u64) -> ChannelConfig {
    ChannelConfig {
        network: Network::Testnet10,
        asset: Asset::Kas,
        template_id: TemplateId::EscrowV1,
        client_public_key: XOnlyKey(hash("client", channel)),
        server_public_key: XOnlyKey(hash("server", 0)),
        pay_to: "kaspatest:qppyysjzgfpyysjzgfpyysjzgfpyysjzgfpyysjzgfpyysjzgfpyy7rhj7a58".to_owned(),
        refund_address: "kaspatest:qppyysjzgfpyysjzgfpyysjzgfpyysjzgfpyysjzgfpyysjzgfpyy7rhj7a58".to_owned(),
        refund_timeout_daa: 450_000_000,
        salt: Salt(hash("salt", channel)),
    }
}

async fn charge(store: Arc<dyn Store>, channel: u64, count: u64, body: usize) {
    let config = config(channel);
    let id = config.channel_id();
    let outpoint = Outpoint { txid: TxId(hash("deposit", channel)), index: 0 };
    let (funding, reserve) = (sompi(1_000_000_000_000_000), sompi(20_000_000));
    let opening = Opening { id, config, outpoint, funding, reserve, transaction: None, funded_daa: Some(1) };
    store.open_channel(&opening, NOW).await.expect("opened");
    for k in 0..count {
        let n = channel * 1_000_000_000 + k;
        let (identifier, nonce) = (identifier(n), *hash("nonce", n).first_chunk().expect("16 of 32"));
        let identity = RequestIdentity(hash("identity", n));
        let purpose = Purpose::Request { identifier: identifier.clone(), nonce, identity };
        let ask = LeaseAsk { channel: id, purpose, holder: HolderId([7; 16]), hold_millis: 10_000 };
        let Leased::Held(lease, record) = store.lease(&ask, NOW).await.expect("leased") else { panic!("busy") };
        let ceiling = sompi(1_000_000);
        let amount = record.active().checked_add(ceiling).expect("a small sum");
        let signature: [u8; 64] = [hash("r", n), hash("s", n)].concat().try_into().expect("64 bytes");
        let terms = ChargeTerms {
            identifier,
            nonce,
            identity,
            request_hash: RequestHash(hash("request", n)),
            requirements_hash: hash("requirements", 0),
            outpoint,
            voucher: SignedVoucher { amount, signature: SchnorrSignature(signature) },
            ceiling,
            route: RouteId("chat-completions".to_owned()),
            summary: "POST https://api.example.com/v1/chat/completions".to_owned(),
        };
        let charge = Charge {
            terms,
            charge: ceiling,
            commitment: CommitmentId(hash("commitment", n)),
            charged_before: record.parts.charged,
            claimed: record.parts.claimed,
            status: 200,
            response: answer(n, body),
        };
        let step = store.advance_channel(&lease, ChannelFact::Committed(Box::new(charge)), NOW).await.expect("stored");
        assert!(matches!(step, ChannelStep::Done(_)), "{step:?}");
    }
}

async fn write(store: &Arc<dyn Store>, count: u64, body: usize, charges: bool) {
    if charges {
        let channels = (0..CHANNELS).map(|channel| tokio::spawn(charge(store.clone(), channel, count / CHANNELS, body)));
        for done in channels.collect::<Vec<_>>() {
            done.await.expect("written");
        }
    } else {
        for first in (0..count).step_by(usize::try_from(AT_ONCE).expect("small")) {
            let some = (first..count.min(first + AT_ONCE)).map(|n| tokio::spawn(pay(store.clone(), n, body)));
            for done in some.collect::<Vec<_>>() {
                done.await.expect("written");
            }
        }
    }
}

/// The file, whole.
async fn embedded(path: &Path, count: u64, body: usize, charges: bool) -> String {
    let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(path, StoreId([1; 16])).expect("a new store"));
    write(&store, count, body, charges).await;
    // The last reference: the log is moved into the database.
    assert_eq!(Arc::strong_count(&store), 1, "nobody else has it");
    drop(store);
    let bytes = std::fs::metadata(path).expect("written").len();
    std::fs::remove_file(path).expect("it is ours");
    format!("{:>6} bytes", bytes / count)
}

fn info(server: &Server, section: &str) -> String {
    let info = Command::new("redis-cli").args(["-p", &server.port.to_string(), "INFO", section]).output().expect("redis-cli is installed");
    String::from_utf8(info.stdout).expect("text")
}

fn field(server: &Server, section: &str, name: &str) -> u64 {
    let info = info(server, section);
    let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("{name} in {info}"))
}

/// What the server's memory grows by, and its append-only file after it was rewritten.
async fn redis(count: u64, body: usize, charges: bool) -> String {
    let server = Server::start(&["--appendonly", "yes", "--appendfsync", "everysec"]);
    let (quick, patient) = (Duration::from_secs(5), Duration::from_secs(60));
    let options = Options {
        endpoint: Endpoint::parse(&server.url()).expect("an address"),
        ca_pem: None,
        prefix: "kas402".to_owned(),
        durability: Durability::Standard,
        replicas: None,
        timeouts: Timeouts { connect: quick, answer: patient, verb: patient },
        shards: SHARDS,
        lease_clock: LeaseClock::Server,
        new_store_id: StoreId([1; 16]),
        process: [1; 16],
    };
    let store: Arc<dyn Store> = Arc::new(RedisStore::open(&options).await.expect("a new store"));
    let before = field(&server, "memory", "used_memory");
    write(&store, count, body, charges).await;
    let memory = field(&server, "memory", "used_memory") - before;
    let rewritten = Command::new("redis-cli").args(["-p", &server.port.to_string(), "BGREWRITEAOF"]).status();
    assert!(rewritten.expect("redis-cli is installed").success());
    wait_until("the append-only file is rewritten", || {
        let info = info(&server, "persistence");
        info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0")
    });
    let files = std::fs::read_dir(server.directory().join("appendonlydir")).expect("an append-only file");
    let file: u64 = files.map(|file| file.and_then(|file| file.metadata()).expect("a file").len()).sum();
    format!("{:>6} bytes of memory, {:>6} of file", memory / count, file / count)
}

#[tokio::main]
async fn main() {
    let mut words = std::env::args().skip(1);
    let mut number = |default: u64| words.next().map_or(default, |word| word.parse().expect("a number"));
    let (count, body) = (number(100_000), usize::try_from(number(4_096)).expect("a length"));
    let in_redis = words.next().is_some_and(|word| word == "redis");
    let folder = std::env::temp_dir().join(format!("kas402-size-{}", std::process::id()));
    std::fs::create_dir(&folder).expect("a new folder");
    for (what, charges) in [("payment", false), ("charge", true)] {
        for (with, body) in [("no answer kept: what stays for ever".to_owned(), 0), (format!("a JSON answer of {body} bytes kept"), body)] {
            let path = folder.join(format!("{what}-{body}.db"));
            let began = std::time::Instant::now();
            let bytes = if in_redis { redis(count, body, charges).await } else { embedded(&path, count, body, charges).await };
            println!("{bytes} per {what}, {with} ({count} in {:.0?})", began.elapsed());
        }
    }
    std::fs::remove_dir_all(&folder).expect("it is ours");
}
