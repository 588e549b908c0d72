//! Honest corrections: what the buyer's books cannot know by themselves, followed after it was verified.

use super::{
    buyer::{Buyer, KAS, Setup},
    shop::Fault,
    till::Change,
};
use kas402::{
    client::{
        channel::{ChannelError, account::Lie, record::Phase},
        paid::Fetched,
    },
    protocol::refusal::Code,
};
use std::{
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    time::Duration,
};

fn short() -> Setup {
    Setup { total: Duration::from_millis(150), ..Setup::default() }
}

#[tokio::test]
async fn a_journal_from_yesterday_is_brought_up_to_date_by_vouchers_of_its_own() {
    let buyer = Buyer::new(Setup::default());
    buyer.pay("/pay/1000000/1000").await;
    let copy = buyer.copied();
    for _ in 0..5 {
        buyer.pay("/pay/1000000/700000").await;
    }
    let today = buyer.channel().account;
    let old = buyer.restored(copy, Setup::default());
    assert!(old.channel().account.charged < today.charged);
    old.pay("/pay/1000000/1000").await;
    let account = old.channel().account;
    assert_eq!(account.charged.sompi(), today.charged.sompi() + 1_000);
    // The old copy signed low once, in good faith; what it learned then is kept.
    old.same_books().await;
    let sent = old.counter.sent();
    assert!(sent.last().unwrap().voucher.amount >= sent[5].voucher.amount);
}

#[tokio::test]
async fn a_dearer_voucher_that_the_server_never_saw_is_not_undercut() {
    let buyer = Buyer::new(short());
    buyer.pay("/pay/1000000/600000").await;
    buyer.counter.faults(&[Fault::LoseRequest; 1_000]);
    buyer.fetch("/pay/90000000/1000").await.expect_err("lost");
    buyer.counter.faults(&[]);
    let buyer = buyer.restarted(Setup::default());
    let sent = buyer.counter.sent().len();
    let error = buyer.fetch("/pay/1000000/2000").await.expect_err("only a lower voucher would do");
    let ChannelError::Unacknowledged { signed, held, .. } = error else { panic!("{error}") };
    assert_eq!((signed.sompi(), held.sompi()), (90_600_000, 1_000_000));
    assert_eq!(buyer.counter.sent().len(), sent + 1);
    buyer.never_lower();
    // Ways on: the dear request again, after which cheap ones go too.
    assert_eq!(buyer.pay("/pay/90000000/1000").await, 1_000);
    assert_eq!(buyer.pay("/pay/1000000/2000").await, 2_000);
    buyer.agrees().await;
}

#[tokio::test]
async fn a_claim_resets_what_the_server_never_saw() {
    let buyer = Buyer::new(short());
    buyer.pay("/pay/5000000/5000000").await;
    buyer.counter.faults(&[Fault::LoseRequest; 1_000]);
    buyer.fetch("/pay/90000000/1000").await.expect_err("lost");
    buyer.counter.faults(&[]);
    let buyer = buyer.restarted(Setup::default());
    buyer.counter.till.claim(&buyer.id()).await;
    assert_eq!(buyer.pay("/pay/1000000/2000").await, 2_000);
    buyer.agrees().await;
}

#[tokio::test]
async fn claims_are_followed_one_by_one_and_a_reorganisation_does_not_turn_the_books_back() {
    let buyer = Buyer::new(Setup::default());
    buyer.pay("/pay/5000000/5000000").await;
    let id = buyer.id();
    // A copy sleeps while the other two claims are made.
    let copy = buyer.copied();
    for _ in 0..2 {
        buyer.counter.till.claim(&id).await;
        buyer.pay("/pay/5000000/5000000").await;
    }
    buyer.counter.till.claim(&id).await;
    let now = buyer.sync(&id).await.unwrap().account;
    assert_eq!((now.charged.sompi(), now.claimed.sompi()), (15_000_000, 15_000_000));
    let last = now.outpoint.txid;
    buyer.chain.take_back(last);
    assert_eq!(buyer.sync(&id).await.unwrap().account, now, "the old output is unspent again, and stays the old one");
    buyer.chain.accept(last);
    assert_eq!(buyer.sync(&id).await.unwrap().account, now);
    buyer.agrees().await;

    let asleep = buyer.restored(copy, Setup::default());
    // What this copy does not remember to have signed, the claims themselves show.
    assert_eq!(asleep.sync(&id).await.unwrap().account, now);
    asleep.pay("/pay/5000000/1000").await;
    asleep.same_books().await;
}

