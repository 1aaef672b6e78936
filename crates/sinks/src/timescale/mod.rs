//! The `timescale` sink: readings, windows and events into PostgreSQL 15 or newer, exactly once.
//!
//! How: rows travel by binary `COPY` straight into their tables, and in the same transaction the positions behind them go
//! into `sf_sink_offsets`. Either both are there or neither, so after any crash reading goes on exactly behind the last
//! row (I4). Every start takes a new epoch in that table; a transaction of an older process finds its epoch gone and
//! fails, however late it wakes up.
//!
//! Rows that are there already (a reading twice, a corrected window) make the `COPY` fail; the batch then goes through a
//! temporary table and `INSERT ... ON CONFLICT DO UPDATE`, where the later one wins (REC-16, REC-17, AGG-06). A row the
//! database refuses is found by bisecting and handed back as refused (R-09, AC-100).
//!
//! Tables, made when absent: `telemetry`, `telemetry_1s`, `telemetry_1min`, `telemetry_1hour`, `events`,
//! `sf_sink_offsets`. With the extension `timescaledb` installed in the database the first five become hypertables by
//! `time`; without it they are plain tables in a form that can be partitioned by time later: every unique key contains
//! `time`, nothing refers to another table, there are no sequences. Numbers fill `value`; an integer also fills
//! `value_int` bit by bit, since a double holds only 53 bits.
//!
//! Look next: [`sink`] talks to the database, [`schema`] is the tables and their SQL, [`rows`] turns messages into rows,
//! [`copy`] is the binary format, [`tls`] the transport.

pub mod config;
pub mod copy;
pub mod rows;
pub mod schema;
pub mod sink;
pub mod tls;

pub use config::SPEC;
pub use sink::TimescaleSink;
