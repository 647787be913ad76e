//! What one turn, one delivery and one agent take of the table, of time and of the log, on the embedded engine.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use shared::app::deliver::{self, Task};
use shared::app::{clock, projector, relay, usage};
use shared::domain::Event;
use shared::kernel::work::Work;
use shared::ports::journal::Kind;
use shared::ports::queue::QueueName;
use shared::table::Call;
use tests::bill::{index_writes, stored_bytes};
use tests::{Agent, Dump, Ledger, Owner, ScriptedModel, TestApp};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

const QUESTION: &str = "How long does delivery take?";
/// How many of each are timed, after those whose time does not count.
const TIMED: usize = 60;
const WARM_UP: usize = 10;
/// How many usage events one run finds when a million turns are spread over a month: a run every five minutes.
const REPORTED: u16 = 114;
/// How long the model waits, to see what the table is read for meanwhile.
const WAITED: Duration = Duration::from_millis(4_500);

/// Counts what is written to the log.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<AtomicUsize>);

/// What CloudWatch adds to each entry when it counts what it took in.
const LOG_ENTRY: usize = 26;

impl io::Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.fetch_add(line.len() + LOG_ENTRY, Ordering::Relaxed);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Counts what functions log, in their form and at their level.
    pub(crate) fn begin() -> Self {
        let log = Self::default();
        let writer = log.clone();
        let subscriber =
            tracing_subscriber::fmt().json().with_current_span(false).with_env_filter("info,dynoxide=error");
        subscriber.with_writer(move || writer.clone()).init();
        log
    }

    fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// What something took.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Taken {
    /// Write units as the engine counts them.
    pub(crate) writes: f64,
    /// Index entries that were written in transactions.
    pub(crate) entries: f64,
    /// Read units.
    pub(crate) reads: f64,
    /// What is stored beyond what was, as it is billed.
    pub(crate) stored: f64,
    /// What was logged, as it is billed.
    pub(crate) logged: f64,
    /// How long it took, in seconds.
    pub(crate) seconds: f64,
}

impl Taken {
    /// Write units as AWS counts them: an index entry of a transaction twice. The engine counts it once.
    pub(crate) fn billed_writes(self) -> f64 {
        self.writes + self.entries
    }

    fn plus(self, other: Self) -> Self {
        Self {
            writes: self.writes + other.writes,
            entries: self.entries + other.entries,
            reads: self.reads + other.reads,
            stored: self.stored + other.stored,
            logged: self.logged + other.logged,
            seconds: self.seconds + other.seconds,
        }
    }

    fn shared_by(self, many: u16) -> Self {
        let part = |value: f64| value / f64::from(many);
        Self {
            writes: part(self.writes),
            entries: part(self.entries),
            reads: part(self.reads),
            stored: part(self.stored),
            logged: part(self.logged),
            seconds: part(self.seconds),
        }
    }
}

/// Sees what a work takes of the table and the log; its time is measured apart, since looking costs time.
async fn observe<T>(test: &TestApp, log: &Log, doing: impl Future<Output = T>) -> (Taken, T) {
    let (before, logged, told) = (test.db_dump().await, log.bytes(), test.journal.lines().len());
    test.app.table.meter().record();
    let (work, began) = (Work::new(uuid::Uuid::nil().to_string()), Instant::now());
    let done = work.run(doing).await;
    let seconds = began.elapsed().as_secs_f64();
    let calls = test.app.table.meter().take();
    if test.journal.lines().len() == told {
        // A request is told by the router; what a worker does is told by its binary, which is not here.
        work.note("service", "workers");
        work.note("operation", "usage-report");
        work.note("outcome", "done");
        test.app.journal.write(Kind::Run, test.app.now(), &work);
    }
    let lines: usize = test.journal.lines()[told..].iter().map(|line| line.to_string().len() + LOG_ENTRY).sum();
    let (logged, after) = (log.bytes() - logged + lines, test.db_dump().await);
    let (entries, stored) = written(&before, &after, &calls);
    let (writes, reads) = (calls.iter().map(|call| call.write).sum(), calls.iter().map(|call| call.read).sum());
    (Taken { writes, entries, reads, stored, logged: number(logged), seconds }, done)
}

/// The index entries that were written in transactions between two looks at the table, and by how many bytes it grew.
fn written(before: &Dump, after: &Dump, calls: &[Call]) -> (f64, f64) {
    let (mut entries, mut stored, mut largest) = (0, 0.0, 0);
    let bytes = |item: Option<&Value>| item.map_or((0, 0), stored_bytes);
    for key in after.changes_since(before) {
        let (old, new) = (before.0.get(&key), after.0.get(&key));
        let ((table, index), (table_before, index_before)) = (bytes(new), bytes(old));
        stored += number(table + index) - number(table_before + index_before);
        let moved = index_writes(old, new);
        if moved > 0 {
            (entries, largest) = (entries + moved, largest.max(table).max(table_before));
        }
    }
    // What a plain write costs beyond its item is index entries, if the item is small.
    let plain = calls.iter().filter(|call| call.operation != "TransactWriteItems" && call.write > 1.0);
    let beside: f64 = plain.map(|call| call.write - 1.0).sum();
    if entries == 0 || beside == 0.0 {
        return (number(entries), stored);
    }
    assert!(largest <= 1_024, "a plain write of {largest} bytes: its index entries cannot be told from its own units");
    (number(entries) - beside, stored)
}

