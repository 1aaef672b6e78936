//! Sending from a blocking loop: a full queue makes it wait, which is the back-pressure on the input.

use std::time::Duration;

use kafka::client::{Producer, SendError};
use stream::Topic;
use tokio_util::sync::CancellationToken;

use super::Error;

/// How long to wait before a full queue is tried again.
const QUEUE_FULL_WAIT: Duration = Duration::from_millis(2);

/// Calls `send` until the queue takes the record. `Ok(false)`: this record can never be sent, for example because it is
/// too large.
pub(crate) fn deliver(
    producer: &Producer,
    stop: &CancellationToken,
    topic: Topic,
    mut send: impl FnMut() -> Result<(), SendError>,
) -> Result<bool, Error> {
    loop {
        match send() {
            Ok(()) => return Ok(true),
            Err(SendError::QueueFull) if stop.is_cancelled() => return Err(Error::Stopped),
            Err(SendError::QueueFull) => std::thread::sleep(QUEUE_FULL_WAIT),
            Err(source @ SendError::Refused { .. }) if producer.fatal_error().is_some() => {
                return Err(Error::Refused { topic: topic.name(), source });
            }
            Err(error @ SendError::Refused { .. }) => {
                tracing::warn!(topic = topic.name(), error = %daemon::report(&error), "a record cannot be sent");
                return Ok(false);
            }
        }
    }
}

/// Like [`deliver`] for records that are small by construction: a refusal is an error.
pub(crate) fn insist(
    stop: &CancellationToken,
    topic: Topic,
    send: impl FnMut() -> Result<(), SendError>,
) -> Result<(), Error> {
    insist_named(stop, topic.name(), send)
}

/// The same for a topic by its name.
pub(crate) fn insist_named(
    stop: &CancellationToken,
    topic: &'static str,
    mut send: impl FnMut() -> Result<(), SendError>,
) -> Result<(), Error> {
    loop {
        match send() {
            Ok(()) => return Ok(()),
            Err(SendError::QueueFull) if stop.is_cancelled() => return Err(Error::Stopped),
            Err(SendError::QueueFull) => std::thread::sleep(QUEUE_FULL_WAIT),
            Err(source) => return Err(Error::Refused { topic, source }),
        }
    }
}
