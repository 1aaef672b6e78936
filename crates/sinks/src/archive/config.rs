//! Settings of the `archive` sink.

use std::path::PathBuf;
use std::time::Duration;

use config::{Kind, Object, Problem, Spec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use stream::Topic;

use crate::common::{Common, SecretReference, limit, secret};
use crate::host::BatchLimits;

pub const SPEC: Spec = Spec {
    kind: Kind::Sink,
    type_name: "archive",
    summary: "Archives readings as Parquet files in a folder or an object store.",
    schema: || schemars::schema_for!(ArchiveSettings).to_value(),
    validate: |value, pointer| plan(value, pointer).err().unwrap_or_default(),
    points: |_| None,
    table: None,
    claim: |_| None,
};

/// Topics this sink can write.
pub const TOPICS: [Topic; 2] = [Topic::TelemetryClean, Topic::TelemetryRaw];

const MAX_ROWS_DEFAULT: usize = 1_000_000;
const MAX_AGE_S_DEFAULT: u64 = 900;
const MAX_BYTES_DEFAULT: usize = 16 * 1024 * 1024;
/// Batches of this sink only fill files, so they have no settings.
const BATCH: BatchLimits =
    BatchLimits { rows_max: 20_000, bytes_max: 8 * 1024 * 1024, wait: Duration::from_millis(200) };

/// Settings as written.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArchiveSettings {
    /// Name of this sink on the gateway.
    pub sink_id: String,
    /// `archive`.
    pub sink_type: String,
    /// A folder (`/data/archive` or `file:///data/archive`), or `s3://bucket/prefix` where the build has S3.
    pub url: String,
    /// Which topics to archive; `telemetry.clean` by default.
    pub topics: Option<Vec<String>>,
    /// A file is closed with this many rows.
    #[schemars(range(min = 1, max = 100_000_000))]
    pub max_rows: Option<u32>,
    /// A file is closed this long after its first record, in seconds.
    #[schemars(range(min = 1, max = 86_400))]
    pub max_age_s: Option<u32>,
    /// A file is closed with about this many bytes.
    #[schemars(range(min = 65_536, max = 67_108_864))]
    pub max_bytes: Option<u32>,
    /// Region of the bucket.
    pub region: Option<String>,
    /// Endpoint of an S3-compatible store, for example `https://minio.plant.local:9000`.
    pub endpoint: Option<String>,
    /// Access key, as a reference to a secret.
    pub access_key_id: Option<SecretReference>,
    /// Secret key, as a reference to a secret.
    pub secret_access_key: Option<SecretReference>,
    /// Address of the stream; a gateway fills it in.
    pub kafka_bootstrap: Option<String>,
    /// Address of the schema registry; a gateway fills it in.
    pub schema_registry: Option<String>,
}

/// Where files go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// An absolute folder, made when absent.
    Folder(PathBuf),
    Bucket {
        bucket: String,
        /// Without slashes at its ends; may be empty.
        prefix: String,
        region: Option<String>,
        endpoint: Option<String>,
    },
}

/// When a file is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roll {
    pub max_rows: usize,
    pub max_age: Duration,
    pub max_bytes: usize,
}

/// Settings as checked.
#[derive(Debug, Clone)]
pub struct ArchivePlan {
    pub common: Common,
    pub limits: BatchLimits,
    pub root: Root,
    /// The root for people.
    pub target: String,
    pub roll: Roll,
    /// Names of secrets.
    pub access_key_id: Option<String>,
    pub secret_access_key: Option<String>,
}

