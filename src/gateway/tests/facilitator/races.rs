//! One payment, two doors, at the same moment: one wins.

use super::{AMOUNT, OTHER, SHOP, call, operation, tenants, terms};
use crate::{
    binding::exact_v1::payload::{ExactTransfer, ExactType},
    chain::AcceptedInput,
    gateway::{
        facilitate::{Act, Facilitator},
        tests::{
            exchange::send,
            pay::{Payment, new_coin},
            world::{Ask, PRICE, World, payee},
        },
    },
    protocol::{ids::TxId, refusal::Code},
    store::PaymentState,
};
use kaspa_addresses::Address;
use kaspa_consensus_core::tx::TransactionOutput;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// Enough that both orders happen, and what is between them.
const RACES: usize = 100;

/// A transaction that pays a route and both tenants, each its price.
async fn pays_everybody(world: &World) -> Payment {
    let mut payment = world.pay(Ask::get("/paid")).await.without_proof();
    let transaction = &mut payment.signed.transaction;
    for seed in [21, 22] {
        let address = Address::try_from(payee(seed).as_str()).unwrap();
        transaction.outputs.push(TransactionOutput::new(AMOUNT, kaspa_txscript::pay_to_address_script(&address)));
    }
    transaction.finalize();
    payment.txid = TxId::from(transaction.id());
    let outpoint = transaction.inputs[0].previous_outpoint.into();
    world.chain.set_inputs(payment.txid, vec![AcceptedInput { outpoint, signature_script: Vec::new(), spent: None }]);
    payment
}

