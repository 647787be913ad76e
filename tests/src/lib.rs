//! The harness of all tests: an app on a fresh table of one embedded engine, with a clock that stands until it is moved,
//! and personas that call it through the router.

pub mod bill;
mod broker;
pub mod builder;
mod cloud;
mod frames;
mod function;
mod ledger;
mod links;
mod models;
mod past;
mod personas;
pub mod phones;
pub mod polar;
mod promises;
mod provider;
pub mod report;
pub mod requests;
mod workers;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::Router;
use local::engine::Engine;
use shared::app::{App, Config, Parts, aws};
use shared::domain::plan::PlanKey;
use shared::kernel::{Clock, Id, Keyring, ManualClock, Rng, Time};
use shared::ports::journal::MemoryJournal;
use shared::ports::llm::Llm;
use shared::ports::mail::MemoryMailer;
use shared::ports::objects::Objects;
use shared::ports::polar::Polar;
use shared::ports::queue::{MemoryQueue, Queue, QueueName};
use shared::ports::secrets::MemorySecrets;
use shared::store;
use shared::table::Table;
use shared::table::fault::Faults;

pub use broker::{Broker, QueueFaults};
pub use cloud::Cloud;
pub use frames::{Frame, Frames};
pub use function::Function;
pub use ledger::{Ledger, Mood, Sent};
pub use models::{Gate, PausedModel, ScriptedModel, Typing, TypingModel};
pub use past::{Dump, Watch};
pub use personas::{Agent, Answer, Owner, PASSWORD, Persona, Visitor};
pub use phones::Phones;
pub use provider::{Does, FakeProvider, Protocol};
pub use workers::Workers;

/// One engine a process; each test has a table of its own in it.
static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::start(None).expect("the engine starts"));
static TABLES: AtomicU32 = AtomicU32::new(0);

/// Where the clock of every test starts: 2040-03-05, a Monday, at 09:00 UTC. It lies in the future, since the engine
/// deletes what has expired by the machine's clock.
pub const START: Time = Time::from_millis(2_214_550_800_000);

/// An app on a fresh table.
pub struct TestApp {
    /// The app itself, for what no router shows.
    pub app: App,
    /// Its clock.
    pub clock: Arc<ManualClock>,
    /// Its queue.
    pub queue: Arc<MemoryQueue>,
    /// What was told of requests, messages and runs.
    pub journal: Arc<MemoryJournal>,
    /// Its mail.
    pub mail: Arc<MemoryMailer>,
    router: Router,
    table: String,
    owners: AtomicU32,
    root: tokio::sync::Mutex<Option<Persona>>,
    scan: past::Scan,
}

/// What a test may want otherwise.
#[derive(Default)]
pub struct Options {
    /// Another model than the offline one.
    pub llm: Option<Arc<dyn Llm>>,
    /// A stand-in for Polar.
    pub polar: Option<String>,
    /// How long it may take for an answer, if not as long as in production.
    pub polar_timeout: Option<Duration>,
    /// Seed of the randomness; each test has its own unless it says.
    pub seed: Option<u64>,
    /// Environment variables of the installation, as `docs/CONFIGURATION.md` lists them.
    pub variables: Vec<(&'static str, String)>,
}

impl TestApp {
    /// An app with the offline model and no Polar.
    pub async fn new() -> Self {
        Self::with(Options::default()).await
    }

    /// An app with another model.
    pub async fn with_model(llm: impl Llm + 'static) -> Self {
        Self::with(Options { llm: Some(Arc::new(llm)), ..Options::default() }).await
    }

    /// An app as asked.
    ///
    /// # Panics
    /// When the engine refuses the table.
    pub async fn with(options: Options) -> Self {
        let number = TABLES.fetch_add(1, Ordering::Relaxed);
        let rng = Rng::seeded(options.seed.unwrap_or_else(|| u64::from(number) + 1));
        let clock = Arc::new(ManualClock::at(START));
        let standing: Arc<dyn Clock> = Arc::clone(&clock) as Arc<dyn Clock>;
        let shape = local::template::table_shape().expect("the template describes the table");
        let (client, name) = (ENGINE.client(), format!("test-{number}"));
        let table = Table::open(client, &name, &shape, rng.clone(), Arc::clone(&standing)).await;
        let (queue, mail) = (Arc::new(MemoryQueue::default()), Arc::new(MemoryMailer::default()));
        let journal = Arc::new(MemoryJournal::default());
        let config = config(options.polar.as_deref(), &options.variables);
        let secrets = Arc::new(secrets(&rng));
        let egress = aws::egress(&config);
        let offline =
            || Arc::new(aws::LazyModels::new(&config, Arc::clone(&secrets) as _, Arc::clone(&egress))) as Arc<dyn Llm>;
        let app = App::new(Parts {
            table: table.expect("the engine makes the table"),
            llm: options.llm.unwrap_or_else(offline),
            polar: config.polar_base_url.clone().map(Polar::new).map(|polar| match options.polar_timeout {
                Some(timeout) => polar.within(timeout),
                None => polar,
            }),
            queue: Arc::clone(&queue) as _,
            journal: Arc::clone(&journal) as _,
            mailer: Arc::clone(&mail) as _,
            objects: Objects::memory(),
            clock: standing,
            egress,
            secrets,
            rng,
            config,
        });
        let router = shared::http::serve::surface(&app, &studio::SURFACE, studio::SURFACE.groups);
        let scan = past::scan(name.clone());
        Self {
            app,
            clock,
            queue,
            journal,
            mail,
            router,
            table: name,
            owners: AtomicU32::new(0),
            root: tokio::sync::Mutex::default(),
            scan,
        }
    }

