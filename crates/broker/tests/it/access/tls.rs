//! TLS: listeners with certificates, and clients that are known by theirs.

use std::path::Path;
use std::sync::Arc;

use kafka_protocol::messages::{ApiVersionsRequest, MetadataRequest};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::client::Client;
use super::client::scram::Hash;
use super::rules::make_topic;
use super::{ADMIN, ALLOW, DESCRIBE, PASSWORD, Site, TOPIC, add_rules, member, rule};
use crate::support::eventually;

/// An authority and what it has signed.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pub(super) pem: String,
}

/// A certificate with its key, both in PEM and as they are.
pub(super) struct Signed {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    pub(super) pem: String,
    pub(super) key_pem: String,
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let (pem, der) = (certificate.pem(), certificate.der().clone());
        Self { issuer: Issuer::new(params, key), certificate: der, pem }
    }

    pub(super) fn sign(&self, name: &str) -> Signed {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Plant");
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let (pem, key_pem) = (certificate.pem(), key.serialize_pem());
        Signed { certificate: certificate.der().clone(), key: PrivateKeyDer::from(key), pem, key_pem }
    }

    /// A client that trusts this authority, with a certificate of its own or without.
    fn client(&self, own: Option<&Signed>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots);
        match own {
            None => builder.with_no_client_auth(),
            Some(own) => builder.with_client_auth_cert(vec![own.certificate.clone()], own.key.clone_key()).unwrap(),
        }
    }
}

pub(super) fn write(folder: &Path, server: &Signed, authority: &Authority) {
    std::fs::write(folder.join("server.pem"), &server.pem).unwrap();
    std::fs::write(folder.join("server.key"), &server.key_pem).unwrap();
    std::fs::write(folder.join("ca.pem"), &authority.pem).unwrap();
}

/// A listener with the files that `write` has written; the rest of its line in `more`.
pub(super) fn listener(folder: &Path, name: &str, more: &str) -> broker::Listener {
    let folder = folder.display();
    let files = format!("tls-cert={folder}/server.pem,tls-key={folder}/server.key");
    format!("name={name},address=127.0.0.1:0,{files}{more}").parse().unwrap()
}

// STR-14
#[tokio::test(flavor = "multi_thread")]
async fn logins_go_through_tls_and_only_the_right_authority_is_trusted() {
    let files = tempfile::tempdir().unwrap();
    let (authority, other) = (Authority::new("plant"), Authority::new("other"));
    write(files.path(), &authority.sign("broker"), &authority);
    let broker = Site::start(|settings| {
        settings.listeners.push(listener(files.path(), "tls", ",sasl=required"));
    })
    .await;
    let address = broker.handle().listener("tls").unwrap();
    let mut client = Client::connect_tls(address, authority.client(None)).await.unwrap();
    assert_eq!(client.call(3, &ApiVersionsRequest::default()).await.error_code, 0);
    client.plain(ADMIN, PASSWORD).await.unwrap();
    assert_eq!(client.call(13, &MetadataRequest::default()).await.brokers[0].port, i32::from(address.port()));
    let mut client = Client::connect_tls(address, authority.client(None)).await.unwrap();
    client.scram(Hash::Sha512, ADMIN, PASSWORD).await.unwrap();
    assert!(Client::connect_tls(address, other.client(None)).await.is_err());
    // plain text is no TLS
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0, 0]).await.unwrap();
    eventually("a failed handshake is counted", async || {
        broker.figures("sf_broker_failed_logins_total").iter().any(|line| !line.ends_with(" 0"))
    })
    .await;
}

// STR-14: mutual TLS, and the name in the certificate is the name in the rules
#[tokio::test(flavor = "multi_thread")]
async fn clients_are_known_by_their_certificates() {
    let files = tempfile::tempdir().unwrap();
    let (authority, other) = (Authority::new("plant"), Authority::new("other"));
    write(files.path(), &authority.sign("broker"), &authority);
    let ca = format!(",client-ca={}/ca.pem", files.path().display());
    let broker = Site::start(|settings| {
        settings.listeners.push(listener(files.path(), "mutual", &ca));
        settings.connections_per_user_max = 3;
    })
    .await;
    let mut admin = member(&broker, ADMIN).await;
    make_topic(&mut admin, "t").await;
    add_rules(&mut admin, vec![rule("CN=pump,O=Plant", ALLOW, DESCRIBE, TOPIC, "*")]).await;
    let address = broker.handle().listener("mutual").unwrap();
    let topics = async |own: Option<&Signed>| {
        let mut client = Client::connect_tls(address, authority.client(own)).await.ok()?;
        let answer = client.try_call(12, &MetadataRequest::default().with_topics(None)).await?;
        Some((answer.topics.iter().filter(|topic| !topic.is_internal).count(), client))
    };
    let (count, _first) = topics(Some(&authority.sign("pump"))).await.unwrap();
    assert_eq!(count, 1);
    assert_eq!(topics(Some(&authority.sign("press"))).await.unwrap().0, 0, "no rule for it");
    assert!(topics(None).await.is_none(), "no certificate");
    assert!(topics(Some(&other.sign("pump"))).await.is_none(), "signed by somebody else");
    let _more = [topics(Some(&authority.sign("pump"))).await, topics(Some(&authority.sign("pump"))).await];
    assert!(topics(Some(&authority.sign("pump"))).await.is_none(), "one name, three connections");
}

// STR-14: a new certificate is taken without a restart
#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_exchanged_while_the_broker_runs() {
    let files = tempfile::tempdir().unwrap();
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    write(files.path(), &old.sign("broker"), &old);
    let broker = Site::start(|settings| settings.listeners.push(listener(files.path(), "tls", ""))).await;
    let address = broker.handle().listener("tls").unwrap();
    let mut before = Client::connect_tls(address, old.client(None)).await.unwrap();
    write(files.path(), &new.sign("broker"), &new);
    eventually("the new certificate is shown", async || Client::connect_tls(address, new.client(None)).await.is_ok())
        .await;
    assert!(Client::connect_tls(address, old.client(None)).await.is_err());
    assert_eq!(before.call(3, &ApiVersionsRequest::default()).await.error_code, 0, "open connections go on");
}
