//! The world outside: receivers of webhooks and the ledger of the billing provider, failing as they do.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use serde_json::{Value, json};
use shared::kernel::Rng;

/// A call that a receiver got.
#[derive(Debug, Clone)]
pub(super) struct Call {
    /// Whose receiver.
    pub(super) user: usize,
    pub(super) event: String,
    pub(super) attempt: u32,
    pub(super) body: Bytes,
}

#[derive(Default)]
struct Seen {
    calls: Vec<Call>,
    ledger: BTreeMap<String, Value>,
}

/// Everything outside; a handle.
#[derive(Clone)]
pub(super) struct Outside(Arc<Inner>);

struct Inner {
    url: String,
    rng: Rng,
    failing: AtomicU32,
    seen: Mutex<Seen>,
}

impl Outside {
    pub(super) async fn start(seed: u64) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let inner = Inner { url, rng: Rng::seeded(seed), failing: AtomicU32::new(0), seen: Mutex::default() };
        let outside = Self(Arc::new(inner));
        let router = Router::new().fallback(answer).with_state(outside.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        outside
    }

    pub(super) fn url(&self) -> &str {
        &self.0.url
    }

    /// From now on, so many percent of the calls fail.
    pub(super) fn fails(&self, percent: u32) {
        self.0.failing.store(percent, Ordering::Relaxed);
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        self.seen().calls.clone()
    }

    pub(super) fn ledger(&self) -> BTreeMap<String, Value> {
        self.seen().ledger.clone()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_failing(&self) -> bool {
        self.0.rng.below(100) < self.0.failing.load(Ordering::Relaxed)
    }
}

async fn answer(State(outside): State<Outside>, uri: Uri, headers: HeaderMap, body: Bytes) -> (StatusCode, String) {
    match uri.path().strip_prefix("/hook/") {
        Some(user) => (hook(&outside, user.parse().unwrap(), &headers, body), String::new()),
        None => ingest(&outside, &body),
    }
}

fn hook(outside: &Outside, user: usize, headers: &HeaderMap, body: Bytes) -> StatusCode {
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    let attempt = header("x-chatia-attempt").parse().unwrap();
    outside.seen().calls.push(Call { user, event: header("webhook-id"), attempt, body });
    if outside.is_failing() { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK }
}

/// Half of the failures come after the events were taken.
fn ingest(outside: &Outside, body: &Bytes) -> (StatusCode, String) {
    let fails = outside.is_failing();
    if fails && outside.0.rng.below(2) == 0 {
        return (StatusCode::BAD_GATEWAY, String::new());
    }
    let body: Value = serde_json::from_slice(body).unwrap();
    let mut inserted = 0;
    for event in body["events"].as_array().unwrap() {
        let id = event["external_id"].as_str().unwrap().to_owned();
        inserted += usize::from(outside.seen().ledger.insert(id, event.clone()).is_none());
    }
    if fails {
        return (StatusCode::INTERNAL_SERVER_ERROR, String::new());
    }
    (StatusCode::OK, json!({"inserted": inserted}).to_string())
}
