use super::*;
use kaspa_consensus_core::{
    subnets::SUBNETWORK_ID_NATIVE,
    tx::{TransactionInput, TransactionOutpoint},
};

/// A transaction that spends output 0 of transaction `spends`; `salt` makes it another one.
pub fn transaction(spends: u8, salt: u8) -> Transaction {
    let input = TransactionInput::new(TransactionOutpoint::new(kaspa_hashes::Hash::from_bytes([spends; 32]), 0), vec![], 0, 1);
    Transaction::new(0, vec![input], vec![], 0, SUBNETWORK_ID_NATIVE, 0, vec![salt])
}

pub fn id(transaction: &Transaction) -> TxId {
    transaction.id().into()
}

pub fn block(n: u8) -> BlockHash {
    BlockHash([n; 32])
}

pub fn on_chain(n: u8) -> Located {
    Located::OnChain { blue_score: u64::from(n), daa_score: 10 + u64::from(n) }
}

pub fn acceptance(n: u8) -> Acceptance {
    Acceptance { block: block(n), blue_score: u64::from(n), daa_score: 10 + u64::from(n) }
}

/// A tracker at block 0, caught up.
pub fn tracker() -> Tracker {
    let mut tracker = Tracker::default();
    tracker.restart_at(block(0), Instant::now());
    tracker
}

pub fn add(tracker: &mut Tracker, n: u8, ids: &[TxId]) {
    tracker.apply(&[], vec![(block(n), ids.to_vec())], Instant::now());
}

pub fn locate_all(tracker: &mut Tracker) {
    for block in tracker.take_to_locate() {
        tracker.located(block, on_chain(block.0[0]));
    }
}

#[test]
fn an_acceptance_is_published_once_its_block_is_located() {
    let (mut tracker, tx) = (tracker(), transaction(1, 1));
    let status = tracker.follow(&tx, None, true, Instant::now());
    add(&mut tracker, 1, &[id(&tx)]);
    assert_eq!(*status.borrow(), TxStatus::Unseen);
    assert_eq!(tracker.take_to_locate(), [block(1)]);
    tracker.located(block(1), on_chain(1));
    assert_eq!(*status.borrow(), TxStatus::Accepted(acceptance(1)));
    assert!(tracker.unsent().is_empty());
}

#[test]
fn a_transaction_followed_after_its_acceptance_is_known_at_once() {
    let (mut tracker, tx) = (tracker(), transaction(1, 1));
    add(&mut tracker, 1, &[id(&tx)]);
    let status = tracker.follow(&tx, None, false, Instant::now());
    locate_all(&mut tracker);
    assert_eq!(*status.borrow(), TxStatus::Accepted(acceptance(1)));
}

#[test]
fn a_hint_publishes_early_and_the_chain_confirms_it() {
    let (mut tracker, tx) = (tracker(), transaction(1, 1));
    let status = tracker.follow(&tx, None, true, Instant::now());
    assert!(tracker.hint(block(1), [id(&tx)]));
    assert!(!tracker.hint(block(1), [id(&tx)]), "the second time says nothing new");
    locate_all(&mut tracker);
    assert_eq!(*status.borrow(), TxStatus::Accepted(acceptance(1)));
    let poll = tracker.begin_poll();
    add(&mut tracker, 1, &[id(&tx)]);
    tracker.end_poll(poll);
    assert!(tracker.take_to_locate().is_empty(), "confirmed by the chain");
}

#[test]
fn a_hint_that_the_chain_does_not_confirm_is_asked_for_again_and_dropped() {
    let (mut tracker, tx) = (tracker(), transaction(1, 1));
    let status = tracker.follow(&tx, None, true, Instant::now());
    tracker.hint(block(1), [id(&tx)]);
    locate_all(&mut tracker);
    let poll = tracker.begin_poll();
    add(&mut tracker, 2, &[]);
    tracker.end_poll(poll);
    assert_eq!(tracker.take_to_locate(), [block(1)]);
    tracker.located(block(1), Located::OffChain);
    assert_eq!(*status.borrow(), TxStatus::Unseen);
    assert_eq!(tracker.take_to_resubmit().len(), 1);
}

#[test]
fn a_hint_during_a_poll_is_not_judged_by_that_poll() {
    let (mut tracker, tx) = (tracker(), transaction(1, 1));
    let _status = tracker.follow(&tx, None, true, Instant::now());
    let poll = tracker.begin_poll();
    tracker.hint(block(1), [id(&tx)]);
    locate_all(&mut tracker);
    tracker.end_poll(poll);
    assert!(tracker.take_to_locate().is_empty());
}

