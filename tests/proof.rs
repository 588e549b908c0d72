//! `kas402 proof` on simnet, as people run it: every flow passes, the report says what happened, and the chain agrees.

mod support;

use serde_json::{Value, json};
use std::{fs, process::Stdio, time::Duration};
use support::devnet::{Devnet, KAS};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    time::timeout,
};

/// Only turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(300);

fn kas402(folder: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kas402"));
    command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

async fn wallet(devnet: &Devnet, folder: &std::path::Path) {
    let made = kas402(folder).args(["wallet", "new", "--wallet", "buyer.json", "--network", "kaspa:simnet"]).output().await.unwrap();
    let address = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    devnet.post("/fund", json!({ "address": address, "sompi": 10 * KAS, "count": 3 })).await;
    devnet.mine(0, 20).await;
}

#[tokio::test]
async fn every_flow_passes_on_simnet_and_is_reported() {
    let devnet = Devnet::start(1, 10.0).await;
    let folder = tempfile::tempdir().unwrap();
    wallet(&devnet, folder.path()).await;
    let arguments = ["proof", "--network", "simnet", "--wallet", "buyer.json", "--folder", "evidence", "--node", &devnet.wrpc[0]];
    let mut proof = kas402(folder.path()).args(arguments).spawn().unwrap();
    let mut said = BufReader::new(proof.stderr.take().unwrap()).lines();
    let mut told = Vec::new();
    let watched = async {
        while let Some(line) = said.next_line().await.unwrap() {
            // Some minutes of blocks at once.
            if line.contains("waiting until after DAA score") {
                devnet.mine(0, 3_000).await;
            }
            told.push(line);
        }
        proof.wait().await.unwrap()
    };
    let status = timeout(PATIENCE, watched).await;
    let log = fs::read_to_string(folder.path().join("evidence/gateway.log")).unwrap_or_default();
    let text = fs::read_to_string(folder.path().join("evidence/proof.md")).unwrap_or_default();
    assert!(status.is_ok_and(|status| status.success()), "{}\n{text}\n{log}", told.join("\n"));

    let report: Value = serde_json::from_str(&fs::read_to_string(folder.path().join("evidence/proof.json")).unwrap()).unwrap();
    let steps = report["steps"].as_array().unwrap();
    assert_eq!((&report["passed"], &report["network"], steps.len()), (&json!(true), &json!("kaspa:simnet"), 10), "{report}");
    let facts = |name: &str| &steps.iter().find(|step| step["name"] == name).unwrap_or_else(|| panic!("{name}: {report}"))["facts"];
    let sompi = |value: &Value| value.as_str().unwrap().parse::<u64>().unwrap();
    assert_eq!(facts("replay refused")["reason"], "invalid_kaspa_exact_replay");
    assert_eq!(facts("stale voucher refused")["reason"], "voucher_stale_outpoint");
    assert_eq!(sompi(&facts("exact")["price"]), KAS / 4);
    assert_eq!(sompi(&facts("top-up")["added"]), KAS);
    assert_eq!(facts("vouchers")["charged"].as_array().map(Vec::len), Some(2));
    let end = facts("refund after the timeout");
    let sums = ["lockedInAll", "claimedInAll", "refunded", "fee"].map(|name| sompi(&end[name]));
    assert_eq!(sums[0], sums[1] + sums[2] + sums[3], "{end}");
    assert_eq!((sums[0], end["chargedInAll"].clone()), (4 * KAS, end["claimedInAll"].clone()));
    assert!(text.contains("every flow passed") && text.contains(end["transaction"].as_str().unwrap()), "{text}");

    // What the seller got is still the seller's: by the node, not by the report.
    let seller = report["seller"].as_str().unwrap();
    let coins = devnet.get(&format!("/address/{seller}/utxos?node=0")).await;
    let got: u64 = coins["utxos"].as_array().unwrap().iter().map(|utxo| utxo["sompi"].as_u64().unwrap()).sum();
    let fees: u64 = ["top-up", "claim", "last claim"].iter().map(|name| sompi(&facts(name)["fee"])).sum();
    assert_eq!(got, KAS / 4 + sums[1] - fees, "{coins}");
}

#[tokio::test]
async fn a_proof_that_cannot_be_paid_for_fails_and_says_where() {
    let devnet = Devnet::start(1, 10.0).await;
    let folder = tempfile::tempdir().unwrap();
    let made = kas402(folder.path()).args(["wallet", "new", "--wallet", "buyer.json", "--network", "kaspa:simnet"]).output().await.unwrap();
    assert!(made.status.success());
    let arguments = ["proof", "--network", "simnet", "--wallet", "buyer.json", "--folder", "evidence", "--node", &devnet.wrpc[0]];
    let done = timeout(PATIENCE, kas402(folder.path()).args(arguments).output()).await.unwrap().unwrap();
    assert_eq!(done.status.code(), Some(1));
    let report: Value = serde_json::from_str(&fs::read_to_string(folder.path().join("evidence/proof.json")).unwrap()).unwrap();
    assert_eq!((&report["passed"], &report["steps"][0]["passed"]), (&json!(false), &json!(false)), "{report}");
    assert!(report["steps"][0]["failure"].as_str().unwrap().contains("can be spent now"), "{report}");

    let mut wrong = kas402(folder.path());
    wrong.args(["proof", "--network", "testnet-10", "--wallet", "buyer.json", "--node", "ws://127.0.0.1:1"]);
    assert_eq!(wrong.output().await.unwrap().status.code(), Some(2), "the wallet is on another network");
}
