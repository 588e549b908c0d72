//! Transactions that others may know: served to who paid, and to nobody who only saw them.

use super::{
    conflicts::confirmed,
    pay::Payment,
    world::{Ask, OFFER_SECONDS, World},
};
use crate::{
    chain::{Chain, SubmitOutcome, sim::OnSubmit},
    client::wallet::Wallet,
    protocol::{network::Network, policy::Observe, refusal::Code},
};

fn stranger() -> Wallet {
    Wallet::from_secret(Network::Simnet, &[66; 32]).unwrap()
}

/// A payment whose wallet sent the transaction first.
async fn sent_first(world: &World) -> Payment {
    let payment = world.pay(Ask::get("/paid")).await;
    world.chain.submit(&payment.signed.transaction).await;
    payment
}

/// The same transaction, for the same request, under an offer of one's own.
async fn copied(world: &World, payment: &Payment, who: &Wallet) -> Payment {
    let accepted = world.offer(&payment.request).await;
    world.present(payment.request.clone(), accepted, payment.signed.clone(), who)
}

fn asks_for_proof(got: &super::world::Got, payment: &Payment) {
    got.refused(Code::PayerProofRequired);
    let receipt = got.receipt().unwrap();
    assert_eq!(receipt["transaction"], payment.txid.to_string());
    assert_eq!(receipt["extensions"]["kaspa"]["requestHash"], payment.request_hash.to_string());
}

