//! TLS to PostgreSQL: certificate and host name count. Needs `SF_TEST_EXTERNAL=1` and the openssl program.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use serde_json::json;
use sinks::sink::Sink;
use sinks::timescale::{TimescaleSink, config};
use stream::Topic;

use crate::support::postgres;

/// Makes `<name>.crt` and `<name>.key` for the host `localhost`, signed by itself.
fn certificate(folder: &Path, name: &str) -> bool {
    let done = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=test", "-addext", "subjectAltName=DNS:localhost", "-out"])
        .arg(folder.join(format!("{name}.crt")))
        .arg("-keyout")
        .arg(folder.join(format!("{name}.key")))
        .output();
    done.is_ok_and(|output| output.status.success())
}

async fn connect(url: &str, ca_file: &Path) -> Result<(), String> {
    let settings = json!({"sink_id": "db", "sink_type": "timescale", "url": url, "ca_file": ca_file});
    let mut sink = TimescaleSink::new(config::plan(&settings, "").unwrap(), None);
    sink.connect(&[Topic::TelemetryClean]).await.map(|_| ()).map_err(|error| daemon::report(&error))
}

#[tokio::test]
async fn only_the_right_certificate_for_the_right_host_is_trusted() {
    let test = "only_the_right_certificate_for_the_right_host_is_trusted";
    let Some(server) = postgres(test) else { return };
    let folder = server.folder();
    assert!(certificate(folder, "server") && certificate(folder, "other"), "the openssl program makes certificates");
    let owner = fs::metadata(folder.join("data")).unwrap();
    let key = folder.join("server.key");
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    chown(&key, Some(owner.uid()), Some(owner.gid())).unwrap();
    for (setting, file) in [("ssl_cert_file", "server.crt"), ("ssl_key_file", "server.key")] {
        let path = folder.join(file).display().to_string();
        server.psql("postgres", &format!("ALTER SYSTEM SET {setting} = '{path}'")).unwrap();
    }
    server.psql("postgres", "ALTER SYSTEM SET ssl = on").unwrap();
    server.stop(false).unwrap();
    server.start_again().unwrap();

    let url = format!("postgres://postgres@localhost:{}/postgres?sslmode=verify-full", server.port());
    let right = folder.join("server.crt");
    connect(&url, &right).await.unwrap();
    assert_eq!(server.psql("postgres", "SELECT count(*) FROM sf_sink_offsets WHERE epoch = 1").unwrap(), "12");
    let error = connect(&url, &folder.join("other.crt")).await.unwrap_err();
    assert!(error.contains("certificate"), "{error}");
    let error = connect(&url.replace("localhost", "127.0.0.1"), &right).await.unwrap_err();
    assert!(error.contains("certificate") || error.contains("name"), "{error}");
    let error = connect(&url, &folder.join("absent.crt")).await.unwrap_err();
    assert!(error.contains("absent.crt"), "{error}");
}
