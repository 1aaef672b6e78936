//! What a request changes, or why it may not: pure functions of the state. `store.rs` carries the changes out.

use super::error::ApiError;
use super::names::{Level, MODES, VersionName};
use super::record::{Change, Config, Given, Reference, SchemaValue};
use super::schema::{self, Kind, Parsed};
use super::state::{Identity, State};
use crate::limits::{
    COMPARE_BYTES_MAX, SCHEMA_TEXTS_BYTES_MAX, SUBJECT_VERSIONS_MAX, SUBJECTS_MAX, SUBJECTS_REMEMBERED_MAX,
};

/// A schema as a client sends it.
#[derive(Debug, Clone)]
pub(super) struct Submitted {
    pub(super) kind: Kind,
    pub(super) text: String,
    pub(super) references: Vec<Reference>,
    pub(super) metadata: Option<serde_json::Value>,
    pub(super) rule_set: Option<serde_json::Value>,
    /// Id and version, which only an import may choose.
    pub(super) id: Option<i32>,
    pub(super) version: Option<i32>,
}

impl Submitted {
    fn identity(&self, parsed: &Parsed) -> Identity {
        let (metadata, rule_set) = (self.metadata.as_ref(), self.rule_set.as_ref());
        Identity::new(parsed.kind, parsed.canonical.clone(), &self.references, metadata, rule_set)
    }
}

/// The newest version of a subject with this schema, and its id.
pub(super) fn find(
    state: &State,
    subject: &str,
    submitted: &Submitted,
    parsed: &Parsed,
    deleted: bool,
) -> Option<(i32, i32)> {
    let id = state.id_of(&submitted.identity(parsed))?;
    let versions = state.versions(subject, deleted).ok()?;
    let (version, _) = versions.into_iter().rev().find(|(_, version)| version.id == id)?;
    Some((version, id))
}

/// May this schema be registered here at all, whatever it says?
pub(super) fn may_register(state: &State, subject: &str, submitted: &Submitted) -> Result<(), ApiError> {
    match (state.mode(Some(subject)), submitted.id) {
        ("READONLY" | "READONLY_OVERRIDE", _) => {
            Err(ApiError::not_permitted(format!("Subject {subject} is in read-only mode")))
        }
        ("IMPORT", Some(_)) | ("READWRITE", None) => Ok(()),
        (_, Some(_)) => Err(ApiError::not_permitted(format!("Subject {subject} is not in import mode"))),
        (_, None) => Err(ApiError::not_permitted(format!("Subject {subject} is not in read-write mode"))),
    }
}

/// The new version, or the id of the version that has this schema already.
pub(super) fn register(
    state: &State,
    subject: &str,
    submitted: &Submitted,
    parsed: &Parsed,
) -> Result<Result<SchemaValue, i32>, ApiError> {
    if let Some((version, id)) = find(state, subject, submitted, parsed, false)
        && submitted.id.is_none_or(|wanted| wanted == id)
        && submitted.version.is_none_or(|wanted| wanted == version)
    {
        return Ok(Err(id));
    }
    check_room(state, subject, parsed)?;
    let identity = submitted.identity(parsed);
    let known = state.id_of(&identity);
    let id = match submitted.id {
        Some(id) => {
            if let Ok(stored) = state.schema(id) {
                let canonical = schema::canonical(stored.kind, &stored.text);
                let (metadata, rule_set) = (stored.metadata.as_ref(), stored.rule_set.as_ref());
                if Identity::new(stored.kind, canonical, &stored.references, metadata, rule_set) != identity {
                    return Err(ApiError::not_permitted(format!(
                        "Overwrite new schema with id {id} is not permitted."
                    )));
                }
            }
            id
        }
        None => match known {
            Some(id) => id,
            None => state.last_id().checked_add(1).ok_or_else(ApiError::store)?,
        },
    };
    let next = state.next_version(subject);
    let version = match submitted.version {
        // an import may fill any version that is not taken
        Some(version) if submitted.id.is_some() => match state.version(subject, VersionName::Number(version), true) {
            Ok((_, taken)) if taken.id != id || !taken.deleted => {
                let message = format!("Version {version} of subject {subject} has another schema.");
                return Err(ApiError::not_permitted(message));
            }
            _ => version,
        },
        Some(version) if version != next => {
            return Err(ApiError::invalid_schema("Version is not one more than previous version"));
        }
        _ => next,
    };
    // one id has one text: that of whoever came first
    let text = state.schema(id).map_or_else(|_| parsed.text.clone(), |stored| stored.text.clone());
    Ok(Ok(SchemaValue {
        subject: subject.to_owned(),
        version,
        id,
        schema_type: (parsed.kind != Kind::Avro).then(|| parsed.kind.name().to_owned()),
        references: submitted.references.clone(),
        metadata: submitted.metadata.clone(),
        rule_set: submitted.rule_set.clone(),
        schema: text,
        deleted: false,
    }))
}

