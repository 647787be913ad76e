//! The owner's own events.

use serde_json::{Map, Value};
use uuid::Uuid;

use super::{App, Draft};
use crate::access::Caller;
use crate::domain::text::Checks;
use crate::domain::{Agent, Event};
use crate::events::{emit, studio};
use crate::kernel::{Cursor, Id, Limit, Page, Result, Time};
use crate::store;
use crate::table::Unit;

/// An event of the owner's.
#[derive(Debug, Clone)]
pub struct Publish {
    /// Its name; `custom.` is put in front unless it is there.
    pub event: String,
    /// Which agent it is about.
    pub agent_id: Option<Id<Agent>>,
    /// Anything, up to 32 KB.
    pub data: Map<String, Value>,
}

/// What was accepted.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// The event's id, as webhooks will carry it.
    pub id: Uuid,
    /// Its full name.
    pub event: String,
}

/// What happened in the caller's workspace, newest first; 30 days are kept.
///
/// # Errors
/// `validation_error` when `since` lies behind `until`, or the table cannot be read.
pub async fn log(
    app: &App,
    caller: &Caller,
    (since, until): (Option<Time>, Option<Time>),
    after: Option<&Cursor>,
    limit: Limit,
) -> Result<Page<Event>> {
    let mut checks = Checks::new();
    checks.period(since, until);
    checks.finish()?;
    let now = app.now();
    let times = (since.unwrap_or(now - store::outbox::KEPT), until.unwrap_or(now));
    store::outbox::page_of_workspace(&app.table, caller.workspace_id, times, after, limit).await
}

const MAX_BYTES: usize = 32 * 1024;

/// Puts an event of the owner's on the bus; the workspace's webhooks are told.
///
/// # Errors
/// `validation_error`, `not_found` for a foreign agent.
pub async fn publish(app: &App, caller: &Caller, command: &Publish) -> Result<Draft<Accepted>> {
    let name = command.event.trim();
    let name = name.strip_prefix(studio::CUSTOM_PREFIX).unwrap_or(name);
    let mut checks = Checks::new();
    let message = "event must be 1 to 64 of a-z, 0-9, '.', '_' and '-', starting with a letter or digit";
    checks.ensure(studio::is_custom_name(name), "event", "invalid_event", message);
    let size = serde_json::to_string(&command.data).map_or(usize::MAX, |text| text.len());
    checks.ensure(size <= MAX_BYTES, "data", "too_large", "data may have 32 KB");
    checks.finish()?;
    if let Some(agent) = command.agent_id {
        store::agent::get(&app.table, caller.workspace_id, agent).await?;
    }
    let event = app.events().custom(caller.workspace_id, command.agent_id, name, &command.data);
    let mut unit = Unit::new();
    emit(&mut unit, &event)?;
    Ok(Draft::new(unit, Accepted { id: event.id, event: format!("{}{name}", studio::CUSTOM_PREFIX) }))
}
