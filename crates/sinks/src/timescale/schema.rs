//! The tables of this sink and all SQL about them. Pure text; [`super::sink`] runs it.
//!
//! The order of columns here is the order of fields in [`super::rows`]; a test holds the two together.

use stream::{Schema, Topic};

/// A column.
#[derive(Debug)]
pub struct Column {
    pub name: &'static str,
    /// Type and constraints.
    pub sql: &'static str,
}

const fn column(name: &'static str, sql: &'static str) -> Column {
    Column { name, sql }
}

/// A table.
#[derive(Debug)]
pub struct Table {
    pub name: &'static str,
    pub columns: &'static [Column],
    /// Unique; contains `time`, in the order that serves questions about one tag over time.
    pub key: &'static [&'static str],
    /// Which of two rows with the same key is later.
    pub newest: &'static [&'static str],
    /// Whether a row replaces one that is as new (`>=`) or only an older one (`>`).
    pub replaces_equal: bool,
    /// Further indexes.
    pub indexes: &'static [&'static [&'static str]],
}

// Names compare as bytes: they are ASCII by their grammar, and an index on them is several times quicker so.
const NAME: &str = "text COLLATE \"C\" NOT NULL";
const TIME: &str = "timestamptz NOT NULL";

/// Readings.
pub static TELEMETRY: Table = Table {
    name: "telemetry",
    columns: &[
        column("time", TIME),
        column("asset_id", NAME),
        column("parameter", NAME),
        column("value", "double precision"),
        column("value_int", "bigint"),
        column("value_bool", "boolean"),
        column("value_text", "text"),
        column("value_label", "text"),
        column("unit", "text"),
        column("quality", "text NOT NULL"),
        column("quality_reason", "text"),
        column("reasons", "text[]"),
        column("flags", "text[]"),
        column("gateway_time", TIME),
        column("time_source", "text"),
        column("clock_skew_ms", "bigint"),
        column("asset_path", "text"),
        column("adapter_id", NAME),
        column("gateway_id", NAME),
        column("epoch", "bigint NOT NULL"),
        column("seq", "bigint NOT NULL"),
    ],
    key: &["asset_id", "parameter", "time", "adapter_id"],
    newest: &["gateway_time", "epoch", "seq"],
    replaces_equal: false, // the same reading again changes nothing
    indexes: &[],
};

const AGGREGATE_COLUMNS: &[Column] = &[
    column("time", TIME),
    column("asset_id", NAME),
    column("parameter", NAME),
    column("avg", "double precision"),
    column("min", "double precision"),
    column("max", "double precision"),
    column("sum", "double precision"),
    column("count", "bigint NOT NULL"),
    column("m2", "double precision"),
    column("min_time", "timestamptz"),
    column("max_time", "timestamptz"),
    column("first", "double precision"),
    column("first_time", "timestamptz"),
    column("last", "double precision"),
    column("last_time", "timestamptz"),
    column("good_count", "bigint"),
    column("suspect_count", "bigint"),
    column("uncertain_count", "bigint"),
    column("unit", "text"),
    column("quality", "text NOT NULL"),
    column("revision", "bigint NOT NULL"),
    column("window_end", TIME),
    column("gateway_time", TIME),
    column("gateway_id", NAME),
    column("kind", "text"),
    column("avg_method", "text"),
    column("stddev", "double precision"),
    column("tw_integral", "double precision"),
    column("covered_ms", "bigint"),
    column("good_ms", "bigint"),
    column("percent_good", "double precision"),
    column("partial", "boolean"),
    column("delta", "double precision"),
    column("percent_true", "double precision"),
    column("transitions", "bigint"),
    column("first_state", "text"),
    column("last_state", "text"),
    column("ms_by_state", "jsonb"),
    column("flags", "text[]"),
];

const fn aggregate(name: &'static str) -> Table {
    Table {
        name,
        columns: AGGREGATE_COLUMNS,
        key: &["asset_id", "parameter", "time", "gateway_id"],
        newest: &["revision"],
        replaces_equal: true, // AGG-06: where the revision is not lower
        indexes: &[],
    }
}

/// Windows of a second; `time` is the start of the window.
pub static TELEMETRY_1S: Table = aggregate("telemetry_1s");
/// Windows of a minute.
pub static TELEMETRY_1MIN: Table = aggregate("telemetry_1min");
/// Windows of an hour.
pub static TELEMETRY_1HOUR: Table = aggregate("telemetry_1hour");