fn check_room(state: &State, subject: &str, parsed: &Parsed) -> Result<(), ApiError> {
    let full = |what: String| Err(ApiError::not_permitted(format!("there is no room for another schema: {what}")));
    if !state.is_known(subject) {
        if state.subject_count() >= SUBJECTS_MAX {
            return full(format!("there are {SUBJECTS_MAX} subjects; delete some permanently"));
        }
        if state.remembered_count() >= SUBJECTS_REMEMBERED_MAX {
            return full(format!("{SUBJECTS_REMEMBERED_MAX} names of subjects have been used"));
        }
    }
    if state.versions(subject, true).is_ok_and(|versions| versions.len() >= SUBJECT_VERSIONS_MAX) {
        return full(format!("the subject has {SUBJECT_VERSIONS_MAX} versions; delete some permanently"));
    }
    if state.text_bytes() + parsed.text.len() > SCHEMA_TEXTS_BYTES_MAX {
        return full(format!("all schemas together have {SCHEMA_TEXTS_BYTES_MAX} bytes; delete some permanently"));
    }
    Ok(())
}

/// What a schema is to be held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Against {
    /// The versions that the level asks for.
    Level,
    One(VersionName),
}

/// An older schema, cut loose from the state so that it can be judged elsewhere.
#[derive(Debug, Clone)]
pub(super) struct Older {
    version: i32,
    kind: Kind,
    text: String,
    references: Vec<String>,
}

/// The older schemas to be held against, newest last, and the level that says how.
pub(super) fn older(state: &State, subject: &str, against: Against) -> Result<(Level, String, Vec<Older>), ApiError> {
    let name = state.level(Some(subject)).to_owned();
    let level = Level::parse(&name).ok_or_else(ApiError::invalid_level)?;
    let mut versions = match against {
        Against::One(VersionName::Number(number)) => {
            let found = state.version(subject, VersionName::Number(number), false);
            vec![found.map_err(|_| ApiError::version_not_found(&number.to_string()))?]
        }
        // a subject without versions takes everything
        _ => state.versions(subject, false).unwrap_or_default(),
    };
    let newest_only = matches!(against, Against::One(_)) || (against == Against::Level && !level.transitive);
    if newest_only {
        versions = versions.pop().into_iter().collect();
    }
    if !level.backward && !level.forward {
        versions.clear();
    }
    let (mut older, mut bytes) = (Vec::new(), 0);
    for (number, version) in versions {
        let stored = state.schema(version.id)?;
        let references: Vec<String> = state.resolve(&stored.references)?.into_iter().map(str::to_owned).collect();
        bytes += stored.text.len() + references.iter().map(String::len).sum::<usize>();
        if bytes > COMPARE_BYTES_MAX {
            let message = format!("the versions to be compared have more than {COMPARE_BYTES_MAX} bytes");
            return Err(ApiError::not_permitted(message));
        }
        older.push(Older { version: number, kind: stored.kind, text: stored.text.clone(), references });
    }
    Ok((level, name, older))
}

/// Holds a schema against older ones. The messages say what does not fit, where, and which version it is; none is good.
pub(super) fn judge(new: &Parsed, level: Level, level_name: &str, older: &[Older]) -> Vec<String> {
    let mut messages = Vec::new();
    for old in older.iter().rev() {
        let references: Vec<&str> = old.references.iter().map(String::as_str).collect();
        let found: Vec<String> = match schema::parse(old.kind, &old.text, &references) {
            Ok(parsed) => {
                let backward = if level.backward { schema::differences(&parsed, new) } else { Vec::new() };
                let forward = if level.forward { schema::differences(new, &parsed) } else { Vec::new() };
                let backward = backward.iter().map(|difference| difference.describe("new", "old"));
                backward.chain(forward.iter().map(|difference| difference.describe("old", "new"))).collect()
            }
            Err(reason) => vec![format!("{{errorType:'OLD_SCHEMA_INVALID', description:'{reason}'}}")],
        };
        if !found.is_empty() {
            messages.extend(found);
            messages.push(format!("{{oldSchemaVersion: {}}}", old.version));
            messages.push(format!("{{oldSchema: '{}'}}", old.text));
            break; // one version that does not fit is enough
        }
    }
    if !messages.is_empty() {
        messages.push(format!("{{validateFields: 'false', compatibility: '{level_name}'}}"));
    }
    messages
}

