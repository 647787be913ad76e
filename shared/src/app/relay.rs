//! The relay: takes batches of events and fans them out. Table reads and queue sends, nothing else; so it can be
//! repeated at will. A delivery's id is made of endpoint and event, so a repeat meets the first one and stops.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde_json::Value;
use uuid::Uuid;

use super::deliver::Task;
use super::{App, notify, whatsapp};
use crate::domain::{Delivery, Event, Webhook, Workspace};
use crate::events::catalog::kind;
use crate::events::studio;
use crate::kernel::{Id, Result};
use crate::ports::queue::{Outgoing, QueueName};
use crate::store;

/// Queues what a batch of events asks for: a delivery for each endpoint that wants the event, and mail to the owner.
///
/// # Errors
/// When the table or the queue cannot be reached; the whole batch is then given again.
pub async fn fan_out(app: &App, events: &[Event]) -> Result<()> {
    let tasks = asked_for(app, events).await?;
    send(app, &tasks).await?;
    send_out(app, events).await
}

/// As [`fan_out`], for events that may have been relayed long ago: an endpoint is not told of what happened before it
/// was made, nor of what it has a delivery of already.
///
/// # Errors
/// As [`fan_out`].
pub async fn fan_out_again(app: &App, events: &[Event]) -> Result<()> {
    let mut tasks = asked_for(app, events).await?;
    let mut pairs: HashMap<(Id<Workspace>, Id<Webhook>), Vec<Uuid>> = HashMap::new();
    for task in &tasks {
        if let Task::Deliver { webhook_id, event, .. } = task {
            pairs.entry((event.workspace_id, *webhook_id)).or_default().push(event.id);
        }
    }
    let mut known = HashSet::new();
    for ((workspace, webhook), events) in pairs {
        let found = store::delivery::of_events(&app.table, workspace, webhook, &events).await?;
        // One whose sender stopped may have lost its message; if not, this one meets it.
        let watched = found.into_iter().filter(|found| !found.body.is_unwatched());
        known.extend(watched.map(|found| found.body.id));
    }
    tasks.retain(|task| match task {
        Task::Deliver { webhook_id, event, .. } => !known.contains(&Delivery::id_for(*webhook_id, event.id)),
        _ => true,
    });
    send(app, &tasks).await?;
    send_out(app, events).await
}

/// Queues what leaves for phones. The worker who wrote it may have sent it by now: then nothing waits there any more.
async fn send_out(app: &App, events: &[Event]) -> Result<()> {
    let going = events.iter().filter(|event| {
        let leaves = [kind::MESSAGE_REPLY, kind::MESSAGE_OUTBOUND].contains(&event.kind.as_str());
        leaves && event.data.get("channel").is_some_and(|channel| channel == "whatsapp")
    });
    let id = |event: &Event, name: &str| event.data.get(name).and_then(Value::as_str).map(str::to_owned);
    let tasks = going.filter_map(|event| {
        let (conversation, message) = (id(event, "conversation")?, id(event, "message")?);
        let (conversation_id, message_id) = (Id::from_key(&conversation)?, Id::from_key(&message)?);
        Some(whatsapp::Task::Send { workspace_id: event.workspace_id, conversation_id, message_id, unsent: None })
    });
    let messages = tasks.map(|task| task.after(Duration::ZERO)).collect::<Result<Vec<_>>>()?;
    if messages.is_empty() { Ok(()) } else { app.queue.send(QueueName::Turn, messages).await }
}

/// Two processes' clocks may differ by so much.
const SKEW: Duration = Duration::from_secs(5);

/// Whether an event is from the endpoint's own time: events may be given again, long after they happened.
fn is_about(webhook: &Webhook, event: &Event) -> bool {
    webhook.created_at <= event.at + SKEW
}

/// What events ask for.
async fn asked_for(app: &App, events: &[Event]) -> Result<Vec<Task>> {
    let mut endpoints: HashMap<Id<Workspace>, Vec<Webhook>> = HashMap::new();
    let mut tasks = Vec::new();
    for event in events {
        if notify::is_wanted(event) {
            tasks.push(Task::Mail { event: event.clone() });
        }
        let Some(name) = studio::name(event) else { continue };
        let webhooks = match endpoints.entry(event.workspace_id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(store::webhook::all(&app.table, event.workspace_id).await?),
        };
        let wanting = webhooks.iter().filter(|webhook| webhook.wants(&name) && is_about(webhook, event));
        tasks.extend(wanting.map(|webhook| Task::Deliver {
            webhook_id: webhook.id,
            event: event.clone(),
            replay: None,
            deferred: 0,
        }));
    }
    Ok(tasks)
}

async fn send(app: &App, tasks: &[Task]) -> Result<()> {
    let messages = tasks.iter().map(|task| task.to_json().map(Outgoing::now)).collect::<Result<Vec<_>>>()?;
    if messages.is_empty() { Ok(()) } else { app.queue.send(QueueName::Deliver, messages).await }
}
