//! Top-ups: the client's half, the gateway's checks and witness, both in the node's own engine.

use super::world::*;
use crate::{
    binding::escrow_v1::{
        EscrowScript,
        spend::{Coin, SpendError, TopUpPlan, check_top_up, plan_claim, plan_top_up},
    },
    protocol::{ids::XOnlyKey, limits, refusal::Code},
};
use kaspa_consensus_core::{
    hashing::sighash_type::SigHashType,
    subnets::SUBNETWORK_ID_COINBASE,
    tx::{CovenantBinding, ScriptPublicKey, Transaction, TransactionInput, TransactionOutput, UtxoEntry},
};
use kaspa_hashes::Hash;

const FUNDING: u64 = 10 * KAS;
const ACTIVE: u64 = 2 * KAS;
const VOUCHER: u64 = 3 * KAS;
const COINS: [u64; 2] = [4 * KAS, KAS];
/// Where the client's coins come from.
const WALLET: u8 = 6;

fn coins() -> Vec<Coin> {
    let coin = |(index, sompi): (u32, &u64)| Coin { outpoint: outpoint(20, index), entry: owned(WALLET, *sompi) };
    (0..).zip(&COINS).map(coin).collect()
}

fn plan(script: &EscrowScript) -> TopUpPlan {
    plan_top_up(escrow(script, FUNDING), amount(ACTIVE), &coins(), &rules()).unwrap()
}

fn sign_own(transaction: &mut Transaction, entries: &[UtxoEntry]) {
    for index in 1..transaction.inputs.len() {
        sign_input(transaction, entries, index, WALLET);
    }
}

fn signed(script: &EscrowScript) -> (Transaction, Vec<UtxoEntry>) {
    let TopUpPlan { mut transaction, entries, .. } = plan(script);
    sign_own(&mut transaction, &entries);
    (transaction, entries)
}

#[test]
fn a_top_up_by_the_rules_is_taken_by_the_node_with_and_without_known_inputs() {
    let script = script();
    let (transaction, entries) = signed(&script);
    let escrow = escrow(&script, FUNDING);
    for spent in [Some(&entries[1..]), None] {
        let checked = check_top_up(transaction.clone(), escrow, amount(ACTIVE), spent, &rules()).unwrap();
        assert_eq!(checked.added(), plan(&script).added);
        assert_eq!(checked.continuation().sompi(), FUNDING - ACTIVE + checked.added().sompi());
        assert_eq!(checked.payout(), plan_claim(escrow, amount(ACTIVE), &rules()).unwrap().payout, "the gateway pays a claim's fee");
        let done = checked.sign(escrow, &voucher(&script, escrow.outpoint, VOUCHER), sign(SERVER)).unwrap();
        // Our witness is the last and leaves the client's signatures as they are.
        assert_eq!(done.transaction.inputs[1..], transaction.inputs[1..]);
        assert_eq!(done.txid, transaction.id().into());
        if spent.is_none() {
            // The node computes the commitment of what is submitted to it.
            done.transaction.set_storage_mass(plan(&script).transaction.storage_mass());
        }
        audit(&done.transaction, &entries);
    }
}

#[test]
fn a_top_up_needs_a_claim_and_coins_that_are_worth_it() {
    let script = script();
    let try_plan = |takes: u64, sompi: &[u64]| {
        let coins: Vec<Coin> =
            (0..).zip(sompi).map(|(index, sompi)| Coin { outpoint: outpoint(20, index), entry: owned(WALLET, *sompi) }).collect();
        plan_top_up(escrow(&script, FUNDING), amount(takes), &coins, &rules())
    };
    for (takes, coins) in [(0, &[KAS][..]), (1_000, &[KAS]), (ACTIVE, &[]), (ACTIVE, &[10_000])] {
        assert!(matches!(try_plan(takes, coins), Err(SpendError::Uneconomic { .. })), "{takes} {coins:?}");
    }
    let (transaction, _) = signed(&script);
    let refused = check_top_up(transaction.clone(), escrow(&script, FUNDING), amount(0), None, &rules()).unwrap_err();
    assert_eq!(refused.code, Code::TopUpNothingToClaim);
    let checked = check_top_up(transaction, escrow(&script, FUNDING), amount(ACTIVE), None, &rules()).unwrap();
    let low = voucher(&script, escrow(&script, FUNDING).outpoint, ACTIVE - 1);
    assert!(matches!(checked.clone().sign(escrow(&script, FUNDING), &low, sign(SERVER)), Err(SpendError::VoucherTooLow { .. })));
    let enough = voucher(&script, escrow(&script, FUNDING).outpoint, ACTIVE);
    assert!(checked.sign(escrow(&script, FUNDING), &enough, sign(SERVER)).is_ok());
}

