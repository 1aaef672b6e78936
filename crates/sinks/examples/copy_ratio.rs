//! B11: rows per second of the sink against a hand-written `COPY` of the same rows, in one run.
//!
//! Both sides write the same rows into tables of the same shape with the same transactions; the hand-written side is the
//! driver's own binary writer with one transaction per batch and no positions. Slices alternate in random order, the
//! result is the median of the paired ratios with its quartiles. Needs `SF_TEST_EXTERNAL=1` and PostgreSQL's binaries.
//!
//! ```text
//! SF_TEST_EXTERNAL=1 cargo run --release -p sinks --example copy_ratio [rows per batch] [pairs]
//! ```

use std::pin::pin;
use std::time::Duration;

use model::{Classification, Quality, Reading, TextList, TextMap, Timestamp, Value, ValueType};
use serde_json::json;
use sinks::batch::{Batch, Place};
use sinks::sink::{Outcome, Sink};
use sinks::timescale::{TimescaleSink, config, schema};
use stream::Topic;
use stream::message::telemetry;
use testkit::postgres::Postgres;
use tokio::time::Instant;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, NoTls};

const ASSETS: usize = 50;
const PARAMETERS: usize = 10;

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let rows: i64 = arguments.next().map_or(Ok(20_000), |text| text.parse())?;
    let pairs: usize = arguments.next().map_or(Ok(15), |text| text.parse())?;
    let server = Postgres::start()?;
    let settings = json!({"sink_id": "b11", "sink_type": "timescale", "url": server.url("postgres"), "topics": ["telemetry.clean"]});
    let plan = config::plan(&settings, "").map_err(|problems| format!("{problems:?}"))?;
    let mut sink = TimescaleSink::new(plan, None);
    sink.connect(&[Topic::TelemetryClean]).await?;
    let (client, connection) = tokio_postgres::connect(&server.url("postgres"), NoTls).await?;
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(connection);
    client.batch_execute("CREATE SCHEMA by_hand").await?;
    client.batch_execute(&schema::TELEMETRY.create("by_hand")).await?;

    let mut seq = 0;
    let mut ratios = Vec::new();
    let mut rates = Vec::new();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for pair in 0..pairs + 3 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let sink_first = random >> 63 == 0;
        let batch = batch(seq, rows);
        seq += rows;
        let (ours, theirs) = if sink_first {
            let ours = by_sink(&mut sink, &batch).await?;
            (ours, by_hand(&client, &batch).await?)
        } else {
            let theirs = by_hand(&client, &batch).await?;
            (by_sink(&mut sink, &batch).await?, theirs)
        };
        if pair >= 3 {
            ratios.push(theirs.as_secs_f64() / ours.as_secs_f64());
            rates.push((rate(rows, ours), rate(rows, theirs)));
        }
    }
    let written: i64 = client.query_one("SELECT count(*) FROM public.telemetry", &[]).await?.get(0);
    assert_eq!(written, seq, "counted at the far end");
    ratios.sort_by(f64::total_cmp);
    let at = |part: usize| ratios[ratios.len() * part / 100];
    rates.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (ours, theirs) = rates[rates.len() / 2];
    report(&format!(
        "rows per batch {rows}, pairs {pairs}, sink about {ours:.0} rows/s, by hand about {theirs:.0} rows/s\n\
         ratio sink / by hand: median {:.3} (quartiles {:.3} to {:.3})",
        at(50),
        at(25),
        at(75)
    ));
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the output of this program is its result")]
fn report(text: &str) {
    println!("{text}");
}

#[expect(clippy::cast_precision_loss, reason = "a number for people")]
fn rate(rows: i64, time: Duration) -> f64 {
    rows as f64 / time.as_secs_f64()
}