/// A correction without the latest signature, as a server gives it to a voucher for the outpoint before; `times`: so often.
fn unsigned(times: usize) -> Change {
    let left = AtomicUsize::new(times);
    Box::new(move |said| {
        let strips = left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
        if strips {
            said["voucherState"].as_object_mut().unwrap().remove("signature");
        }
    })
}

#[tokio::test]
async fn a_stale_outpoint_is_asked_about_again_where_the_chain_shows_the_channel_before_anything_is_believed() {
    for (times, disputes) in [(1, false), (9, true)] {
        let buyer = Buyer::new(Setup::default());
        buyer.pay("/pay/5000000/4500000").await;
        let copy = buyer.copied();
        buyer.counter.till.claim(&buyer.id()).await;
        buyer.pay("/pay/5000000/3500000").await;
        let today = buyer.channel().account;
        let old = buyer.restored(copy, Setup::default());
        old.counter.till.mood(|mood| mood.correction = Some(unsigned(times)));
        let sent = old.counter.sent().len();
        let fetched = old.fetch("/pay/5000000/1000").await;
        let vouchers: Vec<_> = old.counter.sent()[sent..].iter().map(|promise| promise.voucher.amount.sompi()).collect();
        if disputes {
            // The second time it has no excuse.
            assert!(matches!(fetched, Err(ChannelError::Wrong { lie: Lie::Voucher, .. })));
            assert_eq!((vouchers.len(), old.channel().phase), (2, Phase::Disputed));
        } else {
            fetched.unwrap();
            assert_eq!(old.channel().account.charged.sompi(), today.charged.sompi() + 1_000);
            old.same_books().await;
            assert_eq!(vouchers.len(), 3);
        }
        // For the outpoint before by its old books; for the active one nothing that could be charged, before the server has proven itself.
        assert_eq!(vouchers[..2], [9_500_000, 1]);
    }
}

#[tokio::test]
async fn a_spend_too_old_for_the_node_is_followed_by_what_it_left() {
    let buyer = Buyer::new(Setup::default());
    buyer.pay("/pay/5000000/5000000").await;
    let id = buyer.id();
    let before = buyer.channel().account.outpoint;
    buyer.counter.till.claim(&id).await;
    // The node does not know the old output any more, only the new one.
    buyer.chain.unspend(&before);
    buyer.chain.unfund(&before);
    assert_eq!(buyer.pay("/pay/5000000/1000").await, 1_000);
    let account = buyer.channel().account;
    assert_eq!((account.charged.sompi(), account.claimed.sompi()), (5_001_000, 5_000_000));
    buyer.agrees().await;
}

#[tokio::test]
async fn an_expired_offer_costs_one_more_question_and_no_second_charge() {
    let buyer = Buyer::new(Setup::default());
    buyer.pay("/pay/1000000/1000").await;
    buyer.counter.till.expire_offers().await;
    assert_eq!(buyer.pay("/pay/1000000/1000").await, 1_000);
    let identifiers: Vec<_> = buyer.counter.sent().into_iter().map(|promise| promise.identifier).collect();
    assert_eq!(identifiers[1], identifiers[2], "one purchase keeps one identifier");
    buyer.agrees().await;
}

