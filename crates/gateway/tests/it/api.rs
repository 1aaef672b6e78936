//! The API over HTTP: who gets in, and how everything else is refused.

use std::sync::Arc;
use std::time::Duration;

use config::Validation;
use daemon::TaskSet;
use daemon::admin::Admin;
use gateway::api::{self, ApiState, Guard};
use gateway::dead_letters::DeadLetters;
use model::SystemClock;
use reqwest::{Client, StatusCode};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

// G-10, security D.1
#[tokio::test]
async fn a_request_needs_the_token_and_the_name_of_this_machine() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("run")).unwrap();
    let guard = Guard::new().unwrap();
    let dead_letters = DeadLetters::new(Arc::new(SystemClock), Validation::default());
    let state =
        ApiState { gateway_id: "gw-7".to_owned(), dead_letters, alarms: gateway::alarm_commands::AlarmDesk::default() };
    let context = daemon::Context::new("runtime", "gw-7");
    let page = Admin::bind(&context, api::routes(state, guard.clone())).await.unwrap();
    guard.leave(&dir.path().join("run"), page.address()).unwrap();
    let mut tasks = TaskSet::new(CancellationToken::new());
    tasks.spawn("api", |stop| page.serve(stop));
    let access = api::guard::access(dir.path()).unwrap();
    let client = Client::builder().no_proxy().build().unwrap();
    let url = |path: &str| format!("{}/api/v1{path}", access.url);
    let token = access.token.reveal();
    let code = |answer: Value| answer["code"].as_str().unwrap_or_default().to_owned();

    let about = client.get(url("")).bearer_auth(token).send().await.unwrap();
    assert_eq!(about.status(), StatusCode::OK);
    assert_eq!(about.json::<Value>().await.unwrap()["gateway_id"], "gw-7");
    for path in ["", "/dead-letters/groups", "/nothing"] {
        let refused = client.get(url(path)).send().await.unwrap();
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(refused.headers()["content-type"], "application/problem+json");
        let body: Value = refused.json().await.unwrap();
        assert_eq!((&body["status"], &body["title"]), (&401.into(), &"Unauthorized".into()));
        assert!(!body["detail"].as_str().unwrap().is_empty());
        let wrong = client.get(url(path)).bearer_auth("00".repeat(32)).send().await.unwrap();
        assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED, "{path}");
        let rebound = client.get(url(path)).bearer_auth(token).header("host", "plant.example").send().await.unwrap();
        assert_eq!(rebound.status(), StatusCode::FORBIDDEN, "{path}");
        assert_eq!(code(rebound.json().await.unwrap()), "WRONG_HOST");
    }
    let nothing = client.get(url("/nothing")).bearer_auth(token).send().await.unwrap();
    assert_eq!(code(nothing.json().await.unwrap()), "NOT_FOUND");

    let large = vec![b' '; 1024 * 1024 + 1];
    let refused = client.post(url("/dead-letters/preview")).bearer_auth(token).body(large).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(code(refused.json().await.unwrap()), "TOO_LARGE");
    for body in ["{", r#"{"idz":[]}"#, "{}", r#"{"ids":[],"token":"x"}"#] {
        let refused = client.post(url("/dead-letters/approve")).bearer_auth(token).body(body).send().await.unwrap();
        assert_eq!(code(refused.json().await.unwrap()), "BAD_REQUEST", "{body}");
    }
    let strange = client.get(url("/dead-letters?since=yesterday")).bearer_auth(token).send().await.unwrap();
    assert_eq!(code(strange.json().await.unwrap()), "BAD_REQUEST");
    let early =
        client.post(url("/dead-letters/approve")).bearer_auth(token).body(r#"{"ids":["x"]}"#).send().await.unwrap();
    assert_eq!(early.status(), StatusCode::SERVICE_UNAVAILABLE, "there is no stream");
    tasks.shutdown(Duration::from_secs(1)).await;
}
