//! `/api/developers`: keys, webhooks and the owner's own events.

use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use shared::app::App;
use shared::app::api_key::{self, Mint, Minted};
use shared::app::billing;
use shared::app::deliver::Attempted;
use shared::app::event::{self, Accepted, Publish};
use shared::app::webhook;
use shared::domain::webhook::{Attempt, Delivery, DeliveryStatus};
use shared::domain::{Agent, ApiKey, Webhook};
use shared::events::studio::{CUSTOM_PREFIX, DOCUMENTED};
use shared::http::{Call, Created, Done, Json, NoContent, Path, Query};
use shared::kernel::{Int, Result, Time};
use uuid::Uuid;

use crate::wire::{ListOut, PageQuery};

shared::ops! {
    /// What a developer has here: counts, event names, addresses.
    GET "/api/developers/overview" => developer_overview, [User Developer] Viewer "developers:read" General Any Known Unaudited Safe;
    /// List your keys, without their texts.
    GET "/api/developers/api-keys" => list_api_keys, [User Developer] Editor "keys:read" General Any Known Unaudited Safe;
    /// Make a key.
    ///
    /// The answer is the only place that shows it. Keys are made by people: a key cannot make another.
    POST "/api/developers/api-keys" => create_api_key, [User] Admin "" General Any Known Audited Keyed;
    /// Revoke a key at once.
    DELETE "/api/developers/api-keys/{id}" => revoke_api_key, [User] Admin "" General Any Known Audited Keyed;
    /// List your webhooks.
    GET "/api/developers/webhooks" => list_webhooks, [User Developer] Viewer "webhooks:manage" General Any Known Unaudited Safe;
    /// Register a webhook.
    ///
    /// The answer is the only place that shows its secret. Without `events` it is told of all of them.
    POST "/api/developers/webhooks" => create_webhook, [User Developer] Editor "webhooks:manage" General Any Known Audited Keyed;
    /// One webhook.
    GET "/api/developers/webhooks/{id}" => find_webhook, [User Developer] Viewer "webhooks:manage" General Any Known Unaudited Safe;
    /// Change a webhook.
    PATCH "/api/developers/webhooks/{id}" => update_webhook, [User Developer] Editor "webhooks:manage" General Any Known Audited Keyed;
    /// Remove a webhook.
    DELETE "/api/developers/webhooks/{id}" => delete_webhook, [User Developer] Editor "webhooks:manage" General Any Known Audited Keyed;
    /// Send a test event to a webhook, once, and say how it went.
    POST "/api/developers/webhooks/{id}/test" => test_webhook, [User Developer] Editor "webhooks:manage" General Any Known Unaudited Own;
    /// What was delivered to a webhook, newest first, with every attempt.
    GET "/api/developers/webhooks/{id}/deliveries" => list_deliveries, [User Developer] Viewer "webhooks:manage" General Any Known Unaudited Safe;
    /// Deliver a failed delivery again: the same bytes, all attempts anew.
    POST "/api/developers/webhooks/deliveries/{id}/retry" => retry_delivery, [User Developer] Editor "webhooks:manage" General Any Known Audited Keyed;
    /// Tell your webhooks of an event of your own.
    ///
    /// It arrives as `custom.<event>` with `data` as you gave it, up to 32 KB.
    POST "/api/developers/events" => publish_event, [User Developer] Editor "events:write" General Any Known Unaudited Keyed;
}

/// What a developer has here.
#[derive(Debug, Serialize, JsonSchema)]
struct OverviewOut {
    base_url: String,
    docs_url: String,
    /// Published agents of the account.
    agents_published: u64,
    agents_limit: u64,
    api_keys: usize,
    webhooks: usize,
    /// Webhooks that are told of events.
    webhooks_active: usize,
    messages_used_current_period: u64,
    /// The events that webhooks can ask for, besides `custom.<name>`.
    events: Vec<String>,
}

async fn developer_overview(State(app): State<App>, call: Call) -> Result<Json<OverviewOut>> {
    let standing = billing::standing(&app, &call.caller).await?;
    let keys = api_key::list(&app, &call.caller).await?;
    let webhooks = webhook::list(&app, &call.caller).await?;
    Ok(Json(OverviewOut {
        base_url: app.config.public_base_url.clone(),
        docs_url: format!("{}/docs", app.config.public_base_url),
        agents_published: standing.agents_used,
        agents_limit: standing.plan.agents,
        api_keys: keys.len(),
        webhooks: webhooks.len(),
        webhooks_active: webhooks.iter().filter(|webhook| webhook.is_active).count(),
        messages_used_current_period: standing.allowance.count(),
        events: DOCUMENTED.iter().map(|event| (*event).to_owned()).collect(),
    }))
}

