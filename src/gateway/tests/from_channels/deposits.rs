//! Opening and topping up: whose money counts, and when.

use super::buyer::{CEILING, Channel, DEPOSIT, Paying, amount_of, ask, new_identifier, parts};
use crate::{
    chain::{SubmitOutcome, Utxo, sim::OnSubmit},
    gateway::tests::{
        fakes::{Fault, Verb},
        world::{HOLD, SETTLE_WAIT, World, sompi},
    },
    protocol::{charge::ChargeRule, ids::TxId, policy::Exposure, refusal::Code},
    store::channels::ChannelStore as _,
};
use kaspa_consensus_core::tx::{ComputeCommit, CovenantBinding, ScriptPublicKey, TransactionOutput};

async fn world() -> World {
    World::channels(CEILING, ChargeRule::Fixed).await
}

/// The deposit on chain as the client itself sent it.
fn utxo(channel: &Channel) -> Utxo {
    Utxo {
        outpoint: channel.outpoint,
        amount: sompi(channel.funding),
        script_public_key: channel.script.script_public_key().clone(),
        daa_score: 1,
        is_coinbase: false,
        covenant: false,
    }
}

/// A deposit that the client sent itself.
async fn sent_by_client(world: &World, channel: &Channel) -> Paying {
    let accepted = world.batch_offer(&ask()).await;
    let ceiling = amount_of(&accepted);
    channel.with(&ask(), accepted, &channel.deposit_payload(None, channel.outpoint, channel.funding, ceiling))
}

#[tokio::test(start_paused = true)]
async fn a_deposit_that_the_client_sent_counts_when_the_node_has_it() {
    let world = world().await;
    let mut channel = world.channel(&ask(), 1, DEPOSIT).await;
    let paying = sent_by_client(&world, &channel).await;
    world.send(&paying.ask()).await.refused(Code::DepositNotConfirmed);
    world.chain.fund(utxo(&channel));
    world.chain.advance(100);
    channel.served(&world.send(&paying.ask()).await);
}