/// Changes that delete a subject, and the versions deleted.
pub(super) fn delete_subject(
    state: &State,
    subject: &str,
    permanent: bool,
) -> Result<(Vec<Change>, Vec<i32>), ApiError> {
    check_writable(state, Some(subject))?;
    let all = state.versions(subject, true)?;
    let live: Vec<i32> = all.iter().filter(|(_, version)| !version.deleted).map(|(number, _)| *number).collect();
    let doomed: Vec<i32> = if permanent { all.iter().map(|(number, _)| *number).collect() } else { live.clone() };
    if permanent && !live.is_empty() {
        return Err(ApiError::subject_not_soft_deleted(subject));
    }
    if doomed.is_empty() {
        return Err(ApiError::subject_soft_deleted(subject));
    }
    for number in &doomed {
        // what is only deleted softly can come back and must find what it refers to
        if !state.referenced_by(subject, *number, permanent).is_empty() {
            return Err(ApiError::referenced(subject, *number));
        }
    }
    let owned = || subject.to_owned();
    if permanent {
        let purges = doomed.iter().map(|version| Change::Purge { subject: owned(), version: *version }).collect();
        return Ok((with_memory(state, purges), doomed));
    }
    let last = all.last().map(|(number, _)| *number).unwrap_or_default();
    let mut changes = vec![Change::DeleteSubject { subject: owned(), version: last }];
    if state.mode_of(Some(subject)).is_some() {
        changes.push(Change::Mode { subject: Some(owned()), mode: None });
    }
    if state.config(Some(subject)).is_some() {
        changes.push(Change::Config { subject: Some(owned()), config: None });
    }
    Ok((changes, doomed))
}

/// Changes that delete one version, and its number.
pub(super) fn delete_version(
    state: &State,
    subject: &str,
    name: VersionName,
    permanent: bool,
) -> Result<(Vec<Change>, i32), ApiError> {
    check_writable(state, Some(subject))?;
    if !permanent && state.versions(subject, false).is_err() && state.is_known(subject) && name == VersionName::Latest {
        return Err(ApiError::subject_soft_deleted(subject));
    }
    let (version, entry) = match name {
        VersionName::Latest => state.version(subject, name, permanent)?,
        VersionName::Number(_) => state.version(subject, name, true)?,
    };
    if !permanent && entry.deleted {
        return Err(ApiError::version_soft_deleted(subject, version));
    }
    if permanent && !entry.deleted {
        return Err(ApiError::version_not_soft_deleted(subject, version));
    }
    if !state.referenced_by(subject, version, permanent).is_empty() {
        return Err(ApiError::referenced(subject, version));
    }
    if permanent {
        let purge = Change::Purge { subject: subject.to_owned(), version };
        return Ok((with_memory(state, vec![purge]), version));
    }
    let stored = state.schema(entry.id)?;
    let value = SchemaValue {
        subject: subject.to_owned(),
        version,
        id: entry.id,
        schema_type: (stored.kind != Kind::Avro).then(|| stored.kind.name().to_owned()),
        references: stored.references.clone(),
        metadata: stored.metadata.clone(),
        rule_set: stored.rule_set.clone(),
        schema: stored.text.clone(),
        deleted: true,
    };
    Ok((vec![Change::Schema(value)], version))
}

/// Adds what keeps ids and versions from being given twice after their records are compacted away.
fn with_memory(state: &State, mut purges: Vec<Change>) -> Vec<Change> {
    let mut given = Given { last_id: state.last_id(), last_versions: state.given().last_versions.clone() };
    let mut touched: Vec<&str> = purges
        .iter()
        .filter_map(|change| if let Change::Purge { subject, .. } = change { Some(subject.as_str()) } else { None })
        .collect();
    touched.dedup();
    let mut marks = Vec::new();
    for subject in touched {
        let purged = |number: i32| {
            purges.iter().any(|change| {
                matches!(change, Change::Purge { subject: of, version } if of == subject && *version == number)
            })
        };
        let mut left = state.versions(subject, true).unwrap_or_default();
        left.retain(|(number, _)| !purged(*number));
        let last = state.next_version(subject) - 1;
        let shown = left.last().map(|(number, _)| *number).unwrap_or_default().max(state.deletion(subject));
        if last <= shown {
            continue;
        }
        if left.iter().all(|(_, version)| version.deleted) {
            // nothing is left that this could delete
            marks.push(Change::DeleteSubject { subject: subject.to_owned(), version: last });
        } else {
            given.last_versions.insert(subject.to_owned(), last);
        }
    }
    // a newer version shows what had to be remembered
    given.last_versions.retain(|subject, last| {
        let newest = state.versions(subject, true).ok().and_then(|versions| versions.last().map(|(number, _)| *number));
        newest.is_none_or(|newest| newest <= *last)
    });
    purges.extend(marks);
    purges.push(Change::Given(given));
    purges
}

