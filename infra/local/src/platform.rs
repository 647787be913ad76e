//! Putting the platform together, and taking it down.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use shared::app::aws::{LazyModels, egress};
use shared::app::{App, Config, Parts, auth};
use shared::http::serve;
use shared::kernel::{Clock, Code, Error, Result, Rng, Secret, SystemClock};
use shared::ports::journal::TerminalJournal;
use shared::ports::mail::FileMailer;
use shared::ports::objects::Objects;
use shared::ports::polar::Polar;
use shared::ports::secrets::{EnvFirst, FileSecrets, Secrets};
use shared::table::Table;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::data::DataDir;
use crate::demo::{self, Demo};
use crate::engine::Engine;
use crate::first::{Facts, First};
use crate::gateway::{Function, Gateway, TIMEOUT};
use crate::guard::Guard;
use crate::poller::Poller;
use crate::queue::LocalQueue;
use crate::registry::{self, Entry};
use crate::routes::Routes;
use crate::schedules::Schedule;
use crate::stopping::{Stop, Stopping};
use crate::stream::{Outbox, Reader};
use crate::template::{Pace, Source, Template};

/// The table's name on the embedded engine.
pub const TABLE: &str = "chatia";
/// The table of the queues and of the stream's places.
pub const QUEUES: &str = "chatia-queues";
/// How long requests that are under way may take when the platform stops.
const GRACE: Duration = Duration::from_secs(10);
/// Who mail is from, unless `MAIL_FROM` says it.
const FROM: &str = "Chatia <chatia@example.com>";

/// Finds a variable of the environment by its name.
pub type Lookup = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// How to start.
#[derive(Clone)]
pub struct Options {
    /// Where to listen on the loopback; 0 for any free port.
    pub port: u16,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Whether the tables are kept in memory only.
    pub ephemeral: bool,
    /// Whether there is a demo account.
    pub demo: bool,
    /// The environment.
    pub lookup: Lookup,
}

/// A running platform. Dropping it ends everything at once; [`Self::stop`] lets what runs come to an end first.
pub struct Platform {
    /// Where it listens.
    pub address: SocketAddr,
    /// What its functions may reach.
    pub app: App,
    /// The demo, unless there is none.
    pub demo: Option<Demo>,
    /// What the first screen tells.
    pub facts: Facts,
    /// The queues.
    pub queue: Arc<LocalQueue>,
    stop: Stop,
    tasks: JoinSet<()>,
    data: DataDir,
}

impl Platform {
    /// Starts everything. When this returns, requests are answered.
    ///
    /// # Errors
    /// `not_configured` with what to do about it: the port is taken, the data directory cannot be used, a setting is
    /// wrong, the template names what is not there.
    pub async fn start(options: Options) -> Result<Self> {
        let template = Template::of_this_build()?.at(Pace::read(|name| given(&options, name))?);
        let data = DataDir::open(&options.data_dir)?;
        let listener = bind(options.port).await?;
        let address = listener.local_addr().map_err(Error::internal)?;
        let engine = Engine::start(if options.ephemeral { None } else { Some(data.database()?) }.as_deref())?;
        let ground = Ground::lay(&options, &template, &data, &engine, address).await?;
        let Ground { app, queue, places } = ground;
        if let (Some(email), Some(password)) =
            (given(&options, "CHATIA_ADMIN_EMAIL"), given(&options, "CHATIA_ADMIN_PASSWORD"))
        {
            auth::ensure_superadmin(&app, &email, &Secret::new(password)).await?;
        }
        let demo = if options.demo { make_demo(&app, &data, options.ephemeral).await } else { None };
        let facts = facts(&app, &data, &engine);
        let (stop, stopping) = Stop::new();
        let mut machine = Machine { app: app.clone(), queue: Arc::clone(&queue), stopping, tasks: JoinSet::new() };
        let routes = machine.run(template, places).await?;
        let guard = Guard::new(&app.config.public_base_url);
        let gateway = Gateway {
            guard,
            routes,
            first: First::render(&facts, demo.as_ref())?,
            timeout: TIMEOUT,
            objects: app.objects.clone(),
        };
        machine.serve(listener, gateway);
        Ok(Self { address, app, demo, facts, queue, stop, tasks: machine.tasks, data })
    }

    /// Where callers on this machine reach it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where everything is kept.
    #[must_use]
    pub fn data_dir(&self) -> &std::path::Path {
        self.data.path()
    }

    /// Stops accepting requests and messages, and waits up to ten seconds for what runs. Says whether all of it ended.
    pub async fn stop(mut self) -> bool {
        self.stop.now();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        tokio::time::timeout(GRACE, ended).await.is_ok()
    }
}

async fn bind(port: u16) -> Result<TcpListener> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpListener::bind(address).await.map_err(|error| {
        let next = port.checked_add(1).unwrap_or(8000);
        let message = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                format!("Port {port} is in use. Stop the program that uses it, or choose another port: --port {next}")
            }
            _ => format!("Port {port} cannot be used: {error}. Choose another one: --port {next}"),
        };
        Error::with_message(Code::NotConfigured, message)
    })
}

fn given(options: &Options, name: &str) -> Option<String> {
    (options.lookup)(name).filter(|value| !value.trim().is_empty())
}

/// A demo that cannot be made is told and done without: everything else works.
async fn make_demo(app: &App, data: &DataDir, ephemeral: bool) -> Option<Demo> {
    let file = data.demo();
    match demo::ensure(app, (!ephemeral).then_some(file.as_path())).await {
        Ok(demo) => Some(demo),
        Err(error) => {
            tracing::warn!(%error, "there is no demo account");
            None
        }
    }
}

