//! The facilitator clients of `@x402/core` (npm) and `x402` (PyPI), as they are, against the facilitator of a real gateway over a real node.
//! Their packages are pinned, and installed by the tests themselves.

#[path = "../support/mod.rs"]
mod support;

use kaspa_consensus_core::tx::Transaction;
use serde_json::{Value, json};
use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};
use support::{
    devnet::{KAS, Wallet},
    packages,
    pay::{Ask, message, transaction},
    tenants::{Place, Tenant},
};

const PRICE: u64 = 30_000_000;

#[tokio::test]
async fn the_facilitator_client_for_javascript_verifies_and_settles() {
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/clients/javascript");
    let Some(modules) = packages::node_modules(&packages) else { return };
    // Packages are found from the folder of the script.
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(modules, folder.path().join("node_modules")).unwrap();
    std::fs::copy(here("stock.mjs"), folder.path().join("stock.mjs")).unwrap();
    let mut command = Command::new("node");
    command.arg("stock.mjs").current_dir(folder.path());
    settles_with(command).await;
}

#[tokio::test]
async fn the_facilitator_client_for_python_verifies_and_settles() {
    let Some(interpreter) = packages::python(&here("requirements.txt")) else { return };
    let mut command = Command::new(interpreter);
    command.arg(here("stock.py"));
    settles_with(command).await;
}

fn here(file: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/facilitator_clients").join(file)
}

/// A server of another make names no operation: it is told of a payment once.
async fn settles_with(command: Command) {
    let place =
        Place::start(vec![Tenant::new("shop", 201, "permissions: [verify, settle, claim]")], "  - {path: /x, free: true}", "").await;
    let payer = Wallet::new(1);
    let coins = place.devnet.fund(&payer, 10 * KAS, 1).await;
    let terms = place.tenants[0].terms(PRICE);
    let paid: Transaction = transaction(&payer, &coins, &terms);
    let mut payment = message(&Ask::get("/"), &terms, &paid);
    payment["payload"].as_object_mut().unwrap().remove("requestHash");
    let mut dear = terms.clone();
    dear["amount"] = "30000001".into();
    let mut short = payment.clone();
    short["accepted"] = dear.clone();
    let call = |act: &str, payment: &Value, requirements: &Value| json!({"act": act, "payment": payment, "requirements": requirements});
    let mut stranger = call("settle", &payment, &terms);
    stranger["by"] = "stranger".into();
    let task = json!({
        "url": format!("http://{}", place.gateway.facilitator()),
        "token": place.tenants[0].token(),
        "wrong": "0".repeat(40),
        "calls": [
            stranger,
            call("verify", &short, &dear), call("settle", &short, &dear),
            call("verify", &payment, &terms), call("settle", &payment, &terms),
            call("verify", &payment, &terms), call("settle", &payment, &terms),
        ],
    });
    let said = run(command, &task).await;
    let [supported, refused, stranger, short_verify, short_settle, verify, settle, verify_again, settle_again] = &said[..] else {
        panic!("{said:?}")
    };
    let kinds = supported["kinds"].as_array().unwrap_or_else(|| panic!("{supported}"));
    let schemes: Vec<(&str, &str)> =
        kinds.iter().map(|kind| (kind["scheme"].as_str().unwrap(), kind["extra"]["binding"].as_str().unwrap())).collect();
    assert_eq!(schemes, [("exact", "kaspa-exact-v1"), ("batch-settlement", "kaspa-escrow-v1")], "{supported}");
    for refused in [refused, stranger] {
        assert!(refused["message"].as_str().is_some_and(|why| why.contains("401") || refused["status"] == 401), "{refused}");
    }
    assert_eq!((&short_verify["isValid"], &short_verify["invalidReason"]), (&json!(false), &json!("invalid_payload")), "{short_verify}");
    assert_eq!((&short_settle["success"], &short_settle["errorReason"]), (&json!(false), &json!("invalid_payload")), "{short_settle}");
    assert_eq!(verify["isValid"], true, "{verify}");
    assert_eq!((&settle["success"], &settle["transaction"]), (&json!(true), &json!(paid.id().to_string())), "{settle}");
    assert_eq!((&settle["network"], &settle["amount"]), (&json!("kaspa:simnet"), &json!(PRICE.to_string())), "{settle}");
    assert_eq!(settle["payer"], payer.address().to_string());
    assert_eq!(verify_again["isValid"], false, "{verify_again}");
    assert_eq!(
        (&settle_again["success"], &settle_again["errorReason"]),
        (&json!(false), &json!("invalid_transaction_state")),
        "{settle_again}"
    );
    support::patience::charged_once(&place.gateway, PRICE).await;
}

async fn run(mut command: Command, task: &Value) -> Vec<Value> {
    let task = task.to_string();
    let program = tokio::task::spawn_blocking(move || {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(task.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    });
    let output = tokio::time::timeout(std::time::Duration::from_secs(120), program).await.expect("the client never ended").unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}
