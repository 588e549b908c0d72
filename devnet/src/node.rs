//! One kaspad, running inside this process on fixed loopback addresses and its own directory.
//!
//! Every call to the node goes through [`Node::rpc`], whose guard keeps the node from being stopped in the middle of
//! the call. Never hold two guards of one node at once: a waiting stop would then block both.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use kaspa_core::core::Core;
use kaspa_core::signals::Shutdown;
use kaspa_rpc_core::api::rpc::DynRpcService;
use kaspad_lib::args::Args;
use kaspad_lib::daemon::{Runtime, create_core_with_runtime};
use tokio::sync::{Mutex, RwLock, RwLockReadGuard, watch};
use tokio::task::spawn_blocking;

use crate::error::{Awaited, Error, Result};
use crate::index_watch;
use crate::ports::Endpoints;
use crate::wait;

/// File descriptors that the databases of one node may use.
const FD_BUDGET: i32 = 256;

/// A node takes well under a second to open its listeners or close its files.
const LIFECYCLE_TIMEOUT: Duration = Duration::from_secs(20);

/// One node of the devnet, running or stopped.
pub(crate) struct Node {
    pub(crate) index: usize,
    pub(crate) endpoints: Endpoints,
    dir: PathBuf,
    running: RwLock<Option<Running>>,
    /// Held by whoever mines on this node; the number makes each coinbase unique.
    pub(crate) mining_turn: Mutex<u64>,
}

struct Running {
    core: Arc<Core>,
    workers: Vec<JoinHandle<()>>,
    rpc: DynRpcService,
    index_daa: watch::Receiver<u64>,
}

/// Access to a running node; the node cannot stop while this lives.
pub(crate) struct Rpc<'a>(RwLockReadGuard<'a, Running>);

impl Deref for Rpc<'_> {
    type Target = DynRpcService;

    fn deref(&self) -> &DynRpcService {
        &self.0.rpc
    }
}

impl Node {
    /// A stopped node that will keep its data in `dir`.
    pub(crate) fn new(index: usize, endpoints: Endpoints, dir: PathBuf) -> Self {
        Self { index, endpoints, dir, running: RwLock::new(None), mining_turn: Mutex::new(0) }
    }

    /// The node's own interface, or [`Error::NodeStopped`].
    pub(crate) async fn rpc(&self) -> Result<Rpc<'_>> {
        RwLockReadGuard::try_map(self.running.read().await, Option::as_ref).map(Rpc).map_err(|_| Error::NodeStopped(self.index))
    }

    pub(crate) async fn is_running(&self) -> bool {
        self.running.read().await.is_some()
    }

    /// Highest DAA score whose outputs the utxo index has stored; the receiver ends when the node stops.
    pub(crate) async fn index_daa(&self) -> Result<watch::Receiver<u64>> {
        Ok(self.rpc().await?.0.index_daa.clone())
    }

    /// Starts kaspad and returns once all listeners answer.
    pub(crate) async fn start(&self) -> Result<()> {
        let mut slot = self.running.write().await;
        if slot.is_some() {
            return Err(Error::NodeRunning(self.index));
        }
        std::fs::create_dir_all(&self.dir)?;
        let args = self.args();
        // Creating the core opens three databases: blocking work, and it panics when they are locked.
        let (core, rpc, workers) = spawn_blocking(move || {
            let (core, rpc) = create_core_with_runtime(&Runtime::default(), &args, FD_BUDGET);
            let workers = core.start();
            (core, rpc as DynRpcService, workers)
        })
        .await
        .map_err(|panic| self.failed(&panic))?;

        let (index_daa_sender, index_daa) = watch::channel(0);
        let running = slot.insert(Running { core, workers, rpc, index_daa });
        let ready = async {
            wait::until_open(&self.endpoints.all(), LIFECYCLE_TIMEOUT).await?;
            index_watch::spawn(&running.rpc, index_daa_sender).await
        };
        if let Err(error) = ready.await {
            if let Some(running) = slot.take() {
                self.end(running).await?;
            }
            return Err(error);
        }
        Ok(())
    }

    /// Stops kaspad and returns once its threads ended and its files are closed. The mempool is lost, the chain stays.
    pub(crate) async fn stop(&self) -> Result<()> {
        let running = self.running.write().await.take().ok_or(Error::NodeStopped(self.index))?;
        self.end(running).await
    }

    async fn end(&self, running: Running) -> Result<()> {
        let Running { core, workers, rpc, .. } = running;
        drop(rpc);
        spawn_blocking(move || {
            core.shutdown();
            core.join(workers);
        })
        .await
        .map_err(|panic| self.failed(&panic))?;
        self.await_files_closed().await
    }

    /// For a devnet that is dropped: ends the node and blocks until its threads are gone. A node that is in use at this
    /// very moment is left to the end of the process.
    pub(crate) fn end_now(&self) {
        let running = self.running.try_write().ok().and_then(|mut slot| slot.take());
        if let Some(Running { core, workers, rpc, .. }) = running {
            drop(rpc);
            core.shutdown();
            core.join(workers);
        }
    }

    /// The last references to the databases die with detached tasks of the node, which offers no event for it; a start
    /// before that would find the lock held.
    async fn await_files_closed(&self) -> Result<()> {
        let dir = self.dir.canonicalize()?;
        wait::until(LIFECYCLE_TIMEOUT, Awaited::FilesClosed, || {
            let open = has_open_files(&dir);
            async move { Ok(!open) }
        })
        .await
    }

    fn args(&self) -> Args {
        Args {
            simnet: true,
            utxoindex: true,
            enable_unsynced_mining: true,
            // Peers are added and banned by rpc.
            unsafe_rpc: true,
            disable_dns_seeding: true,
            disable_upnp: true,
            disable_grpc: true,
            no_log_files: true,
            yes: true,
            outbound_target: 0,
            async_threads: 2,
            ram_scale: 0.1,
            // A template must show a transaction that was submitted a moment ago.
            block_template_cache_lifetime: Some(0),
            appdir: Some(self.dir.to_string_lossy().into_owned()),
            listen: Some(contextual(self.endpoints.p2p)),
            rpclisten_borsh: Some(self.endpoints.borsh.to_string().parse().expect("a socket address is a valid listen address")),
            rpclisten_json: Some(self.endpoints.json.to_string().parse().expect("a socket address is a valid listen address")),
            ..Args::default()
        }
    }

    fn failed(&self, panic: &tokio::task::JoinError) -> Error {
        Error::NodeFailed { index: self.index, reason: panic.to_string() }
    }
}

/// A socket address in the form kaspad's options and peer calls take.
pub(crate) fn contextual(address: std::net::SocketAddr) -> kaspa_utils::networking::ContextualNetAddress {
    kaspa_utils::networking::NetAddress::from(address).into()
}

/// Whether this process has a file below `dir` open. Always false where there is no `/proc`.
fn has_open_files(dir: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return false };
    entries.flatten().any(|entry| std::fs::read_link(entry.path()).is_ok_and(|target| target.starts_with(dir)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_file_is_noticed_until_it_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap();
        let file = std::fs::File::create(path.join("x")).unwrap();
        assert!(has_open_files(&path));
        drop(file);
        assert!(!has_open_files(&path));
    }
}
