//! A process that dies, or meets an error, at any step of a claim, before or after it is done: it ends with the same books.

use super::{
    mortal::{Mishap, When},
    world::*,
};
use crate::{
    chain::Tip,
    protocol::{ids::ChannelId, policy::ClaimPolicy},
    store::channels::*,
};
use std::time::Duration;

fn automatic() -> ClaimPolicy {
    ClaimPolicy { automatic: true, above: sompi(2 * KAS), ..by_hand() }
}

/// What a scenario waits for; a dead process is replaced, as an operator would.
async fn until(world: &mut World, id: &ChannelId, what: &str, reached: impl Fn(&ChannelRecord) -> bool) {
    for _ in 0..100 {
        world.settle().await;
        if reached(world.record(id).await.as_ref()) {
            return;
        }
        if world.life.is_dead() {
            world.restart().await;
        } else {
            // A lease of the dead must end, or something is sent again.
            world.pass(Duration::from_secs(5)).await;
        }
    }
    panic!("never {what} after {:?}: {:#?}", world.life.steps(), world.record(id).await);
}

/// A claim by amount, a charge over the continuation, a reorg of the claim, its return, and a second claim at the end of the
/// channel's life. Returns what the first life did.
async fn story(mishap: Option<(usize, When, Mishap)>) -> Vec<&'static str> {
    let mut world = World::new(automatic()).await;
    let record = world.open(1).await;
    let id = record.id;
    let first = world.life.clone();
    let begun = first.steps().len();
    if let Some((step, when, mishap)) = mishap {
        first.meets(begun + step, when, mishap);
    }

    world.charge(&id, 3 * KAS).await;
    until(&mut world, &id, "claimed", |record| record.parts.claimed == sompi(3 * KAS)).await;
    let claimed = world.record(&id).await;
    world.charge(&id, KAS).await;
    world.settle().await;

    let claim = claimed.moves[0].txid;
    world.chain.take_back(claim);
    until(&mut world, &id, "taken back", |record| record.phase() == Phase::TakenBack).await;
    world.chain.advance(5);
    world.chain.accept(claim);
    until(&mut world, &id, "restored", |record| record.phase() == Phase::Idle && record.parts.claimed == sompi(3 * KAS)).await;

    // Both scores move: the first claim becomes final, and the window opens.
    world.chain.set_tip(Tip { daa_score: TIMEOUT - 900, blue_score: 5_000 });
    until(&mut world, &id, "claimed at the end", |record| record.parts.claimed == sompi(4 * KAS)).await;
    world.chain.advance(FINAL_DEPTH);
    until(&mut world, &id, "final", |record| record.moves.is_empty()).await;

    let last = world.record(&id).await;
    assert_eq!((last.parts.charged, last.active(), last.parts.funding), (sompi(4 * KAS), sompi(0), sompi(6 * KAS)), "{mishap:?}");
    let settled = world.store.settled_moves(&id, 0, 10).await.unwrap();
    assert_eq!(settled.iter().map(|step| step.takes).collect::<Vec<_>>(), [sompi(3 * KAS), sompi(KAS)], "{mishap:?}");
    assert!(settled.iter().all(|step| matches!(step.state, SettledState::Final(_))), "{mishap:?}");
    // The chain agrees with the books: each claim once, and the rest under the script.
    let fees: u64 = settled.iter().map(|step| step.fee.sompi()).sum();
    let paid: u64 = world.unspent(&last.config.pay_to).await.iter().map(|utxo| utxo.amount.sompi()).sum();
    assert_eq!(paid + fees, 4 * KAS, "{mishap:?}");
    let totals = world.store.channel_totals().await.unwrap();
    assert_eq!(
        (totals.charged_sompi, totals.claimed_sompi, totals.active_sompi, totals.lost_sompi),
        (4 * u128::from(KAS), 4 * u128::from(KAS), 0, 0)
    );
    if world.life.is_dead() {
        world.restart().await;
    }
    // A store that failed is left alone for a moment.
    world.pass(Duration::from_secs(2)).await;
    world.settle().await;
    assert_eq!((world.chain.followed(), world.chain.watched()), (0, 1), "{mishap:?}");
    first.steps()[begun..].to_vec()
}

#[tokio::test(start_paused = true)]
async fn death_or_an_error_at_any_step_of_a_claims_life_leaves_no_trace_in_the_books() {
    let steps = story(None).await;
    println!("{steps:?}");
    for needed in ["lease", "built", "submit", "accepted", "taken back", "final"] {
        assert!(steps.contains(&needed), "{needed} is not in {steps:?}");
    }
    for step in 0..steps.len() {
        for when in [When::Before, When::After] {
            for mishap in [Mishap::Death, Mishap::Error] {
                story(Some((step, when, mishap))).await;
            }
        }
    }
}
