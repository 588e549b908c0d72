//! The command line: one file per subcommand.
//!
//! A subcommand's file holds its arguments and its `run`; this one only dispatches. What a program
//! reads goes to stdout, failures to stderr; colour only through [`paint`].

pub mod channel;
pub mod channels;
pub mod check;
pub mod claim;
pub mod explain;
pub mod health;
pub mod init;
pub mod keys;
pub mod mcp;
mod operator;
pub mod paint;
pub mod pay;
pub mod payments;
mod proof;
pub mod reconcile;
pub mod run;
pub mod store;
mod table;
pub mod vectors;
pub mod wallet;

use clap::{Parser, Subcommand};
use std::{future::Future, process::ExitCode};

/// Charge for an existing HTTP API in native KAS, per request.
#[derive(Parser)]
#[command(name = "kas402", version, about, arg_required_else_help = true)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway
    Run(run::Args),
    /// Find every error in a configuration, or explain one request
    Check(check::Args),
    /// Write a commented configuration to start from
    Init(init::Args),
    /// Make and check the keys that sign offers, and those that claim channels
    #[command(subcommand)]
    Keys(keys::Command),
    /// Ask a running gateway whether it is alive, or ready
    Health(health::Args),
    /// Show channels: deposits, charges, claims
    #[command(subcommand)]
    Channels(channels::Command),
    /// List, show, export and grant payments and charges
    #[command(subcommand)]
    Payments(payments::Command),
    /// Check a store, or move it
    #[command(subcommand)]
    Store(store::Command),
    /// Compare the store with the chain
    Reconcile(reconcile::Args),
    /// Claim what clients owe on their channels
    Claim(claim::Args),
    /// Make a wallet, show its address, balance and payments
    Wallet(wallet::Args),
    /// Fetch something that costs KAS
    Pay(Box<pay::Args>),
    /// Call tools of an MCP server that sells them
    #[command(subcommand)]
    Mcp(mcp::Command),
    /// Open, top up, show and refund channels of a wallet
    #[command(subcommand)]
    Channel(channel::Command),
    /// Buy by every flow there is on simnet or testnet-10, and write down what came of it
    Proof(proof::Args),
    /// Check conformance vectors
    #[command(subcommand)]
    Vectors(vectors::Command),
}

/// Entry point of the binary.
pub fn main() -> ExitCode {
    match Line::parse().command {
        Command::Run(args) => asynchronously(run::run(args)),
        Command::Check(args) => check::run(&args),
        Command::Init(args) => init::run(&args),
        Command::Keys(command) => keys::run(&command),
        Command::Health(args) => health::run(args),
        Command::Channels(command) => asynchronously(channels::run(command)),
        Command::Payments(command) => asynchronously(payments::run(command)),
        Command::Store(command) => asynchronously(store::run(command)),
        Command::Reconcile(args) => reconcile::run(args),
        Command::Claim(args) => claim::run(args),
        Command::Wallet(args) => asynchronously(wallet::run(args)),
        Command::Pay(args) => asynchronously(pay::run(*args)),
        Command::Mcp(command) => asynchronously(mcp::run(command)),
        Command::Channel(command) => asynchronously(channel::run(command)),
        Command::Proof(args) => asynchronously(proof::run(args)),
        Command::Vectors(command) => vectors::run(&command),
    }
}

/// Runs a subcommand that waits for a network on a runtime of its own.
fn asynchronously(command: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(command),
        Err(error) => fail(format!("no runtime: {error}")),
    }
}

/// Prints a line of output. A reader that went away (`| head`) is no failure.
fn say(text: impl std::fmt::Display) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints a failure and gives the exit code for it.
fn fail(message: impl std::fmt::Display) -> ExitCode {
    eprintln!("{} {message}", paint::Paint::stderr().red("error:"));
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Line::command().debug_assert();
    }
}
