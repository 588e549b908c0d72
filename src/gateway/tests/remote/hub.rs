//! A gateway without a node and the one that settles for it, both whole: strangers, later offers and lost answers between the two.

use super::super::{
    facilitator::{SHOP, call, operation, tenants},
    pay::{Payment, new_coin},
    world::{Ask, FINAL_DEPTH, Got, OFFER_SECONDS, PRICE, World, payee, sompi},
};
use crate::{
    chain::{AcceptedInput, Chain, Output, Tip},
    client::wallet::Wallet,
    gateway::{
        Gateway,
        facilitate::{Act, Facilitator},
        remote::{RemoteAnswer, RemoteError, RemoteFacilitator},
    },
    protocol::{
        limits::DAA_PER_SECOND,
        network::Network,
        policy::Terms,
        refusal::Code,
        requirements::{Finality, FinalityRule},
    },
    store::{PaymentState, Submission},
};
use async_trait::async_trait;
use serde_json::Value;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinHandle;

/// The line between the two.
pub struct Line {
    hub: Arc<Gateway>,
    /// So many answers are lost on their way.
    loses: AtomicUsize,
    /// So many calls never arrive, and their sender does not know.
    swallows: AtomicUsize,
    calls: Mutex<Vec<Value>>,
}

#[async_trait]
impl RemoteFacilitator for Line {
    async fn call(&self, act: Act, call: &Value, _: Duration) -> Result<RemoteAnswer, RemoteError> {
        self.calls.lock().unwrap().push(call.clone());
        let lost = || RemoteError::Unknown("connection reset".into());
        let next = |left: &AtomicUsize| left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if next(&self.swallows) {
            return Err(lost());
        }
        let verdict =
            self.hub.call(self.hub.caller(Some(SHOP.as_bytes())).expect("a tenant"), act, call.to_string().into(), "r-hub".into()).await;
        if next(&self.loses) {
            return Err(lost());
        }
        let retry_after = verdict.retry_after_seconds.map(|seconds| Duration::from_secs(seconds.into()));
        Ok(RemoteAnswer { status: verdict.status, retry_after, body: serde_json::from_slice(&verdict.body).unwrap() })
    }
}

pub struct Both {
    pub edge: World,
    hub: World,
    pub line: Arc<Line>,
}

impl Both {
    pub async fn new() -> Self {
        Self::with(World::new().await).await
    }

    async fn with(edge: World) -> Self {
        let hub = tenants(|tenant| {
            if tenant.name == "shop" {
                tenant.recipients.push(payee(9));
            }
        })
        .await;
        let line = Line { hub: hub.gateway.clone(), loses: AtomicUsize::new(0), swallows: AtomicUsize::new(0), calls: Mutex::default() };
        let both = Self { edge, hub, line: Arc::new(line) };
        both.edge.gateway.settle_through(both.line.clone());
        both
    }

    pub fn hub(&self) -> &World {
        &self.hub
    }

    /// A payment whose inputs the hub's node knows.
    pub async fn pays(&self, request: Ask) -> Payment {
        let payment = self.edge.pay_from(request, new_coin()).await;
        self.known(&payment);
        payment
    }

    fn known(&self, payment: &Payment) {
        let outpoint = payment.signed.transaction.inputs[0].previous_outpoint.into();
        let spent = Output { amount: sompi(5_000_000_000), script_public_key: self.edge.payer.script(), covenant: false };
        self.hub().chain.set_inputs(payment.txid, vec![AcceptedInput { outpoint, signature_script: Vec::new(), spent: Some(spent) }]);
    }

    /// Presented until the time is over; the hub settled it, and the edge never heard.
    async fn settled_unheard(&self) -> Payment {
        let payment = self.pays(Ask::get("/paid")).await.without_proof();
        self.line.loses.store(usize::MAX, Ordering::SeqCst);
        self.edge.send(&payment.ask()).await.pending(Code::SettlementPending, payment.txid);
        self.line.loses.store(0, Ordering::SeqCst);
        assert_eq!(self.hub().record(payment.txid).await.unwrap().state, PaymentState::Delivered);
        payment
    }

    /// The same transaction, for this request, under an offer of one's own.
    async fn copied(&self, payment: &Payment, request: Ask, who: &Wallet) -> Payment {
        let accepted = self.edge.offer(&request).await;
        self.edge.present(request, accepted, payment.signed.clone(), who)
    }

    /// Both have charged once, and one request was served.
    async fn charged_once(&self) {
        for world in [&self.edge, self.hub()] {
            assert_eq!(world.totals().await.charged_sompi, u128::from(PRICE));
        }
        assert_eq!((self.edge.upstream.count(), self.hub().upstream.count()), (1, 0));
    }
}

