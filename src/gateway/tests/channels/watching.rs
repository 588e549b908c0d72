//! Deposits, refunds, and what is left to watch.

use super::world::*;
use crate::{
    chain::{Chain, SubmitOutcome, sim::OnSubmit},
    protocol::ids::{Outpoint, TxId},
    store::channels::{ChannelStore, Phase},
};

const REFUND: TxId = TxId([0xfe; 32]);

#[tokio::test(start_paused = true)]
async fn a_deposit_that_a_reorg_takes_is_not_funded_until_it_is_back() {
    let world = World::new(by_hand()).await;
    let record = world.open(1).await;
    let funded_daa = record.deposit.funded_daa;
    assert_eq!(funded_daa, Some(1_000));
    world.chain.advance(7);
    world.chain.take_back(record.outpoint.txid);
    let record = world.until(&record.id, "unfunded", |record| record.deposit.funded_daa.is_none()).await;
    assert_eq!(record.phase(), Phase::Idle);
    assert_eq!(world.chain.submits(), [record.outpoint.txid; 2], "it is sent again");
    world.chain.accept(record.outpoint.txid);
    world.until(&record.id, "funded again", |record| record.deposit.funded_daa == Some(1_007)).await;
}

#[tokio::test(start_paused = true)]
async fn a_final_deposit_is_one_watched_output_and_nothing_else() {
    let mut world = World::new(by_hand()).await;
    let record = world.open(1).await;
    assert_eq!((world.chain.followed(), world.chain.watched()), (1, 1));
    world.chain.advance(FINAL_DEPTH);
    world.until(&record.id, "final", |record| record.deposit.transaction.is_none()).await;
    world.settle().await;
    assert_eq!((world.chain.followed(), world.chain.watched()), (0, 1));
    world.restart().await;
    world.settle().await;
    assert_eq!((world.chain.followed(), world.chain.watched()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_deposit_of_a_dead_process_is_sent_by_the_next() {
    let mut world = World::new(by_hand()).await;
    let (config, transaction) = world.deposit(1, TIMEOUT, FUNDING);
    let record = world.opened(config, &transaction, FUNDING, true).await;
    assert_eq!(world.chain.submits(), []);
    world.restart().await;
    world.until(&record.id, "funded", |record| record.deposit.funded_daa.is_some()).await;
    assert_eq!(world.chain.submits(), [record.outpoint.txid]);
}

#[tokio::test(start_paused = true)]
async fn a_deposit_that_lost_its_coins_for_good_never_was() {
    let world = World::new(by_hand()).await;
    world.chain.accept_at_once(false);
    let (config, transaction) = world.deposit(1, TIMEOUT, FUNDING);
    let record = world.opened(config, &transaction, FUNDING, true).await;
    world.gateway.watch_channel(&record);
    world.chain.submit(&transaction).await;
    world.chain.conflict(record.outpoint.txid, TxId([9; 32]));
    world.chain.advance(FINAL_DEPTH - 1);
    world.settle().await;
    assert!(world.store.channel(&record.id).await.unwrap().is_some(), "not final");
    world.chain.advance(1);
    world.settle().await;
    assert!(world.store.channel(&record.id).await.unwrap().is_none());
    assert_eq!((world.chain.followed(), world.chain.watched()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_deposit_that_can_never_be_valid_never_was() {
    let mut world = World::new(by_hand()).await;
    let (config, transaction) = world.deposit(1, TIMEOUT, FUNDING);
    let record = world.opened(config, &transaction, FUNDING, true).await;
    world.chain.on_submit([OnSubmit::Answer(SubmitOutcome::Rejected("bad signature".into()))]);
    world.restart().await;
    world.settle().await;
    assert!(world.store.channel(&record.id).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_served_channel_whose_deposit_went_elsewhere_for_good_is_closed_with_its_loss() {
    let world = World::new(by_hand()).await;
    let record = world.open(1).await;
    world.charge(&record.id, KAS).await;
    world.chain.take_back(record.outpoint.txid);
    world.chain.conflict(record.outpoint.txid, TxId([9; 32]));
    world.until(&record.id, "unfunded", |record| record.deposit.funded_daa.is_none()).await;
    world.chain.advance(FINAL_DEPTH);
    world.until(&record.id, "closed", |record| record.closure.is_some_and(|closure| closure.is_final)).await;
    world.settle().await;
    assert_eq!(world.gateway.metrics().lost_sompi.get(), KAS);
    assert_eq!((world.chain.followed(), world.chain.watched()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_refund_closes_the_channel_at_once_and_a_reorg_opens_it_again() {
    let world = World::new(by_hand()).await;
    let record = world.open(1).await;
    world.charge(&record.id, KAS).await;
    world.chain.spend(record.outpoint, REFUND);
    let closed = world.until(&record.id, "closed", |record| record.phase() == Phase::Closed).await;
    assert_eq!(closed.closure.unwrap().by, REFUND);
    world.chain.unspend(&record.outpoint);
    let open = world.until(&record.id, "open", |record| record.phase() == Phase::Idle).await;
    assert_eq!(open.active(), sompi(KAS));
    // What was only seen for a moment is not lost.
    assert_eq!((world.gateway.metrics().channels_closed_by_client.get(), world.gateway.metrics().lost_sompi.get()), (1, 0));

    world.chain.spend(record.outpoint, REFUND);
    world.until(&record.id, "closed", |record| record.phase() == Phase::Closed).await;
    world.chain.advance(FINAL_DEPTH);
    world.until(&record.id, "closed for good", |record| record.closure.unwrap().is_final).await;
    world.settle().await;
    assert_eq!((world.gateway.metrics().channels_closed_by_client.get(), world.gateway.metrics().lost_sompi.get()), (2, KAS));
    assert_eq!((world.chain.followed(), world.chain.watched()), (0, 0));
    let totals = world.store.channel_totals().await.unwrap();
    assert_eq!((totals.open, totals.closed, totals.lost_sompi), (0, 1, u128::from(KAS)));
}

#[tokio::test(start_paused = true)]
async fn a_refund_of_an_empty_channel_loses_nothing() {
    let mut world = World::new(by_hand()).await;
    let record = world.open(1).await;
    world.life.end(&world.chain);
    world.chain.spend(record.outpoint, REFUND);
    world.chain.advance(FINAL_DEPTH);
    // Seen by the next process.
    world.restart().await;
    world.until(&record.id, "closed for good", |record| record.closure.is_some_and(|closure| closure.is_final)).await;
    world.settle().await;
    assert_eq!((world.gateway.metrics().channels_closed_by_client.get(), world.gateway.metrics().lost_sompi.get()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn an_output_that_vanished_is_nobodys_spend_until_the_chain_says_whose() {
    let world = World::new(by_hand()).await;
    let record = world.open(1).await;
    world.chain.vanish(record.outpoint);
    world.settle().await;
    let unchanged = world.record(&record.id).await;
    assert_eq!((unchanged.phase(), unchanged.deposit.funded_daa), (Phase::Idle, record.deposit.funded_daa));
    world.chain.spend(record.outpoint, REFUND);
    world.until(&record.id, "closed", |record| record.phase() == Phase::Closed).await;
}

#[tokio::test(start_paused = true)]
async fn a_strangers_interest_in_the_same_output_does_not_end_ours() {
    let world = World::new(by_hand()).await;
    let record = world.open(1).await;
    let script = world.gateway.script(&record).unwrap();
    let theirs = world.gateway.follows.watch(record.outpoint, script.script_public_key(), None);
    let other = world.gateway.follows.watch(Outpoint { index: 9, ..record.outpoint }, script.script_public_key(), None);
    assert_eq!(world.chain.watched(), 2);
    drop((theirs, other));
    assert_eq!(world.chain.watched(), 1);
    world.chain.spend(record.outpoint, REFUND);
    world.until(&record.id, "closed", |record| record.phase() == Phase::Closed).await;
}
