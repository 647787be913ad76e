//! The workers, driven by hand: the outbox is relayed, queues are worked off, time passes only when a test says so.

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::Duration;

use shared::app::{clock, deliver, projector, relay, usage};
use shared::domain::Event;
use shared::kernel::{Clock, Time};
use shared::ports::queue::{Death, Outgoing, Queue as _, QueueName};
use shared::store;
use shared::store::outbox::Walk;
use uuid::Uuid;

use crate::{START, TestApp};

/// The workers of a test's app.
pub struct Workers<'a> {
    test: &'a TestApp,
    seen: Mutex<HashSet<Uuid>>,
    delayed: Mutex<Vec<(Time, QueueName, Outgoing)>>,
}

impl<'a> Workers<'a> {
    pub(crate) fn new(test: &'a TestApp) -> Self {
        Self { test, seen: Mutex::default(), delayed: Mutex::default() }
    }

    /// Every event of the outbox, in order.
    ///
    /// # Panics
    /// When the table cannot be read.
    pub async fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        for shard in 0..store::keys::SHARDS {
            let mut walk = Walk::new(shard, START, self.test.clock.now());
            while let Some(found) = walk.next(&self.test.app.table).await.expect("readable") {
                events.extend(found);
            }
        }
        events.sort_by_key(|event| event.id);
        events
    }

    /// Relays and counts what is new, and works the queues off, until nothing is left that is due.
    ///
    /// # Panics
    /// When a worker fails.
    pub async fn run(&self) {
        let app = &self.test.app;
        loop {
            let new: Vec<Event> = self.events().await;
            let new: Vec<Event> = {
                let mut seen = self.seen.lock().expect("not poisoned");
                new.into_iter().filter(|event| seen.insert(event.id)).collect()
            };
            relay::fan_out(app, &new).await.expect("the relay works");
            projector::project(app, &new).await.expect("the projector works");
            if self.work_off().await == 0 && new.is_empty() {
                return;
            }
        }
    }

    /// Works the queues off until nothing is left that is due. What is new in the outbox is not looked at, as if no
    /// reader of the stream worked.
    ///
    /// # Panics
    /// When a worker fails.
    pub async fn run_queues(&self) {
        while self.work_off().await > 0 {}
    }

    /// Works off what is due in the queues, and says how much that was.
    async fn work_off(&self) -> usize {
        let now = self.test.clock.now();
        let mut due = Vec::new();
        {
            let mut delayed = self.delayed.lock().expect("not poisoned");
            for queue in QueueName::ALL {
                let taken = self.test.queue.take(*queue).into_iter();
                delayed.extend(taken.map(|message| (now + message.delay, *queue, message)));
            }
            let (ripe, rest) = std::mem::take(&mut *delayed).into_iter().partition(|(at, _, _)| *at <= now);
            due.extend::<Vec<_>>(ripe);
            *delayed = rest;
        }
        for (_, queue, message) in &due {
            self.work(*queue, &message.body).await;
        }
        due.len()
    }

    async fn work(&self, queue: QueueName, body: &str) {
        let app = &self.test.app;
        match queue {
            QueueName::Deliver | QueueName::DeliverSlow => {
                let task = serde_json::from_str(body).expect("a task");
                deliver::run(app, queue, &task).await.expect("a delivery is recorded");
            }
            QueueName::UsageReport => {
                let report = serde_json::from_str(body).expect("a report");
                usage::report(app, &report).await.expect("usage is reported");
            }
            QueueName::Turn => {
                let task = serde_json::from_str(body).expect("a task");
                Box::pin(shared::turn::channel::run(app, &task)).await.expect("the turn's task is done");
            }
        }
    }

    /// Moves the clock, lets it tick, and runs everything that is due then.
    ///
    /// # Panics
    /// When a worker fails.
    pub async fn after(&self, time: Duration) {
        self.test.clock.advance(time);
        clock::tick(&self.test.app).await.expect("the clock ticks");
        self.run().await;
    }
}

impl TestApp {
    /// Gives up a delivery, as its worker would after the last try.
    ///
    /// # Panics
    /// When the queue refuses it.
    pub async fn bury(&self, body: &str, reason: &str) {
        let now = self.app.now();
        let death = Death { reason: reason.into(), tries: 5, sent_at: Some(now), died_at: Some(now) };
        self.queue.bury(QueueName::Deliver, body, death).await.expect("the queue takes it");
    }
}
