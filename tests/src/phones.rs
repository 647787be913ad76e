//! `WhatsApp` as Kapso and Meta offer it: what is sent is kept, callbacks are signed as they sign them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use shared::kernel::Time;
use shared::kernel::secret::hmac_sha256;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::{Agent, Answer, Options, Owner, ScriptedModel, TestApp};

/// What every line of tests is signed with.
pub const SIGNING_SECRET: &str = "the-secret-of-the-line";

/// A message that was taken.
#[derive(Debug, Clone)]
pub struct Taken {
    /// The id that it was given.
    pub id: String,
    /// To which number's path.
    pub path: String,
    /// The credential that came with it.
    pub credential: String,
    /// The body.
    pub body: Value,
}

impl Taken {
    /// What it says, if it is a text.
    #[must_use]
    pub fn text(&self) -> &str {
        self.body["text"]["body"].as_str().unwrap_or_default()
    }

    /// What it is known by in its statuses.
    #[must_use]
    pub fn tag(&self) -> &str {
        self.body["biz_opaque_callback_data"].as_str().unwrap_or_default()
    }
}

#[derive(Default)]
struct State {
    taken: Vec<Taken>,
    answers: VecDeque<(u16, Value)>,
    files: HashMap<String, (String, Vec<u8>)>,
    file_answers: VecDeque<u16>,
    downloads: usize,
    asked: usize,
    held: Option<Arc<Semaphore>>,
    held_files: Option<Arc<Semaphore>>,
}

/// Both providers, on one address.
#[derive(Clone)]
pub struct Phones {
    url: String,
    state: Arc<Mutex<State>>,
}

