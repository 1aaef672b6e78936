//! What brokers refuse, and what is refused of them: logins, filters, certificates, names, nonsense.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::broker::{Broker, available, not_run};
use super::process::{Process, json_of, settings};
use crate::support::Kept;

/// Lets anonymous clients subscribe to one filter and to no other.
pub(super) const ONE_FILTER: &str = r#"{"defaultACLAccess":{"publishClientSend":true,"publishClientReceive":true,"subscribe":false,"unsubscribe":true},
"anonymousGroup":"all","groups":[{"groupname":"all","roles":[{"rolename":"one"}]}],"clients":[],
"roles":[{"rolename":"one","acls":[{"acltype":"subscribePattern","topic":"plant/press","priority":0,"allow":true}]}]}"#;

// AC-052, MQ-02
#[tokio::test]
async fn one_refused_filter_degrades_and_the_other_works() {
    if let Err(why) = available() {
        return not_run("MQTT: a refused filter", &why);
    }
    let plugin = "/usr/lib/x86_64-linux-gnu/mosquitto_dynamic_security.so";
    if !Path::new(plugin).exists() {
        return not_run("MQTT: a refused filter", "mosquitto's plugin for access lists is not where it is looked for");
    }
    let broker = Broker::start_in(|folder| {
        let file = folder.join("access.json");
        std::fs::write(&file, ONE_FILTER).unwrap();
        format!("plugin {plugin}\nplugin_opt_config_file {}\n", file.display())
    });
    for (version, code) in [("5", "0x87"), ("3.1.1", "0x80")] {
        let field = json!([{"path": "/v", "parameter": "v"}]);
        let more = json!({"version": version, "client_id": format!("acl-{version}"), "subscriptions": [
            {"filter": "plant/press", "fields": field}, {"filter": "secret/#", "fields": field}]});
        let process = Process::start(&settings(broker.port, &more));
        let health = process.until("/health", "secret/#").await;
        assert!(health.contains("\"status\":\"degraded\"") && health.contains(code), "{health}");
        broker.publish("plant/press", br#"{"v":1}"#);
        process.kept.until("the other works", |seen| !seen.is_empty()).await;
        process.end().await;
    }
}

// MQ-10: a login that does not fit is not tried again for a minute, and the process lives
#[tokio::test]
async fn a_wrong_password_is_not_tried_again_at_once() {
    if let Err(why) = available() {
        return not_run("MQTT: a login", &why);
    }
    let broker = Broker::start_in(|folder| {
        let file = folder.join("users");
        let made = Command::new("mosquitto_passwd").args(["-b", "-c"]).arg(&file).args(["ada", "right"]).status();
        assert!(made.unwrap().success());
        format!("allow_anonymous false\npassword_file {}\n", file.display())
    });
    for version in ["5", "3.1.1"] {
        let mut more = json_of("plant/press", &json!({}));
        more["version"] = json!(version);
        more["username"] = json!("ada");
        more["password"] = json!({"secret": "mqtt"});
        more["client_id"] = json!(format!("login-{version}"));
        let process = Process::start_with(&settings(broker.port, &more), Kept::default(), Some("wrong"));
        let health = process.until("/health", "not authorised").await;
        assert!(!health.contains("wrong"), "{health}");
        tokio::time::sleep(Duration::from_secs(3)).await;
        let tries = broker.log().lines().filter(|line| line.contains("not authorised")).count();
        assert!(tries <= 2, "one try of each version so far, not {tries}");
        process.end().await;
        let process = Process::start_with(&settings(broker.port, &more), Kept::default(), Some("right"));
        process.until_connected().await;
        process.end().await;
    }
}

/// An authority, a certificate of the broker for `localhost`, and one of a client, as files.
pub(super) fn certificates(folder: &Path) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(rcgen::DnType::CommonName, "plant");
    write("ca.pem", &ca.self_signed(&ca_key).unwrap().pem());
    let issuer = Issuer::new(ca, ca_key);
    for name in ["localhost", "client"] {
        let key = KeyPair::generate().unwrap();
        let mut own = CertificateParams::new(vec![name.to_owned()]).unwrap();
        own.distinguished_name.push(rcgen::DnType::CommonName, name);
        write(&format!("{name}.pem"), &own.signed_by(&key, &issuer).unwrap().pem());
        write(&format!("{name}.key"), &key.serialize_pem());
    }
}

