//! Is a record what its topic says? Asked once per schema id, remembered from then on (REC-07).
//!
//! A registry that does not answer holds the batch, it does not condemn it: only after [`HOLD_MAX_MS`] the records with
//! the unknown id are refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use stream::schemas::Error;
use stream::{Schema, Schemas};
use tokio::runtime::Handle;

use crate::batch::Batch;
use crate::dead_letters::reason;
use crate::error::StreamError;
use crate::sink::Refusal;

/// How long records with an unknown schema id wait for the registry, in milliseconds.
const HOLD_MAX_MS: u64 = 10 * 60 * 1000;

/// What is known of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Ours(Schema),
    Foreign,
}

/// The memory of one host.
#[derive(Debug)]
pub struct SchemaGate {
    schemas: Option<Arc<Schemas>>,
    known: BTreeMap<i32, Known>,
    /// Since when an id is being asked for, on the host's monotonic clock.
    asking_since: BTreeMap<i32, u64>,
}

impl SchemaGate {
    /// Without a registry every record is taken for what its topic says.
    pub fn new(schemas: Option<Arc<Schemas>>) -> Self {
        Self { schemas, known: BTreeMap::new(), asking_since: BTreeMap::new() }
    }

    /// Records of the batch that follow another contract than their topic's. Torn framing is the decoder's business.
    pub fn check(&mut self, batch: &Batch, runtime: &Handle, now_ms: u64) -> Result<Vec<Refusal>, StreamError> {
        let Some(schemas) = self.schemas.clone() else { return Ok(Vec::new()) };
        let mut refusals = Vec::new();
        let mut last: Option<(i32, Schema)> = None; // nearly all records of a batch follow one schema
        for (index, record) in batch.iter() {
            let Ok((id, _)) = stream::avro::unframe(record.payload) else { continue };
            let wanted = record.place.topic.schema();
            if last == Some((id, wanted)) {
                continue;
            }
            match self.known(id, &schemas, runtime, now_ms)? {
                Known::Ours(schema) if schema == wanted => last = Some((id, wanted)),
                Known::Ours(_) | Known::Foreign => {
                    let detail = format!("schema {id} is not the contract of {}", record.place.topic.name());
                    refusals.push(Refusal { index, reason: reason::SCHEMA_ERROR, detail });
                }
            }
        }
        Ok(refusals)
    }

    fn known(&mut self, id: i32, schemas: &Schemas, runtime: &Handle, now_ms: u64) -> Result<Known, StreamError> {
        if let Some(known) = self.known.get(&id) {
            return Ok(*known);
        }
        let known = match runtime.block_on(schemas.by_id(id)) {
            Ok(schema) => Known::Ours(schema),
            Err(Error::Foreign { .. }) => Known::Foreign,
            Err(source) => {
                let since = *self.asking_since.entry(id).or_insert(now_ms);
                if now_ms.saturating_sub(since) < HOLD_MAX_MS {
                    return Err(StreamError::Schema { id, source });
                }
                Known::Foreign
            }
        };
        self.asking_since.remove(&id);
        self.known.insert(id, known);
        Ok(known)
    }
}
