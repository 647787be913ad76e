//! What the measured functions stand on: a table of the embedded engine, the installation's secrets, a receiver of
//! webhooks, and events to give them. All of it is in this process, on the loopback network.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use local::engine::Engine;
use serde_json::{Value, json};
use shared::app::{App, Config, Parts, aws, relay};
use shared::domain::plan::PlanKey;
use shared::kernel::{Clock, Id, Keyring, Rng, SystemClock};
use shared::ports::journal::MemoryJournal;
use shared::ports::mail::MemoryMailer;
use shared::ports::objects::Objects;
use shared::ports::queue::{MemoryQueue, QueueName};
use shared::ports::secrets::MemorySecrets;
use shared::store;
use shared::store::outbox::Walk;
use shared::table::Table;
use tests::{Agent, Owner, Persona};

use crate::wire::Connection;

const TABLE: &str = "budgets";
const QUESTION: &str = "How long does delivery take?";

/// An event, and what the answer to it must hold if the function has done its work.
pub(crate) struct Ask {
    pub(crate) event: Value,
    pub(crate) holds: &'static [&'static str],
}

pub(crate) struct Ground {
    app: App,
    engine: Engine,
    queue: Arc<MemoryQueue>,
    router: axum::Router,
    secrets: SocketAddr,
    receiver: SocketAddr,
    received: Arc<AtomicUsize>,
    owners: AtomicU32,
}

/// Whom one start of a function is about. A function that is killed leaves behind, in its account, what the next message
/// or the clock would have tidied up: on one account for all, each start would be slower than the one before.
struct Scene {
    owner: Owner,
    agent: Agent,
}

