//! From an upstream of the policy to pingora's peer: address, TLS, time limits.

use super::resolve::{Addresses, Resolver};
use crate::protocol::policy::{Upstream, UpstreamTls};
use base64::Engine as _;
use pingora::{
    protocols::tls::CaType,
    upstreams::peer::HttpPeer,
    utils::tls::{WrappedX509, parse_x509},
};
use std::{
    collections::HashMap,
    net::SocketAddr,
    panic::catch_unwind,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

/// Why there is nothing to connect to.
#[derive(Debug, thiserror::Error)]
pub(super) enum PeerError {
    #[error("the upstream's name does not resolve: {0}")]
    Resolve(#[from] std::io::Error),
    #[error("{0}: not a readable bundle of PEM certificates")]
    CaFile(PathBuf),
    /// pingora verifies nothing when it has no name to verify.
    #[error("the upstream's TLS server name is empty")]
    ServerName,
}

/// Resolved names and parsed CA bundles, shared by both ways to an upstream.
#[derive(Default)]
pub(super) struct Peers {
    pub(super) resolver: Resolver,
    /// Read once per process.
    bundles: Mutex<HashMap<PathBuf, Arc<CaType>>>,
}

impl Peers {
    /// Where the upstream can be reached, in the order to try; never empty.
    pub(super) async fn addresses(&self, upstream: &Upstream) -> Result<Addresses, PeerError> {
        Ok(self.resolver.addresses(&upstream.host, upstream.port).await?)
    }

    pub(super) fn refused(&self, upstream: &Upstream, address: SocketAddr) {
        self.resolver.demote(&upstream.host, upstream.port, address);
    }

    pub(super) fn peer(&self, upstream: &Upstream, address: SocketAddr) -> Result<HttpPeer, PeerError> {
        let server_name = upstream.tls.as_ref().map_or_else(String::new, |tls| tls.server_name.clone());
        let mut peer = HttpPeer::new(address, upstream.tls.is_some(), server_name);
        let options = &mut peer.options;
        options.connection_timeout = Some(upstream.connect_timeout);
        options.total_connection_timeout = Some(upstream.connect_timeout);
        options.read_timeout = Some(upstream.read_timeout);
        options.write_timeout = Some(upstream.write_timeout);
        options.idle_timeout = Some(upstream.idle_timeout);
        if let Some(UpstreamTls { server_name, verify, ca_file }) = &upstream.tls {
            if server_name.is_empty() && *verify {
                return Err(PeerError::ServerName);
            }
            options.verify_cert = *verify;
            options.verify_hostname = *verify;
            options.ca = ca_file.as_deref().map(|file| self.bundle(file)).transpose()?;
        }
        Ok(peer)
    }

    fn bundle(&self, file: &Path) -> Result<Arc<CaType>, PeerError> {
        let mut bundles = self.bundles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bundle) = bundles.get(file) {
            return Ok(bundle.clone());
        }
        let unreadable = || PeerError::CaFile(file.to_owned());
        let pem = std::fs::read_to_string(file).map_err(|_| unreadable())?;
        let certificates = certificates(&pem).filter(|found| !found.is_empty()).ok_or_else(unreadable)?;
        // pingora's parser panics on bytes that are no certificate; it holds no lock of ours.
        let bundle: Arc<CaType> =
            catch_unwind(|| certificates.into_iter().map(|der| WrappedX509::new(der, parse_x509)).collect()).map_err(|_| unreadable())?;
        bundles.insert(file.to_owned(), bundle.clone());
        Ok(bundle)
    }
}

/// The certificates of a PEM text as DER; `None` when one of them is not base64 or not closed.
fn certificates(pem: &str) -> Option<Vec<Vec<u8>>> {
    pem.split("-----BEGIN CERTIFICATE-----")
        .skip(1)
        .map(|rest| {
            let text: String = rest.split_once("-----END CERTIFICATE-----")?.0.split_ascii_whitespace().collect();
            base64::engine::general_purpose::STANDARD.decode(text).ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::tests::support::{tls_files, upstream};

    #[test]
    fn a_bundle_is_parsed_or_refused() {
        let certificate = std::fs::read_to_string(tls_files().cert).unwrap();
        let directory = tempfile::tempdir().unwrap();
        for (text, ok) in [
            (certificate.clone(), true),
            (format!("# comment\n{certificate}\n{certificate}"), true),
            (String::new(), false),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----".into(), false),
            ("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----".into(), false),
            (certificate.replace("-----END CERTIFICATE-----", ""), false),
        ] {
            let file = directory.path().join("ca.pem");
            std::fs::write(&file, &text).unwrap();
            assert_eq!(Peers::default().bundle(&file).is_ok(), ok, "{text}");
        }
    }

    #[test]
    fn verified_tls_needs_a_name_to_verify() {
        let address = "127.0.0.1:1".parse().unwrap();
        for (server_name, verify, ok) in [("", true, false), ("", false, true), ("api.example", true, true)] {
            let mut upstream = upstream(address);
            upstream.tls = Some(UpstreamTls { server_name: server_name.into(), verify, ca_file: None });
            assert_eq!(Peers::default().peer(&upstream, address).is_ok(), ok, "{server_name:?} {verify}");
        }
    }
}
