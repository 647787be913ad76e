//! Webhooks as their receivers see them.

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use shared::events::studio::DOCUMENTED;
use shared::kernel::Time;
use tests::{ScriptedModel, TestApp};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

async fn receiver(status: u16) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(status)).mount(&server).await;
    server
}

async fn received(server: &MockServer) -> Vec<Request> {
    server.received_requests().await.unwrap_or_default()
}

fn header(request: &Request, name: &str) -> String {
    request.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

/// The documented formula, written here once more: hex(HMAC-SHA256(secret, timestamp + "." + body)).
fn signature(secret: &str, timestamp: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(body);
    hex::encode(mac.finalize().into_bytes())
}

#[tokio::test]
async fn every_documented_event_arrives_signed_and_in_the_documented_shape() {
    let (server, model) = (receiver(200).await, ScriptedModel::new());
    let test = TestApp::with_model(model.clone()).await;
    let owner = test.owner().await;
    let (_, secret) = owner.webhook(&server.uri(), Value::Null).await;
    let tools = json!(["capture_lead", "send_whatsapp_handoff"]);
    let agent = owner.agent_with(json!({"name": "Soporte", "tools": tools, "publish": true})).await;
    let mut visitor = test.visitor(&agent);
    model.calls("capture_lead", json!({"email": "ana@example.com"}));
    model.calls("send_whatsapp_handoff", json!({"reason": "asked"}));
    model.says("Done.");
    visitor.says("ana@example.com, get me a person").await;
    let workers = test.workers();
    workers.run().await;
    workers.after(Duration::from_secs(31 * 60)).await;
    let requests = received(&server).await;
    let mut events: Vec<String> = requests.iter().map(|request| header(request, "x-chatia-event")).collect();
    events.sort();
    let mut expected: Vec<String> = DOCUMENTED.map(str::to_owned).to_vec();
    expected.push("agent.tool.called".into());
    expected.sort();
    assert_eq!(events, expected, "each once, the two tool calls too");
    for request in &requests {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!(body["type"], header(request, "x-chatia-event"));
        assert_eq!(body["id"], header(request, "x-chatia-event-id"));
        assert_eq!(body["agent_id"], agent.id);
        assert!(body["created_at"].as_str().unwrap().ends_with('Z') && body["data"].is_object(), "{body}");
        let timestamp = header(request, "x-chatia-timestamp");
        assert_eq!(header(request, "x-chatia-signature"), signature(&secret, &timestamp, &request.body));
        // The off-the-shelf library refuses timestamps that are not now; the signature itself it can make.
        let standard = standardwebhooks::Webhook::new(&secret).unwrap();
        let signed = standard.sign(&header(request, "webhook-id"), timestamp.parse().unwrap(), &request.body).unwrap();
        assert_eq!(header(request, "webhook-signature"), signed);
    }
    let of = |event: &str| {
        let request = requests.iter().find(|request| header(request, "x-chatia-event") == event).unwrap();
        serde_json::from_slice::<Value>(&request.body).unwrap()["data"].clone()
    };
    assert_eq!(of("agent.message.created")["content"], "ana@example.com, get me a person");
    assert_eq!(of("agent.reply.created")["content"], "Done.");
    assert_eq!(of("agent.reply.created")["key_source"], "managed");
    assert_eq!(of("agent.lead.captured")["email"], "ana@example.com");
    assert_eq!(of("agent.handoff.requested")["reason"], "asked");
    assert_eq!(of("agent.published")["public_slug"], agent.slug);
    let conversation = owner.conversations(&agent).await[0]["id"].clone();
    assert_eq!(of("conversation.closed")["conversation_id"], conversation);
}

#[tokio::test]
async fn an_event_that_is_relayed_again_is_delivered_once() {
    let server = receiver(200).await;
    let test = TestApp::new().await;
    let owner = test.owner().await;
    owner.webhook(&server.uri(), json!(["agent.created"])).await;
    owner.agent("Soporte").await;
    for _ in 0..3 {
        // Each set of workers has forgotten what the one before did, as after a crash.
        test.workers().run().await;
    }
    assert_eq!(received(&server).await.len(), 1);
}

#[tokio::test]
async fn a_failing_receiver_is_tried_six_times_with_the_same_bytes_and_then_given_up() {
    let server = receiver(500).await;
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let (webhook, _) = owner.webhook(&server.uri(), json!(["agent.created"])).await;
    owner.agent("Soporte").await;
    let workers = test.workers();
    workers.run().await;
    for (number, wait) in [40, 7 * 60, 75 * 60, 10 * 3600, 30 * 3600].into_iter().enumerate() {
        assert_eq!(received(&server).await.len(), number + 1);
        workers.after(Duration::from_secs(wait)).await;
    }
    workers.after(Duration::from_secs(48 * 3600)).await;
    let requests = received(&server).await;
    assert_eq!(requests.len(), 6, "the first try and five retries");
    assert!(requests.windows(2).all(|pair| pair[0].body == pair[1].body), "the payload is frozen");
    assert!(requests.windows(2).all(|pair| header(&pair[0], "webhook-id") == header(&pair[1], "webhook-id")));
    let path = format!("/api/developers/webhooks/{webhook}/deliveries");
    let list = owner.session.get(&path).await.expect(200);
    let delivery = &list["items"][0];
    assert_eq!((&delivery["status"], delivery["attempts"].as_array().unwrap().len()), (&json!("failed"), 6));
    assert_eq!(delivery["attempts"][0]["status"], 500);
    // By hand, it starts anew.
    let retry = format!("/api/developers/webhooks/deliveries/{}/retry", delivery["id"].as_str().unwrap());
    assert_eq!(owner.session.post(&retry, json!({})).await.expect(200)["status"], "pending");
    assert_eq!(owner.session.post(&retry, json!({})).await.code(409), "delivery_not_failed");
    workers.run().await;
    assert_eq!(received(&server).await.len(), 7);
}

#[tokio::test]
async fn a_receiver_that_recovers_gets_the_event_and_no_more_attempts() {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(503)).up_to_n_times(1).mount(&server).await;
    Mock::given(any()).respond_with(ResponseTemplate::new(204)).mount(&server).await;
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let (webhook, _) = owner.webhook(&server.uri(), json!(["agent.created"])).await;
    owner.agent("Soporte").await;
    let workers = test.workers();
    workers.run().await;
    workers.after(Duration::from_secs(40)).await;
    workers.after(Duration::from_secs(48 * 3600)).await;
    assert_eq!(received(&server).await.len(), 2);
    let found = owner.session.get(&format!("/api/developers/webhooks/{webhook}")).await.expect(200);
    assert_eq!(found["last_delivery_status"], "succeeded");
}

