//! `Idempotency-Key`: a repeat gets the first answer, whatever the row.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use shared::access::Idempotency;
use tests::{Answer, Persona, TestApp};

use tests::requests::{Scene, Stage, rows, valid};

const AGENTS: &str = "/api/agents";
const KEYS: &str = "/api/developers/api-keys";

async fn post(persona: &Persona, key: &str, path: &str, body: Value) -> Answer {
    persona.call("POST", path, &[("idempotency-key", key)], Some(body)).await
}

fn is_replay(answer: &Answer) -> bool {
    answer.headers.get("idempotent-replayed").is_some_and(|value| value == "true")
}

async fn count(persona: &Persona, list: &str) -> usize {
    persona.get(list).await.expect(200)["items"].as_array().unwrap().len()
}

#[tokio::test]
async fn of_many_equal_requests_one_acts_and_all_get_its_answer_whatever_the_row() {
    let (mut stage, mut wrong) = (Stage::default(), Vec::new());
    for op in rows().into_iter().filter(|op| op.idempotency == Idempotency::Keyed) {
        let scene = stage.scene(op).await;
        let (request, caller) = (valid(op, &scene.things), scene.right_caller(op).await);
        let headers = [("idempotency-key", op.id)];
        let send = || caller.call(op.method, &request.path, &headers, request.body.clone());
        let mut answers = join_all((0..5).map(|_| send())).await;
        let between = scene.test.db_dump().await;
        answers.push(send().await);
        let changes = scene.test.db_dump().await.changes_since(&between);
        let acted = answers.iter().filter(|answer| !is_replay(answer)).count();
        let first = &answers[0];
        let typed = |answer: &Answer| answer.headers.get("content-type").cloned();
        let differs = |answer: &&Answer| {
            answer.status.as_u16() != request.status || answer.text != first.text || typed(answer) != typed(first)
        };
        let differing: Vec<_> = answers.iter().filter(differs).map(|answer| (answer.status, &answer.text)).collect();
        if acted != 1 || !differing.is_empty() || !changes.is_empty() {
            wrong.push(format!("{}: {acted} acted; others got {differing:?}; the last one changed {changes:?}", op.id));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn ten_equal_creations_at_once_make_one_thing() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    for (path, body) in [(AGENTS, json!({"name": "Uno"})), (KEYS, json!({"name": "CI"}))] {
        let answers = join_all((0..10).map(|_| post(&owner.session, path, path, body.clone()))).await;
        assert_eq!(answers.iter().filter(|answer| !is_replay(answer)).count(), 1);
        assert!(answers.iter().all(|answer| answer.status == 201 && answer.text == answers[0].text), "{answers:?}");
        assert_eq!(count(&owner.session, path).await, 1);
    }
}

#[tokio::test]
async fn a_secret_that_is_shown_once_is_shown_again_to_a_repeat_and_lies_nowhere_in_clear() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let first = post(&owner.session, "k", KEYS, json!({"name": "CI"})).await;
    let second = post(&owner.session, "k", KEYS, json!({"name": "CI"})).await;
    assert_eq!((first.text.clone(), is_replay(&second)), (second.text, true));
    let key = first.expect(201)["key"].as_str().unwrap().to_owned();
    assert_eq!(owner.session.with_bearer(&key).get(AGENTS).await.status, 200);
    assert!(!test.db_dump().await.contains(&key), "the stored answer shows the key");
    assert_eq!(count(&owner.session, KEYS).await, 1);
}

#[tokio::test]
async fn the_largest_agent_is_made_once_too() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let longest = |chars: usize| "🜁".repeat(chars);
    let body = json!({
        "name": longest(120), "description": longest(2_000), "system_prompt": longest(32_000), "publish": true,
        "greeting_message": longest(1_000), "fallback_message": longest(1_000),
        "widget": {"suggested_questions": vec![longest(200); 6]},
        "tools": ["capture_lead", "schedule_appointment", "send_whatsapp_handoff", "http_request"],
    });
    let first = post(&owner.session, "k", AGENTS, body.clone()).await;
    let second = post(&owner.session, "k", AGENTS, body).await;
    assert_eq!((first.status.as_u16(), is_replay(&second), first.text == second.text), (201, true, true));
    assert_eq!(count(&owner.session, AGENTS).await, 1);
}

#[tokio::test]
async fn a_key_stands_for_one_request_only() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    post(&owner.session, "k", AGENTS, json!({"name": "Uno"})).await.expect(201);
    let other_body = post(&owner.session, "k", AGENTS, json!({"name": "Dos"})).await;
    let other_path = post(&owner.session, "k", "/api/developers/agents", json!({"name": "Uno"})).await;
    let other_query = post(&owner.session, "k", "/api/agents?x=1", json!({"name": "Uno"})).await;
    for answer in [other_body, other_path, other_query] {
        assert_eq!(answer.code(422), "idempotency_mismatch");
    }
    assert_eq!(count(&owner.session, AGENTS).await, 1);
    post(&owner.session, "k2", AGENTS, json!({"name": "Uno"})).await.expect(201);
    assert_eq!(count(&owner.session, AGENTS).await, 2);
}

