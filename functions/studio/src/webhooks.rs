//! `/api/developers/webhooks`: endpoints and what was delivered to them; rows of the group [`crate::developers`].

use std::time::Duration;

use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::app::App;
use shared::app::deliver::replay::{self, Begin};
use shared::app::deliver::send::Attempted;
use shared::app::webhook;
use shared::domain::Webhook;
use shared::domain::webhook::{Attempt, Delivery, DeliveryStatus, Health, OVERLAP, Replay, ReplayStatus};
use shared::http::{Call, Created, Done, Json, MaybeJson, NoContent, Path, Query};
use shared::kernel::{Int, Patch, Result, Time};
use shared::store::delivery::Filter;
use uuid::Uuid;

use crate::wire::{ListOut, PageQuery};

/// A webhook to register.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct WebhookIn {
    /// 1 to 120 characters.
    name: String,
    /// A public https address.
    url: String,
    /// The events that it wants; all of them when absent or null.
    #[serde(default)]
    events: Option<Vec<String>>,
    /// Whether it is told at once; true when absent.
    #[serde(default)]
    is_active: Option<bool>,
}

/// Changes to a webhook.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct WebhookPatch {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    url: Option<String>,
    /// Null means all events; absent leaves them.
    #[serde(default)]
    events: Patch<Vec<String>>,
    #[serde(default)]
    is_active: Option<bool>,
}

/// A webhook.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct WebhookOut {
    id: Int<Webhook>,
    name: String,
    url: String,
    /// Null means all events.
    events: Option<Vec<String>>,
    is_active: bool,
    /// Why we switched it off, if we did.
    disabled_reason: Option<String>,
    /// When it was last switched off.
    disabled_at: Option<Time>,
    /// From when on it may have missed events before it was switched off or changed; a replay of all since then brings
    /// them.
    missed_since: Option<Time>,
    /// Since when every delivery fails, if that is so. After five days it is switched off.
    failing_since: Option<Time>,
    /// The first characters of its secret.
    secret_prefix: String,
    /// Until when the secret before this one signs too, if it does.
    previous_secret_expires_at: Option<Time>,
    last_delivery_at: Option<Time>,
    last_delivery_status: Option<DeliveryStatus>,
    created_at: Time,
    updated_at: Time,
}

/// A new webhook, or an old one with a new secret.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct NewWebhookOut {
    #[serde(flatten)]
    listed: WebhookOut,
    /// What its deliveries are signed with. It is shown here and never again.
    secret: String,
}

impl From<(Webhook, Health)> for WebhookOut {
    fn from((webhook, health): (Webhook, Health)) -> Self {
        Self {
            id: webhook.id.into(),
            name: webhook.name,
            url: webhook.url,
            events: webhook.events,
            is_active: webhook.is_active,
            disabled_reason: webhook.disabled_reason,
            disabled_at: webhook.disabled_at,
            missed_since: webhook.missed_since,
            failing_since: health.failing_since,
            secret_prefix: webhook.secret_prefix,
            previous_secret_expires_at: webhook.previous_secrets.first().map(|previous| previous.until),
            last_delivery_at: health.last_delivery_at,
            last_delivery_status: health.last_delivery_status,
            created_at: webhook.created_at,
            updated_at: webhook.updated_at,
        }
    }
}

impl From<webhook::Created> for NewWebhookOut {
    fn from(created: webhook::Created) -> Self {
        Self { secret: created.secret.expose().to_owned(), listed: (created.webhook, created.health).into() }
    }
}

impl From<WebhookPatch> for webhook::Changes {
    fn from(body: WebhookPatch) -> Self {
        let events = match body.events {
            Patch::Keep => None,
            Patch::Clear => Some(None),
            Patch::Set(events) => Some(Some(events)),
        };
        Self { name: body.name, url: body.url, events, is_active: body.is_active }
    }
}

pub(crate) async fn list_webhooks(State(app): State<App>, call: Call) -> Result<Json<ListOut<WebhookOut>>> {
    let webhooks = webhook::list(&app, &call.caller).await?;
    Ok(Json(ListOut::whole(webhooks.into_iter().map(WebhookOut::from).collect())))
}

pub(crate) async fn create_webhook(
    State(app): State<App>,
    call: Call,
    Json(body): Json<WebhookIn>,
) -> Result<Created<NewWebhookOut>> {
    let (name, url) = (Some(body.name), Some(body.url));
    let command = webhook::Changes { name, url, events: Some(body.events), is_active: body.is_active };
    call.run(&app, || webhook::create(&app, &call.caller, &command), NewWebhookOut::from).await
}

