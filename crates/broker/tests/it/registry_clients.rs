//! Somebody else's schema registry client and serialisers; switched on by `SF_TEST_EXTERNAL=1`.

use std::io::Write;
use std::process::Command;

use crate::support::TestBroker;

/// The interpreter, when it has what the scripts need.
fn python() -> Result<String, String> {
    if std::env::var("SF_TEST_EXTERNAL").as_deref() != Ok("1") {
        return Err("SF_TEST_EXTERNAL=1 is not set".to_owned());
    }
    let python = std::env::var("SF_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    for module in ["avro", "json_schema", "protobuf"] {
        let module = format!("confluent_kafka.schema_registry.{module}");
        let output = Command::new(&python).arg("-c").arg(format!("import {module}")).output();
        match output {
            Ok(output) if output.status.success() => {}
            Ok(_) => return Err(format!("{python} has no module {module}")),
            Err(error) => return Err(format!("{python}: {error}")),
        }
    }
    Ok(python)
}

/// A line for the person who runs the tests, also when the test passes.
fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").expect("standard error takes a line");
}

/// Runs a script of `tests/peers` to its end.
async fn run(name: &str, arguments: impl FnOnce(&TestBroker, String) -> Vec<String>) {
    let python = match python() {
        Ok(python) => python,
        Err(why) => return say(&format!("not run: {name} ({why})")),
    };
    let broker = TestBroker::start().await;
    let script = format!("tests/peers/{name}");
    let arguments = arguments(&broker, format!("http://{}", broker.handle().registry()));
    let output = tokio::task::spawn_blocking(move || Command::new(python).arg(script).args(arguments).output());
    let output = output.await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    say(&format!("{name}: {}", text.trim()));
}

// STR-20, STR-22
#[tokio::test(flavor = "multi_thread")]
async fn confluent_kafka_uses_the_registry() {
    run("registry_client.py", |broker, registry| vec![broker.address(), registry]).await;
}

// STR-21: nothing is called compatible that another implementation cannot read
#[tokio::test(flavor = "multi_thread")]
async fn verdicts_hold_for_other_readers() {
    let fresh = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0) % 1_000_000_007;
    let seed = std::env::var("SF_SEED").unwrap_or_else(|_| fresh.to_string());
    run("registry_verdicts.py", |_, registry| vec![registry, seed]).await;
}
