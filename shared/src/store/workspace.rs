//! Workspaces and memberships.

use serde::{Deserialize, Serialize};

use super::keys;
use crate::domain::workspace::MAX_CLIENTS;
use crate::domain::{Membership, User, Workspace};
use crate::kernel::{Code, Cursor, Error, Id, Limit, Page, Result};
use crate::table::{Cond, Index, Query, Row, Table, Unit, Update, Versioned, decode};

/// How many workspaces of one person are looked at.
const MAX_MEMBERSHIPS: usize = 200;

#[derive(Serialize, Deserialize)]
struct SlugGuard {
    workspace_id: Id<Workspace>,
}

/// Adds a new workspace under a slug that was free. When somebody took it meanwhile, the command is run again and finds
/// another.
///
/// # Errors
/// When it does not serialise.
pub fn create(unit: &mut Unit, workspace: &Workspace) -> Result<()> {
    let guard = SlugGuard { workspace_id: workspace.id };
    unit.create_fresh(Row::new(keys::workspace_slug(&workspace.slug), "slug_guard", &guard)?);
    unit.create_fresh(Row::new(keys::workspace(workspace.id), "workspace", workspace)?);
    Ok(())
}

/// Whether a slug was ever used.
///
/// # Errors
/// When the table cannot be read.
pub async fn slug_is_taken(table: &Table, slug: &str) -> Result<bool> {
    Ok(table.get::<SlugGuard>(&keys::workspace_slug(slug)).await?.is_some())
}

/// One workspace.
///
/// # Errors
/// `not_found` when there is none, or the table cannot be read.
pub async fn get(table: &Table, workspace: Id<Workspace>) -> Result<Versioned<Workspace>> {
    table.get_versioned(&keys::workspace(workspace)).await?.ok_or_else(Error::not_found)
}

/// The workspaces of these ids that are there, in any order.
///
/// # Errors
/// When the table cannot be read.
pub async fn many(table: &Table, workspaces: &[Id<Workspace>]) -> Result<Vec<Workspace>> {
    let keys: Vec<_> = workspaces.iter().map(|workspace| keys::workspace(*workspace)).collect();
    table.batch_get(&keys).await?.into_iter().map(decode).collect()
}

/// Replaces a workspace that was read at version `v`.
///
/// # Errors
/// When it does not serialise.
pub fn replace(unit: &mut Unit, workspace: &Workspace, v: u64) -> Result<()> {
    unit.replace(Row::new(keys::workspace(workspace.id), "workspace", workspace)?, v);
    Ok(())
}

/// Adds a member.
///
/// # Errors
/// When it does not serialise.
pub fn add_member(unit: &mut Unit, membership: &Membership) -> Result<()> {
    let key = keys::membership(membership.workspace_id, membership.user_id);
    let listed = keys::workspace_pk(membership.workspace_id);
    let row = Row::new(key, "membership", membership)?.gsi1(keys::memberships_of(membership.user_id), listed);
    unit.create(row, Error::new(Code::Conflict));
    Ok(())
}

/// Replaces a membership that was read at version `v`.
///
/// # Errors
/// When it does not serialise.
pub fn replace_member(unit: &mut Unit, membership: &Membership, v: u64) -> Result<()> {
    let key = keys::membership(membership.workspace_id, membership.user_id);
    let listed = keys::workspace_pk(membership.workspace_id);
    let row = Row::new(key, "membership", membership)?.gsi1(keys::memberships_of(membership.user_id), listed);
    unit.replace(row, v);
    Ok(())
}

/// Removes a membership that was read at version `v`.
pub fn remove_member(unit: &mut Unit, membership: &Membership, v: u64) {
    let key = keys::membership(membership.workspace_id, membership.user_id);
    unit.delete_if(key, Cond::version(v), Error::new(Code::ConcurrentChange));
}

/// Counts one more client, up to [`MAX_CLIENTS`].
pub fn count_client(unit: &mut Unit, workspace: Id<Workspace>) {
    let below = Cond::absent("n").or(Cond::lt("n", MAX_CLIENTS));
    let count = Update::new(keys::client_count(workspace)).add("n", 1);
    unit.update(count, below, Error::new(Code::ClientLimitReached));
}

/// Counts one less.
pub fn uncount_client(unit: &mut Unit, workspace: Id<Workspace>) {
    unit.upsert(Update::new(keys::client_count(workspace)).add("n", -1));
}

/// A page of members, oldest first.
///
/// # Errors
/// When the table cannot be read.
pub async fn members(
    table: &Table,
    workspace: Id<Workspace>,
    after: Option<&Cursor>,
    limit: Limit,
) -> Result<Page<Membership>> {
    let query = Query::prefix(Index::Main, keys::workspace_pk(workspace), keys::MEMBERSHIP).after(after);
    table.page(&query, limit).await
}

/// The memberships of a user, up to [`MAX_MEMBERSHIPS`].
///
/// # Errors
/// When the table cannot be read.
pub async fn memberships_of(table: &Table, user: Id<User>) -> Result<Vec<Membership>> {
    let query = Query::partition(Index::Gsi1, keys::memberships_of(user));
    table.query(&query, MAX_MEMBERSHIPS).await?.items.into_iter().map(decode).collect()
}

/// How many members of a workspace use a seat, up to 1,000.
///
/// # Errors
/// When the table cannot be read.
pub async fn seats_used(table: &Table, workspace: Id<Workspace>) -> Result<usize> {
    let query = Query::prefix(Index::Main, keys::workspace_pk(workspace), keys::MEMBERSHIP);
    let members = table.query(&query, 1_000).await?.items.into_iter().map(decode::<Membership>);
    let members: Vec<Membership> = members.collect::<Result<_>>()?;
    Ok(members.iter().filter(|member| member.role.uses_seat()).count())
}

/// One membership with its version.
///
/// # Errors
/// `not_found` when there is none, or the table cannot be read.
pub async fn member(table: &Table, workspace: Id<Workspace>, user: Id<User>) -> Result<Versioned<Membership>> {
    table.get_versioned(&keys::membership(workspace, user)).await?.ok_or_else(Error::not_found)
}

/// One membership.
///
/// # Errors
/// When the table cannot be read.
pub async fn membership(table: &Table, workspace: Id<Workspace>, user: Id<User>) -> Result<Option<Membership>> {
    table.get(&keys::membership(workspace, user)).await
}
