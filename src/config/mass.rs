//! Whether an ordinary wallet can pay an amount, by the node's own storage-mass rule (KIP-9).

use crate::protocol::{amount::Amount, network::Network};
use kaspa_consensus_core::{
    config::params::Params,
    mass::{UtxoCell, calc_storage_mass},
};

/// The change an ordinary wallet keeps, sompi: 100 KAS. Its own storage mass hardly counts.
const CHANGE_SOMPI: u64 = 10_000_000_000;
/// What wallets of the Kaspa SDK allow one transaction, grams.
const WALLET_GRAMS: u64 = 100_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payable {
    Yes,
    /// The network takes it, wallets that keep to [`WALLET_GRAMS`] do not make it.
    NotByEveryWallet,
    /// More storage mass than a block may hold.
    No,
}

/// For a payment from one ordinary input with change.
pub fn payable(network: Network, amount: Amount) -> Payable {
    let params = Params::from(network.id());
    let cell = |sompi| UtxoCell::new(1, sompi);
    let input = [cell(amount.sompi().saturating_add(CHANGE_SOMPI))];
    let outputs = [cell(amount.sompi()), cell(CHANGE_SOMPI)];
    if amount.is_zero() {
        return Payable::No;
    }
    match calc_storage_mass(false, input.into_iter(), outputs.into_iter(), params.storage_mass_parameter) {
        Some(grams) if grams <= WALLET_GRAMS => Payable::Yes,
        Some(grams) if grams <= params.block_mass_limits.storage => Payable::NotByEveryWallet,
        _ => Payable::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_prices_are_known_before_anybody_fails_to_pay_them() {
        for (price, expect) in [
            ("1 sompi", Payable::No),
            ("0.01 KAS", Payable::No),
            ("0.0199 KAS", Payable::No),
            ("0.02 KAS", Payable::No),
            ("0.0201 KAS", Payable::NotByEveryWallet),
            ("0.09 KAS", Payable::NotByEveryWallet),
            ("0.1 KAS", Payable::NotByEveryWallet),
            ("0.1001 KAS", Payable::Yes),
            ("0.25 KAS", Payable::Yes),
            ("1000000 KAS", Payable::Yes),
        ] {
            for network in Network::ALL {
                assert_eq!(payable(network, Amount::parse_price(price).unwrap()), expect, "{price} on {network}");
            }
        }
        assert_eq!(payable(Network::Simnet, Amount::ZERO), Payable::No);
    }
}
