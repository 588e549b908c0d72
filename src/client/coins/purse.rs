//! Which unspent outputs may be spent now, and what the others wait for.

use super::CoinRules;
use crate::{
    chain::Utxo,
    protocol::{amount::Amount, ids::Outpoint},
};
use kaspa_consensus_core::tx::ScriptPublicKey;
use std::collections::HashSet;

/// One output that may be spent now. All coins of a purse carry the wallet's own script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coin {
    pub outpoint: Outpoint,
    pub amount: Amount,
    pub daa_score: u64,
    pub is_coinbase: bool,
}

/// The wallet's outputs, sorted by what may be done with them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Purse {
    /// Greatest first, then by outpoint.
    pub coins: Vec<Coin>,
    /// Too young: an immature coinbase, or not yet deep enough.
    pub young: Amount,
    /// Inputs of payments that may still be on their way.
    pub locked: Amount,
    /// Bound to a covenant, or not to the wallet's own script: never touched.
    pub foreign: Amount,
}

impl Purse {
    /// Sorts `utxos` at the virtual DAA score `now_daa`.
    pub fn sort(utxos: &[Utxo], own: &ScriptPublicKey, now_daa: u64, locked: &HashSet<Outpoint>, rules: &CoinRules) -> Self {
        let mut purse = Self::default();
        for utxo in utxos {
            let age = if utxo.is_coinbase { rules.coinbase_maturity_daa } else { rules.confirmations_daa };
            let old_enough = utxo.daa_score.checked_add(age).is_some_and(|ready| ready <= now_daa);
            if utxo.covenant || utxo.script_public_key != *own {
                add(&mut purse.foreign, utxo.amount);
            } else if locked.contains(&utxo.outpoint) {
                add(&mut purse.locked, utxo.amount);
            } else if !old_enough || utxo.amount.is_zero() {
                add(&mut purse.young, utxo.amount);
            } else {
                let Utxo { outpoint, amount, daa_score, is_coinbase, .. } = *utxo;
                purse.coins.push(Coin { outpoint, amount, daa_score, is_coinbase });
            }
        }
        purse.coins.sort_by(|a, b| b.amount.cmp(&a.amount).then(a.outpoint.cmp(&b.outpoint)));
        purse.coins.dedup_by_key(|coin| coin.outpoint);
        purse
    }

    /// What may be spent now.
    pub fn spendable(&self) -> Amount {
        self.coins.iter().fold(Amount::ZERO, |mut sum, coin| {
            add(&mut sum, coin.amount);
            sum
        })
    }
}

/// Sums of real outputs never exceed the supply; a lying node's may, and then stop there.
fn add(sum: &mut Amount, amount: Amount) {
    *sum = sum.checked_add(amount).unwrap_or(Amount::from_sompi(crate::protocol::amount::MAX_SOMPI).expect("the maximum is an amount"));
}
