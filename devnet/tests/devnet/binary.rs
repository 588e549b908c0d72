//! The binary as the gateway's tests use it.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::support::{KAS, Wallet};

struct Running {
    child: Child,
    stdout: BufReader<std::process::ChildStdout>,
    control: String,
    client: reqwest::Client,
}

impl Running {
    fn start(args: &[&str], temp: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_kas402-devnet"))
            .args(args)
            .env("TMPDIR", temp)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(ready["network"], "kaspa:simnet");
        assert!(ready["wrpc"][0].as_str().unwrap().starts_with("ws://127.0.0.1:"));
        Self { child, stdout, control: ready["control"].as_str().unwrap().into(), client: reqwest::Client::new() }
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        answer(self.client.get(format!("{}{path}", self.control))).await
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        answer(self.client.post(format!("{}{path}", self.control)).body(body.to_string())).await
    }

    /// Exit code and what else it printed.
    fn end(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_control_api_does_what_it_says() {
    let temp = tempfile::tempdir().unwrap();
    let devnet = Running::start(&["--nodes", "2", "--exit-with-stdin"], temp.path());
    let wallet = Wallet::new(1);
    let address = wallet.address.to_string();

    let (code, funded) = devnet.post("/fund", json!({ "address": address, "sompi": 5 * KAS, "count": 2 })).await;
    assert_eq!((code, funded["outpoints"].as_array().unwrap().len()), (200, 2));
    let outpoint = &funded["outpoints"][1];
    assert_eq!(outpoint["txid"], funded["txid"]);
    let (_, utxos) = devnet.get(&format!("/address/{address}/utxos?node=1")).await;
    assert_eq!(utxos["utxos"].as_array().unwrap().len(), 2);

    assert_eq!(devnet.post("/mining", json!({ "rate": 0 })).await.0, 200);
    let coin = crate::support::Coin {
        outpoint: kaspa_consensus_core::tx::TransactionOutpoint::new(outpoint["txid"].as_str().unwrap().parse().unwrap(), 1),
        sompi: 5 * KAS,
    };
    let tx = wallet.pay_all(coin, &wallet.address);
    let body = json!({ "node": 0, "transaction": hex::encode(borsh::to_vec(&tx).unwrap()) });
    assert_eq!(devnet.post("/submit", body.clone()).await, (200, json!({ "txid": tx.id().to_string() })));
    let (_, mempool) = devnet.get("/node/0/mempool").await;
    assert_eq!(mempool["transactions"][0]["txid"], tx.id().to_string());
    let (code, refused) = devnet.post("/submit", body).await;
    let text = format!("Rejected transaction {0}: transaction {0} is already in the mempool", tx.id());
    assert_eq!((code, refused), (422, json!({ "error": text, "code": "rejected" })));

    assert_eq!(devnet.post("/partition", json!({})).await.0, 200);
    assert_eq!(devnet.post("/mine", json!({ "blocks": 3, "node": 1 })).await.0, 200);
    assert_eq!(devnet.post("/rejoin", json!({})).await.0, 200);
    assert_eq!(devnet.post("/node/0/restart", json!({})).await.0, 200);
    assert_eq!(devnet.get("/node/0/mempool").await.1, json!({ "transactions": [] }));
    assert_eq!(devnet.post("/node/1/stop", json!({})).await.0, 200);
    for (path, body, code) in [
        ("/node/1/stop", json!({}), 409),
        ("/node/7/stop", json!({}), 404),
        ("/fund", json!({ "address": "kaspasim:nonsense", "sompi": 1 }), 400),
        ("/fund", json!({ "address": address, "sompi": 1, "more": 1 }), 400),
        ("/submit", json!({ "transaction": "00" }), 400),
        ("/mining", json!({ "rate": -1 }), 400),
    ] {
        assert_eq!(devnet.post(path, body).await.0, code, "{path}");
    }
    assert_eq!(devnet.post("/node/1/start", json!({})).await.0, 200);
    let (_, status) = devnet.get("/status").await;
    assert_eq!((&status["partitioned"], &status["nodes"][1]["chain"]["peers"]), (&json!(false), &json!(1)));

    assert_eq!(devnet.post("/shutdown", json!({})).await.0, 200);
    assert_eq!(devnet.end(), (Some(0), String::new()), "nothing but the one line on stdout");
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0, "the temporary directory is gone");
}

#[test]
fn closing_stdin_and_sigterm_end_it_cleanly() {
    let temp = tempfile::tempdir().unwrap();
    let mut with_stdin = Running::start(&["--exit-with-stdin"], temp.path());
    drop(with_stdin.child.stdin.take());
    assert_eq!(with_stdin.end(), (Some(0), String::new()));

    // At once, while the nodes still start: no ready line, and nothing is left behind.
    let early = Command::new(env!("CARGO_BIN_EXE_kas402-devnet"))
        .args(["--nodes", "2", "--exit-with-stdin"])
        .env("TMPDIR", temp.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!((early.status.code(), early.stdout), (Some(0), vec![]), "{}", String::from_utf8_lossy(&early.stderr));
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);

    let signalled = Running::start(&["--rate", "100"], temp.path());
    let kill = Command::new("kill").args(["-TERM", &signalled.child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    assert_eq!(signalled.end(), (Some(0), String::new()));
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
}
