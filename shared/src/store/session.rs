//! Sessions.

use std::sync::Arc;

use super::keys;
use crate::domain::{Session, User};
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

/// Ends the sessions of a user, up to the hundred newest, which one transaction holds.
///
/// # Errors
/// When the table cannot be read.
pub async fn delete_all(table: &Table, unit: &mut Unit, user: Id<User>) -> Result<()> {
    let query = Query::partition(Index::Gsi1, keys::sessions_of(user)).newest_first();
    for item in table.query(&query, 100).await?.items {
        delete(unit, &decode::<Session>(item)?.sid);
    }
    Ok(())
}

/// Ends a session.
pub fn delete(unit: &mut Unit, sid: &str) {
    unit.delete(keys::session(sid));
}
