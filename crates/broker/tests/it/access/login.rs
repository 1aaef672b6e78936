//! Logins: who gets in, who does not, and what they hear.

use std::collections::BTreeMap;

use daemon::Launch;
use daemon::identity::{self, Components};
use daemon::launch::Secret;
use kafka_protocol::messages::{
    AlterUserScramCredentialsRequest, ApiVersionsRequest, DescribeUserScramCredentialsRequest, ListGroupsRequest,
    MetadataRequest, SaslHandshakeRequest,
};
use kafka_protocol::protocol::StrBytes;
use rdkafka::error::RDKafkaErrorCode;

use super::client::Client;
use super::client::scram::{self, Hash};
use super::rules::{create_topic, send};
use super::{A_WHILE, ADMIN, PASSWORD, Site, add_user, guarded, member, removal, stranger, text};
use crate::support::eventually;

const FAILED: i16 = 58; // SASL_AUTHENTICATION_FAILED
const ILLEGAL_STATE: i16 = 34; // ILLEGAL_SASL_STATE

// STR-14
#[tokio::test(flavor = "multi_thread")]
async fn all_mechanisms_let_a_user_in() {
    let broker = Site::start(|_| ()).await;
    let mut client = stranger(&broker).await;
    let offered = client.handshake("GSSAPI").await;
    assert_eq!(offered.error_code, 33, "UNSUPPORTED_SASL_MECHANISM");
    let names: Vec<&str> = offered.mechanisms.iter().map(StrBytes::as_str).collect();
    assert_eq!(names, ["SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN"]);
    client.plain(ADMIN, PASSWORD).await.unwrap();
    assert_eq!(client.call(13, &MetadataRequest::default()).await.brokers.len(), 1);
    for hash in [Hash::Sha256, Hash::Sha512] {
        let mut client = stranger(&broker).await;
        client.scram(hash, ADMIN, PASSWORD).await.unwrap();
        assert_eq!(client.call(13, &MetadataRequest::default()).await.brokers.len(), 1);
        // a login may be repeated on the same connection (KIP-368), by the same user
        client.scram(hash, ADMIN, PASSWORD).await.unwrap();
    }
}

// STR-14: before a login there is nothing but ApiVersions and the login itself
#[tokio::test(flavor = "multi_thread")]
async fn who_has_not_logged_in_is_served_nothing() {
    let broker = Site::start(|_| ()).await;
    let mut client = stranger(&broker).await;
    assert_eq!(client.call(3, &ApiVersionsRequest::default()).await.error_code, 0);
    assert!(client.try_call(13, &MetadataRequest::default()).await.is_none());
    let mut client = stranger(&broker).await;
    assert_eq!(client.handshake("PLAIN").await.error_code, 0);
    assert!(client.try_call(4, &ListGroupsRequest::default()).await.is_none(), "half a login is none");
    let mut client = stranger(&broker).await;
    assert_eq!(client.authenticate("\0admin\0x").await.unwrap_err().0, ILLEGAL_STATE, "no mechanism was chosen");
    assert!(client.closed().await);
    let mut client = stranger(&broker).await;
    client.send_bytes(&vec![0; 70_000]).await;
    assert!(client.closed().await, "strangers may not send large frames");
}

// STR-14, security D.4 31: one answer for everything that is wrong
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_and_an_unknown_user_sound_alike() {
    let broker = Site::start(|_| ()).await;
    let mut heard = Vec::new();
    for (user, password) in [(ADMIN, "wrong horse battery"), ("nobody", PASSWORD), ("nobody", "x")] {
        let mut client = stranger(&broker).await;
        heard.push(client.plain(user, password).await.unwrap_err());
        assert!(client.closed().await);
        for hash in [Hash::Sha256, Hash::Sha512] {
            let mut client = stranger(&broker).await;
            heard.push(client.scram(hash, user, password).await.unwrap_err());
            assert!(client.closed().await);
        }
    }
    assert!(heard.iter().all(|one| *one == heard[0] && one.0 == FAILED), "{heard:?}");
    let failed = broker.figures("sf_broker_failed_logins_total");
    assert!(failed[0].ends_with(" 9"), "{failed:?}");
}

