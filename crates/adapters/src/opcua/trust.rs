//! Whom we believe: our own certificate, and the folders of those of servers (UA-04, UA-05, UA-06).
//!
//! ```text
//! <state>/opcua/own/cert.der            to be trusted at the server
//!               own/application_uri     the name in it; a renewed certificate keeps it
//!               private/private.pem     readable by the owner alone
//!               trusted/  rejected/     certificates of servers, by thumbprint
//! ```
//! All adapters of a gateway share them. Invariant: an unknown certificate is never trusted by itself, but for `dev_mode`.

use std::fs;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use model::Timestamp;
use opcua_crypto::X509Data;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{KeyUsage, SubjectAltName};

use super::stack::{ByteString, PrivateKey, SecurityPolicy, X509, clean};

/// Certificates kept because they are not trusted; on more the oldest goes (UA-05).
const REJECTED_MAX: usize = 100;
/// Files of a folder that are looked at.
const FILES_MAX: usize = 10_000;
/// How long our own certificate is good for.
const OWN_DAYS: u32 = 5 * 365;
/// Bits of our own key.
const KEY_BITS: u32 = 2048;

/// Something about the folders does not work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{} is no usable {what}", path.display())]
    Unusable { what: &'static str, path: PathBuf },
    #[error("our own certificate cannot be made: {what}")]
    Make { what: String },
    #[error("no rejected certificate has the thumbprint {thumbprint}")]
    Unknown { thumbprint: String },
}

/// Who we are.
#[derive(Clone)]
pub struct Own {
    pub certificate: X509,
    pub key: PrivateKey,
    pub application_uri: String,
}

impl std::fmt::Debug for Own {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Own").field("application_uri", &self.application_uri).finish_non_exhaustive()
    }
}

/// What is to be said about a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    pub thumbprint: String,
    pub subject: String,
    pub not_before: String,
    pub not_after: String,
    /// Microseconds since 1970.
    pub ends_us: i64,
}

/// What a certificate must fit to.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    pub policy: SecurityPolicy,
    pub application_uri: &'a str,
    /// Not checked when absent.
    pub host: Option<&'a str>,
    pub now: Timestamp,
}

/// Why a certificate is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Nobody has said that it is to be trusted.
    Unknown,
    /// What it says does not fit.
    Unfit(String),
}

/// The folders of a gateway.
#[derive(Debug, Clone)]
pub struct Folders {
    root: PathBuf,
}

