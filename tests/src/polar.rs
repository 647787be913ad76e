//! Polar as it calls us: callbacks, signed as it signs them.

use std::sync::LazyLock;

use axum::http::HeaderName;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use shared::kernel::secret::hmac_sha256;
use shared::kernel::{Id, Time};

use crate::{Answer, Options, Owner, Persona, TestApp};

/// What Polar's callbacks are signed with.
pub const WEBHOOK_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// `POLAR_PRODUCTS` of tests.
pub const PRODUCTS: &str = "payg=p-payg,starter=p-starter,pro=p-pro,studio=p-studio,agency=p-agency,seat=p-seat";

/// How an endpoint of Polar's signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// With the whole secret as it is shown.
    Whole,
    /// With what its base64 says.
    Decoded,
}

/// A callback.
#[derive(Debug, Clone)]
pub struct Callback {
    /// `webhook-id`.
    pub id: String,
    /// The body.
    pub body: Value,
}

impl Callback {
    /// One of this type about these data, true at this moment.
    #[must_use]
    pub fn new(id: &str, kind: &str, at: Time, data: Value) -> Self {
        Self { id: id.into(), body: json!({"type": kind, "timestamp": at, "data": data}) }
    }

    /// Its headers, as it is sent at this moment.
    #[must_use]
    pub fn headers(&self, key: Key, now: Time) -> [(HeaderName, String); 4] {
        let at = now.seconds().to_string();
        let key = match key {
            Key::Whole => WEBHOOK_SECRET.as_bytes().to_vec(),
            Key::Decoded => STANDARD.decode(WEBHOOK_SECRET.trim_start_matches("whsec_")).expect("base64"),
        };
        let body = self.body.to_string();
        let parts = [self.id.as_bytes(), b".", at.as_bytes(), b".", body.as_bytes()];
        let signature = format!("v1,{}", STANDARD.encode(hmac_sha256(&key, &parts)));
        let name = HeaderName::from_static;
        [
            (name("content-type"), "application/json".into()),
            (name("webhook-id"), self.id.clone()),
            (name("webhook-timestamp"), at),
            (name("webhook-signature"), signature),
        ]
    }
}

impl TestApp {
    /// An app that sells by a stand-in for Polar.
    pub async fn selling(polar: &str) -> Self {
        let variables = vec![("POLAR_PRODUCTS", PRODUCTS.to_owned())];
        Self::with(Options { polar: Some(polar.into()), variables, ..Options::default() }).await
    }

    /// A provider who calls back.
    #[must_use]
    pub fn provider(&self) -> Persona {
        let router = shared::http::serve::surface(&self.app, &hooks::SURFACE, hooks::SURFACE.groups);
        self.anonymous().on(router)
    }

    /// Sends a callback as Polar does.
    pub async fn hears(&self, callback: &Callback, key: Key) -> Answer {
        let headers = callback.headers(key, self.app.now());
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.provider().call_raw("POST", "/hooks/polar", &headers, callback.body.to_string()).await
    }

    /// An owner's id at Polar.
    pub async fn customer(&self, owner: &Owner) -> String {
        self.db_account(owner).await.id.text()
    }

    /// A subscription as Polar tells of it.
    #[must_use]
    pub fn subscription(customer: &str, id: &str, product: &str, status: &str) -> Value {
        json!({
            "id": id, "status": status, "product_id": product, "amount": 1_200, "currency": "usd",
            "current_period_end": "2040-04-05T09:00:00Z", "cancel_at_period_end": false, "seats": null,
            "customer": {"id": "c-1", "email": null, "external_id": customer}, "metadata": {},
        })
    }

    /// Has Polar tell that an owner subscribed to a plan.
    ///
    /// # Panics
    /// When it does not count.
    pub async fn subscribes(&self, owner: &Owner, plan: &str) {
        let (customer, now) = (self.customer(owner).await, self.app.now());
        let data = Self::subscription(&customer, "s-1", &format!("p-{plan}"), "active");
        let id: Id<shared::domain::Message> = self.app.ids().id();
        let callback = Callback::new(&id.text(), "subscription.active", now, data);
        assert_eq!(self.hears(&callback, Key::Decoded).await.expect(200)["status"], "taken");
    }
}

/// A Polar that takes whatever it is asked, one for all tests.
pub fn agreeable() -> &'static str {
    static URL: LazyLock<String> = LazyLock::new(|| {
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
                tell.send(format!("http://{}", listener.local_addr().expect("an address"))).expect("somebody asks");
                axum::serve(listener, axum::Router::new().fallback(agree)).await
            })
        });
        told.recv().expect("it starts")
    });
    &URL
}

async fn agree(uri: axum::http::Uri) -> axum::Json<Value> {
    axum::Json(match uri.path() {
        "/v1/checkouts/" => {
            json!({"id": "co-1", "url": "https://polar.example.com/co-1", "expires_at": "2040-03-06T09:00:00Z"})
        }
        "/v1/customer-sessions/" => json!({"customer_portal_url": "https://polar.example.com/portal"}),
        "/v1/events/" => json!({"items": [], "pagination": {"total_count": 0, "max_page": 0}}),
        _ => json!({}),
    })
}
