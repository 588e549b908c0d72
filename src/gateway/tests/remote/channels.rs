//! Channels at an edge, with the gateway that keeps them: what its answers lead to, and what they do not.

use super::super::{
    facilitator::{SHOP, call, operation, tenants},
    fakes::{Fault, Verb},
    from_channels::buyer::{CEILING, Channel, DEPOSIT, amount_of, ask},
    shop::{from_channels, policy, server_keys},
    world::{OFFER_SECONDS, World, payee},
};
use crate::{
    gateway::{
        facilitate::{Act, Facilitator},
        remote::{RemoteAnswer, RemoteChannels, RemoteError, RemoteFacilitator},
    },
    protocol::{
        charge::ChargeRule,
        policy::{Policy, Terms},
        refusal::Code,
    },
    store::{PaymentRecord, PaymentState, Query, Selection, Store as _, Submission, channels::ChannelStore as _},
};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

type Change = Arc<dyn Fn(&mut Value) + Send + Sync>;

/// What happens to a settlement on its way.
#[derive(Clone)]
enum Mishap {
    /// The hub is not asked, and this is the answer.
    Instead(u16, Value),
    /// The hub's answer arrives changed.
    Changed(Change),
}

struct Line {
    hub: Arc<crate::gateway::Gateway>,
    mishaps: Mutex<VecDeque<Mishap>>,
    calls: Mutex<Vec<(Act, Value)>>,
    opens: Mutex<bool>,
}

#[async_trait]
impl RemoteFacilitator for Line {
    fn channels(&self) -> Option<RemoteChannels> {
        let server_key = server_keys().iter().nth(1).unwrap().public();
        self.opens.lock().unwrap().then_some(RemoteChannels { server_key, refund_timeout_daa: 100_000 })
    }

    async fn call(&self, act: Act, call: &Value, _: Duration) -> Result<RemoteAnswer, RemoteError> {
        self.calls.lock().unwrap().push((act, call.clone()));
        let charges = act == Act::Settle && call.get("deposit").is_none();
        let mishap = if charges { self.mishaps.lock().unwrap().pop_front() } else { None };
        if let Some(Mishap::Instead(status, body)) = mishap {
            return Ok(RemoteAnswer { status, retry_after: None, body });
        }
        let caller = self.hub.caller(Some(SHOP.as_bytes())).expect("a tenant");
        let verdict = self.hub.call(caller, act, call.to_string().into(), "r-hub".into()).await;
        let mut body = serde_json::from_slice(&verdict.body).unwrap();
        if let Some(Mishap::Changed(change)) = mishap {
            change(&mut body);
        }
        let retry_after = verdict.retry_after_seconds.map(|seconds| Duration::from_secs(seconds.into()));
        Ok(RemoteAnswer { status: verdict.status, retry_after, body })
    }
}

struct Both {
    edge: World,
    hub: World,
    line: Arc<Line>,
}

impl Both {
    async fn new() -> Self {
        let edge = || {
            let sold = |pricing: &mut _| {
                from_channels(pricing, CEILING, ChargeRule::Fixed);
                if let Terms::Channel(terms) = &mut pricing.accepts[0].terms {
                    terms.server_key = None;
                }
            };
            Policy { channels: None, remote_channels: true, ..policy(&sold) }
        };
        let edge = World::of(1, 1_000, Arc::new(edge)).await;
        let hub = tenants(|tenant| {
            if tenant.name == "shop" {
                tenant.recipients.push(payee(9));
            }
        })
        .await;
        let line = Line { hub: hub.gateway.clone(), mishaps: Mutex::default(), calls: Mutex::default(), opens: Mutex::new(true) };
        let both = Self { edge, hub, line: Arc::new(line) };
        both.edge.gateway.settle_through(both.line.clone());
        both
    }

    fn meets(&self, mishaps: impl IntoIterator<Item = Mishap>) {
        self.line.mishaps.lock().unwrap().extend(mishaps);
    }

