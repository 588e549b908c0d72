//! Buys one request by a transaction of its own: `client_exact URL WALLET NODE`.
//!
//! Run again after any failure, it goes on with the same payment instead of paying twice.

use kas402::{
    chain::kaspa::{KaspaChain, Options},
    client::{Budget, CoinRules, Edge, Fetched, Journal, PaidClient, PaidRequest, Patience, SpendingPolicy, Wallet},
    protocol::amount::Amount,
    runtime::clock,
};
use rand::rngs::OsRng;
use std::{error::Error, path::Path, sync::Arc};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, wallet, node] = &arguments[..] else { return Err("client_exact URL WALLET NODE".into()) };

    let file = Path::new(wallet);
    let wallet = Wallet::load(file)?;
    let network = wallet.network();
    let journal = Journal::open(&file.with_extension("payments.sqlite"))?;
    let chain = KaspaChain::connect(Options::new(network, vec![node.clone()], Arc::new(clock::now)));

    // At most this for one request, at one server, and in all.
    let policy = SpendingPolicy::up_to(Amount::parse_price("0.5 KAS")?, network).within(Budget {
        per_origin: Some(Amount::parse_price("5 KAS")?),
        total: Some(Amount::parse_price("20 KAS")?),
        ..Budget::default()
    });
    let client = PaidClient::new(Arc::new(wallet), Arc::new(journal), Some(chain), policy, CoinRules::of(network), Patience::default());

    let request = PaidRequest::get(url)?;
    let mut edge = Edge { now: &clock::now, rng: &mut OsRng, watch: &mut |_| {} };
    match client.fetch(&request, false, &mut edge).await? {
        Fetched::Paid { reply, payment, .. } => {
            println!("{} {}", reply.status.as_u16(), String::from_utf8_lossy(&reply.body));
            println!("paid {} and a network fee of {}: {}", payment.amount.to_kas(), payment.fee.to_kas(), payment.txid);
        }
        other => println!("nothing to pay: {other:?}"),
    }
    Ok(())
}
