//! Lost answers, crashes in the middle, servers that are not there or not fit.

use super::{
    proxy::{Faults, proxy},
    *,
};
use crate::{
    protocol::ids::Outpoint,
    store::{channels::*, codec, conformance::*},
};
use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};
use tokio::time::Instant;

/// A store behind a proxy.
struct Behind {
    store: Arc<RedisStore>,
    faults: Arc<Faults>,
    server: Server,
}

async fn behind() -> Behind {
    let server = Server::start(&SAFE);
    let faults = Arc::new(Faults::default());
    let port = proxy(server.port, faults.clone()).await;
    let store = Arc::new(RedisStore::open(&options(&format!("redis://127.0.0.1:{port}"), 1)).await.unwrap());
    Behind { store, faults, server }
}

impl Behind {
    /// The answer to the next write is lost after the server did it.
    fn lose_next(&self) {
        self.faults.lose_answer_over.store(400, Ordering::SeqCst);
    }

    fn lost(&self) -> u64 {
        assert_eq!(self.faults.lose_answer_over.load(Ordering::SeqCst), 0, "a write came by");
        self.faults.lost.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn what_is_sent_again_after_its_answer_was_lost_is_done_once() {
    let behind = behind().await;
    let store = &behind.store;
    behind.lose_next();
    let opened = store.open_channel(&opening(1), NOW).await.unwrap();
    assert!(matches!(opened, Opened::New(_)), "{opened:?}");
    assert_eq!(behind.lost(), 1);
    for k in 1..=3 {
        if k == 2 {
            behind.faults.lose_answer_over.store(200, Ordering::SeqCst);
        }
        let Leased::Held(lease, record) = store.lease(&ask(1, request(k)), NOW).await.unwrap() else { panic!("not held") };
        behind.lose_next();
        let step = store.advance_channel(&lease, committed(&record, k, 10, 10), NOW).await.unwrap();
        assert!(matches!(step, ChannelStep::Done(_)), "{step:?}");
    }
    assert_eq!(behind.lost(), 5);
    assert_eq!(store.charges(&id(1), 0, 9).await.unwrap().len(), 3);
    assert_eq!(store.channel_totals().await.unwrap().charged_sompi, 30);
    behind.lose_next();
    let claim = Claim { identifier: identifier(1), ..claim(1) };
    let ClaimOutcome::Fresh(held) = store.claim(&claim, NOW).await.unwrap() else { panic!("not fresh") };
    behind.lose_next();
    assert_eq!(store.advance(&held, settled(), NOW).await.unwrap(), Advanced::Done);
    assert_eq!(behind.lost(), 7);
    let totals = store.totals().await.unwrap();
    assert_eq!((totals.settled, totals.charged_sompi), (1, 25_000_001));
}

/// A lease or a hold that was given to somebody who waits no more is taken over by the same process, and by no other.
#[tokio::test]
async fn a_lease_whose_answer_never_came_blocks_nobody_here() {
    let behind = behind().await;
    let store = RedisStore::open(&Options { timeouts: SHORT, ..options(&behind.server.url(), 1) }).await.unwrap();
    store.open_channel(&opening(1), NOW).await.unwrap();
    for _ in 0..8 {
        store.channel(&id(1)).await.unwrap();
    }
    behind.server.signal("STOP");
    store.lease(&ask(1, request(1)), NOW).await.unwrap_err();
    let given_up = tokio::time::timeout(Duration::from_millis(50), store.lease(&ask(1, request(1)), NOW)).await;
    assert!(given_up.is_err(), "the request went away");
    behind.server.signal("CONT");
    // The server gives the leases to nobody.
    let leased =
        "for _, key in ipairs(redis.call('KEYS', '*:c:*')) do if redis.call('HEXISTS', key, 'lf') == 1 then return 1 end end return 0";
    server::wait_until("the lease was given", || cluster::cli(&behind.server, &["--raw", "EVAL", leased, "0"]).starts_with('1'));
    assert!(matches!(behind.store.lease(&ask(1, request(1)), NOW).await.unwrap(), Leased::Busy { same: true, .. }));
    assert!(matches!(store.lease(&ask(1, request(1)), NOW).await.unwrap(), Leased::Held(..)));
    // A living one of this process is not taken over.
    assert!(matches!(store.lease(&ask(1, request(1)), NOW).await.unwrap(), Leased::Busy { same: true, .. }));
    // Holds of payments alike.
    for n in 0..8 {
        store.payment(&key(n)).await.unwrap();
    }
    let ClaimOutcome::Fresh(held) = store.claim(&claim(1), NOW).await.unwrap() else { panic!("not fresh") };
    assert_eq!(store.advance(&held, Fact::Released, NOW).await.unwrap(), Advanced::Done);
    let name = {
        let attempt = store.orphans.attempt(&store.keys.payment(&key(2)).record, &b"somebody's name!".to_vec());
        drop(attempt);
        b"somebody's name!".to_vec()
    };
    let ClaimOutcome::Fresh(_held) = store.claim(&claim(2), NOW).await.unwrap() else { panic!("not fresh") };
    assert_eq!(seen(store.claim(&claim(2), NOW).await.unwrap()).0.name(), "InFlight");
    let by = store.link.deadline();
    let place = store.keys.payment(&key(2));
    store.link.command("HSET", &[&place.record, b"r", &name], Effect::Note, by).await.unwrap();
    assert_eq!(seen(store.claim(&claim(2), NOW).await.unwrap()).0.name(), "Resumed");
    assert_eq!(seen(behind.store.claim(&claim(2), NOW).await.unwrap()).0.name(), "InFlight", "by no other process");
}

#[tokio::test]
async fn a_server_that_forgot_the_scripts_is_told_again() {
    let behind = behind().await;
    behind.store.open_channel(&opening(1), NOW).await.unwrap();
    cluster::cli(&behind.server, &["SCRIPT", "FLUSH"]);
    let Leased::Held(lease, record) = behind.store.lease(&ask(1, request(1)), NOW).await.unwrap() else { panic!("not held") };
    cluster::cli(&behind.server, &["SCRIPT", "FLUSH"]);
    let step = behind.store.advance_channel(&lease, committed(&record, 1, 10, 10), NOW).await.unwrap();
    assert!(matches!(step, ChannelStep::Done(_)), "{step:?}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable_and_one_that_is_silent_leaves_writes_unknown() {
    let server = Server::start(&SAFE);
    let faults = Arc::new(Faults::default());
    let port = proxy(server.port, faults.clone()).await;
    let options = Options { timeouts: SHORT, ..options(&format!("redis://127.0.0.1:{port}"), 1) };
    let store = RedisStore::open(&options).await.unwrap();
    store.open_channel(&opening(1), NOW).await.unwrap();
    let Leased::Held(lease, record) = store.lease(&ask(1, request(1)), NOW).await.unwrap() else { panic!("not held") };
    faults.closed.store(true, Ordering::SeqCst);
    let began = std::time::Instant::now();
    let error = store.lease(&ask(1, request(2)), NOW).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_) | StoreError::Unknown(_)), "{error}");
    let error = store.channel(&id(1)).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    let error = store.claim(&claim(1), NOW).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "nothing was sent but a question: {error}");
    assert!(began.elapsed() < Duration::from_secs(60), "each verb ends in time");
    faults.closed.store(false, Ordering::SeqCst);
    // It resumes by itself; the charge of the request in the middle is made.
    let step = store.advance_channel(&lease, committed(&record, 1, 10, 10), NOW).await.unwrap();
    assert!(matches!(step, ChannelStep::Done(_)), "{step:?}");
    // Stopped, not closed: the write may be done.
    let Leased::Held(lease, record) = store.lease(&ask(1, request(3)), NOW).await.unwrap() else { panic!("not held") };
    for _ in 0..8 {
        // Every connection is made again, so that the charge is sent.
        store.channel(&id(1)).await.unwrap();
    }
    server.signal("STOP");
    let error = store.advance_channel(&lease, committed(&record, 3, 10, 10), NOW).await.unwrap_err();
    server.signal("CONT");
    assert!(matches!(error, StoreError::Unknown(_)), "{error}");
    let charges = store.channel(&id(1)).await.unwrap().unwrap().charges;
    assert!([1, 2].contains(&charges), "unknown means either");
}

