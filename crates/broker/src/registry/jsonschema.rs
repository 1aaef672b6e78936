//! JSON Schema: does a reader accept every document that the writer's schema allows?
//!
//! Only what can be proven counts: a keyword that is not followed here (`not`, `if`, `contains`, patterns of names ...)
//! must be the same on both sides, or the schemas count as different. References inside of a schema are followed;
//! those to other schemas must be unchanged.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::json;
use super::schema::Difference;
use crate::limits::{COMPARE_DEPTH_MAX, COMPARE_STEPS_MAX, DIFFERENCES_MAX};

/// A schema, and the texts of those it refers to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct JsonSchema {
    root: Value,
    references: Vec<String>,
}

const TYPES: [&str; 7] = ["null", "boolean", "object", "array", "number", "string", "integer"];

/// Reads a schema. Keywords are not checked: those that a reader does not know mean nothing to it.
pub(super) fn parse(text: &str, references: &[&str]) -> Result<JsonSchema, String> {
    let root = json::parse(text)?;
    match &root {
        Value::Bool(_) => {}
        Value::Object(object) => check_types(object.get("type"))?,
        _ => return Err("a JSON Schema is an object or a boolean".to_owned()),
    }
    Ok(JsonSchema { root, references: references.iter().map(|text| (*text).to_owned()).collect() })
}

fn check_types(types: Option<&Value>) -> Result<(), String> {
    let known = |name: &Value| name.as_str().is_some_and(|name| TYPES.contains(&name));
    match types {
        Some(Value::Array(names)) if names.iter().all(known) => Ok(()),
        Some(name) if !known(name) => Err(format!("there is no type {name}")),
        _ => Ok(()),
    }
}

/// What the writer allows and the reader does not; empty when the reader takes everything.
pub(super) fn differences(writer: &JsonSchema, reader: &JsonSchema) -> Vec<Difference> {
    if writer == reader {
        return Vec::new();
    }
    let mut walk = Walk::new(writer, reader);
    walk.compare(&writer.root, &reader.root, "#");
    walk.found
}

struct Walk<'s> {
    writer: &'s JsonSchema,
    reader: &'s JsonSchema,
    /// Pairs of schemas, by their addresses, that fit as far as is known; schemas may be recursive.
    assumed: HashSet<(usize, usize)>,
    /// The same in order, so that what was built on a pair that turned out different can be forgotten.
    trail: Vec<(usize, usize)>,
    steps: usize,
    depth: usize,
    found: Vec<Difference>,
}

impl<'s> Walk<'s> {
    fn new(writer: &'s JsonSchema, reader: &'s JsonSchema) -> Self {
        Self { writer, reader, assumed: HashSet::new(), trail: Vec::new(), steps: 0, depth: 0, found: Vec::new() }
    }

    fn say(&mut self, kind: &'static str, place: &str, info: impl Into<String>) {
        self.found.push(Difference { kind, place: place.to_owned(), info: info.into() });
    }

    fn too_large(&mut self, place: &str) {
        self.say("TOO_LARGE", place, "the schemas are too large or nested too deeply to be compared");
    }

    /// Compares two schemas at a place in the reader's.
    fn compare(&mut self, writer: &'s Value, reader: &'s Value, place: &str) {
        if self.found.len() >= DIFFERENCES_MAX {
            return;
        }
        self.steps += 1;
        if self.steps > COMPARE_STEPS_MAX || self.depth > COMPARE_DEPTH_MAX {
            return self.too_large(place);
        }
        let pair = (std::ptr::from_ref(writer).addr(), std::ptr::from_ref(reader).addr());
        if !self.assumed.insert(pair) {
            return;
        }
        let (mark, before) = (self.trail.len(), self.found.len());
        self.trail.push(pair);
        self.depth += 1;
        self.compare_schemas(writer, reader, place);
        self.depth -= 1;
        if self.found.len() > before {
            for pair in self.trail.drain(mark..) {
                self.assumed.remove(&pair);
            }
        }
    }