    async fn records(&self) -> Vec<PaymentRecord> {
        self.edge.store.payments(&Query { selection: Selection::All, after: 0, limit: 100 }).await.unwrap()
    }

    async fn charged(&self, channel: &Channel) {
        let hub = self.hub.store.channel_totals().await.unwrap().charged_sompi;
        assert_eq!((hub, self.edge.totals().await.charged_sompi), (u128::from(channel.charged), u128::from(channel.charged)));
    }
}

fn refused(code: Code) -> Value {
    json!({"success": false, "errorReason": code.error_reason(), "transaction": "", "network": "kaspa:simnet", "extensions": {"kaspa": {"reason": code.as_str()}}})
}

#[tokio::test(start_paused = true)]
async fn an_answer_about_another_charge_is_not_believed() {
    let both = Both::new().await;
    let mut channel = both.edge.open(&ask(), 1).await;
    for (pointer, value) in [
        ("/transaction", json!("00".repeat(32))),
        ("/network", json!("kaspa:testnet-10")),
        ("/amount", json!("1")),
        ("/extensions/kaspa/commitmentId", json!("00".repeat(32))),
        ("/extensions/kaspa/chargedAmount", json!("1")),
        ("/extensions/kaspa/channelState/channelId", json!("00".repeat(32))),
        ("/extensions/kaspa/channelState/chargedCumulativeAmount", json!("1")),
        ("/extensions/kaspa/channelState/claimedCumulativeAmount", json!("1")),
        ("/extensions/kaspa", json!({})),
    ] {
        let before = both.edge.upstream.count();
        let paying = both.edge.voucher(&channel, &ask()).await;
        both.meets([Mishap::Changed(Arc::new(move |body| *body.pointer_mut(pointer).unwrap() = value.clone()))]);
        let got = both.edge.send(&paying.ask()).await;
        got.refused(Code::FacilitatorUnavailable);
        assert!(got.offers().is_none(), "{pointer}");
        let held = both.records().await.pop().unwrap();
        assert_eq!((held.state, held.submission, held.charged), (PaymentState::Pending, Submission::HandedOver, false), "{pointer}");
        // What the hub has charged is told to the same header.
        channel.served(&both.edge.send(&paying.ask()).await);
        assert_eq!(both.edge.upstream.count(), before + 1, "{pointer}");
    }
    both.charged(&channel).await;
}

#[tokio::test(start_paused = true)]
async fn what_may_pass_is_asked_again_and_only_a_refusal_frees() {
    let both = Both::new().await;
    let mut channel = both.edge.open(&ask(), 1).await;
    let unknown = json!({"success": false, "extensions": {"kaspa": {"reason": "of_the_future"}}});
    for (status, answer) in [
        (200, refused(Code::ChannelBusy)),
        (503, refused(Code::InFlight)),
        (503, refused(Code::StoreUnavailable)),
        (200, unknown),
        (502, Value::Null),
        (200, json!({"success": "yes"})),
    ] {
        let paying = both.edge.voucher(&channel, &ask()).await;
        both.meets(vec![Mishap::Instead(status, answer.clone()); 1_000]);
        let got = both.edge.send(&paying.ask()).await;
        assert_eq!((got.status(), got.offers()), (503, None), "{answer}");
        both.line.mishaps.lock().unwrap().clear();
        let before = both.edge.upstream.count();
        channel.served(&both.edge.send(&paying.ask()).await);
        assert_eq!(both.edge.upstream.count(), before, "the answer was held: {answer}");
    }
    both.charged(&channel).await;
    let known = both.records().await.len();
    for code in [Code::VoucherAmount, Code::ExposureLimit, Code::ChannelClosed, Code::OfferReused] {
        let paying = both.edge.voucher(&channel, &ask()).await;
        both.meets([Mishap::Instead(200, refused(code))]);
        let got = both.edge.send(&paying.ask()).await;
        got.refused(code);
        assert_eq!(both.records().await.len(), known, "{code}: freed");
    }
    // The voucher is good for another try.
    let paying = both.edge.voucher(&channel, &ask()).await;
    channel.served(&both.edge.send(&paying.ask()).await);
    both.charged(&channel).await;
}

