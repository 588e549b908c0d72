//! `kas402 mcp call`: tools and prices, and calls that are paid for within limits.

use super::{
    client::{PATIENCE, Shop},
    support::{
        channel::SETTINGS,
        devnet::{self, KAS},
        patience::number,
    },
};
use kas402::{
    client::{
        journal::{Entry, Journal, State},
        wallet::Wallet,
    },
    protocol::network::Network,
};
use serde_json::{Value, json};
use std::{process::Output, time::Instant};

const ROUTES: &str = r#"
  - path: /mcp
    kind: mcp
    tools:
      - {tool: search, price: "0.25 KAS"}
      - {tool: lookup, price: "0.25 KAS", on_error: free}
      - {tool: brief, price: "0.25 KAS", offer_seconds: 10, entitlement_seconds: 10}
      - {tool: guess, scheme: batch-settlement, price: "0.01 KAS", on_error: free}
      - tool: ask
        scheme: batch-settlement
        price: "0.01 KAS"
        charge: {json: /structuredContent/tokens, unit_price: "1000 sompi"}
      - {tool: tell, scheme: batch-settlement, price: "0.02 KAS"}
"#;

/// A shop, and a buyer with coins.
struct Buyer {
    shop: Shop,
    folder: tempfile::TempDir,
}

impl Buyer {
    async fn new() -> Self {
        let shop = Shop::open(ROUTES, SETTINGS).await;
        shop.devnet.fund(&devnet::Wallet::new(7), 10 * KAS, 4).await;
        shop.devnet.mine(0, 30).await;
        let folder = tempfile::tempdir().unwrap();
        Wallet::from_secret(Network::Simnet, &[7; 32]).unwrap().create(&folder.path().join("w.json")).unwrap();
        Self { shop, folder }
    }

    async fn run(&self, args: &[&str]) -> Output {
        let mut command = self.shop.gateway.command();
        command.args(["mcp", "call", &self.shop.url()]).args(args).arg("--other-origin");
        command.env("KAS402_WALLET", self.folder.path().join("w.json")).env("KAS402_NODE", &self.shop.devnet.wrpc[0]);
        tokio::time::timeout(PATIENCE, command.output()).await.expect("it ends").unwrap()
    }

    /// Payments by transactions, newest first.
    fn journal(&self) -> Vec<Entry> {
        Journal::open(&self.folder.path().join("w.payments.sqlite")).unwrap().history(100).unwrap()
    }

