//! The index: what lies in the dead letter topics and what was decided about it, rebuilt from the stream at every start.
//!
//! Bounded: beyond [`ENTRIES_MAX`] letters the oldest leave the index (they stay in the stream) and are counted. A letter
//! the stream no longer keeps leaves as well. Groups are counted when they are asked for.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use model::Timestamp;
use pipeline::dead_letter::{GroupKey, Status, StatusRecord, adapter_of};
use serde_json::{Value, json};
use stream::avro::Reader;
use stream::header;
use stream::message::DeadLetter;
use stream::message::dead_letter::Headers;

use super::entry::{Entry, Key, Match, Place, some};

/// Letters in the index, about 300 bytes each; one more makes the oldest leave.
pub const ENTRIES_MAX: usize = 200_000;
/// Names kept once for all letters; beyond it unused ones are looked for.
const NAMES_MAX: usize = 50_000;
/// Groups in one answer, the largest ones.
const GROUPS_MAX: usize = 1000;
/// Newest letters named with a group.
const SAMPLES: usize = 3;
/// Characters of a value that the list shows.
const VALUE_SHOWN: usize = 32;

/// What is known of all letters.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: BTreeMap<Key, Entry>,
    by_id: HashMap<Arc<str>, Key>,
    /// Decisions whose letter has not been read yet, or is gone.
    early: HashMap<Box<str>, StatusRecord>,
    names: HashSet<Arc<str>>,
    /// Everything that was there at the start has been read.
    pub(super) complete: bool,
    /// Letters that left because there were too many.
    beyond: u64,
    /// Letters that left because the stream no longer keeps them.
    expired: u64,
    /// Records that are no letters.
    unreadable: u64,
}

impl Index {
    pub(super) fn take_letter(&mut self, place: Place, letter: &DeadLetter<'_>) {
        let id: Arc<str> = letter.id().into();
        if self.by_id.contains_key(&id) {
            return; // written twice around a crash
        }
        let record_id = header_of(letter, header::RECORD_ID).unwrap_or_default();
        let key = Key { failed_at: letter.first_failed_at.as_micros(), place };
        let decided = self.early.remove(&*id).map(Box::new);
        let entry = Entry {
            reason: self.name(letter.reason),
            rule: self.name(letter.rule_id.unwrap_or("")),
            adapter: self.name(adapter_of(record_id).unwrap_or("")),
            asset: self.name(letter.asset_id.unwrap_or("")),
            parameter: self.name(letter.parameter.unwrap_or("")),
            value: letter.value.map(|value| value.chars().take(VALUE_SHOWN).collect::<String>().into()),
            device_time: letter.device_time.map(Timestamp::as_micros),
            attempts: letter.attempts,
            decided,
            id: Arc::clone(&id),
        };
        self.by_id.insert(id, key);
        self.entries.insert(key, entry);
        if self.entries.len() > ENTRIES_MAX
            && let Some((_, gone)) = self.entries.pop_first()
        {
            self.by_id.remove(&gone.id);
            self.beyond += 1;
        }
    }

    pub(super) fn note_unreadable(&mut self) {
        self.unreadable += 1;
    }

    /// Takes a decision in, unless a newer one is known.
    pub(super) fn take_status(&mut self, id: &str, record: StatusRecord) {
        match self.by_id.get(id).and_then(|key| self.entries.get_mut(key)) {
            Some(entry) if entry.decided.as_ref().is_none_or(|known| known.revision < record.revision) => {
                entry.decided = Some(Box::new(record));
            }
            // letters come before decisions, but they are read side by side at the start
            None if !self.complete && self.early.len() < ENTRIES_MAX => {
                self.early.insert(id.into(), record);
            }
            _ => {}
        }
    }

    /// A decision was taken out of the stream.
    pub(super) fn forget_status(&mut self, id: &str) {
        self.early.remove(id);
        if let Some(entry) = self.by_id.get(id).and_then(|key| self.entries.get_mut(key)) {
            entry.decided = None;
        }
    }

    /// Everything there was has been read: decisions without a letter are about letters that are gone.
    pub(super) fn finish(&mut self) {
        self.complete = true;
        self.early = HashMap::new();
    }

    /// Letters of a partition below `start` are no longer kept.
    pub(super) fn expire(&mut self, topic: &str, partition: i32, start: i64) {
        let Some(first) = Place::new(topic, partition, start) else { return };
        let gone =
            |place: Place| place.topic() == first.topic() && place.partition == partition && place.offset < start;
        let keys: Vec<Key> = self.entries.keys().filter(|key| gone(key.place)).copied().collect();
        for key in keys {
            if let Some(entry) = self.entries.remove(&key) {
                self.by_id.remove(&entry.id);
                self.expired += 1;
            }
        }
    }

    pub(super) fn get(&self, key: Key) -> Option<&Entry> {
        self.entries.get(&key)
    }

    pub(super) fn find(&self, id: &str) -> Option<(Key, &Entry)> {
        let key = *self.by_id.get(id)?;
        self.entries.get(&key).map(|entry| (key, entry))
    }

