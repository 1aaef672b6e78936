//! Commands that look at a running gateway: `tail`, `topics`, `probe`, `secret`.

use std::collections::HashMap;
use std::io::Read;
use std::time::Duration;

use daemon::report;
use kafka::client::{Consumer, Position, Settings};
use stream::{Schema, Schemas, avro, message};

use crate::commands;
use crate::exit::{Failure, TRY_AGAIN, USAGE};
use crate::say;

fn unreachable(error: &(dyn std::error::Error + 'static)) -> Failure {
    let hint = "is the gateway running? `streamforge up` starts one; --bootstrap names another address";
    Failure::new(TRY_AGAIN, format!("{}; {hint}", report(error)))
}

/// Prints records as JSON lines.
pub(crate) fn tail(options: &commands::Tail, runtime: &tokio::runtime::Handle) -> Result<(), Failure> {
    let settings = Settings::new(&options.stream.bootstrap, "sf-ctl");
    let consumer = Consumer::open(&settings, "sf-ctl-tail").map_err(|error| unreachable(&error))?;
    let topics = consumer.topics().map_err(|error| unreachable(&error))?;
    let Some((_, partitions)) = topics.iter().find(|(name, _)| *name == options.topic) else {
        let names: Vec<&str> = topics.iter().map(|(name, _)| name.as_str()).collect();
        let hint = config::read::suggest(&options.topic, &names);
        return Err(Failure::new(
            USAGE,
            format!("there is no topic {:?} {hint}; topics: {}", options.topic, names.join(", ")),
        ));
    };
    let names = [(options.topic.as_str(), *partitions)];
    let positions = if options.from_beginning { consumer.starts(&names) } else { consumer.ends(&names) };
    let positions: Vec<Position> = positions.map_err(|error| unreachable(&error))?;
    consumer.assign(&positions).map_err(|error| unreachable(&error))?;
    let schemas = Schemas::new(&options.stream.registry, None);
    let mut known: HashMap<i32, Option<Schema>> = HashMap::new();
    let mut left = options.count.unwrap_or(usize::MAX);
    while left > 0 {
        let mut lines: Vec<String> = Vec::new();
        let polled = consumer.poll(left.min(1000), Duration::from_millis(500), Duration::ZERO, |record| {
            let payload = record.payload().unwrap_or_default();
            let decoded = avro::unframe(payload).ok().and_then(|(id, body)| {
                let schema = *known.entry(id).or_insert_with(|| runtime.block_on(schemas.by_id(id)).ok());
                schema.and_then(|schema| message::json::any(schema, body))
            });
            let place = format!("{}/{}", record.partition(), record.offset());
            let body = decoded.unwrap_or_else(|| {
                serde_json::json!({ "key": String::from_utf8_lossy(record.key()), "undecoded_bytes": payload.len(),
                    "text": String::from_utf8_lossy(&payload[..payload.len().min(200)]) })
            });
            lines.push(format!("{place} {body}"));
        });
        left -= polled.map_err(|error| unreachable(&error))?;
        for line in &lines {
            say::line(line);
        }
    }
    Ok(())
}

/// Lists topics.
pub(crate) fn topics(options: &commands::Stream) -> Result<(), Failure> {
    let settings = Settings::new(&options.bootstrap, "sf-ctl");
    let consumer = Consumer::open(&settings, "sf-ctl-topics").map_err(|error| unreachable(&error))?;
    let mut topics = consumer.topics().map_err(|error| unreachable(&error))?;
    topics.sort();
    say::line(&format!("{:32} {:>10} {:>14} {:>14}", "TOPIC", "PARTITIONS", "RECORDS KEPT", "EVER WRITTEN"));
    for (name, partitions) in &topics {
        let names = [(name.as_str(), *partitions)];
        let sum = |positions: Vec<Position>| positions.iter().map(|position| position.offset).sum::<i64>();
        let starts = sum(consumer.starts(&names).map_err(|error| unreachable(&error))?);
        let ends = sum(consumer.ends(&names).map_err(|error| unreachable(&error))?);
        say::line(&format!("{name:32} {partitions:>10} {:>14} {ends:>14}", ends - starts));
    }
    Ok(())
}

/// One read of a device.
pub(crate) async fn probe(url: &str) -> Result<(), Failure> {
    let answer = adapters::probe::probe(url).await.map_err(|error| Failure::from_error(TRY_AGAIN, &error))?;
    say::line(&answer.to_string());
    Ok(())
}

/// Stores a secret read from standard input.
pub(crate) fn secret(options: commands::Secret) -> Result<(), Failure> {
    let commands::Secret::Set { name, data_dir } = options;
    let data = crate::up::data_dir(data_dir, false)?;
    let mut value = String::new();
    std::io::stdin()
        .lock()
        .take(64 * 1024)
        .read_to_string(&mut value)
        .map_err(|error| Failure::from_error(TRY_AGAIN, &error))?;
    let folders = gateway::children::Folders::new(&data);
    gateway::secrets::store(&folders.secrets(), &name, value.trim_end_matches(['\r', '\n']))
        .map_err(|error| Failure::new(USAGE, format!("secret {name} is not stored: {error}")))?;
    say::line(&format!("secret {name} is stored for the gateway in {}", data.display()));
    Ok(())
}
