//! Avro's rules of resolution, case by case and against the Avro library.

use apache_avro::schema_compatibility::{Compatibility, SchemaCompatibility};

use super::*;

fn read(text: &str) -> Avro {
    parse(&json::parse(text).unwrap(), &[]).unwrap_or_else(|reason| panic!("{text}: {reason}"))
}

fn found(writer: &str, reader: &str) -> Vec<(&'static str, String)> {
    let found = differences(&read(writer), &read(reader));
    found.into_iter().map(|difference| (difference.kind, difference.place)).collect()
}

fn reads(writer: &str, reader: &str) -> bool {
    found(writer, reader).is_empty()
}

fn record(fields: &str) -> String {
    format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#)
}

fn field(kind: &str) -> String {
    record(&format!(r#"{{"name":"f","type":{kind}}}"#))
}

const A: &str = r#"{"name":"a","type":"long"}"#;

// STR-21
#[test]
fn a_field_with_a_default_may_come_and_one_without_may_not() {
    let old = record(A);
    assert!(reads(&old, &record(&format!(r#"{A},{{"name":"b","type":"long","default":0}}"#))));
    let place = "/fields/1".to_owned();
    let missing = vec![("READER_FIELD_MISSING_DEFAULT_VALUE", place)];
    assert_eq!(found(&old, &record(&format!(r#"{A},{{"name":"b","type":"long"}}"#))), missing);
    // redpanda#24032: a default of null is a default, no default is none, for null and for unions as well
    for kind in [r#""null""#, r#"["null","long"]"#] {
        assert!(reads(&old, &record(&format!(r#"{A},{{"name":"b","type":{kind},"default":null}}"#))));
        assert_eq!(found(&old, &record(&format!(r#"{A},{{"name":"b","type":{kind}}}"#))), missing);
    }
    assert!(reads(&record(&format!(r#"{A},{{"name":"b","type":"long"}}"#)), &old), "the reader skips what it lacks");
}

// STR-21
#[test]
fn numbers_and_texts_are_promoted_one_way() {
    let allowed = [
        ("int", "long"),
        ("int", "float"),
        ("int", "double"),
        ("long", "float"),
        ("long", "double"),
        ("float", "double"),
        ("string", "bytes"),
        ("bytes", "string"),
    ];
    let all = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];
    for from in all {
        for to in all {
            let wanted = from == to || allowed.contains(&(from, to));
            assert_eq!(reads(&format!("{from:?}"), &format!("{to:?}")), wanted, "{from} to {to}");
            assert_eq!(
                reads(
                    &field(&format!("{from:?}")),
                    &field(&format!(r#"["null",{to:?}]"#).replace(r#"["null","null"]"#, r#"["null"]"#))
                ),
                wanted || from == "null"
            );
        }
    }
    assert_eq!(found(&field(r#""double""#), &field(r#""long""#)), [("TYPE_MISMATCH", "/fields/0/type".to_owned())]);
}

// STR-21, dependencies trap 16
#[test]
fn only_a_full_match_counts() {
    let symbols = |list: &str| format!(r#"{{"type":"enum","name":"E","symbols":[{list}]}}"#);
    let (two, one) = (symbols(r#""A","B""#), symbols(r#""A""#));
    assert_eq!(found(&two, &one), [("MISSING_ENUM_SYMBOLS", "/symbols".to_owned())]);
    assert!(reads(&one, &two));
    assert_eq!(found(r#"["null","double"]"#, r#""double""#), [("TYPE_MISMATCH", "/0".to_owned())]);
    assert!(reads(r#""double""#, r#"["null","double"]"#));
    assert_eq!(
        found(r#"["null","double","string"]"#, r#"["null","double"]"#),
        [("MISSING_UNION_BRANCH", "/2".to_owned())]
    );
    assert!(reads(r#"["null","int"]"#, r#"["double","null"]"#), "a branch may be promoted");
}

// STR-21
#[test]
fn an_enum_with_a_default_reads_unknown_symbols() {
    let symbols = |rest: &str| format!(r#"{{"type":"enum","name":"E","symbols":["A"{rest}}}"#);
    assert!(reads(&symbols(r#","B"]"#), &symbols(r#"],"default":"A""#)));
    assert!(!reads(&symbols(r#","B"],"default":"A""#), &symbols("]")), "the writer's default is of no use");
}

// STR-21
#[test]
fn names_count_without_their_namespace_and_aliases_are_the_readers() {
    let named = |kind: &str, name: &str, more: &str| format!(r#"{{"type":"{kind}","name":"{name}"{more}}}"#);
    for (kind, more) in [("record", r#","fields":[]"#), ("fixed", r#","size":2"#), ("enum", r#","symbols":["A"]"#)] {
        assert!(reads(&named(kind, "n.R", more), &named(kind, "m.R", more)), "{kind}");
        assert_eq!(
            found(&named(kind, "n.R", more), &named(kind, "n.S", more)),
            [("NAME_MISMATCH", "/name".to_owned())]
        );
        let renamed = format!(r#"{more},"aliases":["R"]"#);
        assert!(reads(&named(kind, "n.R", more), &named(kind, "n.S", &renamed)), "{kind}");
        assert!(!reads(&named(kind, "n.S", &renamed), &named(kind, "n.R", more)), "{kind}: aliases of the writer");
    }
    assert_eq!(
        found(&named("fixed", "F", r#","size":2"#), &named("fixed", "F", r#","size":3"#)),
        [("FIXED_SIZE_MISMATCH", "/size".to_owned())]
    );
    let renamed = record(r#"{"name":"b","aliases":["a"],"type":"long"}"#);
    assert!(reads(&record(A), &renamed));
    assert!(!reads(&renamed, &record(A)));
    assert_eq!(
        found(&record(r#"{"name":"a","type":"string"}"#), &renamed).len(),
        1,
        "types are compared behind an alias"
    );
}

// STR-21
#[test]
fn a_union_takes_the_branch_of_the_same_name() {
    let two = |first: &str, second: &str| {
        format!(
            r#"[{{"type":"record","name":"n.R","fields":[{first}]}},{{"type":"record","name":"m.R","fields":[{second}]}}]"#
        )
    };
    let (long, text) = (r#"{"name":"a","type":"long"}"#, r#"{"name":"a","type":"string"}"#);
    assert!(reads(&two(long, text), &two(long, text)));
    assert!(reads(r#"{"type":"record","name":"m.R","fields":[{"name":"a","type":"string"}]}"#, &two(long, text)));
    assert!(!reads(&two(long, text), &two(long, long)));
}

const MILLIS: &str = r#"{"type":"long","logicalType":"timestamp-millis"}"#;
const MICROS: &str = r#"{"type":"long","logicalType":"timestamp-micros"}"#;

// STR-21, dependencies trap 17
#[test]
fn a_changed_logical_type_is_incompatible_wherever_it_hides() {
    let wraps: [fn(&str) -> String; 6] = [
        |kind| kind.to_owned(),
        |kind| format!(r#"["null",{kind}]"#),
        |kind| format!(r#"{{"type":"array","items":{kind}}}"#),
        |kind| format!(r#"{{"type":"map","values":["null",{kind}]}}"#),
        |kind| format!(r#"{{"type":"record","name":"I","fields":[{{"name":"x","type":{kind}}}]}}"#),
        |kind| format!(r#"{{"type":{kind}}}"#),
    ];
    for wrap in wraps {
        let kinds = |writer: &str, reader: &str| -> Vec<&str> {
            found(&field(&wrap(writer)), &field(&wrap(reader))).into_iter().map(|(kind, _)| kind).collect()
        };
        assert!(kinds(MILLIS, MILLIS).is_empty());
        assert_eq!(kinds(MILLIS, MICROS), ["LOGICAL_TYPE_CHANGED"]);
        assert_eq!(kinds(MILLIS, r#""long""#), ["LOGICAL_TYPE_CHANGED"], "it disappears");
        assert_eq!(kinds(r#""long""#, MICROS), ["LOGICAL_TYPE_CHANGED"], "it appears");
        let time = r#"{"type":"int","logicalType":"time-millis"}"#;
        assert_eq!(kinds(time, r#"{"type":"long","logicalType":"time-micros"}"#), ["LOGICAL_TYPE_CHANGED"], "promoted");
    }
    assert!(
        !reads(&field(MILLIS), &field(&format!(r#"["null",{MICROS},"double"]"#))),
        "no other branch makes up for it"
    );
    let decimal = |scale: u32| format!(r#"{{"type":"bytes","logicalType":"decimal","precision":9,"scale":{scale}}}"#);
    assert!(reads(&decimal(2), &decimal(2)));
    assert!(!reads(&decimal(2), &decimal(3)));
}

// STR-21
#[test]
fn recursive_schemas_are_compared_to_their_end() {
    let tree = |kind: &str| {
        format!(
            r#"{{"type":"record","name":"Tree","namespace":"n","fields":[
                {{"name":"left","type":["null","Tree"]}},{{"name":"right","type":["null","n.Tree"]}},
                {{"name":"at","type":{kind}}}]}}"#
        )
    };
    assert!(reads(&tree(MILLIS), &tree(MILLIS)));
    assert!(!reads(&tree(MILLIS), &tree(MICROS)));
    assert!(!reads(&tree(r#""double""#), &tree(r#""long""#)));
    // B is fine only as long as A is, and A is not: what was built on A is forgotten with it
    let pair = |last: &str| {
        format!(
            r#"{{"type":"record","name":"Top","fields":[
                {{"name":"u","type":["null",{{"type":"record","name":"A","fields":[
                    {{"name":"b","type":["null",{{"type":"record","name":"B","fields":[{{"name":"a","type":["null","A"]}}]}}]}},
                    {{"name":"x","type":{last}}}]}}]}},
                {{"name":"b","type":"B"}}]}}"#
        )
    };
    let places: Vec<String> =
        found(&pair(r#""string""#), &pair(r#""int""#)).into_iter().map(|(_, place)| place).collect();
    assert!(places.iter().any(|place| place.starts_with("/fields/1")), "{places:?}");
}

// STR-20, STR-21: named types resolved through references
#[test]
fn references_are_followed() {
    let inner = r#"{"type":"record","name":"Inner","namespace":"sf","fields":[{"name":"a","type":"long"}]}"#;
    let changed = inner.replace("\"long\"", "\"string\"");
    let outer = json::parse(r#"{"type":"record","name":"Outer","fields":[{"name":"i","type":"sf.Inner"}]}"#).unwrap();
    assert!(parse(&outer, &[]).is_err());
    let old = parse(&outer, &[inner]).unwrap();
    assert!(differences(&old, &parse(&outer, &[inner]).unwrap()).is_empty());
    let new = parse(&outer, &[&changed]).unwrap();
    let difference = &differences(&old, &new)[0];
    assert_eq!((difference.kind, difference.place.as_str()), ("TYPE_MISMATCH", "/fields/0/type/fields/0/type"));
    // whether a type stands in the text or is referred to makes no difference to a reader
    let inline = format!(r#"{{"type":"record","name":"Outer","fields":[{{"name":"i","type":{inner}}}]}}"#);
    let inline = parse(&json::parse(&inline).unwrap(), &[]).unwrap();
    assert!(differences(&old, &inline).is_empty() && differences(&inline, &old).is_empty());
}

// security 44
#[test]
fn hostile_schemas_take_bounded_time_and_stack() {
    // a chain of records that the walk meets from its far end
    let mut chain = r#"{"type":"record","name":"R0","fields":[]}"#.to_owned();
    for index in 1..3_000 {
        let before = index - 1;
        let more = format!(r#",{{"type":"record","name":"R{index}","fields":[{{"name":"r","type":"R{before}"}}]}}"#);
        chain.push_str(&more);
    }
    let fields: Vec<String> = json::parse(&format!("[{chain}]"))
        .unwrap()
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
        .map(|(index, kind)| format!(r#"{{"name":"f{index}","type":["null",{kind}],"default":null}}"#))
        .collect();
    let deep = |name: &str| {
        let hidden = record(&fields.join(",")).replacen("\"R\"", "\"Hidden\"", 1);
        record(&format!(r#"{{"name":"{name}","type":["null",{hidden}],"default":null}},{{"name":"z","type":"R2999"}}"#))
    };
    assert_eq!(found(&deep("x"), &deep("y"))[0].0, "TOO_LARGE");
    // unions of many records, each of which could be the one
    let wide: Vec<String> = (0..900)
        .map(|index| {
            format!(r#"{{"type":"record","name":"n{index}.R","fields":[{{"name":"a{index}","type":"long"}}]}}"#)
        })
        .collect();
    let wide = format!("[{}]", wide.join(","));
    assert!(reads(&wide, &wide));
    // 20,000 fields
    let many: Vec<String> = (0..20_000).map(|index| format!(r#"{{"name":"f{index}","type":"long"}}"#)).collect();
    let many = record(&many.join(","));
    assert!(reads(&many, &many));
    let levels = format!("{}\"int\"{}", r#"{"type":"array","items":"#.repeat(10_000), "}".repeat(10_000));
    assert!(json::parse(&levels).is_err());
}

// security 46: the same verdicts as the Avro library, apart from what is known of it
#[test]
fn verdicts_agree_with_the_avro_library() {
    let schemas = [
        r#""null""#.to_owned(),
        r#""int""#.to_owned(),
        r#""long""#.to_owned(),
        r#""double""#.to_owned(),
        r#""string""#.to_owned(),
        r#""bytes""#.to_owned(),
        r#"["null","int"]"#.to_owned(),
        r#"["null","long"]"#.to_owned(),
        r#"["null","string","double"]"#.to_owned(),
        r#"{"type":"array","items":"int"}"#.to_owned(),
        r#"{"type":"array","items":"long"}"#.to_owned(),
        r#"{"type":"map","values":"int"}"#.to_owned(),
        r#"{"type":"map","values":["null","int"]}"#.to_owned(),
        r#"{"type":"fixed","name":"F","size":2}"#.to_owned(),
        r#"{"type":"fixed","name":"F","size":3}"#.to_owned(),
        r#"{"type":"enum","name":"E","symbols":["A"]}"#.to_owned(),
        r#"{"type":"enum","name":"E","symbols":["A","B"]}"#.to_owned(),
        record(A),
        record(r#"{"name":"a","type":"int"}"#),
        record(r#"{"name":"a","type":["null","long"],"default":null}"#),
        record(&format!(r#"{A},{{"name":"b","type":"string","default":"x"}}"#)),
        record(&format!(r#"{A},{{"name":"b","type":"string"}}"#)),
        field(&record(A).replace("\"R\"", "\"I\"")),
        field(&record(r#"{"name":"a","type":"double"}"#).replace("\"R\"", "\"I\"")),
    ];
    for writer in &schemas {
        for reader in &schemas {
            let theirs = SchemaCompatibility::can_read(
                &apache_avro::Schema::parse_str(writer).unwrap(),
                &apache_avro::Schema::parse_str(reader).unwrap(),
            );
            let theirs = matches!(theirs, Ok(Compatibility::Full));
            assert_eq!(reads(writer, reader), theirs, "{writer} read by {reader}");
        }
    }
}
