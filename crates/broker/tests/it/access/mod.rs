//! Who gets in and what they may do: TLS, logins, access rules, quotas, crowds.

mod client;
mod crowd;
mod login;
mod peers;
mod quotas;
mod rules;
mod tls;

use std::time::Duration;

use broker::{Broker, Handle, Listener, Settings};
use daemon::Launch;
use kafka_protocol::messages::{
    AlterUserScramCredentialsRequest, CreateAclsRequest, alter_user_scram_credentials_request, create_acls_request,
};
use kafka_protocol::protocol::StrBytes;

use rdkafka::ClientConfig;

use self::client::Client;

/// Name of the listener where clients have to log in.
const GUARDED: &str = "guarded";
/// Name of the user that may do everything.
const ADMIN: &str = "admin";
const PASSWORD: &str = "correct horse battery";

fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

/// A listener on a free port, with SASL over plain text.
fn guarded() -> Listener {
    "name=guarded,address=127.0.0.1:0,sasl=required,plain-without-tls=true".parse().unwrap()
}

/// A broker in this process with a listener where users have to log in, and its figures.
struct Site {
    /// Absent for a moment while it is started again.
    handle: Option<Handle>,
    settings: Settings,
    context: daemon::Context,
    _dir: tempfile::TempDir,
}

impl Site {
    /// Rules decide; `admin` exists and may do everything.
    async fn start(change: impl FnOnce(&mut Settings)) -> Self {
        Self::start_launched(Launch::default(), change).await
    }

    async fn start_launched(launch: Launch, change: impl FnOnce(&mut Settings)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        broker::users::set(dir.path(), ADMIN, PASSWORD).await.unwrap();
        let mut settings = Settings::on_free_ports(dir.path());
        settings.listeners = vec![guarded()];
        settings.authorize = true;
        settings.super_users = vec![ADMIN.to_owned()];
        change(&mut settings);
        let mut context = daemon::Context::new("broker", "test");
        context.launch = launch;
        let handle = Some(Broker::start(settings.clone(), &context).await.unwrap());
        Self { handle, settings, context, _dir: dir }
    }

    /// Ends without an orderly stop and starts again on the same folder.
    async fn crash_and_restart(&mut self) {
        drop(self.handle.take());
        tokio::task::yield_now().await;
        self.context.metrics = daemon::Metrics::new("broker");
        self.handle = Some(Broker::start(self.settings.clone(), &self.context).await.unwrap());
    }

    fn handle(&self) -> &Handle {
        self.handle.as_ref().unwrap()
    }

    /// For librdkafka, at the first listener.
    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.handle().kafka().to_string()).set("broker.address.family", "v4");
        config
    }

    /// Metrics whose names begin with this.
    fn figures(&self, name: &str) -> Vec<String> {
        let all = self.context.metrics.encode().unwrap();
        all.lines().filter(|line| line.starts_with(name)).map(str::to_owned).collect()
    }
}

/// A connection to the guarded listener, not logged in.
async fn stranger(broker: &Site) -> Client {
    Client::connect(broker.handle().listener(GUARDED).unwrap()).await
}

/// A connection of a user who has logged in.
async fn member(broker: &Site, user: &str) -> Client {
    let mut client = stranger(broker).await;
    client.plain(user, PASSWORD).await.unwrap();
    client
}

/// Creates a user with [`PASSWORD`] over the protocol.
async fn add_user(admin: &mut Client, user: &str) {
    let one = client::scram::upsertion(user, PASSWORD, 4_096);
    let request = AlterUserScramCredentialsRequest::default().with_upsertions(vec![one]);
    let answer = admin.call(0, &request).await;
    assert_eq!(answer.results[0].error_code, 0, "{answer:?}");
}

fn removal(user: &str) -> alter_user_scram_credentials_request::ScramCredentialDeletion {
    alter_user_scram_credentials_request::ScramCredentialDeletion::default().with_name(text(user)).with_mechanism(1)
}

/// A rule as CreateAcls carries it; a name that ends with `*` is a prefix.
fn rule(user: &str, permission: i8, operation: i8, resource: i8, name: &str) -> create_acls_request::AclCreation {
    let (pattern, name) = match name.strip_suffix('*') {
        Some(prefix) if !prefix.is_empty() => (4, prefix),
        _ => (3, name),
    };
    create_acls_request::AclCreation::default()
        .with_resource_type(resource)
        .with_resource_name(text(name))
        .with_resource_pattern_type(pattern)
        .with_principal(text(format!("User:{user}")))
        .with_host(text("*"))
        .with_operation(operation)
        .with_permission_type(permission)
}

async fn add_rules(admin: &mut Client, rules: Vec<create_acls_request::AclCreation>) {
    let answer = admin.call(3, &CreateAclsRequest::default().with_creations(rules)).await;
    assert!(answer.results.iter().all(|result| result.error_code == 0), "{answer:?}");
}

/// Nothing is served that long by accident.
const A_WHILE: Duration = Duration::from_millis(300);

// permissions, operations and kinds of resources as the protocol numbers them
const DENY: i8 = 2;
const ALLOW: i8 = 3;
const ALL: i8 = 2;
const READ: i8 = 3;
const WRITE: i8 = 4;
const CREATE: i8 = 5;
const DELETE: i8 = 6;
const ALTER: i8 = 7;
const DESCRIBE: i8 = 8;
const DESCRIBE_CONFIGS: i8 = 10;
const ALTER_CONFIGS: i8 = 11;
const TOPIC: i8 = 2;
const GROUP: i8 = 3;
const CLUSTER: i8 = 4;
const THE_CLUSTER: &str = "kafka-cluster";
