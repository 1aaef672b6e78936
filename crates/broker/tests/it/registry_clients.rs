//! Somebody else's schema registry client and serialisers; switched on by `SF_TEST_EXTERNAL=1`.

use std::io::Write;
use std::process::Command;

use crate::support::TestBroker;

/// The interpreter, when it has what the script needs.
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

// STR-20, STR-22
#[tokio::test(flavor = "multi_thread")]
async fn confluent_kafka_uses_the_registry() {
    let python = match python() {
        Ok(python) => python,
        Err(why) => {
            let line = format!("not run: confluent-kafka against the schema registry ({why})\n");
            std::io::stderr().write_all(line.as_bytes()).unwrap();
            return;
        }
    };
    let broker = TestBroker::start().await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/registry_client.py");
    let arguments = [script.to_owned(), broker.address(), format!("http://{}", broker.handle().registry())];
    let run = move || Command::new(python).args(arguments).output().unwrap();
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.trim().ends_with("checks"), "{text}");
}
