use super::*;
use crate::{
    chain::Utxo,
    client::wallet::Wallet,
    protocol::{
        amount::Amount,
        ids::{Outpoint, TxId},
        network::Network,
    },
};
use kaspa_consensus_core::{
    config::params::Params,
    mass::MassCalculator,
    tx::{PopulatedTransaction, ScriptPublicKey, UtxoEntry},
};
use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng};
use std::collections::HashSet;

const KAS: u64 = 100_000_000;

fn wallet() -> Wallet {
    Wallet::from_secret(Network::Simnet, &[7; 32]).unwrap()
}

fn shop() -> ScriptPublicKey {
    Wallet::from_secret(Network::Simnet, &[9; 32]).unwrap().script()
}

fn amount(sompi: u64) -> Amount {
    Amount::from_sompi(sompi).unwrap()
}

fn outpoint(index: usize) -> Outpoint {
    Outpoint { txid: TxId([u8::try_from(index % 251).unwrap(); 32]), index: u32::try_from(index).unwrap() }
}

/// Coins as a purse sorts them.
fn coins(sompi: &[u64]) -> Vec<Coin> {
    let utxos: Vec<Utxo> = sompi
        .iter()
        .enumerate()
        .map(|(index, sompi)| Utxo {
            outpoint: outpoint(index),
            amount: amount(*sompi),
            script_public_key: wallet().script(),
            daa_score: 0,
            is_coinbase: false,
            covenant: false,
        })
        .collect();
    Purse::sort(&utxos, &wallet().script(), 1_000_000, &HashSet::new(), &CoinRules::of(Network::Simnet)).coins
}

fn try_plan(held: &[u64], price: u64) -> Result<Plan, PlanError> {
    let (own, pay_to) = (wallet().script(), shop());
    let spend = Spend { amount: amount(price), pay_to: &pay_to, own: &own, conflict_with: &[] };
    plan(&coins(held), &spend, &CoinRules::of(Network::Simnet))
}

/// Checks a plan against the node's own calculators, which share no code with the search.
fn audit(plan: &Plan, price: u64, rules: &CoinRules) -> SignedPayment {
    let params = Params::from(Network::Simnet.id());
    let signed = plan.sign(&wallet(), &mut StdRng::seed_from_u64(1));
    let entries: Vec<UtxoEntry> =
        plan.inputs.iter().map(|coin| UtxoEntry::new(coin.amount.sompi(), wallet().script(), coin.daa_score, false, None)).collect();
    let tx = &signed.transaction;
    let inputs: u64 = entries.iter().map(|entry| entry.amount).sum();
    let outputs: u64 = tx.outputs.iter().map(|output| output.value).sum();
    assert_eq!(inputs, outputs + signed.fee.sompi(), "inputs = outputs + fee");
    assert_eq!((tx.outputs[0].value, &tx.outputs[0].script_public_key), (price, &shop()), "output 0 pays exactly the price");
    assert!(tx.outputs[1..].iter().all(|output| output.script_public_key == wallet().script()), "the rest comes back");
    assert!(tx.outputs.len() <= 2 && tx.outputs.iter().all(|output| output.covenant.is_none()));

    let calculator = MassCalculator::new_with_consensus_params(&params);
    let masses = calculator.calc_non_contextual_masses(tx);
    let populated = PopulatedTransaction::new(tx, entries);
    let storage = calculator.calc_contextual_masses(&populated).expect("computable").storage_mass;
    assert_eq!(tx.storage_mass(), storage, "the commitment is exact");
    assert!(storage <= params.block_mass_limits.storage && masses.compute_mass <= params.block_mass_limits.compute);
    assert!(masses.transient_mass <= params.block_mass_limits.transient);
    let floor = masses.normalized_max(&params.block_mass_limits.cofactors()) * rules.relay_sompi_per_gram;
    assert!(signed.fee.sompi() >= floor, "fee {} under the floor {floor}", signed.fee);
    let offered = masses.compute_mass.max(storage) * rules.priority_sompi_per_gram;
    assert!(signed.fee.sompi() >= offered, "fee {} under the offered {offered}", signed.fee);
    assert!(
        signed.fee.sompi() <= floor + rules.dust_to_fee.sompi() || rules.priority_sompi_per_gram > 0,
        "fee {} is excessive",
        signed.fee
    );
    assert_eq!(TxId::from(tx.id()), signed.txid);
    kaspa_consensus_core::sign::verify(&populated).expect("every input is signed");
    signed
}

#[test]
fn an_ordinary_payment_uses_one_coin_and_returns_the_rest() {
    let plan = try_plan(&[50 * KAS, 3 * KAS, KAS], KAS / 4).unwrap();
    audit(&plan, KAS / 4, &CoinRules::of(Network::Simnet));
    assert_eq!(plan.inputs.len(), 1);
    // Two ordinary outputs and one input: 316 bytes, 36 script bytes twice at 10 grams, one signature at 1,000.
    assert_eq!(plan.relay_mass, plan.fee.sompi() / 100);
    assert_eq!(plan.storage_mass, 40_001, "as the Python SDK computes it for the same amounts");
}

#[test]
fn many_small_coins_pay_together() {
    let plan = try_plan(&[KAS / 100; 200], KAS).unwrap();
    audit(&plan, KAS, &CoinRules::of(Network::Simnet));
    assert!(plan.inputs.len() > 100);
}

