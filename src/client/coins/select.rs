//! Choosing inputs, change and fee.
//!
//! Candidate sets of inputs are tried in a fixed order, cheapest first: the fewest of the
//! greatest coins; one smallest coin that suffices; then sets that KIP-9 favours, because many
//! small inputs earn back the storage mass of small outputs. The first that fits wins.

use super::{Coin, CoinRules, rules::Masses};
use crate::protocol::{amount::Amount, ids::Outpoint};
use kaspa_consensus_core::{
    constants::{MAX_TX_IN_SEQUENCE_NUM, TX_VERSION},
    subnets::SUBNETWORK_ID_NATIVE,
    tx::{ScriptPublicKey, Transaction, TransactionInput, TransactionOutpoint, TransactionOutput},
};

/// A push of 65 bytes: Schnorr signature and sighash type.
const SIGNATURE_SCRIPT_BYTES: usize = 66;
/// Single coins tried on their own before sets of several.
const SINGLES_TRIED: usize = 64;
/// Rounds in which fee and change settle; each gains several digits.
const FEE_ROUNDS: u32 = 6;

/// What is to be paid.
#[derive(Clone, Debug)]
pub struct Spend<'a> {
    pub amount: Amount,
    pub pay_to: &'a ScriptPublicKey,
    /// Where change goes: the script of all coins.
    pub own: &'a ScriptPublicKey,
    /// One of these must be an input, so that this payment and an earlier one exclude each other. Empty: no such wish.
    pub conflict_with: &'a [Outpoint],
}

/// A payment whose numbers add up; [`Plan::sign`] makes the transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub inputs: Vec<Coin>,
    pub amount: Amount,
    pub pay_to: ScriptPublicKey,
    pub own: ScriptPublicKey,
    /// To the wallet's own script; `None` when nothing or only dust was left.
    pub change: Option<Amount>,
    pub fee: Amount,
    /// The KIP-9 commitment, grams.
    pub storage_mass: u64,
    /// What the relay fee was computed for, grams.
    pub relay_mass: u64,
}

/// Why there is no such payment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("an amount of 0 cannot be paid on chain")]
    Zero,
    #[error("{} are needed, {} can be spent now", .needed.to_kas(), .spendable.to_kas())]
    Funds { needed: Amount, spendable: Amount },
    #[error(
        "the {max_inputs} greatest coins hold {} of the {} needed; merge coins by sending to your own address first",
        .reach.to_kas(), .needed.to_kas()
    )]
    TooManyInputs { max_inputs: usize, reach: Amount, needed: Amount },
    /// KIP-9: outputs so small cost more storage mass than one transaction may have.
    #[error(
        "{} cannot be paid with these coins: the outputs would weigh {} of at most {limit} grams of storage mass (KIP-9); \
         small amounts need coins of about their own size",
        .amount.to_kas(), .best.map_or("more than can be computed".to_owned(), |mass| mass.to_string())
    )]
    StorageMass { amount: Amount, best: Option<u64>, limit: u64 },
    #[error("none of the coins of the payment to be replaced is unspent")]
    ConflictGone,
}

/// Chooses inputs for `spend` from `coins` (greatest first, as a purse sorts them).
pub fn plan(coins: &[Coin], spend: &Spend<'_>, rules: &CoinRules) -> Result<Plan, PlanError> {
    if spend.amount.is_zero() {
        return Err(PlanError::Zero);
    }
    let (pinned, free) = pin(coins, spend)?;
    let mut search = Search { spend, rules, lightest: None };
    for inputs in candidates(&pinned, &free, rules.max_inputs) {
        if let Some(plan) = search.try_inputs(&inputs, rules.marginal_dust()) {
            return Ok(plan);
        }
    }
    // No input set leaves valid or negligible change: give up bounded change instead.
    for inputs in candidates(&pinned, &free, rules.max_inputs) {
        if let Some(plan) = search.try_inputs(&inputs, rules.dust_to_fee.sompi()) {
            return Ok(plan);
        }
    }
    Err(search.why_not(&pinned, &free))
}

