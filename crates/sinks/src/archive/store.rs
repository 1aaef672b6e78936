//! Where archive files go: opens the folder or the bucket.

use std::sync::Arc;

use daemon::launch::Secret;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;

use super::config::Root;

/// Credentials of a bucket.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    pub access_key_id: Option<Secret>,
    pub secret_access_key: Option<Secret>,
}

/// Why the place cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot make the folder {path}")]
    Folder { path: String, source: std::io::Error },
    #[error("cannot open the archive")]
    Open { source: object_store::Error },
    #[error("this build does not write to S3")]
    NotBuiltIn,
}

/// Opens the place. A folder is made when absent; its files are durable (synced with their folder) when a put returns.
pub fn open(root: &Root, keys: &Keys) -> Result<Arc<dyn ObjectStore>, Error> {
    match root {
        Root::Folder(path) => {
            let failed = |source| Error::Folder { path: path.display().to_string(), source };
            std::fs::create_dir_all(path).map_err(failed)?;
            let store = LocalFileSystem::new_with_prefix(path).map_err(|source| Error::Open { source })?;
            Ok(Arc::new(store.with_fsync(true)))
        }
        Root::Bucket { bucket, prefix, region, endpoint } => {
            open_bucket(bucket, prefix, region.as_deref(), endpoint.as_deref(), keys)
        }
    }
}

#[cfg(feature = "s3")]
fn open_bucket(
    bucket: &str,
    prefix: &str,
    region: Option<&str>,
    endpoint: Option<&str>,
    keys: &Keys,
) -> Result<Arc<dyn ObjectStore>, Error> {
    use object_store::aws::AmazonS3Builder;
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
    if let Some(region) = region {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
    }
    if let Some(key) = &keys.access_key_id {
        builder = builder.with_access_key_id(key.reveal());
    }
    if let Some(key) = &keys.secret_access_key {
        builder = builder.with_secret_access_key(key.reveal());
    }
    let store = builder.build().map_err(|source| Error::Open { source })?;
    if prefix.is_empty() {
        return Ok(Arc::new(store));
    }
    Ok(Arc::new(object_store::prefix::PrefixStore::new(store, prefix)))
}

#[cfg(not(feature = "s3"))]
fn open_bucket(
    _bucket: &str,
    _prefix: &str,
    _region: Option<&str>,
    _endpoint: Option<&str>,
    _keys: &Keys,
) -> Result<Arc<dyn ObjectStore>, Error> {
    Err(Error::NotBuiltIn)
}