#[tokio::test]
async fn each_caller_has_keys_of_their_own() {
    let test = TestApp::new().await;
    let (owner, other) = (test.owner().await, test.owner().await);
    let body = json!({"name": "Uno"});
    let mut ids = Vec::new();
    for persona in [owner.session.clone(), other.session.clone(), owner.key().await, owner.key().await] {
        let answer = post(&persona, "k", AGENTS, body.clone()).await;
        assert!(!is_replay(&answer));
        ids.push(answer.expect(201)["id"].as_u64().unwrap());
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4);
    let form = format!("/api/public/agents/{}/leads", owner.agent("Soporte").await.slug);
    for _ in 0..2 {
        let answer = post(&test.anonymous(), "k", &form, json!({"name": "Ana"})).await;
        assert!(!is_replay(&answer), "two visitors are two callers");
        let _ = answer.expect(201);
    }
}

#[tokio::test]
async fn a_person_is_one_caller_in_all_their_sessions() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let first = post(&owner.session, "k", AGENTS, json!({"name": "Uno"})).await;
    let login = json!({"email": owner.email, "password": tests::PASSWORD});
    let token = test.anonymous().post("/api/auth/login", login).await.expect(200)["access_token"].clone();
    let again = post(&owner.session.with_bearer(token.as_str().unwrap()), "k", AGENTS, json!({"name": "Uno"})).await;
    assert_eq!((first.text, is_replay(&again)), (again.text, true));
}

#[tokio::test]
async fn a_failed_command_leaves_its_key_free() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let before = test.db_dump().await;
    assert_eq!(post(&owner.session, "k", AGENTS, json!({"name": ""})).await.code(422), "validation_error");
    assert!(test.db_dump().await.changes_since(&before).is_empty());
    post(&owner.session, "k", AGENTS, json!({"name": "Uno"})).await.expect(201);
    let (first, second) = (owner.agent("Dos").await, owner.agent_with(json!({"name": "Tres"})).await);
    let publish = format!("/api/agents/{}/publish", second.id);
    assert_eq!(post(&owner.session, "p", &publish, Value::Null).await.code(402), "agent_limit_reached");
    owner.session.post(&format!("/api/agents/{}/unpublish", first.id), Value::Null).await.expect(200);
    let published = post(&owner.session, "p", &publish, Value::Null).await;
    assert!(!is_replay(&published));
    let _ = published.expect(200);
}

#[tokio::test]
async fn a_refused_caller_gets_no_stored_answer() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let first = post(&owner.session, "k", KEYS, json!({"name": "CI"})).await;
    let _ = first.expect(201);
    assert_eq!(owner.session.post("/api/auth/logout", Value::Null).await.status, 204);
    assert_eq!(post(&owner.session, "k", KEYS, json!({"name": "CI"})).await.code(401), "unauthenticated");
}

#[tokio::test]
async fn an_answer_is_kept_for_two_days() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let send = async || post(&owner.session, "k", AGENTS, json!({"name": "Uno"})).await;
    let first = send().await.expect(201);
    test.clock.advance(Duration::from_secs(48 * 3600 - 1));
    assert_eq!(send().await.expect(201)["id"], first["id"]);
    test.clock.advance(Duration::from_secs(1));
    let anew = send().await;
    assert!(!is_replay(&anew));
    assert_ne!(anew.expect(201)["id"], first["id"]);
    assert_eq!(send().await.status, 201, "and the new answer is kept in its place");
    assert_eq!(count(&owner.session, AGENTS).await, 2);
}

#[tokio::test]
async fn a_repeat_gets_the_first_answer_whatever_happened_since() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let made = post(&owner.session, "k", AGENTS, json!({"name": "Uno"})).await;
    let path = format!("{AGENTS}/{}?confirmation=Uno", made.json()["id"]);
    assert_eq!(owner.session.delete(&path).await.status, 204);
    let again = post(&owner.session, "k", AGENTS, json!({"name": "Uno"})).await;
    assert_eq!((again.text, count(&owner.session, AGENTS).await), (made.text, 0));
}

#[tokio::test]
async fn attaching_a_tool_that_was_there_is_200_also_in_its_repeat() {
    let scene = Scene::new().await;
    let path = format!("/api/agents/{}/tools", scene.agent.id);
    for _ in 0..2 {
        let answer = post(&scene.owner.session, "k", &path, json!({"name": "capture_lead"})).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
}

#[tokio::test]
async fn a_key_is_one_to_255_visible_characters() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    for key in ["", &"k".repeat(256), "ñandú"] {
        let answer = post(&owner.session, key, AGENTS, json!({"name": "Uno"})).await.expect(422);
        assert_eq!(answer["field"], "Idempotency-Key", "{answer}");
    }
    for key in ["k", &"k".repeat(255), "a#b/c d"] {
        post(&owner.session, key, AGENTS, json!({"name": "Uno"})).await.expect(201);
    }
}

#[tokio::test]
async fn a_read_ignores_the_key() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let headers = [("idempotency-key", "k")];
    for _ in 0..2 {
        let answer = owner.session.call("GET", AGENTS, &headers, None).await;
        assert!(!is_replay(&answer));
        let _ = answer.expect(200);
    }
    post(&owner.session, "k", AGENTS, json!({"name": "Uno"})).await.expect(201);
}