impl Phones {
    /// Starts them.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let phones = Self { url, state: Arc::default() };
        let serving = phones.clone();
        let router = Router::new().fallback(async move |request: Request| serving.answer(request).await);
        tokio::spawn(async move { axum::serve(listener, router).await });
        phones
    }

    /// The variables that lead an installation here.
    #[must_use]
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        vec![("KAPSO_BASE_URL", format!("{}/kapso", self.url)), ("META_GRAPH_BASE_URL", format!("{}/meta", self.url))]
    }

    /// An app whose lines are here.
    pub async fn with_app(model: &ScriptedModel) -> (TestApp, Self) {
        let phones = Self::start().await;
        let options =
            Options { llm: Some(Arc::new(model.clone())), variables: phones.variables(), ..Options::default() };
        (TestApp::with(options).await, phones)
    }

    /// What was taken, in order.
    #[must_use]
    pub fn taken(&self) -> Vec<Taken> {
        self.state().taken.clone()
    }

    /// The texts that were taken, in order.
    #[must_use]
    pub fn texts(&self) -> Vec<String> {
        self.taken().iter().map(|taken| taken.text().to_owned()).collect()
    }

    /// The next message is answered so, and not taken unless the status is 200.
    pub fn answers(&self, status: u16, body: Value) {
        self.state().answers.push_back((status, body));
    }

    /// A file that somebody sent.
    pub fn keeps(&self, id: &str, mime: &str, bytes: &[u8]) {
        self.state().files.insert(id.to_owned(), (mime.to_owned(), bytes.to_vec()));
    }

    /// The next one who asks where a file is, is answered with this status.
    pub fn fails_file(&self, status: u16) {
        self.state().file_answers.push_back(status);
    }

    /// How often a file was asked for itself.
    #[must_use]
    pub fn downloads(&self) -> usize {
        self.state().downloads
    }

    /// How often a message was to be sent, whatever was answered.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.state().asked
    }

    /// From now on files are given only when the semaphore lets them.
    #[must_use]
    pub fn holds_files(&self) -> Arc<Semaphore> {
        let held = Arc::new(Semaphore::new(0));
        self.state().held_files = Some(Arc::clone(&held));
        held
    }

    /// From now on messages are taken at once, and answered only when the semaphore lets them.
    #[must_use]
    pub fn holds(&self) -> Arc<Semaphore> {
        let held = Arc::new(Semaphore::new(0));
        self.state().held = Some(Arc::clone(&held));
        held
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(&self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, usize::MAX).await.expect("a whole body");
        let (credential, query) = (credential(&parts.headers), parts.uri.query().unwrap_or_default());
        let path = parts.uri.path().to_owned();
        // Who has this address needs no key.
        if let Some(id) = query.strip_prefix("token=of-").filter(|_| path == "/kapso/media_download") {
            return if credential.is_empty() { self.download(id).await } else { refusal(400, 100, "no key, please") };
        }
        if credential.is_empty() || credential.contains("wrong") {
            return refusal(401, 190, "no such token");
        }
        match (parts.method.as_str(), path.rsplit('/').next().unwrap_or_default()) {
            ("POST", "messages") => self.send(path, credential, &body).await,
            (_, id) if path.starts_with("/files/") && credential.starts_with("Bearer ") => self.download(id).await,
            _ if path.starts_with("/files/") => refusal(401, 190, "none of Meta's tokens"),
            (_, id) => self.about(id, path.starts_with("/kapso/").then_some(query)),
        }
    }

    async fn download(&self, id: &str) -> Response {
        let (file, held) = {
            let mut state = self.state();
            state.downloads += 1;
            (state.files.get(id).cloned(), state.held_files.clone())
        };
        if let Some(held) = held {
            held.acquire().await.expect("never closed").forget();
        }
        file.map_or_else(|| StatusCode::NOT_FOUND.into_response(), |(_, bytes)| Bytes::from(bytes).into_response())
    }

    /// Where a file is, or a number's name. Kapso wants to know of which number, gives an address of its own beside Meta's,
    /// and writes the size as a text.
    fn about(&self, id: &str, at_kapso: Option<&str>) -> Response {
        let mut state = self.state();
        let Some((mime, bytes)) = state.files.get(id).cloned() else {
            return match id.starts_with("foreign") {
                true => refusal(400, 100, "no such object"),
                false => axum::Json(json!({"id": id})).into_response(),
            };
        };
        if let Some(status) = state.file_answers.pop_front() {
            return StatusCode::from_u16(status).expect("a status").into_response();
        }
        let mut about = json!({"url": format!("{}/files/{id}", self.url), "mime_type": mime, "id": id,
            "file_size": bytes.len()});
        if let Some(query) = at_kapso {
            if !query.starts_with("phone_number_id=") {
                return refusal(400, 100, "of which number?");
            }
            about["file_size"] = json!(bytes.len().to_string());
            about["download_url"] = json!(format!("{}/kapso/media_download?token=of-{id}", self.url));
        }
        axum::Json(about).into_response()
    }

    async fn send(&self, path: String, credential: String, body: &Bytes) -> Response {
        let body: Value = serde_json::from_slice(body).expect("JSON");
        if body["status"] == "read" {
            return axum::Json(json!({"success": true})).into_response();
        }
        let (answer, held) = {
            let mut state = self.state();
            state.asked += 1;
            let answer = state.answers.pop_front();
            let id = format!("wamid.out-{}", state.taken.len() + 1);
            if answer.as_ref().is_none_or(|(status, _)| *status == 200) {
                state.taken.push(Taken { id: id.clone(), path, credential, body });
            }
            let usual = json!({"messaging_product": "whatsapp", "messages": [{"id": id}]});
            (answer.unwrap_or((200, usual)), state.held.clone())
        };
        if let Some(held) = held {
            held.acquire().await.expect("never closed").forget();
        }
        let status = StatusCode::from_u16(answer.0).expect("a status");
        (status, axum::Json(answer.1)).into_response()
    }
}

fn credential(headers: &HeaderMap) -> String {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    header("x-api-key").or_else(|| header("authorization")).unwrap_or_default()
}

fn refusal(status: u16, code: u32, message: &str) -> Response {
    let body = json!({"error": {"message": message, "code": code}});
    (StatusCode::from_u16(status).expect("a status"), axum::Json(body)).into_response()
}

/// A text as Meta tells it.
#[must_use]
pub fn text(id: &str, phone: &str, at: Time, words: &str) -> Value {
    json!({"from": phone, "id": id, "timestamp": at.seconds().to_string(), "type": "text", "text": {"body": words}})
}

