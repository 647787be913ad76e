//! Replays to webhooks: one at a time, and nothing twice, whatever becomes of their messages.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use shared::app::App;
use shared::app::deliver::{self, Task};
use shared::kernel::Rng;
use shared::ports::queue::QueueName;
use shared::table::fault::Faults;
use tests::{Broker, Owner, QueueFaults, TestApp};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

const HOUR: Duration = Duration::from_secs(3_600);
/// The moment at which the clock of every test starts.
const START: &str = "2040-03-05T09:00:00Z";

/// An owner with a webhook, and what it received.
struct Bench {
    test: TestApp,
    owner: Owner,
    server: MockServer,
    webhook: String,
    path: String,
}

impl Bench {
    /// So many events happened; each was delivered, or never relayed.
    async fn new(delivered: usize, missed: usize) -> Self {
        let (test, server) = (TestApp::new().await, MockServer::start().await);
        Mock::given(any()).respond_with(ResponseTemplate::new(200)).mount(&server).await;
        let owner = test.owner().await;
        let (webhook, _) = owner.webhook(&server.uri(), Value::Null).await;
        let webhook = format!("/api/developers/webhooks/{webhook}");
        let bench = Self { path: format!("{webhook}/replay"), test, owner, server, webhook };
        bench.publish(delivered).await;
        bench.test.workers().run().await;
        bench.publish(missed).await;
        assert_eq!(bench.received().await, delivered);
        bench
    }

    async fn publish(&self, count: usize) {
        for number in 0..count {
            self.test.clock.advance(Duration::from_secs(5));
            let event = json!({"event": format!("e{number}")});
            self.owner.session.post("/api/developers/events", event).await.expect(201);
        }
    }

    async fn received(&self) -> usize {
        self.server.received_requests().await.unwrap_or_default().len()
    }

    /// How often each event came.
    async fn times(&self) -> Vec<usize> {
        let mut times: HashMap<String, usize> = HashMap::new();
        for request in self.server.received_requests().await.unwrap_or_default() {
            *times.entry(request.headers["webhook-id"].to_str().unwrap().to_owned()).or_default() += 1;
        }
        times.into_values().collect()
    }

    async fn begin(&self, body: Value) -> Value {
        self.owner.session.post(&self.path, body).await.expect(200)
    }

    /// What the last replay says of itself.
    async fn says(&self) -> (String, u64) {
        let replay = self.owner.session.get(&self.path).await.expect(200);
        (replay["status"].as_str().unwrap().to_owned(), replay["queued"].as_u64().unwrap())
    }

    /// The messages of the queue: the steps of replays, and all others.
    fn taken(&self) -> (Vec<Task>, Vec<Task>) {
        let taken = self.test.queue.take(QueueName::Deliver).into_iter();
        let tasks = taken.map(|message| serde_json::from_str(&message.body).unwrap());
        tasks.partition(|task| matches!(task, Task::Replay(_)))
    }

    fn step(&self) -> Task {
        let (mut steps, others) = self.taken();
        assert_eq!((steps.len(), others.len()), (1, 0));
        steps.remove(0)
    }

    async fn run(&self, task: &Task) {
        deliver::run(&self.test.app, QueueName::Deliver, task).await.unwrap();
    }

    /// Works off the queue until nothing is left, without looking for new events.
    async fn work_off(&self) {
        loop {
            let (steps, others) = self.taken();
            if steps.is_empty() && others.is_empty() {
                return;
            }
            for task in steps.iter().chain(&others) {
                self.run(task).await;
            }
        }
    }

    /// Another process, whose queue takes nothing.
    fn without_a_queue(&self) -> App {
        let broker = Broker::new(Arc::clone(&self.test.clock), Rng::seeded(1));
        broker.set(QueueFaults { refused: 100, ..QueueFaults::default() });
        self.test.process_with(Rng::seeded(2), &Faults::new(Rng::seeded(3)), Arc::new(broker))
    }
}

