//! Opening a channel: what may be locked, what happens to a deposit that gets no answer, and one deposit that takes another's place.

use super::{
    buyer::{Buyer, DEPOSIT, KAS, Setup, TIMEOUT, cost},
    shop::Fault,
    till::sompi,
};
use kas402::{
    chain::{Chain, Sighting},
    client::{
        channel::{ChannelError, Progress, Want, record::Phase},
        error::Unpaid,
        paid::Step,
    },
    protocol::refusal::Code,
};
use std::time::Duration;

#[tokio::test]
async fn nothing_is_locked_beyond_what_was_allowed() {
    type Expect = fn(&ChannelError) -> bool;
    for (setup, expect) in [
        (Setup { deposit: None, ..Setup::default() }, (|e| matches!(e, ChannelError::NoChannel { .. })) as Expect),
        (Setup { deposit: Some(KAS - 1), ..Setup::default() }, |e| matches!(e, ChannelError::BelowMinimum { .. })),
        (Setup { max_locked: Some(DEPOSIT - 1), ..Setup::default() }, |e| matches!(e, ChannelError::LockedTooMuch { .. })),
        (Setup { max_lock_daa: TIMEOUT - 1_001, ..Setup::default() }, |e| matches!(e, ChannelError::Timeout { .. })),
        (Setup { max: 999_999, ..Setup::default() }, |e| matches!(e, ChannelError::Unpaid(Unpaid::Unwilling(_)))),
        (Setup { node: false, ..Setup::default() }, |e| matches!(e, ChannelError::Unpaid(Unpaid::NoNode))),
        (Setup { deposit: Some(200 * KAS), ..Setup::default() }, |e| matches!(e, ChannelError::Unpaid(Unpaid::Plan(_)))),
        (Setup { deposit: Some(KAS), max: 2 * KAS, ..Setup::default() }, |e| matches!(e, ChannelError::Due { .. })),
    ] {
        let buyer = Buyer::new(setup.clone());
        let target = if setup.max > KAS { "/pay/99000000/1" } else { "/pay/1000000/1" };
        let error = buyer.fetch(target).await.expect_err("refused");
        assert!(expect(&error), "{error}");
        assert!(buyer.journal.channels().unwrap().is_empty() && buyer.counter.sent().is_empty(), "{error}");
    }
    let buyer = Buyer::new(Setup { max_locked: Some(DEPOSIT + 3 * KAS), ..Setup::default() });
    buyer.pay("/pay/5000000/5000000").await;
    let error = buyer.top_up("/pay/5000000/1", 4 * KAS).await.expect_err("too much with the first");
    assert!(matches!(error, ChannelError::LockedTooMuch { .. }), "{error}");
}

#[tokio::test]
async fn a_channel_is_opened_once_unless_another_is_asked_for() {
    let buyer = Buyer::new(Setup { deposit: None, ..Setup::default() });
    let open = |another| Want::Open { deposit: sompi(5 * KAS), another };
    let request = buyer.request("/pay/1000000/3000");
    assert_eq!(cost(buyer.ask(&request, open(false), false).await), 3_000);
    let first = buyer.channel();
    assert_eq!(first.account.funding.sompi(), 5 * KAS);
    let error = buyer.ask(&request, open(false), false).await.expect_err("open already");
    assert!(matches!(error, ChannelError::OpenAlready(id) if id == first.id), "{error}");
    assert_eq!(cost(buyer.ask(&request, open(true), false).await), 3_000);
    let channels = buyer.journal.channels().unwrap();
    assert_eq!(channels.len(), 2);
    assert_ne!(channels[0].config.client_public_key, channels[1].config.client_public_key, "a key of its own");
    assert_ne!(channels[0].script().address(), channels[1].script().address(), "so the same terms are not the same script");
    // Deposits of both are bounded together.
    let tight = buyer.restarted(Setup { deposit: None, max_locked: Some(12 * KAS), ..Setup::default() });
    assert!(matches!(tight.ask(&request, open(true), false).await, Err(ChannelError::LockedTooMuch { .. })));
}

