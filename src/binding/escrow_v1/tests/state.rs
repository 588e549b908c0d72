//! The accounts against an independent model: no sequence of operations loses or makes money.

use super::world::amount;
use crate::{
    binding::escrow_v1::state::{Accounts, Authorised, Idle, Parts, SettledClaim, StateError, Streaming},
    protocol::amount::{Amount, MAX_SOMPI},
};
use proptest::prelude::*;

const RESERVE: u64 = 10;

fn by(voucher: u64, ceiling: u64) -> Authorised {
    Authorised { voucher: amount(voucher), ceiling: amount(ceiling), reserve: amount(RESERVE) }
}

fn parts(idle: &Idle) -> [u64; 5] {
    let Parts { funding, charged, claimed, reserved, signed } = idle.accounts().parts();
    [funding, charged, claimed, reserved, signed].map(Amount::sompi)
}

#[test]
fn a_channel_lives_through_charges_claims_and_top_ups() {
    let idle = Idle::opened(amount(1_000));
    // The ceiling is signed; what is charged may be less.
    let idle = idle.charge(by(100, 100), amount(60)).unwrap();
    assert_eq!(parts(&idle), [1_000, 60, 0, 0, 100]);
    // The next voucher covers what is active and the next ceiling, and never less than what is signed already.
    assert_eq!(idle.accounts().expected_voucher(amount(20)), Ok(amount(100)));
    assert_eq!(idle.accounts().expected_voucher(amount(100)), Ok(amount(160)));
    let idle = idle.charge(by(160, 100), amount(100)).unwrap();
    let claiming = idle.claim().unwrap();
    assert_eq!(claiming.takes(), amount(160));
    let (idle, claim) = claiming.accepted();
    assert_eq!(parts(&idle), [840, 160, 160, 0, 0]);
    assert_eq!(claim, SettledClaim { takes: amount(160), added: Amount::ZERO, signed: amount(160) });
    let idle = idle.charge(by(50, 50), amount(50)).unwrap();
    let (idle, _) = idle.top_up(amount(500)).unwrap().accepted();
    assert_eq!(parts(&idle), [1_290, 210, 210, 0, 0]);
    let stream = idle.reserve(by(300, 300)).unwrap();
    assert_eq!(stream.accounts().exposure(), amount(300));
    assert_eq!(stream.accounts().active(), Amount::ZERO);
    let idle = stream.post(amount(120)).unwrap();
    assert_eq!(parts(&idle), [1_290, 330, 210, 0, 300]);
    let parts = idle.accounts().parts();
    let closed = idle.spent_elsewhere();
    assert_eq!((closed.parts(), closed.lost()), (parts, amount(120)));
}

#[test]
fn each_wrong_step_is_refused_for_its_reason() {
    let idle = || Idle::opened(amount(1_000)).charge(by(100, 100), amount(60)).unwrap();
    let expected = amount(160);
    for given in [0, 60, 100, 159, 161, 1_000] {
        assert_eq!(idle().charge(by(given, 100), Amount::ZERO), Err(StateError::Voucher { expected, given: amount(given) }));
        assert_eq!(idle().reserve(by(given, 100)).unwrap_err(), StateError::Voucher { expected, given: amount(given) });
    }
    assert_eq!(idle().charge(by(160, 100), amount(101)), Err(StateError::AboveCeiling { ceiling: amount(100) }));
    let stream = idle().reserve(by(160, 100)).unwrap();
    assert_eq!(stream.post(amount(101)), Err(StateError::AboveCeiling { ceiling: amount(100) }));
    // The reserve belongs to the claim.
    assert!(idle().charge(by(990, 930), Amount::ZERO).is_ok());
    assert!(matches!(idle().charge(by(991, 931), Amount::ZERO), Err(StateError::Uncovered { .. })));
    assert_eq!(Idle::opened(amount(1_000)).claim().unwrap_err(), StateError::NothingToClaim);
    assert_eq!(Idle::opened(amount(1_000)).top_up(amount(5)).unwrap_err(), StateError::NothingToClaim);
    assert_eq!(idle().top_up(Amount::ZERO).unwrap_err(), StateError::NothingAdded);
    assert_eq!(idle().top_up(amount(MAX_SOMPI)).unwrap_err(), StateError::Overflow);
    assert_eq!(idle().accounts().expected_voucher(amount(MAX_SOMPI)), Err(StateError::Overflow));
}

#[test]
fn records_that_contradict_themselves_are_not_restored() {
    let good = Parts { funding: amount(100), charged: amount(30), claimed: amount(10), reserved: Amount::ZERO, signed: amount(40) };
    assert!(Idle::restore(good).is_ok());
    let check = |change: fn(&mut Parts), idle: bool, streaming: bool| {
        let mut parts = good;
        change(&mut parts);
        assert_eq!((Idle::restore(parts).is_ok(), Streaming::restore(parts).is_ok()), (idle, streaming), "{parts:?}");
    };
    check(|p| p.claimed = amount(31), false, false);
    check(|p| p.signed = amount(19), false, false);
    check(|p| p.signed = amount(20), true, true);
    check(|p| p.signed = amount(101), false, false);
    check(|p| p.funding = amount(39), false, false);
    check(|p| p.reserved = amount(20), false, true);
    check(|p| p.reserved = amount(21), false, false);
    check(|p| p.funding = amount(MAX_SOMPI), false, false);
}