#[tokio::test]
async fn a_receiver_that_is_gone_is_switched_off_at_once() {
    let server = receiver(410).await;
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let (webhook, _) = owner.webhook(&server.uri(), json!(["agent.created"])).await;
    owner.agent("Soporte").await;
    let workers = test.workers();
    workers.run().await;
    let found = owner.session.get(&format!("/api/developers/webhooks/{webhook}")).await.expect(200);
    assert_eq!(found["is_active"], false);
    assert!(found["disabled_reason"].as_str().unwrap().contains("410"));
    workers.after(Duration::from_secs(48 * 3600)).await;
    assert_eq!(received(&server).await.len(), 1);
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_is_not_followed() {
    let (target, server) = (receiver(200).await, MockServer::start().await);
    let redirect = ResponseTemplate::new(302).insert_header("location", target.uri().as_str());
    Mock::given(any()).respond_with(redirect).mount(&server).await;
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let (webhook, _) = owner.webhook(&server.uri(), Value::Null).await;
    let path = format!("/api/developers/webhooks/{webhook}/test");
    let outcome = owner.session.post(&path, json!({})).await.expect(200);
    assert_eq!((&outcome["delivered"], &outcome["status"]), (&json!(false), &json!(302)));
    assert!(received(&target).await.is_empty());
}

#[tokio::test]
async fn a_custom_event_reaches_the_owner_s_webhooks_and_nobody_else_s() {
    let (mine, theirs) = (receiver(200).await, receiver(200).await);
    let test = TestApp::new().await;
    let (owner, other) = (test.owner().await, test.owner().await);
    owner.webhook(&mine.uri(), json!(["custom.order.paid"])).await;
    other.webhook(&theirs.uri(), Value::Null).await;
    let key = owner.key().await;
    let body = json!({"event": "order.paid", "data": {"order": 7, "nested": {"deep": true}}});
    let accepted = key.post("/api/developers/events", body).await.expect(201);
    assert_eq!(accepted["event"], "custom.order.paid");
    key.post("/api/developers/events", json!({"event": "order.lost", "data": {}})).await.expect(201);
    test.workers().run().await;
    let requests = received(&mine).await;
    assert_eq!(requests.len(), 1, "only what it asked for");
    let sent: Value = serde_json::from_slice(&requests[0].body).unwrap();
    assert_eq!((&sent["type"], &sent["id"]), (&json!("custom.order.paid"), &accepted["id"]));
    assert_eq!(sent["data"], json!({"order": 7, "nested": {"deep": true}}));
    assert!(received(&theirs).await.is_empty());
}

#[tokio::test]
async fn a_slow_endpoint_s_wish_to_wait_is_honoured() {
    let server = MockServer::start().await;
    let busy = ResponseTemplate::new(429).insert_header("retry-after", "600");
    Mock::given(any()).respond_with(busy).up_to_n_times(1).mount(&server).await;
    Mock::given(any()).respond_with(ResponseTemplate::new(200)).mount(&server).await;
    let test = TestApp::new().await;
    let owner = test.owner().await;
    owner.webhook(&server.uri(), json!(["agent.created"])).await;
    owner.agent("Soporte").await;
    let workers = test.workers();
    workers.run().await;
    workers.after(Duration::from_secs(60)).await;
    assert_eq!(received(&server).await.len(), 1, "not before it wants to");
    workers.after(Duration::from_secs(600)).await;
    assert_eq!(received(&server).await.len(), 2);
}

#[tokio::test]
async fn the_retries_of_many_deliveries_are_spread_by_a_fifth_around_their_time() {
    let server = receiver(500).await;
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let (webhook, _) = owner.webhook(&server.uri(), Value::Null).await;
    for number in 0..20 {
        owner.session.post("/api/developers/events", json!({"event": format!("e{number}")})).await.expect(201);
    }
    test.workers().run().await;
    let path = format!("/api/developers/webhooks/{webhook}/deliveries?limit=50&status=pending");
    let list = owner.session.get(&path).await.expect(200);
    let waits: Vec<i64> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|delivery| {
            let next: Time = serde_json::from_value(delivery["next_attempt_at"].clone()).unwrap();
            next.millis() - test.app.now().millis()
        })
        .collect();
    assert_eq!(waits.len(), 20);
    assert!(waits.iter().all(|wait| (24_000..=36_000).contains(wait)), "{waits:?}");
    let different: std::collections::HashSet<_> = waits.iter().collect();
    assert!(different.len() > 10, "{waits:?}");
}