fn everything() -> Value {
    json!({"since": START, "include_delivered": true})
}

#[tokio::test]
async fn a_message_that_comes_twice_does_nothing_twice() {
    let bench = Bench::new(25, 0).await;
    bench.begin(everything()).await;
    let first = bench.step();
    bench.run(&first).await;
    bench.run(&first).await;
    let (steps, attempts) = bench.taken();
    assert_eq!((steps.len(), attempts.len()), (2, 20), "each delivery once; the next message again does no harm");
    assert_eq!(bench.says().await, ("running".into(), 20));
    for task in steps.iter().chain(&attempts).chain([&first]).chain(&steps) {
        bench.run(task).await;
    }
    bench.work_off().await;
    bench.run(&first).await;
    bench.work_off().await;
    assert_eq!(bench.times().await, [2; 25]);
    assert_eq!(bench.says().await, ("done".into(), 25));
}

#[tokio::test]
async fn a_chunk_that_failed_half_way_is_repeated_without_doing_anything_twice() {
    let bench = Bench::new(5, 5).await;
    bench.begin(everything()).await;
    let step = bench.step();
    deliver::run(&bench.without_a_queue(), QueueName::Deliver, &step).await.unwrap_err();
    assert_eq!(bench.says().await, ("running".into(), 0));
    bench.run(&step).await;
    bench.work_off().await;
    assert_eq!(bench.says().await, ("done".into(), 10));
    // What was taken up without a message is found by the clock.
    bench.test.clock.advance(Duration::from_secs(60));
    shared::app::clock::tick(&bench.test.app).await.unwrap();
    bench.work_off().await;
    bench.run(&step).await;
    bench.work_off().await;
    let mut times = bench.times().await;
    times.sort_unstable();
    assert_eq!(times, [1, 1, 1, 1, 1, 2, 2, 2, 2, 2]);
}

#[tokio::test]
async fn a_chunk_that_delivered_and_failed_then_does_not_deliver_again() {
    let bench = Bench::new(0, 20).await;
    bench.begin(everything()).await;
    let step = bench.step();
    // The process ends ever later, at last when the messages of the chunk went out and the replay was not moved on.
    let mut attempts = Vec::new();
    for calls in 0..20 {
        let faults = Faults::new(Rng::seeded(5));
        let app = bench.test.process_with(Rng::seeded(6), &faults, Arc::clone(&bench.test.queue) as _);
        faults.die_after(calls, false);
        tokio::select! {
            () = faults.death() => {}
            _ = deliver::run(&app, QueueName::Deliver, &step) => unreachable!("it dies before it is done"),
        }
        (_, attempts) = bench.taken();
        if !attempts.is_empty() {
            break;
        }
    }
    for task in &attempts {
        bench.run(task).await;
    }
    assert_eq!(bench.received().await, 20);
    bench.run(&step).await;
    bench.work_off().await;
    assert_eq!(bench.times().await, [1; 20]);
    assert_eq!(bench.says().await, ("done".into(), 20));
}

#[tokio::test]
async fn a_crash_before_the_next_message_was_sent_does_not_end_a_replay() {
    let bench = Bench::new(20, 5).await;
    bench.begin(json!({"since": START})).await;
    let step = bench.step();
    // Nothing of the first chunk is missing, so the next message is the first thing that is sent.
    deliver::run(&bench.without_a_queue(), QueueName::Deliver, &step).await.unwrap_err();
    bench.run(&step).await;
    bench.work_off().await;
    assert_eq!(bench.times().await, [1; 25]);
    assert_eq!(bench.says().await, ("done".into(), 5));
}

#[tokio::test]
async fn a_replay_whose_message_was_lost_is_found_by_the_clock() {
    let bench = Bench::new(0, 3).await;
    bench.begin(json!({"since": START})).await;
    bench.step();
    for minutes in [10, 6] {
        bench.test.clock.advance(Duration::from_secs(minutes * 60));
        shared::app::clock::tick(&bench.test.app).await.unwrap();
    }
    bench.work_off().await;
    assert_eq!(bench.says().await, ("done".into(), 3));
    // Done, it is looked after no more.
    bench.test.clock.advance(HOUR);
    shared::app::clock::tick(&bench.test.app).await.unwrap();
    assert_eq!(bench.test.db_dump().await.of("timer").count(), 0);
}

