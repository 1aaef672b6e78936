//! TLS to the database: rustls, certificate and host name always checked.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Where systems keep the certificate authorities they trust, Debian's place first.
const SYSTEM_AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read the certificate authorities in {}", path.display())]
    Authorities { path: PathBuf, source: rustls::pki_types::pem::Error },
    #[error("{} holds no certificate authority", path.display())]
    NoAuthority { path: PathBuf },
    #[error("this system has no list of certificate authorities, set ca_file")]
    NoSystemAuthorities,
    #[error("cannot set up TLS")]
    Setup { source: rustls::Error },
}

/// A connector that trusts `ca_file`, or the system's authorities. Read anew at each connect, so a renewed file counts.
pub fn connector(ca_file: Option<&Path>) -> Result<MakeRustlsConnect, Error> {
    let system = || SYSTEM_AUTHORITIES.iter().map(Path::new).find(|path| path.is_file());
    let path = ca_file.or_else(system).ok_or(Error::NoSystemAuthorities)?;
    let failed = |source| Error::Authorities { path: path.to_owned(), source };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(failed)? {
        // lists of systems hold a few that are too old to parse; what counts is that one is left
        if let Err(error) = roots.add(certificate.map_err(failed)?) {
            tracing::debug!(%error, path = %path.display(), "a certificate authority is passed over");
        }
    }
    if roots.is_empty() {
        return Err(Error::NoAuthority { path: path.to_owned() });
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|source| Error::Setup { source })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}
