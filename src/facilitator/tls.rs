//! TLS of the listener.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

/// Why the certificate cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct TlsError {
    pub path: String,
    pub reason: String,
}

fn failed(path: &Path, reason: impl ToString) -> TlsError {
    TlsError { path: path.display().to_string(), reason: reason.to_string() }
}

pub(super) fn acceptor((cert, key): &(PathBuf, PathBuf)) -> Result<TlsAcceptor, TlsError> {
    let chain = CertificateDer::pem_file_iter(cert).map_err(|error| failed(cert, error))?;
    let chain = chain.collect::<Result<Vec<_>, _>>().map_err(|error| failed(cert, error))?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| failed(key, error))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(cert, error))?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(|error| failed(cert, error))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
