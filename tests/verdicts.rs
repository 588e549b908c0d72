//! The same verdict and the same code on every negative case, whichever way a payment comes in: one table and its stories, a runner for each way.
//!
//! A new way in is a [`Runner`] in `verdicts/`, and a line in the test below. A new code is compared, or `codes` says why it can not be.

#[path = "verdicts/codes.rs"]
mod codes;
#[path = "verdicts/doors.rs"]
mod doors;
#[path = "verdicts/mcp.rs"]
mod mcp;
#[path = "verdicts/races.rs"]
mod races;
#[path = "verdicts/stories.rs"]
mod stories;
mod support;
#[path = "verdicts/table.rs"]
mod table;

use doors::{AtFacilitator, AtProxy};
use mcp::AtMcp;
use serde_json::Value;
use std::time::Duration;
use stories::Teller;
use support::{
    channel::Channel,
    devnet::{Coin, KAS, Wallet},
    edge,
    pay::transaction,
    tenants::{Place, Tenant},
};
use table::{CASES, Case, Scheme, base};
use tokio::time::{Instant, sleep_until};

/// A way in.
#[allow(async_fn_in_trait, reason = "no runner is ever boxed")]
pub trait Runner {
    fn name(&self) -> &'static str;

    /// What it asks for now.
    async fn terms(&self, scheme: Scheme) -> Value;

    /// What each door of this way says to a payment under its terms: a code, or [`SOLD`]. Doors that do not ask the node are left out
    /// when the node is the one to refuse.
    async fn codes(&self, terms: &Value, message: &Value, by_node: bool) -> Vec<String>;

    /// What it says to a payment for one of several operations of one price.
    async fn said(&self, operation: u8, message: &Value) -> Said;
}

/// A verdict.
pub struct Said {
    /// Or [`SOLD`].
    pub code: String,
    /// `SettlementResponse`, as the way tells it; of a refusal, too.
    pub receipt: Value,
}

/// Instead of a code.
pub const SOLD: &str = "-";

async fn table(runner: &impl Runner, schemes: &[Scheme], payer: &Wallet, coins: &[Coin]) {
    for (scheme, coin) in schemes.iter().copied().zip(coins) {
        let terms = runner.terms(scheme).await;
        // Every case changes the same payment, which is good: it is sold at the end.
        let good = base(scheme, payer, std::slice::from_ref(coin), &terms);
        for Case { name, change, code, by_node, .. } in CASES.iter().filter(|case| case.scheme == scheme) {
            let mut message = good.clone();
            change(&mut message);
            assert_ne!(message, good, "{name} changes nothing");
            let codes = runner.codes(&terms, &message, *by_node).await;
            assert!(!codes.is_empty() && codes.iter().all(|said| said == code), "{}: {name}: {codes:?}, not {code}", runner.name());
        }
        let codes = runner.codes(&terms, &good, false).await;
        assert!(codes.iter().all(|said| said == SOLD), "{}: the good payment: {codes:?}", runner.name());
    }
}

const SETTINGS: &str = "keys: {offer: {file: offer.keys}, server: {file: server.keys}}
channels: {refund_horizon_seconds: 600, refund_epoch_seconds: 1, refund_lead_seconds: 60, confirmations: 2, claims: {automatic: false}, exposure: {per_payer: 8 KAS, per_refund_address: 8 KAS}}
limits: {final_depth: 100}
defaults: {payment_identifier: required}
";
/// Offers here live a minute, which the network counts as 600.
const AT_EDGE: &str = "  - {path: \"/paid/{*rest}\", offer_seconds: 60, payment_identifier: required, accepts: [{price: 0.25 KAS}, {price: 1 KAS, scheme: batch-settlement, min_deposit: 5 KAS}]}";
const MINUTE: u64 = 600;

async fn place() -> Place {
    let calls = "calls_per_second: 10000, burst: 10000";
    let tenant = |name, seed, more: &str| Tenant::new(name, seed, Box::leak(format!("{more}{calls}").into_boxed_str()));
    let tenants = vec![
        tenant("shop", 201, "permissions: [verify, settle, claim], "),
        tenant("strict", 202, "observe: never, "),
        tenant("edge", 203, "permissions: [verify, settle, claim], "),
    ];
    let routes = [AtProxy::ROUTE, AtMcp::ROUTE, AtProxy::STRICT, AtMcp::STRICT, AtProxy::BRIEF, AtMcp::BRIEF].join("\n");
    Place::start(tenants, &routes, SETTINGS).await
}

/// A transaction under the terms of each, so old that no offer of now is for it.
async fn old(place: &Place, payer: &Wallet, coin: &Coin, runner: &impl Runner) -> kaspa_consensus_core::tx::Transaction {
    let paying = transaction(payer, std::slice::from_ref(coin), &runner.terms(Scheme::Exact).await);
    place.devnet.submit(0, &paying).await.unwrap();
    paying
}