/// Readings of 500 points, as the stream carries them.
fn batch(begin: i64, rows: i64) -> Batch {
    let assets: Vec<String> = (0..ASSETS).map(|i| format!("line_1_machine_{i:02}")).collect();
    let parameters: Vec<String> = (0..PARAMETERS).map(|i| format!("temperature_{i}")).collect();
    let points = i64::try_from(ASSETS * PARAMETERS).unwrap_or(1);
    let mut batch = Batch::new();
    let mut payload = Vec::new();
    for seq in begin..begin + rows {
        let point = usize::try_from(seq % points).unwrap_or(0);
        let time = Timestamp::from_millis(1_769_680_800_000 + seq / points * 1000);
        let asset = &assets[point / PARAMETERS];
        let reading = Reading {
            asset_id: asset,
            asset_path: None,
            parameter: &parameters[point % PARAMETERS],
            value: Value::Float(20.0 + f64::from(i32::try_from(seq % 1000).unwrap_or(0)) / 7.0),
            value_type: ValueType::Float,
            value_label: None,
            unit: Some("degC"),
            quality: Quality::Good,
            quality_reason: None,
            reasons: TextList::default(),
            classification: Classification::Telemetry,
            device_time: time,
            gateway_time: time.plus_micros(1234),
            time_source: "ACQUISITION",
            clock_state: "SYNCED",
            clock_skew_ms: None,
            epoch: 1,
            seq,
            flags: TextList::default(),
            metadata: TextMap::Slice(&[
                ("gateway_id", "gw-1"),
                ("adapter_id", "modbus_1"),
                ("source_ref", "u=1;fc=3;a=0"),
            ]),
            tags: TextMap::default(),
        };
        payload.clear();
        telemetry::encode(&mut payload, 1, &reading);
        let partition = i32::try_from(seq % 12).unwrap_or(0);
        let place = Place { topic: Topic::TelemetryClean, partition, offset: seq / 12 };
        batch.push(place, time.as_millis(), asset.as_bytes(), &payload);
    }
    batch
}

async fn by_sink(sink: &mut TimescaleSink, batch: &Batch) -> Result<Duration, Failure> {
    let begin = Instant::now();
    let outcome = sink.write(batch).await?;
    assert!(matches!(outcome, Outcome::Taken { .. }));
    Ok(begin.elapsed())
}

/// What one writes by hand with the driver: decoded rows in memory, the driver's binary writer, one transaction.
async fn by_hand(client: &Client, batch: &Batch) -> Result<Duration, Failure> {
    const TYPES: [Type; 21] = [
        Type::INT8, // the driver has no timestamps without another crate; microseconds since 2000 are the same bytes
        Type::TEXT,
        Type::TEXT,
        Type::FLOAT8,
        Type::INT8,
        Type::BOOL,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::INT8,
        Type::TEXT,
        Type::INT8,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::INT8,
        Type::INT8,
    ];
    let mut decoded = Vec::new();
    for (_, record) in batch.iter() {
        let (_, body) = stream::avro::unframe(record.payload)?;
        decoded.push(telemetry::decode(body)?);
    }
    let begin = Instant::now();
    client.batch_execute("BEGIN").await?;
    let copy = client.copy_in(&schema::TELEMETRY.copy("by_hand")).await?;
    let mut writer = pin!(BinaryCopyInWriter::new(copy, &TYPES));
    for reading in &decoded {
        let time = reading.device_time.micros_since(Timestamp::YEAR_2000);
        let gateway_time = reading.gateway_time.micros_since(Timestamp::YEAR_2000);
        let (no_int, no_bool, no_text, no_texts) = (None::<i64>, None::<bool>, None::<&str>, None::<Vec<String>>);
        let row: [&(dyn ToSql + Sync); 21] = [
            &time,
            &reading.asset_id,
            &reading.parameter,
            &reading.value.as_number(),
            &no_int,
            &no_bool,
            &no_text,
            &reading.value_label,
            &reading.unit,
            &reading.quality.as_str(),
            &reading.quality_reason,
            &no_texts,
            &no_texts,
            &gateway_time,
            &reading.time_source,
            &reading.clock_skew_ms,
            &reading.asset_path,
            &"modbus_1",
            &"gw-1",
            &reading.epoch,
            &reading.seq,
        ];
        writer.as_mut().write(&row).await?;
    }
    writer.finish().await?;
    client.batch_execute("COMMIT").await?;
    Ok(begin.elapsed())
}