/// Events.
pub static EVENTS: Table = Table {
    name: "events",
    columns: &[
        column("time", TIME),
        column("event_id", NAME),
        column("event_type", NAME),
        column("asset_id", NAME),
        column("parameter", "text COLLATE \"C\""),
        column("from_state", "text"),
        column("to_state", "text"),
        column("occurred_after", "timestamptz"),
        column("message", "text"),
        column("value", "double precision"),
        column("value_int", "bigint"),
        column("value_bool", "boolean"),
        column("value_text", "text"),
        column("unit", "text"),
        column("quality", "text NOT NULL"),
        column("quality_reason", "text"),
        column("flags", "text[]"),
        column("details", "jsonb"),
        column("gateway_time", TIME),
        column("adapter_id", "text COLLATE \"C\""),
        column("gateway_id", NAME),
        column("epoch", "bigint NOT NULL"),
        column("seq", "bigint NOT NULL"),
    ],
    key: &["time", "event_id"],
    newest: &["gateway_time", "epoch", "seq"],
    replaces_equal: false,
    indexes: &[&["asset_id", "time"]],
};

/// All tables with rows, in the order in which a transaction writes them.
pub static TABLES: [&Table; 5] = [&TELEMETRY, &TELEMETRY_1S, &TELEMETRY_1MIN, &TELEMETRY_1HOUR, &EVENTS];

/// Name of the table of positions.
pub const OFFSETS: &str = "sf_sink_offsets";

impl Table {
    /// True when records of `topic` may become rows of this table.
    pub fn takes(&self, topic: Topic) -> bool {
        match topic {
            Topic::Telemetry1s => self.name == TELEMETRY_1S.name,
            Topic::Telemetry1min => self.name == TELEMETRY_1MIN.name,
            Topic::Telemetry1hour => self.name == TELEMETRY_1HOUR.name,
            // a change of quality is an event and also a row without value among the readings (R-02)
            _ if topic.schema() == Schema::Event => self.name == EVENTS.name || self.name == TELEMETRY.name,
            _ => topic.schema() == Schema::Telemetry && self.name == TELEMETRY.name,
        }
    }

    /// Number of fields of a row.
    pub fn width(&self) -> i16 {
        i16::try_from(self.columns.len()).expect("a table has a few dozen columns")
    }

    /// `"schema"."table"`.
    pub fn path(&self, schema: &str) -> String {
        path(schema, self.name)
    }

    /// Creates the table and its indexes.
    pub fn create(&self, schema: &str) -> String {
        let table = self.path(schema);
        let columns: Vec<String> = self.columns.iter().map(|c| format!("{} {}", quote(c.name), c.sql)).collect();
        let name = self.name;
        let key = list(self.key);
        let key_name = quote(&format!("{name}_key"));
        let mut sql = vec![
            format!("CREATE TABLE {table} ({})", columns.join(", ")),
            format!("CREATE UNIQUE INDEX {key_name} ON {table} ({key})"),
        ];
        for index in self.indexes {
            let index_name = quote(&format!("{name}_{}", index.join("_")));
            sql.push(format!("CREATE INDEX {index_name} ON {table} ({})", list(index)));
        }
        sql.join(";\n")
    }

    /// Adds the columns that a table made by an earlier version lacks; they are empty in its rows.
    pub fn add_columns(&self, schema: &str) -> String {
        let may_be_empty = self.columns.iter().filter(|column| !column.sql.contains("NOT NULL"));
        let added: Vec<String> =
            may_be_empty.map(|c| format!("ADD COLUMN IF NOT EXISTS {} {}", quote(c.name), c.sql)).collect();
        format!("ALTER TABLE {} {}", self.path(schema), added.join(", "))
    }

    /// Finds the names of the columns a table has; `$1` is its path.
    pub const fn column_names() -> &'static str {
        "SELECT attname::text FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped"
    }

    /// Makes an empty table a hypertable of TimescaleDB.
    pub fn make_hypertable(&self, schema: &str) -> String {
        format!(
            "SELECT create_hypertable('{}', 'time', if_not_exists => TRUE, create_default_indexes => FALSE, \
             chunk_time_interval => INTERVAL '1 day')",
            self.path(schema)
        )
    }

    /// The quick way: rows straight into the table.
    pub fn copy(&self, schema: &str) -> String {
        format!("COPY {} ({}) FROM STDIN (FORMAT binary)", self.path(schema), self.column_list())
    }

    fn stage_name(&self) -> String {
        quote(&format!("sf_stage_{}", self.name))
    }

    /// Makes the table through which rows take the careful way; it belongs to the session and is empty after commit.
    pub fn create_stage(&self, schema: &str) -> String {
        let stage = self.stage_name();
        format!("CREATE TEMP TABLE IF NOT EXISTS {stage} (LIKE {}) ON COMMIT DELETE ROWS", self.path(schema))
    }

    /// Rows into the stage.
    pub fn copy_to_stage(&self) -> String {
        format!("COPY pg_temp.{} ({}) FROM STDIN (FORMAT binary)", self.stage_name(), self.column_list())
    }

    /// From the stage into the table; of several rows with one key the latest wins (REC-16, REC-17, AGG-06).
    pub fn merge(&self, schema: &str) -> String {
        let table = self.path(schema);
        let columns = self.column_list();
        let key = list(self.key);
        let latest_first: Vec<String> = self.newest.iter().map(|name| format!("{} DESC", quote(name))).collect();
        let sets: Vec<String> = self
            .columns
            .iter()
            .filter(|column| !self.key.contains(&column.name))
            .map(|column| format!("{0} = EXCLUDED.{0}", quote(column.name)))
            .collect();
        let of = |row: &str| {
            let names: Vec<String> = self.newest.iter().map(|name| format!("{row}.{}", quote(name))).collect();
            names.join(", ")
        };
        let comparison = if self.replaces_equal { ">=" } else { ">" };
        format!(
            "INSERT INTO {table} AS stored ({columns}) SELECT DISTINCT ON ({key}) {columns} FROM pg_temp.{} \
             ORDER BY {key}, {} ON CONFLICT ({key}) DO UPDATE SET {} WHERE ({}) {comparison} ({})",
            self.stage_name(),
            latest_first.join(", "),
            sets.join(", "),
            of("EXCLUDED"),
            of("stored"),
        )
    }

    fn column_list(&self) -> String {
        let names: Vec<&str> = self.columns.iter().map(|column| column.name).collect();
        list(&names)
    }
}