#[tokio::test]
async fn every_way_in_gives_every_negative_case_the_same_code() {
    let place = place().await;
    let edge = edge::start(&place, 2, place.gateway.facilitator(), &[AT_EDGE, AtProxy::BRIEF].join("\n"), 60).await;
    let proxy = AtProxy::of("proxy", &place.gateway);
    let facilitator = AtFacilitator { place: &place, tenant: 0 };
    let mcp = AtMcp { place: &place, path: "/mcp" };
    let at_edge = AtProxy::of("edge", &edge);
    let brief = (
        AtProxy { prefix: "/brief", ..AtProxy::of("proxy", &place.gateway) },
        AtMcp { place: &place, path: "/brief-mcp" },
        AtProxy { prefix: "/brief", ..AtProxy::of("edge", &edge) },
    );
    let payers = [1, 2, 3, 4].map(Wallet::new);
    let mut coins = Vec::new();
    for payer in &payers {
        coins.push(place.devnet.fund(payer, 20 * KAS, 10).await);
    }
    let aged = [
        old(&place, &payers[0], &coins[0][9], &proxy).await,
        old(&place, &payers[1], &coins[1][9], &facilitator).await,
        old(&place, &payers[2], &coins[2][9], &mcp).await,
        old(&place, &payers[3], &coins[3][9], &at_edge).await,
    ];
    place.devnet.mine(0, MINUTE + 100).await;
    let over = [brief.0.terms(Scheme::Exact).await, brief.1.terms(Scheme::Exact).await, brief.2.terms(Scheme::Exact).await];
    let expired = Instant::now() + Duration::from_secs(12);

    table(&proxy, &[Scheme::Exact, Scheme::Batch], &payers[0], &coins[0]).await;
    table(&facilitator, &[Scheme::Exact, Scheme::Batch], &payers[1], &coins[1]).await;
    table(&mcp, &[Scheme::Exact, Scheme::Batch], &payers[2], &coins[2]).await;
    table(&at_edge, &[Scheme::Exact, Scheme::Batch], &payers[3], &coins[3]).await;

    macro_rules! told {
        ($runner:expr, $story:ident($($with:expr),*), $codes:expr) => {{
            let mut teller = Teller::of($runner, &place);
            teller.$story($($with),*).await;
            teller.told($codes);
        }};
    }
    told!(&proxy, exact(&payers[0], &coins[0][2..], &aged[0]), stories::EXACT);
    told!(&facilitator, exact(&payers[1], &coins[1][2..], &aged[1]), stories::EXACT);
    told!(&mcp, exact(&payers[2], &coins[2][2..], &aged[2]), stories::EXACT);
    told!(&at_edge, exact(&payers[3], &coins[3][2..], &aged[3]), stories::EXACT);

    // An edge says what its facilitator says, whose tenant it is.
    let strict = (
        AtProxy { prefix: "/strict", ..AtProxy::of("proxy", &place.gateway) },
        AtFacilitator { place: &place, tenant: 1 },
        AtMcp { place: &place, path: "/strict-mcp" },
    );
    told!(&strict.0, strict(&payers[0], &coins[0][5]), stories::STRICT);
    told!(&strict.1, strict(&payers[1], &coins[1][5]), stories::STRICT);
    told!(&strict.2, strict(&payers[2], &coins[2][5]), stories::STRICT);

    sleep_until(expired).await; // why: an offer ages by the clock alone
    told!(&proxy, offers(&brief.0, &over[0], &payers[0], &coins[0][6..]), stories::OFFERS);
    told!(&mcp, offers(&brief.1, &over[1], &payers[2], &coins[2][6..]), stories::OFFERS);
    told!(&at_edge, offers(&brief.2, &over[2], &payers[3], &coins[3][6..]), stories::OFFERS);
}

#[tokio::test]
async fn every_way_in_gives_every_case_of_a_channel_the_same_code() {
    let place = place().await;
    let proxy = AtProxy::of("proxy", &place.gateway);
    let facilitator = AtFacilitator { place: &place, tenant: 0 };
    let mcp = AtMcp { place: &place, path: "/mcp" };
    let edge = edge::start(&place, 2, place.gateway.facilitator(), AT_EDGE, 60).await;
    let at_edge = AtProxy::of("edge", &edge);
    let mut tellers =
        (Teller::of(&proxy, &place), Teller::of(&facilitator, &place), Teller::of(&mcp, &place), Teller::of(&at_edge, &place));
    let wallets = [11, 21, 31, 41].map(|seed| [seed, seed + 1, seed + 2].map(Wallet::new));
    let channels = [
        tellers.0.channel(&wallets[0]).await,
        tellers.1.channel(&wallets[1]).await,
        tellers.2.channel(&wallets[2]).await,
        tellers.3.channel(&wallets[3]).await,
    ];
    // Their refunds come nearer for all of them at once.
    let timeout = channels.iter().map(|channel| channel.config.refund_timeout_daa).max().unwrap();
    reach(&place, timeout - MINUTE + 1).await;
    tellers.0.ends(&channels[0]).await;
    tellers.1.ends(&channels[1]).await;
    tellers.2.ends(&channels[2]).await;
    tellers.3.ends(&channels[3]).await;
    reach(&place, timeout + 1).await;
    for channel in &channels {
        place.devnet.submit(0, &channel.refund()).await.unwrap();
    }
    tellers.0.closed(&channels[0]).await;
    tellers.1.closed(&channels[1]).await;
    tellers.2.closed(&channels[2]).await;
    tellers.3.closed(&channels[3]).await;
    tellers.0.told(stories::CHANNEL);
    tellers.1.told(stories::CHANNEL);
    tellers.2.told(stories::CHANNEL);
    tellers.3.told(stories::CHANNEL);
    let _: [Channel; 4] = channels;
}

/// Lets the network come to this DAA score.
async fn reach(place: &Place, score: u64) {
    loop {
        let now = place.gateway.status().await["node"]["daaScore"].as_str().expect("the node's score").parse::<u64>().unwrap();
        if now >= score {
            return;
        }
        place.devnet.mine(0, (score - now).clamp(1, 500)).await;
    }
}
