//! What is told of requests and of what follows from them: enough to follow each, and no text of anybody.

use std::time::Duration;

use aws_lambda_events::sqs::{SqsEvent, SqsMessage};
use serde_json::{Value, json};
use shared::ports::queue::QueueName;
use tests::{Answer, ScriptedModel, TestApp};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

/// The lines of a kind about an operation.
fn lines(test: &TestApp, message: &str, operation: &str) -> Vec<Value> {
    let lines = test.journal.lines().into_iter();
    lines.filter(|line| line["message"] == message && line["operation"] == operation).collect()
}

/// The id that the answer tells.
fn id_of(answer: &Answer) -> &str {
    answer.headers["x-request-id"].to_str().unwrap()
}

/// Gives the worker what is in its queue, as Lambda would.
async fn deliver(test: &TestApp) {
    let mut batch = SqsEvent::default();
    for (number, sent) in test.queue.take(QueueName::Deliver).into_iter().enumerate() {
        let mut message = SqsMessage::default();
        (message.message_id, message.body) = (Some(format!("sqs-{number}")), Some(sent.body));
        batch.records.push(message);
    }
    let response = workers::deliver(test.app.clone(), batch).await.unwrap();
    assert!(response.batch_item_failures.is_empty());
}

#[tokio::test]
async fn a_request_is_told_with_who_called_what_it_cost_and_how_it_ended() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let workspace = test.db_workspace(&owner).await.id.text();
    owner.agent("Soporte").await;
    let list = owner.session.get("/api/agents").await;
    let line = lines(&test, "request", "list_agents").pop().unwrap();
    assert_eq!(line["request_id"].as_str(), Some(id_of(&list)));
    for (name, value) in
        [("service", json!("studio")), ("caller", json!("user")), ("tenant", json!(workspace)), ("status", json!(200))]
    {
        assert_eq!(line[name], value, "{name}: {line}");
    }
    assert!(line["table_calls"].as_u64().unwrap() >= 1 && line["table_trips"].as_u64().unwrap() >= 1, "{line}");
    assert!(line["read_units"].as_f64().unwrap() > 0.0 && line["ms"].as_f64().unwrap() > 0.0, "{line}");
    test.anonymous().get("/api/agents").await.expect(401);
    let refused = lines(&test, "request", "list_agents").pop().unwrap();
    assert_eq!(
        (&refused["status"], &refused["error"], &refused["Refusals"]),
        (&json!(401), &json!("unauthenticated"), &json!(1))
    );
    assert!(refused.get("tenant").is_none());
    test.anonymous().get("/api/nothing").await.expect(404);
    assert_eq!(lines(&test, "request", "none").pop().unwrap()["status"], 404);
}

#[tokio::test]
async fn a_chat_is_told_with_what_its_turn_spent_although_that_is_a_task_of_its_own() {
    let test = TestApp::new().await;
    let agent = test.owner().await.agent("Soporte").await;
    test.visitor(&agent).says("Hello").await;
    let line = lines(&test, "request", "chat").pop().unwrap();
    assert!(line["write_units"].as_f64().unwrap() >= 15.0 && line["table_trips"].as_u64().unwrap() >= 3, "{line}");
    assert!(line["agent"].is_string() && line["tenant"].is_string(), "{line}");
    let path = format!("/api/public/agents/{}/chat/stream", agent.slug);
    let streamed = test.anonymous().post(&path, json!({"message": "Hello"})).await;
    let turn = lines(&test, "turn", "follow").pop().unwrap();
    assert_eq!(turn["request_id"].as_str(), Some(id_of(&streamed)));
    assert!(turn["write_units"].as_f64().unwrap() >= 15.0 && turn["outcome"] == "done", "{turn}");
}

#[tokio::test]
async fn from_the_id_of_a_request_every_attempt_of_its_deliveries_is_found() {
    let (test, server) = (TestApp::new().await, MockServer::start().await);
    Mock::given(any()).respond_with(ResponseTemplate::new(500)).mount(&server).await;
    let owner = test.owner().await;
    let (webhook, _) = owner.webhook(&server.uri(), Value::Null).await;
    let told = owner.session.post("/api/developers/events", json!({"event": "order.paid"})).await;
    let request_id = id_of(&told).to_owned();
    let events = test.workers().events().await;
    workers::relay_events(test.app.clone(), events).await.unwrap();
    deliver(&test).await;
    test.clock.advance(Duration::from_secs(40));
    deliver(&test).await;
    let of_request = |line: &Value| line["message"] == "message" && line["request_id"] == request_id;
    let attempts: Vec<Value> = test.journal.lines().into_iter().filter(of_request).collect();
    let seen: Vec<_> =
        attempts.iter().map(|line| (line["operation"].as_str().unwrap(), line["attempt"].as_u64().unwrap())).collect();
    assert_eq!(seen, [("deliver", 1), ("attempt", 2)], "{attempts:?}");
    let path = format!("/api/developers/webhooks/{webhook}/deliveries");
    let delivery = owner.session.get(&path).await.expect(200)["items"][0].clone();
    for line in attempts {
        assert_eq!((&line["delivery"], &line["event"]), (&delivery["id"], &delivery["event_id"]), "{line}");
        assert_eq!(
            (&line["receiver_status"], &line["outcome"], &line["Faults"]),
            (&json!(500), &json!("done"), &json!(0))
        );
    }
    assert!(!lines(&test, "run", "relay").is_empty());
}

#[tokio::test]
async fn no_text_and_no_secret_of_anybody_is_told() {
    let model = ScriptedModel::new();
    let test = TestApp::with_model(model.clone()).await;
    let owner = test.owner().await;
    let agent = owner.agent_with(json!({"name": "Marker-name", "tools": ["capture_lead"], "publish": true})).await;
    model.calls("capture_lead", json!({"name": "Marker-lead", "email": "marker@example.com"}));
    model.says("Marker-reply");
    test.visitor(&agent).says("Marker-message").await;
    let key = owner.session.post("/api/developers/api-keys", json!({"name": "Marker-key"})).await;
    assert!(key.status.is_success(), "{}", key.text);
    let (webhook, secret) = owner.webhook("https://hooks.example.com/marker-url", Value::Null).await;
    owner.session.get(&format!("/api/developers/webhooks/{webhook}?marker=1")).await.expect(200);
    let events = test.workers().events().await;
    workers::relay_events(test.app.clone(), events).await.unwrap();
    deliver(&test).await;
    let all = test.journal.lines().iter().map(Value::to_string).collect::<String>();
    let of_key = key.json()["key"].as_str().unwrap().to_owned();
    for text in ["arker", "example.com", owner.token.as_str(), &owner.email, &secret, &of_key, tests::PASSWORD] {
        assert!(!all.contains(text), "{text}");
    }
    assert!(all.len() > 1_000, "something was told");
}
