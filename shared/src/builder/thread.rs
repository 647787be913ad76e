//! Threads as people see them: listed, read, stopped, deleted.

use crate::access::Caller;
use crate::app::{App, Draft};
use crate::domain::builder::Action;
use crate::domain::{BuilderMessage, BuilderThread};
use crate::kernel::{Code, Cursor, Error, Id, Limit, Page, Result};
use crate::store;
use crate::table::{Refusal, Unit};

/// How many messages and actions of a thread are shown.
pub(super) const SHOWN: usize = 100;

/// A thread with what is in it.
#[derive(Debug)]
pub struct Detail {
    /// The head.
    pub thread: BuilderThread,
    /// The last messages, oldest first.
    pub messages: Vec<BuilderMessage>,
    /// What waits, or waited, for a confirmation, oldest first.
    pub actions: Vec<Action>,
}

/// A page of the workspace's threads, the last used first.
///
/// # Errors
/// When the table cannot be read.
pub async fn list(app: &App, caller: &Caller, after: Option<&Cursor>, limit: Limit) -> Result<Page<BuilderThread>> {
    let mut page = store::builder::page(&app.table, caller.workspace_id, after, limit).await?;
    let now = app.now();
    // The table deletes in its own time.
    page.items.retain(|thread| thread.updated_at + store::builder::KEPT > now);
    Ok(page)
}

/// One thread.
///
/// # Errors
/// `not_found`.
pub async fn find(app: &App, caller: &Caller, id: Id<BuilderThread>) -> Result<Detail> {
    let (table, workspace) = (&app.table, caller.workspace_id);
    let (thread, messages, actions) = tokio::try_join!(
        store::builder::get(table, workspace, id, app.now()),
        store::builder::messages(table, workspace, id, SHOWN),
        store::builder::actions(table, workspace, id, SHOWN),
    )?;
    Ok(Detail { thread, messages, actions })
}

/// Asks the run of a thread to stop, which it does within about a second. Says whether there was one.
///
/// # Errors
/// `not_found`.
pub async fn stop(app: &App, caller: &Caller, id: Id<BuilderThread>) -> Result<bool> {
    let thread = store::builder::get(&app.table, caller.workspace_id, id, app.now()).await?;
    let Some(run) = thread.running(app.now()) else { return Ok(false) };
    let update = store::builder::update(caller.workspace_id, id).set("stop", run);
    match app.table.update(update, Some(store::builder::is_held_by(run)), Error::new(Code::Conflict)).await {
        Ok(_) => Ok(true),
        // It has ended meanwhile.
        Err(Refusal::Conditions(_)) => Ok(false),
        Err(Refusal::Error(error)) => Err(error),
    }
}

/// Deletes a thread with all that is in it. What was built stays. From its first step on nobody sees it or writes to it,
/// so that nothing is left behind the last one; interrupted, it is gone on with by the same call.
///
/// # Errors
/// `not_found`, `builder.busy` while a run holds it.
pub async fn clear(app: &App, caller: &Caller, id: Id<BuilderThread>) -> Result<Draft<()>> {
    let (table, workspace) = (&app.table, caller.workspace_id);
    if !store::builder::bury(table, workspace, id, app.now()).await? {
        return Err(super::busy());
    }
    store::builder::clear(table, workspace, id).await?;
    let mut unit = Unit::new();
    store::builder::delete(&mut unit, workspace, id);
    Ok(Draft::new(unit, ()))
}
