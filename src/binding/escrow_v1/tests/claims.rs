//! Claims in the node's own engine: what the script lets through, and everything it must not.

use super::world::*;
use crate::{
    binding::escrow_v1::{
        EscrowScript,
        spend::{
            Continuation, ContinuationError, Escrow, SpendError, SpendRules, check_continuation, claimed_voucher, plan_claim, reserve,
        },
    },
    protocol::amount::Amount,
};
use kaspa_consensus_core::{
    hashing::sighash_type::{SIG_HASH_NONE, SigHashType},
    tx::{Transaction, TransactionInput, TransactionOutput},
};
use kaspa_txscript::{opcodes::codes::OpTrue, pay_to_address_script};
use proptest::prelude::*;

const FUNDING: u64 = 10 * KAS;
const VOUCHER: u64 = 3 * KAS;

fn claim(script: &EscrowScript, takes: u64) -> Transaction {
    let escrow = escrow(script, FUNDING);
    let plan = plan_claim(escrow, amount(takes), &rules()).unwrap();
    plan.sign(escrow, &voucher(script, escrow.outpoint, VOUCHER), sign(SERVER)).unwrap().transaction
}

#[test]
fn a_claim_by_the_rules_is_accepted_within_its_budget() {
    let script = script();
    for takes in [VOUCHER, VOUCHER - 1, KAS / 10] {
        let transaction = claim(&script, takes);
        let fee = audit(&transaction, &[locked(&script, FUNDING)]);
        assert_eq!(transaction.outputs[0].value + fee, takes);
        assert_eq!(transaction.outputs[1].value, FUNDING - takes);
    }
}

#[test]
fn the_witness_is_laid_out_as_the_given_sample() {
    let script = script();
    let witness = claim(&script, VOUCHER).inputs[0].signature_script.clone();
    let redeem = script.redeem_script();
    let expect = [
        format!("41{}01", "ab".repeat(64)),
        format!("40{}", "cd".repeat(64)),
        format!("08{}", hex::encode(VOUCHER.to_le_bytes())),
        "00".into(),
        format!("4d{}", hex::encode(u16::try_from(redeem.len()).unwrap().to_le_bytes())),
        hex::encode(redeem),
    ]
    .concat();
    let mut found = witness.clone();
    found[1..65].fill(0xab);
    found[67..131].fill(0xcd);
    assert_eq!(hex::encode(found), expect);
}

#[test]
fn the_voucher_of_a_claim_is_read_from_its_witness() {
    let script = script();
    let witness = claim(&script, VOUCHER).inputs[0].signature_script.clone();
    let read = claimed_voucher(&witness).unwrap();
    assert_eq!(read, voucher(&script, escrow(&script, FUNDING).outpoint, VOUCHER));
    assert!(read.verify(&script, escrow(&script, FUNDING).outpoint));
    for at in [0, 66, 131, 140] {
        let mut other = witness.clone();
        other[at] ^= 1;
        assert_eq!(claimed_voucher(&other), None, "byte {at}");
    }
    for length in [0, 1, 66, 100, 131, 139, 140] {
        assert_eq!(claimed_voucher(&witness[..length]), None, "{length} bytes");
    }
    let mut greedy = witness;
    greedy[132..140].fill(0xff);
    assert_eq!(claimed_voucher(&greedy), None, "no amount of money");
}

