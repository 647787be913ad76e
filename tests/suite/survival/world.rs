//! Several owners and their visitors in a system whose processes die, whose table and queue misbehave and whose
//! receivers fail.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures_util::future::join_all;
use serde_json::{Value, json};
use shared::app::deliver::{self, Task};
use shared::app::usage::{self, Report};
use shared::app::{App, clock, projector, relay};
use shared::domain::Event;
use shared::kernel::Rng;
use shared::ports::queue::QueueName;
use shared::store::keys::SHARDS;
use shared::store::outbox::Walk;
use shared::table::fault::{Faults, Rates};
use tests::{Agent, Broker, Options, Owner, Persona, QueueFaults, START, ScriptedModel, TestApp};
use uuid::Uuid;

use super::outside::Outside;

/// How many owners there are.
pub(super) const USERS: usize = 2;
/// How many conversations each owner's agent has at most.
pub(super) const CONVERSATIONS: usize = 3;

/// Something that somebody does, or that happens.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// Visitors of a conversation say something, so many at once.
    Chat { user: usize, conversation: usize, times: usize },
    /// A visitor's page sends its last message once more.
    Repeat { user: usize, conversation: usize },
    /// The owner takes a conversation over, or hands it back.
    Takeover { user: usize, conversation: usize, paused: bool },
    /// The owner tells the bus of an event.
    Publish { user: usize },
    /// The model fails the next time.
    ModelFails,
    /// The workers of the stream and the queue work for a while.
    Work { messages: usize },
    /// The schedules run.
    Schedules,
    /// Time passes.
    Wait { seconds: u64 },
    /// The process dies at one of its next calls to the table; what it did then was carried out or not.
    Die { after: u32, applied: bool },
}

/// What a visitor's page knows of one conversation.
#[derive(Debug, Clone, Default)]
pub(super) struct Page {
    pub(super) handle: Option<String>,
    /// The messages that were sent, by their ids, and the reply if one was seen.
    pub(super) sent: BTreeMap<String, (String, Option<Value>)>,
    pub(super) last: Option<String>,
}

/// One owner with an agent, a webhook, and visitors.
pub(super) struct User {
    pub(super) owner: Owner,
    pub(super) agent: Agent,
    pub(super) pages: Vec<Page>,
    /// Events of the owner's that were accepted, by their Idempotency-Keys.
    pub(super) published: BTreeMap<String, String>,
}

/// A process: what dies is this.
struct Process {
    app: App,
    router: Router,
    faults: Faults,
}

/// Everything.
pub(super) struct World {
    pub(super) test: TestApp,
    pub(super) outside: Outside,
    pub(super) broker: Arc<Broker>,
    pub(super) users: Vec<User>,
    model: ScriptedModel,
    process: Process,
    rng: Rng,
    rates: Rates,
    next: u64,
    /// What the stream has handed over. A process that dies loses some of it: the same comes again.
    relayed: Vec<Uuid>,
}

impl World {
    pub(super) async fn new(seed: u64, rates: Rates) -> Self {
        let (outside, model) = (Outside::start(seed).await, ScriptedModel::new());
        let variables = vec![
            ("CHATIA_WEBHOOK_RETRY_SECONDS", vec!["1"; 40].join(",")),
            ("CHATIA_WEBHOOK_TIMEOUT_SECONDS", "2".to_owned()),
        ];
        let polar = Some(outside.url().to_owned());
        let llm = Some(Arc::new(model.clone()) as _);
        let test = TestApp::with(Options { llm, polar, variables, ..Options::default() }).await;
        let broker = Arc::new(Broker::new(Arc::clone(&test.clock), Rng::seeded(seed)));
        let mut users = Vec::new();
        for number in 0..USERS {
            let owner = test.paying_owner().await;
            owner.webhook(&format!("{}/hook/{number}", outside.url()), Value::Null).await;
            let agent = owner.agent(&format!("Agent {number}")).await;
            // Every other owner has a model key of their own.
            if number % 2 == 1 {
                let own = json!({"config": {"ai": {"provider": "offline", "api_key": "sk-own"}}});
                owner.session.patch(&format!("/api/agents/{}", agent.id), own).await.expect(200);
            }
            let pages = vec![Page::default(); CONVERSATIONS];
            users.push(User { owner, agent, pages, published: BTreeMap::new() });
        }
        let rng = Rng::seeded(seed);
        let process = process(&test, &broker, &rng, rates);
        let relayed = Vec::new();
        Self { test, outside, broker, users, model, process, rng, rates, next: 0, relayed }
    }