#[tokio::test(start_paused = true)]
async fn what_the_node_says_of_a_deposit_counts_and_nothing_else() {
    for (change, code) in [
        ((|utxo| utxo.amount = sompi(DEPOSIT - 1)) as fn(&mut Utxo), Code::FundingAmount),
        (|utxo| utxo.covenant = true, Code::DepositCovenant),
        (|utxo| utxo.script_public_key = ScriptPublicKey::from_vec(0, vec![0x51]), Code::FundingScript),
    ] {
        let world = world().await;
        let channel = world.channel(&ask(), 1, DEPOSIT).await;
        let paying = sent_by_client(&world, &channel).await;
        let mut funded = utxo(&channel);
        change(&mut funded);
        world.chain.fund(funded);
        world.chain.advance(100);
        world.send(&paying.ask()).await.refused(code);
        assert!(world.store.channel(&channel.id()).await.unwrap().is_none(), "{code}");
        assert_eq!(world.upstream.count(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_deposit_is_refused_for_what_is_wrong_with_it() {
    let world = world().await;
    let base = world.channel(&ask(), 1, DEPOSIT).await;
    for (name, channel, code) in [
        ("below the minimum", Channel::of(base.config.clone(), base.keypair, 99_999_999), Code::DepositTooSmall),
        (
            "wrong script",
            with_output(&base, |output| output.script_public_key = ScriptPublicKey::from_vec(0, vec![0x51])),
            Code::FundingScript,
        ),
        ("wrong amount", with_output(&base, |output| output.value -= 1), Code::FundingAmount),
        (
            "covenant-bound",
            with_output(&base, |output| output.covenant = Some(CovenantBinding::new(0, kaspa_hashes::Hash::from_bytes([1; 32])))),
            Code::DepositCovenant,
        ),
    ] {
        let got = world.send(&world.deposit(&channel, &ask()).await.ask()).await;
        got.refused(code);
        assert!(world.store.channel(&channel.id()).await.unwrap().is_none(), "{name}");
    }
    assert_eq!((world.upstream.count(), world.chain.submits().len()), (0, 0));
}

fn with_output(channel: &Channel, change: impl FnOnce(&mut TransactionOutput)) -> Channel {
    let mut changed = channel.clone();
    change(&mut changed.deposit.outputs[0]);
    if changed.deposit.outputs[0].covenant.is_some() {
        changed.deposit.version = 1;
        changed.deposit.inputs[0].compute_commit = ComputeCommit::ComputeBudget(10.into());
    }
    changed.deposit.finalize();
    changed.outpoint.txid = changed.deposit.id().into();
    changed
}

#[tokio::test(start_paused = true)]
async fn a_deposit_waits_for_its_confirmations() {
    let world = world().await;
    world.reload_channels(|rules| rules.confirmations = 10);
    world.chain.accept_at_once(false);
    let mut channel = world.channel(&ask(), 1, DEPOSIT).await;
    let paying = world.deposit(&channel, &ask()).await.ask();
    let waiting = world.spawn(&paying);
    world.until_submitted(1).await;
    world.chain.accept(channel.outpoint.txid);
    world.chain.advance(9);
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.upstream.count(), 0);
    world.chain.advance(1);
    channel.served(&waiting.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_deposit_that_is_not_there_in_time_is_pending_and_the_same_header_resumes() {
    let world = world().await;
    world.chain.accept_at_once(false);
    let mut channel = world.channel(&ask(), 1, DEPOSIT).await;
    let paying = world.deposit(&channel, &ask()).await.ask();
    let started = tokio::time::Instant::now();
    let got = world.send(&paying).await;
    got.refused(Code::DepositNotConfirmed);
    assert!(got.header("retry-after").is_some());
    assert_eq!(started.elapsed(), SETTLE_WAIT);
    world.chain.accept(channel.outpoint.txid);
    world.chain.advance(100);
    channel.served(&world.send(&paying).await);
    assert_eq!(channel.record(&world).await.charges, 1);
}

#[tokio::test(start_paused = true)]
async fn a_deposit_taken_back_by_a_reorg_serves_nothing_until_it_returns() {
    let world = world().await;
    let mut channel = world.open(&ask(), 1).await;
    world.chain.take_back(channel.outpoint.txid);
    world.until("taken back", async || channel.record(&world).await.deposit.taken_back).await;
    world.send(&world.voucher(&channel, &ask()).await.ask()).await.refused(Code::DepositReorganised);
    world.chain.accept(channel.outpoint.txid);
    world.chain.advance(100);
    world.until("funded", async || channel.record(&world).await.deposit.funded_daa.is_some()).await;
    world.buy(&mut channel, &ask()).await;
}

#[tokio::test(start_paused = true)]
async fn an_opening_whose_answer_was_lost_is_watched_as_soon_as_its_deposit_comes_again() {
    let world = world().await;
    let mut channel = world.channel(&ask(), 1, DEPOSIT).await;
    let paying = world.deposit(&channel, &ask()).await.ask();
    world.store.fail(Verb::OpenChannel, Fault::After);
    world.send(&paying).await.refused(Code::StoreUnavailable);
    channel.served(&world.send(&paying).await);
    assert_eq!(world.chain.watched(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_process_noted_of_a_deposit_is_not_believed_before_the_chain_was_asked() {
    let mut world = world().await;
    let channel = world.open(&ask(), 1).await;
    world.die();
    world.chain.take_back(channel.outpoint.txid);
    world.chain.accept_at_once(false);
    world.restart().await;
    let paying = world.voucher(&channel, &ask()).await;
    world.send(&paying.ask()).await.refused(Code::DepositReorganised);
    assert_eq!(world.upstream.count(), 1);
}

/// Looked at before its lease was asked for, and the lease takes its time: what the chain says meanwhile counts, whether or not the store knows it
/// by then.
#[tokio::test(start_paused = true)]
async fn a_deposit_that_a_reorg_takes_while_its_request_waits_for_the_lease_is_not_served_on() {
    for (stored, code) in [(true, Code::DepositReorganised), (false, Code::NodeUnavailable)] {
        let world = world().await;
        let mut channel = world.open(&ask(), 1).await;
        let paying = world.voucher(&channel, &ask()).await.ask();
        world.chain.accept_at_once(false);
        world.store.fail(Verb::Lease, Fault::Slow);
        let waiting = world.spawn(&paying);
        world.until("the lease is given", async || world.store.slow() == 1).await;
        if !stored {
            world.store.fail(Verb::Sighted, Fault::Hang);
        }
        world.chain.take_back(channel.outpoint.txid);
        if stored {
            world.until("recorded", async || channel.record(&world).await.deposit.funded_daa.is_none()).await;
        }
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        world.store.answer();
        waiting.await.unwrap().refused(code);
        assert_eq!(world.upstream.count(), 1, "{code:?}");
        world.chain.accept(channel.outpoint.txid);
        world.chain.advance(100);
        world.pass(HOLD * 2).await;
        channel.served(&world.send(&paying).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_funding_transaction_that_is_proven_invalid_moved_nothing() {
    let world = world().await;
    let channel = world.channel(&ask(), 1, DEPOSIT).await;
    world.chain.on_submit([OnSubmit::Answer(SubmitOutcome::Rejected("bad".into()))]);
    world.send(&world.deposit(&channel, &ask()).await.ask()).await.refused(Code::FundingRejected);
    assert!(world.store.channel(&channel.id()).await.unwrap().is_none());
    // Its client may try again with the very same deposit.
    let mut channel = channel;
    let paying = world.deposit(&channel, &ask()).await;
    channel.served(&world.send(&paying.ask()).await);
}

#[tokio::test(start_paused = true)]
async fn a_deposit_that_was_spent_already_is_refused_as_spent() {
    let world = world().await;
    let channel = world.channel(&ask(), 1, DEPOSIT).await;
    let paying = world.deposit(&channel, &ask()).await;
    world.chain.fund(utxo(&channel));
    world.chain.spend(channel.outpoint, TxId([9; 32]));
    world.send(&sent_by_client(&world, &channel).await.ask()).await.refused(Code::DepositSpent);
    world.chain.on_submit([OnSubmit::Answer(SubmitOutcome::Known)]);
    world.send(&paying.ask()).await.refused(Code::DepositSpent);
    assert_eq!(world.upstream.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_outpoint_is_one_channel_however_many_salts_it_is_offered_under() {
    let world = world().await;
    let base = world.channel(&ask(), 1, DEPOSIT).await;
    let accepted = world.batch_offer(&ask()).await;
    let requests: Vec<_> = (0..16u8)
        .map(|salt| {
            let mut channel = base.clone();
            channel.config.salt.0[31] = salt;
            world.spawn(&channel.depositing(&ask(), accepted.clone(), CEILING).ask())
        })
        .collect();
    let mut served = 0;
    for request in requests {
        let got = request.await.unwrap();
        match got.status() {
            200 => served += 1,
            _ => got.refused(Code::OutpointInUse),
        }
    }
    assert_eq!((served, world.upstream.count()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_second_outpoint_under_a_living_script_is_refused() {
    let world = world().await;
    let channel = world.open(&ask(), 1).await;
    let second = Channel::of(channel.config.clone(), channel.keypair, DEPOSIT);
    world.send(&world.deposit(&second, &ask()).await.ask()).await.refused(Code::ScriptInUse);
    let mut salted = channel.config.clone();
    salted.salt.0[0] ^= 1;
    let third = Channel::of(salted, channel.keypair, DEPOSIT);
    world.send(&world.deposit(&third, &ask()).await.ask()).await.refused(Code::ScriptInUse);
}

#[tokio::test(start_paused = true)]
async fn a_top_up_settles_what_is_owed_and_goes_on_over_more() {
    let world = world().await;
    let mut channel = world.open(&ask(), 1).await;
    for _ in 0..29 {
        world.buy(&mut channel, &ask()).await;
    }
    let owed = channel.active();
    let (transaction, continuation, funding) = channel.top_up(5_000_000_000);
    let accepted = world.batch_offer(&ask()).await;
    let payload = channel.deposit_payload(Some(&transaction), continuation, funding, CEILING);
    let paying = channel.with(&ask(), accepted, &payload);
    let request = world.spawn(&paying.ask());
    world.until_submitted(2).await;
    world.chain.advance(100);
    let got = request.await.unwrap();
    channel = Channel { outpoint: continuation, funding, claimed: owed, ..channel };
    channel.served(&got);
    world.buy(&mut channel, &ask()).await;
    let record = channel.record(&world).await;
    assert_eq!((parts(record.parts.claimed), parts(record.parts.charged)), (owed, owed + 2 * CEILING));
    // The same header again is the same answer.
    assert_eq!(world.send(&paying.ask()).await.answer.body, got.answer.body);
    assert_eq!(world.chain.submits().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_top_up_with_nothing_to_claim_or_of_another_form_is_refused() {
    let world = world().await;
    let mut channel = world.open(&ask(), 1).await;
    for _ in 0..29 {
        world.buy(&mut channel, &ask()).await;
    }
    let (transaction, ..) = channel.top_up(5_000_000_000);
    for (change, code) in [
        ((|tx| tx.outputs[0].value -= 10_000_000) as fn(&mut kaspa_consensus_core::tx::Transaction), Code::TopUpAmount),
        (|tx| tx.inputs[1].signature_script.clear(), Code::TopUpSignature),
        (|tx| tx.inputs[0].signature_script.push(1), Code::TopUpForm),
    ] {
        let mut changed = transaction.clone();
        change(&mut changed);
        changed.finalize();
        let continuation = crate::protocol::ids::Outpoint { txid: changed.id().into(), index: 1 };
        let payload = channel.deposit_payload(Some(&changed), continuation, changed.outputs[1].value, CEILING);
        let paying = channel.with(&ask(), world.batch_offer(&ask()).await, &payload).named(&new_identifier());
        world.send(&paying.ask()).await.refused(code);
    }
    assert_eq!(world.chain.submits().len(), 1);
    world.buy(&mut channel, &ask()).await;
}

#[tokio::test(start_paused = true)]
async fn unconfirmed_deposits_are_served_up_to_their_limit() {
    let world = world().await;
    world.reload_channels(|rules| {
        rules.confirmations = 1_000_000;
        rules.exposure = Exposure { unconfirmed: sompi(3 * CEILING), ..Exposure::default() };
    });
    let mut channel = world.open(&ask(), 1).await;
    world.buy(&mut channel, &ask()).await;
    let mut other = world.open(&ask(), 2).await;
    world.send(&world.voucher(&other, &ask()).await.ask()).await.refused(Code::ExposureLimit);
    world.send(&world.voucher(&channel, &ask()).await.ask()).await.refused(Code::ExposureLimit);
    world.reload_channels(|_| {});
    world.chain.advance(100);
    world.buy(&mut other, &ask()).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_owed_over_unconfirmed_deposits_counts_after_a_restart_too() {
    let mut world = world().await;
    world.configure_channels(|rules| {
        rules.confirmations = 50;
        rules.exposure = Exposure { unconfirmed: sompi(3 * CEILING), ..Exposure::default() };
    });
    world.reload_channels(|_| {});
    let mut channel = world.open(&ask(), 1).await;
    world.buy(&mut channel, &ask()).await;
    let mut other = world.open(&ask(), 2).await;
    world.die();
    world.restart().await;
    // Nobody has used the first channel since: it counts by its record.
    world.send(&world.voucher(&other, &ask()).await.ask()).await.refused(Code::ExposureLimit);
    world.chain.advance(100);
    world.buy(&mut other, &ask()).await;
}

#[tokio::test(start_paused = true)]
async fn a_deposit_that_is_there_opens_its_channel_although_the_offer_is_over() {
    let world = world().await;
    world.chain.accept_at_once(false);
    for on_chain in [true, false] {
        let mut channel = world.channel(&ask(), 1 + u8::from(on_chain), DEPOSIT).await;
        let paying = if on_chain { sent_by_client(&world, &channel).await } else { world.deposit(&channel, &ask()).await };
        if on_chain {
            world.chain.fund(utxo(&channel));
        }
        world.skip(3_600);
        world.send(&paying.ask()).await.refused(Code::OfferExpired);
        assert_eq!(world.store.channel(&channel.id()).await.unwrap().is_some(), on_chain);
        if on_chain {
            world.buy(&mut channel, &ask()).await;
        }
    }
}

/// Found by seed 153 of the simulator: a deposit that a reorganisation took was served on for as long as the store took to be told.
#[tokio::test(start_paused = true)]
async fn a_deposit_that_a_reorg_takes_is_not_served_on_while_the_store_is_slow() {
    let world = world().await;
    let mut channel = world.open(&ask(), 1).await;
    let paying = world.voucher(&channel, &ask()).await.ask();
    world.chain.accept_at_once(false);
    world.store.fail(Verb::Sighted, Fault::Hang);
    world.chain.take_back(channel.outpoint.txid);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(channel.record(&world).await.deposit.funded_daa.is_some(), "the store does not know");
    world.send(&paying).await.refused(Code::NodeUnavailable);
    assert_eq!(world.upstream.count(), 1);
    world.chain.accept(channel.outpoint.txid);
    world.chain.advance(100);
    world.pass(HOLD * 2).await;
    channel.served(&world.send(&paying).await);
}
