//! What ends among the dead letters, and what never does, with the real workers on the platform's own queues.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use local::{Options, Platform};
use serde_json::{Value, json};
use shared::ports::egress::{Method, managed_client};
use shared::ports::queue::{Outgoing, Queue as _, QueueName};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

/// Far beyond what anything here takes; only a failure waits so long.
const PATIENCE: Duration = Duration::from_secs(60);

async fn start(data_dir: &Path, allow: &str) -> Platform {
    let allow = allow.to_owned();
    let lookup = move |name: &str| {
        let value = match name {
            "CHATIA_EGRESS_ALLOW" => &allow,
            "CHATIA_WEBHOOK_RETRY_SECONDS" => "0.05",
            "CHATIA_WEBHOOK_TIMEOUT_SECONDS" | "CHATIA_SCHEDULE_SECONDS" => "1",
            "CHATIA_VISIBILITY_SECONDS" => "0.3",
            "CHATIA_ADMIN_EMAIL" => "root@example.com",
            "CHATIA_ADMIN_PASSWORD" => PASSWORD,
            _ => return None,
        };
        Some(value.to_owned())
    };
    let data_dir = data_dir.to_owned();
    let options = Options { port: 0, data_dir, ephemeral: false, demo: false, lookup: Arc::new(lookup) };
    Platform::start(options).await.unwrap()
}

const PASSWORD: &str = "correct horse";
const LETTERS: &str = "/api/admin/dead-letters";

struct Client {
    base: String,
    token: String,
}

impl Client {
    async fn enter(platform: &Platform, how: &str, email: &str) -> Self {
        let mut client = Self { base: platform.url(), token: String::new() };
        let answer = client.post(how, json!({"email": email, "password": PASSWORD})).await;
        client.token = answer["access_token"].as_str().unwrap().to_owned();
        client
    }

    async fn root(platform: &Platform) -> Self {
        Self::enter(platform, "/api/auth/login", "root@example.com").await
    }

    async fn call(&self, method: Method, path: &str, body: Value) -> Value {
        let request = managed_client().unwrap().request(method, format!("{}{path}", self.base)).json(&body);
        let request = if self.token.is_empty() { request } else { request.bearer_auth(&self.token) };
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        self.call(Method::POST, path, body).await
    }

    async fn items(&self, path: &str) -> Vec<Value> {
        self.call(Method::GET, path, json!({})).await["items"].as_array().unwrap().clone()
    }

    async fn webhook(&self, url: &str) -> u64 {
        let body = json!({"name": url, "url": url, "events": ["custom.order.paid"]});
        self.post("/api/developers/webhooks", body).await["id"].as_u64().unwrap()
    }

    async fn publish(&self) {
        self.post("/api/developers/events", json!({"event": "order.paid"})).await;
    }

    /// Waits until the newest delivery of an endpoint has ended, and gives it.
    async fn ended(&self, webhook: u64) -> Value {
        let path = format!("/api/developers/webhooks/{webhook}/deliveries");
        eventually(&format!("the delivery to {webhook} does not end"), async || {
            self.items(&path).await.into_iter().next().filter(|delivery| delivery["status"] != "pending")
        })
        .await
    }
}

