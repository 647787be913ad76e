//! A stand-in for Polar: a ledger that dedupes on `external_id`, keeps every call with its time, and fails as told.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::serve::Listener;
use serde_json::{Value, json};
use shared::kernel::{Clock, ManualClock, Time};
use tokio::net::{TcpListener, TcpStream};

use crate::{Options, START, TestApp};

/// What Polar does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Mood {
    /// It works.
    #[default]
    Well,
    /// It takes nothing and answers 500.
    Fails,
    /// It takes nothing and answers this.
    Answers(u16),
    /// It takes what it gets and answers 500.
    FailsAfterTaking,
    /// It takes what it gets and does not answer.
    HangsAfterTaking,
    /// It takes nothing and answers 429, with this `Retry-After`.
    Busy(Option<String>),
    /// It refuses more than so many events at a time with 413.
    TakesAtMost(usize),
    /// Nobody listens.
    Down,
}

/// A call that sent events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// When.
    pub at: Time,
    /// Which, by their `external_id`.
    pub ids: Vec<String>,
    /// What was answered; 0 for no answer.
    pub status: u16,
}

impl Sent {
    /// Whether Polar said that it took none of them and why, so that sending parts of them again is no repeat.
    #[must_use]
    pub const fn is_refused(&self) -> bool {
        matches!(self.status, 413 | 422)
    }
}

#[derive(Default)]
struct Book {
    events: BTreeMap<String, Value>,
    calls: Vec<Sent>,
    /// How often it was only asked whether it takes anything.
    probes: usize,
    bad: HashSet<String>,
    mood: Mood,
    /// How many more calls it works for.
    strength: Option<usize>,
    clock: Option<Arc<ManualClock>>,
    /// How far its clock is behind ours.
    behind: Duration,
}

/// The ledger.
#[derive(Clone, Default)]
pub struct Ledger(Arc<Mutex<Book>>);

impl Ledger {
    /// An app that reports to a ledger.
    pub async fn with_app() -> (TestApp, Self) {
        Self::with_patience(Duration::from_secs(20)).await
    }

