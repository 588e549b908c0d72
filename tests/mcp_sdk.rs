//! The official MCP SDKs for TypeScript (revision 2025-11-25) and for Python (2026-07-28 and before): their servers behind the gateway,
//! called by their clients, unpaid and paid. Nothing in them knows of money but the payment that is put into `_meta`.

mod support;

use kas402::wire::fingerprint;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use support::{
    devnet::{Devnet, KAS, Wallet},
    gateway::{Gateway, ORIGIN, yaml},
    packages,
    patience::number,
    pay::{bound, transaction},
    schema,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(60);

const ROUTES: &str = r#"
  - path: /mcp
    kind: mcp
    tools: [{tool: search, price: "0.25 KAS"}]
"#;

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mcp_sdk")
}

/// How the programs of one SDK are started.
struct Sdk {
    program: PathBuf,
    folder: PathBuf,
    extension: &'static str,
    /// Holds the folder where its packages are found.
    _links: Option<TempDir>,
}

impl Sdk {
    fn python() -> Option<Self> {
        let program = packages::python(&here().join("requirements.txt"))?;
        Some(Self { program, folder: here(), extension: "py", _links: None })
    }

    fn typescript() -> Option<Self> {
        let modules = packages::node_modules(&here())?;
        let folder = tempfile::tempdir().unwrap();
        for name in ["server.mjs", "client.mjs"] {
            std::fs::copy(here().join(name), folder.path().join(name)).unwrap();
        }
        std::os::unix::fs::symlink(modules, folder.path().join("node_modules")).unwrap();
        Some(Self { program: "node".into(), folder: folder.path().to_owned(), extension: "mjs", _links: Some(folder) })
    }

    fn start(&self, name: &str, arguments: &[&str]) -> Program {
        let mut child = Command::new(&self.program)
            .arg(self.folder.join(format!("{name}.{}", self.extension)))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Program { child, lines }
    }
}

/// A program under way.
struct Program {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Program {
    /// The next line that it prints.
    async fn line(&mut self) -> Option<String> {
        timeout(PATIENCE, self.lines.next_line()).await.expect("it prints a line or ends").unwrap()
    }

    async fn hear(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().unwrap();
        input.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        input.flush().await.unwrap();
    }

    /// What a client tells, by name, until this name or its end.
    async fn told(&mut self, until: &str) -> BTreeMap<String, Value> {
        let mut told = BTreeMap::new();
        while let Some(line) = self.line().await {
            let value: BTreeMap<String, Value> = serde_json::from_str(&line).unwrap();
            told.extend(value);
            if told.contains_key(until) {
                return told;
            }
        }
        assert!(self.child.wait().await.unwrap().success(), "the client failed: {told:?}");
        told
    }
}

#[tokio::test]
async fn the_official_sdks_call_free_and_paid_tools_through_the_gateway() {
    let sdks: Vec<Sdk> = [Sdk::typescript(), Sdk::python()].into_iter().flatten().collect();
    if sdks.is_empty() {
        return;
    }
    let devnet = Devnet::start(1, 10.0).await;
    let payer = Wallet::new(1);
    let pairs = u64::try_from(sdks.len() * sdks.len()).unwrap();
    let coins = devnet.fund(&payer, KAS, pairs).await;
    let mut coins = coins.chunks(1);
    for server_sdk in &sdks {
        let mut server = server_sdk.start("server", &[]);
        let upstream = server.line().await.expect("its address");
        let gateway = Gateway::start(&yaml(&devnet.wrpc[..1], &Wallet::new(200), &upstream, ROUTES, "")).await;
        let mut runs = 0;
        for client_sdk in &sdks {
            let name = format!("server.{} client.{}", server_sdk.extension, client_sdk.extension);
            let direct = client_sdk.start("client", &[&format!("{upstream}/mcp")]).told("").await;
            let mut client = client_sdk.start("client", &[&format!("{}/mcp", gateway.url()), "paid"]);
            let told = client.told("unpaid").await;
            assert_eq!(without_prices(&told), direct, "{name}: what is free is unchanged");

            let offers = &told["unpaid"]["structuredContent"];
            assert_eq!((&told["unpaid"]["isError"], &offers["x402Version"]), (&json!(true), &json!(2)), "{name}: {offers}");
            schema::required(offers);
            let accepted = &offers["accepts"][0];
            let transaction = transaction(&payer, coins.next().unwrap(), accepted);
            let hash = fingerprint::tool_call_hash(&format!("{ORIGIN}/mcp"), "search", Some(&json!({"q": "kaspa"})), accepted);
            let payment = bound(hash, accepted, &transaction);
            client.hear(&payment.to_string()).await;
            runs += 1;
            let paid = client.told("paid").await;
            served(&name, &paid["paid"], runs, &transaction.id().to_string());
            assert_eq!(client.told("progress").await["progress"], 1, "{name}");
            let again = client.told("again").await;
            served(&name, &again["again"], runs, &transaction.id().to_string());
            assert_eq!(client.told("progress").await["progress"], 0, "{name}: nothing ran");
            client.told("").await;
        }
        let payments = gateway.payments().await;
        assert_eq!(["delivered", "chargedSompi"].map(|name| number(&payments, name)), [runs, KAS / 4 * runs], "{payments}");
    }
}

fn served(name: &str, result: &Value, runs: u64, txid: &str) {
    assert_eq!(result["content"][0]["text"], format!("found kaspa, run {runs}"), "{name}: {result}");
    let receipt = &result["_meta"]["x402/payment-response"];
    assert_eq!((&receipt["success"], &receipt["transaction"]), (&json!(true), &json!(txid)), "{name}: {result}");
    schema::receipt(receipt);
}

/// What a client told before it was asked for money, but for the prices, which have to be there.
fn without_prices(told: &BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    let mut told = told.clone();
    told.remove("unpaid");
    let search = told.get_mut("tools").and_then(|tools| tools.get_mut(1)).and_then(Value::as_object_mut).unwrap();
    let price = search.remove("_meta").unwrap();
    assert_eq!(price, json!({"kas402/price": {"asset": "KAS", "accepts": [{"scheme": "exact", "amount": "25000000"}]}}));
    told
}
