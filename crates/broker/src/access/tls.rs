//! TLS of a listener: its certificate and key, read anew when the files change.
//!
//! Invariant: a pair of files that does not work never displaces one that does. Connections that are open keep what they
//! began with.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoClientAuth, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use super::listener::TlsFiles;
use crate::Error;

/// What tells that a file is another one: its time of change and its size; `None` when it cannot be looked at.
type Stamp = Vec<Option<(SystemTime, u64)>>;

/// The TLS side of one listener.
pub(crate) struct Tls {
    files: TlsFiles,
    config: RwLock<Arc<ServerConfig>>,
    seen: Mutex<Stamp>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Tls {
    pub(crate) fn open(files: TlsFiles) -> Result<Self, Error> {
        let seen = Mutex::new(stamp(&files));
        let config = RwLock::new(Arc::new(load(&files)?));
        Ok(Self { files, config, seen })
    }

    /// For the next connection.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Looks whether the files changed, and takes them if they work.
    pub(crate) fn look(&self) {
        let now = stamp(&self.files);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == now {
            return;
        }
        *seen = now;
        let certificate = self.files.certificate.display();
        match load(&self.files) {
            Ok(config) => {
                *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
                tracing::info!(%certificate, "a changed certificate is in use for new connections");
            }
            // between the writing of the certificate and of its key this is no surprise
            Err(error) => tracing::warn!(
                %certificate,
                error = %daemon::report(&error),
                "a changed certificate cannot be used, the one before stays in use"
            ),
        }
    }
}

fn stamp(files: &TlsFiles) -> Stamp {
    let of = |path: &Path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    let paths = [Some(&files.certificate), Some(&files.key), files.client_authority.as_ref()];
    paths.into_iter().flatten().map(|path| of(path)).collect()
}

fn load(files: &TlsFiles) -> Result<ServerConfig, Error> {
    let pem = |path: &Path, source| Error::Pem { path: path.to_owned(), source };
    let certificates = |path: &Path| {
        let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
        let read: Vec<CertificateDer<'static>> = read.map_err(|source| pem(path, source))?;
        if read.is_empty() {
            return Err(pem(path, rustls::pki_types::pem::Error::NoItemsFound));
        }
        Ok(read)
    };
    let unusable = |path: &Path, source| Error::Certificate { path: path.to_owned(), source };
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|source| pem(&files.key, source))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = match &files.client_authority {
        None => Arc::new(NoClientAuth),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|source| unusable(path, source))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
            verifier.map_err(|source| unusable(path, rustls::Error::General(source.to_string())))?
        }
    };
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_client_cert_verifier(verifier).with_single_cert(chain, key))
        .map_err(|source| unusable(&files.certificate, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, certificate: &rcgen::CertifiedKey<rcgen::KeyPair>) {
        std::fs::write(dir.join("cert.pem"), certificate.cert.pem()).unwrap();
        std::fs::write(dir.join("key.pem"), certificate.signing_key.serialize_pem()).unwrap();
    }

    fn files(dir: &Path) -> TlsFiles {
        TlsFiles { certificate: dir.join("cert.pem"), key: dir.join("key.pem"), client_authority: None }
    }

    // STR-14
    #[test]
    fn changed_files_are_taken_only_when_they_work() {
        let dir = tempfile::tempdir().unwrap();
        let make = || rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        write(dir.path(), &make());
        let tls = Tls::open(files(dir.path())).unwrap();
        let config = || Arc::clone(&tls.config.read().unwrap());
        let first = config();
        tls.look();
        assert!(Arc::ptr_eq(&first, &config()), "nothing changed");
        let other = make();
        std::fs::write(dir.path().join("cert.pem"), other.cert.pem() + "\n").unwrap();
        tls.look();
        assert!(Arc::ptr_eq(&first, &config()), "the key does not fit yet");
        std::fs::write(dir.path().join("key.pem"), other.signing_key.serialize_pem() + "\n").unwrap();
        tls.look();
        assert!(!Arc::ptr_eq(&first, &config()));
        std::fs::remove_file(dir.path().join("key.pem")).unwrap();
        let second = config();
        tls.look();
        assert!(Arc::ptr_eq(&second, &config()));
    }

    #[test]
    fn missing_and_broken_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = |text: &str| {
            std::fs::write(dir.path().join("cert.pem"), text).unwrap();
            daemon::report(&Tls::open(files(dir.path())).unwrap_err())
        };
        assert!(error("no pem").contains("cert.pem"));
        std::fs::remove_file(dir.path().join("cert.pem")).unwrap();
        assert!(daemon::report(&Tls::open(files(dir.path())).unwrap_err()).contains("cert.pem"));
    }
}
