//! The buyer of channels against an honest till behind a counter that misbehaves on purpose, and against a till that lies:
//! whatever happens, the books of buyer, till and chain agree, and nothing beyond what was authorised is signed.

#[path = "channel_buyer/buyer.rs"]
mod buyer;
#[path = "channel_buyer/corrections.rs"]
mod corrections;
#[path = "channel_buyer/crashes.rs"]
mod crashes;
#[path = "channel_buyer/lies.rs"]
mod lies;
#[path = "channel_buyer/openings.rs"]
mod openings;
#[path = "channel_buyer/random.rs"]
mod random;
#[path = "channel_buyer/shop.rs"]
mod shop;
#[path = "channel_buyer/till.rs"]
mod till;

use buyer::{Buyer, DEPOSIT, KAS, Setup, TIMEOUT, cost};
use kas402::{
    client::{
        channel::{
            ChannelError, Preview, Want,
            record::{FlightState, Phase},
        },
        error::{FetchError, Unpaid},
        paid::{Fetched, Quote, Rail},
        policy::{Budget, Limit, Unwilling},
    },
    protocol::time::UnixMillis,
};
use shop::Fault;
use std::{collections::HashSet, sync::Arc, time::Duration};
use till::sompi;

#[tokio::test]
async fn a_channel_is_opened_charged_claimed_topped_up_and_refunded_over_http() {
    let buyer = Buyer::over_http(Setup::default()).await;
    let before = buyer.purse().await;
    let mut spent = 0;
    for number in 0..20 {
        assert_eq!(buyer.pay("/pay/3000000/1000000").await, 1_000_000);
        spent += 1_000_000;
        if number % 7 == 6 {
            buyer.counter.till.claim(&buyer.id()).await;
        }
    }
    // One question opened the channel; later ones only followed a claim, each answered by a correction.
    assert_eq!(buyer.counter.till.asked().await, 1, "renewed offers are used");
    buyer.agrees().await;
    assert_eq!(buyer.channel().account.charged.sompi(), spent);

    let held = buyer.channel().account.funding.sompi();
    let active = buyer.channel().account.active().sompi();
    // The coin for it ripens while blocks are made.
    let blocks = async {
        loop {
            buyer.chain.advance(1);
            tokio::time::sleep(std::time::Duration::from_millis(2)).await; // why: the simulated chain stands still by itself
        }
    };
    spent += tokio::select! {
        fetched = buyer.top_up("/pay/1000000/500000", 5 * KAS) => cost(fetched),
        () = blocks => unreachable!("blocks are made for ever"),
    };
    let account = buyer.channel().account;
    assert_eq!(account.funding.sompi(), held - active + 5 * KAS, "exactly what was asked for");
    buyer.agrees().await;
    spent += buyer.pay("/pay/1000000/400000").await;
    buyer.agrees().await;

    let id = buyer.id();
    assert!(matches!(buyer.refund(&id).await, Err(ChannelError::NotYet { left_daa, .. }) if left_daa > TIMEOUT - 5_000));
    spent += buyer.pay("/pay/5000000/4000000").await;
    buyer.counter.till.claim(&id).await;
    buyer.chain.advance(TIMEOUT);
    let refunded = buyer.refund(&id).await.unwrap();
    let channel = buyer.channel();
    assert_eq!(channel.phase, Phase::Closed);
    assert_eq!(channel.account.claimed.sompi(), spent, "the claim before the refund was followed");
    assert_eq!(refunded.amount.sompi() + refunded.fee.sompi() + spent, DEPOSIT + 5 * KAS);
    // To the sompi: what is gone was charged or went to the network.
    let fees = before - buyer.purse().await - spent;
    assert!(fees < KAS / 100, "{fees} sompi of fees");
    assert!(matches!(buyer.refund(&id).await, Err(ChannelError::Unusable { .. })));
}