#[tokio::test(start_paused = true)]
async fn without_a_word_of_the_hub_about_channels_nothing_is_offered() {
    let both = Both::new().await;
    let mut channel = both.edge.open(&ask(), 1).await;
    let paying = both.edge.voucher(&channel, &ask()).await;
    *both.line.opens.lock().unwrap() = false;
    assert!(both.edge.gateway.readiness().unwrap_err().starts_with("facilitator_unavailable"));
    let got = both.edge.send(&ask()).await;
    assert_eq!((got.status(), got.offers()), (503, None));
    // What was offered is honoured.
    channel.served(&both.edge.send(&paying.ask()).await);
    *both.line.opens.lock().unwrap() = true;
    channel.served(&both.edge.send(&both.edge.voucher(&channel, &ask()).await.ask()).await);
    both.charged(&channel).await;
}

#[tokio::test(start_paused = true)]
async fn nobodys_money_is_locked_up_for_an_offer_that_is_over() {
    let both = Both::new().await;
    let channel = both.edge.channel(&ask(), 1, DEPOSIT).await;
    let paying = both.edge.deposit(&channel, &ask()).await;
    both.edge.skip(OFFER_SECONDS + 10);
    both.edge.send(&paying.ask()).await.refused(Code::OfferExpired);
    assert!(both.hub.chain.submits().is_empty(), "the deposit was not sent");
    assert!(both.records().await.is_empty());
    assert_eq!(both.edge.upstream.count(), 0);
}

/// The deposit waits for the chain for longer than its offer lives: its payer is told of the channel, and not asked for another deposit.
#[tokio::test(start_paused = true)]
async fn who_deposited_for_an_offer_that_is_over_by_then_is_told_of_the_channel() {
    let both = Both::new().await;
    both.hub.chain.accept_at_once(false);
    let channel = both.edge.channel(&ask(), 1, DEPOSIT).await;
    let paying = both.edge.deposit(&channel, &ask()).await;
    let got = both.edge.send(&paying.ask()).await;
    assert_eq!((got.status(), got.offers()), (503, None));
    let [sent] = &both.hub.chain.submits()[..] else { panic!("the deposit was sent once") };
    both.hub.chain.accept(*sent);
    both.hub.chain.advance(10);
    both.edge.pass(Duration::from_secs(1)).await;
    both.edge.skip(OFFER_SECONDS + 10);
    let got = both.edge.send(&paying.ask()).await;
    got.refused(Code::OfferExpired);
    let offers = got.offers().unwrap();
    let told = offers["accepts"].as_array().unwrap().iter().find(|offer| offer["scheme"] == "batch-settlement").unwrap();
    assert_eq!(told["extra"]["channelState"]["fundingAmount"], DEPOSIT.to_string(), "{told}");
    assert_eq!(told["extra"]["voucherState"], json!({"amount": "0"}));
    assert_eq!(both.edge.upstream.count(), 0);
}

/// The store failed before a charge was asked for, and the same purchase comes under another offer: what is asked for, and for ever, is that one.
#[tokio::test(start_paused = true)]
async fn what_was_left_before_it_was_asked_for_is_claimed_as_it_comes_again() {
    let both = Both::new().await;
    let mut channel = both.edge.open(&ask(), 1).await;
    let first = both.edge.voucher(&channel, &ask()).await.named("the-same-purchase");
    // It is looked for, and its answer is not written down.
    both.edge.store.fail(Verb::Other, Fault::Good);
    both.edge.store.fail(Verb::Other, Fault::Before);
    both.edge.send(&first.ask()).await.refused(Code::StoreUnavailable);
    let left = both.records().await.pop().unwrap();
    assert_eq!((left.state, left.submission), (PaymentState::Pending, Submission::None));

    let again = both.edge.voucher(&channel, &ask()).await.named("the-same-purchase");
    assert_ne!(again.message(), first.message());
    channel.served(&both.edge.send(&again.ask()).await);
    let record = both.records().await.pop().unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&record.transaction).unwrap()["accepted"], again.message()["accepted"]);
    assert_ne!(record.identifier, left.identifier, "it used its own offer");
    both.charged(&channel).await;
}

