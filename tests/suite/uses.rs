//! What functions use, seen while they work: no table call, queue, secret or mail that their rows in
//! `shared/src/app/function.rs` lack, and nothing in a row that no work needs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use aws_lambda_events::sqs::SqsEvent;
use serde_json::{Value, json};
use shared::access::Op;
use shared::app::aws::LazyModels;
use shared::app::function::{FUNCTIONS, Function, Use};
use shared::app::{App, Parts};
use shared::domain::Event;
use shared::domain::webhook::DeliveryStatus;
use shared::kernel::{Id, Result, Rng, Secret};
use shared::ports::mail::{Mail, Mailer};
use shared::ports::polar::Polar;
use shared::ports::queue::{DeadLetter, Death, Outgoing, Queue, QueueName};
use shared::ports::secrets::Secrets;
use shared::store::webhook::{self, Outcome, Slot};
use tests::builder::PNG;
use tests::polar::{Callback, Key};
use tests::requests::{Stage, rows, valid};
use tests::{Ledger, Owner, Phones, ScriptedModel, TestApp, phones, polar};
use uuid::Uuid;

use crate::gateway::{self, binary_of, event};

/// What was used.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<BTreeSet<Use>>>);

impl Seen {
    fn add(&self, using: Use) {
        self.0.lock().unwrap().insert(using);
    }
}

struct SeenQueue(Arc<dyn Queue>, Seen);

#[async_trait]
impl Queue for SeenQueue {
    async fn send(&self, queue: QueueName, messages: Vec<Outgoing>) -> Result<()> {
        self.1.add(Use::Send(queue));
        self.0.send(queue, messages).await
    }

    async fn again(&self, queue: QueueName, receipt: &str, wait: Duration) -> Result<()> {
        self.1.add(Use::Consume(queue));
        self.0.again(queue, receipt, wait).await
    }

    async fn bury(&self, queue: QueueName, body: &str, death: Death) -> Result<()> {
        self.1.add(Use::Consume(queue));
        self.0.bury(queue, body, death).await
    }

    async fn dead_letters(&self, queue: QueueName, limit: usize) -> Result<Vec<DeadLetter>> {
        self.1.add(Use::DeadLetters(queue));
        self.0.dead_letters(queue, limit).await
    }

    async fn replay(&self, queue: QueueName, id: Option<&str>) -> Result<usize> {
        self.1.add(Use::DeadLetters(queue));
        self.1.add(Use::Send(queue));
        self.0.replay(queue, id).await
    }

    async fn discard(&self, queue: QueueName, id: &str) -> Result<()> {
        self.1.add(Use::DeadLetters(queue));
        self.0.discard(queue, id).await
    }
}

struct SeenSecrets(Arc<dyn Secrets>, Seen);

#[async_trait]
impl Secrets for SeenSecrets {
    async fn get(&self, name: &str) -> Result<Option<Secret>> {
        self.1.add(Use::Secret);
        self.0.get(name).await
    }
}

struct SeenMailer(Arc<dyn Mailer>, Seen);

#[async_trait]
impl Mailer for SeenMailer {
    async fn send(&self, mail: &Mail) -> Result<()> {
        self.1.add(Use::Mail);
        self.0.send(mail).await
    }
}

/// A process of the installation, such as one function, that is watched.
struct Watched {
    app: App,
    seen: Seen,
    row: &'static Function,
}

impl Watched {
    fn new(test: &TestApp, binary: &str) -> Self {
        // Of its own randomness, as processes are: tokens of transactions must not meet.
        static SEEDS: AtomicU64 = AtomicU64::new(1_000);
        let rng = Rng::seeded(SEEDS.fetch_add(1, Ordering::Relaxed));
        let (process, seen) = (test.process(rng), Seen::default());
        let secrets: Arc<dyn Secrets> = Arc::new(SeenSecrets(Arc::clone(&process.secrets), seen.clone()));
        let app = App::new(Parts {
            table: process.table.clone(),
            clock: Arc::clone(&process.clock),
            rng: process.rng.clone(),
            config: process.config.clone(),
            journal: Arc::clone(&process.journal),
            queue: Arc::new(SeenQueue(Arc::clone(&process.queue), seen.clone())),
            mailer: Arc::new(SeenMailer(Arc::clone(&process.mailer), seen.clone())),
            objects: process.objects.clone(),
            llm: Arc::new(LazyModels::new(&process.config, Arc::clone(&secrets), Arc::clone(&process.egress))),
            egress: Arc::clone(&process.egress),
            polar: process.config.polar_base_url.clone().map(Polar::new),
            secrets,
        });
        app.table.meter().record();
        Self { app, seen, row: Function::find(binary).unwrap() }
    }

