//! Builds and signs the faucet's transactions: pure, no node. Amounts in sompi, masses in grams.
//!
//! Mass follows the node's own rules (compute, transient and KIP-9 storage mass) by its own calculator; the fee is the
//! minimum relay rate on the largest of the three, which is never below what the mempool asks for.

use kaspa_consensus_core::config::params::SIMNET_PARAMS;
use kaspa_consensus_core::mass::{Mass, MassCalculator};
use kaspa_consensus_core::sign::sign;
use kaspa_consensus_core::subnets::SUBNETWORK_ID_NATIVE;
use kaspa_consensus_core::tx::{
    ScriptPublicKey, SignableTransaction, Transaction, TransactionInput, TransactionOutpoint, TransactionOutput, UtxoEntry,
};
use secp256k1::Keypair;

use crate::error::{Error, Invalid, Result};

/// The relay minimum of kaspad 2.1.0, 100,000 sompi per kilogram.
const SOMPI_PER_GRAM: u64 = 100;

/// Below the 500,000 grams of one block, to be sure of a place.
const MASS_LIMIT: u64 = 480_000;

/// Keeps a transaction near 100,000 grams of compute mass.
const MAX_INPUTS: usize = 84;

/// Outputs of one payment at most, for the same reason.
const MAX_OUTPUTS: u64 = 200;

/// Smaller change costs more storage mass than it is worth: 1 KAS.
const MIN_CHANGE_SOMPI: u64 = 100_000_000;

/// An output the faucet can spend.
#[derive(Debug, Clone)]
pub(crate) struct Coin {
    pub(crate) outpoint: TransactionOutpoint,
    pub(crate) entry: UtxoEntry,
    /// False while the transaction that made it waits in the mempool.
    pub(crate) accepted: bool,
}

/// What to submit next.
pub(crate) enum Step {
    /// Pays this many outputs, the first ones of the transaction.
    Pay(Transaction, u64),
    /// Only merges coins, because too many were needed at once.
    Merge(Transaction),
}

/// Signs for one key whose own outputs are all it spends.
pub(crate) struct Signer {
    keypair: Keypair,
    change: ScriptPublicKey,
    calculator: MassCalculator,
}

impl Signer {
    pub(crate) fn new(keypair: Keypair, change: ScriptPublicKey) -> Self {
        Self { keypair, change, calculator: MassCalculator::new_with_consensus_params(&SIMNET_PARAMS) }
    }

    /// The next transaction on the way to `count` outputs of `amount` to `script`. Accepted and large coins go first.
    pub(crate) fn next_step(&self, mut coins: Vec<Coin>, script: &ScriptPublicKey, amount: u64, count: u64) -> Result<Step> {
        coins.sort_by_key(|coin| std::cmp::Reverse((coin.accepted, coin.entry.amount)));
        let available_sompi = coins.iter().map(|coin| coin.entry.amount).sum();
        let mut outputs = count.min(MAX_OUTPUTS);
        loop {
            let paid = outputs * amount;
            // With the largest possible fee set aside, the actual fee cannot make the coins too few.
            let needed_sompi = paid + MASS_LIMIT * SOMPI_PER_GRAM + MIN_CHANGE_SOMPI;
            let Some(used) = cover(&coins, needed_sompi) else {
                return Err(Error::FaucetShort { needed_sompi, available_sompi });
            };
            if used > MAX_INPUTS {
                return Ok(Step::Merge(self.merge(&coins[..MAX_INPUTS])));
            }
            let payment = vec![TransactionOutput::new(amount, script.clone()); outputs as usize];
            match self.build(&coins[..used], payment) {
                Some(tx) => return Ok(Step::Pay(tx, outputs)),
                None if outputs == 1 => return Err(Invalid::TooSmall(amount).into()),
                // Fewer outputs have less storage mass; the rest goes into the next transaction.
                None => outputs = outputs * 3 / 4,
            }
        }
    }

    /// All of `coins` into one: block rewards or change, each worth more than its fee, and [`MAX_INPUTS`] at most.
    pub(crate) fn merge(&self, coins: &[Coin]) -> Transaction {
        self.build(coins, vec![]).expect("a single output has little storage mass, and the inputs are bounded")
    }

    /// Signed, with change as the last output and the storage mass committed; `None` when too heavy for a block.
    fn build(&self, coins: &[Coin], mut outputs: Vec<TransactionOutput>) -> Option<Transaction> {
        let paid: u64 = outputs.iter().map(|output| output.value).sum();
        let total: u64 = coins.iter().map(|coin| coin.entry.amount).sum();
        outputs.push(TransactionOutput::new(total.checked_sub(paid)?, self.change.clone()));

        // Twice: the fee comes from the mass, and lowers the change, which barely moves the mass.
        let (_, mass) = self.sign(coins, outputs.clone())?;
        let change = outputs.last_mut()?;
        change.value = change.value.checked_sub(mass * SOMPI_PER_GRAM).filter(|value| *value > 0)?;
        let (tx, mass) = self.sign(coins, outputs)?;
        (mass <= MASS_LIMIT).then_some(tx)
    }

