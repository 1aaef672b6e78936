//! Says from outside whether the loop waits for the stream, and since when.
//!
//! The loop is synchronous, and a client of a broker that is gone may keep it for a minute. Nothing can end that wait, but
//! a process that is to stop may leave it alone; for that it has to know that the wait is for the stream and not for the
//! target, which has its own limits.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use stream::subscription::Gap;
use tokio::time::Instant;

use crate::batch::{Batch, Place, Record};
use crate::dead_letters::DeadLetters;
use crate::error::StreamError;
use crate::sink::{Refusal, Resume};
use crate::source::Source;

/// The wait of one loop; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Waits(Arc<Mutex<Option<Instant>>>);

impl Waits {
    /// How long the present wait for the stream lasts, if there is one.
    pub(crate) fn current(&self) -> Option<Duration> {
        let since = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.map(|since| since.elapsed())
    }

    /// Wraps what asks the stream.
    pub(crate) fn watch<T>(&self, inner: T) -> Watched<T> {
        Watched { inner, waits: self.clone() }
    }

    fn set(&self, since: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }
}

/// A source, or dead letters, whose waits can be seen.
#[derive(Debug)]
pub(crate) struct Watched<T> {
    inner: T,
    waits: Waits,
}

impl<T> Watched<T> {
    fn during<R>(&mut self, ask: impl FnOnce(&mut T) -> R) -> R {
        self.waits.set(Some(Instant::now()));
        let answer = ask(&mut self.inner);
        self.waits.set(None);
        answer
    }
}

impl<T: Source> Source for Watched<T> {
    fn open(&mut self, resume: &Resume) -> Result<(), StreamError> {
        self.during(|source| source.open(resume))
    }

    fn poll(&mut self, batch: &mut Batch, records_max: usize, wait: Duration) -> Result<usize, StreamError> {
        self.during(|source| source.poll(batch, records_max, wait))
    }

    fn positions(&self) -> Vec<Place> {
        self.inner.positions()
    }

    fn ends(&self) -> Result<Vec<Place>, StreamError> {
        self.waits.set(Some(Instant::now()));
        let ends = self.inner.ends();
        self.waits.set(None);
        ends
    }

    fn commit(&mut self, places: &[Place]) -> Result<(), StreamError> {
        self.during(|source| source.commit(places))
    }

    fn take_gaps(&mut self) -> Vec<Gap> {
        self.inner.take_gaps()
    }
}

impl<T: DeadLetters> DeadLetters for Watched<T> {
    fn bury(&mut self, record: &Record<'_>, refusal: &Refusal) -> Result<(), StreamError> {
        self.during(|letters| letters.bury(record, refusal))
    }

    fn lost(&mut self, gap: &Gap) -> Result<(), StreamError> {
        self.during(|letters| letters.lost(gap))
    }
}
