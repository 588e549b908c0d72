//! A till that lies in its receipts, in its corrections, and on the chain.

use super::{
    buyer::{Buyer, KAS, Setup, cost},
    shop::Fault,
    till::sompi,
};
use kas402::client::{
    channel::{ChannelError, Cost, Want, account::Lie, record::FlightState, record::Phase},
    paid::Fetched,
};
use serde_json::{Value, json};

type Expect = fn(&Lie) -> bool;

fn plus(value: &mut Value, more: i64) {
    let number: i64 = value.as_str().unwrap().parse().unwrap();
    *value = json!((number + more).to_string());
}

#[tokio::test]
async fn a_lying_receipt_is_reported_and_ends_the_channel() {
    let kaspa = "/extensions/kaspa";
    let other: Expect = |lie| matches!(lie, Lie::Other(_));
    for (name, pointer, change, expect) in [
        ("another charge", "/chargedAmount", (|value| plus(value, 1)) as fn(&mut Value), other),
        ("no commitment", "/commitmentId", |value| *value = Value::Null, |lie| matches!(lie, Lie::Unreadable(_))),
        ("no state", "/channelState", |value| *value = Value::Null, |lie| matches!(lie, Lie::Unreadable(_))),
        ("more in all", "/channelState/chargedCumulativeAmount", |value| plus(value, 1), |lie| matches!(lie, Lie::Commitment)),
        ("less in all", "/channelState/chargedCumulativeAmount", |value| plus(value, -1), |lie| matches!(lie, Lie::Commitment)),
        ("more claimed", "/channelState/claimedCumulativeAmount", |value| plus(value, 1), |lie| matches!(lie, Lie::Claimed { .. })),
        ("less held", "/channelState/fundingAmount", |value| plus(value, -1), |lie| matches!(lie, Lie::Funding { .. })),
        ("more signed", "/channelState/signedMaxClaimable", |value| plus(value, 1), |lie| matches!(lie, Lie::Signed { .. })),
        ("another channel", "/channelState/channelId", |value| *value = json!("00".repeat(32)), other),
        ("another outpoint", "/channelState/activeOutpoint/index", |value| *value = json!(7), other),
        ("another script", "/channelState/activeScriptPublicKey", |value| *value = json!("00".repeat(37)), other),
    ] {
        let buyer = Buyer::new(Setup::default());
        buyer.pay("/pay/1000000/1000").await;
        buyer.counter.till.mood(|mood| {
            mood.receipt = Some(Box::new(move |receipt| change(receipt.pointer_mut(&format!("{kaspa}{pointer}")).unwrap())));
        });
        disputed(&buyer, name, expect).await;
    }
}

/// Consistent in itself: amount, state and commitment fit each other, but not what was authorised or known.
#[tokio::test]
async fn a_receipt_that_is_consistent_and_wrong_is_reported_too() {
    let name = "a charge above the ceiling";
    let buyer = Buyer::new(Setup::default());
    buyer.pay("/pay/1000000/1000").await;
    buyer.counter.till.mood(|mood| {
        mood.receipt = Some(Box::new(|receipt| {
            receipt["amount"] = json!("1000001");
            receipt["extensions"]["kaspa"]["chargedAmount"] = json!("1000001");
        }));
    });
    disputed(&buyer, name, |lie| matches!(lie, Lie::AboveCeiling { .. })).await;

    for shift in [1, 500_000, 998_000, -1] {
        let buyer = Buyer::new(Setup::default());
        buyer.pay("/pay/1000000/1000").await;
        buyer.counter.till.mood(|mood| mood.shift = shift);
        disputed(&buyer, "charges that were never made", |lie| matches!(lie, Lie::Charged { .. })).await;
    }
}