#[tokio::test]
async fn what_a_crash_left_half_way_is_healed_by_its_next_use() {
    let server = Server::start(&SAFE);
    let store = RedisStore::open(&Options { timeouts: SHORT, ..options(&server.url(), 1) }).await.unwrap();
    let by = || store.link.deadline();
    // An identifier that points to a payment which was never written.
    let name = store.keys.identifier(key(1).network, &identifier(1).unwrap());
    let point = |stamp: &str| [codec::key_bytes(&key(1)).as_slice(), stamp.as_bytes()].concat();
    let fresh = format!("{:016}", store.server_millis(by()).await.unwrap());
    store.link.command("HSET", &[&name.names, &name.name, &point(&fresh)], Effect::Note, by()).await.unwrap();
    let other = Claim { identity: identity(1), identifier: identifier(1), ..claim(2) };
    let error = store.claim(&other, NOW).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "whoever set it may still write it: {error}");
    // The same request goes on at once.
    let same = Claim { identifier: identifier(1), ..claim(1) };
    let ClaimOutcome::Fresh(held) = store.claim(&same, NOW).await.unwrap() else { panic!("not fresh") };
    assert_eq!(store.advance(&held, Fact::Rejected, NOW).await.unwrap(), Advanced::Done);
    store.link.command("HSET", &[&name.names, &name.name, &point("0000000000000001")], Effect::Note, by()).await.unwrap();
    assert_eq!(seen(store.claim(&other, NOW).await.unwrap()).0, Seen::Fresh, "abandoned");
    // A script whose channel was never written; an outpoint too.
    let (config, salted) = (config(1), salted(1, 9));
    let script = store.keys.script(&rules_script_key(&config));
    let target = [config.channel_id().0.as_slice(), &codec::channels::outpoint_bytes(outpoint(1)), fresh.as_bytes()].concat();
    store.link.command("HSET", &[&script.names, &script.name, &target], Effect::Note, by()).await.unwrap();
    let opened = store.open_channel(&opening_of(salted.clone(), 2), NOW).await.unwrap();
    assert!(matches!(opened, Opened::ScriptInUse), "{opened:?}");
    let opened = store.open_channel(&opening(1), NOW).await.unwrap();
    assert!(matches!(opened, Opened::New(_)), "the same opening goes on: {opened:?}");
    store.observe_channel(&id(1), ChannelSighting::NeverFunded, NOW).await.unwrap();
    let abandoned = [&target[..68], b"0000000000000001"].concat();
    store.link.command("HSET", &[&script.names, &script.name, &abandoned], Effect::Note, by()).await.unwrap();
    let opened = store.open_channel(&opening_of(salted, 2), NOW).await.unwrap();
    assert!(matches!(opened, Opened::New(_)), "{opened:?}");
    // The outpoint stays with the channel it was set to, also when that was never written.
    let opened = store.open_channel(&opening_of(conformance_config(5), 1), NOW).await.unwrap();
    assert!(matches!(opened, Opened::OutpointInUse), "{opened:?}");
}

