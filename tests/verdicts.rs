//! The same verdict and the same code on every negative case, whichever way a payment comes in: one table, a runner for each way.
//!
//! A new way in is a [`Runner`] in `verdicts/`, and a line in the test below.

#[path = "verdicts/doors.rs"]
mod doors;
#[path = "verdicts/mcp.rs"]
mod mcp;
mod support;
#[path = "verdicts/table.rs"]
mod table;

use doors::{AtFacilitator, AtProxy};
use mcp::AtMcp;
use serde_json::Value;
use support::{
    devnet::{KAS, Wallet},
    tenants::{Place, Tenant},
};
use table::{CASES, Case, Scheme, base};

/// A way in.
#[allow(async_fn_in_trait, reason = "no runner is ever boxed")]
pub trait Runner {
    fn name(&self) -> &'static str;

    /// What it asks for now.
    async fn terms(&self, scheme: Scheme) -> Value;

    /// What each door of this way says to a payment under its terms: a code, or [`SOLD`]. Doors that do not ask the node are left out
    /// when the node is the one to refuse.
    async fn codes(&self, terms: &Value, message: &Value, by_node: bool) -> Vec<String>;
}

/// Instead of a code.
pub const SOLD: &str = "-";

async fn run(runner: &impl Runner, place: &Place, seed: u8) {
    let payer = Wallet::new(seed);
    let coins = place.devnet.fund(&payer, 20 * KAS, 2).await;
    for (scheme, coin) in [Scheme::Exact, Scheme::Batch].into_iter().zip(&coins) {
        let terms = runner.terms(scheme).await;
        // Every case changes the same payment, which is good: it is sold at the end.
        let good = base(scheme, &payer, std::slice::from_ref(coin), &terms);
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

#[tokio::test]
async fn every_way_in_gives_every_negative_case_the_same_code() {
    let settings = "keys: {offer: {file: offer.keys}, server: {file: server.keys}}
channels: {refund_horizon_seconds: 3600, refund_epoch_seconds: 1, refund_lead_seconds: 60, confirmations: 2, claims: {automatic: false}}
limits: {final_depth: 100}
";
    let tenants = vec![Tenant::new("shop", 201, "permissions: [verify, settle, claim], calls_per_second: 10000, burst: 10000")];
    let routes = format!("{}\n{}", AtProxy::ROUTE, AtMcp::ROUTE);
    let place = Place::start(tenants, &routes, settings).await;
    run(&AtProxy(&place), &place, 1).await;
    run(&AtFacilitator(&place), &place, 2).await;
    run(&AtMcp(&place), &place, 3).await;
}
