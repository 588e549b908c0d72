//! What kaspad 2.1.0 says when it refuses a transaction: the exact texts, as a client of wRPC (Borsh) reads them. The
//! gateway tells outcomes apart by them, so a node that words them differently must fail here first.
//!
//! In the expected texts `{id}` is the id of the submitted transaction.

use kaspa_consensus_core::mass::{ComputeBudget, SigopCount};
use kaspa_consensus_core::subnets::{SUBNETWORK_ID_COINBASE, SubnetworkId};
use kaspa_consensus_core::tx::{ScriptPublicKey, Transaction, TransactionInput, TransactionOutpoint, TransactionOutput};
use kaspa_hashes::Hash;
use kaspa_rpc_core::RpcTransaction;
use kaspa_wrpc_client::prelude::{KaspaRpcClient, RpcApi, WrpcEncoding};

use crate::support::{Coin, FEE_SOMPI, KAS, Wallet, paused, wrpc};

const IN_MEMPOOL: &str = "transaction {id} is already in the mempool";
const IN_SOME_BLOCK: &str = "transaction {id} was already accepted by the consensus";
const ORPHAN: &str = "transaction {id} is an orphan where orphan is disallowed";
const BAD_SIGNATURE: &str = "failed to verify the signature script: false stack entry at end of script execution";
const OK: &str = "";

/// Submits and compares; `OK` expects success. The prefix is the same for every rejection.
async fn expect(client: &KaspaRpcClient, what: &str, tx: &Transaction, text: &str) {
    let answer = client.submit_transaction(RpcTransaction::from(tx), false).await;
    let id = tx.id().to_string();
    let wanted = format!("RPC Server (remote error) -> Rejected transaction {id}: {}", text.replace("{id}", &id));
    match answer {
        Ok(accepted) => assert!(text == OK && accepted == tx.id(), "{what}: taken, but expected {wanted}"),
        Err(error) => assert_eq!(error.to_string(), wanted, "{what}"),
    }
}

fn with_other_signature(tx: &Transaction) -> Transaction {
    let mut tx = tx.clone();
    tx.inputs[0].signature_script[5] ^= 1;
    tx.finalize();
    tx
}