// MQ-10: TLS and mutual TLS; the authority and the name are checked; a renewed file counts
#[tokio::test]
async fn certificates_are_checked_on_both_sides() {
    if let Err(why) = available() {
        return not_run("MQTT: TLS", &why);
    }
    let broker = Broker::start_in(|folder| {
        certificates(folder);
        let at = folder.display();
        format!(
            "cafile {at}/ca.pem\ncertfile {at}/localhost.pem\nkeyfile {at}/localhost.key\nrequire_certificate true\n"
        )
    });
    let file = |name: &str| broker.folder().join(name).display().to_string();
    let with = |tls: Value, host: &str| {
        let mut more = json_of("plant/press", &json!({}));
        more["url"] = json!(format!("mqtts://{host}:{}", broker.port));
        more["tls"] = tls;
        settings(broker.port, &more)
    };
    let good = json!({"ca_file": file("ca.pem"), "cert_file": file("client.pem"), "key_file": file("client.key")});
    let process = Process::start(&with(good.clone(), "localhost"));
    process.until_connected().await;
    let mut child = Command::new("mosquitto_pub")
        .args(["-h", "localhost", "-p", &broker.port.to_string(), "-t", "plant/press", "-m", "{\"v\":1}", "-q", "1"])
        .args(["--cafile", &file("ca.pem"), "--cert", &file("client.pem"), "--key", &file("client.key")])
        .spawn()
        .unwrap();
    assert!(child.wait().unwrap().success());
    process.kept.until("a reading", |seen| !seen.is_empty()).await;
    process.end().await;
    // the name is not the certificate's
    let process = Process::start(&with(good.clone(), "127.0.0.1"));
    process.until("/health", "not valid for name").await;
    process.end().await;
    let mut named = good.clone();
    named["server_name"] = json!("localhost");
    let process = Process::start(&with(named, "127.0.0.1"));
    process.until_connected().await;
    process.end().await;
    // an authority of somebody else
    let other = tempfile::tempdir().unwrap();
    certificates(other.path());
    let mut strange = good.clone();
    strange["ca_file"] = json!(other.path().join("ca.pem").display().to_string());
    let process = Process::start(&with(strange, "localhost"));
    process.until("/health", "\"connected\":false").await;
    process.until("/health", "certificate").await;
    // renewed in place: the next connect reads it
    std::fs::copy(broker.folder().join("ca.pem"), other.path().join("ca.pem")).unwrap();
    process.until_connected().await;
    process.end().await;
}

// MQ-01: two with one name
#[tokio::test]
async fn a_duplicate_client_id_is_named() {
    if let Err(why) = available() {
        return not_run("MQTT: a duplicate client id", &why);
    }
    let broker = Broker::start("");
    let mut more = json_of("plant/press", &json!({}));
    more["client_id"] = json!("twin");
    let first = Process::start(&settings(broker.port, &more));
    let second = Process::start(&settings(broker.port, &more));
    let named = "duplicate client id";
    let waiting = async {
        while !first.get("/health").await.contains(named) && !second.get("/health").await.contains(named) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("one of them says it");
    first.end().await;
    second.end().await;
}

/// A broker of one conversation: answers the greeting, then says something and hangs up; again and again.
async fn strange_broker(welcome: &'static [u8], then: Vec<u8>) -> (u16, tokio::task::JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 1024];
            drop(stream.read(&mut buffer).await);
            drop(stream.write_all(welcome).await);
            drop(stream.write_all(&then).await);
            // until the adapter has had enough
            while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
        }
    });
    (port, tasks)
}

// 43 of the security table, G-08, G-09, F26
#[tokio::test]
async fn nonsense_of_a_broker_ends_the_connection_and_nothing_else() {
    const WELCOME: &[u8] = &[0x20, 3, 0, 0, 0];
    let header_of_256_mb = vec![0x30, 0xFF, 0xFF, 0xFF, 0x7F, 0, 1, b'a'];
    for nonsense in [
        vec![0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01],
        header_of_256_mb,
        vec![0x30, 5, 0, 2, 0xC3, 0x28, 0],
        vec![0x30, 5, 0, 2, b'a', 0, 0],
        vec![0x30, 5, 0, 2, b'a', b'#', 0],
        vec![0x00, 0],
    ] {
        let (port, _tasks) = strange_broker(WELCOME, nonsense.clone()).await;
        let mut more = json_of("plant/press", &json!({}));
        more["version"] = json!("5");
        let process = Process::start(&settings(port, &more));
        process.until("/health", "out of step").await;
        assert!(process.get("/health/live").await.contains("200 OK"), "{nonsense:?}");
        process.end().await;
    }
}

// MQ-01: a broker of old
#[tokio::test]
async fn version_3_1_1_is_spoken_where_5_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 1024];
            let read = stream.read(&mut buffer).await.unwrap_or_default();
            if read > 8 && buffer[8] == 4 {
                drop(stream.write_all(&[0x20, 2, 0, 0]).await);
                // one subscription, granted, and a message
                drop(stream.read(&mut buffer).await);
                drop(stream.write_all(&[0x90, 3, 0, 1, 1, 0x30, 20, 0, 11]).await);
                drop(stream.write_all(b"plant/press{\"v\":7}").await);
                while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
            } else {
                drop(stream.write_all(&[0x20, 2, 0, 1]).await);
            }
        }
    });
    let process = Process::start(&settings(port, &json_of("plant/press", &json!({}))));
    let seen = process.kept.until("the message", |seen| !seen.is_empty()).await;
    assert_eq!(seen[0].value, "Float(7.0)");
    process.end().await;
}
