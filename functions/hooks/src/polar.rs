//! `/hooks/polar`: what Polar tells of subscriptions and payments.

use axum::extract::State;
use axum::http::HeaderMap;
use schemars::JsonSchema;
use serde::Serialize;
use shared::app::App;
use shared::app::polar::{self, Heard};
use shared::http::{Done, RawBody, Visit};
use shared::kernel::Result;
use shared::ports::signature::Signed;

shared::ops! {
    /// A callback of Polar's, signed as Standard Webhooks are.
    ///
    /// 2xx once it counts; what is not about us is 2xx too. 5xx asks Polar to send it again.
    POST "/hooks/polar" => polar_callback, [] Anyone "" Provider Any Known Unaudited Own also [400 401];
}

/// What became of it.
#[derive(Debug, Serialize, JsonSchema)]
struct HeardOut {
    /// `taken`, `known` or `ignored`.
    status: &'static str,
}

async fn polar_callback(
    State(app): State<App>,
    visit: Visit,
    headers: HeaderMap,
    RawBody(body): RawBody,
) -> Result<Done<HeardOut>> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
    let signed = Signed { id, timestamp, signatures: header("webhook-signature") };
    visit.run(&app, || polar::hear(&app, &signed, &body), HeardOut::from).await
}

impl From<Heard> for HeardOut {
    fn from(heard: Heard) -> Self {
        let status = match heard {
            Heard::Taken => "taken",
            Heard::Known => "known",
            Heard::Ignored => "ignored",
        };
        Self { status }
    }
}