    fn sign(&self, coins: &[Coin], outputs: Vec<TransactionOutput>) -> Option<(Transaction, u64)> {
        let inputs = coins.iter().map(|coin| TransactionInput::new(coin.outpoint, vec![], 0, 1)).collect();
        let tx = Transaction::new(0, inputs, outputs, 0, SUBNETWORK_ID_NATIVE, 0, vec![]);
        let entries = coins.iter().map(|coin| coin.entry.clone()).collect();
        let signed = sign(SignableTransaction::with_entries(tx, entries), self.keypair);
        let contextual = self.calculator.calc_contextual_masses(&signed.as_verifiable())?;
        let non_contextual = self.calculator.calc_non_contextual_masses(&signed.tx);
        let mass = Mass::new(non_contextual, contextual).normalized_max(&SIMNET_PARAMS.block_mass_limits.cofactors());
        let mut tx = signed.tx;
        tx.set_storage_mass(contextual.storage_mass);
        tx.finalize();
        Some((tx, mass))
    }
}

/// How many of the first coins reach `needed`; `None` when all do not.
fn cover(coins: &[Coin], needed: u64) -> Option<usize> {
    let mut sum = 0u64;
    coins
        .iter()
        .position(|coin| {
            sum = sum.saturating_add(coin.entry.amount);
            sum >= needed
        })
        .map(|last| last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kaspa_consensus_core::sign::verify;
    use kaspa_hashes::Hash;

    const KAS: u64 = 100_000_000;

    fn signer() -> Signer {
        let keypair = Keypair::from_seckey_slice(secp256k1::SECP256K1, &[7; 32]).unwrap();
        let script = [&[0x20][..], &keypair.x_only_public_key().0.serialize(), &[0xac]].concat();
        Signer::new(keypair, ScriptPublicKey::from_vec(0, script))
    }

    fn coins(signer: &Signer, amounts: &[u64]) -> Vec<Coin> {
        amounts
            .iter()
            .enumerate()
            .map(|(i, amount)| Coin {
                outpoint: TransactionOutpoint::new(Hash::from_u64_word(i as u64), 0),
                entry: UtxoEntry::new(*amount, signer.change.clone(), 0, false, None),
                accepted: true,
            })
            .collect()
    }

    fn recipient() -> ScriptPublicKey {
        ScriptPublicKey::from_vec(0, [&[0x20][..], &[9; 32], &[0xac]].concat())
    }

    #[test]
    fn a_payment_conserves_money_pays_the_relay_fee_and_verifies() {
        let signer = signer();
        for (amounts, amount, count) in [
            (vec![50 * KAS], KAS, 1),
            (vec![50 * KAS; 3], 100 * KAS, 1),
            (vec![4_000 * KAS], 10 * KAS, 100),
            (vec![4_000 * KAS], KAS / 10, 3),
        ] {
            let coins = coins(&signer, &amounts);
            let Step::Pay(tx, paid) = signer.next_step(coins.clone(), &recipient(), amount, count).unwrap() else {
                panic!("expected a payment for {amounts:?}");
            };
            assert_eq!(paid, count);
            assert!(tx.outputs[..paid as usize].iter().all(|o| o.value == amount && o.script_public_key == recipient()));
            let used: Vec<_> = tx.inputs.iter().map(|i| coins.iter().find(|c| c.outpoint == i.previous_outpoint).unwrap()).collect();
            let inputs: u64 = used.iter().map(|c| c.entry.amount).sum();
            let fee = inputs - tx.outputs.iter().map(|o| o.value).sum::<u64>();
            let entries = used.iter().map(|c| c.entry.clone()).collect();
            let signable = SignableTransaction::with_entries(tx.clone(), entries);
            let compute = signer.calculator.calc_non_contextual_masses(&tx).compute_mass;
            assert!(fee >= compute * SOMPI_PER_GRAM && fee < KAS / 2, "fee {fee} for {compute} grams");
            assert_eq!(signer.calculator.calc_contextual_masses(&signable.as_verifiable()).unwrap().storage_mass, tx.storage_mass());
            verify(&signable.as_verifiable()).unwrap();
        }
    }

    #[test]
    fn many_small_outputs_are_split_by_storage_mass() {
        let signer = signer();
        let Step::Pay(_, paid) = signer.next_step(coins(&signer, &[4_000 * KAS]), &recipient(), KAS, 500).unwrap() else {
            panic!("expected a payment");
        };
        assert!((20..200).contains(&paid), "{paid}");
    }

    #[test]
    fn too_many_coins_are_merged_first() {
        let signer = signer();
        let step = signer.next_step(coins(&signer, &[50 * KAS; 100]), &recipient(), 4_500 * KAS, 1).unwrap();
        let Step::Merge(tx) = step else { panic!("expected a merge") };
        assert_eq!((tx.inputs.len(), tx.outputs.len()), (MAX_INPUTS, 1));
    }

    #[test]
    fn what_cannot_be_paid_is_refused() {
        let signer = signer();
        let short = signer.next_step(coins(&signer, &[50 * KAS]), &recipient(), 60 * KAS, 1);
        assert!(matches!(short, Err(Error::FaucetShort { .. })));
        let small = signer.next_step(coins(&signer, &[50 * KAS]), &recipient(), 1_000, 1);
        assert!(matches!(small, Err(Error::Invalid(Invalid::TooSmall(1_000)))));
    }

    #[test]
    fn coins_from_the_mempool_are_the_last_resort() {
        let signer = signer();
        let mut coins = coins(&signer, &[4_000 * KAS, 50 * KAS]);
        coins[0].accepted = false;
        let accepted = coins[1].outpoint;
        let Step::Pay(tx, _) = signer.next_step(coins, &recipient(), KAS, 1).unwrap() else { panic!("expected a payment") };
        assert_eq!(tx.inputs[0].previous_outpoint, accepted);
    }
}