    /// What it has used.
    fn used(&self) -> BTreeSet<Use> {
        let mut used = self.seen.0.lock().unwrap().clone();
        used.extend(self.app.table.meter().take().iter().map(|call| match call.operation {
            "GetItem" | "BatchGetItem" | "Query" => Use::Read,
            // Whoever only counts changes nothing but rate windows, which is looked at apart.
            "UpdateItem" if self.row.uses.contains(&Use::Count) => Use::Count,
            "PutItem" | "UpdateItem" | "DeleteItem" | "TransactWriteItems" => Use::Write,
            other => panic!("which action of IAM is {other}?"),
        }));
        self.app.table.meter().record();
        used
    }
}

/// Uses by function, added up.
#[derive(Default)]
struct Ledgers(BTreeMap<&'static str, BTreeSet<Use>>);

impl Ledgers {
    /// Adds what a process used for a piece of work, which must be in its row.
    fn note(&mut self, watched: &Watched, work: &str) {
        let used = watched.used();
        let lacks: Vec<_> = used.iter().filter(|using| !watched.row.uses.contains(using)).collect();
        assert!(lacks.is_empty(), "{}: {work} uses {lacks:?}, which its row lacks", watched.row.binary);
        self.0.entry(watched.row.binary).or_default().extend(used);
    }

    /// Whether all work together used all that the rows have.
    fn is_all_of(&self, binaries: impl Fn(&Function) -> bool) {
        for function in FUNCTIONS.iter().filter(|function| binaries(function)) {
            // How answers are given is nothing that is called, and it is Lambda that reads the stream.
            let is_called = |using: &Use| !matches!(using, Use::Stream | Use::Follow);
            let listed: BTreeSet<Use> = function.uses.iter().copied().filter(is_called).collect();
            let used = self.0.get(function.binary).cloned().unwrap_or_default();
            assert_eq!(used, listed, "{}: its row (right) has what no work used (left)", function.binary);
        }
    }
}

fn answers_requests(function: &Function) -> bool {
    function.binary.starts_with("studio-") || function.binary.starts_with("hooks-")
}

/// Calls a row of a watched function by its event.
async fn call(watched: &Watched, op: &Op, path: &str, body: Option<&Value>, bearer: Option<&str>) -> (u16, String) {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(bearer.map(|bearer| ("authorization", bearer)));
    let body = body.map(Value::to_string);
    let event = event(op.method, path, query, &headers, body.as_deref());
    let (status, text) = gateway::invoke(&watched.app, watched.row.binary, &event).await;
    (status.as_u16(), text)
}

#[tokio::test]
async fn a_route_group_uses_what_its_row_lists_and_nothing_else() {
    let (mut stage, mut ledgers) = (Stage::default(), Ledgers::default());
    for op in rows() {
        let scene = stage.scene(op).await;
        let (request, watched) = (valid(op, &scene.things), Watched::new(&scene.test, &binary_of(op)));
        let bearer = scene.right_caller(op).await.authorization();
        let before = scene.test.db_dump().await;
        // The first calls are on credit; those that may only count are called until the table is asked.
        let times = if watched.row.uses.contains(&Use::Count) { 10 } else { 1 };
        for _ in 0..times {
            let (status, text) = call(&watched, op, &request.path, request.body.as_ref(), bearer.as_deref()).await;
            assert_eq!(status, request.status, "{}: {text}", op.id);
        }
        // The bucket is watched by what it gives.
        match op.id {
            "download_file" | "stream_builder" => watched.seen.add(Use::ReadObjects),
            "create_builder_upload" | "delete_builder_upload" => watched.seen.add(Use::Objects),
            _ => {}
        }
        if !watched.row.uses.contains(&Use::Write) {
            let changes = scene.test.db_dump().await.changes_since(&before);
            assert!(changes.is_empty(), "{}: {changes:?}", op.id);
        }
        ledgers.note(&watched, op.id);
    }
    // The operator may ask for any queue.
    let scene = stage.scene(rows()[0]).await;
    let bearer = scene.test.superadmin().await.authorization();
    for op in rows().into_iter().filter(|op| op.id == "replay_dead_letters") {
        for queue in QueueName::ALL {
            let watched = Watched::new(&scene.test, "studio-admin");
            let body = json!({"queue": queue.as_str()});
            let (status, text) = call(&watched, op, op.path, Some(&body), bearer.as_deref()).await;
            if status == 200 {
                ledgers.note(&watched, queue.as_str());
            } else {
                assert_eq!(status, 422, "{}: {text}", queue.as_str());
            }
        }
    }
    note_callback(&mut ledgers).await;
    note_whatsapp_callbacks(&mut ledgers).await;
    ledgers.is_all_of(answers_requests);
}

/// A callback of a provider, whose rows are no surface's of ours.
async fn note_callback(ledgers: &mut Ledgers) {
    let test = TestApp::selling(polar::agreeable()).await;
    let owner = test.owner().await;
    let data = TestApp::subscription(&test.customer(&owner).await, "s-1", "p-pro", "active");
    let callback = Callback::new("e-1", "subscription.active", test.app.now(), data);
    let headers = callback.headers(Key::Decoded, test.app.now());
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let watched = Watched::new(&test, "hooks-providers");
    let event = event("POST", "/hooks/polar", "", &headers, Some(&callback.body.to_string()));
    let (status, text) = gateway::invoke(&watched.app, watched.row.binary, &event).await;
    assert_eq!(status, 200, "{text}");
    ledgers.note(&watched, "a callback of Polar's");
}

/// Callbacks about a message, so many that the rate window is asked.
async fn note_whatsapp_callbacks(ledgers: &mut Ledgers) {
    let test = TestApp::new().await;
    let owner = test.owner().await;
    let agent = owner.agent("Soporte").await;
    test.connects_meta(&owner, &agent, "777").await;
    let body = phones::of_meta("777", &[phones::text("wamid.1", "34600111222", test.app.now(), "Hi")], &[]).to_string();
    let signature = format!("sha256={}", phones::signature(phones::SIGNING_SECRET, &body));
    let headers = [("content-type", "application/json"), ("x-hub-signature-256", signature.as_str())];
    let watched = Watched::new(&test, "hooks-whatsapp");
    let before = test.db_dump().await;
    for _ in 0..70 {
        let event = event("POST", "/hooks/whatsapp/meta/777", "", &headers, Some(&body));
        let (status, text) = gateway::invoke(&watched.app, watched.row.binary, &event).await;
        assert_eq!(status, 200, "{text}");
    }
    let changes = test.db_dump().await.changes_since(&before);
    assert!(changes.is_empty(), "it stores nothing: {changes:?}");
    ledgers.note(&watched, "a callback of Meta's");
}

/// A batch of one message as its queue gives it.
fn batch(body: &str, tries: u32) -> SqsEvent {
    let message = json!({
        "messageId": "m1", "receiptHandle": "r1", "body": body,
        "attributes": {"ApproximateReceiveCount": tries.to_string(), "SentTimestamp": "2214550800000"},
        "messageAttributes": {},
    });
    serde_json::from_value(json!({"Records": [message]})).unwrap()
}

/// A visitor asked for a person, and a webhook waits at a receiver that is away: everything that a relay can do.
async fn busy_owner(test: &TestApp, model: &ScriptedModel) -> (Owner, Slot) {
    let owner = test.owner().await;
    // Nobody listens there.
    let (webhook, _) = owner.webhook("http://127.0.0.1:9/in", Value::Null).await;
    let agent = json!({"name": "Soporte", "tools": ["send_whatsapp_handoff"], "publish": true});
    let agent = owner.agent_with(agent).await;
    model.calls("send_whatsapp_handoff", json!({"reason": "wants a refund"}));
    model.says("A person will write to you.");
    test.visitor(&agent).says("I want a person").await;
    let workspace_id = test.db_workspace(&owner).await.id;
    let slot = Slot { workspace_id, webhook_id: Id::from_int(webhook).unwrap(), claim: Uuid::from_u128(7) };
    (owner, slot)
}

/// Notes that the endpoint answers slowly.
async fn is_slow(test: &TestApp, slot: &Slot) {
    let now = test.app.now();
    webhook::take_slot(&test.app.table, slot, now, now + Duration::from_secs(60), true).await.unwrap();
    let status = DeliveryStatus::Succeeded;
    let outcome = Outcome { succeeded: true, status, event_at: now, is_slow: true, is_first_after_quiet: false };
    webhook::end_slot(&test.app.table, slot, &outcome, now).await.unwrap();
}

#[tokio::test]
async fn relay_and_projector_use_what_their_rows_list_and_nothing_else() {
    let model = ScriptedModel::new();
    let test = TestApp::with_model(model.clone()).await;
    busy_owner(&test, &model).await;
    // And a reply leaves for a phone.
    let owner = test.owner().await;
    let agent = owner.agent("Ventas").await;
    test.connects_meta(&owner, &agent, "777").await;
    test.writes("777", "wamid.1", "34600111222", "Hi").await;
    let hands = test.workers();
    hands.run_queues().await;
    test.clock.advance(Duration::from_secs(3));
    hands.run_queues().await;
    let (events, mut ledgers): (Vec<Event>, _) = (test.workers().events().await, Ledgers::default());
    let relay = Watched::new(&test, "relay");
    workers::relay_events(relay.app.clone(), events.clone()).await.unwrap();
    ledgers.note(&relay, "relaying");
    let projector = Watched::new(&test, "projector");
    workers::project_events(projector.app.clone(), events).await.unwrap();
    ledgers.note(&projector, "counting");
    ledgers.is_all_of(|function| ["relay", "projector"].contains(&function.binary));
}

#[tokio::test]
async fn deliverers_use_what_their_rows_list_and_nothing_else() {
    let model = ScriptedModel::new();
    let test = TestApp::with_model(model.clone()).await;
    let (_, slot) = busy_owner(&test, &model).await;
    let mut ledgers = Ledgers::default();
    workers::relay_events(test.app.clone(), test.workers().events().await).await.unwrap();
    let messages = test.queue.take(QueueName::Deliver);
    assert!(messages.len() > 2, "deliveries and a mail");
    // Each is delivered to nobody and retried, or mailed; then its endpoint is a slow one, and it is forwarded.
    for round in ["deliver", "forward"] {
        for message in &messages {
            let deliver = Watched::new(&test, "deliver");
            let answer = workers::deliver(deliver.app.clone(), batch(&message.body, 1)).await.unwrap();
            assert!(answer.batch_item_failures.is_empty());
            ledgers.note(&deliver, round);
        }
        is_slow(&test, &slot).await;
    }
    let forwarded = test.queue.take(QueueName::DeliverSlow);
    let retries = test.queue.take(QueueName::Deliver);
    assert!(!forwarded.is_empty() && !retries.is_empty());
    test.clock.advance(Duration::from_secs(120));
    for message in forwarded.iter().chain(&retries) {
        let slow = Watched::new(&test, "deliver-slow");
        workers::deliver_slow(slow.app.clone(), batch(&message.body, 1)).await.unwrap();
        ledgers.note(&slow, "delivering");
    }
    // An endpoint that wants a pause lets its messages go round.
    let later = test.queue.take(QueueName::Deliver);
    webhook::pause(&test.app.table, &slot, test.app.now() + Duration::from_secs(200)).await.unwrap();
    test.clock.advance(Duration::from_secs(150));
    for message in &later {
        let slow = Watched::new(&test, "deliver-slow");
        workers::deliver_slow(slow.app.clone(), batch(&message.body, 1)).await.unwrap();
        ledgers.note(&slow, "waiting");
    }
    let (deliver, slow) = (Watched::new(&test, "deliver"), Watched::new(&test, "deliver-slow"));
    workers::deliver(deliver.app.clone(), batch("rubbish", 1)).await.unwrap();
    workers::deliver_slow(slow.app.clone(), batch("rubbish", 1)).await.unwrap();
    ledgers.note(&deliver, "burying");
    ledgers.note(&slow, "burying");
    ledgers.is_all_of(|function| ["deliver", "deliver-slow"].contains(&function.binary));
}

#[tokio::test]
async fn the_worker_of_channels_uses_what_its_row_lists_and_nothing_else() {
    let (test, phones) = Phones::with_app(&ScriptedModel::new()).await;
    let (owner, mut ledgers) = (test.owner().await, Ledgers::default());
    let agent = owner.agent("Soporte").await;
    test.connects_meta(&owner, &agent, "777").await;
    phones.keeps("media-1", "image/png", &[0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n']);
    let mut image = phones::text("wamid.1", "34600111222", test.app.now(), "");
    (image["type"], image["image"]) = (json!("image"), json!({"id": "media-1", "mime_type": "image/png"}));
    let body = phones::of_meta("777", &[image], &[phones::status("wamid.out-1", "read")]);
    assert_eq!(test.meta_calls(phones::SIGNING_SECRET, &body).await.expect(200)["taken"], 2);
    let workspace = test.db_workspace(&owner).await.id;
    let mut bodies: Vec<String> = test.queue.take(QueueName::Turn).into_iter().map(|message| message.body).collect();
    bodies.push("rubbish".into());
    while let Some(body) = bodies.pop() {
        let turn = Watched::new(&test, "turn");
        let answer = workers::turn(turn.app.clone(), batch(&body, 1)).await.unwrap();
        assert!(answer.batch_item_failures.is_empty(), "{body}");
        // The bucket is watched by what is in it.
        if !turn.app.objects.list(workspace, 1).await.unwrap().is_empty() {
            turn.seen.add(Use::Objects);
        }
        ledgers.note(&turn, &body);
        bodies.extend(test.queue.take(QueueName::Turn).into_iter().map(|message| message.body));
    }
    assert_eq!(phones.taken().len(), 1);
    ledgers.is_all_of(|function| function.binary == "turn");
}

#[tokio::test]
async fn the_reporters_of_usage_and_the_clock_use_what_their_rows_list_and_nothing_else() {
    let (test, _polar) = Ledger::with_app().await;
    let (owner, mut ledgers) = (test.owner().await, Ledgers::default());
    owner.webhook("http://127.0.0.1:9/in", Value::Null).await;
    let agent = owner.agent("Soporte").await;
    test.visitor(&agent).says("Hello").await;
    test.workers().run().await;
    let batcher = Watched::new(&test, "usage-batch");
    let done = workers::usage_batch(batcher.app.clone(), Value::Null).await.unwrap();
    assert_eq!(done["events"], 1);
    ledgers.note(&batcher, "claiming");
    for body in [test.queue.take(QueueName::UsageReport).remove(0).body, "rubbish".to_owned()] {
        let reporter = Watched::new(&test, "usage-report");
        workers::usage_report(reporter.app.clone(), batch(&body, 1)).await.unwrap();
        ledgers.note(&reporter, &body);
    }
    owner.upload(PNG).await;
    // A conversation is to be closed, a retry is due, and an upload has expired.
    test.clock.advance(Duration::from_secs(25 * 3600));
    let clock = Watched::new(&test, "clock");
    let done = workers::clock(clock.app.clone(), Value::Null).await.unwrap();
    assert!(done["closed"] == 1 && done["queued"].as_u64() > Some(0), "{done}");
    ledgers.note(&clock, "ticking");
    ledgers.is_all_of(|function| ["usage-batch", "usage-report", "clock"].contains(&function.binary));
}
