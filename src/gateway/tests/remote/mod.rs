//! A gateway whose payments somebody else settles: what each answer of the facilitator leads to, and that a lost one costs nobody money.

mod channels;
mod hub;

use super::{
    fakes::{Fault, Verb},
    pay::Payment,
    world::{Ask, World},
};
use crate::{
    gateway::facilitate::Act,
    gateway::remote::{RemoteAnswer, RemoteError, RemoteFacilitator},
    protocol::refusal::Code,
    store::{PaymentState, Submission},
};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

/// Answers by a script; afterwards nothing is known of it any more.
#[derive(Default)]
struct Script {
    answers: Mutex<VecDeque<Result<(u16, Value), RemoteError>>>,
    calls: Mutex<Vec<Value>>,
}

impl Script {
    fn will(&self, answers: impl IntoIterator<Item = Result<(u16, Value), RemoteError>>) {
        self.answers.lock().unwrap().extend(answers);
    }

    fn calls(&self) -> Vec<Value> {
        self.calls.lock().unwrap().clone()
    }
}

#[async_trait]
impl RemoteFacilitator for Script {
    async fn call(&self, act: Act, call: &Value, _: Duration) -> Result<RemoteAnswer, RemoteError> {
        if act == Act::Settle {
            self.calls.lock().unwrap().push(call.clone());
        }
        let next = self.answers.lock().unwrap().pop_front();
        let (status, body) = next.unwrap_or_else(|| Err(RemoteError::NotSent("connection refused".into())))?;
        Ok(RemoteAnswer { status, retry_after: None, body })
    }
}

fn lost() -> Result<(u16, Value), RemoteError> {
    Err(RemoteError::Unknown("connection reset".into()))
}

fn settled(payment: &Payment) -> Value {
    json!({
        "success": true, "transaction": payment.txid, "network": "kaspa:simnet", "payer": "kaspasim:payer",
        "amount": payment.accepted["amount"], "extensions": {"kaspa": {}},
    })
}

fn refused(code: Code) -> Value {
    json!({"success": false, "errorReason": code.error_reason(), "transaction": "", "network": "kaspa:simnet", "extensions": {"kaspa": {"reason": code.as_str()}}})
}

async fn edge() -> (World, Arc<Script>) {
    let world = World::new().await;
    let script = Arc::new(Script::default());
    world.gateway.settle_through(script.clone());
    (world, script)
}

async fn bought(world: &World) -> Payment {
    world.pay(Ask::get("/paid")).await.without_proof()
}

