//! Names of upstreams to addresses, remembered for a moment so that a request does not wait for DNS.
//!
//! An address that refused a connection moves to the end of its list, so that `localhost` on a
//! machine where the upstream listens on IPv4 only costs one failed connection, not one per request.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// How long an answer of the resolver is used.
pub(super) const FRESH: Duration = Duration::from_secs(10);

pub(super) type Addresses = Arc<[SocketAddr]>;

#[derive(Default)]
pub(super) struct Resolver {
    /// By host, then by port; the hosts are those of the configuration, so this stays small.
    known: Mutex<HashMap<String, HashMap<u16, Known>>>,
}

struct Known {
    addresses: Addresses,
    until: Instant,
}

impl Resolver {
    /// Never empty. When the resolver fails, the last answer is used although it is old.
    pub(super) async fn addresses(&self, host: &str, port: u16) -> io::Result<Addresses> {
        if let Some(ip) = literal(host) {
            return Ok(Arc::from([SocketAddr::new(ip, port)]));
        }
        let old = match self.known().get(host).and_then(|ports| ports.get(&port)) {
            Some(known) if Instant::now() < known.until => return Ok(known.addresses.clone()),
            Some(known) => Some(known.addresses.clone()),
            None => None,
        };
        let found = tokio::net::lookup_host((host, port)).await.map(Vec::from_iter);
        let addresses: Addresses = match (found, old) {
            (Ok(found), _) if !found.is_empty() => found.into(),
            (_, Some(old)) => old,
            (Ok(_), None) => return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
            (Err(error), None) => return Err(error),
        };
        self.remember(host, port, addresses.clone(), Instant::now() + FRESH);
        Ok(addresses)
    }

    /// `address` refused a connection: others are tried first from now on.
    pub(super) fn demote(&self, host: &str, port: u16, address: SocketAddr) {
        let mut known = self.known();
        let Some(entry) = known.get_mut(host).and_then(|ports| ports.get_mut(&port)) else { return };
        let (mut addresses, last): (Vec<_>, Vec<_>) = entry.addresses.iter().partition(|known| **known != address);
        addresses.extend(last);
        entry.addresses = addresses.into();
    }

    pub(super) fn remember(&self, host: &str, port: u16, addresses: Addresses, until: Instant) {
        self.known().entry(host.to_owned()).or_default().insert(port, Known { addresses, until });
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, HashMap<u16, Known>>> {
        // A panic while holding the lock leaves a complete map behind.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An address written as such, IPv6 with or without brackets.
pub(super) fn literal(host: &str) -> Option<IpAddr> {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn literals_need_no_resolver() {
        for (host, expect) in [("127.0.0.1", "127.0.0.1:80"), ("::1", "[::1]:80"), ("[::1]", "[::1]:80")] {
            let found = Resolver::default().addresses(host, 80).await.unwrap();
            assert_eq!(*found, [expect.parse::<SocketAddr>().unwrap()], "{host}");
        }
    }

    #[tokio::test]
    async fn an_address_that_refused_is_tried_last() {
        let resolver = Resolver::default();
        let [a, b]: [SocketAddr; 2] = ["127.0.0.1:1", "127.0.0.2:1"].map(|text| text.parse().unwrap());
        resolver.remember("name", 1, Arc::from([a, b]), Instant::now() + FRESH);
        resolver.demote("name", 1, a);
        assert_eq!(*resolver.addresses("name", 1).await.unwrap(), [b, a]);
    }

    #[tokio::test]
    async fn an_old_answer_beats_none() {
        let resolver = Resolver::default();
        let a: SocketAddr = "127.0.0.1:1".parse().unwrap();
        resolver.remember("kas402.invalid", 1, Arc::from([a]), Instant::now());
        assert_eq!(*resolver.addresses("kas402.invalid", 1).await.unwrap(), [a]);
    }
}
