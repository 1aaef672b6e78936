//! Talks to PostgreSQL: connects, takes over the positions, writes batches in transactions.
//!
//! Invariants:
//! - Rows and the positions behind them are one transaction; a transaction whose epoch is gone is rolled back.
//! - A `COPY` is always finished or the transaction dies with it.
//! - A record is refused only by a data error of the database about that record alone.

use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use daemon::launch::Secret;
use futures_util::SinkExt;
use model::Health;
use stream::Topic;
use stream::topics::PARTITIONS;
use tokio::task::JoinSet;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Client, NoTls, Socket, Statement};

use super::config::{TimescalePlan, Transport};
use super::schema::{self, TABLES, Table};
use super::{rows, tls};
use crate::batch::{Batch, Place};
use crate::dead_letters::reason;
use crate::error::TargetError;
use crate::sink::{Outcome, Refusal, Resume, Sink, Standing};

/// `COPY` data travels in frames of this size: large enough to be cheap, small enough that the server works on one
/// while the next is being filled.
const FRAME_BYTES: usize = 128 * 1024;
/// Room behind a full frame for the row that passes its end; a larger row makes the buffer grow.
const FRAME_SLACK: usize = 16 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A vanished server is noticed after this long without an acknowledgement (F17).
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// After a collision so many batches take the careful way, doubled with every further collision up to the maximum.
const CAREFUL_BATCHES: u32 = 4;
const CAREFUL_BATCHES_MAX: u32 = 256;

/// Which way rows take into their table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// `COPY` into the table; fails where a key is there already.
    Direct,
    /// `COPY` into the stage, then insert or update.
    Careful,
}

/// Why rows were not written.
enum Failure {
    /// The database said no or went away.
    Database(tokio_postgres::Error),
    /// These records are not what their topic says.
    Records(Vec<Refusal>),
    /// The epoch is gone.
    Fenced,
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error)
    }
}

/// A connection and what was prepared on it.
#[derive(Debug)]
struct Session {
    client: Client,
    /// Drives the connection; dropping it closes the socket.
    _connection: JoinSet<()>,
    epoch: i64,
    move_offsets: Statement,
    tables: Vec<Prepared>,
}

/// Statements of one table; the stage is made when it is first needed.
#[derive(Debug)]
struct Prepared {
    table: &'static Table,
    copy: Statement,
    careful: Option<(Statement, Statement)>,
}

/// The sink.
#[derive(Debug)]
pub struct TimescaleSink {
    plan: TimescalePlan,
    password: Option<Secret>,
    session: Option<Session>,
    /// Batches that still take the careful way, and how many the next collision sends there.
    careful_left: u32,
    careful_next: u32,
    /// `hypertable` or `plain`, once known.
    layout: Option<&'static str>,
    buffer: BytesMut,
}

impl TimescaleSink {
    pub fn new(plan: TimescalePlan, password: Option<Secret>) -> Self {
        Self {
            plan,
            password,
            session: None,
            careful_left: 0,
            careful_next: CAREFUL_BATCHES,
            layout: None,
            buffer: BytesMut::new(),
        }
    }

