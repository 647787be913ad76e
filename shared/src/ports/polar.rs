//! Polar's events: `POST /v1/events/ingest` and `GET /v1/events/`, with an organisation access token.
//!
//! Facts (Polar API, version 2026-10): events dedupe on `external_id` over the whole organisation; a batch is atomic,
//! one bad event refuses all of it with 422; timestamps must not lie in the future; 429 has `Retry-After` and no body;
//! the list tells how many events there are between two times, neither of them included.

mod customers;

use std::sync::OnceLock;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use url::Url;

use super::egress::managed_client;
use crate::domain::BillingAccount;
use crate::domain::usage::{KeySource, UsageEvent};
use crate::kernel::{Code, Error, Id, Result, Secret, Time};

pub use customers::{Change, Checkout, OpenCheckout};

const TIMEOUT: Duration = Duration::from_secs(20);
/// The API version that this is written for; Polar's default moves.
const VERSION: &str = "2026-10";
/// How long a 429 without `Retry-After` asks to wait.
const SLOW_DOWN: Duration = Duration::from_secs(60);
/// The name of our events.
const NAME: &str = "ai_message";
/// The name of [`Polar::probe`]'s, which no meter counts.
const PROBE: &str = "ai_message_probe";
/// How far behind our time an event is dated at the latest. Polar refuses what lies in its future, and its clock may be
/// behind ours; an event may be sent in the second in which it was made.
const MARGIN: Duration = Duration::from_secs(60);

/// A client of one organisation.
#[derive(Debug)]
pub struct Polar {
    base_url: Url,
    timeout: Duration,
    http: OnceLock<reqwest::Client>,
}

/// What came of sending a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ingested {
    /// Polar has all of them now; `duplicates` it had before.
    Taken {
        /// Events that it had before.
        duplicates: u64,
    },
    /// It took none, and will not take the batch as it is (422), or it is too large (413): smaller ones may pass.
    Refused(String),
    /// Polar failed, or nobody knows whether it took them: to be sent again later.
    Failed(Failure),
}

/// Why Polar is left alone for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// How long it asks to be left alone.
    pub wait: Option<Duration>,
    /// For people.
    pub reason: String,
    /// What the operator has to do, when it will not pass by itself.
    pub todo: Option<&'static str>,
}

impl Failure {
    const fn passing(wait: Option<Duration>, reason: String) -> Self {
        Self { wait, reason, todo: None }
    }
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

#[derive(Deserialize)]
struct List {
    pagination: Pagination,
}

#[derive(Deserialize)]
struct Pagination {
    total_count: u64,
}

impl Polar {
    /// A client for `https://api.polar.sh`, its sandbox, or a stand-in.
    #[must_use]
    pub const fn new(base_url: Url) -> Self {
        Self { base_url, timeout: TIMEOUT, http: OnceLock::new() }
    }

