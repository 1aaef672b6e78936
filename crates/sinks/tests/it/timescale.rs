//! The `timescale` sink against a real PostgreSQL server; switched on by `SF_TEST_EXTERNAL=1`.

use model::{Aggregate, Quality, Resolution, Statistics, TextList, TextMap, Timestamp, Value, ValueType};
use serde_json::json;
use sinks::batch::{Batch, Place};
use sinks::error::TargetError;
use sinks::sink::{Outcome, Refusal, Resume, Sink};
use sinks::timescale::{TimescaleSink, config};
use stream::Topic;
use stream::message::{Event, aggregate};
use testkit::postgres::Postgres;

use crate::conformance::{self, Bench};
use crate::support::{BEGIN_MS, MemoryLetters, MemoryStream, Running, eventually, payload, postgres, publish, reading};

const TOPICS: [Topic; 1] = [Topic::TelemetryClean];

struct Database {
    server: Postgres,
    batch_max_rows: u32,
}

impl Database {
    fn new(test: &str) -> Option<Self> {
        Some(Self { server: postgres(test)?, batch_max_rows: 20_000 })
    }

    fn psql(&self, sql: &str) -> String {
        self.server.psql("postgres", sql).unwrap()
    }

    fn sink_for(&self, topics: &[&str]) -> TimescaleSink {
        let settings = json!({
            "sink_id": "db", "sink_type": "timescale", "url": self.server.url("postgres"), "topics": topics,
            "batch_max_rows": self.batch_max_rows,
        });
        TimescaleSink::new(config::plan(&settings, "").unwrap(), None)
    }

    /// Connects and writes everything that is unread.
    async fn deliver(&self, sink: &mut TimescaleSink, stream: &mut MemoryStream, topics: &[Topic]) -> Outcome {
        let resume = sink.connect(topics).await.unwrap();
        sink.write(&stream.batch_from(&resume)).await.unwrap()
    }
}

impl Bench for Database {
    type Sink = TimescaleSink;

    fn sink(&self) -> TimescaleSink {
        self.sink_for(&["telemetry.clean"])
    }

    fn seqs(&self) -> Vec<i64> {
        let sql = "SELECT CASE WHEN to_regclass('telemetry') IS NULL THEN '' ELSE \
                   (SELECT coalesce(string_agg(seq::text, ',' ORDER BY seq), '') FROM telemetry) END";
        let exists = self.psql("SELECT to_regclass('telemetry') IS NOT NULL") == "t";
        let text = if exists { self.psql(sql) } else { String::new() };
        text.split(',').filter(|part| !part.is_empty()).map(|part| part.parse().unwrap()).collect()
    }

    fn clear(&mut self) {
        self.psql("TRUNCATE telemetry, sf_sink_offsets");
    }
}