/// The same transaction as a payment to a tenant.
fn to_tenant(payment: &Payment, seed: u8) -> Value {
    let script = kaspa_txscript::pay_to_address_script(&Address::try_from(payee(seed).as_str()).unwrap());
    let index = payment.signed.transaction.outputs.iter().position(|output| output.script_public_key == script).unwrap();
    let transfer = ExactTransfer {
        r#type: ExactType::ExactTransfer,
        payer_address: None,
        transaction: hex::encode(borsh::to_vec(&payment.signed.transaction).unwrap()),
        transaction_id: None,
        payment_output_index: u32::try_from(index).unwrap(),
        request_hash: None,
    };
    json!({"x402Version": 2, "accepted": terms(&payee(seed), AMOUNT), "payload": transfer})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_route_and_two_tenants_cannot_all_sell_for_one_transaction() {
    let world = tenants(|_| {}).await;
    let mut winners = [0; 3];
    for race in 0..RACES {
        let payment = pays_everybody(&world).await;
        let (at_route, gateway) = (payment.ask(), world.gateway.clone());
        let (shop, other) = (call(&to_tenant(&payment, 21), Some(&operation(1))), call(&to_tenant(&payment, 22), None));
        let route = tokio::spawn(send(gateway, at_route));
        // Each door is tried first in turn.
        let (shop, other) = match race % 3 {
            0 => tokio::join!(world.settle(SHOP, &shop), world.settle(OTHER, &other)),
            1 => {
                let (other, shop) = tokio::join!(world.settle(OTHER, &other), world.settle(SHOP, &shop));
                (shop, other)
            }
            _ => {
                tokio::task::yield_now().await;
                tokio::join!(world.settle(SHOP, &shop), world.settle(OTHER, &other))
            }
        };
        let route = route.await.unwrap();
        let sold = [route.status() == 200, shop.body["success"] == true, other.body["success"] == true];
        assert_eq!(sold.iter().filter(|sold| **sold).count(), 1, "{} {} {}", route.status(), shop.body, other.body);
        for (told, sold) in [(&shop, sold[1]), (&other, sold[2])] {
            assert!(sold || told.body["extensions"]["kaspa"]["reason"] == "invalid_kaspa_exact_replay", "{}", told.body);
        }
        assert!(sold[0] || route.status() == 409);
        for (count, sold) in winners.iter_mut().zip(sold) {
            *count += usize::from(sold);
        }
        let record = world.record(payment.txid).await.unwrap();
        assert_eq!((record.state, record.charged), (PaymentState::Delivered, true));
    }
    let totals = world.totals().await;
    let (route, tenants) = (u128::try_from(winners[0]).unwrap(), u128::try_from(winners[1] + winners[2]).unwrap());
    assert_eq!(totals.charged_sompi, route * u128::from(PRICE) + tenants * u128::from(AMOUNT));
    assert_eq!(world.upstream.count(), winners[0]);
}

/// A call in a task of its own.
fn settles(world: &World, body: Value) -> JoinHandle<Value> {
    let (gateway, caller) = (world.gateway.clone(), world.caller(SHOP));
    tokio::spawn(async move {
        let told = gateway.call(caller, Act::Settle, body.to_string().into(), "r-1".into()).await;
        serde_json::from_slice(&told.body).unwrap()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_for_one_operation_get_one_settlement_and_calls_for_others_none() {
    let world = tenants(|_| {}).await;
    for race in 0..RACES {
        let accepted = terms(&payee(21), AMOUNT);
        let signed = world.sign(&accepted, new_coin());
        let payment = world.present(Ask::get("/x"), accepted, signed, &world.payer);
        let mut message = payment.without_proof().message();
        message["payload"].as_object_mut().unwrap().remove("requestHash");
        let bodies = [Some(1), Some(1), Some(2), None, None].map(|hash| call(&message, hash.map(operation).as_deref()));
        // Each comes first in turn.
        let calls: Vec<_> = (0..5).map(|place| (place + race) % 5).map(|at| (at, settles(&world, bodies[at].clone()))).collect();
        let mut told = vec![Value::Null; 5];
        for (at, call) in calls {
            told[at] = call.await.unwrap();
        }
        let won: Vec<usize> = (0..5).filter(|at| told[*at]["success"] == true).collect();
        // Both calls of one operation, or one of the others.
        assert!(matches!(won[..], [0, 1] | [2] | [3] | [4]), "{told:?}");
        if won == [0, 1] {
            assert_eq!(told[0], told[1], "the same settlement");
        }
        for (at, body) in told.iter().enumerate().filter(|(at, _)| !won.contains(at)) {
            assert_eq!(body["extensions"]["kaspa"]["reason"], "invalid_kaspa_exact_replay", "{at}: {body}");
        }
    }
    assert_eq!(world.totals().await.charged_sompi, u128::try_from(RACES).unwrap() * u128::from(AMOUNT));
}

#[tokio::test(start_paused = true)]
async fn whether_it_counted_elsewhere_is_told_to_nobody_else() {
    let world = tenants(|_| {}).await;
    let before = |told: &Value| told["extensions"]["kaspa"].get("alreadySettled").cloned();
    let payment = pays_everybody(&world).await;
    let (shop, other) = (call(&to_tenant(&payment, 21), Some(&operation(1))), call(&to_tenant(&payment, 22), None));
    world.settle(SHOP, &shop).await.settled();
    for told in [world.settle(OTHER, &other).await, world.verify(OTHER, &other).await] {
        told.refused(200, "invalid_kaspa_exact_replay");
        assert_eq!(before(&told.body), None, "{}", told.body);
    }
    let route = world.send(&payment.ask()).await;
    route.refused(Code::Replay);
    assert_eq!(before(&route.receipt().unwrap()), None);
    let again = world.settle(SHOP, &call(&to_tenant(&payment, 21), Some(&operation(2)))).await;
    assert_eq!(before(&again.body), Some(true.into()));
    // And what a route sold is no tenant's business.
    let payment = pays_everybody(&world).await;
    world.send(&payment.ask()).await.served(payment.txid);
    assert_eq!(before(&world.settle(SHOP, &call(&to_tenant(&payment, 21), None)).await.body), None);
}
