//! The store against the chain: what differs, what is repaired, and what is left alone.

use super::{
    channels::world as of_channels,
    world::{Ask, FINAL_DEPTH, World},
};
use crate::{
    binding::escrow_v1::EscrowScript,
    chain::{Chain, Utxo},
    gateway::{
        Gateway,
        ledger::Cursor,
        reconcile::{ReconcileError, Reconciled, Remedy, What},
    },
    protocol::ids::TxId,
    store::{ChainFact, Observed, PaymentState, Store, channels::ChannelStore},
};

/// All pages as one, and the codes of what differs.
async fn whole(gateway: &Gateway, repair: bool) -> (Reconciled, Vec<(What, Remedy)>) {
    let mut whole = Reconciled::default();
    let mut next = Some(Cursor::default());
    while let Some(after) = next {
        let page = gateway.reconcile(after, repair).await.unwrap();
        whole.checked += page.checked;
        whole.unverified += page.unverified;
        whole.differences.extend(page.differences);
        next = page.next;
    }
    let codes = whole.differences.iter().map(|difference| (difference.what, difference.remedy)).collect();
    (whole, codes)
}

/// A served payment that is final, so that nobody watches it any more.
async fn final_payment(world: &World, target: &str) -> TxId {
    let payment = world.pay(Ask::get(target)).await;
    world.send(&payment.ask()).await.served(payment.txid);
    world.chain.advance(FINAL_DEPTH);
    world.until("final", async || world.record(payment.txid).await.unwrap().is_final).await;
    payment.txid
}

#[tokio::test(start_paused = true)]
async fn a_store_that_agrees_with_the_chain_has_no_differences() {
    let world = World::new().await;
    final_payment(&world, "/paid?1").await;
    let open = world.pay(Ask::get("/paid?2")).await;
    world.send(&open.ask()).await.served(open.txid);
    let (found, codes) = whole(&world.gateway, true).await;
    assert_eq!((found.checked, found.unverified, codes), (2, 0, vec![]));
    world.chain.down("disconnected");
    let refused = world.gateway.reconcile(Cursor::default(), true).await.unwrap_err();
    assert!(matches!(&refused, ReconcileError::Node(why) if why == "disconnected"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_final_payment_that_a_deep_reorg_took_is_found_and_booked_back_once_its_conflict_is_final() {
    let world = World::new().await;
    let (lost, kept) = (final_payment(&world, "/paid?1").await, final_payment(&world, "/paid?2").await);
    world.chain.take_back(lost);
    // Nothing but absence: a difference, and no proof of anything.
    for repair in [false, true] {
        let (found, codes) = whole(&world.gateway, repair).await;
        assert_eq!((found.checked, codes), (2, vec![(What::NotOnChain, Remedy::ByHand)]));
        assert_eq!(found.differences[0].txid, Some(lost));
    }
    assert_eq!(world.totals().await.reversed, 0);

    world.chain.conflict(lost, TxId([0xcc; 32]));
    assert_eq!(whole(&world.gateway, true).await.1, [(What::Conflict, Remedy::NotFinal)]);
    assert_eq!(world.totals().await.reversed, 0);
    world.chain.advance(FINAL_DEPTH);
    assert_eq!(whole(&world.gateway, false).await.1, [(What::Conflict, Remedy::Provable)]);
    assert_eq!(world.totals().await.reversed, 0, "asked only");
    assert_eq!(whole(&world.gateway, true).await.1, [(What::Conflict, Remedy::Repaired)]);
    assert_eq!(whole(&world.gateway, true).await.1, []);
    let totals = world.totals().await;
    assert_eq!(
        (totals.reversed, totals.reversed_sompi, totals.delivered),
        (1, u128::from(world.record(lost).await.unwrap().amount.sompi()), 1)
    );
    assert_eq!(world.record(kept).await.unwrap().state, PaymentState::Delivered);
}

#[tokio::test(start_paused = true)]
async fn what_was_booked_back_and_is_there_needs_a_person() {
    let world = World::new().await;
    let txid = final_payment(&world, "/paid").await;
    let key = world.record(txid).await.unwrap().key;
    assert_eq!(world.store.observe(&key, ChainFact::Reversed { by: TxId([1; 32]) }, world.now()).await.unwrap(), Observed::Done);
    for repair in [false, true] {
        assert_eq!(whole(&world.gateway, repair).await.1, [(What::ReversedButAccepted, Remedy::ByHand)]);
    }
    assert_eq!(world.record(txid).await.unwrap().state, PaymentState::Reversed);
}

#[tokio::test(start_paused = true)]
async fn an_escrow_that_was_spent_while_nobody_watched_is_found_and_closed() {
    let world = of_channels::World::new(of_channels::by_hand()).await;
    let (config, transaction) = world.deposit(1, of_channels::TIMEOUT, of_channels::FUNDING);
    // Opened and never watched, as if the process had died.
    let record = world.opened(config, &transaction, of_channels::FUNDING, true).await;
    world.chain.submit(&transaction).await;
    assert_eq!(whole(&world.gateway, false).await.1, [(What::DepositMissing, Remedy::Provable)]);
    world.chain.spend(record.outpoint, TxId([0xfe; 32]));
    let (found, codes) = whole(&world.gateway, false).await;
    assert_eq!(codes, [(What::EscrowSpent, Remedy::Provable), (What::DepositMissing, Remedy::Provable)]);
    assert_eq!((found.checked, found.differences[0].channel), (1, Some(record.id)));
    assert_eq!(world.store.channel(&record.id).await.unwrap().unwrap(), record, "asked only");
    let repaired = whole(&world.gateway, true).await.1;
    assert!(repaired.iter().all(|(_, remedy)| *remedy == Remedy::Repaired) && repaired.len() == 2, "{repaired:?}");
    assert!(world.store.channel(&record.id).await.unwrap().unwrap().closure.is_some());
    assert_eq!(whole(&world.gateway, true).await.1, []);
}

#[tokio::test(start_paused = true)]
async fn an_escrow_that_is_not_what_the_store_says_is_nobodys_to_repair() {
    let world = of_channels::World::new(of_channels::by_hand()).await;
    let record = world.open(1).await;
    assert_eq!(whole(&world.gateway, true).await.1, []);
    let script = EscrowScript::of(&record.config).unwrap();
    world.chain.fund(Utxo {
        outpoint: record.outpoint,
        amount: of_channels::sompi(of_channels::FUNDING - 1),
        script_public_key: script.script_public_key().clone(),
        daa_score: record.deposit.funded_daa.unwrap(),
        is_coinbase: false,
        covenant: false,
    });
    for repair in [false, true] {
        assert_eq!(whole(&world.gateway, repair).await.1, [(What::EscrowDiffers, Remedy::ByHand)]);
    }
    world.chain.vanish(record.outpoint);
    let (found, codes) = whole(&world.gateway, true).await;
    assert_eq!((found.unverified, codes), (1, vec![]), "gone, and nobody knows by whom");
}
