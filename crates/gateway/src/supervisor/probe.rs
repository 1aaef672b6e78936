//! Asking a child how it is: its published address, then `GET /health`.

use std::path::Path;
use std::time::Duration;

use model::Health;
use serde_json::Value;

/// A child that takes longer to answer counts as silent this time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// A longer answer is not read.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// What a child said of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    pub health: Health,
    pub reason: String,
    pub live: bool,
    /// The whole answer, for the status page.
    pub body: Value,
}

/// The admin address a child with this pid published, when it has.
pub fn admin_address(run_dir: &Path, name: &str, pid: u32) -> Option<String> {
    let bytes = std::fs::read(run_dir.join(format!("{name}.addr"))).ok()?;
    let value: Value = serde_json::from_slice(&bytes).ok()?;
    let of_this_process = value.get("pid").and_then(Value::as_u64) == Some(u64::from(pid));
    let address = value.get("admin").and_then(Value::as_str)?;
    of_this_process.then(|| address.to_owned())
}

/// Asks for `/health`; `None` when there is no sensible answer in time.
pub async fn ask(client: &reqwest::Client, address: &str) -> Option<Report> {
    let request = client.get(format!("http://{address}/health")).timeout(ANSWER_TIMEOUT);
    let mut response = request.send().await.ok()?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    let body: Value = serde_json::from_slice(&body).ok()?;
    let health = Health::parse(&body.get("status")?.as_str()?.to_ascii_uppercase())?;
    let reason = body.get("reason").and_then(Value::as_str).unwrap_or_default().to_owned();
    let live = body.get("live").and_then(Value::as_bool).unwrap_or(true);
    Some(Report { health, reason, live, body })
}
