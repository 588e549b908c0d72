//! Top-ups and claims that spend the same outpoint.

use super::world::*;
use crate::{
    chain::{Chain, SubmitOutcome},
    gateway::channel::{
        claim::{Unclaimed, Wanted},
        watch::MoveEnd,
    },
    protocol::ids::{ChannelId, Outpoint, TxId},
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
    assert!(matches!(world.gateway.claim_channel(&id, Wanted::AnyFee).await, Err(Unclaimed::Sent(sent)) if sent == txid));
    world.chain.advance(FINAL_DEPTH);
    let record = world.until(&id, "dropped", |record| record.moves.is_empty()).await;
    assert_eq!((record.phase(), record.active()), (Phase::Idle, sompi(2 * KAS)));
    world.chain.accept_at_once(true);
    world.gateway.claim_channel(&id, Wanted::Asked).await.unwrap();
    world.until(&id, "claimed", |record| record.parts.claimed == sompi(2 * KAS)).await;
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