#[test]
fn a_claim_that_a_reorganisation_takes_back_is_undone_exactly_or_done_again() {
    let before = Idle::opened(amount(1_000)).charge(by(100, 100), amount(60)).unwrap();
    let (after, claim) = before.clone().claim().unwrap().accepted();
    assert_eq!(after.clone().taken_back(claim).unwrap().undone().unwrap(), before);
    assert_eq!(after.clone().taken_back(claim).unwrap().reaccepted(), after);
    assert_eq!(before.clone().claim().unwrap().abandoned(), before);
    // Charges on the continuation beyond the old voucher hang on the claim's return.
    let served = after.charge(by(90, 90), amount(90)).unwrap();
    let taken = served.clone().taken_back(claim).unwrap();
    assert_eq!(taken.uncovered(), amount(50), "150 are active, the old voucher covers 100");
    assert_eq!(taken.clone().undone(), Err(StateError::Inconsistent));
    assert_eq!(taken.clone().reaccepted(), served);
    assert_eq!(taken.spent_elsewhere().lost(), amount(150));
    // Two claims deep, a top-up among them.
    let (second, top_up) = served.clone().top_up(amount(400)).unwrap().accepted();
    let taken = second.taken_back(top_up).unwrap();
    assert_eq!(taken.on_chain(), served.accounts().parts());
    let taken = taken.further(claim).unwrap();
    assert_eq!((taken.on_chain().funding, taken.on_chain().claimed), (amount(1_000), Amount::ZERO));
}

#[derive(Clone, Debug)]
enum Step {
    Charge { ceiling: u64, charge: u64 },
    Stream { ceiling: u64, charge: u64 },
    Claim,
    Abandon,
    TopUp(u64),
    TakeBack { undo: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u64..400, 0u64..500).prop_map(|(ceiling, charge)| Step::Charge { ceiling, charge }),
        2 => (0u64..400, 0u64..500).prop_map(|(ceiling, charge)| Step::Stream { ceiling, charge }),
        2 => Just(Step::Claim),
        1 => Just(Step::Abandon),
        1 => (0u64..2_000).prop_map(Step::TopUp),
        1 => any::<bool>().prop_map(|undo| Step::TakeBack { undo }),
    ]
}

/// What really moved, counted without the accounts.
#[derive(Default)]
struct Model {
    deposited: u64,
    paid_out: u64,
    charges: u64,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_sequence_of_operations_loses_or_makes_money(funding in 100u64..5_000, steps in prop::collection::vec(step(), 0..60)) {
        let mut idle = Idle::opened(amount(funding));
        let mut model = Model { deposited: funding, ..Model::default() };
        let mut last: Option<SettledClaim> = None;
        for step in steps {
            let next = idle.clone();
            let due = |idle: &Idle, ceiling| by(idle.accounts().expected_voucher(amount(ceiling)).unwrap().sompi(), ceiling);
            match step {
                Step::Charge { ceiling, charge } => {
                    if let Ok(done) = next.charge(due(&idle, ceiling), amount(charge)) {
                        prop_assert!(charge <= ceiling);
                        model.charges += charge;
                        idle = done;
                    }
                }
                Step::Stream { ceiling, charge } => {
                    if let Ok(stream) = next.reserve(due(&idle, ceiling)) {
                        prop_assert!(stream.accounts().exposure() <= stream.accounts().parts().signed);
                        if let Ok(done) = stream.post(amount(charge)) {
                            model.charges += charge;
                            idle = done;
                        }
                    }
                }
                Step::Claim | Step::TopUp(_) => {
                    let added = if let Step::TopUp(added) = step { added } else { 0 };
                    let started = if let Step::TopUp(added) = step { next.top_up(amount(added)) } else { next.claim() };
                    if let Ok(claiming) = started {
                        model.paid_out += claiming.takes().sompi();
                        model.deposited += added;
                        let (done, claim) = claiming.accepted();
                        idle = done;
                        last = Some(claim);
                    }
                }
                Step::Abandon => {
                    if let Ok(claiming) = next.claim() {
                        prop_assert_eq!(&claiming.abandoned(), &idle);
                    }
                }
                Step::TakeBack { undo } => {
                    if let Some(claim) = last {
                        let taken = next.taken_back(claim).unwrap();
                        let on_chain = taken.on_chain();
                        prop_assert_eq!(on_chain.funding.sompi() + on_chain.claimed.sompi(), model.deposited - claim.added.sompi());
                        match taken.clone().undone() {
                            Ok(undone) if undo => {
                                prop_assert_eq!(taken.uncovered(), Amount::ZERO);
                                model.paid_out -= claim.takes.sompi();
                                model.deposited -= claim.added.sompi();
                                last = None;
                                idle = undone;
                            }
                            _ => prop_assert_eq!(&taken.reaccepted(), &idle),
                        }
                    }
                }
            }
            let [funding, charged, claimed, reserved, signed] = parts(&idle);
            prop_assert_eq!(funding + claimed, model.deposited, "what was deposited is held or was paid out");
            prop_assert_eq!(claimed, model.paid_out);
            prop_assert_eq!(charged, model.charges, "the sum of all charges");
            prop_assert!(claimed <= charged && charged - claimed <= signed && reserved == 0);
            prop_assert!(signed == 0 || signed + RESERVE <= funding, "every voucher can be claimed");
            prop_assert_eq!(Idle::restore(idle.accounts().parts()).unwrap(), idle.clone());
        }
    }
}

#[test]
fn an_opened_channel_expects_its_first_ceiling() {
    let accounts = Accounts::opened(amount(500));
    assert_eq!(accounts.expected_voucher(amount(70)), Ok(amount(70)));
    assert_eq!(accounts.authorise(by(70, 70)), Ok(()));
    assert!(accounts.authorise(by(71, 70)).is_err());
}