    /// Would the two fit? Leaves nothing behind when they do not.
    fn fits(&mut self, writer: &'s Value, reader: &'s Value) -> bool {
        let before = std::mem::take(&mut self.found);
        self.compare(writer, reader, "");
        let found = std::mem::replace(&mut self.found, before);
        found.is_empty()
    }

    fn compare_schemas(&mut self, writer: &'s Value, reader: &'s Value, place: &str) {
        let nothing = |value: &Value| matches!(value, Value::Object(object) if object.keys().all(|key| is_note(key)));
        match (writer, reader) {
            (Value::Bool(false), _) | (_, Value::Bool(true)) => {}
            (_, reader) if nothing(reader) => {}
            (_, Value::Object(ours)) => {
                let empty = &Value::Bool(true);
                let theirs = match target(writer, self.writer) {
                    Ok(theirs) => theirs,
                    Err(_) if writer == reader && self.writer.references == self.reader.references => return,
                    Err(reason) => return self.say("NOT_JUDGED", place, reason),
                };
                if ours.contains_key("$ref") {
                    // what stands beside it counts as well, in newer drafts
                    match target(reader, self.reader) {
                        Ok(target) => self.compare(theirs, target, place),
                        Err(reason) => self.say("NOT_JUDGED", place, reason),
                    }
                }
                self.compare_choices(theirs, ours, place, empty);
            }
            _ => self.say("TYPE_NARROWED", place, "nothing is allowed here any more"),
        }
    }

