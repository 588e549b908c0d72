//! Which requests a channel pays for at all: offers, keys, recipients, windows, limits.

use super::buyer::{CEILING, ask, batch_of, opened};
use crate::{
    gateway::tests::{
        shop::channel_rules,
        world::{Ask, OFFER_SECONDS, sompi},
    },
    protocol::{policy::Exposure, refusal::Code},
};

#[tokio::test(start_paused = true)]
async fn an_identifier_is_required() {
    let (world, channel) = opened().await;
    let mut paying = world.voucher(&channel, &ask()).await;
    paying.identifier = None;
    world.send(&paying.ask()).await.refused(Code::IdentifierRequired);
}

#[tokio::test(start_paused = true)]
async fn a_fresh_request_under_an_expired_offer_is_refused_and_the_renewed_offer_of_a_receipt_serves() {
    let (world, mut channel) = opened().await;
    let paying = world.voucher(&channel, &ask()).await;
    world.skip(OFFER_SECONDS + 6);
    world.send(&paying.ask()).await.refused(Code::OfferExpired);
    let got = world.buy(&mut channel, &ask()).await;
    for _ in 0..3 {
        let renewed = got.receipt().unwrap()["extensions"]["kaspa"]["offer"].clone();
        let paying = channel.paying(&ask(), renewed);
        let next = world.send(&paying.ask()).await;
        if next.status() == 200 {
            channel.served(&next);
        } else {
            // An offer is used once in a channel.
            next.refused(Code::OfferReused);
        }
    }
    assert_eq!(channel.charged, 3 * CEILING);
}

#[tokio::test(start_paused = true)]
async fn an_offer_of_another_route_or_price_does_not_serve() {
    let (world, channel) = opened().await;
    let paying = world.voucher(&channel, &Ask::get("/other")).await;
    let mut moved = paying.clone();
    moved.ask = ask();
    world.send(&moved.ask()).await.refused(Code::OfferOtherRoute);
    let mut cheaper = world.voucher(&channel, &ask()).await;
    cheaper.accepted["amount"] = "1".into();
    world.send(&cheaper.ask()).await.refused(Code::OfferNotOurs);
}

#[tokio::test(start_paused = true)]
async fn service_stops_inside_the_refund_lead() {
    let (world, mut channel) = opened().await;
    let timeout = channel.config.refund_timeout_daa;
    let now = world.gateway.chain().tip().borrow().daa_score;
    world.chain.advance(timeout - channel_rules().refund_lead_daa - now - 1);
    world.buy(&mut channel, &ask()).await;
    world.chain.advance(1);
    world.send(&world.voucher(&channel, &ask()).await.ask()).await.refused(Code::RefundWindow);
    // A new channel under the offer of now has time again.
    world.open(&ask(), 2).await;
}

#[tokio::test(start_paused = true)]
async fn limits_of_exposure_name_themselves() {
    let (world, channel) = opened().await;
    let limit = Some(sompi(2 * CEILING - 1));
    for exposure in [
        Exposure { per_channel: limit, ..Exposure::default() },
        Exposure { per_payer: limit, ..Exposure::default() },
        Exposure { per_refund_address: limit, ..Exposure::default() },
        Exposure { total: limit, ..Exposure::default() },
    ] {
        world.reload_channels(|rules| rules.exposure = exposure);
        let got = world.send(&world.voucher(&channel, &ask()).await.ask()).await;
        got.refused(Code::ExposureLimit);
        assert!(got.header("retry-after").is_some());
    }
    assert_eq!(world.gateway.channels.exposure.total(), u128::from(CEILING));
    world.reload_channels(|rules| rules.exposure = Exposure { per_channel: Some(sompi(2 * CEILING)), ..Exposure::default() });
    let mut channel = channel;
    world.buy(&mut channel, &ask()).await;
}

#[tokio::test(start_paused = true)]
async fn claims_and_refunds_are_no_payments() {
    let (world, channel) = opened().await;
    for kind in ["claim", "refund"] {
        let paying = world.voucher(&channel, &ask()).await.changed(|payload| {
            let voucher = payload["voucher"].clone();
            let mut own = serde_json::json!({
                "type": kind, "channelId": payload["channelId"], "fundingOutpoint": payload["fundingOutpoint"],
                "activeScriptPublicKey": payload["activeScriptPublicKey"], "voucher": voucher,
            });
            if kind == "claim" {
                own["claimAmount"] = "1".into();
            } else {
                own["refundAmount"] = "1".into();
                own["refundAddress"] = channel.config.refund_address.clone().into();
            }
            *payload = own;
        });
        world.send(&paying.ask()).await.refused(Code::PaymentTypeNotAllowed);
    }
}

#[tokio::test(start_paused = true)]
async fn the_exact_way_of_the_same_route_still_sells() {
    let (world, _) = opened().await;
    let got = world.send(&ask()).await;
    let offers = got.offers().unwrap();
    assert_eq!(offers["accepts"].as_array().unwrap().len(), 2);
    assert_eq!(batch_of(&got)["extra"]["binding"], "kaspa-escrow-v1");
    let accepted = offers["accepts"][1].clone();
    let signed = world.sign(&accepted, crate::gateway::tests::pay::new_coin());
    let payment = world.present(ask(), accepted, signed, &world.payer).changed(|message| {
        message["extensions"]["payment-identifier"] = crate::wire::identifier::advertise(true).clone();
        message["extensions"]["payment-identifier"]["info"]["id"] = "exact-identifier-1".into();
    });
    world.send(&payment.ask()).await.served(payment.txid);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_ends_late_takes_nothing_from_the_next_ones_count() {
    use crate::gateway::channel::exposure::Tally;
    let (world, channel) = opened().await;
    let (record, limits, tally) = (channel.record(&world).await, Exposure::default(), Tally::default());
    let admit = || tally.admit(&record, sompi(CEILING), &limits, None, 0).unwrap();
    let (first, second) = (admit(), admit());
    tally.finish(&record, first);
    tally.set(&record);
    assert_eq!(tally.total(), 2 * u128::from(CEILING), "one charged, one running");
    tally.finish(&record, second);
    assert_eq!(tally.total(), u128::from(CEILING));
}
