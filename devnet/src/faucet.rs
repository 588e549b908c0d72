//! Pays out what the miner earned.
//!
//! The faucet remembers nothing: what it may spend is read from the node before every transaction (utxo index, less
//! what the mempool spends, plus its own outputs in the mempool). So it survives stops, lost mempools and reorgs, and
//! since payments are made one at a time it never spends a coin twice.

use std::collections::HashSet;
use std::time::Duration;

use kaspa_addresses::{Address, Prefix, Version};
use kaspa_consensus_core::config::params::SIMNET_PARAMS;
use kaspa_consensus_core::constants::MAX_SOMPI;
use kaspa_consensus_core::tx::{Transaction, TransactionId, TransactionOutpoint, UtxoEntry};
use kaspa_rpc_core::{RpcError, RpcTransaction};
use kaspa_txscript::pay_to_address_script;
use secp256k1::Keypair;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::error::{Awaited, Error, Invalid, Result};
use crate::index_watch;
use crate::node::Node;
use crate::payment::{Coin, Signer, Step};

/// The faucet's key. Public on purpose: a simnet coin is worth nothing, and a kept directory stays spendable.
const FAUCET_SECRET: [u8; 32] = *b"kas402 devnet faucet, not secret";

/// Several blocks are awaited at any sensible mining rate.
const SPENDABLE_TIMEOUT: Duration = Duration::from_secs(30);

/// How many coins are merged into one.
const MERGE_SIZE: usize = 80;

/// Where to pay, and how often.
#[derive(Debug, Clone)]
pub struct FundRequest {
    /// A simnet address.
    pub address: Address,
    /// Sompi of each output.
    pub amount_sompi: u64,
    /// How many outputs of that amount, in as few transactions as mass limits allow.
    pub count: u64,
}

/// What a payment made, in the order of payment.
#[derive(Debug, Clone)]
pub struct Funded {
    /// The outputs to the address; never empty.
    pub outpoints: Vec<TransactionOutpoint>,
    /// Sompi of each.
    pub amount_sompi: u64,
}

impl Funded {
    /// The transaction of the first output.
    pub fn txid(&self) -> TransactionId {
        self.outpoints[0].transaction_id
    }

    /// Every paying transaction once.
    pub fn txids(&self) -> Vec<TransactionId> {
        let mut ids: Vec<_> = self.outpoints.iter().map(|outpoint| outpoint.transaction_id).collect();
        ids.dedup();
        ids
    }
}

pub(crate) struct Faucet {
    pub(crate) address: Address,
    signer: Signer,
    /// One payment is built and submitted at a time.
    turn: Mutex<()>,
}

impl Faucet {
    pub(crate) fn new() -> Self {
        let keypair =
            Keypair::from_seckey_slice(secp256k1::SECP256K1, &FAUCET_SECRET).expect("the constant is a scalar below the group order");
        let address = Address::new(Prefix::Simnet, Version::PubKey, &keypair.x_only_public_key().0.serialize());
        let signer = Signer::new(keypair, pay_to_address_script(&address));
        Self { address, signer, turn: Mutex::new(()) }
    }

    /// Submits the payment to `node`; whether it is accepted is another question ([`await_outputs`]).
    pub(crate) async fn pay(&self, node: &Node, request: &FundRequest) -> Result<Funded> {
        check(request)?;
        let script = pay_to_address_script(&request.address);
        let mut outpoints = Vec::new();
        let _turn = self.turn.lock().await;
        while (outpoints.len() as u64) < request.count {
            let left = request.count - outpoints.len() as u64;
            let coins = self.coins(node).await?;
            match self.signer.next_step(coins, &script, request.amount_sompi, left)? {
                Step::Merge(tx) => {
                    submit(node, &tx, false).await?;
                }
                Step::Pay(tx, paid) => {
                    let txid = submit(node, &tx, false).await?;
                    outpoints.extend((0..paid as u32).map(|index| TransactionOutpoint::new(txid, index)));
                }
            }
        }
        Ok(Funded { outpoints, amount_sompi: request.amount_sompi })
    }

    /// Merges mature coinbases into a few large coins, so that later payments have few inputs.
    pub(crate) async fn merge_coinbases(&self, node: &Node) -> Result<()> {
        let _turn = self.turn.lock().await;
        let mut coins = self.coins(node).await?;
        coins.retain(|coin| coin.entry.is_coinbase);
        for merged in coins.chunks_exact(MERGE_SIZE) {
            submit(node, &self.signer.merge(merged), false).await?;
        }
        Ok(())
    }

