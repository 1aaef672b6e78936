//! Running an adapter for a person: its values are shown, nothing is published (ui 1.4, step 6).
//!
//! The adapter, the host and the pump are those of the process; only the outlet is another one, and it has no stream behind
//! it. What an adapter would leave at its source is switched off: see `fleeting` of each.

use model::{ClockState, Reading};
use serde_json::Value;
use stream::message::{DeadLetter, Event};

use crate::Error;
use crate::adapter::Adapter;
use crate::common::Common;
use crate::outlet::{Ack, Outlet, OutletError};
use crate::process::{Run, identity, with_adapter, work};

/// What there is to see.
#[derive(Debug)]
pub enum Sight<'a> {
    Reading(&'a Reading<'a>),
    /// What the adapter has to tell beside its readings, in one sentence.
    Event {
        kind: &'a str,
        message: &'a str,
    },
    /// A message that could not be read.
    Letter {
        reason: &'a str,
        detail: &'a str,
        payload: &'a [u8],
    },
}

/// Who is shown it. Called in the order of what happens, and must be quick.
pub type Show = Box<dyn FnMut(&Sight<'_>) + Send>;

/// Runs the adapter that `settings` describe until the context's stop. Gives the names of the points it knew at the end
/// of its start, as asset and parameter.
pub async fn preview(
    settings: &Value,
    ctx: &daemon::Context,
    started: impl FnOnce(Vec<(String, String)>) + Send,
    show: Show,
) -> Result<(), Error> {
    with_adapter(settings, ctx, true, Looking { ctx, started, show }).await
}

struct Looking<'c, F> {
    ctx: &'c daemon::Context,
    started: F,
    show: Show,
}

impl<F: FnOnce(Vec<(String, String)>) + Send> Run for Looking<'_, F> {
    async fn run<A: Adapter>(self, adapter: A, common: &Common, type_name: &'static str) -> Result<(), Error> {
        let name = |tag: &crate::adapter::Tag| (tag.asset_id.clone(), tag.parameter.clone());
        (self.started)(adapter.tags().iter().map(name).collect());
        let identity = identity(common, type_name, self.ctx);
        // what is left at the end was for nobody
        let _left = work(adapter, Window { show: self.show }, identity, self.ctx).await;
        Ok(())
    }
}

/// Shows, and says at once that all is durable: there is nothing to wait for.
struct Window {
    show: Show,
}

fn seen() -> Ack {
    Box::pin(std::future::ready(Ok(())))
}

impl Outlet for Window {
    async fn ready(&mut self) -> Result<(), OutletError> {
        Ok(())
    }

    fn send(&mut self, readings: &[Reading<'_>]) -> Result<(Ack, usize), OutletError> {
        for reading in readings {
            (self.show)(&Sight::Reading(reading));
        }
        Ok((seen(), readings.len()))
    }

    fn tell(&mut self, event: &Event<'_>, _clock_state: ClockState) -> Result<Option<Ack>, OutletError> {
        (self.show)(&Sight::Event { kind: event.event_type, message: event.message });
        Ok(Some(seen()))
    }

    fn bury(&mut self, letter: &DeadLetter<'_>) -> Result<Option<Ack>, OutletError> {
        (self.show)(&Sight::Letter { reason: letter.reason, detail: letter.detail, payload: letter.payload });
        Ok(Some(seen()))
    }

    fn reopen(&mut self) -> Result<(), OutletError> {
        Ok(())
    }
}
