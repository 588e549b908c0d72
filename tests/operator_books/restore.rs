//! Back-up and restore of both stores, by the steps of docs/operating.md: what is known again, what is lost, and what is not sold twice.

use super::{kas402, parsed, text};
use crate::support::{
    channel::{Channel, batch_of, new_identifier, number, settings, until_answered},
    devnet::{Devnet, KAS, Wallet},
    gateway::{Gateway, yaml},
    patience::Payment,
    pay::{Answer, Ask},
    redis::{SAFE, Server, wait_until},
    upstream::Upstream,
};
use serde_json::Value;
use std::{
    process::Command,
    time::{Duration, Instant},
};

const ROUTES: &str = r#"  - {path: "/once/{*rest}", price: 0.25 KAS, offer_seconds: 5}
  - {path: "/flaky/{*rest}", price: 0.25 KAS, offer_seconds: 5}
  - {path: "/channel/{*rest}", scheme: batch-settlement, price: 0.2 KAS, min_deposit: 2 KAS, offer_seconds: 5}"#;
const CEILING: u64 = KAS / 5;
/// Offers are over so long after the last gateway stopped: their seconds, and the clock's grace.
const OFFERS_OVER: Duration = Duration::from_secs(5 + 5 + 1);

struct Shop {
    devnet: Devnet,
    upstream: Upstream,
    gateway: Gateway,
}

/// What was sold before the back-up, and after it.
struct Sold {
    owed: Payment,
    before: Payment,
    after: Payment,
    payer: Wallet,
    /// Two charges of it are in the back-up, and four are not.
    used: Channel,
    /// The last of those.
    last: String,
    /// One charge of it is in the back-up; then it was claimed.
    claimed: Channel,
    /// Opened after the back-up.
    opened: Channel,
}

impl Shop {
    /// `store` is the line of the configuration, made of the gateway's own one.
    async fn start(store: Option<&str>) -> Self {
        let (devnet, upstream) = (Devnet::start(1, 10.0).await, Upstream::start().await);
        // Channels of one hour have one timeout.
        let settings = settings(3600, 60, "{automatic: false}").replace("refund_epoch_seconds: 1\n", "refund_epoch_seconds: 3600\n");
        let yaml = yaml(&devnet.wrpc[..1], &Wallet::new(200), &upstream.url(), ROUTES, &settings);
        let yaml = store.map_or(yaml.clone(), |store| yaml.replace("store: {path: store.db}", store));
        Self { gateway: Gateway::start(&yaml).await, devnet, upstream }
    }

    async fn sell(&self, back_up: impl AsyncFnOnce(&Self)) -> Sold {
        let (payer, url) = (Wallet::new(1), self.gateway.url());
        let coins = self.devnet.fund(&payer, 10 * KAS, 3).await;
        let owed = Payment::prepare(Ask::get("/flaky/500"), &url, &payer, &coins[..1]).await;
        assert_eq!(owed.send(&url).await.status, 500);
        let before = Payment::prepare(Ask::get("/once/before"), &url, &payer, &coins[1..2]).await;
        assert_eq!(before.send(&url).await.status, 200);
        let ask = Ask::get("/channel/used");
        let mut used = Channel::open(&self.devnet, &ask, &self.gateway, &Wallet::new(2), 5 * KAS).await;
        used.buy(&ask, &url).await;
        let mut claimed = Channel::open(&self.devnet, &Ask::get("/channel/claimed"), &self.gateway, &Wallet::new(3), 5 * KAS).await;

        back_up(self).await;

        let after = Payment::prepare(Ask::get("/once/after"), &url, &payer, &coins[2..]).await;
        assert_eq!(after.send(&url).await.status, 200);
        for _ in 0..3 {
            used.renewed = None;
            used.buy(&ask, &url).await;
        }
        let last = used.paying(&batch_of(&ask.send(&url, None).await));
        used.served(&ask.send(&url, Some(&last)).await);
        claimed.renewed = None;
        claimed.buy(&Ask::get("/channel/claimed"), &url).await;
        let claim = kas402(&self.gateway, &["claim", &claimed.id().to_string(), "--any-fee", "--json"]).await;
        assert!(claim.status.success(), "{claim:?}");
        self.gateway.until("claimed", async || number(&self.channels().await["claimedSompi"]) == 2 * CEILING).await;
        let opened = Channel::open(&self.devnet, &Ask::get("/channel/opened"), &self.gateway, &Wallet::new(4), 5 * KAS).await;
        Sold { owed, before, after, payer, used, last, claimed, opened }
    }