    /// The result of a call that succeeds.
    async fn calls(&self, args: &[&str]) -> Value {
        let output = self.run(args).await;
        assert!(output.status.success(), "{args:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

#[tokio::test]
async fn the_command_line_lists_tools_and_pays_for_calls_within_its_limits() {
    let buyer = Buyer::new().await;
    let listed = String::from_utf8(buyer.run(&[]).await.stdout).unwrap();
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(lines, ["search  0.25 KAS (exact)  Searches.", "image_new  free, or not told", "echo  free, or not told"]);

    assert_eq!(buyer.calls(&["echo", "--arg", "n=7"]).await["content"][0]["text"], r#"secret of echo {"n":7}"#);
    let refused = buyer.run(&["search", "--arg", "q=kaspa", "--max", "0.2 KAS"]).await;
    assert_eq!((refused.status.code(), refused.stdout.len()), (Some(3), 0), "{refused:?}");
    assert_eq!(buyer.shop.server.runs("search"), 0);
    for (runs, how) in (1..).zip(["json", "sse", "progress", "closes"]) {
        buyer.shop.server.open_gate();
        let result = buyer.calls(&["search", "--arg", &format!("how={how}"), "--max", "0.3 KAS"]).await;
        assert_eq!(result["content"][0]["text"], format!(r#"secret of search {{"how":"{how}"}}"#));
        assert_eq!(result["_meta"]["x402/payment-response"]["success"], true);
        assert_eq!(buyer.shop.server.runs("search"), runs);
        assert_eq!(number(&buyer.shop.gateway.payments().await, "chargedSompi"), KAS / 4 * u64::try_from(runs).unwrap());
    }
    let shown = String::from_utf8(buyer.run(&["search", "--dry-run"]).await.stderr).unwrap();
    assert!(shown.contains("0.25 KAS"), "{shown}");
    let wrong = buyer.run(&["search", "-d", "x"]).await;
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
}

#[tokio::test]
async fn the_command_line_pays_for_calls_from_a_channel() {
    let buyer = Buyer::new().await;
    let channel = ["--channel", "--max", "0.05 KAS", "--deposit", "5 KAS", "--max-locked", "5 KAS"];
    let mut charged = 0;
    for (tool, tokens, charge) in [("ask", 7, 7_000), ("ask", 20, 20_000), ("tell", 0, 2_000_000), ("ask", 3, 3_000)] {
        let tokens = format!("tokens={tokens}");
        let result = buyer.calls(&[&[tool, "--arg", &tokens][..], &channel].concat()).await;
        let receipt = &result["_meta"]["x402/payment-response"];
        assert_eq!(receipt["amount"], json!(charge.to_string()), "{tool} {tokens}: {receipt}");
        charged += charge;
        assert_eq!(
            number(&receipt["extensions"]["kaspa"]["channelState"], "chargedCumulativeAmount"),
            charged,
            "one channel pays for all of them"
        );
    }
}

#[tokio::test]
async fn what_was_paid_for_and_not_served_is_owed_in_the_buyers_journal() {
    let buyer = Buyer::new().await;
    let max = ["--max", "0.3 KAS"];
    let charged = async || number(&buyer.shop.gateway.payments().await, "chargedSompi");
    // A tool that fails where that is free, an error of JSON-RPC, an answer of HTTP: the same command asks for it again.
    for (paid, tool, how, told) in
        [(1, "lookup", "flaky", "secret of lookup"), (2, "search", "fails", "-32602"), (3, "search", "denies", "no")]
    {
        let how = format!("how={how}");
        for run in 1..=2 {
            let output = buyer.run(&[&[tool, "--arg", &how][..], &max].concat()).await;
            assert_eq!(output.status.code(), Some(5), "{how} {run}: {output:?}");
            assert!(String::from_utf8_lossy(&output.stdout).contains(told), "{how} {run}: {output:?}");
            assert_eq!(buyer.journal().iter().map(|entry| entry.state).collect::<Vec<_>>(), vec![State::Settled; paid], "{how} {run}");
            assert_eq!((buyer.shop.server.runs(tool), charged().await), (run + usize::from(paid == 3) * 2, KAS / 4 * paid as u64));
        }
    }
    buyer.shop.server.open_gate();
    let result = buyer.calls(&["lookup", "--arg", "how=flaky"]).await;
    assert_eq!((result.get("isError"), &result["_meta"]["x402/payment-response"]["success"]), (None, &json!(true)), "{result}");
    let states: Vec<State> = buyer.journal().iter().map(|entry| entry.state).collect();
    assert_eq!(
        (states, charged().await),
        (vec![State::Settled, State::Settled, State::Delivered], KAS / 4 * 3),
        "newest first; no new payment"
    );
}

#[tokio::test]
async fn a_payment_whose_time_is_over_is_lost_in_the_buyers_journal() {
    let buyer = Buyer::new().await;
    let call = ["brief", "--arg", "how=denies", "--max", "0.3 KAS"];
    let states = || buyer.journal().iter().map(|entry| entry.state).collect::<Vec<_>>();
    assert_eq!((buyer.run(&call).await.status.code(), states()), (Some(5), vec![State::Settled]));
    let until = Instant::now() + PATIENCE;
    while states() == [State::Settled] {
        assert!(Instant::now() < until, "never over");
        assert_eq!(buyer.run(&call).await.status.code(), Some(5));
    }
    assert_eq!(states(), [State::Lapsed], "and nothing else was paid");
}

#[tokio::test]
async fn an_answer_that_costs_nothing_takes_nothing_from_the_buyers_budget() {
    let buyer = Buyer::new().await;
    let channel = ["--channel", "--max", "0.05 KAS", "--deposit", "5 KAS", "--max-locked", "5 KAS", "--max-total", "0.015 KAS", "--json"];
    // The first of them opens the channel.
    for (how, exit, amount) in
        [("error", 0, 0), ("error", 0, 0), ("denies", 6, 0), ("fails", 6, 0), ("error", 0, 0), ("json", 0, KAS / 100)]
    {
        let output = buyer.run(&[&["guess", "--arg", &format!("how={how}")][..], &channel].concat()).await;
        assert_eq!(output.status.code(), Some(exit), "{how}: {output:?}");
        let told = String::from_utf8_lossy(&output.stderr);
        let told: Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
        assert_eq!((&told["amount"], &told["paid"]), (&json!(amount.to_string()), &json!(amount > 0)), "{how}: {told}");
        assert_eq!(number(&buyer.shop.gateway.status().await["channels"], "chargedSompi"), amount, "{how}");
    }
    let refused = buyer.run(&[&["guess", "--arg", "how=json"][..], &channel].concat()).await;
    assert_eq!(refused.status.code(), Some(3), "what was charged counts: {refused:?}");
    assert_eq!(buyer.shop.server.runs("guess"), 6);
}