async fn disputed(buyer: &Buyer, name: &str, expect: Expect) {
    let before = buyer.channel().account;
    let fetched = buyer.fetch("/pay/1000000/2000").await.unwrap();
    let Fetched::Charged { reply, charge } = fetched else { panic!("{name}: {fetched:?}") };
    assert_eq!(&reply.body[..], b"the goods", "{name}: what was paid for is not taken away");
    let Cost::Disputed(lie) = &charge.cost else { panic!("{name}: {:?}", charge.cost) };
    assert!(expect(lie), "{name}: {lie}");
    let channel = buyer.channel();
    assert_eq!(
        (channel.phase, channel.account.charged, channel.account.claimed),
        (Phase::Disputed, before.charged, before.claimed),
        "{name}"
    );
    assert_eq!(buyer.journal.flights(&channel.id, 1).unwrap()[0].state, FlightState::Disputed);
    assert!(buyer.journal.channel_events(&channel.id).unwrap().iter().any(|event| event.words.contains(&lie.to_string())), "{name}");
    // Nothing more is signed for this server, in this channel or another, also after a restart.
    let sent = buyer.counter.sent().len();
    let again = buyer.restarted(Setup::default());
    for target in ["/pay/1000000/2000", "/pay/1000000/3000"] {
        let error = again.fetch(target).await.expect_err("refused");
        assert!(matches!(error, ChannelError::Unusable { .. }), "{name}: {error}");
    }
    assert_eq!(buyer.counter.sent().len(), sent, "{name}");
}

#[tokio::test]
async fn a_lying_correction_is_not_followed() {
    for (name, change, expect) in [
        (
            "more is charged than was authorised",
            (|said| plus(&mut said["channelState"]["chargedCumulativeAmount"], 1_000_000)) as fn(&mut Value),
            (|lie| matches!(lie, Lie::Charged { .. })) as Expect,
        ),
        (
            "a sompi more is charged",
            |said| plus(&mut said["channelState"]["chargedCumulativeAmount"], 1),
            |lie| matches!(lie, Lie::Charged { .. }),
        ),
        (
            "less is charged",
            |said| plus(&mut said["channelState"]["chargedCumulativeAmount"], -1),
            |lie| matches!(lie, Lie::Charged { .. }),
        ),
        ("more is claimed", |said| plus(&mut said["channelState"]["claimedCumulativeAmount"], 1), |lie| matches!(lie, Lie::Claimed { .. })),
        ("less is held", |said| plus(&mut said["channelState"]["fundingAmount"], -1), |lie| matches!(lie, Lie::Funding { .. })),
        (
            "another script",
            |said| said["channelState"]["activeScriptPublicKey"] = json!("00".repeat(37)),
            |lie| matches!(lie, Lie::Other(_)),
        ),
        (
            "a voucher that was not signed",
            |said| said["voucherState"]["signature"] = json!("07".repeat(64)),
            |lie| matches!(lie, Lie::Voucher),
        ),
        (
            "a voucher of another amount",
            |said| {
                plus(&mut said["voucherState"]["amount"], 1);
                plus(&mut said["channelState"]["signedMaxClaimable"], 1);
            },
            |lie| matches!(lie, Lie::Voucher),
        ),
        ("two amounts", |said| plus(&mut said["voucherState"]["amount"], 1), |lie| matches!(lie, Lie::Signed { .. })),
        ("no voucher", |said| said["voucherState"] = json!({"amount": said["voucherState"]["amount"]}), |lie| matches!(lie, Lie::Voucher)),
    ] {
        let buyer = Buyer::new(Setup::default());
        buyer.pay("/pay/1000000/1000").await;
        let before = buyer.channel().account;
        buyer.counter.till.mood(|mood| {
            mood.correction = Some(Box::new(change));
            // A voucher that would be right is refused as wrong, to be told where the channel stands.
            mood.misjudge = true;
        });
        let error = buyer.fetch("/pay/1000000/2000").await.expect_err(name);
        let ChannelError::Wrong { lie, .. } = &error else { panic!("{name}: {error}") };
        assert!(expect(lie), "{name}: {lie}");
        let after = buyer.channel();
        assert_eq!(
            (after.phase, after.account.charged, after.account.claimed),
            (Phase::Disputed, before.charged, before.claimed),
            "{name}"
        );
        assert_eq!(buyer.counter.sent().len(), 2, "{name}: nothing more was signed");
    }
}

