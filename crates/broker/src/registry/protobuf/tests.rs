//! Protobuf: files, descriptors, and what may follow what.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;

fn found(writer: &str, reader: &str) -> Vec<&'static str> {
    let file = |text: &str| {
        let text = format!("syntax = \"proto3\"; package p; {text}");
        parse(&text, &[]).unwrap_or_else(|reason| panic!("{text}: {reason}"))
    };
    differences(&file(writer), &file(reader)).into_iter().map(|difference| difference.kind).collect()
}

// STR-20
#[test]
fn files_that_differ_in_comments_and_white_space_are_the_same() {
    let one = "syntax = \"proto3\"; // as ever\nmessage M {\n  /* a */ string a = 1;\n}\n";
    let other = "syntax=\"proto3\";message M{string a=1;}";
    assert_eq!(canonical(one).unwrap(), canonical(other).unwrap());
    assert_ne!(canonical(one).unwrap(), canonical(&other.replace("=1", "=2")).unwrap());
    assert_eq!(canonical("CgdhLnByb3Rv").unwrap(), "CgdhLnByb3Rv");
}

// STR-20
#[test]
fn what_is_not_a_file_is_refused() {
    let deep = format!("message M {}{}", "{".repeat(100), "}".repeat(100));
    for text in [
        "",
        "hello",
        "{\"type\":\"long\"}",
        "message M {",
        "message M }",
        "message M (}",
        "import \"a",
        "/* x",
        "syntax = \"proto9\"; message M {}",
        "message M { int32 a }",
        "message M { int32 a = 0; }",
        "message M { int32 a = 19001; }",
        "message M { int32 a = 1; string b = 1; }",
        "message M { int32 a = 1; string a = 2; }",
        "message M { Missing a = 1; }",
        "message M { map<float, int32> a = 1; }",
        "message M { oneof o { repeated int32 a = 1; } }",
        "message M {} message M {}",
        "enum E {}",
        &deep,
    ] {
        assert!(parse(text, &[]).is_err(), "{text}");
    }
}

// STR-20
#[test]
fn all_that_a_file_may_hold_is_read() {
    let text = r#"
        edition = "2023";
        package a.b;
        import public "google/protobuf/timestamp.proto";
        option java_package = "x";
        option (custom) = { text: "}" list: [1, 2] };
        message Outer {
            option deprecated = true;
            reserved 4, 9 to 11, "old";
            extensions 100 to max;
            extend Outer { string more = 100; }
            message Inner { required int32 x = 1 [default = 7, (a.b) = { c: 1 }]; }
            enum Kind { option allow_alias = true; UNKNOWN = 0; BELOW = -1; SAME = 0x0; }
            optional Inner inner = 1;
            repeated .a.b.Outer.Kind kinds = 2;
            map<string, Inner> by_name = 3;
            oneof choice { string text = 5; google.protobuf.Timestamp at = 6; }
            optional group Part = 7 { optional bool y = 1; }
            b.Other other = 8;
        }
        message Other { string message = 1; }
        service S { rpc Call (Outer) returns (stream Other) { option idempotency_level = NO_SIDE_EFFECTS; } }
    "#;
    let read = parse(text, &[]).unwrap();
    let names: Vec<&str> = read.messages.keys().map(String::as_str).collect();
    assert_eq!(names, ["a.b.Other", "a.b.Outer", "a.b.Outer.ByNameEntry", "a.b.Outer.Inner", "a.b.Outer.Part"]);
    let fields = &read.messages["a.b.Outer"].fields;
    assert_eq!(fields[&1].kind, Kind::Named("a.b.Outer.Inner".to_owned()));
    assert_eq!(fields[&3].kind, Kind::Named("a.b.Outer.ByNameEntry".to_owned()));
    assert_eq!((fields[&6].oneof.as_deref(), fields[&1].oneof.as_deref()), (Some("choice"), None));
    assert_eq!(fields[&6].kind, Kind::Named("google.protobuf.Timestamp".to_owned()));
    assert_eq!(fields[&8].kind, Kind::Named("a.b.Other".to_owned()));
    assert!(differences(&read, &read).is_empty());
}

