//! Delivering again: what an endpoint missed, or what its owner lost. An event goes out under its own id and with the
//! bytes that were sent before, so that a receiver that had it can tell.
//!
//! A replay is stored, one for each endpoint, and worked off a chunk at a time by messages that name its position. Only
//! the message of the present position does work, and it moves the replay on before it sends the next one; a delivery
//! that was taken up is marked. So a message that comes twice, or again after a crash, does nothing twice.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::attempt::News;
use super::{Task, attempt};
use crate::access::Caller;
use crate::app::{App, Draft};
use crate::domain::text::Checks;
use crate::domain::webhook::{Delivery, DeliveryStatus, Replay, ReplayStatus};
use crate::domain::{Event, Webhook, Workspace};
use crate::events::studio;
use crate::kernel::{Code, Cursor, Error, Id, Limit, Result, Time};
use crate::ports::queue::{Outgoing, QueueName};
use crate::store;
use crate::store::timer::Timer;
use crate::table::{Refusal, Unit, Versioned};

/// How far back a replay may reach: events are kept so long.
const REACH: Duration = store::outbox::KEPT;
/// How many events may be named at once.
const MAX_IDS: usize = 50;
/// The pause between two chunks of a long replay, so that it is no flood.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a replay may stand still before the clock sends its message again.
const WATCH: Duration = Duration::from_secs(15 * 60);

/// One step of a replay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Whose.
    pub workspace_id: Id<Workspace>,
    /// To which endpoint.
    pub webhook_id: Id<Webhook>,
    /// Of which replay.
    pub replay_id: Uuid,
    /// Behind which position.
    pub position: String,
}

/// What is to be delivered again.
#[derive(Debug, Clone, Default)]
pub struct Begin {
    /// These events, also when they were delivered.
    pub event_ids: Vec<Uuid>,
    /// Everything from then on.
    pub since: Option<Time>,
    /// Until then; until now when absent.
    pub until: Option<Time>,
    /// Also what the endpoint has taken already.
    pub include_delivered: bool,
}

/// Begins to deliver again, events by their ids or all of a time. One replay to an endpoint runs at a time.
///
/// # Errors
/// `not_found`, `webhook.disabled` for an endpoint that is off, `replay.running`, `validation_error`.
pub async fn begin(app: &App, caller: &Caller, webhook: Id<Webhook>, command: &Begin) -> Result<Draft<Replay>> {
    let now = app.now();
    let (since, until) = check(command, now)?;
    let webhook = store::webhook::get(&app.table, caller.workspace_id, webhook).await?.body;
    if !webhook.is_active {
        return Err(Error::new(Code::WebhookDisabled));
    }
    let last = store::replay::last(&app.table, webhook.workspace_id, webhook.id).await?;
    if last.as_ref().is_some_and(|last| last.body.is_in_the_way(now)) {
        return Err(Error::new(Code::ReplayRunning));
    }
    let mut once = HashSet::new();
    let replay = Replay {
        id: app.ids().uuid_of(webhook.workspace_id),
        workspace_id: webhook.workspace_id,
        webhook_id: webhook.id,
        event_ids: command.event_ids.iter().copied().filter(|id| once.insert(*id)).collect(),
        since,
        until,
        include_delivered: command.include_delivered || since.is_none(),
        after: String::new(),
        before: None,
        queued: 0,
        status: ReplayStatus::Running,
        started_at: now,
        moved_at: now,
        ended_at: None,
    };
    let mut unit = Unit::new();
    store::webhook::check_active(&mut unit, webhook.workspace_id, webhook.id);
    store::replay::begin(&mut unit, &replay, last.map(|last| last.v))?;
    store::timer::set(&mut unit, &Timer::watch_replay(&replay, now + WATCH))?;
    let then = vec![(QueueName::Deliver, message(&replay, Duration::ZERO)?)];
    Ok(Draft { unit, value: replay, then })
}

