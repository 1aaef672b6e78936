//! A server of node-opcua: another code base than asyncua's, with its own ideas of certificates, logins and restarts.

use std::path::Path;
use std::process::Command;

use adapters::opcua::probe::probe;
use adapters::opcua::trust::Folders;
use serde_json::{Value, json};

use super::probing::insecure;
use super::process::{Process, settings};
use super::server::{Server, free_port, node_available, not_run};
use crate::support::Kept;

/// Reads `Temp`, over a host that the server's certificate names.
fn of(port: u16, policy: &str, mode: &str, more: &Value) -> Value {
    let mut settings = settings(port, &["Temp"], more);
    settings["url"] = json!(format!("opc.tcp://localhost:{port}/"));
    settings["security_policy"] = json!(policy);
    if policy != "None" {
        settings["security_mode"] = json!(mode);
        settings["allow_insecure"] = json!(false);
    }
    settings
}

/// Yes to the one that waits.
fn trust(state: &Path) {
    let folders = Folders::new(state);
    let waiting = folders.rejected();
    assert_eq!(waiting.len(), 1);
    folders.trust(&waiting[0].thumbprint).unwrap();
}

// UA-01, UA-02, UA-04, UA-05, UA-22, UA-24, UA-25
#[tokio::test]
async fn node_opcua_with_every_policy() {
    if let Err(why) = node_available() {
        return not_run("node-opcua: policies", &why);
    }
    let (state, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut server = Server::start_node(free_port(), folder.path(), &[]).await;
    server.add("Temp", 1.0).await;
    let process = Process::start(&of(server.port, "Basic256Sha256", "sign_and_encrypt", &json!({})), state.path());
    let health = process.until("/health", "CERT_UNTRUSTED").await;
    assert!(process.kept.seen().is_empty(), "not connected: {health}");
    trust(state.path());
    process.kept.until("a value, once it is trusted", |seen| !seen.is_empty()).await;
    process.end().await;

    let mut number = 1.0;
    for (policy, mode) in [
        ("None", "none"),
        ("Basic256Sha256", "sign_and_encrypt"),
        ("Basic256Sha256", "sign"),
        ("Aes128_Sha256_RsaOaep", "sign_and_encrypt"),
        ("Aes256_Sha256_RsaPss", "sign_and_encrypt"),
        ("Aes256_Sha256_RsaPss", "sign"),
    ] {
        let process = Process::start(&of(server.port, policy, mode, &json!({})), state.path());
        let seen = process.kept.until(policy, |seen| !seen.is_empty()).await;
        assert_eq!((seen[0].value.clone(), seen[0].quality), (format!("Float({number:?})"), "GOOD"), "{policy}");
        assert_eq!((seen[0].time_source.as_str(), &seen[0].flags[..]), ("DEVICE", &["initial".to_owned()][..]));
        number += 1.0;
        server.set("Temp", number).await;
        let seen = process.kept.until(policy, |seen| seen.len() >= 2).await;
        assert_eq!(seen[1].value, format!("Float({number:?})"), "{policy}");
        process.end().await;
        assert_eq!(server.subscriptions().await, "subscriptions 0", "none is left behind: {policy}");
        assert_eq!(server.ask("sessions").await, "sessions 0", "{policy}");
    }
}

// UA-18, UA-22, UA-25, UA-15: kinds of values, statuses, and points that are read instead of watched
#[tokio::test]
async fn node_opcua_values_and_what_they_are_worth() {
    if let Err(why) = node_available() {
        return not_run("node-opcua: values", &why);
    }
    let (state, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut server = Server::start_node(free_port(), folder.path(), &[]).await;
    for (name, kind, value) in [
        ("Temp", "Double", json!(1.5)),
        ("Count", "UInt32", json!(7)),
        ("On", "Boolean", json!(true)),
        ("Text", "String", json!("run")),
    ] {
        server.tell(&json!({"do": "add", "name": name, "type": kind, "value": value})).await;
    }
    let point = |name: &str, kind: &str, mode: &str| json!({"node": format!("nsu=urn:test:line;s={name}"), "parameter": name.to_lowercase(), "type": kind, "mode": mode});
    let points = json!([
        point("Temp", "float", "subscribe"),
        point("Count", "int", "read"),
        point("On", "bool", "subscribe"),
        point("Text", "string", "read"),
        point("Gone", "float", "subscribe"),
    ]);
    let process = Process::start(&settings(server.port, &[], &json!({"points": points})), state.path());
    let seen = process.kept.until("all", |seen| seen.len() >= 5).await;
    let of = |name: &str| seen.iter().find(|seen| seen.parameter == name).map(|seen| seen.value.as_str());
    assert_eq!(
        ["temp", "count", "on", "text", "gone"].map(of),
        [Some("Float(1.5)"), Some("Int(7)"), Some("Bool(true)"), Some("Text(\"run\")"), Some("Null")]
    );
    let gone = seen.iter().find(|seen| seen.parameter == "gone").unwrap();
    assert_eq!((gone.quality, gone.reason.as_deref()), ("BAD", Some("ADDRESS_INVALID")));
    for (status, value, quality, reason) in [
        ("UncertainLastUsableValue", 2.0, "UNCERTAIN", Some("LAST_KNOWN")),
        ("BadSensorFailure", 3.0, "BAD", Some("SENSOR_FAULT")),
        ("Good", 4.0, "GOOD", None),
    ] {
        server.tell(&json!({"do": "set", "name": "Temp", "value": value, "status": status})).await;
        let is_it = |seen: &crate::support::Seen| (seen.quality, seen.reason.as_deref()) == (quality, reason);
        let is_news = |seen: &[crate::support::Seen]| seen.iter().skip(5).any(is_it);
        process.kept.until(status, is_news).await;
    }
    assert!(probe(&insecure(server.port, state.path()), &mut |_| ()).await.ok);
    process.end().await;
}

// UA-11, UA-12, UA-05: the same certificate, another server; nobody does anything
#[tokio::test]
async fn node_opcua_is_started_again_and_data_returns() {
    if let Err(why) = node_available() {
        return not_run("node-opcua: a restart", &why);
    }
    let (state, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let port = free_port();
    let mut server = Server::start_node(port, folder.path(), &[]).await;
    server.add("Temp", 1.0).await;
    let settings = of(port, "Basic256Sha256", "sign_and_encrypt", &json!({}));
    let process = Process::start(&settings, state.path());
    process.until("/health", "CERT_UNTRUSTED").await;
    trust(state.path());
    process.kept.until("the first value", |seen| !seen.is_empty()).await;
    server.kill();
    process.until("/health", "\"connected\":false").await;
    let mut server = Server::start_node(port, folder.path(), &[]).await;
    server.add("Temp", 2.0).await;
    let is_back = |seen: &crate::support::Seen| seen.value == "Float(2.0)";
    let seen = process.kept.until("the value after it", |seen| seen.iter().any(is_back)).await;
    let back = seen.iter().find(|seen| is_back(seen)).unwrap();
    assert!(back.gap_before && back.flags.iter().any(|flag| flag == "initial"), "{back:?}");
    server.set("Temp", 3.0).await;
    process.kept.until("and the next", |seen| seen.iter().any(|seen| seen.value == "Float(3.0)")).await;
    assert_eq!(server.subscriptions().await, "subscriptions 1");
    assert_eq!(Folders::new(state.path()).rejected().len(), 0, "it was trusted before");
    process.end().await;
}

/// A key and a certificate of a person.
fn person(folder: &Path) -> (String, String) {
    let file = |name: &str| folder.join(name).display().to_string();
    let (key, certificate) = (file("ada.key"), file("ada.pem"));
    let output = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=ada"])
        .args(["-keyout", &key, "-out", &certificate])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (key, certificate)
}

// UA-03
#[tokio::test]
async fn node_opcua_lets_in_who_may() {
    if let Err(why) = node_available() {
        return not_run("node-opcua: logins", &why);
    }
    let (state, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut server = Server::start_node(free_port(), folder.path(), &["user=ada:right"]).await;
    server.add("Temp", 1.0).await;
    let start = |policy: &str, login: Value, password: Option<&str>| {
        let more = json!({"login": login, "dev_mode": true});
        let settings = of(server.port, policy, "sign_and_encrypt", &more);
        Process::start_with(&settings, state.path(), Kept::default(), password)
    };
    let by_name = json!({"type": "username", "username": "ada", "password": {"secret": "p"}});
    for policy in ["Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss"] {
        let process = start(policy, by_name.clone(), Some("right"));
        process.kept.until(policy, |seen| !seen.is_empty()).await;
        process.end().await;
    }
    let process = start("Basic256Sha256", by_name, Some("wrong"));
    process.until("/health", "\"link_reason\":\"AUTH\"").await;
    assert!(process.kept.seen().is_empty());
    process.end().await;
    let (key, certificate) = person(folder.path());
    let by_certificate = json!({"type": "certificate", "cert_file": certificate, "key_file": key});
    for policy in ["Basic256Sha256", "Aes256_Sha256_RsaPss"] {
        let process = start(policy, by_certificate.clone(), None);
        process.kept.until(policy, |seen| !seen.is_empty()).await;
        process.end().await;
    }
}

// UA-05, UA-06: the other side does not know us
#[tokio::test]
async fn node_opcua_that_does_not_trust_us_says_so() {
    if let Err(why) = node_available() {
        return not_run("node-opcua: trust", &why);
    }
    let (state, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut server = Server::start_node(free_port(), folder.path(), &["distrust"]).await;
    server.add("Temp", 1.0).await;
    let settings = of(server.port, "Basic256Sha256", "sign_and_encrypt", &json!({"dev_mode": true}));
    let process = Process::start(&settings, state.path());
    process.until("/health", "own/cert.der").await;
    assert!(process.kept.seen().is_empty());
    process.end().await;
}