// STR-20: a schema that a Python client sends is the one that a Java client wrote
#[test]
fn a_descriptor_is_the_same_schema_as_its_text() {
    // message Reading { int64 a = 1; optional string b = 2; map<string, int32> c = 3; }
    let field = |name: &str, number: u8, label: u8, kind: u8, more: &[u8]| {
        let mut bytes = vec![0x0a, u8::try_from(name.len()).unwrap()];
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(&[0x18, number, 0x20, label, 0x28, kind]);
        bytes.extend_from_slice(more);
        bytes
    };
    let part = |tag: u8, bytes: &[u8]| [&[tag, u8::try_from(bytes.len()).unwrap()], bytes].concat();
    let entry = [
        part(0x0a, b"CEntry"),
        part(0x12, &field("key", 1, 1, 9, &[])),
        part(0x12, &field("value", 2, 1, 5, &[])),
        part(0x3a, &[0x38, 1]),
    ];
    let message = [
        part(0x0a, b"Reading"),
        part(0x12, &field("a", 1, 1, 3, &[])),
        part(0x12, &field("b", 2, 1, 9, &[0x48, 0, 0x88, 0x01, 1])),
        part(0x12, &field("c", 3, 3, 11, &part(0x32, b".p.Reading.CEntry"))),
        part(0x1a, &entry.concat()),
        part(0x42, &part(0x0a, b"_b")),
    ];
    let file =
        [part(0x0a, b"r.proto"), part(0x12, b"p"), part(0x22, &message.concat()), part(0x62, b"proto3")].concat();
    let text = "syntax = \"proto3\"; package p;
        message Reading { int64 a = 1; optional string b = 2; map<string, int32> c = 3; }";
    let encoded = STANDARD.encode(&file);
    assert!(is_descriptor(&encoded));
    assert_eq!(parse(&encoded, &[]).unwrap(), parse(text, &[]).unwrap());
    for length in 1..file.len() {
        drop(parse(&STANDARD.encode(&file[..length]), &[])); // whatever it is, it is not a panic
    }
}

// STR-20, STR-21
#[test]
fn protobuf_changes_are_judged() {
    let base = "message M { int32 a = 1; string b = 2; N n = 3; } message N { bool x = 1; }";
    for (change, wanted) in [
        (base.to_owned(), vec![]),
        (base.replace("int32 a", "int64 renamed"), vec![]),
        (base.replace("string b", "bytes b"), vec![]),
        (base.replace("string b", "repeated string b"), vec![]),
        (base.replace(" string b = 2;", ""), vec![]),
        (base.replace("int32 a = 1;", "int32 a = 1; double more = 9;"), vec![]),
        (base.replace("int32 a = 1;", "oneof o { int32 a = 1; }"), vec![]),
        (base.replace("int32 a", "E a") + " enum E { ZERO = 0; }", vec![]),
        (base.replace("int32 a", "sint32 a"), vec!["FIELD_SCALAR_KIND_CHANGED"]),
        (base.replace("int32 a", "string a"), vec!["FIELD_SCALAR_KIND_CHANGED"]),
        (base.replace("int32 a", "repeated int32 a"), vec!["FIELD_NUMERIC_LABEL_CHANGED"]),
        (base.replace("int32 a", "N a"), vec!["FIELD_KIND_CHANGED"]),
        (base.replace("N n", "M n"), vec!["FIELD_NAMED_TYPE_CHANGED"]),
        (base.replace("bool x", "string x"), vec!["FIELD_SCALAR_KIND_CHANGED"]),
        (base.replace("int32 a", "required int32 a"), vec!["REQUIRED_FIELD_ADDED"]),
        (
            base.replace("message N { bool x = 1; }", "").replace("N n", "M n"),
            vec!["FIELD_NAMED_TYPE_CHANGED", "MESSAGE_REMOVED"],
        ),
        (
            base.replace("int32 a = 1; string b = 2;", "oneof o { int32 a = 1; string b = 2; }"),
            vec!["MULTIPLE_FIELDS_MOVED_TO_ONEOF"],
        ),
    ] {
        assert_eq!(found(base, &change), wanted, "{change}");
    }
    let oneof = "message M { oneof o { int32 a = 1; string b = 2; } }";
    assert_eq!(found(oneof, "message M { oneof o { int32 a = 1; } }"), ["ONEOF_FIELD_REMOVED"]);
    assert_eq!(found("message M { required int32 a = 1; }", "message M {}"), ["REQUIRED_FIELD_REMOVED"]);
}

// STR-20: references
#[test]
fn types_of_other_files_are_compared_as_well() {
    let inner = |kind: &str| format!("syntax = \"proto3\"; package q; message Inner {{ {kind} x = 1; }}");
    let outer = "syntax = \"proto3\"; package p; import \"inner.proto\"; message Outer { q.Inner i = 1; }";
    let (long, text) = (inner("int64"), inner("string"));
    let (one, other) = (parse(outer, &[&long]).unwrap(), parse(outer, &[&text]).unwrap());
    assert!(differences(&one, &one).is_empty());
    assert_eq!(differences(&one, &other)[0].place, "#/q.Inner/1");
}