/// Splits off the coin that must be spent, if any is demanded.
fn pin(coins: &[Coin], spend: &Spend<'_>) -> Result<(Vec<Coin>, Vec<Coin>), PlanError> {
    if spend.conflict_with.is_empty() {
        return Ok((Vec::new(), coins.to_vec()));
    }
    let at = coins.iter().position(|coin| spend.conflict_with.contains(&coin.outpoint)).ok_or(PlanError::ConflictGone)?;
    let mut free = coins.to_vec();
    let pinned = free.remove(at);
    Ok((vec![pinned], free))
}

/// The input sets in their order of preference; lazily, since the first usually fits.
fn candidates(pinned: &[Coin], free: &[Coin], max_inputs: usize) -> impl Iterator<Item = Vec<Coin>> {
    let room = max_inputs.saturating_sub(pinned.len());
    let reach = free.len().min(room);
    let fewest_first = usize::from(pinned.is_empty());
    let with = move |more: &[Coin]| [pinned, more].concat();
    let greatest = (fewest_first..=reach).map(move |n| with(&free[..n]));
    let singles = free.iter().rev().take(if room == 0 { 0 } else { SINGLES_TRIED }).map(move |coin| with(&[*coin]));
    let smallest = (2..=reach).map(move |n| with(&free[free.len() - n..]));
    let mixed = (1..reach).map(move |n| {
        let mut some = with(&free[..1]);
        some.extend_from_slice(&free[free.len() - n..]);
        some
    });
    greatest.chain(singles).chain(smallest).chain(mixed)
}

struct Search<'a> {
    spend: &'a Spend<'a>,
    rules: &'a CoinRules,
    /// The least storage mass among sets with enough money, for the error.
    lightest: Option<Option<u64>>,
}

