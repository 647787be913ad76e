//! Receivers of webhooks that fail often, and remember every call.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use shared::kernel::Rng;

use crate::moments::{Moment, Moments};

/// Of a hundred calls, so many fail.
const FAILING: u32 = 30;
/// Of a hundred failures, so many are slow beyond the time-out.
const SLOW: u32 = 15;

/// One call.
#[derive(Debug)]
pub(crate) struct Call {
    /// Which endpoint was called.
    pub(crate) endpoint: String,
    pub(crate) event: String,
    pub(crate) event_id: String,
    /// Which attempt it is, where deliveries say so.
    pub(crate) attempt: Option<String>,
    pub(crate) body: Bytes,
    /// Why its signatures are not valid.
    pub(crate) wrong: Option<String>,
    /// Whether it was to be answered with 2xx.
    pub(crate) taken: bool,
}

/// How an answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Good,
    Status(StatusCode),
    /// The answer begins and does not end.
    Broken,
    Slow,
}

/// All receivers, each at a path of its own.
pub(crate) struct Receivers {
    pub(crate) calls: Mutex<Vec<Call>>,
    pub(crate) failing: AtomicBool,
    secrets: Mutex<HashMap<String, String>>,
    /// The senders' time-out.
    timeout: Duration,
    moments: Arc<Moments>,
    rng: Rng,
}

impl Receivers {
    pub(crate) async fn start(moments: &Arc<Moments>, rng: &Rng, timeout: Duration) -> (Arc<Self>, SocketAddr) {
        let receivers = Arc::new(Self {
            calls: Mutex::default(),
            failing: AtomicBool::new(true),
            secrets: Mutex::default(),
            timeout,
            moments: Arc::clone(moments),
            rng: rng.clone(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::clone(&receivers);
        let router = Router::new().fallback(async move |request: Request| shared.receive(request).await);
        tokio::spawn(async move { axum::serve(listener, router).await });
        (receivers, address)
    }

    /// The secret that an endpoint's calls are signed with.
    pub(crate) fn expect(&self, endpoint: &str, secret: &str) {
        self.secrets.lock().unwrap().insert(endpoint.to_owned(), secret.to_owned());
    }

    async fn receive(&self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        // A sender that was killed leaves half a body: that was no call.
        let Ok(body) = to_bytes(body, usize::MAX).await else { return StatusCode::BAD_REQUEST.into_response() };
        let (endpoint, mood) = (parts.uri.path().trim_start_matches('/').to_owned(), self.mood());
        let header = |name: &str| parts.headers.get(name).map(|value| value.to_str().unwrap_or("?").to_owned());
        let secret = self.secrets.lock().unwrap().get(&endpoint).cloned().unwrap_or_default();
        self.calls.lock().unwrap().push(Call {
            event: header("x-chatia-event").unwrap_or_default(),
            event_id: header("x-chatia-event-id").unwrap_or_default(),
            attempt: header("x-chatia-attempt"),
            wrong: verify(&secret, &parts.headers, &body).err(),
            taken: mood == Mood::Good,
            endpoint,
            body,
        });
        self.moments.begins(Moment::Delivering);
        tokio::time::sleep(Duration::from_millis(u64::from(self.rng.below(20)))).await;
        match mood {
            Mood::Good => {
                self.moments.arrived();
                StatusCode::NO_CONTENT.into_response()
            }
            Mood::Status(status) => status.into_response(),
            Mood::Broken => {
                let broken = futures_util::stream::once(async { Err::<Bytes, _>(std::io::Error::other("closed")) });
                Body::from_stream(broken).into_response()
            }
            Mood::Slow => {
                tokio::time::sleep(self.timeout * 2).await;
                StatusCode::NO_CONTENT.into_response()
            }
        }
    }

    fn mood(&self) -> Mood {
        if !self.failing.load(Ordering::Relaxed) || self.rng.below(100) >= FAILING {
            return Mood::Good;
        }
        match (self.rng.below(100) < SLOW, self.rng.below(3)) {
            (true, _) => Mood::Slow,
            (false, 0) => Mood::Status(StatusCode::INTERNAL_SERVER_ERROR),
            (false, 1) => Mood::Status(StatusCode::SERVICE_UNAVAILABLE),
            (false, _) => Mood::Broken,
        }
    }
}

/// Checks both signatures: with the off-the-shelf library, and by the documented formula.
fn verify(secret: &str, headers: &HeaderMap, body: &[u8]) -> Result<(), String> {
    let standard = standardwebhooks::Webhook::new(secret).map_err(|error| error.to_string())?;
    standard.verify(body, headers).map_err(|error| format!("standard webhooks: {error}"))?;
    let header = |name: &str| headers.get(name).map(|value| value.as_bytes()).unwrap_or_default();
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).map_err(|error| error.to_string())?;
    for part in [header("x-chatia-timestamp"), b".", body] {
        mac.update(part);
    }
    let expected = hex::encode(mac.finalize().into_bytes());
    if expected.as_bytes() == header("x-chatia-signature") { Ok(()) } else { Err("x-chatia-signature".to_owned()) }
}
