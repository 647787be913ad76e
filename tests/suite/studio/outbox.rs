//! The operator has events relayed again that no reader of the stream saw.

use std::time::Duration;

use serde_json::{Value, json};
use shared::ports::queue::QueueName;
use shared::store::{keys, outbox};
use shared::table::{Key, Row, Unit};
use tests::{Owner, ScriptedModel, TestApp};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

const REPLAY: &str = "/api/admin/outbox/replay";
const DAY: Duration = Duration::from_secs(24 * 3_600);

async fn receiver() -> MockServer {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(200)).mount(&server).await;
    server
}

async fn received(server: &MockServer) -> Vec<String> {
    let requests = server.received_requests().await.unwrap_or_default();
    requests.iter().map(|request| request.headers["webhook-id"].to_str().unwrap().to_owned()).collect()
}

async fn publish(owner: &Owner, name: &str) -> String {
    let event = owner.session.post("/api/developers/events", json!({"event": name})).await.expect(201);
    event["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn events_that_no_reader_saw_are_delivered_mailed_and_counted_and_nothing_twice() {
    let model = ScriptedModel::new();
    let (test, server) = (TestApp::with_model(model.clone()).await, receiver().await);
    let owner = test.owner().await;
    owner.webhook(&server.uri(), Value::Null).await;
    let body = json!({"name": "Soporte", "tools": ["send_whatsapp_handoff"], "publish": true});
    let agent = owner.agent_with(body).await;
    model.calls("send_whatsapp_handoff", json!({"reason": "wants a refund"}));
    model.says("A person will write to you.");
    test.visitor(&agent).says("I want a person").await;
    let (root, workers) = (test.superadmin().await, test.workers());
    let counted = async || {
        let stats = owner.session.get(&format!("/api/agents/{}/stats", agent.id)).await.expect(200);
        let usage = owner.session.get("/api/billing/usage").await.expect(200);
        (stats["conversations"].clone(), stats["messages"].clone(), stats["replies"].clone(), usage)
    };
    let nothing = counted().await;
    assert_eq!((&nothing.0, &nothing.2), (&json!(0), &json!(0)));
    let hour = json!({"since": "2040-03-05T09:00:00Z", "until": "2040-03-05T10:00:00Z"});
    let mut after_the_first = None;
    for _ in 0..3 {
        root.post(REPLAY, hour.clone()).await.expect(200);
        workers.run_queues().await;
        let mut once = received(&server).await;
        let seen = once.len();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), seen, "each event was delivered once");
        let now = (seen, counted().await, test.mail.sent().len());
        assert_eq!((&now.1.0, &now.1.1, &now.1.2, now.2), (&json!(1), &json!(1), &json!(1), 1));
        assert_eq!(after_the_first.get_or_insert_with(|| now.clone()), &now);
    }
    let (deliveries, counts, mails) = after_the_first.unwrap();
    assert!(deliveries >= 6, "{deliveries}");
    // The readers work again, and see the same events.
    test.workers().run().await;
    assert_eq!((received(&server).await.len(), counted().await, test.mail.sent().len()), (deliveries, counts, mails));
}

#[tokio::test]
async fn a_long_time_is_worked_off_in_chunks_over_days() {
    let (test, server) = (TestApp::new().await, receiver().await);
    let owner = test.owner().await;
    owner.webhook(&server.uri(), Value::Null).await;
    let mut events = Vec::new();
    for number in 0..230 {
        test.clock.advance(Duration::from_secs(500));
        events.push(publish(&owner, &format!("e{number}")).await);
    }
    let (late, late_server) = (test.now_text(), receiver().await);
    test.clock.advance(DAY);
    owner.webhook(&late_server.uri(), Value::Null).await;
    events.push(publish(&owner, "last").await);
    let body = json!({"since": "2040-03-05T09:00:00Z", "until": "2040-04-05T09:00:00Z"});
    let told = test.superadmin().await.post(REPLAY, body).await.expect(200);
    assert_eq!(told, json!({"since": "2040-03-05T09:00:00.000Z", "until": test.now_text()}));
    let workers = test.workers();
    workers.run_queues().await;
    for _ in 0..8 {
        test.clock.advance(Duration::from_secs(60));
        shared::app::clock::tick(&test.app).await.unwrap();
        workers.run_queues().await;
    }
    let mut seen = received(&server).await;
    seen.sort();
    events.sort();
    assert_eq!(seen, events);
    assert_eq!(received(&late_server).await.len(), 1, "it was made after {late}, and is told of nothing before");
}

#[tokio::test]
async fn only_the_operator_replays_the_outbox_and_only_a_time_that_is_kept() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let good = json!({"since": "2040-03-05T09:00:00Z", "until": "2040-03-05T09:00:00Z"});
    assert_eq!(owner.session.post(REPLAY, good.clone()).await.code(403), "forbidden");
    let root = test.superadmin().await;
    let refused = [
        (json!({"since": "2040-03-05T09:00:00Z", "until": "2040-03-05T08:59:59Z"}), "since"),
        (json!({"since": "2040-02-04T08:59:59Z", "until": "2040-03-05T09:00:00Z"}), "since"),
        (json!({"since": "2040-03-05T09:00:00Z"}), "until"),
        (json!({"until": "2040-03-05T09:00:00Z"}), "since"),
    ];
    for (body, field) in refused {
        assert_eq!(root.post(REPLAY, body.clone()).await.expect(422)["field"], field, "{body}");
    }
    assert!(test.queue.take(QueueName::Deliver).is_empty());
    root.post(REPLAY, good).await.expect(200);
    assert_eq!(test.queue.take(QueueName::Deliver).len(), 16, "one for each shard");
    let audited = test.db_dump().await;
    assert_eq!(audited.of("audit").filter(|entry| entry["action"] == "replay_outbox").count(), 1);
}

#[tokio::test]
async fn an_event_that_does_not_read_holds_back_none_behind_it() {
    let (test, server) = (TestApp::new().await, receiver().await);
    let owner = test.owner().await;
    owner.webhook(&server.uri(), Value::Null).await;
    let workspace = test.db_workspace(&owner).await.id;
    let mut events = Vec::new();
    for name in ["first", "second", "third"] {
        test.clock.advance(Duration::from_secs(1));
        events.push(publish(&owner, name).await);
    }
    let place = Key::new(keys::outbox(test.app.now(), keys::shard_of_int(workspace.int())), events.remove(1));
    let mut unit = Unit::new();
    unit.put(Row::new(place, outbox::ENTITY, &json!({"id": 7})).unwrap());
    test.app.commit(unit).await.unwrap();
    let hour = json!({"since": "2040-03-05T09:00:00Z", "until": "2040-03-05T10:00:00Z"});
    test.superadmin().await.post(REPLAY, hour).await.expect(200);
    test.workers().run_queues().await;
    let mut seen = received(&server).await;
    seen.sort();
    assert_eq!(seen, events);
}