/// A key to make.
#[derive(Debug, Deserialize, JsonSchema)]
struct ApiKeyIn {
    /// 1 to 60 characters.
    name: String,
    /// What it may do; everything that a developer key can when absent.
    #[serde(default)]
    scopes: Option<Vec<String>>,
    /// When it ends by itself.
    #[serde(default)]
    expires_at: Option<Time>,
}

/// A key.
#[derive(Debug, Serialize, JsonSchema)]
struct ApiKeyOut {
    id: Int<ApiKey>,
    name: String,
    /// The first characters, to tell keys apart.
    prefix: String,
    scopes: Vec<String>,
    created_at: Time,
    expires_at: Option<Time>,
}

/// A new key.
#[derive(Debug, Serialize, JsonSchema)]
struct NewApiKeyOut {
    #[serde(flatten)]
    listed: ApiKeyOut,
    /// The key itself. It is shown here and never again.
    key: String,
}

impl From<ApiKey> for ApiKeyOut {
    fn from(key: ApiKey) -> Self {
        Self {
            id: key.id.into(),
            name: key.name,
            prefix: key.prefix,
            scopes: key.scopes,
            created_at: key.created_at,
            expires_at: key.expires_at,
        }
    }
}

impl From<Minted> for NewApiKeyOut {
    fn from(minted: Minted) -> Self {
        Self { key: minted.raw.expose().to_owned(), listed: minted.key.into() }
    }
}

async fn list_api_keys(State(app): State<App>, call: Call) -> Result<Json<ListOut<ApiKeyOut>>> {
    let keys = api_key::list(&app, &call.caller).await?;
    Ok(Json(ListOut::whole(keys.into_iter().map(ApiKeyOut::from).collect())))
}

async fn create_api_key(
    State(app): State<App>,
    call: Call,
    Json(body): Json<ApiKeyIn>,
) -> Result<Created<NewApiKeyOut>> {
    let command = Mint { name: body.name, scopes: body.scopes, expires_at: body.expires_at };
    call.run(&app, || api_key::mint(&app, &call.caller, &command), NewApiKeyOut::from).await
}

async fn revoke_api_key(State(app): State<App>, call: Call, Path(id): Path<Int<ApiKey>>) -> Result<NoContent> {
    call.run(&app, || api_key::revoke(&app, &call.caller, id.0), |()| ()).await
}