/// Changes that set a mode, or take it back.
pub(super) fn set_mode(
    state: &State,
    subject: Option<&str>,
    mode: Option<&str>,
    force: bool,
) -> Result<Vec<Change>, ApiError> {
    let mode = mode.map(str::to_ascii_uppercase);
    if mode.as_deref().is_some_and(|mode| !MODES.contains(&mode)) {
        return Err(ApiError::invalid_mode());
    }
    let mut changes = Vec::new();
    if mode.as_deref() == Some("IMPORT") && state.mode(subject) != "IMPORT" && !force {
        let wanted = |name: &str| subject.is_none_or(|subject| subject == name);
        if state.subjects().any(|(name, live)| live && wanted(name)) {
            return Err(ApiError::not_permitted("Cannot import since found existing subjects"));
        }
        let leftovers = state.deleted_versions(subject);
        for (name, version) in &leftovers {
            if !state.referenced_by(name, *version, true).is_empty() && subject.is_some() {
                return Err(ApiError::referenced(name, *version));
            }
        }
        let purges = leftovers.into_iter().map(|(subject, version)| Change::Purge { subject, version });
        changes = with_memory(state, purges.collect());
    }
    changes.push(Change::Mode { subject: subject.map(str::to_owned), mode });
    Ok(changes)
}

/// Changes that set what `given` names of a subject's settings, or take all of them back.
pub(super) fn set_config(state: &State, subject: Option<&str>, given: Option<Config>) -> Result<Vec<Change>, ApiError> {
    check_writable(state, subject)?;
    let config = given.map(|given| {
        let level = given.compatibility_level.map(|level| level.to_ascii_uppercase());
        if level.as_deref().is_some_and(|level| Level::parse(level).is_none()) {
            return Err(ApiError::invalid_level());
        }
        let mut config = state.config(subject).cloned().unwrap_or_default();
        config.compatibility_level = level.or(config.compatibility_level);
        config.normalize = given.normalize.or(config.normalize);
        Ok(config)
    });
    Ok(vec![Change::Config { subject: subject.map(str::to_owned), config: config.transpose()? }])
}

