//! Streams of somebody else that ask who one is: TLS, and every way to log in (STR-30).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

use crate::harness::{Broker, Cluster, Gateway, Setup, free_address, kafka_folder, run_with_input, say};

const PASSWORD: &str = "correct horse battery";

/// Writes an authority (`ca.pem`), a server's and a client's certificate with their keys, the server's both in one file
/// as well.
fn write_papers(folder: &Path) {
    let write = |name: &str, text: String| std::fs::write(folder.join(name), text).expect("a file is written");
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "plant authority");
    let key = KeyPair::generate().expect("a key");
    write("ca.pem", params.self_signed(&key).expect("a certificate").pem());
    let authority = Issuer::new(params, key);
    for (name, hosts) in [("server", vec!["localhost".to_owned()]), ("client", Vec::new())] {
        let mut params = CertificateParams::new(hosts).expect("names");
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &authority).expect("a certificate").pem();
        write(&format!("{name}-both.pem"), format!("{}{certificate}", key.serialize_pem()));
        write(&format!("{name}.pem"), certificate);
        write(&format!("{name}.key"), key.serialize_pem());
    }
}

/// A gateway with one simulated machine and the stream described.
fn gateway_at(stream: Value) -> Setup {
    let adapter = json!({ "adapter_id": "sim", "adapter_type": "simulated", "asset_id": "sim", "points": 10,
        "poll_interval_ms": 200 });
    let setup = Setup::new("gw-guest").with("adapters", json!([adapter])).with("stream", stream);
    setup.write();
    setup
}

fn store_secret(setup: &Setup, value: &str) {
    let data = setup.data().display().to_string();
    run_with_input(&["ctl", "secret", "set", "kafka", "--data-dir", &data], &format!("{value}\n")).lines();
}

/// Runs the gateway until readings went all the way through the cluster.
fn sees_readings_pass(setup: &Setup) {
    let mut gateway = Gateway::start(setup);
    gateway.wait_for_records("telemetry.clean", 30);
    gateway.stop("TERM");
    let printed = gateway.printed();
    assert!(!printed.contains(PASSWORD), "G-10: a secret is in the log");
}

// STR-30, STR-14: over TLS, by a name and its password; our own broker is somebody else's here
#[test]
fn a_gateway_logs_in_to_a_broker_that_asks_for_it() {
    let mut broker = Broker::start_on_a_fixed_port();
    broker.stop();
    write_papers(broker.folder());
    let data = broker.data().display().to_string();
    broker.ctl_with_input(&["user", "set", "guest", "--broker-data-dir", &data], &format!("{PASSWORD}\n")).lines();
    let guarded = free_address();
    let folder = broker.folder().display().to_string();
    broker.options = vec![
        "--listener".to_owned(),
        format!(
            "name=lan,address={guarded},advertise=localhost:{},tls-cert={folder}/server.pem,tls-key={folder}/server.key,\
             sasl=required",
            guarded.port()
        ),
    ];
    broker.start_again();
    let registry = broker.address("registry");
    for mechanism in ["scram_sha_512", "scram_sha_256", "plain"] {
        let setup = gateway_at(json!({
            "mode": "external", "bootstrap": format!("localhost:{}", guarded.port()),
            "registry_url": format!("http://{registry}"), "topic_prefix": format!("{mechanism}."),
            "tls": { "ca_file": broker.folder().join("ca.pem") },
            "sasl": { "mechanism": mechanism, "username": "guest", "password": { "secret": "kafka" } },
        }));
        store_secret(&setup, PASSWORD);
        sees_readings_pass(&setup);
    }
    broker.stop();
}

