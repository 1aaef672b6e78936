//! The schema registry over HTTP, as Confluent's clients use it.

use rdkafka::consumer::Consumer;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::support::{PATIENCE, TestBroker};

const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";

struct Registry {
    client: Client,
    base: String,
}

impl Registry {
    fn of(broker: &TestBroker) -> Self {
        Self { client: Client::new(), base: format!("http://{}", broker.handle().registry()) }
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if let Some(body) = body {
            request = request.header("content-type", CONTENT_TYPE).body(body.to_string());
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["content-type"], CONTENT_TYPE, "{path}");
        (response.status().as_u16(), serde_json::from_str(&response.text().await.unwrap()).unwrap())
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.call(Method::GET, path, None).await
    }

    async fn post(&self, path: &str, schema: &str) -> (u16, Value) {
        self.call(Method::POST, path, Some(json!({ "schema": schema }))).await
    }
}

/// The id of a schema that was registered.
fn id((status, answer): (u16, Value)) -> u64 {
    assert_eq!(status, 200, "{answer}");
    answer["id"].as_u64().unwrap()
}

fn record(fields: &str) -> String {
    format!(r#"{{"type": "record", "name": "R", "fields": [{fields}]}}"#)
}

const A: &str = r#"{"name": "a", "type": "long"}"#;
const B: &str = r#"{"name": "b", "type": "long", "default": 0}"#;

// STR-20
#[tokio::test(flavor = "multi_thread")]
async fn schemas_are_registered_read_and_kept_over_a_restart() {
    let mut broker = TestBroker::start().await;
    let registry = Registry::of(&broker);
    assert_eq!(registry.get("/subjects").await, (200, json!([])));
    let one = record(A);
    assert_eq!(id(registry.post("/subjects/t-value/versions", &one).await), 1);
    assert_eq!(id(registry.post("/subjects/t-value/versions", &one).await), 1);
    // the same text with other white space and order is the same schema, in whatever subject
    let same = r#"{"name":"R","type":"record","fields":[{"type":"long","name":"a"}]}"#;
    assert_eq!(id(registry.post("/subjects/u-value/versions", same).await), 1);
    let two = record(&format!("{A}, {B}"));
    assert_eq!(id(registry.post("/subjects/t-value/versions", &two).await), 2);

    for _ in 0..2 {
        let registry = Registry::of(&broker);
        assert_eq!(registry.get("/subjects").await, (200, json!(["t-value", "u-value"])));
        assert_eq!(registry.get("/subjects/t-value/versions").await, (200, json!([1, 2])));
        let (status, latest) = registry.get("/subjects/t-value/versions/latest").await;
        assert_eq!((status, &latest["id"], &latest["version"]), (200, &json!(2), &json!(2)));
        assert_eq!(latest["schema"].as_str().unwrap(), two.replace(' ', ""));
        assert_eq!(registry.get("/subjects/t-value/versions/1/schema").await.1["name"], "R");
        assert_eq!(registry.get("/schemas/ids/1").await.1["schema"].as_str().unwrap(), one.replace(' ', ""));
        assert_eq!(registry.get("/schemas/ids/1/schema").await.1["name"], "R");
        assert_eq!(registry.get("/schemas/ids/1/subjects").await, (200, json!(["t-value", "u-value"])));
        let versions = json!([{ "subject": "t-value", "version": 1 }, { "subject": "u-value", "version": 1 }]);
        assert_eq!(registry.get("/schemas/ids/1/versions").await, (200, versions));
        let (status, found) = registry.post("/subjects/t-value", &two).await;
        assert_eq!((status, &found["id"], &found["version"]), (200, &json!(2), &json!(2)));
        broker.restart().await;
    }
    let registry = Registry::of(&broker);
    assert_eq!(id(registry.post("/subjects/n-value/versions", r#""string""#).await), 3);
    assert_eq!(registry.get("/schemas/types").await, (200, json!(["JSON", "PROTOBUF", "AVRO"])));
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_have_the_codes_that_clients_rely_on() {
    let broker = TestBroker::start().await;
    let registry = Registry::of(&broker);
    let code = |answer: (u16, Value)| (answer.0, answer.1["error_code"].as_u64().unwrap());
    assert_eq!(code(registry.get("/subjects/no/versions").await), (404, 40401));
    assert_eq!(code(registry.get("/subjects/no/versions/1").await), (404, 40401));
    assert_eq!(code(registry.get("/schemas/ids/9").await), (404, 40403));
    assert_eq!(code(registry.post("/subjects/no", r#""long""#).await), (404, 40401));
    assert_eq!(code(registry.post("/subjects/s/versions", "not a schema").await), (422, 42201));
    assert_eq!(code(registry.post("/subjects/s/versions", r#"{"type":"record"}"#).await), (422, 42201));
    assert_eq!(code(registry.call(Method::POST, "/subjects/s/versions", Some(json!({}))).await), (422, 42201));
    registry.post("/subjects/s/versions", &record(A)).await;
    assert_eq!(code(registry.get("/subjects/s/versions/7").await), (404, 40402));
    assert_eq!(code(registry.get("/subjects/s/versions/zero").await), (422, 42202));
    assert_eq!(code(registry.post("/subjects/s", r#""long""#).await), (404, 40403));
    let incompatible = record(r#"{"name": "a", "type": "long"}, {"name": "c", "type": "string"}"#);
    assert_eq!(code(registry.post("/subjects/s/versions", &incompatible).await), (409, 409));
    let (status, verdict) =
        registry.post("/compatibility/subjects/s/versions/latest?verbose=true", &incompatible).await;
    assert_eq!((status, &verdict["is_compatible"]), (200, &json!(false)));
    assert!(!verdict["messages"].as_array().unwrap().is_empty());
    assert_eq!(code(registry.get("/config/s").await), (404, 40408));
    assert_eq!(code(registry.get("/nowhere").await), (404, 404));
    let wrong = registry.call(Method::PUT, "/config", Some(json!({ "compatibility": "SIDEWAYS" }))).await;
    assert_eq!(code(wrong), (422, 42203));
    let huge = "x".repeat(1_100_000);
    assert_eq!(code(registry.post("/subjects/s/versions", &huge).await), (413, 413));
}

// STR-21
#[tokio::test(flavor = "multi_thread")]
async fn levels_decide_what_may_follow() {
    let broker = TestBroker::start().await;
    let registry = Registry::of(&broker);
    assert_eq!(registry.get("/config").await, (200, json!({ "compatibilityLevel": "BACKWARD" })));
    let millis = record(r#"{"name":"t","type":{"type":"long","logicalType":"timestamp-millis"}}"#);
    let micros = record(r#"{"name":"t","type":{"type":"long","logicalType":"timestamp-micros"}}"#);
    registry.post("/subjects/time/versions", &millis).await;
    assert_eq!(registry.post("/subjects/time/versions", &micros).await.0, 409, "trap 17");
    let put = registry.call(Method::PUT, "/config/time", Some(json!({ "compatibility": "none" }))).await;
    assert_eq!(put, (200, json!({ "compatibility": "NONE" })));
    assert_eq!(registry.post("/subjects/time/versions", &micros).await.0, 200);
    assert_eq!(registry.get("/config/time").await, (200, json!({ "compatibilityLevel": "NONE" })));

    registry.call(Method::PUT, "/config/f", Some(json!({ "compatibility": "FORWARD" }))).await;
    registry.post("/subjects/f/versions", &record(&format!("{A}, {B}"))).await;
    assert_eq!(registry.post("/subjects/f/versions", &record(A)).await.0, 200, "the default of b is used");
    let without_default = record(r#"{"name":"x","type":"long"}"#);
    assert_eq!(registry.post("/subjects/f/versions", &without_default).await.0, 409);

    let mode = registry.call(Method::PUT, "/mode/f", Some(json!({ "mode": "READONLY" }))).await;
    assert_eq!(mode, (200, json!({ "mode": "READONLY" })));
    assert_eq!(registry.post("/subjects/f/versions", &record(B)).await.1["error_code"], 42205);
    assert_eq!(registry.get("/mode").await, (200, json!({ "mode": "READWRITE" })));
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_is_soft_first_and_then_for_good() {
    let mut broker = TestBroker::start().await;
    let registry = Registry::of(&broker);
    registry.post("/subjects/d/versions", &record(A)).await;
    registry.post("/subjects/d/versions", &record(&format!("{A}, {B}"))).await;
    let delete = async |registry: &Registry, path: &str| registry.call(Method::DELETE, path, None).await;
    assert_eq!(delete(&registry, "/subjects/d?permanent=true").await.1["error_code"], 40405);
    assert_eq!(delete(&registry, "/subjects/d/versions/1?permanent=true").await.1["error_code"], 40407);
    assert_eq!(delete(&registry, "/subjects/d/versions/1").await, (200, json!(1)));
    assert_eq!(registry.get("/subjects/d/versions").await, (200, json!([2])));
    assert_eq!(registry.get("/schemas/ids/1").await.0, 200, "records of a deleted version are still read");
    assert_eq!(delete(&registry, "/subjects/d").await, (200, json!([2])));
    assert_eq!(registry.get("/subjects/d/versions").await.1["error_code"], 40401);
    assert_eq!(registry.get("/subjects?deleted=true").await, (200, json!(["d"])));
    assert_eq!(delete(&registry, "/subjects/d?permanent=true").await, (200, json!([1, 2])));
    assert_eq!(registry.get("/schemas/ids/1").await.1["error_code"], 40403);
    broker.restart().await;
    let registry = Registry::of(&broker);
    assert_eq!(registry.get("/subjects?deleted=true").await, (200, json!([])));
    assert_eq!(id(registry.post("/subjects/d/versions", r#""long""#).await), 3, "ids are not reused");
    assert_eq!(registry.get("/subjects/d/versions").await, (200, json!([3])), "nor are versions");
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_refer_to_others() {
    let broker = TestBroker::start().await;
    let registry = Registry::of(&broker);
    let inner = r#"{"type":"record","name":"Inner","namespace":"sf","fields":[]}"#;
    registry.post("/subjects/inner/versions", inner).await;
    let outer = r#"{"type":"record","name":"Outer","fields":[{"name":"i","type":"sf.Inner"}]}"#;
    let body = json!({ "schema": outer, "references": [{ "name": "sf.Inner", "subject": "inner", "version": 1 }] });
    let (status, answer) = registry.call(Method::POST, "/subjects/outer/versions", Some(body)).await;
    assert_eq!((status, &answer["id"]), (200, &json!(2)));
    assert_eq!(registry.get("/schemas/ids/2").await.1["references"][0]["subject"], "inner");
    assert_eq!(registry.get("/subjects/inner/versions/1/referencedby").await, (200, json!([2])));
    let (_, refused) = registry.call(Method::DELETE, "/subjects/inner", None).await;
    assert_eq!(refused["error_code"], 42206);
}

async fn put(registry: &Registry, path: &str, body: Value) -> (u16, Value) {
    registry.call(Method::PUT, path, Some(body)).await
}

/// Registers one after the other until one is refused; how many were taken.
async fn taken(registry: &Registry, subject: &str, schemas: &[String]) -> usize {
    for (index, schema) in schemas.iter().enumerate() {
        let (status, answer) = registry.post(&format!("/subjects/{subject}/versions"), schema).await;
        match status {
            200 => {}
            409 => return index,
            _ => panic!("{answer}"),
        }
    }
    schemas.len()
}

// STR-21: the seven levels tell these rows of schemas apart
#[tokio::test(flavor = "multi_thread")]
async fn all_seven_levels_are_told_apart() {
    let broker = TestBroker::start().await;
    let registry = Registry::of(&broker);
    let with = |rest: &str| record(&format!("{A}{rest}"));
    let b = r#", {"name": "b", "type": "long", "default": 0}"#;
    let bare_b = r#", {"name": "b", "type": "long"}"#;
    let text_b = r#", {"name": "b", "type": "string", "default": ""}"#;
    let adds_without_default = [with(""), with(bare_b)];
    let drops_without_default = [with(bare_b), with("")];
    // b comes back as another type: each step is fine both ways, the first and the last are not
    let over_two = [with(b), with(""), with(text_b)];
    // b without a default, with one, gone: each step can be read by the older one, the last not by the first
    let forward_over_two = [with(bare_b), with(b), with("")];
    let unrelated = [with(""), r#""string""#.to_owned()];
    for (level, wanted) in [
        ("BACKWARD", [1, 2, 3, 3, 1]),
        ("BACKWARD_TRANSITIVE", [1, 2, 2, 3, 1]),
        ("FORWARD", [2, 1, 3, 3, 1]),
        ("FORWARD_TRANSITIVE", [2, 1, 2, 2, 1]),
        ("FULL", [1, 1, 3, 3, 1]),
        ("FULL_TRANSITIVE", [1, 1, 2, 2, 1]),
        ("NONE", [2, 2, 3, 3, 2]),
    ] {
        let rows: [&[String]; 5] =
            [&adds_without_default, &drops_without_default, &over_two, &forward_over_two, &unrelated];
        for (row, (schemas, wanted)) in rows.into_iter().zip(wanted).enumerate() {
            let subject = format!("{level}-{row}");
            assert_eq!(put(&registry, &format!("/config/{subject}"), json!({ "compatibility": level })).await.0, 200);
            assert_eq!(taken(&registry, &subject, schemas).await, wanted, "{level}, row {row}");
        }
    }
}

// STR-20
#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_what_does_not_fit_and_where() {
    let broker = TestBroker::start().await;
    let registry = Registry::of(&broker);
    registry.post("/subjects/s/versions", &record(A)).await;
    let wrong = record(&format!(r#"{A}, {{"name": "c", "type": "string"}}"#));
    for path in ["/compatibility/subjects/s/versions/latest", "/compatibility/subjects/s/versions"] {
        assert_eq!(registry.post(path, &wrong).await, (200, json!({ "is_compatible": false })));
        let (_, verdict) = registry.post(&format!("{path}?verbose=true"), &wrong).await;
        let messages: Vec<&str> =
            verdict["messages"].as_array().unwrap().iter().map(|message| message.as_str().unwrap()).collect();
        assert!(messages[0].starts_with("{errorType:'READER_FIELD_MISSING_DEFAULT_VALUE', description:'The field 'c'"));
        assert!(messages.contains(&"{oldSchemaVersion: 1}"), "{messages:?}");
        assert!(messages.contains(&"{validateFields: 'false', compatibility: 'BACKWARD'}"), "{messages:?}");
        let (_, verdict) = registry.post(&format!("{path}?verbose=true"), &record(A)).await;
        assert_eq!(verdict, json!({ "is_compatible": true, "messages": [] }));
    }
    let (status, refused) = registry.post("/subjects/s/versions", &wrong).await;
    assert_eq!((status, &refused["error_code"]), (409, &json!(409)));
    assert!(refused["message"].as_str().unwrap().contains("/fields/1"), "{refused}");
    // a subject that nobody has used takes everything, a version that is not there is not compared
    assert_eq!(registry.post("/compatibility/subjects/new/versions/latest", &wrong).await.1["is_compatible"], true);
    assert_eq!(registry.post("/compatibility/subjects/s/versions/7", &wrong).await.1["error_code"], 40402);
}

// STR-20
#[tokio::test(flavor = "multi_thread")]
async fn an_import_brings_ids_and_versions_along() {
    let mut broker = TestBroker::start().await;
    let registry = Registry::of(&broker);
    registry.post("/subjects/here/versions", r#""int""#).await;
    assert_eq!(put(&registry, "/mode", json!({ "mode": "IMPORT" })).await.1["error_code"], 42205, "it is not empty");
    assert_eq!(put(&registry, "/mode/there", json!({ "mode": "import" })).await, (200, json!({ "mode": "IMPORT" })));
    let import = |id: i32, version: i32| json!({ "schema": record(A), "id": id, "version": version });
    let post = async |path: &str, body: Value| registry.call(Method::POST, path, Some(body)).await;
    assert_eq!(id(post("/subjects/there/versions", import(70, 4)).await), 70);
    assert_eq!(id(post("/subjects/there/versions", import(70, 4)).await), 70, "again");
    assert_eq!(post("/subjects/there/versions", import(1, 5)).await.1["error_code"], 42205, "1 is another schema");
    assert_eq!(post("/subjects/here/versions", import(71, 2)).await.1["error_code"], 42205, "not in import mode");
    let no_id = registry.post("/subjects/there/versions", r#""long""#).await;
    assert_eq!(no_id.1["error_code"], 42205, "an import names its ids");
    assert_eq!(registry.get("/subjects/there/versions/4").await.1["id"], 70);
    let deleted = registry.call(Method::DELETE, "/mode/there", None).await;
    assert_eq!(deleted, (200, json!({ "mode": "IMPORT" })));
    broker.restart().await;
    let registry = Registry::of(&broker);
    assert_eq!(id(registry.post("/subjects/here/versions", r#""long""#).await), 71);
    assert_eq!(registry.get("/mode/there").await.1["error_code"], 40409);
}

// STR-20
#[tokio::test(flavor = "multi_thread")]
async fn a_registry_for_reading_still_knows_what_it_knows() {
    let broker = TestBroker::start().await;
    let registry = Registry::of(&broker);
    registry.post("/subjects/s/versions", &record(A)).await;
    assert_eq!(put(&registry, "/mode", json!({ "mode": "READONLY" })).await.0, 200);
    assert_eq!(id(registry.post("/subjects/s/versions", &record(A)).await), 1, "nothing changes");
    assert_eq!(registry.post("/subjects/s/versions", r#""int""#).await.1["error_code"], 42205);
    let delete = registry.call(Method::DELETE, "/subjects/s", None).await;
    assert_eq!(delete.1["error_code"], 42205);
    let level = put(&registry, "/config/s", json!({ "compatibility": "NONE" })).await;
    assert_eq!(level.1["error_code"], 42205);
    put(&registry, "/mode/s", json!({ "mode": "READWRITE" })).await;
    assert_eq!(registry.post("/subjects/s/versions", &record(&format!("{A}, {B}"))).await.0, 200, "its own mode");
    put(&registry, "/mode", json!({ "mode": "READONLY_OVERRIDE" })).await;
    let refused =
        registry.post("/subjects/s/versions", &record(&format!("{A}, {B}, {}", B.replace(r#""b""#, r#""c""#)))).await;
    assert_eq!(refused.1["error_code"], 42205);
}

// STR-20
#[tokio::test(flavor = "multi_thread")]
async fn normalised_texts_are_one_schema() {
    let broker = TestBroker::start().await;
    let registry = Registry::of(&broker);
    let long = r#"{"type":"record","name":"n.R","fields":[{"name":"a","type":{"type":"long"}}]}"#;
    let short = r#"{"namespace":"n","fields":[{"type":"long","name":"a"}],"name":"R","type":"record"}"#;
    let normal = r#"{"fields":[{"name":"a","type":"long"}],"name":"n.R","type":"record"}"#;
    assert_eq!(id(registry.post("/subjects/s/versions?normalize=true", long).await), 1);
    assert_eq!(registry.get("/subjects/s/versions/1").await.1["schema"], normal);
    assert_eq!(registry.post("/subjects/s?normalize=true", short).await.1["version"], 1);
    let body = json!({ "normalize": true });
    assert_eq!(put(&registry, "/config/t", body.clone()).await, (200, body));
    registry.post("/subjects/t/versions", r#"{"type":"array","items":{"type":"string"}}"#).await;
    assert_eq!(registry.get("/subjects/t/versions/1").await.1["schema"], r#"{"items":"string","type":"array"}"#);
    let config = json!({ "compatibilityLevel": "BACKWARD", "normalize": true });
    assert_eq!(registry.get("/config/t").await, (200, config));
    let unknown = put(&registry, "/config/t", json!({ "alias": "s" })).await;
    assert_eq!(unknown.0, 422, "a setting that would do nothing is refused: {unknown:?}");
}

// STR-20
#[tokio::test(flavor = "multi_thread")]
async fn json_schema_and_protobuf_are_kept_and_judged() {
    let mut broker = TestBroker::start().await;
    let post = async |broker: &TestBroker, subject: &str, kind: &str, schema: &str| {
        let body = json!({ "schemaType": kind, "schema": schema });
        Registry::of(broker).call(Method::POST, &format!("/subjects/{subject}/versions"), Some(body)).await
    };
    let object = r#"{"type":"object","properties":{"a":{"type":"integer"}},"additionalProperties":false}"#;
    let message = "syntax = \"proto3\";\nmessage M {\n  int32 a = 1;\n}\n";
    assert_eq!(id(post(&broker, "j", "JSON", object).await), 1);
    assert_eq!(id(post(&broker, "p", "PROTOBUF", message).await), 2);
    for (kind, wrong) in
        [("JSON", "17"), ("JSON", "{"), ("PROTOBUF", "message M {"), ("PROTOBUF", "{}"), ("XML", "<a/>")]
    {
        assert_eq!(post(&broker, "w", kind, wrong).await.1["error_code"], 42201, "{kind} {wrong}");
    }
    broker.restart().await;
    let wider = object.replace("integer", "number");
    assert_eq!(id(post(&broker, "j", "JSON", &wider).await), 3);
    assert_eq!(id(post(&broker, "j", "JSON", object).await), 1, "it is a version already");
    assert_eq!(post(&broker, "j", "JSON", &object.replace("integer", "string")).await.0, 409);
    assert_eq!(id(post(&broker, "p", "PROTOBUF", &message.replace("int32", "int64")).await), 4);
    assert_eq!(post(&broker, "p", "PROTOBUF", &message.replace("int32", "string")).await.0, 409);
    assert_eq!(post(&broker, "p", "JSON", object).await.0, 409, "another language");
    let registry = Registry::of(&broker);
    let (_, found) = registry.get("/schemas/ids/2").await;
    assert_eq!((&found["schemaType"], &found["schema"]), (&json!("PROTOBUF"), &json!(message)));
    assert!(registry.get("/subjects/j/versions/1").await.1["schemaType"] == "JSON");
}

// STR-20
#[tokio::test(flavor = "multi_thread")]
async fn contexts_keep_subjects_apart() {
    let broker = TestBroker::start().await;
    let registry = Registry::of(&broker);
    registry.post("/subjects/s/versions", r#""int""#).await;
    registry.post("/contexts/:.site:/subjects/s/versions", r#""string""#).await;
    assert_eq!(registry.get("/contexts").await, (200, json!([".", ".site"])));
    assert_eq!(registry.get("/contexts/:.site:/subjects").await, (200, json!([":.site:s"])));
    assert_eq!(registry.get("/subjects?subjectPrefix=:.:").await, (200, json!(["s"])));
    assert_eq!(registry.get("/subjects").await, (200, json!([":.site:s", "s"])));
    assert_eq!(registry.get("/subjects/:.site:s/versions/1").await.1["schema"], r#""string""#);
    put(&registry, "/contexts/.site/config", json!({ "compatibility": "NONE" })).await;
    assert_eq!(registry.post("/contexts/.site/subjects/s/versions", r#""int""#).await.0, 200);
    assert_eq!(registry.post("/subjects/s/versions", r#""string""#).await.0, 409, "the level is the context's alone");
    assert_eq!(registry.get("/contexts/nowhere/subjects").await.0, 404);
}

// STR-20: what clients attach comes back, and leads to its version
#[tokio::test(flavor = "multi_thread")]
async fn metadata_is_kept_and_found() {
    let broker = TestBroker::start().await;
    let registry = Registry::of(&broker);
    for (release, schema) in [("1", r#""int""#), ("2", r#""long""#)] {
        let metadata = json!({ "properties": { "release": release, "team": "x" } });
        let body = json!({ "schema": schema, "metadata": metadata });
        registry.call(Method::POST, "/subjects/s/versions", Some(body)).await;
    }
    let (_, found) = registry.get("/subjects/s/metadata?key=release&value=1&key=team&value=x").await;
    assert_eq!((&found["version"], &found["metadata"]["properties"]["release"]), (&json!(1), &json!("1")));
    assert_eq!(registry.get("/subjects/s/metadata?key=team&value=x").await.1["version"], 2);
    assert_eq!(registry.get("/subjects/s/metadata?key=release&value=3").await.1["error_code"], 40403);
}

// STR-20
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_is_found_by_the_name_that_outlives_its_id() {
    let mut broker = TestBroker::start().await;
    let registry = Registry::of(&broker);
    let (_, registered) = registry.post("/subjects/s/versions", r#""int""#).await;
    let guid = registered["guid"].as_str().unwrap().to_owned();
    broker.restart().await;
    let registry = Registry::of(&broker);
    let wanted = json!({ "schema": r#""int""#, "guid": guid });
    assert_eq!(registry.get(&format!("/schemas/guids/{guid}")).await, (200, wanted.clone()));
    assert_eq!(registry.get("/schemas/ids/1").await, (200, wanted));
    assert_eq!(registry.get("/subjects/s/versions/1").await.1["guid"], guid);
    let ids = json!([{ "context": ".", "id": 1 }]);
    assert_eq!(registry.get(&format!("/schemas/guids/{guid}/ids")).await, (200, ids));
    for other in ["00000000-0000-0000-0000-000000000000", "1"] {
        assert_eq!(registry.get(&format!("/schemas/guids/{other}")).await.1["error_code"], 40403);
    }
}

// STR-20: the records are Confluent's, whoever reads the topic
#[tokio::test(flavor = "multi_thread")]
async fn the_topic_of_schemas_has_the_usual_records() {
    let broker = TestBroker::start().await;
    let registry = Registry::of(&broker);
    registry.post("/subjects/s/versions", r#""int""#).await;
    put(&registry, "/config/s", json!({ "compatibility": "FULL" })).await;
    let consumer = broker.consumer(&[]);
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("_schemas", 0, Offset::Beginning).unwrap();
    consumer.assign(&list).unwrap();
    let reading = tokio::task::spawn_blocking(move || {
        let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap_or_default().to_vec()).unwrap();
        let read = || consumer.poll(PATIENCE).expect("there are two records").unwrap();
        [read(), read()].map(|message| (text(message.key()), text(message.payload())))
    });
    let records = reading.await.unwrap();
    assert_eq!(
        records,
        [
            (
                r#"{"keytype":"SCHEMA","subject":"s","version":1,"magic":1}"#.to_owned(),
                r#"{"subject":"s","version":1,"id":1,"schema":"\"int\"","deleted":false}"#.to_owned(),
            ),
            (
                r#"{"keytype":"CONFIG","subject":"s","magic":0}"#.to_owned(),
                r#"{"compatibilityLevel":"FULL"}"#.to_owned(),
            ),
        ]
    );
}