/// A webhook to register.
#[derive(Debug, Deserialize, JsonSchema)]
struct WebhookIn {
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
struct WebhookPatch {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    url: Option<String>,
    /// Null means all events; absent leaves them.
    #[serde(default)]
    events: shared::kernel::Patch<Vec<String>>,
    #[serde(default)]
    is_active: Option<bool>,
}

/// A webhook.
#[derive(Debug, Serialize, JsonSchema)]
struct WebhookOut {
    id: Int<Webhook>,
    name: String,
    url: String,
    /// Null means all events.
    events: Option<Vec<String>>,
    is_active: bool,
    /// Why we switched it off, if we did.
    disabled_reason: Option<String>,
    /// The first characters of its secret.
    secret_prefix: String,
    last_delivery_at: Option<Time>,
    last_delivery_status: Option<DeliveryStatus>,
    created_at: Time,
    updated_at: Time,
}

/// A new webhook.
#[derive(Debug, Serialize, JsonSchema)]
struct NewWebhookOut {
    #[serde(flatten)]
    listed: WebhookOut,
    /// What its deliveries are signed with. It is shown here and never again.
    secret: String,
}

impl From<Webhook> for WebhookOut {
    fn from(webhook: Webhook) -> Self {
        Self {
            id: webhook.id.into(),
            name: webhook.name,
            url: webhook.url,
            events: webhook.events,
            is_active: webhook.is_active,
            disabled_reason: webhook.disabled_reason,
            secret_prefix: webhook.secret_prefix,
            last_delivery_at: webhook.last_delivery_at,
            last_delivery_status: webhook.last_delivery_status,
            created_at: webhook.created_at,
            updated_at: webhook.updated_at,
        }
    }
}

impl From<webhook::Created> for NewWebhookOut {
    fn from(created: webhook::Created) -> Self {
        Self { secret: created.secret.expose().to_owned(), listed: created.webhook.into() }
    }
}

impl From<WebhookPatch> for webhook::Changes {
    fn from(body: WebhookPatch) -> Self {
        let events = match body.events {
            shared::kernel::Patch::Keep => None,
            shared::kernel::Patch::Clear => Some(None),
            shared::kernel::Patch::Set(events) => Some(Some(events)),
        };
        Self { name: body.name, url: body.url, events, is_active: body.is_active }
    }
}

async fn list_webhooks(State(app): State<App>, call: Call) -> Result<Json<ListOut<WebhookOut>>> {
    let webhooks = webhook::list(&app, &call.caller).await?;
    Ok(Json(ListOut::whole(webhooks.into_iter().map(WebhookOut::from).collect())))
}

async fn create_webhook(
    State(app): State<App>,
    call: Call,
    Json(body): Json<WebhookIn>,
) -> Result<Created<NewWebhookOut>> {
    let (name, url) = (Some(body.name), Some(body.url));
    let command = webhook::Changes { name, url, events: Some(body.events), is_active: body.is_active };
    call.run(&app, || webhook::create(&app, &call.caller, &command), NewWebhookOut::from).await
}

async fn find_webhook(State(app): State<App>, call: Call, Path(id): Path<Int<Webhook>>) -> Result<Json<WebhookOut>> {
    Ok(Json(webhook::get(&app, &call.caller, id.0).await?.into()))
}

async fn update_webhook(
    State(app): State<App>,
    call: Call,
    Path(id): Path<Int<Webhook>>,
    Json(body): Json<WebhookPatch>,
) -> Result<Done<WebhookOut>> {
    let changes = webhook::Changes::from(body);
    call.run(&app, || webhook::change(&app, &call.caller, id.0, &changes), WebhookOut::from).await
}

async fn delete_webhook(State(app): State<App>, call: Call, Path(id): Path<Int<Webhook>>) -> Result<NoContent> {
    call.run(&app, || webhook::delete(&app, &call.caller, id.0), |()| ()).await
}

/// How a test went.
#[derive(Debug, Serialize, JsonSchema)]
struct TestOut {
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

async fn test_webhook(State(app): State<App>, call: Call, Path(id): Path<Int<Webhook>>) -> Result<Json<TestOut>> {
    Ok(Json(webhook::test(&app, &call.caller, id.0).await?.into()))
}

/// A delivery.
#[derive(Debug, Serialize, JsonSchema)]
struct DeliveryOut {
    id: Uuid,
    webhook_id: Int<Webhook>,
    event_id: Uuid,
    event: String,
    status: DeliveryStatus,
    attempts: Vec<Attempt>,
    /// When the next attempt is due, if there is one.
    next_attempt_at: Option<Time>,
    /// The body, as it was sent.
    payload: Value,
    created_at: Time,
    updated_at: Time,
}

impl From<Delivery> for DeliveryOut {
    fn from(delivery: Delivery) -> Self {
        Self {
            id: delivery.id,
            webhook_id: delivery.webhook_id.into(),
            event_id: delivery.event_id,
            event: delivery.event,
            status: delivery.status,
            attempts: delivery.attempts,
            next_attempt_at: delivery.next_at,
            payload: serde_json::from_str(&delivery.payload).unwrap_or_default(),
            created_at: delivery.created_at,
            updated_at: delivery.updated_at,
        }
    }
}

const DELIVERIES: &str = "deliveries";

async fn list_deliveries(
    State(app): State<App>,
    call: Call,
    Path(id): Path<Int<Webhook>>,
    Query(query): Query<PageQuery>,
) -> Result<Json<ListOut<DeliveryOut>>> {
    let (after, limit) = query.read(DELIVERIES)?;
    let page = webhook::deliveries(&app, &call.caller, id.0, after.as_ref(), limit).await?;
    Ok(Json(ListOut::page(DELIVERIES, page.map(DeliveryOut::from))))
}

async fn retry_delivery(State(app): State<App>, call: Call, Path(id): Path<Uuid>) -> Result<Done<DeliveryOut>> {
    call.run(&app, || webhook::retry(&app, &call.caller, id), DeliveryOut::from).await
}

/// An event of your own.
#[derive(Debug, Deserialize, JsonSchema)]
struct EventIn {
    /// Its name; `custom.` is put in front unless it is there.
    event: String,
    /// Which of your agents it is about.
    #[serde(default)]
    agent_id: Option<Int<Agent>>,
    /// Anything, up to 32 KB.
    #[serde(default)]
    data: Map<String, Value>,
}

/// An event that was accepted.
#[derive(Debug, Serialize, JsonSchema)]
struct EventOut {
    /// As webhooks carry it in `x-chatia-event-id`.
    id: Uuid,
    /// As webhooks carry it in `x-chatia-event`; always starts with `custom.`.
    event: String,
}

impl From<Accepted> for EventOut {
    fn from(accepted: Accepted) -> Self {
        debug_assert!(accepted.event.starts_with(CUSTOM_PREFIX), "the use case names it in full");
        Self { id: accepted.id, event: accepted.event }
    }
}

async fn publish_event(State(app): State<App>, call: Call, Json(body): Json<EventIn>) -> Result<Created<EventOut>> {
    let command = Publish { event: body.event, agent_id: body.agent_id.map(|id| id.0), data: body.data };
    call.run(&app, || event::publish(&app, &call.caller, &command), EventOut::from).await
}