/// The time of a replay, if it is of one.
fn check(command: &Begin, now: Time) -> Result<(Option<Time>, Option<Time>)> {
    let mut checks = Checks::new();
    let one_way = command.event_ids.is_empty() == command.since.is_some();
    checks.ensure(one_way, "since", "invalid", "name either event_ids or since");
    checks.ensure(command.event_ids.len() <= MAX_IDS, "event_ids", "too_long", "event_ids may name 50 events");
    let until = command.since.map(|_| command.until.unwrap_or(now).min(now));
    let reach = "since may lie up to 30 days back, and not behind until";
    let within = command.since.zip(until).is_none_or(|(since, until)| since >= now - REACH && since <= until);
    checks.ensure(within, "since", "out_of_range", reach);
    checks.finish()?;
    Ok((command.since, until))
}

/// The last replay to an endpoint.
///
/// # Errors
/// `not_found`, also when there was none yet.
pub async fn last(app: &App, caller: &Caller, webhook: Id<Webhook>) -> Result<Replay> {
    let found = store::replay::last(&app.table, caller.workspace_id, webhook).await?;
    found.map(|found| found.body).ok_or_else(Error::not_found)
}

/// Stops the replay to an endpoint, if one runs. What it has queued by then is delivered all the same.
///
/// # Errors
/// `not_found` when there was none yet.
pub async fn stop(app: &App, caller: &Caller, webhook: Id<Webhook>) -> Result<Draft<()>> {
    let (replay, mut unit) = (last(app, caller, webhook).await?, Unit::new());
    if replay.is_running() {
        store::replay::stop(&mut unit, &replay, app.now());
    }
    Ok(Draft::new(unit, ()))
}

/// Looks after a replay: sends its message again when it stands still, since that may be lost, and stops it when that
/// does not help. Says when to look next; `None` when it has ended.
///
/// # Errors
/// When the table or the queue cannot be reached.
pub async fn watch(app: &App, workspace: Id<Workspace>, webhook: Id<Webhook>, replay: Uuid) -> Result<Option<Timer>> {
    let now = app.now();
    let Some(replay) = running(app, workspace, webhook, replay).await? else { return Ok(None) };
    if !replay.is_in_the_way(now) {
        return end(app, &replay).await.map(|()| None);
    }
    if now.since(replay.moved_at) >= WATCH {
        app.queue.send(QueueName::Deliver, vec![message(&replay, Duration::ZERO)?]).await?;
    }
    Ok(Some(Timer::watch_replay(&replay, now + WATCH)))
}

async fn running(app: &App, workspace: Id<Workspace>, webhook: Id<Webhook>, replay: Uuid) -> Result<Option<Replay>> {
    let found = store::replay::last(&app.table, workspace, webhook).await?.map(|found| found.body);
    Ok(found.filter(|found| found.id == replay && found.is_running()))
}

/// The message of the position that a replay has come to.
fn message(replay: &Replay, delay: Duration) -> Result<Outgoing> {
    let step = Step {
        workspace_id: replay.workspace_id,
        webhook_id: replay.webhook_id,
        replay_id: replay.id,
        position: replay.after.clone(),
    };
    Ok(Outgoing { body: Task::Replay(step).to_json()?, delay })
}

/// Works off one chunk of a replay, moves it on, and sends the next message.
///
/// # Errors
/// When the table or the queue cannot be reached; the message then comes again and goes on where it was.
pub(super) async fn step(app: &App, step: &Step) -> Result<()> {
    let found = running(app, step.workspace_id, step.webhook_id, step.replay_id).await?;
    let Some(mut replay) = found else { return Ok(()) };
    if replay.before.as_ref() == Some(&step.position) {
        // It was moved on, and then the next message may not have been sent.
        return app.queue.send(QueueName::Deliver, vec![message(&replay, PAUSE)?]).await;
    }
    if replay.after != step.position {
        return Ok(());
    }
    let Some(webhook) = super::endpoint(app, step.workspace_id, step.webhook_id).await? else {
        return end(app, &replay).await;
    };
    let (events, next) = chunk(app, &replay).await?;
    let queued = again(app, &webhook, &replay, &events).await?;
    let is_moved = store::replay::advance(&app.table, &replay, queued, next.as_deref(), app.now()).await?;
    let Some(next) = next.filter(|_| is_moved) else { return Ok(()) };
    replay.after = next;
    app.queue.send(QueueName::Deliver, vec![message(&replay, PAUSE)?]).await
}