#[tokio::test]
async fn a_new_outpoint_is_believed_only_when_the_own_node_shows_it() {
    let claims_to_have_moved = |said: &mut Value| {
        said["channelState"]["activeOutpoint"] = json!({"txid": "ab".repeat(32), "index": 1});
        said["channelState"]["signedMaxClaimable"] = json!("0");
        said["voucherState"] = json!({"amount": "0"});
    };
    let buyer = Buyer::new(Setup { total: std::time::Duration::from_millis(400), ..Setup::default() });
    buyer.pay("/pay/1000000/1000").await;
    buyer.counter.till.mood(|mood| {
        mood.correction = Some(Box::new(claims_to_have_moved));
        mood.misjudge = true;
    });
    let error = buyer.fetch("/pay/1000000/2000").await.expect_err("not shown");
    assert!(matches!(error, ChannelError::NotShown { .. } | ChannelError::InFlight { .. }), "{error}");
    assert_eq!(buyer.counter.sent().len(), 2);
    let outpoint = buyer.channel().account.outpoint;
    assert_eq!(buyer.counter.till.books(&buyer.id()).await.4, outpoint, "the books did not move");

    // Without a node nothing can be checked, and nothing is followed.
    let buyer = Buyer::new(Setup::default());
    buyer.pay("/pay/5000000/5000000").await;
    buyer.counter.till.claim(&buyer.id()).await;
    let blind = buyer.restarted(Setup { node: false, ..Setup::default() });
    let error = blind.fetch("/pay/5000000/2000").await.expect_err("blind");
    assert!(matches!(&error, ChannelError::Unpaid(unpaid) if unpaid.to_string().contains("--node")), "{error}");
    assert_eq!(buyer.pay("/pay/5000000/2000").await, 2_000, "with a node it is");
    buyer.agrees().await;
}

#[tokio::test]
async fn a_claim_that_took_more_than_was_owed_ends_the_channel_and_the_rest_comes_back() {
    let buyer = Buyer::new(Setup::default());
    buyer.pay("/pay/9000000/5000000").await;
    let id = buyer.id();
    buyer.counter.till.steal(&id).await;
    let error = buyer.fetch("/pay/9000000/1000").await.expect_err("overtaken");
    assert!(matches!(error, ChannelError::Wrong { lie: Lie::TookTooMuch { .. }, .. }), "{error}");
    let channel = buyer.channel();
    assert_eq!((channel.phase, channel.account.claimed.sompi()), (Phase::Disputed, 9_000_000));
    assert_eq!(channel.account.funding.sompi(), super::DEPOSIT - 9_000_000);
    assert!(matches!(buyer.fetch("/pay/9000000/1000").await, Err(ChannelError::Unusable { .. })));
    buyer.chain.advance(super::TIMEOUT);
    let refunded = buyer.refund(&id).await.unwrap();
    assert_eq!(refunded.amount.sompi() + refunded.fee.sompi(), super::DEPOSIT - 9_000_000);
}

#[tokio::test]
async fn a_claim_of_a_charge_whose_receipt_was_lost_is_within_what_was_authorised() {
    let buyer = Buyer::new(Setup { total: std::time::Duration::from_millis(150), ..Setup::default() });
    buyer.pay("/pay/9000000/5000000").await;
    buyer.counter.till.mood(|mood| mood.mute = true);
    buyer.counter.faults(&[Fault::LoseAnswer; 1_000]);
    buyer.fetch("/pay/9000000/4000000").await.expect_err("lost");
    buyer.counter.faults(&[]);
    buyer.counter.till.mood(|mood| mood.mute = false);
    let id = buyer.id();
    buyer.counter.till.claim(&id).await;
    let buyer = buyer.restarted(Setup::default());
    let channel = buyer.sync(&id).await.unwrap();
    assert_eq!((channel.account.charged.sompi(), channel.account.claimed.sompi()), (9_000_000, 9_000_000), "the chain told");
    buyer.pay("/pay/9000000/1000").await;
    buyer.agrees().await;
}

#[tokio::test]
async fn the_server_may_insist_on_a_channel_again_only_when_the_user_does() {
    let buyer = Buyer::new(Setup::default());
    buyer.pay("/pay/1000000/1000").await;
    buyer.counter.till.mood(|mood| mood.receipt = Some(Box::new(|receipt| receipt["amount"] = json!("7"))));
    buyer.fetch("/pay/1000000/2000").await.unwrap();
    buyer.counter.till.mood(|mood| mood.receipt = None);
    let open = |another| Want::Open { deposit: sompi(5 * KAS), another };
    let request = buyer.request("/pay/1000000/3000");
    assert!(matches!(buyer.ask(&request, open(false), false).await, Err(ChannelError::Unusable { .. })));
    assert_eq!(cost(buyer.ask(&request, open(true), false).await), 3_000);
}