/// Answers everyone who asks for a token with one that Kafka's own unsecured validator takes.
fn tokens() -> SocketAddr {
    // {"alg":"none"} . {"sub":"guest","iat":1700000000,"exp":4000000000} .
    const TOKEN: &str = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJndWVzdCIsImlhdCI6MTcwMDAwMDAwMCwiZXhwIjo0MDAwMDAwMDAwfQ.";
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut asked = [0; 4096];
            let length = stream.read(&mut asked).unwrap_or(0);
            // Basic guest:<password>
            let right =
                String::from_utf8_lossy(&asked[..length]).contains("Basic Z3Vlc3Q6Y29ycmVjdCBob3JzZSBiYXR0ZXJ5");
            let body = format!(r#"{{"access_token":"{TOKEN}","token_type":"Bearer","expires_in":3600}}"#);
            let status = if right { "200 OK" } else { "401 Unauthorized" };
            let head = "Content-Type: application/json\r\nConnection: close";
            drop(write!(stream, "HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        }
    });
    address
}

/// A listener of Kafka's, and what a document says to get in there.
struct Door {
    name: &'static str,
    port: u16,
    sasl: Option<Value>,
}

// STR-30: all that Apache Kafka itself may ask for
#[test]
fn apache_kafka_lets_a_gateway_in_by_every_door() {
    let Some(folder) = kafka_folder() else {
        return say("not run: logging in to Apache Kafka (scripts/test-external.sh)");
    };
    let root = tempfile::Builder::new().prefix("sf-guarded-").tempdir().expect("a temporary folder");
    let [kafka, controller, registry] = [free_address(), free_address(), free_address()];
    let token_url = format!("http://{}/token", tokens());
    write_papers(root.path());
    let password =
        |mechanism: &str| json!({ "mechanism": mechanism, "username": "guest", "password": { "secret": "kafka" } });
    let doors = [
        ("scram256", Some(password("scram_sha_256"))),
        ("scram512", Some(password("scram_sha_512"))),
        ("plain", Some(password("plain"))),
        ("papers", None),
        (
            "token",
            Some(json!({ "mechanism": "oauthbearer", "token_url": token_url, "client_id": "guest",
            "client_secret": { "secret": "kafka" } })),
        ),
    ];
    let doors = doors.map(|(name, sasl)| Door { name, sasl, port: free_address().port() });
    let more = root.path().join("more.properties");
    std::fs::write(&more, settings(root.path(), kafka, controller, &doors)).expect("the settings are written");
    let scram = |mechanism: &str| format!("{mechanism}=[name=guest,password={PASSWORD}]");
    let options = [
        more.display().to_string(),
        "--add-scram".to_owned(),
        scram("SCRAM-SHA-256"),
        "--add-scram".to_owned(),
        scram("SCRAM-SHA-512"),
    ];
    let _cluster = Cluster::start_with(&folder, root.path(), [kafka, controller, registry], &options);
    for door in &doors {
        say(&format!("by {}", door.name));
        let file = |name: &str| root.path().join(name);
        let tls = match door.sasl {
            None => {
                json!({ "ca_file": file("ca.pem"), "certificate_file": file("client.pem"), "key_file": file("client.key") })
            }
            Some(_) => json!({ "ca_file": file("ca.pem") }),
        };
        let mut stream = json!({
            "mode": "external", "bootstrap": format!("localhost:{}", door.port), "tls": tls,
            "registry_url": format!("http://{registry}"), "topic_prefix": format!("{}.", door.name),
        });
        if let Some(sasl) = &door.sasl {
            stream["sasl"] = sasl.clone();
        }
        let setup = gateway_at(stream);
        store_secret(&setup, PASSWORD);
        sees_readings_pass(&setup);
    }
}

/// Kafka's settings for these doors, beside those it talks to itself by.
fn settings(folder: &Path, kafka: SocketAddr, controller: SocketAddr, doors: &[Door]) -> String {
    const MODULES: &str = "org.apache.kafka.common.security";
    let folder = folder.display();
    let each = |entry: fn(&Door) -> String| doors.iter().map(entry).collect::<Vec<_>>().join(",");
    let listeners = each(|door| format!("{}://127.0.0.1:{}", door.name, door.port));
    let advertised = each(|door| format!("{}://localhost:{}", door.name, door.port));
    let protocols = each(|door| format!("{}:{}", door.name, if door.sasl.is_some() { "SASL_SSL" } else { "SSL" }));
    format!(
        "listeners=PLAINTEXT://{kafka},CONTROLLER://{controller},{listeners}\n\
         advertised.listeners=PLAINTEXT://{kafka},{advertised}\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,{protocols}\n\
         ssl.keystore.type=PEM\nssl.keystore.location={folder}/server-both.pem\n\
         ssl.truststore.type=PEM\nssl.truststore.location={folder}/ca.pem\n\
         listener.name.papers.ssl.client.auth=required\n\
         listener.name.scram256.sasl.enabled.mechanisms=SCRAM-SHA-256\n\
         listener.name.scram256.scram-sha-256.sasl.jaas.config={MODULES}.scram.ScramLoginModule required;\n\
         listener.name.scram512.sasl.enabled.mechanisms=SCRAM-SHA-512\n\
         listener.name.scram512.scram-sha-512.sasl.jaas.config={MODULES}.scram.ScramLoginModule required;\n\
         listener.name.plain.sasl.enabled.mechanisms=PLAIN\n\
         listener.name.plain.plain.sasl.jaas.config={MODULES}.plain.PlainLoginModule required \
         user_guest=\"{PASSWORD}\";\n\
         listener.name.token.sasl.enabled.mechanisms=OAUTHBEARER\n\
         listener.name.token.oauthbearer.sasl.jaas.config={MODULES}.oauthbearer.OAuthBearerLoginModule required \
         unsecuredLoginStringClaim_sub=\"kafka\";\n"
    )
}