#[tokio::test]
async fn two_requests_at_once_open_one_channel() {
    let buyer = std::sync::Arc::new(Buyer::new(Setup::default()));
    let other = std::sync::Arc::new(buyer.restarted(Setup::default()));
    let tasks = (0..6).map(|number| {
        let buyer = if number % 2 == 0 { buyer.clone() } else { other.clone() };
        tokio::spawn(async move { buyer.pay(&format!("/pay/1000000/{number}")).await })
    });
    let costs = futures::future::join_all(tasks).await;
    assert_eq!(costs.into_iter().map(Result::unwrap).sum::<u64>(), 15);
    buyer.agrees().await;
    assert_eq!(buyer.chain.submits().len(), 1, "one deposit");
}

#[tokio::test]
async fn a_deposit_waits_for_its_confirmation_under_the_same_header() {
    let buyer = Buyer::new(Setup::default());
    buyer.counter.till.mood(|mood| mood.unconfirmed = true);
    let counter = buyer.counter.clone();
    let confirm = async {
        counter.reached(4).await;
        counter.till.mood(|mood| mood.unconfirmed = false);
    };
    let (charge, ()) = tokio::join!(buyer.pay("/pay/1000000/1000"), confirm);
    assert_eq!(charge, 1_000);
    let headers: std::collections::HashSet<_> = buyer.counter.sent().into_iter().map(|promise| promise.header).collect();
    assert_eq!(headers.len(), 1);
    buyer.agrees().await;
}

#[tokio::test]
async fn a_deposit_that_gets_no_answer_is_given_to_the_own_node_too() {
    for (fault, broadcast) in [(Fault::LoseRequest, true), (Fault::Status(503), false)] {
        let buyer = Buyer::new(Setup { total: Duration::from_millis(150), ..Setup::default() });
        buyer.counter.faults(&[fault; 1_000]);
        let error = buyer.fetch("/pay/1000000/1000").await.expect_err("no answer");
        assert!(matches!(error, ChannelError::InFlight { .. }), "{error}");
        assert_eq!(!buyer.chain.submits().is_empty(), broadcast, "{fault:?}");
        assert_eq!(buyer.channel().phase, Phase::Opening);
        buyer.counter.faults(&[]);
        // Another request goes on with the same deposit; the first one is still to be had.
        let buyer = buyer.restarted(Setup::default());
        assert_eq!(buyer.pay("/pay/1000000/2000").await, 2_000);
        assert_eq!(buyer.pay("/pay/1000000/1000").await, 1_000);
        let funding: std::collections::HashSet<_> = buyer.chain.submits().into_iter().collect();
        assert_eq!(funding.len(), 1, "one deposit");
        buyer.agrees().await;
    }
}

#[tokio::test]
async fn a_deposit_under_an_old_timeout_is_replaced_by_one_that_excludes_it() {
    let buyer = Buyer::new(Setup { total: Duration::from_millis(150), ..Setup::default() });
    buyer.counter.faults(&[Fault::Status(503); 1_000]);
    buyer.fetch("/pay/1000000/1000").await.expect_err("no answer");
    let first = buyer.channel();
    buyer.counter.faults(&[]);
    buyer.counter.till.mood(|mood| mood.timeout_daa = TIMEOUT + 10_000);
    // A greater coin has come meanwhile, which would do by itself.
    buyer.receives(60 * KAS);
    let buyer = buyer.restarted(Setup::default());
    assert_eq!(buyer.pay("/pay/1000000/1000").await, 1_000);
    let [old, new] = &buyer.journal.channels().unwrap()[..] else { panic!("two channels") };
    assert_eq!((old.id, old.phase, new.phase, new.replaces), (first.id, Phase::Replaced, Phase::Open, Some(first.id)));
    assert_eq!(new.config.refund_timeout_daa, TIMEOUT + 10_000);
    let inputs = |id| buyer.journal.channel_transactions(id).unwrap()[0].inputs.clone();
    assert!(inputs(&old.id).iter().any(|input| inputs(&new.id).contains(input)), "one coin is in both");
    assert_eq!(buyer.counter.till.channel_ids().await, [new.id]);
}