    fn failed(&self, doing: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> TargetError {
        TargetError::Failed { target: self.plan.target.clone(), doing, source: source.into() }
    }

    async fn log_in(&self) -> Result<(Client, JoinSet<()>), TargetError> {
        let mut settings = self.plan.database.clone();
        if let Some(password) = &self.password {
            settings.password(password.reveal());
        }
        let name = format!("streamforge {}", self.plan.common.sink_id);
        settings
            .application_name(name)
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_user_timeout(SILENCE_MAX)
            .keepalives_idle(SILENCE_MAX);
        match &self.plan.transport {
            Transport::Plain => {
                settings.ssl_mode(tokio_postgres::config::SslMode::Disable);
                self.open(&settings, NoTls).await
            }
            Transport::Tls { ca_file } => {
                settings.ssl_mode(tokio_postgres::config::SslMode::Require);
                let connector = tls::connector(ca_file.as_deref()).map_err(|e| self.failed("setting up TLS", e))?;
                self.open(&settings, connector).await
            }
        }
    }

    async fn open<T>(
        &self,
        settings: &tokio_postgres::Config,
        transport: T,
    ) -> Result<(Client, JoinSet<()>), TargetError>
    where
        T: MakeTlsConnect<Socket>,
        T::Stream: Send + 'static,
        T::TlsConnect: Send,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        let (client, connection) = settings.connect(transport).await.map_err(|e| self.failed("connecting", e))?;
        let mut task = JoinSet::new();
        task.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to the database ended");
            }
        });
        Ok((client, task))
    }

    /// Makes what is missing. Done under a lock, since several sinks may start at once.
    async fn prepare_tables(&self, client: &Client) -> Result<&'static str, tokio_postgres::Error> {
        let schema = &self.plan.schema;
        client.batch_execute("BEGIN; SELECT pg_advisory_xact_lock(hashtext('sf_sink_tables'))").await?;
        let has_schema = client.query_one("SELECT to_regnamespace($1) IS NOT NULL", &[schema]).await?;
        if !has_schema.get::<_, bool>(0) {
            client.batch_execute(&format!("CREATE SCHEMA \"{schema}\"")).await?;
        }
        let sql = "SELECT EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'timescaledb')";
        let hypertables: bool = client.query_one(sql, &[]).await?.get(0);
        for table in TABLES.iter().filter(|table| self.plan.common.topics.iter().any(|topic| table.takes(*topic))) {
            if !exists(client, &table.path(schema)).await? {
                client.batch_execute(&table.create(schema)).await?;
                if hypertables {
                    client.batch_execute(&table.make_hypertable(schema)).await?;
                }
                tracing::info!(table = table.name, hypertable = hypertables, "table made");
                continue;
            }
            // asked first: ALTER TABLE waits for everybody who reads, and needs the rights of the owner
            let rows = client.query(Table::column_names(), &[&table.path(schema)]).await?;
            let names: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
            if table.columns.iter().any(|column| !names.contains(&column.name)) {
                client.batch_execute(&table.add_columns(schema)).await?;
                tracing::info!(table = table.name, "columns added");
            }
        }
        if !exists(client, &format!("\"{schema}\".\"{}\"", schema::OFFSETS)).await? {
            client.batch_execute(&schema::create_offsets(schema)).await?;
        }
        client.batch_execute("COMMIT").await?;
        Ok(if hypertables { "hypertable" } else { "plain" })
    }

    /// Takes the next epoch and the positions that go with it (I4).
    async fn take_over(&self, client: &Client) -> Result<(i64, Vec<Place>), tokio_postgres::Error> {
        let Self { plan, .. } = self;
        let sink_id = &plan.common.sink_id;
        let lock = "SELECT pg_advisory_xact_lock(hashtextextended('sf_sink_offsets/' || $1::text, 0))";
        client.batch_execute("BEGIN").await?;
        client.query_one(lock, &[sink_id]).await?;
        let epoch: i64 = client.query_one(&schema::next_epoch(&plan.schema), &[sink_id]).await?.get(0);
        let topics = &plan.common.topics;
        let (names, partitions): (Vec<&str>, Vec<i32>) =
            topics.iter().flat_map(|topic| (0..PARTITIONS).map(|partition| (topic.name(), partition))).unzip();
        let taken = client.query(&schema::take_over(&plan.schema), &[sink_id, &names, &partitions, &epoch]).await?;
        client.batch_execute("COMMIT").await?;
        let place = |row: &tokio_postgres::Row| {
            let offset: Option<i64> = row.get(2);
            Some(Place { topic: Topic::by_name(row.get(0))?, partition: row.get(1), offset: offset? })
        };
        Ok((epoch, taken.iter().filter_map(place).collect()))
    }

    async fn prepare_statements(&self, client: &Client) -> Result<(Statement, Vec<Prepared>), tokio_postgres::Error> {
        let schema = &self.plan.schema;
        let move_offsets = client.prepare(&schema::move_offsets(schema)).await?;
        let mut tables = Vec::new();
        for table in TABLES.iter().filter(|table| self.plan.common.topics.iter().any(|topic| table.takes(*topic))) {
            let copy = client.prepare(&table.copy(schema)).await?;
            tables.push(Prepared { table, copy, careful: None });
        }
        Ok((move_offsets, tables))
    }
}

