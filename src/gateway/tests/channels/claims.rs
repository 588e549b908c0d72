//! One claim, asked for: what becomes of it, and why there is none.

use super::world::*;
use crate::{
    chain::{OutpointStatus, SubmitOutcome, sim::OnSubmit},
    gateway::channel::claim::{Cause, ClaimReport, Unclaimed, Uneconomic, Wanted},
    protocol::ids::{ChannelId, TxId},
    store::channels::*,
};

const REFUND: TxId = TxId([0xfe; 32]);

/// A world in which what is sent is accepted only when the test says so, and a channel that owes 3 KAS.
async fn owing() -> (World, ChannelId) {
    let world = World::new(by_hand()).await;
    let record = world.open(1).await;
    world.charge(&record.id, 2 * KAS).await;
    world.charge(&record.id, KAS).await;
    world.chain.accept_at_once(false);
    (world, record.id)
}

async fn claim(world: &World, id: &ChannelId) -> ClaimReport {
    world.gateway.claim_channel(id, Wanted::Asked).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_claim_brings_all_that_is_owed_to_the_recipient() {
    let (world, id) = owing().await;
    let before = world.record(&id).await;
    let report = claim(&world, &id).await;
    assert_eq!((report.cause, report.taken), (Cause::Asked, true));
    assert_eq!((report.claim_outpoint, report.takes), (before.outpoint, sompi(3 * KAS)));
    assert_eq!(report.payout.checked_add(report.fee), Some(report.takes));
    let built = world.record(&id).await;
    assert_eq!((built.phase(), built.outpoint, built.parts.claimed), (Phase::Claiming, before.outpoint, sompi(0)));

    world.chain.accept(report.txid);
    let after = world.until(&id, "accepted", |record| record.phase() == Phase::Idle).await;
    assert_eq!((after.outpoint, after.parts.funding), (report.continuation_outpoint, sompi(7 * KAS)));
    assert_eq!((after.parts.claimed, after.parts.signed, after.active()), (sompi(3 * KAS), sompi(0), sompi(0)));
    let paid = world.unspent(&after.config.pay_to).await;
    assert_eq!(paid.iter().map(|utxo| utxo.amount).collect::<Vec<_>>(), [report.payout]);

    // Goes on over the continuation before the claim is final.
    world.charge(&id, KAS).await;
    world.chain.advance(FINAL_DEPTH);
    let last = world.until(&id, "final", |record| record.moves.is_empty()).await;
    assert_eq!((last.active(), last.outpoint), (sompi(KAS), report.continuation_outpoint));
    world.settle().await;
    assert_eq!((world.chain.followed(), world.chain.watched()), (0, 1));
    let metrics = world.gateway.metrics();
    let claims = &metrics.claims;
    assert_eq!([&claims.built, &claims.accepted, &claims.is_final, &claims.taken_back, &claims.dropped].map(|c| c.get()), [1, 1, 1, 0, 0]);
    assert_eq!(metrics.claim_fee_sompi.get(), report.fee.sompi());
}

#[tokio::test(start_paused = true)]
async fn a_claim_taken_back_is_sent_again_and_nothing_is_forgotten() {
    let (world, id) = owing().await;
    let report = claim(&world, &id).await;
    world.chain.accept(report.txid);
    world.until(&id, "accepted", |record| record.phase() == Phase::Idle).await;
    // Charged over the continuation, which the reorg takes.
    world.charge(&id, KAS).await;
    let before = world.record(&id).await;
    let submits = world.chain.submits().len();
    world.chain.take_back(report.txid);
    let back = world.until(&id, "taken back", |record| record.phase() == Phase::TakenBack).await;
    assert_eq!((back.outpoint, back.parts.claimed, back.active()), (report.claim_outpoint, sompi(0), sompi(4 * KAS)));
    assert_eq!(world.chain.submits()[submits..], [report.txid]);
    assert!(matches!(world.gateway.claim_channel(&id, Wanted::Asked).await, Err(Unclaimed::Sent(txid)) if txid == report.txid));

    world.chain.advance(3);
    world.chain.accept(report.txid);
    let again = world.until(&id, "accepted again", |record| record.phase() == Phase::Idle).await;
    assert_eq!((&again.parts, again.outpoint, again.voucher), (&before.parts, before.outpoint, before.voucher));
    assert_eq!(again.active(), sompi(KAS));
    world.chain.advance(FINAL_DEPTH);
    world.until(&id, "final", |record| record.moves.is_empty()).await;
    assert_eq!(world.gateway.metrics().claims.taken_back.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn two_claims_in_a_row_are_taken_back_and_restored_together() {
    let (world, id) = owing().await;
    let first = claim(&world, &id).await;
    world.chain.accept(first.txid);
    world.until(&id, "accepted", |record| record.phase() == Phase::Idle).await;
    world.charge(&id, KAS).await;
    let second = claim(&world, &id).await;
    world.chain.accept(second.txid);
    let before = world.until(&id, "accepted", |record| record.outpoint == second.continuation_outpoint).await;
    world.chain.take_back(second.txid);
    world.chain.take_back(first.txid);
    let back = world.until(&id, "taken back", |record| record.outpoint == first.claim_outpoint).await;
    assert_eq!((back.parts.claimed, back.active(), back.phase()), (sompi(0), sompi(4 * KAS), Phase::TakenBack));
    world.chain.accept(first.txid);
    world.chain.accept(second.txid);
    let after = world.until(&id, "restored", |record| record.outpoint == second.continuation_outpoint).await;
    assert_eq!((&after.parts, after.phase()), (&before.parts, Phase::Idle));
    world.chain.advance(FINAL_DEPTH);
    world.until(&id, "final", |record| record.moves.is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn of_a_claim_and_a_refund_the_one_the_chain_accepts_counts() {
    let (world, id) = owing().await;
    let record = world.record(&id).await;
    let report = claim(&world, &id).await;
    world.chain.spend(record.outpoint, REFUND);
    world.until(&id, "closed", |record| record.phase() == Phase::Closed).await;

    // The other branch wins, with our claim, which was sent again.
    world.chain.unspend(&record.outpoint);
    world.until(&id, "reopened", |record| record.phase() == Phase::Claiming).await;
    world.chain.accept(report.txid);
    world.until(&id, "claimed", |record| record.outpoint == report.continuation_outpoint).await;

    // And the refund again, for good.
    world.chain.take_back(report.txid);
    world.chain.spend(record.outpoint, REFUND);
    let closed = world.until(&id, "closed", |record| record.phase() == Phase::Closed).await;
    assert_eq!((closed.active(), closed.parts.claimed), (sompi(3 * KAS), sompi(0)));
    world.chain.advance(FINAL_DEPTH);
    world.until(&id, "closed for good", |record| record.closure.unwrap().is_final).await;
    world.settle().await;
    assert_eq!(world.gateway.metrics().lost_sompi.get(), 3 * KAS);
    assert_eq!((world.chain.followed(), world.chain.watched()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_refund_directly_replaced_by_the_claim_undoes_the_closure() {
    let (world, id) = owing().await;
    let record = world.record(&id).await;
    let report = claim(&world, &id).await;
    world.chain.spend(record.outpoint, REFUND);
    world.until(&id, "closed", |record| record.phase() == Phase::Closed).await;
    world.chain.accept(report.txid);
    let claimed = world.until(&id, "claimed", |record| record.phase() == Phase::Idle).await;
    assert_eq!((claimed.closure, claimed.parts.claimed), (None, sompi(3 * KAS)));
}

#[tokio::test(start_paused = true)]
async fn a_refund_of_the_continuation_loses_what_was_charged_since() {
    let (world, id) = owing().await;
    let report = claim(&world, &id).await;
    world.chain.accept(report.txid);
    world.until(&id, "accepted", |record| record.phase() == Phase::Idle).await;
    world.charge(&id, KAS).await;
    world.chain.spend(report.continuation_outpoint, REFUND);
    world.chain.advance(FINAL_DEPTH);
    let closed = world.until(&id, "closed for good", |record| record.closure.is_some_and(|closure| closure.is_final)).await;
    assert_eq!((closed.parts.claimed, closed.active()), (sompi(3 * KAS), sompi(KAS)));
    assert_eq!(world.gateway.metrics().lost_sompi.get(), KAS);
}

#[tokio::test(start_paused = true)]
async fn a_claim_proven_invalid_on_its_first_submit_is_dropped() {
    let (world, id) = owing().await;
    let before = world.record(&id).await;
    world.chain.on_submit([OnSubmit::Answer(SubmitOutcome::Rejected("bad".into()))]);
    assert!(matches!(world.gateway.claim_channel(&id, Wanted::Asked).await, Err(Unclaimed::Rejected(_))));
    assert_eq!(world.record(&id).await, before);
    assert_eq!(world.gateway.metrics().claims.dropped.get(), 1);
    claim(&world, &id).await;
}

#[tokio::test(start_paused = true)]
async fn any_other_answer_keeps_the_claim_and_it_is_sent_again() {
    for answer in [
        OnSubmit::DropAnswer,
        OnSubmit::Answer(SubmitOutcome::Unknown("mempool is full".into())),
        OnSubmit::Answer(SubmitOutcome::Unavailable("disconnected".into())),
    ] {
        let (world, id) = owing().await;
        world.chain.on_submit([answer.clone()]);
        let report = claim(&world, &id).await;
        assert!(!report.taken, "{answer:?}");
        assert_eq!(world.record(&id).await.phase(), Phase::Claiming);
        // No event says that a mempool has room again.
        world.pass(std::time::Duration::from_secs(31)).await;
        assert_eq!(world.chain.submits().last(), Some(&report.txid), "{answer:?}");
        world.chain.accept(report.txid);
        world.until(&id, "accepted", |record| record.phase() == Phase::Idle).await;
    }
}

#[tokio::test(start_paused = true)]
async fn there_is_no_claim_without_a_reason_a_key_or_something_to_claim() {
    let (world, id) = owing().await;
    let unclaimed = async |id: &ChannelId, wanted| world.gateway.claim_channel(id, wanted).await.unwrap_err();
    assert!(matches!(unclaimed(&ChannelId([9; 32]), Wanted::Asked).await, Unclaimed::Unknown));
    assert!(matches!(unclaimed(&id, Wanted::Due).await, Unclaimed::NotYet));
    world.chain.accept_at_once(true);
    let empty = world.open(2).await;
    assert!(matches!(unclaimed(&empty.id, Wanted::AnyFee).await, Unclaimed::Nothing));
    world.chain.accept_at_once(false);

    // The network takes no payout this small.
    world.charge(&empty.id, KAS / 100).await;
    let error = unclaimed(&empty.id, Wanted::AnyFee).await;
    assert!(matches!(error, Unclaimed::Uneconomic(Uneconomic::Network(_))), "{error}");
    assert_eq!(world.record(&empty.id).await.phase(), Phase::Idle);

    world.gateway.reload(std::sync::Arc::new(policy(world.policy)), offer_keys(), server_keys(&[7]));
    assert!(matches!(unclaimed(&id, Wanted::Asked).await, Unclaimed::NoKey(_)));
    world.gateway.reload(std::sync::Arc::new(policy(world.policy)), offer_keys(), server_keys(&[7, 240]));
    let report = claim(&world, &id).await;
    assert!(matches!(unclaimed(&id, Wanted::Asked).await, Unclaimed::Sent(txid) if txid == report.txid));
    world.chain.spend(world.record(&id).await.outpoint, REFUND);
    world.until(&id, "closed", |record| record.phase() == Phase::Closed).await;
    assert!(matches!(unclaimed(&id, Wanted::Asked).await, Unclaimed::Closed));
    assert_eq!(world.store.channel_totals().await.unwrap().claimed_sompi, 0);
}

#[tokio::test(start_paused = true)]
async fn a_fee_above_the_limit_is_paid_only_when_it_is_asked_for() {
    let policy = crate::protocol::policy::ClaimPolicy { priority_sompi_per_gram: 1_000, max_fee_percent: 1, ..by_hand() };
    let world = World::new(policy).await;
    let record = world.open(1).await;
    world.charge(&record.id, KAS / 10).await;
    let error = world.gateway.claim_channel(&record.id, Wanted::Asked).await.unwrap_err();
    assert!(matches!(error, Unclaimed::Uneconomic(Uneconomic::Fee { percent: 1, .. })), "{error}");
    let report = world.gateway.claim_channel(&record.id, Wanted::AnyFee).await.unwrap();
    assert!(report.fee.sompi() * 100 > report.takes.sompi());
    // Of a larger sum the higher rate is worth it.
    let record = world.open(2).await;
    world.charge(&record.id, 5 * KAS).await;
    let dear = claim(&world, &record.id).await;
    assert!(dear.fee > report.fee && dear.fee.sompi() * 100 <= dear.takes.sompi(), "{dear:?}");
}

#[tokio::test(start_paused = true)]
async fn a_claim_waits_for_the_request_that_runs_and_goes_before_the_next() {
    let (world, id) = owing().await;
    let (lease, record, terms) = world.request(&id, KAS).await;
    let gateway = world.gateway.clone();
    let waiting = tokio::spawn(async move { gateway.claim_channel(&id, Wanted::Asked).await });
    world.settle().await;
    assert_eq!(world.record(&id).await.moves, []);
    let record = world.commit(lease, &record, terms).await;
    let began = tokio::time::Instant::now();
    world.gateway.channel_changed(&record);
    let report = waiting.await.unwrap().unwrap();
    assert_eq!((report.takes, began.elapsed()), (sompi(4 * KAS), std::time::Duration::ZERO), "with that request, at once");
}

#[tokio::test(start_paused = true)]
async fn a_claim_gives_up_when_a_request_does_not_end() {
    let (world, id) = owing().await;
    let (lease, ..) = world.request(&id, KAS).await;
    let gateway = world.gateway.clone();
    let waiting = tokio::spawn(async move { gateway.claim_channel(&id, Wanted::Asked).await });
    // Renewed, as a request that runs does.
    for _ in 0..8 {
        world.pass(HOLD / 4).await;
        world.store.advance_channel(&lease, ChannelFact::Renewed { hold_millis: 10_000 }, world.now()).await.unwrap();
    }
    assert!(matches!(waiting.await.unwrap(), Err(Unclaimed::Busy)));
}

#[tokio::test(start_paused = true)]
async fn a_stream_left_behind_is_posted_before_the_claim_and_after_a_restart() {
    for (reading, unknown, expect) in [(Some(KAS / 2), 2 * KAS, KAS / 2), (None, 2 * KAS, 2 * KAS), (None, 0, 0)] {
        let (mut world, id) = owing().await;
        drop(world.stream(&id, 2 * KAS, reading, unknown).await);
        world.restart().await;
        // The lease of the dead process ends by itself.
        world.pass(2 * HOLD).await;
        let record = world.until(&id, "posted", |record| record.stream.is_none()).await;
        assert_eq!((record.active(), record.parts.reserved), (sompi(3 * KAS + expect), sompi(0)));
        let charges = world.store.charges(&id, 0, 10).await.unwrap();
        assert_eq!(charges.last().unwrap().charge, sompi(expect));

        drop(world.stream(&id, KAS, Some(7), 0).await);
        let report = async {
            loop {
                match world.gateway.claim_channel(&id, Wanted::Asked).await {
                    Ok(report) => return report,
                    Err(Unclaimed::Busy) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        };
        assert_eq!(report.await.takes, sompi(3 * KAS + expect + 7));
    }
}

#[tokio::test(start_paused = true)]
async fn a_spend_that_is_ours_is_an_acceptance_although_nobody_followed_it() {
    let (mut world, id) = owing().await;
    let report = claim(&world, &id).await;
    world.life.end(&world.chain);
    // Seen by its output alone.
    world.chain.spend(report.claim_outpoint, report.txid);
    world.restart().await;
    let record = world.until(&id, "accepted", |record| record.outpoint == report.continuation_outpoint).await;
    assert_eq!((record.closure, record.parts.claimed), (None, sompi(3 * KAS)));
    assert!(matches!(world.output(report.claim_outpoint), OutpointStatus::Spent { .. }));
}