fn check_writable(state: &State, subject: Option<&str>) -> Result<(), ApiError> {
    match (state.mode(subject), subject) {
        ("READONLY" | "READONLY_OVERRIDE", Some(subject)) => {
            Err(ApiError::not_permitted(format!("Subject {subject} is in read-only mode")))
        }
        ("READONLY" | "READONLY_OVERRIDE", None) => Err(ApiError::not_permitted("the registry is in read-only mode")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn submitted(text: &str) -> Submitted {
        Submitted {
            kind: Kind::Avro,
            text: text.to_owned(),
            references: vec![],
            metadata: None,
            rule_set: None,
            id: None,
            version: None,
        }
    }

    fn add(state: &mut State, subject: &str, text: &str) -> (i32, i32) {
        let parsed = schema::parse(Kind::Avro, text, &[]).unwrap();
        let value = register(state, subject, &submitted(text), &parsed).unwrap().unwrap();
        let place = (value.version, value.id);
        state.apply(Change::Schema(value));
        place
    }

    /// The state after everything that compaction may drop was dropped.
    fn compacted(log: &[Change]) -> State {
        let encoded: Vec<_> = log.iter().map(Change::encode).collect();
        let mut state = State::default();
        for (index, (key, value)) in encoded.iter().enumerate() {
            let newest = !encoded[index + 1..].iter().any(|(other, _)| other == key);
            if newest && value.is_some() {
                state.apply(Change::decode(key, value.as_deref()).unwrap());
            }
        }
        state
    }

    // STR-20: ids and versions are never given twice, whatever compaction drops
    #[test]
    fn compaction_does_not_forget_what_was_given() {
        for doomed in [vec![3], vec![2, 3], vec![1, 2, 3], vec![3, 2, 1], vec![1]] {
            let (mut state, mut log) = (State::default(), Vec::new());
            for text in [r#""int""#, r#""long""#, r#""string""#] {
                let parsed = schema::parse(Kind::Avro, text, &[]).unwrap();
                let value = register(&state, "s", &submitted(text), &parsed).unwrap().unwrap();
                log.push(Change::Schema(value.clone()));
                state.apply(Change::Schema(value));
            }
            for version in doomed {
                for permanent in [false, true] {
                    let (changes, _) = delete_version(&state, "s", VersionName::Number(version), permanent).unwrap();
                    for change in changes {
                        log.push(change.clone());
                        state.apply(change);
                    }
                }
                let after = compacted(&log);
                assert_eq!((after.next_version("s"), after.last_id()), (4, 3), "{log:?}");
                assert_eq!(after.versions("s", true).ok(), state.versions("s", true).ok(), "{log:?}");
            }
        }
        let (mut state, mut log) = (State::default(), Vec::new());
        let parsed = schema::parse(Kind::Avro, r#""int""#, &[]).unwrap();
        let value = register(&state, "s", &submitted(r#""int""#), &parsed).unwrap().unwrap();
        log.push(Change::Schema(value.clone()));
        state.apply(Change::Schema(value));
        for permanent in [false, true] {
            for change in delete_subject(&state, "s", permanent).unwrap().0 {
                log.push(change.clone());
                state.apply(change);
            }
        }
        assert_eq!((compacted(&log).next_version("s"), compacted(&log).last_id()), (2, 1));
    }

    #[test]
    fn one_schema_has_one_id_in_all_subjects() {
        let mut state = State::default();
        assert_eq!(add(&mut state, "a", r#""int""#), (1, 1));
        assert_eq!(add(&mut state, "b", r#"{"type":"int"}"#), (1, 1));
        assert_eq!(add(&mut state, "a", r#""long""#), (2, 2));
        let parsed = schema::parse(Kind::Avro, r#""int""#, &[]).unwrap();
        assert_eq!(register(&state, "a", &submitted(r#""int""#), &parsed).unwrap().unwrap_err(), 1);
    }

    // STR-20: an import chooses ids and versions, and cannot give one to two
    #[test]
    fn an_import_does_not_overwrite() {
        let mut state = State::default();
        let import = |state: &State, text: &str, id: i32, version: i32| {
            let parsed = schema::parse(Kind::Avro, text, &[]).unwrap();
            let submitted = Submitted { id: Some(id), version: Some(version), ..submitted(text) };
            may_register(state, "s", &submitted)?;
            register(state, "s", &submitted, &parsed)
        };
        assert_eq!(import(&state, r#""int""#, 40, 7).unwrap_err().code, 42205, "not in import mode");
        state.apply(Change::Mode { subject: Some("s".to_owned()), mode: Some("IMPORT".to_owned()) });
        assert!(may_register(&state, "s", &submitted(r#""int""#)).is_err(), "ids are given by the importer");
        let value = import(&state, r#""int""#, 40, 7).unwrap().unwrap();
        assert_eq!((value.id, value.version), (40, 7));
        state.apply(Change::Schema(value));
        assert_eq!(import(&state, r#""int""#, 40, 7).unwrap().unwrap_err(), 40, "again is no change");
        assert_eq!(import(&state, r#""long""#, 40, 8).unwrap_err().code, 42205);
        assert_eq!(import(&state, r#""long""#, 41, 7).unwrap_err().code, 42205);
        assert_eq!((state.next_version("s"), state.last_id()), (8, 40));
    }

    // STR-20
    #[test]
    fn rooms_have_walls() {
        let mut state = State::default();
        for index in 0..SUBJECTS_MAX {
            state.apply(Change::Schema(SchemaValue {
                subject: format!("s{index}"),
                version: 1,
                id: 1,
                schema_type: None,
                references: vec![],
                metadata: None,
                rule_set: None,
                schema: r#""int""#.to_owned(),
                deleted: false,
            }));
        }
        let parsed = schema::parse(Kind::Avro, r#""int""#, &[]).unwrap();
        assert_eq!(register(&state, "one-more", &submitted(r#""int""#), &parsed).unwrap_err().code, 42205);
        assert!(register(&state, "s1", &submitted(r#""int""#), &parsed).is_ok());
    }
}
