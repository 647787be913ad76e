//! Delivering again: what an endpoint missed, or what its owner lost. An event goes out under its own id and with the
//! bytes that were sent before, so that a receiver that had it can tell.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Task, attempt};
use crate::access::Caller;
use crate::app::App;
use crate::domain::text::Checks;
use crate::domain::webhook::{Delivery, DeliveryStatus};
use crate::domain::{Event, Webhook, Workspace};
use crate::events::studio;
use crate::kernel::{Code, Cursor, Error, Id, Limit, Result, Time};
use crate::ports::queue::{Outgoing, QueueName};
use crate::store;
use crate::table::{Refusal, Unit, Versioned};

/// How far back a replay may reach: events are kept so long.
const REACH: Duration = store::outbox::KEPT;
/// How many events may be named at once.
const MAX_IDS: usize = 50;
/// The pause between two chunks of a long replay, so that it is no flood.
const PAUSE: Duration = Duration::from_secs(1);

/// A time to deliver again, and how far that has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// Whose.
    pub workspace_id: Id<Workspace>,
    /// To which endpoint.
    pub webhook_id: Id<Webhook>,
    /// From when on.
    pub since: Time,
    /// Until when.
    pub until: Time,
    /// Whether also what it has taken already.
    pub include_delivered: bool,
    /// Behind which event it goes on.
    #[serde(default)]
    pub after: Option<String>,
}

/// What is to be delivered again.
#[derive(Debug, Clone, Default)]
pub struct Replay {
    /// These events, also when they were delivered.
    pub event_ids: Vec<Uuid>,
    /// Everything from then on.
    pub since: Option<Time>,
    /// Until then; until now when absent.
    pub until: Option<Time>,
    /// Also what the endpoint has taken already.
    pub include_delivered: bool,
}

/// What was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// So many of the named events were queued.
    Events(usize),
    /// The time is worked off behind the scenes.
    Range(Range),
}

/// Delivers again, events by their ids or all of a time.
///
/// # Errors
/// `not_found`, `webhook.disabled` for an endpoint that is off, `validation_error`.
pub async fn begin(app: &App, caller: &Caller, webhook: Id<Webhook>, command: &Replay) -> Result<Begun> {
    let now = app.now();
    let mut checks = Checks::new();
    let one_way = command.event_ids.is_empty() == command.since.is_some();
    checks.ensure(one_way, "since", "invalid", "name either event_ids or since");
    checks.ensure(command.event_ids.len() <= MAX_IDS, "event_ids", "too_long", "event_ids may name 50 events");
    let (since, until) = (command.since.unwrap_or(now), command.until.unwrap_or(now).min(now));
    let reach = "since may lie up to 30 days back, and not behind until";
    checks.ensure(since >= now - REACH && since <= until, "since", "out_of_range", reach);
    checks.finish()?;
    let webhook = store::webhook::get(&app.table, caller.workspace_id, webhook).await?.body;
    if !webhook.is_active {
        return Err(Error::new(Code::WebhookDisabled));
    }
    if command.since.is_none() {
        let events = store::outbox::of_workspace(&app.table, caller.workspace_id, &command.event_ids).await?;
        return again(app, &webhook, &events, true).await.map(Begun::Events);
    }
    let (workspace_id, webhook_id) = (webhook.workspace_id, webhook.id);
    let include_delivered = command.include_delivered;
    let range = Range { workspace_id, webhook_id, since, until, include_delivered, after: None };
    let message = Outgoing::now(Task::Replay(range.clone()).to_json()?);
    app.queue.send(QueueName::Deliver, vec![message]).await?;
    Ok(Begun::Range(range))
}

/// Works off some events of a time, the oldest first, and queues the rest.
///
/// # Errors
/// When the table or the queue cannot be reached; the same events are then looked at again.
pub(super) async fn step(app: &App, range: &Range) -> Result<()> {
    let Some(webhook) = super::endpoint(app, range.workspace_id, range.webhook_id).await? else { return Ok(()) };
    let after = range.after.clone().map(|position| Cursor { position });
    let (times, limit) = ((range.since, range.until), Limit::new(None)?);
    let page = store::outbox::next_of_workspace(&app.table, range.workspace_id, times, after.as_ref(), limit).await?;
    again(app, &webhook, &page.items, range.include_delivered).await?;
    let Some(next) = page.next else { return Ok(()) };
    let rest = Task::Replay(Range { after: Some(next.position), ..range.clone() });
    app.queue.send(QueueName::Deliver, vec![Outgoing { body: rest.to_json()?, delay: PAUSE }]).await
}

/// Queues those of the events that the endpoint wants. Says how many that were.
async fn again(app: &App, webhook: &Webhook, events: &[Event], include_delivered: bool) -> Result<usize> {
    let is_wanted = |event: &&Event| studio::name(event).is_some_and(|name| webhook.wants(&name));
    let wanted: Vec<&Event> = events.iter().filter(is_wanted).collect();
    let ids: Vec<Uuid> = wanted.iter().map(|event| event.id).collect();
    let known = store::delivery::of_events(&app.table, webhook.workspace_id, webhook.id, &ids).await?;
    let mut known: HashMap<Uuid, _> = known.into_iter().map(|found| (found.body.event_id, found)).collect();
    let mut tasks = Vec::new();
    for event in wanted {
        let task = match known.remove(&event.id) {
            None => Some(Task::Deliver { webhook_id: webhook.id, event: event.clone(), deferred: 0 }),
            Some(found) => restart(app, found, include_delivered).await?,
        };
        tasks.extend(task);
    }
    let messages = tasks.iter().map(|task| task.to_json().map(Outgoing::now)).collect::<Result<Vec<_>>>()?;
    let count = messages.len();
    if count > 0 {
        app.queue.send(QueueName::Deliver, messages).await?;
    }
    Ok(count)
}

/// Starts a known delivery anew, unless it is under way or was taken.
async fn restart(app: &App, found: Versioned<Delivery>, include_delivered: bool) -> Result<Option<Task>> {
    let wanted = match found.body.status {
        DeliveryStatus::Failed => true,
        DeliveryStatus::Succeeded => include_delivered,
        DeliveryStatus::Pending => false,
    };
    if !wanted {
        return Ok(None);
    }
    let mut unit = Unit::new();
    let delivery = attempt::restart(&mut unit, found, app.now())?;
    match app.table.commit(unit).await {
        Ok(()) => Ok(Some(Task::attempt(&delivery))),
        Err(Refusal::Conditions(_)) => Ok(None),
        Err(refusal @ Refusal::Error(_)) => Err(refusal.into()),
    }
}