    /// From now on, table and queue misbehave at these rates.
    pub(super) fn misbehave(&mut self, rates: Rates, queue: QueueFaults, outside: u32) {
        self.rates = rates;
        self.process.faults.set(rates);
        self.broker.set(queue);
        self.outside.fails(outside);
    }

    /// Somebody who visits the present process.
    pub(super) fn visitor(&self) -> Persona {
        self.test.anonymous().on(self.process.router.clone())
    }

    /// Does a step. When the process dies on the way, the step ends there and another process takes its place.
    pub(super) async fn step(&mut self, step: &Step) {
        match step {
            Step::ModelFails => self.model.fails(),
            Step::Wait { seconds } => self.test.clock.advance(Duration::from_secs(*seconds)),
            Step::Die { after, applied } => self.process.faults.die_after(*after, *applied),
            Step::Chat { user, conversation, times } => self.chat(*user, *conversation, *times).await,
            Step::Repeat { user, conversation } => self.repeat(*user, *conversation).await,
            Step::Takeover { user, conversation, paused } => self.takeover(*user, *conversation, *paused).await,
            Step::Publish { user } => self.publish(*user).await,
            Step::Work { messages } => self.work(*messages).await,
            Step::Schedules => self.schedules().await,
        }
        if self.process.faults.is_dead() {
            self.process = process(&self.test, &self.broker, &self.rng, self.rates);
        }
    }

