//! Studio's function binaries as Lambda runs them: processes of their own that ask for events.

use serde_json::{Value, json};
use tests::{Cloud, Function, TestApp};

const SITE: &str = env!("CARGO_BIN_EXE_studio-site");
const AGENTS: &str = env!("CARGO_BIN_EXE_studio-agents");

fn sample(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn site() -> Value {
    sample(include_str!("../../events/studio-site.json"))
}

fn agents() -> Value {
    sample(include_str!("../../events/studio-agents.json"))
}

fn body(answer: &Value) -> Value {
    serde_json::from_str(answer["body"].as_str().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_site_answers_one_event_after_the_other() {
    let test = TestApp::new().await;
    let function = Function::start(SITE, &Cloud::of(&test).await.variables()).await;
    for _ in 0..3 {
        let answer = function.invoke(&site()).await.unwrap();
        assert_eq!(answer["statusCode"], 200, "{answer}");
        assert_eq!(body(&answer)["version"], env!("CARGO_PKG_VERSION"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_are_listed_for_their_owner_and_the_owners_programs() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    let function = Function::start(AGENTS, &Cloud::of(&test).await.variables()).await;

    let answer = function.invoke(&agents()).await.unwrap();
    assert_eq!(answer["statusCode"], 401, "{answer}");
    let mut event = agents();
    // A session is known by the installation's secret, a key by the table alone.
    for bearer in [format!("Bearer {}", owner.token), owner.key().await.authorization().unwrap()] {
        event["headers"]["authorization"] = json!(bearer);
        let answer = function.invoke(&event).await.unwrap();
        assert_eq!(answer["statusCode"], 200, "{answer}");
        assert_eq!(body(&answer)["items"][0]["id"], agent.id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_secret_a_caller_is_told_to_come_again_and_the_log_says_why() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let function = Function::start(AGENTS, &Cloud::without_secret(&test).await.variables()).await;
    let mut event = agents();
    event["headers"]["authorization"] = json!(format!("Bearer {}", owner.token));
    let answer = function.invoke(&event).await.unwrap();
    assert_eq!(answer["statusCode"], 503, "{answer}");
    assert!(!answer["body"].as_str().unwrap().contains("secret"), "{answer}");
    // Every line is JSON, which is what alarms and filters read.
    let log: Vec<Value> = function.log().iter().map(|line| sample(line)).collect();
    let told = |line: &Value| line["fields"]["error"].as_str().is_some_and(|error| error.contains("AccessDenied"));
    assert!(log.iter().any(told), "{log:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_is_not_configured_ends_and_names_what_is_missing() {
    let mut variables = Cloud::of(&TestApp::new().await).await.variables();
    variables.retain(|(name, _)| *name != "TABLE_NAME");
    let (status, words) = Function::start(SITE, &variables).await.end().await;
    assert!(!status.success());
    assert!(words.contains("TABLE_NAME"), "{words}");
}
