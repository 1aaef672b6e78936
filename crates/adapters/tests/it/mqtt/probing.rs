//! The staged test of a broker: what each stage says, and what to do when it fails.

use std::process::Command;
use std::time::Duration;

use adapters::commission::stages::{Outcome, Report, Stage};
use adapters::mqtt::config::broker;
use adapters::mqtt::probe::probe;
use adapters::mqtt::visit::Guest;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::broker::{Broker, available, not_run};
use super::refusing::{ONE_FILTER, certificates};

pub(crate) fn guest(port: u16, more: &Value) -> Guest {
    let mut settings =
        json!({"url": format!("mqtt://127.0.0.1:{port}"), "allow_insecure": true, "connect_timeout_ms": 10_000});
    for (key, value) in more.as_object().unwrap() {
        settings[key] = value.clone();
    }
    Guest { plan: broker(&settings).unwrap(), password: None }
}

async fn tested(guest: &Guest, filter: &str) -> Report {
    let mut told = 0;
    let report = probe(guest, filter, Duration::from_secs(1), &mut |_: &Stage| told += 1).await;
    assert_eq!(told, report.stages.len(), "each stage is told as it ends");
    report
}

fn last(report: &Report) -> (&'static str, Outcome, String) {
    let stage = report.stages.last().unwrap();
    (stage.name, stage.outcome, stage.to_string())
}

// ui 1.4; G-11
#[tokio::test]
async fn a_broker_in_clear_passes_every_stage_and_shows_a_message() {
    if let Err(why) = available() {
        return not_run("MQTT: a staged test", &why);
    }
    let running = Broker::start("");
    running.publish_with("plant/press/kept", b"on\x1b[2J", &["-r"]);
    for (version, spoken) in [("auto", "version 5"), ("3.1.1", "version 3.1.1")] {
        let report = tested(&guest(running.port, &json!({"version": version})), "plant/#").await;
        let names: Vec<&str> = report.stages.iter().map(|stage| stage.name).collect();
        assert_eq!(names, ["resolve", "connect", "login", "subscribe", "message"], "{report:?}");
        let login = &report.stages[2];
        assert!(login.outcome == Outcome::Warning && login.to_string().contains("mqtts://"), "{login}");
        assert!(login.detail.contains(spoken), "{login}");
        let (.., said) = last(&report);
        assert!(said.contains("plant/press/kept (retained)  on\\u001b[2J"), "{said}");
    }
    let (stage, outcome, said) = last(&tested(&guest(running.port, &json!({})), "nobody/sends").await);
    assert!((stage, outcome) == ("message", Outcome::Warning) && said.contains("nothing is retained"), "{said}");
    let report = tested(&guest(running.port, &json!({})), "a#b").await;
    assert_eq!((last(&report).0, report.ok), ("filter", false));
}

// ui 1.4, row Authorise; AC-052, G-10
#[tokio::test]
async fn a_wrong_password_and_a_refused_filter_say_so_in_words() {
    if let Err(why) = available() {
        return not_run("MQTT: a staged test of logins", &why);
    }
    let running = Broker::start_in(|folder| {
        let file = folder.join("users");
        let made = Command::new("mosquitto_passwd").args(["-b", "-c"]).arg(&file).args(["ada", "right"]).status();
        assert!(made.unwrap().success());
        format!("allow_anonymous false\npassword_file {}\n", file.display())
    });
    for (version, code) in [("5", "0x87"), ("3.1.1", "0x05")] {
        let more = json!({"version": version, "username": "ada", "password": {"secret": "p"}});
        let mut ada = guest(running.port, &more);
        ada.password = Some("hunter2".to_owned());
        let report = tested(&ada, "#").await;
        let (stage, outcome, said) = last(&report);
        assert_eq!((stage, outcome), ("login", Outcome::Failed), "{said}");
        assert!(said.contains(code) && said.contains("not authorised") && said.contains("user and password"), "{said}");
        assert!(!serde_json::to_string(&report).unwrap().contains("hunter2"), "the password is not shown");
        ada.password = Some("right".to_owned());
        assert!(tested(&ada, "#").await.ok);
    }
    let plugin = "/usr/lib/x86_64-linux-gnu/mosquitto_dynamic_security.so";
    if !std::path::Path::new(plugin).exists() {
        return not_run("MQTT: a staged test of filters", "mosquitto's plugin for access lists is not there");
    }
    let strict = Broker::start_in(|folder| {
        let file = folder.join("access.json");
        std::fs::write(&file, ONE_FILTER).unwrap();
        format!("plugin {plugin}\nplugin_opt_config_file {}\n", file.display())
    });
    let (stage, outcome, said) = last(&tested(&guest(strict.port, &json!({})), "secret/#").await);
    assert_eq!((stage, outcome), ("subscribe", Outcome::Failed), "{said}");
    assert!(said.contains("0x87") && said.contains("access list"), "{said}");
}

