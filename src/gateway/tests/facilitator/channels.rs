//! Channels of tenants: opened, charged and claimed by their own tenant, and by nobody else.

use super::{OTHER, SHOP, call, operation, tenants};
use crate::{
    binding::escrow_v1::payload::{BatchPayload, ClaimRequest},
    gateway::{
        facilitate::Act,
        tests::{
            from_channels::buyer::{CEILING, Channel, DEPOSIT, Paying, ask, parts},
            shop::server_keys,
            world::{FINAL_DEPTH, World, payee, sompi},
        },
    },
    protocol::{refusal::Code, tenant::Permissions},
    store::channels::ChannelStore as _,
};
use serde_json::{Value, json};

/// Terms of a tenant's server, under its key.
fn terms(seed: u8, key: usize) -> Value {
    json!({
        "scheme": "batch-settlement", "network": "kaspa:simnet", "amount": CEILING.to_string(), "asset": "KAS", "payTo": payee(seed),
        "maxTimeoutSeconds": 60,
        "extra": {
            "binding": "kaspa-escrow-v1", "templateId": "kaspa-x402-escrow-v1", "refundTimeoutDaa": "100000",
            "minDepositSompi": "100000000", "serverPublicKey": server_keys().iter().nth(key).unwrap().public(),
            "asset": "KAS", "modes": ["verify", "settle", "claim"],
        },
    })
}

fn shop_terms() -> Value {
    terms(21, 1)
}

/// As a client without identifiers writes it.
fn unnamed(mut paying: Paying) -> Value {
    paying.identifier = None;
    paying.message()
}

/// An open channel of the shop's that paid once.
async fn opened(world: &World) -> Channel {
    let mut channel = Channel::under(&shop_terms(), 1, DEPOSIT);
    let message = unnamed(channel.depositing(&ask(), shop_terms(), CEILING));
    let told = world.settle(SHOP, &call(&message, Some(&operation(100)))).await;
    told.settled();
    channel.read(&told.body);
    channel
}

#[tokio::test(start_paused = true)]
async fn a_channel_opens_is_charged_and_tells_its_state() {
    let world = tenants(|_| {}).await;
    let mut channel = Channel::under(&shop_terms(), 1, DEPOSIT);
    let deposit = call(&unnamed(channel.depositing(&ask(), shop_terms(), CEILING)), Some(&operation(1)));
    world.verify(SHOP, &deposit).await.valid();
    assert!(world.store.channel(&channel.id()).await.unwrap().is_none(), "verifying opens nothing");
    assert!(world.chain.submits().is_empty());
    let told = world.settle(SHOP, &deposit).await;
    told.settled();
    assert_eq!(channel.read(&told.body), CEILING);
    let kaspa = &told.body["extensions"]["kaspa"];
    assert_eq!(kaspa["fundingAmount"], DEPOSIT.to_string());
    assert!(kaspa.get("offer").is_none(), "offers are the resource server's");
    for number in 2..=4 {
        let message = unnamed(channel.paying(&ask(), shop_terms()));
        let body = call(&message, Some(&operation(number)));
        let verified = world.verify(SHOP, &body).await;
        verified.valid();
        assert_eq!(verified.body["extra"]["channelState"]["chargedCumulativeAmount"], channel.charged.to_string());
        assert_eq!(parts(channel.record(&world).await.parts.charged), channel.charged, "verifying charges nothing");
        assert_eq!(world.gateway.channels.exposure.total(), u128::from(channel.charged), "and counts nothing");
        let told = world.settle(SHOP, &body).await;
        told.settled();
        channel.read(&told.body);
        assert_eq!(world.settle(SHOP, &body).await.body["transaction"], told.body["transaction"]);
    }
    assert_eq!(parts(channel.record(&world).await.parts.charged), 4 * CEILING);
    assert_eq!(world.upstream.count(), 0);
    let charges = world.store.charges(&channel.id(), 0, 10).await.unwrap();
    assert!(charges.iter().all(|charge| charge.terms.route.0 == "facilitator:shop"));
}

