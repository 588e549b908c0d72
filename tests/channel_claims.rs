//! What happens to channels on a real chain: what the network takes and refuses, and that a gateway's records follow it.

#[path = "support/chain.rs"]
mod chain;
#[path = "channel_claims/desk.rs"]
mod desk;
#[path = "support/devnet.rs"]
mod devnet;
#[path = "support/escrow.rs"]
mod escrow;

use chain::{connect, options, txid};
use desk::{Desk, by_hand};
use devnet::{Devnet, KAS, Wallet};
use escrow::{Channel, Held};
use kas402::{
    binding::escrow_v1::spend::refund_matured,
    chain::{Chain, SubmitOutcome, kaspa::KaspaChain},
    protocol::ids::Outpoint,
    store::channels::*,
};
use kaspa_consensus_core::tx::{Transaction, TransactionOutput};
use std::sync::Arc;

const FUNDING: u64 = 10 * KAS;
const VOUCHER: u64 = 3 * KAS;

/// Far enough that no test gets there.
const NEVER: u64 = 400_000_000_000;

async fn virtual_daa(net: &Devnet) -> u64 {
    net.get("/status").await["nodes"][0]["chain"]["virtual_daa_score"].as_u64().unwrap()
}

/// The network proves that the transaction can never be valid.
async fn rejected(chain: &KaspaChain, name: &str, transaction: &Transaction) {
    match chain.submit(transaction).await {
        SubmitOutcome::Rejected(reason) if reason.contains("failed to verify the signature script") => {}
        other => panic!("{name}: {other:?}"),
    }
}

async fn taken(chain: &KaspaChain, name: &str, transaction: &Transaction) {
    assert_eq!(chain.submit(transaction).await, SubmitOutcome::New, "{name}");
}

