//! What the node asks of a transaction, as plain numbers.

use crate::protocol::{amount::Amount, limits, network::Network};
use kaspa_consensus_core::{
    config::params::Params,
    mass::{BlockMassLimits, MassCalculator, UtxoCell, calc_storage_mass},
    tx::Transaction,
};

/// The mempool's minimum relay fee rate, sompi per gram of compute (or normalised transient) mass:
/// kaspa-mining's default of 100,000 sompi per kilogram. The node does not publish it.
const RELAY_SOMPI_PER_GRAM: u64 = 100;
/// Most change that may be given to the fee when no valid change output exists: what an output
/// must at least hold to stand alone under KIP-9 is twice this.
const DUST_TO_FEE_SOMPI: u64 = 1_000_000;
/// DAA scores an output must have been accepted for: one second at 10 blocks per second.
const CONFIRMATIONS_DAA: u64 = 10;

/// Masses, fees and ages that decide which transaction can be built.
#[derive(Clone)]
pub struct CoinRules {
    calculator: MassCalculator,
    mass_limits: BlockMassLimits,
    storage_mass_parameter: u64,
    /// DAA scores before a coinbase output may be spent.
    pub coinbase_maturity_daa: u64,
    /// DAA scores since acceptance before any other output is spent.
    pub confirmations_daa: u64,
    /// The node's floor, over compute mass.
    pub relay_sompi_per_gram: u64,
    /// What the buyer offers over the greatest of all masses, storage included; 0 leaves the floor.
    pub priority_sompi_per_gram: u64,
    /// The bound on change that becomes fee.
    pub dust_to_fee: Amount,
    /// Most inputs of one payment; gateways refuse more than [`limits::TX_INPUTS`].
    pub max_inputs: usize,
    /// How fast the DAA score grows.
    pub blocks_per_second: u64,
}

/// The masses that a transaction was measured to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Masses {
    /// Compute mass, or transient mass in its scale, whichever is greater.
    pub relay: u64,
    pub storage: u64,
}

impl CoinRules {
    /// The rules of kaspad 2.1.0 on `network`.
    pub fn of(network: Network) -> Self {
        let params = Params::from(network.id());
        Self {
            calculator: MassCalculator::new_with_consensus_params(&params),
            mass_limits: params.block_mass_limits,
            storage_mass_parameter: params.storage_mass_parameter,
            coinbase_maturity_daa: params.coinbase_maturity(),
            confirmations_daa: CONFIRMATIONS_DAA,
            relay_sompi_per_gram: RELAY_SOMPI_PER_GRAM,
            priority_sompi_per_gram: 0,
            dust_to_fee: Amount::from_sompi(DUST_TO_FEE_SOMPI).expect("a constant below the maximum"),
            max_inputs: limits::TX_INPUTS,
            blocks_per_second: params.bps(),
        }
    }

    /// The greatest storage mass of one transaction, grams.
    pub fn storage_mass_limit(&self) -> u64 {
        self.mass_limits.storage
    }

    /// Storage mass (KIP-9) of ordinary inputs and outputs; `None` when it cannot be computed and
    /// counts as too high.
    pub fn storage_mass(&self, inputs: &[u64], outputs: &[u64]) -> Option<u64> {
        let ordinary = |amount: &u64| UtxoCell::new(1, *amount);
        if inputs.contains(&0) || outputs.contains(&0) {
            return None;
        }
        calc_storage_mass(false, inputs.iter().map(ordinary), outputs.iter().map(ordinary), self.storage_mass_parameter)
    }

    /// Mass that the relay fee is charged for; `transaction` carries signature scripts of full length.
    pub fn relay_mass(&self, transaction: &Transaction) -> u64 {
        let masses = self.calculator.calc_non_contextual_masses(transaction);
        masses.compute_mass.max(scale_up(masses.transient_mass, self.mass_limits.compute, self.mass_limits.transient))
    }

    /// The fee of these masses, sompi; `None` on overflow.
    pub fn fee(&self, masses: Masses) -> Option<u64> {
        let storage = scale_up(masses.storage, self.mass_limits.compute, self.mass_limits.storage);
        let floor = masses.relay.checked_mul(self.relay_sompi_per_gram)?.max(self.relay_sompi_per_gram);
        let offered = masses.relay.max(storage).checked_mul(self.priority_sompi_per_gram)?;
        Some(floor.max(offered))
    }

    /// Whether the node takes a transaction of these masses.
    pub fn within_limits(&self, masses: Masses) -> bool {
        masses.relay <= self.mass_limits.compute && masses.storage <= self.mass_limits.storage
    }
}

/// `mass * to / from`, rounded up: another dimension of mass in the scale of compute mass.
fn scale_up(mass: u64, to: u64, from: u64) -> u64 {
    let scaled = (u128::from(mass) * u128::from(to)).div_ceil(u128::from(from));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}
