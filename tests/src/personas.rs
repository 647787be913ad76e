//! Who calls: anybody, a visitor, an owner with a session, a program with a key.

use std::net::IpAddr;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use shared::http::serve::ClientAddress;
use tower::ServiceExt;

use crate::promises;

/// An answer of the router.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, as text.
    pub text: String,
}

impl Answer {
    /// The body as JSON; null when it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    /// The body, when the status is as expected.
    ///
    /// # Panics
    /// When it is another one.
    #[track_caller]
    #[expect(clippy::must_use_candidate, reason = "a test may only want the status")]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self.json()
    }

    /// The error code, when the status is as expected.
    ///
    /// # Panics
    /// When it is another one, or the body is no error of studio's.
    #[track_caller]
    #[must_use]
    pub fn code(self, status: u16) -> String {
        let body = self.expect(status);
        assert!(body["detail"].is_string(), "an error says what is wrong: {body}");
        body["code"].as_str().expect("an error has a code").to_owned()
    }
}

/// Somebody who calls.
#[derive(Clone)]
pub struct Persona {
    router: Router,
    address: IpAddr,
    bearer: Option<String>,
}

impl Persona {
    /// Somebody without a credential, at an address.
    #[must_use]
    pub const fn new(router: Router, address: IpAddr) -> Self {
        Self { router, address, bearer: None }
    }

    /// The same caller with a credential.
    #[must_use]
    pub fn with_bearer(&self, token: &str) -> Self {
        Self { bearer: Some(token.to_owned()), ..self.clone() }
    }

    /// The same caller at another process.
    #[must_use]
    pub fn on(&self, router: Router) -> Self {
        Self { router, ..self.clone() }
    }

    /// The same credential from another address.
    #[must_use]
    pub fn at(&self, address: IpAddr) -> Self {
        Self { address, ..self.clone() }
    }