#[test]
fn a_claim_against_the_rules_is_refused() {
    let script = script();
    let entries = [locked(&script, FUNDING)];
    let check = |name: &str, change: &dyn Fn(&mut Transaction)| {
        let mut transaction = claim(&script, VOUCHER);
        change(&mut transaction);
        resign(&mut transaction, &entries, SERVER);
        execute(&transaction, &entries).expect_err(name);
    };
    let fee = FUNDING - claim(&script, VOUCHER).outputs.iter().map(|output| output.value).sum::<u64>();
    // The control: signing again changes nothing.
    let mut same = claim(&script, VOUCHER);
    resign(&mut same, &entries, SERVER);
    execute(&same, &entries).unwrap();
    // One sompi below the voucher's whole amount is still allowed when the fee comes from elsewhere.
    let mut whole = claim(&script, VOUCHER);
    whole.outputs[0].value = VOUCHER;
    resign(&mut whole, &entries, SERVER);
    execute(&whole, &entries).unwrap();

    check("payout above the voucher", &|tx| tx.outputs[0].value = VOUCHER + 1);
    check("continuation too small by one sompi", &|tx| tx.outputs[1].value -= 1);
    check("payout to somebody else", &|tx| tx.outputs[0].script_public_key = pay_to_address_script(&address(STRANGER)));
    check("continuation under another script", &|tx| tx.outputs[1].script_public_key = pay_to_address_script(&address(SERVER)));
    check("outputs in the other order", &|tx| tx.outputs.swap(0, 1));
    check("one output", &|tx| drop(tx.outputs.pop()));
    check("three outputs", &|tx| tx.outputs.push(TransactionOutput::new(fee / 2, pay_to_address_script(&address(PAYOUT)))));
    check("a voucher of more than was signed", &|tx| tx.inputs[0].signature_script[132] ^= 1);
    check("a negative voucher", &|tx| tx.inputs[0].signature_script[139] |= 0x80);
    check("the voucher's signature altered", &|tx| tx.inputs[0].signature_script[100] ^= 1);
    check("no branch of this number", &|tx| tx.inputs[0].signature_script[140] = OpTrue + 1);
    check("the refund branch with a claim's witness", &|tx| tx.inputs[0].signature_script[140] = OpTrue);
    check("too small a budget", &|tx| {
        tx.inputs[0] = TransactionInput::new_with_compute_budget(
            tx.inputs[0].previous_outpoint,
            tx.inputs[0].signature_script.clone(),
            tx.inputs[0].sequence,
            10,
        );
    });
}

#[test]
fn only_the_servers_signature_over_this_transaction_claims() {
    let script = script();
    let entries = [locked(&script, FUNDING)];
    for number in [CLIENT, PAYOUT, STRANGER] {
        let mut transaction = claim(&script, VOUCHER);
        resign(&mut transaction, &entries, number);
        execute(&transaction, &entries).expect_err("signed by another key");
    }
    let mut transaction = claim(&script, VOUCHER);
    transaction.outputs[0].value -= 1;
    execute(&transaction, &entries).expect_err("changed after signing");
    // Any sighash type is the server's own risk; the script does not forbid it. We only ever sign ALL.
    for kind in [SIG_HASH_NONE, SigHashType::from_u8(0x81).unwrap()] {
        let mut transaction = claim(&script, VOUCHER);
        assert_eq!(transaction.inputs[0].signature_script[65], 1);
        let signature = spend_signature(&transaction, &entries, 0, SERVER, kind);
        transaction.inputs[0].signature_script[..66].copy_from_slice(&signature);
        execute(&transaction, &entries).unwrap();
    }
}

#[test]
fn a_voucher_is_worth_nothing_anywhere_else() {
    let ours = script();
    let mut other_timeout = config();
    other_timeout.refund_timeout_daa += 1;
    let mut other_client = config();
    other_client.client_public_key = x_only(STRANGER);
    let check = |name: &str, script: &EscrowScript, voucher_of: &EscrowScript, moved: Option<(u8, u32)>| {
        let mut escrow = escrow(script, FUNDING);
        let signed_for = escrow.outpoint;
        if let Some((byte, index)) = moved {
            escrow.outpoint = outpoint(byte, index);
        }
        let plan = plan_claim(escrow, amount(VOUCHER), &rules()).unwrap();
        let signed = plan.sign(escrow, &voucher(voucher_of, signed_for, VOUCHER), sign(SERVER)).unwrap();
        execute(&signed.transaction, &[locked(script, FUNDING)]).expect_err(name);
    };
    check("another transaction's output", &ours, &ours, Some((8, 1)));
    check("another output of the transaction", &ours, &ours, Some((7, 2)));
    check("another script of the same client", &EscrowScript::of(&other_timeout).unwrap(), &ours, None);
    check("another client", &EscrowScript::of(&other_client).unwrap(), &ours, None);
}

#[test]
fn the_same_voucher_claims_only_once_more_never_the_continuation() {
    let script = script();
    let first = claim(&script, KAS);
    let next = Escrow {
        script: &script,
        outpoint: crate::protocol::ids::Outpoint { txid: first.id().into(), index: 1 },
        funding: amount(first.outputs[1].value),
    };
    let plan = plan_claim(next, amount(KAS), &rules()).unwrap();
    let old = plan.sign(next, &voucher(&script, escrow(&script, FUNDING).outpoint, VOUCHER), sign(SERVER)).unwrap();
    execute(&old.transaction, &[locked(&script, FUNDING - KAS)]).expect_err("the voucher names the spent outpoint");
    let fresh = plan.sign(next, &voucher(&script, next.outpoint, KAS), sign(SERVER)).unwrap();
    audit(&fresh.transaction, &[locked(&script, FUNDING - KAS)]);
}

