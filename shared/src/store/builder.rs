//! Threads of the builder: heads, messages, what was told of runs, and what waits for a confirmation.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::keys;
use crate::domain::builder::{Action, ActionStatus, Frame, Lapse, Position, Run};
use crate::domain::{BuilderMessage, BuilderThread, User, Workspace};
use crate::kernel::{Code, Cursor, Error, Id, Limit, Page, Result, Time};
use crate::table::{Cond, Index, Key, Query, Refusal, Row, Table, Unit, Update, decode};

/// How long a thread is kept after its last message.
pub const KEPT: Duration = Duration::from_secs(90 * 24 * 3600);
/// How long a run can be taken up again, and a client's message id is recognised.
const FRAMES_KEPT: Duration = Duration::from_secs(48 * 3600);
/// How many items are deleted at once: the longest of them fit into a transaction.
const DELETED_AT_ONCE: usize = 25;

/// Adds a new thread.
///
/// # Errors
/// When it does not serialise.
pub fn create(unit: &mut Unit, thread: &BuilderThread) -> Result<()> {
    let row = Row::new(keys::builder_thread(thread.workspace_id, thread.id), "builder_thread", thread)?;
    let listed = keys::builder_position(thread.updated_at, thread.id);
    let row = row.gsi1(keys::builder_threads(thread.workspace_id), listed).ttl(thread.updated_at + KEPT);
    unit.create_fresh(row);
    Ok(())
}

/// A thread.
///
/// # Errors
/// `not_found` when the workspace has none, or not any more.
pub async fn get(
    table: &Table,
    workspace: Id<Workspace>,
    thread: Id<BuilderThread>,
    now: Time,
) -> Result<BuilderThread> {
    let found: Option<BuilderThread> = table.get(&keys::builder_thread(workspace, thread)).await?;
    found.filter(|thread| thread.updated_at + KEPT > now && !thread.deleting).ok_or_else(Error::not_found)
}

/// A page of threads, the last used first.
///
/// # Errors
/// When the table cannot be read.
pub async fn page(
    table: &Table,
    workspace: Id<Workspace>,
    after: Option<&Cursor>,
    limit: Limit,
) -> Result<Page<BuilderThread>> {
    let query = Query::partition(Index::Gsi1, keys::builder_threads(workspace)).newest_first().after(after);
    table.page(&query, limit).await
}

/// Changes to a thread.
#[must_use]
pub fn update(workspace: Id<Workspace>, thread: Id<BuilderThread>) -> Update {
    Update::new(keys::builder_thread(workspace, thread))
}

/// A run takes the thread.
#[must_use]
pub fn taken(update: Update, thread: Id<BuilderThread>, run: Run, now: Time) -> Update {
    let update = update.set("run", run).remove("stop").set("updated_at", now).set("ttl", (now + KEPT).seconds());
    update.set("gsi1sk", keys::builder_position(now, thread))
}

/// The condition that no run holds the thread.
#[must_use]
pub fn is_free(now: Time) -> Cond {
    stands().and(Cond::absent("run").or(Cond::le("run.until", now.millis())))
}

/// The condition that the thread is there, and is not being deleted.
#[must_use]
pub fn stands() -> Cond {
    Cond::existing().and(Cond::absent("deleting").or(Cond::eq("deleting", false)))
}

/// The condition that this run still holds it.
#[must_use]
pub fn is_held_by(run: Uuid) -> Cond {
    Cond::eq("run.id", run)
}

/// Adds a message.
///
/// # Errors
/// When it does not serialise.
pub fn add_message(
    unit: &mut Unit,
    workspace: Id<Workspace>,
    thread: Id<BuilderThread>,
    message: &BuilderMessage,
) -> Result<()> {
    let row = Row::new(keys::builder_message(workspace, thread, message.id), "builder_message", message)?;
    unit.create_fresh(row.ttl(message.created_at + KEPT));
    Ok(())
}

/// The last messages of a thread, oldest first.
///
/// # Errors
/// When the table cannot be read.
pub async fn messages(
    table: &Table,
    workspace: Id<Workspace>,
    thread: Id<BuilderThread>,
    limit: usize,
) -> Result<Vec<BuilderMessage>> {
    let query = Query::prefix(Index::Main, keys::builder_pk(workspace, thread), keys::BUILDER_MESSAGE).newest_first();
    let rows = table.query(&query, limit).await?;
    let mut messages: Vec<BuilderMessage> = rows.items.into_iter().map(decode).collect::<Result<_>>()?;
    messages.reverse();
    Ok(messages)
}