#[test]
fn a_removed_block_takes_the_acceptance_back_unless_the_same_report_renews_it() {
    let (mut tracker, lost, moved) = (tracker(), transaction(1, 1), transaction(2, 2));
    let (one, two) = (tracker.follow(&lost, None, true, Instant::now()), tracker.follow(&moved, None, true, Instant::now()));
    add(&mut tracker, 1, &[id(&lost), id(&moved)]);
    locate_all(&mut tracker);
    tracker.apply(&[block(1)], vec![(block(2), vec![id(&moved)])], Instant::now());
    assert_eq!(*one.borrow(), TxStatus::Unseen);
    assert_eq!(*two.borrow(), TxStatus::Accepted(acceptance(1)), "not until the new block is located");
    assert!(tracker.moving(), "no depth may be counted from the block that is gone");
    locate_all(&mut tracker);
    assert!(!tracker.moving());
    assert_eq!(*two.borrow(), TxStatus::Accepted(acceptance(2)));
    assert_eq!(tracker.take_to_resubmit().iter().map(|tx| id(tx)).collect::<Vec<_>>(), [id(&lost)]);
    assert_eq!(tracker.tail(), Some(block(2)));
    // The answer about the removed block comes late.
    tracker.located(block(1), on_chain(1));
    assert_eq!(*one.borrow(), TxStatus::Unseen);
}

#[test]
fn a_conflicting_spend_is_named_and_taken_back_like_an_acceptance() {
    let (mut tracker, ours, theirs) = (tracker(), transaction(1, 1), transaction(1, 2));
    let now = Instant::now();
    let status = tracker.follow(&ours, None, true, now);
    add(&mut tracker, 1, &[id(&theirs)]);
    assert!(tracker.scan_plan(now, 10).is_empty(), "nothing is unresolved for long enough");
    let plan = tracker.scan_plan(now + UNRESOLVED, 10);
    assert_eq!(plan.iter().map(|scan| scan.block).collect::<Vec<_>>(), [block(1)]);
    let input = Outpoint { txid: TxId([1; 32]), index: 0 };
    tracker.spent(block(1), id(&theirs), [input]);
    tracker.scanned(&plan[0]);
    locate_all(&mut tracker);
    assert_eq!(*status.borrow(), TxStatus::Conflicted { by: id(&theirs), acceptance: acceptance(1) });
    assert!(tracker.scan_plan(now + UNRESOLVED, 10).is_empty(), "resolved");

    tracker.apply(&[block(1)], vec![(block(2), vec![])], now);
    assert_eq!(*status.borrow(), TxStatus::Unseen);
    assert_eq!(tracker.scan_plan(now, 10).len(), 1, "a suspect is looked after at once, on the new branch");
    tracker.apply(&[], vec![(block(3), vec![id(&ours)])], now);
    locate_all(&mut tracker);
    assert_eq!(*status.borrow(), TxStatus::Accepted(acceptance(3)));
}

#[test]
fn its_own_spend_is_no_conflict() {
    let (mut tracker, ours) = (tracker(), transaction(1, 1));
    let status = tracker.follow(&ours, None, true, Instant::now());
    add(&mut tracker, 1, &[]);
    tracker.spent(block(1), id(&ours), [Outpoint { txid: TxId([1; 32]), index: 0 }]);
    locate_all(&mut tracker);
    assert_eq!(*status.borrow(), TxStatus::Unseen);
}

#[test]
fn searched_blocks_are_not_searched_again() {
    let (mut tracker, tx) = (tracker(), transaction(1, 1));
    let now = Instant::now();
    let later = now + UNRESOLVED;
    let _status = tracker.follow(&tx, None, true, now);
    for n in 1..=5 {
        add(&mut tracker, n, &[]);
    }
    for expect in [[1, 2], [3, 4]] {
        let plan = tracker.scan_plan(later, 2);
        assert_eq!(plan.iter().map(|scan| scan.block).collect::<Vec<_>>(), expect.map(block));
        plan.iter().for_each(|scan| tracker.scanned(scan));
    }
    tracker.apply(&[block(5), block(4)], vec![(block(6), vec![])], later);
    assert_eq!(tracker.scan_plan(later, 9).iter().map(|scan| scan.block).collect::<Vec<_>>(), [block(6)]);
}

