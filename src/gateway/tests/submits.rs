//! What the node says to a submit, and what it does not say (PROTOCOL section 4, "Submit outcomes").

use super::{
    pay::new_coin,
    world::{Ask, OFFER_SECONDS, PRICE, World},
};
use crate::{
    chain::{SubmitOutcome, sim::OnSubmit},
    protocol::refusal::Code,
    store::Submission,
};

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_pending_and_the_same_header_is_served_later() {
    let world = World::new().await;
    world.chain.accept_at_once(false);
    world.chain.on_submit([OnSubmit::DropAnswer]);
    let payment = world.pay(Ask::get("/paid")).await;
    world.send(&payment.ask()).await.pending(Code::SettlementPending, payment.txid);
    world.skip(OFFER_SECONDS * 2);
    world.send(&payment.ask()).await.pending(Code::SettlementPending, payment.txid);
    world.chain.accept(payment.txid);
    world.send(&payment.ask()).await.served(payment.txid);
    assert_eq!((world.upstream.count(), world.totals().await.charged_sompi), (1, u128::from(PRICE)));
}

#[tokio::test(start_paused = true)]
async fn what_the_node_refused_for_the_moment_is_sent_again_by_the_same_header() {
    let world = World::new().await;
    world.chain.on_submit([OnSubmit::Answer(SubmitOutcome::Unknown("orphan".into()))]);
    let payment = world.pay(Ask::get("/paid")).await;
    world.send(&payment.ask()).await.pending(Code::SettlementPending, payment.txid);
    assert_eq!(world.chain.submits(), []);
    world.send(&payment.ask()).await.served(payment.txid);
    assert_eq!(world.chain.submits(), [payment.txid]);
}

#[tokio::test(start_paused = true)]
async fn without_a_node_nothing_is_sent_and_the_same_header_works_later() {
    let world = World::new().await;
    let payment = world.pay(Ask::get("/paid")).await;
    for outage in ["before", "between"] {
        match outage {
            "before" => world.chain.down("disconnected"),
            _ => {
                world.chain.up();
                world.chain.on_submit([OnSubmit::Answer(SubmitOutcome::Unavailable("lost".into()))]);
            }
        }
        let got = world.send(&payment.ask()).await;
        got.refused(Code::NodeUnavailable);
        assert!(got.header("retry-after").is_some());
        assert_eq!(world.record(payment.txid).await.unwrap().submission, Submission::None);
    }
    world.skip(OFFER_SECONDS * 2);
    world.send(&payment.ask()).await.served(payment.txid);
    assert_eq!((world.chain.submits().len(), world.upstream.count()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_proven_rejection_frees_the_claim_and_a_corrected_payment_works() {
    let world = World::new().await;
    let name = "identifier-00001";
    let rejected = || OnSubmit::Answer(SubmitOutcome::Rejected("bad signature".into()));
    world.chain.on_submit([rejected()]);
    let payment = world.pay(Ask::get("/paid")).await.named(name);
    let got = world.send(&payment.ask()).await;
    got.refused(Code::TransactionRejected);
    assert_eq!(got.receipt().unwrap()["transaction"], payment.txid.to_string());
    world.until("released", async || world.record(payment.txid).await.is_none()).await;
    // The same id with a better signature, and another transaction under the same identifier.
    world.send(&payment.ask()).await.served(payment.txid);
    world.chain.on_submit([rejected()]);
    let other = world.pay_from(Ask::get("/paid?2"), new_coin()).await.named("identifier-00002");
    world.send(&other.ask()).await.refused(Code::TransactionRejected);
    let corrected = world.pay(Ask::get("/paid?2")).await.named("identifier-00002");
    world.send(&corrected.ask()).await.served(corrected.txid);
}

#[tokio::test(start_paused = true)]
async fn a_rejection_after_an_unknown_outcome_proves_nothing() {
    let world = World::new().await;
    let rejected = OnSubmit::Answer(SubmitOutcome::Rejected("bad".into()));
    world.chain.on_submit([OnSubmit::Answer(SubmitOutcome::Unknown("full".into())), rejected]);
    let payment = world.pay(Ask::get("/paid")).await;
    for _ in 0..2 {
        world.send(&payment.ask()).await.pending(Code::SettlementPending, payment.txid);
    }
    assert!(world.record(payment.txid).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn the_node_may_die_after_the_submit_and_come_back() {
    let world = World::new().await;
    world.chain.accept_at_once(false);
    let payment = world.pay(Ask::get("/paid")).await.without_proof();
    let asked = world.spawn(&payment.ask());
    world.until_submitted(1).await;
    world.chain.down("disconnected");
    world.chain.lose_mempool();
    asked.await.unwrap().pending(Code::SettlementPending, payment.txid);
    world.send(&payment.ask()).await.pending(Code::SettlementPending, payment.txid);
    world.chain.up();
    assert_eq!(world.chain.submits(), [payment.txid, payment.txid], "sent again, byte for byte");
    world.chain.accept(payment.txid);
    world.send(&payment.ask()).await.served(payment.txid);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_released_on_the_word_of_a_node_that_is_not_ready() {
    let world = World::new().await;
    world.chain.accept_at_once(false);
    let payment = world.pay(Ask::get("/paid")).await;
    world.send(&payment.ask()).await.pending(Code::SettlementPending, payment.txid);
    world.chain.accept(payment.txid);
    world.chain.down("nodes_disagree");
    world.send(&payment.ask()).await.pending(Code::SettlementPending, payment.txid);
    assert_eq!(world.upstream.count(), 0);
    let waiting = world.spawn(&payment.ask());
    tokio::task::yield_now().await;
    world.chain.up();
    waiting.await.unwrap().served(payment.txid);
}