// STR-14: users are made and unmade over the protocol, and are there after a restart
#[tokio::test(flavor = "multi_thread")]
async fn users_are_kept_over_a_restart() {
    let mut broker = Site::start(|_| ()).await;
    let mut admin = member(&broker, ADMIN).await;
    add_user(&mut admin, "ada").await;
    add_user(&mut admin, "bob").await;
    broker.crash_and_restart().await;
    stranger(&broker).await.scram(Hash::Sha256, "ada", PASSWORD).await.unwrap();
    let mut admin = member(&broker, ADMIN).await;
    let described = admin.call(0, &DescribeUserScramCredentialsRequest::default()).await;
    let users: Vec<(&str, usize)> =
        described.results.iter().map(|one| (one.user.as_str(), one.credential_infos.len())).collect();
    assert_eq!(users, [("ada", 1), ("admin", 2), ("bob", 1)]);
    assert_eq!(described.results[0].credential_infos[0].iterations, 4_096);
    let request = AlterUserScramCredentialsRequest::default().with_deletions(vec![removal("ada"), removal("eve")]);
    let answer = admin.call(0, &request).await;
    let codes: Vec<(&str, i16)> = answer.results.iter().map(|one| (one.user.as_str(), one.error_code)).collect();
    assert_eq!(codes, [("ada", 0), ("eve", 91)], "RESOURCE_NOT_FOUND");
    assert_eq!(stranger(&broker).await.scram(Hash::Sha256, "ada", PASSWORD).await.unwrap_err().0, FAILED);
    stranger(&broker).await.scram(Hash::Sha256, "bob", PASSWORD).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_protect_nothing_are_refused() {
    let broker = Site::start(|_| ()).await;
    let mut admin = member(&broker, ADMIN).await;
    let good = || scram::upsertion("ada", PASSWORD, 4_096);
    let wrong = [
        (good().with_iterations(1_000), 93), // UNACCEPTABLE_CREDENTIAL
        (good().with_iterations(1_000_000), 93),
        (good().with_salted_password(vec![1; 31].into()), 93),
        (good().with_salt(Vec::new().into()), 93),
        (good().with_name(text("")), 93),
        (good().with_name(text("sf-adapter/press")), 93),
        (good().with_mechanism(9), 33), // UNSUPPORTED_SASL_MECHANISM
    ];
    for (one, code) in wrong {
        let request = AlterUserScramCredentialsRequest::default().with_upsertions(vec![one]);
        assert_eq!(admin.call(0, &request).await.results[0].error_code, code);
    }
    let request = AlterUserScramCredentialsRequest::default().with_upsertions(vec![good(), good()]);
    assert_eq!(admin.call(0, &request).await.results[0].error_code, 92, "DUPLICATE_RESOURCE");
}

// STR-13: of one user, said to it and counted
#[tokio::test(flavor = "multi_thread")]
async fn a_user_has_so_many_connections_and_no_more() {
    let broker = Site::start(|settings| settings.connections_per_user_max = 2).await;
    let first = member(&broker, ADMIN).await;
    let _second = member(&broker, ADMIN).await;
    let mut third = stranger(&broker).await;
    let (code, message) = third.plain(ADMIN, PASSWORD).await.unwrap_err();
    assert!(code == FAILED && message.contains("too many connections"), "{message}");
    assert!(third.closed().await);
    let refused = broker.figures("sf_broker_connections_refused_total");
    assert!(refused.iter().any(|line| line.contains("limit=\"user\"") && line.ends_with(" 1")), "{refused:?}");
    drop(first);
    eventually("a place is free again", async || stranger(&broker).await.plain(ADMIN, PASSWORD).await.is_ok()).await;
}

// STR-14: KIP-368
#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_has_expired_is_repeated_or_the_end() {
    let lifetime = 3 * A_WHILE;
    let broker = Site::start(|settings| settings.login_lifetime = Some(lifetime)).await;
    let mut client = member(&broker, ADMIN).await;
    let mut other = member(&broker, ADMIN).await;
    tokio::time::sleep(lifetime).await; // nothing to wait for but the time itself
    client.plain(ADMIN, PASSWORD).await.unwrap();
    assert_eq!(client.call(13, &MetadataRequest::default()).await.brokers.len(), 1);
    assert!(other.try_call(13, &MetadataRequest::default()).await.is_none());
}