    /// Combinations first, then the keywords beside them.
    fn compare_choices(&mut self, theirs: &'s Value, ours: &'s Map<String, Value>, place: &str, anything: &'s Value) {
        for branch in list(ours.get("allOf")) {
            if self.steps > COMPARE_STEPS_MAX {
                return self.too_large(place);
            }
            // to fit one of the writer's is enough: with the others it only allows less
            if !list(theirs.get("allOf")).iter().chain([theirs]).any(|candidate| self.fits(candidate, branch)) {
                self.say("COMBINED_TYPE_SUBSCHEMAS_CHANGED", place, "allOf");
            }
        }
        for (key, exactly_one) in [("anyOf", false), ("oneOf", true)] {
            if let Some(Value::Array(branches)) = ours.get(key) {
                let unchanged = exactly_one && self.same_branches(list(theirs.get(key)), branches);
                let each = |walk: &mut Self| {
                    let alternatives = alternatives(theirs);
                    !alternatives.is_empty() && alternatives.iter().all(|one| walk.takes(one, branches, exactly_one))
                };
                if !unchanged && !self.takes(theirs, branches, exactly_one) && !each(self) {
                    self.say("COMBINED_TYPE_SUBSCHEMAS_CHANGED", place, key);
                }
            }
        }
        let before = std::mem::take(&mut self.found);
        self.compare_keywords(theirs, ours, place, anything);
        let found = std::mem::replace(&mut self.found, before);
        // whatever alternative the writer took, it may be narrow enough
        let narrow = |walk: &mut Self, branch: &'s Value| {
            let Ok(branch) = target(branch, walk.writer) else { return false };
            let before = std::mem::take(&mut walk.found);
            walk.compare_keywords(branch, ours, place, anything);
            std::mem::replace(&mut walk.found, before).is_empty()
        };
        let alternatives = alternatives(theirs);
        if found.is_empty() || (!alternatives.is_empty() && alternatives.iter().all(|one| narrow(self, one))) {
            return;
        }
        self.found.extend(found);
    }

    /// Does one of the branches take all that `candidate` allows, and, if wanted, no other branch any of it?
    fn takes(&mut self, candidate: &'s Value, branches: &'s [Value], exactly_one: bool) -> bool {
        let Ok(candidate) = target(candidate, self.writer) else { return false };
        for (index, branch) in branches.iter().enumerate() {
            if self.steps > COMPARE_STEPS_MAX {
                return false;
            }
            if !self.fits(candidate, branch) {
                continue;
            }
            // known to be apart are only branches of other types
            let apart = |(other, branch): (usize, &'s Value)| {
                let target = target(branch, self.reader);
                other == index || target.is_ok_and(|branch| !overlap(allowed(candidate), allowed(branch)))
            };
            if !exactly_one || branches.iter().enumerate().all(apart) {
                return true;
            }
            self.steps += branches.len();
        }
        false
    }

    /// Do the branches mean the same one by one? Then exactly one of these takes what exactly one of those took.
    fn same_branches(&mut self, theirs: &'s [Value], ours: &'s [Value]) -> bool {
        theirs.len() == ours.len()
            && theirs.iter().zip(ours).all(|(theirs, ours)| {
                let mut back = Walk::new(self.reader, self.writer);
                (back.steps, back.depth) = (self.steps, self.depth);
                let same = back.fits(ours, theirs);
                self.steps = back.steps;
                same && self.fits(theirs, ours)
            })
    }

    fn compare_keywords(&mut self, theirs: &'s Value, ours: &'s Map<String, Value>, place: &str, anything: &'s Value) {
        let types = allowed(theirs);
        let our_types = declared(ours.get("type"));
        if !types.iter().zip(our_types).all(|(theirs, ours)| !theirs || ours) {
            let name = |types: [bool; 7]| {
                let names = TYPES.iter().zip(types).filter(|(_, on)| *on).map(|(name, _)| *name);
                names.collect::<Vec<_>>().join(", ")
            };
            self.say("TYPE_NARROWED", place, format!("writer: {}, reader: {}", name(types), name(our_types)));
        }
        for (key, is) in ours {
            let was = theirs.get(key);
            let [_, _, object, array, number, text, integer] = types;
            let concerned = match key.as_str() {
                "type" | "$ref" | "anyOf" | "oneOf" | "allOf" => continue,
                "properties"
                | "additionalProperties"
                | "required"
                | "maxProperties"
                | "minProperties"
                | "patternProperties"
                | "propertyNames"
                | "dependencies"
                | "dependentRequired"
                | "dependentSchemas"
                | "unevaluatedProperties" => object,
                "items" | "maxItems" | "minItems" | "uniqueItems" | "prefixItems" | "additionalItems" | "contains"
                | "minContains" | "maxContains" | "unevaluatedItems" => array,
                "maximum" | "minimum" | "exclusiveMaximum" | "exclusiveMinimum" | "multipleOf" => number || integer,
                "maxLength" | "minLength" | "pattern" => text,
                "enum" | "const" | "not" | "if" | "then" | "else" | "format" | "$dynamicRef" | "$recursiveRef" => true,
                _ => false, // a note, or a word that means nothing
            };
            let with_others = matches!(
                key.as_str(),
                "properties"
                    | "additionalProperties"
                    | "items"
                    | "contains"
                    | "unevaluatedProperties"
                    | "unevaluatedItems"
            );
            if !concerned || (!with_others && was.is_some_and(|was| same(was, is))) {
                continue;
            }
            let kept = match key.as_str() {
                "additionalProperties" if ours.contains_key("properties") => true, // seen with them
                "properties" | "additionalProperties" => {
                    self.compare_properties(theirs, ours, place, anything);
                    true
                }
                "required" => {
                    self.compare_required(was, is, place);
                    true
                }
                "items" if is.is_object() || is.is_boolean() => {
                    match was.unwrap_or(anything) {
                        Value::Array(_) => self.say("NOT_JUDGED", place, "items"),
                        // items behind others mean the rest
                        _ if theirs.get("prefixItems") != ours.get("prefixItems") => {
                            self.say("NOT_JUDGED", place, "items");
                        }
                        was => self.compare(was, is, &format!("{place}/items")),
                    }
                    true
                }
                "enum" => chosen(theirs).is_some_and(|values| {
                    let known: HashSet<String> = list(Some(is)).iter().map(Value::to_string).collect();
                    values.iter().all(|value| known.contains(&value.to_string()))
                }),
                "const" => chosen(theirs).is_some_and(|values| values.iter().all(|value| *value == is)),
                "uniqueItems" => is == &Value::Bool(false),
                "items" => was.is_some_and(|was| same(was, is)),
                "contains" => {
                    was.is_some_and(|was| same(was, is)) && theirs.get("minContains") == ours.get("minContains")
                }
                // they depend on everything beside them
                "unevaluatedProperties" | "unevaluatedItems" => theirs.as_object() == Some(ours) && !refers(theirs),
                key => within(key, theirs, is),
            };
            if !kept {
                self.say("CONSTRAINT_NARROWED", place, key.as_str());
            }
        }
    }

    fn compare_required(&mut self, was: Option<&Value>, is: &Value, place: &str) {
        let before: HashSet<&str> = list(was).iter().filter_map(Value::as_str).collect();
        for name in list(Some(is)).iter().filter_map(Value::as_str) {
            if !before.contains(name) {
                self.say("REQUIRED_ATTRIBUTE_ADDED", place, name);
            }
        }
    }

    fn compare_properties(
        &mut self,
        theirs: &'s Value,
        ours: &'s Map<String, Value>,
        place: &str,
        anything: &'s Value,
    ) {
        let object = |value: Option<&'s Value>| value.and_then(Value::as_object);
        let (before, after) = (object(theirs.get("properties")), object(ours.get("properties")));
        let patterns = theirs.get("patternProperties").is_some() || ours.contains_key("patternProperties");
        let rest_before = theirs.get("additionalProperties").unwrap_or(anything);
        let rest_after = ours.get("additionalProperties").unwrap_or(anything);
        for (name, is) in after.into_iter().flatten() {
            let place = format!("{place}/properties/{name}");
            match before.and_then(|before| before.get(name)) {
                Some(was) => self.compare(was, is, &place),
                None if patterns => self.say("NOT_JUDGED", &place, "patternProperties"),
                // documents may have carried this name with whatever value
                None if !self.fits(rest_before, is) => {
                    self.say("PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL", &place, name.as_str());
                }
                None => {}
            }
        }
        for (name, was) in before.into_iter().flatten() {
            if after.is_some_and(|after| after.contains_key(name)) {
                continue;
            }
            let place = format!("{place}/properties/{name}");
            if patterns && rest_after != anything {
                self.say("NOT_JUDGED", &place, "patternProperties");
            } else if !self.fits(was, rest_after) {
                self.say("PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL", &place, name.as_str());
            }
        }
        for (pattern, was) in object(theirs.get("patternProperties")).into_iter().flatten() {
            let kept = object(ours.get("patternProperties")).is_some_and(|patterns| patterns.contains_key(pattern));
            if !kept && !self.fits(was, rest_after) {
                self.say("PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL", place, pattern.as_str());
            }
        }
        if !self.fits(rest_before, rest_after) {
            self.say("ADDITIONAL_PROPERTIES_NARROWED", place, "additionalProperties");
        }
    }
}