    async fn channels(&self) -> Value {
        self.gateway.status().await["channels"].clone()
    }

    /// One more request over a channel, under a new offer.
    async fn pays(&self, channel: &Channel, ask: &Ask) -> Answer {
        let accepted = batch_of(&ask.send(&self.gateway.url(), None).await);
        ask.send(&self.gateway.url(), Some(&channel.paying(&accepted))).await
    }

    async fn again(&mut self) {
        self.gateway.run(&[]).await;
        self.gateway.ready().await;
    }

    /// What every restored store says, however its offers were ended.
    async fn is_as_documented(&self, sold: &mut Sold) {
        let gateway = &self.gateway;
        let repaired = kas402(gateway, &["reconcile", "--repair", "--json"]).await;
        assert!(repaired.status.success(), "{repaired:?}");
        assert!(text(&kas402(gateway, &["reconcile"]).await).starts_with("no differences"));
        // The claim that is not known moved the escrow, which counts as spent by somebody else, and its charge as lost.
        let books = self.channels().await;
        let [open, closed, charges] = ["open", "closed", "charges"].map(|name| books[name].as_u64().unwrap());
        assert_eq!((open, closed, charges, number(&books["lostSompi"])), (1, 1, 3, CEILING), "{books} {repaired:?}");
        let lost = parsed(&kas402(gateway, &["payments", "list", "--state", "lost", "--json"]).await);
        assert_eq!(lost["entries"].as_array().unwrap().len(), 1, "{lost}");

        // The header of a forgotten charge buys nothing; its client is corrected, and pays on from where the store is.
        let served = self.upstream.seen().len();
        let ask = Ask::get("/channel/used");
        let replayed = ask.send(&gateway.url(), Some(&sold.last)).await;
        assert_eq!((replayed.status, self.upstream.seen().len()), (402, served), "{replayed:?}");
        let corrected = self.pays(&sold.used, &ask).await;
        assert_eq!((corrected.status, corrected.code().as_str()), (402, "voucher_amount"), "{corrected:?}");
        let state = batch_of(&corrected)["extra"]["channelState"].clone();
        assert_eq!(number(&state["chargedCumulativeAmount"]), 2 * CEILING, "four charges are lost: {state}");
        (sold.used.charged, sold.used.signed, sold.used.renewed) = (2 * CEILING, number(&state["signedMaxClaimable"]), None);
        sold.used.buy(&ask, &gateway.url()).await;

        let ask = Ask::get("/channel/claimed");
        sold.claimed.renewed = None;
        let closed = self.pays(&sold.claimed, &ask).await;
        assert_eq!(closed.code(), "channel_closed", "{closed:?}");

        // A channel that is not known is opened again over its own output, and by no voucher.
        let ask = Ask::get("/channel/opened");
        let unknown = self.pays(&sold.opened, &ask).await;
        assert_eq!((unknown.status, unknown.code().as_str()), (402, "channel_unknown"), "{unknown:?}");
        let accepted = batch_of(&unknown);
        let deposit = sold.opened.deposit_payload(None, sold.opened.outpoint, sold.opened.funding, CEILING);
        let header = crate::support::channel::message(&accepted, &deposit, &new_identifier());
        sold.opened.charged = 0;
        let answer = until_answered(&ask, gateway, &header).await;
        sold.opened.served(&answer);

        // What is charged is claimed, as ever.
        let claim = kas402(gateway, &["claim", &sold.used.id().to_string(), "--any-fee", "--json"]).await;
        assert!(claim.status.success(), "{claim:?}");
        gateway.until("claimed", async || number(&self.channels().await["claimedSompi"]) == sold.used.charged).await;
        assert_eq!([1, 1], ["/once/before", "/once/after"].map(|target| self.upstream.count(target)), "nothing is sold twice");
    }
}

