//! Deliveries over time: how many at once, for how long, what is kept, and what can be had again.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use shared::app::deliver::{self, Task};
use shared::kernel::{Cursor, Id, Rng};
use shared::ports::queue::QueueName;
use shared::store::keys;
use shared::store::webhook::Slot;
use shared::table::{Index, Query};
use tests::{Owner, TestApp};
use tokio::sync::Semaphore;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

const HOUR: Duration = Duration::from_secs(3_600);

async fn receiver(status: u16) -> MockServer {
    let server = MockServer::start().await;
    answers(&server, ResponseTemplate::new(status)).await;
    server
}

async fn answers(server: &MockServer, answer: ResponseTemplate) {
    server.reset().await;
    Mock::given(any()).respond_with(answer).mount(server).await;
}

async fn received(server: &MockServer) -> Vec<Request> {
    server.received_requests().await.unwrap_or_default()
}

fn header(request: &Request, name: &str) -> String {
    request.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

async fn publish(owner: &Owner, name: &str) -> String {
    let event = owner.session.post("/api/developers/events", json!({"event": name})).await.expect(201);
    event["id"].as_str().unwrap().to_owned()
}

async fn deliveries(owner: &Owner, webhook: u64, query: &str) -> Vec<Value> {
    let list = owner.session.get(&format!("/api/developers/webhooks/{webhook}/deliveries{query}")).await.expect(200);
    list["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn after_a_rotation_both_secrets_sign_for_a_day_and_then_the_new_one_alone() {
    let (test, server) = (TestApp::new().await, receiver(200).await);
    let owner = test.owner().await;
    let (webhook, old) = owner.webhook(&server.uri(), Value::Null).await;
    let path = format!("/api/developers/webhooks/{webhook}/rotate");
    let rotated = owner.session.post(&path, json!({})).await.expect(200);
    let new = rotated["secret"].as_str().unwrap().to_owned();
    assert_ne!(old, new);
    assert_eq!(rotated["secret_prefix"].as_str().unwrap(), &new[..12]);
    assert!(rotated["previous_secret_expires_at"].is_string());
    let workers = test.workers();
    publish(&owner, "first").await;
    workers.run().await;
    workers.after(25 * HOUR).await;
    publish(&owner, "second").await;
    workers.run().await;
    let requests = received(&server).await;
    let signed = |request: &Request, secret: &str| {
        let standard = standardwebhooks::Webhook::new(secret).unwrap();
        let at = header(request, "webhook-timestamp").parse().unwrap();
        standard.sign(&header(request, "webhook-id"), at, &request.body).unwrap()
    };
    let both = format!("{} {}", signed(&requests[0], &new), signed(&requests[0], &old));
    assert_eq!(header(&requests[0], "webhook-signature"), both);
    assert_eq!(header(&requests[0], "x-chatia-signature-previous").len(), 64);
    assert_eq!(header(&requests[1], "webhook-signature"), signed(&requests[1], &new));
    assert_eq!(header(&requests[1], "x-chatia-signature-previous"), "");
    // A secret that leaked ends at once.
    let rotated = owner.session.post(&path, json!({"overlap_hours": 0})).await.expect(200);
    assert_eq!(rotated["previous_secret_expires_at"], Value::Null);
    assert_eq!(owner.session.post(&path, json!({"overlap_hours": 169})).await.status, 422);
}

#[tokio::test]
async fn deliveries_are_found_by_status_event_and_time_and_one_shows_what_was_answered() {
    let (test, server) = (TestApp::new().await, receiver(500).await);
    answers(&server, ResponseTemplate::new(500).set_body_string("x".repeat(5_000))).await;
    let owner = test.owner().await;
    let (webhook, _) = owner.webhook(&server.uri(), Value::Null).await;
    let workers = test.workers();
    publish(&owner, "early").await;
    workers.run().await;
    for wait in [1, 10, 75, 600, 1_800] {
        workers.after(Duration::from_secs(wait * 60)).await;
    }
    answers(&server, ResponseTemplate::new(200)).await;
    let (middle, late) = (test.now_text(), publish(&owner, "late").await);
    workers.run().await;
    let of = async |query: &str| -> Vec<String> {
        let found = deliveries(&owner, webhook, query).await;
        found.iter().map(|delivery| delivery["event"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(of("").await, ["custom.late", "custom.early"]);
    assert_eq!(of("?status=failed").await, ["custom.early"]);
    assert_eq!(of("?status=succeeded").await, ["custom.late"]);
    assert_eq!(of("?status=pending").await, [""; 0]);
    assert_eq!(of("?event=custom.early").await, ["custom.early"]);
    assert_eq!(of(&format!("?since={middle}")).await, ["custom.late"]);
    assert_eq!(of(&format!("?until={middle}&status=failed")).await, ["custom.early"]);
    assert_eq!(of(&format!("?since={middle}&status=failed")).await, [""; 0]);
    let path = format!("/api/developers/webhooks/{webhook}/deliveries");
    assert_eq!(owner.session.get(&format!("{path}?status=lost")).await.status, 422);
    let first = owner.session.get(&format!("{path}?limit=1")).await.expect(200);
    let next = first["next_cursor"].as_str().unwrap();
    let second = owner.session.get(&format!("{path}?limit=1&cursor={next}")).await.expect(200);
    assert_eq!((&second["items"][0]["event"], &second["next_cursor"]), (&json!("custom.early"), &Value::Null));

    let failed = deliveries(&owner, webhook, "?status=failed").await.remove(0);
    assert!(failed["attempts"][0].get("body").is_none(), "lists are short");
    let one = format!("/api/developers/webhooks/deliveries/{}", failed["id"].as_str().unwrap());
    let one = owner.session.get(&one).await.expect(200);
    let attempts = one["attempts"].as_array().unwrap();
    let numbers: Vec<_> = attempts.iter().map(|attempt| attempt["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
    assert!(
        attempts.iter().all(|attempt| attempt["status"] == 500 && attempt["body"].as_str().unwrap().len() == 2_048)
    );
    assert!(attempts.iter().all(|attempt| attempt["error"].as_str().unwrap().contains("500")));
    assert_eq!(one["payload"]["type"], "custom.early");
    assert_ne!(one["event_id"], late);
}

/// A receiver that keeps every call until it is let go, and counts how many it has at once.
async fn slow_receiver() -> (String, Arc<Semaphore>, Arc<Semaphore>, Arc<AtomicUsize>) {
    let (arrived, gate, most) =
        (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let state = (Arc::clone(&arrived), Arc::clone(&gate), Arc::clone(&most), Arc::new(AtomicUsize::new(0)));
    let router = axum::Router::new().fallback(async move || {
        let (arrived, gate, most, now) = state;
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        arrived.add_permits(1);
        gate.acquire().await.unwrap().forget();
        now.fetch_sub(1, Ordering::SeqCst);
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, arrived, gate, most)
}

#[tokio::test]
async fn an_endpoint_has_five_deliveries_under_way_however_many_processes_there_are() {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let (url, arrived, gate, most) = slow_receiver().await;
    owner.webhook(&url, Value::Null).await;
    for number in 0..16 {
        publish(&owner, &format!("e{number}")).await;
    }
    shared::app::relay::fan_out(&test.app, &test.workers().events().await).await.unwrap();
    let tasks = test.queue.take(QueueName::Deliver);
    let processes: Vec<_> = (0..4).map(|seed| test.process(Rng::seeded(100 + seed))).collect();
    let runs = tasks.into_iter().enumerate().map(|(number, message)| {
        let app = processes[number % processes.len()].clone();
        tokio::spawn(async move {
            let task: Task = serde_json::from_str(&message.body).unwrap();
            deliver::run(&app, QueueName::Deliver, &task).await.unwrap();
        })
    });
    let runs: Vec<_> = runs.collect();
    // Five are there; the others come again later, without holding anybody up.
    arrived.acquire_many(5).await.unwrap().forget();
    gate.add_permits(100);
    join_all(runs).await;
    let workers = test.workers();
    for _ in 0..10 {
        workers.after(Duration::from_secs(60)).await;
    }
    assert_eq!(most.load(Ordering::SeqCst), 5);
    let seen = 5 + arrived.available_permits();
    assert_eq!(seen, 16, "each arrived once");
}

#[tokio::test]
async fn a_delivery_that_goes_well_costs_four_writes_and_no_index_entry() {
    let (test, server) = (TestApp::new().await, receiver(200).await);
    let owner = test.owner().await;
    let (webhook, _) = owner.webhook(&server.uri(), json!(["agent.reply.created"])).await;
    let agent = owner.agent("Soporte").await;
    test.visitor(&agent).says("How long does delivery take?").await;
    let (app, events) = (&test.app, test.workers().events().await);
    shared::app::relay::fan_out(app, &events).await.unwrap();
    let mut messages = test.queue.take(QueueName::Deliver).into_iter();
    let task = messages.find_map(|message| match serde_json::from_str(&message.body).unwrap() {
        task @ Task::Deliver { .. } => Some(task),
        _ => None,
    });
    app.table.meter().record();
    deliver::run(app, QueueName::Deliver, &task.unwrap()).await.unwrap();
    let calls = app.table.meter().take();
    let (writes, reads) =
        calls.iter().fold((0.0, 0.0), |(writes, reads), call| (writes + call.write, reads + call.read));
    // Seen with `--nocapture`; docs/PERFORMANCE.md quotes it.
    println!("a delivery of a reply: {} calls, {writes} write units, {reads} read units", calls.len());
    calls.iter().for_each(|call| println!("  {} writes {} reads {}", call.operation, call.write, call.read));
    assert_eq!(received(&server).await.len(), 1);
    let key = keys::deliveries(test.db_workspace(&owner).await.id, Id::from_int(webhook).unwrap());
    let rows = app.table.query(&Query::prefix(Index::Main, key, keys::DELIVERY), 10).await.unwrap().items;
    assert!(rows.len() == 1 && !rows[0].contains_key("gsi1pk") && !rows[0].contains_key("gsi2pk"), "{rows:?}");
    // The endpoint's lane, the delivery with its claim, its outcome, the lane again; the items have up to two kilobytes.
    assert_eq!(calls.iter().filter(|call| call.write > 0.0).count(), 4, "{calls:#?}");
    assert!((4.0..=6.0).contains(&writes), "{writes} units: {calls:#?}");
    assert!(reads <= 3.0, "endpoint, head and message: {calls:#?}");
}

/// An event whose first attempt was under way when its sender stopped.
struct Stopped {
    test: TestApp,
    owner: Owner,
    webhook: u64,
    /// The message that the sender had.
    task: Task,
    arrived: Arc<Semaphore>,
    gate: Arc<Semaphore>,
}

impl Stopped {
    async fn new() -> Self {
        let test = TestApp::new().await;
        let owner = test.owner().await;
        let (url, arrived, gate, _) = slow_receiver().await;
        let (webhook, _) = owner.webhook(&url, Value::Null).await;
        publish(&owner, "once").await;
        shared::app::relay::fan_out(&test.app, &test.workers().events().await).await.unwrap();
        let message = test.queue.take(QueueName::Deliver).remove(0);
        let task: Task = serde_json::from_str(&message.body).unwrap();
        let app = test.process(Rng::seeded(7));
        tokio::select! {
            _ = deliver::run(&app, QueueName::Deliver, &task) => unreachable!("the receiver keeps it"),
            reached = arrived.acquire() => reached.unwrap().forget(),
        }
        Self { test, owner, webhook, task, arrived, gate }
    }

    /// The message comes again.
    async fn again(&self) {
        deliver::run(&self.test.app, QueueName::Deliver, &self.task).await.unwrap();
    }

    /// Lets everything happen that is due by then.
    async fn after(&self, time: Duration) {
        self.test.workers().after(time).await;
    }

    async fn delivery(&self) -> Value {
        let [one] = &deliveries(&self.owner, self.webhook, "").await[..] else { panic!("one") };
        one.clone()
    }
}

#[tokio::test]
async fn a_first_attempt_whose_sender_stopped_is_followed_by_a_second_one_when_its_message_comes_again() {
    let stopped = Stopped::new().await;
    // While the claim of the sender that stopped still counts nothing is sent, and the message goes round.
    stopped.again().await;
    assert_eq!(stopped.arrived.available_permits(), 0);
    let copies = stopped.test.queue.take(QueueName::Deliver);
    assert!(
        copies.len() == 1 && copies[0].delay == Duration::from_secs(61),
        "it waits for the claim's end: {copies:?}"
    );
    let running = stopped.delivery().await;
    assert_eq!((&running["status"], &running["next_attempt_at"]), (&json!("pending"), &Value::Null));
    stopped.gate.add_permits(2);
    stopped.test.clock.advance(copies[0].delay);
    let copy: Task = serde_json::from_str(&copies[0].body).unwrap();
    deliver::run(&stopped.test.app, QueueName::Deliver, &copy).await.unwrap();
    let done = stopped.delivery().await;
    let attempts = done["attempts"].as_array().unwrap();
    assert_eq!((&done["status"], attempts.len()), (&json!("succeeded"), 2), "{done}");
    assert!(attempts[0]["error"].as_str().unwrap().contains("the sender stopped"), "{done}");
    stopped.again().await;
    let left = stopped.test.queue.take(QueueName::Deliver).len();
    assert_eq!((stopped.arrived.available_permits(), left), (1, 0), "it is done");
}

#[tokio::test]
async fn a_first_attempt_whose_sender_stopped_waits_with_the_others_when_its_message_finds_no_place() {
    for claim_has_ended in [true, false] {
        let stopped = Stopped::new().await;
        let app = &stopped.test.app;
        let (workspace, webhook) =
            (stopped.test.db_workspace(&stopped.owner).await.id, Id::from_int(stopped.webhook).unwrap());
        let slot = Slot { workspace_id: workspace, webhook_id: webhook, claim: uuid::Uuid::nil() };
        stopped.test.clock.advance(Duration::from_secs(if claim_has_ended { 90 } else { 1 }));
        // The receiver asks for more time than a queue can wait.
        shared::store::webhook::pause(&app.table, &slot, app.now() + HOUR).await.unwrap();
        stopped.again().await;
        stopped.gate.add_permits(10);
        for _ in 0..6 {
            stopped.after(HOUR / 3).await;
        }
        let done = stopped.delivery().await;
        assert_eq!((&done["status"], done["attempts"].as_array().unwrap().len()), (&json!("succeeded"), 2), "{done}");
    }
}

#[tokio::test]
async fn a_first_attempt_whose_sender_stopped_ends_when_its_endpoint_is_off_and_can_be_had_again() {
    let stopped = Stopped::new().await;
    let path = format!("/api/developers/webhooks/{}", stopped.webhook);
    stopped.owner.session.patch(&path, json!({"is_active": false})).await.expect(200);
    stopped.test.clock.advance(Duration::from_secs(90));
    stopped.again().await;
    let failed = stopped.delivery().await;
    assert_eq!(failed["status"], "failed", "{failed}");
    assert!(failed["reason"].as_str().unwrap().contains("switched off"), "{failed}");
    assert!(failed["attempts"][0]["error"].as_str().unwrap().contains("the sender stopped"), "{failed}");
}

#[tokio::test]
async fn a_first_attempt_whose_sender_stopped_and_whose_message_is_gone_can_be_had_again() {
    for way in ["retry", "replay", "outbox"] {
        let stopped = Stopped::new().await;
        let (app, one) = (&stopped.test.app, stopped.delivery().await);
        let retry = format!("/api/developers/webhooks/deliveries/{}/retry", one["id"].as_str().unwrap());
        stopped.owner.session.post(&retry, json!({})).await.expect(409);
        stopped.test.clock.advance(Duration::from_secs(90));
        stopped.gate.add_permits(10);
        match way {
            "retry" => drop(stopped.owner.session.post(&retry, json!({})).await.expect(200)),
            "replay" => {
                let replay = format!("/api/developers/webhooks/{}/replay", stopped.webhook);
                stopped.owner.session.post(&replay, json!({"event_ids": [one["event_id"]]})).await.expect(200);
            }
            _ => {
                let events = stopped.test.workers().events().await;
                shared::app::relay::fan_out_again(app, &events).await.unwrap();
            }
        }
        stopped.test.workers().run_queues().await;
        let done = stopped.delivery().await;
        assert_eq!(done["status"], "succeeded", "{way}: {done}");
        assert_eq!(stopped.arrived.available_permits(), 1, "{way}");
    }
}

#[tokio::test]
async fn an_endpoint_that_asks_for_a_pause_gets_nothing_else_meanwhile() {
    let (test, server) = (TestApp::new().await, MockServer::start().await);
    answers(&server, ResponseTemplate::new(429).insert_header("retry-after", "600")).await;
    let owner = test.owner().await;
    owner.webhook(&server.uri(), Value::Null).await;
    let workers = test.workers();
    publish(&owner, "first").await;
    workers.run().await;
    answers(&server, ResponseTemplate::new(200)).await;
    publish(&owner, "second").await;
    workers.run().await;
    workers.after(Duration::from_secs(300)).await;
    assert!(received(&server).await.is_empty(), "it asked for ten minutes");
    workers.after(Duration::from_secs(330)).await;
    workers.after(Duration::from_secs(60)).await;
    let mut events: Vec<String> =
        received(&server).await.iter().map(|request| header(request, "x-chatia-event")).collect();
    events.sort();
    assert_eq!(events, ["custom.first", "custom.second"]);
}

#[tokio::test]
async fn an_endpoint_that_fails_for_five_days_is_switched_off_and_its_owner_told_in_time() {
    let (test, server) = (TestApp::new().await, receiver(500).await);
    let owner = test.owner().await;
    let (webhook, _) = owner.webhook(&server.uri(), Value::Null).await;
    let path = format!("/api/developers/webhooks/{webhook}");
    let workers = test.workers();
    for _ in 0..9 {
        publish(&owner, "early").await;
        workers.after(12 * HOUR).await;
    }
    let found = owner.session.get(&path).await.expect(200);
    assert_eq!(found["is_active"], true);
    assert!(found["failing_since"].is_string());
    for _ in 0..3 {
        publish(&owner, "late").await;
        workers.after(12 * HOUR).await;
    }
    let found = owner.session.get(&path).await.expect(200);
    assert_eq!(found["is_active"], false, "{found}");
    assert!(found["disabled_reason"].as_str().unwrap().contains("five days"));
    let subjects: Vec<String> = test.mail.sent().into_iter().map(|mail| mail.subject).collect();
    let failing = subjects.iter().filter(|subject| subject.ends_with("fails")).count();
    let off = subjects.iter().filter(|subject| subject.ends_with("was switched off")).count();
    assert_eq!((failing, off), (3, 1), "{subjects:?}");
    workers.after(40 * HOUR).await;
    assert!(deliveries(&owner, webhook, "?status=pending").await.is_empty(), "what waited is given up");
    let given_up = deliveries(&owner, webhook, "?status=failed").await;
    assert!(given_up[0]["reason"].as_str().unwrap().contains("switched off"));
}

#[tokio::test]
async fn what_an_endpoint_missed_while_it_was_off_is_replayed_in_order_once_it_is_on_again() {
    let (test, server) = (TestApp::new().await, receiver(200).await);
    let owner = test.owner().await;
    let (webhook, _) = owner.webhook(&server.uri(), Value::Null).await;
    let path = format!("/api/developers/webhooks/{webhook}");
    let workers = test.workers();
    let before = publish(&owner, "before").await;
    workers.run().await;
    let off = owner.session.patch(&path, json!({"is_active": false})).await.expect(200);
    let mut missed = Vec::new();
    for number in 0..30 {
        test.clock.advance(Duration::from_secs(60));
        missed.push(publish(&owner, &format!("missed.{number}")).await);
        workers.run().await;
    }
    let since = json!({"since": off["disabled_at"]});
    assert_eq!(owner.session.post(&format!("{path}/replay"), since.clone()).await.code(409), "webhook_disabled");
    assert_eq!(received(&server).await.len(), 1);
    owner.session.patch(&path, json!({"is_active": true})).await.expect(200);
    let begun = owner.session.post(&format!("{path}/replay"), since.clone()).await.expect(200);
    assert_eq!((&begun["status"], &begun["queued"]), (&json!("running"), &json!(0)));
    for _ in 0..3 {
        workers.after(Duration::from_secs(2)).await;
    }
    let done = owner.session.get(&format!("{path}/replay")).await.expect(200);
    assert_eq!((&done["id"], &done["status"], &done["queued"]), (&begun["id"], &json!("done"), &json!(30)));
    let ids: Vec<String> = received(&server).await.iter().map(|request| header(request, "webhook-id")).collect();
    assert_eq!(ids[0], before);
    assert_eq!(ids[1..], missed);
    // Again, nothing is missing; what was taken comes only when it is asked for, with the same bytes.
    owner.session.post(&format!("{path}/replay"), since).await.expect(200);
    workers.after(Duration::from_secs(5)).await;
    workers.after(Duration::from_secs(5)).await;
    assert_eq!(received(&server).await.len(), 31);
    let named = json!({"event_ids": [before, missed[3], missed[3]]});
    owner.session.post(&format!("{path}/replay"), named).await.expect(200);
    workers.run().await;
    assert_eq!(owner.session.get(&format!("{path}/replay")).await.expect(200)["queued"], 2);
    let requests = received(&server).await;
    let bodies: HashMap<String, &Request> =
        requests[..31].iter().map(|request| (header(request, "webhook-id"), request)).collect();
    assert_eq!(requests.len(), 33);
    for again in &requests[31..] {
        let first = bodies[&header(again, "webhook-id")];
        assert_eq!(first.body, again.body);
        assert_eq!((header(first, "x-chatia-attempt"), header(again, "x-chatia-attempt")), ("1".into(), "2".into()));
    }
}

#[tokio::test]
async fn a_replay_reaches_thirty_days_back_and_names_either_events_or_a_time() {
    let (test, server) = (TestApp::new().await, receiver(200).await);
    let (owner, other) = (test.owner().await, test.owner().await);
    let (webhook, _) = owner.webhook(&server.uri(), Value::Null).await;
    let path = format!("/api/developers/webhooks/{webhook}/replay");
    let theirs = publish(&other, "theirs").await;
    test.clock.advance(31 * 24 * HOUR);
    let refused = [
        json!({"since": "2040-03-05T09:00:00Z"}),
        json!({}),
        json!({"since": test.now_text(), "event_ids": [theirs]}),
        json!({"event_ids": vec![theirs.clone(); 51]}),
        json!({"since": "2040-04-05T08:00:00Z", "until": "2040-04-05T07:00:00Z"}),
        json!({"event_ids": ["nonsense"]}),
    ];
    let session = owner.again().await;
    for body in refused {
        assert_eq!(session.post(&path, body.clone()).await.status, 422, "{body}");
    }
    assert_eq!(session.get(&path).await.code(404), "not_found", "there was none yet");
    assert_eq!(session.delete(&path).await.code(404), "not_found");
    session.post(&path, json!({"event_ids": [theirs]})).await.expect(200);
    test.workers().run().await;
    let foreign = session.get(&path).await.expect(200);
    assert_eq!((&foreign["status"], &foreign["queued"]), (&json!("done"), &json!(0)), "another's event is not found");
}

#[tokio::test]
async fn the_events_of_the_last_days_are_listed_to_their_owner() {
    let test = TestApp::new().await;
    let (owner, other) = (test.owner().await, test.owner().await);
    publish(&other, "theirs").await;
    let first = publish(&owner, "first").await;
    owner.agent("Soporte").await;
    let page = owner.session.get("/api/developers/events?limit=2").await.expect(200);
    let next = page["next_cursor"].as_str().unwrap();
    let rest = owner.session.get(&format!("/api/developers/events?limit=2&cursor={next}")).await.expect(200);
    let names = |page: &Value| -> Vec<String> {
        page["items"].as_array().unwrap().iter().map(|event| event["event"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&page), ["agent.published", "agent.created"]);
    assert_eq!((names(&rest), &rest["items"][0]["id"]), (vec!["custom.first".to_owned()], &json!(first)));
}

#[tokio::test]
async fn a_time_that_ends_before_it_begins_is_refused_and_one_that_is_still_to_come_is_empty() {
    let (test, server) = (TestApp::new().await, receiver(200).await);
    let owner = test.owner().await;
    let (webhook, _) = owner.webhook(&server.uri(), Value::Null).await;
    let workers = test.workers();
    for name in ["first", "second"] {
        publish(&owner, name).await;
    }
    workers.run().await;
    for list in ["/api/developers/events".to_owned(), format!("/api/developers/webhooks/{webhook}/deliveries")] {
        let page = owner.session.get(&format!("{list}?limit=1")).await.expect(200);
        let cursor = page["next_cursor"].as_str().unwrap();
        for more in [String::new(), format!("&cursor={cursor}"), "&limit=1".into()] {
            let turned = format!("{list}?since=2040-03-05T10:00:00Z&until=2040-03-05T08:00:00Z{more}");
            let refused = owner.session.get(&turned).await.expect(422);
            assert_eq!(
                (&refused["code"], &refused["field"]),
                (&json!("validation_error"), &json!("since")),
                "{turned}"
            );
            for time in ["since=2040-03-06T09:00:00Z", "until=2039-01-01T00:00:00Z"] {
                let page = owner.session.get(&format!("{list}?{time}{more}")).await.expect(200);
                assert_eq!((&page["items"], &page["next_cursor"]), (&json!([]), &Value::Null), "{list} {time}{more}");
            }
        }
        let moment = format!("{list}?since={0}&until={0}", test.now_text());
        assert_eq!(owner.session.get(&moment).await.expect(200)["items"].as_array().unwrap().len(), 2);
    }
}

#[tokio::test]
async fn a_run_of_keys_that_ends_before_it_begins_holds_nothing() {
    let test = TestApp::new().await;
    let cursor = Cursor { position: "m".into() };
    for index in [Index::Main, Index::Gsi1, Index::Gsi2] {
        for query in [Query::between(index, "p", "z", "a"), Query::between(index, "p", "z", "a").newest_first()] {
            for query in [query.clone(), query.after(Some(&cursor))] {
                let rows = test.app.table.query(&query, 10).await.unwrap();
                assert_eq!((rows.items.len(), rows.more_after), (0, None));
            }
        }
    }
}