// ui 1.4, row Handshake; MQ-10
#[tokio::test]
async fn what_is_wrong_with_a_certificate_is_told_in_words() {
    if let Err(why) = available() {
        return not_run("MQTT: a staged test of TLS", &why);
    }
    let running = Broker::start_in(|folder| {
        certificates(folder);
        let at = folder.display();
        format!(
            "cafile {at}/ca.pem\ncertfile {at}/localhost.pem\nkeyfile {at}/localhost.key\nrequire_certificate true\n"
        )
    });
    let file = |name: &str| running.folder().join(name).display().to_string();
    let with = |host: &str, tls: Value| {
        guest(running.port, &json!({"url": format!("mqtts://{host}:{}", running.port), "tls": tls}))
    };
    let good = json!({"ca_file": file("ca.pem"), "cert_file": file("client.pem"), "key_file": file("client.key")});
    let report = tested(&with("localhost", good.clone()), "#").await;
    assert!(report.ok, "{report:?}");
    let tls = report.stages.iter().find(|stage| stage.name == "tls").unwrap().to_string();
    assert!(tls.contains("CN=localhost") && tls.contains("CN=plant") && tls.contains("TLSv1_"), "{tls}");
    let said = async |host: &str, tls: Value, stage: &str| {
        let report = tested(&with(host, tls), "#").await;
        let (name, outcome, said) = last(&report);
        assert_eq!((name, outcome), (stage, Outcome::Failed), "{said}");
        said
    };
    let named = said("127.0.0.1", good.clone(), "tls").await;
    assert!(named.contains("other names") && named.contains("localhost") && named.contains("server_name"), "{named}");
    let other = tempfile::tempdir().unwrap();
    certificates(other.path());
    let mut strange = good;
    strange["ca_file"] = json!(other.path().join("ca.pem").display().to_string());
    let unknown = said("localhost", strange, "tls").await;
    // another authority of the same name: its key does not fit, or it is not known at all
    assert!(unknown.contains("--ca-file"), "{unknown}");
    // TLS 1.3 asks for ours after the handshake, when the greeting is on its way
    let bare = said("localhost", json!({"ca_file": file("ca.pem")}), "login").await;
    assert!(bare.contains("wants a certificate of ours") && bare.contains("--cert-file"), "{bare}");
    let clear = Broker::start("");
    let wrong = guest(clear.port, &json!({"url": format!("mqtts://localhost:{}", clear.port)}));
    let (stage, _, said) = last(&tested(&wrong, "#").await);
    assert!(stage == "tls" && said.contains("1883"), "{said}");
    let clear_to_tls = guest(running.port, &json!({}));
    let (stage, _, said) = last(&tested(&clear_to_tls, "#").await);
    assert!(stage == "login" && said.contains("mqtts://"), "{said}");
}

/// A broker of one answer to each greeting.
async fn answering(answer: &'static [u8]) -> (u16, tokio::task::JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 1024];
            drop(stream.read(&mut buffer).await);
            drop(stream.write_all(answer).await);
            while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
        }
    });
    (port, tasks)
}

/// What is no broker.
const WEB: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 46\r\n\r\nthe request is none that a web server can read";

// ui 1.4, row Authorise: words for what no broker at hand says
#[tokio::test]
async fn codes_of_both_versions_come_in_words() {
    for (version, answer, words) in [
        ("3.1.1", &[0x20, 2, 0, 2][..], "does not take the client id"),
        ("3.1.1", &[0x20, 2, 0, 3], "not available"),
        ("3.1.1", &[0x20, 2, 0, 4], "user name or password is wrong"),
        ("5", &[0x20, 3, 0, 0x8A, 0], "we are banned"),
        ("5", &[0x20, 3, 0, 0x9F, 0], "connect too often"),
        ("5", &[0x20, 3, 0, 0x97, 0], "a quota is used up"),
        ("5", &[0x20, 2, 0, 1], "does not speak this version"),
    ] {
        let (port, _tasks) = answering(answer).await;
        let (stage, outcome, said) = last(&tested(&guest(port, &json!({"version": version})), "#").await);
        assert_eq!((stage, outcome), ("login", Outcome::Failed), "{said}");
        assert!(said.contains(words) && said.contains("->"), "{said}");
    }
    let (port, _tasks) = answering(WEB).await;
    let (stage, _, said) = last(&tested(&guest(port, &json!({"version": "5"})), "#").await);
    assert!(stage == "login" && said.contains("something else listens"), "{said}");
}