#[test]
fn what_cannot_be_paid_says_why() {
    let check = |held: &[u64], price: u64, expect: fn(&PlanError) -> bool| {
        let error = try_plan(held, price).expect_err("no plan");
        assert!(expect(&error), "{error}");
    };
    check(&[KAS], 0, |e| *e == PlanError::Zero);
    check(&[], KAS, |e| matches!(e, PlanError::Funds { .. }));
    check(&[KAS], KAS, |e| matches!(e, PlanError::Funds { .. }));
    check(&[KAS / 2; 3], 2 * KAS, |e| matches!(e, PlanError::Funds { .. }));
    check(&[KAS / 100; 1_000], 9 * KAS, |e| matches!(e, PlanError::TooManyInputs { .. }));
    check(&[50 * KAS], 1_900_000, |e| matches!(e, PlanError::StorageMass { .. }));
    check(&[50 * KAS], 1, |e| matches!(e, PlanError::StorageMass { .. }));
}

#[test]
fn two_hundredths_of_a_kas_is_about_the_least_a_rich_wallet_can_pay() {
    let rules = CoinRules::of(Network::Simnet);
    audit(&try_plan(&[50 * KAS], 2_010_000).unwrap(), 2_010_000, &rules);
    assert!(try_plan(&[50 * KAS], 1_990_000).is_err());
    // A coin of about the price earns back the storage mass of a small output.
    audit(&try_plan(&[50 * KAS, 1_700_000], 1_500_000).unwrap(), 1_500_000, &rules);
}

#[test]
fn change_too_small_for_an_output_takes_another_coin_or_becomes_a_bounded_fee() {
    let rules = CoinRules::of(Network::Simnet);
    let alone = try_plan(&[KAS + 600_000], KAS).unwrap();
    audit(&alone, KAS, &rules);
    assert_eq!((alone.change, alone.fee), (None, amount(600_000)));
    let helped = try_plan(&[KAS + 600_000, KAS / 2], KAS).unwrap();
    audit(&helped, KAS, &rules);
    assert_eq!(helped.inputs.len(), 2);
    assert!(helped.change.is_some());
    // Over the bound the money is not given away.
    assert!(matches!(try_plan(&[KAS + 1_500_000], KAS), Err(PlanError::StorageMass { .. })));
}

#[test]
fn a_replacement_spends_a_coin_of_what_it_replaces() {
    let (own, pay_to, rules) = (wallet().script(), shop(), CoinRules::of(Network::Simnet));
    let held = coins(&[50 * KAS, 3 * KAS, 2 * KAS]);
    for pinned in &held {
        let conflict = [pinned.outpoint, outpoint(77)];
        let spend = Spend { amount: amount(KAS), pay_to: &pay_to, own: &own, conflict_with: &conflict };
        let plan = plan(&held, &spend, &rules).unwrap();
        audit(&plan, KAS, &rules);
        assert!(plan.inputs.contains(pinned));
    }
    let gone = [outpoint(77)];
    let spend = Spend { amount: amount(KAS), pay_to: &pay_to, own: &own, conflict_with: &gone };
    assert_eq!(plan(&held, &spend, &rules), Err(PlanError::ConflictGone));
}

#[test]
fn a_purse_takes_only_its_own_old_enough_unlocked_plain_outputs() {
    let rules = CoinRules::of(Network::Simnet);
    let base = Utxo {
        outpoint: outpoint(1),
        amount: amount(KAS),
        script_public_key: wallet().script(),
        daa_score: 5_000,
        is_coinbase: false,
        covenant: false,
    };
    let check = |change: fn(&mut Utxo), now_daa: u64, expect: [u64; 4]| {
        let mut utxo = base.clone();
        change(&mut utxo);
        let locked = HashSet::from([outpoint(2)]);
        let purse = Purse::sort(&[utxo], &wallet().script(), now_daa, &locked, &rules);
        assert_eq!([purse.spendable(), purse.young, purse.locked, purse.foreign], expect.map(amount));
    };
    check(|_| {}, 5_010, [KAS, 0, 0, 0]);
    check(|_| {}, 5_009, [0, KAS, 0, 0]);
    check(|u| u.is_coinbase = true, 5_999, [0, KAS, 0, 0]);
    check(|u| u.is_coinbase = true, 6_000, [KAS, 0, 0, 0]);
    check(|u| u.daa_score = u64::MAX, u64::MAX, [0, KAS, 0, 0]);
    check(|u| u.outpoint = outpoint(2), 9_000, [0, 0, KAS, 0]);
    check(|u| u.covenant = true, 9_000, [0, 0, 0, KAS]);
    check(|u| u.script_public_key = shop(), 9_000, [0, 0, 0, KAS]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_plan_adds_up_to_the_sompi_and_weighs_within_the_limits(
        held in prop::collection::vec(prop_oneof![100_000u64..5_000_000, 5_000_000..KAS, KAS..500 * KAS], 1..40),
        price in prop_oneof![500_000u64..5_000_000, 5_000_000..KAS, KAS..800 * KAS],
        priority in prop_oneof![Just(0u64), 1..300u64],
    ) {
        let (own, pay_to) = (wallet().script(), shop());
        let mut rules = CoinRules::of(Network::Simnet);
        rules.priority_sompi_per_gram = priority;
        let spend = Spend { amount: amount(price), pay_to: &pay_to, own: &own, conflict_with: &[] };
        let total: u64 = held.iter().sum();
        let first = plan(&coins(&held), &spend, &rules);
        prop_assert_eq!(&first, &plan(&coins(&held), &spend, &rules), "deterministic");
        match first {
            Ok(found) => {
                audit(&found, price, &rules);
            }
            Err(PlanError::Funds { needed, spendable }) => {
                prop_assert_eq!(spendable.sompi(), total);
                prop_assert!(needed.sompi() > total);
            }
            Err(PlanError::StorageMass { .. }) => prop_assert!(total > price),
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}
