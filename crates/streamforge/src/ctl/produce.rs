//! `ctl produce`: records from standard input or a file, as they are or encoded by a schema of the registry.
//!
//! The command ends well only when every record is acknowledged.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::time::Duration;

use apache_avro::Schema as AvroSchema;
use apache_avro::types::Value as AvroValue;
use apache_avro::writer::datum::GenericDatumWriter;
use clap::Args;
use kafka::client::{Outgoing, Pending, Producer, SendError};
use serde_json::json;
use stream::{Schemas, avro, partitioner};
use tokio::runtime::Handle;

use super::target::{Target, failed};
use super::{outcome, topics};
use crate::exit::{Failure, TRY_AGAIN, USAGE};
use crate::say;

/// Longest value read; a longer one ends the command. Brokers take 1 MiB unless they are told otherwise.
const VALUE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Records that are acknowledged together.
const BATCH_RECORDS: usize = 1000;
/// How long the last records may take to be acknowledged.
const ACKNOWLEDGE_MAX: Duration = Duration::from_secs(30);
/// Pause when the queue of unacknowledged records is full.
const QUEUE_PAUSE: Duration = Duration::from_millis(10);

/// Options of `ctl produce`.
#[derive(Debug, Args)]
pub(crate) struct Produce {
    /// Topic; it must exist
    topic: String,
    /// Read from this file instead of standard input
    #[arg(long, short)]
    file: Option<PathBuf>,
    /// One record with everything that is read, instead of one per line
    #[arg(long)]
    whole: bool,
    /// Key of every record
    #[arg(long, short)]
    key: Option<String>,
    /// Each line is a key and a value with this between them
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["key", "whole"])]
    key_separator: Option<String>,
    /// A header, NAME=VALUE; several times for more
    #[arg(long = "header", short = 'H', value_name = "NAME=VALUE", value_parser = topics::name_and_value)]
    headers: Vec<(String, String)>,
    /// Partition; by default that of the key, or any
    #[arg(long, short)]
    partition: Option<i32>,
    /// Values are JSON, to be encoded as Avro by the newest schema of this subject, for example telemetry.raw-value
    #[arg(long, value_name = "SUBJECT")]
    avro: Option<String>,
    #[command(flatten)]
    target: Target,
}

/// A schema and its id.
struct Encoder {
    id: i32,
    schema: AvroSchema,
}

impl Encoder {
    async fn of_subject(registry: &str, subject: &str) -> Result<Self, Failure> {
        let schemas = Schemas::new(registry, None);
        let (id, text) = schemas.latest(subject).await.map_err(|error| Failure::from_error(TRY_AGAIN, &error))?;
        let schema = AvroSchema::parse_str(&text)
            .map_err(|error| Failure::new(USAGE, format!("the schema of {subject} cannot be used: {error}")))?;
        Ok(Self { id, schema })
    }

    /// A JSON value in Confluent framing.
    fn encode(&self, text: &[u8]) -> Result<Vec<u8>, String> {
        let value: serde_json::Value =
            serde_json::from_slice(text).map_err(|error| format!("this is not JSON: {error}"))?;
        let wrong = |error: apache_avro::Error| format!("this does not fit the schema: {error}");
        let value = AvroValue::try_from(value).and_then(|value| value.resolve(&self.schema)).map_err(wrong)?;
        let writer = GenericDatumWriter::builder(&self.schema).build().map_err(wrong)?;
        let body = writer.write_value_to_vec(value).map_err(wrong)?;
        let mut payload = Vec::with_capacity(avro::FRAME_LENGTH + body.len());
        avro::put_frame(&mut payload, self.id);
        payload.extend_from_slice(&body);
        Ok(payload)
    }
}

/// Runs the command.
pub(crate) fn produce(options: &Produce, runtime: &Handle) -> Result<(), Failure> {
    let mut admin = runtime.block_on(options.target.admin())?;
    let topic = runtime.block_on(topics::one(&mut admin, &options.topic))?;
    let partitions = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
    if let Some(partition) = options.partition.filter(|chosen| !(0..partitions).contains(chosen)) {
        let text = format!("topic {} has no partition {partition}; its {partitions} partitions begin at 0", topic.name);
        return Err(Failure::new(USAGE, text));
    }
    let encoder = match &options.avro {
        Some(subject) => Some(runtime.block_on(Encoder::of_subject(&options.target.registry(), subject))?),
        None => None,
    };
    let producer = Producer::open(&options.target.settings()).map_err(|error| failed(&error))?;
    let mut sending = Sending { producer: &producer, options, partitions, waiting: Vec::new(), sent: 0 };
    let mut progress = say::Progress::new();
    let mut input = open(options.file.as_ref())?;
    let mut batch = Vec::new();
    let mut number = 0_u64;
    while let Some(value) = next_value(&mut input, options.whole, number)? {
        number += 1;
        let (key, value) = split(options, &value).map_err(|reason| at_line(number, &reason))?;
        let payload = match &encoder {
            Some(encoder) => encoder.encode(value).map_err(|reason| at_line(number, &reason))?,
            None => value.to_vec(),
        };
        batch.push((key.map(<[u8]>::to_vec), payload));
        if batch.len() == BATCH_RECORDS {
            sending.send(&mut batch)?;
            progress.at(&format!("{} records", sending.sent));
        }
    }
    sending.send(&mut batch)?;
    let sent = sending.sent;
    sending.settle()?;
    drop(progress);
    outcome(
        &options.target,
        &json!({ "topic": options.topic, "records": sent }),
        &format!("{sent} records are on {}", options.topic),
    );
    Ok(())
}

