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

fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Makes the authority `<name>-ca.crt` and, signed by it, `<name>.crt` and `<name>.key` for the host `localhost`.
pub(crate) fn certificates(folder: &Path, name: &str) {
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(folder, &format!("req -x509 {key} -days 2 -subj /CN={name} -out {name}-ca.crt -keyout {name}-ca.key"));
    let extensions = "-addext subjectAltName=DNS:localhost -addext basicConstraints=CA:FALSE";
    openssl(folder, &format!("req {key} -subj /CN=server {extensions} -out {name}.csr -keyout {name}.key"));
    openssl(
        folder,
        &format!(
            "x509 -req -in {name}.csr -CA {name}-ca.crt -CAkey {name}-ca.key -copy_extensions copy -days 2 -out {name}.crt"
        ),
    );
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
    certificates(folder, "server");
    certificates(folder, "other");
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
    let right = folder.join("server-ca.crt");
    connect(&url, &right).await.unwrap();
    assert_eq!(server.psql("postgres", "SELECT count(*) FROM sf_sink_offsets WHERE epoch = 1").unwrap(), "60");
    let error = connect(&url, &folder.join("other-ca.crt")).await.unwrap_err();
    assert!(error.contains("certificate"), "{error}");
    let error = connect(&url.replace("localhost", "127.0.0.1"), &right).await.unwrap_err();
    assert!(error.contains("certificate") || error.contains("name"), "{error}");
    let error = connect(&url, &folder.join("absent.crt")).await.unwrap_err();
    assert!(error.contains("absent.crt"), "{error}");
}
