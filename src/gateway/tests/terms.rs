//! The happy path, and what is refused before store and chain are asked.

use super::{
    pay::{Payment, new_coin},
    world::{Ask, OFFER_SECONDS, PRICE, World, payee},
};
use crate::{protocol::refusal::Code, store::PaymentState};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

/// Refused, and neither the store nor the node heard of it.
async fn untouched(world: &World, payment: &Payment, code: Code) {
    let submits = world.chain.submits().len();
    world.send(&payment.ask()).await.refused(code);
    assert_eq!(world.chain.submits().len(), submits, "{code}");
    assert!(world.record(payment.txid).await.is_none(), "{code}");
}

#[tokio::test(start_paused = true)]
async fn a_payment_is_sent_charged_and_served_once() {
    let world = World::new().await;
    let payment = world.pay(Ask::get("/paid?q=1")).await;
    let got = world.send(&payment.ask()).await;
    got.served(payment.txid);
    assert_eq!(got.answer.body, "served 1");
    assert_eq!(world.chain.submits(), [payment.txid]);
    assert_eq!(world.upstream.count(), 1);
    let record = world.record(payment.txid).await.unwrap();
    assert_eq!((record.state, record.charged, record.forwards), (PaymentState::Delivered, true, 1));
    assert_eq!(record.payer, Some(world.payer.address().to_string()));
    assert_eq!(world.totals().await.charged_sompi, u128::from(PRICE));
    let receipt = got.receipt().unwrap();
    assert_eq!(receipt["amount"], PRICE.to_string());
    assert_eq!(receipt["payer"], world.payer.address().to_string());
    assert_eq!(receipt["extensions"]["kaspa"]["finality"], "accepted");
}