fn at_line(number: u64, reason: &str) -> Failure {
    Failure::new(USAGE, format!("line {number}: {reason}; the lines before it were sent"))
}

fn open(file: Option<&PathBuf>) -> Result<Box<dyn BufRead>, Failure> {
    let Some(path) = file else { return Ok(Box::new(std::io::stdin().lock())) };
    let file =
        File::open(path).map_err(|error| Failure::new(USAGE, format!("{} cannot be read: {error}", path.display())))?;
    Ok(Box::new(BufReader::new(file)))
}

/// The next value, or all there is as one; `None` at the end. Empty lines are no records.
fn next_value(input: &mut dyn BufRead, whole: bool, number: u64) -> Result<Option<Vec<u8>>, Failure> {
    let failure = |error: std::io::Error| Failure::new(TRY_AGAIN, format!("the input cannot be read: {error}"));
    loop {
        let mut value = Vec::new();
        let mut limited = input.take(VALUE_BYTES_MAX + 1);
        let read = if whole { limited.read_to_end(&mut value) } else { limited.read_until(b'\n', &mut value) };
        let read = read.map_err(failure)?;
        if read as u64 > VALUE_BYTES_MAX {
            return Err(at_line(number + 1, &format!("a value has at most {VALUE_BYTES_MAX} bytes")));
        }
        if read == 0 {
            return Ok(None);
        }
        if !whole {
            value.truncate(value.len() - usize::from(value.ends_with(b"\n")));
            value.truncate(value.len() - usize::from(value.ends_with(b"\r")));
            if value.is_empty() {
                continue;
            }
        }
        return Ok(Some(value));
    }
}

/// Key and value of a line.
fn split<'a>(options: &'a Produce, line: &'a [u8]) -> Result<(Option<&'a [u8]>, &'a [u8]), String> {
    let Some(separator) = options.key_separator.as_ref().filter(|separator| !separator.is_empty()) else {
        return Ok((options.key.as_ref().map(String::as_bytes), line));
    };
    let at = line.windows(separator.len()).position(|bytes| bytes == separator.as_bytes());
    let at = at.ok_or_else(|| format!("there is no {separator:?} in it"))?;
    Ok((Some(&line[..at]), &line[at + separator.len()..]))
}

/// A key, if any, and a value.
type KeyAndValue = (Option<Vec<u8>>, Vec<u8>);

/// What is on its way.
struct Sending<'a> {
    producer: &'a Producer,
    options: &'a Produce,
    partitions: i32,
    waiting: Vec<Pending>,
    sent: usize,
}

impl Sending<'_> {
    /// Hands records over; waits where the queue is full.
    fn send(&mut self, records: &mut Vec<KeyAndValue>) -> Result<(), Failure> {
        let headers: Vec<(&str, &[u8])> =
            self.options.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let batch = self.producer.batch();
        for (key, payload) in records.drain(..) {
            let of_key = key.as_ref().map(|key| partitioner::partition_for(key, self.partitions));
            let record = Outgoing {
                topic: &self.options.topic,
                partition: self.options.partition.or(of_key),
                key: key.as_deref(),
                payload: Some(&payload),
                timestamp_ms: None,
                headers: &headers,
            };
            loop {
                match batch.send_record(&record) {
                    Ok(()) => break,
                    Err(SendError::QueueFull) => std::thread::sleep(QUEUE_PAUSE),
                    Err(error) => return Err(Failure::from_error(USAGE, &error)),
                }
            }
            self.sent += 1;
        }
        self.waiting.push(batch.finish());
        self.waiting.retain(|pending| !pending.is_done() || pending.wait(Duration::ZERO).is_err());
        Ok(())
    }

    /// Waits until all is acknowledged.
    fn settle(self) -> Result<(), Failure> {
        for pending in self.waiting {
            match pending.wait(ACKNOWLEDGE_MAX) {
                Ok(true) => {}
                Ok(false) => {
                    let left = self.producer.unacknowledged();
                    let text = format!(
                        "{left} of {} records were not acknowledged within {} s",
                        self.sent,
                        ACKNOWLEDGE_MAX.as_secs()
                    );
                    return Err(Failure::new(TRY_AGAIN, text));
                }
                Err(error) => return Err(failed(&error)),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_values_and_empty_lines_are_none() {
        let mut input = std::io::Cursor::new(b"one\r\n\ntwo".to_vec());
        assert_eq!(next_value(&mut input, false, 0).unwrap().unwrap(), b"one");
        assert_eq!(next_value(&mut input, false, 0).unwrap().unwrap(), b"two");
        assert!(next_value(&mut input, false, 0).unwrap().is_none());
        let mut input = std::io::Cursor::new(b"one\ntwo\n".to_vec());
        assert_eq!(next_value(&mut input, true, 0).unwrap().unwrap(), b"one\ntwo\n");
    }

    #[test]
    fn json_becomes_avro_in_the_framing_of_the_registry() {
        let schema = r#"{"type":"record","name":"R","fields":[{"name":"n","type":"long"},{"name":"t","type":["null","string"]}]}"#;
        let encoder = Encoder { id: 7, schema: AvroSchema::parse_str(schema).unwrap() };
        assert_eq!(encoder.encode(br#"{"n":1,"t":"a"}"#).unwrap(), [0, 0, 0, 0, 7, 2, 2, 2, b'a']);
        assert_eq!(encoder.encode(br#"{"n":1,"t":null}"#).unwrap(), [0, 0, 0, 0, 7, 2, 0]);
        assert!(encoder.encode(br#"{"n":"x","t":null}"#).unwrap_err().contains("fit the schema"));
        assert!(encoder.encode(b"{").unwrap_err().contains("not JSON"));
    }
}