/// Creates the table of positions: behind which record of which partition a sink has written everything.
pub fn create_offsets(schema: &str) -> String {
    format!(
        "CREATE TABLE {} (sink_id text COLLATE \"C\" NOT NULL, topic text COLLATE \"C\" NOT NULL, partition integer NOT NULL, \
         next_offset bigint, epoch bigint NOT NULL, updated_at timestamptz NOT NULL DEFAULT now(), \
         PRIMARY KEY (sink_id, topic, partition))",
        path(schema, OFFSETS)
    )
}

/// The epoch a new process takes; `$1` is the sink.
pub fn next_epoch(schema: &str) -> String {
    format!("SELECT coalesce(max(epoch), 0) + 1 FROM {} WHERE sink_id = $1", path(schema, OFFSETS))
}

/// Takes the partitions `$2`, `$3` over for epoch `$4` of sink `$1` and returns their positions. Waits for a transaction
/// of the old owner that holds them.
pub fn take_over(schema: &str) -> String {
    format!(
        "INSERT INTO {0} (sink_id, topic, partition, epoch) SELECT $1::text, t, p, $4::bigint \
         FROM unnest($2::text[], $3::integer[]) AS places (t, p) \
         ON CONFLICT (sink_id, topic, partition) DO UPDATE SET epoch = EXCLUDED.epoch \
         RETURNING topic, partition, next_offset",
        path(schema, OFFSETS)
    )
}

/// Moves positions within the transaction of their rows; touches fewer rows than given when the epoch is no longer ours.
pub fn move_offsets(schema: &str) -> String {
    format!(
        "UPDATE {} AS stored SET next_offset = moved.next_offset, updated_at = now() \
         FROM unnest($3::text[], $4::integer[], $5::bigint[]) AS moved (topic, partition, next_offset) \
         WHERE stored.sink_id = $1 AND stored.epoch = $2 AND stored.topic = moved.topic AND stored.partition = moved.partition",
        path(schema, OFFSETS)
    )
}

fn path(schema: &str, table: &str) -> String {
    format!("{}.{}", quote(schema), quote(table))
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn list(names: &[&str]) -> String {
    names.iter().map(|name| quote(name)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_contains_the_time_and_exists() {
        // REC-17: a hypertable demands it
        for table in TABLES {
            assert!(table.key.contains(&"time"), "{}", table.name);
            for name in table.key.iter().chain(table.newest).chain(table.indexes.iter().copied().flatten()) {
                assert!(table.columns.iter().any(|column| column.name == *name), "{} {name}", table.name);
            }
        }
    }

    #[test]
    fn the_later_row_wins() {
        let sql = EVENTS.merge("public");
        assert!(sql.contains(r#"SELECT DISTINCT ON ("time", "event_id")"#), "{sql}");
        assert!(sql.contains(r#"ORDER BY "time", "event_id", "gateway_time" DESC, "epoch" DESC, "seq" DESC"#), "{sql}");
        assert!(!sql.contains(r#""event_id" = EXCLUDED"#), "{sql}");
        assert!(TELEMETRY_1S.merge("p").ends_with(r#"WHERE (EXCLUDED."revision") >= (stored."revision")"#));
    }

    #[test]
    fn each_topic_has_its_table() {
        let tables = |topic| -> Vec<&str> { TABLES.iter().filter(|t| t.takes(topic)).map(|t| t.name).collect() };
        assert_eq!(tables(Topic::TelemetryClean), ["telemetry"]);
        assert_eq!(tables(Topic::Telemetry1hour), ["telemetry_1hour"]);
        assert_eq!(tables(Topic::EventsClean), ["telemetry", "events"]);
    }
}