#[tokio::test(start_paused = true)]
async fn a_voucher_is_told_again_only_to_who_names_the_operation() {
    let world = tenants(|_| {}).await;
    let mut channel = opened(&world).await;
    let message = unnamed(channel.paying(&ask(), shop_terms()));
    let nameless = call(&message, None);
    let told = world.settle(SHOP, &nameless).await;
    told.settled();
    channel.read(&told.body);
    for _ in 0..2 {
        world.verify(SHOP, &nameless).await.counted_before();
        world.settle(SHOP, &nameless).await.counted_before();
    }
    // For another operation the voucher is spent.
    world.settle(SHOP, &call(&message, Some(&operation(9)))).await.refused(200, "voucher_amount");
    // The client's own identifier names one request, whatever its voucher.
    let named = channel.paying(&ask(), shop_terms()).named("identifier-of-mine");
    let told = world.settle(SHOP, &call(&named.message(), Some(&operation(2)))).await;
    told.settled();
    channel.read(&told.body);
    let again = channel.paying(&ask(), shop_terms()).named("identifier-of-mine");
    assert_eq!(world.settle(SHOP, &call(&again.message(), Some(&operation(2)))).await.body["transaction"], told.body["transaction"]);
    world.settle(SHOP, &call(&again.message(), Some(&operation(3)))).await.refused(200, "payment_identifier_reused");
    world.settle(SHOP, &call(&again.message(), None)).await.refused(200, "payment_identifier_reused");
    assert_eq!(parts(channel.record(&world).await.parts.charged), 3 * CEILING);
}

#[tokio::test(start_paused = true)]
async fn a_channel_is_its_tenants_alone() {
    let world = tenants(|_| {}).await;
    let channel = opened(&world).await;
    let charged = parts(channel.record(&world).await.parts.charged);
    let own = unnamed(channel.paying(&ask(), shop_terms()));
    // Under the other's terms, and under mixed ones.
    let foreign = unnamed(channel.paying(&ask(), terms(22, 2)));
    for (message, status, reason) in [
        (own.clone(), 403, "tenant_recipient"),
        (foreign, 200, "channel_unknown"),
        (unnamed(channel.paying(&ask(), terms(22, 1))), 403, "tenant_recipient"),
        (unnamed(channel.paying(&ask(), terms(21, 2))), 403, "tenant_recipient"),
        (unnamed(channel.depositing(&ask(), terms(22, 2), CEILING)), 200, "channel_unknown"),
    ] {
        for hash in [None, Some(operation(100))] {
            let body = call(&message, hash.as_deref());
            let told = world.verify(OTHER, &body).await;
            told.refused(status, reason);
            assert!(!told.body.to_string().contains("channelState"), "{}", told.body);
            let told = world.settle(OTHER, &body).await;
            told.refused(status, reason);
            assert!(!told.body.to_string().contains("channelState"), "{}", told.body);
        }
    }
    assert_eq!(parts(channel.record(&world).await.parts.charged), charged);
    world.settle(SHOP, &call(&own, Some(&operation(2)))).await.settled();
}

fn claim(channel: &Channel, sompi_now: u64) -> Value {
    let payload = BatchPayload::Claim(ClaimRequest {
        channel_id: channel.id(),
        funding_outpoint: channel.outpoint,
        active_script_public_key: channel.script.serialized(),
        claim_amount: sompi(sompi_now),
        voucher: channel.sign(channel.outpoint, channel.signed),
    });
    json!({"x402Version": 2, "accepted": shop_terms(), "payload": payload})
}

/// A channel that owes enough for a claim to be worth its fee.
async fn owing(world: &World) -> Channel {
    let mut dear = shop_terms();
    dear["amount"] = "500000000".into();
    let mut channel = Channel::under(&dear, 1, DEPOSIT);
    let told = world.settle(SHOP, &call(&unnamed(channel.depositing(&ask(), dear, 500_000_000)), None)).await;
    told.settled();
    channel.read(&told.body);
    channel
}

