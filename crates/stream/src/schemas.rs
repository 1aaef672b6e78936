//! Schema ids: registered with a Confluent-compatible registry, cached on disk for starts without one (REC-07).
//!
//! An id says nothing by itself, registries are wiped and filled anew (F29): an id counts only together with the text
//! that it stands for. The processes of a gateway share one cache file; what is in it is merged, not replaced.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::access::{self, RegistryAccess};
use crate::{Schema, Topic};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// A registry's answer longer than this is refused.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// Ids remembered with their texts; further ones are asked for each time.
const TEXTS_MAX: usize = 1_000;

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

impl Error {
    /// May the same question get another answer later, without anybody's doing?
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Request { .. } | Self::Answer { .. } => true,
            Self::Refused { status, .. } => *status >= 500 || matches!(status, 408 | 429),
            Self::Foreign { .. } => false,
        }
    }
}

/// Client and cache in one.
pub struct Schemas {
    url: String,
    /// Subjects follow the topics' names, so they have the topics' prefix.
    subject_prefix: String,
    login: Option<(String, String)>,
    cache_file: Option<PathBuf>,
    client: reqwest::Client,
    known: Mutex<Known>,
}

impl std::fmt::Debug for Schemas {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Schemas").field("url", &self.url).field("cache_file", &self.cache_file).finish_non_exhaustive()
    }
}

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
struct Known {
    /// Subject -> id of our own contract under it.
    subjects: BTreeMap<String, i32>,
    /// Id -> text, as the registry gave it.
    texts: BTreeMap<i32, String>,
}

impl Known {
    /// From the cache file; a file that is torn or absent knows nothing.
    fn load(file: &Path) -> Self {
        std::fs::read(file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// The id of a contract under a subject, when the id still stands for this text.
    fn id_of(&self, subject: &str, schema: Schema) -> Option<i32> {
        let id = *self.subjects.get(subject)?;
        self.texts.get(&id).filter(|text| same_json(text, schema.text())).map(|_| id)
    }

    /// The registry gave `id` to a contract. When the id stood for something else, the registry is not the one of before,
    /// and nothing that is known of it holds; true then.
    fn register(&mut self, subject: &str, id: i32, schema: Schema) -> bool {
        let renumbered = self.texts.get(&id).is_some_and(|text| !same_json(text, schema.text()));
        if renumbered {
            *self = Self::default();
        }
        self.subjects.insert(subject.to_owned(), id);
        self.texts.insert(id, schema.text().to_owned());
        renumbered
    }

    fn learn(&mut self, id: i32, text: &str) {
        if self.texts.len() < TEXTS_MAX {
            self.texts.insert(id, text.to_owned());
        }
    }
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
        let client = reqwest::Client::builder().timeout(REQUEST_TIMEOUT).build().unwrap_or_default();
        Self::with_client(url, cache_dir, client, &RegistryAccess::default())
    }

    /// The same for a registry that is not ours.
    pub(crate) fn with_access(
        url: &str,
        cache_dir: Option<PathBuf>,
        access: &RegistryAccess,
    ) -> Result<Self, access::Error> {
        let mut builder = reqwest::Client::builder().timeout(REQUEST_TIMEOUT);
        if let Some(file) = &access.ca_file {
            let failed = |source| access::Error::Certificates { path: file.display().to_string(), source };
            let pem = std::fs::read(file).map_err(|error| failed(error.into()))?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| failed(error.into()))?;
            builder = builder.tls_certs_only(certificates);
        }
        let client = builder.build().unwrap_or_default();
        Ok(Self::with_client(url, cache_dir, client, access))
    }

