//! Delivering events to webhooks: an attempt is claimed by its number before it is sent, and recorded before the queue
//! message is acknowledged. A customer's broken receiver is a recorded failure, never an error of ours.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{App, notify, payload};
use crate::domain::webhook::{Attempt, Delivery, DeliveryStatus, TIMEOUT, Webhook};
use crate::domain::{Event, Workspace};
use crate::events::studio;
use crate::kernel::secret::hmac_sha256;
use crate::kernel::{Code, Error, Id, Result, Secret, Time};
use crate::ports::egress::{Inbound, Method, Outbound, SendError};
use crate::ports::queue::{MAX_DELAY, Outgoing, QueueName};
use crate::store;
use crate::table::{Refusal, Unit, Versioned};

/// How long an attempt is ours: its time-out and enough to record it.
const CLAIM: Duration = Duration::from_secs(60);
/// How much of an answer is read.
const MAX_ANSWER: usize = 16 * 1024;
/// How many of the last attempts are kept.
const KEPT_ATTEMPTS: usize = 24;
/// How much of an answer is kept.
const KEPT_ANSWER: usize = 1_024;

/// A message of the deliver queue.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "snake_case")]
pub enum Task {
    /// Tell an endpoint of an event for the first time.
    Deliver {
        /// Which endpoint.
        webhook_id: Id<Webhook>,
        /// What happened.
        event: Event,
    },
    /// Make the next attempt of a known delivery.
    Attempt {
        /// Whose.
        workspace_id: Id<Workspace>,
        /// Which endpoint.
        webhook_id: Id<Webhook>,
        /// Which event.
        event_id: Uuid,
        /// Which attempt this is; one that was made already is not made again.
        attempt: u32,
    },
    /// Mail the owner.
    Mail {
        /// What happened.
        event: Event,
    },
}

impl Task {
    /// The attempt that a delivery waits for: the next one, or the current one again when its claim ran out.
    #[must_use]
    pub const fn attempt(delivery: &Delivery) -> Self {
        Self::Attempt {
            workspace_id: delivery.workspace_id,
            webhook_id: delivery.webhook_id,
            event_id: delivery.event_id,
            attempt: if delivery.claimed_until == 0 { delivery.attempt + 1 } else { delivery.attempt },
        }
    }

    /// As the queue carries it.
    ///
    /// # Errors
    /// When it does not serialise.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(Error::internal)
    }
}

/// How one attempt went.
#[derive(Debug, Clone)]
pub struct Attempted {
    /// What is recorded.
    pub attempt: Attempt,
    /// Seconds that the receiver asked us to wait.
    pub retry_after: Option<u64>,
}

impl Attempted {
    /// Whether the receiver took it: 2xx only.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.attempt.status.is_some_and(|status| (200..300).contains(&status))
    }
}

/// Does one task of the queue.
///
/// # Errors
/// Only for faults of ours (table, mail server); the queue then gives the task again.
pub async fn run(app: &App, task: &Task) -> Result<()> {
    match task {
        Task::Mail { event } => notify::mail_owner(app, event).await,
        Task::Deliver { webhook_id, event } => match first_claim(app, *webhook_id, event).await? {
            Some((webhook, delivery)) => attempt(app, &webhook, delivery).await,
            None => Ok(()),
        },
        Task::Attempt { workspace_id, webhook_id, event_id, attempt: number } => {
            let found = store::webhook::delivery(&app.table, *workspace_id, *webhook_id, *event_id).await?;
            let Some(found) = found else { return Ok(()) };
            match endpoint(app, *workspace_id, *webhook_id).await? {
                Some(webhook) => match claim(app, found, *number).await? {
                    Some(delivery) => attempt(app, &webhook, delivery).await,
                    None => Ok(()),
                },
                None => give_up(app, found).await,
            }
        }
    }
}