async fn exists(client: &Client, table: &str) -> Result<bool, tokio_postgres::Error> {
    Ok(client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&table]).await?.get(0))
}

impl Sink for TimescaleSink {
    async fn connect(&mut self, _topics: &[Topic]) -> Result<Resume, TargetError> {
        self.session = None;
        let (client, connection) = self.log_in().await?;
        let layout = self.prepare_tables(&client).await.map_err(|e| self.failed("preparing the tables", e))?;
        if self.layout.replace(layout) != Some(layout) {
            tracing::info!(target_name = self.plan.target, layout, "tables are ready");
        }
        let (epoch, places) = self.take_over(&client).await.map_err(|e| self.failed("reading the positions", e))?;
        let (move_offsets, tables) =
            self.prepare_statements(&client).await.map_err(|e| self.failed("preparing the statements", e))?;
        self.session = Some(Session { client, _connection: connection, epoch, move_offsets, tables });
        Ok(Resume::At(places))
    }

    async fn write(&mut self, batch: &Batch) -> Result<Outcome, TargetError> {
        let target = &self.plan.target;
        let sink_id = &self.plan.common.sink_id;
        let Some(session) = &mut self.session else {
            return Err(TargetError::NotConnected { target: target.clone() });
        };
        loop {
            let way = if self.careful_left > 0 { Way::Careful } else { Way::Direct };
            let error = match session.write(&mut self.buffer, batch, way, sink_id, &self.plan.schema).await {
                Ok(()) => {
                    self.careful_left = self.careful_left.saturating_sub(1);
                    return Ok(Outcome::Taken { confirmed: batch.ends().to_vec() });
                }
                Err(Failure::Fenced) => return Err(TargetError::Fenced { target: target.clone() }),
                Err(Failure::Records(refusals)) => return Ok(Outcome::Refused(refusals)),
                Err(Failure::Database(error)) => error,
            };
            if way == Way::Direct && error.code() == Some(&SqlState::UNIQUE_VIOLATION) {
                self.careful_left = self.careful_next;
                self.careful_next = (self.careful_next * 2).min(CAREFUL_BATCHES_MAX);
                tracing::debug!(batches = self.careful_left, "rows are there already, taking the careful way");
                continue;
            }
            let refusals = if is_about_a_row(&error) {
                session.isolate(&mut self.buffer, batch, &self.plan.schema).await
            } else {
                Err(error)
            };
            return match refusals {
                Ok(refusals) => Ok(Outcome::Refused(refusals)),
                Err(error) => {
                    let doing = "writing rows";
                    Err(TargetError::Failed { target: target.clone(), doing, source: describe(error) })
                }
            };
        }
    }

    fn standing(&self) -> Standing {
        let plaintext = self.plan.plaintext_over_network;
        let mut details =
            vec![("transport", if self.plan.transport == Transport::Plain { "plain" } else { "tls" }.into())];
        if let Some(layout) = self.layout {
            details.push(("layout", layout.into()));
        }
        if let Some(session) = &self.session {
            details.push(("epoch", session.epoch.into()));
        }
        Standing {
            target: self.plan.target.clone(),
            health: if plaintext { Health::Degraded } else { Health::Healthy },
            reason: if plaintext {
                "readings and password travel unencrypted over the network (allow_plaintext)".to_owned()
            } else {
                String::new()
            },
            details,
        }
    }
}