/// A frame under its number.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    number: u32,
    #[serde(with = "crate::kernel::json_text")]
    frame: Frame,
}

/// Adds a frame to what was told of a run.
///
/// # Errors
/// When it does not serialise.
pub fn add_frame(
    unit: &mut Unit,
    (workspace, thread): (Id<Workspace>, Id<BuilderThread>),
    at: Position,
    frame: &Frame,
    now: Time,
) -> Result<()> {
    let told = Told { number: at.number, frame: frame.clone() };
    let key = keys::builder_frame(workspace, thread, at.run, at.number);
    unit.create_fresh(Row::new(key, "builder_frame", &told)?.ttl(now + FRAMES_KEPT));
    Ok(())
}

/// What was told of a run after a position, at most `limit` frames.
///
/// # Errors
/// When the table cannot be read.
pub async fn frames_after(
    table: &Table,
    workspace: Id<Workspace>,
    thread: Id<BuilderThread>,
    had: Position,
    limit: usize,
) -> Result<Vec<(u32, Frame)>> {
    let position = Cursor { position: keys::builder_frame(workspace, thread, had.run, had.number).sk };
    let query = Query::prefix(Index::Main, keys::builder_pk(workspace, thread), &keys::builder_frames(had.run))
        .after(Some(&position));
    let rows = table.query(&query, limit).await?;
    rows.items.into_iter().map(|item| decode::<Told>(item).map(|told| (told.number, told.frame))).collect()
}

/// What a client's own message id stands for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClientMessage {
    /// In which thread.
    pub thread_id: Id<BuilderThread>,
    /// Which run answers it.
    pub run_id: Uuid,
    /// SHA-256 of what was sent: the same id with something else is a mistake of the caller's.
    pub body_hash: String,
    /// When it was taken.
    pub at: Time,
}

/// Where a client's message id is guarded.
#[must_use]
pub fn client_id(workspace: Id<Workspace>, user: Option<Id<User>>, id: &str) -> Key {
    keys::builder_client_message(workspace, user, id)
}

/// What a client's message id stands for, if it is known.
///
/// # Errors
/// When the table cannot be read.
pub async fn client_message(table: &Table, key: &Key, now: Time) -> Result<Option<ClientMessage>> {
    let found: Option<ClientMessage> = table.get(key).await?;
    Ok(found.filter(|found| now.since(found.at) < FRAMES_KEPT))
}

/// Takes a client's message id; the unit fails on this key when it is known.
///
/// # Errors
/// When it does not serialise.
pub fn take_client_id(unit: &mut Unit, key: Key, record: &ClientMessage) -> Result<()> {
    let row = Row::new(key, "builder_client_message", record)?.ttl(record.at + FRAMES_KEPT);
    let free = Cond::new_item().or(Cond::le("at", record.at - FRAMES_KEPT));
    unit.put_if(row, free, Error::new(Code::IdempotencyInFlight));
    Ok(())
}

/// Adds something that waits for a confirmation.
///
/// # Errors
/// When it does not serialise.
pub fn create_action(unit: &mut Unit, workspace: Id<Workspace>, action: &Action) -> Result<()> {
    let row = Row::new(keys::builder_action(workspace, action.thread_id, action.id), "builder_action", action)?;
    unit.create_fresh(row.ttl(action.created_at + KEPT));
    Ok(())
}

/// Something that waits, or waited, for a confirmation.
///
/// # Errors
/// `not_found` when the thread has none of that id.
pub async fn action(
    table: &Table,
    workspace: Id<Workspace>,
    thread: Id<BuilderThread>,
    action: Id<Action>,
) -> Result<Action> {
    table.get(&keys::builder_action(workspace, thread, action)).await?.ok_or_else(Error::not_found)
}

/// The last things of a thread that wait, or waited, for a confirmation, oldest first.
///
/// # Errors
/// When the table cannot be read.
pub async fn actions(
    table: &Table,
    workspace: Id<Workspace>,
    thread: Id<BuilderThread>,
    limit: usize,
) -> Result<Vec<Action>> {
    let query = Query::prefix(Index::Main, keys::builder_pk(workspace, thread), keys::BUILDER_ACTION).newest_first();
    let rows = table.query(&query, limit).await?;
    let mut actions: Vec<Action> = rows.items.into_iter().map(decode).collect::<Result<_>>()?;
    actions.reverse();
    Ok(actions)
}

