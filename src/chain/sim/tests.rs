use super::*;
use crate::protocol::amount::Amount;
use kaspa_consensus_core::{
    subnets::SUBNETWORK_ID_NATIVE,
    tx::{TransactionInput, TransactionOutpoint, TransactionOutput},
};

fn transaction(salt: u8) -> (Transaction, TxId) {
    let transaction = Transaction::new(0, vec![], vec![], 0, SUBNETWORK_ID_NATIVE, 0, vec![salt]);
    let txid = transaction.id().into();
    (transaction, txid)
}

#[tokio::test]
async fn what_happens_while_it_is_down_is_pushed_when_it_is_up() {
    let chain = SimChain::new(Network::Simnet);
    let ((a, a_id), (b, b_id)) = (transaction(1), transaction(2));
    let (one, two) = (chain.follow(&a, None, true), chain.follow(&b, None, true));
    assert_eq!(chain.submit(&a).await, SubmitOutcome::New);
    assert_eq!(chain.submit(&a).await, SubmitOutcome::Known);
    chain.down("disconnected");
    chain.lose_mempool();
    let acceptance = chain.accept(b_id);
    assert_eq!(*two.borrow(), TxStatus::Unseen);
    assert!(matches!(chain.submit(&a).await, SubmitOutcome::Unavailable(_)));
    chain.up();
    assert_eq!((*one.borrow(), *two.borrow()), (TxStatus::Unseen, TxStatus::Accepted(acceptance)));
    assert_eq!(chain.submits(), [a_id, a_id, a_id], "sent again, once");
}

#[tokio::test]
async fn faults_come_in_the_order_they_were_asked_for() {
    let chain = SimChain::new(Network::Simnet);
    let (tx, txid) = transaction(1);
    let rejected = SubmitOutcome::Rejected("bad".into());
    chain.on_submit([OnSubmit::Answer(rejected.clone()), OnSubmit::DropAnswer]);
    assert_eq!(chain.submit(&tx).await, rejected);
    assert_eq!(chain.sighting(&tx).await.unwrap(), Sighting::NotSeen);
    assert!(matches!(chain.submit(&tx).await, SubmitOutcome::Unknown(_)));
    assert_eq!(chain.sighting(&tx).await.unwrap(), Sighting::Mempool);
    let status = chain.follow(&tx, None, true);
    chain.accept(txid);
    chain.take_back(txid);
    assert_eq!(*status.borrow(), TxStatus::Unseen);
    chain.conflict(txid, TxId([9; 32]));
    assert!(matches!(*status.borrow(), TxStatus::Conflicted { .. }));
    assert!(matches!(chain.submit(&tx).await, SubmitOutcome::Unknown(_)));
}

const OUTPUT: Outpoint = Outpoint { txid: TxId([1; 32]), index: 0 };

fn script() -> ScriptPublicKey {
    ScriptPublicKey::from_vec(0, vec![0x51])
}

fn coin() -> Utxo {
    let amount = Amount::from_sompi(7).unwrap();
    Utxo { outpoint: OUTPUT, amount, script_public_key: script(), daa_score: 1, is_coinbase: false, covenant: false }
}

/// Spends the output and makes one of 5 sompi.
fn spend(salt: u8) -> (Transaction, TxId, Outpoint) {
    let outpoint = TransactionOutpoint::new(kaspa_hashes::Hash::from_bytes(OUTPUT.txid.0), OUTPUT.index);
    let input = TransactionInput::new(outpoint, vec![salt], 0, 1);
    let output = TransactionOutput::new(5, script());
    let transaction = Transaction::new(0, vec![input], vec![output], 0, SUBNETWORK_ID_NATIVE, 0, vec![salt]);
    let txid = transaction.id().into();
    (transaction, txid, Outpoint { txid, index: 0 })
}

#[tokio::test]
async fn a_watched_output_is_funded_spent_and_taken_back() {
    let chain = SimChain::new(Network::Simnet);
    let status = chain.watch_outpoint(OUTPUT, &script(), None);
    let unspent = OutpointStatus::Unspent(coin());
    assert_eq!(*status.borrow(), OutpointStatus::Absent);
    chain.fund(coin());
    assert_eq!(*status.borrow(), unspent);
    chain.unfund(&OUTPUT);
    assert_eq!(*status.borrow(), OutpointStatus::Absent);
    chain.fund(coin());
    chain.vanish(OUTPUT);
    assert_eq!(*status.borrow(), OutpointStatus::Unknown);
    let by = TxId([9; 32]);
    let acceptance = chain.spend(OUTPUT, by);
    assert_eq!(*status.borrow(), OutpointStatus::Spent { by, acceptance });
    chain.unspend(&OUTPUT);
    assert_eq!(*status.borrow(), unspent);
    chain.down("disconnected");
    chain.spend(OUTPUT, by);
    assert_eq!(*status.borrow(), unspent, "nothing is pushed while it is down");
    assert_eq!(*chain.watch_outpoint(coin().outpoint, &script(), None).borrow(), unspent, "watching twice is harmless");
    chain.up();
    assert!(matches!(*status.borrow(), OutpointStatus::Spent { .. }));
    chain.unwatch_outpoint(&OUTPUT);
    assert_eq!(chain.watched(), 0);
}

#[tokio::test]
async fn an_accepted_transaction_moves_the_outputs_it_spends_and_makes() {
    let chain = SimChain::new(Network::Simnet);
    let ((ours, our_id, continuation), (theirs, their_id, _)) = (spend(1), spend(2));
    chain.fund(coin());
    let (old, new) = (chain.watch_outpoint(OUTPUT, &script(), None), chain.watch_outpoint(continuation, &script(), None));
    let beaten = chain.follow(&theirs, None, true);
    assert_eq!(chain.submit(&ours).await, SubmitOutcome::New);
    let acceptance = chain.accept(our_id);
    assert_eq!(*old.borrow(), OutpointStatus::Spent { by: our_id, acceptance });
    let made = OutpointStatus::Unspent(Utxo { outpoint: continuation, amount: Amount::from_sompi(5).unwrap(), daa_score: 1_000, ..coin() });
    assert_eq!(*new.borrow(), made);
    assert_eq!(*beaten.borrow(), TxStatus::Conflicted { by: our_id, acceptance });
    assert!(matches!(chain.submit(&theirs).await, SubmitOutcome::Unknown(_)));

    let told = chain.accepted(&our_id, &acceptance).await.unwrap();
    assert_eq!((told.inputs[0].outpoint, &told.inputs[0].signature_script[..], told.outputs[0].amount.sompi()), (OUTPUT, &[1][..], 5));
    assert_eq!(told.into_spent().unwrap()[0].amount.sompi(), 7);

    chain.take_back(our_id);
    assert_eq!((&*old.borrow(), &*new.borrow()), (&OutpointStatus::Unspent(coin()), &OutpointStatus::Absent));
    assert_eq!(*beaten.borrow(), TxStatus::Unseen);
    let acceptance = chain.accept(their_id);
    assert_eq!(*old.borrow(), OutpointStatus::Spent { by: their_id, acceptance });
}
