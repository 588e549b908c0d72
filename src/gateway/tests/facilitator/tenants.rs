//! Who may ask for what, and that nothing happens for anybody else.

use super::{AMOUNT, OTHER, SHOP, call, operation, tenants, terms};
use crate::{
    gateway::{
        facilitate::Facilitator,
        tests::world::{Ask, payee},
    },
    protocol::tenant::Permissions,
    store::PaymentState,
};
use serde_json::{Value, json};

#[tokio::test(start_paused = true)]
async fn only_a_tenants_token_is_a_caller() {
    let world = tenants(|_| {}).await;
    for presented in [None, Some(&b""[..]), Some(b"shop"), Some(&SHOP.as_bytes()[1..]), Some(b"shop-token-shop-token-shop-tokeN")] {
        assert!(world.gateway.caller(presented).is_none());
    }
    assert_eq!((world.caller(SHOP).tenant(), world.caller(OTHER).tenant()), ("shop", "other"));
}

#[tokio::test(start_paused = true)]
async fn a_tenant_neither_verifies_nor_settles_what_pays_another() {
    let world = tenants(|_| {}).await;
    let payment = world.pays(&payee(21), AMOUNT);
    let body = call(&payment.message(), Some(&operation(1)));
    world.verify(OTHER, &body).await.refused(403, "tenant_recipient");
    world.settle(OTHER, &body).await.refused(403, "tenant_recipient");
    // Nor what pays a route of the gateway's own.
    let own = world.pays(&payee(9), AMOUNT);
    world.settle(SHOP, &call(&own.message(), None)).await.refused(403, "tenant_recipient");
    world.untouched(&payment).await;
    world.untouched(&own).await;
    assert_eq!(world.settle(SHOP, &body).await.settled(), payment.txid.to_string());
    // What the other knows of it afterwards is nothing.
    let told = world.settle(OTHER, &body).await;
    told.refused(403, "tenant_recipient");
    assert!(told.body["extensions"]["kaspa"].get("alreadySettled").is_none());
    assert_eq!(world.record(payment.txid).await.unwrap().route.0, "facilitator:shop");
}

#[tokio::test(start_paused = true)]
async fn a_tenant_gets_nothing_it_has_no_permission_for() {
    for (permissions, verify, settle, modes) in [
        (Permissions { verify: true, settle: false, claim: false }, true, false, json!(["verify"])),
        (Permissions { verify: false, settle: true, claim: false }, false, true, json!(["settle"])),
        (Permissions { verify: false, settle: false, claim: true }, false, false, Value::Null),
        (Permissions { verify: true, settle: true, claim: true }, true, true, json!(["verify", "settle"])),
    ] {
        let world = tenants(move |tenant| tenant.permissions = permissions).await;
        let payment = world.pays(&payee(21), AMOUNT);
        let body = call(&payment.message(), Some(&operation(1)));
        let verified = world.verify(SHOP, &body).await;
        if verify {
            verified.valid()
        } else {
            verified.refused(403, "tenant_permission")
        }
        world.untouched(&payment).await;
        let settled = world.settle(SHOP, &body).await;
        if settle {
            settled.settled();
        } else {
            settled.refused(403, "tenant_permission");
            world.untouched(&payment).await;
        }
        let supported: Value = serde_json::from_slice(&world.gateway.supported(&world.caller(SHOP)).body).unwrap();
        let kind = |scheme: &str| supported["kinds"].as_array().unwrap().iter().find(|kind| kind["scheme"] == scheme).cloned();
        assert_eq!(kind("exact").map_or(Value::Null, |kind| kind["extra"]["modes"].clone()), modes);
        let batch = kind("batch-settlement").unwrap();
        let claims = batch["extra"]["modes"].as_array().unwrap().contains(&"claim".into());
        assert_eq!(claims, permissions.claim, "{batch}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_supported_says_what_offers_need() {
    let world = tenants(|_| {}).await;
    world.chain.advance(1_234);
    let supported: Value = serde_json::from_slice(&world.gateway.supported(&world.caller(SHOP)).body).unwrap();
    assert_eq!((&supported["extensions"], &supported["signers"]), (&json!([]), &json!({})));
    let [exact, batch] = &supported["kinds"].as_array().unwrap()[..] else { panic!("{supported}") };
    assert_eq!(
        *exact,
        json!({
            "x402Version": 2, "scheme": "exact", "network": "kaspa:simnet",
            "extra": {"asset": "KAS", "binding": "kaspa-exact-v1", "finality": "accepted", "modes": ["verify", "settle"]},
        })
    );
    let extra = &batch["extra"];
    assert_eq!((&batch["scheme"], &extra["binding"]), (&"batch-settlement".into(), &"kaspa-escrow-v1".into()));
    assert_eq!(extra["modes"], json!(["verify", "settle", "claim"]));
    assert_eq!(extra["serverPublicKey"], super::server_keys().iter().nth(1).unwrap().public().to_string());
    let timeout: u64 = extra["refundTimeoutDaa"].as_str().unwrap().parse().unwrap();
    assert!(timeout >= 101_000 && timeout.is_multiple_of(1_000), "{timeout}");
}

#[tokio::test(start_paused = true)]
async fn an_undecodable_call_is_no_verdict_and_touches_nothing() {
    let world = tenants(|_| {}).await;
    let payment = world.pays(&payee(21), AMOUNT);
    let good = call(&payment.message(), None);
    let with = |name: &str, value: Value| {
        let mut body = good.clone();
        body[name] = value;
        body
    };
    for body in [json!({}), json!([]), with("x402Version", json!(1)), with("requestHash", json!("zz")), with("amount", json!("1"))] {
        world.verify(SHOP, &body).await.refused(400, "facilitator_call_malformed");
        world.settle(SHOP, &body).await.refused(400, "facilitator_call_malformed");
    }
    let other = with("paymentRequirements", terms(&payee(21), AMOUNT + 1));
    world.settle(SHOP, &other).await.refused(200, "offer_not_ours");
    world.untouched(&payment).await;
}

#[tokio::test(start_paused = true)]
async fn a_tenants_payment_buys_nothing_at_a_route() {
    let world = tenants(|_| {}).await;
    let payment = world.pay(Ask::get("/paid")).await;
    world.send(&payment.ask()).await.served(payment.txid);
    let record = world.record(payment.txid).await.unwrap();
    assert_eq!((record.state, record.route.0.as_str()), (PaymentState::Delivered, "paid"));
    // Its offer, sent to the facilitator by a tenant that copied it.
    world.settle(SHOP, &call(&payment.message(), None)).await.refused(403, "tenant_recipient");
}
