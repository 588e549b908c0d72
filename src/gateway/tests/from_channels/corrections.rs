//! What who is told when a voucher does not fit.

use super::buyer::{CEILING, Channel, DEPOSIT, amount_of, ask, batch_of, keypair, sign};
use crate::{
    binding::escrow_v1::SignedVoucher,
    gateway::tests::world::{Got, World, sompi},
    protocol::{charge::ChargeRule, refusal::Code},
};
use serde_json::{Value, json};

async fn opened() -> (World, Channel) {
    let world = World::channels(CEILING, ChargeRule::Fixed).await;
    let mut channel = world.open(&ask(), 1).await;
    world.buy(&mut channel, &ask()).await;
    (world, channel)
}

/// Both states, and they are the client's own.
#[track_caller]
fn corrected(got: &Got, channel: &Channel) -> Value {
    let offer = batch_of(got);
    let (state, voucher) = (&offer["extra"]["channelState"], &offer["extra"]["voucherState"]);
    assert_eq!(state["chargedCumulativeAmount"], channel.charged.to_string(), "{offer}");
    assert_eq!(state["activeOutpoint"], json!(channel.outpoint));
    assert_eq!(voucher["amount"], channel.signed.to_string());
    let signature = voucher["signature"].as_str().expect("a signature").parse().unwrap();
    assert!(SignedVoucher { amount: sompi(channel.signed), signature }.verify(&channel.script, channel.outpoint));
    offer
}

#[tokio::test(start_paused = true)]
async fn the_holder_of_the_key_is_corrected_and_pays_by_the_correction() {
    let (world, mut channel) = opened().await;
    for wrong in [1, CEILING, 2 * CEILING, 3 * CEILING - 1, 3 * CEILING + 1, DEPOSIT] {
        let paying = channel.paying_exactly(&ask(), world.batch_offer(&ask()).await, wrong);
        let got = world.send(&paying.ask()).await;
        got.refused(Code::VoucherAmount);
        corrected(&got, &channel);
    }
    assert_eq!(world.upstream.count(), 2);
    // The corrective offer is an offer: it is paid as it was sent, states included.
    let got = world.send(&channel.paying_exactly(&ask(), world.batch_offer(&ask()).await, 1).ask()).await;
    let offer = corrected(&got, &channel);
    channel.served(&world.send(&channel.paying(&ask(), offer).ask()).await);
}

#[tokio::test(start_paused = true)]
async fn anybody_else_learns_nothing() {
    let (world, channel) = opened().await;
    let thief = keypair(&[66; 32]);
    let unknown = Channel::under(&world.batch_offer(&ask()).await, 9, DEPOSIT);
    let accepted = world.batch_offer(&ask()).await;
    let amount = channel.active() + amount_of(&accepted);
    let stolen = SignedVoucher::sign(&channel.script, channel.outpoint, sompi(amount), |digest| sign(&thief, digest));
    let forged = channel.paying(&ask(), accepted.clone()).changed(|payload| payload["voucher"] = json!(stolen));
    let other_outpoint = channel.paying(&ask(), accepted.clone()).changed(|payload| payload["fundingOutpoint"]["index"] = json!(7));
    let other_channel = unknown.paying(&ask(), accepted);
    let mut answers = Vec::new();
    for paying in [forged, other_outpoint, other_channel] {
        let got = world.send(&paying.ask()).await;
        got.refused(Code::ChannelUnknown);
        let offer = batch_of(&got);
        assert!(offer["extra"].get("channelState").is_none() && offer["extra"].get("voucherState").is_none());
        let mut words: Value = serde_json::from_slice(&got.answer.body).unwrap();
        words["accepts"] = Value::Null;
        answers.push(words);
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "unknown and unproven look the same");
    assert_eq!(world.upstream.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_short_balance_is_corrected() {
    let world = World::channels(60_000_000, ChargeRule::Fixed).await;
    let mut channel = world.channel(&ask(), 1, 150_000_000).await;
    let paying = world.deposit(&channel, &ask()).await;
    channel.served(&world.send(&paying.ask()).await);
    let mut served = 1;
    let got = loop {
        let got = world.send(&world.voucher(&channel, &ask()).await.ask()).await;
        if got.status() != 200 {
            break got;
        }
        channel.served(&got);
        served += 1;
    };
    got.refused(Code::ChannelBalance);
    corrected(&got, &channel);
    assert_eq!((world.upstream.count(), channel.charged), (served, u64::try_from(served).unwrap() * 60_000_000));
}