#[expect(clippy::cast_precision_loss, reason = "counts and sizes of single requests are far below 2^53")]
fn number(count: usize) -> f64 {
    count as f64
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

/// What a turn takes, and what follows from it.
pub(crate) struct Turn {
    /// The request itself.
    pub(crate) chat: Taken,
    /// Bytes of the answer, head included as far as we write it.
    pub(crate) answer: f64,
    /// How many events it makes.
    pub(crate) events: f64,
    /// All of its events through both readers of the stream, each event by itself.
    pub(crate) relay: Taken,
    pub(crate) projector: Taken,
    /// Its part of a report to Polar.
    pub(crate) report: Taken,
    /// How many messages a usage event's report is: events are claimed by shard, so a run makes several.
    pub(crate) reports: f64,
    /// Read units that a second of the model costs.
    pub(crate) watching: f64,
}

async fn scene(test: &TestApp) -> (Owner, Agent) {
    let owner = test.paying_owner().await;
    let agent = owner.agent("Soporte").await;
    (owner, agent)
}

/// The events that are new since the last look.
async fn news(test: &TestApp, seen: &mut HashSet<uuid::Uuid>) -> Vec<Event> {
    test.workers().events().await.into_iter().filter(|event| seen.insert(event.id)).collect()
}

/// A plain turn: the second message of a conversation.
pub(crate) async fn turn(log: &Log) -> Turn {
    let test = TestApp::new().await;
    let (_, agent) = scene(&test).await;
    let (mut visitor, mut seen) = (test.visitor(&agent), HashSet::new());
    visitor.says("Hello").await;
    news(&test, &mut seen).await;
    let (mut chat, answer) = observe(&test, log, visitor.send(QUESTION)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let events = news(&test, &mut seen).await;
    let (mut relayed, mut projected) = (Taken::default(), Taken::default());
    for event in &events {
        let one = std::slice::from_ref(event);
        let (taken, done) = observe(&test, log, relay::fan_out(&test.app, one)).await;
        done.expect("the relay works");
        relayed = relayed.plus(taken);
        let (taken, done) = observe(&test, log, projector::project(&test.app, one)).await;
        done.expect("the projector works");
        projected = projected.plus(taken);
    }
    let times = times().await;
    (chat.seconds, relayed.seconds, projected.seconds) = times;
    let head: usize = answer.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    let (reported, reports) = report(log).await;
    Turn {
        chat,
        answer: number(answer.text.len() + head),
        events: number(events.len()),
        relay: relayed,
        projector: projected,
        report: reported,
        reports,
        watching: watching(log).await,
    }
}

/// How long a turn takes with a model that answers at once, and its events in the relay and in the projector.
async fn times() -> (f64, f64, f64) {
    let test = TestApp::with_model(ScriptedModel::new()).await;
    let (_, agent) = scene(&test).await;
    let (mut visitor, mut seen) = (test.visitor(&agent), HashSet::new());
    let (mut chat, mut relayed, mut projected) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..WARM_UP + TIMED {
        // A conversation has ten messages.
        if number % 9 == 0 {
            visitor = test.visitor(&agent);
            visitor.says("Hello").await;
        }
        let began = Instant::now();
        visitor.says(QUESTION).await;
        chat.push(began.elapsed().as_secs_f64());
    }
    for turn in news(&test, &mut seen).await.chunks_exact(2) {
        let began = Instant::now();
        for event in turn {
            relay::fan_out(&test.app, std::slice::from_ref(event)).await.expect("the relay works");
        }
        relayed.push(began.elapsed().as_secs_f64());
        let began = Instant::now();
        for event in turn {
            projector::project(&test.app, std::slice::from_ref(event)).await.expect("the projector works");
        }
        projected.push(began.elapsed().as_secs_f64());
    }
    (median(chat.split_off(WARM_UP)), median(relayed), median(projected))
}

/// One usage event's part of claiming and reporting a full message of them.
async fn report(log: &Log) -> (Taken, f64) {
    let (test, ledger) = Ledger::with_app().await;
    let (owner, agent) = scene(&test).await;
    test.db_use(&owner, agent.id, &test.event_ids(usize::from(REPORTED), None)).await;
    let mut messages = 0;
    let work = async {
        // One run claims all of them; a second, should it begin in the first minute of a day.
        for _ in 0..2 {
            usage::batch(&test.app, false).await.expect("usage is claimed");
            for message in test.queue.take(QueueName::UsageReport) {
                messages += 1;
                let report = serde_json::from_str(&message.body).expect("a report");
                usage::report(&test.app, &report).await.expect("usage is reported");
            }
        }
    };
    let (taken, ()) = observe(&test, log, work).await;
    assert_eq!(ledger.len(), usize::from(REPORTED), "all of it is reported");
    (taken.shared_by(REPORTED), number(messages) / f64::from(REPORTED))
}

/// What the table is read for in each second that a model takes.
async fn watching(log: &Log) -> f64 {
    let (model, gate) = ScriptedModel::new().pausing_at(2);
    let test = TestApp::with_model(model).await;
    let (_, agent) = scene(&test).await;
    let mut visitor = test.visitor(&agent);
    visitor.says("Hello").await;
    let work = async {
        let open = async {
            tokio::time::sleep(WAITED).await;
            gate.open();
        };
        tokio::join!(visitor.says(QUESTION), open).0
    };
    let (waited, _) = observe(&test, log, work).await;
    let (plain, _) = observe(&test, log, async { visitor.clone().says(QUESTION).await }).await;
    // The last second is not over.
    (waited.reads - plain.reads) / WAITED.as_secs_f64().floor()
}

/// What a delivery takes.
pub(crate) struct Delivery {
    /// Its worker.
    pub(crate) deliver: Taken,
    /// Bytes that go to the receiver.
    pub(crate) sent: f64,
}

/// The delivery of a reply to a receiver that answers at once.
pub(crate) async fn delivery(log: &Log) -> Delivery {
    let (test, server) = (TestApp::new().await, MockServer::start().await);
    Mock::given(any()).respond_with(ResponseTemplate::new(200)).mount(&server).await;
    let (owner, agent) = scene(&test).await;
    owner.webhook(&server.uri(), json!(["agent.reply.created"])).await;
    let mut visitor = test.visitor(&agent);
    for _ in 0..WARM_UP + TIMED {
        visitor.says(QUESTION).await;
    }
    relay::fan_out(&test.app, &test.workers().events().await).await.expect("the relay works");
    let tasks = test.queue.take(QueueName::Deliver).into_iter().filter_map(|message| {
        // SQS counts a message as one request up to 64 KB.
        assert!(message.body.len() < 64 * 1024, "a message of one request");
        let task: Task = serde_json::from_str(&message.body).expect("a task");
        matches!(task, Task::Deliver { .. }).then_some(task)
    });
    let (mut seconds, mut last) = (Vec::new(), Taken::default());
    for (number, task) in tasks.enumerate() {
        if number == WARM_UP {
            let (taken, done) = observe(&test, log, deliver::run(&test.app, QueueName::Deliver, &task)).await;
            done.expect("it is delivered");
            last = taken;
            continue;
        }
        let began = Instant::now();
        deliver::run(&test.app, QueueName::Deliver, &task).await.expect("it is delivered");
        seconds.push(began.elapsed().as_secs_f64());
    }
    let received = server.received_requests().await.expect("recorded");
    assert!(received.len() > TIMED, "they arrive");
    let of_one = |request: &wiremock::Request| {
        let head: usize = request.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        request.body.len() + head
    };
    last.seconds = median(seconds.split_off(WARM_UP.min(seconds.len() / 2)));
    Delivery { deliver: last, sent: number(received.iter().map(of_one).max().unwrap_or_default()) }
}

/// An item of an agent.
pub(crate) struct Kept {
    /// What it is.
    pub(crate) entity: String,
    pub(crate) items: usize,
    pub(crate) table: usize,
    pub(crate) index: usize,
    /// Whether it goes by itself.
    pub(crate) expires: bool,
}

/// What a published agent that nobody talks to keeps, made through the API.
pub(crate) async fn agent() -> Vec<Kept> {
    let test = TestApp::new().await;
    let owner = test.paying_owner().await;
    let before = test.db_dump().await;
    owner.agent("Soporte").await;
    let after = test.db_dump().await;
    let mut all: Vec<Kept> = Vec::new();
    for key in after.changes_since(&before) {
        let Some(item) = after.0.get(&key).filter(|_| !before.0.contains_key(&key)) else { continue };
        let entity = item["et"].as_str().unwrap_or("counter").to_owned();
        let (expires, (table, index)) = (item.get("ttl").is_some(), stored_bytes(item));
        match all.iter_mut().find(|kept| kept.entity == entity && kept.expires == expires) {
            Some(kept) => {
                kept.items += 1;
                kept.table += table;
                kept.index += index;
            }
            None => all.push(Kept { entity, items: 1, table, index, expires }),
        }
    }
    all
}

/// One run of each schedule when there is nothing to do: the clock, and the claiming of usage.
pub(crate) async fn idle(log: &Log) -> (Taken, Taken) {
    let (test, _ledger) = Ledger::with_app().await;
    drop(clock::tick(&test.app).await);
    let (clock, done) = observe(&test, log, clock::tick(&test.app)).await;
    done.expect("the clock ticks");
    let (batch, done) = observe(&test, log, usage::batch(&test.app, false)).await;
    done.expect("usage is looked for");
    (clock, batch)
}
