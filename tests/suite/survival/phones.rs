//! `WhatsApp` in a system whose processes die and whose table and queue misbehave: every message is stored once and
//! answered once, and nothing is sent twice to a phone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures_util::future::join_all;
use serde_json::{Value, json};
use shared::app::whatsapp::Task;
use shared::app::{App, clock, relay};
use shared::domain::Event;
use shared::kernel::Rng;
use shared::ports::queue::QueueName;
use shared::store::keys::SHARDS;
use shared::store::outbox::Walk;
use shared::table::fault::{Faults, Rates};
use tests::phones::{SIGNING_SECRET, of_meta, signature, status, text};
use tests::{Agent, Broker, Owner, Phones, QueueFaults, START, ScriptedModel, TestApp};
use uuid::Uuid;

const NUMBER: &str = "106540352242922";
const PEOPLE: u32 = 3;
const MESSAGES: usize = 25;

struct World {
    test: TestApp,
    phones: Phones,
    model: ScriptedModel,
    owner: Owner,
    agent: Agent,
    broker: Arc<Broker>,
    rng: Rng,
    rates: Rates,
    process: (App, Router, Faults),
    relayed: Vec<Uuid>,
    /// What each phone wrote.
    written: BTreeMap<String, Vec<String>>,
}

impl World {
    async fn new(seed: u64) -> Self {
        let model = ScriptedModel::new();
        let (test, phones) = Phones::with_app(&model).await;
        let owner = test.paying_owner().await;
        let agent = owner.agent("Soporte").await;
        test.connects_meta(&owner, &agent, NUMBER).await;
        let rng = Rng::seeded(seed);
        let broker = Arc::new(Broker::new(Arc::clone(&test.clock), Rng::seeded(seed)));
        let process = process(&test, &broker, &rng, Rates::default());
        let (relayed, written, rates) = (Vec::new(), BTreeMap::new(), Rates::default());
        Self { test, phones, model, owner, agent, broker, rng, rates, process, relayed, written }
    }

    fn misbehave(&mut self, rates: Rates, queue: QueueFaults) {
        self.rates = rates;
        self.broker.set(queue);
        self.process = process(&self.test, &self.broker, &self.rng, rates);
    }