#[test]
fn no_claim_is_planned_that_the_network_would_not_take() {
    let script = script();
    let plan = |funding, takes| plan_claim(escrow(&script, funding), amount(takes), &rules());
    assert!(matches!(plan(FUNDING, 0), Err(SpendError::Uneconomic { .. })), "nothing to claim");
    assert!(matches!(plan(FUNDING, 1_000), Err(SpendError::Uneconomic { .. })), "less than the fee");
    assert!(matches!(plan(FUNDING, 2_000_000), Err(SpendError::Uneconomic { .. })), "a payout of too much storage mass");
    assert!(matches!(plan(FUNDING, FUNDING), Err(SpendError::ExceedsFunding { .. })), "no continuation");
    assert!(matches!(plan(FUNDING, FUNDING + 1), Err(SpendError::ExceedsFunding { .. })));
    assert!(matches!(plan(FUNDING, FUNDING - 1_000_000), Err(SpendError::Uneconomic { .. })), "a continuation too small");
    let planned = plan(FUNDING, VOUCHER).unwrap();
    let low = voucher(&script, escrow(&script, FUNDING).outpoint, VOUCHER - 1);
    assert!(matches!(planned.sign(escrow(&script, FUNDING), &low, sign(SERVER)), Err(SpendError::VoucherTooLow { .. })));
}

#[test]
fn a_higher_rate_is_paid_over_the_greatest_mass() {
    let script = script();
    let escrow = escrow(&script, FUNDING);
    let least = plan_claim(escrow, amount(VOUCHER), &rules()).unwrap();
    let more = plan_claim(escrow, amount(VOUCHER), &rules().with_priority(1_000)).unwrap();
    assert!(more.fee > least.fee && more.payout < least.payout);
    assert_eq!(more.payout.checked_add(more.fee), Some(more.takes));
    // A fee that is asked for is paid where it is more than the least, at whatever rate.
    let (low, high) = (amount(1), more.fee.checked_add(amount(KAS / 100)).unwrap());
    let with = |fee, rate| plan_claim(escrow, amount(VOUCHER), &rules().with_priority(rate).with_least_fee(fee)).unwrap().fee;
    assert_eq!((with(low, 0), with(high, 0)), (least.fee, high));
    assert_eq!((with(low, 1_000), with(high, 1_000)), (more.fee, high));
    let kept = rules().with_least_fee(high).with_priority(1_000);
    assert_eq!(plan_claim(escrow, amount(VOUCHER), &kept).unwrap().fee, high);
    // A rate that eats the payout up ends.
    assert!(matches!(plan_claim(escrow, amount(KAS / 20), &rules().with_priority(10_000)), Err(SpendError::Uneconomic { .. })));
}

#[test]
fn the_reserve_is_the_smallest_continuation_that_can_be_claimed() {
    let script = script();
    let fits = |funding: u64, rest: u64| plan_claim(escrow(&script, funding), amount(funding - rest), &rules()).is_ok();
    for (funding, about) in
        [(KAS / 8, None), (KAS / 10, None), (KAS, Some(2_000_000..2_200_000)), (1_000 * KAS, Some(1_990_000..2_010_000))]
    {
        let found = reserve(&script, amount(funding), &rules()).unwrap().sompi();
        assert!(fits(funding, found), "{funding}: {found}");
        assert!(!fits(funding, found - 100), "{funding}: {found} is not the smallest");
        assert!(about.is_none_or(|about| about.contains(&found)), "{funding}: {found}");
    }
    for funding in [1, 100_000, 2_000_000, 5_000_000] {
        assert_eq!(reserve(&script, amount(funding), &rules()), None, "{funding}");
    }
}

