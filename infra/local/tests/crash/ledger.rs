//! A ledger that takes usage as Polar does: it counts an `external_id` once, and it fails before and after it stores.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use shared::kernel::Rng;

use crate::moments::{Moment, Moments};

/// Of a hundred batches that come for the first time, so many meet a fault. It meets one only, so that what ends among
/// the dead letters would be the platform's doing.
const FAILING: u32 = 40;
/// How long it hangs.
const HANG: Duration = Duration::from_secs(3);

/// Everything that was ever taken, by `external_id`.
pub(crate) struct Ledger {
    pub(crate) events: Mutex<HashMap<String, Value>>,
    /// Events that were sent, however often.
    pub(crate) posted: AtomicUsize,
    pub(crate) failing: AtomicBool,
    /// Batches that were seen, by their first event.
    known: Mutex<HashSet<String>>,
    moments: Arc<Moments>,
    rng: Rng,
}

impl Ledger {
    pub(crate) async fn start(moments: &Arc<Moments>, rng: &Rng) -> (Arc<Self>, SocketAddr) {
        let ledger = Arc::new(Self {
            events: Mutex::default(),
            posted: AtomicUsize::new(0),
            failing: AtomicBool::new(true),
            known: Mutex::default(),
            moments: Arc::clone(moments),
            rng: rng.clone(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::clone(&ledger);
        let router = Router::new().fallback(async move |request: Request| shared.ingest(request).await);
        tokio::spawn(async move { axum::serve(listener, router).await });
        (ledger, address)
    }

    async fn ingest(&self, request: Request) -> Response {
        let Ok(body) = to_bytes(request.into_body(), usize::MAX).await else {
            return StatusCode::BAD_REQUEST.into_response();
        };
        let body: Value = serde_json::from_slice(&body).unwrap();
        let events = body["events"].as_array().unwrap();
        let id = |event: &Value| event["external_id"].as_str().unwrap().to_owned();
        self.moments.begins(Moment::Reporting);
        self.pause().await;
        let is_new = self.known.lock().unwrap().insert(events.first().map(id).unwrap_or_default());
        let fails = is_new && self.failing.load(Ordering::Relaxed) && self.rng.below(100) < FAILING;
        let fault = if fails { self.rng.below(4) } else { 4 };
        match fault {
            0 => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            1 => return (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")]).into_response(),
            _ => {}
        }
        self.posted.fetch_add(events.len(), Ordering::Relaxed);
        let inserted = {
            let mut ledger = self.events.lock().unwrap();
            let before = ledger.len();
            for event in events {
                ledger.entry(id(event)).or_insert_with(|| event.clone());
            }
            ledger.len() - before
        };
        self.moments.begins(Moment::Reporting);
        self.pause().await;
        match fault {
            2 => StatusCode::BAD_GATEWAY.into_response(),
            3 => {
                tokio::time::sleep(HANG).await;
                StatusCode::GATEWAY_TIMEOUT.into_response()
            }
            _ => axum::Json(json!({"inserted": inserted, "duplicates": events.len() - inserted})).into_response(),
        }
    }

    /// Long enough for a kill to fall into it.
    async fn pause(&self) {
        tokio::time::sleep(Duration::from_millis(u64::from(self.rng.below(25)))).await;
    }
}