pub(crate) async fn find_webhook(
    State(app): State<App>,
    call: Call,
    Path(id): Path<Int<Webhook>>,
) -> Result<Json<WebhookOut>> {
    Ok(Json(webhook::get(&app, &call.caller, id.0).await?.into()))
}

pub(crate) async fn update_webhook(
    State(app): State<App>,
    call: Call,
    Path(id): Path<Int<Webhook>>,
    Json(body): Json<WebhookPatch>,
) -> Result<Done<WebhookOut>> {
    let changes = webhook::Changes::from(body);
    call.run(&app, || webhook::change(&app, &call.caller, id.0, &changes), WebhookOut::from).await
}

pub(crate) async fn delete_webhook(
    State(app): State<App>,
    call: Call,
    Path(id): Path<Int<Webhook>>,
) -> Result<NoContent> {
    call.run(&app, || webhook::delete(&app, &call.caller, id.0), |()| ()).await
}

/// How to rotate.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct RotateIn {
    /// For how many hours the old secret signs too: 0 to 168; 24 when absent. 0 ends it at once.
    #[serde(default)]
    overlap_hours: Option<u32>,
}

pub(crate) async fn rotate_webhook(
    State(app): State<App>,
    call: Call,
    Path(id): Path<Int<Webhook>>,
    MaybeJson(body): MaybeJson<RotateIn>,
) -> Result<Done<NewWebhookOut>> {
    let hours = body.unwrap_or_default().overlap_hours;
    let overlap = hours.map_or(OVERLAP, |hours| Duration::from_secs(u64::from(hours) * 3_600));
    call.run(&app, || webhook::rotate(&app, &call.caller, id.0, overlap), NewWebhookOut::from).await
}

/// How a test went.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct TestOut {
    /// Whether the receiver answered 2xx.
    delivered: bool,
    /// What it answered, if it did.
    status: Option<u16>,
    response_ms: u64,
    /// Why it failed.
    error: Option<String>,
}

impl From<Attempted> for TestOut {
    fn from(attempted: Attempted) -> Self {
        let delivered = attempted.succeeded();
        let Attempt { status, ms, error, .. } = attempted.attempt;
        Self { delivered, status, response_ms: ms, error }
    }
}

pub(crate) async fn test_webhook(
    State(app): State<App>,
    call: Call,
    Path(id): Path<Int<Webhook>>,
) -> Result<Json<TestOut>> {
    Ok(Json(webhook::test(&app, &call.caller, id.0).await?.into()))
}

/// A delivery.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct DeliveryOut {
    id: Uuid,
    webhook_id: Int<Webhook>,
    event_id: Uuid,
    event: String,
    status: DeliveryStatus,
    /// Every attempt that ended, the last 24 of them. What was answered is in the delivery itself, not in lists.
    attempts: Vec<Attempt>,
    /// How many attempts before those are not kept.
    attempts_dropped: u32,
    /// When the next attempt is due, if there is one.
    next_attempt_at: Option<Time>,
    /// Why it was given up, when its attempts do not say it.
    reason: Option<String>,
    created_at: Time,
    updated_at: Time,
}

/// A delivery with its body.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct DeliveryDetailOut {
    #[serde(flatten)]
    listed: DeliveryOut,
    /// The body, as it is sent with every attempt.
    payload: Value,
}

impl From<Delivery> for DeliveryOut {
    fn from(delivery: Delivery) -> Self {
        let attempts_dropped = delivery.attempts.first().map_or(0, |first| first.number.saturating_sub(1));
        let attempts = delivery.attempts.into_iter().map(|attempt| Attempt { body: None, ..attempt }).collect();
        Self {
            id: delivery.id,
            webhook_id: delivery.webhook_id.into(),
            event_id: delivery.event_id,
            event: delivery.event,
            status: delivery.status,
            attempts,
            attempts_dropped,
            next_attempt_at: delivery.next_at,
            reason: delivery.reason,
            created_at: delivery.created_at,
            updated_at: delivery.updated_at,
        }
    }
}

impl From<Delivery> for DeliveryDetailOut {
    fn from(delivery: Delivery) -> Self {
        let payload = serde_json::from_str(&delivery.payload).unwrap_or_default();
        let attempts = delivery.attempts.clone();
        Self { listed: DeliveryOut { attempts, ..delivery.into() }, payload }
    }
}

