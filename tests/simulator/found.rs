//! Seeds that found something, under the name of what they found. Each bug has a small test of its own where it was; a seed draws the
//! same run only as long as the simulator draws the same.

use crate::run::play;

#[test]
fn a_payment_stays_final_when_another_presents_it() {
    passes(11);
}

#[test]
fn an_opening_whose_answer_was_lost_does_not_lock_its_deposit_up() {
    passes(167);
}

#[test]
fn who_paid_late_is_watched_although_the_store_failed_at_that_moment() {
    passes(6920);
}

#[test]
fn a_deposit_that_a_reorganisation_took_is_not_served_on_while_the_store_is_slow() {
    passes(153);
}

/// Of 10,000 the one in which a client was charged on the continuation of a claim, and never came again after its top-up had taken the claim's place.
#[test]
fn what_came_with_a_top_up_pays_for_what_was_charged_over_the_claim_in_its_place() {
    passes(9751);
}

/// The deposit comes, and goes again, while the store is silent about the first.
#[test]
fn a_deposit_that_goes_while_its_coming_is_recorded_is_not_served_on() {
    passes(897);
}

#[track_caller]
fn passes(seed: u64) {
    assert_eq!(play(seed, None).wrong, None, "seed {seed}");
}
