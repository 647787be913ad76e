//! Keys: what their owner sees, and the look-up that each request makes.

use std::sync::Arc;

use super::keys;
use crate::domain::api_key::{KeyKind, KeyLookup, MAX_KEYS};
use crate::domain::{ApiKey, Workspace};
use crate::kernel::{Code, Error, Id, Result, Time};
use crate::table::{Cond, Index, Query, Refusal, Row, Table, Unit, Update, decode};

/// Adds a new key with its look-up; the unit fails with `api_key.limit_reached` when there are as many as there may be.
///
/// # Errors
/// When they do not serialise.
pub fn create(unit: &mut Unit, key: &ApiKey, lookup: &KeyLookup) -> Result<()> {
    let below = Cond::absent("n").or(Cond::lt("n", MAX_KEYS));
    let count = Update::new(keys::api_key_count(key.workspace_id, key.kind)).add("n", 1);
    unit.update(count, below, Error::new(Code::KeyLimitReached));
    unit.create_fresh(Row::new(keys::api_key(key.workspace_id, key.kind, key.id), "api_key", key)?);
    let row = Row::new(keys::key_lookup(&key.hash), "key_lookup", lookup)?;
    unit.create_fresh(match key.expires_at {
        Some(at) => row.ttl(at),
        None => row,
    });
    Ok(())
}

/// The look-up of a raw key's hash, unless it has expired.
///
/// # Errors
/// When the table cannot be read.
pub async fn lookup(table: &Table, hash: &str, now: Time) -> Result<Option<Arc<KeyLookup>>> {
    let found: Option<Arc<KeyLookup>> = table.get_cached(&keys::key_lookup(hash)).await?;
    Ok(found.filter(|key| key.expires_at.is_none_or(|at| at > now)))
}

/// The keys of a workspace, oldest first; there are at most [`MAX_KEYS`].
///
/// # Errors
/// When the table cannot be read.
pub async fn list(table: &Table, workspace: Id<Workspace>, kind: KeyKind) -> Result<Vec<ApiKey>> {
    let query = Query::prefix(Index::Main, keys::workspace_pk(workspace), &keys::api_key_prefix(kind));
    table.all(&query, MAX_KEYS * 20).await?.into_iter().map(decode).collect()
}

/// One key.
///
/// # Errors
/// When the table cannot be read.
pub async fn get(table: &Table, workspace: Id<Workspace>, kind: KeyKind, key: Id<ApiKey>) -> Result<Option<ApiKey>> {
    table.get(&keys::api_key(workspace, kind, key)).await
}

/// Revokes a key: with its look-up gone it works no longer.
pub fn delete(unit: &mut Unit, key: &ApiKey) {
    let of_owner = keys::api_key(key.workspace_id, key.kind, key.id);
    unit.delete_if(of_owner, Cond::existing(), Error::new(Code::NotFound));
    unit.delete(keys::key_lookup(&key.hash));
    unit.upsert(Update::new(keys::api_key_count(key.workspace_id, key.kind)).add("n", -1));
}

/// Sets whether the keys of a workspace work.
///
/// # Errors
/// When the table cannot be written; it may be done again.
pub async fn suspend_all(table: &Table, workspace: Id<Workspace>, suspended: bool) -> Result<()> {
    for key in list(table, workspace, KeyKind::Developer).await? {
        let update = Update::new(keys::key_lookup(&key.hash)).set("is_suspended", suspended);
        match table.update(update, Some(Cond::existing()), Error::not_found()).await {
            // Revoked meanwhile.
            Ok(_) | Err(Refusal::Conditions(_)) => {}
            Err(Refusal::Error(error)) => return Err(error),
        }
    }
    Ok(())
}
