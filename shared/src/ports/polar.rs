//! Polar's event ingestion: `POST /v1/events/ingest` with an organisation access token.
//!
//! Facts (Polar API, version 2026-10): events dedupe on `external_id` over the whole organisation; a batch is atomic,
//! one bad event refuses all of it with 422; timestamps must not lie in the future; 429 has `Retry-After` and no body.

use std::sync::OnceLock;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

use super::egress::managed_client;
use crate::domain::usage::UsageEvent;
use crate::kernel::{Code, Error, Result, Secret, Time};

const TIMEOUT: Duration = Duration::from_secs(20);
/// The API version that this is written for; Polar's default moves.
const VERSION: &str = "2026-10";

/// A client of one organisation.
#[derive(Debug)]
pub struct Polar {
    base_url: Url,
    http: OnceLock<reqwest::Client>,
}

/// How Polar took a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ingested {
    /// It has all of them now; `duplicates` it had before.
    Taken {
        /// Events that it had before.
        duplicates: u64,
    },
    /// It refuses the batch as it is (422), or it is too large (413): smaller ones may pass.
    Refused(String),
}

/// An event as Polar wants it.
#[derive(Debug, Serialize)]
struct Event<'a> {
    name: &'static str,
    external_customer_id: String,
    external_id: String,
    timestamp: Time,
    metadata: Metadata<'a>,
}

#[derive(Debug, Serialize)]
struct Metadata<'a> {
    key_source: &'a str,
    /// What the meter sums: 0 for messages of the trial and those that the plan includes.
    billable: u8,
    quantity: u8,
    unit_cost_micro_usd: i64,
    workspace_id: String,
    agent_id: String,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    duplicates: u64,
}

impl Polar {
    /// A client for `https://api.polar.sh`, its sandbox, or a stand-in.
    #[must_use]
    pub const fn new(base_url: Url) -> Self {
        Self { base_url, http: OnceLock::new() }
    }

    /// Sends usage events. Times after `now` are clamped to it.
    ///
    /// # Errors
    /// `unavailable` when Polar cannot be reached, fails or asks to wait (then with the seconds): send the same again.
    /// `upstream_error` when it refuses the token.
    pub async fn ingest(&self, token: &Secret, events: &[UsageEvent], now: Time) -> Result<Ingested> {
        let url = self.base_url.join("/v1/events/ingest").map_err(Error::internal)?;
        let body = serde_json::json!({"events": events.iter().map(|event| wire(event, now)).collect::<Vec<_>>()});
        let request = self.http()?.post(url).bearer_auth(token.expose()).header("Polar-Version", VERSION);
        let answer = request.timeout(TIMEOUT).json(&body).send().await.map_err(unreachable)?;
        let status = answer.status().as_u16();
        let retry_after =
            answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
        match status {
            200..=299 => {
                let duplicates = answer.json::<Answer>().await.map_or(0, |answer| answer.duplicates);
                Ok(Ingested::Taken { duplicates })
            }
            413 | 422 => Ok(Ingested::Refused(reason(status, answer).await)),
            408 | 425 | 429 | 500..=599 => {
                let error = Error::new(Code::Unavailable).caused_by(format!("Polar answered {status}"));
                Err(error.retry_after(retry_after.unwrap_or(30)))
            }
            _ => Err(Error::new(Code::UpstreamError).caused_by(reason(status, answer).await)),
        }
    }

    fn http(&self) -> Result<&reqwest::Client> {
        if let Some(client) = self.http.get() {
            return Ok(client);
        }
        let client = managed_client()?;
        Ok(self.http.get_or_init(|| client))
    }
}

fn wire(event: &UsageEvent, now: Time) -> Event<'_> {
    Event {
        name: "ai_message",
        external_customer_id: event.billing_account_id.text(),
        external_id: event.external_id(),
        timestamp: event.at.min(now),
        metadata: Metadata {
            key_source: event.key_source.text(),
            billable: u8::from(!event.included),
            quantity: 1,
            unit_cost_micro_usd: event.unit_cost,
            workspace_id: event.workspace_id.text(),
            agent_id: event.agent_id.text(),
        },
    }
}

fn unreachable(error: reqwest::Error) -> Error {
    Error::new(Code::Unavailable).caused_by(format!("Polar: {}", error.without_url())).retry_after(30)
}

async fn reason(status: u16, answer: reqwest::Response) -> String {
    let text = answer.text().await.unwrap_or_default();
    format!("Polar answered {status}: {}", crate::domain::text::shorten(&text, 500))
}
