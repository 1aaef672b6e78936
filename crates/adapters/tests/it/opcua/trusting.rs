//! Certificates, policies, logins.

use std::time::Duration;

use adapters::opcua::trust::Folders;
use serde_json::{Value, json};

use super::process::{Process, settings};
use super::server::{Server, available, free_port, not_run};
use crate::support::Kept;

fn secure(port: u16, more: &Value) -> Value {
    let mut settings = settings(port, &["Temp"], more);
    if more.get("security_policy").is_none() {
        settings["security_policy"] = json!("Basic256Sha256");
    }
    settings["allow_insecure"] = json!(false);
    settings
}

// UA-02, UA-04, UA-05, AC-031
#[tokio::test]
async fn an_unknown_server_waits_for_a_person_and_then_works_with_every_policy() {
    if let Err(why) = available() {
        return not_run("OPC UA: trust", &why);
    }
    let (state, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let option = format!("folder={}", folder.path().display());
    let mut server = Server::start_on(free_port(), &[&option]).await;
    server.add("Temp", 1.0).await;
    let process = Process::start(&secure(server.port, &json!({})), state.path());
    let health = process.until("/health", "CERT_UNTRUSTED").await;
    assert!(health.contains("is not trusted"), "{health}");
    let folders = Folders::new(state.path());
    let waiting = folders.rejected();
    assert_eq!(waiting.len(), 1);
    let told = loop {
        match process.kept.told("certificate.untrusted").pop() {
            Some(told) => break told,
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    assert_eq!(told.detail("thumbprint"), Some(waiting[0].thumbprint.as_str()));
    assert_eq!(told.detail("application_uri"), Some("urn:test:server"));
    assert!(told.detail("subject").unwrap().contains("test server") && told.detail("not_after").is_some());
    assert!(process.kept.seen().is_empty(), "not connected");
    folders.trust(&waiting[0].thumbprint).unwrap();
    let seen = process.kept.until("a value, soon", |seen| !seen.is_empty()).await;
    assert_eq!((seen[0].value.as_str(), seen[0].quality), ("Float(1.0)", "GOOD"));
    server.set("Temp", 2.0).await;
    process.kept.until("the next", |seen| seen.len() >= 2).await;
    process.end().await;

    for (policy, mode) in [
        ("Aes128_Sha256_RsaOaep", "sign_and_encrypt"),
        ("Aes256_Sha256_RsaPss", "sign_and_encrypt"),
        ("Basic256Sha256", "sign"),
    ] {
        let more = json!({"security_policy": policy, "security_mode": mode});
        let process = Process::start(&secure(server.port, &more), state.path());
        let seen = process.kept.until(policy, |seen| !seen.is_empty()).await;
        assert_eq!(seen[0].value, "Float(2.0)", "{policy}");
        process.end().await;
    }
}

// UA-01, AC-032
#[tokio::test]
async fn a_server_without_the_policy_is_not_used_with_a_weaker_one() {
    if let Err(why) = available() {
        return not_run("OPC UA: no downgrade", &why);
    }
    let state = tempfile::tempdir().unwrap();
    let mut server = Server::start().await;
    server.add("Temp", 1.0).await;
    let process = Process::start(&secure(server.port, &json!({})), state.path());
    let health = process.until("/health", "NO_ENDPOINT").await;
    assert!(health.contains("only None/none"), "{health}");
    assert!(process.kept.seen().is_empty());
    process.end().await;
}

// UA-03
#[tokio::test]
async fn a_login_that_is_refused_is_not_tried_again_at_once() {
    if let Err(why) = available() {
        return not_run("OPC UA: logins", &why);
    }
    let (state, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let option = format!("folder={}", folder.path().display());
    let mut server = Server::start_on(free_port(), &[&option, "user=ada:right"]).await;
    server.add("Temp", 1.0).await;
    let login =
        json!({"login": {"type": "username", "username": "ada", "password": {"secret": "p"}}, "dev_mode": true});
    let start = |password: &str| {
        Process::start_with(&secure(server.port, &login), state.path(), Kept::default(), Some(password))
    };
    let process = start("wrong");
    let health = process.until("/health", "\"link_reason\":\"AUTH\"").await;
    assert!(!health.contains("wrong"), "the password is not shown: {health}");
    process.end().await;
    let process = start("right");
    process.kept.until("a value", |seen| !seen.is_empty()).await;
    let health = process.until("/health", "dev_mode").await;
    assert!(health.contains("\"status\":\"healthy\""), "{health}");
    process.end().await;
}