    fn with_client(url: &str, cache_dir: Option<PathBuf>, client: reqwest::Client, access: &RegistryAccess) -> Self {
        let cache_file = cache_dir.map(|dir| dir.join("schemas.json"));
        let known = cache_file.as_deref().map(Known::load).unwrap_or_default();
        Self {
            url: url.trim_end_matches('/').to_owned(),
            subject_prefix: access.subject_prefix.clone(),
            login: access.login.clone(),
            cache_file,
            client,
            known: Mutex::new(known),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The id under which records of `topic` are written: registered when need be, cached from then on.
    ///
    /// The registry is asked first, so that a wiped one is filled again; when it does not answer, the cache does. An id of
    /// an older contract is no answer: records would be read as what they are not.
    pub async fn id_for(&self, topic: Topic) -> Result<i32, Error> {
        let subject = format!("{}{}", self.subject_prefix, topic.subject());
        match self.register_text(&subject, topic.schema().text()).await {
            Ok(id) => {
                let renumbered = self.remember(|known| known.register(&subject, id, topic.schema()));
                if renumbered {
                    tracing::warn!(subject, id, "the schema registry gives ids anew, its cache is forgotten");
                }
                Ok(id)
            }
            Err(error) => {
                let cached = self.lock().id_of(&subject, topic.schema());
                cached.ok_or(error).inspect(|id| {
                    tracing::warn!(subject, id, "schema registry does not answer, using the cached schema id");
                })
            }
        }
    }

    /// Registers a schema under a subject of this name and returns its id there; never from the cache.
    pub async fn register_text(&self, subject: &str, text: &str) -> Result<i32, Error> {
        let what = format!("subject {subject}");
        let url = format!("{}/subjects/{subject}/versions", self.url);
        let body = serde_json::json!({ "schema": text, "schemaType": "AVRO" });
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
        self.remember(|known| known.learn(id, &answer.schema));
        Ok(answer.schema)
    }

    /// Id and text of the newest schema of a subject; never from the cache.
    pub async fn latest(&self, subject: &str) -> Result<(i32, String), Error> {
        let url = format!("{}/subjects/{subject}/versions/latest", self.url);
        let answer: LatestAnswer = self.ask(self.client.get(url), &format!("subject {subject}")).await?;
        Ok((answer.id, answer.schema))
    }

    /// Which contract the records with this id follow, in its present or an earlier version.
    pub async fn by_id(&self, id: i32) -> Result<Schema, Error> {
        let text = self.text(id).await?;
        let is = |schema: &Schema| {
            let texts = std::iter::once(schema.text()).chain(schema.earlier_texts().iter().copied());
            texts.into_iter().any(|known| same_json(known, &text))
        };
        Schema::ALL.into_iter().find(is).ok_or(Error::Foreign { id })
    }

    async fn ask<T: for<'de> Deserialize<'de>>(
        &self,
        request: reqwest::RequestBuilder,
        what: &str,
    ) -> Result<T, Error> {
        let failed = |source| Error::Request { url: self.url.clone(), what: what.to_owned(), source };
        let request = match &self.login {
            Some((username, password)) => request.basic_auth(username, Some(password)),
            None => request,
        };
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

    /// Changes the cache, here and on disk; a cache that cannot be written is only a warning.
    ///
    /// The file is read again first: other processes add to it.
    fn remember<T>(&self, change: impl Fn(&mut Known) -> T) -> T {
        let changed = change(&mut self.lock());
        if let Some(file) = &self.cache_file {
            let before = Known::load(file);
            let mut after = before.clone();
            change(&mut after);
            if after != before
                && let Err(error) = replace(file, &after)
            {
                tracing::warn!(error = %error, file = %file.display(), "the schema cache cannot be written");
            }
        }
        changed
    }
}

/// Writes the cache beside its place and renames it when it is on disk: after a power cut it is the old or the new one.
fn replace(file: &Path, known: &Known) -> std::io::Result<()> {
    let dir = file.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir)?;
    let temporary = file.with_extension(format!("{}.new", std::process::id()));
    let mut writing = std::fs::File::create(&temporary)?;
    writing.write_all(&serde_json::to_vec_pretty(known)?)?;
    writing.sync_all()?;
    std::fs::rename(&temporary, file)?;
    std::fs::File::open(dir)?.sync_all()
}

fn same_json(a: &str, b: &str) -> bool {
    let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
    matches!((parse(a), parse(b)), (Some(a), Some(b)) if a == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    // REC-07, F29: an id is worth as much as the text behind it
    #[test]
    fn an_id_counts_only_with_its_text() {
        let (topic, mut known) = (Topic::TelemetryRaw, Known::default());
        assert!(!known.register(&topic.subject(), 3, topic.schema()));
        assert_eq!(known.id_of(&topic.subject(), topic.schema()), Some(3));
        assert_eq!(known.id_of(&topic.subject(), Topic::EventsRaw.schema()), None, "the contract changed since");
        assert!(!known.register(&topic.subject(), 3, topic.schema()), "as before");
        known.register(&Topic::Audit.subject(), 4, Topic::Audit.schema());
        assert!(known.register(&Topic::EventsRaw.subject(), 3, Topic::EventsRaw.schema()), "given to another contract");
        assert_eq!(known.id_of(&topic.subject(), topic.schema()), None);
        assert_eq!(known.texts.len(), 1, "nothing of before is left");
    }

    // F27
    #[test]
    fn a_torn_cache_knows_nothing() {
        let dir = std::env::temp_dir().join(format!("sf-schemas-{}", std::process::id()));
        let file = dir.join("schemas.json");
        let mut known = Known::default();
        known.register("s", 1, Topic::Audit.schema());
        replace(&file, &known).unwrap();
        assert_eq!(Known::load(&file), known);
        let bytes = std::fs::read(&file).unwrap();
        for torn in [&bytes[..bytes.len() / 2], vec![0; bytes.len()].as_slice(), b"".as_slice()] {
            std::fs::write(&file, torn).unwrap();
            assert_eq!(Known::load(&file), Known::default());
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn only_what_may_pass_is_waited_for() {
        let refused =
            |status| Error::Refused { url: String::new(), what: String::new(), status, answer: String::new() };
        assert!(refused(500).may_pass() && refused(503).may_pass() && refused(429).may_pass());
        assert!(!refused(404).may_pass() && !refused(409).may_pass() && !Error::Foreign { id: 1 }.may_pass());
    }
}
