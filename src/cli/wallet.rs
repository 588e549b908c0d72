//! `kas402 wallet`: make a wallet, show its address, its balance and its payments.
//!
//! The secret is printed only with `--show-secret`. Exit codes: 0 done, 1 not done, 2 a mistake in how it was asked.

use crate::{
    chain::{
        Chain,
        kaspa::{KaspaChain, Options},
    },
    client::{
        coins::{CoinRules, Purse},
        journal::{Entry, Journal},
        wallet::Wallet,
    },
    protocol::{
        amount::{Amount, AmountError},
        network::Network,
    },
    runtime::clock,
};
use rand::rngs::OsRng;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

/// Longest wait for a node to be ready.
const NODE_PATIENCE: Duration = Duration::from_secs(30);

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Make a new wallet file, never overwriting one
    New {
        #[command(flatten)]
        file: WalletArg,
        /// kaspa:testnet-10, kaspa:simnet or kaspa:mainnet
        #[arg(long, default_value = "kaspa:testnet-10")]
        network: Network,
        /// Mainnet is refused without this: nothing here was audited
        #[arg(long)]
        allow_mainnet: bool,
        /// Print the secret key too
        #[arg(long)]
        show_secret: bool,
    },
    /// Print the address to send KAS to
    Address {
        #[command(flatten)]
        file: WalletArg,
        /// Print the secret key too
        #[arg(long)]
        show_secret: bool,
    },
    /// Ask a node what the wallet holds
    Balance {
        #[command(flatten)]
        file: WalletArg,
        /// A node of yours, wRPC Borsh, with utxo index: ws://host:port
        #[arg(long, env = "KAS402_NODE", value_name = "URL")]
        node: String,
    },
    /// List the wallet's payments, newest first
    History {
        #[command(flatten)]
        file: WalletArg,
        /// How many
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
}

/// Which wallet.
#[derive(clap::Args, Debug)]
pub struct WalletArg {
    /// The wallet file; default: ~/.config/kas402/wallet.json
    #[arg(long = "wallet", visible_alias = "file", env = "KAS402_WALLET", value_name = "PATH")]
    path: Option<PathBuf>,
}

impl WalletArg {
    pub(super) fn path(&self) -> Result<PathBuf, String> {
        if let Some(path) = &self.path {
            return Ok(path.clone());
        }
        let home = std::env::var_os("HOME").ok_or("there is no home folder: give --wallet")?;
        Ok(Path::new(&home).join(".config/kas402/wallet.json"))
    }

    pub(super) fn load(&self) -> Result<Wallet, String> {
        Wallet::load(&self.path()?).map_err(|error| error.to_string())
    }

    /// The payments of this wallet, in a file beside it.
    pub(super) fn journal(&self) -> Result<Journal, String> {
        Journal::open(&self.path()?.with_extension("payments.sqlite")).map_err(|error| error.to_string())
    }
}

/// An amount with its unit: "0.5 KAS", "0.5KAS", "50000000 sompi".
pub(super) fn amount(text: &str) -> Result<Amount, AmountError> {
    match text.find(|c: char| c.is_ascii_alphabetic()) {
        Some(at) => Amount::parse_price(&format!("{} {}", text[..at].trim_end(), &text[at..])),
        None => Amount::parse_price(text),
    }
}

/// Starts connecting to a node; must be called inside a tokio runtime.
pub(super) fn connect(network: Network, node: String) -> Arc<KaspaChain> {
    KaspaChain::connect(Options::new(network, vec![node], Arc::new(clock::now)))
}

/// Runs the subcommand.
pub async fn run(args: Args) -> ExitCode {
    let done = match args.command {
        Command::New { file, network, allow_mainnet, show_secret } => new(&file, network, allow_mainnet, show_secret),
        Command::Address { file, show_secret } => file.load().map(|wallet| show(&wallet, show_secret)),
        Command::Balance { file, node } => balance(&file, node).await,
        Command::History { file, limit } => history(&file, limit),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kas402 wallet: {error}");
            ExitCode::FAILURE
        }
    }
}

fn new(file: &WalletArg, network: Network, allow_mainnet: bool, show_secret: bool) -> Result<(), String> {
    if network == Network::Mainnet && !allow_mainnet {
        return Err("kaspa:mainnet is refused without --allow-mainnet: nothing here was audited".into());
    }
    let path = file.path()?;
    let wallet = Wallet::generate(network, &mut OsRng);
    wallet.create(&path).map_err(|error| error.to_string())?;
    eprintln!("a new wallet on {network}, in {} (readable by you only; whoever has the file has the money)", path.display());
    show(&wallet, show_secret);
    Ok(())
}

fn show(wallet: &Wallet, show_secret: bool) {
    println!("{}", wallet.address());
    if show_secret {
        println!("{}", wallet.secret_hex().as_str());
    }
}

async fn balance(file: &WalletArg, node: String) -> Result<(), String> {
    let wallet = file.load()?;
    let locked = file.journal()?.locked().map_err(|error| error.to_string())?;
    let chain = connect(wallet.network(), node);
    let mut health = chain.health();
    let ready = tokio::time::timeout(NODE_PATIENCE, health.wait_for(|health| health.ready)).await.is_ok_and(|seen| seen.is_ok());
    if !ready {
        let reason = chain.health().borrow().reason.clone();
        return Err(format!("the node is not ready: {}", reason.unwrap_or_else(|| "disconnected".into())));
    }
    let utxos = chain.utxos(&wallet.address().to_string()).await.map_err(|error| error.to_string())?;
    let now_daa = chain.tip().borrow().daa_score;
    let purse = Purse::sort(&utxos, &wallet.script(), now_daa, &locked, &CoinRules::of(wallet.network()));
    println!("{} spendable in {} coins", purse.spendable().to_kas(), purse.coins.len());
    for (amount, what) in [
        (purse.young, "not old enough yet"),
        (purse.locked, "held by payments that may be on their way"),
        (purse.foreign, "not touched: bound to a covenant or another script"),
    ] {
        if !amount.is_zero() {
            println!("{} {what}", amount.to_kas());
        }
    }
    Ok(())
}

fn history(file: &WalletArg, limit: u32) -> Result<(), String> {
    let entries = file.journal()?.history(limit).map_err(|error| error.to_string())?;
    for Entry { state, amount, fee, txid, method, url, .. } in entries {
        println!("{:<9}  {:>16}  fee {:>14}  {txid}  {method} {url}", state.as_str(), amount.to_kas(), fee.to_kas());
    }
    Ok(())
}
