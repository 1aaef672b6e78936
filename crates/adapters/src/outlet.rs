//! Where readings go: the stream, behind a seam, so that tests need no broker.
//!
//! Law of an [`Outlet`]: readings of one asset become durable in the order they were sent, and an [`Ack`] is good only
//! when every reading of its call is durable. A reading may be sent twice after a failure; its identity
//! (gateway, adapter, epoch, sequence) stays, so that readers can tell.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

use kafka::client::Settings;
use model::{ClockState, Reading};
use stream::message::{DeadLetter, Event};
use stream::{Connection, Publisher, Schemas, Topic};

/// Resolves when the readings of one call are durable.
pub type Ack = Pin<Box<dyn Future<Output = Result<(), OutletError>> + Send>>;

/// Why readings could not be handed over.
#[derive(Debug, thiserror::Error)]
pub enum OutletError {
    /// The stream cannot be prepared for writing at the moment.
    #[error("the stream is not ready")]
    NotReady {
        /// What the registry said.
        source: stream::schemas::Error,
    },
    /// What the stream asks for is not to be had.
    #[error("cannot get into the stream")]
    Access {
        /// What is missing.
        source: stream::access::Error,
    },
    /// The client cannot be set up.
    #[error("cannot open a publisher")]
    Open {
        /// What the client said.
        source: kafka::client::Error,
    },
    /// The stream can never take one of these readings.
    #[error("a reading was refused by the stream")]
    Refused {
        /// What the client said.
        source: kafka::client::SendError,
    },
    /// The readings did not become durable.
    #[error("readings were not made durable")]
    NotDurable {
        /// What the client said.
        source: kafka::client::Error,
    },
    /// For other outlets than the stream.
    #[error("{reason}")]
    Other {
        /// What is wrong.
        reason: String,
    },
}

impl OutletError {
    fn not_ready() -> Self {
        Self::Other { reason: "the schema is not known yet".to_owned() }
    }
}

/// Takes readings and says when they are durable.
pub trait Outlet: Send {
    /// Prepares for sending; one attempt.
    fn ready(&mut self) -> impl Future<Output = Result<(), OutletError>> + Send;

    /// Hands over readings in order. Also tells how many were taken: fewer than given when the outlet is full.
    fn send(&mut self, readings: &[Reading<'_>]) -> Result<(Ack, usize), OutletError>;

    /// Hands over an event stamped by a clock of that state; `None` when the outlet is full.
    fn tell(&mut self, event: &Event<'_>, clock_state: ClockState) -> Result<Option<Ack>, OutletError>;

    /// Hands over a dead letter; `None` when the outlet is full.
    fn bury(&mut self, letter: &DeadLetter<'_>) -> Result<Option<Ack>, OutletError>;

    /// Starts anew after an [`Ack`] failed; what was not acknowledged will be sent again.
    fn reopen(&mut self) -> Result<(), OutletError>;

    /// True while the other side is known to be unreachable, so that a stop need not wait for it.
    fn is_away(&self) -> bool {
        false
    }
}

/// Where events go.
const EVENTS: Topic = Topic::EventsRaw;
/// Where input goes that cannot be understood.
const LETTERS: Topic = Topic::DlqTelemetry;

/// The gateway's stream.
#[derive(Debug)]
pub struct StreamOutlet {
    settings: Settings,
    publisher: Publisher,
    schemas: Schemas,
    topic: Topic,
    schema_id: Option<i32>,
    event_schema_id: Option<i32>,
    letter_schema_id: Option<i32>,
}

impl StreamOutlet {
    /// Connects in the background and for ever; `ready` asks the registry for the schema.
    pub fn open(
        connection: &Connection,
        bootstrap: &str,
        client_id: &str,
        registry_url: &str,
        cache_dir: Option<PathBuf>,
        topic: Topic,
    ) -> Result<Self, OutletError> {
        let settings = connection.settings(bootstrap, client_id);
        let publisher = Publisher::open(&settings).map_err(|source| OutletError::Open { source })?;
        let schemas = connection.schemas(registry_url, cache_dir).map_err(|source| OutletError::Access { source })?;
        Ok(Self { settings, publisher, schemas, topic, schema_id: None, event_schema_id: None, letter_schema_id: None })
    }
}

impl Outlet for StreamOutlet {
    async fn ready(&mut self) -> Result<(), OutletError> {
        if self.schema_id.is_none() {
            let id = self.schemas.id_for(self.topic).await.map_err(|source| OutletError::NotReady { source })?;
            self.schema_id = Some(id);
        }
        if self.event_schema_id.is_none() {
            let id = self.schemas.id_for(EVENTS).await.map_err(|source| OutletError::NotReady { source })?;
            self.event_schema_id = Some(id);
        }
        if self.letter_schema_id.is_none() {
            let id = self.schemas.id_for(LETTERS).await.map_err(|source| OutletError::NotReady { source })?;
            self.letter_schema_id = Some(id);
        }
        Ok(())
    }

    fn send(&mut self, readings: &[Reading<'_>]) -> Result<(Ack, usize), OutletError> {
        let Some(schema_id) = self.schema_id else { return Err(OutletError::not_ready()) };
        let (pending, taken) = self
            .publisher
            .publish(self.topic, schema_id, readings.iter().copied())
            .map_err(|source| OutletError::Refused { source })?;
        let ack = async move { pending.done().await.map_err(|source| OutletError::NotDurable { source }) };
        Ok((Box::pin(ack), taken))
    }

    fn tell(&mut self, event: &Event<'_>, clock_state: ClockState) -> Result<Option<Ack>, OutletError> {
        let Some(schema_id) = self.event_schema_id else { return Err(OutletError::not_ready()) };
        let pending = self
            .publisher
            .publish_event(EVENTS, schema_id, event, clock_state)
            .map_err(|source| OutletError::Refused { source })?;
        Ok(pending.map(|pending| -> Ack {
            Box::pin(async move { pending.done().await.map_err(|source| OutletError::NotDurable { source }) })
        }))
    }

    fn bury(&mut self, letter: &DeadLetter<'_>) -> Result<Option<Ack>, OutletError> {
        let Some(schema_id) = self.letter_schema_id else { return Err(OutletError::not_ready()) };
        let pending = self
            .publisher
            .publish_letter(LETTERS, schema_id, letter)
            .map_err(|source| OutletError::Refused { source })?;
        Ok(pending.map(|pending| -> Ack {
            Box::pin(async move { pending.done().await.map_err(|source| OutletError::NotDurable { source }) })
        }))
    }

    fn reopen(&mut self) -> Result<(), OutletError> {
        self.publisher = Publisher::open(&self.settings).map_err(|source| OutletError::Open { source })?;
        Ok(())
    }

    fn is_away(&self) -> bool {
        self.publisher.producer().is_away()
    }
}
