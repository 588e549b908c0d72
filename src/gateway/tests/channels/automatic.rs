//! Claims that nobody asks for: when, why, and never twice.

use super::world::*;
use crate::{
    chain::{SubmitOutcome, Tip, sim::OnSubmit},
    gateway::channel::claim::{Unclaimed, Wanted},
    protocol::{
        ids::{Outpoint, TxId},
        policy::ClaimPolicy,
    },
    store::channels::*,
};
use std::{sync::Arc, time::Duration};

/// From 2 KAS, after an hour, or 1,000 before the timeout.
fn automatic() -> ClaimPolicy {
    ClaimPolicy { automatic: true, above: sompi(2 * KAS), after: Duration::from_secs(3_600), ..by_hand() }
}

fn built(world: &World) -> u64 {
    world.gateway.metrics().claims.built.get()
}

#[tokio::test(start_paused = true)]
async fn the_amount_decides_at_the_charge_that_reaches_it() {
    let world = World::new(automatic()).await;
    let record = world.open(1).await;
    world.charge(&record.id, 2 * KAS - 1).await;
    world.settle().await;
    assert_eq!(built(&world), 0);
    let began = tokio::time::Instant::now();
    world.charge(&record.id, 1).await;
    let claimed = world.until(&record.id, "claimed", |record| record.parts.claimed == sompi(2 * KAS)).await;
    assert_eq!((claimed.phase(), began.elapsed()), (Phase::Idle, Duration::ZERO));
    // The next one counts from nothing.
    world.charge(&record.id, KAS).await;
    world.settle().await;
    assert_eq!(built(&world), 1);
    world.charge(&record.id, KAS).await;
    world.until(&record.id, "claimed again", |record| record.parts.claimed == sompi(4 * KAS)).await;
}

