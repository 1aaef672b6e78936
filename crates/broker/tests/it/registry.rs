//! The schema registry over HTTP, as Confluent's clients use it.

use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::support::TestBroker;

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
    assert_eq!(registry.post("/subjects/t-value/versions", &one).await, (200, json!({ "id": 1 })));
    assert_eq!(registry.post("/subjects/t-value/versions", &one).await, (200, json!({ "id": 1 })));
    // the same text with other white space and order is the same schema, in whatever subject
    let same = r#"{"name":"R","type":"record","fields":[{"type":"long","name":"a"}]}"#;
    assert_eq!(registry.post("/subjects/u-value/versions", same).await, (200, json!({ "id": 1 })));
    let two = record(&format!("{A}, {B}"));
    assert_eq!(registry.post("/subjects/t-value/versions", &two).await, (200, json!({ "id": 2 })));

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
    assert_eq!(registry.post("/subjects/n-value/versions", r#""string""#).await, (200, json!({ "id": 3 })));
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
    assert_eq!(
        registry.post("/subjects/d/versions", r#""long""#).await,
        (200, json!({ "id": 3 })),
        "ids are not reused"
    );
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
