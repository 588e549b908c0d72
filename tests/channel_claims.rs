//! What happens to channels on a real chain: what the network takes and refuses, and that a gateway's records follow it.

#[path = "support/chain.rs"]
mod chain;
#[path = "support/devnet.rs"]
mod devnet;
#[path = "support/escrow.rs"]
mod escrow;

use chain::{connect, options};
use devnet::{Devnet, KAS, Wallet};
use escrow::{Channel, Held};
use kas402::{
    binding::escrow_v1::spend::refund_matured,
    chain::{Chain, SubmitOutcome, kaspa::KaspaChain},
    protocol::ids::Outpoint,
};
use kaspa_consensus_core::tx::{Transaction, TransactionOutput};

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