#[tokio::test]
async fn whatever_happens_to_an_answer_the_same_header_goes_again_and_one_charge_is_made() {
    for faults in [
        vec![Fault::LoseRequest],
        vec![Fault::LoseAnswer],
        vec![Fault::Cut],
        vec![Fault::Hang],
        vec![Fault::Status(500), Fault::Status(502), Fault::Status(503), Fault::Status(429)],
        vec![Fault::LoseAnswer, Fault::Status(503), Fault::LoseRequest, Fault::Cut],
    ] {
        let buyer = Buyer::over_http(Setup::default()).await;
        for target in ["/pay/1000000/1000", "/pay/1000000/2000"] {
            let before = buyer.counter.sent().len();
            buyer.counter.faults(&faults);
            buyer.pay(target).await;
            let sent = buyer.counter.sent().split_off(before);
            assert_eq!(sent.len(), faults.len() + 1, "{faults:?}");
            assert_eq!(sent.iter().map(|promise| &promise.header).collect::<HashSet<_>>().len(), 1, "{faults:?}");
            buyer.agrees().await;
        }
        assert_eq!(buyer.counter.till.ledger().await.len(), 2);
    }
}

#[tokio::test]
async fn a_budget_bounds_what_is_charged_and_may_be_charged_and_not_what_is_deposited() {
    let bounds = |origin: Option<u64>, total: Option<u64>| Setup {
        budget: Budget { per_origin: origin.map(sompi), total: total.map(sompi), since: UnixMillis(0) },
        ..Setup::default()
    };
    for (limit, setup) in [(Limit::Origin, bounds(Some(2_500_000), None)), (Limit::Total, bounds(None, Some(2_500_000)))] {
        let buyer = Buyer::new(setup.clone());
        // Each may cost 1,000,000 and costs 400,000: after four of them a fifth could break it.
        for _ in 0..4 {
            assert_eq!(buyer.pay("/pay/1000000/400000").await, 400_000);
        }
        let sent = buyer.counter.sent().len();
        let after = buyer.restarted(setup);
        for buyer in [&buyer, &after] {
            let Err(ChannelError::Unpaid(Unpaid::Unwilling(reasons))) = buyer.fetch("/pay/1000000/400000").await else {
                panic!("paid beyond the budget");
            };
            assert!(
                matches!(&reasons[..], [Unwilling::Budget(over)] if over.limit == limit && over.spent.sompi() == 1_600_000),
                "{reasons:?}"
            );
        }
        assert_eq!(after.counter.sent().len(), sent, "no voucher left the buyer");
        // What fits is paid all the same, and the books are whole.
        assert_eq!(after.pay("/pay/900000/1").await, 1);
        after.agrees().await;
    }
}

#[tokio::test]
async fn a_request_that_may_have_been_charged_counts_with_its_ceiling() {
    let setup = |total| Setup { budget: Budget { total: Some(sompi(1_500_000)), ..Budget::default() }, total, ..Setup::default() };
    let buyer = Buyer::new(setup(Duration::from_millis(300)));
    buyer.pay("/pay/500000/100").await;
    buyer.counter.faults(&[Fault::Status(503); 1_000]);
    assert!(matches!(buyer.fetch("/pay/1000000/200").await, Err(ChannelError::InFlight { .. })));
    buyer.counter.faults(&[]);
    let buyer = buyer.restarted(setup(Duration::from_secs(10)));
    assert_eq!(buyer.journal.spent(None, UnixMillis(0)).unwrap().sompi(), 1_000_100);
    buyer.pay("/pay/1000000/200").await;
    assert_eq!(buyer.journal.spent(None, UnixMillis(0)).unwrap().sompi(), 300, "resumed within the budget, and its charge is known");
}