    /// An app that reports to a ledger and waits only so long for each answer.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn with_patience(polar_timeout: Duration) -> (TestApp, Self) {
        let ledger = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let router = Router::new().fallback(answer).with_state(ledger.clone());
        let door = Door { listener, ledger: ledger.clone() };
        tokio::spawn(async move { axum::serve(door, router).await });
        let options = Options { polar: Some(url), polar_timeout: Some(polar_timeout), ..Options::default() };
        let test = TestApp::with(options).await;
        ledger.book().clock = Some(Arc::clone(&test.clock));
        (test, ledger)
    }

    /// From now on, Polar does this.
    pub fn is(&self, mood: Mood) {
        let mut book = self.book();
        (book.mood, book.strength) = (mood, None);
    }

    /// After so many more calls, Polar fails.
    pub fn tires_after(&self, calls: usize) {
        self.book().strength = Some(calls);
    }

    /// From now on, Polar refuses a batch with this event.
    pub fn refuses(&self, external_id: &str) {
        self.book().bad.insert(external_id.to_owned());
    }

    /// From now on, Polar refuses no event.
    pub fn refuses_nothing(&self) {
        self.book().bad.clear();
    }

    /// From now on, Polar's clock is so far behind ours.
    pub fn is_behind(&self, by: Duration) {
        self.book().behind = by;
    }

    /// The events that it has, by their `external_id`.
    #[must_use]
    pub fn events(&self) -> BTreeMap<String, Value> {
        self.book().events.clone()
    }

    /// How many events it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.book().events.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets an event, as Polar never does.
    pub fn loses(&self, external_id: &str) {
        self.book().events.remove(external_id);
    }

    /// Every call that sent events, in order.
    #[must_use]
    pub fn calls(&self) -> Vec<Sent> {
        self.book().calls.clone()
    }

    /// How often it was sent an event that is nobody's.
    #[must_use]
    pub fn probes(&self) -> usize {
        self.book().probes
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a batch or refuses all of it.
    fn ingest(&self, body: &Value) -> Response {
        let mut book = self.book();
        let now = book.clock.as_ref().map_or(START, |clock| clock.now());
        let events: Vec<Value> = body["events"].as_array().cloned().unwrap_or_default();
        let is_probe = events.iter().all(|event| event["name"] == "ai_message_probe");
        let ids: Vec<String> = events.iter().map(|event| text(&event["external_id"])).collect();
        let is_bad =
            |event: &Value| book.bad.contains(&text(&event["external_id"])) || is_after(event, now - book.behind);
        let mood = if book.strength == Some(0) { Mood::Fails } else { book.mood.clone() };
        let (status, takes) = match &mood {
            Mood::Fails | Mood::Down => (500, false),
            Mood::Busy(_) => (429, false),
            Mood::Answers(status) => (*status, false),
            Mood::TakesAtMost(most) if events.len() > *most => (413, false),
            _ if events.iter().any(is_bad) => (422, false),
            Mood::FailsAfterTaking => (500, true),
            Mood::HangsAfterTaking => (0, true),
            Mood::Well | Mood::TakesAtMost(_) => (200, true),
        };
        book.probes += usize::from(is_probe);
        let before = book.events.len();
        if takes && !is_probe {
            for (id, event) in ids.iter().zip(&events) {
                // Events are immutable: the first one stays.
                book.events.entry(id.clone()).or_insert_with(|| event.clone());
            }
        }
        let inserted = book.events.len() - before;
        book.strength = book.strength.map(|calls| calls.saturating_sub(1));
        if !is_probe {
            book.calls.push(Sent { at: now, ids, status });
        }
        let duplicates = events.len() - inserted;
        match (status, mood) {
            (200, _) => axum::Json(json!({"inserted": inserted, "duplicates": duplicates})).into_response(),
            (422, _) => refusal(StatusCode::UNPROCESSABLE_ENTITY),
            (413, _) => refusal(StatusCode::PAYLOAD_TOO_LARGE),
            (429, Mood::Busy(Some(wait))) => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", wait)]).into_response(),
            (429, _) => StatusCode::TOO_MANY_REQUESTS.into_response(),
            (status, _) => StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR).into_response(),
        }
    }

    /// One page of the events of a customer between two times, neither included.
    fn list(&self, query: &BTreeMap<String, String>) -> Response {
        let of = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
        let is_asked = |event: &&Value| {
            let at = micros(&text(&event["timestamp"]));
            event["external_customer_id"] == of("external_customer_id")
                && event["name"] == of("name")
                && micros(of("start_timestamp")) < at
                && at < micros(of("end_timestamp"))
        };
        let book = self.book();
        if !matches!(book.mood, Mood::Well | Mood::TakesAtMost(_)) {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
        let found: Vec<&Value> = book.events.values().filter(is_asked).collect();
        let limit = of("limit").parse().unwrap_or(10);
        let items: Vec<&&Value> = found.iter().take(limit).collect();
        let pagination = json!({"total_count": found.len(), "max_page": found.len().div_ceil(limit)});
        axum::Json(json!({"items": items, "pagination": pagination})).into_response()
    }
}

async fn answer(
    State(ledger): State<Ledger>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    Query(query): Query<BTreeMap<String, String>>,
    body: Bytes,
) -> Response {
    let hangs = ledger.book().mood == Mood::HangsAfterTaking;
    let is_known = headers.get("authorization").is_some_and(|header| header == "Bearer polar_oat_test");
    let mut response = match (is_known, method.as_str(), uri.path()) {
        (false, ..) => StatusCode::UNAUTHORIZED.into_response(),
        (true, "POST", "/v1/events/ingest") => ledger.ingest(&serde_json::from_slice(&body).unwrap_or_default()),
        (true, "GET", "/v1/events/") => ledger.list(&query),
        _ => StatusCode::NOT_FOUND.into_response(),
    };
    if hangs {
        std::future::pending::<()>().await;
    }
    // Each call through the door, so that it can be closed.
    response.headers_mut().insert("connection", "close".parse().expect("a header"));
    response
}

/// The listener; while Polar is down it lets nobody in.
struct Door {
    listener: TcpListener,
    ledger: Ledger,
}

impl Listener for Door {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            if let Ok(found) = self.listener.accept().await
                && self.ledger.book().mood != Mood::Down
            {
                return found;
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

fn refusal(status: StatusCode) -> Response {
    (status, axum::Json(json!({"error": "RequestValidationError", "detail": []}))).into_response()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Whether an event says that it happens later than now, which Polar refuses.
fn is_after(event: &Value, now: Time) -> bool {
    micros(&text(&event["timestamp"])) > micros(&now.to_string())
}

/// A time with six digits behind the point, so that text order is time order.
fn micros(time: &str) -> String {
    format!("{:0<26}", time.trim_end_matches('Z'))
}