#[tokio::test(start_paused = true)]
async fn a_claim_goes_through_settle_once_and_for_its_tenant_only() {
    let world = tenants(|_| {}).await;
    let channel = owing(&world).await;
    let submits = world.chain.submits().len();
    let body = call(&claim(&channel, channel.charged), None);
    let mut foreign = claim(&channel, channel.charged);
    foreign["accepted"] = terms(22, 2);
    world.settle(OTHER, &call(&foreign, None)).await.refused(200, "channel_unknown");
    world.settle(OTHER, &body).await.refused(403, "tenant_recipient");
    for sum in [channel.charged - 1, channel.charged + 1, 0] {
        let told = world.settle(SHOP, &call(&claim(&channel, sum), None)).await;
        told.refused(200, "claim_refused");
        assert_eq!(told.body["extensions"]["kaspa"]["channelState"]["chargedCumulativeAmount"], channel.charged.to_string());
    }
    world.verify(SHOP, &body).await.valid();
    assert_eq!(world.chain.submits().len(), submits, "nothing was claimed so far");
    let told = world.settle(SHOP, &body).await;
    let txid = told.settled().to_owned();
    let kaspa = &told.body["extensions"]["kaspa"];
    assert_eq!(kaspa["claimedAmount"], channel.charged.to_string());
    assert!(kaspa["continuationOutpoint"]["txid"] == txid.as_str() && kaspa["claimOutpoint"] == json!(channel.outpoint), "{kaspa}");
    for _ in 0..2 {
        assert_eq!(world.settle(SHOP, &body).await.settled(), txid);
    }
    assert_eq!(world.chain.submits().len(), submits + 1);
    world.until("claimed", async || parts(channel.record(&world).await.parts.claimed) == channel.charged).await;
    assert_eq!(world.settle(SHOP, &body).await.settled(), txid);
    let forged = {
        let mut forged = claim(&channel, channel.charged);
        forged["payload"]["voucher"]["signature"] = "00".repeat(64).into();
        call(&forged, None)
    };
    world.settle(SHOP, &forged).await.refused(200, "channel_unknown");
}

