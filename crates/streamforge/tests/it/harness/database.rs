//! A private PostgreSQL with a database `plant`, and questions to it.

use serde_json::{Value, json};
use testkit::postgres::{Postgres, available};

use super::Ledger;

const DATABASE: &str = "plant";

/// The server; ends and disappears on drop.
#[derive(Debug)]
pub(crate) struct Database {
    server: Postgres,
}

impl Database {
    /// Starts a server, or tells why there is none.
    pub(crate) fn start() -> Result<Self, String> {
        let binaries = available().map_err(|error| error.to_string())?;
        // without vacuum the place of a row tells when it was written
        let server = Postgres::start_with(&binaries, "autovacuum = off").map_err(|error| daemon::report(&error))?;
        server.psql("postgres", &format!("CREATE DATABASE {DATABASE}")).expect("a database is made");
        Ok(Self { server })
    }

    /// A sink that writes all it can into this database.
    pub(crate) fn sink(&self, sink_id: &str) -> Value {
        json!({ "sink_id": sink_id, "sink_type": "timescale", "url": self.server.url(DATABASE) })
    }

    /// Rows as text, fields parted by `|`.
    pub(crate) fn query(&self, sql: &str) -> Vec<Vec<String>> {
        let text = self.server.psql(DATABASE, sql).expect("the database answers");
        text.lines().map(|line| line.split('|').map(str::to_owned).collect()).collect()
    }

    /// A single number.
    pub(crate) fn number(&self, sql: &str) -> i64 {
        let rows = self.query(sql);
        rows[0][0].parse().unwrap_or_else(|_| panic!("{sql}: {rows:?}"))
    }

    /// The outage: connections break.
    pub(crate) fn stop(&self) {
        self.server.stop(true).expect("the server stops");
    }

    pub(crate) fn start_again(&self) {
        self.server.start_again().expect("the server starts");
    }

    /// Panics when rows of an asset were not written in the order of their adapter. Aborted rows do not matter.
    #[track_caller]
    pub(crate) fn assert_written_in_order(&self) {
        let rows = self.query(
            "SELECT adapter_id, asset_id, epoch, seq, before FROM (SELECT *, lag((epoch, seq)) OVER \
             (PARTITION BY adapter_id, asset_id ORDER BY ctid) AS before FROM telemetry) t \
             WHERE (epoch, seq) < before LIMIT 8",
        );
        assert!(rows.is_empty(), "rows that came after younger ones of their asset: {rows:#?}");
    }
}

/// Which readings the database holds.
pub(crate) fn rows_as_ledger(database: &Database) -> Ledger {
    let mut ledger = Ledger::default();
    for row in database.query("SELECT adapter_id, epoch, seq FROM telemetry") {
        ledger.add(&row[0], row[1].parse().expect("an epoch"), row[2].parse().expect("a sequence number"));
    }
    ledger
}
