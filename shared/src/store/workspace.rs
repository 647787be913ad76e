//! Workspaces and memberships.

use serde::{Deserialize, Serialize};

use super::keys;
use crate::domain::{Membership, User, Workspace};
use crate::kernel::{Code, Error, Id, Result};
use crate::table::{Index, Query, Row, Table, Unit, Versioned, decode};

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

/// One membership.
///
/// # Errors
/// When the table cannot be read.
pub async fn membership(table: &Table, workspace: Id<Workspace>, user: Id<User>) -> Result<Option<Membership>> {
    table.get(&keys::membership(workspace, user)).await
}
