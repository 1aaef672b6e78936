//! `streamforge ctl user`: how the first user comes to be, and that it is let in.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;

use crate::harness::Broker;

fn topics(broker: &Broker, password: &str) -> Result<usize, KafkaError> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker.address("kafka"))
        .set("security.protocol", "SASL_PLAINTEXT")
        .set("sasl.mechanism", "PLAIN")
        .set("sasl.username", "ada")
        .set("sasl.password", password)
        .create()?;
    consumer.fetch_metadata(None, Duration::from_secs(3)).map(|metadata| metadata.topics().len())
}

// STR-14, security D.1 CR 1.5: no default password, and none in sight
#[test]
fn the_first_user_is_stored_while_the_broker_does_not_run() {
    let mut broker = Broker::start();
    let data = broker.data().display().to_string();
    let set = ["user", "set", "ada", "--broker-data-dir", &data];
    assert!(topics(&broker, "correct horse").is_err(), "nobody is there by default");
    let refused = broker.ctl_with_input(&set, "correct horse\n");
    assert!(refused.failure(75).contains("a running broker takes users"), "{refused:?}");
    broker.stop();
    let short = broker.ctl_with_input(&set, "short\n");
    assert!(short.failure(64).contains("8 bytes"), "{short:?}");
    let stored = broker.ctl_with_input(&set, "correct horse\n");
    assert_eq!(stored.lines(), [format!("user ada is stored in {data}")]);
    broker.start_again();
    assert!(topics(&broker, "correct horse").is_ok());
    assert!(topics(&broker, "wrong horse").is_err());
    broker.stop();
    let remove = ["user", "remove", "ada", "--broker-data-dir", &data];
    broker.ctl(&remove).lines();
    assert!(broker.ctl(&remove).failure(64).contains("no user"));
}