const DELIVERIES: &str = "deliveries";

/// Which deliveries.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct DeliveriesQuery {
    /// How they stand.
    #[serde(default)]
    status: Option<DeliveryStatus>,
    /// The event's name.
    #[serde(default)]
    event: Option<String>,
    /// Of events from then on.
    #[serde(default)]
    since: Option<Time>,
    /// Of events until then.
    #[serde(default)]
    until: Option<Time>,
    /// `next_cursor` of the page before.
    #[serde(default)]
    cursor: Option<String>,
    /// 1 to 100; 20 when absent.
    #[serde(default)]
    limit: Option<u32>,
}

pub(crate) async fn list_deliveries(
    State(app): State<App>,
    call: Call,
    Path(id): Path<Int<Webhook>>,
    Query(query): Query<DeliveriesQuery>,
) -> Result<Json<ListOut<DeliveryOut>>> {
    let (after, limit) = PageQuery { cursor: query.cursor, limit: query.limit }.read(DELIVERIES)?;
    let filter = Filter { status: query.status, event: query.event, since: query.since, until: query.until };
    let page = webhook::deliveries(&app, &call.caller, id.0, &filter, after.as_ref(), limit).await?;
    Ok(Json(ListOut::page(DELIVERIES, page.map(DeliveryOut::from))))
}

pub(crate) async fn find_delivery(
    State(app): State<App>,
    call: Call,
    Path(id): Path<Uuid>,
) -> Result<Json<DeliveryDetailOut>> {
    Ok(Json(webhook::delivery(&app, &call.caller, id).await?.into()))
}

pub(crate) async fn retry_delivery(
    State(app): State<App>,
    call: Call,
    Path(id): Path<Uuid>,
) -> Result<Done<DeliveryOut>> {
    call.run(&app, || webhook::retry(&app, &call.caller, id), DeliveryOut::from).await
}

/// What to deliver again: `event_ids`, or `since`.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct ReplayEventsIn {
    /// These events, up to 50, also when they were delivered.
    #[serde(default)]
    event_ids: Vec<Uuid>,
    /// Everything from then on, up to 30 days back.
    #[serde(default)]
    since: Option<Time>,
    /// Until then; until now when absent.
    #[serde(default)]
    until: Option<Time>,
    /// Also what the webhook has taken already.
    #[serde(default)]
    include_delivered: bool,
}

/// Events that are delivered to a webhook again.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ReplayEventsOut {
    id: Uuid,
    webhook_id: Int<Webhook>,
    status: ReplayStatus,
    /// The events that were named; empty for a time.
    event_ids: Vec<Uuid>,
    since: Option<Time>,
    until: Option<Time>,
    include_delivered: bool,
    /// How many deliveries were queued so far.
    queued: u64,
    started_at: Time,
    ended_at: Option<Time>,
}

impl From<Replay> for ReplayEventsOut {
    fn from(replay: Replay) -> Self {
        Self {
            id: replay.id,
            webhook_id: replay.webhook_id.into(),
            status: replay.status,
            event_ids: replay.event_ids,
            since: replay.since,
            until: replay.until,
            include_delivered: replay.include_delivered,
            queued: replay.queued,
            started_at: replay.started_at,
            ended_at: replay.ended_at,
        }
    }
}

pub(crate) async fn replay_events(
    State(app): State<App>,
    call: Call,
    Path(id): Path<Int<Webhook>>,
    Json(body): Json<ReplayEventsIn>,
) -> Result<Done<ReplayEventsOut>> {
    let ReplayEventsIn { event_ids, since, until, include_delivered } = body;
    let command = Begin { event_ids, since, until, include_delivered };
    call.run(&app, || replay::begin(&app, &call.caller, id.0, &command), ReplayEventsOut::from).await
}

pub(crate) async fn find_replay(
    State(app): State<App>,
    call: Call,
    Path(id): Path<Int<Webhook>>,
) -> Result<Json<ReplayEventsOut>> {
    Ok(Json(replay::last(&app, &call.caller, id.0).await?.into()))
}

pub(crate) async fn stop_replay(State(app): State<App>, call: Call, Path(id): Path<Int<Webhook>>) -> Result<NoContent> {
    call.run(&app, || replay::stop(&app, &call.caller, id.0), |()| ()).await
}
