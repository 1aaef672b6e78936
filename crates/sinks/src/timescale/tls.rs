//! TLS to the database: rustls, certificate and host name always checked.

use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::authorities;

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Authorities(#[from] authorities::Error),
    #[error("cannot set up TLS")]
    Setup { source: rustls::Error },
}

/// A connector that trusts `ca_file`, or the system's authorities.
pub fn connector(ca_file: Option<&Path>) -> Result<MakeRustlsConnect, Error> {
    let mut roots = RootCertStore::empty();
    for authority in authorities::read(ca_file)? {
        roots.add(authority).map_err(|source| Error::Setup { source })?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|source| Error::Setup { source })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}
