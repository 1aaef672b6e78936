//! rskafka: a client without groups, idempotence and transactions; what it has is tried.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeZone, Utc};
use rskafka::client::partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder};
use rskafka::record::Record;

type Outcome = Result<(), Box<dyn std::error::Error>>;

const CASE_MAX: Duration = Duration::from_secs(60);
const FIRST_MS: i64 = 1_700_000_000_000;

fn at(ms: i64) -> DateTime<Utc> {
    Utc.timestamp_millis_opt(ms).single().expect("a time")
}

fn expect<T: PartialEq + std::fmt::Debug>(actual: T, wanted: T, what: &str) -> Outcome {
    if actual == wanted { Ok(()) } else { Err(format!("{what}: {actual:?} instead of {wanted:?}").into()) }
}

async fn topic(client: &Client, name: &str) -> Result<PartitionClient, Box<dyn std::error::Error>> {
    client.controller_client()?.create_topic(name, 1, 1, 10_000).await?;
    Ok(client.partition_client(name, 0, UnknownTopicHandling::Retry).await?)
}

fn records(count: i64) -> Vec<Record> {
    (0..count)
        .map(|i| Record {
            key: Some(format!("k{i}").into_bytes()),
            value: Some(format!("v{i} {}", "x".repeat(80)).into_bytes()),
            headers: BTreeMap::from([("h".to_owned(), b"1".to_vec())]),
            timestamp: at(FIRST_MS + i),
        })
        .collect()
}

async fn read(partition: &PartitionClient, from: i64, count: usize) -> Result<Vec<Record>, Box<dyn std::error::Error>> {
    let mut found = Vec::new();
    let mut next = from;
    while found.len() < count {
        let (batch, _) = partition.fetch_records(next, 1..1_000_000, 1_000).await?;
        for record in batch {
            next = record.offset + 1;
            found.push(record.record);
        }
    }
    Ok(found)
}

async fn round_trip(client: &Client, name: &str, compression: Compression) -> Outcome {
    let partition = topic(client, name).await?;
    let sent = records(1000);
    for part in sent.chunks(250) {
        partition.produce(part.to_vec(), compression).await?;
    }
    expect(read(&partition, 0, 1000).await?, sent, "records")
}

async fn seek_by_time(client: &Client) -> Outcome {
    let partition = topic(client, "rskafka-time").await?;
    partition.produce(records(100), Compression::NoCompression).await?;
    expect(partition.get_offset(OffsetAt::Timestamp(at(FIRST_MS + 30))).await?, 30, "offset at a time")?;
    expect(partition.get_offset(OffsetAt::Earliest).await?, 0, "first offset")?;
    expect(partition.get_offset(OffsetAt::Latest).await?, 100, "next offset")
}

async fn admin(client: &Client) -> Outcome {
    let partition = topic(client, "rskafka-admin").await?;
    partition.produce(records(100), Compression::NoCompression).await?;
    partition.delete_records(60, 10_000).await?;
    expect(partition.get_offset(OffsetAt::Earliest).await?, 60, "first offset")?;
    let listed = client.list_topics().await?;
    expect(listed.iter().any(|topic| topic.name == "rskafka-admin"), true, "listed")?;
    client.controller_client()?.delete_topic("rskafka-admin", 10_000).await?;
    let listed = client.list_topics().await?;
    expect(listed.iter().any(|topic| topic.name == "rskafka-admin"), false, "deleted")
}

async fn report(name: &str, case: impl Future<Output = Outcome>) {
    let wanted = std::env::var("SF_COMPAT_CASES").unwrap_or_default();
    if !wanted.is_empty() && !wanted.split(',').any(|one| one == name) {
        return;
    }
    match tokio::time::timeout(CASE_MAX, case).await {
        Ok(Ok(())) => println!("pass {name}"),
        Ok(Err(error)) => println!("fail {name}: {error}"),
        Err(_) => println!("fail {name}: it takes too long"),
    }
}

#[tokio::main]
async fn main() {
    let bootstrap = std::env::var("SF_COMPAT_BOOTSTRAP").expect("SF_COMPAT_BOOTSTRAP is set");
    let client = Arc::new(ClientBuilder::new(vec![bootstrap]).build().await.expect("the broker answers"));
    report("produce-consume", round_trip(&client, "rskafka-plain", Compression::NoCompression)).await;
    report("compression-gzip", round_trip(&client, "rskafka-gzip", Compression::Gzip)).await;
    report("compression-snappy", round_trip(&client, "rskafka-snappy", Compression::Snappy)).await;
    report("compression-lz4", round_trip(&client, "rskafka-lz4", Compression::Lz4)).await;
    report("compression-zstd", round_trip(&client, "rskafka-zstd", Compression::Zstd)).await;
    report("seek-by-time", seek_by_time(&client)).await;
    report("admin-topics", admin(&client)).await;
}
