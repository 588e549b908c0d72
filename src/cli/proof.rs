//! `kas402 proof`: every flow of both schemes, bought for real coins on a network, with a report of what came of it.
//!
//! Exit codes: 0 every flow passed; 1 one did not, or nothing could be begun; 2 a mistake in how it was asked.

use super::{
    fail,
    wallet::{WalletArg, connect},
};
use crate::{
    chain::Chain,
    proof::{self, Plan},
    protocol::network::Network,
    runtime::clock,
};
use std::{path::PathBuf, process::ExitCode, sync::Arc};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Where: simnet or testnet-10
    #[arg(long, value_name = "NETWORK", value_parser = network)]
    network: Network,
    #[command(flatten)]
    wallet: WalletArg,
    /// A node of yours, wRPC Borsh, with utxo index: ws://host:port
    #[arg(long, env = "KAS402_NODE", value_name = "URL")]
    node: String,
    /// For the gateway of the proof, the seller's wallet, and the reports proof.md and proof.json
    #[arg(long, default_value = "kas402-proof", value_name = "FOLDER")]
    folder: PathBuf,
}

/// The names of the networks on which nothing of value is risked.
fn network(text: &str) -> Result<Network, String> {
    let known = [("simnet", Network::Simnet), ("testnet-10", Network::Testnet10)];
    let named = |(name, network): &(&str, Network)| *name == text || network.as_str() == text;
    known.into_iter().find(named).map(|(_, network)| network).ok_or_else(|| "simnet or testnet-10".to_owned())
}

pub async fn run(args: Args) -> ExitCode {
    let Args { network, wallet, node, folder } = args;
    let usage = |error: String| {
        eprintln!("kas402 proof: {error}");
        ExitCode::from(2)
    };
    let loaded = match wallet.load() {
        Ok(loaded) if loaded.network() == network => loaded,
        Ok(loaded) => return usage(format!("the wallet is on {}", loaded.network())),
        Err(error) => return usage(error),
    };
    let journal = match wallet.journal() {
        Ok(journal) => journal,
        Err(error) => return usage(error),
    };
    let chain = connect(network, node.clone()) as Arc<dyn Chain>;
    let plan = Plan { folder: folder.clone(), wallet: Arc::new(loaded), journal: Arc::new(journal), node, chain, now: clock::now };
    let report = match proof::prove(plan, &mut |words| eprintln!("{words}")).await {
        Ok(report) => report,
        Err(error) => return fail(error),
    };
    let json = serde_json::to_string_pretty(&report.json()).expect("a report is JSON");
    for (name, text) in [("proof.md", report.markdown()), ("proof.json", json)] {
        let path = folder.join(name);
        if let Err(error) = std::fs::write(&path, text) {
            return fail(format!("{}: {error}", path.display()));
        }
        super::say(path.display());
    }
    match report.steps.iter().find_map(|step| Some((step.name, step.failure.as_ref()?))) {
        None if report.passed() => ExitCode::SUCCESS,
        None => fail("not every flow was gone through"),
        Some((name, failure)) => fail(format!("{name}: {failure}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_made_where_nothing_of_value_is_risked() {
        for (text, expect) in [
            ("simnet", Some(Network::Simnet)),
            ("testnet-10", Some(Network::Testnet10)),
            ("kaspa:testnet-10", Some(Network::Testnet10)),
            ("mainnet", None),
            ("kaspa:mainnet", None),
            ("", None),
        ] {
            assert_eq!(network(text).ok(), expect, "{text}");
        }
    }
}