/// Where local references lead to.
fn target<'s>(schema: &'s Value, of: &'s JsonSchema) -> Result<&'s Value, String> {
    let mut schema = schema;
    for _ in 0..COMPARE_DEPTH_MAX {
        let Some(Value::String(reference)) = schema.get("$ref") else { return Ok(schema) };
        let found = reference.strip_prefix('#').and_then(|pointer| {
            let pointer = pointer.replace("%25", "%").replace("%24", "$");
            of.root.pointer(&pointer)
        });
        schema = found.ok_or_else(|| format!("{reference} is not followed"))?;
    }
    Err("references run in a circle".to_owned())
}

/// Equal, and so is everything that they refer to.
fn same(writer: &Value, reader: &Value) -> bool {
    writer == reader && !refers(writer)
}

fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The branches of which the writer's documents took one.
fn alternatives(schema: &Value) -> &[Value] {
    match list(schema.get("anyOf")) {
        [] => list(schema.get("oneOf")),
        branches => branches,
    }
}

/// Keywords that allow and forbid nothing.
fn is_note(key: &str) -> bool {
    matches!(
        key,
        "title"
            | "description"
            | "default"
            | "examples"
            | "$id"
            | "id"
            | "$schema"
            | "$comment"
            | "$defs"
            | "definitions"
            | "deprecated"
            | "readOnly"
            | "writeOnly"
    )
}