#[tokio::test]
async fn a_deposit_that_the_network_knows_is_not_replaced() {
    let buyer = Buyer::new(Setup { total: Duration::from_millis(150), ..Setup::default() });
    buyer.counter.faults(&[Fault::LoseRequest; 1_000]);
    buyer.fetch("/pay/1000000/1000").await.expect_err("no answer");
    let (channel, transaction) = (buyer.channel(), buyer.journal.channel_transactions(&buyer.id()).unwrap().remove(0));
    let transaction: kaspa_consensus_core::tx::Transaction = borsh::from_slice(&transaction.bytes).unwrap();
    assert_eq!(buyer.chain.sighting(&transaction).await.unwrap(), Sighting::UtxoSet);
    buyer.counter.faults(&[]);
    buyer.counter.till.mood(|mood| mood.timeout_daa = TIMEOUT + 10_000);
    let buyer = buyer.restarted(Setup::default());
    let error = buyer.fetch("/pay/1000000/1000").await.expect_err("its deposit is locked");
    assert!(matches!(error, ChannelError::Unusable { .. }), "{error}");
    assert_eq!(buyer.channel().phase, Phase::Retired);
    // What is locked comes back after its own timeout.
    assert!(matches!(buyer.refund(&channel.id).await, Err(ChannelError::NotYet { .. })));
    buyer.chain.advance(TIMEOUT);
    let refunded = buyer.refund(&channel.id).await.unwrap();
    assert_eq!(refunded.amount.sompi() + refunded.fee.sompi(), DEPOSIT);
}

#[tokio::test]
async fn a_refused_deposit_keeps_its_coins_and_is_offered_again() {
    let buyer = Buyer::new(Setup::default());
    buyer.counter.till.mood(|mood| mood.refuse = Some(Code::ExposureLimit));
    let error = buyer.fetch("/pay/1000000/1000").await.expect_err("refused");
    assert!(matches!(error, ChannelError::Refused { code: Code::ExposureLimit, .. }), "{error}");
    let (channel, inputs) = (buyer.channel(), buyer.journal.channel_transactions(&buyer.id()).unwrap().remove(0).inputs);
    assert_eq!(channel.phase, Phase::Opening);
    assert!(inputs.iter().all(|input| buyer.journal.locked().unwrap().contains(input)), "the server holds a signed transaction");
    buyer.counter.till.mood(|mood| mood.refuse = None);
    assert_eq!(buyer.pay("/pay/1000000/2000").await, 2_000);
    assert_eq!(buyer.channel().id, channel.id);
    buyer.agrees().await;
}

#[tokio::test]
async fn a_top_up_needs_something_to_claim_and_uses_a_fitting_coin_as_it_is() {
    let buyer = Buyer::new(Setup::default());
    buyer.pay("/pay/5000000/0").await;
    let error = buyer.top_up("/pay/5000000/1", KAS).await.expect_err("nothing active");
    assert!(matches!(error, ChannelError::NothingActive(_)), "{error}");
    buyer.pay("/pay/5000000/5000000").await;
    // A coin of 20 KAS is there; 19.5 are asked for.
    let mut made = false;
    let mut watch = |step: Step<'_>| made |= matches!(step, Step::Channel(Progress::MakingCoin { .. }));
    let wish = Want::TopUp(sompi(19 * KAS + KAS / 2));
    cost(buyer.watched(&buyer.request("/pay/5000000/1"), wish, false, &mut watch).await);
    assert!(!made);
    let funding = buyer.channel().account.funding.sompi();
    assert!(funding > DEPOSIT + 19 * KAS + KAS / 2 - 5_000_000 && funding < DEPOSIT + 20 * KAS, "{funding}");
    buyer.agrees().await;
}
