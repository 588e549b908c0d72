//! Free loopback ports for a node that is stopped and started again.
//!
//! The ports lie below the kernel's ephemeral range (32768 and up on Linux), because an outgoing connection of any
//! process could otherwise take a port while its node is stopped.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use secp256k1::rand::{Rng, thread_rng};

/// Above kaspad's default ports, below the ephemeral range.
const CANDIDATES: std::ops::Range<u16> = 20_000..32_000;

/// Tries before giving up on a machine whose ports are all taken.
const ATTEMPTS: usize = 1_000;

/// Where one node listens; the same for its whole life.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Endpoints {
    pub(crate) p2p: SocketAddr,
    pub(crate) borsh: SocketAddr,
    pub(crate) json: SocketAddr,
}

impl Endpoints {
    /// Endpoints for `nodes` nodes; `borsh_port` is the wRPC port of node 0 when the caller wants a certain one, and
    /// must be free.
    pub(crate) fn choose(nodes: usize, borsh_port: Option<u16>) -> io::Result<Vec<Self>> {
        let free = free_addresses(nodes * 3)?;
        let mut chosen: Vec<Self> = free.chunks(3).map(|a| Self { p2p: a[0], borsh: a[1], json: a[2] }).collect();
        if let (Some(port), Some(first)) = (borsh_port, chosen.first_mut()) {
            first.borsh = TcpListener::bind(loopback(port))?.local_addr()?;
        }
        Ok(chosen)
    }

    pub(crate) fn all(&self) -> [SocketAddr; 3] {
        [self.p2p, self.borsh, self.json]
    }
}

/// Returns `count` different loopback addresses that nobody listens on right now.
fn free_addresses(count: usize) -> io::Result<Vec<SocketAddr>> {
    // All listeners are held until the last port is found, so no port is handed out twice.
    let mut held: Vec<TcpListener> = Vec::with_capacity(count);
    for _ in 0..ATTEMPTS {
        if held.len() == count {
            break;
        }
        if let Ok(listener) = TcpListener::bind(loopback(thread_rng().gen_range(CANDIDATES))) {
            held.push(listener);
        }
    }
    if held.len() < count {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "no free ports between 20000 and 32000"));
    }
    held.iter().map(TcpListener::local_addr).collect()
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn addresses_are_distinct_and_free() {
        let addresses = free_addresses(8).unwrap();
        assert_eq!(addresses.iter().collect::<HashSet<_>>().len(), 8);
        for address in addresses {
            TcpListener::bind(address).unwrap();
        }
    }

    #[test]
    fn the_wished_port_goes_to_node_0_if_it_is_free() {
        let wished = free_addresses(1).unwrap()[0];
        let endpoints = Endpoints::choose(2, Some(wished.port())).unwrap();
        assert_eq!(endpoints[0].borsh, wished);
        assert_ne!(endpoints[1].borsh, wished);
        let _taken = TcpListener::bind(wished).unwrap();
        assert_eq!(Endpoints::choose(2, Some(wished.port())).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