fn refused(outcome: Outcome) -> Vec<Refusal> {
    match outcome {
        Outcome::Refused(refusals) => refusals,
        Outcome::Taken { .. } => panic!("nothing was refused"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_laws_of_a_sink() {
    let Some(mut database) = Database::new("keeps_the_laws_of_a_sink") else { return };
    conformance::all(&mut database).await;
}

// Integers are exact, every kind of value has its column, codes and flags are arrays.
#[tokio::test]
async fn values_arrive_as_they_are() {
    let Some(database) = Database::new("values_arrive_as_they_are") else { return };
    let mut stream = MemoryStream::default();
    let values = [
        (Value::Float(-0.1), ValueType::Float),
        (Value::Int(9_007_199_254_740_993), ValueType::Int),
        (Value::Bool(true), ValueType::Bool),
        (Value::Text("läuft 'n' \"t\""), ValueType::String),
        (Value::Null, ValueType::Float),
    ];
    for (seq, (value, value_type)) in (0..).zip(values) {
        let mut reading = reading(seq);
        (reading.value, reading.value_type) = (value, value_type);
        if value.is_null() {
            reading.quality = Quality::Suspect;
            reading.quality_reason = Some("RANGE_SOFT");
            reading.reasons = TextList::Slice(&["RANGE_SOFT", "SPIKE"]);
            reading.flags = TextList::Slice(&["late"]);
            reading.clock_skew_ms = Some(-7);
        }
        stream.append(TOPICS[0], 0, payload(&reading));
    }
    database.deliver(&mut database.sink(), &mut stream, &TOPICS).await;
    let rows = database.psql(
        "SELECT seq, value, value_int, value_bool, value_text, quality, quality_reason, reasons, flags, clock_skew_ms \
         FROM telemetry ORDER BY seq",
    );
    assert_eq!(
        rows,
        "0|-0.1||||GOOD||||\n1|9.007199254740992e+15|9007199254740993|||GOOD||||\n2|||t||GOOD||||\n\
         3||||läuft 'n' \"t\"|GOOD||||\n4|||||SUSPECT|RANGE_SOFT|{RANGE_SOFT,SPIKE}|{late}|-7"
    );
    let first = database.psql(
        "SELECT to_char(time AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US'), asset_id, parameter, unit, asset_path, \
         time_source, adapter_id, gateway_id, epoch FROM telemetry WHERE seq = 0",
    );
    assert_eq!(first, "2026-01-29T10:00:00.000000|press_1|pressure|bar|plant/north/line_1|ACQUISITION|modbus_1|gw-1|3");
}

// REC-16, REC-17: the same key again, in one batch and in a later one; the later gateway time wins, whatever comes last.
#[tokio::test]
async fn of_two_readings_with_one_key_the_later_wins() {
    let Some(database) = Database::new("of_two_readings_with_one_key_the_later_wins") else { return };
    let mut stream = MemoryStream::default();
    let mut sink = database.sink();
    let put = |seq: i64, gateway_ms: i64, value: f64| {
        let mut same = reading(seq);
        same.device_time = Timestamp::from_millis(BEGIN_MS);
        same.gateway_time = Timestamp::from_millis(BEGIN_MS + gateway_ms);
        same.value = Value::Float(value);
        stream.append(TOPICS[0], 0, payload(&same));
    };
    put(0, 10, 1.0);
    put(1, 30, 3.0);
    put(2, 20, 2.0);
    let taken = database.deliver(&mut sink, &mut stream, &TOPICS).await;
    assert!(matches!(taken, Outcome::Taken { .. }));
    assert_eq!(database.psql("SELECT value, seq FROM telemetry"), "3|1");
    let put = |seq: i64, gateway_ms: i64, value: f64| {
        let mut same = reading(seq);
        same.device_time = Timestamp::from_millis(BEGIN_MS);
        same.gateway_time = Timestamp::from_millis(BEGIN_MS + gateway_ms);
        same.value = Value::Float(value);
        stream.append(TOPICS[0], 0, payload(&same));
    };
    put(3, 25, 2.5);
    database.deliver(&mut sink, &mut stream, &TOPICS).await;
    assert_eq!(database.psql("SELECT value, seq FROM telemetry"), "3|1", "an older one changes nothing");
    let mut last = reading(4);
    last.device_time = Timestamp::from_millis(BEGIN_MS);
    last.gateway_time = Timestamp::from_millis(BEGIN_MS + 40);
    stream.append(TOPICS[0], 0, payload(&last));
    database.deliver(&mut sink, &mut stream, &TOPICS).await;
    assert_eq!(database.psql("SELECT value, seq FROM telemetry"), "1.5|4");
    assert_eq!(database.psql("SELECT next_offset FROM sf_sink_offsets WHERE next_offset IS NOT NULL"), "5");
}

// R-09, F19, AC-100: rows the database refuses are found by halving, whatever the reason; the rest is written once.
#[tokio::test]
async fn rows_the_database_refuses_are_isolated() {
    let Some(database) = Database::new("rows_the_database_refuses_are_isolated") else { return };
    let mut stream = MemoryStream::default();
    let mut sink = database.sink();
    sink.connect(&TOPICS).await.unwrap();
    database.psql("ALTER TABLE telemetry ADD CONSTRAINT plausible CHECK (value < 100)");
    let mut poison = Vec::new();
    for seq in 0..5000 {
        let mut reading = reading(seq);
        match seq {
            0 | 1234 | 4999 => reading.value = Value::Float(1000.0),
            77 => reading.value_label = Some("nul \0 inside"),
            78 => reading.device_time = Timestamp::from_micros(i64::MIN),
            _ => {}
        }
        if [0, 77, 78, 1234, 4999].contains(&seq) {
            poison.push(usize::try_from(seq).unwrap());
        }
        stream.append(TOPICS[0], 0, payload(&reading));
    }
    let resume = sink.connect(&TOPICS).await.unwrap();
    let mut batch = stream.batch_from(&resume);
    let refusals = refused(sink.write(&batch).await.unwrap());
    let indexes: Vec<usize> = refusals.iter().map(|refusal| refusal.index).collect();
    assert_eq!(indexes, poison);
    assert!(refusals[0].detail.contains("plausible") && refusals[0].detail.contains("23514"), "{}", refusals[0].detail);
    assert!(refusals[1].detail.contains("22021"), "{}", refusals[1].detail);
    assert_eq!(database.psql("SELECT count(*) FROM telemetry"), "0");
    for refusal in &refusals {
        batch.exclude(refusal.index);
    }
    assert!(matches!(sink.write(&batch).await.unwrap(), Outcome::Taken { .. }));
    assert_eq!(database.psql("SELECT count(*) FROM telemetry"), "4995");
    assert_eq!(database.psql("SELECT next_offset FROM sf_sink_offsets WHERE next_offset IS NOT NULL"), "5000");
}

fn window(seq: i64, revision: i64, sum: f64) -> Vec<u8> {
    let start = Timestamp::from_millis(BEGIN_MS + seq * 1000);
    let at = start.plus_micros(5);
    let statistics = Statistics {
        count: 2,
        sum,
        mean: sum / 2.0,
        m2: 0.0,
        min: 1.0,
        min_time: at,
        max: 2.0,
        max_time: at,
        first: 1.0,
        first_time: at,
        last: 2.0,
        last_time: at,
        good_count: 2,
        suspect_count: 0,
        uncertain_count: 0,
    };
    let window = Aggregate {
        unit: Some("bar"),
        revision,
        gateway_time: start.plus_micros(2_000_000),
        gateway_id: "gw-1",
        ..aggregate::plain(("press_1", "pressure"), Resolution::Second, start, statistics)
    };
    let mut out = Vec::new();
    aggregate::encode(&mut out, 3, &window);
    out
}

// AGG-06, AGG-09: sinks upsert where the revision is not lower.
#[tokio::test]
async fn a_corrected_window_replaces_and_an_older_one_does_not() {
    let Some(database) = Database::new("a_corrected_window_replaces_and_an_older_one_does_not") else { return };
    let topics = [Topic::Telemetry1s];
    let mut stream = MemoryStream::default();
    let mut sink = database.sink_for(&["telemetry.1s"]);
    for payload in [window(0, 1, 3.0), window(1, 1, 3.0), window(0, 2, 4.0)] {
        stream.append(topics[0], 0, payload);
    }
    database.deliver(&mut sink, &mut stream, &topics).await;
    let rows = || database.psql("SELECT revision, sum FROM telemetry_1s ORDER BY time");
    assert_eq!(rows(), "2|4\n1|3");
    stream.append(topics[0], 0, window(0, 1, 3.0)); // a replay after a restart
    stream.append(topics[0], 0, window(1, 1, 5.0)); // recomputed with the same revision
    database.deliver(&mut sink, &mut stream, &topics).await;
    assert_eq!(rows(), "2|4\n1|5");
}

// Tables made by an earlier version get the columns they lack; their rows stay.
#[tokio::test]
async fn missing_columns_are_added() {
    let Some(database) = Database::new("missing_columns_are_added") else { return };
    let topics = [Topic::Telemetry1s];
    let mut stream = MemoryStream::default();
    let mut sink = database.sink_for(&["telemetry.1s"]);
    stream.append(topics[0], 0, window(0, 1, 3.0));
    database.deliver(&mut sink, &mut stream, &topics).await;
    database.psql("ALTER TABLE telemetry_1s DROP COLUMN kind, DROP COLUMN ms_by_state, DROP COLUMN partial");
    stream.append(topics[0], 0, window(1, 1, 4.0));
    let mut sink = database.sink_for(&["telemetry.1s"]);
    database.deliver(&mut sink, &mut stream, &topics).await;
    assert_eq!(database.psql("SELECT sum, kind, partial FROM telemetry_1s ORDER BY time"), "3||\n4|value|f");
}

fn quality_event(seq: i64, quality: Quality) -> Vec<u8> {
    let event_id = format!("e{seq}");
    let event = Event {
        event_id: &event_id,
        event_type: "point.quality",
        asset_id: "press_1",
        parameter: Some("pressure"),
        from_state: Some("GOOD"),
        to_state: Some(quality.as_str()),
        severity: None,
        time_source: model::time_source::GATEWAY,
        occurred_after: Some(Timestamp::from_millis(BEGIN_MS)),
        edge: None,
        initial: false,
        missed_window: false,
        message: "unit 1 silent",
        value: Value::Null,
        unit: Some("bar"),
        quality,
        quality_reason: Some("TIMEOUT"),
        device_time: Timestamp::from_millis(BEGIN_MS + seq),
        gateway_time: Timestamp::from_millis(BEGIN_MS + seq),
        epoch: 1,
        seq,
        flags: TextList::default(),
        metadata: TextMap::Slice(&[("gateway_id", "gw-1"), ("adapter_id", "modbus_1")]),
        details: TextMap::Slice(&[("why", "no \"answer\"")]),
    };
    let mut out = Vec::new();
    event.encode(&mut out, 2);
    out
}

// a historian sees a lost signal as a row without value, not as a silent gap.
#[tokio::test]
async fn an_event_becomes_a_row_and_a_lost_point_one_among_the_readings() {
    let Some(database) = Database::new("an_event_becomes_a_row_and_a_lost_point_one_among_the_readings") else {
        return;
    };
    let topics = [Topic::TelemetryClean, Topic::EventsClean];
    let mut stream = MemoryStream::default();
    publish(&stream, 0..3);
    stream.append(topics[1], 0, quality_event(10, Quality::Bad));
    stream.append(topics[1], 0, quality_event(11, Quality::Good));
    let mut sink = database.sink_for(&["telemetry.clean", "events.clean"]);
    database.deliver(&mut sink, &mut stream, &topics).await;
    let events =
        "SELECT event_id, from_state, to_state, message, details->>'why', adapter_id FROM events ORDER BY time";
    assert_eq!(
        database.psql(events),
        "e10|GOOD|BAD|unit 1 silent|no \"answer\"|modbus_1\ne11|GOOD|GOOD|unit 1 silent|no \"answer\"|modbus_1"
    );
    let lost = "SELECT value, quality, quality_reason, reasons, unit, adapter_id FROM telemetry WHERE value IS NULL";
    assert_eq!(database.psql(lost), "|BAD|TIMEOUT|{TIMEOUT}|bar|modbus_1");
    assert_eq!(database.psql("SELECT count(*) FROM telemetry"), "4");
}

// I4: a process that wakes up after its successor took over cannot commit.
#[tokio::test]
async fn a_zombie_is_fenced() {
    let Some(database) = Database::new("a_zombie_is_fenced") else { return };
    let mut stream = MemoryStream::default();
    publish(&stream, 0..9);
    let mut old = database.sink();
    let resume = old.connect(&TOPICS).await.unwrap();
    let in_hand = stream.batch_from(&resume);
    let mut new = database.sink();
    database.deliver(&mut new, &mut stream, &TOPICS).await;
    publish(&stream, 9..12);
    let error = old.write(&in_hand).await.unwrap_err();
    assert!(matches!(error, TargetError::Fenced { .. }), "{error}");
    let rest = stream.batch_from(&Resume::At(in_hand.ends().to_vec()));
    let error = old.write(&rest).await.unwrap_err();
    assert!(matches!(error, TargetError::Fenced { .. }), "also where its rows would not collide: {error}");
    assert_eq!(database.seqs(), (0..9).collect::<Vec<_>>());
    database.deliver(&mut new, &mut stream, &TOPICS).await;
    assert_eq!(database.seqs(), (0..12).collect::<Vec<_>>());
}

// F4, F19, OFF-13: the server dies and comes back while the host writes; every row is there once.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_the_server_loses_nothing_and_doubles_nothing() {
    let Some(mut database) = Database::new("a_crash_of_the_server_loses_nothing_and_doubles_nothing") else { return };
    database.batch_max_rows = 500;
    let stream = MemoryStream::default();
    let running = Running::start(database.sink(), stream.clone(), MemoryLetters::default());
    publish(&stream, 0..20_000);
    eventually("the first rows", || running.health()["written_records"].as_u64() > Some(0));
    database.server.stop(true).unwrap();
    publish(&stream, 20_000..25_000);
    eventually("noticing", || running.health()["status"] != "healthy");
    database.server.start_again().unwrap();
    eventually("all rows", || running.health()["lag_records"] == 0 && running.health()["status"] == "healthy");
    running.stop().unwrap();
    assert_eq!(database.seqs(), (0..25_000).collect::<Vec<_>>());
}

// F19: a deadlock or a killed connection is the target's trouble, not the row's.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_connection_is_retried_not_buried() {
    let Some(database) = Database::new("a_killed_connection_is_retried_not_buried") else { return };
    let stream = MemoryStream::default();
    let letters = MemoryLetters::default();
    let running = Running::start(database.sink(), stream.clone(), letters.clone());
    for round in 0..5 {
        publish(&stream, round * 100..(round + 1) * 100);
        eventually("rows", || database.seqs().len() == usize::try_from((round + 1) * 100).unwrap());
        database
            .psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'streamforge%'");
    }
    running.stop().unwrap();
    assert!(letters.all().is_empty());
    assert_eq!(database.seqs(), (0..500).collect::<Vec<_>>());
}

// A user that may write but not create works on tables somebody else made; no table is a clear message.
#[tokio::test]
async fn tables_made_by_somebody_else_are_used() {
    let Some(database) = Database::new("tables_made_by_somebody_else_are_used") else { return };
    database.psql("CREATE ROLE writer LOGIN");
    let url = database.server.url("postgres").replace("postgres@", "writer@");
    let settings = json!({"sink_id": "db", "sink_type": "timescale", "url": url, "topics": ["telemetry.clean"]});
    let mut sink = TimescaleSink::new(config::plan(&settings, "").unwrap(), None);
    let error = sink.connect(&TOPICS).await.unwrap_err();
    assert!(daemon::report(&error).contains("permission denied"), "{}", daemon::report(&error));
    database.sink().connect(&TOPICS).await.unwrap();
    database.psql("GRANT SELECT, INSERT, UPDATE ON telemetry, sf_sink_offsets TO writer");
    let mut stream = MemoryStream::default();
    publish(&stream, 0..3);
    let resume = sink.connect(&TOPICS).await.unwrap();
    sink.write(&stream.batch_from(&resume)).await.unwrap();
    assert_eq!(database.seqs(), [0, 1, 2]);
    let details = sink.standing().details;
    assert!(details.contains(&("layout", json!("plain"))), "{details:?}");
}

// A restored or emptied database decides: its positions count, not the group's.
#[tokio::test]
async fn positions_come_from_the_database() {
    let Some(database) = Database::new("positions_come_from_the_database") else { return };
    let mut sink = database.sink();
    assert_eq!(sink.connect(&TOPICS).await.unwrap(), Resume::At(Vec::new()));
    let mut batch = Batch::new();
    batch.push(Place { topic: TOPICS[0], partition: 4, offset: 41 }, BEGIN_MS, b"k", &payload(&reading(0)));
    sink.write(&batch).await.unwrap();
    let mut again = database.sink();
    let place = Place { topic: TOPICS[0], partition: 4, offset: 42 };
    assert_eq!(again.connect(&TOPICS).await.unwrap(), Resume::At(vec![place]));
    assert_eq!(database.psql("SELECT DISTINCT epoch FROM sf_sink_offsets WHERE sink_id = 'db'"), "2");
}