fn conformance_config(n: u64) -> ChannelConfig {
    config(n)
}

fn rules_script_key(config: &ChannelConfig) -> [u8; 32] {
    crate::store::channels::rules::script_key(config)
}

/// One client per channel, charging as fast as it is let.
struct Load {
    done: Arc<AtomicBool>,
    acknowledged: Arc<Vec<AtomicU64>>,
    clients: Vec<tokio::task::JoinHandle<Vec<u64>>>,
}

impl Load {
    fn over(store: &Arc<RedisStore>, channels: u64) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let acknowledged: Arc<Vec<AtomicU64>> = Arc::new((0..channels).map(|_| AtomicU64::new(0)).collect());
        let clients = (0..channels).map(|n| {
            let (store, done, counts) = (store.clone(), done.clone(), acknowledged.clone());
            tokio::spawn(async move {
                let (mut own, mut k) = (Vec::new(), 0);
                while !done.load(Ordering::SeqCst) {
                    k += 1;
                    let now = NOW.plus_millis(k * HOLD_MILLIS);
                    let Ok(Leased::Held(lease, record)) = store.lease(&ask(n, request(k)), now).await else { continue };
                    if let Ok(ChannelStep::Done(_)) = store.advance_channel(&lease, committed(&record, k, 1, 1), now).await {
                        own.push(k);
                        counts[usize::try_from(n).unwrap()].fetch_add(1, Ordering::SeqCst);
                    }
                }
                own
            })
        });
        let clients = clients.collect();
        Self { done, acknowledged, clients }
    }

    /// Every client was served so many times more.
    async fn goes_on(&self, times: u64) {
        let now: Vec<u64> = self.acknowledged.iter().map(|count| count.load(Ordering::SeqCst)).collect();
        let served = || self.acknowledged.iter().zip(&now).all(|(count, before)| count.load(Ordering::SeqCst) >= before + times);
        while !served() {
            tokio::time::sleep(Duration::from_millis(5)).await; // why: what follows comes in the middle of the load, however slow that is
        }
    }

    /// Everything acknowledged is in the ledger, and nothing twice. Returns how much is there.
    async fn ended(self, store: &RedisStore) -> u64 {
        self.done.store(true, Ordering::SeqCst);
        let mut total = 0;
        for (n, client) in (0..).zip(self.clients) {
            let rows = {
                let acknowledged = client.await.unwrap();
                let rows = store.charges(&id(n), 0, u32::MAX).await.unwrap();
                let stored: BTreeSet<_> = rows.iter().map(|row| row.terms.identifier.clone()).collect();
                assert_eq!(stored.len(), rows.len(), "each identifier once");
                for k in &acknowledged {
                    assert!(stored.contains(&named(*k)), "charge {k} of channel {n} was acknowledged");
                }
                rows.len()
            };
            total += u64::try_from(rows).unwrap();
        }
        total
    }
}