    /// The oldest `max` letters that match, and how many more there are.
    pub(super) fn select(&self, wanted: &Match<'_>, max: usize) -> (Vec<Key>, u64) {
        let (mut keys, mut more) = (Vec::new(), 0);
        for (key, _) in self.entries.iter().filter(|(key, entry)| wanted.holds(**key, entry)) {
            if keys.len() < max { keys.push(*key) } else { more += 1 }
        }
        (keys, more)
    }

    /// In the order in which letters are worked through: by partition, and by the time of the device there.
    pub(super) fn sort_for_work(&self, keys: &mut [Key]) {
        keys.sort_by_cached_key(|key| {
            let time = self.entries.get(key).and_then(|entry| entry.device_time);
            (key.place.topic(), key.place.partition, time, key.place.offset)
        });
    }

    /// Letters that match, the newest first, behind the end of the page before.
    pub(super) fn list(&self, wanted: &Match<'_>, before: Option<Key>, limit: usize) -> Value {
        let end = before.map_or(Bound::Unbounded, Bound::Excluded);
        let mut matching =
            self.entries.range((Bound::Unbounded, end)).rev().filter(|(key, entry)| wanted.holds(**key, entry));
        let page: Vec<(&Key, &Entry)> = matching.by_ref().take(limit).collect();
        let next = page.last().filter(|_| matching.next().is_some()).map(|(key, _)| key.to_string());
        let entries: Vec<Value> = page.iter().map(|(key, entry)| entry.json(**key)).collect();
        self.with_remarks(json!({ "entries": entries, "next": next }))
    }

    /// Letters that match, counted by their cause, the largest group first.
    pub(super) fn groups(&self, wanted: &Match<'_>) -> Value {
        struct Group<'g> {
            count: u64,
            by_status: BTreeMap<Status, u64>,
            first: i64,
            last: i64,
            samples: Vec<&'g str>,
        }
        let mut groups: HashMap<GroupKey<'_>, Group<'_>> = HashMap::new();
        let mut total = 0;
        for (key, entry) in self.entries.iter().rev().filter(|(key, entry)| wanted.holds(**key, entry)) {
            total += 1;
            let group = groups.entry(entry.group()).or_insert_with(|| Group {
                count: 0,
                by_status: BTreeMap::new(),
                first: key.failed_at,
                last: key.failed_at,
                samples: Vec::new(),
            });
            group.count += 1;
            *group.by_status.entry(entry.status()).or_default() += 1;
            group.first = group.first.min(key.failed_at);
            if group.samples.len() < SAMPLES {
                group.samples.push(&entry.id);
            }
        }
        let found = groups.len();
        let mut sorted: Vec<(GroupKey<'_>, Group<'_>)> = groups.into_iter().collect();
        sorted.sort_by(|(a_key, a), (b_key, b)| b.count.cmp(&a.count).then_with(|| a_key.cmp(b_key)));
        let time = |micros: i64| Timestamp::from_micros(micros).to_string();
        let rows: Vec<Value> = sorted
            .iter()
            .take(GROUPS_MAX)
            .map(|(key, group)| {
                let statuses: serde_json::Map<String, Value> =
                    group.by_status.iter().map(|(status, count)| (status.as_str().to_owned(), json!(count))).collect();
                json!({
                    "reason": key.reason, "rule_id": some(key.rule), "adapter_id": some(key.adapter),
                    "asset_id": some(key.asset), "count": group.count, "by_status": statuses,
                    "first_failed_at": time(group.first), "last_failed_at": time(group.last), "samples": group.samples,
                })
            })
            .collect();
        self.with_remarks(json!({ "groups": rows, "groups_total": found, "entries_total": total }))
    }

    /// What an answer does not hold, and why.
    fn with_remarks(&self, mut answer: Value) -> Value {
        if let Value::Object(fields) = &mut answer {
            fields.insert("complete".to_owned(), json!(self.complete));
            fields.insert("not_indexed".to_owned(), json!(self.beyond));
            fields.insert("no_longer_kept".to_owned(), json!(self.expired));
            fields.insert("unreadable".to_owned(), json!(self.unreadable));
        }
        answer
    }

    fn name(&mut self, text: &str) -> Arc<str> {
        if let Some(name) = self.names.get(text) {
            return Arc::clone(name);
        }
        if self.names.len() >= NAMES_MAX {
            self.names.retain(|name| Arc::strong_count(name) > 1);
        }
        let name: Arc<str> = text.into();
        if self.names.len() < NAMES_MAX {
            self.names.insert(Arc::clone(&name));
        }
        name
    }
}

/// The value of a header of the original record.
fn header_of<'a>(letter: &DeadLetter<'a>, name: &str) -> Option<&'a str> {
    headers_of(letter).into_iter().find(|(key, _)| *key == name).and_then(|(_, value)| std::str::from_utf8(value).ok())
}

