//! Top-ups and claims that spend the same outpoint.

use super::world::*;
use crate::{
    chain::{Chain, SubmitOutcome, Tip},
    gateway::channel::{
        claim::{Unclaimed, Wanted},
        watch::MoveEnd,
    },
    protocol::{
        ids::{ChannelId, Outpoint, TxId},
        policy::ClaimPolicy,
    },
    store::channels::*,
};
use kaspa_consensus_core::tx::Transaction;

const COIN: Outpoint = Outpoint { txid: TxId([0xc0; 32]), index: 0 };
const ADDS: u64 = 5 * KAS;

/// A top-up of a channel that owes 2 KAS, built, and sent when `send`.
async fn topping_up(send: bool) -> (World, ChannelId, Transaction) {
    let world = World::new(by_hand()).await;
    let record = world.open(1).await;
    world.charge(&record.id, 2 * KAS).await;
    world.chain.accept_at_once(false);
    let (record, transaction) = world.build_top_up(&record.id, COIN, ADDS).await;
    if send {
        let txid = transaction.id().into();
        assert_eq!(world.gateway.submit_of(&record, &txid, &transaction).await, SubmitOutcome::New);
    }
    (world, record.id, transaction)
}

fn txid(transaction: &Transaction) -> TxId {
    transaction.id().into()
}

#[tokio::test(start_paused = true)]
async fn a_top_up_is_waited_for_until_its_acceptance_is_stored() {
    let (world, id, top_up) = topping_up(true).await;
    let txid = txid(&top_up);
    let gateway = world.gateway.clone();
    let waiting = tokio::spawn(async move { gateway.wait_move(&id, &txid).await.unwrap() });
    world.settle().await;
    assert!(!waiting.is_finished());
    let acceptance = world.chain.accept(txid);
    match waiting.await.unwrap() {
        MoveEnd::Accepted(record) => {
            assert_eq!(record.outpoint, Outpoint { txid, index: 1 });
            assert_eq!(record.moves[0].state, MoveState::Accepted(acceptance));
            assert_eq!((record.parts.claimed, record.active()), (sompi(2 * KAS), sompi(0)));
            assert!(record.parts.funding > sompi(FUNDING - 2 * KAS + ADDS - KAS / 10));
        }
        other => panic!("{other:?}"),
    }
    // Accepted already: known at once.
    assert!(matches!(world.gateway.wait_move(&id, &txid).await.unwrap(), MoveEnd::Accepted(..)));
    assert!(matches!(world.gateway.wait_move(&id, &TxId([1; 32])).await.unwrap(), MoveEnd::Gone(Some(_))));
    assert!(matches!(world.gateway.wait_move(&ChannelId([1; 32]), &txid).await.unwrap(), MoveEnd::Gone(None)));
}

#[tokio::test(start_paused = true)]
async fn a_built_top_up_keeps_no_operator_from_claiming() {
    let (world, id, top_up) = topping_up(true).await;
    assert!(matches!(world.gateway.claim_channel(&id, Wanted::Due).await, Err(Unclaimed::Sent(sent)) if sent == txid(&top_up)));
    let report = world.gateway.claim_channel(&id, Wanted::Asked).await.unwrap();
    assert_eq!(report.takes, sompi(2 * KAS));
    assert_eq!(world.record(&id).await.moves.len(), 2);
    // One is enough.
    assert!(matches!(world.gateway.claim_channel(&id, Wanted::Asked).await, Err(Unclaimed::Sent(sent)) if sent == report.txid));
}