/// Offers are replaced: nothing from before the restore is served, and no forgotten payment finds its offer.
#[tokio::test]
async fn an_embedded_store_is_backed_up_beside_its_gateway_and_restored_as_documented() {
    let mut shop = Shop::start(None).await;
    let copies = tempfile::tempdir().unwrap();
    let copy = |name: &str| copies.path().join(name).display().to_string();
    let mut sold = shop
        .sell(async |shop| {
            let store = shop.gateway.path("store.db");
            let vacuumed = format!("VACUUM INTO '{}'", copy("vacuumed.db"));
            rusqlite::Connection::open(&store).unwrap().execute_batch(&vacuumed).unwrap();
            // The program need not be there; what it does is SQLite's.
            let backed_up = Command::new("sqlite3").arg(&store).arg(format!(".backup '{}'", copy("store.db"))).status();
            if backed_up.is_err() {
                std::fs::copy(copy("vacuumed.db"), copy("store.db")).unwrap();
            }
            for name in ["vacuumed.db", "store.db"] {
                let checked = text(&kas402(&shop.gateway, &["store", "check", &copy(name)]).await);
                assert!(checked.starts_with("whole: 2 payments"), "{checked}");
            }
        })
        .await;
    shop.gateway.kill().await;
    for name in ["store.db", "store.db-wal", "store.db-shm", "offer.keys"] {
        let _ = std::fs::remove_file(shop.gateway.path(name));
    }
    std::fs::copy(copy("store.db"), shop.gateway.path("store.db")).unwrap();
    text(&kas402(&shop.gateway, &["store", "check", "store.db"]).await);
    text(&kas402(&shop.gateway, &["keys", "new"]).await);
    shop.again().await;
    shop.is_as_documented(&mut sold).await;

    let url = shop.gateway.url();
    shop.upstream.open_gate();
    for known in [&sold.before, &sold.owed] {
        known.refused(&url, 409, "invalid_kaspa_exact_replay").await;
    }
    let forgotten = sold.after.send(&url).await;
    assert_eq!((forgotten.status, forgotten.code().as_str()), (402, "offer_key_unknown"), "{forgotten:?}");
    // Its transaction under the new offer is older than that.
    let again = Payment::with(sold.after.ask.clone(), &forgotten.offer(), sold.after.transaction.clone()).proven(&sold.payer);
    again.refused(&url, 409, "kaspa_exact_older_than_offer").await;
    assert_eq!([1, 1], ["/once/before", "/once/after"].map(|target| shop.upstream.count(target)));
}

/// Offers are waited for: what is known is served on, and a forgotten payment is found on the chain, listed, and not sold again.
#[tokio::test]
async fn a_redis_store_is_backed_up_beside_its_gateways_and_restored_as_documented() {
    let mut redis = Server::start(&SAFE);
    let mut shop = Shop::start(Some(&format!("store: {{kind: redis, url: \"{}\"}}", redis.url()))).await;
    let copies = tempfile::tempdir().unwrap();
    let copy = copies.path().join("kas402.rdb");
    let port = redis.port.to_string();
    let cli = |arguments: &[&str]| {
        let output = Command::new("redis-cli").args(["-h", "127.0.0.1", "-p", &port]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let mut sold = shop.sell(async |_| drop(cli(&["--rdb", copy.to_str().unwrap()]))).await;
    shop.gateway.kill().await;
    let stopped = Instant::now();
    redis.kill();
    std::fs::remove_dir_all(redis.directory().join("appendonlydir")).unwrap();
    std::fs::copy(&copy, redis.directory().join("dump.rdb")).unwrap();
    redis.run_with(&["--appendonly", "no"]);
    assert_eq!(cli(&["CONFIG", "SET", "appendonly", "yes"]).trim(), "OK");
    wait_until("the append-only file is whole", || {
        let info = cli(&["INFO", "persistence"]);
        ["aof_rewrite_scheduled:0", "aof_rewrite_in_progress:0", "aof_last_bgrewrite_status:ok"].iter().all(|line| info.contains(line))
    });
    redis.kill();
    // What its own configuration reads is the append-only file alone.
    std::fs::remove_file(redis.directory().join("dump.rdb")).unwrap();
    redis.run();
    tokio::time::sleep(OFFERS_OVER.saturating_sub(stopped.elapsed())).await; // why: the procedure waits so long
    shop.again().await;
    shop.is_as_documented(&mut sold).await;

    let url = shop.gateway.url();
    shop.upstream.open_gate();
    for (known, says) in [(&sold.before, "GET /once/before "), (&sold.owed, "GET /flaky/500 ")] {
        let answer = known.send(&url).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, says), "{answer:?}");
    }
    for _ in 0..2 {
        sold.after.refused(&url, 409, "paid_late").await;
    }
    let listed = parsed(&kas402(&shop.gateway, &["payments", "list", "--state", "paid_late", "--json"]).await);
    assert_eq!(listed["entries"][0]["id"], sold.after.txid(), "{listed}");
    assert_eq!([1, 1], ["/once/before", "/once/after"].map(|target| shop.upstream.count(target)));
    // Its operator decides; what was public before it was presented is for its payer alone.
    text(&kas402(&shop.gateway, &["payments", "grant", &sold.after.txid()]).await);
    sold.after.refused(&url, 409, "payer_proof_required").await;
    assert_eq!(sold.after.proven(&sold.payer).send(&url).await.status, 200);
}
