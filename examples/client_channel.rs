//! Buys some requests from a channel: `client_channel URL WALLET NODE COUNT`.
//!
//! The first one opens the channel with a deposit, unless one pays this server already; the others cost a signature each.
//! What is not charged comes back after the channel's timeout, by `kas402 channel refund`.

use kas402::{
    chain::{
        Chain,
        kaspa::{KaspaChain, Options},
    },
    client::{
        CoinRules, Edge, Fetched, Journal, PaidRequest, Patience, SpendingPolicy, Wallet,
        channel::{ChannelPayer, ChannelPolicy, Channels, Cost, Want},
    },
    protocol::amount::Amount,
    runtime::clock,
};
use rand::rngs::OsRng;
use std::{error::Error, path::Path, sync::Arc};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, wallet, node, count] = &arguments[..] else { return Err("client_channel URL WALLET NODE COUNT".into()) };

    let file = Path::new(wallet);
    let wallet = Arc::new(Wallet::load(file)?);
    let network = wallet.network();
    let journal = Arc::new(Journal::open(&file.with_extension("payments.sqlite"))?);
    let chain: Arc<dyn Chain> = KaspaChain::connect(Options::new(network, vec![node.clone()], Arc::new(clock::now)));

    let channels = Channels::new(wallet, journal, Some(chain), CoinRules::of(network), Patience::default());
    let policy = SpendingPolicy::up_to(Amount::parse_price("0.05 KAS")?, network);
    let terms = ChannelPolicy {
        deposit: Some(Amount::parse_price("2 KAS")?),
        max_locked: Some(Amount::parse_price("10 KAS")?),
        ..ChannelPolicy::default()
    };
    let payer = ChannelPayer::new(channels, policy, terms);

    let request = PaidRequest::get(url)?;
    for _ in 0..count.parse::<u32>()? {
        let mut edge = Edge { now: &clock::now, rng: &mut OsRng, watch: &mut |_| {} };
        match payer.fetch(&request, Want::Pay, false, &mut edge).await? {
            Fetched::Charged { reply, charge } => {
                println!("{} {}", reply.status.as_u16(), String::from_utf8_lossy(&reply.body));
                match charge.cost {
                    Cost::Charged { amount, receipt } => {
                        println!("charged {} to {}: {}", amount.to_kas(), charge.channel, receipt.commitment);
                    }
                    other => println!("charged at most {}: {other:?}", charge.ceiling.to_kas()),
                }
            }
            other => println!("nothing to pay: {other:?}"),
        }
    }
    Ok(())
}
