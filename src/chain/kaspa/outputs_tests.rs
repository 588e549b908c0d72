use super::{
    super::tracker::{
        Located,
        tests::{acceptance, add, block, id, locate_all, tracker, transaction},
    },
    *,
};
use crate::protocol::{acceptance::Acceptance, amount::Amount};
use kaspa_addresses::{Prefix, Version};
use kaspa_consensus_core::tx::ScriptPublicKey;

/// The output that every `transaction(1, _)` spends.
const OUTPUT: Outpoint = Outpoint { txid: TxId([1; 32]), index: 0 };
type Status = watch::Receiver<OutpointStatus>;

fn address(n: u8) -> Address {
    Address::new(Prefix::Simnet, Version::PubKey, &[n; 32])
}

fn utxo(outpoint: Outpoint) -> Utxo {
    let script_public_key = ScriptPublicKey::from_vec(0, vec![]);
    Utxo { outpoint, amount: Amount::from_sompi(5).unwrap(), script_public_key, daa_score: 500, is_coinbase: false, covenant: false }
}

fn unspent() -> OutpointStatus {
    OutpointStatus::Unspent(utxo(OUTPUT))
}

fn spent(by: TxId, acceptance: Acceptance) -> OutpointStatus {
    OutpointStatus::Spent { by, acceptance }
}

fn watch(tracker: &mut Tracker, known_unspent: Option<u64>) -> Status {
    tracker.watch(OUTPUT, address(1), known_unspent, Instant::now())
}

/// Everything that is to be asked is asked, and the utxo set holds the output, or nothing.
fn answer(tracker: &mut Tracker, there: bool) {
    let utxos = || HashMap::from([(OUTPUT, utxo(OUTPUT))]);
    while let Some(question) = tracker.take_question(1_000) {
        tracker.answered(question, if there { utxos() } else { HashMap::new() });
    }
}

/// Watched, and seen unspent.
fn held(tracker: &mut Tracker) -> Status {
    let status = watch(tracker, None);
    answer(tracker, true);
    assert_eq!(*status.borrow(), unspent());
    status
}

/// A notification says that it went, which the utxo set confirms.
fn goes(tracker: &mut Tracker) {
    tracker.hint_outputs([OUTPUT]);
    answer(tracker, false);
}

/// Searches what is to be searched now; `spend` is in a block.
fn hunt(tracker: &mut Tracker, spend: Option<(BlockHash, TxId)>) -> Vec<BlockHash> {
    let mut searched = Vec::new();
    loop {
        let plan = tracker.scan_plan(Instant::now(), 64);
        if plan.is_empty() {
            return searched;
        }
        for scan in plan {
            searched.push(scan.block);
            if let Some((_, by)) = spend.filter(|(block, _)| *block == scan.block) {
                tracker.spent(scan.block, by, [OUTPUT]);
            }
            tracker.scanned(&scan);
        }
    }
}

#[test]
fn an_output_is_unknown_until_the_utxo_set_was_asked() {
    for (there, expect) in [(true, unspent()), (false, OutpointStatus::Absent)] {
        let mut tracker = tracker();
        let status = watch(&mut tracker, None);
        assert_eq!(*status.borrow(), OutpointStatus::Unknown);
        answer(&mut tracker, there);
        assert_eq!(*status.borrow(), expect);
        assert!(tracker.take_question(1).is_none() && !tracker.hunting() && tracker.take_to_trace().is_none());
    }
}

#[test]
fn a_notification_is_only_a_reason_to_ask() {
    let mut tracker = tracker();
    let status = watch(&mut tracker, None);
    answer(&mut tracker, false);
    tracker.hint_outputs([Outpoint { index: 9, ..OUTPUT }]);
    assert!(tracker.take_question(1).is_none(), "of an output nobody watches");
    tracker.hint_outputs([OUTPUT]);
    assert_eq!(*status.borrow(), OutpointStatus::Absent);
    answer(&mut tracker, true);
    assert_eq!(*status.borrow(), unspent());
}

