//! The command line: one file per subcommand.

pub mod health;
pub mod pay;
pub mod wallet;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "kas402", version)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a wallet, show its address, balance and payments
    Wallet(wallet::Args),
    /// Fetch something that costs KAS
    Pay(Box<pay::Args>),
    /// Ask a running gateway whether it is alive, or ready to sell
    Health(health::Args),
}

/// Entry point of the binary.
pub fn main() -> ExitCode {
    let line = Line::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("kas402: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(async {
        match line.command {
            Command::Wallet(args) => wallet::run(args).await,
            Command::Pay(args) => pay::run(*args).await,
            Command::Health(args) => health::run(args, None),
        }
    })
}