fn refers(value: &Value) -> bool {
    match value {
        Value::Object(object) => object
            .iter()
            .any(|(key, value)| matches!(key.as_str(), "$ref" | "$dynamicRef" | "$recursiveRef") || refers(value)),
        Value::Array(items) => items.iter().any(refers),
        _ => false,
    }
}

/// The values that a schema is limited to.
fn chosen(schema: &Value) -> Option<Vec<&Value>> {
    if let Some(value) = schema.get("const") {
        return Some(vec![value]);
    }
    schema.get("enum").and_then(Value::as_array).map(|values| values.iter().collect())
}

/// Types in the order of [`TYPES`]; every number may be an integer.
fn declared(types: Option<&Value>) -> [bool; 7] {
    let mut found = match types {
        None => [true; 7],
        Some(Value::Array(names)) => TYPES.map(|name| names.iter().any(|given| given == name)),
        Some(given) => TYPES.map(|name| given == name),
    };
    found[6] |= found[4];
    found
}

fn allowed(schema: &Value) -> [bool; 7] {
    let mut found = declared(schema.get("type"));
    if let Some(values) = chosen(schema) {
        let number = |value: &Value| value.is_number() && !value.is_i64() && !value.is_u64();
        let is: [fn(&Value) -> bool; 7] =
            [Value::is_null, Value::is_boolean, Value::is_object, Value::is_array, number, Value::is_string, |value| {
                value.is_i64() || value.is_u64()
            }];
        for (found, is) in found.iter_mut().zip(is) {
            *found &= values.iter().any(|value| is(value));
        }
    }
    if *schema == Value::Bool(false) { [false; 7] } else { found }
}

fn overlap(a: [bool; 7], b: [bool; 7]) -> bool {
    a.iter().zip(b).any(|(a, b)| *a && b)
}