    /// Sompi that could be spent now.
    pub(crate) async fn spendable(&self, node: &Node) -> Result<u64> {
        Ok(self.coins(node).await?.iter().map(|coin| coin.entry.amount).sum())
    }

    async fn coins(&self, node: &Node) -> Result<Vec<Coin>> {
        // The mempool first: a transaction that is accepted in between is then in both pictures, never in neither.
        let pending = self.pending(node).await?;
        index_watch::current(node).await?;
        let rpc = node.rpc().await?;
        let virtual_daa = rpc.get_server_info().await?.virtual_daa_score;
        let indexed = rpc.get_utxos_by_addresses(vec![self.address.clone()]).await?;
        drop(rpc);

        let spent: HashSet<TransactionOutpoint> =
            pending.iter().flat_map(|tx| tx.inputs.iter().map(|input| input.previous_outpoint)).collect();
        let mut seen = HashSet::new();
        let mut coins = Vec::new();
        for utxo in indexed {
            let (outpoint, entry) = (TransactionOutpoint::from(utxo.outpoint), UtxoEntry::from(utxo.utxo_entry));
            seen.insert(outpoint);
            if is_mature(&entry, virtual_daa) && !spent.contains(&outpoint) {
                coins.push(Coin { outpoint, entry, accepted: true });
            }
        }
        let script = pay_to_address_script(&self.address);
        for tx in &pending {
            for (index, output) in (0u32..).zip(&tx.outputs) {
                let outpoint = TransactionOutpoint::new(tx.id(), index);
                if output.script_public_key == script && !spent.contains(&outpoint) && !seen.contains(&outpoint) {
                    let entry = UtxoEntry::new(output.value, script.clone(), virtual_daa, false, None);
                    coins.push(Coin { outpoint, entry, accepted: false });
                }
            }
        }
        Ok(coins)
    }

    /// Mempool transactions that spend from or pay to the faucet, each once.
    async fn pending(&self, node: &Node) -> Result<Vec<Transaction>> {
        let entries = node.rpc().await?.get_mempool_entries_by_addresses(vec![self.address.clone()], false, false).await?;
        let mut seen = HashSet::new();
        let mut pending = Vec::new();
        for entry in entries.into_iter().flat_map(|entry| entry.sending.into_iter().chain(entry.receiving)) {
            let tx = Transaction::try_from(entry.transaction)?;
            if seen.insert(tx.id()) {
                pending.push(tx);
            }
        }
        Ok(pending)
    }
}

/// Hands a transaction to a node. A refusal carries the node's text unchanged.
pub(crate) async fn submit(node: &Node, tx: &Transaction, allow_orphan: bool) -> Result<TransactionId> {
    match node.rpc().await?.submit_transaction(RpcTransaction::from(tx), allow_orphan).await {
        Ok(txid) => Ok(txid),
        Err(error @ RpcError::RejectedTransaction(txid, _)) => Err(Error::Rejected { txid, reason: error.to_string() }),
        Err(error) => Err(error.into()),
    }
}

/// Waits until the utxo index of `node` shows all `outpoints` of `address`.
pub(crate) async fn await_outputs(node: &Node, address: &Address, outpoints: &[TransactionOutpoint]) -> Result<()> {
    let mut index_daa = node.index_daa().await?;
    let all_there = async {
        loop {
            index_daa.mark_unchanged();
            let utxos = node.rpc().await?.get_utxos_by_addresses(vec![address.clone()]).await?;
            let there: HashSet<_> = utxos.into_iter().map(|utxo| TransactionOutpoint::from(utxo.outpoint)).collect();
            if outpoints.iter().all(|outpoint| there.contains(outpoint)) {
                return Ok(());
            }
            index_daa.changed().await.map_err(|_| Error::NodeStopped(node.index))?;
        }
    };
    timeout(SPENDABLE_TIMEOUT, all_there).await.unwrap_or(Err(Error::Timeout(Awaited::OutputsSpendable)))
}

fn is_mature(entry: &UtxoEntry, virtual_daa: u64) -> bool {
    !entry.is_coinbase || entry.block_daa_score + SIMNET_PARAMS.coinbase_maturity() <= virtual_daa
}

fn check(request: &FundRequest) -> Result<()> {
    if request.amount_sompi == 0 || request.count == 0 {
        return Err(Invalid::Nothing.into());
    }
    if request.address.prefix != Prefix::Simnet {
        return Err(Invalid::AddressNetwork.into());
    }
    match request.amount_sompi.checked_mul(request.count) {
        Some(total) if total <= MAX_SOMPI => Ok(()),
        _ => Err(Invalid::TooMuch.into()),
    }
}
