//! `docs/clients.md` shows the examples as they are, and what it shows works. `UPDATE_DOCS=1` writes the examples into it anew.

use crate::{
    shop::{PRICE, Shop, Told},
    support::{
        channel::SETTINGS,
        devnet::{KAS, Wallet},
        gateway::{Gateway, ORIGIN, World, yaml},
        patience::number,
    },
    tools,
};
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Stdio,
};
use tempfile::TempDir;
use tokio::process::Command;

const ROUTES: &str = "  - {path: \"/paid/{*rest}\", price: 0.25 KAS}\n  \
    - {path: \"/channel/{*rest}\", scheme: batch-settlement, price: 0.01 KAS, min_deposit: 2 KAS}";
const FILE: &str = "<!-- file: ";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn guide() -> String {
    fs::read_to_string(root().join("docs/clients.md")).unwrap()
}

#[test]
fn the_guide_shows_the_examples_as_they_are() {
    let text = guide();
    let mut parts = text.split(FILE);
    let mut whole = parts.next().unwrap().to_owned();
    let mut shown = 0;
    for part in parts {
        let (name, rest) = part.split_once(" -->\n").unwrap();
        let (fence, rest) = rest.split_once('\n').unwrap();
        let (_, after) = rest.split_once("```\n").unwrap();
        let file = fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        whole += &format!("{FILE}{name} -->\n{fence}\n{file}```\n{after}");
        shown += 1;
    }
    assert!(shown >= 6);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(root().join("docs/clients.md"), whole).unwrap();
    } else {
        assert!(whole == text, "docs/clients.md is out of date: UPDATE_DOCS=1 cargo test --test foreign_clients guide");
    }
}

/// The commands that are to be run, in their order.
fn commands() -> Vec<String> {
    let text = guide();
    let blocks = text.split("```sh run\n").skip(1);
    blocks.map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// A shop whose offers name the very address that clients use.
async fn open() -> Shop {
    let devnet = crate::support::devnet::Devnet::start(1, 10.0).await;
    let upstream = crate::support::upstream::Upstream::start().await;
    let seller = Wallet::new(200);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let yaml = yaml(&devnet.wrpc[..1], &seller, &upstream.url(), ROUTES, SETTINGS);
    let yaml = yaml.replace(ORIGIN, &format!("http://{free}")).replace("listen: 127.0.0.1:0", &format!("listen: {free}"));
    let gateway = Gateway::start(&yaml).await;
    Shop::over(World { devnet, upstream, seller, gateway }).await
}

/// A folder as the reader of the guide has it.
fn folder() -> TempDir {
    let folder = match tools::node_modules() {
        Some(modules) => tools::javascript(&modules),
        None => tempfile::tempdir().unwrap(),
    };
    for name in ["pay.py", "kaspa_exact.py"] {
        fs::copy(Path::new(tools::EXAMPLES).join("python").join(name), folder.path().join(name)).unwrap();
    }
    if let Some(interpreter) = tools::python() {
        symlink(interpreter.ancestors().nth(2).unwrap(), folder.path().join("venv")).unwrap();
    }
    folder
}

fn shell(shop: &Shop, folder: &Path, script: &str) -> Command {
    let binaries = Path::new(env!("CARGO_BIN_EXE_kas402")).parent().unwrap();
    let path = std::env::join_paths([binaries.to_owned()].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())));
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", script]).current_dir(folder).env("PATH", path.unwrap()).env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("URL", format!("{}/paid/report", shop.world.gateway.url())).env("NETWORK", "kaspa:simnet");
    command.env("KAS402_NODE", &shop.borsh).env("KAS402_NODE_JSON", &shop.json).env_remove("KAS402_WALLET");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

async fn run(mut command: Command) -> String {
    let told = Told::by(command.spawn().unwrap()).await;
    assert!(told.succeeded, "{command:?}:\n{}", told.said);
    told.said
}

/// Coins for the wallet of the guide.
async fn fund(shop: &Shop, folder: &Path) {
    let address = run(shell(shop, folder, "kas402 wallet address --wallet wallet.json")).await;
    let body = serde_json::json!({ "address": address.trim(), "sompi": 10 * KAS, "count": 6 });
    shop.world.devnet.post("/fund", body).await;
    // The buyer spends what is ten blocks old.
    shop.world.devnet.mine(0, 20).await;
}

#[tokio::test]
async fn the_commands_of_the_guide_work_one_after_the_other() {
    let shop = open().await;
    let folder = folder();
    let commands = commands();
    assert!(commands.len() >= 5, "{commands:?}");
    run(shell(&shop, folder.path(), &commands[0])).await;
    fund(&shop, folder.path()).await;
    let mut paid = 0;
    for block in &commands[1..] {
        let missing = block.contains("pay.py") && tools::python().is_none() || block.contains("pay.mjs") && tools::node_modules().is_none();
        if missing {
            continue;
        }
        let said = run(shell(&shop, folder.path(), block)).await;
        paid += u64::from(said.contains("GET /paid/report "));
        assert_eq!(shop.charged().await, (paid, paid * PRICE), "after {block}:\n{said}");
    }
    assert!(paid > 0);
}

/// An example that cargo built beside this test.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(path.exists(), "{} is missing: cargo build --workspace --all-targets", path.display());
    path
}

#[tokio::test]
async fn the_rust_examples_pay_by_a_transaction_and_from_a_channel() {
    let shop = open().await;
    let folder = folder();
    run(shell(&shop, folder.path(), &commands()[0])).await;
    fund(&shop, folder.path()).await;

    let exact = format!("'{}' \"$URL\" wallet.json \"$KAS402_NODE\"", example("client_exact").display());
    let said = run(shell(&shop, folder.path(), &exact)).await;
    assert!(said.starts_with("200 GET /paid/report \npaid 0.25 KAS and a network fee of "), "{said}");
    assert_eq!(shop.charged().await, (1, PRICE));

    let url = format!("{}/channel/report", shop.world.gateway.url());
    let channel = format!("'{}' '{url}' wallet.json \"$KAS402_NODE\" 3", example("client_channel").display());
    for _ in 0..2 {
        let said = run(shell(&shop, folder.path(), &channel)).await;
        assert_eq!(said.matches("200 GET /channel/report ").count(), 3, "{said}");
        assert_eq!(said.matches("charged 0.01 KAS to ").count(), 3, "{said}");
    }
    let channels = shop.world.gateway.status().await["channels"].clone();
    assert_eq!((number(&channels, "open"), number(&channels, "chargedSompi")), (1, 6 * KAS / 100), "{channels}");
}