    /// Runs what the process does, until it is done or the process dies; then another takes its place.
    async fn alive<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let clock = Arc::clone(&self.test.clock);
        let passing = async move {
            loop {
                tokio::time::sleep(Duration::from_millis(100)).await;
                clock.advance(Duration::from_secs(1));
            }
        };
        let faults = self.process.2.clone();
        let done = tokio::select! {
            done = work => Some(done),
            () = faults.death() => None,
            () = passing => None,
        };
        if faults.is_dead() {
            self.process = process(&self.test, &self.broker, &self.rng, self.rates);
        }
        done
    }

    /// A provider calls back, again and again until it is heard, and once more for good measure.
    async fn call(&mut self, body: &Value) {
        let body = body.to_string();
        let signed = format!("sha256={}", signature(SIGNING_SECRET, &body));
        let headers = [("content-type", "application/json"), ("x-hub-signature-256", signed.as_str())];
        let mut heard = 0;
        while heard < 1 + self.rng.below(2) {
            let provider = self.test.anonymous().on(self.process.1.clone());
            let answer = self.alive(provider.call_raw("POST", "/hooks/whatsapp/meta/1", &headers, body.clone())).await;
            heard += u32::from(answer.is_some_and(|answer| answer.status == 200));
        }
    }

    async fn write(&mut self, number: usize) {
        let phone = format!("3460000000{}", self.rng.below(PEOPLE));
        let words = format!("message {number}");
        self.written.entry(phone.clone()).or_default().push(words.clone());
        let message = text(&format!("wamid.in-{number}"), &phone, self.test.app.now(), &words);
        self.call(&of_meta(NUMBER, &[message], &[])).await;
    }

    /// The provider tells of what it has taken.
    async fn tell(&mut self) {
        for taken in self.phones.taken() {
            let mut told = status(&taken.id, "delivered");
            told["biz_opaque_callback_data"] = json!(taken.tag());
            self.call(&of_meta(NUMBER, &[], &[told])).await;
        }
    }

    async fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        for shard in 0..SHARDS {
            let mut walk = Walk::new(shard, START, self.test.app.now());
            while let Some(found) = walk.next(&self.test.app.table).await.expect("readable") {
                events.extend(found);
            }
        }
        events
    }

    async fn work(&mut self, most: usize) {
        let all = self.events().await.into_iter();
        let new: Vec<Event> = all.filter(|event| !self.relayed.contains(&event.id)).collect();
        let app = self.process.0.clone();
        if self.alive(async { relay::fan_out(&app, &new).await.is_ok() }).await == Some(true) {
            self.relayed.extend(new.iter().map(|event| event.id));
        }
        let (held, app) = (self.broker.receive(most), self.process.0.clone());
        let work = join_all(held.iter().filter(|message| message.queue == QueueName::Turn).map(async |message| {
            let task: Task = serde_json::from_str(&message.body).expect("a task");
            Box::pin(shared::turn::channel::run(&app, &task)).await.is_ok().then_some(message.id)
        }));
        for id in self.alive(work).await.into_iter().flatten().flatten() {
            self.broker.acknowledge(id);
        }
        // Whatever else is queued is nobody's concern here.
        held.iter()
            .filter(|message| message.queue != QueueName::Turn)
            .for_each(|message| self.broker.acknowledge(message.id));
    }

    async fn settle(&mut self) {
        self.misbehave(Rates::default(), QueueFaults::default());
        for _ in 0..12 {
            self.test.clock.advance(Duration::from_secs(400));
            clock::tick(&self.test.app).await.expect("the clock ticks");
            self.work(1_000).await;
            self.work(1_000).await;
        }
        // What is told of a part sends on the one behind it, of which is told then.
        for _ in 0..3 {
            self.tell().await;
            self.work(1_000).await;
            self.work(1_000).await;
        }
    }

    async fn check(&self, seed: u64) {
        let mut answered = BTreeMap::<u64, usize>::new();
        let list = self.owner.conversations(&self.agent).await;
        assert_eq!(list.len(), self.written.len(), "seed {seed}: one conversation a person");
        for head in list {
            let thread = self.owner.conversation(&self.agent, head["id"].as_u64().expect("an id")).await;
            let messages = thread["messages"].as_array().expect("a list");
            let mut said: Vec<String> = of_role(messages, "user").map(content).collect();
            let mut written = self.written[thread["whatsapp"]["phone"].as_str().expect("a phone")].clone();
            said.sort();
            written.sort();
            assert_eq!(said, written, "seed {seed}: each message is stored once");
            for reply in of_role(messages, "assistant") {
                let delivery = &reply["meta"]["delivery"];
                assert_ne!(delivery["status"], "pending", "seed {seed}: nothing waits for ever: {reply}");
                let lost = delivery["status"] == "failed";
                assert!(!lost || delivery["error"]["code"] == "unknown", "seed {seed}: {reply}");
                for id in reply["meta"]["answers"].as_array().expect("a list") {
                    *answered.entry(id.as_u64().expect("an id")).or_default() += 1;
                }
            }
        }
        let total: usize = self.written.values().map(Vec::len).sum();
        assert_eq!(answered.len(), total, "seed {seed}: each message is answered");
        assert!(answered.values().all(|times| *times == 1), "seed {seed}: and by one reply");
        let taken = self.phones.taken();
        let mut tags: Vec<&str> = taken.iter().map(|taken| taken.tag()).collect();
        tags.sort_unstable();
        tags.dedup();
        assert_eq!(tags.len(), taken.len(), "seed {seed}: nothing goes out twice");
        let dump = self.test.db_dump().await;
        let parts = |message: &Value| message["delivery"]["sent"].as_object().map_or(0, serde_json::Map::len);
        let sent: usize = dump.of("message").map(parts).sum();
        assert_eq!(sent, taken.len(), "seed {seed}: what went out is known to have, and nothing else");
        assert!(self.broker.dead().is_empty(), "seed {seed}: {:?}", self.broker.dead());
    }
}

fn of_role<'a>(messages: &'a [Value], role: &'a str) -> impl Iterator<Item = &'a Value> {
    messages.iter().filter(move |message| message["role"] == role)
}

fn content(message: &Value) -> String {
    message["content"].as_str().expect("a text").to_owned()
}

fn process(test: &TestApp, broker: &Arc<Broker>, rng: &Rng, rates: Rates) -> (App, Router, Faults) {
    let seed = u64::from_le_bytes(rng.bytes());
    let faults = Faults::new(Rng::seeded(seed));
    faults.set(rates);
    let app = test.process_with(Rng::seeded(seed ^ 1), &faults, Arc::clone(broker) as _);
    let router = shared::http::serve::surface(&app, &hooks::SURFACE, hooks::SURFACE.groups);
    (app, router, faults)
}

async fn history(seed: u64) {
    let mut world = World::new(seed).await;
    world.misbehave(Rates::each_percent(3), QueueFaults { refused: 3, lost: 3, doubled: 10, late: 10 });
    for number in 0..MESSAGES {
        world.write(number).await;
        if world.rng.below(4) == 0 {
            world.model.says(&format!("{}\n\n{}", "first ".repeat(600).trim(), "second ".repeat(500).trim()));
        }
        if world.rng.below(8) == 0 {
            world.phones.answers(200, json!("the answer is lost"));
        }
        match world.rng.below(6) {
            0 => world.process.2.die_after(world.rng.below(25), world.rng.below(2) == 0),
            1 => world.tell().await,
            2 => world.test.clock.advance(Duration::from_secs(60)),
            _ => {}
        }
        let most = 1 + world.rng.below(10) as usize;
        world.work(most).await;
        world.test.clock.advance(Duration::from_secs(u64::from(world.rng.below(4))));
    }
    world.settle().await;
    world.check(seed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_of_a_phone_is_stored_and_answered_once_whatever_dies_fails_or_comes_twice() {
    for seed in 0..4 {
        history(seed).await;
    }
}
