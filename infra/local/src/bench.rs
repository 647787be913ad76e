//! What tests of this crate stand on: an engine in memory, an app on it, a clock that stands.

use std::sync::Arc;

use shared::app::aws::{LazyModels, egress};
use shared::app::{App, Config, Parts};
use shared::kernel::{Clock, ManualClock, Rng, Time};
use shared::ports::journal::TerminalJournal;
use shared::ports::mail::MemoryMailer;
use shared::ports::objects::Objects;
use shared::ports::queue::MemoryQueue;
use shared::ports::secrets::{MemorySecrets, Secrets};
use shared::table::Table;
use shared::table::fault::Faults;

use crate::engine::Engine;
use crate::queue::LocalQueue;
use crate::template::{Template, table_shape};

pub(crate) struct Bench {
    pub(crate) clock: Arc<ManualClock>,
    /// Sends to `sent`.
    pub(crate) app: App,
    pub(crate) sent: Arc<MemoryQueue>,
    /// The table of queues and places.
    pub(crate) places: Table,
    engine: Engine,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        let engine = Engine::start(None).unwrap();
        let shape = table_shape().unwrap();
        // 2040-03-05 09:00 UTC: in the future, since the engine deletes what has expired by the machine's clock.
        let manual = Arc::new(ManualClock::at(Time::from_millis(2_214_550_800_000)));
        let (clock, rng): (Arc<dyn Clock>, _) = (manual.clone(), Rng::from_system());
        let client = engine.client();
        let open = |name| Table::open(client.clone(), name, &shape, rng.clone(), clock.clone());
        let (table, places) = (open("main").await.unwrap(), open("places").await.unwrap());
        let config = Config::read(|_| None).unwrap();
        let secrets: Arc<dyn Secrets> = Arc::new(MemorySecrets::default());
        let (sent, egress) = (Arc::new(MemoryQueue::default()), egress(&config));
        let app = App::new(Parts {
            table,
            clock,
            rng,
            queue: sent.clone(),
            journal: Arc::new(TerminalJournal),
            mailer: Arc::new(MemoryMailer::default()),
            objects: Objects::memory(),
            llm: Arc::new(LazyModels::new(&config, secrets.clone(), egress.clone())),
            polar: None,
            secrets,
            egress,
            config,
        });
        Self { clock: manual, app, sent, places, engine }
    }

    /// The queues as a new start of the platform finds them.
    pub(crate) async fn queues(&self) -> Arc<LocalQueue> {
        self.queues_in(self.places.clone()).await
    }

    /// The same, with faults on the way to their table.
    pub(crate) async fn queues_through(&self, faults: &Faults) -> Arc<LocalQueue> {
        let (client, clock) = (self.engine.client_through(faults), Arc::clone(&self.app.clock));
        self.queues_in(Table::new(client, "places", self.app.rng.clone(), clock)).await
    }

    async fn queues_in(&self, places: Table) -> Arc<LocalQueue> {
        let (template, clock) = (Template::of_this_build().unwrap(), Arc::clone(&self.app.clock));
        Arc::new(LocalQueue::open(places, clock, self.app.rng.clone(), &template.queues).await.unwrap())
    }
}
