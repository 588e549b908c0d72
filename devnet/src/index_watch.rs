//! Follows the utxo index of one node by its notifications.
//!
//! kaspad answers a submitted block before its utxo index has stored the block's outputs. The index stamps each new
//! entry with the DAA score of the virtual state it belongs to, so the highest stamp seen tells how far it is.

use std::time::Duration;

use kaspa_rpc_core::api::rpc::DynRpcService;
use kaspa_rpc_core::notify::channel::NotificationChannel;
use kaspa_wrpc_client::prelude::{ChannelConnection, ChannelType, Notification, Scope, UtxosChangedScope};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::error::{Awaited, Error, Result};
use crate::node::Node;

/// The index lags by milliseconds; seconds mean that something is broken.
const INDEX_TIMEOUT: Duration = Duration::from_secs(20);

/// Subscribes to all changes of the utxo set and publishes the highest DAA score until the node closes the channel.
pub(crate) async fn spawn(rpc: &DynRpcService, highest: watch::Sender<u64>) -> Result<()> {
    let channel = NotificationChannel::default();
    let receiver = channel.receiver();
    let listener = rpc.register_new_listener(ChannelConnection::new("kas402-devnet", channel.sender(), ChannelType::Closable));
    rpc.start_notify(listener, Scope::UtxosChanged(UtxosChangedScope::default())).await?;
    // A node brings its index up to its stored chain before it serves rpc, so after a restart nothing is missing.
    let stored = rpc.get_server_info().await?.virtual_daa_score;
    highest.send_modify(|score| *score = stored.max(*score));
    tokio::spawn(async move {
        while let Ok(notification) = receiver.recv().await {
            let Notification::UtxosChanged(change) = notification else { continue };
            let newest = change.added.iter().map(|entry| entry.utxo_entry.block_daa_score).max().unwrap_or(0);
            // Sent even when the score stays, since a reorg changes the set without raising it.
            highest.send_modify(|score| *score = newest.max(*score));
        }
    });
    Ok(())
}

/// Waits until the index of `node` has stored the virtual state of this moment.
pub(crate) async fn current(node: &Node) -> Result<()> {
    let virtual_daa = node.rpc().await?.get_server_info().await?.virtual_daa_score;
    let mut index_daa = node.index_daa().await?;
    let reached = timeout(INDEX_TIMEOUT, index_daa.wait_for(|score| *score >= virtual_daa)).await;
    match reached {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err(Error::NodeStopped(node.index)),
        Err(_) => Err(Error::Timeout(Awaited::IndexCurrent)),
    }
}