#[test]
fn what_is_newly_watched_is_asked_for_a_second_time_and_everything_now_and_then() {
    let mut tracker = tracker();
    let _status = held(&mut tracker);
    tracker.ask_again();
    assert!(tracker.take_question(1).is_none(), "the subscription may not be made yet");
    tracker.ask_again();
    answer(&mut tracker, true);
    tracker.ask_again();
    tracker.ask_again();
    assert!(tracker.take_question(1).is_none());
    tracker.ask_all();
    assert_eq!(tracker.take_question(1).unwrap().outpoints, [OUTPUT]);
}

#[test]
fn a_spend_is_named_by_the_chain_after_the_utxo_set_lost_the_output() {
    let (mut tracker, spend) = (tracker(), transaction(1, 2));
    let status = held(&mut tracker);
    for n in 1..=5 {
        add(&mut tracker, n, &[]);
    }
    assert!(hunt(&mut tracker, None).is_empty(), "nothing is read while it is unspent");
    goes(&mut tracker);
    assert_eq!(*status.borrow(), OutpointStatus::Unknown);
    // The utxo set is ahead of the chain.
    assert_eq!(hunt(&mut tracker, None), [1, 2, 3, 4, 5].map(block));
    add(&mut tracker, 6, &[id(&spend)]);
    assert_eq!(hunt(&mut tracker, Some((block(6), id(&spend)))), [block(6)]);
    assert_eq!(*status.borrow(), OutpointStatus::Unknown, "not before the block is located");
    locate_all(&mut tracker);
    assert_eq!(*status.borrow(), spent(id(&spend), acceptance(6)));
    add(&mut tracker, 7, &[]);
    assert!(hunt(&mut tracker, None).is_empty() && !tracker.hunting(), "found");
}

#[test]
fn the_search_begins_near_the_tail_and_goes_back_once() {
    let (mut tracker, spend) = (tracker(), transaction(1, 2));
    let status = held(&mut tracker);
    for n in 1..=100 {
        add(&mut tracker, n, &[id(&spend)]);
    }
    goes(&mut tracker);
    assert_eq!(hunt(&mut tracker, None).first(), Some(&block(71)));
    for n in 101..=103 {
        add(&mut tracker, n, &[]);
    }
    let searched = hunt(&mut tracker, Some((block(40), id(&spend))));
    assert_eq!(searched[..4], [101, 102, 103, 1].map(block));
    locate_all(&mut tracker);
    assert_eq!(*status.borrow(), spent(id(&spend), acceptance(40)));
}

#[test]
fn an_output_whose_spend_is_nowhere_is_absent_after_a_while() {
    let mut tracker = tracker();
    let status = held(&mut tracker);
    goes(&mut tracker);
    for n in 1..AHEAD {
        add(&mut tracker, n.try_into().unwrap(), &[]);
        hunt(&mut tracker, None);
        assert_eq!(*status.borrow(), OutpointStatus::Unknown, "{n}");
    }
    add(&mut tracker, 200, &[]);
    hunt(&mut tracker, None);
    assert_eq!(*status.borrow(), OutpointStatus::Absent);
    assert!(!tracker.hunting());
    tracker.hint_outputs([OUTPUT]);
    answer(&mut tracker, true);
    assert_eq!(*status.borrow(), unspent(), "funded again");
}

#[test]
fn a_spend_that_is_taken_back_leaves_the_output_unspent_or_spent_by_another() {
    for other in [false, true] {
        let (mut tracker, ours, theirs) = (tracker(), transaction(1, 2), transaction(1, 3));
        let status = held(&mut tracker);
        goes(&mut tracker);
        add(&mut tracker, 1, &[id(&ours)]);
        hunt(&mut tracker, Some((block(1), id(&ours))));
        locate_all(&mut tracker);
        assert_eq!(*status.borrow(), spent(id(&ours), acceptance(1)));
        tracker.apply(&[block(1)], vec![(block(2), vec![id(&theirs)]), (block(3), vec![])], Instant::now());
        assert_eq!(*status.borrow(), OutpointStatus::Unknown);
        answer(&mut tracker, !other);
        if other {
            assert_eq!(hunt(&mut tracker, Some((block(2), id(&theirs))))[0], block(2));
            locate_all(&mut tracker);
            assert_eq!(*status.borrow(), spent(id(&theirs), acceptance(2)));
        } else {
            assert!(hunt(&mut tracker, None).is_empty());
            assert_eq!(*status.borrow(), unspent());
        }
    }
}