fn continuation(claim: &Transaction) -> Held {
    Held { outpoint: Outpoint { txid: claim.id().into(), index: 1 }, sompi: claim.outputs[1].value }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_network_takes_claims_by_the_rules_and_no_others() {
    let net = Devnet::start(1, 10.0).await;
    let chain = connect(options(&net.wrpc)).await;
    let (channel, stranger) = (Channel::new(1, NEVER), Wallet::new(90));
    let escrows = channel.fund(&net, FUNDING, 4).await;
    let fees = net.fund(&stranger, KAS, 2).await;
    let (held, other) = (escrows[0], escrows[1]);
    let honest = channel.claim(held, VOUCHER).transaction;
    let fee = FUNDING - honest.outputs.iter().map(|output| output.value).sum::<u64>();

    // Every fault alone: a coin of somebody else pays for whatever the change costs.
    let doctored = |change: &dyn Fn(&mut Transaction)| channel.doctored(&honest, held, &channel.server, (&stranger, &fees[0]), change);
    for (name, transaction) in [
        ("a payout above the voucher", doctored(&|tx| tx.outputs[0].value = VOUCHER + 1)),
        ("a continuation too small by one sompi", doctored(&|tx| tx.outputs[1].value -= 1)),
        ("a payout to somebody else", doctored(&|tx| tx.outputs[0].script_public_key = stranger.script())),
        ("a continuation under another script", doctored(&|tx| tx.outputs[1].script_public_key = channel.server.script())),
        ("a third output", doctored(&|tx| tx.outputs.push(TransactionOutput::new(KAS / 2, stranger.script())))),
        ("no continuation", doctored(&|tx| tx.outputs.truncate(1))),
        ("a voucher of more than was signed", doctored(&|tx| tx.inputs[0].signature_script[132] ^= 1)),
        ("another output's voucher", channel.claim_with(held, VOUCHER, &channel.voucher(other.outpoint, VOUCHER)).transaction),
        (
            "another channel's voucher",
            channel.claim_with(held, VOUCHER, &Channel::new(2, NEVER).voucher(held.outpoint, VOUCHER)).transaction,
        ),
        ("signed by the client", channel.doctored(&honest, held, &channel.client, (&stranger, &fees[0]), &|_| {})),
    ] {
        rejected(&chain, name, &transaction).await;
    }

    // The control: the same hand and the same coin, and nothing wrong.
    taken(&chain, "the whole voucher, with another's fee", &doctored(&|tx| tx.outputs[0].value = VOUCHER)).await;
    taken(&chain, "the whole voucher", &channel.claim(other, VOUCHER).transaction).await;
    let less = channel.claim_with(escrows[2], VOUCHER / 2, &channel.voucher(escrows[2].outpoint, VOUCHER));
    taken(&chain, "less than the voucher", &less.transaction).await;
    net.mine(0, 2).await;

    // The claimed voucher is worth nothing on the continuation; a new one is, and the whole chain of claims pays out.
    let next = Held { outpoint: less.continuation, sompi: less.funding.sompi() };
    assert_eq!(next, continuation(&less.transaction));
    let old = channel.claim_with(next, VOUCHER / 2, &channel.voucher(escrows[2].outpoint, VOUCHER));
    rejected(&chain, "the spent outpoint's voucher", &old.transaction).await;
    taken(&chain, "the continuation", &channel.claim(next, VOUCHER).transaction).await;
    net.mine(0, 2).await;
    let paid: u64 = chain.utxos(&channel.payout.address().to_string()).await.unwrap().iter().map(|utxo| utxo.amount.sompi()).sum();
    assert_eq!(paid, VOUCHER + (VOUCHER - fee) + (VOUCHER / 2 - fee) + (VOUCHER - fee));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_pays_more_takes_the_place_of_one_that_waits_in_the_mempool() {
    let net = Devnet::start(1, 10.0).await;
    let chain = connect(options(&net.wrpc)).await;
    let channel = Channel::new(1, NEVER);
    let held = channel.fund(&net, FUNDING, 1).await[0];
    // Nobody mines: whatever is sent waits.
    net.set_rate(0, 0.0).await;
    let cheap = channel.claim(held, VOUCHER);
    let fee = FUNDING - cheap.transaction.outputs.iter().map(|output| output.value).sum::<u64>();
    let dear = channel.claim_paying(held, VOUCHER, 2 * fee);
    taken(&chain, "the first", &cheap.transaction).await;
    assert!(matches!(chain.submit(&dear.transaction).await, SubmitOutcome::Unknown(_)), "not without being asked to replace");
    assert_eq!(chain.replace(&dear.transaction).await, SubmitOutcome::New);
    assert_eq!(chain.replace(&dear.transaction).await, SubmitOutcome::Known);
    for again in 0..2 {
        assert!(matches!(chain.replace(&cheap.transaction).await, SubmitOutcome::Unknown(_)), "it pays less, {again}");
    }
    net.mine(0, 3).await;
    let paid: u64 = chain.utxos(&channel.payout.address().to_string()).await.unwrap().iter().map(|utxo| utxo.amount.sompi()).sum();
    assert_eq!(paid, VOUCHER - 2 * fee, "the dear one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_network_takes_a_refund_after_the_timeout_and_not_a_block_before() {
    let net = Devnet::start(1, 10.0).await;
    let chain = connect(options(&net.wrpc)).await;
    let stranger = Wallet::new(90);
    let fees = net.fund(&stranger, KAS, 1).await;
    net.set_rate(0, 0.0).await;
    let timeout = virtual_daa(&net).await + 20;
    let channel = Channel::new(1, timeout);
    let escrows = channel.fund(&net, FUNDING, 2).await;
    let refund = channel.refund(escrows[0]);
    let mut early = 0;
    loop {
        let now = virtual_daa(&net).await;
        if refund_matured(timeout, now) {
            break;
        }
        match chain.submit(&refund).await {
            // No proof: it is valid later.
            SubmitOutcome::Unknown(reason) if reason.contains("is not finalized") => early += 1,
            other => panic!("at {now} with a timeout of {timeout}: {other:?}"),
        }
        net.mine(0, 1).await;
    }
    assert!(early > 5, "{early}");
    let doctored = |by: &Wallet, change: &dyn Fn(&mut Transaction)| {
        channel.doctored(&channel.refund(escrows[1]), escrows[1], by, (&stranger, &fees[0]), change)
    };
    for (name, transaction) in [
        ("to somebody else", doctored(&channel.client, &|tx| tx.outputs[0].script_public_key = stranger.script())),
        ("to the recipient", doctored(&channel.client, &|tx| tx.outputs[0].script_public_key = channel.payout.script())),
        ("two outputs", doctored(&channel.client, &|tx| tx.outputs.push(TransactionOutput::new(KAS / 2, stranger.script())))),
        ("without its lock time", doctored(&channel.client, &|tx| tx.lock_time = 0)),
        ("with a lock time before the timeout", doctored(&channel.client, &|tx| tx.lock_time = timeout - 1)),
        ("by the server", doctored(&channel.server, &|_| {})),
        ("by a stranger", doctored(&stranger, &|_| {})),
    ] {
        rejected(&chain, name, &transaction).await;
    }
    taken(&chain, "the refund", &refund).await;
    taken(&chain, "with another's fee", &doctored(&channel.client, &|_| {})).await;
    // A claim is still allowed after the timeout, where nobody was faster.
    let claim = channel.claim(escrows[1], VOUCHER).transaction;
    match chain.submit(&claim).await {
        SubmitOutcome::Unknown(reason) if reason.contains("already spent") => {}
        other => panic!("{other:?}"),
    }
    net.mine(0, 2).await;
    let refunded = chain.utxos(&channel.refund.address().to_string()).await.unwrap();
    assert_eq!(refunded.len(), 2);
    assert!(refunded.iter().any(|utxo| utxo.amount.sompi() == refund.outputs[0].value));
}

/// A channel of 10 KAS that owes 3 KAS, and the gateway that watches it.
async fn owing(net: &Devnet, chain: &Arc<KaspaChain>, channel: &Channel) -> (Desk, Held) {
    let store = desk::store();
    let held = desk::open(&store, net, channel, FUNDING).await;
    desk::charge(&store, channel, VOUCHER, 1).await;
    (Desk::start(store, chain.clone(), by_hand()).await, held)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_is_followed_to_its_end_and_the_channel_goes_on_until_its_refund() {
    let net = Devnet::start(1, 10.0).await;
    let chain = connect(options(&net.wrpc)).await;
    let channel = Channel::new(1, virtual_daa(&net).await + 300);
    let id = channel.config.channel_id();
    let (desk, held) = owing(&net, &chain, &channel).await;
    desk.until(&id, "funded", |record| record.deposit.funded_daa.is_some()).await;
    let claim = desk.claim(&id).await;
    assert_eq!((claim.claim_outpoint, claim.takes.sompi(), claim.taken), (held.outpoint, VOUCHER, true));
    let record = desk.until(&id, "accepted", |record| record.outpoint == claim.continuation_outpoint).await;
    assert_eq!((record.phase(), record.parts.claimed.sompi(), record.parts.funding.sompi()), (Phase::Idle, VOUCHER, FUNDING - VOUCHER));
    desk.charge(&channel, KAS).await;
    net.mine(0, desk::FINAL_DEPTH + 5).await;
    desk.until(&id, "final", |record| record.moves.is_empty() && record.deposit.transaction.is_none()).await;
    let second = desk.claim(&id).await;
    desk.until(&id, "accepted again", |record| record.outpoint == second.continuation_outpoint).await;
    let paid = desk::held_by(&chain, &channel.payout).await;
    assert_eq!(paid, claim.payout.sompi() + second.payout.sompi());

    // What is left goes back to the client after the timeout; the claim before it is not even final.
    let rest = Held { outpoint: second.continuation_outpoint, sompi: FUNDING - VOUCHER - KAS };
    desk.charge(&channel, KAS / 4).await;
    net.set_rate(0, 0.0).await;
    while !refund_matured(channel.config.refund_timeout_daa, virtual_daa(&net).await) {
        net.mine(0, 10).await;
    }
    let refund = channel.refund(rest);
    net.submit(0, &refund).await.unwrap();
    net.mine(0, 2).await;
    let closed = desk.until(&id, "closed", |record| record.phase() == Phase::Closed).await;
    assert_eq!(closed.closure.unwrap().by, txid(&refund));
    net.mine(0, desk::FINAL_DEPTH + 5).await;
    desk.until(&id, "closed for good", |record| record.closure.unwrap().is_final).await;
    let totals = desk.store.channel_totals().await.unwrap();
    let expect = [VOUCHER + KAS + KAS / 4, VOUCHER + KAS, KAS / 4].map(u128::from);
    assert_eq!([totals.charged_sompi, totals.claimed_sompi, totals.lost_sompi], expect);
    assert_eq!(desk.gateway.metrics().lost_sompi.get(), KAS / 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claim_and_refund_race_at_the_deadline_and_the_state_follows_the_chain() {
    for claim_wins in [false, true] {
        let net = Devnet::start(2, 10.0).await;
        let chain = connect(options(&net.wrpc[..1])).await;
        net.set_rate(0, 0.0).await;
        let channel = Channel::new(1, virtual_daa(&net).await + 40);
        let id = channel.config.channel_id();
        let (desk, held) = owing(&net, &chain, &channel).await;
        net.mine(0, 1).await;
        desk.until(&id, "funded", |record| record.deposit.funded_daa.is_some()).await;
        while !refund_matured(channel.config.refund_timeout_daa, virtual_daa(&net).await) {
            net.mine(0, 1).await;
        }
        let refund = channel.refund(held);
        net.partition().await;
        // Each is the only one on its branch, and the gateway sees the loser first.
        let claim = if claim_wins {
            // Durable, and the refund is faster here.
            let claim = channel.claim(held, VOUCHER).transaction;
            desk::build(&desk.store, &channel, held, VOUCHER, &claim).await;
            net.submit(0, &refund).await.unwrap();
            net.mine(0, 5).await;
            desk.until(&id, "closed", |record| record.phase() == Phase::Closed).await;
            net.submit(1, &claim).await.unwrap();
            txid(&claim)
        } else {
            let claim = desk.claim(&id).await;
            net.mine(0, 5).await;
            desk.until(&id, "claimed", |record| record.outpoint == claim.continuation_outpoint).await;
            net.submit(1, &refund).await.unwrap();
            claim.txid
        };
        net.mine(1, 30).await;
        net.rejoin().await;
        net.mine(0, 3).await;
        let record = if claim_wins {
            desk.until(&id, "claimed", |record| record.outpoint.txid == claim && record.phase() == Phase::Idle).await
        } else {
            desk.until(&id, "closed", |record| record.phase() == Phase::Closed).await
        };
        let (claimed, active) = if claim_wins { (VOUCHER, 0) } else { (0, VOUCHER) };
        assert_eq!((record.parts.claimed.sompi(), record.active().sompi()), (claimed, active));
        net.mine(0, desk::FINAL_DEPTH + 5).await;
        let over = |record: &ChannelRecord| record.moves.is_empty() && record.closure.is_none_or(|closure| closure.is_final);
        desk.until(&id, "final", over).await;
        let totals = desk.store.channel_totals().await.unwrap();
        assert_eq!((totals.claimed_sompi, totals.lost_sompi), (u128::from(claimed), u128::from(active)), "{claim_wins}");
        let settled = desk.store.settled_moves(&id, 0, 10).await.unwrap();
        assert_eq!(settled.len(), 1);
        assert_eq!(matches!(settled[0].state, SettledState::Final(_)), claim_wins);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_taken_back_by_a_reorg_comes_back() {
    let net = Devnet::start(2, 10.0).await;
    let chain = connect(options(&net.wrpc[..1])).await;
    let channel = Channel::new(1, NEVER);
    let id = channel.config.channel_id();
    let (desk, _) = owing(&net, &chain, &channel).await;
    desk.until(&id, "funded", |record| record.deposit.funded_daa.is_some()).await;
    net.set_rate(0, 0.0).await;
    net.partition().await;
    let claim = desk.claim(&id).await;
    net.mine(0, 5).await;
    let accepted = desk.until(&id, "accepted", |record| record.outpoint == claim.continuation_outpoint).await;
    desk.charge(&channel, KAS).await;
    net.mine(1, 30).await;
    net.rejoin().await;
    let back = desk.until(&id, "taken back", |record| record.phase() == Phase::TakenBack).await;
    assert_eq!((back.outpoint, back.active().sompi()), (claim.claim_outpoint, VOUCHER + KAS));
    net.set_rate(0, 10.0).await;
    let again = desk.until(&id, "accepted again", |record| record.phase() == Phase::Idle).await;
    assert_eq!((again.outpoint, again.active().sompi()), (claim.continuation_outpoint, KAS));
    assert_ne!(again.moves[0].state, accepted.moves[0].state, "in another block");
    net.mine(0, desk::FINAL_DEPTH + 5).await;
    desk.until(&id, "final", |record| record.moves.is_empty()).await;
    assert_eq!(desk.gateway.metrics().claims.taken_back.get(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_a_node_never_saw_is_sent_to_it_again() {
    let net = Devnet::start(2, 10.0).await;
    let chain = connect(options(&net.wrpc)).await;
    let channel = Channel::new(1, NEVER);
    let id = channel.config.channel_id();
    let (desk, _) = owing(&net, &chain, &channel).await;
    desk.until(&id, "funded", |record| record.deposit.funded_daa.is_some()).await;
    // Both nodes have the deposit, only one of them the claim, and that one is lost with its chain.
    net.mine(0, 5).await;
    net.stop_node(1).await;
    let claim = desk.claim(&id).await;
    desk.until(&id, "accepted", |record| record.outpoint == claim.continuation_outpoint).await;
    desk.charge(&channel, KAS).await;
    net.stop_node(0).await;
    net.start_node(1).await;
    let again = desk.until(&id, "accepted on the other chain", |record| {
        record.phase() == Phase::Idle && desk.gateway.metrics().claims.taken_back.get() == 1
    });
    let again = again.await;
    assert_eq!((again.outpoint, again.active().sompi()), (claim.continuation_outpoint, KAS));
    assert_eq!(desk::held_by(&chain, &channel.payout).await, claim.payout.sompi());
    net.mine(1, desk::FINAL_DEPTH + 5).await;
    desk.until(&id, "final", |record| record.moves.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_a_dead_process_built_is_sent_and_one_it_did_not_see_accepted_is_found() {
    let net = Devnet::start(1, 10.0).await;
    for sent in [false, true] {
        let chain = connect(options(&net.wrpc)).await;
        let channel = Channel::new(if sent { 2 } else { 1 }, NEVER);
        let id = channel.config.channel_id();
        let store = desk::store();
        let held = desk::open(&store, &net, &channel, FUNDING).await;
        desk::charge(&store, &channel, VOUCHER, 1).await;
        let claim = channel.claim(held, VOUCHER).transaction;
        desk::build(&store, &channel, held, VOUCHER, &claim).await;
        if sent {
            net.submit(0, &claim).await.unwrap();
            net.mine(0, 20).await;
        }
        let desk = Desk::start(store, chain, by_hand()).await;
        let record = desk.until(&id, "accepted", |record| record.outpoint.txid == txid(&claim)).await;
        assert_eq!((record.parts.claimed.sompi(), record.phase()), (VOUCHER, Phase::Idle));
        net.mine(0, desk::FINAL_DEPTH + 5).await;
        desk.until(&id, "final", |record| record.moves.is_empty()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refund_while_no_gateway_ran_is_found_however_long_ago_the_deposit_was() {
    let net = Devnet::start(1, 10.0).await;
    let channel = Channel::new(1, virtual_daa(&net).await + 60);
    let id = channel.config.channel_id();
    let process = desk::Process::start();
    let wrpc = net.wrpc.clone();
    let chain = process.run(async move { connect(options(&wrpc)).await }).await;
    let store = desk::store();
    desk::open(&store, &net, &channel, FUNDING).await;
    desk::charge(&store, &channel, VOUCHER, 1).await;
    let kept = store.clone();
    let desk = process.run(async move { Desk::start(kept, chain, by_hand()).await }).await;
    desk.until(&id, "funded", |record| record.deposit.funded_daa.is_some()).await;
    let claim = desk.claim(&id).await;
    net.mine(0, desk::FINAL_DEPTH + 20).await;
    // The record does not say any more when the continuation was made.
    desk.until(&id, "final", |record| record.moves.is_empty() && record.outpoint == claim.continuation_outpoint).await;
    process.kill();
    net.mine(0, 20).await;
    let rest = Held { outpoint: claim.continuation_outpoint, sompi: FUNDING - VOUCHER };
    let refund = channel.refund(rest);
    net.submit(0, &refund).await.unwrap();
    net.mine(0, 100).await;
    assert_eq!(desk.record(&id).await.closure, None, "nobody watched");
    let next = connect(options(&net.wrpc)).await;
    let desk = Desk::start(store, next, by_hand()).await;
    let closed = desk.until(&id, "closed for good", |record| record.closure.is_some_and(|closure| closure.is_final)).await;
    assert_eq!(closed.closure.unwrap().by, txid(&refund));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn near_the_timeout_the_gateway_claims_by_itself_and_before_the_client_can_refund() {
    let net = Devnet::start(1, 10.0).await;
    let chain = connect(options(&net.wrpc)).await;
    let channel = Channel::new(1, virtual_daa(&net).await + 200);
    let id = channel.config.channel_id();
    let store = desk::store();
    desk::open(&store, &net, &channel, FUNDING).await;
    // Below the amount from which it would be claimed at any time.
    desk::charge(&store, &channel, KAS / 2, 1).await;
    let policy = kas402::protocol::policy::ClaimPolicy { automatic: true, before_refund_daa: 100, ..by_hand() };
    let desk = Desk::start(store, chain.clone(), policy).await;
    desk.until(&id, "funded", |record| record.deposit.funded_daa.is_some()).await;
    assert_eq!(desk.record(&id).await.moves, []);
    net.mine(0, 120).await;
    let claimed = desk.until(&id, "claimed", |record| record.parts.claimed.sompi() == KAS / 2).await;
    let MoveState::Accepted(acceptance) = claimed.moves[0].state else { panic!("{claimed:?}") };
    assert!(acceptance.daa_score < channel.config.refund_timeout_daa, "{acceptance:?}");
}
