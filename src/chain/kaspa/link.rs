//! Keeps one configured node connected, for ever, and says whether it is usable.
//!
//! Every connection has a client of its own: subscriptions and queued messages of an earlier
//! connection cannot leak into a later one. Never panics on the loss of a node. Started by
//! `KaspaChain::connect`, one task per URL (or one for the public resolver).

use super::{
    Options,
    node::{CallError, Identity, Node},
};
use crate::protocol::{limits::NODE_CLOCK_SKEW_MILLIS, network::Network};
use kaspa_wrpc_client::{
    client::{ConnectOptions, ConnectStrategy},
    prelude::{KaspaRpcClient, Resolver, RpcState, WrpcEncoding},
};
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, time::sleep};

const CONNECT: Duration = Duration::from_secs(5);
const BACKOFF: Duration = Duration::from_millis(100);
const BACKOFF_MOST: Duration = Duration::from_secs(3);
/// How often the node is asked about itself; nothing pushes sync state or clock.
const CHECK: Duration = Duration::from_secs(2);

/// One connection's state. `session` tells connections apart.
#[derive(Clone)]
pub(super) enum LinkState {
    Down { reason: String, version: Option<String> },
    Up { node: Node, session: u64, version: String },
}

pub(super) type LinkWatch = watch::Receiver<LinkState>;

/// Starts the task of one node; `url` is `None` for the public resolver.
pub(super) fn start(options: Arc<Options>, url: Option<String>) -> LinkWatch {
    let (sender, receiver) = watch::channel(LinkState::Down { reason: "disconnected: not tried yet".into(), version: None });
    tokio::spawn(run(options, url, sender));
    receiver
}

async fn run(options: Arc<Options>, url: Option<String>, state: watch::Sender<LinkState>) {
    let name = url.clone().unwrap_or_else(|| "public resolver".into());
    let mut backoff = BACKOFF;
    for session in 1.. {
        match connect(&options, url.as_deref()).await {
            Ok((node, closed)) => {
                let began = tokio::time::Instant::now();
                tracing::info!(node = %name, "connected");
                let reason = attend(&options, &node, session, closed, &state).await;
                tracing::warn!(node = %name, %reason, "connection lost");
                state.send_replace(LinkState::Down { reason: format!("disconnected: {reason}"), version: None });
                tokio::spawn(close(node));
                if began.elapsed() > BACKOFF_MOST {
                    backoff = BACKOFF;
                }
            }
            Err(reason) => {
                tracing::debug!(node = %name, %reason, "cannot connect");
                state.send_replace(LinkState::Down { reason: format!("disconnected: {reason}"), version: None });
            }
        }
        if state.is_closed() {
            return;
        }
        sleep(backoff).await; // why: a dead port offers no event to wait for
        backoff = (backoff * 2).min(BACKOFF_MOST);
    }
}

type Closed = watch::Receiver<bool>;

async fn connect(options: &Options, url: Option<&str>) -> Result<(Node, Closed), String> {
    let resolver = url.is_none().then(Resolver::default);
    let client = KaspaRpcClient::new(WrpcEncoding::Borsh, url, resolver, Some(options.network.id()), None).map_err(|e| e.to_string())?;
    let client = Arc::new(client);
    let events = client.rpc_ctl().multiplexer().channel();
    let connect = ConnectOptions {
        block_async_connect: true,
        strategy: ConnectStrategy::Fallback,
        url: url.map(str::to_owned),
        connect_timeout: Some(CONNECT),
        retry_interval: None,
    };
    let node = Node::new(client.clone());
    match tokio::time::timeout(CONNECT * 2, client.connect(Some(connect))).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => {
            tokio::spawn(close(node));
            return Err("connecting took too long".into());
        }
    }
    let (sender, closed) = watch::channel(false);
    tokio::spawn(async move {
        while let Ok(event) = events.recv().await {
            if event == RpcState::Disconnected {
                break;
            }
        }
        sender.send_replace(true);
    });
    Ok((node, closed))
}

