//! Users and the guard of their e-mail.

use serde::{Deserialize, Serialize};

use super::keys;
use crate::domain::User;
use crate::kernel::{Code, Cursor, Error, Id, Limit, Page, Result, Time};
use crate::table::{Cond, Index, Query, Row, Table, Unit, Versioned, decode};

#[derive(Serialize, Deserialize)]
struct EmailGuard {
    user_id: Id<User>,
}

#[derive(Serialize, Deserialize)]
struct Reset {
    user_id: Id<User>,
    expires_at: Time,
}

/// Every user is listed, for the operator.
fn row(user: &User) -> Result<Row> {
    Ok(Row::new(keys::user(user.id), "user", user)?.gsi1(keys::USERS, user.id.key()))
}

/// A page of all users, newest first.
///
/// # Errors
/// When the table cannot be read.
pub async fn page(table: &Table, after: Option<&Cursor>, limit: Limit) -> Result<Page<User>> {
    table.page(&Query::partition(Index::Gsi1, keys::USERS).newest_first().after(after), limit).await
}

/// Adds a new user; the unit fails with `email.already_registered` when the address is taken.
///
/// # Errors
/// When the user does not serialise.
pub fn create(unit: &mut Unit, user: &User) -> Result<()> {
    let guard = Row::new(keys::email(&user.email), "email_guard", &EmailGuard { user_id: user.id })?;
    unit.create(guard, Error::new(Code::EmailAlreadyRegistered));
    unit.create_fresh(row(user)?);
    Ok(())
}

/// One user.
///
/// # Errors
/// When the table cannot be read.
pub async fn get(table: &Table, user: Id<User>) -> Result<Option<User>> {
    table.get(&keys::user(user)).await
}

/// One user with its version.
///
/// # Errors
/// `not_found` when there is none, or the table cannot be read.
pub async fn get_versioned(table: &Table, user: Id<User>) -> Result<Versioned<User>> {
    table.get_versioned(&keys::user(user)).await?.ok_or_else(Error::not_found)
}

/// The users of these ids that are there, in any order.
///
/// # Errors
/// When the table cannot be read.
pub async fn many(table: &Table, users: &[Id<User>]) -> Result<Vec<User>> {
    let keys: Vec<_> = users.iter().map(|user| keys::user(*user)).collect();
    table.batch_get(&keys).await?.into_iter().map(decode).collect()
}

/// Replaces a user that was read at version `v`.
///
/// # Errors
/// When it does not serialise.
pub fn replace(unit: &mut Unit, user: &User, v: u64) -> Result<()> {
    unit.replace(row(user)?, v);
    Ok(())
}

/// Adds a link to set a password anew.
///
/// # Errors
/// When it does not serialise.
pub fn create_reset(unit: &mut Unit, hash: &str, user: Id<User>, expires_at: Time) -> Result<()> {
    let reset = Reset { user_id: user, expires_at };
    unit.create_fresh(Row::new(keys::reset(hash), "reset", &reset)?.ttl(expires_at));
    Ok(())
}

/// Whose password such a link may set, unless it has ended.
///
/// # Errors
/// When the table cannot be read.
pub async fn reset(table: &Table, hash: &str, now: Time) -> Result<Option<Id<User>>> {
    let reset: Option<Reset> = table.get(&keys::reset(hash)).await?;
    Ok(reset.filter(|reset| reset.expires_at > now).map(|reset| reset.user_id))
}

/// Uses such a link up.
pub fn use_reset(unit: &mut Unit, hash: &str) {
    unit.delete_if(keys::reset(hash), Cond::existing(), Error::new(Code::ResetInvalid));
}

/// The user of an e-mail (lower case).
///
/// # Errors
/// When the table cannot be read.
pub async fn by_email(table: &Table, email: &str) -> Result<Option<User>> {
    match table.get::<EmailGuard>(&keys::email(email)).await? {
        Some(guard) => get(table, guard.user_id).await,
        None => Ok(None),
    }
}

/// Replaces a user whatever is there: for the operator's superadmin at start-up.
///
/// # Errors
/// When the table cannot be written.
pub async fn overwrite(table: &Table, user: &User) -> Result<()> {
    table.overwrite(row(user)?).await
}