impl Folders {
    /// Under the folder for what outlives a restart.
    pub fn new(state: &Path) -> Self {
        Self { root: state.join("opcua") }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    fn make(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.root.join(name);
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(|source| Error::Io { action: "make the folder", path: path.clone(), source })?;
        Ok(path)
    }

    /// Our own certificate; made when there is none. Takes some seconds then, and does not wait for anything.
    pub fn own(&self, host: &str, gateway_id: &str) -> Result<Own, Error> {
        for name in ["trusted", "rejected", "issuers", "crl"] {
            self.make(name)?;
        }
        let certificate_path = self.make("own")?.join("cert.der");
        let uri_path = self.root.join("own/application_uri");
        let key_path = self.make("private")?.join("private.pem");
        // adapters are processes of their own: two that start together must not make two keys
        let lock_path = self.root.join("private/lock");
        let lock = fs::File::create(&lock_path).and_then(|file| file.lock().map(|()| file));
        let _lock = lock.map_err(|source| Error::Io { action: "lock", path: lock_path, source })?;
        if !certificate_path.exists() || !key_path.exists() {
            let uri = match fs::read_to_string(&uri_path) {
                Ok(kept) => kept.trim().to_owned(),
                Err(_) => format!("urn:{host}:streamforge:gw:{gateway_id}"),
            };
            Self::make_own(host, gateway_id, &uri, [&certificate_path, &key_path, &uri_path])?;
        }
        let read =
            |path: &Path| fs::read(path).map_err(|source| Error::Io { action: "read", path: path.to_owned(), source });
        let certificate = X509::from_der(&read(&certificate_path)?)
            .map_err(|_| Error::Unusable { what: "certificate (DER)", path: certificate_path })?;
        let key = PrivateKey::from_pem(&read(&key_path)?)
            .map_err(|_| Error::Unusable { what: "private key (PEM)", path: key_path })?;
        let application_uri = String::from_utf8_lossy(&read(&uri_path)?).trim().to_owned();
        Ok(Own { certificate, key, application_uri })
    }

    fn make_own(host: &str, gateway_id: &str, uri: &str, paths: [&Path; 3]) -> Result<(), Error> {
        let [certificate_path, key_path, uri_path] = paths;
        let data = X509Data {
            key_size: KEY_BITS,
            common_name: format!("StreamForge {gateway_id}"),
            organization: "StreamForge".to_owned(),
            organizational_unit: String::new(),
            country: String::new(),
            state: String::new(),
            alt_host_names: X509Data::alt_host_names(uri, Some(vec![host.to_owned()]), false, false, false),
            certificate_duration_days: OWN_DAYS,
        };
        let (certificate, key) = X509::cert_and_pkey(&data).map_err(|what| Error::Make { what })?;
        let der = certificate.to_der().map_err(|_| Error::Make { what: "it has no encoding".to_owned() })?;
        let secret = key.to_der().map_err(|_| Error::Make { what: "the key has no encoding".to_owned() })?;
        // the key first: a certificate without its key would be made anew
        Self::put(key_path, pem(secret.as_bytes()).as_bytes(), 0o600)?;
        Self::put(uri_path, uri.as_bytes(), 0o644)?;
        Self::put(certificate_path, &der, 0o644)
    }

    /// Writes a file whole or not at all.
    fn put(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
        let failed = |action| move |source| Error::Io { action, path: path.to_owned(), source };
        let temporary = path.with_extension(format!("new-{}", std::process::id()));
        let mut options = fs::OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(mode).open(&temporary).map_err(failed("write"))?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed("write"))?;
        fs::rename(&temporary, path).map_err(failed("put in place"))
    }

    /// Judges the certificate of a server (UA-06).
    pub fn judge(&self, certificate: &X509, expected: &Expected<'_>) -> Result<(), Refusal> {
        let unfit = |what: String| Err(Refusal::Unfit(what));
        let Ok(bits) = certificate.key_length() else {
            return unfit("its key is none of RSA".to_owned());
        };
        if !expected.policy.is_valid_keylength(bits) {
            return unfit(format!("its key of {bits} bits is not one for {}", expected.policy));
        }
        if !self.is_trusted(certificate) {
            return Err(Refusal::Unknown);
        }
        let facts = facts(certificate);
        let now = chrono::DateTime::from_timestamp_micros(expected.now.as_micros()).unwrap_or_default();
        if certificate.is_time_valid(&now).is_err() {
            let (from, to) = (&facts.not_before, &facts.not_after);
            return unfit(format!("it is good from {from} to {to}, check the clocks of gateway and server ({now})"));
        }
        let Some(says) = Says::read(certificate) else { return unfit("its extensions cannot be read".to_owned()) };
        if !says.may_sign {
            return unfit("it is not made to sign with (digitalSignature)".to_owned());
        }
        if !says.uris.iter().any(|uri| uri == expected.application_uri) {
            return unfit(format!("it was made for another application than {}", clean(expected.application_uri)));
        }
        if let Some(host) = expected.host
            && !says.hosts.iter().any(|name| name.eq_ignore_ascii_case(host))
        {
            let made_for = clean(&says.hosts.join(", "));
            let hint = "use one of them in url, or set check_host_name: false";
            return unfit(format!("it was made for the hosts {made_for} and not for {host}: {hint}"));
        }
        Ok(())
    }

    fn is_trusted(&self, certificate: &X509) -> bool {
        let Ok(der) = certificate.to_der() else { return false };
        let Ok(files) = fs::read_dir(self.root.join("trusted")) else { return false };
        let paths = files.flatten().take(FILES_MAX).map(|file| file.path());
        paths
            .into_iter()
            .any(|path| fs::read(path).is_ok_and(|bytes| bytes == der || pem_of(&bytes) == Some(der.clone())))
    }

