//! Which mails went out, so that no event is told of twice.

use std::time::Duration;

use serde::de::IgnoredAny;
use serde_json::json;
use uuid::Uuid;

use super::keys;
use crate::domain::{Appointment, Event, Workspace};
use crate::kernel::{Id, Result, Time};
use crate::table::{Row, Table, Unit};

/// Longer than the events themselves, which can be relayed again.
const KEPT: Duration = Duration::from_secs(35 * 24 * 3600);

/// Whether the mail about an event went out; to `whom`, where it goes to several.
///
/// # Errors
/// When the table cannot be read.
pub async fn was_sent(table: &Table, workspace: Id<Workspace>, event: Uuid, whom: Option<&str>) -> Result<bool> {
    Ok(table.get::<IgnoredAny>(&keys::mailed(workspace, event, whom)).await?.is_some())
}

/// Notes that somebody is about to be invited to an appointment: before the mail goes, so that a cancellation which is
/// told of at the same time finds it.
///
/// # Errors
/// When the table cannot be written.
pub async fn invites(table: &Table, appointment: &Appointment) -> Result<()> {
    let key = keys::invited(appointment.workspace_id, appointment.id);
    let mut unit = Unit::new();
    unit.put(Row::new(key, "invited", &json!({}))?.ttl(appointment.end + KEPT));
    table.commit(unit).await.map_err(Into::into)
}

/// Whether somebody was invited to an appointment.
///
/// # Errors
/// When the table cannot be read.
pub async fn was_invited(table: &Table, appointment: &Appointment) -> Result<bool> {
    let key = keys::invited(appointment.workspace_id, appointment.id);
    Ok(table.get::<IgnoredAny>(&key).await?.is_some())
}

/// Notes that the mail about an event went out.
///
/// # Errors
/// When the table cannot be written.
pub async fn sent(table: &Table, event: &Event, whom: Option<&str>, now: Time) -> Result<()> {
    let row = Row::new(keys::mailed(event.workspace_id, event.id, whom), "mailed", &json!({"at": now}))?;
    let mut unit = Unit::new();
    unit.put(row.ttl(now + KEPT));
    table.commit(unit).await.map_err(Into::into)
}
