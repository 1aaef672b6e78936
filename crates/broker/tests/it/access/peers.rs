//! Somebody else's client: confluent-kafka over TLS with SCRAM. Needs `SF_TEST_EXTERNAL=1` and python.

use std::io::Write;
use std::process::Command;

use super::tls::{Authority, listener, write};
use super::{PASSWORD, Site};

fn interpreter() -> String {
    std::env::var("SF_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

/// Fails with the reason when tests against foreign programs are off or python lacks the client.
fn available() -> Result<(), String> {
    if std::env::var("SF_TEST_EXTERNAL").as_deref() != Ok("1") {
        return Err("SF_TEST_EXTERNAL=1 is not set".to_owned());
    }
    let output = Command::new(interpreter()).args(["-c", "import confluent_kafka.admin"]).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(_) => Err(format!("{} has no module confluent_kafka", interpreter())),
        Err(error) => Err(format!("{}: {error}", interpreter())),
    }
}

// STR-14, STR-15: users, rules and quotas administered and felt with a client of others
#[tokio::test(flavor = "multi_thread")]
async fn confluent_kafka_logs_in_and_obeys() {
    if let Err(why) = available() {
        writeln!(std::io::stderr(), "not run: confluent-kafka with SASL_SSL ({why})").unwrap();
        return;
    }
    let files = tempfile::tempdir().unwrap();
    let (authority, other) = (Authority::new("plant"), Authority::new("other"));
    write(files.path(), &authority.sign("broker"), &authority);
    std::fs::write(files.path().join("other.pem"), &other.pem).unwrap();
    let broker = Site::start(|settings| {
        let mut tls = listener(files.path(), "tls", ",sasl=required");
        tls.advertise = None;
        settings.listeners.push(tls);
    })
    .await;
    let address = broker.handle().listener("tls").unwrap();
    let script = "tests/peers/access.py";
    let folder = files.path().to_owned();
    let run = move || {
        Command::new(interpreter())
            .args([script, &format!("localhost:{}", address.port()), PASSWORD])
            .arg(folder)
            .output()
            .unwrap()
    };
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{errors}");
}