type Change<'a> = (&'a str, &'a dyn Fn(&mut Transaction));

#[test]
fn each_fault_of_a_top_up_has_its_code() {
    let script = script();
    // Changed before the client signs: all signatures are right.
    let check = |name: &str, known: bool, change: &dyn Fn(&mut Transaction), expect: Option<Code>| {
        let TopUpPlan { mut transaction, entries, .. } = plan(&script);
        change(&mut transaction);
        for index in 1..transaction.inputs.len().min(entries.len()) {
            sign_input(&mut transaction, &entries, index, WALLET);
        }
        let spent = known.then_some(&entries[1..]);
        let found = check_top_up(transaction, escrow(&script, FUNDING), amount(ACTIVE), spent, &rules());
        assert_eq!(found.map(drop).err().map(|fault| fault.code), expect, "{name}");
    };
    let stranger = kaspa_txscript::pay_to_address_script(&address(STRANGER));
    for known in [false, true] {
        check("as planned", known, &|_| {}, None);
        let shift = |tx: &mut Transaction| {
            (tx.outputs[0].value, tx.outputs[1].value) = (ACTIVE, tx.outputs[1].value + tx.outputs[0].value - ACTIVE)
        };
        check("a payout of all that is active, the fee from the coins", known, &shift, None);
        let form: [Change<'_>; 17] = [
            ("gas", &|tx| tx.gas = 1),
            ("lock time", &|tx| tx.lock_time = 1),
            ("payload", &|tx| tx.payload.push(0)),
            ("subnetwork", &|tx| tx.subnetwork_id = SUBNETWORK_ID_COINBASE),
            ("no inputs", &|tx| tx.inputs.clear()),
            ("the escrow alone", &|tx| tx.inputs.truncate(1)),
            ("another outpoint", &|tx| tx.inputs[0].previous_outpoint.index += 1),
            ("inputs in another order", &|tx| tx.inputs.swap(0, 1)),
            ("a witness of its own", &|tx| tx.inputs[0].signature_script = vec![0x51]),
            ("another budget", &|tx| {
                let input = &tx.inputs[0];
                tx.inputs[0] = TransactionInput::new_with_compute_budget(input.previous_outpoint, vec![], input.sequence, 19);
            }),
            ("a sequence of ours", &|tx| tx.inputs[0].sequence = 0),
            ("a sequence of theirs", &|tx| tx.inputs[1].sequence = 5),
            ("one outpoint twice", &|tx| tx.inputs[2].previous_outpoint = tx.inputs[1].previous_outpoint),
            ("one output", &|tx| drop(tx.outputs.pop())),
            ("change", &|tx| tx.outputs.push(TransactionOutput::new(1_000, stranger.clone()))),
            ("payout to somebody else", &|tx| tx.outputs[0].script_public_key = stranger.clone()),
            ("continuation under another script", &|tx| tx.outputs[1].script_public_key = stranger.clone()),
        ];
        for (name, change) in form {
            check(name, known, change, Some(Code::TopUpForm));
        }
        for at in [0, 1] {
            let bind = |tx: &mut Transaction| tx.outputs[at].covenant = Some(CovenantBinding::new(0, Hash::from_bytes([1; 32])));
            check("a covenant", known, &bind, Some(Code::TopUpForm));
        }
        check("payout a sompi short", known, &|tx| tx.outputs[0].value -= 1, Some(Code::TopUpAmount));
        check("payout above what is active", known, &|tx| tx.outputs[0].value = ACTIVE + 1, Some(Code::TopUpAmount));
        check("nothing added", known, &|tx| tx.outputs[1].value = FUNDING - ACTIVE, Some(Code::TopUpAmount));
        check("something taken", known, &|tx| tx.outputs[1].value = FUNDING - ACTIVE - 1, Some(Code::TopUpAmount));
        check("more than the network holds", known, &|tx| tx.outputs[1].value = u64::MAX, Some(Code::TopUpAmount));
    }
    check("more than the coins bring", true, &|tx| tx.outputs[1].value += 1, Some(Code::TopUpAmount));
    check("more than the coins bring, not known yet", false, &|tx| tx.outputs[1].value += 1, None);
}

