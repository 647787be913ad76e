//! The platform as a whole, on a free port: the main job from registration to the bill, and what survives a restart.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use local::{Options, Platform};
use serde_json::{Value, json};
use shared::ports::egress::{Method, managed_client};
use tokio::sync::mpsc;
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

/// Far beyond what anything here takes; only a failure waits so long.
const PATIENCE: Duration = Duration::from_secs(30);

async fn start(data_dir: &Path, ephemeral: bool, demo: bool, variables: &[(&str, &str)]) -> Platform {
    let variables: Vec<(String, String)> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let lookup = move |name: &str| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let data_dir = data_dir.to_owned();
    Platform::start(Options { port: 0, data_dir, ephemeral, demo, lookup: Arc::new(lookup) }).await.unwrap()
}

struct Client {
    base: String,
    token: String,
}

impl Client {
    fn of(platform: &Platform) -> Self {
        Self { base: platform.url(), token: String::new() }
    }

    async fn call(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        let request = managed_client().unwrap().request(method, format!("{}{path}", self.base)).json(&body);
        let request = if self.token.is_empty() { request } else { request.bearer_auth(&self.token) };
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap_or_default())
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.call(Method::POST, path, body).await;
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
        answer
    }

    async fn get(&self, path: &str) -> Value {
        let (status, answer) = self.call(Method::GET, path, json!({})).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }
}