#[tokio::test]
async fn one_replay_to_a_webhook_runs_at_a_time() {
    let bench = Bench::new(25, 0).await;
    let (session, path) = (&bench.owner.session, &bench.path);
    let first = bench.begin(everything()).await;
    let old = bench.step();
    assert_eq!(session.post(path, everything()).await.code(409), "replay_running");
    assert_eq!(session.post(path, json!({"event_ids": [first["id"]]})).await.code(409), "replay_running");
    let (other, _) = bench.owner.webhook(&bench.server.uri(), Value::Null).await;
    session.post(&format!("/api/developers/webhooks/{other}/replay"), everything()).await.expect(200);
    drop(bench.taken());
    // One that stands still for a day is in nobody's way.
    bench.test.clock.advance(25 * HOUR);
    let second = bench.begin(everything()).await;
    assert_ne!(first["id"], second["id"]);
    bench.run(&old).await;
    let next = bench.step();
    bench.run(&next).await;
    bench.work_off().await;
    assert_eq!(bench.says().await, ("done".into(), 25));
    assert_eq!(bench.times().await, [2; 25]);
    bench.begin(everything()).await;
    let audited = bench.test.db_dump().await;
    assert_eq!(audited.of("audit").filter(|entry| entry["action"] == "replay_events").count(), 4);
}

#[tokio::test]
async fn the_same_request_again_is_the_same_replay() {
    let bench = Bench::new(3, 0).await;
    let again = async || {
        let headers = [("idempotency-key", "k")];
        bench.owner.session.call("POST", &bench.path, &headers, Some(everything())).await.expect(200)
    };
    let (first, second) = (again().await, again().await);
    let step = bench.step();
    bench.run(&step).await;
    bench.work_off().await;
    assert_eq!((&again().await, &second), (&first, &first), "also when it is done");
    assert_eq!(bench.taken().0.len(), 0);
    assert_eq!(bench.times().await, [2; 3]);
}

#[tokio::test]
async fn a_replay_that_is_stopped_queues_nothing_more() {
    let bench = Bench::new(0, 45).await;
    bench.begin(json!({"since": START})).await;
    bench.run(&bench.step()).await;
    let stop = async || bench.owner.session.delete(&bench.path).await.status.as_u16();
    assert_eq!((stop().await, stop().await), (204, 204));
    bench.work_off().await;
    assert_eq!((bench.says().await, bench.received().await), (("stopped".into(), 20), 20));
    bench.begin(json!({"since": START})).await;
    bench.work_off().await;
    assert_eq!((bench.says().await, bench.times().await), (("done".into(), 25), vec![1; 45]));
}

#[tokio::test]
async fn a_replay_ends_with_its_webhook() {
    let bench = Bench::new(0, 25).await;
    let session = &bench.owner.session;
    bench.begin(json!({"since": START})).await;
    bench.run(&bench.step()).await;
    session.patch(&bench.webhook, json!({"is_active": false})).await.expect(200);
    bench.work_off().await;
    let replay = session.get(&bench.path).await.expect(200);
    assert_eq!((&replay["status"], &replay["queued"]), (&json!("stopped"), &json!(20)));
    assert!(replay["ended_at"].is_string());
    session.patch(&bench.webhook, json!({"is_active": true})).await.expect(200);
    bench.begin(json!({"since": START})).await;
    assert_eq!(session.delete(&bench.webhook).await.status, 204);
    bench.work_off().await;
    assert_eq!(session.get(&bench.path).await.code(404), "not_found");
    assert_eq!((bench.received().await, bench.test.db_dump().await.of("replay").count()), (0, 0));
}
