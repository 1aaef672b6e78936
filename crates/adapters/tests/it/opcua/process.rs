//! An adapter with its host and its pump, as a process runs them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use adapters::opcua::OpcUaAdapter;
use adapters::opcua::trust::Folders;
use adapters::process::serve;
use model::SystemClock;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{DEADLINE, Kept, identity};

/// A running adapter; its readings are in `kept`.
pub(crate) struct Process {
    ctx: daemon::Context,
    _run_dir: tempfile::TempDir,
    pub(crate) kept: Kept,
    tasks: tokio::task::JoinSet<Result<(), adapters::Error>>,
}

/// Settings that read nodes of the first namespace by name, without security, with `more` on top.
pub(crate) fn settings(port: u16, names: &[&str], more: &Value) -> Value {
    let point = |name: &&str| json!({"node": format!("nsu=urn:test:line;s={name}"), "parameter": name.to_lowercase()});
    let points: Vec<Value> = names.iter().map(point).collect();
    let mut settings = json!({
        "adapter_id": "adapter_1", "adapter_type": "opcua", "url": format!("opc.tcp://127.0.0.1:{port}/"),
        "security_policy": "None", "allow_insecure": true, "asset_id": "press", "points": points,
        "publishing_interval_ms": 100, "keep_alive_ms": 1000,
    });
    for (key, value) in more.as_object().unwrap() {
        settings[key] = value.clone();
    }
    settings
}

impl Process {
    pub(crate) fn start(settings: &Value, state: &Path) -> Self {
        Self::start_with(settings, state, Kept::default(), None)
    }

    pub(crate) fn start_with(settings: &Value, state: &Path, kept: Kept, password: Option<&str>) -> Self {
        let run_dir = tempfile::tempdir().unwrap();
        let mut ctx = daemon::Context::new("adapter_1", "gw-1");
        ctx.run_dir = Some(run_dir.path().to_owned());
        let plan = adapters::opcua::config::plan(settings, "").unwrap();
        let folders = Folders::new(state);
        let password = password.map(str::to_owned);
        let adapter = OpcUaAdapter::new(plan, "gw-1", "box.local", password, folders, Arc::new(SystemClock));
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(serve(adapter, kept.clone(), identity(), ctx.clone()));
        Self { ctx, _run_dir: run_dir, kept, tasks }
    }

    pub(crate) async fn get(&self, path: &str) -> String {
        let file = self.ctx.run_dir.as_ref().unwrap().join("adapter_1.addr");
        let Ok(bytes) = std::fs::read(file) else { return String::new() };
        let announced: Value = serde_json::from_slice(&bytes).unwrap();
        let mut stream = tokio::net::TcpStream::connect(announced["admin"].as_str().unwrap()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Waits until an answer of the admin server holds a text.
    pub(crate) async fn until(&self, path: &str, text: &str) -> String {
        let mut last = String::new();
        let waiting = async {
            loop {
                last = self.get(path).await;
                if last.contains(text) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let found = tokio::time::timeout(DEADLINE, waiting).await;
        assert!(found.is_ok(), "never {text} in {last}");
        last
    }

    /// Ends as on SIGTERM.
    pub(crate) async fn end(mut self) {
        self.ctx.stop.cancel();
        self.tasks.join_next().await.unwrap().unwrap().unwrap();
    }
}
