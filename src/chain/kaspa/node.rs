//! One connection to one node: every call with a deadline, and errors sorted into two kinds.
//!
//! A [`Node`] lives as long as its connection; after a loss a new one is made. Called by the other
//! files of this folder only.

use super::{
    super::{AcceptedInput, AcceptedTransaction, Output, Utxo},
    outputs::Subscriptions,
    shared::lock,
    submit_errors,
};
use crate::protocol::{
    acceptance::Acceptance,
    amount::Amount,
    ids::{BlockHash, Outpoint, TxId},
    network::Network,
    time::UnixMillis,
};
use kaspa_addresses::Address;
use kaspa_consensus_core::tx::Transaction;
use kaspa_txscript::extract_script_pub_key_address;
use kaspa_wrpc_client::prelude::{
    ChannelConnection, ChannelType, KaspaRpcClient, ListenerId, Notification, RpcApi, RpcDataVerbosityLevel, RpcOptionalTransaction,
    RpcOptionalTransactionInput, RpcOptionalTransactionOutput, RpcResult, RpcTransaction, RpcTransactionInput, RpcTransactionOutpoint,
    RpcTransactionOutput, RpcUtxosByAddressesEntry, Scope, SinkBlueScoreChangedScope, UtxosChangedScope, VirtualChainChangedScope,
    VirtualDaaScoreChangedScope,
};
use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

/// Deadline of a question about one thing.
const CALL: Duration = Duration::from_secs(5);
/// Deadline of a question whose answer may be long.
const LONG_CALL: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CallError {
    /// No answer: a time-out or a lost connection.
    Lost(String),
    /// The node answered that it cannot.
    Refused(String),
}

impl From<CallError> for super::super::ChainError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Lost(why) => Self::Unavailable(why),
            CallError::Refused(why) => Self::NotFound(why),
        }
    }
}

/// What the node says of itself.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub network: String,
    pub synced: bool,
    pub utxo_index: bool,
    pub version: String,
    pub clock: UnixMillis,
}

/// A block's place in the DAG.
#[derive(Clone, Debug)]
pub(super) struct BlockFacts {
    pub blue_score: u64,
    pub daa_score: u64,
    pub on_chain: bool,
    pub selected_parent: BlockHash,
    /// The blocks it merges, its selected parent included.
    pub merged: Vec<BlockHash>,
    /// Per proof-of-work level the parents of that level, which lie further back the higher the level.
    pub parents_by_level: Vec<BlockHash>,
}

/// A stretch of the virtual chain; the node truncates long ones.
pub(super) struct ChainPath {
    pub removed: Vec<BlockHash>,
    pub added: Vec<(BlockHash, Vec<TxId>)>,
}

/// A transaction of a block.
pub(super) struct BlockTransaction {
    pub txid: TxId,
    transaction: RpcTransaction,
}

impl BlockTransaction {
    pub fn spends(&self) -> impl Iterator<Item = Outpoint> {
        self.transaction.inputs.iter().map(|input| outpoint(&input.previous_outpoint))
    }

    /// As the trait shows it, without what it spent; `None` when an amount is impossible.
    pub fn read(self) -> Option<AcceptedTransaction> {
        let input = |input: RpcTransactionInput| AcceptedInput {
            outpoint: outpoint(&input.previous_outpoint),
            signature_script: input.signature_script,
            spent: None,
        };
        let output = |output: RpcTransactionOutput| {
            let amount = Amount::from_sompi(output.value).ok()?;
            Some(Output { amount, script_public_key: output.script_public_key, covenant: output.covenant.is_some() })
        };
        Some(AcceptedTransaction {
            inputs: self.transaction.inputs.into_iter().map(input).collect(),
            outputs: self.transaction.outputs.into_iter().map(output).collect::<Option<_>>()?,
        })
    }
}

pub(super) fn outpoint(outpoint: &RpcTransactionOutpoint) -> Outpoint {
    Outpoint { txid: outpoint.transaction_id.into(), index: outpoint.index }
}

/// Notifications of one connection.
pub(super) struct Events {
    pub events: async_channel::Receiver<Notification>,
    listener: ListenerId,
}

/// Blocks whose selected parent is remembered: those that payments of the last moments were accepted by.
const PARENTS: usize = 64;