#[tokio::test(start_paused = true)]
async fn a_settlement_elsewhere_is_charged_here_and_then_forwarded() {
    let (world, script) = edge().await;
    let payment = bought(&world).await;
    script.will([Ok((200, settled(&payment)))]);
    let got = world.send(&payment.ask()).await;
    got.served(payment.txid);
    assert_eq!(got.receipt().unwrap()["payer"], "kaspasim:payer");
    let record = world.record(payment.txid).await.unwrap();
    assert_eq!((record.state, record.submission, record.charged), (PaymentState::Delivered, Submission::Own, true));
    assert!(world.chain.submits().is_empty() && world.chain.followed() == 0, "there is no node to ask");
    let [call] = &script.calls()[..] else { panic!("one call") };
    assert_eq!((&call["paymentRequirements"], &call["paymentPayload"]["accepted"]), (&payment.accepted, &payment.accepted));
    assert_eq!(call["requestHash"], payment.request_hash.to_string());
    // Told again from here.
    world.send(&payment.ask()).await.served(payment.txid);
    assert_eq!((script.calls().len(), world.upstream.count()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_asked_for_with_the_same_call() {
    let (mut world, script) = edge().await;
    let payment = bought(&world).await;
    script.will([
        lost(),
        Ok((503, refused(Code::SettlementPending))),
        Err(RemoteError::NotSent("refused".into())),
        Ok((200, settled(&payment))),
    ]);
    world.send(&payment.ask()).await.served(payment.txid);
    let calls = script.calls();
    assert!(calls.len() == 4 && calls.iter().all(|call| call == &calls[0]), "{calls:?}");

    // Never answered: no offer, and the same call again from the next process.
    let payment = bought(&world).await;
    script.will(std::iter::repeat_with(lost).take(1_000));
    world.send(&payment.ask()).await.pending(Code::SettlementPending, payment.txid);
    let before = script.calls().last().unwrap().clone();
    world.die();
    world.restart().await;
    let script = Arc::new(Script::default());
    world.gateway.settle_through(script.clone());
    script.will([Ok((200, settled(&payment)))]);
    world.send(&payment.ask()).await.served(payment.txid);
    assert_eq!(script.calls(), [before]);
    assert_eq!(world.upstream.count(), 2);
}

/// The process may end, or the store be gone for a moment, between the two.
#[tokio::test(start_paused = true)]
async fn what_was_settled_and_not_yet_booked_is_booked_by_the_next_request() {
    let (world, script) = edge().await;
    let payment = bought(&world).await;
    script.will(std::iter::repeat_with(|| Ok((200, settled(&payment)))).take(2));
    world.store.fail(Verb::Settled, Fault::Before);
    assert_eq!(world.send(&payment.ask()).await.status(), 503);
    let record = world.record(payment.txid).await.unwrap();
    assert_eq!((record.state, record.submission), (PaymentState::Pending, Submission::Own));
    world.send(&payment.ask()).await.served(payment.txid);
    assert_eq!((world.upstream.count(), script.calls().len()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn an_answer_about_another_payment_is_none() {
    let (world, script) = edge().await;
    for (name, value) in [
        ("transaction", json!("00".repeat(32))),
        ("transaction", Value::Null),
        ("network", json!("kaspa:testnet-10")),
        ("amount", json!("1")),
        ("amount", json!(25_000_000)),
    ] {
        let payment = bought(&world).await;
        let mut answer = settled(&payment);
        answer[name] = value;
        script.will([Ok((200, answer.clone()))]);
        let got = world.send(&payment.ask()).await;
        got.refused(Code::FacilitatorUnavailable);
        assert_eq!(world.record(payment.txid).await.unwrap().state, PaymentState::Pending, "{answer}");
    }
    assert_eq!((world.upstream.count(), world.totals().await.charged_sompi), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn only_a_proof_that_nothing_moved_frees_a_payment() {
    let (world, script) = edge().await;
    for code in [Code::TransactionRejected, Code::OutputRecipient, Code::TransactionForm] {
        let payment = bought(&world).await;
        script.will([Ok((200, refused(code)))]);
        world.send(&payment.ask()).await.refused(code);
        assert!(world.record(payment.txid).await.is_none(), "{code}");
    }
    for (status, code, expect) in [
        (200, Code::Replay, Code::Replay),
        (200, Code::ForeignTransaction, Code::ForeignTransaction),
        (200, Code::PayerProofRequired, Code::PayerProofRequired),
        (401, Code::TenantUnknown, Code::FacilitatorUnavailable),
        (403, Code::TenantRecipient, Code::FacilitatorUnavailable),
    ] {
        let payment = bought(&world).await;
        script.will([Ok((status, refused(code)))]);
        let got = world.send(&payment.ask()).await;
        got.refused(expect);
        assert!(got.offers().is_none());
        assert_eq!(world.record(payment.txid).await.unwrap().state, PaymentState::Pending, "{code}");
    }
    // A word that this version does not know proves nothing; neither does an answer that is none.
    for answer in [json!({"success": false, "extensions": {"kaspa": {"reason": "of_the_future"}}}), Value::Null, json!({"success": true})] {
        let payment = bought(&world).await;
        script.will(std::iter::repeat_with(|| Ok((if answer.is_null() { 502 } else { 200 }, answer.clone()))).take(100));
        let got = world.send(&payment.ask()).await;
        assert_eq!((got.status(), got.offers()), (503, None), "{answer}");
        script.answers.lock().unwrap().clear();
    }
    assert_eq!((world.upstream.count(), world.totals().await.charged_sompi), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_facilitator_that_is_not_there_is_waited_for_and_then_the_header_resumes() {
    let (world, script) = edge().await;
    let payment = bought(&world).await;
    let got = world.send(&payment.ask()).await;
    got.pending(Code::FacilitatorUnavailable, payment.txid);
    assert!(script.calls().len() > 10, "it was asked until the time was over");
    script.will([Ok((200, settled(&payment)))]);
    world.send(&payment.ask()).await.served(payment.txid);
}