#[tokio::test(start_paused = true)]
async fn the_age_of_the_oldest_charge_decides() {
    let world = World::new(automatic()).await;
    let record = world.open(1).await;
    world.charge(&record.id, KAS).await;
    world.pass(Duration::from_secs(3_000)).await;
    world.charge(&record.id, KAS / 10).await;
    world.pass(Duration::from_secs(599)).await;
    world.settle().await;
    assert_eq!(built(&world), 0);
    world.pass(Duration::from_secs(2)).await;
    world.until(&record.id, "claimed", |record| record.parts.claimed == sompi(KAS + KAS / 10)).await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_is_noticed_within_a_minute() {
    let world = World::new(automatic()).await;
    let record = world.open(1).await;
    world.charge(&record.id, KAS).await;
    world.settle().await;
    world.skip(3_600);
    world.pass(Duration::from_secs(61)).await;
    world.until(&record.id, "claimed", |record| record.parts.claimed == sompi(KAS)).await;
}

#[tokio::test(start_paused = true)]
async fn near_the_refund_timeout_everything_that_is_worth_its_fee_is_claimed() {
    let world = World::new(automatic()).await;
    let (near, far, dust) = (world.open(1).await, world.open_with(2, TIMEOUT + 5_000, FUNDING).await, world.open(3).await);
    for (record, owes) in [(&near, KAS), (&far, KAS), (&dust, KAS / 100)] {
        world.charge(&record.id, owes).await;
    }
    world.chain.set_tip(Tip { daa_score: TIMEOUT - 1_001, blue_score: 1_000 });
    world.settle().await;
    assert_eq!(built(&world), 0);
    world.chain.set_tip(Tip { daa_score: TIMEOUT - 1_000, blue_score: 1_000 });
    world.until(&near.id, "claimed", |record| record.parts.claimed == sompi(KAS)).await;
    world.settle().await;
    assert_eq!(built(&world), 1, "neither the far one nor the dust");
    assert_eq!(world.gateway.metrics().claims_uneconomic.get(), 1);
    // Later charges of a channel inside the window are claimed at once; the lead serves none.
    world.chain.set_tip(Tip { daa_score: TIMEOUT + 4_000, blue_score: 1_000 });
    world.until(&far.id, "claimed", |record| record.parts.claimed == sompi(KAS)).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_uneconomic_is_tried_again_when_more_is_owed_and_not_before() {
    let policy = ClaimPolicy { above: sompi(1), ..automatic() };
    let world = World::new(policy).await;
    let record = world.open(1).await;
    for _ in 0..10 {
        world.charge(&record.id, KAS / 1_000).await;
        world.settle().await;
    }
    assert_eq!((built(&world), world.gateway.metrics().claims_uneconomic.get()), (0, 1));
    world.charge(&record.id, KAS).await;
    world.until(&record.id, "claimed", |record| record.parts.claimed == record.parts.charged).await;
    world.settle().await;
    assert_eq!(world.gateway.metrics().claims_uneconomic.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_channel_is_never_claimed_twice_at_once() {
    let world = World::new(automatic()).await;
    world.chain.accept_at_once(true);
    let record = world.open(1).await;
    world.chain.hold_submits();
    world.charge(&record.id, 3 * KAS).await;
    let asked: Vec<_> = (0..20)
        .map(|_| {
            let (gateway, id) = (world.gateway.clone(), record.id);
            tokio::spawn(async move { gateway.claim_channel(&id, Wanted::Asked).await.is_ok() })
        })
        .collect();
    world.gateway.channel_changed(world.record(&record.id).await.as_ref());
    world.settle().await;
    world.chain.release_submits();
    world.until(&record.id, "claimed", |record| record.parts.claimed == sompi(3 * KAS)).await;
    let mut ok = 0;
    for asked in asked {
        ok += u32::from(asked.await.unwrap());
    }
    assert!(ok <= 1, "{ok}");
    assert_eq!(built(&world), 1);
    world.settle().await;
    assert_eq!(world.store.settled_moves(&record.id, 0, 10).await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn many_channels_are_claimed_at_the_same_time() {
    let world = World::new(automatic()).await;
    let mut ids = Vec::new();
    for seed in 1..=60 {
        let record = world.open(seed).await;
        ids.push(record.id);
        world.charge(&record.id, KAS).await;
    }
    world.pass(Duration::from_secs(3_601)).await;
    for id in &ids {
        world.until(id, "claimed", |record| record.parts.claimed == sompi(KAS)).await;
    }
    assert_eq!(built(&world), 60);
    let totals = world.store.channel_totals().await.unwrap();
    assert_eq!((totals.claimed_sompi, totals.active_sompi), (60 * u128::from(KAS), 0));
    world.chain.advance(FINAL_DEPTH);
    world.until(ids.last().unwrap(), "final", |record| record.moves.is_empty()).await;
    world.settle().await;
    assert_eq!((world.chain.followed(), world.chain.watched()), (0, 60));
}

#[tokio::test(start_paused = true)]
async fn an_old_key_claims_by_itself_and_a_missing_one_is_told_of_until_it_is_given() {
    let mut world = World::new(by_hand()).await;
    let record = world.open(1).await;
    world.charge(&record.id, 3 * KAS).await;
    (world.policy, world.keys) = (automatic(), vec![8]);
    world.restart().await;
    world.settle().await;
    assert_eq!(built(&world), 0);
    // The channel's key is `claim_only` now.
    world.gateway.reload(Arc::new(policy(automatic())), offer_keys(), server_keys(&[8, 240]));
    world.until(&record.id, "claimed", |record| record.parts.claimed == sompi(3 * KAS)).await;
}

#[tokio::test(start_paused = true)]
async fn another_policy_looks_at_every_channel_again() {
    let world = World::new(by_hand()).await;
    let record = world.open(1).await;
    world.charge(&record.id, KAS).await;
    world.pass(Duration::from_secs(100)).await;
    assert_eq!(built(&world), 0);
    let policy_now = ClaimPolicy { after: Duration::from_secs(50), ..automatic() };
    world.gateway.reload(Arc::new(policy(policy_now)), offer_keys(), server_keys(&[240]));
    world.until(&record.id, "claimed", |record| record.parts.claimed == sompi(KAS)).await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_not_accepted_is_told_of_until_it_is() {
    let world = World::new(automatic()).await;
    let record = world.open(1).await;
    world.chain.accept_at_once(false);
    world.charge(&record.id, 3 * KAS).await;
    let claiming = world.until(&record.id, "built", |record| record.phase() == Phase::Claiming).await;
    world.pass(Duration::from_secs(290)).await;
    assert_eq!(world.gateway.metrics().claims_stuck.get(), 0);
    world.pass(Duration::from_secs(11)).await;
    world.settle().await;
    assert_eq!(world.gateway.metrics().claims_stuck.get(), 1);
    world.chain.accept(claiming.moves[0].txid);
    world.until(&record.id, "accepted", |record| record.phase() == Phase::Idle).await;
    world.settle().await;
    assert_eq!(world.gateway.metrics().claims_stuck.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_hangs_is_built_again_with_a_greater_fee_until_that_is_worth_it_no_more() {
    for near in [false, true] {
        let world = World::new(ClaimPolicy { max_fee_percent: 1, above: sompi(KAS), ..automatic() }).await;
        let record = world.open(1).await;
        world.chain.accept_at_once(false);
        world.charge(&record.id, KAS).await;
        let cap = if near { record.reserve } else { record.reserve.min(sompi(KAS / 100)) };
        world.until(&record.id, "built", |record| record.phase() == Phase::Claiming).await;
        if near {
            world.chain.set_tip(Tip { daa_score: TIMEOUT - 1_000, blue_score: 1_000 });
        }
        world.pass(Duration::from_secs(299)).await;
        world.settle().await;
        assert_eq!((built(&world), world.chain.replacements().len()), (1, 0));
        for (claims, seconds) in [(2, 2), (3, 300)] {
            world.pass(Duration::from_secs(seconds)).await;
            world.until(&record.id, "built again", |record| record.moves.len() == claims).await;
            world.settle().await;
        }
        assert_eq!(world.gateway.metrics().claims_stuck.get(), 1, "it is told of all the time");
        let raised = world.record(&record.id).await;
        assert!(raised.moves.windows(2).all(|pair| pair[0].fee < pair[1].fee && pair[0].takes == pair[1].takes));
        // Only the dearest is sent from now on, in place of the others.
        let dearest = raised.moves.last().unwrap().txid;
        let sent = world.chain.submits().len();
        world.pass(Duration::from_secs(60)).await;
        world.settle().await;
        assert!(world.chain.submits()[sent..].iter().all(|txid| *txid == dearest) && world.chain.submits().len() > sent);
        assert!(world.chain.replacements().contains(&dearest) && !world.chain.replacements().contains(&raised.moves[0].txid));
        world.pass(Duration::from_secs(36_000)).await;
        world.settle().await;
        let capped = world.record(&record.id).await;
        assert!(capped.moves.len() < 20 && capped.moves.iter().all(|step| step.fee <= cap), "{}", capped.moves.len());
        assert_eq!(capped.moves.last().unwrap().fee, cap, "as much as is worth it");
        let view = world.gateway.channel_view(&record.id).await.unwrap().unwrap();
        assert_eq!((view.claim.state.as_str(), view.claim.stuck), ("claim_sent", true));
        let asked = world.gateway.claim_channel(&record.id, Wanted::Asked).await;
        assert!(matches!(asked, Err(Unclaimed::Stuck(..))), "{asked:?}");
        // Whichever is accepted counts, once.
        world.chain.accept(capped.moves[1].txid);
        world.until(&record.id, "accepted", |record| record.parts.claimed == sompi(KAS)).await;
        world.chain.advance(FINAL_DEPTH);
        world.until(&record.id, "final", |record| record.moves.is_empty()).await;
        world.settle().await;
        assert_eq!(world.gateway.metrics().claims_stuck.get(), 0);
        assert_eq!(world.store.settled_moves(&record.id, 0, 10).await.unwrap().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_top_up_that_is_not_accepted_is_claimed_beside_after_a_minute_or_near_the_timeout() {
    for near in [false, true] {
        let world = World::new(automatic()).await;
        let record = world.open(1).await;
        world.charge(&record.id, KAS).await;
        world.chain.accept_at_once(false);
        let coin = Outpoint { txid: TxId([0xc0; 32]), index: 0 };
        let (_, top_up) = world.build_top_up(&record.id, coin, 5 * KAS).await;
        world.settle().await;
        if near {
            world.chain.set_tip(Tip { daa_score: TIMEOUT - 1_000, blue_score: 1_000 });
        } else {
            world.pass(Duration::from_secs(59)).await;
            world.settle().await;
            assert_eq!(built(&world), 0);
            world.pass(Duration::from_secs(2)).await;
        }
        let both = world.until(&record.id, "a claim beside it", |record| record.moves.len() == 2).await;
        let claim = both.moves.iter().find(|step| step.added.is_zero()).unwrap();
        assert_ne!(claim.txid, TxId::from(top_up.id()));
        world.chain.accept(claim.txid);
        world.until(&record.id, "accepted", |record| record.parts.claimed == sompi(KAS)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_the_network_refuses_for_good_is_not_built_again_and_again() {
    let world = World::new(automatic()).await;
    let record = world.open(1).await;
    world.chain.on_submit((0..100).map(|_| OnSubmit::Answer(SubmitOutcome::Rejected("bad".into()))));
    world.charge(&record.id, 3 * KAS).await;
    world.pass(Duration::from_secs(100)).await;
    assert_eq!((built(&world), world.gateway.metrics().claims.dropped.get()), (1, 1));
    assert_eq!(world.record(&record.id).await.phase(), Phase::Idle);
}

#[tokio::test(start_paused = true)]
async fn a_busy_channel_is_claimed_between_two_requests() {
    let world = World::new(automatic()).await;
    let record = world.open(1).await;
    let (lease, held, terms) = world.request(&record.id, 3 * KAS).await;
    // Due by a charge before; here by the age that comes during the request.
    let charged = world.commit(lease, &held, terms).await;
    // The next request is faster.
    let (next, ..) = world.request(&record.id, KAS).await;
    world.gateway.channel_changed(&charged);
    world.settle().await;
    assert_eq!(built(&world), 0);
    world.store.advance_channel(&next, ChannelFact::Released, world.now()).await.unwrap();
    world.pass(Duration::from_secs(1)).await;
    world.until(&record.id, "claimed", |record| record.parts.claimed == sompi(3 * KAS)).await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_the_store_fails_is_tried_every_few_seconds_and_not_at_once() {
    let world = World::new(automatic()).await;
    let record = world.open(1).await;
    world.life.refuses("built", true);
    world.charge(&record.id, 3 * KAS).await;
    world.pass(Duration::from_secs(61)).await;
    let tried = world.life.steps().iter().filter(|step| **step == "built").count();
    assert!((5..=15).contains(&tried), "{tried} in a minute");
    world.life.refuses("built", false);
    world.pass(Duration::from_secs(20)).await;
    world.until(&record.id, "claimed", |record| record.parts.claimed == sompi(3 * KAS)).await;
}

#[tokio::test(start_paused = true)]
async fn what_an_operator_could_not_claim_the_claimer_looks_at_again() {
    let world = World::new(automatic()).await;
    let record = world.open(1).await;
    let (lease, held, terms) = world.request(&record.id, 3 * KAS).await;
    let (gateway, id) = (world.gateway.clone(), record.id);
    let asked = tokio::spawn(async move { gateway.claim_channel(&id, Wanted::Asked).await.is_ok() });
    world.settle().await;
    // It becomes due while the operator has the turn, and the operator's claim fails.
    world.life.refuses("lease", true);
    world.life.refuses("built", true);
    let charged = world.commit(lease, &held, terms).await;
    world.gateway.channel_changed(&charged);
    assert!(!asked.await.unwrap());
    world.life.refuses("lease", false);
    world.life.refuses("built", false);
    world.pass(Duration::from_secs(30)).await;
    world.until(&record.id, "claimed", |record| record.parts.claimed == sompi(3 * KAS)).await;
}
