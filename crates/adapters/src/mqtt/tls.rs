//! TLS to a broker: rustls, certificate and host name always checked; files are read anew at each connect (MQ-10).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use super::config::TlsPlan;

/// Where systems keep the certificate authorities they trust, Debian's place first.
const SYSTEM_AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// A connector by the plan, and the name the broker must prove.
pub fn connector(plan: &TlsPlan, host: &str) -> Result<(TlsConnector, ServerName<'static>), String> {
    let name = plan.server_name.as_deref().unwrap_or(host).to_owned();
    let name = ServerName::try_from(name).map_err(|_| "the host is no name that a certificate can have".to_owned())?;
    let builder = ClientConfig::builder_with_provider(Arc::new(crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("cannot set up TLS: {error}"))?
        .with_root_certificates(authorities(plan.ca_file.as_deref())?);
    let mut config = match (&plan.cert_file, &plan.key_file) {
        (Some(cert_file), Some(key_file)) => {
            let chain = certificates(cert_file)?;
            let key = PrivateKeyDer::from_pem_file(key_file)
                .map_err(|error| format!("cannot read the private key in {}: {error}", key_file.display()))?;
            let own = builder.with_client_auth_cert(chain, key);
            own.map_err(|error| format!("certificate and key in {} do not go together: {error}", cert_file.display()))?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = plan.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok((TlsConnector::from(Arc::new(config)), name))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let failed = |error| format!("cannot read the certificates in {}: {error}", path.display());
    CertificateDer::pem_file_iter(path).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)
}

fn authorities(ca_file: Option<&Path>) -> Result<RootCertStore, String> {
    let system = || SYSTEM_AUTHORITIES.iter().map(Path::new).find(|path| path.is_file());
    let path: PathBuf = match ca_file.or_else(system) {
        Some(path) => path.to_owned(),
        None => return Err("this system has no list of certificate authorities, set tls.ca_file".to_owned()),
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&path)? {
        // lists of systems hold a few that are too old to parse; what counts is that one is left
        if let Err(error) = roots.add(certificate) {
            tracing::debug!(%error, path = %path.display(), "a certificate authority is passed over");
        }
    }
    if roots.is_empty() { Err(format!("{} holds no certificate authority", path.display())) } else { Ok(roots) }
}
