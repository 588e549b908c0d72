//! Exact payments of tenants: told once, told again only to who names the operation, and nothing before it is durable.

use super::{AMOUNT, SHOP, amount, call, operation, tenants};
use crate::{
    chain::{Chain, SubmitOutcome, Tip, sim::OnSubmit},
    gateway::tests::{
        fakes::{Fault, Verb},
        pay::Payment,
        world::{Ask, FINAL_DEPTH, SETTLE_WAIT, World, payee},
    },
    protocol::{
        policy::ExactTerms,
        refusal::Code,
        requirements::{Finality, FinalityRule},
        time::UnixMillis,
    },
    store::{PaymentState, Store},
};
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn a_settlement_is_told_again_only_to_who_names_the_operation() {
    let world = tenants(|_| {}).await;
    let payment = world.pays(&payee(21), AMOUNT);
    let named = call(&payment.message(), Some(&operation(1)));
    let first = world.settle(SHOP, &named).await;
    assert_eq!(first.settled(), payment.txid.to_string());
    let kaspa = &first.body["extensions"]["kaspa"];
    assert_eq!((&first.body["amount"], &first.body["network"]), (&AMOUNT.to_string().into(), &"kaspa:simnet".into()));
    assert_eq!((&kaspa["finality"], &first.body["payer"]), (&"accepted".into(), &world.payer.address().to_string().into()));
    for _ in 0..3 {
        assert_eq!(world.settle(SHOP, &named).await.body, first.body);
    }
    world.verify(SHOP, &named).await.valid();
    for other in [call(&payment.message(), None), call(&payment.message(), Some(&operation(2)))] {
        world.verify(SHOP, &other).await.counted_before();
        world.settle(SHOP, &other).await.counted_before();
    }
    assert_eq!(world.chain.submits(), [payment.txid]);
    assert_eq!(world.totals().await.charged_sompi, u128::from(AMOUNT));
    // Long after its answer was dropped, too.
    world.skip(30 * 86_400);
    assert_eq!(world.store.prune(UnixMillis(u64::MAX)).await.unwrap(), 1);
    for _ in 0..6 {
        assert_eq!(world.settle(SHOP, &named).await.settled(), payment.txid.to_string());
        world.settle(SHOP, &call(&payment.message(), None)).await.counted_before();
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_names_no_operation_is_told_once() {
    let world = tenants(|_| {}).await;
    let payment = world.pays(&payee(21), AMOUNT);
    let body = call(&payment.message(), None);
    world.verify(SHOP, &body).await.valid();
    let (one, two) = tokio::join!(world.settle(SHOP, &body), world.settle(SHOP, &body));
    let told = [&one, &two].into_iter().filter(|told| told.body["success"] == true).count();
    assert_eq!(told, 1, "{} {}", one.body, two.body);
    for _ in 0..3 {
        world.verify(SHOP, &body).await.counted_before();
        world.settle(SHOP, &body).await.counted_before();
    }
    // Naming one afterwards makes it no other payment.
    world.settle(SHOP, &call(&payment.message(), Some(&operation(1)))).await.counted_before();
    assert_eq!(world.chain.submits(), [payment.txid]);
}

#[tokio::test(start_paused = true)]
async fn verifying_records_and_broadcasts_nothing() {
    let world = tenants(|_| {}).await;
    let payment = world.pays(&payee(21), AMOUNT);
    for hash in [None, Some(operation(1)), Some(operation(2))] {
        let told = world.verify(SHOP, &call(&payment.message(), hash.as_deref())).await;
        told.valid();
        assert!(told.body.get("payer").is_none(), "a payer is named by the node alone");
    }
    world.untouched(&payment).await;
    world.chain.down("disconnected");
    world.verify(SHOP, &call(&payment.message(), None)).await.refused(503, "node_unavailable");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_told_before_it_is_durable() {
    for (fault, named, again) in [
        // The step that remembers the telling was lost: it is made up for.
        (Fault::Before, false, true),
        (Fault::Before, true, true),
        // It is durable and its answer is lost: who names no operation is never told.
        (Fault::After, false, false),
        (Fault::After, true, true),
    ] {
        let world = tenants(|_| {}).await;
        let payment = world.pays(&payee(21), AMOUNT);
        let hash = named.then(|| operation(1));
        let body = call(&payment.message(), hash.as_deref());
        world.store.fail(Verb::Delivered, fault);
        let first = world.settle(SHOP, &body).await;
        first.refused(503, "store_unavailable");
        assert_eq!(first.body["transaction"], payment.txid.to_string());
        // The hold that could not be ended expires.
        world.pass(Duration::from_secs(11)).await;
        let second = world.settle(SHOP, &body).await;
        if again {
            assert_eq!(second.settled(), payment.txid.to_string(), "{fault:?} {named}");
        } else {
            second.counted_before();
        }
        assert_eq!(world.totals().await.charged_sompi, u128::from(AMOUNT));
    }
}

#[tokio::test(start_paused = true)]
async fn a_payment_that_is_not_accepted_yet_is_pending_and_resumes() {
    let world = tenants(|_| {}).await;
    world.chain.accept_at_once(false);
    let payment = world.pays(&payee(21), AMOUNT);
    let body = call(&payment.message(), None);
    let told = world.settle(SHOP, &body).await;
    told.refused(503, "settlement_pending");
    assert_eq!((told.retry_after, &told.body["extensions"]["kaspa"]["status"]), (Some(1), &"pending".into()));
    assert_eq!(told.body["transaction"], payment.txid.to_string());
    world.verify(SHOP, &body).await.valid();
    world.chain.accept(payment.txid);
    assert_eq!(world.settle(SHOP, &body).await.settled(), payment.txid.to_string());
    world.settle(SHOP, &body).await.counted_before();
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_died_after_the_charge_tells_when_it_is_back() {
    let mut world = tenants(|_| {}).await;
    let payment = world.pays(&payee(21), AMOUNT);
    let body = call(&payment.message(), None);
    world.store.fail(Verb::Delivered, Fault::Hang);
    let hangs = world.settle(SHOP, &body);
    assert!(tokio::time::timeout(Duration::from_secs(1), hangs).await.is_err());
    assert_eq!(world.record(payment.txid).await.unwrap().state, PaymentState::Settled);
    world.die();
    world.restart().await;
    assert_eq!(world.settle(SHOP, &body).await.settled(), payment.txid.to_string());
    world.settle(SHOP, &body).await.counted_before();
}

#[tokio::test(start_paused = true)]
async fn a_proven_rejection_frees_the_payment() {
    let world = tenants(|_| {}).await;
    world.chain.on_submit([OnSubmit::Answer(SubmitOutcome::Rejected("bad signature".into()))]);
    let payment = world.pays(&payee(21), AMOUNT);
    let body = call(&payment.message(), None);
    world.settle(SHOP, &body).await.refused(200, Code::TransactionRejected.as_str());
    assert!(world.record(payment.txid).await.is_none());
    world.settle(SHOP, &body).await.settled();
}

/// Somebody else sent it first.
async fn known_payment(world: &World) -> Payment {
    let mut payment = world.pays(&payee(21), AMOUNT);
    payment.change = None;
    world.chain.submit(&payment.signed.transaction).await;
    payment
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_the_network_knew_needs_the_payers_key() {
    let world = tenants(|_| {}).await;
    let payment = known_payment(&world).await;
    let hash = payment.request_hash.to_string();
    let told = world.settle(SHOP, &call(&payment.message(), Some(&hash))).await;
    told.refused(200, "payer_proof_required");
    assert_eq!(told.body["extensions"]["kaspa"]["requestHash"], hash);
    let proven = world.present(Ask::get("/elsewhere"), payment.accepted.clone(), payment.signed.clone(), &world.payer);
    let body = call(&proven.message(), Some(&hash));
    assert_eq!(world.settle(SHOP, &body).await.settled(), payment.txid.to_string());
    // The proof is for one operation.
    let again = call(&payment.message(), Some(&hash));
    world.settle(SHOP, &again).await.refused(200, "payer_proof_required");
}

#[tokio::test(start_paused = true)]
async fn a_payment_from_before_its_terms_could_have_been_offered_is_none() {
    let world = tenants(|_| {}).await;
    world.chain.set_tip(Tip { daa_score: 10_000, blue_score: 10_000 });
    let payment = known_payment(&world).await;
    let accepted = world.chain.accept(payment.txid);
    // Its terms live for 60 seconds, which the network counts as 600.
    world.chain.set_tip(Tip { daa_score: accepted.daa_score + 601, blue_score: accepted.blue_score + 601 });
    let proven = world.present(Ask::get("/elsewhere"), payment.accepted.clone(), payment.signed.clone(), &world.payer);
    let body = call(&proven.message(), Some(&proven.request_hash.to_string()));
    world.settle(SHOP, &body).await.refused(200, Code::TransactionOlder.as_str());
    assert_eq!(world.totals().await.charged_sompi, 0);
}

#[tokio::test(start_paused = true)]
async fn the_request_hash_of_the_payment_is_the_servers() {
    let world = tenants(|_| {}).await;
    let mut payment = world.pays(&payee(21), AMOUNT);
    payment.change = None;
    let message = payment.message();
    world.settle(SHOP, &call(&message, Some(&operation(1)))).await.refused(200, "invalid_kaspa_exact_request_hash");
    world.untouched(&payment).await;
    world.settle(SHOP, &call(&message, Some(&payment.request_hash.to_string()))).await.settled();
}

#[tokio::test(start_paused = true)]
async fn a_tenants_finality_is_kept_and_its_risk_has_a_maximum() {
    let confirmed = FinalityRule { level: Finality::Confirmed, depth: 20 };
    let world = tenants(move |tenant| tenant.exact = ExactTerms { finality: confirmed, mempool_max: None }).await;
    let payment = world.pays(&payee(21), AMOUNT);
    let body = call(&payment.message(), None);
    world.settle(SHOP, &body).await.refused(503, "settlement_pending");
    world.chain.advance(20);
    world.settle(SHOP, &body).await.settled();

    let mempool = FinalityRule { level: Finality::Mempool, depth: 0 };
    let world = tenants(move |tenant| tenant.exact = ExactTerms { finality: mempool, mempool_max: Some(amount(AMOUNT)) }).await;
    world.chain.accept_at_once(false);
    let asks_for = |finality: &str, sum: u64| {
        let mut payment = world.pays(&payee(21), sum);
        payment.accepted["extra"]["finality"] = finality.into();
        call(&payment.message(), None)
    };
    world.settle(SHOP, &asks_for("mempool", AMOUNT)).await.settled();
    world.settle(SHOP, &asks_for("mempool", AMOUNT + 1)).await.refused(503, "settlement_pending");
    world.settle(SHOP, &asks_for("accepted", AMOUNT)).await.refused(503, "settlement_pending");
}

#[tokio::test(start_paused = true)]
async fn what_a_tenant_was_told_is_watched_to_its_end() {
    let world = tenants(|_| {}).await;
    let payment = world.pays(&payee(21), AMOUNT);
    world.settle(SHOP, &call(&payment.message(), Some(&operation(1)))).await.settled();
    world.chain.conflict(payment.txid, crate::protocol::ids::TxId([0xee; 32]));
    world.chain.advance(FINAL_DEPTH);
    world.until("reversed", async || world.record(payment.txid).await.unwrap().state == PaymentState::Reversed).await;
    assert_eq!(world.totals().await.reversed_sompi, u128::from(AMOUNT));
    world.settle(SHOP, &call(&payment.message(), Some(&operation(1)))).await.refused(200, Code::TransactionConflicted.as_str());
    world.pass(SETTLE_WAIT).await;
}