#[tokio::test]
async fn a_buyer_out_of_patience_says_so_and_resumes_after_a_restart() {
    for fault in [Fault::LoseRequest, Fault::LoseAnswer, Fault::Status(503)] {
        let buyer = Buyer::new(Setup { total: std::time::Duration::from_millis(150), ..Setup::default() });
        buyer.pay("/pay/1000000/1000").await;
        buyer.counter.faults(&[fault; 1_000]);
        let error = buyer.fetch("/pay/1000000/2000").await.expect_err("never answered");
        assert!(matches!(error, ChannelError::InFlight { .. }), "{error}");
        assert!(buyer.journal.in_flight(&buyer.id()).unwrap().is_some());
        buyer.counter.faults(&[]);
        let buyer = buyer.restarted(Setup { node: false, ..Setup::default() });
        assert_eq!(buyer.pay("/pay/1000000/2000").await, 2_000);
        assert_eq!(buyer.counter.till.ledger().await.len(), 2, "{fault:?}");
        buyer.agrees().await;
    }
}

#[tokio::test]
async fn another_request_leaves_an_unfinished_one_behind_and_the_books_still_agree() {
    for (fault, charges) in [(Fault::LoseRequest, 2), (Fault::LoseAnswer, 3), (Fault::AskAgain, 2)] {
        let short = Setup { total: std::time::Duration::from_millis(150), ..Setup::default() };
        let buyer = Buyer::new(short);
        buyer.pay("/pay/1000000/1000").await;
        buyer.counter.faults(&[fault; 1_000]);
        buyer.fetch("/pay/1000000/2000").await.expect_err("never answered");
        buyer.counter.faults(&[]);
        let buyer = buyer.restarted(Setup::default());
        assert_eq!(buyer.pay("/pay/1500000/3000").await, 3_000);
        assert_eq!(buyer.counter.till.ledger().await.len(), charges, "{fault:?}");
        buyer.agrees().await;
        // The first is still to be had, for what it cost when it was charged.
        assert_eq!(buyer.pay("/pay/1000000/2000").await, 2_000);
        assert_eq!(buyer.counter.till.ledger().await.len(), 3, "{fault:?}");
        buyer.agrees().await;
        assert_eq!(buyer.channel().account.unknown.sompi(), 0, "{fault:?}");
    }
}

