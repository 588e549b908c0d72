//! A gateway with something to sell, and programs that buy from it.

use crate::{
    support::{
        devnet::{KAS, Wallet},
        gateway::World,
        patience::number,
    },
    tools,
};
use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::{Instant, timeout},
};

pub const PRICE: u64 = KAS / 4;
const ROUTES: &str = "  - {path: \"/paid/{*rest}\", price: 0.25 KAS}\n  - {path: \"/flaky/{*rest}\", price: 0.25 KAS}\n  \
    - {path: \"/named/{*rest}\", price: 0.25 KAS, payment_identifier: required}\n  \
    - {path: \"/slow/{*rest}\", price: 0.25 KAS, settle_wait_seconds: 1}\n  - {path: \"/free/{*rest}\", free: true}";
/// Only turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(120);

pub struct Shop {
    pub world: World,
    pub wallet: Wallet,
    /// The node's wRPC URLs.
    pub borsh: String,
    pub json: String,
}

impl Shop {
    pub async fn open() -> Self {
        Self::of(ROUTES, "").await
    }

    pub async fn of(routes: &str, more: &str) -> Self {
        Self::over(World::start(routes, more).await).await
    }

    pub async fn over(world: World) -> Self {
        let node = world.devnet.get("/status").await["nodes"][0].clone();
        let url = |name: &str| node[name].as_str().unwrap().to_owned();
        Self { wallet: Wallet::new(1), borsh: url("wrpc"), json: url("wrpc_json"), world }
    }

    /// A program with the wallet's secret and this node.
    pub fn command(&self, program: &Program, node: &str) -> Command {
        let mut command = Command::new(&program.name);
        command.args(&program.arguments).envs(program.environment.iter().cloned());
        command.env("KASPA_SECRET_KEY", hex::encode(self.wallet.keypair.secret_bytes())).env("KASPA_NODE", node);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// Delivered payments and the sum of charges.
    pub async fn charged(&self) -> (u64, u64) {
        let payments = self.world.gateway.payments().await;
        (number(&payments, "delivered"), number(&payments, "chargedSompi"))
    }

    /// Whether the gateway has been paid by this transaction.
    pub async fn known(&self, txid: &str) -> bool {
        let shown = self.world.gateway.command().args(["payments", "show", txid, "--json"]).output().await.unwrap();
        shown.status.success()
    }

    pub async fn until(&self, what: &str, so: impl AsyncFn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !so().await {
            assert!(Instant::now() < deadline, "never {what}; log:\n{}", self.world.gateway.log());
            tokio::time::sleep(Duration::from_millis(20)).await; // why: the admin socket pushes nothing
        }
    }
}

/// An interpreter and what it is told.
pub struct Program {
    pub name: String,
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
}

/// CPython with the examples to import, writing nothing beside them.
pub fn python(interpreter: &Path) -> Program {
    let examples = format!("{}/python", tools::EXAMPLES);
    Program {
        name: interpreter.display().to_string(),
        arguments: vec!["-B".into()],
        environment: vec![("PYTHONPATH".into(), examples), ("PYTHONUNBUFFERED".into(), "1".into())],
    }
}

/// One of the examples, run as people run it.
pub struct Payer {
    program: Program,
    node: String,
    /// Where it is run, and keeps its payments.
    folder: TempDir,
    _code: Option<TempDir>,
}

impl Payer {
    pub fn python(interpreter: &Path, shop: &Shop) -> Self {
        Self::of(interpreter, shop, Path::new(tools::EXAMPLES).join("python/pay.py"))
    }

    pub fn asynchronous(interpreter: &Path, shop: &Shop) -> Self {
        Self::of(interpreter, shop, tools::here().join("pay_async.py"))
    }

    fn of(interpreter: &Path, shop: &Shop, code: PathBuf) -> Self {
        let mut program = python(interpreter);
        program.arguments.push(code.display().to_string());
        Self { program, node: shop.borsh.clone(), folder: tempfile::tempdir().unwrap(), _code: None }
    }

    pub fn javascript(modules: &Path, shop: &Shop) -> Self {
        let code = tools::javascript(modules);
        let arguments = vec![code.path().join("pay.mjs").display().to_string()];
        let program = Program { name: "node".into(), arguments, environment: Vec::new() };
        Self { program, node: shop.json.clone(), folder: tempfile::tempdir().unwrap(), _code: Some(code) }
    }

    pub fn start(&self, shop: &Shop, path: &str, max_sompi: u64) -> Child {
        let mut command = shop.command(&self.program, &self.node);
        command.arg(format!("{}{path}", shop.world.gateway.url())).arg(max_sompi.to_string()).current_dir(self.folder.path());
        command.spawn().unwrap()
    }

    pub async fn pay(&self, shop: &Shop, path: &str, max_sompi: u64) -> Told {
        Told::by(self.start(shop, path, max_sompi)).await
    }

    /// Payments that it would bring again.
    pub fn kept(&self) -> usize {
        std::fs::read_dir(self.folder.path()).unwrap().count()
    }
}

/// What a program said.
#[derive(Debug)]
pub struct Told {
    pub succeeded: bool,
    pub said: String,
}

impl Told {
    pub async fn by(child: Child) -> Self {
        let output = timeout(PATIENCE, child.wait_with_output()).await.expect("the client never ended").unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        Self { succeeded: output.status.success(), said }
    }

    pub fn lines(&self) -> std::str::Lines<'_> {
        self.said.lines()
    }

    /// The transaction of its receipt over the price.
    #[track_caller]
    pub fn receipt(&self, success: &str) -> &str {
        let line = self.lines().nth(1).unwrap_or_else(|| panic!("{self:?}"));
        let start = format!("receipt: success={success} amount={PRICE} transaction=");
        let success = line.to_lowercase();
        assert!(success.starts_with(&start), "{self:?}");
        &line[start.len()..]
    }
}

/// Runs to the end; what it printed.
pub async fn succeeded(mut command: Command) -> String {
    let told = Told::by(command.spawn().unwrap()).await;
    assert!(told.succeeded, "{}", told.said);
    told.said
}