impl Search<'_> {
    /// The plan over exactly these inputs, if there is one that gives at most `dust` of change to the fee.
    fn try_inputs(&mut self, inputs: &[Coin], dust: u64) -> Option<Plan> {
        let total = inputs.iter().try_fold(0u64, |sum, coin| sum.checked_add(coin.amount.sompi()))?;
        let left = total.checked_sub(self.spend.amount.sompi())?;
        self.with_change(inputs, left).or_else(|| self.without_change(inputs, left, dust))
    }

    fn with_change(&mut self, inputs: &[Coin], left: u64) -> Option<Plan> {
        let relay = self.relay_mass(inputs, 2);
        // With a priority rate the fee depends on the storage mass, that on the change, and that on
        // the fee. Each round only raises the fee, so the first round that covers itself is valid.
        let mut fee = self.rules.fee(Masses { relay, storage: 0 })?;
        for _ in 0..FEE_ROUNDS {
            let change = left.checked_sub(fee).filter(|change| *change > 0)?;
            let storage = self.storage_mass(inputs, Some(change))?;
            let due = self.rules.fee(Masses { relay, storage })?;
            if due <= fee {
                return self.accept(inputs, Some(change), fee, Masses { relay, storage });
            }
            fee = due;
        }
        None
    }

    fn without_change(&mut self, inputs: &[Coin], left: u64, dust: u64) -> Option<Plan> {
        let relay = self.relay_mass(inputs, 1);
        let storage = self.storage_mass(inputs, None)?;
        let due = self.rules.fee(Masses { relay, storage })?;
        let given_up = left.checked_sub(due)?;
        if given_up > dust {
            return None;
        }
        self.accept(inputs, None, left, Masses { relay, storage })
    }

    fn accept(&mut self, inputs: &[Coin], change: Option<u64>, fee: u64, masses: Masses) -> Option<Plan> {
        if !self.rules.within_limits(masses) {
            return None;
        }
        // A second output of the same amount to the same script could not be told from the payment.
        if change == Some(self.spend.amount.sompi()) && self.spend.own == self.spend.pay_to {
            return None;
        }
        Some(Plan {
            inputs: inputs.to_vec(),
            amount: self.spend.amount,
            pay_to: self.spend.pay_to.clone(),
            own: self.spend.own.clone(),
            change: match change {
                Some(change) => Some(Amount::from_sompi(change).ok()?),
                None => None,
            },
            fee: Amount::from_sompi(fee).ok()?,
            storage_mass: masses.storage,
            relay_mass: masses.relay,
        })
    }

    fn storage_mass(&mut self, inputs: &[Coin], change: Option<u64>) -> Option<u64> {
        let spent: Vec<u64> = inputs.iter().map(|coin| coin.amount.sompi()).collect();
        let paid: Vec<u64> = [Some(self.spend.amount.sompi()), change].into_iter().flatten().collect();
        let mass = self.rules.storage_mass(&spent, &paid);
        self.lightest = match (self.lightest, mass) {
            (Some(Some(best)), Some(mass)) => Some(Some(best.min(mass))),
            (_, Some(mass)) => Some(Some(mass)),
            (known, None) => known.or(Some(None)),
        };
        mass
    }

    fn relay_mass(&self, inputs: &[Coin], outputs: usize) -> u64 {
        let scripts = [self.spend.pay_to, self.spend.own];
        let outputs = scripts.into_iter().take(outputs).map(|script| TransactionOutput::new(1, script.clone())).collect();
        self.rules.relay_mass(&unsigned(inputs, outputs, 0))
    }

    /// Money first, since more money mends the rest too.
    fn why_not(&self, pinned: &[Coin], free: &[Coin]) -> PlanError {
        let sum = |coins: &mut dyn Iterator<Item = &Coin>| {
            let sompi = coins.fold(0u64, |sum, coin| sum.saturating_add(coin.amount.sompi()));
            Amount::from_sompi(sompi.min(crate::protocol::amount::MAX_SOMPI)).expect("capped at the maximum")
        };
        let spendable = sum(&mut pinned.iter().chain(free));
        let reach = sum(&mut pinned.iter().chain(free).take(self.rules.max_inputs));
        let used: Vec<Coin> = pinned.iter().chain(free).take(self.rules.max_inputs).copied().collect();
        let fee = self.rules.fee(Masses { relay: self.relay_mass(&used, 1), storage: 0 }).unwrap_or(u64::MAX);
        let needed = Amount::from_sompi(fee).ok().and_then(|fee| self.spend.amount.checked_add(fee)).unwrap_or(self.spend.amount);
        if spendable < needed {
            PlanError::Funds { needed, spendable }
        } else if reach < needed {
            PlanError::TooManyInputs { max_inputs: self.rules.max_inputs, reach, needed }
        } else {
            let limit = self.rules.storage_mass_limit();
            PlanError::StorageMass { amount: self.spend.amount, best: self.lightest.flatten(), limit }
        }
    }
}

impl CoinRules {
    /// Change worth less than the fee of spending it later is not worth an output.
    fn marginal_dust(&self) -> u64 {
        const SPENDING_ONE_INPUT_GRAMS: u64 = 1_118;
        SPENDING_ONE_INPUT_GRAMS.saturating_mul(self.relay_sompi_per_gram).min(self.dust_to_fee.sompi())
    }
}

/// The transaction with signature scripts of the right length and no signatures in them.
pub(super) fn unsigned(inputs: &[Coin], outputs: Vec<TransactionOutput>, storage_mass: u64) -> Transaction {
    let inputs = inputs
        .iter()
        .map(|coin| {
            let outpoint = TransactionOutpoint::new(coin.outpoint.txid.into(), coin.outpoint.index);
            TransactionInput::new(outpoint, vec![0; SIGNATURE_SCRIPT_BYTES], MAX_TX_IN_SEQUENCE_NUM, 1)
        })
        .collect();
    Transaction::new_with_mass(TX_VERSION, inputs, outputs, 0, SUBNETWORK_ID_NATIVE, 0, Vec::new(), storage_mass)
}
