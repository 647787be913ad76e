//! The relay: takes batches of events and fans them out. Table reads and queue sends, nothing else; so it can be
//! repeated at will. A delivery's id is made of endpoint and event, so a repeat meets the first one and stops.

use std::collections::HashMap;

use super::App;
use super::deliver::Task;
use super::notify;
use crate::domain::{Event, Webhook, Workspace};
use crate::events::studio;
use crate::kernel::{Id, Result};
use crate::ports::queue::{Outgoing, QueueName};
use crate::store;

/// Queues what a batch of events asks for: a delivery for each endpoint that wants the event, and mail to the owner.
///
/// # Errors
/// When the table or the queue cannot be reached; the whole batch is then given again.
pub async fn fan_out(app: &App, events: &[Event]) -> Result<()> {
    let mut endpoints: HashMap<Id<Workspace>, Vec<Webhook>> = HashMap::new();
    let mut tasks = Vec::new();
    for event in events {
        if notify::is_wanted(event) {
            tasks.push(Task::Mail { event: event.clone() });
        }
        let Some(name) = studio::name(event) else { continue };
        let webhooks = match endpoints.entry(event.workspace_id) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(new) => {
                new.insert(store::webhook::all(&app.table, event.workspace_id).await?)
            }
        };
        let wanting = webhooks.iter().filter(|webhook| webhook.wants(&name));
        tasks.extend(wanting.map(|webhook| Task::Deliver {
            webhook_id: webhook.id,
            event: event.clone(),
            replay: None,
            deferred: 0,
        }));
    }
    let messages = tasks.iter().map(|task| task.to_json().map(Outgoing::now)).collect::<Result<Vec<_>>>()?;
    if messages.is_empty() { Ok(()) } else { app.queue.send(QueueName::Deliver, messages).await }
}