    /// Somebody without a credential, at an address of their own.
    #[must_use]
    pub fn anonymous(&self) -> Persona {
        Persona::new(self.router.clone(), fresh_address())
    }

    /// The router with every group, for requests that no persona makes.
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// A visitor of an agent's public chat, at an address of their own.
    #[must_use]
    pub fn visitor(&self, agent: &Agent) -> Visitor {
        Visitor::new(self.anonymous(), agent.slug.clone())
    }

    /// A new owner on the free plan, who is not mailed a link to verify their address: tests count mail.
    ///
    /// # Panics
    /// When the queue is not the test's.
    pub async fn owner(&self) -> Owner {
        let number = self.owners.fetch_add(1, Ordering::Relaxed);
        let owner = Owner::register(self.anonymous(), &format!("owner{number}@example.com")).await;
        let mut waiting = self.queue.take(QueueName::Deliver);
        waiting.retain(|message| !message.body.contains("\"task\":\"verify_email\""));
        self.queue.send(QueueName::Deliver, waiting).await.expect("the queue takes what it had");
        owner
    }

    /// A new owner on a paid plan, set directly.
    pub async fn paying_owner(&self) -> Owner {
        let owner = self.owner().await;
        self.db_set_plan(&owner, PlanKey::Agency).await;
        owner
    }

    /// Sets a plan past the API.
    ///
    /// # Panics
    /// When the account is not there.
    pub async fn db_set_plan(&self, owner: &Owner, plan: PlanKey) {
        let mut account = self.db_account(owner).await;
        account.plan = plan;
        store::billing::overwrite(&self.app.table, &account).await.expect("the account is written");
    }

    /// Reads an owner's billing account past the API.
    ///
    /// # Panics
    /// When it is not there.
    pub async fn db_account(&self, owner: &Owner) -> shared::domain::BillingAccount {
        let user = Id::from_int(owner.user_id).expect("an id");
        let user = store::user::get(&self.app.table, user).await.expect("readable").expect("the user exists");
        store::billing::get(&self.app.table, user.billing_account_id).await.expect("the account exists")
    }

    /// Every usage event of an owner in the month of the clock.
    ///
    /// # Panics
    /// When the table cannot be read.
    pub async fn db_usage(&self, owner: &Owner) -> Vec<shared::domain::usage::UsageEvent> {
        let (account, limit) = (self.db_account(owner).await, shared::kernel::Limit::new(Some(100)).expect("a limit"));
        let (mut events, mut after) = (Vec::new(), None);
        loop {
            let page = store::usage::page(&self.app.table, account.id, self.app.now(), after.as_ref(), limit).await;
            let page = page.expect("readable");
            events.extend(page.items);
            after = page.next;
            if after.is_none() {
                return events;
            }
        }
    }

    /// Another process of the same installation: it shares table, clock, queue, mail and secrets, and remembers nothing
    /// of what this one remembers.
    #[must_use]
    pub fn process(&self, rng: Rng) -> App {
        self.process_with(rng, &Faults::new(Rng::seeded(0)), Arc::clone(&self.queue) as _)
    }

    /// As [`Self::process`], with faults on the way to the table and a queue of its own.
    #[must_use]
    pub fn process_with(&self, rng: Rng, faults: &Faults, queue: Arc<dyn Queue>) -> App {
        let parts = &self.app;
        let client = ENGINE.client_through(faults);
        App::new(Parts {
            table: Table::new(client, &self.table, rng.clone(), Arc::clone(&parts.clock)),
            clock: Arc::clone(&parts.clock),
            rng,
            config: parts.config.clone(),
            secrets: Arc::clone(&parts.secrets),
            queue,
            journal: Arc::clone(&parts.journal),
            mailer: Arc::clone(&parts.mailer),
            objects: parts.objects.clone(),
            llm: Arc::clone(&parts.llm),
            egress: Arc::clone(&parts.egress),
            polar: parts.config.polar_base_url.clone().map(Polar::new),
        })
    }

    /// The same caller, from another address each time.
    #[must_use]
    pub fn elsewhere(&self, persona: &Persona) -> Persona {
        persona.at(fresh_address())
    }

    /// Now, as the API writes it.
    #[must_use]
    pub fn now_text(&self) -> String {
        self.app.now().to_string()
    }

    /// The workers, driven by hand.
    #[must_use]
    pub fn workers(&self) -> Workers<'_> {
        Workers::new(self)
    }
}

fn config(polar: Option<&str>, variables: &[(&str, String)]) -> Config {
    let lookup = |name: &str| match (variables.iter().find(|(known, _)| *known == name), name) {
        (Some((_, value)), _) => Some(value.clone()),
        (None, "CHATIA_EGRESS_ALLOW") => Some("127.0.0.0/8".to_owned()),
        // Nobody listens there: no test asks a provider outside.
        (None, "OPENAI_BASE_URL" | "ANTHROPIC_BASE_URL" | "KAPSO_BASE_URL" | "META_GRAPH_BASE_URL") => {
            Some("http://127.0.0.1:9".to_owned())
        }
        (None, "POLAR_BASE_URL") => polar.map(str::to_owned),
        (None, _) => None,
    };
    Config::read(lookup).expect("a valid configuration")
}

fn secrets(rng: &Rng) -> MemorySecrets {
    let keyring = Keyring::generate(rng);
    let polar = [("polar_access_token", "polar_oat_test"), ("polar_webhook_secret", polar::WEBHOOK_SECRET)];
    [("root_keyring", keyring.as_str())].into_iter().chain(polar).collect()
}

/// Addresses of documentation networks would be refused nowhere: callers may come from anywhere.
fn fresh_address() -> IpAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0x0a00_0001);
    IpAddr::V4(Ipv4Addr::from(NEXT.fetch_add(1, Ordering::Relaxed)))
}
