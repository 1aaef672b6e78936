//! The desired state: the document in a file, checked before it is taken, cached so that a start works without it.
//!
//! Invariant: a document with problems never replaces a good one, neither in memory nor in the cache (G-06).

use std::path::{Path, PathBuf};
use std::time::Duration;

use config::{Catalog, Document, Problem};
use daemon::state_file;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Error;

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A document with the text it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    pub document: Document,
    /// Short hash of the text; names the running state.
    pub revision: String,
}

/// A newer document that was refused.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rejected {
    pub revision: String,
    pub problems: Vec<Problem>,
}

/// Reads the file; falls back to the cache of the last good document when the file is missing or has problems and a
/// cache exists.
pub fn load(file: &Path, cache: &Path, catalog: &Catalog) -> Result<(Loaded, Option<Rejected>), Error> {
    let path = file.display().to_string();
    let from_file = std::fs::read_to_string(file)
        .map_err(|source| Error::ReadDocument { path: path.clone(), source })
        .and_then(|text| check(&text, catalog).map_err(|problems| (text, problems)).or_else(|(text, problems)| {
            match cached(cache, catalog) {
                Some(good) => {
                    tracing::error!(file = %path, problems = problems.len(), "the document has problems, running the last good one");
                    Ok((good, Some(Rejected { revision: revision_of(&text), problems })))
                }
                None => Err(Error::BadDocument { path: path.clone(), problems }),
            }
        }));
    match from_file {
        Err(error @ Error::ReadDocument { .. }) => match cached(cache, catalog) {
            Some(good) => {
                tracing::warn!(error = %daemon::report(&error), "running the cached document");
                Ok((good, None))
            }
            None => Err(error),
        },
        other => other,
    }
}

fn check(text: &str, catalog: &Catalog) -> Result<(Loaded, Option<Rejected>), Vec<Problem>> {
    let document = config::parse(text, catalog)?;
    Ok((Loaded { document, revision: revision_of(text) }, None))
}

fn cached(cache: &Path, catalog: &Catalog) -> Option<Loaded> {
    let bytes = state_file::read(cache).ok()??;
    let text = String::from_utf8(bytes).ok()?;
    check(&text, catalog).ok().map(|(loaded, _)| loaded)
}

/// Keeps the text of a good document for starts without it.
pub fn remember(cache: &Path, text: &str) {
    if let Err(error) = state_file::write(cache, text.as_bytes()) {
        tracing::error!(error = %error, file = %cache.display(), "the configuration cache cannot be written");
    }
}

/// First 12 hexadecimal digits of a hash of the text.
pub fn revision_of(text: &str) -> String {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")[..12].to_owned()
}

/// Watches the file: a changed good document goes to `accepted`, a bad one to `rejected`.
#[derive(Debug)]
pub struct Watcher {
    pub file: PathBuf,
    pub cache: PathBuf,
    pub catalog: Catalog,
    pub accepted: watch::Sender<Loaded>,
    pub rejected: watch::Sender<Option<Rejected>>,
}

impl Watcher {
    pub async fn run(self, stop: CancellationToken) {
        let mut seen = std::fs::read_to_string(&self.file).ok();
        loop {
            tokio::select! { // cancel-safe: both arms only wait
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = stop.cancelled() => return,
            }
            let Ok(text) = std::fs::read_to_string(&self.file) else { continue };
            if seen.as_deref() == Some(text.as_str()) {
                continue;
            }
            self.judge(&text);
            seen = Some(text);
        }
    }

    fn judge(&self, text: &str) {
        let revision = revision_of(text);
        match check(text, &self.catalog) {
            Ok((loaded, _)) => {
                tracing::info!(revision, "taking over the changed document");
                remember(&self.cache, text);
                self.rejected.send_replace(None);
                self.accepted.send_replace(loaded);
            }
            Err(problems) => {
                for problem in &problems {
                    tracing::error!(revision, problem = %problem, "config_rejected");
                }
                self.rejected.send_replace(Some(Rejected { revision, problems }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_document_never_replaces_a_good_one() {
        // G-06, F27
        let dir = std::env::temp_dir().join(format!("sf-desired-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (file, cache) = (dir.join("gateway.yaml"), dir.join("cache.json"));
        let catalog = Catalog::default();
        let good = "version: 1\ngateway_id: gw\n";
        std::fs::write(&file, good).unwrap();
        let (loaded, rejected) = load(&file, &cache, &catalog).unwrap();
        assert_eq!(rejected, None);
        remember(&cache, good);
        std::fs::write(&file, "version: 1\ngateway_id: gw\nadaptors: []\n").unwrap();
        let (kept, rejected) = load(&file, &cache, &catalog).unwrap();
        assert_eq!(kept, loaded);
        assert_eq!(rejected.unwrap().problems[0].pointer, "/adaptors");
        std::fs::remove_file(&file).unwrap();
        assert_eq!(load(&file, &cache, &catalog).unwrap().0, loaded);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
