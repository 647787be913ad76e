//! Users and the guard of their e-mail.

use serde::{Deserialize, Serialize};

use super::keys;
use crate::domain::User;
use crate::kernel::{Code, Error, Id, Result};
use crate::table::{Row, Table, Unit};

#[derive(Serialize, Deserialize)]
struct EmailGuard {
    user_id: Id<User>,
}

/// Adds a new user; the unit fails with `email.already_registered` when the address is taken.
///
/// # Errors
/// When the user does not serialise.
pub fn create(unit: &mut Unit, user: &User) -> Result<()> {
    let guard = Row::new(keys::email(&user.email), "email_guard", &EmailGuard { user_id: user.id })?;
    unit.create(guard, Error::new(Code::EmailAlreadyRegistered));
    unit.create_fresh(Row::new(keys::user(user.id), "user", user)?);
    Ok(())
}

/// One user.
///
/// # Errors
/// When the table cannot be read.
pub async fn get(table: &Table, user: Id<User>) -> Result<Option<User>> {
    table.get(&keys::user(user)).await
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
    table.overwrite(Row::new(keys::user(user.id), "user", user)?).await
}