    /// The same with another time-out of each call.
    #[must_use]
    pub const fn within(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sends usage events, dated as [`dated`] says.
    ///
    /// # Errors
    /// Only for faults of ours; Polar's are an [`Ingested::Failed`].
    pub async fn ingest(&self, token: &Secret, events: &[UsageEvent], now: Time) -> Result<Ingested> {
        let events: Vec<Event<'_>> = events.iter().map(|event| wire(event, now)).collect();
        self.send(token, &events, now).await
    }

    /// Sends an event of the usual form that is nobody's and costs nothing: what Polar says to it, it says to our
    /// requests, our clock and our token, and not to what one of our events tells. Polar keeps one of them at most.
    ///
    /// # Errors
    /// As [`Self::ingest`].
    pub async fn probe(&self, token: &Secret, now: Time) -> Result<Ingested> {
        let (id, timestamp) = ("chatia_probe", now - MARGIN);
        let metadata = Metadata {
            key_source: KeySource::Managed.text(),
            billable: 0,
            quantity: 1,
            unit_cost_micro_usd: KeySource::Managed.unit_cost(),
            workspace_id: id.into(),
            agent_id: id.into(),
        };
        let (external_customer_id, external_id) = (id.into(), format!("{id}:1"));
        self.send(token, &[Event { name: PROBE, external_customer_id, external_id, timestamp, metadata }], now).await
    }

    async fn send(&self, token: &Secret, events: &[Event<'_>], now: Time) -> Result<Ingested> {
        let url = self.base_url.join("/v1/events/ingest").map_err(Error::internal)?;
        let body = serde_json::json!({"events": events});
        let answer = match self.call(self.http()?.post(url).json(&body), token).await {
            Ok(answer) => answer,
            Err(reason) => return Ok(Ingested::Failed(Failure::passing(None, reason))),
        };
        let (status, asked) = (answer.status().as_u16(), retry_after(&answer, now));
        Ok(match status {
            // The answer's body only tells how many were known: the events are taken even if it does not arrive.
            200..=299 => {
                Ingested::Taken { duplicates: answer.json::<Answer>().await.map_or(0, |answer| answer.duplicates) }
            }
            413 | 422 => Ingested::Refused(reason(status, answer).await),
            429 => Ingested::Failed(Failure::passing(asked.or(Some(SLOW_DOWN)), reason(status, answer).await)),
            _ => Ingested::Failed(Failure { wait: asked, reason: reason(status, answer).await, todo: todo(status) }),
        })
    }

    /// How many events of an account Polar has, from `since` on and before `until`.
    ///
    /// # Errors
    /// `upstream_error` when Polar does not tell.
    pub async fn count(&self, token: &Secret, account: Id<BillingAccount>, since: Time, until: Time) -> Result<u64> {
        let mut url = self.base_url.join("/v1/events/").map_err(Error::internal)?;
        url.query_pairs_mut()
            .append_pair("external_customer_id", &account.text())
            .append_pair("name", NAME)
            .append_pair("start_timestamp", &just_before(since))
            .append_pair("end_timestamp", &just_before(until))
            .append_pair("limit", "1");
        let failed = |reason: String| Error::new(Code::UpstreamError).caused_by(reason);
        let answer = self.call(self.http()?.get(url), token).await.map_err(failed)?;
        match answer.status().as_u16() {
            200 => {
                let list: List = answer.json().await.map_err(|error| failed(unreachable(error)))?;
                Ok(list.pagination.total_count)
            }
            status => Err(failed(reason(status, answer).await)),
        }
    }

    async fn call(&self, request: reqwest::RequestBuilder, token: &Secret) -> Result<reqwest::Response, String> {
        let request = request.bearer_auth(token.expose()).header("Polar-Version", VERSION);
        request.timeout(self.timeout).send().await.map_err(unreachable)
    }

    fn http(&self) -> Result<&reqwest::Client> {
        if let Some(client) = self.http.get() {
            return Ok(client);
        }
        let client = managed_client()?;
        Ok(self.http.get_or_init(|| client))
    }
}

/// Half a millisecond before a time. Ours have whole milliseconds, so that it makes no difference whether a bound is
/// itself included.
fn just_before(time: Time) -> String {
    let text = (time - Duration::from_millis(1)).to_string();
    format!("{}500Z", text.trim_end_matches('Z'))
}

/// What the operator has to do about a refusal that will not pass by itself.
const fn todo(status: u16) -> Option<&'static str> {
    match status {
        401 => {
            Some("Polar does not know our access token: make a new one and put it into the secret polar_access_token.")
        }
        403 => Some("The access token may not do this: it needs the scopes events:write and events:read."),
        404 => Some("There is no such API: check POLAR_BASE_URL, and whether Polar still has this Polar-Version."),
        _ => None,
    }
}

/// `Retry-After`, in seconds or as a date.
fn retry_after(answer: &reqwest::Response, now: Time) -> Option<Duration> {
    let text = answer.headers().get("retry-after")?.to_str().ok()?.trim();
    let seconds = text.parse().ok().map(Duration::from_secs);
    seconds.or_else(|| {
        let date: Timestamp = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
        Some(Time::from_millis(date.as_millisecond()).since(now))
    })
}

/// The time that Polar is told: when the message was answered, but never the last minute, see [`MARGIN`]. It is no matter
/// of money: Polar bills an event in the period in which it receives it, whatever its time says. Only its lists go by
/// time, so whoever compares days sends no event that this would move to another one.
#[must_use]
pub fn dated(event: &UsageEvent, now: Time) -> Time {
    event.at.min(now - MARGIN)
}

fn wire(event: &UsageEvent, now: Time) -> Event<'_> {
    Event {
        name: NAME,
        external_customer_id: event.billing_account_id.text(),
        external_id: event.external_id(),
        timestamp: dated(event, now),
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

fn unreachable(error: reqwest::Error) -> String {
    let what = if error.is_timeout() { "did not answer in time" } else { "could not be reached" };
    format!("Polar {what}: {}", error.without_url())
}

async fn reason(status: u16, answer: reqwest::Response) -> String {
    let text = answer.text().await.unwrap_or_default();
    format!("Polar answered {status}: {}", crate::domain::text::shorten(&text, 500))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_lies_between_two_milliseconds() {
        assert_eq!(just_before(Time::from_millis(1_767_225_600_000)), "2025-12-31T23:59:59.999500Z");
    }
}
