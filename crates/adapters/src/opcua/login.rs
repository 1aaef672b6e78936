//! Logging in by a certificate of a person or a program (UA-03).

use std::path::Path;

use super::endpoint::Chosen;
use super::stack::{
    ByteString, Defect, ExtensionObject, PrivateKey, SecurityPolicy, SignatureData, X509, X509IdentityToken, sign,
};

/// The token and the proof that we hold the key. Files are read anew at each login, so that a renewed one counts.
pub fn certificate(
    chosen: &Chosen,
    cert_file: &Path,
    key_file: &Path,
    nonce: &ByteString,
) -> Result<(ExtensionObject, SignatureData), Defect> {
    let read = |path: &Path| {
        std::fs::read(path).map_err(|error| Defect::new(format!("cannot read {}: {error}", path.display())))
    };
    let bytes = read(cert_file)?;
    let certificate = if bytes.starts_with(b"-----BEGIN") { X509::from_pem(&bytes) } else { X509::from_der(&bytes) };
    let certificate = certificate.map_err(|_| Defect::new(format!("{} holds no certificate", cert_file.display())))?;
    let key = PrivateKey::from_pem(&read(key_file)?);
    let key = key.map_err(|_| Defect::new(format!("{} holds no private key of RSA", key_file.display())))?;
    let uri = chosen.token.security_policy_uri.as_ref();
    let policy = if uri.is_empty() { chosen.security.policy } else { SecurityPolicy::from_uri(uri) };
    if policy == SecurityPolicy::None || chosen.security.server_certificate.is_null_or_empty() {
        return Err(Defect::new("a login by certificate needs a secure channel"));
    }
    let signature = sign(&key, policy, &chosen.security.server_certificate, nonce)?;
    let token =
        X509IdentityToken { policy_id: chosen.token.policy_id.clone(), certificate_data: certificate.as_byte_string() };
    Ok((ExtensionObject::from_message(token), signature))
}