    /// Keeps a certificate for a person to look at; the oldest goes when there are too many. True if it is new.
    pub fn reject(&self, certificate: &X509) -> Result<bool, Error> {
        let folder = self.make("rejected")?;
        let path = folder.join(format!("{}.der", certificate.thumbprint().as_hex_string()));
        if path.exists() {
            return Ok(false);
        }
        let der = certificate.to_der().map_err(|_| Error::Unusable { what: "certificate", path: path.clone() })?;
        Self::put(&path, &der, 0o644)?;
        let files = fs::read_dir(&folder).into_iter().flatten().flatten();
        let mut aged: Vec<(SystemTime, PathBuf)> = files
            .filter_map(|file| Some((file.metadata().ok()?.modified().ok()?, file.path())))
            .take(FILES_MAX)
            .collect();
        aged.sort();
        for (_, path) in aged.iter().take(aged.len().saturating_sub(REJECTED_MAX)) {
            drop(fs::remove_file(path));
        }
        Ok(true)
    }

    /// Trusts a certificate that was rejected.
    pub fn trust(&self, thumbprint: &str) -> Result<(), Error> {
        let thumbprint = thumbprint.replace([':', ' '], "").to_ascii_lowercase();
        let is_one = thumbprint.len() == 40 && thumbprint.bytes().all(|byte| byte.is_ascii_hexdigit());
        let from = self.root.join("rejected").join(format!("{thumbprint}.der"));
        if !is_one || !from.is_file() {
            return Err(Error::Unknown { thumbprint: clean(&thumbprint) });
        }
        let to = self.make("trusted")?.join(format!("{thumbprint}.der"));
        fs::rename(&from, &to).map_err(|source| Error::Io { action: "move", path: from, source })
    }

    /// Trusts a certificate nobody has looked at; for `dev_mode` alone.
    pub fn trust_unseen(&self, certificate: &X509) -> Result<(), Error> {
        self.reject(certificate)?;
        self.trust(&certificate.thumbprint().as_hex_string())
    }

    /// The certificates that wait for a person.
    pub fn rejected(&self) -> Vec<Facts> {
        let files = fs::read_dir(self.root.join("rejected")).into_iter().flatten().flatten();
        let certificates = files.take(FILES_MAX).filter_map(|file| X509::from_der(&fs::read(file.path()).ok()?).ok());
        certificates.map(|certificate| facts(&certificate)).collect()
    }
}

/// What stands in the extensions of a certificate.
#[derive(Debug, Default)]
struct Says {
    uris: Vec<String>,
    hosts: Vec<String>,
    may_sign: bool,
}

impl Says {
    fn read(certificate: &X509) -> Option<Self> {
        let parsed = Certificate::from_der(&certificate.to_der().ok()?).ok()?;
        let usage = parsed.tbs_certificate.get::<KeyUsage>().ok()?;
        let mut says = Self { may_sign: usage.is_none_or(|(_, usage)| usage.digital_signature()), ..Self::default() };
        let names = parsed.tbs_certificate.get::<SubjectAltName>().ok()?;
        for name in names.iter().flat_map(|(_, names)| &names.0) {
            match name {
                GeneralName::UniformResourceIdentifier(uri) => says.uris.push(uri.to_string()),
                GeneralName::DnsName(host) => says.hosts.push(host.to_string()),
                GeneralName::IpAddress(bytes) => says.hosts.extend(address(bytes.as_bytes())),
                _ => {}
            }
        }
        Some(says)
    }
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(four).to_string());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|sixteen| Ipv6Addr::from(sixteen).to_string())
}

/// What a person wants to know about a certificate.
pub fn facts(certificate: &X509) -> Facts {
    let (from, to) = (certificate.not_before().ok(), certificate.not_after().ok());
    let text = |time: Option<chrono::DateTime<chrono::Utc>>| {
        time.map_or_else(|| "?".to_owned(), |time| time.format("%Y-%m-%dT%H:%M:%SZ").to_string())
    };
    Facts {
        thumbprint: certificate.thumbprint().as_hex_string(),
        subject: clean(&certificate.subject_name()),
        not_before: text(from),
        not_after: text(to),
        ends_us: to.map_or(i64::MAX, |time| time.timestamp_micros()),
    }
}