/// A claim shows everybody the voucher that it used; what the channel bought before is not theirs.
#[tokio::test(start_paused = true)]
async fn a_voucher_for_another_output_of_the_channel_is_told_nothing() {
    let both = Both::new().await;
    let mut channel = both.edge.open(&ask(), 1).await;
    let paying = both.edge.voucher(&channel, &ask()).await.named("bought-by-the-payer");
    channel.served(&both.edge.send(&paying.ask()).await);
    let own = channel.outpoint;
    channel.outpoint.index += 1;
    let shown = both.edge.voucher(&channel, &ask()).await.named("bought-by-the-payer");
    both.edge.send(&shown.ask()).await.refused(Code::Replay);
    channel.outpoint = own;
    both.edge.send(&paying.ask()).await.header("payment-response").expect("a replay");
}

#[tokio::test(start_paused = true)]
async fn the_hub_tells_a_charge_whose_outpoint_it_has_forgotten_and_charges_what_it_is_told() {
    let both = Both::new().await;
    let mut channel = both.edge.open(&ask(), 1).await;
    let accepted = both.edge.batch_offer(&ask()).await;
    let message = channel.paying(&ask(), accepted.clone()).named("identifier-of-mine").message();
    let mut body = call(&message, Some(&operation(7)));
    body["charge"] = (amount_of(&accepted) + 1).to_string().into();
    both.hub.settle(SHOP, &body).await.refused(400, "charge_above_amount");
    body["charge"] = "400000".into();
    body["deposit"] = true.into();
    both.hub.settle(SHOP, &body).await.refused(400, "facilitator_call_malformed");
    body.as_object_mut().unwrap().remove("charge");
    both.hub.settle(SHOP, &body).await.refused(400, "facilitator_call_malformed");
    body.as_object_mut().unwrap().remove("deposit");
    body["charge"] = "400000".into();
    both.hub.verify(SHOP, &body).await.refused(400, "facilitator_call_malformed");
    let told = both.hub.settle(SHOP, &body).await;
    told.settled();
    assert_eq!(channel.read(&told.body), 400_000);
    // The same operation of the same tenant, with a voucher that proves nothing any more.
    body["paymentPayload"]["payload"]["fundingOutpoint"]["txid"] = "5c".repeat(32).into();
    let again = both.hub.settle(SHOP, &body).await;
    again.settled();
    assert_eq!(again.body["transaction"], told.body["transaction"]);
    body["requestHash"] = operation(8).into();
    both.hub.settle(SHOP, &body).await.refused(200, "channel_unknown");
}

#[tokio::test(start_paused = true)]
async fn requests_of_one_channel_wait_for_each_other_at_one_edge() {
    let both = Both::new().await;
    let mut channel = both.edge.open(&ask(), 1).await;
    let [one, other] = [both.edge.voucher(&channel, &ask()).await, both.edge.voucher(&channel, &ask()).await];
    let asked = [both.edge.spawn(&one.ask()), both.edge.spawn(&other.ask())];
    let mut answers = Vec::new();
    for asked in asked {
        answers.push(asked.await.unwrap());
    }
    answers.sort_by_key(|got| got.status());
    channel.served(&answers[0]);
    // It was looked at again when the first one was through, and told what the hub says of the channel.
    answers[1].refused(Code::VoucherAmount);
    let accepts = answers[1].offers().unwrap()["accepts"].clone();
    let told = accepts.as_array().unwrap().iter().find(|offer| offer["scheme"] == "batch-settlement").unwrap();
    assert_eq!(told["extra"]["channelState"]["chargedCumulativeAmount"], channel.charged.to_string());
    assert!(told["extra"]["voucherState"]["signature"].is_string());
    assert_eq!(both.edge.upstream.count(), 2, "the one that opened the channel, and the one that paid");
    both.charged(&channel).await;
}