/// A callback of Meta's.
#[must_use]
pub fn of_meta(number: &str, messages: &[Value], statuses: &[Value]) -> Value {
    json!({"object": "whatsapp_business_account", "entry": [{"id": "waba", "changes": [{"field": "messages", "value": {
        "messaging_product": "whatsapp", "metadata": {"display_phone_number": "1", "phone_number_id": number},
        "messages": messages, "statuses": statuses,
    }}]}]})
}

/// A status as Meta tells it.
#[must_use]
pub fn status(id: &str, state: &str) -> Value {
    json!({"id": id, "status": state, "timestamp": "2214550800", "recipient_id": "34600111222"})
}

/// One message of a callback of Kapso's.
#[must_use]
pub fn of_kapso(number: &str, mut message: Value, direction: &str) -> Value {
    message["kapso"] = json!({"direction": direction, "origin": "cloud_api"});
    json!({"message": message, "conversation": {"id": "c-1", "phone_number_id": number, "status": "active",
        "kapso": {"contact_name": "Ana"}}, "is_new_conversation": false, "phone_number_id": number})
}

/// `X-Webhook-Signature`.
#[must_use]
pub fn signature(secret: &str, body: &str) -> String {
    hmac_sha256(secret.as_bytes(), &[body.as_bytes()]).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Owner {
    /// Connects an agent to a number at Meta.
    pub async fn connects_meta(&self, agent: &Agent, number: &str) -> Value {
        let line = json!({"provider": "meta", "phone_number_id": number, "access_token": format!("token-of-{number}"),
            "app_secret": SIGNING_SECRET, "verify_token": "open sesame"});
        let path = format!("/api/agents/{}", agent.id);
        self.session.patch(&path, json!({"config": {"whatsapp": line}})).await.expect(200)
    }
}

impl TestApp {
    /// Connects an agent to a number at Meta.
    pub async fn connects_meta(&self, owner: &Owner, agent: &Agent, number: &str) -> Value {
        owner.connects_meta(agent, number).await
    }

    /// Connects an agent to a number at Kapso.
    pub async fn connects_kapso(&self, owner: &Owner, agent: &Agent, number: &str) -> Value {
        let line = json!({"phone_number_id": number, "api_key": format!("key-of-{number}"),
            "webhook_secret": SIGNING_SECRET});
        let path = format!("/api/agents/{}", agent.id);
        owner.session.patch(&path, json!({"config": {"kapso": line}})).await.expect(200)
    }

    /// Meta calls back, signed with this secret.
    pub async fn meta_calls(&self, secret: &str, body: &Value) -> Answer {
        let body = body.to_string();
        let signature = format!("sha256={}", signature(secret, &body));
        let headers = [("content-type", "application/json"), ("x-hub-signature-256", signature.as_str())];
        self.provider().call_raw("POST", "/hooks/whatsapp/meta/any", &headers, body).await
    }

    /// Kapso calls back, signed with this secret.
    pub async fn kapso_calls(&self, secret: &str, event: &str, body: &Value) -> Answer {
        let body = body.to_string();
        let signature = signature(secret, &body);
        let headers = [
            ("content-type", "application/json"),
            ("x-webhook-event", event),
            ("x-webhook-signature", signature.as_str()),
            ("x-webhook-payload-version", "v2"),
        ];
        self.provider().call_raw("POST", "/hooks/whatsapp/kapso/any", &headers, body).await
    }

    /// Somebody writes to a number at Meta; Meta's callback is taken.
    ///
    /// # Panics
    /// When it is not.
    pub async fn writes(&self, number: &str, id: &str, phone: &str, words: &str) {
        self.comes_in(number, text(id, phone, self.app.now(), words)).await;
    }

    /// Meta tells of a message to a number, and its callback is taken.
    ///
    /// # Panics
    /// When it is not.
    pub async fn comes_in(&self, number: &str, message: Value) {
        let taken = self.meta_calls(SIGNING_SECRET, &of_meta(number, &[message], &[])).await.expect(200);
        assert_eq!(taken["taken"], 1, "{taken}");
    }

    /// Meta tells what became of a message.
    ///
    /// # Panics
    /// When it is not taken.
    pub async fn tells(&self, number: &str, status: Value) {
        let taken = self.meta_calls(SIGNING_SECRET, &of_meta(number, &[], &[status])).await.expect(200);
        assert_eq!(taken["taken"], 1, "{taken}");
    }
}
