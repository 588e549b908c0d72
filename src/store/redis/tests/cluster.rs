//! A real cluster of three masters, made anew for each test process.

use super::server::{SAFE, Server, free_port, wait_until};
use std::{
    process::Command,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

const SLOTS: [(u16, u16); 3] = [(0, 5_460), (5_461, 10_922), (10_923, 16_383)];

pub(super) struct Cluster {
    pub servers: [Server; 3],
}

impl Cluster {
    /// The cluster of this process, and a prefix that nobody else has. It lives as long as somebody uses it.
    pub fn shared() -> (Arc<Self>, String) {
        static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
        static PREFIX: AtomicU64 = AtomicU64::new(0);
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let cluster = shared.upgrade().unwrap_or_else(|| {
            let cluster = Arc::new(Self::start());
            *shared = Arc::downgrade(&cluster);
            cluster
        });
        (cluster, format!("test-{}", PREFIX.fetch_add(1, Ordering::Relaxed)))
    }

    pub fn start() -> Self {
        let servers = [(); 3].map(|()| {
            let bus = free_port().to_string();
            let clustered = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", "2000"];
            let server = Server::start(&[&SAFE[..], &clustered].concat());
            (server, bus)
        });
        for ((server, _), (first, last)) in servers.iter().zip(SLOTS) {
            cli(server, &["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
        }
        for (server, bus) in &servers[1..] {
            cli(&servers[0].0, &["CLUSTER", "MEET", "127.0.0.1", &server.port.to_string(), bus]);
        }
        let cluster = Self { servers: servers.map(|(server, _)| server) };
        cluster.wait();
        cluster
    }

    /// Until every node knows all of them and serves.
    pub fn wait(&self) {
        for server in &self.servers {
            wait_until("the cluster is whole", || {
                let info = cli(server, &["CLUSTER", "INFO"]);
                info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3") && info.contains("cluster_slots_ok:16384")
            });
        }
    }

    pub fn url(&self) -> String {
        let hosts = self.servers.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect::<Vec<_>>();
        format!("redis-cluster://{}", hosts.join(","))
    }
}

pub(super) fn cli(server: &Server, arguments: &[&str]) -> String {
    let output = Command::new("redis-cli").args(["-h", "127.0.0.1", "-p", &server.port.to_string()]).args(arguments).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}
