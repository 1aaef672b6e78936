//! Schema ids while the registry is away, and after it was wiped (F29, REC-07).

use std::net::SocketAddr;
use std::path::Path;

use broker::{Broker, Handle, Settings};
use stream::schemas::Error;
use stream::{Schemas, Topic};

/// A registry with a data folder of its own, on a given port or a free one.
async fn registry(dir: &Path, at: Option<SocketAddr>) -> Handle {
    let mut settings = Settings::on_free_ports(dir);
    if let Some(at) = at {
        settings.registry_listen = at;
    }
    Broker::start(settings, &daemon::Context::new("broker", "gw")).await.unwrap()
}

// REC-07, F29
#[tokio::test(flavor = "multi_thread")]
async fn ids_are_known_while_the_registry_is_away() {
    let (data, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let broker = registry(data.path(), None).await;
    let url = format!("http://{}", broker.registry());
    let open = || Schemas::new(&url, Some(cache.path().to_owned()));
    // two processes share the file: neither forgets what the other one learned
    let (one, other) = (open(), open());
    let raw = one.id_for(Topic::TelemetryRaw).await.unwrap();
    let letters = other.id_for(Topic::DlqTelemetry).await.unwrap();
    assert_ne!(raw, letters);
    broker.stop().await;

    let after = open();
    assert_eq!(after.id_for(Topic::TelemetryRaw).await.unwrap(), raw);
    assert_eq!(after.id_for(Topic::DlqTelemetry).await.unwrap(), letters);
    assert_eq!(after.by_id(letters).await.unwrap(), Topic::DlqTelemetry.schema());
    let unknown = after.by_id(letters + 1).await.unwrap_err();
    assert!(matches!(unknown, Error::Request { .. }) && unknown.may_pass(), "{unknown}");
    let never = after.id_for(Topic::EventsRaw).await.unwrap_err();
    assert!(never.may_pass(), "{never}");
}

// F29
#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_registry_is_filled_again_and_its_old_ids_are_forgotten() {
    let (first, second, cache) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let broker = registry(first.path(), None).await;
    let (at, url) = (broker.registry(), format!("http://{}", broker.registry()));
    let schemas = Schemas::new(&url, Some(cache.path().to_owned()));
    let raw = schemas.id_for(Topic::TelemetryRaw).await.unwrap();
    broker.stop().await;

    let broker = registry(second.path(), Some(at)).await;
    let letters = schemas.id_for(Topic::DlqTelemetry).await.unwrap();
    assert_eq!(raw, letters, "the new registry begins to count anew");
    assert_eq!(schemas.by_id(raw).await.unwrap(), Topic::DlqTelemetry.schema());
    let again = schemas.id_for(Topic::TelemetryRaw).await.unwrap();
    assert_ne!(again, raw);
    broker.stop().await;
    let after = Schemas::new(&url, Some(cache.path().to_owned()));
    assert_eq!(after.id_for(Topic::TelemetryRaw).await.unwrap(), again);
    assert_eq!(after.by_id(again).await.unwrap(), Topic::TelemetryRaw.schema());
}