#[tokio::test]
async fn a_request_left_behind_that_no_receipt_explains_is_booked_by_the_next_receipt() {
    let short = Setup { total: std::time::Duration::from_millis(150), ..Setup::default() };
    let buyer = Buyer::new(short);
    buyer.pay("/pay/1000000/1000").await;
    buyer.counter.till.mood(|mood| mood.mute = true);
    buyer.counter.faults(&[Fault::LoseAnswer; 1_000]);
    buyer.fetch("/pay/1000000/2000").await.expect_err("never answered");
    buyer.counter.faults(&[]);
    buyer.counter.till.mood(|mood| mood.mute = false);
    let buyer = buyer.restarted(Setup::default());
    // The voucher is too low for a till that charged the lost request, and is corrected.
    assert_eq!(buyer.pay("/pay/1500000/3000").await, 3_000);
    buyer.agrees().await;
    assert_eq!(buyer.channel().account.charged.sompi(), 6_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_channel_serves_many_tasks_and_processes_one_after_the_other() {
    let buyer = Arc::new(Buyer::over_http(Setup::default()).await);
    let second = Arc::new(buyer.restarted(Setup::default()));
    buyer.counter.faults(&[Fault::Slow(20); 100]);
    let tasks = (0..24).map(|number| {
        let buyer = if number % 2 == 0 { buyer.clone() } else { second.clone() };
        tokio::spawn(async move { buyer.pay(&format!("/pay/1000000/{}", 1_000 + number)).await })
    });
    let costs = futures::future::join_all(tasks).await.into_iter().map(Result::unwrap);
    assert_eq!(costs.sum::<u64>(), (0..24u64).map(|number| 1_000 + number).sum::<u64>());
    buyer.agrees().await;
    assert_eq!(buyer.counter.till.channel_ids().await.len(), 1, "nobody opened a second one");
    let flights = buyer.journal.flights(&buyer.id(), 100).unwrap();
    assert!(flights.iter().all(|flight| flight.state == FlightState::Charged), "nobody's request was taken for a dead one's");
    assert_eq!(buyer.counter.sent().len(), 24);
}

#[tokio::test]
async fn a_stream_is_charged_by_its_last_event_its_trailer_or_its_receipt_url() {
    let buyer = Buyer::over_http(Setup::default()).await;
    for target in ["/stream/1000000/700/event", "/stream/1000000/800/url", "/stream/1000000/600/trailer", "/stream/1000000/900/event"] {
        let charge: u64 = target.split('/').nth(3).unwrap().parse().unwrap();
        assert_eq!(buyer.pay(target).await, charge);
        buyer.agrees().await;
    }
    // A stream that never tells its cost is booked by the receipt after it.
    let silent = buyer.fetch("/stream/1000000/500/silent").await.unwrap();
    let Fetched::Charged { charge, .. } = silent else { panic!("{silent:?}") };
    assert_eq!(charge.cost, kas402::client::channel::Cost::Unknown);
    assert_eq!(buyer.channel().account.unknown.sompi(), 1_000_000);
    buyer.pay("/stream/1000000/700/event").await;
    buyer.agrees().await;
}

#[tokio::test]
async fn what_is_free_costs_nothing_and_a_busy_channel_is_waited_for() {
    let buyer = Buyer::new(Setup::default());
    assert!(matches!(buyer.fetch("/free").await, Ok(Fetched::Free(_))));
    assert!(buyer.journal.channels().unwrap().is_empty());
    buyer.pay("/pay/1000000/1000").await;
    buyer.counter.till.mood(|mood| mood.busy = 4);
    buyer.pay("/pay/1000000/1000").await;
    let headers: HashSet<_> = buyer.counter.sent()[1..].iter().map(|promise| promise.header.clone()).collect();
    assert_eq!((headers.len(), buyer.counter.sent().len()), (1, 6));
    buyer.agrees().await;
}

#[tokio::test]
async fn an_answer_without_a_receipt_is_kept_and_bounds_what_is_unknown() {
    let buyer = Buyer::new(Setup::default());
    buyer.pay("/pay/1000000/1000").await;
    buyer.counter.till.mood(|mood| mood.mute = true);
    let fetched = buyer.fetch("/pay/1000000/2000").await.unwrap();
    let Fetched::Charged { reply, charge } = fetched else { panic!("{fetched:?}") };
    assert_eq!((&reply.body[..], charge.cost), (&b"the goods"[..], kas402::client::channel::Cost::Unknown));
    let account = buyer.channel().account;
    assert_eq!((account.charged.sompi(), account.unknown.sompi()), (1_000, 1_000_000));
    buyer.counter.till.mood(|mood| mood.mute = false);
    assert_eq!(buyer.pay("/pay/1000000/3000").await, 3_000);
    assert_eq!(buyer.channel().account.charged.sompi(), 6_000, "the next receipt told");
    buyer.agrees().await;
}

#[tokio::test]
async fn a_client_takes_the_rail_it_was_told_to() {
    type Expect = fn(&Result<Fetched, FetchError>) -> bool;
    let charged: Expect = |fetched| matches!(fetched, Ok(Fetched::Charged { .. }));
    // Without room for a network fee, a payment by transaction ends where its fee is known.
    let exact: Expect = |fetched| matches!(fetched, Err(FetchError::BeforePaying(Unpaid::Fee { .. })));
    let no_offer: Expect = |fetched| matches!(fetched, Err(FetchError::BeforePaying(Unpaid::Challenge(_))));
    let no_channel: Expect = |fetched| matches!(fetched, Err(FetchError::Channel(_)));
    for (rail, offers_exact, opened, expect) in [
        (Rail::Exact, true, true, exact),
        (Rail::Exact, false, true, no_offer),
        (Rail::Channel, true, true, charged),
        (Rail::Channel, true, false, no_channel),
        (Rail::Either, true, true, charged),
        (Rail::Either, true, false, exact),
        (Rail::Either, false, false, no_offer),
    ] {
        let buyer = Buyer::new(Setup::default());
        if opened {
            buyer.pay("/pay/1000000/1000").await;
        }
        buyer.counter.till.mood(|mood| mood.exact = offers_exact);
        let fetched = buyer.paid_client(rail).fetch("/pay/5000000/2000").await;
        assert!(expect(&fetched), "{rail:?} {offers_exact} {opened}: {fetched:?}");
    }
}

#[tokio::test]
async fn a_quote_costs_nothing_and_says_where_the_money_would_come_from() {
    let buyer = Buyer::new(Setup::default());
    let quote = buyer.paid_client(Rail::Channel).quote("/pay/1000000/2000").await;
    let Quote::Priced { channel: Some(channel), .. } = quote else { panic!("{quote:?}") };
    assert!(matches!(*channel, Err(ChannelError::NoChannel { .. })), "{channel:?}");
    buyer.pay("/pay/1000000/1000").await;
    let quote = buyer.paid_client(Rail::Channel).quote("/pay/1000000/2000").await;
    let Quote::Priced { channel: Some(channel), .. } = quote else { panic!("{quote:?}") };
    let (offer, preview) = channel.unwrap();
    assert_eq!((offer.ceiling.sompi(), preview), (1_000_000, Preview::From(buyer.id())));
    buyer.counter.faults(&[Fault::AskAgain]);
    buyer.fetch("/pay/1000000/2000").await.expect_err("asked again");
    let quote = buyer.paid_client(Rail::Channel).quote("/pay/1000000/2000").await;
    assert!(matches!(quote, Quote::InFlight(_)), "{quote:?}");
    assert_eq!(buyer.counter.till.ledger().await.len(), 1);
}

#[tokio::test]
async fn a_renewed_offer_is_used_once() {
    let buyer = Buyer::new(Setup::default());
    buyer.pay("/pay/1000000/1000").await;
    buyer.counter.till.mood(|mood| mood.stingy = true);
    for asked in [1, 2, 3] {
        buyer.pay("/pay/1000000/1000").await;
        assert_eq!(buyer.counter.till.asked().await, asked);
    }
    buyer.agrees().await;
}

#[tokio::test]
async fn the_price_of_a_url_that_depends_on_more_is_asked_for_every_time() {
    let buyer = Buyer::new(Setup::default());
    let model = async |ceiling: &str| buyer.ask(&buyer.post("/model", ceiling), Want::Pay, false).await;
    assert_eq!(cost(model("1000").await), 1_000);
    assert_eq!(cost(model("5000").await), 5_000, "another price than the renewed offer's: asked again");
    let asked = buyer.counter.till.asked().await;
    assert_eq!(cost(model("7000").await), 7_000);
    assert_eq!(cost(model("2000").await), 2_000);
    assert_eq!(buyer.counter.till.asked().await, asked + 2);
    buyer.agrees().await;
}

#[tokio::test]
async fn a_full_escrow_is_not_overdrawn() {
    let buyer = Buyer::new(Setup { deposit: Some(KAS), ..Setup::default() });
    buyer.pay("/pay/50000000/50000000").await;
    // Half is charged; what is left, less the reserve, does not cover another half.
    let without = buyer.restarted(Setup { deposit: None, ..Setup::default() });
    let sent = buyer.counter.sent().len();
    let error = without.fetch("/pay/50000000/1").await.expect_err("exhausted");
    assert!(matches!(error, ChannelError::Due { .. }), "{error}");
    assert_eq!(buyer.counter.sent().len(), sent, "nothing was signed for it");
    without.pay("/pay/40000000/1000").await;
    // With a deposit another channel is opened beside it, under a key and a script of its own.
    buyer.pay("/pay/50000000/2000").await;
    assert_eq!(buyer.counter.till.channel_ids().await.len(), 2);
}
