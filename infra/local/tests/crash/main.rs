//! Crash test: the real program is loaded and killed (`kill -9`) again and again while it delivers, reports, publishes
//! and chats, and started each time on what it left. In the end everything that clients were told is compared with
//! everything that is stored, delivered and posted.
//!
//! `CHATIA_CRASH_KILLS`, `CHATIA_CRASH_EVENTS` and `CHATIA_CRASH_SEED` make it longer or another one; see
//! `docs/OPERATIONS.md`.

mod clients;
mod compare;
mod http;
mod ledger;
mod moments;
mod receivers;
mod server;
mod stored;

use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;
use shared::domain::Event;
use shared::domain::billing::SubscriptionStatus;
use shared::domain::plan::PlanKey;
use shared::kernel::{Clock as _, Id, Rng, SystemClock, Time};
use tokio::task::JoinSet;

use clients::{Owner, PER_MESSAGE, PER_THREE_EVENTS, Paying, Told, World, set_up};
use compare::{Estate, Wrong};
use http::{Client, Request};
use ledger::Ledger;
use moments::{Moments, killer};
use receivers::Receivers;
use server::Server;
use stored::{Ids, Tables};

/// The senders' time-out.
const WEBHOOK_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a visitor's conversation is, in messages.
const CONVERSATION: usize = 4;
/// Programs of one owner.
const PROGRAMS: usize = 8;
const ADMIN: (&str, &str) = ("root@example.com", "the operator's");

/// How much of everything.
struct Plan {
    seed: u64,
    kills: usize,
    events: usize,
    /// Visitors of each owner.
    visitors: [u32; 3],
    /// Agents that each owner makes, and how often each is published.
    agents: [usize; 3],
    publications: usize,
    keys: usize,
}

impl Plan {
    fn read() -> Self {
        let number = |name: &str, default: usize| {
            std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
        };
        let (kills, events) = (number("CHATIA_CRASH_KILLS", 4), number("CHATIA_CRASH_EVENTS", 160));
        let seed = u64::try_from(number("CHATIA_CRASH_SEED", 20_260_301)).unwrap();
        // A third of the events comes from chats, two a message; the trial has room for few.
        let visitors = u32::try_from(events / 6 / CONVERSATION).unwrap();
        let trial = (visitors / 8).clamp(1, 8);
        let paid = (visitors - trial.min(visitors)).div_ceil(2).max(1);
        let (agents, publications) = (if events < 2_000 { [2, 1, 0] } else { [10, 1, 0] }, (events / 40).clamp(4, 26));
        let keys = (events / 300).clamp(2, 40);
        Self { seed, kills, events, visitors: [paid, paid, trial], agents, publications, keys }
    }

    /// Custom events: the rest.
    fn custom(&self) -> usize {
        let visitors = usize::try_from(self.visitors.iter().sum::<u32>()).unwrap();
        self.events.saturating_sub(visitors * CONVERSATION * 2)
    }

    /// Answers and arrivals that all of it leads to, at least.
    fn work(&self) -> usize {
        let messages = usize::try_from(self.visitors.iter().sum::<u32>()).unwrap() * CONVERSATION;
        let publications = self.agents.iter().sum::<usize>() * self.publications;
        messages * (1 + PER_MESSAGE) + self.custom() / 3 * (3 + PER_THREE_EVENTS) + publications * 2
    }

    /// How long the platform may take to come to rest when all faults have ended.
    fn rest(&self) -> Duration {
        // What finds no place again and again on a slow machine waits for some minutes in the table.
        Duration::from_secs(300 + u64::try_from(self.events / 20).unwrap())
    }
}

fn variables(polar: &str) -> Vec<(&'static str, String)> {
    let retries = ["0.2", "0.5"].into_iter().chain(std::iter::repeat_n("1", 20)).collect::<Vec<_>>().join(",");
    vec![
        ("RUST_LOG", "warn".into()),
        ("CHATIA_ADMIN_EMAIL", ADMIN.0.into()),
        ("CHATIA_ADMIN_PASSWORD", ADMIN.1.into()),
        ("CHATIA_EGRESS_ALLOW", "127.0.0.0/8".into()),
        ("CHATIA_SCHEDULE_SECONDS", "2".into()),
        // Beyond what a batch takes, or it would be given to two workers.
        ("CHATIA_VISIBILITY_SECONDS", "5".into()),
        // The shortest that leaves a waiting caller time to begin a turn of its own.
        ("CHATIA_TURN_SECONDS", "5".into()),
        ("CHATIA_WEBHOOK_RETRY_SECONDS", retries),
        ("CHATIA_WEBHOOK_TIMEOUT_SECONDS", WEBHOOK_TIMEOUT.as_secs_f32().to_string()),
        ("POLAR_BASE_URL", polar.to_owned()),
        ("POLAR_ACCESS_TOKEN", "polar_oat_test".into()),
    ]
}