#[test]
fn a_spend_that_moves_to_another_block_is_never_taken_back() {
    let (mut tracker, ours) = (tracker(), transaction(1, 2));
    let status = held(&mut tracker);
    goes(&mut tracker);
    add(&mut tracker, 1, &[id(&ours)]);
    hunt(&mut tracker, Some((block(1), id(&ours))));
    locate_all(&mut tracker);
    tracker.apply(&[block(1)], vec![(block(2), vec![id(&ours)])], Instant::now());
    assert_eq!(*status.borrow(), spent(id(&ours), acceptance(1)));
    assert!(tracker.moving(), "no depth may be counted from the block that is gone");
    locate_all(&mut tracker);
    assert_eq!(*status.borrow(), spent(id(&ours), acceptance(2)));
    assert!(!tracker.moving());
}

#[test]
fn a_followed_transaction_names_what_it_spends_without_a_search() {
    let (mut tracker, claim) = (tracker(), transaction(1, 2));
    let status = held(&mut tracker);
    let _claim = tracker.follow(&claim, None, true, Instant::now());
    add(&mut tracker, 1, &[id(&claim)]);
    locate_all(&mut tracker);
    assert_eq!(*status.borrow(), spent(id(&claim), acceptance(1)));
    // The utxo set, which is asked late, does not contradict the chain.
    tracker.hint_outputs([OUTPUT]);
    answer(&mut tracker, false);
    assert_eq!(*status.borrow(), spent(id(&claim), acceptance(1)));
    assert!(!tracker.hunting());
}

#[test]
fn a_spend_that_is_not_on_the_chain_after_all_is_asked_for_again() {
    let (mut tracker, ours) = (tracker(), transaction(1, 2));
    let status = held(&mut tracker);
    goes(&mut tracker);
    add(&mut tracker, 1, &[id(&ours)]);
    hunt(&mut tracker, Some((block(1), id(&ours))));
    tracker.located(block(1), Located::OffChain);
    assert_eq!(*status.borrow(), OutpointStatus::Unknown);
    answer(&mut tracker, true);
    assert_eq!(*status.borrow(), unspent());
}

#[test]
fn a_reorg_during_the_question_begins_the_search_below_it() {
    let mut tracker = tracker();
    let _status = watch(&mut tracker, None);
    for n in 1..=60 {
        add(&mut tracker, n, &[]);
    }
    let question = tracker.take_question(1_000).unwrap();
    let removed: Vec<_> = (6..=60).rev().map(block).collect();
    tracker.apply(&removed, (101..=108).map(|n| (block(n), vec![])).collect(), Instant::now());
    tracker.answered(question, HashMap::from([(OUTPUT, utxo(OUTPUT))]));
    goes(&mut tracker);
    assert_eq!(hunt(&mut tracker, None)[0], block(101));
}

#[test]
fn while_catching_up_nothing_is_published_of_outputs_either() {
    let (mut tracker, spend) = (tracker(), transaction(1, 2));
    let status = held(&mut tracker);
    tracker.begin_catch_up();
    assert_eq!(tracker.take_subscriptions().start, [address(1)], "the new connection knows of nothing");
    add(&mut tracker, 1, &[id(&spend)]);
    answer(&mut tracker, false);
    assert_eq!(*status.borrow(), unspent());
    assert!(tracker.scan_plan(Instant::now(), 9).is_empty());
    tracker.caught_up();
    assert_eq!(*status.borrow(), OutpointStatus::Unknown);
    hunt(&mut tracker, Some((block(1), id(&spend))));
    locate_all(&mut tracker);
    assert_eq!(*status.borrow(), spent(id(&spend), acceptance(1)));
}

