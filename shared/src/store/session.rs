//! Sessions.

use std::sync::Arc;

use super::keys;
use crate::domain::{Session, User, Workspace};
use crate::kernel::{Id, Result, Time};
use crate::table::{Index, Query, Row, Table, Unit, decode};

/// Adds a new session.
///
/// # Errors
/// When it does not serialise.
pub fn create(unit: &mut Unit, session: &Session) -> Result<()> {
    let listed = format!("{}#{}", keys::moment(session.created_at), session.sid);
    let row = Row::new(keys::session(&session.sid), "session", session)?;
    unit.create_fresh(row.gsi1(keys::sessions_of(session.user_id), listed).ttl(session.expires_at));
    Ok(())
}

/// A session that has not ended. Expiry is checked here, since the table deletes lazily.
///
/// # Errors
/// When the table cannot be read.
pub async fn get(table: &Table, sid: &str, now: Time) -> Result<Option<Arc<Session>>> {
    let session: Option<Arc<Session>> = table.get_cached(&keys::session(sid)).await?;
    Ok(session.filter(|session| session.expires_at > now))
}

/// The most sessions that one person has at a time: a further log-in ends the oldest.
pub const MAX_SESSIONS: usize = 50;

/// The sessions of a user, newest first. A few more than [`MAX_SESSIONS`], since several log-ins at the same moment do
/// not see each other; never more than one transaction can end beside what else it does.
///
/// # Errors
/// When the table cannot be read.
pub async fn of_user(table: &Table, user: Id<User>) -> Result<Vec<Session>> {
    let query = Query::partition(Index::Gsi1, keys::sessions_of(user)).newest_first();
    table.query(&query, MAX_SESSIONS + 40).await?.items.into_iter().map(decode).collect()
}

/// Ends the sessions of a user, but for the one to keep.
///
/// # Errors
/// When the table cannot be read.
pub async fn delete_all(table: &Table, unit: &mut Unit, user: Id<User>, keep: Option<&str>) -> Result<()> {
    let sessions = of_user(table, user).await?;
    sessions.iter().filter(|session| Some(session.sid.as_str()) != keep).for_each(|session| delete(unit, &session.sid));
    Ok(())
}

/// Ends the sessions of a user in one workspace.
///
/// # Errors
/// When the table cannot be read.
pub async fn delete_in(table: &Table, unit: &mut Unit, user: Id<User>, workspace: Id<Workspace>) -> Result<()> {
    let sessions = of_user(table, user).await?;
    sessions.iter().filter(|session| session.workspace_id == workspace).for_each(|session| delete(unit, &session.sid));
    Ok(())
}

/// Ends a session.
pub fn delete(unit: &mut Unit, sid: &str) {
    unit.delete(keys::session(sid));
}