/// Asks for all usage to be reported now.
fn report(root: &str) -> Request {
    Request::post("/api/admin/billing/report-usage", json!({"force": true})).bearer(root)
}

/// Everything around the platform.
struct Stage {
    plan: Plan,
    rng: Rng,
    moments: Arc<Moments>,
    receivers: Arc<Receivers>,
    ledger: Arc<Ledger>,
    server: Server,
    client: Client,
    root: String,
    owners: Arc<Vec<Owner>>,
    began: Time,
}

impl Stage {
    async fn build(directory: &std::path::Path) -> Self {
        let (plan, moments, began) = (Plan::read(), Arc::new(Moments::default()), SystemClock.now());
        let rng = Rng::seeded(plan.seed);
        let (receivers, at) = Receivers::start(&moments, &rng, WEBHOOK_TIMEOUT).await;
        let (ledger, polar) = Ledger::start(&moments, &rng).await;
        let mut server = Server::new(directory, &rng, variables(&format!("http://{polar}")));
        server.start().await;
        let client = Client { server: server.address, from: Ipv4Addr::LOCALHOST, rng: rng.clone() };
        let who = json!({"email": ADMIN.0, "password": ADMIN.1});
        let root = client.insist(&Request::post("/api/auth/login", who)).await.0;
        let root = root["access_token"].as_str().unwrap().to_owned();
        let mut owners = Vec::new();
        for (number, paying) in [Paying::Agency, Paying::AsTheyGo, Paying::Nothing].into_iter().enumerate() {
            owners.push(set_up(&client, &receivers, &format!("http://{at}"), (number, paying), plan.keys).await);
        }
        let owners = Arc::new(owners);
        let stage = Self { plan, rng, moments, receivers, ledger, server, client, root, owners, began };
        stage.pay().await;
        stage
    }

    /// The tables of the engine as it runs now; the first screen says where.
    async fn tables(&self) -> Tables {
        let screen = self.client.send(&Request::get("/")).await.unwrap().text.replace("&#x2f;", "/");
        let (_, rest) = screen.split_once("--endpoint-url ").expect("the screen tells where the table is");
        Tables::open(rest.split([' ', '<']).next().unwrap(), self.began).await
    }

    async fn pay(&self) {
        let tables = self.tables().await;
        for owner in self.owners.iter() {
            let change = |account: &mut shared::domain::BillingAccount| match owner.paying {
                Paying::Agency => (account.plan, account.status) = (PlanKey::Agency, SubscriptionStatus::Active),
                Paying::AsTheyGo => (account.has_payment_method, account.payg_enabled) = (true, true),
                Paying::Nothing => {}
            };
            tables.db_change_account(tables.ids(owner).await, change).await;
        }
    }

    /// Lets everybody loose. They end when everything they want is done.
    fn load(&self, told: &Arc<Mutex<Told>>) -> JoinSet<()> {
        let (client, rng, moments) = (self.client.clone(), self.rng.clone(), Arc::clone(&self.moments));
        let world = World { client, rng, moments, owners: Arc::clone(&self.owners), told: Arc::clone(told) };
        let mut crowd = JoinSet::new();
        // A few visitors at a time, as in a shop.
        for queue in 0..6 {
            let (world, visitors) = (world.clone(), self.plan.visitors);
            crowd.spawn(async move {
                let everybody = (0..3).flat_map(|owner| (0..visitors[owner]).map(move |number| (owner, number)));
                for (number, (owner, _)) in everybody.enumerate().filter(|(number, _)| number % 6 == queue) {
                    world.clone().visitor(owner, u32::try_from(number).unwrap() + 1, CONVERSATION).await;
                }
            });
        }
        for program in 0..PROGRAMS * 3 {
            let numbers = (0..self.plan.custom()).filter(|number| number % (PROGRAMS * 3) == program).collect();
            crowd.spawn(world.clone().program(program % 3, numbers));
        }
        for owner in 0..3 {
            crowd.spawn(world.clone().builder(owner, self.plan.agents[owner], self.plan.publications));
        }
        crowd
    }

