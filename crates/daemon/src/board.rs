//! The health board of a process: one state, one reason, since when, and a few details.
//!
//! Liveness says "the process is not stuck" and stays true when the plant is dark (G-09); readiness says "configured and
//! able to do its work".

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::{Clock, Health, Timestamp};
use serde_json::{Value, json};

/// Shared state behind `/health`. All calls are short and never block for long.
#[derive(Debug)]
pub struct Board {
    component: String,
    clock: Arc<dyn Clock>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    health: Health,
    reason: String,
    since: Timestamp,
    started: Timestamp,
    live: bool,
    ready: bool,
    details: BTreeMap<String, Value>,
}

impl Board {
    /// Starts HEALTHY but not ready.
    pub fn new(component: &str, clock: Arc<dyn Clock>) -> Self {
        let now = clock.now();
        let inner = Inner {
            health: Health::Healthy,
            reason: "starting".to_owned(),
            since: now,
            started: now,
            live: true,
            ready: false,
            details: BTreeMap::new(),
        };
        Self { component: component.to_owned(), clock, inner: Mutex::new(inner) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets state and the one sentence that explains it. `since` moves only when the state changes.
    pub fn set(&self, health: Health, reason: impl Into<String>) {
        let mut inner = self.lock();
        if inner.health != health {
            inner.since = self.clock.now();
            inner.health = health;
        }
        inner.reason = reason.into();
    }

    /// Answers of `/health/ready`.
    pub fn set_ready(&self, ready: bool) {
        self.lock().ready = ready;
    }

    /// Answers of `/health/live`; false means that only a restart helps.
    pub fn set_live(&self, live: bool) {
        self.lock().live = live;
    }

    /// Adds or replaces a detail of `/health`, for example `last_reading_at`.
    pub fn detail(&self, key: &str, value: impl Into<Value>) {
        self.lock().details.insert(key.to_owned(), value.into());
    }

    pub fn health(&self) -> Health {
        self.lock().health
    }

    pub fn reason(&self) -> String {
        self.lock().reason.clone()
    }

    pub fn is_ready(&self) -> bool {
        self.lock().ready
    }

    pub fn is_live(&self) -> bool {
        self.lock().live
    }

    /// The body of `GET /health`.
    pub fn to_json(&self) -> Value {
        let inner = self.lock();
        let mut body = json!({
            "status": inner.health.as_str().to_ascii_lowercase(),
            "component": self.component,
            "reason": inner.reason,
            "since": inner.since.to_string(),
            "started_at": inner.started.to_string(),
            "live": inner.live,
            "ready": inner.ready,
        });
        if let Value::Object(map) = &mut body {
            for (key, value) in &inner.details {
                map.insert(key.clone(), value.clone());
            }
        }
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::ManualClock;

    #[test]
    fn since_moves_with_the_state_not_with_the_reason() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1000)));
        let board = Board::new("adapter", Arc::clone(&clock) as Arc<dyn Clock>);
        board.set(Health::Degraded, "unit 5 silent");
        clock.advance_micros(5_000_000);
        board.set(Health::Degraded, "units 5 and 6 silent");
        assert_eq!(board.to_json()["since"], Timestamp::from_millis(1000).to_string());
        board.set(Health::Healthy, "all units answer");
        assert_eq!(board.to_json()["since"], Timestamp::from_millis(6000).to_string());
        assert_eq!(board.to_json()["status"], "healthy");
    }
}