#[tokio::test]
async fn a_refusal_leaves_the_channel_as_useful_as_its_code_says() {
    for (code, phase) in [
        (Code::ExposureLimit, Phase::Open),
        (Code::RefundWindow, Phase::Retired),
        (Code::ChannelClosed, Phase::Retired),
        (Code::ChannelUnknown, Phase::Retired),
        (Code::VoucherSignature, Phase::Open),
    ] {
        let buyer = Buyer::new(Setup { deposit: None, ..Setup::default() });
        let opening = buyer.restarted(Setup::default());
        opening.pay("/pay/1000000/1000").await;
        buyer.counter.till.mood(|mood| mood.refuse = Some(code));
        let error = buyer.fetch("/pay/1000000/2000").await.expect_err("refused");
        assert!(matches!(error, ChannelError::Refused { code: said, .. } if said == code), "{error}");
        assert_eq!(buyer.channel().phase, phase, "{code}");
        assert_eq!((buyer.channel().account.charged.sompi(), buyer.channel().account.unknown.sompi()), (1_000, 0));
        buyer.counter.till.mood(|mood| mood.refuse = None);
        match phase {
            Phase::Open => assert_eq!(buyer.pay("/pay/1000000/2000").await, 2_000),
            _ => assert!(matches!(buyer.fetch("/pay/1000000/2000").await, Err(ChannelError::NoChannel { .. }))),
        }
    }
}

#[tokio::test]
async fn a_server_that_keeps_correcting_is_given_up_on() {
    let buyer = Buyer::new(Setup::default());
    buyer.pay("/pay/1000000/1000").await;
    buyer.counter.till.mood(|mood| mood.misjudge = true);
    let error = buyer.fetch("/pay/1000000/2000").await.expect_err("for ever");
    assert!(matches!(error, ChannelError::Refused { code: Code::VoucherAmount, .. }), "{error}");
    assert!(buyer.counter.sent().len() <= 7);
    buyer.never_lower();
    buyer.counter.till.mood(|mood| mood.misjudge = false);
    buyer.pay("/pay/1000000/2000").await;
    buyer.agrees().await;
}

#[tokio::test]
async fn a_plain_402_after_a_payment_leaves_the_request_open() {
    let buyer = Buyer::new(Setup::default());
    buyer.pay("/pay/1000000/1000").await;
    buyer.counter.faults(&[Fault::AskAgain]);
    let error = buyer.fetch("/pay/1000000/2000").await.expect_err("asked again");
    assert!(matches!(error, ChannelError::InFlight { .. }), "{error}");
    assert_eq!(buyer.channel().account.unknown.sompi(), 1_000_000);
    assert_eq!(buyer.pay("/pay/1000000/2000").await, 2_000);
    assert_eq!((buyer.counter.till.ledger().await.len(), buyer.channel().account.unknown.sompi()), (2, 0));
    let headers: std::collections::HashSet<_> = buyer.counter.sent()[1..].iter().map(|promise| promise.header.clone()).collect();
    assert_eq!(headers.len(), 1, "resumed with the same header");
    buyer.agrees().await;
}

#[tokio::test]
async fn another_purchase_of_the_same_thing_is_made_only_on_request() {
    let buyer = Buyer::new(short());
    buyer.pay("/pay/1000000/1000").await;
    buyer.counter.faults(&[Fault::LoseAnswer; 1_000]);
    buyer.fetch("/pay/1000000/2000").await.expect_err("lost");
    buyer.counter.faults(&[]);
    let buyer = buyer.restarted(Setup::default());
    let request = buyer.request("/pay/1000000/2000");
    let fresh = buyer.ask(&request, kas402::client::channel::Want::Pay, true).await.unwrap();
    assert!(matches!(fresh, Fetched::Charged { .. }));
    assert_eq!(buyer.counter.till.ledger().await.len(), 3);
    buyer.agrees().await;
    assert_eq!(buyer.pay("/pay/1000000/2000").await, 2_000);
    assert_eq!(buyer.counter.till.ledger().await.len(), 3, "the first one's answer is still owed");
    assert!(buyer.channel().account.left().sompi() > 9 * KAS);
}
