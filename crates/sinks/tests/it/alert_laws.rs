//! The router as a sink: its target is its own memory, in which every alarm becomes one message that waits.

use std::path::PathBuf;
use std::sync::Arc;

use daemon::Metrics;
use model::{Alarm, AlarmChange, Clock, Quality, SystemClock, TextList, TextMap, Timestamp, Value, alarm_flag};
use serde_json::json;
use sinks::alert_router::journal::Journal;
use sinks::alert_router::metrics::RouterMetrics;
use sinks::alert_router::sink::AlertRouterSink;
use sinks::alert_router::state::Content;

use crate::alert_delivery::{Kept, router, sender};
use crate::conformance::{self, Bench};

struct Memory {
    folder: tempfile::TempDir,
    now: Timestamp,
}

impl Memory {
    fn file(&self) -> PathBuf {
        self.folder.path().join("alerts")
    }
}

impl Bench for Memory {
    type Sink = AlertRouterSink;

    fn sink(&self) -> AlertRouterSink {
        // nobody listens there: what was taken stays in the outbox
        let hook = json!({ "hook": { "type": "webhook", "url": "http://127.0.0.1:9/hook", "flood_max": 1000 } });
        let plan = router(&hook, &json!([{ "destinations": ["hook"] }]));
        let (sender, metrics) = (sender(&plan), RouterMetrics::register(&Metrics::new("alerts")));
        let letters = Box::new(Kept::default());
        AlertRouterSink::new(plan, sender, letters, self.file(), Arc::new(SystemClock), metrics)
    }

    fn payload(&self, seq: i64) -> Vec<u8> {
        let asset = format!("pump_{seq}");
        let (key, occurrence) = (format!("gw/{asset}/temp.hi"), format!("gw/{asset}/temp.hi/1"));
        let change = AlarmChange {
            from: "CLEARED",
            to: "ACTIVE",
            cause: "limit",
            actor: None,
            actor_role: None,
            comment: None,
            command_id: None,
        };
        let alarm = Alarm {
            alarm_key: &key,
            occurrence_id: &occurrence,
            seq: 1,
            kind: "HI",
            severity: "HIGH",
            priority: None,
            asset_id: &asset,
            asset_path: None,
            parameter: Some("temp"),
            value: Value::Float(92.1),
            limit: Some(90.0),
            unit: Some("bar"),
            quality: Quality::Good,
            condition_active: true,
            acked: false,
            latched: false,
            suppressed_by_design: false,
            out_of_service: false,
            enabled: true,
            state: "ACTIVE",
            isa_state: "B",
            suppression_kind: None,
            message: "too hot",
            consequence: None,
            action: None,
            group: None,
            first_out_rank: None,
            chattering: false,
            change,
            activated_at: Some(self.now),
            acked_at: None,
            cleared_at: None,
            shelved_until: None,
            device_time: self.now,
            gateway_time: self.now,
            flags: TextList::Slice(&[alarm_flag::ANNUNCIATE]),
            config_revision: None,
            metadata: TextMap::default(),
            tags: TextMap::default(),
        };
        let mut out = Vec::new();
        stream::message::alarm::encode(&mut out, 1, &alarm);
        out
    }

    fn seqs(&self) -> Vec<i64> {
        // a copy, since a running router holds its memory for itself
        let copy = tempfile::tempdir().unwrap();
        let file = copy.path().join("alerts");
        if self.file().exists() {
            std::fs::copy(self.file(), &file).unwrap();
        }
        let (_journal, state) = Journal::open(&file).unwrap();
        let seq = |content: &Content| match content {
            Content::Alarm { notice, .. } => notice.asset.strip_prefix("pump_").unwrap().parse().unwrap(),
            other => panic!("{other:?}"),
        };
        let mut seqs: Vec<i64> = state.items.iter().map(|(_, item)| seq(&item.content)).collect();
        seqs.sort_unstable();
        seqs
    }

    fn clear(&mut self) {
        self.folder = tempfile::tempdir().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_laws_of_a_sink() {
    // RTE-02, RTE-03
    let mut memory = Memory { folder: tempfile::tempdir().unwrap(), now: SystemClock.now() };
    conformance::all(&mut memory).await;
}
