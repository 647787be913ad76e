//! Webhook endpoints, trying them, and what was delivered.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use uuid::Uuid;

use super::deliver::Task;
use super::deliver::attempt::restart;
use super::deliver::lane::Lane;
use super::deliver::send::{Attempted, Parcel, send};
use super::{App, Draft};
use crate::access::Caller;
use crate::domain::text::Checks;
use crate::domain::webhook::{
    Delivery, DeliveryStatus, Dialect, Health, MAX_OVERLAP, MAX_PREVIOUS, PreviousSecret, Webhook,
};
use crate::events::studio;
use crate::kernel::{Code, Cursor, Error, Id, Limit, Page, Result, Secret};
use crate::ports::queue::{Outgoing, QueueName};
use crate::store;
use crate::store::delivery::Filter;
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
    /// How it fares.
    pub health: Health,
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
    let secret = new_secret(app);
    let webhook = Webhook {
        id,
        workspace_id: caller.workspace_id,
        dialect: Dialect::Studio,
        name,
        url,
        events,
        secret: app.seal(&Webhook::secret_place(caller.workspace_id, id), &secret).await?,
        secret_prefix: secret.expose()[..SECRET_PREFIX_CHARS].to_owned(),
        previous_secrets: Vec::new(),
        is_active: command.is_active.unwrap_or(true),
        disabled_reason: None,
        disabled_at: None,
        missed_since: None,
        created_at: now,
        updated_at: now,
    };
    let mut unit = Unit::new();
    store::webhook::create(&mut unit, &webhook)?;
    Ok(Draft::new(unit, Created { webhook, health: Health::default(), secret }))
}