#[test]
fn while_catching_up_nothing_is_published() {
    let (mut tracker, tx, gone) = (tracker(), transaction(1, 1), transaction(2, 2));
    let one = tracker.follow(&tx, None, true, Instant::now());
    let two = tracker.follow(&gone, Some(acceptance(9)), true, Instant::now());
    tracker.begin_catch_up();
    add(&mut tracker, 1, &[id(&tx)]);
    assert_eq!(tracker.take_to_locate(), [block(1), block(9)]);
    tracker.located(block(1), on_chain(1));
    tracker.located(block(9), Located::OffChain);
    assert_eq!((*one.borrow(), *two.borrow()), (TxStatus::Unseen, TxStatus::Accepted(acceptance(9))));
    tracker.caught_up();
    assert_eq!((*one.borrow(), *two.borrow()), (TxStatus::Accepted(acceptance(1)), TxStatus::Unseen));
}

#[test]
fn a_known_acceptance_is_kept_unless_the_node_can_know_better() {
    for (located, sink, kept) in [
        (on_chain(9), 0, true),
        (Located::OffChain, 0, false),
        (Located::Missing { sink_blue_score: 9 + CERTAIN_DEPTH - 1 }, 0, false),
        (Located::Missing { sink_blue_score: 9 + CERTAIN_DEPTH }, 0, true),
    ] {
        let (mut tracker, tx) = (tracker(), transaction(1, 1));
        let status = tracker.follow(&tx, Some(acceptance(9)), true, Instant::now());
        assert_eq!(tracker.take_to_locate(), [block(9)]);
        tracker.located(block(9), located);
        assert_eq!(*status.borrow() == TxStatus::Accepted(acceptance(9)), kept, "{located:?} {sink}");
    }
}

#[test]
fn the_removal_of_a_block_below_the_kept_chain_is_noticed() {
    let (mut tracker, tx) = (tracker(), transaction(1, 1));
    let status = tracker.follow(&tx, Some(acceptance(9)), true, Instant::now());
    locate_all(&mut tracker);
    tracker.apply(&[block(0), block(9)], vec![(block(1), vec![])], Instant::now());
    assert_eq!(*status.borrow(), TxStatus::Unseen);
    assert_eq!(tracker.tail(), Some(block(1)));
}

#[test]
fn a_suspect_is_searched_and_what_was_found_is_published_after_locating() {
    let (mut tracker, tx) = (tracker(), transaction(1, 1));
    let status = tracker.follow(&tx, None, true, Instant::now());
    tracker.suspect(&id(&tx));
    assert_eq!(tracker.take_to_search(9).len(), 1);
    assert!(tracker.take_to_search(9).is_empty());
    tracker.found(id(&tx), block(7));
    locate_all(&mut tracker);
    assert_eq!(*status.borrow(), TxStatus::Accepted(acceptance(7)));
}

#[test]
fn memory_is_bounded_and_what_is_unfollowed_is_forgotten() {
    let (mut tracker, tx) = (tracker(), transaction(1, 1));
    let hash = |n: usize, salt: u8| {
        let mut bytes = [salt; 32];
        bytes[..8].copy_from_slice(&n.to_le_bytes());
        bytes
    };
    let added = (0..CHAIN_BLOCKS + 50).map(|n| (BlockHash(hash(n, 1)), vec![TxId(hash(n, 2))])).collect();
    tracker.apply(&[], added, Instant::now());
    assert_eq!((tracker.chain.len(), tracker.positions.len(), tracker.accepted.len()), (CHAIN_BLOCKS, CHAIN_BLOCKS, CHAIN_BLOCKS));
    let many = (0..ACCEPTED_IDS + 50).map(|n| TxId(hash(n, 3))).collect();
    tracker.apply(&[], vec![(block(200), vec![]), (block(201), many)], Instant::now());
    assert_eq!((tracker.chain.len(), tracker.tail()), (1, Some(block(201))));

    let _status = tracker.follow(&tx, None, true, Instant::now());
    tracker.suspect(&id(&tx));
    tracker.unfollow(&id(&tx));
    assert!(tracker.followed.is_empty() && tracker.spends.is_empty() && tracker.to_search.is_empty());
}

#[test]
fn following_twice_is_harmless_and_resubmit_is_only_raised() {
    let (mut tracker, tx) = (tracker(), transaction(1, 1));
    let one = tracker.follow(&tx, None, false, Instant::now());
    assert!(tracker.unsent().is_empty());
    let two = tracker.follow(&tx, None, true, Instant::now());
    tracker.follow(&tx, None, false, Instant::now());
    assert_eq!(tracker.unsent().len(), 1);
    add(&mut tracker, 1, &[id(&tx)]);
    locate_all(&mut tracker);
    assert_eq!(*one.borrow(), *two.borrow());
    assert_eq!(tracker.spends.values().map(Vec::len).sum::<usize>(), 1);
}