/// A receiver of webhooks: gives each call's event name and body.
async fn receiver() -> (SocketAddr, mpsc::UnboundedReceiver<(String, Value)>) {
    let (sender, calls) = mpsc::unbounded_channel();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(async move |request: Request| {
        let name = request.headers()["x-chatia-event"].to_str().unwrap().to_owned();
        let body = axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap();
        sender.send((name, serde_json::from_slice(&body).unwrap())).unwrap();
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, calls)
}

/// Waits for these events, in any order.
async fn await_events(calls: &mut mpsc::UnboundedReceiver<(String, Value)>, wanted: &[&str]) -> Vec<Value> {
    let mut missing: Vec<&str> = wanted.to_vec();
    let mut bodies = Vec::new();
    while !missing.is_empty() {
        let next = tokio::time::timeout(PATIENCE, calls.recv()).await;
        let (name, body) = next.unwrap_or_else(|_| panic!("{missing:?} did not come")).unwrap();
        missing.retain(|wanted| *wanted != name);
        bodies.push(body);
    }
    bodies
}

/// Asks until the answer is as it should be.
async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, ask: impl Fn() -> F) -> T {
    let asking = async {
        loop {
            if let Some(found) = ask().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("{what}"))
}

async fn polar() -> MockServer {
    let server = MockServer::start().await;
    let taken = ResponseTemplate::new(200).set_body_json(json!({"inserted": 1, "duplicates": 0}));
    Mock::given(method("POST")).and(path("/v1/events/ingest")).respond_with(taken).mount(&server).await;
    server
}

async fn register(platform: &Platform) -> Client {
    let mut client = Client::of(platform);
    let who = json!({"email": "ana@example.com", "password": "correct horse"});
    client.token = client.post("/api/auth/register", who).await["access_token"].as_str().unwrap().to_owned();
    client
}

const PROMPT: &str = "You are Sol.\nQ: When do you open? A: At nine.";

#[tokio::test(flavor = "multi_thread")]
async fn the_main_job_goes_all_the_way() {
    let (directory, polar) = (tempfile::tempdir().unwrap(), polar().await);
    let variables = [
        ("CHATIA_EGRESS_ALLOW", "127.0.0.0/8"),
        ("POLAR_BASE_URL", &polar.uri()),
        ("POLAR_ACCESS_TOKEN", "polar_token"),
        ("CHATIA_ADMIN_EMAIL", "root@example.com"),
        ("CHATIA_ADMIN_PASSWORD", "the operator's"),
    ];
    let platform = start(&directory.path().join("data"), true, false, &variables).await;
    let (address, mut calls) = receiver().await;

    let client = register(&platform).await;
    let hook = json!({"name": "crm", "url": format!("http://{address}/hook")});
    client.post("/api/developers/webhooks", hook).await;
    let agent = json!({"name": "Sol", "system_prompt": PROMPT, "tools": ["capture_lead", "send_whatsapp_handoff"]});
    let agent = client.post("/api/agents", agent).await;
    let id = agent["id"].as_u64().unwrap();
    let agent = client.post(&format!("/api/agents/{id}/publish"), json!({})).await;
    let chat = format!("/api/public/agents/{}/chat", agent["public_slug"].as_str().unwrap());
    let visitor = Client::of(&platform);
    let answer = visitor.post(&chat, json!({"message": "When do you open?"})).await;
    assert_eq!(answer["reply"], "At nine.");
    let next = json!({"message": "I want to talk to a person", "conversation_id": answer["conversation_id"]});
    visitor.post(&chat, next).await;

    let wanted =
        ["agent.created", "agent.published", "agent.message.created", "agent.reply.created", "agent.handoff.requested"];
    let bodies = await_events(&mut calls, &wanted).await;
    assert!(bodies.iter().all(|body| body["id"].is_string()), "{bodies:?}");

    // The projector counted, the mail to the owner was written.
    let counted = eventually("the conversation is not counted", || async {
        let agent = client.get(&format!("/api/agents/{id}")).await;
        (agent["conversation_count"] == 1).then_some(())
    });
    let mailed = eventually("no mail to the owner", || async {
        let mut mails = std::fs::read_dir(directory.path().join("data/mail")).unwrap();
        let tells =
            |mail: &std::path::Path| std::fs::read_to_string(mail).is_ok_and(|it| it.contains("wants a person"));
        mails.any(|mail| tells(&mail.unwrap().path())).then_some(())
    });
    tokio::join!(counted, mailed);

    // The bill: each reply once, whoever asks for the report and how often.
    let mut admin = Client::of(&platform);
    let who = json!({"email": "root@example.com", "password": "the operator's"});
    admin.token = admin.post("/api/auth/login", who).await["access_token"].as_str().unwrap().to_owned();
    admin.post("/api/admin/billing/report-usage", json!({})).await;
    admin.post("/api/admin/billing/report-usage", json!({"force": true})).await;
    let reported = eventually("usage is not reported", || async {
        let requests = polar.received_requests().await.unwrap();
        let bodies: Vec<Value> = requests.iter().map(|request| request.body_json().unwrap()).collect();
        let events = bodies.iter().flat_map(|body| body["events"].as_array().unwrap());
        let ids: std::collections::BTreeSet<String> = events.map(|event| event["external_id"].to_string()).collect();
        (ids.len() >= 2).then_some(ids.len())
    });
    assert_eq!(reported.await, 2);
    assert!(platform.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_is_made_once_and_works_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("data");
    let platform = start(&data_dir, false, true, &[]).await;
    let demo = platform.demo.clone().unwrap();
    assert!(platform.stop().await);

    // As if the first start had been cut off before the key was kept.
    let file = data_dir.join("demo.json");
    let mut kept: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    kept.as_object_mut().unwrap().retain(|name, _| name == "email" || name == "password");
    std::fs::write(&file, kept.to_string()).unwrap();
    let platform = start(&data_dir, false, true, &[]).await;
    let again = platform.demo.clone().unwrap();
    assert_eq!((&again.email, &again.password, again.agent_id), (&demo.email, &demo.password, demo.agent_id));
    assert!(platform.stop().await);

    let platform = start(&data_dir, false, true, &[]).await;
    assert_eq!(platform.demo.as_ref(), Some(&again), "the third start makes nothing");
    let client = Client { token: again.api_key.clone(), ..Client::of(&platform) };
    let agents = client.get("/api/agents").await;
    assert_eq!(agents["items"].as_array().unwrap().len(), 1);
    let keys = client.get("/api/developers/api-keys").await;
    assert_eq!(keys["items"].as_array().unwrap().len(), 1, "the lost key was revoked");
    let account = client.get("/api/billing/account").await;
    assert_eq!((&account["plan"], &account["status"]), (&json!("agency"), &json!("none")), "given, and paid by nobody");
    let agent = json!({"name": "Second", "publish": true});
    client.post("/api/developers/agents", agent).await;
    let chat = format!("/api/public/agents/{}/chat", again.slug);
    let answer = client.post(&chat, json!({"message": "Is there parking?"})).await;
    assert!(answer["reply"].as_str().unwrap().contains("garage"));
    let screen = managed_client().unwrap().get(platform.url()).send().await.unwrap().text().await.unwrap();
    assert!(screen.contains(&again.api_key) && screen.contains(&again.password));
    assert!(platform.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let data_dir = directory.path().join("data");
    let lookup: local::Lookup = Arc::new(|_| None);
    let refused = Platform::start(Options { port, data_dir, ephemeral: true, demo: false, lookup }).await;
    let message = refused.err().unwrap().to_string();
    assert!(message.contains(&format!("Port {port} is in use")) && message.contains("--port"), "{message}");
}
