//! The same payment again: the stored response, once served; never a second forward or charge.

use super::{
    fakes::{Body, Script, answer},
    pay::new_coin,
    world::{Ask, PRICE, World},
};
use crate::protocol::{limits::ENTITLEMENT_SECONDS, refusal::Code};

fn cookie() -> Script {
    let headers = vec![("content-type", "text/plain"), ("etag", "e1"), ("set-cookie", "s=1"), ("payment-required", "forged")];
    Script::Answer { status: 201, headers, body: Body::Whole(vec!["he".into(), "llo".into()]) }
}

#[tokio::test(start_paused = true)]
async fn a_replay_is_the_stored_response() {
    for cookies in [false, true] {
        let world = World::with(move |pricing| pricing.replay_cookies = cookies).await;
        world.upstream.play([cookie()]);
        let payment = world.pay(Ask::get("/paid")).await;
        let first = world.send(&payment.ask()).await;
        world.skip(ENTITLEMENT_SECONDS * 2);
        let again = world.send(&payment.ask()).await;
        for got in [&first, &again] {
            assert_eq!((got.status(), &got.answer.body[..], got.header("etag")), (201, &b"hello"[..], Some("e1")));
            got.receipted(payment.txid);
            assert_eq!(got.header("payment-required"), None, "an upstream makes no offers");
            assert_eq!(got.header("cache-control"), Some("private, no-store"));
        }
        assert_eq!((first.header("set-cookie"), again.header("set-cookie")), (Some("s=1"), cookies.then_some("s=1")));
        assert_eq!(first.receipt(), again.receipt());
        assert_eq!((world.upstream.count(), world.totals().await.charged_sompi), (1, u128::from(PRICE)));
    }
}

#[tokio::test(start_paused = true)]
async fn fifty_at_once_are_one_purchase() {
    let world = World::new().await;
    let payment = world.pay(Ask::get("/paid")).await;
    let bell = world.upstream.wait();
    let asks: Vec<_> = (0..50).map(|_| world.spawn(&payment.ask())).collect();
    world.until("forwarded", async || world.upstream.count() == 1).await;
    bell.notify_one();
    for ask in asks {
        let got = ask.await.unwrap();
        got.served(payment.txid);
        assert_eq!(got.answer.body, "served 1");
    }
    assert_eq!((world.upstream.count(), world.chain.submits().len()), (1, 1));
    assert_eq!(world.totals().await.charged_sompi, u128::from(PRICE));
}

#[tokio::test(start_paused = true)]
async fn a_payment_is_for_one_request() {
    let world = World::new().await;
    let payment = world.pay(Ask::get("/paid?a")).await;
    world.send(&payment.ask()).await.served(payment.txid);
    for request in [Ask::get("/paid?b"), Ask::post("/paid?a", ""), Ask::post("/paid?a", "body")] {
        let other = world.present(request, payment.accepted.clone(), payment.signed.clone(), &world.payer);
        world.send(&other.ask()).await.refused(Code::Replay);
    }
    let accepted = world.offer(&Ask::get("/other")).await;
    let other = world.present(Ask::get("/other"), accepted, payment.signed.clone(), &world.payer);
    world.send(&other.ask()).await.refused(Code::Replay);
    assert_eq!(world.upstream.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_known_payment_is_never_answered_with_an_offer() {
    let world = World::new().await;
    world.upstream.play([answer(500, "")]);
    let payment = world.pay(Ask::get("/paid")).await;
    assert_eq!(world.send(&payment.ask()).await.status(), 500);
    let altered = payment.clone().changed(|m| m["accepted"]["amount"] = "1".into());
    world.send(&altered.ask()).await.refused(Code::Replay);
    world.reload(|_| {}, &[("b", 8, None)]);
    world.send(&payment.ask()).await.refused(Code::Replay);
    world.store.down(true);
    world.send(&payment.ask()).await.refused(Code::StoreUnavailable);
}

#[tokio::test(start_paused = true)]
async fn one_payment_for_two_requests_at_once_serves_one() {
    let world = World::new().await;
    let accepted = world.offer(&Ask::get("/paid")).await;
    let signed = world.sign(&accepted, new_coin());
    let present = |target: &str| world.present(Ask::get(target), accepted.clone(), signed.clone(), &world.payer);
    let (one, two) = (world.spawn(&present("/paid?1").ask()), world.spawn(&present("/paid?2").ask()));
    let statuses = [one.await.unwrap().status(), two.await.unwrap().status()];
    assert!(statuses == [200, 409] || statuses == [409, 200], "{statuses:?}");
    assert_eq!((world.upstream.count(), world.totals().await.charged_sompi), (1, u128::from(PRICE)));
}

#[tokio::test(start_paused = true)]
async fn an_identifier_leads_to_the_first_payment_and_the_second_is_not_sent() {
    let world = World::new().await;
    let name = "identifier-00001";
    let first = world.pay(Ask::get("/paid")).await.named(name);
    let second = world.pay(Ask::get("/paid")).await.named(name);
    let elsewhere = world.pay(Ask::get("/other")).await.named(name);
    let bell = world.upstream.wait();
    let (one, two) = (world.spawn(&first.ask()), world.spawn(&second.ask()));
    world.until("forwarded", async || world.upstream.count() == 1).await;
    bell.notify_one();
    for got in [one.await.unwrap(), two.await.unwrap(), world.send(&second.ask()).await] {
        got.served(first.txid);
        assert_eq!(got.answer.body, "served 1");
    }
    world.send(&elsewhere.ask()).await.refused(Code::IdentifierReused);
    assert_eq!((world.chain.submits(), world.upstream.count()), (vec![first.txid], 1));
}

#[tokio::test(start_paused = true)]
async fn an_identifier_leads_to_a_first_payment_that_is_still_open() {
    let world = World::new().await;
    world.chain.accept_at_once(false);
    let name = "identifier-00001";
    let (first, second) = (world.pay(Ask::get("/paid")).await.named(name), world.pay(Ask::get("/paid")).await.named(name));
    world.send(&first.ask()).await.pending(Code::SettlementPending, first.txid);
    let asked = world.spawn(&second.ask());
    world.until_submitted(2).await;
    world.chain.accept(first.txid);
    asked.await.unwrap().served(first.txid);
    assert!(!world.chain.submits().contains(&second.txid));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_pruned_is_told_by_its_receipt() {
    let world = World::new().await;
    world.upstream.play([answer(200, "once")]);
    let payment = world.pay(Ask::get("/paid")).await;
    world.send(&payment.ask()).await.served(payment.txid);
    world.skip(ENTITLEMENT_SECONDS + 1);
    crate::store::Store::prune(&*world.store, world.now()).await.unwrap();
    let got = world.send(&payment.ask()).await;
    assert_eq!(got.status(), 410);
    got.receipted(payment.txid);
}