/// Notes the decision about an action; the unit fails when it was decided before, or its time is over.
pub fn settle(unit: &mut Unit, workspace: Id<Workspace>, action: &Action, status: ActionStatus, by: &str, now: Time) {
    let key = keys::builder_action(workspace, action.thread_id, action.id);
    let update = Update::new(key).set("status", status).set("decided_at", now).set("decided_by", by);
    unit.update(update, Cond::eq("status", ActionStatus::Pending), Error::new(Code::ActionSettled));
}

/// Notes that an action can be confirmed no more. It fails as a concurrent change when the action is not what was read.
pub fn expire(unit: &mut Unit, workspace: Id<Workspace>, action: &Action, lapse: Lapse) {
    let update = Update::new(keys::builder_action(workspace, action.thread_id, action.id));
    let update = update.set("status", ActionStatus::Expired).set("lapse", lapse);
    unit.update(update, is_as_read(action), Error::new(Code::ConcurrentChange));
}

/// Moves an action that waits on to another revision of its agent, as which it is shown from then on. It fails as a
/// concurrent change when the action is not what was read.
pub fn follow(unit: &mut Unit, workspace: Id<Workspace>, action: &Action, revision: u32, summary: &str) {
    let update = Update::new(keys::builder_action(workspace, action.thread_id, action.id));
    let update = update.set("revision", revision).set("summary", summary);
    unit.update(update, is_as_read(action), Error::new(Code::ConcurrentChange));
}

/// The condition that an action still waits, for the revision that it was read with.
fn is_as_read(action: &Action) -> Cond {
    let waits = Cond::eq("status", ActionStatus::Pending);
    match action.revision {
        Some(revision) => waits.and(Cond::eq("revision", revision)),
        None => waits,
    }
}

/// Begins to delete a thread that no run holds: from now on it is not there for anybody, and no run can write to it. Says
/// no while one holds it.
///
/// # Errors
/// `not_found`, or when the table cannot be read or written.
pub async fn bury(table: &Table, workspace: Id<Workspace>, thread: Id<BuilderThread>, now: Time) -> Result<bool> {
    let key = keys::builder_thread(workspace, thread);
    let found: Option<BuilderThread> = table.get(&key).await?;
    if found.filter(|thread| thread.updated_at + KEPT > now).ok_or_else(Error::not_found)?.deleting {
        return Ok(true);
    }
    let update = Update::new(key.clone()).set("deleting", true).remove("run").remove("gsi1pk").remove("gsi1sk");
    match table.update(update, Some(is_free(now)), Error::new(Code::BuilderBusy)).await {
        Ok(_) => Ok(true),
        // Somebody else deletes it, this very call whose answer was lost, or a run was faster.
        Err(Refusal::Conditions(_)) => {
            let found: Option<BuilderThread> = table.get(&key).await?;
            found.map(|thread| thread.deleting).ok_or_else(Error::not_found)
        }
        Err(Refusal::Error(error)) => Err(error),
    }
}

/// Deletes everything of a thread but its head.
///
/// # Errors
/// When the table cannot be read or written.
pub async fn clear(table: &Table, workspace: Id<Workspace>, thread: Id<BuilderThread>) -> Result<()> {
    let head = keys::builder_thread(workspace, thread);
    // The head sorts behind everything else.
    let query = Query::partition(Index::Main, head.pk.clone());
    loop {
        let rows = table.query(&query, DELETED_AT_ONCE).await?;
        let mut unit = Unit::new();
        let found = rows.items.iter().filter_map(Key::of).filter(|key| *key != head);
        found.for_each(|key| _ = unit.delete(key));
        if unit.is_empty() {
            return Ok(());
        }
        table.commit(unit).await?;
    }
}

/// Deletes the head of a thread that is being deleted.
pub fn delete(unit: &mut Unit, workspace: Id<Workspace>, thread: Id<BuilderThread>) {
    unit.delete_if(keys::builder_thread(workspace, thread), Cond::eq("deleting", true), Error::not_found());
}