/// The endpoint, unless it is gone or switched off meanwhile.
async fn endpoint(app: &App, workspace: Id<Workspace>, webhook: Id<Webhook>) -> Result<Option<Webhook>> {
    match store::webhook::get(&app.table, workspace, webhook).await {
        Ok(found) => Ok(Some(found.body).filter(|webhook| webhook.is_active)),
        Err(error) if error.code() == Code::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Ends a delivery whose endpoint is gone or switched off: it must not wait among the due ones for ever. It can be
/// retried by hand when the endpoint is back.
async fn give_up(app: &App, found: Versioned<Delivery>) -> Result<()> {
    let mut delivery = found.body;
    if delivery.status != DeliveryStatus::Pending {
        return Ok(());
    }
    delivery.status = DeliveryStatus::Failed;
    (delivery.next_at, delivery.claimed_until, delivery.updated_at) = (None, 0, app.now());
    let mut unit = Unit::new();
    store::webhook::replace_delivery(&mut unit, &delivery, found.v)?;
    match app.table.commit(unit).await {
        Ok(()) | Err(Refusal::Conditions(_)) => Ok(()),
        Err(Refusal::Error(error)) => Err(error),
    }
}

/// Creates the delivery with its first attempt claimed and its payload frozen. When it is known already, that message
/// is a repeat: the first attempt is made again only if its claim ran out without an outcome.
async fn first_claim(app: &App, webhook: Id<Webhook>, event: &Event) -> Result<Option<(Webhook, Versioned<Delivery>)>> {
    let Some(webhook) = endpoint(app, event.workspace_id, webhook).await? else { return Ok(None) };
    let Some(name) = studio::name(event) else { return Ok(None) };
    let now = app.now();
    let delivery = Delivery {
        id: Delivery::id_for(webhook.id, event.id),
        workspace_id: event.workspace_id,
        webhook_id: webhook.id,
        event_id: event.id,
        payload: payload::studio(app, event, &name).await?,
        event: name,
        status: DeliveryStatus::Pending,
        attempt: 1,
        claimed_until: (now + CLAIM).millis(),
        attempts: Vec::new(),
        // Should we die now, the clock finds it after the claim.
        next_at: Some(now + CLAIM),
        created_at: now,
        updated_at: now,
    };
    let mut unit = Unit::new();
    store::webhook::create_delivery(&mut unit, &delivery)?;
    match app.table.commit(unit).await {
        Ok(()) => Ok(Some((webhook, Versioned { body: delivery, v: 1 }))),
        Err(Refusal::Conditions(_)) => {
            let found = store::webhook::delivery(&app.table, event.workspace_id, webhook.id, event.id).await?;
            let Some(found) = found else { return Ok(None) };
            Ok(claim(app, found, 1).await?.map(|delivery| (webhook, delivery)))
        }
        Err(Refusal::Error(error)) => Err(error),
    }
}

/// Claims an attempt: the next one, or the current one again when its claim ran out. `None` when it is not ours to make.
async fn claim(app: &App, found: Versioned<Delivery>, number: u32) -> Result<Option<Versioned<Delivery>>> {
    let (mut delivery, now) = (found.body, app.now());
    let running = delivery.claimed_until > now.millis();
    let lost = delivery.claimed_until != 0 && !running && delivery.attempt == number;
    let next = delivery.claimed_until == 0 && delivery.attempt + 1 == number;
    if delivery.status != DeliveryStatus::Pending || !(lost || next) {
        return Ok(None);
    }
    delivery.attempt = number;
    delivery.claimed_until = (now + CLAIM).millis();
    delivery.next_at = Some(now + CLAIM);
    delivery.updated_at = now;
    let mut unit = Unit::new();
    store::webhook::replace_delivery(&mut unit, &delivery, found.v)?;
    match app.table.commit(unit).await {
        Ok(()) => Ok(Some(Versioned { body: delivery, v: found.v + 1 })),
        // Somebody else claimed it.
        Err(Refusal::Conditions(_)) => Ok(None),
        Err(Refusal::Error(error)) => Err(error),
    }
}

/// Makes a claimed attempt and records how it went.
async fn attempt(app: &App, webhook: &Webhook, claimed: Versioned<Delivery>) -> Result<()> {
    let Versioned { body: mut delivery, v } = claimed;
    let attempted = send(app, webhook, delivery.event_id, &delivery.event, &delivery.payload).await?;
    let gone = attempted.attempt.status == Some(410);
    let now = app.now();
    let wait = if gone { None } else { wait(app, &delivery, attempted.retry_after) };
    let succeeded = attempted.succeeded();
    delivery.attempts.push(attempted.attempt);
    // Retried by hand again and again, it must still fit its item.
    let surplus = delivery.attempts.len().saturating_sub(KEPT_ATTEMPTS);
    delivery.attempts.drain(..surplus);
    delivery.claimed_until = 0;
    delivery.updated_at = now;
    (delivery.status, delivery.next_at) = match (succeeded, wait) {
        (true, _) => (DeliveryStatus::Succeeded, None),
        (false, Some(wait)) => (DeliveryStatus::Pending, Some(now + wait)),
        (false, None) => (DeliveryStatus::Failed, None),
    };
    let mut unit = Unit::new();
    store::webhook::replace_delivery(&mut unit, &delivery, v)?;
    match app.table.commit(unit).await {
        Ok(()) => {}
        // Our claim ran out and somebody else went on: theirs is the record.
        Err(Refusal::Conditions(_)) => return Ok(()),
        Err(Refusal::Error(error)) => return Err(error),
    }
    store::webhook::note_attempt(&app.table, &delivery, gone.then_some("The receiver answered 410 Gone."), now).await?;
    match wait {
        // Longer waits are left to the clock: a queue message cannot be delayed that long.
        Some(wait) if !succeeded && wait <= MAX_DELAY => {
            let body = Task::attempt(&delivery).to_json()?;
            app.queue.send(QueueName::Deliver, vec![Outgoing { body, delay: wait }]).await
        }
        _ => Ok(()),
    }
}

/// The wait before the next attempt, ± 20 % so that many deliveries do not come back at once; at least what the
/// receiver asked for. `None` when the attempts are used up.
fn wait(app: &App, delivery: &Delivery, retry_after: Option<u64>) -> Option<Duration> {
    let wait = Delivery::wait_after(&app.config.webhook_retries, delivery.attempt)?;
    let spread = wait.mul_f64(0.8 + f64::from(app.rng.below(401)) / 1000.0);
    Some(spread.max(Duration::from_secs(retry_after.unwrap_or(0).min(24 * 3600))))
}

/// Signs and sends a payload once.
///
/// # Errors
/// When the endpoint's secret does not open.
pub async fn send(app: &App, webhook: &Webhook, event_id: Uuid, event: &str, payload: &str) -> Result<Attempted> {
    let place = Webhook::secret_place(webhook.workspace_id, webhook.id);
    let secret = app.keys().await?.seal.open_text(&place, &webhook.secret)?;
    let at = app.now();
    let call = Outbound {
        method: Method::POST,
        url: webhook.url.clone(),
        headers: headers(&secret, event_id, event, at, payload)?,
        body: payload.as_bytes().to_vec(),
        timeout: TIMEOUT,
        max_response: MAX_ANSWER,
    };
    let answer = app.egress.send(call).await;
    let ms = u64::try_from(app.now().since(at).as_millis()).unwrap_or(u64::MAX);
    Ok(attempted(at, ms, answer))
}

/// Studio's headers, and the Standard Webhooks ones beside them so that off-the-shelf libraries verify too.
///
/// Studio signs `timestamp + "." + body` with the UTF-8 bytes of the whole secret as shown and writes bare hex; Standard
/// Webhooks signs `id.timestamp.body` with the decoded part behind `whsec_`.
fn headers(secret: &Secret, event_id: Uuid, event: &str, at: Time, payload: &str) -> Result<Vec<(String, String)>> {
    let (id, seconds) = (event_id.to_string(), at.seconds().to_string());
    let studio = hmac_sha256(secret.expose().as_bytes(), &[seconds.as_bytes(), b".", payload.as_bytes()]);
    let standard = standardwebhooks::Webhook::new(secret.expose())
        .and_then(|webhook| webhook.sign(&id, at.seconds(), payload.as_bytes()))
        .map_err(|error| Error::internal(format!("signing a webhook: {error}")))?;
    let headers = [
        ("content-type", "application/json".to_owned()),
        ("user-agent", "Chatia-Webhooks/1.0".to_owned()),
        ("x-chatia-signature", hex::encode(studio)),
        ("x-chatia-timestamp", seconds.clone()),
        ("x-chatia-event", event.to_owned()),
        ("x-chatia-event-id", id.clone()),
        ("webhook-id", id),
        ("webhook-timestamp", seconds),
        ("webhook-signature", standard),
    ];
    Ok(headers.map(|(name, value)| (name.to_owned(), value)).to_vec())
}

fn attempted(at: Time, ms: u64, answer: Result<Inbound, SendError>) -> Attempted {
    match answer {
        Ok(answer) => {
            let status = answer.status;
            let slow_down = matches!(status, 429 | 503);
            let retry_after =
                answer.header("retry-after").filter(|_| slow_down).and_then(|value| value.trim().parse().ok());
            let kept = &answer.body[..answer.body.len().min(KEPT_ANSWER)];
            let body = String::from_utf8_lossy(kept).into_owned();
            let error = (!(200..300).contains(&status)).then(|| match status {
                300..=399 => format!("the receiver redirects ({status}); redirects are not followed"),
                _ => format!("the receiver answered {status}"),
            });
            let body = (!body.is_empty()).then_some(body);
            Attempted { attempt: Attempt { at, status: Some(status), ms, error, body }, retry_after }
        }
        Err(error) => {
            let attempt = Attempt { at, status: None, ms, error: Some(error.to_string()), body: None };
            Attempted { attempt, retry_after: None }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_documented_formula_over_the_secret_as_shown() {
        let secret = Secret::new("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
        let at = Time::from_millis(1_767_225_600_000);
        let headers = headers(&secret, Uuid::nil(), "agent.created", at, "{}").unwrap();
        let get = |name: &str| headers.iter().find(|(known, _)| known == name).unwrap().1.clone();
        // Made independently: printf '1767225600.{}' | openssl dgst -sha256 -hmac "$secret"
        assert_eq!(get("x-chatia-timestamp"), "1767225600");
        assert_eq!(get("x-chatia-signature"), OPENSSL);
        assert!(get("webhook-signature").starts_with("v1,"));
        assert_eq!(get("webhook-id"), get("x-chatia-event-id"));
    }

    const OPENSSL: &str = "2ec19562065c6cdf8d0a3d6f355da2a2d26536926729ad1f7e5deac5b0e85675";
}
