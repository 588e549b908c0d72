//! What the network asks of a spend: masses, limits, fees. Plain numbers from the node's own calculators.

use crate::protocol::{amount::Amount, network::Network};
use kaspa_consensus_core::{
    config::params::Params,
    mass::{BlockMassLimits, MassCalculator, UtxoCell, calc_storage_mass},
    tx::{Transaction, TransactionOutput, UtxoEntry},
};

/// The mempool's minimum relay fee rate, sompi per gram: kaspa-mining's default of 100,000 sompi per
/// kilogram. The node does not publish it.
const RELAY_SOMPI_PER_GRAM: u64 = 100;

/// Masses and fees of one network.
#[derive(Clone)]
pub struct SpendRules {
    calculator: MassCalculator,
    limits: BlockMassLimits,
    storage_mass_parameter: u64,
    priority_sompi_per_gram: u64,
    least_fee: Amount,
}

impl SpendRules {
    /// The rules of kaspad 2.1.0 on `network`, with the least fee that is relayed.
    pub fn of(network: Network) -> Self {
        let params = Params::from(network.id());
        Self {
            calculator: MassCalculator::new_with_consensus_params(&params),
            limits: params.block_mass_limits,
            storage_mass_parameter: params.storage_mass_parameter,
            priority_sompi_per_gram: 0,
            least_fee: Amount::ZERO,
        }
    }

    /// Offers this rate over the greatest of all masses, storage included, where it is more than the least.
    pub fn with_priority(self, sompi_per_gram: u64) -> Self {
        Self { priority_sompi_per_gram: sompi_per_gram, ..self }
    }

    /// Offers this fee where it is more than the least that is relayed.
    pub fn with_least_fee(self, least_fee: Amount) -> Self {
        Self { least_fee, ..self }
    }

    /// Storage mass (KIP-9); `None` when it cannot be computed or no block may hold it.
    pub fn storage_mass(&self, entries: &[UtxoEntry], outputs: &[TransactionOutput]) -> Option<u64> {
        if entries.iter().any(|entry| entry.amount == 0) || outputs.iter().any(|output| output.value == 0) {
            return None;
        }
        calc_storage_mass(false, entries.iter().map(UtxoCell::from), outputs.iter().map(UtxoCell::from), self.storage_mass_parameter)
            .filter(|grams| *grams <= self.limits.storage)
    }

    /// The fee of a transaction with signature scripts of full length and this storage mass; `None` when
    /// it is too heavy for a block.
    pub(super) fn fee(&self, transaction: &Transaction, storage_mass: u64) -> Option<Amount> {
        self.fee_of(self.relay_mass(transaction)?, storage_mass)
    }

    /// The mass that is paid for to be relayed; no amount in the transaction changes it. `None` when it is too heavy for a block.
    pub(super) fn relay_mass(&self, transaction: &Transaction) -> Option<u64> {
        let masses = self.calculator.calc_non_contextual_masses(transaction);
        let relay = masses.compute_mass.max(scale_up(masses.transient_mass, self.limits.compute, self.limits.transient));
        (relay <= self.limits.compute).then_some(relay)
    }

    /// The fee for a relay mass and a storage mass.
    pub(super) fn fee_of(&self, relay: u64, storage_mass: u64) -> Option<Amount> {
        let greatest = relay.max(scale_up(storage_mass, self.limits.compute, self.limits.storage));
        let floor = relay.checked_mul(RELAY_SOMPI_PER_GRAM)?;
        let offered = greatest.checked_mul(self.priority_sompi_per_gram)?;
        Amount::from_sompi(floor.max(offered)).ok().map(|fee| fee.max(self.least_fee))
    }
}

/// Rounds in which a fee must come to rest; a fee that still grows is eaten up by the transaction it pays for.
const FEE_ROUNDS: usize = 64;

/// The least fee that pays for the transaction which pays it. `price` builds the transaction with a given fee and says
/// what fee it needs; a greater fee leaves smaller outputs, which may weigh more, so it only grows. `Err` is the last fee tried.
pub(super) fn settle_fee<T>(price: impl Fn(Amount) -> Option<(Amount, T)>) -> Result<(Amount, T), Amount> {
    let mut fee = Amount::ZERO;
    for _ in 0..FEE_ROUNDS {
        match price(fee) {
            Some((needed, priced)) if needed <= fee => return Ok((fee, priced)),
            Some((needed, _)) => fee = needed,
            None => break,
        }
    }
    Err(fee)
}

/// `mass * to / from`, rounded up: another dimension of mass in the scale of compute mass.
fn scale_up(mass: u64, to: u64, from: u64) -> u64 {
    u64::try_from((u128::from(mass) * u128::from(to)).div_ceil(u128::from(from))).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_mass_in_the_scale_of_another_is_rounded_up() {
        for (mass, to, from, expect) in [(10, 500, 1_000, 5), (11, 500, 1_000, 6), (1, 500, 1_000, 1), (7, 3, 1, 21), (0, 1, 2, 0)] {
            assert_eq!(scale_up(mass, to, from), expect, "{mass} * {to} / {from}");
        }
        assert_eq!(scale_up(u64::MAX, u64::MAX, 1), u64::MAX, "more than a number holds");
    }

    #[test]
    fn a_fee_comes_to_rest_or_is_the_last_that_was_tried() {
        let amount = |sompi| Amount::from_sompi(sompi).unwrap();
        let settled = |price: &dyn Fn(u64) -> Option<u64>| settle_fee(|fee| Some((amount(price(fee.sompi())?), ()))).map(|(fee, ())| fee);
        assert_eq!(settled(&|_| Some(5)), Ok(amount(5)));
        assert_eq!(settled(&|fee| Some(if fee < 5 { fee + 1 } else { 2 })), Ok(amount(5)), "never less than was needed");
        assert_eq!(settled(&|fee| Some(fee + 1)), Err(amount(u64::try_from(FEE_ROUNDS).unwrap())), "one that never rests");
        assert_eq!(settled(&|fee| (fee < 3).then_some(fee + 1)), Err(amount(3)), "one that is eaten up");
    }
}