/// Asks until the answer is as it should be.
async fn eventually<T>(what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
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

async fn receiver(answer: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(answer).mount(&server).await;
    server
}

const LOOPBACK: &str = "127.0.0.0/8";

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_message_ends_there_with_its_reason_and_is_worked_off_when_its_cause_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let platform = start(&directory.path().join("data"), LOOPBACK).await;
    let (root, owner) =
        tokio::join!(Client::root(&platform), Client::enter(&platform, "/api/auth/register", "ana@example.com"));
    let mail = platform.data_dir().join("mail");
    eventually("who registers is not mailed", async || {
        let mut files = std::fs::read_dir(&mail).unwrap();
        files.any(|file| file.unwrap().path().extension().is_some_and(|end| end == "eml")).then_some(())
    })
    .await;
    // Mail that cannot be written, as when a mail server is away.
    std::fs::remove_dir_all(&mail).unwrap();
    std::fs::write(&mail, "in the way").unwrap();
    let agent = json!({"name": "Sol", "tools": ["send_whatsapp_handoff"], "publish": true});
    let agent = owner.post("/api/developers/agents", agent).await;
    let chat = format!("/api/public/agents/{}/chat", agent["public_slug"].as_str().unwrap());
    owner.post(&chat, json!({"message": "I want to talk to a person"})).await;
    platform.queue.send(QueueName::Deliver, vec![Outgoing::now("{\"task\": \"secret\"}")]).await.unwrap();

    // One message of them that is fine is not taken along.
    let server = receiver(ResponseTemplate::new(204)).await;
    let fine = owner.webhook(&server.uri()).await;
    owner.publish().await;
    assert_eq!(owner.ended(fine).await["status"], "succeeded");

    let mut letters = eventually("two messages are not given up", async || {
        Some(root.items(LETTERS).await).filter(|letters| letters.len() == 2)
    })
    .await;
    letters.sort_by_key(|letter| letter["tries"].as_u64());
    let of = |letter: &Value, field: &str| letter[field].as_str().unwrap().to_owned();
    assert_eq!((&letters[0]["tries"], &letters[1]["tries"]), (&json!(1), &json!(QueueName::Deliver.tries())));
    let reason = of(&letters[0], "reason");
    assert!(reason.contains("does not read") && !reason.contains("secret"), "{reason}");
    assert!(of(&letters[1], "reason").contains("mail"), "{letters:?}");
    assert!(
        letters.iter().all(|letter| letter["queue"] == "deliver" && of(letter, "died_at") >= of(letter, "sent_at"))
    );

    std::fs::remove_file(&mail).unwrap();
    std::fs::create_dir(&mail).unwrap();
    root.call(Method::DELETE, &format!("{LETTERS}/deliver/{}", of(&letters[0], "id")), json!({})).await;
    let replayed = root.post(&format!("{LETTERS}/replay"), json!({"queue": "deliver"})).await;
    assert_eq!(replayed, json!({"replayed": 1}));
    eventually("the mail is not written", async || std::fs::read_dir(&mail).unwrap().next()).await.unwrap();
    assert!(root.items(LETTERS).await.is_empty());
    assert!(platform.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customers_mistake_never_ends_there() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("data");
    // Registered while it was allowed: an address that may not be called.
    let platform = start(&data_dir, "127.0.0.0/8,10.0.0.0/8").await;
    let owner = Client::enter(&platform, "/api/auth/register", "ana@example.com").await;
    let foreign = owner.webhook("http://10.1.2.3/in").await;
    assert!(platform.stop().await);

    let platform = start(&data_dir, LOOPBACK).await;
    let owner = Client { base: platform.url(), ..owner };
    let refusing = receiver(ResponseTemplate::new(403)).await;
    let gone = receiver(ResponseTemplate::new(410)).await;
    let hanging = receiver(ResponseTemplate::new(200).set_delay(PATIENCE)).await;
    let urls = [
        (refusing.uri(), "answered 403"),
        (gone.uri(), "answered 410"),
        (hanging.uri(), "time-out"),
        ("http://127.0.0.1:9/in".to_owned(), "connect"),
    ];
    let mut webhooks = vec![(foreign, "refused")];
    for (url, why) in &urls {
        webhooks.push((owner.webhook(url).await, *why));
    }
    let deleted = owner.webhook(&refusing.uri()).await;
    owner.publish().await;
    owner.call(Method::DELETE, &format!("/api/developers/webhooks/{deleted}"), json!({})).await;
    for (webhook, why) in webhooks {
        let delivery = owner.ended(webhook).await;
        assert_eq!(delivery["status"], "failed", "{delivery}");
        let last = delivery["attempts"].as_array().unwrap().last().unwrap().clone();
        assert!(last["error"].as_str().unwrap().contains(why), "{why}: {delivery}");
    }
    let root = Client::root(&platform).await;
    eventually("the queue is not worked off", async || {
        platform.queue.next_visible(QueueName::Deliver).unwrap().is_none().then_some(())
    })
    .await;
    assert_eq!(root.items(LETTERS).await, Vec::<Value>::new());
    assert!(platform.stop().await);
}