/// Days from `now` until it ends; none while that is more than 30 (UA-04).
pub fn days_left(facts: &Facts, now: Timestamp) -> Option<i64> {
    let days = facts.ends_us.saturating_sub(now.as_micros()).div_euclid(86_400_000_000);
    (days <= 30).then_some(days)
}

fn pem(der: &[u8]) -> String {
    let base64 = ByteString::from(der).as_base64();
    let lines: Vec<&str> =
        base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap_or_default()).collect();
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"))
}

/// The certificate in a PEM file.
fn pem_of(bytes: &[u8]) -> Option<Vec<u8>> {
    if !bytes.starts_with(b"-----BEGIN") {
        return None;
    }
    X509::from_pem(bytes).ok()?.to_der().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(uri: &str) -> (tempfile::TempDir, Folders, Own) {
        let folder = tempfile::tempdir().unwrap();
        let folders = Folders::new(folder.path());
        let own = folders.own("box.local", uri).unwrap();
        (folder, folders, own)
    }

    fn expected<'a>(own: &'a Own, host: Option<&'a str>, now: Timestamp) -> Expected<'a> {
        Expected { policy: SecurityPolicy::Basic256Sha256, application_uri: &own.application_uri, host, now }
    }

    // UA-04, UA-05, UA-06: one key for all, for making one takes long
    #[test]
    fn trusted_only_by_a_person_and_only_as_long_as_it_fits() {
        use std::os::unix::fs::PermissionsExt as _;
        let (_folder, folders, own) = certificate("gw-1");
        assert_eq!(own.application_uri, "urn:box.local:streamforge:gw:gw-1");
        let mode = fs::metadata(folders.root().join("private/private.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = folders.own("other", "gw-1").unwrap();
        assert_eq!(again.certificate.to_der().unwrap(), own.certificate.to_der().unwrap(), "made once");

        let now = Timestamp::from_micros(facts(&own.certificate).ends_us).plus_micros(-86_400_000_000);
        let at = |host| expected(&own, host, now);
        assert_eq!(folders.judge(&own.certificate, &at(None)), Err(Refusal::Unknown));
        assert!(folders.reject(&own.certificate).unwrap());
        assert!(!folders.reject(&own.certificate).unwrap(), "told once");
        assert_eq!(folders.judge(&own.certificate, &at(None)), Err(Refusal::Unknown), "rejected is not trusted");
        let waiting = folders.rejected();
        assert_eq!(waiting.len(), 1);
        assert!(folders.trust("00").is_err() && folders.trust("../../etc/passwd").is_err());
        folders.trust(&waiting[0].thumbprint.to_uppercase()).unwrap();
        assert_eq!(folders.judge(&own.certificate, &at(Some("box.local"))), Ok(()));
        assert!(folders.rejected().is_empty());

        let unfit = |expected: &Expected<'_>| match folders.judge(&own.certificate, expected) {
            Err(Refusal::Unfit(what)) => what,
            other => panic!("{other:?}"),
        };
        assert!(unfit(&at(Some("other.local"))).contains("not for other.local"));
        assert!(unfit(&Expected { application_uri: "urn:x", ..at(None) }).contains("another application"));
        let late = unfit(&expected(&own, None, now.plus_micros(5 * 86_400_000_000)));
        assert!(late.contains("check the clocks"), "{late}");
        assert_eq!(days_left(&facts(&own.certificate), now), Some(1));
        assert_eq!(days_left(&facts(&own.certificate), now.plus_micros(-40 * 86_400_000_000)), None);
    }

    // UA-05
    #[test]
    fn a_hundred_rejected_certificates_are_kept() {
        let (_folder, folders, own) = certificate("gw-2");
        let rejected = folders.root().join("rejected");
        for number in 0..REJECTED_MAX {
            fs::write(rejected.join(format!("{number}.der")), b"old").unwrap();
        }
        folders.reject(&own.certificate).unwrap();
        assert_eq!(fs::read_dir(&rejected).unwrap().count(), REJECTED_MAX);
        assert_eq!(folders.rejected().len(), 1, "the newest stays");
    }
}