#[derive(Clone)]
pub(super) struct Node {
    client: Arc<KaspaRpcClient>,
    /// Selected parents of the blocks asked about last, the newest at the end; a block never changes its own.
    parents: Arc<Mutex<VecDeque<(BlockHash, BlockHash)>>>,
}

impl Node {
    pub fn new(client: Arc<KaspaRpcClient>) -> Self {
        Self { client, parents: Arc::default() }
    }

    pub fn is_connected(&self) -> bool {
        self.client.is_connected()
    }

    async fn call<T>(&self, deadline: Duration, call: impl Future<Output = RpcResult<T>>) -> Result<T, CallError> {
        if !self.is_connected() {
            return Err(CallError::Lost("not connected".into()));
        }
        match tokio::time::timeout(deadline, call).await {
            Ok(Ok(answer)) => Ok(answer),
            // The client has one error kind for both; a node that refused is still connected.
            Ok(Err(error)) if self.is_connected() => Err(CallError::Refused(error.to_string())),
            Ok(Err(error)) => Err(CallError::Lost(error.to_string())),
            Err(_) => Err(CallError::Lost(format!("no answer in {} ms", deadline.as_millis()))),
        }
    }

    pub async fn identity(&self) -> Result<Identity, CallError> {
        let info = self.call(CALL, self.client.get_server_info()).await?;
        // With every group off it is only the node's clock, which no other call tells.
        let metrics = self.call(CALL, self.client.get_metrics(false, false, false, false, false, false)).await?;
        Ok(Identity {
            network: info.network_id.to_string(),
            synced: info.is_synced,
            utxo_index: info.has_utxo_index,
            version: info.server_version,
            clock: UnixMillis(metrics.server_time),
        })
    }

    /// A new listener for the virtual chain and its scores. The subscription is made in the background.
    pub async fn subscribe(&self) -> Result<Events, CallError> {
        let (sender, receiver) = async_channel::unbounded();
        let listener = self.client.register_new_listener(ChannelConnection::new("kas402", sender, ChannelType::Closable));
        for scope in [
            Scope::VirtualChainChanged(VirtualChainChangedScope::new(true)),
            Scope::SinkBlueScoreChanged(SinkBlueScoreChangedScope {}),
            Scope::VirtualDaaScoreChanged(VirtualDaaScoreChangedScope {}),
        ] {
            self.call(CALL, self.client.start_notify(listener, scope)).await?;
        }
        Ok(Events { events: receiver, listener })
    }

    /// Begins to notify changes of the outputs of these addresses, and ends it for those, in the background.
    pub async fn subscribe_addresses(&self, events: &Events, subscriptions: Subscriptions) -> Result<(), CallError> {
        let Subscriptions { start, stop } = subscriptions;
        // Without addresses it would mean all of them.
        if !start.is_empty() {
            let scope = Scope::UtxosChanged(UtxosChangedScope::new(start));
            self.call(CALL, self.client.start_notify(events.listener, scope)).await?;
        }
        if !stop.is_empty() {
            let scope = Scope::UtxosChanged(UtxosChangedScope::new(stop));
            self.call(CALL, self.client.stop_notify(events.listener, scope)).await?;
        }
        Ok(())
    }

    /// Virtual DAA score and sink blue score.
    pub async fn scores(&self) -> Result<(u64, u64), CallError> {
        let info = self.call(CALL, self.client.get_server_info()).await?;
        Ok((info.virtual_daa_score, self.sink_blue_score().await?))
    }

    pub async fn sink_blue_score(&self) -> Result<u64, CallError> {
        self.call(CALL, self.client.get_sink_blue_score()).await
    }

    pub async fn sink(&self) -> Result<BlockHash, CallError> {
        Ok(self.call(CALL, self.client.get_sink()).await?.sink.into())
    }

    pub async fn block(&self, hash: BlockHash) -> Result<BlockFacts, CallError> {
        let block = self.call(CALL, self.client.get_block(hash.into(), false)).await?;
        let Some(verbose) = block.verbose_data else { return Err(CallError::Refused("block without its place".into())) };
        self.remember(hash, verbose.selected_parent_hash.into());
        let merged: BTreeSet<_> =
            verbose.merge_set_blues_hashes.into_iter().chain(verbose.merge_set_reds_hashes).chain([verbose.selected_parent_hash]).collect();
        Ok(BlockFacts {
            blue_score: block.header.blue_score,
            daa_score: block.header.daa_score,
            on_chain: verbose.is_chain_block,
            selected_parent: verbose.selected_parent_hash.into(),
            merged: merged.into_iter().map(BlockHash::from).collect(),
            parents_by_level: block.header.parents_by_level.iter().filter_map(|level| level.first()).map(|hash| (*hash).into()).collect(),
        })
    }