#[tokio::test(start_paused = true)]
async fn of_a_top_up_and_a_claim_beside_it_the_one_the_chain_accepts_counts() {
    for top_up_first in [true, false] {
        let (world, id, top_up) = topping_up(true).await;
        let claim = world.gateway.claim_channel(&id, Wanted::Asked).await.unwrap();
        let (winner, loser) = if top_up_first { (txid(&top_up), claim.txid) } else { (claim.txid, txid(&top_up)) };
        world.chain.accept(winner);
        let record = world.until(&id, "accepted", |record| record.phase() == Phase::Idle).await;
        assert_eq!((record.outpoint, record.parts.claimed), (Outpoint { txid: winner, index: 1 }, sompi(2 * KAS)));
        world.charge(&id, KAS).await;

        // A reorg to a branch with the other one: what was charged on the winner's continuation hangs on its return.
        world.chain.take_back(winner);
        world.chain.accept(loser);
        let record = world.until(&id, "the other", |record| record.outpoint == Outpoint { txid: loser, index: 1 }).await;
        assert_eq!((record.parts.claimed, record.active()), (sompi(2 * KAS), sompi(KAS)), "{top_up_first}");
        assert_eq!(record.parts.charged, sompi(3 * KAS));

        // And back; then for good.
        world.chain.take_back(loser);
        world.chain.accept(winner);
        world.until(&id, "back", |record| record.outpoint == Outpoint { txid: winner, index: 1 } && record.phase() == Phase::Idle).await;
        world.chain.advance(FINAL_DEPTH);
        let record = world.until(&id, "final", |record| record.moves.is_empty()).await;
        assert_eq!((record.parts.claimed, record.active(), record.closure), (sompi(2 * KAS), sompi(KAS), None));
        world.settle().await;
        assert_eq!((world.chain.followed(), world.chain.watched()), (0, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_top_up_whose_coin_went_elsewhere_for_good_is_dropped() {
    let (world, id, top_up) = topping_up(true).await;
    let txid = txid(&top_up);
    let gateway = world.gateway.clone();
    let waiting = tokio::spawn(async move { gateway.wait_move(&id, &txid).await.unwrap() });
    world.chain.spend(COIN, TxId([9; 32]));
    world.chain.advance(FINAL_DEPTH - 1);
    world.settle().await;
    assert_eq!(world.record(&id).await.phase(), Phase::Claiming);
    world.chain.advance(1);
    let record = world.until(&id, "dropped", |record| record.moves.is_empty()).await;
    assert_eq!((record.phase(), record.active(), record.closure), (Phase::Idle, sompi(2 * KAS), None));
    assert!(matches!(waiting.await.unwrap(), MoveEnd::Gone(Some(_))));
    world.charge(&id, KAS).await;
}

#[tokio::test(start_paused = true)]
async fn a_top_up_that_was_accepted_and_lost_its_coin_in_a_reorg_leaves_the_old_voucher_to_claim() {
    let (world, id, top_up) = topping_up(true).await;
    let txid = txid(&top_up);
    world.chain.accept(txid);
    world.until(&id, "accepted", |record| record.phase() == Phase::Idle).await;
    world.chain.take_back(txid);
    world.chain.spend(COIN, TxId([9; 32]));
    world.until(&id, "taken back", |record| record.phase() == Phase::TakenBack).await;
    assert!(matches!(world.gateway.claim_channel(&id, Wanted::Due).await, Err(Unclaimed::Sent(sent)) if sent == txid));
    world.chain.advance(FINAL_DEPTH);
    let record = world.until(&id, "dropped", |record| record.moves.is_empty()).await;
    assert_eq!((record.phase(), record.active()), (Phase::Idle, sompi(2 * KAS)));
    world.chain.accept_at_once(true);
    world.gateway.claim_channel(&id, Wanted::Asked).await.unwrap();
    world.until(&id, "claimed", |record| record.parts.claimed == sompi(2 * KAS)).await;
}

/// A top-up that was accepted, a charge over its continuation, and a reorg that took it: 3 KAS are owed, the voucher covers 2.
async fn owing_more_than_is_covered(policy: ClaimPolicy) -> (World, ChannelId, TxId) {
    let (mut world, id, top_up) = topping_up(true).await;
    world.chain.accept(txid(&top_up));
    world.until(&id, "accepted", |record| record.phase() == Phase::Idle).await;
    world.charge(&id, KAS).await;
    world.policy = policy;
    world.restart().await;
    world.chain.take_back(txid(&top_up));
    let record = world.until(&id, "taken back", |record| record.phase() == Phase::TakenBack).await;
    assert_eq!((record.active(), record.claimable()), (sompi(3 * KAS), sompi(2 * KAS)));
    (world, id, txid(&top_up))
}

#[tokio::test(start_paused = true)]
async fn what_a_lost_top_up_leaves_is_claimed_as_far_as_the_voucher_goes_and_the_rest_is_told_of() {
    let automatic = ClaimPolicy { automatic: true, above: sompi(2 * KAS), ..by_hand() };
    let (world, id, top_up) = owing_more_than_is_covered(automatic).await;
    // It may still return.
    world.settle().await;
    assert!(matches!(world.gateway.claim_channel(&id, Wanted::Due).await, Err(Unclaimed::Sent(sent)) if sent == top_up));
    world.chain.spend(COIN, TxId([9; 32]));
    world.chain.accept_at_once(true);
    world.chain.advance(FINAL_DEPTH);
    let record = world.until(&id, "claimed", |record| record.parts.claimed == sompi(2 * KAS)).await;
    assert_eq!((record.active(), record.parts.funding), (sompi(KAS), sompi(FUNDING - 2 * KAS)));
    world.settle().await;
    assert!(matches!(world.gateway.claim_channel(&id, Wanted::AnyFee).await, Err(Unclaimed::Uncovered)));
    world.chain.advance(FINAL_DEPTH);
    world.until(&id, "final", |record| record.moves.is_empty()).await;
    world.settle().await;
    assert_eq!(world.gateway.metrics().claims.built.get(), 1);
    let settled = world.store.settled_moves(&id, 0, 9).await.unwrap();
    assert_eq!(
        settled.iter().filter(|row| row.state != SettledState::TakenBack).map(|row| row.takes).collect::<Vec<_>>(),
        [sompi(2 * KAS)]
    );
    let totals = world.store.channel_totals().await.unwrap();
    assert_eq!(
        (totals.charged_sompi, totals.claimed_sompi, totals.active_sompi),
        (3 * u128::from(KAS), 2 * u128::from(KAS), u128::from(KAS))
    );
}

#[tokio::test(start_paused = true)]
async fn beside_a_top_up_that_was_taken_back_a_claim_is_built_when_the_refund_is_near_or_asked_for() {
    let automatic = ClaimPolicy { automatic: true, ..by_hand() };
    for (asked, returns) in [(false, true), (false, false), (true, true)] {
        let (world, id, top_up) = owing_more_than_is_covered(automatic).await;
        world.settle().await;
        assert_eq!(world.record(&id).await.moves.len(), 1, "it mostly returns");
        if asked {
            world.gateway.claim_channel(&id, Wanted::Asked).await.unwrap();
        } else {
            world.chain.set_tip(Tip { daa_score: TIMEOUT - 1_000, blue_score: 1_000 });
        }
        let both = world.until(&id, "a claim beside it", |record| record.moves.len() == 2).await;
        let claim = &both.moves[1];
        assert_eq!((claim.added, claim.takes), (sompi(0), sompi(2 * KAS)));
        world.chain.accept(if returns { top_up } else { claim.txid });
        let record = world.until(&id, "one of them", |record| record.parts.claimed == sompi(2 * KAS)).await;
        assert_eq!(record.active(), sompi(KAS));
        // Near the refund the rest is claimed at once.
        let phase = if asked { Phase::Idle } else { Phase::Claiming };
        assert_eq!((record.phase(), record.claimable()), if returns { (phase, sompi(KAS)) } else { (Phase::TakenBack, sompi(0)) });
    }
}

#[tokio::test(start_paused = true)]
async fn a_top_up_of_a_dead_process_is_sent_by_the_next() {
    let (mut world, id, top_up) = topping_up(false).await;
    world.restart().await;
    world.settle().await;
    assert_eq!(world.chain.submits().last(), Some(&txid(&top_up)));
    world.chain.accept(txid(&top_up));
    world.until(&id, "accepted", |record| record.phase() == Phase::Idle).await;
    assert_eq!(world.chain.submit(&top_up).await, SubmitOutcome::Known);
}