// The way of before Kafka 1.0: handshake version 0, then bare tokens
#[tokio::test(flavor = "multi_thread")]
async fn bare_tokens_let_old_clients_in() {
    let broker = Site::start(|_| ()).await;
    let old = SaslHandshakeRequest::default().with_mechanism(text("PLAIN"));
    let mut client = stranger(&broker).await;
    assert_eq!(client.call(0, &old).await.error_code, 0);
    client.send_bytes(format!("\0{ADMIN}\0{PASSWORD}").as_bytes()).await;
    assert_eq!(client.receive_bytes().await.unwrap(), b"");
    assert_eq!(client.call(13, &MetadataRequest::default()).await.brokers.len(), 1);
    let mut client = stranger(&broker).await;
    assert_eq!(client.call(0, &old).await.error_code, 0);
    client.send_bytes(b"\0admin\0wrong").await;
    assert!(client.closed().await);
}

// STR-14, security D.1 CR 1.2, D.4 54: components log in where everybody may, and have the rights of their kind
#[tokio::test(flavor = "multi_thread")]
async fn components_get_in_with_what_they_were_handed() {
    let kinds = [
        ("sf-runtime", vec!["all topic *", "all group *", "all cluster"]),
        ("sf-adapter", vec!["write topic a.raw", "describe topic *"]),
    ];
    let kinds = kinds.into_iter().map(|(kind, rules)| (kind.to_owned(), rules.into_iter().map(String::from).collect()));
    let components = Components::new(kinds.collect(), Vec::new()).unwrap();
    let handed = Secret::new(serde_json::to_string(&components).unwrap());
    let secrets = BTreeMap::from([(identity::COMPONENTS.to_owned(), handed)]);
    let broker = Site::start_launched(Launch { secrets, ..Launch::default() }, |_| ()).await;
    let address = broker.handle().kafka();

    let password = |user: &str| components.password(user).reveal().to_owned();
    let mut anonymous = Client::connect(address).await;
    assert_eq!(anonymous.call(4, &ListGroupsRequest::default()).await.error_code, 0);
    for (user, of) in [("sf-adapter/press", "sf-adapter/pump"), ("sf-other/x", "sf-other/x")] {
        let mut client = Client::connect(address).await;
        assert_eq!(client.plain(user, &password(of)).await.unwrap_err().0, FAILED);
    }
    // the same with librdkafka
    let login = |user: &'static str| {
        let mut config = broker.client();
        config.set("security.protocol", "SASL_PLAINTEXT").set("sasl.mechanism", "PLAIN");
        config.set("sasl.username", user).set("sasl.password", password(user));
        config
    };
    create_topic(&login("sf-runtime/main").create().unwrap(), "a.raw").await.unwrap();
    create_topic(&login("sf-runtime/main").create().unwrap(), "a.clean").await.unwrap();
    let adapter = login("sf-adapter/press").set("message.timeout.ms", "10000").create().unwrap();
    send(&adapter, "a.raw").await.unwrap();
    let denied = send(&adapter, "a.clean").await.unwrap_err();
    assert_eq!(denied, RDKafkaErrorCode::TopicAuthorizationFailed);
    let denied = create_topic(&broker.client().create().unwrap(), "b").await.unwrap_err();
    assert_eq!(denied, RDKafkaErrorCode::TopicAuthorizationFailed, "nobody else");
}

// Without authorization a login on the first listener is possible and changes nothing
#[tokio::test(flavor = "multi_thread")]
async fn the_first_listener_asks_nobody_and_takes_every_login() {
    let broker = Site::start(|settings| {
        settings.authorize = false;
        settings.listeners = vec![guarded()];
    })
    .await;
    let mut client = Client::connect(broker.handle().kafka()).await;
    assert_eq!(client.call(13, &MetadataRequest::default()).await.brokers.len(), 1);
    client.scram(Hash::Sha512, ADMIN, PASSWORD).await.unwrap();
    assert_eq!(client.call(13, &MetadataRequest::default()).await.brokers.len(), 1);
    let mut old = Client::connect(broker.handle().kafka()).await;
    let handshake = SaslHandshakeRequest::default().with_mechanism(text("PLAIN"));
    assert_eq!(old.call(0, &handshake).await.error_code, ILLEGAL_STATE, "bare tokens have no place here");
    let mut wrong = Client::connect(broker.handle().kafka()).await;
    assert_eq!(wrong.plain(ADMIN, "no").await.unwrap_err().0, FAILED);
    assert!(wrong.try_call(13, &MetadataRequest::default()).await.is_none(), "whoever lied is served no more");
}