/// The headers of the original record.
pub(super) fn headers_of<'a>(letter: &DeadLetter<'a>) -> Vec<(&'a str, &'a [u8])> {
    let packed = match letter.headers {
        Headers::Slice(headers) => return headers.to_vec(),
        Headers::Packed(packed) => packed,
    };
    let (mut reader, mut headers) = (Reader::new(packed), Vec::new());
    while let Ok(count) = reader.long("headers") {
        if count == 0 || count < 0 && reader.long("headers").is_err() {
            break;
        }
        // each pair takes at least two bytes, so a lying count ends at the end of the bytes
        for _ in 0..count.unsigned_abs() {
            let (Ok(key), Ok(value)) = (reader.text("headers"), reader.bytes("headers")) else { return headers };
            headers.push((key, value));
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::super::entry::Filter;
    use super::*;

    fn letter(
        offset: i64,
        reason: &'static str,
        headers: &'static [(&'static str, &'static [u8])],
    ) -> DeadLetter<'static> {
        DeadLetter {
            stage: "validate",
            rule_id: Some("oven"),
            rule_revision: Some(1),
            reason,
            detail: "",
            observed: None,
            limit: None,
            topic: "telemetry.raw",
            partition: 0,
            offset,
            timestamp_ms: 0,
            key: b"oven",
            headers: Headers::Slice(headers),
            payload: b"",
            schema_id: None,
            asset_id: Some("oven"),
            parameter: Some("temperature"),
            value: Some("101"),
            device_time: Some(Timestamp::from_micros(1000 - offset)),
            gateway_id: "gw",
            config_revision: None,
            first_failed_at: Timestamp::from_micros(offset),
            attempts: 1,
        }
    }

    fn filled(count: i64) -> Index {
        let mut index = Index::default();
        for offset in 0..count {
            let reason = if offset % 3 == 0 { "RANGE_HARD" } else { "ROC_HARD" };
            let headers: &[(&str, &[u8])] = &[("sf-record-id", b"gw/press/1/2")];
            index.take_letter(Place::new("dlq.telemetry", 0, offset).unwrap(), &letter(offset, reason, headers));
        }
        index
    }

    fn decided(status: Status, revision: i64) -> StatusRecord {
        StatusRecord { status, revision, attempts: 1, ..StatusRecord::default() }
    }

    // VAL-41
    #[test]
    fn pages_follow_each_other_without_loss_while_new_letters_come() {
        let mut index = filled(10);
        let filter = Filter { adapter: Some("press".to_owned()), ..Filter::default() };
        let (mut seen, mut before) = (Vec::new(), None);
        loop {
            let page = index.list(&filter.compile().unwrap(), before, 4);
            seen.extend(
                page["entries"].as_array().unwrap().iter().map(|entry| entry["offset"].as_str().unwrap().to_owned()),
            );
            index.take_letter(Place::new("dlq.telemetry", 1, 0).unwrap(), &letter(99, "ROC_HARD", &[]));
            let Some(next) = page["next"].as_str() else { break };
            before = Key::parse(next);
        }
        assert_eq!(seen, ["9", "8", "7", "6", "5", "4", "3", "2", "1", "0"]);
    }

    #[test]
    fn groups_count_by_cause_and_status() {
        let mut index = filled(9);
        index.take_status("gw/telemetry.raw/0/3", decided(Status::Approved, 1));
        let groups = index.groups(&Filter::default().compile().unwrap());
        let rows = groups["groups"].as_array().unwrap();
        assert_eq!((rows.len(), &rows[0]["reason"], &rows[0]["count"]), (2, &json!("ROC_HARD"), &json!(6)));
        assert_eq!(rows[1]["by_status"], json!({ "NEW": 2, "APPROVED": 1 }));
        assert_eq!(rows[1]["samples"][0], "gw/telemetry.raw/0/6");
        let open = Filter { status: Some("OPEN".to_owned()), ..Filter::default() };
        assert_eq!(index.groups(&open.compile().unwrap())["entries_total"], 8);
    }

    // VAL-41, VAL-45
    #[test]
    fn the_newest_decision_holds_in_whatever_order_it_is_read() {
        let mut index = Index::default();
        index.take_status("gw/telemetry.raw/0/0", decided(Status::StillFailing, 1));
        index.take_letter(Place::new("dlq.telemetry", 0, 0).unwrap(), &letter(0, "X", &[]));
        let status = |index: &Index| index.find("gw/telemetry.raw/0/0").unwrap().1.status();
        assert_eq!(status(&index), Status::StillFailing);
        index.take_status("gw/telemetry.raw/0/0", decided(Status::Reprocessed, 2));
        index.take_status("gw/telemetry.raw/0/0", decided(Status::StillFailing, 1));
        assert_eq!(status(&index), Status::Reprocessed);
        index.expire("dlq.telemetry", 0, 1);
        assert!(index.find("gw/telemetry.raw/0/0").is_none());
    }

    // VAL-44
    #[test]
    fn work_goes_by_the_time_of_the_device() {
        let index = filled(5);
        let (mut keys, more) = index.select(&Filter::default().compile().unwrap(), 3);
        assert_eq!(more, 2);
        index.sort_for_work(&mut keys);
        assert_eq!(keys.iter().map(|key| key.place.offset).collect::<Vec<_>>(), [2, 1, 0]);
    }
}
