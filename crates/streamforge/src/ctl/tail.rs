//! `ctl tail`: the records of a topic, decoded as far as their schema is known.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use apache_avro::Schema as AvroSchema;
use apache_avro::reader::datum::GenericDatumReader;
use clap::{Args, ValueEnum};
use kafka::client::admin::{Admin, At, TopicDescription};
use kafka::client::{Consumer, Position, Record};
use model::{Clock, SystemClock, Timestamp};
use serde_json::{Map, Value, json};
use stream::{Schema, Schemas, avro, message};
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::table::clean;
use super::target::{Target, failed};
use super::{topics, when};
use crate::exit::{Failure, USAGE};
use crate::say;

/// Records asked for in one go.
const SLICE_RECORDS: usize = 1000;
/// How long one look waits for a record.
const LOOK: Duration = Duration::from_millis(500);
/// Without a record for this long, the end counts as reached: what lies before it is not for consumers.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// Bytes shown of a value that is neither Avro nor text.
const UNKNOWN_BYTES_SHOWN: usize = 200;

/// Options of `ctl tail`.
#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// Topic, for example telemetry.clean
    topic: String,
    /// Begin at the oldest record and end at the newest; without a beginning, new records are shown as they arrive
    #[arg(long, conflicts_with_all = ["from", "offset"])]
    from_beginning: bool,
    /// Begin at this time: RFC 3339, a date, or an age like 15m
    #[arg(long, value_name = "TIME", conflicts_with = "offset")]
    from: Option<String>,
    /// Begin at this offset; a negative one counts from the end of each partition
    #[arg(long, allow_hyphen_values = true)]
    offset: Option<i64>,
    /// Only this partition
    #[arg(long, short)]
    partition: Option<i32>,
    /// Only records with this key, for example an asset id
    #[arg(long, short)]
    key: Option<String>,
    /// Stop after this many records
    #[arg(long, short = 'n')]
    count: Option<usize>,
    /// Go on with new records after the newest
    #[arg(long, short)]
    follow: bool,
    /// How values are printed
    #[arg(long, value_enum, default_value_t = Format::Decoded)]
    format: Format,
    #[command(flatten)]
    target: Target,
}

/// How values are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Avro as JSON, text as text
    Decoded,
    /// The bytes and nothing else, each record ended by a line feed
    Raw,
    /// The bytes as hexadecimal digits
    Hex,
}

/// Runs the command.
pub(crate) fn tail(options: &Tail, runtime: &Handle) -> Result<(), Failure> {
    let mut admin = runtime.block_on(options.target.admin())?;
    let mut topic = runtime.block_on(topics::one(&mut admin, &options.topic))?;
    if let Some(chosen) = options.partition {
        let count = topic.partitions.len();
        topic.partitions.retain(|partition| partition.index == chosen);
        if topic.partitions.is_empty() {
            let text = format!("topic {} has no partition {chosen}; its {count} partitions begin at 0", topic.name);
            return Err(Failure::new(USAGE, text));
        }
    }
    let ends = runtime.block_on(places(&mut admin, &topic, At::Latest))?;
    let begin = runtime.block_on(begin(&mut admin, &topic, options, &ends))?;
    let ending = begin != ends && !options.follow;
    let consumer = Consumer::open(&options.target.settings(), "sf-ctl-tail").map_err(|error| failed(&error))?;
    let position = |(partition, offset): (&i32, &i64)| Position {
        topic: topic.name.clone(),
        partition: *partition,
        offset: *offset,
        metadata: String::new(),
    };
    let mut printer = Printer::new(options, runtime);
    let mut left = options.count.unwrap_or(usize::MAX);
    let mut next = begin;
    let whole = (options.from_beginning || options.from.is_some() || options.offset.is_some()) && !options.follow;
    if whole && !ending {
        return Ok(()); // there is nothing between the beginning and the end
    }
    // partitions that are read to their end already are not asked for
    let wanted = |(partition, offset): &(&i32, &i64)| !ending || ends.get(partition).is_some_and(|end| end > *offset);
    let assigned: Vec<Position> = next.iter().filter(wanted).map(position).collect();
    consumer.assign(&assigned).map_err(|error| failed(&error))?;
    let mut heard = Instant::now();
    while left > 0 {
        let mut shown = 0;
        let polled = consumer.poll(SLICE_RECORDS, LOOK, Duration::ZERO, |record| {
            next.insert(record.partition(), record.offset() + 1);
            let late = ending && ends.get(&record.partition()).is_some_and(|end| record.offset() >= *end);
            if shown < left && !late && printer.wants(&record) {
                printer.print(&record);
                shown += 1;
            }
        });
        left -= shown;
        if polled.map_err(|error| failed(&error))? > 0 {
            heard = Instant::now();
        }
        let reached = ends.iter().all(|(partition, end)| next.get(partition).is_none_or(|next| next >= end));
        if ending && (reached || heard.elapsed() > SILENCE_MAX) {
            break;
        }
    }
    Ok(())
}

/// Offsets of a place by partition.
async fn places(admin: &mut Admin, topic: &TopicDescription, at: At) -> Result<BTreeMap<i32, i64>, Failure> {
    let found = admin.offsets(std::slice::from_ref(topic), at).await.map_err(|error| failed(&error))?;
    Ok(found.into_iter().filter_map(|found| Some((found.partition, found.offset?))).collect())
}