fn facts(app: &App, data: &DataDir, engine: &Engine) -> Facts {
    Facts {
        base_url: app.config.public_base_url.clone(),
        model: format!("{} ({})", app.config.default_model, app.config.default_provider),
        data_dir: data.path().display().to_string(),
        mail_dir: data.mail().display().to_string(),
        polar_configured: app.polar.is_some(),
        table_endpoint: engine.endpoint(),
    }
}

/// What everything stands on.
struct Ground {
    app: App,
    queue: Arc<LocalQueue>,
    /// Where the stream keeps its places.
    places: Table,
}

impl Ground {
    async fn lay(
        options: &Options,
        template: &Template,
        data: &DataDir,
        engine: &Engine,
        address: SocketAddr,
    ) -> Result<Self> {
        let config = Config::read(|name| {
            given(options, name).or_else(|| (name == "PUBLIC_BASE_URL").then(|| format!("http://{address}")))
        })?;
        let (clock, rng): (Arc<dyn Clock>, _) = (Arc::new(SystemClock), Rng::from_system());
        let client = engine.client();
        let open = |name| Table::open(client.clone(), name, &template.table, rng.clone(), Arc::clone(&clock));
        let (table, places) = (open(TABLE).await?, open(QUEUES).await?);
        let queue = LocalQueue::open(places.clone(), Arc::clone(&clock), rng.clone(), &template.queues).await?;
        let queue = Arc::new(queue);
        let lookup = Arc::clone(&options.lookup);
        let kept = FileSecrets::open(&data.secrets(), &rng)?;
        let secrets: Arc<dyn Secrets> = Arc::new(EnvFirst::new(move |name: &str| lookup(name), kept));
        let from = given(options, "MAIL_FROM").unwrap_or_else(|| FROM.into());
        let egress = egress(&config);
        let app = App::new(Parts {
            table,
            queue: Arc::clone(&queue) as _,
            journal: Arc::new(TerminalJournal),
            mailer: Arc::new(FileMailer::new(data.mail(), &from, Arc::clone(&clock))?),
            objects: Objects::directory(&data.objects())?.with_addresses(&rng, Arc::clone(&clock)),
            llm: Arc::new(LazyModels::new(&config, Arc::clone(&secrets), Arc::clone(&egress))),
            polar: config.polar_base_url.clone().map(Polar::new),
            clock,
            rng,
            config,
            secrets,
            egress,
        });
        // Now and not at the first request: a keyring that does not read is told at the start.
        app.keys().await?;
        Ok(Self { app, queue, places })
    }
}

/// Everything that runs.
struct Machine {
    app: App,
    queue: Arc<LocalQueue>,
    stopping: Stopping,
    tasks: JoinSet<()>,
}

impl Machine {
    /// Starts every worker of the template. Gives the routes to the others.
    async fn run(&mut self, template: Template, places: Table) -> Result<Routes<Function>> {
        let (mut routes, mut readers) = (Vec::new(), Vec::new());
        for function in template.functions {
            let binary = function.binary;
            let Some(entry) = registry::find(&binary) else {
                return Err(mismatch(&binary, "no code of that name is in this build"));
            };
            let router = match entry {
                Entry::Http(surface, group) => Some(serve::surface(&self.app, surface, [group])),
                Entry::Reader(_) | Entry::Consumer(_) | Entry::Scheduled(_) => None,
            };
            for source in function.sources {
                match (source, entry) {
                    (Source::Http { method, path, streams }, Entry::Http(_, group)) => {
                        if streams != group.streams {
                            return Err(mismatch(&binary, "one of code and template streams, the other does not"));
                        }
                        let router = router.clone().unwrap_or_default();
                        routes.push((method, path, Function { binary: binary.clone(), router, streams }));
                    }
                    (Source::Stream { batch }, Entry::Reader(work)) => {
                        readers.push(Reader { binary: binary.clone(), batch, timeout: function.timeout, work });
                    }
                    (Source::Queue { queue: name, batch, concurrency }, Entry::Consumer(work)) => {
                        let (app, queue) = (self.app.clone(), Arc::clone(&self.queue));
                        let poller = Poller { app, queue, name, batch, concurrency, timeout: function.timeout, work };
                        self.tasks.spawn(poller.run(self.stopping.clone()));
                    }
                    (Source::Schedule { every }, Entry::Scheduled(work)) => {
                        let (app, binary, timeout) = (self.app.clone(), binary.clone(), function.timeout);
                        let schedule = Schedule { app, binary, every, timeout, work };
                        self.tasks.spawn(schedule.run(self.stopping.clone()));
                    }
                    (source, _) => return Err(mismatch(&binary, &format!("it cannot be fed by {source:?}"))),
                }
            }
        }
        let outbox = Outbox::open(self.app.clone(), places, readers).await?;
        self.tasks.spawn(outbox.run(self.stopping.clone()));
        Ok(Routes::new(routes))
    }

    fn serve(&mut self, listener: TcpListener, gateway: Gateway) {
        let mut stopping = self.stopping.clone();
        let service = gateway.into_router().into_make_service_with_connect_info::<SocketAddr>();
        self.tasks.spawn(async move {
            let serving = axum::serve(listener, service).with_graceful_shutdown(async move { stopping.wait().await });
            if let Err(error) = serving.await {
                tracing::error!(%error, "the gateway stopped");
            }
        });
    }
}

fn mismatch(binary: &str, why: &str) -> Error {
    Error::with_message(Code::NotConfigured, format!("template.yaml: the function with the binary {binary}: {why}"))
}
