//! Schema ids: registered with a Confluent-compatible registry, cached on disk for starts without one (REC-07).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Schema, Topic};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// A registry's answer longer than this is refused.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the schema registry at {url} cannot be asked for {what}")]
    Request { url: String, what: String, source: reqwest::Error },
    #[error("the schema registry at {url} refused {what}: {status} {answer}")]
    Refused { url: String, what: String, status: u16, answer: String },
    #[error("the schema registry at {url} gave an answer that is not understood for {what}")]
    Answer { url: String, what: String },
    #[error("schema {id} is not one of this gateway's contracts")]
    Foreign { id: i32 },
}

/// Client and cache in one.
#[derive(Debug)]
pub struct Schemas {
    url: String,
    cache_file: Option<PathBuf>,
    client: reqwest::Client,
    known: Mutex<Known>,
}

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
struct Known {
    /// Subject -> id of our own contract under it.
    subjects: BTreeMap<String, i32>,
    /// Id -> text, as the registry gave it.
    texts: BTreeMap<i32, String>,
}

#[derive(Deserialize)]
struct IdAnswer {
    id: i32,
}

#[derive(Deserialize)]
struct SchemaAnswer {
    schema: String,
}

#[derive(Deserialize)]
struct LatestAnswer {
    id: i32,
    schema: String,
}

impl Schemas {
    /// `url` like `http://127.0.0.1:8081`; the cache file lives in `cache_dir` when there is one.
    pub fn new(url: &str, cache_dir: Option<PathBuf>) -> Self {
        let cache_file = cache_dir.map(|dir| dir.join("schemas.json"));
        let known = cache_file
            .as_ref()
            .and_then(|file| std::fs::read(file).ok())
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let client = reqwest::Client::builder().timeout(REQUEST_TIMEOUT).build().unwrap_or_default();
        Self { url: url.trim_end_matches('/').to_owned(), cache_file, client, known: Mutex::new(known) }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The id under which records of `topic` are written: registered when need be, cached from then on.
    ///
    /// The registry is asked first, so that a wiped one is filled again; when it does not answer, the cache does.
    pub async fn id_for(&self, topic: Topic) -> Result<i32, Error> {
        let subject = topic.subject();
        match self.register(&subject, topic.schema()).await {
            Ok(id) => {
                self.remember(|known| {
                    known.subjects.insert(subject, id);
                    known.texts.insert(id, topic.schema().text().to_owned());
                });
                Ok(id)
            }
            Err(error) => {
                let cached = self.lock().subjects.get(&subject).copied();
                cached.ok_or(error).inspect(|id| {
                    tracing::warn!(subject, id, "schema registry does not answer, using the cached schema id");
                })
            }
        }
    }

    async fn register(&self, subject: &str, schema: Schema) -> Result<i32, Error> {
        let what = format!("subject {subject}");
        let url = format!("{}/subjects/{subject}/versions", self.url);
        let body = serde_json::json!({ "schema": schema.text(), "schemaType": "AVRO" });
        let answer: IdAnswer = self.ask(self.client.post(url).json(&body), &what).await?;
        Ok(answer.id)
    }

    /// The text of a schema, whoever wrote it.
    pub async fn text(&self, id: i32) -> Result<String, Error> {
        let cached = self.lock().texts.get(&id).cloned();
        if let Some(text) = cached {
            return Ok(text);
        }
        let url = format!("{}/schemas/ids/{id}", self.url);
        let answer: SchemaAnswer = self.ask(self.client.get(url), &format!("schema {id}")).await?;
        self.remember(|known| {
            known.texts.insert(id, answer.schema.clone());
        });
        Ok(answer.schema)
    }

    /// Id and text of the newest schema of a subject; never from the cache.
    pub async fn latest(&self, subject: &str) -> Result<(i32, String), Error> {
        let url = format!("{}/subjects/{subject}/versions/latest", self.url);
        let answer: LatestAnswer = self.ask(self.client.get(url), &format!("subject {subject}")).await?;
        Ok((answer.id, answer.schema))
    }

    /// Which contract the records with this id follow.
    pub async fn by_id(&self, id: i32) -> Result<Schema, Error> {
        let text = self.text(id).await?;
        Schema::ALL.into_iter().find(|schema| same_json(schema.text(), &text)).ok_or(Error::Foreign { id })
    }

    async fn ask<T: for<'de> Deserialize<'de>>(
        &self,
        request: reqwest::RequestBuilder,
        what: &str,
    ) -> Result<T, Error> {
        let failed = |source| Error::Request { url: self.url.clone(), what: what.to_owned(), source };
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(Error::Answer { url: self.url.clone(), what: what.to_owned() });
            }
            body.extend_from_slice(&chunk);
        }
        if !status.is_success() {
            let answer = String::from_utf8_lossy(&body).chars().take(300).collect();
            return Err(Error::Refused {
                url: self.url.clone(),
                what: what.to_owned(),
                status: status.as_u16(),
                answer,
            });
        }
        serde_json::from_slice(&body).map_err(|_| Error::Answer { url: self.url.clone(), what: what.to_owned() })
    }

    /// Changes the cache and writes it by rename; a cache that cannot be written is only a warning.
    fn remember(&self, change: impl FnOnce(&mut Known)) {
        let changed = {
            let mut known = self.lock();
            let before = known.clone();
            change(&mut known);
            (*known != before).then(|| known.clone())
        };
        let (Some(known), Some(file)) = (changed, &self.cache_file) else { return };
        let temporary = file.with_extension(format!("{}.new", std::process::id()));
        let written = serde_json::to_vec_pretty(&known).map_err(std::io::Error::other).and_then(|bytes| {
            if let Some(dir) = file.parent() {
                std::fs::create_dir_all(dir)?;
            }
            std::fs::write(&temporary, bytes)?;
            std::fs::rename(&temporary, file)
        });
        if let Err(error) = written {
            tracing::warn!(error = %error, file = %file.display(), "the schema cache cannot be written");
        }
    }
}

fn same_json(a: &str, b: &str) -> bool {
    let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
    matches!((parse(a), parse(b)), (Some(a), Some(b)) if a == b)
}