/// Where to begin, by partition.
async fn begin(
    admin: &mut Admin,
    topic: &TopicDescription,
    options: &Tail,
    ends: &BTreeMap<i32, i64>,
) -> Result<BTreeMap<i32, i64>, Failure> {
    let mut begin = ends.clone();
    if options.from_beginning {
        begin.extend(places(admin, topic, At::Earliest).await?);
    } else if let Some(text) = &options.from {
        let wrong = || Failure::new(USAGE, format!("--from {text}: this is not a time; write {}", when::FORMS));
        let time = when::parse(text, SystemClock.now()).ok_or_else(wrong)?;
        // a partition without a record that new begins at its end
        begin.extend(places(admin, topic, At::Time(time.as_millis())).await?);
    } else if let Some(offset) = options.offset {
        let starts = places(admin, topic, At::Earliest).await?;
        for (partition, end) in ends {
            let start = starts.get(partition).copied().unwrap_or(0);
            let wanted = if offset < 0 { end + offset } else { offset };
            begin.insert(*partition, wanted.clamp(start, (*end).max(start)));
        }
    }
    Ok(begin)
}

/// What a schema id stands for.
enum Known {
    /// One of the gateway's contracts.
    Contract(Schema),
    /// Somebody else's schema.
    Foreign(Box<AvroSchema>),
    /// The registry does not know it, or it is not Avro.
    Unknown,
}

/// Decodes and prints.
struct Printer<'a> {
    options: &'a Tail,
    runtime: &'a Handle,
    schemas: Schemas,
    known: HashMap<i32, Known>,
}

impl<'a> Printer<'a> {
    fn new(options: &'a Tail, runtime: &'a Handle) -> Self {
        let schemas = Schemas::new(&options.target.registry(), None);
        Self { options, runtime, schemas, known: HashMap::new() }
    }

    fn wants(&self, record: &Record<'_>) -> bool {
        self.options.key.as_ref().is_none_or(|key| record.key() == key.as_bytes())
    }

    fn print(&mut self, record: &Record<'_>) {
        let payload = record.payload();
        if self.options.format == Format::Raw && !self.options.target.json {
            say::bytes(&[payload.unwrap_or_default(), b"\n"].concat());
            return;
        }
        let value = match (payload, self.options.format) {
            (None, _) => Value::Null,
            (Some(bytes), Format::Decoded) => self.decode(bytes).unwrap_or_else(|| undecoded(bytes)),
            (Some(bytes), Format::Raw) => json!(String::from_utf8_lossy(bytes)),
            (Some(bytes), Format::Hex) => json!(hex(bytes)),
        };
        if !self.options.target.json {
            let body = match (&value, self.options.format) {
                (Value::String(text), Format::Hex) => text.clone(),
                (Value::String(text), _) => clean(text),
                _ => value.to_string(),
            };
            say::line(&format!("{}/{} {body}", record.partition(), record.offset()));
            return;
        }
        let time = Some(record.timestamp_ms()).filter(|ms| *ms >= 0).map(|ms| Timestamp::from_millis(ms).to_string());
        let headers: Map<String, Value> =
            record.headers().map(|(name, value)| (name.to_owned(), json!(String::from_utf8_lossy(value)))).collect();
        let line = json!({
            "topic": record.topic(),
            "partition": record.partition(),
            "offset": record.offset(),
            "timestamp": time,
            "key": String::from_utf8_lossy(record.key()),
            "headers": headers,
            "value": value,
        });
        say::line(&line.to_string());
    }

    /// Avro in Confluent framing as JSON.
    fn decode(&mut self, payload: &[u8]) -> Option<Value> {
        let (id, mut body) = avro::unframe(payload).ok()?;
        let (schemas, runtime) = (&self.schemas, self.runtime);
        match self.known.entry(id).or_insert_with(|| runtime.block_on(look_up(schemas, id))) {
            Known::Contract(schema) => message::json::any(*schema, body),
            Known::Foreign(schema) => {
                let reader = GenericDatumReader::builder(schema).build().ok()?;
                Value::try_from(reader.read_value(&mut body).ok()?).ok()
            }
            Known::Unknown => None,
        }
    }
}

async fn look_up(schemas: &Schemas, id: i32) -> Known {
    if let Ok(schema) = schemas.by_id(id).await {
        return Known::Contract(schema);
    }
    let Ok(text) = schemas.text(id).await else { return Known::Unknown };
    AvroSchema::parse_str(&text).map_or(Known::Unknown, |schema| Known::Foreign(Box::new(schema)))
}

/// What is not Avro: text as it is, other bytes by their beginning.
fn undecoded(bytes: &[u8]) -> Value {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return serde_json::from_str(text).unwrap_or_else(|_| json!(text));
    }
    let shown = &bytes[..bytes.len().min(UNKNOWN_BYTES_SHOWN)];
    json!({ "undecoded_bytes": bytes.len(), "hex": hex(shown) })
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_avro_is_shown_for_what_it_is() {
        assert_eq!(undecoded(b"{\"a\":1}"), json!({ "a": 1 }));
        assert_eq!(undecoded(b"plain"), json!("plain"));
        assert_eq!(undecoded(&[0xff, 0x00]), json!({ "undecoded_bytes": 2, "hex": "ff00" }));
    }
}