impl Ground {
    /// Lays it.
    pub(crate) async fn lay() -> io::Result<Self> {
        let engine = Engine::start(None).map_err(io::Error::other)?;
        let (rng, queue) = (Rng::from_system(), Arc::new(MemoryQueue::default()));
        let keyring = Keyring::generate(&rng);
        let app = app(&engine, &rng, &keyring, &queue).await.map_err(io::Error::other)?;
        let received = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&received);
        let receiver = answer_all(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            "{}".to_owned()
        })?;
        let kept = json!({"root_keyring": keyring}).to_string();
        let secret = json!({"ARN": "measured", "Name": "measured", "VersionId": "1", "SecretString": kept}).to_string();
        let secrets = answer_all(move || secret.clone())?;
        let router = shared::http::serve::surface(&app, &studio::SURFACE, studio::SURFACE.groups);
        Ok(Self { app, engine, queue, router, secrets, receiver, received, owners: AtomicU32::new(0) })
    }

    /// An owner on the largest plan with one published agent and one webhook.
    async fn scene(&self) -> io::Result<Scene> {
        let number = self.owners.fetch_add(1, Ordering::Relaxed);
        let anybody = Persona::new(self.router.clone(), fresh_address());
        let owner = Owner::register(anybody, &format!("owner{number}@example.com")).await;
        largest_plan(&self.app, &owner).await.map_err(io::Error::other)?;
        let agent = owner.agent(&format!("Soporte {number}")).await;
        owner.webhook(&format!("http://{}/", self.receiver), json!(["agent.reply.created"])).await;
        Ok(Scene { owner, agent })
    }

    /// The environment of a function, as Lambda and the template give it.
    pub(crate) fn variables(&self) -> Vec<(&'static str, String)> {
        let fixed = [
            ("_HANDLER", "bootstrap"),
            ("AWS_LAMBDA_FUNCTION_NAME", "measured"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
            ("AWS_LAMBDA_LOG_GROUP_NAME", "measured"),
            ("AWS_LAMBDA_LOG_STREAM_NAME", "measured"),
            ("AWS_LAMBDA_HTTP_IGNORE_STAGE_IN_PATH", "true"),
            ("AWS_REGION", "eu-west-1"),
            ("AWS_ACCESS_KEY_ID", "measured"),
            ("AWS_SECRET_ACCESS_KEY", "measured"),
            ("RUST_LOG", "info"),
            ("CHATIA_METRICS_NAMESPACE", "Chatia/measured"),
            ("TABLE_NAME", TABLE),
            ("SECRET_ARN", "measured"),
            ("OBJECTS_BUCKET", "measured"),
            // The receiver is on the loopback network.
            ("CHATIA_EGRESS_ALLOW", "127.0.0.0/8"),
        ];
        let mut variables: Vec<_> = fixed.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        variables.push(("AWS_ENDPOINT_URL_DYNAMODB", self.engine.endpoint()));
        variables.push(("AWS_ENDPOINT_URL_SECRETS_MANAGER", format!("http://{}", self.secrets)));
        variables
    }

    /// How many webhooks have come in.
    pub(crate) fn received(&self) -> usize {
        self.received.load(Ordering::Relaxed)
    }

    /// What a function is asked twice. A visitor's message goes on with a conversation that has one already; a delivery
    /// tells of a reply that was given just now; the others are asked for what they have to read most often.
    pub(crate) async fn asks(&self, function: &str) -> io::Result<Vec<Ask>> {
        let Scene { owner, agent } = self.scene().await?;
        let get = |path: &str| {
            let bearer = format!("Bearer {}", owner.token);
            let ask = || Ask { event: http("GET", path, Some(&bearer), None), holds: &["\"statusCode\":200"] };
            Ok(vec![ask(), ask()])
        };
        match function {
            "studio-chat" => Ok(self.turns(&agent, turn).await),
            "studio-chat-stream" => Ok(self.turns(&agent, streamed_turn).await),
            "studio-agents" => get("/api/agents"),
            "studio-auth" => get("/api/auth/me"),
            "studio-developers" => get("/api/developers/webhooks"),
            "studio-billing" => get("/api/billing/account"),
            "studio-inbox" => get(&format!("/api/clients/me/agents/{}/conversations", agent.id)),
            "studio-site" => get("/health"),
            "deliver" => Ok(vec![self.delivery(&agent).await?, self.delivery(&agent).await?]),
            // The others do little with their sample, but they do start.
            other => {
                let ask = || sample(other).map(|event| Ask { event, holds: &[] });
                Ok(vec![ask()?, ask()?])
            }
        }
    }

    async fn turns(&self, agent: &Agent, turn: fn(&str, &str) -> Ask) -> Vec<Ask> {
        let handle = self.talk(agent).await;
        vec![turn(&agent.slug, &handle), turn(&agent.slug, &handle)]
    }

    /// A visitor's first message, in this process. Gives the handle of the conversation.
    async fn talk(&self, agent: &Agent) -> String {
        let visitor = Persona::new(self.router.clone(), fresh_address());
        let path = format!("/api/public/agents/{}/chat", agent.slug);
        let answer = visitor.post(&path, json!({"message": QUESTION})).await.expect(200);
        answer["conversation_id"].as_str().expect("a handle").to_owned()
    }

    /// A batch with one delivery, of a reply that was given just now.
    async fn delivery(&self, agent: &Agent) -> io::Result<Ask> {
        let since = self.app.now();
        self.talk(agent).await;
        let until = self.app.now();
        let mut events = Vec::new();
        for shard in 0..store::keys::SHARDS {
            let mut walk = Walk::new(shard, since, until);
            while let Some(found) = walk.next(&self.app.table).await.map_err(io::Error::other)? {
                events.extend(found);
            }
        }
        relay::fan_out(&self.app, &events).await.map_err(io::Error::other)?;
        let messages = self.queue.take(QueueName::Deliver);
        let message = messages.into_iter().find(|message| message.body.contains("\"task\":\"deliver\""));
        let message = message.ok_or_else(|| io::Error::other("a reply makes no delivery"))?;
        let mut event = sample("deliver")?;
        let mut record = event["Records"][0].take();
        record["body"] = json!(message.body);
        event["Records"] = json!([record]);
        Ok(Ask { event, holds: &["\"batchItemFailures\":[]"] })
    }
}