fn stranger() -> Wallet {
    Wallet::from_secret(Network::Simnet, &[66; 32]).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_strangers_copy_replaces_no_payment_that_was_handed_over() {
    let both = Both::new().await;
    let payment = both.settled_unheard().await;
    assert_eq!(both.edge.record(payment.txid).await.unwrap().submission, Submission::HandedOver);
    both.edge.skip(OFFER_SECONDS + 10);
    let theft = both.copied(&payment, Ask::get("/other"), &stranger()).await;
    both.edge.send(&theft.ask()).await.refused(Code::Replay);
    let before = both.edge.record(payment.txid).await.unwrap();
    assert_eq!(before.request_hash, payment.request_hash);
    // Its offer is long over, and it is known.
    both.edge.send(&payment.ask()).await.served(payment.txid);
    both.charged_once().await;
}

#[tokio::test(start_paused = true)]
async fn while_the_facilitator_is_silent_a_stranger_is_told_to_wait() {
    let both = Both::new().await;
    let payment = both.pays(Ask::get("/paid")).await.without_proof();
    both.line.swallows.store(usize::MAX, Ordering::SeqCst);
    both.edge.send(&payment.ask()).await.pending(Code::SettlementPending, payment.txid);
    let theft = both.copied(&payment, Ask::get("/other"), &stranger()).await;
    both.edge.send(&theft.ask()).await.pending(Code::SettlementPending, payment.txid);
    both.line.swallows.store(0, Ordering::SeqCst);
    both.edge.send(&payment.ask()).await.served(payment.txid);
    both.edge.send(&theft.ask()).await.refused(Code::Replay);
    both.charged_once().await;
}

/// Its payer sent the transaction itself; a stranger copied it from there and came first.
#[tokio::test(start_paused = true)]
async fn a_stranger_who_came_first_keeps_the_payer_waiting_for_one_question() {
    let both = Both::new().await;
    let payment = both.pays(Ask::get("/paid")).await;
    both.hub().chain.submit(&payment.signed.transaction).await;
    let theft = both.copied(&payment, Ask::get("/other"), &stranger()).await.without_proof();
    both.line.loses.store(usize::MAX, Ordering::SeqCst);
    both.edge.send(&theft.ask()).await.pending(Code::SettlementPending, payment.txid);
    both.line.loses.store(0, Ordering::SeqCst);
    both.edge.send(&payment.ask()).await.served(payment.txid);
    both.edge.send(&theft.ask()).await.refused(Code::Replay);
    both.charged_once().await;
}

#[tokio::test(start_paused = true)]
async fn under_a_later_offer_it_is_the_settlement_of_the_first() {
    let both = Both::new().await;
    let payment = both.settled_unheard().await;
    // Another's copy for the same request is charged to the payer, and served to nobody but him.
    let theft = both.copied(&payment, Ask::get("/paid"), &stranger()).await;
    both.edge.send(&theft.clone().without_proof().ask()).await.refused(Code::PayerProofRequired);
    both.edge.send(&theft.ask()).await.refused(Code::PayerProofInvalid);
    assert_eq!(both.edge.upstream.count(), 0);
    let later = both.copied(&payment, Ask::get("/paid"), &both.edge.payer).await;
    assert_ne!(later.request_hash, payment.request_hash);
    both.edge.send(&later.ask()).await.served(payment.txid);
    both.edge.send(&payment.ask()).await.served(payment.txid);
    both.charged_once().await;
}

#[tokio::test(start_paused = true)]
async fn a_later_offer_alone_finds_the_settlement_too() {
    let both = Both::new().await;
    let payment = both.settled_unheard().await;
    both.edge.skip(OFFER_SECONDS + 10);
    let later = both.copied(&payment, Ask::get("/paid"), &both.edge.payer).await;
    both.edge.send(&later.ask()).await.served(payment.txid);
    both.charged_once().await;
}

#[tokio::test(start_paused = true)]
async fn an_identifier_leads_to_the_settlement_of_its_first_payment() {
    let both = Both::new().await;
    let name = "identifier-00001";
    let first = both.pays(Ask::get("/paid")).await.without_proof().named(name);
    both.line.loses.store(usize::MAX, Ordering::SeqCst);
    both.edge.send(&first.ask()).await.pending(Code::SettlementPending, first.txid);
    both.line.loses.store(0, Ordering::SeqCst);
    let second = both.pays(Ask::get("/paid")).await.without_proof().named(name);
    both.edge.send(&second.ask()).await.served(first.txid);
    assert!(!both.hub().chain.submits().contains(&second.txid));
    both.charged_once().await;
}

#[tokio::test(start_paused = true)]
async fn a_payer_who_sent_it_first_proves_the_key_through_the_edge() {
    let both = Both::new().await;
    let payment = both.pays(Ask::get("/paid")).await;
    both.hub().chain.submit(&payment.signed.transaction).await;
    let got = both.edge.send(&payment.clone().without_proof().ask()).await;
    got.refused(Code::PayerProofRequired);
    assert_eq!(got.receipt().unwrap()["extensions"]["kaspa"]["requestHash"], payment.request_hash.to_string());
    // Under a later offer, with the proof for that.
    let later = both.copied(&payment, Ask::get("/paid"), &both.edge.payer).await;
    let got = both.edge.send(&later.clone().without_proof().ask()).await;
    got.refused(Code::PayerProofRequired);
    assert_eq!(got.receipt().unwrap()["extensions"]["kaspa"]["requestHash"], later.request_hash.to_string());
    both.edge.send(&later.ask()).await.served(payment.txid);
    both.charged_once().await;
}

/// Served to who proved the key, and to nobody who came before: neither when he was declined nor when his answer was lost.
#[tokio::test(start_paused = true)]
async fn a_thief_who_came_first_is_not_served_what_the_payer_proved() {
    for lost in [0, usize::MAX] {
        let both = Both::new().await;
        let payment = both.pays(Ask::get("/paid")).await;
        both.hub().chain.submit(&payment.signed.transaction).await;
        let theft = both.copied(&payment, Ask::get("/paid"), &stranger()).await.without_proof();
        both.line.loses.store(lost, Ordering::SeqCst);
        assert_ne!(both.edge.send(&theft.ask()).await.status(), 200);
        both.line.loses.store(0, Ordering::SeqCst);
        both.edge.send(&payment.ask()).await.served(payment.txid);
        assert_eq!(both.edge.record(payment.txid).await.unwrap().submission, Submission::Foreign);
        both.edge.send(&theft.ask()).await.refused(Code::PayerProofRequired);
        both.edge.send(&payment.ask()).await.served(payment.txid);
        both.charged_once().await;
    }
}

/// The hub could not be reached until the offer was long over; the header that was there in time is asked with again.
#[tokio::test(start_paused = true)]
async fn a_proven_payment_is_no_older_for_what_the_hub_kept_it_waiting() {
    let both = Both::new().await;
    // There is no node at an edge: its offers name no score.
    both.edge.chain.set_tip(Tip::default());
    let payment = both.pays(Ask::get("/paid")).await;
    let chain = &both.hub().chain;
    chain.accept_at_once(false);
    chain.submit(&payment.signed.transaction).await;
    chain.accept(payment.txid);
    both.line.swallows.store(usize::MAX, Ordering::SeqCst);
    both.edge.send(&payment.ask()).await.pending(Code::SettlementPending, payment.txid);
    both.line.swallows.store(0, Ordering::SeqCst);
    for world in [&both.edge, both.hub()] {
        world.skip(3 * OFFER_SECONDS);
    }
    chain.advance(3 * OFFER_SECONDS * DAA_PER_SECOND);
    both.edge.send(&payment.ask()).await.served(payment.txid);
    both.charged_once().await;
}

/// The payer sent it and proved the key; the hub says so to nobody without that proof, and the edge gives nothing away meanwhile.
#[tokio::test(start_paused = true)]
async fn what_was_proven_to_the_hub_is_not_given_away_by_a_strangers_question() {
    let both = Both::new().await;
    let payment = both.pays(Ask::get("/paid")).await;
    both.hub().chain.submit(&payment.signed.transaction).await;
    both.line.loses.store(usize::MAX, Ordering::SeqCst);
    both.edge.send(&payment.ask()).await.pending(Code::SettlementPending, payment.txid);
    both.line.loses.store(0, Ordering::SeqCst);
    both.edge.skip(OFFER_SECONDS + 10);
    for _ in 0..2 {
        let theft = both.copied(&payment, Ask::get("/other"), &stranger()).await;
        both.edge.send(&theft.ask()).await.pending(Code::SettlementPending, payment.txid);
    }
    let bare = payment.clone().without_proof();
    both.edge.send(&bare.ask()).await.refused(Code::PayerProofRequired);
    both.edge.send(&payment.ask()).await.served(payment.txid);
    both.charged_once().await;
}

#[tokio::test(start_paused = true)]
async fn the_hub_settles_as_deep_as_the_route_asks() {
    let depth = 50;
    let edge = World::with(move |pricing| {
        for accept in &mut pricing.accepts {
            if let Terms::Exact(exact) = &mut accept.terms {
                exact.finality = FinalityRule { level: Finality::Confirmed, depth };
            }
        }
    })
    .await;
    let both = Both::with(edge).await;
    let payment = both.pays(Ask::get("/paid")).await.without_proof();
    let asked = both.edge.spawn(&payment.ask());
    both.edge.until("submitted", async || both.hub().chain.submits() == [payment.txid]).await;
    both.hub().chain.advance(depth - 1);
    both.edge.pass(Duration::from_secs(2)).await;
    assert_eq!(both.hub().record(payment.txid).await.unwrap().state, PaymentState::Pending, "not deep enough for the route");
    both.hub().chain.advance(2);
    asked.await.unwrap().served(payment.txid);
    assert_eq!(both.hub().record(payment.txid).await.unwrap().finality, FinalityRule { level: Finality::Confirmed, depth });

    // What nobody follows that long cannot be promised.
    let mut call = both.line.calls.lock().unwrap()[0].clone();
    call["confirmations"] = (FINAL_DEPTH + 1).into();
    both.hub().settle(SHOP, &call).await.refused(400, "facilitator_call_malformed");
}

#[tokio::test(start_paused = true)]
async fn an_expired_offer_ends_as_it_does_with_a_node() {
    let expired = async |both: &Both| {
        let payment = both.pays(Ask::get("/paid")).await.without_proof();
        both.edge.skip(OFFER_SECONDS + 10);
        payment
    };
    let both = Both::new().await;
    // Never sent: nothing has moved.
    let payment = expired(&both).await;
    both.edge.send(&payment.ask()).await.refused(Code::OfferExpired);
    assert!(both.edge.record(payment.txid).await.is_none() && both.hub().record(payment.txid).await.is_none());
    assert!(both.hub().chain.submits().is_empty(), "asking sends nothing");
    // On the network: on record, and never asked to pay again.
    let late = expired(&both).await;
    both.hub().chain.submit(&late.signed.transaction).await;
    for _ in 0..2 {
        both.edge.send(&late.ask()).await.refused(Code::PaidLate);
    }
    let record = both.edge.record(late.txid).await.unwrap();
    assert!(record.late && record.state == PaymentState::Pending);
    // Nobody can say: neither an offer nor a verdict.
    let unknown = expired(&both).await;
    both.line.swallows.store(1, Ordering::SeqCst);
    let got: Got = both.edge.send(&unknown.ask()).await;
    assert_eq!((got.status(), got.offers()), (503, None));
    both.edge.send(&unknown.ask()).await.refused(Code::OfferExpired);
}

/// A route at the edge, the same route at the hub, and a call of the edge's own tenant: one output pays them all.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_edge_and_the_doors_of_its_hub_never_both_sell() {
    const RACES: usize = 20;
    let both = Both::new().await;
    let mut won = [0; 3];
    for race in 0..RACES {
        let payment = both.pays(Ask::get("/paid")).await.without_proof();
        let accepted = both.hub().offer(&Ask::get("/paid")).await;
        let at_hub = both.hub().present(Ask::get("/paid"), accepted, payment.signed.clone(), &both.edge.payer).without_proof();
        let mut message = payment.message();
        message["payload"].as_object_mut().unwrap().remove("requestHash");
        let called = call(&message, Some(&operation(9)));
        let doors = async |first: usize| {
            let mut asked: [Option<JoinHandle<Got>>; 2] = [None, None];
            for door in [first, 1 - first] {
                asked[door] = Some(if door == 0 { both.edge.spawn(&payment.ask()) } else { both.hub().spawn(&at_hub.ask()) });
            }
            asked.map(|task| task.expect("both were begun"))
        };
        let [edge, hub] = doors(race % 2).await;
        let settled = both.hub().settle(SHOP, &called).await;
        let (edge, hub) = (edge.await.unwrap(), hub.await.unwrap());
        let sold = [edge.status() == 200, hub.status() == 200, settled.body["success"] == true];
        assert_eq!(sold.iter().filter(|sold| **sold).count(), 1, "{} {} {}", edge.status(), hub.status(), settled.body);
        assert!([(sold[0], edge.status()), (sold[1], hub.status())].iter().all(|(sold, status)| *sold || *status == 409));
        assert!(sold[2] || settled.body["extensions"]["kaspa"]["reason"] == "invalid_kaspa_exact_replay", "{}", settled.body);
        for (count, sold) in won.iter_mut().zip(sold) {
            *count += usize::from(sold);
        }
    }
    let price = u128::from(PRICE);
    assert_eq!(both.hub().totals().await.charged_sompi, u128::try_from(RACES).unwrap() * price);
    assert_eq!(both.edge.totals().await.charged_sompi, u128::try_from(won[0]).unwrap() * price);
    assert_eq!((both.edge.upstream.count(), both.hub().upstream.count()), (won[0], won[1]));
}