    fn remember(&self, block: BlockHash, parent: BlockHash) {
        let mut parents = lock(&self.parents);
        if parents.iter().all(|(known, _)| *known != block) {
            if parents.len() == PARENTS {
                parents.pop_front();
            }
            parents.push_back((block, parent));
        }
    }

    async fn selected_parent(&self, block: BlockHash) -> Result<BlockHash, CallError> {
        let known = lock(&self.parents).iter().find(|(known, _)| *known == block).map(|(_, parent)| *parent);
        match known {
            Some(parent) => Ok(parent),
            None => Ok(self.block(block).await?.selected_parent),
        }
    }

    pub async fn block_transactions(&self, hash: BlockHash) -> Result<Vec<BlockTransaction>, CallError> {
        let block = self.call(LONG_CALL, self.client.get_block(hash.into(), true)).await?;
        let read = |transaction: RpcTransaction| {
            let txid = transaction.verbose_data.as_ref()?.transaction_id.into();
            Some(BlockTransaction { txid, transaction })
        };
        Ok(block.transactions.into_iter().filter_map(read).collect())
    }

    /// The virtual chain from `start` on, with the ids each block accepted.
    pub async fn chain_from(&self, start: BlockHash) -> Result<ChainPath, CallError> {
        let answer = self.call(LONG_CALL, self.client.get_virtual_chain_from_block(start.into(), true, None)).await?;
        let ids = |block: &kaspa_wrpc_client::prelude::RpcAcceptedTransactionIds| {
            (block.accepting_block_hash.into(), block.accepted_transaction_ids.iter().map(|id| (*id).into()).collect())
        };
        Ok(ChainPath {
            removed: answer.removed_chain_block_hashes.iter().map(|hash| (*hash).into()).collect(),
            added: answer.accepted_transaction_ids.iter().map(ids).collect(),
        })
    }

    /// Whether the node can report its chain from this block on.
    pub async fn starts_from(&self, block: BlockHash) -> Result<bool, CallError> {
        match self.call(LONG_CALL, self.client.get_virtual_chain_from_block(block.into(), false, None)).await {
            Ok(_) => Ok(true),
            Err(CallError::Refused(_)) => Ok(false),
            Err(lost) => Err(lost),
        }
    }

    /// `Ok` when the node took it as new; otherwise its words.
    pub async fn submit(&self, transaction: &Transaction, deadline: Duration) -> Result<(), CallError> {
        self.call(deadline, self.client.submit_transaction(RpcTransaction::from(transaction), false)).await.map(|_| ())
    }

    /// `Ok` when it has taken the place of the one transaction in the mempool that spends one of its inputs.
    pub async fn replace(&self, transaction: &Transaction, deadline: Duration) -> Result<(), CallError> {
        self.call(deadline, self.client.submit_transaction_replacement(RpcTransaction::from(transaction))).await.map(|_| ())
    }