/// kill -9 of the server again and again while clients charge: what was acknowledged is there, and nothing twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_killed_under_load_loses_nothing_that_was_acknowledged() {
    let mut server = Server::start(&SAFE);
    let store = Arc::new(RedisStore::open(&options(&server.url(), 1)).await.unwrap());
    const CHANNELS: u64 = 6;
    for n in 0..CHANNELS {
        store.open_channel(&opening(n), NOW).await.unwrap();
    }
    let load = Load::over(&store, CHANNELS);
    for _ in 0..5 {
        load.goes_on(3).await;
        server.kill();
        server.run();
    }
    let total = load.ended(&store).await;
    assert_eq!(store.channel_totals().await.unwrap().charged_sompi, u128::from(total));
}

async fn unfit(server: &Server, durability: Durability, replicas: Option<u64>) -> Vec<&'static str> {
    let options = Options { durability, replicas, ..options(&server.url(), 1) };
    match RedisStore::open(&options).await {
        Ok(_) => Vec::new(),
        Err(OpenError::Unfit(misfits)) => misfits.iter().map(Misfit::code).collect(),
        Err(OpenError::Store(error)) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_server_that_can_lose_money_is_refused() {
    use Durability::{Standard, Strict};
    let server = Server::start(&SAFE);
    assert_eq!(unfit(&server, Strict, None).await, [""; 0]);
    assert_eq!(unfit(&server, Strict, Some(1)).await, ["redis_replicas"]);
    for (setting, value, strict, standard) in [
        ("maxmemory-policy", "allkeys-lru", vec!["redis_eviction"], vec!["redis_eviction"]),
        ("maxmemory-policy", "noeviction", vec![], vec![]),
        ("no-appendfsync-on-rewrite", "yes", vec!["redis_fsync_on_rewrite"], vec![]),
        ("no-appendfsync-on-rewrite", "no", vec![], vec![]),
        ("appendfsync", "everysec", vec!["redis_appendfsync"], vec![]),
        ("appendfsync", "no", vec!["redis_appendfsync"], vec!["redis_appendfsync"]),
        ("appendfsync", "always", vec![], vec![]),
        ("appendonly", "no", vec!["redis_appendonly"], vec!["redis_appendonly"]),
    ] {
        cluster::cli(&server, &["CONFIG", "SET", setting, value]);
        assert_eq!(unfit(&server, Strict, None).await, strict, "{setting} {value}");
        assert_eq!(unfit(&server, Standard, None).await, standard, "{setting} {value}");
    }
}

#[tokio::test]
async fn the_shown_configuration_is_fit_for_strict() {
    let server = Server::start(&["--include", concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/redis.conf")]);
    assert_eq!(unfit(&server, Durability::Strict, None).await, [""; 0]);
}

/// The rules of `docs/operating.md`, word for word.
#[tokio::test]
async fn the_documented_acl_user_is_enough_and_no_more() {
    let server = Server::start(&SAFE);
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operating.md")).unwrap();
    let (_, rest) = text.split_once("ACL SETUSER kas402 ").expect("the manual shows the user");
    let (rules, _) = rest.split_once("\n```").unwrap();
    let rules = rules.replace("\\\n", " ").replace("PASSWORD", "secret");
    let rules: Vec<&str> = rules.split_whitespace().collect();
    let set = cluster::cli(&server, &[&["ACL", "SETUSER", "kas402"], rules.as_slice()].concat());
    assert_eq!(set.trim(), "OK");
    let url = format!("redis://kas402:secret@127.0.0.1:{}", server.port);
    let store = RedisStore::open(&Options { durability: Durability::Strict, ..options(&url, 1) }).await.unwrap();
    store.open_channel(&opening(1), NOW).await.unwrap();
    let Leased::Held(lease, record) = store.lease(&ask(1, request(1)), NOW).await.unwrap() else { panic!("not held") };
    let answered = Charge { response: Some(response("kept")), ..charge(&record, 1, 50, 40) };
    store.advance_channel(&lease, ChannelFact::Committed(Box::new(answered)), NOW).await.unwrap();
    let Leased::Held(lease, record) = store.lease(&ask(1, Purpose::Upkeep), NOW).await.unwrap() else { panic!("not held") };
    store.advance_channel(&lease, ChannelFact::Renewed { hold_millis: 5_000 }, NOW).await.unwrap();
    store.advance_channel(&lease, built(&step(&record, 50, 0)), NOW).await.unwrap();
    for sighting in [accepted(50), taken_back(50), accepted(50), closed_for_good(Outpoint { txid: tx(50), index: 1 })] {
        assert_eq!(store.observe_channel(&id(1), sighting, NOW).await.unwrap(), Observed::Done);
    }
    assert_eq!(store.charges(&id(1), 0, 9).await.unwrap().len(), 1);
    assert_eq!(store.settled_moves(&id(1), 0, 9).await.unwrap().len(), 1);
    let claim = Claim { identifier: identifier(1), ..claim(1) };
    let ClaimOutcome::Fresh(held) = store.claim(&claim, NOW).await.unwrap() else { panic!("not fresh") };
    assert_eq!(store.advance(&held, Fact::Rejected, NOW).await.unwrap(), Advanced::Done);
    store.set_checkpoint(Checkpoint { block: crate::protocol::ids::BlockHash([3; 32]), blue_score: 8 }).await.unwrap();
    assert!(store.checkpoint().await.unwrap().is_some());
    assert!(store.add_server_key(crate::protocol::ids::XOnlyKey([2; 32])).await.unwrap());
    assert_eq!(store.prune(NOW.plus_seconds(9)).await.unwrap(), 1);
    assert_eq!(store.payments(&query(Selection::All)).await.unwrap(), []);
    store.totals().await.unwrap();
    // Nobody else's keys, and nothing that could lose money.
    let by = store.link.deadline();
    for (command, args) in [("FLUSHALL", vec![]), ("CONFIG", vec!["SET", "appendonly", "no"]), ("GET", vec!["other:key"])] {
        let args: Vec<&[u8]> = args.iter().map(|arg: &&str| arg.as_bytes()).collect();
        let error = store.link.command(command, &args, Effect::Read, by).await.unwrap_err();
        assert!(error.to_string().to_uppercase().contains("PERM"), "{command}: {error}");
    }
}

/// A user that may not ask for settings: `standard` goes by what the server tells everybody.
#[tokio::test]
async fn a_user_that_may_not_read_settings_is_told_so() {
    let server = Server::start(&SAFE);
    cluster::cli(&server, &["ACL", "SETUSER", "blind", "on", ">pw", "~*", "+@all", "-config"]);
    let url = format!("redis://blind:pw@127.0.0.1:{}", server.port);
    RedisStore::open(&options(&url, 1)).await.unwrap();
    let strict = Options { durability: Durability::Strict, ..options(&url, 1) };
    let Err(OpenError::Unfit(misfits)) = RedisStore::open(&strict).await.map(drop) else { panic!("strict is refused") };
    assert_eq!(misfits[0].code(), "redis_config_denied");
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_layout_are_told() {
    let server = Server::start(&["--appendonly", "yes", "--requirepass", "right"]);
    let open = |url: String| async move { RedisStore::open(&options(&url, 1)).await.map(drop).unwrap_err().to_string() };
    let error = open(format!("redis://:wrong@127.0.0.1:{}", server.port)).await;
    assert!(error.contains("WRONGPASS") || error.to_lowercase().contains("auth"), "{error}");
    let store = RedisStore::open(&options(&format!("redis://:right@127.0.0.1:{}", server.port), 1)).await.unwrap();
    let key = store.keys.of(0, keys::names::STORE);
    store.link.command("HSET", &[&key, b"version", b"2"], Effect::Note, store.link.deadline()).await.unwrap();
    let error = open(format!("redis://:right@127.0.0.1:{}", server.port)).await;
    assert!(error.contains("layout 2"), "{error}");
}

/// A master and its replicas: what is answered is with all of them.
#[tokio::test]
async fn strict_answers_when_the_replicas_have_it() {
    let master = Server::start(&SAFE);
    let replica = Server::start(&[&SAFE[..], &["--replicaof", "127.0.0.1", &master.port.to_string()]].concat());
    server::wait_until("the replica is online", || cluster::cli(&master, &["INFO", "replication"]).contains("state=online"));
    let strict = Options { durability: Durability::Strict, replicas: Some(1), timeouts: SHORT, ..options(&master.url(), 1) };
    let store = RedisStore::open(&strict).await.unwrap();
    store.open_channel(&opening(1), NOW).await.unwrap();
    let before = store.commands();
    let Leased::Held(lease, record) = store.lease(&ask(1, request(1)), NOW).await.unwrap() else { panic!("not held") };
    let step = store.advance_channel(&lease, committed(&record, 1, 10, 10), NOW).await.unwrap();
    assert!(matches!(step, ChannelStep::Done(_)), "{step:?}");
    assert_eq!(store.commands() - before, 2, "and one wait, on a connection of its own");
    // One more follows later; it may be the one that is promoted, so from then on it must have everything too.
    let later = Server::start(&[&SAFE[..], &["--replicaof", "127.0.0.1", &master.port.to_string()]].concat());
    server::wait_until("both replicas are online", || cluster::cli(&master, &["INFO", "replication"]).matches("state=online").count() == 2);
    for (k, silent) in [(2, &replica), (4, &later)] {
        let Leased::Held(lease, record) = store.lease(&ask(1, request(k)), NOW).await.unwrap() else { panic!("not held") };
        let step = store.advance_channel(&lease, committed(&record, k, 10, 10), NOW).await.unwrap();
        assert!(matches!(step, ChannelStep::Done(_)), "{step:?}");
        // A replica hangs: the charge is made, but not acknowledged.
        let Leased::Held(lease, record) = store.lease(&ask(1, request(k + 1)), NOW).await.unwrap() else { panic!("not held") };
        silent.signal("STOP");
        let error = store.advance_channel(&lease, committed(&record, k + 1, 10, 10), NOW).await.unwrap_err();
        assert!(matches!(error, StoreError::Unknown(_)), "{error}");
        silent.signal("CONT");
    }
    // Promoted, it has everything that was acknowledged.
    drop(master);
    cluster::cli(&replica, &["REPLICAOF", "NO", "ONE"]);
    let promoted = RedisStore::open(&options(&replica.url(), 2)).await.unwrap();
    assert_eq!(promoted.id(), store.id());
    assert!(promoted.charge(&id(1), &named(1)).await.unwrap().is_some());
    // A replica itself takes no writes.
    let other = Server::start(&[&SAFE[..], &["--replicaof", "127.0.0.1", &replica.port.to_string()]].concat());
    let refused = RedisStore::open(&options(&other.url(), 3)).await.map(drop).unwrap_err();
    assert!(matches!(&refused, OpenError::Unfit(misfits) if misfits[0].code() == "redis_role"), "{refused}");
}

/// A write reached the old master, and the wait its successor: the wait says nothing about the write.
#[tokio::test]
async fn a_wait_in_another_history_acknowledges_nothing() {
    let [one, other] = [(); 2].map(|()| Server::start(&SAFE));
    let writes = |waits_at: &Server| {
        let link = |server: &Server| Link::new(&options(&server.url(), 1)).unwrap();
        let mut writes = link(&one);
        writes.wait_for(durability::Replicas::new(link(waits_at), Keys::new("kas402", 1), 0, false));
        writes
    };
    let set = async |link: &Link, by: Instant| link.command("SET", &[b"fact", b"1"], Effect::Durable(0), by).await;
    let same = writes(&one);
    set(&same, same.deadline()).await.unwrap();
    let apart = writes(&other);
    let waited_again = || cluster::cli(&other, &["INFO", "commandstats"]).contains("cmdstat_wait:calls=3,");
    let waited = async {
        while !waited_again() {
            tokio::time::sleep(Duration::from_millis(5)).await; // why: the server counts in silence
        }
    };
    tokio::select! {
        answer = set(&apart, Instant::now() + Duration::from_secs(120)) => panic!("a wait elsewhere acknowledges nothing: {answer:?}"),
        () = waited => {}
    }
    assert_eq!(cluster::cli(&one, &["GET", "fact"]).trim(), "1");
    let error = set(&apart, Instant::now() + Duration::from_secs(1)).await.unwrap_err();
    assert!(matches!(error, StoreError::Unknown(_)), "{error}");
}

/// A master, two replicas and a sentinel; the master is killed under load, one of them is promoted, and the old master follows it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_failover_loses_nothing_that_strict_acknowledged() {
    let mut master = Server::start(&SAFE);
    let of = ["--replicaof", "127.0.0.1", &master.port.to_string()];
    let replicas = [(); 2].map(|()| Server::start(&[&SAFE[..], &of].concat()));
    server::wait_until("both replicas are online", || cluster::cli(&master, &["INFO", "replication"]).matches("state=online").count() == 2);
    let sentinel = Server::start_sentinel(&format!(
        "sentinel monitor shop 127.0.0.1 {} 1\nsentinel down-after-milliseconds shop 300\nsentinel failover-timeout shop 2000\n",
        master.port
    ));
    server::wait_until("the sentinel knows both", || cluster::cli(&sentinel, &["SENTINEL", "MASTER", "shop"]).contains("num-slaves\n2\n"));
    let url = format!("redis-sentinel://127.0.0.1:{}/shop", sentinel.port);
    let strict = Options { durability: Durability::Strict, ..options(&url, 1) };
    let store = Arc::new(RedisStore::open(&strict).await.unwrap());
    const CHANNELS: u64 = 4;
    for n in 0..CHANNELS {
        store.open_channel(&opening(n), NOW).await.unwrap();
    }
    let load = Load::over(&store, CHANNELS);
    load.goes_on(5).await;
    master.kill();
    server::wait_until("one is promoted", || replicas.iter().any(|server| cluster::cli(server, &["ROLE"]).starts_with("master")));
    // Both replicas were waited for, whichever it is; nothing is acknowledged before there are two again.
    master.run();
    load.goes_on(5).await;
    let total = load.ended(&store).await;
    assert_eq!(store.channel_totals().await.unwrap().charged_sompi, u128::from(total));
}

/// One node of a cluster is killed and comes back.
#[tokio::test]
async fn a_cluster_serves_again_after_a_node_was_killed() {
    let mut cluster = Cluster::start();
    let store = RedisStore::open(&Options { shards: 64, ..options(&cluster.url(), 1) }).await.unwrap();
    for n in 0..12 {
        store.open_channel(&opening(n), NOW).await.unwrap();
    }
    for round in 1..=2 {
        let node = &mut cluster.servers[usize::try_from(round).unwrap()];
        node.kill();
        node.run();
        for n in 0..12 {
            let Leased::Held(lease, record) = store.lease(&ask(n, request(round)), NOW).await.unwrap() else { panic!("not held") };
            let step = store.advance_channel(&lease, committed(&record, round, 10, 10), NOW).await.unwrap();
            assert!(matches!(step, ChannelStep::Done(_)), "{step:?}");
        }
    }
    assert_eq!(store.channel_totals().await.unwrap().charged_sompi, 240);
    let single = options(&cluster.servers[0].url(), 2);
    let refused = RedisStore::open(&single).await.map(drop).unwrap_err();
    assert!(matches!(&refused, OpenError::Unfit(misfits) if misfits[0].code() == "redis_cluster_url"), "{refused}");
}