impl Session {
    /// One transaction: rows of all tables, then the positions.
    async fn write(
        &mut self,
        buffer: &mut BytesMut,
        batch: &Batch,
        way: Way,
        sink_id: &str,
        schema: &str,
    ) -> Result<(), Failure> {
        if way == Way::Careful {
            self.prepare_careful(batch, schema).await?;
        }
        self.client.batch_execute("BEGIN").await?;
        let all: Vec<u32> = (0..u32::try_from(batch.len()).unwrap_or(u32::MAX)).collect();
        let written = match self.copy_all(buffer, batch, &all, way).await {
            Ok(()) => self.move_offsets(batch, sink_id).await,
            Err(failure) => Err(failure),
        };
        match written {
            Ok(()) => Ok(self.client.batch_execute("COMMIT").await?),
            Err(failure) => {
                // the transaction is dead either way; a connection that is gone says so in the failure
                if let Err(error) = self.client.batch_execute("ROLLBACK").await {
                    tracing::debug!(%error, "rolling back failed");
                }
                Err(failure)
            }
        }
    }

    async fn move_offsets(&self, batch: &Batch, sink_id: &str) -> Result<(), Failure> {
        let ends = batch.ends();
        let topics: Vec<&str> = ends.iter().map(|end| end.topic.name()).collect();
        let partitions: Vec<i32> = ends.iter().map(|end| end.partition).collect();
        let offsets: Vec<i64> = ends.iter().map(|end| end.offset).collect();
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
            [&sink_id, &self.epoch, &topics, &partitions, &offsets];
        let moved = self.client.execute(&self.move_offsets, &parameters).await?;
        if usize::try_from(moved).ok() == Some(ends.len()) { Ok(()) } else { Err(Failure::Fenced) }
    }

    /// Writes the records of `batch` whose indexes are in `indexes`, table by table.
    async fn copy_all(&self, buffer: &mut BytesMut, batch: &Batch, indexes: &[u32], way: Way) -> Result<(), Failure> {
        for prepared in &self.tables {
            if !batch.ends().iter().any(|end| prepared.table.takes(end.topic)) {
                continue;
            }
            match (way, &prepared.careful) {
                (Way::Careful, Some((copy, merge))) => {
                    if self.copy(buffer, batch, indexes, prepared.table, copy).await? > 0 {
                        self.client.execute(merge, &[]).await?;
                    }
                }
                _ => {
                    self.copy(buffer, batch, indexes, prepared.table, &prepared.copy).await?;
                }
            }
        }
        Ok(())
    }

    /// Streams the rows of one table; returns how many. Begins the `COPY` with the first row there is.
    async fn copy(
        &self,
        buffer: &mut BytesMut,
        batch: &Batch,
        indexes: &[u32],
        table: &Table,
        statement: &Statement,
    ) -> Result<u64, Failure> {
        let mut refusals = Vec::new();
        let mut count = 0;
        buffer.clear();
        buffer.reserve(FRAME_BYTES + FRAME_SLACK);
        super::copy::header(buffer);
        let mut stream = None;
        for &index in indexes {
            let index = usize::try_from(index).expect("an index of a batch fits");
            if batch.is_excluded(index) {
                continue;
            }
            let Some(record) = batch.record(index).filter(|record| table.takes(record.place.topic)) else { continue };
            let before = buffer.len();
            match rows::append(buffer, table, record.place.topic, record.payload) {
                Ok(rows) => count += rows,
                Err(error) => {
                    buffer.truncate(before);
                    refusals.push(Refusal { index, reason: reason::DECODE_ERROR, detail: error.to_string() });
                }
            }
            if buffer.len() >= FRAME_BYTES {
                if stream.is_none() {
                    stream = Some(Box::pin(self.client.copy_in::<_, Bytes>(statement).await?));
                }
                if let Some(stream) = &mut stream {
                    stream.feed(buffer.split().freeze()).await?;
                }
                buffer.reserve(FRAME_BYTES + FRAME_SLACK);
            }
        }
        if !refusals.is_empty() {
            return Err(Failure::Records(refusals)); // dropping the stream fails the COPY, the caller rolls back
        }
        if count == 0 {
            return Ok(0);
        }
        super::copy::trailer(buffer);
        let mut stream = match stream {
            Some(stream) => stream,
            None => Box::pin(self.client.copy_in::<_, Bytes>(statement).await?),
        };
        stream.feed(buffer.split().freeze()).await?;
        let mut stream = pin!(stream);
        stream.as_mut().get_mut().as_mut().finish().await?;
        Ok(count)
    }