#[tokio::test(start_paused = true)]
async fn who_sent_first_proves_the_key_and_is_served() {
    let world = World::new().await;
    let payment = sent_first(&world).await;
    asks_for_proof(&world.send(&payment.clone().without_proof().ask()).await, &payment);
    let wrong = world.present(Ask::get("/paid"), payment.accepted.clone(), payment.signed.clone(), &stranger());
    world.send(&wrong.ask()).await.refused(Code::PayerProofInvalid);
    let forged = payment.clone().changed(|m| m["extensions"]["kaspa"]["payerProof"]["signature"] = "00".repeat(64).into());
    world.send(&forged.ask()).await.refused(Code::PayerProofInvalid);
    assert_eq!((world.upstream.count(), world.totals().await.charged_sompi), (0, 0));
    for _ in 0..2 {
        world.send(&payment.ask()).await.served(payment.txid);
    }
    assert_eq!(world.upstream.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_proof_is_for_one_request() {
    let world = World::new().await;
    let payment = sent_first(&world).await;
    let accepted = world.offer(&Ask::get("/other")).await;
    let mut other = world.present(Ask::get("/other"), accepted, payment.signed.clone(), &world.payer);
    other.proof = payment.proof.clone();
    world.send(&other.ask()).await.refused(Code::PayerProofInvalid);
}

#[tokio::test(start_paused = true)]
async fn what_was_accepted_before_the_offer_paid_for_something_else() {
    let world = World::new().await;
    let old = sent_first(&world).await;
    world.chain.advance(1);
    let payment = copied(&world, &old, &world.payer).await;
    world.send(&payment.ask()).await.refused(Code::TransactionOlder);
    assert_eq!(world.upstream.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_route_decides_whether_known_transactions_pay() {
    for (observe, code) in [(Observe::Never, Some(Code::ForeignTransaction)), (Observe::Any, None)] {
        let world = World::with(move |pricing| pricing.observe = observe).await;
        let payment = sent_first(&world).await;
        for payment in [payment.clone(), payment.without_proof()] {
            let got = world.send(&payment.ask()).await;
            match code {
                Some(code) => got.refused(code),
                None => got.served(payment.txid),
            }
        }
        // An own payment needs no proof under any rule.
        let own = world.pay(Ask::get("/paid?own")).await.without_proof();
        world.send(&own.ask()).await.served(own.txid);
    }
}

#[tokio::test(start_paused = true)]
async fn a_transaction_seen_on_the_chain_buys_no_copy_of_a_served_response() {
    let world = World::new().await;
    let payment = world.pay(Ask::get("/paid")).await.without_proof();
    world.send(&payment.ask()).await.served(payment.txid);
    let thief = stranger();
    let theft = copied(&world, &payment, &thief).await.without_proof();
    asks_for_proof(&world.send(&theft.ask()).await, &theft);
    world.send(&copied(&world, &payment, &thief).await.ask()).await.refused(Code::PayerProofInvalid);
    // The payer under a new offer, and under the first one without any proof.
    world.send(&copied(&world, &payment, &world.payer).await.ask()).await.served(payment.txid);
    world.send(&payment.ask()).await.served(payment.txid);
    assert_eq!(world.upstream.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_seen_on_the_chain_takes_no_paid_request_over() {
    let world = World::new().await;
    world.upstream.play([super::fakes::answer(500, "down")]);
    let payment = world.pay(Ask::get("/paid")).await.without_proof();
    assert_eq!(world.send(&payment.ask()).await.status(), 500);
    world.send(&copied(&world, &payment, &stranger()).await.ask()).await.refused(Code::PayerProofInvalid);
    assert_eq!(world.upstream.count(), 1);
    world.send(&payment.ask()).await.served(payment.txid);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_seen_in_the_mempool_is_not_served_to_who_saw_it() {
    let world = World::new().await;
    world.chain.accept_at_once(false);
    let payment = world.pay(Ask::get("/paid")).await.without_proof();
    let theft = copied(&world, &payment, &stranger()).await;
    let paying = world.spawn(&payment.ask());
    world.until_submitted(1).await;
    let stealing = world.spawn(&theft.ask());
    world.chain.accept(payment.txid);
    paying.await.unwrap().served(payment.txid);
    stealing.await.unwrap().refused(Code::PayerProofInvalid);
}

#[tokio::test(start_paused = true)]
async fn the_payer_wins_over_a_thief_who_presented_first() {
    let world = World::new().await;
    let payment = sent_first(&world).await;
    let theft = copied(&world, &payment, &stranger()).await.without_proof();
    world.send(&theft.ask()).await.refused(Code::PayerProofRequired);
    world.send(&payment.ask()).await.served(payment.txid);
    world.send(&theft.ask()).await.refused(Code::PayerProofRequired);
    assert_eq!(world.upstream.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_thief_who_presented_first_for_another_request_blocks_nobody() {
    let world = World::new().await;
    let payment = sent_first(&world).await;
    let accepted = world.offer(&Ask::get("/other")).await;
    let theft = world.present(Ask::get("/other"), accepted, payment.signed.clone(), &stranger());
    world.send(&theft.ask()).await.refused(Code::PayerProofInvalid);
    world.send(&payment.ask()).await.served(payment.txid);
    world.send(&theft.ask()).await.refused(Code::Replay);
    assert_eq!(world.upstream.count(), 1);
}

/// Depth may take longer than offers live: from the proof on the payment is its payer's, however old his offer is by then.
#[tokio::test(start_paused = true)]
async fn who_proved_the_key_keeps_the_payment_while_it_gets_deep() {
    let world = confirmed(1_000).await;
    let payment = sent_first(&world).await;
    world.chain.accept(payment.txid);
    world.send(&payment.ask()).await.pending(Code::SettlementPending, payment.txid);
    assert!(world.record(payment.txid).await.unwrap().proven);
    world.skip(2 * OFFER_SECONDS);
    let accepted = world.offer(&Ask::get("/other")).await;
    let theft = world.present(Ask::get("/other"), accepted, payment.signed.clone(), &stranger());
    world.send(&theft.ask()).await.refused(Code::Replay);
    world.chain.advance(1_000);
    world.send(&payment.ask()).await.served(payment.txid);
    assert_eq!(world.upstream.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_useless_proof_is_refused_as_soon_as_the_inputs_are_known() {
    let world = confirmed(1_000).await;
    let payment = sent_first(&world).await;
    let theft = copied(&world, &payment, &stranger()).await;
    world.chain.accept(payment.txid);
    world.send(&theft.ask()).await.refused(Code::PayerProofInvalid);
    assert!(!world.record(payment.txid).await.unwrap().proven);
    let paying = world.spawn(&payment.ask());
    world.until("proven", async || world.record(payment.txid).await.unwrap().proven).await;
    world.chain.advance(1_000);
    paying.await.unwrap().served(payment.txid);
}

#[tokio::test(start_paused = true)]
async fn after_an_unknown_submit_the_payer_proves_the_key() {
    let world = World::new().await;
    world.chain.on_submit([OnSubmit::DropAnswer]);
    world.chain.accept_at_once(false);
    let payment = world.pay(Ask::get("/paid")).await;
    let bare = payment.clone().without_proof();
    world.send(&bare.ask()).await.pending(Code::SettlementPending, payment.txid);
    world.chain.accept(payment.txid);
    world.send(&bare.ask()).await.refused(Code::PayerProofRequired);
    world.send(&payment.ask()).await.served(payment.txid);
}

#[tokio::test(start_paused = true)]
async fn without_the_inputs_nobody_is_believed() {
    let world = World::new().await;
    world.chain.on_submit([OnSubmit::Answer(SubmitOutcome::Known)]);
    let payment = world.pay(Ask::get("/paid")).await;
    world.chain.set_inputs(payment.txid, vec![]);
    world.chain.accept(payment.txid);
    world.send(&payment.ask()).await.refused(Code::PayerProofInvalid);
    assert_eq!(world.upstream.count(), 0);
}
