//! Random requests. The seeds are fixed, so that a failure comes back.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Map, Value, json};
use shared::access::{Op, RateClass};
use tests::Persona;

use tests::requests::{Scene, Stage, Valid, rows, valid, writes};

fn runner(cases: u32) -> TestRunner {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

#[test]
fn pages_of_any_size_give_every_agent_once() {
    let runtime = runtime();
    let (scene, all) = runtime.block_on(async {
        let scene = Scene::new().await;
        for number in 0..20 {
            scene.owner.agent_with(json!({"name": format!("{number}")})).await;
        }
        let all = ids(&scene.owner.session.get("/api/agents?limit=100").await.expect(200));
        (scene, all)
    });
    assert_eq!(all.len(), 22);
    let walked = runner(12).run(&vec(1_usize..=9, 22), |sizes| {
        let seen = runtime.block_on(walk(&scene.owner.session, &sizes));
        prop_assert_eq!(&seen, &all);
        Ok(())
    });
    walked.expect("every walk gives every agent once, in order");
}

fn ids(page: &Value) -> Vec<u64> {
    page["items"].as_array().unwrap().iter().map(|agent| agent["id"].as_u64().unwrap()).collect()
}

async fn walk(persona: &Persona, sizes: &[usize]) -> Vec<u64> {
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    for size in sizes.iter().cycle() {
        let page = persona.get(&format!("/api/agents?limit={size}{cursor}")).await.expect(200);
        seen.extend(ids(&page));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    seen
}

/// Any characters; a regular expression would be compiled for each text.
fn text(longest: usize) -> impl Strategy<Value = String> + Clone {
    vec(any::<char>(), 0..=longest).prop_map(String::from_iter)
}

/// Small values of every kind, with the ones that break things more often than chance would have them.
fn anything() -> impl Strategy<Value = Value> {
    let odd = prop::sample::select(vec![
        json!(null),
        json!(""),
        json!(" "),
        json!("\u{0}"),
        json!("\u{202e}\u{feff}"),
        json!("a\nb"),
        json!("https://example.com"),
        json!("a@example.com"),
        json!("capture_lead"),
        json!("2026-13-45T99:99:99Z"),
        json!("x".repeat(5_000)),
        json!(-1),
        json!(0),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(1e300),
        json!(1e-300),
        json!(0.1),
        json!([]),
        json!({}),
        json!({"": ""}),
        json!([null, [[]], {"a": {"b": [1e300]}}]),
    ]);
    let leaf = prop_oneof![
        4 => odd,
        1 => any::<bool>().prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(|number| json!(number)),
        2 => text(12).prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::from),
            vec((text(6), inner), 0..3).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// The fields that the bodies of the surface know, wherever in them.
const FIELDS: [&str; 38] = [
    "email",
    "password",
    "name",
    "description",
    "system_prompt",
    "provider",
    "model",
    "greeting_message",
    "fallback_message",
    "enabled",
    "config",
    "ai",
    "kapso",
    "api_key",
    "base_url",
    "phone_number_id",
    "widget",
    "accent",
    "avatar",
    "suggested_questions",
    "tools",
    "publish",
    "confirmation",
    "scopes",
    "expires_at",
    "url",
    "events",
    "is_active",
    "event",
    "agent_id",
    "data",
    "message",
    "history",
    "conversation_id",
    "visitor_id",
    "client_message_id",
    "paused",
    "content",
];

/// A body: a valid one with some of its fields replaced, or fields of any body with any values, or no object at all.
fn body(valid: Option<Value>) -> impl Strategy<Value = Value> {
    let known = prop::sample::select(FIELDS.to_vec());
    let fields = vec((known, anything()), 0..5);
    let start = valid.unwrap_or_else(|| json!({}));
    let changed = fields.prop_map(move |fields| {
        let mut body: Map<String, Value> = start.as_object().cloned().unwrap_or_default();
        body.extend(fields.into_iter().map(|(name, value)| (name.to_owned(), value)));
        Value::Object(body)
    });
    let nested = (
        prop::sample::select(vec!["config", "widget", "data", "ai"]),
        prop::sample::select(FIELDS.to_vec()),
        anything(),
    );
    let nested = nested
        .prop_map(|(outer, inner, value)| json!({"name": "x", outer: {inner: value.clone(), "ai": {inner: value}}}));
    prop_oneof![5 => changed, 2 => nested, 1 => anything()]
}

/// How many bodies a row gets: few where it reads none, and where each costs the hash of a password.
fn cases(op: &Op, request: &Valid) -> usize {
    match (op.rate, &request.body) {
        (_, None) => 2,
        (RateClass::Auth, Some(_)) => 4,
        (_, Some(_)) => 14,
    }
}

#[tokio::test]
async fn no_body_breaks_a_row_and_a_refused_one_writes_nothing() {
    let (mut runner, mut stage, mut wrong) = (runner(1), Stage::default(), Vec::new());
    for op in rows().into_iter().filter(|op| writes(op) && op.id != "logout") {
        let scene = stage.scene(op).await;
        let (request, caller) = (valid(op, &scene.things), scene.right_caller(op).await);
        let bodies = body(request.body.clone());
        let mut watch = scene.test.db_watch().await;
        for _ in 0..cases(op, &request) {
            let body = bodies.new_tree(&mut runner).expect("a body").current();
            // Rates are counted anew, and nothing else happens by time alone.
            scene.test.clock.advance(Duration::from_secs(30));
            let answer = caller.call(op.method, &request.path, &[], Some(body.clone())).await;
            let changes = watch.changes().await;
            if answer.status.is_server_error() {
                wrong.push(format!("{} breaks on {body}: {} {}", op.id, answer.status, answer.text));
            }
            if answer.status.is_client_error() && !changes.is_empty() {
                wrong.push(format!("{} refuses {body} with {} but writes {changes:?}", op.id, answer.status));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

#[tokio::test]
async fn no_query_breaks_a_list() {
    let scene = Scene::new().await;
    let mut runner = runner(1);
    let values = prop_oneof![
        2 => text(10).prop_map(|text| encoded(&text)),
        1 => prop::sample::select(vec!["%00%ff%", "%", "&&=", "-0", "1e3", "MQphZ2VudHMKQUcj"]).prop_map(str::to_owned),
        1 => Just("A".repeat(4_000)),
    ];
    for op in rows().into_iter().filter(|op| op.id.starts_with("list_")) {
        let (path, caller) = (valid(op, &scene.things).path, scene.right_caller(op).await);
        for name in ["cursor", "limit", "after"] {
            for _ in 0..6 {
                let value = values.new_tree(&mut runner).expect("a text").current();
                scene.test.clock.advance(Duration::from_secs(10));
                let answer = caller.get(&format!("{path}?{name}={value}")).await;
                assert!(
                    !answer.status.is_server_error(),
                    "{}?{name}={value}: {} {}",
                    op.id,
                    answer.status,
                    answer.text
                );
            }
        }
    }
}
