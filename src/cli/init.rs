//! `kas402 init`: a commented configuration that passes `check`, and keys when asked for.

use super::{fail, keys, say};
use crate::{
    config::{self, Environment},
    protocol::network::Network,
};
use std::{fs::OpenOptions, io::Write as _, path::PathBuf, process::ExitCode};

#[derive(clap::Args)]
pub struct Args {
    /// kaspa:testnet-10, kaspa:simnet or kaspa:mainnet.
    #[arg(long, default_value = "kaspa:testnet-10")]
    pub network: String,
    /// Your API.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:3000")]
    pub upstream: String,
    /// Your Kaspa address.
    #[arg(long, value_name = "ADDRESS")]
    pub pay_to: String,
    /// Origin under which clients reach the gateway.
    #[arg(long, value_name = "ORIGIN", default_value = "http://127.0.0.1:8402")]
    pub public_origin: String,
    /// wRPC URL of your node.
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:17210")]
    pub node: String,
    /// Where to write; never overwrites.
    #[arg(short, long, value_name = "FILE", default_value = "kas402.yaml")]
    pub output: PathBuf,
    /// Also make the offer key file beside it.
    #[arg(long)]
    pub keys: bool,
}

pub fn run(args: &Args) -> ExitCode {
    match write(args) {
        Ok(text) => {
            say(text);
            ExitCode::SUCCESS
        }
        Err(why) => fail(why),
    }
}

fn write(args: &Args) -> Result<String, String> {
    let network: Network = args.network.parse().map_err(|error| format!("{error}"))?;
    let text = compose(args, network);
    // What does not pass its own check is not written: the arguments are then at fault.
    let environment = Environment { secrets: false, ..Environment::process() };
    let folder = config::folder_of(&args.output);
    config::compile_text(&text, folder, &environment)
        .map_err(|problems| format!("these arguments do not make a configuration:\n{problems}"))?;
    let file = args.output.display();
    let created = OpenOptions::new().write(true).create_new(true).open(&args.output);
    created.and_then(|mut created| created.write_all(text.as_bytes())).map_err(|error| format!("{file}: {error}"))?;
    let mut said = format!("wrote {file}");
    let keys_file = folder.join("offer.keys");
    if args.keys {
        said += &format!("\n{}", keys::create(&keys_file, None)?);
    } else {
        said += &format!("\nnext: kas402 keys new {}", keys_file.display());
    }
    Ok(format!("{said}\nthen: kas402 check -c {file}"))
}

fn compose(args: &Args, network: Network) -> String {
    let opt_in = match network {
        Network::Testnet10 => "",
        Network::Simnet => "allow_simnet: true                  # local development\n",
        Network::Mainnet => "allow_mainnet: true                 # real money\n",
    };
    // JSON strings are YAML strings: an argument cannot become structure.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    format!(
        r#"# kas402 configuration. Every key, default and warning: docs/config.md. Check it with: kas402 check
network: {network}
{opt_in}public_origin: {origin}   # how clients reach this gateway; part of every offer
listen: 127.0.0.1:8402
pay_to: {pay_to}

node:
  urls: [{node}]      # your own node, wRPC (Borsh), with --utxoindex

store:
  path: kas402.db                   # payments; keep and back up

upstream: {upstream}       # your API, unchanged

routes:                             # the most specific route wins, whatever the order
  - path: /health
    free: true
  - path: /{{*rest}}                  # everything else is sold
    price: "0.25 KAS"
  # - path: /v1/chat                # a price by what the request asks for
  #   methods: [POST]
  #   price:
  #     by: {{json: /model}}
  #     table: {{small: "0.25 KAS", large: "2 KAS"}}
  #   finality: {{confirmed: 10}}     # default: accepted
  # - path: /v1/tokens              # many small charges over one deposit; not on mainnet
  #   scheme: batch-settlement
  #   price: "0.01 KAS"             # the most one request can cost
  #   min_deposit: "2 KAS"
  #   charge: {{json: /usage/total_tokens, unit_price: "500 sompi"}}
# keys: {{server: {{file: server.keys}}}} # signs the claims: kas402 keys new --server
"#,
        origin = quoted(&args.public_origin),
        pay_to = quoted(&args.pay_to),
        node = quoted(&args.node),
        upstream = quoted(&args.upstream),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use kaspa_addresses::{Address, Version};

    fn args(folder: &std::path::Path, network: Network) -> Args {
        Args {
            network: network.to_string(),
            upstream: "http://127.0.0.1:3000".into(),
            pay_to: Address::new(network.address_prefix(), Version::PubKey, &[7; 32]).to_string(),
            public_origin: "http://127.0.0.1:8402".into(),
            node: "ws://127.0.0.1:17210".into(),
            output: folder.join("kas402.yaml"),
            keys: true,
        }
    }

    #[test]
    fn what_init_writes_passes_check_with_its_keys() {
        for network in Network::ALL {
            let folder = tempfile::tempdir().unwrap();
            let args = args(folder.path(), network);
            write(&args).unwrap();
            let environment = Environment { var: &|_| None, secrets: true };
            let compiled = config::load(&args.output, &environment).map_err(|problems| problems.to_string()).unwrap();
            assert_eq!(compiled.offer_keys.len(), 1);
            assert_eq!(compiled.policy.network, network);
            assert!(write(&args).is_err(), "an existing file is never overwritten");
        }
    }

    #[test]
    fn arguments_that_make_no_configuration_write_nothing() {
        let folder = tempfile::tempdir().unwrap();
        for change in [
            (|args: &mut Args| args.pay_to = "kaspa:x".into()) as fn(&mut Args),
            |args| args.network = "testnet".into(),
            |args| args.upstream = "x\"\nallow_mainnet: true".into(),
            |args| args.node = "http://x".into(),
        ] {
            let mut args = args(folder.path(), Network::Testnet10);
            change(&mut args);
            assert!(write(&args).is_err());
            assert!(!args.output.exists() && !folder.path().join("offer.keys").exists());
        }
    }

    #[test]
    fn what_is_commented_out_is_right_too() {
        for network in [Network::Testnet10, Network::Simnet] {
            let folder = tempfile::tempdir().unwrap();
            let text = compose(&args(folder.path(), network), network);
            let told = text.replace("\n  # ", "\n  ").replace("\n# keys:", "\nkeys:");
            let environment = Environment { var: &|_| None, secrets: false };
            let compiled = config::compile_text(&told, folder.path(), &environment).map_err(|problems| problems.to_string()).unwrap();
            assert_eq!(compiled.policy.router.routes().len(), 4);
            assert!(compiled.policy.channels.is_some() && compiled.warnings.is_empty(), "{}", compiled.warnings);
        }
    }
}