#[tokio::test(start_paused = true)]
async fn terms_altered_in_any_single_field_buy_nothing() {
    let world = World::new().await;
    let payment = world.pay(Ask::get("/paid")).await;
    let set = |pointer: &str, value: Value| {
        let mut payment = payment.clone();
        *payment.accepted.pointer_mut(pointer).unwrap() = value;
        payment
    };
    let token: Vec<String> = payment.accepted["extra"]["offer"].as_str().unwrap().split('.').map(str::to_owned).collect();
    let part = |index: usize, value: &str| {
        let mut parts = token.clone();
        parts[index] = value.to_owned();
        set("/extra/offer", parts.join(".").into())
    };
    let number = "AAAAAAAAAAE";
    for (altered, code) in [
        (set("/scheme", json!("batch-settlement")), Code::Binding),
        (set("/network", json!("kaspa:testnet-10")), Code::Network),
        (set("/asset", json!("USD")), Code::Asset),
        (set("/amount", json!((PRICE - 1).to_string())), Code::OfferNotOurs),
        (set("/amount", json!((PRICE + 1).to_string())), Code::OfferNotOurs),
        (set("/payTo", json!(payee(8))), Code::OfferNotOurs),
        (set("/payTo", json!("nobody")), Code::OfferNotOurs),
        (set("/maxTimeoutSeconds", json!(OFFER_SECONDS + 1)), Code::OfferNotOurs),
        (set("/extra/binding", json!("kaspa-escrow-v1")), Code::Binding),
        (set("/extra/finality", json!("mempool")), Code::OfferNotOurs),
        (set("/extra/paymentFlow", json!("later")), Code::OfferNotOurs),
        (set("/extra/offer", json!("v1")), Code::OfferMalformed),
        (part(0, "v2"), Code::OfferMalformed),
        (part(1, "Yg"), Code::OfferKeyUnknown),
        (part(2, number), Code::OfferNotOurs),
        (part(3, number), Code::OfferNotOurs),
        (part(4, number), Code::OfferNotOurs),
        (part(5, "AAAAAAAAAAAAAAAAAAAAAA"), Code::OfferNotOurs),
        (part(6, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), Code::OfferNotOurs),
        (
            {
                let mut more = payment.clone();
                more.accepted["more"] = json!(1);
                more
            },
            Code::OfferNotOurs,
        ),
    ] {
        untouched(&world, &altered, code).await;
    }
    world.send(&payment.ask()).await.served(payment.txid);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_is_not_the_payment_is_refused_unsent() {
    let world = World::new().await;
    let payment = world.pay(Ask::get("/paid")).await;
    let change = |change: &dyn Fn(&mut Payment)| {
        let mut payment = payment.clone();
        change(&mut payment);
        payment.signed.transaction.finalize();
        payment.txid = payment.signed.transaction.id().into();
        payment
    };
    for (changed, code) in [
        (change(&|p| p.signed.transaction.outputs[0].value -= 1), Code::OutputAmount),
        (change(&|p| p.signed.transaction.outputs[0].value += 1), Code::OutputAmount),
        (change(&|p| p.signed.transaction.outputs.swap(0, 1)), Code::OutputRecipient),
        (change(&|p| p.signed.transaction.outputs.push(p.signed.transaction.outputs[0].clone())), Code::OutputAmbiguous),
        (change(&|p| p.signed.payment_output_index = 9), Code::OutputIndex),
        (change(&|p| p.signed.transaction.gas = 1), Code::TransactionForm),
        (change(&|p| p.request_hash.0[0] ^= 1), Code::RequestHashMismatch),
        (payment.clone().changed(|m| m["payload"]["transactionId"] = "00".repeat(32).into()), Code::TransactionId),
        (payment.clone().changed(|m| m["payload"]["transaction"] = "00".into()), Code::TransactionUndecodable),
        (payment.clone().changed(|m| m["x402Version"] = 1.into()), Code::Version),
        (payment.clone().changed(|m| m["payload"]["type"] = "voucher".into()), Code::PayloadType),
        (payment.clone().changed(|m| m["extensions"]["payment-identifier"] = json!({})), Code::IdentifierNotEchoed),
        (payment.clone().named("short"), Code::IdentifierMalformed),
    ] {
        untouched(&world, &changed, code).await;
    }
}

#[tokio::test(start_paused = true)]
async fn garbage_in_the_payment_header_has_its_status() {
    let world = World::new().await;
    let good = world.pay(Ask::get("/paid")).await;
    let paid = Ask::get("/paid");
    for (ask, code) in [
        (paid.clone().paying(""), Code::HeaderNotJson),
        (paid.clone().paying("***"), Code::HeaderNotBase64),
        (paid.clone().paying(&STANDARD.encode("{")), Code::HeaderNotJson),
        (paid.clone().paying(&STANDARD.encode("[]")), Code::HeaderSchema),
        (good.ask().paying(&good.header()), Code::HeaderDuplicated),
        (paid.clone().paying(&"A".repeat(crate::protocol::limits::PAYMENT_HEADER_BYTES + 4)), Code::HeaderTooLarge),
    ] {
        world.send(&ask).await.refused(code);
    }
    // Before the body is read: one that is too long does not hide it.
    let long = Ask::post("/paid", &"x".repeat(10_000)).paying(&"A".repeat(crate::protocol::limits::PAYMENT_HEADER_BYTES + 4));
    world.send(&long).await.refused(Code::HeaderTooLarge);
    assert_eq!((world.upstream.count(), world.chain.submits().len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_a_route_requires_is_demanded() {
    let world = World::with(|pricing| (pricing.require_identifier, pricing.require_request_hash) = (true, true)).await;
    let payment = world.pay(Ask::get("/paid")).await;
    untouched(&world, &payment, Code::IdentifierRequired).await;
    let required = |message: &mut Value| message["extensions"]["payment-identifier"]["info"]["required"] = true.into();
    let hashless = |message: &mut Value| drop(message["payload"].as_object_mut().unwrap().remove("requestHash"));
    untouched(&world, &payment.clone().named("0123456789abcdef").changed(hashless), Code::RequestHashRequired).await;
    let whole = payment.named("0123456789abcdef").changed(required);
    world.send(&whole.ask()).await.served(whole.txid);
}

#[tokio::test(start_paused = true)]
async fn an_offer_is_made_anew_for_every_request_and_pays_for_several_transactions() {
    let world = World::new().await;
    let (one, two) = (world.offer(&Ask::get("/paid")).await, world.offer(&Ask::get("/paid")).await);
    assert_ne!(one["extra"]["offer"], two["extra"]["offer"]);
    for coin in [new_coin(), new_coin()] {
        let signed = world.sign(&one, coin);
        let payment = world.present(Ask::get("/paid"), one.clone(), signed, &world.payer);
        world.send(&payment.ask()).await.served(payment.txid);
    }
    assert_eq!(world.totals().await.charged_sompi, 2 * u128::from(PRICE));
}
