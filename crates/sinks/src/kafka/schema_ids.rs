//! The other registry: which id a schema of ours has there (REC-06).
//!
//! An id means something only to the registry that gave it. The schema behind our id is registered at the target under
//! the subject of the target's topic, and the record carries the id that was given there.
//!
//! What is learned holds for a session: a registry that was filled anew is asked anew at the next connect.

use std::collections::BTreeMap;
use std::sync::Arc;

use stream::schemas::Error;
use stream::{Schemas, Topic};

/// Pairs remembered; reaching it forgets them all, and each is asked for once more.
const IDS_MAX: usize = 1000;

/// Why an id has no counterpart.
#[derive(Debug)]
pub enum Unknown {
    /// What the id stands for is not the contract of its topic: the record is refused.
    Foreign {
        /// One sentence for a person.
        detail: String,
    },
    /// The gateway's own registry does not tell what the id stands for.
    Ours(Error),
    /// The target's registry gives no id.
    Theirs(Error),
}

/// The pairs of one session.
#[derive(Debug)]
pub struct SchemaIds {
    /// The gateway's own registry; without one every record is taken for what its topic says.
    ours: Option<Arc<Schemas>>,
    theirs: Schemas,
    known: BTreeMap<(Topic, i32), i32>,
}

impl SchemaIds {
    /// Knows nothing yet; asks `ours` what an id stands for and `theirs` for its counterpart.
    pub fn new(ours: Option<Arc<Schemas>>, theirs: Schemas) -> Self {
        Self { ours, theirs, known: BTreeMap::new() }
    }

    /// The target's id for records of `topic` that carry `id` here, when it was learned.
    pub fn get(&self, topic: Topic, id: i32) -> Option<i32> {
        self.known.get(&(topic, id)).copied()
    }

    /// Registers the topic's present contract, so that what is wrong with the registry shows before a record is there.
    pub async fn announce(&self, topic: Topic, name: &str) -> Result<(), Error> {
        self.theirs.register_text(&subject(name), topic.schema().text()).await.map(|_| ())
    }

    /// Finds out what `id` stands for and registers that.
    pub async fn learn(&mut self, topic: Topic, name: &str, id: i32) -> Result<(), Unknown> {
        let wanted = topic.schema();
        let text = match &self.ours {
            None => wanted.text().to_owned(),
            Some(ours) => match ours.by_id(id).await {
                Ok(schema) if schema == wanted => ours.text(id).await.map_err(Unknown::Ours)?,
                Ok(_) | Err(Error::Foreign { .. }) => {
                    let detail = format!("schema {id} is not the contract of {}", topic.name());
                    return Err(Unknown::Foreign { detail });
                }
                Err(error) => return Err(Unknown::Ours(error)),
            },
        };
        let given = self.theirs.register_text(&subject(name), &text).await.map_err(Unknown::Theirs)?;
        if self.known.len() >= IDS_MAX {
            self.known.clear();
        }
        self.known.insert((topic, id), given);
        tracing::info!(topic = topic.name(), target_topic = name, id, given, "schema registered at the target");
        Ok(())
    }
}

/// The subject of a topic's values.
fn subject(name: &str) -> String {
    format!("{name}-value")
}
