//! Leads.

use serde::{Deserialize, Serialize};

use super::keys;
use crate::domain::{Agent, Contact, Conversation, Lead, Workspace};
use crate::kernel::{Code, Cursor, Error, Id, Limit, Page, Result};
use crate::table::{Cond, Index, Key, Query, Row, Table, Unit, Versioned, decode_versioned};

#[derive(Serialize, Deserialize)]
struct Guard {
    lead_id: Id<Lead>,
}

fn row(lead: &Lead) -> Result<Row> {
    let row = Row::new(keys::lead(lead.workspace_id, lead.agent_id, lead.id), "lead", lead)?;
    Ok(row.gsi1(keys::leads(lead.workspace_id), lead.id.key()))
}

/// Adds a new lead; in a conversation it is the contact's only one there.
///
/// # Errors
/// When it does not serialise.
pub fn create(unit: &mut Unit, lead: &Lead) -> Result<()> {
    unit.create_fresh(row(lead)?);
    if let Some(conversation) = lead.conversation_id {
        let key = keys::lead_guard(lead.workspace_id, conversation, lead.contact_id);
        unit.create(Row::new(key, "lead_guard", &Guard { lead_id: lead.id })?, Error::new(Code::ConcurrentChange));
    }
    Ok(())
}

/// Replaces a lead that was read at version `v`.
///
/// # Errors
/// When it does not serialise.
pub fn replace(unit: &mut Unit, lead: &Lead, v: u64) -> Result<()> {
    unit.replace(row(lead)?, v);
    Ok(())
}

/// One lead.
///
/// # Errors
/// When the table cannot be read.
pub async fn get(
    table: &Table,
    workspace: Id<Workspace>,
    agent: Id<Agent>,
    lead: Id<Lead>,
) -> Result<Option<Versioned<Lead>>> {
    table.get_versioned(&keys::lead(workspace, agent, lead)).await
}

/// The lead that a contact made in a conversation.
///
/// # Errors
/// When the table cannot be read.
pub async fn of_conversation(
    table: &Table,
    workspace: Id<Workspace>,
    agent: Id<Agent>,
    conversation: Id<Conversation>,
    contact: Id<Contact>,
) -> Result<Option<Versioned<Lead>>> {
    of_guard(table, workspace, agent, &keys::lead_guard(workspace, conversation, contact)).await
}

/// Whether a key is that of a guard of a lead.
#[must_use]
pub fn is_guard(key: &Key) -> bool {
    key.sk.starts_with(keys::LEAD_GUARD)
}

/// The lead that a guard stands for.
///
/// # Errors
/// When the table cannot be read.
pub async fn of_guard(
    table: &Table,
    workspace: Id<Workspace>,
    agent: Id<Agent>,
    guard: &Key,
) -> Result<Option<Versioned<Lead>>> {
    match table.get::<Guard>(guard).await? {
        Some(guard) => get(table, workspace, agent, guard.lead_id).await,
        None => Ok(None),
    }
}

/// Removes a lead that was read at version `v`.
pub fn delete(unit: &mut Unit, lead: &Lead, v: u64) {
    let key = keys::lead(lead.workspace_id, lead.agent_id, lead.id);
    unit.delete_if(key, Cond::version(v), Error::new(Code::ConcurrentChange));
}

/// A page of a workspace's leads, newest first.
///
/// # Errors
/// When the table cannot be read.
pub async fn page_of_workspace(
    table: &Table,
    workspace: Id<Workspace>,
    after: Option<&Cursor>,
    limit: Limit,
) -> Result<Page<Versioned<Lead>>> {
    let query = Query::partition(Index::Gsi1, keys::leads(workspace)).newest_first().after(after);
    let (items, next) = table.query(&query, limit.get()).await?.readable(decode_versioned);
    Ok(Page { items, next, total: None })
}

/// A page of an agent's leads, newest first.
///
/// # Errors
/// When the table cannot be read.
pub async fn page(
    table: &Table,
    workspace: Id<Workspace>,
    agent: Id<Agent>,
    after: Option<&Cursor>,
    limit: Limit,
) -> Result<Page<Lead>> {
    let query = Query::prefix(Index::Main, keys::agent_pk(workspace, agent), keys::LEAD).newest_first().after(after);
    table.page(&query, limit).await
}
