//! The staged test of a server: what each stage says, and what to do when it fails.

use std::path::Path;

use adapters::commission::stages::{Outcome, Report, Stage};
use adapters::opcua::config::connection;
use adapters::opcua::probe::probe;
use adapters::opcua::trust::Folders;
use adapters::opcua::visit::Guest;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::server::{Server, available, free_port, not_run};

pub(crate) fn guest(port: u16, state: &Path, more: &Value) -> Guest {
    let mut settings = json!({"url": format!("opc.tcp://127.0.0.1:{port}/"), "connect_timeout_ms": 20_000});
    for (key, value) in more.as_object().unwrap() {
        settings[key] = value.clone();
    }
    Guest {
        plan: connection(&settings).unwrap(),
        password: None,
        folders: Folders::new(state),
        host_name: "box.local".to_owned(),
        gateway_id: "gw-1".to_owned(),
    }
}

pub(crate) fn insecure(port: u16, state: &Path) -> Guest {
    guest(port, state, &json!({"security_policy": "None", "allow_insecure": true}))
}

async fn tested(guest: &Guest) -> Report {
    let mut told = 0;
    let report = probe(guest, &mut |_: &Stage| told += 1).await;
    assert_eq!(told, report.stages.len(), "each stage is told as it ends");
    report
}

fn names(report: &Report) -> Vec<&'static str> {
    report.stages.iter().map(|stage| stage.name).collect()
}

/// Everything that a stage says.
fn text(report: &Report, name: &str) -> String {
    report.stages.iter().find(|stage| stage.name == name).map(ToString::to_string).unwrap_or_default()
}

fn failed(report: &Report) -> (&'static str, String) {
    let stage = report.failed().unwrap_or_else(|| panic!("nothing failed: {report:?}"));
    assert_eq!(Some(stage), report.stages.last(), "the first that fails is the last");
    (stage.name, stage.to_string())
}

// ui 1.4, UA-01, UA-12, UA-14
#[tokio::test]
async fn a_server_without_security_passes_every_stage_and_the_insecurity_is_noted() {
    if let Err(why) = available() {
        return not_run("OPC UA: a staged test", &why);
    }
    let state = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    let report = tested(&insecure(server.port, state.path())).await;
    assert!(report.ok, "{report:?}");
    let all = [
        "resolve",
        "connect",
        "hello",
        "endpoints",
        "endpoint",
        "channel",
        "session",
        "login",
        "namespaces",
        "limits",
        "read",
    ];
    assert_eq!(names(&report), all);
    assert!(text(&report, "endpoints").contains("None/none") && text(&report, "endpoints").contains("anonymous"));
    assert!(text(&report, "endpoint").contains("not secure"), "{}", text(&report, "endpoint"));
    assert!(text(&report, "namespaces").contains("urn:test:line"));
    assert!(text(&report, "read").contains("running"));
    assert!(!state.path().join("opcua").exists(), "no certificate is made where none is needed");
}

// ui 1.4, UA-04, UA-05, UA-06, AC-031
#[tokio::test]
async fn an_unknown_certificate_says_where_it_lies_and_passes_once_it_is_trusted() {
    if let Err(why) = available() {
        return not_run("OPC UA: a staged test of certificates", &why);
    }
    let (state, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let option = format!("folder={}", folder.path().display());
    let server = Server::start_on(free_port(), &[&option]).await;
    let guest = guest(server.port, state.path(), &json!({}));
    let report = tested(&guest).await;
    let (stage, said) = failed(&report);
    let waiting = guest.folders.rejected();
    assert_eq!((stage, waiting.len()), ("certificate", 1));
    let (root, thumbprint) = (guest.folders.root().display(), &waiting[0].thumbprint);
    assert!(said.contains(&format!("mv {root}/rejected/{thumbprint}.der {root}/trusted/")), "{said}");
    assert!(said.contains("own/cert.der") && said.contains("test server"), "{said}");
    guest.folders.trust(thumbprint).unwrap();
    let report = tested(&guest).await;
    assert!(report.ok, "{report:?}");
    assert!(text(&report, "certificate").contains("is trusted"));
    assert!(report.stages.iter().all(|stage| stage.outcome == Outcome::Ok), "{report:?}");
}

// ui 1.4, UA-02, AC-032
#[tokio::test]
async fn a_policy_that_is_not_offered_names_those_that_are() {
    if let Err(why) = available() {
        return not_run("OPC UA: a staged test of policies", &why);
    }
    let (state, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let clear = Server::start().await;
    let (stage, said) = failed(&tested(&guest(clear.port, state.path(), &json!({}))).await);
    assert_eq!(stage, "endpoint");
    assert!(said.contains("only None/none") && said.contains("--security-policy None"), "{said}");
    let option = format!("folder={}", folder.path().display());
    let secure = Server::start_on(free_port(), &[&option]).await;
    let (stage, said) = failed(&tested(&insecure(secure.port, state.path())).await);
    assert_eq!(stage, "endpoint");
    assert!(said.contains("--security-policy Aes256_Sha256_RsaPss"), "{said}");
}

// ui 1.4, row Authorise; UA-03, G-10
#[tokio::test]
async fn a_refused_login_and_a_refused_certificate_of_ours_are_told_apart() {
    if let Err(why) = available() {
        return not_run("OPC UA: a staged test of logins", &why);
    }
    let (state, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let option = format!("folder={}", folder.path().display());
    let login = json!({"login": {"type": "username", "username": "ada", "password": {"secret": "p"}}});
    let server = Server::start_on(free_port(), &[&option, "user=ada:right"]).await;
    let mut ada = guest(server.port, state.path(), &login);
    ada.password = Some("hunter2".to_owned());
    drop(tested(&ada).await);
    ada.folders.trust(&ada.folders.rejected()[0].thumbprint).unwrap();
    let report = tested(&ada).await;
    let (stage, said) = failed(&report);
    assert!(stage == "login" && said.contains("user and password"), "{said}");
    assert!(!serde_json::to_string(&report).unwrap().contains("hunter2"), "the password is not shown");
    ada.password = Some("right".to_owned());
    assert!(tested(&ada).await.ok);
    drop(server);
    let port = free_port();
    let _distrusting = Server::start_on(port, &[&option, "distrust"]).await;
    let (stage, said) = failed(&tested(&guest(port, state.path(), &json!({}))).await);
    assert!(["channel", "session"].contains(&stage), "{said}");
    assert!(said.contains("must trust us") && said.contains("own/cert.der") && said.contains("Kepware"), "{said}");
}

// ui 1.4, rows Resolve, Connect, Handshake
#[tokio::test]
async fn a_wrong_name_a_closed_port_and_another_protocol_are_told_apart() {
    let state = tempfile::tempdir().unwrap();
    let closed = free_port();
    let (stage, said) = failed(&tested(&insecure(closed, state.path())).await);
    assert!(stage == "connect" && said.contains("the server is off"), "{said}");
    let mut nameless = insecure(closed, state.path());
    nameless.plan.servers[0].host = "no-such-name.invalid".to_owned();
    let (stage, said) = failed(&tested(&nameless).await);
    assert!(stage == "resolve" && said.contains("use the address"), "{said}");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let web = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 256];
        let _asked = stream.read(&mut buffer).await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    };
    let guest = insecure(port, state.path());
    let (report, ()) = tokio::join!(tested(&guest), web);
    let (stage, said) = failed(&report);
    assert!(stage == "hello" && said.contains("something else listens"), "{said}");
}