#[tokio::test(start_paused = true)]
async fn a_claim_needs_its_permission_and_nothing_else_is_a_payment() {
    let world = tenants(|tenant| tenant.permissions = Permissions { claim: false, ..tenant.permissions }).await;
    let channel = owing(&world).await;
    let body = call(&claim(&channel, channel.charged), None);
    world.settle(SHOP, &body).await.refused(403, "tenant_permission");
    let mut refund = claim(&channel, channel.charged);
    let payload = refund["payload"].as_object_mut().unwrap();
    payload.remove("claimAmount");
    payload.extend([("type", "refund"), ("refundAddress", &payee(1)), ("refundAmount", "1")].map(|(k, v)| (k.to_owned(), v.into())));
    world.settle(SHOP, &call(&refund, None)).await.refused(200, Code::PaymentTypeNotAllowed.as_str());
    assert_eq!(parts(channel.record(&world).await.parts.claimed), 0);

    let world = tenants(|tenant| tenant.permissions = Permissions { settle: false, ..tenant.permissions }).await;
    let deposit = Channel::under(&shop_terms(), 1, DEPOSIT);
    let message = unnamed(deposit.depositing(&ask(), shop_terms(), CEILING));
    world.verify(SHOP, &call(&message, None)).await.valid();
    world.settle(SHOP, &call(&message, None)).await.refused(403, "tenant_permission");
    assert!(world.store.channel(&deposit.id()).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn verifying_a_deposit_finds_what_settling_would() {
    let world = tenants(|_| {}).await;
    let channel = Channel::under(&shop_terms(), 1, DEPOSIT);
    let small = Channel::under(&shop_terms(), 1, 99_999_999);
    let late = {
        let mut terms = shop_terms();
        terms["extra"]["refundTimeoutDaa"] = "5001".into();
        (Channel::under(&terms, 1, DEPOSIT), terms)
    };
    world.chain.advance(2);
    for (message, reason) in [
        (unnamed(channel.depositing(&ask(), shop_terms(), CEILING - 1)), "voucher_amount"),
        (unnamed(channel.depositing(&ask(), shop_terms(), CEILING + 1)), "voucher_amount"),
        (unnamed(small.depositing(&ask(), shop_terms(), CEILING)), "deposit_too_small"),
        (unnamed(late.0.depositing(&ask(), late.1.clone(), CEILING)), "refund_window"),
        (
            unnamed(channel.depositing(&ask(), shop_terms(), CEILING).changed(|p| p["voucher"]["signature"] = "00".repeat(64).into())),
            "voucher_signature",
        ),
    ] {
        let body = call(&message, Some(&operation(1)));
        world.verify(SHOP, &body).await.refused(200, reason);
        if reason != "voucher_amount" {
            // A deposit with a wrong voucher opens its channel all the same: its money lies there.
            assert!(world.store.channel(&channel.id()).await.unwrap().is_none());
            world.settle(SHOP, &body).await.refused(200, reason);
        }
    }
}

/// A channel that opens right after it was looked for belongs to whom it belongs to all the same.
#[tokio::test(start_paused = true)]
async fn what_is_acted_on_is_what_was_found_to_be_ones_own() {
    let world = tenants(|_| {}).await;
    let channel = owing(&world).await;
    let mut claiming = claim(&channel, channel.charged);
    claiming["accepted"] = terms(22, 2);
    let paying = unnamed(channel.paying(&ask(), terms(22, 2)));
    let submits = world.chain.submits().len();
    for hidden in 0..4 {
        for message in [&claiming, &paying] {
            for act in [Act::Verify, Act::Settle] {
                world.store.hide_channels(hidden);
                world.call(OTHER, act, &call(message, Some(&operation(1)))).await.refused(200, "channel_unknown");
                world.store.hide_channels(0);
            }
        }
    }
    assert_eq!(world.chain.submits().len(), submits, "nothing was claimed");
}

#[tokio::test(start_paused = true)]
async fn a_claim_is_told_again_only_to_who_names_its_sum() {
    let world = tenants(|_| {}).await;
    let channel = owing(&world).await;
    let body = call(&claim(&channel, channel.charged), None);
    let txid = world.settle(SHOP, &body).await.settled().to_owned();
    for rounds in 0..2 {
        for sum in [channel.charged - 1, channel.charged + 1] {
            let other = call(&claim(&channel, sum), None);
            world.verify(SHOP, &other).await.refused(200, "claim_refused");
            world.settle(SHOP, &other).await.refused(200, "claim_refused");
        }
        assert_eq!(world.settle(SHOP, &body).await.settled(), txid);
        // Accepted, and then final.
        world.chain.advance(if rounds == 0 { 1 } else { FINAL_DEPTH + 1 });
        world.until("claimed", async || parts(channel.record(&world).await.parts.claimed) == channel.charged).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_top_up_is_no_claim_that_was_asked_for() {
    let world = tenants(|_| {}).await;
    let channel = owing(&world).await;
    let (transaction, continuation, funding) = channel.top_up(5_000_000_000);
    let payload = channel.deposit_payload(Some(&transaction), continuation, funding, CEILING);
    let message = unnamed(channel.with(&ask(), shop_terms(), &payload));
    world.settle(SHOP, &call(&message, Some(&operation(2)))).await.settled();
    let before = claim(&channel, channel.charged);
    for _ in 0..2 {
        world.settle(SHOP, &call(&before, None)).await.refused(200, "voucher_stale_outpoint");
        // Its move is final then, and stands among the settled ones alone.
        world.chain.advance(FINAL_DEPTH + 1);
        world.until("final", async || channel.record(&world).await.moves.is_empty()).await;
    }
}
