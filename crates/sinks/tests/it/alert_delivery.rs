//! Messages on their way: real sockets, a mail server that we did not write, an engine that is stopped and started.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daemon::Metrics;
use daemon::launch::Secret;
use model::{Clock, SystemClock};
use serde_json::{Value, json};
use sinks::alert_router::dispatch::Outcome;
use sinks::alert_router::engine::Engine;
use sinks::alert_router::letters::Letters;
use sinks::alert_router::metrics::RouterMetrics;
use sinks::alert_router::notice::Transition;
use sinks::alert_router::plan::{Plan, plan};
use sinks::alert_router::send::Sender;
use sinks::alert_router::state::{Content, Item, Letter};
use sinks::error::StreamError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::alert_router::alarm_now;
use crate::tls::certificates;

/// What a receiver got, and what it says.
#[derive(Clone)]
struct Receiver {
    port: u16,
    got: Arc<Mutex<Vec<(String, Value)>>>,
    answers: Arc<Mutex<Vec<String>>>,
    _serving: Arc<tokio::task::JoinSet<()>>,
}

impl Receiver {
    /// Answers with `answers` in order, and with 200 and `ok` afterwards.
    async fn start(answers: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let got = Arc::new(Mutex::new(Vec::new()));
        let answers = Arc::new(Mutex::new(answers.iter().rev().map(|answer| (*answer).to_owned()).collect::<Vec<_>>()));
        let mut serving = tokio::task::JoinSet::new();
        let (taken, said) = (Arc::clone(&got), Arc::clone(&answers));
        serving.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut bytes = Vec::new();
                let mut part = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut part).await {
                    bytes.extend_from_slice(&part[..count]);
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                    let length = head
                        .lines()
                        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
                    if body.len() >= length.unwrap_or(0) {
                        let json = serde_json::from_str(body).unwrap_or(Value::Null);
                        taken.lock().unwrap().push((head.to_ascii_lowercase(), json));
                        break;
                    }
                }
                let ok = "200 OK\r\n\r\nok".to_owned();
                let answer = said.lock().unwrap().pop().unwrap_or(ok);
                let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
                let text =
                    format!("HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                let _ended = stream.write_all(text.as_bytes()).await;
            }
        });
        Self { port, got, answers, _serving: Arc::new(serving) }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
    }

    fn got(&self) -> Vec<(String, Value)> {
        self.got.lock().unwrap().clone()
    }

    async fn wait(&self, count: usize) -> Vec<(String, Value)> {
        for _ in 0..400 {
            if self.got().len() >= count {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.got()
    }
}

/// Goes around the capture of the test runner.
fn not_run(what: &str) {
    writeln!(std::io::stderr(), "not run: {what}").expect("standard error takes a line");
}

pub(crate) fn router(destinations: &Value, routes: &Value) -> Plan {
    let settings = json!({
        "sink_id": "alerts", "sink_type": "alert_router", "site": "Plant 7", "allow_networks": ["127.0.0.0/8"],
        "destinations": destinations, "routes": routes,
    });
    plan(&settings, "").unwrap()
}

pub(crate) fn sender(plan: &Plan) -> Sender {
    let secrets = |name: &str| Some(Secret::new(format!("secret-{name}")));
    Sender::new(plan, "gw", &secrets, Arc::new(SystemClock)).unwrap()
}

fn item(content: Content) -> Item {
    let now = SystemClock.now().as_micros();
    Item {
        id: "00112233445566778899aabbccddeeff".to_owned(),
        content,
        created_at: now,
        at: now,
        attempts: 0,
        trouble: None,
        urgent: false,
        individual: true,
        route: None,
    }
}

/// Letters kept in memory.
#[derive(Clone, Default)]
pub(crate) struct Kept(Arc<Mutex<Vec<Letter>>>);

impl Letters for Kept {
    fn write(&mut self, _id: &str, letter: &Letter) -> Result<(), StreamError> {
        self.0.lock().unwrap().push(letter.clone());
        Ok(())
    }
}

fn engine(plan: &Plan, memory: &Path, letters: &Kept) -> Engine {
    let metrics = RouterMetrics::register(&Metrics::new("alerts"));
    Engine::start(plan.clone(), sender(plan), Box::new(letters.clone()), memory, Arc::new(SystemClock), metrics)
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_signed_and_a_redirect_is_not_followed() {
    // RTE-09, RTE-11
    let other = Receiver::start(&[]).await;
    let redirect = format!("302 Found\r\nLocation: {}", other.url());
    let receiver = Receiver::start(&["204 No Content", &redirect]).await;
    let hook = json!({ "hook": { "type": "webhook", "url": receiver.url(), "signing_key": { "secret": "key" } } });
    let sender = sender(&router(&hook, &json!([{ "destinations": ["hook"] }])));
    assert_eq!(sender.send(0, &item(Content::Test)).await, Outcome::Delivered);
    let (head, body) = receiver.got().remove(0);
    assert!(head.contains("x-sf-signature: v1=") && head.contains("x-sf-timestamp: "), "{head}");
    assert_eq!((body["event"].as_str(), body["test"].as_bool()), (Some("test"), Some(true)));
    assert!(matches!(sender.send(0, &item(Content::Test)).await, Outcome::Refused { .. }));
    assert!(other.got().is_empty(), "a redirect could lead anywhere");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leads_into_the_machine_is_refused_at_the_connection() {
    // RTE-11, attack 33: the name is harmless when the configuration is read
    let settings = json!({
        "sink_id": "alerts", "sink_type": "alert_router",
        "destinations": { "hook": { "type": "webhook", "url": "https://localhost.localdomain:9/x" },
            "mail": { "type": "email", "host": "localhost.localdomain", "from": "a@b.example", "to": ["c@d.example"] } },
        "routes": [{ "destinations": ["hook"] }],
    });
    let resolved = tokio::net::lookup_host("localhost.localdomain:9").await.is_ok();
    if !resolved {
        return not_run("a name that leads into the machine (localhost.localdomain is not known here)");
    }
    let sender = sender(&plan(&settings, "").unwrap());
    for destination in 0..2 {
        let outcome = sender.send(destination, &item(Content::Test)).await;
        assert!(matches!(&outcome, Outcome::Refused { reason } if reason.contains("this machine")), "{outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slack_waits_and_pagerduty_goes_to_the_fallback_and_others_do_not_notice() {
    // AC-091
    let slack = Receiver::start(&["429 Too Many Requests\r\nRetry-After: 1"]).await;
    let pager = Receiver::start(&["400 Bad Request\r\n\r\ninvalid routing key"]).await;
    let (hook, other) = (Receiver::start(&[]).await, Receiver::start(&[]).await);
    let destinations = json!({
        "chat": { "type": "slack", "url": slack.url() },
        "oncall": { "type": "pagerduty", "url": pager.url(), "routing_key": { "secret": "pd" }, "fallback": "other" },
        "hook": { "type": "webhook", "url": hook.url() },
        "other": { "type": "webhook", "url": other.url() },
    });
    let plan = router(&destinations, &json!([{ "destinations": ["chat", "oncall", "hook"] }]));
    let (folder, letters) = (tempfile::tempdir().unwrap(), Kept::default());
    let engine = engine(&plan, &folder.path().join("alerts"), &letters);
    let alarm = alarm_now("pump_1", model::Severity::Critical);
    engine.take(vec![(alarm, Some(Transition::Activated))], Vec::new()).await.unwrap();

    assert_eq!(hook.wait(1).await.len(), 1);
    let fallback = other.wait(1).await;
    assert_eq!(fallback[0].1["alarm"]["asset"], "pump_1");
    assert_eq!(slack.wait(2).await.len(), 2, "again after the time it asked for");
    assert_eq!(pager.got().len(), 1, "never again");
    assert_eq!(pager.got()[0].1["routing_key"], "secret-pd");
    let letters = letters.0.lock().unwrap().clone();
    assert_eq!(letters.len(), 1);
    assert!(letters[0].reason.contains("invalid routing key"), "{}", letters[0].reason);
    assert!(!format!("{letters:?}").contains("secret-pd"), "G-10");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_was_stopped_goes_on_where_it_was() {
    // RTE-02, RTE-03, AC-092
    let hook = Receiver::start(&["500 Internal Server Error", "500 Internal Server Error"]).await;
    let plan =
        router(&json!({ "hook": { "type": "webhook", "url": hook.url() } }), &json!([{ "destinations": ["hook"] }]));
    let (folder, letters) = (tempfile::tempdir().unwrap(), Kept::default());
    let memory = folder.path().join("alerts");
    let alarm = alarm_now("pump_1", model::Severity::High);
    let place = sinks::batch::Place { topic: stream::Topic::AlarmsClean, partition: 4, offset: 8 };
    let first = engine(&plan, &memory, &letters);
    first.take(vec![(alarm.clone(), Some(Transition::Activated))], vec![place]).await.unwrap();
    hook.wait(1).await;
    drop(first);
    let second = engine(&plan, &memory, &letters);
    assert_eq!(second.places(), [place], "the positions are in the memory");
    second.take(vec![(alarm, Some(Transition::Activated))], vec![place]).await.unwrap(); // read again
    let got = hook.wait(3).await;
    let ids: std::collections::BTreeSet<&str> =
        got.iter().filter_map(|(_, body)| body["delivery_id"].as_str()).collect();
    assert_eq!((got.len(), ids.len()), (3, 1), "one message, tried until it was taken");
    for _ in 0..40 {
        if second.standings()[0].waiting == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!((second.standings()[0].waiting, second.standings()[0].delivered), (0, 1));
    assert!(hook.answers.lock().unwrap().is_empty());
}

/// The mail server of `tests/peers`.
struct MailServer {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl MailServer {
    fn start(folder: &Path, port: u16) -> Result<Self, String> {
        if std::env::var("SF_TEST_EXTERNAL").as_deref() != Ok("1") {
            return Err("SF_TEST_EXTERNAL=1 is not set".to_owned());
        }
        let python = std::env::var("SF_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let has = Command::new(&python).args(["-c", "import aiosmtpd"]).stderr(Stdio::null()).status();
        if !has.is_ok_and(|status| status.success()) {
            return Err(format!("{python} has no module aiosmtpd"));
        }
        let mut child = Command::new(python)
            .arg("tests/peers/smtp_server.py")
            .arg(port.to_string())
            .args([folder.join("server.crt"), folder.join("server.key")])
            .args(["gateway", "secret-mail"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| error.to_string())?;
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut server = Self { child, output };
        assert_eq!(server.line().trim(), "ready");
        Ok(server)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_travels_behind_tls_to_each_recipient_once() {
    // the e-mail contract, AC-094; the server is aiosmtpd
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path(), "server");
    certificates(folder.path(), "other");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut server = match MailServer::start(folder.path(), port) {
        Ok(server) => server,
        Err(why) => return not_run(&format!("mail to aiosmtpd ({why})")),
    };
    let mail = |to: &[&str], authority: &str| {
        let mail = json!({ "mail": { "type": "email", "host": "localhost", "port": port, "from": "gw@plant.example", "to": to,
            "ca_file": folder.path().join(authority), "username": "gateway", "password": { "secret": "mail" } } });
        sender(&router(&mail, &json!([{ "destinations": ["mail"] }])))
    };
    let mut alarm = alarm_now("A\r\nBcc: x@y.example", model::Severity::Critical);
    alarm.message = "Überdruck <b>".to_owned();
    let message = item(Content::Alarm { notice: Box::new(alarm), transition: Transition::Activated, waited: None });

    let stranger = mail(&["op@plant.example"], "other-ca.crt").send(0, &message).await;
    assert!(matches!(&stranger, Outcome::Later { .. }), "a server that nobody vouches for gets nothing: {stranger:?}");

    let sender = mail(&["op@plant.example", "busy@plant.example"], "server-ca.crt");
    let outcome = sender.send(0, &message).await;
    assert!(matches!(&outcome, Outcome::Later { reason, .. } if reason.contains("451")), "{outcome:?}");
    assert_eq!(sender.send(0, &message).await, Outcome::Delivered);
    let mails: Vec<Value> = (0..2).map(|_| serde_json::from_str(&server.line()).unwrap()).collect();
    let to: Vec<&Value> = mails.iter().map(|mail| &mail["to"][0]).collect();
    assert_eq!(to, ["op@plant.example", "busy@plant.example"], "nobody gets it twice");
    assert_eq!(mails[0]["tls"], true);
    let content = mails[0]["content"].as_str().unwrap();
    let headers = content.split("\r\n\r\n").next().unwrap();
    assert!(headers.contains("Message-ID: <00112233445566778899aabbccddeeff@"), "{headers}");
    assert!(!headers.lines().any(|line| line.starts_with("Bcc")), "{headers}");

    let outcome = mail(&["gone@plant.example", "op@plant.example"], "server-ca.crt").send(0, &message).await;
    assert!(
        matches!(&outcome, Outcome::Refused { reason } if reason.contains("550") && reason.starts_with("gone@")),
        "{outcome:?}"
    );
    let mail: Value = serde_json::from_str(&server.line()).unwrap();
    assert_eq!(mail["to"][0], "op@plant.example", "the others get it");
}