    /// Stages and statements of the careful way for the tables of this batch; outside of any transaction, so that a
    /// rollback does not take them away.
    async fn prepare_careful(&mut self, batch: &Batch, schema: &str) -> Result<(), tokio_postgres::Error> {
        for prepared in &mut self.tables {
            let needed = batch.ends().iter().any(|end| prepared.table.takes(end.topic));
            if needed && prepared.careful.is_none() {
                self.client.batch_execute(&prepared.table.create_stage(schema)).await?;
                let copy = self.client.prepare(&prepared.table.copy_to_stage()).await?;
                let merge = self.client.prepare(&prepared.table.merge(schema)).await?;
                prepared.careful = Some((copy, merge));
            }
        }
        Ok(())
    }

    /// Finds the records whose rows the database refuses, by halving; leaves nothing behind in the database.
    async fn isolate(
        &mut self,
        buffer: &mut BytesMut,
        batch: &Batch,
        schema: &str,
    ) -> Result<Vec<Refusal>, tokio_postgres::Error> {
        self.prepare_careful(batch, schema).await?;
        let all: Vec<u32> = (0..u32::try_from(batch.len()).unwrap_or(u32::MAX)).collect();
        let mut suspects: Vec<&[u32]> = vec![&all];
        let mut refusals = Vec::new();
        self.client.batch_execute("BEGIN").await?;
        while let Some(indexes) = suspects.pop() {
            self.client.batch_execute("SAVEPOINT probe").await?;
            let probed = self.copy_all(buffer, batch, indexes, Way::Careful).await;
            if let Err(Failure::Database(error)) = &probed
                && error.is_closed()
            {
                let Err(Failure::Database(error)) = probed else { break };
                return Err(error);
            }
            self.client.batch_execute("ROLLBACK TO SAVEPOINT probe; RELEASE SAVEPOINT probe").await?;
            match probed {
                Ok(()) => {}
                Err(Failure::Records(found)) => refusals.extend(found),
                Err(Failure::Fenced) => break,
                Err(Failure::Database(error)) if !is_about_a_row(&error) => {
                    self.client.batch_execute("ROLLBACK").await?;
                    return Err(error);
                }
                Err(Failure::Database(error)) => match indexes {
                    [] => {}
                    [index] => {
                        let index = usize::try_from(*index).expect("an index of a batch fits");
                        refusals.push(Refusal { index, reason: reason::TARGET_REFUSED, detail: sentence(&error) });
                    }
                    _ => {
                        let (left, right) = indexes.split_at(indexes.len() / 2);
                        suspects.push(right);
                        suspects.push(left);
                    }
                },
            }
        }
        self.client.batch_execute("ROLLBACK").await?;
        Ok(refusals)
    }
}

/// True for errors that a single row causes and that stay the same however often it is tried: class 22 (data), class 23
/// (constraints) and rows too large for an index (54000). Everything else is the target's trouble and is retried.
fn is_about_a_row(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| {
        let code = code.code();
        code.starts_with("22") || code.starts_with("23") || code == "54000"
    })
}

/// What the database said, without the row's values: those are in the dead letter's payload.
fn sentence(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(database) => {
            let constraint = database.constraint().map(|name| format!(" (constraint {name})")).unwrap_or_default();
            format!("{}{constraint} [{}]", database.message(), database.code().code())
        }
        None => error.to_string(),
    }
}

/// The driver's error with the database's own words in front.
fn describe(error: tokio_postgres::Error) -> Box<dyn std::error::Error + Send + Sync> {
    match error.as_db_error() {
        Some(_) => sentence(&error).into(),
        None => error.into(),
    }
}