/// Checks the settings that stand at `pointer`; every problem at once.
pub fn plan(value: &Value, pointer: &str) -> Result<ArchivePlan, Vec<Problem>> {
    let mut object = Object::new(value, pointer);
    let common = Common::read(&mut object, &TOPICS, &TOPICS[..1]);
    let region = object.text("region").map(str::to_owned);
    let endpoint = object.text("endpoint").map(str::to_owned);
    let access_key_id = secret(&mut object, "access_key_id");
    let secret_access_key = secret(&mut object, "secret_access_key");
    let url = object.required_text("url").unwrap_or_default().to_owned();
    let root = read_root(&mut object, &url, region, endpoint);
    if !matches!(root, Some(Root::Bucket { .. })) {
        for key in ["region", "endpoint", "access_key_id", "secret_access_key"] {
            if root.is_some() && object.value(key).is_some() {
                object.problem(key, "not_for_folders", "belongs to s3:// only", "");
            }
        }
    }
    let roll = Roll {
        max_rows: limit(&mut object, "max_rows", 1, 100_000_000, MAX_ROWS_DEFAULT),
        max_age: Duration::from_secs(limit(&mut object, "max_age_s", 1, 86_400, MAX_AGE_S_DEFAULT)),
        max_bytes: limit(&mut object, "max_bytes", 65_536, 67_108_864, MAX_BYTES_DEFAULT),
    };
    let problems = object.finish();
    match root {
        Some(root) if problems.is_empty() => {
            Ok(ArchivePlan { common, limits: BATCH, root, target: url, roll, access_key_id, secret_access_key })
        }
        _ => Err(problems),
    }
}

fn read_root(object: &mut Object<'_>, url: &str, region: Option<String>, endpoint: Option<String>) -> Option<Root> {
    let hint = "for example /var/lib/archive, file:///var/lib/archive or s3://bucket/prefix";
    if let Some(rest) = url.strip_prefix("s3://") {
        if !cfg!(feature = "s3") {
            let hint = "take a folder, or a build with the feature s3";
            object.problem("url", "not_in_this_build", "this build does not write to S3", hint);
            return None;
        }
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            object.problem("url", "bad_url", "names no bucket", hint);
            return None;
        }
        if let Some(endpoint) = &endpoint {
            check_endpoint(object, endpoint)?;
        }
        let prefix = prefix.trim_matches('/').to_owned();
        return Some(Root::Bucket { bucket: bucket.to_owned(), prefix, region, endpoint });
    }
    let path = url.strip_prefix("file://").unwrap_or(url);
    if path.contains("://") {
        object.problem("url", "bad_url", format!("{url:?} is neither a folder nor s3://"), hint);
        return None;
    }
    if !path.starts_with('/') {
        if !url.is_empty() {
            object.problem("url", "bad_url", "must be an absolute folder", hint);
        }
        return None;
    }
    Some(Root::Folder(PathBuf::from(path)))
}

fn check_endpoint(object: &mut Object<'_>, endpoint: &str) -> Option<()> {
    let local = ["http://127.0.0.1", "http://localhost", "http://[::1]"];
    if endpoint.starts_with("https://") || local.iter().any(|begin| endpoint.starts_with(begin)) {
        return Some(());
    }
    object.problem("endpoint", "plaintext", "must begin with https:// unless it is this machine", "");
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn codes(value: &Value) -> Vec<&'static str> {
        plan(value, "").err().unwrap_or_default().iter().map(|problem| problem.code).collect()
    }

    fn settings(url: &str) -> Value {
        json!({"sink_id": "files", "sink_type": "archive", "url": url})
    }

    #[test]
    fn folders_are_absolute_and_unknown_places_are_refused() {
        for url in ["/data/archive", "file:///data/archive"] {
            assert_eq!(plan(&settings(url), "").unwrap().root, Root::Folder("/data/archive".into()));
        }
        assert_eq!(codes(&settings("data/archive")), ["bad_url"]);
        assert_eq!(codes(&settings("gs://bucket")), ["bad_url"]);
        assert_eq!(codes(&json!({"sink_id": "x", "sink_type": "archive"})), ["missing"]);
        let mut folder = settings("/data");
        folder["region"] = json!("eu-central-1");
        assert_eq!(codes(&folder), ["not_for_folders"]);
    }

    #[test]
    fn s3_says_whether_it_is_built_in() {
        let mut value = settings("s3://bucket/plant/line/");
        if cfg!(feature = "s3") {
            let Root::Bucket { bucket, prefix, .. } = plan(&value, "").unwrap().root else { panic!("a bucket") };
            assert_eq!((bucket.as_str(), prefix.as_str()), ("bucket", "plant/line"));
            value["endpoint"] = json!("http://minio.plant:9000");
            assert_eq!(codes(&value), ["plaintext"]);
        } else {
            assert_eq!(codes(&value), ["not_in_this_build"]);
        }
    }
}