async fn app(engine: &Engine, rng: &Rng, keyring: &str, queue: &Arc<MemoryQueue>) -> shared::kernel::Result<App> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let shape = local::template::table_shape()?;
    let table = Table::open(engine.client(), TABLE, &shape, rng.clone(), Arc::clone(&clock)).await?;
    let config = Config::read(|name| (name == "CHATIA_EGRESS_ALLOW").then(|| "127.0.0.0/8".to_owned()))?;
    let secrets: Arc<MemorySecrets> = Arc::new([("root_keyring", keyring)].into_iter().collect());
    let egress = aws::egress(&config);
    Ok(App::new(Parts {
        llm: Arc::new(aws::LazyModels::new(&config, Arc::clone(&secrets) as _, Arc::clone(&egress))),
        queue: Arc::clone(queue) as _,
        journal: Arc::new(MemoryJournal::default()),
        mailer: Arc::new(MemoryMailer::default()),
        objects: Objects::memory(),
        polar: None,
        rng: rng.clone(),
        table,
        clock,
        egress,
        secrets,
        config,
    }))
}

async fn largest_plan(app: &App, owner: &Owner) -> shared::kernel::Result<()> {
    let user = store::user::get(&app.table, Id::from_int(owner.user_id).expect("an id")).await?.expect("the owner");
    let mut account = store::billing::get(&app.table, user.billing_account_id).await?;
    account.plan = PlanKey::Agency;
    store::billing::overwrite(&app.table, &account).await
}

/// A server that has one thing to say, whatever it is asked.
fn answer_all(say: impl Fn() -> String + Send + Sync + 'static) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let (address, say) = (listener.local_addr()?, Arc::new(say));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let say = Arc::clone(&say);
            std::thread::spawn(move || -> io::Result<()> {
                let mut connection = Connection::new(stream)?;
                while connection.request()?.is_some() {
                    connection.answer("200 OK", "", &say())?;
                }
                Ok(())
            });
        }
    });
    Ok(address)
}

/// Visitors are counted by address, so each has one of their own.
fn fresh_address() -> IpAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0x0a00_0001);
    IpAddr::V4(Ipv4Addr::from(NEXT.fetch_add(1, Ordering::Relaxed)))
}

/// The sample event of a function.
fn sample(function: &str) -> io::Result<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../events/{function}.json"));
    let text = std::fs::read_to_string(&path);
    let text = text.map_err(|error| io::Error::other(format!("{} does not open: {error}", path.display())))?;
    serde_json::from_str(&text).map_err(io::Error::other)
}

/// An event of an HTTP API.
fn http(method: &str, path: &str, bearer: Option<&str>, body: Option<&Value>) -> Value {
    let mut event = sample("studio-chat").expect("the sample is in the repository");
    event["rawPath"] = json!(path);
    event["requestContext"]["http"]["method"] = json!(method);
    event["requestContext"]["http"]["path"] = json!(path);
    event["requestContext"]["http"]["sourceIp"] = json!(fresh_address());
    if let Some(bearer) = bearer {
        event["headers"]["authorization"] = json!(bearer);
    }
    if let Some(body) = body {
        event["headers"]["content-type"] = json!("application/json");
        event["body"] = json!(body.to_string());
    }
    event
}

fn turn(slug: &str, handle: &str) -> Ask {
    let body = json!({"message": QUESTION, "conversation_id": handle});
    let event = http("POST", &format!("/api/public/agents/{slug}/chat"), None, Some(&body));
    Ask { event, holds: &["\"statusCode\":200", "conversation_id"] }
}

/// The same over the REST API that streams.
fn streamed_turn(slug: &str, handle: &str) -> Ask {
    let mut event = sample("studio-chat-stream").expect("the sample is in the repository");
    let path = format!("/api/public/agents/{slug}/chat/stream");
    event["requestContext"]["path"] = json!(format!("/v1{path}"));
    event["path"] = json!(path);
    event["pathParameters"]["slug"] = json!(slug);
    event["requestContext"]["identity"]["sourceIp"] = json!(fresh_address());
    event["body"] = json!(json!({"message": QUESTION, "conversation_id": handle}).to_string());
    Ask { event, holds: &["\"statusCode\":200", "event: done"] }
}