/// The reserve by planning, and so building, every claim that is tried.
fn reserve_by_plans(script: &EscrowScript, funding: u64, rules: &SpendRules) -> Option<Amount> {
    let fits = |rest: u64| plan_claim(escrow(script, funding), amount(funding - rest), rules).is_ok();
    let (mut too_small, mut enough) = (0, funding / 2);
    if !fits(enough) {
        return None;
    }
    while enough - too_small > 1 {
        let middle = too_small + (enough - too_small) / 2;
        *(if fits(middle) { &mut enough } else { &mut too_small }) = middle;
    }
    Some(amount(enough))
}

#[test]
fn the_reserve_is_that_of_planned_claims() {
    let script = script();
    for rate in [0, 7, 300, 20_000] {
        let rules = rules().with_priority(rate);
        for funding in [1, 2, 3, 5_000_000, KAS / 10, KAS / 9 + 1, KAS / 7, KAS, 12 * KAS + 345, 9_999 * KAS + 1] {
            assert_eq!(reserve(&script, amount(funding), &rules), reserve_by_plans(&script, funding, &rules), "{funding} {rate}");
        }
    }
}

/// `cargo test --workspace --lib reserves_per_second -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn reserves_per_second() {
    const TIMES: u32 = 2_000;
    let (script, rules) = (script(), rules());
    let measure = |what: &str, does: &dyn Fn()| {
        let began = std::time::Instant::now();
        (0..TIMES).for_each(|_| does());
        println!("{what}: {:?} each", began.elapsed() / TIMES);
    };
    measure("a reserve", &|| assert!(std::hint::black_box(reserve(&script, amount(FUNDING), &rules)).is_some()));
    measure("by plans", &|| assert!(std::hint::black_box(reserve_by_plans(&script, FUNDING, &rules)).is_some()));
    let outpoint = escrow(&script, FUNDING).outpoint;
    let signed = voucher(&script, outpoint, VOUCHER);
    measure("a signature", &|| assert!(signed.verify(&script, outpoint)));
}

#[test]
fn the_buyer_accepts_a_claim_of_what_it_owes_and_no_more() {
    let script = script();
    let before = escrow(&script, FUNDING);
    let transaction = claim(&script, VOUCHER);
    let check = |change: &dyn Fn(&mut Transaction), owed: u64| {
        let mut transaction = transaction.clone();
        change(&mut transaction);
        check_continuation(&transaction, before, amount(owed))
    };
    let honest = check(&|_| {}, VOUCHER).unwrap();
    let expect = crate::protocol::ids::Outpoint { txid: transaction.id().into(), index: 1 };
    assert_eq!(honest, Continuation { outpoint: expect, funding: amount(FUNDING - VOUCHER), taken: amount(VOUCHER) });
    assert_eq!(
        check(&|_| {}, VOUCHER - 1),
        Err(ContinuationError::TookTooMuch { taken: amount(VOUCHER), owed: amount(VOUCHER - 1) }),
        "within the voucher and yet more than was charged"
    );
    assert_eq!(check(&|tx| tx.outputs[1].value = FUNDING + 1, 0).unwrap().taken, Amount::ZERO, "a top-up took nothing");
    let elsewhere = |tx: &mut Transaction| tx.inputs[0].previous_outpoint.index = 3;
    assert_eq!(check(&elsewhere, VOUCHER), Err(ContinuationError::NotASpend));
    assert_eq!(check(&|tx| drop(tx.outputs.pop()), VOUCHER), Err(ContinuationError::NotContinued));
    assert_eq!(check(&|tx| tx.outputs.swap(0, 1), VOUCHER), Err(ContinuationError::NotContinued));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_is_planned_is_taken_by_the_node(funding in KAS / 10..1_000 * KAS, share in 0u64..=1_000, rate in 0u64..300) {
        let script = script();
        let escrow = escrow(&script, funding);
        let Some(reserve) = reserve(&script, amount(funding), &rules()) else { return Ok(()) };
        let takes = (funding - reserve.sompi()) / 1_000 * share;
        if let Ok(plan) = plan_claim(escrow, amount(takes), &rules().with_priority(rate)) {
            let signed = plan.sign(escrow, &voucher(&script, escrow.outpoint, takes), sign(SERVER)).unwrap();
            let fee = audit(&signed.transaction, &[locked(&script, funding)]);
            prop_assert_eq!(plan.fee, amount(fee));
            prop_assert_eq!(plan.payout.sompi() + plan.continuation.sompi() + fee, funding);
            prop_assert!(check_continuation(&signed.transaction, escrow, amount(takes)).is_ok());
        }
    }
}
