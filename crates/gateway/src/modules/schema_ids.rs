//! Which contract a record follows, by the schema id in its framing (REC-07).

use std::collections::HashMap;
use std::time::Duration;

use stream::{Schema, Topic};
use tokio::time::Instant;

use super::{Error, ModuleContext};

/// How long a record with an unknown id is held while the registry does not answer (REC-07).
const HOLD_MAX: Duration = Duration::from_secs(600);
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Ids remembered; one more is looked up each time it comes.
const IDS_MAX: usize = 1024;

/// The registry's answers, remembered.
#[derive(Debug)]
pub(super) struct SchemaIds<'c> {
    ctx: &'c ModuleContext,
    known: HashMap<i32, Option<Schema>>,
}

/// The id under which records of `topic` are written.
pub(super) fn id_for(ctx: &ModuleContext, topic: Topic) -> Result<i32, Error> {
    let asked = ctx.runtime.block_on(ctx.schemas.id_for(topic));
    asked.map_err(|source| Error::Schema { topic: topic.name(), source })
}

impl<'c> SchemaIds<'c> {
    pub(super) fn new(ctx: &'c ModuleContext) -> Self {
        Self { ctx, known: HashMap::new() }
    }

    /// True when records with this id follow `schema`. Holds the input while the registry is away, for at most ten
    /// minutes per id.
    pub(super) fn is(&mut self, id: i32, schema: Schema) -> Result<bool, Error> {
        if let Some(known) = self.known.get(&id) {
            return Ok(*known == Some(schema));
        }
        let began = Instant::now();
        let found = loop {
            match self.ctx.runtime.block_on(self.ctx.schemas.by_id(id)) {
                Ok(found) => break Some(found),
                Err(error) if error.may_pass() && began.elapsed() < HOLD_MAX => {
                    if self.ctx.stop.is_cancelled() {
                        return Err(Error::Stopped);
                    }
                    tracing::warn!(id, "schema id unknown and the registry does not answer: holding the input");
                    std::thread::sleep(ASK_EVERY);
                }
                Err(error) => {
                    tracing::warn!(id, error = %daemon::report(&error), "no contract of this gateway has this schema id");
                    break None;
                }
            }
        };
        if self.known.len() < IDS_MAX {
            self.known.insert(id, found);
        }
        Ok(found == Some(schema))
    }
}