    pub async fn in_mempool(&self, txid: TxId) -> Result<bool, CallError> {
        match self.call(CALL, self.client.get_mempool_entry(txid.into(), false, false)).await {
            Ok(_) => Ok(true),
            Err(CallError::Refused(why)) if why.contains("not found") => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The unspent outputs of these addresses: as many as they have.
    pub async fn unspent(&self, addresses: Vec<Address>) -> Result<Vec<RpcUtxosByAddressesEntry>, CallError> {
        if addresses.is_empty() {
            return Ok(Vec::new());
        }
        self.call(LONG_CALL, self.client.get_utxos_by_addresses(addresses)).await
    }

    /// DAA scores of the blocks that accepted these transactions, for those of which an output is unspent.
    pub async fn accepted_daa_scores(&self, transactions: &[Arc<Transaction>], network: Network) -> Result<HashMap<TxId, u64>, CallError> {
        let addresses: BTreeSet<_> = transactions
            .iter()
            .flat_map(|transaction| &transaction.outputs)
            .filter_map(|output| extract_script_pub_key_address(&output.script_public_key, network.address_prefix()).ok())
            .collect();
        let wanted: HashSet<_> = transactions.iter().map(|transaction| transaction.id()).collect();
        let entries = self.unspent(addresses.into_iter().collect()).await?;
        let ours = entries.iter().filter(|entry| wanted.contains(&entry.outpoint.transaction_id));
        Ok(ours.map(|entry| (entry.outpoint.transaction_id.into(), entry.utxo_entry.block_daa_score)).collect())
    }

    /// A transaction with the outputs it spent, from the data of the block that accepted it. `sink_blue_score` is one the sink had already.
    ///
    /// One question where the block was asked about before. Never two at once: the socket is not ours to set
    /// `TCP_NODELAY` on, and a second small answer then waits 40 ms for the first one's acknowledgement.
    pub async fn accepted_with_spent(
        &self,
        txid: TxId,
        acceptance: &Acceptance,
        sink_blue_score: u64,
    ) -> Result<AcceptedTransaction, CallError> {
        let parent = self.selected_parent(acceptance.block).await?;
        // The answer begins after the accepting block's parent; this many confirmations keep later blocks out of it.
        let depth = sink_blue_score.saturating_sub(acceptance.blue_score).saturating_sub(1);
        let call = self.client.get_virtual_chain_from_block_v2(parent.into(), Some(RpcDataVerbosityLevel::High), Some(depth));
        let answer = self.call(LONG_CALL, call).await?;
        let wanted = Some(kaspa_hashes::Hash::from(txid));
        let transaction = answer
            .chain_block_accepted_transactions
            .iter()
            .flat_map(|block| &block.accepted_transactions)
            .find(|transaction| transaction.verbose_data.as_ref().is_some_and(|data| data.transaction_id == wanted))
            .ok_or_else(|| CallError::Refused("the block did not accept the transaction".into()))?;
        read_accepted(transaction).ok_or_else(|| CallError::Refused("the node left out a part of the transaction".into()))
    }

    pub async fn close(&self) {
        // Best effort: the socket may be gone already.
        _ = tokio::time::timeout(CALL, self.client.disconnect()).await;
    }
}

fn read_accepted(transaction: &RpcOptionalTransaction) -> Option<AcceptedTransaction> {
    let input = |input: &RpcOptionalTransactionInput| {
        let outpoint = input.previous_outpoint.as_ref()?;
        let entry = input.verbose_data.as_ref()?.utxo_entry.as_ref()?;
        let spent = Output {
            amount: Amount::from_sompi(entry.amount?).ok()?,
            script_public_key: entry.script_public_key.clone()?,
            covenant: entry.covenant_id.is_some(),
        };
        Some(AcceptedInput {
            outpoint: Outpoint { txid: outpoint.transaction_id?.into(), index: outpoint.index? },
            signature_script: input.signature_script.clone()?,
            spent: Some(spent),
        })
    };
    let output = |output: &RpcOptionalTransactionOutput| {
        Some(Output {
            amount: Amount::from_sompi(output.value?).ok()?,
            script_public_key: output.script_public_key.clone()?,
            covenant: output.covenant.as_ref().is_some_and(|binding| binding.0.is_some()),
        })
    };
    Some(AcceptedTransaction {
        inputs: transaction.inputs.iter().map(input).collect::<Option<_>>()?,
        outputs: transaction.outputs.iter().map(output).collect::<Option<_>>()?,
    })
}

/// An unspent output as the trait shows it; `None` when its amount is impossible.
pub(super) fn utxo(entry: RpcUtxosByAddressesEntry) -> Option<Utxo> {
    Some(Utxo {
        outpoint: outpoint(&entry.outpoint),
        amount: Amount::from_sompi(entry.utxo_entry.amount).ok()?,
        script_public_key: entry.utxo_entry.script_public_key,
        daa_score: entry.utxo_entry.block_daa_score,
        is_coinbase: entry.utxo_entry.is_coinbase,
        covenant: entry.utxo_entry.covenant_id.is_some(),
    })
}

/// One node's answer to a submit with what it proves; `Ok` is new.
pub(super) async fn submit_to(node: &Node, transaction: &Transaction, deadline: Duration) -> Result<(), (submit_errors::Verdict, String)> {
    let txid = transaction.id().into();
    node.submit(transaction, deadline).await.map_err(|error| match error {
        CallError::Lost(why) => (submit_errors::Verdict::Unknown, why),
        CallError::Refused(why) => (submit_errors::verdict(&why, &txid), why),
    })
}
