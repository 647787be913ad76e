//! Webhook endpoints, trying them, and what was delivered.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use uuid::Uuid;

use super::deliver::{self, Attempted};
use super::{App, Draft};
use crate::access::Caller;
use crate::domain::text::Checks;
use crate::domain::webhook::{Delivery, DeliveryStatus, Dialect, Webhook};
use crate::events::studio;
use crate::kernel::{Code, Cursor, Error, Id, Limit, Page, Result, Secret};
use crate::ports::queue::{Outgoing, QueueName};
use crate::store;
use crate::table::Unit;

/// What a caller says of an endpoint. At creation `name` and `url` must be there; in a change absent means as it is.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// What its owner calls it.
    pub name: Option<String>,
    /// Where it listens.
    pub url: Option<String>,
    /// The events that it wants; `Some(None)` means all of them.
    pub events: Option<Option<Vec<String>>>,
    /// Whether it is told at all.
    pub is_active: Option<bool>,
}

/// A new endpoint: the only time that its secret is shown.
#[derive(Debug, Clone)]
pub struct Created {
    /// The endpoint as it is listed.
    pub webhook: Webhook,
    /// `whsec_…`.
    pub secret: Secret,
}

const SECRET_PREFIX_CHARS: usize = 12;

/// Makes an endpoint.
///
/// # Errors
/// `validation_error`, `webhook.limit_reached`.
pub async fn create(app: &App, caller: &Caller, command: &Changes) -> Result<Draft<Created>> {
    let mut checks = Checks::new();
    let name = checks.name("name", command.name.as_deref().unwrap_or_default(), 120);
    let url = check_url(app, &mut checks, command.url.as_deref().unwrap_or_default());
    let events = check_events(&mut checks, command.events.clone().flatten());
    checks.finish()?;
    let (id, now) = (app.ids().id(), app.now());
    let secret = Secret::new(format!("whsec_{}", STANDARD.encode(app.rng.bytes::<32>())));
    let webhook = Webhook {
        id,
        workspace_id: caller.workspace_id,
        dialect: Dialect::Studio,
        name,
        url,
        events,
        secret: app.seal(&Webhook::secret_place(caller.workspace_id, id), &secret).await?,
        secret_prefix: secret.expose()[..SECRET_PREFIX_CHARS].to_owned(),
        is_active: command.is_active.unwrap_or(true),
        disabled_reason: None,
        last_delivery_at: None,
        last_delivery_status: None,
        created_at: now,
        updated_at: now,
    };
    let mut unit = Unit::new();
    store::webhook::create(&mut unit, &webhook)?;
    Ok(Draft::new(unit, Created { webhook, secret }))
}

fn check_url(app: &App, checks: &mut Checks, url: &str) -> String {
    let url = checks.required("url", url, 2_048);
    if !url.is_empty()
        && let Err(error) = app.egress.check_url(&url)
    {
        checks.fail("url", "url_refused", error.message());
    }
    url
}

fn check_events(checks: &mut Checks, events: Option<Vec<String>>) -> Option<Vec<String>> {
    let events = events?;
    checks.ensure(
        !events.is_empty() && events.len() <= 50,
        "events",
        "invalid",
        "events must name 1 to 50 events, or be null for all",
    );
    for event in &events {
        let known = studio::is_subscribable(event);
        let message =
            format!("there is no event {event}; known are {} and custom.<name>", studio::DOCUMENTED.join(", "));
        checks.ensure(known, "events", "unknown_event", &message);
    }
    Some(events)
}