fn with_zero_output(tx: &Transaction) -> Transaction {
    let mut tx = tx.clone();
    tx.outputs[0].value = 0;
    tx.finalize();
    tx
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_or_conflicting_transaction_is_named_as_such_before_its_signature_is_looked_at() {
    let devnet = paused(1).await;
    let (wallet, other) = (Wallet::new(1), Wallet::new(2).address);
    let coin = wallet.funded(&devnet, 10 * KAS, 1).await[0];
    devnet.mine(None, 1).await.unwrap();
    let node = wrpc(WrpcEncoding::Borsh, &devnet.wrpc_urls()[0]).await;

    let tx = wallet.pay_all(coin, &other);
    let forged = with_other_signature(&tx);
    assert_eq!(tx.id(), forged.id(), "the id does not cover signatures");
    let double = wallet.pay_all(coin, &wallet.address);
    expect(&node, "unknown, forged", &forged, BAD_SIGNATURE).await;
    expect(&node, "new", &tx, OK).await;
    expect(&node, "again", &tx, IN_MEMPOOL).await;
    expect(&node, "again, forged", &forged, IN_MEMPOOL).await;
    let taken = format!("output ({}, 0) already spent by transaction {} in the mempool", coin.outpoint.transaction_id, tx.id());
    expect(&node, "double spend", &double, &taken).await;
    expect(&node, "double spend, forged", &with_other_signature(&double), &taken).await;
    expect(&node, "double spend, malformed", &with_zero_output(&double), &taken).await;

    devnet.mine(None, 1).await.unwrap();
    expect(&node, "in a block", &tx, IN_SOME_BLOCK).await;
    expect(&node, "in a block, forged", &forged, IN_SOME_BLOCK).await;
    expect(&node, "spent on chain", &double, ORPHAN).await;

    devnet.restart_node(0).await.unwrap();
    node.disconnect().await.unwrap();
    let node = wrpc(WrpcEncoding::Borsh, &devnet.wrpc_urls()[0]).await;
    expect(&node, "accepted, but the node forgot", &tx, ORPHAN).await;
    node.disconnect().await.unwrap();
    devnet.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_input_is_an_orphan_whatever_its_signature() {
    let devnet = paused(1).await;
    let (wallet, other) = (Wallet::new(1), Wallet::new(2).address);
    let node = wrpc(WrpcEncoding::Borsh, &devnet.wrpc_urls()[0]).await;
    let missing = Coin { outpoint: TransactionOutpoint::new(Hash::from_u64_word(99), 0), sompi: KAS };
    let tx = wallet.pay_all(missing, &other);
    expect(&node, "orphan", &tx, ORPHAN).await;
    expect(&node, "orphan, forged", &with_other_signature(&tx), ORPHAN).await;
    expect(&node, "orphan, malformed", &with_zero_output(&tx), "transaction output 0 has zero value").await;

    // Only a node in unsafe mode honours the wish to keep orphans.
    node.submit_transaction(RpcTransaction::from(&tx), true).await.unwrap();
    for (tx, text) in [
        (tx.clone(), format!("orphan transaction {0} is already in the orphan pool", tx.id())),
        (wallet.pay_all(missing, &wallet.address), {
            let second = wallet.pay_all(missing, &wallet.address).id();
            format!("orphan transaction {second} is double spending an input from already existing orphan {}", tx.id())
        }),
    ] {
        let error = node.submit_transaction(RpcTransaction::from(&tx), true).await.unwrap_err();
        assert_eq!(error.to_string(), format!("RPC Server (remote error) -> Rejected transaction {}: {text}", tx.id()));
    }
    node.disconnect().await.unwrap();
    devnet.stop().await.unwrap();
}

type Spoil = fn(&mut Transaction);

/// Spoiled before signing: everything else about them is right.
const SPOILED: &[(&str, Spoil, &str)] = &[
    ("no inputs", |tx| tx.inputs.clear(), "transaction has no inputs"),
    ("no outputs", |tx| tx.outputs.clear(), OK),
    ("an input twice", |tx| tx.inputs.push(tx.inputs[0].clone()), "transaction has duplicate inputs"),
    ("one input missing", |tx| tx.inputs.push(TransactionInput::new(outpoint(7), vec![], 0, 1)), ORPHAN),
    ("index out of range", |tx| tx.inputs[0].previous_outpoint.index = 77, ORPHAN),
    ("zero output", |tx| tx.outputs[0].value = 0, "transaction output 0 has zero value"),
    (
        "too large output",
        |tx| tx.outputs[0].value = u64::MAX,
        "transaction output 0 value is higher than the max allowed of 2900000000000000000",
    ),
    (
        "more out than in",
        |tx| tx.outputs[0].value = 11 * KAS,
        "transaction tries to spend 1100000000 while its total inputs amount is 1000000000",
    ),
    (
        "low fee",
        |tx| tx.outputs[0].value = 10 * KAS - 1_000,
        "transaction {id} is not standard: transaction has 1000 fees which is under the required amount of 162400 for compute mass 1624",
    ),
    (
        "0.019 KAS beside change",
        |tx| {
            tx.outputs.push(TransactionOutput { value: 1_900_000, ..tx.outputs[0].clone() });
            tx.outputs[0].value -= 1_900_000;
        },
        "transaction storage mass of 526317 is larger than max allowed size of 500000",
    ),
    ("version 2", |tx| tx.version = 2, "transaction version 2 is unknown"),
    ("gas", |tx| tx.gas = 1, "transaction has non-zero gas: gas is only allowed for Toccata-or-newer tx versions"),
    ("coinbase", |tx| tx.subnetwork_id = SUBNETWORK_ID_COINBASE, "coinbase transaction {id} cannot be added to the mempool"),
    (
        "other subnetwork",
        |tx| tx.subnetwork_id = SubnetworkId::from_byte(7),
        "transaction subnetwork id 0700000000000000000000000000000000000000 is neither native nor coinbase",
    ),
    ("payload", |tx| tx.payload = vec![1, 2, 3], OK),
    ("locked", |tx| tx.lock_time = 1_000_000, "transaction input #0 is not finalized"),
    ("sequence lock", |tx| tx.inputs[0].sequence = 1_000_000, "one of the transaction sequence locks conditions was not met"),
    (
        "odd script",
        |tx| tx.outputs[0].script_public_key = ScriptPublicKey::from_vec(0, vec![0x51]),
        "transaction {id} is not standard: transaction output #0: non-standard script form",
    ),
    (
        "1001 outputs",
        |tx| tx.outputs = vec![TransactionOutput { value: 1, ..tx.outputs[0].clone() }; 1001],
        "transaction has 1001 outputs where the max allowed is 1000",
    ),
    (
        "large payload",
        |tx| tx.payload = vec![0; 260_000],
        "transaction transient (storage) mass of 1041056 is larger than max allowed size of 1000000",
    ),
];

/// Spoiled after signing.
const FORGED: &[(&str, Spoil, &str)] = &[
    (
        "no signature",
        |tx| tx.inputs[0].signature_script.clear(),
        "failed to verify empty signature script. Inner error: opcode requires at least 2 but stack has only 1",
    ),
    ("signature of another transaction", |tx| tx.outputs[0].value -= 1, BAD_SIGNATURE),
    (
        "not a script",
        |tx| tx.inputs[0].signature_script = vec![0xff; 3],
        "failed to verify the signature script: signature script is not push only",
    ),
    (
        "no signature operation declared",
        |tx| tx.inputs[0].compute_commit = SigopCount(0).into(),
        "failed to verify the signature script: script units exceeded the amount committed in the input: used=100000, limit=9999",
    ),
    ("wrong storage mass: the node puts in the right one", |tx| tx.set_storage_mass(12_345), OK),
];

fn outpoint(word: u64) -> TransactionOutpoint {
    TransactionOutpoint::new(Hash::from_u64_word(word), 0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_transaction_is_refused_with_its_fault() {
    let devnet = paused(1).await;
    let (wallet, other) = (Wallet::new(1), Wallet::new(2).address);
    let mut coins = wallet.funded(&devnet, 10 * KAS, (SPOILED.len() + FORGED.len() + 2) as u64).await.into_iter();
    devnet.mine(None, 2).await.unwrap();
    let node = wrpc(WrpcEncoding::Borsh, &devnet.wrpc_urls()[0]).await;
    for (what, spoil, text) in SPOILED {
        let coin = coins.next().unwrap();
        let mut tx = wallet.unsigned(coin, &other);
        spoil(&mut tx);
        expect(&node, what, &wallet.signed(tx, coin), text).await;
    }
    for (what, spoil, text) in FORGED {
        let mut tx = wallet.pay_all(coins.next().unwrap(), &other);
        spoil(&mut tx);
        tx.finalize();
        expect(&node, what, &tx, text).await;
    }
    // What the rpc layer itself refuses has no "Rejected transaction" in front.
    for (version, commit, field) in [(1, SigopCount(1).into(), "sig_op_count"), (0, ComputeBudget(9).into(), "compute_budget")] {
        let mut tx = wallet.pay_all(coins.next().unwrap(), &other);
        (tx.version, tx.inputs[0].compute_commit) = (version, commit);
        let error = node.submit_transaction(RpcTransaction::from(&tx), false).await.unwrap_err();
        let wanted = format!("RPC Server (remote error) -> RpcTransactionInput.{field} is inconsistent with transaction version {version}");
        assert_eq!(error.to_string(), wanted);
    }
    node.disconnect().await.unwrap();
    devnet.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn replacement_by_fee_immature_coins_and_a_lost_node_have_their_own_texts() {
    let devnet = paused(1).await;
    let wallet = Wallet::new(1);
    let coin = wallet.funded(&devnet, 10 * KAS, 1).await[0];
    devnet.mine(None, 1).await.unwrap();
    let status = devnet.status().await.unwrap();
    let json = wrpc(WrpcEncoding::SerdeJson, &status.nodes[0].wrpc_json).await;
    let node = wrpc(WrpcEncoding::Borsh, &status.nodes[0].wrpc).await;
    let replace = async |tx: &Transaction| node.submit_transaction_replacement(RpcTransaction::from(tx)).await;

    let tx = wallet.pay_all(coin, &Wallet::new(2).address);
    let text = replace(&tx).await.unwrap_err().to_string();
    assert!(text.ends_with(": replace by fee found no double spending transaction in the mempool"), "{text}");
    expect(&node, "first", &tx, OK).await;
    let text = json.submit_transaction(RpcTransaction::from(&tx), false).await.unwrap_err().to_string();
    let wanted = format!("Rejected transaction {0}: transaction {0} is already in the mempool", tx.id());
    assert_eq!(text, format!("RPC Server (remote error) -> code:0  message:`{wanted}` data:None"), "JSON wraps once more");

    let mut double = wallet.unsigned(coin, &wallet.address);
    let text = replace(&wallet.signed(double.clone(), coin)).await.unwrap_err().to_string();
    let wanted = ": fee rate per contextual mass gram is not greater than the fee rate of the replaced transaction";
    assert!(text.ends_with(wanted), "{text}");
    double.outputs[0].value -= FEE_SOMPI;
    let double = wallet.signed(double, coin);
    assert_eq!(replace(&double).await.unwrap().transaction_id, double.id());
    assert_eq!(devnet.mempool(0).await.unwrap().len(), 1, "the first transaction is gone without a trace");

    let faucet = status.faucet.address.as_str().try_into().unwrap();
    let utxos = devnet.utxos(0, &faucet).await.unwrap();
    let newest = utxos.iter().filter(|utxo| utxo.utxo_entry.is_coinbase).max_by_key(|utxo| utxo.utxo_entry.block_daa_score).unwrap();
    let immature = Coin { outpoint: newest.outpoint.into(), sompi: newest.utxo_entry.amount };
    let text = node.submit_transaction(RpcTransaction::from(&wallet.pay_all(immature, &wallet.address)), false).await;
    let text = text.unwrap_err().to_string();
    let wanted = ": one of the transaction inputs spends an immature UTXO: transaction input #0 tried to spend coinbase outpoint ";
    assert!(text.contains(wanted), "{text}");

    devnet.stop_node(0).await.unwrap();
    let text = node.submit_transaction(RpcTransaction::from(&tx), false).await.unwrap_err().to_string();
    assert_eq!(text, "RPC Server (remote error) -> WebSocket -> WebSocket is not connected", "the prefix says remote; it is local");
    node.disconnect().await.unwrap();
    json.disconnect().await.unwrap();
    devnet.stop().await.unwrap();
}