fn new_secret(app: &App) -> Secret {
    Secret::new(format!("whsec_{}", STANDARD.encode(app.rng.bytes::<32>())))
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

/// Changes an endpoint. Switching it on again, and another address, forgive its failures; `missed_since` stays, so that
/// its owner can have what it missed replayed.
///
/// # Errors
/// `not_found`, `validation_error`.
pub async fn change(
    app: &App,
    caller: &Caller,
    webhook: Id<Webhook>,
    changes: &Changes,
) -> Result<Draft<(Webhook, Health)>> {
    let found = store::webhook::get(&app.table, caller.workspace_id, webhook).await?;
    let (mut webhook, v) = (found.body, found.v);
    let mut checks = Checks::new();
    if let Some(name) = &changes.name {
        webhook.name = checks.name("name", name, 120);
    }
    let old_url = webhook.url.clone();
    if let Some(url) = &changes.url {
        webhook.url = check_url(app, &mut checks, url);
    }
    if let Some(events) = &changes.events {
        webhook.events = check_events(&mut checks, events.clone());
    }
    checks.finish()?;
    let (mut unit, now) = (Unit::new(), app.now());
    let mut health = one_health(app, &webhook).await?;
    let mut is_forgiven = webhook.url != old_url;
    match changes.is_active {
        Some(true) if !webhook.is_active => {
            (webhook.is_active, webhook.disabled_reason, is_forgiven) = (true, None, true);
        }
        Some(false) if webhook.is_active => {
            (webhook.is_active, webhook.disabled_at) = (false, Some(now));
            webhook.missed_since = health.missed_since.or(Some(now));
        }
        _ => {}
    }
    if is_forgiven {
        if webhook.is_active {
            // Switched off, it has this already.
            webhook.missed_since = health.missed_since.or(webhook.missed_since);
        }
        store::webhook::forgive(&mut unit, webhook.workspace_id, webhook.id);
        (health.failing_since, health.missed_since) = (None, None);
    }
    webhook.forget_secrets(now);
    webhook.updated_at = now;
    store::webhook::replace(&mut unit, &webhook, v)?;
    Ok(Draft::new(unit, (webhook, health)))
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

/// Gives an endpoint a new secret. The one before it signs too for the time of `overlap`, so that receivers can change
/// theirs without a gap; those before that one, until their own time ends. Without overlap none of them signs any more.
///
/// # Errors
/// `not_found`, `validation_error` for an overlap of more than seven days.
pub async fn rotate(app: &App, caller: &Caller, webhook: Id<Webhook>, overlap: Duration) -> Result<Draft<Created>> {
    let mut checks = Checks::new();
    let message = "overlap_hours may be 0 to 168";
    checks.ensure(overlap <= MAX_OVERLAP, "overlap_hours", "out_of_range", message);
    checks.finish()?;
    let found = store::webhook::get(&app.table, caller.workspace_id, webhook).await?;
    let (mut webhook, v, now, secret) = (found.body, found.v, app.now(), new_secret(app));
    let sealed = app.seal(&Webhook::secret_place(webhook.workspace_id, webhook.id), &secret).await?;
    let old = PreviousSecret { secret: std::mem::replace(&mut webhook.secret, sealed), until: now + overlap };
    webhook.forget_secrets(now);
    webhook.previous_secrets.insert(0, old);
    webhook.previous_secrets.truncate(if overlap.is_zero() { 0 } else { MAX_PREVIOUS });
    secret.expose()[..SECRET_PREFIX_CHARS].clone_into(&mut webhook.secret_prefix);
    webhook.updated_at = now;
    let mut unit = Unit::new();
    store::webhook::replace(&mut unit, &webhook, v)?;
    let health = one_health(app, &webhook).await?;
    Ok(Draft::new(unit, Created { webhook, health, secret }))
}

/// The endpoints of the caller's workspace, oldest first, and how they fare.
///
/// # Errors
/// When the table cannot be read.
pub async fn list(app: &App, caller: &Caller) -> Result<Vec<(Webhook, Health)>> {
    let mut webhooks = store::webhook::all(&app.table, caller.workspace_id).await?;
    let now = app.now();
    webhooks.iter_mut().for_each(|webhook| webhook.forget_secrets(now));
    let ids: Vec<_> = webhooks.iter().map(|webhook| webhook.id).collect();
    let health = store::webhook::health(&app.table, caller.workspace_id, &ids).await?;
    Ok(webhooks.into_iter().zip(health).collect())
}

/// One endpoint, and how it fares.
///
/// # Errors
/// `not_found`.
pub async fn get(app: &App, caller: &Caller, webhook: Id<Webhook>) -> Result<(Webhook, Health)> {
    let mut webhook = store::webhook::get(&app.table, caller.workspace_id, webhook).await?.body;
    webhook.forget_secrets(app.now());
    let health = one_health(app, &webhook).await?;
    Ok((webhook, health))
}

async fn one_health(app: &App, webhook: &Webhook) -> Result<Health> {
    let health = store::webhook::health(&app.table, webhook.workspace_id, &[webhook.id]).await?;
    Ok(health.into_iter().next().unwrap_or_default())
}

/// Sends a test event at once, once, and says how it went. Nothing is stored. It takes a place on the way to the endpoint
/// as deliveries do.
///
/// # Errors
/// `not_found`; `rate_limited` when all places are taken or the receiver asked us to wait.
pub async fn test(app: &App, caller: &Caller, webhook: Id<Webhook>) -> Result<Attempted> {
    let webhook = store::webhook::get(&app.table, caller.workspace_id, webhook).await?.body;
    let event_id = app.ids().uuid_of(caller.workspace_id);
    let payload = serde_json::json!({
        "id": event_id,
        "type": studio::TEST,
        "created_at": app.now(),
        "agent_id": null,
        "data": {"message": "This is a test event.", "webhook_id": webhook.id.int()},
    });
    let payload = payload.to_string();
    let parcel = Parcel { event_id, event: studio::TEST, attempt: 1, payload: &payload };
    match Lane::enter(app, QueueName::DeliverSlow, &webhook).await? {
        Lane::Open(place) => {
            let attempted = send(app, &webhook, parcel).await;
            place.leave().await;
            attempted
        }
        Lane::Slow => Err(Error::internal("slow endpoints are served here")),
        Lane::Closed { wait } => {
            let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).max(5);
            let message = "Other calls to this webhook are under way, or its receiver asked us to wait.";
            Err(Error::with_message(Code::RateLimited, message).retry_after(seconds))
        }
    }
}

/// A page of an endpoint's deliveries, newest first.
///
/// # Errors
/// `not_found`, `validation_error` when `since` lies behind `until`.
pub async fn deliveries(
    app: &App,
    caller: &Caller,
    webhook: Id<Webhook>,
    filter: &Filter,
    after: Option<&Cursor>,
    limit: Limit,
) -> Result<Page<Delivery>> {
    let mut checks = Checks::new();
    checks.period(filter.since, filter.until);
    checks.finish()?;
    store::webhook::get(&app.table, caller.workspace_id, webhook).await?;
    store::delivery::page(&app.table, caller.workspace_id, webhook, filter, after, limit).await
}

/// One delivery with every attempt.
///
/// # Errors
/// `not_found`, also when its endpoint was deleted.
pub async fn delivery(app: &App, caller: &Caller, delivery: Uuid) -> Result<Delivery> {
    Ok(store::delivery::by_id(&app.table, caller.workspace_id, delivery).await?.body)
}

/// Starts a failed delivery anew: the same bytes, all tries again. So also one whose first attempt came to nothing, since
/// its sender stopped.
///
/// # Errors
/// `not_found` (also when its endpoint was deleted), `webhook.disabled`, `delivery.not_failed`.
pub async fn retry(app: &App, caller: &Caller, delivery: Uuid) -> Result<Draft<Delivery>> {
    let found = store::delivery::by_id(&app.table, caller.workspace_id, delivery).await?;
    let webhook = store::webhook::get(&app.table, caller.workspace_id, found.body.webhook_id).await?.body;
    if !webhook.is_active {
        return Err(Error::new(Code::WebhookDisabled));
    }
    let is_lost = found.body.is_unwatched() && found.body.is_lost(app.now());
    if found.body.status != DeliveryStatus::Failed && !is_lost {
        return Err(Error::new(Code::DeliveryNotFailed));
    }
    let mut unit = Unit::new();
    let delivery = restart(&mut unit, found, None, app.now())?;
    let task = Outgoing::now(Task::attempt(&delivery).to_json()?);
    Ok(Draft { unit, value: delivery, then: vec![(QueueName::Deliver, task)] })
}