    /// Waits until nothing is under way any more.
    async fn rest(&self, tables: &Tables) {
        let (began, mut forced) = (Instant::now(), Instant::now());
        while let Some(busy) = self.busy(tables).await {
            assert!(began.elapsed() < self.plan.rest(), "no rest: {busy}\n{}", self.server.last_words());
            if forced.elapsed() > Duration::from_secs(3) && tables.is_reporting().await {
                // The claim of a run that died, and a pause after a fault, last longer than a test can wait.
                self.client.insist(&report(&self.root)).await;
                forced = Instant::now();
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    /// What is under way. The cheapest look comes first, since looking keeps the platform from its work.
    async fn busy(&self, tables: &Tables) -> Option<String> {
        if let Some(queue) = tables.queued().await {
            return Some(format!("messages are queued in {queue}"));
        }
        if tables.is_delivering().await {
            return Some("deliveries are due".into());
        }
        if tables.is_reporting().await {
            return Some("usage is not reported".into());
        }
        self.missing(tables).await
    }

    /// What the readers of the outbox have not done yet.
    async fn missing(&self, tables: &Tables) -> Option<String> {
        let events = tables.events().await;
        for owner in self.owners.iter() {
            let ids = tables.ids(owner).await;
            let own: Vec<&Event> = events.iter().filter(|event| event.workspace_id == ids.workspace).collect();
            for hook in &owner.hooks {
                let (wanted, known) = (compare::wanted(&own, hook).len(), tables.deliveries(ids, hook.id).await.len());
                if known < wanted {
                    return Some(format!("{known} of {wanted} deliveries to {}", hook.endpoint));
                }
            }
            let agent = Id::from_int(owner.agent.0).unwrap();
            let counted = tables.counts(ids, &[agent]).await[&agent.int()].replies;
            let is_reply = |event: &&&Event| event.kind == shared::events::catalog::kind::MESSAGE_REPLY;
            let replies = own.iter().filter(is_reply).count();
            if usize::try_from(counted).unwrap() < replies {
                return Some(format!("{counted} of {replies} replies counted"));
            }
        }
        None
    }

    async fn compare(&self, tables: &Tables, told: &Told, (events, until): (&[Event], Time)) -> Wrong {
        let mut wrong = Wrong::default();
        for (number, owner) in self.owners.iter().enumerate() {
            let ids: Ids = tables.ids(owner).await;
            let estate = Estate {
                number,
                owner,
                ids,
                events: events.iter().filter(|event| event.workspace_id == ids.workspace).collect(),
                until,
                threads: tables.threads(ids, Id::from_int(owner.agent.0).unwrap()).await,
                usage: tables.usage(ids).await,
            };
            compare::conversations(&mut wrong, &estate, told);
            compare::counters(&mut wrong, tables, &estate).await;
            compare::events(&mut wrong, tables, &estate, told).await;
            compare::usage(&mut wrong, tables, &estate, &self.ledger).await;
            compare::deliveries(&mut wrong, tables, &estate, &self.receivers).await;
            compare::listed(&mut wrong, &self.client, &estate).await;
        }
        compare::dead_letters(&mut wrong, &self.client, &self.root).await;
        wrong
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_told_is_lost_or_doubled_by_kills() {
    let (directory, began) = (tempfile::tempdir().unwrap(), Instant::now());
    let mut stage = Stage::build(directory.path()).await;
    println!("seed {}, {} kills, {} events", stage.plan.seed, stage.plan.kills, stage.plan.events);
    let told = Arc::new(Mutex::new(Told::default()));
    let mut crowd = stage.load(&told);
    let (kills, rng, moments) = (stage.plan.kills, stage.rng.clone(), Arc::clone(&stage.moments));
    let (client, root, work) = (stage.client.clone(), stage.root.clone(), stage.plan.work());
    // Whether it is answered does not matter: it may be what is killed.
    let ask = async || drop(client.send(&report(&root)).await);
    let killing = killer(&mut stage.server, &moments, &rng, (kills, work), ask);
    let clients = async {
        while let Some(ended) = crowd.join_next().await {
            ended.expect("a client gets what it wants");
        }
    };
    let (by_moment, ()) = tokio::join!(killing, clients);
    stage.receivers.failing.store(false, Ordering::Relaxed);
    stage.ledger.failing.store(false, Ordering::Relaxed);
    let loaded = began.elapsed();

    let tables = stage.tables().await;
    stage.rest(&tables).await;
    let settled = began.elapsed();
    let (until, events) = (SystemClock.now(), tables.events().await);
    let events: Vec<Event> = events.into_iter().filter(|event| Time::of_uuid(event.id) < until).collect();
    let told = std::mem::take(&mut *told.lock().unwrap_or_else(PoisonError::into_inner));
    let wrong = stage.compare(&tables, &told, (&events, until)).await;

    let calls = stage.receivers.calls.lock().unwrap();
    let delivered: std::collections::HashSet<_> = calls.iter().map(|call| (&call.endpoint, &call.event_id)).collect();
    println!("kills       {kills}: {by_moment:?}");
    println!("chats       {} answered", told.heard.len());
    println!("events      {} accepted from programs, {} in all", told.events.len(), events.len());
    println!("agents      {} made, {} publications", told.agents.len(), told.publications.len());
    println!("repeats     {} requests were sent again", told.repeats);
    println!("deliveries  {} in {} attempts, all signed", delivered.len(), calls.len());
    let (ledger, posted) = (stage.ledger.events.lock().unwrap().len(), stage.ledger.posted.load(Ordering::Relaxed));
    println!("usage       {ledger} events in the ledger, {posted} posted");
    let seconds = |duration: Duration| duration.as_secs();
    println!("seconds     {} of load, {} to rest", seconds(loaded), seconds(settled - loaded));
    if let Some(wrong) = wrong.told() {
        panic!("{wrong}\n{}", stage.server.last_words());
    }
}