/// The client reconnects by itself until it is told not to: make sure that it is.
async fn close(node: Node) {
    for _ in 0..5 {
        node.close().await;
        sleep(CONNECT / 2).await; // why: a reconnection that is under way cannot be cancelled, only seen afterwards
        if !node.is_connected() {
            return;
        }
    }
}

/// Publishes the state of a connected node until it is lost; returns why.
async fn attend(options: &Options, node: &Node, session: u64, mut closed: Closed, state: &watch::Sender<LinkState>) -> String {
    let mut misses = 0;
    loop {
        match node.identity().await {
            Ok(identity) => {
                misses = 0;
                let version = identity.version.clone();
                let next = match fault(options, &identity) {
                    Some(reason) => LinkState::Down { reason, version: Some(version) },
                    None => LinkState::Up { node: node.clone(), session, version },
                };
                state.send_if_modified(|old| {
                    let changed = match (&*old, &next) {
                        (LinkState::Up { session: a, .. }, LinkState::Up { session: b, .. }) => a != b,
                        (LinkState::Down { reason: a, .. }, LinkState::Down { reason: b, .. }) => a != b,
                        _ => true,
                    };
                    if changed {
                        *old = next;
                    }
                    changed
                });
            }
            Err(CallError::Lost(why) | CallError::Refused(why)) => {
                misses += 1;
                if misses > 1 || *closed.borrow() {
                    return why;
                }
            }
        }
        tokio::select! {
            _ = closed.wait_for(|closed| *closed) => return "the node closed the connection".into(),
            () = state.closed() => return "no longer needed".into(),
            () = sleep(CHECK) => {} // why: sync state and clock are not pushed
        }
    }
}

/// Why this node must not be used now.
fn fault(options: &Options, identity: &Identity) -> Option<String> {
    let expected = options.network.id().to_string();
    if identity.network != expected {
        return Some(format!("wrong_network: the node is on {}, not {expected}", identity.network));
    }
    if !identity.utxo_index {
        return Some("no_utxo_index: start the node with --utxoindex".into());
    }
    // On simnet mining may pause, which looks the same.
    if !identity.synced && options.network != Network::Simnet {
        return Some("not_synced: the node is not synced".into());
    }
    let now = (options.now)();
    let skew = now.0.abs_diff(identity.clock.0);
    if skew > NODE_CLOCK_SKEW_MILLIS {
        return Some(format!("clock_skew: the node's clock is {skew} ms away"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::time::UnixMillis;

    #[test]
    fn a_node_is_refused_for_its_network_index_sync_or_clock() {
        let good =
            || Identity { network: "simnet".into(), synced: true, utxo_index: true, version: "2".into(), clock: UnixMillis(100_000) };
        for (network, change, expect) in [
            (Network::Simnet, (|_: &mut Identity| {}) as fn(&mut Identity), None),
            (Network::Simnet, |i| i.synced = false, None),
            (Network::Simnet, |i| i.network = "mainnet".into(), Some("wrong_network")),
            (Network::Mainnet, |_| {}, Some("wrong_network")),
            (Network::Testnet10, |i| i.network = "testnet-10".into(), None),
            (Network::Testnet10, |i| (i.network, i.synced) = ("testnet-10".into(), false), Some("not_synced")),
            (Network::Testnet10, |i| i.network = "testnet-11".into(), Some("wrong_network")),
            (Network::Simnet, |i| i.utxo_index = false, Some("no_utxo_index")),
            (Network::Simnet, |i| i.clock = UnixMillis(130_000), None),
            (Network::Simnet, |i| i.clock = UnixMillis(130_001), Some("clock_skew")),
            (Network::Simnet, |i| i.clock = UnixMillis(69_999), Some("clock_skew")),
        ] {
            let options = Options::new(network, vec![], Arc::new(|| UnixMillis(100_000)));
            let mut identity = good();
            change(&mut identity);
            let fault = fault(&options, &identity);
            assert_eq!(fault.as_deref().and_then(|f| f.split(':').next()), expect, "{identity:?}");
        }
    }
}