/// Do the writer's bounds keep all its values inside of the reader's?
fn within(key: &str, theirs: &Value, is: &Value) -> bool {
    let number = |key: &str| theirs.get(key).and_then(Value::as_f64);
    let Some(bound) = is.as_f64() else { return false };
    match key {
        "maximum" => {
            number("maximum").is_some_and(|was| was <= bound)
                || number("exclusiveMaximum").is_some_and(|was| was <= bound)
        }
        "minimum" => {
            number("minimum").is_some_and(|was| was >= bound)
                || number("exclusiveMinimum").is_some_and(|was| was >= bound)
        }
        "exclusiveMaximum" => {
            number("exclusiveMaximum").is_some_and(|was| was <= bound)
                || number("maximum").is_some_and(|was| was < bound)
        }
        "exclusiveMinimum" => {
            number("exclusiveMinimum").is_some_and(|was| was >= bound)
                || number("minimum").is_some_and(|was| was > bound)
        }
        "maxLength" | "maxItems" | "maxProperties" => number(key).is_some_and(|was| was <= bound),
        "minLength" | "minItems" | "minProperties" => bound <= 0.0 || number(key).is_some_and(|was| was >= bound),
        "multipleOf" => number(key).is_some_and(|was| bound > 0.0 && (was % bound).abs() < f64::EPSILON),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(writer: &str, reader: &str) -> Vec<&'static str> {
        let read = |text: &str| parse(text, &[]).unwrap_or_else(|reason| panic!("{text}: {reason}"));
        differences(&read(writer), &read(reader)).into_iter().map(|difference| difference.kind).collect()
    }

    // STR-20, STR-21
    #[test]
    fn json_schema_changes_are_judged() {
        let object = |rest: &str| format!(r#"{{"type":"object",{rest}}}"#);
        let closed = |rest: &str| object(&format!(r#"{rest},"additionalProperties":false"#));
        let a = r#""properties":{"a":{"type":"integer"}}"#;
        let ab = r#""properties":{"a":{"type":"integer"},"b":{"type":"string"}}"#;
        for (writer, reader, wanted) in [
            (r#"{"type":"integer"}"#.to_owned(), r#"{"type":"number"}"#.to_owned(), vec![]),
            (r#"{"type":"number"}"#.to_owned(), r#"{"type":"integer"}"#.to_owned(), vec!["TYPE_NARROWED"]),
            (r#"{"type":"string"}"#.to_owned(), r#"{"type":["null","string"]}"#.to_owned(), vec![]),
            (r#"{"type":"string"}"#.to_owned(), "true".to_owned(), vec![]),
            ("true".to_owned(), r#"{"type":"string"}"#.to_owned(), vec!["TYPE_NARROWED"]),
            (r#"{"type":"string"}"#.to_owned(), "false".to_owned(), vec!["TYPE_NARROWED"]),
            (r#"{"enum":["a"]}"#.to_owned(), r#"{"enum":["a","b"]}"#.to_owned(), vec![]),
            (r#"{"enum":["a"]}"#.to_owned(), r#"{"type":"string"}"#.to_owned(), vec![]),
            (r#"{"enum":["a","b"]}"#.to_owned(), r#"{"enum":["a"]}"#.to_owned(), vec!["CONSTRAINT_NARROWED"]),
            (r#"{"type":"integer","maximum":5}"#.to_owned(), r#"{"type":"integer","maximum":9}"#.to_owned(), vec![]),
            (
                r#"{"type":"integer","maximum":9}"#.to_owned(),
                r#"{"type":"integer","maximum":5}"#.to_owned(),
                vec!["CONSTRAINT_NARROWED"],
            ),
            (object(a), object(&format!(r#"{a},"title":"x","default":{{}}"#)), vec![]),
            (object(a), object(ab), vec!["PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL"]),
            (closed(a), closed(ab), vec![]),
            (closed(ab), closed(a), vec!["PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL"]),
            (object(ab), object(a), vec![]),
            (object(a), closed(a), vec!["ADDITIONAL_PROPERTIES_NARROWED"]),
            (object(a), object(&format!(r#"{a},"required":["a"]"#)), vec!["REQUIRED_ATTRIBUTE_ADDED"]),
            (object(&format!(r#"{a},"required":["a"]"#)), object(a), vec![]),
            (object(a), object(&a.replace("integer", "string")), vec!["TYPE_NARROWED"]),
            (
                r#"{"type":"array","items":{"type":"string"}}"#.to_owned(),
                r#"{"type":"array","items":{"type":"null"}}"#.to_owned(),
                vec!["TYPE_NARROWED"],
            ),
            (
                r#"{"type":"string"}"#.to_owned(),
                r#"{"type":"string","pattern":"^a"}"#.to_owned(),
                vec!["CONSTRAINT_NARROWED"],
            ),
            (r#"{"type":"string","pattern":"^a"}"#.to_owned(), r#"{"type":"string"}"#.to_owned(), vec![]),
            (
                object(r#""patternProperties":{"^x":{"type":"null"}},"additionalProperties":false"#),
                object(r#""additionalProperties":false"#),
                vec!["PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL"],
            ),
            (
                r#"{"prefixItems":[{"type":"string"}],"items":{"type":"null"}}"#.to_owned(),
                r#"{"items":{"type":"null"}}"#.to_owned(),
                vec!["NOT_JUDGED"],
            ),
            (
                object(&format!(r#"{ab},"unevaluatedProperties":false"#)),
                object(&format!(r#"{a},"unevaluatedProperties":false"#)),
                vec!["CONSTRAINT_NARROWED"],
            ),
            (r#"{"type":"string"}"#.to_owned(), r#"{"not":{"const":1}}"#.to_owned(), vec!["CONSTRAINT_NARROWED"]),
        ] {
            assert_eq!(found(&writer, &reader), wanted, "{writer} read by {reader}");
            assert!(found(&writer, &writer).is_empty());
        }
    }

    // STR-21
    #[test]
    fn alternatives_may_come_and_not_go() {
        for key in ["anyOf", "oneOf"] {
            let of = |types: &[&str]| {
                let list: Vec<String> = types.iter().map(|name| format!(r#"{{"type":"{name}"}}"#)).collect();
                format!(r#"{{"{key}":[{}]}}"#, list.join(","))
            };
            assert!(found(&of(&["null", "string"]), &of(&["string", "boolean", "null"])).is_empty(), "{key}");
            assert!(!found(&of(&["null", "string"]), &of(&["null"])).is_empty(), "{key}");
            assert!(found(r#"{"type":"string"}"#, &of(&["null", "string"])).is_empty(), "{key}");
            assert!(found(&of(&["null", "string"]), r#"{"type":["null","string"]}"#).is_empty(), "{key}");
        }
        let named = |more: &str| {
            format!(
                r##"{{"oneOf":[{{"$ref":"#/$defs/a"}},{{"$ref":"#/$defs/b"}}],{more}"$defs":{{
                    "a":{{"type":"object","required":["a"]}},"b":{{"type":"object","required":["b"]}}}}}}"##
            )
        };
        assert!(found(&named(""), &named(r#""description":"x","#)).is_empty(), "unchanged branches stay");
        // what two branches take is taken by none
        assert!(
            !found(r#"{"type":"string"}"#, r#"{"oneOf":[{"type":"string"},{"type":["string","null"]}]}"#).is_empty()
        );
        let all = |maximum: u32| format!(r#"{{"allOf":[{{"type":"integer"}},{{"maximum":{maximum}}}]}}"#);
        assert!(found(&all(5), &all(6)).is_empty() && !found(&all(6), &all(5)).is_empty());
    }

    // STR-21
    #[test]
    fn references_inside_of_a_schema_are_followed() {
        let tree = |kind: &str| {
            format!(
                r##"{{"$ref":"#/definitions/tree","definitions":{{"tree":{{"type":"object","properties":{{
                    "left":{{"$ref":"#/definitions/tree"}},"at":{{"type":"{kind}"}}}}}}}}}}"##
            )
        };
        assert!(found(&tree("integer"), &tree("number")).is_empty());
        assert_eq!(found(&tree("number"), &tree("integer")), ["TYPE_NARROWED"]);
        let outside = |name: &str| format!(r#"{{"properties":{{"a":{{"$ref":"{name}"}}}}}}"#);
        assert_eq!(found(&outside("a.json"), &outside("b.json")), ["NOT_JUDGED"]);
        let with = |reference: &str| parse(&format!("{} ", outside("a.json")), &[reference]).unwrap();
        assert!(differences(&with("true"), &with("true")).is_empty());
        assert!(!differences(&with("true"), &with("false")).is_empty());
        assert!(!found(r##"{"$ref":"#"}"##, r#"{"type":"null"}"#).is_empty());
    }

    // security 44
    #[test]
    fn hostile_schemas_take_bounded_time_and_stack() {
        let chain = |kind: &str| {
            let step =
                |index: usize| format!(r##""d{index}":{{"properties":{{"p":{{"$ref":"#/$defs/d{}"}}}}}}"##, index + 1);
            let steps: Vec<String> = (0..500).map(step).collect();
            format!(r##"{{"$ref":"#/$defs/d0","$defs":{{{},"d500":{{"type":"{kind}"}}}}}}"##, steps.join(","))
        };
        assert!(found(&chain("string"), &chain("null")).contains(&"TOO_LARGE"));
        for key in ["anyOf", "oneOf", "allOf"] {
            let many = |kind: &str| {
                let branches: Vec<String> =
                    (0..20_000).map(|index| format!(r#"{{"type":"{kind}","minLength":{index}}}"#)).collect();
                format!(r#"{{"{key}":[{}]}}"#, branches.join(","))
            };
            assert!(!found(&many("string"), &many("null")).is_empty(), "{key}");
        }
        let values = |from: u32| {
            let values: Vec<String> = (from..from + 100_000).map(|value| value.to_string()).collect();
            format!(r#"{{"enum":[{}]}}"#, values.join(","))
        };
        assert_eq!(found(&values(0), &values(1)), ["CONSTRAINT_NARROWED"]);
    }

    #[test]
    fn what_is_not_a_schema_is_refused() {
        for text in ["17", "[]", r#""string""#, r#"{"type":"nothing"}"#, r#"{"type":["string",1]}"#, "{"] {
            assert!(parse(text, &[]).is_err(), "{text}");
        }
    }
}
