//! Dying after every single step: a new process over the same file ends what was begun, and every purchase is charged once.

use super::{
    buyer::{Buyer, KAS, Setup, cost},
    shop::Fault,
    till::sompi,
};
use kas402::client::{
    channel::{Want, record::Phase},
    paid::Step,
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

/// Runs one purchase in a runtime of its own, which dies at the given step; `true` when it came to its end before.
fn purchase(buyer: &Buyer, target: &str, want: Want, dies_at: usize) -> bool {
    let steps = AtomicUsize::new(0);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut watch = |_: Step<'_>| assert!(steps.fetch_add(1, Ordering::Relaxed) != dies_at, "killed on purpose");
            let request = buyer.request(target);
            let fetched = buyer.watched(&request, want, false, &mut watch);
            let blocks = async {
                loop {
                    buyer.chain.advance(1);
                    tokio::time::sleep(Duration::from_millis(1)).await; // why: the simulated chain stands still by itself
                }
            };
            tokio::select! {
                fetched = fetched => drop(cost(fetched)),
                () = blocks => unreachable!("blocks are made for ever"),
            }
        });
    }));
    outcome.is_ok()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Prepares a world, dies in the purchase at each step in turn, ends it in a new process, and checks.
fn at_every_step(name: &str, faults: &[Fault], prepare: fn(&Buyer), target: &str, want: Want) {
    let mut dies_at = 0;
    loop {
        let buyer = Buyer::new(Setup::default());
        prepare(&buyer);
        let before = block_on(buyer.counter.till.ledger()).len();
        buyer.counter.faults(faults);
        let finished = purchase(&buyer, target, want, dies_at);
        if !finished {
            buyer.counter.faults(&[]);
            let again = buyer.restarted(Setup::default());
            assert!(purchase(&again, target, want, usize::MAX), "{name}: step {dies_at}");
        }
        block_on(async {
            let buyer = buyer.restarted(Setup::default());
            buyer.agrees().await;
            assert_eq!(buyer.counter.till.ledger().await.len(), before + 1, "{name}, step {dies_at}: charged once");
            let channel = buyer.channel();
            assert!(buyer.journal.in_flight(&channel.id).unwrap().is_none(), "{name}: nothing is left open");
            // And it goes on from there.
            buyer.pay("/pay/1000000/17").await;
            buyer.agrees().await;
        });
        if finished {
            assert!(dies_at > 1, "{name} has steps");
            return;
        }
        dies_at += 1;
    }
}

#[test]
fn an_opening_is_finished_by_the_next_process() {
    at_every_step("open", &[], |_| {}, "/pay/1000000/1000", Want::Pay);
    at_every_step("open, answer lost", &[Fault::LoseAnswer], |_| {}, "/pay/1000000/1000", Want::Pay);
    at_every_step("open, request lost", &[Fault::LoseRequest], |_| {}, "/pay/1000000/1000", Want::Pay);
}

fn open(buyer: &Buyer) {
    block_on(async {
        buyer.pay("/pay/9000000/5000000").await;
    });
}

fn claimed(buyer: &Buyer) {
    open(buyer);
    block_on(async { buyer.counter.till.claim(&buyer.id()).await });
}

#[test]
fn a_request_is_finished_by_the_next_process() {
    at_every_step("request", &[], open, "/pay/1000000/1000", Want::Pay);
    at_every_step("request, answers lost", &[Fault::LoseAnswer, Fault::Cut], open, "/pay/1000000/1000", Want::Pay);
    at_every_step("stream", &[Fault::LoseAnswer], open, "/stream/1000000/1000/event", Want::Pay);
    at_every_step("request after a claim", &[], claimed, "/pay/1000000/1000", Want::Pay);
    at_every_step("request after a claim, answer lost", &[Fault::None, Fault::LoseAnswer], claimed, "/pay/1000000/1000", Want::Pay);
}

#[test]
fn a_top_up_is_finished_by_the_next_process() {
    let want = Want::TopUp(sompi(3 * KAS));
    at_every_step("top-up", &[], open, "/pay/1000000/1000", want);
    at_every_step("top-up, answer lost", &[Fault::LoseAnswer], open, "/pay/1000000/1000", want);
    at_every_step("top-up, request lost", &[Fault::LoseRequest], open, "/pay/1000000/1000", want);
}

#[test]
fn a_refund_is_finished_by_the_next_process() {
    for dies in [true, false] {
        let buyer = Buyer::new(Setup::default());
        open(&buyer);
        buyer.chain.advance(super::TIMEOUT);
        let id = buyer.id();
        let refund = |buyer: &Buyer, dies: bool| {
            catch_unwind(AssertUnwindSafe(|| {
                block_on(async {
                    let mut watch = |step: Step<'_>| {
                        assert!(!dies || !matches!(step, Step::Channel(kas402::client::channel::Progress::Refunding { .. })), "killed");
                    };
                    let mut rng = rand::rngs::OsRng;
                    let mut edge =
                        kas402::client::paid::Edge { now: &|| kas402::protocol::time::UnixMillis(1), rng: &mut rng, watch: &mut watch };
                    buyer.channels.refund(&id, sompi(KAS), &mut edge).await.unwrap()
                })
            }))
        };
        if refund(&buyer, dies).is_err() {
            assert_eq!(buyer.channel().phase, Phase::Refunding);
            let again = buyer.restarted(Setup::default());
            refund(&again, false).expect("the next process ends it");
        }
        assert_eq!(buyer.channel().phase, Phase::Closed);
        assert_eq!(buyer.chain.submits().len(), 2, "one deposit and one refund");
    }
}

#[test]
fn a_claim_that_comes_before_a_refund_leaves_the_rest_to_it() {
    let buyer = Buyer::new(Setup::default());
    open(&buyer);
    let id = buyer.id();
    buyer.chain.advance(super::TIMEOUT);
    block_on(buyer.counter.till.claim(&id));
    let refunded = block_on(buyer.refund(&id)).unwrap();
    assert_eq!(refunded.amount.sompi() + refunded.fee.sompi() + 5_000_000, super::DEPOSIT);
    assert_eq!(buyer.channel().phase, Phase::Closed);
}