#[test]
fn only_what_was_known_to_be_unspent_is_traced() {
    let (mut tracker, spend) = (tracker(), transaction(1, 2));
    let status = watch(&mut tracker, None);
    answer(&mut tracker, false);
    assert!(tracker.take_to_trace().is_none(), "strangers name outputs");
    watch(&mut tracker, Some(700));
    answer(&mut tracker, false);
    assert_eq!(*status.borrow(), OutpointStatus::Unknown);
    assert_eq!(tracker.take_to_trace(), Some((700, vec![OUTPUT])));
    tracker.found_spend(block(9), id(&spend), [OUTPUT]);
    locate_all(&mut tracker);
    assert_eq!(*status.borrow(), spent(id(&spend), acceptance(9)));
}

#[test]
fn a_trace_goes_on_where_it_came_from_on_the_kept_chain() {
    for (from, first) in [(Some(block(5)), 6), (Some(block(99)), 0), (None, 0)] {
        let mut tracker = tracker();
        for n in 1..=10 {
            add(&mut tracker, n, &[]);
        }
        let _status = watch(&mut tracker, Some(700));
        answer(&mut tracker, false);
        let (_, outpoints) = tracker.take_to_trace().unwrap();
        tracker.traced(&outpoints, from);
        assert_eq!(hunt(&mut tracker, None)[0], block(first), "{from:?}");
    }
}

#[test]
fn a_gap_in_the_kept_chain_is_traced() {
    let mut tracker = tracker();
    let _status = held(&mut tracker);
    add(&mut tracker, 1, &[]);
    goes(&mut tracker);
    tracker.restart_at(block(50), Instant::now());
    // 1,000 was the score when it was seen.
    assert_eq!(tracker.take_to_trace(), Some((900, vec![OUTPUT])));
    tracker.begin_catch_up();
    assert_eq!(tracker.take_to_trace(), Some((900, vec![OUTPUT])), "the connection was lost meanwhile");

    // Gone in the gap itself.
    let mut tracker = super::super::tracker::tests::tracker();
    let _status = held(&mut tracker);
    tracker.begin_catch_up();
    add(&mut tracker, 1, &[]);
    tracker.restart_at(block(50), Instant::now());
    answer(&mut tracker, false);
    assert_eq!(tracker.take_to_trace(), Some((900, vec![OUTPUT])));
}

#[test]
fn an_address_is_subscribed_while_one_output_under_it_is_watched() {
    let mut tracker = tracker();
    let second = Outpoint { index: 7, ..OUTPUT };
    let subscriptions = |tracker: &mut Tracker| {
        let Subscriptions { start, stop } = tracker.take_subscriptions();
        (start.len(), stop.len())
    };
    let _one = watch(&mut tracker, None);
    let _two = tracker.watch(second, address(1), None, Instant::now());
    assert_eq!(subscriptions(&mut tracker), (1, 0));
    tracker.unwatch(&OUTPUT);
    assert_eq!(subscriptions(&mut tracker), (0, 0));
    tracker.unwatch(&second);
    let _again = watch(&mut tracker, None);
    assert_eq!(subscriptions(&mut tracker), (0, 0), "stopped and started at once");
    tracker.unwatch(&OUTPUT);
    assert_eq!(subscriptions(&mut tracker), (0, 1));
    assert!(tracker.followed.is_empty() && tracker.take_question(1).is_none());
    tracker.ask_again();
    tracker.ask_again();
    assert!(tracker.take_question(1).is_none(), "nothing is left of it");
}

#[test]
fn thousands_are_asked_for_and_subscribed_in_batches() {
    let mut tracker = tracker();
    let outputs = 2 * BATCH + 1;
    for n in 0..outputs {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&n.to_le_bytes());
        let outpoint = Outpoint { txid: TxId(bytes), index: 0 };
        tracker.watch(outpoint, Address::new(Prefix::Simnet, Version::PubKey, &bytes), None, Instant::now());
    }
    let asked: Vec<_> = std::iter::from_fn(|| tracker.take_question(1)).map(|q| (q.outpoints.len(), q.addresses.len())).collect();
    assert_eq!(asked, [(BATCH, BATCH), (BATCH, BATCH), (1, 1)]);
    for expect in [BATCH, BATCH, 1, 0] {
        assert_eq!(tracker.take_subscriptions().start.len(), expect);
    }
}