/// Changes an endpoint. Switching it on again clears the reason for which it was switched off.
///
/// # Errors
/// `not_found`, `validation_error`.
pub async fn change(app: &App, caller: &Caller, webhook: Id<Webhook>, changes: &Changes) -> Result<Draft<Webhook>> {
    let found = store::webhook::get(&app.table, caller.workspace_id, webhook).await?;
    let (mut webhook, v) = (found.body, found.v);
    let mut checks = Checks::new();
    if let Some(name) = &changes.name {
        webhook.name = checks.name("name", name, 120);
    }
    if let Some(url) = &changes.url {
        webhook.url = check_url(app, &mut checks, url);
    }
    if let Some(events) = &changes.events {
        webhook.events = check_events(&mut checks, events.clone());
    }
    if let Some(is_active) = changes.is_active {
        webhook.is_active = is_active;
        webhook.disabled_reason = webhook.disabled_reason.filter(|_| !is_active);
    }
    checks.finish()?;
    webhook.updated_at = app.now();
    let mut unit = Unit::new();
    store::webhook::replace(&mut unit, &webhook, v)?;
    Ok(Draft::new(unit, webhook))
}

/// Removes an endpoint.
///
/// # Errors
/// `not_found`.
pub async fn delete(app: &App, caller: &Caller, webhook: Id<Webhook>) -> Result<Draft<()>> {
    store::webhook::get(&app.table, caller.workspace_id, webhook).await?;
    let mut unit = Unit::new();
    store::webhook::delete(&mut unit, caller.workspace_id, webhook);
    Ok(Draft::new(unit, ()))
}

/// The endpoints of the caller's workspace, oldest first.
///
/// # Errors
/// When the table cannot be read.
pub async fn list(app: &App, caller: &Caller) -> Result<Vec<Webhook>> {
    store::webhook::all(&app.table, caller.workspace_id).await
}

/// One endpoint.
///
/// # Errors
/// `not_found`.
pub async fn get(app: &App, caller: &Caller, webhook: Id<Webhook>) -> Result<Webhook> {
    Ok(store::webhook::get(&app.table, caller.workspace_id, webhook).await?.body)
}

/// Sends a test event at once, once, and says how it went. Nothing is stored.
///
/// # Errors
/// `not_found`.
pub async fn test(app: &App, caller: &Caller, webhook: Id<Webhook>) -> Result<Attempted> {
    let webhook = get(app, caller, webhook).await?;
    let id = app.ids().uuid_of(caller.workspace_id);
    let payload = serde_json::json!({
        "id": id,
        "type": studio::TEST,
        "created_at": app.now(),
        "agent_id": null,
        "data": {"message": "This is a test event.", "webhook_id": webhook.id.int()},
    });
    deliver::send(app, &webhook, id, studio::TEST, &payload.to_string()).await
}

/// A page of an endpoint's deliveries, newest first.
///
/// # Errors
/// `not_found`.
pub async fn deliveries(
    app: &App,
    caller: &Caller,
    webhook: Id<Webhook>,
    after: Option<&Cursor>,
    limit: Limit,
) -> Result<Page<Delivery>> {
    store::webhook::get(&app.table, caller.workspace_id, webhook).await?;
    store::webhook::deliveries(&app.table, caller.workspace_id, webhook, after, limit).await
}

/// Starts a failed delivery anew: the same bytes, all attempts again.
///
/// # Errors
/// `not_found`, `delivery.not_failed`.
pub async fn retry(app: &App, caller: &Caller, delivery: Uuid) -> Result<Draft<Delivery>> {
    let found = store::webhook::delivery_by_id(&app.table, caller.workspace_id, delivery).await?;
    let (mut delivery, v) = (found.body, found.v);
    if delivery.status != DeliveryStatus::Failed {
        return Err(Error::new(Code::DeliveryNotFailed));
    }
    let now = app.now();
    delivery.status = DeliveryStatus::Pending;
    delivery.attempt = 0;
    delivery.claimed_until = 0;
    // Due now: should the message that goes after it be lost, the clock finds the delivery.
    delivery.next_at = Some(now);
    delivery.updated_at = now;
    let mut unit = Unit::new();
    store::webhook::replace_delivery(&mut unit, &delivery, v)?;
    let task = Outgoing::now(deliver::Task::attempt(&delivery).to_json()?);
    Ok(Draft { unit, value: delivery, then: vec![(QueueName::Deliver, task)] })
}