    /// The `Authorization` header that this caller sends.
    #[must_use]
    pub fn authorization(&self) -> Option<String> {
        self.bearer.as_ref().map(|token| format!("Bearer {token}"))
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path), None).await
    }

    /// POST with a JSON body.
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(self.request(Method::POST, path), Some(body)).await
    }

    /// PATCH with a JSON body.
    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send(self.request(Method::PATCH, path), Some(body)).await
    }

    /// DELETE without a body.
    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, path), None).await
    }

    /// Any method, with more headers.
    ///
    /// # Panics
    /// When the method is none.
    pub async fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<Value>) -> Answer {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let request =
            headers.iter().fold(self.request(method, path), |request, (name, value)| request.header(*name, *value));
        self.send(request, body).await
    }

    /// Any method, with more headers and a body as it is.
    ///
    /// # Panics
    /// When the method is none.
    pub async fn call_raw(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let request =
            headers.iter().fold(self.request(method, path), |request, (name, value)| request.header(*name, *value));
        self.oneshot(request.body(body.into()).expect("a request")).await
    }

    /// A body as it is, with its content type.
    pub async fn post_raw(&self, path: &str, content_type: &str, body: impl Into<Body>) -> Answer {
        let request = self.request(Method::POST, path).header("content-type", content_type);
        self.oneshot(request.body(body.into()).expect("a request")).await
    }

    fn request(&self, method: Method, path: &str) -> axum::http::request::Builder {
        let request = Request::builder().method(method).uri(path).extension(ClientAddress(self.address));
        match &self.bearer {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    async fn send(&self, request: axum::http::request::Builder, body: Option<Value>) -> Answer {
        let request = match body {
            Some(body) => request.header("content-type", "application/json").body(Body::from(body.to_string())),
            None => request.body(Body::empty()),
        };
        self.oneshot(request.expect("a request")).await
    }

    /// Every answer is held against the published document.
    async fn oneshot(&self, request: Request<Body>) -> Answer {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let Ok(response) = self.router.clone().oneshot(request).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.expect("a body").to_bytes();
        let text = String::from_utf8(bytes.to_vec()).expect("text");
        let answer = Answer { status: parts.status, headers: parts.headers, text };
        promises::hold(method.as_str(), &path, &answer);
        answer
    }
}

/// A published agent.
#[derive(Debug, Clone)]
pub struct Agent {
    /// Its id.
    pub id: u64,
    /// Its public slug.
    pub slug: String,
    /// Its name.
    pub name: String,
}

/// Somebody who registered.
#[derive(Clone)]
pub struct Owner {
    /// Calls with their session.
    pub session: Persona,
    /// Their user id.
    pub user_id: u64,
    /// Their e-mail; the password is `correct horse`.
    pub email: String,
    /// Their token.
    pub token: String,
}

/// The password of every owner.
pub const PASSWORD: &str = "correct horse";

impl Owner {
    /// Registers.
    ///
    /// # Panics
    /// When that fails.
    pub async fn register(anybody: Persona, email: &str) -> Self {
        let body = json!({"email": email, "password": PASSWORD, "name": "Olivia Owner"});
        let answer = anybody.post("/api/auth/register", body).await.expect(201);
        let token = answer["access_token"].as_str().expect("a token").to_owned();
        let user_id = answer["user"]["id"].as_u64().expect("an id");
        Self { session: anybody.with_bearer(&token), user_id, email: email.into(), token }
    }

    /// Logs in once more, and calls with that session.
    ///
    /// # Panics
    /// When the log-in fails.
    pub async fn again(&self) -> Persona {
        let body = json!({"email": self.email, "password": PASSWORD});
        let answer = self.session.post("/api/auth/login", body).await.expect(200);
        self.session.with_bearer(answer["access_token"].as_str().expect("a token"))
    }

    /// Calls with a new developer key.
    ///
    /// # Panics
    /// When no key is made.
    pub async fn key(&self) -> Persona {
        let key = self.session.post("/api/developers/api-keys", json!({"name": "test"})).await.expect(201);
        self.session.with_bearer(key["key"].as_str().expect("a key"))
    }

    /// Makes and publishes an agent.
    pub async fn agent(&self, name: &str) -> Agent {
        let prompt = "We are open from 9 to 18 on weekdays. Delivery takes two days.";
        self.agent_with(json!({"name": name, "system_prompt": prompt, "publish": true})).await
    }

    /// Makes an agent of this body.
    ///
    /// # Panics
    /// When it is not made.
    pub async fn agent_with(&self, body: Value) -> Agent {
        let agent = self.session.post("/api/developers/agents", body).await.expect(201);
        Agent {
            id: agent["id"].as_u64().expect("an id"),
            slug: agent["public_slug"].as_str().unwrap_or_default().to_owned(),
            name: agent["name"].as_str().expect("a name").to_owned(),
        }
    }

    /// Registers a webhook for these events (null for all), and gives its id and secret.
    ///
    /// # Panics
    /// When it is not made.
    pub async fn webhook(&self, url: &str, events: Value) -> (u64, String) {
        let body = json!({"name": "crm", "url": url, "events": events});
        let webhook = self.session.post("/api/developers/webhooks", body).await.expect(201);
        (webhook["id"].as_u64().expect("an id"), webhook["secret"].as_str().expect("a secret").to_owned())
    }

    /// An agent's conversations, newest first.
    ///
    /// # Panics
    /// When they cannot be listed.
    pub async fn conversations(&self, agent: &Agent) -> Vec<Value> {
        let path = format!("/api/clients/me/agents/{}/conversations?limit=100", agent.id);
        let list = self.session.get(&path).await.expect(200);
        list["items"].as_array().expect("a list").clone()
    }

    /// A conversation with its messages.
    pub async fn conversation(&self, agent: &Agent, id: u64) -> Value {
        self.session.get(&format!("/api/clients/me/agents/{}/conversations/{id}", agent.id)).await.expect(200)
    }

    /// Opens the calendar, every day from 9 to 17 of a zone, and with what else is wanted of it.
    ///
    /// # Panics
    /// When it is not taken.
    pub async fn opens(&self, timezone: &str, more: Value) -> Value {
        let rule = |weekday| json!({"kind": "open", "weekday": weekday, "start_time": "09:00", "end_time": "17:00"});
        let mut body = json!({"timezone": timezone, "rules": (0..7).map(rule).collect::<Vec<_>>()});
        body.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        self.session.call("PUT", "/api/availability", &[], Some(body)).await.expect(200)
    }

    /// Books by hand for an agent, whenever that is, in an open calendar.
    ///
    /// # Panics
    /// When it is not booked.
    pub async fn appointment(&self, agent: &Agent, start: &str) -> u64 {
        self.opens("UTC", Value::Null).await;
        let body = json!({"start": start, "agent_id": agent.id, "name": "Ana", "email": "ana@example.com",
            "outside_hours": true});
        let booked = self.session.post("/api/appointments", body).await.expect(201);
        booked["id"].as_u64().expect("an id")
    }

    /// Takes a conversation over, or hands it back.
    pub async fn takeover(&self, agent: &Agent, id: u64, paused: bool) -> Value {
        let path = format!("/api/clients/me/agents/{}/conversations/{id}/takeover", agent.id);
        self.session.post(&path, json!({"paused": paused})).await.expect(200)
    }
}

/// A visitor of an agent's public chat.
#[derive(Clone)]
pub struct Visitor {
    /// Calls without a credential.
    pub persona: Persona,
    slug: String,
    /// The handle of the conversation, after the first answer.
    pub handle: Option<String>,
}

impl Visitor {
    pub(crate) const fn new(persona: Persona, slug: String) -> Self {
        Self { persona, slug, handle: None }
    }

    /// Where the visitor chats.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/api/public/agents/{}/chat", self.slug)
    }

    /// Sends a message.
    pub async fn send(&self, message: &str) -> Answer {
        self.send_as(message, None).await
    }

    /// Sends a message under the page's own id.
    pub async fn send_as(&self, message: &str, client_message_id: Option<&str>) -> Answer {
        let body = json!({"message": message, "conversation_id": self.handle, "client_message_id": client_message_id});
        self.persona.post(&self.path(), body).await
    }

    /// Sends a message, expects a reply, and goes on in its conversation from then on.
    ///
    /// # Panics
    /// When there is no reply.
    pub async fn says(&mut self, message: &str) -> Value {
        let answer = self.send(message).await.expect(200);
        self.handle = answer["conversation_id"].as_str().map(str::to_owned);
        answer
    }
}