#[test]
fn a_top_up_may_bring_as_many_coins_as_a_payment() {
    let script = script();
    let with_inputs = |count: usize| {
        let (mut transaction, _) = signed(&script);
        for index in 100.. {
            if transaction.inputs.len() == count {
                break;
            }
            let mut further = transaction.inputs[1].clone();
            further.previous_outpoint.index = index;
            transaction.inputs.push(further);
        }
        check_top_up(transaction, escrow(&script, FUNDING), amount(ACTIVE), None, &rules()).map(drop).map_err(|fault| fault.code)
    };
    assert_eq!((with_inputs(limits::TX_INPUTS), with_inputs(limits::TX_INPUTS + 1)), (Ok(()), Err(Code::TopUpForm)));
}

#[test]
fn a_top_up_is_signed_by_the_owners_of_its_coins_over_all_of_it() {
    let script = script();
    let check = |name: &str, change: &dyn Fn(&mut Transaction, &mut Vec<UtxoEntry>), unknown: Option<Code>, known: Option<Code>| {
        let (mut transaction, mut entries) = signed(&script);
        change(&mut transaction, &mut entries);
        for (spent, expect) in [(None, unknown), (Some(&entries[1..]), known)] {
            let found = check_top_up(transaction.clone(), escrow(&script, FUNDING), amount(ACTIVE), spent, &rules());
            assert_eq!(found.map(drop).err().map(|fault| fault.code), expect, "{name}, known: {}", spent.is_some());
        }
    };
    let signature = Some(Code::TopUpSignature);
    check("as signed", &|_, _| {}, None, None);
    check("not signed", &|tx, _| tx.inputs[1].signature_script.clear(), signature, signature);
    check("not a signature", &|tx, _| tx.inputs[2].signature_script = vec![0x51; 66], signature, signature);
    check("another way to sign", &|tx, _| *tx.inputs[1].signature_script.last_mut().unwrap() = 0x81, signature, signature);
    check(
        "signed alone",
        &|tx, entries| tx.inputs[1].signature_script = spend_signature(tx, entries, 1, WALLET, SigHashType::from_u8(0x81).unwrap()),
        signature,
        signature,
    );
    check("by a stranger", &|tx, entries| sign_input(tx, &entries.clone(), 1, STRANGER), None, signature);
    let shift = |tx: &mut Transaction, _: &mut Vec<UtxoEntry>| {
        (tx.outputs[0].value, tx.outputs[1].value) = (tx.outputs[0].value + 1, tx.outputs[1].value - 1)
    };
    check("changed after signing", &shift, None, signature);
    check("for another coin", &|_, entries| entries[1].script_public_key = owned(STRANGER, 1).script_public_key, None, signature);
    check(
        "a script that no node would relay",
        &|_, entries| entries[1].script_public_key = ScriptPublicKey::from_vec(1, vec![]),
        None,
        signature,
    );
    check("a coin worth nothing", &|_, entries| entries[1].amount = 0, None, Some(Code::TopUpAmount));
    check("a coin that is not there", &|_, entries| drop(entries.pop()), None, Some(Code::TopUpForm));
}

#[test]
fn a_top_up_of_another_channels_escrow_is_refused() {
    let mut other = config();
    other.client_public_key = XOnlyKey(x_only(STRANGER).0);
    let other = EscrowScript::of(&other).unwrap();
    let ours = script();
    let (transaction, entries) = signed(&other);
    let found = check_top_up(transaction, escrow(&ours, FUNDING), amount(ACTIVE), Some(&entries[1..]), &rules()).unwrap_err();
    assert_eq!(found.code, Code::TopUpForm);
}