    /// Runs what a process does, until it is done or the process dies. Meanwhile time passes, ten times as fast as
    /// outside, so that nobody waits for ever for a turn that died.
    async fn alive<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let passing = async {
            let mut tick = tokio::time::interval(Duration::from_millis(100));
            tick.tick().await;
            loop {
                tick.tick().await;
                self.test.clock.advance(Duration::from_secs(1));
            }
        };
        tokio::select! {
            done = work => Some(done),
            () = self.process.faults.death() => None,
            () = passing => None,
        }
    }

    async fn chat(&mut self, user: usize, conversation: usize, times: usize) {
        let mut sent = Vec::new();
        // A page that has no conversation yet waits for the first answer.
        let times = if self.users[user].pages[conversation].handle.is_none() { 1 } else { times };
        for _ in 0..times {
            self.next += 1;
            let (id, text) = (format!("client-message-{:08}", self.next), format!("message {}", self.next));
            let page = &mut self.users[user].pages[conversation];
            page.sent.insert(id.clone(), (text, None));
            page.last = Some(id.clone());
            sent.push(id);
        }
        self.send(user, conversation, &sent).await;
    }

    async fn repeat(&mut self, user: usize, conversation: usize) {
        if let Some(id) = self.users[user].pages[conversation].last.clone() {
            self.send(user, conversation, &[id]).await;
        }
    }

    /// Sends messages at once, and notes what is answered.
    async fn send(&mut self, user: usize, conversation: usize, ids: &[String]) {
        let page = &self.users[user].pages[conversation];
        let persona = self.visitor();
        let path = format!("/api/public/agents/{}/chat", self.users[user].agent.slug);
        let calls = ids.iter().map(|id| {
            let (text, _) = &page.sent[id];
            let body = json!({"message": text, "conversation_id": page.handle, "client_message_id": id,
                "visitor_id": format!("visitor-{user}-{conversation}")});
            let (persona, path) = (persona.clone(), path.clone());
            async move { (id.clone(), persona.post(&path, body).await) }
        });
        let Some(answers) = self.alive(join_all(calls)).await else { return };
        for (id, answer) in answers {
            let status = answer.status.as_u16();
            if status != 200 {
                assert!(status == 409 || status == 503, "{status}: {}", answer.text);
                continue;
            }
            let body = answer.json();
            let page = &mut self.users[user].pages[conversation];
            page.handle.get_or_insert_with(|| body["conversation_id"].as_str().unwrap().to_owned());
            let seen = &mut page.sent.get_mut(&id).unwrap().1;
            if !body["message_id"].is_null() {
                if let Some(before) = seen {
                    assert_eq!(before["message_id"], body["message_id"], "the same message, the same answer");
                }
                *seen = Some(body);
            }
        }
    }

    async fn takeover(&mut self, user: usize, conversation: usize, paused: bool) {
        let user = &self.users[user];
        let owner = user.owner.session.on(self.process.router.clone());
        let list = format!("/api/clients/me/agents/{}/conversations?limit=100", user.agent.id);
        let work = async {
            let list = owner.get(&list).await;
            let id = list.json()["items"][conversation]["id"].as_u64()?;
            let path = format!("/api/clients/me/agents/{}/conversations/{id}/takeover", user.agent.id);
            Some(owner.post(&path, json!({"paused": paused})).await.status.as_u16())
        };
        let status = self.alive(work).await.flatten();
        assert!(status.is_none_or(|status| status == 200 || status == 503 || status == 409), "{status:?}");
    }

    async fn publish(&mut self, user: usize) {
        self.next += 1;
        let (key, name) = (format!("key-{}", self.next), format!("e{}", self.next));
        let owner = self.users[user].owner.session.on(self.process.router.clone());
        // As a careful program does: the same again under the same key, until it is answered.
        let work = async {
            for _ in 0..3 {
                let headers = [("idempotency-key", key.as_str())];
                let body = json!({"event": name, "data": {"number": 1}});
                let answer = owner.call("POST", "/api/developers/events", &headers, Some(body)).await;
                if answer.status == 201 {
                    return Some(answer.json()["id"].as_str().unwrap().to_owned());
                }
                assert!(answer.status == 503 || answer.status == 409, "{}", answer.text);
            }
            None
        };
        if let Some(Some(id)) = self.alive(work).await {
            self.users[user].published.insert(key, id);
        }
    }

    /// Every event of the outbox, in order, as somebody sees them who meets no faults.
    pub(super) async fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        for shard in 0..SHARDS {
            let mut walk = Walk::new(shard, START, self.test.app.now());
            while let Some(found) = walk.next(&self.test.app.table).await.unwrap() {
                events.extend(found);
            }
        }
        events.sort_by_key(|event| event.id);
        events
    }

    async fn work(&mut self, messages: usize) {
        let new: Vec<Event> =
            self.events().await.into_iter().filter(|event| !self.relayed.contains(&event.id)).collect();
        for batch in new.chunks(7) {
            let app = &self.process.app;
            // A batch whose worker failed comes again, whole.
            let work =
                async { relay::fan_out(app, batch).await.is_ok() && projector::project(app, batch).await.is_ok() };
            if self.alive(work).await == Some(true) {
                self.relayed.extend(batch.iter().map(|event| event.id));
            }
        }
        let held = self.broker.receive(messages);
        let app = &self.process.app;
        let work = join_all(held.iter().map(async |message| {
            let done = match message.queue {
                QueueName::Deliver | QueueName::DeliverSlow => {
                    let task: Task = serde_json::from_str(&message.body).unwrap();
                    deliver::run(app, message.queue, &task).await
                }
                QueueName::UsageReport => {
                    let report: Report = serde_json::from_str(&message.body).unwrap();
                    usage::report(app, &report).await
                }
                QueueName::Turn => {
                    let task: shared::app::whatsapp::Task = serde_json::from_str(&message.body).unwrap();
                    Box::pin(shared::turn::channel::run(app, &task)).await
                }
            };
            done.is_ok().then_some(message.id)
        }));
        // The clock ticks meanwhile, as it does.
        let both = async { tokio::join!(work, clock::tick(app)).0 };
        for id in self.alive(both).await.into_iter().flatten().flatten() {
            self.broker.acknowledge(id);
        }
    }

    async fn schedules(&mut self) {
        let app = &self.process.app;
        let work = async {
            drop(clock::tick(app).await);
            drop(usage::batch(app, false).await);
        };
        self.alive(work).await;
    }

    /// Lets everything come to its end: no more faults, and time enough.
    pub(super) async fn settle(&mut self) {
        self.misbehave(Rates::default(), QueueFaults::default(), 0);
        self.process = process(&self.test, &self.broker, &self.rng, Rates::default());
        // Long enough for leases, claims, retries and the clock's look at what turns hold.
        for _ in 0..10 {
            self.test.clock.advance(Duration::from_secs(400));
            self.schedules().await;
            self.work(1_000).await;
            self.work(1_000).await;
        }
    }
}

fn process(test: &TestApp, broker: &Arc<Broker>, rng: &Rng, rates: Rates) -> Process {
    let seed = u64::from_le_bytes(rng.bytes());
    let faults = Faults::new(Rng::seeded(seed));
    faults.set(rates);
    let app = test.process_with(Rng::seeded(seed ^ 1), &faults, Arc::clone(broker) as _);
    let router = shared::http::serve::surface(&app, &studio::SURFACE, studio::SURFACE.groups);
    Process { app, router, faults }
}