/// Stops a replay that cannot go on.
async fn end(app: &App, replay: &Replay) -> Result<()> {
    let mut unit = Unit::new();
    store::replay::stop(&mut unit, replay, app.now());
    match app.commit(unit).await {
        Ok(()) | Err(Refusal::Conditions(_)) => Ok(()),
        Err(Refusal::Error(error)) => Err(error),
    }
}

/// The next events of a replay, the oldest first, and the position behind them when there are more.
async fn chunk(app: &App, replay: &Replay) -> Result<(Vec<Event>, Option<String>)> {
    let Some(times) = replay.since.zip(replay.until) else {
        let events = store::outbox::of_workspace(&app.table, replay.workspace_id, &replay.event_ids).await?;
        return Ok((events, None));
    };
    let after = Some(&replay.after).filter(|after| !after.is_empty()).cloned().map(|position| Cursor { position });
    let (workspace, limit) = (replay.workspace_id, Limit::new(None)?);
    let page = store::outbox::next_of_workspace(&app.table, workspace, times, after.as_ref(), limit).await?;
    Ok((page.items, page.next.map(|next| next.position)))
}

/// Queues those of the events that the endpoint wants. Says how many that are, those of an earlier try included.
async fn again(app: &App, webhook: &Webhook, replay: &Replay, events: &[Event]) -> Result<u64> {
    let is_wanted = |event: &&Event| studio::name(event).is_some_and(|name| webhook.wants(&name));
    let wanted: Vec<&Event> = events.iter().filter(is_wanted).collect();
    let ids: Vec<Uuid> = wanted.iter().map(|event| event.id).collect();
    let known = store::delivery::of_events(&app.table, webhook.workspace_id, webhook.id, &ids).await?;
    let mut known: HashMap<Uuid, _> = known.into_iter().map(|found| (found.body.event_id, found)).collect();
    let (mut tasks, mut count) = (Vec::new(), 0);
    for event in wanted {
        let task = match known.remove(&event.id) {
            None => Some(Task::first(webhook.id, News { event, replay: Some(replay.id) })),
            Some(found) if found.body.replay == Some(replay.id) => {
                count += 1;
                None
            }
            // Its sender stopped, and its message may be gone.
            Some(found) if found.body.is_unwatched() => Some(Task::first(webhook.id, News { event, replay: None })),
            Some(found) => restart(app, found, replay).await?,
        };
        tasks.extend(task);
    }
    let messages = tasks.iter().map(|task| task.to_json().map(Outgoing::now)).collect::<Result<Vec<_>>>()?;
    count += u64::try_from(messages.len()).unwrap_or(u64::MAX);
    if !messages.is_empty() {
        app.queue.send(QueueName::Deliver, messages).await?;
    }
    Ok(count)
}

/// Starts a known delivery anew, unless it is under way or was taken.
async fn restart(app: &App, found: Versioned<Delivery>, replay: &Replay) -> Result<Option<Task>> {
    let wanted = match found.body.status {
        DeliveryStatus::Failed => true,
        DeliveryStatus::Succeeded => replay.include_delivered,
        DeliveryStatus::Pending => false,
    };
    if !wanted {
        return Ok(None);
    }
    let mut unit = Unit::new();
    let delivery = attempt::restart(&mut unit, found, Some(replay.id), app.now())?;
    match app.commit(unit).await {
        Ok(()) => Ok(Some(Task::attempt(&delivery))),
        Err(Refusal::Conditions(_)) => Ok(None),
        Err(refusal @ Refusal::Error(_)) => Err(refusal.into()),
    }
}
