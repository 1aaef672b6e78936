//! Certificate authorities that a target's TLS certificate is checked against.

use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Where systems keep the certificate authorities they trust, Debian's place first.
const SYSTEM: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Why there are none.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read the certificate authorities in {}", path.display())]
    Unreadable { path: PathBuf, source: rustls::pki_types::pem::Error },
    #[error("{} holds no certificate authority", path.display())]
    Empty { path: PathBuf },
    #[error("this system has no list of certificate authorities, set ca_file")]
    NoSystemList,
}

/// The authorities of `ca_file`, or those of the system. Read anew at each connect, so a renewed file counts.
pub fn read(ca_file: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, Error> {
    let system = || SYSTEM.iter().map(Path::new).find(|path| path.is_file());
    let path = ca_file.or_else(system).ok_or(Error::NoSystemList)?;
    let failed = |source| Error::Unreadable { path: path.to_owned(), source };
    let mut authorities = Vec::new();
    for certificate in CertificateDer::pem_file_iter(path).map_err(failed)? {
        let certificate = certificate.map_err(failed)?;
        // lists of systems hold a few that are too old to parse; what counts is that one is left
        match RootCertStore::empty().add(certificate.clone()) {
            Ok(()) => authorities.push(certificate),
            Err(error) => {
                tracing::debug!(%error, path = %path.display(), "a certificate authority is passed over");
            }
        }
    }
    if authorities.is_empty() { Err(Error::Empty { path: path.to_owned() }) } else { Ok(authorities) }
}
