//! `/api/developers`: keys, webhooks and the owner's own events.

use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use shared::app::App;
use shared::app::api_key::{self, Mint, Minted};
use shared::app::billing;
use shared::app::event::{self, Accepted, Publish};
use shared::app::webhook;
use shared::domain::{Agent, ApiKey, Event};
use shared::events::studio::{self, CUSTOM_PREFIX, DOCUMENTED};
use shared::http::{Call, Created, Json, NoContent, Path, Query};
use shared::kernel::{Int, Page, Result, Time};
use uuid::Uuid;

use crate::webhooks::{
    create_webhook, delete_webhook, find_delivery, find_replay, find_webhook, list_deliveries, list_webhooks,
    replay_events, retry_delivery, rotate_webhook, stop_replay, test_webhook, update_webhook,
};
use crate::wire::{ListOut, PageQuery};

shared::ops! {
    /// What a developer has here: counts, event names, addresses.
    GET "/api/developers/overview" => developer_overview, [User Developer] Viewer "developers:read" General Any Known Unaudited Safe;
    /// List your keys, without their texts.
    GET "/api/developers/api-keys" => list_api_keys, [User Developer] Editor "keys:read" General Any Known Unaudited Safe + private;
    /// Make a key.
    ///
    /// The answer is the only place that shows it. Keys are made by people: a key cannot make another.
    POST "/api/developers/api-keys" => create_api_key, [User] Admin "" General Any Known Audited Keyed also [409];
    /// Revoke a key at once.
    DELETE "/api/developers/api-keys/{id}" => revoke_api_key, [User] Admin "" General Any Known Audited Keyed;
    /// List your webhooks.
    GET "/api/developers/webhooks" => list_webhooks, [User Developer] Viewer "webhooks:manage" General Any Known Unaudited Safe;
    /// Register a webhook.
    ///
    /// The answer is the only place that shows its secret. Without `events` it is told of all of them.
    POST "/api/developers/webhooks" => create_webhook, [User Developer] Editor "webhooks:manage" General Any Known Audited Keyed also [409];
    /// One webhook.
    GET "/api/developers/webhooks/{id}" => find_webhook, [User Developer] Viewer "webhooks:manage" General Any Known Unaudited Safe;
    /// Change a webhook.
    PATCH "/api/developers/webhooks/{id}" => update_webhook, [User Developer] Editor "webhooks:manage" General Any Known Audited Keyed;
    /// Remove a webhook.
    DELETE "/api/developers/webhooks/{id}" => delete_webhook, [User Developer] Editor "webhooks:manage" General Any Known Audited Keyed;
    /// Send a test event to a webhook, once, and say how it went.
    POST "/api/developers/webhooks/{id}/test" => test_webhook, [User Developer] Editor "webhooks:manage" General Any Known Unaudited Own + assisted;
    /// Give a webhook a new secret.
    ///
    /// The answer is the only place that shows it. The old secret signs too for 24 hours (`overlap_hours`, 0 to 168): in
    /// `x-chatia-signature-previous`, and as a second signature in `webhook-signature`.
    POST "/api/developers/webhooks/{id}/rotate" => rotate_webhook, [User Developer] Editor "webhooks:manage" General Any Known Audited Keyed;
    /// What was delivered to a webhook, newest first, with every attempt.
    ///
    /// By `status`, `event` and the time of the event. A page may be short although `next_cursor` leads on.
    GET "/api/developers/webhooks/{id}/deliveries" => list_deliveries, [User Developer] Viewer "webhooks:manage" General Any Known Unaudited Safe;
    /// Deliver events again: by their ids, or all of a time up to 30 days back.
    ///
    /// Of a time, what the webhook has not taken yet, or all of it with `include_delivered`. It goes on behind the scenes,
    /// one replay to a webhook at a time. Event ids and bodies stay what they were.
    POST "/api/developers/webhooks/{id}/replay" => replay_events, [User Developer] Editor "webhooks:manage" General Any Known Audited Keyed also [409] + assisted;
    /// The last replay to a webhook, and how far it has come.
    GET "/api/developers/webhooks/{id}/replay" => find_replay, [User Developer] Viewer "webhooks:manage" General Any Known Unaudited Safe;
    /// Stop the replay to a webhook, if one runs.
    ///
    /// What it has queued by then is delivered all the same.
    DELETE "/api/developers/webhooks/{id}/replay" => stop_replay, [User Developer] Editor "webhooks:manage" General Any Known Audited Keyed + assisted;
    /// One delivery: its body, and every attempt with what was answered.
    GET "/api/developers/webhooks/deliveries/{id}" => find_delivery, [User Developer] Viewer "webhooks:manage" General Any Known Unaudited Safe;
    /// Deliver a failed delivery again: the same bytes, all attempts anew.
    POST "/api/developers/webhooks/deliveries/{id}/retry" => retry_delivery, [User Developer] Editor "webhooks:manage" General Any Known Audited Keyed also [409] + assisted;
    /// What happened here in the last 30 days, newest first: the events that webhooks are told of.
    ///
    /// A page may be short although `next_cursor` leads on.
    GET "/api/developers/events" => list_events, [User Developer] Viewer "developers:read" General Any Known Unaudited Safe;
    /// Tell your webhooks of an event of your own.
    ///
    /// It arrives as `custom.<event>` with `data` as you gave it, up to 32 KB.
    POST "/api/developers/events" => publish_event, [User Developer] Editor "events:write" General Any Known Unaudited Keyed also [404];
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
        webhooks_active: webhooks.iter().filter(|(webhook, _)| webhook.is_active).count(),
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

/// An event that happened.
#[derive(Debug, Serialize, JsonSchema)]
struct LoggedEventOut {
    id: Uuid,
    event: String,
    agent_id: Option<Int<Agent>>,
    created_at: Time,
}

impl LoggedEventOut {
    /// Nothing for events of the house, which no webhook is told of.
    fn of(event: &Event) -> Option<Self> {
        let name = studio::name(event)?;
        Some(Self { id: event.id, event: name, agent_id: event.agent_id.map(Int), created_at: event.at })
    }
}

/// Which events.
#[derive(Debug, Deserialize, JsonSchema)]
struct EventsQuery {
    /// From then on; 30 days back when absent.
    #[serde(default)]
    since: Option<Time>,
    /// Until then; until now when absent.
    #[serde(default)]
    until: Option<Time>,
    /// `next_cursor` of the page before.
    #[serde(default)]
    cursor: Option<String>,
    /// 1 to 100; 20 when absent.
    #[serde(default)]
    limit: Option<u32>,
}

const EVENTS: &str = "events";

async fn list_events(
    State(app): State<App>,
    call: Call,
    Query(query): Query<EventsQuery>,
) -> Result<Json<ListOut<LoggedEventOut>>> {
    let (after, limit) = PageQuery { cursor: query.cursor, limit: query.limit }.read(EVENTS)?;
    let page = event::log(&app, &call.caller, (query.since, query.until), after.as_ref(), limit).await?;
    let items = page.items.iter().filter_map(LoggedEventOut::of).collect();
    Ok(Json(ListOut::page(EVENTS, Page { items, next: page.next, total: None })))
}
